/* Mounting overlays. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#include "sentry/fs/overlay/ovl.h"
#include "sentry/fs/tmpfs/tmpfs.h"

#define OVERLAYFS_MAGIC 0x794c7630

static const struct super_ops ovl_super_ops;

bool super_is_overlay(const struct super_block *sb)
{
	return sb->ops == &ovl_super_ops;
}

static int ovl_statfs(struct super_block *sb, struct kstatfs *st)
{
	struct ovl_super *os = ovl_super(sb);
	struct super_block *real = (os->upper_mnt ? os->upper_mnt : os->lower_mnt[0])->sb;
	int err = real->ops->statfs ? real->ops->statfs(real, st) : 0;
	st->type = sb->magic;
	st->fsid = sb->dev;
	return err;
}

static int ovl_sync(struct super_block *sb)
{
	struct ovl_super *os = ovl_super(sb);
	if (!os->upper_mnt || !os->upper_mnt->sb->ops->sync)
		return 0;
	return os->upper_mnt->sb->ops->sync(os->upper_mnt->sb);
}

static void ovl_show_options(struct super_block *sb, char *buf, size_t size)
{
	snprintf(buf, size, "%s", ovl_super(sb)->shown);
}

static void free_records(struct list_head *bucket, bool by_upper)
{
	while (!list_empty(bucket)) {
		struct ovl_record *r = by_upper ? list_first(bucket, struct ovl_record, by_upper)
						: list_first(bucket, struct ovl_record, by_lower);
		list_del(&r->by_upper);
		list_del(&r->by_lower);
		ovl_record_free(r);
	}
}

/* The inodes are gone; what records and layers hold goes now. */
static void ovl_super_free(struct super_block *sb)
{
	struct ovl_super *os = ovl_super(sb);
	for (size_t i = 0; i < OVL_BUCKETS; i++) {
		free_records(&os->by_upper[i], true);
		free_records(&os->by_lower[i], false);
	}
	dentry_put(os->work);
	if (os->upper_mnt)
		mount_put(os->upper_mnt);
	for (size_t i = 0; i < os->nlower; i++)
		mount_put(os->lower_mnt[i]);
	free(os->lower_mnt);
	cred_put(os->cred);
	free(os->shown);
	free(os);
}

static const struct super_ops ovl_super_ops = {
	.statfs = ovl_statfs,
	.sync = ovl_sync,
	.show_options = ovl_show_options,
	.free = ovl_super_free,
};

static bool has_stacked_layer(const struct ovl_super *os)
{
	for (size_t i = 0; i < os->nlower; i++)
		if (super_is_overlay(os->lower_mnt[i]->sb))
			return true;
	return false;
}

/* As in Linux an overlay can be a lower layer, if that does not make a pile of three. */
static int check_layer(const struct path *p, bool lower)
{
	if (!p->dentry || !p->dentry->inode || !S_ISDIR(p->dentry->inode->mode))
		return -ENOTDIR;
	if (p->dentry->sb->ops->lock)
		return -EINVAL;
	if (!super_is_overlay(p->dentry->sb))
		return 0;
	return lower && !has_stacked_layer(ovl_super(p->dentry->sb)) ? 0 : -EINVAL;
}

static int check_options(const struct overlay_options *o)
{
	if (!o->nlower)
		return -EINVAL;
	int err = 0;
	for (size_t i = 0; i < o->nlower && !err; i++)
		err = check_layer(&o->lower[i], true);
	if (err || !o->upper.dentry)
		return err;
	if ((err = check_layer(&o->upper, false)) || (err = check_layer(&o->work, false)))
		return err;
	if (o->upper.dentry->sb != o->work.dentry->sb || o->upper.dentry == o->work.dentry)
		return -EINVAL;
	const struct inode_ops *ops = o->upper.dentry->inode->ops;
	if (o->upper.dentry->sb->readonly || !ops->create || !ops->rename || !ops->setxattr)
		return -EINVAL;
	return 0;
}

/* A mount of our own: reads through it change no access times. */
static struct mount *layer_mount(struct dentry *root, unsigned flags)
{
	root->sb->layer = super_is_overlay(root->sb) ? LAYER_STACKED : LAYER_BASE;
	return mount_new(root->sb, root, MS_NOATIME | flags, "overlay");
}

