/* Copy-up: the first change of a lower file. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sentry/fs/overlay/ovl.h"

#define COPY_CHUNK (128UL << 10)

/* Names that an earlier overlay has left in the same directory are passed over. */
#define TEMP_TRIES 4096

int ovl_temp(struct ovl_super *os, struct dentry **out)
{
	char name[24];

	for (int i = 0; i < TEMP_TRIES; i++) {
		int len = snprintf(name, sizeof(name), "#%lx", (unsigned long)++os->last_temp);
		int err = dentry_lookup(os->work, name, len, out);
		if (err || !(*out)->inode)
			return err;
		dentry_put(*out);
	}
	return -EEXIST;
}

void ovl_temp_remove(struct ovl_super *os, struct dentry *d)
{
	/* The worst that a failure leaves behind is a file that nobody sees. */
	int err = S_ISDIR(d->inode->mode) ? vfs_do_rmdir(os->work, d) : vfs_do_unlink(os->work, d);
	(void)err;
}

int ovl_set_opaque(struct inode *upper)
{
	if (!upper->ops->setxattr)
		return -EOPNOTSUPP;
	return upper->ops->setxattr(upper, OVL_XATTR_OPAQUE, "y", 1, 0);
}

/* ---- contents ---- */

/* The next stretch of data in [*pos, end): false when there is none. */
static bool next_data(struct file *src, int64_t *pos, int64_t end, int64_t *stop)
{
	*stop = end;
	if (!src->ops->llseek)
		return *pos < end;
	int64_t data = file_seek(src, *pos, SEEK_DATA);
	if (data == -ENXIO || data >= end)
		return false;
	if (data < 0)
		return *pos < end; /* it does not know about holes */
	int64_t hole = file_seek(src, data, SEEK_HOLE);
	*pos = data;
	if (hole > data && hole < end)
		*stop = hole;
	return true;
}

static int copy_range(struct file *src, struct file *dst, int64_t pos, int64_t end, char *buf)
{
	while (pos < end) {
		ssize_t n = file_pread(src, buf, MIN((size_t)(end - pos), COPY_CHUNK), pos);
		if (n <= 0)
			return n;
		ssize_t done = file_pwrite(dst, buf, n, pos);
		if (done < 0)
			return done;
		if (done < n)
			return -ENOSPC;
		pos += n;
	}
	return 0;
}

static int copy_data(struct ovl_super *os, const struct ovl_lower *from, struct dentry *to,
		     uint64_t size)
{
	if (!size)
		return 0;
	CLEANUP_FILE struct file *src = NULL, *dst = NULL;
	struct path lower = {os->lower_mnt[from->layer], from->d}, upper = {os->upper_mnt, to};
	int err = file_open_quiet(lower, O_RDONLY | O_NOATIME, &src);
	if (!err)
		err = file_open_quiet(upper, O_WRONLY, &dst);
	if (err)
		return err;
	CLEANUP_FREE char *buf = malloc(MIN(size, COPY_CHUNK));
	if (!buf)
		return -ENOMEM;
	int64_t pos = 0, stop;
	while (!err && next_data(src, &pos, size, &stop)) {
		err = copy_range(src, dst, pos, stop, buf);
		pos = stop;
	}
	struct iattr a = {.valid = ATTR_SIZE, .size = size};
	if (!err && to->inode->size < size)
		err = ovl_real_setattr(to->inode, &a); /* a hole at the end */
	return err;
}

/* ---- attributes ---- */

static int copy_one_xattr(struct inode *from, struct inode *to, const char *name)
{
	ssize_t n = from->ops->getxattr(from, name, NULL, 0);
	if (n < 0)
		return n == -ENODATA ? 0 : n;
	CLEANUP_FREE char *value = malloc(n + 1);
	if (!value)
		return -ENOMEM;
	n = from->ops->getxattr(from, name, value, n + 1);
	if (n < 0)
		return n;
	int err = to->ops->setxattr(to, name, value, n, 0);
	return err == -EOPNOTSUPP ? 0 : err;
}

