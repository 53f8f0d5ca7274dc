/*
 * Path walks.  Source: path_resolution(7), symlink(7), openat2(2).
 *
 * A walk holds lc_dcache from the first to the last component as long as everything it needs is
 * cached; under it, dentries, mounts and their links cannot go away, so nothing on the way is
 * counted.  Where a file system must be asked, unlazy() takes references to the current directory
 * and leaves the lock; afterwards the walk goes on under it.
 */
#include <stdlib.h>
#include <sys/mount.h>
#include <string.h>

#include "sentry/vfs/internal.h"

static void walk_lock(struct walk *w) NO_LOCK_ANALYSIS
{
	mutex_lock(&dcache_lock, &lc_dcache);
	w->locked = true;
}

/* Leaves the lock with references to cur, which replace those held before. */
static void unlazy(struct walk *w) NO_LOCK_ANALYSIS
{
	struct path old = w->hold;
	struct dentry *stale = w->stale;

	if (!w->locked)
		return;
	mount_get(w->cur.mnt);
	dentry_get_locked(w->cur.dentry);
	w->hold = w->cur;
	w->stale = NULL;
	w->locked = false;
	mutex_unlock(&dcache_lock, &lc_dcache);
	if (old.mnt)
		path_put(old);
	dentry_put(stale);
}

int walk_start(struct walk *w, const struct walk_env *env, const char *name, unsigned flags)
{
	w->env = env;
	w->flags = flags;
	w->root = flags & (WALK_BENEATH | WALK_IN_ROOT) ? env->start : env->root;
	w->cur = name[0] == '/' ? w->root : env->start;
	w->hold = (struct path){NULL, NULL};
	w->stale = NULL;
	w->rest = name;
	w->last = NULL;
	w->last_len = 0;
	w->trailing = w->locked = w->peeked = false;
	w->peek = NULL;
	w->depth = w->nlinks = w->nholds = 0;
	if (!name[0] && !(flags & WALK_EMPTY))
		return -ENOENT;
	if (name[0] == '/' && flags & WALK_BENEATH)
		return -EXDEV;
	return 0;
}

void walk_end(struct walk *w)
{
	if (w->locked)
		unlazy(w);
	if (w->hold.mnt)
		path_put(w->hold);
	for (int i = 0; i < w->nholds; i++) {
		inode_put(w->holds[i].in);
		free(w->holds[i].buf);
	}
}

/* May the walk look names up in cur? */
static int may_lookup(struct walk *w)
{
	struct inode *in = w->cur.dentry->inode;

	if (!in->ops->lookup)
		return -ENOTDIR;
	if (!in->ops->permission)
		return inode_permission_generic(in, MAY_EXEC, w->env->cred);
	unlazy(w);
	int err = in->ops->permission(in, MAY_EXEC, w->env->cred);
	walk_lock(w);
	return err;
}

static int cross_mounts(struct walk *w, struct path *p) REQUIRES(lc_dcache)
{
	struct mount *m;

	while (p->dentry->mounted && (m = mount_find(p->mnt, p->dentry))) {
		if (w->flags & WALK_NO_XDEV)
			return -EXDEV;
		p->mnt = m;
		p->dentry = m->root;
	}
	return 0;
}

static int step_up(struct walk *w) REQUIRES(lc_dcache)
{
	struct path p = w->cur;

	for (;;) {
		if (p.dentry == w->root.dentry && p.mnt == w->root.mnt)
			return w->flags & WALK_BENEATH ? -EXDEV : 0;
		if (p.dentry != p.mnt->root) {
			p.dentry = p.dentry->parent;
			break;
		}
		if (!p.mnt->parent)
			return 0;
		if (w->flags & WALK_NO_XDEV)
			return -EXDEV;
		p.dentry = p.mnt->mountpoint;
		p.mnt = p.mnt->parent;
	}
	int err = cross_mounts(w, &p);
	if (!err)
		w->cur = p;
	return err;
}

