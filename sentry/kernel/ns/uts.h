/* UTS namespaces: the names that uname(2) shows.  Source: uts_namespaces(7). */
#pragma once

#include "sentry/auth/cred.h"
#include "sentry/auth/ns.h"
#include "sentry/lib/list.h"

struct uts_ns {
	struct ns ns;
	char hostname[65], domainname[65]; /* lc_tasks */
};

extern const struct ns_type uts_ns_type;

struct ns *uts_ns_top(void); /* the sandbox's own, no names yet; NULL: no memory */
int uts_ns_copy(struct ns *from, const struct ns_maker *m, struct ns **out) MUST_CHECK;

static inline struct uts_ns *uts_ns_of(struct ns *ns)
{
	return container_of(ns, struct uts_ns, ns);
}
