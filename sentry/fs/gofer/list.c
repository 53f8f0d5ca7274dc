/*
 * Asking for directories.  One round trip lists a directory with attributes.  While a guest goes
 * down a tree (find, du, tar, grep -r), those below and beside it come along, as readahead does for
 * data: first a little, then as much as a message holds.
 */
#include "sentry/fs/gofer/listing.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/lib/cleanup.h"

#define REPLY_MAX (GOFER_MSG_MAX - sizeof(struct gofer_hdr))
#define STREAK_FIRST 8192 /* bytes listed ahead */
#define BROUGHT_MAX 4096
#define TOPS_MAX ((uint32_t)GOFER_WALK_MAX)

bool gofer_records_ok(const uint8_t *p, size_t len, uint32_t count)
{
	struct gofer_dirent e;

	for (; count; count--) {
		if (len < sizeof(e))
			return false;
		memcpy(&e, p, sizeof(e));
		size_t size = gofer_record_size(&e);
		if (e.has_attr > 1 || e.name_len == 0 || e.name_len > GOFER_NAME_LEN ||
		    size > len || e.off < 0)
			return false;
		const char *name = gofer_record_name(p, &e);
		if (memchr(name, 0, e.name_len) || memchr(name, '/', e.name_len))
			return false;
		p += size;
		len -= size;
	}
	return len == 0;
}

/* ---- the request ---- */

struct ask {
	struct gofer_place place;
	uint32_t ahead;
	bool plain;
	uint32_t count; /* names of directories in the place; 0: the place itself */
	size_t len;
	uint8_t names[TOPS_MAX * (GOFER_NAME_LEN + sizeof(uint16_t))];
	struct dentry *parent_d;    /* reference, or NULL */
	struct gofer_inode *parent; /* borrowed from it */
};

static void add_top(struct ask *a, const char *name, size_t name_len)
{
	uint16_t len = (uint16_t)name_len;

	memcpy(a->names + a->len, &len, sizeof(len));
	memcpy(a->names + a->len + sizeof(len), name, len);
	a->len += sizeof(len) + len;
	a->count++;
}

/* The directories that follow `name` in its own directory. */
static void add_followers(struct ask *a, const struct gofer_listing *l, const char *name,
			  size_t len)
{
	size_t at = listing_find(l, name, len);

	if (at == SIZE_MAX)
		return;
	for (at = listing_after(l, at); at < l->len && a->count < TOPS_MAX;
	     at = listing_after(l, at)) {
		const struct listing_rec *r = listing_at(l, at);
		if ((r->state & (REC_ATTR | REC_GONE)) == REC_ATTR && S_ISDIR(r->mode))
			add_top(a, r->name, r->name_len);
	}
}

/* How much to list ahead: more and more while directories are read that were found in listings. */
static uint32_t next_streak(struct gofer_sb *gsb, bool goes_on)
{
	uint32_t n = atomic_load(&gsb->streak);

	if (!goes_on) {
		atomic_store(&gsb->brought, 0);
		atomic_store(&gsb->used, 0);
	}
	n = !goes_on ? 0 : n ? MIN(n * 2, (uint32_t)REPLY_MAX) : STREAK_FIRST;
	atomic_store(&gsb->streak, n);
	return n;
}

/* With its neighbours, by its name in its own directory. */
static bool plan_ahead(struct gofer_inode *dir, struct dentry *d, struct ask *a)
{
	char name[VFS_NAME_MAX + 1];

	a->parent_d = dentry_get_parent(d, name);
	a->parent = gi_of(a->parent_d->inode);
	struct gofer_listing *l = gofer_listing_get_any(a->parent);
	a->ahead = next_streak(gsb_of(dir->in.sb), l != NULL);
	a->plain = a->ahead && !gofer_wants_attrs(gsb_of(dir->in.sb));
	bool yes = a->ahead && !gofer_place(a->parent, &a->place);
	if (yes) {
		add_top(a, name, strlen(name));
		add_followers(a, l, name, strlen(name));
	}
	listing_put(l);
	return yes;
}

static int plan(struct gofer_inode *dir, struct dentry *d, bool alone, struct ask *a)
{
	a->count = a->ahead = 0;
	a->plain = false;
	a->len = 0;
	a->parent = NULL;
	a->parent_d = NULL;
	if (!alone && d != d->sb->root && plan_ahead(dir, d, a))
		return 0;
	return gofer_place(dir, &a->place);
}

static int send(struct gofer_inode *dir, const struct ask *a, uint8_t *out, size_t *len)
{
	struct gofer_list_req rq = {
		.node = a->place.node,
		.depth = (uint16_t)a->place.depth,
		.count = (uint16_t)a->count,
		.ahead = a->ahead,
		.flags = a->plain ? GOFER_LIST_PLAIN : 0,
	};
	struct rpc r = {
		.op = GOFER_LIST,
		.fixed = &rq,
		.fixed_len = sizeof(rq),
		.var = {{(void *)a->place.names, a->place.len}, {(void *)a->names, a->len}},
		.rep = out,
		.rep_min = sizeof(struct gofer_list_dir),
		.rep_max = REPLY_MAX,
	};
	int err = gofer_rpc(gi_conn(dir), &r);

	*len = r.rep_len;
	return err;
}

