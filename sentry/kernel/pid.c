#include "sentry/kernel/pid.h"

#include <errno.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdlib.h>

#include "sentry/auth/user_ns.h"
#include "sentry/kernel/run.h"
#include "sentry/lib/cleanup.h"

struct pid_ns pid_ns_top = {.pid_max = PID_MAX_DEFAULT};

/* All numbers of all namespaces. */
#define PID_BUCKETS 1024
static struct list_head pid_hash[PID_BUCKETS]; /* lc_tasks */

static struct list_head *bucket(const struct pid_ns *ns, int nr)
{
	uintptr_t spread = ns->level ? (uintptr_t)ns / sizeof(*ns) : 0;

	return &pid_hash[((unsigned)nr + spread) % PID_BUCKETS];
}

void pid_init(void)
{
	for (int i = 0; i < PID_BUCKETS; i++)
		list_init(&pid_hash[i]);
	ns_init(&pid_ns_top.ns, &pid_ns_type, NS_INO_PID, &user_ns_top);
}

/* ---- namespaces ---- */

static void pid_ns_free(struct ns *header)
{
	struct pid_ns *ns = pid_ns_of(header);

	pid_ns_put(ns->parent); /* at most as deep as PID_NS_LEVEL_MAX */
	free(ns);
}

static struct ns *pid_ns_parent(struct ns *ns)
{
	struct pid_ns *parent = pid_ns_of(ns)->parent;

	return parent ? &parent->ns : NULL;
}

const struct ns_type pid_ns_type = {
	.name = "pid",
	.flag = CLONE_NEWPID,
	.count = NS_COUNT_PID,
	.parent = pid_ns_parent,
	.free = pid_ns_free,
};

struct ns *pid_ns_top_get(void)
{
	return ns_get(&pid_ns_top.ns);
}

int pid_ns_new(struct ns *above, const struct ns_maker *m, struct ns **out)
{
	struct pid_ns *parent = pid_ns_of(above), *ns;

	if (parent->level == PID_NS_LEVEL_MAX)
		return -ENOSPC;
	/* Who is in it must be privileged over it through all namespaces above. */
	if (!user_ns_is_in(m->owner, parent->ns.owner))
		return -EINVAL;
	ns = calloc(1, sizeof(*ns));
	int err = ns ? ns_make(&ns->ns, &pid_ns_type, m) : -ENOMEM;
	if (err) {
		free(ns);
		return err;
	}
	ns->parent = pid_ns_get(parent);
	ns->level = parent->level + 1;
	ns->pid_max = parent->pid_max;
	*out = &ns->ns;
	return 0;
}

struct pid_ns *pid_ns_get(struct pid_ns *ns)
{
	ns_get(&ns->ns);
	return ns;
}

void pid_ns_put(struct pid_ns *ns)
{
	ns_put(ns ? &ns->ns : NULL);
}

bool pid_ns_within(const struct pid_ns *ns, const struct pid_ns *above)
{
	while (ns->level > above->level)
		ns = ns->parent;
	return ns == above;
}

/* ---- numbers ---- */

struct pid *pid_lookup(const struct pid_ns *ns, int nr)
{
	struct pid_number *n;

	list_for_each (n, bucket(ns, nr), hash) {
		if (n->nr != nr || n->ns != ns)
			continue;
		struct pid_number *first = n - ns->level;
		return container_of(first, struct pid, numbers);
	}
	return NULL;
}

/* The next free number: upwards, and around; those below 300 are given in the first round only. */
static int next_number(struct pid_ns *ns) REQUIRES(lc_tasks)
{
	int least = ns->last >= PID_RESERVED ? PID_RESERVED : 1, nr = ns->last;

	for (int tries = 0; tries < ns->pid_max; tries++) {
		if (++nr >= ns->pid_max)
			nr = least;
		if (!pid_lookup(ns, nr)) {
			ns->last = nr;
			return nr;
		}
	}
	return -EAGAIN;
}

static int chosen_number(struct pid_ns *ns, int nr) REQUIRES(lc_tasks)
{
	const struct task *t = task_current();

	if (nr < 1 || nr >= ns->pid_max || (nr != 1 && !ns->init))
		return -EINVAL;
	if (!t || !(task_ns_capable(t, ns->ns.owner, CAP_CHECKPOINT_RESTORE) ||
		    task_ns_capable(t, ns->ns.owner, CAP_SYS_ADMIN)))
		return -EPERM;
	return pid_lookup(ns, nr) ? -EEXIST : nr;
}

