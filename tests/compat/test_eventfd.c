/* eventfd, timerfd, signalfd, pidfd. */
#include "tests/compat/compat.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

TEST(eventfd_hostile_pointers_and_sizes)
{
	uint64_t v = 7;
	int fd = EXPECT_OK(eventfd(1, EFD_NONBLOCK));
	EXPECT_ERRNO(read(fd, BAD_ADDR, 8), EFAULT);
	EXPECT_ERRNO(write(fd, BAD_ADDR, 8), EFAULT);
	EXPECT_ERRNO(read(fd, &v, 7), EINVAL);
	EXPECT_ERRNO(write(fd, &v, 7), EINVAL);
	(void)!read(fd, &v, 8); /* whether the fault took the 1 is the kernel's business */
	v = 7;
	EXPECT_EQ(write(fd, &v, 8), 8);
	EXPECT_EQ(read(fd, &v, 8), 8);
	EXPECT_EQ(v, 7);
	EXPECT_ERRNO(read(fd, &v, 8), EAGAIN);
}

TEST(eventfd_unknown_flags_are_invalid)
{
	EXPECT_ERRNO(eventfd(0, 0x10), EINVAL);
}

TEST(eventfd_semaphore_gives_one)
{
	uint64_t v = 0;
	int fd = EXPECT_OK(eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK));
	EXPECT_EQ(read(fd, &v, 8), 8);
	EXPECT_EQ(v, 1);
	EXPECT_EQ(read(fd, &v, 8), 8);
	EXPECT_ERRNO(read(fd, &v, 8), EAGAIN);
}

TEST(eventfd_overflow_blocks)
{
	uint64_t v = UINT64_MAX - 1;
	int fd = EXPECT_OK(eventfd(0, EFD_NONBLOCK));
	EXPECT_EQ(write(fd, &v, 8), 8);
	v = 1;
	EXPECT_ERRNO(write(fd, &v, 8), EAGAIN);
	v = UINT64_MAX;
	EXPECT_ERRNO(write(fd, &v, 8), EINVAL);
	struct pollfd p = {fd, POLLIN | POLLOUT, 0};
	EXPECT_EQ(poll(&p, 1, 0), 1);
	EXPECT_EQ(p.revents, POLLIN);
}

TEST(eventfd_wakes_a_blocked_reader)
{
	uint64_t v = 5;
	int status, fd = EXPECT_OK(eventfd(0, 0));
	pid_t pid = fork();
	if (pid == 0) {
		_exit(read(fd, &v, 8) == 8 && v == 5 ? 0 : 1);
	}
	test_sleep_ms(20);
	EXPECT_EQ(write(fd, &v, 8), 8);
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
}

TEST(timerfd_hostile_arguments)
{
	struct itimerspec it = {.it_value.tv_nsec = 1000000000};
	EXPECT_ERRNO(timerfd_create(99, 0), EINVAL);
	EXPECT_ERRNO(timerfd_create(CLOCK_MONOTONIC, 1), EINVAL);
	int fd = EXPECT_OK(timerfd_create(CLOCK_MONOTONIC, 0));
	EXPECT_ERRNO(timerfd_settime(fd, 0, &it, NULL), EINVAL);
	EXPECT_ERRNO(syscall(SYS_timerfd_settime, fd, 0, BAD_ADDR, NULL), EFAULT);
	EXPECT_ERRNO(syscall(SYS_timerfd_gettime, fd, BAD_ADDR), EFAULT);
	it.it_value.tv_nsec = 1;
	EXPECT_ERRNO(timerfd_settime(0, 0, &it, NULL), EINVAL);
	EXPECT_ERRNO(timerfd_settime(-1, 0, &it, NULL), EBADF);
}

TEST(timerfd_counts_expirations)
{
	struct itimerspec it = {.it_value.tv_nsec = 10000000, .it_interval.tv_nsec = 10000000};
	uint64_t n;
	int fd = EXPECT_OK(timerfd_create(CLOCK_MONOTONIC, 0));
	EXPECT_OK(timerfd_settime(fd, 0, &it, NULL));
	EXPECT_EQ(read(fd, &n, 8), 8);
	EXPECT(n >= 1);
	test_sleep_ms(60);
	EXPECT_EQ(read(fd, &n, 8), 8);
	EXPECT(n >= 5);
	struct itimerspec cur;
	EXPECT_OK(timerfd_gettime(fd, &cur));
	EXPECT_EQ(cur.it_interval.tv_nsec, 10000000);
}

TEST(timerfd_poll_and_epoll_wake)
{
	struct itimerspec it = {.it_value.tv_nsec = 20000000};
	struct epoll_event ev = {.events = EPOLLIN, .data.u64 = 77}, got;
	int fd = EXPECT_OK(timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK));
	int ep = EXPECT_OK(epoll_create1(0));
	uint64_t n;
	EXPECT_OK(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev));
	EXPECT_ERRNO(read(fd, &n, 8), EAGAIN);
	EXPECT_OK(timerfd_settime(fd, 0, &it, NULL));
	EXPECT_EQ(epoll_wait(ep, &got, 1, 5000), 1);
	EXPECT_EQ(got.data.u64, 77);
	struct pollfd p = {fd, POLLIN, 0};
	EXPECT_EQ(poll(&p, 1, 0), 1);
	EXPECT_EQ(read(fd, &n, 8), 8);
	EXPECT_EQ(poll(&p, 1, 0), 0);
}

