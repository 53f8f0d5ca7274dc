/* timers_internal.h - the state that itimer.c, posix_timers.c and cpu_timers.c share. */
#pragma once

#include "sentry/kernel/signal_queue.h"
#include "sentry/time/clock.h"
#include "sentry/time/ktimer.h"
#include "sentry/time/posix_timers.h"

/* A periodic timer whose signal is ignored, or that polls, fires no more often than this. */
#define TIMER_TICK (4 * 1000 * 1000LL)

/* thread_group.timers, made when first needed; siglock. */
struct posix_timers {
	struct thread_group *tg; /* borrowed: it owns us */
	struct rb_root by_id;	 /* of struct posix_timer */
	int last_id;

	struct {
		struct ktimer kt;
		int64_t deadline; /* CLOCK_MONOTONIC; 0: disarmed */
		int64_t interval;
		bool waiting; /* it is armed again when its signal is taken */
	} real;

	struct {
		int64_t expires; /* CPU time of the group; 0: disarmed */
		int64_t interval;
	} cpu[2]; /* ITIMER_VIRTUAL, ITIMER_PROF */

	struct ktimer cpu_kt; /* the next poll */
	int64_t cpu_last;     /* CPU time at the last poll */
	int64_t cpu_pause;    /* current pause of a process that does not run */
	int64_t cpu_soft;     /* RLIMIT_CPU: SIGXCPU at this CPU time; 0: not set up yet */
};

struct posix_timer {
	struct rb_node node;
	int id;
	struct thread_group *tg; /* borrowed: it owns us */
	struct guest_clock clock;
	int notify; /* SIGEV_* */
	int tid;    /* SIGEV_THREAD_ID */
	struct sigqueue entry;
	struct ktimer kt; /* wall clocks */
	int64_t expires;  /* the clock's time */
	int64_t interval;
	bool armed;
	bool waiting; /* periodic: armed again when its signal is taken */
	int64_t overrun;
	int overrun_last;
};

/* The group's state, made if it is not there; NULL: no memory.  siglock is free. */
struct posix_timers *posix_timers_obtain(struct thread_group *tg);
/* Has the CPU-time poller look soon: something was armed. */
void cpu_timers_kick(struct posix_timers *pt);
void cpu_timers_poll(struct ktimer *kt);
/* The timer's time has come; `now` by its clock. */
void posix_timer_expire(struct posix_timer *timer, int64_t now) REQUIRES(lc_signal);
/* A CPU clock's time, -1 when another process that it is of has ended; lets go of siglock
 * meanwhile, so that the timer is to be looked up again. */
int64_t posix_timer_read_clock(const struct posix_timer *timer) REQUIRES(lc_signal);
struct posix_timer *posix_timer_lookup(struct posix_timers *pt, int id) REQUIRES(lc_signal);
/* Moves on from an expiry that was acted on to the next one after `now`; returns how many in
 * between were missed. */
static inline int64_t timer_forward(int64_t *expires, int64_t interval, int64_t now)
{
	if (now < *expires)
		return 0;
	int64_t missed = (now - *expires) / interval, n = missed + 1;
	int64_t step;
	if (__builtin_mul_overflow(n, interval, &step))
		*expires = TIME_NEVER;
	else
		*expires = time_add(*expires, step);
	return missed;
}
