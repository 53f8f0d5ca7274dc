/* execve(2), execveat(2): corner cases, and what of a process survives. */
#include "tests/compat/compat.h"

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/time.h>

/*
 * The test program is its own helper: started as "exec-helper WHAT ARG" it reports something about
 * itself by its exit status, before main and with it the tests.
 */
static int helper_report(const char *what, const char *arg, int argc, char **argv)
{
	if (!strcmp(what, "fd"))
		return fcntl(atoi(arg), F_GETFD) < 0 ? errno : 0;
	if (!strcmp(what, "pid"))
		return getpid() == atoi(arg) && gettid() == getpid() ? 0 : 1;
	if (!strcmp(what, "mask")) {
		sigset_t now, pending;
		sigprocmask(SIG_BLOCK, NULL, &now);
		sigpending(&pending);
		return sigismember(&now, atoi(arg)) == 1 && sigismember(&pending, atoi(arg)) == 1
			       ? 0
			       : 1;
	}
	if (!strcmp(what, "handler")) {
		struct sigaction sa;
		sigaction(atoi(arg), NULL, &sa);
		return sa.sa_handler == SIG_DFL ? 10 : sa.sa_handler == SIG_IGN ? 11 : 12;
	}
	if (!strcmp(what, "altstack")) {
		stack_t ss;
		sigaltstack(NULL, &ss);
		return ss.ss_flags;
	}
	if (!strcmp(what, "timers")) {
		struct itimerval v;
		getitimer(ITIMER_REAL, &v);
		return (v.it_value.tv_sec || v.it_value.tv_usec) &&
				       timer_getoverrun((timer_t)(long)atoi(arg)) < 0
			       ? 0
			       : 1;
	}
	if (!strcmp(what, "comm")) {
		char name[16];
		prctl(PR_GET_NAME, name);
		return strcmp(name, arg) ? 1 : 0;
	}
	if (!strcmp(what, "personality"))
		return (personality(0xffffffff) & (unsigned)atoi(arg)) ? 0 : 1;
	if (!strcmp(what, "nice"))
		return getpriority(PRIO_PROCESS, 0) == atoi(arg) ? 0 : 1;
	if (!strcmp(what, "limit")) {
		struct rlimit r;
		getrlimit(RLIMIT_NOFILE, &r);
		return r.rlim_cur == (rlim_t)atoi(arg) ? 0 : 1;
	}
	if (!strcmp(what, "pdeathsig")) {
		int sig = -1;
		prctl(PR_GET_PDEATHSIG, &sig);
		return sig;
	}
	if (!strcmp(what, "count"))
		return argc == atoi(arg) && !argv[argc] ? 0 : 1;
	return 99;
}

__attribute__((constructor(101))) static void helper(int argc, char **argv, char **envp)
{
	(void)envp;
	if (argc >= 3 && !strcmp(argv[0], "exec-helper"))
		_exit(helper_report(argv[1], argv[2], argc, argv));
}

static void become(const char *what, int n)
{
	char arg[20];

	snprintf(arg, sizeof(arg), "%d", n);
	/* Not /proc/self, which is the leader's: it may have gone. */
	execl("/proc/thread-self/exe", "exec-helper", what, arg, NULL);
	_exit(98);
}

