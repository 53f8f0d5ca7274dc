/*
 * struct file: an open file description (open(2)): what descriptors refer to and fork shares.
 *
 * Operations return -EAGAIN where Linux would sleep (whatever O_NONBLOCK says); handlers decide
 * whether to wait on the wait queue that file_waitq() names.  Operations get an explicit offset;
 * positions are handled by file_read and file_write (file.c).
 *
 * A position is held across copies and host I/O, so no mutex can guard it: pos_busy is a sleep
 * lock, which handlers acquire around calls that use the file's own position (as Linux holds
 * f_pos_lock).  A caller that does not (start-up code, streams) is safe, but not atomic.
 */
#pragma once

#include <poll.h>
#include <stdint.h>

#include "sentry/lib/cleanup.h"
#include "sentry/lib/lock.h"
#include "sentry/lib/ref.h"
#include "sentry/lib/sleep_lock.h"
#include "sentry/lib/waitq.h"
#include "sentry/vfs/vfs.h"

struct task;

struct file_ops {
	/* off: the position, advanced by the operation; NULL for streams.  EINVAL.
	 * -EFAULT only when nothing moved; consuming reads probe first (design rule 14). */
	ssize_t (*read)(struct file *f, struct uio *io, int64_t *off);
	ssize_t (*write)(struct file *f, struct uio *io, int64_t *off);
	bool uncached; /* RWF_DONTCACHE is known, and left to the host */
	bool async;    /* O_ASYNC works, where the type of the file does not say so */
	bool messages; /* what one read returns cannot be had in parts */
	bool stream;   /* no position: lseek and pread give ESPIPE, off is NULL */
	/* Events ready now; NULL: always POLLIN|POLLOUT. */
	uint32_t (*poll)(struct file *f);
	/* Where poll's answer is announced; NULL: never changes. */
	struct waitq *(*waitq)(struct file *f);
	int64_t (*llseek)(struct file *f, int64_t off,
			  int whence); /* NULL: by inode size; with pos_busy, no mutex */
	/* Directory entries from *off on; ENOTDIR. */
	int (*readdir)(struct file *f, struct dir_context *ctx, int64_t *off);
	/* ENOTTY.  t is the calling task (for copies and job control). */
	long (*ioctl)(struct file *f, struct task *t, unsigned cmd, uint64_t arg);
	/* A host descriptor to map, borrowed while the file lives, whose access is no more than
	 * this file's own (writable only if the file is open for writing and `shared`); -1: memory
	 * like that of no file (/dev/zero).  ENODEV. */
	int (*map_fd)(struct file *f, bool shared, int *fd);
	/* Before it: gets what the pages are to hold, which may wait.  NULL: they have it. */
	int (*map_prepare)(struct file *f, bool shared, uint64_t off, uint64_t len);
	/* Mappings count as locked, and only the program itself can look into them: memfd_secret(2)
	 */
	bool map_secret;
	/* Where in that descriptor an offset of mmap(2) is; NULL: at the offset. */
	uint64_t (*map_offset)(struct file *f, uint64_t off);
	int (*fsync)(struct file *f, bool datasync); /* EINVAL; directories: 0 */
	int (*fallocate)(struct file *f, int mode, int64_t off, int64_t len); /* EOPNOTSUPP */
	int (*set_flags)(struct file *f, int flags);			      /* NULL: fine */
	/* Text of /proc/PID/fdinfo after the common lines; NULL: none. */
	size_t (*show_fdinfo)(struct file *f, char *buf, size_t size);
	/* After an open that has to wait for the other end of a FIFO: 0 when it may go on, -EAGAIN
	 * not yet (handlers wait on file_waitq for POLLIN|POLLOUT and ask again).  NULL: no wait.
	 */
	int (*open_wait)(struct file *f);
	/* How long a blocking read (write) may wait: ns, or TIME_NEVER; NULL: TIME_NEVER. */
	int64_t (*io_timeout)(struct file *f, bool write);
	bool timeout_ends_read; /* a read that waited so long returns 0, not -EAGAIN */
	/* fcntl commands of a kind of file: F_SETPIPE_SZ, F_GETPIPE_SZ, F_ADD_SEALS, F_GET_SEALS.
	 * EINVAL (pipe commands: EBADF) */
	long (*fcntl)(struct file *f, struct task *t, unsigned cmd, uint64_t arg);
	int (*flush)(struct file *f);	 /* every close of a descriptor; NULL: 0 */
	void (*release)(struct file *f); /* last reference went; NULL: nothing */
};

struct file {
	ref_t ref;
	const struct file_ops *ops;
	struct path path;	    /* references; anonymous inodes have one too */
	struct inode *inode;	    /* path.dentry->inode, borrowed */
	_Atomic int flags;	    /* O_ACCMODE and status flags; O_PATH */
	struct sleep_lock pos_busy; /* see above */
	_Atomic int64_t pos;
	_Atomic int owner_kind, owner_id, owner_sig; /* F_SETOWN, F_SETSIG */
	_Atomic uint32_t owner_uid, owner_euid;	     /* of who said so */
	struct landlock_domain *owner_landlock;	     /* … reference; kernel/async_io.c */
	struct async *async;			     /* O_ASYNC: kernel/async_io.c; pos_busy */
	uint16_t landlock_denied; /* LL_TRUNCATE, LL_IOCTL_DEV: its opener might not; immutable */
	bool noted;		  /* its opening was reported (notify.h), so its closing will be */
	bool streamed;		  /* a task reads it by a stream (kernel/stream.h) */
	bool writer;		  /* the mount counts it among its writers */
	bool counted;		  /* the inode counts it among its readers or writers */
	struct list_head epolls;  /* epoll items that watch it; lc_leaf of epoll.c */
	void *priv;
};

