/*
 * Netlink sockets.  The kernel answers within send(2): the answer lies in the socket's queue when
 * the call returns.  Nothing is sent between processes, nor to groups, as nothing ever changes.
 */
#include <errno.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/net/netlink/netlink.h"
#include "sentry/net/netlink/nl_msg.h"

#define REQUEST_MAX 65536u

struct nl_answer {
	struct list_head node;
	size_t len;
	uint8_t *data; /* owned */
};

struct nl_sock {
	struct socket s;
	struct mutex lock; /* lc_socket */
	uint32_t port;	   /* 0: none yet */
	uint32_t groups;
	struct list_head answers;
	uint64_t queued;       /* bytes of answers */
	struct list_head node; /* ports_lock */
};

static struct mutex ports_lock; /* lc_net */
static struct list_head ports = LIST_HEAD_INIT(ports);

static const struct socket_ops nl_ops;

static struct nl_sock *nl_of(struct socket *s)
{
	return container_of(s, struct nl_sock, s);
}

/* ---- ports ---- */

static bool port_used(const struct nl_sock *n, uint32_t port)
{
	const struct nl_sock *other;

	list_for_each (other, &ports, node)
		if (other->port == port && other->s.net == n->s.net)
			return true;
	return false;
}

/* port 0: the process' number, or another that is free. */
static int take_port(struct nl_sock *n, uint32_t port, int pid)
{
	int err = 0;

	mutex_lock(&ports_lock, &lc_net);
	if (n->port) {
		err = port && port != n->port ? -EINVAL : 0;
	} else if (port) {
		err = port_used(n, port) ? -EADDRINUSE : 0;
	} else {
		port = (uint32_t)pid;
		for (uint32_t other = UINT32_MAX - 4096; port_used(n, port) || !port; other--)
			port = other;
	}
	if (!err && !n->port) {
		n->port = port;
		list_add_tail(&n->node, &ports);
	}
	mutex_unlock(&ports_lock, &lc_net);
	return err;
}

static int parse(const struct sock_addr *a, struct sockaddr_nl *out)
{
	if (a->len < sizeof(*out))
		return -EINVAL;
	memcpy(out, a->bytes, sizeof(*out));
	return out->nl_family == AF_NETLINK ? 0 : -EINVAL;
}

static int nl_bind(struct socket *s, const struct sock_addr *a, const struct sock_caller *c)
{
	struct nl_sock *n = nl_of(s);
	struct sockaddr_nl at;
	int err = parse(a, &at);

	if (!err)
		err = take_port(n, at.nl_pid, c->pid);
	if (!err)
		n->groups = at.nl_groups;
	return err;
}

/* Only the kernel is anybody's peer. */
static int nl_connect(struct socket *s, const struct sock_addr *a, const struct sock_caller *c,
		      bool nonblock)
{
	struct sockaddr_nl to;
	int err = parse(a, &to);

	(void)nonblock;
	if (err)
		return err;
	if (to.nl_pid || to.nl_groups)
		return -EPERM;
	return take_port(nl_of(s), 0, c->pid);
}

static int nl_getname(struct socket *s, bool peer, struct sock_addr *a)
{
	const struct nl_sock *n = nl_of(s);
	struct sockaddr_nl at = {.nl_family = AF_NETLINK};

	if (!peer) {
		at.nl_pid = n->port;
		at.nl_groups = n->groups;
	}
	memset(a, 0, sizeof(*a));
	memcpy(a->bytes, &at, sizeof(at));
	a->len = sizeof(at);
	return 0;
}

/* ---- requests ---- */

static int queue_answer(struct nl_sock *n, struct nl_buf *b)
{
	struct nl_answer *a = b->failed ? NULL : malloc(sizeof(*a));

	if (!a) {
		free(b->data);
		return -ENOBUFS;
	}
	*a = (struct nl_answer){.len = b->len, .data = b->data};
	mutex_lock(&n->lock, &lc_socket);
	bool fits = n->queued + a->len <= n->s.rcvbuf;
	if (fits) {
		list_add_tail(&a->node, &n->answers);
		n->queued += a->len;
	}
	mutex_unlock(&n->lock, &lc_socket);
	if (fits) {
		waitq_notify(&n->s.wq, POLLIN | POLLRDNORM);
		return 0;
	}
	free(a->data);
	free(a);
	/* Told by the next receive. */
	n->s.error = ENOBUFS;
	return 0;
}

bool file_is_netlink(const struct file *f)
{
	const struct socket *s = socket_of_file(f);

	return s && s->ops == &nl_ops;
}

int netlink_deliver(struct file *f, const void *data, size_t n)
{
	struct nl_buf b = {.data = malloc(n), .len = n};

	if (!file_is_netlink(f) || !b.data) {
		free(b.data);
		return b.data ? -EINVAL : -ENOBUFS;
	}
	memcpy(b.data, data, n);
	return queue_answer(nl_of(socket_of_file(f)), &b);
}

static int serve_one(struct nl_sock *n, const struct nlmsghdr *msg, bool admin)
{
	struct nl_buf b = {0};
	int err = nl_route(msg, n->port, n->s.net, admin, &b);

	if (err || msg->nlmsg_flags & NLM_F_ACK)
		nl_error(&b, msg, n->port, err);
	return b.len || b.failed ? queue_answer(n, &b) : 0;
}

/* A datagram may hold several requests. */
static int serve(struct nl_sock *n, const uint8_t *data, size_t len, bool admin)
{
	int err = 0;

	while (!err && len >= sizeof(struct nlmsghdr)) {
		const struct nlmsghdr *msg = (const struct nlmsghdr *)data;
		if (msg->nlmsg_len < sizeof(*msg) || msg->nlmsg_len > len)
			return 0;
		if (msg->nlmsg_flags & NLM_F_REQUEST && msg->nlmsg_type >= NLMSG_MIN_TYPE)
			err = serve_one(n, msg, admin);
		size_t step = MIN(NLMSG_ALIGN((size_t)msg->nlmsg_len), len);
		data += step;
		len -= step;
	}
	return err;
}

