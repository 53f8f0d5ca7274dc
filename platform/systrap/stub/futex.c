/*
 * Futexes, passed to the host.  Of the calls of futex2 only futex_waitv(2) is, as it has no other
 * form; the others say what futex(2) can say.
 */
#include "platform/systrap/stub/stub.h"

#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>

#include "sentry/abi/futex.h"

#define NS_PER_SEC 1000000000LL
#define DEADLINE_MAX INT64_MAX

int64_t stub_clock(int clock)
{
	struct stub_timespec t = {0, 0};

	STUB_CALL(SYS_clock_gettime, clock, &t, 0, 0, 0, 0);
	return t.sec * NS_PER_SEC + t.nsec;
}

/* ---- waiting ---- */

static int64_t saturating_ns(const struct stub_timespec *t)
{
	if (t->sec >= DEADLINE_MAX / NS_PER_SEC)
		return DEADLINE_MAX;
	return t->sec * NS_PER_SEC + t->nsec;
}

static long load_timeout(uint64_t from, struct stub_timespec *ts)
{
	if (from >= ST_TASK_SIZE - sizeof(*ts) || stub_load64(from, (uint64_t *)&ts->sec) ||
	    stub_load64(from + 8, (uint64_t *)&ts->nsec))
		return -EFAULT;
	return ts->sec < 0 || ts->nsec < 0 || ts->nsec >= NS_PER_SEC ? -EINVAL : 0;
}

static void set_timeout(struct stub_timespec *ts, int64_t ns)
{
	ts->sec = ns / NS_PER_SEC;
	ts->nsec = ns % NS_PER_SEC;
}

/* A time of the guest's CLOCK_MONOTONIC as the host's. */
static int64_t to_host(const struct st_pageset *ps, struct stub_timespec *ts)
{
	int64_t ns = saturating_ns(ts), moved;

	if (!ps->monotonic_offset || ns == DEADLINE_MAX)
		return ns;
	if (__builtin_sub_overflow(ns, ps->monotonic_offset, &moved))
		moved = DEADLINE_MAX;
	if (moved < 0)
		moved = 0;
	set_timeout(ts, moved);
	return moved;
}

static void mask_interrupt(int how)
{
	uint64_t set = 1UL << (ST_SIGNAL_INTERRUPT - 1);

	STUB_CALL(SYS_rt_sigprocmask, how, &set, 0, 8, 0, 0);
}

