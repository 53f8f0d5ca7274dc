/* File capabilities: the attribute security.capability (capabilities(7)), and what execve makes of
 * it and of set-id bits. */
#include <linux/capability.h>
#include <linux/xattr.h>
#include <string.h>
#include <sys/mount.h>

#include "sentry/vfs/internal.h"

_Static_assert(XATTR_CAPS_SZ_3 == sizeof(struct vfs_ns_cap_data), "the attribute's form");

/* A revision 3 that says whose root it belongs to; others belong to the file system's. */
static bool is_valid(const struct vfs_ns_cap_data *d, size_t n)
{
	uint32_t revision = d->magic_etc & VFS_CAP_REVISION_MASK;

	return (n == XATTR_CAPS_SZ_2 && revision == VFS_CAP_REVISION_2) ||
	       (n == XATTR_CAPS_SZ_3 && revision == VFS_CAP_REVISION_3);
}

/* The root that the capabilities belong to; ID_NONE: nobody's. */
static uint32_t root_of(const struct vfs_ns_cap_data *d, size_t n, const struct user_ns *u)
{
	return uid_enter(u, n == XATTR_CAPS_SZ_3 ? d->rootid : 0);
}

/* Is `root` that of u, or of one above? */
static bool is_root_of(uint32_t root, const struct user_ns *u)
{
	for (; u; u = u->ns.owner)
		if (uid_enter(u, 0) == root)
			return true;
	return false;
}

int filecaps_enter(const struct inode *in, const void *v, size_t n, const struct cred *c,
		   struct vfs_ns_cap_data *out, size_t *size)
{
	struct user_ns *fs = in->sb->user_ns;

	*out = (struct vfs_ns_cap_data){0};
	if (n != XATTR_CAPS_SZ_2 && n != XATTR_CAPS_SZ_3)
		return -EINVAL;
	memcpy(out, v, n);
	if (!is_valid(out, n))
		return -EINVAL;
	if (!inode_capable(in, c, CAP_SETFCAP))
		return -EPERM;
	*size = n;
	if (n == XATTR_CAPS_SZ_2 && cred_ns_capable(c, fs, CAP_SETFCAP))
		return 0;
	uint32_t root = root_of(out, n, c->user_ns);
	out->rootid = root == ID_NONE ? ID_NONE : id_leave(fs, ID_UID, root);
	if (out->rootid == ID_NONE)
		return -EINVAL;
	out->magic_etc = VFS_CAP_REVISION_3 | (out->magic_etc & VFS_CAP_FLAGS_EFFECTIVE);
	*size = XATTR_CAPS_SZ_3;
	return 0;
}

ssize_t filecaps_leave(const struct inode *in, struct vfs_ns_cap_data *d, size_t n,
		       const struct cred *c)
{
	if (!is_valid(d, n))
		return -EINVAL;
	uint32_t root = root_of(d, n, in->sb->user_ns);
	uint32_t shown = root == ID_NONE ? ID_NONE : id_leave(c->user_ns, ID_UID, root);
	uint32_t effective = d->magic_etc & VFS_CAP_FLAGS_EFFECTIVE;
	if (shown != ID_NONE && shown != 0) {
		d->magic_etc = VFS_CAP_REVISION_3 | effective;
		d->rootid = shown;
		return XATTR_CAPS_SZ_3;
	}
	if (!is_root_of(root, c->user_ns))
		return -EOVERFLOW;
	d->magic_etc = VFS_CAP_REVISION_2 | effective;
	return XATTR_CAPS_SZ_2;
}

static void read_caps(struct inode *in, const struct cred *c, struct exec_grant *g)
{
	struct vfs_ns_cap_data d = {0};

	if (!in->ops->getxattr)
		return;
	ssize_t n = in->ops->getxattr(in, XATTR_NAME_CAPS, &d, sizeof(d));
	if (n <= 0 || !is_valid(&d, (size_t)n) ||
	    !is_root_of(root_of(&d, (size_t)n, in->sb->user_ns), c->user_ns))
		return;
	g->has_caps = true;
	g->caps_effective = d.magic_etc & VFS_CAP_FLAGS_EFFECTIVE;
	g->caps_permitted = ((uint64_t)d.data[1].permitted << 32 | d.data[0].permitted) & CAP_FULL;
	g->caps_inheritable =
		((uint64_t)d.data[1].inheritable << 32 | d.data[0].inheritable) & CAP_FULL;
}

void path_exec_grant(struct path p, const struct cred *c, struct exec_grant *g)
{
	struct inode *in = dentry_inode(p.dentry);
	uint32_t mode = __atomic_load_n(&in->mode, __ATOMIC_RELAXED);

	*g = (struct exec_grant){false};
	if (p.mnt->flags & MS_NOSUID || !user_ns_is_in(c->user_ns, in->sb->user_ns))
		return;
	g->uid = in->uid;
	g->gid = in->gid;
	if (uid_mapped(c->user_ns, g->uid) && gid_mapped(c->user_ns, g->gid)) {
		g->set_uid = mode & S_ISUID;
		g->set_gid = (mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP);
	}
	read_caps(in, c, g);
}
