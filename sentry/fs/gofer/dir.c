/* Names: looking them up, making them, taking them away. */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "sentry/fs/gofer/listing.h"
#include "sentry/lib/cleanup.h"

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

/* ---- lookup ---- */

#define AHEAD_MAX 8	      /* names of a path that are asked for at once */
#define LOOKUPS_BEFORE_LIST 4 /* in a directory that was not listed */

struct walk_reply {
	struct gofer_walk_rep head;
	struct gofer_entry entry[AHEAD_MAX]; /* as many as are found, and then the target */
	char target[GOFER_PATH_LEN];
};

/* The names of one request, as they go over the wire. */
struct walk_names {
	uint32_t count;
	size_t len;
	const char *name[AHEAD_MAX];
	uint16_t name_len[AHEAD_MAX];
	uint8_t wire[AHEAD_MAX * 64];
	int fd; /* out, with GOFER_WALK_OPEN: of the last one, or -1; the caller closes it */
};

static bool add_name(struct walk_names *n, const char *name, size_t len)
{
	uint16_t wire_len = (uint16_t)len;

	if (n->count == AHEAD_MAX || n->len + sizeof(wire_len) + len > sizeof(n->wire))
		return false;
	n->name[n->count] = name;
	n->name_len[n->count++] = wire_len;
	memcpy(n->wire + n->len, &wire_len, sizeof(wire_len));
	memcpy(n->wire + n->len + sizeof(wire_len), name, len);
	n->len += sizeof(wire_len) + len;
	return true;
}

/* The plain names that a path goes on with.  true: these are all. */
static bool add_path(struct walk_names *n, const char *path)
{
	while (path && *path) {
		size_t len = strcspn(path, "/");
		if (len > VFS_NAME_MAX || !memcmp(path, "..", MIN(len, 2UL)) ||
		    !add_name(n, path, len))
			return false;
		path += len + strspn(path + len, "/");
	}
	return true;
}

/*
 * Walks down the names.  0 with entries in *out, at least one, and the target of the last one if
 * that is a link (*target, in *out); or -errno of the first name.
 */
static int walk_down(struct gofer_inode *dir, struct walk_names *n, uint32_t flags,
		     struct walk_reply *out, const char **target)
{
	struct gofer_walk_req rq = {.flags = flags, .count = n->count};
	struct rpc r = {
		.op = GOFER_WALK,
		.fixed = &rq,
		.fixed_len = sizeof(rq),
		.var = {{(void *)n->wire, n->len}},
		.rep = out,
		.rep_min = sizeof(out->head),
		.rep_max = sizeof(*out),
		.fds_room = flags & GOFER_WALK_OPEN ? 1 : 0,
	};
	int err = gofer_node(dir, &rq.node);

	if (!err)
		err = gofer_rpc(gi_conn(dir), &r);
	if (err)
		return err;
	if (r.nfds)
		n->fd = r.fds[0];
	const struct gofer_walk_rep *h = &out->head;
	if (h->count == 0 && h->stop < 0 && h->stop >= -133)
		return h->stop == -EAGAIN ? -EIO : h->stop;
	*target = (const char *)&out->entry[MIN(h->count, n->count)];
	if (h->count == 0 || h->count > n->count || (h->stop == 0) != (h->count == n->count) ||
	    h->target_len > sizeof(out->target) ||
	    r.rep_len != (size_t)(*target - (const char *)out) + h->target_len ||
	    memchr(*target, 0, h->target_len) ||
	    (h->target_len && !S_ISLNK(out->entry[h->count - 1].attr.mode)))
		return gofer_conn_fail(gi_conn(dir), "a malformed answer to a look-up");
	for (uint32_t i = 0; i + 1 < h->count; i++)
		if (!S_ISDIR(out->entry[i].attr.mode))
			return gofer_conn_fail(gi_conn(dir), "a walk through what is no directory");
	return 0;
}

static void stamp(struct dentry *d)
{
	__atomic_store_n((uintptr_t *)&d->priv, (uintptr_t)gofer_now(), __ATOMIC_RELAXED);
}

