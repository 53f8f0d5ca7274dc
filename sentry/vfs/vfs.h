/*
 * vfs.h - super blocks, inodes, dentries, mounts, paths.  Open files are in file.h.
 *
 * The model is Linux's, so are the names.  A *super_block* is one file system instance; an *inode*
 * a file in it; a *dentry* a name in a directory, positive (with inode) or negative (without); a
 * *mount* attaches a super block's tree in the mount tree; a *path* is (mount, dentry).
 *
 * Locking.  lc_dcache (one global lock) guards the dentry hash and all parent/child links; cached
 * walks run under it without leaving it.  A directory's `dir_lock` (lc_inode_dir) is held by the
 * vfs around every call that reads or changes its entries in the file system: lookup, create,
 * link, unlink, mkdir, rmdir, mknod, symlink, rename (both directories, and lc_rename between
 * different ones).  `lock` (lc_inode) guards attributes.  Operations never wait for guests: where
 * Linux would sleep they return -EAGAIN and have a wait queue.
 *
 * Ownership: dentries hold a reference to their inode, their parent and their super block; paths
 * hold one of each part.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "sentry/auth/cred.h"
#include "sentry/lib/compiler.h"
#include "sentry/lib/list.h"
#include "sentry/lib/lock.h"
#include "sentry/lib/ref.h"

struct acl;
struct file;
struct inode;
struct dentry;
struct mount;
struct peer_group;
struct super_block;
struct flock_list;
struct notify_mark;
struct path;
struct uio;

#define VFS_NAME_MAX 255
#define VFS_PATH_MAX 4096
#define VFS_SYMLINK_MAX 40

struct ktime {
	int64_t sec;
	uint32_t nsec;
};

/* Everything stat and statx show. */
struct kstat {
	uint32_t mask; /* STATX_* that are valid; basic ones always are */
	uint64_t dev;  /* of the file system, new_encode_dev form as st_dev shows it */
	uint64_t ino;
	uint32_t mode, nlink, uid, gid;
	uint64_t rdev, size, blocks; /* blocks of 512 */
	uint32_t blksize;
	struct ktime atime, mtime, ctime, btime;
	uint64_t attributes, attributes_mask; /* STATX_ATTR_* */
	uint64_t mount_id;
};

/* A change of attributes; valid says which fields. */
enum {
	ATTR_MODE = 1,
	ATTR_UID = 2,
	ATTR_GID = 4,
	ATTR_SIZE = 8,
	ATTR_ATIME = 16, /* set to .atime; with ATTR_ATIME_NOW to the present */
	ATTR_MTIME = 32,
	ATTR_ATIME_NOW = 64,
	ATTR_MTIME_NOW = 128,
};
struct iattr {
	unsigned valid;
	uint32_t mode, uid, gid; /* mode: permission bits and suid/sgid/sticky only */
	uint64_t size;
	struct ktime atime, mtime;
};

struct kstatfs {
	uint64_t type, bsize, blocks, bfree, bavail, files, ffree, fsid, namelen, frsize, flags;
};

/* readdir: emit() returns false when the buffer is full; the entry is then offered again. */
struct dir_context {
	bool (*emit)(struct dir_context *ctx, const char *name, size_t len, int64_t next_off,
		     uint64_t ino, unsigned dtype);
};

/*
 * What a file system does for an inode.  `dir` is locked (lc_inode_dir); names are in d->name.
 * NULL means the errno given.  Permissions were checked by the vfs (see inode_permission).
 * create/mkdir/…: on success the operation has called dentry_instantiate(d, inode).
 */
