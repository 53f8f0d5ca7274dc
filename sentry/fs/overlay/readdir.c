/*
 * Listing directories.  A directory that is in one layer only is listed as that layer does it.  A
 * merged one is read from all its layers into a list, which is kept with the inode until an
 * entry changes, and with each open file that is in the middle of it: positions are indices.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/fs/overlay/ovl.h"

#define FIRST_POS 2 /* after "." and ".." */

struct ovl_name {
	uint64_t ino;
	uint32_t at; /* offset in bytes */
	uint8_t len, type;
	bool hidden; /* a whiteout */
};

struct ovl_list {
	ref_t ref;
	struct ovl_name *names;
	size_t n, cap;
	char *bytes;
	size_t nbytes, bytes_cap;
	uint32_t *table; /* while it is built: index + 1 by hash */
	size_t table_size;
};

void ovl_list_put(struct ovl_list *l)
{
	if (!l || !ref_put(&l->ref))
		return;
	free(l->names);
	free(l->bytes);
	free(l->table);
	free(l);
}

/* ---- building ---- */

static uint32_t hash_bytes(const char *name, size_t len)
{
	uint32_t h = 2166136261u;
	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char)name[i]) * 16777619u;
	return h ^ h >> 15;
}

/* The place of a name in the table: of itself, or where it would go. */
static uint32_t *table_slot(struct ovl_list *l, const char *name, size_t len)
{
	size_t i = hash_bytes(name, len) & (l->table_size - 1);
	for (;; i = (i + 1) & (l->table_size - 1)) {
		uint32_t *slot = &l->table[i];
		if (!*slot)
			return slot;
		const struct ovl_name *e = &l->names[*slot - 1];
		if (e->len == len && !memcmp(l->bytes + e->at, name, len))
			return slot;
	}
}

static int list_reserve(struct ovl_list *l)
{
	if (l->n == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 16;
		struct ovl_name *names = realloc(l->names, cap * sizeof(*names));
		if (!names)
			return -ENOMEM;
		l->names = names;
		l->cap = cap;
	}
	if (l->bytes_cap - l->nbytes < VFS_NAME_MAX) {
		size_t cap = l->bytes_cap ? l->bytes_cap * 2 : 1024;
		char *bytes = realloc(l->bytes, cap);
		if (!bytes)
			return -ENOMEM;
		l->bytes = bytes;
		l->bytes_cap = cap;
	}
	if (l->table_size > l->n * 2)
		return 0;
	size_t size = l->table_size ? l->table_size * 2 : 64;
	uint32_t *table = calloc(size, sizeof(*table));
	if (!table)
		return -ENOMEM;
	free(l->table);
	l->table = table;
	l->table_size = size;
	for (size_t i = 0; i < l->n; i++)
		*table_slot(l, l->bytes + l->names[i].at, l->names[i].len) = i + 1;
	return 0;
}

/* Reads one layer into the list. */
struct layer_context {
	struct dir_context ctx;
	struct ovl_list *l;
	struct ovl_super *os;
	size_t layer; /* 0: upper */
	int err;
};

static bool layer_emit(struct dir_context *ctx, const char *name, size_t len, int64_t next_off,
		       uint64_t ino, unsigned dtype)
{
	struct layer_context *lc = container_of(ctx, struct layer_context, ctx);
	(void)next_off;
	if (len == 0 || len > VFS_NAME_MAX || (name[0] == '.' && len == 1) ||
	    (name[0] == '.' && len == 2 && name[1] == '.'))
		return true;
	if ((lc->err = list_reserve(lc->l)))
		return false;
	struct ovl_list *l = lc->l;
	uint32_t *slot = table_slot(l, name, len);
	if (*slot)
		return true; /* a layer above has it */
	memcpy(l->bytes + l->nbytes, name, len);
	l->names[l->n] = (struct ovl_name){
		.ino = lc->layer ? ovl_encode_ino(&lc->os->sb, lc->layer, ino)
				 : ovl_upper_ino(lc->os, ino),
		.at = l->nbytes,
		.len = len,
		.type = dtype,
	};
	l->nbytes += len;
	*slot = ++l->n;
	return true;
}

/* Lists a layer's directory through a file of its own. */
static int list_layer(struct mount *mnt, struct dentry *dir, struct dir_context *ctx)
{
	struct file *f;
	int err = file_open_quiet((struct path){mnt, dir}, O_RDONLY | O_DIRECTORY | O_NOATIME, &f);
	if (err)
		return err;
	int64_t off = 0, before;
	if (!f->ops->readdir)
		err = -ENOTDIR;
	do {
		before = off;
		if (!err)
			err = f->ops->readdir(f, ctx, &off);
	} while (!err && off != before);
	file_put(f);
	return err;
}