/* Consumes the entry. */
static int instantiate(struct inode *dir, struct dentry *d, const struct gofer_entry *e,
		       const char *target, size_t target_len)
{
	struct inode *in;
	int err = gofer_inode_get(gsb_of(dir->sb), e, target, target_len, &in);

	if (err)
		return err;
	stamp(d);
	struct dentry *none = NULL;
	if (!gi_shared(gi_of(in)))
		atomic_compare_exchange_strong(&gi_of(in)->alias, &none, d);
	dentry_instantiate(d, in);
	return 0;
}

/* A name leaves the cache.  What its file became is not what was listed. */
void gofer_dentry_gone(struct dentry *d)
{
	struct gofer_inode *gi = gi_of(d->inode);
	struct dentry *alias = d;

	atomic_compare_exchange_strong(&gi->alias, &alias, NULL);
	if (atomic_load(&gi->changed) && d->parent != d)
		gofer_listing_outdated(gi_of(d->parent->inode), d->name, d->name_len);
}

/*
 * The gofer holds a descriptor for each file we know, and has a limit: when it is reached, what
 * the vfs remembers without need is given up, most of it first, and the name asked for once more.
 */
bool gofer_give_up_nodes(struct gofer_sb *gsb, int err, int round)
{
	static const size_t kept[] = {1024, 0};

	if ((err != -EMFILE && err != -ENFILE) || round >= (int)ARRAY_SIZE(kept))
		return false;
	gofer_listings_drop_all(gsb);
	dcache_shrink(kept[round]);
	return true;
}

static int walk_patiently(struct gofer_inode *dir, struct walk_names *n, uint32_t flags,
			  struct walk_reply *w, const char **target)
{
	int err = walk_down(dir, n, flags, w, target);

	for (int i = 0; gofer_give_up_nodes(gsb_of(dir->in.sb), err, i); i++)
		err = walk_down(dir, n, flags, w, target);
	return err;
}

/* The descriptor that came along is for this file: opening it will need no other. */
static void give_fd(struct walk_names *n, struct inode *in)
{
	if (n->fd >= 0 && S_ISREG(in->mode) && gofer_fd_is(gi_of(in), n->fd, O_RDONLY))
		gofer_adopt_fd(gi_of(in), steal_fd(&n->fd), true);
}

/* What was found beyond the name that was asked for.  Without memory it is just not remembered. */
static void remember(struct dentry *d, struct walk_names *n, const struct walk_reply *w,
		     const char *target)
{
	struct gofer_sb *gsb = gsb_of(d->sb);
	struct dentry *at = dentry_get(d);

	for (uint32_t i = 1; i < w->head.count; i++) {
		bool last = i + 1 == w->head.count;
		struct inode *in = NULL;
		int err = gofer_inode_get(gsb, &w->entry[i], last ? target : NULL,
					  last ? w->head.target_len : 0, &in);
		if (!err && last)
			give_fd(n, in);
		struct dentry *child =
			err || !at ? NULL : dentry_add_ahead(at, n->name[i], n->name_len[i], in);
		if (!err && !at)
			inode_put(in);
		dentry_put(at);
		at = child;
	}
	uint32_t i = w->head.count;
	if (at && w->head.stop == -ENOENT && S_ISDIR(at->inode->mode))
		dentry_put(dentry_add_ahead(at, n->name[i], n->name_len[i], NULL));
	dentry_put(at);
}

/* Names of a directory that are looked up one by one: soon it is cheaper to know them all. */
static enum listing_answer ask_listing(struct gofer_inode *dir, struct dentry *d,
				       struct gofer_entry *e)
{
	enum listing_answer answer;

	if (gi_shared(dir))
		return LISTING_UNKNOWN;
	answer = gofer_listing_lookup(dir, d->name, d->name_len, e);
	if (answer != LISTING_UNKNOWN || atomic_load(&dir->large))
		return answer;
	struct gofer_listing *l = gofer_listing_get_any(dir);
	bool plain = l && l->plain;
	listing_put(l);
	if (!plain &&
	    atomic_fetch_add(&dir->misses, 1) < LOOKUPS_BEFORE_LIST + atomic_load(&dir->names))
		return answer;
	gofer_list_alone(dir, d->parent);
	return gofer_listing_lookup(dir, d->name, d->name_len, e);
}

