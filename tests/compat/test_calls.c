/* Calls that programs probe: about other processes, memory policies, I/O priorities, the clock's
 * state, unshare and prctl's rarer options. */
#include "tests/compat/compat.h"

#include <linux/capability.h>
#include <linux/kcmp.h>
#include <linux/mempolicy.h>
#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/klog.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/timex.h>
#include <sys/uio.h>

#define MADVISE_COLD 20
#define NR_mrelease 448
#define NR_home_node 450
#define BE(level) (2 << 13 | (level))
#define IDLE_CLASS (3 << 13)

static int pidfd_of(pid_t pid)
{
	return (int)EXPECT_OK(syscall(SYS_pidfd_open, pid, 0));
}

static pid_t sleeper(void)
{
	pid_t pid = fork();

	EXPECT(pid >= 0);
	if (pid == 0) {
		pause();
		_exit(0);
	}
	return pid;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	EXPECT_EQ(waitpid(pid, NULL, 0), pid);
}

/* The child is a user who may do nothing to root's processes. */
static void as_nobody(void (*fn)(void *), void *arg)
{
	pid_t pid;
	int status;

	if (getuid())
		test_skip("needs root");
	EXPECT((pid = fork()) >= 0);
	if (pid == 0) {
		EXPECT_OK(setgid(65534));
		EXPECT_OK(setuid(65534));
		fn(arg);
		_exit(0);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	if (status)
		_exit(1); /* the child has told why */
}

/* ---- pidfd_getfd ---- */

TEST(pidfd_getfd_takes_a_file_of_another_process)
{
	int to_parent[2], fd;
	char c = 0;

	EXPECT_OK(pipe(to_parent));
	pid_t pid = fork();
	EXPECT(pid >= 0);
	if (pid == 0) {
		int pair[2];
		EXPECT_OK(pipe(pair));
		EXPECT_EQ(write(pair[1], "x", 1), 1);
		EXPECT_EQ(write(to_parent[1], &pair[0], sizeof(int)), (long)sizeof(int));
		pause();
		_exit(0);
	}
	EXPECT_EQ(read(to_parent[0], &fd, sizeof(fd)), (long)sizeof(fd));
	int pidfd = pidfd_of(pid), lowest = test_lowest_fd();
	int got = (int)EXPECT_OK(syscall(SYS_pidfd_getfd, pidfd, fd, 0));
	EXPECT_EQ(got, lowest);
	EXPECT_EQ(fcntl(got, F_GETFD), FD_CLOEXEC);
	EXPECT_EQ(read(got, &c, 1), 1);
	EXPECT_EQ(c, 'x');
	EXPECT_EQ(syscall(SYS_kcmp, getpid(), pid, KCMP_FILE, got, fd), 0);
	end(pid);
	EXPECT_ERRNO(syscall(SYS_pidfd_getfd, pidfd, fd, 0), ESRCH);
}

TEST(pidfd_getfd_checks_its_arguments)
{
	int pidfd = pidfd_of(getpid());

	EXPECT_ERRNO(syscall(SYS_pidfd_getfd, pidfd, 0, 1), EINVAL);
	EXPECT_ERRNO(syscall(SYS_pidfd_getfd, pidfd, 199, 0), EBADF);
	EXPECT_ERRNO(syscall(SYS_pidfd_getfd, pidfd, -1, 0), EBADF);
	EXPECT_ERRNO(syscall(SYS_pidfd_getfd, 0, 0, 0), EBADF);
	EXPECT_ERRNO(syscall(SYS_pidfd_getfd, 199, 0, 0), EBADF);
	int fd = (int)EXPECT_OK(syscall(SYS_pidfd_getfd, pidfd, 0, 0));
	EXPECT_EQ(syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, fd, 0), 0);
}

TEST(pidfd_getfd_of_a_zombie_finds_nothing)
{
	siginfo_t info;
	pid_t pid = sleeper();
	int pidfd = pidfd_of(pid);

	kill(pid, SIGKILL);
	EXPECT_OK(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT));
	EXPECT_ERRNO(syscall(SYS_pidfd_getfd, pidfd, 0, 0), ESRCH);
	end(pid);
}

static void look_into(void *arg)
{
	int pidfd = *(int *)arg;
	pid_t parent = getppid();
	char page[1];
	struct iovec iov = {page, 1};

	EXPECT_ERRNO(syscall(SYS_pidfd_getfd, pidfd, 0, 0), EPERM);
	EXPECT_ERRNO(syscall(SYS_kcmp, getpid(), parent, KCMP_VM, 0, 0), EPERM);
	EXPECT_ERRNO(syscall(SYS_kcmp, parent, getpid(), KCMP_FILE, 0, 0), EPERM);
	EXPECT_ERRNO(syscall(SYS_process_madvise, pidfd, &iov, 1, MADVISE_COLD, 0), EACCES);
	EXPECT_ERRNO(syscall(SYS_ioprio_set, 1, parent, BE(1)), EPERM);
	EXPECT_ERRNO(syscall(SYS_ioprio_set, 1, 0, 1 << 13), EPERM);
	EXPECT_OK(syscall(SYS_ioprio_set, 1, 0, BE(7)));
	EXPECT_ERRNO(prctl(PR_SET_MM, PR_SET_MM_ARG_START, page, 0, 0), EPERM);
	EXPECT_ERRNO(syscall(SYS_mbind, page, 0, MPOL_DEFAULT, NULL, 0, MPOL_MF_MOVE_ALL), EPERM);
}

