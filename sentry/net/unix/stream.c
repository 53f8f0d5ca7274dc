/* SOCK_STREAM: bytes, with passed files and credentials at places among them. */
#include <errno.h>
#include <string.h>

#include "sentry/net/unix/unix_sock.h"

#define CHUNK_MAX 65536u

void unix_sender_creds(const struct sock_msg *m, const struct sock_caller *c,
		       struct sock_ucred *out)
{
	if (m->has_creds)
		*out = m->creds;
	else if (c)
		*out = (struct sock_ucred){c->pid, c->cred->uid, c->cred->gid};
	else
		socket_current_ucred(out);
}

/* ---- the claim on the front of a queue; lock held ---- */

int unix_claim(struct unix_sock *u, struct unix_msg **first)
{
	if (u->rbusy) {
		u->rmissed = true;
		return -EAGAIN;
	}
	if (list_empty(&u->rcvq)) {
		int err = atomic_exchange(&u->s.error, 0);
		if (err)
			return -err;
		return u->s.shut & SOCK_SHUT_RD ? 1 : -EAGAIN;
	}
	u->rbusy = true;
	*first = list_first(&u->rcvq, struct unix_msg, node);
	return 0;
}

void unix_unclaim(struct unix_sock *u)
{
	u->rbusy = false;
	bool missed = u->rmissed;
	u->rmissed = false;
	mutex_unlock(&u->lock, &lc_socket);
	if (missed)
		waitq_notify(&u->s.wq, POLLIN | POLLRDNORM);
}

/* ---- sending ---- */

static bool same_creds(const struct sock_ucred *a, const struct sock_ucred *b)
{
	return a->pid == b->pid && a->uid == b->uid && a->gid == b->gid;
}

/* Appends to the last message when it has room and nothing tells the two apart. */
static bool merge(struct unix_sock *to, const struct unix_msg *msg) REQUIRES(lc_socket)
{
	if (list_empty(&to->rcvq) || msg->nfiles)
		return false;
	struct unix_msg *last = list_last(&to->rcvq, struct unix_msg, node);
	if (last->nfiles || last->sender != msg->sender || last->cap - last->len < msg->len ||
	    !same_creds(&last->creds, &msg->creds))
		return false;
	memcpy(last->data + last->len, msg->data, msg->len);
	last->len += msg->len;
	return true;
}

static int stream_queue(struct unix_sock *to, struct unix_msg *msg)
{
	mutex_lock(&to->lock, &lc_socket);
	if (to->closed || to->s.shut & SOCK_SHUT_RD) {
		mutex_unlock(&to->lock, &lc_socket);
		unix_msg_free(msg);
		return -EPIPE;
	}
	to->rcvq_bytes += msg->len;
	bool merged = merge(to, msg);
	if (!merged) {
		list_add_tail(&msg->node, &to->rcvq);
		to->nmsgs++;
	}
	mutex_unlock(&to->lock, &lc_socket);
	waitq_notify(&to->s.wq, POLLIN | POLLRDNORM);
	if (merged)
		unix_msg_free(msg);
	return 0;
}

/* One message's worth of the caller's buffer: bytes queued, or -errno. */
static ssize_t send_chunk(struct unix_sock *u, struct unix_sock *peer, struct sock_msg *m,
			  const struct sock_ucred *creds)
{
	uint32_t sndbuf = u->s.sndbuf;

	if (u->s.shut & SOCK_SHUT_WR || peer->closed || peer->s.shut & SOCK_SHUT_RD)
		return -EPIPE;
	if (u->wmem >= sndbuf)
		return -EAGAIN;
	uint64_t most = MIN(CHUNK_MAX, sndbuf / 2 - 64);
	uint32_t n = MIN(m->io->left, most);
	struct unix_msg *msg = unix_msg_new(u, n);
	if (!msg)
		return -ENOMEM;
	ssize_t got = uio_get(m->io, msg->data, n);
	int err = got <= 0 ? (int)got : unix_msg_attach(msg, m);
	if (err || got <= 0) {
		unix_msg_free(msg);
		return err ? err : -EFAULT;
	}
	msg->len = got;
	msg->creds = *creds;
	err = stream_queue(peer, msg);
	return err ? err : got;
}

