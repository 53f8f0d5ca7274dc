/*
 * TCP: connecting, listening, accepting, shutting down, closing.
 *
 * A connection is made in one step, by the side that connects, as soon as the listener's queue has
 * room; until then the socket waits on the listener's list, and accept(2) completes it.
 */
#include <errno.h>

#include "sentry/auth/net_ns.h"
#include "sentry/lib/cleanup.h"
#include "sentry/net/inet/inet_sock.h"

#define HANDSHAKE 3 /* segments */
#define EV_IN (POLLIN | POLLRDNORM)
#define EV_OUT (POLLOUT | POLLWRNORM)
#define EV_ALL (EV_IN | EV_OUT | POLLHUP | POLLRDHUP | POLLERR)

static struct mutex waiting_lock; /* lc_socket2 */

/* ---- the other end's view ---- */

static void end_of_stream(struct inet_sock *i)
{
	mutex_lock(&i->lock, &lc_socket);
	i->fin = true;
	mutex_unlock(&i->lock, &lc_socket);
	waitq_notify(&i->s.wq, EV_ALL);
}

/* What a reset does: an error, and nothing goes either way any more.  Data that came stays. */
static void reset(struct inet_sock *i, int error)
{
	mutex_lock(&i->lock, &lc_socket);
	if (i->state != INET_DONE) {
		net_count(i->s.net, NET_TCP_ESTAB_RESETS, 1);
		i->s.error = error;
		i->state = INET_DONE;
		i->s.connected = false;
		i->s.shut = SOCK_SHUT_BOTH;
	}
	mutex_unlock(&i->lock, &lc_socket);
	inet_port_forget(i);
	waitq_notify(&i->s.wq, EV_ALL);
}

/* ---- connecting ---- */

static void refuse(struct inet_sock *i)
{
	mutex_lock(&i->lock, &lc_socket);
	i->state = INET_CLOSED;
	i->s.error = ECONNREFUSED;
	mutex_unlock(&i->lock, &lc_socket);
	inet_port_forget(i);
	waitq_notify(&i->s.wq, EV_ALL);
}

static void inherit(struct inet_sock *child, struct inet_sock *listener)
{
	child->s.sndbuf = (uint32_t)listener->s.sndbuf;
	child->s.rcvbuf = (uint32_t)listener->s.rcvbuf;
	child->s.reuseaddr = (bool)listener->s.reuseaddr;
	child->s.reuseport = (bool)listener->s.reuseport;
	child->s.keepalive = (bool)listener->s.keepalive;
	child->s.oobinline = (bool)listener->s.oobinline;
	child->s.linger = (int64_t)listener->s.linger;
	child->s.priority = (int)listener->s.priority;
	child->s.rcvlowat = (int)listener->s.rcvlowat;
	for (size_t k = 0; k < INET_OPTIONS; k++)
		child->options[k] = (int)listener->options[k];
}

static void wait_for(struct inet_sock *i, struct inet_sock *listener)
{
	mutex_lock(&waiting_lock, &lc_socket2);
	if (!i->waits_for) {
		i->waits_for = inet_get(listener);
		inet_get(i);
		list_add_tail(&i->waiting_node, &listener->waiting);
	}
	mutex_unlock(&waiting_lock, &lc_socket2);
}

/* The first that waits for the listener, with a reference; NULL: nobody. */
static struct inet_sock *next_waiting(struct inet_sock *listener)
{
	struct inet_sock *i = NULL;

	mutex_lock(&waiting_lock, &lc_socket2);
	if (!list_empty(&listener->waiting)) {
		i = list_first(&listener->waiting, struct inet_sock, waiting_node);
		list_del(&i->waiting_node);
		inet_put(steal(i->waits_for));
	}
	mutex_unlock(&waiting_lock, &lc_socket2);
	return i;
}

static void stop_waiting(struct inet_sock *i)
{
	mutex_lock(&waiting_lock, &lc_socket2);
	struct inet_sock *listener = steal(i->waits_for);
	if (listener)
		list_del(&i->waiting_node);
	mutex_unlock(&waiting_lock, &lc_socket2);
	if (listener) {
		inet_put(listener);
		inet_put(i);
	}
}

/* Puts the server's end on the listener's queue: -EAGAIN: full, i waits; -ECONNREFUSED. */
static int enqueue(struct inet_sock *i, struct inet_sock *listener, struct inet_sock *child)
{
	int err = 0;

	mutex_lock(&listener->lock, &lc_socket);
	if (listener->closed || listener->state != INET_LISTEN) {
		err = -ECONNREFUSED;
	} else if (listener->nqueued > listener->backlog) {
		wait_for(i, listener);
		err = -EAGAIN;
	} else {
		inherit(child, listener);
		child->peer = inet_get(i);
		child->told = true;
		child->state = INET_CONNECTED;
		child->s.connected = true;
		list_add_tail(&child->accept_node, &listener->acceptq);
		listener->nqueued++;
	}
	mutex_unlock(&listener->lock, &lc_socket);
	return err;
}

