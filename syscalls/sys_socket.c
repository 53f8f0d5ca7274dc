/* Sockets: making, naming, connecting, options.  Messages are in sys_sockmsg.c. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/kernel/pid.h"
#include "sentry/lib/cleanup.h"
#include "sentry/time/ktimer.h"
#include "syscalls/socket_util.h"

#define OPTION_MAX 1024

struct ns *socket_current_net(void)
{
	const struct task *t = task_current();

	return t && t->ns ? t->ns->of[NS_NET] : NULL;
}

bool socket_current_capable(const struct ns *net, int cap)
{
	const struct task *t = task_current();

	return t && task_ns_capable(t, net ? net->owner : &user_ns_top, cap);
}

struct landlock_domain *socket_current_landlock(void)
{
	const struct task *t = task_current();

	return t && t->cred ? t->cred->landlock : NULL;
}

int socket_current_pid(int pid)
{
	const struct task *t = task_current();

	return t ? pid_to_guest(t, pid) : pid;
}

void socket_current_ucred(struct sock_ucred *out)
{
	const struct task *t = task_current();

	memset(out, 0, sizeof(*out));
	if (t)
		*out = (struct sock_ucred){t->tg->tgid, t->cred->uid, t->cred->gid};
}

/* ---- what the family shares ---- */

int task_caller_init(struct task_caller *tc, struct task *t, const struct sock_addr *a)
{
	memset(tc, 0, sizeof(*tc));
	tc->c.pid = t->tg->tgid;
	tc->c.cred = t->cred;
	if (!a || a->len <= sizeof(sa_family_t) || a->family != AF_UNIX ||
	    !a->bytes[sizeof(sa_family_t)])
		return 0;
	int err =
		task_walk_env(t, AT_FDCWD, (const char *)a->bytes + sizeof(sa_family_t), &tc->env);
	if (err)
		return err;
	tc->c.env = &tc->env;
	return 0;
}

void task_caller_fini(struct task_caller *tc)
{
	if (tc->c.env)
		walk_env_fini(&tc->env);
}

int socket_lookup(struct task *t, int fd, struct file **f, struct socket **s)
{
	struct file *file = fdtable_file(t->fds, fd);

	if (!file)
		return -EBADF;
	*s = socket_of_file(file);
	if (!*s) {
		file_put(file);
		return -ENOTSOCK;
	}
	*f = file;
	return 0;
}

int sock_addr_import(struct task *t, uaddr_t addr, unsigned len, struct sock_addr *a)
{
	if (len > SOCK_ADDR_MAX)
		return -EINVAL;
	memset(a->bytes, 0, sizeof(a->bytes));
	a->len = len;
	return len ? copy_in(&t->um, a->bytes, addr, len) : 0;
}

int sock_addr_export(struct task *t, const struct sock_addr *a, uaddr_t addr, uaddr_t ulen)
{
	int32_t room, len = a->len;
	int err = copy_in_val(&t->um, &room, ulen);

	if (err)
		return err;
	if (room < 0)
		return -EINVAL;
	uint32_t n = MIN((uint32_t)room, a->len);
	if (n && (err = copy_out_last(&t->um, addr, a->bytes, n)))
		return err;
	return copy_out_last_val(&t->um, ulen, &len);
}

int64_t sock_deadline(int64_t timeout)
{
	return timeout == TIME_NEVER ? TIME_NEVER : time_monotonic() + timeout;
}

int sock_wait_error(int err, int64_t timeout)
{
	if (err == -ETIMEDOUT)
		return -EAGAIN;
	return err == -ERESTARTSYS && timeout != TIME_NEVER ? -EINTR : err;
}

/* ---- making ---- */

static int check_type(int *type, int *flags)
{
	*flags = *type & ~LINUX_SOCK_TYPE_MASK;
	*type &= LINUX_SOCK_TYPE_MASK;
	return *flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK) ? -EINVAL : 0;
}

long sys_socket(struct task *t, int domain, int type, int protocol)
{
	struct socket *s;
	struct file *f;
	int flags;
	int err = check_type(&type, &flags);

	if (err || (err = socket_create(domain, type, protocol, &s)) ||
	    (err = socket_file_new(s, flags, &f)))
		return err;
	return fdtable_install(t->fds, task_rlimit(t, RLIMIT_NOFILE), f, flags & SOCK_CLOEXEC);
}

static int make_pair(struct task *t, int domain, int type, int protocol, int flags,
		     struct file **fa, struct file **fb)
{
	struct socket *a, *b;
	struct task_caller tc;
	int err = socket_create(domain, type, protocol, &a);

