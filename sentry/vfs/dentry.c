/*
 * The dentry cache.
 *
 * One lock, one hash table by (parent, name), one LRU list.  A dentry that nobody refers to stays
 * hashed, at a count of zero, until the list is cut; taking it up again costs an increment under
 * the lock that the walk holds anyway.  Children refer to their parents, so only leaves go.
 *
 * The last put of a dentry that may stay cached is one atomic decrement, without the lock.  What
 * may not (unhashed, or not yet on the LRU list, or of a no_dcache super block) carries the flag
 * DENTRY_SLOW in its count, in the same word, so that the two cannot be mixed up.
 */
#include <stdlib.h>
#include <string.h>

#include "sentry/lib/slab.h"
#include "sentry/vfs/internal.h"

#define DENTRY_SLOW 0x80000000u
#define HASH_BITS 15
#define LRU_KEEP 24576
#define LRU_SLACK 512 /* cut in lots, not one at a time */

struct mutex dcache_lock = MUTEX_INIT;
static struct list_head buckets[1 << HASH_BITS]; /* a zero head is an empty one */
static struct list_head lru = LIST_HEAD_INIT(lru);
static _Atomic size_t lru_count;
static struct slab dentries = SLAB_INIT(sizeof(struct dentry));

uint32_t name_hash(const char *name, size_t len)
{
	uint64_t h = len * 0x9e3779b97f4a7c15ULL, word;

	for (; len >= 8; name += 8, len -= 8) {
		memcpy(&word, name, 8);
		h = (h ^ word) * 0x9fb21c651e98df25ULL;
		h ^= h >> 32;
	}
	word = 0;
	for (size_t i = 0; i < len; i++)
		word = word << 8 | (unsigned char)name[i];
	h = (h ^ word) * 0x9fb21c651e98df25ULL;
	return (uint32_t)(h ^ h >> 32);
}

static struct list_head *bucket_of(const struct dentry *dir, uint32_t hash)
{
	uint64_t h = ((uintptr_t)dir >> 4) * 0x9e3779b97f4a7c15ULL + hash;
	h *= 0x9fb21c651e98df25ULL;
	struct list_head *b = &buckets[h >> (64 - HASH_BITS)];
	if (!b->next)
		list_init(b);
	return b;
}

struct dentry *dcache_find(struct dentry *dir, const char *name, size_t len, uint32_t hash)
{
	struct dentry *d, *other = NULL;

	list_for_each (d, bucket_of(dir, hash), hash) {
		if (d->name_hash != hash || d->parent != dir || d->name_len != len ||
		    memcmp(d->name, name, len) != 0)
			continue;
		/* Where each walk makes its own dentry, the one that counts bears a mount. */
		if (!d->sb->no_dcache || d->mounted || d->mount_below)
			return d;
		other = d;
	}
	return other;
}

/* ---- references ---- */

static unsigned count_of(const struct dentry *d)
{
	return ref_read(&d->ref) & ~DENTRY_SLOW;
}

struct dentry *dentry_get_locked(struct dentry *d)
{
	atomic_fetch_add_explicit(&d->ref.n, 1, memory_order_relaxed);
	return d;
}

struct dentry *dentry_get(struct dentry *d)
{
	ref_get(&d->ref);
	return d;
}

struct dentry *dentry_get_parent(struct dentry *d, char *name)
{
	mutex_lock(&dcache_lock, &lc_dcache);
	struct dentry *parent = dentry_get_locked(d->parent);
	memcpy(name, d->name, (size_t)d->name_len + 1);
	mutex_unlock(&dcache_lock, &lc_dcache);
	return parent;
}

bool dentry_is_shared(const struct dentry *d)
{
	return count_of(d) > 1;
}

static void mark_slow(struct dentry *d)
{
	atomic_fetch_or(&d->ref.n, DENTRY_SLOW);
}

/* Cuts a dead dentry out of everything; its parent loses a reference, and may follow it on `dead`.
 */
