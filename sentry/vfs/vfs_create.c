/* Making names: mkdir(2), mknod(2), symlink(2), link(2), and the low-level forms under them. */
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/inotify.h>
#include <sys/mount.h>

#include "sentry/vfs/internal.h"
#include "sentry/vfs/landlock.h"

#define NAME_RETRIES 32

/* ---- locks of directories ---- */

static struct lock_class *dir_class(const struct inode *dir, enum dir_lock_kind kind)
{
	static struct lock_class *const classes[][3] = {
		[LAYER_NONE] = {&lc_inode_dir, &lc_inode_dir2, &lc_inode_dir3},
		[LAYER_STACKED] = {&lc_layer_dir, &lc_layer_dir2, &lc_layer_dir3},
		[LAYER_BASE] = {&lc_base_dir, &lc_base_dir2, &lc_base_dir3},
	};
	return classes[dir->sb->layer][kind];
}

int dir_lock(struct inode *dir, enum dir_lock_kind kind) NO_LOCK_ANALYSIS
{
	if (dir->sb->ops->lock)
		return dir->sb->ops->lock(dir->sb, dir);
	mutex_lock(&dir->dir_lock, dir_class(dir, kind));
	return 0;
}

void dir_unlock(struct inode *dir, enum dir_lock_kind kind) NO_LOCK_ANALYSIS
{
	if (dir->sb->ops->unlock)
		dir->sb->ops->unlock(dir->sb, dir);
	else
		mutex_unlock(&dir->dir_lock, dir_class(dir, kind));
}

/* ---- low-level forms ---- */

/*
 * Locks the directory for making d in it.  -EEXIST when somebody else made it meanwhile, -ESTALE
 * when d is not the name's dentry any more, -ENOENT in a removed directory.
 */
static int create_begin(struct dentry *dir, struct dentry *d)
{
	struct inode *in = dentry_inode(dir);
	int err = dir_lock(in, DIR_FIRST);

	if (err)
		return err;
	if (in->dead)
		err = -ENOENT;
	else if (dentry_inode(d))
		err = -EEXIST;
	else if (!dentry_is_entry(d, dir))
		err = -ESTALE;
	if (err)
		dir_unlock(in, DIR_FIRST);
	return err;
}

static void create_end(struct dentry *dir)
{
	dir_unlock(dentry_inode(dir), DIR_FIRST);
}

/* Whose a new file becomes: in a set-group-ID directory, its group's. */
struct new_owner {
	const struct cred *c;
	struct cred *own;
};

static int new_owner_init(struct new_owner *o, const struct inode *dir, uint32_t *mode,
			  const struct cred *c)
{
	*o = (struct new_owner){c, NULL};
	if (!(dir->mode & S_ISGID))
		return 0;
	if (S_ISDIR(*mode))
		*mode |= S_ISGID;
	else if ((*mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) &&
		 !cred_in_group(c, dir->gid) && !inode_capable(dir, c, CAP_FSETID))
		*mode &= ~(uint32_t)S_ISGID;
	if (dir->gid == c->fsgid)
		return 0;
	o->own = cred_dup(c);
	if (!o->own)
		return -ENOMEM;
	o->own->fsgid = dir->gid;
	o->c = o->own;
	return 0;
}

#define NOT_OPENED (-1)

/* flags: the file is opened with them next, or NOT_OPENED. */
static int do_create(struct dentry *dir, struct dentry *d, uint32_t mode, int flags,
		     const struct cred *c)
{
	struct inode *in = dentry_inode(dir);
	struct new_owner o;
	int err = new_owner_init(&o, in, &mode, c);

	if (!err && !(err = create_begin(dir, d))) {
		if (flags != NOT_OPENED && in->ops->create_open)
			err = in->ops->create_open(in, d, mode, flags, o.c);
		else
			err = in->ops->create ? in->ops->create(in, d, mode, o.c) : -EROFS;
		create_end(dir);
	}
	cred_put(o.own);
	return err;
}

int vfs_do_create(struct dentry *dir, struct dentry *d, uint32_t mode, const struct cred *c)
{
	return do_create(dir, d, mode, NOT_OPENED, c);
}

int vfs_do_mkdir(struct dentry *dir, struct dentry *d, uint32_t mode, const struct cred *c)
{
	struct inode *in = dentry_inode(dir);
	struct new_owner o;

	mode = S_IFDIR | (mode & 07777);
	int err = new_owner_init(&o, in, &mode, c);
	if (!err && !(err = create_begin(dir, d))) {
		err = in->ops->mkdir ? in->ops->mkdir(in, d, mode, o.c) : -EPERM;
		create_end(dir);
	}
	cred_put(o.own);
	return err;
}

