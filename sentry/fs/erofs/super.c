/* Inodes of an image. */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/fs/erofs/erofs.h"
#include "sentry/fs/erofs/image.h"
#include "sentry/fs/tmpfs/tmpfs.h"
#include "sentry/lib/cleanup.h"
#include "sentry/mm/uaccess.h"
#include "sentry/vfs/acl.h"
#include "sentry/vfs/file.h"

#define COPY_CHUNK (256UL << 10)

struct erofs_fs {
	struct super_block sb;
	struct erofs_image img;
	struct file *file;
};

struct erofs_inode {
	struct inode in;
	struct erofs_node node;
	/* For mappings: a copy, whose end is the file's; set once. */
	struct file *copy;
};

static struct erofs_fs *fs_of(const struct super_block *sb)
{
	return container_of((struct super_block *)sb, struct erofs_fs, sb);
}

static struct erofs_inode *ei_of(struct inode *in)
{
	return container_of(in, struct erofs_inode, in);
}

static const struct erofs_image *img_of(const struct inode *in)
{
	return &fs_of(in->sb)->img;
}

static int image_read(void *arg, void *buf, size_t n, uint64_t off)
{
	ssize_t got = file_pread(arg, buf, n, (int64_t)off);

	if (got < 0)
		return (int)got;
	return (size_t)got == n ? 0 : -EIO; /* it has become shorter */
}

/* ---- files ---- */

static ssize_t file_read_op(struct file *f, struct uio *io, int64_t *off)
{
	struct erofs_inode *ei = ei_of(f->inode);
	struct file *image = fs_of(f->inode->sb)->file;
	ssize_t total = 0;

	while (io->left && (uint64_t)*off < ei->node.size) {
		uint64_t at, len;
		ssize_t n = erofs_find(img_of(f->inode), &ei->node, (uint64_t)*off, &at, &len);
		if (n < 0)
			return total ? total : n;
		uint64_t rest = io->left - MIN(io->left, len);
		int64_t pos = (int64_t)at;
		bool lend = io->lend;
		io->left -= rest;
		io->lend = false;
		n = at == EROFS_HOLE ? uio_zero(io, io->left) : image->ops->read(image, io, &pos);
		io->left += rest;
		io->lend = lend;
		if (n <= 0)
			return total ? total : n ? n : -EIO;
		*off += n;
		total += n;
	}
	return total;
}

/* The whole file into memory, once: an image has other files' bytes behind its last one. */
static int copy_in_memory(struct erofs_inode *ei, struct file **out)
{
	CLEANUP_FREE char *buf = malloc(COPY_CHUNK);
	CLEANUP_FILE struct file *mem = NULL;

	if (!buf)
		return -ENOMEM;
	int err = shmem_file_create("erofs", ei->node.size, 0600, 0, &mem);
	for (uint64_t off = 0; !err && off < ei->node.size;) {
		uint64_t at, len;
		if ((err = erofs_find(img_of(&ei->in), &ei->node, off, &at, &len)))
			break;
		if (at == EROFS_HOLE) {
			off += len;
			continue;
		}
		ssize_t n = erofs_read(img_of(&ei->in), &ei->node, buf,
				       MIN(len, (uint64_t)COPY_CHUNK), off);
		ssize_t put = n < 0 ? n : file_pwrite(mem, buf, (size_t)n, (int64_t)off);
		if (put <= 0)
			err = put ? (int)put : -EIO;
		else
			off += (uint64_t)put;
	}
	if (!err)
		*out = steal(mem);
	return err;
}

static int file_map_prepare(struct file *f, bool shared, uint64_t off, uint64_t len)
{
	struct erofs_inode *ei = ei_of(f->inode);
	struct file *mem, *ro;

	(void)shared, (void)off, (void)len;
	if (__atomic_load_n(&ei->copy, __ATOMIC_ACQUIRE))
		return 0;
	int err = copy_in_memory(ei, &mem);
	if (err)
		return err;
	/* Guests get what cannot be written to. */
	err = file_open_path(mem->path, O_RDONLY, &ro);
	file_put(mem);
	if (err)
		return err;
	struct file *none = NULL;
	if (!__atomic_compare_exchange_n(&ei->copy, &none, ro, false, __ATOMIC_ACQ_REL,
					 __ATOMIC_ACQUIRE))
		file_put(ro);
	return 0;
}

static int file_map_fd(struct file *f, bool shared, int *fd)
{
	struct erofs_inode *ei = ei_of(f->inode);
	int err = file_map_prepare(f, shared, 0, 0);

	return err ? err : ei->copy->ops->map_fd(ei->copy, shared, fd);
}

static const struct file_ops file_fops = {
	.read = file_read_op,
	.map_prepare = file_map_prepare,
	.map_fd = file_map_fd,
};

static int file_open(struct inode *in, struct dentry *d, struct file *f)
{
	(void)d;
	if (ei_of(in)->node.layout == EROFS_COMPRESSED)
		return -EOPNOTSUPP;
	f->ops = &file_fops;
	return 0;
}

