#include "sentry/net/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "sentry/net/inet/inet.h"
#include "sentry/net/interface.h"
#include "sentry/net/netlink/netlink.h"
#include "sentry/net/unix/unix.h"
#include "sentry/time/ktimer.h"

#define SIN6_LEN_RFC2133 24 /* without a scope */
#define BUF_DEFAULT 212992u /* net.core.wmem_default */

static const struct net_family *const families[] = {&unix_family, &inet_family, &inet6_family,
						    &netlink_family};
static const struct file_ops socket_file_ops;

int socket_create(int family, int type, int protocol, struct socket **out)
{
	if (family < 0 || family >= AF_MAX)
		return -EAFNOSUPPORT;
	if (type < 0 || type > SOCK_PACKET)
		return -EINVAL;
	for (size_t i = 0; i < ARRAY_SIZE(families); i++)
		if (families[i]->family == family)
			return families[i]->create(type, protocol, out);
	return -EAFNOSUPPORT;
}

void socket_init(struct socket *s, const struct socket_ops *ops, int family, int type, int protocol)
{
	s->ops = ops;
	s->family = family;
	s->type = type;
	s->protocol = protocol;
	waitq_init(&s->wq);
	s->sndbuf = s->rcvbuf = BUF_DEFAULT;
	s->sndtimeo = s->rcvtimeo = TIME_NEVER;
	s->linger = -1;
	s->rcvlowat = 1;
	struct sock_ucred who;
	socket_current_ucred(&who);
	s->uid = who.uid;
	socket_set_net(s, socket_current_net());
	s->landlock = landlock_domain_get(socket_current_landlock());
}

int socket_port_allowed(const struct socket *s, const struct sock_addr *a, const struct cred *c,
			uint32_t access)
{
	uint16_t port;

	if (s->type != SOCK_STREAM || (s->family != AF_INET && s->family != AF_INET6) ||
	    !(landlock_handled(c->landlock, LANDLOCK_PORT) & access))
		return 0;
	if (a->len < sizeof(a->family))
		return -EINVAL;
	if (a->family == AF_UNSPEC && access == LL_CONNECT_TCP)
		return 0; /* which ends a connection */
	if (a->family == AF_INET6 ? a->len < SIN6_LEN_RFC2133 : a->len < sizeof(struct sockaddr_in))
		return -EINVAL;
	if (a->family != AF_UNSPEC && a->family != s->family)
		return -EINVAL;
	/* Where it is in the addresses of both families. */
	memcpy(&port, a->bytes + offsetof(struct sockaddr_in, sin_port), sizeof(port));
	return landlock_port_allowed(c->landlock, ntohs(port), access) ? 0 : -EACCES;
}

void socket_set_net(struct socket *s, struct ns *net)
{
	struct ns *old = s->net;

	s->net = net ? ns_get(net) : NULL;
	ns_put(old);
}

void socket_fini(struct socket *s)
{
	cred_put(s->peer_cred);
	s->peer_cred = NULL;
	ns_put(s->net);
	s->net = NULL;
	landlock_domain_put(s->landlock);
	s->landlock = NULL;
}

void socket_discard(struct socket *s)
{
	if (s)
		s->ops->closed(s);
}

struct socket *socket_of_file(const struct file *f)
{
	return f->ops == &socket_file_ops ? f->priv : NULL;
}

void sock_msg_fini(struct sock_msg *m)
{
	while (m->nfiles)
		file_put(m->files[--m->nfiles]);
}

/* struct sock_msg has room for a lot: too large to clear for each read and write. */
void sock_msg_init(struct sock_msg *m, struct uio *io, int flags)
{
	m->io = io;
	m->flags = flags;
	m->nonblock = false;
	m->name.len = 0;
	m->has_creds = false;
	m->nfiles = 0;
	m->ip.has_src = false;
	m->ip.ttl = m->ip.tos = -1;
	m->control_len = 0;
	m->out_flags = 0;
	m->full_len = 0;
}

