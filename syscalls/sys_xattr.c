/* Extended attributes: getxattr(2), setxattr(2), listxattr(2), removexattr(2) and families. */
#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <stdlib.h>
#include <sys/xattr.h>

#include "syscalls/file_io.h"
#include "syscalls/syscalls.h"

struct xattr_name {
	char s[XATTR_NAME_MAX + 1];
};

static int name_get(struct task *t, struct xattr_name *n, uaddr_t from)
{
	ssize_t len = copy_in_str(&t->um, n->s, from, sizeof(n->s));

	if (len == -ENAMETOOLONG || len == 0)
		return -ERANGE;
	return len < 0 ? (int)len : 0;
}

/* Whose attributes: by name (`walk` flags), or by descriptor when `by_fd`. */
struct xattr_target {
	bool by_fd;
	int fd;
	uaddr_t path;
	unsigned walk;
};

static int target_path(struct task *t, const struct xattr_target *x, struct path *out)
{
	if (!x->by_fd)
		return path_at(t, AT_FDCWD, x->path, x->walk, out);
	struct file *f = fdtable_file(t->fds, x->fd);
	if (!f)
		return -EBADF;
	*out = path_get(f->path);
	file_put(f);
	return 0;
}

#define BY_PATH(p, w) (&(struct xattr_target){.path = (p), .walk = (w)})
#define BY_FD(n) (&(struct xattr_target){.by_fd = true, .fd = (n)})

/* ---- set ---- */

static long do_setxattr(struct task *t, const struct xattr_target *x, uaddr_t uname, uaddr_t value,
			uint64_t size, int flags)
{
	CLEANUP_PATH struct path p = {NULL, NULL};
	struct xattr_name name;

	if (flags & ~(XATTR_CREATE | XATTR_REPLACE))
		return -EINVAL;
	int err = name_get(t, &name, uname);
	if (err)
		return err;
	if (size > XATTR_SIZE_MAX)
		return -E2BIG;
	CLEANUP_FREE char *buf = malloc(size + 1);
	if (!buf)
		return -ENOMEM;
	if (size && copy_in(&t->um, buf, value, size))
		return -EFAULT;
	if ((err = target_path(t, x, &p)))
		return err;
	return vfs_setxattr(p, name.s, buf, size, flags, t->cred);
}

long sys_setxattr(struct task *t, uaddr_t path, uaddr_t name, uaddr_t value, uint64_t size,
		  int flags)
{
	return do_setxattr(t, BY_PATH(path, 0), name, value, size, flags);
}

long sys_lsetxattr(struct task *t, uaddr_t path, uaddr_t name, uaddr_t value, uint64_t size,
		   int flags)
{
	return do_setxattr(t, BY_PATH(path, WALK_NOFOLLOW), name, value, size, flags);
}

long sys_fsetxattr(struct task *t, int fd, uaddr_t name, uaddr_t value, uint64_t size, int flags)
{
	return do_setxattr(t, BY_FD(fd), name, value, size, flags);
}

/* ---- get ---- */

static long do_getxattr(struct task *t, const struct xattr_target *x, uaddr_t uname, uaddr_t value,
			uint64_t size)
{
	CLEANUP_PATH struct path p = {NULL, NULL};
	CLEANUP_FREE char *buf = NULL;
	struct xattr_name name;
	int err = name_get(t, &name, uname);

	if (err || (err = target_path(t, x, &p)))
		return err;
	size = MIN(size, (uint64_t)XATTR_SIZE_MAX);
	if (size && !(buf = malloc(size)))
		return -ENOMEM;
	ssize_t n = vfs_getxattr(p, name.s, buf, size, t->cred);
	if (n > 0 && size && copy_out(&t->um, value, buf, (size_t)n))
		return -EFAULT;
	return n;
}

long sys_getxattr(struct task *t, uaddr_t path, uaddr_t name, uaddr_t value, uint64_t size)
{
	return do_getxattr(t, BY_PATH(path, 0), name, value, size);
}

long sys_lgetxattr(struct task *t, uaddr_t path, uaddr_t name, uaddr_t value, uint64_t size)
{
	return do_getxattr(t, BY_PATH(path, WALK_NOFOLLOW), name, value, size);
}

long sys_fgetxattr(struct task *t, int fd, uaddr_t name, uaddr_t value, uint64_t size)
{
	return do_getxattr(t, BY_FD(fd), name, value, size);
}

/* ---- list ---- */

static long do_listxattr(struct task *t, const struct xattr_target *x, uaddr_t list, uint64_t size)
{
	CLEANUP_PATH struct path p = {NULL, NULL};
	CLEANUP_FREE char *buf = NULL;
	int err = target_path(t, x, &p);

	if (err)
		return err;
	size = MIN(size, (uint64_t)XATTR_LIST_MAX);
	if (size && !(buf = malloc(size)))
		return -ENOMEM;
	ssize_t n = vfs_listxattr(p, buf, size, t->cred);
	if (n > 0 && size && copy_out(&t->um, list, buf, (size_t)n))
		return -EFAULT;
	return n == -ERANGE && size == XATTR_LIST_MAX ? -E2BIG : n;
}

long sys_listxattr(struct task *t, uaddr_t path, uaddr_t list, uint64_t size)
{
	return do_listxattr(t, BY_PATH(path, 0), list, size);
}

long sys_llistxattr(struct task *t, uaddr_t path, uaddr_t list, uint64_t size)
{
	return do_listxattr(t, BY_PATH(path, WALK_NOFOLLOW), list, size);
}

long sys_flistxattr(struct task *t, int fd, uaddr_t list, uint64_t size)
{
	return do_listxattr(t, BY_FD(fd), list, size);
}

/* ---- remove ---- */

static long do_removexattr(struct task *t, const struct xattr_target *x, uaddr_t uname)
{
	CLEANUP_PATH struct path p = {NULL, NULL};
	struct xattr_name name;
	int err = name_get(t, &name, uname);

	if (err || (err = target_path(t, x, &p)))
		return err;
	return vfs_removexattr(p, name.s, t->cred);
}

long sys_removexattr(struct task *t, uaddr_t path, uaddr_t name)
{
	return do_removexattr(t, BY_PATH(path, 0), name);
}

long sys_lremovexattr(struct task *t, uaddr_t path, uaddr_t name)
{
	return do_removexattr(t, BY_PATH(path, WALK_NOFOLLOW), name);
}

long sys_fremovexattr(struct task *t, int fd, uaddr_t name)
{
	return do_removexattr(t, BY_FD(fd), name);
}
