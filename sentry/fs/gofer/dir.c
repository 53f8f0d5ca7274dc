/* Names: looking them up, making them, taking them away. */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "sentry/fs/gofer/client.h"

/* ---- lookup ---- */

struct walk_reply {
	struct gofer_walk_rep head;
	struct gofer_entry entry;
	char target[GOFER_PATH_LEN];
};

/* One name.  0 with an entry in *out (and target_len bytes of target), or -errno. */
static int walk_name(struct gofer_inode *dir, const char *name, size_t len, uint32_t flags,
		     struct walk_reply *out)
{
	struct gofer_walk_req rq = {.node = dir->node, .flags = flags, .count = 1};
	uint16_t wire_len = (uint16_t)len;
	struct rpc r = {
		.op = GOFER_WALK,
		.fixed = &rq,
		.fixed_len = sizeof(rq),
		.var = {{&wire_len, sizeof(wire_len)}, {(void *)name, len}},
		.rep = out,
		.rep_min = sizeof(out->head),
		.rep_max = sizeof(*out),
	};
	int err = gofer_rpc(gi_conn(dir), &r);

	if (err)
		return err;
	if (out->head.count == 0 && out->head.stop < 0 && out->head.stop >= -133)
		return out->head.stop == -EAGAIN ? -EIO : out->head.stop;
	if (out->head.count != 1 || out->head.stop != 0 ||
	    out->head.target_len > sizeof(out->target) ||
	    r.rep_len != offsetof(struct walk_reply, target) + out->head.target_len ||
	    memchr(out->target, 0, out->head.target_len) ||
	    (out->head.target_len && !S_ISLNK(out->entry.attr.mode)))
		return gofer_conn_fail(gi_conn(dir), "a malformed answer to a look-up");
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
	dentry_instantiate(d, in);
	return 0;
}

/*
 * The gofer holds a descriptor for each file we know, and has a limit: when it is reached, what
 * the vfs remembers without need is given up, and the name asked for once more.
 */
#define DENTRIES_KEPT_WHEN_SHORT 1024

int gofer_lookup(struct inode *dir, struct dentry *d)
{
	struct walk_reply w;

	if (gofer_ahead_lookup(gi_of(dir), d->name, d->name_len, &w.entry))
		return instantiate(dir, d, &w.entry, NULL, 0);
	int err = walk_name(gi_of(dir), d->name, d->name_len, GOFER_WALK_TARGET, &w);
	if (err == -EMFILE || err == -ENFILE) {
		dcache_shrink(DENTRIES_KEPT_WHEN_SHORT);
		err = walk_name(gi_of(dir), d->name, d->name_len, GOFER_WALK_TARGET, &w);
	}
	if (err == -ENOENT) {
		stamp(d);
		return 0;
	}
	return err ? err : instantiate(dir, d, &w.entry, w.target, w.head.target_len);
}

/*
 * Shared mode: does the name still mean this file?  One question brings both that and fresh
 * attributes.  A trouble with the gofer is found out by whoever uses the file.
 */
int gofer_revalidate(struct dentry *d, bool fast)
{
	char name[VFS_NAME_MAX + 1];
	struct walk_reply w;
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
	int err = walk_name(gi_of(parent->inode), name, strlen(name), GOFER_WALK_STAT, &w);
	dentry_put(parent);
	const struct gofer_attr *a = &w.entry.attr;
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
	atomic_store(&gi_of(dir)->stale, true);
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
	    cred_in_group(c, dir->gid) || cred_capable(c, CAP_FSETID))
		return mode;
	return mode & ~(uint32_t)S_ISGID;
}

static int make_name(struct inode *dir, struct dentry *d, const struct make *m,
		     const struct cred *c)
{
	struct gofer_inode *gdir = gi_of(dir);
	size_t tlen = m->target ? strlen(m->target) : 0;
	struct gofer_name_req rq = {
		.dir = gdir->node,
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
	};

	if (dir->sb->readonly)
		return -EROFS;
	if (tlen > GOFER_PATH_LEN)
		return -ENAMETOOLONG;
	int err = gofer_rpc(gi_conn(gdir), &r);
	if (err)
		return err;
	dir_changed(dir);
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
		gofer_adopt_fd(gi, r.fds[0]);
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

	(void)rdev;
	if (type != S_IFREG && type != S_IFIFO && type != S_IFSOCK)
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
		.dir = gi_of(dir)->node,
		.target = gi->node,
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
	int err = gofer_rpc(gi_conn(gi), &r);
	if (err)
		return err;
	dir_changed(dir);
	/* The size may have moved on since the gofer looked: only the count is taken from here. */
	mutex_lock(&target->lock, &lc_inode);
	target->nlink = a.nlink;
	mutex_unlock(&target->lock, &lc_inode);
	atomic_store(&gi->stale, true);
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
	atomic_store(&gi_of(in)->stale, true);
	if (!last)
		return;
	/* Descriptors that are only cached would keep the file's space. */
	gofer_pin(gi_of(in));
	gofer_unpin(gi_of(in));
}

static int remove_name(struct inode *dir, struct dentry *d, uint32_t flags)
{
	struct gofer_unlink_req rq = {
		.dir = gi_of(dir)->node,
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
	int err = gofer_rpc(gi_conn(gi_of(dir)), &r);
	if (err)
		return err;
	dir_changed(dir);
	gofer_ahead_forget(gi_of(dir), d->name, d->name_len);
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

int gofer_rename(struct inode *olddir, struct dentry *oldd, struct inode *newdir,
		 struct dentry *newd, unsigned flags)
{
	struct gofer_rename_req rq = {
		.olddir = gi_of(olddir)->node,
		.newdir = gi_of(newdir)->node,
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
	if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE))
		return -EINVAL;
	int err = gofer_rpc(gi_conn(gi_of(olddir)), &r);
	if (err)
		return err;
	dir_changed(olddir);
	dir_changed(newdir);
	gofer_ahead_forget(gi_of(olddir), oldd->name, oldd->name_len);
	gofer_ahead_forget(gi_of(newdir), newd->name, newd->name_len);
	if (oldd->inode)
		dir_changed(oldd->inode);
	if (newd->inode && flags & RENAME_EXCHANGE)
		dir_changed(newd->inode);
	else if (newd->inode && newd->inode != oldd->inode)
		lost_name(newd->inode);
	stamp(oldd);
	return 0;
}
