/*
 * /proc/PID/net: the sockets of the task's network namespace, what went over its interface, and
 * what there is of routes.  Source: proc(5); the formats are those that netstat(8) and ss(8) read.
 */
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/auth/net_ns.h"
#include "sentry/fs/proc/internal.h"
#include "sentry/kernel/ns/ns_set.h"
#include "sentry/net/net_info.h"

#define TCP_LINE 149 /* columns, filled up with blanks */
#define UDP_LINE 127
#define UNIX_LISTENS 0x10000 /* __SO_ACCEPTCON */

/* ---- sockets ---- */

struct listing {
	struct text *out;
	int family, protocol;
	unsigned n;
	unsigned established;
};

static void put_address(struct text *out, int family, const uint8_t ip[16], uint16_t port)
{
	uint32_t words[4];

	memcpy(words, ip, sizeof(words));
	if (family == AF_INET)
		text_printf(out, "%08X:%04X ", words[3], port);
	else
		text_printf(out, "%08X%08X%08X%08X:%04X ", words[0], words[1], words[2], words[3],
			    port);
}

/* The columns that TCP and UDP share, to the inode's number. */
static void put_common(struct text *out, const struct net_sock_info *i)
{
	put_address(out, i->family, i->local, i->local_port);
	put_address(out, i->family, i->remote, i->remote_port);
	text_printf(out, "%02X %08lX:%08lX 00:00000000 00000000 %5u        0 %lu ", i->state,
		    (unsigned long)i->tx, (unsigned long)i->rx, i->uid, (unsigned long)i->ino);
}

static void show_one(const struct net_sock_info *i, void *arg)
{
	struct listing *l = arg;
	size_t start = l->out->len;
	bool tcp = l->protocol == IPPROTO_TCP;

	if (i->family != l->family)
		return;
	text_printf(l->out, tcp ? "%4u: " : "%5u: ", l->n++);
	put_common(l->out, i);
	text_printf(l->out, "%u %016x ", i->refs, 0);
	if (!tcp)
		text_printf(l->out, "%u", i->drops);
	else
		text_printf(l->out, "100 0 0 10 %d", i->listening ? 0 : -1);
	size_t width = tcp ? TCP_LINE : UDP_LINE;
	while (l->family == AF_INET && !text_error(l->out) && l->out->len - start < width)
		text_putc(l->out, ' ');
	text_putc(l->out, '\n');
}

static void put_titles(struct text *out, bool tcp, int family)
{
	size_t start = out->len;

	text_puts(out, "  sl  local_address ");
	if (family == AF_INET6)
		text_puts(out, "                        remote_address                        ");
	else
		text_puts(out, "rem_address   ");
	text_puts(out, "st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode");
	if (!tcp)
		text_puts(out, " ref pointer drops");
	size_t width = tcp ? TCP_LINE : UDP_LINE;
	while (family == AF_INET && !text_error(out) && out->len - start < width)
		text_putc(out, ' ');
	text_putc(out, '\n');
}

static int list(struct text *out, const struct ns *net, int family, int protocol)
{
	struct listing l = {.out = out, .family = family, .protocol = protocol};

	put_titles(out, protocol == IPPROTO_TCP, family);
	net_info_inet(protocol, net, show_one, &l);
	return 0;
}

static int show_tcp(struct text *out, struct ns *net)
{
	return list(out, net, AF_INET, IPPROTO_TCP);
}

static int show_tcp6(struct text *out, struct ns *net)
{
	return list(out, net, AF_INET6, IPPROTO_TCP);
}

static int show_udp(struct text *out, struct ns *net)
{
	return list(out, net, AF_INET, IPPROTO_UDP);
}

static int show_udp6(struct text *out, struct ns *net)
{
	return list(out, net, AF_INET6, IPPROTO_UDP);
}

static int show_udplite(struct text *out, struct ns *net)
{
	return list(out, net, AF_INET, IPPROTO_UDPLITE);
}

static int show_udplite6(struct text *out, struct ns *net)
{
	return list(out, net, AF_INET6, IPPROTO_UDPLITE);
}

static void show_unix_one(const struct net_sock_info *i, void *arg)
{
	struct text *out = arg;

	text_printf(out, "%016x: %08X %08X %08X %04X %02X %5lu", 0, i->refs, 0,
		    i->listening ? UNIX_LISTENS : 0, i->type, i->state, (unsigned long)i->ino);
	if (i->name) {
		const char *name = (const char *)i->name->bytes + sizeof(sa_family_t);
		size_t n = i->name->len - sizeof(sa_family_t);
		bool abstract = n && !name[0];
		text_putc(out, ' ');
		for (size_t k = 0; k < n && (abstract || name[k]); k++)
			text_putc(out, name[k] ? name[k] : '@');
	}
	text_putc(out, '\n');
}

