/*
 * Host calls on descriptors.
 *
 * Why files are opened through /proc/self/fd and not by their name: the file was looked up with
 * O_PATH and its type was checked; between that and a second open by name, a process on the host
 * that can write to the directory may have put a FIFO, a device or a symlink in its place, and
 * opening those has effects before anything can be checked afterwards.  The link in /proc/self/fd
 * leads to the very inode that was checked.
 */
#include "gofer/server.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

struct fd_name fd_name(int fd)
{
	struct fd_name n;

	snprintf(n.s, sizeof(n.s), "%d", fd);
	return n;
}

static int open_beneath(int dir, const char *name, uint64_t flags)
{
	struct open_how how = {
		.flags = flags | O_NOFOLLOW | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS,
	};

	long fd = syscall(SYS_openat2, (long)dir, name, &how, sizeof(how));
	if (fd < 0)
		return errno == EAGAIN ? -EIO : -errno;
	return (int)fd;
}

int host_lookup(int dir, const char *name)
{
	return open_beneath(dir, name, O_PATH);
}

/* What is no directory is refused before it is opened (ENOTDIR): no need to look at it first. */
int host_open_dir(int dir, const char *name)
{
	return open_beneath(dir, name, O_RDONLY | O_DIRECTORY | O_NONBLOCK);
}

/* O_NONBLOCK: a lease that somebody holds gives an error rather than a wait. */
int host_reopen(int fd, int flags)
{
	struct fd_name n = fd_name(fd);

	if (!(flags & O_PATH))
		flags |= O_NONBLOCK | O_NOCTTY;
	int r = openat(AT_FDCWD, n.s, flags | O_CLOEXEC);
	if (r < 0)
		return errno == EAGAIN ? -EIO : -errno;
	return r;
}

static struct gofer_time time_of(struct statx_timestamp t)
{
	return (struct gofer_time){.sec = t.tv_sec, .nsec = t.tv_nsec};
}

int host_stat(int fd, struct gofer_attr *a)
{
	return host_stat_name(fd, "", a);
}

int host_stat_name(int dir, const char *name, struct gofer_attr *a)
{
	struct statx x;

	if (statx(dir, name, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT,
		  STATX_BASIC_STATS | STATX_BTIME | STATX_DIOALIGN, &x))
		return -errno;
	memset(a, 0, sizeof(*a));
	a->mode = x.stx_mode;
	a->nlink = x.stx_nlink;
	a->uid = x.stx_uid;
	a->gid = x.stx_gid;
	a->ino = x.stx_ino;
	a->size = x.stx_size;
	a->blocks = x.stx_blocks;
	a->dev_major = x.stx_dev_major;
	a->dev_minor = x.stx_dev_minor;
	a->rdev_major = x.stx_rdev_major;
	a->rdev_minor = x.stx_rdev_minor;
	a->blksize = x.stx_blksize;
	a->attributes = x.stx_attributes;
	a->attributes_mask = x.stx_attributes_mask;
	if (x.stx_mask & STATX_DIOALIGN && x.stx_dio_offset_align <= UINT16_MAX)
		a->dio_align = (uint16_t)x.stx_dio_offset_align;
	a->atime = time_of(x.stx_atime);
	a->mtime = time_of(x.stx_mtime);
	a->ctime = time_of(x.stx_ctime);
	if (x.stx_mask & STATX_BTIME) {
		a->has_btime = 1;
		a->btime = time_of(x.stx_btime);
	}
	return 0;
}

int host_chmod(int fd, uint32_t mode)
{
	struct fd_name n = fd_name(fd);

	return fchmodat(AT_FDCWD, n.s, mode & 07777, 0) ? -errno : 0;
}

int host_chown(int fd, uint32_t uid, uint32_t gid)
{
	return fchownat(fd, "", uid, gid, AT_EMPTY_PATH) ? -errno : 0;
}
