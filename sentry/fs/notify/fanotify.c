/* Groups and their marks. */
#include "sentry/fs/notify/fanotify.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "sentry/fs/notify/fanotify_impl.h"

#define KIND_BITS (FAN_MARK_MOUNT | FAN_MARK_FILESYSTEM)
#define MARKS_MAX 524288 /* of a group without a limit */
#define EVENT_FLAGS (FAN_ONDIR | FAN_EVENT_ON_CHILD)

_Atomic int fanotify_max_queued_events = 16384, fanotify_max_user_groups = 128,
	    fanotify_max_user_marks = 65536;

/* ---- marks ---- */

static struct fan_mark *mark_of(struct notify_mark *m)
{
	return container_of(m, struct fan_mark, mark);
}

static void mark_gone(struct notify_mark *nm) REQUIRES(lc_notify)
{
	struct fan_mark *m = mark_of(nm);

	list_del(&m->node);
	m->group->user->used[USE_FAN_MARKS]--;
	if (m->asks)
		notify_nasking--;
}

static void mark_free(struct notify_mark *nm)
{
	free(mark_of(nm));
}

static const struct notify_mark_ops mark_ops = {
	.event = fan_hear,
	.finish = fan_finish,
	.gone = mark_gone,
	.free = mark_free,
};

static struct notify_mark *_Atomic *marks_at(struct path p, unsigned kind)
{
	switch (kind) {
	case FAN_MARK_MOUNT:
		return &p.mnt->marks;
	case FAN_MARK_FILESYSTEM:
		return &p.dentry->sb->marks;
	default:
		return &p.dentry->inode->marks;
	}
}

static struct fan_mark *mark_find(struct fan_group *g, struct path p, unsigned kind)
	REQUIRES(lc_notify)
{
	struct notify_mark *m = *marks_at(p, kind);

	while (m && (m->ops != &mark_ops || mark_of(m)->group != g))
		m = m->next;
	return m ? mark_of(m) : NULL;
}

static int mark_new(struct fan_group *g, struct path p, unsigned kind, uint64_t fsid,
		    struct fan_mark **out) REQUIRES(lc_notify)
{
	int limit = g->flags & FAN_UNLIMITED_MARKS ? MARKS_MAX : fanotify_max_user_marks;

	if (!notify_use(g->user, USE_FAN_MARKS, limit))
		return -ENOSPC;
	struct fan_mark *m = calloc(1, sizeof(*m));
	if (!m) {
		g->user->used[USE_FAN_MARKS]--;
		return -ENOMEM;
	}
	m->mark.ops = &mark_ops;
	m->group = g;
	m->kind = kind;
	m->fsid = fsid;
	m->mount_id = p.mnt->id;
	m->sb = p.dentry->sb;
	list_add_tail(&m->node, &g->marks);
	if (kind)
		notify_mark_attach_to(&m->mark, marks_at(p, kind));
	else
		notify_mark_attach(&m->mark, p.dentry->inode);
	*out = m;
	return 0;
}

static void mark_count_asking(struct fan_mark *m) REQUIRES(lc_notify)
{
	bool asks = m->mask & NOTIFY_PERMS;

	if (asks != m->asks)
		notify_nasking += asks ? 1 : -1;
	m->asks = asks;
}

/* What a mark has become cannot be taken back by adding to it. */
static int may_add(const struct fan_mark *m, unsigned flags)
{
	const unsigned lasting = FAN_MARK_IGNORE | FAN_MARK_IGNORED_SURV_MODIFY;

	if (flags & FAN_MARK_EVICTABLE && !(m->flags & FAN_MARK_EVICTABLE) &&
	    (m->mask | m->ignored))
		return -EEXIST;
	if (flags & FAN_MARK_IGNORED_MASK && m->flags & FAN_MARK_IGNORE)
		return -EEXIST;
	if (flags & FAN_MARK_IGNORE && m->ignored && !(m->flags & FAN_MARK_IGNORE))
		return -EEXIST;
	/* One that survives changes goes on to. */
	if (flags & FAN_MARK_IGNORE && m->ignored && (m->flags & lasting) != (flags & lasting))
		return -EEXIST;
	return 0;
}

static int mark_add(struct fan_mark *m, unsigned flags, uint32_t mask) REQUIRES(lc_notify)
{
	int err = may_add(m, flags);

	if (err)
		return err;
	if (!(flags & FAN_MARK_EVICTABLE))
		m->flags &= ~(unsigned)FAN_MARK_EVICTABLE;
	else if (!(m->mask | m->ignored))
		m->flags |= FAN_MARK_EVICTABLE;
	if (flags & (FAN_MARK_IGNORED_MASK | FAN_MARK_IGNORE)) {
		m->flags |= flags & (FAN_MARK_IGNORE | FAN_MARK_IGNORED_SURV_MODIFY);
		m->ignored |= mask;
	} else {
		m->mask |= mask;
		mark_count_asking(m);
	}
	return 0;
}

/* Is there anything left of it? */
static bool mark_remove(struct fan_mark *m, unsigned flags, uint32_t mask) REQUIRES(lc_notify)
{
	if (flags & (FAN_MARK_IGNORED_MASK | FAN_MARK_IGNORE)) {
		m->ignored &= ~mask;
	} else {
		m->mask &= ~mask;
		mark_count_asking(m);
	}
	return m->mask || m->ignored;
}