/* Only attributes are wanted, and a link would not be followed: then the file system may know them.
 * 1, 0 or -ENOENT as inode_ops.peek. */
static int step_peek(struct walk *w, const char *name, size_t len) NO_LOCK_ANALYSIS
{
	struct inode *dir = w->cur.dentry->inode;
	int known = dir->ops->peek ? dir->ops->peek(dir, name, len, w->peek) : 0;

	if (known <= 0 || (S_ISLNK(w->peek->mode) && !(w->flags & WALK_NOFOLLOW)))
		return MIN(known, 0);
	stat_finish(w->peek, dir->sb, w->cur.mnt, false);
	w->peeked = true;
	return 1;
}

/* The child of cur by that name, borrowed from the lock; negative ones too.  Without one (and no
 * error): it was peeked at. */
static int step_lookup(struct walk *w, const char *name, size_t len, bool last,
		       struct dentry **out) NO_LOCK_ANALYSIS
{
	struct dentry *dir = w->cur.dentry;

	if (len > VFS_NAME_MAX)
		return -ENAMETOOLONG;
	struct dentry *d = dcache_find(dir, name, len, name_hash(name, len));
	if (d) {
		int (*revalidate)(struct dentry *, bool) = d->sb->ops->revalidate;
		if (d->mounted || d->mount_below ||
		    (!d->sb->no_dcache && (!revalidate || revalidate(d, true) == 1))) {
			*out = d;
			return 0;
		}
	} else if (last && w->peek && !w->trailing && !(w->flags & WALK_DIRECTORY)) {
		int known = step_peek(w, name, len);
		if (known)
			return MIN(known, 0);
	}
	unlazy(w);
	struct lookup_hint hint = {w->rest, w->flags & WALK_OPEN && !w->depth};
	int err = dentry_lookup_ahead(dir, name, len, &hint, &d);
	walk_lock(w);
	if (err)
		return err;
	w->stale = d; /* our reference goes when the lock does */
	*out = d;
	return 0;
}

/* Reads a link that is not cached with its inode; without the lock. */
static int read_link(struct walk *w, struct link_hold *h, const char **text)
{
	struct inode *in = h->in;

	if (!in->ops->readlink)
		return -EINVAL;
	h->buf = malloc(VFS_PATH_MAX + 1);
	if (!h->buf)
		return -ENOMEM;
	ssize_t n = in->ops->readlink(in, h->buf, VFS_PATH_MAX);
	if (n < 0)
		return (int)n;
	if (n == 0)
		return -ENOENT;
	if (n >= VFS_PATH_MAX)
		return -ENAMETOOLONG;
	h->buf[n] = '\0';
	*text = h->buf;
	bool live = in->sb->no_dcache || in->sb->ops->lock;
	char *copy = live ? NULL : strdup(h->buf), *none = NULL;
	if (copy && !atomic_compare_exchange_strong(&in->link, &none, copy))
		free(copy);
	(void)w;
	return 0;
}

/* A magic link leads straight to a file, whatever its text. */
static int jump(struct walk *w, struct path to)
{
	if (w->flags & (WALK_BENEATH | WALK_IN_ROOT) ||
	    (w->flags & WALK_NO_XDEV && to.mnt != w->cur.mnt)) {
		path_put(to);
		return -EXDEV;
	}
	path_put(w->hold);
	w->hold = w->cur = to;
	return 0;
}

/*
 * Goes on with the target of the symlink `in`, found in cur.  Called and returns with the lock.
 * *jumped: it was a magic link, and cur is where it leads.
 */