static int show_unix(struct text *out, struct ns *net)
{
	text_puts(out, "Num       RefCount Protocol Flags    Type St Inode Path\n");
	net_info_unix(net, show_unix_one, out);
	return 0;
}

/* ---- counts ---- */

static void count_one(const struct net_sock_info *i, void *arg)
{
	struct listing *l = arg;

	if (i->family != l->family)
		return;
	l->n++;
	if (i->protocol == IPPROTO_TCP &&
	    (i->state == TCP_ESTABLISHED || i->state == TCP_CLOSE_WAIT))
		l->established++;
}

static unsigned count(const struct ns *net, int family, int protocol, unsigned *established)
{
	struct listing l = {.family = family};

	net_info_inet(protocol, net, count_one, &l);
	if (established)
		*established += l.established;
	return l.n;
}

static void count_unix(const struct net_sock_info *i, void *n)
{
	(void)i;
	++*(unsigned *)n;
}

static int show_sockstat(struct text *out, struct ns *net)
{
	unsigned tcp = count(net, AF_INET, IPPROTO_TCP, NULL);
	unsigned udp = count(net, AF_INET, IPPROTO_UDP, NULL);
	unsigned lite = count(net, AF_INET, IPPROTO_UDPLITE, NULL), all = tcp + udp + lite;

	net_info_unix(net, count_unix, &all);
	text_printf(out, "sockets: used %u\n", all);
	text_printf(out, "TCP: inuse %u orphan 0 tw 0 alloc %u mem 0\n", tcp,
		    tcp + count(net, AF_INET6, IPPROTO_TCP, NULL));
	text_printf(out, "UDP: inuse %u mem 0\nUDPLITE: inuse %u\n", udp, lite);
	text_puts(out, "RAW: inuse 0\nFRAG: inuse 0 memory 0\n");
	return 0;
}

static int show_sockstat6(struct text *out, struct ns *net)
{
	text_printf(out, "TCP6: inuse %u\nUDP6: inuse %u\nUDPLITE6: inuse %u\n",
		    count(net, AF_INET6, IPPROTO_TCP, NULL),
		    count(net, AF_INET6, IPPROTO_UDP, NULL),
		    count(net, AF_INET6, IPPROTO_UDPLITE, NULL));
	text_puts(out, "RAW6: inuse 0\nFRAG6: inuse 0 memory 0\n");
	return 0;
}

static uint64_t counter(struct ns *net, enum net_counter c)
{
	return net_ns_of(net)->counters[c];
}

static int show_snmp(struct text *out, struct ns *net)
{
	uint64_t segs = counter(net, NET_TCP_SEGMENTS), udp = counter(net, NET_UDP_OUT);
	unsigned established = 0;

	count(net, AF_INET, IPPROTO_TCP, &established);
	count(net, AF_INET6, IPPROTO_TCP, &established);
	text_puts(out,
		  "Ip: Forwarding DefaultTTL InReceives InHdrErrors InAddrErrors ForwDatagrams "
		  "InUnknownProtos InDiscards InDelivers OutRequests OutDiscards OutNoRoutes "
		  "ReasmTimeout ReasmReqds ReasmOKs ReasmFails FragOKs FragFails FragCreates "
		  "OutTransmits\n");
	text_printf(out, "Ip: 2 64 %lu 0 0 0 0 0 %lu %lu 0 0 0 0 0 0 0 0 0 %lu\n", segs + udp,
		    segs + udp, segs + udp, segs + udp);
	text_puts(out, "Tcp: RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens PassiveOpens "
		       "AttemptFails EstabResets CurrEstab InSegs OutSegs RetransSegs InErrs "
		       "OutRsts InCsumErrors\n");
	text_printf(out, "Tcp: 1 200 120000 -1 %lu %lu %lu %lu %u %lu %lu 0 0 %lu 0\n",
		    counter(net, NET_TCP_ACTIVE_OPENS), counter(net, NET_TCP_PASSIVE_OPENS),
		    counter(net, NET_TCP_ATTEMPT_FAILS), counter(net, NET_TCP_ESTAB_RESETS),
		    established, segs, segs,
		    counter(net, NET_TCP_ATTEMPT_FAILS) + counter(net, NET_TCP_ESTAB_RESETS));
	text_puts(out, "Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors "
		       "InCsumErrors IgnoredMulti MemErrors\n");
	text_printf(out, "Udp: %lu %lu %lu %lu %lu 0 0 0 0\n", counter(net, NET_UDP_IN),
		    counter(net, NET_UDP_NO_PORTS), counter(net, NET_UDP_NO_ROOM), udp,
		    counter(net, NET_UDP_NO_ROOM));
	return 0;
}

