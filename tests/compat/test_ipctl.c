/* What comes with datagrams: control messages, the error queue, UDP-Lite.  ip(7), ipv6(7), udp(7).
 */
#include <time.h> /* first: errqueue.h needs it */

#include <arpa/inet.h>
#include <linux/errqueue.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "compat.h"

static int bound(int family, int protocol, struct sockaddr_in6 *name)
{
	int fd = EXPECT_OK(socket(family, SOCK_DGRAM, protocol));
	socklen_t len = sizeof(*name);

	memset(name, 0, sizeof(*name));
	name->sin6_family = (sa_family_t)family;
	if (family == AF_INET6)
		name->sin6_addr = in6addr_loopback;
	else
		((struct sockaddr_in *)name)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	len = family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
	EXPECT_OK(bind(fd, (struct sockaddr *)name, len));
	EXPECT_OK(getsockname(fd, (struct sockaddr *)name, &len));
	return fd;
}

static void set(int fd, int level, int name, int value)
{
	EXPECT_OK(setsockopt(fd, level, name, &value, sizeof(value)));
}

struct message {
	char data[32];
	struct sockaddr_in6 from;
	union {
		struct cmsghdr align;
		char control[256];
	};
	struct msghdr h;
	ssize_t n;
};

static void receive(int fd, struct message *m, size_t room, int flags)
{
	struct iovec iov = {m->data, sizeof(m->data)};

	memset(&m->h, 0, sizeof(m->h));
	m->h.msg_name = &m->from;
	m->h.msg_namelen = sizeof(m->from);
	m->h.msg_iov = &iov;
	m->h.msg_iovlen = 1;
	m->h.msg_control = m->control;
	m->h.msg_controllen = room;
	m->n = EXPECT_OK(recvmsg(fd, &m->h, flags));
}

static void *find(struct message *m, int level, int type)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m->h); c; c = CMSG_NXTHDR(&m->h, c))
		if (c->cmsg_level == level && c->cmsg_type == type)
			return CMSG_DATA(c);
	FAIL("no control message %d of level %d", type, level);
}

TEST(ip_control_messages_come_with_datagrams)
{
	struct sockaddr_in6 to;
	struct message m;
	int fd = bound(AF_INET, 0, &to), one = 1, from = EXPECT_OK(socket(AF_INET, SOCK_DGRAM, 0));

	EXPECT_ERRNO(setsockopt(fd, IPPROTO_IP, IP_PKTINFO, BAD_ADDR, sizeof(int)), EFAULT);
	set(fd, IPPROTO_IP, IP_PKTINFO, 1);
	set(fd, IPPROTO_IP, IP_RECVTTL, 1);
	set(fd, IPPROTO_IP, IP_RECVTOS, 1);
	set(fd, IPPROTO_IP, IP_RECVORIGDSTADDR, 1);
	set(fd, SOL_SOCKET, SO_TIMESTAMP, one);
	set(from, IPPROTO_IP, IP_TTL, 7);
	set(from, IPPROTO_IP, IP_TOS, 0x10);
	EXPECT_EQ(sendto(from, "hi", 2, 0, (void *)&to, sizeof(struct sockaddr_in)), 2);
	receive(fd, &m, sizeof(m.control), 0);
	EXPECT_EQ(m.n, 2);
	EXPECT_EQ(m.h.msg_flags, 0);
	struct in_pktinfo *info = find(&m, IPPROTO_IP, IP_PKTINFO);
	EXPECT_EQ(ntohl(info->ipi_addr.s_addr), INADDR_LOOPBACK);
	EXPECT_EQ(ntohl(info->ipi_spec_dst.s_addr), INADDR_LOOPBACK);
	EXPECT_EQ(info->ipi_ifindex, 1);
	EXPECT_EQ(*(int *)find(&m, IPPROTO_IP, IP_TTL), 7);
	EXPECT_EQ(*(uint8_t *)find(&m, IPPROTO_IP, IP_TOS), 0x10);
	struct sockaddr_in *dst = find(&m, IPPROTO_IP, IP_ORIGDSTADDR);
	EXPECT_EQ(dst->sin_port, ((struct sockaddr_in *)&to)->sin_port);
	struct timeval *when = find(&m, SOL_SOCKET, SO_TIMESTAMP);
	EXPECT(labs(when->tv_sec - time(NULL)) < 60);
}

