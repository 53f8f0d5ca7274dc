/* rename(2), renameat2(2). */
#include <linux/capability.h>
#include <linux/fs.h>
#include <sys/inotify.h>
#include <sys/mount.h>

#include "sentry/vfs/handle.h"
#include "sentry/vfs/internal.h"
#include "sentry/vfs/landlock.h"

#define NAME_RETRIES 32

/* The directories of a rename, as they are locked. */
struct rename_locks {
	struct inode *first, *second; /* second NULL: the same directory */
};

static struct lock_class *rename_class(const struct super_block *sb)
{
	return sb->layer == LAYER_BASE	    ? &lc_base_rename
	       : sb->layer == LAYER_STACKED ? &lc_layer_rename
					    : &lc_rename;
}

static int rename_lock(struct super_block *sb) NO_LOCK_ANALYSIS
{
	if (sb->ops->lock)
		return sb->ops->lock(sb, NULL);
	mutex_lock(&sb->rename_lock, rename_class(sb));
	return 0;
}

static void rename_unlock(struct super_block *sb) NO_LOCK_ANALYSIS
{
	if (sb->ops->unlock)
		sb->ops->unlock(sb, NULL);
	else
		mutex_unlock(&sb->rename_lock, rename_class(sb));
}

static int rename_lock_dirs(struct rename_locks *l) NO_LOCK_ANALYSIS
{
	int err = dir_lock(l->first, DIR_FIRST);

	if (!err && l->second && (err = dir_lock(l->second, DIR_SECOND)))
		dir_unlock(l->first, DIR_FIRST);
	return err;
}

static int rename_lock_all(struct rename_locks *l, struct dentry *olddir,
			   struct dentry *newdir) NO_LOCK_ANALYSIS
{
	*l = (struct rename_locks){.first = dentry_inode(olddir)};
	if (olddir != newdir) {
		int err = rename_lock(olddir->sb);
		if (err)
			return err;
		/* Ancestors cannot change now: parents first, strangers by address. */
		mutex_lock(&dcache_lock, &lc_dcache);
		bool old_first = dentry_is_ancestor(olddir, newdir) ||
				 (!dentry_is_ancestor(newdir, olddir) && olddir < newdir);
		mutex_unlock(&dcache_lock, &lc_dcache);
		l->first = dentry_inode(old_first ? olddir : newdir);
		l->second = dentry_inode(old_first ? newdir : olddir);
	}
	int err = rename_lock_dirs(l);
	if (err && l->second)
		rename_unlock(olddir->sb);
	return err;
}

static void rename_unlock_all(struct rename_locks *l) NO_LOCK_ANALYSIS
{
	if (l->second)
		dir_unlock(l->second, DIR_SECOND);
	dir_unlock(l->first, DIR_FIRST);
	if (l->second)
		rename_unlock(l->first->sb);
}

/* What can only be judged with the locks held. */
static int rename_check(struct dentry *olddir, struct dentry *oldd, struct dentry *newdir,
			struct dentry *newd, unsigned flags)
{
	int err = 0;

	mutex_lock(&dcache_lock, &lc_dcache);
	if (!oldd->hashed || oldd->parent != olddir || !newd->hashed || newd->parent != newdir ||
	    !oldd->inode)
		err = -ESTALE;
	else if (dentry_inode(newdir)->dead || dentry_inode(olddir)->dead)
		err = -ENOENT;
	else if (flags & RENAME_NOREPLACE && newd->inode)
		err = -EEXIST;
	else if (flags & RENAME_EXCHANGE && !newd->inode)
		err = -ESTALE;
	else if (dentry_is_ancestor(oldd, newdir))
		err = -EINVAL;
	else if (dentry_is_ancestor(newd, olddir))
		err = flags & RENAME_EXCHANGE ? -EINVAL : -ENOTEMPTY;
	mutex_unlock(&dcache_lock, &lc_dcache);
	return err;
}

int vfs_do_rename(struct dentry *olddir, struct dentry *oldd, struct dentry *newdir,
		  struct dentry *newd, unsigned flags)
{
	struct inode *oldin = dentry_inode(olddir), *newin = dentry_inode(newdir);
	struct inode *target = dentry_inode(newd);
	struct rename_locks l;

	if (!oldin->ops->rename)
		return -EPERM;
	if (olddir->sb != newdir->sb)
		return -EXDEV;
	bool replaces_dir = target && inode_is_dir(target) && !(flags & RENAME_EXCHANGE);
	int err = rename_lock_all(&l, olddir, newdir);
	if (err)
		return err;
	err = rename_check(olddir, oldd, newdir, newd, flags);
	if (!err && target != dentry_inode(newd))
		err = -ESTALE;
	if (!err && replaces_dir)
		err = dir_lock(target, DIR_VICTIM);
	if (err) {
		rename_unlock_all(&l);
		return err;
	}
	err = oldin->ops->rename(oldin, oldd, newin, newd, flags);
	if (!err && replaces_dir)
		target->dead = true;
	if (replaces_dir)
		dir_unlock(target, DIR_VICTIM);
	if (!err)
		dentry_move(oldd, newd, flags & RENAME_EXCHANGE);
	rename_unlock_all(&l);
	if (!err && replaces_dir)
		dentry_invalidate(newd);
	return err;
}

