/*
 * user_ns.h - user namespaces: user_namespaces(7).
 */
#pragma once

#include <stdbool.h>

#include "sentry/auth/ns.h"
#include "sentry/lib/list.h"

struct user_ns {
	struct ns ns; /* ns.owner is the parent */
	int level;    /* how far below the top one; immutable, as below */
	uint32_t uid; /* who made it */
};

extern const struct ns_type user_ns_type;
extern struct user_ns user_ns_top; /* of the sandbox's first process; always there */

struct user_ns *user_ns_get(struct user_ns *u);
void user_ns_put(struct user_ns *u);
static inline struct user_ns *user_ns_of(struct ns *ns)
{
	return container_of(ns, struct user_ns, ns);
}
/* Is u `top` itself, or below it? */
bool user_ns_is_in(const struct user_ns *u, const struct user_ns *top);
