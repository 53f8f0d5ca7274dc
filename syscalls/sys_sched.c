/*
 * Scheduling parameters.  They are checked as Linux does, remembered and shown; the host is told of
 * CPUs and of nice values (sentry/kernel/affinity.c), but not of policies: a container has no right
 * to real time there.  Source: sched(7).
 */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/resource.h>

#include "sentry/kernel/run.h"
#include "sentry/kernel/pid.h"
#include "syscalls/syscalls.h"

#ifndef SCHED_DEADLINE
#define SCHED_DEADLINE 6
#endif
#define CAP_NR_SYS_NICE 23

/* Calls fn on the task with this tid (0: the caller), under lc_tasks. */
static long with_task(struct task *t, int tid,
		      long (*fn)(struct task *caller, struct task *o, void *), void *arg)
{
	if (tid < 0)
		return -EINVAL;
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	struct task *o = tid ? task_named(t, tid) : t;
	long ret = o ? fn(t, o, arg) : -ESRCH;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return ret;
}

static bool may_change(const struct task *t, const struct task *o)
{
	return t->cred->euid == o->cred->euid || t->cred->euid == o->cred->uid ||
	       task_ns_capable(t, o->cred->user_ns, CAP_NR_SYS_NICE);
}

static bool is_rt(int policy)
{
	return policy == SCHED_FIFO || policy == SCHED_RR;
}

struct sched_change {
	int policy; /* -1: keep */
	int prio;
	bool has_nice, keep_params;
	int nice;
	struct sched_deadline dl;
};

/* ---- SCHED_DEADLINE ---- */

#define DL_RUNTIME_MIN 1024
#define DL_PERIOD_MIN 100000ULL	    /* kernel.sched_deadline_period_min_us, _max_us */
#define DL_PERIOD_MAX 4194304000ULL /* … */
#define DL_TOP_BIT (1ULL << 63)
#define DL_UNIT (1ULL << 20) /* the whole of one CPU */
#define DL_SHARE_MAX (DL_UNIT / 100 * 95)

static bool deadline_valid(const struct sched_deadline *d)
{
	uint64_t period = d->period ? d->period : d->deadline;

	return d->deadline && d->runtime >= DL_RUNTIME_MIN &&
	       !((d->deadline | period) & DL_TOP_BIT) && period >= d->deadline &&
	       d->deadline >= d->runtime && period >= DL_PERIOD_MIN && period <= DL_PERIOD_MAX;
}

static uint64_t deadline_share(const struct sched_deadline *d)
{
	uint64_t period = d->period ? d->period : d->deadline;

	return (uint64_t)((unsigned __int128)d->runtime * DL_UNIT / period);
}

/* -EPERM: it may not run everywhere; -EBUSY: the others leave too little. */
static long deadline_admit(const struct task *o, const struct sched_deadline *d) REQUIRES(lc_tasks)
{
	uint64_t sum = deadline_share(d);
	struct thread_group *tg;
	struct task *other;

	if (kernel->cpus & ~o->cpu_affinity)
		return -EPERM;
	list_for_each (tg, &kernel->groups, link)
		list_for_each (other, &tg->threads, thread_link)
			if (other != o && other->sched_policy == SCHED_DEADLINE)
				sum += deadline_share(&other->sched_dl);
	return sum > DL_SHARE_MAX * kernel->ncpus ? -EBUSY : 0;
}

/* ---- policies ---- */

