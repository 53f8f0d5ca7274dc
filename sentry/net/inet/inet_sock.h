/*
 * inet_sock.h - shared by the files of net/inet only.
 *
 * A socket's queue holds what was sent to it.  A sender locks the receiver only; a reader claims
 * the queue's front (rbusy), copies without the lock and then commits, so a fault takes nothing.
 *
 * References: the file has one on its socket, and so have a connection's other end, a listener (on
 * connections that wait to be accepted) and, for the time of a call, whoever found the socket by
 * its port.
 *
 * Locks: inet_sock.lock (lc_socket), never two at once; ports_lock (lc_net) for the table of ports
 * and the local address; waiting_lock (lc_socket2) for connections that a full listener makes wait.
 */
#pragma once

#include <netinet/in.h>

#include "sentry/auth/net_ns.h"
#include "sentry/net/inet/inet.h"

/* An address of either family; IPv4 is ::ffff:a.b.c.d (RFC 4291, 2.5.5.2). */
struct inet_addr {
	uint8_t ip[16];
	uint16_t port; /* host's order; 0: none */
};

enum inet_state {
	INET_CLOSED,
	INET_CONNECTING, /* TCP: the listener's queue is full */
	INET_LISTEN,
	INET_CONNECTED,
	INET_DONE, /* TCP: was connected, and was reset */
};

/* A datagram, or a part of a stream. */
struct inet_chunk {
	struct list_head node;
	struct inet_addr from, to; /* to, ttl, tos, when: of datagrams */
	uint8_t ttl, tos;
	int64_t when; /* ns since 1970 */
	uint32_t off, len, cap;
	uint8_t data[];
};

#define INET_OPTIONS 48

struct inet_sock {
	struct socket s;
	ref_t ref;
	struct mutex lock; /* lc_socket: all of this block */
	struct inet_addr remote;
	struct list_head rcvq; /* of struct inet_chunk */
	uint64_t rcvq_bytes;
	uint32_t drops;	     /* datagrams that found no room */
	bool rbusy, rmissed; /* the queue's front is claimed; somebody saw that */
	bool room_wanted;    /* the sender waits for room in rcvq */
	bool fin;	     /* the other end sends no more */
	bool told;	     /* connect(2) has said that it is connected */
	uint64_t taken;	     /* bytes of the stream that were read */
	/* tcp(7), "out-of-band data": one byte; the mark is where it stands in the stream. */
	bool urgent, urgent_inline, urgent_read;
	uint8_t urgent_byte;
	uint64_t urgent_mark;
	/* IP_RECVERR: datagrams that did not arrive; bytes count for rcvq_bytes' limit, too. */
	struct list_head errors;
	uint64_t errors_bytes;
	struct list_head acceptq, accept_node;
	unsigned backlog, nqueued;
	struct inet_sock *peer; /* reference; set once, before state says so */
	_Atomic int state;	/* enum inet_state; written under lock */
	_Atomic bool closed;

	/* ports_lock */
	struct list_head port_node;
	bool bound, port_chosen, ip_chosen; /* chosen: by bind(2), and kept until close(2) */
	struct inet_addr local;
	uint32_t owner; /* who bound it: SO_REUSEPORT */

	/* waiting_lock */
	struct list_head waiting, waiting_node;
	struct inet_sock *waits_for; /* listener, reference */

	_Atomic int options[INET_OPTIONS]; /* in the order of options.c's table */
};

static inline struct inet_sock *inet_of(struct socket *s)
{
	return container_of(s, struct inet_sock, s);
}

enum inet_class { INET_TCP, INET_UDP, INET_UDPLITE, INET_CLASSES }; /* ports of their own */

static inline enum inet_class inet_class(const struct socket *s)
{
	return s->type == SOCK_STREAM		? INET_TCP
	       : s->protocol == IPPROTO_UDPLITE ? INET_UDPLITE
						: INET_UDP;
}

static inline bool inet_is_tcp(const struct inet_sock *i)
{
	return i->s.type == SOCK_STREAM;
}

/* ---- socket.c ---- */
struct inet_sock *inet_sock_new(int family, int type, int protocol); /* NULL: no memory */
struct inet_sock *inet_get(struct inet_sock *i);
void inet_put(struct inet_sock *i);
int inet_bind(struct socket *s, const struct sock_addr *a, const struct sock_caller *c);
int inet_getname(struct socket *s, bool peer, struct sock_addr *a);

/* ---- addr.c ---- */
/* What a guest's sockaddr says, for a socket of i's family: -EINVAL, -EAFNOSUPPORT; -ENETUNREACH
 * for one of IPv4 on a socket that is only for IPv6. */
