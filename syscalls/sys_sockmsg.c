/* Sending and receiving: sendto, sendmsg, sendmmsg and their opposites.  Source: send(2), recv(2).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/lib/cleanup.h"
#include "sentry/time/ktimer.h"
#include "syscalls/socket_util.h"

#define IOV_FAST 8
#define MMSG_MAX 1024 /* UIO_MAXIOV: longer vectors are cut */

/* ---- the waits around one message ---- */

static void send_sigpipe(struct task *t)
{
	ksiginfo info;

	signal_info_user(&info, SIGPIPE, SI_USER, t);
	(void)signal_send_task(t, &info);
}

/* Sends all of it, waiting for room as far as the socket and the flags allow. */
static ssize_t send_all(struct task *t, struct file *f, struct socket *s, struct sock_msg *m,
			const struct sock_caller *c)
{
	int64_t timeout = s->sndtimeo;
	int64_t deadline = sock_deadline(timeout);
	ssize_t total = 0;

	m->nonblock = m->flags & MSG_DONTWAIT || f->flags & O_NONBLOCK;
	for (;;) {
		ssize_t n = socket_sendmsg(s, m, c);
		if (n >= 0) {
			total += n;
			if (s->type != SOCK_STREAM || m->io->left == 0 || n == 0)
				return total;
			n = -EAGAIN;
		}
		if (n == -EPIPE && !total && s->type == SOCK_STREAM && !(m->flags & MSG_NOSIGNAL))
			send_sigpipe(t);
		if (n != -EAGAIN || m->nonblock)
			return total ? total : n;
		int err = task_wait_file(t, f, POLLOUT, deadline);
		if (err)
			return total ? total : sock_wait_error(err, timeout);
	}
}

/* Receives once, or with MSG_WAITALL until the buffer is full. */
static ssize_t recv_wait(struct task *t, struct file *f, struct socket *s, struct sock_msg *m)
{
	bool all = m->flags & MSG_WAITALL && !(m->flags & MSG_PEEK) && s->type == SOCK_STREAM;
	int64_t timeout = s->rcvtimeo;
	int64_t deadline = sock_deadline(timeout);
	ssize_t total = 0;

	m->nonblock = m->flags & MSG_DONTWAIT || f->flags & O_NONBLOCK;
	for (;;) {
		ssize_t n = socket_recvmsg(s, m);
		if (n >= 0) {
			total += n;
			if (!all || n == 0 || m->io->left == 0 || m->nfiles)
				return total;
			continue;
		}
		if (n != -EAGAIN || m->nonblock)
			return total ? total : n;
		int err = task_wait_file(t, f, POLLIN, deadline);
		if (err)
			return total ? total : sock_wait_error(err, timeout);
	}
}

/* ---- send ---- */

long sys_sendto(struct task *t, int fd, uaddr_t buf, uint64_t n, int flags, uaddr_t uaddr,
		unsigned len)
{
	struct sock_msg m;
	struct task_caller tc;
	struct uio io;
	struct uio_seg seg;
	struct socket *s;
	CLEANUP_FILE struct file *f = NULL;
	int err = socket_lookup(t, fd, &f, &s);

	if (err)
		return err;
	uio_init_user(&io, &seg, &t->um, buf, n);
	sock_msg_init(&m, &io, flags);
	if (!uaddr_is_null(uaddr) && (err = sock_addr_import(t, uaddr, len, &m.name)))
		return err;
	if ((err = task_caller_init(&tc, t, &m.name)))
		return err;
	ssize_t ret = send_all(t, f, s, &m, &tc.c);
	task_caller_fini(&tc);
	return ret;
}

/* The scattered buffer of a message header; *segs is what to free. */
static int import_iov(struct task *t, const struct linux_msghdr *h, struct uio *io,
		      struct uio_seg *fast, struct uio_seg **segs)
{
	*segs = NULL;
	if (h->iovlen > UIO_MAXIOV)
		return -EMSGSIZE;
	if (h->iovlen > IOV_FAST) {
		*segs = malloc(UIO_MAXIOV * sizeof(**segs));
		if (!*segs)
			return -ENOMEM;
	}
	return uio_import(io, *segs ? *segs : fast, &t->um, UADDR(h->iov), h->iovlen);
}