struct inode_ops {
	/* Directories (NULL lookup: not a directory).  lookup: instantiate d or leave it negative
	 * and return 0; -errno for failures. */
	int (*lookup)(struct inode *dir, struct dentry *d);
	/* What stat would say of a name that is not cached, if that is known without looking it up:
	 * 1 with *st, -ENOENT, or 0: look it up.  lc_dcache is held; NULL: 0 */
	int (*peek)(struct inode *dir, const char *name, size_t len, struct kstat *st);
	int (*create)(struct inode *dir, struct dentry *d, uint32_t mode,
		      const struct cred *c); /* EROFS */
	/* The same for a file that this task opens with these flags next.  NULL: create */
	int (*create_open)(struct inode *dir, struct dentry *d, uint32_t mode, int flags,
			   const struct cred *c);
	int (*mkdir)(struct inode *dir, struct dentry *d, uint32_t mode,
		     const struct cred *c); /* EPERM */
	int (*mknod)(struct inode *dir, struct dentry *d, uint32_t mode, uint64_t rdev,
		     const struct cred *c); /* EPERM */
	int (*symlink)(struct inode *dir, struct dentry *d, const char *target,
		       const struct cred *c);					/* EPERM */
	int (*link)(struct inode *dir, struct dentry *d, struct inode *target); /* EPERM */
	int (*unlink)(struct inode *dir, struct dentry *d);			/* EPERM */
	int (*rmdir)(struct inode *dir, struct dentry *d);			/* EPERM */
	/* flags: 0, RENAME_NOREPLACE (already checked), RENAME_EXCHANGE, RENAME_WHITEOUT */
	int (*rename)(struct inode *olddir, struct dentry *oldd, struct inode *newdir,
		      struct dentry *newd, unsigned flags); /* EPERM */
	/* All kinds. */
	/* O_TMPFILE: gives d, which has no name and is never hashed, a new regular file with
	 * nlink 0.  EOPNOTSUPP */
	int (*tmpfile)(struct inode *dir, struct dentry *d, uint32_t mode, const struct cred *c);
	/* Copies the target (not NUL-terminated) and returns its length; EINVAL.  The vfs keeps the
	 * answer with the inode unless sb->no_dcache. */
	ssize_t (*readlink)(struct inode *in, char *buf, size_t size);
	/* Magic links (/proc/PID/fd/N, exe, cwd): sets *out to a path with references. NULL: none
	 */
	int (*follow_link)(struct inode *in, struct path *out);
	int (*getattr)(struct inode *in, struct kstat *st);	 /* NULL: from the inode's fields */
	int (*setattr)(struct inode *in, const struct iattr *a); /* NULL: inode fields only */
	int (*permission)(struct inode *in, int mask, const struct cred *c); /* NULL: mode bits */
	/* Makes f ready: sets f->ops (and f->priv).  ENXIO. flags in f->flags */
	int (*open)(struct inode *in, struct dentry *d, struct file *f);
	ssize_t (*getxattr)(struct inode *in, const char *name, void *buf,
			    size_t size); /* EOPNOTSUPP */
	int (*setxattr)(struct inode *in, const char *name, const void *v, size_t n, int flags);
	ssize_t (*listxattr)(struct inode *in, char *buf, size_t size);
	int (*removexattr)(struct inode *in, const char *name);
	/* Guest processes are to let go of what they were lent of the file (mm/uaccess.h): it is
	 * not what they mean any more.  NULL: nothing ever is. */
	void (*forget)(struct inode *in);
	/* Last reference went: frees what in->priv and embedding hold.  Required. */
	void (*free)(struct inode *in);
};

