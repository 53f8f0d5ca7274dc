#include "sentry/host/poller.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "sentry/host/crash.h"

#define EVENTS 16
#define STACK (64UL << 10)

static struct mutex poller_lock; /* lc_poller: sources' armed, the list of dead ones */
static struct list_head dead = LIST_HEAD_INIT(dead);
static int epfd = -1, kickfd = -1;
static bool running;
static void (*other_work)(void);

int poller_init(void)
{
	if (epfd >= 0)
		return 0;
	epfd = epoll_create1(EPOLL_CLOEXEC);
	kickfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (epfd < 0 || kickfd < 0)
		return -errno;
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL};
	return epoll_ctl(epfd, EPOLL_CTL_ADD, kickfd, &ev) ? -errno : 0;
}

/* Tells the source's events apart from what was not asked for any more; returns what to notify. */
static uint32_t source_fired(struct poll_source *s, uint32_t events)
{
	mutex_lock(&poller_lock, &lc_poller);
	if (!s->registered) {
		mutex_unlock(&poller_lock, &lc_poller);
		return 0;
	}
	if (events & (EPOLLHUP | EPOLLERR))
		s->armed = 0;
	else
		s->armed &= ~events;
	if (s->armed) {
		struct epoll_event ev = {.events = s->armed | EPOLLONESHOT, .data.ptr = s};
		(void)epoll_ctl(epfd, EPOLL_CTL_MOD, s->fd, &ev);
	}
	mutex_unlock(&poller_lock, &lc_poller);
	return events;
}

static void drain_kick(void)
{
	uint64_t n;

	(void)!read(kickfd, &n, sizeof(n));
}

/* Frees the sources that were removed before the events just handled were fetched. */
static void free_dead(struct list_head *old)
{
	while (!list_empty(old)) {
		struct poll_source *s = list_first(old, struct poll_source, dead);
		list_del(&s->dead);
		s->free(s);
	}
}

static void take_dead(struct list_head *to)
{
	mutex_lock(&poller_lock, &lc_poller);
	while (!list_empty(&dead)) {
		struct list_head *n = dead.next;
		list_del(n);
		list_add_tail(n, to);
	}
	mutex_unlock(&poller_lock, &lc_poller);
}

static void *poller_main(void *arg)
{
	struct epoll_event ev[EVENTS];

	(void)arg;
	crash_thread_init();
	for (;;) {
		struct list_head old = LIST_HEAD_INIT(old);
		take_dead(&old);
		free_dead(&old);
		if (other_work)
			other_work();
		int n = epoll_wait(epfd, ev, EVENTS, -1);
		for (int i = 0; i < n; i++) {
			struct poll_source *s = ev[i].data.ptr;
			if (!s) {
				drain_kick();
				continue;
			}
			uint32_t events = source_fired(s, ev[i].events);
			if (events && s->fired)
				s->fired(s);
			else if (events)
				waitq_notify(s->wq, events);
		}
	}
	return NULL;
}

int poller_start(void)
{
	pthread_attr_t attr;
	pthread_t thread;
	sigset_t all, old;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int err = pthread_create(&thread, &attr, poller_main, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	running = err == 0;
	return -err;
}

int poller_add(struct poll_source *s, int fd, struct waitq *wq)
{
	struct epoll_event ev = {.events = EPOLLONESHOT, .data.ptr = s};

	s->fd = fd;
	s->wq = wq;
	s->armed = 0;
	s->registered = false;
	s->fired = NULL;
	list_init(&s->dead);
	if (epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &ev)) {
		if (errno == EPERM)
			return 0;
		return -errno;
	}
	/* One-shot without events still reports HUP and ERR once: harmless, a notification. */
	s->registered = true;
	return 0;
}

void poller_arm(struct poll_source *s, uint32_t events)
{
	mutex_lock(&poller_lock, &lc_poller);
	if (s->registered) {
		s->armed |= events;
		struct epoll_event ev = {.events = s->armed | EPOLLONESHOT, .data.ptr = s};
		(void)epoll_ctl(epfd, EPOLL_CTL_MOD, s->fd, &ev);
	}
	mutex_unlock(&poller_lock, &lc_poller);
}

void poller_set_work(void (*work)(void))
{
	other_work = work;
}

void poller_kick(void)
{
	uint64_t one = 1;

	(void)!write(kickfd, &one, sizeof(one));
}

void poller_remove(struct poll_source *s)
{
	mutex_lock(&poller_lock, &lc_poller);
	bool was = s->registered && running;
	if (s->registered)
		(void)epoll_ctl(epfd, EPOLL_CTL_DEL, s->fd, NULL);
	s->registered = false;
	if (was)
		list_add_tail(&s->dead, &dead);
	mutex_unlock(&poller_lock, &lc_poller);
	if (was)
		poller_kick();
	else
		s->free(s);
}
