/*
 * A lock that a task may hold where mutexes are forbidden: across copies from and to guest memory
 * and host I/O.  Whoever finds it held sleeps on its queue as a task, so no worker is blocked.
 * Not ordered by lock_order.h: a task that holds one takes another only where a comment says so.
 * Tasks acquire it with task_sleep_lock() (sentry/kernel/task.h).
 */
#pragma once

#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "sentry/lib/waitq.h"

struct sleep_lock {
	_Atomic uint32_t held;
	_Atomic uint32_t sleepers;
	struct waitq wq;
};

static inline void sleep_lock_init(struct sleep_lock *l)
{
	atomic_init(&l->held, 0);
	atomic_init(&l->sleepers, 0);
	waitq_init(&l->wq);
}

static inline bool sleep_lock_try(struct sleep_lock *l)
{
	uint32_t expected = 0;
	return atomic_compare_exchange_strong(&l->held, &expected, 1);
}

static inline void sleep_lock_release(struct sleep_lock *l)
{
	atomic_store(&l->held, 0);
	if (atomic_load(&l->sleepers))
		waitq_notify(&l->wq, POLLIN);
}
