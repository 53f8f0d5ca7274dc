/* wait4(2), waitid(2), exit, process groups, pidfd: what the other files leave out. */
#include "tests/compat/compat.h"

#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

static int pidfd_open(pid_t pid, unsigned flags)
{
	return (int)syscall(SYS_pidfd_open, pid, flags);
}

static long pidfd_send_signal(int fd, int signo, void *info, unsigned flags)
{
	return syscall(SYS_pidfd_send_signal, fd, signo, info, flags);
}

static pid_t child(int code)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(code);
	return pid;
}

static pid_t waiting_child(void)
{
	pid_t pid = fork();

	if (pid == 0)
		for (;;)
			pause();
	return pid;
}

TEST(waitid_refuses_hostile_arguments)
{
	siginfo_t info;

	EXPECT_ERRNO(waitid(P_PID, 0, &info, WEXITED), EINVAL);
	EXPECT_ERRNO(waitid(P_PID, (id_t)-5, &info, WEXITED), EINVAL);
	EXPECT_ERRNO(waitid(P_PGID, (id_t)-5, &info, WEXITED), EINVAL);
	EXPECT_ERRNO(waitid(P_ALL, 0, &info, WEXITED | 0x100), EINVAL);
	EXPECT_ERRNO(waitid((idtype_t)P_PIDFD, (id_t)-1, &info, WEXITED), EINVAL);
	EXPECT_ERRNO(waitid((idtype_t)P_PIDFD, 999, &info, WEXITED), EBADF);
	EXPECT_ERRNO(waitid((idtype_t)P_PIDFD, 0, &info, WEXITED), EBADF);
	EXPECT_ERRNO(waitid(P_ALL, 0, &info, WEXITED), ECHILD);
	pid_t pid = child(0);
	EXPECT_ERRNO(syscall(SYS_waitid, P_PID, pid, BAD_ADDR, WEXITED, NULL), EFAULT);
	pid = child(0);
	EXPECT_ERRNO(syscall(SYS_waitid, P_PID, pid, NULL, WEXITED, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(wait(NULL), ECHILD); /* both were taken before the fault */
}

TEST(wait4_refuses_hostile_arguments)
{
	EXPECT_ERRNO(waitpid((pid_t)0x80000000, NULL, 0), ESRCH);
	EXPECT_ERRNO(waitpid(1, NULL, 0), ECHILD);
	EXPECT_ERRNO(waitpid(getpid(), NULL, 0), ECHILD);
	pid_t pid = child(0);
	EXPECT_ERRNO(syscall(SYS_wait4, pid, NULL, 0, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(wait(NULL), ECHILD);
}

TEST(waitid_nohang_without_news_zeroes_the_pid)
{
	siginfo_t info;
	pid_t pid = waiting_child();

	memset(&info, 0xff, sizeof(info));
	EXPECT_OK(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG));
	EXPECT_EQ(info.si_pid, 0);
	EXPECT_EQ(info.si_signo, 0);
	EXPECT_OK(waitid(P_PID, (id_t)pid, NULL, WEXITED | WNOHANG));
	kill(pid, SIGKILL);
	EXPECT_OK(waitid(P_PID, (id_t)pid, NULL, WEXITED));
}

TEST(wait_by_group_takes_only_that_group)
{
	int status;
	pid_t a = fork();
	if (a == 0) {
		setpgid(0, 0);
		_exit(1);
	}
	setpgid(a, a);
	pid_t b = child(2);
	EXPECT_EQ(waitpid(-a, &status, 0), a);
	EXPECT_EQ(WEXITSTATUS(status), 1);
	EXPECT_ERRNO(waitpid(-a, &status, 0), ECHILD);
	EXPECT_EQ(waitpid(0, &status, 0), b);
	EXPECT_EQ(WEXITSTATUS(status), 2);
}

static void *exit_thread(void *arg)
{
	test_sleep_ms(20);
	syscall(SYS_exit, (long)arg);
	return NULL;
}

TEST(exit_status_of_a_process_is_its_last_threads)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		pthread_t th;
		pthread_create(&th, NULL, exit_thread, (void *)55);
		syscall(SYS_exit, 7);
	}
	EXPECT_EQ(waitpid(pid, &status, WNOHANG), 0);
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT(WIFEXITED(status));
	EXPECT_EQ(WEXITSTATUS(status), 55);
}

static void *pause_thread(void *arg)
{
	pause();
	return arg;
}

TEST(exit_group_in_a_thread_ends_all)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		pthread_t th;
		pthread_create(&th, NULL, pause_thread, NULL);
		pthread_create(&th, NULL, pause_thread, NULL);
		syscall(SYS_exit_group, 0x1234);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT(WIFEXITED(status));
	EXPECT_EQ(WEXITSTATUS(status), 0x34);
}