int gofer_lookup(struct inode *dir, struct dentry *d)
{
	struct walk_names n = {.count = 0, .fd = -1};
	const struct lookup_hint *hint = d->hint;
	uint32_t flags = GOFER_WALK_TARGET;
	struct walk_reply w;
	const char *target;
	int err;

	switch (ask_listing(gi_of(dir), d, &w.entry[0])) {
	case LISTING_FOUND:
		err = instantiate(dir, d, &w.entry[0], NULL, 0);
		if (err != -ESTALE)
			return err;
		gofer_listing_drop(gi_of(dir));
		break;
	case LISTING_NONE:
		return 0;
	case LISTING_UNKNOWN:
		break;
	}
	if (!add_name(&n, d->name, d->name_len))
		return -ENAMETOOLONG;
	if (!gi_shared(gi_of(dir)) && hint && add_path(&n, hint->rest) && hint->open)
		flags |= GOFER_WALK_OPEN;
	err = walk_patiently(gi_of(dir), &n, flags, &w, &target);
	if (err) {
		close_fd(n.fd);
		stamp(d);
		return err == -ENOENT ? 0 : err;
	}
	bool only = w.head.count == 1;
	err = instantiate(dir, d, &w.entry[0], only ? target : NULL, only ? w.head.target_len : 0);
	if (!err && n.count > 1)
		remember(d, &n, &w, target);
	else if (!err)
		give_fd(&n, d->inode);
	close_fd(n.fd);
	for (uint32_t i = 1; err && i < w.head.count; i++)
		gofer_close_node(gi_conn(gi_of(dir)), w.entry[i].node, false);
	return err;
}

/*
 * Shared mode: does the name still mean this file?  One question brings both that and fresh
 * attributes.  A trouble with the gofer is found out by whoever uses the file.
 */
int gofer_revalidate(struct dentry *d, bool fast)
{
	char name[VFS_NAME_MAX + 1];
	struct walk_names n = {.count = 0};
	struct walk_reply w;
	const char *target;
	int64_t then = (int64_t)__atomic_load_n((uintptr_t *)&d->priv, __ATOMIC_RELAXED);

	if (d == d->sb->root || gofer_now() - then < GOFERFS_WINDOW_NS)
		return 1;
	if (fast)
		return -EAGAIN;
	struct inode *in = __atomic_load_n(&d->inode, __ATOMIC_ACQUIRE);
	if (!in)
		return 0;
	struct gofer_inode *gi = gi_of(in);
	struct dentry *parent = dentry_get_parent(d, name);
	int err = -EIO;
	if (add_name(&n, name, strlen(name)))
		err = walk_down(gi_of(parent->inode), &n, GOFER_WALK_STAT, &w, &target);
	dentry_put(parent);
	const struct gofer_attr *a = &w.entry[0].attr;
	if (err || a->ino != gi->host_ino ||
	    ((uint64_t)a->dev_major << 32 | a->dev_minor) != gi->host_dev)
		return 0;
	mutex_lock(&in->data_lock, &lc_inode_data2);
	err = gofer_set_attr(gi, a);
	mutex_unlock(&in->data_lock, &lc_inode_data2);
	stamp(d);
	return err ? 0 : 1;
}

/* ---- making names ---- */

static void dir_changed(struct inode *dir)
{
	gofer_changed(gi_of(dir));
}

struct make {
	uint16_t op;
	uint32_t mode;
	const char *target; /* symlinks */
	bool want_fd;
};

/* set-group-ID of a file made in such a directory by somebody outside the group (inode(7)). */
static uint32_t strip_setgid(struct inode *dir, uint32_t mode, const struct cred *c)
{
	const uint32_t bits = S_ISGID | S_IXGRP;

	if (S_ISDIR(mode) || (mode & bits) != bits || !(dir->mode & S_ISGID) ||
	    cred_in_group(c, dir->gid) || inode_capable(dir, c, CAP_FSETID))
		return mode;
	return mode & ~(uint32_t)S_ISGID;
}