	if (err)
		return err;
	if ((err = socket_create(domain, type, protocol, &b))) {
		socket_discard(a);
		return err;
	}
	err = a->ops->pair ? task_caller_init(&tc, t, NULL) : -EOPNOTSUPP;
	if (!err) {
		err = a->ops->pair(a, b, &tc.c);
		task_caller_fini(&tc);
	}
	if (err) {
		socket_discard(a);
		socket_discard(b);
		return err;
	}
	err = socket_file_new(a, flags, fa);
	if (err) {
		socket_discard(b);
		return err;
	}
	return socket_file_new(b, flags, fb);
}

long sys_socketpair(struct task *t, int domain, int type, int protocol, uaddr_t ufds)
{
	CLEANUP_FILE struct file *a = NULL, *b = NULL;
	int32_t fds[2];
	int flags;
	int err = check_type(&type, &flags);

	if (err || (err = make_pair(t, domain, type, protocol, flags, &a, &b)))
		return err;
	if ((err = fdtable_reserve(t->fds, 0, task_rlimit(t, RLIMIT_NOFILE), 2, fds)))
		return err;
	if ((err = copy_out(&t->um, ufds, fds, sizeof(fds)))) {
		fdtable_unreserve(t->fds, 2, fds);
		return err;
	}
	fdtable_commit(t->fds, fds[0], steal(a), flags & SOCK_CLOEXEC);
	fdtable_commit(t->fds, fds[1], steal(b), flags & SOCK_CLOEXEC);
	return 0;
}

/* ---- names and connections ---- */

long sys_bind(struct task *t, int fd, uaddr_t uaddr, unsigned len)
{
	struct sock_addr a;
	struct task_caller tc;
	struct socket *s;
	CLEANUP_FILE struct file *f = NULL;
	int err = socket_lookup(t, fd, &f, &s);

	if (err || (err = sock_addr_import(t, uaddr, len, &a)))
		return err;
	if (!s->ops->bind)
		return -EOPNOTSUPP;
	if ((err = socket_port_allowed(s, &a, t->cred, LL_BIND_TCP)))
		return err;
	if ((err = task_caller_init(&tc, t, &a)))
		return err;
	err = s->ops->bind(s, &a, &tc.c);
	task_caller_fini(&tc);
	return err;
}

long sys_connect(struct task *t, int fd, uaddr_t uaddr, unsigned len)
{
	struct sock_addr a;
	struct task_caller tc;
	struct socket *s;
	CLEANUP_FILE struct file *f = NULL;
	int err = socket_lookup(t, fd, &f, &s);

	if (err || (err = sock_addr_import(t, uaddr, len, &a)))
		return err;
	if (!s->ops->connect)
		return -EOPNOTSUPP;
	if ((err = socket_port_allowed(s, &a, t->cred, LL_CONNECT_TCP)))
		return err;
	if ((err = task_caller_init(&tc, t, &a)))
		return err;
	bool nonblock = f->flags & O_NONBLOCK;
	int64_t timeout = s->sndtimeo;
	int64_t deadline = sock_deadline(timeout);
	while ((err = s->ops->connect(s, &a, &tc.c, nonblock)) == -EAGAIN && !nonblock) {
		err = task_wait_file(t, f, POLLOUT, deadline);
		if (err) {
			err = sock_wait_error(err, timeout);
			break;
		}
	}
	task_caller_fini(&tc);
	return err;
}

long sys_listen(struct task *t, int fd, int backlog)
{
	struct task_caller tc;
	struct socket *s;
	CLEANUP_FILE struct file *f = NULL;
	int err = socket_lookup(t, fd, &f, &s);

	if (err)
		return err;
	if (!s->ops->listen)
		return -EOPNOTSUPP;
	if ((err = task_caller_init(&tc, t, NULL)))
		return err;
	err = s->ops->listen(s, backlog, &tc.c);
	task_caller_fini(&tc);
	return err;
}

static int accept_wait(struct task *t, struct file *f, struct socket *s, struct socket **out)
{
	int64_t timeout = s->rcvtimeo;
	int64_t deadline = sock_deadline(timeout);
	int err;

	while ((err = s->ops->accept(s, out)) == -EAGAIN && !(f->flags & O_NONBLOCK))
		if ((err = task_wait_file(t, f, POLLIN, deadline)))
			return sock_wait_error(err, timeout);
	return err;
}

