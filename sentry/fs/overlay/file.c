/*
 * Open files.  The real file is opened at its first use; one that was opened for reading before the
 * file was copied up goes on with the copy, as on Linux since 4.19.  Both real files stay open as
 * long as the overlay's does: mappings borrow their descriptors.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "sentry/fs/overlay/ovl.h"
#include "sentry/mm/uaccess.h"

/* What of the overlay's open flags means something to the real file. */
#define REAL_FLAGS (O_ACCMODE | O_APPEND | O_NONBLOCK | O_DSYNC | O_SYNC | O_DIRECT | O_LARGEFILE)

struct ovl_file {
	struct file *_Atomic lower, *_Atomic upper; /* references, set once */
};

static int real_file(struct file *f, struct file **out)
{
	struct ovl_file *of = f->priv;
	struct ovl_inode *oi = ovl_inode(f->inode);
	struct ovl_super *os = ovl_super(f->inode->sb);
	struct dentry *upper = ovl_upper(oi);
	struct file *_Atomic *slot = upper ? &of->upper : &of->lower;
	struct file *have = *slot;
	if (have) {
		*out = have;
		return 0;
	}
	struct path p = {os->upper_mnt, upper};
	if (!upper)
		p = (struct path){os->lower_mnt[oi->lower[0].layer], oi->lower[0].d};
	struct file *fresh;
	int err = file_open_quiet(p, (f->flags & REAL_FLAGS) | O_NOATIME, &fresh);
	if (err)
		return err;
	if (atomic_compare_exchange_strong(slot, &have, fresh)) {
		*out = fresh;
	} else {
		file_put(fresh);
		*out = have;
	}
	return 0;
}

static ssize_t ovl_read(struct file *f, struct uio *io, int64_t *off)
{
	struct file *real;
	int err = real_file(f, &real);
	return err ? err : file_read(real, io, off);
}

static ssize_t ovl_write(struct file *f, struct uio *io, int64_t *off)
{
	struct file *real;
	int err = real_file(f, &real);
	if (err)
		return err;
	ssize_t n = file_write(real, io, off, UINT64_MAX);
	ovl_copy_attr(ovl_inode(f->inode), false);
	return n;
}

static int64_t ovl_llseek(struct file *f, int64_t off, int whence)
{
	int64_t base = 0;
	struct file *real;
	int err;
	switch (whence) {
	case SEEK_SET:
		break;
	case SEEK_CUR:
		base = f->pos;
		break;
	case SEEK_END:
		base = f->inode->size;
		break;
	case SEEK_DATA:
	case SEEK_HOLE:
		if ((err = real_file(f, &real)))
			return err;
		return file_seek(real, off, whence);
	default:
		return -EINVAL;
	}
	if (__builtin_add_overflow(base, off, &off))
		return -EINVAL;
	return off < 0 ? -EINVAL : off;
}

static int ovl_map_fd(struct file *f, bool shared, int *fd)
{
	struct file *real;
	int err = real_file(f, &real);
	if (err)
		return err;
	return real->ops->map_fd ? real->ops->map_fd(real, shared, fd) : -ENODEV;
}

static int ovl_fsync(struct file *f, bool datasync)
{
	struct file *real;
	if (!ovl_upper(ovl_inode(f->inode)))
		return 0;
	int err = real_file(f, &real);
	return err ? err : file_fsync(real, datasync);
}

static int ovl_fallocate(struct file *f, int mode, int64_t off, int64_t len)
{
	struct file *real;
	int err = real_file(f, &real);
	if (err)
		return err;
	err = file_fallocate(real, mode, off, len);
	ovl_copy_attr(ovl_inode(f->inode), false);
	return err;
}

static int ovl_set_flags(struct file *f, int flags)
{
	struct ovl_file *of = f->priv;
	struct file *real[] = {of->lower, of->upper};
	for (size_t i = 0; i < ARRAY_SIZE(real); i++) {
		int err = real[i] ? file_set_flags(real[i], flags, O_APPEND | O_NONBLOCK | O_DIRECT)
				  : 0;
		if (err)
			return err;
	}
	return 0;
}

static void ovl_release(struct file *f)
{
	struct ovl_file *of = f->priv;
	file_put(of->lower);
	file_put(of->upper);
	free(of);
}

static const struct file_ops ovl_fops = {
	.read = ovl_read,
	.write = ovl_write,
	.llseek = ovl_llseek,
	.map_fd = ovl_map_fd,
	.fsync = ovl_fsync,
	.fallocate = ovl_fallocate,
	.set_flags = ovl_set_flags,
	.release = ovl_release,
};

int ovl_file_open(struct inode *in, struct dentry *d, struct file *f)
{
	(void)d;
	int err;
	if ((f->flags & O_ACCMODE) != O_RDONLY || (f->flags & O_TRUNC)) {
		err = ovl_copy_up(in, f->flags & O_TRUNC ? 0 : OVL_ALL);
		if (err)
			return err;
	}
	struct ovl_file *of = calloc(1, sizeof(*of));
	if (!of)
		return -ENOMEM;
	f->priv = of;
	/* Opening for writing can fail: now, not at the first write. */
	struct file *real;
	if (file_writable(f) && (err = real_file(f, &real))) {
		free(of);
		return err;
	}
	f->ops = &ovl_fops;
	return 0;
}
