/*
 * epoll(7).
 *
 * An *item* is one registration: a waiter on the watched file's queue.  Its notify() puts it on the
 * epoll's ready list and wakes the epoll's own queues.  Collecting takes items off that list, asks
 * their files without any lock held, and puts level-triggered ones back.
 *
 * Locks, in their order:
 *	nest_lock (lc_epoll_nest)  which epoll watches which; all changes to nested items
 *	ep->lock (lc_epoll)	   the tree of items; adding and removing them
 *	ready_lock (lc_leaf)	   the ready list, and events, data, dead of all items
 *	epolls_lock (lc_leaf)	   file.epolls of all files
 * A notify() comes with the watched queue locked and locks this epoll's queues, whose level is
 * higher by one (waitq.level), so that chains of nested epolls keep the order of lock classes.
 *
 * An item does not keep its file alive: the file's last put removes it (epoll_file_gone) before
 * the file's own release.
 */
#include <linux/eventpoll.h>
#include <stdio.h>
#include <stdlib.h>

#include "sentry/lib/rbtree.h"
#include "sentry/vfs/internal.h"

#define NEST_MAX 5 /* epolls in a chain */
#define ALWAYS (EPOLLERR | EPOLLHUP)
#define BEHAVIOUR (EPOLLET | EPOLLONESHOT | EPOLLWAKEUP | EPOLLEXCLUSIVE)
#define EXCLUSIVE_OK \
	(EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE)

struct epoll {
	ref_t ref; /* the file's, and one an item */
	struct mutex lock;
	struct rb_root items; /* by (file, fd) */
	struct mutex ready_lock;
	struct list_head ready;
	int nready;
	int scanning; /* items in the hands of somebody who asks their files */
	struct waitq wq, sleepers;
	struct list_head nested; /* items that watch epolls; nest_lock */
	struct file *file;	 /* borrowed; for going upwards under nest_lock */
};

struct item {
	ref_t ref; /* membership, and whoever has it in hand */
	struct rb_node node;
	struct waiter w;
	struct epoll *ep;  /* reference */
	struct file *file; /* valid while the item is a member */
	int fd;
	uint32_t events;
	uint64_t data;
	bool dead;
	struct list_head ready_link, file_link, nested_link;
};

static struct mutex nest_lock = MUTEX_INIT;
static struct mutex epolls_lock = MUTEX_INIT;
static const struct file_ops epoll_ops;

bool file_is_epoll(const struct file *f)
{
	return f->ops == &epoll_ops;
}

static struct epoll *epoll_of(struct file *f)
{
	return f->priv;
}

static void epoll_put(struct epoll *ep)
{
	if (ref_put(&ep->ref))
		free(ep);
}

static void item_put(struct item *it)
{
	if (!ref_put(&it->ref))
		return;
	epoll_put(it->ep);
	free(it);
}

/* ---- the ready list ---- */

static void enqueue_locked(struct item *it)
{
	if (it->dead || !list_empty(&it->ready_link))
		return;
	list_add_tail(&it->ready_link, &it->ep->ready);
	it->ep->nready++;
}

static void dequeue_locked(struct item *it)
{
	if (list_empty(&it->ready_link))
		return;
	list_del(&it->ready_link);
	it->ep->nready--;
}

/* What the item wants to hear of; nothing while a one-shot item is disabled. */
static uint32_t wanted(const struct item *it)
{
	return it->events & ~BEHAVIOUR;
}

static void item_ready(struct item *it, uint32_t events)
{
	struct epoll *ep = it->ep;

	mutex_lock(&ep->ready_lock, &lc_leaf);
	bool wake = wanted(it) & events;
	if (wake)
		enqueue_locked(it);
	mutex_unlock(&ep->ready_lock, &lc_leaf);
	if (wake) {
		waitq_notify(&ep->wq, POLLIN | POLLRDNORM);
		waitq_notify_one(&ep->sleepers, POLLIN);
	}
}

static void item_notify(struct waiter *w, uint32_t events)
{
	item_ready(container_of(w, struct item, w), events);
}

