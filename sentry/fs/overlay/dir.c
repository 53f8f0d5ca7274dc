/* Making and removing names. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "sentry/fs/overlay/ovl.h"

void ovl_dir_changed(struct inode *dir)
{
	struct ovl_inode *di = ovl_inode(dir);
	di->version++;
	ovl_copy_attr(di, false);
}

/* ---- making ---- */

/* What is to be made; link: another name for this upper inode. */
struct making {
	uint32_t mode;
	uint64_t rdev;
	const char *target;
	struct inode *link;
	const struct cred *c;
};

static int make_at(struct dentry *dir, struct dentry *d, const struct making *m)
{
	if (m->link)
		return vfs_do_link(m->link, dir, d);
	switch (m->mode & S_IFMT) {
	case S_IFREG:
		return vfs_do_create(dir, d, m->mode, m->c);
	case S_IFDIR:
		return vfs_do_mkdir(dir, d, m->mode & 07777, m->c);
	case S_IFLNK:
		return vfs_do_symlink(dir, d, m->target, m->c);
	default:
		return vfs_do_mknod(dir, d, m->mode, m->rdev, m->c);
	}
}

/* Makes it aside and lets it take the whiteout's place, so that nothing below shows through. */
static int make_over_whiteout(struct ovl_super *os, struct dentry *updir, struct dentry *whiteout,
			      const struct making *m, struct dentry **made)
{
	struct dentry *temp;
	int err = ovl_temp(os, &temp);
	if (err)
		return err;
	err = make_at(os->work, temp, m);
	if (!err) {
		if (S_ISDIR(temp->inode->mode))
			err = ovl_set_opaque(temp->inode);
		if (!err)
			err = vfs_do_rename(os->work, temp, updir, whiteout, 0);
		if (err)
			ovl_temp_remove(os, temp);
	}
	if (err)
		dentry_put(temp);
	else
		*made = temp;
	return err;
}

/* *made gets a reference to the upper dentry. */
static int make_upper(struct inode *dir, const struct dentry *d, const struct making *m,
		      struct dentry **made)
{
	int err = ovl_copy_up(dir, OVL_ALL);
	if (err)
		return err;
	struct dentry *updir = ovl_upper(ovl_inode(dir)), *ud;
	if ((err = dentry_lookup(updir, d->name, d->name_len, &ud)))
		return err;
	if (!ud->inode) {
		err = make_at(updir, ud, m);
		if (!err)
			*made = dentry_get(ud);
	} else if (ovl_is_whiteout(ud->inode)) {
		err = make_over_whiteout(ovl_super(dir->sb), updir, ud, m, made);
	} else {
		err = -EIO; /* changed behind our back */
	}
	dentry_put(ud);
	if (!err)
		ovl_dir_changed(dir);
	return err;
}

static int make(struct inode *dir, struct dentry *d, const struct making *m)
{
	struct dentry *made;
	int err = make_upper(dir, d, m, &made);
	if (err)
		return err;
	struct inode *in;
	err = ovl_inode_get(ovl_super(dir->sb), made, NULL, 0, NULL, &in);
	if (err) {
		dentry_unhash(d); /* it exists: not a name to remember as absent */
		return err;
	}
	dentry_instantiate(d, in);
	return 0;
}

static int ovl_create(struct inode *dir, struct dentry *d, uint32_t mode, const struct cred *c)
{
	struct making m = {.mode = S_IFREG | (mode & 07777), .c = c};
	return make(dir, d, &m);
}

static int ovl_mkdir(struct inode *dir, struct dentry *d, uint32_t mode, const struct cred *c)
{
	struct making m = {.mode = S_IFDIR | (mode & 07777), .c = c};
	return make(dir, d, &m);
}

static int ovl_mknod(struct inode *dir, struct dentry *d, uint32_t mode, uint64_t rdev,
		     const struct cred *c)
{
	if (S_ISCHR(mode) && rdev == 0)
		return -EPERM; /* a whiteout */
	struct making m = {.mode = mode, .rdev = rdev, .c = c};
	return make(dir, d, &m);
}

static int ovl_symlink(struct inode *dir, struct dentry *d, const char *target,
		       const struct cred *c)
{
	struct making m = {.mode = S_IFLNK | 0777, .target = target, .c = c};
	return make(dir, d, &m);
}

static int ovl_link(struct inode *dir, struct dentry *d, struct inode *target)
{
	int err = ovl_copy_up(target, OVL_ALL);
	if (err)
		return err;
	struct making m = {.link = ovl_real(ovl_inode(target))};
	/* Judged by the vfs: the copy may have no name of its own while a lower name means it. */
	m.link->linkable = true;
	struct dentry *made;
	if ((err = make_upper(dir, d, &m, &made)))
		return err;
	dentry_put(made);
	ovl_copy_attr(ovl_inode(target), false);
	dentry_instantiate(d, inode_get(target));
	return 0;
}

