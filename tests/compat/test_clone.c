/* clone(2), clone3(2), vfork(2): what is shared, what the flags demand, what the parent hears. */
#include "tests/compat/compat.h"

#include <linux/sched.h>
#include <poll.h>
#include <pthread.h>
#include <sys/prctl.h>

static char child_stack[65536] __attribute__((aligned(16)));

/* glibc's wrapper, whose header clashes with linux/sched.h. */
int clone(int (*fn)(void *), void *stack, int flags, void *arg, ...);

static int spawn(int (*fn)(void *), unsigned long flags, void *arg)
{
	return clone(fn, child_stack + sizeof(child_stack), (int)flags, arg, NULL, NULL, NULL);
}

static long raw_clone(unsigned long flags, void *stack)
{
	return syscall(SYS_clone, flags, stack, NULL, NULL, 0);
}

static long clone3(struct clone_args *args, size_t size)
{
	return syscall(SYS_clone3, args, size);
}

static int status_of(pid_t pid, int options)
{
	int status;

	EXPECT_EQ(waitpid(pid, &status, options), pid);
	return status;
}

/* ---- hostile arguments ---- */

TEST(clone_refuses_flags_without_what_they_need)
{
	EXPECT_ERRNO(raw_clone(CLONE_SIGHAND | SIGCHLD, child_stack), EINVAL);
	EXPECT_ERRNO(raw_clone(CLONE_THREAD | CLONE_VM, child_stack), EINVAL);
	EXPECT_ERRNO(raw_clone(CLONE_THREAD | CLONE_SIGHAND, child_stack), EINVAL);
	EXPECT_ERRNO(raw_clone(CLONE_FS | CLONE_NEWNS, NULL), EINVAL);
	EXPECT_ERRNO(raw_clone(CLONE_PIDFD | CLONE_DETACHED, NULL), EINVAL);
	EXPECT_ERRNO(raw_clone(CLONE_PIDFD | CLONE_PARENT_SETTID, NULL), EINVAL);
	EXPECT_ERRNO(syscall(SYS_clone, CLONE_PIDFD | SIGCHLD, NULL, BAD_ADDR, NULL, 0), EFAULT);
	EXPECT_ERRNO(waitpid(-1, NULL, WNOHANG | __WALL), ECHILD);
}

TEST(clone3_refuses_hostile_sizes_and_pointers)
{
	char page[8192] = {0};
	struct clone_args *a = (void *)page;

	EXPECT_ERRNO(clone3(BAD_ADDR, sizeof(*a)), EFAULT);
	EXPECT_ERRNO(clone3(a, 0), EINVAL);
	EXPECT_ERRNO(clone3(a, 63), EINVAL);
	EXPECT_ERRNO(clone3(a, 4097), E2BIG);
	EXPECT_ERRNO(clone3(a, ~0UL), E2BIG);
	page[200] = 1; /* a field of the future in use */
	EXPECT_ERRNO(clone3(a, 256), E2BIG);
}

TEST(clone3_refuses_bad_fields)
{
	struct clone_args a;

#define REFUSED(err, ...)                                 \
	do {                                              \
		a = (struct clone_args){__VA_ARGS__};     \
		EXPECT_ERRNO(clone3(&a, sizeof(a)), err); \
	} while (0)
	REFUSED(EINVAL, .exit_signal = 65);
	REFUSED(EINVAL, .exit_signal = 1UL << 33);
	REFUSED(EINVAL, .flags = CLONE_DETACHED);
	REFUSED(EINVAL, .flags = SIGCHLD);
	REFUSED(EINVAL, .flags = 1UL << 40);
	REFUSED(EINVAL, .exit_signal = SIGCHLD, .stack = (uintptr_t)child_stack);
	REFUSED(EINVAL, .exit_signal = SIGCHLD, .stack_size = 4096);
	REFUSED(EINVAL, .exit_signal = SIGCHLD, .flags = CLONE_THREAD | CLONE_SIGHAND | CLONE_VM,
		.stack = (uintptr_t)child_stack, .stack_size = sizeof(child_stack));
	REFUSED(EINVAL, .exit_signal = SIGCHLD, .flags = CLONE_PARENT);
	REFUSED(EINVAL, .exit_signal = SIGCHLD, .flags = CLONE_SIGHAND);
	REFUSED(EINVAL, .exit_signal = SIGCHLD,
		.flags = CLONE_SIGHAND | CLONE_CLEAR_SIGHAND | CLONE_VM);
	REFUSED(EFAULT, .exit_signal = SIGCHLD, .flags = CLONE_PIDFD, .pidfd = 0x10);
#undef REFUSED
	EXPECT_ERRNO(waitpid(-1, NULL, WNOHANG | __WALL), ECHILD);
}