int pid_alloc(struct task *t, struct pid_ns *ns, const struct pid_choice *choice, struct pid **out)
{
	if (choice && choice->n > ns->level + 1)
		return -EINVAL;
	CLEANUP_FREE struct pid *p = malloc(sizeof(*p) + (ns->level + 1) * sizeof(p->numbers[0]));
	if (!p)
		return -ENOMEM;
	struct pid_ns *at = ns;
	for (unsigned i = 0; i <= ns->level; i++, at = at->parent) {
		int nr = choice && i < choice->n ? chosen_number(at, choice->nr[i])
						 : next_number(at);
		if (nr < 0)
			return nr;
		p->numbers[ns->level - i].nr = nr;
		p->numbers[ns->level - i].ns = at;
	}
	if (ns->dead)
		return -ENOMEM;
	p->users = 1;
	p->task = t;
	p->level = ns->level;
	for (unsigned i = 0; i <= p->level; i++) {
		struct pid_number *n = &p->numbers[i];
		n->ns->ntasks++;
		list_add(&n->hash, bucket(n->ns, n->nr));
	}
	pid_ns_get(ns);
	*out = steal(p);
	return 0;
}

static void pid_unuse(struct pid *p)
{
	struct pid_ns *ns = p->numbers[p->level].ns;

	if (--p->users)
		return;
	for (unsigned i = 0; i <= p->level; i++)
		list_del(&p->numbers[i].hash);
	free(p);
	pid_ns_put(ns);
}

void pid_leave(struct pid *p)
{
	p->task = NULL;
	for (unsigned i = 0; i <= p->level; i++) {
		struct pid_ns *ns = p->numbers[i].ns;
		if (--ns->ntasks == 1 && ns->ending)
			task_wake(ns->ending);
	}
	pid_unuse(p);
}

void pid_hold(int nr)
{
	struct pid *p = pid_lookup(&pid_ns_top, nr);

	if (p)
		p->users++;
}

void pid_drop(int nr)
{
	struct pid *p = pid_lookup(&pid_ns_top, nr);

	if (p)
		pid_unuse(p);
}

/* ---- translation ---- */

int pid_nr_in(const struct pid *p, const struct pid_ns *ns)
{
	return p->level >= ns->level && p->numbers[ns->level].ns == ns ? p->numbers[ns->level].nr
								       : 0;
}

int pid_show(const struct pid_ns *ns, int nr)
{
	if (!ns->level || nr <= 0)
		return nr;
	const struct pid *p = pid_lookup(&pid_ns_top, nr);
	return p ? pid_nr_in(p, ns) : 0;
}

int pid_resolve(const struct pid_ns *ns, int nr)
{
	if (!ns->level || nr <= 0)
		return nr;
	const struct pid *p = pid_lookup(ns, nr);
	return p ? p->numbers[0].nr : -1;
}

int pid_to_guest(const struct task *t, int nr)
{
	const struct pid_ns *ns = task_pid_ns(t);

	if (!ns->level || nr <= 0)
		return nr;
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	nr = pid_show(ns, nr);
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return nr;
}

int pid_from_guest(const struct task *t, int nr)
{
	const struct pid_ns *ns = task_pid_ns(t);

	if (!ns->level || nr <= 0)
		return nr;
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	nr = pid_resolve(ns, nr);
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return nr;
}

struct task *task_lookup(int tid)
{
	struct pid *p = pid_lookup(&pid_ns_top, tid);

	return p ? p->task : NULL;
}

struct thread_group *thread_group_lookup(int tgid)
{
	struct task *t = task_lookup(tgid);

	return t && t->tg->tgid == tgid ? t->tg : NULL;
}

struct task *task_named(const struct task *t, int nr)
{
	struct pid *p = pid_lookup(task_pid_ns(t), nr);

	return p ? p->task : NULL;
}

struct thread_group *thread_group_named(const struct task *t, int nr)
{
	struct task *o = task_named(t, nr);

	return o && o->tid == o->tg->tgid ? o->tg : NULL;
}
