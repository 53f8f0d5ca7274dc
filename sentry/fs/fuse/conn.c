/* Requests: sending, waiting, interrupting, and the end of a connection. */
#include "sentry/fs/fuse/conn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/kernel/pid.h"
#include "sentry/lib/log.h"

#define MINOR_MIN 12 /* older servers know shorter structures */
#define MSG_ROOM 192
#define READAHEAD (128U << 10)

static struct list_head *bucket(struct fuse_conn *fc, uint64_t unique)
{
	return &fc->sent[unique / 2 % FUSE_BUCKETS];
}

/* ---- life of a connection ---- */

struct fuse_conn *fuse_conn_new(void)
{
	struct fuse_conn *fc = calloc(1, sizeof(*fc));

	if (!fc)
		return NULL;
	ref_init(&fc->ref, 1);
	mutex_init(&fc->lock);
	list_init(&fc->pending);
	list_init(&fc->interrupts);
	for (int i = 0; i < FUSE_BUCKETS; i++)
		list_init(&fc->sent[i]);
	waitq_init(&fc->readers);
	waitq_init(&fc->starters);
	fc->connected = true;
	fc->max_write = PAGE_SIZE;
	fc->max_pages = 32;
	return fc;
}

struct fuse_conn *fuse_conn_get(struct fuse_conn *fc)
{
	ref_get(&fc->ref);
	return fc;
}

void fuse_conn_put(struct fuse_conn *fc)
{
	if (!fc || !ref_put(&fc->ref))
		return;
	if (fc->user_ns)
		user_ns_put(fc->user_ns);
	if (fc->pid_ns)
		pid_ns_put(fc->pid_ns);
	free(fc);
}

/* ---- requests ---- */

struct fuse_req *fuse_req_new(struct fuse_conn *fc, unsigned opcode, uint64_t nodeid)
{
	const struct task *t = task_current();
	const struct task *who = t && t->helps ? t->helps : t;
	struct fuse_req *r = calloc(1, sizeof(*r));
	char *msg = r ? malloc(MSG_ROOM) : NULL;

	if (!msg) {
		free(r);
		return NULL;
	}
	ref_init(&r->ref, 1);
	r->fc = fuse_conn_get(fc);
	list_init(&r->link);
	list_init(&r->interrupt);
	r->opcode = opcode;
	r->msg = msg;
	r->room = MSG_ROOM;
	struct fuse_in_header h = {.opcode = opcode, .nodeid = nodeid};
	if (t && fc->user_ns) {
		h.uid = uid_show(fc->user_ns, t->cred->fsuid);
		h.gid = gid_show(fc->user_ns, t->cred->fsgid);
		h.pid = (uint32_t)MAX(pid_nr_in(who->pid, fc->pid_ns), 0);
	}
	fuse_req_add(r, &h, sizeof(h));
	return r;
}

void fuse_req_put(struct fuse_req *r)
{
	if (!r || !ref_put(&r->ref))
		return;
	fuse_conn_put(r->fc);
	free(r->msg);
	free(r->out);
	free(r);
}

void *fuse_req_add(struct fuse_req *r, const void *data, size_t n)
{
	if (!r || r->no_memory)
		return NULL;
	if (n > r->room - r->len) {
		char *more = realloc(r->msg, r->len + n);
		if (!more) {
			r->no_memory = true;
			return NULL;
		}
		r->msg = more;
		r->room = r->len + n;
	}
	char *at = r->msg + r->len;
	r->len += n;
	return data ? memcpy(at, data, n) : memset(at, 0, n);
}

void fuse_req_add_name(struct fuse_req *r, const char *name, size_t n)
{
	char *at = fuse_req_add(r, NULL, n + 1);

	if (at)
		memcpy(at, name, n);
}

