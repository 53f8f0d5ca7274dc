/* TCP: the bytes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/net/inet/inet_sock.h"

#define CHUNK_MAX 65536u
/* IP's and TCP's, with time stamps. */
#define V4_HEADERS 52u
#define V6_HEADERS 72u
/* Room behind short writes, for the next ones. */
#define CHUNK_MIN 512u

/* The connection's other end, with a reference; NULL: there is none. */
static struct inet_sock *get_peer(struct inet_sock *i)
{
	mutex_lock(&i->lock, &lc_socket);
	struct inet_sock *peer = i->peer ? inet_get(i->peer) : NULL;
	mutex_unlock(&i->lock, &lc_socket);
	return peer;
}

/* How much may lie in the queue of `to`. */
static uint64_t window(const struct inet_sock *from, const struct inet_sock *to)
{
	return (uint64_t)to->s.rcvbuf + from->s.sndbuf;
}

/* ---- sending ---- */

/* An answer to bytes that nobody will read: the connection is reset. */
static void was_reset(struct inet_sock *i)
{
	mutex_lock(&i->lock, &lc_socket);
	i->s.error = i->fin ? EPIPE : ECONNRESET;
	i->state = INET_DONE;
	i->s.connected = false;
	i->s.shut = SOCK_SHUT_BOTH;
	mutex_unlock(&i->lock, &lc_socket);
	inet_port_forget(i);
	waitq_notify(&i->s.wq, POLLIN | POLLOUT | POLLERR | POLLHUP | POLLRDHUP);
}

/* Bytes that `to` will take now; 0: none, and the sender is told when that changes. */
static uint32_t room(struct inet_sock *i, struct inet_sock *to)
{
	mutex_lock(&to->lock, &lc_socket);
	uint64_t most = window(i, to);
	uint64_t left = to->rcvq_bytes < most ? most - to->rcvq_bytes : 0;
	if (!left && !to->closed)
		to->room_wanted = true;
	bool deaf = to->closed;
	mutex_unlock(&to->lock, &lc_socket);
	return deaf ? CHUNK_MAX : (uint32_t)MIN(left, (uint64_t)CHUNK_MAX);
}

/* Queues the chunk, or joins it to the last one; false: `to` is closed. */
static bool deliver(struct inet_sock *to, struct inet_chunk *k)
{
	bool joined = false;

	mutex_lock(&to->lock, &lc_socket);
	bool open = !to->closed && to->state != INET_DONE;
	if (open) {
		if (!list_empty(&to->rcvq)) {
			struct inet_chunk *last = list_last(&to->rcvq, struct inet_chunk, node);
			joined = last->cap - last->len >= k->len;
			if (joined) {
				memcpy(last->data + last->len, k->data, k->len);
				last->len += k->len;
			}
		}
		to->rcvq_bytes += k->len;
		if (!joined)
			list_add_tail(&k->node, &to->rcvq);
	}
	mutex_unlock(&to->lock, &lc_socket);
	if (open)
		waitq_notify(&to->s.wq, POLLIN | POLLRDNORM);
	if (joined || !open)
		free(k);
	return open;
}

void inet_tcp_count(const struct inet_sock *i, unsigned n, uint64_t bytes)
{
	uint64_t headers = inet_is_v4(&i->remote) ? V4_HEADERS : V6_HEADERS;

	net_count(i->s.net, NET_TCP_SEGMENTS, n);
	net_count(i->s.net, NET_LO_PACKETS, n);
	net_count(i->s.net, NET_LO_BYTES, n * headers + bytes);
}

static ssize_t send_chunk(struct inet_sock *i, struct inet_sock *peer, struct sock_msg *m)
{
	uint64_t want = m->io->left - (m->flags & MSG_OOB ? 1 : 0);
	uint32_t n = (uint32_t)MIN(want, room(i, peer));

	if (!n)
		return -EAGAIN;
	struct inet_chunk *k = inet_chunk_new(MAX(n, CHUNK_MIN));
	if (!k)
		return -ENOBUFS;
	ssize_t got = uio_get(m->io, k->data, n);
	if (got <= 0) {
		free(k);
		return got ? got : -EFAULT;
	}
	k->len = (uint32_t)got;
	inet_tcp_count(i, 1, (uint64_t)got);
	if (!deliver(peer, k))
		was_reset(i);
	return got;
}

static int send_state(struct inet_sock *i)
{
	int err = atomic_exchange(&i->s.error, 0);

	if (err)
		return -err;
	if (i->s.shut & SOCK_SHUT_WR)
		return -EPIPE;
	switch ((enum inet_state)i->state) {
	case INET_CONNECTED:
		return 0;
	case INET_CONNECTING:
		return -EAGAIN;
	default:
		return -EPIPE;
	}
}

