/*
 * struct file: an open file description (open(2)): what descriptors refer to and fork shares.
 *
 * Operations return -EAGAIN where Linux would sleep (whatever O_NONBLOCK says); handlers decide
 * whether to wait on the wait queue that file_waitq() names.  Positions are handled by file_read
 * and file_write (file.c) under pos_lock; operations get an explicit offset.
 */
#pragma once

#include <poll.h>
#include <stdint.h>

#include "sentry/lib/lock.h"
#include "sentry/lib/ref.h"
#include "sentry/lib/waitq.h"
#include "sentry/vfs/vfs.h"

struct task;

struct file_ops {
	/* off: the position, advanced by the operation; NULL for streams.  EINVAL.
	 * -EFAULT only when nothing moved; consuming reads probe first (design rule 14). */
	ssize_t (*read)(struct file *f, struct uio *io, int64_t *off);
	ssize_t (*write)(struct file *f, struct uio *io, int64_t *off);
	bool stream;	    /* no position: lseek and pread give ESPIPE, off is NULL */
	/* Events ready now; NULL: always POLLIN|POLLOUT. */
	uint32_t (*poll)(struct file *f);
	/* Where poll's answer is announced; NULL: never changes. */
	struct waitq *(*waitq)(struct file *f);
	int64_t (*llseek)(struct file *f, int64_t off, int whence); /* NULL: by inode size; under pos_lock */
	/* Directory entries from *off on; ENOTDIR. */
	int (*readdir)(struct file *f, struct dir_context *ctx, int64_t *off);
	/* ENOTTY.  t is the calling task (for copies and job control). */
	long (*ioctl)(struct file *f, struct task *t, unsigned cmd, uint64_t arg);
	/* A host descriptor to map, borrowed while the file lives, whose access is no more than
	 * this file's own (writable only if the file is open for writing and `shared`).  ENODEV. */
	int (*map_fd)(struct file *f, bool shared, int *fd);
	int (*fsync)(struct file *f, bool datasync);		     /* EINVAL */
	int (*fallocate)(struct file *f, int mode, int64_t off, int64_t len); /* EOPNOTSUPP */
	int (*set_flags)(struct file *f, int flags);		     /* NULL: fine */
	/* Text of /proc/PID/fdinfo after the common lines; NULL: none. */
	size_t (*show_fdinfo)(struct file *f, char *buf, size_t size);
	int (*flush)(struct file *f);	 /* every close of a descriptor; NULL: 0 */
	void (*release)(struct file *f); /* last reference went; NULL: nothing */
};

struct file {
	ref_t ref;
	const struct file_ops *ops;
	struct path path;	   /* references; anonymous inodes have one too */
	struct inode *inode;	   /* path.dentry->inode, borrowed */
	_Atomic int flags;	   /* O_ACCMODE and status flags; O_PATH */
	struct mutex pos_lock;	   /* lc_file_pos */
	int64_t pos;
	_Atomic int owner_kind, owner_id, owner_sig; /* F_SETOWN, F_SETSIG */
	struct list_head epolls;   /* epoll items that watch it; lc_leaf of epoll.c */
	void *priv;
};

static inline bool file_readable(const struct file *f)
{
	return (f->flags & 3) != 1 && !(f->flags & 010000000 /* O_PATH */);
}
static inline bool file_writable(const struct file *f)
{
	return (f->flags & 3) != 0 && !(f->flags & 010000000 /* O_PATH */);
}

/* A file for an opened path; takes references.  ops->open has not run.  NULL: no memory. */
struct file *file_new(struct path p, int flags);
/* Opens an existing path (no name walk, no permission check): O_PATH aware, runs inode open. */
int file_open_path(struct path p, int flags, struct file **out) MUST_CHECK;
/*
 * A file without a name (pipe:[…], anon_inode:[eventfd], socket:[…], memfd).  The inode's
 * reference is consumed; `name` is what /proc/PID/fd shows ("pipe:[%lu]" is formatted with ino).
 * ops and priv are set; f->flags = flags.
 */
int file_new_anon(struct inode *in, const char *name, const struct file_ops *ops, void *priv,
		  int flags, struct file **out) MUST_CHECK;
/* A fresh inode of the anonymous file system, for file_new_anon.  mode e.g. S_IFIFO|0600. */
struct inode *anon_inode_new(uint32_t mode, void *priv, void (*free_priv)(void *priv));
struct file *file_get(struct file *f);
void file_put(struct file *f);
#define CLEANUP_FILE CLEANUP(file_put_p)
void file_put_p(struct file **f);
#define CLEANUP_PATH CLEANUP(path_put_p)
void path_put_p(struct path *p);

/* Wrappers that callers use: access mode, ranges, EISDIR, append, RLIMIT_FSIZE (fsize_limit), then
 * ops.  off NULL: the file's own position. */
ssize_t file_read(struct file *f, struct uio *io, int64_t *off) MUST_CHECK;
ssize_t file_write(struct file *f, struct uio *io, int64_t *off, uint64_t fsize_limit) MUST_CHECK;
int64_t file_seek(struct file *f, int64_t off, int whence) MUST_CHECK;
uint32_t file_poll(struct file *f);
struct waitq *file_waitq(struct file *f); /* NULL: readiness never changes */
/* Sentry-memory read at an offset: for loaders and start-up.  Bytes or -errno. */
ssize_t file_pread(struct file *f, void *buf, size_t n, int64_t off) MUST_CHECK;
ssize_t file_pwrite(struct file *f, const void *buf, size_t n, int64_t off) MUST_CHECK;

/* ---- file locks (flock.c): fcntl(2) POSIX and OFD locks, flock(2) ---- */
struct flock_owner {
	const void *id; /* fdtable (POSIX) or file (OFD, flock) */
	int pid;	/* for F_GETLK */
};
/* l_type F_RDLCK, F_WRLCK, F_UNLCK; start/end inclusive, end INT64_MAX for "to the end".
 * -EAGAIN: conflict - wait on flock_waitq() and try again. */
int flock_posix_set(struct file *f, const struct flock_owner *o, short type, int64_t start,
		    int64_t end) MUST_CHECK;
bool flock_posix_test(struct file *f, const struct flock_owner *o, short *type, int64_t *start,
		      int64_t *end, int *pid);
int flock_bsd_set(struct file *f, int op /* LOCK_SH, LOCK_EX, LOCK_UN */) MUST_CHECK;
struct waitq *flock_waitq(struct file *f);
void flock_release_owner(struct file *f, const void *owner_id); /* close by a process */

/* ---- epoll (epoll.c) ---- */
struct epoll_event_k {
	uint32_t events;
	uint64_t data;
} __attribute__((packed));
int epoll_create_file(int flags, struct file **out) MUST_CHECK;
/* op EPOLL_CTL_*; fd identifies the registration together with target. */
int epoll_control(struct file *ep, int op, int fd, struct file *target,
		  const struct epoll_event_k *ev) MUST_CHECK;
/* Collects up to max ready events; 0 when none (wait on file_waitq(ep)). */
int epoll_collect(struct file *ep, struct epoll_event_k *out, int max) MUST_CHECK;
bool file_is_epoll(const struct file *f);
/* vfs calls it from file_put when a watched file goes. */
void epoll_file_gone(struct file *f);
