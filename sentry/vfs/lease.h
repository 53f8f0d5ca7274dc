/*
 * lease.h - leases: fcntl(2), F_SETLEASE.  Who holds one is told before somebody else opens or
 * truncates the file in a way that conflicts, and has a while to give it up.
 *
 * lc_flock guards all of them.  Breaking waits, so it is the kernel's: vfs_lease_breaker.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "sentry/lib/compiler.h"
#include "sentry/vfs/vfs.h"

struct file;
struct waitq;

/* /proc/sys/fs/leases-enable, lease-break-time (seconds) */
extern _Atomic int leases_enable, lease_break_time;
extern _Atomic unsigned lease_count;

/*
 * F_SETLEASE; type: F_RDLCK, F_WRLCK, F_UNLCK.  fd is what signals name, pid what /proc/locks does.
 * -EAGAIN: others have the file open, or have a lease; F_UNLCK: there is none.  -EINVAL, -ENOMEM
 */
int lease_set(struct file *f, int type, int fd, int pid) MUST_CHECK;
/* F_GETLEASE: what it is, or is about to become. */
int lease_get(struct file *f);

/*
 * Before the file is opened, or truncated: nothing, or waits until no lease is in the way.
 * -EWOULDBLOCK (nonblock), -ERESTARTSYS.  No lock is held.
 */
extern int (*vfs_lease_breaker)(struct inode *in, bool write, bool nonblock);
static inline int lease_break(struct inode *in, bool write, bool nonblock)
{
	return atomic_load_explicit(&lease_count, memory_order_relaxed)
		       ? vfs_lease_breaker(in, write, nonblock)
		       : 0;
}

/* ---- for the breaker ---- */
/* Marks one lease that is in the way as breaking, which it was not: whose holder is to be told, a
 * reference, and the descriptor to name.  NULL: no more. */
struct file *lease_break_next(struct inode *in, bool write, int *fd) MUST_CHECK;
/* Is one in the way, and until when at most (CLOCK_MONOTONIC)?  Overdue ones end. */
bool lease_blocks(struct inode *in, bool write, int64_t *deadline) MUST_CHECK;
/* Where it is announced that one is less. */
struct waitq *lease_waitq(struct inode *in);
