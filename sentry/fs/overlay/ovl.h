/*
 * Inside of sentry/fs/overlay.
 *
 * An overlay inode stands for an upper file, a lower one, or a directory merged from several.  Its
 * `upper` is set once, by copy-up, under `lock` (ovl_lock); after that the lower part of a file
 * is history.  Removing or replacing a name holds the `lock` of the file that loses it, so that
 * copy-up never writes to a name that has just gone.
 *
 * Locks: the overlay's directory locks (held by the vfs) → ovl_lock → the layers' own locks.
 * hash_lock is a leaf: no reference is put under it.
 */
#pragma once

#include <stdatomic.h>

#include "sentry/fs/overlay/overlay.h"
#include "sentry/vfs/file.h"

#define OVL_XATTR_PREFIX "trusted.overlay."
#define OVL_XATTR_OPAQUE "trusted.overlay.opaque"
#define OVL_BUCKETS 1024
#define OVL_INODE_BITS 14

/*
 * What is remembered of a file that was copied up, for as long as the upper file exists: it keeps
 * the inode number of its origin when the overlay's inode is dropped from the cache and made anew.
 * Of a lower file with several names, also how many of them are left.
 */
struct ovl_record {
	struct list_head by_upper; /* hash by upper_ino, if that is not 0 */
	uint64_t upper_ino;	   /* 0: not copied up */
	uint64_t ino;		   /* of the overlay's inode */
	/* Only when the origin had several names, some of which may be lower ones still: */
	struct list_head by_lower;    /* hash by lower->inode */
	struct dentry *lower, *upper; /* references */
	uint32_t lower_links;	      /* names that are only in the lower layer; hash_lock */
	bool index; /* `upper` is a name in the work directory, not seen by guests */
};

struct ovl_super {
	struct super_block sb;
	struct mount *upper_mnt; /* references; NULL: read-only */
	struct dentry *work;	 /* reference */
	struct mount **lower_mnt;
	size_t nlower;
	struct cred *cred; /* root: makes what copy-up makes */
	char *shown;
	_Atomic uint64_t last_temp;
	struct mutex hash_lock; /* lc_leaf: the tables, parent pointers, records */
	struct list_head inodes[1 << OVL_INODE_BITS]; /* by ovl_key(); a zero head is empty */
	struct list_head by_upper[OVL_BUCKETS], by_lower[OVL_BUCKETS]; /* of ovl_record */
};

struct ovl_lower {
	unsigned layer;	  /* index in lower_mnt */
	struct dentry *d; /* reference */
};

struct ovl_list;

struct ovl_inode {
	struct inode in;
	struct mutex lock;	      /* ovl_lock */
	struct dentry *_Atomic upper; /* reference */
	struct inode *parent;	      /* where its lower name is: reference, or NULL; hash_lock */
	struct list_head hash;	      /* hash_lock */
	struct ovl_record *record;    /* borrowed; set with upper; hash_lock */
	_Atomic bool cut;	      /* directory: its lower part does not count any more */
	_Atomic uint64_t version;     /* directory: changes of its entries */
	struct ovl_list *list;	      /* merged listing as of list_version, or NULL; hash_lock */
	uint64_t list_version;
	size_t nlower;
	struct ovl_lower lower[]; /* immutable; files have at most one */
};

static inline struct ovl_inode *ovl_inode(const struct inode *in)
{
	return container_of((struct inode *)in, struct ovl_inode, in);
}

static inline struct ovl_super *ovl_super(const struct super_block *sb)
{
	return container_of((struct super_block *)sb, struct ovl_super, sb);
}

static inline struct dentry *ovl_upper(const struct ovl_inode *oi)
{
	return atomic_load_explicit(&((struct ovl_inode *)oi)->upper, memory_order_acquire);
}

/* How many lower directories still count. */
static inline size_t ovl_nlower(const struct ovl_inode *oi)
{
	return oi->cut ? 0 : oi->nlower;
}

/* The inode that answers for attributes and contents now; borrowed from oi. */
static inline struct inode *ovl_real(const struct ovl_inode *oi)
{
	struct dentry *upper = ovl_upper(oi);
	return upper ? upper->inode : oi->lower[0].d->inode;
}

static inline bool ovl_is_whiteout(const struct inode *in)
{
	return in && S_ISCHR(in->mode) && in->rdev == 0;
}

/* ---- inode.c ---- */
/*
 * The overlay inode for an upper dentry (NULL: none) and lower ones, which are all consumed, also
 * on failure: an existing one, or a new one.  parent: the overlay directory of the lower name.
 */
int ovl_inode_get(struct ovl_super *os, struct dentry *upper, struct ovl_lower *lower,
		  size_t nlower, struct inode *parent, struct inode **out) MUST_CHECK;
/* Takes the attributes over from the real inode; with `atime` the access time too (which the
 * overlay otherwise keeps by itself). */
