/* TCP and UDP over the loopback interface: ip(7), tcp(7), udp(7). */
#include <sched.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "compat.h"

static void *volatile bad_pointer = (void *)8;

static struct sockaddr_in loopback(int port)
{
	return (struct sockaddr_in){.sin_family = AF_INET,
				    .sin_port = htons((uint16_t)port),
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static int port_of(int fd)
{
	struct sockaddr_in a;
	socklen_t n = sizeof(a);

	EXPECT_OK(getsockname(fd, (struct sockaddr *)&a, &n));
	EXPECT_EQ(n, sizeof(a));
	return ntohs(a.sin_port);
}

static int listener(int backlog, int *port)
{
	struct sockaddr_in a = loopback(0);
	int fd = EXPECT_OK(socket(AF_INET, SOCK_STREAM, 0));

	EXPECT_OK(bind(fd, (struct sockaddr *)&a, sizeof(a)));
	EXPECT_OK(listen(fd, backlog));
	*port = port_of(fd);
	return fd;
}

static int connected_to(int port)
{
	struct sockaddr_in a = loopback(port);
	int fd = EXPECT_OK(socket(AF_INET, SOCK_STREAM, 0));

	EXPECT_OK(connect(fd, (struct sockaddr *)&a, sizeof(a)));
	return fd;
}

static void pair(int fds[2])
{
	int port, l = listener(8, &port);

	fds[0] = connected_to(port);
	fds[1] = EXPECT_OK(accept(l, NULL, NULL));
	close(l);
}

static short ready(int fd, short want)
{
	struct pollfd p = {fd, want, 0};

	EXPECT_OK(poll(&p, 1, 0));
	return p.revents;
}

/* Waits until poll shows one of these. */
static void await(int fd, short want)
{
	struct pollfd p = {fd, want, 0};

	EXPECT_EQ(poll(&p, 1, 5000), 1);
}

TEST(tcp_carries_bytes_both_ways)
{
	int fd[2];
	char buf[16];

	pair(fd);
	EXPECT_EQ(write(fd[0], "hello", 5), 5);
	EXPECT_EQ(read(fd[1], buf, 3), 3);
	EXPECT_EQ(recv(fd[1], buf + 3, 13, MSG_PEEK), 2);
	EXPECT_EQ(read(fd[1], buf + 3, 13), 2);
	EXPECT(!memcmp(buf, "hello", 5));
	EXPECT_EQ(send(fd[1], "back", 4, 0), 4);
	EXPECT_EQ(recv(fd[0], buf, 4, MSG_WAITALL), 4);
	EXPECT_ERRNO(recv(fd[0], buf, 4, MSG_DONTWAIT), EAGAIN);
}

TEST(tcp_names)
{
	struct sockaddr_in a, b;
	socklen_t n = sizeof(a);
	int port, l = listener(1, &port), c = connected_to(port);
	int s = EXPECT_OK(accept(l, (struct sockaddr *)&a, &n));

	EXPECT_EQ(n, sizeof(a));
	EXPECT_EQ(ntohs(a.sin_port), port_of(c));
	EXPECT_EQ(ntohl(a.sin_addr.s_addr), INADDR_LOOPBACK);
	n = sizeof(b);
	EXPECT_OK(getpeername(c, (struct sockaddr *)&b, &n));
	EXPECT_EQ(ntohs(b.sin_port), port);
	EXPECT_EQ(port_of(s), port);
	EXPECT_ERRNO(getpeername(l, (struct sockaddr *)&b, &n), ENOTCONN);
}

TEST(tcp_connect_refused)
{
	int port, l = listener(1, &port);
	struct sockaddr_in a = loopback(port);
	int fd = EXPECT_OK(socket(AF_INET, SOCK_STREAM, 0));

	close(l);
	EXPECT_ERRNO(connect(fd, (struct sockaddr *)&a, sizeof(a)), ECONNREFUSED);
	EXPECT_ERRNO(connect(fd, (struct sockaddr *)&a, sizeof(a)), ECONNREFUSED);
}

TEST(tcp_connect_without_waiting)
{
	int port, l = listener(1, &port), err;
	struct sockaddr_in a = loopback(port);
	socklen_t n = sizeof(err);
	int fd = EXPECT_OK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));

