/* Changes of the mount tree that guests ask for: mount(2), umount(2), pivot_root(2). */
#include <linux/capability.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#include "sentry/vfs/internal.h"

const struct fs_type *vfs_fs_types;

const struct fs_type *vfs_fs_find(const char *name)
{
	for (const struct fs_type *f = vfs_fs_types; f && f->name; f++) {
		size_t n = strlen(f->name);
		if (!strcmp(f->name, name) ||
		    (f->flags & FS_SUBTYPES && !strncmp(f->name, name, n) && name[n] == '.'))
			return f;
	}
	return NULL;
}

static bool is_anonymous(const struct mount *m)
{
	return m->ns && m->ns->anonymous;
}

int vfs_fs_make_for(const struct fs_type *f, const struct fs_params *p, struct user_ns *over,
		    struct super_block **out)
{
	const struct cred *c = p->env->cred;
	struct super_block *sb;

	if (!cred_ns_capable(c, f->flags & FS_GUESTS ? over : &user_ns_top, CAP_SYS_ADMIN))
		return -EPERM;
	int err = f->make(p, &sb);
	if (err)
		return err;
	if (!(f->flags & FS_SHARED)) {
		user_ns_put(sb->user_ns);
		sb->user_ns = user_ns_get(over);
		err = sb->ops->claim ? sb->ops->claim(sb, c) : 0;
	}
	if (err)
		super_put(sb);
	else
		*out = sb;
	return err;
}

static bool is_mount_root(struct path p)
{
	return p.mnt->root == p.dentry;
}

bool path_is_reachable(struct path p, struct path top)
{
	while (p.mnt != top.mnt && p.mnt->parent)
		p = (struct path){p.mnt->parent, p.mnt->mountpoint};
	return p.mnt == top.mnt && dentry_is_ancestor(top.dentry, p.dentry);
}

/*
 * May something be put onto *p, which a walk has found a moment ago?  What came between is on top
 * of it: *p becomes that, borrowed from the locks.
 */
static int check_place(struct mnt_ns *ns, struct path *p, const struct dentry *root)
	REQUIRES(lc_mount) REQUIRES(lc_dcache)
{
	struct mount *over;

	if (p->mnt->ns != ns)
		return -EINVAL;
	if (!p->dentry->hashed && p->dentry->parent != p->dentry)
		return -ENOENT;
	while ((over = mount_find(p->mnt, p->dentry)))
		*p = (struct path){over, over->root};
	return inode_is_dir(dentry_inode(root)) != inode_is_dir(dentry_inode(p->dentry)) ? -ENOTDIR
											 : 0;
}

/* Mounts m, which is new, and gives it to whoever receives from that place. */
static int graft(struct mount *m, struct path where, struct list_head *gone) REQUIRES(lc_mount)
	REQUIRES(lc_dcache)
{
	struct list_head made = LIST_HEAD_INIT(made);
	int err = mount_spread_prepare(m, where, &made, gone);

	if (!err)
		mount_spread_commit(where, &made);
	return err;
}

int mount_create(struct mnt_ns *ns, struct super_block *sb, struct path where, unsigned flags,
		 const char *source)
{
	struct list_head gone = LIST_HEAD_INIT(gone);

	if (!mount_room(1))
		return -ENOSPC;
	struct mount *m = mount_new(sb, sb->root, flags, source);
	if (!m)
		return -ENOMEM;
	mount_tree_lock();
	int err = check_place(ns, &where, m->root);
	/* The same thing twice in one place. */
	if (!err && where.dentry == where.mnt->root && where.mnt->sb == sb)
		err = -EBUSY;
	if (!err)
		err = graft(m, where, &gone);
	mount_tree_unlock();
	mount_put_gone(&gone);
	mount_put(m);
	return err;
}

int mount_bind(struct mnt_ns *ns, struct path from, struct path where, bool recursive)
{
	struct list_head gone = LIST_HEAD_INIT(gone);
	struct mount *m = NULL;

	mount_tree_lock();
	int err = check_place(ns, &where, from.dentry);
	if (!err && !mount_may_copy(ns, from, recursive))
		err = -EINVAL;
	if (!err && !mount_room(1))
		err = -ENOSPC;
	if (!err)
		err = mount_copy_tree(from, recursive, COPY_SAME, &m);
	if (!err)
		err = graft(m, where, &gone);
	if (!err)
		mount_put(m); /* the tree's is left */
	else if (m)
		mount_collect_locked(m, &gone);
	mount_tree_unlock();
	mount_put_gone(&gone);
	return err;
}

