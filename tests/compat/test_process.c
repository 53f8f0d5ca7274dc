/* Ids, fork, exit, wait, process groups. */
#include "tests/compat/compat.h"

#include <sys/resource.h>
#include <sys/utsname.h>

TEST(wait4_hostile_pointers_fault)
{
	pid_t pid = fork();
	if (pid == 0)
		_exit(0);
	EXPECT_ERRNO(syscall(SYS_wait4, pid, BAD_ADDR, 0, NULL), EFAULT);
}

TEST(wait4_unknown_options_are_invalid)
{
	EXPECT_ERRNO(syscall(SYS_wait4, -1, NULL, 0x1000, NULL), EINVAL);
}

TEST(wait4_without_children_is_echild)
{
	EXPECT_ERRNO(waitpid(-1, NULL, 0), ECHILD);
	EXPECT_ERRNO(waitpid(-1, NULL, WNOHANG), ECHILD);
}

TEST(wait4_reports_exit_code)
{
	pid_t pid = fork();
	int status;
	if (pid == 0)
		_exit(42);
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT(WIFEXITED(status));
	EXPECT_EQ(WEXITSTATUS(status), 42);
	EXPECT_ERRNO(waitpid(pid, &status, 0), ECHILD);
}

TEST(wait4_reports_killing_signal)
{
	pid_t pid = fork();
	int status;
	if (pid == 0) {
		pause();
		_exit(0);
	}
	EXPECT_OK(kill(pid, SIGTERM));
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT(WIFSIGNALED(status));
	EXPECT_EQ(WTERMSIG(status), SIGTERM);
}

TEST(wait4_nohang_returns_zero_while_child_lives)
{
	int p[2];
	char c;
	EXPECT_OK(pipe(p));
	pid_t pid = fork();
	if (pid == 0) {
		close(p[1]);
		_exit(read(p[0], &c, 1) == 0 ? 3 : 4);
	}
	EXPECT_EQ(waitpid(pid, NULL, WNOHANG), 0);
	close(p[1]);
	int status;
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(WEXITSTATUS(status), 3);
}

TEST(waitid_needs_a_kind_of_event)
{
	EXPECT_ERRNO(waitid(P_ALL, 0, NULL, 0), EINVAL);
	EXPECT_ERRNO(syscall(SYS_waitid, 77, 0, NULL, WEXITED, NULL), EINVAL);
}

TEST(waitid_nowait_leaves_the_child)
{
	siginfo_t info;
	pid_t pid = fork();
	if (pid == 0)
		_exit(9);
	for (int i = 0; i < 2; i++) {
		memset(&info, 0xff, sizeof(info));
		EXPECT_OK(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT));
		EXPECT_EQ(info.si_pid, pid);
		EXPECT_EQ(info.si_code, CLD_EXITED);
		EXPECT_EQ(info.si_status, 9);
		EXPECT_EQ(info.si_signo, SIGCHLD);
	}
	EXPECT_OK(waitid(P_PID, (id_t)pid, &info, WEXITED));
	EXPECT_ERRNO(waitid(P_PID, (id_t)pid, &info, WEXITED), ECHILD);
}

TEST(waitid_reports_stop_and_continue)
{
	siginfo_t info;
	pid_t pid = fork();
	if (pid == 0) {
		for (;;)
			pause();
	}
	EXPECT_OK(kill(pid, SIGSTOP));
	EXPECT_OK(waitid(P_PID, (id_t)pid, &info, WSTOPPED));
	EXPECT_EQ(info.si_code, CLD_STOPPED);
	EXPECT_EQ(info.si_status, SIGSTOP);
	EXPECT_OK(kill(pid, SIGCONT));
	EXPECT_OK(waitid(P_PID, (id_t)pid, &info, WCONTINUED));
	EXPECT_EQ(info.si_code, CLD_CONTINUED);
	EXPECT_OK(kill(pid, SIGKILL));
	EXPECT_OK(waitid(P_PID, (id_t)pid, &info, WEXITED));
	EXPECT_EQ(info.si_code, CLD_KILLED);
	EXPECT_EQ(info.si_status, SIGKILL);
}

TEST(fork_copies_memory)
{
	volatile int *shared =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	volatile int *own =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	*own = 1;
	pid_t pid = fork();
	if (pid == 0) {
		*shared = 7;
		*own = 2;
		_exit(0);
	}
	EXPECT_EQ(waitpid(pid, NULL, 0), pid);
	EXPECT_EQ(*shared, 7);
	EXPECT_EQ(*own, 1);
}

TEST(vfork_child_shares_memory_until_exec)
{
	static volatile int value;
	pid_t pid = vfork();
	if (pid == 0) {
		value = 5;
		_exit(0);
	}
	EXPECT_EQ(value, 5);
	EXPECT_EQ(waitpid(pid, NULL, 0), pid);
}

