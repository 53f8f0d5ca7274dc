/*
 * io_uring: what each operation does.
 *
 * Most are calls that exist: the entry's fields become the arguments of the handler, which runs on
 * the helper.  A registered file is put into a table of descriptors of its own for the handler.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "sentry/kernel/fdtable.h"
#include "syscalls/file_io.h"
#include "syscalls/syscalls.h"
#include "syscalls/uring.h"

#define IOV_STACK 16
#define RETRIES 64 /* of what seems ready and is not */

/* ---- registered buffers ---- */

/* A place within a registered buffer. */
static int fixed_check(struct uring *u, const struct io_uring_sqe *s)
{
	int err = -EFAULT;

	mutex_lock(&u->lock, &lc_pipe);
	if (s->buf_index < u->nbufs) {
		const struct uio_seg *b = &u->bufs[s->buf_index];
		if (s->addr >= b->base && s->len <= b->len && s->addr - b->base <= b->len - s->len)
			err = 0;
	}
	mutex_unlock(&u->lock, &lc_pipe);
	return err;
}

/* ---- reading and writing ---- */

static int io_flags(unsigned rwf, bool write)
{
	if (rwf & ~(unsigned)(RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND))
		return -EOPNOTSUPP;
	return (rwf & RWF_NOWAIT ? IO_NONBLOCK : 0) | (write && rwf & RWF_APPEND ? IO_APPEND : 0) |
	       (rwf & (RWF_DSYNC | RWF_SYNC) ? IO_SYNC : 0);
}

static void do_rw(struct task *h, int fd, const struct io_uring_sqe *s, struct uio *io, bool write,
		  struct uring_result *r)
{
	CLEANUP_FILE struct file *f = fdtable_file(h->fds, fd);
	int64_t off = (int64_t)s->off;
	int flags = io_flags((unsigned)s->rw_flags, write);
	uint64_t want = io->left;

	if (!f || !(write ? file_writable(f) : file_readable(f))) {
		r->res = -EBADF;
		return;
	}
	/* -1 is the file's own position; what has none takes no notice. */
	bool own = off == -1 || !file_has_pos(f);
	if (flags < 0)
		r->res = flags;
	else if (!own && off < 0)
		r->res = -EINVAL;
	else
		r->res = write ? io_write(h, f, io, own ? NULL : &off, flags)
			       : io_read(h, f, io, own ? NULL : &off, flags);
	r->failed = r->res >= 0 && (uint64_t)r->res < want;
}

static void rw_plain(struct task *h, int fd, const struct io_uring_sqe *s, bool write,
		     struct uring_result *r)
{
	struct uio_seg seg;
	struct uio io;

	uio_init_user(&io, &seg, &h->um, UADDR(s->addr), s->len);
	do_rw(h, fd, s, &io, write, r);
}

static void rw_vec(struct task *h, int fd, const struct io_uring_sqe *s, bool write,
		   struct uring_result *r)
{
	CLEANUP_FREE struct uio_seg *many = NULL;
	struct uio_seg few[IOV_STACK];
	struct uio io;

	if (s->len > UIO_MAXIOV) {
		r->res = -EINVAL;
		return;
	}
	if (s->len > IOV_STACK && !(many = malloc(s->len * sizeof(*many)))) {
		r->res = -ENOMEM;
		return;
	}
	r->res = uio_import(&io, many ? many : few, &h->um, UADDR(s->addr), s->len);
	if (!r->res)
		do_rw(h, fd, s, &io, write, r);
}

static void rw_fixed(struct task *h, struct uring *u, int fd, const struct io_uring_sqe *s,
		     bool write, struct uring_result *r)
{
	r->res = fixed_check(u, s);
	if (!r->res)
		rw_plain(h, fd, s, write, r);
}

static void recv_into(struct task *h, int fd, const struct io_uring_sqe *s, struct uring_result *r)
{
	r->res = sys_recvfrom(h, fd, UADDR(s->addr), s->len, (int)s->msg_flags, UADDR_NULL,
			      UADDR_NULL);
	r->failed = r->res >= 0 && s->msg_flags & MSG_WAITALL && (uint64_t)r->res < s->len;
}