static long change_sched(struct task *t, struct task *o, void *arg) REQUIRES(lc_tasks)
{
	const struct sched_change *c = arg;
	const struct sched_deadline *dl = c->keep_params ? &o->sched_dl : &c->dl;
	int policy = c->policy < 0 ? o->sched_policy : c->policy & ~SCHED_RESET_ON_FORK;
	bool reset = c->policy < 0 ? o->sched_reset_on_fork : !!(c->policy & SCHED_RESET_ON_FORK);
	int prio = c->keep_params ? o->sched_priority : c->prio;

	switch (policy) {
	case SCHED_OTHER:
	case SCHED_BATCH:
	case SCHED_IDLE:
		if (prio != 0)
			return -EINVAL;
		break;
	case SCHED_FIFO:
	case SCHED_RR:
		if (prio < 1 || prio > 99)
			return -EINVAL;
		break;
	case SCHED_DEADLINE:
		if (prio != 0 || !deadline_valid(dl))
			return -EINVAL;
		break;
	default:
		return -EINVAL;
	}
	if (!may_change(t, o))
		return -EPERM;
	if (policy == SCHED_DEADLINE && !task_capable(t, CAP_NR_SYS_NICE))
		return -EPERM;
	if (is_rt(policy) && !task_capable(t, CAP_NR_SYS_NICE) &&
	    (uint64_t)prio > task_rlimit(t, RLIMIT_RTPRIO))
		return -EPERM;
	bool fair = !is_rt(policy) && policy != SCHED_DEADLINE;
	if (c->has_nice && !c->keep_params && fair && c->nice < o->nice &&
	    !task_capable(t, CAP_NR_SYS_NICE) &&
	    (uint64_t)(20 - c->nice) > task_rlimit(t, RLIMIT_NICE))
		return -EPERM;
	/* What was once asked for, only the privileged take back: sched(7). */
	if (o->sched_reset_on_fork && !reset && !task_capable(t, CAP_NR_SYS_NICE))
		return -EPERM;
	long err = policy == SCHED_DEADLINE ? deadline_admit(o, dl) : 0;
	if (err)
		return err;
	o->sched_policy = policy;
	o->sched_priority = prio;
	o->sched_dl = policy == SCHED_DEADLINE ? *dl : (struct sched_deadline){0};
	o->sched_reset_on_fork = reset;
	if (c->has_nice && !c->keep_params && fair)
		task_set_nice(o, c->nice);
	return 0;
}

static long get_policy(struct task *t, struct task *o, void *arg)
{
	(void)t, (void)arg;
	return o->sched_policy | (o->sched_reset_on_fork ? SCHED_RESET_ON_FORK : 0);
}

static long get_prio(struct task *t, struct task *o, void *arg)
{
	(void)t;
	*(int32_t *)arg = o->sched_priority;
	return 0;
}

long sys_sched_setscheduler(struct task *t, int pid, int policy, uaddr_t param)
{
	struct sched_change c = {.policy = policy};
	int32_t prio;

	if (policy < 0 || uaddr_is_null(param))
		return -EINVAL;
	if (copy_in_val(&t->um, &prio, param))
		return -EFAULT;
	c.prio = prio;
	return with_task(t, pid, change_sched, &c);
}

long sys_sched_setparam(struct task *t, int pid, uaddr_t param)
{
	struct sched_change c = {.policy = -1};
	int32_t prio;

	if (uaddr_is_null(param))
		return -EINVAL;
	if (copy_in_val(&t->um, &prio, param))
		return -EFAULT;
	c.prio = prio;
	return with_task(t, pid, change_sched, &c);
}

long sys_sched_getscheduler(struct task *t, int pid)
{
	return with_task(t, pid, get_policy, NULL);
}

long sys_sched_getparam(struct task *t, int pid, uaddr_t param)
{
	int32_t prio;

	if (uaddr_is_null(param))
		return -EINVAL;
	long ret = with_task(t, pid, get_prio, &prio);
	if (ret)
		return ret;
	return copy_out_last_val(&t->um, param, &prio);
}

static bool policy_known(int policy)
{
	return policy >= 0 && policy <= SCHED_DEADLINE && policy != 4;
}

long sys_sched_get_priority_max(struct task *t, int policy)
{
	(void)t;
	return !policy_known(policy) ? -EINVAL : is_rt(policy) ? 99 : 0;
}

long sys_sched_get_priority_min(struct task *t, int policy)
{
	(void)t;
	return !policy_known(policy) ? -EINVAL : is_rt(policy) ? 1 : 0;
}

long sys_sched_rr_get_interval(struct task *t, int pid, uaddr_t interval)
{
	long policy = with_task(t, pid, get_policy, NULL);

	if (policy < 0)
		return policy;
	policy &= ~SCHED_RESET_ON_FORK;
	/* What the others get is less than a tick. */
	struct timespec ts = {0, policy == SCHED_RR ? 100000000 : 0};
	return copy_out_last_val(&t->um, interval, &ts);
}

struct linux_sched_attr {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
	uint32_t util_min, util_max;
};
_Static_assert(sizeof(struct linux_sched_attr) == 56, "sched_setattr(2)");