static ssize_t send_header(struct task *t, struct file *f, struct socket *s,
			   const struct linux_msghdr *h, int flags)
{
	struct uio_seg fast[IOV_FAST];
	CLEANUP_FREE struct uio_seg *segs = NULL;
	struct sock_msg m;
	struct task_caller tc;
	struct uio io;
	int err = import_iov(t, h, &io, fast, &segs);

	if (err)
		return err;
	sock_msg_init(&m, &io, flags);
	if (h->name && h->namelen) {
		if (h->namelen < 0)
			return -EINVAL;
		err = sock_addr_import(t, UADDR(h->name), MIN(h->namelen, SOCK_ADDR_MAX), &m.name);
		if (err)
			return err;
	}
	if ((err = task_caller_init(&tc, t, &m.name)))
		return err;
	ssize_t ret =
		sock_control_import(t, s, UADDR(h->control), h->control ? h->controllen : 0, &m);
	if (!ret)
		ret = send_all(t, f, s, &m, &tc.c);
	sock_msg_fini(&m);
	task_caller_fini(&tc);
	return ret;
}

long sys_sendmsg(struct task *t, int fd, uaddr_t msg, int flags)
{
	struct linux_msghdr h;
	struct socket *s;
	CLEANUP_FILE struct file *f = NULL;
	int err = socket_lookup(t, fd, &f, &s);

	if (err || (err = copy_in_val(&t->um, &h, msg)))
		return err;
	return send_header(t, f, s, &h, flags);
}

long sys_sendmmsg(struct task *t, int fd, uaddr_t msgs, unsigned n, int flags)
{
	struct linux_mmsghdr h;
	struct socket *s;
	CLEANUP_FILE struct file *f = NULL;
	int err = socket_lookup(t, fd, &f, &s);
	unsigned done = 0;
	ssize_t ret = err;

	if (err)
		return err;
	n = MIN(n, (unsigned)MMSG_MAX);
	for (; done < n; done++) {
		uaddr_t at = uaddr_add(msgs, done * sizeof(h));
		ret = copy_in_val(&t->um, &h, at);
		if (!ret)
			ret = send_header(t, f, s, &h.hdr, flags);
		if (ret < 0)
			break;
		h.len = ret;
		ret = copy_out_val(&t->um, uaddr_add(at, offsetof(struct linux_mmsghdr, len)),
				   &h.len);
		if (ret < 0)
			break;
	}
	return done ? done : ret;
}

/* ---- receive ---- */

static ssize_t shown_length(const struct sock_msg *m, ssize_t n)
{
	bool whole = m->flags & MSG_TRUNC && m->out_flags & MSG_TRUNC;

	return whole && m->full_len > (size_t)n ? (ssize_t)m->full_len : n;
}

long sys_recvfrom(struct task *t, int fd, uaddr_t buf, uint64_t n, int flags, uaddr_t addr,
		  uaddr_t len)
{
	struct sock_msg m;
	struct uio io;
	struct uio_seg seg;
	struct socket *s;
	CLEANUP_FILE struct file *f = NULL;
	int err = socket_lookup(t, fd, &f, &s);

	if (err)
		return err;
	uio_init_user(&io, &seg, &t->um, buf, n);
	io.last = !(flags & MSG_WAITALL);
	sock_msg_init(&m, &io, flags);
	ssize_t got = recv_wait(t, f, s, &m);
	sock_msg_fini(&m);
	if (got < 0)
		return got;
	got = shown_length(&m, got);
	if (!uaddr_is_null(addr) && (err = sock_addr_export(t, &m.name, addr, len)))
		return err;
	return got;
}

/* Stores what the header reports: name, control data, flags.  `at` is the header's address. */
static int export_header(struct task *t, struct socket *s, struct sock_msg *m,
			 struct linux_msghdr *h, uaddr_t at)
{
	uint64_t used;
	int err;