void sock_msg_control(struct sock_msg *m, int level, int type, const void *data, unsigned len)
{
	struct sock_control_head h = {level, type, len};

	if (sizeof(h) + len > sizeof(m->control) - m->control_len)
		return;
	memcpy(m->control + m->control_len, &h, sizeof(h));
	memcpy(m->control + m->control_len + sizeof(h), data, len);
	m->control_len += (unsigned)sizeof(h) + len;
}

void sock_msg_timestamp(const struct socket *s, struct sock_msg *m, int64_t when)
{
	struct timespec ns = {when / NSEC_PER_SEC, when % NSEC_PER_SEC};
	struct timeval us = {ns.tv_sec, ns.tv_nsec / 1000};

	if (s->timestamp_ns)
		sock_msg_control(m, SOL_SOCKET, SO_TIMESTAMPNS, &ns, sizeof(ns));
	else if (s->timestamp)
		sock_msg_control(m, SOL_SOCKET, SO_TIMESTAMP, &us, sizeof(us));
}

/* ---- as a file ---- */

static ssize_t sock_read(struct file *f, struct uio *io, int64_t *off)
{
	struct socket *s = f->priv;
	struct sock_msg m;

	(void)off;
	sock_msg_init(&m, io, 0);
	m.nonblock = f->flags & O_NONBLOCK;
	ssize_t n = s->ops->recvmsg(s, &m);
	sock_msg_fini(&m);
	return n;
}

static ssize_t sock_write(struct file *f, struct uio *io, int64_t *off)
{
	struct socket *s = f->priv;
	struct sock_msg m;

	(void)off;
	sock_msg_init(&m, io, 0);
	m.nonblock = f->flags & O_NONBLOCK;
	return s->ops->sendmsg(s, &m, NULL);
}

static uint32_t sock_poll(struct file *f)
{
	struct socket *s = f->priv;
	uint32_t ev = s->ops->poll(s);

	if (s->error)
		ev |= POLLERR;
	return ev;
}

static struct waitq *sock_waitq(struct file *f)
{
	return &((struct socket *)f->priv)->wq;
}

static long sock_ioctl(struct file *f, struct task *t, unsigned cmd, uint64_t arg)
{
	struct socket *s = f->priv;

	switch (cmd) {
	case FIONREAD:
	case SIOCOUTQ: {
		long n = s->ops->queue_len ? s->ops->queue_len(s, cmd == SIOCOUTQ) : -ENOTTY;
		if (n < 0)
			return n;
		int v = (int)n;
		return copy_out_val(task_umem(t), UADDR(arg), &v);
	}
	case SIOCATMARK: {
		int v = s->ops->at_mark ? s->ops->at_mark(s) : -ENOTTY;
		return v < 0 ? v : copy_out_val(task_umem(t), UADDR(arg), &v);
	}
	default:
		return interface_ioctl(s->net, t, cmd, arg);
	}
}

static int64_t sock_io_timeout(struct file *f, bool write)
{
	struct socket *s = f->priv;

	return write ? s->sndtimeo : s->rcvtimeo;
}

static void sock_release(struct file *f)
{
	struct socket *s = f->priv;

	s->ops->closed(s);
}

static const struct file_ops socket_file_ops = {
	.read = sock_read,
	.write = sock_write,
	.stream = true,
	.poll = sock_poll,
	.waitq = sock_waitq,
	.ioctl = sock_ioctl,
	.io_timeout = sock_io_timeout,
	.release = sock_release,
};

int socket_file_new(struct socket *s, int flags, struct file **out)
{
	struct inode *in = anon_inode_new(S_IFSOCK | 0777, NULL, NULL);
	if (in)
		s->ino = in->ino;
	int err = in ? file_new_anon(in, "socket:[%lu]", &socket_file_ops, s,
				     O_RDWR | (flags & SOCK_NONBLOCK), out)
		     : -ENOMEM;
	if (err)
		socket_discard(s);
	return err;
}