/* ---- what is shared ---- */

static volatile int shared_value;

static int set_value(void *arg)
{
	shared_value = (int)(long)arg;
	return 3;
}

TEST(clone_vm_shares_memory_without_being_a_thread)
{
	pid_t pid = spawn(set_value, CLONE_VM | SIGCHLD, (void *)55);

	EXPECT(WEXITSTATUS(status_of(pid, 0)) == 3);
	EXPECT_EQ(shared_value, 55);
	pid = spawn(set_value, SIGCHLD, (void *)66);
	EXPECT(WEXITSTATUS(status_of(pid, 0)) == 3);
	EXPECT_EQ(shared_value, 55);
}

static int close_and_change(void *arg)
{
	close((int)(long)arg);
	umask(0123);
	return chdir("/usr");
}

TEST(clone_files_and_fs_share_descriptors_and_directory)
{
	char cwd[100];
	int fd = dup(0);

	chdir("/");
	umask(022);
	pid_t pid = spawn(close_and_change, SIGCHLD, (void *)(long)fd);
	EXPECT_EQ(status_of(pid, 0), 0);
	EXPECT_OK(fcntl(fd, F_GETFD));
	EXPECT_STR(getcwd(cwd, sizeof(cwd)), "/");
	pid = spawn(close_and_change, CLONE_FILES | CLONE_FS | SIGCHLD, (void *)(long)fd);
	EXPECT_EQ(status_of(pid, 0), 0);
	EXPECT_ERRNO(fcntl(fd, F_GETFD), EBADF);
	EXPECT_STR(getcwd(cwd, sizeof(cwd)), "/usr");
	EXPECT_EQ(umask(022), 0123);
}

static int change_handler(void *arg)
{
	(void)arg;
	return signal(SIGUSR1, SIG_IGN) == SIG_ERR;
}

TEST(clone_sighand_shares_handlers)
{
	struct sigaction sa;

	pid_t pid = spawn(change_handler, CLONE_VM | SIGCHLD, NULL);
	EXPECT_EQ(status_of(pid, 0), 0);
	EXPECT_OK(sigaction(SIGUSR1, NULL, &sa));
	EXPECT(sa.sa_handler == SIG_DFL);
	pid = spawn(change_handler, CLONE_VM | CLONE_SIGHAND | SIGCHLD, NULL);
	EXPECT_EQ(status_of(pid, 0), 0);
	EXPECT_OK(sigaction(SIGUSR1, NULL, &sa));
	EXPECT(sa.sa_handler == SIG_IGN);
}

static volatile int exit_signals;

static void on_exit_signal(int signo)
{
	exit_signals += signo == SIGUSR1;
}

TEST(clone3_clear_sighand_resets_handlers_but_not_ignored_ones)
{
	struct clone_args a = {.flags = CLONE_CLEAR_SIGHAND, .exit_signal = SIGCHLD};
	struct sigaction sa;

	signal(SIGUSR1, on_exit_signal);
	signal(SIGUSR2, SIG_IGN);
	pid_t pid = (pid_t)clone3(&a, sizeof(a));
	if (pid == 0) {
		sigaction(SIGUSR1, NULL, &sa);
		if (sa.sa_handler != SIG_DFL)
			_exit(1);
		sigaction(SIGUSR2, NULL, &sa);
		_exit(sa.sa_handler == SIG_IGN ? 0 : 2);
	}
	EXPECT_EQ(status_of(pid, 0), 0);
}