	EXPECT_ERRNO(connect(fd, (struct sockaddr *)&a, sizeof(a)), EINPROGRESS);
	await(fd, POLLOUT);
	EXPECT_OK(getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &n));
	EXPECT_EQ(err, 0);
	EXPECT_OK(connect(fd, (struct sockaddr *)&a, sizeof(a)));
	EXPECT_ERRNO(connect(fd, (struct sockaddr *)&a, sizeof(a)), EISCONN);
	close(l);
	close(fd);

	fd = EXPECT_OK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	EXPECT_ERRNO(connect(fd, (struct sockaddr *)&a, sizeof(a)), EINPROGRESS);
	await(fd, POLLOUT);
	EXPECT(ready(fd, POLLOUT) & POLLERR);
	EXPECT_OK(getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &n));
	EXPECT_EQ(err, ECONNREFUSED);
}

TEST(tcp_addresses_are_checked)
{
	struct sockaddr_in a = loopback(0);
	struct sockaddr_in6 a6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	int fd = EXPECT_OK(socket(AF_INET, SOCK_STREAM, 0));

	EXPECT_ERRNO(bind(fd, (struct sockaddr *)&a, 8), EINVAL);
	EXPECT_ERRNO(bind(fd, (struct sockaddr *)&a6, sizeof(a6)), EAFNOSUPPORT);
	EXPECT_ERRNO(connect(fd, (struct sockaddr *)&a, 1), EINVAL);
	EXPECT_ERRNO(connect(fd, (struct sockaddr *)&a, 8), EINVAL);
	EXPECT_ERRNO(connect(fd, (struct sockaddr *)&a6, sizeof(a6)), EAFNOSUPPORT);
	a.sin_addr.s_addr = htonl(0xc0000201); /* 192.0.2.1: RFC 5737 */
	EXPECT_ERRNO(bind(fd, (struct sockaddr *)&a, sizeof(a)), EADDRNOTAVAIL);
	EXPECT_ERRNO(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP), EPROTONOSUPPORT);
	EXPECT_ERRNO(socket(AF_INET, SOCK_SEQPACKET, 0), ESOCKTNOSUPPORT);
	fd = EXPECT_OK(socket(AF_INET, SOCK_DGRAM, 0));
	EXPECT_ERRNO(listen(fd, 1), EOPNOTSUPP);
}

TEST(tcp_port_in_use)
{
	int port, l = listener(1, &port), one = 1;
	struct sockaddr_in a = loopback(port),
			   any = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int fd = EXPECT_OK(socket(AF_INET, SOCK_STREAM, 0));

	EXPECT_ERRNO(bind(fd, (struct sockaddr *)&a, sizeof(a)), EADDRINUSE);
	EXPECT_ERRNO(bind(fd, (struct sockaddr *)&any, sizeof(any)), EADDRINUSE);
	EXPECT_OK(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)));
	EXPECT_ERRNO(bind(fd, (struct sockaddr *)&a, sizeof(a)), EADDRINUSE);
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1);
	EXPECT_OK(bind(fd, (struct sockaddr *)&a, sizeof(a)));
	EXPECT_ERRNO(bind(fd, (struct sockaddr *)&a, sizeof(a)), EINVAL);
	close(l);
}

TEST(tcp_reuse_address_and_port)
{
	int one = 1, fd[2];
	struct sockaddr_in a = loopback(0);

	for (int i = 0; i < 2; i++) {
		fd[i] = EXPECT_OK(socket(AF_INET, SOCK_STREAM, 0));
		EXPECT_OK(setsockopt(fd[i], SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)));
		EXPECT_OK(bind(fd[i], (struct sockaddr *)&a, sizeof(a)));
		a.sin_port = htons((uint16_t)port_of(fd[i]));
	}
	EXPECT_OK(listen(fd[0], 1));
	EXPECT_ERRNO(listen(fd[1], 1), EADDRINUSE);
	close(fd[0]);
	close(fd[1]);
	a.sin_port = 0;
	for (int i = 0; i < 2; i++) {
		fd[i] = EXPECT_OK(socket(AF_INET, SOCK_STREAM, 0));
		EXPECT_OK(setsockopt(fd[i], SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)));
		EXPECT_OK(bind(fd[i], (struct sockaddr *)&a, sizeof(a)));
		a.sin_port = htons((uint16_t)port_of(fd[i]));
		EXPECT_OK(listen(fd[i], 1));
	}
}

