/* Removing names: unlink(2), rmdir(2). */
#include <linux/capability.h>
#include <sys/inotify.h>
#include <sys/mount.h>

#include "sentry/vfs/handle.h"
#include "sentry/vfs/internal.h"
#include "sentry/vfs/landlock.h"

#define NAME_RETRIES 32

/* In a sticky directory only the owner of the file or of the directory removes. */
static bool sticky_forbids(const struct inode *dir, const struct inode *victim,
			   const struct cred *c)
{
	return dir->mode & S_ISVTX && victim->uid != c->fsuid && dir->uid != c->fsuid &&
	       !inode_capable(victim, c, CAP_FOWNER);
}

int may_delete(struct path dir, struct dentry *d, bool isdir, const struct cred *c)
{
	struct inode *in = dentry_inode(dir.dentry), *victim = dentry_inode(d);
	int err = path_permission(dir, MAY_WRITE | MAY_EXEC, c);

	if (err)
		return err;
	if (sticky_forbids(in, victim, c))
		return -EPERM;
	if (isdir && !inode_is_dir(victim))
		return -ENOTDIR;
	if (!isdir && inode_is_dir(victim))
		return -EISDIR;
	return in->dead ? -ENOENT : 0;
}

/* -ESTALE: d is not what the name means any more. */
static int remove_begin(struct dentry *dir, struct dentry *d)
{
	int err = dir_lock(dentry_inode(dir), DIR_FIRST);

	if (err)
		return err;
	if (dentry_inode(d) && dentry_is_entry(d, dir))
		return 0;
	dir_unlock(dentry_inode(dir), DIR_FIRST);
	return -ESTALE;
}

int vfs_do_unlink(struct dentry *dir, struct dentry *d)
{
	struct inode *in = dentry_inode(dir);
	int err = remove_begin(dir, d);

	if (err)
		return err;
	err = in->ops->unlink ? in->ops->unlink(in, d) : -EPERM;
	if (!err)
		dentry_unhash(d);
	dir_unlock(in, DIR_FIRST);
	return err;
}

int vfs_do_rmdir(struct dentry *dir, struct dentry *d)
{
	struct inode *in = dentry_inode(dir), *victim = dentry_inode(d);
	int err = remove_begin(dir, d);

	if (err)
		return err;
	err = dir_lock(victim, DIR_SECOND);
	if (!err) {
		err = in->ops->rmdir ? in->ops->rmdir(in, d) : -EPERM;
		if (!err)
			victim->dead = true;
		dir_unlock(victim, DIR_SECOND);
	}
	if (!err)
		dentry_unhash(d);
	dir_unlock(in, DIR_FIRST);
	if (!err)
		dentry_invalidate(d); /* the negative entries below it */
	return err;
}

/* Puts the dentry, with which the file may go, and reports in Linux's order. */
static void removed(const struct walk *w, struct dentry *d, bool rmdir)
{
	struct inode *victim = inode_get(dentry_inode(d));

	mount_detach_from(d);
	handle_forget(d);
	if (!rmdir)
		notify_inode(victim, IN_ATTRIB);
	dentry_put(d);
	notify_name(dentry_inode(w->cur.dentry), IN_DELETE, w->last, w->last_len, victim, 0);
	inode_put(victim);
}

static int remove_last(struct walk *w, bool rmdir)
{
	struct dentry *d;

	if (!w->last)
		return rmdir ? -EBUSY : -EISDIR;
	if (walk_last_is_dot(w)) {
		if (!rmdir)
			return -EISDIR;
		return w->last_len == 1 ? -EINVAL : -ENOTEMPTY;
	}
	if (w->cur.mnt->flags & MS_RDONLY || w->cur.dentry->sb->readonly)
		return -EROFS;
	int err = walk_lookup_last(w, &d);
	if (err)
		return err;
	struct inode *victim = dentry_inode(d);
	if (!victim)
		err = -ENOENT;
	else if (!rmdir && w->trailing)
		err = inode_is_dir(victim) ? -EISDIR : -ENOTDIR;
	else if (!(err = landlock_may_remove(w->cur, rmdir, w->env->cred)))
		err = may_delete(w->cur, d, rmdir, w->env->cred);
	if (!err && mount_is_point_of(w->cur.mnt->ns, d))
		err = -EBUSY;
	if (!err)
		err = rmdir ? vfs_do_rmdir(w->cur.dentry, d) : vfs_do_unlink(w->cur.dentry, d);
	if (!err)
		removed(w, d, rmdir);
	else
		dentry_put(d);
	return err;
}

int vfs_unlink(const struct walk_env *env, const char *name, bool rmdir)
{
	int err = -ESTALE;

	for (int i = 0; i < NAME_RETRIES && err == -ESTALE; i++) {
		struct walk w;
		err = walk_start(&w, env, name, 0);
		if (!err)
			err = walk_to_parent(&w);
		if (!err)
			err = remove_last(&w, rmdir);
		walk_end(&w);
	}
	return err;
}
