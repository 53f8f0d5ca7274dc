/* PID namespaces: numbers of clone3(2), and how they appear in other interfaces. */
#include <linux/sched.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>

#include "pidns.h"

static long clone3_tids(unsigned long flags, const pid_t *tids, size_t n)
{
	struct clone_args a = {.flags = flags,
			       .exit_signal = SIGCHLD,
			       .set_tid = (uintptr_t)tids,
			       .set_tid_size = n};

	return syscall(SYS_clone3, &a, sizeof(a));
}

TEST(clone3_set_tid_hostile)
{
	pid_t tids[40] = {0};

	EXPECT_ERRNO(clone3_tids(0, BAD_ADDR, 1), EFAULT);
	EXPECT_ERRNO(clone3_tids(0, tids, 33), EINVAL);
	EXPECT_ERRNO(clone3_tids(0, NULL, 1), EINVAL);
	EXPECT_ERRNO(clone3_tids(0, tids, 0), EINVAL);
	EXPECT_ERRNO(clone3_tids(0, tids, 32), EINVAL);
	EXPECT_ERRNO(clone3_tids(0, tids, 1), EINVAL); /* 0 */
	tids[0] = -5;
	EXPECT_ERRNO(clone3_tids(0, tids, 1), EINVAL);
	tids[0] = 1 << 30;
	EXPECT_ERRNO(clone3_tids(0, tids, 1), EINVAL);
	tids[0] = getpid();
	EXPECT_ERRNO(clone3_tids(0, tids, 1), EEXIST);
}

TEST(clone3_set_tid_gives_that_number)
{
	pid_t want[2] = {31999, 0};
	long pid = clone3_tids(0, want, 1);

	if (pid < 0 && errno == EEXIST)
		test_skip("the number is in use");
	if (!pid)
		_exit(getpid() == 31999 ? 0 : 1);
	EXPECT_EQ(pid, 31999);
	wait_exited((int)pid, 0);

	want[0] = 5; /* the init of a namespace is 1 */
	EXPECT_ERRNO(clone3_tids(CLONE_FLAG_NEWPID, want, 1), EINVAL);
	want[0] = 1;
	want[1] = 32001;
	pid = clone3_tids(CLONE_FLAG_NEWPID, want, 2);
	if (pid < 0 && errno == EEXIST)
		test_skip("the number is in use");
	if (!pid) {
		CHECK(getpid() == 1);
		pid_t inner = 77;
		long c = clone3_tids(0, &inner, 1);
		if (!c)
			_exit(getpid());
		int st;
		CHECK(c == 77 && wait(&st) == 77 && st == 77 << 8);
		_exit(0);
	}
	EXPECT_EQ(pid, 32001);
	wait_exited((int)pid, 0);
}

TEST(clone3_set_tid_needs_a_capability)
{
	pid_t want = 31990;

	EXPECT_OK(setresuid(1000, 1000, 1000));
	EXPECT_ERRNO(clone3_tids(0, &want, 1), EPERM);
	EXPECT_ERRNO(fork_with(CLONE_FLAG_NEWPID), EPERM);
	EXPECT_ERRNO(unshare(CLONE_FLAG_NEWPID), EPERM);
}

TEST(pidns_pidfd_works_across)
{
	int pid = new_init();

	if (!pid) {
		for (;;)
			pause();
	}
	int fd = EXPECT_OK(syscall(SYS_pidfd_open, pid, 0));
	char path[64], text[512] = "";
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	int info = EXPECT_OK(open(path, O_RDONLY));
	EXPECT(read(info, text, sizeof(text) - 1) > 0);
	char want[64];
	snprintf(want, sizeof(want), "Pid:\t%d\nNSpid:\t%d\t1\n", pid, pid);
	EXPECT(strstr(text, want));
	EXPECT_OK(syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0));
	struct pollfd p = {fd, POLLIN, 0};
	EXPECT_EQ(poll(&p, 1, 5000), 1);
	wait_killed(pid, SIGKILL);
}

