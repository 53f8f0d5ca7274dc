/* Nodes: identity, attributes, permissions. */
#include "sentry/fs/fuse/node.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/time/ktimer.h"

#define NS_PER_SEC 1000000000LL
#define VALID_MAX (1LL << 30) /* seconds: for ever */

int64_t fuse_until(uint64_t sec, uint32_t nsec)
{
	if (!sec && !nsec)
		return 0;
	if (sec >= VALID_MAX)
		return TIME_NEVER;
	return time_monotonic() + (int64_t)sec * NS_PER_SEC + MIN(nsec, (uint32_t)NS_PER_SEC - 1);
}

/* ---- identity ---- */

static const struct inode_ops *ops_for(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return &fuse_file_iops;
	case S_IFDIR:
		return &fuse_dir_iops;
	case S_IFLNK:
		return &fuse_link_iops;
	case S_IFCHR:
	case S_IFBLK:
	case S_IFIFO:
	case S_IFSOCK:
		return &fuse_other_iops;
	}
	return NULL;
}

static struct fuse_node *node_new(struct fuse_fs *fs, uint64_t nodeid, uint64_t generation,
				  uint64_t ino, uint32_t mode)
{
	const struct inode_ops *ops = ops_for(mode);
	struct fuse_node *n = ops ? calloc(1, sizeof(*n)) : NULL;

	if (!n)
		return NULL;
	inode_init(&n->in, &fs->sb, ops, ino, mode, NULL);
	n->nodeid = nodeid;
	n->generation = generation;
	n->ino = ino;
	n->blksize = PAGE_SIZE;
	sleep_lock_init(&n->dir_busy);
	mutex_init(&n->cache_lock);
	list_init(&n->handles);
	return n;
}

static struct rb_node **tree_link(struct fuse_fs *fs, uint64_t nodeid, struct rb_node **parent,
				  struct fuse_node **found)
{
	struct rb_node **link = &fs->tree.node;

	*parent = NULL;
	*found = NULL;
	while (*link) {
		struct fuse_node *n = rb_entry(*link, struct fuse_node, node);
		if (n->nodeid == nodeid) {
			*found = n;
			break;
		}
		*parent = *link;
		link = nodeid < n->nodeid ? &(*link)->left : &(*link)->right;
	}
	return link;
}

static void tree_remove(struct fuse_fs *fs, struct fuse_node *n)
{
	if (n->in_tree)
		rb_erase(&fs->tree, &n->node);
	n->in_tree = false;
}

struct fuse_node *fuse_node_find(struct fuse_fs *fs, uint64_t nodeid)
{
	struct rb_node *parent;
	struct fuse_node *n;

	mutex_lock(&fs->tree_lock, &lc_leaf);
	tree_link(fs, nodeid, &parent, &n);
	if (n && !ref_get_unless_zero(&n->in.ref))
		n = NULL;
	mutex_unlock(&fs->tree_lock, &lc_leaf);
	return n;
}

/* The live node with the number and generation of `fresh`, or NULL and `fresh` is that now.  One
 * that is going, or was another file, leaves the tree. */
static struct fuse_node *find_or_add(struct fuse_fs *fs, struct fuse_node *fresh)
{
	struct rb_node *parent;
	struct fuse_node *n;

	mutex_lock(&fs->tree_lock, &lc_leaf);
	struct rb_node **link = tree_link(fs, fresh->nodeid, &parent, &n);
	if (n && (n->generation != fresh->generation || !ref_get_unless_zero(&n->in.ref))) {
		tree_remove(fs, n);
		link = tree_link(fs, fresh->nodeid, &parent, &n);
	}
	if (!n) {
		rb_insert(&fs->tree, &fresh->node, parent, link);
		fresh->in_tree = true;
	}
	struct fuse_node *counted = n ? n : fresh;
	counted->nlookup++;
	mutex_unlock(&fs->tree_lock, &lc_leaf);
	return n;
}

