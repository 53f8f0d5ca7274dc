/* What TCP and UDP sockets share: making, binding, names. */
#include <errno.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <stdlib.h>

#include "sentry/auth/net_ns.h"
#include "sentry/net/inet/inet_sock.h"

/* net.ipv4.tcp_wmem and tcp_rmem, their middle values. */
#define TCP_SNDBUF 16384u
#define TCP_RCVBUF 131072u

struct inet_sock *inet_get(struct inet_sock *i)
{
	ref_get(&i->ref);
	return i;
}

void inet_put(struct inet_sock *i)
{
	if (!i || !ref_put(&i->ref))
		return;
	inet_queue_free(&i->rcvq);
	inet_queue_free(&i->errors);
	socket_fini(&i->s);
	free(i);
}

struct inet_sock *inet_sock_new(int family, int type, int protocol)
{
	struct inet_sock *i = calloc(1, sizeof(*i));

	if (!i)
		return NULL;
	bool tcp = type == SOCK_STREAM;
	socket_init(&i->s, tcp ? &inet_tcp_ops : &inet_udp_ops, family, type, protocol);
	if (tcp) {
		i->s.sndbuf = TCP_SNDBUF;
		i->s.rcvbuf = TCP_RCVBUF;
	}
	ref_init(&i->ref, 1);
	mutex_init(&i->lock);
	list_init(&i->rcvq);
	list_init(&i->errors);
	list_init(&i->acceptq);
	list_init(&i->accept_node);
	list_init(&i->port_node);
	list_init(&i->waiting);
	list_init(&i->waiting_node);
	inet_options_init(i);
	inet_any(i, &i->local);
	return i;
}

static int create(int family, int type, int protocol, struct socket **out)
{
	if (protocol < 0 || protocol >= IPPROTO_MAX)
		return -EINVAL;
	if (type != SOCK_STREAM && type != SOCK_DGRAM)
		return -ESOCKTNOSUPPORT;
	int usual = type == SOCK_STREAM ? IPPROTO_TCP : IPPROTO_UDP;
	if (!protocol)
		protocol = usual;
	if (protocol != usual && (type != SOCK_DGRAM || protocol != IPPROTO_UDPLITE))
		return -EPROTONOSUPPORT;
	struct inet_sock *i = inet_sock_new(family, type, protocol);
	if (!i)
		return -ENOMEM;
	*out = &i->s;
	return 0;
}

static int inet_create(int type, int protocol, struct socket **out)
{
	return create(AF_INET, type, protocol, out);
}

static int inet6_create(int type, int protocol, struct socket **out)
{
	return create(AF_INET6, type, protocol, out);
}

const struct net_family inet_family = {.family = AF_INET, .create = inet_create};
const struct net_family inet6_family = {.family = AF_INET6, .create = inet6_create};

int inet_bind(struct socket *s, const struct sock_addr *a, const struct sock_caller *c)
{
	struct inet_sock *i = inet_of(s);
	struct inet_addr at;
	int err;

	/* An old mistake that Linux lets pass: AF_UNSPEC with the wildcard. */
	struct sock_addr copy = *a;
	if (s->family == AF_INET && a->len >= sizeof(struct sockaddr_in) && a->family == AF_UNSPEC)
		copy.family = AF_INET;
	if ((err = inet_addr_parse(i, &copy, &at)))
		return err == -ENETUNREACH ? -EINVAL : err;
	if (copy.family != a->family && !inet_is_any(&at))
		return -EAFNOSUPPORT;
	if (s->family == AF_INET6 && a->family == AF_INET)
		return -EAFNOSUPPORT;
	if (!inet_is_any(&at) && (!inet_is_local(&at) || (!inet_is_v4(&at) && !inet_lo_up(i))))
		return -EADDRNOTAVAIL;
	if (at.port && at.port < net_limits(s->net)[NET_UNPRIVILEGED_PORT] &&
	    !socket_net_capable(s, c->cred, CAP_NET_BIND_SERVICE))
		return -EACCES;
	if (i->state != INET_CLOSED)
		return -EINVAL;
	return inet_port_bind(i, &at, c->cred->euid);
}

int inet_getname(struct socket *s, bool peer, struct sock_addr *a)
{
	struct inet_sock *i = inet_of(s);
	struct inet_addr at;

	if (peer) {
		if (i->state != INET_CONNECTED)
			return -ENOTCONN;
		mutex_lock(&i->lock, &lc_socket);
		at = i->remote;
		mutex_unlock(&i->lock, &lc_socket);
	} else {
		inet_local(i, &at);
	}
	inet_addr_show(i, &at, a);
	return 0;
}
