/* Open regular files: data goes through the donated descriptors. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sentry/fs/gofer/client.h"
#include "sentry/lib/cleanup.h"
#include "sentry/mm/uaccess.h"
#include "sentry/vfs/file.h"

#define SMALL_WRITE 4096  /* bounced on the stack */
#define BOUNCE_SIZE 65536 /* otherwise */

/* Direct I/O is buffered here, but asks for what the host would ask for. */
static bool is_misaligned(const struct file *f, const struct uio *io, int64_t off)
{
	const struct gofer_inode *gi = gi_of(f->inode);
	uint64_t mask = gi->dio_align ? gi->dio_align - 1 : 0;

	if (!(f->flags & O_DIRECT))
		return false;
	for (size_t i = io->seg; i < io->nsegs; i++)
		if (io->segs[i].len & mask)
			return true;
	return ((uint64_t)off | io->left) & mask;
}

/*
 * Reads use whichever descriptor there is, since no guest sees which: what a guest may map is
 * chosen in map_fd.
 */
static ssize_t gofer_file_read(struct file *f, struct uio *io, int64_t *off)
{
	struct gofer_inode *gi = gi_of(f->inode);

	if (is_misaligned(f, io, *off))
		return -EINVAL;
	size_t done = gofer_lend_read(gi, io, off);
	if (done && (io->lent || !io->left))
		return (ssize_t)done;
	ssize_t n = uio_host_read(io, gofer_io_fd(gi), off);
	return done ? (ssize_t)done + MAX(n, 0) : n;
}

/*
 * One piece, already copied from the guest: to the host and into the size, as one step against
 * other writes and truncations.  An append goes to where the host's file ends, which somebody
 * else may have moved.
 */
static ssize_t write_piece(struct file *f, const void *buf, size_t n, bool append, int64_t *off)
{
	struct gofer_inode *gi = gi_of(f->inode);
	int fd = atomic_load(&gi->rw_fd);
	struct stat st;

	mutex_lock(&gi->in.data_lock, &lc_inode_data2);
	uint32_t mode = gi->in.mode;
	if (append)
		*off = gi_shared(gi) && gofer_fstat(fd, &st) == 0 ? st.st_size
								  : (int64_t)gi->in.size;
	ssize_t r = pwrite(fd, buf, n, *off);
	if (r < 0) {
		r = -errno;
	} else if (r > 0) {
		*off += r;
		mutex_lock(&gi->in.lock, &lc_inode);
		if ((uint64_t)*off > gi->in.size)
			gi->in.size = (uint64_t)*off;
		mutex_unlock(&gi->in.lock, &lc_inode);
		gofer_changed(gi);
		gofer_keep_privs(gi, mode);
	}
	mutex_unlock(&gi->in.data_lock, &lc_inode_data2);
	return r;
}

static ssize_t write_all(struct file *f, struct uio *io, int64_t *off, void *buf, size_t room)
{
	bool append = atomic_load(&f->flags) & O_APPEND && !io->in_place;
	ssize_t done = 0;

	while (io->left) {
		ssize_t n = uio_get(io, buf, MIN(io->left, room));
		if (n <= 0)
			return done ? done : n;
		ssize_t r = write_piece(f, buf, (size_t)n, append, off);
		if (r < n)
			uio_revert(io, (size_t)(n - (r > 0 ? r : 0)));
		if (r < 0)
			return done ? done : r;
		done += r;
		if (r < n)
			break;
	}
	return done;
}

static ssize_t write_here(struct file *f, struct uio *io, int64_t *off)
{
	if (io->left <= SMALL_WRITE) {
		char small[SMALL_WRITE];
		return write_all(f, io, off, small, sizeof(small));
	}
	CLEANUP_FREE char *buf = malloc(BOUNCE_SIZE);
	if (!buf)
		return -ENOMEM;
	return write_all(f, io, off, buf, BOUNCE_SIZE);
}

static ssize_t gofer_file_write(struct file *f, struct uio *io, int64_t *off)
{
	bool append = atomic_load(&f->flags) & O_APPEND && !io->in_place;

	if (is_misaligned(f, io, *off))
		return -EINVAL;
	size_t done = append ? 0 : gofer_lend_write(gi_of(f->inode), !file_readable(f), io, off);
	if (done && !io->left)
		return (ssize_t)done;
	ssize_t n = write_here(f, io, off);
	return done ? (ssize_t)done + MAX(n, 0) : n;
}

