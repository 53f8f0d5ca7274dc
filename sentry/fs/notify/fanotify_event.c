/* Which groups an event is for, what it tells them, and their queues. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>

#include "sentry/fs/notify/fanotify_impl.h"

/* An event is compared with so many of the last ones, to be one with them. */
#define MERGE_MAX 128
/* As long as an unlimited queue gets. */
#define QUEUE_MAX 262144
#define ENTRY_EVENTS (FAN_CREATE | FAN_DELETE | FAN_MOVE | FAN_RENAME)
#define EVENT_FLAGS (FAN_ONDIR | FAN_EVENT_ON_CHILD)

static struct list_head touched = LIST_HEAD_INIT(touched); /* groups that heard of it */

/* ---- what marks say ---- */

/* The events that a mark makes its group not hear of, in that role. */
static uint32_t ignored_by(const struct fan_mark *m, bool dir, enum notify_role role)
{
	uint32_t mask = m->ignored;

	/* The older kind of ignore mask is for directories too, and for entries as the mask is. */
	if (!(m->flags & FAN_MARK_IGNORE))
		mask |= FAN_ONDIR | (m->mask & FAN_EVENT_ON_CHILD);
	if ((dir && !(mask & FAN_ONDIR)) || (role == NOTIFY_CHILD && !(mask & FAN_EVENT_ON_CHILD)))
		return 0;
	return mask & ~EVENT_FLAGS;
}

bool fan_hear(struct notify_mark *nm, const struct notify_event *e, enum notify_role role)
{
	struct fan_mark *m = container_of(nm, struct fan_mark, mark);
	struct fan_group *g = m->group;
	bool dir = e->mask & IN_ISDIR;

	if (e->mask & FAN_MODIFY && !(m->flags & FAN_MARK_IGNORED_SURV_MODIFY))
		m->ignored = 0;
	if (list_empty(&g->touched)) {
		list_add_tail(&g->touched, &touched);
		g->want = g->ignore = g->roles = 0;
	}
	g->ignore |= ignored_by(m, dir, role);
	if ((role == NOTIFY_CHILD && !(m->mask & FAN_EVENT_ON_CHILD)) ||
	    (dir && !(m->mask & FAN_ONDIR)))
		return true;
	g->want |= m->mask;
	g->roles |= 1u << role;
	g->fsid = m->fsid;
	return true;
}

/* What the group is told of the event; 0: nothing. */
static uint32_t mask_for(const struct fan_group *g, const struct notify_event *e)
{
	uint32_t mask = e->mask & g->want & ~g->ignore & ~EVENT_FLAGS;

	if (!mask || !e->inode)
		return 0;
	if (!(g->flags & FAN_FID_BITS)) {
		/* The event is a file that is opened. */
		bool opens = e->path && (S_ISREG(e->inode->mode) || inode_is_dir(e->inode));
		return opens ? mask : 0;
	}
	if (!(g->flags & FAN_REPORT_FID) && !e->dir && !(e->mask & IN_ISDIR))
		return 0;
	return mask | (e->mask & IN_ISDIR ? FAN_ONDIR : 0);
}

/* ---- what an event says of files ---- */

static bool fid_set(struct fan_fid *f, const struct inode *in, const char *name, size_t len)
{
	*f = (struct fan_fid){.there = true, .ino = in->ino};
	if (!name)
		return true;
	f->name = malloc(len + 1);
	if (!f->name)
		return false;
	memcpy(f->name, name, len);
	f->name[len] = '\0';
	f->name_len = (uint16_t)len;
	return true;
}

static bool fids_of_rename(struct fan_event *v, const struct fan_group *g,
			   const struct notify_event *e)
{
	unsigned both = 1u << NOTIFY_ON_SUPER;

	if (g->roles & (both | 1u << NOTIFY_ENTRY) &&
	    !fid_set(&v->dir, e->dir, e->name, e->name_len))
		return false;
	return !(g->roles & (both | 1u << NOTIFY_NEW_ENTRY)) ||
	       fid_set(&v->new_dir, e->new_dir, e->new_name, e->new_name_len);
}

/* The records of a group that reports file handles: fanotify_init(2). */
static bool fids_of(struct fan_event *v, const struct fan_group *g, const struct notify_event *e)
{
	bool entry = e->mask & ENTRY_EVENTS;
	const struct inode *object =
		entry && !(g->flags & FAN_REPORT_TARGET_FID) ? e->dir : e->inode;
	const struct inode *dir = !entry && inode_is_dir(e->inode) ? e->inode : e->dir;
	bool named = g->flags & FAN_REPORT_NAME && (entry || !(e->mask & IN_ISDIR)) && e->name;

	if (!(g->flags & FAN_REPORT_DIR_FID) || !dir)
		return fid_set(&v->object, object, NULL, 0);
	bool child = g->flags & FAN_REPORT_FID && object != dir;
	if (e->mask & FAN_RENAME) {
		if (!fids_of_rename(v, g, e))
			return false;
	} else if (!named && !child) {
		return fid_set(&v->object, dir, NULL, 0);
	} else if (!fid_set(&v->dir, dir, named ? e->name : NULL, e->name_len)) {
		return false;
	}
	return !child || fid_set(&v->object, object, NULL, 0);
}