/* READ and RECV into a buffer of a group, which is chosen when there is something to read. */
static void read_selected(struct task *h, struct uring *u, int fd, const struct io_uring_sqe *s,
			  struct uring_result *r)
{
	CLEANUP_FILE struct file *f = fdtable_file(h->fds, fd);
	int tries = 0;

	if (!f) {
		r->res = -EBADF;
		return;
	}
	do {
		struct uring_choice c;
		if ((r->res = task_wait_file(h, f, POLLIN | POLLRDHUP, TIME_NEVER)) ||
		    (r->res = uring_buf_take(h, u, s->buf_group, &c)))
			return;
		struct io_uring_sqe with = *s;
		with.addr = c.addr;
		with.len = s->len ? MIN(s->len, c.len) : c.len;
		if (s->opcode == IORING_OP_RECV) {
			with.msg_flags |= MSG_DONTWAIT;
			recv_into(h, fd, &with, r);
		} else {
			with.rw_flags |= RWF_NOWAIT;
			rw_plain(h, fd, &with, false, r);
		}
		if (r->res >= 0) {
			r->flags = IORING_CQE_F_BUFFER | (uint32_t)c.id << IORING_CQE_BUFFER_SHIFT;
			uring_buf_used(&c);
		} else {
			uring_buf_give_back(u, &c);
		}
	} while (r->res == -EAGAIN && ++tries < RETRIES); /* somebody else was faster */
}

/* One completion for each piece, until there is no more, or no buffer. */
static void recv_multishot(struct task *h, struct uring *u, int fd, const struct io_uring_sqe *s,
			   struct uring_result *r)
{
	for (;;) {
		read_selected(h, u, fd, s, r);
		if (r->res <= 0)
			return;
		uring_post(u, s->user_data, (int32_t)r->res, r->flags | IORING_CQE_F_MORE);
		r->flags = 0;
	}
}

/* ---- waiting ---- */

static int64_t poll_add(struct task *h, struct uring *u, int fd, const struct io_uring_sqe *s)
{
	CLEANUP_FILE struct file *f = fdtable_file_any(h->fds, fd);
	uint32_t want = s->poll32_events | POLLERR | POLLHUP, got;
	bool multi = s->len & IORING_POLL_ADD_MULTI;
	struct task_waiter tw;
	int err = 0;

	if (!f)
		return -EBADF;
	if (s->len & ~IORING_POLL_ADD_MULTI || s->off || s->addr)
		return -EINVAL;
	struct waitq *q = file_waitq(f);
	if (!q)
		return (int64_t)(file_poll(f) & want);
	task_waiter_init(&tw, h);
	waitq_add(q, &tw.w, want);
	for (;;) {
		got = file_poll(f) & want;
		if (got && !multi)
			break;
		if (got)
			uring_post(u, s->user_data, (int32_t)got, IORING_CQE_F_MORE);
		if ((err = task_park(h, TASK_SLEEPING, TIME_NEVER)))
			break;
	}
	waitq_remove(&tw.w);
	return err ? err : (int64_t)got;
}

static void timeout(struct task *h, struct uring *u, const struct io_uring_sqe *s,
		    struct uring_result *r)
{
	struct task_waiter tw;
	int64_t deadline;
	int err = s->len == 1 ? 0 : -EINVAL;

	if (!err)
		err = uring_deadline(h, UADDR(s->addr), s->timeout_flags, &deadline);
	if (err) {
		r->res = err;
		return;
	}
	mutex_lock(&u->lock, &lc_pipe);
	uint64_t target = u->completed + s->off;
	mutex_unlock(&u->lock, &lc_pipe);
	task_waiter_init(&tw, h);
	waitq_add(&u->wq, &tw.w, POLLIN);
	for (;;) {
		mutex_lock(&u->lock, &lc_pipe);
		bool enough = s->off && u->completed >= target;
		mutex_unlock(&u->lock, &lc_pipe);
		if (enough || (err = task_park(h, TASK_SLEEPING, deadline)))
			break;
	}
	waitq_remove(&tw.w);
	r->res = err == -ETIMEDOUT ? -ETIME : err;
	r->fine = err == -ETIMEDOUT && s->timeout_flags & IORING_TIMEOUT_ETIME_SUCCESS;
}

