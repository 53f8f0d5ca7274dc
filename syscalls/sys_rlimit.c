/* Resource limits and usage: getrlimit(2), prlimit(2), getrusage(2). */
#include <errno.h>
#include <linux/capability.h>
#include <string.h>

#include "sentry/time/posix_timers.h"
#include "sentry/kernel/pid.h"
#include "syscalls/syscalls.h"

/* fs.nr_open: no limit of descriptors goes beyond it, whoever asks. */
#define NR_OPEN 1048576

static int check_change(struct task *t, int resource, const struct krlimit *old,
			const struct krlimit *new)
{
	if (new->cur > new->max)
		return -EINVAL;
	if (resource == RLIMIT_NOFILE && new->max > NR_OPEN)
		return -EPERM;
	if (new->max > old->max && !task_capable(t, CAP_SYS_RESOURCE))
		return -EPERM;
	return 0;
}

static bool is_mm_limit(int resource)
{
	return resource == RLIMIT_AS || resource == RLIMIT_DATA || resource == RLIMIT_STACK ||
	       resource == RLIMIT_MEMLOCK;
}

/* Gets and sets in one step, so that what is returned is what was replaced. */
static int do_rlimit(struct task *t, struct thread_group *tg, int resource,
		     const struct krlimit *new, struct krlimit *old)
{
	struct krlimit was;
	struct mm *mm = NULL;
	int err = 0;

	if (resource < 0 || resource >= RLIM_NLIMITS)
		return -EINVAL;
	mutex_lock(&t->k->tasks_lock, &lc_tasks);
	was = tg->rlimit[resource];
	if (new && !(err = check_change(t, resource, &was, new))) {
		tg->rlimit[resource] = *new;
		struct task *leader = tg->leader;
		if (is_mm_limit(resource) && leader && leader->mm)
			mm = mm_get(leader->mm);
	}
	mutex_unlock(&t->k->tasks_lock, &lc_tasks);
	if (err)
		return err;
	if (mm)
		mm_set_rlimit(mm, resource, new->cur);
	mm_put(mm);
	if (new &&resource == RLIMIT_CPU)
		cpu_limit_changed(tg);
	if (old)
		*old = was;
	return 0;
}

long sys_getrlimit(struct task *t, int resource, uaddr_t urlim)
{
	struct krlimit old;
	int err = do_rlimit(t, t->tg, resource, NULL, &old);

	return err ? err : copy_out_last_val(&t->um, urlim, &old);
}

long sys_setrlimit(struct task *t, int resource, uaddr_t urlim)
{
	struct krlimit new;
	int err = copy_in_val(&t->um, &new, urlim);

	return err ? err : do_rlimit(t, t->tg, resource, &new, NULL);
}

/* prlimit(2): all ids of the target must be the caller's real ones. */
static bool may_prlimit(const struct cred *c, const struct cred *target)
{
	if (c->uid == target->euid && c->uid == target->suid && c->uid == target->uid &&
	    c->gid == target->egid && c->gid == target->sgid && c->gid == target->gid)
		return true;
	return cred_ns_capable(c, target->user_ns, CAP_SYS_RESOURCE);
}

static int prlimit_target(struct task *t, int pid, struct thread_group **out)
{
	int err = -ESRCH;

	mutex_lock(&t->k->tasks_lock, &lc_tasks);
	struct task *target = pid ? task_named(t, pid) : t;
	if (target) {
		err = target->tg != t->tg && !may_prlimit(t->cred, target->cred) ? -EPERM : 0;
		if (!err)
			*out = thread_group_get(target->tg);
	}
	mutex_unlock(&t->k->tasks_lock, &lc_tasks);
	return err;
}

long sys_prlimit64(struct task *t, int pid, int resource, uaddr_t unew, uaddr_t uold)
{
	struct krlimit new, old;
	struct thread_group *tg;
	bool set = !uaddr_is_null(unew);
	int err;

	if (set && (err = copy_in_val(&t->um, &new, unew)))
		return err;
	if ((err = prlimit_target(t, pid, &tg)))
		return err;
	err = do_rlimit(t, tg, resource, set ? &new : NULL, &old);
	thread_group_put(tg);
	if (err || uaddr_is_null(uold))
		return err;
	return copy_out_last_val(&t->um, uold, &old);
}

long sys_getrusage(struct task *t, int who, uaddr_t uusage)
{
	struct rusage ru;

	switch (who) {
	case RUSAGE_SELF:
	case RUSAGE_CHILDREN:
		task_rusage(t->tg, t->mm, who, &ru);
		break;
	case RUSAGE_THREAD:
		task_own_rusage(t, &ru);
		break;
	default:
		return -EINVAL;
	}
	return copy_out_last_val(&t->um, uusage, &ru);
}
