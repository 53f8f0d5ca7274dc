/* Extended attributes: a list a file.  Who may use which name is the vfs's business (xattr(7)). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include "sentry/fs/tmpfs/node.h"
#include "sentry/vfs/acl.h"

/* Bounds what one file may hold; Linux bounds the names alone (a listing has to fit 64 KiB). */
#define XATTR_BYTES_MAX (256UL << 10)
#define XATTR_NAMES_MAX (64UL << 10)

static bool name_supported(const char *name)
{
	static const char *const prefixes[] = {"user.", "trusted.", "security."};
	for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++)
		if (!strncmp(name, prefixes[i], strlen(prefixes[i])))
			return true;
	return acl_type_of(name) >= 0;
}

static struct tmpfs_xattr **xattr_find(struct tmpfs_inode *ti, const char *name)
{
	struct tmpfs_xattr **p = &ti->xattrs;
	while (*p && strcmp((*p)->name, name))
		p = &(*p)->next;
	return p;
}

static void xattr_free(struct tmpfs_xattr *x)
{
	free(x->name);
	free(x->value);
	free(x);
}

static size_t xattr_cost(const struct tmpfs_xattr *x)
{
	return x ? sizeof(*x) + strlen(x->name) + 1 + x->size : 0;
}

/* Changes the bytes that the file's attributes take, and the pages charged for them. */
static int xattr_account(struct tmpfs_inode *ti, size_t add, size_t sub)
{
	struct tmpfs_super *ts = tmpfs_super(ti->in.sb);
	uint64_t bytes = ti->xattr_bytes + add - sub;
	if (add > sub && bytes > XATTR_BYTES_MAX)
		return -ENOSPC;
	uint64_t pages = (bytes + PAGE_SIZE - 1) / PAGE_SIZE;
	if (pages > ti->xattr_charged) {
		int err = tmpfs_charge(ts, pages - ti->xattr_charged);
		if (err)
			return err;
	} else {
		tmpfs_uncharge(ts, ti->xattr_charged - pages);
	}
	ti->xattr_bytes = bytes;
	ti->xattr_charged = pages;
	return 0;
}

ssize_t tmpfs_getxattr(struct inode *in, const char *name, void *buf, size_t size)
{
	if (!name_supported(name))
		return -EOPNOTSUPP;
	struct tmpfs_inode *ti = tmpfs_inode(in);
	mutex_lock(&in->data_lock, &lc_inode_data);
	struct tmpfs_xattr *x = *xattr_find(ti, name);
	ssize_t n = x ? (ssize_t)x->size : -ENODATA;
	if (n >= 0 && size) {
		if ((size_t)n > size)
			n = -ERANGE;
		else
			memcpy(buf, x->value, n);
	}
	mutex_unlock(&in->data_lock, &lc_inode_data);
	return n;
}

static struct tmpfs_xattr *xattr_new(const char *name, const void *v, size_t n)
{
	struct tmpfs_xattr *x = calloc(1, sizeof(*x));
	if (!x)
		return NULL;
	x->name = strdup(name);
	x->value = malloc(n ? n : 1);
	x->size = n;
	if (!x->name || !x->value) {
		xattr_free(x);
		return NULL;
	}
	if (n)
		memcpy(x->value, v, n);
	return x;
}

static size_t names_length(const struct tmpfs_inode *ti)
{
	size_t n = 0;
	for (const struct tmpfs_xattr *x = ti->xattrs; x; x = x->next)
		n += strlen(x->name) + 1;
	return n;
}

static int xattr_store_locked(struct tmpfs_inode *ti, struct tmpfs_xattr *x, int flags)
{
	struct tmpfs_xattr **p = xattr_find(ti, x->name), *old = *p;
	if (old && (flags & XATTR_CREATE))
		return -EEXIST;
	if (!old && (flags & XATTR_REPLACE))
		return -ENODATA;
	if (!old && names_length(ti) + strlen(x->name) + 1 > XATTR_NAMES_MAX)
		return -ENOSPC;
	int err = xattr_account(ti, xattr_cost(x), xattr_cost(old));
	if (err)
		return err;
	x->next = old ? old->next : NULL;
	*p = x;
	if (old)
		xattr_free(old);
	return 0;
}

int tmpfs_setxattr(struct inode *in, const char *name, const void *v, size_t n, int flags)
{
	if (!name_supported(name))
		return -EOPNOTSUPP;
	struct tmpfs_xattr *x = xattr_new(name, v, n);
	if (!x)
		return -ENOMEM;
	mutex_lock(&in->data_lock, &lc_inode_data);
	int err = xattr_store_locked(tmpfs_inode(in), x, flags);
	mutex_unlock(&in->data_lock, &lc_inode_data);
	if (err) {
		xattr_free(x);
		return err;
	}
	inode_acl_changed(in, name, v, n);
	inode_touch(in, false);
	return 0;
}

int tmpfs_removexattr(struct inode *in, const char *name)
{
	if (!name_supported(name))
		return -EOPNOTSUPP;
	struct tmpfs_inode *ti = tmpfs_inode(in);
	mutex_lock(&in->data_lock, &lc_inode_data);
	struct tmpfs_xattr **p = xattr_find(ti, name), *x = *p;
	int err = x ? xattr_account(ti, 0, xattr_cost(x)) : -ENODATA;
	if (!err)
		*p = x->next;
	mutex_unlock(&in->data_lock, &lc_inode_data);
	if (err)
		return err;
	xattr_free(x);
	inode_acl_changed(in, name, NULL, 0);
	inode_touch(in, false);
	return 0;
}

ssize_t tmpfs_listxattr(struct inode *in, char *buf, size_t size)
{
	struct tmpfs_inode *ti = tmpfs_inode(in);
	mutex_lock(&in->data_lock, &lc_inode_data);
	ssize_t total = names_length(ti);
	if (size && (size_t)total > size) {
		total = -ERANGE;
	} else if (size) {
		for (const struct tmpfs_xattr *x = ti->xattrs; x; x = x->next) {
			size_t n = strlen(x->name) + 1;
			memcpy(buf, x->name, n);
			buf += n;
		}
	}
	mutex_unlock(&in->data_lock, &lc_inode_data);
	return total;
}

void tmpfs_xattr_fini(struct tmpfs_inode *ti)
{
	struct tmpfs_xattr *x = ti->xattrs, *next;
	for (; x; x = next) {
		next = x->next;
		xattr_free(x);
	}
	tmpfs_uncharge(tmpfs_super(ti->in.sb), ti->xattr_charged);
}
