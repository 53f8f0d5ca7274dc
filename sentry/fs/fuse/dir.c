/* Names: looking up, making, removing, renaming. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>

#include "sentry/fs/fuse/node.h"
#include "sentry/lib/cleanup.h"
#include "sentry/time/ktimer.h"

/*
 * A dentry remembers until when it holds, in ms, and the epoch of its directory in which it was
 * learnt, in one word, so that walks read it without a lock.
 */
#define EPOCH_BITS 16
#define MS 1000000

static void dentry_learnt(struct dentry *d, struct inode *dir, int64_t until)
{
	uint64_t ms = MIN((uint64_t)until / MS, UINT64_MAX >> EPOCH_BITS);
	uint64_t word = ms << EPOCH_BITS | atomic_load(&node_of(dir)->entries_epoch);

	__atomic_store_n(&d->priv, (void *)word, __ATOMIC_RELAXED);
}

static bool dentry_holds(const struct dentry *d, struct inode *dir)
{
	uint64_t word = (uint64_t)__atomic_load_n(&d->priv, __ATOMIC_RELAXED);

	return (uint16_t)word == atomic_load(&node_of(dir)->entries_epoch) &&
	       word >> EPOCH_BITS > (uint64_t)time_monotonic() / MS;
}

static int64_t entry_until(const struct fuse_entry_out *e)
{
	return fuse_until(e->entry_valid, e->entry_valid_nsec);
}

static int ask_lookup(struct inode *dir, const char *name, size_t len, struct fuse_entry_out *e)
{
	struct fuse_req *r = fuse_req_new(conn_of(dir), FUSE_LOOKUP, node_of(dir)->nodeid);

	fuse_req_add_name(r, name, len);
	return fuse_call(r, e, sizeof(*e));
}

static int dir_lookup(struct inode *dir, struct dentry *d)
{
	struct fuse_fs *fs = fs_of(dir->sb);
	struct fuse_entry_out e;
	struct inode *in;

	uint64_t version = atomic_load(&fs->fc->attr_version);
	int err = ask_lookup(dir, d->name, d->name_len, &e);
	if (err == -ENOENT || (!err && !e.nodeid)) {
		dentry_learnt(d, dir, err ? 0 : entry_until(&e));
		return 0;
	}
	if (err || (err = fuse_node_get(fs, &e, version, &in)))
		return err;
	dentry_learnt(d, dir, entry_until(&e));
	dentry_instantiate(d, in);
	return 0;
}

/* Asks whether the name is still the same file. */
static int look_again(struct dentry *d)
{
	char name[VFS_NAME_MAX + 1];
	struct fuse_entry_out e;
	struct dentry *parent = dentry_get_parent(d, name);
	struct inode *dir = parent->inode, *in = d->inode;
	struct fuse_fs *fs = fs_of(d->sb);
	int ret = 0;

	uint64_t version = atomic_load(&fs->fc->attr_version);
	int err = ask_lookup(dir, name, strlen(name), &e);
	if (err == -EINTR || err == -ENOMEM) {
		ret = 1; /* nothing is known; what follows will fail */
	} else if (!err && e.nodeid) {
		struct fuse_node *n = node_of(in);
		struct inode *found;
		if (n->nodeid != e.nodeid || n->generation != e.generation) {
			fuse_forget(fs->fc, e.nodeid, 1);
		} else if (!fuse_node_get(fs, &e, version, &found)) {
			ret = found == in;
			inode_put(found);
			dentry_learnt(d, dir, entry_until(&e));
		}
	}
	dentry_put(parent);
	return ret;
}

int fuse_revalidate(struct dentry *d, bool fast)
{
	if (d->parent == d)
		return 1;
	if (fast)
		return dentry_holds(d, d->parent->inode) ? 1 : -EAGAIN;
	char name[VFS_NAME_MAX + 1];
	struct dentry *parent = dentry_get_parent(d, name);
	bool holds = dentry_holds(d, parent->inode);
	dentry_put(parent);
	if (holds)
		return 1;
	return d->inode ? look_again(d) : 0;
}

/* ---- making ---- */

static uint32_t current_umask(void)
{
	const struct task *t = task_current();

	return t ? t->fs->umask : 0;
}

