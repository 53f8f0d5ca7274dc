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

/* As ptrace(2) words it, in two parts: the ids (or a capability), then what the kernel's own
 * security module says of capabilities. */
static bool may_look(const struct cred *own, const struct cred *c, bool fscreds, bool dumpable,
		     const struct user_ns *mm_ns)
{
	uint32_t uid = fscreds ? own->fsuid : own->uid, gid = fscreds ? own->fsgid : own->gid;
	bool same = uid == c->uid && uid == c->euid && uid == c->suid && gid == c->gid &&
		    gid == c->egid && gid == c->sgid;

	if (!same && !cred_ns_capable(own, c->user_ns, CAP_SYS_PTRACE))
		return false;
	if (!dumpable && !cred_ns_capable(own, mm_ns, CAP_SYS_PTRACE))
		return false;
	uint64_t have = fscreds ? own->cap_effective : own->cap_permitted;
	return (own->user_ns == c->user_ns && !(c->cap_permitted & ~have)) ||
	       cred_ns_capable(own, c->user_ns, CAP_SYS_PTRACE);
}

bool task_may_ptrace(struct task *t, struct task *other, bool fscreds)
{
	if (other->tg == t->tg)
		return true;
	struct cred *c = task_cred_get(other);
	struct mm *mm = task_mm_get(other);
	bool dumpable = !mm || atomic_load(&mm->dumpable) == 1;
	bool may = landlock_domain_covers(t->cred->landlock, c->landlock) &&
		   may_look(t->cred, c, fscreds, dumpable, mm ? mm->user_ns : c->user_ns);

	mm_put(mm);
	cred_put(c);
	return may;
}
