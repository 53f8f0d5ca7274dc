/* client.h - the inside of goferfs: connection, inodes, descriptor cache.  See goferfs.h. */
#pragma once

#include <stdatomic.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "gofer/proto.h"
#include "sentry/fs/gofer/goferfs.h"
#include "sentry/lib/list.h"
#include "sentry/lib/rbtree.h"
#include "sentry/vfs/vfs.h"

struct gofer_conn {
	ref_t ref;
	int fd; /* immutable */
	struct goferfs_hooks hooks;
	_Atomic bool dead;
	struct mutex lock; /* lc_gofer: one request and its reply at a time */
	uint32_t next_id;
	struct mutex close_lock; /* lc_leaf: node ids to be closed */
	uint64_t *closing;
	size_t nclosing, closing_room;
	struct mutex watch_lock;	       /* lc_watch: one watch is made or ended at a time */
	struct gofer_watcher *_Atomic watcher; /* NULL: nothing was ever watched */
	struct mutex fd_lock;	 /* lc_leaf: pins and the list of cached descriptors */
	struct list_head fd_lru; /* of gofer_inode, longest unused first */
	unsigned nfd_lru;
};

struct gofer_sb {
	struct super_block sb;
	struct gofer_conn *conn;
	unsigned flags;
	struct mutex tree_lock; /* lc_leaf */
	struct rb_root inodes;	/* by host device and inode number; they hold no reference */
	uint64_t devs[16];	/* host devices seen, in order; tree_lock */
	unsigned ndevs;
	struct mutex list_lock;		   /* lc_leaf: listing.h, as the rest */
	struct list_head listings, recent; /* longest unused first */
	size_t listing_bytes, recent_bytes;
	unsigned passed;
	uint64_t changes;	 /* of names and attributes, by the sentry */
	_Atomic uint32_t streak; /* how much is listed ahead; list.c */
	_Atomic uint32_t window; /* how much is opened ahead; ahead.c */
	/* Names of files that were listed ahead of time, and how often one was looked up. */
	_Atomic uint32_t brought, used;
};

struct gofer_listing;

struct gofer_inode {
	struct inode in;
	struct rb_node tree;
	bool in_tree;		       /* tree_lock */
	_Atomic uint64_t node;	       /* 0: none yet (place.c); set once */
	struct dentry *_Atomic alias;  /* borrowed: a name of it; dentry_climb() */
	struct gofer_listing *listing; /* directories: list_lock */
	uint64_t host_dev, host_ino;   /* immutable */
	/* -1: none.  Set under data_lock; stable while pinned.  wo_fd: for guest processes */
	_Atomic int ro_fd, rw_fd, wo_fd;
	unsigned pins;		     /* fd_lock: open files and calls that use the descriptors */
	struct list_head lru;	     /* fd_lock; queued when unpinned and with descriptors */
	_Atomic bool changed;	     /* since it was listed: attributes of records are not right */
	_Atomic bool large;	     /* directories: too large to be remembered */
	_Atomic uint32_t misses;     /* directories: look-ups that cost a round trip each, */
	_Atomic uint32_t names;	     /* and how many names there were when it was listed */
	_Atomic bool lent;	     /* guest processes may keep descriptors of it */
	_Atomic bool stale;	     /* attributes have to be asked for again */
	_Atomic bool written_by_map; /* mapped shared and writable: the host changes its times */
	_Atomic int64_t checked; /* shared mode: when the attributes were right (monotonic ns) */
	uint16_t dio_align;	 /* a power of two, or 0; in.lock, as the next three */
	uint32_t blksize;
	uint64_t attributes, attributes_mask;
};

#define GOFERFS_WINDOW_NS 100000 /* see goferfs.h */

static inline struct gofer_inode *gi_of(const struct inode *in)
{
	return container_of(in, struct gofer_inode, in);
}
static inline struct gofer_sb *gsb_of(const struct super_block *sb)
{
	return container_of(sb, struct gofer_sb, sb);
}
static inline struct gofer_conn *gi_conn(const struct gofer_inode *gi)
{
	return gsb_of(gi->in.sb)->conn;
}
static inline bool gi_shared(const struct gofer_inode *gi)
{
	return gsb_of(gi->in.sb)->flags & GOFERFS_SHARED;
}

