/* unshare(2)'s parts, and the rules of who may look into whom (ptrace(2)). */
#include <errno.h>
#include <linux/capability.h>

#include "sentry/kernel/task.h"

int task_unshare_fds(struct task *t)
{
	int err = 0;

	if (!fdtable_is_shared(t->fds))
		return 0;
	struct fdtable *old = t->fds, *own = fdtable_dup(old, &err);
	if (!own)
		return err;
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	t->fds = own;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	fdtable_put(old);
	return 0;
}

int task_unshare_fs(struct task *t)
{
	if (ref_read(&t->fs->ref) == 1)
		return 0;
	struct fs_context *old = t->fs, *own = fs_context_dup(old);
	if (!own)
		return -ENOMEM;
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	t->fs = own;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	fs_context_put(old);
	return 0;
}

bool task_may_ptrace(struct task *t, struct task *other, bool fscreds)
{
	if (other->tg == t->tg)
		return true;
	struct cred *c = task_cred_get(other);
	struct mm *mm = task_mm_get(other);
	const struct cred *own = t->cred;
	uint32_t uid = fscreds ? own->fsuid : own->uid, gid = fscreds ? own->fsgid : own->gid;
	bool same = uid == c->uid && uid == c->euid && uid == c->suid && gid == c->gid &&
		    gid == c->egid && gid == c->sgid;
	bool covered = !(c->cap_permitted & ~own->cap_permitted);
	bool dumpable = !mm || atomic_load(&mm->dumpable) == 1;

	mm_put(mm);
	cred_put(c);
	return (same && covered && dumpable) || cred_capable(own, CAP_SYS_PTRACE);
}