static void status_line(const char *path, const char *name, char *out, size_t size)
{
	static char text[8192];
	int fd = open(path, O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	*out = 0;
	if (fd >= 0)
		close(fd);
	if (n <= 0)
		return;
	text[n] = 0;
	char *at = strstr(text, name);
	if (at)
		snprintf(out, size, "%.*s", (int)strcspn(at, "\n"), at);
}

TEST(pidns_status_shows_numbers_of_all_levels)
{
	volatile int *w = shared();
	int pid = new_init();

	if (!pid) {
		CHECK(setsid() == 1);
		w[0] = 1;
		for (;;)
			pause();
	}
	wait_for(&w[0], 1);
	char path[64], line[128], want[128];
	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	static const char *const names[] = {"NStgid:", "NSpid:", "NSpgid:", "NSsid:"};
	for (int i = 0; i < 4; i++) {
		status_line(path, names[i], line, sizeof(line));
		snprintf(want, sizeof(want), "%s\t%d\t1", names[i], pid);
		EXPECT_STR(line, want);
	}
	status_line(path, "PPid:", line, sizeof(line));
	snprintf(want, sizeof(want), "PPid:\t%d", getpid());
	EXPECT_STR(line, want);
	kill(pid, SIGKILL);
	wait_killed(pid, SIGKILL);
}

TEST(pidns_proc_shows_the_mounters_processes)
{
	const char *dir = test_dir();
	int pid = fork_with(CLONE_FLAG_NEWPID | CLONE_FLAG_NEWNS);

	(void)dir;
	if (pid < 0 && errno == EPERM)
		test_skip("no right to make namespaces");
	if (!pid) {
		char line[128], link[64] = "";
		/* The old one does not know it. */
		CHECK(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
		CHECK(readlink("/proc/self", link, sizeof(link) - 1) > 0 && atoi(link) > 1);
		CHECK(mkdir("p", 0755) == 0 && mount("proc", "p", "proc", 0, NULL) == 0);
		int c = fork();
		if (!c) {
			memset(link, 0, sizeof(link));
			CHECK(readlink("p/self", link, sizeof(link) - 1) == 1 && link[0] == '2');
			memset(link, 0, sizeof(link));
			CHECK(readlink("p/thread-self", link, sizeof(link) - 1) == 8 &&
			      !strcmp(link, "2/task/2"));
			_exit(0);
		}
		int st;
		CHECK(wait(&st) == 2 && st == 0);
		CHECK(access("p/1/stat", F_OK) == 0 && access("p/2", F_OK) != 0);
		status_line("p/1/status", "NSpid:", line, sizeof(line));
		CHECK(!strcmp(line, "NSpid:\t1"));
		status_line("p/1/status", "NSsid:", line, sizeof(line));
		CHECK(!strcmp(line, "NSsid:\t0"));
		CHECK(access("p/1/task/1/stat", F_OK) == 0);
		CHECK(umount("p") == 0);
		_exit(0);
	}
	wait_exited(pid, 0);
}

TEST(pidns_credentials_name_peers_by_own_numbers)
{
	int sv[2], on = 1;

	EXPECT_OK(socketpair(AF_UNIX, SOCK_DGRAM, 0, sv));
	EXPECT_OK(setsockopt(sv[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)));
	EXPECT_OK(setsockopt(sv[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)));
	int pid = new_init();
	char buf[64], data = 'x';
	struct iovec iov = {&data, 1};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = buf};
	struct ucred *u = (struct ucred *)CMSG_DATA((struct cmsghdr *)buf);

	m.msg_controllen = sizeof(buf);
	if (!pid) {
		CHECK(recvmsg(sv[1], &m, 0) == 1);
		CHECK(u->pid == 0);
		CHECK(write(sv[1], "y", 1) == 1);
		struct ucred peer;
		socklen_t len = sizeof(peer);
		CHECK(!getsockopt(sv[1], SOL_SOCKET, SO_PEERCRED, &peer, &len) && peer.pid == 0);
		_exit(0);
	}
	EXPECT_EQ(write(sv[0], "x", 1), 1);
	EXPECT_EQ(EXPECT_OK(recvmsg(sv[0], &m, 0)), 1);
	EXPECT_EQ(u->pid, pid);
	wait_exited(pid, 0);
}

TEST(scm_credentials_of_nobody_is_esrch)
{
	int sv[2];
	union {
		char buf[CMSG_SPACE(sizeof(struct ucred))];
		struct cmsghdr h;
	} c = {{0}};
	struct ucred u = {0x3ffff1, getuid(), getgid()};
	struct iovec iov = {"x", 1};
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof(c)};

	EXPECT_OK(socketpair(AF_UNIX, SOCK_DGRAM, 0, sv));
	c.h = (struct cmsghdr){CMSG_LEN(sizeof(u)), SOL_SOCKET, SCM_CREDENTIALS};
	memcpy(CMSG_DATA(&c.h), &u, sizeof(u));
	EXPECT_ERRNO(sendmsg(sv[0], &m, 0), ESRCH);
}

