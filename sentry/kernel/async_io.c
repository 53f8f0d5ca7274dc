/* SIGIO.  Source: fcntl(2), "Managing signals"; sigaction(2), POLL_*. */
#include "sentry/kernel/async_io.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/host/poller.h"
#include "sentry/kernel/task.h"

struct async {
	struct waiter w;
	struct file *f; /* borrowed: it owns this */
	int fd;
	struct list_head due; /* due_lock */
	uint32_t events;      /* since the last signal; due_lock */
};

static struct mutex due_lock = MUTEX_INIT; /* lc_leaf */
static struct list_head due = LIST_HEAD_INIT(due);
_Atomic bool async_io_due;

#define READ_EVENTS (POLLIN | POLLRDNORM | POLLPRI | POLLRDBAND)
#define WRITE_EVENTS (POLLOUT | POLLWRNORM | POLLWRBAND)

/* The queue may be that of both directions. */
static uint32_t events_of(const struct file *f, uint32_t events)
{
	if (!file_readable(f))
		events &= ~(uint32_t)READ_EVENTS;
	if (!file_writable(f))
		events &= ~(uint32_t)WRITE_EVENTS;
	return events;
}

static void async_notify(struct waiter *w, uint32_t events)
{
	struct async *a = container_of(w, struct async, w);

	events = events_of(a->f, events);
	if (!events)
		return;
	mutex_lock(&due_lock, &lc_leaf);
	a->events |= events;
	if (list_empty(&a->due))
		list_add_tail(&a->due, &due);
	async_io_due = true;
	mutex_unlock(&due_lock, &lc_leaf);
	poller_kick();
}

/* One signal as it was due: a copy, since the file may go meanwhile. */
struct notice {
	int kind, id, sig, fd;
	uint32_t uid, euid;
	struct landlock_domain *landlock; /* reference */
	uint32_t events;
	bool fifo;
};

/* due_lock held. */
static struct notice notice_of(const struct file *f, int fd, uint32_t events)
{
	return (struct notice){
		.kind = f->owner_kind,
		.id = f->owner_id,
		.sig = f->owner_sig,
		.fd = fd,
		.uid = f->owner_uid,
		.euid = f->owner_euid,
		.landlock = landlock_domain_get(f->owner_landlock),
		.events = events,
		.fifo = S_ISFIFO(f->inode->mode),
	};
}

static bool take_notice(struct notice *n)
{
	mutex_lock(&due_lock, &lc_leaf);
	bool any = !list_empty(&due);
	if (any) {
		struct async *a = list_first(&due, struct async, due);
		list_del(&a->due);
		*n = notice_of(a->f, a->fd, a->events);
		a->events = 0;
	}
	async_io_due = !list_empty(&due);
	mutex_unlock(&due_lock, &lc_leaf);
	return any;
}

void async_io_set_owner(struct file *f, int kind, int id, const struct cred *c)
{
	struct landlock_domain *old;

	mutex_lock(&due_lock, &lc_leaf);
	f->owner_kind = kind;
	f->owner_id = id;
	f->owner_uid = c->uid;
	f->owner_euid = c->euid;
	old = f->owner_landlock;
	f->owner_landlock = landlock_domain_get(c->landlock);
	mutex_unlock(&due_lock, &lc_leaf);
	landlock_domain_put(old);
}

/* May the owner's setter signal that task? */
static bool may_signal(const struct notice *n, const struct task *t)
{
	const struct cred *c = t->cred;

	if (landlock_is_scoped(n->landlock, c->landlock, LL_SCOPE_SIGNAL))
		return false;
	return n->euid == 0 || n->euid == c->suid || n->euid == c->uid || n->uid == c->suid ||
	       n->uid == c->uid;
}

static void send_to(const struct notice *n, struct task *t, const ksiginfo *info) REQUIRES(lc_tasks)
{
	ksiginfo plain;

	if (!may_signal(n, t))
		return;
	int err =
		n->kind == F_OWNER_TID ? signal_send_task(t, info) : signal_send_group(t->tg, info);
	if (err != -EAGAIN)
		return;
	/* No room for one that says what it is about. */
	signal_info_kernel(&plain, SIGIO);
	(void)signal_send_group(t->tg, &plain);
}

