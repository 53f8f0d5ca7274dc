/*
 * The clocks that guests name: clock_gettime(2), clock_getcpuclockid(3).  Wall clocks are the
 * host's; CPU-time clocks are those of the host process and threads that run the guest's code.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "sentry/lib/compiler.h"

struct task;
struct thread_group;

/* A clock id, looked at.  CPU clocks hold a reference: end it with guest_clock_fini. */
struct guest_clock {
	enum { GUEST_CLOCK_WALL, GUEST_CLOCK_PROCESS, GUEST_CLOCK_THREAD } kind;
	clockid_t host;		 /* wall: the host's clock to read */
	bool alarm;		 /* wall: CLOCK_*_ALARM */
	int64_t offset;		 /* wall: how far it is ahead of the host's, ns */
	struct thread_group *tg; /* process */
	struct task *task;	 /* thread; always of the caller's own group */
};

/* -EINVAL: no such clock, or no such process or thread.  Takes lc_tasks. */
int guest_clock_lookup(struct task *t, int id, struct guest_clock *out) MUST_CHECK;
void guest_clock_fini(struct guest_clock *c);
/* ns.  Takes lc_tasks for CPU clocks. */
int64_t guest_clock_now(const struct guest_clock *c);
int64_t guest_clock_resolution(const struct guest_clock *c);
/* May a sleep or timer use it (the fine-grained ones and process CPU time)? */
bool guest_clock_can_wait(const struct guest_clock *c);

/* A timespec's or timeval's check and value: ns, saturating at INT64_MAX; -EINVAL. */
int timespec_to_ns(const struct timespec *ts, int64_t *ns) MUST_CHECK;
struct timespec ns_to_timespec(int64_t ns);
/* a + b for b ≥ 0, saturating at TIME_NEVER. */
int64_t time_add(int64_t a, int64_t b);