struct inode {
	ref_t ref;
	const struct inode_ops *ops;
	struct super_block *sb; /* the super block outlives its inodes */
	uint64_t ino;
	struct mutex dir_lock;	/* lc_inode_dir, lc_inode_dir2 */
	struct mutex data_lock; /* lc_inode_data: for the file system's use */
	struct mutex lock;	/* lc_inode: the fields below */
	uint32_t mode;		/* type bits immutable */
	uint32_t nlink, uid, gid;
	uint64_t rdev, size, blocks;
	struct ktime atime, mtime, ctime, btime;
	struct flock_list *_Atomic flocks; /* made on demand; lc_flock */
	struct acl *acl[2];		   /* acl.h: access, default; lc_inode */
	struct notify_mark *_Atomic marks; /* first of a list; lc_notify */
	char *_Atomic link;   /* the vfs: target of a symlink once read; lives with the inode */
	_Atomic bool no_caps; /* the vfs: it is known to have no file capabilities */
	bool linkable;	      /* the vfs: made by O_TMPFILE without O_EXCL: linkat may name it */
	/* How many files have it open, for reading only and for writing; regular files. */
	_Atomic int readers, writers;
	_Atomic bool dead; /* a removed directory: nothing can be made in it; set under dir_lock */
	_Atomic uint8_t rw_hint; /* F_SET_RW_HINT: kept, of no effect */
	bool own_open;		 /* ops->open opens it whatever its type is; immutable */
	void *fifo;		 /* sentry/fs/pipe: the pipe behind a FIFO; lc_pipe */
	void *socket;		 /* sentry/net/unix: the socket bound to this name; lc_net */
	void *priv;		 /* the file system's */
};

struct super_ops {
	int (*statfs)(struct super_block *sb, struct kstatfs *st);
	int (*sync)(struct super_block *sb); /* NULL: nothing to do */
	/* Is the cached entry still right?  Called on cached walks; NULL: always.  Must not do I/O
	 * while `fast` is set: return -EAGAIN then, and be called again without the dcache lock.
	 * Returns 1 valid, 0 drop it and look up again, or -EAGAIN. */
	int (*revalidate)(struct dentry *d, bool fast);
	void (*free)(struct super_block *sb); /* required */
	/* New options, as text; NULL: they are ignored. */
	int (*remount)(struct super_block *sb, const char *options);
	/* The last user is gone: lets go of dentries that it holds only to be faster.  NULL: none
	 */
	void (*drop)(struct super_block *sb);
	/* A dentry with an inode leaves the cache.  lc_dcache is held; NULL: does not matter */
	void (*dentry_gone)(struct dentry *d);
	/* A guest with these credentials has mounted the new super block, whose user_ns is his:
	 * what options say of ids is in his terms, and what they do not say is his.  NULL: nothing
	 * of it is.  -EINVAL */
	int (*claim)(struct super_block *sb, const struct cred *c);
	/* For file systems whose files others change, too, of which they tell by notify_foreign():
	 * a mark is about to be put on the inode (on), or was taken off.  No lock is held; NULL:
	 * nobody else does. */
	void (*watch)(struct inode *in, bool on);
	/* Something was done by the vfs, and is about to be reported: to the inode, by that name in
	 * dir (NULL: whatever its name is).  NULL: as above */
	void (*own_event)(struct inode *in, struct inode *dir, const char *name, size_t len);
	/* Writes ",key=value" options for /proc/mounts; NULL: none. */
	void (*show_options)(struct super_block *sb, char *buf, size_t size);
	/*
	 * A file system whose operations wait for guests (FUSE) cannot have mutexes held around
	 * them: it locks a directory, or with dir NULL renames between two, by itself, as a sleep.
	 * -EINTR: the caller is about to end.  Its links' targets are not cached either, and it
	 * cannot be a layer.  NULL: mutexes.
	 */
	int (*lock)(struct super_block *sb, struct inode *dir);
	void (*unlock)(struct super_block *sb, struct inode *dir);
};

/* Part of a stacked file system (overlay)?  Its directories' locks are of classes of their own. */
enum layer_kind {
	LAYER_NONE,
	LAYER_STACKED, /* and an overlay itself */
	LAYER_BASE,
};