/* The last byte of MSG_OOB: it overtakes the stream, or marks a place in it (SO_OOBINLINE). */
static ssize_t send_urgent(struct inet_sock *i, struct inet_sock *peer, struct sock_msg *m)
{
	struct inet_chunk *k = inet_chunk_new(CHUNK_MIN);
	uint8_t byte;

	if (!k)
		return -ENOBUFS;
	if (uio_get(m->io, &byte, 1) != 1) {
		free(k);
		return -EFAULT;
	}
	k->data[0] = byte;
	k->len = 1;
	mutex_lock(&peer->lock, &lc_socket);
	bool in_line = peer->s.oobinline;
	peer->urgent = true;
	peer->urgent_inline = in_line;
	peer->urgent_read = false;
	peer->urgent_byte = byte;
	peer->urgent_mark = peer->taken + peer->rcvq_bytes;
	mutex_unlock(&peer->lock, &lc_socket);
	if (!in_line)
		free(k);
	else if (!deliver(peer, k))
		was_reset(i);
	waitq_notify(&peer->s.wq, POLLPRI);
	return 1;
}

ssize_t inet_tcp_sendmsg(struct socket *s, struct sock_msg *m, const struct sock_caller *c)
{
	struct inet_sock *i = inet_of(s);
	ssize_t total = 0;

	(void)c;
	int err = send_state(i);
	if (err)
		return err;
	struct inet_sock *peer = get_peer(i);
	while (m->io->left && !err) {
		bool urgent = m->flags & MSG_OOB && m->io->left == 1;
		ssize_t n = !peer    ? -EPIPE
			    : urgent ? send_urgent(i, peer, m)
				     : send_chunk(i, peer, m);
		if (n < 0)
			err = (int)n;
		else
			total += n;
		if (!err && (err = send_state(i)) && total)
			i->s.error = err == -EPIPE ? 0 : -err;
	}
	inet_put(peer);
	return total ? total : err;
}

/* ---- receiving ---- */

/* There is nothing to read: why, 1 for the end of the stream. */
static int nothing(struct inet_sock *i)
{
	if (i->fin)
		return 1;
	int err = atomic_exchange(&i->s.error, 0);
	if (err)
		return -err;
	if (i->s.shut & SOCK_SHUT_RD)
		return 1;
	if (i->state == INET_CLOSED || i->state == INET_LISTEN)
		return -ENOTCONN;
	return -EAGAIN;
}

/* Takes n bytes from the first chunk; lock held. */
static void consume(struct inet_sock *i, struct inet_chunk *k, uint32_t n, struct list_head *done)
	REQUIRES(lc_socket)
{
	k->off += n;
	i->rcvq_bytes -= n;
	i->taken += n;
	if (k->off < k->len)
		return;
	list_del(&k->node);
	list_add_tail(&k->node, done);
}

/* A read stops at the mark of urgent data, and begins behind it. */
static uint64_t until_mark(struct inet_sock *i, uint64_t want) REQUIRES(lc_socket)
{
	if (!i->urgent)
		return want;
	if (i->taken == i->urgent_mark) {
		i->urgent = false;
		return want;
	}
	return MIN(want, i->urgent_mark - i->taken);
}

static ssize_t recv_urgent(struct inet_sock *i, struct sock_msg *m)
{
	uint8_t byte;

	mutex_lock(&i->lock, &lc_socket);
	bool there = i->urgent && !i->urgent_inline && !i->urgent_read && !i->s.oobinline;
	byte = i->urgent_byte;
	if (there && !(m->flags & MSG_PEEK))
		i->urgent_read = true;
	mutex_unlock(&i->lock, &lc_socket);
	if (!there)
		return -EINVAL;
	m->out_flags |= MSG_OOB;
	return m->io->left ? uio_put(m->io, &byte, 1) : 0;
}

static ssize_t recv_claimed(struct inet_sock *i, struct inet_chunk *k, struct sock_msg *m,
			    struct list_head *done) REQUIRES(lc_socket)
{
	bool peek = m->flags & MSG_PEEK, drop = m->flags & MSG_TRUNC;
	uint64_t most = until_mark(i, m->io->left);
	ssize_t total = 0;

