/* Attributes of files: stat(2), chmod(2), chown(2), utimensat(2), truncate(2), readlink(2),
 * statfs(2). */
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <linux/xattr.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/statvfs.h>

#include "sentry/vfs/internal.h"
#include "sentry/vfs/landlock.h"
#include "sentry/vfs/lease.h"

#define LINUX_ST_VALID 0x20
#define LINUX_ST_NOSYMFOLLOW 0x2000

void stat_finish(struct kstat *st, const struct super_block *sb, const struct mount *m, bool root)
{
	if (!st->dev)
		st->dev = sb->dev;
	st->mount_id = (uint64_t)m->id;
	st->attributes_mask |= STATX_ATTR_MOUNT_ROOT;
	if (root)
		st->attributes |= STATX_ATTR_MOUNT_ROOT;
}

int vfs_getattr(struct path p, struct kstat *st)
{
	struct inode *in = dentry_inode(p.dentry);

	if (in->ops->getattr) {
		*st = (struct kstat){0};
		int err = in->ops->getattr(in, st);
		if (err)
			return err;
	} else {
		inode_fill_stat(in, st);
	}
	stat_finish(st, in->sb, p.mnt, p.dentry == p.mnt->root);
	return 0;
}

/* Performs a change that has been judged. */
static int change(struct inode *in, const struct iattr *a)
{
	if (in->ops->setattr)
		return in->ops->setattr(in, a);
	if (a->valid & ATTR_SIZE) {
		mutex_lock(&in->lock, &lc_inode);
		in->size = a->size;
		mutex_unlock(&in->lock, &lc_inode);
	}
	inode_apply_attr(in, a);
	return 0;
}

/* The permission bits without what a change of owner or contents takes away from an executable. */
static uint32_t mode_without_privs(const struct inode *in, const struct cred *c)
{
	uint32_t mode = in->mode & 07777;

	mode &= ~(uint32_t)S_ISUID;
	if (mode & S_IXGRP || (!cred_in_group(c, in->gid) && !inode_capable(in, c, CAP_FSETID)))
		mode &= ~(uint32_t)S_ISGID;
	return mode;
}

static int may_chown(const struct inode *in, const struct iattr *a, const struct cred *c)
{
	bool owner = in->uid == c->fsuid;

	if (inode_capable(in, c, CAP_CHOWN))
		return 0;
	if (a->valid & ATTR_UID && !(owner && a->uid == in->uid))
		return -EPERM;
	if (a->valid & ATTR_GID && !(owner && (a->gid == in->gid || cred_in_group(c, a->gid))))
		return -EPERM;
	return 0;
}

/* An access list follows the mode bits. */
static int chmod_acl(struct inode *in, uint32_t mode)
{
	struct acl *old = inode_acl_get(in, ACL_ACCESS);

	if (!old)
		return 0;
	struct acl *new = acl_with_mode(old, mode);
	int err = new ? acl_store(in, ACL_ACCESS, new) : -ENOMEM;
	acl_put(new);
	acl_put(old);
	return err;
}

/* What the events of inotify(7) call a change of attributes. */
static uint32_t change_event(unsigned valid)
{
	const unsigned times = ATTR_ATIME | ATTR_MTIME;

	if (valid & (ATTR_MODE | ATTR_UID | ATTR_GID) || (valid & times) == times)
		return IN_ATTRIB;
	return valid & ATTR_ATIME ? IN_ACCESS : IN_MODIFY;
}

int vfs_setattr(struct path p, const struct iattr *a, const struct cred *c)
{
	struct inode *in = dentry_inode(p.dentry);
	struct iattr want = *a;
	int err;

	if (in->sb->readonly || p.mnt->flags & MS_RDONLY)
		return -EROFS;
	if ((want.valid & (ATTR_UID | ATTR_GID)) && (err = may_chown(in, &want, c)))
		return err;
	if (want.valid & ATTR_MODE) {
		if (!inode_owner_or_capable(in, c))
			return -EPERM;
		uint32_t gid = want.valid & ATTR_GID ? want.gid : in->gid;
		if (!cred_in_group(c, gid) && !inode_capable(in, c, CAP_FSETID))
			want.mode &= ~(uint32_t)S_ISGID;
	}
	if (want.valid & (ATTR_ATIME | ATTR_MTIME) && !inode_owner_or_capable(in, c)) {
		/* Anyone who may write may set both to now. */
		const unsigned now = ATTR_ATIME | ATTR_MTIME | ATTR_ATIME_NOW | ATTR_MTIME_NOW;
		if ((want.valid & now) != now)
			return -EPERM;
		if ((err = inode_permission(in, MAY_WRITE, c)))
			return err;
	}
	if (want.valid & (ATTR_UID | ATTR_GID) && !inode_is_dir(in) &&
	    in->mode & (S_ISUID | S_ISGID) && !(want.valid & ATTR_MODE)) {
		want.mode = mode_without_privs(in, c);
		if (want.mode != (in->mode & 07777))
			want.valid |= ATTR_MODE;
	}
	err = change(in, &want);
	if (!err && want.valid & (ATTR_UID | ATTR_GID) && S_ISREG(in->mode) && in->ops->removexattr)
		(void)!in->ops->removexattr(in, XATTR_NAME_CAPS); /* most have none */
	if (!err && want.valid & ATTR_MODE)
		err = chmod_acl(in, want.mode);
	if (!err)
		notify_dentry(p.dentry, change_event(a->valid));
	return err;
}

