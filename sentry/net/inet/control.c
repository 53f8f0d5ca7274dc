/*
 * What comes with a datagram besides its bytes: control messages both ways, and the queue of errors
 * that IP_RECVERR fills.  Source: ip(7), ipv6(7), RFC 3542.
 */
#include <time.h> /* first: errqueue.h needs it */

#include <errno.h>
#include <linux/errqueue.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/net/inet/inet_sock.h"
#include "sentry/net/interface.h"

#define V4_AT 12 /* where IPv4's address lies in ::ffff:a.b.c.d */

/* ---- sent ---- */

static int get_int(const void *data, size_t len, int *out)
{
	if (len != sizeof(*out))
		return -EINVAL;
	memcpy(out, data, sizeof(*out));
	return 0;
}

/* The address to send from has to be one of ours; none is no wish. */
static int source(struct sock_msg *m, const struct inet_addr *from, unsigned ifindex)
{
	if (ifindex && ifindex != LOOPBACK_INDEX)
		return -ENODEV;
	if (inet_is_any(from))
		return 0;
	if (!inet_is_local(from))
		return -EINVAL;
	m->ip.has_src = true;
	memcpy(m->ip.src, from->ip, sizeof(from->ip));
	return 0;
}

static int control_v4(struct sock_msg *m, int type, const void *data, size_t len)
{
	struct in_pktinfo info;
	struct inet_addr from;
	int err, v;

	switch (type) {
	case IP_RETOPTS:
		return len ? -EOPNOTSUPP : 0;
	case IP_PKTINFO:
		if (len != sizeof(info))
			return -EINVAL;
		memcpy(&info, data, sizeof(info));
		inet_set_v4(&from, &info.ipi_spec_dst);
		return source(m, &from, (unsigned)info.ipi_ifindex);
	case IP_TTL:
		if ((err = get_int(data, len, &v)) || v < 1 || v > 255)
			return -EINVAL;
		m->ip.ttl = v;
		return 0;
	case IP_TOS:
		if (len == 1)
			v = *(const uint8_t *)data;
		else if ((err = get_int(data, len, &v)) || v < 0 || v > 255)
			return -EINVAL;
		m->ip.tos = v;
		return 0;
	}
	return -EINVAL;
}

static int control_v6(struct sock_msg *m, int type, const void *data, size_t len)
{
	struct in6_pktinfo info;
	struct inet_addr from;
	int err, v;

	switch (type) {
	case IPV6_PKTINFO:
		if (len < sizeof(info))
			return -EINVAL;
		memcpy(&info, data, sizeof(info));
		memcpy(from.ip, &info.ipi6_addr, sizeof(from.ip));
		return source(m, &from, info.ipi6_ifindex);
	case IPV6_HOPLIMIT:
	case IPV6_TCLASS:
		if ((err = get_int(data, len, &v)) || v < -1 || v > 255)
			return -EINVAL;
		*(type == IPV6_HOPLIMIT ? &m->ip.ttl : &m->ip.tos) = v;
		return 0;
	}
	return -EINVAL;
}

int inet_control(struct socket *s, struct sock_msg *m, int level, int type, const void *data,
		 size_t len)
{
	if (level == IPPROTO_IP && s->family == AF_INET)
		return control_v4(m, type, data, len);
	if (level == IPPROTO_IPV6 && s->family == AF_INET6)
		return control_v6(m, type, data, len);
	return 0;
}

void inet_control_fill(const struct inet_sock *i, const struct sock_ip *ip, struct inet_chunk *k)
{
	bool v4 = inet_is_v4(&k->to);
	struct timespec now;

	inet_local((struct inet_sock *)i, &k->from);
	if (ip->has_src)
		memcpy(k->from.ip, ip->src, sizeof(ip->src));
	else if (inet_is_any(&k->from))
		inet_loopback(&k->to, &k->from);
	k->ttl = (uint8_t)(ip->ttl >= 0 ? ip->ttl : inet_option(i, v4 ? OPT_TTL : OPT_HOPS));
	k->tos = (uint8_t)(ip->tos >= 0 ? ip->tos : inet_option(i, v4 ? OPT_TOS : OPT_TCLASS));
	clock_gettime(CLOCK_REALTIME, &now);
	k->when = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* ---- received ---- */

static void give_v4(const struct inet_sock *i, const struct inet_chunk *k, struct sock_msg *m)
{
	int ttl = k->ttl;

	if (inet_option(i, OPT_PKTINFO)) {
		struct in_pktinfo info = {.ipi_ifindex = LOOPBACK_INDEX};
		memcpy(&info.ipi_spec_dst, k->to.ip + V4_AT, sizeof(info.ipi_spec_dst));
		memcpy(&info.ipi_addr, k->to.ip + V4_AT, sizeof(info.ipi_addr));
		sock_msg_control(m, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info));
	}
	if (inet_option(i, OPT_RECVTTL))
		sock_msg_control(m, IPPROTO_IP, IP_TTL, &ttl, sizeof(ttl));
	if (inet_option(i, OPT_RECVTOS))
		sock_msg_control(m, IPPROTO_IP, IP_TOS, &k->tos, sizeof(k->tos));
	if (inet_option(i, OPT_RECVORIGDSTADDR)) {
		struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(k->to.port)};
		memcpy(&in.sin_addr, k->to.ip + V4_AT, sizeof(in.sin_addr));
		sock_msg_control(m, IPPROTO_IP, IP_ORIGDSTADDR, &in, sizeof(in));
	}
}

