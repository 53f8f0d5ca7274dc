/* open(2), openat(2), openat2(2), creat(2), close(2). */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>

#include "syscalls/file_io.h"
#include "syscalls/syscalls.h"

#define TMPFILE_BIT (O_TMPFILE & ~O_DIRECTORY)
#define KNOWN_FLAGS                                                                               \
	(O_ACCMODE | O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_APPEND | O_NONBLOCK | O_SYNC |     \
	 O_DSYNC | FASYNC | O_DIRECT | LINUX_O_LARGEFILE | O_DIRECTORY | O_NOFOLLOW | O_NOATIME | \
	 O_CLOEXEC | O_PATH | O_TMPFILE)
#define PATH_FLAGS (O_DIRECTORY | O_NOFOLLOW | O_PATH | O_CLOEXEC)

static unsigned walk_flags_from_resolve(uint64_t resolve)
{
	return (resolve & RESOLVE_NO_XDEV ? WALK_NO_XDEV : 0) |
	       (resolve & RESOLVE_NO_MAGICLINKS ? WALK_NO_MAGICLINKS : 0) |
	       (resolve & RESOLVE_NO_SYMLINKS ? WALK_NO_SYMLINKS : 0) |
	       (resolve & RESOLVE_BENEATH ? WALK_BENEATH : 0) |
	       (resolve & RESOLVE_IN_ROOT ? WALK_IN_ROOT : 0);
}

/* The checks that both openat and openat2 make: build_open_flags() of Linux. */
static int check_flags(int flags)
{
	if ((flags & (O_CREAT | O_DIRECTORY)) == (O_CREAT | O_DIRECTORY))
		return -EINVAL;
	if (flags & TMPFILE_BIT &&
	    (!(flags & O_DIRECTORY) || flags & O_CREAT || (flags & O_ACCMODE) == O_RDONLY))
		return -EINVAL;
	return 0;
}

static int open_file(struct task *t, int dirfd, const char *name, int flags, uint32_t mode,
		     unsigned walk_flags, struct file **out)
{
	struct walk_env env;
	struct file *f;
	/* Scoped walks start at dirfd even for absolute names. */
	bool scoped = walk_flags & (WALK_BENEATH | WALK_IN_ROOT);
	int err = task_walk_env(t, dirfd, scoped ? "." : name, &env);

	if (err)
		return err;
	err = vfs_open(&env, name, flags, mode & 07777, walk_flags, &f);
	walk_env_fini(&env);
	if (err)
		return err;
	if ((err = io_open_wait(t, f))) {
		file_put(f);
		return err;
	}
	*out = f;
	return 0;
}

static long do_open(struct task *t, int dirfd, uaddr_t path, int flags, uint32_t mode,
		    unsigned walk_flags)
{
	struct path_name name;
	struct file *f;
	int32_t fd;
	int err = check_flags(flags);

	if (err)
		return err;
	ssize_t len = path_name_get(t, &name, path);
	if (len < 0)
		return len;
	if (!(flags & O_PATH))
		flags |= LINUX_O_LARGEFILE;
	/* The number first: without one, nothing may be created. */
	if ((err = fdtable_reserve(t->fds, 0, task_rlimit(t, RLIMIT_NOFILE), 1, &fd)))
		return err;
	err = open_file(t, dirfd, name.s, flags, mode, walk_flags, &f);
	if (err) {
		fdtable_unreserve(t->fds, 1, &fd);
		return err;
	}
	fdtable_commit(t->fds, fd, f, flags & O_CLOEXEC);
	return fd;
}

static long open_legacy(struct task *t, int dirfd, uaddr_t path, int flags, uint32_t mode)
{
	/* Unknown bits are ignored, and with O_PATH almost all. */
	flags &= flags & O_PATH ? PATH_FLAGS : KNOWN_FLAGS;
	return do_open(t, dirfd, path, flags, mode & 07777, 0);
}

long sys_open(struct task *t, uaddr_t path, int flags, uint32_t mode)
{
	return open_legacy(t, AT_FDCWD, path, flags, mode);
}

long sys_openat(struct task *t, int dirfd, uaddr_t path, int flags, uint32_t mode)
{
	return open_legacy(t, dirfd, path, flags, mode);
}

long sys_creat(struct task *t, uaddr_t path, uint32_t mode)
{
	return open_legacy(t, AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

long sys_openat2(struct task *t, int dirfd, uaddr_t path, uaddr_t uhow, uint64_t size)
{
	const uint64_t known_resolve = RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS |
				       RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH | RESOLVE_IN_ROOT |
				       RESOLVE_CACHED;
	struct open_how how;

	if (size < sizeof(how))
		return -EINVAL;
	int err = copy_in_extensible(t, &how, sizeof(how), uhow, size);
	if (err)
		return err;
	if (how.flags & ~(uint64_t)KNOWN_FLAGS || how.resolve & ~known_resolve)
		return -EINVAL;
	if (how.resolve & RESOLVE_BENEATH && how.resolve & RESOLVE_IN_ROOT)
		return -EINVAL;
	if (how.flags & (O_CREAT | TMPFILE_BIT) ? how.mode & ~07777ULL : how.mode)
		return -EINVAL;
	if (how.flags & O_PATH && how.flags & ~(uint64_t)PATH_FLAGS)
		return -EINVAL;
	/* A cached-only open may not change anything. */
	if (how.resolve & RESOLVE_CACHED && how.flags & (O_TRUNC | O_CREAT | TMPFILE_BIT))
		return -EAGAIN;
	return do_open(t, dirfd, path, (int)how.flags, (uint32_t)how.mode,
		       walk_flags_from_resolve(how.resolve));
}

long sys_close(struct task *t, int fd)
{
	return fdtable_close(t->fds, fd);
}