TEST(tcp_end_of_stream)
{
	int fd[2];
	char c;

	pair(fd);
	EXPECT_EQ(ready(fd[1], POLLIN | POLLOUT | POLLRDHUP), POLLOUT);
	EXPECT_OK(shutdown(fd[0], SHUT_WR));
	await(fd[1], POLLIN);
	EXPECT_EQ(ready(fd[1], POLLIN | POLLOUT | POLLRDHUP), POLLIN | POLLOUT | POLLRDHUP);
	EXPECT_EQ(read(fd[1], &c, 1), 0);
	EXPECT_EQ(write(fd[1], "x", 1), 1);
	EXPECT_EQ(read(fd[0], &c, 1), 1);
	EXPECT_ERRNO(send(fd[0], "x", 1, MSG_NOSIGNAL), EPIPE);
	EXPECT_OK(shutdown(fd[1], SHUT_WR));
	await(fd[0], POLLHUP);
	EXPECT(ready(fd[0], POLLIN) & POLLHUP);
	EXPECT(ready(fd[1], POLLIN) & POLLHUP);
}

TEST(tcp_write_after_close_breaks)
{
	int fd[2];

	pair(fd);
	close(fd[1]);
	await(fd[0], POLLRDHUP);
	EXPECT_EQ(send(fd[0], "x", 1, MSG_NOSIGNAL), 1);
	await(fd[0], POLLHUP);
	EXPECT_ERRNO(send(fd[0], "x", 1, MSG_NOSIGNAL), EPIPE);
}

TEST(tcp_close_with_unread_data_resets)
{
	int fd[2];
	char c;

	pair(fd);
	EXPECT_EQ(write(fd[0], "data", 4), 4);
	await(fd[1], POLLIN);
	close(fd[1]);
	await(fd[0], POLLIN);
	EXPECT_ERRNO(read(fd[0], &c, 1), ECONNRESET);
	EXPECT_EQ(read(fd[0], &c, 1), 0);
	EXPECT_ERRNO(send(fd[0], "x", 1, MSG_NOSIGNAL), EPIPE);
}

TEST(tcp_linger_zero_resets)
{
	struct linger l = {1, 0};
	int fd[2];
	char c;

	pair(fd);
	EXPECT_OK(setsockopt(fd[1], SOL_SOCKET, SO_LINGER, &l, sizeof(l)));
	close(fd[1]);
	await(fd[0], POLLERR);
	EXPECT_ERRNO(read(fd[0], &c, 1), ECONNRESET);
}

TEST(tcp_unconnected)
{
	int fd = EXPECT_OK(socket(AF_INET, SOCK_STREAM, 0));
	char c;

	EXPECT_ERRNO(read(fd, &c, 1), ENOTCONN);
	EXPECT_ERRNO(send(fd, "x", 1, MSG_NOSIGNAL), EPIPE);
	EXPECT_EQ(ready(fd, POLLIN | POLLOUT), POLLOUT | POLLHUP);
	/* It fails, but whoever waits is woken for good. */
	EXPECT_ERRNO(shutdown(fd, SHUT_RDWR), ENOTCONN);
	EXPECT_EQ(ready(fd, POLLIN | POLLOUT), POLLIN | POLLOUT | POLLHUP);
	EXPECT_EQ(read(fd, &c, 1), 0);
	EXPECT_ERRNO(accept(fd, NULL, NULL), EINVAL);
	EXPECT_OK(listen(fd, 1));
	EXPECT(port_of(fd) > 0);
	EXPECT_EQ(ready(fd, POLLIN | POLLOUT), 0);
}

static void *connector(void *arg)
{
	return (void *)(intptr_t)connected_to(*(int *)arg);
}

