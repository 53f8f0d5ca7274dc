/* O_ASYNC, F_SETOWN, F_SETSIG: fcntl(2), "Managing signals". */
#include <poll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "compat.h"

static volatile sig_atomic_t seen;
static siginfo_t last;

static void on_signal(int sig, siginfo_t *si, void *uc)
{
	(void)sig, (void)uc;
	last = *si;
	seen++;
}

static void catch_signal(int sig)
{
	struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};

	EXPECT(!sigaction(sig, &sa, NULL));
	seen = 0;
}

static void async(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFL);
	EXPECT(!fcntl(fd, F_SETFL, on ? flags | O_ASYNC : flags & ~O_ASYNC));
}

static void wait_seen(int n)
{
	for (int i = 0; seen < n && i < 500; i++)
		test_sleep_ms(10);
	EXPECT_EQ(seen, n);
}

TEST(sigio_of_a_pipe_comes_with_the_write)
{
	int p[2];
	char c;

	EXPECT(!pipe(p));
	catch_signal(SIGIO);
	async(p[0], true);
	EXPECT_EQ(write(p[1], "x", 1), 1);
	EXPECT_EQ(seen, 0); /* nobody owns it */
	EXPECT_EQ(read(p[0], &c, 1), 1);
	EXPECT(!fcntl(p[0], F_SETOWN, getpid()));
	EXPECT_EQ(fcntl(p[0], F_GETOWN), getpid());
	EXPECT_EQ(write(p[1], "x", 1), 1);
	EXPECT_EQ(seen, 1); /* before write returned */
	EXPECT_EQ(last.si_code, SI_KERNEL);
	EXPECT_EQ(read(p[0], &c, 1), 1);
	async(p[0], false);
	EXPECT_EQ(write(p[1], "x", 1), 1);
	EXPECT_EQ(seen, 1);
}

TEST(sigio_with_setsig_says_which_and_why)
{
	int s[2];

	EXPECT(!socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	catch_signal(SIGRTMIN + 1);
	EXPECT(!fcntl(s[0], F_SETSIG, SIGRTMIN + 1));
	EXPECT_EQ(fcntl(s[0], F_GETSIG), SIGRTMIN + 1);
	EXPECT(!fcntl(s[0], F_SETOWN, getpid()));
	async(s[0], true);
	EXPECT_EQ(write(s[1], "x", 1), 1);
	wait_seen(1);
	EXPECT_EQ(last.si_code, POLL_IN);
	EXPECT_EQ(last.si_fd, s[0]);
	EXPECT_EQ(last.si_band, POLLIN | POLLRDNORM);
	EXPECT_ERRNO(fcntl(s[0], F_SETSIG, 65), EINVAL);
	seen = 0;
	close(s[1]);
	for (int i = 0; last.si_code != POLL_HUP && i < 500; i++)
		test_sleep_ms(10);
	EXPECT_EQ(last.si_code, POLL_HUP);
	EXPECT_EQ(last.si_band, POLLHUP | POLLERR);
}

TEST(sigio_by_ioctl_and_to_a_group)
{
	int s[2], on = 1;

	EXPECT(!setpgid(0, 0));
	EXPECT(!socketpair(AF_UNIX, SOCK_DGRAM, 0, s));
	catch_signal(SIGIO);
	EXPECT(!fcntl(s[0], F_SETOWN, -getpgrp()));
	EXPECT(!ioctl(s[0], FIOASYNC, &on));
	EXPECT(fcntl(s[0], F_GETFL) & O_ASYNC);
	EXPECT_EQ(write(s[1], "x", 1), 1);
	wait_seen(1);
	on = 0;
	EXPECT(!ioctl(s[0], FIOASYNC, &on));
	EXPECT_EQ(write(s[1], "x", 1), 1);
	EXPECT_EQ(seen, 1);
}

TEST(sigio_of_inotify)
{
	test_dir();
	int fd = inotify_init1(IN_NONBLOCK);
	EXPECT(fd >= 0 && inotify_add_watch(fd, ".", IN_CREATE) >= 0);
	catch_signal(SIGIO);
	EXPECT(!fcntl(fd, F_SETOWN, getpid()));
	async(fd, true);
	EXPECT(!mkdir("d", 0700));
	wait_seen(1);
}

TEST(sigio_ends_with_the_file)
{
	int p[2], q[2];

	EXPECT(!pipe(p) && !pipe(q));
	catch_signal(SIGIO);
	EXPECT(!fcntl(p[0], F_SETOWN, getpid()));
	async(p[0], true);
	EXPECT_EQ(dup2(q[0], p[0]), p[0]); /* the last reference to the other */
	EXPECT_EQ(write(q[1], "x", 1), 1);
	EXPECT_EQ(seen, 0);
}

TEST(sigio_from_another_process)
{
	int p[2];

	EXPECT(!pipe(p));
	catch_signal(SIGIO);
	struct f_owner_ex ex = {F_OWNER_TID, (pid_t)syscall(SYS_gettid)};
	EXPECT(!fcntl(p[0], F_SETOWN_EX, &ex));
	async(p[0], true);
	pid_t pid = fork();
	if (!pid)
		_exit(write(p[1], "x", 1) == 1 ? 0 : 1);
	wait_seen(1);
	int st;
	EXPECT_EQ(waitpid(pid, &st, 0), pid);
	EXPECT_EQ(st, 0);
}

TEST(sigio_is_not_for_eventfds)
{
	int fd = (int)syscall(SYS_eventfd2, 0, 0);
	uint64_t one = 1;

	EXPECT(fd >= 0);
	catch_signal(SIGIO);
	EXPECT(!fcntl(fd, F_SETOWN, getpid()));
	async(fd, true);
	EXPECT_EQ(write(fd, &one, 8), 8);
	EXPECT_EQ(seen, 0);
}
