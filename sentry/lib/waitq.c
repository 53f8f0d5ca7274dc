#include "sentry/lib/waitq.h"

#include <poll.h>

void waitq_init(struct waitq *q)
{
	mutex_init(&q->lock);
	list_init(&q->waiters);
}

void waitq_add(struct waitq *q, struct waiter *w, uint32_t mask)
{
	w->q = q;
	w->mask = mask | POLLERR | POLLHUP;
	mutex_lock(&q->lock, &lc_waitq);
	list_add_tail(&w->node, &q->waiters);
	mutex_unlock(&q->lock, &lc_waitq);
}

void waitq_remove(struct waiter *w)
{
	struct waitq *q = w->q;
	if (!q)
		return;
	mutex_lock(&q->lock, &lc_waitq);
	list_del(&w->node);
	mutex_unlock(&q->lock, &lc_waitq);
	w->q = NULL;
}

static void notify(struct waitq *q, uint32_t events, bool only_one)
{
	struct waiter *w, *tmp;

	mutex_lock(&q->lock, &lc_waitq);
	list_for_each_safe(w, tmp, &q->waiters, node) {
		if (!(w->mask & events))
			continue;
		w->notify(w, events);
		if (only_one)
			break;
	}
	mutex_unlock(&q->lock, &lc_waitq);
}

void waitq_notify(struct waitq *q, uint32_t events)
{
	notify(q, events, false);
}

void waitq_notify_one(struct waitq *q, uint32_t events)
{
	notify(q, events, true);
}