static void send_to_owner(const struct notice *n, const ksiginfo *info)
{
	struct thread_group *tg;
	struct task *t;

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	if (n->kind == F_OWNER_TID) {
		if ((t = task_lookup(n->id)))
			send_to(n, t, info);
	} else if (n->kind == F_OWNER_PID) {
		if ((tg = thread_group_lookup(n->id)) && tg->leader)
			send_to(n, tg->leader, info);
	} else {
		list_for_each (tg, &kernel->groups, link)
			if (tg->pgid == n->id && tg->leader)
				send_to(n, tg->leader, info);
	}
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
}

static void send_reason(const struct notice *n, int code, int band)
{
	ksiginfo info;

	signal_info_kernel(&info, n->sig ? n->sig : SIGIO);
	if (n->sig) {
		info.si_code = code;
		info.si_band = band;
		info.si_fd = n->fd;
	}
	send_to_owner(n, &info);
}

static void send_notice(const struct notice *n)
{
	if (!n->id)
		return;
	if (n->events & (POLLHUP | POLLERR) && !n->fifo) {
		send_reason(n, POLL_HUP, POLLHUP | POLLERR);
		return;
	}
	/* Of a pipe's end its readers are told that they can read, and see it then. */
	if (n->events & READ_EVENTS & ~(uint32_t)(POLLPRI | POLLRDBAND))
		send_reason(n, POLL_IN, POLLIN | POLLRDNORM);
	if (n->events & (POLLPRI | POLLRDBAND))
		send_reason(n, POLL_PRI, POLLPRI | POLLRDBAND);
	if (n->events & WRITE_EVENTS)
		send_reason(n, POLL_OUT, POLLOUT | POLLWRNORM | POLLWRBAND);
}

void async_io_tell(struct file *f, int fd)
{
	mutex_lock(&due_lock, &lc_leaf);
	const struct notice n = notice_of(f, fd, 0);
	mutex_unlock(&due_lock, &lc_leaf);
	if (n.id)
		send_reason(&n, POLL_MSG, POLLIN | POLLRDNORM | POLLMSG);
	landlock_domain_put(n.landlock);
}

void async_io_own(struct file *f, struct task *t)
{
	if (!f->owner_id)
		async_io_set_owner(f, F_OWNER_PID, t->tg->tgid, t->cred);
}

void async_io_send(void)
{
	struct notice n;

	while (take_notice(&n)) {
		send_notice(&n);
		landlock_domain_put(n.landlock);
	}
}

/* Pipes, sockets, terminals and inotify, as on Linux; of others the flag is just kept. */
static bool tells(struct file *f)
{
	uint32_t type = f->inode->mode & S_IFMT;

	return file_waitq(f) &&
	       (type == S_IFIFO || type == S_IFSOCK || type == S_IFCHR || f->ops->async);
}

static void async_free(struct file *f)
{
	struct async *a = f->async;

	waitq_remove(&a->w);
	mutex_lock(&due_lock, &lc_leaf);
	list_del(&a->due);
	mutex_unlock(&due_lock, &lc_leaf);
	f->async = NULL;
	free(a);
}

int async_io_set(struct file *f, bool on, int fd)
{
	if (!tells(f) || on == (f->async != NULL))
		return 0;
	if (!on) {
		async_free(f);
		return 0;
	}
	struct async *a = calloc(1, sizeof(*a));
	if (!a)
		return -ENOMEM;
	a->f = f;
	a->fd = fd;
	a->w.notify = async_notify;
	list_init(&a->w.node);
	list_init(&a->due);
	f->async = a;
	waitq_add(file_waitq(f), &a->w, READ_EVENTS | WRITE_EVENTS);
	return 0;
}

void async_io_init(void)
{
	vfs_async_free = async_free;
	poller_set_work(async_io_flush);
}
