/*
 * uring.h - rings of io_uring_setup(2): their memory, completions, registered resources.
 *
 * What requests do is in syscalls/ (uring_run.c, uring_ops.c).  The rings are memory that the guest
 * writes as it likes: heads, tails and entries are read once, masked, and believed no further.
 * Requests that are under way refer to the ring, not to its file, whose last put cancels them.
 */
#pragma once

#include <linux/io_uring.h>
#include <stdatomic.h>
#include <stdint.h>

#include "sentry/aio/shared_mem.h"
#include "sentry/lib/list.h"
#include "sentry/lib/lock.h"
#include "sentry/lib/ref.h"
#include "sentry/lib/sleep_lock.h"
#include "sentry/lib/waitq.h"
#include "sentry/mm/uaccess.h"

struct file;
struct task;

#define URING_MAX_ENTRIES 32768u
#define URING_MAX_CQ_ENTRIES (2 * URING_MAX_ENTRIES)
#define URING_MAX_CHAINS 4096 /* requests under way, or chains of them */
#define URING_MAX_FILES 32768u
#define URING_MAX_BUFFERS 16384u

struct uring_shared; /* the rings, in shared memory */

/* One of the guest's buffers, of a group (IORING_OP_PROVIDE_BUFFERS). */
struct uring_buf {
	struct list_head link;
	uint64_t addr;
	uint32_t len;
	uint16_t group, id;
};

/* A group of buffers in a ring that the guest fills (IORING_REGISTER_PBUF_RING). */
struct uring_buf_ring {
	struct list_head link;
	uint64_t addr;
	uint32_t entries; /* a power of two */
	uint16_t group, head;
};

/* Requests that run one after the other: one, or linked ones.  Owned by its helper. */
struct uring_chain {
	struct list_head link;		/* uring.chains */
	struct uring *u;		/* reference */
	struct task *h;			/* the helper, while it is on the list; NULL: not begun */
	const struct io_uring_sqe *now; /* the request under way */
	bool cancelled;
	bool drain; /* begins when all before have ended */
	unsigned n;
	struct io_uring_sqe sqe[];
};

struct uring {
	ref_t ref;
	struct shared_mem mem;
	struct uring_shared *sh;
	struct io_uring_cqe *cqes;
	unsigned sqe_shift, cqe_shift; /* entries are twice as large: SQE128, CQE32 */
	const uint32_t *sq_array;
	const struct io_uring_sqe *sqes;
	size_t ring_size, sqes_size;
	unsigned sq_entries, cq_entries; /* powers of two */
	unsigned flags;			 /* IORING_SETUP_* */
	struct sleep_lock entering;	 /* one submission or registration at a time */
	unsigned sq_head;		 /* under `entering` */
	struct waitq wq;		 /* POLLIN: a completion, or the end of a chain */

	struct mutex lock; /* lc_pipe: the rest */
	bool disabled;
	unsigned cq_tail;
	uint64_t completed;	   /* completions ever posted */
	struct list_head overflow; /* those that found the ring full */
	struct list_head chains;   /* by order of submission */
	_Atomic unsigned nchains;
	_Atomic unsigned drains;    /* chains that wait for others */
	struct file *eventfd;	    /* reference */
	struct file **files;	    /* references or NULLs */
	unsigned nfiles, file_hint; /* where the next free place is looked for */
	struct uio_seg *bufs;
	unsigned nbufs;
	struct list_head provided; /* of struct uring_buf */
	unsigned nprovided;
	struct list_head buf_rings;
	unsigned nbuf_rings;
};

/* p->sq_entries and p->cq_entries are the sizes; fills in the offsets. */
int uring_create_file(struct io_uring_params *p, struct file **out) MUST_CHECK;
/* NULL: another kind of file. */
struct uring *uring_of(const struct file *f);
struct uring *uring_get(struct uring *u);
void uring_put(struct uring *u);

/* The next entry that was submitted, copied; false: none. */
bool uring_take(struct uring *u, struct io_uring_sqe *out);
/* A completion; those that do not fit wait in our memory. */
void uring_post(struct uring *u, uint64_t user_data, int32_t res, uint32_t flags);
/* Moves completions that waited into the ring, as far as there is room. */
void uring_flush(struct uring *u);
/* Completions that the guest has not taken. */
unsigned uring_ready(struct uring *u);
/* Releases what was registered. */
void uring_drop_files(struct uring *u);
void uring_drop_buffers(struct uring *u);