TEST(tcp_accept_waits)
{
	int port, l = listener(4, &port);
	pthread_t th;

	EXPECT_EQ(pthread_create(&th, NULL, connector, &port), 0);
	int s = EXPECT_OK(accept4(l, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
	EXPECT_EQ(fcntl(s, F_GETFD), FD_CLOEXEC);
	EXPECT(fcntl(s, F_GETFL) & O_NONBLOCK);
	EXPECT_EQ(pthread_join(th, NULL), 0);
}

TEST(tcp_shutdown_of_listener_ends_accept)
{
	int port, l = listener(1, &port);

	EXPECT_OK(shutdown(l, SHUT_RD));
	EXPECT_ERRNO(accept(l, NULL, NULL), EINVAL);
}

#define MANY (4 << 20)

static void *sender(void *arg)
{
	int fd = *(int *)arg;
	static char out[MANY];

	for (size_t i = 0; i < MANY; i++)
		out[i] = (char)(i * 7 + (i >> 12));
	for (size_t done = 0; done < MANY;) {
		ssize_t n = write(fd, out + done, MANY - done);
		EXPECT(n > 0);
		done += (size_t)n;
	}
	EXPECT_OK(shutdown(fd, SHUT_WR));
	return NULL;
}

TEST(tcp_carries_much)
{
	static char in[70000];
	int fd[2];
	pthread_t th;
	size_t at = 0;

	pair(fd);
	EXPECT_EQ(pthread_create(&th, NULL, sender, &fd[0]), 0);
	for (;;) {
		ssize_t n = EXPECT_OK(read(fd[1], in, sizeof(in)));
		if (n == 0)
			break;
		for (ssize_t i = 0; i < n; i++, at++)
			if (in[i] != (char)(at * 7 + (at >> 12)))
				FAIL("byte %zu is wrong", at);
	}
	EXPECT_EQ(at, MANY);
	EXPECT_EQ(pthread_join(th, NULL), 0);
}

TEST(tcp_full_window_refuses_until_read)
{
	static char buf[65536];
	int fd[2], n;
	size_t sent = 0, got = 0;

	pair(fd);
	EXPECT_OK(fcntl(fd[0], F_SETFL, O_NONBLOCK));
	for (ssize_t k; (k = write(fd[0], buf, sizeof(buf))) > 0;)
		sent += (size_t)k;
	EXPECT_EQ(errno, EAGAIN);
	EXPECT_EQ(ready(fd[0], POLLOUT), 0);
	EXPECT_OK(ioctl(fd[1], FIONREAD, &n));
	EXPECT(n > 0);
	while (got < sent)
		got += (size_t)EXPECT_OK(read(fd[1], buf, sizeof(buf)));
	await(fd[0], POLLOUT);
	EXPECT_EQ(got, sent);
}

TEST(tcp_faults_lose_nothing)
{
	int fd[2];
	char buf[8];

	pair(fd);
	EXPECT_EQ(write(fd[0], "abc", 3), 3);
	EXPECT_ERRNO(read(fd[1], bad_pointer, 3), EFAULT);
	EXPECT_EQ(read(fd[1], buf, 8), 3);
	EXPECT_ERRNO(write(fd[0], bad_pointer, 3), EFAULT);
}

TEST(tcp_urgent_byte_overtakes)
{
	int fd[2], at;
	char buf[8];

	pair(fd);
	EXPECT_EQ(send(fd[0], "abU", 3, MSG_OOB), 3);
	EXPECT_EQ(send(fd[0], "cd", 2, 0), 2);
	await(fd[1], POLLPRI);
	EXPECT_EQ(recv(fd[1], buf, 8, MSG_OOB), 1);
	EXPECT_EQ(buf[0], 'U');
	EXPECT_ERRNO(recv(fd[1], buf, 8, MSG_OOB), EINVAL);
	EXPECT_EQ(recv(fd[1], buf, 8, 0), 2);
	EXPECT_OK(ioctl(fd[1], SIOCATMARK, &at));
	EXPECT_EQ(at, 1);
	EXPECT_EQ(recv(fd[1], buf, 8, 0), 2);
	EXPECT(!memcmp(buf, "cd", 2));
}

TEST(tcp_urgent_byte_in_line)
{
	int fd[2], one = 1;
	char buf[8];

	pair(fd);
	EXPECT_OK(setsockopt(fd[1], SOL_SOCKET, SO_OOBINLINE, &one, sizeof(one)));
	EXPECT_EQ(send(fd[0], "abU", 3, MSG_OOB), 3);
	await(fd[1], POLLPRI);
	EXPECT_EQ(recv(fd[1], buf, 8, 0), 2);
	EXPECT_EQ(recv(fd[1], buf, 8, 0), 1);
	EXPECT_EQ(buf[0], 'U');
	EXPECT_ERRNO(recv(fd[1], buf, 8, MSG_OOB), EINVAL);
}

TEST(udp_disconnect_forgets_the_address)
{
	struct sockaddr_in6 a = {
		.sin6_family = AF_INET6, .sin6_port = htons(9), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	struct sockaddr off = {.sa_family = AF_UNSPEC};
	struct sockaddr_in v4 = loopback(9);
	socklen_t n = sizeof(a);
	int fd = socket(AF_INET6, SOCK_DGRAM, 0);

	if (fd < 0)
		test_skip("no IPv6");
	EXPECT_OK(connect(fd, (struct sockaddr *)&a, sizeof(a)));
	EXPECT_OK(connect(fd, &off, sizeof(off)));
	EXPECT_OK(getsockname(fd, (struct sockaddr *)&a, &n));
	EXPECT(IN6_IS_ADDR_UNSPECIFIED(&a.sin6_addr));
	EXPECT_EQ(a.sin6_port, 0);
	EXPECT_OK(connect(fd, (struct sockaddr *)&v4, sizeof(v4)));
	EXPECT_OK(getsockname(fd, (struct sockaddr *)&a, &n));
	EXPECT(IN6_IS_ADDR_V4MAPPED(&a.sin6_addr));
}

TEST(tcp_options)
{
	int fd = EXPECT_OK(socket(AF_INET, SOCK_STREAM, 0)), v, one = 1;
	socklen_t n = sizeof(v);
	struct tcp_info info;
	char name[16];

	EXPECT_OK(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &v, &n));
	EXPECT_EQ(v, 0);
	EXPECT_OK(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)));
	EXPECT_OK(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &v, &n));
	EXPECT_EQ(v, 1);
	EXPECT_ERRNO(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, 1), EINVAL);
	EXPECT_ERRNO(setsockopt(fd, IPPROTO_TCP, 9999, &one, sizeof(one)), ENOPROTOOPT);
	EXPECT_ERRNO(getsockopt(fd, IPPROTO_TCP, 9999, &v, &n), ENOPROTOOPT);
	n = sizeof(info);
	EXPECT_OK(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &n));
	EXPECT_EQ(info.tcpi_state, TCP_CLOSE);
	n = sizeof(name);
	EXPECT_OK(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &n));
	n = sizeof(v);
	EXPECT_OK(getsockopt(fd, IPPROTO_IP, IP_TTL, &v, &n));
	EXPECT_EQ(v, 64);
	EXPECT_OK(getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &v, &n));
	EXPECT_EQ(v, AF_INET);
	EXPECT_OK(getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &v, &n));
	EXPECT_EQ(v, IPPROTO_TCP);
}

