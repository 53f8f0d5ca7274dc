/* Nodes: making, naming, attributes, freeing; the super block. */
#include "sentry/fs/synth/node.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Numbers below are for fixed ones (synth_set_ino). */
#define FIRST_INO (1UL << 32)

static _Atomic uint64_t last_ino = FIRST_INO;

struct synth_entry {
	struct list_head link;
	struct inode *in; /* reference */
	int64_t pos;
	char name[];
};

struct synth_node *synth_node_new(struct super_block *sb, uint32_t mode,
				  const struct inode_ops *iops, const void *ops,
				  const struct synth_common_ops *common, void *arg)
{
	struct synth_node *n = calloc(1, sizeof(*n));
	if (!n) {
		if (common && common->free_arg)
			common->free_arg(arg);
		return NULL;
	}
	inode_init(&n->in, sb, iops, ++last_ino, mode, NULL);
	n->common = common;
	n->file_ops = ops;
	n->arg = arg;
	n->next_pos = 2;
	list_init(&n->children);
	if (S_ISDIR(mode))
		n->in.nlink = 2;
	return n;
}

void *synth_arg(const struct inode *in)
{
	return synth_node(in)->arg;
}

void synth_set_ino(struct inode *in, uint64_t ino)
{
	in->ino = ino;
}

void synth_set_owner(struct inode *in, uint32_t uid, uint32_t gid)
{
	in->uid = uid;
	in->gid = gid;
}

/* ---- operations that all kinds share ---- */

int synth_permission(struct inode *in, int mask, const struct cred *c)
{
	struct synth_node *n = synth_node(in);
	return n->common->permission(in, mask, c, n->arg);
}

int synth_getattr(struct inode *in, struct kstat *st)
{
	struct synth_node *n = synth_node(in);
	inode_fill_stat(in, st);
	if (n->common && n->common->getattr)
		return n->common->getattr(in, st, n->arg);
	return 0;
}

int synth_setattr(struct inode *in, const struct iattr *a)
{
	struct synth_super *ss = container_of(in->sb, struct synth_super, sb);
	/* Truncation of generated files is accepted, with the times it brings, and does nothing. */
	if (a->valid & ATTR_SIZE)
		return 0;
	if (ss->flags & SYNTH_FIXED_ATTRS)
		return -EPERM;
	inode_apply_attr(in, a);
	return 0;
}

int synth_may_open(struct inode *in, struct file *f)
{
	struct synth_node *n = synth_node(in);
	if (n->common && n->common->may_open)
		return n->common->may_open(in, f, n->arg);
	return 0;
}

void synth_free(struct inode *in)
{
	struct synth_node *n = synth_node(in);
	struct synth_entry *e, *tmp;
	list_for_each_safe (e, tmp, &n->children, link) {
		inode_put(e->in);
		free(e);
	}
	if (n->common && n->common->free_arg)
		n->common->free_arg(n->arg);
	free(n);
}

/* ---- static children ---- */

static struct synth_entry *entry_find(struct synth_node *dir, const char *name)
{
	struct synth_entry *e;
	list_for_each (e, &dir->children, link) {
		if (!strcmp(e->name, name))
			return e;
	}
	return NULL;
}

int synth_add(struct inode *dir, const char *name, struct inode *child)
{
	if (!child)
		return -ENOMEM;
	size_t len = strlen(name);
	struct synth_entry *e = malloc(sizeof(*e) + len + 1);
	if (!e) {
		inode_put(child);
		return -ENOMEM;
	}
	e->in = child;
	memcpy(e->name, name, len + 1);

	struct synth_node *n = synth_node(dir);
	mutex_lock(&dir->data_lock, &lc_inode_data);
	bool exists = entry_find(n, name) != NULL;
	if (!exists) {
		e->pos = n->next_pos++;
		list_add_tail(&e->link, &n->children);
		if (S_ISDIR(child->mode))
			dir->nlink++;
	}
	mutex_unlock(&dir->data_lock, &lc_inode_data);
	if (exists) {
		inode_put(child);
		free(e);
		return -EEXIST;
	}
	return 0;
}

