/*
 * futex, robust lists, membarrier, rseq, sched_yield.
 *
 * Guest threads are host threads and guest memory is host memory, so the platform passes these to
 * the host kernel and the sentry sees only what it could not pass: waits that were aborted to
 * deliver a signal, and operations that carry thread ids (priority inheritance), which differ
 * between guest and host.
 */
#include <errno.h>
#include <linux/futex.h>
#include <linux/membarrier.h>

#include "sentry/kernel/futex/pi.h"
#include "sentry/kernel/ns/time_ns.h"
#include "sentry/kernel/run.h"
#include "sentry/time/clock.h"
#include "sentry/kernel/pid.h"
#include "syscalls/syscalls.h"

/* A wait in the host that was aborted for the sake of a signal. */
static long futex_aborted(const struct p_event *ev, int op, uint64_t timeout)
{
	switch (op & FUTEX_CMD_MASK) {
	case FUTEX_WAIT:
	case FUTEX_WAIT_BITSET:
		if (ev->host_wait_deadline && time_monotonic() >= ev->host_wait_deadline)
			return -ETIMEDOUT;
		/* With a timeout Linux uses restart_syscall(2), which a handler turns into EINTR.
		 * The platform remembers the deadline of the wait that is repeated. */
		return timeout ? -ERESTARTNOHAND : -ERESTARTSYS;
	default:
		return -ERESTARTNOINTR;
	}
}

/* Those that sleep with an absolute timeout; of FUTEX_LOCK_PI it is always wall time. */
static int deadline_of(struct task *t, int op, uint64_t timeout, int64_t *deadline)
{
	struct timespec ts;
	bool wall = op & FUTEX_CLOCK_REALTIME || (op & FUTEX_CMD_MASK) == FUTEX_LOCK_PI;

	*deadline = TIME_NEVER;
	if (!timeout)
		return 0;
	if (copy_in_val(&t->um, &ts, UADDR(timeout)))
		return -EFAULT;
	int err = timespec_to_ns(&ts, deadline);
	if (err || *deadline == TIME_NEVER)
		return err;
	if (wall)
		*deadline = time_add(time_monotonic(), MAX(*deadline - time_realtime(), 0));
	else if (__builtin_sub_overflow(*deadline, task_time_offsets(t)->monotonic, deadline))
		*deadline = TIME_NEVER;
	return 0;
}

long sys_futex(struct task *t, uaddr_t uaddr, int op, unsigned val, uint64_t timeout,
	       uaddr_t uaddr2, unsigned val3)
{
	const struct p_event *ev = t->k->pf->ops->event(t->pt);
	int cmd = op & FUTEX_CMD_MASK, err;
	bool shared = !(op & FUTEX_PRIVATE_FLAG);
	int64_t deadline;

	if (ev->host_wait_aborted)
		return futex_aborted(ev, op, timeout);
	if (op & FUTEX_CLOCK_REALTIME && cmd != FUTEX_WAIT_REQUEUE_PI && cmd != FUTEX_LOCK_PI2)
		return -ENOSYS;
	switch (cmd) {
	case FUTEX_LOCK_PI:
	case FUTEX_LOCK_PI2:
		err = deadline_of(t, op, timeout, &deadline);
		return err ? err : futex_pi_lock(t, uaddr, shared, false, deadline);
	case FUTEX_TRYLOCK_PI:
		return futex_pi_lock(t, uaddr, shared, true, TIME_NEVER);
	case FUTEX_UNLOCK_PI:
		return futex_pi_unlock(t, uaddr, shared);
	case FUTEX_WAIT_REQUEUE_PI:
		err = deadline_of(t, op, timeout, &deadline);
		return err ? err : futex_pi_wait_requeue(t, uaddr, shared, val, deadline, uaddr2);
	case FUTEX_CMP_REQUEUE_PI:
		if (val != 1 || (int)timeout < 0)
			return -EINVAL;
		return futex_pi_cmp_requeue(t, uaddr, shared, (int)timeout, uaddr2, val3);
	}
	return -ENOSYS;
}

/* ---- futex2: the platform's, too, all of it ---- */

/* Those that wait do so to an absolute time, and simply go on. */
static long host_wait(struct task *t)
{
	return t->k->pf->ops->event(t->pt)->host_wait_aborted ? -ERESTARTSYS : -ENOSYS;
}

long sys_futex_waitv(struct task *t, uaddr_t waiters, unsigned n, int flags, uint64_t timeout,
		     int clock)
{
	(void)waiters, (void)n, (void)flags, (void)timeout, (void)clock;
	return host_wait(t);
}

long sys_futex_wait(struct task *t, uaddr_t uaddr, uint64_t val, uint64_t mask, int flags,
		    uint64_t timeout, int clock)
{
	(void)uaddr, (void)val, (void)mask, (void)flags, (void)timeout, (void)clock;
	return host_wait(t);
}

long sys_futex_wake(struct task *t, uaddr_t uaddr, uint64_t mask, int n, int flags)
{
	(void)t, (void)uaddr, (void)mask, (void)n, (void)flags;
	return -ENOSYS;
}

long sys_futex_requeue(struct task *t, uaddr_t waiters, int flags, int wake, int move)
{
	(void)t, (void)waiters, (void)flags, (void)wake, (void)move;
	return -ENOSYS;
}

long sys_set_robust_list(struct task *t, uaddr_t head, uint64_t len)
{
	if (len != 24)
		return -EINVAL;
	t->robust_list = head;
	return 0;
}

long sys_get_robust_list(struct task *t, int pid, uaddr_t head, uaddr_t len)
{
	uint64_t size = 24, addr = 0;
	int err = 0;

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	struct task *other = pid ? task_named(t, pid) : t;
	if (!other)
		err = -ESRCH;
	else if (other->tg != t->tg &&
		 !task_ns_capable(t, other->cred->user_ns, 19 /* CAP_SYS_PTRACE */))
		err = -EPERM;
	else
		addr = other->robust_list.v;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	if (err)
		return err;
	if (copy_out_val(&t->um, len, &size) || copy_out_val(&t->um, head, &addr))
		return -EFAULT;
	return 0;
}

/* The commands that act on one process are passed to the host; the others reach across processes
 * and are not offered (the query's answer says so). */
long sys_membarrier(struct task *t, int cmd, unsigned flags, int cpu)
{
	(void)t, (void)cmd, (void)flags, (void)cpu;
	return -EINVAL;
}

/* Reached only where the platform could not pass the call on: as a kernel without CONFIG_RSEQ. */
long sys_rseq(struct task *t, uaddr_t rseq, unsigned len, int flags, unsigned sig)
{
	(void)t, (void)rseq, (void)len, (void)flags, (void)sig;
	return -ENOSYS;
}

/* The way to the sentry and back was the yield. */
long sys_sched_yield(struct task *t)
{
	(void)t;
	return 0;
}
