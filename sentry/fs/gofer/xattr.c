/* Extended attributes: user.* only (and what capabilities a file has), each call a round trip (they
 * are rarely asked for). */
#include <errno.h>
#include <string.h>

#include "sentry/fs/gofer/client.h"

static bool allowed(const char *name)
{
	return !strncmp(name, "user.", 5);
}

static int call(struct gofer_inode *gi, struct rpc *r, struct gofer_xattr_req *rq, const char *name)
{
	int err = gofer_node(gi, &rq->node);

	if (err)
		return err;
	r->fixed = rq;
	r->fixed_len = sizeof(*rq);
	if (name) {
		size_t len = strlen(name);
		if (len > GOFER_NAME_LEN)
			return -ERANGE;
		rq->name_len = (uint16_t)len;
		r->var[0] = (struct iovec){(void *)name, len};
	}
	return gofer_rpc(gi_conn(gi), r);
}

/* GETXATTR and LISTXATTR: bytes into buf, or their number when size is 0. */
static ssize_t fetch(struct gofer_inode *gi, uint16_t op, const char *name, void *buf, size_t size)
{
	struct gofer_xattr_req rq = {.size = (uint32_t)MIN(size, (size_t)GOFER_XATTR_MAX)};
	uint32_t len;
	struct rpc r = {.op = op, .rep = buf, .rep_max = rq.size};

	if (!rq.size) {
		r.rep = &len;
		r.rep_min = r.rep_max = sizeof(len);
	}
	int err = call(gi, &r, &rq, name);
	if (err)
		return err;
	if (rq.size)
		return (ssize_t)r.rep_len;
	return len <= GOFER_XATTR_MAX ? (ssize_t)len : -E2BIG;
}

ssize_t gofer_getxattr(struct inode *in, const char *name, void *buf, size_t size)
{
	if (!allowed(name) && strcmp(name, "security.capability") != 0)
		return -EOPNOTSUPP;
	return fetch(gi_of(in), GOFER_GETXATTR, name, buf, size);
}

ssize_t gofer_listxattr(struct inode *in, char *buf, size_t size)
{
	return fetch(gi_of(in), GOFER_LISTXATTR, NULL, buf, size);
}

int gofer_setxattr(struct inode *in, const char *name, const void *v, size_t n, int flags)
{
	struct gofer_xattr_req rq = {.size = (uint32_t)n, .flags = (uint32_t)flags};
	struct rpc r = {.op = GOFER_SETXATTR, .var = {{0}, {(void *)v, n}}};

	if (!allowed(name))
		return -EOPNOTSUPP;
	if (in->sb->readonly)
		return -EROFS;
	if (n > GOFER_XATTR_MAX)
		return -E2BIG;
	gofer_changed(gi_of(in));
	return call(gi_of(in), &r, &rq, name);
}

int gofer_removexattr(struct inode *in, const char *name)
{
	struct gofer_xattr_req rq = {0};
	struct rpc r = {.op = GOFER_REMOVEXATTR};

	if (!allowed(name))
		return -EOPNOTSUPP;
	if (in->sb->readonly)
		return -EROFS;
	gofer_changed(gi_of(in));
	return call(gi_of(in), &r, &rq, name);
}