#define FLAG_RESET_ON_FORK 0x01u
#define FLAG_KEEP_POLICY 0x08u
#define FLAG_KEEP_PARAMS 0x10u
#define FLAGS_DEADLINE 0x06u /* RECLAIM, DL_OVERRUN */
#define FLAG_UTIL_CLAMP 0x60u
#define FLAGS_KNOWN 0x7fu

/* Tells the guest how much of the structure is known here. */
static int wrong_size(struct task *t, uaddr_t uattr)
{
	uint32_t size = sizeof(struct linux_sched_attr);

	return copy_out_val(&t->um, uattr, &size) ? -EFAULT : -E2BIG;
}

/* What a longer structure than ours has must be zero. */
static int attr_in(struct task *t, uaddr_t uattr, struct linux_sched_attr *a)
{
	uint32_t size;

	if (copy_in_val(&t->um, &size, uattr))
		return -EFAULT;
	if (size == 0)
		size = 48;
	if (size < 48 || size > PAGE_SIZE)
		return wrong_size(t, uattr);
	memset(a, 0, sizeof(*a));
	if (copy_in(&t->um, a, uattr, MIN(size, (uint32_t)sizeof(*a))))
		return -EFAULT;
	for (uint32_t at = sizeof(*a); at < size; at++) {
		char byte;
		if (copy_in_val(&t->um, &byte, uaddr_add(uattr, at)))
			return -EFAULT;
		if (byte)
			return wrong_size(t, uattr);
	}
	return 0;
}

long sys_sched_setattr(struct task *t, int pid, uaddr_t uattr, unsigned flags)
{
	struct linux_sched_attr a;

	if (uaddr_is_null(uattr) || flags || pid < 0)
		return -EINVAL;
	int err = attr_in(t, uattr, &a);
	if (err)
		return err;
	if ((int)a.policy < 0 || (a.policy & SCHED_RESET_ON_FORK) ||
	    (a.flags & ~(uint64_t)FLAGS_KNOWN))
		return -EINVAL;
	if (a.flags & FLAG_UTIL_CLAMP)
		return -EOPNOTSUPP;
	/* Linux takes any nice value here, and the nearest that there is. */
	struct sched_change c = {
		.policy = (int)a.policy,
		.prio = (int)a.priority,
		.has_nice = true,
		.keep_params = a.flags & FLAG_KEEP_PARAMS,
		.nice = MAX(-20, MIN(19, a.nice)),
		.dl = {a.runtime, a.deadline, a.period, (uint32_t)a.flags & FLAGS_DEADLINE}};
	if (a.flags & FLAG_KEEP_POLICY)
		c.policy = -1;
	else if (a.flags & FLAG_RESET_ON_FORK)
		c.policy |= SCHED_RESET_ON_FORK;
	return with_task(t, pid, change_sched, &c);
}

static long get_attr(struct task *t, struct task *o, void *arg)
{
	struct linux_sched_attr *a = arg;

	(void)t;
	a->policy = (uint32_t)o->sched_policy;
	a->flags = o->sched_reset_on_fork ? FLAG_RESET_ON_FORK : 0;
	a->nice = o->nice;
	a->priority = (uint32_t)o->sched_priority;
	if (o->sched_policy == SCHED_DEADLINE) {
		a->runtime = o->sched_dl.runtime;
		a->deadline = o->sched_dl.deadline;
		a->period = o->sched_dl.period ? o->sched_dl.period : o->sched_dl.deadline;
		a->flags |= o->sched_dl.flags;
		a->nice = 0;
	}
	return 0;
}

long sys_sched_getattr(struct task *t, int pid, uaddr_t uattr, unsigned size, unsigned flags)
{
	struct linux_sched_attr a;

	if (uaddr_is_null(uattr) || size < 48 || size > PAGE_SIZE || flags)
		return -EINVAL;
	memset(&a, 0, sizeof(a));
	long ret = with_task(t, pid, get_attr, &a);
	if (ret)
		return ret;
	a.size = MIN(size, (unsigned)sizeof(a));
	return copy_out_last(&t->um, uattr, &a, a.size);
}

static long set_affinity(struct task *t, struct task *o, void *arg)
{
	uint64_t mask = *(uint64_t *)arg & kernel->cpus;

	if (!may_change(t, o))
		return -EPERM;
	/* It was admitted for all of them. */
	if (o->sched_policy == SCHED_DEADLINE && kernel->cpus & ~mask)
		return -EBUSY;
	return mask ? task_set_affinity(o, mask) : -EINVAL;
}

