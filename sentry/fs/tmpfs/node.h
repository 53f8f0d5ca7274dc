/* Inside of sentry/fs/tmpfs: the instance, the inode, and what its files share. */
#pragma once

#include "sentry/fs/tmpfs/tmpfs.h"
#include "sentry/lib/rbtree.h"

#define LINUX_F_SEAL_EXEC 0x20 /* newer than libc's header */

struct uio;

struct tmpfs_super {
	struct super_block sb;
	uint64_t max_pages, max_inodes; /* immutable; 0: no limit */
	_Atomic uint64_t pages, inodes; /* in use */
	_Atomic uint64_t last_ino;
	bool uid_given, gid_given;
	uint32_t root_mode, root_uid, root_gid; /* as mounted, for /proc/mounts */
	bool ramfs;				/* which has no limits, and says less there */
	bool size_given, inodes_given;
};

/* A name in a directory. */
struct tmpfs_entry {
	struct rb_node by_pos;
	struct tmpfs_entry *hash_next;
	struct inode *in; /* reference */
	int64_t pos;	  /* position in listings, never reused in this directory */
	uint32_t hash;
	uint8_t len;
	char name[];
};

/* data_lock of the directory (lc_inode_data); changes also hold its dir_lock. */
struct tmpfs_dir {
	struct tmpfs_entry **buckets;
	size_t nbuckets, count;
	struct rb_root by_pos;
	int64_t next_pos;
};

/*
 * Contents of a regular file.  Changes hold data_lock; what readers look at (pages, memfd, and
 * in.size) changes under in.lock as well, which is all that readers take.
 */
struct tmpfs_data {
	char **pages;	  /* NULL entries are holes; used while memfd < 0 */
	size_t npages;	  /* entries of pages */
	size_t first_cap; /* bytes allocated for pages[0], so that tiny files stay tiny */
	int memfd;	  /* -1: in memory.  Once made it stays: no lock needed to use it */
	int ro_fd;	  /* read-only twin of memfd, or -1 */
	int wo_fd;	  /* the same, write-only */
	bool dense;	  /* memfd: every page up to the size is present */
	uint64_t lent;	  /* 0, or its key: guest processes may keep it mapped (tmpfs_lend) */
	bool mapped;	  /* guests may add pages without our knowing */
	unsigned seals;	  /* F_SEAL_*; data_lock */
	bool secret;	  /* SHMEM_SECRET; immutable */
};

struct tmpfs_xattr {
	struct tmpfs_xattr *next;
	char *name;
	void *value;
	size_t size;
};

struct tmpfs_inode {
	struct inode in;
	uint64_t charged;	    /* pages taken from the instance for contents; data_lock */
	struct tmpfs_xattr *xattrs; /* data_lock */
	uint64_t xattr_bytes, xattr_charged; /* charged is in pages */
	union {
		struct tmpfs_dir dir;
		struct tmpfs_data data;
		char *target; /* of a symlink; immutable */
	};
};

static inline struct tmpfs_inode *tmpfs_inode(const struct inode *in)
{
	return container_of((struct inode *)in, struct tmpfs_inode, in);
}

static inline struct tmpfs_super *tmpfs_super(const struct super_block *sb)
{
	return container_of((struct super_block *)sb, struct tmpfs_super, sb);
}

/* super.c: takes pages from the instance; -ENOSPC. */
int tmpfs_charge(struct tmpfs_super *ts, uint64_t pages) MUST_CHECK;
void tmpfs_uncharge(struct tmpfs_super *ts, uint64_t pages);

/* An inode, or one more name of one: Linux counts both, so that names are bounded.  -ENOSPC. */
int tmpfs_charge_inode(struct tmpfs_super *ts) MUST_CHECK;

/* inode.c: a new inode, nlink 1 (2 for directories); owner and set-group-ID as in `dir` (may be
 * NULL).  -ENOSPC, -ENOMEM. */
int tmpfs_inode_new(struct super_block *sb, struct inode *dir, uint32_t mode, uint64_t rdev,
		    const struct cred *c, struct inode **out) MUST_CHECK;
int tmpfs_getattr(struct inode *in, struct kstat *st);
int tmpfs_setattr(struct inode *in, const struct iattr *a);
void tmpfs_free(struct inode *in);
extern const struct inode_ops tmpfs_dir_iops, tmpfs_file_iops, tmpfs_link_iops, tmpfs_special_iops;

/* dir.c */
void tmpfs_dir_init(struct tmpfs_inode *ti);
void tmpfs_dir_fini(struct tmpfs_inode *ti);
extern const struct file_ops tmpfs_dir_fops;

/* data.c: contents.  All take the locks they need. */
void tmpfs_data_init(struct tmpfs_inode *ti);
void tmpfs_data_fini(struct tmpfs_inode *ti);
/* Copies up to n bytes at off out of sentry memory: bytes; or -EREMOTE: use data.memfd. */
ssize_t tmpfs_data_read(struct tmpfs_inode *ti, void *buf, size_t n, uint64_t off) MUST_CHECK;
/* At *off, or with `append` at the end, which *off becomes.  Bytes (short when space ends) or
 * -errno. */
