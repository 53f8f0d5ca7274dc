/*
 * Renaming.  It happens in the upper layer; a name that had a lower part leaves a whiteout, and a
 * directory that comes to stand over a lower name is made opaque first.
 */
#include <errno.h>
#include <stdio.h>

#include "sentry/fs/overlay/ovl.h"

/* A name of the rename: its directory, what it means, and its upper dentry. */
struct side {
	struct inode *dir;
	struct dentry *d;     /* the overlay's */
	struct dentry *updir; /* borrowed */
	struct dentry *ud;    /* reference */
	int lower;	      /* the lower layers show something by this name */
};

static bool is_dir(const struct side *s)
{
	return s->d->inode && S_ISDIR(s->d->inode->mode);
}

/* Directories with a lower part stay where they are: their children are found by path. */
static bool is_movable(const struct side *s)
{
	return !is_dir(s) || ovl_nlower(ovl_inode(s->d->inode)) == 0;
}

static int side_find(struct side *s)
{
	s->updir = ovl_upper(ovl_inode(s->dir));
	s->lower = ovl_lower_has(s->dir, s->d);
	if (s->lower < 0)
		return s->lower;
	return dentry_lookup(s->updir, s->d->name, s->d->name_len, &s->ud);
}

/*
 * The file to move is in the upper layer now, but not by this name if it was copied up by another
 * of its lower names.
 */
static int side_materialize(struct side *s)
{
	struct ovl_inode *oi = ovl_inode(s->d->inode);
	if (s->ud->inode)
		return ovl_is_whiteout(s->ud->inode) ? -EIO : 0;
	struct inode *real = ovl_real(oi);
	real->linkable = true; /* its only upper name may be gone already */
	int err = vfs_do_link(real, s->updir, s->ud);
	if (!err)
		ovl_lower_link_gone(oi);
	return err;
}

/* The lock of what loses its name is held. */
static int rename_upper(struct side *from, struct side *to, unsigned flags)
{
	struct inode *victim = flags & RENAME_EXCHANGE ? NULL : to->d->inode;
	int err = 0;
	if (victim && S_ISDIR(victim->mode) && to->ud->inode)
		err = ovl_clear_upper(ovl_inode(victim));
	if (!err && is_dir(from) && to->lower)
		err = ovl_set_opaque(from->ud->inode);
	if (!err && (flags & RENAME_EXCHANGE) && is_dir(to) && from->lower)
		err = ovl_set_opaque(to->ud->inode);
	if (err)
		return err;
	bool upper_victim = to->ud->inode && !ovl_is_whiteout(to->ud->inode);
	unsigned how = flags & RENAME_EXCHANGE;
	if (!how && from->lower)
		how = RENAME_WHITEOUT;
	err = vfs_do_rename(from->updir, from->ud, to->updir, to->ud, how);
	if (!err && victim) {
		ovl_forget_parent(ovl_inode(victim), to->dir, to->d->name);
		if (!upper_victim)
			ovl_lower_link_gone(ovl_inode(victim));
	}
	return err;
}

static int rename_locked(struct side *from, struct side *to, unsigned flags)
{
	struct inode *victim = flags & RENAME_EXCHANGE ? NULL : to->d->inode;
	if (!victim)
		return rename_upper(from, to, flags);
	struct ovl_inode *vi = ovl_inode(victim);
	ovl_lock(vi);
	int err = rename_upper(from, to, flags);
	ovl_unlock(vi);
	return err;
}

static int rename_prepare(struct side *from, struct side *to, unsigned flags)
{
	struct inode *victim = to->d->inode;
	int err;
	if (!is_movable(from) || ((flags & RENAME_EXCHANGE) && !is_movable(to)))
		return -EXDEV;
	if (!(flags & RENAME_EXCHANGE) && is_dir(to) && (err = ovl_check_empty(ovl_inode(victim))))
		return err;
	if ((err = ovl_copy_up(from->dir, OVL_ALL)) || (err = ovl_copy_up(to->dir, OVL_ALL)) ||
	    (err = ovl_copy_up(from->d->inode, OVL_ALL)))
		return err;
	if ((flags & RENAME_EXCHANGE) && (err = ovl_copy_up(victim, OVL_ALL)))
		return err;
	if ((err = side_find(from)) || (err = side_find(to)))
		return err;
	if ((err = side_materialize(from)))
		return err;
	return flags & RENAME_EXCHANGE ? side_materialize(to) : 0;
}

int ovl_rename(struct inode *olddir, struct dentry *oldd, struct inode *newdir, struct dentry *newd,
	       unsigned flags)
{
	if (flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE))
		return -EINVAL;
	struct side from = {.dir = olddir, .d = oldd}, to = {.dir = newdir, .d = newd};
	int err = rename_prepare(&from, &to, flags);
	if (!err)
		err = rename_locked(&from, &to, flags);
	dentry_put(from.ud);
	dentry_put(to.ud);
	if (err)
		return err;

	struct inode *victim = newd->inode;
	if (victim) {
		if (!(flags & RENAME_EXCHANGE) && !S_ISDIR(victim->mode))
			ovl_drop_index(ovl_inode(victim));
		ovl_copy_attr(ovl_inode(victim), false);
	}
	ovl_copy_attr(ovl_inode(oldd->inode), false);
	ovl_dir_changed(olddir);
	ovl_dir_changed(newdir);
	return 0;
}
