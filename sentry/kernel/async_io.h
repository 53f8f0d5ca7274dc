/*
 * async_io.h - SIGIO: fcntl(2) O_ASYNC, F_SETOWN, F_SETSIG.
 *
 * An open file with O_ASYNC waits on its own queue like anybody who polls it.  What it is told,
 * with that queue locked, it only notes; the signal is sent by who comes next to async_io_flush():
 * the task whose call made the change, at the end of the call, or the host poller's thread.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

#include "sentry/vfs/file.h"

/* Start-up. */
void async_io_init(void);
/* Turns it on or off; fd is what signals name (si_fd).  Kinds of files that tell nobody: 0, no
 * effect.  -ENOMEM */
int async_io_set(struct file *f, bool on, int fd) MUST_CHECK;
/* At once: what leases and directories have to say to f's owner (POLL_MSG), naming fd. */
void async_io_tell(struct file *f, int fd);
/* Who is the owner, where nobody has said so: t's process. */
void async_io_own(struct file *f, struct task *t);
void lease_break_init(void); /* lease_break.c */
/* F_SETOWN by who has these credentials. */
void async_io_set_owner(struct file *f, int kind, int id, const struct cred *c);
/* Sends the signals that are due. */
extern _Atomic bool async_io_due;
void async_io_send(void);
static inline void async_io_flush(void)
{
	if (atomic_load_explicit(&async_io_due, memory_order_relaxed))
		async_io_send();
}
