/* Overlay inodes: one for each file, whatever layer it is in; attributes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/fs/overlay/ovl.h"
#include "sentry/lib/slab.h"
#include "sentry/vfs/acl.h"

/* Those of files that are in one lower layer at most. */
static struct slab inodes = SLAB_INIT(sizeof(struct ovl_inode) + sizeof(struct ovl_lower));

/* ---- numbers ---- */

/*
 * One st_dev for all layers: numbers of the first lower layer are shown as they are, others carry
 * a mark in their highest byte.  layer 0 is the upper one.
 */
uint64_t ovl_encode_ino(const struct super_block *sb, size_t layer, uint64_t ino)
{
	(void)sb;
	uint64_t mark = layer ? (layer - 1) & 0x3f : 0x40;
	return ino ^ mark << 56;
}

/* ---- the table of inodes ---- */

/* What names the file: its upper inode, or the lower one while there is none.  Directories go by
 * their topmost lower inode, if any: that does not change by copy-up. */
static const struct inode *key_of(const struct ovl_inode *oi)
{
	struct dentry *upper = ovl_upper(oi);
	if (oi->nlower && (!upper || S_ISDIR(upper->inode->mode)))
		return oi->lower[0].d->inode;
	return upper->inode;
}

static struct list_head *bucket(struct ovl_super *os, const struct inode *key)
{
	uint64_t h = ((uintptr_t)key >> 4) * 0x9e3779b97f4a7c15ULL;
	struct list_head *b = &os->inodes[h >> (64 - OVL_INODE_BITS)];
	if (!b->next)
		list_init(b);
	return b;
}

/* A live inode by its key, with a reference. */
static struct ovl_inode *table_find(struct ovl_super *os, const struct inode *key)
{
	struct ovl_inode *oi;
	list_for_each (oi, bucket(os, key), hash) {
		if (key_of(oi) == key && ref_get_unless_zero(&oi->in.ref))
			return oi;
	}
	return NULL;
}

void ovl_rehash_locked(struct ovl_super *os, struct ovl_inode *oi)
{
	list_del(&oi->hash);
	list_add(&oi->hash, bucket(os, key_of(oi)));
}

static void put_all(struct dentry *upper, struct ovl_lower *lower, size_t nlower)
{
	dentry_put(upper);
	for (size_t i = 0; i < nlower; i++)
		dentry_put(lower[i].d);
}

/* A candidate, not yet in the table; its attributes are those of the real inode. */
static struct ovl_inode *inode_alloc(struct ovl_super *os, struct dentry *upper,
				     const struct ovl_lower *lower, size_t nlower)
{
	struct ovl_inode *oi;
	size_t size = sizeof(*oi) + nlower * sizeof(*lower);
	oi = size <= inodes.size ? slab_alloc(&inodes) : calloc(1, size);
	if (!oi)
		return NULL;
	const struct inode *real = upper ? upper->inode : lower[0].d->inode;
	const struct inode_ops *ops = &ovl_special_iops;
	if (S_ISDIR(real->mode))
		ops = &ovl_dir_iops;
	else if (S_ISREG(real->mode))
		ops = &ovl_file_iops;
	else if (S_ISLNK(real->mode))
		ops = &ovl_link_iops;
	inode_init(&oi->in, &os->sb, ops, 0, real->mode, NULL);
	mutex_init(&oi->lock);
	list_init(&oi->hash);
	oi->upper = upper;
	oi->nlower = nlower;
	if (nlower)
		memcpy(oi->lower, lower, nlower * sizeof(*lower));
	oi->in.rdev = real->rdev;
	oi->in.nlink = real->nlink;
	ovl_copy_attr(oi, true);
	return oi;
}

/*
 * Under hash_lock: the candidate learns from records what it is, and enters the table, unless the
 * file is there already.  *spare is taken when a merged directory needs a record.
 */
static struct ovl_inode *table_enter(struct ovl_super *os, struct ovl_inode *oi,
				     struct inode *parent, struct ovl_record **spare)
{
	bool is_dir = S_ISDIR(oi->in.mode);
	struct ovl_record *r = NULL;
	if (oi->upper)
		r = ovl_record_by_upper(os, ovl_upper(oi)->inode->ino);
	else if (!is_dir)
		r = ovl_record_by_lower(os, oi->lower[0].d->inode);
	if (r && !oi->upper && r->upper)
		oi->upper = dentry_get(r->upper);
	if (r && !oi->upper)
		oi->in.nlink = r->lower_links;

