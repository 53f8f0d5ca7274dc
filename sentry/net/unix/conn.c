/* Connecting, accepting, shutting down, closing. */
#include <errno.h>
#include <string.h>

#include "sentry/auth/net_ns.h"
#include "sentry/net/unix/unix_sock.h"

#define EV_ALL (POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM | POLLHUP | POLLRDHUP | POLLERR)

static void set_peer_cred(struct unix_sock *u, int pid, const struct cred *c)
{
	u->s.peer_pid = pid;
	u->s.peer_cred = cred_get((struct cred *)c);
}

/* ---- datagrams: a default destination ---- */

static int dgram_connect(struct unix_sock *u, const struct sock_addr *a,
			 const struct sock_caller *c)
{
	struct unix_sock *to = NULL;
	int err = 0;

	if (a->len >= UNIX_ADDR_MIN && a->family != AF_UNSPEC) {
		if (u->s.passcred && (err = unix_autobind(u)))
			return err;
		if ((err = unix_find(a, &u->s, c, &to)))
			return err;
		mutex_lock(&to->lock, &lc_socket);
		bool refuses = to->peer && to->peer != u;
		mutex_unlock(&to->lock, &lc_socket);
		if (refuses) {
			unix_put(to);
			return -EPERM;
		}
	}
	unix_unblock(u);
	mutex_lock(&u->lock, &lc_socket);
	struct unix_sock *old = u->peer;
	u->peer = to;
	u->state = to ? UNIX_CONNECTED : UNIX_CLOSED;
	mutex_unlock(&u->lock, &lc_socket);
	unix_put(old);
	waitq_notify(&u->s.wq, POLLOUT | POLLWRNORM);
	return 0;
}

/* ---- streams and sequenced packets ---- */

/* Takes u from UNIX_CLOSED to UNIX_BUSY, so that only one connect is under way. */
static int connect_begin(struct unix_sock *u)
{
	int err = 0;

	mutex_lock(&u->lock, &lc_socket);
	switch ((enum unix_state)u->state) {
	case UNIX_CLOSED:
		u->state = UNIX_BUSY;
		break;
	case UNIX_CONNECTED:
		err = -EISCONN;
		break;
	case UNIX_BUSY:
		err = -EALREADY;
		break;
	default:
		err = -EINVAL;
	}
	mutex_unlock(&u->lock, &lc_socket);
	return err;
}

static void connect_end(struct unix_sock *u, enum unix_state state)
{
	mutex_lock(&u->lock, &lc_socket);
	u->state = state;
	u->s.connected = state == UNIX_CONNECTED;
	mutex_unlock(&u->lock, &lc_socket);
}

/* Puts `fresh`, the server's end of u's connection, on the listener's queue. */
static int enqueue(struct unix_sock *u, struct unix_sock *listener, struct unix_sock *fresh,
		   bool nonblock)
{
	int err = 0;

	mutex_lock(&listener->lock, &lc_socket);
	if (listener->closed || listener->state != UNIX_LISTEN || listener->s.shut & SOCK_SHUT_RD) {
		err = -ECONNREFUSED;
	} else if (listener->nqueued > listener->backlog) {
		if (!nonblock)
			unix_block_on(u, listener);
		err = -EAGAIN;
	} else {
		set_peer_cred(u, listener->listen_pid, listener->listen_cred);
		fresh->addr = unix_addr_get(listener->addr);
		fresh->s.passcred = (bool)listener->s.passcred;
		fresh->peer = unix_get(u);
		fresh->state = UNIX_CONNECTED;
		fresh->s.connected = true;
		u->peer = unix_get(fresh);
		list_add_tail(&fresh->accept_node, &listener->acceptq);
		listener->nqueued++;
	}
	mutex_unlock(&listener->lock, &lc_socket);
	return err;
}

static int stream_connect_to(struct unix_sock *u, struct unix_sock *listener,
			     const struct sock_caller *c, bool nonblock)
{
	struct unix_sock *fresh = unix_sock_new(u->s.type);

	if (!fresh)
		return -ENOMEM;
	socket_set_net(&fresh->s, listener->s.net);
	set_peer_cred(fresh, c->pid, c->cred);
	int err = enqueue(u, listener, fresh, nonblock);
	if (err) {
		unix_put(fresh);
		return err;
	}
	return 0;
}

static int stream_connect(struct unix_sock *u, const struct sock_addr *a,
			  const struct sock_caller *c, bool nonblock)
{
	struct unix_sock *listener;
	int err = unix_find(a, &u->s, c, &listener);

	if (err)
		return err;
	unix_unblock(u);
	if (u->s.passcred && (err = unix_autobind(u)))
		goto out;
	if ((err = connect_begin(u)))
		goto out;
	err = stream_connect_to(u, listener, c, nonblock);
	connect_end(u, err ? UNIX_CLOSED : UNIX_CONNECTED);
	if (!err) {
		waitq_notify(&listener->s.wq, POLLIN | POLLRDNORM);
		waitq_notify(&u->s.wq, POLLOUT | POLLWRNORM);
	}
out:
	unix_put(listener);
	return err;
}

int unix_connect(struct socket *s, const struct sock_addr *a, const struct sock_caller *c,
		 bool nonblock)
{
	if (a->len < UNIX_ADDR_MIN)
		return -EINVAL;
	if (s->type == SOCK_DGRAM)
		return dgram_connect(unix_of(s), a, c);
	return stream_connect(unix_of(s), a, c, nonblock);
}

