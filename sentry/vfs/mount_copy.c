/*
 * Copies of mount trees: for binds, for what propagates, for new namespaces; and trees that are
 * mounted nowhere.  Trees are walked, never recursed into: their depth is the guest's.
 */
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/mount.h>

#include "sentry/vfs/internal.h"

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
static struct mount *copy_one(struct mount *src, struct dentry *root, bool top, enum copy_kind kind)
	REQUIRES(lc_mount) REQUIRES(lc_dcache)
{
	struct mount *m = mount_new(src->sb, root, src->flags, src->source);

	src->copy = m;
	if (!m)
		return NULL;
	if (kind == COPY_SLAVE || (kind == COPY_BELOW && src->group))
		mount_enslave(m, src);
	else
		mount_share_as(m, src);
	m->unbindable = src->unbindable;
	m->locked = src->locked && !top;
	m->locked_flags = src->locked_flags;
	if (!top) {
		mount_link_locked(m, src->parent->copy, src->mountpoint);
		mount_put(m); /* the tree's is left */
	}
	return m;
}

int mount_copy_tree(struct path from, bool recursive, enum copy_kind kind, struct mount **out)
{
	struct mount *top = from.mnt;

	*out = copy_one(top, from.dentry, true, kind);
	if (!*out)
		return -ENOMEM;
	for (struct mount *m = mount_next(top, top); recursive && m; m = mount_next(m, top)) {
		bool seen = m->parent == top ? dentry_is_ancestor(from.dentry, m->mountpoint)
					     : m->parent->copy != NULL;
		m->copy = NULL;
		bool whole = kind == COPY_ALL || kind == COPY_BELOW;
		if (!seen || (whole ? named_mnt_ns(m->root) != NULL : m->unbindable))
			continue;
		if (!mount_room(1))
			return -ENOSPC;
		if (!copy_one(m, m->root, false, kind))
			return -ENOMEM;
	}
	return 0;
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

/* Files of nsfs are bound to keep what they name, and are in nobody's tree before. */
void mount_lock_tree(struct mount *top)
{
	const unsigned forbid = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;
	const unsigned atime = MS_NOATIME | MS_NODIRATIME | MS_RELATIME;

	for (struct mount *m = top; m; m = mount_next(m, top)) {
		m->locked_flags |= (m->flags & forbid) | atime;
		m->locked = m != top;
	}
}

static bool hides_something(struct path from) REQUIRES(lc_mount) REQUIRES(lc_dcache)
{
	struct mount *m;

	list_for_each (m, &from.mnt->children, siblings)
		if (m->locked && dentry_is_ancestor(from.dentry, m->mountpoint))
			return true;
	return false;
}

bool mount_may_copy(const struct mnt_ns *ns, struct path from, bool recursive)
{
	const struct ns *named = named_mnt_ns(from.dentry);

	if ((named && named->ino <= ns->ns.ino) || (!recursive && hides_something(from)))
		return false;
	return !from.mnt->unbindable &&
	       (from.mnt->ns == ns || (from.mnt->ns && from.mnt->ns->anonymous) ||
		from.mnt->sb->magic == NSFS_MAGIC);
}

int mnt_ns_copy(struct mnt_ns *ns, const struct ns_maker *maker, struct path *root,
		struct path *cwd, struct mnt_ns **out)
{
	struct list_head gone = LIST_HEAD_INIT(gone);
	struct mount *m = NULL, *old[2] = {NULL, NULL};
	struct mnt_ns *copy = calloc(1, sizeof(*copy));

	int err = copy ? ns_make(&copy->ns, &mnt_ns_type, maker) : -ENOMEM;
	if (err) {
		free(copy);
		return err;
	}
	mount_tree_lock();
	err = mount_room(1) ? 0 : -ENOSPC;
	bool below = maker->owner != ns->ns.owner;
	if (!err)
		err = mount_copy_tree((struct path){ns->root, ns->root->root}, true,
				      below ? COPY_BELOW : COPY_ALL, &m);
	if (!err && below)
		mount_lock_tree(m);
	if (!err) {
		follow_copy(root, ns, &old[0]);
		follow_copy(cwd, ns, &old[1]);
		mount_set_tree_ns(m, copy);
		copy->root = m;
	} else if (m) {
		mount_collect_locked(m, &gone);
	}
	mount_tree_unlock();
	mount_put(old[0]);
	mount_put(old[1]);
	mount_put_gone(&gone);
	if (err)
		ns_put(&copy->ns);
	else
		*out = copy;
	return err;
}

/* ---- trees that are mounted nowhere ---- */

static void tree_release(struct file *f)
{
	mnt_ns_put(f->priv);
}

static const struct file_ops tree_ops = {.stream = true, .release = tree_release};

/* Consumes m. */
static int tree_open(struct mount *m, struct user_ns *owner, struct file **out)
{
	struct mnt_ns *ns = calloc(1, sizeof(*ns));
	struct file *f = ns ? file_new((struct path){m, m->root}, O_PATH) : NULL;

	if (!f) {
		struct list_head gone = LIST_HEAD_INIT(gone);
		mount_tree_lock();
		mount_collect_locked(m, &gone);
		mount_tree_unlock();
		mount_put_gone(&gone);
		free(ns);
		return -ENOMEM;
	}
	ns_init(&ns->ns, &mnt_ns_type, 0, owner);
	ns->anonymous = true;
	ns->root = m;
	mount_tree_lock();
	mount_set_tree_ns(m, ns);
	mount_tree_unlock();
	f->ops = &tree_ops;
	f->priv = ns;
	*out = f;
	return 0;
}

int mount_tree_new(struct mnt_ns *ns, struct super_block *sb, unsigned flags, const char *source,
		   struct file **out)
{
	struct mount *m = mount_room(1) ? mount_new(sb, sb->root, flags, source) : NULL;

	return m ? tree_open(m, ns->ns.owner, out) : -ENOSPC;
}

int mount_tree_clone(struct mnt_ns *ns, struct path from, bool recursive, struct file **out)
{
	struct list_head gone = LIST_HEAD_INIT(gone);
	struct mount *m = NULL;

	mount_tree_lock();
	int err = mount_may_copy(ns, from, recursive) ? 0 : -EINVAL;
	if (!err && !mount_room(1))
		err = -ENOSPC;
	if (!err)
		err = mount_copy_tree(from, recursive, COPY_SAME, &m);
	if (err && m)
		mount_collect_locked(m, &gone);
	mount_tree_unlock();
	mount_put_gone(&gone);
	return err ? err : tree_open(m, ns->ns.owner, out);
}