/* The host's own position of the descriptor is used by nothing else. */
static int64_t seek_data(struct gofer_inode *gi, int64_t off, int whence)
{
	off_t r = lseek(gofer_io_fd(gi), off, whence);

	return r < 0 ? -errno : r;
}

static int64_t gofer_file_llseek(struct file *f, int64_t off, int whence)
{
	struct gofer_inode *gi = gi_of(f->inode);
	int64_t base = 0;

	switch (whence) {
	case SEEK_SET:
		break;
	case SEEK_CUR:
		base = f->pos;
		break;
	case SEEK_END: {
		int err = gofer_refresh(gi);
		if (err)
			return err;
		mutex_lock(&gi->in.lock, &lc_inode);
		base = (int64_t)gi->in.size;
		mutex_unlock(&gi->in.lock, &lc_inode);
		break;
	}
	case SEEK_DATA:
	case SEEK_HOLE:
		return off < 0 ? -ENXIO : seek_data(gi, off, whence);
	default:
		return -EINVAL;
	}
	int64_t pos;
	if (__builtin_add_overflow(base, off, &pos))
		return -EINVAL;
	return pos < 0 ? -EINVAL : pos;
}

/* Design rule 1: what is mapped has exactly the access mode of the guest's own open. */
static int gofer_file_map_fd(struct file *f, bool shared, int *fd)
{
	struct gofer_inode *gi = gi_of(f->inode);

	if (shared && file_writable(f)) {
		atomic_store(&gi->written_by_map, true);
		gofer_changed(gi);
		*fd = atomic_load(&gi->rw_fd);
		return 0;
	}
	int err = gofer_need_fds(gi, GOFER_OPEN_READ);
	if (!err)
		*fd = atomic_load(&gi->ro_fd);
	return err;
}

static int gofer_file_fsync(struct file *f, bool datasync)
{
	struct gofer_inode *gi = gi_of(f->inode);
	int fd = gofer_io_fd(gi);

	conn_block_begin(gi_conn(gi));
	int err = (datasync ? fdatasync(fd) : fsync(fd)) ? -errno : 0;
	conn_block_end(gi_conn(gi));
	return err;
}

static int gofer_file_fallocate(struct file *f, int mode, int64_t off, int64_t len)
{
	struct gofer_inode *gi = gi_of(f->inode);
	int fd = atomic_load(&gi->rw_fd);
	struct stat st;

	conn_block_begin(gi_conn(gi));
	mutex_lock(&gi->in.data_lock, &lc_inode_data2);
	uint32_t perms = gi->in.mode;
	int err = fallocate(fd, mode, off, len) ? -errno : 0;
	if (gofer_fstat(fd, &st) == 0) {
		mutex_lock(&gi->in.lock, &lc_inode);
		gi->in.size = (uint64_t)st.st_size;
		mutex_unlock(&gi->in.lock, &lc_inode);
	}
	gofer_changed(gi);
	mutex_unlock(&gi->in.data_lock, &lc_inode_data2);
	conn_block_end(gi_conn(gi));
	gofer_keep_privs(gi, perms);
	return err;
}

static void gofer_file_release(struct file *f)
{
	gofer_unpin(gi_of(f->inode));
	if (file_writable(f))
		gofer_own_close(gi_of(f->inode), f->path.dentry);
}

static const struct file_ops gofer_file_ops = {
	.uncached = true,
	.read = gofer_file_read,
	.write = gofer_file_write,
	.llseek = gofer_file_llseek,
	.map_fd = gofer_file_map_fd,
	.fsync = gofer_file_fsync,
	.fallocate = gofer_file_fallocate,
	.release = gofer_file_release,
};

int gofer_open_file(struct inode *in, struct dentry *d, struct file *f)
{
	struct gofer_inode *gi = gi_of(in);
	unsigned what = file_writable(f) ? GOFER_OPEN_WRITE : GOFER_OPEN_READ;

	(void)d;
	if (what == GOFER_OPEN_WRITE && in->sb->readonly)
		return -EROFS;
	gofer_pin(gi);
	if (what == GOFER_OPEN_READ && gofer_io_fd(gi) < 0 && !atomic_load(&gi->node))
		gofer_open_ahead(gi);
	/* Any descriptor will do for reading. */
	int err = what == GOFER_OPEN_READ && gofer_io_fd(gi) >= 0 ? 0 : gofer_need_fds(gi, what);
	if (err) {
		gofer_unpin(gi);
		return err;
	}
	f->ops = &gofer_file_ops;
	return 0;
}
