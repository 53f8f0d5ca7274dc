/*
 * The host poller: one host thread that waits for host descriptors on behalf of guests.
 *
 * A source is one descriptor and the wait queue of the file that wraps it.  It is armed by a poll
 * operation that found it not ready, for the events that were missing, once: what fires is
 * notified and disarmed.  So the thread sleeps while nobody waits, and a descriptor that is always
 * ready costs nothing.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "sentry/lib/compiler.h"
#include "sentry/lib/list.h"
#include "sentry/lib/waitq.h"

struct poll_source {
	int fd;
	struct waitq *wq; /* borrowed while registered */
	uint32_t armed;	  /* events waited for; lc_poller */
	bool registered;  /* false: always ready (regular files) */
	struct list_head dead;
	/* Called on the thread, without locks, instead of the queue's being told; NULL: it is */
	void (*fired)(struct poll_source *s);
	void (*free)(struct poll_source *s); /* called when the poller has forgotten it */
};

/* Makes the epoll instance; before confinement. */
int poller_init(void) MUST_CHECK;
/* Starts the thread. */
int poller_start(void) MUST_CHECK;
/* Registers; a descriptor that cannot be polled becomes a source that is always ready. */
int poller_add(struct poll_source *s, int fd, struct waitq *wq) MUST_CHECK;
/* Work for the thread besides its sources: done whenever it wakes up.  Start-up. */
void poller_set_work(void (*work)(void));
/* Wakes the thread. */
void poller_kick(void);
void poller_arm(struct poll_source *s, uint32_t events);
/*
 * Forgets the source.  An event of it may be on its way to the thread, so the memory is given back
 * by s->free, later or at once, on some thread; the descriptor may be closed by it, not before.
 */
void poller_remove(struct poll_source *s);
