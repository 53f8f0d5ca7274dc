/*
 * Descriptor tables, shared by tasks with CLONE_FILES, and struct fs_context (root, cwd, umask),
 * shared with CLONE_FS.
 *
 * Reserve a number, show it to the guest, only then commit: a fault leaves nothing behind.
 */
#pragma once

#include "sentry/lib/lock.h"
#include "sentry/lib/ref.h"
#include "sentry/vfs/file.h"

struct fdtable;

struct fdtable *fdtable_new(void);			    /* NULL: no memory */
struct fdtable *fdtable_dup(struct fdtable *src, int *err); /* fork: same files; NULL: *err */
struct fdtable *fdtable_get(struct fdtable *t);
bool fdtable_is_shared(struct fdtable *t); /* by another task, now */
/* Is fd this file, and does nobody else refer to either? */
bool fdtable_is_alone(struct fdtable *t, int fd, const struct file *f);
void fdtable_put(struct fdtable *t); /* the last put closes all, releasing POSIX locks */

/* Returns a reference, or NULL (EBADF).  fdtable_file also refuses O_PATH files. */
struct file *fdtable_file(struct fdtable *t, int fd);
struct file *fdtable_file_any(struct fdtable *t, int fd);

/* Reserves the n lowest free numbers ≥ from, below limit.  -EMFILE, -ENOMEM. */
int fdtable_reserve(struct fdtable *t, int from, uint64_t limit, int n, int32_t *fds) MUST_CHECK;
void fdtable_unreserve(struct fdtable *t, int n, const int32_t *fds);
void fdtable_commit(struct fdtable *t, int fd, struct file *f, bool cloexec); /* consumes f */
/* reserve + commit of one (consumes f even on failure): the number or -errno. */
int fdtable_install(struct fdtable *t, uint64_t limit, struct file *f, bool cloexec) MUST_CHECK;
/* dup2: replaces newfd (consumes f); returns newfd or -errno (-EBADF at the limit, -EBUSY). */
int fdtable_replace(struct fdtable *t, int newfd, uint64_t limit, struct file *f,
		    bool cloexec) MUST_CHECK;
int fdtable_close(struct fdtable *t, int fd) MUST_CHECK;
/* Takes a file out again that was just installed, as if the number had never meant it: a reference,
 * or NULL. */
struct file *fdtable_take(struct fdtable *t, int fd);
int fdtable_close_range(struct fdtable *t, unsigned first, unsigned last,
			bool cloexec_only) MUST_CHECK;
int fdtable_get_cloexec(struct fdtable *t, int fd) MUST_CHECK; /* 0, 1, -EBADF */
int fdtable_set_cloexec(struct fdtable *t, int fd, bool on) MUST_CHECK;
void fdtable_exec(struct fdtable *t); /* closes all that are close-on-exec */
/* The lowest open number ≥ from, or -1: for /proc/PID/fd. */
int fdtable_next(struct fdtable *t, int from);
/* All open numbers are below this: what select(2) cuts its sets to. */
unsigned fdtable_size(struct fdtable *t);

struct fs_context {
	ref_t ref;
	struct mutex lock;     /* lc_fs */
	struct mnt_ns *mnt_ns; /* reference: who shares the context shares the namespace */
	struct path root, cwd;
	uint32_t umask;
};
struct fs_context *fs_context_new(struct mnt_ns *ns, struct path root, struct path cwd,
				  uint32_t umask); /* takes references */
/* CLONE_NEWNS: a copy of the mount tree, and the same places in it.  Nobody shares fs. */
int fs_context_new_mnt_ns(struct fs_context *fs, const struct ns_maker *maker) MUST_CHECK;
/* Is its root another than the namespace's? */
bool fs_context_is_chrooted(struct fs_context *fs);
/* setns(2): root and directory become the namespace's root.  Nobody shares fs; consumes ns. */
void fs_context_enter(struct fs_context *fs, struct mnt_ns *ns);
struct fs_context *fs_context_dup(struct fs_context *fs);
struct fs_context *fs_context_get(struct fs_context *fs);
void fs_context_put(struct fs_context *fs);
