/*
 * What others do on the host to files that guests watch: the host's inotify (gofer/proto.h,
 * GOFER_WATCH) tells of it, and of what we do ourselves.
 *
 * What the vfs reports it has done, so the host's word on it is dropped: own_event takes everything
 * about that name or file off what the host has said so far.  For that to come first, what the host
 * says is believed only after GRACE.  Events of opening and reading are not asked for, since the
 * gofer opens and we read when it suits us.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sentry/fs/gofer/client.h"
#include "sentry/host/poller.h"
#include "sentry/lib/log.h"
#include "sentry/time/ktimer.h"
#include "sentry/vfs/notify.h"

#define GRACE (20 * 1000 * 1000) /* ns */
#define BUCKETS 64
#define PENDING_MAX 16384
#define READ_SIZE 4096
#define CLOSES 32
#define GONE (-1) /* the host watches it no more */
/* Two sources of cookies, which must not meet. */
#define FOREIGN_COOKIE 0x80000000u

struct watch {
	struct list_head node;	/* in a bucket by gi */
	struct gofer_inode *gi; /* borrowed: who counts in `count` has a reference */
	unsigned count;
	int wd; /* several files here may be one on the host */
};

struct pending {
	struct list_head node;
	int wd;
	uint32_t mask, cookie;
	int64_t since;
	size_t len; /* 0: it is about what is watched itself */
	char name[];
};

/* A descriptor for writing that we closed: the gofer may let go of it later still. */
struct own_close {
	int self, above; /* watches; 0: none */
	uint32_t name;	 /* hash, in the latter */
	int64_t until;
};

struct gofer_watcher {
	struct poll_source src;
	struct waitq wq; /* nobody's */
	struct ktimer timer;
	int fd;
	struct mutex lock; /* lc_leaf: what follows */
	struct list_head watches[BUCKETS];
	struct list_head pending;
	unsigned npending;
	struct own_close closes[CLOSES]; /* a ring */
	unsigned nclosed;
};

static uint32_t hash(const char *name, size_t len)
{
	uint32_t h = 2166136261u;

	while (len--)
		h = (h ^ (uint8_t)*name++) * 16777619u;
	return h;
}

static bool is_own_close(const struct gofer_watcher *w, const struct inotify_event *ev,
			 const char *name, size_t len, int64_t now) REQUIRES(lc_leaf)
{
	if (!(ev->mask & IN_CLOSE_WRITE))
		return false;
	for (int i = 0; i < CLOSES; i++) {
		const struct own_close *c = &w->closes[i];
		if (now < c->until &&
		    (len ? c->above == ev->wd && c->name == hash(name, len) : c->self == ev->wd))
			return true;
	}
	return false;
}

static struct list_head *bucket(struct gofer_watcher *w, const struct gofer_inode *gi)
{
	return &w->watches[((uintptr_t)gi >> 8) % BUCKETS];
}

static struct watch *find(struct gofer_watcher *w, const struct gofer_inode *gi) REQUIRES(lc_leaf)
{
	struct watch *e;

	list_for_each (e, bucket(w, gi), node)
		if (e->gi == gi)
			return e;
	return NULL;
}

/* ---- from the host ---- */

static void put_pending(struct gofer_watcher *w, const struct inotify_event *ev, const char *name,
			int64_t now) REQUIRES(lc_leaf)
{
	size_t len = ev->len ? strnlen(name, ev->len) : 0;

	if (len > VFS_NAME_MAX || memchr(name, '/', len) || w->npending >= PENDING_MAX ||
	    is_own_close(w, ev, name, len, now))
		return;
	struct pending *p = malloc(sizeof(*p) + len + 1);
	if (!p)
		return;
	p->wd = ev->wd;
	p->mask = ev->mask;
	p->cookie = ev->cookie;
	p->since = now;
	p->len = len;
	memcpy(p->name, name, len);
	p->name[len] = '\0';
	list_add_tail(&p->node, &w->pending);
	w->npending++;
}

/* The host ended a watch: what it was on is gone, or unmounted. */
static void watch_ended(struct gofer_watcher *w, int wd) REQUIRES(lc_leaf)
{
	struct watch *e;

	for (int i = 0; i < BUCKETS; i++)
		list_for_each (e, &w->watches[i], node)
			if (e->wd == wd)
				e->wd = GONE;
}

/* Takes what the host has said; the peer may have said anything. */
static void drain(struct gofer_watcher *w) REQUIRES(lc_leaf)
{
	char buf[READ_SIZE] __attribute__((aligned(8)));
	int64_t now = time_monotonic();
	ssize_t n;

	while ((n = read(w->fd, buf, sizeof(buf))) > 0) {
		for (size_t at = 0; at + sizeof(struct inotify_event) <= (size_t)n;) {
			struct inotify_event ev;
			memcpy(&ev, buf + at, sizeof(ev));
			at += sizeof(ev);
			if (ev.len > (size_t)n - at)
				return;
			if (!(ev.mask & (IN_Q_OVERFLOW | IN_UNMOUNT)) && ev.wd > 0)
				put_pending(w, &ev, buf + at, now);
			at += ev.len;
		}
	}
}

