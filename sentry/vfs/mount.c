/*
 * Mounts and mount namespaces.
 *
 * The tree changes with lc_mount and lc_dcache held, so either is enough to read it: walks cross
 * mounts under lc_dcache alone.  An attached mount refers to its parent and mount point, and the
 * tree refers to it; detaching breaks that circle.
 */
#include <stdlib.h>
#include <string.h>

#include "sentry/vfs/internal.h"

#define MOUNT_BUCKETS 64

static struct mutex mount_lock = MUTEX_INIT; /* lc_mount */
static struct list_head mount_hash[MOUNT_BUCKETS];

static struct list_head *bucket_of(const struct mount *m, const struct dentry *d)
{
	uint64_t h = ((uintptr_t)m >> 4) * 31 + ((uintptr_t)d >> 4);
	struct list_head *b = &mount_hash[(h ^ h >> 7) % MOUNT_BUCKETS];
	if (!b->next)
		list_init(b);
	return b;
}

struct mount *mount_new(struct super_block *sb, struct dentry *root, unsigned flags,
			const char *source)
{
	static _Atomic int last_id = 20; /* small numbers look like somebody else's */
	struct mount *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->source = strdup(source ? source : "none");
	if (!m->source) {
		free(m);
		return NULL;
	}
	ref_init(&m->ref, 1);
	m->sb = super_get(sb);
	m->root = dentry_get(root);
	m->flags = flags;
	m->id = atomic_fetch_add(&last_id, 1);
	list_init(&m->siblings);
	list_init(&m->children);
	list_init(&m->hash);
	return m;
}

struct mount *mount_get(struct mount *m)
{
	ref_get(&m->ref);
	return m;
}

void mount_put(struct mount *m)
{
	if (!m || !ref_put(&m->ref))
		return;
	dentry_put(m->root);
	super_put(m->sb);
	free(m->source);
	free(m);
}

struct path path_get(struct path p)
{
	mount_get(p.mnt);
	dentry_get(p.dentry);
	return p;
}

void path_put(struct path p)
{
	dentry_put(p.dentry);
	mount_put(p.mnt);
}

void path_put_p(struct path *p)
{
	if (p->mnt)
		path_put(*p);
}

struct mount *mount_find(struct mount *m, struct dentry *d)
{
	struct mount *child;

	list_for_each (child, bucket_of(m, d), hash) {
		if (child->parent == m && child->mountpoint == d)
			return child;
	}
	return NULL;
}

struct mount *mount_lookup(struct mount *m, struct dentry *d)
{
	mutex_lock(&dcache_lock, &lc_dcache);
	struct mount *found = d->mounted ? mount_find(m, d) : NULL;
	if (found)
		mount_get(found);
	mutex_unlock(&dcache_lock, &lc_dcache);
	return found;
}

static void set_ns(struct mount *m, struct mnt_ns *ns)
{
	struct mount *child;

	m->ns = ns;
	list_for_each (child, &m->children, siblings)
		set_ns(child, ns);
}

int mount_attach(struct mount *m, struct path where)
{
	int err = 0;

	if (inode_is_dir(dentry_inode(m->root)) != inode_is_dir(dentry_inode(where.dentry)))
		return -ENOTDIR;
	mutex_lock(&mount_lock, &lc_mount);
	mutex_lock(&dcache_lock, &lc_dcache);
	if (m->parent || mount_find(where.mnt, where.dentry)) {
		err = -EBUSY;
	} else if (!where.dentry->hashed) {
		err = -ENOENT;
	} else {
		m->parent = mount_get(where.mnt);
		m->mountpoint = dentry_get(where.dentry);
		where.dentry->mounted++;
		list_add_tail(&m->siblings, &where.mnt->children);
		list_add(&m->hash, bucket_of(where.mnt, where.dentry));
		set_ns(mount_get(m), where.mnt->ns);
		for (struct dentry *d = where.dentry; d->parent != d; d = d->parent)
			d->parent->mount_below = true;
	}
	mutex_unlock(&dcache_lock, &lc_dcache);
	mutex_unlock(&mount_lock, &lc_mount);
	return err;
}

