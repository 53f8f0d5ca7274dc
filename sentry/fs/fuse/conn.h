/*
 * conn.h - a connection to a server, and the requests on it.
 *
 * A request is one message to the server, which is read from /dev/fuse, and one from it, which is
 * written there.  Whoever sends it (a task in the file system) sleeps until the answer is there;
 * background ones have nobody waiting.  Nothing is locked meanwhile.  The server is a guest: every
 * length and number of an answer is checked, here for the form and by the sender for the contents.
 *
 * Locking: fc->lock (lc_fuse) guards the queues and the state of requests.  A request has one
 * reference of its sender and one of the connection while that knows it.
 */
#pragma once

#include <linux/fuse.h>

#include "sentry/kernel/task.h"
#include "sentry/vfs/file.h"
#include "sentry/vfs/vfs.h"

#define FUSE_PAGES_MAX 256 /* of data in one message */
#define FUSE_DATA_MAX (FUSE_PAGES_MAX * PAGE_SIZE)
#define FUSE_BUCKETS 64

struct fuse_dev;

enum fuse_req_state { REQ_NEW, REQ_PENDING, REQ_SENT, REQ_DONE };

struct fuse_req {
	ref_t ref;
	struct fuse_conn *fc;
	struct list_head link;	    /* fc->pending, or a bucket of fc->sent */
	struct list_head interrupt; /* fc->interrupts, while it is to be told */
	enum fuse_req_state state;
	bool no_reply; /* FORGET */
	bool no_memory;
	struct task *waiter;  /* borrowed: sleeps until the state is REQ_DONE; or NULL */
	struct fuse_dev *dev; /* who read it; compared only */
	uint64_t unique;
	unsigned opcode;
	/* The message, its header first. */
	char *msg;
	size_t len, room;
	/* The answer: an error, or bytes of which there are at least min and at most max. */
	size_t min, max;
	int error;
	char *out;
	size_t out_len;
	/* Background: called once, without locks, on whatever thread ended it.  May be NULL. */
	void (*done)(struct fuse_req *r);
	void *arg;
};

struct fuse_conn {
	ref_t ref;
	struct mutex lock; /* lc_fuse */
	struct list_head pending, interrupts;
	struct list_head sent[FUSE_BUCKETS];
	struct waitq readers;	 /* of /dev/fuse; POLLIN */
	struct waitq starters;	 /* tasks that wait for the end of INIT; POLLIN */
	bool connected, started; /* also read without the lock, as hints */
	bool aborted_by_user;
	unsigned devs; /* open device files */
	uint64_t last_unique;
	struct super_block *sb; /* borrowed; NULL: gone */
	/* Immutable once mounted. */
	struct user_ns *user_ns; /* reference: what ids mean to the server */
	struct pid_ns *pid_ns;	 /* reference: … numbers of processes */
	uint32_t user_id, group_id;
	bool allow_other, default_permissions;
	uint32_t max_read, rootmode;
	/* Set by the answer to INIT. */
	unsigned minor;
	uint64_t flags;
	uint32_t max_write, max_pages, max_readahead;
	_Atomic uint64_t unsupported; /* bit opcode: the server answered ENOSYS */
	_Atomic uint64_t attr_version;
};

struct fuse_conn *fuse_conn_new(void);
struct fuse_conn *fuse_conn_get(struct fuse_conn *fc);
void fuse_conn_put(struct fuse_conn *fc);
/* No more requests; those under way end with ECONNABORTED. */
void fuse_conn_abort(struct fuse_conn *fc);
/* One device file less; the last one's end is the connection's. */
void fuse_conn_dev_gone(struct fuse_conn *fc, struct fuse_dev *dev);
/* Sends INIT. */
int fuse_conn_start(struct fuse_conn *fc) MUST_CHECK;

static inline bool fuse_lacks(struct fuse_conn *fc, unsigned opcode)
{
	return atomic_load(&fc->unsupported) >> opcode & 1;
}
static inline void fuse_set_lacking(struct fuse_conn *fc, unsigned opcode)
{
	atomic_fetch_or(&fc->unsupported, 1ULL << opcode);
}

/* ---- sending ---- */
/* A message with its header filled in for the calling task.  NULL: no memory. */
struct fuse_req *fuse_req_new(struct fuse_conn *fc, unsigned opcode, uint64_t nodeid);
/* Appends n bytes; data NULL: zeros, or what the caller puts there.  NULL: no memory, which sending
 * will say, too. */
void *fuse_req_add(struct fuse_req *r, const void *data, size_t n);
/* A name with its NUL. */
void fuse_req_add_name(struct fuse_req *r, const char *name, size_t n);
/* Sends and waits: 0 with the answer in `out`, of exactly n bytes; or the server's error, ENOMEM,
 * ENOTCONN, ECONNABORTED, EINTR.  Consumes r. */
int fuse_call(struct fuse_req *r, void *out, size_t n) MUST_CHECK;
/* The same for answers of between min and max bytes, which are left in r; does not consume it. */
int fuse_call_var(struct fuse_req *r, size_t min, size_t max) MUST_CHECK;
/* Sends without waiting; consumes r. */
void fuse_post(struct fuse_req *r);
void fuse_req_put(struct fuse_req *r);

/* ---- receiving (dev.c) ---- */
/* The next message to read, off its queue; one of the two is set.  -EAGAIN; -ENODEV: the end.
 * Interrupts are told by the number of the request. */
int fuse_next(struct fuse_conn *fc, struct fuse_req **r, uint64_t *interrupt) MUST_CHECK;
/* It has been read by dev (err 0), or could not be. */
void fuse_sent(struct fuse_req *r, struct fuse_dev *dev, int err);
/* The request with that number takes its answer now, and is the caller's; NULL: there is none. */
struct fuse_req *fuse_answered(struct fuse_conn *fc, uint64_t unique);
/* Ends it; consumes it.  out: malloc'ed, or NULL. */
void fuse_finish(struct fuse_req *r, int error, char *out, size_t n);
/* The server has not understood (ENOSYS), or not got hold of it yet (EAGAIN). */
void fuse_interrupt_refused(struct fuse_conn *fc, uint64_t unique, int error);
/* A message of the server's own; io is what follows the header. */
int fuse_notify(struct fuse_conn *fc, int code, struct uio *io) MUST_CHECK;
