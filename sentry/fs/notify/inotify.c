#include "sentry/fs/notify/inotify.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>

#include "sentry/fs/notify/user.h"
#include "sentry/lib/rbtree.h"
#include "sentry/mm/uaccess.h"
#include "sentry/vfs/file.h"
#include "sentry/vfs/notify.h"

#define USER_MASK (IN_ALL_EVENTS | IN_UNMOUNT)

_Atomic int inotify_max_queued_events = 16384, inotify_max_user_instances = 128,
	    inotify_max_user_watches = 65536;

/* Everything below is guarded by lc_notify. */

struct queued {
	struct list_head node;
	struct inotify_event ev; /* ev.len: of the name as it is read, padded; 0: none */
	char name[];
};

struct inotify {
	struct waitq wq;
	struct list_head queue; /* of struct queued */
	int nqueued;
	size_t bytes; /* of what is queued, for FIONREAD */
	bool overflown;
	struct rb_root watches; /* by wd */
	int last_wd;
	struct notify_user *user;
};

struct watch {
	struct notify_mark mark;
	struct rb_node node;
	struct inotify *owner;
	int wd;
	uint32_t mask; /* the events wanted */
	bool once, excl_unlink;
};

static const struct notify_mark_ops watch_ops;

static struct watch *watch_of(struct notify_mark *m)
{
	return container_of(m, struct watch, mark);
}

/* ---- the queue ---- */

static size_t padded_len(size_t name_len)
{
	const size_t unit = sizeof(struct inotify_event);
	return name_len ? (name_len + 1 + unit - 1) / unit * unit : 0;
}

static void queue_put(struct inotify *n, struct queued *q) REQUIRES(lc_notify)
{
	list_add_tail(&q->node, &n->queue);
	n->nqueued++;
	n->bytes += sizeof(q->ev) + q->ev.len;
	waitq_notify(&n->wq, POLLIN | POLLRDNORM);
}

static struct queued *queue_take(struct inotify *n) REQUIRES(lc_notify)
{
	struct queued *q = list_first(&n->queue, struct queued, node);

	list_del(&q->node);
	n->nqueued--;
	n->bytes -= sizeof(q->ev) + q->ev.len;
	if (q->ev.mask & IN_Q_OVERFLOW)
		n->overflown = false;
	return q;
}

/* An event like the last one in the queue adds nothing. */
static bool repeats_last(const struct inotify *n, int wd, uint32_t mask,
			 const struct notify_event *e)
{
	if (list_empty(&n->queue))
		return false;
	const struct queued *q = list_last(&n->queue, struct queued, node);
	return q->ev.wd == wd && q->ev.mask == mask && q->ev.len == padded_len(e->name_len) &&
	       (!e->name_len || (!memcmp(q->name, e->name, e->name_len) && !q->name[e->name_len]));
}

static struct queued *queued_new(int wd, uint32_t mask, const struct notify_event *e)
{
	size_t len = padded_len(e->name_len);
	struct queued *q = calloc(1, sizeof(*q) + len);

	if (!q)
		return NULL;
	q->ev = (struct inotify_event){
		.wd = wd, .mask = mask, .cookie = e->cookie, .len = (uint32_t)len};
	if (len)
		memcpy(q->name, e->name, e->name_len);
	return q;
}

static void queue_event(struct inotify *n, int wd, uint32_t mask, const struct notify_event *e)
	REQUIRES(lc_notify)
{
	static const struct notify_event nothing;
	struct queued *q = NULL;

	if (repeats_last(n, wd, mask, e))
		return;
	if (n->nqueued < inotify_max_queued_events)
		q = queued_new(wd, mask, e);
	if (!q && !n->overflown && (q = queued_new(-1, IN_Q_OVERFLOW, &nothing)))
		n->overflown = true;
	if (q)
		queue_put(n, q);
}

/* ---- marks ---- */

static bool watch_event(struct notify_mark *m, const struct notify_event *e, enum notify_role role)
	REQUIRES(lc_notify)
{
	struct watch *w = watch_of(m);
	struct notify_event own = *e;
	uint32_t mask = e->mask & (USER_MASK | IN_ISDIR);

	if (!(mask & w->mask & USER_MASK) ||
	    (e->unlinked && role == NOTIFY_CHILD && w->excl_unlink))
		return true;
	if (mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT))
		mask &= ~(uint32_t)IN_ISDIR;
	if (role == NOTIFY_SELF)
		own.name_len = 0;
	queue_event(w->owner, w->wd, mask, &own);
	return !w->once;
}