	struct ovl_inode *found = table_find(os, key_of(oi));
	struct ovl_inode *use = found ? found : oi;
	/* Another name of a known file does not matter: it has one of its own, or had. */
	if (parent && !use->parent && !ovl_upper(use) && use->lower[0].d == oi->lower[0].d)
		use->parent = inode_get(parent);
	if (found)
		return found;
	size_t layer = oi->nlower ? oi->lower[0].layer + 1 : 0;
	uint64_t ino = (oi->nlower ? oi->lower[0].d : ovl_upper(oi))->inode->ino;
	oi->in.ino = r ? r->ino : ovl_encode_ino(&os->sb, layer, ino);
	if (!r && *spare) {
		r = steal(*spare);
		r->upper_ino = ovl_upper(oi)->inode->ino;
		r->ino = oi->in.ino;
		ovl_record_insert(os, r);
	}
	oi->record = r;
	list_add(&oi->hash, bucket(os, key_of(oi)));
	return oi;
}

int ovl_inode_get(struct ovl_super *os, struct dentry *upper, struct ovl_lower *lower,
		  size_t nlower, struct inode *parent, struct inode **out)
{
	struct ovl_inode *oi = inode_alloc(os, upper, lower, nlower);
	if (!oi) {
		put_all(upper, lower, nlower);
		return -ENOMEM;
	}
	CLEANUP_FREE struct ovl_record *spare = NULL;
	if (upper && nlower && !(spare = ovl_record_new())) {
		inode_put(&oi->in);
		return -ENOMEM;
	}
	mutex_lock(&os->hash_lock, &lc_leaf);
	struct ovl_inode *use = table_enter(os, oi, parent, &spare);
	mutex_unlock(&os->hash_lock, &lc_leaf);
	if (use != oi)
		inode_put(&oi->in);
	else if (ovl_upper(oi) != upper)
		ovl_copy_attr(oi, true);
	*out = &use->in;
	return 0;
}

struct inode *ovl_parent_get(struct ovl_inode *oi)
{
	struct ovl_super *os = ovl_super(oi->in.sb);
	mutex_lock(&os->hash_lock, &lc_leaf);
	struct inode *parent = oi->parent ? inode_get(oi->parent) : NULL;
	mutex_unlock(&os->hash_lock, &lc_leaf);
	return parent;
}

void ovl_forget_parent(struct ovl_inode *oi, const struct inode *dir, const char *name)
{
	struct ovl_super *os = ovl_super(oi->in.sb);
	struct inode *parent = NULL;
	mutex_lock(&os->hash_lock, &lc_leaf);
	if (oi->parent == dir && !strcmp(oi->lower[0].d->name, name))
		parent = steal(oi->parent);
	mutex_unlock(&os->hash_lock, &lc_leaf);
	inode_put(parent);
}

void ovl_free(struct inode *in)
{
	struct ovl_super *os = ovl_super(in->sb);
	struct ovl_inode *oi = ovl_inode(in);
	mutex_lock(&os->hash_lock, &lc_leaf);
	list_del(&oi->hash);
	mutex_unlock(&os->hash_lock, &lc_leaf);
	ovl_record_drop(os, oi);
	put_all(ovl_upper(oi), oi->lower, oi->nlower);
	inode_put(oi->parent);
	ovl_list_put(oi->list);
	if (sizeof(*oi) + oi->nlower * sizeof(oi->lower[0]) <= inodes.size)
		slab_free(&inodes, oi);
	else
		free(oi);
}

/* ---- attributes ---- */

static void store_changed(uint32_t *field, uint32_t value)
{
	if (*field != value)
		__atomic_store_n(field, value, __ATOMIC_RELAXED);
}

void ovl_copy_attr(struct ovl_inode *oi, bool atime)
{
	struct inode *real = ovl_real(oi), *in = &oi->in;
	uint32_t nlink = ovl_nlink(oi);
	if (S_ISDIR(in->mode) && !ovl_upper(oi))
		nlink = oi->nlower > 1 ? 1 : real->nlink;

	mutex_lock(&real->lock, &lc_inode);
	uint32_t mode = real->mode, uid = real->uid, gid = real->gid;
	uint64_t size = real->size, blocks = real->blocks;
	struct ktime at = real->atime, mt = real->mtime, ct = real->ctime, bt = real->btime;
	mutex_unlock(&real->lock, &lc_inode);

	mutex_lock(&in->lock, &lc_inode);
	/* Walks read mode and ids without the lock: single stores, and only of changes. */
	store_changed(&in->mode, (in->mode & S_IFMT) | (mode & 07777));
	store_changed(&in->uid, uid);
	store_changed(&in->gid, gid);
	store_changed(&in->nlink, nlink);
	in->size = size;
	in->blocks = blocks;
	in->mtime = mt;
	in->ctime = ct;
	in->btime = bt;
	if (atime)
		in->atime = at;
	mutex_unlock(&in->lock, &lc_inode);
	inode_acl_copy(in, real);
}

int ovl_getattr(struct inode *in, struct kstat *st)
{
	struct ovl_inode *oi = ovl_inode(in);
	struct inode *real = ovl_real(oi);
	if (real->ops->getattr) {
		int err = real->ops->getattr(real, st);
		if (err)
			return err;
	} else {
		inode_fill_stat(real, st);
	}
	st->dev = in->sb->dev;
	st->ino = in->ino;
	st->nlink = ovl_nlink(oi);
	mutex_lock(&in->lock, &lc_inode);
	st->atime = in->atime;
	mutex_unlock(&in->lock, &lc_inode);
	return 0;
}