int inet_addr_parse(const struct inet_sock *i, const struct sock_addr *from, struct inet_addr *to);
/* As a socket of i's family shows it. */
void inet_addr_show(const struct inet_sock *i, const struct inet_addr *from, struct sock_addr *to);
/* The wildcard of i's family; the port stays. */
void inet_any(const struct inet_sock *i, struct inet_addr *to);
/* ip: 4 bytes. */
void inet_set_v4(struct inet_addr *a, const void *ip);
bool inet_is_v4(const struct inet_addr *a);
bool inet_is_any(const struct inet_addr *a);
bool inet_is_local(const struct inet_addr *a); /* of lo */
/* Whether there is a way from i to that address: -ENETUNREACH, -EADDRNOTAVAIL. */
int inet_route(const struct inet_sock *i, const struct inet_addr *to);
/* Does lo carry anything? */
bool inet_lo_up(const struct inet_sock *i);
bool inet_same_ip(const struct inet_addr *a, const struct inet_addr *b);
/* The address from which lo sends to one of that family. */
void inet_loopback(const struct inet_addr *like, struct inet_addr *to);

/* ---- ports.c ---- */
/* Takes the port (0: a free one) for i, which has none: -EADDRINUSE, -EACCES. */
int inet_port_bind(struct inet_sock *i, const struct inet_addr *a, uint32_t owner);
/* Gives back what bind(2) has not chosen of the local address. */
void inet_port_forget(struct inet_sock *i);
/* The local end of an accepted connection: shares the listener's port. */
void inet_port_share(struct inet_sock *i, const struct inet_addr *a, uint32_t owner);
/* A port of any number, if i has none; `to` is where it is going to send. */
int inet_port_auto(struct inet_sock *i, const struct inet_addr *to, const struct sock_caller *c);
void inet_port_release(struct inet_sock *i);
/* May i listen?  -EADDRINUSE: somebody does. */
int inet_port_may_listen(struct inet_sock *i);
void inet_local(struct inet_sock *i, struct inet_addr *out);
/* The socket that gets what s, or one like it, sends from `from` to `to`, with a reference; NULL:
 * none. */
struct inet_sock *inet_port_find(const struct socket *s, const struct inet_addr *to,
				 const struct inet_addr *from);

/* ---- queue.c ---- */
struct inet_chunk *inet_chunk_new(size_t n); /* NULL: no memory */
/* Claims the front of the queue: 0; -EAGAIN: empty, or somebody else's. lock held. */
int inet_claim(struct inet_sock *i, struct inet_chunk **first) REQUIRES(lc_socket);
/* Ends the claim, releases the lock, notifies. */
void inet_unclaim(struct inet_sock *i) RELEASES(lc_socket);
void inet_queue_free(struct list_head *q);

/* ---- options.c ---- */
enum inet_option {
	OPT_V6ONLY,
	OPT_NODELAY,
	OPT_RECVERR,
	OPT_RECVERR6,
	OPT_TOS,
	OPT_TTL,
	OPT_PKTINFO,
	OPT_RECVTTL,
	OPT_RECVTOS,
	OPT_RECVORIGDSTADDR,
	OPT_HOPS,
	OPT_TCLASS,
	OPT_RECVPKTINFO,
	OPT_RECVHOPLIMIT,
	OPT_RECVTCLASS,
};
int inet_option(const struct inet_sock *i, enum inet_option o);
unsigned inet_tcp_state(const struct inet_sock *i); /* TCP_*: netinet/tcp.h */
void inet_options_init(struct inet_sock *i);
int inet_setsockopt(struct socket *s, int level, int name, const void *v, uint32_t len);
int inet_getsockopt(struct socket *s, int level, int name, void *v, uint32_t *len);

/* ---- control.c ---- */
/* A control message that comes with a datagram to be sent. */
int inet_control(struct socket *s, struct sock_msg *m, int level, int type, const void *data,
		 size_t len);
/* Fills what i's options ask for of a datagram that was received. */
void inet_control_give(const struct inet_sock *i, const struct inet_chunk *k, struct sock_msg *m);
/* What a datagram carries besides its bytes. */
void inet_control_fill(const struct inet_sock *i, const struct sock_ip *ip, struct inet_chunk *k);
/* Nobody has the port k was sent to: tells i, which sent it, and consumes k. */
void inet_unreachable(struct inet_sock *i, struct inet_chunk *k);
/* MSG_ERRQUEUE: the first datagram that did not arrive; -EAGAIN. */
ssize_t inet_recv_error(struct inet_sock *i, struct sock_msg *m);

/* ---- tcp_conn.c, tcp_data.c, udp.c ---- */
extern const struct socket_ops inet_tcp_ops, inet_udp_ops;
ssize_t inet_tcp_sendmsg(struct socket *s, struct sock_msg *m, const struct sock_caller *c);
ssize_t inet_tcp_recvmsg(struct socket *s, struct sock_msg *m);
uint32_t inet_tcp_poll(struct socket *s);
/* n segments with `bytes` of data in all went over lo. */
void inet_tcp_count(const struct inet_sock *i, unsigned n, uint64_t bytes);
int inet_tcp_at_mark(struct socket *s);
long inet_tcp_queue_len(struct socket *s, bool out);
