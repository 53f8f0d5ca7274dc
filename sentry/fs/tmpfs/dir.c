/* Directories: entries and the operations on names. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/fs/tmpfs/node.h"

#define ENTRY_SIZE 20 /* what Linux's tmpfs adds to a directory's size for each name */
#define FIRST_POS 2   /* 0 and 1 are "." and ".." */

/* ---- the set of entries; the directory's data_lock is held ---- */

static uint32_t name_hash(const char *name, size_t len)
{
	uint32_t h = 2166136261u;
	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char)name[i]) * 16777619u;
	return h ^ h >> 15;
}

static struct tmpfs_entry *entry_find(struct tmpfs_dir *dir, const char *name, size_t len)
{
	if (!dir->count)
		return NULL;
	uint32_t h = name_hash(name, len);
	struct tmpfs_entry *e = dir->buckets[h & (dir->nbuckets - 1)];
	while (e && !(e->hash == h && e->len == len && !memcmp(e->name, name, len)))
		e = e->hash_next;
	return e;
}

/* Grows the hash table when there are more entries than buckets.  -ENOMEM only without a table. */
static int dir_reserve(struct tmpfs_dir *dir)
{
	if (dir->count < dir->nbuckets)
		return 0;
	size_t n = dir->nbuckets ? dir->nbuckets * 2 : 8;
	struct tmpfs_entry **buckets = calloc(n, sizeof(struct tmpfs_entry *));
	if (!buckets)
		return dir->nbuckets ? 0 : -ENOMEM;
	for (size_t i = 0; i < dir->nbuckets; i++) {
		struct tmpfs_entry *e = dir->buckets[i], *next;
		for (; e; e = next) {
			next = e->hash_next;
			e->hash_next = buckets[e->hash & (n - 1)];
			buckets[e->hash & (n - 1)] = e;
		}
	}
	free(dir->buckets);
	dir->buckets = buckets;
	dir->nbuckets = n;
	return 0;
}

static void entry_insert(struct tmpfs_dir *dir, struct tmpfs_entry *e)
{
	struct tmpfs_entry **bucket = &dir->buckets[e->hash & (dir->nbuckets - 1)];
	e->hash_next = *bucket;
	*bucket = e;
	e->pos = dir->next_pos++;
	struct rb_node *last = rb_last(&dir->by_pos); /* positions only grow */
	rb_insert(&dir->by_pos, &e->by_pos, last, last ? &last->right : &dir->by_pos.node);
	dir->count++;
}

static void entry_remove(struct tmpfs_dir *dir, struct tmpfs_entry *e)
{
	struct tmpfs_entry **p = &dir->buckets[e->hash & (dir->nbuckets - 1)];
	while (*p != e)
		p = &(*p)->hash_next;
	*p = e->hash_next;
	rb_erase(&dir->by_pos, &e->by_pos);
	dir->count--;
}

static struct tmpfs_entry *entry_alloc(const char *name, size_t len)
{
	struct tmpfs_entry *e = malloc(sizeof(*e) + len + 1);
	if (!e)
		return NULL;
	e->hash = name_hash(name, len);
	e->len = len;
	memcpy(e->name, name, len);
	e->name[len] = '\0';
	return e;
}

void tmpfs_dir_init(struct tmpfs_inode *ti)
{
	ti->dir.next_pos = FIRST_POS;
	ti->in.size = 2 * ENTRY_SIZE;
}

/* Moves all entries of `from` to `to`, which are both past use: names may be double. */
static void dir_steal(struct tmpfs_dir *to, struct tmpfs_dir *from)
{
	struct rb_node *n;
	while ((n = rb_first(&from->by_pos))) {
		struct tmpfs_entry *e = rb_entry(n, struct tmpfs_entry, by_pos);
		entry_remove(from, e);
		entry_insert(to, e);
	}
}

/*
 * The directory goes, and with it what is in it (only when the whole instance goes are there
 * entries left).  Guests decide how deep trees are, so subdirectories hand their entries up instead
 * of being freed recursively.
 */
