/* read(2), write(2), pread(2), readv(2), preadv2(2) …, lseek(2), sendfile(2), copy_file_range(2).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>

#include "sentry/kernel/stream.h"
#include "syscalls/file_io.h"
#include "syscalls/syscalls.h"

#define IOV_STACK 16
#define COPY_CHUNK 65536
#ifndef RWF_NOAPPEND
#define RWF_NOAPPEND 0x20
#endif
#define LINUX_RWF_DONTCACHE 0x80
#define LINUX_RWF_NOSIGNAL 0x100

/* ---- one buffer ---- */

/* The file's own position goes back over n bytes that were not used after all. */
static void pos_back(struct task *t, struct file *f, int64_t n)
{
	if (!n || task_sleep_lock(t, &f->pos_busy))
		return;
	if (f->pos >= n)
		f->pos -= n;
	sleep_lock_release(&f->pos_busy);
}

/*
 * The bytes that the call before was to move, it turns out, could not be (p_event.retry), and it is
 * performed again: from where it was.  The file is only compared with, and others may have moved
 * on.
 */
static void take_back(struct task *t, struct file *f)
{
	if (t->lent_file == f)
		pos_back(t, f, t->lent);
	t->lent_file = NULL;
}

static long rw_buf(struct task *t, int fd, uaddr_t buf, uint64_t count, int64_t *off, bool write)
{
	CLEANUP_FILE struct file *f = fdtable_file(t->fds, fd);
	struct uio_seg seg;
	struct uio io;

	if (!f || !(write ? file_writable(f) : file_readable(f)))
		return -EBADF;
	/* Judged before the count is cut, as access_ok() of Linux. */
	if (count > t->um.mm->task_size || buf.v > t->um.mm->task_size - count)
		return -EFAULT;
	uio_init_user(&io, &seg, &t->um, buf, MIN(count, MAX_RW_COUNT));
	io.last = !write;
	io.lend = !t->retry;
	if (t->retry && !off)
		take_back(t, f);
	long n = write ? io_write(t, f, &io, off, 0) : io_read(t, f, &io, off, 0);
	if (io.lent && !off) {
		t->lent_file = f;
		t->lent = n;
		if (!write && (uint64_t)n == count)
			stream_begin(t, fd, f);
	}
	return n;
}

long sys_read(struct task *t, int fd, uaddr_t buf, uint64_t count)
{
	return rw_buf(t, fd, buf, count, NULL, false);
}

long sys_write(struct task *t, int fd, uaddr_t buf, uint64_t count)
{
	return rw_buf(t, fd, buf, count, NULL, true);
}

long sys_pread64(struct task *t, int fd, uaddr_t buf, uint64_t count, int64_t offset)
{
	return offset < 0 ? -EINVAL : rw_buf(t, fd, buf, count, &offset, false);
}

long sys_pwrite64(struct task *t, int fd, uaddr_t buf, uint64_t count, int64_t offset)
{
	return offset < 0 ? -EINVAL : rw_buf(t, fd, buf, count, &offset, true);
}

/* ---- vectors ---- */

static long rw_vec(struct task *t, int fd, uaddr_t iov, uint64_t n, int64_t *off, int flags,
		   bool write)
{
	CLEANUP_FILE struct file *f = fdtable_file(t->fds, fd);
	CLEANUP_FREE struct uio_seg *many = NULL;
	struct uio_seg few[IOV_STACK];
	struct uio io;

	if (!f)
		return -EBADF;
	if (!(write ? file_writable(f) : file_readable(f)))
		return -EBADF;
	if (n > UIO_MAXIOV)
		return -EINVAL;
	if (n > IOV_STACK && !(many = malloc(n * sizeof(*many))))
		return -ENOMEM;
	int err = uio_import(&io, many ? many : few, &t->um, iov, n);
	if (err)
		return err;
	io.last = !write;
	return write ? io_write(t, f, &io, off, flags) : io_read(t, f, &io, off, flags);
}

long sys_readv(struct task *t, int fd, uaddr_t iov, uint64_t n)
{
	return rw_vec(t, fd, iov, n, NULL, 0, false);
}

