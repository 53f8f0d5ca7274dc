/*
 * Mounts and mount namespaces.
 *
 * The tree changes with lc_mount and lc_dcache held, so either is enough to read it: walks cross
 * mounts under lc_dcache alone.  An attached mount refers to its parent and mount point, and the
 * tree refers to it; detaching breaks that circle.
 */
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#include "sentry/vfs/internal.h"

#define MOUNT_BUCKETS 64

struct mutex mount_lock = MUTEX_INIT; /* lc_mount */
static _Atomic unsigned nmounts;      /* all of the sandbox */
static struct list_head mount_hash[MOUNT_BUCKETS];
struct waitq mount_waitq = {.lock = MUTEX_INIT, .waiters = LIST_HEAD_INIT(mount_waitq.waiters)};

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
	atomic_fetch_add(&nmounts, 1);
	m->source = strdup(source ? source : "none");
	if (!m->source) {
		atomic_fetch_sub(&nmounts, 1);
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
	list_init(&m->peer);
	list_init(&m->slave);
	list_init(&m->work);
	list_init(&m->doom);
	return m;
}

struct mount *mount_get(struct mount *m)
{
	ref_get(&m->ref);
	return m;
}

static void put(struct mount *m)
{
	if (!ref_put(&m->ref))
		return;
	notify_mount_gone(m);
	dentry_put(m->root);
	super_put(m->sb);
	free(m->source);
	free(m);
	atomic_fetch_sub(&nmounts, 1);
}

void mount_put(struct mount *m)
{
	if (!m)
		return;
	if (atomic_load_explicit(&m->expiring, memory_order_relaxed))
		m->expiring = false;
	put(m);
}

void path_put_unused(struct path p)
{
	dentry_put(p.dentry);
	put(p.mnt);
}

bool mount_room(size_t n)
{
	return atomic_load(&nmounts) + n <= MOUNTS_MAX;
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

int mount_parent_id(struct mount *m)
{
	mutex_lock(&mount_lock, &lc_mount);
	int id = m->parent ? m->parent->id : 0;
	mutex_unlock(&mount_lock, &lc_mount);
	return id;
}

bool mount_is_seen(struct mount *m, struct path root)
{
	mount_tree_lock();
	bool seen = path_is_reachable((struct path){m, m->root}, root);
	mount_tree_unlock();
	return seen;
}

bool mount_is_child(struct mount *m, struct mount *top)
{
	mutex_lock(&mount_lock, &lc_mount);
	while (m && m != top)
		m = m->parent;
	mutex_unlock(&mount_lock, &lc_mount);
	return m == top;
}

struct mount *mount_next(struct mount *m, struct mount *top)
{
	if (!list_empty(&m->children))
		return list_first(&m->children, struct mount, siblings);
	while (m != top && m->siblings.next == &m->parent->children)
		m = m->parent;
	return m == top ? NULL : list_entry(m->siblings.next, struct mount, siblings);
}

void mount_set_tree_ns(struct mount *top, struct mnt_ns *ns)
{
	for (struct mount *m = top; m; m = mount_next(m, top))
		m->ns = ns;
}

void mnt_ns_touch(struct mnt_ns *ns)
{
	static uint64_t last;

	if (!ns)
		return;
	ns->event = ++last;
	waitq_notify(&mount_waitq, POLLPRI | POLLERR);
}

void mount_hang_locked(struct mount *m, struct mount *parent, struct dentry *mountpoint)
{
	m->parent = parent;
	m->mountpoint = mountpoint;
	m->ns = parent->ns;
	mountpoint->mounted++;
	list_add_tail(&m->siblings, &parent->children);
	list_add(&m->hash, bucket_of(parent, mountpoint));
	for (struct dentry *d = mountpoint; d->parent != d; d = d->parent)
		d->parent->mount_below = true;
}

void mount_link_locked(struct mount *m, struct mount *parent, struct dentry *mountpoint)
{
	mount_hang_locked(mount_get(m), mount_get(parent), dentry_get(mountpoint));
	mount_set_tree_ns(m, parent->ns);
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
	} else if (!where.dentry->hashed && where.dentry->parent != where.dentry) {
		err = -ENOENT;
	} else {
		mount_link_locked(m, where.mnt, where.dentry);
	}
	mutex_unlock(&dcache_lock, &lc_dcache);
	mutex_unlock(&mount_lock, &lc_mount);
	return err;
}

void mount_unlink_locked(struct mount *m)
{
	list_del(&m->siblings);
	list_del(&m->hash);
	m->mountpoint->mounted--;
	m->ns = NULL;
}

void mount_retire_locked(struct mount *m, struct list_head *gone)
{
	if (!list_empty(&m->hash))
		mount_unlink_locked(m);
	m->ns = NULL;
	mount_make_private(m);
	list_add_tail(&m->siblings, gone);
}

void mount_collect_locked(struct mount *top, struct list_head *gone)
{
	struct mount *m = top, *up;

	do {
		while (!list_empty(&m->children))
			m = list_first(&m->children, struct mount, siblings);
		up = m == top ? NULL : m->parent;
		mount_retire_locked(m, gone);
		m = up;
	} while (up);
}

void mount_put_gone(struct list_head *gone)
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

void mount_tree_lock(void)
{
	mutex_lock(&mount_lock, &lc_mount);
	mutex_lock(&dcache_lock, &lc_dcache);
}