/* Character devices among the names from `first` on may be whiteouts. */
static int find_whiteouts(struct ovl_list *l, size_t first, struct dentry *dir)
{
	for (size_t i = first; i < l->n; i++) {
		struct ovl_name *e = &l->names[i];
		if (e->type != DT_CHR && e->type != DT_UNKNOWN)
			continue;
		struct dentry *d;
		int err = dentry_lookup(dir, l->bytes + e->at, e->len, &d);
		if (err)
			return err;
		e->hidden = ovl_is_whiteout(d->inode);
		dentry_put(d);
	}
	return 0;
}

static int add_layer(struct ovl_list *l, struct ovl_super *os, size_t layer, struct dentry *dir,
		     bool whiteouts)
{
	struct layer_context lc = {{layer_emit}, l, os, layer, 0};
	size_t first = l->n;
	int err = list_layer(layer ? os->lower_mnt[layer - 1] : os->upper_mnt, dir, &lc.ctx);
	if (!err)
		err = lc.err;
	if (!err && whiteouts)
		err = find_whiteouts(l, first, dir);
	return err;
}

static int list_build(struct ovl_inode *oi, struct ovl_list **out)
{
	struct ovl_super *os = ovl_super(oi->in.sb);
	struct dentry *upper = ovl_upper(oi);
	size_t nlower = ovl_nlower(oi);
	struct ovl_list *l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	ref_init(&l->ref, 1);
	int err = upper ? add_layer(l, os, 0, upper, true) : 0;
	for (size_t i = 0; i < nlower && !err; i++)
		err = add_layer(l, os, oi->lower[i].layer + 1, oi->lower[i].d, i + 1 < nlower);
	if (err) {
		ovl_list_put(l);
		return err;
	}
	size_t kept = 0;
	for (size_t i = 0; i < l->n; i++)
		if (!l->names[i].hidden)
			l->names[kept++] = l->names[i];
	l->n = kept;
	free(steal(l->table));
	*out = l;
	return 0;
}

/* The list as of now, with a reference. */
static int list_get(struct ovl_inode *oi, struct ovl_list **out)
{
	struct ovl_super *os = ovl_super(oi->in.sb);
	uint64_t version = oi->version;
	struct ovl_list *l = NULL;
	mutex_lock(&os->hash_lock, &lc_leaf);
	if (oi->list && oi->list_version == version) {
		l = oi->list;
		ref_get(&l->ref);
	}
	mutex_unlock(&os->hash_lock, &lc_leaf);
	if (l) {
		*out = l;
		return 0;
	}
	int err = list_build(oi, &l);
	if (err)
		return err;
	ref_get(&l->ref);
	mutex_lock(&os->hash_lock, &lc_leaf);
	struct ovl_list *old = oi->list;
	oi->list = l;
	oi->list_version = version;
	mutex_unlock(&os->hash_lock, &lc_leaf);
	ovl_list_put(old);
	*out = l;
	return 0;
}

int ovl_check_empty(struct ovl_inode *oi)
{
	struct ovl_list *l;
	int err = list_get(oi, &l);
	if (err)
		return err;
	err = l->n ? -ENOTEMPTY : 0;
	ovl_list_put(l);
	return err;
}

int ovl_upper_names(struct ovl_inode *oi,
		    int (*fn)(struct dentry *dir, const char *name, size_t len))
{
	struct ovl_super *os = ovl_super(oi->in.sb);
	struct dentry *upper = ovl_upper(oi);
	struct ovl_list *l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	ref_init(&l->ref, 1);
	int err = add_layer(l, os, 0, upper, false);
	for (size_t i = 0; i < l->n && !err; i++)
		err = fn(upper, l->bytes + l->names[i].at, l->names[i].len);
	ovl_list_put(l);
	return err;
}

/* ---- open directories ---- */

struct ovl_dirfile {
	struct mutex lock;     /* lc_leaf */
	struct file *real;     /* reference: listed as it is; or NULL */
	size_t layer;	       /* of real */
	struct ovl_list *list; /* reference: merged; or NULL */
};

/* Passes the only layer's entries on, with the overlay's numbers. */
struct pass_context {
	struct dir_context ctx;
	struct dir_context *outer;
	struct file *f;
	size_t layer;
};

