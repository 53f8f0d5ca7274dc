/* Unix sockets. */
#include "tests/compat/compat.h"

#include <poll.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

static void pair(int type, int s[2])
{
	EXPECT_OK(socketpair(AF_UNIX, type, 0, s));
}

static socklen_t abstract(struct sockaddr_un *a, const char *name)
{
	memset(a, 0, sizeof(*a));
	a->sun_family = AF_UNIX;
	return offsetof(struct sockaddr_un, sun_path) + 1 +
	       snprintf(a->sun_path + 1, sizeof(a->sun_path) - 1, "%s.%d", name, getpid());
}

TEST(socketpair_fault_leaves_no_descriptor)
{
	int lowest = test_lowest_fd();
	EXPECT_ERRNO(syscall(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, BAD_ADDR), EFAULT);
	EXPECT_EQ(test_lowest_fd(), lowest);
}

TEST(socket_hostile_arguments)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int s = EXPECT_OK(socket(AF_UNIX, SOCK_STREAM, 0));
	EXPECT_ERRNO(socket(AF_UNIX, 99, 0), EINVAL);
	EXPECT_ERRNO(socket(AF_UNIX, SOCK_STREAM | 0x100, 0), EINVAL);
	EXPECT_ERRNO(socket(AF_UNIX, SOCK_STREAM, 99), EPROTONOSUPPORT);
	EXPECT_ERRNO(socket(-1, SOCK_STREAM, 0), EAFNOSUPPORT);
	EXPECT_ERRNO(bind(s, BAD_ADDR, 10), EFAULT);
	EXPECT_ERRNO(bind(s, (void *)&a, 200), EINVAL);
	EXPECT_ERRNO(bind(s, (void *)&a, 1), EINVAL);
	EXPECT_ERRNO(connect(s, BAD_ADDR, 10), EFAULT);
	EXPECT_ERRNO(syscall(SYS_getsockname, s, BAD_ADDR, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(syscall(SYS_sendmsg, s, BAD_ADDR, 0), EFAULT);
	EXPECT_ERRNO(syscall(SYS_recvmsg, s, BAD_ADDR, 0), EFAULT);
	EXPECT_ERRNO(listen(s, 1), EINVAL);
	EXPECT_ERRNO(listen(0, 1), ENOTSOCK);
	EXPECT_ERRNO(listen(-1, 1), EBADF);
	EXPECT_ERRNO(shutdown(s, 5), EINVAL);
	EXPECT_ERRNO(send(s, "x", 1, 0), ENOTCONN);
	EXPECT_ERRNO(recv(s, &a, 1, 0), EINVAL);
	EXPECT_ERRNO(accept(s, NULL, NULL), EINVAL);
}

TEST(unix_recv_fault_takes_nothing)
{
	int s[2];
	char buf[8];
	pair(SOCK_STREAM, s);
	EXPECT_EQ(write(s[0], "abcd", 4), 4);
	EXPECT_ERRNO(read(s[1], BAD_ADDR, 4), EFAULT);
	EXPECT_ERRNO(recv(s[1], BAD_ADDR, 4, MSG_PEEK), EFAULT);
	EXPECT_EQ(read(s[1], buf, 8), 4);
}

TEST(unix_stream_ends_and_sigpipe)
{
	int s[2];
	char c;
	pair(SOCK_STREAM, s);
	EXPECT_EQ(send(s[0], "x", 1, 0), 1);
	close(s[0]);
	EXPECT_EQ(recv(s[1], &c, 1, 0), 1);
	EXPECT_EQ(recv(s[1], &c, 1, 0), 0);
	EXPECT_ERRNO(send(s[1], "x", 1, MSG_NOSIGNAL), EPIPE);
	signal(SIGPIPE, SIG_IGN);
	EXPECT_ERRNO(write(s[1], "x", 1), EPIPE);
	struct pollfd p = {s[1], POLLIN | POLLRDHUP, 0};
	EXPECT_EQ(poll(&p, 1, 0), 1);
	EXPECT_EQ(p.revents & POLLHUP, POLLHUP);
}

TEST(unix_peek_dontwait_waitall)
{
	int s[2];
	char buf[8];
	pair(SOCK_STREAM, s);
	EXPECT_ERRNO(recv(s[1], buf, 8, MSG_DONTWAIT), EAGAIN);
	EXPECT_EQ(send(s[0], "abcd", 4, 0), 4);
	EXPECT_EQ(recv(s[1], buf, 2, MSG_PEEK), 2);
	pid_t pid = fork();
	if (pid == 0) {
		test_sleep_ms(30);
		_exit(send(s[0], "efgh", 4, 0) != 4);
	}
	EXPECT_EQ(recv(s[1], buf, 8, MSG_WAITALL), 8);
	EXPECT(!memcmp(buf, "abcdefgh", 8));
	waitpid(pid, NULL, 0);
}

TEST(unix_receive_timeout_is_eagain)
{
	struct timeval tv = {0, 30000}, got;
	socklen_t len = sizeof(got);
	int s[2];
	char c;
	pair(SOCK_STREAM, s);
	EXPECT_OK(setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	EXPECT_OK(getsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &got, &len));
	EXPECT(got.tv_sec == 0 && got.tv_usec >= 28000);
	EXPECT_ERRNO(recv(s[0], &c, 1, 0), EAGAIN);
	EXPECT_ERRNO(read(s[0], &c, 1), EAGAIN);
}

TEST(unix_full_stream_blocks_and_goes_on)
{
	enum { SIZE = 2 << 20 };
	int s[2], status;
	pair(SOCK_STREAM, s);
	pid_t pid = fork();
	if (pid == 0) {
		char *buf = calloc(1, SIZE);
		_exit(write(s[0], buf, SIZE) != SIZE);
	}
	close(s[0]);
	static char buf[50000];
	size_t all = 0;
	ssize_t n;
	while ((n = read(s[1], buf, sizeof(buf))) > 0)
		all += n;
	EXPECT_EQ(n, 0);
	EXPECT_EQ(all, SIZE);
	waitpid(pid, &status, 0);
	EXPECT_EQ(status, 0);
}

TEST(unix_datagrams_keep_borders)
{
	int s[2];
	char buf[8];
	pair(SOCK_DGRAM, s);
	EXPECT_EQ(send(s[0], "abcd", 4, 0), 4);
	EXPECT_EQ(send(s[0], "", 0, 0), 0);
	EXPECT_EQ(recv(s[1], buf, 2, MSG_TRUNC), 4);
	EXPECT_EQ(recv(s[1], buf, 8, 0), 0);
	struct iovec iov = {buf, 2};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	EXPECT_EQ(send(s[0], "xyz", 3, 0), 3);
	EXPECT_EQ(recvmsg(s[1], &m, 0), 2);
	EXPECT_EQ(m.msg_flags, MSG_TRUNC);
	EXPECT_ERRNO(send(s[0], buf, 10 << 20, 0), EMSGSIZE);
}

TEST(unix_seqpacket_has_borders_and_an_end)
{
	int s[2];
	char buf[8];
	pair(SOCK_SEQPACKET, s);
	EXPECT_EQ(send(s[0], "abc", 3, 0), 3);
	EXPECT_EQ(send(s[0], "de", 2, 0), 2);
	EXPECT_EQ(recv(s[1], buf, 8, 0), 3);
	EXPECT_EQ(recv(s[1], buf, 8, 0), 2);
	close(s[0]);
	EXPECT_EQ(recv(s[1], buf, 8, 0), 0);
}

/* Sends one byte with n copies of fd. */
static void send_fds(int s, int fd, int n)
{
	union {
		char buf[CMSG_SPACE(8 * sizeof(int))];
		struct cmsghdr align;
	} u;
	struct iovec iov = {"f", 1};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = u.buf,
			   .msg_controllen = CMSG_SPACE(n * sizeof(int))};
	memset(&u, 0, sizeof(u));
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(n * sizeof(int));
	for (int i = 0; i < n; i++)
		memcpy(CMSG_DATA(c) + i * sizeof(int), &fd, sizeof(int));
	EXPECT_EQ(sendmsg(s, &m, 0), 1);
}

