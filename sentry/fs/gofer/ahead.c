/*
 * Looking ahead: who reads a directory and then looks at its entries one by one (ls -l, du, find,
 * tar, cp -r) gets a window of the names that follow in the same round trip, as readahead does for
 * data.  Exclusive mode only.
 *
 * A listing remembers the names of a directory as they were read, and up to WINDOW_MAX files
 * that were found ahead of time.  Each of those would be out of date only if the file was changed
 * by another name; files that have one are not kept.  A few listings per super block, the least
 * recently used first to go.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/fs/gofer/client.h"
#include "sentry/lib/cleanup.h"

#define LISTINGS_MAX 16
#define NAMES_MAX (1u << 20) /* bytes of names in a listing */
#define SCAN_MAX 1024	     /* names looked through for the one that is asked for */
#define WINDOW_MAX ((unsigned)GOFER_WALK_MAX)
#define WINDOW_FIRST 16

struct found {
	size_t at; /* of the name in `names` */
	struct gofer_entry entry;
};

struct listing {
	struct list_head lru;
	const struct gofer_inode *dir; /* no reference: dropped when the inode goes */
	uint64_t gen;		       /* never used twice */
	size_t next;		       /* where the name after the last one looked up is */
	unsigned window;
	unsigned nfound;
	struct found found[WINDOW_MAX];
	size_t len, room;
	uint8_t *names; /* each a uint16_t length and the bytes, as in a walk */
};

/* What a dropped listing leaves to be closed, outside the lock. */
struct leftovers {
	struct listing *freed;
	uint64_t nodes[WINDOW_MAX];
	unsigned n;
};

static void leave_found(struct listing *l, struct leftovers *lo)
{
	for (unsigned i = 0; i < l->nfound; i++)
		lo->nodes[lo->n++] = l->found[i].entry.node;
	l->nfound = 0;
}

static void clear_leftovers(struct gofer_sb *gsb, struct leftovers *lo)
{
	for (unsigned i = 0; i < lo->n; i++)
		gofer_close_node(gsb->conn, lo->nodes[i], false);
	if (lo->freed)
		free(lo->freed->names);
	free(lo->freed);
}

static uint16_t name_len_at(const struct listing *l, size_t at)
{
	uint16_t len;

	memcpy(&len, l->names + at, sizeof(len));
	return len;
}

static bool name_is(const struct listing *l, size_t at, const char *name, size_t len)
{
	return name_len_at(l, at) == len && !memcmp(l->names + at + sizeof(uint16_t), name, len);
}

static size_t name_after(const struct listing *l, size_t at)
{
	return at + sizeof(uint16_t) + name_len_at(l, at);
}

static struct listing *find(struct gofer_sb *gsb, const struct gofer_inode *dir)
{
	struct listing *l;

	list_for_each (l, &gsb->listings, lru) {
		if (l->dir == dir)
			return l;
	}
	return NULL;
}

/* The same, as a use. */
static struct listing *find_used(struct gofer_sb *gsb, const struct gofer_inode *dir)
{
	struct listing *l = find(gsb, dir);

	if (l) {
		list_del(&l->lru);
		list_add_tail(&l->lru, &gsb->listings);
	}
	return l;
}

static void unlink_listing(struct gofer_sb *gsb, struct listing *l, struct leftovers *lo)
{
	list_del(&l->lru);
	gsb->nlistings--;
	leave_found(l, lo);
	lo->freed = l;
}

void gofer_ahead_drop(struct gofer_inode *dir)
{
	struct gofer_sb *gsb = gsb_of(dir->in.sb);
	struct leftovers lo = {.n = 0};

	if (!atomic_exchange(&dir->listed, false))
		return;
	mutex_lock(&gsb->ahead_lock, &lc_leaf);
	struct listing *l = find(gsb, dir);
	if (l)
		unlink_listing(gsb, l, &lo);
	mutex_unlock(&gsb->ahead_lock, &lc_leaf);
	clear_leftovers(gsb, &lo);
}

