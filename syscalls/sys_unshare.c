/* unshare(2), setns(2). */
#include <errno.h>
#include <linux/capability.h>
#include <sched.h>

#include "sentry/kernel/ns/ns_set.h"
#include "sentry/kernel/ns/nsfs.h"
#include "sentry/kernel/ns/time_ns.h"
#include "sentry/kernel/pid.h"
#include "sentry/kernel/pidfd.h"
#include "syscalls/syscalls.h"

#define NEW_NAMESPACES                                                                 \
	(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | \
	 CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWTIME)
#define PARTS (CLONE_FILES | CLONE_FS | CLONE_SYSVSEM | CLONE_THREAD | CLONE_SIGHAND | CLONE_VM)

/* Does a task of another process use this memory, or these signal handlers? */
static bool shares_with_others(struct task *t, bool memory)
{
	struct thread_group *tg;
	struct task *o;
	bool found = false;

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	list_for_each (tg, &kernel->groups, link) {
		if (tg == t->tg)
			continue;
		found |= !tg->zombie && tg->sighand == t->tg->sighand;
		list_for_each (o, &tg->threads, thread_link)
			found |= memory && o->mm == t->mm;
	}
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return found;
}

/* Memory, handlers and the thread group cannot be parted: only who has them alone may ask. */
static int check_alone(struct task *t, int flags)
{
	if (!(flags & (CLONE_THREAD | CLONE_SIGHAND | CLONE_VM)))
		return 0;
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	bool threads = t->tg->nthreads > 1;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	if (threads)
		return -EINVAL;
	if (!(flags & (CLONE_SIGHAND | CLONE_VM)))
		return 0;
	return shares_with_others(t, flags & CLONE_VM) ? -EINVAL : 0;
}

/* All are made before the task goes into any. */
static int unshare_namespaces(struct task *t, uint64_t flags)
{
	struct cred *cred = NULL;
	struct ns_set *set = NULL;
	int err = 0;

	if (flags & CLONE_NEWUSER && (err = task_new_user_ns(t, &cred)))
		return err;
	struct user_ns *owner = (cred ? cred : t->cred)->user_ns;
	const struct ns_maker maker = {owner, t->cred->euid};
	if (flags & ~(uint64_t)CLONE_NEWUSER & NEW_NAMESPACES &&
	    !task_ns_capable(t, owner, CAP_SYS_ADMIN))
		err = -EPERM;
	if (!err)
		err = ns_set_unshare(t->ns, flags, &maker, &set);
	if (!err && flags & CLONE_NEWNS)
		err = fs_context_new_mnt_ns(t->fs, &maker);
	if (err) {
		cred_put(cred);
		ns_set_put(set);
		return err;
	}
	if (cred)
		task_set_cred(t, cred);
	task_set_ns(t, set);
	return 0;
}

long sys_unshare(struct task *t, int flags)
{
	int err;

	if (flags & ~(PARTS | NEW_NAMESPACES))
		return -EINVAL;
	/* What implies what: unshare(2). */
	if (flags & CLONE_NEWUSER)
		flags |= CLONE_THREAD | CLONE_FS;
	if (flags & CLONE_NEWNS)
		flags |= CLONE_FS;
	if (flags & CLONE_NEWPID)
		flags |= CLONE_THREAD;
	if (flags & CLONE_VM)
		flags |= CLONE_SIGHAND;
	if ((err = check_alone(t, flags)))
		return err;
	if (flags & CLONE_NEWPID && task_pid_ns_children(t) != task_pid_ns(t))
		return -EINVAL;
	if ((flags & CLONE_FS) && (err = task_unshare_fs(t)))
		return err;
	if ((flags & CLONE_FILES) && (err = task_unshare_fds(t)))
		return err;
	return flags & NEW_NAMESPACES ? unshare_namespaces(t, (uint64_t)flags) : 0;
}

/* The leader of the process that a pidfd names, with a reference; NULL: it has gone. */
static struct task *leader_of(struct thread_group *tg)
{
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	bool gone = tg->zombie || thread_group_lookup(tg->tgid) != tg;
	struct task *leader = gone ? NULL : task_get(tg->leader);
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return leader;
}

long sys_setns(struct task *t, int fd, int flags)
{
	CLEANUP_FILE struct file *f = fdtable_file(t->fds, fd);

	if (!f)
		return -EBADF;
	struct ns *ns = nsfs_file_ns(f);
	if (ns)
		return flags && (uint32_t)flags != ns->type->flag ? -EINVAL : task_enter_ns(t, ns);
	if (!pidfd_group(f) || !flags || (flags & ~NEW_NAMESPACES))
		return -EINVAL;
	struct task *leader = leader_of(pidfd_group(f));
	if (!leader)
		return -ESRCH;
	int err = task_enter_ns_of(t, leader, (uint64_t)flags);
	task_put(leader);
	return err;
}