static void pending_free(struct gofer_watcher *w, struct pending *p) REQUIRES(lc_leaf)
{
	list_del(&p->node);
	w->npending--;
	free(p);
}

/* The nth file that a watch of the host's is on, or NULL. */
static struct watch *watched(struct gofer_watcher *w, int wd, unsigned nth) REQUIRES(lc_leaf)
{
	struct watch *e;

	for (int i = 0; i < BUCKETS; i++)
		list_for_each (e, &w->watches[i], node)
			if (e->wd == wd && nth-- == 0)
				return e;
	return NULL;
}

/* The same as an inode, with a reference.  Of what is gone each is found once. */
static struct inode *next_watched(struct gofer_watcher *w, const struct pending *p, unsigned nth)
{
	bool gone = p->mask & IN_DELETE_SELF;
	struct inode *in = NULL;

	mutex_lock(&w->lock, &lc_leaf);
	struct watch *e = watched(w, p->wd, gone ? 0 : nth);
	if (e) {
		in = inode_get(&e->gi->in);
		if (gone)
			e->wd = GONE;
	}
	mutex_unlock(&w->lock, &lc_leaf);
	return in;
}

/* The first event whose time has come; *wait: when that of the next one comes, or 0: none is left.
 */
static struct pending *take_due(struct gofer_watcher *w, int64_t *wait)
{
	struct pending *p = NULL;
	int64_t now = time_monotonic();

	*wait = 0;
	mutex_lock(&w->lock, &lc_leaf);
	drain(w);
	if (!list_empty(&w->pending)) {
		p = list_first(&w->pending, struct pending, node);
		if (now - p->since < GRACE / 2) {
			*wait = p->since + GRACE;
			p = NULL;
		} else {
			list_del(&p->node);
			w->npending--;
		}
	}
	mutex_unlock(&w->lock, &lc_leaf);
	return p;
}

static void tell(struct gofer_watcher *w, const struct pending *p)
{
	struct inode *in;

	for (unsigned i = 0; (in = next_watched(w, p, i)); i++) {
		notify_foreign(in, p->mask & (GOFER_WATCH_EVENTS | IN_ISDIR),
			       p->len ? p->name : NULL, p->len,
			       p->cookie ? p->cookie | FOREIGN_COOKIE : 0);
		inode_put(in);
	}
	if (!(p->mask & IN_IGNORED))
		return;
	mutex_lock(&w->lock, &lc_leaf);
	watch_ended(w, p->wd);
	mutex_unlock(&w->lock, &lc_leaf);
}

static void on_time(struct ktimer *t)
{
	struct gofer_watcher *w = container_of(t, struct gofer_watcher, timer);
	struct pending *p;
	int64_t wait;

	while ((p = take_due(w, &wait))) {
		tell(w, p);
		free(p);
	}
	if (wait)
		ktimer_arm(&w->timer, wait);
	else
		poller_arm(&w->src, POLLIN);
}

static void on_readable(struct poll_source *s)
{
	struct gofer_watcher *w = container_of(s, struct gofer_watcher, src);

	ktimer_arm(&w->timer, time_monotonic() + GRACE);
}

/* ---- our own doings ---- */

void gofer_own_event(struct inode *in, struct inode *dir, const char *name, size_t len)
{
	struct gofer_watcher *w = atomic_load(&gi_conn(gi_of(in))->watcher);
	struct pending *p, *tmp;

	if (!w)
		return;
	mutex_lock(&w->lock, &lc_leaf);
	const struct watch *self = find(w, gi_of(in)), *above = dir ? find(w, gi_of(dir)) : NULL;
	if (self || above)
		drain(w);
	list_for_each_safe (p, tmp, &w->pending, node)
		if ((self && p->wd == self->wd && !p->len) ||
		    (above && p->wd == above->wd && p->len == len && !memcmp(p->name, name, len)))
			pending_free(w, p);
	mutex_unlock(&w->lock, &lc_leaf);
}

void gofer_own_close(struct gofer_inode *gi, struct dentry *d)
{
	struct gofer_watcher *w = atomic_load(&gi_conn(gi)->watcher);
	char name[VFS_NAME_MAX + 1];

	if (!w)
		return;
	struct dentry *dir = dentry_get_parent(d, name);
	size_t len = dir ? strlen(name) : 0;
	mutex_lock(&w->lock, &lc_leaf);
	const struct watch *self = find(w, gi), *above = dir ? find(w, gi_of(dir->inode)) : NULL;
	if (self || above)
		w->closes[w->nclosed++ % CLOSES] = (struct own_close){
			.self = self ? self->wd : 0,
			.above = above ? above->wd : 0,
			.name = hash(name, len),
			.until = time_monotonic() + 3 * GRACE,
		};
	mutex_unlock(&w->lock, &lc_leaf);
	gofer_own_event(&gi->in, dir ? dir->inode : NULL, name, len);
	dentry_put(dir);
}

/* ---- watches ---- */

