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

#include "sentry/kernel/run.h"
#include "syscalls/syscalls.h"

long sys_futex(struct task *t, uaddr_t uaddr, int op, unsigned val, uint64_t timeout,
	       uaddr_t uaddr2, unsigned val3)
{
	const struct p_event *ev = t->k->pf->ops->event(t->pt);

	(void)uaddr, (void)val, (void)uaddr2, (void)val3;
	if (!ev->host_wait_aborted)
		return -ENOSYS;
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

long sys_set_robust_list(struct task *t, uaddr_t head, uint64_t len)
{
	if (len != 24)
		return -EINVAL;
	t->robust_list = head;
	t->robust_list_len = len;
	return 0;
}

long sys_get_robust_list(struct task *t, int pid, uaddr_t head, uaddr_t len)
{
	uint64_t size = 24, addr = 0;
	int err = 0;

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	struct task *other = pid ? task_lookup(pid) : t;
	if (!other)
		err = -ESRCH;
	else if (other->tg != t->tg && !task_capable(t, 19 /* CAP_SYS_PTRACE */))
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
