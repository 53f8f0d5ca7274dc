/*
 * Calls that end by storing what they found.  However late a sandbox stores it, it is there when
 * the call returns or when a handler looks, and a place that cannot be written is EFAULT.
 */
#include "tests/compat/compat.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/utsname.h>

#define WARM 200
#define PAGE 4096

static int epoll_fd, pair[2], dir_fd, name_fd;

static long do_epoll(void *p)
{
	return syscall(SYS_epoll_wait, epoll_fd, p, 4, 0);
}
static long do_recv(void *p)
{
	return syscall(SYS_recvfrom, pair[0], p, 64, MSG_PEEK, NULL, NULL);
}
static long do_recvmsg(void *p)
{
	struct iovec iov = {p, 64};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_controllen = 0, .msg_flags = -1};
	long n = syscall(SYS_recvmsg, pair[0], &m, MSG_PEEK);

	if (n >= 0 && (m.msg_flags || m.msg_controllen || m.msg_iovlen != 1))
		FAIL("the header says %#x", (unsigned)m.msg_flags);
	return n;
}
static long do_getdents(void *p)
{
	lseek(dir_fd, 0, SEEK_SET);
	return syscall(SYS_getdents64, dir_fd, p, 512);
}
static long do_clock(void *p)
{
	return syscall(SYS_clock_gettime, CLOCK_PROCESS_CPUTIME_ID, p);
}
static long do_rlimit(void *p)
{
	return syscall(SYS_prlimit64, 0, RLIMIT_STACK, NULL, p);
}
static long do_uname(void *p)
{
	return syscall(SYS_uname, p);
}
static long do_getcwd(void *p)
{
	return syscall(SYS_getcwd, p, 100);
}
static long do_name(void *p)
{
	socklen_t len = sizeof(struct sockaddr_un);
	long r = syscall(SYS_getsockname, name_fd, p, &len);

	if (!r && len != sizeof(sa_family_t) + 5)
		FAIL("the name has %d bytes", (int)len);
	return r;
}
static long do_sockopt(void *p)
{
	socklen_t len = 4;
	return syscall(SYS_getsockopt, name_fd, SOL_SOCKET, SO_TYPE, p, &len);
}
static long do_action(void *p)
{
	return syscall(SYS_rt_sigaction, SIGUSR2, NULL, p, 8);
}

static const struct {
	const char *name;
	long (*fn)(void *);
	bool varies;
} calls[] = {{"epoll_wait", do_epoll, false},	{"recvfrom", do_recv, false},
	     {"recvmsg", do_recvmsg, false},	{"getdents64", do_getdents, false},
	     {"clock_gettime", do_clock, true}, {"prlimit64", do_rlimit, false},
	     {"uname", do_uname, false},	{"getcwd", do_getcwd, false},
	     {"getsockname", do_name, false},	{"getsockopt", do_sockopt, false},
	     {"rt_sigaction", do_action, false}};
#define CALLS ((int)(sizeof(calls) / sizeof(*calls)))

static void set_up(void)
{
	struct epoll_event ev = {.events = EPOLLOUT, .data.u64 = 0x1122334455667788};
	struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "name"};

	test_dir();
	EXPECT_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	EXPECT_EQ(write(pair[1], "0123456789abcdefghijklmnopqrstuv", 32), 32);
	epoll_fd = (int)EXPECT_OK(epoll_create1(0));
	EXPECT_OK(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, pair[1], &ev));
	name_fd = (int)EXPECT_OK(socket(AF_UNIX, SOCK_STREAM, 0));
	EXPECT_OK(bind(name_fd, (struct sockaddr *)&a, sizeof(sa_family_t) + 5));
	dir_fd = (int)EXPECT_OK(open(".", O_RDONLY));
}

static char *pages(int n)
{
	char *p = mmap(NULL, (size_t)n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);

	EXPECT(p != MAP_FAILED);
	return p;
}