/* Puts what mount_unlink_locked() left. */
static void put_unlinked(struct mount *m, struct path was)
{
	path_put(was);
	mount_put(m);
}

static bool has_unbindable(struct mount *top) REQUIRES(lc_mount)
{
	for (struct mount *m = top; m; m = mount_next(m, top))
		if (m->unbindable)
			return true;
	return false;
}

/* What is moved is in the caller's namespace, or is the whole of an anonymous one. */
static int check_move(struct mnt_ns *ns, struct path from, struct path *where) REQUIRES(lc_mount)
	REQUIRES(lc_dcache)
{
	struct mount *m = from.mnt;

	int err = check_place(ns, where, m->root);
	if (!is_mount_root(from) || where->mnt->ns != ns || err == -ENOTDIR)
		return -EINVAL;
	if (m->locked || (m->ns == ns ? !m->parent : !is_anonymous(m) || m->parent))
		return -EINVAL;
	if (err)
		return err;
	if ((m->parent && m->parent->group) || (where->mnt->group && has_unbindable(m)))
		return -EINVAL;
	return path_is_reachable(*where, from) ? -ELOOP : 0;
}

/*
 * May m be put beneath the mount that is on top of *where?  *where becomes the place of that.  Not
 * where the parent's sharing would put it on top somewhere after all.
 */
static int check_beneath(const struct mount *m, struct path root, struct path *where)
	REQUIRES(lc_mount) REQUIRES(lc_dcache)
{
	struct mount *top = where->mnt;

	if (!is_mount_root(*where) || !top->parent || top == root.mnt)
		return -EINVAL;
	for (const struct mount *p = m; p; p = p->parent)
		if (p == top)
			return -EINVAL;
	if (top->parent->group && top->mountpoint == top->parent->root)
		return -EINVAL;
	*where = (struct path){top->parent, top->mountpoint};
	return 0;
}

int mount_move(struct mnt_ns *ns, struct path from, struct path where, const struct path *beneath)
{
	struct list_head made = LIST_HEAD_INIT(made), gone = LIST_HEAD_INIT(gone);
	struct path was = {NULL, NULL};
	struct mount *m = from.mnt;

	mount_tree_lock();
	int err = check_move(ns, from, &where);
	if (!err && beneath)
		err = check_beneath(m, *beneath, &where);
	if (!err)
		err = mount_spread_prepare(m, where, &made, &gone);
	if (!err && m->parent) {
		was = (struct path){m->parent, m->mountpoint};
		mount_unlink_locked(m);
	} else if (!err) {
		m->ns->root = NULL;
	}
	if (!err)
		mount_spread_commit(where, &made);
	mount_tree_unlock();
	mount_put_gone(&gone);
	if (!err) {
		path_put_p(&was);
		mount_put(m); /* its place's before, or the namespace's */
	}
	return err;
}

int mount_share_group(struct mnt_ns *ns, struct path from, struct path to)
{
	struct mount *src = from.mnt, *m = to.mnt;

	mount_tree_lock();
	int err = -EINVAL;
	if (src->ns == ns && m->ns == ns && is_mount_root(from) && is_mount_root(to) &&
	    src->sb == m->sb && dentry_is_ancestor(src->root, m->root) && !m->group && !m->master &&
	    (src->group || src->master)) {
		mount_share_as(m, src);
		err = 0;
	}
	mount_tree_unlock();
	return err;
}

/* May m get these flags?  They are set: who opens a file for writing looks at them after it has
 * been counted. */
static bool try_flags(struct mount *m, unsigned flags)
{
	unsigned old = m->flags;

	__atomic_store_n(&m->flags, flags, __ATOMIC_SEQ_CST);
	if (!(flags & ~old & MS_RDONLY) || !m->writers)
		return true;
	__atomic_store_n(&m->flags, old, __ATOMIC_SEQ_CST);
	return false;
}

static int set_readonly(struct super_block *sb, bool readonly)
{
	if (!readonly && sb->fixed_readonly)
		return -EROFS;
	bool old = __atomic_exchange_n(&sb->readonly, readonly, __ATOMIC_SEQ_CST);
	if (!readonly || old || !sb->writers)
		return 0;
	__atomic_store_n(&sb->readonly, old, __ATOMIC_SEQ_CST);
	return -EBUSY;
}

int super_reconfigure(struct super_block *sb, const char *options, bool readonly,
		      const struct cred *c)
{
	if (!cred_ns_capable(c, sb->user_ns, CAP_SYS_ADMIN))
		return -EPERM;
	int err = sb->ops->remount ? sb->ops->remount(sb, options) : 0;

	return err ? err : set_readonly(sb, readonly);
}