static int copy_xattrs(struct inode *from, struct inode *to)
{
	if (!from->ops->listxattr || !from->ops->getxattr || !to->ops->setxattr)
		return 0;
	ssize_t n = from->ops->listxattr(from, NULL, 0);
	if (n <= 0)
		return n == -EOPNOTSUPP ? 0 : n;
	CLEANUP_FREE char *names = malloc(n + 1);
	if (!names)
		return -ENOMEM;
	n = from->ops->listxattr(from, names, n);
	if (n < 0)
		return n;
	names[n] = '\0';
	int err = 0;
	for (char *name = names; !err && name < names + n; name += strlen(name) + 1)
		if (strncmp(name, OVL_XATTR_PREFIX, strlen(OVL_XATTR_PREFIX)))
			err = copy_one_xattr(from, to, name);
	return err;
}

static int real_stat(struct inode *in, struct kstat *st)
{
	*st = (struct kstat){0};
	if (in->ops->getattr)
		return in->ops->getattr(in, st);
	inode_fill_stat(in, st);
	return 0;
}

static int copy_attrs(const struct kstat *st, struct inode *to)
{
	struct iattr a = {
		.valid = ATTR_UID | ATTR_GID | ATTR_ATIME | ATTR_MTIME,
		.mode = st->mode & 07777,
		.uid = st->uid,
		.gid = st->gid,
		.atime = st->atime,
		.mtime = st->mtime,
	};
	if (!S_ISLNK(st->mode))
		a.valid |= ATTR_MODE;
	return ovl_real_setattr(to, &a);
}

/* ---- making the copy ---- */

static int make_symlink(struct ovl_super *os, struct inode *lower, struct dentry *temp)
{
	CLEANUP_FREE char *target = malloc(VFS_PATH_MAX);
	if (!target)
		return -ENOMEM;
	ssize_t n = lower->ops->readlink ? lower->ops->readlink(lower, target, VFS_PATH_MAX - 1)
					 : -EINVAL;
	if (n < 0)
		return n;
	target[n] = '\0';
	return vfs_do_symlink(os->work, temp, target, os->cred);
}

static int make_empty(struct ovl_super *os, struct inode *lower, struct dentry *temp)
{
	switch (lower->mode & S_IFMT) {
	case S_IFDIR:
		return vfs_do_mkdir(os->work, temp, 0700, os->cred);
	case S_IFREG:
		return vfs_do_create(os->work, temp, S_IFREG | 0600, os->cred);
	case S_IFLNK:
		return make_symlink(os, lower, temp);
	default:
		return vfs_do_mknod(os->work, temp, (lower->mode & S_IFMT) | 0600, lower->rdev,
				    os->cred);
	}
}

static int fill_copy(struct ovl_super *os, const struct ovl_lower *from, const struct kstat *st,
		     struct dentry *temp, uint64_t size)
{
	int err = 0;
	if (S_ISREG(st->mode))
		err = copy_data(os, from, temp, MIN(size, st->size));
	if (!err)
		err = copy_xattrs(from->d->inode, temp->inode);
	if (!err)
		err = copy_attrs(st, temp->inode);
	return err;
}

/* Gives the copy its name, without the directory looking changed. */
static int name_copy(struct ovl_super *os, struct dentry *temp, struct dentry *updir,
		     const struct dentry *lower)
{
	struct dentry *d;
	int err = dentry_lookup(updir, lower->name, lower->name_len, &d);
	if (err)
		return err;
	struct iattr times = {.valid = ATTR_ATIME | ATTR_MTIME};
	mutex_lock(&updir->inode->lock, &lc_inode);
	times.atime = updir->inode->atime;
	times.mtime = updir->inode->mtime;
	mutex_unlock(&updir->inode->lock, &lc_inode);
	err = d->inode ? -EIO : vfs_do_rename(os->work, temp, updir, d, 0);
	dentry_put(d);
	if (!err) {
		/* Times that could not be put back do no harm. */
		int ignored = ovl_real_setattr(updir->inode, &times);
		(void)ignored;
	}
	return err;
}