/* Receives up to `room` descriptors; their number. */
static int recv_fds(int s, int *fds, int room, int flags, int *msg_flags)
{
	union {
		char buf[CMSG_SPACE(8 * sizeof(int))];
		struct cmsghdr align;
	} u;
	char b;
	struct iovec iov = {&b, 1};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = u.buf,
			   .msg_controllen = room ? CMSG_LEN(room * sizeof(int)) : 0};
	EXPECT_EQ(recvmsg(s, &m, flags), 1);
	*msg_flags = m.msg_flags;
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	if (!c)
		return 0;
	EXPECT_EQ(c->cmsg_type, SCM_RIGHTS);
	int n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	memcpy(fds, CMSG_DATA(c), n * sizeof(int));
	return n;
}

TEST(unix_rights_pass_open_files)
{
	int s[2], p[2], fds[8], flags;
	char c;
	pair(SOCK_STREAM, s);
	EXPECT_OK(pipe(p));
	send_fds(s[0], p[1], 2);
	close(p[1]);
	EXPECT_EQ(recv_fds(s[1], fds, 8, MSG_CMSG_CLOEXEC, &flags), 2);
	EXPECT_EQ(fcntl(fds[0], F_GETFD), FD_CLOEXEC);
	EXPECT_EQ(write(fds[1], "x", 1), 1);
	EXPECT_EQ(read(p[0], &c, 1), 1);
	close(fds[0]);
	close(fds[1]);
	EXPECT_EQ(read(p[0], &c, 1), 0);
}

