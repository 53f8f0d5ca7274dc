/* Clocks, sleeping and timers: clock_gettime(2), nanosleep(2), getitimer(2), timer_create(2). */
#include <errno.h>
#include <linux/capability.h>
#include <sys/time.h>
#include <sys/times.h>
#include <time.h>

#include "sentry/time/clock.h"
#include "sentry/time/posix_timers.h"
#include "syscalls/syscalls.h"

#define NSEC_PER_USEC 1000
#define USEC_PER_SEC 1000000
#define NSEC_PER_TICK (NSEC_PER_SEC / 100) /* clock_t: sysconf(_SC_CLK_TCK) is 100 */

/* ---- reading ---- */

long sys_clock_gettime(struct task *t, int clock, uaddr_t uts)
{
	struct guest_clock c;
	int err = guest_clock_lookup(t, clock, &c);

	if (err)
		return err;
	struct timespec ts = ns_to_timespec(guest_clock_now(&c));
	guest_clock_fini(&c);
	return copy_out_last_val(&t->um, uts, &ts);
}

long sys_clock_getres(struct task *t, int clock, uaddr_t uts)
{
	struct guest_clock c;
	int err = guest_clock_lookup(t, clock, &c);

	if (err)
		return err;
	struct timespec ts = ns_to_timespec(guest_clock_resolution(&c));
	guest_clock_fini(&c);
	return uaddr_is_null(uts) ? 0 : copy_out_last_val(&t->um, uts, &ts);
}

/* The host's clocks are not the guest's to set; what Linux checks before that, we check. */
long sys_clock_settime(struct task *t, int clock, uaddr_t uts)
{
	struct timespec ts;

	if (clock != CLOCK_REALTIME)
		return -EINVAL;
	if (copy_in_val(&t->um, &ts, uts))
		return -EFAULT;
	if (ts.tv_sec < 0 || ts.tv_nsec < 0 || ts.tv_nsec >= NSEC_PER_SEC)
		return -EINVAL;
	return -EPERM;
}

long sys_gettimeofday(struct task *t, uaddr_t utv, uaddr_t utz)
{
	int64_t now = time_realtime();
	struct timeval tv = {.tv_sec = now / NSEC_PER_SEC,
			     .tv_usec = now % NSEC_PER_SEC / NSEC_PER_USEC};
	struct timezone tz = {0};
	int err;

	if (!uaddr_is_null(utv) && (err = copy_out_val(&t->um, utv, &tv)))
		return err;
	return uaddr_is_null(utz) ? 0 : copy_out_last_val(&t->um, utz, &tz);
}

long sys_time(struct task *t, uaddr_t tloc)
{
	int64_t now = time_realtime() / NSEC_PER_SEC;

	if (!uaddr_is_null(tloc) && copy_out_val(&t->um, tloc, &now))
		return -EFAULT;
	return now;
}

long sys_times(struct task *t, uaddr_t buf)
{
	struct rusage self, children;
	struct tms tms;

	if (!uaddr_is_null(buf)) {
		task_rusage(t->tg, NULL, RUSAGE_SELF, &self);
		task_rusage(t->tg, NULL, RUSAGE_CHILDREN, &children);
#define TICKS(tv) (((tv).tv_sec * NSEC_PER_SEC + (tv).tv_usec * NSEC_PER_USEC) / NSEC_PER_TICK)
		tms = (struct tms){
			.tms_utime = TICKS(self.ru_utime),
			.tms_stime = TICKS(self.ru_stime),
			.tms_cutime = TICKS(children.ru_utime),
			.tms_cstime = TICKS(children.ru_stime),
		};
#undef TICKS
		if (copy_out_val(&t->um, buf, &tms))
			return -EFAULT;
	}
	return time_boottime() / NSEC_PER_TICK;
}

/* ---- sleeping ---- */