/* ---- directories ---- */

static unsigned dtype_of(unsigned type)
{
	static const unsigned types[] = {0,	  S_IFREG, S_IFDIR,  S_IFCHR,
					 S_IFBLK, S_IFIFO, S_IFSOCK, S_IFLNK};

	return type < ARRAY_SIZE(types) ? types[type] >> 12 : 0;
}

static int dir_readdir(struct file *f, struct dir_context *ctx, int64_t *off)
{
	const struct erofs_image *img = img_of(f->inode);
	CLEANUP_FREE char *block = malloc(img->dir_block);
	uint64_t have = UINT64_MAX;
	struct erofs_entry e;
	int more;

	if (!block)
		return -ENOMEM;
	if (*off < 0)
		return -EINVAL;
	while ((more = erofs_entry_at(img, &ei_of(f->inode)->node, (uint64_t)*off, block, &have,
				      &e)) > 0) {
		if (!ctx->emit(ctx, e.name, e.len, (int64_t)e.next, e.nid, dtype_of(e.type)))
			return 0;
		*off = (int64_t)e.next;
	}
	return more;
}

static const struct file_ops dir_fops = {.readdir = dir_readdir};

static int dir_open(struct inode *in, struct dentry *d, struct file *f)
{
	(void)in, (void)d;
	f->ops = &dir_fops;
	return 0;
}

static int inode_make(struct erofs_fs *fs, uint64_t nid, struct inode **out);

static int dir_lookup(struct inode *dir, struct dentry *d)
{
	struct inode *in;
	uint64_t nid;
	int err = erofs_lookup(img_of(dir), &ei_of(dir)->node, d->name, d->name_len, &nid);

	if (err == -ENOENT)
		return 0;
	if (!err)
		err = inode_make(fs_of(dir->sb), nid, &in);
	if (!err)
		dentry_instantiate(d, in);
	return err;
}

static ssize_t link_read(struct inode *in, char *buf, size_t size)
{
	return erofs_read(img_of(in), &ei_of(in)->node, buf, MIN(size, PAGE_SIZE), 0);
}

/* ---- extended attributes ---- */

struct wanted {
	const struct erofs_image *img;
	const char *name;
	char *buf;
	size_t size;
	ssize_t result;
};

static bool is_name(const struct erofs_xattr *x, const char *name)
{
	size_t n = strlen(x->prefix);

	return !strncmp(name, x->prefix, n) && strlen(name + n) == x->len &&
	       !memcmp(name + n, x->name, x->len);
}

static int take_value(const struct erofs_xattr *x, void *arg)
{
	struct wanted *w = arg;

	if (!is_name(x, w->name))
		return 0;
	w->result = (ssize_t)x->size;
	if (w->size && x->size > w->size)
		w->result = -ERANGE;
	else if (w->size && x->size) {
		if (x->value > w->img->size || x->size > w->img->size - x->value)
			return -EUCLEAN;
		int err = w->img->read(w->img->arg, w->buf, x->size, x->value);
		if (err)
			return err;
	}
	return 1;
}

static ssize_t get_xattr(struct inode *in, const char *name, void *buf, size_t size)
{
	struct wanted w = {img_of(in), name, buf, size, -ENODATA};
	int err = erofs_xattr_each(w.img, &ei_of(in)->node, take_value, &w);

	return err < 0 ? err : w.result;
}

static int take_name(const struct erofs_xattr *x, void *arg)
{
	struct wanted *w = arg;
	size_t prefix = strlen(x->prefix), n = prefix + x->len + 1;

	if (w->size && n > w->size - (size_t)w->result)
		return -ERANGE;
	if (w->size) {
		char *at = w->buf + w->result;
		memcpy(at, x->prefix, prefix);
		memcpy(at + prefix, x->name, x->len);
		at[n - 1] = 0;
	}
	w->result += (ssize_t)n;
	return 0;
}

static ssize_t list_xattr(struct inode *in, char *buf, size_t size)
{
	struct wanted w = {img_of(in), NULL, buf, size, 0};
	int err = erofs_xattr_each(w.img, &ei_of(in)->node, take_name, &w);

	return err < 0 ? err : w.result;
}

/* Lists are found by permission checks where inode_acl_changed puts them. */
static void load_acls(struct inode *in)
{
	static const char *const names[] = {ACL_XATTR_ACCESS, ACL_XATTR_DEFAULT};
	char value[4096];

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		ssize_t n = get_xattr(in, names[i], value, sizeof(value));
		if (n > 0)
			inode_acl_changed(in, names[i], value, (size_t)n);
	}
}

/* ---- inodes ---- */

static void inode_free_op(struct inode *in)
{
	struct erofs_inode *ei = ei_of(in);

	file_put(ei->copy);
	free(ei);
}