int vfs_do_mknod(struct dentry *dir, struct dentry *d, uint32_t mode, uint64_t rdev,
		 const struct cred *c)
{
	struct inode *in = dentry_inode(dir);
	struct new_owner o;
	int err = new_owner_init(&o, in, &mode, c);

	if (!err && !(err = create_begin(dir, d))) {
		err = in->ops->mknod ? in->ops->mknod(in, d, mode, rdev, o.c) : -EPERM;
		create_end(dir);
	}
	cred_put(o.own);
	return err;
}

int vfs_do_symlink(struct dentry *dir, struct dentry *d, const char *target, const struct cred *c)
{
	struct inode *in = dentry_inode(dir);
	uint32_t mode = S_IFLNK | 0777;
	struct new_owner o;
	int err = new_owner_init(&o, in, &mode, c);

	if (!err && !(err = create_begin(dir, d))) {
		err = in->ops->symlink ? in->ops->symlink(in, d, target, o.c) : -EPERM;
		create_end(dir);
	}
	cred_put(o.own);
	return err;
}

int vfs_do_link(struct inode *target, struct dentry *dir, struct dentry *d)
{
	struct inode *in = dentry_inode(dir);
	int err = create_begin(dir, d);

	if (err)
		return err;
	if (target->nlink == 0 && !target->linkable)
		err = -ENOENT;
	else if (!in->ops->link)
		err = -EPERM;
	else
		err = in->ops->link(in, d, target);
	if (!err)
		target->linkable = false;
	create_end(dir);
	return err;
}

/* ---- what a new file may be done with ---- */

int new_perms_init(struct new_perms *n, struct inode *dir, uint32_t mode, uint32_t umask)
{
	struct acl *dflt = inode_acl_get(dir, ACL_DEFAULT);
	int err = 0;

	*n = (struct new_perms){.mode = mode};
	if (!dflt) {
		n->mode &= dir->sb->own_umask ? ~0U : ~umask;
		return 0;
	}
	err = acl_for_new(dflt, &n->mode, &n->acl[ACL_ACCESS]);
	if (!err && S_ISDIR(mode))
		n->acl[ACL_DEFAULT] = dflt;
	else
		acl_put(dflt);
	return err;
}

int new_perms_apply(const struct new_perms *n, struct inode *in)
{
	int err = 0;

	for (int i = 0; i < ACL_TYPES && !err; i++)
		if (n->acl[i])
			err = acl_store(in, (enum acl_type)i, n->acl[i]);
	return err;
}

void new_perms_fini(struct new_perms *n)
{
	for (int i = 0; i < ACL_TYPES; i++)
		acl_put(n->acl[i]);
}

/* ---- calls on names ---- */

int may_create(struct path dir, const struct cred *c)
{
	struct inode *in = dentry_inode(dir.dentry);

	if (in->dead)
		return -ENOENT;
	if (!uid_mapped(in->sb->user_ns, c->fsuid) || !gid_mapped(in->sb->user_ns, c->fsgid))
		return -EOVERFLOW;
	return path_permission(dir, MAY_WRITE | MAY_EXEC, c);
}

/* The name at the end of a walk has been made. */
static void notify_created(const struct walk *w, const struct dentry *d)
{
	notify_name(dentry_inode(w->cur.dentry), IN_CREATE, w->last, w->last_len, dentry_inode(d),
		    0);
}

/* Walks to where a name is to be made: w->cur is the directory, *out the negative dentry.  type:
 * S_IF*, or 0 for another name of a file, which landlock_may_link() judges. */
static int find_place(struct walk *w, const struct walk_env *env, const char *name, uint32_t type,
		      struct dentry **out)
{
	struct dentry *d;
	int err = walk_start(w, env, name, 0);

	if (!err)
		err = walk_to_parent(w);
	if (err)
		return err;
	if (!w->last || walk_last_is_dot(w))
		return -EEXIST;
	if ((err = walk_lookup_last(w, &d)))
		return err;
	if (dentry_inode(d))
		err = -EEXIST;
	else if (w->trailing && !S_ISDIR(type))
		err = -ENOENT;
	else
		err = may_create(w->cur, env->cred);
	if (!err && type)
		err = landlock_may_make(w->cur, type, env->cred);
	if (err) {
		dentry_put(d);
		return err;
	}
	*out = d;
	return 0;
}

static int mkdir_at(struct walk *w, struct dentry *d, uint32_t mode, const struct walk_env *env)
{
	struct new_perms np;
	int err = new_perms_init(&np, dentry_inode(w->cur.dentry), S_IFDIR | mode, env->umask);

	if (!err)
		err = vfs_do_mkdir(w->cur.dentry, d, np.mode, env->cred);
	if (!err && (err = new_perms_apply(&np, dentry_inode(d))))
		(void)!vfs_do_rmdir(w->cur.dentry, d);
	new_perms_fini(&np);
	return err;
}

static int mkdir_once(const struct walk_env *env, const char *name, uint32_t mode)
{
	struct walk w;
	struct dentry *d;
	int err = find_place(&w, env, name, S_IFDIR, &d);

	if (!err) {
		err = mkdir_at(&w, d, mode, env);
		if (!err)
			notify_created(&w, d);
		dentry_put(d);
	}
	walk_end(&w);
	return err;
}