/* ---- cancelling ---- */

static int64_t cancel(struct task *h, struct uring *u, const struct io_uring_sqe *s)
{
	const unsigned known = IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_FD |
			       IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_FD_FIXED |
			       IORING_ASYNC_CANCEL_USERDATA;
	unsigned flags = s->cancel_flags;

	if (flags & ~known || s->off || s->len)
		return -EINVAL;
	if (flags & IORING_ASYNC_CANCEL_FD && flags & IORING_ASYNC_CANCEL_ANY)
		return -EINVAL;
	const struct uring_match m = {
		.op = -1,
		.fd = flags & IORING_ASYNC_CANCEL_FD ? s->fd : -1,
		.fixed = flags & IORING_ASYNC_CANCEL_FD_FIXED,
		.user_data = s->addr,
		.any = flags & IORING_ASYNC_CANCEL_ANY,
		.all = flags & (IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_ANY),
	};
	int n = uring_cancel(u, &m, h);
	return n ? (m.all ? n : 0) : m.all ? 0 : -ENOENT;
}

static int64_t cancel_op(struct task *h, struct uring *u, const struct io_uring_sqe *s, int op)
{
	const struct uring_match m = {.op = op, .fd = -1, .user_data = s->addr};

	if (s->len || s->rw_flags)
		return -EINVAL;
	return uring_cancel(u, &m, h) ? 0 : -ENOENT;
}

/* ---- everything else ---- */

static int64_t do_splice(struct task *h, int fd, const struct io_uring_sqe *s)
{
	if (s->splice_flags & SPLICE_F_FD_IN_FIXED)
		return -EINVAL;
	if (s->opcode == IORING_OP_TEE)
		return sys_tee(h, s->splice_fd_in, fd, s->len, s->splice_flags);
	return splice_at(h, s->splice_fd_in, (int64_t)s->splice_off_in, fd, (int64_t)s->off, s->len,
			 s->splice_flags);
}

static int64_t perform_names(struct task *h, const struct io_uring_sqe *s)
{
	uaddr_t addr = UADDR(s->addr), addr2 = UADDR(s->addr2);

	switch (s->opcode) {
	case IORING_OP_OPENAT:
		return sys_openat(h, s->fd, addr, (int)s->open_flags, s->len);
	case IORING_OP_OPENAT2:
		return sys_openat2(h, s->fd, addr, addr2, s->len);
	case IORING_OP_STATX:
		return sys_statx(h, s->fd, addr, (int)s->statx_flags, s->len, addr2);
	case IORING_OP_RENAMEAT:
		return sys_renameat2(h, s->fd, addr, (int)s->len, addr2, s->rename_flags);
	case IORING_OP_UNLINKAT:
		return sys_unlinkat(h, s->fd, addr, (int)s->unlink_flags);
	case IORING_OP_MKDIRAT:
		return sys_mkdirat(h, s->fd, addr, s->len);
	case IORING_OP_SYMLINKAT:
		return sys_symlinkat(h, addr, s->fd, addr2);
	case IORING_OP_SETXATTR:
		return sys_setxattr(h, UADDR(s->addr3), addr, addr2, s->len, (int)s->xattr_flags);
	case IORING_OP_GETXATTR:
		return sys_getxattr(h, UADDR(s->addr3), addr, addr2, s->len);
	default: /* IORING_OP_LINKAT */
		return sys_linkat(h, s->fd, addr, (int)s->len, addr2, (int)s->hardlink_flags);
	}
}

