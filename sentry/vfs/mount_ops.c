/*
 * Changes of the mount tree that guests ask for: mount(2), umount(2), pivot_root(2), and the copy
 * of a tree for a bind or a new namespace.
 *
 * Checks and change are one step under lc_mount and lc_dcache.  Trees are walked, never recursed
 * into: their depth is the guest's.
 */
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#include "sentry/vfs/internal.h"

const struct fs_type *vfs_fs_types;

int vfs_fs_make(const char *type, const char *options, struct super_block **out)
{
	for (const struct fs_type *f = vfs_fs_types; f && f->name; f++)
		if (!strcmp(f->name, type))
			return f->make(options, out);
	return -ENODEV;
}

static void tree_lock(void) ACQUIRES(lc_mount) ACQUIRES(lc_dcache)
{
	mutex_lock(&mount_lock, &lc_mount);
	mutex_lock(&dcache_lock, &lc_dcache);
}

static void tree_unlock(void) RELEASES(lc_mount) RELEASES(lc_dcache)
{
	mutex_unlock(&dcache_lock, &lc_dcache);
	mutex_unlock(&mount_lock, &lc_mount);
}

static bool is_mount_root(struct path p)
{
	return p.mnt->root == p.dentry;
}

/* Is p at or below `top`, on the same mount or one further up the tree? */
static bool is_reachable(struct path p, struct path top) REQUIRES(lc_mount) REQUIRES(lc_dcache)
{
	while (p.mnt != top.mnt && p.mnt->parent)
		p = (struct path){p.mnt->parent, p.mnt->mountpoint};
	return p.mnt == top.mnt && dentry_is_ancestor(top.dentry, p.dentry);
}

/* May something be put onto p, which a walk has found a moment ago? */
static int check_place(struct mnt_ns *ns, struct path p, const struct dentry *root)
	REQUIRES(lc_mount) REQUIRES(lc_dcache)
{
	if (p.mnt->ns != ns)
		return -EINVAL;
	if (inode_is_dir(dentry_inode(root)) != inode_is_dir(dentry_inode(p.dentry)))
		return -ENOTDIR;
	if (!p.dentry->hashed && p.dentry->parent != p.dentry)
		return -ENOENT;
	return mount_find(p.mnt, p.dentry) ? -EBUSY : 0;
}

int mount_create(struct mnt_ns *ns, struct super_block *sb, struct path where, unsigned flags,
		 const char *source)
{
	if (!mount_room(1))
		return -ENOSPC;
	struct mount *m = mount_new(sb, sb->root, flags, source);
	if (!m)
		return -ENOMEM;
	tree_lock();
	int err = check_place(ns, where, m->root);
	if (!err)
		mount_link_locked(m, where.mnt, where.dentry);
	tree_unlock();
	mount_put(m);
	return err;
}

/*
 * The mount namespace that a file of nsfs names; NULL: something else.  Mounted, the file pins the
 * namespace: where that could be one that (indirectly) holds the mount, it would never go.
 */
static const struct ns *named_mnt_ns(const struct dentry *d)
{
	const struct ns *named = d->sb->magic == NSFS_MAGIC ? dentry_inode(d)->priv : NULL;

	return named && named->type == &mnt_ns_type ? named : NULL;
}

/* A copy of src alone, below the copy of its parent if it has one. */
static struct mount *copy_one(struct mount *src, struct dentry *root, bool top) REQUIRES(lc_mount)
	REQUIRES(lc_dcache)
{
	struct mount *m = mount_new(src->sb, root, src->flags, src->source);

	src->copy = m;
	if (m && !top) {
		mount_link_locked(m, src->parent->copy, src->mountpoint);
		mount_put(m); /* the tree's is left */
	}
	return m;
}

/*
 * Copies what is seen from `from` downwards, for a bind or a new namespace: *out has no parent, and
 * one reference.  After an error *out is what there is so far, or NULL.
 */
static int copy_tree(struct path from, bool recursive, bool new_ns, struct mount **out)
	REQUIRES(lc_mount) REQUIRES(lc_dcache)
{
	struct mount *top = from.mnt;

	*out = copy_one(top, from.dentry, true);
	if (!*out)
		return -ENOMEM;
	for (struct mount *m = mount_next(top, top); recursive && m; m = mount_next(m, top)) {
		bool seen = m->parent == top ? dentry_is_ancestor(from.dentry, m->mountpoint)
					     : m->parent->copy != NULL;
		m->copy = NULL;
		if (!seen || (new_ns && named_mnt_ns(m->root)))
			continue;
		if (!mount_room(1))
			return -ENOSPC;
		if (!copy_one(m, m->root, false))
			return -ENOMEM;
	}
	return 0;
}

/* Files of nsfs are bound to keep what they name, and are in nobody's tree before. */
static bool may_bind(const struct mnt_ns *ns, struct path from)
{
	const struct ns *named = named_mnt_ns(from.dentry);

	if (named && named->ino <= ns->ns.ino)
		return false;
	return from.mnt->ns == ns || from.mnt->sb->magic == NSFS_MAGIC;
}

int mount_bind(struct mnt_ns *ns, struct path from, struct path where, bool recursive)
{
	struct list_head gone = LIST_HEAD_INIT(gone);
	struct mount *m = NULL;

	tree_lock();
	int err = may_bind(ns, from) ? check_place(ns, where, from.dentry) : -EINVAL;
	if (!err && !mount_room(1))
		err = -ENOSPC;
	if (!err)
		err = copy_tree(from, recursive, false, &m);
	if (!err) {
		mount_link_locked(m, where.mnt, where.dentry);
		mount_put(m); /* the tree's is left */
	} else if (m) {
		mount_collect_locked(m, &gone);
	}
	tree_unlock();
	mount_put_gone(&gone);
	return err;
}

