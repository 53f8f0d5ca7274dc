#include <errno.h>
#include <linux/net.h>
#include <stdlib.h>

#include "sentry/auth/net_ns.h"
#include "sentry/net/net_info.h"
#include "sentry/net/unix/unix_sock.h"

static struct mutex blocked_lock; /* lc_socket2 */
static struct mutex all_lock;	  /* lc_leaf */
static struct list_head all = LIST_HEAD_INIT(all);

struct unix_sock *unix_get(struct unix_sock *u)
{
	ref_get(&u->ref);
	return u;
}

void unix_put(struct unix_sock *u)
{
	if (!u || !ref_put(&u->ref))
		return;
	mutex_lock(&all_lock, &lc_leaf);
	list_del(&u->all_node);
	mutex_unlock(&all_lock, &lc_leaf);
	unix_addr_put(u->addr);
	cred_put(u->listen_cred);
	socket_fini(&u->s);
	free(u);
}

bool unix_writable(const struct unix_sock *u)
{
	return u->state != UNIX_LISTEN && (uint64_t)u->wmem * 4 <= u->s.sndbuf;
}

/* ---- senders that wait for room ---- */

void unix_block_on(struct unix_sock *u, struct unix_sock *target)
{
	mutex_lock(&blocked_lock, &lc_socket2);
	if (u->blocked_on)
		list_del(&u->blocked_node);
	list_add_tail(&u->blocked_node, &target->blocked);
	u->blocked_on = target;
	target->has_blocked = true;
	mutex_unlock(&blocked_lock, &lc_socket2);
}

void unix_unblock(struct unix_sock *u)
{
	if (!u->blocked_on)
		return;
	mutex_lock(&blocked_lock, &lc_socket2);
	if (u->blocked_on) {
		list_del(&u->blocked_node);
		u->blocked_on = NULL;
	}
	mutex_unlock(&blocked_lock, &lc_socket2);
}

void unix_wake_blocked(struct unix_sock *target)
{
	if (!target->has_blocked)
		return;
	mutex_lock(&blocked_lock, &lc_socket2);
	while (!list_empty(&target->blocked)) {
		struct unix_sock *u = list_first(&target->blocked, struct unix_sock, blocked_node);
		list_del(&u->blocked_node);
		u->blocked_on = NULL;
		waitq_notify(&u->s.wq, POLLOUT | POLLWRNORM);
	}
	target->has_blocked = false;
	mutex_unlock(&blocked_lock, &lc_socket2);
}

/* ---- readiness ---- */

/* Would a datagram to the connected peer find its queue full?  Then wait for room there. */
static bool peer_is_full(struct unix_sock *u)
{
	mutex_lock(&u->lock, &lc_socket);
	struct unix_sock *peer = u->peer ? unix_get(u->peer) : NULL;
	mutex_unlock(&u->lock, &lc_socket);
	if (!peer)
		return false;
	mutex_lock(&peer->lock, &lc_socket);
	bool full = peer->peer != u &&
		    peer->nmsgs > (unsigned)net_limits(peer->s.net)[NET_DGRAM_QLEN] &&
		    !peer->closed;
	if (full)
		unix_block_on(u, peer);
	mutex_unlock(&peer->lock, &lc_socket);
	unix_put(peer);
	return full;
}

static uint32_t unix_poll(struct socket *s)
{
	struct unix_sock *u = unix_of(s);
	int shut = s->shut;
	uint32_t ev = 0;

	mutex_lock(&u->lock, &lc_socket);
	if (u->rbusy)
		u->rmissed = true;
	else if (!list_empty(&u->rcvq) || !list_empty(&u->acceptq))
		ev |= POLLIN | POLLRDNORM;
	int state = u->state;
	mutex_unlock(&u->lock, &lc_socket);

	if (shut == SOCK_SHUT_BOTH)
		ev |= POLLHUP;
	if (shut & SOCK_SHUT_RD)
		ev |= POLLRDHUP | POLLIN | POLLRDNORM;
	if (s->type != SOCK_DGRAM && (state == UNIX_CLOSED || state == UNIX_BUSY) && !u->blocked_on)
		ev |= POLLHUP;
	if (!u->blocked_on && unix_writable(u) && !(s->type == SOCK_DGRAM && peer_is_full(u)))
		ev |= POLLOUT | POLLWRNORM | POLLWRBAND;
	return ev;
}