static int follow(struct walk *w, struct inode *in, bool *jumped) NO_LOCK_ANALYSIS
{
	*jumped = false;
	if (w->nlinks >= VFS_SYMLINK_MAX || w->flags & WALK_NO_SYMLINKS ||
	    w->cur.mnt->flags & MS_NOSYMFOLLOW)
		return -ELOOP;
	w->nlinks++;
	struct link_hold *h = &w->holds[w->nholds++];
	*h = (struct link_hold){inode_get(in), NULL};
	const char *text = in->link;
	if (!text) {
		struct path to;
		int err;

		unlazy(w);
		if (in->ops->follow_link) {
			err = w->flags & WALK_NO_MAGICLINKS ? -ELOOP
							    : in->ops->follow_link(in, &to);
			if (!err)
				err = jump(w, to);
			*jumped = true;
		} else {
			err = read_link(w, h, &text);
		}
		walk_lock(w);
		if (err || *jumped)
			return err;
	}
	if (*w->rest)
		w->stack[w->depth++] = w->rest;
	w->rest = text;
	if (*text == '/') {
		if (w->flags & WALK_BENEATH ||
		    (w->flags & WALK_NO_XDEV && w->cur.mnt != w->root.mnt))
			return -EXDEV;
		w->cur = w->root;
	}
	return 0;
}

/* One component that is an ordinary name. */
static int step_name(struct walk *w, const char *name, size_t len, bool last) NO_LOCK_ANALYSIS
{
	struct dentry *d = NULL;
	int err = step_lookup(w, name, len, last, &d);

	if (err || w->peeked)
		return err;
	if (!d->inode)
		return -ENOENT;
	struct path p = {w->cur.mnt, d};
	if ((err = cross_mounts(w, &p)))
		return err;
	struct inode *in = p.dentry->inode;
	if (S_ISLNK(in->mode) && !(last && w->flags & WALK_NOFOLLOW && !w->trailing)) {
		bool jumped;
		if (last && w->trailing)
			w->flags |= WALK_DIRECTORY;
		return follow(w, in, &jumped);
	}
	w->cur = p;
	return 0;
}

/* Walks to the end, or to the last component.  Leaves with the lock held. */
static int walk_run(struct walk *w, bool to_parent) NO_LOCK_ANALYSIS
{
	int err = 0;

	walk_lock(w);
	while (!err) {
		const char *name = w->rest;
		while (*name == '/')
			name++;
		if (!*name) {
			if (!w->depth)
				break;
			w->rest = w->stack[--w->depth];
			continue;
		}
		const char *end = name, *next;
		while (*end && *end != '/')
			end++;
		for (next = end; *next == '/'; next++)
			;
		size_t len = (size_t)(end - name);
		bool last = !*next && !w->depth;
		w->trailing = last && *end;
		w->rest = next;
		if ((err = may_lookup(w)))
			break;
		if (last && to_parent) {
			w->last = name;
			w->last_len = len;
			break;
		}
		if (name[0] == '.' && len == 1)
			continue;
		if (name[0] == '.' && name[1] == '.' && len == 2)
			err = step_up(w);
		else
			err = step_name(w, name, len, last);
	}
	return err;
}

int walk_to_parent(struct walk *w)
{
	w->last = NULL;
	w->last_len = 0;
	int err = walk_run(w, true);
	unlazy(w);
	return err;
}

int walk_follow_last(struct walk *w, struct dentry *d, bool *jumped)
{
	if (w->trailing)
		w->flags |= WALK_DIRECTORY;
	walk_lock(w);
	int err = follow(w, dentry_inode(d), jumped);
	unlazy(w);
	return err;
}

int walk_lookup_last(struct walk *w, struct dentry **out)
{
	return dentry_lookup(w->cur.dentry, w->last, w->last_len, out);
}

int path_cross_mounts(struct path *p, unsigned flags)
{
	struct mount *m;

	while ((m = mount_lookup(p->mnt, p->dentry))) {
		if (flags & WALK_NO_XDEV) {
			mount_put(m);
			return -EXDEV;
		}
		struct path next = {m, dentry_get(m->root)};
		path_put(*p);
		*p = next;
	}
	return 0;
}