int synth_add_dir(struct inode *dir, const char *name, uint32_t mode, struct inode **out)
{
	struct inode *child = synth_dir_new(dir->sb, mode, NULL, NULL);
	int err = synth_add(dir, name, child);
	if (!err && out)
		*out = child;
	return err;
}

int synth_add_table(struct inode *dir, const struct synth_table *table)
{
	for (const struct synth_table *row = table; row->name; row++) {
		int err = synth_add(dir, row->name,
				    synth_file_new(dir->sb, row->mode, row->ops, row->arg));
		if (err)
			return err;
	}
	return 0;
}

void synth_remove(struct inode *dir, const char *name)
{
	struct synth_node *n = synth_node(dir);
	mutex_lock(&dir->data_lock, &lc_inode_data);
	struct synth_entry *e = entry_find(n, name);
	if (e) {
		list_del(&e->link);
		if (S_ISDIR(e->in->mode))
			dir->nlink--;
	}
	mutex_unlock(&dir->data_lock, &lc_inode_data);
	if (e) {
		inode_put(e->in);
		free(e);
	}
}

/* A reference to the static child, or NULL. */
struct inode *synth_static_child(struct inode *dir, const char *name)
{
	mutex_lock(&dir->data_lock, &lc_inode_data);
	struct synth_entry *e = entry_find(synth_node(dir), name);
	struct inode *in = e ? inode_get(e->in) : NULL;
	mutex_unlock(&dir->data_lock, &lc_inode_data);
	return in;
}

struct inode *synth_child(struct inode *dir, const char *name)
{
	struct inode *in = synth_static_child(dir, name);
	inode_put(in); /* the directory has a reference */
	return in;
}

bool synth_emit_static(struct inode *dir, struct dir_context *ctx, int64_t *off)
{
	bool room = true;
	struct synth_entry *e;
	mutex_lock(&dir->data_lock, &lc_inode_data);
	list_for_each (e, &synth_node(dir)->children, link) {
		if (e->pos < *off)
			continue;
		room = ctx->emit(ctx, e->name, strlen(e->name), e->pos + 1, e->in->ino,
				 IFTODT(e->in->mode));
		if (!room)
			break;
		*off = e->pos + 1;
	}
	mutex_unlock(&dir->data_lock, &lc_inode_data);
	return room;
}

/* ---- the super block ---- */

static int synth_statfs(struct super_block *sb, struct kstatfs *st)
{
	*st = (struct kstatfs){
		.type = sb->magic,
		.bsize = PAGE_SIZE,
		.frsize = PAGE_SIZE,
		.namelen = VFS_NAME_MAX,
	};
	return 0;
}

static void synth_super_free(struct super_block *sb)
{
	free(container_of(sb, struct synth_super, sb));
}

static const struct super_ops synth_super_ops = {
	.statfs = synth_statfs,
	.free = synth_super_free,
};

int synth_super_new(const char *fstype, uint64_t magic, unsigned flags,
		    const struct synth_dir_ops *dir_ops, void *arg, struct super_block **out)
{
	struct synth_super *ss = calloc(1, sizeof(*ss));
	if (!ss) {
		if (dir_ops && dir_ops->common.free_arg)
			dir_ops->common.free_arg(arg);
		return -ENOMEM;
	}
	ss->flags = flags;
	super_init(&ss->sb, &synth_super_ops, fstype, magic);
	ss->sb.no_dcache = flags & SYNTH_NO_DCACHE;

	struct inode *root = synth_dir_new(&ss->sb, 0555, dir_ops, arg);
	int err = root ? super_set_root(&ss->sb, root) : -ENOMEM;
	if (err) {
		super_put(&ss->sb);
		return err;
	}
	synth_set_ino(root, 1);
	*out = &ss->sb;
	return 0;
}
