/*
 * Timers on CPU time.  The host keeps CPU time and would have to be asked to signal it, so they are
 * polled: not before the group could have used what is left, on all the CPUs at once.
 */
#include <errno.h>
#include <sys/time.h>

#include "sentry/time/timers_internal.h"

#define POLL_MIN (500 * 1000LL)
#define PAUSE_MAX (100 * 1000 * 1000LL)

static void send_kernel(struct thread_group *tg, int signo) REQUIRES(lc_signal)
{
	ksiginfo info;

	signal_info_kernel(&info, signo);
	(void)signal_send_locked(tg, NULL, &info, NULL);
}

/* Each check returns the CPU time still to be used before it has something to do. */
static int64_t check_itimer(struct posix_timers *pt, int which, int64_t used) REQUIRES(lc_signal)
{
	int64_t *expires = &pt->cpu[which - ITIMER_VIRTUAL].expires;
	int64_t interval = pt->cpu[which - ITIMER_VIRTUAL].interval;

	if (!*expires)
		return TIME_NEVER;
	if (*expires <= used) {
		send_kernel(pt->tg, which == ITIMER_VIRTUAL ? SIGVTALRM : SIGPROF);
		if (!interval) {
			*expires = 0;
			return TIME_NEVER;
		}
		timer_forward(expires, interval, used);
	}
	return *expires - used;
}

/* setrlimit(2): SIGXCPU at the soft limit and each second after it, SIGKILL at the hard one. */
static int64_t check_limit(struct posix_timers *pt, int64_t used) REQUIRES(lc_signal)
{
	struct thread_group *tg = pt->tg;
	uint64_t soft = __atomic_load_n(&tg->rlimit[RLIMIT_CPU].cur, __ATOMIC_RELAXED);
	uint64_t hard = __atomic_load_n(&tg->rlimit[RLIMIT_CPU].max, __ATOMIC_RELAXED);

	if (soft >= INT64_MAX / NSEC_PER_SEC)
		return TIME_NEVER;
	if (!pt->cpu_soft)
		pt->cpu_soft = (int64_t)soft * NSEC_PER_SEC;
	int64_t next = pt->cpu_soft;
	if (hard < INT64_MAX / NSEC_PER_SEC) {
		int64_t end = (int64_t)hard * NSEC_PER_SEC;
		if (end <= used) {
			signal_group_exit_locked(tg, SIGKILL);
			return TIME_NEVER;
		}
		next = MIN(next, end);
	}
	if (pt->cpu_soft <= used) {
		send_kernel(tg, SIGXCPU);
		pt->cpu_soft = next = used + NSEC_PER_SEC;
	}
	return next - used;
}

static int64_t check_posix_timer(struct posix_timer *timer, int64_t now) REQUIRES(lc_signal)
{
	if (!timer->armed)
		return TIME_NEVER;
	if (timer->expires <= now)
		posix_timer_expire(timer, now);
	return timer->armed ? timer->expires - now : TIME_NEVER;
}

static struct posix_timer *next_cpu_timer(struct posix_timers *pt, int after) REQUIRES(lc_signal)
{
	struct rb_node *n;

	rb_for_each (n, &pt->by_id) {
		struct posix_timer *timer = rb_entry(n, struct posix_timer, node);
		if (timer->id > after && timer->armed && timer->notify != SIGEV_NONE &&
		    timer->clock.kind != GUEST_CLOCK_WALL)
			return timer;
	}
	return NULL;
}

/* The POSIX timers on CPU clocks, one at a time: their clocks are read without siglock. */
static int64_t check_posix_timers(struct posix_timers *pt, int64_t used) REQUIRES(lc_signal)
{
	struct thread_group *tg = pt->tg;
	struct posix_timer *timer;
	int64_t left = TIME_NEVER;

	for (int id = -1; (timer = next_cpu_timer(pt, id));) {
		id = timer->id;
		if (timer->clock.kind == GUEST_CLOCK_PROCESS && timer->clock.tg == tg) {
			left = MIN(left, check_posix_timer(timer, used));
			continue;
		}
		int64_t now = posix_timer_read_clock(timer);
		timer = posix_timer_lookup(pt, id);
		if (timer && now < 0)
			timer->armed = false;
		else if (timer)
			left = MIN(left, check_posix_timer(timer, now));
	}
	return left;
}

void cpu_timers_poll(struct ktimer *kt)
{
	struct posix_timers *pt = container_of(kt, struct posix_timers, cpu_kt);
	struct thread_group *tg = pt->tg;
	int64_t used = thread_group_cpu_time(tg), user = thread_group_times(tg).user;

	mutex_lock(&tg->siglock, &lc_signal);
	int64_t left =
		MIN(check_itimer(pt, ITIMER_VIRTUAL, user), check_itimer(pt, ITIMER_PROF, used));
	left = MIN(left, check_limit(pt, used));
	left = MIN(left, check_posix_timers(pt, used));
	if (left != TIME_NEVER && !atomic_load(&tg->exiting)) {
		int64_t delay = MAX(left / (int64_t)kernel->ncpus, POLL_MIN);
		/* A process that sleeps is not asked often. */
		pt->cpu_pause =
			used == pt->cpu_last ? MIN(pt->cpu_pause * 2 + delay, PAUSE_MAX) : 0;
		pt->cpu_last = used;
		ktimer_arm(&pt->cpu_kt, time_add(time_monotonic(), MAX(delay, pt->cpu_pause)));
	}
	mutex_unlock(&tg->siglock, &lc_signal);
}

void cpu_timers_kick(struct posix_timers *pt)
{
	pt->cpu_pause = 0;
	pt->cpu_last = -1;
	ktimer_arm(&pt->cpu_kt, time_monotonic());
}

void cpu_limit_changed(struct thread_group *tg)
{
	if (__atomic_load_n(&tg->rlimit[RLIMIT_CPU].cur, __ATOMIC_RELAXED) == RLIM_K_INFINITY)
		return;
	struct posix_timers *pt = posix_timers_obtain(tg);
	if (!pt)
		return; /* no memory: the limit is not enforced, which harms the guest's owner only
			 */
	mutex_lock(&tg->siglock, &lc_signal);
	pt->cpu_soft = 0;
	cpu_timers_kick(pt);
	mutex_unlock(&tg->siglock, &lc_signal);
}