static void kill_locked(struct dentry *d, struct list_head *dead) REQUIRES(lc_dcache)
{
	while (d) {
		struct dentry *parent = d->parent == d ? NULL : d->parent;
		if (d->inode && d->sb->ops->dentry_gone)
			d->sb->ops->dentry_gone(d);
		list_del(&d->hash);
		list_del(&d->child);
		if (!list_empty(&d->lru)) {
			list_del(&d->lru);
			lru_count--;
		}
		list_add_tail(&d->lru, dead);
		if (!parent)
			return;
		unsigned left = atomic_fetch_sub(&parent->ref.n, 1) - 1;
		d = left == DENTRY_SLOW ? parent : NULL;
		if (d && d->hashed && !d->sb->no_dcache) {
			/* It may stay cached, and only was not on the list yet. */
			list_add_tail(&d->lru, &lru);
			lru_count++;
			atomic_fetch_and(&d->ref.n, ~DENTRY_SLOW);
			d = NULL;
		}
	}
}

/* Frees what kill_locked collected: file systems are called, so no lock is held. */
static void free_dead(struct list_head *dead)
{
	while (!list_empty(dead)) {
		struct dentry *d = list_first(dead, struct dentry, lru);
		struct super_block *sb = d->sb;
		list_del(&d->lru);
		if (d->inode && d->inode->nlink == 0)
			notify_inode_removed(d->inode);
		inode_put(d->inode);
		if (d->name != d->inline_name)
			free((char *)d->name);
		slab_free(&dentries, d);
		super_unpin(sb);
	}
}

static void put_slow(struct dentry *d)
{
	struct list_head dead = LIST_HEAD_INIT(dead);

	mutex_lock(&dcache_lock, &lc_dcache);
	if (atomic_fetch_sub(&d->ref.n, 1) - 1 == DENTRY_SLOW) {
		if (d->hashed && !d->sb->no_dcache) {
			list_add_tail(&d->lru, &lru);
			lru_count++;
			atomic_fetch_and(&d->ref.n, ~DENTRY_SLOW);
		} else {
			kill_locked(d, &dead);
		}
	}
	mutex_unlock(&dcache_lock, &lc_dcache);
	free_dead(&dead);
	if (lru_count > LRU_KEEP + LRU_SLACK)
		dcache_shrink(LRU_KEEP);
}

void dentry_put(struct dentry *d)
{
	if (!d)
		return;
	unsigned old = ref_read(&d->ref);
	/* With DENTRY_SLOW set, only a count that does not become zero may go without the lock. */
	while (!(old & DENTRY_SLOW) || (old & ~DENTRY_SLOW) > 1) {
		assert(old & ~DENTRY_SLOW);
		if (atomic_compare_exchange_weak_explicit(
			    &d->ref.n, &old, old - 1, memory_order_release, memory_order_relaxed))
			return;
	}
	put_slow(d);
}

/* ---- making and naming ---- */

struct dentry *dentry_alloc(struct super_block *sb, struct dentry *parent, const char *name,
			    size_t len)
{
	struct dentry *d = slab_alloc(&dentries);
	if (!d)
		return NULL;
	char *to = d->inline_name;
	if (len >= sizeof(d->inline_name) && !(to = malloc(len + 1))) {
		slab_free(&dentries, d);
		return NULL;
	}
	memcpy(to, name, len);
	to[len] = '\0';
	d->name = to;
	d->name_len = (uint16_t)len;
	d->name_hash = name_hash(name, len);
	ref_init(&d->ref, 1 | DENTRY_SLOW);
	list_init(&d->hash);
	list_init(&d->child);
	list_init(&d->children);
	list_init(&d->lru);
	super_pin(sb);
	d->sb = sb;
	d->parent = parent ? dentry_get(parent) : d;
	return d;
}

static void hash_locked(struct dentry *d) REQUIRES(lc_dcache)
{
	d->hashed = true;
	list_add(&d->hash, bucket_of(d->parent, d->name_hash));
	if (list_empty(&d->child))
		list_add_tail(&d->child, &d->parent->children);
}