/* i is CONNECTING, its remote address known. */
static int establish(struct inet_sock *i, struct inet_sock *listener)
{
	struct inet_sock *child = inet_sock_new(listener->s.family, SOCK_STREAM, IPPROTO_TCP);
	struct inet_addr local;

	if (!child)
		return -ENOMEM;
	socket_set_net(&child->s, listener->s.net);
	inet_local(i, &local);
	child->remote = local;
	inet_port_share(child, &i->remote, listener->owner);
	inet_get(child);
	int err = enqueue(i, listener, child);
	if (err) {
		inet_port_release(child);
		inet_put(child);
		inet_put(child);
		return err;
	}
	mutex_lock(&i->lock, &lc_socket);
	i->peer = child;
	i->s.connected = true;
	i->state = INET_CONNECTED;
	mutex_unlock(&i->lock, &lc_socket);
	net_count(i->s.net, NET_TCP_ACTIVE_OPENS, 1);
	net_count(i->s.net, NET_TCP_PASSIVE_OPENS, 1);
	inet_tcp_count(i, HANDSHAKE, 0);
	waitq_notify(&listener->s.wq, EV_IN);
	waitq_notify(&i->s.wq, EV_OUT);
	return 0;
}

/* The listener has room: those that wait get in. */
static void admit(struct inet_sock *listener)
{
	struct inet_sock *i;

	while (listener->nqueued <= listener->backlog && (i = next_waiting(listener))) {
		int err = establish(i, listener);
		if (err && err != -EAGAIN)
			refuse(i);
		inet_put(i);
	}
}

static int disconnect(struct inet_sock *i)
{
	mutex_lock(&i->lock, &lc_socket);
	bool idle = i->state == INET_CLOSED || i->state == INET_DONE;
	mutex_unlock(&i->lock, &lc_socket);
	/* Taking a live connection apart for another life is left to close(2). */
	return idle ? 0 : -EOPNOTSUPP;
}

/* From CLOSED to CONNECTING, or what connect(2) says in any other state. */
static int connect_begin(struct inet_sock *i, const struct inet_addr *to, bool nonblock)
{
	int err = 0;

	mutex_lock(&i->lock, &lc_socket);
	switch ((enum inet_state)i->state) {
	case INET_CLOSED:
		err = -atomic_exchange(&i->s.error, 0);
		if (!err) {
			i->state = INET_CONNECTING;
			i->remote = *to;
		}
		break;
	case INET_CONNECTING:
		err = nonblock ? -EALREADY : -EAGAIN;
		break;
	case INET_CONNECTED:
		err = i->told ? -EISCONN : 1;
		i->told = true;
		break;
	case INET_LISTEN:
		err = -EISCONN;
		break;
	case INET_DONE:
		err = -atomic_exchange(&i->s.error, 0);
		err = err ? err : -ECONNABORTED;
		break;
	}
	mutex_unlock(&i->lock, &lc_socket);
	return err;
}

static void connect_failed(struct inet_sock *i)
{
	mutex_lock(&i->lock, &lc_socket);
	i->state = INET_CLOSED;
	mutex_unlock(&i->lock, &lc_socket);
}

static int connect_to(struct inet_sock *i, const struct sock_caller *c)
{
	struct inet_addr local;
	int err = inet_port_auto(i, &i->remote, c);

	if (err)
		return err;
	inet_local(i, &local);
	struct inet_sock *listener = inet_port_find(&i->s, &i->remote, &local);
	if (!listener) {
		net_count(i->s.net, NET_TCP_ATTEMPT_FAILS, 1);
		return -ECONNREFUSED;
	}
	err = establish(i, listener);
	inet_put(listener);
	return err;
}

static int tcp_connect(struct socket *s, const struct sock_addr *a, const struct sock_caller *c,
		       bool nonblock)
{
	struct inet_sock *i = inet_of(s);
	struct inet_addr to;

	if (a->len < sizeof(sa_family_t))
		return -EINVAL;
	if (a->family == AF_UNSPEC)
		return disconnect(i);
	int err = inet_addr_parse(i, a, &to);
	if (err)
		return err;
	if (inet_is_any(&to))
		inet_loopback(&to, &to);
	if ((err = connect_begin(i, &to, nonblock)))
		return MIN(err, 0);
	if (!(err = inet_route(i, &to)))
		err = !inet_lo_up(i) ? -ETIMEDOUT : to.port ? connect_to(i, c) : -ECONNREFUSED;
	/* Linux answers before the other side does, so refusals come by SO_ERROR. */
	if (nonblock && err == -ECONNREFUSED)
		refuse(i);
	else if (err && err != -EAGAIN)
		connect_failed(i);
	else if (!nonblock && !err)
		i->told = true;
	if (nonblock && (!err || err == -ECONNREFUSED || err == -EAGAIN))
		return -EINPROGRESS;
	return err;
}

/* ---- listening ---- */

