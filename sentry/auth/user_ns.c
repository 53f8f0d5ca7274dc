/* User namespaces: life. */
#include "sentry/auth/user_ns.h"

#include <sched.h>
#include <stdlib.h>

static void user_free(struct ns *ns)
{
	(void)ns; /* the top one is always there */
}

const struct ns_type user_ns_type = {
	.name = "user",
	.flag = CLONE_NEWUSER,
	.free = user_free,
};

struct user_ns user_ns_top = {.ns = {.ref = {1}, .type = &user_ns_type, .ino = NS_INO_USER}};

struct user_ns *user_ns_get(struct user_ns *u)
{
	ns_get(&u->ns);
	return u;
}

void user_ns_put(struct user_ns *u)
{
	ns_put(u ? &u->ns : NULL);
}

bool user_ns_is_in(const struct user_ns *u, const struct user_ns *top)
{
	while (u && u != top)
		u = u->ns.owner;
	return u != NULL;
}
