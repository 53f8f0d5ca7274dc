/* UDP: whole datagrams. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/net/inet/inet_sock.h"

#define PAYLOAD_MAX 65507u /* of IPv4; IPv6 has 20 bytes more */
#define V4_HEADERS 28u	   /* of IP and UDP */
#define V6_HEADERS 48u
#define OVERHEAD 256u /* what a datagram costs of SO_RCVBUF besides its bytes */

static int udp_connect(struct socket *s, const struct sock_addr *a, const struct sock_caller *c,
		       bool nonblock)
{
	struct inet_sock *i = inet_of(s);
	struct inet_addr to = {0};

	(void)nonblock;
	if (a->len < sizeof(sa_family_t))
		return -EINVAL;
	bool off = a->family == AF_UNSPEC;
	int err = off ? 0 : inet_addr_parse(i, a, &to);
	if (err)
		return err;
	if (!off) {
		if (inet_is_any(&to))
			inet_loopback(&to, &to);
		if ((err = inet_route(i, &to)))
			return err;
		if ((err = inet_port_auto(i, &to, c)))
			return err;
	} else {
		inet_port_forget(i);
	}
	mutex_lock(&i->lock, &lc_socket);
	i->remote = to;
	i->state = off ? INET_CLOSED : INET_CONNECTED;
	mutex_unlock(&i->lock, &lc_socket);
	return 0;
}

static int destination(struct inet_sock *i, const struct sock_msg *m, struct inet_addr *to)
{
	if (m->name.len) {
		int err = inet_addr_parse(i, &m->name, to);
		if (err)
			return err;
		if (!to->port)
			return -EINVAL;
	} else {
		mutex_lock(&i->lock, &lc_socket);
		bool connected = i->state == INET_CONNECTED;
		*to = i->remote;
		mutex_unlock(&i->lock, &lc_socket);
		if (!connected)
			return -EDESTADDRREQ;
	}
	if (inet_is_any(to))
		inet_loopback(to, to);
	return inet_route(i, to);
}

/* c: of IPv4. */
static void count(struct socket *s, const struct inet_chunk *k, enum net_counter c)
{
	net_count(s->net, inet_is_v4(&k->to) ? c : c + (NET_UDP6_IN - NET_UDP_IN), 1);
}

/* A datagram that finds no room is lost, as UDP's may be. */
static void deliver(struct inet_sock *to, struct inet_chunk *k)
{
	mutex_lock(&to->lock, &lc_socket);
	bool fits = !to->closed && !(to->s.shut & SOCK_SHUT_RD) &&
		    to->rcvq_bytes + k->len + OVERHEAD <= to->s.rcvbuf;
	if (fits) {
		list_add_tail(&k->node, &to->rcvq);
		to->rcvq_bytes += k->len + OVERHEAD;
	} else
		to->drops++;
	count(&to->s, k, fits ? NET_UDP_IN : NET_UDP_NO_ROOM);
	mutex_unlock(&to->lock, &lc_socket);
	if (fits)
		waitq_notify(&to->s.wq, POLLIN | POLLRDNORM);
	else
		free(k);
}

static ssize_t udp_sendmsg(struct socket *s, struct sock_msg *m, const struct sock_caller *c)
{
	struct inet_sock *i = inet_of(s);
	struct inet_addr to;
	size_t n = m->io->left;

	if (m->flags & MSG_OOB)
		return -EOPNOTSUPP;
	if (n > PAYLOAD_MAX)
		return -EMSGSIZE;
	int err = -atomic_exchange(&s->error, 0);
	if (err || (err = destination(i, m, &to)))
		return err;
	if (s->shut & SOCK_SHUT_WR)
		return -EPIPE;
	if (!i->bound && (err = inet_port_auto(i, &to, c)))
		return err == -EADDRNOTAVAIL ? -EAGAIN : err;
	struct inet_chunk *k = inet_chunk_new(n);
	if (!k)
		return -ENOBUFS;
	ssize_t got = n ? uio_get(m->io, k->data, n) : 0;
	if (got != (ssize_t)n) {
		free(k);
		return -EFAULT;
	}
	k->len = (uint32_t)n;
	k->to = to;
	inet_control_fill(i, &m->ip, k);
	count(s, k, NET_UDP_OUT);
	if (!inet_lo_up(i)) {
		free(k);
		return got;
	}
	net_count_packet(s->net, n + (inet_is_v4(&to) ? V4_HEADERS : V6_HEADERS));
	struct inet_sock *target = inet_port_find(s, &to, &k->from);
	if (target) {
		deliver(target, k);
		inet_put(target);
	} else {
		count(s, k, NET_UDP_NO_PORTS);
		inet_unreachable(i, k);
	}
	return got;
}

