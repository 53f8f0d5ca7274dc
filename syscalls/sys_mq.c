/* POSIX message queues: mq_overview(7).  The queues are in sentry/fs/mqueue. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/fs/mqueue/mqueue.h"
#include "sentry/net/netlink/netlink.h"
#include "syscalls/file_io.h"
#include "syscalls/syscalls.h"

/* ---- names ---- */

/* One component, without the slash that libc takes away. */
static int queue_name(struct task *t, struct path_name *name, uaddr_t from)
{
	ssize_t len = path_name_get(t, name, from);

	if (len < 0)
		return (int)len;
	if (len == 0)
		return -ENOENT;
	if (strchr(name->s, '/') || !strcmp(name->s, ".") || !strcmp(name->s, ".."))
		return -EACCES;
	return len > VFS_NAME_MAX ? -ENAMETOOLONG : 0;
}

static int access_of(int flags)
{
	switch (flags & O_ACCMODE) {
	case O_RDONLY:
		return R_OK;
	case O_WRONLY:
		return W_OK;
	case O_RDWR:
		return R_OK | W_OK;
	default:
		return -EINVAL;
	}
}

struct mq_request {
	int flags;
	uint32_t mode;
	const struct mq_attr *limits; /* NULL: defaults */
};

/* The queue behind d, or a new one. */
static int find_or_create(struct task *t, struct path root, struct dentry *d,
			  const struct mq_request *r)
{
	if (!d->inode) {
		if (!(r->flags & O_CREAT))
			return -ENOENT;
		int err = path_permission(root, W_OK | X_OK, t->cred);
		return err ? err
			   : mqueue_create(root.dentry, d, r->mode & ~t->fs->umask & 07777,
					   r->limits, task_rlimit(t, RLIMIT_MSGQUEUE), t->cred);
	}
	if ((r->flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL))
		return -EEXIST;
	int want = access_of(r->flags);
	return want < 0 ? want : inode_permission(d->inode, want, t->cred);
}

static int open_queue(struct task *t, const char *name, const struct mq_request *r,
		      struct file **out)
{
	struct dentry *d;
	struct path root;
	int err = mqueue_root(&root);

	/* Again when somebody else makes or removes the name in between. */
	while (!err) {
		if ((err = dentry_lookup(root.dentry, name, strlen(name), &d)))
			return err;
		err = find_or_create(t, root, d, r);
		if (!err && access_of(r->flags) < 0)
			err = -EINVAL;
		if (!err) {
			err = file_open_path((struct path){root.mnt, d},
					     r->flags & (O_ACCMODE | O_NONBLOCK), out);
			dentry_put(d);
			return err;
		}
		dentry_put(d);
		if ((err == -EEXIST && !(r->flags & O_EXCL)) || err == -ESTALE)
			err = 0;
	}
	return err;
}

long sys_mq_open(struct task *t, uaddr_t uname, int flags, uint32_t mode, uaddr_t uattr)
{
	struct mq_request r = {.flags = flags, .mode = mode};
	struct path_name name;
	struct mq_attr attr;
	struct file *f;
	int32_t fd;

	if (!uaddr_is_null(uattr)) {
		if (copy_in_val(&t->um, &attr, uattr))
			return -EFAULT;
		r.limits = &attr;
	}
	int err = queue_name(t, &name, uname);
	if (err && err != -EACCES && err != -ENAMETOOLONG)
		return err;
	/* The number first: without one, nothing may be created. */
	int no_fd = fdtable_reserve(t->fds, 0, task_rlimit(t, RLIMIT_NOFILE), 1, &fd);
	if (no_fd)
		return no_fd;
	if (!err)
		err = open_queue(t, name.s, &r, &f);
	if (err) {
		fdtable_unreserve(t->fds, 1, &fd);
		return err;
	}
	fdtable_commit(t->fds, fd, f, true);
	return fd;
}

