/* fanotify_init(2), fanotify_mark(2). */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/fanotify.h>
#include <sys/mount.h>

#include "sentry/fs/notify/fanotify.h"
#include "sentry/vfs/handle.h"
#include "syscalls/file_io.h"
#include "syscalls/syscalls.h"

#define CLASS_BITS (FAN_CLASS_CONTENT | FAN_CLASS_PRE_CONTENT)
#define ADMIN_FLAGS                                                             \
	(CLASS_BITS | FAN_REPORT_TID | FAN_REPORT_PIDFD | FAN_REPORT_FD_ERROR | \
	 FAN_UNLIMITED_QUEUE | FAN_UNLIMITED_MARKS)
#define INIT_FLAGS (ADMIN_FLAGS | FAN_FID_BITS | FAN_CLOEXEC | FAN_NONBLOCK | FAN_ENABLE_AUDIT)
#define FILE_FLAGS                                                                              \
	(O_ACCMODE | O_APPEND | O_NONBLOCK | O_SYNC | O_DSYNC | O_CLOEXEC | LINUX_O_LARGEFILE | \
	 O_NOATIME)

static int check_init(struct task *t, unsigned flags, unsigned event_flags)
{
	unsigned class = flags & CLASS_BITS, fid = flags & FAN_FID_BITS;

	if (!task_capable(t, CAP_SYS_ADMIN) && (flags & ADMIN_FLAGS || !fid))
		return -EPERM;
	if (flags & ~(unsigned)INIT_FLAGS)
		return -EINVAL;
	if (flags & FAN_REPORT_PIDFD && flags & FAN_REPORT_TID)
		return -EINVAL;
	if (event_flags & ~(unsigned)FILE_FLAGS || (event_flags & O_ACCMODE) == O_ACCMODE)
		return -EINVAL;
	if (class == CLASS_BITS || (fid && class))
		return -EINVAL;
	if (fid & FAN_REPORT_NAME && !(fid & FAN_REPORT_DIR_FID))
		return -EINVAL;
	if (fid & FAN_REPORT_TARGET_FID && (fid & FAN_FID_BITS) != FAN_FID_BITS)
		return -EINVAL;
	if (flags & FAN_ENABLE_AUDIT && !task_capable(t, CAP_AUDIT_WRITE))
		return -EPERM;
	return 0;
}

long sys_fanotify_init(struct task *t, unsigned flags, unsigned event_flags)
{
	struct file *f;
	int err = check_init(t, flags, event_flags);

	if (err)
		return err;
	err = fanotify_create_file(flags, (int)event_flags, t->cred->uid,
				   !task_capable(t, CAP_SYS_ADMIN), &f);
	if (err)
		return err;
	return fdtable_install(t->fds, task_rlimit(t, RLIMIT_NOFILE), f, flags & FAN_CLOEXEC);
}

/* ---- marks ---- */

#define CMD_BITS (FAN_MARK_ADD | FAN_MARK_REMOVE | FAN_MARK_FLUSH)
#define KIND_BITS (FAN_MARK_MOUNT | FAN_MARK_FILESYSTEM)
#define IGNORE_BITS (FAN_MARK_IGNORED_MASK | FAN_MARK_IGNORE)
#define MARK_FLAGS                                                                      \
	(CMD_BITS | KIND_BITS | IGNORE_BITS | FAN_MARK_DONT_FOLLOW | FAN_MARK_ONLYDIR | \
	 FAN_MARK_IGNORED_SURV_MODIFY | FAN_MARK_EVICTABLE)

#define PERM_EVENTS (FAN_OPEN_PERM | FAN_ACCESS_PERM | FAN_OPEN_EXEC_PERM)
#define ENTRY_EVENTS (FAN_MOVE | FAN_CREATE | FAN_DELETE | FAN_RENAME)
#define FD_EVENTS (FAN_ACCESS | FAN_MODIFY | FAN_CLOSE | FAN_OPEN | FAN_OPEN_EXEC | PERM_EVENTS)
#define FID_EVENTS (ENTRY_EVENTS | FAN_ATTRIB | FAN_DELETE_SELF | FAN_MOVE_SELF | FAN_FS_ERROR)
#define EVENT_FLAGS (FAN_ONDIR | FAN_EVENT_ON_CHILD)

struct mark_request {
	unsigned flags;
	uint32_t mask;
};

static int check_flags(struct mark_request *r)
{
	switch (r->flags & CMD_BITS) {
	case FAN_MARK_ADD:
	case FAN_MARK_REMOVE:
		if (!r->mask)
			return -EINVAL;
		break;
	case FAN_MARK_FLUSH:
		if (r->flags & ~(unsigned)(KIND_BITS | FAN_MARK_FLUSH))
			return -EINVAL;
		break;
	default:
		return -EINVAL;
	}
	if (r->mask & ~(uint32_t)(FD_EVENTS | FID_EVENTS | EVENT_FLAGS))
		return -EINVAL;
	if ((r->flags & IGNORE_BITS) == IGNORE_BITS)
		return -EINVAL;
	/* The older kind of ignore mask has no such flags. */
	if (r->flags & FAN_MARK_IGNORED_MASK)
		r->mask &= ~(uint32_t)EVENT_FLAGS;
	return 0;
}

