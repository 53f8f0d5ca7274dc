/* Records of copied-up files: numbers and link counts that outlive the overlay's inodes. */
#include <stdlib.h>

#include "sentry/fs/overlay/ovl.h"
#include "sentry/lib/cleanup.h"

static struct list_head *upper_bucket(struct ovl_super *os, uint64_t upper_ino)
{
	return &os->by_upper[upper_ino * 0x9e3779b97f4a7c15ULL >> 32 & (OVL_BUCKETS - 1)];
}

static struct list_head *lower_bucket(struct ovl_super *os, const struct inode *lower)
{
	return &os->by_lower[(uintptr_t)lower / 64 & (OVL_BUCKETS - 1)];
}

struct ovl_record *ovl_record_new(void)
{
	struct ovl_record *r = calloc(1, sizeof(*r));
	if (r) {
		list_init(&r->by_upper);
		list_init(&r->by_lower);
	}
	return r;
}

struct ovl_record *ovl_record_by_upper(struct ovl_super *os, uint64_t upper_ino)
{
	struct ovl_record *r;
	list_for_each (r, upper_bucket(os, upper_ino), by_upper) {
		if (r->upper_ino == upper_ino)
			return r;
	}
	return NULL;
}

struct ovl_record *ovl_record_by_lower(struct ovl_super *os, const struct inode *lower)
{
	struct ovl_record *r;
	list_for_each (r, lower_bucket(os, lower), by_lower) {
		if (r->lower->inode == lower)
			return r;
	}
	return NULL;
}

void ovl_record_insert(struct ovl_super *os, struct ovl_record *r)
{
	if (r->upper_ino)
		list_add(&r->by_upper, upper_bucket(os, r->upper_ino));
	if (r->lower && list_empty(&r->by_lower))
		list_add(&r->by_lower, lower_bucket(os, r->lower->inode));
}

void ovl_record_free(struct ovl_record *r)
{
	dentry_put(r->lower);
	dentry_put(r->upper);
	free(r);
}

/* One of several names of a file that is in the lower layer only went: remembered, since the lower
 * layer goes on counting it.  (Without memory it is remembered while the inode is cached.) */
static void note_lower_links(struct ovl_super *os, struct ovl_inode *oi, uint32_t left)
{
	struct ovl_record *fresh = ovl_record_new();
	mutex_lock(&os->hash_lock, &lc_leaf);
	struct ovl_record *r = oi->record;
	if (!r && fresh) {
		r = oi->record = steal(fresh);
		r->ino = oi->in.ino;
		r->lower = dentry_get(oi->lower[0].d);
		ovl_record_insert(os, r);
	}
	if (r)
		r->lower_links = left;
	mutex_unlock(&os->hash_lock, &lc_leaf);
	free(fresh);
}

void ovl_lower_link_gone(struct ovl_inode *oi)
{
	struct ovl_super *os = ovl_super(oi->in.sb);
	mutex_lock(&os->hash_lock, &lc_leaf);
	bool has_upper = ovl_upper(oi) != NULL;
	if (has_upper && oi->record && oi->record->lower_links)
		oi->record->lower_links--;
	mutex_unlock(&os->hash_lock, &lc_leaf);
	if (has_upper || S_ISDIR(oi->in.mode))
		return;
	mutex_lock(&oi->in.lock, &lc_inode);
	uint32_t left = oi->in.nlink ? --oi->in.nlink : 0;
	mutex_unlock(&oi->in.lock, &lc_inode);
	if (left || oi->record)
		note_lower_links(os, oi, left);
}

uint32_t ovl_nlink(struct ovl_inode *oi)
{
	struct ovl_super *os = ovl_super(oi->in.sb);
	struct dentry *upper = ovl_upper(oi);
	if (!upper)
		return oi->in.nlink;
	if (S_ISDIR(oi->in.mode))
		return oi->nlower ? 1 : upper->inode->nlink;
	uint32_t n = __atomic_load_n(&upper->inode->nlink, __ATOMIC_RELAXED);
	mutex_lock(&os->hash_lock, &lc_leaf);
	if (oi->record)
		n += oi->record->lower_links - (oi->record->index ? 1 : 0);
	mutex_unlock(&os->hash_lock, &lc_leaf);
	return n;
}

uint64_t ovl_upper_ino(struct ovl_super *os, uint64_t upper_ino)
{
	mutex_lock(&os->hash_lock, &lc_leaf);
	struct ovl_record *r = ovl_record_by_upper(os, upper_ino);
	uint64_t ino = r ? r->ino : ovl_encode_ino(&os->sb, 0, upper_ino);
	mutex_unlock(&os->hash_lock, &lc_leaf);
	return ino;
}

void ovl_record_drop(struct ovl_super *os, struct ovl_inode *oi)
{
	struct ovl_record *r = NULL;
	mutex_lock(&os->hash_lock, &lc_leaf);
	struct dentry *upper = ovl_upper(oi);
	if (oi->record && !oi->record->lower_links && (!upper || !upper->inode->nlink)) {
		r = oi->record;
		list_del(&r->by_upper);
		list_del(&r->by_lower);
	}
	mutex_unlock(&os->hash_lock, &lc_leaf);
	if (r)
		ovl_record_free(r);
}

/* The index name goes with the last name that guests see. */
void ovl_drop_index(struct ovl_inode *oi)
{
	struct ovl_super *os = ovl_super(oi->in.sb);
	struct dentry *index = NULL;
	if (ovl_nlink(oi))
		return;
	mutex_lock(&os->hash_lock, &lc_leaf);
	if (oi->record && oi->record->index) {
		oi->record->index = false;
		index = dentry_get(oi->record->upper);
	}
	mutex_unlock(&os->hash_lock, &lc_leaf);
	if (!index)
		return;
	ovl_temp_remove(os, index);
	dentry_put(index);
}