void tmpfs_dir_fini(struct tmpfs_inode *ti)
{
	struct rb_node *n;
	while ((n = rb_first(&ti->dir.by_pos))) {
		struct tmpfs_entry *e = rb_entry(n, struct tmpfs_entry, by_pos);
		entry_remove(&ti->dir, e);
		if (S_ISDIR(e->in->mode) && ref_read(&e->in->ref) == 1)
			dir_steal(&ti->dir, &tmpfs_inode(e->in)->dir);
		inode_put(e->in);
		free(e);
	}
	free(ti->dir.buckets);
}

/* ---- changes of a directory, as a whole ---- */

/* Adds a name for `in` (takes a reference). */
static int dir_add(struct inode *dir, const struct dentry *d, struct inode *in)
{
	struct tmpfs_dir *td = &tmpfs_inode(dir)->dir;
	struct tmpfs_entry *e = entry_alloc(d->name, d->name_len);
	if (!e)
		return -ENOMEM;
	e->in = inode_get(in);

	mutex_lock(&dir->data_lock, &lc_inode_data);
	int err = entry_find(td, d->name, d->name_len) ? -EEXIST : dir_reserve(td);
	if (!err)
		entry_insert(td, e);
	mutex_unlock(&dir->data_lock, &lc_inode_data);
	if (err) {
		inode_put(e->in);
		free(e);
	}
	return err;
}

/* Takes a name away: returns the reference that it had. */
static struct inode *dir_remove(struct inode *dir, const struct dentry *d)
{
	struct tmpfs_dir *td = &tmpfs_inode(dir)->dir;
	mutex_lock(&dir->data_lock, &lc_inode_data);
	struct tmpfs_entry *e = entry_find(td, d->name, d->name_len);
	if (e)
		entry_remove(td, e);
	mutex_unlock(&dir->data_lock, &lc_inode_data);
	struct inode *in = e ? e->in : NULL;
	free(e);
	return in;
}

/* Lets a name mean another inode (consumes its reference): returns the old one's. */
static struct inode *dir_replace(struct inode *dir, const struct dentry *d, struct inode *in)
{
	struct inode *old = NULL;
	mutex_lock(&dir->data_lock, &lc_inode_data);
	struct tmpfs_entry *e = entry_find(&tmpfs_inode(dir)->dir, d->name, d->name_len);
	if (e) {
		old = e->in;
		e->in = in;
	}
	mutex_unlock(&dir->data_lock, &lc_inode_data);
	return old;
}

static struct inode *dir_find(struct inode *dir, const struct dentry *d)
{
	mutex_lock(&dir->data_lock, &lc_inode_data);
	struct tmpfs_entry *e = entry_find(&tmpfs_inode(dir)->dir, d->name, d->name_len);
	struct inode *in = e ? inode_get(e->in) : NULL;
	mutex_unlock(&dir->data_lock, &lc_inode_data);
	return in;
}

static void change_nlink(struct inode *in, int by)
{
	mutex_lock(&in->lock, &lc_inode);
	in->nlink += by;
	mutex_unlock(&in->lock, &lc_inode);
}

/* The number of entries changed. */
static void dir_changed(struct inode *dir, int entries)
{
	mutex_lock(&dir->lock, &lc_inode);
	dir->size += entries * ENTRY_SIZE;
	mutex_unlock(&dir->lock, &lc_inode);
	inode_touch(dir, true);
}

/* ---- operations ---- */

static int dir_lookup(struct inode *dir, struct dentry *d)
{
	struct inode *in = dir_find(dir, d);
	if (in)
		dentry_instantiate(d, in);
	return 0;
}

/* Names a fresh inode (consumed). */
static int dir_make(struct inode *dir, struct dentry *d, struct inode *in)
{
	int err = dir_add(dir, d, in);
	if (err) {
		inode_put(in);
		return err;
	}
	if (S_ISDIR(in->mode))
		change_nlink(dir, 1);
	dir_changed(dir, 1);
	dentry_instantiate(d, in);
	return 0;
}

static int dir_mknod(struct inode *dir, struct dentry *d, uint32_t mode, uint64_t rdev,
		     const struct cred *c)
{
	struct inode *in;
	int err = tmpfs_inode_new(dir->sb, dir, mode, rdev, c, &in);
	return err ? err : dir_make(dir, d, in);
}

static int dir_create(struct inode *dir, struct dentry *d, uint32_t mode, const struct cred *c)
{
	return dir_mknod(dir, d, S_IFREG | (mode & 07777), 0, c);
}