static int check_group(struct task *t, struct file *f, const struct mark_request *r)
{
	unsigned group = fanotify_flags(f), kind = r->flags & KIND_BITS;

	if (kind && (!task_capable(t, CAP_SYS_ADMIN) || fanotify_is_unprivileged(f)))
		return -EPERM;
	if (r->mask & PERM_EVENTS && !(group & CLASS_BITS))
		return -EINVAL;
	if (r->mask & FAN_FS_ERROR && kind != FAN_MARK_FILESYSTEM)
		return -EINVAL;
	if (r->flags & FAN_MARK_EVICTABLE && kind)
		return -EINVAL;
	if (r->mask & FID_EVENTS && (!(group & FAN_FID_BITS) || kind == FAN_MARK_MOUNT))
		return -EINVAL;
	return r->mask & FAN_RENAME && !(group & FAN_REPORT_NAME) ? -EINVAL : 0;
}

static int find_path(struct task *t, int dirfd, uaddr_t name, unsigned flags, struct path *out)
{
	unsigned walk = (flags & FAN_MARK_DONT_FOLLOW ? WALK_NOFOLLOW : 0) |
			(flags & FAN_MARK_ONLYDIR ? WALK_DIRECTORY : 0);

	if (!uaddr_is_null(name))
		return path_at(t, dirfd, name, walk, out);
	CLEANUP_FILE struct file *f = fdtable_file_any(t->fds, dirfd);
	if (!f)
		return -EBADF;
	if (flags & FAN_MARK_ONLYDIR && !inode_is_dir(f->inode))
		return -ENOTDIR;
	*out = path_get(f->path);
	return 0;
}

/* What can only be judged with the file at hand. */
static int check_path(const struct file *group, struct path p, const struct mark_request *r)
{
	const struct super_block *sb = p.dentry->sb;
	unsigned flags = fanotify_flags(group), kind = r->flags & KIND_BITS;
	bool dir = inode_is_dir(p.dentry->inode), add = r->flags & FAN_MARK_ADD;
	bool strict =
		flags & FAN_REPORT_TARGET_FID || r->mask & FAN_RENAME || r->flags & FAN_MARK_IGNORE;
	struct vfs_handle h;

	/* Nobody can be asked about processes, which the asked may need to look at. */
	if (add && r->mask & PERM_EVENTS && sb->no_dcache)
		return -EINVAL;
	if (add && kind && sb->pseudo)
		return -EINVAL;
	if (add && strict && !kind && !dir && r->mask & (ENTRY_EVENTS | EVENT_FLAGS))
		return -ENOTDIR;
	return flags & FAN_FID_BITS ? handle_make(p, &h) : 0;
}

/* An ignore mask of this kind ends with a change only if it is about one file. */
static int check_ignore(struct path p, const struct mark_request *r)
{
	if (!(r->flags & FAN_MARK_ADD) || !(r->flags & FAN_MARK_IGNORE) ||
	    r->flags & FAN_MARK_IGNORED_SURV_MODIFY)
		return 0;
	if (r->flags & KIND_BITS)
		return -EINVAL;
	return inode_is_dir(p.dentry->inode) ? -EISDIR : 0;
}

long sys_fanotify_mark(struct task *t, int fd, unsigned flags, uint64_t mask, int dirfd,
		       uaddr_t name)
{
	CLEANUP_PATH struct path p = {NULL, NULL};
	struct mark_request r = {flags, (uint32_t)mask};

	if (mask >> 32 || flags & ~(unsigned)MARK_FLAGS || (flags & KIND_BITS) == KIND_BITS)
		return -EINVAL;
	int err = check_flags(&r);
	if (err)
		return err;
	CLEANUP_FILE struct file *f = fdtable_file(t->fds, fd);
	if (!f)
		return -EBADF;
	if (!file_is_fanotify(f))
		return -EINVAL;
	if ((err = check_group(t, f, &r)))
		return err;
	if (flags & FAN_MARK_FLUSH) {
		fanotify_flush(f, flags & KIND_BITS);
		return 0;
	}
	if ((err = find_path(t, dirfd, name, flags, &p)) ||
	    (err = path_permission(p, R_OK, t->cred)) || (err = check_path(f, p, &r)) ||
	    (err = check_ignore(p, &r)))
		return err;
	return fanotify_change_mark(f, p, flags, r.mask);
}