struct super_block {
	ref_t ref;
	const struct super_ops *ops;
	const char *fstype;	  /* as /proc/mounts shows it; static */
	uint64_t dev;		  /* unique st_dev */
	struct dentry *root;	  /* reference; dropped at the last put */
	struct mutex rename_lock; /* lc_rename */
	bool readonly;
	bool fixed_readonly;   /* cannot be remounted for writing */
	bool no_dcache;	       /* entries are looked up each time (proc) */
	enum layer_kind layer; /* set before the first lookup for the layer's sake */
	bool pseudo;	       /* struct pseudo_fs: a dentry's name is all there is */
	bool own_umask;	       /* it applies the umask itself */
	_Atomic int writers;   /* files open for writing */
	_Atomic unsigned pins; /* inodes, dentries, and one for ref: freed when all are gone */
	uint64_t magic;	       /* statfs f_type */
	struct notify_mark *_Atomic marks; /* as an inode's */
	struct user_ns
		*user_ns; /* reference: of who mounted it; devices work in the top one only */
	void *priv;
};

struct dentry {
	ref_t ref;
	struct super_block *sb; /* holds a reference */
	struct inode *
		inode; /* reference; NULL: negative.  Set once under lc_dcache, cleared by unlink */
	struct dentry *parent;	/* reference; the root is its own parent (no reference) */
	struct list_head hash;	/* lc_dcache, as all below */
	struct list_head child; /* in parent's children */
	struct list_head children;
	struct list_head lru; /* unreferenced ones, kept until reclaimed */
	uint32_t name_hash;
	uint32_t mounted; /* number of mounts on top of it, in all namespaces */
	bool hashed;	  /* false: unlinked ("(deleted)") */
	bool mount_below; /* a mount is, or was, on a descendant: kept by no_dcache too */
	uint16_t name_len;
	const char *name;		/* NUL-terminated; changes by rename under lc_dcache */
	void *priv;			/* the file system's */
	const struct lookup_hint *hint; /* during its look-up, or NULL */
	char inline_name[40];
};

/* What is known of why a name is looked up. */
struct lookup_hint {
	const char *rest; /* the path that will be walked from there, or NULL */
	bool open;	  /* what it ends at will be opened for reading */
};

struct path {
	struct mount *mnt;
	struct dentry *dentry;
};

/* Mount flags are MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_NOATIME, … of mount(2). */
struct mount {
	ref_t ref;
	struct super_block *sb;
	struct dentry *root;	   /* root of what is mounted */
	struct mount *parent;	   /* NULL: root of the tree; lc_mount, as below */
	struct dentry *mountpoint; /* in parent */
	struct list_head siblings, children;
	struct list_head hash;	      /* by (parent, mountpoint) */
	unsigned flags, flags_before; /* before: while several are changed */
	int id;
	char *source;	   /* as /proc/mounts shows it; owned */
	struct mnt_ns *ns; /* NULL: detached */
	/* Propagation (propagate.c): the group whose members it shares its events with, and the one
	 * that it receives from; NULL: none. */
	struct peer_group *group, *master;
	struct list_head peer, slave; /* in group->members, in master->slaves */
	bool unbindable;
	/* What a less privileged namespace got with a tree (mount_namespaces(7)): a mount that goes
	 * only with the one it is on, and flags that stay as they are. */
	bool locked;
	unsigned locked_flags;
	bool new_group;			   /* while a mount spreads: its group was made for that */
	uint8_t doomed;			   /* while a tree is unmounted (propagate.c) */
	struct list_head doom;		   /* all that go with it */
	_Atomic bool expiring;		   /* nobody used it since the last umount2(MNT_EXPIRE) */
	_Atomic int writers;		   /* files open for writing through it */
	struct notify_mark *_Atomic marks; /* as an inode's */
	struct list_head work;		   /* on a list of the change under way */
	struct mount *copy;		   /* while a tree is copied: its counterpart */
	struct mount *into;		   /* while a copy spreads: what it will be mounted in */
};

struct mnt_ns {
	struct ns ns;
	struct mount *root; /* NULL: what was here has been mounted elsewhere (anonymous) */
	bool anonymous;	    /* of a tree that is mounted nowhere yet: open_tree(2), fsmount(2) */
	_Atomic uint64_t event; /* changes with every change of the tree; unique among all */
};

