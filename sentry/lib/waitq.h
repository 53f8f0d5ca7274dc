/*
 * Wait queues: "tell me when this may have changed".
 *
 * A waiter registers, then checks the condition, then sleeps; whoever changes the condition
 * notifies.  A notification is a hint: the waiter checks again.  Objects that can be polled own
 * one waitq; the event bits are poll(2)'s (POLLIN, POLLOUT, POLLHUP, POLLERR, …).
 *
 * notify() runs with the queue locked, on whatever thread made the change: it may set flags and
 * make a fiber runnable, and must neither block nor take a lock above lc_waitq nor touch the
 * queue.  After waitq_remove() returns, notify() will not be called again.
 */
#pragma once

#include "sentry/lib/list.h"
#include "sentry/lib/lock.h"

struct waitq {
	struct mutex lock;
	struct list_head waiters; /* of struct waiter; guarded by lock (lc_waitq) */
	_Atomic uint8_t level;	  /* 0; higher for queues notified from other queues' notify():
				     names the lock class.  Only epoll.c changes it */
};

struct waiter {
	struct list_head node;
	struct waitq *q; /* the queue that it is on, or NULL; owner only */
	uint32_t mask;	 /* events it wants; POLLERR and POLLHUP are always wanted */
	void (*notify)(struct waiter *w, uint32_t events);
};

void waitq_init(struct waitq *q);
void waitq_add(struct waitq *q, struct waiter *w, uint32_t mask);
void waitq_remove(struct waiter *w);			 /* harmless when not queued */
void waitq_notify(struct waitq *q, uint32_t events);	 /* every waiter whose mask matches */
void waitq_notify_one(struct waitq *q, uint32_t events); /* the first that matches (FIFO) */
