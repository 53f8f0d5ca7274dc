/* Messages of the server's own: what it knows to have changed. */
#include <errno.h>
#include <stdlib.h>

#include "sentry/fs/fuse/node.h"
#include "sentry/mm/uaccess.h"

#define NAME_LIMIT 1024

static int take(struct uio *io, void *to, size_t n)
{
	if (io->left < n)
		return -EINVAL;
	return uio_get(io, to, n) == (ssize_t)n ? 0 : -EFAULT;
}

/* The super block, kept while the answer is looked for; NULL: it is gone. */
static struct fuse_fs *fs_get(struct fuse_conn *fc)
{
	mutex_lock(&fc->lock, &lc_fuse);
	struct super_block *sb = fc->sb;
	if (sb && !ref_get_unless_zero(&sb->ref))
		sb = NULL;
	mutex_unlock(&fc->lock, &lc_fuse);
	return sb ? fs_of(sb) : NULL;
}

static int inval_inode(struct fuse_fs *fs, struct uio *io)
{
	struct fuse_notify_inval_inode_out m;
	int err = take(io, &m, sizeof(m));

	if (err || io->left)
		return err ? err : -EINVAL;
	struct fuse_node *n = fuse_node_find(fs, m.ino);
	if (!n)
		return -ENOENT;
	fuse_attr_expire(n);
	if (m.off >= 0)
		fuse_cache_drop(n, (uint64_t)m.off, m.len > 0 ? (uint64_t)m.len : 0);
	inode_put(&n->in);
	return 0;
}

/* All names of the directory are asked about again. */
static int inval_names(struct fuse_fs *fs, uint64_t parent)
{
	struct fuse_node *n = fuse_node_find(fs, parent);

	if (!n)
		return -ENOENT;
	bool is_dir = S_ISDIR(n->in.mode);
	atomic_fetch_add(&n->entries_epoch, 1);
	fuse_attr_expire(n);
	inode_put(&n->in);
	return is_dir ? 0 : -ENOTDIR;
}

static int check_name(struct uio *io, uint32_t namelen)
{
	if (namelen > NAME_LIMIT)
		return -ENAMETOOLONG;
	return io->left == (uint64_t)namelen + 1 ? 0 : -EINVAL;
}

static int inval_entry(struct fuse_fs *fs, struct uio *io)
{
	struct fuse_notify_inval_entry_out m;
	int err = take(io, &m, sizeof(m));

	if (!err)
		err = check_name(io, m.namelen);
	return err ? err : inval_names(fs, m.parent);
}

static int removed(struct fuse_fs *fs, struct uio *io)
{
	struct fuse_notify_delete_out m;
	int err = take(io, &m, sizeof(m));

	if (!err)
		err = check_name(io, m.namelen);
	if (err || (err = inval_names(fs, m.parent)))
		return err;
	struct fuse_node *n = fuse_node_find(fs, m.child);
	if (n) {
		fuse_attr_expire(n);
		inode_put(&n->in);
	}
	return 0;
}

int fuse_notify(struct fuse_conn *fc, int code, struct uio *io)
{
	struct fuse_fs *fs = fs_get(fc);
	int err;

	if (!fs)
		return -ENOENT;
	switch (code) {
	case FUSE_NOTIFY_INVAL_INODE:
		err = inval_inode(fs, io);
		break;
	case FUSE_NOTIFY_INVAL_ENTRY:
		err = inval_entry(fs, io);
		break;
	case FUSE_NOTIFY_DELETE:
		err = removed(fs, io);
		break;
	default:
		err = -EINVAL;
	}
	super_put(&fs->sb);
	return err;
}
