/* Looking at files: stat(2) and its family, access(2), readlink(2), statfs(2). */
#include <errno.h>
#include <fcntl.h>
#include <linux/securebits.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "sentry/abi/stat.h"
#include "sentry/vfs/mount.h"
#include "syscalls/file_io.h"
#include "syscalls/syscalls.h"

/* ---- stat ---- */

static int stat_out(struct task *t, const struct kstat *k, uaddr_t to)
{
	struct stat st = {
		.st_dev = k->dev,
		.st_ino = k->ino,
		.st_nlink = k->nlink,
		.st_mode = k->mode,
		.st_uid = uid_show(t->cred->user_ns, k->uid),
		.st_gid = gid_show(t->cred->user_ns, k->gid),
		.st_rdev = k->rdev,
		.st_size = (off_t)k->size,
		.st_blksize = k->blksize,
		.st_blocks = (blkcnt_t)k->blocks,
		.st_atim = {k->atime.sec, k->atime.nsec},
		.st_mtim = {k->mtime.sec, k->mtime.nsec},
		.st_ctim = {k->ctime.sec, k->ctime.nsec},
	};
	return copy_out_last(&t->um, to, &st, sizeof(st));
}

static long do_stat(struct task *t, int dirfd, uaddr_t name, int at_flags, uaddr_t st)
{
	struct kstat k;
	int err = stat_at(t, dirfd, name, walk_flags_from_at(at_flags), &k);

	return err ? err : stat_out(t, &k, st);
}

long sys_stat(struct task *t, uaddr_t path, uaddr_t st)
{
	return do_stat(t, AT_FDCWD, path, 0, st);
}

long sys_lstat(struct task *t, uaddr_t path, uaddr_t st)
{
	return do_stat(t, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, st);
}

long sys_newfstatat(struct task *t, int dirfd, uaddr_t path, uaddr_t st, int flags)
{
	if (flags & ~(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH))
		return -EINVAL;
	return do_stat(t, dirfd, path, flags, st);
}

long sys_fstat(struct task *t, int fd, uaddr_t st)
{
	CLEANUP_FILE struct file *f = fdtable_file_any(t->fds, fd);
	struct kstat k;

	if (!f)
		return -EBADF;
	int err = vfs_getattr(f->path, &k);
	return err ? err : stat_out(t, &k, st);
}

static struct statx_timestamp statx_time(struct ktime k)
{
	return (struct statx_timestamp){.tv_sec = k.sec, .tv_nsec = k.nsec};
}

#define LINUX_STATX_MNT_ID_UNIQUE 0x4000U /* Linux 6.8 */

long sys_statx(struct task *t, int dirfd, uaddr_t path, int flags, unsigned mask, uaddr_t to)
{
	struct kstat k;

	if (mask & STATX__RESERVED)
		return -EINVAL;
	if (flags & ~(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC_TYPE) ||
	    (flags & AT_STATX_SYNC_TYPE) == AT_STATX_SYNC_TYPE)
		return -EINVAL;
	int err = stat_at(t, dirfd, path, walk_flags_from_at(flags), &k);
	if (err)
		return err;
	struct statx sx = {
		.stx_mask = k.mask | STATX_BASIC_STATS | STATX_MNT_ID,
		.stx_blksize = k.blksize,
		.stx_attributes = k.attributes,
		.stx_nlink = k.nlink,
		.stx_uid = uid_show(t->cred->user_ns, k.uid),
		.stx_gid = gid_show(t->cred->user_ns, k.gid),
		.stx_mode = (uint16_t)k.mode,
		.stx_ino = k.ino,
		.stx_size = k.size,
		.stx_blocks = k.blocks,
		.stx_attributes_mask = k.attributes_mask,
		.stx_atime = statx_time(k.atime),
		.stx_btime = statx_time(k.btime),
		.stx_ctime = statx_time(k.ctime),
		.stx_mtime = statx_time(k.mtime),
		.stx_rdev_major = major(k.rdev),
		.stx_rdev_minor = minor(k.rdev),
		.stx_dev_major = major(k.dev),
		.stx_dev_minor = minor(k.dev),
		.stx_mnt_id = k.mount_id,
	};
	if (mask & LINUX_STATX_MNT_ID_UNIQUE) {
		sx.stx_mask ^= STATX_MNT_ID | LINUX_STATX_MNT_ID_UNIQUE;
		sx.stx_mnt_id += MOUNT_UNIQUE_BASE;
	}
	return copy_out_last(&t->um, to, &sx, sizeof(sx));
}

/* ---- access ---- */

/* access(2) asks for the real ids: credentials that judge by them.  NULL: no memory. */
static struct cred *access_cred(struct task *t)
{
	struct cred *c = t->cred;
	uint64_t caps = c->cap_effective;

