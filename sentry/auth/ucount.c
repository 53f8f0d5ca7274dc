/* How many namespaces a user has: /proc/sys/user, namespaces(7). */
#include <errno.h>
#include <stdlib.h>

#include "sentry/auth/user_ns.h"
#include "sentry/lib/lock.h"

/* One user of a user namespace. */
struct ucount {
	struct list_head link; /* in its namespace's counts */
	struct user_ns *u;     /* borrowed: lives as long as anything counted here */
	uint32_t uid;
	unsigned refs;
	int n[NS_COUNTS];
};

static struct mutex count_lock = MUTEX_INIT; /* lc_leaf: all of them */

/* Who is counted one level up: the maker of the user namespace. */
static struct ucount *above(const struct ucount *c)
{
	return c->u->ns.charge;
}

static struct ucount *find_or_make(struct user_ns *u, uint32_t uid) REQUIRES(lc_leaf)
{
	struct ucount *c;

	list_for_each (c, &u->counts, link)
		if (c->uid == uid)
			return c;
	c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	c->u = u;
	c->uid = uid;
	list_add(&c->link, &u->counts);
	return c;
}

static void uncount(struct ucount *c, enum ns_count kind, const struct ucount *end)
	REQUIRES(lc_leaf)
{
	while (c != end) {
		struct ucount *up = above(c);
		c->n[kind]--;
		if (!--c->refs) {
			list_del(&c->link);
			free(c);
		}
		c = up;
	}
}

int ucount_get(struct user_ns *u, uint32_t uid, enum ns_count kind, struct ucount **out)
{
	int err = 0;

	mutex_lock(&count_lock, &lc_leaf);
	struct ucount *first = find_or_make(u, uid);
	if (!first)
		err = -ENOMEM;
	for (struct ucount *c = first; c; c = above(c)) {
		c->refs++;
		if (c->n[kind]++ >= atomic_load(&c->u->max[kind])) {
			err = -ENOSPC;
			uncount(first, kind, above(c));
			break;
		}
	}
	mutex_unlock(&count_lock, &lc_leaf);
	if (!err)
		*out = first;
	return err;
}

void ucount_put(struct ucount *c, enum ns_count kind)
{
	mutex_lock(&count_lock, &lc_leaf);
	uncount(c, kind, NULL);
	mutex_unlock(&count_lock, &lc_leaf);
}