long sys_writev(struct task *t, int fd, uaddr_t iov, uint64_t n)
{
	return rw_vec(t, fd, iov, n, NULL, 0, true);
}

/* On a 64-bit machine the low word is the whole position. */
long sys_preadv(struct task *t, int fd, uaddr_t iov, uint64_t n, uint64_t pos_lo, uint64_t pos_hi)
{
	int64_t off = (int64_t)pos_lo;

	(void)pos_hi;
	return off < 0 ? -EINVAL : rw_vec(t, fd, iov, n, &off, 0, false);
}

long sys_pwritev(struct task *t, int fd, uaddr_t iov, uint64_t n, uint64_t pos_lo, uint64_t pos_hi)
{
	int64_t off = (int64_t)pos_lo;

	(void)pos_hi;
	return off < 0 ? -EINVAL : rw_vec(t, fd, iov, n, &off, 0, true);
}

/* RWF_* as IO_*; -EOPNOTSUPP for what is not known. */
static int io_flags(int rwf, bool write)
{
	if (rwf & ~(RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND | RWF_NOAPPEND |
		    LINUX_RWF_DONTCACHE | LINUX_RWF_NOSIGNAL))
		return -EOPNOTSUPP;
	if ((rwf & (RWF_APPEND | RWF_NOAPPEND)) == (RWF_APPEND | RWF_NOAPPEND))
		return -EINVAL;
	return (rwf & RWF_NOWAIT ? IO_NONBLOCK : 0) | (write && rwf & RWF_APPEND ? IO_APPEND : 0) |
	       (write && rwf & RWF_NOAPPEND ? IO_NOAPPEND : 0) |
	       (rwf & (RWF_DSYNC | RWF_SYNC) ? IO_SYNC : 0) |
	       (rwf & LINUX_RWF_NOSIGNAL ? IO_NOSIGNAL : 0);
}

static long rw_vec2(struct task *t, int fd, uaddr_t iov, uint64_t n, int64_t off, int rwf,
		    bool write)
{
	int flags = io_flags(rwf, write);

	if (flags < 0)
		return flags;
	if (off < -1)
		return -EINVAL;
	if (rwf & LINUX_RWF_DONTCACHE) {
		CLEANUP_FILE struct file *f = fdtable_file(t->fds, fd);
		if (f && !f->ops->uncached)
			return -EOPNOTSUPP;
	}
	/* -1 means the file's own position. */
	return rw_vec(t, fd, iov, n, off == -1 ? NULL : &off, flags, write);
}

long sys_preadv2(struct task *t, int fd, uaddr_t iov, uint64_t n, uint64_t pos_lo, uint64_t pos_hi,
		 int flags)
{
	(void)pos_hi;
	return rw_vec2(t, fd, iov, n, (int64_t)pos_lo, flags, false);
}

long sys_pwritev2(struct task *t, int fd, uaddr_t iov, uint64_t n, uint64_t pos_lo, uint64_t pos_hi,
		  int flags)
{
	(void)pos_hi;
	return rw_vec2(t, fd, iov, n, (int64_t)pos_lo, flags, true);
}

/* ---- positions ---- */

long sys_lseek(struct task *t, int fd, int64_t offset, int whence)
{
	CLEANUP_FILE struct file *f = fdtable_file(t->fds, fd);

	if (!f)
		return -EBADF;
	if (!file_has_pos(f))
		return -ESPIPE;
	int err = task_sleep_lock(t, &f->pos_busy);
	if (err)
		return err;
	int64_t pos = file_seek(f, offset, whence);
	sleep_lock_release(&f->pos_busy);
	return pos;
}

/* ---- from file to file ---- */

struct copy {
	struct file *in, *out;
	int64_t *in_off, *out_off; /* NULL: the file's own position */
};

/* What the output did not take is not counted as read. */
static void copy_read_back(struct task *t, const struct copy *c, int64_t n)
{
	if (c->in_off)
		*c->in_off -= n;
	else
		pos_back(t, c->in, n);
}

/*
 * Moves up to count bytes through a buffer of ours.  Positions change as by read(2) and write(2) of
 * each piece: a copy that waits for its output does not hold up the readers of its input.  Bytes or
 * -errno, which is only returned when nothing was moved.
 */