	if (!(c->securebits & SECBIT_NO_SETUID_FIXUP))
		caps = c->uid == uid_enter(c->user_ns, 0) ? c->cap_permitted : 0;
	if (c->uid == c->fsuid && c->gid == c->fsgid && caps == c->cap_effective)
		return cred_get(c);
	c = cred_dup(c);
	if (!c)
		return NULL;
	c->fsuid = c->uid;
	c->fsgid = c->gid;
	c->cap_effective = caps;
	return c;
}

static long do_access(struct task *t, int dirfd, uaddr_t name, uint32_t mode, int flags)
{
	struct path_name n;
	struct walk_env env;
	CLEANUP_PATH struct path p = {NULL, NULL};

	if (mode & ~(uint32_t)(R_OK | W_OK | X_OK))
		return -EINVAL;
	if (flags & ~(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
		return -EINVAL;
	ssize_t len = path_name_get(t, &n, name);
	if (len < 0)
		return len;
	int err = task_walk_env(t, dirfd, n.s, &env);
	if (err)
		return err;
	struct cred *c = flags & AT_EACCESS ? cred_get(t->cred) : access_cred(t);
	if (c) {
		env.cred = c;
		err = path_walk(&env, n.s, walk_flags_from_at(flags), &p);
		if (!err && mode)
			err = path_permission(p, (int)mode | MAY_ACCESS, c);
	} else {
		err = -ENOMEM;
	}
	cred_put(c);
	walk_env_fini(&env);
	return err;
}

long sys_access(struct task *t, uaddr_t path, uint32_t mode)
{
	return do_access(t, AT_FDCWD, path, mode, 0);
}

long sys_faccessat(struct task *t, int dirfd, uaddr_t path, uint32_t mode)
{
	return do_access(t, dirfd, path, mode, 0);
}

long sys_faccessat2(struct task *t, int dirfd, uaddr_t path, uint32_t mode, int flags)
{
	return do_access(t, dirfd, path, mode, flags);
}

/* ---- readlink ---- */

static long do_readlink(struct task *t, int dirfd, uaddr_t name, uaddr_t buf, int n)
{
	CLEANUP_PATH struct path p = {NULL, NULL};
	char target[VFS_PATH_MAX];

	if (n <= 0)
		return -EINVAL;
	/* An empty name is the link that dirfd (O_PATH|O_NOFOLLOW) stands for. */
	int err = path_at(t, dirfd, name, WALK_NOFOLLOW | WALK_EMPTY, &p);
	if (err)
		return err;
	if (!S_ISLNK(p.dentry->inode->mode)) {
		char first;
		return copy_in(&t->um, &first, name, 1) ? -EFAULT : first ? -EINVAL : -ENOENT;
	}
	ssize_t len = vfs_readlink(p, target, MIN((size_t)n, sizeof(target)));
	if (len < 0)
		return len;
	return copy_out(&t->um, buf, target, (size_t)len) ? -EFAULT : len;
}

long sys_readlink(struct task *t, uaddr_t path, uaddr_t buf, int n)
{
	return do_readlink(t, AT_FDCWD, path, buf, n);
}

long sys_readlinkat(struct task *t, int dirfd, uaddr_t path, uaddr_t buf, int n)
{
	return do_readlink(t, dirfd, path, buf, n);
}

/* ---- statfs ---- */

static long statfs_out(struct task *t, struct path p, uaddr_t to)
{
	struct kstatfs k;
	int err = vfs_statfs(p, &k);

	if (err)
		return err;
	struct statfs st = {
		.f_type = (__fsword_t)k.type,
		.f_bsize = (__fsword_t)k.bsize,
		.f_blocks = k.blocks,
		.f_bfree = k.bfree,
		.f_bavail = k.bavail,
		.f_files = k.files,
		.f_ffree = k.ffree,
		.f_fsid = {{(int)k.fsid, (int)(k.fsid >> 32)}},
		.f_namelen = (__fsword_t)k.namelen,
		.f_frsize = (__fsword_t)k.frsize,
		.f_flags = (__fsword_t)k.flags,
	};
	return copy_out_val(&t->um, to, &st);
}

long sys_statfs(struct task *t, uaddr_t path, uaddr_t buf)
{
	CLEANUP_PATH struct path p = {NULL, NULL};
	int err = path_at(t, AT_FDCWD, path, 0, &p);

	return err ? err : statfs_out(t, p, buf);
}

long sys_fstatfs(struct task *t, int fd, uaddr_t buf)
{
	CLEANUP_FILE struct file *f = fdtable_file_any(t->fds, fd);
	return f ? statfs_out(t, f->path, buf) : -EBADF;
}