static int parent_id(void *arg)
{
	*(volatile pid_t *)arg = getppid();
	return 0;
}

static int make_a_sibling(void *arg)
{
	static char stack[16384] __attribute__((aligned(16)));

	return clone(parent_id, stack + sizeof(stack), CLONE_VM | CLONE_PARENT | SIGCHLD, arg) < 0;
}

TEST(clone_parent_makes_a_sibling)
{
	volatile pid_t seen = 0;
	int status;

	pid_t pid = spawn(make_a_sibling, CLONE_VM | SIGCHLD, (void *)&seen);
	EXPECT_EQ(status_of(pid, 0), 0);
	EXPECT(EXPECT_OK(wait(&status)) != pid);
	EXPECT_EQ(status, 0);
	EXPECT_EQ(seen, getpid());
}

/* ---- ids and descriptors for the parent ---- */

TEST(parent_and_child_settid_write_the_new_id)
{
	pid_t in_parent = 0;
	static pid_t in_child;

	long pid = syscall(SYS_clone, CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | SIGCHLD, NULL,
			   &in_parent, &in_child, 0);
	if (pid == 0)
		_exit(in_child == getpid() ? 0 : 1);
	EXPECT_EQ(in_parent, pid);
	EXPECT_EQ(in_child, 0);
	EXPECT_EQ(status_of((pid_t)pid, 0), 0);
	/* A pointer to nowhere is not an error. */
	pid = syscall(SYS_clone, CLONE_CHILD_SETTID | SIGCHLD, NULL, NULL, BAD_ADDR, 0);
	if (pid == 0)
		_exit(0);
	EXPECT_EQ(status_of((pid_t)pid, 0), 0);
}

TEST(clone_pidfd_refers_to_the_child)
{
	int pidfd = -1;
	siginfo_t info = {0};
	struct clone_args a = {
		.flags = CLONE_PIDFD, .pidfd = (uintptr_t)&pidfd, .exit_signal = SIGCHLD};

	long pid = clone3(&a, sizeof(a));
	if (pid == 0)
		_exit(21);
	EXPECT(pid > 0 && pidfd >= 0);
	EXPECT_EQ(fcntl(pidfd, F_GETFD), FD_CLOEXEC);
	struct pollfd p = {.fd = pidfd, .events = POLLIN};
	EXPECT_EQ(poll(&p, 1, 5000), 1);
	EXPECT_OK(waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED));
	EXPECT_EQ(info.si_pid, pid);
	EXPECT_EQ(info.si_status, 21);
	EXPECT_ERRNO(syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0), ESRCH);
	pid = syscall(SYS_clone, CLONE_PIDFD | SIGCHLD, NULL, &pidfd, NULL, 0);
	if (pid == 0)
		_exit(0);
	EXPECT_OK(waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED));
	EXPECT_EQ(info.si_pid, pid);
}

static int return_4(void *arg)
{
	(void)arg;
	return 4;
}

TEST(exit_signal_is_what_clone_said)
{
	signal(SIGUSR1, on_exit_signal);
	pid_t pid = spawn(return_4, SIGUSR1, NULL);
	/* A child with another signal than SIGCHLD is a "clone child". */
	while (!exit_signals)
		test_sleep_ms(1);
	EXPECT_ERRNO(waitpid(pid, NULL, WNOHANG), ECHILD);
	EXPECT_EQ(WEXITSTATUS(status_of(pid, __WCLONE)), 4);
	EXPECT_EQ(exit_signals, 1);
	pid = spawn(return_4, 0, NULL);
	EXPECT_EQ(WEXITSTATUS(status_of(pid, __WALL)), 4);
	pid = spawn(return_4, SIGCHLD, NULL);
	EXPECT_ERRNO(waitpid(pid, NULL, __WCLONE), ECHILD);
	EXPECT_EQ(WEXITSTATUS(status_of(pid, 0)), 4);
}

/* ---- vfork ---- */