/* What the server made: d becomes it. */
static int made(struct inode *dir, struct dentry *d, const struct fuse_entry_out *e, uint32_t type,
		uint64_t version)
{
	struct inode *in;

	if ((e->attr.mode & S_IFMT) != type) {
		if (e->nodeid)
			fuse_forget(conn_of(dir), e->nodeid, 1);
		return -EIO;
	}
	int err = fuse_node_get(fs_of(dir->sb), e, version, &in);
	fuse_attr_expire(node_of(dir));
	if (err)
		return err;
	dentry_learnt(d, dir, entry_until(e));
	dentry_instantiate(d, in);
	return 0;
}

static int make(struct inode *dir, struct dentry *d, struct fuse_req *r, uint32_t type)
{
	struct fuse_entry_out e;
	uint64_t version = atomic_load(&conn_of(dir)->attr_version);
	int err = fuse_call(r, &e, sizeof(e));

	return err ? err : made(dir, d, &e, type, version);
}

static int dir_mknod(struct inode *dir, struct dentry *d, uint32_t mode, uint64_t rdev,
		     const struct cred *c)
{
	const struct fuse_mknod_in m = {
		.mode = mode, .rdev = (uint32_t)rdev, .umask = current_umask()};
	struct fuse_req *r = fuse_req_new(conn_of(dir), FUSE_MKNOD, node_of(dir)->nodeid);

	(void)c;
	fuse_req_add(r, &m, sizeof(m));
	fuse_req_add_name(r, d->name, d->name_len);
	return make(dir, d, r, mode & S_IFMT);
}

static int dir_create(struct inode *dir, struct dentry *d, uint32_t mode, const struct cred *c)
{
	return dir_mknod(dir, d, S_IFREG | (mode & 07777), 0, c);
}

static int dir_create_open(struct inode *dir, struct dentry *d, uint32_t mode, int flags,
			   const struct cred *c)
{
	struct fuse_conn *fc = conn_of(dir);
	struct {
		struct fuse_entry_out e;
		struct fuse_open_out o;
	} out;

	if (fuse_lacks(fc, FUSE_CREATE))
		return dir_create(dir, d, mode, c);
	const struct fuse_create_in m = {
		.flags = (uint32_t)(flags & ~O_NOCTTY),
		.mode = S_IFREG | (mode & 07777),
		.umask = current_umask(),
	};
	struct fuse_req *r = fuse_req_new(fc, FUSE_CREATE, node_of(dir)->nodeid);
	fuse_req_add(r, &m, sizeof(m));
	fuse_req_add_name(r, d->name, d->name_len);
	uint64_t version = atomic_load(&fc->attr_version);
	int err = fuse_call(r, &out, sizeof(out));
	if (err == -ENOSYS)
		return dir_create(dir, d, mode, c);
	if (err || (err = made(dir, d, &out.e, S_IFREG, version)))
		return err;
	struct fuse_node *n = node_of(d->inode);
	struct fuse_handle *h = fuse_handle_new(n, &out.o, flags), *old;
	mutex_lock(&n->in.lock, &lc_inode);
	old = n->created;
	n->created = h;
	n->created_by = task_current();
	mutex_unlock(&n->in.lock, &lc_inode);
	fuse_handle_put(old);
	return h ? 0 : -ENOMEM;
}

static int dir_mkdir(struct inode *dir, struct dentry *d, uint32_t mode, const struct cred *c)
{
	const struct fuse_mkdir_in m = {.mode = mode & 07777, .umask = current_umask()};
	struct fuse_req *r = fuse_req_new(conn_of(dir), FUSE_MKDIR, node_of(dir)->nodeid);

	(void)c;
	fuse_req_add(r, &m, sizeof(m));
	fuse_req_add_name(r, d->name, d->name_len);
	return make(dir, d, r, S_IFDIR);
}

static int dir_symlink(struct inode *dir, struct dentry *d, const char *target,
		       const struct cred *c)
{
	struct fuse_req *r = fuse_req_new(conn_of(dir), FUSE_SYMLINK, node_of(dir)->nodeid);

	(void)c;
	fuse_req_add_name(r, d->name, d->name_len);
	fuse_req_add_name(r, target, strlen(target));
	return make(dir, d, r, S_IFLNK);
}

