/* Open regular files. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <unistd.h>

#include "sentry/fs/tmpfs/node.h"
#include "sentry/mm/uaccess.h"

/*
 * Guest memory is never touched under a lock, so bytes pass through a buffer: of this size on the
 * stack, else from the heap.  One write up to WRITE_CHUNK is one change of the file, as on Linux.
 */
#define STACK_CHUNK 4096
#define READ_CHUNK (64UL << 10)
#define WRITE_CHUNK (1UL << 20)

static ssize_t read_part(struct tmpfs_inode *ti, struct uio *io, int64_t *off, void *buf, size_t n)
{
	ssize_t got = tmpfs_data_read(ti, buf, n, *off);
	if (got == -EREMOTE)
		return uio_host_read(io, ti->data.memfd, off);
	if (got <= 0)
		return got;
	got = uio_put(io, buf, got);
	if (got > 0)
		*off += got;
	return got;
}

/* Repeats a step until the buffer is through or it moves less than it could. */
static ssize_t read_all(struct tmpfs_inode *ti, struct uio *io, int64_t *off, void *buf,
			size_t size)
{
	ssize_t total = 0;
	while (io->left) {
		size_t n = MIN(io->left, size);
		ssize_t got = read_part(ti, io, off, buf, n);
		if (got < 0)
			return total ? total : got;
		total += got;
		if ((size_t)got < n)
			break;
	}
	return total;
}

static ssize_t read_here(struct tmpfs_inode *ti, struct uio *io, int64_t *off, size_t n)
{
	if (n <= STACK_CHUNK) {
		char buf[STACK_CHUNK];
		return read_all(ti, io, off, buf, sizeof(buf));
	}
	size_t chunk = MIN(n, READ_CHUNK);
	char *buf = malloc(chunk);
	if (!buf)
		return -ENOMEM;
	ssize_t got = read_all(ti, io, off, buf, chunk);
	free(buf);
	return got;
}

static ssize_t file_read_op(struct file *f, struct uio *io, int64_t *off)
{
	struct tmpfs_inode *ti = tmpfs_inode(f->inode);
	uint64_t size = f->inode->size;
	if (*off < 0 || (uint64_t)*off >= size)
		return 0;
	size_t done = tmpfs_lend_read(ti, io, off);
	if (done && (io->lent || !io->left))
		return (ssize_t)done;
	size = (uint64_t)*off < size ? size - (uint64_t)*off : 0;
	ssize_t n = read_here(ti, io, off, MIN(io->left, size));
	return done ? (ssize_t)done + MAX(n, 0) : n;
}

static ssize_t write_all(struct file *f, struct uio *io, int64_t *off, void *buf, size_t size)
{
	struct tmpfs_inode *ti = tmpfs_inode(f->inode);
	bool append = f->flags & O_APPEND && !io->in_place;
	ssize_t total = 0;
	while (io->left) {
		size_t want = MIN(io->left, size);
		ssize_t n = uio_get(io, buf, want);
		if (n <= 0)
			return total ? total : n;
		uint64_t at = *off;
		ssize_t done = tmpfs_data_write(ti, buf, n, append, &at);
		if (done < n)
			uio_revert(io, done < 0 ? n : n - done);
		if (done < 0)
			return total ? total : done;
		*off = at + done;
		total += done;
		if (done < n || (size_t)n < want)
			break;
	}
	return total;
}

static ssize_t write_here(struct file *f, struct uio *io, int64_t *off)
{
	if (io->left <= STACK_CHUNK) {
		char buf[STACK_CHUNK];
		return write_all(f, io, off, buf, sizeof(buf));
	}
	size_t chunk = MIN(io->left, WRITE_CHUNK);
	char *buf = malloc(chunk);
	if (!buf)
		return -ENOMEM;
	ssize_t n = write_all(f, io, off, buf, chunk);
	free(buf);
	return n;
}