/* Whoever writes takes a file's capabilities away. */
static int remove_filecaps(struct inode *in)
{
	if (in->no_caps)
		return 0;
	/* Before the question: who sets some meanwhile says that there are some. */
	in->no_caps = true;
	ssize_t n = in->ops->getxattr ? in->ops->getxattr(in, XATTR_NAME_CAPS, NULL, 0) : 0;
	if (n <= 0 || !in->ops->removexattr)
		return 0;
	int err = in->ops->removexattr(in, XATTR_NAME_CAPS);
	if (err)
		in->no_caps = false;
	return err;
}

int inode_remove_privs(struct inode *in, const struct cred *c)
{
	if (!S_ISREG(in->mode))
		return 0;
	int err = remove_filecaps(in);
	if (err || !(in->mode & (S_ISUID | S_ISGID)) || cred_capable(c, CAP_FSETID))
		return err;
	struct iattr a = {.valid = ATTR_MODE, .mode = mode_without_privs(in, c)};
	return a.mode == (in->mode & 07777) ? 0 : change(in, &a);
}

int inode_truncate(struct inode *in, uint64_t size, const struct cred *c)
{
	if (inode_is_dir(in))
		return -EISDIR;
	if (!S_ISREG(in->mode))
		return -EINVAL;
	struct iattr a = {
		.valid = ATTR_SIZE | ATTR_MTIME | ATTR_MTIME_NOW,
		.size = size,
	};
	int err = remove_filecaps(in);
	if (err)
		return err;
	if (in->mode & (S_ISUID | S_ISGID) && !cred_capable(c, CAP_FSETID)) {
		a.mode = mode_without_privs(in, c);
		a.valid |= ATTR_MODE;
	}
	return change(in, &a);
}

int vfs_truncate(struct path p, uint64_t size, const struct cred *c)
{
	struct inode *in = dentry_inode(p.dentry);

	if (inode_is_dir(in))
		return -EISDIR;
	if (!S_ISREG(in->mode))
		return -EINVAL;
	int err = path_permission(p, MAY_WRITE, c);
	if (!err)
		err = landlock_may_truncate(p, c);
	if (!err)
		err = lease_break(in, true, false);
	if (!err && !(err = inode_truncate(in, size, c)))
		notify_dentry(p.dentry, IN_MODIFY);
	return err;
}

ssize_t vfs_readlink(struct path p, char *buf, size_t size)
{
	struct inode *in = dentry_inode(p.dentry);
	const char *link = in->link;

	if (link) {
		size_t n = MIN(strlen(link), size);
		memcpy(buf, link, n);
		return (ssize_t)n;
	}
	return in->ops->readlink ? in->ops->readlink(in, buf, size) : -EINVAL;
}

int vfs_statfs(struct path p, struct kstatfs *st)
{
	struct super_block *sb = p.dentry->sb;
	static const struct {
		unsigned ms, st;
	} flags[] = {
		{MS_RDONLY, ST_RDONLY},	    {MS_NOSUID, ST_NOSUID},
		{MS_NODEV, ST_NODEV},	    {MS_NOEXEC, ST_NOEXEC},
		{MS_NOATIME, ST_NOATIME},   {MS_NODIRATIME, ST_NODIRATIME},
		{MS_RELATIME, ST_RELATIME}, {MS_NOSYMFOLLOW, LINUX_ST_NOSYMFOLLOW},
	};

	*st = (struct kstatfs){
		.type = sb->magic,
		.bsize = PAGE_SIZE,
		.frsize = PAGE_SIZE,
		.namelen = VFS_NAME_MAX,
		.fsid = sb->dev,
	};
	if (sb->ops->statfs) {
		int err = sb->ops->statfs(sb, st);
		if (err)
			return err;
	}
	st->flags |= LINUX_ST_VALID;
	if (sb->readonly)
		st->flags |= ST_RDONLY;
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		if (p.mnt->flags & flags[i].ms)
			st->flags |= flags[i].st;
	return 0;
}