TEST(another_user_may_not_look_into_a_process)
{
	int pidfd = pidfd_of(getpid());

	as_nobody(look_into, &pidfd);
}

/* ---- kcmp ---- */

static void *kcmp_thread(void *arg)
{
	pid_t tid = (pid_t)syscall(SYS_gettid), pid = getpid();

	(void)arg;
	for (int kind = KCMP_VM; kind <= KCMP_SIGHAND; kind++)
		EXPECT_EQ(syscall(SYS_kcmp, pid, tid, kind, 0, 0), 0);
	EXPECT_OK(unshare(CLONE_FILES));
	EXPECT(syscall(SYS_kcmp, pid, tid, KCMP_FILES, 0, 0) > 0);
	EXPECT_EQ(syscall(SYS_kcmp, pid, tid, KCMP_FILE, 1, 1), 0);
	EXPECT_EQ(syscall(SYS_kcmp, pid, tid, KCMP_FS, 0, 0), 0);
	EXPECT_OK(unshare(CLONE_FS));
	EXPECT(syscall(SYS_kcmp, pid, tid, KCMP_FS, 0, 0) > 0);
	return NULL;
}

TEST(kcmp_tells_what_threads_share)
{
	pthread_t th;

	EXPECT_EQ(pthread_create(&th, NULL, kcmp_thread, NULL), 0);
	EXPECT_EQ(pthread_join(th, NULL), 0);
}

TEST(kcmp_tells_processes_apart)
{
	pid_t me = getpid(), pid = sleeper();

	for (int kind = KCMP_VM; kind <= KCMP_SIGHAND; kind++) {
		long one = syscall(SYS_kcmp, me, pid, kind, 0, 0);
		long other = syscall(SYS_kcmp, pid, me, kind, 0, 0);
		EXPECT(one == 1 || one == 2);
		EXPECT_EQ(one + other, 3);
	}
	EXPECT_EQ(syscall(SYS_kcmp, me, pid, KCMP_FILE, 1, 1), 0);
	int fd = dup(1), null = open("/dev/null", O_RDONLY);
	EXPECT_EQ(syscall(SYS_kcmp, me, me, KCMP_FILE, 1, fd), 0);
	EXPECT(syscall(SYS_kcmp, me, me, KCMP_FILE, 1, null) > 0);
	EXPECT_EQ(syscall(SYS_kcmp, me, pid, KCMP_SYSVSEM, 0, 0), 0);
	EXPECT_EQ(syscall(SYS_kcmp, me, me, KCMP_IO, 0, 0), 0);
	EXPECT_ERRNO(syscall(SYS_kcmp, me, pid, KCMP_FILE, 1, 199), EBADF);
	EXPECT_ERRNO(syscall(SYS_kcmp, me, pid, 8, 0, 0), EINVAL);
	EXPECT_ERRNO(syscall(SYS_kcmp, me, 0x3fffffff, KCMP_VM, 0, 0), ESRCH);
	end(pid);
}

static long kcmp_epoll(int fd, int epfd, int tfd, unsigned nth)
{
	struct kcmp_epoll_slot slot = {(uint32_t)epfd, (uint32_t)tfd, nth};

	return syscall(SYS_kcmp, getpid(), getpid(), KCMP_EPOLL_TFD, fd, &slot);
}

TEST(kcmp_finds_what_an_epoll_watches)
{
	struct epoll_event ev = {.events = EPOLLIN};
	int p[2], ep = (int)EXPECT_OK(epoll_create1(0));

	EXPECT_OK(pipe(p));
	EXPECT_OK(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &ev));
	int same = (int)EXPECT_OK(dup(p[0]));
	EXPECT_EQ(kcmp_epoll(p[0], ep, p[0], 0), 0);
	EXPECT_EQ(kcmp_epoll(same, ep, p[0], 0), 0);
	EXPECT(kcmp_epoll(p[1], ep, p[0], 0) > 0);
	EXPECT_ERRNO(kcmp_epoll(same, ep, same, 0), ENOENT);
	EXPECT_ERRNO(kcmp_epoll(same, ep, p[0], 1), ENOENT);
	EXPECT_ERRNO(kcmp_epoll(same, p[1], p[0], 0), EINVAL);
	EXPECT_ERRNO(kcmp_epoll(99, ep, p[0], 0), EBADF);
	EXPECT_ERRNO(kcmp_epoll(same, 99, p[0], 0), EBADF);
	EXPECT_ERRNO(syscall(SYS_kcmp, getpid(), getpid(), KCMP_EPOLL_TFD, same, BAD_ADDR), EFAULT);
	/* Two files under one number. */
	EXPECT_OK(dup2(p[1], p[0]));
	EXPECT_OK(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &ev));
	int zeroth = (int)kcmp_epoll(same, ep, p[0], 0) == 0;
	EXPECT_EQ(kcmp_epoll(same, ep, p[0], !zeroth), 0);
	EXPECT_EQ(kcmp_epoll(p[1], ep, p[0], zeroth), 0);
	EXPECT_ERRNO(kcmp_epoll(p[1], ep, p[0], 2), ENOENT);
}

