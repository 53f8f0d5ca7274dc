/* Who has which port: bind, the search for a receiver, ports of the system's choice. */
#include <errno.h>
#include <string.h>

#include "sentry/auth/net_ns.h"
#include "sentry/net/inet/inet_sock.h"
#include "sentry/net/net_info.h"

#define BUCKETS 1024

static struct mutex ports_lock;			       /* lc_net */
static struct list_head tables[INET_CLASSES][BUCKETS]; /* by port */
static uint16_t next_port;			       /* the system's next choice */

static struct list_head *bucket(const struct socket *s, uint16_t port)
{
	struct list_head *b = &tables[inet_class(s)][port % BUCKETS];

	if (!b->next)
		list_init(b);
	return b;
}

/* ---- who is in whose way ---- */

/* A wildcard of IPv6 stands for IPv4 as well, unless the socket is only for IPv6. */
static bool covers(const struct inet_sock *i, const struct inet_addr *local,
		   const struct inet_addr *a)
{
	if (!inet_is_any(local))
		return inet_same_ip(local, a);
	if (inet_is_v4(local) == inet_is_v4(a))
		return true;
	return !inet_is_v4(local) && !inet_option(i, OPT_V6ONLY);
}

static bool overlap(const struct inet_sock *a, const struct inet_addr *la,
		    const struct inet_sock *b)
{
	return a->s.net == b->s.net && la->port == b->local.port &&
	       (covers(a, la, &b->local) || covers(b, &b->local, la));
}

/* May i have the address `la` beside b?  socket(7), SO_REUSEADDR and SO_REUSEPORT. */
static bool may_share(const struct inet_sock *i, uint32_t owner, const struct inet_sock *b)
{
	if (i->s.reuseport && b->s.reuseport && owner == b->owner)
		return true;
	return i->s.reuseaddr && b->s.reuseaddr && b->state != INET_LISTEN;
}

static bool in_the_way(const struct inet_sock *i, const struct inet_addr *la, uint32_t owner)
{
	struct inet_sock *b;

	list_for_each (b, bucket(&i->s, la->port), port_node)
		if (b != i && overlap(i, la, b) && !may_share(i, owner, b))
			return true;
	return false;
}

static void take(struct inet_sock *i, const struct inet_addr *a, uint32_t owner)
{
	i->local = *a;
	i->owner = owner;
	i->bound = true;
	list_add_tail(&i->port_node, bucket(&i->s, a->port));
}

/* A port that nobody has at all; 0: there is none. */
static uint16_t free_port(struct inet_sock *i, struct inet_addr *a)
{
	const _Atomic int *limits = net_limits(i->s.net);
	int first = limits[NET_PORT_FIRST], last = limits[NET_PORT_LAST];

	for (int n = 0; n <= last - first; n++) {
		if (next_port < first || next_port > last)
			next_port = (uint16_t)first;
		a->port = next_port++;
		bool used = false;
		struct inet_sock *b;
		list_for_each (b, bucket(&i->s, a->port), port_node)
			used |= overlap(i, a, b);
		if (!used)
			return a->port;
	}
	return 0;
}

static int bind_locked(struct inet_sock *i, const struct inet_addr *a, uint32_t owner)
{
	struct inet_addr at = *a;

	if (i->bound)
		return -EINVAL;
	if (!at.port) {
		if (!free_port(i, &at))
			return -EADDRINUSE;
	} else if (in_the_way(i, &at, owner)) {
		return -EADDRINUSE;
	}
	take(i, &at, owner);
	return 0;
}

int inet_port_bind(struct inet_sock *i, const struct inet_addr *a, uint32_t owner)
{
	mutex_lock(&ports_lock, &lc_net);
	int err = bind_locked(i, a, owner);
	if (!err) {
		i->port_chosen = a->port;
		i->ip_chosen = !inet_is_any(a);
	}
	mutex_unlock(&ports_lock, &lc_net);
	return err;
}

void inet_port_share(struct inet_sock *i, const struct inet_addr *a, uint32_t owner)
{
	mutex_lock(&ports_lock, &lc_net);
	take(i, a, owner);
	mutex_unlock(&ports_lock, &lc_net);
}

int inet_port_auto(struct inet_sock *i, const struct inet_addr *to, const struct sock_caller *c)
{
	struct inet_addr at = {0};
	int err = 0;

	inet_loopback(to, &at);
	mutex_lock(&ports_lock, &lc_net);
	if (!i->bound)
		err = bind_locked(i, &at, c ? c->cred->euid : 0) ? -EADDRNOTAVAIL : 0;
	else if (inet_is_any(&i->local)) /* connected: what it is bound to is known now */
		memcpy(i->local.ip, at.ip, sizeof(at.ip));
	mutex_unlock(&ports_lock, &lc_net);
	return err;
}

