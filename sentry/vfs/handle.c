/* File handles: name_to_handle_at(2), open_by_handle_at(2). */
#include "sentry/vfs/handle.h"

#include <stdlib.h>

#include "sentry/vfs/internal.h"

static struct mutex lock = MUTEX_INIT; /* lc_leaf: the table */
static struct dentry **table;	       /* HANDLES_MAX references or NULLs, in a ring */
static unsigned next_slot;
static _Atomic unsigned used; /* 0: nothing was ever asked for */

static bool is_file_of(const struct dentry *d, const struct super_block *sb, uint64_t ino)
{
	const struct inode *in = d ? dentry_inode(d) : NULL;

	return in && d->sb == sb && in->ino == ino;
}

/* Puts d into the table; what it displaces is the caller's to put. */
static struct dentry *remember(struct dentry *d)
{
	struct dentry *old = NULL;

	mutex_lock(&lock, &lc_leaf);
	for (unsigned i = 0; i < HANDLES_MAX; i++) {
		if (is_file_of(table[i], d->sb, dentry_inode(d)->ino)) {
			old = table[i];
			table[i] = dentry_get(d);
			mutex_unlock(&lock, &lc_leaf);
			return old;
		}
	}
	old = table[next_slot];
	table[next_slot] = dentry_get(d);
	next_slot = (next_slot + 1) % HANDLES_MAX;
	used += !old;
	mutex_unlock(&lock, &lc_leaf);
	return old;
}

int handle_make(struct path p, struct vfs_handle *out)
{
	struct super_block *sb = p.dentry->sb;
	uint64_t ino = dentry_inode(p.dentry)->ino;

	if (sb->no_dcache || sb->pseudo)
		return -EOPNOTSUPP;
	mutex_lock(&lock, &lc_leaf);
	if (!table)
		table = calloc(HANDLES_MAX, sizeof(struct dentry *));
	bool ready = table != NULL;
	mutex_unlock(&lock, &lc_leaf);
	if (!ready)
		return -ENOMEM;
	dentry_put(remember(p.dentry));
	*out = (struct vfs_handle){.ino = {(uint32_t)ino, (uint32_t)(ino >> 32)}};
	return 0;
}

int handle_find(struct mount *m, const struct vfs_handle *h, struct path *out)
{
	uint64_t ino = h->ino[0] | (uint64_t)h->ino[1] << 32;
	struct dentry *d = NULL;

	mutex_lock(&lock, &lc_leaf);
	for (unsigned i = 0; used && !d && i < HANDLES_MAX; i++)
		if (is_file_of(table[i], m->sb, ino))
			d = dentry_get(table[i]);
	mutex_unlock(&lock, &lc_leaf);
	/* One of an event (fanotify(7)): nobody asked for it, and it may still be known. */
	if (!d && !(d = dcache_find_inode(m->sb, ino)))
		return -ESTALE;
	if (h->generation || (!d->hashed && d->parent != d)) {
		dentry_put(d);
		return -ESTALE;
	}
	*out = (struct path){mount_get(m), d};
	return 0;
}

/* Takes one entry of sb (and of d, if that is not NULL) out of the table. */
static struct dentry *take(struct super_block *sb, struct dentry *d)
{
	struct dentry *found = NULL;

	mutex_lock(&lock, &lc_leaf);
	for (unsigned i = 0; !found && i < HANDLES_MAX; i++) {
		if (table[i] && table[i]->sb == sb && (!d || table[i] == d)) {
			found = table[i];
			table[i] = NULL;
			used--;
		}
	}
	mutex_unlock(&lock, &lc_leaf);
	return found;
}

void handle_forget(struct dentry *d)
{
	if (atomic_load_explicit(&used, memory_order_relaxed))
		dentry_put(take(d->sb, d));
}

void handle_forget_super(struct super_block *sb)
{
	struct dentry *d;

	while (atomic_load_explicit(&used, memory_order_relaxed) && (d = take(sb, NULL)))
		dentry_put(d);
}
