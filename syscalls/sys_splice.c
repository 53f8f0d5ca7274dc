/*
 * splice(2), tee(2), vmsplice(2).  Bytes are copied once, between the pipe's ring and the file:
 * where Linux moves pages, nobody can tell the difference but by the clock.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "sentry/fs/pipe/pipe.h"
#include "sentry/lib/cleanup.h"
#include "syscalls/file_io.h"
#include "syscalls/syscalls.h"

#define SPLICE_FLAGS (SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE | SPLICE_F_GIFT)
#define CHUNK (64UL << 10)
#define MESSAGE_MAX (2UL << 20)

struct splice {
	struct task *t;
	struct file *in, *out;
	int64_t *in_off, *out_off; /* NULL: the file's own position */
	uint64_t len;
	bool nonblock;
};

/* Offers go on only while more can be written without waiting. */
static ssize_t take_into(void *arg, const void *bytes, size_t n)
{
	struct splice *s = arg;
	struct uio_seg seg;
	struct uio io;

	uio_init_kernel(&io, &seg, (void *)(uintptr_t)bytes, n);
	bool wait = !s->nonblock && !file_is_pipe(s->out);
	return io_write(s->t, s->out, &io, s->out_off, wait ? 0 : IO_NONBLOCK);
}

/* Waits until one side may go on, unless the call must not. */
static int wait_for(struct splice *s, struct file *f, uint32_t events)
{
	if (s->nonblock || atomic_load(&f->flags) & O_NONBLOCK)
		return -EAGAIN;
	return task_wait_file(s->t, f, events, TIME_NEVER);
}

/* From a pipe to anything, removing the bytes or (tee) not. */
static ssize_t from_pipe(struct splice *s, bool consume)
{
	for (;;) {
		if (file_is_pipe(s->out) && !pipe_room(s->out) &&
		    !(file_poll(s->out) & (POLLERR | POLLHUP))) {
			int err = wait_for(s, s->out, POLLOUT);
			if (err)
				return err;
			continue;
		}
		ssize_t n = pipe_offer(s->in, s->len, consume, take_into, s);
		if (n != -EAGAIN)
			return n;
		int err = file_poll(s->in) & POLLIN ? wait_for(s, s->out, POLLOUT)
						    : wait_for(s, s->in, POLLIN);
		if (err)
			return err;
	}
}

/* From a file or socket into a pipe, at most what the pipe has room for. */
static ssize_t into_pipe(struct splice *s)
{
	struct uio_seg seg;
	struct uio io;
	size_t room;

	while (!(room = pipe_room(s->out)) && !(file_poll(s->out) & (POLLERR | POLLHUP))) {
		int err = wait_for(s, s->out, POLLOUT);
		if (err)
			return err;
	}
	uint64_t n = room ? room : 1; /* 1: the write tells of a missing reader */
	n = MIN(n, s->len);
	/* A message must not be cut. */
	n = MIN(n, s->in->ops->messages ? (uint64_t)MESSAGE_MAX : CHUNK);
	CLEANUP_FREE char *buf = malloc(n);
	if (!buf)
		return -ENOMEM;
	int64_t at = s->in_off ? *s->in_off : 0;
	uio_init_kernel(&io, &seg, buf, n);
	ssize_t got =
		io_read(s->t, s->in, &io, s->in_off ? &at : NULL, s->nonblock ? IO_NONBLOCK : 0);
	if (got <= 0)
		return got;
	/* Another writer may have taken the room since; what was read must not be lost. */
	uio_init_kernel(&io, &seg, buf, (uint64_t)got);
	ssize_t put = io_write(s->t, s->out, &io, NULL, 0);
	if (put > 0 && s->in_off)
		*s->in_off += put;
	return put;
}

static int offset_in(struct task *t, uaddr_t from, int64_t *off, int64_t **p)
{
	if (uaddr_is_null(from))
		return 0;
	if (copy_in_val(&t->um, off, from))
		return -EFAULT;
	*p = off;
	return *off < 0 ? -EINVAL : 0;
}

static int splice_check(const struct splice *s, uaddr_t in_off, uaddr_t out_off)
{
	bool in_pipe = file_is_pipe(s->in), out_pipe = file_is_pipe(s->out);

	if (!file_readable(s->in) || !file_writable(s->out))
		return -EBADF;
	if (!in_pipe && !out_pipe)
		return -EINVAL;
	if ((in_pipe && !uaddr_is_null(in_off)) || (out_pipe && !uaddr_is_null(out_off)))
		return -ESPIPE;
	if (in_pipe && out_pipe && pipe_same(s->in, s->out))
		return -EINVAL;
	if ((!uaddr_is_null(in_off) && !file_has_pos(s->in)) ||
	    (!uaddr_is_null(out_off) && !file_has_pos(s->out)))
		return -EINVAL;
	if (!out_pipe && s->out->flags & O_APPEND)
		return -EINVAL;
	return 0;
}

