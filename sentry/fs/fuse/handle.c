/* Open files as the server knows them. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "sentry/fs/fuse/node.h"

struct fuse_handle *fuse_handle_new(struct fuse_node *n, const struct fuse_open_out *o, int flags)
{
	struct fuse_handle *h = calloc(1, sizeof(*h));

	if (!h)
		return NULL;
	ref_init(&h->ref, 1);
	h->node = n;
	inode_get(&n->in);
	h->fh = o->fh;
	h->open_flags = o->open_flags;
	h->flags = flags;
	mutex_lock(&n->in.lock, &lc_inode);
	list_add_tail(&h->link, &n->handles);
	mutex_unlock(&n->in.lock, &lc_inode);
	return h;
}

int fuse_handle_open(struct fuse_node *n, int flags, bool dir, struct fuse_handle **out)
{
	struct fuse_conn *fc = conn_of(&n->in);
	unsigned opcode = dir ? FUSE_OPENDIR : FUSE_OPEN;
	uint64_t may_lack = dir ? FUSE_NO_OPENDIR_SUPPORT : FUSE_NO_OPEN_SUPPORT;
	const struct fuse_open_in in = {
		.flags = (uint32_t)(flags & ~(O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC))};
	struct fuse_open_out o = {.open_flags = dir ? 0 : FOPEN_KEEP_CACHE};
	int err = -ENOSYS;

	if (!fuse_lacks(fc, opcode) || !(fc->flags & may_lack)) {
		struct fuse_req *r = fuse_req_new(fc, opcode, n->nodeid);
		fuse_req_add(r, &in, sizeof(in));
		err = fuse_call(r, &o, sizeof(o));
	}
	bool no_open = err == -ENOSYS && fc->flags & may_lack;
	if (err && !no_open)
		return err;
	*out = fuse_handle_new(n, &o, flags);
	if (*out)
		(*out)->no_open = no_open;
	return *out ? 0 : -ENOMEM;
}

struct fuse_handle *fuse_handle_get(struct fuse_handle *h)
{
	ref_get(&h->ref);
	return h;
}

void fuse_handle_put(struct fuse_handle *h)
{
	if (!h || !ref_put(&h->ref))
		return;
	struct fuse_node *n = h->node;
	struct fuse_conn *fc = conn_of(&n->in);
	mutex_lock(&n->in.lock, &lc_inode);
	list_del(&h->link);
	mutex_unlock(&n->in.lock, &lc_inode);
	if (!h->no_open) {
		const struct fuse_release_in in = {.fh = h->fh, .flags = (uint32_t)h->flags};
		unsigned opcode = S_ISDIR(n->in.mode) ? FUSE_RELEASEDIR : FUSE_RELEASE;
		struct fuse_req *r = fuse_req_new(fc, opcode, n->nodeid);
		fuse_req_add(r, &in, sizeof(in));
		fuse_post(r);
	}
	inode_put(&n->in);
	free(h);
}

struct fuse_handle *fuse_handle_for_writing(struct fuse_node *n)
{
	struct fuse_handle *h, *found = NULL;

	mutex_lock(&n->in.lock, &lc_inode);
	list_for_each (h, &n->handles, link)
		if ((h->flags & O_ACCMODE) != O_RDONLY && ref_get_unless_zero(&h->ref)) {
			found = h;
			break;
		}
	mutex_unlock(&n->in.lock, &lc_inode);
	return found;
}
