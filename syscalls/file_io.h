/*
 * file_io.h - what the handlers of files have in common: blocking reads and writes, names and
 * paths from guest memory.
 */
#pragma once

#include "sentry/kernel/task.h"
#include "sentry/lib/sleep_lock.h"
#include "sentry/vfs/file.h"

#define MAX_RW_COUNT 0x7ffff000ULL
#define LINUX_O_LARGEFILE 0100000 /* libc's O_LARGEFILE is 0 */

enum {
	IO_NONBLOCK = 1,  /* RWF_NOWAIT */
	IO_APPEND = 2,	  /* RWF_APPEND */
	IO_SYNC = 4,	  /* RWF_SYNC, RWF_DSYNC */
	IO_NOAPPEND = 8,  /* RWF_NOAPPEND: at the offset, O_APPEND or not */
	IO_NOSIGNAL = 16, /* RWF_NOSIGNAL: EPIPE comes without SIGPIPE */
};
/* Asks those who want to be asked whether the file may be read: notify.h. */
int file_ask_access(struct file *f) MUST_CHECK;
/*
 * read(2) and write(2) once the arguments are decoded: waits as the file and its flags say, and
 * takes care of positions, SIGPIPE, SIGXFSZ.  off NULL: the file's own position.
 */
ssize_t io_read(struct task *t, struct file *f, struct uio *io, int64_t *off, int flags);
ssize_t io_write(struct task *t, struct file *f, struct uio *io, int64_t *off, int flags);

/* splice(2) with its offsets as values (sys_splice.c); -1: none. */
long splice_at(struct task *t, int in_fd, int64_t in_off, int out_fd, int64_t out_off, uint64_t len,
	       unsigned flags);

/* The end of an open: waits for the other end of a FIFO.  -ERESTARTSYS */
int io_open_wait(struct task *t, struct file *f) MUST_CHECK;

/* A signal that a task brings upon itself: SIGPIPE, SIGXFSZ. */
void task_send_own_signal(struct task *t, int signo);

/* A path name from guest memory, as getname() of Linux: its length, -EFAULT, -ENAMETOOLONG. */
struct path_name {
	char s[VFS_PATH_MAX];
};
ssize_t path_name_get(struct task *t, struct path_name *n, uaddr_t from) MUST_CHECK;

/*
 * A structure of n bytes that callers may know as a shorter or a longer one: what they leave out is
 * zero, and so must be what we do not know.  -E2BIG, -EFAULT
 */
int copy_in_extensible(struct task *t, void *dst, size_t n, uaddr_t src, uint64_t size) MUST_CHECK;

/* O_ASYNC for a file that the caller knows as fd.  -ENOMEM; -EINTR */
int file_set_async(struct task *t, struct file *f, bool on, int fd) MUST_CHECK;

/* Resolves dirfd and a name in guest memory.  With WALK_EMPTY a null pointer is an empty name. */
int path_at(struct task *t, int dirfd, uaddr_t name, unsigned walk_flags,
	    struct path *out) MUST_CHECK;
/* The same, and its attributes. */
int stat_at(struct task *t, int dirfd, uaddr_t name, unsigned walk_flags,
	    struct kstat *st) MUST_CHECK;
/* AT_SYMLINK_NOFOLLOW and AT_EMPTY_PATH as walk flags. */
unsigned walk_flags_from_at(int at_flags);

/* A name in guest memory and where its walk starts; end with at_name_fini() after success. */
struct at_name {
	struct path_name name;
	struct walk_env env;
};
int at_name_init(struct task *t, struct at_name *a, int dirfd, uaddr_t name) MUST_CHECK;
void at_name_fini(struct at_name *a);