static int make_name(struct inode *dir, struct dentry *d, const struct make *m,
		     const struct cred *c)
{
	struct gofer_inode *gdir = gi_of(dir);
	size_t tlen = m->target ? strlen(m->target) : 0;
	struct gofer_name_req rq = {
		.mode = m->mode,
		.uid = c->fsuid,
		.gid = c->fsgid,
		.name_len = d->name_len,
		.target_len = (uint16_t)tlen,
	};
	struct gofer_entry e;
	struct rpc r = {
		.op = m->op,
		.fixed = &rq,
		.fixed_len = sizeof(rq),
		.var = {{(void *)d->name, d->name_len}, {(void *)m->target, tlen}},
		.rep = &e,
		.rep_min = sizeof(e),
		.rep_max = sizeof(e),
		.fds_room = m->want_fd,
	};

	if (dir->sb->readonly)
		return -EROFS;
	if (tlen > GOFER_PATH_LEN)
		return -ENAMETOOLONG;
	int err = gofer_node(gdir, &rq.dir);
	if (!err)
		err = gofer_rpc(gi_conn(gdir), &r);
	if (err)
		return err;
	dir_changed(dir);
	gofer_listing_added(gdir, d->name, d->name_len);
	if (r.nfds != (m->want_fd ? 1 : 0)) {
		for (unsigned i = 0; i < r.nfds; i++)
			close(r.fds[i]);
		return gofer_conn_fail(gi_conn(gdir), "a new file came without its descriptor");
	}
	err = instantiate(dir, d, &e, m->target, tlen);
	if (!m->want_fd)
		return err;
	if (err) {
		close(r.fds[0]);
		return err;
	}
	struct gofer_inode *gi = gi_of(d->inode);
	if (gofer_check_fd(gi, r.fds[0], O_RDWR) == 0)
		gofer_adopt_fd(gi, r.fds[0], false);
	return 0;
}

int gofer_create(struct inode *dir, struct dentry *d, uint32_t mode, const struct cred *c)
{
	struct make m = {
		.op = GOFER_CREATE,
		.mode = strip_setgid(dir, mode, c) & 07777,
		.want_fd = true,
	};

	return make_name(dir, d, &m, c);
}

int gofer_mkdir(struct inode *dir, struct dentry *d, uint32_t mode, const struct cred *c)
{
	return make_name(dir, d, &(struct make){.op = GOFER_MKDIR, .mode = mode & 07777}, c);
}

int gofer_mknod(struct inode *dir, struct dentry *d, uint32_t mode, uint64_t rdev,
		const struct cred *c)
{
	uint32_t type = mode & S_IFMT;

	/* Of devices only whiteouts, which are none. */
	if (type != S_IFREG && type != S_IFIFO && type != S_IFSOCK && !(type == S_IFCHR && !rdev))
		return -EPERM;
	struct make m = {
		.op = GOFER_MKNOD,
		.mode = strip_setgid(dir, mode, c) & (S_IFMT | 07777),
	};
	return make_name(dir, d, &m, c);
}

int gofer_symlink(struct inode *dir, struct dentry *d, const char *target, const struct cred *c)
{
	return make_name(dir, d, &(struct make){.op = GOFER_SYMLINK, .target = target}, c);
}

int gofer_link(struct inode *dir, struct dentry *d, struct inode *target)
{
	struct gofer_inode *gi = gi_of(target);
	struct gofer_link_req rq = {
		.name_len = d->name_len,
	};
	struct gofer_attr a;
	struct rpc r = {
		.op = GOFER_LINK,
		.fixed = &rq,
		.fixed_len = sizeof(rq),
		.var = {{(void *)d->name, d->name_len}},
		.rep = &a,
		.rep_min = sizeof(a),
		.rep_max = sizeof(a),
	};

	if (dir->sb->readonly)
		return -EROFS;
	int err = gofer_node(gi_of(dir), &rq.dir);
	if (!err)
		err = gofer_node(gi, &rq.target);
	if (!err)
		err = gofer_rpc(gi_conn(gi), &r);
	if (err)
		return err;
	dir_changed(dir);
	gofer_listing_added(gi_of(dir), d->name, d->name_len);
	/* The size may have moved on since the gofer looked: only the count is taken from here. */
	mutex_lock(&target->lock, &lc_inode);
	target->nlink = a.nlink;
	mutex_unlock(&target->lock, &lc_inode);
	gofer_changed(gi);
	stamp(d);
	dentry_instantiate(d, inode_get(target));
	return 0;
}

/* ---- taking names away ---- */

