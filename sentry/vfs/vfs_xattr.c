/* Extended attributes: the rules of xattr(7) before the file system is asked. */
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <linux/xattr.h>
#include <sys/mount.h>

#include "sentry/vfs/internal.h"

static bool has_prefix(const char *name, const char *prefix)
{
	return !strncmp(name, prefix, strlen(prefix));
}

static int name_check(const char *name)
{
	size_t n = strlen(name);

	if (n == 0 || n > XATTR_NAME_MAX)
		return -ERANGE;
	if (has_prefix(name, "user.") || has_prefix(name, "trusted.") ||
	    has_prefix(name, "security.") || has_prefix(name, "system."))
		return 0;
	return -EOPNOTSUPP;
}

/* May c read (MAY_READ) or change (MAY_WRITE) the attribute? */
static int xattr_permission(struct path p, const char *name, int mask, const struct cred *c)
{
	struct inode *in = dentry_inode(p.dentry);
	int denied = mask & MAY_WRITE ? -EPERM : -ENODATA;
	int err = name_check(name);

	if (err)
		return err;
	if (mask & MAY_WRITE && (in->sb->readonly || p.mnt->flags & MS_RDONLY))
		return -EROFS;
	if (has_prefix(name, "trusted."))
		return cred_capable(c, CAP_SYS_ADMIN) ? 0 : denied;
	if (has_prefix(name, "security.")) {
		if (!(mask & MAY_WRITE))
			return 0;
		bool may = !strcmp(name, XATTR_NAME_CAPS)
				   ? inode_capable(in, c, CAP_SETFCAP)
				   : cred_ns_capable(c, in->sb->user_ns, CAP_SYS_ADMIN);
		return may ? 0 : -EPERM;
	}
	if (has_prefix(name, "system."))
		return !(mask & MAY_WRITE) || inode_owner_or_capable(in, c) ? 0 : -EPERM;
	if (!S_ISREG(in->mode) && !inode_is_dir(in))
		return denied;
	if (inode_is_dir(in) && in->mode & S_ISVTX && mask & MAY_WRITE &&
	    !inode_owner_or_capable(in, c))
		return -EPERM;
	return inode_permission(in, mask, c);
}

static ssize_t get_filecaps(struct inode *in, void *buf, size_t size, const struct cred *c)
{
	struct vfs_ns_cap_data d = {0};
	ssize_t n = in->ops->getxattr ? in->ops->getxattr(in, XATTR_NAME_CAPS, &d, sizeof(d))
				      : -EOPNOTSUPP;

	if (n < 0 || (n = filecaps_leave(in, &d, (size_t)n, c)) < 0 || !size)
		return n;
	if ((size_t)n > size)
		return -ERANGE;
	memcpy(buf, &d, (size_t)n);
	return n;
}

static int set_filecaps(struct inode *in, const void *v, size_t n, int flags, const struct cred *c)
{
	struct vfs_ns_cap_data d;
	int err = filecaps_enter(in, v, n, c, &d, &n);

	if (err)
		return err;
	err = in->ops->setxattr ? in->ops->setxattr(in, XATTR_NAME_CAPS, &d, n, flags)
				: -EOPNOTSUPP;
	in->no_caps = false;
	return err;
}

ssize_t vfs_getxattr(struct path p, const char *name, void *buf, size_t size, const struct cred *c)
{
	struct inode *in = dentry_inode(p.dentry);
	int err = xattr_permission(p, name, MAY_READ, c);

	if (err)
		return err;
	if (S_ISLNK(in->mode) && acl_type_of(name) >= 0)
		return -EOPNOTSUPP;
	if (!strcmp(name, XATTR_NAME_CAPS))
		return get_filecaps(in, buf, size, c);
	ssize_t got = in->ops->getxattr ? in->ops->getxattr(in, name, buf, size) : -EOPNOTSUPP;
	if (got > 0 && size && acl_type_of(name) >= 0 && c->user_ns != &user_ns_top)
		acl_ids_leave(buf, (size_t)got, c->user_ns);
	return got;
}

