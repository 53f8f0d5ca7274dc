/* rtnetlink(7), as far as it tells of lo. */
#include <ifaddrs.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "compat.h"

static int route_socket(void)
{
	return (int)EXPECT_OK(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
}

/* Sends a request and receives the first message of the answer. */
static struct nlmsghdr *ask(int fd, uint16_t type, uint16_t flags, int index)
{
	static union {
		struct nlmsghdr h;
		char room[32768];
	} answer;
	struct {
		struct nlmsghdr h;
		struct ifinfomsg body;
	} req = {.h = {sizeof(req), type, NLM_F_REQUEST | flags, 7, 0},
		 .body = {.ifi_index = index}};

	EXPECT_EQ(send(fd, &req, sizeof(req), 0), sizeof(req));
	ssize_t n = EXPECT_OK(recv(fd, &answer, sizeof(answer), 0));
	EXPECT(NLMSG_OK(&answer.h, n));
	EXPECT_EQ(answer.h.nlmsg_seq, 7);
	return &answer.h;
}

static int error_of(const struct nlmsghdr *h)
{
	EXPECT_EQ(h->nlmsg_type, NLMSG_ERROR);
	return ((const struct nlmsgerr *)NLMSG_DATA(h))->error;
}

TEST(netlink_tells_of_lo)
{
	int fd = route_socket();
	struct nlmsghdr *h = ask(fd, RTM_GETLINK, 0, 1);
	struct ifinfomsg *body = NLMSG_DATA(h);

	EXPECT_EQ(h->nlmsg_type, RTM_NEWLINK);
	EXPECT_EQ(body->ifi_index, 1);
	EXPECT(body->ifi_flags & IFF_LOOPBACK);
	h = ask(fd, RTM_GETLINK, NLM_F_DUMP, 0);
	EXPECT_EQ(h->nlmsg_type, RTM_NEWLINK);
	EXPECT(h->nlmsg_flags & NLM_F_MULTI);
}

TEST(netlink_errors)
{
	int fd = route_socket();
	char c;

	EXPECT_EQ(error_of(ask(fd, RTM_GETLINK, 0, 4711)), -ENODEV);
	EXPECT_EQ(error_of(ask(fd, RTM_MAX + 1, 0, 0)), -EOPNOTSUPP);
	EXPECT_ERRNO(recv(fd, &c, 1, MSG_DONTWAIT), EAGAIN);
	EXPECT_ERRNO(socket(AF_NETLINK, SOCK_STREAM, 0), ESOCKTNOSUPPORT);
	EXPECT_ERRNO(socket(AF_NETLINK, SOCK_RAW, 77), EPROTONOSUPPORT);
}

TEST(netlink_names)
{
	struct sockaddr_nl a = {.nl_family = AF_NETLINK}, got;
	socklen_t n = sizeof(got);
	int fd = route_socket(), other = route_socket();

	EXPECT_OK(bind(fd, (struct sockaddr *)&a, sizeof(a)));
	EXPECT_OK(getsockname(fd, (struct sockaddr *)&got, &n));
	EXPECT_EQ(n, sizeof(got));
	EXPECT_EQ(got.nl_pid, getpid());
	EXPECT_OK(bind(other, (struct sockaddr *)&a, sizeof(a)));
	EXPECT_OK(getsockname(other, (struct sockaddr *)&got, &n));
	EXPECT(got.nl_pid != (uint32_t)getpid());
	a.nl_pid = (uint32_t)getpid();
	close(other);
	other = route_socket();
	EXPECT_ERRNO(bind(other, (struct sockaddr *)&a, sizeof(a)), EADDRINUSE);
	EXPECT_ERRNO(bind(other, (struct sockaddr *)&a, 4), EINVAL);
}

TEST(netlink_changes_need_privilege)
{
	int status;
	pid_t pid = EXPECT_OK(fork());

	if (!pid) {
		EXPECT_OK(syscall(SYS_setresuid, 65534, 65534, 65534));
		EXPECT_EQ(error_of(ask(route_socket(), RTM_NEWLINK, NLM_F_ACK, 1)), -EPERM);
		_exit(0);
	}
	EXPECT_OK(waitpid(pid, &status, 0));
	EXPECT_EQ(status, 0);
}

TEST(netlink_serves_libc)
{
	struct ifaddrs *all;
	bool v4 = false;
	char name[IF_NAMESIZE];

	EXPECT_OK(getifaddrs(&all));
	for (struct ifaddrs *i = all; i; i = i->ifa_next)
		if (i->ifa_addr && i->ifa_addr->sa_family == AF_INET && !strcmp(i->ifa_name, "lo"))
			v4 = true;
	freeifaddrs(all);
	EXPECT(v4);
	EXPECT_EQ(if_nametoindex("lo"), 1);
	EXPECT_STR(if_indextoname(1, name), "lo");
	struct if_nameindex *list = if_nameindex();
	EXPECT(list && list[0].if_index == 1);
	if_freenameindex(list);
}