static int64_t perform_socket(struct task *h, int fd, const struct io_uring_sqe *s)
{
	uaddr_t addr = UADDR(s->addr), addr2 = UADDR(s->addr2);

	switch (s->opcode) {
	case IORING_OP_SENDMSG:
		return sys_sendmsg(h, fd, addr, (int)s->msg_flags | MSG_NOSIGNAL);
	case IORING_OP_RECVMSG:
		return sys_recvmsg(h, fd, addr, (int)s->msg_flags);
	case IORING_OP_ACCEPT:
		return sys_accept4(h, fd, addr, addr2, (int)s->accept_flags);
	case IORING_OP_CONNECT:
		return sys_connect(h, fd, addr, (unsigned)s->off);
	case IORING_OP_SEND:
		return sys_sendto(h, fd, addr, s->len, (int)s->msg_flags | MSG_NOSIGNAL, addr2,
				  s->addr_len);
	case IORING_OP_SHUTDOWN:
		return sys_shutdown(h, fd, (int)s->len);
	default: /* IORING_OP_SOCKET */
		return sys_socket(h, s->fd, (int)s->off, (int)s->len);
	}
}

static int64_t perform_file(struct task *h, struct uring *u, int fd, const struct io_uring_sqe *s)
{
	switch (s->opcode) {
	case IORING_OP_FSYNC:
		if (s->fsync_flags & ~IORING_FSYNC_DATASYNC)
			return -EINVAL;
		return s->fsync_flags ? sys_fdatasync(h, fd) : sys_fsync(h, fd);
	case IORING_OP_SYNC_FILE_RANGE:
		return sys_sync_file_range(h, fd, (int64_t)s->off, s->len, s->sync_range_flags);
	case IORING_OP_FALLOCATE:
		return sys_fallocate(h, fd, (int)s->len, (int64_t)s->off, (int64_t)s->addr);
	case IORING_OP_FADVISE:
		return sys_fadvise64(h, fd, (int64_t)s->off, s->len, (int)s->fadvise_advice);
	case IORING_OP_CLOSE:
		return s->file_index ? uring_file_remove(u, s->file_index - 1)
				     : sys_close(h, s->fd);
	case IORING_OP_FSETXATTR:
		return sys_fsetxattr(h, fd, UADDR(s->addr), UADDR(s->addr2), s->len,
				     (int)s->xattr_flags);
	case IORING_OP_FGETXATTR:
		return sys_fgetxattr(h, fd, UADDR(s->addr), UADDR(s->addr2), s->len);
	case IORING_OP_FILES_UPDATE:
		return uring_update_files(h, u, (unsigned)s->off, UADDR(s->addr), s->len);
	case IORING_OP_EPOLL_CTL:
		return sys_epoll_ctl(h, fd, (int)s->len, (int)s->off, UADDR(s->addr));
	case IORING_OP_MADVISE:
		/* Linked, it would run where no mapping can be changed. */
		return h->pt ? sys_madvise(h, s->addr, s->len, (int)s->fadvise_advice) : -EINVAL;
	default: /* IORING_OP_SPLICE, IORING_OP_TEE */
		return do_splice(h, fd, s);
	}
}

/* Does it give a file, which may become a registered one? */
static bool opens_file(const struct io_uring_sqe *s)
{
	return s->file_index && (s->opcode == IORING_OP_OPENAT || s->opcode == IORING_OP_OPENAT2 ||
				 s->opcode == IORING_OP_ACCEPT || s->opcode == IORING_OP_SOCKET);
}

/* Memory is copied, so the buffer is free at once: the notification says so. */
static void send_zc(struct task *h, struct uring *u, int fd, const struct io_uring_sqe *s,
		    struct uring_result *r)
{
	struct io_uring_sqe plain = *s;