/* The file lost a name.  A directory loses its only one. */
static void lost_name(struct inode *in)
{
	mutex_lock(&in->lock, &lc_inode);
	if (S_ISDIR(in->mode))
		in->nlink = 0;
	else if (in->nlink)
		in->nlink--;
	bool last = in->nlink == 0;
	mutex_unlock(&in->lock, &lc_inode);
	gofer_changed(gi_of(in));
	if (!last)
		return;
	/* Its number may be another file's soon. */
	gofer_unlisted(gi_of(in));
	/* Descriptors that are only cached would keep the file's space. */
	gofer_pin(gi_of(in));
	gofer_unpin(gi_of(in));
}

/* What loses its name and is used on is only found by a node. */
static int prepare_loss(struct dentry *d)
{
	struct gofer_inode *gi = d->inode ? gi_of(d->inode) : NULL;
	uint64_t node;

	if (!gi)
		return 0;
	if (S_ISDIR(gi->in.mode))
		gofer_listing_drop(gi);
	return dentry_is_shared(d) ? gofer_node(gi, &node) : 0;
}

static int remove_name(struct inode *dir, struct dentry *d, uint32_t flags)
{
	struct gofer_unlink_req rq = {
		.flags = flags,
		.name_len = d->name_len,
	};
	struct rpc r = {
		.op = GOFER_UNLINK,
		.fixed = &rq,
		.fixed_len = sizeof(rq),
		.var = {{(void *)d->name, d->name_len}},
	};

	if (dir->sb->readonly)
		return -EROFS;
	int err = gofer_node(gi_of(dir), &rq.dir);
	if (!err)
		err = prepare_loss(d);
	if (!err)
		err = gofer_rpc(gi_conn(gi_of(dir)), &r);
	if (err)
		return err;
	dir_changed(dir);
	gofer_listing_removed(gi_of(dir), d->name, d->name_len);
	if (d->inode)
		lost_name(d->inode);
	return 0;
}

int gofer_unlink(struct inode *dir, struct dentry *d)
{
	return remove_name(dir, d, 0);
}

int gofer_rmdir(struct inode *dir, struct dentry *d)
{
	return remove_name(dir, d, GOFER_UNLINK_DIR);
}

/* Files that are moved have nodes: while the host's names and ours differ, nobody goes by name. */
static int prepare_rename(struct inode *olddir, struct dentry *oldd, struct inode *newdir,
			  struct dentry *newd, struct gofer_rename_req *rq)
{
	uint64_t node;
	int err = gofer_node(gi_of(olddir), &rq->olddir);

	if (!err)
		err = gofer_node(gi_of(newdir), &rq->newdir);
	if (!err)
		err = gofer_node(gi_of(oldd->inode), &node);
	if (!err && rq->flags & RENAME_EXCHANGE && newd->inode)
		err = gofer_node(gi_of(newd->inode), &node);
	return err ? err : prepare_loss(newd);
}

int gofer_rename(struct inode *olddir, struct dentry *oldd, struct inode *newdir,
		 struct dentry *newd, unsigned flags)
{
	struct gofer_rename_req rq = {
		.flags = flags,
		.old_len = oldd->name_len,
		.new_len = newd->name_len,
	};
	struct rpc r = {
		.op = GOFER_RENAME,
		.fixed = &rq,
		.fixed_len = sizeof(rq),
		.var = {{(void *)oldd->name, oldd->name_len}, {(void *)newd->name, newd->name_len}},
	};

	if (olddir->sb->readonly)
		return -EROFS;
	if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT))
		return -EINVAL;
	int err = prepare_rename(olddir, oldd, newdir, newd, &rq);
	if (!err)
		err = gofer_rpc(gi_conn(gi_of(olddir)), &r);
	if (err)
		return err;
	dir_changed(olddir);
	dir_changed(newdir);
	gofer_listing_removed(gi_of(olddir), oldd->name, oldd->name_len);
	gofer_listing_added(gi_of(newdir), newd->name, newd->name_len);
	if (flags & (RENAME_EXCHANGE | RENAME_WHITEOUT))
		gofer_listing_added(gi_of(olddir), oldd->name, oldd->name_len);
	if (oldd->inode)
		dir_changed(oldd->inode);
	if (newd->inode && flags & RENAME_EXCHANGE)
		dir_changed(newd->inode);
	else if (newd->inode && newd->inode != oldd->inode)
		lost_name(newd->inode);
	stamp(oldd);
	return 0;
}