/* ---- process_madvise, process_mrelease ---- */

TEST(process_madvise_advises_own_memory)
{
	int pidfd = pidfd_of(getpid());
	char *m = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct iovec iov[] = {{m, 4096}, {m + 8192, 4096}};

	EXPECT_EQ(syscall(SYS_process_madvise, pidfd, iov, 2, MADVISE_COLD, 0), 8192);
	EXPECT_EQ(syscall(SYS_process_madvise, pidfd, iov, 0, MADVISE_COLD, 0), 0);
	EXPECT_OK(munmap(m + 8192, 4096));
	EXPECT_EQ(syscall(SYS_process_madvise, pidfd, iov, 2, MADVISE_COLD, 0), 4096);
	EXPECT_ERRNO(syscall(SYS_process_madvise, pidfd, iov + 1, 1, MADVISE_COLD, 0), ENOMEM);
	EXPECT_ERRNO(syscall(SYS_process_madvise, pidfd, iov, 1, 99, 0), EINVAL);
	EXPECT_ERRNO(syscall(SYS_process_madvise, pidfd, iov, 1, MADVISE_COLD, 1), EINVAL);
	EXPECT_ERRNO(syscall(SYS_process_madvise, 0, iov, 1, MADVISE_COLD, 0), EBADF);
	EXPECT_ERRNO(syscall(SYS_process_madvise, pidfd, BAD_ADDR, 1, MADVISE_COLD, 0), EFAULT);
	EXPECT_ERRNO(syscall(SYS_process_madvise, pidfd, iov, 1025, MADVISE_COLD, 0), EINVAL);
}

TEST(process_madvise_only_hints_to_others)
{
	char *m = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct iovec iov = {m, 8192};
	pid_t pid = sleeper();
	int pidfd = pidfd_of(pid);

	EXPECT_ERRNO(syscall(SYS_process_madvise, pidfd, &iov, 1, MADV_DONTNEED, 0), EINVAL);
	EXPECT_EQ(syscall(SYS_process_madvise, pidfd, &iov, 1, MADVISE_COLD, 0), 8192);
	EXPECT_EQ(syscall(SYS_process_madvise, pidfd, &iov, 1, MADV_WILLNEED, 0), 8192);
	end(pid);
	EXPECT_ERRNO(syscall(SYS_process_madvise, pidfd, &iov, 1, MADVISE_COLD, 0), ESRCH);
}

TEST(process_mrelease_is_for_the_dying)
{
	pid_t pid = sleeper();
	int pidfd = pidfd_of(pid);
	siginfo_t info;

	EXPECT_ERRNO(syscall(NR_mrelease, pidfd, 1), EINVAL);
	EXPECT_ERRNO(syscall(NR_mrelease, 0, 0), EBADF);
	EXPECT_ERRNO(syscall(NR_mrelease, pidfd, 0), EINVAL);
	kill(pid, SIGKILL);
	EXPECT_OK(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT));
	EXPECT_ERRNO(syscall(NR_mrelease, pidfd, 0), ESRCH);
	end(pid);
}

/* ---- I/O priorities ---- */

static void ioprio_child(void *arg)
{
	(void)arg;
	EXPECT_EQ(syscall(SYS_ioprio_get, 1, 0), BE(3));
}

TEST(ioprio_is_remembered_and_inherited)
{
	EXPECT_EQ(syscall(SYS_ioprio_get, 1, 0), 0);
	EXPECT_EQ(syscall(SYS_ioprio_get, 2, 0), BE((getpriority(PRIO_PROCESS, 0) + 20) / 5));
	EXPECT_OK(syscall(SYS_ioprio_set, 1, 0, BE(3)));
	EXPECT_EQ(syscall(SYS_ioprio_get, 1, getpid()), BE(3));
	EXPECT_EQ(test_child(ioprio_child, NULL), 0);
	EXPECT_OK(syscall(SYS_ioprio_set, 2, 0, IDLE_CLASS));
	EXPECT_EQ(syscall(SYS_ioprio_get, 1, 0), IDLE_CLASS);
	EXPECT_EQ(syscall(SYS_ioprio_get, 2, 0), IDLE_CLASS);
	EXPECT_OK(syscall(SYS_ioprio_set, 1, 0, 0));
	EXPECT_EQ(syscall(SYS_ioprio_get, 1, 0), 0);
}

