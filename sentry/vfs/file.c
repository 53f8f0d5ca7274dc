/* struct file: life, and the checks that every read, write and seek needs. */
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "sentry/mm/uaccess.h"
#include "sentry/vfs/internal.h"

#define APPEND_LOCKS 16

void (*vfs_async_free)(struct file *f);

struct file *file_new(struct path p, int flags)
{
	struct file *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	ref_init(&f->ref, 1);
	f->path = path_get(p);
	f->inode = dentry_inode(p.dentry);
	f->flags = flags;
	sleep_lock_init(&f->pos_busy);
	list_init(&f->epolls);
	return f;
}

struct file *file_get(struct file *f)
{
	ref_get(&f->ref);
	return f;
}

void file_put(struct file *f)
{
	if (!f || !ref_put(&f->ref))
		return;
	notify_file(f, file_writable(f) ? IN_CLOSE_WRITE : IN_CLOSE_NOWRITE);
	notify_closed(f, NULL);
	epoll_file_gone(f);
	if (f->async)
		vfs_async_free(f);
	landlock_domain_put(f->owner_landlock);
	if (f->inode->flocks)
		flock_release_file(f);
	if (f->ops->release)
		f->ops->release(f);
	file_uncount(f);
	if (f->writer)
		mount_writer_put(f->path.mnt);
	path_put(f->path);
	free(f);
}

void file_put_p(struct file **f)
{
	file_put(*f);
}

/* ---- reading ---- */

/* Kinds whose empty reads and writes succeed without being looked at. */
static bool empty_io_is_nothing(const struct file *f)
{
	return (f->inode->mode & S_IFMT) != 0;
}

static int check_range(int64_t pos, uint64_t n)
{
	if (pos < 0)
		return -EINVAL;
	return n > (uint64_t)(INT64_MAX - pos) ? -EOVERFLOW : 0;
}

static ssize_t read_checked(struct file *f, struct uio *io, int64_t *off)
{
	if (!file_readable(f))
		return -EBADF;
	if (inode_is_dir(f->inode))
		return -EISDIR;
	if (!f->ops->read)
		return -EINVAL;
	if (f->ops->stream) {
		if (off)
			return -ESPIPE;
		return io->left || !empty_io_is_nothing(f) ? f->ops->read(f, io, NULL) : 0;
	}
	int64_t pos = off ? *off : f->pos;
	int err = check_range(pos, io->left);
	if (err)
		return err;
	if (!io->left && empty_io_is_nothing(f))
		return 0;
	io->at_pos = !off;
	ssize_t n = f->ops->read(f, io, &pos);
	if (n < 0)
		return n;
	if (off)
		*off = pos;
	else
		f->pos = pos;
	if (n > 0)
		path_accessed(f->path, f->flags);
	return n;
}

ssize_t file_read(struct file *f, struct uio *io, int64_t *off)
{
	ssize_t n = read_checked(f, io, off);

	if (n > 0)
		notify_file(f, IN_ACCESS);
	return n;
}

/* ---- writing ---- */

static int64_t inode_size(struct inode *in)
{
	struct kstat st;

	if (in->ops->getattr && !in->ops->getattr(in, &st))
		return (int64_t)st.size;
	mutex_lock(&in->lock, &lc_inode);
	int64_t size = (int64_t)in->size;
	mutex_unlock(&in->lock, &lc_inode);
	return size;
}

static ssize_t write_at(struct file *f, struct uio *io, int64_t *pos, uint64_t limit)
{
	uint64_t cut = 0;
	int err = check_range(*pos, io->left);

	if (err)
		return err == -EOVERFLOW ? -EINVAL : err; /* as rw_verify_area() of Linux */
	if (!io->left && empty_io_is_nothing(f))
		return 0;
	if (!S_ISREG(f->inode->mode))
		limit = INT64_MAX;
	limit = MIN(limit, (uint64_t)INT64_MAX);
	if ((uint64_t)*pos >= limit)
		return -EFBIG;
	/* What does not fit under the limit is not written, and not an error. */
	if (io->left > limit - (uint64_t)*pos) {
		cut = io->left - (limit - (uint64_t)*pos);
		io->left -= cut;
	}
	ssize_t n = f->ops->write(f, io, pos);
	io->left += cut;
	return n;
}

static int check_write(const struct file *f)
{
	if (!file_writable(f))
		return -EBADF;
	return f->ops->write ? 0 : -EINVAL;
}

static ssize_t append_checked(struct file *f, struct uio *io, bool move, uint64_t fsize_limit)
{
	int err = check_write(f);

	if (err)
		return err;
	if (f->ops->stream)
		return f->ops->write(f, io, NULL);
	int64_t pos = inode_size(f->inode);
	ssize_t n = write_at(f, io, &pos, fsize_limit);
	if (n >= 0 && move)
		f->pos = pos;
	return n;
}

ssize_t file_append(struct file *f, struct uio *io, bool move, uint64_t fsize_limit)
{
	ssize_t n = append_checked(f, io, move, fsize_limit);

	if (n > 0)
		notify_file(f, IN_MODIFY);
	return n;
}

static ssize_t write_checked(struct file *f, struct uio *io, int64_t *off, uint64_t fsize_limit)
{
	int err = check_write(f);

	if (err)
		return err;
	if (f->ops->stream) {
		if (off)
			return -ESPIPE;
		return io->left || !empty_io_is_nothing(f) ? f->ops->write(f, io, NULL) : 0;
	}
	int64_t pos = off ? *off : f->pos;
	if (off && pos < 0)
		return -EINVAL;
	if (f->flags & O_APPEND && !io->in_place)
		pos = inode_size(f->inode);
	io->at_pos = !off;
	ssize_t n = write_at(f, io, &pos, fsize_limit);
	if (n < 0)
		return n;
	if (off)
		*off = pos;
	else
		f->pos = pos;
	return n;
}