/* ---- the reply ---- */

/* One directory of it. */
struct part {
	struct gofer_list_dir head;
	const uint8_t *records;
	struct dentry *d;	/* reference, once found */
	struct gofer_inode *gi; /* borrowed from d; NULL: of no use */
};

/* The form of the whole reply. */
static int split(const struct ask *a, const uint8_t *p, size_t len, struct part *parts, uint32_t *n)
{
	for (*n = 0; len; ++*n) {
		if (len < sizeof(struct gofer_list_dir) || *n == GOFER_LIST_DIRS)
			return -EIO;
		struct part *t = &parts[*n];
		const struct gofer_list_dir *h = &t->head;
		memcpy(&t->head, p, sizeof(*h));
		t->records = p + sizeof(*h);
		if (h->bytes > len - sizeof(*h) ||
		    !gofer_records_ok(t->records, h->bytes, h->count) || (h->handle && *n))
			return -EIO;
		if (h->parent == GOFER_LIST_TOP
			    ? h->index >= MAX(a->count, 1u)
			    : h->parent >= *n || h->index >= parts[h->parent].head.count)
			return -EIO;
		if (!*n && (h->parent != GOFER_LIST_TOP || h->index))
			return -EIO;
		p += sizeof(*h) + h->bytes;
		len -= sizeof(*h) + h->bytes;
		t->d = NULL;
		t->gi = NULL;
	}
	return *n && (*n == 1 || !parts[0].head.handle) ? 0 : -EIO;
}

/* The name of a directory that came along: in the request, or in a record of its parent. */
static const char *part_name(const struct ask *a, const struct part *parts, const struct part *t,
			     size_t *len)
{
	uint16_t n;

	if (t->head.parent == GOFER_LIST_TOP) {
		const uint8_t *p = a->names;
		for (uint32_t i = 0;; i++, p += sizeof(n) + n) {
			memcpy(&n, p, sizeof(n));
			if (i == t->head.index)
				break;
		}
		*len = n;
		return (const char *)p + sizeof(n);
	}
	const uint8_t *p = parts[t->head.parent].records;
	struct gofer_dirent e;
	for (uint32_t i = 0;; i++, p += gofer_record_size(&e)) {
		memcpy(&e, p, sizeof(e));
		if (i == t->head.index)
			break;
	}
	*len = e.name_len;
	return gofer_record_name(p, &e);
}

/* Makes the listing of a part that is complete. */
static int build(const struct ask *a, const struct part *t, struct gofer_listing **out)
{
	struct gofer_listing *l = listing_new();
	int err = l ? listing_add(l, t->records, t->head.bytes) : -ENOMEM;

	if (!err)
		err = listing_finish(l);
	if (!err)
		l->plain = a->plain;
	if (err)
		listing_put(l);
	else
		*out = l;
	return err;
}

/* Does it have a listing that the new one does not outdo? */
static bool is_known(const struct ask *a, struct gofer_inode *dir)
{
	struct gofer_listing *l = gofer_listing_get_any(dir);
	bool known = l && (!l->plain || a->plain);

	listing_put(l);
	return known;
}

/* Long ago counts less. */
static void count_brought(struct gofer_sb *gsb, const struct gofer_listing *l)
{
	uint32_t files = 0;

	for (size_t at = 0; at < l->len; at = listing_after(l, at))
		files += listing_at(l, at)->type != DT_DIR;
	if (atomic_fetch_add(&gsb->brought, files) + files < BROUGHT_MAX)
		return;
	atomic_store(&gsb->brought, atomic_load(&gsb->brought) / 2);
	atomic_store(&gsb->used, atomic_load(&gsb->used) / 2);
}

/* Keeps a directory that came along, if its own directory's listing names it. */
static void keep(struct gofer_sb *gsb, const struct ask *a, struct part *parts, struct part *t,
		 uint64_t changes)
{
	bool top = t->head.parent == GOFER_LIST_TOP;
	struct gofer_inode *above = top ? a->parent : parts[t->head.parent].gi;
	struct dentry *above_d = top ? a->parent_d : parts[t->head.parent].d;
	struct gofer_listing *l;
	struct gofer_entry e;
	size_t len;
	const char *name = part_name(a, parts, t, &len);

	/* Found there, it costs no round trip. */
	if (!above || gofer_listing_lookup(above, name, len, &e) != LISTING_FOUND ||
	    !S_ISDIR(e.attr.mode) || dentry_lookup(above_d, name, len, &t->d))
		return;
	struct inode *in = t->d->inode;
	if (!in || in->sb != &gsb->sb || !S_ISDIR(in->mode))
		return;
	t->gi = gi_of(in);
	if (is_known(a, t->gi) || build(a, t, &l))
		return;
	count_brought(gsb, l);
	gofer_listing_attach(t->gi, t->d, l, changes);
	listing_put(l);
}