static long unix_queue_len(struct socket *s, bool out)
{
	struct unix_sock *u = unix_of(s);
	uint64_t n;

	if (u->state == UNIX_LISTEN)
		return -EINVAL;
	if (out)
		return u->wmem;
	mutex_lock(&u->lock, &lc_socket);
	n = u->rcvq_bytes;
	if (s->type == SOCK_DGRAM)
		n = list_empty(&u->rcvq) ? 0 : list_first(&u->rcvq, struct unix_msg, node)->len;
	mutex_unlock(&u->lock, &lc_socket);
	return n;
}

/* ---- making ---- */

static const struct socket_ops unix_stream_ops = {
	.bind = unix_bind,
	.connect = unix_connect,
	.listen = unix_listen,
	.accept = unix_accept,
	.pair = unix_pair,
	.getname = unix_getname,
	.sendmsg = unix_stream_sendmsg,
	.recvmsg = unix_stream_recvmsg,
	.shutdown = unix_shutdown,
	.poll = unix_poll,
	.queue_len = unix_queue_len,
	.closed = unix_close,
};

static const struct socket_ops unix_dgram_ops = {
	.bind = unix_bind,
	.connect = unix_connect,
	.pair = unix_pair,
	.getname = unix_getname,
	.sendmsg = unix_dgram_sendmsg,
	.recvmsg = unix_dgram_recvmsg,
	.shutdown = unix_shutdown,
	.poll = unix_poll,
	.queue_len = unix_queue_len,
	.closed = unix_close,
};

static const struct socket_ops unix_seqpacket_ops = {
	.bind = unix_bind,
	.connect = unix_connect,
	.listen = unix_listen,
	.accept = unix_accept,
	.pair = unix_pair,
	.getname = unix_getname,
	.sendmsg = unix_dgram_sendmsg,
	.recvmsg = unix_dgram_recvmsg,
	.shutdown = unix_shutdown,
	.poll = unix_poll,
	.queue_len = unix_queue_len,
	.closed = unix_close,
};

struct unix_sock *unix_sock_new(int type)
{
	struct unix_sock *u = calloc(1, sizeof(*u));
	if (!u)
		return NULL;
	socket_init(&u->s,
		    type == SOCK_STREAM	     ? &unix_stream_ops
		    : type == SOCK_SEQPACKET ? &unix_seqpacket_ops
					     : &unix_dgram_ops,
		    AF_UNIX, type, 0);
	ref_init(&u->ref, 1);
	mutex_init(&u->lock);
	list_init(&u->rcvq);
	list_init(&u->acceptq);
	list_init(&u->accept_node);
	list_init(&u->name_node);
	list_init(&u->blocked);
	list_init(&u->blocked_node);
	mutex_lock(&all_lock, &lc_leaf);
	list_add_tail(&u->all_node, &all);
	mutex_unlock(&all_lock, &lc_leaf);
	return u;
}

static int unix_create(int type, int protocol, struct socket **out)
{
	if (protocol && protocol != PF_UNIX)
		return -EPROTONOSUPPORT;
	if (type == SOCK_RAW)
		type = SOCK_DGRAM; /* as Linux does */
	if (type != SOCK_STREAM && type != SOCK_DGRAM && type != SOCK_SEQPACKET)
		return -ESOCKTNOSUPPORT;
	struct unix_sock *u = unix_sock_new(type);
	if (!u)
		return -ENOMEM;
	*out = &u->s;
	return 0;
}

const struct net_family unix_family = {.family = AF_UNIX, .create = unix_create};

void net_info_unix(const struct ns *net, net_info_fn *fn, void *arg)
{
	struct unix_sock *u;

	mutex_lock(&all_lock, &lc_leaf);
	list_for_each (u, &all, all_node) {
		const struct unix_addr *name = u->addr;
		struct net_sock_info i = {
			.family = AF_UNIX,
			.type = u->s.type,
			.state = u->state == UNIX_CONNECTED ? SS_CONNECTED : SS_UNCONNECTED,
			.uid = u->s.uid,
			.ino = u->s.ino,
			.refs = (unsigned)ref_read(&u->ref) + 1,
			.listening = u->state == UNIX_LISTEN,
			.name = name ? &name->a : NULL,
		};
		if (u->s.net == net)
			fn(&i, arg);
	}
	mutex_unlock(&all_lock, &lc_leaf);
}
