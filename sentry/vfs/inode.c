/* Inodes: life, times, attributes kept in the inode, permissions by mode bits. */
#include <fcntl.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <time.h>

#include "sentry/vfs/internal.h"

#define RELATIME_SECONDS (24 * 3600)

void inode_init(struct inode *in, struct super_block *sb, const struct inode_ops *ops, uint64_t ino,
		uint32_t mode, const struct cred *owner)
{
	*in = (struct inode){
		.ops = ops,
		.sb = sb,
		.ino = ino,
		.mode = mode,
		.nlink = 1,
		.uid = owner ? owner->fsuid : 0,
		.gid = owner ? owner->fsgid : 0,
	};
	ref_init(&in->ref, 1);
	mutex_init(&in->dir_lock);
	mutex_init(&in->data_lock);
	mutex_init(&in->lock);
	in->atime = in->mtime = in->ctime = in->btime = ktime_now();
	super_pin(sb);
}

struct inode *inode_get(struct inode *in)
{
	ref_get(&in->ref);
	return in;
}

void inode_put(struct inode *in)
{
	if (!in || !ref_put(&in->ref))
		return;
	struct super_block *sb = in->sb;
	free(in->link);
	flock_list_free(in->flocks);
	inode_acl_fini(in);
	in->ops->free(in);
	super_unpin(sb);
}

struct ktime ktime_now(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	return (struct ktime){ts.tv_sec, (uint32_t)ts.tv_nsec};
}

void inode_touch(struct inode *in, bool mtime)
{
	struct ktime now = ktime_now();

	mutex_lock(&in->lock, &lc_inode);
	in->ctime = now;
	if (mtime)
		in->mtime = now;
	mutex_unlock(&in->lock, &lc_inode);
}

static bool ktime_before(struct ktime a, struct ktime b)
{
	return a.sec < b.sec || (a.sec == b.sec && a.nsec < b.nsec);
}

/* With relatime access times are only moved when they are a day old, or older than a change. */
void path_accessed(struct path p, int file_flags)
{
	struct inode *in = dentry_inode(p.dentry);
	unsigned mnt_flags = p.mnt->flags;

	if (file_flags & O_NOATIME || in->sb->readonly || mnt_flags & (MS_NOATIME | MS_RDONLY) ||
	    (inode_is_dir(in) && mnt_flags & MS_NODIRATIME))
		return;
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME_COARSE, &ts);
	struct ktime now = {ts.tv_sec, (uint32_t)ts.tv_nsec};
	mutex_lock(&in->lock, &lc_inode);
	if (!(mnt_flags & MS_RELATIME) || !ktime_before(in->mtime, in->atime) ||
	    !ktime_before(in->ctime, in->atime) || now.sec - in->atime.sec >= RELATIME_SECONDS)
		in->atime = now;
	mutex_unlock(&in->lock, &lc_inode);
}

void inode_fill_stat(struct inode *in, struct kstat *st)
{
	mutex_lock(&in->lock, &lc_inode);
	*st = (struct kstat){
		.mask = STATX_BASIC_STATS | STATX_BTIME,
		.dev = in->sb->dev,
		.ino = in->ino,
		.mode = in->mode,
		.nlink = in->nlink,
		.uid = in->uid,
		.gid = in->gid,
		.rdev = in->rdev,
		.size = in->size,
		.blocks = in->blocks,
		.blksize = PAGE_SIZE,
		.atime = in->atime,
		.mtime = in->mtime,
		.ctime = in->ctime,
		.btime = in->btime,
	};
	mutex_unlock(&in->lock, &lc_inode);
}

