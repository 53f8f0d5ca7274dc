/*
 * Operations on many files at once, for clients that look ahead: listing of trees, opening of
 * neighbours.  They leave no nodes behind, so how much is known to a client is not bounded by
 * descriptors.
 */
#include "gofer/server.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "sentry/lib/cleanup.h"

#define DEPTH_MAX 12 /* directories below each other in one reply: each keeps a descriptor open */

/*
 * The directory that `depth` names of the tail lead to: a descriptor that is to be closed if
 * *own is set.  Nothing on the way is opened, only looked up.
 */
static int walk_to(int dir, uint32_t depth, struct gofer_tail *tail, int *own)
{
	char name[GOFER_NAME_LEN + 1];

	for (uint32_t i = 0; i < depth; i++) {
		int err = tail_walk_name(tail, name);
		if (err)
			return err;
		int fd = host_lookup(dir, name);
		if (fd < 0)
			return fd;
		if (*own >= 0)
			close(*own);
		*own = dir = fd;
	}
	return dir;
}

/* ---- listing ---- */

struct lister {
	struct gofer_server *s;
	struct gofer_reply *rep;
	size_t ahead;	/* no directory is begun beyond this length of the reply */
	uint32_t ndirs; /* in the reply */
	bool full, plain;
};

/* Where a directory's records are in the reply. */
struct listed {
	uint32_t number;
	size_t begin, end;
};

/*
 * Adds a directory: 1, or -errno with the reply as it was.  One that does not fit is an error
 * unless it is the first, of which as much is added as there is room for (*eof is false).
 */
static int add_dir(struct lister *l, int fd, uint32_t parent, uint32_t index, struct listed *out,
		   struct reader *r)
{
	struct gofer_reply *rep = l->rep;
	size_t before = rep->len;
	struct gofer_list_dir head = {.parent = parent, .index = index};

	*r = (struct reader){.fd = fd, .limit = GOFER_MSG_MAX};
	r->attrs = l->plain ? ATTRS_DIRS : ATTRS_ALL;
	uint8_t *at = reply_add(rep, sizeof(head));
	int err = at ? read_entries(l->s, rep, r) : -ENOSPC;
	if (!err && !r->eof && l->ndirs)
		err = -ENOSPC;
	if (err) {
		l->full = l->full || err == -ENOSPC;
		rep->len = before;
		return err;
	}
	head.count = r->count;
	head.bytes = (uint32_t)(rep->len - before - sizeof(head));
	memcpy(at, &head, sizeof(head));
	*out = (struct listed){l->ndirs++, before + sizeof(head), rep->len};
	return 0;
}

static bool go_on(const struct lister *l)
{
	return !l->full && l->rep->len < l->ahead && l->ndirs < GOFER_LIST_DIRS;
}

/* Directories below one that was added, in the order in which a walk would meet them. */
static void add_below(struct lister *l, int fd, struct listed dir, unsigned depth)
{
	const uint8_t *p = l->rep->buf + dir.begin, *end = l->rep->buf + dir.end;

	for (uint32_t i = 0; p < end && go_on(l) && depth < DEPTH_MAX; i++) {
		struct gofer_dirent e;
		struct gofer_attr a;
		char name[GOFER_NAME_LEN + 1];
		struct listed below;
		struct reader r;

		memcpy(&e, p, sizeof(e));
		memcpy(&a, p + sizeof(e), e.has_attr ? sizeof(a) : 0);
		const uint8_t *text = p + sizeof(e) + (e.has_attr ? sizeof(a) : 0);
		p = text + ((e.name_len + 7UL) & ~7UL);
		if (!e.has_attr || !S_ISDIR(a.mode))
			continue;
		memcpy(name, text, e.name_len);
		name[e.name_len] = '\0';
		CLEANUP_FD int child = host_open_dir(fd, name);
		if (child >= 0 && add_dir(l, child, dir.number, i, &below, &r) == 0)
			add_below(l, child, below, depth + 1);
	}
}

