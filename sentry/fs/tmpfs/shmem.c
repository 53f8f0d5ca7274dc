/* Unnamed files: one unlimited instance that nobody sees. */
#include <errno.h>
#include <fcntl.h>

#include "sentry/fs/tmpfs/node.h"

static struct super_block *shmem_sb;

int tmpfs_init(void)
{
	tmpfs_backing_init();
	return shmem_sb ? 0 : tmpfs_mount("size=0,nr_inodes=0", &shmem_sb);
}

static ssize_t no_io(struct file *f, struct uio *io, int64_t *off)
{
	(void)f, (void)io, (void)off;
	return -EINVAL;
}

static int secret_map_fd(struct file *f, bool shared, int *fd)
{
	return shared ? tmpfs_file_fops.map_fd(f, shared, fd) : -EINVAL;
}

static const struct file_ops secret_fops = {
	.read = no_io,
	.write = no_io,
	.stream = true,
	.map_fd = secret_map_fd,
	.map_secret = true,
};

static int huge_map_fd(struct file *f, bool shared, int *fd)
{
	(void)f, (void)shared, (void)fd;
	return -ENOMEM;
}

static const struct file_ops huge_fops = {.map_fd = huge_map_fd};

int shmem_file_create(const char *name, uint64_t size, uint32_t mode, unsigned flags,
		      struct file **out)
{
	if (!shmem_sb)
		return -ENOSYS;
	struct inode *in;
	int err = tmpfs_inode_new(shmem_sb, NULL, S_IFREG | (mode & 07777), 0, NULL, &in);
	if (err)
		return err;
	struct tmpfs_inode *ti = tmpfs_inode(in);
	in->nlink = 0;
	if ((err = tmpfs_data_truncate(ti, size))) {
		inode_put(in);
		return err;
	}
	if (flags & SHMEM_NOEXEC_SEAL) {
		in->mode &= ~0111;
		ti->data.seals = LINUX_F_SEAL_EXEC;
	} else if (flags & SHMEM_SEALABLE) {
		ti->data.seals = 0;
	}
	ti->data.secret = flags & SHMEM_SECRET;
	const struct file_ops *ops = flags & SHMEM_SECRET ? &secret_fops
				     : flags & SHMEM_HUGE ? &huge_fops
							  : &tmpfs_file_fops;
	return file_new_anon(in, name, ops, NULL, O_RDWR, out);
}

int shmem_zero_setup(uint64_t size, struct file **out)
{
	return shmem_file_create("/dev/zero (deleted)", size, 0777, 0, out);
}