void ovl_copy_attr(struct ovl_inode *oi, bool atime);
/* The entries of a directory changed: listings are made anew, times taken over. */
void ovl_dir_changed(struct inode *dir);
/* The lower name of oi in `dir` is gone. */
void ovl_forget_parent(struct ovl_inode *oi, const struct inode *dir, const char *name);
struct inode *ovl_parent_get(struct ovl_inode *oi);
uint64_t ovl_encode_ino(const struct super_block *sb, size_t layer, uint64_t ino);
extern const struct inode_ops ovl_dir_iops, ovl_file_iops, ovl_link_iops, ovl_special_iops;
int ovl_getattr(struct inode *in, struct kstat *st);
int ovl_setattr(struct inode *in, const struct iattr *a);
ssize_t ovl_getxattr(struct inode *in, const char *name, void *buf, size_t size);
int ovl_setxattr(struct inode *in, const char *name, const void *v, size_t n, int flags);
ssize_t ovl_listxattr(struct inode *in, char *buf, size_t size);
int ovl_removexattr(struct inode *in, const char *name);
void ovl_free(struct inode *in);
/* setattr of a layer's inode. */
int ovl_real_setattr(struct inode *real, const struct iattr *a) MUST_CHECK;

/* After `upper` was set; hash_lock is held. */
void ovl_rehash_locked(struct ovl_super *os, struct ovl_inode *oi);

/* ---- record.c ---- */
/* With hash_lock held: */
struct ovl_record *ovl_record_by_upper(struct ovl_super *os, uint64_t upper_ino);
struct ovl_record *ovl_record_by_lower(struct ovl_super *os, const struct inode *lower);
void ovl_record_insert(struct ovl_super *os, struct ovl_record *r);
/* Without: */
struct ovl_record *ovl_record_new(void);
void ovl_record_free(struct ovl_record *r);
/* After a name went: the last one takes the index name with it. */
void ovl_drop_index(struct ovl_inode *oi);
/* A name that is only in the lower layer went, or got an upper one. */
void ovl_lower_link_gone(struct ovl_inode *oi);
/* The overlay's link count of a file. */
uint32_t ovl_nlink(struct ovl_inode *oi);
/* Forgets the record of a copied-up file that has no names left, upper or lower. */
void ovl_record_drop(struct ovl_super *os, struct ovl_inode *oi);
/* The overlay's number of an upper file, for listings. */
uint64_t ovl_upper_ino(struct ovl_super *os, uint64_t upper_ino);

/* ---- copyup.c ---- */
#define OVL_ALL UINT64_MAX
/* Makes sure that the file is in the upper layer, with its parents; at most the first `size` bytes
 * of its contents are wanted.  -EROFS. */
int ovl_copy_up(struct inode *in, uint64_t size) MUST_CHECK;
/* A negative dentry in the work directory. */
int ovl_temp(struct ovl_super *os, struct dentry **out) MUST_CHECK;
/* Removes what a failed operation left in the work directory. */
void ovl_temp_remove(struct ovl_super *os, struct dentry *d);
int ovl_set_opaque(struct inode *upper) MUST_CHECK;

/* ---- lookup.c ---- */
int ovl_lookup(struct inode *dir, struct dentry *d);
int ovl_peek(struct inode *dir, const char *name, size_t len, struct kstat *st);
/* Is the name visible in the lower part of dir?  1, 0 or -errno. */
int ovl_lower_has(struct inode *dir, const struct dentry *d) MUST_CHECK;
bool ovl_is_opaque(struct inode *in);

/* ---- dir.c ---- */
/* Removes the whiteouts of an upper directory that shows no entries, and cuts its lower part off.
 */
int ovl_clear_upper(struct ovl_inode *oi) MUST_CHECK;
/* ---- rename.c ---- */
int ovl_rename(struct inode *olddir, struct dentry *oldd, struct inode *newdir, struct dentry *newd,
	       unsigned flags);
/* ---- readdir.c ---- */
int ovl_dir_open(struct inode *in, struct dentry *d, struct file *f);
/* 0, -ENOTEMPTY, or another error. */
int ovl_check_empty(struct ovl_inode *oi) MUST_CHECK;
void ovl_list_put(struct ovl_list *l);
/* Calls fn for each name in an upper directory ("." and ".." left out). */
int ovl_upper_names(struct ovl_inode *oi,
		    int (*fn)(struct dentry *dir, const char *name, size_t len)) MUST_CHECK;
/* ---- file.c ---- */
int ovl_file_open(struct inode *in, struct dentry *d, struct file *f);

/* The file's lock: lc_overlay, or in an overlay that is a layer itself lc_layer_overlay. */
void ovl_lock(struct ovl_inode *oi);
void ovl_unlock(struct ovl_inode *oi);
