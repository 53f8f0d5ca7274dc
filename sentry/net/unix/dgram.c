/* SOCK_DGRAM and SOCK_SEQPACKET: whole messages. */
#include <errno.h>
#include <string.h>

#include "sentry/auth/net_ns.h"
#include "sentry/net/unix/unix_sock.h"

/* May u's message be queued at `to`?  lock of `to` held. */
static int may_queue(struct unix_sock *u, struct unix_sock *to, const struct sock_msg *m)
	REQUIRES(lc_socket)
{
	bool seqpacket = u->s.type == SOCK_SEQPACKET;

	if (to->closed)
		return seqpacket ? -EPIPE : -ECONNREFUSED;
	if (to->s.shut & SOCK_SHUT_RD)
		return -EPIPE;
	if (seqpacket)
		return 0;
	if (to->peer && to->peer != u)
		return -EPERM;
	if (to->peer != u && to->nmsgs > (unsigned)net_limits(to->s.net)[NET_DGRAM_QLEN]) {
		/* One destination of many that is full makes nobody else wait. */
		if (!m->nonblock || !m->name.len)
			unix_block_on(u, to);
		return -EAGAIN;
	}
	return 0;
}

/* The connected peer, with a reference. */
static int get_peer(struct unix_sock *u, struct unix_sock **out)
{
	mutex_lock(&u->lock, &lc_socket);
	struct unix_sock *peer = u->peer ? unix_get(u->peer) : NULL;
	mutex_unlock(&u->lock, &lc_socket);
	if (!peer)
		return -ENOTCONN;
	*out = peer;
	return 0;
}

/* A datagram socket whose peer is gone is not connected any more. */
static void drop_peer(struct unix_sock *u, struct unix_sock *dead)
{
	mutex_lock(&u->lock, &lc_socket);
	bool mine = u->peer == dead && u->s.type == SOCK_DGRAM;
	if (mine) {
		u->peer = NULL;
		u->state = UNIX_CLOSED;
	}
	mutex_unlock(&u->lock, &lc_socket);
	if (mine)
		unix_put(dead);
}

static ssize_t send_to(struct unix_sock *u, struct unix_sock *to, struct sock_msg *m,
		       const struct sock_ucred *creds)
{
	size_t n = m->io->left;

	mutex_lock(&to->lock, &lc_socket);
	int err = may_queue(u, to, m);
	mutex_unlock(&to->lock, &lc_socket);
	if (err)
		return err;
	if (u->wmem >= u->s.sndbuf)
		return -EAGAIN;

	struct unix_msg *msg = unix_msg_new(u, n);
	if (!msg)
		return -ENOMEM;
	ssize_t got = n ? uio_get(m->io, msg->data, n) : 0;
	if (got != (ssize_t)n) {
		unix_msg_free(msg);
		return -EFAULT;
	}
	msg->len = n;
	msg->creds = *creds;

	mutex_lock(&to->lock, &lc_socket);
	err = may_queue(u, to, m);
	if (!err && (err = unix_msg_attach(msg, m)) == 0) {
		list_add_tail(&msg->node, &to->rcvq);
		to->nmsgs++;
		to->rcvq_bytes += n;
	}
	mutex_unlock(&to->lock, &lc_socket);
	if (err) {
		uio_revert(m->io, n);
		unix_msg_free(msg);
		return err;
	}
	waitq_notify(&to->s.wq, POLLIN | POLLRDNORM);
	return n;
}

ssize_t unix_dgram_sendmsg(struct socket *s, struct sock_msg *m, const struct sock_caller *c)
{
	struct unix_sock *u = unix_of(s);
	struct unix_sock *to = NULL;
	struct sock_ucred creds;
	int err;

	if (m->flags & MSG_OOB)
		return -EOPNOTSUPP;
	if (s->shut & SOCK_SHUT_WR)
		return -EPIPE;
	if (s->type == SOCK_SEQPACKET) {
		if (u->state != UNIX_CONNECTED)
			return -ENOTCONN;
		m->name.len = 0;
	}
	if (m->io->left > (uint64_t)s->sndbuf - 32)
		return -EMSGSIZE;
	if (m->name.len)
		err = unix_find(&m->name, s, c, &to);
	else
		err = get_peer(u, &to);
	if (err)
		return err;
	if (s->passcred && !u->addr && (err = unix_autobind(u))) {
		unix_put(to);
		return err;
	}
	unix_unblock(u);
	unix_sender_creds(m, c, &creds);
	ssize_t n = send_to(u, to, m, &creds);
	if (n == -ECONNREFUSED && !m->name.len)
		drop_peer(u, to);
	unix_put(to);
	return n;
}

/* Copies the claimed message; called and returns with the lock held. */
static ssize_t recv_claimed(struct unix_sock *u, struct unix_msg *msg, struct sock_msg *m)
	REQUIRES(lc_socket)
{
	uint32_t n = MIN((uint64_t)msg->len, m->io->left);

	mutex_unlock(&u->lock, &lc_socket);
	ssize_t got = n ? uio_put(m->io, msg->data, n) : 0;
	mutex_lock(&u->lock, &lc_socket);
	if (got != (ssize_t)n)
		return -EFAULT;
	m->has_creds = true;
	m->creds = msg->creds;
	unix_addr_copy(msg->name, &m->name);
	m->full_len = msg->len;
	if (n < msg->len)
		m->out_flags |= MSG_TRUNC;
	if (msg->nfiles)
		unix_msg_detach(msg, m, m->flags & MSG_PEEK);
	return got;
}

ssize_t unix_dgram_recvmsg(struct socket *s, struct sock_msg *m)
{
	struct unix_sock *u = unix_of(s);
	struct list_head done = LIST_HEAD_INIT(done);
	struct unix_msg *msg;

	if (m->flags & MSG_OOB)
		return -EOPNOTSUPP;
	m->name.len = 0;
	if (s->type == SOCK_SEQPACKET && u->state != UNIX_CONNECTED)
		return -ENOTCONN;
	mutex_lock(&u->lock, &lc_socket);
	int err = unix_claim(u, &msg);
	if (err) {
		mutex_unlock(&u->lock, &lc_socket);
		return err < 0 ? err : 0;
	}
	ssize_t n = recv_claimed(u, msg, m);
	if (n >= 0 && !(m->flags & MSG_PEEK)) {
		list_del(&msg->node);
		list_add_tail(&msg->node, &done);
		u->nmsgs--;
		u->rcvq_bytes -= msg->len;
	}
	unix_unclaim(u);
	if (!list_empty(&done)) {
		unix_msgs_discard(&done);
		unix_wake_blocked(u);
	}
	return n;
}