TEST(vfork_parent_waits_for_the_exit)
{
	volatile int order = 0;
	pid_t pid = vfork();

	if (pid == 0) {
		struct timespec ts = {.tv_nsec = 20000000};
		syscall(SYS_nanosleep, &ts, NULL);
		order = 1;
		_exit(6);
	}
	EXPECT_EQ(order, 1);
	EXPECT_EQ(WEXITSTATUS(status_of(pid, 0)), 6);
}

TEST(vfork_child_survives_a_failing_exec)
{
	static char *argv[] = {"x", NULL};
	volatile int err = 0;
	pid_t pid = vfork();

	if (pid == 0) {
		execve("/no/such/program", argv, argv + 1);
		err = errno;
		execve("/bin/true", argv, argv + 1);
		_exit(9);
	}
	EXPECT_EQ(err, ENOENT);
	EXPECT_EQ(status_of(pid, 0), 0);
}

TEST(vfork_child_killed_by_a_signal_frees_the_parent)
{
	pid_t pid = vfork();

	if (pid == 0) {
		syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
		_exit(1);
	}
	EXPECT_EQ(WTERMSIG(status_of(pid, 0)), SIGKILL);
}

TEST(vfork_children_nest)
{
	volatile int depth = 0;
	pid_t pid = vfork();

	if (pid == 0) {
		depth = 1;
		pid_t inner = vfork();
		if (inner == 0) {
			depth = 2;
			_exit(0);
		}
		_exit(inner > 0 && depth == 2 && waitpid(inner, NULL, 0) == inner ? 0 : 1);
	}
	EXPECT_EQ(status_of(pid, 0), 0);
	EXPECT_EQ(depth, 2);
}

static volatile int ticks, stop;

static void *tick(void *arg)
{
	while (!stop) {
		ticks++;
		test_sleep_ms(1);
	}
	return arg;
}

TEST(vfork_does_not_stop_the_other_threads)
{
	pthread_t th;

	EXPECT_OK(-pthread_create(&th, NULL, tick, NULL));
	while (!ticks)
		test_sleep_ms(1);
	volatile int before = 0, after = 0;
	pid_t pid = vfork();
	if (pid == 0) {
		struct timespec ts = {.tv_nsec = 30000000};
		before = ticks;
		syscall(SYS_nanosleep, &ts, NULL);
		after = ticks;
		_exit(0);
	}
	stop = 1;
	pthread_join(th, NULL);
	EXPECT_EQ(status_of(pid, 0), 0);
	EXPECT(after > before);
}

/* ---- many ---- */

TEST(a_crowd_of_children_is_reaped_one_by_one)
{
	enum { N = 40 };
	pid_t pid[N];
	int sum = 0, status;

	for (int i = 0; i < N; i++) {
		pid[i] = fork();
		EXPECT(pid[i] >= 0);
		if (pid[i] == 0)
			_exit(i);
	}
	for (int i = 0; i < N; i++) {
		EXPECT(wait(&status) > 0);
		sum += WEXITSTATUS(status);
	}
	EXPECT_EQ(sum, N * (N - 1) / 2);
	EXPECT_ERRNO(wait(NULL), ECHILD);
}

static void *nothing(void *arg)
{
	return arg;
}

TEST(threads_come_and_go)
{
	for (int i = 0; i < 200; i++) {
		pthread_t th;
		void *r;
		EXPECT_OK(-pthread_create(&th, NULL, nothing, (void *)(long)i));
		EXPECT_OK(-pthread_join(th, &r));
		EXPECT_EQ((long)r, i);
	}
}

static void *fork_in_thread(void *arg)
{
	pid_t pid = fork();

	(void)arg;
	if (pid == 0)
		_exit(getpid() == gettid() ? 0 : 1);
	return (void *)(long)pid;
}

TEST(fork_in_a_thread_makes_a_process_with_one_thread)
{
	pthread_t th[4];
	void *pid;

	for (int i = 0; i < 4; i++)
		EXPECT_OK(-pthread_create(&th[i], NULL, fork_in_thread, NULL));
	for (int i = 0; i < 4; i++) {
		EXPECT_OK(-pthread_join(th[i], &pid));
		EXPECT_EQ(status_of((pid_t)(long)pid, 0), 0);
	}
}