void epoll_pass_on(struct file *f)
{
	struct epoll *ep = epoll_of(f);

	mutex_lock(&ep->ready_lock, &lc_leaf);
	bool any = ep->nready > 0;
	mutex_unlock(&ep->ready_lock, &lc_leaf);
	if (any)
		waitq_notify_one(&ep->sleepers, POLLIN);
}

/* Takes the first ready item in hand, with a reference to its file.  NULL: none. */
static struct item *take_ready(struct epoll *ep, struct file **file)
{
	struct item *it = NULL;

	mutex_lock(&ep->ready_lock, &lc_leaf);
	while (!it && !list_empty(&ep->ready)) {
		it = list_first(&ep->ready, struct item, ready_link);
		dequeue_locked(it);
		if (!ref_get_unless_zero(&it->file->ref)) {
			it = NULL; /* just going */
			continue;
		}
		*file = it->file;
		ref_get(&it->ref);
		ep->scanning++;
	}
	mutex_unlock(&ep->ready_lock, &lc_leaf);
	return it;
}

/* Asks the item's file; no lock is held. */
static uint32_t item_poll(struct item *it, struct file *file)
{
	return file_poll(file) & (it->events | ALWAYS) & ~BEHAVIOUR;
}

/* One item: true when it goes into *out. */
static bool collect_item(struct epoll *ep, struct item *it, uint32_t revents,
			 struct epoll_event_k *out)
{
	mutex_lock(&ep->ready_lock, &lc_leaf);
	revents &= wanted(it);
	bool report = revents && !it->dead;
	if (report) {
		*out = (struct epoll_event_k){revents, it->data};
		if (it->events & EPOLLONESHOT)
			it->events &= BEHAVIOUR;
		else if (!(it->events & EPOLLET))
			enqueue_locked(it);
	}
	ep->scanning--;
	mutex_unlock(&ep->ready_lock, &lc_leaf);
	return report;
}

int epoll_ready_count(struct file *f)
{
	struct epoll *ep = epoll_of(f);

	mutex_lock(&ep->ready_lock, &lc_leaf);
	int n = ep->nready;
	mutex_unlock(&ep->ready_lock, &lc_leaf);
	return n;
}

int epoll_collect(struct file *f, struct epoll_event_k *out, int max)
{
	struct epoll *ep = epoll_of(f);
	int n = 0;

	/* Items that go back to the end of the list are not looked at twice. */
	for (int left = epoll_ready_count(f); left > 0 && n < max; left--) {
		struct file *file;
		struct item *it = take_ready(ep, &file);
		if (!it)
			break;
		uint32_t revents = item_poll(it, file);
		if (collect_item(ep, it, revents, &out[n]))
			n++;
		item_put(it);
		file_put(file);
	}
	/* A sleeper may have looked while the items were in our hands. */
	if (n)
		epoll_pass_on(f);
	return n;
}

/* Ready if an item really is; those found not to be leave the list. */
static uint32_t epoll_poll(struct file *f)
{
	struct epoll *ep = epoll_of(f);
	bool found = false;

	for (int left = epoll_ready_count(f); left > 0 && !found; left--) {
		struct file *file;
		struct item *it = take_ready(ep, &file);
		if (!it)
			break;
		found = item_poll(it, file);
		mutex_lock(&ep->ready_lock, &lc_leaf);
		if (found && wanted(it))
			enqueue_locked(it);
		ep->scanning--;
		mutex_unlock(&ep->ready_lock, &lc_leaf);
		item_put(it);
		file_put(file);
	}
	if (found) {
		waitq_notify_one(&ep->sleepers, POLLIN);
		return POLLIN | POLLRDNORM;
	}
	/* Better one wake-up too many than to miss what another thread has in hand. */
	mutex_lock(&ep->ready_lock, &lc_leaf);
	found = ep->scanning > 0;
	mutex_unlock(&ep->ready_lock, &lc_leaf);
	return found ? POLLIN | POLLRDNORM : 0;
}

static struct waitq *epoll_waitq(struct file *f)
{
	return &epoll_of(f)->wq;
}

