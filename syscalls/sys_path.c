/* Names: mkdir(2), mknod(2), link(2), symlink(2), unlink(2), rmdir(2), rename(2); and where a task
 * stands: chdir(2), chroot(2), getcwd(2), umask(2). */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <unistd.h>

#include "syscalls/file_io.h"
#include "syscalls/syscalls.h"

/* ---- making ---- */

static long do_mkdir(struct task *t, int dirfd, uaddr_t path, uint32_t mode)
{
	struct at_name a;
	int err = at_name_init(t, &a, dirfd, path);

	if (err)
		return err;
	err = vfs_mkdir(&a.env, a.name.s, mode & 01777);
	at_name_fini(&a);
	return err;
}

long sys_mkdir(struct task *t, uaddr_t path, uint32_t mode)
{
	return do_mkdir(t, AT_FDCWD, path, mode);
}

long sys_mkdirat(struct task *t, int dirfd, uaddr_t path, uint32_t mode)
{
	return do_mkdir(t, dirfd, path, mode);
}

static long do_mknod(struct task *t, int dirfd, uaddr_t path, uint32_t mode, unsigned dev)
{
	struct at_name a;
	int err = at_name_init(t, &a, dirfd, path);

	if (err)
		return err;
	err = vfs_mknod(&a.env, a.name.s, mode, dev, NULL);
	at_name_fini(&a);
	return err;
}

long sys_mknod(struct task *t, uaddr_t path, uint32_t mode, unsigned dev)
{
	return do_mknod(t, AT_FDCWD, path, mode, dev);
}

long sys_mknodat(struct task *t, int dirfd, uaddr_t path, uint32_t mode, unsigned dev)
{
	return do_mknod(t, dirfd, path, mode, dev);
}

static long do_symlink(struct task *t, uaddr_t target, int dirfd, uaddr_t path)
{
	struct path_name to;
	struct at_name a;
	ssize_t len = path_name_get(t, &to, target);

	if (len < 0)
		return len;
	int err = at_name_init(t, &a, dirfd, path);
	if (err)
		return err;
	err = vfs_symlink(&a.env, to.s, a.name.s);
	at_name_fini(&a);
	return err;
}

long sys_symlink(struct task *t, uaddr_t target, uaddr_t path)
{
	return do_symlink(t, target, AT_FDCWD, path);
}

long sys_symlinkat(struct task *t, uaddr_t target, int dirfd, uaddr_t path)
{
	return do_symlink(t, target, dirfd, path);
}

static long do_link(struct task *t, int olddirfd, uaddr_t old, int newdirfd, uaddr_t new, int flags)
{
	struct path_name from;
	struct walk_env oldenv;
	struct at_name to;

	if (flags & ~(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH))
		return -EINVAL;
	unsigned walk = flags & AT_SYMLINK_FOLLOW ? 0 : WALK_NOFOLLOW;
	if (flags & AT_EMPTY_PATH)
		walk |= WALK_EMPTY;
	ssize_t len = path_name_get(t, &from, old);
	if (len < 0)
		return len;
	/* A bare descriptor is as good as a name only for those who may go anywhere. */
	if (!len && (!(flags & AT_EMPTY_PATH) || !task_capable(t, CAP_DAC_READ_SEARCH)))
		return -ENOENT;
	int err = task_walk_env(t, olddirfd, from.s, &oldenv);
	if (err)
		return err;
	err = at_name_init(t, &to, newdirfd, new);
	if (!err) {
		err = vfs_link(&oldenv, from.s, &to.env, to.name.s, walk);
		at_name_fini(&to);
	}
	walk_env_fini(&oldenv);
	return err;
}

long sys_link(struct task *t, uaddr_t old, uaddr_t new)
{
	return do_link(t, AT_FDCWD, old, AT_FDCWD, new, 0);
}

long sys_linkat(struct task *t, int olddirfd, uaddr_t old, int newdirfd, uaddr_t new, int flags)
{
	return do_link(t, olddirfd, old, newdirfd, new, flags);
}

/* ---- removing ---- */

static long do_unlink(struct task *t, int dirfd, uaddr_t path, bool rmdir)
{
	struct at_name a;
	int err = at_name_init(t, &a, dirfd, path);

	if (err)
		return err;
	err = vfs_unlink(&a.env, a.name.s, rmdir);
	at_name_fini(&a);
	return err;
}

long sys_unlink(struct task *t, uaddr_t path)
{
	return do_unlink(t, AT_FDCWD, path, false);
}

