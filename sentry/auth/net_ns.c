#include "sentry/auth/net_ns.h"

static const int defaults[NET_LIMITS] = {
	[NET_SOMAXCONN] = 4096,		[NET_PORT_FIRST] = 32768, [NET_PORT_LAST] = 60999,
	[NET_UNPRIVILEGED_PORT] = 1024, [NET_DGRAM_QLEN] = 10,
};
/* config.json may change these before there is a namespace. */
static _Atomic int own[NET_LIMITS];
static bool own_known;

_Atomic int *net_limits(struct ns *ns)
{
	if (ns)
		return net_ns_of(ns)->limits;
	for (int i = 0; i < NET_LIMITS && !own_known; i++)
		own[i] = defaults[i];
	own_known = true;
	return own;
}

void net_limits_init(struct net_ns *n, bool sandbox_own)
{
	for (int i = 0; i < NET_LIMITS; i++)
		n->limits[i] = sandbox_own ? net_limits(NULL)[i] : defaults[i];
}