static int dir_mkdir(struct inode *dir, struct dentry *d, uint32_t mode, const struct cred *c)
{
	return dir_mknod(dir, d, S_IFDIR | (mode & 07777), 0, c);
}

static int dir_symlink(struct inode *dir, struct dentry *d, const char *target,
		       const struct cred *c)
{
	char *copy = strdup(target);
	if (!copy)
		return -ENOMEM;
	struct inode *in;
	int err = tmpfs_inode_new(dir->sb, dir, S_IFLNK | 0777, 0, c, &in);
	if (err) {
		free(copy);
		return err;
	}
	tmpfs_inode(in)->target = copy;
	in->size = strlen(copy);
	return dir_make(dir, d, in);
}

static int dir_tmpfile(struct inode *dir, struct dentry *d, uint32_t mode, const struct cred *c)
{
	struct inode *in;
	int err = tmpfs_inode_new(dir->sb, dir, S_IFREG | (mode & 07777), 0, c, &in);
	if (err)
		return err;
	in->nlink = 0;
	dentry_instantiate(d, in);
	return 0;
}

static int dir_link(struct inode *dir, struct dentry *d, struct inode *target)
{
	struct tmpfs_super *ts = tmpfs_super(dir->sb);
	int err = tmpfs_charge_inode(ts);
	if (err)
		return err;
	if ((err = dir_add(dir, d, target))) {
		ts->inodes--;
		return err;
	}
	mutex_lock(&target->lock, &lc_inode);
	bool first = target->nlink++ == 0; /* of an O_TMPFILE: counted as an inode already */
	mutex_unlock(&target->lock, &lc_inode);
	if (first)
		ts->inodes--;
	inode_touch(target, false);
	dir_changed(dir, 1);
	dentry_instantiate(d, inode_get(target));
	return 0;
}

/* A name of a file that is no directory went. */
static void name_gone(struct inode *in)
{
	mutex_lock(&in->lock, &lc_inode);
	bool others = --in->nlink > 0;
	mutex_unlock(&in->lock, &lc_inode);
	if (others)
		tmpfs_super(in->sb)->inodes--;
	inode_touch(in, false);
}

static int dir_unlink(struct inode *dir, struct dentry *d)
{
	struct inode *in = dir_remove(dir, d);
	if (!in)
		return -ENOENT;
	name_gone(in);
	dir_changed(dir, -1);
	inode_put(in);
	return 0;
}

static bool dir_is_empty(struct inode *dir)
{
	mutex_lock(&dir->data_lock, &lc_inode_data);
	bool empty = tmpfs_inode(dir)->dir.count == 0;
	mutex_unlock(&dir->data_lock, &lc_inode_data);
	return empty;
}

static int dir_rmdir(struct inode *dir, struct dentry *d)
{
	if (!dir_is_empty(d->inode))
		return -ENOTEMPTY;
	struct inode *in = dir_remove(dir, d);
	if (!in)
		return -ENOENT;
	change_nlink(in, -2);
	inode_touch(in, false);
	change_nlink(dir, -1);
	dir_changed(dir, -1);
	inode_put(in);
	return 0;
}

static int rename_exchange(struct inode *olddir, struct dentry *oldd, struct inode *newdir,
			   struct dentry *newd)
{
	struct inode *a = oldd->inode, *b = newd->inode;
	inode_put(dir_replace(olddir, oldd, inode_get(b)));
	inode_put(dir_replace(newdir, newd, inode_get(a)));
	if (olddir != newdir) {
		int moved = (S_ISDIR(a->mode) ? 1 : 0) - (S_ISDIR(b->mode) ? 1 : 0);
		change_nlink(olddir, -moved);
		change_nlink(newdir, moved);
	}
	inode_touch(a, false);
	inode_touch(b, false);
	dir_changed(olddir, 0);
	dir_changed(newdir, 0);
	return 0;
}

static int dir_rename(struct inode *olddir, struct dentry *oldd, struct inode *newdir,
		      struct dentry *newd, unsigned flags)
{
	struct inode *in = oldd->inode, *victim = newd->inode;
	bool is_dir = S_ISDIR(in->mode);
	if (flags & RENAME_EXCHANGE)
		return rename_exchange(olddir, oldd, newdir, newd);
	if (victim && S_ISDIR(victim->mode) && !dir_is_empty(victim))
		return -ENOTEMPTY;