TEST(unix_rights_without_room_are_closed)
{
	int s[2], p[2], fds[8], flags;
	char c;
	pair(SOCK_STREAM, s);
	EXPECT_OK(pipe(p));
	send_fds(s[0], p[1], 3);
	close(p[1]);
	EXPECT_EQ(recv_fds(s[1], fds, 1, 0, &flags), 1);
	EXPECT_EQ(flags & MSG_CTRUNC, MSG_CTRUNC);
	close(fds[0]);
	EXPECT_EQ(read(p[0], &c, 1), 0);
}

TEST(unix_rights_unread_are_closed_with_the_socket)
{
	int s[2], p[2];
	char c;
	pair(SOCK_STREAM, s);
	EXPECT_OK(pipe(p));
	send_fds(s[0], p[1], 1);
	close(p[1]);
	close(s[0]);
	close(s[1]);
	EXPECT_EQ(read(p[0], &c, 1), 0);
}

TEST(unix_rights_bad_descriptor_is_ebadf)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} u;
	struct iovec iov = {"f", 1};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = u.buf,
			   .msg_controllen = sizeof(u)};
	int s[2], bad = 9999;
	pair(SOCK_STREAM, s);
	memset(&u, 0, sizeof(u));
	u.align = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
	memcpy(CMSG_DATA(&u.align), &bad, sizeof(bad));
	EXPECT_ERRNO(sendmsg(s[0], &m, 0), EBADF);
	u.align.cmsg_len = 5;
	EXPECT_ERRNO(sendmsg(s[0], &m, 0), EINVAL);
	u.align.cmsg_len = 1000;
	EXPECT_ERRNO(sendmsg(s[0], &m, 0), EINVAL);
	m.msg_control = BAD_ADDR;
	EXPECT_ERRNO(sendmsg(s[0], &m, 0), EFAULT);
	m.msg_control = NULL;
	m.msg_controllen = 0;
	m.msg_iovlen = 5000;
	EXPECT_ERRNO(sendmsg(s[0], &m, 0), EMSGSIZE);
}

TEST(unix_passcred_and_peercred)
{
	struct ucred u;
	socklen_t len = sizeof(u);
	union {
		char buf[CMSG_SPACE(sizeof(struct ucred))];
		struct cmsghdr align;
	} cb;
	char b;
	struct iovec iov = {&b, 1};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = cb.buf,
			   .msg_controllen = sizeof(cb.buf)};
	int s[2], on = 1;
	pair(SOCK_STREAM, s);
	EXPECT_OK(getsockopt(s[0], SOL_SOCKET, SO_PEERCRED, &u, &len));
	EXPECT_EQ(u.pid, getpid());
	EXPECT_EQ(u.uid, geteuid());
	EXPECT_OK(setsockopt(s[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)));
	pid_t pid = fork();
	if (pid == 0)
		_exit(write(s[0], "x", 1) != 1);
	EXPECT_EQ(recvmsg(s[1], &m, 0), 1);
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	EXPECT(c && c->cmsg_type == SCM_CREDENTIALS);
	memcpy(&u, CMSG_DATA(c), sizeof(u));
	EXPECT_EQ(u.pid, pid);
	EXPECT_EQ(u.uid, getuid());
	waitpid(pid, NULL, 0);
}