static bool pass_emit(struct dir_context *ctx, const char *name, size_t len, int64_t next_off,
		      uint64_t ino, unsigned dtype)
{
	struct pass_context *pc = container_of(ctx, struct pass_context, ctx);
	struct super_block *sb = pc->f->inode->sb;

	if (name[0] == '.' && len == 1)
		ino = pc->f->inode->ino;
	else if (name[0] == '.' && len == 2 && name[1] == '.')
		ino = dir_parent_ino(pc->f);
	else
		ino = pc->layer ? ovl_encode_ino(sb, pc->layer, ino)
				: ovl_upper_ino(ovl_super(sb), ino);
	return pc->outer->emit(pc->outer, name, len, next_off, ino, dtype);
}

/* The list that this file reads from: another one at each start. */
static int dirfile_list(struct file *f, bool restart, struct ovl_list **out)
{
	struct ovl_dirfile *df = f->priv;
	struct ovl_list *l = NULL;
	mutex_lock(&df->lock, &lc_leaf);
	if (df->list && !restart) {
		l = df->list;
		ref_get(&l->ref);
	}
	mutex_unlock(&df->lock, &lc_leaf);
	if (l) {
		*out = l;
		return 0;
	}
	int err = list_get(ovl_inode(f->inode), &l);
	if (err)
		return err;
	ref_get(&l->ref);
	mutex_lock(&df->lock, &lc_leaf);
	struct ovl_list *old = df->list;
	df->list = l;
	mutex_unlock(&df->lock, &lc_leaf);
	ovl_list_put(old);
	*out = l;
	return 0;
}

/* At the beginning: what there is to be listed now. */
static int begin(struct file *f)
{
	struct ovl_dirfile *df = f->priv;
	struct ovl_inode *oi = ovl_inode(f->inode);
	struct ovl_super *os = ovl_super(f->inode->sb);
	struct dentry *upper = ovl_upper(oi);
	size_t n = ovl_nlower(oi);
	struct file *real = NULL;
	size_t layer = 0;

	if (upper ? n == 0 : n == 1) {
		struct path p = {os->upper_mnt, upper};
		if (!upper) {
			layer = oi->lower[0].layer + 1;
			p = (struct path){os->lower_mnt[layer - 1], oi->lower[0].d};
		}
		int err = file_open_quiet(p, O_RDONLY | O_DIRECTORY | O_NOATIME, &real);
		if (err)
			return err;
	}
	mutex_lock(&df->lock, &lc_leaf);
	struct file *old = df->real;
	df->real = real;
	df->layer = layer;
	mutex_unlock(&df->lock, &lc_leaf);
	file_put(old);
	return 0;
}

static int dir_readdir(struct file *f, struct dir_context *ctx, int64_t *off)
{
	struct ovl_dirfile *df = f->priv;
	struct ovl_list *l;
	int err;

	if (*off == 0 && (err = begin(f)))
		return err;
	mutex_lock(&df->lock, &lc_leaf);
	struct file *real = df->real ? file_get(df->real) : NULL;
	struct pass_context pc = {{pass_emit}, ctx, f, df->layer};
	mutex_unlock(&df->lock, &lc_leaf);
	if (real) {
		err = real->ops->readdir(real, &pc.ctx, off);
		file_put(real);
		return err;
	}
	if ((err = dirfile_list(f, *off == 0, &l)))
		return err;
	if (dir_emit_dots(f, ctx, off)) {
		for (; (uint64_t)*off - FIRST_POS < l->n; ++*off) {
			const struct ovl_name *e = &l->names[*off - FIRST_POS];
			if (!ctx->emit(ctx, l->bytes + e->at, e->len, *off + 1, e->ino, e->type))
				break;
		}
	}
	ovl_list_put(l);
	return 0;
}

static int dir_fsync(struct file *f, bool datasync)
{
	(void)f, (void)datasync;
	return 0;
}

static void dir_release(struct file *f)
{
	struct ovl_dirfile *df = f->priv;
	file_put(df->real);
	ovl_list_put(df->list);
	free(df);
}

static const struct file_ops ovl_dir_fops = {
	.readdir = dir_readdir,
	.fsync = dir_fsync,
	.release = dir_release,
};

int ovl_dir_open(struct inode *in, struct dentry *d, struct file *f)
{
	(void)in;
	(void)d;
	struct ovl_dirfile *df = calloc(1, sizeof(*df));
	if (!df)
		return -ENOMEM;
	mutex_init(&df->lock);
	f->priv = df;
	f->ops = &ovl_dir_fops;
	return 0;
}
