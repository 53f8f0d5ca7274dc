/*
 * Intrusive, circular, doubly linked list.  A node that is not on a list is initialised to point
 * to itself, so list_del() of it is harmless and list_empty() answers "not queued".
 */
#pragma once

#include <stdbool.h>

#include "sentry/lib/compiler.h"

struct list_head {
	struct list_head *next, *prev;
};

#define LIST_HEAD_INIT(name)     \
	{                        \
		&(name), &(name) \
	}

static inline void list_init(struct list_head *h)
{
	h->next = h->prev = h;
}

static inline bool list_empty(const struct list_head *h)
{
	return h->next == h;
}

static inline void list_insert_between_(struct list_head *n, struct list_head *prev,
					struct list_head *next)
{
	n->prev = prev;
	n->next = next;
	prev->next = n;
	next->prev = n;
}

/* Adds `n` first (list_add) or last (list_add_tail) on the list `h`. */
static inline void list_add(struct list_head *n, struct list_head *h)
{
	list_insert_between_(n, h, h->next);
}

static inline void list_add_tail(struct list_head *n, struct list_head *h)
{
	list_insert_between_(n, h->prev, h);
}

/* Takes `n` off its list and leaves it initialised. */
static inline void list_del(struct list_head *n)
{
	n->prev->next = n->next;
	n->next->prev = n->prev;
	list_init(n);
}

#define list_entry(p, type, member) container_of(p, type, member)
#define list_first(h, type, member) list_entry((h)->next, type, member)
#define list_last(h, type, member) list_entry((h)->prev, type, member)

#define list_for_each(pos, h, member)                                                    \
	for (pos = list_entry((h)->next, __typeof__(*pos), member); &pos->member != (h); \
	     pos = list_entry(pos->member.next, __typeof__(*pos), member))

/* The same, safe against removal of `pos`. */
#define list_for_each_safe(pos, tmp, h, member)                           \
	for (pos = list_entry((h)->next, __typeof__(*pos), member),       \
	    tmp = list_entry(pos->member.next, __typeof__(*pos), member); \
	     &pos->member != (h);                                         \
	     pos = tmp, tmp = list_entry(tmp->member.next, __typeof__(*pos), member))
