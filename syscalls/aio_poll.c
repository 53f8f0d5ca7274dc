#include "syscalls/aio_poll.h"

#include <errno.h>
#include <stdlib.h>

#include "sentry/fs/eventfd/eventfd.h"
#include "sentry/kernel/helper.h"

struct aio_poll {
	struct list_head link; /* aio_ctx.polls; lc_pipe of the context, as the next two */
	struct task *h;	       /* NULL: it has not begun, or has ended */
	bool cancelled;
	struct aio_ctx *c; /* reference, as the next two */
	struct file *f, *tell;
	uint32_t events;
	struct io_event ev;
};

static bool begin(struct aio_poll *p, struct task *h)
{
	mutex_lock(&p->c->lock, &lc_pipe);
	bool wanted = !p->cancelled;
	p->h = h;
	mutex_unlock(&p->c->lock, &lc_pipe);
	return wanted;
}

static void finish(struct aio_poll *p)
{
	mutex_lock(&p->c->lock, &lc_pipe);
	list_del(&p->link);
	p->h = NULL;
	mutex_unlock(&p->c->lock, &lc_pipe);
	aio_complete(p->c, &p->ev);
	if (p->tell)
		eventfd_signal(p->tell);
	file_put(p->tell);
	file_put(p->f);
	aio_ctx_put(p->c);
	free(p);
}

static uint32_t wait_ready(struct task *h, struct aio_poll *p)
{
	struct waitq *q = file_waitq(p->f);
	struct task_waiter tw;
	uint32_t got;

	if (!q)
		return file_poll(p->f) & p->events;
	task_waiter_init(&tw, h);
	waitq_add(q, &tw.w, p->events);
	while (!(got = file_poll(p->f) & p->events))
		if (task_park(h, TASK_SLEEPING, TIME_NEVER))
			break;
	waitq_remove(&tw.w);
	return got;
}

static void poll_main(struct task *h, void *arg)
{
	struct aio_poll *p = arg;

	if (begin(p, h))
		p->ev.res = wait_ready(h, p);
	finish(p);
}

int aio_poll_start(struct task *t, struct aio_ctx *c, struct file *f, struct file *tell,
		   uint32_t events, const struct io_event *ev)
{
	struct aio_poll *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	ref_get(&c->ref);
	p->c = c;
	p->f = file_get(f);
	p->tell = tell ? file_get(tell) : NULL;
	p->events = events | POLLERR | POLLHUP;
	p->ev = *ev;
	mutex_lock(&c->lock, &lc_pipe);
	list_add_tail(&p->link, &c->polls);
	mutex_unlock(&c->lock, &lc_pipe);
	int err = helper_start(t, poll_main, p);
	if (!err)
		return 0;
	mutex_lock(&c->lock, &lc_pipe);
	list_del(&p->link);
	mutex_unlock(&c->lock, &lc_pipe);
	file_put(p->tell);
	file_put(p->f);
	aio_ctx_put(c);
	free(p);
	return err;
}

static void cancel(struct aio_poll *p) REQUIRES(lc_pipe)
{
	p->cancelled = true;
	if (p->h)
		helper_cancel(p->h);
}

bool aio_poll_cancel(struct aio_ctx *c, uint64_t obj)
{
	struct aio_poll *p;
	bool found = false;

	mutex_lock(&c->lock, &lc_pipe);
	list_for_each (p, &c->polls, link) {
		if (p->ev.obj == obj && !p->cancelled) {
			cancel(p);
			found = true;
			break;
		}
	}
	mutex_unlock(&c->lock, &lc_pipe);
	return found;
}

static bool all_ended(struct aio_ctx *c)
{
	mutex_lock(&c->lock, &lc_pipe);
	bool none = list_empty(&c->polls);
	mutex_unlock(&c->lock, &lc_pipe);
	return none;
}

void aio_poll_cancel_all(struct task *t, struct aio_ctx *c)
{
	struct task_waiter tw;
	struct aio_poll *p;

	mutex_lock(&c->lock, &lc_pipe);
	list_for_each (p, &c->polls, link)
		cancel(p);
	mutex_unlock(&c->lock, &lc_pipe);
	task_waiter_init(&tw, t);
	waitq_add(&c->wq, &tw.w, POLLIN);
	while (!all_ended(c) && !task_park(t, TASK_UNINTERRUPTIBLE, TIME_NEVER))
		;
	waitq_remove(&tw.w);
}
