#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "sentry/kernel/cgroup/cgroup.h"
#include "sentry/kernel/ns/ns_set.h"
#include "sentry/kernel/ns/uts.h"
#include "sentry/kernel/pid.h"
#include "sentry/kernel/run.h"
#include "sentry/kernel/task.h"

static struct kernel the_kernel;
struct kernel *kernel;

int kernel_init(struct platform *pf, const char *hostname, const char *domainname)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(0, &cpus);

	pid_init();
	the_kernel.pf = pf;
	mutex_init(&the_kernel.tasks_lock);
	list_init(&the_kernel.groups);
	list_init(&the_kernel.containers);
	the_kernel.ns = ns_set_new();
	if (!the_kernel.ns)
		return -ENOMEM;
	struct uts_ns *uts = uts_ns_of(the_kernel.ns->of[NS_UTS]);
	snprintf(uts->hostname, sizeof(uts->hostname), "%s", hostname);
	if (*domainname)
		snprintf(uts->domainname, sizeof(uts->domainname), "%s", domainname);
	cpu_work_init();
	the_kernel.boot_time = time_realtime();
	the_kernel.boot_boottime = time_boottime();
	the_kernel.ncpus = 1;
	if (!sched_getaffinity(0, sizeof(cpus), &cpus))
		the_kernel.ncpus = (unsigned)CPU_COUNT(&cpus);
	for (int i = 0; i < 64; i++)
		if (CPU_ISSET(i, &cpus))
			the_kernel.cpus |= 1ULL << i;
	cgroup_init();
	kernel = &the_kernel;
	return 0;
}

int task_link(struct task *t, const struct thread_group *like, const struct pid_choice *pids)
{
	struct thread_group *tg = t->tg;

	if (!tg->cgroup)
		tg->cgroup = cgroup_get(like ? like->cgroup : &cgroup_root);
	int err = cgroup_charge(tg->cgroup);
	if (err)
		return err;
	if ((err = pid_alloc(t, tg->pid_ns, pids, &t->pid))) {
		cgroup_uncharge(tg->cgroup);
		return err;
	}
	t->tid = t->pid->numbers[0].nr;
	mutex_lock(&tg->siglock, &lc_signal);
	list_add_tail(&t->thread_link, &tg->threads);
	signal_recalc(t); /* a group stop may be under way */
	mutex_unlock(&tg->siglock, &lc_signal);
	tg->nthreads++;
	tg->threaded |= tg->nthreads > 1;
	if (!tg->leader) {
		cgroup_enter(tg);
		tg->leader = task_get(t);
		tg->tgid = t->tid;
		tg->pid = t->pid;
		tg->pgid = like ? like->pgid : tg->tgid;
		if (like)
			tg->session = session_get(like->session);
		else
			tg->session->sid = tg->tgid;
		pid_hold(tg->pgid);
		pid_hold(tg->session->sid);
		list_add_tail(&thread_group_get(tg)->link, &kernel->groups);
		if (pid_nr_own(t->pid) == 1)
			__atomic_store_n(&tg->pid_ns->init, tg, __ATOMIC_RELAXED);
	}
	atomic_fetch_add(&kernel->ntasks, 1);
	return 0;
}

void task_unhash(struct task *t)
{
	pid_leave(t->pid);
	t->pid = NULL;
	atomic_fetch_sub(&kernel->ntasks, 1);
}

void task_take_leader_pid(struct task *t)
{
	struct pid *own = t->pid;

	t->pid = t->tg->pid;
	t->pid->task = t;
	t->tid = t->tg->tgid;
	pid_leave(own);
}

int thread_group_kin(const struct thread_group *tg, enum p_kin which)
{
	if (which == P_KIN_PARENT)
		return thread_group_ppid(tg);
	return pid_show(tg->pid_ns, which == P_KIN_GROUP ? tg->pgid : tg->session->sid);
}

void thread_group_show_kin(struct thread_group *tg, enum p_kin which)
{
	const struct platform_ops *ops = kernel->pf->ops;
	struct task *t;

	if (!ops->set_kin)
		return;
	mutex_lock(&tg->siglock, &lc_signal);
	list_for_each (t, &tg->threads, thread_link)
		if (t->pt)
			ops->set_kin(t->pt, which, (uint32_t)thread_group_kin(tg, which));
	mutex_unlock(&tg->siglock, &lc_signal);
}

void thread_group_set_pgid(struct thread_group *tg, int pgid)
{
	int old = tg->pgid;

	tg->pgid = pgid;
	pid_hold(pgid);
	thread_group_show_kin(tg, P_KIN_GROUP);
	pid_drop(old);
}

struct session *thread_group_set_session(struct thread_group *tg, struct session *to)
{
	struct session *old = tg->session;

	tg->session = to;
	pid_hold(to->sid);
	thread_group_show_kin(tg, P_KIN_SESSION);
	pid_drop(old->sid);
	return old;
}

void thread_group_unlink(struct thread_group *tg)
{
	list_del(&tg->sibling);
	list_del(&tg->link);
	pid_drop(tg->pgid);
	pid_drop(tg->session->sid);
	if (tg->pid_ns->init == tg)
		__atomic_store_n(&tg->pid_ns->init, NULL, __ATOMIC_RELAXED);
	tg->pid = NULL;
	task_unhash(tg->leader);
}

struct thread_group *thread_group_next(const struct pid_ns *ns, int *nr)
{
	struct thread_group *tg, *best = NULL;
	int least = INT32_MAX;

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	list_for_each (tg, &kernel->groups, link) {
		int n = pid_nr_in(tg->pid, ns);
		if (n >= *nr && n > 0 && n < least) {
			least = n;
			best = tg;
		}
	}
	if (best) {
		thread_group_get(best);
		*nr = least;
	}
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return best;
}

int thread_group_ppid(const struct thread_group *tg)
{
	return tg->parent ? pid_nr_in(tg->parent->pid, tg->pid_ns) : 0;
}

bool pgrp_exists_in_session(int pgid, int sid)
{
	struct thread_group *tg;

	list_for_each (tg, &kernel->groups, link)
		if (tg->pgid == pgid && tg->session->sid == sid)
			return true;
	return false;
}

bool pgrp_is_orphaned(int pgid)
{
	struct thread_group *tg;

	list_for_each (tg, &kernel->groups, link) {
		if (tg->pgid != pgid || tg->zombie || !tg->parent)
			continue;
		/* Linux excepts its own first process as a parent, not that of a PID namespace. */
		if (tg->parent->pgid != pgid && tg->parent->session == tg->session)
			return false;
	}
	return true;
}
