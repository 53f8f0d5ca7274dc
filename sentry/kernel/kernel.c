#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "sentry/kernel/ns/ns_set.h"
#include "sentry/kernel/ns/uts.h"
#include "sentry/kernel/run.h"
#include "sentry/kernel/task.h"

static struct kernel the_kernel;
struct kernel *kernel;

/* The pid table: a hash of tasks by tid.  Numbers of live groups and sessions stay taken. */
#define PID_MAX 4194304
#define PID_BUCKETS 1024
static struct list_head pid_hash[PID_BUCKETS]; /* lc_tasks */
static int last_pid;

static struct list_head *pid_bucket(int tid)
{
	return &pid_hash[(unsigned)tid % PID_BUCKETS];
}

int kernel_init(struct platform *pf, const char *hostname, const char *domainname)
{
	cpu_set_t cpus;

	for (int i = 0; i < PID_BUCKETS; i++)
		list_init(&pid_hash[i]);
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
	the_kernel.boot_time = time_realtime();
	the_kernel.boot_boottime = time_boottime();
	the_kernel.ncpus = 1;
	if (!sched_getaffinity(0, sizeof(cpus), &cpus))
		the_kernel.ncpus = (unsigned)CPU_COUNT(&cpus);
	kernel = &the_kernel;
	return 0;
}

struct task *task_lookup(int tid)
{
	struct task *t;

	list_for_each (t, pid_bucket(tid), hash_link)
		if (t->tid == tid)
			return t;
	return NULL;
}

struct thread_group *thread_group_lookup(int tgid)
{
	struct task *t = task_lookup(tgid);

	return t && t->tg->tgid == tgid ? t->tg : NULL;
}

static bool pid_in_use(int pid) REQUIRES(lc_tasks)
{
	struct thread_group *tg;

	if (task_lookup(pid))
		return true;
	list_for_each (tg, &kernel->groups, link)
		if (tg->tgid == pid || tg->pgid == pid || tg->session->sid == pid)
			return true;
	return false;
}

int task_link(struct task *t)
{
	struct thread_group *tg = t->tg;
	int pid = last_pid, tries = 0;

	do {
		if (++pid >= PID_MAX)
			pid = 300; /* as Linux: numbers below are left to daemons of the boot */
		if (++tries > PID_MAX)
			return -EAGAIN;
	} while (pid_in_use(pid));
	last_pid = pid;
	t->tid = pid;
	list_add(&t->hash_link, pid_bucket(pid));
	mutex_lock(&tg->siglock, &lc_signal);
	list_add_tail(&t->thread_link, &tg->threads);
	signal_recalc(t); /* a group stop may be under way */
	mutex_unlock(&tg->siglock, &lc_signal);
	tg->nthreads++;
	tg->threaded |= tg->nthreads > 1;
	if (!tg->leader) {
		tg->leader = task_get(t);
		tg->tgid = pid;
		list_add_tail(&thread_group_get(tg)->link, &kernel->groups);
	}
	atomic_fetch_add(&kernel->ntasks, 1);
	return 0;
}

void task_unhash(struct task *t)
{
	list_del(&t->hash_link);
	atomic_fetch_sub(&kernel->ntasks, 1);
}

void task_rehash(struct task *t, int tid)
{
	list_del(&t->hash_link);
	t->tid = tid;
	list_add(&t->hash_link, pid_bucket(tid));
}

struct thread_group *thread_group_next(int from)
{
	struct thread_group *tg, *best = NULL;

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	list_for_each (tg, &kernel->groups, link)
		if (tg->tgid >= from && (!best || tg->tgid < best->tgid))
			best = tg;
	if (best)
		thread_group_get(best);
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return best;
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