TEST(ioprio_checks_its_arguments)
{
	EXPECT_ERRNO(syscall(SYS_ioprio_get, 0, 0), EINVAL);
	EXPECT_ERRNO(syscall(SYS_ioprio_get, 4, 0), EINVAL);
	EXPECT_ERRNO(syscall(SYS_ioprio_get, 1, 0x3fffffff), ESRCH);
	EXPECT_ERRNO(syscall(SYS_ioprio_set, 1, 0, 5), EINVAL);
	EXPECT_ERRNO(syscall(SYS_ioprio_set, 1, 0, 4 << 13), EINVAL);
	EXPECT_ERRNO(syscall(SYS_ioprio_set, 1, 0, 7 << 13), EINVAL);
	EXPECT_ERRNO(syscall(SYS_ioprio_set, 9, 0, BE(4)), EINVAL);
	EXPECT_ERRNO(syscall(SYS_ioprio_set, 2, 0x3fffffff, BE(4)), ESRCH);
}

/* ---- the clock's state ---- */

TEST(adjtimex_reads_the_state_of_the_clock)
{
	struct timex tx = {0};
	struct timespec ts;

	int state = (int)EXPECT_OK(syscall(SYS_adjtimex, &tx));
	EXPECT(state <= TIME_ERROR);
	EXPECT(tx.tick >= 9000 && tx.tick <= 11000);
	EXPECT_EQ(tx.tolerance, 32768000);
	EXPECT_OK(clock_gettime(CLOCK_REALTIME, &ts));
	EXPECT(ts.tv_sec - tx.time.tv_sec <= 1);
	EXPECT_EQ(syscall(SYS_clock_adjtime, CLOCK_REALTIME, &tx), state);
	EXPECT_ERRNO(syscall(SYS_clock_adjtime, CLOCK_MONOTONIC, &tx), EOPNOTSUPP);
	EXPECT_ERRNO(syscall(SYS_clock_adjtime, CLOCK_TAI, &tx), EOPNOTSUPP);
	EXPECT_ERRNO(syscall(SYS_clock_adjtime, 99, &tx), EINVAL);
	EXPECT_ERRNO(syscall(SYS_adjtimex, BAD_ADDR), EFAULT);
}

static void adjust(void *arg)
{
	struct timex tx = {.modes = ADJ_FREQUENCY};

	(void)arg;
	EXPECT_ERRNO(syscall(SYS_adjtimex, &tx), EPERM);
	tx.modes = ADJ_OFFSET_SS_READ;
	EXPECT_OK(syscall(SYS_adjtimex, &tx));
}

TEST(adjtimex_changes_nothing_for_the_unprivileged)
{
	as_nobody(adjust, NULL);
}

/* ---- memory policies ---- */

static void expect_policy(int want, unsigned long want_nodes)
{
	unsigned long nodes[16] = {~0UL, ~0UL};
	int mode = -1;

	EXPECT_OK(syscall(SYS_get_mempolicy, &mode, nodes, 1024, NULL, 0));
	EXPECT_EQ(mode, want);
	EXPECT_EQ(nodes[0], want_nodes);
	EXPECT_EQ(nodes[1], 0);
}

TEST(mempolicy_is_remembered)
{
	unsigned long none = 0, first = 1, third = 4, nodes;
	int mode;

	expect_policy(MPOL_DEFAULT, 0);
	EXPECT_OK(syscall(SYS_set_mempolicy, MPOL_BIND, &first, 64));
	expect_policy(MPOL_BIND, 1);
	EXPECT_OK(syscall(SYS_set_mempolicy, MPOL_BIND | 1 << 14, &third, 64));
	expect_policy(MPOL_BIND | 1 << 14, 4);
	EXPECT_OK(syscall(SYS_set_mempolicy, MPOL_PREFERRED, NULL, 0));
	expect_policy(MPOL_LOCAL, 0);
	EXPECT_OK(syscall(SYS_set_mempolicy, MPOL_INTERLEAVE, &first, 64));
	EXPECT_OK(syscall(SYS_get_mempolicy, &mode, NULL, 0, NULL, MPOL_F_NODE));
	EXPECT_EQ(mode, 0);
	EXPECT_OK(syscall(SYS_set_mempolicy, MPOL_DEFAULT, &none, 64));
	expect_policy(MPOL_DEFAULT, 0);
	EXPECT_OK(syscall(SYS_get_mempolicy, NULL, &nodes, 64, NULL, MPOL_F_MEMS_ALLOWED));
	EXPECT_EQ(nodes, 1);
}

