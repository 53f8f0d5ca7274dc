/*
 * aio.h - contexts of Linux AIO: io_setup(2), io_getevents(2).
 *
 * A context is a ring of completions in memory that the guest maps, known by its address in one
 * address space.  The ring's form is the kernel's, and C libraries read it: what io_getevents()
 * would return may have been taken from it already.  Requests are the handlers' business
 * (syscalls/sys_aio.c); here are slots, completions and waiters.
 */
#pragma once

#include <linux/aio_abi.h>
#include <stdatomic.h>

#include "sentry/lib/compiler.h"
#include "sentry/lib/list.h"
#include "sentry/lib/lock.h"
#include "sentry/lib/ref.h"
#include "sentry/lib/sleep_lock.h"
#include "sentry/lib/waitq.h"

struct aio_ring; /* in shared memory */
struct file;
struct mm;
struct p_thread;

#define AIO_MAX_NR 65536 /* /proc/sys/fs/aio-max-nr: requests of all contexts */

struct aio_ctx {
	ref_t ref;
	struct list_head link;	   /* of all contexts; lc_leaf of aio.c */
	const struct mm *mm;	   /* identity only */
	uint64_t addr;		   /* what the guest calls it; immutable */
	unsigned max;		   /* as asked for, counted against AIO_MAX_NR */
	struct sleep_lock reading; /* one io_getevents at a time */
	struct waitq wq;	   /* POLLIN: a completion, or the end */
	struct mutex lock;	   /* lc_pipe: the rest */
	struct aio_ring *ring;
	size_t size;
	unsigned nr, tail, inflight;
	struct list_head polls; /* requests that wait: syscalls/aio_poll.c */
	bool dead;
};

/* Called once at start: contexts go with their address space. */
void aio_init(void);
/* Makes a context and maps its ring into mm (th: its stopped thread, which runs the mapping).
 * -EAGAIN: more than AIO_MAX_NR. */
int aio_ctx_create(struct mm *mm, struct p_thread *th, unsigned nr, uint64_t *addr) MUST_CHECK;
/* With a reference; NULL: none there. */
struct aio_ctx *aio_ctx_find(const struct mm *mm, uint64_t addr);
void aio_ctx_put(struct aio_ctx *c);
/* Nobody finds it any more; false: somebody else was faster.  *len: of the guest's mapping. */
bool aio_ctx_kill(struct aio_ctx *c, uint64_t *len);

/* A slot for a request's completion: -EAGAIN when the ring has none left. */
int aio_slot_take(struct aio_ctx *c) MUST_CHECK;
/* Gives it back unused, or with the completion. */
void aio_slot_drop(struct aio_ctx *c);
void aio_complete(struct aio_ctx *c, const struct io_event *ev);
/* Copies up to max completions without taking them; aio_consume takes what was delivered.  The
 * caller holds `reading`. */
unsigned aio_peek(struct aio_ctx *c, struct io_event *ev, unsigned max);
void aio_consume(struct aio_ctx *c, unsigned n);
unsigned aio_ready(struct aio_ctx *c);