/* ---- watch.c ---- */
void gofer_watch(struct inode *in, bool on);
void gofer_own_event(struct inode *in, struct inode *dir, const char *name, size_t len);
/* The same, when a descriptor for writing was closed. */
void gofer_own_close(struct gofer_inode *gi, struct dentry *d);
void gofer_watcher_free(struct gofer_watcher *w);

/* ---- conn.c ---- */
struct rpc {
	uint16_t op;
	const void *fixed;
	size_t fixed_len;
	struct iovec var[3]; /* variable parts, in order; unused ones have length 0 */
	void *rep;	     /* where the reply's payload goes */
	size_t rep_min, rep_max;
	size_t rep_len;		/* out */
	unsigned fds_room;	/* descriptors that may come along */
	int fds[GOFER_FDS_MAX]; /* out; owned by the caller, who closes them on success only */
	unsigned nfds;		/* out */
};
/* 0 with a reply of rep_min … rep_max bytes; the server's -errno; -EIO when it is dead. */
int gofer_rpc(struct gofer_conn *c, struct rpc *r) MUST_CHECK;
/* The peer broke the protocol: logs, ends the connection; returns -EIO. */
int gofer_conn_fail(struct gofer_conn *c, const char *why);
/* Has the server close a node, soon or (now) at once.  Never waits. */
void gofer_close_node(struct gofer_conn *c, uint64_t node, bool now);
void conn_block_begin(const struct gofer_conn *c);
void conn_block_end(const struct gofer_conn *c);

/* ---- inode.c ---- */
extern const struct inode_ops gofer_file_iops, gofer_dir_iops, gofer_link_iops, gofer_other_iops;
/* The inode for an entry (owned: its node is closed if the inode was known).  Target: of a symlink,
 * or NULL.  Returns a reference through *out.  -ESTALE: an entry without a node that cannot be
 * right any more. */
int gofer_inode_get(struct gofer_sb *gsb, const struct gofer_entry *e, const char *target,
		    size_t target_len, struct inode **out) MUST_CHECK;
/* Stores attributes: -EIO if they cannot be those of this file. */
int gofer_set_attr(struct gofer_inode *gi, const struct gofer_attr *a) MUST_CHECK;
/* Asks again if need be. */
int gofer_refresh(struct gofer_inode *gi) MUST_CHECK;
uint64_t gofer_present_ino(struct gofer_sb *gsb, uint64_t dev, uint64_t ino);
int64_t gofer_now(void);
static inline uint64_t gofer_attr_dev(const struct gofer_attr *a)
{
	return (uint64_t)a->dev_major << 32 | a->dev_minor;
}
/* Its attributes, or what is in it, changed: they are asked for again. */
void gofer_changed(struct gofer_inode *gi);
/* After a change of contents through a descriptor: the set-id bits that were in `mode` before are
 * there again.  The host takes them away, since this process has no privileges; whether the guest's
 * caller may keep them the vfs has decided before. */
void gofer_keep_privs(struct gofer_inode *gi, uint32_t mode);
/* It lost its last name: nothing that is found from now on is this file. */
void gofer_unlisted(struct gofer_inode *gi);
/* After err, if that says that the gofer is short of descriptors: lets go of files that nobody
 * uses, in each round of more.  False: that does not help. */
bool gofer_give_up_nodes(struct gofer_sb *gsb, int err, int round);

/* ---- fdcache.c ---- */
void gofer_pin(struct gofer_inode *gi);
void gofer_unpin(struct gofer_inode *gi);
/* Pinned: makes sure of descriptors (GOFER_OPEN_*). */
int gofer_need_fds(struct gofer_inode *gi, unsigned what) MUST_CHECK;
/* fstat(2) as that host call: the C library's makes another, which may take names. */
static inline int gofer_fstat(int fd, struct stat *st)
{
	return (int)syscall(SYS_fstat, fd, st);
}
int gofer_io_fd(const struct gofer_inode *gi); /* pinned: what reads can go through, or -1 */
/* Checks a descriptor against the file and the access mode wanted; closes it if it is wrong. */
int gofer_check_fd(struct gofer_inode *gi, int fd, int accmode) MUST_CHECK;
bool gofer_fd_is(const struct gofer_inode *gi, int fd, int accmode);
/* A read-write descriptor that came with the creation, or a read-only one; consumed. */
void gofer_adopt_fd(struct gofer_inode *gi, int fd, bool readonly);
void gofer_drop_fds(struct gofer_inode *gi); /* the inode goes */