/* ---- queues ---- */

void fan_event_free(struct fan_event *v)
{
	if (!v)
		return;
	if (v->path.mnt)
		path_put(v->path);
	thread_group_put(v->tg);
	free(v->dir.name);
	free(v->new_dir.name);
	free(v->object.name);
	free(v);
}

void fan_event_put(struct fan_event *v)
{
	mutex_lock(&notify_lock, &lc_notify);
	bool last = --v->refs == 0;
	mutex_unlock(&notify_lock, &lc_notify);
	if (last)
		fan_event_free(v);
}

static bool same_fid(const struct fan_fid *a, const struct fan_fid *b)
{
	return a->there == b->there && a->ino == b->ino && a->name_len == b->name_len &&
	       !a->name == !b->name && (!a->name || !memcmp(a->name, b->name, a->name_len));
}

static bool can_merge(const struct fan_event *a, const struct fan_event *b)
{
	return !fan_is_question(a) && !fan_is_question(b) && a->pid == b->pid && a->tg == b->tg &&
	       !((a->mask ^ b->mask) & (FAN_ONDIR | FAN_RENAME)) && a->fsid == b->fsid &&
	       !((a->mask | b->mask) & FAN_Q_OVERFLOW) && a->path.mnt == b->path.mnt &&
	       a->path.dentry == b->path.dentry && same_fid(&a->dir, &b->dir) &&
	       same_fid(&a->new_dir, &b->new_dir) && same_fid(&a->object, &b->object);
}

/* The event, with all that it holds, is one with another that is still in the queue. */
static bool merge(const struct fan_group *g, const struct fan_event *v) REQUIRES(lc_notify)
{
	struct list_head *p = g->queue.prev;

	for (int i = 0; p != &g->queue && i < MERGE_MAX; p = p->prev, i++) {
		struct fan_event *old = container_of(p, struct fan_event, node);
		if (can_merge(old, v)) {
			old->mask |= v->mask;
			return true;
		}
	}
	return false;
}

static void overflow(struct fan_group *g) REQUIRES(lc_notify)
{
	struct fan_event *v = g->overflown ? NULL : calloc(1, sizeof(*v));

	if (!v)
		return;
	v->refs = 1;
	v->mask = FAN_Q_OVERFLOW;
	list_init(&v->asked);
	list_add_tail(&v->node, &g->queue);
	g->nqueued++;
	g->overflown = true;
	waitq_notify(&g->wq, POLLIN | POLLRDNORM);
}

static void fill_actor(struct fan_event *v, const struct fan_group *g)
{
	const struct task *t = task_current();

	if (!t)
		return;
	v->pid = g->flags & FAN_REPORT_TID ? t->tid : t->tg->tgid;
	if (g->flags & FAN_REPORT_PIDFD)
		v->tg = thread_group_get(t->tg);
}

static struct fan_event *event_new(const struct fan_group *g, const struct notify_event *e,
				   uint32_t mask)
{
	struct fan_event *v = calloc(1, sizeof(*v));

	if (!v)
		return NULL;
	v->refs = 1;
	v->mask = mask;
	v->fd = FAN_NOFD;
	v->fsid = g->fsid;
	fill_actor(v, g);
	list_init(&v->asked);
	if (g->flags & FAN_FID_BITS) {
		if (!fids_of(v, g, e)) {
			fan_event_free(v);
			return NULL;
		}
	} else {
		v->path = path_get(*e->path);
	}
	return v;
}

/* A question goes to who asked to be asked, and to the one who waits for the answer. */
static void ask(struct fan_group *g, const struct notify_event *e, struct fan_event *v)
	REQUIRES(lc_notify)
{
	v->asker = g;
	g->refs++;
	list_add_tail(&v->asked, e->asked);
}

static void tell_group(struct fan_group *g, const struct notify_event *e, uint32_t mask)
	REQUIRES(lc_notify)
{
	int limit = g->flags & FAN_UNLIMITED_QUEUE ? QUEUE_MAX : fanotify_max_queued_events;
	bool room = g->nqueued < limit;
	struct fan_event *v = room || e->asked ? event_new(g, e, mask) : NULL;

	if (!v) {
		overflow(g);
		return;
	}
	if (e->asked) {
		ask(g, e, v);
	} else if (merge(g, v)) {
		/* The reporter holds what it refers to, so that nothing goes here. */
		fan_event_free(v);
		return;
	}
	list_add_tail(&v->node, &g->queue);
	g->nqueued++;
	waitq_notify(&g->wq, POLLIN | POLLRDNORM);
}

void fan_finish(const struct notify_event *e)
{
	while (!list_empty(&touched)) {
		struct fan_group *g = list_first(&touched, struct fan_group, touched);
		list_del(&g->touched);
		uint32_t mask = mask_for(g, e);
		if (mask)
			tell_group(g, e, mask);
	}
}
