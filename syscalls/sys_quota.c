/* quotactl(2), quotactl_fd(2): no file system here has quotas, nor lies on a block device. */
#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/quota.h>

#include "syscalls/file_io.h"
#include "syscalls/syscalls.h"

#define QUOTA_TYPES 3 /* users, groups, projects */

static unsigned type_of(unsigned cmd)
{
	return cmd & SUBCMDMASK;
}

long sys_quotactl(struct task *t, unsigned cmd, uaddr_t special, unsigned id, uaddr_t addr)
{
	CLEANUP_PATH struct path p = {NULL, NULL};

	(void)id, (void)addr;
	if (type_of(cmd) >= QUOTA_TYPES)
		return -EINVAL;
	if (uaddr_is_null(special))
		return cmd >> SUBCMDSHIFT == (Q_SYNC & 0xffffff) ? 0 : -ENODEV;
	int err = path_at(t, AT_FDCWD, special, 0, &p);
	if (err)
		return err;
	if (!S_ISBLK(p.dentry->inode->mode))
		return -ENOTBLK;
	return p.mnt->flags & MS_NODEV ? -EACCES : -ENODEV;
}

long sys_quotactl_fd(struct task *t, int fd, unsigned cmd, unsigned id, uaddr_t addr)
{
	CLEANUP_FILE struct file *f = fdtable_file_any(t->fds, fd);

	(void)id, (void)addr;
	if (!f)
		return -EBADF;
	return type_of(cmd) < QUOTA_TYPES ? -ENOSYS : -EINVAL;
}