void dentry_unhash_locked(struct dentry *d)
{
	d->hashed = false;
	list_del(&d->hash);
	mark_slow(d);
}

void dentry_unhash(struct dentry *d)
{
	mutex_lock(&dcache_lock, &lc_dcache);
	if (d->parent != d)
		dentry_unhash_locked(d);
	mutex_unlock(&dcache_lock, &lc_dcache);
}

void dentry_instantiate(struct dentry *d, struct inode *in)
{
	mutex_lock(&dcache_lock, &lc_dcache);
	assert(!d->inode);
	__atomic_store_n(&d->inode, in, __ATOMIC_RELEASE);
	mutex_unlock(&dcache_lock, &lc_dcache);
}

int super_set_root(struct super_block *sb, struct inode *root)
{
	struct dentry *d = dentry_alloc(sb, NULL, "/", 1);
	if (!d) {
		inode_put(root);
		return -ENOMEM;
	}
	d->inode = root;
	d->hashed = true;
	sb->root = d;
	return 0;
}

/* Exchanges the names of two dentries; inline ones by copy. */
static void swap_names(struct dentry *a, struct dentry *b)
{
	char tmp[sizeof(a->inline_name)];
	const char *an = a->name == a->inline_name ? NULL : a->name;
	const char *bn = b->name == b->inline_name ? NULL : b->name;

	memcpy(tmp, a->inline_name, sizeof(tmp));
	memcpy(a->inline_name, b->inline_name, sizeof(tmp));
	memcpy(b->inline_name, tmp, sizeof(tmp));
	a->name = bn ? bn : a->inline_name;
	b->name = an ? an : b->inline_name;
	uint16_t len = a->name_len;
	a->name_len = b->name_len;
	b->name_len = len;
	uint32_t hash = a->name_hash;
	a->name_hash = b->name_hash;
	b->name_hash = hash;
}

bool dentry_is_ancestor(struct dentry *a, struct dentry *d)
{
	for (;; d = d->parent) {
		if (a == d)
			return true;
		if (d->parent == d)
			return false;
	}
}

bool dentry_is_entry(const struct dentry *d, const struct dentry *dir)
{
	mutex_lock(&dcache_lock, &lc_dcache);
	bool yes = d->hashed && d->parent == dir;
	mutex_unlock(&dcache_lock, &lc_dcache);
	return yes;
}

/* d takes over target's name; a long one is exchanged for d's, which needs no memory. */
static void take_name(struct dentry *d, struct dentry *target)
{
	if (target->name != target->inline_name) {
		swap_names(d, target);
		return;
	}
	if (d->name != d->inline_name)
		free((char *)d->name);
	memcpy(d->inline_name, target->inline_name, sizeof(d->inline_name));
	d->name = d->inline_name;
	d->name_len = target->name_len;
	d->name_hash = target->name_hash;
}

void dentry_move(struct dentry *d, struct dentry *target, bool exchange)
{
	struct dentry *parent = d->parent;

	mutex_lock(&dcache_lock, &lc_dcache);
	list_del(&d->hash);
	list_del(&target->hash);
	list_del(&d->child);
	if (exchange) {
		list_del(&target->child);
		swap_names(d, target);
		d->parent = target->parent;
		target->parent = parent;
		hash_locked(target);
	} else {
		take_name(d, target);
		target->hashed = false;
		mark_slow(target);
		/* The callers hold both parents: no count becomes zero here. */
		d->parent = dentry_get(target->parent);
		atomic_fetch_sub(&parent->ref.n, 1);
	}
	hash_locked(d);
	mutex_unlock(&dcache_lock, &lc_dcache);
}

/* ---- looking up ---- */

