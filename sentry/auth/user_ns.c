/* User namespaces: life, and their tree. */
#include "sentry/auth/user_ns.h"

#include <errno.h>
#include <limits.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdlib.h>

#include "sentry/auth/cred.h"

#define LEVEL_MAX 33 /* of 32 nested ones, the top one not counted, each may make another */
#define MAX_OF_TOP 32768

static void user_free(struct ns *ns)
{
	struct user_ns *u = user_ns_of(ns);

	for (int i = 0; i < ID_KINDS; i++)
		id_map_free(u->map[i]);
	free(u);
}

const struct ns_type user_ns_type = {
	.name = "user",
	.flag = CLONE_NEWUSER,
	.count = NS_COUNT_USER,
	.free = user_free,
};

struct user_ns user_ns_top = {
	.ns = {.ref = {1}, .type = &user_ns_type, .ino = NS_INO_USER},
	.max = {[0 ... NS_COUNTS - 1] = MAX_OF_TOP},
	.counts = LIST_HEAD_INIT(user_ns_top.counts),
};

struct user_ns *user_ns_get(struct user_ns *u)
{
	ns_get(&u->ns);
	return u;
}

void user_ns_put(struct user_ns *u)
{
	ns_put(u ? &u->ns : NULL);
}

int user_ns_new(const struct cred *c, struct user_ns **out)
{
	struct user_ns *parent = c->user_ns;

	if (parent->level >= LEVEL_MAX)
		return -ENOSPC;
	if (!uid_mapped(parent, c->euid) || !gid_mapped(parent, c->egid))
		return -EPERM;
	struct user_ns *u = calloc(1, sizeof(*u));
	if (!u)
		return -ENOMEM;
	int err = ns_make(&u->ns, &user_ns_type, &(struct ns_maker){parent, c->euid});
	if (err) {
		free(u);
		return err;
	}
	u->level = parent->level + 1;
	u->uid = c->euid;
	u->gid = c->egid;
	u->maker_setfcap = c->cap_effective & CAP_BIT(CAP_SETFCAP);
	u->no_setgroups = atomic_load(&parent->no_setgroups);
	for (int i = 0; i < NS_COUNTS; i++)
		u->max[i] = INT_MAX;
	list_init(&u->counts);
	*out = u;
	return 0;
}

bool user_ns_is_in(const struct user_ns *u, const struct user_ns *top)
{
	while (u && u != top)
		u = u->ns.owner;
	return u != NULL;
}