/* The end, once: whoever waits goes on.  Consumes the connection's reference. */
void fuse_finish(struct fuse_req *r, int error, char *out, size_t n)
{
	struct fuse_conn *fc = r->fc;

	mutex_lock(&fc->lock, &lc_fuse);
	r->error = error;
	r->out = out;
	r->out_len = n;
	list_del(&r->interrupt);
	list_init(&r->interrupt);
	__atomic_store_n(&r->state, REQ_DONE, __ATOMIC_RELEASE);
	if (r->waiter)
		task_wake(r->waiter);
	mutex_unlock(&fc->lock, &lc_fuse);
	if (r->done)
		r->done(r);
	fuse_req_put(r);
}

/* Queues it, and takes a reference for that. */
static int queue(struct fuse_req *r)
{
	struct fuse_conn *fc = r->fc;
	int err = 0;

	if (r->no_memory)
		return -ENOMEM;
	mutex_lock(&fc->lock, &lc_fuse);
	if (!fc->connected) {
		err = -ENOTCONN;
	} else {
		ref_get(&r->ref);
		r->unique = fc->last_unique += 2;
		struct fuse_in_header *h = (struct fuse_in_header *)r->msg;
		h->len = (uint32_t)r->len;
		h->unique = r->unique;
		r->state = REQ_PENDING;
		list_add_tail(&r->link, &fc->pending);
	}
	mutex_unlock(&fc->lock, &lc_fuse);
	if (!err)
		waitq_notify_one(&fc->readers, POLLIN);
	return err;
}

/* The sender does not wait any longer.  What nobody has read yet need not be. */
static void abandon(struct fuse_req *r)
{
	struct fuse_conn *fc = r->fc;

	mutex_lock(&fc->lock, &lc_fuse);
	r->waiter = NULL;
	bool unread = r->state == REQ_PENDING && r->opcode != FUSE_FLUSH;
	if (unread) {
		list_del(&r->link);
		list_del(&r->interrupt);
		list_init(&r->interrupt);
		r->state = REQ_DONE;
	}
	mutex_unlock(&fc->lock, &lc_fuse);
	if (unread)
		fuse_req_put(r);
}

/* A signal: the server may cut the request short. */
static void interrupt(struct fuse_req *r)
{
	struct fuse_conn *fc = r->fc;

	mutex_lock(&fc->lock, &lc_fuse);
	if (r->state == REQ_SENT && !fuse_lacks(fc, FUSE_INTERRUPT) && list_empty(&r->interrupt))
		list_add_tail(&r->interrupt, &fc->interrupts);
	mutex_unlock(&fc->lock, &lc_fuse);
	waitq_notify_one(&fc->readers, POLLIN);
}

static bool is_done(struct fuse_req *r)
{
	return __atomic_load_n(&r->state, __ATOMIC_ACQUIRE) == REQ_DONE;
}

/* As Linux: a signal tells the server, whose answer is awaited all the same; death does not wait.
 */
static int await(struct fuse_req *r, struct task *t)
{
	bool told = false;

	while (!is_done(r)) {
		int err = task_park(t, told ? TASK_UNINTERRUPTIBLE : TASK_SLEEPING, TIME_NEVER);
		if (err != -EINTR || is_done(r))
			continue;
		if (told) {
			abandon(r);
			return -EINTR;
		}
		told = true;
		interrupt(r);
	}
	/* fuse_finish() holds the lock while it wakes us. */
	mutex_lock(&r->fc->lock, &lc_fuse);
	r->waiter = NULL;
	mutex_unlock(&r->fc->lock, &lc_fuse);
	return r->error;
}

static int await_start(struct fuse_conn *fc, struct task *t)
{
	struct task_waiter tw;
	int err = 0;

	if (__atomic_load_n(&fc->started, __ATOMIC_ACQUIRE))
		return 0;
	task_waiter_init(&tw, t);
	waitq_add(&fc->starters, &tw.w, POLLIN);
	while (!err && !__atomic_load_n(&fc->started, __ATOMIC_ACQUIRE))
		err = task_park(t, TASK_UNINTERRUPTIBLE, TIME_NEVER);
	waitq_remove(&tw.w);
	return err;
}