TEST(tcp6_takes_ipv4_too)
{
	struct sockaddr_in6 a = {.sin6_family = AF_INET6}, peer;
	socklen_t n = sizeof(a);
	int l = socket(AF_INET6, SOCK_STREAM, 0);

	if (l < 0)
		test_skip("no IPv6");
	EXPECT_OK(bind(l, (struct sockaddr *)&a, sizeof(a)));
	EXPECT_OK(listen(l, 2));
	EXPECT_OK(getsockname(l, (struct sockaddr *)&a, &n));
	int c = connected_to(ntohs(a.sin6_port));
	n = sizeof(peer);
	int s = EXPECT_OK(accept(l, (struct sockaddr *)&peer, &n));
	EXPECT_EQ(n, sizeof(peer));
	EXPECT(IN6_IS_ADDR_V4MAPPED(&peer.sin6_addr));
	EXPECT_EQ(write(c, "x", 1), 1);
	EXPECT_EQ(read(s, &n, 1), 1);

	int only = 1, fd = EXPECT_OK(socket(AF_INET6, SOCK_STREAM, 0));
	EXPECT_OK(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof(only)));
	a.sin6_port = 0;
	EXPECT_OK(bind(fd, (struct sockaddr *)&a, sizeof(a)));
	EXPECT_OK(listen(fd, 2));
	n = sizeof(a);
	EXPECT_OK(getsockname(fd, (struct sockaddr *)&a, &n));
	struct sockaddr_in v4 = loopback(ntohs(a.sin6_port));
	int t = EXPECT_OK(socket(AF_INET, SOCK_STREAM, 0));
	EXPECT_ERRNO(connect(t, (struct sockaddr *)&v4, sizeof(v4)), ECONNREFUSED);
}