static int report(pid_t pid)
{
	int status;

	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* ---- hostile arguments ---- */

TEST(execve_refuses_hostile_argument_lists)
{
	char *bad_string[] = {"true", BAD_ADDR, NULL}, *env_bad[] = {BAD_ADDR, NULL};
	char *argv[] = {"true", NULL};
	char path[PATH_MAX + 10];

	EXPECT_ERRNO(syscall(SYS_execve, "/bin/true", BAD_ADDR, NULL), EFAULT);
	EXPECT_ERRNO(syscall(SYS_execve, "/bin/true", argv, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(syscall(SYS_execve, "/bin/true", bad_string, NULL), EFAULT);
	EXPECT_ERRNO(syscall(SYS_execve, "/bin/true", argv, env_bad), EFAULT);
	EXPECT_ERRNO(syscall(SYS_execve, NULL, argv, NULL), EFAULT);
	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = 0;
	EXPECT_ERRNO(syscall(SYS_execve, path, argv, NULL), ENAMETOOLONG);
	EXPECT_ERRNO(syscall(SYS_execve, "/bin/true/x", argv, NULL), ENOTDIR);
	EXPECT_ERRNO(syscall(SYS_execve, "", argv, NULL), ENOENT);
	/* The array runs off the end of what is mapped. */
	char **edge = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	munmap((char *)edge + 4096, 4096);
	edge[511] = "true";
	EXPECT_ERRNO(syscall(SYS_execve, "/bin/true", &edge[511], NULL), EFAULT);
}

TEST(execveat_refuses_bad_flags_and_descriptors)
{
	char *argv[] = {"true", NULL};
	int dir = (int)EXPECT_OK(open("/bin", O_RDONLY | O_DIRECTORY));
	int fd = (int)EXPECT_OK(open("/bin/true", O_RDONLY));

	EXPECT_ERRNO(syscall(SYS_execveat, dir, "true", argv, NULL, 1), EINVAL);
	EXPECT_ERRNO(syscall(SYS_execveat, 999, "true", argv, NULL, 0), EBADF);
	EXPECT_ERRNO(syscall(SYS_execveat, fd, "true", argv, NULL, 0), ENOTDIR);
	EXPECT_ERRNO(syscall(SYS_execveat, fd, "", argv, NULL, 0), ENOENT);
	EXPECT_ERRNO(syscall(SYS_execveat, dir, "", argv, NULL, AT_EMPTY_PATH), EACCES);
	test_dir();
	EXPECT_OK(symlink("/bin/true", "link"));
	EXPECT_ERRNO(syscall(SYS_execveat, AT_FDCWD, "link", argv, NULL, AT_SYMLINK_NOFOLLOW),
		     ELOOP);
}

TEST(execveat_runs_a_descriptor_and_a_relative_name)
{
	char *argv[] = {"true", NULL};
	int dir = (int)EXPECT_OK(open("/bin", O_RDONLY | O_DIRECTORY));
	int fd = (int)EXPECT_OK(open("/bin/true", O_RDONLY | O_CLOEXEC));

	pid_t pid = fork();
	if (pid == 0) {
		syscall(SYS_execveat, dir, "true", argv, NULL, 0);
		_exit(9);
	}
	EXPECT_EQ(report(pid), 0);
	pid = fork();
	if (pid == 0) {
		syscall(SYS_execveat, fd, "", argv, NULL, AT_EMPTY_PATH);
		_exit(9);
	}
	EXPECT_EQ(report(pid), 0);
	pid = fork();
	if (pid == 0) {
		fexecve(fd, argv, argv + 1);
		_exit(9);
	}
	EXPECT_EQ(report(pid), 0);
}

TEST(execve_without_arguments_gets_one_empty_string)
{
	test_dir();
	/* The shell would run with argc 0 otherwise and crash. */
	pid_t pid = fork();
	if (pid == 0) {
		int fd = open("script", O_WRONLY | O_CREAT, 0755);
		const char text[] = "#!/bin/sh\nexit 5\n";
		if (write(fd, text, sizeof(text) - 1) < 0)
			_exit(1);
		close(fd);
		syscall(SYS_execve, "./script", NULL, NULL);
		_exit(9);
	}
	EXPECT_EQ(report(pid), 5);
	pid = fork();
	if (pid == 0) {
		syscall(SYS_execve, "/bin/true", NULL, NULL);
		_exit(9);
	}
	EXPECT_EQ(report(pid), 0);
}

TEST(execve_of_a_file_without_permission_is_eacces)
{
	char *argv[] = {"x", NULL};

	test_dir();
	close(open("plain", O_WRONLY | O_CREAT, 0644));
	EXPECT_ERRNO(execve("plain", argv, argv + 1), EACCES);
	EXPECT_OK(chmod("plain", 0755));
	EXPECT_ERRNO(execve("plain", argv, argv + 1), ENOEXEC);
	EXPECT_OK(mkfifo("fifo", 0755));
	EXPECT_ERRNO(execve("fifo", argv, argv + 1), EACCES);
}

TEST(execve_of_a_file_open_for_writing_is_etxtbsy)
{
	char *argv[] = {"x", NULL};

	test_dir();
	int fd = (int)EXPECT_OK(open("busy", O_WRONLY | O_CREAT, 0755));
	EXPECT_EQ(write(fd, "#!/bin/true\n", 12), 12);
	EXPECT_ERRNO(execve("busy", argv, argv + 1), ETXTBSY);
	close(fd);
	pid_t pid = fork();
	if (pid == 0) {
		execve("busy", argv, argv + 1);
		_exit(9);
	}
	EXPECT_EQ(report(pid), 0);
}

TEST(execve_takes_thousands_of_arguments)
{
	enum { N = 5000 };
	char **argv = calloc(N + 1, sizeof(*argv));

	for (int i = 0; i < N; i++)
		argv[i] = "argument";
	argv[0] = "exec-helper";
	argv[1] = "count";
	argv[2] = "5000";
	pid_t pid = fork();
	if (pid == 0) {
		execv("/proc/self/exe", argv);
		_exit(9);
	}
	EXPECT_EQ(report(pid), 0);
}

TEST(execve_with_more_than_a_quarter_of_the_stack_limit_is_e2big)
{
	struct rlimit lim;
	size_t n = 40, size = 100000;
	char **argv = calloc(n + 1, sizeof(*argv));
	char *big = malloc(size);

	memset(big, 'a', size);
	big[size - 1] = 0;
	for (size_t i = 0; i < n; i++)
		argv[i] = big;
	EXPECT_OK(getrlimit(RLIMIT_STACK, &lim));
	lim.rlim_cur = 8 << 20;
	EXPECT_OK(setrlimit(RLIMIT_STACK, &lim));
	EXPECT_ERRNO(execv("/bin/true", argv), E2BIG); /* 4 MB against 2 MB */
	argv[10] = NULL;
	pid_t pid = fork();
	if (pid == 0) {
		execv("/bin/true", argv);
		_exit(9);
	}
	EXPECT_EQ(report(pid), 0);
}

/* ---- what survives ---- */

TEST(execve_keeps_mask_and_pending_signals)
{
	pid_t pid = fork();

	if (pid == 0) {
		sigset_t set;
		sigemptyset(&set);
		sigaddset(&set, SIGUSR1);
		sigprocmask(SIG_BLOCK, &set, NULL);
		raise(SIGUSR1);
		become("mask", SIGUSR1);
	}
	EXPECT_EQ(report(pid), 0);
}

static void nothing(int signo)
{
	(void)signo;
}

TEST(execve_resets_handlers_and_altstack)
{
	stack_t ss = {.ss_size = 65536, .ss_sp = malloc(65536)};

	EXPECT_OK(sigaltstack(&ss, NULL));
	signal(SIGUSR1, nothing);
	signal(SIGUSR2, SIG_IGN);
	pid_t pid = fork();
	if (pid == 0)
		become("handler", SIGUSR1);
	EXPECT_EQ(report(pid), 10);
	pid = fork();
	if (pid == 0)
		become("handler", SIGUSR2);
	EXPECT_EQ(report(pid), 11);
	pid = fork();
	if (pid == 0)
		become("altstack", 0);
	EXPECT_EQ(report(pid), SS_DISABLE);
}

TEST(execve_keeps_interval_timers_and_drops_posix_timers)
{
	pid_t pid = fork();

	if (pid == 0) {
		timer_t id;
		timer_create(CLOCK_MONOTONIC, NULL, &id);
		alarm(100);
		become("timers", (int)(long)id);
	}
	EXPECT_EQ(report(pid), 0);
}

TEST(execve_keeps_limits_nice_and_personality)
{
	struct rlimit lim;

	EXPECT_OK(getrlimit(RLIMIT_NOFILE, &lim));
	pid_t pid = fork();
	if (pid == 0) {
		lim.rlim_cur = 321;
		setrlimit(RLIMIT_NOFILE, &lim);
		become("limit", 321);
	}
	EXPECT_EQ(report(pid), 0);
	pid = fork();
	if (pid == 0) {
		setpriority(PRIO_PROCESS, 0, 7);
		become("nice", 7);
	}
	EXPECT_EQ(report(pid), 0);
	pid = fork();
	if (pid == 0) {
		personality(ADDR_NO_RANDOMIZE);
		become("personality", ADDR_NO_RANDOMIZE);
	}
	EXPECT_EQ(report(pid), 0);
}

TEST(execve_sets_the_name_of_the_task)
{
	test_dir();
	EXPECT_OK(symlink("/proc/self/exe", "a-rather-long-name-of-a-link"));
	pid_t pid = fork();
	if (pid == 0) {
		execl("./a-rather-long-name-of-a-link", "exec-helper", "comm", "a-rather-long-n",
		      NULL);
		_exit(98);
	}
	EXPECT_EQ(report(pid), 0);
}

TEST(execve_keeps_the_parent_death_signal)
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGUSR2);
		become("pdeathsig", 0);
	}
	EXPECT_EQ(report(pid), SIGUSR2);
}

