/* internal.h - what the files of sentry/vfs share with each other and nobody else. */
#pragma once

#include <errno.h>

#include "sentry/vfs/acl.h"
#include "sentry/vfs/file.h"
#include "sentry/vfs/mount.h"
#include "sentry/vfs/notify.h"
#include "sentry/vfs/vfs.h"

#define MAY_EXEC 1
#define MAY_WRITE 2
#define MAY_READ 4

/* ---- dentry.c ---- */
extern struct mutex dcache_lock; /* lc_dcache */

uint32_t name_hash(const char *name, size_t len);
/* A negative, unhashed dentry with one reference.  NULL: no memory.  Takes references to parent
 * (NULL: a root of its own) and a pin of sb. */
struct dentry *dentry_alloc(struct super_block *sb, struct dentry *parent, const char *name,
			    size_t len);
/* References from zero upwards are only taken under lc_dcache. */
struct dentry *dentry_get_locked(struct dentry *d) REQUIRES(lc_dcache);
/* Borrowed; NULL: not cached. */
struct dentry *dcache_find(struct dentry *dir, const char *name, size_t len, uint32_t hash)
	REQUIRES(lc_dcache);
/* A dentry of the inode with that number, a reference; NULL: none is cached.  Looks at all. */
struct dentry *dcache_find_inode(struct super_block *sb, uint64_t ino);
void dentry_unhash_locked(struct dentry *d) REQUIRES(lc_dcache);
/* Moves d to where `target` is (name and parent), and unhashes target; or swaps the two. */
void dentry_move(struct dentry *d, struct dentry *target, bool exchange);
/* Is a an ancestor of d, or d itself? */
bool dentry_is_ancestor(struct dentry *a, struct dentry *d) REQUIRES(lc_dcache);
/* Is d still what its name means in dir? */
bool dentry_is_entry(const struct dentry *d, const struct dentry *dir);
/* Unhashes d and drops what is cached below it, as far as nobody uses it. */
void dentry_invalidate(struct dentry *d);
/* All of a super block's unreferenced dentries; the root's reference too. */
void dcache_drop_super(struct super_block *sb);

/* d's inode, for holders of a reference only (a lookup elsewhere may just be setting it). */
static inline struct inode *dentry_inode(const struct dentry *d)
{
	return __atomic_load_n(&d->inode, __ATOMIC_ACQUIRE);
}

/* ---- super.c ---- */
static inline void super_pin(struct super_block *sb)
{
	atomic_fetch_add_explicit(&sb->pins, 1, memory_order_relaxed);
}
void super_unpin(struct super_block *sb);

/* ---- mount.c ---- */
/* The topmost mount on (m, d), borrowed, or NULL. */
struct mount *mount_find(struct mount *m, struct dentry *d) REQUIRES(lc_dcache);
extern struct mutex mount_lock; /* lc_mount */
/* All mounts of a sandbox, in all namespaces, are at most so many: ENOSPC. */
#define MOUNTS_MAX 100000
bool mount_room(size_t n);
/* The one after m among `top` and what is mounted below it, parents first; NULL: none.  Not
 * recursive, as guests decide how deep mounts are nested. */
struct mount *mount_next(struct mount *m, struct mount *top) REQUIRES(lc_mount);
/* Puts m, which has no parent, onto (parent, mountpoint): takes the references, and one to m. */
void mount_link_locked(struct mount *m, struct mount *parent, struct dentry *mountpoint)
	REQUIRES(lc_mount) REQUIRES(lc_dcache);
/* The same for a mount that was unlinked: the references are the caller's, and m's its own. */
void mount_hang_locked(struct mount *m, struct mount *parent, struct dentry *mountpoint)
	REQUIRES(lc_mount) REQUIRES(lc_dcache);
/* Unlinks m from its parent: its references to parent and mountpoint, and the tree's to m, are
 * then the caller's to put. */
void mount_unlink_locked(struct mount *m) REQUIRES(lc_mount) REQUIRES(lc_dcache);
/* Takes the whole tree below (and with) m apart, onto `gone`, for mount_put_gone(). */
void mount_collect_locked(struct mount *m, struct list_head *gone) REQUIRES(lc_mount)
	REQUIRES(lc_dcache);
/* One of them, from wherever it is. */
void mount_retire_locked(struct mount *m, struct list_head *gone) REQUIRES(lc_mount)
	REQUIRES(lc_dcache);
