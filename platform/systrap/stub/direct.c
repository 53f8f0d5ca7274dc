/*
 * Calls that are passed straight to the host: guest threads are host threads and guest memory is
 * host memory, so futex, sched_yield, membarrier and rseq mean on the host what they mean to the
 * guest.  The filter lets guest code make most of them by itself; what traps, and comes here, needs
 * a change of its arguments or its answer, or was reported first.  What could reach beyond the
 * guest's own memory goes to the sentry instead: PI futexes carry thread ids, FUTEX_FD a
 * descriptor.
 */
#include "platform/systrap/stub/stub.h"

#include <errno.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>

#define NS_PER_SEC 1000000000LL
#define DEADLINE_MAX INT64_MAX
#define MEMBARRIER_ALLOWED                                                              \
	(MEMBARRIER_CMD_PRIVATE_EXPEDITED | MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED | \
	 MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE |                                   \
	 MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE)

static int64_t clock_now(int clock)
{
	struct stub_timespec t = {0, 0};

	STUB_CALL(SYS_clock_gettime, clock, &t, 0, 0, 0, 0);
	return t.sec * NS_PER_SEC + t.nsec;
}

static int64_t saturating_ns(const struct stub_timespec *t)
{
	if (t->sec >= DEADLINE_MAX / NS_PER_SEC)
		return DEADLINE_MAX;
	return t->sec * NS_PER_SEC + t->nsec;
}

static void mask_interrupt(int how)
{
	uint64_t set = 1UL << (ST_SIGNAL_INTERRUPT - 1);

	STUB_CALL(SYS_rt_sigprocmask, how, &set, 0, 8, 0, 0);
}

/*
 * FUTEX_WAIT and FUTEX_WAIT_BITSET.  A relative timeout becomes an absolute one, so that a wait
 * that was aborted can be redone without growing.
 */
static int futex_wait(struct st_pageset *ps, struct stub_ucontext *uc, uint32_t *flags,
		      int64_t *deadline)
{
	struct stub_sigcontext *mc = &uc->mc;
	uint32_t op = (uint32_t)mc->rsi, cmd = op & FUTEX_CMD_MASK;
	uint64_t val3 = mc->r9;
	struct stub_timespec ts, *tsp = NULL;
	int64_t redo = ps->redo_deadline;

	ps->redo_deadline = 0;
	if (mc->r10) {
		if (mc->r10 >= ST_TASK_SIZE - 16 || stub_load64(mc->r10, (uint64_t *)&ts.sec) ||
		    stub_load64(mc->r10 + 8, (uint64_t *)&ts.nsec)) {
			mc->rax = (uint64_t)-EFAULT;
			return 1;
		}
		if (ts.sec < 0 || ts.nsec < 0 || ts.nsec >= NS_PER_SEC) {
			mc->rax = (uint64_t)-EINVAL;
			return 1;
		}
		tsp = &ts;
	}
	if (cmd == FUTEX_WAIT && !(op & FUTEX_CLOCK_REALTIME)) {
		op = (op & ~(uint32_t)FUTEX_CMD_MASK) | FUTEX_WAIT_BITSET;
		val3 = FUTEX_BITSET_MATCH_ANY;
		if (tsp) {
			int64_t rel = saturating_ns(tsp), now = clock_now(CLOCK_MONOTONIC);
			*deadline = redo		       ? redo
				    : rel > DEADLINE_MAX - now ? DEADLINE_MAX
							       : now + rel;
			ts.sec = *deadline / NS_PER_SEC;
			ts.nsec = *deadline % NS_PER_SEC;
		}
	} else if (tsp && !(op & FUTEX_CLOCK_REALTIME)) {
		*deadline = saturating_ns(tsp);
	}

	__atomic_store_n(&ps->waiting, 1, __ATOMIC_RELAXED);
	mask_interrupt(SIG_UNBLOCK);
	long r = stub_futex_wait(mc->rdi, op, (long)mc->rdx, tsp, val3, &ps->intr);
	mask_interrupt(SIG_BLOCK);
	__atomic_store_n(&ps->waiting, 0, __ATOMIC_RELAXED);
	if (r == -EINTR) {
		*flags = ST_EV_ABORTED;
		return 2;
	}
	mc->rax = (uint64_t)r;
	/* The signal may have come, and gone, while the wait was already over. */
	return __atomic_load_n(&ps->intr, __ATOMIC_SEQ_CST) ? 2 : 1;
}

/*
 * A requeue of shared futexes could move a sentry thread that waits on a page set, so it becomes a
 * wake-up of all: allowed, as every waiter has to look again anyway.
 */