static ssize_t nl_sendmsg(struct socket *s, struct sock_msg *m, const struct sock_caller *c)
{
	struct nl_sock *n = nl_of(s);
	struct sockaddr_nl to = {0};
	size_t len = m->io->left;
	int err = 0;

	if (m->flags & MSG_OOB)
		return -EOPNOTSUPP;
	if (m->name.len && (err = parse(&m->name, &to)))
		return err;
	if (to.nl_groups)
		return -EPERM;
	if (to.nl_pid)
		return -ECONNREFUSED;
	if (len > REQUEST_MAX)
		return -EMSGSIZE;
	struct sock_ucred who = {0};
	socket_current_ucred(&who);
	if (!n->port && (err = take_port(n, 0, c ? c->pid : who.pid)))
		return err;
	uint8_t *data = malloc(len + 1);
	if (!data)
		return -ENOBUFS;
	ssize_t got = len ? uio_get(m->io, data, len) : 0;
	bool admin = c && socket_net_capable(s, c->cred, CAP_NET_ADMIN);
	if (got != (ssize_t)len)
		err = -EFAULT;
	else
		err = serve(n, data, len, admin);
	free(data);
	return err ? err : got;
}

static ssize_t nl_recvmsg(struct socket *s, struct sock_msg *m)
{
	struct nl_sock *n = nl_of(s);
	struct nl_answer *a = NULL;
	int err = -atomic_exchange(&s->error, 0);

	m->name.len = 0;
	if (err)
		return err;
	if (m->flags & MSG_OOB)
		return -EOPNOTSUPP;
	mutex_lock(&n->lock, &lc_socket);
	if (!list_empty(&n->answers)) {
		a = list_first(&n->answers, struct nl_answer, node);
		list_del(&a->node);
	}
	mutex_unlock(&n->lock, &lc_socket);
	if (!a)
		return -EAGAIN;

	size_t k = MIN(a->len, m->io->left);
	ssize_t got = k ? uio_put(m->io, a->data, k) : 0;
	bool back = m->flags & MSG_PEEK || got != (ssize_t)k;
	struct sockaddr_nl kernel_name = {.nl_family = AF_NETLINK};
	memcpy(m->name.bytes, &kernel_name, sizeof(kernel_name));
	m->name.len = sizeof(kernel_name);
	m->full_len = a->len;
	if (k < a->len)
		m->out_flags |= MSG_TRUNC;
	mutex_lock(&n->lock, &lc_socket);
	if (back)
		list_add(&a->node, &n->answers);
	else
		n->queued -= a->len;
	mutex_unlock(&n->lock, &lc_socket);
	if (!back) {
		free(a->data);
		free(a);
	}
	return got == (ssize_t)k ? got : -EFAULT;
}

static uint32_t nl_poll(struct socket *s)
{
	struct nl_sock *n = nl_of(s);

	mutex_lock(&n->lock, &lc_socket);
	bool data = !list_empty(&n->answers);
	mutex_unlock(&n->lock, &lc_socket);
	return POLLOUT | POLLWRNORM | (data ? POLLIN | POLLRDNORM : 0);
}

/* Groups are joined in name only: nothing that they would tell of happens. */
static int nl_setsockopt(struct socket *s, int level, int name, const void *v, uint32_t len)
{
	(void)s, (void)v;
	if (level != SOL_NETLINK)
		return -ENOPROTOOPT;
	if (len < sizeof(int))
		return -EINVAL;
	switch (name) {
	case NETLINK_ADD_MEMBERSHIP:
	case NETLINK_DROP_MEMBERSHIP:
	case NETLINK_PKTINFO:
	case NETLINK_EXT_ACK:
	case NETLINK_CAP_ACK:
	case NETLINK_GET_STRICT_CHK:
	case NETLINK_NO_ENOBUFS:
	case NETLINK_BROADCAST_ERROR:
		return 0;
	}
	return -ENOPROTOOPT;
}

static void nl_closed(struct socket *s)
{
	struct nl_sock *n = nl_of(s);

	mutex_lock(&ports_lock, &lc_net);
	if (n->port)
		list_del(&n->node);
	mutex_unlock(&ports_lock, &lc_net);
	while (!list_empty(&n->answers)) {
		struct nl_answer *a = list_first(&n->answers, struct nl_answer, node);
		list_del(&a->node);
		free(a->data);
		free(a);
	}
	socket_fini(s);
	free(n);
}

static const struct socket_ops nl_ops = {
	.bind = nl_bind,
	.connect = nl_connect,
	.getname = nl_getname,
	.sendmsg = nl_sendmsg,
	.recvmsg = nl_recvmsg,
	.poll = nl_poll,
	.setsockopt = nl_setsockopt,
	.closed = nl_closed,
};

static int nl_create(int type, int protocol, struct socket **out)
{
	if (type != SOCK_RAW && type != SOCK_DGRAM)
		return -ESOCKTNOSUPPORT;
	if (protocol != NETLINK_ROUTE)
		return -EPROTONOSUPPORT;
	struct nl_sock *n = calloc(1, sizeof(*n));
	if (!n)
		return -ENOMEM;
	socket_init(&n->s, &nl_ops, AF_NETLINK, type, protocol);
	mutex_init(&n->lock);
	list_init(&n->answers);
	list_init(&n->node);
	*out = &n->s;
	return 0;
}

const struct net_family netlink_family = {.family = AF_NETLINK, .create = nl_create};