static ssize_t file_write_op(struct file *f, struct uio *io, int64_t *off)
{
	bool append = f->flags & O_APPEND && !io->in_place;
	size_t done =
		append ? 0 : tmpfs_lend_write(tmpfs_inode(f->inode), !file_readable(f), io, off);
	if (done && !io->left)
		return (ssize_t)done;
	ssize_t n = write_here(f, io, off);
	return done ? (ssize_t)done + MAX(n, 0) : n;
}

static int64_t file_llseek(struct file *f, int64_t off, int whence)
{
	switch (whence) {
	case SEEK_SET:
		break;
	case SEEK_CUR:
		if (__builtin_add_overflow(off, (int64_t)f->pos, &off))
			return -EINVAL;
		break;
	case SEEK_END:
		if (__builtin_add_overflow(off, (int64_t)f->inode->size, &off))
			return -EINVAL;
		break;
	case SEEK_DATA:
	case SEEK_HOLE:
		return tmpfs_data_seek(tmpfs_inode(f->inode), off, whence);
	default:
		return -EINVAL;
	}
	return off < 0 ? -EINVAL : off;
}

static int file_map_fd(struct file *f, bool shared, int *fd)
{
	return tmpfs_map_fd(tmpfs_inode(f->inode), file_writable(f), shared, fd);
}

static int file_fsync_op(struct file *f, bool datasync)
{
	(void)f, (void)datasync;
	return 0;
}

static int file_fallocate_op(struct file *f, int mode, int64_t off, int64_t len)
{
	return tmpfs_data_fallocate(tmpfs_inode(f->inode), mode, off, len);
}

static long file_fcntl_op(struct file *f, struct task *t, unsigned cmd, uint64_t arg)
{
	(void)t;
	struct tmpfs_inode *ti = tmpfs_inode(f->inode);
	switch (cmd) {
	case F_ADD_SEALS:
		return file_writable(f) ? tmpfs_add_seals(ti, (unsigned)arg) : -EPERM;
	case F_GET_SEALS:
		mutex_lock(&f->inode->data_lock, &lc_inode_data);
		long seals = ti->data.seals;
		mutex_unlock(&f->inode->data_lock, &lc_inode_data);
		return seals;
	case F_SETPIPE_SZ:
	case F_GETPIPE_SZ:
		return -EBADF;
	default:
		return -EINVAL;
	}
}

/* Nothing of what these ioctls speak of is kept: there are no flags, and none can be set. */
long tmpfs_ioctl(struct file *f, struct task *t, unsigned cmd, uint64_t arg)
{
	struct fsxattr x = {0};
	int32_t flags = 0;
	bool set = cmd == FS_IOC_SETFLAGS || cmd == FS_IOC_FSSETXATTR;

	switch (cmd) {
	case FS_IOC_GETFLAGS:
		return copy_out_val(task_umem(t), UADDR(arg), &flags);
	case FS_IOC_FSGETXATTR:
		return copy_out_val(task_umem(t), UADDR(arg), &x);
	case FS_IOC_SETFLAGS:
		if (copy_in_val(task_umem(t), &flags, UADDR(arg)))
			return -EFAULT;
		break;
	case FS_IOC_FSSETXATTR:
		if (copy_in_val(task_umem(t), &x, UADDR(arg)))
			return -EFAULT;
		flags = x.fsx_xflags || x.fsx_extsize || x.fsx_projid || x.fsx_cowextsize;
		break;
	default:
		return -ENOTTY;
	}
	if (set && f->inode->sb->readonly)
		return -EROFS;
	return flags ? -EOPNOTSUPP : 0;
}

const struct file_ops tmpfs_file_fops = {
	.ioctl = tmpfs_ioctl,
	.read = file_read_op,
	.write = file_write_op,
	.llseek = file_llseek,
	.map_fd = file_map_fd,
	.fsync = file_fsync_op,
	.fallocate = file_fallocate_op,
	.fcntl = file_fcntl_op,
};