/* Unlinks m from its parent; the three references are then the caller's to put. */
static void unlink_locked(struct mount *m) REQUIRES(lc_mount) REQUIRES(lc_dcache)
{
	list_del(&m->siblings);
	list_del(&m->hash);
	m->mountpoint->mounted--;
	m->ns = NULL;
}

/* Takes the whole tree below (and with) m apart, onto `gone`. */
static void collect_locked(struct mount *m, struct list_head *gone) REQUIRES(lc_mount)
	REQUIRES(lc_dcache)
{
	while (!list_empty(&m->children))
		collect_locked(list_first(&m->children, struct mount, siblings), gone);
	if (m->parent)
		unlink_locked(m);
	list_add_tail(&m->siblings, gone);
}

static void put_gone(struct list_head *gone)
{
	while (!list_empty(gone)) {
		struct mount *m = list_first(gone, struct mount, siblings);
		struct mount *parent = m->parent;
		struct dentry *mountpoint = m->mountpoint;
		mutex_lock(&dcache_lock, &lc_dcache);
		list_del(&m->siblings);
		m->parent = NULL;
		m->mountpoint = NULL;
		mutex_unlock(&dcache_lock, &lc_dcache);
		dentry_put(mountpoint);
		mount_put(m);
		mount_put(parent);
	}
}

int mount_detach(struct mount *m, bool lazy)
{
	struct list_head gone = LIST_HEAD_INIT(gone);
	int err = 0;

	mutex_lock(&mount_lock, &lc_mount);
	mutex_lock(&dcache_lock, &lc_dcache);
	/* Of the references, one is the tree's and one the caller's. */
	if (!m->parent)
		err = -EINVAL;
	else if (!lazy && (!list_empty(&m->children) || ref_read(&m->ref) > 2))
		err = -EBUSY;
	else
		collect_locked(m, &gone);
	mutex_unlock(&dcache_lock, &lc_dcache);
	mutex_unlock(&mount_lock, &lc_mount);
	put_gone(&gone);
	return err;
}

/* ---- namespaces ---- */

struct mnt_ns *mnt_ns_new(struct mount *root)
{
	struct mnt_ns *ns = calloc(1, sizeof(*ns));

	if (!ns)
		return NULL;
	ref_init(&ns->ref, 1);
	ns->root = root;
	mutex_lock(&mount_lock, &lc_mount);
	set_ns(root, ns);
	mutex_unlock(&mount_lock, &lc_mount);
	return ns;
}

struct mnt_ns *mnt_ns_get(struct mnt_ns *ns)
{
	ref_get(&ns->ref);
	return ns;
}

void mnt_ns_put(struct mnt_ns *ns)
{
	struct list_head gone = LIST_HEAD_INIT(gone);

	if (!ns || !ref_put(&ns->ref))
		return;
	mutex_lock(&mount_lock, &lc_mount);
	mutex_lock(&dcache_lock, &lc_dcache);
	collect_locked(ns->root, &gone);
	ns->root->ns = NULL;
	mutex_unlock(&dcache_lock, &lc_dcache);
	mutex_unlock(&mount_lock, &lc_mount);
	put_gone(&gone); /* the root's own reference too */
	free(ns);
}

static size_t count_tree(const struct mount *m)
{
	size_t n = 1;
	const struct mount *child;

	list_for_each (child, &m->children, siblings)
		n += count_tree(child);
	return n;
}

static size_t list_tree(struct mount *m, struct mount **to)
{
	struct mount *child;
	size_t n = 0;

	to[n++] = mount_get(m);
	list_for_each (child, &m->children, siblings)
		n += list_tree(child, to + n);
	return n;
}

int mnt_ns_for_each(struct mnt_ns *ns, int (*fn)(struct mount *m, void *arg), void *arg)
{
	int ret = 0;

	mutex_lock(&mount_lock, &lc_mount);
	size_t n = count_tree(ns->root);
	struct mount **all = malloc(n * sizeof(*all));
	if (all)
		list_tree(ns->root, all);
	mutex_unlock(&mount_lock, &lc_mount);
	if (!all)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		if (!ret)
			ret = fn(all[i], arg);
		mount_put(all[i]);
	}
	free(all);
	return ret;
}