int unix_listen(struct socket *s, int backlog, const struct sock_caller *c)
{
	struct unix_sock *u = unix_of(s);
	struct cred *old = NULL;
	int err = 0;

	mutex_lock(&u->lock, &lc_socket);
	if (!u->addr || (u->state != UNIX_CLOSED && u->state != UNIX_LISTEN)) {
		err = -EINVAL;
	} else {
		u->backlog = MIN((unsigned)backlog, (unsigned)net_limits(s->net)[NET_SOMAXCONN]);
		u->state = UNIX_LISTEN;
		u->listen_pid = c->pid;
		old = u->listen_cred;
		u->listen_cred = cred_get((struct cred *)c->cred);
		s->listening = true;
	}
	mutex_unlock(&u->lock, &lc_socket);
	cred_put(old);
	if (!err)
		unix_wake_blocked(u);
	return err;
}

int unix_accept(struct socket *s, struct socket **out)
{
	struct unix_sock *u = unix_of(s);
	struct unix_sock *got = NULL;
	int err = 0;

	mutex_lock(&u->lock, &lc_socket);
	if (u->state != UNIX_LISTEN) {
		err = -EINVAL;
	} else if (list_empty(&u->acceptq)) {
		err = s->shut & SOCK_SHUT_RD ? -EINVAL : -EAGAIN;
	} else {
		got = list_first(&u->acceptq, struct unix_sock, accept_node);
		list_del(&got->accept_node);
		u->nqueued--;
	}
	mutex_unlock(&u->lock, &lc_socket);
	if (err)
		return err;
	unix_wake_blocked(u);
	*out = &got->s;
	return 0;
}

int unix_pair(struct socket *sa, struct socket *sb, const struct sock_caller *c)
{
	struct unix_sock *a = unix_of(sa), *b = unix_of(sb);

	set_peer_cred(a, c->pid, c->cred);
	set_peer_cred(b, c->pid, c->cred);
	a->peer = unix_get(b);
	b->peer = unix_get(a);
	a->state = b->state = UNIX_CONNECTED;
	sa->connected = sb->connected = true;
	return 0;
}

/* ---- the end ---- */

int unix_shutdown(struct socket *s, int how)
{
	struct unix_sock *u = unix_of(s);
	int mine = how + 1; /* SHUT_RD 0, SHUT_WR 1, SHUT_RDWR 2 */
	int theirs =
		(mine & SOCK_SHUT_RD ? SOCK_SHUT_WR : 0) | (mine & SOCK_SHUT_WR ? SOCK_SHUT_RD : 0);

	mutex_lock(&u->lock, &lc_socket);
	atomic_fetch_or(&s->shut, mine);
	struct unix_sock *peer = u->peer && s->type != SOCK_DGRAM ? unix_get(u->peer) : NULL;
	mutex_unlock(&u->lock, &lc_socket);
	if (peer) {
		/* Under its lock: a reader that found the queue empty sees it only afterwards. */
		mutex_lock(&peer->lock, &lc_socket);
		atomic_fetch_or(&peer->s.shut, theirs);
		mutex_unlock(&peer->lock, &lc_socket);
		waitq_notify(&peer->s.wq, EV_ALL);
		unix_put(peer);
	}
	waitq_notify(&s->wq, EV_ALL);
	if (mine & SOCK_SHUT_RD)
		unix_wake_blocked(u);
	return 0;
}

/* The other end learns that this one is gone; `reset` when it took unread data along. */
static void tell_peer(struct unix_sock *u, struct unix_sock *peer, bool reset)
{
	if (u->s.type == SOCK_DGRAM)
		return;
	mutex_lock(&peer->lock, &lc_socket);
	atomic_store(&peer->s.shut, SOCK_SHUT_BOTH);
	if (reset)
		atomic_store(&peer->s.error, ECONNRESET);
	mutex_unlock(&peer->lock, &lc_socket);
	waitq_notify(&peer->s.wq, EV_ALL);
}

static void close_one(struct unix_sock *u, bool embryo)
{
	struct list_head msgs = LIST_HEAD_INIT(msgs);
	struct list_head unaccepted = LIST_HEAD_INIT(unaccepted);

	unix_forget_name(u);
	unix_unblock(u);
	mutex_lock(&u->lock, &lc_socket);
	u->closed = true;
	u->state = UNIX_CLOSED;
	while (!list_empty(&u->rcvq)) {
		struct list_head *n = u->rcvq.next;
		list_del(n);
		list_add_tail(n, &msgs);
	}
	while (!list_empty(&u->acceptq)) {
		struct list_head *n = u->acceptq.next;
		list_del(n);
		list_add_tail(n, &unaccepted);
	}
	struct unix_sock *peer = u->peer;
	u->peer = NULL;
	mutex_unlock(&u->lock, &lc_socket);

	unix_wake_blocked(u);
	if (peer) {
		tell_peer(u, peer, embryo || !list_empty(&msgs));
		unix_put(peer);
	}
	unix_msgs_discard(&msgs);
	while (!list_empty(&unaccepted)) {
		struct unix_sock *n = list_first(&unaccepted, struct unix_sock, accept_node);
		list_del(&n->accept_node);
		close_one(n, true);
	}
	unix_put(u);
}

void unix_close(struct socket *s)
{
	close_one(unix_of(s), false);
}