static int lookup_locked(struct dentry *dir, const char *name, size_t len,
			 const struct lookup_hint *hint, struct dentry **out)
{
	struct inode *in = dentry_inode(dir);
	uint32_t hash = name_hash(name, len);

	if (len > VFS_NAME_MAX)
		return -ENAMETOOLONG;
	mutex_lock(&dcache_lock, &lc_dcache);
	struct dentry *d = dcache_find(dir, name, len, hash);
	if (d && (!d->sb->no_dcache || d->mounted || d->mount_below)) {
		*out = dentry_get_locked(d);
		mutex_unlock(&dcache_lock, &lc_dcache);
		return 0;
	}
	mutex_unlock(&dcache_lock, &lc_dcache);
	if (in->dead)
		return -ENOENT;

	d = dentry_alloc(dir->sb, dir, name, len);
	if (!d)
		return -ENOMEM;
	d->hint = hint;
	int err = in->ops->lookup(in, d);
	d->hint = NULL;
	if (err) {
		dentry_put(d);
		return err;
	}
	mutex_lock(&dcache_lock, &lc_dcache);
	hash_locked(d);
	mutex_unlock(&dcache_lock, &lc_dcache);
	*out = d;
	return 0;
}

int dentry_lookup_locked(struct dentry *dir, const char *name, size_t len, struct dentry **out)
{
	return lookup_locked(dir, name, len, NULL, out);
}

struct dentry *dentry_add_ahead(struct dentry *dir, const char *name, size_t len, struct inode *in)
{
	struct dentry *d = dentry_alloc(dir->sb, dir, name, len);

	if (!d) {
		inode_put(in);
		return NULL;
	}
	d->inode = in;
	/* Nobody else can have looked in `dir`: it is not in the cache itself, or was added just
	 * now below one that is not. */
	mutex_lock(&dcache_lock, &lc_dcache);
	hash_locked(d);
	mutex_unlock(&dcache_lock, &lc_dcache);
	return d;
}

/* 1 cached and valid (*out has a reference), 0 not cached (any more). */
static int lookup_cached(struct dentry *dir, const char *name, size_t len, struct dentry **out)
{
	mutex_lock(&dcache_lock, &lc_dcache);
	struct dentry *d = dcache_find(dir, name, len, name_hash(name, len));
	if (!d || (d->sb->no_dcache && !d->mounted && !d->mount_below)) {
		mutex_unlock(&dcache_lock, &lc_dcache);
		return 0;
	}
	dentry_get_locked(d);
	bool pinned = d->mounted || d->mount_below;
	mutex_unlock(&dcache_lock, &lc_dcache);

	/* What mounts hang on stays, whatever happens below it. */
	if (d->sb->ops->revalidate && !pinned && d->sb->ops->revalidate(d, false) == 0) {
		dentry_invalidate(d);
		dentry_put(d);
		return 0;
	}
	*out = d;
	return 1;
}

int dentry_lookup_ahead(struct dentry *dir, const char *name, size_t len,
			const struct lookup_hint *hint, struct dentry **out)
{
	struct inode *in = dentry_inode(dir);

	if (!in || !in->ops->lookup)
		return -ENOTDIR;
	if (len > VFS_NAME_MAX)
		return -ENAMETOOLONG;
	if (lookup_cached(dir, name, len, out))
		return 0;
	int err = dir_lock(in, DIR_FIRST);
	if (err)
		return err;
	err = lookup_locked(dir, name, len, hint, out);
	dir_unlock(in, DIR_FIRST);
	return err;
}

int dentry_lookup(struct dentry *dir, const char *name, size_t len, struct dentry **out)
{
	return dentry_lookup_ahead(dir, name, len, NULL, out);
}

struct dentry *dcache_find_inode(struct super_block *sb, uint64_t ino)
{
	struct dentry *d, *found = NULL;

	mutex_lock(&dcache_lock, &lc_dcache);
	if (sb->root && sb->root->inode->ino == ino)
		found = dentry_get_locked(sb->root);
	for (size_t i = 0; !found && i < ARRAY_SIZE(buckets); i++) {
		if (!buckets[i].next)
			continue;
		list_for_each (d, &buckets[i], hash)
			if (!found && d->sb == sb && d->inode && d->inode->ino == ino)
				found = dentry_get_locked(d);
	}
	mutex_unlock(&dcache_lock, &lc_dcache);
	return found;
}