	struct inode *whiteout = NULL;
	int err = 0;
	if (flags & RENAME_WHITEOUT)
		err = tmpfs_inode_new(olddir->sb, NULL, S_IFCHR, 0, NULL, &whiteout);
	if (err)
		return err;
	if (victim) {
		inode_put(dir_replace(newdir, newd, inode_get(in)));
		if (S_ISDIR(victim->mode)) {
			change_nlink(victim, -2);
			inode_touch(victim, false);
			change_nlink(newdir, -1);
		} else {
			name_gone(victim);
		}
	} else if ((err = dir_add(newdir, newd, in))) {
		inode_put(whiteout);
		return err;
	}
	if (whiteout)
		inode_put(dir_replace(olddir, oldd, whiteout));
	else
		inode_put(dir_remove(olddir, oldd));
	if (is_dir && olddir != newdir) {
		change_nlink(olddir, -1);
		change_nlink(newdir, 1);
	}
	inode_touch(in, false);
	dir_changed(olddir, whiteout ? 0 : -1);
	dir_changed(newdir, victim ? 0 : 1);
	return 0;
}

/* ---- listing ---- */

/* The entry with the lowest position ≥ pos. */
static struct tmpfs_entry *entry_from(struct tmpfs_dir *td, int64_t pos)
{
	struct tmpfs_entry *best = NULL;
	struct rb_node *n = td->by_pos.node;
	while (n) {
		struct tmpfs_entry *e = rb_entry(n, struct tmpfs_entry, by_pos);
		if (e->pos >= pos) {
			best = e;
			n = n->left;
		} else {
			n = n->right;
		}
	}
	return best;
}

/*
 * A listing ends where the directory ended when it began (f->priv, with pos_busy): a program that
 * makes a name for each that it reads would otherwise never come to the end.
 */
static int dir_readdir(struct file *f, struct dir_context *ctx, int64_t *off)
{
	struct inode *dir = f->inode;
	if (!dir_emit_dots(f, ctx, off))
		return 0;
	mutex_lock(&dir->data_lock, &lc_inode_data);
	if (*off <= FIRST_POS || !f->priv)
		f->priv = (void *)(uintptr_t)tmpfs_inode(dir)->dir.next_pos;
	int64_t end = (int64_t)(uintptr_t)f->priv;
	struct tmpfs_entry *e = entry_from(&tmpfs_inode(dir)->dir, *off);
	while (e && e->pos < end &&
	       ctx->emit(ctx, e->name, e->len, e->pos + 1, e->in->ino, IFTODT(e->in->mode))) {
		*off = e->pos + 1;
		struct rb_node *next = rb_next(&e->by_pos);
		e = next ? rb_entry(next, struct tmpfs_entry, by_pos) : NULL;
	}
	mutex_unlock(&dir->data_lock, &lc_inode_data);
	return 0;
}

static int dir_fsync(struct file *f, bool datasync)
{
	(void)f, (void)datasync;
	return 0;
}

const struct file_ops tmpfs_dir_fops = {
	.ioctl = tmpfs_ioctl,
	.readdir = dir_readdir,
	.fsync = dir_fsync,
};

static int dir_open(struct inode *in, struct dentry *d, struct file *f)
{
	(void)in, (void)d;
	f->ops = &tmpfs_dir_fops;
	return 0;
}

const struct inode_ops tmpfs_dir_iops = {
	.lookup = dir_lookup,
	.create = dir_create,
	.mkdir = dir_mkdir,
	.mknod = dir_mknod,
	.symlink = dir_symlink,
	.tmpfile = dir_tmpfile,
	.link = dir_link,
	.unlink = dir_unlink,
	.rmdir = dir_rmdir,
	.rename = dir_rename,
	.open = dir_open,
	.getattr = tmpfs_getattr,
	.setattr = tmpfs_setattr,
	.getxattr = tmpfs_getxattr,
	.setxattr = tmpfs_setxattr,
	.listxattr = tmpfs_listxattr,
	.removexattr = tmpfs_removexattr,
	.free = tmpfs_free,
};