void fuse_forget(struct fuse_conn *fc, uint64_t nodeid, uint64_t nlookup)
{
	struct fuse_req *r = nlookup ? fuse_req_new(fc, FUSE_FORGET, nodeid) : NULL;

	if (!r)
		return;
	struct fuse_in_header *h = (struct fuse_in_header *)r->msg;
	h->uid = h->gid = h->pid = 0;
	fuse_req_add(r, &(struct fuse_forget_in){nlookup}, sizeof(struct fuse_forget_in));
	fuse_post(r);
}

int fuse_node_get(struct fuse_fs *fs, const struct fuse_entry_out *e, uint64_t version,
		  struct inode **out)
{
	int err = -EIO;

	if (!e->nodeid || e->nodeid == FUSE_ROOT_ID)
		return -EIO;
	if (!ops_for(e->attr.mode))
		goto forget;
	struct fuse_node *fresh = node_new(fs, e->nodeid, e->generation, e->attr.ino, e->attr.mode);
	err = -ENOMEM;
	if (!fresh)
		goto forget;
	struct fuse_node *n = find_or_add(fs, fresh);
	if (n)
		inode_put(&fresh->in);
	else
		n = fresh;
	err = fuse_attr_take(n, &e->attr, e->attr_valid, e->attr_valid_nsec, version);
	if (err)
		inode_put(&n->in);
	else
		*out = &n->in;
	return err;
forget:
	fuse_forget(fs->fc, e->nodeid, 1);
	return err;
}

int fuse_root_new(struct fuse_fs *fs, uint32_t mode, struct inode **out)
{
	struct fuse_node *n = node_new(fs, FUSE_ROOT_ID, 0, FUSE_ROOT_ID, mode);

	if (!n)
		return -ENOMEM;
	n->in.uid = uid_enter(fs->fc->user_ns, fs->fc->user_id);
	n->in.gid = gid_enter(fs->fc->user_ns, fs->fc->group_id);
	find_or_add(fs, n);
	*out = &n->in;
	return 0;
}

void fuse_node_free(struct inode *in)
{
	struct fuse_node *n = node_of(in);
	struct fuse_fs *fs = fs_of(in->sb);

	mutex_lock(&fs->tree_lock, &lc_leaf);
	tree_remove(fs, n);
	mutex_unlock(&fs->tree_lock, &lc_leaf);
	if (n->nodeid != FUSE_ROOT_ID)
		fuse_forget(fs->fc, n->nodeid, n->nlookup);
	fuse_cache_free(n);
	free(n);
}

/* ---- attributes ---- */

static struct ktime time_of(uint64_t sec, uint32_t nsec)
{
	return (struct ktime){(int64_t)sec, MIN(nsec, (uint32_t)NS_PER_SEC - 1)};
}

static void attr_store(struct fuse_node *n, const struct fuse_attr *a, int64_t until)
{
	const struct user_ns *u = conn_of(&n->in)->user_ns;
	struct inode *in = &n->in;
	uint32_t uid = uid_enter(u, a->uid), gid = gid_enter(u, a->gid);

	/* Walks read mode and ids without the lock: single stores. */
	__atomic_store_n(&in->mode, (in->mode & S_IFMT) | (a->mode & 07777), __ATOMIC_RELAXED);
	__atomic_store_n(&in->uid, uid, __ATOMIC_RELAXED);
	__atomic_store_n(&in->gid, gid, __ATOMIC_RELAXED);
	in->nlink = a->nlink;
	in->rdev = a->rdev; /* in dev_encode()'s form */
	in->blocks = a->blocks;
	in->atime = time_of(a->atime, a->atimensec);
	in->mtime = time_of(a->mtime, a->mtimensec);
	in->ctime = time_of(a->ctime, a->ctimensec);
	in->size = a->size;
	n->ino = a->ino;
	if (a->blksize && a->blksize <= 1U << 30)
		n->blksize = a->blksize;
	n->attr_until = until;
}

