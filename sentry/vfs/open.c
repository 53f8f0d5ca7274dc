/* Opening: open(2), openat2(2) from a name to a struct file. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/mount.h>

#include "sentry/vfs/internal.h"
#include "sentry/vfs/landlock.h"
#include "sentry/vfs/lease.h"

int (*vfs_open_device)(struct inode *in, struct file *f);
int (*vfs_open_fifo)(struct inode *in, struct file *f);

/* What F_GETFL does not show again. */
#define OPEN_ONLY_FLAGS (O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_CLOEXEC)
#define TMPFILE_BIT (O_TMPFILE & ~O_DIRECTORY)
#define OPEN_RETRIES 32

/* A descriptor of the place only: O_PATH. */
static const struct file_ops path_ops = {.stream = true};

static int inode_open(struct inode *in, struct file *f)
{
	int (*hook)(struct inode *, struct file *) = NULL;

	if (in->own_open)
		return in->ops->open(in, f->path.dentry, f);
	switch (in->mode & S_IFMT) {
	case S_IFCHR:
	case S_IFBLK:
		hook = vfs_open_device;
		break;
	case S_IFIFO:
		hook = vfs_open_fifo;
		break;
	case S_IFSOCK:
		return -ENXIO;
	}
	if (hook)
		return hook(in, f);
	return in->ops->open ? in->ops->open(in, f->path.dentry, f) : -ENXIO;
}

/* Which of the inode's counts it is in. */
static _Atomic int *count_of(const struct file *f)
{
	return file_writable(f) ? &f->inode->writers : &f->inode->readers;
}

static void file_count(struct file *f)
{
	f->counted = S_ISREG(f->inode->mode);
	if (f->counted)
		atomic_fetch_add(count_of(f), 1);
}

void file_uncount(struct file *f)
{
	if (f->counted)
		atomic_fetch_sub(count_of(f), 1);
}

int file_open_quiet(struct path p, int flags, struct file **out)
{
	struct file *f = file_new(p, flags & ~TMPFILE_BIT);

	if (!f)
		return -ENOMEM;
	if (flags & O_PATH) {
		f->ops = &path_ops;
		*out = f;
		return 0;
	}
	int err = 0;
	if (file_writable(f) && S_ISREG(f->inode->mode) && !(err = mount_writer_get(p.mnt)))
		f->writer = true;
	if (!err)
		err = inode_open(f->inode, f);
	if (err) {
		f->ops = &path_ops; /* nothing to release */
		file_put(f);
		return err;
	}
	f->flags &= ~OPEN_ONLY_FLAGS;
	file_count(f);
	*out = f;
	return 0;
}

static void note_open(struct file *f, uint32_t mask)
{
	if (f->flags & O_PATH)
		return;
	f->noted = true;
	notify_file(f, mask);
}

int file_open_path(struct path p, int flags, struct file **out)
{
	int err = file_open_quiet(p, flags, out);

	if (!err)
		note_open(*out, IN_OPEN);
	return err;
}

/* Before anybody hears of it: the file is counted already, so that no new lease comes between. */
static int open_end(struct file *f, int flags, uint32_t event, struct file **out)
{
	bool write = (flags & O_ACCMODE) != O_RDONLY || flags & O_TRUNC;
	int err = lease_break(f->inode, write, flags & O_NONBLOCK);

	if (err) {
		file_put(f);
		return err;
	}
	note_open(f, event);
	*out = f;
	return 0;
}

/*
 * As file_open_path, for a guest: his own rules are obeyed, who wants to be asked is, and leases
 * that are in the way end.
 */
static int open_asking(struct path p, int flags, bool exec, const struct cred *c, struct file **out)
{
	uint16_t denied;
	struct file *f;
	int err = landlock_may_open(p, flags, exec, c, &denied);

	if (!err && exec)
		err = notify_ask(&p, NOTIFY_OPEN_EXEC_PERM);
	if (err || (err = notify_ask(&p, NOTIFY_OPEN_PERM)) ||
	    (err = file_open_quiet(p, flags, &f)))
		return err;
	f->landlock_denied = denied;
	return open_end(f, flags, IN_OPEN | (exec ? NOTIFY_OPEN_EXEC : 0), out);
}

