/* Listings: making them, asking them, keeping them (listing.h). */
#include "sentry/fs/gofer/listing.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What listings take, with the directories they hold: new ones, and those that are kept.  /usr of a
 * full distribution, 174,000 names in 19,000 directories, takes 31 MiB. */
#define RECENT_BYTES (4u << 20)
#define KEPT_BYTES (32u << 20)
#define SELDOM 16

#define SAMPLE_MIN 256 /* names, before attributes are left out */
#define SAMPLE_PART 8  /* they are wanted when one name in so many is looked up */
#define DIR_BYTES 640  /* a directory's dentry and inode */

/* ---- making ---- */

struct gofer_listing *listing_new(void)
{
	struct gofer_listing *l = calloc(1, sizeof(*l));

	if (l)
		ref_init(&l->ref, 1);
	return l;
}

void listing_put(struct gofer_listing *l)
{
	if (!l || !ref_put(&l->ref))
		return;
	free(l->records);
	free(l->slots);
	free(l);
}

static int reserve(struct gofer_listing *l, size_t n)
{
	if (l->len + n <= l->room)
		return 0;
	size_t room = MAX(l->len + n, (size_t)l->room * 2);
	if (l->len + n > LISTING_MAX)
		return -EFBIG;
	uint8_t *p = realloc(l->records, room);
	if (!p)
		return -ENOMEM;
	l->records = p;
	l->room = (uint32_t)room;
	return 0;
}

static bool is_dots(const char *name, size_t len)
{
	return name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.'));
}

static bool time_fits(struct gofer_time t)
{
	return t.sec >= -(1LL << 33) && t.sec < 1LL << 33 && t.nsec < 1000000000;
}

static int64_t time_pack(struct gofer_time t)
{
	return t.sec * (1LL << 30) + t.nsec;
}

static struct gofer_time time_unpack(int64_t t)
{
	return (struct gofer_time){.sec = t >> 30, .nsec = (uint32_t)(t & ((1 << 30) - 1))};
}

/* Are these attributes that a record has room for, and that only this name can change? */
static bool can_keep(struct gofer_listing *l, const struct gofer_attr *a)
{
	uint64_t dev = (uint64_t)a->dev_major << 32 | a->dev_minor;

	if (!l->common) {
		l->common = true;
		l->dev = dev;
		l->blksize = a->blksize;
		l->attributes = a->attributes;
		l->attributes_mask = a->attributes_mask;
	}
	return time_fits(a->atime) && time_fits(a->mtime) && time_fits(a->ctime) &&
	       time_fits(a->btime) && a->blocks <= UINT32_MAX && a->mode <= UINT16_MAX &&
	       (a->nlink == 1 || S_ISDIR(a->mode)) && !S_ISCHR(a->mode) && !S_ISBLK(a->mode) &&
	       dev == l->dev && a->blksize == l->blksize && a->attributes == l->attributes &&
	       a->attributes_mask == l->attributes_mask;
}

static void set_attr(struct listing_rec *r, const struct gofer_attr *a)
{
	r->ino = a->ino;
	r->size = a->size;
	r->blocks = (uint32_t)a->blocks;
	r->atime = time_pack(a->atime);
	r->mtime = time_pack(a->mtime);
	r->ctime = time_pack(a->ctime);
	r->btime = time_pack(a->btime);
	r->mode = (uint16_t)a->mode;
	r->nlink = a->nlink;
	r->uid = a->uid;
	r->gid = a->gid;
	atomic_init(&r->state, REC_ATTR);
}

static void get_attr(const struct gofer_listing *l, const struct listing_rec *r,
		     struct gofer_attr *a)
{
	*a = (struct gofer_attr){
		.mode = r->mode,
		.nlink = r->nlink,
		.uid = r->uid,
		.gid = r->gid,
		.ino = r->ino,
		.size = r->size,
		.blocks = r->blocks,
		.dev_major = (uint32_t)(l->dev >> 32),
		.dev_minor = (uint32_t)l->dev,
		.blksize = l->blksize,
		.attributes = l->attributes,
		.attributes_mask = l->attributes_mask,
		.atime = time_unpack(r->atime),
		.mtime = time_unpack(r->mtime),
		.ctime = time_unpack(r->ctime),
		.btime = time_unpack(r->btime),
	};
}

int listing_add(struct gofer_listing *l, const uint8_t *p, size_t len)
{
	struct gofer_dirent e;

	for (const uint8_t *end = p + len; p < end; p += gofer_record_size(&e)) {
		memcpy(&e, p, sizeof(e));
		size_t size = (offsetof(struct listing_rec, name) + e.name_len + 7) & ~(size_t)7;
		int err = reserve(l, size);
		if (err)
			return err;
		struct listing_rec *r = (struct listing_rec *)(l->records + l->len);
		struct gofer_attr a;
		memset(r, 0, size);
		r->off = e.off;
		r->ino = e.ino;
		r->type = e.type;
		r->name_len = (uint8_t)e.name_len;
		memcpy(r->name, gofer_record_name(p, &e), e.name_len);
		if (e.has_attr)
			memcpy(&a, p + sizeof(e), sizeof(a));
		if (e.has_attr && a.ino == e.ino && can_keep(l, &a))
			set_attr(r, &a);
		l->len += (uint32_t)size;
		l->count += !is_dots(r->name, r->name_len);
	}
	return 0;
}