long sys_mq_unlink(struct task *t, uaddr_t uname)
{
	struct path_name name;
	struct path root;
	int err = queue_name(t, &name, uname);

	if (err || (err = mqueue_root(&root)))
		return err;
	const struct walk_env env = {.root = root, .start = root, .cred = t->cred};
	return vfs_unlink(&env, name.s, false);
}

/* ---- messages ---- */

/* An absolute time of CLOCK_REALTIME; a null pointer is never. */
static int read_deadline(struct task *t, uaddr_t uts, int64_t *deadline)
{
	struct timespec ts;

	*deadline = TIME_NEVER;
	if (uaddr_is_null(uts))
		return 0;
	if (copy_in_val(&t->um, &ts, uts))
		return -EFAULT;
	if (ts.tv_sec < 0 || ts.tv_nsec < 0 || ts.tv_nsec >= NSEC_PER_SEC)
		return -EINVAL;
	int64_t at, left;
	if (__builtin_mul_overflow(ts.tv_sec, NSEC_PER_SEC, &at) ||
	    __builtin_add_overflow(at, ts.tv_nsec, &at))
		return 0;
	left = at - time_realtime();
	if (__builtin_add_overflow(time_monotonic(), left, deadline))
		*deadline = TIME_NEVER;
	return 0;
}

static struct file *queue_file(struct task *t, int fd)
{
	struct file *f = fdtable_file(t->fds, fd);

	if (f && !file_is_mqueue(f)) {
		file_put(f);
		return NULL;
	}
	return f;
}

static int send_waiting(struct task *t, struct file *f, struct mq_message *m, int64_t deadline)
{
	int err;

	while ((err = mqueue_send(f, m, t)) == -EAGAIN && !(f->flags & O_NONBLOCK)) {
		err = task_wait_file(t, f, POLLOUT, deadline);
		if (err)
			break;
	}
	return err;
}

long sys_mq_timedsend(struct task *t, int fd, uaddr_t umsg, uint64_t size, unsigned prio,
		      uaddr_t timeout)
{
	int64_t deadline;
	int err = read_deadline(t, timeout, &deadline);

	if (err)
		return err;
	if (prio >= MQ_PRIO_LIMIT)
		return -EINVAL;
	CLEANUP_FILE struct file *f = queue_file(t, fd);
	if (!f || !file_writable(f))
		return -EBADF;
	if ((err = mqueue_check_send(f, size)))
		return err;
	struct mq_message *m = malloc(sizeof(*m) + size);
	if (!m)
		return -ENOMEM;
	m->prio = prio;
	m->size = size;
	err = copy_in(&t->um, m->text, umsg, size) ? -EFAULT : send_waiting(t, f, m, deadline);
	if (err)
		free(m);
	return err;
}

static int receive_waiting(struct task *t, struct file *f, size_t room, int64_t deadline,
			   struct mq_message **m)
{
	int err;

	while ((err = mqueue_receive(f, room, m)) == -EAGAIN && !(f->flags & O_NONBLOCK)) {
		mqueue_receiver_waits(f, 1);
		err = task_wait_file(t, f, POLLIN, deadline);
		mqueue_receiver_waits(f, -1);
		if (err)
			break;
	}
	return err;
}

/* As on Linux, a message that cannot be copied out is lost. */
long sys_mq_timedreceive(struct task *t, int fd, uaddr_t umsg, uint64_t size, uaddr_t uprio,
			 uaddr_t timeout)
{
	struct mq_message *m;
	int64_t deadline;
	int err = read_deadline(t, timeout, &deadline);

	if (err)
		return err;
	CLEANUP_FILE struct file *f = queue_file(t, fd);
	if (!f || !file_readable(f))
		return -EBADF;
	if ((err = receive_waiting(t, f, size, deadline, &m)))
		return err;
	long ret = (long)m->size;
	if ((!uaddr_is_null(uprio) && copy_out_val(&t->um, uprio, &m->prio)) ||
	    copy_out(&t->um, umsg, m->text, m->size))
		ret = -EFAULT;
	free(m);
	return ret;
}