int fuse_attr_take(struct fuse_node *n, const struct fuse_attr *a, uint64_t sec, uint32_t nsec,
		   uint64_t version)
{
	struct inode *in = &n->in;
	struct fuse_conn *fc = conn_of(in);

	if ((a->mode ^ in->mode) & S_IFMT || a->size > INT64_MAX)
		return -EIO;
	mutex_lock(&in->lock, &lc_inode);
	bool outdated = n->attr_version > version;
	bool changed = in->mtime.sec != (int64_t)a->mtime || in->mtime.nsec != a->mtimensec ||
		       in->size != a->size;
	uint64_t old_size = in->size;
	if (outdated)
		n->attr_until = 0;
	else
		attr_store(n, a, fuse_until(sec, nsec));
	mutex_unlock(&in->lock, &lc_inode);
	if (outdated || !S_ISREG(in->mode))
		return 0;
	if (old_size != a->size)
		fuse_cache_resize(n, a->size);
	if (changed && fc->flags & FUSE_AUTO_INVAL_DATA)
		fuse_cache_drop(n, 0, 0);
	return 0;
}

void fuse_attr_expire(struct fuse_node *n)
{
	mutex_lock(&n->in.lock, &lc_inode);
	n->attr_until = 0;
	mutex_unlock(&n->in.lock, &lc_inode);
}

void fuse_size_changed(struct fuse_node *n, uint64_t size, bool cut)
{
	struct fuse_conn *fc = conn_of(&n->in);

	mutex_lock(&n->in.lock, &lc_inode);
	n->attr_version = atomic_fetch_add(&fc->attr_version, 1) + 1;
	n->attr_until = 0;
	if (cut || size > n->in.size)
		n->in.size = size;
	mutex_unlock(&n->in.lock, &lc_inode);
}

uint64_t fuse_size(struct fuse_node *n)
{
	mutex_lock(&n->in.lock, &lc_inode);
	uint64_t size = n->in.size;
	mutex_unlock(&n->in.lock, &lc_inode);
	return size;
}

int fuse_attr_refresh(struct fuse_node *n, bool force)
{
	struct fuse_conn *fc = conn_of(&n->in);
	struct fuse_attr_out out;

	mutex_lock(&n->in.lock, &lc_inode);
	bool known = n->attr_until > time_monotonic();
	mutex_unlock(&n->in.lock, &lc_inode);
	if (known && !force)
		return 0;
	uint64_t version = atomic_load(&fc->attr_version);
	struct fuse_req *r = fuse_req_new(fc, FUSE_GETATTR, n->nodeid);
	fuse_req_add(r, NULL, sizeof(struct fuse_getattr_in));
	int err = fuse_call(r, &out, sizeof(out));
	return err ? err
		   : fuse_attr_take(n, &out.attr, out.attr_valid, out.attr_valid_nsec, version);
}

int fuse_getattr(struct inode *in, struct kstat *st)
{
	struct fuse_node *n = node_of(in);
	const struct task *t = task_current();
	int err = t ? fuse_may_use(conn_of(in), t->cred) : 0;

	if (!err)
		err = fuse_attr_refresh(n, false);
	if (err)
		return err;
	inode_fill_stat(in, st);
	st->mask &= ~(uint32_t)STATX_BTIME;
	st->btime = (struct ktime){0};
	st->ino = n->ino;
	st->blksize = n->blksize;
	return 0;
}

static void set_times(struct fuse_setattr_in *s, const struct iattr *a)
{
	if (a->valid & ATTR_ATIME) {
		s->valid |= FATTR_ATIME | (a->valid & ATTR_ATIME_NOW ? FATTR_ATIME_NOW : 0);
		s->atime = (uint64_t)a->atime.sec;
		s->atimensec = a->atime.nsec;
	}
	if (a->valid & ATTR_MTIME && !(a->valid & ATTR_SIZE)) {
		s->valid |= FATTR_MTIME | (a->valid & ATTR_MTIME_NOW ? FATTR_MTIME_NOW : 0);
		s->mtime = (uint64_t)a->mtime.sec;
		s->mtimensec = a->mtime.nsec;
	}
}