/*
 * A file system of files without names, which descriptors and magic links lead to; static, and
 * there as long as the sandbox.
 */
struct pseudo_fs {
	struct super_block sb;
	struct mount *mnt; /* NULL: not made, or no memory */
};
void pseudo_fs_init(struct pseudo_fs *fs, const char *fstype, uint64_t magic);
/* A path to the inode (consumes its reference), shown as `name`: new references.  -ENOMEM */
int pseudo_fs_path(struct pseudo_fs *fs, struct inode *in, const char *name,
		   struct path *out) MUST_CHECK;

/* ---- objects (dentry.c, inode.c, super.c) ---- */
void inode_init(struct inode *in, struct super_block *sb, const struct inode_ops *ops, uint64_t ino,
		uint32_t mode, const struct cred *owner /* NULL: root */);
struct inode *inode_get(struct inode *in);
void inode_put(struct inode *in);
struct ktime ktime_now(void);			/* CLOCK_REALTIME */
void inode_touch(struct inode *in, bool mtime); /* ctime, and mtime if set, become now */
/* For getattr and setattr operations: what the vfs itself does where they are NULL (setattr sets
 * ctime and all fields that `valid` names but the size).  Take in->lock (lc_inode). */
void inode_fill_stat(struct inode *in, struct kstat *st);
void inode_apply_attr(struct inode *in, const struct iattr *a);
static inline bool inode_is_dir(const struct inode *in)
{
	return S_ISDIR(in->mode);
}
void super_init(struct super_block *sb, const struct super_ops *ops, const char *fstype,
		uint64_t magic); /* assigns dev */
/* Makes the root dentry of a new super block (consumes the inode's reference). */
int super_set_root(struct super_block *sb, struct inode *root) MUST_CHECK;
struct super_block *super_get(struct super_block *sb);
void super_put(struct super_block *sb);
struct dentry *dentry_get(struct dentry *d);
void dentry_put(struct dentry *d);
/* The directory (a reference) and a copy of the name (VFS_NAME_MAX + 1 bytes), as one: for file
 * systems that ask about a name without its directory being locked. */
struct dentry *dentry_get_parent(struct dentry *d, char *name);
/*
 * For file systems that remember a name of their inodes without a reference, cleared by
 * super_ops.dentry_gone: calls fn, under lc_dcache, for *at and then for each directory above,
 * until it returns false.  Names and hashed may be read.
 */
void dentry_climb(struct dentry *_Atomic *at, bool (*fn)(struct dentry *d, void *arg), void *arg);
/* The name *at means something else: it is looked up anew next time. */
void dentry_forget(struct dentry *_Atomic *at);
/* Does anybody but the caller, who has one reference, use it? */
bool dentry_is_shared(const struct dentry *d);
/* Gives a negative dentry its inode (consumes the reference).  For lookup and create ops. */
void dentry_instantiate(struct dentry *d, struct inode *in);
/* Forgets the name: for unlink/rmdir (vfs calls it), and file systems that see it gone. */
void dentry_unhash(struct dentry *d);
/* Looks a child up, by the cache or the file system; *out has a reference and may be negative.
 * dir's inode need not be locked.  For stacked file systems. */
int dentry_lookup(struct dentry *dir, const char *name, size_t len, struct dentry **out) MUST_CHECK;
/* The same, saying what comes next (NULL: nothing is known): a file system that finds several names
 * as cheaply as one may put the dentries that follow into the cache by dentry_add_ahead(). */
int dentry_lookup_ahead(struct dentry *dir, const char *name, size_t len,
			const struct lookup_hint *hint, struct dentry **out) MUST_CHECK;
/* For a lookup operation, below the dentry that it was given: a child of `dir`, with a reference.
 * Consumes `in` (NULL: a name that does not exist).  NULL: no memory. */
