/* Questions: FAN_OPEN_PERM, FAN_ACCESS_PERM, FAN_OPEN_EXEC_PERM. */
#include <errno.h>

#include "sentry/fs/notify/fanotify_impl.h"

void fan_answer(struct fan_event *v, unsigned answer)
{
	v->state = FAN_ANSWERED;
	v->answer = answer;
	list_del(&v->node);
	waitq_notify(&v->asker->answers, POLLIN);
}

static bool is_answered(const struct fan_event *v)
{
	mutex_lock(&notify_lock, &lc_notify);
	bool answered = v->state == FAN_ANSWERED;
	mutex_unlock(&notify_lock, &lc_notify);
	return answered;
}

/* Waits for one answer; only the end of the task stops it. */
static int wait_for_answer(struct task *t, struct fan_event *v)
{
	struct task_waiter tw;
	int err = 0;

	task_waiter_init(&tw, t);
	waitq_add(&v->asker->answers, &tw.w, POLLIN);
	while (!err && !is_answered(v))
		err = task_park(t, TASK_UNINTERRUPTIBLE, TIME_NEVER);
	waitq_remove(&tw.w);
	return err;
}

/* 0 or -errno, as the answer has it: FAN_DENY_ERRNO(). */
static int verdict(const struct fan_event *v)
{
	if (v->answer & FAN_ALLOW)
		return 0;
	int err = (int)(v->answer >> 24);
	return err ? -err : -EPERM;
}

static int take_answer(struct task *t, struct fan_event *v)
{
	struct fan_group *g = v->asker;
	int err = wait_for_answer(t, v);

	mutex_lock(&notify_lock, &lc_notify);
	if (v->state == FAN_QUEUED)
		g->nqueued--;
	list_del(&v->node); /* it may not be answered any more */
	list_del(&v->asked);
	mutex_unlock(&notify_lock, &lc_notify);
	if (!err)
		err = verdict(v);
	fan_event_put(v);
	fan_group_put(g);
	return err;
}

int fan_ask(const struct path *p, uint32_t mask)
{
	struct list_head asked = LIST_HEAD_INIT(asked);
	struct notify_event e = {.mask = mask, .path = p, .asked = &asked};
	struct task *t = task_current();
	int err = 0;

	if (!t)
		return 0;
	notify_question(&e);
	while (!list_empty(&asked)) {
		int one = take_answer(t, list_first(&asked, struct fan_event, asked));
		if (!err)
			err = one;
	}
	return err;
}
