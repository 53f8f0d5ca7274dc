/* NETLINK_ROUTE: links, addresses, routes and rules of a machine whose one interface is lo. */
#include <errno.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <string.h>

#include "sentry/auth/net_ns.h"
#include "sentry/net/interface.h"
#include "sentry/net/netlink/nl_msg.h"

#define FLAGS_UP (IFF_UP | IFF_RUNNING | IFF_LOWER_UP)
#define OPER_UNKNOWN 0 /* RFC 2863's states: lo's while it is up */
#define OPER_DOWN 2
#define FOREVER UINT32_MAX
#define QUEUE_LEN 1000

static const uint8_t v4_address[4] = {127, 0, 0, 1}, v4_net[4] = {127, 0, 0, 0};
static const uint8_t v6_address[16] = {[15] = 1};

/* A request's fixed part, as far as it came; the rest is zero. */
static void body_of(const struct nlmsghdr *msg, void *out, size_t n)
{
	memset(out, 0, n);
	memcpy(out, NLMSG_DATA(msg), MIN(n, msg->nlmsg_len - sizeof(*msg)));
}

/* The attribute of that type behind a fixed part of n bytes; *len its length.  NULL: none. */
static const uint8_t *find_attr(const struct nlmsghdr *msg, size_t n, uint16_t type, size_t *len)
{
	size_t at = sizeof(*msg) + NLMSG_ALIGN(n);

	while (at + sizeof(struct nlattr) <= msg->nlmsg_len) {
		struct nlattr a;
		memcpy(&a, (const uint8_t *)msg + at, sizeof(a));
		if (a.nla_len < sizeof(a) || a.nla_len > msg->nlmsg_len - at)
			return NULL;
		if ((a.nla_type & NLA_TYPE_MASK) == type) {
			*len = a.nla_len - sizeof(a);
			return (const uint8_t *)msg + at + sizeof(a);
		}
		at += NLA_ALIGN(a.nla_len);
	}
	return NULL;
}

/* ---- answers ---- */

static bool is_up(struct ns *net)
{
	return !net || net_ns_of(net)->lo_up;
}

static bool has_v4(struct ns *net)
{
	return !net || net_ns_of(net)->lo_seen;
}

static void put_stats(struct nl_buf *b, struct ns *net)
{
	struct rtnl_link_stats64 stats = {0};

	if (net) {
		const struct net_ns *n = net_ns_of(net);
		stats.rx_packets = stats.tx_packets = n->counters[NET_LO_PACKETS];
		stats.rx_bytes = stats.tx_bytes = n->counters[NET_LO_BYTES];
	}
	nl_attr(b, IFLA_STATS64, &stats, sizeof(stats));
}

static void put_link(struct nl_buf *b, const struct nlmsghdr *req, uint32_t port, uint16_t flags,
		     struct ns *net)
{
	static const uint8_t no_address[6];
	bool up = is_up(net);
	const struct ifinfomsg body = {.ifi_type = ARPHRD_LOOPBACK,
				       .ifi_index = LOOPBACK_INDEX,
				       .ifi_flags = IFF_LOOPBACK | (up ? FLAGS_UP : 0)};

	nl_begin(b, req, port, RTM_NEWLINK, flags, &body, sizeof(body));
	nl_attr_str(b, IFLA_IFNAME, LOOPBACK_NAME);
	nl_attr_u32(b, IFLA_TXQLEN, QUEUE_LEN);
	nl_attr_u8(b, IFLA_OPERSTATE, up ? OPER_UNKNOWN : OPER_DOWN);
	nl_attr_u8(b, IFLA_LINKMODE, 0);
	nl_attr_u32(b, IFLA_MTU, LOOPBACK_MTU);
	nl_attr_u32(b, IFLA_GROUP, 0);
	nl_attr_u32(b, IFLA_PROMISCUITY, 0);
	nl_attr_u32(b, IFLA_NUM_TX_QUEUES, 1);
	nl_attr_u32(b, IFLA_NUM_RX_QUEUES, 1);
	nl_attr_u8(b, IFLA_CARRIER, up);
	nl_attr_str(b, IFLA_QDISC, has_v4(net) ? "noqueue" : "noop");
	nl_attr(b, IFLA_ADDRESS, no_address, sizeof(no_address));
	nl_attr(b, IFLA_BROADCAST, no_address, sizeof(no_address));
	put_stats(b, net);
	nl_end(b);
}