int mount_reconfigure(struct mnt_ns *ns, struct path p, const char *options, bool readonly,
		      const struct cred *c)
{
	mount_tree_lock();
	int err = is_mount_root(p) && p.mnt->ns == ns ? 0 : -EINVAL;
	mount_tree_unlock();
	return err ? err : super_reconfigure(p.mnt->sb, options, readonly, c);
}

static void set_propagation(struct mount *m, unsigned type) REQUIRES(lc_mount)
{
	if (type == MS_SLAVE)
		mount_make_slave(m);
	if (type == MS_PRIVATE || type == MS_UNBINDABLE)
		mount_make_private(m);
	if (type == MS_UNBINDABLE)
		m->unbindable = true;
}

int mount_change(struct mnt_ns *ns, struct path p, const struct mount_change *c)
{
	struct mount *m, *top = p.mnt;
	int err = 0;

	mount_tree_lock();
	if (!is_mount_root(p) || (top->ns != ns && (!is_anonymous(top) || top->parent)))
		err = -EINVAL;
	/* What can fail comes first; flags are then as they were. */
	for (m = top; !err && m; m = c->recursive ? mount_next(m, top) : NULL) {
		unsigned flags = (m->flags & ~c->clear) | c->set;
		m->flags_before = m->flags;
		if ((flags ^ m->flags) & m->locked_flags)
			err = -EPERM;
		else if (!try_flags(m, flags))
			err = -EBUSY;
		else if (c->propagation == MS_SHARED)
			err = mount_make_shared(m);
	}
	for (struct mount *u = top; err && u != m; u = mount_next(u, top))
		(void)try_flags(u, u->flags_before);
	for (m = top; !err && m; m = c->recursive ? mount_next(m, top) : NULL)
		set_propagation(m, c->propagation);
	if (!err)
		mnt_ns_touch(top->ns);
	mount_tree_unlock();
	return err;
}

/* The first time that nobody uses it marks it; the second takes it away, if nobody did since. */
static int expire(struct mount *m) REQUIRES(lc_mount) REQUIRES(lc_dcache)
{
	if (!list_empty(&m->children) || ref_read(&m->ref) > 2)
		return -EBUSY;
	return atomic_exchange(&m->expiring, true) ? 0 : -EAGAIN;
}

int mount_umount(struct mnt_ns *ns, struct path p, int flags)
{
	struct list_head gone = LIST_HEAD_INIT(gone);
	struct mount *m = p.mnt;

	mount_tree_lock();
	int err = is_mount_root(p) && m->ns == ns ? 0 : -EINVAL;
	if (!err && flags & MNT_EXPIRE)
		err = expire(m);
	if (!err && (!m->parent || m->locked))
		err = -EINVAL; /* the root stays, as does what belongs together */
	if (!err && !(flags & MNT_DETACH) && mount_is_busy(m))
		err = -EBUSY;
	if (!err)
		mount_umount_tree(m, &gone);
	mount_tree_unlock();
	mount_put_gone(&gone);
	return err;
}

static int check_pivot(struct mnt_ns *ns, struct path root, struct path new, struct path put_old)
	REQUIRES(lc_mount) REQUIRES(lc_dcache)
{
	if (root.mnt->ns != ns || new.mnt->ns != ns || put_old.mnt->ns != ns)
		return -EINVAL;
	if (new.mnt == root.mnt || put_old.mnt == root.mnt)
		return -EBUSY;
	if (!is_mount_root(root) || !is_mount_root(new) || !new.mnt->parent || new.mnt->locked)
		return -EINVAL;
	if (new.mnt->parent->group || put_old.mnt->group ||
	    (root.mnt->parent && root.mnt->parent->group))
		return -EINVAL;
	if (!path_is_reachable(put_old, new) || !path_is_reachable(new, root))
		return -EINVAL;
	return mount_find(put_old.mnt, put_old.dentry) ? -EBUSY : 0;
}

int mount_pivot(struct mnt_ns *ns, struct path root, struct path new, struct path put_old)
{
	struct path new_was = {NULL, NULL}, root_was = {NULL, NULL};

	mount_tree_lock();
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
		new.mnt->locked = root.mnt->locked;
		root.mnt->locked = false;
		mnt_ns_touch(ns);
	}
	mount_tree_unlock();
	if (!err) {
		put_unlinked(new.mnt, new_was);
		mount_put(root.mnt); /* its place's before, or the namespace's */
		path_put_p(&root_was);
	}
	return err;
}
