/*
 * Namespaces that are made empty.  What a network namespace holds is in auth/net_ns.h.  A cgroup
 * namespace shows the whole tree of groups, whatever its root.  Source: network_namespaces(7),
 * cgroup_namespaces(7).
 */
#pragma once

#include "sentry/auth/ns.h"
#include "sentry/lib/compiler.h"

extern const struct ns_type net_ns_type, cgroup_ns_type;

/* The sandbox's own; NULL: no memory. */
struct ns *net_ns_top(void);
struct ns *cgroup_ns_top(void);
int net_ns_new(struct ns *old, const struct ns_maker *m, struct ns **out) MUST_CHECK;
int cgroup_ns_new(struct ns *old, const struct ns_maker *m, struct ns **out) MUST_CHECK;