long sys_rmdir(struct task *t, uaddr_t path)
{
	return do_unlink(t, AT_FDCWD, path, true);
}

long sys_unlinkat(struct task *t, int dirfd, uaddr_t path, int flags)
{
	if (flags & ~AT_REMOVEDIR)
		return -EINVAL;
	return do_unlink(t, dirfd, path, flags & AT_REMOVEDIR);
}

/* ---- renaming ---- */

static long do_rename(struct task *t, int olddirfd, uaddr_t old, int newdirfd, uaddr_t new,
		      unsigned flags)
{
	struct at_name from, to;
	int err = at_name_init(t, &from, olddirfd, old);

	if (err)
		return err;
	err = at_name_init(t, &to, newdirfd, new);
	if (!err) {
		err = vfs_rename(&from.env, from.name.s, &to.env, to.name.s, flags);
		at_name_fini(&to);
	}
	at_name_fini(&from);
	return err;
}

long sys_rename(struct task *t, uaddr_t old, uaddr_t new)
{
	return do_rename(t, AT_FDCWD, old, AT_FDCWD, new, 0);
}

long sys_renameat(struct task *t, int olddirfd, uaddr_t old, int newdirfd, uaddr_t new)
{
	return do_rename(t, olddirfd, old, newdirfd, new, 0);
}

long sys_renameat2(struct task *t, int olddirfd, uaddr_t old, int newdirfd, uaddr_t new,
		   unsigned flags)
{
	return do_rename(t, olddirfd, old, newdirfd, new, flags);
}

/* ---- where a task stands ---- */

/* Puts *p (whose references are consumed) into a field of the fs context. */
static void replace_path(struct fs_context *fs, struct path *field, struct path p)
{
	mutex_lock(&fs->lock, &lc_fs);
	struct path old = *field;
	*field = p;
	mutex_unlock(&fs->lock, &lc_fs);
	path_put(old);
}

long sys_chdir(struct task *t, uaddr_t name)
{
	struct path p;
	int err = path_at(t, AT_FDCWD, name, WALK_DIRECTORY, &p);

	if (err)
		return err;
	if ((err = path_permission(p, X_OK | MAY_ACCESS, t->cred))) {
		path_put(p);
		return err;
	}
	replace_path(t->fs, &t->fs->cwd, p);
	return 0;
}

long sys_fchdir(struct task *t, int fd)
{
	CLEANUP_FILE struct file *f = fdtable_file_any(t->fds, fd);

	if (!f)
		return -EBADF;
	if (!inode_is_dir(f->inode))
		return -ENOTDIR;
	int err = path_permission(f->path, X_OK | MAY_ACCESS, t->cred);
	if (!err)
		replace_path(t->fs, &t->fs->cwd, path_get(f->path));
	return err;
}

long sys_chroot(struct task *t, uaddr_t name)
{
	struct path p;
	int err = path_at(t, AT_FDCWD, name, WALK_DIRECTORY, &p);

	if (err)
		return err;
	err = path_permission(p, X_OK | MAY_ACCESS, t->cred);
	if (!err && !task_own_capable(t, CAP_SYS_CHROOT))
		err = -EPERM;
	if (err) {
		path_put(p);
		return err;
	}
	replace_path(t->fs, &t->fs->root, p);
	return 0;
}

long sys_getcwd(struct task *t, uaddr_t buf, uint64_t size)
{
	CLEANUP_FREE char *mem = malloc(VFS_PATH_MAX);
	char *start;

	if (!mem)
		return -ENOMEM;
	mutex_lock(&t->fs->lock, &lc_fs);
	CLEANUP_PATH struct path cwd = path_get(t->fs->cwd);
	CLEANUP_PATH struct path root = path_get(t->fs->root);
	mutex_unlock(&t->fs->lock, &lc_fs);
	/* A root is never unhashed; a removed directory has no name. */
	if (!cwd.dentry->hashed)
		return -ENOENT;
	ssize_t len = path_name(cwd, root, mem, VFS_PATH_MAX, false, &start);
	if (len < 0)
		return len;
	if ((uint64_t)len + 1 > size)
		return -ERANGE;
	return copy_out_last(&t->um, buf, start, (size_t)len + 1) ? -EFAULT : len + 1;
}

long sys_umask(struct task *t, uint32_t mask)
{
	mutex_lock(&t->fs->lock, &lc_fs);
	uint32_t old = t->fs->umask;
	t->fs->umask = mask & 0777;
	mutex_unlock(&t->fs->lock, &lc_fs);
	return old;
}
