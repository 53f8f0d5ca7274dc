/* Messages of unix sockets: memory, charges, passed files. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/net/unix/unix_sock.h"

/*
 * Files in flight in the whole sandbox.  A socket that was sent to itself (or to another that was
 * sent to it) and closed is never found again: Linux collects such rings, here they count against
 * this limit for ever.  So their memory is bounded, and a guest that leaks them loses SCM_RIGHTS
 * (ETOOMANYREFS), nothing else.
 */
#define FILES_IN_FLIGHT_MAX 16384

/* Large messages are alike and frequent: a few blocks are kept instead of being freed. */
#define BIG_DATA 65536u
#define BIG_FROM 32768u
#define BIG_KEPT 8

static _Atomic int files_in_flight;

static struct mutex big_lock; /* lc_leaf */
static struct unix_msg *big_free[BIG_KEPT];
static unsigned nbig_free;

static struct unix_msg *big_new(void)
{
	struct unix_msg *m = NULL;

	mutex_lock(&big_lock, &lc_leaf);
	if (nbig_free)
		m = big_free[--nbig_free];
	mutex_unlock(&big_lock, &lc_leaf);
	return m ? m : malloc(sizeof(*m) + BIG_DATA);
}

static void big_put(struct unix_msg *m)
{
	mutex_lock(&big_lock, &lc_leaf);
	if (nbig_free < BIG_KEPT) {
		big_free[nbig_free++] = m;
		m = NULL;
	}
	mutex_unlock(&big_lock, &lc_leaf);
	free(m);
}

struct unix_msg *unix_msg_new(struct unix_sock *sender, uint32_t n)
{
	/* Some room behind short stream messages lets the next ones join them. */
	uint32_t cap = n < 448 && unix_is_stream(sender) ? 448 : n;
	struct unix_msg *m;

	if (cap > BIG_FROM && cap <= BIG_DATA) {
		cap = BIG_DATA;
		m = big_new();
	} else {
		m = malloc(sizeof(*m) + cap);
	}
	if (!m)
		return NULL;
	memset(m, 0, sizeof(*m));
	list_init(&m->node);
	m->cap = cap;
	m->charge = cap == BIG_DATA ? n + sizeof(*m) : cap + sizeof(*m);
	m->sender = unix_get(sender);
	m->name = unix_addr_get(sender->addr);
	atomic_fetch_add(&sender->wmem, m->charge);
	return m;
}

int unix_msg_attach(struct unix_msg *msg, struct sock_msg *m)
{
	if (!m->nfiles)
		return 0;
	if (atomic_fetch_add(&files_in_flight, (int)m->nfiles) + (int)m->nfiles >
	    FILES_IN_FLIGHT_MAX) {
		atomic_fetch_sub(&files_in_flight, (int)m->nfiles);
		return -ETOOMANYREFS;
	}
	msg->files = malloc(m->nfiles * sizeof(*msg->files));
	if (!msg->files) {
		atomic_fetch_sub(&files_in_flight, (int)m->nfiles);
		return -ENOMEM;
	}
	memcpy(msg->files, m->files, m->nfiles * sizeof(*msg->files));
	msg->nfiles = m->nfiles;
	m->nfiles = 0;
	return 0;
}

void unix_msg_detach(struct unix_msg *msg, struct sock_msg *m, bool peek)
{
	memcpy(m->files, msg->files, msg->nfiles * sizeof(*msg->files));
	m->nfiles = msg->nfiles;
	if (peek) {
		for (unsigned i = 0; i < msg->nfiles; i++)
			file_get(msg->files[i]);
		return;
	}
	atomic_fetch_sub(&files_in_flight, (int)msg->nfiles);
	free(msg->files);
	msg->files = NULL;
	msg->nfiles = 0;
}

void unix_msg_free(struct unix_msg *msg)
{
	struct unix_sock *sender = msg->sender;

	atomic_fetch_sub(&files_in_flight, (int)msg->nfiles);
	for (unsigned i = 0; i < msg->nfiles; i++)
		file_put(msg->files[i]);
	free(msg->files);
	unix_addr_put(msg->name);
	bool was_writable = unix_writable(sender);
	atomic_fetch_sub(&sender->wmem, msg->charge);
	if (!was_writable && unix_writable(sender))
		waitq_notify(&sender->s.wq, POLLOUT | POLLWRNORM | POLLWRBAND);
	unix_put(sender);
	if (msg->cap == BIG_DATA)
		big_put(msg);
	else
		free(msg);
}

/* Messages to free, and whether somebody is at it. */
static struct mutex grave_lock; /* lc_leaf */
static struct list_head grave = LIST_HEAD_INIT(grave);
static bool digging;

static struct unix_msg *grave_pop(bool first)
{
	struct unix_msg *m = NULL;

	mutex_lock(&grave_lock, &lc_leaf);
	if (first && digging) {
		/* The one who is at it, perhaps a caller of ours, takes ours too. */
	} else if (list_empty(&grave)) {
		digging = false;
	} else {
		digging = true;
		m = list_first(&grave, struct unix_msg, node);
		list_del(&m->node);
	}
	mutex_unlock(&grave_lock, &lc_leaf);
	return m;
}

void unix_msgs_discard(struct list_head *msgs)
{
	if (list_empty(msgs))
		return;
	mutex_lock(&grave_lock, &lc_leaf);
	while (!list_empty(msgs)) {
		struct list_head *n = msgs->next;
		list_del(n);
		list_add_tail(n, &grave);
	}
	mutex_unlock(&grave_lock, &lc_leaf);
	struct unix_msg *m = grave_pop(true);
	while (m) {
		unix_msg_free(m);
		m = grave_pop(false);
	}
}