/* peek: see struct walk; if it could be, *out is not set. */
static int walk_whole(const struct walk_env *env, const char *name, unsigned flags,
		      struct path *out, struct kstat *peek, bool *peeked) NO_LOCK_ANALYSIS
{
	struct walk w;
	int err = walk_start(&w, env, name, flags);

	if (err)
		return err;
	w.peek = peek;
	err = walk_run(&w, false);
	*peeked = w.peeked;
	if (!err && (w.trailing || w.flags & WALK_DIRECTORY) && !w.cur.dentry->inode->ops->lookup)
		err = -ENOTDIR;
	if (!err && !w.peeked) {
		mount_get(w.cur.mnt);
		dentry_get_locked(w.cur.dentry);
		*out = w.cur;
	}
	if (w.stale || w.hold.mnt || w.nholds) {
		walk_end(&w);
	} else {
		w.locked = false;
		mutex_unlock(&dcache_lock, &lc_dcache);
	}
	return err;
}

int path_walk(const struct walk_env *env, const char *name, unsigned flags, struct path *out)
{
	bool peeked;

	return walk_whole(env, name, flags, out, NULL, &peeked);
}

int vfs_stat(const struct walk_env *env, const char *name, unsigned flags, struct kstat *st)
{
	CLEANUP_PATH struct path p = {NULL, NULL};
	bool peeked;
	int err = walk_whole(env, name, flags, &p, st, &peeked);

	return err || peeked ? err : vfs_getattr(p, st);
}

int path_walk_parent(const struct walk_env *env, const char *name, unsigned flags,
		     struct path *parent, const char **last, size_t *last_len, bool *trailing_slash)
{
	struct walk w;
	int err = walk_start(&w, env, name, flags);

	if (!err)
		err = walk_to_parent(&w);
	if (!err) {
		*parent = path_get(w.cur);
		*last = w.last ? w.last : name + strlen(name);
		*last_len = w.last_len;
		*trailing_slash = w.trailing;
	}
	walk_end(&w);
	return err;
}

/* ---- the way back: from a path to its name ---- */

struct name_buf {
	char *start, *low;
};

static bool prepend(struct name_buf *b, const char *s, size_t len)
{
	if ((size_t)(b->start - b->low) < len)
		return false;
	b->start -= len;
	memcpy(b->start, s, len);
	return true;
}

static int prepend_path(struct name_buf *b, struct path p, struct path root) REQUIRES(lc_dcache)
{
	bool any = false;

	while (p.dentry != root.dentry || p.mnt != root.mnt) {
		if (p.dentry == p.mnt->root) {
			if (!p.mnt->parent)
				return -ENOENT;
			p.dentry = p.mnt->mountpoint;
			p.mnt = p.mnt->parent;
			continue;
		}
		if (!prepend(b, p.dentry->name, p.dentry->name_len) || !prepend(b, "/", 1))
			return -ENAMETOOLONG;
		any = true;
		p.dentry = p.dentry->parent;
	}
	return any || prepend(b, "/", 1) ? 0 : -ENAMETOOLONG;
}

ssize_t path_name(struct path p, struct path root, char *buf, size_t size, bool mark_deleted,
		  char **start)
{
	static const char deleted[] = " (deleted)";
	struct name_buf b = {buf + size - 1, buf};
	char *end = b.start;
	int err = 0;

	if (!size)
		return -ENAMETOOLONG;
	*end = '\0';
	mutex_lock(&dcache_lock, &lc_dcache);
	if (p.dentry->sb->pseudo && !p.mnt->parent) { /* not bound anywhere */
		if (!prepend(&b, p.dentry->name, p.dentry->name_len))
			err = -ENAMETOOLONG;
	} else {
		if (mark_deleted && !p.dentry->hashed && !prepend(&b, deleted, strlen(deleted)))
			err = -ENAMETOOLONG;
		if (!err)
			err = prepend_path(&b, p, root);
	}
	mutex_unlock(&dcache_lock, &lc_dcache);
	if (err)
		return err;
	*start = b.start;
	return end - b.start;
}
