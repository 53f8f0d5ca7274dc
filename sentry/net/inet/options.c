/*
 * The options of levels IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP and IPPROTO_UDP.  On lo most of them
 * change nothing that a program could see, so they are checked, remembered and shown.
 */
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <string.h>

#include "sentry/net/inet/inet_sock.h"
#include "sentry/net/interface.h"

#define MSS_DEFAULT 536
#define UDPLITE_SEND_CSCOV 10 /* linux/udp.h, net/udplite.h */
#define UDPLITE_RECV_CSCOV 11

enum option_flag {
	OPT_BYTE = 1,	 /* may be given as one byte */
	OPT_TCP = 2,	 /* of streams only */
	OPT_BOOL = 4,	 /* any value but 0 is 1 */
	OPT_UNBOUND = 8, /* not once the socket has a port */
	OPT_READ_ONLY = 16,
	OPT_COVERAGE = 32, /* bytes that a checksum covers, RFC 3828: all, or 8 at least */
};

/* The first rows are those that enum inet_option names. */
static const struct option {
	int level, name, initial, min, max;
	unsigned flags;
} table[] = {
	{IPPROTO_IPV6, IPV6_V6ONLY, 0, INT_MIN, INT_MAX, OPT_BOOL | OPT_UNBOUND},
	{IPPROTO_TCP, TCP_NODELAY, 0, INT_MIN, INT_MAX, OPT_BOOL},
	{IPPROTO_IP, IP_RECVERR, 0, INT_MIN, INT_MAX, OPT_BOOL | OPT_BYTE},
	{IPPROTO_IPV6, IPV6_RECVERR, 0, INT_MIN, INT_MAX, OPT_BOOL},
	{IPPROTO_IP, IP_TOS, 0, 0, 255, OPT_BYTE},
	{IPPROTO_IP, IP_TTL, 64, -1, 255, OPT_BYTE},
	{IPPROTO_IP, IP_PKTINFO, 0, INT_MIN, INT_MAX, OPT_BOOL | OPT_BYTE},
	{IPPROTO_IP, IP_RECVTTL, 0, INT_MIN, INT_MAX, OPT_BOOL | OPT_BYTE},
	{IPPROTO_IP, IP_RECVTOS, 0, INT_MIN, INT_MAX, OPT_BOOL | OPT_BYTE},
	{IPPROTO_IP, IP_RECVORIGDSTADDR, 0, INT_MIN, INT_MAX, OPT_BOOL | OPT_BYTE},
	{IPPROTO_IPV6, IPV6_UNICAST_HOPS, 64, -1, 255, 0},
	{IPPROTO_IPV6, IPV6_TCLASS, 0, -1, 255, 0},
	{IPPROTO_IPV6, IPV6_RECVPKTINFO, 0, INT_MIN, INT_MAX, OPT_BOOL},
	{IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 0, INT_MIN, INT_MAX, OPT_BOOL},
	{IPPROTO_IPV6, IPV6_RECVTCLASS, 0, INT_MIN, INT_MAX, OPT_BOOL},
	{IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_WANT, 0, 5, OPT_BYTE},
	{IPPROTO_IP, IP_MTU, LOOPBACK_MTU, 0, 0, OPT_READ_ONLY},
	{IPPROTO_IP, IP_FREEBIND, 0, INT_MIN, INT_MAX, OPT_BOOL | OPT_BYTE},
	{IPPROTO_IP, IP_TRANSPARENT, 0, INT_MIN, INT_MAX, OPT_READ_ONLY},
	{IPPROTO_IP, IP_MULTICAST_TTL, 1, -1, 255, OPT_BYTE},
	{IPPROTO_IP, IP_MULTICAST_LOOP, 1, INT_MIN, INT_MAX, OPT_BOOL | OPT_BYTE},
	{IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 0, INT_MIN, INT_MAX, OPT_BOOL | OPT_BYTE},
	{IPPROTO_IPV6, IPV6_MULTICAST_HOPS, 1, -1, 255, 0},
	{IPPROTO_IPV6, IPV6_MULTICAST_LOOP, 1, 0, 1, 0},
	{IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_WANT, 0, 5, 0},
	{IPPROTO_IPV6, IPV6_MTU, LOOPBACK_MTU, 0, 0, OPT_READ_ONLY},
	{IPPROTO_TCP, TCP_MAXSEG, MSS_DEFAULT, 88, 32767, OPT_TCP},
	{IPPROTO_TCP, TCP_CORK, 0, INT_MIN, INT_MAX, OPT_BOOL},
	{IPPROTO_TCP, TCP_KEEPIDLE, 7200, 1, 32767, 0},
	{IPPROTO_TCP, TCP_KEEPINTVL, 75, 1, 32767, 0},
	{IPPROTO_TCP, TCP_KEEPCNT, 9, 1, 127, 0},
	{IPPROTO_TCP, TCP_SYNCNT, 6, 1, 127, 0},
	{IPPROTO_TCP, TCP_LINGER2, 60, INT_MIN, INT_MAX, 0},
	{IPPROTO_TCP, TCP_DEFER_ACCEPT, 0, INT_MIN, INT_MAX, 0},
	{IPPROTO_TCP, TCP_WINDOW_CLAMP, 0, 0, INT_MAX, 0},
	{IPPROTO_TCP, TCP_QUICKACK, 1, INT_MIN, INT_MAX, OPT_BOOL},
	{IPPROTO_TCP, TCP_USER_TIMEOUT, 0, 0, INT_MAX, 0},
	{IPPROTO_TCP, TCP_NOTSENT_LOWAT, -1, INT_MIN, INT_MAX, 0},
	{IPPROTO_UDP, UDP_CORK, 0, INT_MIN, INT_MAX, OPT_READ_ONLY},
	{IPPROTO_UDPLITE, UDPLITE_SEND_CSCOV, 0, INT_MIN, INT_MAX, OPT_COVERAGE},
	{IPPROTO_UDPLITE, UDPLITE_RECV_CSCOV, 0, INT_MIN, INT_MAX, OPT_COVERAGE},
};
_Static_assert(ARRAY_SIZE(table) <= INET_OPTIONS, "struct inet_sock has room for all");