/* ---- UDP ---- */

static int udp_at(int *port)
{
	struct sockaddr_in a = loopback(0);
	int fd = EXPECT_OK(socket(AF_INET, SOCK_DGRAM, 0));

	EXPECT_OK(bind(fd, (struct sockaddr *)&a, sizeof(a)));
	*port = port_of(fd);
	return fd;
}

TEST(udp_carries_datagrams)
{
	int p1, p2, a = udp_at(&p1), b = udp_at(&p2);
	struct sockaddr_in to = loopback(p2), from;
	socklen_t n = sizeof(from);
	char buf[8];

	EXPECT_EQ(sendto(a, "hello", 5, 0, (struct sockaddr *)&to, sizeof(to)), 5);
	EXPECT_EQ(sendto(a, "", 0, 0, (struct sockaddr *)&to, sizeof(to)), 0);
	EXPECT_EQ(recvfrom(b, buf, 3, MSG_TRUNC, (struct sockaddr *)&from, &n), 5);
	EXPECT_EQ(ntohs(from.sin_port), p1);
	EXPECT_EQ(recv(b, buf, sizeof(buf), 0), 0);
	EXPECT_ERRNO(recv(b, buf, sizeof(buf), MSG_DONTWAIT), EAGAIN);
}

TEST(udp_connected_filters_and_is_refused)
{
	int p1, p2, p3, a = udp_at(&p1), b = udp_at(&p2), c = udp_at(&p3);
	struct sockaddr_in to = loopback(p2), at = loopback(p1);
	char buf[8];

	EXPECT_ERRNO(send(a, "x", 1, 0), EDESTADDRREQ);
	EXPECT_OK(connect(a, (struct sockaddr *)&to, sizeof(to)));
	EXPECT_EQ(sendto(c, "no", 2, 0, (struct sockaddr *)&at, sizeof(at)), 2);
	EXPECT_EQ(sendto(b, "yes", 3, 0, (struct sockaddr *)&at, sizeof(at)), 3);
	EXPECT_EQ(recv(a, buf, sizeof(buf), 0), 3);
	EXPECT_ERRNO(recv(a, buf, sizeof(buf), MSG_DONTWAIT), EAGAIN);
	close(b);
	EXPECT_EQ(send(a, "x", 1, 0), 1);
	EXPECT_ERRNO(recv(a, buf, sizeof(buf), 0), ECONNREFUSED);
	struct sockaddr off = {.sa_family = AF_UNSPEC};
	EXPECT_OK(connect(a, &off, sizeof(off)));
	EXPECT_ERRNO(send(a, "x", 1, 0), EDESTADDRREQ);
}

TEST(udp_limits)
{
	static char big[70000];
	int p, a = udp_at(&p), n;
	struct sockaddr_in to = loopback(p);

	EXPECT_ERRNO(sendto(a, big, 65508, 0, (struct sockaddr *)&to, sizeof(to)), EMSGSIZE);
	EXPECT_EQ(sendto(a, big, 65507, 0, (struct sockaddr *)&to, sizeof(to)), 65507);
	EXPECT_OK(ioctl(a, FIONREAD, &n));
	EXPECT_EQ(n, 65507);
	to.sin_port = 0;
	EXPECT_ERRNO(sendto(a, big, 1, 0, (struct sockaddr *)&to, sizeof(to)), EINVAL);
	EXPECT_ERRNO(sendto(a, big, 1, 0, (struct sockaddr *)&to, 4), EINVAL);
	EXPECT_EQ(ready(a, POLLIN | POLLOUT), POLLIN | POLLOUT);
}

TEST(udp_ports_are_shared_only_on_request)
{
	int p, a = udp_at(&p), one = 1, fd[2];
	struct sockaddr_in at = loopback(p);
	int b = EXPECT_OK(socket(AF_INET, SOCK_DGRAM, 0));

	EXPECT_ERRNO(bind(b, (struct sockaddr *)&at, sizeof(at)), EADDRINUSE);
	close(a);
	for (int i = 0; i < 2; i++) {
		fd[i] = EXPECT_OK(socket(AF_INET, SOCK_DGRAM, 0));
		EXPECT_OK(setsockopt(fd[i], SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)));
		EXPECT_OK(bind(fd[i], (struct sockaddr *)&at, sizeof(at)));
	}
}

