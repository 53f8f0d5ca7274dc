/*
 * AF_NETLINK: the kernel's side of NETLINK_ROUTE, as far as it tells of the one interface, lo.
 * Source: netlink(7), rtnetlink(7).
 */
#pragma once

#include "sentry/net/socket.h"

extern const struct net_family netlink_family;

struct file;
bool file_is_netlink(const struct file *f);
/* A datagram from the kernel.  -EINVAL: no netlink socket; -ENOBUFS. */
int netlink_deliver(struct file *f, const void *data, size_t n) MUST_CHECK;