/* A directory asked for, and what is below it.  The first one may be left with a handle. */
static int add_top(struct lister *l, int dir, const char *name, uint32_t index, uint16_t attach)
{
	struct listed in;
	struct reader r;
	CLEANUP_FD int fd =
		name ? host_open_dir(dir, name) : host_reopen(dir, O_RDONLY | O_DIRECTORY);

	if (fd < 0)
		return fd;
	int err = add_dir(l, fd, GOFER_LIST_TOP, index, &in, &r);
	if (err)
		return err;
	if (r.eof) {
		add_below(l, fd, in, 0);
		return 0;
	}
	l->full = true;
	struct gofer_list_dir head;
	uint8_t *at = l->rep->buf + in.begin - sizeof(head);
	memcpy(&head, at, sizeof(head));
	err = node_new(l->s, fd, NODE_HANDLE, S_IFDIR, attach, &head.handle);
	if (err)
		return err;
	(void)steal_fd(&fd);
	node_find(l->s, head.handle, NODE_HANDLE)->offset = r.offset;
	memcpy(at, &head, sizeof(head));
	return 0;
}

HANDLER(op_list)
{
	const struct gofer_list_req *q = &rq->list;
	struct lister l = {
		.s = s,
		.rep = rep,
		.ahead = rep->len + q->ahead,
		.plain = q->flags & GOFER_LIST_PLAIN,
	};
	char name[GOFER_NAME_LEN + 1];
	CLEANUP_FD int own = -1;
	struct node *n;

	if (q->flags & ~(uint32_t)GOFER_LIST_PLAIN)
		return -EINVAL;
	if (q->depth > GOFER_WALK_MAX || q->count > GOFER_WALK_MAX)
		return -EPROTO;
	int err = tail_check_names(*tail, (uint32_t)q->depth + q->count);
	if (err || (err = node_find_dir(s, q->node, false, &n)) || (err = node_room(s)))
		return err;
	uint16_t attach = n->attach;
	int dir = walk_to(n->fd, q->depth, tail, &own);
	if (dir < 0)
		return dir;
	if (!q->count)
		return add_top(&l, dir, NULL, 0, attach);
	for (uint32_t i = 0; i < q->count && (i == 0 || go_on(&l)); i++) {
		err = tail_walk_name(tail, name);
		if (!err)
			err = add_top(&l, dir, name, i, attach);
		if (err && i == 0)
			return err;
	}
	return 0;
}

/* ---- opening ---- */

static int open_one(int dir, const char *name, struct gofer_reply *rep)
{
	struct gofer_attr a;
	CLEANUP_FD int fd = host_lookup(dir, name);

	if (fd < 0)
		return fd;
	int err = host_stat(fd, &a);
	if (err)
		return err;
	if (!S_ISREG(a.mode))
		return S_ISDIR(a.mode) ? -EISDIR : -ENXIO;
	int file = host_reopen(fd, O_RDONLY);
	if (file < 0)
		return file;
	reply_add_fd(rep, file);
	return 0;
}

HANDLER(op_open_many)
{
	const struct gofer_open_many_req *q = &rq->open_many;
	char name[GOFER_NAME_LEN + 1];
	CLEANUP_FD int own = -1;
	struct node *n;

	if (q->depth > GOFER_WALK_MAX || !q->count || q->count > GOFER_FDS_MAX)
		return -EPROTO;
	int err = tail_check_names(*tail, (uint32_t)q->depth + q->count);
	if (err || (err = node_find_dir(s, q->node, false, &n)))
		return err;
	int dir = walk_to(n->fd, q->depth, tail, &own);
	if (dir < 0)
		return dir;
	for (uint32_t i = 0; i < q->count; i++) {
		int32_t result = tail_walk_name(tail, name);
		if (!result)
			result = open_one(dir, name, rep);
		memcpy(reply_add(rep, sizeof(result)), &result, sizeof(result));
	}
	return 0;
}