struct dentry *dentry_add_ahead(struct dentry *dir, const char *name, size_t len, struct inode *in);
/* Drops unreferenced dentries until at most `keep` are left. */
void dcache_shrink(size_t keep);

/* ---- mounts (mount.c) ---- */
struct mount *mount_new(struct super_block *sb, struct dentry *root, unsigned flags,
			const char *source); /* takes references; NULL: no memory */
struct mount *mount_get(struct mount *m);
void mount_put(struct mount *m);
struct path path_get(struct path p);
void path_put(struct path p);
extern const struct ns_type mnt_ns_type;
struct mnt_ns *mnt_ns_new(struct mount *root); /* consumes the reference to root; NULL: no memory */
struct mnt_ns *mnt_ns_get(struct mnt_ns *ns);
void mnt_ns_put(struct mnt_ns *ns);
/* For start-up: takes a reference to m; nothing propagates. */
int mount_attach(struct mount *m, struct path where) MUST_CHECK;
int mount_detach(struct mount *m, bool lazy) MUST_CHECK; /* EBUSY unless lazy */
/* Visits every mount of the namespace in the order of their making, with a reference each. */
int mnt_ns_for_each(struct mnt_ns *ns, int (*fn)(struct mount *m, void *arg), void *arg);

/* Crosses mounts on top of p (a walk that ends in "." does not); consumes and returns references.
 * -EXDEV */
int path_cross_mounts(struct path *p, unsigned flags) MUST_CHECK;
/* Is p on a mount of ns? */
bool path_is_in_ns(struct path p, const struct mnt_ns *ns);
/* The root of the namespace's root mount, with references. */
struct path mnt_ns_root(struct mnt_ns *ns);

enum {
	FS_GUESTS = 1,	 /* whoever is privileged in a user namespace of his own may mount it */
	FS_SHARED = 2,	 /* make gives an instance that others have mounted, too */
	FS_SUBTYPES = 4, /* "name.anything" is this type, too */
	FS_DEVICES = 8,	 /* it is on something: no "nodev" in /proc/filesystems */
};
/* What somebody wants mounted. */
struct walk_env;
struct fs_params {
	const char *options;	    /* "key=value,flag"; commas in values are "\\,"; NULL: none */
	const struct walk_env *env; /* for options that are paths; NULL: none can be */
	const char *source;	    /* as mount(2) got it; NULL: nothing */
	const char *subtype;	    /* of FS_SUBTYPES: what follows "fuse."; NULL: nothing does */
};
/* What mount(2) can make of nothing; filled at start, ends with a NULL name. */
struct fs_type {
	const char *name;
	/* The options that there are, for fsconfig(2): "flag key= other=". */
	const char *keys;
	int (*make)(const struct fs_params *p, struct super_block **out);
	unsigned flags;
};
extern const struct fs_type *vfs_fs_types;
const struct fs_type *vfs_fs_find(const char *name); /* NULL: none */
/* Makes one for a guest, p->env's.  over: the user namespace that what it shows belongs to, in
 * which he must be privileged, or (types that are not for guests) in the top one: EPERM. */
int vfs_fs_make_for(const struct fs_type *type, const struct fs_params *p, struct user_ns *over,
		    struct super_block **out) MUST_CHECK;

/* The mount on top of (m, d), with a reference, or NULL. */
struct mount *mount_lookup(struct mount *m, struct dentry *d);

