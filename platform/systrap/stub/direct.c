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
#include <linux/membarrier.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>

#define MEMBARRIER_ALLOWED                                                              \
	(MEMBARRIER_CMD_PRIVATE_EXPEDITED | MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED | \
	 MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE |                                   \
	 MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE)

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

	ps->cpu_ns = stub_clock(CLOCK_THREAD_CPUTIME_ID);
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
		return stub_futex(ps, mc, flags, deadline);
	case SYS_sched_yield:
		mc->rax = 0; /* guest code's own never come here: this thread has just waited */
		return 1;
	case SYS_membarrier:
		return membarrier_call(mc);
	case SYS_rseq:
		return rseq_call(ps, mc);
	}
	return stub_futex2(ps, mc, flags);
}