TEST(cloexec_counts_for_execve_only_when_it_succeeds)
{
	int keep = dup(0), drop = fcntl(0, F_DUPFD_CLOEXEC, 0);
	char *argv[] = {"x", NULL};

	EXPECT_ERRNO(execve("/no/such", argv, argv + 1), ENOENT);
	EXPECT_OK(fcntl(drop, F_GETFD));
	pid_t pid = fork();
	if (pid == 0)
		become("fd", drop);
	EXPECT_EQ(report(pid), EBADF);
	pid = fork();
	if (pid == 0)
		become("fd", keep);
	EXPECT_EQ(report(pid), 0);
}

static char stack[65536] __attribute__((aligned(16)));

static int exec_true(void *arg)
{
	(void)arg;
	execl("/bin/true", "true", NULL);
	return 9;
}

TEST(cloexec_in_a_shared_descriptor_table_closes_only_the_copy)
{
	int fd = fcntl(0, F_DUPFD_CLOEXEC, 0);
	pid_t pid = clone(exec_true, stack + sizeof(stack), CLONE_FILES | CLONE_VM | SIGCHLD, NULL);

	EXPECT_EQ(report(pid), 0);
	EXPECT_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
}

/* ---- threads ---- */

static void *sleep_forever(void *arg)
{
	for (;;)
		pause();
	return arg;
}