long sys_splice(struct task *t, int in_fd, uaddr_t in_off, int out_fd, uaddr_t out_off,
		uint64_t len, unsigned flags)
{
	int64_t from = 0, to = 0;
	int err;

	if (len == 0)
		return 0;
	if (flags & ~(unsigned)SPLICE_FLAGS)
		return -EINVAL;
	CLEANUP_FILE struct file *in = fdtable_file(t->fds, in_fd);
	CLEANUP_FILE struct file *out = fdtable_file(t->fds, out_fd);
	if (!in || !out)
		return -EBADF;
	struct splice s = {.t = t,
			   .in = in,
			   .out = out,
			   .len = MIN(len, MAX_RW_COUNT),
			   .nonblock = flags & SPLICE_F_NONBLOCK};
	if ((err = splice_check(&s, in_off, out_off)) ||
	    (err = offset_in(t, in_off, &from, &s.in_off)) ||
	    (err = offset_in(t, out_off, &to, &s.out_off)))
		return err;
	ssize_t n = file_is_pipe(in) ? from_pipe(&s, true) : into_pipe(&s);
	if (n <= 0)
		return n;
	if ((s.in_off && copy_out_val(&t->um, in_off, &from)) ||
	    (s.out_off && copy_out_val(&t->um, out_off, &to)))
		return -EFAULT;
	return n;
}

/* The offsets as values; -1: none. */
long splice_at(struct task *t, int in_fd, int64_t in_off, int out_fd, int64_t out_off, uint64_t len,
	       unsigned flags)
{
	const uaddr_t given = UADDR(1); /* any address but none: for splice_check */

	if (flags & ~(unsigned)SPLICE_FLAGS || in_off < -1 || out_off < -1)
		return -EINVAL;
	if (len == 0)
		return 0;
	CLEANUP_FILE struct file *in = fdtable_file(t->fds, in_fd);
	CLEANUP_FILE struct file *out = fdtable_file(t->fds, out_fd);
	if (!in || !out)
		return -EBADF;
	struct splice s = {.t = t,
			   .in = in,
			   .out = out,
			   .in_off = in_off < 0 ? NULL : &in_off,
			   .out_off = out_off < 0 ? NULL : &out_off,
			   .len = MIN(len, MAX_RW_COUNT),
			   .nonblock = flags & SPLICE_F_NONBLOCK};
	int err =
		splice_check(&s, in_off < 0 ? UADDR_NULL : given, out_off < 0 ? UADDR_NULL : given);
	if (err)
		return err;
	return file_is_pipe(in) ? from_pipe(&s, true) : into_pipe(&s);
}

long sys_tee(struct task *t, int in_fd, int out_fd, uint64_t len, unsigned flags)
{
	if (flags & ~(unsigned)SPLICE_FLAGS)
		return -EINVAL;
	if (len == 0)
		return 0;
	CLEANUP_FILE struct file *in = fdtable_file(t->fds, in_fd);
	CLEANUP_FILE struct file *out = fdtable_file(t->fds, out_fd);
	if (!in || !out || !file_readable(in) || !file_writable(out))
		return -EBADF;
	if (!file_is_pipe(in) || !file_is_pipe(out) || pipe_same(in, out))
		return -EINVAL;
	struct splice s = {.t = t,
			   .in = in,
			   .out = out,
			   .len = MIN(len, MAX_RW_COUNT),
			   .nonblock = flags & SPLICE_F_NONBLOCK};
	return from_pipe(&s, false);
}

long sys_vmsplice(struct task *t, int fd, uaddr_t iov, uint64_t n, unsigned flags)
{
	struct uio io;
	int err;

	if (flags & ~(unsigned)SPLICE_FLAGS)
		return -EINVAL;
	CLEANUP_FILE struct file *f = fdtable_file(t->fds, fd);
	if (!f || !file_is_pipe(f) || (!file_readable(f) && !file_writable(f)))
		return -EBADF;
	CLEANUP_FREE struct uio_seg *segs = malloc(UIO_MAXIOV * sizeof(*segs));
	if (!segs)
		return -ENOMEM;
	if ((err = uio_import(&io, segs, &t->um, iov, n)))
		return err;
	if (io.left == 0)
		return 0;
	int how = flags & SPLICE_F_NONBLOCK ? IO_NONBLOCK : 0;
	return file_writable(f) ? io_write(t, f, &io, NULL, how) : io_read(t, f, &io, NULL, how);
}