TEST(results_of_frequent_calls_are_there_at_their_return)
{
	char *p = pages(2);

	set_up();
	for (int c = 0; c < CALLS; c++) {
		char first[512];
		long ret = EXPECT_OK(calls[c].fn(memset(p, 0x55, PAGE)));
		memcpy(first, p, sizeof(first));
		EXPECT(memchr(first, 0x55, sizeof(first)) != first);
		/* Also where a page ends, and on a page that was never touched. */
		for (int i = 0; i < WARM; i++) {
			char *at = i % 2 ? p : p + PAGE - 16;
			if (i % 50 == 0)
				EXPECT_OK(madvise(p, 2 * PAGE, MADV_DONTNEED));
			memset(at, 0x55, sizeof(first));
			if (calls[c].fn(at) != ret)
				FAIL("%s gives something else, errno %d", calls[c].name, errno);
			if (!calls[c].varies && memcmp(at, first, sizeof(first)))
				FAIL("%s stores something else", calls[c].name);
		}
	}
}

TEST(frequent_calls_fault_where_they_cannot_store)
{
	char *p = pages(3);

	set_up();
	EXPECT_OK(mprotect(p + PAGE, PAGE, PROT_READ));
	EXPECT_OK(munmap(p + 2 * PAGE, PAGE));
	for (int c = 0; c < CALLS; c++) {
		for (int i = 0; i < WARM; i++)
			EXPECT_OK(calls[c].fn(p));
		for (int i = 0; i < 3; i++) {
			char *at = i == 0 ? BAD_ADDR : p + (size_t)i * PAGE;
			errno = 0;
			long ret = calls[c].fn(at);
			if (ret != -1 || errno != EFAULT)
				FAIL("%s gives %ld, errno %d", calls[c].name, ret, errno);
		}
	}
	EXPECT_EQ(p[PAGE], 0);
}

static _Atomic bool stop;
static volatile sig_atomic_t looked;

static void look(int signo)
{
	(void)signo;
	looked++;
}

static void *send_numbers(void *arg)
{
	for (uint64_t i = 0; !atomic_load(&stop); i++)
		if (send(pair[1], &i, sizeof(i), MSG_NOSIGNAL) != sizeof(i))
			break;
	return arg;
}

TEST(bytes_received_between_signals_are_the_next_ones)
{
	const struct itimerval often = {{0, 2000}, {0, 2000}}, never = {{0, 0}, {0, 0}};
	const struct sigaction sa = {.sa_handler = look, .sa_flags = SA_RESTART};
	pthread_t t;

	EXPECT_OK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
	EXPECT_OK(sigaction(SIGALRM, &sa, NULL));
	EXPECT_EQ(pthread_create(&t, NULL, send_numbers, NULL), 0);
	EXPECT_OK(setitimer(ITIMER_REAL, &often, NULL));
	for (uint64_t i = 0, got; i < 20000; i++) {
		got = ~0ULL;
		EXPECT_EQ(recv(pair[0], &got, sizeof(got), 0), (ssize_t)sizeof(got));
		EXPECT_EQ(got, i);
	}
	EXPECT_OK(setitimer(ITIMER_REAL, &never, NULL));
	atomic_store(&stop, true);
	EXPECT_OK(shutdown(pair[0], SHUT_RDWR));
	EXPECT_EQ(pthread_join(t, NULL), 0);
	EXPECT(looked > 0);
}

static void *protect_often(void *arg)
{
	while (!atomic_load(&stop)) {
		mprotect(arg, PAGE, PROT_READ);
		mprotect(arg, PAGE, PROT_READ | PROT_WRITE);
	}
	return NULL;
}

TEST(a_place_that_is_taken_away_during_calls_gets_all_or_a_fault)
{
	char *p = pages(1);
	pthread_t t;
	int stored = 0;

	set_up();
	EXPECT_EQ(pthread_create(&t, NULL, protect_often, p), 0);
	for (int i = 0; i < 20000 || (!stored && i < 2000000); i++) {
		long ret = do_epoll(p);
		if (ret == 1) {
			uint64_t data;
			memcpy(&data, p + 4, sizeof(data));
			EXPECT_EQ(data, 0x1122334455667788);
			stored++;
		} else {
			EXPECT(ret == -1 && errno == EFAULT);
		}
	}
	atomic_store(&stop, true);
	EXPECT_EQ(pthread_join(t, NULL), 0);
	EXPECT(stored > 0);
}
