/* Reading directories.  A handle keeps the host's own position, so ordinary reading never seeks. */
#include "gofer/server.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sentry/lib/cleanup.h"

struct linux_dirent64 {
	uint64_t d_ino;
	int64_t d_off;
	uint16_t d_reclen;
	uint8_t d_type;
	char d_name[];
};

/* Returns false when the record does not fit. */
static bool add_record(struct gofer_reply *rep, struct reader *r, const struct linux_dirent64 *d)
{
	size_t len = strlen(d->d_name);
	size_t most = sizeof(struct gofer_dirent) + sizeof(struct gofer_attr) + ((len + 7) & ~7UL);
	struct gofer_attr a;

	if (rep->len + most > r->limit)
		return false;
	struct gofer_dirent rec = {
		.ino = d->d_ino,
		.off = d->d_off,
		.name_len = (uint16_t)len,
		.type = d->d_type,
	};
	bool dir = d->d_type == DT_DIR || d->d_type == DT_UNKNOWN;
	/* A file that vanished between the two calls has no attributes. */
	if ((r->attrs == ATTRS_ALL || (r->attrs == ATTRS_DIRS && dir)) &&
	    strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
		rec.has_attr = host_stat_name(r->fd, d->d_name, &a) == 0;
	memcpy(reply_add(rep, sizeof(rec)), &rec, sizeof(rec));
	if (rec.has_attr)
		memcpy(reply_add(rep, sizeof(a)), &a, sizeof(a));
	char *p = reply_add(rep, (len + 7) & ~7UL);
	memset(p, 0, (len + 7) & ~7UL);
	memcpy(p, d->d_name, len);
	r->count++;
	r->offset = d->d_off;
	return true;
}

/* Fills the reply.  What was read but does not fit is read again next time. */
int read_entries(struct gofer_server *s, struct gofer_reply *rep, struct reader *r)
{
	if (!s->dirbuf && !(s->dirbuf = malloc(DIRBUF_SIZE)))
		return -ENOMEM;
	for (;;) {
		long n = syscall(SYS_getdents64, r->fd, s->dirbuf, DIRBUF_SIZE);
		if (n < 0)
			return r->count ? 0 : -errno;
		if (n == 0) {
			r->eof = true;
			return 0;
		}
		for (long i = 0; i < n;) {
			const struct linux_dirent64 *d = (void *)(s->dirbuf + i);
			if (!add_record(rep, r, d)) {
				if (!r->count)
					return -EINVAL;
				return lseek(r->fd, r->offset, SEEK_SET) < 0 ? -errno : 0;
			}
			i += d->d_reclen;
		}
	}
}

static int start(struct gofer_server *s, const struct gofer_readdir_req *rq, struct reader *r,
		 uint16_t *attach)
{
	struct node *n;
	int err = node_find_dir(s, rq->node, false, &n);

	if (err || (err = node_room(s)))
		return err;
	if (rq->offset != 0)
		return -EINVAL;
	*attach = n->attach;
	r->fd = host_reopen(n->fd, O_RDONLY | O_DIRECTORY);
	return r->fd < 0 ? r->fd : 0;
}

static int seek(struct node *n, int64_t offset)
{
	if (offset < 0)
		return -EINVAL;
	if (n->offset != offset && lseek(n->fd, offset, SEEK_SET) < 0)
		return -errno;
	n->offset = offset;
	return 0;
}

HANDLER(op_readdir)
{
	const struct gofer_readdir_req *q = &rq->readdir;
	struct reader r = {.fd = -1,
			   .attrs = q->flags & GOFER_READDIR_ATTRS ? ATTRS_ALL : ATTRS_NONE,
			   .offset = q->offset};
	CLEANUP_FD int fresh = -1;
	uint16_t attach = 0;
	int err;

	if (tail->left)
		return -EPROTO;
	if (q->flags & ~(GOFER_READDIR_START | GOFER_READDIR_ATTRS))
		return -EINVAL;
	struct node *h = NULL;
	if (q->flags & GOFER_READDIR_START) {
		if ((err = start(s, q, &r, &attach)))
			return err;
		fresh = r.fd;
	} else {
		if (!(h = node_find(s, q->node, NODE_HANDLE)))
			return -EBADF;
		if ((err = seek(h, q->offset)))
			return err;
		r.fd = h->fd;
	}
	struct gofer_readdir_rep *out = reply_add(rep, sizeof(*out));
	memset(out, 0, sizeof(*out));
	size_t room = GOFER_MSG_MAX - rep->len;
	r.limit = rep->len + (q->max < room ? q->max : room);
	if ((err = read_entries(s, rep, &r)))
		return err;
	out->count = r.count;
	out->flags = r.eof ? GOFER_READDIR_EOF : 0;
	if (h) {
		h->offset = r.offset;
		out->handle = q->node;
	} else if (!r.eof) {
		err = node_new(s, fresh, NODE_HANDLE, S_IFDIR, attach, &out->handle);
		if (err)
			return err;
		(void)steal_fd(&fresh);
		node_find(s, out->handle, NODE_HANDLE)->offset = r.offset;
	}
	return 0;
}
