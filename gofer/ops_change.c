/* Operations that change what exists: unlink, rename, attributes, xattrs, fsync. */
#include "gofer/server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "sentry/lib/cleanup.h"

HANDLER(op_unlink)
{
	char name[GOFER_NAME_LEN + 1];
	struct node *dir;
	int err = tail_name(tail, rq->unlink.name_len, name);

	(void)rep;
	if (err)
		return err;
	if (tail->left)
		return -EPROTO;
	if (rq->unlink.flags & ~GOFER_UNLINK_DIR)
		return -EINVAL;
	if ((err = node_find_dir(s, rq->unlink.dir, true, &dir)))
		return err;
	if (unlinkat(dir->fd, name, rq->unlink.flags ? AT_REMOVEDIR : 0))
		return -errno;
	return 0;
}

HANDLER(op_rename)
{
	char from[GOFER_NAME_LEN + 1], to[GOFER_NAME_LEN + 1];
	struct node *olddir, *newdir;
	int err;

	(void)rep;
	if ((err = tail_name(tail, rq->rename.old_len, from)) ||
	    (err = tail_name(tail, rq->rename.new_len, to)))
		return err;
	if (tail->left)
		return -EPROTO;
	uint32_t flags = rq->rename.flags;
	if (flags & ~(uint32_t)(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT) ||
	    (flags & RENAME_EXCHANGE && flags != RENAME_EXCHANGE))
		return -EINVAL;
	if ((err = node_find_dir(s, rq->rename.olddir, true, &olddir)) ||
	    (err = node_find_dir(s, rq->rename.newdir, true, &newdir)))
		return err;
	if (olddir->attach != newdir->attach)
		return -EXDEV;
	/* The C library has another call for no flags, which the filter does not know. */
	if (syscall(SYS_renameat2, olddir->fd, from, newdir->fd, to, flags))
		return -errno;
	return 0;
}

static struct timespec time_to_set(const struct gofer_setattr_req *a, unsigned set, unsigned now,
				   struct gofer_time t)
{
	struct timespec ts = {.tv_nsec = UTIME_OMIT};

	if (a->valid & now)
		ts.tv_nsec = UTIME_NOW;
	else if (a->valid & set)
		ts = (struct timespec){.tv_sec = t.sec, .tv_nsec = t.nsec};
	return ts;
}

static int set_size(int node_fd, uint64_t size)
{
	CLEANUP_FD int fd = host_reopen(node_fd, O_RDWR);

	if (fd < 0)
		return fd;
	return ftruncate(fd, (off_t)size) ? -errno : 0;
}

static int check_setattr(const struct node *n, const struct gofer_setattr_req *a)
{
	const uint32_t all = GOFER_SET_MODE | GOFER_SET_UID | GOFER_SET_GID | GOFER_SET_SIZE |
			     GOFER_SET_ATIME | GOFER_SET_MTIME | GOFER_SET_ATIME_NOW |
			     GOFER_SET_MTIME_NOW;

	if (a->valid & ~all || a->atime.nsec > 999999999 || a->mtime.nsec > 999999999)
		return -EINVAL;
	if (a->valid & GOFER_SET_MODE) {
		if (a->mode & ~07777U)
			return -EINVAL;
		if (S_ISLNK(n->type))
			return -EOPNOTSUPP;
	}
	if (a->valid & GOFER_SET_SIZE) {
		if (!S_ISREG(n->type))
			return S_ISDIR(n->type) ? -EISDIR : -EINVAL;
		if (a->size > INT64_MAX)
			return -EFBIG;
	}
	return 0;
}

/* The size first: it is what can fail for lack of space.  The owner before the mode, since
 * changing it clears set-user-ID; the times last, since everything else touches them. */
HANDLER(op_setattr)
{
	const struct gofer_setattr_req *a = &rq->setattr;
	struct node *n;
	int err;

	if (tail->left)
		return -EPROTO;
	if ((err = node_find_writable(s, a->node, &n)) || (err = check_setattr(n, a)))
		return err;
	if (a->valid & GOFER_SET_SIZE && (err = set_size(n->fd, a->size)))
		return err;
	if (a->valid & (GOFER_SET_UID | GOFER_SET_GID)) {
		err = host_chown(n->fd, a->valid & GOFER_SET_UID ? a->uid : UINT32_MAX,
				 a->valid & GOFER_SET_GID ? a->gid : UINT32_MAX);
		if (err)
			return err;
	}
	if (a->valid & GOFER_SET_MODE && (err = host_chmod(n->fd, a->mode)))
		return err;
	if (a->valid &
	    (GOFER_SET_ATIME | GOFER_SET_MTIME | GOFER_SET_ATIME_NOW | GOFER_SET_MTIME_NOW)) {
		struct timespec ts[2] = {
			time_to_set(a, GOFER_SET_ATIME, GOFER_SET_ATIME_NOW, a->atime),
			time_to_set(a, GOFER_SET_MTIME, GOFER_SET_MTIME_NOW, a->mtime),
		};
		if (utimensat(n->fd, "", ts, AT_EMPTY_PATH))
			return -errno;
	}
	return host_stat(n->fd, reply_add(rep, sizeof(struct gofer_attr)));
}