ssize_t unix_stream_sendmsg(struct socket *s, struct sock_msg *m, const struct sock_caller *c)
{
	struct unix_sock *u = unix_of(s);
	struct sock_ucred creds;
	ssize_t total = 0;

	if (m->flags & MSG_OOB)
		return -EOPNOTSUPP;
	if (m->name.len)
		return u->state == UNIX_CONNECTED ? -EISCONN : -EOPNOTSUPP;
	if (s->shut & SOCK_SHUT_WR)
		return -EPIPE;
	if (u->state != UNIX_CONNECTED)
		return -ENOTCONN;
	unix_sender_creds(m, c, &creds);
	while (m->io->left) {
		ssize_t n = send_chunk(u, u->peer, m, &creds);
		if (n < 0)
			return total ? total : n;
		total += n;
	}
	return total;
}

/* ---- receiving ---- */

/* n bytes of the first message were taken; lock held.  Returns the message if that was all. */
static struct unix_msg *commit(struct unix_sock *u, struct unix_msg *msg, uint32_t n)
	REQUIRES(lc_socket)
{
	msg->off += n;
	u->rcvq_bytes -= n;
	if (msg->off < msg->len)
		return NULL;
	list_del(&msg->node);
	u->nmsgs--;
	return msg;
}

/* Does a read that took `prev` go on with `next`?  Not across files, nor between senders when
 * the reader asked who they are. */
static bool goes_on(const struct unix_sock *u, const struct sock_msg *m,
		    const struct unix_msg *next)
{
	if (m->nfiles)
		return false;
	return !u->s.passcred || same_creds(&m->creds, &next->creds);
}

static ssize_t recv_claimed(struct unix_sock *u, struct unix_msg *msg, struct sock_msg *m,
			    struct list_head *done) REQUIRES(lc_socket)
{
	bool peek = m->flags & MSG_PEEK;
	ssize_t total = 0;

	m->has_creds = true;
	m->creds = msg->creds;
	unix_addr_copy(msg->name, &m->name);
	for (;;) {
		uint32_t off = msg->off;
		uint32_t n = MIN((uint64_t)(msg->len - off), m->io->left);
		mutex_unlock(&u->lock, &lc_socket);
		ssize_t got = uio_put(m->io, msg->data + off, n);
		mutex_lock(&u->lock, &lc_socket);
		if (got <= 0 && n)
			return total ? total : got;
		total += got;
		if (msg->nfiles)
			unix_msg_detach(msg, m, peek);
		struct list_head *next = msg->node.next;
		bool whole = off + (uint32_t)got == msg->len;
		if (!peek) {
			struct unix_msg *taken = commit(u, msg, got);
			if (taken)
				list_add_tail(&taken->node, done);
		}
		if (!whole || !m->io->left || next == &u->rcvq)
			return total;
		msg = list_entry(next, struct unix_msg, node);
		if (!goes_on(u, m, msg))
			return total;
	}
}

ssize_t unix_stream_recvmsg(struct socket *s, struct sock_msg *m)
{
	struct unix_sock *u = unix_of(s);
	struct list_head done = LIST_HEAD_INIT(done);
	struct unix_msg *msg;

	if (m->flags & MSG_OOB)
		return -EOPNOTSUPP;
	m->name.len = 0;
	if (u->state != UNIX_CONNECTED)
		return -EINVAL;
	if (m->io->left == 0)
		return 0;
	mutex_lock(&u->lock, &lc_socket);
	int err = unix_claim(u, &msg);
	if (err) {
		mutex_unlock(&u->lock, &lc_socket);
		return err < 0 ? err : 0;
	}
	ssize_t n = recv_claimed(u, msg, m, &done);
	unix_unclaim(u);
	unix_msgs_discard(&done);
	return n;
}