static int access_mask(int flags)
{
	static const int masks[] = {MAY_READ, MAY_WRITE, MAY_READ | MAY_WRITE,
				    MAY_READ | MAY_WRITE};
	return masks[flags & O_ACCMODE] | (flags & O_TRUNC ? MAY_WRITE : 0);
}

/* Everything that is judged about an existing file before it is opened. */
static int may_open(struct path p, int *flags, const struct cred *c)
{
	struct inode *in = dentry_inode(p.dentry);
	int mask = access_mask(*flags);

	switch (in->mode & S_IFMT) {
	case S_IFLNK:
		return -ELOOP;
	case S_IFDIR:
		if (mask & MAY_WRITE)
			return -EISDIR;
		break;
	case S_IFCHR:
	case S_IFBLK:
		if (p.mnt->flags & MS_NODEV || in->sb->user_ns != &user_ns_top)
			return -EACCES;
		*flags &= ~O_TRUNC;
		break;
	case S_IFIFO:
	case S_IFSOCK:
		*flags &= ~O_TRUNC;
		break;
	}
	int err = path_permission(p, mask, c);
	if (err)
		return err;
	if (*flags & O_NOATIME && !inode_owner_or_capable(in, c))
		return -EPERM;
	return 0;
}

static int open_found(struct path p, int flags, const struct cred *c, struct file **out)
{
	struct inode *in = dentry_inode(p.dentry);
	struct file *f;

	if (flags & O_DIRECTORY && !in->ops->lookup)
		return -ENOTDIR;
	if (flags & O_PATH)
		return file_open_path(p, flags, out);
	int err = may_open(p, &flags, c);
	if (err)
		return err;
	if ((err = open_asking(p, flags, false, c, &f)))
		return err;
	if (flags & O_TRUNC && (err = inode_truncate(in, 0, c))) {
		file_put(f);
		return err;
	}
	if (flags & O_TRUNC)
		notify_dentry(p.dentry, IN_MODIFY);
	*out = f;
	return 0;
}

static int open_tmpfile(const struct walk_env *env, const char *name, int flags, uint32_t mode,
			unsigned walk_flags, struct file **out)
{
	CLEANUP_PATH struct path dir = {NULL, NULL};
	int err = path_walk(env, name, walk_flags | WALK_DIRECTORY, &dir);

	if (err || (err = may_create(dir, env->cred)))
		return err;
	struct inode *din = dentry_inode(dir.dentry);
	if (!din->ops->tmpfile)
		return -EOPNOTSUPP;
	struct dentry *d = dentry_alloc(dir.dentry->sb, dir.dentry, "#", 1);
	if (!d)
		return -ENOMEM;
	struct new_perms np;
	if ((err = new_perms_init(&np, din, S_IFREG | (mode & 07777), env->umask))) {
		dentry_put(d);
		return err;
	}
	err = dir_lock(din, DIR_FIRST);
	if (!err) {
		err = din->ops->tmpfile(din, d, np.mode, env->cred);
		dir_unlock(din, DIR_FIRST);
	}
	if (!err)
		err = new_perms_apply(&np, d->inode);
	new_perms_fini(&np);
	if (!err) {
		/* Nobody has seen the name yet. */
		d->inode->linkable = !(flags & O_EXCL);
		d->name_len = (uint16_t)snprintf(d->inline_name, sizeof(d->inline_name), "#%lu",
						 (unsigned long)d->inode->ino);
		err = open_asking((struct path){dir.mnt, d}, flags, false, env->cred, out);
	}
	dentry_put(d);
	return err;
}

/*
 * The last component is known, and O_CREAT is set: opens what is there or makes it.  -ESTALE:
 * another task was faster.  *again: it was a symlink, and the walk goes on from its target.
 */