int fuse_call_var(struct fuse_req *r, size_t min, size_t max)
{
	struct task *t = task_current();

	if (!r)
		return -ENOMEM;
	if (!t)
		return -EIO; /* only tasks can wait */
	int err = await_start(r->fc, t);
	if (err)
		return err;
	r->min = min;
	r->max = max;
	r->waiter = t;
	if ((err = queue(r)))
		return err;
	err = await(r, t);
	if (err == -ENOSYS && r->opcode < 64)
		fuse_set_lacking(r->fc, r->opcode);
	return err;
}

int fuse_call(struct fuse_req *r, void *out, size_t n)
{
	int err = fuse_call_var(r, n, n);

	if (!err && n)
		memcpy(out, r->out, n);
	fuse_req_put(r);
	return err;
}

void fuse_post(struct fuse_req *r)
{
	if (!r)
		return;
	r->no_reply = r->opcode == FUSE_FORGET;
	if (queue(r) && r->done) {
		r->error = -ENOTCONN;
		r->done(r);
	}
	fuse_req_put(r);
}

/* ---- the server's side ---- */

int fuse_next(struct fuse_conn *fc, struct fuse_req **out, uint64_t *number)
{
	int err = 0;

	*out = NULL;
	mutex_lock(&fc->lock, &lc_fuse);
	if (!fc->connected) {
		err = -ENODEV;
	} else if (!list_empty(&fc->interrupts)) {
		struct fuse_req *r = list_first(&fc->interrupts, struct fuse_req, interrupt);
		list_del(&r->interrupt);
		list_init(&r->interrupt);
		*number = r->unique;
	} else if (!list_empty(&fc->pending)) {
		*out = list_first(&fc->pending, struct fuse_req, link);
		list_del(&(*out)->link);
		list_init(&(*out)->link);
		(*out)->state = REQ_SENT;
	} else {
		err = -EAGAIN;
	}
	mutex_unlock(&fc->lock, &lc_fuse);
	return err;
}

void fuse_sent(struct fuse_req *r, struct fuse_dev *dev, int err)
{
	struct fuse_conn *fc = r->fc;

	if (r->no_reply || err) {
		fuse_finish(r, err, NULL, 0);
		return;
	}
	mutex_lock(&fc->lock, &lc_fuse);
	bool aborted = !fc->connected;
	if (!aborted) {
		r->dev = dev;
		list_add_tail(&r->link, bucket(fc, r->unique));
	}
	mutex_unlock(&fc->lock, &lc_fuse);
	if (aborted)
		fuse_finish(r, -ECONNABORTED, NULL, 0);
}

static struct fuse_req *find_locked(struct fuse_conn *fc, uint64_t unique) REQUIRES(lc_fuse)
{
	struct fuse_req *r;

	list_for_each (r, bucket(fc, unique), link)
		if (r->unique == unique)
			return r;
	return NULL;
}

struct fuse_req *fuse_answered(struct fuse_conn *fc, uint64_t unique)
{
	mutex_lock(&fc->lock, &lc_fuse);
	struct fuse_req *r = find_locked(fc, unique);
	if (r) {
		list_del(&r->link);
		list_init(&r->link);
	}
	mutex_unlock(&fc->lock, &lc_fuse);
	return r;
}

void fuse_interrupt_refused(struct fuse_conn *fc, uint64_t unique, int error)
{
	if (error == -ENOSYS) {
		fuse_set_lacking(fc, FUSE_INTERRUPT);
		return;
	}
	mutex_lock(&fc->lock, &lc_fuse);
	struct fuse_req *r = find_locked(fc, unique);
	if (r && list_empty(&r->interrupt))
		list_add_tail(&r->interrupt, &fc->interrupts);
	mutex_unlock(&fc->lock, &lc_fuse);
}