static void release(struct inet_sock *i) REQUIRES(lc_net)
{
	if (i->bound)
		list_del(&i->port_node);
	i->bound = false;
	i->local.port = 0;
}

void inet_port_release(struct inet_sock *i)
{
	mutex_lock(&ports_lock, &lc_net);
	release(i);
	mutex_unlock(&ports_lock, &lc_net);
}

void inet_port_forget(struct inet_sock *i)
{
	mutex_lock(&ports_lock, &lc_net);
	if (!i->ip_chosen)
		inet_any(i, &i->local);
	if (!i->port_chosen)
		release(i);
	mutex_unlock(&ports_lock, &lc_net);
}

int inet_port_may_listen(struct inet_sock *i)
{
	struct inet_sock *b;
	int err = 0;

	mutex_lock(&ports_lock, &lc_net);
	list_for_each (b, bucket(&i->s, i->local.port), port_node)
		if (b != i && b->state == INET_LISTEN && overlap(i, &i->local, b) &&
		    !(i->s.reuseport && b->s.reuseport && i->owner == b->owner))
			err = -EADDRINUSE;
	mutex_unlock(&ports_lock, &lc_net);
	return err;
}

void inet_local(struct inet_sock *i, struct inet_addr *out)
{
	mutex_lock(&ports_lock, &lc_net);
	*out = i->local;
	mutex_unlock(&ports_lock, &lc_net);
}

/* ---- the receiver ---- */

/* How well b fits; 0: not at all. */
static int score(struct inet_sock *b, const struct inet_addr *to, const struct inet_addr *from)
{
	int points = 1;

	if (b->local.port != to->port || !covers(b, &b->local, to))
		return 0;
	if (b->s.type == SOCK_STREAM) {
		if (b->state != INET_LISTEN)
			return 0;
	} else if (b->state == INET_CONNECTED) {
		mutex_lock(&b->lock, &lc_socket);
		bool mine = b->remote.port == from->port && inet_same_ip(&b->remote, from);
		mutex_unlock(&b->lock, &lc_socket);
		if (!mine)
			return 0;
		points += 8;
	}
	if (!inet_is_any(&b->local))
		points += 4;
	if (inet_is_v4(&b->local) == inet_is_v4(to))
		points += 2;
	return points;
}

struct inet_sock *inet_port_find(const struct socket *s, const struct inet_addr *to,
				 const struct inet_addr *from)
{
	struct inet_sock *b, *best = NULL;
	int most = 0, equals = 0;

	mutex_lock(&ports_lock, &lc_net);
	list_for_each (b, bucket(s, to->port), port_node) {
		int n = b->s.net == s->net ? score(b, to, from) : 0;
		if (n == 0 || n < most)
			continue;
		equals = n > most ? 1 : equals + 1;
		/* Those that share a port (SO_REUSEPORT) are chosen by the sender's port. */
		if (n > most || (b->s.reuseport && from->port % equals == 0))
			best = b;
		most = n;
	}
	if (best)
		inet_get(best);
	mutex_unlock(&ports_lock, &lc_net);
	return best;
}

/* ---- for /proc/net ---- */

static void tell(struct inet_sock *b, net_info_fn *fn, void *arg) REQUIRES(lc_net)
{
	struct net_sock_info i = {.family = b->s.family,
				  .type = b->s.type,
				  .protocol = b->s.protocol,
				  .local_port = b->local.port,
				  .uid = b->s.uid,
				  .ino = b->s.ino,
				  .refs = (unsigned)ref_read(&b->ref)};

	memcpy(i.local, b->local.ip, sizeof(i.local));
	mutex_lock(&b->lock, &lc_socket);
	i.listening = b->state == INET_LISTEN;
	i.rx = i.listening ? b->nqueued : b->rcvq_bytes;
	i.tx = i.listening ? b->backlog : 0;
	i.drops = b->drops;
	memcpy(i.remote, b->remote.ip, sizeof(i.remote));
	i.remote_port = b->remote.port;
	i.state = inet_tcp_state(b);
	mutex_unlock(&b->lock, &lc_socket);
	fn(&i, arg);
}

void net_info_inet(int protocol, const struct ns *net, net_info_fn *fn, void *arg)
{
	struct inet_sock *b;
	struct list_head *table = tables[protocol == IPPROTO_TCP   ? INET_TCP
					 : protocol == IPPROTO_UDP ? INET_UDP
								   : INET_UDPLITE];

	mutex_lock(&ports_lock, &lc_net);
	for (int n = 0; n < BUCKETS; n++) {
		if (!table[n].next)
			continue;
		list_for_each (b, &table[n], port_node)
			if (b->s.net == net)
				tell(b, fn, arg);
	}
	mutex_unlock(&ports_lock, &lc_net);
}