static void watch_gone(struct notify_mark *m) REQUIRES(lc_notify)
{
	static const struct notify_event nothing;
	struct watch *w = watch_of(m);

	queue_event(w->owner, w->wd, IN_IGNORED, &nothing);
	rb_erase(&w->owner->watches, &w->node);
	w->owner->user->used[USE_INOTIFY_WATCHES]--;
}

static void watch_free(struct notify_mark *m)
{
	free(watch_of(m));
}

static const struct notify_mark_ops watch_ops = {
	.event = watch_event,
	.gone = watch_gone,
	.free = watch_free,
};

static struct watch *watch_find(struct inotify *n, int wd) REQUIRES(lc_notify)
{
	struct rb_node *p = n->watches.node;

	while (p) {
		struct watch *w = rb_entry(p, struct watch, node);
		if (w->wd == wd)
			return w;
		p = wd < w->wd ? p->left : p->right;
	}
	return NULL;
}

/* Numbers grow, and begin again after the last one. */
static int wd_next(struct inotify *n) REQUIRES(lc_notify)
{
	do
		n->last_wd = n->last_wd == INT_MAX ? 1 : n->last_wd + 1;
	while (watch_find(n, n->last_wd));
	return n->last_wd;
}

static void watch_insert(struct inotify *n, struct watch *w) REQUIRES(lc_notify)
{
	struct rb_node **link = &n->watches.node, *parent = NULL;

	w->wd = wd_next(n);
	while (*link) {
		parent = *link;
		link = w->wd < rb_entry(parent, struct watch, node)->wd ? &parent->left
									: &parent->right;
	}
	rb_insert(&n->watches, &w->node, parent, link);
}

static void watch_set(struct watch *w, uint32_t arg, bool add) REQUIRES(lc_notify)
{
	w->mask = (add ? w->mask : 0) | (arg & IN_ALL_EVENTS) | IN_UNMOUNT;
	w->once = (add && w->once) || arg & IN_ONESHOT;
	w->excl_unlink = (add && w->excl_unlink) || arg & IN_EXCL_UNLINK;
}

static int watch_add(struct inotify *n, struct inode *in, uint32_t arg) REQUIRES(lc_notify)
{
	if (!notify_use(n->user, USE_INOTIFY_WATCHES, inotify_max_user_watches))
		return -ENOSPC;
	struct watch *w = calloc(1, sizeof(*w));
	if (!w) {
		n->user->used[USE_INOTIFY_WATCHES]--;
		return -ENOMEM;
	}
	w->mark.ops = &watch_ops;
	w->owner = n;
	watch_set(w, arg, false);
	watch_insert(n, w);
	notify_mark_attach(&w->mark, in);
	return w->wd;
}

int inotify_watch(struct file *f, struct inode *in, uint32_t arg)
{
	struct inotify *n = f->priv;
	int ret;

	notify_watch_begin(in);
	mutex_lock(&notify_lock, &lc_notify);
	struct notify_mark *m = in->marks;
	while (m && (m->ops != &watch_ops || watch_of(m)->owner != n))
		m = m->next;
	if (!m) {
		ret = watch_add(n, in, arg);
	} else if (arg & IN_MASK_CREATE) {
		ret = -EEXIST;
	} else {
		watch_set(watch_of(m), arg, arg & IN_MASK_ADD);
		ret = watch_of(m)->wd;
	}
	mutex_unlock(&notify_lock, &lc_notify);
	if (m || ret < 0)
		notify_watch_end(in);
	return ret;
}

int inotify_unwatch(struct file *f, int wd)
{
	struct notify_mark *dead = NULL;

	mutex_lock(&notify_lock, &lc_notify);
	struct watch *w = watch_find(f->priv, wd);
	if (w)
		notify_mark_detach(&w->mark, &dead);
	mutex_unlock(&notify_lock, &lc_notify);
	notify_reap(dead);
	return w ? 0 : -EINVAL;
}

/* ---- the file ---- */

/* The first event, if it fits: taken off.  NULL with *err: -EAGAIN none, -EINVAL too long. */
static struct queued *next_event(struct inotify *n, uint64_t room, int *err)
{
	struct queued *q = NULL;

	mutex_lock(&notify_lock, &lc_notify);
	if (list_empty(&n->queue)) {
		*err = -EAGAIN;
	} else {
		const struct queued *first = list_first(&n->queue, struct queued, node);
		*err = sizeof(first->ev) + first->ev.len > room ? -EINVAL : 0;
		if (!*err)
			q = queue_take(n);
	}
	mutex_unlock(&notify_lock, &lc_notify);
	return q;
}

