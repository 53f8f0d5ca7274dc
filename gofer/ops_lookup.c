/* Operations that find and look: attach, walk, open, attributes, link targets, file systems. */
#include "gofer/server.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "sentry/lib/cleanup.h"

/* Looks a name up in dir: a descriptor and its attributes. */
static int lookup_stat(int dir, const char *name, int *fd, struct gofer_attr *a)
{
	int r = host_lookup(dir, name);

	if (r < 0)
		return r;
	int err = host_stat(r, a);
	if (err)
		close(r);
	else
		*fd = r;
	return err;
}

HANDLER(op_attach)
{
	if (tail->left)
		return -EPROTO;
	if (rq->attach.version != GOFER_VERSION || rq->attach.attach >= s->nattach)
		return -EINVAL;
	struct attach_point *ap = &s->attach[rq->attach.attach];
	struct gofer_attach_rep *out = reply_add(rep, sizeof(*out));
	memset(out, 0, sizeof(*out));
	int err = host_stat(ap->fd, &out->entry.attr);
	if (err)
		return err;
	CLEANUP_FD int fd = host_reopen(ap->fd, O_PATH);
	if (fd < 0)
		return fd;
	err = node_new(s, fd, NODE_PATH, out->entry.attr.mode & S_IFMT, (uint16_t)rq->attach.attach,
		       &out->entry.node);
	if (err)
		return err;
	(void)steal_fd(&fd);
	out->flags = (ap->readonly ? GOFER_ATTACH_READONLY : 0) |
		     (s->host_uds ? GOFER_ATTACH_HOST_UDS : 0);
	return 0;
}

/* One name: fills the entry, makes a node unless only attributes are wanted.  Returns the file's
 * descriptor, which belongs to the node or, without one, to the caller. */
static int walk_one(struct gofer_server *s, int dir, uint16_t attach, const char *name, bool stat,
		    struct gofer_entry *e)
{
	CLEANUP_FD int fd = -1;
	int err = lookup_stat(dir, name, &fd, &e->attr);

	if (!err && !stat)
		err = node_new(s, fd, NODE_PATH, e->attr.mode & S_IFMT, attach, &e->node);
	return err ? err : steal_fd(&fd);
}

/* Walks down; returns the descriptor of the last file found (`dir` when none was), which the
 * caller closes unless *last_kept: then it is that of a node. */
static int walk_down(struct gofer_server *s, int dir, uint16_t attach,
		     const struct gofer_walk_req *w, struct gofer_tail *tail,
		     struct gofer_walk_rep *out, struct gofer_entry *e, bool *last_kept)
{
	char name[GOFER_NAME_LEN + 1];
	bool kept = true; /* cur's descriptor */
	int cur = dir;

	for (uint32_t i = 0; i < w->count; i++) {
		if (i > 0 && !S_ISDIR(e[i - 1].attr.mode)) {
			out->stop = S_ISLNK(e[i - 1].attr.mode) ? -ELOOP : -ENOTDIR;
			break;
		}
		bool stat = w->flags & GOFER_WALK_STAT ||
			    (w->flags & GOFER_WALK_LAST && i + 1 < w->count);
		int fd = tail_walk_name(tail, name);
		if (fd == 0)
			fd = walk_one(s, cur, attach, name, stat, &e[i]);
		if (fd < 0) {
			out->stop = fd;
			break;
		}
		if (!kept)
			close(cur);
		cur = fd;
		kept = !stat;
		out->count++;
	}
	*last_kept = kept;
	return cur;
}

static void add_target(struct gofer_reply *rep, int fd, uint32_t *len)
{
	char *p = reply_add(rep, GOFER_PATH_LEN + 1);

	if (!p)
		return;
	ssize_t n = readlinkat(fd, "", p, GOFER_PATH_LEN + 1);
	if (n < 0 || n > GOFER_PATH_LEN)
		n = 0;
	rep->len -= GOFER_PATH_LEN + 1 - (size_t)n;
	*len = (uint32_t)n;
}

static int add_open_fd(struct gofer_reply *rep, int node_fd, int flags)
{
	int fd = host_reopen(node_fd, flags);

	if (fd < 0)
		return fd;
	reply_add_fd(rep, fd);
	return 0;
}

