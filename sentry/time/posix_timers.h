/*
 * Timers of a process: alarm and interval timers (setitimer(2)), POSIX timers (timer_create(2)),
 * and RLIMIT_CPU (setrlimit(2)).
 *
 * A timer whose signal is queued does not run on: it is armed again when the signal is taken, and
 * what it missed is counted as overruns then.  So a timer can have at most one queued signal, and a
 * tiny interval costs nothing while its signal is blocked.
 *
 * CPU-time clocks belong to the host's threads.  Timers on them are polled: at the earliest time
 * at which they could be due, and with growing pauses while the process does not run.
 *
 * Locking: everything hangs off thread_group.timers and is guarded by its siglock; callbacks of
 * ktimers run without locks and take it.  Functions that cancel a ktimer need siglock free.
 */
#pragma once

#include <signal.h>
#include <stdint.h>

#include "sentry/kernel/task.h"

struct posix_timer;

/* Times of setitimer and timer_settime, ns; value 0: disarmed. */
struct itimer_ns {
	int64_t value, interval;
};

/* ---- interval timers ---- */
/* which: ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF (checked by the caller).  -ENOMEM. */
int itimer_set(struct task *t, int which, const struct itimer_ns *new,
	       struct itimer_ns *old) MUST_CHECK;
void itimer_get(struct task *t, int which, struct itimer_ns *out);

/* ---- POSIX timers ---- */
/* The guest's struct sigevent. */
struct linux_sigevent {
	uint64_t value;
	int32_t signo;
	int32_t notify; /* SIGEV_* */
	int32_t tid;
	int32_t pad[11];
};
_Static_assert(sizeof(struct linux_sigevent) == 64, "sigevent");

/* ev NULL: SIGALRM with the id as value.  -EINVAL, -EAGAIN (RLIMIT_SIGPENDING), -EOPNOTSUPP,
 * -ENOMEM; *id is shown to the guest by the caller, who deletes the timer when that fails. */
int posix_timer_create(struct task *t, int clock, const struct linux_sigevent *ev,
		       int *id) MUST_CHECK;
int posix_timer_settime(struct task *t, int id, bool absolute, const struct itimer_ns *new,
			struct itimer_ns *old) MUST_CHECK;
int posix_timer_gettime(struct task *t, int id, struct itimer_ns *out) MUST_CHECK;
int posix_timer_getoverrun(struct task *t, int id) MUST_CHECK;
int posix_timer_delete(struct task *t, int id) MUST_CHECK;

/* What /proc/PID/timers shows of one; target: the process's or thread's number in its namespace. */
struct posix_timer_info {
	int id, clock, signo, notify, target;
	uint64_t value;
};
/* Calls fn for each, under siglock. */
void posix_timers_each(struct thread_group *tg, void (*fn)(const struct posix_timer_info *, void *),
		       void *arg);

/* ---- CPU time ---- */
/* RLIMIT_CPU was set, or a program with such a limit starts. */
void cpu_limit_changed(struct thread_group *tg);

/* ---- life ---- */
void posix_timers_exec(struct thread_group *tg); /* POSIX timers go, interval timers stay */
void posix_timers_exit(struct thread_group *tg); /* all threads are gone: nothing fires any more */
void posix_timers_free(struct posix_timers *pt); /* after posix_timers_exit; NULL is fine */

/* ---- for signal.c ---- */
/* The signal of this timer was taken: completes info and arms it again. */
void posix_timer_dequeued(struct posix_timer *timer, ksiginfo *info) REQUIRES(lc_signal);
/* Its queued signal was thrown away: it became ignored. */
void posix_timer_discarded(struct posix_timer *timer) REQUIRES(lc_signal);
/* A SIGALRM of the group was taken, or thrown away. */
void itimer_real_dequeued(struct thread_group *tg) REQUIRES(lc_signal);
