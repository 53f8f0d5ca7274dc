/* Changing attributes: chmod(2), chown(2), utimensat(2) and their families. */
#include <errno.h>
#include <fcntl.h>
#include <sys/time.h>
#include <time.h>
#include <utime.h>

#include "syscalls/file_io.h"
#include "syscalls/syscalls.h"

/* ---- chmod ---- */

static long chmod_path(struct task *t, struct path p, uint32_t mode)
{
	struct iattr a = {.valid = ATTR_MODE, .mode = mode & 07777};

	if (S_ISLNK(p.dentry->inode->mode))
		return -EOPNOTSUPP;
	return vfs_setattr(p, &a, t->cred);
}

static long do_chmod(struct task *t, int dirfd, uaddr_t name, uint32_t mode, int flags)
{
	CLEANUP_PATH struct path p = {NULL, NULL};

	if (flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
		return -EINVAL;
	int err = path_at(t, dirfd, name, walk_flags_from_at(flags), &p);
	return err ? err : chmod_path(t, p, mode);
}

long sys_chmod(struct task *t, uaddr_t path, uint32_t mode)
{
	return do_chmod(t, AT_FDCWD, path, mode, 0);
}

long sys_fchmodat(struct task *t, int dirfd, uaddr_t path, uint32_t mode)
{
	return do_chmod(t, dirfd, path, mode, 0);
}

long sys_fchmodat2(struct task *t, int dirfd, uaddr_t path, uint32_t mode, int flags)
{
	return do_chmod(t, dirfd, path, mode, flags);
}

long sys_fchmod(struct task *t, int fd, uint32_t mode)
{
	CLEANUP_FILE struct file *f = fdtable_file(t->fds, fd);
	return f ? chmod_path(t, f->path, mode) : -EBADF;
}

/* ---- chown ---- */

static long chown_path(struct task *t, struct path p, unsigned uid, unsigned gid)
{
	const struct user_ns *u = t->cred->user_ns;
	struct iattr a = {.uid = uid_enter(u, uid), .gid = gid_enter(u, gid)};

	if (uid != ~0u)
		a.valid |= ATTR_UID;
	if (gid != ~0u)
		a.valid |= ATTR_GID;
	if ((a.valid & ATTR_UID && a.uid == ID_NONE) || (a.valid & ATTR_GID && a.gid == ID_NONE))
		return -EINVAL;
	return vfs_setattr(p, &a, t->cred);
}

static long do_chown(struct task *t, int dirfd, uaddr_t name, unsigned uid, unsigned gid, int flags)
{
	CLEANUP_PATH struct path p = {NULL, NULL};

	if (flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
		return -EINVAL;
	int err = path_at(t, dirfd, name, walk_flags_from_at(flags), &p);
	return err ? err : chown_path(t, p, uid, gid);
}

long sys_chown(struct task *t, uaddr_t path, unsigned uid, unsigned gid)
{
	return do_chown(t, AT_FDCWD, path, uid, gid, 0);
}

long sys_lchown(struct task *t, uaddr_t path, unsigned uid, unsigned gid)
{
	return do_chown(t, AT_FDCWD, path, uid, gid, AT_SYMLINK_NOFOLLOW);
}

long sys_fchownat(struct task *t, int dirfd, uaddr_t path, unsigned uid, unsigned gid, int flags)
{
	return do_chown(t, dirfd, path, uid, gid, flags);
}

long sys_fchown(struct task *t, int fd, unsigned uid, unsigned gid)
{
	CLEANUP_FILE struct file *f = fdtable_file(t->fds, fd);
	return f ? chown_path(t, f->path, uid, gid) : -EBADF;
}

/* ---- times ---- */

static const struct iattr times_now = {
	.valid = ATTR_ATIME | ATTR_MTIME | ATTR_ATIME_NOW | ATTR_MTIME_NOW,
};

/* One of utimensat's two times; `shift`: 0 for the access time, 1 for the modification time. */
static int add_time(struct iattr *a, const struct timespec *ts, int shift)
{
	if (ts->tv_nsec == UTIME_OMIT)
		return 0;
	a->valid |= (unsigned)ATTR_ATIME << shift;
	if (ts->tv_nsec == UTIME_NOW) {
		a->valid |= (unsigned)ATTR_ATIME_NOW << shift;
		return 0;
	}
	if (ts->tv_nsec < 0 || ts->tv_nsec >= NSEC_PER_SEC)
		return -EINVAL;
	*(shift ? &a->mtime : &a->atime) = (struct ktime){ts->tv_sec, (uint32_t)ts->tv_nsec};
	return 0;
}
_Static_assert(ATTR_MTIME == ATTR_ATIME << 1 && ATTR_MTIME_NOW == ATTR_ATIME_NOW << 1, "pairs");

static long set_times(struct task *t, int dirfd, uaddr_t name, const struct iattr *a, int flags)
{
	CLEANUP_PATH struct path p = {NULL, NULL};
	int err = path_at(t, dirfd, name, walk_flags_from_at(flags), &p);

	return err ? err : vfs_setattr(p, a, t->cred);
}

long sys_utimensat(struct task *t, int dirfd, uaddr_t path, uaddr_t times, int flags)
{
	struct iattr a = times_now;

	if (!uaddr_is_null(times)) {
		struct timespec ts[2];
		if (copy_in(&t->um, ts, times, sizeof(ts)))
			return -EFAULT;
		a.valid = 0;
		int err = add_time(&a, &ts[0], 0);
		if (!err)
			err = add_time(&a, &ts[1], 1);
		if (err)
			return err;
		if (!a.valid)
			return 0; /* nothing to do: not even the path is looked at */
	}
	if (flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
		return -EINVAL;
	if (!uaddr_is_null(path) || dirfd == AT_FDCWD)
		return set_times(t, dirfd, path, &a, flags);
	if (flags)
		return -EINVAL;
	CLEANUP_FILE struct file *f = fdtable_file(t->fds, dirfd);
	return f ? vfs_setattr(f->path, &a, t->cred) : -EBADF;
}

static long do_utimes(struct task *t, int dirfd, uaddr_t path, uaddr_t times)
{
	struct iattr a = times_now;

	if (!uaddr_is_null(times)) {
		struct timeval tv[2];
		if (copy_in(&t->um, tv, times, sizeof(tv)))
			return -EFAULT;
		for (int i = 0; i < 2; i++)
			if (tv[i].tv_usec < 0 || tv[i].tv_usec >= 1000000)
				return -EINVAL;
		a = (struct iattr){
			.valid = ATTR_ATIME | ATTR_MTIME,
			.atime = {tv[0].tv_sec, (uint32_t)tv[0].tv_usec * 1000},
			.mtime = {tv[1].tv_sec, (uint32_t)tv[1].tv_usec * 1000},
		};
	}
	if (!uaddr_is_null(path) || dirfd == AT_FDCWD)
		return set_times(t, dirfd, path, &a, 0);
	CLEANUP_FILE struct file *f = fdtable_file(t->fds, dirfd);
	return f ? vfs_setattr(f->path, &a, t->cred) : -EBADF;
}

long sys_utimes(struct task *t, uaddr_t path, uaddr_t times)
{
	return do_utimes(t, AT_FDCWD, path, times);
}

long sys_futimesat(struct task *t, int dirfd, uaddr_t path, uaddr_t times)
{
	return do_utimes(t, dirfd, path, times);
}

long sys_utime(struct task *t, uaddr_t path, uaddr_t times)
{
	struct iattr a = times_now;

	if (!uaddr_is_null(times)) {
		struct utimbuf tb;
		if (copy_in_val(&t->um, &tb, times))
			return -EFAULT;
		a = (struct iattr){
			.valid = ATTR_ATIME | ATTR_MTIME,
			.atime = {tb.actime, 0},
			.mtime = {tb.modtime, 0},
		};
	}
	return set_times(t, AT_FDCWD, path, &a, 0);
}