void mount_put_gone(struct list_head *gone);
void mount_tree_lock(void) ACQUIRES(lc_mount) ACQUIRES(lc_dcache);
void mount_tree_unlock(void) RELEASES(lc_mount) RELEASES(lc_dcache);
/* The tree of ns has changed: its readers are told. */
void mnt_ns_touch(struct mnt_ns *ns) REQUIRES(lc_mount);
void mount_set_tree_ns(struct mount *top, struct mnt_ns *ns) REQUIRES(lc_mount);
/* Is p at or below `top`, on the same mount or one further up the tree? */
bool path_is_reachable(struct path p, struct path top) REQUIRES(lc_dcache);
/* The files open for writing: EROFS when the mount became read-only. */
int mount_writer_get(struct mount *m) MUST_CHECK;
void mount_writer_put(struct mount *m);

/* ---- propagate.c ---- */
/* m becomes one of src's peers and a slave of the same master, if src has any. */
void mount_share_as(struct mount *m, struct mount *src) REQUIRES(lc_mount);
int mount_make_shared(struct mount *m) REQUIRES(lc_mount) MUST_CHECK;
void mount_make_slave(struct mount *m) REQUIRES(lc_mount);
void mount_make_private(struct mount *m) REQUIRES(lc_mount);
/* m, just made, receives from src's group. */
void mount_enslave(struct mount *m, struct mount *src) REQUIRES(lc_mount);
/*
 * Mounts the tree m, which is new or is being moved, at `where`, and copies of it wherever that
 * propagates to.  Prepare makes the copies, onto `made`; after an error they are on `gone`.
 */
int mount_spread_prepare(struct mount *m, struct path where, struct list_head *made,
			 struct list_head *gone) REQUIRES(lc_mount) REQUIRES(lc_dcache) MUST_CHECK;
void mount_spread_commit(struct path where, struct list_head *made) REQUIRES(lc_mount)
	REQUIRES(lc_dcache);
/* Would unmounting m, with what propagates from it, take from somebody what he uses? */
bool mount_is_busy(struct mount *m) REQUIRES(lc_mount) REQUIRES(lc_dcache);
/* Unmounts m and all below it, and what that propagates to. */
void mount_umount_tree(struct mount *m, struct list_head *gone) REQUIRES(lc_mount)
	REQUIRES(lc_dcache);

/* ---- mount_copy.c ---- */
enum copy_kind {
	COPY_SAME,  /* propagation is the original's */
	COPY_ALL,   /* of a namespace: the same, unbindable mounts too, names of namespaces not */
	COPY_BELOW, /* of a namespace, for a less privileged one: slaves, and locked together */
	COPY_SLAVE, /* all are slaves of the originals */
};
/*
 * Copies what is seen from `from` downwards: *out has no parent, and one reference.  After an
 * error *out is what there is so far, or NULL.
 */
int mount_copy_tree(struct path from, bool recursive, enum copy_kind kind, struct mount **out)
	REQUIRES(lc_mount) REQUIRES(lc_dcache) MUST_CHECK;

/* May somebody in ns have a copy of what is there?  Not without what hides a part of it. */
bool mount_may_copy(const struct mnt_ns *ns, struct path from, bool recursive) REQUIRES(lc_mount)
	REQUIRES(lc_dcache);
/* Who gets the tree cannot take it apart, nor change what its flags forbid. */
void mount_lock_tree(struct mount *top) REQUIRES(lc_mount);

/* ---- locks of directories ---- */
enum dir_lock_kind { DIR_FIRST, DIR_SECOND, DIR_VICTIM };
/* -EINTR: not locked, and the caller is about to end (super_ops.lock). */
int dir_lock(struct inode *dir, enum dir_lock_kind kind) MUST_CHECK;
void dir_unlock(struct inode *dir, enum dir_lock_kind kind);
/* dentry_lookup with dir locked by the caller. */
int dentry_lookup_locked(struct dentry *dir, const char *name, size_t len,
			 struct dentry **out) MUST_CHECK;

/* ---- namei.c ---- */
struct link_hold {
	struct inode *in;
	char *buf;
};

/*
 * A walk in progress.  `cur` is borrowed: kept alive by env, by `hold`, or by lc_dcache while that
 * is held.  `rest` is what is left of the name; `stack` the remainders after symlinks.
 */
