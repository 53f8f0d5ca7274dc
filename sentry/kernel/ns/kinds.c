/* The kinds of namespaces: where a task has its one, and who may enter another. */
#include <errno.h>
#include <linux/capability.h>

#include "sentry/kernel/ipc/ipc.h"
#include "sentry/kernel/ns/ns_set.h"
#include "sentry/kernel/ns/plain.h"
#include "sentry/kernel/ns/time_ns.h"
#include "sentry/kernel/ns/uts.h"
#include "sentry/kernel/pid.h"
#include "sentry/kernel/task.h"

/* Privileged over the namespace, and in the user namespace that the task will be in. */
static bool may_enter(const struct ns_change *ch, const struct ns *ns)
{
	return task_ns_capable(ch->t, ns->owner, CAP_SYS_ADMIN) &&
	       cred_ns_capable(ch->cred, ch->cred->user_ns, CAP_SYS_ADMIN);
}

static struct ns *slot_of_task(struct task *t, enum ns_slot slot)
{
	struct ns_set *s = task_ns_get(t);
	struct ns *ns = s ? ns_get(s->of[slot]) : NULL;

	ns_set_put(s);
	return ns;
}

static int enter_slot(struct ns_change *ch, struct ns *ns, enum ns_slot slot)
{
	if (!may_enter(ch, ns))
		return -EPERM;
	ns_set_replace(ch->set, slot, ns_get(ns));
	return 0;
}

static struct ns *user_of_task(struct task *t)
{
	struct cred *c = task_cred_get(t);
	struct ns *ns = ns_get(&c->user_ns->ns);

	cred_put(c);
	return ns;
}

static int user_enter(struct ns_change *ch, struct ns *ns)
{
	struct task *t = ch->t;
	struct user_ns *u = user_ns_of(ns);

	if (u == t->cred->user_ns || t->tg->nthreads > 1 || ref_read(&t->fs->ref) > 1)
		return -EINVAL;
	if (!task_ns_capable(t, u, CAP_SYS_ADMIN))
		return -EPERM;
	struct cred *new = cred_dup(t->cred);
	if (!new)
		return -ENOMEM;
	cred_enter_user_ns(new, u);
	ch->cred = ch->new_cred = new;
	return 0;
}

int task_new_user_ns(struct task *t, struct cred **out)
{
	struct user_ns *u;

	if (fs_context_is_chrooted(t->fs))
		return -EPERM;
	int err = user_ns_new(t->cred, &u);
	if (err)
		return err;
	struct cred *c = cred_dup(t->cred);
	if (c)
		cred_enter_user_ns(c, u);
	user_ns_put(u);
	*out = c;
	return c ? 0 : -ENOMEM;
}

static struct ns *mnt_of_task(struct task *t)
{
	struct fs_context *fs = task_fs_get(t);

	if (!fs)
		return NULL;
	mutex_lock(&fs->lock, &lc_fs);
	struct ns *ns = ns_get(&fs->mnt_ns->ns);
	mutex_unlock(&fs->lock, &lc_fs);
	fs_context_put(fs);
	return ns;
}

static int mnt_enter(struct ns_change *ch, struct ns *ns)
{
	if (!may_enter(ch, ns) || !cred_ns_capable(ch->cred, ch->cred->user_ns, CAP_SYS_CHROOT))
		return -EPERM;
	if (ref_read(&ch->t->fs->ref) > 1)
		return -EINVAL;
	ns_put(ch->mnt);
	ch->mnt = ns_get(ns);
	return 0;
}

static struct ns *uts_of_task(struct task *t)
{
	return slot_of_task(t, NS_UTS);
}

static int uts_enter(struct ns_change *ch, struct ns *ns)
{
	return enter_slot(ch, ns, NS_UTS);
}

static struct ns *ipc_of_task(struct task *t)
{
	return slot_of_task(t, NS_IPC);
}

static int ipc_enter(struct ns_change *ch, struct ns *ns)
{
	return enter_slot(ch, ns, NS_IPC);
}

static struct ns *net_of_task(struct task *t)
{
	return slot_of_task(t, NS_NET);
}

static int net_enter(struct ns_change *ch, struct ns *ns)
{
	return enter_slot(ch, ns, NS_NET);
}

static struct ns *cgroup_of_task(struct task *t)
{
	return slot_of_task(t, NS_CGROUP);
}

static int cgroup_enter(struct ns_change *ch, struct ns *ns)
{
	return enter_slot(ch, ns, NS_CGROUP);
}

static struct ns *pid_of_task(struct task *t)
{
	return ns_get(&task_pid_ns(t)->ns);
}

static struct ns *pid_children_of_task(struct task *t)
{
	struct ns *ns = slot_of_task(t, NS_PID);

	/* One without an init yet is not shown. */
	if (ns && ns != &task_pid_ns(t)->ns && !pid_ns_of(ns)->last) {
		ns_put(ns);
		return NULL;
	}
	return ns;
}

/* Downwards only: what a process sees stays what it sees. */
static int pid_enter(struct ns_change *ch, struct ns *ns)
{
	if (!pid_ns_within(pid_ns_of(ns), task_pid_ns(ch->t)))
		return may_enter(ch, ns) ? -EINVAL : -EPERM;
	return enter_slot(ch, ns, NS_PID);
}

static struct ns *time_of_task(struct task *t)
{
	return slot_of_task(t, NS_TIME);
}

static struct ns *time_children_of_task(struct task *t)
{
	return slot_of_task(t, NS_TIME_CHILDREN);
}

static int time_enter(struct ns_change *ch, struct ns *ns)
{
	if (ch->t->tg->nthreads > 1)
		return -EUSERS;
	int err = enter_slot(ch, ns, NS_TIME_CHILDREN);
	return err ? err : ns_set_enter_time(&ch->set);
}

const struct ns_kind ns_kinds[] = {
	{&user_ns_type, "user", user_of_task, user_enter},
	{&mnt_ns_type, "mnt", mnt_of_task, mnt_enter},
	{&uts_ns_type, "uts", uts_of_task, uts_enter},
	{&ipc_ns_type, "ipc", ipc_of_task, ipc_enter},
	{&pid_ns_type, "pid", pid_of_task, pid_enter},
	{&pid_ns_type, "pid_for_children", pid_children_of_task, NULL},
	{&cgroup_ns_type, "cgroup", cgroup_of_task, cgroup_enter},
	{&net_ns_type, "net", net_of_task, net_enter},
	{&time_ns_type, "time", time_of_task, time_enter},
	{&time_ns_type, "time_for_children", time_children_of_task, NULL},
};
const size_t ns_kind_count = ARRAY_SIZE(ns_kinds);
