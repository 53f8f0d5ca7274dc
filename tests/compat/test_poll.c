/* Waiting for files: poll(2), select(2), epoll(7). */
#include "compat.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/time.h>

static int64_t now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void nothing(int sig)
{
	(void)sig;
}

static void alarm_in(int ms, int flags)
{
	struct sigaction sa = {.sa_handler = nothing, .sa_flags = flags};
	struct itimerval it = {.it_value = {0, ms * 1000}};
	EXPECT_OK(sigaction(SIGALRM, &sa, NULL));
	EXPECT_OK(setitimer(ITIMER_REAL, &it, NULL));
}

TEST(poll_reports_what_is)
{
	int p[2], fd = test_file("f", 0);
	EXPECT_OK(pipe(p));
	struct pollfd fds[] = {
		{p[0], POLLIN, 0}, {p[1], POLLOUT, 0}, {fd, POLLIN | POLLOUT, 0},
		{999, POLLIN, 0},  {-1, POLLIN, 77},
	};
	EXPECT_EQ(poll(fds, 5, -1), 3);
	EXPECT_EQ(fds[0].revents, 0);
	EXPECT_EQ(fds[1].revents, POLLOUT);
	EXPECT_EQ(fds[2].revents, POLLIN | POLLOUT);
	EXPECT_EQ(fds[3].revents, POLLNVAL);
	EXPECT_EQ(fds[4].revents, 0);
	EXPECT_EQ(poll(fds, 1, 0), 0);
	EXPECT_EQ(write(p[1], "x", 1), 1);
	EXPECT_EQ(poll(fds, 1, -1), 1);
	EXPECT_EQ(fds[0].revents, POLLIN);
	close(p[1]);
	EXPECT_EQ(poll(fds, 1, -1), 1);
	EXPECT_EQ(fds[0].revents, POLLIN | POLLHUP);
	EXPECT_ERRNO(poll(BAD_ADDR, 1, 0), EFAULT);
	struct rlimit lim;
	EXPECT_OK(getrlimit(RLIMIT_NOFILE, &lim));
	EXPECT_ERRNO(syscall(SYS_poll, fds, (unsigned)lim.rlim_cur + 1, 0), EINVAL);
	close(p[0]);
	close(fd);
}

TEST(poll_times_out_and_wakes)
{
	int p[2];
	char c;
	EXPECT_OK(pipe(p));
	struct pollfd pfd = {p[0], POLLIN, 0};
	int64_t start = now_ms();
	EXPECT_EQ(poll(&pfd, 1, 50), 0);
	EXPECT(now_ms() - start >= 49);
	EXPECT_EQ(poll(NULL, 0, 10), 0);
	pid_t pid = EXPECT_OK(fork());
	if (!pid) {
		test_sleep_ms(30);
		EXPECT_EQ(write(p[1], "x", 1), 1);
		_exit(0);
	}
	EXPECT_EQ(poll(&pfd, 1, 5000), 1);
	EXPECT_EQ(read(p[0], &c, 1), 1);
	EXPECT_OK(waitpid(pid, NULL, 0));
	struct pollfd many[100];
	for (int i = 0; i < 100; i++)
		many[i] = pfd;
	EXPECT_EQ(poll(many, 100, 10), 0);
	EXPECT_EQ(write(p[1], "x", 1), 1);
	EXPECT_EQ(poll(many, 100, 10), 100);
}

TEST(poll_is_interrupted_whatever_sa_restart_says)
{
	int p[2];
	EXPECT_OK(pipe(p));
	struct pollfd pfd = {p[0], POLLIN, 0};
	alarm_in(30, SA_RESTART);
	EXPECT_ERRNO(poll(&pfd, 1, 5000), EINTR);
	/* Ignored signals do not interrupt it. */
	struct itimerval it = {.it_value = {0, 20000}};
	signal(SIGALRM, SIG_IGN);
	EXPECT_OK(setitimer(ITIMER_REAL, &it, NULL));
	int64_t start = now_ms();
	EXPECT_EQ(poll(&pfd, 1, 80), 0);
	EXPECT(now_ms() - start >= 79);
}