/* Sets an access control list, and the mode bits with an access list. */
static int set_acl(struct path p, enum acl_type type, void *v, size_t n, const struct cred *c)
{
	struct inode *in = dentry_inode(p.dentry);
	struct iattr mode = {.valid = ATTR_MODE};
	struct acl *a;
	bool plain = false;
	int err;

	if (S_ISLNK(in->mode))
		return -EOPNOTSUPP;
	if (c->user_ns != &user_ns_top && (err = acl_ids_enter(v, n, c->user_ns)))
		return err;
	if ((err = acl_parse(v, n, &a)))
		return err;
	if (type == ACL_DEFAULT && !inode_is_dir(in)) {
		err = a ? -EACCES : 0;
		acl_put(a);
		return err;
	}
	if (a && type == ACL_ACCESS)
		mode.mode = (in->mode & 07000) | acl_mode(a, &plain);
	err = acl_store(in, type, plain ? NULL : a);
	if (!err && a && type == ACL_ACCESS && mode.mode != (in->mode & 07777))
		err = vfs_setattr(p, &mode, c);
	acl_put(a);
	return err;
}

int vfs_setxattr(struct path p, const char *name, void *v, size_t n, int flags,
		 const struct cred *c)
{
	struct inode *in = dentry_inode(p.dentry);
	int err = xattr_permission(p, name, MAY_WRITE, c), acl = acl_type_of(name);

	if (err)
		return err;
	if (acl >= 0)
		err = set_acl(p, (enum acl_type)acl, v, n, c);
	else if (!strcmp(name, XATTR_NAME_CAPS))
		err = set_filecaps(in, v, n, flags, c);
	else
		err = in->ops->setxattr ? in->ops->setxattr(in, name, v, n, flags) : -EOPNOTSUPP;
	if (!err)
		notify_dentry(p.dentry, IN_ATTRIB);
	return err;
}

/* Leaves out "trusted." names; returns the new length. */
static size_t hide_trusted(char *list, size_t n)
{
	size_t out = 0;

	for (size_t i = 0; i < n;) {
		size_t len = strnlen(list + i, n - i) + 1;
		if (!has_prefix(list + i, "trusted.")) {
			memmove(list + out, list + i, MIN(len, n - i));
			out += MIN(len, n - i);
		}
		i += len;
	}
	return out;
}

ssize_t vfs_listxattr(struct path p, char *buf, size_t size, const struct cred *c)
{
	struct inode *in = dentry_inode(p.dentry);

	if (!in->ops->listxattr)
		return 0;
	if (cred_capable(c, CAP_SYS_ADMIN))
		return in->ops->listxattr(in, buf, size);
	/* The size that is asked for must not count hidden names. */
	ssize_t n = in->ops->listxattr(in, NULL, 0);
	if (n <= 0)
		return n;
	char *all = malloc((size_t)n);
	if (!all)
		return -ENOMEM;
	n = in->ops->listxattr(in, all, (size_t)n);
	if (n > 0) {
		n = (ssize_t)hide_trusted(all, (size_t)n);
		if (size && (size_t)n > size)
			n = -ERANGE;
		else if (size)
			memcpy(buf, all, (size_t)n);
	}
	free(all);
	return n;
}

int vfs_removexattr(struct path p, const char *name, const struct cred *c)
{
	struct inode *in = dentry_inode(p.dentry);
	int err = xattr_permission(p, name, MAY_WRITE, c);

	if (err)
		return err;
	int acl = acl_type_of(name);
	if (acl >= 0)
		err = S_ISLNK(in->mode) ? -EOPNOTSUPP : acl_store(in, (enum acl_type)acl, NULL);
	else
		err = in->ops->removexattr ? in->ops->removexattr(in, name) : -EOPNOTSUPP;
	if (!err)
		notify_dentry(p.dentry, IN_ATTRIB);
	return err;
}
