#include "sentry/lib/waitq.h"

#include <poll.h>

#define WAITQ_LEVELS 6

static struct lock_class *const level_class[WAITQ_LEVELS] = {
	&lc_waitq, &lc_waitq1, &lc_waitq2, &lc_waitq3, &lc_waitq4, &lc_waitq5,
};

/* A queue's level may rise while it is locked: lock and unlock must name the same class. */
static struct lock_class *queue_lock(struct waitq *q) NO_LOCK_ANALYSIS
{
	struct lock_class *c = level_class[q->level % WAITQ_LEVELS];
	mutex_lock(&q->lock, c);
	return c;
}

void waitq_init(struct waitq *q)
{
	atomic_init(&q->level, 0);
	mutex_init(&q->lock);
	list_init(&q->waiters);
}

void waitq_add(struct waitq *q, struct waiter *w, uint32_t mask) NO_LOCK_ANALYSIS
{
	w->q = q;
	w->mask = mask | POLLERR | POLLHUP;
	struct lock_class *c = queue_lock(q);
	list_add_tail(&w->node, &q->waiters);
	mutex_unlock(&q->lock, c);
}

void waitq_remove(struct waiter *w) NO_LOCK_ANALYSIS
{
	struct waitq *q = w->q;
	if (!q)
		return;
	struct lock_class *c = queue_lock(q);
	list_del(&w->node);
	mutex_unlock(&q->lock, c);
	w->q = NULL;
}

static void notify(struct waitq *q, uint32_t events, bool only_one) NO_LOCK_ANALYSIS
{
	struct waiter *w, *tmp;

	struct lock_class *c = queue_lock(q);
	list_for_each_safe (w, tmp, &q->waiters, node) {
		if (!(w->mask & events))
			continue;
		w->notify(w, events);
		if (only_one)
			break;
	}
	mutex_unlock(&q->lock, c);
}

void waitq_notify(struct waitq *q, uint32_t events)
{
	notify(q, events, false);
}

void waitq_notify_one(struct waitq *q, uint32_t events)
{
	notify(q, events, true);
}
