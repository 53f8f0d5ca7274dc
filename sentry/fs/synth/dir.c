/* Directories and links. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/fs/synth/node.h"

/* Positions of dynamic entries in a listing are theirs plus this. */
#define DYNAMIC_BASE (1LL << 40)

static int dir_lookup(struct inode *dir, struct dentry *d)
{
	struct synth_node *n = synth_node(dir);
	struct inode *in = synth_static_child(dir, d->name);
	if (!in && n->dir_ops && n->dir_ops->lookup) {
		int err = n->dir_ops->lookup(dir, d->name, &in, n->arg);
		if (err)
			return err == -ENOENT ? 0 : err;
	}
	if (in)
		dentry_instantiate(d, in);
	return 0;
}

/* Passes dynamic entries on with their positions moved behind the static ones. */
struct shifted_context {
	struct dir_context ctx;
	struct dir_context *outer;
};

static bool shifted_emit(struct dir_context *ctx, const char *name, size_t len, int64_t next_off,
			 uint64_t ino, unsigned dtype)
{
	struct dir_context *outer = container_of(ctx, struct shifted_context, ctx)->outer;
	return outer->emit(outer, name, len, DYNAMIC_BASE + next_off, ino, dtype);
}

static int dir_readdir(struct file *f, struct dir_context *ctx, int64_t *off)
{
	struct synth_node *n = synth_node(f->inode);
	if (*off < DYNAMIC_BASE) {
		if (!dir_emit_dots(f, ctx, off) || !synth_emit_static(f->inode, ctx, off))
			return 0;
		*off = DYNAMIC_BASE;
	}
	if (!n->dir_ops || !n->dir_ops->readdir)
		return 0;
	struct shifted_context shifted = {{shifted_emit}, ctx};
	int64_t pos = *off - DYNAMIC_BASE;
	int err = n->dir_ops->readdir(f->inode, &shifted.ctx, &pos, n->arg);
	*off = DYNAMIC_BASE + pos;
	return err;
}

static const struct file_ops dir_fops = {
	.readdir = dir_readdir,
};

static int dir_open(struct inode *in, struct dentry *d, struct file *f)
{
	(void)d;
	f->ops = &dir_fops;
	return synth_may_open(in, f);
}

static int dir_mkdir(struct inode *dir, struct dentry *d, uint32_t mode, const struct cred *c)
{
	struct synth_node *n = synth_node(dir);
	struct inode *in;

	if (!n->dir_ops || !n->dir_ops->mkdir)
		return -EPERM;
	int err = n->dir_ops->mkdir(dir, d->name, mode & 07777, c, &in, n->arg);
	if (err)
		return err;
	inode_get(in);
	if ((err = synth_add(dir, d->name, in)))
		inode_put(in);
	else
		dentry_instantiate(d, in);
	return err;
}

static int dir_rmdir(struct inode *dir, struct dentry *d)
{
	struct synth_node *n = synth_node(dir);

	if (!n->dir_ops || !n->dir_ops->rmdir)
		return -EPERM;
	int err = n->dir_ops->rmdir(dir, d->inode, n->arg);
	if (!err)
		synth_remove(dir, d->name);
	return err;
}

const struct inode_ops synth_dir_iops = {
	.lookup = dir_lookup,
	.mkdir = dir_mkdir,
	.rmdir = dir_rmdir,
	.open = dir_open,
	.getattr = synth_getattr,
	.setattr = synth_setattr,
	.free = synth_free,
};

const struct inode_ops synth_dir_guarded_iops = {
	.lookup = dir_lookup,
	.mkdir = dir_mkdir,
	.rmdir = dir_rmdir,
	.open = dir_open,
	.getattr = synth_getattr,
	.setattr = synth_setattr,
	.permission = synth_permission,
	.free = synth_free,
};

struct inode *synth_dir_new(struct super_block *sb, uint32_t mode, const struct synth_dir_ops *ops,
			    void *arg)
{
	const struct synth_common_ops *common = ops ? &ops->common : NULL;
	const struct inode_ops *iops =
		common && common->permission ? &synth_dir_guarded_iops : &synth_dir_iops;
	struct synth_node *n = synth_node_new(sb, S_IFDIR | mode, iops, ops, common, arg);
	return n ? &n->in : NULL;
}

bool synth_dir_is(const struct inode *in, const struct synth_dir_ops *ops)
{
	bool dir = in->ops == &synth_dir_iops || in->ops == &synth_dir_guarded_iops;

	return dir && synth_node((struct inode *)(uintptr_t)in)->dir_ops == ops;
}

/* ---- links ---- */

static ssize_t link_readlink(struct inode *in, char *buf, size_t size)
{
	struct synth_node *n = synth_node(in);
	if (!n->link_ops->show)
		return -EINVAL;
	struct text t = TEXT_INIT;
	t.of = in;
	int err = n->link_ops->show(&t, n->arg);
	if (!err)
		err = text_error(&t);
	size_t len = MIN(t.len, size);
	if (!err && len)
		memcpy(buf, t.buf, len);
	text_fini(&t);
	return err ? err : (ssize_t)len;
}

static int link_follow(struct inode *in, struct path *out)
{
	struct synth_node *n = synth_node(in);
	return n->link_ops->follow(out, n->arg);
}

const struct inode_ops synth_link_iops = {
	.readlink = link_readlink,
	.getattr = synth_getattr,
	.setattr = synth_setattr,
	.free = synth_free,
};

const struct inode_ops synth_magic_iops = {
	.readlink = link_readlink,
	.follow_link = link_follow,
	.getattr = synth_getattr,
	.setattr = synth_setattr,
	.free = synth_free,
};

struct inode *synth_link_new(struct super_block *sb, uint32_t mode,
			     const struct synth_link_ops *ops, void *arg)
{
	struct synth_node *n = synth_node_new(sb, S_IFLNK | mode,
					      ops->follow ? &synth_magic_iops : &synth_link_iops,
					      ops, &ops->common, arg);
	return n ? &n->in : NULL;
}

static int symlink_show(struct text *out, void *arg)
{
	text_puts(out, arg);
	return 0;
}

static const struct synth_link_ops symlink_ops = {
	.common = {.free_arg = free},
	.show = symlink_show,
};

struct inode *synth_symlink_new(struct super_block *sb, const char *target)
{
	char *copy = strdup(target);
	if (!copy)
		return NULL;
	struct inode *in = synth_link_new(sb, 0777, &symlink_ops, copy);
	if (in)
		in->size = strlen(target);
	return in;
}
