/* The sets of namespaces that tasks hold. */
#include "sentry/kernel/ns/ns_set.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>

#include "sentry/kernel/ipc/ipc.h"
#include "sentry/kernel/ns/plain.h"
#include "sentry/kernel/ns/time_ns.h"
#include "sentry/kernel/ns/uts.h"
#include "sentry/kernel/pid.h"
#include "sentry/kernel/task.h"

/* How a kind of a set is begun (NULL: no memory), and made anew out of an old one. */
static const struct {
	uint64_t flag;
	struct ns *(*top)(void);
	int (*copy)(struct ns *old, const struct ns_maker *m, struct ns **out);
} slots[NS_SLOTS] = {
	[NS_IPC] = {CLONE_NEWIPC, ipc_ns_top, ipc_ns_new},
	[NS_NET] = {CLONE_NEWNET, net_ns_top, net_ns_new},
	[NS_CGROUP] = {CLONE_NEWCGROUP, cgroup_ns_top, cgroup_ns_new},
	[NS_UTS] = {CLONE_NEWUTS, uts_ns_top, uts_ns_copy},
	[NS_PID] = {CLONE_NEWPID, pid_ns_top_get, pid_ns_new},
	[NS_TIME] = {0, time_ns_top_get, NULL},
	[NS_TIME_CHILDREN] = {CLONE_NEWTIME, time_ns_top_get, time_ns_new},
};

struct ns_set *ns_set_new(void)
{
	struct ns_set *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	ref_init(&s->ref, 1);
	for (int i = 0; i < NS_SLOTS; i++) {
		if (!(s->of[i] = slots[i].top())) {
			ns_set_put(s);
			return NULL;
		}
	}
	return s;
}

struct ns_set *ns_set_get(struct ns_set *s)
{
	ref_get(&s->ref);
	return s;
}

void ns_set_put(struct ns_set *s)
{
	if (!s || !ref_put(&s->ref))
		return;
	for (int i = 0; i < NS_SLOTS; i++)
		ns_put(s->of[i]);
	free(s);
}

struct ns_set *ns_set_dup(const struct ns_set *s)
{
	struct ns_set *n = malloc(sizeof(*n));

	if (!n)
		return NULL;
	ref_init(&n->ref, 1);
	for (int i = 0; i < NS_SLOTS; i++)
		n->of[i] = ns_get(s->of[i]);
	return n;
}

void ns_set_replace(struct ns_set *s, enum ns_slot slot, struct ns *ns)
{
	ns_put(s->of[slot]);
	s->of[slot] = ns;
}

int ns_set_unshare(const struct ns_set *old, uint64_t flags, const struct ns_maker *m,
		   struct ns_set **out)
{
	struct ns_set *s = ns_set_dup(old);
	int err = s ? 0 : -ENOMEM;

	for (int i = 0; i < NS_SLOTS && !err; i++) {
		struct ns *ns;
		if (!(flags & slots[i].flag))
			continue;
		if (!(err = slots[i].copy(old->of[i], m, &ns)))
			ns_set_replace(s, (enum ns_slot)i, ns);
	}
	if (err) {
		ns_set_put(s);
		return err;
	}
	*out = s;
	return 0;
}

struct ns_set *task_ns_get(struct task *t)
{
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	struct ns_set *s = t->ns ? ns_set_get(t->ns) : NULL;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return s;
}

void task_set_ns(struct task *t, struct ns_set *set)
{
	struct ns_set *old = t->ns;

	/* What is to be undone in the old namespace is undone now: semop(2). */
	if (set->of[NS_IPC] != old->of[NS_IPC])
		sem_undo_exit(t);
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	t->ns = set;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	ns_set_put(old);
}
