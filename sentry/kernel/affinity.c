/*
 * Which CPUs a task may run on: what sched_setaffinity(2) says is the host's to do.
 *
 * A host thread is restricted only while a restricted task has it: it is let go before the task
 * leaves it, since the platform may keep it for another one.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>

#include "sentry/kernel/run.h"

static int set_host(struct task *t, uint64_t cpus) REQUIRES(lc_signal)
{
	const struct platform_ops *ops = kernel->pf->ops;
	if (t->pt && ops->set_cpus)
		ops->set_cpus(t->pt, kernel->cpus & ~cpus ? cpus : 0);
	pid_t tid = ops->host_tid && t->pt ? ops->host_tid(t->pt) : 0;
	cpu_set_t set;

	if (tid <= 0)
		return 0;
	CPU_ZERO(&set);
	for (int i = 0; i < 64; i++)
		if (cpus >> i & 1)
			CPU_SET(i, &set);
	/* One that has just ended needs nothing. */
	return sched_setaffinity(tid, sizeof(set), &set) && errno != ESRCH ? -errno : 0;
}

int task_set_affinity(struct task *t, uint64_t cpus)
{
	mutex_lock(&t->tg->siglock, &lc_signal);
	int err = set_host(t, cpus);
	if (!err)
		t->cpu_affinity = cpus;
	mutex_unlock(&t->tg->siglock, &lc_signal);
	return err;
}

static bool is_restricted(const struct task *t)
{
	return kernel->cpus & ~t->cpu_affinity;
}

void task_affinity_restore(struct task *t)
{
	if (!is_restricted(t))
		return;
	mutex_lock(&t->tg->siglock, &lc_signal);
	(void)!set_host(t, t->cpu_affinity);
	mutex_unlock(&t->tg->siglock, &lc_signal);
}

void task_affinity_drop(struct task *t)
{
	if (!is_restricted(t))
		return;
	mutex_lock(&t->tg->siglock, &lc_signal);
	(void)!set_host(t, kernel->cpus);
	mutex_unlock(&t->tg->siglock, &lc_signal);
}