static void source_free(struct poll_source *s)
{
	struct gofer_watcher *w = container_of(s, struct gofer_watcher, src);

	close(w->fd);
	free(w);
}

void gofer_watcher_free(struct gofer_watcher *w)
{
	struct pending *p, *tmp;

	if (!w)
		return;
	ktimer_cancel(&w->timer);
	list_for_each_safe (p, tmp, &w->pending, node)
		free(p);
	poller_remove(&w->src);
}

static struct gofer_watcher *watcher_new(int fd)
{
	struct gofer_watcher *w = calloc(1, sizeof(*w));

	if (!w) {
		close(fd);
		return NULL;
	}
	w->fd = fd;
	mutex_init(&w->lock);
	waitq_init(&w->wq);
	list_init(&w->pending);
	for (int i = 0; i < BUCKETS; i++)
		list_init(&w->watches[i]);
	ktimer_init(&w->timer, on_time);
	w->src.free = source_free;
	/* One that waits would be no inotify descriptor. */
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0 || !(flags & O_NONBLOCK) || poller_add(&w->src, fd, &w->wq) ||
	    !w->src.registered) {
		close(fd);
		free(w);
		return NULL;
	}
	w->src.fired = on_readable;
	poller_arm(&w->src, POLLIN);
	return w;
}

/* Has the host watch the file.  The first time, its descriptor comes along. */
static int host_watch(struct gofer_inode *gi, int *wd)
{
	struct gofer_conn *c = gi_conn(gi);
	bool first = !atomic_load(&c->watcher);
	struct gofer_watch_req rq = {.flags = first ? GOFER_WATCH_START : 0};
	struct gofer_watch_rep out;
	struct rpc r = {
		.op = GOFER_WATCH,
		.fixed = &rq,
		.fixed_len = sizeof(rq),
		.rep = &out,
		.rep_min = sizeof(out),
		.rep_max = sizeof(out),
		.fds_room = first,
	};
	int err = gofer_node(gi, &rq.node);

	if (!err)
		err = gofer_rpc(c, &r);
	if (err)
		return err;
	if (out.wd <= 0 || r.nfds != first) {
		if (r.nfds)
			close(r.fds[0]);
		return gofer_conn_fail(c, "a watch that is none");
	}
	*wd = out.wd;
	if (!first)
		return 0;
	struct gofer_watcher *w = watcher_new(r.fds[0]);
	if (!w)
		return -ENOMEM;
	atomic_store(&c->watcher, w);
	return 0;
}

static void host_unwatch(struct gofer_conn *c, int wd)
{
	struct gofer_unwatch_req rq = {.wd = wd};
	struct rpc r = {.op = GOFER_UNWATCH, .fixed = &rq, .fixed_len = sizeof(rq)};

	(void)!gofer_rpc(c, &r); /* the host may have ended it */
}

static void watch_begin(struct gofer_inode *gi)
{
	struct gofer_conn *c = gi_conn(gi);
	struct gofer_watcher *w = atomic_load(&c->watcher);
	struct watch *e = NULL;
	int wd = GONE;

	if (w) {
		mutex_lock(&w->lock, &lc_leaf);
		if ((e = find(w, gi)))
			e->count++;
		mutex_unlock(&w->lock, &lc_leaf);
	}
	if (e)
		return;
	/* Without it only what is done here is seen. */
	int err = host_watch(gi, &wd);
	if (err) {
		log_debug("gofer: the host watches nothing: %s", strerror(-err));
		return;
	}
	w = atomic_load(&c->watcher);
	if (!(e = malloc(sizeof(*e)))) {
		host_unwatch(c, wd);
		return;
	}
	*e = (struct watch){.gi = gi, .count = 1, .wd = wd};
	mutex_lock(&w->lock, &lc_leaf);
	list_add(&e->node, bucket(w, gi));
	mutex_unlock(&w->lock, &lc_leaf);
}

/* The last one that counted is gone: the watch of the host's to end, or GONE. */
static int watch_drop(struct gofer_watcher *w, struct gofer_inode *gi)
{
	int wd = GONE;

	mutex_lock(&w->lock, &lc_leaf);
	struct watch *e = find(w, gi);
	if (e && --e->count == 0) {
		list_del(&e->node);
		wd = e->wd;
		free(e);
	}
	if (wd != GONE && watched(w, wd, 0))
		wd = GONE; /* it serves another one */
	mutex_unlock(&w->lock, &lc_leaf);
	return wd;
}

void gofer_watch(struct inode *in, bool on)
{
	struct gofer_inode *gi = gi_of(in);
	struct gofer_conn *c = gi_conn(gi);

	if (!S_ISDIR(in->mode) && !S_ISREG(in->mode))
		return;
	mutex_lock(&c->watch_lock, &lc_watch);
	struct gofer_watcher *w = atomic_load(&c->watcher);
	if (on) {
		watch_begin(gi);
	} else if (w) {
		int wd = watch_drop(w, gi);
		if (wd != GONE)
			host_unwatch(c, wd);
	}
	mutex_unlock(&c->watch_lock, &lc_watch);
}