static ssize_t inotify_read(struct file *f, struct uio *io, int64_t *off)
{
	ssize_t total = 0;
	struct queued *q;
	int err;

	(void)off;
	while ((q = next_event(f->priv, io->left, &err))) {
		size_t n = sizeof(q->ev) + q->ev.len;
		/* An event that cannot be delivered is lost, as in Linux. */
		ssize_t m = uio_put(io, &q->ev, n);
		free(q);
		if (m != (ssize_t)n)
			return -EFAULT;
		total += m;
	}
	return total ? total : err;
}

static uint32_t inotify_poll(struct file *f)
{
	struct inotify *n = f->priv;

	mutex_lock(&notify_lock, &lc_notify);
	bool any = !list_empty(&n->queue);
	mutex_unlock(&notify_lock, &lc_notify);
	return any ? POLLIN | POLLRDNORM : 0;
}

static struct waitq *inotify_waitq(struct file *f)
{
	return &((struct inotify *)f->priv)->wq;
}

static long inotify_ioctl(struct file *f, struct task *t, unsigned cmd, uint64_t arg)
{
	struct inotify *n = f->priv;

	if (cmd != FIONREAD)
		return -ENOTTY;
	mutex_lock(&notify_lock, &lc_notify);
	int bytes = (int)MIN(n->bytes, (size_t)INT_MAX);
	mutex_unlock(&notify_lock, &lc_notify);
	return copy_out_val(task_umem(t), UADDR(arg), &bytes);
}

/* As proc_pid_fdinfo(5) shows watches; lines that do not fit are left out. */
static size_t inotify_show(struct file *f, char *buf, size_t size)
{
	struct inotify *n = f->priv;
	struct rb_node *p;
	size_t len = 0;

	mutex_lock(&notify_lock, &lc_notify);
	rb_for_each (p, &n->watches) {
		const struct watch *w = rb_entry(p, struct watch, node);
		uint64_t dev = w->mark.inode->sb->dev;
		uint32_t mask = (w->mask & IN_ALL_EVENTS) | (w->once ? IN_ONESHOT : 0) |
				(w->excl_unlink ? IN_EXCL_UNLINK : 0);
		/* The kernel's own form of device numbers: 12 bits major, 20 minor. */
		int m = snprintf(buf + len, size - len,
				 "inotify wd:%x ino:%lx sdev:%x mask:%x ignored_mask:0 \n", w->wd,
				 (unsigned long)w->mark.inode->ino, major(dev) << 20 | minor(dev),
				 mask);
		if (m < 0 || (size_t)m >= size - len)
			break;
		len += (size_t)m;
	}
	mutex_unlock(&notify_lock, &lc_notify);
	return len;
}

static void inotify_destroy(struct inotify *n)
{
	struct notify_mark *dead = NULL;
	struct rb_node *p;

	mutex_lock(&notify_lock, &lc_notify);
	while ((p = rb_first(&n->watches)))
		notify_mark_detach(&rb_entry(p, struct watch, node)->mark, &dead);
	while (!list_empty(&n->queue))
		free(queue_take(n));
	n->user->used[USE_INOTIFY_INSTANCES]--;
	notify_user_put(n->user);
	mutex_unlock(&notify_lock, &lc_notify);
	notify_reap(dead);
	free(n);
}

static void inotify_release(struct file *f)
{
	inotify_destroy(f->priv);
}

static const struct file_ops inotify_ops = {
	.async = true,
	.read = inotify_read,
	.stream = true,
	.poll = inotify_poll,
	.waitq = inotify_waitq,
	.ioctl = inotify_ioctl,
	.show_fdinfo = inotify_show,
	.release = inotify_release,
};

bool file_is_inotify(const struct file *f)
{
	return f->ops == &inotify_ops;
}

int inotify_create_file(int flags, uint32_t uid, struct file **out)
{
	struct inotify *n = calloc(1, sizeof(*n));

	if (!n)
		return -ENOMEM;
	waitq_init(&n->wq);
	list_init(&n->queue);
	int err = notify_user_get(uid, USE_INOTIFY_INSTANCES, inotify_max_user_instances, &n->user);
	if (err) {
		free(n);
		return err;
	}
	struct inode *in = anon_inode_new(0600, NULL, NULL);
	err = in ? file_new_anon(in, "anon_inode:inotify", &inotify_ops, n,
				 O_RDONLY | (flags & IN_NONBLOCK), out)
		 : -ENOMEM;
	if (err)
		inotify_destroy(n);
	return err;
}
