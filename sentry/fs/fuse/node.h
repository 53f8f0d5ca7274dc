/*
 * node.h - files of a FUSE mount.
 *
 * An inode is what the server calls a node; it is found again by the node's number (fs->tree), and
 * the server is told how often it has named it to us when we forget it.
 *
 * Locking: fs->tree_lock (lc_leaf) guards the tree and nlookup; in->lock (lc_inode) attributes and
 * how long they hold; cache_lock (lc_fuse_cache) what is cached.  A directory is
 * locked by its sleep lock (super_ops.lock).
 */
#pragma once

#include "sentry/fs/fuse/conn.h"
#include "sentry/lib/rbtree.h"
#include "sentry/lib/sleep_lock.h"

struct fuse_fs {
	struct super_block sb;
	struct fuse_conn *fc; /* reference */
	struct mutex tree_lock;
	struct rb_root tree;
	struct sleep_lock rename_busy;
	char fstype[64]; /* "fuse.subtype" */
};

/* An open file, as the server knows it.  References: the file's, and of writes under way. */
struct fuse_handle {
	ref_t ref;
	struct fuse_node *node; /* reference to its inode */
	uint64_t fh;
	uint32_t open_flags;   /* FOPEN_* */
	int flags;	       /* of open(2) */
	bool no_open;	       /* the server does not know of it */
	struct list_head link; /* node->handles; lc_inode */
};

struct fuse_node {
	struct inode in;
	uint64_t nodeid, generation;
	struct rb_node node; /* fs->tree */
	bool in_tree;
	uint64_t nlookup;
	uint64_t ino; /* as the server shows it */
	uint32_t blksize;
	int64_t attr_until; /* CLOCK_MONOTONIC ns; lc_inode */
	uint64_t attr_version;
	_Atomic uint16_t entries_epoch; /* names in it that are older are asked about again */
	struct sleep_lock dir_busy;
	struct task *_Atomic dir_owner; /* compared only */
	struct list_head handles;
	/* Made and opened at once: for the next open by that task. */
	struct fuse_handle *created; /* lc_inode */
	struct task *created_by;     /* compared only */
	struct mutex cache_lock;     /* lc_fuse_cache */
	struct fuse_cache *cache;    /* cache.c; set once; NULL: nothing is cached */
};

static inline struct fuse_node *node_of(struct inode *in)
{
	return container_of(in, struct fuse_node, in);
}
static inline struct fuse_fs *fs_of(struct super_block *sb)
{
	return container_of(sb, struct fuse_fs, sb);
}
static inline struct fuse_conn *conn_of(struct inode *in)
{
	return fs_of(in->sb)->fc;
}

/* ---- dev.c ---- */
/* The descriptor's connection becomes fc.  -EINVAL: it is no /dev/fuse, or has one. */
int fuse_dev_attach(struct file *f, struct fuse_conn *fc) MUST_CHECK;

/* ---- node.c ---- */
/* The inode of an answer that names a node, which counts as one look-up: a reference.  -EIO: it
 * cannot be; version: fc->attr_version before it was asked for. */
int fuse_node_get(struct fuse_fs *fs, const struct fuse_entry_out *e, uint64_t version,
		  struct inode **out) MUST_CHECK;
int fuse_root_new(struct fuse_fs *fs, uint32_t mode, struct inode **out) MUST_CHECK;
/* The node with that number, with a reference, or NULL. */
struct fuse_node *fuse_node_find(struct fuse_fs *fs, uint64_t nodeid);
/* The server need not remember what it named to us in an answer that is not used. */
void fuse_forget(struct fuse_conn *fc, uint64_t nodeid, uint64_t nlookup);
/* Takes attributes over, unless something changed since `version`.  -EIO: they cannot be. */
int fuse_attr_take(struct fuse_node *n, const struct fuse_attr *a, uint64_t sec, uint32_t nsec,
		   uint64_t version) MUST_CHECK;
void fuse_attr_expire(struct fuse_node *n);
/* Asks for them if they are too old (force: in any case). */
int fuse_attr_refresh(struct fuse_node *n, bool force) MUST_CHECK;
/* The size is known to be at least (exactly, if `cut`) that now. */
void fuse_size_changed(struct fuse_node *n, uint64_t size, bool cut);
uint64_t fuse_size(struct fuse_node *n);
/* When something is too old that the server says holds so long. */
int64_t fuse_until(uint64_t sec, uint32_t nsec);
int fuse_may_use(const struct fuse_conn *fc, const struct cred *c) MUST_CHECK;

int fuse_getattr(struct inode *in, struct kstat *st);
int fuse_setattr(struct inode *in, const struct iattr *a);
int fuse_permission(struct inode *in, int mask, const struct cred *c);
void fuse_node_free(struct inode *in);

/* ---- xattr.c ---- */
ssize_t fuse_getxattr(struct inode *in, const char *name, void *buf, size_t size);
int fuse_setxattr(struct inode *in, const char *name, const void *v, size_t n, int flags);
ssize_t fuse_listxattr(struct inode *in, char *buf, size_t size);
int fuse_removexattr(struct inode *in, const char *name);

/* ---- dir.c, readdir.c, file.c ---- */
extern const struct inode_ops fuse_dir_iops, fuse_file_iops, fuse_link_iops, fuse_other_iops;
int fuse_revalidate(struct dentry *d, bool fast);
int fuse_dir_open(struct inode *in, struct dentry *d, struct file *f);
int fuse_file_open(struct inode *in, struct dentry *d, struct file *f);

/* Opens on the server.  dir: OPENDIR. */
int fuse_handle_open(struct fuse_node *n, int flags, bool dir, struct fuse_handle **out) MUST_CHECK;
/* One that the server has opened. */
struct fuse_handle *fuse_handle_new(struct fuse_node *n, const struct fuse_open_out *o, int flags);
struct fuse_handle *fuse_handle_get(struct fuse_handle *h);
/* The last reference closes it on the server. */
void fuse_handle_put(struct fuse_handle *h);
/* One of the node that may write, with a reference; NULL: there is none. */
struct fuse_handle *fuse_handle_for_writing(struct fuse_node *n);
/* READ: at most n bytes into a message that the caller puts; *got may be less at the end. */
int fuse_read_at(struct fuse_handle *h, uint64_t off, size_t n, struct fuse_req **out) MUST_CHECK;
/* The most that one READ may ask for. */
size_t fuse_read_max(const struct fuse_conn *fc);

/* ---- cache.c: pages of a file, in memory that guests may map ---- */
/* Reads through it. */
ssize_t fuse_cache_read(struct fuse_handle *h, struct uio *io, int64_t *off) MUST_CHECK;
/* The server has taken these bytes. */
void fuse_cache_written(struct fuse_node *n, const void *data, size_t len, uint64_t off);
/* What is cached of a range (len 0: to the end) is not right any more. */
void fuse_cache_drop(struct fuse_node *n, uint64_t off, uint64_t len);
void fuse_cache_resize(struct fuse_node *n, uint64_t size);
void fuse_cache_free(struct fuse_node *n);
/* Sends what guests wrote to shared mappings; wait: until the server has it. */
int fuse_cache_flush(struct fuse_node *n, bool wait) MUST_CHECK;
int fuse_map_prepare(struct file *f, bool shared, uint64_t off, uint64_t len);
int fuse_map_fd(struct file *f, bool shared, int *fd);