static void *wait_in_thread(void *arg)
{
	int status;

	return (void *)(long)(waitpid((pid_t)(long)arg, &status, 0) > 0 ? WEXITSTATUS(status)
									: -errno);
}

TEST(any_thread_may_wait_for_a_child_but_not_with_nothread)
{
	pthread_t th;
	void *got;
	pid_t pid = child(9);

	EXPECT_OK(-pthread_create(&th, NULL, wait_in_thread, (void *)(long)pid));
	pthread_join(th, &got);
	EXPECT_EQ((long)got, 9);
	EXPECT_ERRNO(waitpid(pid, NULL, __WNOTHREAD), ECHILD);
}

TEST(zombies_can_be_signalled_and_looked_up)
{
	siginfo_t info;
	pid_t pid = child(0);

	EXPECT_OK(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT));
	EXPECT_OK(kill(pid, 0));
	EXPECT_OK(kill(pid, SIGKILL));
	EXPECT_EQ(getpgid(pid), getpgrp());
	EXPECT_EQ(waitpid(pid, NULL, 0), pid);
	EXPECT_ERRNO(kill(pid, 0), ESRCH);
}

TEST(setpgid_after_exec_is_eacces_and_of_a_leader_eperm)
{
	int p[2], status;
	char c;

	EXPECT_OK(pipe2(p, O_CLOEXEC));
	pid_t pid = fork();
	if (pid == 0) {
		execl("/bin/sleep", "sleep", "10", NULL);
		_exit(9);
	}
	close(p[1]);
	EXPECT_EQ(read(p[0], &c, 1), 0); /* closed by exec */
	EXPECT_ERRNO(setpgid(pid, pid), EACCES);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	pid = fork();
	if (pid == 0) {
		setsid();
		_exit(setpgid(0, 0) == -1 && errno == EPERM ? 0 : 1);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
}

TEST(pids_are_not_reused_at_once)
{
	pid_t a = child(0), b;

	EXPECT_EQ(waitpid(a, NULL, 0), a);
	b = child(0);
	EXPECT_EQ(waitpid(b, NULL, 0), b);
	EXPECT(a != b);
}

/* ---- pidfd ---- */

TEST(pidfd_calls_refuse_hostile_arguments)
{
	siginfo_t info = {.si_signo = SIGUSR1, .si_code = SI_QUEUE};
	int fd = (int)EXPECT_OK(pidfd_open(getpid(), 0));

	EXPECT_ERRNO(pidfd_open(0, 0), EINVAL);
	EXPECT_ERRNO(pidfd_open(-1, 0), EINVAL);
	EXPECT_ERRNO(pidfd_open(getpid(), 0x10), EINVAL);
	EXPECT_ERRNO(pidfd_open(0x3fffffff, 0), ESRCH);
	EXPECT_ERRNO(pidfd_send_signal(fd, 65, NULL, 0), EINVAL);
	EXPECT_ERRNO(pidfd_send_signal(fd, 0, NULL, 0x80), EINVAL);
	EXPECT_ERRNO(pidfd_send_signal(fd, SIGUSR1, BAD_ADDR, 0), EFAULT);
	EXPECT_ERRNO(pidfd_send_signal(fd, SIGUSR2, &info, 0), EINVAL);
	EXPECT_ERRNO(pidfd_send_signal(0, 0, NULL, 0), EBADF);
	EXPECT_ERRNO(pidfd_send_signal(999, 0, NULL, 0), EBADF);
	EXPECT_OK(pidfd_send_signal(fd, 0, NULL, 0));
	EXPECT_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
	char c;
	EXPECT_ERRNO(read(fd, &c, 1), EINVAL);
}

TEST(pidfd_works_with_epoll_and_waitid)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.u64 = 5};
	siginfo_t info;
	pid_t pid = waiting_child();
	int fd = (int)EXPECT_OK(pidfd_open(pid, 0)), ep = (int)EXPECT_OK(epoll_create1(0));

	EXPECT_OK(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev));
	EXPECT_EQ(epoll_wait(ep, &ev, 1, 0), 0);
	EXPECT_OK(pidfd_send_signal(fd, SIGTERM, NULL, 0));
	EXPECT_EQ(epoll_wait(ep, &ev, 1, 5000), 1);
	EXPECT_EQ(ev.data.u64, 5);
	EXPECT_OK(waitid((idtype_t)P_PIDFD, (id_t)fd, &info, WEXITED));
	EXPECT_EQ(info.si_pid, pid);
	EXPECT_EQ(info.si_code, CLD_KILLED);
	EXPECT_ERRNO(pidfd_send_signal(fd, 0, NULL, 0), ESRCH);
	EXPECT_ERRNO(waitid((idtype_t)P_PIDFD, (id_t)fd, &info, WEXITED), ECHILD);
}

