/*
 * mount.h - changes of the mount tree: mount(2), umount(2), pivot_root(2), open_tree(2), and how
 * they propagate.
 *
 * All calls act in the caller's namespace `ns`; their errors are the man pages', capabilities are
 * the caller's to check.  Checks and change are one step under lc_mount and lc_dcache: either lock
 * is enough to read the tree.
 *
 * Propagation, as mount_namespaces(7) has it: a mount is in at most one peer group, and is the
 * slave of at most one.  What is mounted or unmounted at a place of a mount happens at the same
 * place of all its peers, of their slaves, of those' peers, and so on.  All copies are made before
 * the first is shown, so that a change happens everywhere or, for want of memory, nowhere.
 */
#pragma once

#include "sentry/lib/waitq.h"
#include "sentry/vfs/vfs.h"

/* The flags that a mount has, apart from its file system's: <sys/mount.h>'s. */
#define MOUNT_FLAGS                                                                                \
	(MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME | MS_RELATIME | \
	 MS_NOSYMFOLLOW)

#define MOUNT_PROPAGATION (MS_SHARED | MS_SLAVE | MS_PRIVATE | MS_UNBINDABLE)

int mount_create(struct mnt_ns *ns, struct super_block *sb, struct path where, unsigned flags,
		 const char *source) MUST_CHECK;
int mount_bind(struct mnt_ns *ns, struct path from, struct path where, bool recursive) MUST_CHECK;
/* beneath: NULL, or the caller's root: it goes beneath the mount at `where`.  What is moved may
 * also be a tree that is mounted nowhere yet. */
int mount_move(struct mnt_ns *ns, struct path from, struct path where,
	       const struct path *beneath) MUST_CHECK;
/* The mount at `to`, which is private, joins the group and the master of the one at `from`. */
int mount_share_group(struct mnt_ns *ns, struct path from, struct path to) MUST_CHECK;
/* flags of mount(2): `clear` go, `set` come.  EBUSY: files are open for writing. */
struct mount_change {
	unsigned clear, set;
	unsigned propagation; /* 0, MS_SHARED, MS_SLAVE, MS_PRIVATE or MS_UNBINDABLE */
	bool recursive;
};
int mount_change(struct mnt_ns *ns, struct path p, const struct mount_change *c) MUST_CHECK;
/* New options for the file system mounted at p, and whether it is read-only.  EBUSY, EROFS;
 * EPERM: c is not privileged over it. */
int mount_reconfigure(struct mnt_ns *ns, struct path p, const char *options, bool readonly,
		      const struct cred *c) MUST_CHECK;
/* The same for one at hand. */
int super_reconfigure(struct super_block *sb, const char *options, bool readonly,
		      const struct cred *c) MUST_CHECK;
/* flags: MNT_DETACH, or MNT_EXPIRE (EAGAIN: marked now) */
int mount_umount(struct mnt_ns *ns, struct path p, int flags) MUST_CHECK;
/* Puts what a walk to be unmounted has found, which is no use of it. */
void path_put_unused(struct path p);
/* `root` becomes what is mounted at `new`, and moves itself to `put_old`. */
int mount_pivot(struct mnt_ns *ns, struct path root, struct path new,
		struct path put_old) MUST_CHECK;
/* A copy of the whole tree, on the account of `maker`, with a reference; the two paths, whose
 * references are consumed, become the same places in the copy. */
int mnt_ns_copy(struct mnt_ns *ns, const struct ns_maker *maker, struct path *root,
		struct path *cwd, struct mnt_ns **out) MUST_CHECK;
/* Has ns something mounted on d? */
bool mount_is_point_of(struct mnt_ns *ns, struct dentry *d);
/* Unmounts whatever namespaces have on a name that is gone. */
void mount_detach_from(struct dentry *d);

/*
 * Trees that are mounted nowhere: *out is a path's descriptor (O_PATH), with which the tree goes
 * unless somebody has mounted it.  clone: a copy of what is seen from `from`.
 */
int mount_tree_clone(struct mnt_ns *ns, struct path from, bool recursive,
		     struct file **out) MUST_CHECK;
int mount_tree_new(struct mnt_ns *ns, struct super_block *sb, unsigned flags, const char *source,
		   struct file **out) MUST_CHECK;

/* What /proc/PID/mountinfo says of a mount's propagation to a reader whose root is `root`; 0: not.
 */
struct mount_sharing {
	int shared, master, from; /* numbers of groups; from: the nearest that the reader sees */
	bool unbindable;
};
void mount_sharing(struct mount *m, struct path root, struct mount_sharing *out);
/* Does who has that root see it?  Is it mounted, with any number between, below `top`? */
bool mount_is_seen(struct mount *m, struct path root);
bool mount_is_child(struct mount *m, struct mount *top);
/* Numbers that are never used again (statx, statmount): those of mountinfo and a high bit. */
#define MOUNT_UNIQUE_BASE (1ULL << 31)
static inline uint64_t mount_unique_id(const struct mount *m)
{
	return MOUNT_UNIQUE_BASE + (unsigned)m->id;
}
/* The number of what it is mounted on; of the root: 0. */
int mount_parent_id(struct mount *m);
/* Where every change of any namespace's tree is announced, POLLPRI. */
extern struct waitq mount_waitq;