TEST(mempolicy_checks_its_arguments)
{
	unsigned long first = 1, third = 4;
	int mode;

	EXPECT_ERRNO(syscall(SYS_set_mempolicy, 99, NULL, 0), EINVAL);
	EXPECT_ERRNO(syscall(SYS_set_mempolicy, MPOL_DEFAULT, &first, 64), EINVAL);
	EXPECT_ERRNO(syscall(SYS_set_mempolicy, MPOL_BIND, NULL, 0), EINVAL);
	EXPECT_ERRNO(syscall(SYS_set_mempolicy, MPOL_BIND, &third, 64), EINVAL);
	EXPECT_ERRNO(syscall(SYS_set_mempolicy, MPOL_BIND | 3 << 14, &first, 64), EINVAL);
	EXPECT_ERRNO(syscall(SYS_set_mempolicy, MPOL_INTERLEAVE | 1 << 13, &first, 64), EINVAL);
	EXPECT_ERRNO(syscall(SYS_set_mempolicy, MPOL_LOCAL, &first, 0), EINVAL);
	EXPECT_ERRNO(syscall(SYS_set_mempolicy, MPOL_BIND, BAD_ADDR, 64), EFAULT);
	EXPECT_ERRNO(syscall(SYS_set_mempolicy, MPOL_BIND, &first, 99999), EINVAL);
	EXPECT_ERRNO(syscall(SYS_get_mempolicy, &mode, NULL, 0, &mode, 0), EINVAL);
	EXPECT_ERRNO(syscall(SYS_get_mempolicy, &mode, NULL, 0, NULL, 16), EINVAL);
	EXPECT_ERRNO(syscall(SYS_get_mempolicy, &mode, NULL, 0, NULL, MPOL_F_NODE), EINVAL);
	EXPECT_ERRNO(syscall(SYS_get_mempolicy, &mode, NULL, 0, BAD_ADDR, MPOL_F_ADDR), EFAULT);
	EXPECT_ERRNO(syscall(SYS_get_mempolicy, BAD_ADDR, NULL, 0, NULL, 0), EFAULT);
}

TEST(mbind_is_per_mapping)
{
	char *m = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned long first = 1;
	int mode = -1;

	EXPECT_OK(syscall(SYS_mbind, m + 4096, 4096, MPOL_BIND, &first, 64, 0));
	EXPECT_OK(syscall(SYS_get_mempolicy, &mode, NULL, 0, m + 5000, MPOL_F_ADDR));
	EXPECT_EQ(mode, MPOL_BIND);
	EXPECT_OK(syscall(SYS_get_mempolicy, &mode, NULL, 0, m, MPOL_F_ADDR));
	EXPECT_EQ(mode, MPOL_DEFAULT);
	EXPECT_OK(syscall(SYS_get_mempolicy, &mode, NULL, 0, m, MPOL_F_ADDR | MPOL_F_NODE));
	EXPECT_EQ(mode, 0);
	EXPECT_OK(syscall(NR_home_node, m, 16384, 0, 0));
	EXPECT_ERRNO(syscall(NR_home_node, m, 4096, 0, 0), ENOENT);
	EXPECT_ERRNO(syscall(NR_home_node, m, 4096, 1, 0), EINVAL);
	EXPECT_ERRNO(syscall(NR_home_node, m, 4096, 0, 1), EINVAL);
	EXPECT_OK(syscall(SYS_mbind, m + 4096, 4096, MPOL_INTERLEAVE, &first, 64, 0));
	EXPECT_ERRNO(syscall(NR_home_node, m, 16384, 0, 0), EOPNOTSUPP);
	EXPECT_ERRNO(syscall(SYS_mbind, m + 1, 4096, MPOL_BIND, &first, 64, 0), EINVAL);
	EXPECT_ERRNO(syscall(SYS_mbind, m, 4096, MPOL_BIND, &first, 64, 8), EINVAL);
	EXPECT_OK(syscall(SYS_mbind, m, 0, MPOL_BIND, &first, 64, 0));
	EXPECT_OK(munmap(m + 8192, 4096));
	EXPECT_ERRNO(syscall(SYS_mbind, m, 16384, MPOL_BIND, &first, 64, 0), EFAULT);
	EXPECT_OK(syscall(SYS_mbind, m, 16384, MPOL_DEFAULT, NULL, 0, 0));
}

/* ---- unshare, setns ---- */

static void *unshare_files(void *arg)
{
	int *fd = arg;

	EXPECT_OK(unshare(CLONE_FILES));
	EXPECT_OK(close(*fd));
	*fd = (int)EXPECT_OK(open("/dev/null", O_RDONLY));
	return NULL;
}