	if (h->name) {
		uint32_t n = MIN((uint32_t)h->namelen, m->name.len);
		if (n && (err = copy_out(&t->um, UADDR(h->name), m->name.bytes, n)))
			return err;
		h->namelen = m->name.len;
		err = copy_out_val(&t->um, uaddr_add(at, offsetof(struct linux_msghdr, namelen)),
				   &h->namelen);
		if (err)
			return err;
	}
	if ((err = sock_control_export(t, s, m, UADDR(h->control), h->controllen, &used)))
		return err;
	h->controllen = used;
	h->flags = m->out_flags | (m->flags & MSG_CMSG_CLOEXEC);
	/* The two are neighbours. */
	return copy_out_last(&t->um, uaddr_add(at, offsetof(struct linux_msghdr, controllen)),
			     &h->controllen,
			     offsetof(struct linux_msghdr, flags) + sizeof(h->flags) -
				     offsetof(struct linux_msghdr, controllen));
}

static ssize_t recv_header(struct task *t, struct file *f, struct socket *s, struct linux_msghdr *h,
			   uaddr_t at, int flags)
{
	struct uio_seg fast[IOV_FAST];
	CLEANUP_FREE struct uio_seg *segs = NULL;
	struct sock_msg m;
	struct uio io;

	if (h->namelen < 0 || h->controllen > INT32_MAX)
		return h->namelen < 0 ? -EINVAL : -ENOBUFS;
	int err = import_iov(t, h, &io, fast, &segs);
	if (err)
		return err;
	io.last = !(flags & MSG_WAITALL);
	sock_msg_init(&m, &io, flags);
	ssize_t got = recv_wait(t, f, s, &m);
	if (got >= 0) {
		got = shown_length(&m, got);
		err = export_header(t, s, &m, h, at);
	}
	sock_msg_fini(&m);
	return err ? err : got;
}

long sys_recvmsg(struct task *t, int fd, uaddr_t msg, int flags)
{
	struct linux_msghdr h;
	struct socket *s;
	CLEANUP_FILE struct file *f = NULL;
	int err = socket_lookup(t, fd, &f, &s);

	if (err || (err = copy_in_val(&t->um, &h, msg)))
		return err;
	return recv_header(t, f, s, &h, msg, flags);
}

static ssize_t recv_many(struct task *t, struct file *f, struct socket *s, uaddr_t msgs, unsigned n,
			 int flags, int64_t deadline)
{
	struct linux_mmsghdr h;
	unsigned done = 0;
	ssize_t ret = 0;

	while (done < n) {
		uaddr_t at = uaddr_add(msgs, done * sizeof(h));
		ret = copy_in_val(&t->um, &h, at);
		if (!ret)
			ret = recv_header(t, f, s, &h.hdr, at, flags & ~MSG_WAITFORONE);
		if (ret < 0)
			break;
		h.len = ret;
		ret = copy_out_val(&t->um, uaddr_add(at, offsetof(struct linux_mmsghdr, len)),
				   &h.len);
		if (ret < 0)
			break;
		done++;
		if (flags & MSG_WAITFORONE)
			flags |= MSG_DONTWAIT;
		if (deadline != TIME_NEVER && time_monotonic() >= deadline)
			break;
	}
	return done ? (ssize_t)done : ret;
}

long sys_recvmmsg(struct task *t, int fd, uaddr_t msgs, unsigned n, int flags, uaddr_t utimeout)
{
	struct timespec ts;
	struct socket *s;
	CLEANUP_FILE struct file *f = NULL;
	int64_t deadline = TIME_NEVER;
	int err;

	if (!uaddr_is_null(utimeout)) {
		if ((err = copy_in_val(&t->um, &ts, utimeout)))
			return err;
		if (ts.tv_sec < 0 || ts.tv_nsec < 0 || ts.tv_nsec >= NSEC_PER_SEC)
			return -EINVAL;
		if (ts.tv_sec < INT32_MAX)
			deadline = time_monotonic() + ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
	}
	if ((err = socket_lookup(t, fd, &f, &s)))
		return err;
	ssize_t ret = recv_many(t, f, s, msgs, MIN(n, (unsigned)MMSG_MAX), flags, deadline);
	if (ret > 0 && deadline != TIME_NEVER) {
		int64_t left = MAX(deadline - time_monotonic(), 0);
		ts = (struct timespec){left / NSEC_PER_SEC, left % NSEC_PER_SEC};
		if ((err = copy_out_val(&t->um, utimeout, &ts)))
			return err;
	}
	return ret;
}