static int dir_link(struct inode *dir, struct dentry *d, struct inode *target)
{
	struct fuse_req *r = fuse_req_new(conn_of(dir), FUSE_LINK, node_of(dir)->nodeid);

	fuse_req_add(r, &(struct fuse_link_in){node_of(target)->nodeid},
		     sizeof(struct fuse_link_in));
	fuse_req_add_name(r, d->name, d->name_len);
	int err = make(dir, d, r, target->mode & S_IFMT);
	fuse_attr_expire(node_of(target));
	return err == -ENOSYS ? -EPERM : err;
}

/* ---- removing ---- */

static int remove_name(struct inode *dir, struct dentry *d, unsigned opcode)
{
	struct fuse_req *r = fuse_req_new(conn_of(dir), opcode, node_of(dir)->nodeid);
	struct inode *in = d->inode;

	fuse_req_add_name(r, d->name, d->name_len);
	int err = fuse_call(r, NULL, 0);
	if (err)
		return err;
	mutex_lock(&in->lock, &lc_inode);
	if (opcode == FUSE_RMDIR)
		in->nlink = 0;
	else if (in->nlink)
		in->nlink--;
	node_of(in)->attr_until = 0;
	mutex_unlock(&in->lock, &lc_inode);
	fuse_attr_expire(node_of(dir));
	return 0;
}

static int dir_unlink(struct inode *dir, struct dentry *d)
{
	return remove_name(dir, d, FUSE_UNLINK);
}

static int dir_rmdir(struct inode *dir, struct dentry *d)
{
	return remove_name(dir, d, FUSE_RMDIR);
}

static int dir_rename(struct inode *olddir, struct dentry *oldd, struct inode *newdir,
		      struct dentry *newd, unsigned flags)
{
	struct fuse_conn *fc = conn_of(olddir);
	const struct fuse_rename2_in m = {.newdir = node_of(newdir)->nodeid, .flags = flags};
	bool two = flags;

	if (two && (fuse_lacks(fc, FUSE_RENAME2) || fc->minor < 23))
		return -EINVAL;
	struct fuse_req *r =
		fuse_req_new(fc, two ? FUSE_RENAME2 : FUSE_RENAME, node_of(olddir)->nodeid);
	fuse_req_add(r, &m, two ? sizeof(m) : sizeof(struct fuse_rename_in));
	fuse_req_add_name(r, oldd->name, oldd->name_len);
	fuse_req_add_name(r, newd->name, newd->name_len);
	int err = fuse_call(r, NULL, 0);
	if (err == -ENOSYS && two)
		return -EINVAL;
	if (err)
		return err;
	fuse_attr_expire(node_of(oldd->inode));
	if (newd->inode)
		fuse_attr_expire(node_of(newd->inode));
	fuse_attr_expire(node_of(olddir));
	fuse_attr_expire(node_of(newdir));
	/* What the names mean is known, not for how long. */
	dentry_learnt(oldd, newdir, 0);
	dentry_learnt(newd, olddir, 0);
	return 0;
}

/* ---- links ---- */

static ssize_t link_read(struct inode *in, char *buf, size_t size)
{
	struct fuse_req *r = fuse_req_new(conn_of(in), FUSE_READLINK, node_of(in)->nodeid);
	ssize_t n = fuse_call_var(r, 0, PAGE_SIZE - 1);

	if (!n) {
		n = (ssize_t)MIN(strnlen(r->out ? r->out : "", r->out_len), size);
		if (n)
			memcpy(buf, r->out, (size_t)n);
	}
	fuse_req_put(r);
	return n;
}

#define COMMON_OPS                                                                         \
	.getattr = fuse_getattr, .setattr = fuse_setattr, .permission = fuse_permission,   \
	.getxattr = fuse_getxattr, .setxattr = fuse_setxattr, .listxattr = fuse_listxattr, \
	.removexattr = fuse_removexattr, .free = fuse_node_free

const struct inode_ops fuse_dir_iops = {
	.lookup = dir_lookup,
	.create = dir_create,
	.create_open = dir_create_open,
	.mkdir = dir_mkdir,
	.mknod = dir_mknod,
	.symlink = dir_symlink,
	.link = dir_link,
	.unlink = dir_unlink,
	.rmdir = dir_rmdir,
	.rename = dir_rename,
	.open = fuse_dir_open,
	COMMON_OPS,
};
const struct inode_ops fuse_file_iops = {.open = fuse_file_open, COMMON_OPS};
const struct inode_ops fuse_link_iops = {.readlink = link_read, COMMON_OPS};
const struct inode_ops fuse_other_iops = {COMMON_OPS};
