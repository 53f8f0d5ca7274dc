#include "sentry/time/clock.h"

#include <errno.h>

#include "sentry/kernel/ns/time_ns.h"
#include "sentry/kernel/pid.h"

/* CPU clock ids (clock_getcpuclockid): ~pid in the upper bits, then "per thread", then a type. */
#define CPUCLOCK_TYPE_MASK 3
#define CPUCLOCK_TYPE_FD 3 /* a clock behind a descriptor: we have none */
#define CPUCLOCK_PERTHREAD 4

static int lookup_cpu_clock(struct task *t, int id, struct guest_clock *out)
{
	int pid = ~(id >> 3), err = -EINVAL;

	if ((id & CPUCLOCK_TYPE_MASK) == CPUCLOCK_TYPE_FD)
		return -EINVAL;
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	if (id & CPUCLOCK_PERTHREAD) {
		struct task *th = pid ? task_named(t, pid) : t;
		if (th && th->tg == t->tg) {
			*out = (struct guest_clock){.kind = GUEST_CLOCK_THREAD,
						    .task = task_get(th)};
			err = 0;
		}
	} else {
		struct thread_group *tg =
			pid == 0 || pid == pid_nr_own(t->pid) ? t->tg : thread_group_named(t, pid);
		if (tg) {
			*out = (struct guest_clock){.kind = GUEST_CLOCK_PROCESS,
						    .tg = thread_group_get(tg)};
			err = 0;
		}
	}
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return err;
}

int guest_clock_lookup(struct task *t, int id, struct guest_clock *out)
{
	if (id < 0)
		return lookup_cpu_clock(t, id, out);
	*out = (struct guest_clock){.kind = GUEST_CLOCK_WALL,
				    .host = id,
				    .offset = time_offset_of(task_time_offsets(t), id)};
	switch (id) {
	case CLOCK_REALTIME:
	case CLOCK_MONOTONIC:
	case CLOCK_MONOTONIC_RAW:
	case CLOCK_REALTIME_COARSE:
	case CLOCK_MONOTONIC_COARSE:
	case CLOCK_BOOTTIME:
	case CLOCK_TAI:
		return 0;
	case CLOCK_REALTIME_ALARM:
		out->host = CLOCK_REALTIME;
		out->alarm = true;
		return 0;
	case CLOCK_BOOTTIME_ALARM:
		out->host = CLOCK_BOOTTIME;
		out->alarm = true;
		return 0;
	case CLOCK_PROCESS_CPUTIME_ID:
		*out = (struct guest_clock){.kind = GUEST_CLOCK_PROCESS,
					    .tg = thread_group_get(t->tg)};
		return 0;
	case CLOCK_THREAD_CPUTIME_ID:
		*out = (struct guest_clock){.kind = GUEST_CLOCK_THREAD, .task = task_get(t)};
		return 0;
	}
	return -EINVAL;
}

void guest_clock_fini(struct guest_clock *c)
{
	thread_group_put(c->tg);
	task_put(c->task);
	c->tg = NULL;
	c->task = NULL;
}

static int64_t host_ns(int (*get)(clockid_t, struct timespec *), clockid_t clock)
{
	struct timespec ts;

	if (get(clock, &ts))
		return 0;
	return ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}

int64_t guest_clock_now(const struct guest_clock *c)
{
	switch (c->kind) {
	case GUEST_CLOCK_PROCESS:
		return thread_group_cpu_time(c->tg);
	case GUEST_CLOCK_THREAD:
		return task_cpu_time(c->task);
	default:
		return host_ns(clock_gettime, c->host) + c->offset;
	}
}

int64_t guest_clock_resolution(const struct guest_clock *c)
{
	if (c->kind == GUEST_CLOCK_WALL &&
	    (c->host == CLOCK_REALTIME_COARSE || c->host == CLOCK_MONOTONIC_COARSE))
		return host_ns(clock_getres, c->host);
	return 1;
}

bool guest_clock_can_wait(const struct guest_clock *c)
{
	switch (c->kind) {
	case GUEST_CLOCK_PROCESS:
	case GUEST_CLOCK_THREAD:
		return true;
	default:
		return c->host == CLOCK_REALTIME || c->host == CLOCK_MONOTONIC ||
		       c->host == CLOCK_BOOTTIME || c->host == CLOCK_TAI;
	}
}

int timespec_to_ns(const struct timespec *ts, int64_t *ns)
{
	if (ts->tv_sec < 0 || ts->tv_nsec < 0 || ts->tv_nsec >= NSEC_PER_SEC)
		return -EINVAL;
	if (__builtin_mul_overflow((int64_t)ts->tv_sec, NSEC_PER_SEC, ns) ||
	    __builtin_add_overflow(*ns, (int64_t)ts->tv_nsec, ns))
		*ns = INT64_MAX;
	return 0;
}

struct timespec ns_to_timespec(int64_t ns)
{
	return (struct timespec){.tv_sec = ns / NSEC_PER_SEC, .tv_nsec = ns % NSEC_PER_SEC};
}

int64_t time_add(int64_t a, int64_t b)
{
	int64_t sum;

	return __builtin_add_overflow(a, b, &sum) ? TIME_NEVER : sum;
}