#define COMMON_OPS .getxattr = get_xattr, .listxattr = list_xattr, .free = inode_free_op
static const struct inode_ops file_iops = {.open = file_open, COMMON_OPS};
static const struct inode_ops dir_iops = {.lookup = dir_lookup, .open = dir_open, COMMON_OPS};
static const struct inode_ops link_iops = {.readlink = link_read, COMMON_OPS};
static const struct inode_ops other_iops = {COMMON_OPS};

static const struct inode_ops *ops_for(uint32_t mode)
{
	return S_ISREG(mode)   ? &file_iops
	       : S_ISDIR(mode) ? &dir_iops
	       : S_ISLNK(mode) ? &link_iops
			       : &other_iops;
}

static int inode_make(struct erofs_fs *fs, uint64_t nid, struct inode **out)
{
	struct erofs_inode *ei = calloc(1, sizeof(*ei));

	if (!ei)
		return -ENOMEM;
	int err = erofs_node_read(&fs->img, nid, &ei->node);
	if (err) {
		free(ei);
		return err;
	}
	const struct erofs_node *n = &ei->node;
	inode_init(&ei->in, &fs->sb, ops_for(n->mode), nid, n->mode, NULL);
	ei->in.nlink = n->nlink;
	ei->in.uid = n->uid;
	ei->in.gid = n->gid;
	ei->in.size = n->size;
	ei->in.blocks = (n->size + 511) / 512;
	ei->in.rdev = n->rdev;
	ei->in.atime = ei->in.mtime = ei->in.ctime = ei->in.btime =
		(struct ktime){(int64_t)n->mtime, MIN(n->mtime_nsec, 999999999U)};
	if (n->xattrs_size)
		load_acls(&ei->in);
	*out = &ei->in;
	return 0;
}

/* ---- mounting ---- */

static int fs_statfs(struct super_block *sb, struct kstatfs *st)
{
	const struct erofs_image *img = &fs_of(sb)->img;

	*st = (struct kstatfs){
		.type = sb->magic,
		.bsize = 1ULL << img->block_bits,
		.frsize = 1ULL << img->block_bits,
		.blocks = img->blocks,
		.files = UINT64_MAX,
		.ffree = UINT64_MAX - img->inodes,
		.namelen = VFS_NAME_MAX,
		.fsid = sb->dev,
	};
	return 0;
}

static void fs_free(struct super_block *sb)
{
	struct erofs_fs *fs = fs_of(sb);

	file_put(fs->file);
	free(fs);
}

static const struct super_ops fs_ops = {.statfs = fs_statfs, .free = fs_free};

/* Options that change nothing here. */
static bool options_are_known(const char *options)
{
	static const char *const known[] = {"acl", "noacl", "user_xattr", "nouser_xattr", "ro", ""};

	while (options && *options) {
		size_t n = strcspn(options, ","), i;
		for (i = 0; i < ARRAY_SIZE(known); i++)
			if (strlen(known[i]) == n && !strncmp(options, known[i], n))
				break;
		if (i == ARRAY_SIZE(known))
			return false;
		options += n + (options[n] == ',');
	}
	return true;
}

static int open_image(const struct fs_params *p, struct file **out)
{
	struct file *f;

	if (!p->source || !*p->source)
		return -EINVAL;
	int err = vfs_open(p->env, p->source, O_RDONLY, 0, 0, &f);
	if (err)
		return err;
	/* It is read with directories locked: nobody may be waited for. */
	if (!S_ISREG(f->inode->mode))
		err = S_ISBLK(f->inode->mode) ? -ENXIO : -ENOTBLK;
	else if (f->inode->sb->ops->lock || !f->ops->read || !f->ops->map_fd)
		err = -EINVAL;
	if (err)
		file_put(f);
	else
		*out = f;
	return err;
}

int erofs_make(const struct fs_params *p, struct super_block **out)
{
	struct path where;
	struct kstat st;
	struct inode *root;
	struct file *f;

	if (!options_are_known(p->options))
		return -EINVAL;
	int err = open_image(p, &f);
	if (err)
		return err;
	where = f->path;
	struct erofs_fs *fs = calloc(1, sizeof(*fs));
	err = fs ? vfs_getattr(where, &st) : -ENOMEM;
	if (err) {
		free(fs);
		file_put(f);
		return err;
	}
	super_init(&fs->sb, &fs_ops, "erofs", EROFS_SUPER_MAGIC_V1);
	fs->sb.readonly = fs->sb.fixed_readonly = true;
	fs->file = f;
	fs->img = (struct erofs_image){.read = image_read, .arg = f, .size = st.size};
	err = erofs_open(&fs->img);
	if (!err)
		err = inode_make(fs, fs->img.root, &root);
	if (!err && !S_ISDIR(root->mode)) {
		inode_put(root);
		err = -EUCLEAN;
	}
	if (!err)
		err = super_set_root(&fs->sb, root);
	if (err)
		super_put(&fs->sb);
	else
		*out = &fs->sb;
	return err;
}
