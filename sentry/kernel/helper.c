#include "sentry/kernel/helper.h"

#include <errno.h>
#include <stdlib.h>

#include "sentry/kernel/ns/ns_set.h"
#include "sentry/kernel/run.h"

struct helper_start {
	struct task *h;
	void (*fn)(struct task *h, void *arg);
	void *arg;
};

static struct mutex helpers_lock = MUTEX_INIT; /* lc_leaf: every task's list of helpers */

static void forget(void *arg)
{
	task_put(arg);
}

/* Tells the owner that the helper sleeps, or ends. */
static void report(struct task *h)
{
	atomic_store(&h->helper_slept, true);
	task_wake(h->helps);
}

void helper_sleeps(struct task *h)
{
	if (!atomic_load(&h->helper_slept))
		report(h);
}

static void put_resources(struct task *h)
{
	fdtable_put(h->fds);
	fs_context_put(h->fs);
	mm_put(h->mm);
	h->fds = NULL;
	h->fs = NULL;
	h->mm = NULL;
}

static void helper_main(void *arg)
{
	struct helper_start s = *(struct helper_start *)arg;
	struct task *h = s.h, *owner = h->helps;

	free(arg);
	s.fn(h, s.arg);
	put_resources(h);
	task_get(owner);
	mutex_lock(&helpers_lock, &lc_leaf);
	list_del(&h->thread_link);
	mutex_unlock(&helpers_lock, &lc_leaf);
	report(h);
	h->helps = NULL;
	task_put(owner);
	fiber_exit(&h->fiber, forget, h);
}

int helper_start(struct task *t, void (*fn)(struct task *h, void *arg), void *arg)
{
	struct helper_start *s = malloc(sizeof(*s));
	struct task *h = s ? task_new_on(t->tg, helper_main, s) : NULL;

	if (!h) {
		free(s);
		return -ENOMEM;
	}
	*s = (struct helper_start){h, fn, arg};
	h->helps = t;
	h->sig_exiting = true;
	h->mm = mm_get(t->mm);
	h->um = (struct umem){.mm = h->mm};
	h->fds = fdtable_get(t->fds);
	h->fs = fs_context_get(t->fs);
	h->ns = ns_set_get(t->ns);
	h->cred = cred_get(t->cred);
	h->no_new_privs = t->no_new_privs;
	task_get(h); /* ours, to look at helper_slept */
	mutex_lock(&helpers_lock, &lc_leaf);
	list_add_tail(&h->thread_link, &t->helpers);
	mutex_unlock(&helpers_lock, &lc_leaf);
	task_make_runnable(h);
	while (!atomic_load(&h->helper_slept))
		task_park_always(t);
	task_put(h);
	return 0;
}

void helper_cancel(struct task *h)
{
	atomic_store(&h->sigpending, true);
	task_wake(h);
}

/* One that is still there, with a reference. */
static struct task *any_helper(struct task *t)
{
	struct task *h = NULL;

	mutex_lock(&helpers_lock, &lc_leaf);
	if (!list_empty(&t->helpers))
		h = task_get(list_first(&t->helpers, struct task, thread_link));
	mutex_unlock(&helpers_lock, &lc_leaf);
	return h;
}

static bool helper_ended(struct task *h)
{
	mutex_lock(&helpers_lock, &lc_leaf);
	bool ended = list_empty(&h->thread_link);
	mutex_unlock(&helpers_lock, &lc_leaf);
	return ended;
}

void helpers_stop(struct task *t)
{
	struct task *h;

	while ((h = any_helper(t))) {
		helper_cancel(h);
		while (!helper_ended(h))
			task_park_always(t);
		task_put(h);
	}
}
