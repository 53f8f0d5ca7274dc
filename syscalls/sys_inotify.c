/* inotify_init(2), inotify_add_watch(2), inotify_rm_watch(2). */
#include <errno.h>
#include <fcntl.h>
#include <sys/inotify.h>

#include "sentry/fs/notify/inotify.h"
#include "syscalls/file_io.h"
#include "syscalls/syscalls.h"

#define MASK_FLAGS \
	(IN_ONLYDIR | IN_DONT_FOLLOW | IN_EXCL_UNLINK | IN_MASK_CREATE | IN_MASK_ADD | IN_ONESHOT)
#define KNOWN_BITS (IN_ALL_EVENTS | IN_UNMOUNT | IN_Q_OVERFLOW | IN_IGNORED | IN_ISDIR | MASK_FLAGS)

long sys_inotify_init1(struct task *t, int flags)
{
	struct file *f;

	if (flags & ~(IN_CLOEXEC | IN_NONBLOCK))
		return -EINVAL;
	int err = inotify_create_file(flags, t->cred->uid, &f);
	if (err)
		return err;
	return fdtable_install(t->fds, task_rlimit(t, RLIMIT_NOFILE), f, flags & IN_CLOEXEC);
}

long sys_inotify_init(struct task *t)
{
	return sys_inotify_init1(t, 0);
}

long sys_inotify_add_watch(struct task *t, int fd, uaddr_t name, unsigned mask)
{
	CLEANUP_PATH struct path p = {NULL, NULL};

	if (!(mask & KNOWN_BITS))
		return -EINVAL;
	CLEANUP_FILE struct file *f = fdtable_file(t->fds, fd);
	if (!f)
		return -EBADF;
	if ((mask & IN_MASK_ADD && mask & IN_MASK_CREATE) || !file_is_inotify(f))
		return -EINVAL;
	unsigned walk = (mask & IN_DONT_FOLLOW ? WALK_NOFOLLOW : 0) |
			(mask & IN_ONLYDIR ? WALK_DIRECTORY : 0);
	int err = path_at(t, AT_FDCWD, name, walk, &p);
	if (!err)
		err = path_permission(p, R_OK, t->cred);
	return err ? err : inotify_watch(f, p.dentry->inode, mask);
}

long sys_inotify_rm_watch(struct task *t, int fd, int wd)
{
	CLEANUP_FILE struct file *f = fdtable_file(t->fds, fd);

	if (!f)
		return -EBADF;
	return file_is_inotify(f) ? inotify_unwatch(f, wd) : -EINVAL;
}
