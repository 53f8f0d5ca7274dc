/* Internet addresses: sockaddr_in and sockaddr_in6 to and from struct inet_addr. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>

#include "sentry/net/inet/inet_sock.h"

#define SIN6_LEN_MIN 24 /* without sin6_scope_id: RFC 2133's */

static const uint8_t v4_prefix[12] = {[10] = 0xff, [11] = 0xff};
static const uint8_t v6_loopback[16] = {[15] = 1};
static const uint8_t v4_loopback[4] = {127, 0, 0, 1};

void inet_set_v4(struct inet_addr *a, const void *ip)
{
	memcpy(a->ip, v4_prefix, sizeof(v4_prefix));
	memcpy(a->ip + sizeof(v4_prefix), ip, 4);
}

void inet_any(const struct inet_sock *i, struct inet_addr *to)
{
	memset(to->ip, 0, sizeof(to->ip));
	if (i->s.family == AF_INET)
		inet_set_v4(to, (const uint8_t[4]){0});
}

bool inet_is_v4(const struct inet_addr *a)
{
	return !memcmp(a->ip, v4_prefix, sizeof(v4_prefix));
}

bool inet_is_any(const struct inet_addr *a)
{
	static const uint8_t zeros[16];

	return inet_is_v4(a) ? !memcmp(a->ip + 12, zeros, 4) : !memcmp(a->ip, zeros, 16);
}

bool inet_is_local(const struct inet_addr *a)
{
	return inet_is_v4(a) ? a->ip[12] == 127 : !memcmp(a->ip, v6_loopback, 16);
}

bool inet_lo_up(const struct inet_sock *i)
{
	return !i->s.net || net_ns_of(i->s.net)->lo_up;
}

int inet_route(const struct inet_sock *i, const struct inet_addr *to)
{
	if (!inet_is_local(to))
		return -ENETUNREACH;
	if (!inet_is_v4(to))
		return inet_lo_up(i) ? 0 : -EADDRNOTAVAIL;
	return !i->s.net || net_ns_of(i->s.net)->lo_seen ? 0 : -ENETUNREACH;
}

bool inet_same_ip(const struct inet_addr *a, const struct inet_addr *b)
{
	return !memcmp(a->ip, b->ip, sizeof(a->ip));
}

void inet_loopback(const struct inet_addr *like, struct inet_addr *to)
{
	if (inet_is_v4(like))
		inet_set_v4(to, v4_loopback);
	else
		memcpy(to->ip, v6_loopback, sizeof(to->ip));
}

static int parse_v4(const struct sock_addr *from, struct inet_addr *to)
{
	struct sockaddr_in in;

	if (from->len < sizeof(in))
		return -EINVAL;
	memcpy(&in, from->bytes, sizeof(in));
	inet_set_v4(to, &in.sin_addr);
	to->port = ntohs(in.sin_port);
	return 0;
}

int inet_addr_parse(const struct inet_sock *i, const struct sock_addr *from, struct inet_addr *to)
{
	struct sockaddr_in6 in6 = {0};

	if (from->len < sizeof(sa_family_t))
		return -EINVAL;
	if (i->s.family == AF_INET)
		return from->family == AF_INET			? parse_v4(from, to)
		       : from->len < sizeof(struct sockaddr_in) ? -EINVAL
								: -EAFNOSUPPORT;
	if (from->family == AF_INET)
		return inet_option(i, OPT_V6ONLY) ? -ENETUNREACH : parse_v4(from, to);
	if (from->len < SIN6_LEN_MIN)
		return -EINVAL;
	if (from->family != AF_INET6)
		return -EAFNOSUPPORT;
	memcpy(&in6, from->bytes, MIN(from->len, sizeof(in6)));
	memcpy(to->ip, &in6.sin6_addr, sizeof(to->ip));
	to->port = ntohs(in6.sin6_port);
	return inet_is_v4(to) && inet_option(i, OPT_V6ONLY) ? -ENETUNREACH : 0;
}

void inet_addr_show(const struct inet_sock *i, const struct inet_addr *from, struct sock_addr *to)
{
	memset(to, 0, sizeof(*to));
	if (i->s.family == AF_INET) {
		struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(from->port)};
		memcpy(&in.sin_addr, from->ip + sizeof(v4_prefix), 4);
		memcpy(to->bytes, &in, sizeof(in));
		to->len = sizeof(in);
	} else {
		struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(from->port)};
		memcpy(&in6.sin6_addr, from->ip, sizeof(from->ip));
		memcpy(to->bytes, &in6, sizeof(in6));
		to->len = sizeof(in6);
	}
}