struct waitq *epoll_sleepers(struct file *f)
{
	return &epoll_of(f)->sleepers;
}

/* ---- the tree of items ---- */

static int item_compare(const struct file *file, int fd, const struct item *it)
{
	if (file != it->file)
		return file < it->file ? -1 : 1;
	return fd < it->fd ? -1 : fd > it->fd;
}

static struct item *item_lookup(struct epoll *ep, struct file *file, int fd) REQUIRES(lc_epoll)
{
	struct rb_node *n = ep->items.node;

	while (n) {
		struct item *it = rb_entry(n, struct item, node);
		int c = item_compare(file, fd, it);
		if (!c)
			return it;
		n = c < 0 ? n->left : n->right;
	}
	return NULL;
}

static void item_insert(struct epoll *ep, struct item *it) REQUIRES(lc_epoll)
{
	struct rb_node **link = &ep->items.node, *parent = NULL;

	while (*link) {
		parent = *link;
		int c = item_compare(it->file, it->fd, rb_entry(parent, struct item, node));
		link = c < 0 ? &parent->left : &parent->right;
	}
	rb_insert(&ep->items, &it->node, parent, link);
}

/*
 * Ends a membership.  The link in file.epolls goes last: while it is there, the file's last put
 * waits for us (epoll_file_gone), so its queue is safe to touch.  nest_lock is held for epolls.
 */
static void item_remove(struct item *it) REQUIRES(lc_epoll)
{
	struct epoll *ep = it->ep;

	rb_erase(&ep->items, &it->node);
	waitq_remove(&it->w);
	list_del(&it->nested_link);
	mutex_lock(&ep->ready_lock, &lc_leaf);
	it->dead = true;
	dequeue_locked(it);
	mutex_unlock(&ep->ready_lock, &lc_leaf);
	mutex_lock(&epolls_lock, &lc_leaf);
	list_del(&it->file_link);
	mutex_unlock(&epolls_lock, &lc_leaf);
	item_put(it);
}

/* ---- nesting ---- */

/* How many epolls are in the longest chain below ep, itself included. */
static int chain_below(struct epoll *ep) REQUIRES(lc_epoll_nest)
{
	struct item *it;
	int most = 0;

	list_for_each (it, &ep->nested, nested_link) {
		int n = chain_below(epoll_of(it->file));
		most = MAX(most, n);
	}
	return most + 1;
}

/* The same, upwards.  Watchers of an epoll change under nest_lock only. */
static int chain_above(struct epoll *ep) REQUIRES(lc_epoll_nest)
{
	struct item *it;
	int most = 0;

	list_for_each (it, &ep->file->epolls, file_link) {
		int n = chain_above(it->ep);
		most = MAX(most, n);
	}
	return most + 1;
}

static bool reaches(struct epoll *from, const struct epoll *to) REQUIRES(lc_epoll_nest)
{
	struct item *it;

	if (from == to)
		return true;
	list_for_each (it, &from->nested, nested_link) {
		if (reaches(epoll_of(it->file), to))
			return true;
	}
	return false;
}

/* Queues of a watcher have a higher level than those of what it watches. */
static void raise_level(struct epoll *ep, int level) REQUIRES(lc_epoll_nest)
{
	struct item *it;

	if (ep->wq.level >= level)
		return;
	ep->wq.level = (uint8_t)level;
	ep->sleepers.level = (uint8_t)level;
	list_for_each (it, &ep->file->epolls, file_link)
		raise_level(it->ep, level + 1);
}

static int nest_check(struct epoll *ep, struct epoll *target) REQUIRES(lc_epoll_nest)
{
	if (reaches(target, ep) || chain_below(target) + chain_above(ep) > NEST_MAX)
		return -ELOOP;
	raise_level(ep, target->wq.level + 1);
	return 0;
}

/* ---- epoll_ctl ---- */