/* Goes on with a directory that did not fit into one reply. */
static int read_on(struct gofer_inode *dir, uint64_t handle, struct gofer_listing *l, uint8_t *buf)
{
	struct gofer_readdir_rep head = {0};
	int err = 0;

	while (!err && !(head.flags & GOFER_READDIR_EOF)) {
		const struct listing_rec *last = NULL;
		for (size_t at = 0; at < l->len; at = listing_after(l, at))
			last = listing_at(l, at);
		struct gofer_readdir_req rq = {
			.node = handle,
			.offset = last ? last->off : 0,
			.max = REPLY_MAX,
			.flags = GOFER_READDIR_ATTRS,
		};
		struct rpc r = {
			.op = GOFER_READDIR,
			.fixed = &rq,
			.fixed_len = sizeof(rq),
			.rep = buf,
			.rep_min = sizeof(head),
			.rep_max = REPLY_MAX,
		};
		if ((err = gofer_rpc(gi_conn(dir), &r)))
			break;
		memcpy(&head, buf, sizeof(head));
		if ((!head.count && !(head.flags & GOFER_READDIR_EOF)) ||
		    !gofer_records_ok(buf + sizeof(head), r.rep_len - sizeof(head), head.count))
			err = gofer_conn_fail(gi_conn(dir), "a malformed directory");
		else
			err = listing_add(l, buf + sizeof(head), r.rep_len - sizeof(head));
	}
	gofer_close_node(gi_conn(dir), handle, false);
	return err;
}

/* The directory that was asked for itself; no listing if it is too large. */
static int take_first(struct gofer_inode *dir, const struct ask *a, struct part *t, uint8_t *buf,
		      struct gofer_listing **out)
{
	struct gofer_listing *l;

	if (!t->head.handle)
		return build(a, t, out);
	l = listing_new();
	int err = l ? listing_add(l, t->records, t->head.bytes) : -ENOMEM;
	if (err)
		gofer_close_node(gi_conn(dir), t->head.handle, false);
	else
		err = read_on(dir, t->head.handle, l, buf);
	if (!err)
		err = listing_finish(l);
	if (err) {
		listing_put(l);
	} else {
		l->plain = a->plain;
		*out = l;
	}
	return err == -EFBIG ? 0 : err;
}

/* What one request needs. */
struct scratch {
	struct ask ask;
	struct part parts[GOFER_LIST_DIRS];
	uint8_t buf[REPLY_MAX];
};

static int list(struct gofer_inode *dir, struct dentry *d, bool alone, struct scratch *s,
		struct gofer_listing **out)
{
	struct gofer_sb *gsb = gsb_of(dir->in.sb);
	uint64_t changes = gofer_changes(gsb);
	uint32_t n = 0;
	size_t len;
	int err = plan(dir, d, alone, &s->ask);

	if (!err)
		err = send(dir, &s->ask, s->buf, &len);
	for (int i = 0; gofer_give_up_nodes(gsb, err, i); i++)
		err = send(dir, &s->ask, s->buf, &len);
	if (!err && split(&s->ask, s->buf, len, s->parts, &n))
		err = gofer_conn_fail(gi_conn(dir), "a malformed listing");
	if (!err)
		err = take_first(dir, &s->ask, &s->parts[0], s->buf, out);
	if (!err)
		atomic_store(&dir->large, !*out);
	if (!err && *out) {
		atomic_store(&dir->names, (*out)->count);
		atomic_store(&dir->misses, 0);
		s->parts[0].gi = dir;
		s->parts[0].d = dentry_get(d);
		gofer_listing_attach(dir, d, *out, changes);
		for (uint32_t i = 1; i < n; i++)
			keep(gsb, &s->ask, s->parts, &s->parts[i], changes);
		for (uint32_t i = 0; i < n; i++)
			dentry_put(s->parts[i].d);
	}
	dentry_put(s->ask.parent_d);
	return err;
}

int gofer_list(struct gofer_inode *dir, struct dentry *d, struct gofer_listing **out)
{
	CLEANUP_FREE struct scratch *s = malloc(sizeof(*s));

	*out = NULL;
	return s ? list(dir, d, false, s, out) : -ENOMEM;
}

void gofer_list_alone(struct gofer_inode *dir, struct dentry *d)
{
	CLEANUP_FREE struct scratch *s = malloc(sizeof(*s));
	struct gofer_listing *l = NULL;

	/* Without a listing names are looked up as before. */
	if (s && list(dir, d, true, s, &l) == 0)
		listing_put(l);
}
