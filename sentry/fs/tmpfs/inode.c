/* Inodes: making, attributes, freeing, and the tables of operations. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/fs/tmpfs/node.h"
#include "sentry/lib/slab.h"

static struct slab inodes = SLAB_INIT(sizeof(struct tmpfs_inode));

int tmpfs_inode_new(struct super_block *sb, struct inode *dir, uint32_t mode, uint64_t rdev,
		    const struct cred *c, struct inode **out)
{
	struct tmpfs_super *ts = tmpfs_super(sb);
	int err = tmpfs_charge_inode(ts);
	if (err)
		return err;
	struct tmpfs_inode *ti = slab_alloc(&inodes);
	if (!ti) {
		ts->inodes--;
		return -ENOMEM;
	}
	const struct inode_ops *ops = &tmpfs_special_iops;
	if (S_ISDIR(mode))
		ops = &tmpfs_dir_iops;
	else if (S_ISREG(mode))
		ops = &tmpfs_file_iops;
	else if (S_ISLNK(mode))
		ops = &tmpfs_link_iops;

	bool inherit = dir && (dir->mode & S_ISGID);
	if (inherit && S_ISDIR(mode))
		mode |= S_ISGID;
	inode_init(&ti->in, sb, ops, ++ts->last_ino, mode, c);
	if (inherit)
		ti->in.gid = dir->gid;
	ti->in.nlink = S_ISDIR(mode) ? 2 : 1;
	ti->in.rdev = rdev;
	if (S_ISDIR(mode))
		tmpfs_dir_init(ti);
	else if (S_ISREG(mode))
		tmpfs_data_init(ti);
	*out = &ti->in;
	return 0;
}

void tmpfs_free(struct inode *in)
{
	struct tmpfs_inode *ti = tmpfs_inode(in);
	struct tmpfs_super *ts = tmpfs_super(in->sb);
	if (S_ISDIR(in->mode))
		tmpfs_dir_fini(ti);
	else if (S_ISREG(in->mode))
		tmpfs_data_fini(ti);
	else if (S_ISLNK(in->mode))
		free(ti->target);
	tmpfs_xattr_fini(ti);
	ts->inodes--;
	slab_free(&inodes, ti);
}

int tmpfs_getattr(struct inode *in, struct kstat *st)
{
	if (S_ISREG(in->mode))
		tmpfs_data_recount(tmpfs_inode(in));
	inode_fill_stat(in, st);
	st->blksize = PAGE_SIZE;
	return 0;
}

int tmpfs_setattr(struct inode *in, const struct iattr *a)
{
	struct iattr rest = *a;
	if (a->valid & ATTR_SIZE) {
		int err = tmpfs_data_truncate(tmpfs_inode(in), a->size);
		if (err)
			return err;
		rest.valid &= ~ATTR_SIZE;
	}
	if (S_ISREG(in->mode) && (a->valid & ATTR_MODE)) {
		struct tmpfs_inode *ti = tmpfs_inode(in);
		mutex_lock(&in->data_lock, &lc_inode_data);
		bool sealed = (ti->data.seals & LINUX_F_SEAL_EXEC) && ((a->mode ^ in->mode) & 0111);
		mutex_unlock(&in->data_lock, &lc_inode_data);
		if (sealed)
			return -EPERM;
	}
	if (rest.valid)
		inode_apply_attr(in, &rest);
	return 0;
}

static ssize_t link_readlink(struct inode *in, char *buf, size_t size)
{
	size_t n = MIN(strlen(tmpfs_inode(in)->target), size);
	memcpy(buf, tmpfs_inode(in)->target, n);
	return n;
}

static int file_open(struct inode *in, struct dentry *d, struct file *f)
{
	(void)d;
	if (tmpfs_inode(in)->data.secret)
		return -ENXIO;
	f->ops = &tmpfs_file_fops;
	return 0;
}

const struct inode_ops tmpfs_file_iops = {
	.open = file_open,
	.getattr = tmpfs_getattr,
	.setattr = tmpfs_setattr,
	.getxattr = tmpfs_getxattr,
	.setxattr = tmpfs_setxattr,
	.listxattr = tmpfs_listxattr,
	.removexattr = tmpfs_removexattr,
	.forget = tmpfs_forget,
	.free = tmpfs_free,
};

const struct inode_ops tmpfs_link_iops = {
	.readlink = link_readlink,
	.getxattr = tmpfs_getxattr,
	.setxattr = tmpfs_setxattr,
	.listxattr = tmpfs_listxattr,
	.removexattr = tmpfs_removexattr,
	.free = tmpfs_free,
};

/* FIFOs, sockets and devices: what opening them means is not a file system's business. */
const struct inode_ops tmpfs_special_iops = {
	.getxattr = tmpfs_getxattr,
	.setxattr = tmpfs_setxattr,
	.listxattr = tmpfs_listxattr,
	.removexattr = tmpfs_removexattr,
	.free = tmpfs_free,
};