static ssize_t udp_recvmsg(struct socket *s, struct sock_msg *m)
{
	struct inet_sock *i = inet_of(s);
	struct inet_chunk *k;

	m->name.len = 0;
	if (m->flags & MSG_ERRQUEUE)
		return inet_recv_error(i, m);
	int err = -atomic_exchange(&s->error, 0);
	if (err)
		return err;
	if (m->flags & MSG_OOB)
		return -EOPNOTSUPP;
	mutex_lock(&i->lock, &lc_socket);
	if ((err = inet_claim(i, &k))) {
		bool over = !i->rbusy && s->shut & SOCK_SHUT_RD;
		mutex_unlock(&i->lock, &lc_socket);
		return over ? 0 : err;
	}
	uint32_t n = (uint32_t)MIN((uint64_t)k->len, m->io->left);
	mutex_unlock(&i->lock, &lc_socket);
	ssize_t got = n ? uio_put(m->io, k->data, n) : 0;
	mutex_lock(&i->lock, &lc_socket);
	bool taken = got == (ssize_t)n && !(m->flags & MSG_PEEK);
	if (got == (ssize_t)n) {
		inet_addr_show(i, &k->from, &m->name);
		inet_control_give(i, k, m);
		m->full_len = k->len;
		if (n < k->len)
			m->out_flags |= MSG_TRUNC;
	}
	if (taken) {
		list_del(&k->node);
		i->rcvq_bytes -= k->len + OVERHEAD;
	}
	inet_unclaim(i);
	if (taken)
		free(k);
	return got == (ssize_t)n ? got : -EFAULT;
}

static int udp_shutdown(struct socket *s, int how)
{
	/* One that is not connected is an error, and yet wakes who waits for it. */
	atomic_fetch_or(&s->shut, how + 1);
	waitq_notify(&s->wq, POLLIN | POLLOUT | POLLHUP | POLLRDHUP);
	return inet_of(s)->state == INET_CONNECTED ? 0 : -ENOTCONN;
}

static uint32_t udp_poll(struct socket *s)
{
	struct inet_sock *i = inet_of(s);
	int shut = s->shut;
	uint32_t ev = POLLOUT | POLLWRNORM | POLLWRBAND;

	mutex_lock(&i->lock, &lc_socket);
	if (i->rbusy)
		i->rmissed = true;
	else if (!list_empty(&i->rcvq))
		ev |= POLLIN | POLLRDNORM;
	if (!list_empty(&i->errors))
		ev |= POLLERR;
	mutex_unlock(&i->lock, &lc_socket);
	if (shut & SOCK_SHUT_RD)
		ev |= POLLIN | POLLRDNORM | POLLRDHUP;
	if (shut == SOCK_SHUT_BOTH)
		ev |= POLLHUP;
	return ev;
}

static long udp_queue_len(struct socket *s, bool out)
{
	struct inet_sock *i = inet_of(s);

	if (out)
		return 0;
	mutex_lock(&i->lock, &lc_socket);
	long n = list_empty(&i->rcvq) ? 0 : list_first(&i->rcvq, struct inet_chunk, node)->len;
	mutex_unlock(&i->lock, &lc_socket);
	return n;
}

static void udp_closed(struct socket *s)
{
	struct inet_sock *i = inet_of(s);

	i->closed = true;
	inet_port_release(i);
	inet_put(i);
}

const struct socket_ops inet_udp_ops = {
	.bind = inet_bind,
	.connect = udp_connect,
	.getname = inet_getname,
	.sendmsg = udp_sendmsg,
	.recvmsg = udp_recvmsg,
	.control = inet_control,
	.shutdown = udp_shutdown,
	.poll = udp_poll,
	.setsockopt = inet_setsockopt,
	.getsockopt = inet_getsockopt,
	.queue_len = udp_queue_len,
	.closed = udp_closed,
};