TEST(unshare_files_makes_a_table_of_ones_own)
{
	pthread_t th;
	int fd = (int)EXPECT_OK(open("/dev/zero", O_RDONLY)), mine = fd;
	char c;

	EXPECT_EQ(pthread_create(&th, NULL, unshare_files, &fd), 0);
	EXPECT_EQ(pthread_join(th, NULL), 0);
	EXPECT_EQ(fd, mine); /* the number was free there */
	EXPECT_EQ(read(mine, &c, 1), 1);
}

static void *unshare_fs(void *arg)
{
	(void)arg;
	EXPECT_OK(unshare(CLONE_FS));
	umask(0123);
	EXPECT_OK(chdir("/"));
	return NULL;
}

TEST(unshare_fs_parts_directory_and_umask)
{
	char dir[100];
	pthread_t th;

	strcpy(dir, test_dir());
	umask(027);
	EXPECT_EQ(pthread_create(&th, NULL, unshare_fs, NULL), 0);
	EXPECT_EQ(pthread_join(th, NULL), 0);
	EXPECT_EQ(umask(0), 027);
	char cwd[100];
	EXPECT(getcwd(cwd, sizeof(cwd)) != NULL);
	EXPECT_STR(cwd, dir);
}

static void *unshare_in_thread(void *arg)
{
	(void)arg;
	EXPECT_OK(unshare(CLONE_SYSVSEM));
	EXPECT_ERRNO(unshare(CLONE_THREAD), EINVAL);
	EXPECT_ERRNO(unshare(CLONE_SIGHAND), EINVAL);
	EXPECT_ERRNO(unshare(CLONE_VM), EINVAL);
	EXPECT_ERRNO(unshare(CLONE_NEWUSER), EINVAL);
	return NULL;
}

TEST(unshare_checks_its_flags)
{
	pthread_t th;

	EXPECT_OK(unshare(0));
	EXPECT_OK(unshare(CLONE_THREAD | CLONE_SIGHAND | CLONE_VM | CLONE_SYSVSEM));
	EXPECT_ERRNO(unshare(CLONE_PARENT), EINVAL);
	EXPECT_ERRNO(unshare(CLONE_VFORK | CLONE_FILES), EINVAL);
	EXPECT_EQ(pthread_create(&th, NULL, unshare_in_thread, NULL), 0);
	EXPECT_EQ(pthread_join(th, NULL), 0);
}

static void new_namespaces(void *arg)
{
	(void)arg;
	EXPECT_ERRNO(unshare(CLONE_NEWNS), EPERM);
	EXPECT_ERRNO(unshare(CLONE_NEWUTS | CLONE_FILES), EPERM);
	EXPECT_ERRNO(unshare(CLONE_NEWNET), EPERM);
}

TEST(unshare_of_namespaces_needs_privilege)
{
	as_nobody(new_namespaces, NULL);
}

TEST(setns_checks_its_arguments)
{
	int pidfd = pidfd_of(getpid());

	EXPECT_ERRNO(setns(199, 0), EBADF);
	EXPECT_ERRNO(setns(0, 0), EINVAL);
	EXPECT_ERRNO(setns(pidfd, 0), EINVAL);
	EXPECT_ERRNO(setns(pidfd, 1), EINVAL);
	EXPECT_ERRNO(setns(pidfd, CLONE_FILES), EINVAL);
}

/* ---- prctl ---- */

static void thp_child(void *arg)
{
	(void)arg;
	EXPECT_EQ(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0), 1);
	EXPECT_EQ(prctl(PR_MCE_KILL_GET, 0, 0, 0, 0), PR_MCE_KILL_EARLY);
}

TEST(prctl_remembers_thp_disable_and_mce_kill)
{
	EXPECT_EQ(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0), 0);
	EXPECT_OK(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
	EXPECT_ERRNO(prctl(PR_SET_THP_DISABLE, 1, 0, 1, 0), EINVAL);
	EXPECT_ERRNO(prctl(PR_GET_THP_DISABLE, 1, 0, 0, 0), EINVAL);
	EXPECT_EQ(prctl(PR_MCE_KILL_GET, 0, 0, 0, 0), PR_MCE_KILL_DEFAULT);
	EXPECT_OK(prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0));
	EXPECT_ERRNO(prctl(PR_MCE_KILL, PR_MCE_KILL_SET, 3, 0, 0), EINVAL);
	EXPECT_ERRNO(prctl(PR_MCE_KILL, PR_MCE_KILL_CLEAR, 1, 0, 0), EINVAL);
	EXPECT_ERRNO(prctl(PR_MCE_KILL, 2, 0, 0, 0), EINVAL);
	EXPECT_ERRNO(prctl(PR_MCE_KILL_GET, 1, 0, 0, 0), EINVAL);
	EXPECT_EQ(test_child(thp_child, NULL), 0);
	EXPECT_OK(prctl(PR_MCE_KILL, PR_MCE_KILL_CLEAR, 0, 0, 0));
	EXPECT_EQ(prctl(PR_MCE_KILL_GET, 0, 0, 0, 0), PR_MCE_KILL_DEFAULT);
}