/* Takes one request of those that dev has read (NULL: of all) and ends it. */
static bool end_one(struct fuse_conn *fc, struct fuse_dev *dev)
{
	struct fuse_req *r = NULL, *found = NULL;

	mutex_lock(&fc->lock, &lc_fuse);
	if (!dev && !list_empty(&fc->pending))
		found = list_first(&fc->pending, struct fuse_req, link);
	for (int i = 0; i < FUSE_BUCKETS && !found; i++)
		list_for_each (r, &fc->sent[i], link)
			if (!dev || r->dev == dev) {
				found = r;
				break;
			}
	if (found) {
		list_del(&found->link);
		list_init(&found->link);
	}
	mutex_unlock(&fc->lock, &lc_fuse);
	if (found)
		fuse_finish(found, -ECONNABORTED, NULL, 0);
	return found;
}

void fuse_conn_abort(struct fuse_conn *fc)
{
	mutex_lock(&fc->lock, &lc_fuse);
	fc->connected = false;
	__atomic_store_n(&fc->started, true, __ATOMIC_RELEASE);
	mutex_unlock(&fc->lock, &lc_fuse);
	while (end_one(fc, NULL))
		;
	waitq_notify(&fc->starters, POLLIN);
	waitq_notify(&fc->readers, POLLIN | POLLERR);
}

void fuse_conn_dev_gone(struct fuse_conn *fc, struct fuse_dev *dev)
{
	mutex_lock(&fc->lock, &lc_fuse);
	bool last = --fc->devs == 0;
	mutex_unlock(&fc->lock, &lc_fuse);
	if (last)
		fuse_conn_abort(fc);
	else
		while (end_one(fc, dev))
			;
}

/* ---- INIT ---- */

/* The limits and wishes that the server's answer may have. */
static bool take_init(struct fuse_conn *fc, const struct fuse_init_out *o)
{
	if (o->major != FUSE_KERNEL_VERSION || o->minor < MINOR_MIN)
		return false;
	fc->minor = o->minor;
	fc->flags = o->flags;
	if (fc->flags & FUSE_MAX_PAGES)
		fc->max_pages = MIN(MAX(o->max_pages, 1), FUSE_PAGES_MAX);
	fc->max_write = MAX(o->max_write, (uint32_t)PAGE_SIZE);
	fc->max_write = MIN(fc->max_write, fc->max_pages * (uint32_t)PAGE_SIZE);
	fc->max_readahead = MIN(o->max_readahead, READAHEAD);
	return true;
}

static void init_done(struct fuse_req *r)
{
	struct fuse_conn *fc = r->fc;
	struct fuse_init_out o = {0};

	if (!r->error)
		memcpy(&o, r->out, MIN(r->out_len, sizeof(o)));
	if (r->error || !take_init(fc, &o)) {
		fuse_conn_abort(fc);
		return;
	}
	mutex_lock(&fc->lock, &lc_fuse);
	if (fc->sb)
		fc->sb->own_umask = fc->flags & FUSE_DONT_MASK;
	__atomic_store_n(&fc->started, true, __ATOMIC_RELEASE);
	mutex_unlock(&fc->lock, &lc_fuse);
	waitq_notify(&fc->starters, POLLIN);
}

int fuse_conn_start(struct fuse_conn *fc)
{
	static const struct fuse_init_in in = {
		.major = FUSE_KERNEL_VERSION,
		.minor = FUSE_KERNEL_MINOR_VERSION,
		.max_readahead = READAHEAD,
		.flags = FUSE_BIG_WRITES | FUSE_AUTO_INVAL_DATA | FUSE_EXPLICIT_INVAL_DATA |
			 FUSE_NO_OPEN_SUPPORT | FUSE_NO_OPENDIR_SUPPORT | FUSE_ABORT_ERROR |
			 FUSE_MAX_PAGES | FUSE_INIT_EXT | FUSE_DONT_MASK,
	};
	struct fuse_req *r = fuse_req_new(fc, FUSE_INIT, 0);

	if (!fuse_req_add(r, &in, sizeof(in))) {
		fuse_req_put(r);
		return -ENOMEM;
	}
	r->min = FUSE_COMPAT_22_INIT_OUT_SIZE;
	r->max = sizeof(struct fuse_init_out);
	r->done = init_done;
	fuse_post(r);
	return 0;
}