static int take_layers(struct ovl_super *os, const struct overlay_options *o)
{
	os->lower_mnt = calloc(o->nlower, sizeof(struct mount *));
	os->cred = cred_new_root();
	os->shown = strdup(o->shown ? o->shown : "");
	if (!os->lower_mnt || !os->cred || !os->shown)
		return -ENOMEM;
	for (; os->nlower < o->nlower; os->nlower++) {
		struct mount *m = layer_mount(o->lower[os->nlower].dentry, MS_RDONLY);
		if (!m)
			return -ENOMEM;
		os->lower_mnt[os->nlower] = m;
	}
	if (!o->upper.dentry) {
		os->sb.readonly = os->sb.fixed_readonly = true;
		return 0;
	}
	os->upper_mnt = layer_mount(o->upper.dentry, 0);
	os->work = dentry_get(o->work.dentry);
	return os->upper_mnt ? 0 : -ENOMEM;
}

static int make_root(struct ovl_super *os)
{
	CLEANUP_FREE struct ovl_lower *lower = calloc(os->nlower, sizeof(*lower));
	if (!lower)
		return -ENOMEM;
	for (size_t i = 0; i < os->nlower; i++)
		lower[i] = (struct ovl_lower){i, dentry_get(os->lower_mnt[i]->root)};
	struct dentry *upper = os->upper_mnt ? dentry_get(os->upper_mnt->root) : NULL;
	struct inode *root;
	int err = ovl_inode_get(os, upper, lower, os->nlower, NULL, &root);
	return err ? err : super_set_root(&os->sb, root);
}

int overlay_mount(const struct overlay_options *o, struct super_block **out)
{
	int err = check_options(o);
	if (err)
		return err;
	struct ovl_super *os = calloc(1, sizeof(*os));
	if (!os)
		return -ENOMEM;
	super_init(&os->sb, &ovl_super_ops, "overlay", OVERLAYFS_MAGIC);
	mutex_init(&os->hash_lock);
	for (size_t i = 0; i < OVL_BUCKETS; i++) {
		list_init(&os->by_upper[i]);
		list_init(&os->by_lower[i]);
	}
	err = take_layers(os, o);
	if (!err)
		err = make_root(os);
	if (err) {
		super_put(&os->sb);
		return err;
	}
	*out = &os->sb;
	return 0;
}

/* ---- with an upper layer in memory ---- */

static int make_top_dir(struct super_block *sb, const char *name, const struct cred *c,
			struct dentry **out)
{
	struct dentry *d;
	int err = dentry_lookup(sb->root, name, strlen(name), &d);
	if (err)
		return err;
	if ((err = vfs_do_mkdir(sb->root, d, 0700, c)))
		dentry_put(d);
	else
		*out = d;
	return err;
}

static int copy_root_attrs(struct inode *from, struct inode *to)
{
	struct iattr a = {
		.valid = ATTR_MODE | ATTR_UID | ATTR_GID | ATTR_ATIME | ATTR_MTIME,
		.mode = from->mode & 07777,
		.uid = from->uid,
		.gid = from->gid,
		.atime = from->atime,
		.mtime = from->mtime,
	};
	return ovl_real_setattr(to, &a);
}

int overlay_mount_memory(struct super_block *lower, const char *tmpfs_options,
			 struct super_block **out)
{
	struct super_block *mem;
	int err = tmpfs_mount(tmpfs_options, &mem);
	if (err)
		return err;
	mem->layer = LAYER_BASE;
	struct cred *c = cred_new_root();
	struct path low = {NULL, lower->root};
	struct overlay_options o = {
		.lower = &low,
		.nlower = 1,
		.shown = ",lowerdir=/,upperdir=/upper,workdir=/work",
	};
	err = c ? make_top_dir(mem, "upper", c, &o.upper.dentry) : -ENOMEM;
	if (!err)
		err = make_top_dir(mem, "work", c, &o.work.dentry);
	if (!err)
		err = copy_root_attrs(lower->root->inode, o.upper.dentry->inode);
	if (!err)
		err = overlay_mount(&o, out);
	dentry_put(o.upper.dentry);
	dentry_put(o.work.dentry);
	cred_put(c);
	super_put(mem);
	return err;
}