ssize_t tmpfs_data_write(struct tmpfs_inode *ti, const void *buf, size_t n, bool append,
			 uint64_t *off) MUST_CHECK;
int tmpfs_data_truncate(struct tmpfs_inode *ti, uint64_t size) MUST_CHECK;
int tmpfs_data_fallocate(struct tmpfs_inode *ti, int mode, uint64_t off, uint64_t len) MUST_CHECK;
int64_t tmpfs_data_seek(struct tmpfs_inode *ti, int64_t off, int whence) MUST_CHECK;
/* Brings the count of pages up to date for files that guests have mapped. */
void tmpfs_data_recount(struct tmpfs_inode *ti);
/* Publishes a change: size if it grew (or `exact`), pages in use, times. */
void tmpfs_data_changed_locked(struct tmpfs_inode *ti, uint64_t size, bool exact);

/* memory.c: contents in sentry memory; data_lock is held. */
void tmpfs_mem_free_from(struct tmpfs_inode *ti, uint64_t first_page);
void tmpfs_mem_drop(struct tmpfs_inode *ti, uint64_t page);
/* Makes the page present with room for its first `need` bytes.  -ENOSPC, -ENOMEM. */
int tmpfs_mem_page(struct tmpfs_inode *ti, uint64_t page, size_t need) MUST_CHECK;
void tmpfs_mem_zero(struct tmpfs_inode *ti, uint64_t off, uint64_t end);
ssize_t tmpfs_mem_write(struct tmpfs_inode *ti, const char *buf, size_t n, uint64_t off) MUST_CHECK;
/* The present bytes of a page: NULL for a hole. */
static inline char *tmpfs_mem_bytes(const struct tmpfs_data *td, uint64_t page, size_t *cap)
{
	if (page >= td->npages || !td->pages[page])
		return NULL;
	*cap = page ? PAGE_SIZE : td->first_cap;
	return td->pages[page];
}

/* backing.c: contents in a memfd; data_lock is held by those named _locked. */
void tmpfs_backing_init(void);	  /* start-up: how many descriptors there may be */
void tmpfs_backing_close(int fd); /* -1: nothing */
int tmpfs_to_memfd_locked(struct tmpfs_inode *ti) MUST_CHECK;
ssize_t tmpfs_fd_write_locked(struct tmpfs_inode *ti, const void *buf, size_t n,
			      uint64_t off) MUST_CHECK;
int tmpfs_fd_truncate_locked(struct tmpfs_inode *ti, uint64_t size) MUST_CHECK;
int tmpfs_fd_fallocate_locked(struct tmpfs_inode *ti, int mode, uint64_t off,
			      uint64_t len) MUST_CHECK;
void tmpfs_fd_recount_locked(struct tmpfs_inode *ti);
void tmpfs_set_charge_locked(struct tmpfs_inode *ti, uint64_t pages);
/* How many pages of [first, last] are holes. */
uint64_t tmpfs_missing_locked(struct tmpfs_inode *ti, uint64_t first, uint64_t last);
/* A descriptor of the memfd that has no more access than that, whatever its holder does; borrowed
 * while the inode lives. */
int tmpfs_twin_locked(struct tmpfs_inode *ti, int accmode, int *fd) MUST_CHECK;
/* The descriptor for a mapping, borrowed while the inode lives: writable only for a shared mapping
 * of a file open for writing. */
int tmpfs_map_fd(struct tmpfs_inode *ti, bool writable_open, bool shared, int *fd) MUST_CHECK;
int tmpfs_add_seals(struct tmpfs_inode *ti, unsigned seals) MUST_CHECK;

/* lend.c: what guest processes read and write themselves; how many bytes, as uio_by_guest() */
void tmpfs_forget(struct inode *in);
size_t tmpfs_lend_read(struct tmpfs_inode *ti, struct uio *io, int64_t *off);
/* only: the guest may not read the file. */
size_t tmpfs_lend_write(struct tmpfs_inode *ti, bool only, struct uio *io, int64_t *off);

/* file.c */
extern const struct file_ops tmpfs_file_fops;
long tmpfs_ioctl(struct file *f, struct task *t, unsigned cmd, uint64_t arg);

static inline uint64_t tmpfs_pages_of(uint64_t bytes)
{
	return bytes / PAGE_SIZE + (bytes % PAGE_SIZE != 0);
}

/* xattr.c */
ssize_t tmpfs_getxattr(struct inode *in, const char *name, void *buf, size_t size);
int tmpfs_setxattr(struct inode *in, const char *name, const void *v, size_t n, int flags);
ssize_t tmpfs_listxattr(struct inode *in, char *buf, size_t size);
int tmpfs_removexattr(struct inode *in, const char *name);
void tmpfs_xattr_fini(struct tmpfs_inode *ti);
