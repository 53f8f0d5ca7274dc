/*
 * net_info.h - what /proc/net tells of sockets.  Each function calls fn for every socket of a
 * network namespace, with a lock held below which fn may only take leaves.
 */
#pragma once

#include "sentry/net/socket.h"

struct net_sock_info {
	int family, type, protocol;
	unsigned state;		       /* TCP_* of tcp(7); unix: SS_* of linux/net.h */
	uint8_t local[16], remote[16]; /* IPv4 as ::ffff:a.b.c.d */
	uint16_t local_port, remote_port;
	uint64_t tx, rx; /* bytes; of a listener: its backlog, who waits to be accepted */
	uint32_t uid, drops;
	uint64_t ino; /* 0: it has no file */
	unsigned refs;
	bool listening;
	const struct sock_addr *name; /* unix; NULL: none */
};

typedef void net_info_fn(const struct net_sock_info *i, void *arg);

/* protocol: IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE; those that have a port. */
void net_info_inet(int protocol, const struct ns *net, net_info_fn *fn, void *arg);
void net_info_unix(const struct ns *net, net_info_fn *fn, void *arg);