TEST(ipv6_control_messages_come_with_datagrams)
{
	struct sockaddr_in6 to;
	struct message m;
	int fd = bound(AF_INET6, 0, &to), from = EXPECT_OK(socket(AF_INET6, SOCK_DGRAM, 0));

	set(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
	set(fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1);
	set(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
	set(from, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 9);
	set(from, IPPROTO_IPV6, IPV6_TCLASS, 0x20);
	EXPECT_EQ(sendto(from, "hi", 2, 0, (void *)&to, sizeof(to)), 2);
	receive(fd, &m, sizeof(m.control), 0);
	struct in6_pktinfo *info = find(&m, IPPROTO_IPV6, IPV6_PKTINFO);
	EXPECT(!memcmp(&info->ipi6_addr, &in6addr_loopback, sizeof(in6addr_loopback)));
	EXPECT_EQ(info->ipi6_ifindex, 1);
	EXPECT_EQ(*(int *)find(&m, IPPROTO_IPV6, IPV6_HOPLIMIT), 9);
	EXPECT_EQ(*(int *)find(&m, IPPROTO_IPV6, IPV6_TCLASS), 0x20);
}

TEST(control_messages_are_cut_to_the_room_there_is)
{
	struct sockaddr_in6 to;
	struct message m;
	int fd = bound(AF_INET, 0, &to);

	set(fd, IPPROTO_IP, IP_RECVTTL, 1);
	for (size_t room = 0; room < CMSG_LEN(sizeof(int)); room++) {
		EXPECT_EQ(sendto(fd, "", 0, 0, (void *)&to, sizeof(struct sockaddr_in)), 0);
		receive(fd, &m, room, 0);
		EXPECT_EQ(m.h.msg_flags, MSG_CTRUNC);
		EXPECT_EQ(m.h.msg_controllen, room < sizeof(struct cmsghdr) ? 0 : room);
		if (room >= sizeof(struct cmsghdr))
			EXPECT_EQ(m.align.cmsg_len, room);
	}
}

static ssize_t send_with(int fd, struct sockaddr_in6 *to, int level, int type, const void *data,
			 size_t len)
{
	union {
		struct cmsghdr h;
		char bytes[128];
	} c = {0};
	struct iovec iov = {"x", 1};
	struct msghdr h = {.msg_name = to,
			   .msg_namelen = to->sin6_family == AF_INET6 ? sizeof(*to)
								      : sizeof(struct sockaddr_in),
			   .msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = &c,
			   .msg_controllen = CMSG_SPACE(len)};

	c.h.cmsg_len = CMSG_LEN(len);
	c.h.cmsg_level = level;
	c.h.cmsg_type = type;
	memcpy(CMSG_DATA(&c.h), data, len);
	return sendmsg(fd, &h, 0);
}

TEST(control_messages_set_what_one_datagram_carries)
{
	struct sockaddr_in6 to, to6;
	struct message m;
	int fd = bound(AF_INET, 0, &to), from = EXPECT_OK(socket(AF_INET, SOCK_DGRAM, 0));
	int fd6 = bound(AF_INET6, 0, &to6), from6 = EXPECT_OK(socket(AF_INET6, SOCK_DGRAM, 0));
	struct in_pktinfo info = {.ipi_spec_dst.s_addr = htonl(INADDR_LOOPBACK + 4)};
	int v = 3, bad = 0, wide = 256;
	long big = 5;

	set(fd, IPPROTO_IP, IP_RECVTTL, 1);
	set(fd6, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1);
	EXPECT_ERRNO(send_with(from, &to, IPPROTO_IP, IP_TTL, &bad, sizeof(bad)), EINVAL);
	EXPECT_ERRNO(send_with(from, &to, IPPROTO_IP, IP_TTL, &wide, sizeof(wide)), EINVAL);
	EXPECT_ERRNO(send_with(from, &to, IPPROTO_IP, IP_TTL, &big, sizeof(big)), EINVAL);
	EXPECT_ERRNO(send_with(from, &to, IPPROTO_IP, 77, &v, sizeof(v)), EINVAL);
	EXPECT_ERRNO(send_with(from, &to, IPPROTO_IP, IP_PKTINFO, &info, 4), EINVAL);
	EXPECT_ERRNO(send_with(from6, &to6, IPPROTO_IPV6, IPV6_TCLASS, &wide, sizeof(wide)),
		     EINVAL);
	EXPECT_EQ(send_with(from, &to, IPPROTO_IP, IP_TTL, &v, sizeof(v)), 1);
	receive(fd, &m, sizeof(m.control), 0);
	EXPECT_EQ(*(int *)find(&m, IPPROTO_IP, IP_TTL), 3);
	EXPECT_EQ(send_with(from, &to, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info)), 1);
	receive(fd, &m, sizeof(m.control), 0);
	EXPECT_EQ(*(int *)find(&m, IPPROTO_IP, IP_TTL), 64);
	EXPECT_EQ(((struct sockaddr_in *)&m.from)->sin_addr.s_addr, info.ipi_spec_dst.s_addr);
	EXPECT_EQ(send_with(from6, &to6, IPPROTO_IPV6, IPV6_HOPLIMIT, &v, sizeof(v)), 1);
	receive(fd6, &m, sizeof(m.control), 0);
	EXPECT_EQ(*(int *)find(&m, IPPROTO_IPV6, IPV6_HOPLIMIT), 3);
}

static void refused(int family)
{
	struct sockaddr_in6 to;
	struct message m;
	int level = family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6;
	int type = family == AF_INET ? IP_RECVERR : IPV6_RECVERR;
	socklen_t len = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(to);
	int fd = EXPECT_OK(socket(family, SOCK_DGRAM, 0));

	close(bound(family, 0, &to)); /* nobody has that port now */
	EXPECT_ERRNO(recv(fd, &m, 1, MSG_ERRQUEUE), EAGAIN);
	set(fd, level, type, 1);
	EXPECT_EQ(sendto(fd, "lost", 4, 0, (void *)&to, len), 4);
	struct pollfd p = {fd, POLLIN, 0};
	EXPECT_EQ(poll(&p, 1, 5000), 1);
	EXPECT(p.revents & POLLERR);
	receive(fd, &m, sizeof(m.control), MSG_ERRQUEUE);
	EXPECT_EQ(m.n, 4);
	EXPECT(!memcmp(m.data, "lost", 4));
	EXPECT_EQ(m.h.msg_flags, MSG_ERRQUEUE);
	EXPECT_EQ(m.from.sin6_port, to.sin6_port);
	struct sock_extended_err *e = find(&m, level, type);
	EXPECT_EQ(e->ee_errno, ECONNREFUSED);
	EXPECT_EQ(e->ee_origin, family == AF_INET ? SO_EE_ORIGIN_ICMP : SO_EE_ORIGIN_ICMP6);
	EXPECT_EQ(e->ee_type, family == AF_INET ? 3 : 1);
	EXPECT_EQ(e->ee_code, family == AF_INET ? 3 : 4);
	EXPECT_EQ(SO_EE_OFFENDER(e)->sa_family, family);
	/* The queue is empty, and with it the socket's error has gone. */
	EXPECT_ERRNO(recv(fd, &m, 1, MSG_ERRQUEUE), EAGAIN);
	EXPECT_ERRNO(recv(fd, &m, 1, MSG_DONTWAIT), EAGAIN);
	EXPECT_EQ(poll(&p, 1, 0), 0);
}

TEST(error_queue_tells_which_datagram_was_refused)
{
	refused(AF_INET);
	refused(AF_INET6);
}

TEST(udplite_has_ports_of_its_own)
{
	struct sockaddr_in6 to;
	char buf[8];
	int udp = bound(AF_INET, 0, &to), v = 0;
	int lite = socket(AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE);
	socklen_t len = sizeof(v);

	if (lite < 0 && errno == EPROTONOSUPPORT)
		test_skip("this kernel has no UDP-Lite");
	EXPECT_OK(bind(lite, (void *)&to, sizeof(struct sockaddr_in)));
	int from = EXPECT_OK(socket(AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE));
	EXPECT_OK(getsockopt(from, SOL_SOCKET, SO_PROTOCOL, &v, &len));
	EXPECT_EQ(v, IPPROTO_UDPLITE);
	set(from, IPPROTO_UDPLITE, 10 /* UDPLITE_SEND_CSCOV */, 3);
	EXPECT_OK(getsockopt(from, IPPROTO_UDPLITE, 10, &v, &len));
	EXPECT_EQ(v, 8);
	EXPECT_ERRNO(setsockopt(udp, IPPROTO_UDPLITE, 10, &v, sizeof(v)), ENOPROTOOPT);
	EXPECT_EQ(sendto(from, "lite", 4, 0, (void *)&to, sizeof(struct sockaddr_in)), 4);
	EXPECT_EQ(recv(lite, buf, sizeof(buf), 0), 4);
	EXPECT_ERRNO(recv(udp, buf, sizeof(buf), MSG_DONTWAIT), EAGAIN);
}

/* ---- lo, and what /proc/net tells ---- */

static int try_connect(int family)
{
	struct sockaddr_in6 to = {
		.sin6_family = AF_INET6, .sin6_port = htons(1), .sin6_addr = in6addr_loopback};
	struct sockaddr_in to4 = {.sin_family = AF_INET,
				  .sin_port = htons(1),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = EXPECT_OK(socket(family, SOCK_STREAM, 0));
	int err = family == AF_INET ? connect(fd, (void *)&to4, sizeof(to4))
				    : connect(fd, (void *)&to, sizeof(to));
	int why = errno;

	close(fd);
	return err ? why : 0;
}

TEST(lo_is_down_in_a_new_network_namespace)
{
	struct ifreq r = {.ifr_name = "lo"};

	if (unshare(CLONE_NEWNET))
		test_skip("needs root");
	int fd = EXPECT_OK(socket(AF_INET, SOCK_DGRAM, 0));
	EXPECT_EQ(try_connect(AF_INET), ENETUNREACH);
	EXPECT_EQ(try_connect(AF_INET6), EADDRNOTAVAIL);
	EXPECT_OK(ioctl(fd, SIOCGIFFLAGS, &r));
	EXPECT_EQ(r.ifr_flags, IFF_LOOPBACK);
	EXPECT_ERRNO(ioctl(fd, SIOCGIFADDR, &r), EADDRNOTAVAIL);
	EXPECT_ERRNO(ioctl(fd, SIOCSIFFLAGS, BAD_ADDR), EFAULT);
	r.ifr_flags = IFF_UP;
	EXPECT_OK(ioctl(fd, SIOCSIFFLAGS, &r));
	EXPECT_OK(ioctl(fd, SIOCGIFFLAGS, &r));
	EXPECT(r.ifr_flags & IFF_UP && r.ifr_flags & IFF_RUNNING);
	EXPECT_EQ(try_connect(AF_INET), ECONNREFUSED);
	EXPECT_EQ(try_connect(AF_INET6), ECONNREFUSED);
	EXPECT_OK(ioctl(fd, SIOCGIFADDR, &r));
	r.ifr_flags = 0;
	EXPECT_OK(ioctl(fd, SIOCSIFFLAGS, &r));
	EXPECT_EQ(try_connect(AF_INET6), EADDRNOTAVAIL);
}

/* Does a line of the file contain that text? */
static bool shows(const char *path, const char *text)
{
	char line[512];
	bool found = false;
	FILE *f = fopen(path, "r");

	EXPECT(f != NULL);
	while (!found && fgets(line, sizeof(line), f))
		found = strstr(line, text) != NULL;
	fclose(f);
	return found;
}

TEST(proc_net_shows_sockets)
{
	struct sockaddr_un un = {AF_UNIX, "proc_net_socket"};
	struct sockaddr_in6 name;
	struct stat st;
	char text[64];
	test_dir();
	int udp = bound(AF_INET, 0, &name), u = EXPECT_OK(socket(AF_UNIX, SOCK_STREAM, 0));

	EXPECT_OK(fstat(udp, &st));
	sprintf(text, ": 0100007F:%04X 00000000:0000 07 ", ntohs(name.sin6_port));
	EXPECT(shows("/proc/net/udp", text));
	sprintf(text, " %lu ", (unsigned long)st.st_ino);
	EXPECT(shows("/proc/net/udp", text));
	close(udp);
	EXPECT(!shows("/proc/self/net/udp", text));

	int tcp = EXPECT_OK(socket(AF_INET6, SOCK_STREAM, 0));
	socklen_t len = sizeof(name);
	EXPECT_OK(listen(tcp, 3));
	EXPECT_OK(getsockname(tcp, (void *)&name, &len));
	sprintf(text, "00000000:%04X %032d:0000 0A ", ntohs(name.sin6_port), 0);
	EXPECT(shows("/proc/net/tcp6", text));

	EXPECT(!shows("/proc/net/unix", un.sun_path));
	EXPECT_OK(bind(u, (void *)&un, sizeof(un)));
	EXPECT_OK(listen(u, 1));
	EXPECT(shows("/proc/net/unix", "00010000 0001 01"));
	EXPECT(shows("/proc/net/unix", un.sun_path));
	EXPECT(shows("/proc/net/dev", "lo:"));
}

static unsigned long udp_received(void)
{
	unsigned long n = 0;
	char line[512];
	FILE *f = fopen("/proc/net/snmp", "r");

	EXPECT(f != NULL);
	while (fgets(line, sizeof(line), f))
		sscanf(line, "Udp: %lu", &n);
	fclose(f);
	return n;
}

TEST(proc_net_snmp_counts_datagrams)
{
	struct sockaddr_in6 to;
	char c;
	int fd = bound(AF_INET, 0, &to);
	unsigned long before = udp_received();

	for (int i = 0; i < 5; i++) {
		EXPECT_EQ(sendto(fd, "x", 1, 0, (void *)&to, sizeof(struct sockaddr_in)), 1);
		EXPECT_EQ(recv(fd, &c, 1, 0), 1);
	}
	EXPECT(udp_received() >= before + 5);
}
