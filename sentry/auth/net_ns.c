#include "sentry/auth/net_ns.h"

/* clang-format off */
#define DEFAULTS {								\
	[NET_SOMAXCONN] = 4096,							\
	[NET_PORT_FIRST] = 32768, [NET_PORT_LAST] = 60999,			\
	[NET_UNPRIVILEGED_PORT] = 1024,						\
	[NET_DGRAM_QLEN] = 10,							\
}
/* clang-format on */
static const int defaults[NET_LIMITS] = DEFAULTS;
/* config.json may change these before there is a namespace. */
static _Atomic int own[NET_LIMITS] = DEFAULTS;

_Atomic int *net_limits(struct ns *ns)
{
	return ns ? net_ns_of(ns)->limits : own;
}

void net_limits_init(struct net_ns *n, bool sandbox_own)
{
	for (int i = 0; i < NET_LIMITS; i++)
		n->limits[i] = sandbox_own ? own[i] : defaults[i];
}
