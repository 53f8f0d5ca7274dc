/* setns(2): a task goes into namespaces that exist already. */
#include <errno.h>
#include <stdlib.h>

#include "sentry/kernel/ns/ns_set.h"
#include "sentry/kernel/ns/time_ns.h"
#include "sentry/kernel/task.h"

static int change_begin(struct ns_change *ch, struct task *t)
{
	*ch = (struct ns_change){.t = t, .cred = t->cred, .set = ns_set_dup(t->ns)};
	return ch->set ? 0 : -ENOMEM;
}

/* Frees what was not used. */
static void change_end(struct ns_change *ch)
{
	cred_put(ch->new_cred);
	ns_set_put(ch->set);
	ns_put(ch->mnt);
}

/* Nothing fails here: all is done, or nothing. */
static void change_commit(struct ns_change *ch)
{
	if (ch->new_cred) {
		task_set_cred(ch->t, ch->new_cred);
		ch->new_cred = NULL;
	}
	if (ch->mnt) {
		fs_context_enter(ch->t->fs, container_of(ch->mnt, struct mnt_ns, ns));
		ch->mnt = NULL;
	}
	task_set_ns(ch->t, ch->set);
	ch->set = NULL;
	task_show_own_time(ch->t);
}

static const struct ns_kind *kind_of(const struct ns *ns)
{
	for (size_t i = 0; i < ns_kind_count; i++)
		if (ns_kinds[i].type == ns->type && ns_kinds[i].enter)
			return &ns_kinds[i];
	return NULL;
}

int task_enter_ns(struct task *t, struct ns *ns)
{
	const struct ns_kind *kind = kind_of(ns);
	struct ns_change ch;

	if (!kind)
		return -EINVAL;
	int err = change_begin(&ch, t);
	if (!err)
		err = kind->enter(&ch, ns);
	if (!err)
		change_commit(&ch);
	change_end(&ch);
	return err;
}

int task_enter_ns_of(struct task *t, struct task *target, uint64_t flags)
{
	struct ns_change ch;

	if (!task_may_ptrace(t, target, false))
		return -EPERM;
	int err = change_begin(&ch, t);
	for (size_t i = 0; i < ns_kind_count && !err; i++) {
		const struct ns_kind *kind = &ns_kinds[i];
		if (!(flags & kind->type->flag) || !kind->enter)
			continue;
		struct ns *ns = kind->of_task(target);
		err = ns ? kind->enter(&ch, ns) : -ESRCH;
		ns_put(ns);
	}
	if (!err)
		change_commit(&ch);
	change_end(&ch);
	return err;
}