/* ---- lend.c: what guest processes read and write themselves; how many bytes, as uio_by_guest() */
size_t gofer_lend_read(struct gofer_inode *gi, struct uio *io, int64_t *off);
/* only: the guest may not read the file.  The size is right afterwards. */
size_t gofer_lend_write(struct gofer_inode *gi, bool only, struct uio *io, int64_t *off);
/* Nobody has the file open any more. */
void gofer_lend_end(struct gofer_inode *gi);
void gofer_forget(struct inode *in);

/* ---- place.c ---- */
#define GOFER_PLACE_DEPTH 16
/* Where a file is: as many names below a node. */
struct gofer_place {
	uint64_t node;
	uint32_t depth;
	size_t len;
	const uint8_t *names; /* as in a walk; in room */
	uint8_t room[GOFER_PLACE_DEPTH * (GOFER_NAME_LEN + sizeof(uint16_t))];
};
/* -ENOENT: the file has lost its name (and no node). */
int gofer_place(struct gofer_inode *gi, struct gofer_place *p) MUST_CHECK;
/* The directory (a reference) and name of a file without a node, or NULL. */
struct dentry *gofer_alias_parent(struct gofer_inode *gi, char *name);
/* Its node, which it gets by a round trip if it has none.  -ENOENT, or as a look-up. */
int gofer_node(struct gofer_inode *gi, uint64_t *node) MUST_CHECK;

/* ---- list.c ---- */
/*
 * Reads the directory, whose name is d, with attributes; others that are likely to be read next may
 * come along.  *out is a reference, NULL if the directory is too large.  No directory is locked.
 */
int gofer_list(struct gofer_inode *dir, struct dentry *d, struct gofer_listing **out) MUST_CHECK;
/* Many names of it are being looked up: reads it alone.  It is locked. */
void gofer_list_alone(struct gofer_inode *dir, struct dentry *d);
/* The records of a reply must fill it exactly. */
bool gofer_records_ok(const uint8_t *p, size_t len, uint32_t count);

/* ---- ahead.c ---- */
/* Opens a file that has no node for reading, perhaps with others.  The file is pinned.  Without a
 * descriptor afterwards it is to be opened by itself. */
void gofer_open_ahead(struct gofer_inode *gi);

/* ---- readdir.c ---- */
static inline size_t gofer_record_size(const struct gofer_dirent *e)
{
	return sizeof(*e) + (e->has_attr ? sizeof(struct gofer_attr) : 0) +
	       ((e->name_len + 7UL) & ~7UL);
}
/* Not terminated; p is where the record e is. */
static inline const char *gofer_record_name(const uint8_t *p, const struct gofer_dirent *e)
{
	return (const char *)p + sizeof(*e) + (e->has_attr ? sizeof(struct gofer_attr) : 0);
}

/* ---- dir.c, readdir.c, file.c, xattr.c ---- */
int gofer_lookup(struct inode *dir, struct dentry *d);
int gofer_revalidate(struct dentry *d, bool fast);
void gofer_dentry_gone(struct dentry *d);
int gofer_create(struct inode *dir, struct dentry *d, uint32_t mode, const struct cred *c);
int gofer_mkdir(struct inode *dir, struct dentry *d, uint32_t mode, const struct cred *c);
int gofer_mknod(struct inode *dir, struct dentry *d, uint32_t mode, uint64_t rdev,
		const struct cred *c);
int gofer_symlink(struct inode *dir, struct dentry *d, const char *target, const struct cred *c);
int gofer_link(struct inode *dir, struct dentry *d, struct inode *target);
int gofer_unlink(struct inode *dir, struct dentry *d);
int gofer_rmdir(struct inode *dir, struct dentry *d);
int gofer_rename(struct inode *olddir, struct dentry *oldd, struct inode *newdir,
		 struct dentry *newd, unsigned flags);
int gofer_open_dir(struct inode *in, struct dentry *d, struct file *f);
int gofer_open_file(struct inode *in, struct dentry *d, struct file *f);
ssize_t gofer_getxattr(struct inode *in, const char *name, void *buf, size_t size);
int gofer_setxattr(struct inode *in, const char *name, const void *v, size_t n, int flags);
ssize_t gofer_listxattr(struct inode *in, char *buf, size_t size);
int gofer_removexattr(struct inode *in, const char *name);