static int show_snmp6(struct text *out, struct ns *net)
{
	const struct {
		const char *name;
		enum net_counter c;
	} rows[] = {{"Udp6InDatagrams", NET_UDP6_IN},
		    {"Udp6NoPorts", NET_UDP6_NO_PORTS},
		    {"Udp6InErrors", NET_UDP6_NO_ROOM},
		    {"Udp6OutDatagrams", NET_UDP6_OUT},
		    {"Udp6RcvbufErrors", NET_UDP6_NO_ROOM}};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		text_printf(out, "%-32s\t%lu\n", rows[i].name, counter(net, rows[i].c));
	return 0;
}

static int show_netstat(struct text *out, struct ns *net)
{
	text_puts(out, "TcpExt: SyncookiesSent SyncookiesRecv SyncookiesFailed ListenOverflows "
		       "ListenDrops TCPAbortOnData TCPAbortOnClose\n"
		       "TcpExt: 0 0 0 0 0 0 0\n"
		       "IpExt: InNoRoutes InTruncatedPkts InOctets OutOctets\n");
	text_printf(out, "IpExt: 0 0 %lu %lu\n", counter(net, NET_LO_BYTES),
		    counter(net, NET_LO_BYTES));
	return 0;
}

static int show_dev(struct text *out, struct ns *net)
{
	uint64_t bytes = counter(net, NET_LO_BYTES), packets = counter(net, NET_LO_PACKETS);

	text_puts(out,
		  "Inter-|   Receive                                                |  Transmit\n"
		  " face |bytes    packets errs drop fifo frame compressed multicast|bytes    "
		  "packets errs drop fifo colls carrier compressed\n");
	text_printf(out, "    lo: %7lu %7lu    0    0    0     0          0         0 ", bytes,
		    packets);
	text_printf(out, "%7lu %7lu    0    0    0     0       0          0\n", bytes, packets);
	return 0;
}

/* ---- addresses and routes ---- */

static int show_if_inet6(struct text *out, struct ns *net)
{
	if (net_ns_of(net)->lo_up)
		text_puts(out, "00000000000000000000000000000001 01 80 10 80       lo\n");
	return 0;
}

static int show_arp(struct text *out, struct ns *net)
{
	(void)net;
	text_puts(out, "IP address       HW type     Flags       HW address            Mask     "
		       "Device\n");
	return 0;
}

/* The routes of lo are in the table of local ones, which this file does not show. */
static int show_route(struct text *out, struct ns *net)
{
	if (!net_ns_of(net)->lo_seen)
		return 0;
	text_printf(out, "%-127s\n",
		    "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\t"
		    "Window\tIRTT");
	return 0;
}

/* ---- the directory ---- */

static const struct net_file {
	const char *name;
	int (*show)(struct text *out, struct ns *net);
} files[] = {
	{"arp", show_arp},	   {"dev", show_dev},		{"if_inet6", show_if_inet6},
	{"netstat", show_netstat}, {"route", show_route},	{"snmp", show_snmp},
	{"snmp6", show_snmp6},	   {"sockstat", show_sockstat}, {"sockstat6", show_sockstat6},
	{"tcp", show_tcp},	   {"tcp6", show_tcp6},		{"udp", show_udp},
	{"udp6", show_udp6},	   {"udplite", show_udplite},	{"udplite6", show_udplite6},
	{"unix", show_unix},
};

/* A file of one namespace; it keeps that. */
struct net_text {
	const struct net_file *file;
	struct ns *net; /* reference */
};

static int show_file(struct text *out, void *arg)
{
	const struct net_text *t = arg;

	return t->file->show(out, t->net);
}

static void text_free(void *arg)
{
	struct net_text *t = arg;

	ns_put(t->net);
	free(t);
}

static const struct synth_file_ops file_ops = {.common.free_arg = text_free, .show = show_file};

static struct inode *net_file_new(struct super_block *sb, const struct net_file *file,
				  struct task *t)
{
	struct ns_set *set = task_ns_get(t);
	struct net_text *arg = set ? malloc(sizeof(*arg)) : NULL;

	if (arg)
		*arg = (struct net_text){file, ns_get(set->of[NS_NET])};
	ns_set_put(set);
	return arg ? synth_file_new(sb, 0444, &file_ops, arg) : NULL;
}

static int net_lookup(struct inode *dir, const char *name, struct inode **out, void *task)
{
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		if (strcmp(files[i].name, name))
			continue;
		*out = net_file_new(dir->sb, &files[i], task);
		return *out ? 0 : -ENOMEM;
	}
	return -ENOENT;
}

static int net_readdir(struct inode *dir, struct dir_context *ctx, int64_t *off, void *task)
{
	(void)task;
	for (size_t i = (size_t)*off; i < ARRAY_SIZE(files); i++) {
		if (!ctx->emit(ctx, files[i].name, strlen(files[i].name), (int64_t)i + 1,
			       dir->ino + i + 1, DT_REG))
			break;
		*off = (int64_t)i + 1;
	}
	return 0;
}

const struct synth_dir_ops proc_net_ops = {
	.common.free_arg = proc_task_free, .lookup = net_lookup, .readdir = net_readdir};