static inline bool file_readable(const struct file *f)
{
	int mode = f->flags & 3; /* 3: for ioctl only, open(2) */
	return mode != 1 && mode != 3 && !(f->flags & 010000000 /* O_PATH */);
}
static inline bool file_writable(const struct file *f)
{
	int mode = f->flags & 3;
	return mode != 0 && mode != 3 && !(f->flags & 010000000 /* O_PATH */);
}

/* Frees f->async, for file_put(). */
extern void (*vfs_async_free)(struct file *f);

/* A file for an opened path; takes references.  ops->open has not run.  NULL: no memory. */
struct file *file_new(struct path p, int flags);
/* Opens an existing path (no name walk, no permission check): O_PATH aware, runs inode open. */
int file_open_path(struct path p, int flags, struct file **out) MUST_CHECK;
/* The same, of which, and of what is done with the file, nobody is told (notify.h). */
int file_open_quiet(struct path p, int flags, struct file **out) MUST_CHECK;
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
/* file_write at the end of the file, whatever its flags and position (RWF_APPEND); the position
 * moves there only if `move` is set. */
ssize_t file_append(struct file *f, struct uio *io, bool move, uint64_t fsize_limit) MUST_CHECK;
int64_t file_seek(struct file *f, int64_t off, int whence) MUST_CHECK;
uint32_t file_poll(struct file *f);
struct waitq *file_waitq(struct file *f); /* NULL: readiness never changes */
/* Sentry-memory read at an offset: for loaders and start-up.  Bytes or -errno. */
ssize_t file_pread(struct file *f, void *buf, size_t n, int64_t off) MUST_CHECK;
ssize_t file_pwrite(struct file *f, const void *buf, size_t n, int64_t off) MUST_CHECK;

/* Directory entries into ctx from the file's own position on (hold pos_busy).  ENOTDIR, ENOENT. */
int file_readdir(struct file *f, struct dir_context *ctx) MUST_CHECK;
/*
 * For readdir operations: emits "." at position 0 and ".." at 1, and moves *off to 2; returns
 * false when ctx is full.  File systems number their own entries from 2 on.
 */
bool dir_emit_dots(struct file *f, struct dir_context *ctx, int64_t *off);
/* The number that ".." shows. */
uint64_t dir_parent_ino(const struct file *f);
int file_fsync(struct file *f, bool datasync) MUST_CHECK;
int file_fallocate(struct file *f, int mode, int64_t off, int64_t len) MUST_CHECK;
/* Changes the status flags of `mask` to those of `flags`, asking set_flags. */
int file_set_flags(struct file *f, int flags, int mask) MUST_CHECK;
/* True for files whose reads and writes use the position (the caller then holds pos_busy). */
static inline bool file_has_pos(const struct file *f)
{
	return !f->ops->stream;
}
/*
 * Held by handlers over a write that appends, so that two of them to one file do not overlap:
 * "the end" and the write are two steps.  One of a few locks, by inode.
 */
struct sleep_lock *inode_append_lock(const struct inode *in);

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
/* op: LOCK_SH, LOCK_EX, LOCK_UN; pid: for /proc/locks. */
int flock_bsd_set(struct file *f, int op, int pid) MUST_CHECK;
struct waitq *flock_waitq(struct file *f);
/*
 * Before a POSIX lock request sleeps (F_SETLKW): notes whom it waits for, and refuses a cycle with
 * -EDEADLK.  -ENOMEM.  0: sleep, then flock_posix_wait_end() and try again.
 */
int flock_posix_wait_begin(struct file *f, const struct flock_owner *o, short type, int64_t start,
			   int64_t end) MUST_CHECK;
void flock_posix_wait_end(const struct flock_owner *o);
/* All locks there are, for /proc/locks: malloc'ed; NULL: no memory. */
enum flock_kind { FLOCK_POSIX, FLOCK_OFD, FLOCK_WHOLE, FLOCK_LEASE };
struct flock_info {
	enum flock_kind kind;
	bool exclusive;
	bool breaking, ending; /* leases: somebody waits for it to change, or to end */
	int pid;	       /* -1: of no process */
	uint64_t dev, ino;
	int64_t start, end;
};
struct flock_info *flock_list_all(size_t *count);
/* For tests: number of locks held on the inode. */
size_t flock_count(struct inode *in);
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
/*
 * Where epoll_wait sleeps: each event wakes one waiter of it, while file_waitq(ep) is for poll and
 * for epolls that watch this one, and wakes all.  A waiter that stops sleeping, for whatever
 * reason, calls epoll_pass_on() after it has left the queue: what is still ready wakes the next.
 */
struct waitq *epoll_sleepers(struct file *ep);
void epoll_pass_on(struct file *ep);
/* What is watched under that number, the nth of its kind, for its address only: kcmp(2).  -EINVAL:
 * not an epoll; -ENOENT. */
int epoll_target(struct file *ep, int fd, uint32_t nth, const struct file **out) MUST_CHECK;
/* An upper bound of what epoll_collect can return now. */
int epoll_ready_count(struct file *ep);
/* vfs calls it from file_put when a watched file goes. */
void epoll_file_gone(struct file *f);