/* Adds the names of a batch of records; without memory some are missing, which is harmless. */
static void add_names(struct listing *l, const uint8_t *p, size_t len)
{
	struct gofer_dirent e;

	/* A name is shorter here than in its record. */
	if (l->len + len > l->room) {
		size_t room = MIN((l->len + len) * 2, (size_t)NAMES_MAX);
		uint8_t *names = l->len + len <= room ? realloc(l->names, room) : NULL;
		if (!names)
			return;
		l->names = names;
		l->room = room;
	}
	for (const uint8_t *end = p + len; p < end; p += gofer_record_size(&e)) {
		memcpy(&e, p, sizeof(e));
		const char *name = gofer_record_name(p, &e);
		if (name[0] == '.' && (e.name_len == 1 || (e.name_len == 2 && name[1] == '.')))
			continue;
		memcpy(l->names + l->len, &e.name_len, sizeof(e.name_len));
		memcpy(l->names + l->len + sizeof(e.name_len), name, e.name_len);
		l->len += sizeof(e.name_len) + e.name_len;
	}
}

/* A listing for the directory, empty or (more) going on; another may have to go for it. */
static struct listing *open_listing(struct gofer_sb *gsb, struct gofer_inode *dir, bool more,
				    struct leftovers *lo)
{
	struct listing *l = find_used(gsb, dir);

	if (l && more)
		return l;
	if (!l && gsb->nlistings == LISTINGS_MAX)
		l = list_first(&gsb->listings, struct listing, lru);
	if (l)
		unlink_listing(gsb, l, lo);
	l = calloc(1, sizeof(*l));
	if (!l)
		return NULL;
	l->dir = dir;
	l->gen = ++gsb->ahead_gen;
	list_add_tail(&l->lru, &gsb->listings);
	gsb->nlistings++;
	atomic_store(&dir->listed, true);
	return l;
}

void gofer_ahead_list(struct gofer_inode *dir, const uint8_t *records, size_t len, bool more)
{
	struct gofer_sb *gsb = gsb_of(dir->in.sb);
	struct leftovers lo = {.n = 0};

	if (gi_shared(dir))
		return;
	mutex_lock(&gsb->ahead_lock, &lc_leaf);
	struct listing *l = open_listing(gsb, dir, more, &lo);
	if (l)
		add_names(l, records, len);
	mutex_unlock(&gsb->ahead_lock, &lc_leaf);
	clear_leftovers(gsb, &lo);
}

static bool take_found(struct listing *l, const char *name, size_t len, struct gofer_entry *e)
{
	for (unsigned i = 0; i < l->nfound; i++) {
		if (!name_is(l, l->found[i].at, name, len))
			continue;
		*e = l->found[i].entry;
		l->next = name_after(l, l->found[i].at);
		l->found[i] = l->found[--l->nfound];
		return true;
	}
	return false;
}

void gofer_ahead_forget(struct gofer_inode *dir, const char *name, size_t len)
{
	struct gofer_sb *gsb = gsb_of(dir->in.sb);
	struct gofer_entry e;

	if (!atomic_load(&dir->listed))
		return;
	mutex_lock(&gsb->ahead_lock, &lc_leaf);
	struct listing *l = find(gsb, dir);
	bool had = l && take_found(l, name, len, &e);
	mutex_unlock(&gsb->ahead_lock, &lc_leaf);
	if (had)
		gofer_close_node(gsb->conn, e.node, false);
}

/* Where the name is, looking onwards from the last one; SIZE_MAX: nowhere.  The window grows as
 * long as look-ups go forwards, and is wide at once for who begins with the first name. */
static size_t locate(struct listing *l, const char *name, size_t len)
{
	int scanned = 0;

	for (size_t at = l->next; at < l->len && scanned < SCAN_MAX; at = name_after(l, at)) {
		scanned++;
		if (!name_is(l, at, name, len))
			continue;
		if (at == 0)
			l->window = WINDOW_FIRST;
		else
			l->window = l->window ? MIN(l->window * 2, WINDOW_MAX) : 1;
		return at;
	}
	for (size_t at = 0; at < l->next && scanned < 2 * SCAN_MAX; at = name_after(l, at)) {
		scanned++;
		if (!name_is(l, at, name, len))
			continue;
		l->window = 1;
		return at;
	}
	return SIZE_MAX;
}