ssize_t file_write(struct file *f, struct uio *io, int64_t *off, uint64_t fsize_limit)
{
	ssize_t n = write_checked(f, io, off, fsize_limit);

	if (n > 0)
		notify_file(f, IN_MODIFY);
	return n;
}

static struct sleep_lock append_locks[APPEND_LOCKS];

static void append_locks_init(void)
{
	for (int i = 0; i < APPEND_LOCKS; i++)
		sleep_lock_init(&append_locks[i]);
}

struct sleep_lock *inode_append_lock(const struct inode *in)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, append_locks_init);
	return &append_locks[((uintptr_t)in >> 6) % APPEND_LOCKS];
}

/* ---- sentry memory ---- */

ssize_t file_pread(struct file *f, void *buf, size_t n, int64_t off)
{
	struct uio_seg seg;
	struct uio io;

	uio_init_kernel(&io, &seg, buf, n);
	return file_read(f, &io, &off);
}

ssize_t file_pwrite(struct file *f, const void *buf, size_t n, int64_t off)
{
	struct uio_seg seg;
	struct uio io;

	uio_init_kernel(&io, &seg, (void *)buf, n);
	return file_write(f, &io, &off, UINT64_MAX);
}

/* ---- positions ---- */

static int64_t seek_by_size(struct file *f, int64_t off, int whence)
{
	int64_t base = 0, size;

	switch (whence) {
	case SEEK_SET:
		break;
	case SEEK_CUR:
		base = f->pos;
		break;
	case SEEK_END:
		base = inode_size(f->inode);
		break;
	case SEEK_DATA:
	case SEEK_HOLE:
		size = inode_size(f->inode);
		if (off < 0 || off >= size)
			return -ENXIO;
		return whence == SEEK_DATA ? off : size;
	default:
		return -EINVAL;
	}
	int64_t pos;
	if (__builtin_add_overflow(base, off, &pos))
		return -EINVAL;
	return pos < 0 ? -EINVAL : pos;
}

int64_t file_seek(struct file *f, int64_t off, int whence)
{
	if (f->ops->stream)
		return -ESPIPE;
	int64_t pos =
		f->ops->llseek ? f->ops->llseek(f, off, whence) : seek_by_size(f, off, whence);
	if (pos >= 0)
		f->pos = pos;
	return pos;
}

/* ---- directories ---- */

uint64_t dir_parent_ino(const struct file *f)
{
	mutex_lock(&dcache_lock, &lc_dcache);
	struct inode *parent = f->path.dentry->parent->inode;
	uint64_t ino = parent ? parent->ino : f->inode->ino;
	mutex_unlock(&dcache_lock, &lc_dcache);
	return ino;
}

bool dir_emit_dots(struct file *f, struct dir_context *ctx, int64_t *off)
{
	if (*off == 0) {
		if (!ctx->emit(ctx, ".", 1, 1, f->inode->ino, S_IFDIR >> 12))
			return false;
		*off = 1;
	}
	if (*off == 1) {
		if (!ctx->emit(ctx, "..", 2, 2, dir_parent_ino(f), S_IFDIR >> 12))
			return false;
		*off = 2;
	}
	return true;
}

int file_readdir(struct file *f, struct dir_context *ctx)
{
	if (!f->ops->readdir)
		return -ENOTDIR;
	if (f->inode->dead)
		return -ENOENT;
	int64_t off = f->pos;
	int err = f->ops->readdir(f, ctx, &off);
	f->pos = off;
	if (!err) {
		path_accessed(f->path, f->flags);
		notify_file(f, IN_ACCESS);
	}
	return err;
}

/* ---- the rest ---- */

uint32_t file_poll(struct file *f)
{
	return f->ops->poll ? f->ops->poll(f) : POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM;
}

struct waitq *file_waitq(struct file *f)
{
	return f->ops->waitq ? f->ops->waitq(f) : NULL;
}

int file_fsync(struct file *f, bool datasync)
{
	if (f->ops->fsync)
		return f->ops->fsync(f, datasync);
	return inode_is_dir(f->inode) ? 0 : -EINVAL;
}

int file_fallocate(struct file *f, int mode, int64_t off, int64_t len)
{
	const int known = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_COLLAPSE_RANGE |
			  FALLOC_FL_ZERO_RANGE | FALLOC_FL_INSERT_RANGE | FALLOC_FL_UNSHARE_RANGE;
	uint32_t type = f->inode->mode & S_IFMT;

	if (off < 0 || len <= 0)
		return -EINVAL;
	if (mode & ~known)
		return -EOPNOTSUPP;
	if (mode & FALLOC_FL_PUNCH_HOLE && !(mode & FALLOC_FL_KEEP_SIZE))
		return -EOPNOTSUPP;
	if (!file_writable(f))
		return -EBADF;
	if (type == S_IFIFO)
		return -ESPIPE;
	if (type == S_IFDIR)
		return -EISDIR;
	if (type != S_IFREG && type != S_IFBLK)
		return -ENODEV;
	if (len > INT64_MAX - off)
		return -EFBIG;
	int err = f->ops->fallocate ? f->ops->fallocate(f, mode, off, len) : -EOPNOTSUPP;
	if (!err)
		notify_file(f, IN_MODIFY);
	return err;
}

int file_set_flags(struct file *f, int flags, int mask)
{
	int new = (f->flags & ~mask) | (flags & mask);
	int err = f->ops->set_flags ? f->ops->set_flags(f, new) : 0;

	if (!err)
		f->flags = new;
	return err;
}