TEST(signalfd_reads_blocked_signals)
{
	struct signalfd_siginfo si;
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	EXPECT_ERRNO(syscall(SYS_signalfd4, -1, BAD_ADDR, 8, 0), EFAULT);
	EXPECT_ERRNO(syscall(SYS_signalfd4, -1, &set, 4, 0), EINVAL);
	int fd = EXPECT_OK(signalfd(-1, &set, SFD_NONBLOCK));
	EXPECT_ERRNO(read(fd, &si, sizeof(si)), EAGAIN);
	EXPECT_ERRNO(read(fd, &si, 100), EINVAL);
	struct pollfd p = {fd, POLLIN, 0};
	EXPECT_EQ(poll(&p, 1, 0), 0);
	EXPECT_OK(kill(getpid(), SIGUSR1));
	EXPECT_EQ(poll(&p, 1, 1000), 1);
	EXPECT_ERRNO(read(fd, BAD_ADDR, sizeof(si)), EFAULT);
}

TEST(signalfd_siginfo_tells_the_sender)
{
	struct signalfd_siginfo si;
	sigset_t set;
	int status;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	int fd = EXPECT_OK(signalfd(-1, &set, SFD_CLOEXEC));
	pid_t parent = getpid(), pid = fork();
	if (pid == 0) {
		test_sleep_ms(20);
		union sigval v = {.sival_int = 9};
		sigqueue(parent, SIGUSR1, v);
		_exit(3);
	}
	EXPECT_EQ(read(fd, &si, sizeof(si)), sizeof(si));
	EXPECT_EQ(si.ssi_signo, SIGUSR1);
	EXPECT_EQ(si.ssi_pid, pid);
	EXPECT_EQ(si.ssi_code, SI_QUEUE);
	EXPECT_EQ(si.ssi_int, 9);
	EXPECT_EQ(read(fd, &si, sizeof(si)), sizeof(si));
	EXPECT_EQ(si.ssi_signo, SIGCHLD);
	EXPECT_EQ(si.ssi_code, CLD_EXITED);
	EXPECT_EQ(si.ssi_status, 3);
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
}

TEST(signalfd_of_a_parent_shows_the_childs_signals_to_the_child)
{
	struct signalfd_siginfo si;
	sigset_t set;
	int status;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, NULL);
	int fd = EXPECT_OK(signalfd(-1, &set, SFD_NONBLOCK));
	pid_t pid = fork();
	if (pid == 0) {
		kill(getpid(), SIGUSR2);
		struct pollfd p = {fd, POLLIN, 0};
		_exit(poll(&p, 1, 1000) == 1 && read(fd, &si, sizeof(si)) == sizeof(si) ? 0 : 1);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	EXPECT_ERRNO(read(fd, &si, sizeof(si)), EAGAIN);
}

TEST(pidfd_is_readable_when_the_process_ended)
{
	int hold[2], status;
	EXPECT_OK(pipe(hold));
	pid_t pid = fork();
	if (pid == 0) {
		char c;
		close(hold[1]);
		(void)!read(hold[0], &c, 1);
		_exit(0);
	}
	EXPECT_ERRNO(syscall(SYS_pidfd_open, pid, 1), EINVAL);
	EXPECT_ERRNO(syscall(SYS_pidfd_open, 0, 0), EINVAL);
	EXPECT_ERRNO(syscall(SYS_pidfd_open, 0x3fffff, 0), ESRCH);
	int fd = EXPECT_OK(syscall(SYS_pidfd_open, pid, 0));
	EXPECT_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
	struct pollfd p = {fd, POLLIN, 0};
	EXPECT_EQ(poll(&p, 1, 0), 0);
	EXPECT_OK(syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0));
	close(hold[1]);
	EXPECT_EQ(poll(&p, 1, 5000), 1);
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(poll(&p, 1, 0), 1);
	EXPECT_ERRNO(syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0), ESRCH);
}

TEST(pidfd_send_signal_kills)
{
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		pause();
		_exit(0);
	}
	int fd = EXPECT_OK(syscall(SYS_pidfd_open, pid, 0));
	EXPECT_ERRNO(syscall(SYS_pidfd_send_signal, fd, SIGTERM, BAD_ADDR, 0), EFAULT);
	EXPECT_ERRNO(syscall(SYS_pidfd_send_signal, fd, 1000, NULL, 0), EINVAL);
	EXPECT_ERRNO(syscall(SYS_pidfd_send_signal, 0, SIGTERM, NULL, 0), EBADF);
	EXPECT_OK(syscall(SYS_pidfd_send_signal, fd, SIGTERM, NULL, 0));
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(WTERMSIG(status), SIGTERM);
}

TEST(pidfd_send_signal_takes_a_directory_of_proc)
{
	int status, fd = (int)EXPECT_OK(open("/proc/self", O_RDONLY | O_DIRECTORY));
	int root = (int)EXPECT_OK(open("/proc", O_RDONLY | O_DIRECTORY));
	char name[32];

	EXPECT_OK(syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0));
	EXPECT_ERRNO(syscall(SYS_pidfd_send_signal, root, 0, NULL, 0), EBADF);
	close(fd);
	pid_t pid = (pid_t)EXPECT_OK(fork());
	if (!pid)
		for (;;)
			pause();
	snprintf(name, sizeof(name), "/proc/%d", pid);
	fd = (int)EXPECT_OK(open(name, O_RDONLY | O_DIRECTORY));
	EXPECT_OK(syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0));
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(WTERMSIG(status), SIGKILL);
	EXPECT_ERRNO(syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0), ESRCH);
}
