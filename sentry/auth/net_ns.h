/*
 * net_ns.h - a network namespace: whether its one interface, lo, is up, and what went over it.
 * Sockets refer to it, and names (ports, abstract unix addresses) are compared with it.
 * Source: network_namespaces(7).
 */
#pragma once

#include <stdbool.h>

#include "sentry/auth/ns.h"

/* What /proc/net/{dev,snmp,snmp6} tell; none of IP's own, which follow from these. */
enum net_counter {
	NET_LO_BYTES,
	NET_LO_PACKETS,
	NET_TCP_ACTIVE_OPENS,
	NET_TCP_PASSIVE_OPENS,
	NET_TCP_ATTEMPT_FAILS,
	NET_TCP_ESTAB_RESETS,
	NET_TCP_SEGMENTS, /* each goes out and comes in */
	NET_UDP_IN,
	NET_UDP_OUT,
	NET_UDP_NO_PORTS,
	NET_UDP_NO_ROOM,
	NET_UDP6_IN, /* in the order of IPv4's */
	NET_UDP6_OUT,
	NET_UDP6_NO_PORTS,
	NET_UDP6_NO_ROOM,
	NET_COUNTERS,
};

/* What /proc/sys/net shows and sets. */
enum net_limit {
	NET_SOMAXCONN,
	NET_PORT_FIRST, /* ip_local_port_range */
	NET_PORT_LAST,
	NET_UNPRIVILEGED_PORT, /* ports below it want CAP_NET_BIND_SERVICE */
	NET_DGRAM_QLEN,	       /* net.unix.max_dgram_qlen */
	NET_LIMITS,
};

struct net_ns {
	struct ns ns;
	_Atomic int limits[NET_LIMITS];
	_Atomic bool lo_up;
	_Atomic bool lo_seen; /* it was up once: IPv4's address stays from then on */
	_Atomic uint64_t counters[NET_COUNTERS];
};

static inline struct net_ns *net_ns_of(struct ns *ns)
{
	return container_of(ns, struct net_ns, ns);
}

/* ns may be NULL: of sockets that belong to no task (unit tests), and at start-up, before there is
 * a namespace: the limits that the sandbox's own will begin with. */
_Atomic int *net_limits(struct ns *ns);
/* Those of a fresh one. */
void net_limits_init(struct net_ns *n, bool sandbox_own);

static inline void net_ns_set_lo(struct net_ns *n, bool up)
{
	n->lo_up = up;
	if (up)
		n->lo_seen = true;
}

/* ns may be NULL: of sockets that belong to no task (unit tests). */
static inline void net_count(struct ns *ns, enum net_counter c, uint64_t n)
{
	if (ns)
		atomic_fetch_add_explicit(&net_ns_of(ns)->counters[c], n, memory_order_relaxed);
}

/* A packet over lo, of n bytes with all headers. */
static inline void net_count_packet(struct ns *ns, uint64_t n)
{
	net_count(ns, NET_LO_PACKETS, 1);
	net_count(ns, NET_LO_BYTES, n);
}
