/*
 * Pipes and FIFOs.  Source: pipe(7), fifo(7), pipe(2), fcntl(2) F_SETPIPE_SZ.
 *
 * The bytes are in one ring per pipe, made at the first write.  A reader claims the front of the
 * ring and a large writer claims free space at its end; both copy with no lock held and commit
 * afterwards, so a fault leaves every byte where it was.  There is at most one claim a side: a
 * second reader meanwhile gets -EAGAIN and is notified when the first is done.
 *
 * A FIFO's pipe hangs on its inode (inode.fifo, guarded by inode.lock) while it is open anywhere.
 * An anonymous pipe does the same with its anonymous inode, so that opening /proc/self/fd/N again
 * reaches the same pipe.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "sentry/lib/compiler.h"

struct file;
struct inode;

#define PIPE_DEF_SIZE 65536u
#define PIPE_MAX_SIZE (1u << 20) /* /proc/sys/fs/pipe-max-size */

/* flags: O_NONBLOCK, O_DIRECT.  Both ends are references. */
int pipe_create(int flags, struct file **rd, struct file **wr) MUST_CHECK;
/*
 * Opens an end of the FIFO `in` (f->flags says which): boot puts it into vfs_open_fifo.  -ENXIO for
 * a non-blocking writer without reader.  A blocking open then waits for the other side as long as
 * file_ops.open_wait says -EAGAIN.
 */
int fifo_open(struct inode *in, struct file *f);
bool file_is_pipe(const struct file *f);

/*
 * Shows the bytes at the front of the pipe to `take`, at most max of them, piece by piece; what it
 * takes (its result; short or negative ends the offer) is removed when `consume` is set.  The read
 * side is claimed meanwhile, no lock is held: `take` may wait.  Returns the bytes taken, 0 at the
 * end (no writer left), -EAGAIN, or the first error of take.  For splice(2) and tee(2).
 */
ssize_t pipe_offer(struct file *rd, size_t max, bool consume,
		   ssize_t (*take)(void *arg, const void *bytes, size_t n), void *arg) MUST_CHECK;
/* Bytes that a write may put into the pipe now. */
size_t pipe_room(struct file *wr);
bool pipe_same(const struct file *a, const struct file *b);