TEST(ppoll_opens_the_mask_and_tells_the_time_left)
{
	int p[2];
	sigset_t block, empty;
	EXPECT_OK(pipe(p));
	struct pollfd pfd = {p[0], POLLIN, 0};
	sigemptyset(&empty);
	sigemptyset(&block);
	sigaddset(&block, SIGALRM);
	EXPECT_OK(sigprocmask(SIG_BLOCK, &block, NULL));
	alarm_in(10, 0);
	test_sleep_ms(30);
	struct timespec ts = {5, 0};
	EXPECT_ERRNO(syscall(SYS_ppoll, &pfd, 1, &ts, &empty, 8), EINTR);
	EXPECT(ts.tv_sec == 4 || (ts.tv_sec == 5 && !ts.tv_nsec));
	sigset_t now;
	EXPECT_OK(sigprocmask(SIG_BLOCK, NULL, &now));
	EXPECT(sigismember(&now, SIGALRM));
	ts = (struct timespec){0, 20000000};
	EXPECT_EQ(syscall(SYS_ppoll, &pfd, 1, &ts, NULL, 8), 0);
	EXPECT_EQ(ts.tv_sec, 0);
	EXPECT_EQ(ts.tv_nsec, 0);
	ts.tv_nsec = 1000000000;
	EXPECT_ERRNO(syscall(SYS_ppoll, &pfd, 1, &ts, NULL, 8), EINVAL);
	EXPECT_ERRNO(syscall(SYS_ppoll, &pfd, 1, NULL, &empty, 4), EINVAL);
	EXPECT_ERRNO(syscall(SYS_ppoll, &pfd, 1, BAD_ADDR, NULL, 8), EFAULT);
}

TEST(select_sets_and_counts)
{
	int p[2];
	fd_set rd, wr, ex;
	EXPECT_OK(pipe(p));
	EXPECT_EQ(write(p[1], "x", 1), 1);
	int n = (p[0] > p[1] ? p[0] : p[1]) + 1;
	FD_ZERO(&rd);
	FD_ZERO(&wr);
	FD_ZERO(&ex);
	FD_SET(p[0], &rd);
	FD_SET(p[1], &wr);
	FD_SET(p[1], &ex);
	EXPECT_EQ(select(n, &rd, &wr, &ex, NULL), 2);
	EXPECT(FD_ISSET(p[0], &rd) && FD_ISSET(p[1], &wr) && !FD_ISSET(p[1], &ex));
	char c;
	EXPECT_EQ(read(p[0], &c, 1), 1);
	struct timeval tv = {0, 30000};
	int64_t start = now_ms();
	EXPECT_EQ(select(n, &rd, NULL, NULL, &tv), 0);
	EXPECT(!FD_ISSET(p[0], &rd));
	EXPECT(now_ms() - start >= 29);
	EXPECT_EQ(tv.tv_sec + tv.tv_usec, 0);
	tv.tv_sec = -1;
	EXPECT_ERRNO(select(n, &rd, NULL, NULL, &tv), EINVAL);
	EXPECT_ERRNO(select(-1, &rd, NULL, NULL, NULL), EINVAL);
	EXPECT_ERRNO(select(n, BAD_ADDR, NULL, NULL, NULL), EFAULT);
	FD_SET(60, &rd);
	close(60);
	EXPECT_ERRNO(select(61, &rd, NULL, NULL, NULL), EBADF);
	/* The upper bits of the last word are not looked at, whatever n says about the rest. */
	FD_ZERO(&rd);
	FD_SET(63, &rd);
	tv = (struct timeval){0, 0};
	EXPECT_EQ(select(3, &rd, NULL, NULL, &tv), 0);
	close(p[1]);
	FD_ZERO(&rd);
	FD_SET(p[0], &rd);
	EXPECT_EQ(select(n, &rd, NULL, NULL, NULL), 1);
	alarm_in(20, SA_RESTART);
	EXPECT_ERRNO(select(0, NULL, NULL, NULL, NULL), EINTR);
}

/* ---- epoll ---- */

static int ep_add(int ep, int fd, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.fd = fd};
	return epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
}