void inode_apply_attr(struct inode *in, const struct iattr *a)
{
	struct ktime now = ktime_now();

	mutex_lock(&in->lock, &lc_inode);
	/* Walks read mode and ids without the lock: single stores. */
	if (a->valid & ATTR_MODE)
		__atomic_store_n(&in->mode, (in->mode & S_IFMT) | (a->mode & 07777),
				 __ATOMIC_RELAXED);
	if (a->valid & ATTR_UID)
		__atomic_store_n(&in->uid, a->uid, __ATOMIC_RELAXED);
	if (a->valid & ATTR_GID)
		__atomic_store_n(&in->gid, a->gid, __ATOMIC_RELAXED);
	if (a->valid & ATTR_ATIME)
		in->atime = a->valid & ATTR_ATIME_NOW ? now : a->atime;
	if (a->valid & ATTR_MTIME)
		in->mtime = a->valid & ATTR_MTIME_NOW ? now : a->mtime;
	in->ctime = now;
	mutex_unlock(&in->lock, &lc_inode);
}

/* ---- permissions ---- */

bool inode_owner_or_capable(const struct inode *in, const struct cred *c)
{
	uint32_t uid = __atomic_load_n(&in->uid, __ATOMIC_RELAXED);

	return uid == c->fsuid ||
	       (c->cap_effective & CAP_BIT(CAP_FOWNER) && uid_mapped(c->user_ns, uid));
}

bool inode_capable(const struct inode *in, const struct cred *c, int cap)
{
	return cred_capable_over(c, __atomic_load_n(&in->uid, __ATOMIC_RELAXED),
				 __atomic_load_n(&in->gid, __ATOMIC_RELAXED), cap);
}

/* The mask if the access list grants it, else nothing. */
static uint32_t acl_bits(struct inode *in, int mask, const struct cred *c)
{
	struct acl *a = inode_acl_get(in, ACL_ACCESS);
	bool granted = a && !acl_permission(a, in, mask, c);

	acl_put(a);
	return granted ? (uint32_t)mask : 0;
}

/* path_resolution(7), "Permissions" and "Bypassing permission checks". */
int inode_permission_generic(struct inode *in, int mask, const struct cred *c)
{
	uint32_t mode = __atomic_load_n(&in->mode, __ATOMIC_RELAXED);
	uint32_t bits = mode;

	mask &= MAY_READ | MAY_WRITE | MAY_EXEC;
	if (__atomic_load_n(&in->uid, __ATOMIC_RELAXED) == c->fsuid)
		bits >>= 6;
	else if (bits & S_IRWXG && __atomic_load_n(&in->acl[ACL_ACCESS], __ATOMIC_RELAXED))
		bits = acl_bits(in, mask, c);
	else if ((bits ^ bits >> 3) & 7 &&
		 cred_in_group(c, __atomic_load_n(&in->gid, __ATOMIC_RELAXED)))
		bits >>= 3;
	if (!(mask & ~bits))
		return 0;
	if (S_ISDIR(mode)) {
		if (!(mask & MAY_WRITE) && inode_capable(in, c, CAP_DAC_READ_SEARCH))
			return 0;
		return inode_capable(in, c, CAP_DAC_OVERRIDE) ? 0 : -EACCES;
	}
	if (mask == MAY_READ && inode_capable(in, c, CAP_DAC_READ_SEARCH))
		return 0;
	if ((!(mask & MAY_EXEC) || mode & 0111) && inode_capable(in, c, CAP_DAC_OVERRIDE))
		return 0;
	return -EACCES;
}

int inode_permission(struct inode *in, int mask, const struct cred *c)
{
	if (in->ops->permission)
		return in->ops->permission(in, mask, c);
	return inode_permission_generic(in, mask, c);
}

int path_permission(struct path p, int mask, const struct cred *c)
{
	struct inode *in = dentry_inode(p.dentry);
	uint32_t type = in->mode & S_IFMT;

	if (mask & MAY_WRITE && (type == S_IFREG || type == S_IFDIR || type == S_IFLNK) &&
	    (in->sb->readonly || p.mnt->flags & MS_RDONLY))
		return -EROFS;
	if (mask & MAY_EXEC && type == S_IFREG && p.mnt->flags & MS_NOEXEC)
		return -EACCES;
	return inode_permission(in, mask, c);
}