/* Entries are heard of by directories only; and for names, files hear by their directories. */
static uint32_t mask_at(const struct fan_group *g, struct path p, unsigned flags, uint32_t mask)
{
	const unsigned ignore = FAN_MARK_IGNORED_MASK | FAN_MARK_IGNORE;

	if (!(flags & KIND_BITS) && inode_is_dir(p.dentry->inode))
		return mask;
	mask &= ~(uint32_t)FAN_EVENT_ON_CHILD;
	if (flags & FAN_MARK_REMOVE && !(flags & ignore))
		mask |= FAN_EVENT_ON_CHILD;
	if (flags & FAN_MARK_ADD && !(flags & ignore) && g->flags & FAN_REPORT_DIR_FID)
		mask |= FAN_EVENT_ON_CHILD;
	return mask;
}

/* A change is coming anyway: what ends with it need not begin. */
static bool ends_at_once(struct path p, unsigned flags)
{
	return flags & FAN_MARK_ADD && flags & (FAN_MARK_IGNORED_MASK | FAN_MARK_IGNORE) &&
	       !(flags & (FAN_MARK_IGNORED_SURV_MODIFY | KIND_BITS)) &&
	       p.dentry->inode->writers > 0;
}

int fanotify_change_mark(struct file *f, struct path p, unsigned flags, uint32_t mask)
{
	struct notify_mark *dead = NULL;
	struct fan_group *g = f->priv;
	unsigned kind = flags & KIND_BITS;
	struct kstatfs st;
	int err;

	if ((err = vfs_statfs(p, &st)))
		return err;
	if (ends_at_once(p, flags))
		return 0;
	mask = mask_at(g, p, flags, mask);
	if (!kind)
		notify_watch_begin(p.dentry->inode);
	mutex_lock(&notify_lock, &lc_notify);
	struct fan_mark *m = mark_find(g, p, kind);
	bool fresh = !m;
	if (flags & FAN_MARK_ADD) {
		if (!m)
			err = mark_new(g, p, kind, st.fsid, &m);
		if (!err)
			err = mark_add(m, flags, mask);
	} else {
		err = m ? 0 : -ENOENT;
		if (m && !mark_remove(m, flags, mask))
			notify_mark_detach(&m->mark, &dead);
	}
	fresh = fresh && m;
	mutex_unlock(&notify_lock, &lc_notify);
	if (!kind && !fresh)
		notify_watch_end(p.dentry->inode);
	notify_reap(dead);
	return err;
}

static void remove_marks(struct fan_group *g, bool all, unsigned kind)
{
	struct notify_mark *dead = NULL;
	struct fan_mark *m, *tmp;

	mutex_lock(&notify_lock, &lc_notify);
	list_for_each_safe (m, tmp, &g->marks, node)
		if (all || m->kind == kind)
			notify_mark_detach(&m->mark, &dead);
	mutex_unlock(&notify_lock, &lc_notify);
	notify_reap(dead);
}

void fanotify_flush(struct file *f, unsigned kind)
{
	remove_marks(f->priv, false, kind);
}

/* ---- groups ---- */

void fan_group_put(struct fan_group *g)
{
	mutex_lock(&notify_lock, &lc_notify);
	bool last = --g->refs == 0;
	mutex_unlock(&notify_lock, &lc_notify);
	if (last)
		free(g);
}

/* The next event in the queue; questions are allowed and left to who asks. */
static struct fan_event *drain(struct fan_group *g)
{
	struct fan_event *v = NULL;

	mutex_lock(&notify_lock, &lc_notify);
	while (!v && !list_empty(&g->queue)) {
		v = list_first(&g->queue, struct fan_event, node);
		if (fan_is_question(v)) {
			fan_answer(v, FAN_ALLOW);
			v = NULL;
		} else {
			list_del(&v->node);
		}
	}
	while (!list_empty(&g->waiting))
		fan_answer(list_first(&g->waiting, struct fan_event, node), FAN_ALLOW);
	mutex_unlock(&notify_lock, &lc_notify);
	return v;
}

void fan_group_close(struct fan_group *g)
{
	struct fan_event *v;

	remove_marks(g, true, 0);
	while ((v = drain(g)))
		fan_event_free(v);
	mutex_lock(&notify_lock, &lc_notify);
	g->user->used[USE_FAN_GROUPS]--;
	notify_user_put(g->user);
	mutex_unlock(&notify_lock, &lc_notify);
	fan_group_put(g);
}

bool file_is_fanotify(const struct file *f)
{
	return f->ops == &fanotify_ops;
}

unsigned fanotify_flags(const struct file *f)
{
	return ((const struct fan_group *)f->priv)->flags;
}

bool fanotify_is_unprivileged(const struct file *f)
{
	return ((const struct fan_group *)f->priv)->unprivileged;
}

int fanotify_create_file(unsigned flags, int event_flags, uint32_t uid, bool unprivileged,
			 struct file **out)
{
	struct fan_group *g = calloc(1, sizeof(*g));

	if (!g)
		return -ENOMEM;
	g->refs = 1;
	g->flags = flags;
	g->event_flags = event_flags;
	g->unprivileged = unprivileged;
	waitq_init(&g->wq);
	waitq_init(&g->answers);
	list_init(&g->queue);
	list_init(&g->waiting);
	list_init(&g->marks);
	list_init(&g->touched);
	int err = notify_user_get(uid, USE_FAN_GROUPS, fanotify_max_user_groups, &g->user);
	if (err) {
		free(g);
		return err;
	}
	struct inode *in = anon_inode_new(0600, NULL, NULL);
	int nonblock = flags & FAN_NONBLOCK ? O_NONBLOCK : 0;
	err = in ? file_new_anon(in, "anon_inode:[fanotify]", &fanotify_ops, g, O_RDWR | nonblock,
				 out)
		 : -ENOMEM;
	if (err)
		fan_group_close(g);
	return err;
}

void fanotify_enable(void)
{
	notify_asker = fan_ask;
}