int vfs_mkdir(const struct walk_env *env, const char *name, uint32_t mode)
{
	int err = -ESTALE;

	for (int i = 0; i < NAME_RETRIES && err == -ESTALE; i++)
		err = mkdir_once(env, name, mode & (07777 & ~(S_ISUID | S_ISGID)));
	return err;
}

static int make_at(struct dentry *dir, struct dentry *d, uint32_t mode, uint64_t rdev, int flags,
		   const struct walk_env *env)
{
	struct new_perms np;
	int err = new_perms_init(&np, dentry_inode(dir), mode, env->umask);

	if (!err)
		err = S_ISREG(mode) ? do_create(dir, d, np.mode, flags, env->cred)
				    : vfs_do_mknod(dir, d, np.mode, rdev, env->cred);
	if (!err && (err = new_perms_apply(&np, dentry_inode(d))))
		(void)!vfs_do_unlink(dir, d);
	new_perms_fini(&np);
	return err;
}

int create_at(struct walk *w, struct dentry *d, uint32_t mode, uint64_t rdev,
	      const struct walk_env *env)
{
	return make_at(w->cur.dentry, d, mode, rdev, NOT_OPENED, env);
}

int create_to_open(struct walk *w, struct dentry *d, uint32_t mode, int flags)
{
	return make_at(w->cur.dentry, d, mode, 0, flags, w->env);
}

/* 0:0 is none: overlays mark with it what is not there. */
static bool is_device(uint32_t mode, uint64_t rdev)
{
	return S_ISBLK(mode) || (S_ISCHR(mode) && rdev);
}

static int mknod_once(const struct walk_env *env, const char *name, uint32_t mode, uint64_t rdev,
		      struct path *created)
{
	struct walk w;
	struct dentry *d;
	int err = find_place(&w, env, name, mode & S_IFMT, &d);

	if (!err) {
		if (is_device(mode, rdev) && !cred_capable(env->cred, CAP_MKNOD))
			err = -EPERM;
		else
			err = create_at(&w, d, mode, rdev, env);
		if (!err)
			notify_created(&w, d);
		if (!err && created)
			*created = path_get((struct path){w.cur.mnt, d});
		dentry_put(d);
	}
	walk_end(&w);
	return err;
}

int vfs_mknod(const struct walk_env *env, const char *name, uint32_t mode, uint64_t rdev,
	      struct path *created)
{
	int err = -ESTALE;

	switch (mode & S_IFMT) {
	case 0:
		mode |= S_IFREG;
		break;
	case S_IFREG:
	case S_IFCHR:
	case S_IFBLK:
	case S_IFIFO:
	case S_IFSOCK:
		break;
	case S_IFDIR:
		return -EPERM;
	default:
		return -EINVAL;
	}
	for (int i = 0; i < NAME_RETRIES && err == -ESTALE; i++)
		err = mknod_once(env, name, mode, rdev, created);
	return err;
}

static int symlink_once(const struct walk_env *env, const char *target, const char *name)
{
	struct walk w;
	struct dentry *d;
	int err = find_place(&w, env, name, S_IFLNK, &d);

	if (!err) {
		err = vfs_do_symlink(w.cur.dentry, d, target, env->cred);
		if (!err)
			notify_created(&w, d);
		dentry_put(d);
	}
	walk_end(&w);
	return err;
}

int vfs_symlink(const struct walk_env *env, const char *target, const char *name)
{
	int err = -ESTALE;

	if (!target[0])
		return -ENOENT;
	for (int i = 0; i < NAME_RETRIES && err == -ESTALE; i++)
		err = symlink_once(env, target, name);
	return err;
}

static int link_once(struct path old, const struct walk_env *env, const char *name)
{
	struct inode *target = dentry_inode(old.dentry);
	struct walk w;
	struct dentry *d;
	int err = find_place(&w, env, name, 0, &d);

	if (!err) {
		if (old.mnt != w.cur.mnt)
			err = -EXDEV;
		else
			err = landlock_may_link(old, w.cur, env->cred);
		if (!err && inode_is_dir(target))
			err = -EPERM;
		if (!err)
			err = vfs_do_link(target, w.cur.dentry, d);
		if (!err) {
			notify_inode(target, IN_ATTRIB);
			notify_created(&w, d);
		}
		dentry_put(d);
	}
	walk_end(&w);
	return err;
}

int vfs_link(const struct walk_env *oldenv, const char *oldname, const struct walk_env *newenv,
	     const char *newname, unsigned walk_flags)
{
	CLEANUP_PATH struct path old = {NULL, NULL};
	int err = path_walk(oldenv, oldname, walk_flags, &old);

	if (err)
		return err;
	err = -ESTALE;
	for (int i = 0; i < NAME_RETRIES && err == -ESTALE; i++)
		err = link_once(old, newenv, newname);
	return err;
}