static void put_address(struct nl_buf *b, const struct nlmsghdr *req, uint32_t port, bool v4)
{
	const struct ifa_cacheinfo life = {.ifa_prefered = FOREVER, .ifa_valid = FOREVER};
	const struct ifaddrmsg body = {.ifa_family = v4 ? AF_INET : AF_INET6,
				       .ifa_prefixlen = v4 ? 8 : 128,
				       .ifa_flags = IFA_F_PERMANENT,
				       .ifa_scope = RT_SCOPE_HOST,
				       .ifa_index = LOOPBACK_INDEX};

	nl_begin(b, req, port, RTM_NEWADDR, NLM_F_MULTI, &body, sizeof(body));
	if (v4) {
		nl_attr(b, IFA_ADDRESS, v4_address, sizeof(v4_address));
		nl_attr(b, IFA_LOCAL, v4_address, sizeof(v4_address));
		nl_attr_str(b, IFA_LABEL, LOOPBACK_NAME);
	} else {
		nl_attr(b, IFA_ADDRESS, v6_address, sizeof(v6_address));
	}
	nl_attr_u32(b, IFA_FLAGS, IFA_F_PERMANENT);
	nl_attr(b, IFA_CACHEINFO, &life, sizeof(life));
	nl_end(b);
}

static void put_route(struct nl_buf *b, const struct nlmsghdr *req, uint32_t port, uint16_t flags,
		      bool v4)
{
	const struct rtmsg body = {.rtm_family = v4 ? AF_INET : AF_INET6,
				   .rtm_dst_len = v4 ? 8 : 128,
				   .rtm_table = RT_TABLE_LOCAL,
				   .rtm_protocol = RTPROT_KERNEL,
				   .rtm_scope = v4 ? RT_SCOPE_HOST : RT_SCOPE_UNIVERSE,
				   .rtm_type = RTN_LOCAL};

	nl_begin(b, req, port, RTM_NEWROUTE, flags, &body, sizeof(body));
	nl_attr_u32(b, RTA_TABLE, RT_TABLE_LOCAL);
	if (v4) {
		nl_attr(b, RTA_DST, v4_net, sizeof(v4_net));
		nl_attr(b, RTA_PREFSRC, v4_address, sizeof(v4_address));
	} else {
		nl_attr(b, RTA_DST, v6_address, sizeof(v6_address));
	}
	nl_attr_u32(b, RTA_OIF, LOOPBACK_INDEX);
	nl_end(b);
}

static void put_done(struct nl_buf *b, const struct nlmsghdr *req, uint32_t port)
{
	const int32_t status = 0;

	nl_begin(b, req, port, NLMSG_DONE, NLM_F_MULTI, &status, sizeof(status));
	nl_end(b);
}

/* ---- requests ---- */

/* Is it lo that the request names, by number or name?  -ENODEV; -EINVAL: it names nothing. */
static int names_lo(const struct nlmsghdr *msg)
{
	struct ifinfomsg body;
	size_t len;

	body_of(msg, &body, sizeof(body));
	const uint8_t *name = find_attr(msg, sizeof(body), IFLA_IFNAME, &len);
	if (body.ifi_index)
		return body.ifi_index == LOOPBACK_INDEX ? 0 : -ENODEV;
	if (!name)
		return -EINVAL;
	return len >= sizeof(LOOPBACK_NAME) - 1 && len <= IFNAMSIZ &&
			       !strncmp((const char *)name, LOOPBACK_NAME, len)
		       ? 0
		       : -ENODEV;
}