int ovl_real_setattr(struct inode *real, const struct iattr *a)
{
	if (real->ops->setattr)
		return real->ops->setattr(real, a);
	inode_apply_attr(real, a);
	return 0;
}

int ovl_setattr(struct inode *in, const struct iattr *a)
{
	struct ovl_inode *oi = ovl_inode(in);
	int err = ovl_copy_up(in, a->valid & ATTR_SIZE ? a->size : OVL_ALL);
	if (!err)
		err = ovl_real_setattr(ovl_real(oi), a);
	if (!err)
		ovl_copy_attr(oi, a->valid & ATTR_ATIME);
	return err;
}

static ssize_t ovl_readlink(struct inode *in, char *buf, size_t size)
{
	struct inode *real = ovl_real(ovl_inode(in));
	return real->ops->readlink ? real->ops->readlink(real, buf, size) : -EINVAL;
}

/* ---- extended attributes: the overlay's own are not for guests ---- */

static bool is_private(const char *name)
{
	return !strncmp(name, OVL_XATTR_PREFIX, strlen(OVL_XATTR_PREFIX));
}

ssize_t ovl_getxattr(struct inode *in, const char *name, void *buf, size_t size)
{
	struct inode *real = ovl_real(ovl_inode(in));
	if (is_private(name) || !real->ops->getxattr)
		return -EOPNOTSUPP;
	return real->ops->getxattr(real, name, buf, size);
}

int ovl_setxattr(struct inode *in, const char *name, const void *v, size_t n, int flags)
{
	if (is_private(name))
		return -EOPNOTSUPP;
	int err = ovl_copy_up(in, OVL_ALL);
	if (err)
		return err;
	struct inode *real = ovl_real(ovl_inode(in));
	if (!real->ops->setxattr)
		return -EOPNOTSUPP;
	err = real->ops->setxattr(real, name, v, n, flags);
	ovl_copy_attr(ovl_inode(in), false);
	return err;
}

int ovl_removexattr(struct inode *in, const char *name)
{
	if (is_private(name))
		return -EOPNOTSUPP;
	/* A name that is not there is no reason to copy. */
	ssize_t n = ovl_getxattr(in, name, NULL, 0);
	if (n < 0)
		return n;
	int err = ovl_copy_up(in, OVL_ALL);
	if (err)
		return err;
	struct inode *real = ovl_real(ovl_inode(in));
	if (!real->ops->removexattr)
		return -EOPNOTSUPP;
	err = real->ops->removexattr(real, name);
	ovl_copy_attr(ovl_inode(in), false);
	return err;
}

/* The whole list of the real inode, without private names; *out is malloc'ed. */
static ssize_t visible_names(struct inode *real, char **out)
{
	ssize_t n = real->ops->listxattr(real, NULL, 0);
	if (n <= 0)
		return n;
	char *all = malloc(n);
	if (!all)
		return -ENOMEM;
	n = real->ops->listxattr(real, all, n);
	size_t keep = 0;
	for (ssize_t i = 0; i < n;) {
		size_t len = strnlen(all + i, n - i) + 1;
		if (!is_private(all + i)) {
			memmove(all + keep, all + i, len);
			keep += len;
		}
		i += len;
	}
	if (n < 0) {
		free(all);
		return n;
	}
	*out = all;
	return keep;
}

ssize_t ovl_listxattr(struct inode *in, char *buf, size_t size)
{
	struct inode *real = ovl_real(ovl_inode(in));
	if (!real->ops->listxattr)
		return 0;
	CLEANUP_FREE char *names = NULL;
	ssize_t n = visible_names(real, &names);
	if (n > 0 && size) {
		if ((size_t)n > size)
			return -ERANGE;
		memcpy(buf, names, n);
	}
	return n;
}

const struct inode_ops ovl_file_iops = {
	.open = ovl_file_open,
	.getattr = ovl_getattr,
	.setattr = ovl_setattr,
	.getxattr = ovl_getxattr,
	.setxattr = ovl_setxattr,
	.listxattr = ovl_listxattr,
	.removexattr = ovl_removexattr,
	.free = ovl_free,
};

const struct inode_ops ovl_link_iops = {
	.readlink = ovl_readlink,
	.getattr = ovl_getattr,
	.setattr = ovl_setattr,
	.getxattr = ovl_getxattr,
	.setxattr = ovl_setxattr,
	.listxattr = ovl_listxattr,
	.removexattr = ovl_removexattr,
	.free = ovl_free,
};

const struct inode_ops ovl_special_iops = {
	.getattr = ovl_getattr,
	.setattr = ovl_setattr,
	.getxattr = ovl_getxattr,
	.setxattr = ovl_setxattr,
	.listxattr = ovl_listxattr,
	.removexattr = ovl_removexattr,
	.free = ovl_free,
};