HANDLER(op_fsync)
{
	struct node *n = node_find(s, rq->fsync.node, NODE_PATH);

	(void)rep;
	if (tail->left)
		return -EPROTO;
	if (!n)
		return -EBADF;
	if (!S_ISREG(n->type) && !S_ISDIR(n->type))
		return -EINVAL;
	CLEANUP_FD int fd = host_reopen(n->fd, O_RDONLY);
	if (fd < 0)
		return fd;
	return (rq->fsync.datasync ? fdatasync(fd) : fsync(fd)) ? -errno : 0;
}

/* Reopened for reading, as syncfs(2) wants no O_PATH descriptor; a directory or a file. */
HANDLER(op_syncfs)
{
	struct node *n = node_find(s, rq->node.node, NODE_PATH);

	(void)rep;
	if (tail->left)
		return -EPROTO;
	if (!n)
		return -EBADF;
	if (!S_ISREG(n->type) && !S_ISDIR(n->type))
		return -EINVAL;
	CLEANUP_FD int fd = host_reopen(n->fd, O_RDONLY);
	if (fd < 0)
		return fd;
	return syncfs(fd) ? -errno : 0;
}

/* Only user.*: the rest either needs privileges that a container shall not have over host files
 * (trusted, security) or has a meaning that the sentry does not enforce (POSIX ACLs). */
static bool xattr_allowed(const char *name)
{
	return !strncmp(name, "user.", 5) && name[5];
}

/* … and what files' capabilities are, which the sentry may honour inside. */
static bool xattr_readable(const char *name)
{
	return xattr_allowed(name) || !strcmp(name, "security.capability");
}

struct xattr_target {
	struct fd_name path;
	char name[GOFER_NAME_LEN + 1];
};

static int xattr_init(struct gofer_server *s, const struct gofer_xattr_req *rq, bool writable,
		      struct gofer_tail *tail, size_t rest, struct xattr_target *x)
{
	size_t len = rq->name_len;
	struct node *n = node_find(s, rq->node, NODE_PATH);
	int err;

	if (len > tail->left || tail->left - len != rest)
		return -EPROTO;
	if (len == 0 || len > GOFER_NAME_LEN)
		return -ERANGE;
	memcpy(x->name, tail->p, len);
	x->name[len] = 0;
	tail->p += len;
	tail->left -= len;
	if (strlen(x->name) != len)
		return -EINVAL;
	if (!n)
		return -EBADF;
	if (writable && (err = node_find_writable(s, rq->node, &n)))
		return err;
	if (!(writable ? xattr_allowed : xattr_readable)(x->name))
		return -EOPNOTSUPP;
	x->path = fd_name(n->fd);
	return 0;
}

static int reply_bytes(struct gofer_reply *rep, uint32_t size, ssize_t r)
{
	if (r < 0)
		return -errno;
	if (size == 0) {
		uint32_t len = (uint32_t)r;
		memcpy(reply_add(rep, sizeof(len)), &len, sizeof(len));
	} else {
		(void)reply_add(rep, (size_t)r);
	}
	return 0;
}

HANDLER(op_getxattr)
{
	struct xattr_target x;
	uint32_t size = rq->xattr.size;
	int err = xattr_init(s, &rq->xattr, false, tail, 0, &x);

	if (err)
		return err;
	if (rq->xattr.flags || size > GOFER_XATTR_MAX)
		return -EINVAL;
	return reply_bytes(rep, size,
			   getxattr(x.path.s, x.name, size ? rep->buf + rep->len : NULL, size));
}

HANDLER(op_setxattr)
{
	struct xattr_target x;
	int err;

	if (rq->xattr.size > GOFER_XATTR_MAX)
		return -E2BIG;
	if ((err = xattr_init(s, &rq->xattr, true, tail, rq->xattr.size, &x)))
		return err;
	(void)rep;
	if (rq->xattr.flags > XATTR_REPLACE)
		return -EINVAL;
	if (setxattr(x.path.s, x.name, tail->p, tail->left, (int)rq->xattr.flags))
		return -errno;
	return 0;
}

HANDLER(op_removexattr)
{
	struct xattr_target x;
	int err = xattr_init(s, &rq->xattr, true, tail, 0, &x);

	(void)rep;
	if (err)
		return err;
	if (rq->xattr.size || rq->xattr.flags)
		return -EINVAL;
	return removexattr(x.path.s, x.name) ? -errno : 0;
}

/* Keeps the names that may be asked for; in place. */
static size_t filter_names(char *p, size_t n)
{
	size_t out = 0;

	for (size_t i = 0; i < n;) {
		size_t len = strnlen(p + i, n - i);
		if (i + len == n)
			break;
		if (xattr_allowed(p + i)) {
			memmove(p + out, p + i, len + 1);
			out += len + 1;
		}
		i += len + 1;
	}
	return out;
}

HANDLER(op_listxattr)
{
	struct node *n = node_find(s, rq->xattr.node, NODE_PATH);
	uint32_t size = rq->xattr.size;

	if (tail->left || rq->xattr.name_len)
		return -EPROTO;
	if (!n)
		return -EBADF;
	if (rq->xattr.flags || size > GOFER_XATTR_MAX)
		return -EINVAL;
	char *p = (char *)rep->buf + rep->len;
	ssize_t r = listxattr(fd_name(n->fd).s, p, GOFER_XATTR_MAX);
	if (r < 0)
		return -errno;
	size_t len = filter_names(p, (size_t)r);
	if (size && len > size)
		return -ERANGE;
	return reply_bytes(rep, size, (ssize_t)len);
}