static void *spin_forever(void *arg)
{
	for (;;)
		__asm__ volatile("" ::: "memory");
	return arg;
}

static void *become_in_thread(void *arg)
{
	become("pid", getpid());
	return arg;
}

TEST(execve_by_another_thread_than_the_leader_takes_over_its_pid)
{
	pid_t pid = fork();

	if (pid == 0) {
		pthread_t th;
		pthread_create(&th, NULL, sleep_forever, NULL);
		pthread_create(&th, NULL, spin_forever, NULL);
		pthread_create(&th, NULL, become_in_thread, NULL);
		sleep_forever(NULL);
	}
	EXPECT_EQ(report(pid), 0);
}

TEST(execve_by_the_leader_ends_the_other_threads)
{
	int p[2], status;
	char c;

	EXPECT_OK(pipe2(p, O_CLOEXEC));
	pid_t pid = fork();
	if (pid == 0) {
		pthread_t th;
		for (int i = 0; i < 5; i++)
			pthread_create(&th, NULL, i % 2 ? sleep_forever : spin_forever, NULL);
		execl("/bin/sleep", "sleep", "0.05", NULL);
		_exit(9);
	}
	close(p[1]);
	EXPECT_EQ(read(p[0], &c, 1), 0);
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
}

static void *exit_leader_later(void *arg)
{
	test_sleep_ms(20);
	become("pid", getpid());
	return arg;
}

TEST(execve_works_after_the_leader_has_left)
{
	pid_t pid = fork();

	if (pid == 0) {
		pthread_t th;
		pthread_create(&th, NULL, exit_leader_later, NULL);
		pthread_exit(NULL);
	}
	EXPECT_EQ(report(pid), 0);
}

static pthread_barrier_t barrier;

static void *race_to_exec(void *arg)
{
	pthread_barrier_wait(&barrier);
	become("pid", getpid());
	return arg;
}

TEST(execve_races_have_one_winner)
{
	for (int i = 0; i < 5; i++) {
		pid_t pid = fork();
		if (pid == 0) {
			pthread_t th;
			pthread_barrier_init(&barrier, NULL, 4);
			for (int j = 0; j < 3; j++)
				pthread_create(&th, NULL, race_to_exec, NULL);
			race_to_exec(NULL);
		}
		EXPECT_EQ(report(pid), 0);
	}
}

TEST(execve_of_one_vfork_child_leaves_the_parents_threads_running)
{
	pthread_t th;

	EXPECT_OK(-pthread_create(&th, NULL, sleep_forever, NULL));
	for (int i = 0; i < 10; i++) {
		pid_t pid = vfork();
		if (pid == 0) {
			execl("/bin/true", "true", NULL);
			_exit(9);
		}
		EXPECT_EQ(report(pid), 0);
	}
	EXPECT_OK(-pthread_kill(th, 0));
}

TEST(execve_damaged_before_the_point_of_no_return_leaves_everything)
{
	char *argv[] = {"x", NULL};

	test_dir();
	int fd = (int)EXPECT_OK(open("bad", O_WRONLY | O_CREAT, 0755));
	EXPECT_EQ(write(fd, "#!/no/such/interpreter\n", 23), 23);
	close(fd);
	signal(SIGUSR1, nothing);
	EXPECT_ERRNO(execve("bad", argv, argv + 1), ENOENT);
	struct sigaction sa;
	EXPECT_OK(sigaction(SIGUSR1, NULL, &sa));
	EXPECT(sa.sa_handler == nothing);
}