	plain.opcode = s->opcode == IORING_OP_SEND_ZC ? IORING_OP_SEND : IORING_OP_SENDMSG;
	r->res = s->ioprio & IORING_RECVSEND_FIXED_BUF ? fixed_check(u, s) : 0;
	if (!r->res)
		r->res = perform_socket(h, fd, &plain);
	if (r->res < 0)
		return;
	uring_post(u, s->user_data, (int32_t)r->res, IORING_CQE_F_MORE);
	r->res = 0;
	r->flags = IORING_CQE_F_NOTIF;
}

/* A completion for another ring. */
static int64_t msg_ring(struct task *h, int fd, const struct io_uring_sqe *s)
{
	CLEANUP_FILE struct file *f = fdtable_file(h->fds, fd);

	if (s->buf_index || s->personality || s->addr != IORING_MSG_DATA || s->msg_ring_flags ||
	    s->file_index)
		return -EINVAL;
	struct uring *to = f ? uring_of(f) : NULL;
	if (!to)
		return f ? -EBADFD : -EBADF;
	if (to->disabled)
		return -EBADFD;
	uring_post(to, s->off, (int32_t)s->len, 0);
	return 0;
}

static void dispatch(struct task *h, struct uring *u, int fd, const struct io_uring_sqe *s,
		     struct uring_result *r)
{
	switch (s->opcode) {
	case IORING_OP_NOP:
		r->res = 0;
		break;
	case IORING_OP_READV:
	case IORING_OP_WRITEV:
		rw_vec(h, fd, s, s->opcode == IORING_OP_WRITEV, r);
		break;
	case IORING_OP_READ_FIXED:
	case IORING_OP_WRITE_FIXED:
		rw_fixed(h, u, fd, s, s->opcode == IORING_OP_WRITE_FIXED, r);
		break;
	case IORING_OP_READ:
	case IORING_OP_RECV:
		if (s->opcode == IORING_OP_RECV && s->ioprio & IORING_RECV_MULTISHOT)
			recv_multishot(h, u, fd, s, r);
		else if (s->flags & IOSQE_BUFFER_SELECT)
			read_selected(h, u, fd, s, r);
		else if (s->opcode == IORING_OP_RECV)
			recv_into(h, fd, s, r);
		else
			rw_plain(h, fd, s, false, r);
		break;
	case IORING_OP_WRITE:
		rw_plain(h, fd, s, true, r);
		break;
	case IORING_OP_POLL_ADD:
		r->res = poll_add(h, u, fd, s);
		break;
	case IORING_OP_POLL_REMOVE:
		r->res = cancel_op(h, u, s, IORING_OP_POLL_ADD);
		break;
	case IORING_OP_TIMEOUT:
		timeout(h, u, s, r);
		break;
	case IORING_OP_TIMEOUT_REMOVE:
		r->res = cancel_op(h, u, s, IORING_OP_TIMEOUT);
		break;
	case IORING_OP_ASYNC_CANCEL:
		r->res = cancel(h, u, s);
		break;
	case IORING_OP_PROVIDE_BUFFERS:
		r->res = uring_provide_buffers(u, s);
		break;
	case IORING_OP_REMOVE_BUFFERS:
		r->res = uring_remove_buffers(u, s);
		break;
	case IORING_OP_OPENAT:
	case IORING_OP_OPENAT2:
	case IORING_OP_STATX:
	case IORING_OP_RENAMEAT:
	case IORING_OP_UNLINKAT:
	case IORING_OP_MKDIRAT:
	case IORING_OP_SYMLINKAT:
	case IORING_OP_LINKAT:
	case IORING_OP_SETXATTR:
	case IORING_OP_GETXATTR:
		r->res = perform_names(h, s);
		if (opens_file(s))
			r->res = uring_file_install(h, u, s, r->res);
		break;
	case IORING_OP_SENDMSG:
	case IORING_OP_RECVMSG:
	case IORING_OP_ACCEPT:
	case IORING_OP_CONNECT:
	case IORING_OP_SEND:
	case IORING_OP_SHUTDOWN:
	case IORING_OP_SOCKET:
		r->res = perform_socket(h, fd, s);
		if (opens_file(s))
			r->res = uring_file_install(h, u, s, r->res);
		break;
	case IORING_OP_SEND_ZC:
	case IORING_OP_SENDMSG_ZC:
		send_zc(h, u, fd, s, r);
		break;
	case IORING_OP_MSG_RING:
		r->res = msg_ring(h, fd, s);
		break;
	default:
		r->res = perform_file(h, u, fd, s);
	}
}