/* Puts what mount_unlink_locked() left. */
static void put_unlinked(struct mount *m, struct path was)
{
	path_put(was);
	mount_put(m);
}

int mount_move(struct mnt_ns *ns, struct path from, struct path where)
{
	struct path was = {NULL, NULL};
	struct mount *m = from.mnt;

	tree_lock();
	int err = 0;
	if (!is_mount_root(from) || m->ns != ns || where.mnt->ns != ns || !m->parent)
		err = -EINVAL;
	else if (is_reachable(where, from))
		err = -ELOOP;
	else if ((err = check_place(ns, where, m->root)) == -ENOTDIR)
		err = -EINVAL;
	if (!err) {
		was = (struct path){m->parent, m->mountpoint};
		mount_unlink_locked(m);
		mount_link_locked(m, where.mnt, where.dentry);
	}
	tree_unlock();
	if (!err)
		put_unlinked(m, was);
	return err;
}

int mount_remount(struct mnt_ns *ns, struct path p, unsigned flags)
{
	tree_lock();
	int err = is_mount_root(p) && p.mnt->ns == ns ? 0 : -EINVAL;
	if (!err)
		__atomic_store_n(&p.mnt->flags, flags & MOUNT_FLAGS, __ATOMIC_RELAXED);
	tree_unlock();
	return err;
}

int mount_umount(struct mnt_ns *ns, struct path p, bool lazy)
{
	tree_lock();
	bool ok = is_mount_root(p) && p.mnt->ns == ns;
	tree_unlock();
	return ok ? mount_detach(p.mnt, lazy) : -EINVAL;
}

static int check_pivot(struct mnt_ns *ns, struct path root, struct path new, struct path put_old)
	REQUIRES(lc_mount) REQUIRES(lc_dcache)
{
	if (root.mnt->ns != ns || new.mnt->ns != ns || put_old.mnt->ns != ns)
		return -EINVAL;
	if (new.mnt == root.mnt || put_old.mnt == root.mnt)
		return -EBUSY;
	if (!is_mount_root(root) || !is_mount_root(new) || !new.mnt->parent)
		return -EINVAL;
	if (!is_reachable(put_old, new) || !is_reachable(new, root))
		return -EINVAL;
	return mount_find(put_old.mnt, put_old.dentry) ? -EBUSY : 0;
}

int mount_pivot(struct mnt_ns *ns, struct path root, struct path new, struct path put_old)
{
	struct path new_was = {NULL, NULL}, root_was = {NULL, NULL};

	tree_lock();
	int err = check_pivot(ns, root, new, put_old);
	if (!err) {
		new_was = (struct path){new.mnt->parent, new.mnt->mountpoint};
		root_was = (struct path){root.mnt->parent, root.mnt->mountpoint};
		mount_unlink_locked(new.mnt);
		if (root_was.mnt) {
			mount_unlink_locked(root.mnt);
			new.mnt->parent = NULL;
			new.mnt->mountpoint = NULL;
			mount_link_locked(new.mnt, root_was.mnt, root_was.dentry);
		} else {
			/* The namespace's own reference goes from one root to the other. */
			mount_get(new.mnt);
			new.mnt->parent = NULL;
			new.mnt->mountpoint = NULL;
			new.mnt->ns = ns;
			ns->root = new.mnt;
		}
		root.mnt->parent = NULL;
		root.mnt->mountpoint = NULL;
		mount_link_locked(root.mnt, put_old.mnt, put_old.dentry);
		root.mnt->ns = ns;
	}
	tree_unlock();
	if (!err) {
		put_unlinked(new.mnt, new_was);
		mount_put(root.mnt); /* its place's before, or the namespace's */
		path_put_p(&root_was);
	}
	return err;
}

/* The same place in the copy of the tree just made. */
static void follow_copy(struct path *p, const struct mnt_ns *ns, struct mount **old)
	REQUIRES(lc_mount)
{
	*old = NULL;
	if (p->mnt->ns != ns)
		return;
	*old = p->mnt;
	p->mnt = mount_get(p->mnt->copy);
}

static void set_tree_ns(struct mount *top, struct mnt_ns *ns) REQUIRES(lc_mount)
{
	for (struct mount *m = top; m; m = mount_next(m, top))
		m->ns = ns;
}

int mnt_ns_copy(struct mnt_ns *ns, struct user_ns *owner, struct path *root, struct path *cwd,
		struct mnt_ns **out)
{
	struct list_head gone = LIST_HEAD_INIT(gone);
	struct mount *m = NULL, *old[2] = {NULL, NULL};
	struct mnt_ns *copy = calloc(1, sizeof(*copy));

	if (!copy)
		return -ENOMEM;
	tree_lock();
	int err = mount_room(1) ? 0 : -ENOSPC;
	if (!err)
		err = copy_tree((struct path){ns->root, ns->root->root}, true, true, &m);
	if (!err) {
		follow_copy(root, ns, &old[0]);
		follow_copy(cwd, ns, &old[1]);
		set_tree_ns(m, copy);
		copy->root = m;
	} else if (m) {
		mount_collect_locked(m, &gone);
	}
	tree_unlock();
	mount_put(old[0]);
	mount_put(old[1]);
	mount_put_gone(&gone);
	if (err) {
		free(copy);
		return err;
	}
	ns_init(&copy->ns, &mnt_ns_type, 0, owner);
	*out = copy;
	return 0;
}