static int add_locked(struct epoll *ep, int fd, struct file *target, const struct epoll_event_k *ev,
		      struct item **out) REQUIRES(lc_epoll)
{
	if (item_lookup(ep, target, fd))
		return -EEXIST;
	struct item *it = calloc(1, sizeof(*it));
	if (!it)
		return -ENOMEM;
	ref_init(&it->ref, 2); /* the tree's and the caller's */
	ref_get(&ep->ref);
	it->ep = ep;
	it->file = target;
	it->fd = fd;
	it->events = ev->events | ALWAYS;
	it->data = ev->data;
	it->w.notify = item_notify;
	list_init(&it->ready_link);
	list_init(&it->file_link);
	list_init(&it->nested_link);
	item_insert(ep, it);
	if (file_is_epoll(target))
		list_add_tail(&it->nested_link, &ep->nested);
	mutex_lock(&epolls_lock, &lc_leaf);
	list_add_tail(&it->file_link, &target->epolls);
	mutex_unlock(&epolls_lock, &lc_leaf);
	/* All events are listened to; item_ready() sorts out the wanted ones, which may change. */
	struct waitq *q = file_waitq(target);
	if (q)
		waitq_add(q, &it->w, ~0u);
	*out = it;
	return 0;
}

static int modify_locked(struct epoll *ep, int fd, struct file *target,
			 const struct epoll_event_k *ev, struct item **out) REQUIRES(lc_epoll)
{
	struct item *it = item_lookup(ep, target, fd);

	if (!it)
		return -ENOENT;
	if (it->events & EPOLLEXCLUSIVE)
		return -EINVAL;
	mutex_lock(&ep->ready_lock, &lc_leaf);
	it->events = ev->events | ALWAYS;
	it->data = ev->data;
	mutex_unlock(&ep->ready_lock, &lc_leaf);
	ref_get(&it->ref);
	*out = it;
	return 0;
}

static int control_locked(struct epoll *ep, int op, int fd, struct file *target,
			  const struct epoll_event_k *ev, struct item **out)
{
	int err = 0;

	mutex_lock(&ep->lock, &lc_epoll);
	if (op == EPOLL_CTL_ADD) {
		err = add_locked(ep, fd, target, ev, out);
	} else if (op == EPOLL_CTL_MOD) {
		err = modify_locked(ep, fd, target, ev, out);
	} else {
		struct item *it = item_lookup(ep, target, fd);
		if (it)
			item_remove(it);
		else
			err = -ENOENT;
	}
	mutex_unlock(&ep->lock, &lc_epoll);
	return err;
}

int epoll_control(struct file *f, int op, int fd, struct file *target,
		  const struct epoll_event_k *ev)
{
	if (!target->ops->poll)
		return -EPERM;
	if (!file_is_epoll(f) || f == target)
		return -EINVAL;
	bool nested = file_is_epoll(target);
	if (op != EPOLL_CTL_DEL && ev->events & EPOLLEXCLUSIVE &&
	    (op == EPOLL_CTL_MOD || nested || ev->events & ~EXCLUSIVE_OK))
		return -EINVAL;
	if (op != EPOLL_CTL_ADD && op != EPOLL_CTL_MOD && op != EPOLL_CTL_DEL)
		return -EINVAL;

	struct epoll *ep = epoll_of(f);
	struct item *it = NULL;
	int err = 0;
	if (nested) {
		mutex_lock(&nest_lock, &lc_epoll_nest);
		if (op == EPOLL_CTL_ADD)
			err = nest_check(ep, epoll_of(target));
		if (!err)
			err = control_locked(ep, op, fd, target, ev, &it);
		mutex_unlock(&nest_lock, &lc_epoll_nest);
	} else {
		err = control_locked(ep, op, fd, target, ev, &it);
	}
	if (it) {
		/* It may be ready already. */
		item_ready(it, file_poll(target));
		item_put(it);
	}
	return err;
}

int epoll_target(struct file *f, int fd, uint32_t nth, const struct file **out)
{
	struct rb_node *n;
	int err = -ENOENT;

	if (!file_is_epoll(f))
		return -EINVAL;
	struct epoll *ep = epoll_of(f);
	mutex_lock(&ep->lock, &lc_epoll);
	rb_for_each (n, &ep->items) {
		const struct item *it = rb_entry(n, struct item, node);
		if (it->fd != fd || nth-- > 0)
			continue;
		*out = it->file;
		err = 0;
		break;
	}
	mutex_unlock(&ep->lock, &lc_epoll);
	return err;
}