TEST(prctl_speculation_control_is_consistent)
{
	int store = prctl(PR_GET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS, 0, 0, 0);

	EXPECT(store >= 0);
	if (!(store & PR_SPEC_PRCTL))
		EXPECT_ERRNO(
			prctl(PR_SET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS, PR_SPEC_DISABLE, 0, 0),
			ENXIO);
	EXPECT_OK(prctl(PR_GET_SPECULATION_CTRL, PR_SPEC_INDIRECT_BRANCH, 0, 0, 0));
	EXPECT_ERRNO(prctl(PR_SET_SPECULATION_CTRL, PR_SPEC_INDIRECT_BRANCH, 99, 0, 0), ERANGE);
	EXPECT_ERRNO(prctl(PR_GET_SPECULATION_CTRL, 9, 0, 0, 0), ENODEV);
	EXPECT_ERRNO(prctl(PR_GET_SPECULATION_CTRL, 0, 1, 0, 0), EINVAL);
	EXPECT_ERRNO(prctl(PR_GET_TAGGED_ADDR_CTRL, 0, 0, 0, 0), EINVAL);
}

TEST(prctl_set_mm_moves_the_command_line)
{
	char *m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char line[64] = "";

	/* Without CAP_SYS_RESOURCE there is only this to see. */
	if (prctl(PR_SET_MM, PR_SET_MM_ENV_END, m + 4000, 0, 0) && errno == EPERM) {
		EXPECT_ERRNO(prctl(PR_SET_MM, 99, m, 0, 0), EPERM);
		return;
	}
	strcpy(m, "renamed");
	/* The end first when the new place is higher, else the start. */
	if (prctl(PR_SET_MM, PR_SET_MM_ARG_START, m, 0, 0)) {
		EXPECT_OK(prctl(PR_SET_MM, PR_SET_MM_ARG_END, m + 8, 0, 0));
		EXPECT_OK(prctl(PR_SET_MM, PR_SET_MM_ARG_START, m, 0, 0));
	} else {
		EXPECT_OK(prctl(PR_SET_MM, PR_SET_MM_ARG_END, m + 8, 0, 0));
	}
	int fd = (int)EXPECT_OK(open("/proc/self/cmdline", O_RDONLY));
	EXPECT_EQ(read(fd, line, sizeof(line) - 1), 8);
	EXPECT_STR(line, "renamed");
	EXPECT_ERRNO(prctl(PR_SET_MM, PR_SET_MM_ARG_START, m + 9, 0, 0), EINVAL);
	EXPECT_ERRNO(prctl(PR_SET_MM, PR_SET_MM_ARG_START, BAD_ADDR, 0, 0), EINVAL);
	EXPECT_ERRNO(prctl(PR_SET_MM, 99, m, 0, 0), EINVAL);
}

/* ---- scheduling ---- */