struct walk {
	const struct walk_env *env;
	unsigned flags;
	struct path root;
	struct path cur;
	struct path hold;     /* references, or NULLs */
	struct dentry *stale; /* a reference to put when the lock is left */
	const char *rest;
	const char *last; /* set by walk_to_parent: the last component */
	size_t last_len;
	bool trailing;	    /* slashes followed the last component */
	bool locked;	    /* lc_dcache is held */
	struct kstat *peek; /* wanted of the last component, if that is known (vfs_stat), or NULL */
	bool peeked;	    /* it was */
	int depth, nlinks, nholds;
	const char *stack[VFS_SYMLINK_MAX];
	struct link_hold holds[VFS_SYMLINK_MAX];
};

/* What vfs_stat has to say of a file on a mount besides the file system's part. */
void stat_finish(struct kstat *st, const struct super_block *sb, const struct mount *m, bool root);
int walk_start(struct walk *w, const struct walk_env *env, const char *name,
	       unsigned flags) MUST_CHECK;
/* Resolves up to the last component; cur is its directory, and held by references. */
int walk_to_parent(struct walk *w) MUST_CHECK;
/* The last component of a walk_to_parent turned out to be the symlink d: goes on with its target,
 * for another walk_to_parent; or, for magic links, sets *jumped and cur is the result. */
int walk_follow_last(struct walk *w, struct dentry *d, bool *jumped) MUST_CHECK;
void walk_end(struct walk *w);
static inline bool walk_last_is_dot(const struct walk *w)
{
	return w->last[0] == '.' && (w->last_len == 1 || (w->last_len == 2 && w->last[1] == '.'));
}

/* ---- open.c ---- */
/* The inode counts it no more among those who have it open. */
void file_uncount(struct file *f);

/* ---- vfs_create.c ---- */
/* What a new file gets: mode bits from umask or the directory's default list, and lists. */
struct new_perms {
	uint32_t mode;
	struct acl *acl[ACL_TYPES];
};
int new_perms_init(struct new_perms *n, struct inode *dir, uint32_t mode,
		   uint32_t umask) MUST_CHECK;
/* Gives the lists to the file; after an error the caller removes it again. */
int new_perms_apply(const struct new_perms *n, struct inode *in) MUST_CHECK;
void new_perms_fini(struct new_perms *n);
/* Makes d, not a directory, at the end of a walk: with the permissions that env and dir give. */
int create_at(struct walk *w, struct dentry *d, uint32_t mode, uint64_t rdev,
	      const struct walk_env *env) MUST_CHECK;
/* The same for a regular file that is opened with these flags next. */
int create_to_open(struct walk *w, struct dentry *d, uint32_t mode, int flags) MUST_CHECK;
/* May c make entries in dir, and does dir live?  EROFS, EACCES, ENOENT */
int may_create(struct path dir, const struct cred *c) MUST_CHECK;
/* May c remove the entry d of dir?  sticky bit, EROFS, EBUSY … isdir: rmdir */
int may_delete(struct path dir, struct dentry *d, bool isdir, const struct cred *c) MUST_CHECK;
/* Looks the last component of a walk up, mounts not crossed. */
int walk_lookup_last(struct walk *w, struct dentry **out) MUST_CHECK;

/* ---- filecaps.c ---- */
struct vfs_ns_cap_data;
/* A value for security.capability as c says it, into the one that the file gets: EINVAL, EPERM. */
int filecaps_enter(const struct inode *in, const void *v, size_t n, const struct cred *c,
		   struct vfs_ns_cap_data *out, size_t *size) MUST_CHECK;
/* The file's value, of n bytes, into what c is shown: its size, EOVERFLOW. */
ssize_t filecaps_leave(const struct inode *in, struct vfs_ns_cap_data *d, size_t n,
		       const struct cred *c) MUST_CHECK;

/* ---- flock.c, lease.c ---- */
struct flock_list {
	struct list_head all; /* lists that may hold something */
	const struct inode *in;
	struct list_head ranges, wholes, leases;
	struct waitq wq;
};
extern struct mutex flock_lock; /* lc_flock */
/* The list of an inode, made on first use.  NULL: no memory. */
struct flock_list *flock_list_of(struct inode *in);
void lease_release_file(struct flock_list *l, struct file *f) REQUIRES(lc_flock);
/* Tells of all leases: how many. */
size_t lease_list(struct flock_list *l, struct flock_info *info) REQUIRES(lc_flock);
void flock_list_free(struct flock_list *l);
/* All locks that belong to an open file description. */
void flock_release_file(struct file *f);
