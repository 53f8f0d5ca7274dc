/*
 * Sentry timers: one-shot callbacks at a point of CLOCK_MONOTONIC.
 *
 * One host thread sleeps until the earliest deadline; with no timer armed it sleeps for ever (an
 * idle sandbox uses no CPU).  fn runs on that thread, without locks, and must not block: it wakes a
 * task, sends a signal, notifies a queue.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "sentry/lib/rbtree.h"

#define NSEC_PER_SEC 1000000000LL
#define TIME_NEVER INT64_MAX

struct ktimer {
	struct rb_node node;
	int64_t deadline; /* ns, CLOCK_MONOTONIC */
	void (*fn)(struct ktimer *t);
	bool queued;	     /* guarded by lc_timer, as node, deadline and cancelling */
	unsigned cancelling; /* threads in ktimer_cancel: arming is void meanwhile */
};

int ktimer_start_thread(void);
void ktimer_init(struct ktimer *t, void (*fn)(struct ktimer *));
void ktimer_arm(struct ktimer *t, int64_t deadline); /* replaces an earlier deadline */
/* Returns true if it was armed and had not fired.  Waits for a running callback: never call it from
 * one, nor with a lock that fn takes.  Afterwards nothing refers to the timer, which may be freed.
 */
bool ktimer_cancel(struct ktimer *t);

int64_t time_monotonic(void); /* ns */
int64_t time_realtime(void);
int64_t time_boottime(void);