TEST(unix_abstract_names_connect)
{
	struct sockaddr_un a, peer;
	socklen_t len = abstract(&a, "srv"), plen = sizeof(peer);
	char buf[4];
	int l = EXPECT_OK(socket(AF_UNIX, SOCK_STREAM, 0));
	int c = EXPECT_OK(socket(AF_UNIX, SOCK_STREAM, 0));
	EXPECT_ERRNO(connect(c, (void *)&a, len), ECONNREFUSED);
	EXPECT_OK(bind(l, (void *)&a, len));
	EXPECT_ERRNO(connect(c, (void *)&a, len), ECONNREFUSED);
	EXPECT_OK(listen(l, 5));
	EXPECT_OK(connect(c, (void *)&a, len));
	EXPECT_ERRNO(connect(c, (void *)&a, len), EISCONN);
	int s = EXPECT_OK(accept4(l, (void *)&peer, &plen, SOCK_CLOEXEC));
	EXPECT_EQ(plen, 2);
	EXPECT_EQ(fcntl(s, F_GETFD), FD_CLOEXEC);
	EXPECT_EQ(write(c, "hi", 2), 2);
	EXPECT_EQ(read(s, buf, 4), 2);
	plen = sizeof(peer);
	EXPECT_OK(getpeername(c, (void *)&peer, &plen));
	EXPECT_EQ(plen, len);
	EXPECT(!memcmp(&a, &peer, len));
	int v;
	socklen_t vlen = sizeof(v);
	EXPECT_OK(getsockopt(l, SOL_SOCKET, SO_ACCEPTCONN, &v, &vlen));
	EXPECT_EQ(v, 1);
	int l2 = EXPECT_OK(socket(AF_UNIX, SOCK_STREAM, 0));
	EXPECT_ERRNO(bind(l2, (void *)&a, len), EADDRINUSE);
	close(l);
	EXPECT_OK(bind(l2, (void *)&a, len));
}

TEST(unix_path_names_connect)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX}, got;
	socklen_t glen = sizeof(got);
	struct stat st;
	int status;
	if (strlen(test_dir()) > 90)
		test_skip("the directory's name is too long for an address");
	snprintf(a.sun_path, sizeof(a.sun_path), "%s/s", test_dir());
	int l = EXPECT_OK(socket(AF_UNIX, SOCK_STREAM, 0));
	EXPECT_OK(bind(l, (void *)&a, sizeof(a)));
	EXPECT_OK(stat(a.sun_path, &st));
	EXPECT(S_ISSOCK(st.st_mode));
	EXPECT_ERRNO(open(a.sun_path, O_RDWR), ENXIO);
	EXPECT_OK(getsockname(l, (void *)&got, &glen));
	EXPECT_EQ(glen, offsetof(struct sockaddr_un, sun_path) + strlen(a.sun_path) + 1);
	EXPECT_OK(listen(l, 5));
	int l2 = EXPECT_OK(socket(AF_UNIX, SOCK_STREAM, 0));
	EXPECT_ERRNO(bind(l2, (void *)&a, sizeof(a)), EADDRINUSE);
	pid_t pid = fork();
	if (pid == 0) {
		char buf[4];
		int c = socket(AF_UNIX, SOCK_STREAM, 0);
		if (connect(c, (void *)&a, sizeof(a)) || write(c, "ping", 4) != 4)
			_exit(1);
		_exit(read(c, buf, 4) != 4);
	}
	char buf[8];
	int s = EXPECT_OK(accept(l, NULL, NULL));
	EXPECT_EQ(read(s, buf, 8), 4);
	EXPECT_EQ(write(s, "pong", 4), 4);
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	int d = EXPECT_OK(socket(AF_UNIX, SOCK_DGRAM, 0));
	EXPECT_ERRNO(connect(d, (void *)&a, sizeof(a)), EPROTOTYPE);
	close(l);
	int c = EXPECT_OK(socket(AF_UNIX, SOCK_STREAM, 0));
	EXPECT_ERRNO(connect(c, (void *)&a, sizeof(a)), ECONNREFUSED);
	EXPECT_OK(unlink(a.sun_path));
	EXPECT_ERRNO(connect(c, (void *)&a, sizeof(a)), ENOENT);
}

TEST(unix_datagram_names_and_autobind)
{
	struct sockaddr_un a, from;
	socklen_t len = abstract(&a, "dg"), flen = sizeof(from);
	sa_family_t family = AF_UNIX;
	char buf[8];
	int r = EXPECT_OK(socket(AF_UNIX, SOCK_DGRAM, 0));
	int s = EXPECT_OK(socket(AF_UNIX, SOCK_DGRAM, 0));
	EXPECT_OK(bind(r, (void *)&a, len));
	EXPECT_OK(bind(s, (void *)&family, sizeof(family)));
	EXPECT_EQ(sendto(s, "hey", 3, 0, (void *)&a, len), 3);
	EXPECT_EQ(recvfrom(r, buf, 8, 0, (void *)&from, &flen), 3);
	EXPECT_EQ(flen, 2 + 6);
	EXPECT_EQ(from.sun_path[0], 0);
	EXPECT_EQ(sendto(r, "yo", 2, 0, (void *)&from, flen), 2);
	EXPECT_EQ(recv(s, buf, 8, 0), 2);
	EXPECT_ERRNO(send(s, "x", 1, 0), ENOTCONN);
	close(r);
	EXPECT_ERRNO(sendto(s, "hey", 3, 0, (void *)&a, len), ECONNREFUSED);
}