static int ovl_tmpfile(struct inode *dir, struct dentry *d, uint32_t mode, const struct cred *c)
{
	struct ovl_super *os = ovl_super(dir->sb);
	if (!os->upper_mnt)
		return -EROFS;
	struct dentry *temp;
	int err = ovl_temp(os, &temp);
	if (err)
		return err;
	err = vfs_do_create(os->work, temp, S_IFREG | (mode & 07777), c);
	if (!err)
		err = vfs_do_unlink(os->work, temp);
	if (err) {
		dentry_put(temp);
		return err;
	}
	struct inode *in;
	if (!(err = ovl_inode_get(os, temp, NULL, 0, NULL, &in)))
		dentry_instantiate(d, in);
	return err;
}

/* ---- removing ---- */

/* Lets a whiteout stand at ud, in the place of what is there. */
static int put_whiteout(struct ovl_super *os, struct dentry *updir, struct dentry *ud)
{
	if (!ud->inode)
		return vfs_do_mknod(updir, ud, S_IFCHR, 0, os->cred);
	struct dentry *temp;
	int err = ovl_temp(os, &temp);
	if (err)
		return err;
	err = vfs_do_mknod(os->work, temp, S_IFCHR, 0, os->cred);
	if (!err && (err = vfs_do_rename(os->work, temp, updir, ud, 0)))
		ovl_temp_remove(os, temp);
	dentry_put(temp);
	return err;
}

static int remove_whiteout(struct dentry *dir, const char *name, size_t len)
{
	struct dentry *d;
	int err = dentry_lookup(dir, name, len, &d);
	if (err)
		return err;
	if (ovl_is_whiteout(d->inode))
		err = vfs_do_unlink(dir, d);
	dentry_put(d);
	return err;
}

int ovl_clear_upper(struct ovl_inode *oi)
{
	struct dentry *upper = ovl_upper(oi);
	if (!upper || !ovl_nlower(oi))
		return 0;
	int err = ovl_set_opaque(upper->inode);
	if (err)
		return err;
	oi->cut = true;
	oi->version++;
	return ovl_upper_names(oi, remove_whiteout);
}

/* The upper side of a removal; the lock of what goes is held. */
static int remove_upper(struct inode *dir, const struct dentry *d, struct dentry *ud, bool whiteout)
{
	struct ovl_super *os = ovl_super(dir->sb);
	struct dentry *updir = ovl_upper(ovl_inode(dir));
	struct ovl_inode *oi = ovl_inode(d->inode);
	int err;
	if (S_ISDIR(oi->in.mode) && ud->inode && (err = ovl_clear_upper(oi)))
		return err;
	bool had_upper = ud->inode != NULL;
	if (whiteout)
		err = put_whiteout(os, updir, ud);
	else if (!had_upper)
		err = -EIO;
	else if (S_ISDIR(oi->in.mode))
		err = vfs_do_rmdir(updir, ud);
	else
		err = vfs_do_unlink(updir, ud);
	if (err)
		return err;
	ovl_forget_parent(oi, dir, d->name);
	if (!had_upper)
		ovl_lower_link_gone(oi);
	return 0;
}

static int remove_name(struct inode *dir, struct dentry *d)
{
	struct ovl_inode *oi = ovl_inode(d->inode);
	int err = ovl_copy_up(dir, OVL_ALL);
	if (err)
		return err;
	int whiteout = ovl_lower_has(dir, d);
	if (whiteout < 0)
		return whiteout;
	struct dentry *ud;
	if ((err = dentry_lookup(ovl_upper(ovl_inode(dir)), d->name, d->name_len, &ud)))
		return err;
	ovl_lock(oi);
	err = remove_upper(dir, d, ud, whiteout);
	ovl_unlock(oi);
	dentry_put(ud);
	if (err)
		return err;
	if (!S_ISDIR(oi->in.mode))
		ovl_drop_index(oi);
	ovl_copy_attr(oi, false);
	ovl_dir_changed(dir);
	return 0;
}

static int ovl_unlink(struct inode *dir, struct dentry *d)
{
	return remove_name(dir, d);
}

static int ovl_rmdir(struct inode *dir, struct dentry *d)
{
	int err = ovl_check_empty(ovl_inode(d->inode));
	return err ? err : remove_name(dir, d);
}

const struct inode_ops ovl_dir_iops = {
	.lookup = ovl_lookup,
	.peek = ovl_peek,
	.create = ovl_create,
	.mkdir = ovl_mkdir,
	.mknod = ovl_mknod,
	.symlink = ovl_symlink,
	.link = ovl_link,
	.tmpfile = ovl_tmpfile,
	.unlink = ovl_unlink,
	.rmdir = ovl_rmdir,
	.rename = ovl_rename,
	.open = ovl_dir_open,
	.getattr = ovl_getattr,
	.setattr = ovl_setattr,
	.getxattr = ovl_getxattr,
	.setxattr = ovl_setxattr,
	.listxattr = ovl_listxattr,
	.removexattr = ovl_removexattr,
	.free = ovl_free,
};