/* ---- ends ---- */

void epoll_file_gone(struct file *f) NO_LOCK_ANALYSIS
{
	bool nested = file_is_epoll(f);

	while (__atomic_load_n(&f->epolls.next, __ATOMIC_ACQUIRE) != &f->epolls) {
		struct item *it, *found = NULL;
		struct epoll *ep = NULL;

		mutex_lock(&epolls_lock, &lc_leaf);
		if (!list_empty(&f->epolls)) {
			ep = list_first(&f->epolls, struct item, file_link)->ep;
			ref_get(&ep->ref);
		}
		mutex_unlock(&epolls_lock, &lc_leaf);
		if (!ep)
			break;
		if (nested)
			mutex_lock(&nest_lock, &lc_epoll_nest);
		mutex_lock(&ep->lock, &lc_epoll);
		/* It may be gone by now, by the hand of whoever had the lock. */
		mutex_lock(&epolls_lock, &lc_leaf);
		list_for_each (it, &f->epolls, file_link) {
			if (it->ep == ep)
				found = it;
		}
		mutex_unlock(&epolls_lock, &lc_leaf);
		if (found)
			item_remove(found);
		mutex_unlock(&ep->lock, &lc_epoll);
		if (nested)
			mutex_unlock(&nest_lock, &lc_epoll_nest);
		epoll_put(ep);
	}
}

static void epoll_release(struct file *f)
{
	struct epoll *ep = epoll_of(f);
	struct rb_node *n;

	mutex_lock(&nest_lock, &lc_epoll_nest);
	mutex_lock(&ep->lock, &lc_epoll);
	while ((n = rb_first(&ep->items)))
		item_remove(rb_entry(n, struct item, node));
	mutex_unlock(&ep->lock, &lc_epoll);
	mutex_unlock(&nest_lock, &lc_epoll_nest);
	epoll_put(ep);
}

static size_t epoll_show_fdinfo(struct file *f, char *buf, size_t size)
{
	struct epoll *ep = epoll_of(f);
	struct rb_node *n;
	size_t len = 0;

	mutex_lock(&ep->lock, &lc_epoll);
	rb_for_each (n, &ep->items) {
		struct item *it = rb_entry(n, struct item, node);
		int m = snprintf(buf + len, size - len,
				 "tfd: %8d events: %8x data: %16llx  pos:%lli ino:%lx sdev:%lx\n",
				 it->fd, it->events, (unsigned long long)it->data,
				 (long long)it->file->pos, (unsigned long)it->file->inode->ino,
				 (unsigned long)it->file->inode->sb->dev);
		if (m < 0 || (size_t)m >= size - len)
			break;
		len += (size_t)m;
	}
	mutex_unlock(&ep->lock, &lc_epoll);
	return len;
}

static const struct file_ops epoll_ops = {
	.stream = true,
	.poll = epoll_poll,
	.waitq = epoll_waitq,
	.show_fdinfo = epoll_show_fdinfo,
	.release = epoll_release,
};

int epoll_create_file(int flags, struct file **out)
{
	struct epoll *ep = calloc(1, sizeof(*ep));
	struct inode *in = anon_inode_new(0600, NULL, NULL);

	if (!ep || !in) {
		free(ep);
		inode_put(in);
		return -ENOMEM;
	}
	ref_init(&ep->ref, 1);
	mutex_init(&ep->lock);
	mutex_init(&ep->ready_lock);
	list_init(&ep->ready);
	list_init(&ep->nested);
	waitq_init(&ep->wq);
	waitq_init(&ep->sleepers);
	ep->wq.level = ep->sleepers.level = 1;
	int err = file_new_anon(in, "anon_inode:[eventpoll]", &epoll_ops, ep, flags, out);
	if (err) {
		free(ep);
		return err;
	}
	ep->file = *out;
	return 0;
}