/* O_NONBLOCK does not keep a request from waiting: what it waits for then. */
static uint32_t retry_events(const struct io_uring_sqe *s)
{
	switch (s->opcode) {
	case IORING_OP_READ:
	case IORING_OP_READV:
	case IORING_OP_READ_FIXED:
		return s->rw_flags & RWF_NOWAIT ? 0 : POLLIN;
	case IORING_OP_WRITE:
	case IORING_OP_WRITEV:
	case IORING_OP_WRITE_FIXED:
		return s->rw_flags & RWF_NOWAIT ? 0 : POLLOUT;
	case IORING_OP_RECV:
	case IORING_OP_RECVMSG:
		return s->msg_flags & MSG_DONTWAIT ? 0 : POLLIN;
	case IORING_OP_SEND:
	case IORING_OP_SENDMSG:
	case IORING_OP_SEND_ZC:
	case IORING_OP_SENDMSG_ZC:
		return s->msg_flags & MSG_DONTWAIT ? 0 : POLLOUT;
	case IORING_OP_ACCEPT:
		return POLLIN;
	default:
		return 0;
	}
}

static void dispatch_waiting(struct task *h, struct uring *u, int fd, const struct io_uring_sqe *s,
			     struct uring_result *r)
{
	uint32_t events = retry_events(s);
	bool multi = s->opcode == IORING_OP_ACCEPT && s->ioprio & IORING_ACCEPT_MULTISHOT;

	for (int i = 0; i < RETRIES; i++) {
		dispatch(h, u, fd, s, r);
		if (multi && r->res >= 0) {
			uring_post(u, s->user_data, (int32_t)r->res, IORING_CQE_F_MORE);
			i = -1;
			continue;
		}
		if (r->res != -EAGAIN || !events)
			return;
		CLEANUP_FILE struct file *f = fdtable_file(h->fds, fd);
		if (!f || !(f->flags & O_NONBLOCK) || !file_waitq(f))
			return;
		if ((r->res = task_wait_file(h, f, events, TIME_NEVER)))
			return;
	}
}

/* ---- on a registered file ---- */

/* A table that has only the registered file, as descriptor 0. */
static struct fdtable *fixed_table(struct uring *u, unsigned index, int *err)
{
	struct fdtable *fds = fdtable_new();
	struct file *f = NULL;

	*err = fds ? -EBADF : -ENOMEM;
	mutex_lock(&u->lock, &lc_pipe);
	if (fds && index < u->nfiles && u->files[index])
		f = file_get(u->files[index]);
	mutex_unlock(&u->lock, &lc_pipe);
	if (f && fdtable_install(fds, 1, f, false) == 0)
		return fds;
	fdtable_put(fds);
	return NULL;
}

void uring_perform(struct task *h, struct uring *u, const struct io_uring_sqe *s,
		   struct uring_result *r)
{
	int err;

	if (s->opcode == IORING_OP_LINK_TIMEOUT) {
		r->res = -EINVAL; /* nothing that it could limit stands before it */
		return;
	}
	if (!(s->flags & IOSQE_FIXED_FILE)) {
		dispatch_waiting(h, u, s->fd, s, r);
		return;
	}
	if (!uring_takes_fixed_file(s->opcode)) {
		r->res = s->opcode == IORING_OP_NOP ? 0 : -EBADF;
		return;
	}
	struct fdtable *own = h->fds, *fixed = fixed_table(u, (unsigned)s->fd, &err);
	if (!fixed) {
		r->res = err;
		return;
	}
	h->fds = fixed;
	dispatch_waiting(h, u, 0, s, r);
	h->fds = own;
	fdtable_put(fixed);
}