static long futex_requeue_shared(const struct stub_sigcontext *mc, uint32_t cmd)
{
	uint32_t seen;

	if ((mc->rdi & 3) || (int32_t)mc->rdx < 0 || (int32_t)mc->r10 < 0)
		return -EINVAL;
	if (cmd == FUTEX_CMP_REQUEUE) {
		if (stub_load32(mc->rdi, &seen))
			return -EFAULT;
		if (seen != (uint32_t)mc->r9)
			return -EAGAIN;
	}
	return STUB_CALL(SYS_futex, mc->rdi, FUTEX_WAKE, INT32_MAX, 0, 0, 0);
}

static int futex_call(struct st_pageset *ps, struct stub_ucontext *uc, uint32_t *flags,
		      int64_t *deadline)
{
	struct stub_sigcontext *mc = &uc->mc;
	uint32_t op = (uint32_t)mc->rsi, cmd = op & FUTEX_CMD_MASK;

	if (op & ~(uint32_t)(0x7f | FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME))
		return 0;
	if (mc->rdi >= ST_TASK_SIZE) {
		mc->rax = (uint64_t)-EFAULT;
		return 1;
	}
	switch (cmd) {
	case FUTEX_WAIT:
	case FUTEX_WAIT_BITSET:
		return futex_wait(ps, uc, flags, deadline);
	case FUTEX_REQUEUE:
	case FUTEX_CMP_REQUEUE:
		if (!(op & FUTEX_PRIVATE_FLAG)) {
			mc->rax = (uint64_t)futex_requeue_shared(mc, cmd);
			return 1;
		}
		/* fallthrough */
	case FUTEX_WAKE:
	case FUTEX_WAKE_OP:
	case FUTEX_WAKE_BITSET:
		mc->rax = (uint64_t)STUB_CALL(SYS_futex, mc->rdi, op, mc->rdx, mc->r10, mc->r8,
					      mc->r9);
		return 1;
	}
	return 0;
}

static int membarrier_call(struct stub_sigcontext *mc)
{
	uint32_t cmd = (uint32_t)mc->rdi;

	if (cmd == MEMBARRIER_CMD_QUERY) {
		long r = STUB_CALL(SYS_membarrier, cmd, mc->rsi, 0, 0, 0, 0);
		mc->rax = (uint64_t)(r < 0 ? r : r & MEMBARRIER_ALLOWED);
		return 1;
	}
	if ((cmd & (cmd - 1)) || !(cmd & MEMBARRIER_ALLOWED))
		return 0;
	mc->rax = (uint64_t)STUB_CALL(SYS_membarrier, cmd, mc->rsi, 0, 0, 0, 0);
	return 1;
}

static int rseq_call(struct st_pageset *ps, struct stub_sigcontext *mc)
{
	long r = STUB_CALL(SYS_rseq, mc->rdi, mc->rsi, mc->rdx, mc->r10, 0, 0);

	mc->rax = (uint64_t)r;
	if (r == 0) {
		ps->rseq = mc->rdx ? 0 : mc->rdi;
		ps->rseq_len = (uint32_t)mc->rsi;
		ps->rseq_sig = (uint32_t)mc->r10;
	}
	return 1;
}

long stub_rseq_leave(struct st_pageset *ps)
{
	uint64_t at = ps->rseq;

	ps->rseq = 0;
	return at ? STUB_CALL(SYS_rseq, at, ps->rseq_len, 1 /* RSEQ_FLAG_UNREGISTER */,
			      ps->rseq_sig, 0, 0)
		  : 0;
}

void stub_before_exit(struct st_pageset *ps)
{
	struct rusage u;

	ps->cpu_ns = clock_now(CLOCK_THREAD_CPUTIME_ID);
	if (!STUB_CALL(SYS_getrusage, RUSAGE_SELF, &u, 0, 0, 0, 0))
		ps->usage = (struct st_usage){u.ru_maxrss, u.ru_minflt, u.ru_majflt, u.ru_nvcsw,
					      u.ru_nivcsw};
	stub_rseq_leave(ps);
}

int stub_direct_call(struct st_pageset *ps, struct stub_ucontext *uc, uint32_t *flags,
		     int64_t *deadline)
{
	struct stub_sigcontext *mc = &uc->mc;

	switch ((uint32_t)mc->rax) {
	case SYS_futex:
		return futex_call(ps, uc, flags, deadline);
	case SYS_sched_yield:
		mc->rax = 0; /* guest code's own never come here: this thread has just waited */
		return 1;
	case SYS_membarrier:
		return membarrier_call(mc);
	case SYS_rseq:
		return rseq_call(ps, mc);
	}
	return 0;
}