TEST(unix_connect_blocks_on_a_full_backlog)
{
	struct sockaddr_un a;
	socklen_t len = abstract(&a, "full");
	int status, l = EXPECT_OK(socket(AF_UNIX, SOCK_STREAM, 0));
	EXPECT_OK(bind(l, (void *)&a, len));
	EXPECT_OK(listen(l, 0));
	int c1 = EXPECT_OK(socket(AF_UNIX, SOCK_STREAM, 0));
	int c2 = EXPECT_OK(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
	EXPECT_OK(connect(c1, (void *)&a, len));
	EXPECT_ERRNO(connect(c2, (void *)&a, len), EAGAIN);
	pid_t pid = fork();
	if (pid == 0) {
		int c = socket(AF_UNIX, SOCK_STREAM, 0);
		_exit(connect(c, (void *)&a, len) != 0);
	}
	test_sleep_ms(30);
	EXPECT_OK(accept(l, NULL, NULL));
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	EXPECT_OK(accept(l, NULL, NULL));
}

TEST(unix_shutdown_of_one_direction)
{
	int s[2];
	char c;
	pair(SOCK_STREAM, s);
	EXPECT_OK(shutdown(s[0], SHUT_WR));
	EXPECT_EQ(recv(s[1], &c, 1, 0), 0);
	EXPECT_EQ(send(s[1], "x", 1, 0), 1);
	EXPECT_EQ(recv(s[0], &c, 1, 0), 1);
	EXPECT_ERRNO(send(s[0], "x", 1, MSG_NOSIGNAL), EPIPE);
}

TEST(unix_fionread_and_options)
{
	int s[2], n;
	socklen_t len = sizeof(n);
	pair(SOCK_STREAM, s);
	EXPECT_EQ(send(s[0], "abc", 3, 0), 3);
	EXPECT_OK(ioctl(s[1], FIONREAD, &n));
	EXPECT_EQ(n, 3);
	EXPECT_OK(getsockopt(s[0], SOL_SOCKET, SO_TYPE, &n, &len));
	EXPECT_EQ(n, SOCK_STREAM);
	EXPECT_OK(getsockopt(s[0], SOL_SOCKET, SO_DOMAIN, &n, &len));
	EXPECT_EQ(n, AF_UNIX);
	EXPECT_OK(getsockopt(s[0], SOL_SOCKET, SO_ERROR, &n, &len));
	EXPECT_EQ(n, 0);
	EXPECT_ERRNO(getsockopt(s[0], SOL_SOCKET, 9999, &n, &len), ENOPROTOOPT);
	EXPECT_ERRNO(getsockopt(s[0], SOL_SOCKET, SO_TYPE, BAD_ADDR, &len), EFAULT);
	EXPECT_ERRNO(setsockopt(s[0], SOL_SOCKET, SO_SNDBUF, &n, 2), EINVAL);
	EXPECT_ERRNO(lseek(s[0], 0, SEEK_SET), ESPIPE);
}

TEST(unix_many_messages_in_one_call)
{
	int s[2];
	char a[4], b[4];
	struct iovec w[2] = {{"one", 3}, {"two!", 4}}, r[2] = {{a, 4}, {b, 4}};
	struct mmsghdr m[2] = {{.msg_hdr = {.msg_iov = w, .msg_iovlen = 1}},
			       {.msg_hdr = {.msg_iov = w + 1, .msg_iovlen = 1}}};
	struct mmsghdr g[2] = {{.msg_hdr = {.msg_iov = r, .msg_iovlen = 1}},
			       {.msg_hdr = {.msg_iov = r + 1, .msg_iovlen = 1}}};
	pair(SOCK_DGRAM, s);
	EXPECT_EQ(sendmmsg(s[0], m, 2, 0), 2);
	EXPECT_EQ(m[1].msg_len, 4);
	EXPECT_EQ(recvmmsg(s[1], g, 2, 0, NULL), 2);
	EXPECT_EQ(g[0].msg_len, 3);
	EXPECT(!memcmp(b, "two!", 4));
	EXPECT_EQ(sendmmsg(s[0], m, 1, 0), 1);
	EXPECT_EQ(recvmmsg(s[1], g, 2, MSG_WAITFORONE, NULL), 1);
}