static int accept_file(struct task *t, struct file *f, struct socket *s, uaddr_t uaddr,
		       uaddr_t ulen, int flags, struct file **out)
{
	CLEANUP_FILE struct file *made = NULL;
	struct socket *conn;
	struct sock_addr a;
	int err = accept_wait(t, f, s, &conn);

	if (err || (err = socket_file_new(conn, flags, &made)))
		return err;
	if (!uaddr_is_null(uaddr)) {
		/* The peer may be gone already: Linux then aborts the connection. */
		if (conn->ops->getname(conn, true, &a))
			return -ECONNABORTED;
		if ((err = sock_addr_export(t, &a, uaddr, ulen)))
			return err;
	}
	*out = steal(made);
	return 0;
}

long sys_accept4(struct task *t, int fd, uaddr_t addr, uaddr_t len, int flags)
{
	struct socket *s;
	struct file *made;
	CLEANUP_FILE struct file *f = NULL;
	int32_t num;

	if (flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK))
		return -EINVAL;
	int err = socket_lookup(t, fd, &f, &s);
	if (err)
		return err;
	if (!s->ops->accept)
		return -EOPNOTSUPP;
	if ((err = fdtable_reserve(t->fds, 0, task_rlimit(t, RLIMIT_NOFILE), 1, &num)))
		return err;
	if ((err = accept_file(t, f, s, addr, len, flags, &made))) {
		fdtable_unreserve(t->fds, 1, &num);
		return err;
	}
	fdtable_commit(t->fds, num, made, flags & SOCK_CLOEXEC);
	return num;
}

long sys_accept(struct task *t, int fd, uaddr_t addr, uaddr_t len)
{
	return sys_accept4(t, fd, addr, len, 0);
}

static long get_name(struct task *t, int fd, uaddr_t addr, uaddr_t len, bool peer)
{
	struct sock_addr a;
	struct socket *s;
	CLEANUP_FILE struct file *f = NULL;
	int err = socket_lookup(t, fd, &f, &s);

	if (err)
		return err;
	if (!s->ops->getname)
		return -EOPNOTSUPP;
	err = s->ops->getname(s, peer, &a);
	return err ? err : sock_addr_export(t, &a, addr, len);
}

long sys_getsockname(struct task *t, int fd, uaddr_t addr, uaddr_t len)
{
	return get_name(t, fd, addr, len, false);
}

long sys_getpeername(struct task *t, int fd, uaddr_t addr, uaddr_t len)
{
	return get_name(t, fd, addr, len, true);
}

long sys_shutdown(struct task *t, int fd, int how)
{
	struct socket *s;
	CLEANUP_FILE struct file *f = NULL;
	int err = socket_lookup(t, fd, &f, &s);

	if (err)
		return err;
	if (how < SHUT_RD || how > SHUT_RDWR)
		return -EINVAL;
	return s->ops->shutdown ? s->ops->shutdown(s, how) : -EOPNOTSUPP;
}

/* ---- options ---- */

long sys_setsockopt(struct task *t, int fd, int level, int name, uaddr_t value, unsigned len)
{
	uint8_t buf[OPTION_MAX];
	struct socket *s;
	CLEANUP_FILE struct file *f = NULL;

	if ((int)len < 0)
		return -EINVAL;
	int err = socket_lookup(t, fd, &f, &s);
	if (err)
		return err;
	len = MIN(len, (unsigned)OPTION_MAX);
	if (len && (err = copy_in(&t->um, buf, value, len)))
		return err;
	return socket_setsockopt(s, level, name, buf, len, t->cred);
}

long sys_getsockopt(struct task *t, int fd, int level, int name, uaddr_t value, uaddr_t ulen)
{
	uint8_t buf[OPTION_MAX];
	int32_t room;
	struct socket *s;
	CLEANUP_FILE struct file *f = NULL;
	int err = socket_lookup(t, fd, &f, &s);

	if (err || (err = copy_in_val(&t->um, &room, ulen)))
		return err;
	if (room < 0)
		return -EINVAL;
	uint32_t len = MIN((uint32_t)room, (uint32_t)OPTION_MAX);
	err = socket_getsockopt(s, level, name, t->cred->user_ns, buf, &len);
	if (err && err != -ERANGE)
		return err;
	if (!err && len) {
		int fault = copy_out_last(&t->um, value, buf, len);
		if (fault)
			return fault;
	}
	int fault = copy_out_last_val(&t->um, ulen, &len);
	return fault ? fault : err;
}