HANDLER(op_walk)
{
	const struct gofer_walk_req *w = &rq->walk;
	struct node *n;
	bool kept;

	if (w->flags & ~(GOFER_WALK_TARGET | GOFER_WALK_STAT | GOFER_WALK_LAST | GOFER_WALK_OPEN))
		return -EINVAL;
	if (w->count == 0 || w->count > GOFER_WALK_MAX)
		return -EPROTO;
	int err = tail_check_names(*tail, w->count);
	if (err || (err = node_find_dir(s, w->node, false, &n)))
		return err;
	int dir = n->fd;
	uint16_t attach = n->attach;

	struct gofer_walk_rep *out = reply_add(rep, sizeof(*out));
	struct gofer_entry *e = reply_add(rep, w->count * sizeof(*e));
	memset(out, 0, sizeof(*out));
	memset(e, 0, w->count * sizeof(*e));
	int last = walk_down(s, dir, attach, w, tail, out, e, &kept);
	rep->len -= (w->count - out->count) * sizeof(*e);
	if (w->flags & GOFER_WALK_TARGET && out->count && S_ISLNK(e[out->count - 1].attr.mode))
		add_target(rep, last, &out->target_len);
	if (w->flags & GOFER_WALK_OPEN && !out->stop && S_ISREG(e[out->count - 1].attr.mode))
		(void)!add_open_fd(rep, last, O_RDONLY);
	if (!kept)
		close(last);
	return 0;
}

HANDLER(op_open)
{
	const uint32_t writes = GOFER_OPEN_WRITE | GOFER_OPEN_ONLY_WRITE;
	uint32_t flags = rq->open.flags;
	struct node *n = node_find(s, rq->open.node, NODE_PATH);
	int err = 0;

	if (tail->left)
		return -EPROTO;
	if (!n)
		return -EBADF;
	if (!flags || flags & ~(GOFER_OPEN_READ | writes))
		return -EINVAL;
	if (!S_ISREG(n->type))
		return S_ISDIR(n->type) ? -EISDIR : -ENXIO;
	if (flags & writes && s->attach[n->attach].readonly)
		return -EROFS;
	struct gofer_open_rep *out = reply_add(rep, sizeof(*out));
	memset(out, 0, sizeof(*out));
	if (flags & GOFER_OPEN_READ)
		err = add_open_fd(rep, n->fd, O_RDONLY);
	if (!err && flags & GOFER_OPEN_WRITE)
		err = add_open_fd(rep, n->fd, O_RDWR);
	if (!err && flags & GOFER_OPEN_ONLY_WRITE)
		err = add_open_fd(rep, n->fd, O_WRONLY);
	if (!err)
		err = host_stat(n->fd, &out->attr);
	out->flags = flags;
	return err;
}

HANDLER(op_readlink)
{
	struct node *n = node_find(s, rq->node.node, NODE_PATH);
	uint32_t len = 0;

	if (tail->left)
		return -EPROTO;
	if (!n)
		return -EBADF;
	if (!S_ISLNK(n->type))
		return -EINVAL;
	add_target(rep, n->fd, &len);
	return len ? 0 : -EIO;
}

HANDLER(op_getattr)
{
	struct node *n = node_find(s, rq->node.node, NODE_PATH);

	if (tail->left)
		return -EPROTO;
	if (!n)
		return -EBADF;
	return host_stat(n->fd, reply_add(rep, sizeof(struct gofer_attr)));
}

HANDLER(op_statfs)
{
	struct node *n = node_find(s, rq->node.node, NODE_PATH);
	struct statfs f;

	if (tail->left)
		return -EPROTO;
	if (!n)
		return -EBADF;
	if (fstatfs(n->fd, &f))
		return -errno;
	struct gofer_statfs_rep *out = reply_add(rep, sizeof(*out));
	*out = (struct gofer_statfs_rep){
		.type = (uint64_t)f.f_type,
		.bsize = (uint64_t)f.f_bsize,
		.blocks = f.f_blocks,
		.bfree = f.f_bfree,
		.bavail = f.f_bavail,
		.files = f.f_files,
		.ffree = f.f_ffree,
		.namelen = (uint64_t)f.f_namelen,
		.frsize = (uint64_t)f.f_frsize,
		.flags = (uint64_t)f.f_flags,
	};
	memcpy(&out->fsid, &f.f_fsid, sizeof(out->fsid));
	return 0;
}

HANDLER(op_close)
{
	const uint8_t *p = tail->p;
	uint32_t count = rq->close.count;

	(void)rep;
	if (count > GOFER_CLOSE_MAX || tail->left != count * sizeof(uint64_t))
		return -EPROTO;
	for (uint32_t i = 0; i < count; i++) {
		uint64_t id;
		memcpy(&id, p + i * sizeof(id), sizeof(id));
		node_close(s, id);
	}
	return 0;
}
