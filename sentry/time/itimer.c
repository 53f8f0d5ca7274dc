/* Interval timers, and the life of a group's timers.  Source: getitimer(2), alarm(2). */
#include <errno.h>
#include <stdlib.h>
#include <sys/time.h>

#include "sentry/lib/cleanup.h"
#include "sentry/time/timers_internal.h"

static void real_fire(struct ktimer *kt)
{
	struct posix_timers *pt = container_of(kt, struct posix_timers, real.kt);
	struct thread_group *tg = pt->tg;
	int64_t now = time_monotonic();
	ksiginfo info;

	mutex_lock(&tg->siglock, &lc_signal);
	/* It may have been set anew since it fired. */
	if (pt->real.deadline && !pt->real.waiting && pt->real.deadline <= now) {
		signal_info_kernel(&info, SIGALRM);
		int sent = signal_send_locked(tg, NULL, &info, NULL);
		if (!pt->real.interval) {
			pt->real.deadline = 0;
		} else if (sent == SIGNAL_IGNORED) {
			timer_forward(&pt->real.deadline, pt->real.interval, now);
			ktimer_arm(kt, MAX(pt->real.deadline, now + TIMER_TICK));
		} else {
			pt->real.waiting = true;
		}
	}
	mutex_unlock(&tg->siglock, &lc_signal);
}

void itimer_real_dequeued(struct thread_group *tg)
{
	struct posix_timers *pt = tg->timers;

	if (!pt || !pt->real.waiting)
		return;
	pt->real.waiting = false;
	timer_forward(&pt->real.deadline, pt->real.interval, time_monotonic());
	ktimer_arm(&pt->real.kt, pt->real.deadline);
}

struct posix_timers *posix_timers_obtain(struct thread_group *tg)
{
	mutex_lock(&tg->siglock, &lc_signal);
	struct posix_timers *pt = tg->timers;
	mutex_unlock(&tg->siglock, &lc_signal);
	if (pt)
		return pt;

	struct posix_timers *fresh = calloc(1, sizeof(*fresh));
	if (!fresh)
		return NULL;
	fresh->tg = tg;
	ktimer_init(&fresh->real.kt, real_fire);
	ktimer_init(&fresh->cpu_kt, cpu_timers_poll);
	mutex_lock(&tg->siglock, &lc_signal);
	if (!tg->timers)
		tg->timers = steal(fresh);
	pt = tg->timers;
	mutex_unlock(&tg->siglock, &lc_signal);
	free(fresh);
	return pt;
}

/* Expiry as "time left": what has expired but not been seen yet shows as the shortest time. */
static int64_t time_left(int64_t expires, int64_t now)
{
	if (!expires)
		return 0;
	return MAX(expires - now, 1000LL);
}

static void get_locked(const struct posix_timers *pt, int which, int64_t now, struct itimer_ns *out)
	REQUIRES(lc_signal)
{
	if (which == ITIMER_REAL) {
		out->value = pt->real.waiting ? 0 : time_left(pt->real.deadline, now);
		out->interval = pt->real.interval;
	} else {
		out->value = time_left(pt->cpu[which - ITIMER_VIRTUAL].expires, now);
		out->interval = pt->cpu[which - ITIMER_VIRTUAL].interval;
	}
}

static int64_t itimer_now(struct thread_group *tg, int which)
{
	switch (which) {
	case ITIMER_REAL:
		return time_monotonic();
	case ITIMER_VIRTUAL:
		return thread_group_times(tg).user;
	}
	return thread_group_cpu_time(tg);
}

void itimer_get(struct task *t, int which, struct itimer_ns *out)
{
	struct thread_group *tg = t->tg;
	int64_t now = itimer_now(tg, which);

	*out = (struct itimer_ns){0};
	mutex_lock(&tg->siglock, &lc_signal);
	if (tg->timers)
		get_locked(tg->timers, which, now, out);
	mutex_unlock(&tg->siglock, &lc_signal);
}

int itimer_set(struct task *t, int which, const struct itimer_ns *new, struct itimer_ns *old)
{
	struct thread_group *tg = t->tg;
	struct posix_timers *pt = posix_timers_obtain(tg);
	int64_t now = itimer_now(tg, which);

	if (!pt)
		return -ENOMEM;
	mutex_lock(&tg->siglock, &lc_signal);
	if (old)
		get_locked(pt, which, now, old);
	int64_t expires = new->value ? time_add(now, new->value) : 0;
	int64_t interval = new->value ? new->interval : 0;
	if (which == ITIMER_REAL) {
		pt->real.deadline = expires;
		pt->real.interval = interval;
		pt->real.waiting = false;
		if (expires)
			ktimer_arm(&pt->real.kt, expires);
	} else {
		pt->cpu[which - ITIMER_VIRTUAL].expires = expires;
		pt->cpu[which - ITIMER_VIRTUAL].interval = interval;
		if (expires)
			cpu_timers_kick(pt);
	}
	/* A disarmed timer's ktimer may fire once more, for nothing: cancelling it here would race
	 * with a sibling that arms it. */
	mutex_unlock(&tg->siglock, &lc_signal);
	return 0;
}

void posix_timers_exit(struct thread_group *tg)
{
	struct posix_timers *pt = tg->timers;

	posix_timers_exec(tg);
	if (!pt)
		return;
	ktimer_cancel(&pt->real.kt);
	ktimer_cancel(&pt->cpu_kt);
}

void posix_timers_free(struct posix_timers *pt)
{
	if (!pt)
		return;
	/* prlimit(2) on a zombie may have armed the poller once more. */
	ktimer_cancel(&pt->real.kt);
	ktimer_cancel(&pt->cpu_kt);
	free(pt);
}