static bool applies(const struct inet_sock *i, int level)
{
	switch (level) {
	case IPPROTO_IP:
		return true; /* of IPv6 sockets too: they may carry IPv4 */
	case IPPROTO_IPV6:
		return i->s.family == AF_INET6;
	case IPPROTO_TCP:
		return inet_is_tcp(i);
	case IPPROTO_UDP:
		return !inet_is_tcp(i);
	case IPPROTO_UDPLITE:
		return inet_class(&i->s) == INET_UDPLITE;
	}
	return false;
}

static const struct option *find(const struct inet_sock *i, int level, int name)
{
	if (applies(i, level))
		for (size_t k = 0; k < ARRAY_SIZE(table); k++)
			if (table[k].level == level && table[k].name == name)
				return &table[k];
	return NULL;
}

int inet_option(const struct inet_sock *i, enum inet_option o)
{
	return i->options[o];
}

void inet_options_init(struct inet_sock *i)
{
	for (size_t k = 0; k < ARRAY_SIZE(table); k++)
		i->options[k] = table[k].initial;
}

static int set_congestion(const void *v, uint32_t len)
{
	static const char *const known[] = {"cubic", "reno"};
	char name[16] = {0};

	if (len < 1)
		return -EINVAL;
	memcpy(name, v, MIN(len, sizeof(name) - 1));
	for (size_t k = 0; k < ARRAY_SIZE(known); k++)
		if (!strcmp(name, known[k]))
			return 0;
	return -ENOENT;
}

int inet_setsockopt(struct socket *s, int level, int name, const void *v, uint32_t len)
{
	struct inet_sock *i = inet_of(s);
	const struct option *o = find(i, level, name);
	int value = 0;

	if (level == IPPROTO_TCP && name == TCP_CONGESTION && inet_is_tcp(i))
		return set_congestion(v, len);
	if (!o || o->flags & OPT_READ_ONLY)
		return -ENOPROTOOPT;
	if (len >= sizeof(int))
		memcpy(&value, v, sizeof(value));
	else if (o->flags & OPT_BYTE && len >= 1)
		value = *(const uint8_t *)v;
	else
		return -EINVAL;
	if (o->flags & OPT_BOOL)
		value = value != 0;
	else if (value < o->min || value > o->max)
		return -EINVAL;
	if (o->flags & OPT_UNBOUND && i->bound)
		return -EINVAL;
	if (value == -1 && o->min == -1)
		value = o->initial;
	if (o->flags & OPT_COVERAGE && value)
		value = MIN(MAX(value, 8), UINT16_MAX);
	i->options[o - table] = value;
	return 0;
}

unsigned inet_tcp_state(const struct inet_sock *i)
{
	static const uint8_t states[] = {
		[INET_CLOSED] = TCP_CLOSE,  [INET_CONNECTING] = TCP_SYN_SENT,
		[INET_LISTEN] = TCP_LISTEN, [INET_CONNECTED] = TCP_ESTABLISHED,
		[INET_DONE] = TCP_CLOSE,
	};
	int state = i->state;
	bool sent_fin = i->s.shut & SOCK_SHUT_WR;

	if (state == INET_CONNECTED && i->fin)
		return sent_fin ? TCP_TIME_WAIT : TCP_CLOSE_WAIT;
	return state == INET_CONNECTED && sent_fin ? TCP_FIN_WAIT2 : states[state];
}

static int give_info(struct inet_sock *i, void *v, uint32_t *len)
{
	struct tcp_info info = {
		.tcpi_state = (uint8_t)inet_tcp_state(i),
		.tcpi_rto = 200000,
		.tcpi_snd_mss = 32768,
		.tcpi_rcv_mss = MSS_DEFAULT,
		.tcpi_pmtu = LOOPBACK_MTU,
		.tcpi_snd_cwnd = 10,
		.tcpi_advmss = 65483,
	};

	return socket_option_give(v, len, &info, sizeof(info));
}

int inet_getsockopt(struct socket *s, int level, int name, void *v, uint32_t *len)
{
	struct inet_sock *i = inet_of(s);
	const struct option *o = find(i, level, name);

	if (level == IPPROTO_TCP && inet_is_tcp(i) && name == TCP_INFO)
		return give_info(i, v, len);
	if (level == IPPROTO_TCP && inet_is_tcp(i) && name == TCP_CONGESTION)
		return socket_option_give(v, len, "cubic\0\0\0\0\0\0\0\0\0\0", 16);
	if (!o)
		return applies(i, level) ? -ENOPROTOOPT : -EOPNOTSUPP;
	int value = i->options[o - table];
	if (o->level == IPPROTO_IP && *len > 0 && *len < sizeof(int) && value >= 0 &&
	    value <= 255) {
		uint8_t byte = (uint8_t)value;
		return socket_option_give(v, len, &byte, 1);
	}
	return socket_option_give(v, len, &value, sizeof(value));
}
