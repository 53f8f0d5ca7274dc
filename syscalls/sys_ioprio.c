/* ioprio_set(2), ioprio_get(2): remembered and shown; the host's disks are not told. */
#include <errno.h>
#include <linux/capability.h>
#include <linux/ioprio.h>
#include <sched.h>

#include "sentry/kernel/run.h"
#include "sentry/kernel/pid.h"
#include "syscalls/syscalls.h"

#define CLASS_OF(prio) ((prio) >> IOPRIO_CLASS_SHIFT & 7)

static int check_ioprio(struct task *t, int prio)
{
	switch (CLASS_OF(prio)) {
	case IOPRIO_CLASS_RT:
		return task_capable(t, CAP_SYS_ADMIN) || task_capable(t, CAP_SYS_NICE) ? 0 : -EPERM;
	case IOPRIO_CLASS_BE:
	case IOPRIO_CLASS_IDLE:
		return 0;
	case IOPRIO_CLASS_NONE:
		return prio & 7 ? -EINVAL : 0;
	default:
		return -EINVAL;
	}
}

/* What a task's priority comes to: without one of its own it follows from its scheduling. */
static int effective_ioprio(const struct task *o)
{
	int class = IOPRIO_CLASS_BE;

	if (CLASS_OF(o->ioprio) != IOPRIO_CLASS_NONE)
		return o->ioprio;
	if (o->sched_policy == SCHED_FIFO || o->sched_policy == SCHED_RR)
		class = IOPRIO_CLASS_RT;
	else if (o->sched_policy == SCHED_IDLE)
		class = IOPRIO_CLASS_IDLE;
	return class << IOPRIO_CLASS_SHIFT | (o->nice + 20) / 5;
}

struct ioprio_query {
	bool set;
	int prio;
};

static int visit(struct task *t, struct task *o, const struct ioprio_query *q)
{
	const struct cred *own = t->cred;

	if (!q->set)
		return effective_ioprio(o);
	if (o->cred->uid != own->euid && o->cred->uid != own->uid &&
	    !task_ns_capable(t, o->cred->user_ns, CAP_SYS_NICE))
		return -EPERM;
	o->ioprio = q->prio;
	return 0;
}

/* A group of processes or a user's: the first failure, or the best priority found. */
static int visit_many(struct task *t, int which, int who, const struct ioprio_query *q)
	REQUIRES(lc_tasks)
{
	struct thread_group *tg;
	struct task *o;
	int ret = -ESRCH;
	uint32_t uid = who ? uid_enter(t->cred->user_ns, (uint32_t)who) : t->cred->uid;
	int pgid = who ? pid_resolve(task_pid_ns(t), who) : t->tg->pgid;

	list_for_each (tg, &kernel->groups, link) {
		if (tg->zombie || (which == IOPRIO_WHO_PGRP && tg->pgid != pgid))
			continue;
		list_for_each (o, &tg->threads, thread_link) {
			if (which == IOPRIO_WHO_USER && o->cred->uid != uid)
				continue;
			int one = visit(t, o, q);
			if (one < 0)
				return one;
			ret = ret < 0 ? one : MIN(ret, one);
		}
	}
	return ret;
}

static long ioprio(struct task *t, int which, int who, const struct ioprio_query *q)
{
	long ret = -ESRCH;

	if (which < IOPRIO_WHO_PROCESS || which > IOPRIO_WHO_USER)
		return -EINVAL;
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	if (which == IOPRIO_WHO_PROCESS) {
		struct task *o = who ? task_named(t, who) : t;
		if (o)
			ret = q->set ? visit(t, o, q) : o->ioprio;
	} else {
		ret = visit_many(t, which, who, q);
	}
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return ret;
}

long sys_ioprio_set(struct task *t, int which, int who, int prio)
{
	int err = check_ioprio(t, prio);

	return err ? err
		   : ioprio(t, which, who,
			    &(struct ioprio_query){.set = true, .prio = (uint16_t)prio});
}

long sys_ioprio_get(struct task *t, int which, int who)
{
	return ioprio(t, which, who, &(struct ioprio_query){0});
}