void mount_tree_unlock(void)
{
	mutex_unlock(&dcache_lock, &lc_dcache);
	mutex_unlock(&mount_lock, &lc_mount);
}

int mount_detach(struct mount *m, bool lazy)
{
	struct list_head gone = LIST_HEAD_INIT(gone);
	int err = 0;

	mount_tree_lock();
	if (!m->parent)
		err = -EINVAL;
	else if (!lazy && mount_is_busy(m))
		err = -EBUSY;
	else
		mount_umount_tree(m, &gone);
	mount_tree_unlock();
	mount_put_gone(&gone);
	return err;
}

/* Some mount on d, in one namespace or (NULL) in any. */
static struct mount *find_any(struct dentry *d, struct mnt_ns *ns) REQUIRES(lc_dcache)
{
	struct mount *m;

	for (size_t i = 0; d->mounted && i < MOUNT_BUCKETS; i++) {
		if (!mount_hash[i].next)
			continue;
		list_for_each (m, &mount_hash[i], hash)
			if (m->mountpoint == d && (!ns || m->ns == ns))
				return m;
	}
	return NULL;
}

bool mount_is_point_of(struct mnt_ns *ns, struct dentry *d)
{
	if (!__atomic_load_n(&d->mounted, __ATOMIC_RELAXED))
		return false;
	mutex_lock(&dcache_lock, &lc_dcache);
	bool found = find_any(d, ns) != NULL;
	mutex_unlock(&dcache_lock, &lc_dcache);
	return found;
}

void mount_detach_from(struct dentry *d)
{
	struct list_head gone = LIST_HEAD_INIT(gone);
	struct mount *m;

	if (!__atomic_load_n(&d->mounted, __ATOMIC_RELAXED))
		return;
	mount_tree_lock();
	while ((m = find_any(d, NULL)))
		mount_umount_tree(m, &gone);
	mount_tree_unlock();
	mount_put_gone(&gone);
}

/* ---- files open for writing ---- */

int mount_writer_get(struct mount *m)
{
	m->writers++;
	m->sb->writers++;
	/* Whoever makes it read-only says so first, and counts then. */
	if (!(__atomic_load_n(&m->flags, __ATOMIC_SEQ_CST) & MS_RDONLY) && !m->sb->readonly)
		return 0;
	mount_writer_put(m);
	return -EROFS;
}

void mount_writer_put(struct mount *m)
{
	m->writers--;
	m->sb->writers--;
}

/* ---- namespaces ---- */

static void mnt_ns_free(struct ns *header)
{
	struct mnt_ns *ns = container_of(header, struct mnt_ns, ns);
	struct list_head gone = LIST_HEAD_INIT(gone);

	mount_tree_lock();
	if (ns->root)
		mount_collect_locked(ns->root, &gone);
	mount_tree_unlock();
	mount_put_gone(&gone); /* the root's own reference too */
	free(ns);
}

const struct ns_type mnt_ns_type = {
	.name = "mnt", .flag = CLONE_NEWNS, .count = NS_COUNT_MNT, .free = mnt_ns_free};

struct mnt_ns *mnt_ns_new(struct mount *root)
{
	struct mnt_ns *ns = calloc(1, sizeof(*ns));

	if (!ns)
		return NULL;
	ns_init(&ns->ns, &mnt_ns_type, 0, &user_ns_top);
	ns->root = root;
	mutex_lock(&mount_lock, &lc_mount);
	mount_set_tree_ns(root, ns);
	mutex_unlock(&mount_lock, &lc_mount);
	return ns;
}

struct mnt_ns *mnt_ns_get(struct mnt_ns *ns)
{
	ns_get(&ns->ns);
	return ns;
}

void mnt_ns_put(struct mnt_ns *ns)
{
	ns_put(ns ? &ns->ns : NULL);
}

struct path mnt_ns_root(struct mnt_ns *ns)
{
	mutex_lock(&mount_lock, &lc_mount);
	struct path p = path_get((struct path){ns->root, ns->root->root});
	mutex_unlock(&mount_lock, &lc_mount);
	return p;
}

static int by_id(const void *a, const void *b)
{
	const struct mount *x = *(struct mount *const *)a, *y = *(struct mount *const *)b;

	return x->id < y->id ? -1 : x->id > y->id;
}

int mnt_ns_for_each(struct mnt_ns *ns, int (*fn)(struct mount *m, void *arg), void *arg)
{
	int ret = 0;

	mutex_lock(&mount_lock, &lc_mount);
	size_t n = 0;
	for (struct mount *m = ns->root; m; m = mount_next(m, ns->root))
		n++;
	struct mount **all = malloc(n * sizeof(*all));
	n = 0;
	for (struct mount *m = ns->root; all && m; m = mount_next(m, ns->root))
		all[n++] = mount_get(m);
	mutex_unlock(&mount_lock, &lc_mount);
	if (!all)
		return -ENOMEM;
	qsort(all, n, sizeof(*all), by_id);
	for (size_t i = 0; i < n; i++) {
		if (!ret)
			ret = fn(all[i], arg);
		mount_put(all[i]);
	}
	free(all);
	return ret;
}

bool path_is_in_ns(struct path p, const struct mnt_ns *ns)
{
	mutex_lock(&mount_lock, &lc_mount);
	bool in = p.mnt->ns == ns;
	mutex_unlock(&mount_lock, &lc_mount);
	return in;
}
