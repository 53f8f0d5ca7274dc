/* Extended attributes. */
#include <errno.h>
#include <string.h>

#include "sentry/fs/fuse/node.h"

/* What a server that has none of them says. */
static ssize_t lacking(ssize_t err)
{
	return err == -ENOSYS ? -EOPNOTSUPP : err;
}

/* The answer to GETXATTR or LISTXATTR: bytes, or with size 0 their number. */
static ssize_t take_value(struct fuse_req *r, void *buf, size_t size)
{
	struct fuse_getxattr_out n;
	size_t min = size ? 0 : sizeof(n), max = size ? size : sizeof(n);
	ssize_t ret = fuse_call_var(r, min, max);

	if (!ret && size) {
		ret = (ssize_t)r->out_len;
		if (r->out_len)
			memcpy(buf, r->out, r->out_len);
	} else if (!ret) {
		memcpy(&n, r->out, sizeof(n));
		ret = (ssize_t)MIN(n.size, (uint32_t)65536);
	}
	fuse_req_put(r);
	return lacking(ret);
}

ssize_t fuse_getxattr(struct inode *in, const char *name, void *buf, size_t size)
{
	struct fuse_conn *fc = conn_of(in);

	if (fuse_lacks(fc, FUSE_GETXATTR))
		return -EOPNOTSUPP;
	struct fuse_req *r = fuse_req_new(fc, FUSE_GETXATTR, node_of(in)->nodeid);
	fuse_req_add(r, &(struct fuse_getxattr_in){.size = (uint32_t)size},
		     sizeof(struct fuse_getxattr_in));
	fuse_req_add_name(r, name, strlen(name));
	return take_value(r, buf, size);
}

ssize_t fuse_listxattr(struct inode *in, char *buf, size_t size)
{
	struct fuse_conn *fc = conn_of(in);

	if (fuse_lacks(fc, FUSE_LISTXATTR))
		return -EOPNOTSUPP;
	struct fuse_req *r = fuse_req_new(fc, FUSE_LISTXATTR, node_of(in)->nodeid);
	fuse_req_add(r, &(struct fuse_getxattr_in){.size = (uint32_t)size},
		     sizeof(struct fuse_getxattr_in));
	ssize_t n = take_value(r, buf, size);
	/* Names, each with its NUL. */
	return n > 0 && size && buf[n - 1] ? -EIO : n;
}

int fuse_setxattr(struct inode *in, const char *name, const void *v, size_t n, int flags)
{
	struct fuse_conn *fc = conn_of(in);
	const struct fuse_setxattr_in s = {.size = (uint32_t)n, .flags = (uint32_t)flags};

	if (fuse_lacks(fc, FUSE_SETXATTR))
		return -EOPNOTSUPP;
	struct fuse_req *r = fuse_req_new(fc, FUSE_SETXATTR, node_of(in)->nodeid);
	fuse_req_add(r, &s, FUSE_COMPAT_SETXATTR_IN_SIZE);
	fuse_req_add_name(r, name, strlen(name));
	if (n)
		fuse_req_add(r, v, n);
	int err = (int)lacking(fuse_call(r, NULL, 0));
	fuse_attr_expire(node_of(in));
	return err;
}

int fuse_removexattr(struct inode *in, const char *name)
{
	struct fuse_conn *fc = conn_of(in);

	if (fuse_lacks(fc, FUSE_REMOVEXATTR))
		return -EOPNOTSUPP;
	struct fuse_req *r = fuse_req_new(fc, FUSE_REMOVEXATTR, node_of(in)->nodeid);
	fuse_req_add_name(r, name, strlen(name));
	int err = (int)lacking(fuse_call(r, NULL, 0));
	fuse_attr_expire(node_of(in));
	return err;
}