static uint32_t hash_of(const char *name, size_t len)
{
	uint32_t h = 2166136261u;

	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char)name[i]) * 16777619u;
	return h ^ h >> 15;
}

int listing_finish(struct gofer_listing *l)
{
	l->nslots = 4;
	while (l->nslots < l->count + l->count / 3)
		l->nslots *= 2;
	l->slots = calloc(l->nslots, sizeof(*l->slots));
	uint8_t *exact = realloc(l->records, MAX(l->len, 8u));
	if (exact)
		l->records = exact;
	if (!l->slots || !exact)
		return -ENOMEM;
	l->room = l->len;
	for (size_t at = 0; at < l->len; at = listing_after(l, at)) {
		const struct listing_rec *r = listing_at(l, at);
		if (is_dots(r->name, r->name_len))
			continue;
		uint32_t i = hash_of(r->name, r->name_len) & (l->nslots - 1);
		while (l->slots[i])
			i = (i + 1) & (l->nslots - 1);
		l->slots[i] = (uint32_t)(at / 8 + 1);
	}
	return 0;
}

/* ---- asking ---- */

size_t listing_find(const struct gofer_listing *l, const char *name, size_t len)
{
	uint32_t i = hash_of(name, len) & (l->nslots - 1);

	for (; l->slots[i]; i = (i + 1) & (l->nslots - 1)) {
		size_t at = ((size_t)l->slots[i] - 1) * 8;
		const struct listing_rec *r = listing_at(l, at);
		if (r->name_len == len && !memcmp(r->name, name, len))
			return r->state & REC_GONE ? SIZE_MAX : at;
	}
	return SIZE_MAX;
}

static void touch(struct gofer_sb *gsb, struct gofer_listing *l)
{
	list_del(&l->lru);
	list_add_tail(&l->lru, l->recent ? &gsb->recent : &gsb->listings);
}

enum listing_answer gofer_listing_lookup(struct gofer_inode *dir, const char *name, size_t len,
					 struct gofer_entry *e)
{
	struct gofer_sb *gsb = gsb_of(dir->in.sb);
	enum listing_answer answer = LISTING_UNKNOWN;

	if (!__atomic_load_n(&dir->listing, __ATOMIC_RELAXED))
		return LISTING_UNKNOWN;
	mutex_lock(&gsb->list_lock, &lc_leaf);
	struct gofer_listing *l = dir->listing;
	if (l) {
		size_t at = listing_find(l, name, len);
		touch(gsb, l);
		if (at != SIZE_MAX && listing_at(l, at)->type != DT_DIR)
			atomic_fetch_add(&gsb->used, 1);
		if (at != SIZE_MAX && listing_at(l, at)->state & REC_ATTR) {
			e->node = 0;
			get_attr(l, listing_at(l, at), &e->attr);
			answer = LISTING_FOUND;
		} else if (at == SIZE_MAX && !l->partial) {
			answer = LISTING_NONE;
		}
	}
	mutex_unlock(&gsb->list_lock, &lc_leaf);
	return answer;
}

bool gofer_wants_attrs(struct gofer_sb *gsb)
{
	uint32_t brought = atomic_load(&gsb->brought);

	return brought < SAMPLE_MIN || atomic_load(&gsb->used) >= brought / SAMPLE_PART;
}

static struct gofer_listing *get_listing(struct gofer_inode *dir, bool all)
{
	struct gofer_sb *gsb = gsb_of(dir->in.sb);
	struct gofer_listing *l;

	mutex_lock(&gsb->list_lock, &lc_leaf);
	l = dir->listing;
	if (l && all && (l->partial || (l->plain && gofer_wants_attrs(gsb))))
		l = NULL;
	if (l) {
		touch(gsb, l);
		ref_get(&l->ref);
	}
	mutex_unlock(&gsb->list_lock, &lc_leaf);
	return l;
}

struct gofer_listing *gofer_listing_get(struct gofer_inode *dir)
{
	return get_listing(dir, true);
}

struct gofer_listing *gofer_listing_get_any(struct gofer_inode *dir)
{
	return get_listing(dir, false);
}

/* ---- keeping ---- */

static size_t cost(const struct gofer_listing *l)
{
	return sizeof(*l) + l->len + l->nslots * sizeof(*l->slots) + DIR_BYTES;
}

uint64_t gofer_changes(struct gofer_sb *gsb)
{
	mutex_lock(&gsb->list_lock, &lc_leaf);
	uint64_t changes = gsb->changes;
	mutex_unlock(&gsb->list_lock, &lc_leaf);
	return changes;
}