/* How long to park before the clock may show `until`; 0: it does. */
static int64_t clock_wait(const struct guest_clock *c, int64_t until)
{
	int64_t left = until - guest_clock_now(c);

	if (left <= 0)
		return 0;
	/* CPU clocks run at most as fast as all CPUs together, and not while nobody runs. */
	if (c->kind != GUEST_CLOCK_WALL)
		return MAX(left / (int64_t)kernel->ncpus, 1000000LL);
	return left;
}

/* 0 or -EINTR. */
static int sleep_until(struct task *t, const struct guest_clock *c, int64_t until)
{
	int64_t wait;
	int err;

	while ((wait = clock_wait(c, until))) {
		err = task_park(t, TASK_SLEEPING, time_add(time_monotonic(), wait));
		if (err == -EINTR)
			return err;
	}
	return 0;
}

/* restart_arg of a sleep by clock_nanosleep: the clock's id and where to show what is left. */
static long sleep_relative(struct task *t)
{
	struct guest_clock c;
	uaddr_t urem = UADDR(t->restart_arg[1]);
	int err = guest_clock_lookup(t, (int)t->restart_arg[0], &c);

	if (err)
		return err;
	err = sleep_until(t, &c, t->restart_deadline);
	int64_t left = err ? MAX(t->restart_deadline - guest_clock_now(&c), 0) : 0;
	guest_clock_fini(&c);
	if (!err || left == 0)
		return 0;
	struct timespec rem = ns_to_timespec(left);
	if (!uaddr_is_null(urem) && copy_out_val(&t->um, urem, &rem))
		return -EFAULT;
	t->restart_fn = sleep_relative;
	return -ERESTART_RESTARTBLOCK;
}

static long do_nanosleep(struct task *t, int clock, bool absolute, uaddr_t ureq, uaddr_t urem)
{
	struct guest_clock c;
	struct timespec req;
	int64_t ns;

	int err = guest_clock_lookup(t, clock, &c);
	if (err)
		return err;
	/* A thread's own CPU time does not pass while it sleeps. */
	err = -EOPNOTSUPP;
	if (c.alarm && !task_capable(t, CAP_WAKE_ALARM))
		err = -EPERM;
	else if (guest_clock_can_wait(&c) && c.kind != GUEST_CLOCK_THREAD && !c.alarm)
		err = 0;
	if (err || (err = copy_in_val(&t->um, &req, ureq)) || (err = timespec_to_ns(&req, &ns)))
		goto out;
	if (absolute) {
		err = sleep_until(t, &c, ns) ? -ERESTARTNOHAND : 0;
		goto out;
	}
	t->restart_deadline = time_add(guest_clock_now(&c), ns);
	guest_clock_fini(&c);
	t->restart_arg[0] = (uint64_t)(int64_t)clock;
	t->restart_arg[1] = urem.v;
	return sleep_relative(t);
out:
	guest_clock_fini(&c);
	return err;
}

long sys_nanosleep(struct task *t, uaddr_t req, uaddr_t rem)
{
	return do_nanosleep(t, CLOCK_MONOTONIC, false, req, rem);
}

long sys_clock_nanosleep(struct task *t, int clock, int flags, uaddr_t req, uaddr_t rem)
{
	/* A relative sleep is not shortened by setting the clock. */
	if (clock == CLOCK_REALTIME && !(flags & TIMER_ABSTIME))
		clock = CLOCK_MONOTONIC;
	return do_nanosleep(t, clock, flags & TIMER_ABSTIME, req, rem);
}

/* ---- interval timers ---- */

static struct itimerval to_itimerval(const struct itimer_ns *v)
{
	return (struct itimerval){
		.it_interval = {v->interval / NSEC_PER_SEC,
				v->interval % NSEC_PER_SEC / NSEC_PER_USEC},
		.it_value = {v->value / NSEC_PER_SEC, v->value % NSEC_PER_SEC / NSEC_PER_USEC},
	};
}

static int timeval_to_ns(const struct timeval *tv, int64_t *ns)
{
	if (tv->tv_usec < 0 || tv->tv_usec >= USEC_PER_SEC)
		return -EINVAL;
	struct timespec ts = {.tv_sec = tv->tv_sec, .tv_nsec = tv->tv_usec * NSEC_PER_USEC};
	return timespec_to_ns(&ts, ns);
}

