/*
 * AF_NETLINK: the kernel's side of NETLINK_ROUTE, as far as it tells of the one interface, lo.
 * Source: netlink(7), rtnetlink(7).
 */
#pragma once

#include "sentry/net/socket.h"

extern const struct net_family netlink_family;