/* Takes it off the directory, onto `gone`; list_lock is held. */
static void detach_locked(struct gofer_sb *gsb, struct gofer_listing *l, struct list_head *gone)
{
	*(l->recent ? &gsb->recent_bytes : &gsb->listing_bytes) -= cost(l);
	list_del(&l->lru);
	list_add_tail(&l->lru, gone);
	__atomic_store_n(&l->dir->listing, NULL, __ATOMIC_RELAXED);
	l->dir = NULL;
}

/* Without locks: the last reference to a directory may go. */
static void put_gone(struct list_head *gone)
{
	while (!list_empty(gone)) {
		struct gofer_listing *l = list_first(gone, struct gofer_listing, lru);
		list_del(&l->lru);
		dentry_put(l->dentry);
		listing_put(l);
	}
}

/* Recent ones become kept ones, or go; list_lock is held. */
static void make_room(struct gofer_sb *gsb, struct list_head *gone)
{
	while (gsb->recent_bytes > RECENT_BYTES) {
		struct gofer_listing *l = list_first(&gsb->recent, struct gofer_listing, lru);
		if (gsb->listing_bytes + cost(l) > KEPT_BYTES && ++gsb->passed % SELDOM) {
			detach_locked(gsb, l, gone);
			continue;
		}
		gsb->recent_bytes -= cost(l);
		gsb->listing_bytes += cost(l);
		l->recent = false;
		touch(gsb, l);
	}
	while (gsb->listing_bytes > KEPT_BYTES)
		detach_locked(gsb, list_first(&gsb->listings, struct gofer_listing, lru), gone);
}

void gofer_listing_attach(struct gofer_inode *dir, struct dentry *d, struct gofer_listing *l,
			  uint64_t changes)
{
	struct gofer_sb *gsb = gsb_of(dir->in.sb);
	struct list_head gone = LIST_HEAD_INIT(gone);

	mutex_lock(&gsb->list_lock, &lc_leaf);
	if (gsb->changes == changes) {
		if (dir->listing)
			detach_locked(gsb, dir->listing, &gone);
		ref_get(&l->ref);
		l->dir = dir;
		l->dentry = dentry_get(d);
		__atomic_store_n(&dir->listing, l, __ATOMIC_RELAXED);
		l->recent = true;
		list_add_tail(&l->lru, &gsb->recent);
		gsb->recent_bytes += cost(l);
		make_room(gsb, &gone);
	}
	mutex_unlock(&gsb->list_lock, &lc_leaf);
	put_gone(&gone);
}

void gofer_listing_drop(struct gofer_inode *dir)
{
	struct gofer_sb *gsb = gsb_of(dir->in.sb);
	struct list_head gone = LIST_HEAD_INIT(gone);

	mutex_lock(&gsb->list_lock, &lc_leaf);
	gsb->changes++;
	if (dir->listing)
		detach_locked(gsb, dir->listing, &gone);
	mutex_unlock(&gsb->list_lock, &lc_leaf);
	put_gone(&gone);
}

void gofer_listings_drop_all(struct gofer_sb *gsb)
{
	struct list_head gone = LIST_HEAD_INIT(gone);

	mutex_lock(&gsb->list_lock, &lc_leaf);
	while (!list_empty(&gsb->recent))
		detach_locked(gsb, list_first(&gsb->recent, struct gofer_listing, lru), &gone);
	while (!list_empty(&gsb->listings))
		detach_locked(gsb, list_first(&gsb->listings, struct gofer_listing, lru), &gone);
	mutex_unlock(&gsb->list_lock, &lc_leaf);
	put_gone(&gone);
}

/* ---- changes ---- */

static void mark(struct gofer_inode *dir, const char *name, size_t len, unsigned set,
		 unsigned clear, bool added)
{
	struct gofer_sb *gsb = gsb_of(dir->in.sb);

	mutex_lock(&gsb->list_lock, &lc_leaf);
	gsb->changes++;
	struct gofer_listing *l = dir->listing;
	size_t at = l ? listing_find(l, name, len) : SIZE_MAX;
	if (at != SIZE_MAX) {
		struct listing_rec *r = (struct listing_rec *)(l->records + at);
		atomic_store(&r->state, (uint8_t)((r->state | set) & ~clear));
	}
	if (l && added)
		l->partial = true;
	mutex_unlock(&gsb->list_lock, &lc_leaf);
}

void gofer_listing_removed(struct gofer_inode *dir, const char *name, size_t len)
{
	mark(dir, name, len, REC_GONE, 0, false);
}

void gofer_listing_added(struct gofer_inode *dir, const char *name, size_t len)
{
	mark(dir, name, len, REC_GONE, 0, true);
}

void gofer_listing_outdated(struct gofer_inode *dir, const char *name, size_t len)
{
	mark(dir, name, len, 0, REC_ATTR, false);
}