static void give_v6(const struct inet_sock *i, const struct inet_chunk *k, struct sock_msg *m)
{
	int ttl = k->ttl, tos = k->tos;

	if (inet_option(i, OPT_RECVPKTINFO)) {
		struct in6_pktinfo info = {.ipi6_ifindex = LOOPBACK_INDEX};
		memcpy(&info.ipi6_addr, k->to.ip, sizeof(info.ipi6_addr));
		sock_msg_control(m, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof(info));
	}
	if (inet_is_v4(&k->to))
		return;
	if (inet_option(i, OPT_RECVHOPLIMIT))
		sock_msg_control(m, IPPROTO_IPV6, IPV6_HOPLIMIT, &ttl, sizeof(ttl));
	if (inet_option(i, OPT_RECVTCLASS))
		sock_msg_control(m, IPPROTO_IPV6, IPV6_TCLASS, &tos, sizeof(tos));
}

void inet_control_give(const struct inet_sock *i, const struct inet_chunk *k, struct sock_msg *m)
{
	sock_msg_timestamp(&i->s, m, k->when);
	if (i->s.family == AF_INET6)
		give_v6(i, k, m);
	if (inet_is_v4(&k->to))
		give_v4(i, k, m);
}

/* ---- errors ---- */

void inet_unreachable(struct inet_sock *i, struct inet_chunk *k)
{
	bool wanted = inet_option(i, i->s.family == AF_INET ? OPT_RECVERR : OPT_RECVERR6);

	if (i->state != INET_CONNECTED && !wanted) {
		free(k);
		return;
	}
	mutex_lock(&i->lock, &lc_socket);
	i->s.error = ECONNREFUSED;
	bool fits = wanted && i->errors_bytes + k->cap + sizeof(*k) <= i->s.rcvbuf;
	if (fits) {
		list_add_tail(&k->node, &i->errors);
		i->errors_bytes += k->cap + sizeof(*k);
	}
	mutex_unlock(&i->lock, &lc_socket);
	if (!fits)
		free(k);
	waitq_notify(&i->s.wq, POLLERR | POLLIN | POLLOUT);
}

/* As the ICMP message would have said it, from the host that the datagram went to. */
static void give_error(const struct inet_sock *i, const struct inet_chunk *k, struct sock_msg *m)
{
	bool v4 = inet_is_v4(&k->to);
	struct {
		struct sock_extended_err ee;
		struct sockaddr_in6 offender; /* or sockaddr_in */
	} e = {.ee = {.ee_errno = ECONNREFUSED,
		      .ee_origin = v4 ? SO_EE_ORIGIN_ICMP : SO_EE_ORIGIN_ICMP6,
		      .ee_type = v4 ? ICMP_DEST_UNREACH : ICMP6_DST_UNREACH,
		      .ee_code = v4 ? ICMP_PORT_UNREACH : ICMP6_DST_UNREACH_NOPORT}};
	struct inet_addr from = k->to;
	struct sock_addr shown;

	from.port = 0;
	inet_addr_show(i, &from, &shown);
	memcpy(&e.offender, shown.bytes, shown.len);
	if (i->s.family == AF_INET)
		sock_msg_control(m, IPPROTO_IP, IP_RECVERR, &e, sizeof(e.ee) + shown.len);
	else
		sock_msg_control(m, IPPROTO_IPV6, IPV6_RECVERR, &e, sizeof(e.ee) + shown.len);
}

ssize_t inet_recv_error(struct inet_sock *i, struct sock_msg *m)
{
	struct inet_chunk *k = NULL;

	mutex_lock(&i->lock, &lc_socket);
	if (!list_empty(&i->errors)) {
		k = list_first(&i->errors, struct inet_chunk, node);
		list_del(&k->node);
		i->errors_bytes -= k->cap + sizeof(*k);
		i->s.error = list_empty(&i->errors) ? 0 : ECONNREFUSED;
	}
	mutex_unlock(&i->lock, &lc_socket);
	m->nonblock = true; /* it never waits for errors */
	if (!k)
		return -EAGAIN;
	size_t n = MIN((size_t)k->len, m->io->left);
	ssize_t got = n ? uio_put(m->io, k->data, n) : 0;
	if (got == (ssize_t)n) {
		inet_addr_show(i, &k->to, &m->name);
		give_error(i, k, m);
		m->full_len = k->len;
		m->out_flags |= MSG_ERRQUEUE | (n < k->len ? MSG_TRUNC : 0);
	} else {
		got = -EFAULT;
	}
	free(k);
	return got;
}