static int tcp_listen(struct socket *s, int backlog, const struct sock_caller *c)
{
	struct inet_sock *i = inet_of(s);
	struct inet_addr any;
	int err = 0;

	if (i->state != INET_CLOSED && i->state != INET_LISTEN)
		return -EINVAL;
	if (!i->bound) {
		inet_local(i, &any);
		any.port = 0;
		err = inet_port_bind(i, &any, c->cred->euid);
	}
	if (!err && i->state == INET_CLOSED)
		err = inet_port_may_listen(i);
	if (err)
		return err;
	mutex_lock(&i->lock, &lc_socket);
	i->backlog = MIN((unsigned)backlog, (unsigned)net_limits(s->net)[NET_SOMAXCONN]);
	i->state = INET_LISTEN;
	i->s.listening = true;
	mutex_unlock(&i->lock, &lc_socket);
	return 0;
}

static int tcp_accept(struct socket *s, struct socket **out)
{
	struct inet_sock *i = inet_of(s), *child = NULL;
	int err = 0;

	mutex_lock(&i->lock, &lc_socket);
	if (i->state != INET_LISTEN) {
		err = -EINVAL;
	} else if (list_empty(&i->acceptq)) {
		err = -EAGAIN;
	} else {
		child = list_first(&i->acceptq, struct inet_sock, accept_node);
		list_del(&child->accept_node);
		list_init(&child->accept_node);
		i->nqueued--;
	}
	mutex_unlock(&i->lock, &lc_socket);
	if (err)
		return err;
	admit(i);
	*out = &child->s;
	return 0;
}

/* ---- the end ---- */

/* Ends this side of a connection.  What was never read is a loss that the other end is told of. */
static void part(struct inet_sock *i)
{
	struct inet_sock *peer = i->peer;

	mutex_lock(&i->lock, &lc_socket);
	bool lost = !list_empty(&i->rcvq) || i->s.linger == 0;
	i->peer = NULL;
	mutex_unlock(&i->lock, &lc_socket);
	if (!peer)
		return;
	if (lost && i->state != INET_DONE)
		reset(peer, ECONNRESET);
	else
		end_of_stream(peer);
	inet_put(peer);
}

/* No more connections: those that nobody accepted are reset, those that wait refused. */
static void stop_listening(struct inet_sock *i)
{
	struct list_head queued = LIST_HEAD_INIT(queued);
	struct inet_sock *w;

	mutex_lock(&i->lock, &lc_socket);
	i->state = INET_CLOSED;
	i->s.listening = false;
	while (!list_empty(&i->acceptq)) {
		struct list_head *n = i->acceptq.next;
		list_del(n);
		list_add_tail(n, &queued);
	}
	i->nqueued = 0;
	mutex_unlock(&i->lock, &lc_socket);
	while (!list_empty(&queued)) {
		struct inet_sock *child = list_first(&queued, struct inet_sock, accept_node);
		list_del(&child->accept_node);
		list_init(&child->accept_node);
		child->s.linger = 0;
		part(child);
		inet_port_release(child);
		inet_put(child);
	}
	while ((w = next_waiting(i))) {
		refuse(w);
		inet_put(w);
	}
}

static int tcp_shutdown(struct socket *s, int how)
{
	struct inet_sock *i = inet_of(s);
	int bits = how + 1; /* SHUT_RD, SHUT_WR, SHUT_RDWR */

	if (i->state == INET_LISTEN) {
		if (bits & SOCK_SHUT_RD) {
			stop_listening(i);
			waitq_notify(&s->wq, EV_ALL);
		}
		return 0;
	}
	/* One that is not connected is an error, and yet wakes who waits for it. */
	atomic_fetch_or(&s->shut, bits);
	if (i->state != INET_CONNECTED) {
		waitq_notify(&s->wq, EV_ALL);
		return -ENOTCONN;
	}
	mutex_lock(&i->lock, &lc_socket);
	struct inet_sock *peer = i->peer ? inet_get(i->peer) : NULL;
	mutex_unlock(&i->lock, &lc_socket);
	if (peer && bits & SOCK_SHUT_WR)
		end_of_stream(peer);
	inet_put(peer);
	waitq_notify(&s->wq, EV_ALL);
	return 0;
}

static void tcp_closed(struct socket *s)
{
	struct inet_sock *i = inet_of(s);

	i->closed = true;
	inet_port_release(i);
	if (i->state == INET_LISTEN)
		stop_listening(i);
	stop_waiting(i);
	part(i);
	inet_put(i);
}

const struct socket_ops inet_tcp_ops = {
	.bind = inet_bind,
	.connect = tcp_connect,
	.listen = tcp_listen,
	.accept = tcp_accept,
	.getname = inet_getname,
	.sendmsg = inet_tcp_sendmsg,
	.recvmsg = inet_tcp_recvmsg,
	.shutdown = tcp_shutdown,
	.poll = inet_tcp_poll,
	.setsockopt = inet_setsockopt,
	.getsockopt = inet_getsockopt,
	.queue_len = inet_tcp_queue_len,
	.at_mark = inet_tcp_at_mark,
	.closed = tcp_closed,
};
