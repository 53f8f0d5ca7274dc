#include "sentry/kernel/ns/time_ns.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdlib.h>

#include "sentry/kernel/ns/ns_set.h"
#include "sentry/kernel/task.h"
#include "sentry/time/ktimer.h"

/* Beyond this the sum of a clock and a timeout could overflow. */
#define CLOCK_MAX (INT64_MAX / 2)

static void time_ns_free(struct ns *ns)
{
	free(time_ns_of(ns));
}

const struct ns_type time_ns_type = {
	.name = "time", .flag = CLONE_NEWTIME, .count = NS_COUNT_TIME, .free = time_ns_free};

/* Asked for while there is one thread only. */
struct ns *time_ns_top_get(void)
{
	static struct time_ns *top;

	if (top)
		return ns_get(&top->ns);
	if (!(top = calloc(1, sizeof(*top))))
		return NULL;
	ns_init(&top->ns, &time_ns_type, NS_INO_TIME, &user_ns_top);
	top->frozen = true;
	return &top->ns;
}

int time_ns_new(struct ns *old, const struct ns_maker *m, struct ns **out)
{
	struct time_ns *from = time_ns_of(old), *tn = calloc(1, sizeof(*tn));
	int err = tn ? ns_make(&tn->ns, &time_ns_type, m) : -ENOMEM;

	if (err) {
		free(tn);
		return err;
	}
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	tn->offsets = from->offsets;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	*out = &tn->ns;
	return 0;
}

int ns_set_enter_time(struct ns_set **s)
{
	struct ns *to = (*s)->of[NS_TIME_CHILDREN];

	if ((*s)->of[NS_TIME] == to)
		return 0;
	struct ns_set *set = ns_set_dup(*s);
	if (!set)
		return -ENOMEM;
	ns_set_replace(set, NS_TIME, ns_get(to));
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	time_ns_of(to)->frozen = true;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	ns_set_put(*s);
	*s = set;
	return 0;
}

const struct time_offsets *task_time_offsets(const struct task *t)
{
	static const struct time_offsets none;

	return t->ns ? &time_ns_of(t->ns->of[NS_TIME])->offsets : &none;
}

void task_show_own_time(struct task *t)
{
	const struct time_offsets *o = task_time_offsets(t);

	if (o->monotonic || o->boottime)
		mm_hide_vdso_clock(t->mm, t->pt);
}

struct time_offsets time_offsets_here(void)
{
	const struct task *t = task_current();

	return t ? *task_time_offsets(t) : (struct time_offsets){0};
}

int task_child_offsets(struct task *t, struct time_offsets *out)
{
	struct ns_set *s = task_ns_get(t);

	if (!s)
		return -ESRCH;
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	*out = time_ns_of(s->of[NS_TIME_CHILDREN])->offsets;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	ns_set_put(s);
	return 0;
}

/* The clock itself must not come out negative. */
static int check_offset(int64_t now, const int64_t *offset)
{
	int64_t sum;

	if (!offset)
		return 0;
	return __builtin_add_overflow(now, *offset, &sum) || sum < 0 || sum > CLOCK_MAX ? -ERANGE
											: 0;
}

static int set_offsets(struct time_ns *tn, const struct cred *by, const int64_t *monotonic,
		       const int64_t *boottime)
{
	int err;

	if (!cred_ns_capable(by, tn->ns.owner ? tn->ns.owner : &user_ns_top, CAP_SYS_TIME))
		return -EPERM;
	if ((err = check_offset(time_monotonic(), monotonic)) ||
	    (err = check_offset(time_boottime(), boottime)))
		return err;
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	if (tn->frozen)
		err = -EACCES;
	if (!err && monotonic)
		tn->offsets.monotonic = *monotonic;
	if (!err && boottime)
		tn->offsets.boottime = *boottime;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return err;
}

int task_set_child_offsets(struct task *t, const struct cred *by, const int64_t *monotonic,
			   const int64_t *boottime)
{
	struct ns_set *s = task_ns_get(t);

	if (!s)
		return -ESRCH;
	int err = set_offsets(time_ns_of(s->of[NS_TIME_CHILDREN]), by, monotonic, boottime);
	ns_set_put(s);
	return err;
}