/* ---- paths (namei.c) ---- */
/* Where a walk starts and how it is judged; a task fills one from itself (task_walk_env). */
struct walk_env {
	struct path root;  /* borrowed; ".." never goes above it */
	struct path start; /* borrowed; for relative names */
	const struct cred *cred;
	uint32_t umask; /* for what is made, unless a default ACL says more */
};
enum {
	WALK_NOFOLLOW = 1,	 /* do not follow a symlink in the last component */
	WALK_DIRECTORY = 2,	 /* the result must be a directory */
	WALK_EMPTY = 4,		 /* an empty name means start itself (AT_EMPTY_PATH) */
	WALK_BENEATH = 8,	 /* RESOLVE_BENEATH */
	WALK_IN_ROOT = 16,	 /* RESOLVE_IN_ROOT */
	WALK_NO_SYMLINKS = 32,	 /* RESOLVE_NO_SYMLINKS */
	WALK_NO_MAGICLINKS = 64, /* RESOLVE_NO_MAGICLINKS */
	WALK_NO_XDEV = 128,	 /* RESOLVE_NO_XDEV */
	WALK_OPEN = 256,	 /* a hint: the result will be opened for reading */
};
/* Resolves to an existing file. */
int path_walk(const struct walk_env *env, const char *name, unsigned flags,
	      struct path *out) MUST_CHECK;
/*
 * Resolves all but the last component, for the calls that make or remove a name.  *parent gets
 * references; *last points into `name` and has *last_len bytes ("." and ".." are reported as they
 * are; *trailing_slash says whether slashes followed it).
 */
int path_walk_parent(const struct walk_env *env, const char *name, unsigned flags,
		     struct path *parent, const char **last, size_t *last_len,
		     bool *trailing_slash) MUST_CHECK;
/* The absolute name seen from `root`, for getcwd and /proc: returns length without NUL, writes at
 * the end of buf and sets *start.  " (deleted)" is appended when `mark_deleted`; unreachable
 * from root: -ENOENT. */
ssize_t path_name(struct path p, struct path root, char *buf, size_t size, bool mark_deleted,
		  char **start) MUST_CHECK;

/* MAY_EXEC=1, MAY_WRITE=2, MAY_READ=4, as access(2); MAY_ACCESS: this is access(2), or chdir(2),
 * and nothing will follow that fails by itself. */
#define MAY_ACCESS 16
int inode_permission(struct inode *in, int mask, const struct cred *c) MUST_CHECK;
int path_permission(struct path p, int mask, const struct cred *c) MUST_CHECK; /* + read-only */

/* The judgement by mode bits, ids and capabilities alone: for permission operations. */
int inode_permission_generic(struct inode *in, int mask, const struct cred *c) MUST_CHECK;
/* May c act as the file's owner (owner, or CAP_FOWNER)? */
bool inode_owner_or_capable(const struct inode *in, const struct cred *c);

/*
 * Hooks filled by the parts that implement devices and FIFOs, for inodes of any file system: make
 * f ready (f->ops, f->priv) as inode_ops.open does.  Called without locks for S_ISCHR and S_ISBLK
 * (sentry/fs/dev), and S_ISFIFO (sentry/fs/pipe) inodes; an anonymous pipe reopened through
 * /proc/PID/fd comes here as well.  While NULL, inode_ops.open is asked.  A FIFO whose opening has
 * to wait for the other end is returned open, with file_ops.open_wait.
 */
extern int (*vfs_open_device)(struct inode *in, struct file *f);
extern int (*vfs_open_fifo)(struct inode *in, struct file *f);

/* ---- calls on names (vfs_*.c): every check that Linux makes, then the file system ---- */
int vfs_open(const struct walk_env *env, const char *name, int flags, uint32_t mode,
	     unsigned walk_flags, struct file **out) MUST_CHECK;
/* For execve: a regular file with an execute bit for the caller, not on a noexec mount: EACCES. */
int vfs_open_exec(const struct walk_env *env, const char *name, unsigned walk_flags,
		  struct file **out) MUST_CHECK;
int vfs_mkdir(const struct walk_env *env, const char *name, uint32_t mode) MUST_CHECK;
int vfs_mknod(const struct walk_env *env, const char *name, uint32_t mode, uint64_t rdev,
	      struct path *created /* NULL, or gets a path with references */) MUST_CHECK;
int vfs_symlink(const struct walk_env *env, const char *target, const char *name) MUST_CHECK;
int vfs_link(const struct walk_env *oldenv, const char *oldname, const struct walk_env *newenv,
	     const char *newname, unsigned walk_flags) MUST_CHECK;