static long get_affinity(struct task *t, struct task *o, void *arg)
{
	(void)t;
	*(uint64_t *)arg = o->cpu_affinity & kernel->cpus;
	return 0;
}

long sys_sched_setaffinity(struct task *t, int pid, unsigned len, uaddr_t umask)
{
	uint64_t mask = 0;

	if (copy_in(&t->um, &mask, umask, MIN(len, (unsigned)sizeof(mask))))
		return -EFAULT;
	/* Unlike the calls about policies, these two know no invalid numbers. */
	return pid < 0 ? -ESRCH : with_task(t, pid, set_affinity, &mask);
}

long sys_sched_getaffinity(struct task *t, int pid, unsigned len, uaddr_t umask)
{
	uint64_t mask;

	/* It must have room for the highest CPU. */
	if (len % 8 || ((uint64_t)len * 8 < 64 && kernel->cpus >> (len * 8)))
		return -EINVAL;
	long ret = pid < 0 ? -ESRCH : with_task(t, pid, get_affinity, &mask);
	if (ret)
		return ret;
	if (copy_out_val(&t->um, umask, &mask))
		return -EFAULT;
	return sizeof(mask);
}

/* ---- nice values ---- */

/* Not of PRIO_PROCESS, which is about one thread. */
static bool prio_selects(const struct thread_group *tg, int which, int who, const struct task *t)
	REQUIRES(lc_tasks)
{
	if (which == PRIO_PGRP)
		return tg->pgid == (who ? pid_resolve(task_pid_ns(t), who) : t->tg->pgid);
	return tg->leader->cred->uid ==
	       (who ? uid_enter(t->cred->user_ns, (uint32_t)who) : t->cred->uid);
}

long sys_getpriority(struct task *t, int which, int who)
{
	struct thread_group *tg;
	long best = -ESRCH;

	if (which < PRIO_PROCESS || which > PRIO_USER)
		return -EINVAL;
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	struct task *one = which == PRIO_PROCESS ? (who ? task_named(t, who) : t) : NULL;
	if (one)
		best = 20 - one->nice;
	list_for_each (tg, &kernel->groups, link)
		if (which != PRIO_PROCESS && !tg->zombie && prio_selects(tg, which, who, t))
			best = MAX(best, 20L - tg->leader->nice);
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return best;
}

static long set_nice(struct task *t, struct task *o, int nice) REQUIRES(lc_tasks)
{
	if (!may_change(t, o))
		return -EPERM;
	if (nice < o->nice && !task_capable(t, CAP_NR_SYS_NICE) &&
	    (uint64_t)(20 - nice) > task_rlimit(t, RLIMIT_NICE))
		return -EACCES;
	task_set_nice(o, nice);
	return 0;
}

long sys_setpriority(struct task *t, int which, int who, int prio)
{
	struct thread_group *tg;
	struct task *o;
	long ret = -ESRCH;

	if (which < PRIO_PROCESS || which > PRIO_USER)
		return -EINVAL;
	prio = MAX(-20, MIN(19, prio));
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	if (which == PRIO_PROCESS) {
		o = who ? task_named(t, who) : t;
		if (o)
			ret = set_nice(t, o, prio);
	} else {
		list_for_each (tg, &kernel->groups, link) {
			if (tg->zombie || !prio_selects(tg, which, who, t))
				continue;
			if (ret == -ESRCH)
				ret = 0;
			list_for_each (o, &tg->threads, thread_link) {
				long err = set_nice(t, o, prio);
				if (err)
					ret = err;
			}
		}
	}
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return ret;
}

long sys_getcpu(struct task *t, uaddr_t cpu, uaddr_t node, uint64_t unused)
{
	/* Where this handler runs is as true as any answer by the time the guest reads it. */
	uint32_t now = (uint32_t)MAX(sched_getcpu(), 0), zero = 0;
	uint64_t mine = t->cpu_affinity & kernel->cpus;

	(void)unused;
	/* … unless the guest's thread may not be there. */
	if (mine && (now >= 64 || !(mine >> now & 1)))
		now = (uint32_t)__builtin_ctzll(mine);
	if (!uaddr_is_null(cpu) && copy_out_val(&t->um, cpu, &now))
		return -EFAULT;
	if (!uaddr_is_null(node) && copy_out_val(&t->um, node, &zero))
		return -EFAULT;
	return 0;
}