TEST(pidfd_nonblocking_wait_is_eagain)
{
	siginfo_t info;
	pid_t pid = waiting_child();
	int fd = (int)EXPECT_OK(pidfd_open(pid, O_NONBLOCK));

	EXPECT_EQ(fcntl(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	EXPECT_ERRNO(waitid((idtype_t)P_PIDFD, (id_t)fd, &info, WEXITED), EAGAIN);
	kill(pid, SIGKILL);
	struct pollfd p = {.fd = fd, .events = POLLIN};
	EXPECT_EQ(poll(&p, 1, 5000), 1);
	EXPECT_OK(waitid((idtype_t)P_PIDFD, (id_t)fd, &info, WEXITED));
}

TEST(pidfd_open_of_a_reaped_process_is_esrch)
{
	pid_t pid = child(0);
	int fd = (int)EXPECT_OK(pidfd_open(pid, 0));

	EXPECT_EQ(waitpid(pid, NULL, 0), pid);
	EXPECT_ERRNO(pidfd_open(pid, 0), ESRCH);
	EXPECT_ERRNO(pidfd_send_signal(fd, SIGKILL, NULL, 0), ESRCH);
}

TEST(wait_reports_stop_only_once)
{
	int status;
	pid_t pid = waiting_child();

	EXPECT_OK(kill(pid, SIGSTOP));
	EXPECT_EQ(waitpid(pid, &status, WUNTRACED), pid);
	EXPECT_EQ(waitpid(pid, &status, WUNTRACED | WNOHANG), 0);
	EXPECT_OK(kill(pid, SIGCONT));
	siginfo_t info;
	EXPECT_OK(waitid(P_PID, (id_t)pid, &info, WCONTINUED | WNOWAIT));
	EXPECT_EQ(info.si_status, SIGCONT);
	EXPECT_EQ(waitpid(pid, &status, WCONTINUED), pid);
	EXPECT_EQ(waitpid(pid, &status, WCONTINUED | WNOHANG), 0);
	kill(pid, SIGKILL);
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
}

TEST(kill_minus_one_spares_the_sender)
{
	if (getuid())
		test_skip("needs root");
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		/* As a user of our own, whom else could it reach? */
		if (setresuid(43210, 43210, 43210))
			_exit(1);
		pid_t other = waiting_child();
		test_sleep_ms(10);
		if (kill(-1, SIGTERM))
			_exit(2);
		_exit(waitpid(other, &status, 0) == other && WTERMSIG(status) == SIGTERM ? 0 : 3);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
}

static void leave_many_zombies(void)
{
	siginfo_t info;

	for (int i = 0; i < 200; i++) {
		pid_t pid = fork();
		if (!pid)
			_exit(0);
		if (pid < 0 || waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT))
			_exit(1);
	}
	_exit(7);
}

TEST(parent_hears_of_one_that_leaves_many_zombies)
{
	int status;

	EXPECT_OK(prctl(PR_SET_CHILD_SUBREAPER, 1));
	pid_t pid = fork();
	if (!pid)
		leave_many_zombies();
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 7 << 8);
	int left = 0;
	while (waitpid(-1, &status, 0) > 0)
		left++;
	EXPECT_EQ(left, 200);
}