/* Permissions and kinds, as Linux's vfs_rename judges them. */
static int may_rename(struct path olddir, struct dentry *oldd, struct path newdir,
		      struct dentry *newd, unsigned flags, const struct cred *c)
{
	struct inode *source = dentry_inode(oldd), *target = dentry_inode(newd);
	bool source_dir = inode_is_dir(source);
	bool exchange = flags & RENAME_EXCHANGE;
	int err = may_delete(olddir, oldd, source_dir, c);

	if (err)
		return err;
	if (!target)
		err = may_create(newdir, c);
	else
		err = may_delete(newdir, newd, exchange ? inode_is_dir(target) : source_dir, c);
	if (err)
		return err;
	/* Moving a directory changes its "..". */
	if (olddir.dentry != newdir.dentry) {
		if (source_dir && (err = inode_permission(source, MAY_WRITE, c)))
			return err;
		if (exchange && inode_is_dir(target) &&
		    (err = inode_permission(target, MAY_WRITE, c)))
			return err;
	}
	struct mnt_ns *ns = olddir.mnt->ns;
	return mount_is_point_of(ns, oldd) || mount_is_point_of(ns, newd) ? -EBUSY : 0;
}

static void notify_moved(const struct walk *from, const struct walk *to, struct inode *what,
			 struct inode *replaced)
{
	uint32_t cookie = notify_new_cookie();

	notify_renamed(&(struct notify_event){
		.dir = dentry_inode(from->cur.dentry),
		.name = from->last,
		.name_len = from->last_len,
		.new_dir = dentry_inode(to->cur.dentry),
		.new_name = to->last,
		.new_name_len = to->last_len,
		.inode = what,
	});
	notify_name(dentry_inode(from->cur.dentry), IN_MOVED_FROM, from->last, from->last_len, what,
		    cookie);
	notify_name(dentry_inode(to->cur.dentry), IN_MOVED_TO, to->last, to->last_len, what,
		    cookie);
	if (replaced)
		notify_inode(replaced, IN_ATTRIB);
	notify_inode(what, IN_MOVE_SELF);
}

static int rename_found(struct walk *from, struct dentry *oldd, struct walk *to,
			struct dentry *newd, unsigned flags)
{
	struct inode *source = dentry_inode(oldd), *target = dentry_inode(newd);
	bool exchange = flags & RENAME_EXCHANGE;

	if (!source)
		return -ENOENT;
	if (flags & RENAME_NOREPLACE && target)
		return -EEXIST;
	if (exchange && !target)
		return -ENOENT;
	if (exchange && to->trailing && !inode_is_dir(target))
		return -ENOTDIR;
	if (!inode_is_dir(source) && (from->trailing || (!exchange && to->trailing)))
		return -ENOTDIR;
	mutex_lock(&dcache_lock, &lc_dcache);
	bool into_itself = dentry_is_ancestor(oldd, to->cur.dentry);
	bool over_parent = dentry_is_ancestor(newd, from->cur.dentry);
	mutex_unlock(&dcache_lock, &lc_dcache);
	if (into_itself)
		return -EINVAL;
	if (over_parent)
		return exchange ? -EINVAL : -ENOTEMPTY;
	int err = landlock_may_rename(from->cur, oldd, to->cur, newd, exchange, from->env->cred);
	if (err || source == target)
		return err;
	err = may_rename(from->cur, oldd, to->cur, newd, flags, from->env->cred);
	if (err)
		return err;
	err = vfs_do_rename(from->cur.dentry, oldd, to->cur.dentry, newd, flags);
	if (!err) {
		if (target && !exchange) {
			mount_detach_from(newd);
			handle_forget(newd);
		}
		notify_moved(from, to, source, exchange ? NULL : target);
		if (exchange)
			notify_moved(to, from, target, NULL);
	}
	return err;
}

static int rename_last(struct walk *from, struct walk *to, unsigned flags)
{
	struct dentry *oldd, *newd;

	if (from->cur.mnt != to->cur.mnt)
		return -EXDEV;
	if (!from->last || walk_last_is_dot(from))
		return -EBUSY;
	if (!to->last || walk_last_is_dot(to))
		return flags & RENAME_NOREPLACE ? -EEXIST : -EBUSY;
	if (from->cur.mnt->flags & MS_RDONLY || from->cur.dentry->sb->readonly)
		return -EROFS;
	int err = walk_lookup_last(from, &oldd);
	if (err)
		return err;
	err = dentry_inode(oldd) ? walk_lookup_last(to, &newd) : -ENOENT;
	if (!err) {
		err = rename_found(from, oldd, to, newd, flags);
		dentry_put(newd);
	}
	dentry_put(oldd);
	return err;
}

int vfs_rename(const struct walk_env *oldenv, const char *oldname, const struct walk_env *newenv,
	       const char *newname, unsigned flags)
{
	int err = -ESTALE;

	if (flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT) ||
	    (flags & RENAME_EXCHANGE && flags & (RENAME_NOREPLACE | RENAME_WHITEOUT)))
		return -EINVAL;
	for (int i = 0; i < NAME_RETRIES && err == -ESTALE; i++) {
		struct walk from, to;
		err = walk_start(&from, oldenv, oldname, 0);
		int err2 = walk_start(&to, newenv, newname, 0);
		if (!err)
			err = walk_to_parent(&from);
		if (!err)
			err = err2 ? err2 : walk_to_parent(&to);
		if (!err)
			err = rename_last(&from, &to, flags);
		walk_end(&to);
		walk_end(&from);
	}
	return err;
}
