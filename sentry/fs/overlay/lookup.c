/* Looking names up in the layers. */
#include <errno.h>
#include <stdlib.h>

#include "sentry/fs/overlay/ovl.h"

bool ovl_is_opaque(struct inode *in)
{
	char value;
	return in->ops->getxattr && in->ops->getxattr(in, OVL_XATTR_OPAQUE, &value, 1) == 1 &&
	       value == 'y';
}

/* What has been found of a name so far. */
struct found {
	struct dentry *upper;
	struct ovl_lower *lower;
	size_t nlower;
	bool done; /* layers further down do not count */
};

/* A positive dentry of a layer (consumed), from the top downwards. */
static void found_add(struct found *f, int layer, bool may_be_opaque, struct dentry *d)
{
	bool first = !f->upper && !f->nlower;
	bool is_dir = S_ISDIR(d->inode->mode);
	f->done = !is_dir || (may_be_opaque && ovl_is_opaque(d->inode));
	/* Nothing but a directory is merged below a directory. */
	if (ovl_is_whiteout(d->inode) || (!is_dir && !first))
		dentry_put(d);
	else if (layer < 0)
		f->upper = d;
	else
		f->lower[f->nlower++] = (struct ovl_lower){layer, d};
}

static int look_in(struct dentry *dir, const struct dentry *d, struct dentry **out)
{
	int err = dentry_lookup_ahead(dir, d->name, d->name_len, d->hint, out);
	if (!err && !(*out)->inode) {
		dentry_put(*out);
		*out = NULL;
	}
	if (err == -ENOENT) {
		*out = NULL;
		return 0;
	}
	return err;
}

static int look_in_layers(struct ovl_inode *dir, const struct dentry *d, struct found *f)
{
	struct dentry *updir = ovl_upper(dir), *hit;
	size_t n = ovl_nlower(dir);
	int err;
	if (updir) {
		if ((err = look_in(updir, d, &hit)))
			return err;
		if (hit)
			found_add(f, -1, n > 0, hit);
	}
	for (size_t i = 0; i < n && !f->done; i++) {
		if ((err = look_in(dir->lower[i].d, d, &hit)))
			return err;
		if (hit)
			found_add(f, dir->lower[i].layer, i + 1 < n, hit);
	}
	return 0;
}

int ovl_lookup(struct inode *dir, struct dentry *d)
{
	struct ovl_inode *di = ovl_inode(dir);
	struct ovl_lower one;
	struct found f = {.lower = &one};
	if (di->nlower > 1) {
		f.lower = calloc(di->nlower, sizeof(*f.lower));
		if (!f.lower)
			return -ENOMEM;
	}
	int err = look_in_layers(di, d, &f);
	if (err) {
		dentry_put(f.upper);
		for (size_t i = 0; i < f.nlower; i++)
			dentry_put(f.lower[i].d);
	} else if (f.upper || f.nlower) {
		struct inode *in;
		err = ovl_inode_get(ovl_super(dir->sb), f.upper, f.lower, f.nlower, dir, &in);
		if (!err)
			dentry_instantiate(d, in);
	}
	if (f.lower != &one)
		free(f.lower);
	return err;
}

/* A directory that is all in one lower layer is as that layer says. */
int ovl_peek(struct inode *dir, const char *name, size_t len, struct kstat *st)
{
	struct ovl_inode *oi = ovl_inode(dir);

	if (ovl_upper(oi) || oi->nlower != 1)
		return 0;
	struct inode *lower = oi->lower[0].d->inode;
	int known = lower->ops->peek ? lower->ops->peek(lower, name, len, st) : 0;
	if (known > 0 && S_ISCHR(st->mode))
		return 0; /* perhaps a whiteout */
	if (known > 0) {
		st->dev = dir->sb->dev;
		st->ino = ovl_encode_ino(dir->sb, oi->lower[0].layer + 1, st->ino);
	}
	return known;
}

int ovl_lower_has(struct inode *dir, const struct dentry *d)
{
	struct ovl_inode *di = ovl_inode(dir);
	for (size_t i = 0; i < ovl_nlower(di); i++) {
		struct dentry *hit;
		int err = look_in(di->lower[i].d, d, &hit);
		if (err)
			return err;
		if (!hit)
			continue;
		bool visible = !ovl_is_whiteout(hit->inode);
		dentry_put(hit);
		return visible;
	}
	return 0;
}