long sys_getitimer(struct task *t, int which, uaddr_t uvalue)
{
	struct itimer_ns v;

	if (which < ITIMER_REAL || which > ITIMER_PROF)
		return -EINVAL;
	itimer_get(t, which, &v);
	struct itimerval out = to_itimerval(&v);
	return copy_out_last_val(&t->um, uvalue, &out);
}

long sys_setitimer(struct task *t, int which, uaddr_t uvalue, uaddr_t uold)
{
	struct itimerval in = {0};
	struct itimer_ns new, old;
	int err;

	/* A missing value disarms, as Linux still lets it. */
	if (!uaddr_is_null(uvalue) && (err = copy_in_val(&t->um, &in, uvalue)))
		return err;
	if ((err = timeval_to_ns(&in.it_value, &new.value)) ||
	    (err = timeval_to_ns(&in.it_interval, &new.interval)))
		return err;
	if (which < ITIMER_REAL || which > ITIMER_PROF)
		return -EINVAL;
	if ((err = itimer_set(t, which, &new, &old)))
		return err;
	struct itimerval out = to_itimerval(&old);
	return uaddr_is_null(uold) ? 0 : copy_out_last_val(&t->um, uold, &out);
}

long sys_alarm(struct task *t, unsigned seconds)
{
	/* Linux bounds it to half the range of an int. */
	struct itimer_ns old, new = {.value = (int64_t)MIN(seconds, 0x7fffffffU) * NSEC_PER_SEC};
	int err = itimer_set(t, ITIMER_REAL, &new, &old);

	if (err)
		return err;
	/* Rounded, but never to "none" while there is one. */
	int64_t left = (old.value + NSEC_PER_SEC / 2) / NSEC_PER_SEC;
	return old.value && !left ? 1 : left;
}

/* ---- POSIX timers ---- */

static struct itimerspec to_itimerspec(const struct itimer_ns *v)
{
	return (struct itimerspec){.it_interval = ns_to_timespec(v->interval),
				   .it_value = ns_to_timespec(v->value)};
}

long sys_timer_create(struct task *t, int clock, uaddr_t uevent, uaddr_t uid)
{
	struct linux_sigevent ev;
	bool given = !uaddr_is_null(uevent);
	int id, err;

	if (given && (err = copy_in_val(&t->um, &ev, uevent)))
		return err;
	if ((err = posix_timer_create(t, clock, given ? &ev : NULL, &id)))
		return err;
	err = copy_out_val(&t->um, uid, &id);
	if (err)
		(void)!posix_timer_delete(t, id);
	return err;
}

long sys_timer_settime(struct task *t, int id, int flags, uaddr_t uvalue, uaddr_t uold)
{
	struct itimerspec in;
	struct itimer_ns new, old;
	int err;

	if (uaddr_is_null(uvalue))
		return -EINVAL;
	if ((err = copy_in_val(&t->um, &in, uvalue)))
		return err;
	if ((err = timespec_to_ns(&in.it_value, &new.value)) ||
	    (err = timespec_to_ns(&in.it_interval, &new.interval)))
		return err;
	if ((err = posix_timer_settime(t, id, flags & TIMER_ABSTIME, &new, &old)))
		return err;
	struct itimerspec out = to_itimerspec(&old);
	return uaddr_is_null(uold) ? 0 : copy_out_last_val(&t->um, uold, &out);
}

long sys_timer_gettime(struct task *t, int id, uaddr_t uvalue)
{
	struct itimer_ns v;
	int err = posix_timer_gettime(t, id, &v);

	if (err)
		return err;
	struct itimerspec out = to_itimerspec(&v);
	return copy_out_last_val(&t->um, uvalue, &out);
}

long sys_timer_getoverrun(struct task *t, int id)
{
	return posix_timer_getoverrun(t, id);
}

long sys_timer_delete(struct task *t, int id)
{
	return posix_timer_delete(t, id);
}