struct attr {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

static void reset_child(void *arg)
{
	(void)arg;
	EXPECT_EQ(sched_getscheduler(0), SCHED_OTHER);
	errno = 0;
	EXPECT_EQ(getpriority(PRIO_PROCESS, 0), 5);
}

TEST(sched_reset_on_fork_ends_at_the_child)
{
	struct attr a = {.size = 48, .flags = 1, .nice = 5}, now;

	EXPECT_OK(syscall(SYS_sched_setattr, 0, &a, 0));
	EXPECT_EQ(sched_getscheduler(0), SCHED_OTHER | SCHED_RESET_ON_FORK);
	EXPECT_OK(syscall(SYS_sched_getattr, 0, &now, 48, 0));
	EXPECT_EQ(now.flags, 1);
	EXPECT_EQ(now.policy, SCHED_OTHER);
	EXPECT_EQ(now.nice, 5);
	EXPECT_EQ(test_child(reset_child, NULL), 0);
}

TEST(sched_setattr_takes_sizes_and_flags_as_linux_does)
{
	_Alignas(8) char page[4096] = {0};
	struct attr a = {.size = 48, .nice = 40}, now;
	uint32_t size = 4096;

	memcpy(page, &size, sizeof(size));
	EXPECT_OK(syscall(SYS_sched_setattr, 0, page, 0));
	page[4000] = 1;
	EXPECT_ERRNO(syscall(SYS_sched_setattr, 0, page, 0), E2BIG);
	memcpy(&size, page, sizeof(size));
	EXPECT_EQ(size, 56);
	a.size = 47;
	EXPECT_ERRNO(syscall(SYS_sched_setattr, 0, &a, 0), E2BIG);
	a.size = 48;
	a.flags = 0x100;
	EXPECT_ERRNO(syscall(SYS_sched_setattr, 0, &a, 0), EINVAL);
	a.flags = 0;
	EXPECT_OK(syscall(SYS_sched_setattr, 0, &a, 0));
	EXPECT_OK(syscall(SYS_sched_getattr, 0, &now, 48, 0));
	EXPECT_EQ(now.nice, 19);
	a.flags = 0x18; /* keep all */
	a.nice = 3;
	EXPECT_OK(syscall(SYS_sched_setattr, 0, &a, 0));
	EXPECT_OK(syscall(SYS_sched_getattr, 0, &now, 48, 0));
	EXPECT_EQ(now.nice, 19);
}

static void raise_nice(void *arg)
{
	struct attr a = {.size = 48, .nice = -5};

	(void)arg;
	EXPECT_ERRNO(syscall(SYS_sched_setattr, 0, &a, 0), EPERM);
}

TEST(sched_setattr_raises_nice_only_for_the_privileged)
{
	as_nobody(raise_nice, NULL);
}

/* ---- the kernel's log, usage ---- */

static void read_log(void *arg)
{
	(void)arg;
	EXPECT_ERRNO(klogctl(5, NULL, 0), EPERM);
	EXPECT_ERRNO(klogctl(9, NULL, 0), EPERM);
}

TEST(syslog_needs_privilege)
{
	as_nobody(read_log, NULL);
}

TEST(syslog_checks_its_arguments)
{
	char buf[16];

	if (klogctl(10, NULL, 0) < 0 && errno == EPERM)
		return;
	EXPECT(klogctl(10, NULL, 0) >= 4096);
	EXPECT_OK(klogctl(9, NULL, 0));
	EXPECT_ERRNO(klogctl(3, NULL, 10), EINVAL);
	EXPECT_ERRNO(klogctl(3, buf, -1), EINVAL);
	EXPECT_EQ(klogctl(2, buf, 0), 0);
	EXPECT_ERRNO(klogctl(8, NULL, 0), EINVAL);
	EXPECT_ERRNO(klogctl(8, NULL, 9), EINVAL);
	EXPECT_ERRNO(klogctl(11, NULL, 0), EINVAL);
}

TEST(maxrss_is_the_peak)
{
	size_t size = 32 << 20;
	struct rusage usage;
	char *m = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	EXPECT(m != MAP_FAILED);
	memset(m, 1, size);
	EXPECT_OK(munmap(m, size));
	EXPECT_OK(getrusage(RUSAGE_SELF, &usage));
	EXPECT(usage.ru_maxrss >= (long)(size / 1024));
}

static void use_memory(void *arg)
{
	size_t size = *(size_t *)arg;
	char *m = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	memset(m, 1, size);
	munmap(m, size);
}

TEST(maxrss_of_a_child_is_its_peak)
{
	size_t size = 32 << 20;
	struct rusage usage;

	EXPECT_EQ(test_child(use_memory, &size), 0);
	EXPECT_OK(getrusage(RUSAGE_CHILDREN, &usage));
	EXPECT(usage.ru_maxrss >= (long)(size / 1024));
}

/* ---- /proc/PID/oom_score_adj ---- */

static int write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY), n = fd < 0 ? -1 : (int)write(fd, text, strlen(text));
	int saved = errno;

	close(fd);
	errno = saved;
	return n;
}

static int read_number(const char *path)
{
	char buf[32] = "";
	int fd = open(path, O_RDONLY);

	EXPECT(read(fd, buf, sizeof(buf) - 1) > 0);
	close(fd);
	return atoi(buf);
}

static void oom_child(void *arg)
{
	(void)arg;
	EXPECT_EQ(read_number("/proc/self/oom_score_adj"), 500);
	EXPECT_OK(setresuid(1234, 1234, 1234));
	EXPECT_OK(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)); /* the file is root's otherwise */
	EXPECT_OK(write_text("/proc/self/oom_score_adj", "700"));
	EXPECT_ERRNO(write_text("/proc/self/oom_score_adj", "-1"), EACCES);
	EXPECT_OK(write_text("/proc/self/oom_score_adj", "500\n"));
}

TEST(oom_score_adj_is_kept_inherited_and_bounded)
{
	const char *path = "/proc/self/oom_score_adj";
	int old = read_number(path);
	char text[16];

	EXPECT_ERRNO(write_text(path, "1001"), EINVAL);
	EXPECT_ERRNO(write_text(path, "-1001"), EINVAL);
	EXPECT_ERRNO(write_text(path, "x"), EINVAL);
	EXPECT_ERRNO(write_text(path, "1 2"), EINVAL);
	EXPECT_OK(write_text(path, "500"));
	EXPECT_EQ(read_number(path), 500);
	EXPECT_EQ(read_number("/proc/self/oom_adj"), 8);
	EXPECT_EQ(test_child(oom_child, NULL), 0);
	EXPECT_OK(write_text("/proc/self/oom_adj", "15"));
	EXPECT_EQ(read_number(path), 1000);
	snprintf(text, sizeof(text), "%d", old);
	EXPECT_OK(write_text(path, text));
}