/* Makes the call, which sleeps.  As stub_direct_call() returns. */
static int wait_in_host(struct st_pageset *ps, struct stub_sigcontext *mc, const uint64_t call[7],
			uint32_t *flags)
{
	__atomic_store_n(&ps->waiting, 1, __ATOMIC_RELAXED);
	mask_interrupt(SIG_UNBLOCK);
	long r = stub_wait(call, &ps->intr);
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

static int answer(struct stub_sigcontext *mc, long ret)
{
	mc->rax = (uint64_t)ret;
	return 1;
}

/*
 * FUTEX_WAIT and FUTEX_WAIT_BITSET.  A relative timeout becomes an absolute one, so that a wait
 * that was aborted can be redone without growing.
 */
static int wait_call(struct st_pageset *ps, struct stub_sigcontext *mc, uint32_t *flags,
		     int64_t *deadline)
{
	uint32_t op = (uint32_t)mc->rsi, cmd = op & FUTEX_CMD_MASK;
	uint64_t val3 = mc->r9;
	struct stub_timespec ts, *tsp = NULL;
	int64_t redo = ps->redo_deadline;

	ps->redo_deadline = 0;
	if (mc->r10) {
		long err = load_timeout(mc->r10, &ts);
		if (err)
			return answer(mc, err);
		tsp = &ts;
	}
	if (cmd == FUTEX_WAIT && !(op & FUTEX_CLOCK_REALTIME)) {
		op = (op & ~(uint32_t)FUTEX_CMD_MASK) | FUTEX_WAIT_BITSET;
		val3 = FUTEX_BITSET_MATCH_ANY;
		if (tsp) {
			int64_t rel = saturating_ns(tsp), now = stub_clock(CLOCK_MONOTONIC);
			*deadline = redo		       ? redo
				    : rel > DEADLINE_MAX - now ? DEADLINE_MAX
							       : now + rel;
			set_timeout(&ts, *deadline);
		}
	} else if (tsp && !(op & FUTEX_CLOCK_REALTIME)) {
		*deadline = to_host(ps, &ts);
	}
	const uint64_t call[7] = {SYS_futex,	 mc->rdi, op,  (uint32_t)mc->rdx,
				  (uint64_t)tsp, 0,	  val3};
	return wait_in_host(ps, mc, call, flags);
}

/* ---- futex ---- */

/*
 * A requeue of shared futexes could move a sentry thread that waits on a page set, so it becomes a
 * wake-up of all: allowed, as every waiter has to look again anyway.
 */
static long requeue_shared(uint64_t addr, int32_t wake, int32_t move, const uint32_t *expect)
{
	uint32_t seen;

	if ((addr & 3) || wake < 0 || move < 0)
		return -EINVAL;
	if (expect) {
		if (stub_load32(addr, &seen))
			return -EFAULT;
		if (seen != *expect)
			return -EAGAIN;
	}
	return STUB_CALL(SYS_futex, addr, FUTEX_WAKE, INT32_MAX, 0, 0, 0);
}

int stub_futex(struct st_pageset *ps, struct stub_sigcontext *mc, uint32_t *flags,
	       int64_t *deadline)
{
	uint32_t op = (uint32_t)mc->rsi, cmd = op & FUTEX_CMD_MASK, expect = (uint32_t)mc->r9;

	if (op & ~(uint32_t)(0x7f | FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME))
		return 0;
	if (mc->rdi >= ST_TASK_SIZE)
		return answer(mc, -EFAULT);
	switch (cmd) {
	case FUTEX_WAIT:
	case FUTEX_WAIT_BITSET:
		return wait_call(ps, mc, flags, deadline);
	case FUTEX_REQUEUE:
	case FUTEX_CMP_REQUEUE:
		if (!(op & FUTEX_PRIVATE_FLAG))
			return answer(mc,
				      requeue_shared(mc->rdi, (int32_t)mc->rdx, (int32_t)mc->r10,
						     cmd == FUTEX_CMP_REQUEUE ? &expect : NULL));
		/* fallthrough */
	case FUTEX_WAKE:
	case FUTEX_WAKE_OP:
	case FUTEX_WAKE_BITSET:
		return answer(mc,
			      STUB_CALL(SYS_futex, mc->rdi, op, mc->rdx, mc->r10, mc->r8, mc->r9));
	}
	return 0;
}

/* ---- futex2 ---- */

static int flags_valid(uint32_t flags)
{
	return (flags & ~LINUX_FUTEX2_PRIVATE) == LINUX_FUTEX2_SIZE_U32;
}

static uint32_t op_private(uint32_t flags)
{
	return flags & LINUX_FUTEX2_PRIVATE ? FUTEX_PRIVATE_FLAG : 0;
}

/* An absolute time, or none: *tsp NULL. */
static long load_deadline(const struct st_pageset *ps, uint64_t from, int32_t clock,
			  struct stub_timespec *ts, struct stub_timespec **tsp)
{
	*tsp = NULL;
	if (!from)
		return 0;
	if (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC)
		return -EINVAL;
	long err = load_timeout(from, ts);
	if (err)
		return err;
	if (clock == CLOCK_MONOTONIC)
		to_host(ps, ts);
	*tsp = ts;
	return 0;
}

static int waitv(struct st_pageset *ps, struct stub_sigcontext *mc, uint32_t *flags)
{
	struct stub_timespec ts, *tsp;

	/* What the host checks before the timeout. */
	if ((uint32_t)mc->rdx || !mc->rdi || !(uint32_t)mc->rsi ||
	    (uint32_t)mc->rsi > FUTEX_WAITV_MAX)
		return answer(mc, -EINVAL);
	long err = load_deadline(ps, mc->r10, (int32_t)mc->r8, &ts, &tsp);
	if (!err && mc->rdi >= ST_TASK_SIZE)
		err = -EFAULT;
	if (err)
		return answer(mc, err);
	const uint64_t call[7] = {LINUX_SYS_futex_waitv, mc->rdi, mc->rsi, 0,
				  (uint64_t)tsp,	 mc->r8};
	return wait_in_host(ps, mc, call, flags);
}

static int wait2(struct st_pageset *ps, struct stub_sigcontext *mc, uint32_t *flags)
{
	struct stub_timespec ts, *tsp;

	if (!flags_valid((uint32_t)mc->r10) || mc->rsi >> 32 || mc->rdx >> 32)
		return answer(mc, -EINVAL);
	long err = load_deadline(ps, mc->r8, (int32_t)mc->r9, &ts, &tsp);
	if (!err && mc->rdi >= ST_TASK_SIZE)
		err = -EFAULT;
	if (err)
		return answer(mc, err);
	uint32_t op = FUTEX_WAIT_BITSET | op_private((uint32_t)mc->r10);
	if (tsp && (int32_t)mc->r9 == CLOCK_REALTIME)
		op |= FUTEX_CLOCK_REALTIME;
	const uint64_t call[7] = {SYS_futex, mc->rdi, op, mc->rsi, (uint64_t)tsp, 0, mc->rdx};
	return wait_in_host(ps, mc, call, flags);
}

static long wake2(const struct stub_sigcontext *mc)
{
	if (!flags_valid((uint32_t)mc->r10) || mc->rsi >> 32)
		return -EINVAL;
	if (mc->rdi & 3 || !mc->rsi)
		return -EINVAL;
	if (mc->rdi >= ST_TASK_SIZE)
		return -EFAULT;
	/* Unlike futex(2), none is none. */
	if (!(int32_t)mc->rdx)
		return 0;
	return STUB_CALL(SYS_futex, mc->rdi, FUTEX_WAKE_BITSET | op_private((uint32_t)mc->r10),
			 (uint32_t)mc->rdx, 0, 0, mc->rsi);
}

static long load_waiter(uint64_t from, struct linux_futex_waitv *w)
{
	uint64_t tail;

	if (from >= ST_TASK_SIZE - sizeof(*w) || stub_load64(from, &w->val) ||
	    stub_load64(from + 8, &w->uaddr) || stub_load64(from + 16, &tail))
		return -EFAULT;
	w->flags = (uint32_t)tail;
	w->reserved = (uint32_t)(tail >> 32);
	return !flags_valid(w->flags) || w->reserved || w->val >> 32 ? -EINVAL : 0;
}

static long requeue2(const struct stub_sigcontext *mc)
{
	struct linux_futex_waitv w[2];
	int32_t wake = (int32_t)mc->rdx, move = (int32_t)mc->r10;
	long err;

	if ((uint32_t)mc->rsi || !mc->rdi)
		return -EINVAL;
	if ((err = load_waiter(mc->rdi, &w[0])) ||
	    (err = load_waiter(mc->rdi + sizeof(w[0]), &w[1])))
		return err;
	if (w[0].uaddr >= ST_TASK_SIZE || w[1].uaddr >= ST_TASK_SIZE)
		return -EFAULT;
	uint32_t expect = (uint32_t)w[0].val;
	if (!(w[0].flags & w[1].flags & LINUX_FUTEX2_PRIVATE))
		return requeue_shared(w[0].uaddr, wake, move, &expect);
	return STUB_CALL(SYS_futex, w[0].uaddr, FUTEX_CMP_REQUEUE_PRIVATE, (uint32_t)wake,
			 (uint32_t)move, w[1].uaddr, expect);
}

int stub_futex2(struct st_pageset *ps, struct stub_sigcontext *mc, uint32_t *flags)
{
	switch ((uint32_t)mc->rax) {
	case LINUX_SYS_futex_waitv:
		return waitv(ps, mc, flags);
	case LINUX_SYS_futex_wait:
		return wait2(ps, mc, flags);
	case LINUX_SYS_futex_wake:
		return answer(mc, wake2(mc));
	case LINUX_SYS_futex_requeue:
		return answer(mc, requeue2(mc));
	}
	return 0;
}
