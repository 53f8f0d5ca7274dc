/* PID namespaces: going into one, numbers that wrap, and numbers in futexes and timers. */
#include <pthread.h>
#include <time.h>

#include "pidns.h"

static ino_t ns_ino(const char *path)
{
	struct stat st;

	if (stat(path, &st))
		return 0;
	return st.st_ino;
}

TEST(pidns_files_name_namespaces)
{
	char path[64];

	if (access("/proc/self/ns/pid_for_children", F_OK))
		test_skip("no namespace files");
	EXPECT_EQ(ns_ino("/proc/self/ns/pid"), ns_ino("/proc/self/ns/pid_for_children"));
	volatile int *w = shared();
	int pid = new_init();
	if (!pid) {
		w[0] = 1;
		for (;;)
			pause();
	}
	wait_for(&w[0], 1);
	snprintf(path, sizeof(path), "/proc/%d/ns/pid", pid);
	EXPECT(ns_ino(path) && ns_ino(path) != ns_ino("/proc/self/ns/pid"));
	kill(pid, SIGKILL);
	wait_killed(pid, SIGKILL);

	EXPECT_OK(unshare(CLONE_FLAG_NEWPID));
	/* One without an init is not shown. */
	EXPECT_ERRNO(open("/proc/self/ns/pid_for_children", O_RDONLY), ENOENT);
	if (!(pid = fork()))
		_exit(0);
	EXPECT(ns_ino("/proc/self/ns/pid_for_children") != ns_ino("/proc/self/ns/pid"));
	wait_exited(pid, 0);
}

TEST(pidns_setns_lets_children_in)
{
	volatile int *w = shared();
	char path[64];
	int pid = new_init();

	if (!pid) {
		for (;;)
			pause();
	}
	snprintf(path, sizeof(path), "/proc/%d/ns/pid", pid);
	int fd = open(path, O_RDONLY);
	if (fd < 0)
		test_skip("no namespace files");
	int own = EXPECT_OK(open("/proc/self/ns/pid", O_RDONLY));
	int self = getpid();
	EXPECT_ERRNO(setns(fd, 0x4000000 /* CLONE_NEWUTS */), EINVAL);
	EXPECT_OK(setns(fd, CLONE_FLAG_NEWPID));
	EXPECT_EQ(getpid(), self);
	int child = EXPECT_OK(fork());
	if (!child) {
		w[0] = getpid();
		w[1] = getppid();
		/* Up is no way to go. */
		w[2] = setns(own, CLONE_FLAG_NEWPID) == -1 && errno == EINVAL;
		_exit(0);
	}
	wait_exited(child, 0);
	EXPECT_EQ(w[0], 2);
	EXPECT_EQ(w[1], 0);
	EXPECT_EQ(w[2], 1);
	/* Back to one's own is fine. */
	EXPECT_OK(setns(own, 0));
	child = EXPECT_OK(fork());
	if (!child)
		_exit(getppid() == self ? 0 : 1);
	wait_exited(child, 0);
	kill(pid, SIGKILL);
	wait_killed(pid, SIGKILL);
	/* Nobody goes into one that has ended. */
	EXPECT_OK(setns(fd, CLONE_FLAG_NEWPID));
	EXPECT_ERRNO(fork(), ENOMEM);
}

TEST(pidns_setns_by_pidfd)
{
	volatile int *w = shared();
	int pid = new_init();

	if (!pid) {
		for (;;)
			pause();
	}
	int fd = EXPECT_OK(syscall(SYS_pidfd_open, pid, 0));
	EXPECT_OK(setns(fd, CLONE_FLAG_NEWPID));
	int child = EXPECT_OK(fork());
	if (!child) {
		w[0] = getpid();
		_exit(0);
	}
	wait_exited(child, 0);
	EXPECT_EQ(w[0], 2);
	kill(pid, SIGKILL);
	wait_killed(pid, SIGKILL);
}

TEST(pidns_numbers_wrap_to_300)
{
	int pid = new_init();

	if (!pid) {
		char text[32] = "";
		int fd = open("/proc/sys/kernel/pid_max", O_RDONLY);
		CHECK(fd >= 0 && read(fd, text, sizeof(text) - 1) > 0);
		int max = atoi(text);
		fd = open("/proc/sys/kernel/ns_last_pid", O_WRONLY);
		if (fd < 0)
			_exit(0);
		int n = snprintf(text, sizeof(text), "%d", max - 2);
		CHECK(pwrite(fd, text, (size_t)n, 0) == n);
		int first = fork();
		if (!first)
			_exit(0);
		int second = fork();
		if (!second)
			_exit(0);
		CHECK(first == max - 1 && second == 300);
		/* One that is in use is passed over. */
		CHECK(pwrite(fd, "299", 3, 0) == 3);
		int third = fork();
		if (!third)
			_exit(0);
		CHECK(third == 301);
		_exit(0);
	}
	wait_exited(pid, 0);
}