TEST(inet_privileged_port)
{
	struct sockaddr_in at = loopback(1);
	int status;
	pid_t pid = EXPECT_OK(fork());

	if (!pid) {
		int fd = EXPECT_OK(socket(AF_INET, SOCK_STREAM, 0));
		EXPECT_OK(syscall(SYS_setresuid, 65534, 65534, 65534));
		EXPECT_ERRNO(bind(fd, (struct sockaddr *)&at, sizeof(at)), EACCES);
		_exit(0);
	}
	EXPECT_OK(waitpid(pid, &status, 0));
	EXPECT_EQ(status, 0);
}

TEST(inet_interface_requests)
{
	int fd = EXPECT_OK(socket(AF_INET, SOCK_DGRAM, 0));
	struct ifreq r = {.ifr_name = "lo"};
	struct ifreq all[64];
	struct ifconf conf = {.ifc_len = sizeof(all), .ifc_req = all};

	EXPECT_OK(ioctl(fd, SIOCGIFFLAGS, &r));
	EXPECT(r.ifr_flags & IFF_LOOPBACK);
	EXPECT_OK(ioctl(fd, SIOCGIFINDEX, &r));
	EXPECT_EQ(r.ifr_ifindex, 1);
	memset(&r, 0, sizeof(r));
	r.ifr_ifindex = 1;
	EXPECT_OK(ioctl(fd, SIOCGIFNAME, &r));
	EXPECT_STR(r.ifr_name, "lo");
	EXPECT_OK(ioctl(fd, SIOCGIFCONF, &conf));
	EXPECT(conf.ifc_len >= (int)sizeof(r));
	strcpy(r.ifr_name, "nothing0");
	EXPECT_ERRNO(ioctl(fd, SIOCGIFFLAGS, &r), ENODEV);
	EXPECT_ERRNO(ioctl(fd, SIOCGIFFLAGS, bad_pointer), EFAULT);
}

static int net_write(const char *name, const char *text)
{
	char path[80];

	snprintf(path, sizeof(path), "/proc/sys/net/%s", name);
	int fd = EXPECT_OK(open(path, O_WRONLY));
	int err = write(fd, text, strlen(text)) < 0 ? errno : 0;

	close(fd);
	return err;
}

TEST(inet_limits_are_the_namespaces)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	socklen_t len = sizeof(a);

	if (unshare(CLONE_NEWNET))
		test_skip("no CAP_SYS_ADMIN");
	EXPECT_EQ(net_write("ipv4/ip_local_port_range", "40000 40001"), 0);
	EXPECT_EQ(net_write("ipv4/ip_local_port_range", "40001 40000"), EINVAL);
	EXPECT_EQ(net_write("ipv4/ip_local_port_range", "0 70000"), EINVAL);
	for (int i = 0; i < 3; i++) {
		int fd = EXPECT_OK(socket(AF_INET, SOCK_DGRAM, 0));
		a.sin_port = 0;
		if (i == 2) {
			EXPECT_ERRNO(bind(fd, (void *)&a, sizeof(a)), EADDRINUSE);
			break;
		}
		EXPECT_OK(bind(fd, (void *)&a, sizeof(a)));
		EXPECT_OK(getsockname(fd, (void *)&a, &len));
		EXPECT(ntohs(a.sin_port) == 40000 || ntohs(a.sin_port) == 40001);
	}
	EXPECT_EQ(net_write("core/somaxconn", "16"), 0);
	EXPECT_EQ(net_write("core/somaxconn", "-1"), EINVAL);
	EXPECT_EQ(net_write("ipv4/ip_unprivileged_port_start", "65536"), EINVAL);
	EXPECT_EQ(net_write("ipv4/ip_unprivileged_port_start", "80"), 0);
	EXPECT_OK(setuid(1000));
	a.sin_port = htons(79);
	EXPECT_ERRNO(bind(socket(AF_INET, SOCK_STREAM, 0), (void *)&a, sizeof(a)), EACCES);
	a.sin_port = htons(80);
	int fd = EXPECT_OK(socket(AF_INET, SOCK_STREAM, 0));
	EXPECT_OK(bind(fd, (void *)&a, sizeof(a)));
}