int fuse_setattr(struct inode *in, const struct iattr *a)
{
	struct fuse_node *n = node_of(in);
	struct fuse_conn *fc = conn_of(in);
	struct fuse_setattr_in s = {0};
	struct fuse_attr_out out;
	struct fuse_handle *h = NULL;

	if (a->valid & ATTR_MODE) {
		s.valid |= FATTR_MODE;
		s.mode = (in->mode & S_IFMT) | (a->mode & 07777);
	}
	if (a->valid & ATTR_UID) {
		s.valid |= FATTR_UID;
		s.uid = uid_show(fc->user_ns, a->uid);
	}
	if (a->valid & ATTR_GID) {
		s.valid |= FATTR_GID;
		s.gid = gid_show(fc->user_ns, a->gid);
	}
	set_times(&s, a);
	if (a->valid & ATTR_SIZE) {
		s.valid |= FATTR_SIZE;
		s.size = a->size;
		if ((h = fuse_handle_for_writing(n))) {
			s.valid |= FATTR_FH;
			s.fh = h->fh;
		}
		int err = fuse_cache_flush(n, true);
		if (err)
			return err;
		fuse_size_changed(n, a->size, false);
	}
	uint64_t version = atomic_load(&fc->attr_version);
	struct fuse_req *r = fuse_req_new(fc, FUSE_SETATTR, n->nodeid);
	fuse_req_add(r, &s, sizeof(s));
	int err = fuse_call(r, &out, sizeof(out));
	fuse_handle_put(h);
	if (err) {
		fuse_attr_expire(n);
		return err;
	}
	if (a->valid & ATTR_SIZE)
		fuse_cache_resize(n, a->size);
	return fuse_attr_take(n, &out.attr, out.attr_valid, out.attr_valid_nsec, version);
}

/* ---- permissions ---- */

/*
 * Whoever is not the one that mounted it could be led into a trap by the server, which sees what
 * he does and decides how long it takes: only with allow_other, and not outside the user namespace
 * in which it was mounted.
 */
int fuse_may_use(const struct fuse_conn *fc, const struct cred *c)
{
	uint32_t uid = uid_enter(fc->user_ns, fc->user_id);
	uint32_t gid = gid_enter(fc->user_ns, fc->group_id);

	if (fc->allow_other)
		return user_ns_is_in(c->user_ns, fc->user_ns) ? 0 : -EACCES;
	return c->euid == uid && c->suid == uid && c->uid == uid && c->egid == gid &&
			       c->sgid == gid && c->gid == gid
		       ? 0
		       : -EACCES;
}

static int ask_access(struct fuse_node *n, int mask)
{
	struct fuse_conn *fc = conn_of(&n->in);

	if (fuse_lacks(fc, FUSE_ACCESS))
		return 0;
	struct fuse_req *r = fuse_req_new(fc, FUSE_ACCESS, n->nodeid);
	fuse_req_add(r, &(struct fuse_access_in){.mask = (uint32_t)mask & 7},
		     sizeof(struct fuse_access_in));
	int err = fuse_call(r, NULL, 0);
	return err == -ENOSYS ? 0 : err;
}

int fuse_permission(struct inode *in, int mask, const struct cred *c)
{
	struct fuse_node *n = node_of(in);
	struct fuse_conn *fc = conn_of(in);
	bool exec = mask & 1 && S_ISREG(in->mode);
	int err = fuse_may_use(fc, c);

	if (err)
		return err;
	if ((fc->default_permissions || exec) && (err = fuse_attr_refresh(n, false)))
		return err;
	if (fc->default_permissions)
		return inode_permission_generic(in, mask, c);
	if (mask & MAY_ACCESS)
		return ask_access(n, mask);
	return exec && !(in->mode & 0111) ? -EACCES : 0;
}
