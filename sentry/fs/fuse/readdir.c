/* Open directories. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/fs/fuse/node.h"

#define LIST_SIZE (32U << 10)

/* `list` holds the entries from position `at` on; `next` is the offset of the one at `pos`. */
struct open_dir {
	struct fuse_handle *h;
	struct fuse_req *list; /* whose answer it is; NULL: none */
	size_t used;
	int64_t next;
};

static void list_drop(struct open_dir *od)
{
	fuse_req_put(od->list);
	od->list = NULL;
}

static int list_read(struct open_dir *od, int64_t off)
{
	struct fuse_node *n = od->h->node;
	const struct fuse_read_in in = {.fh = od->h->fh,
					.offset = (uint64_t)off,
					.size = LIST_SIZE,
					.flags = (uint32_t)od->h->flags};
	struct fuse_req *r = fuse_req_new(conn_of(&n->in), FUSE_READDIR, n->nodeid);

	list_drop(od);
	fuse_req_add(r, &in, sizeof(in));
	int err = fuse_call_var(r, 0, LIST_SIZE);
	if (err) {
		fuse_req_put(r);
		return err;
	}
	od->list = r;
	od->used = 0;
	od->next = off;
	return 0;
}

/* The next entry, checked: 1, or 0 at the end of the list. */
static int list_next(struct open_dir *od, struct fuse_dirent *e, const char **name, size_t *size)
{
	size_t left = od->list->out_len - od->used;
	const char *at = od->list->out + od->used;

	if (left < FUSE_NAME_OFFSET)
		return 0;
	memcpy(e, at, FUSE_NAME_OFFSET);
	if (!e->namelen || e->namelen > 1024)
		return -EIO;
	*size = FUSE_NAME_OFFSET + e->namelen;
	if (*size > left)
		return 0;
	*name = at + FUSE_NAME_OFFSET;
	if (memchr(*name, '/', e->namelen) || memchr(*name, 0, e->namelen))
		return -EIO;
	*size = MIN(FUSE_DIRENT_ALIGN(*size), left);
	return 1;
}

/* Shows what is left of the list: 1 when there is room for more. */
static int list_show(struct open_dir *od, struct dir_context *ctx, int64_t *off)
{
	struct fuse_dirent e;
	const char *name;
	size_t size;
	int more;

	while ((more = list_next(od, &e, &name, &size)) > 0) {
		if (e.namelen <= VFS_NAME_MAX &&
		    !ctx->emit(ctx, name, e.namelen, (int64_t)e.off, e.ino, e.type & 15))
			return 0;
		od->used += size;
		*off = od->next = (int64_t)e.off;
	}
	return more < 0 ? more : 1;
}

static int dir_readdir(struct file *f, struct dir_context *ctx, int64_t *off)
{
	struct open_dir *od = f->priv;

	for (;;) {
		if (!od->list || od->next != *off) {
			int err = list_read(od, *off);
			if (err)
				return err;
			if (!od->list->out_len) {
				list_drop(od);
				return 0;
			}
		}
		int64_t before = *off;
		int more = list_show(od, ctx, off);
		if (more <= 0)
			return more;
		list_drop(od);
		if (*off == before)
			return 0; /* a server that stays where it is */
	}
}

static int64_t dir_llseek(struct file *f, int64_t off, int whence)
{
	if (whence == SEEK_CUR)
		off += f->pos;
	else if (whence != SEEK_SET)
		return -EINVAL;
	return off;
}

static int dir_fsync(struct file *f, bool datasync)
{
	struct open_dir *od = f->priv;
	struct fuse_conn *fc = conn_of(f->inode);
	const struct fuse_fsync_in in = {.fh = od->h->fh, .fsync_flags = datasync};

	if (fuse_lacks(fc, FUSE_FSYNCDIR))
		return 0;
	struct fuse_req *r = fuse_req_new(fc, FUSE_FSYNCDIR, od->h->node->nodeid);
	fuse_req_add(r, &in, sizeof(in));
	int err = fuse_call(r, NULL, 0);
	return err == -ENOSYS ? 0 : err;
}

static void dir_release(struct file *f)
{
	struct open_dir *od = f->priv;

	list_drop(od);
	fuse_handle_put(od->h);
	free(od);
}

static const struct file_ops dir_fops = {
	.readdir = dir_readdir,
	.llseek = dir_llseek,
	.fsync = dir_fsync,
	.release = dir_release,
};

int fuse_dir_open(struct inode *in, struct dentry *d, struct file *f)
{
	struct open_dir *od = calloc(1, sizeof(*od));

	(void)d;
	if (!od)
		return -ENOMEM;
	int err = fuse_handle_open(node_of(in), f->flags, true, &od->h);
	if (err) {
		free(od);
		return err;
	}
	f->priv = od;
	f->ops = &dir_fops;
	return 0;
}