	for (;;) {
		uint64_t want = MIN(most - (uint64_t)total, m->io->left);
		uint32_t off = k->off, n = (uint32_t)MIN((uint64_t)(k->len - off), want);
		mutex_unlock(&i->lock, &lc_socket);
		ssize_t got = drop ? (ssize_t)n : uio_put(m->io, k->data + off, n);
		if (drop)
			m->io->left -= n;
		mutex_lock(&i->lock, &lc_socket);
		if (got <= 0)
			return total ? total : got;
		total += got;
		struct list_head *next = k->node.next;
		bool whole = off + (uint32_t)got == k->len;
		if (!peek)
			consume(i, k, (uint32_t)got, done);
		if (!whole || !m->io->left || (uint64_t)total == most || next == &i->rcvq)
			return total;
		k = list_entry(next, struct inet_chunk, node);
	}
}

/* The reader made room: the other end is told when half of it is free. */
static bool room_made(struct inet_sock *i) REQUIRES(lc_socket)
{
	if (!i->room_wanted || !i->peer || i->rcvq_bytes * 2 > window(i->peer, i))
		return false;
	i->room_wanted = false;
	return true;
}

ssize_t inet_tcp_recvmsg(struct socket *s, struct sock_msg *m)
{
	struct inet_sock *i = inet_of(s), *peer = NULL;
	struct list_head done = LIST_HEAD_INIT(done);
	struct inet_chunk *k;

	m->name.len = 0;
	if (i->state == INET_LISTEN)
		return -ENOTCONN;
	if (m->flags & MSG_OOB)
		return recv_urgent(i, m);
	mutex_lock(&i->lock, &lc_socket);
	if (inet_claim(i, &k)) {
		bool empty = !i->rbusy;
		mutex_unlock(&i->lock, &lc_socket);
		int why = empty ? nothing(i) : -EAGAIN;
		return why < 0 ? why : 0;
	}
	ssize_t n = m->io->left ? recv_claimed(i, k, m, &done) : 0;
	if (room_made(i))
		peer = inet_get(i->peer);
	inet_unclaim(i);
	while (!list_empty(&done)) {
		struct list_head *first = done.next;
		list_del(first);
		free(list_entry(first, struct inet_chunk, node));
	}
	if (peer)
		waitq_notify(&peer->s.wq, POLLOUT | POLLWRNORM);
	inet_put(peer);
	return n;
}

/* ---- readiness ---- */

static bool writable(struct inet_sock *i)
{
	struct inet_sock *peer = get_peer(i);

	if (!peer)
		return true;
	mutex_lock(&peer->lock, &lc_socket);
	bool ok = peer->closed || peer->rcvq_bytes * 3 < window(i, peer) * 2;
	if (!ok)
		peer->room_wanted = true;
	mutex_unlock(&peer->lock, &lc_socket);
	inet_put(peer);
	return ok;
}

uint32_t inet_tcp_poll(struct socket *s)
{
	struct inet_sock *i = inet_of(s);
	uint32_t ev = 0;

	mutex_lock(&i->lock, &lc_socket);
	int state = i->state, shut = s->shut | (i->fin ? SOCK_SHUT_RD : 0);
	bool data = i->rcvq_bytes >= (uint64_t)s->rcvlowat, queued = !list_empty(&i->acceptq);
	if (i->rbusy) {
		i->rmissed = true;
		data = false;
	}
	if (i->urgent && !i->urgent_read)
		ev |= POLLPRI;
	mutex_unlock(&i->lock, &lc_socket);

	if (state == INET_LISTEN)
		return queued ? POLLIN | POLLRDNORM : 0;
	if (shut == SOCK_SHUT_BOTH || state == INET_CLOSED)
		ev |= POLLHUP;
	if (shut & SOCK_SHUT_RD)
		ev |= POLLIN | POLLRDNORM | POLLRDHUP;
	if (state == INET_CONNECTING)
		return ev;
	if (data)
		ev |= POLLIN | POLLRDNORM;
	if (shut & SOCK_SHUT_WR || writable(i))
		ev |= POLLOUT | POLLWRNORM;
	return ev;
}

long inet_tcp_queue_len(struct socket *s, bool out)
{
	struct inet_sock *i = inet_of(s);

	if (i->state == INET_LISTEN)
		return -EINVAL;
	if (out)
		return 0; /* what is sent is with the other end at once */
	mutex_lock(&i->lock, &lc_socket);
	long n = (long)i->rcvq_bytes;
	mutex_unlock(&i->lock, &lc_socket);
	return n;
}

int inet_tcp_at_mark(struct socket *s)
{
	struct inet_sock *i = inet_of(s);

	mutex_lock(&i->lock, &lc_socket);
	bool at = i->urgent && i->taken == i->urgent_mark;
	mutex_unlock(&i->lock, &lc_socket);
	return at;
}