TEST(orphan_is_adopted_by_subreaper)
{
	/* The runner is a subreaper. */
	int p[2];
	pid_t ppid = 0, runner = getppid();
	EXPECT_OK(pipe(p));
	pid_t pid = fork();
	if (pid == 0) {
		pid_t me = getpid();
		if (fork() == 0) {
			while (getppid() == me)
				usleep(1000);
			ppid = getppid();
			_exit(write(p[1], &ppid, sizeof(ppid)) != sizeof(ppid));
		}
		_exit(0);
	}
	EXPECT_EQ(waitpid(pid, NULL, 0), pid);
	EXPECT_EQ(read(p[0], &ppid, sizeof(ppid)), sizeof(ppid));
	EXPECT_EQ(ppid, runner);
}

TEST(sigchld_ignored_reaps_children)
{
	signal(SIGCHLD, SIG_IGN);
	pid_t pid = fork();
	if (pid == 0)
		_exit(1);
	EXPECT_ERRNO(waitpid(pid, NULL, 0), ECHILD);
}

TEST(setpgid_errors)
{
	EXPECT_ERRNO(setpgid(0, -1), EINVAL);
	EXPECT_ERRNO(setpgid(999999, 0), ESRCH);
	EXPECT_ERRNO(setpgid(0, 999999), EPERM);
}

TEST(setsid_makes_a_session)
{
	pid_t pid = fork();
	if (pid == 0) {
		pid_t sid = setsid();
		_exit(!(sid == getpid() && getsid(0) == sid && getpgrp() == sid && setsid() == -1 &&
			errno == EPERM));
	}
	int status;
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
}

TEST(getpgid_unknown_is_esrch)
{
	EXPECT_ERRNO(getpgid(999999), ESRCH);
	EXPECT_ERRNO(getsid(999999), ESRCH);
}

TEST(uname_faults_and_is_linux)
{
	struct utsname u;
	EXPECT_ERRNO(syscall(SYS_uname, BAD_ADDR), EFAULT);
	EXPECT_OK(uname(&u));
	EXPECT_STR(u.sysname, "Linux");
	EXPECT_STR(u.machine, "x86_64");
}

TEST(exec_of_missing_file_is_enoent)
{
	char *argv[] = {"x", NULL};
	EXPECT_ERRNO(execve("/no/such/file", argv, argv + 1), ENOENT);
	EXPECT_ERRNO(execve("/etc/passwd", argv, argv + 1), EACCES);
	EXPECT_ERRNO(execve("/", argv, argv + 1), EACCES);
	EXPECT_ERRNO(execve(BAD_ADDR, argv, argv + 1), EFAULT);
}

TEST(exec_of_garbage_is_enoexec)
{
	char *argv[] = {"x", NULL};
	test_dir();
	int fd = open("garbage", O_WRONLY | O_CREAT, 0755);
	EXPECT_EQ(write(fd, "\177ELFgarbage-garbage", 19), 19);
	close(fd);
	EXPECT_ERRNO(execve("garbage", argv, argv + 1), ENOEXEC);
}

TEST(exec_of_script_passes_one_argument)
{
	test_dir();
	int fd = open("script", O_WRONLY | O_CREAT, 0755);
	static const char text[] = "#!/bin/sh -e\ntest \"$1\" = arg && exit 33\nexit 1\n";
	EXPECT_EQ(write(fd, text, sizeof(text) - 1), sizeof(text) - 1);
	close(fd);
	pid_t pid = fork();
	if (pid == 0) {
		execl("./script", "script", "arg", NULL);
		_exit(99);
	}
	int status;
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(WEXITSTATUS(status), 33);
}

TEST(exec_closes_cloexec_descriptors)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int keep = open("/dev/null", O_RDONLY);
	char cmd[100];
	snprintf(cmd, sizeof(cmd), "test ! -e /proc/self/fd/%d && test -e /proc/self/fd/%d", fd,
		 keep);
	EXPECT_EQ(system(cmd), 0);
}

TEST(exec_resets_handlers_and_keeps_ignored)
{
	signal(SIGUSR1, SIG_IGN);
	EXPECT_EQ(system("kill -USR1 $$; exit 5") >> 8, 5);
}

TEST(getrusage_bad_arguments)
{
	struct rusage ru;
	EXPECT_ERRNO(getrusage(1000, &ru), EINVAL);
	EXPECT_ERRNO(syscall(SYS_getrusage, RUSAGE_SELF, BAD_ADDR), EFAULT);
	EXPECT_OK(getrusage(RUSAGE_SELF, &ru));
}

TEST(only_32_bits_of_the_number_count)
{
	long ret;
	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(1L << 32 | SYS_getpid)
			 : "rcx", "r11", "memory");
	EXPECT_EQ(ret, getpid());
}