TEST(pidns_locks_name_owners_by_own_numbers)
{
	int fd = test_file("lock", 100);
	struct flock l = {.l_type = F_WRLCK, .l_start = 0, .l_len = 10};
	volatile int *w = shared();

	EXPECT_OK(fcntl(fd, F_SETLK, &l));
	int pid = new_init();
	if (!pid) {
		struct flock q = {.l_type = F_WRLCK, .l_start = 0, .l_len = 10};
		CHECK(fcntl(fd, F_GETLK, &q) == 0 && q.l_type == F_WRLCK && q.l_pid == 0);
		struct flock mine = {.l_type = F_WRLCK, .l_start = 20, .l_len = 10};
		CHECK(fcntl(fd, F_SETLK, &mine) == 0);
		w[0] = 1;
		wait_for(&w[1], 1);
		_exit(0);
	}
	wait_for(&w[0], 1);
	struct flock q = {.l_type = F_WRLCK, .l_start = 20, .l_len = 10};
	EXPECT_OK(fcntl(fd, F_GETLK, &q));
	EXPECT_EQ(q.l_pid, pid);
	w[1] = 1;
	wait_exited(pid, 0);
}

TEST(reboot_hostile)
{
	EXPECT_ERRNO(syscall(SYS_reboot, 1, 2, 3, BAD_ADDR), EINVAL);
	EXPECT_OK(setresuid(1000, 1000, 1000));
	EXPECT_ERRNO(syscall(SYS_reboot, 1, 2, 3, BAD_ADDR), EPERM);
}

TEST(reboot_ends_the_namespace)
{
	static const struct {
		int cmd, sig;
	} cases[] = {{RB_AUTOBOOT, SIGHUP}, {RB_POWER_OFF, SIGINT}, {RB_HALT_SYSTEM, SIGINT}};

	for (int i = 0; i < 3; i++) {
		int pid = new_init();
		if (!pid) {
			if (reboot(RB_ENABLE_CAD) != -1 || errno != EINVAL)
				_exit(1);
			if (i == 1) {
				int c = fork();
				if (!c) {
					reboot(cases[i].cmd);
					_exit(2);
				}
				for (;;)
					pause();
			}
			reboot(cases[i].cmd);
			_exit(2);
		}
		int status = wait_status(pid);
		if (WIFEXITED(status) && WEXITSTATUS(status) == 1)
			test_skip("no right to reboot");
		EXPECT_EQ(status, cases[i].sig);
	}
}

TEST(pidns_ptrace_from_outside_uses_outside_numbers)
{
	int pid = new_init();

	if (!pid) {
		for (int i = 0; i < 100; i++) {
			int c = fork();
			if (!c)
				_exit(0);
			waitpid(c, NULL, 0);
			usleep(10000);
		}
		_exit(0);
	}
	EXPECT_OK(syscall(SYS_ptrace, 0x4206 /* SEIZE */, pid, 0, 2 /* TRACEFORK */));
	int status;
	for (;;) {
		EXPECT_EQ(EXPECT_OK(waitpid(pid, &status, 0)), pid);
		if (status >> 8 == (SIGTRAP | 1 << 8))
			break;
		EXPECT_EQ(status >> 8, SIGCHLD); /* of a child before */
		EXPECT_OK(syscall(SYS_ptrace, 7 /* CONT */, pid, 0, 0));
	}
	unsigned long msg = 0;
	EXPECT_OK(syscall(SYS_ptrace, 0x4201 /* GETEVENTMSG */, pid, 0, &msg));
	EXPECT(msg > 2);
	EXPECT_EQ(EXPECT_OK(waitpid((int)msg, &status, __WALL)), (int)msg);
	EXPECT_OK(kill(pid, SIGKILL));
	EXPECT_OK(syscall(SYS_ptrace, 7 /* CONT */, pid, 0, 0) == 0 || errno == ESRCH ? 0 : -1);
	while (waitpid(-1, &status, __WALL) > 0)
		;
}

TEST(pidns_zombie_with_parent_outside_holds_the_end_up)
{
	volatile int *w = shared();

	if (unshare(CLONE_FLAG_NEWPID) && errno == EPERM)
		test_skip("no right to make PID namespaces");
	int first = EXPECT_OK(fork());
	if (!first) {
		wait_for(&w[0], 1);
		_exit(4);
	}
	int second = EXPECT_OK(fork());
	if (!second) {
		for (;;)
			pause();
	}
	w[0] = 1;
	siginfo_t si;
	EXPECT_OK(waitid(P_PID, (id_t)second, &si, WEXITED | WNOWAIT));
	EXPECT_EQ(si.si_status, SIGKILL);
	test_sleep_ms(20);
	EXPECT_EQ(waitpid(first, NULL, WNOHANG), 0);
	wait_killed(second, SIGKILL);
	wait_exited(first, 4);
}

TEST(pidns_exec_keeps_numbers)
{
	int pid = new_init();

	if (!pid) {
		execl("/bin/sh", "sh", "-c", "[ $$ = 1 ] && [ $PPID = 0 ] && exit 6", NULL);
		_exit(1);
	}
	wait_exited(pid, 6);
}