TEST(epoll_arguments)
{
	int ep = EXPECT_OK(epoll_create1(EPOLL_CLOEXEC)), e = EXPECT_OK(eventfd(0, 0));
	int f = test_file("f", 0);
	struct epoll_event ev = {.events = EPOLLIN};
	EXPECT_EQ(fcntl(ep, F_GETFD), FD_CLOEXEC);
	EXPECT_ERRNO(epoll_create1(1), EINVAL);
	EXPECT_ERRNO(epoll_create(0), EINVAL);
	EXPECT_ERRNO(ep_add(ep, ep, EPOLLIN), EINVAL);
	EXPECT_ERRNO(ep_add(ep, f, EPOLLIN), EPERM);
	EXPECT_ERRNO(ep_add(ep, 999, EPOLLIN), EBADF);
	EXPECT_ERRNO(ep_add(999, e, EPOLLIN), EBADF);
	EXPECT_ERRNO(ep_add(e, ep, EPOLLIN), EINVAL);
	EXPECT_ERRNO(epoll_ctl(ep, 9, e, &ev), EINVAL);
	EXPECT_ERRNO(epoll_ctl(ep, EPOLL_CTL_ADD, e, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(epoll_ctl(ep, EPOLL_CTL_MOD, e, &ev), ENOENT);
	EXPECT_ERRNO(epoll_ctl(ep, EPOLL_CTL_DEL, e, NULL), ENOENT);
	EXPECT_OK(ep_add(ep, e, EPOLLIN));
	EXPECT_ERRNO(ep_add(ep, e, EPOLLIN), EEXIST);
	EXPECT_ERRNO(epoll_wait(ep, &ev, 0, 0), EINVAL);
	EXPECT_ERRNO(epoll_wait(e, &ev, 1, 0), EINVAL);
	EXPECT_ERRNO(epoll_wait(999, &ev, 1, 0), EBADF);
	EXPECT_EQ(epoll_wait(ep, &ev, 1, 0), 0);
	eventfd_write(e, 1);
	EXPECT_ERRNO(epoll_wait(ep, BAD_ADDR, 1, 0), EFAULT);
	EXPECT_EQ(epoll_wait(ep, &ev, 1, 0), 1);
}

TEST(epoll_triggers)
{
	int ep = EXPECT_OK(epoll_create1(0)), p[2];
	struct epoll_event ev;
	char c;
	EXPECT_OK(pipe(p));
	EXPECT_OK(ep_add(ep, p[0], EPOLLIN | EPOLLET));
	EXPECT_EQ(epoll_wait(ep, &ev, 1, 0), 0);
	EXPECT_EQ(write(p[1], "ab", 2), 2);
	EXPECT_EQ(epoll_wait(ep, &ev, 1, -1), 1);
	EXPECT_EQ(ev.events, EPOLLIN);
	EXPECT_EQ(ev.data.fd, p[0]);
	EXPECT_EQ(epoll_wait(ep, &ev, 1, 0), 0);
	EXPECT_EQ(write(p[1], "c", 1), 1);
	EXPECT_EQ(epoll_wait(ep, &ev, 1, 0), 1);
	ev = (struct epoll_event){.events = EPOLLIN, .data.u64 = 42};
	EXPECT_OK(epoll_ctl(ep, EPOLL_CTL_MOD, p[0], &ev));
	EXPECT_EQ(epoll_wait(ep, &ev, 1, 0), 1);
	EXPECT_EQ(ev.data.u64, 42);
	EXPECT_EQ(epoll_wait(ep, &ev, 1, 0), 1);
	for (int i = 0; i < 3; i++)
		EXPECT_EQ(read(p[0], &c, 1), 1);
	EXPECT_EQ(epoll_wait(ep, &ev, 1, 0), 0);
	ev.events = EPOLLIN | EPOLLONESHOT;
	EXPECT_OK(epoll_ctl(ep, EPOLL_CTL_MOD, p[0], &ev));
	EXPECT_EQ(write(p[1], "c", 1), 1);
	EXPECT_EQ(epoll_wait(ep, &ev, 1, 0), 1);
	EXPECT_EQ(epoll_wait(ep, &ev, 1, 0), 0);
	ev.events = EPOLLIN;
	EXPECT_OK(epoll_ctl(ep, EPOLL_CTL_MOD, p[0], &ev));
	close(p[1]);
	EXPECT_EQ(epoll_wait(ep, &ev, 1, 0), 1);
	EXPECT_EQ(ev.events, EPOLLIN | EPOLLHUP);
	close(p[0]);
	EXPECT_EQ(epoll_wait(ep, &ev, 1, 0), 0);
}

TEST(epoll_waits_wakes_and_is_interrupted)
{
	int ep = EXPECT_OK(epoll_create1(0)), p[2];
	struct epoll_event ev[8];
	EXPECT_OK(pipe(p));
	EXPECT_OK(ep_add(ep, p[0], EPOLLIN));
	int64_t start = now_ms();
	EXPECT_EQ(epoll_wait(ep, ev, 8, 40), 0);
	EXPECT(now_ms() - start >= 39);
	alarm_in(20, SA_RESTART);
	EXPECT_ERRNO(epoll_wait(ep, ev, 8, -1), EINTR);
	pid_t pid = EXPECT_OK(fork());
	if (!pid) {
		test_sleep_ms(30);
		EXPECT_EQ(write(p[1], "x", 1), 1);
		_exit(0);
	}
	EXPECT_EQ(epoll_wait(ep, ev, 8, 5000), 1);
	EXPECT_OK(waitpid(pid, NULL, 0));
	struct timespec ts = {0, 0};
	EXPECT_EQ(syscall(SYS_epoll_pwait2, ep, ev, 8, &ts, NULL, 0), 1);
	int outer = EXPECT_OK(epoll_create1(0));
	EXPECT_OK(ep_add(outer, ep, EPOLLIN));
	EXPECT_ERRNO(ep_add(ep, outer, EPOLLIN), ELOOP);
	EXPECT_EQ(epoll_wait(outer, ev, 8, 0), 1);
	EXPECT_EQ(ev[0].data.fd, ep);
	char c;
	EXPECT_EQ(read(p[0], &c, 1), 1);
	EXPECT_EQ(epoll_wait(outer, ev, 8, 0), 0);
	struct pollfd pfd = {outer, POLLIN, 0};
	EXPECT_EQ(poll(&pfd, 1, 0), 0);
	EXPECT_EQ(write(p[1], "x", 1), 1);
	EXPECT_EQ(poll(&pfd, 1, 1000), 1);
}