/* ---- the rest ---- */

/* SIGEV_THREAD: libc listens to a netlink socket, where its own 32 bytes come back, the last of
 * them saying why.  Source: ipc/mqueue.c's interface as glibc uses it. */
#define COOKIE_SIZE 32
#define COOKIE_WOKEN 1
#define COOKIE_REMOVED 2

struct thread_notice {
	struct mq_notice n;
	struct file *socket; /* reference */
	uint8_t cookie[COOKIE_SIZE];
};

static void notice_tell(struct mq_notice *n, bool removed)
{
	struct thread_notice *tn = container_of(n, struct thread_notice, n);

	tn->cookie[COOKIE_SIZE - 1] = removed ? COOKIE_REMOVED : COOKIE_WOKEN;
	(void)!netlink_deliver(tn->socket, tn->cookie, sizeof(tn->cookie));
	file_put(tn->socket);
	free(tn);
}

/* sigev_signo is the socket, sigev_value where the bytes are. */
static int notice_new(struct task *t, const struct sigevent *ev, struct thread_notice **out)
{
	struct thread_notice *tn = malloc(sizeof(*tn));

	if (!tn)
		return -ENOMEM;
	tn->n.tell = notice_tell;
	tn->socket = NULL;
	int err = 0;
	if (copy_in(&t->um, tn->cookie, UADDR((uintptr_t)ev->sigev_value.sival_ptr), COOKIE_SIZE))
		err = -EFAULT;
	else if (!(tn->socket = fdtable_file(t->fds, ev->sigev_signo)))
		err = -EBADF;
	else if (!socket_of_file(tn->socket))
		err = -ENOTSOCK;
	else if (!file_is_netlink(tn->socket))
		err = -EINVAL;
	if (err) {
		file_put(tn->socket);
		free(tn);
		return err;
	}
	*out = tn;
	return 0;
}

long sys_mq_notify(struct task *t, int fd, uaddr_t uevent)
{
	bool take = !uaddr_is_null(uevent);
	struct thread_notice *tn = NULL;
	struct sigevent ev;
	int err = 0;

	if (take) {
		if (copy_in_val(&t->um, &ev, uevent))
			return -EFAULT;
		if (ev.sigev_notify != SIGEV_NONE && ev.sigev_notify != SIGEV_SIGNAL &&
		    ev.sigev_notify != SIGEV_THREAD)
			return -EINVAL;
		if (ev.sigev_notify == SIGEV_SIGNAL && (unsigned)ev.sigev_signo > LINUX_NSIG)
			return -EINVAL;
		if (ev.sigev_notify == SIGEV_THREAD && (err = notice_new(t, &ev, &tn)))
			return err;
	}
	CLEANUP_FILE struct file *f = queue_file(t, fd);
	err = f ? mqueue_notify(f, t, take ? &ev : NULL, tn ? &tn->n : NULL) : -EBADF;
	if (err && tn) {
		file_put(tn->socket);
		free(tn);
	}
	return err;
}

long sys_mq_getsetattr(struct task *t, int fd, uaddr_t uattr, uaddr_t uold)
{
	struct mq_attr attr, old;

	if (!uaddr_is_null(uattr)) {
		if (copy_in_val(&t->um, &attr, uattr))
			return -EFAULT;
		if (attr.mq_flags & ~(long)O_NONBLOCK)
			return -EINVAL;
	}
	CLEANUP_FILE struct file *f = queue_file(t, fd);
	if (!f)
		return -EBADF;
	mqueue_get_attr(f, &old);
	if (!uaddr_is_null(uattr)) {
		int err = file_set_flags(f, (int)attr.mq_flags, O_NONBLOCK);
		if (err)
			return err;
	}
	if (!uaddr_is_null(uold) && copy_out_val(&t->um, uold, &old))
		return -EFAULT;
	return 0;
}