static void *lock_and_leave(void *m)
{
	pthread_mutex_lock(m);
	return NULL;
}

static void use_mutexes(void)
{
	pthread_mutexattr_t a;
	pthread_mutex_t m;
	pthread_t th;

	for (int pi = 0; pi < 2; pi++) {
		pthread_mutexattr_init(&a);
		pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
		if (pi)
			pthread_mutexattr_setprotocol(&a, PTHREAD_PRIO_INHERIT);
		CHECK(!pthread_mutex_init(&m, &a));
		CHECK(!pthread_create(&th, NULL, lock_and_leave, &m));
		CHECK(!pthread_join(th, NULL));
		CHECK(pthread_mutex_lock(&m) == EOWNERDEAD);
		CHECK(!pthread_mutex_consistent(&m));
		CHECK((*(int *)&m & 0x3fffffff) == 2); /* the word names the owner */
		CHECK(!pthread_mutex_unlock(&m));
	}
}

TEST(pidns_robust_and_pi_mutexes_use_own_numbers)
{
	int pid = new_init();

	if (!pid) {
		int status, c = fork(); /* libc's: it asks for its number anew */
		if (!c) {
			use_mutexes();
			_exit(0);
		}
		CHECK(waitpid(c, &status, 0) == c);
		_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 99);
	}
	wait_exited(pid, 0);
}

static pthread_mutex_t contended;
static volatile int inside;

static void *contend(void *arg)
{
	for (int i = 0; i < 300; i++) {
		pthread_mutex_lock(&contended);
		if (++inside != 1)
			_exit(66);
		if (i % 16 == 0)
			sched_yield();
		inside--;
		pthread_mutex_unlock(&contended);
	}
	return arg;
}

TEST(pidns_pi_mutex_under_contention)
{
	int pid = new_init();

	if (!pid) {
		pthread_mutexattr_t a;
		pthread_t th[3];
		pthread_mutexattr_init(&a);
		pthread_mutexattr_setprotocol(&a, PTHREAD_PRIO_INHERIT);
		CHECK(!pthread_mutex_init(&contended, &a));
		for (int i = 0; i < 3; i++)
			CHECK(!pthread_create(&th[i], NULL, contend, NULL));
		for (int i = 0; i < 3; i++)
			CHECK(!pthread_join(th[i], NULL));
		_exit(0);
	}
	wait_exited(pid, 0);
}

TEST(pidns_timer_for_a_thread_by_own_number)
{
	int pid = new_init();

	if (!pid) {
		sigset_t set;
		timer_t t;
		struct sigevent ev = {.sigev_notify = 4 /* SIGEV_THREAD_ID */,
				      .sigev_signo = SIGUSR1};
		struct itimerspec its = {.it_value.tv_nsec = 1000000};
		((int *)&ev)[4] = (int)syscall(SYS_gettid);
		sigemptyset(&set);
		sigaddset(&set, SIGUSR1);
		sigprocmask(SIG_BLOCK, &set, NULL);
		CHECK(!timer_create(CLOCK_MONOTONIC, &ev, &t));
		CHECK(!timer_settime(t, 0, &its, NULL));
		siginfo_t si;
		CHECK(sigwaitinfo(&set, &si) == SIGUSR1 && si.si_code == SI_TIMER);
		_exit(0);
	}
	wait_exited(pid, 0);
}

TEST(pidns_cpu_clocks_and_priorities_by_own_numbers)
{
	int pid = new_init();

	if (!pid) {
		clockid_t id;
		struct timespec ts;
		int c = fork();
		if (!c) {
			pause();
			_exit(0);
		}
		CHECK(!clock_getcpuclockid(c, &id) && !clock_gettime(id, &ts));
		CHECK(clock_getcpuclockid(99, &id) == ESRCH);
		errno = 0;
		CHECK(syscall(SYS_getpriority, 0, c) == 20);
		CHECK(syscall(SYS_getpriority, 0, 99) == -1 && errno == ESRCH);
		CHECK(syscall(SYS_kcmp, 1, c, 0, 0, 0) >= 0 || errno == ENOSYS);
		CHECK(syscall(SYS_prlimit64, c, 0, NULL, NULL) == 0);
		kill(c, SIGKILL);
		CHECK(wait(NULL) == c);
		_exit(0);
	}
	wait_exited(pid, 0);
}
