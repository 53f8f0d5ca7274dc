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

int mount_create(struct mnt_ns *ns, struct super_block *sb, struct path where, unsigned flags,
		 const char *source) MUST_CHECK;
int mount_bind(struct mnt_ns *ns, struct path from, struct path where, bool recursive) MUST_CHECK;
int mount_move(struct mnt_ns *ns, struct path from, struct path where) MUST_CHECK;
/* Sets the flags of `mask` to those of `flags`.  EBUSY: files are open for writing. */
int mount_set_flags(struct mnt_ns *ns, struct path p, unsigned flags, unsigned mask) MUST_CHECK;
/* New options for the file system mounted at p, and whether it is read-only.  EBUSY, EROFS */
int mount_reconfigure(struct mnt_ns *ns, struct path p, const char *options,
		      bool readonly) MUST_CHECK;
/* type: MS_SHARED, MS_SLAVE, MS_PRIVATE, MS_UNBINDABLE */
int mount_set_propagation(struct mnt_ns *ns, struct path p, unsigned type,
			  bool recursive) MUST_CHECK;
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

/* What /proc/PID/mountinfo says of a mount's propagation to a reader whose root is `root`; 0: not.
 */
struct mount_sharing {
	int shared, master, from; /* numbers of groups; from: the nearest that the reader sees */
	bool unbindable;
};
void mount_sharing(struct mount *m, struct path root, struct mount_sharing *out);
/* The number of what it is mounted on; of the root: 0. */
int mount_parent_id(struct mount *m);
/* Where every change of any namespace's tree is announced, POLLPRI. */
extern struct waitq mount_waitq;
