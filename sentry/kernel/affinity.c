/*
 * Which CPUs a task may run on, and how nice it is: what sched_setaffinity(2) and setpriority(2)
 * say is the host's to do.
 *
 * A host thread is restricted, or nice, only while such a task has it: it is let go before the task
 * leaves it, since the platform may keep it for another one.  To be let go, the host must allow it
 * (RLIMIT_NICE); where it does not, nice values are only remembered.  Nobody gets more than the
 * host's default: negative ones count as 0.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/resource.h>

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

static void set_host_nice(struct task *t, int nice) REQUIRES(lc_signal)
{
	const struct platform_ops *ops = kernel->pf->ops;
	pid_t tid = ops->host_tid && t->pt ? ops->host_tid(t->pt) : 0;

	/* One that has just ended needs nothing. */
	if (kernel->passes_nice && tid > 0)
		(void)!setpriority(PRIO_PROCESS, (id_t)tid, MAX(nice, 0));
}

void task_set_nice(struct task *t, int nice)
{
	bool was = t->nice > 0;

	t->nice = nice;
	if (!was && nice <= 0)
		return;
	mutex_lock(&t->tg->siglock, &lc_signal);
	set_host_nice(t, nice);
	mutex_unlock(&t->tg->siglock, &lc_signal);
}

static bool is_restricted(const struct task *t)
{
	return kernel->cpus & ~t->cpu_affinity;
}

/* parent: whose host thread made the one that t has; what it had is inherited. */
void task_host_restore(struct task *t, const struct task *parent)
{
	bool nice = t->nice > 0 || (parent && parent->nice > 0);

	if (!is_restricted(t) && !nice)
		return;
	mutex_lock(&t->tg->siglock, &lc_signal);
	if (is_restricted(t))
		(void)!set_host(t, t->cpu_affinity);
	if (nice)
		set_host_nice(t, t->nice);
	mutex_unlock(&t->tg->siglock, &lc_signal);
}

void task_host_drop(struct task *t)
{
	if (!is_restricted(t) && t->nice <= 0)
		return;
	mutex_lock(&t->tg->siglock, &lc_signal);
	if (is_restricted(t))
		(void)!set_host(t, kernel->cpus);
	if (t->nice > 0)
		set_host_nice(t, 0);
	mutex_unlock(&t->tg->siglock, &lc_signal);
}
