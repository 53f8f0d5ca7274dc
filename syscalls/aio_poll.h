/* aio_poll.h - IOCB_CMD_POLL of Linux AIO: requests that are there until something happens. */
#pragma once

#include "sentry/aio/aio.h"
#include "sentry/kernel/task.h"
#include "sentry/vfs/file.h"

/*
 * Waits, on a helper, until the file is ready for one of `events`; then the completion ev comes,
 * with these.  Consumes the slot, and takes references to f and tell (an eventfd, or NULL).
 * -ENOMEM: the slot is still the caller's.
 */
int aio_poll_start(struct task *t, struct aio_ctx *c, struct file *f, struct file *tell,
		   uint32_t events, const struct io_event *ev) MUST_CHECK;
/* Cancels the request that the guest knows as obj, whose completion then comes.  False: none. */
bool aio_poll_cancel(struct aio_ctx *c, uint64_t obj);
/* All of a context that goes; waits until they have ended. */
void aio_poll_cancel_all(struct task *t, struct aio_ctx *c);