/* From here on the file is the copy.  *spare is taken unless the file has a record already. */
static void publish(struct ovl_super *os, struct ovl_inode *oi, struct dentry *temp,
		    struct ovl_record **spare, uint32_t nlink, bool named)
{
	/* Names besides this one: a copy without a name gets one that only the overlay sees. */
	uint32_t others = named && nlink ? nlink - 1 : nlink;
	mutex_lock(&os->hash_lock, &lc_leaf);
	struct ovl_record *r = oi->record ? oi->record : steal(*spare);
	r->upper_ino = temp->inode->ino;
	r->ino = oi->in.ino;
	if (others && !S_ISDIR(temp->inode->mode)) {
		if (!r->lower)
			r->lower = dentry_get(oi->lower[0].d);
		r->upper = dentry_get(temp);
		r->index = !named;
	}
	r->lower_links = r->upper ? others : 0;
	atomic_store_explicit(&oi->upper, dentry_get(temp), memory_order_release);
	oi->record = r;
	ovl_record_insert(os, r);
	ovl_rehash_locked(os, oi);
	mutex_unlock(&os->hash_lock, &lc_leaf);
	struct inode *lower = oi->lower[0].d->inode;
	if (lower->ops->forget)
		lower->ops->forget(lower);
	ovl_copy_attr(oi, true);
}

/* oi->lock is held; the parent, if it still has one, is in the upper layer. */
static int copy_up_locked(struct ovl_super *os, struct ovl_inode *oi, struct inode *parent,
			  uint64_t size)
{
	const struct ovl_lower *from = &oi->lower[0];
	struct inode *lower = from->d->inode;
	if (!parent && S_ISDIR(lower->mode))
		return -ENOENT; /* removed: there is nothing that a copy could be good for */
	struct kstat st;
	int err = real_stat(lower, &st);
	if (err)
		return err;
	CLEANUP_FREE struct ovl_record *r = ovl_record_new();
	if (!r)
		return -ENOMEM;
	struct dentry *temp;
	if ((err = ovl_temp(os, &temp)))
		return err;
	uint32_t nlink = oi->in.nlink;
	err = make_empty(os, lower, temp);
	if (!err) {
		err = fill_copy(os, from, &st, temp, size);
		if (!err && parent)
			err = name_copy(os, temp, ovl_upper(ovl_inode(parent)), from->d);
		else if (!err && !nlink)
			err = vfs_do_unlink(os->work, temp);
		if (err)
			ovl_temp_remove(os, temp);
		else
			publish(os, oi, temp, &r, nlink, parent || !nlink);
	}
	dentry_put(temp);
	return err;
}

static struct lock_class *lock_class(const struct ovl_inode *oi)
{
	return oi->in.sb->layer ? &lc_layer_overlay : &lc_overlay;
}

void ovl_lock(struct ovl_inode *oi) NO_LOCK_ANALYSIS
{
	mutex_lock(&oi->lock, lock_class(oi));
}

void ovl_unlock(struct ovl_inode *oi) NO_LOCK_ANALYSIS
{
	mutex_unlock(&oi->lock, lock_class(oi));
}

static int copy_up_one(struct ovl_inode *oi, uint64_t size)
{
	struct ovl_super *os = ovl_super(oi->in.sb);
	int err = 0;
	ovl_lock(oi);
	if (!ovl_upper(oi)) {
		/* A removal of the name would have the lock: what is there now stays. */
		struct inode *parent = ovl_parent_get(oi);
		err = copy_up_locked(os, oi, parent, size);
		ovl_unlock(oi);
		inode_put(parent);
		return err;
	}
	ovl_unlock(oi);
	return err;
}

/* The file itself, or the topmost of its parents that is not in the upper layer; a reference. */
static struct ovl_inode *topmost_lower(struct inode *in)
{
	struct inode *top = inode_get(in);
	for (;;) {
		struct inode *parent = ovl_parent_get(ovl_inode(top));
		if (!parent || ovl_upper(ovl_inode(parent))) {
			inode_put(parent);
			return ovl_inode(top);
		}
		inode_put(top);
		top = parent;
	}
}

int ovl_copy_up(struct inode *in, uint64_t size)
{
	int err = 0;
	while (!err && !ovl_upper(ovl_inode(in))) {
		if (!ovl_super(in->sb)->upper_mnt)
			return -EROFS;
		struct ovl_inode *top = topmost_lower(in);
		err = copy_up_one(top, &top->in == in ? size : OVL_ALL);
		inode_put(&top->in);
	}
	return err;
}