static int get_link(const struct nlmsghdr *msg, uint32_t port, struct ns *net, struct nl_buf *b)
{
	int err = names_lo(msg);

	if (!err)
		put_link(b, msg, port, 0, net);
	return err;
}

/* The route to one address: its own, or none. */
static int get_route(const struct nlmsghdr *msg, uint32_t port, struct nl_buf *b)
{
	struct rtmsg body;
	size_t len;

	body_of(msg, &body, sizeof(body));
	const uint8_t *to = find_attr(msg, sizeof(body), RTA_DST, &len);
	bool v4 = body.rtm_family == AF_INET;
	if (!to || len != (v4 ? sizeof(v4_address) : sizeof(v6_address)))
		return -EINVAL;
	if (v4 ? to[0] != v4_address[0] : memcmp(to, v6_address, len) != 0)
		return -ENETUNREACH;
	put_route(b, msg, port, 0, v4);
	return 0;
}

static int dump(const struct nlmsghdr *msg, uint32_t port, struct ns *net, struct nl_buf *b)
{
	struct rtgenmsg body;

	body_of(msg, &body, sizeof(body));
	bool v4 = (body.rtgen_family == AF_UNSPEC || body.rtgen_family == AF_INET) && has_v4(net);
	bool v6 = (body.rtgen_family == AF_UNSPEC || body.rtgen_family == AF_INET6) && is_up(net);
	switch (msg->nlmsg_type) {
	case RTM_GETLINK:
		put_link(b, msg, port, NLM_F_MULTI, net);
		break;
	case RTM_GETADDR:
		if (v4)
			put_address(b, msg, port, true);
		if (v6)
			put_address(b, msg, port, false);
		break;
	case RTM_GETROUTE:
		if (v4)
			put_route(b, msg, port, NLM_F_MULTI, true);
		if (v6)
			put_route(b, msg, port, NLM_F_MULTI, false);
		break;
	case RTM_GETNEIGH:
	case RTM_GETRULE:
	case RTM_GETNEIGHTBL:
	case RTM_GETQDISC:
		break;
	default:
		return -EOPNOTSUPP;
	}
	put_done(b, msg, port);
	return 0;
}

/* IFF_UP is all that can be changed of lo; without a mask all flags are meant. */
static int set_link(const struct nlmsghdr *msg, struct ns *net)
{
	struct ifinfomsg body;

	if (names_lo(msg))
		return -EOPNOTSUPP;
	body_of(msg, &body, sizeof(body));
	unsigned mask = body.ifi_change ? body.ifi_change : body.ifi_flags ? ~0u : 0;
	if (net && mask & IFF_UP)
		net_ns_set_lo(net_ns_of(net), body.ifi_flags & IFF_UP);
	return 0;
}

/* lo's addresses come by themselves when it is up: who asks for them has them. */
static int change(const struct nlmsghdr *msg, struct ns *net)
{
	struct ifaddrmsg addr;

	switch (msg->nlmsg_type) {
	case RTM_NEWLINK:
	case RTM_SETLINK:
		return set_link(msg, net);
	case RTM_NEWADDR:
		body_of(msg, &addr, sizeof(addr));
		return addr.ifa_index == LOOPBACK_INDEX ? 0 : -ENODEV;
	}
	return -EOPNOTSUPP;
}

int nl_route(const struct nlmsghdr *msg, uint32_t port, struct ns *net, bool admin,
	     struct nl_buf *b)
{
	/* The types come in fours: new, delete, get, set. */
	bool get = (msg->nlmsg_type & 3) == (RTM_GETLINK & 3);

	if (msg->nlmsg_type < RTM_BASE || msg->nlmsg_type > RTM_MAX)
		return -EOPNOTSUPP;
	if (!get)
		return admin ? change(msg, net) : -EPERM;
	if ((msg->nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP)
		return dump(msg, port, net, b);
	if (msg->nlmsg_type == RTM_GETLINK)
		return get_link(msg, port, net, b);
	return msg->nlmsg_type == RTM_GETROUTE ? get_route(msg, port, b) : -EOPNOTSUPP;
}