static int open_last(struct walk *w, int flags, uint32_t mode, struct file **out, bool *again)
{
	const struct cred *c = w->env->cred;
	struct dentry *d;

	*again = false;
	if (!w->last || walk_last_is_dot(w))
		return flags & O_EXCL ? -EEXIST : -EISDIR;
	if (w->trailing)
		return -EISDIR;
	int err = walk_lookup_last(w, &d);
	if (err)
		return err;

	CLEANUP_PATH struct path p = {mount_get(w->cur.mnt), d};
	if (!dentry_inode(d)) {
		if ((err = may_create(w->cur, c)) || (err = landlock_may_make(w->cur, S_IFREG, c)))
			return err;
		err = create_to_open(w, d, S_IFREG | (mode & 07777), flags);
		if (err == -EEXIST && !(flags & O_EXCL))
			err = -ESTALE;
		if (err)
			return err;
		notify_name(dentry_inode(w->cur.dentry), IN_CREATE, w->last, w->last_len,
			    dentry_inode(d), 0);
		return open_asking(p, flags & ~O_TRUNC, false, c, out);
	}
	if (flags & O_EXCL)
		return -EEXIST;
	if ((err = path_cross_mounts(&p, w->flags)))
		return err;
	if (S_ISLNK(dentry_inode(p.dentry)->mode) && !(w->flags & WALK_NOFOLLOW)) {
		bool jumped;
		err = walk_follow_last(w, p.dentry, &jumped);
		if (err || !jumped) {
			*again = !err;
			return err;
		}
		struct path old = p;
		p = path_get(w->cur);
		path_put(old);
	}
	if (inode_is_dir(dentry_inode(p.dentry)))
		return -EISDIR;
	return open_found(p, flags, c, out);
}

static int open_create(const struct walk_env *env, const char *name, int flags, uint32_t mode,
		       unsigned walk_flags, struct file **out)
{
	struct walk w;
	bool again = true;
	int err = walk_start(&w, env, name, walk_flags);

	if (err)
		return err;
	while (!err && again) {
		err = walk_to_parent(&w);
		if (!err)
			err = open_last(&w, flags, mode, out, &again);
	}
	walk_end(&w);
	return err;
}

int vfs_open(const struct walk_env *env, const char *name, int flags, uint32_t mode,
	     unsigned walk_flags, struct file **out)
{
	int err = -ESTALE;

	if (flags & O_PATH)
		flags &= O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	if (flags & O_NOFOLLOW || (flags & O_CREAT && flags & O_EXCL))
		walk_flags |= WALK_NOFOLLOW;
	if (flags & TMPFILE_BIT)
		return open_tmpfile(env, name, flags, mode, walk_flags, out);
	if (flags & O_CREAT) {
		for (int i = 0; i < OPEN_RETRIES && err == -ESTALE; i++)
			err = open_create(env, name, flags, mode, walk_flags, out);
		return err;
	}
	if (flags & O_DIRECTORY)
		walk_flags |= WALK_DIRECTORY;
	else if (!(flags & (O_PATH | O_ACCMODE | O_TRUNC)))
		walk_flags |= WALK_OPEN;
	CLEANUP_PATH struct path p = {NULL, NULL};
	err = path_walk(env, name, walk_flags, &p);
	return err ? err : open_found(p, flags, env->cred, out);
}

int vfs_open_exec(const struct walk_env *env, const char *name, unsigned walk_flags,
		  struct file **out)
{
	CLEANUP_PATH struct path p = {NULL, NULL};
	int err = path_walk(env, name, walk_flags | WALK_OPEN, &p);

	if (err)
		return err;
	struct inode *in = dentry_inode(p.dentry);
	if (S_ISLNK(in->mode))
		return -ELOOP;
	if (!S_ISREG(in->mode) || (p.mnt->flags & MS_NOEXEC))
		return -EACCES;
	if ((err = inode_permission(in, MAY_EXEC, env->cred)))
		return err;
	return open_asking(p, O_RDONLY, true, env->cred, out);
}