static ssize_t copy_files(struct task *t, const struct copy *c, uint64_t count)
{
	CLEANUP_FREE char *buf = malloc(COPY_CHUNK);
	ssize_t total = 0;

	if (!buf)
		return -ENOMEM;
	while (count) {
		struct uio_seg seg;
		struct uio io;

		uio_init_kernel(&io, &seg, buf, MIN(count, (uint64_t)COPY_CHUNK));
		ssize_t n = io_read(t, c->in, &io, c->in_off, 0);
		if (n <= 0)
			return total ? total : n;
		uio_init_kernel(&io, &seg, buf, (uint64_t)n);
		ssize_t m = io_write(t, c->out, &io, c->out_off, 0);
		if (m < n)
			copy_read_back(t, c, n - MAX(m, 0));
		if (m < 0)
			return total ? total : m;
		total += m;
		count -= (uint64_t)m;
		if (m < n || signal_pending(t))
			break;
	}
	return total;
}

static int copy_in_off(struct task *t, uaddr_t from, int64_t *off)
{
	if (copy_in_val(&t->um, off, from))
		return -EFAULT;
	return *off < 0 ? -EINVAL : 0;
}

long sys_sendfile(struct task *t, int out_fd, int in_fd, uaddr_t offset, uint64_t count)
{
	CLEANUP_FILE struct file *in = fdtable_file(t->fds, in_fd);
	CLEANUP_FILE struct file *out = fdtable_file(t->fds, out_fd);
	bool own = uaddr_is_null(offset);
	int64_t off = 0;
	int err;

	if (!in || !out || !file_readable(in) || !file_writable(out))
		return -EBADF;
	if (!own && (err = copy_in_off(t, offset, &off)))
		return err;
	if (!own && !file_has_pos(in))
		return -ESPIPE;
	if (!file_has_pos(in) || out->flags & O_APPEND)
		return -EINVAL;
	if (inode_is_dir(in->inode))
		return -EINVAL;
	struct copy c = {in, out, own ? NULL : &off, NULL};
	ssize_t n = copy_files(t, &c, MIN(count, MAX_RW_COUNT));
	if (n >= 0 && !own && copy_out_val(&t->um, offset, &off))
		return -EFAULT;
	return n;
}

static int copy_range_check(const struct file *in, const struct file *out)
{
	if (!file_readable(in) || !file_writable(out) || out->flags & O_APPEND)
		return -EBADF;
	if (inode_is_dir(in->inode) || inode_is_dir(out->inode))
		return -EISDIR;
	if (!S_ISREG(in->inode->mode) || !S_ISREG(out->inode->mode))
		return -EINVAL;
	return 0;
}

long sys_copy_file_range(struct task *t, int in_fd, uaddr_t in_off, int out_fd, uaddr_t out_off,
			 uint64_t len, unsigned flags)
{
	CLEANUP_FILE struct file *in = fdtable_file(t->fds, in_fd);
	CLEANUP_FILE struct file *out = fdtable_file(t->fds, out_fd);
	int64_t from, to;
	int err;

	if (!in || !out)
		return -EBADF;
	from = in->pos;
	to = out->pos;
	if (!uaddr_is_null(in_off) && (err = copy_in_off(t, in_off, &from)))
		return err;
	if (!uaddr_is_null(out_off) && (err = copy_in_off(t, out_off, &to)))
		return err;
	if (flags)
		return -EINVAL;
	if ((err = copy_range_check(in, out)))
		return err;
	len = MIN(len, MAX_RW_COUNT);
	if (from > INT64_MAX - (int64_t)len || to > INT64_MAX - (int64_t)len)
		return -EOVERFLOW;
	if (in->inode == out->inode && from < to + (int64_t)len && to < from + (int64_t)len)
		return -EINVAL;
	struct copy c = {in, out, uaddr_is_null(in_off) ? NULL : &from,
			 uaddr_is_null(out_off) ? NULL : &to};
	ssize_t n = copy_files(t, &c, len);
	if (n < 0)
		return n;
	if ((c.in_off && copy_out_val(&t->um, in_off, &from)) ||
	    (c.out_off && copy_out_val(&t->um, out_off, &to)))
		return -EFAULT;
	return n;
}