struct request {
	uint64_t gen;
	uint32_t count;
	size_t len;
	size_t at[WINDOW_MAX];
	uint8_t names[WINDOW_MAX * (GOFER_NAME_LEN + sizeof(uint16_t))];
	struct {
		struct gofer_walk_rep head;
		struct gofer_entry e[WINDOW_MAX];
	} rep;
};

/* Plans a request for the name and those that follow it; count 0: not worth it. */
static void plan(struct listing *l, const char *name, size_t len, struct request *rq)
{
	size_t at = locate(l, name, len), end;

	if (at == SIZE_MAX)
		return;
	l->next = name_after(l, at);
	if (l->window < 2)
		return;
	rq->gen = l->gen;
	for (end = at; end < l->len && rq->count < l->window; end = name_after(l, end))
		rq->at[rq->count++] = end;
	rq->len = end - at;
	memcpy(rq->names, l->names + at, rq->len);
}

static int send(struct gofer_inode *dir, struct request *rq)
{
	struct gofer_walk_req w = {
		.node = dir->node,
		.flags = GOFER_WALK_SIBLINGS,
		.count = rq->count,
	};
	size_t size = offsetof(__typeof__(rq->rep), e) + rq->count * sizeof(rq->rep.e[0]);
	struct rpc r = {
		.op = GOFER_WALK,
		.fixed = &w,
		.fixed_len = sizeof(w),
		.var = {{rq->names, rq->len}},
		.rep = &rq->rep,
		.rep_min = size,
		.rep_max = size,
	};
	int err = gofer_rpc(gi_conn(dir), &r);

	if (err)
		return err;
	if (rq->rep.head.count != rq->count || rq->rep.head.target_len || rq->rep.head.stop)
		return gofer_conn_fail(gi_conn(dir), "a malformed answer to a look-up");
	return 0;
}

/* Keeps what was found beyond the first, if the listing is still the one that was asked from. */
static void keep(struct gofer_inode *dir, struct request *rq)
{
	struct gofer_sb *gsb = gsb_of(dir->in.sb);
	struct leftovers old = {.n = 0}, unwanted = {.n = 0};

	mutex_lock(&gsb->ahead_lock, &lc_leaf);
	struct listing *l = find(gsb, dir);
	bool same = l && l->gen == rq->gen;
	if (same)
		leave_found(l, &old);
	for (uint32_t i = 1; i < rq->count; i++) {
		const struct gofer_entry *e = &rq->rep.e[i];
		if (e->error || !e->node)
			continue;
		if (same && (S_ISDIR(e->attr.mode) || e->attr.nlink == 1))
			l->found[l->nfound++] = (struct found){rq->at[i], *e};
		else
			unwanted.nodes[unwanted.n++] = e->node;
	}
	mutex_unlock(&gsb->ahead_lock, &lc_leaf);
	clear_leftovers(gsb, &old);
	clear_leftovers(gsb, &unwanted);
}

/*
 * 1: *e was found ahead of time, or was just asked for with others.  0: look it up by itself.
 * The directory is locked (dir_lock), so that nothing else changes its entries.
 */
int gofer_ahead_lookup(struct gofer_inode *dir, const char *name, size_t len, struct gofer_entry *e)
{
	struct gofer_sb *gsb = gsb_of(dir->in.sb);

	if (!atomic_load(&dir->listed))
		return 0;
	CLEANUP_FREE struct request *rq = malloc(sizeof(*rq));
	if (!rq)
		return 0;
	rq->count = 0;
	mutex_lock(&gsb->ahead_lock, &lc_leaf);
	struct listing *l = find_used(gsb, dir);
	bool had = l && take_found(l, name, len, e);
	if (l && !had)
		plan(l, name, len, rq);
	mutex_unlock(&gsb->ahead_lock, &lc_leaf);
	if (had)
		return 1;
	if (!rq->count || send(dir, rq))
		return 0;
	keep(dir, rq);
	if (rq->rep.e[0].error)
		return 0;
	*e = rq->rep.e[0];
	return 1;
}