int vfs_unlink(const struct walk_env *env, const char *name, bool rmdir) MUST_CHECK;
int vfs_rename(const struct walk_env *oldenv, const char *oldname, const struct walk_env *newenv,
	       const char *newname, unsigned flags) MUST_CHECK;
int vfs_getattr(struct path p, struct kstat *st) MUST_CHECK;
/* path_walk and vfs_getattr in one, which need not bring the file into the caches. */
int vfs_stat(const struct walk_env *env, const char *name, unsigned flags,
	     struct kstat *st) MUST_CHECK;
int vfs_setattr(struct path p, const struct iattr *a, const struct cred *c) MUST_CHECK;
int vfs_truncate(struct path p, uint64_t size, const struct cred *c) MUST_CHECK;
ssize_t vfs_readlink(struct path p, char *buf, size_t size) MUST_CHECK;
int vfs_statfs(struct path p, struct kstatfs *st) MUST_CHECK;
/* Sets the size without judging the path (ftruncate, O_TRUNC): EISDIR, EINVAL for other kinds. */
int inode_truncate(struct inode *in, uint64_t size, const struct cred *c) MUST_CHECK;
/* Has c the capability over this file: in its user namespace, where the owners are known? */
bool inode_capable(const struct inode *in, const struct cred *c, int cap);
/* Clears set-user-ID and set-group-ID bits before a write by c, as Linux does. */
int inode_remove_privs(struct inode *in, const struct cred *c) MUST_CHECK;
/* What executing the file gives to c (by set-id bits and file capabilities), where the mount and
 * the user namespaces let it. */
void path_exec_grant(struct path p, const struct cred *c, struct exec_grant *g);
/* Notes a read access (relatime). */
void path_accessed(struct path p, int file_flags);
/* Extended attributes, with the checks of xattr(7).  Sizes and errors as getxattr(2). */
ssize_t vfs_getxattr(struct path p, const char *name, void *buf, size_t size,
		     const struct cred *c) MUST_CHECK;
/* v: what is in it as the caller says it, and afterwards as the sentry does. */
int vfs_setxattr(struct path p, const char *name, void *v, size_t n, int flags,
		 const struct cred *c) MUST_CHECK;
ssize_t vfs_listxattr(struct path p, char *buf, size_t size, const struct cred *c) MUST_CHECK;
int vfs_removexattr(struct path p, const char *name, const struct cred *c) MUST_CHECK;

/* Low-level forms on locked-by-callee directories, for stacked file systems and start-up: no
 * permission checks; d must be a negative (create…) or positive (remove) child of dir. */
int vfs_do_create(struct dentry *dir, struct dentry *d, uint32_t mode,
		  const struct cred *c) MUST_CHECK;
int vfs_do_mkdir(struct dentry *dir, struct dentry *d, uint32_t mode,
		 const struct cred *c) MUST_CHECK;
int vfs_do_mknod(struct dentry *dir, struct dentry *d, uint32_t mode, uint64_t rdev,
		 const struct cred *c) MUST_CHECK;
int vfs_do_symlink(struct dentry *dir, struct dentry *d, const char *target,
		   const struct cred *c) MUST_CHECK;
int vfs_do_link(struct inode *target, struct dentry *dir, struct dentry *d) MUST_CHECK;
int vfs_do_unlink(struct dentry *dir, struct dentry *d) MUST_CHECK;
int vfs_do_rmdir(struct dentry *dir, struct dentry *d) MUST_CHECK;
int vfs_do_rename(struct dentry *olddir, struct dentry *oldd, struct dentry *newdir,
		  struct dentry *newd, unsigned flags) MUST_CHECK;

/* A fresh minor number for an anonymous device (st_dev of a super block). */
uint64_t dev_new_anonymous(void);
uint64_t dev_encode(unsigned major, unsigned minor); /* as st_rdev shows it */
