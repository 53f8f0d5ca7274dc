/* What sentry/mm has to know of tasks. */
#include <errno.h>
#include <poll.h>

#include "sentry/kernel/pid.h"
#include "sentry/kernel/task.h"
#include "sentry/mm/uffd.h"

const struct umem *task_umem(struct task *t)
{
	return &t->um;
}

static int fault_wait(struct waitq *q, bool (*done)(void *arg), void *arg, bool user)
{
	struct task *t = task_current();
	struct task_waiter tw;
	int err = 0;

	if (!t)
		return -EINTR;
	task_waiter_init(&tw, t);
	waitq_add(q, &tw.w, POLLIN);
	while (!err && !done(arg))
		err = task_park(t, user ? TASK_SLEEPING : TASK_UNINTERRUPTIBLE, TIME_NEVER);
	waitq_remove(&tw.w);
	return err;
}

static int fault_tid(void)
{
	const struct task *t = task_current();

	return t ? (int)pid_nr_own(t->pid) : 0;
}

static const struct mm_faulter faulter = {fault_wait, fault_tid};

void umem_init(void)
{
	mm_faulter = &faulter;
}