/* ---- shrinking ---- */

void dcache_shrink(size_t keep)
{
	struct list_head dead = LIST_HEAD_INIT(dead);

	mutex_lock(&dcache_lock, &lc_dcache);
	/* One round: parents that become free on the way join the end of the list. */
	for (size_t n = lru_count; n && lru_count > keep && !list_empty(&lru); n--) {
		struct dentry *d = list_first(&lru, struct dentry, lru);
		list_del(&d->lru);
		if (d->inode && d->inode->marks) {
			/* Only by its dentry is the inode found again. */
			list_add_tail(&d->lru, &lru);
			continue;
		}
		lru_count--;
		/* One in use is only taken off: its last put brings it back. */
		unsigned old = atomic_fetch_or(&d->ref.n, DENTRY_SLOW);
		if ((old & ~DENTRY_SLOW) == 0)
			kill_locked(d, &dead);
	}
	mutex_unlock(&dcache_lock, &lc_dcache);
	free_dead(&dead);
}

/* Kills the unreferenced leaves of a tree, as often as there are any. */
static void prune_locked(struct dentry *top, struct list_head *dead) REQUIRES(lc_dcache)
{
	struct dentry *d = top;

	/* Depth first: down to a first child as long as there is one. */
	for (;;) {
		struct dentry *next = NULL;
		if (!list_empty(&d->children)) {
			d = list_first(&d->children, struct dentry, child);
			continue;
		}
		while (d != top) {
			struct dentry *parent = d->parent;
			next = d->child.next == &parent->children
				       ? NULL
				       : list_entry(d->child.next, struct dentry, child);
			mark_slow(d);
			if (count_of(d) == 0) {
				/* The parent is kept while we are below it. */
				dentry_get_locked(parent);
				kill_locked(d, dead);
				atomic_fetch_sub(&parent->ref.n, 1);
			} else if (!list_empty(&d->lru)) {
				list_del(&d->lru);
				lru_count--;
			}
			if (next)
				break;
			d = parent;
		}
		if (!next)
			return;
		d = next;
	}
}

void dentry_invalidate(struct dentry *d)
{
	struct list_head dead = LIST_HEAD_INIT(dead);

	mutex_lock(&dcache_lock, &lc_dcache);
	if (d->parent != d)
		dentry_unhash_locked(d);
	prune_locked(d, &dead);
	mutex_unlock(&dcache_lock, &lc_dcache);
	free_dead(&dead);
}

void dentry_climb(struct dentry *_Atomic *at, bool (*fn)(struct dentry *d, void *arg), void *arg)
{
	mutex_lock(&dcache_lock, &lc_dcache);
	struct dentry *d = *at;
	while (d && fn(d, arg))
		d = d->parent == d ? NULL : d->parent;
	mutex_unlock(&dcache_lock, &lc_dcache);
}

void dentry_forget(struct dentry *_Atomic *at)
{
	mutex_lock(&dcache_lock, &lc_dcache);
	struct dentry *d = atomic_exchange(at, NULL);
	/* What mounts hang on stays. */
	if (d && d->parent != d && !d->mounted && !d->mount_below)
		dentry_unhash_locked(d);
	mutex_unlock(&dcache_lock, &lc_dcache);
}

void dcache_drop_super(struct super_block *sb)
{
	struct list_head dead = LIST_HEAD_INIT(dead);
	struct dentry *root = sb->root;

	if (!root)
		return;
	if (sb->ops->drop)
		sb->ops->drop(sb);
	sb->root = NULL;
	mutex_lock(&dcache_lock, &lc_dcache);
	prune_locked(root, &dead);
	root->hashed = false;
	mark_slow(root);
	mutex_unlock(&dcache_lock, &lc_dcache);
	free_dead(&dead);
	dentry_put(root);
}
