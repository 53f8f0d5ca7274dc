/* Time namespaces: what clocks, sleeps and timers are in one.  time_namespaces(7). */
#include <linux/futex.h>
#include <sched.h>
#include <sys/auxv.h>
#include <sys/sysinfo.h>
#include <sys/timerfd.h>

#include "tests/compat/compat.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif
#define DAY 86400L

static long seconds(int clock)
{
	struct timespec ts;

	EXPECT_EQ(syscall(SYS_clock_gettime, clock, &ts), 0);
	return ts.tv_sec;
}

static long vdso_seconds(int clock)
{
	struct timespec ts;

	EXPECT_EQ(clock_gettime(clock, &ts), 0);
	return ts.tv_sec;
}

static int64_t now_ns(int clock)
{
	struct timespec ts;

	EXPECT_EQ(clock_gettime(clock, &ts), 0);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static struct timespec in_ms(int clock, int ms)
{
	int64_t t = now_ns(clock) + ms * 1000000LL;

	return (struct timespec){t / 1000000000, t % 1000000000};
}

static ssize_t put_offsets(const char *text)
{
	int fd = EXPECT_OK(open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC));
	ssize_t n = write(fd, text, strlen(text));
	int err = errno;

	close(fd);
	errno = err;
	return n;
}

static void new_ns(const char *offsets)
{
	if (unshare(CLONE_NEWTIME) && errno == EPERM)
		test_skip("no right to a time namespace");
	if (offsets)
		EXPECT_EQ(put_offsets(offsets), strlen(offsets));
}

static void show_ns(const char *name, char *out, size_t size)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/ns/%s", name);
	ssize_t n = EXPECT_OK(readlink(path, out, size - 1));
	out[n] = '\0';
}

/* Runs fn in a child of a fresh namespace, a day ahead by CLOCK_MONOTONIC, ten by CLOCK_BOOTTIME.
 */
static void inside(void (*fn)(void *), void *arg)
{
	new_ns("monotonic 86400 0\nboottime 864000 0\n");
	EXPECT_EQ(test_child(fn, arg), 0);
}

TEST(timens_is_for_children)
{
	char own[64], children[64], again[64];
	long before = seconds(CLOCK_MONOTONIC);

	show_ns("time", own, sizeof(own));
	show_ns("time_for_children", children, sizeof(children));
	EXPECT_STR(own, children);
	new_ns("monotonic 86400 0\n");
	show_ns("time", again, sizeof(again));
	EXPECT_STR(own, again);
	show_ns("time_for_children", again, sizeof(again));
	EXPECT(strcmp(again, children) != 0 && !strncmp(again, "time:[", 6));
	EXPECT(seconds(CLOCK_MONOTONIC) - before < 60);
}

TEST(timens_offsets_are_checked)
{
	EXPECT_ERRNO(put_offsets("monotonic 1 0\n"), EACCES); /* not the first namespace's */
	new_ns(NULL);
	EXPECT_ERRNO(put_offsets("realtime 1 0\n"), EINVAL);
	EXPECT_ERRNO(put_offsets("monotonic 1\n"), EINVAL);
	EXPECT_ERRNO(put_offsets("monotonic 1 1000000000\n"), EINVAL);
	EXPECT_ERRNO(put_offsets("monotonic -1000000000 0\n"), ERANGE);
	EXPECT_ERRNO(put_offsets("monotonic 5000000000 0\n"), ERANGE);
	EXPECT_ERRNO(put_offsets("monotonic 99999999999999 0\n"), ERANGE);
	/* All of it, or nothing. */
	EXPECT_ERRNO(put_offsets("monotonic 5 0\nboottime x 0\n"), EINVAL);
	EXPECT_EQ(put_offsets("1 7 8\n7 9 10\n1 3 0\n"), 13);

	char text[200];
	int fd = EXPECT_OK(open("/proc/self/timens_offsets", O_RDONLY));
	ssize_t n = EXPECT_OK(read(fd, text, sizeof(text) - 1));
	text[n] = '\0';
	close(fd);
	EXPECT_STR(text, "monotonic           7         8\nboottime            9        10\n");
}

static void nothing(void *arg)
{
	(void)arg;
}

TEST(timens_offsets_freeze_with_the_first_task)
{
	new_ns("monotonic 5 0\n");
	EXPECT_EQ(test_child(nothing, NULL), 0);
	EXPECT_ERRNO(put_offsets("monotonic 6 0\n"), EACCES);
}

static const int shifted[] = {CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_MONOTONIC_COARSE,
			      CLOCK_BOOTTIME};

static void check_clocks(void *arg)
{
	const long *before = arg;

	for (int i = 0; i < 4; i++) {
		long ahead = i < 3 ? DAY : 10 * DAY;
		EXPECT(labs(seconds(shifted[i]) - before[i] - ahead) < 60);
		EXPECT(labs(vdso_seconds(shifted[i]) - before[i] - ahead) < 60);
	}
	EXPECT(labs(seconds(CLOCK_REALTIME) - before[4]) < 60);
	EXPECT(labs(vdso_seconds(CLOCK_REALTIME) - before[4]) < 60);
	struct sysinfo si;
	EXPECT_EQ(sysinfo(&si), 0);
	EXPECT(si.uptime >= 10 * DAY);
	double up = 0;
	FILE *f = fopen("/proc/uptime", "r");
	EXPECT(f && fscanf(f, "%lf", &up) == 1);
	fclose(f);
	EXPECT(up >= 10 * DAY);
	/* It began after that. */
	unsigned long long start = 0;
	f = fopen("/proc/self/stat", "r");
	EXPECT(f && fscanf(f,
			   "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u "
			   "%*d %*d %*d %*d %*d %*d %llu",
			   &start) == 1);
	fclose(f);
	EXPECT(start / 100 >= 10 * DAY && start / 100 <= (unsigned long long)up + 1);
}

TEST(timens_moves_the_clocks_that_count_from_boot)
{
	long before[5];

	for (int i = 0; i < 4; i++)
		before[i] = seconds(shifted[i]);
	before[4] = seconds(CLOCK_REALTIME);
	inside(check_clocks, before);
}

static void grandchild(void *arg)
{
	check_clocks(arg);
	EXPECT_EQ(test_child(check_clocks, arg), 0);
}

TEST(timens_is_inherited)
{
	long before[5];

	for (int i = 0; i < 4; i++)
		before[i] = seconds(shifted[i]);
	before[4] = seconds(CLOCK_REALTIME);
	inside(grandchild, before);
}

static void sleep_absolute(void *arg)
{
	struct timespec until = in_ms(CLOCK_MONOTONIC, 30), past = {DAY, 0};

	(void)arg;
	EXPECT_EQ(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &past, NULL), 0);
	EXPECT_EQ(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL), 0);
	EXPECT(now_ns(CLOCK_MONOTONIC) >= until.tv_sec * 1000000000LL + until.tv_nsec);
	until = in_ms(CLOCK_BOOTTIME, 30);
	EXPECT_EQ(clock_nanosleep(CLOCK_BOOTTIME, TIMER_ABSTIME, &until, NULL), 0);
	EXPECT(now_ns(CLOCK_BOOTTIME) >= until.tv_sec * 1000000000LL + until.tv_nsec);
}

TEST(timens_sleeps_end_by_its_clock)
{
	inside(sleep_absolute, NULL);
}

static void wait_futex(void *arg)
{
	uint32_t word = 0;
	struct timespec until = in_ms(CLOCK_MONOTONIC, 30);
	int private = arg ? FUTEX_PRIVATE_FLAG : 0;

	EXPECT_ERRNO(syscall(SYS_futex, &word, FUTEX_WAIT_BITSET | private, 0, &until, NULL,
			     FUTEX_BITSET_MATCH_ANY),
		     ETIMEDOUT);
	int64_t now = now_ns(CLOCK_MONOTONIC), due = until.tv_sec * 1000000000LL + until.tv_nsec;
	EXPECT(now >= due && now < due + 20000000000LL);
	until = in_ms(CLOCK_REALTIME, 30);
	EXPECT_ERRNO(syscall(SYS_futex, &word, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME | private,
			     0, &until, NULL, FUTEX_BITSET_MATCH_ANY),
		     ETIMEDOUT);
	struct timespec rel = {0, 10000000};
	EXPECT_ERRNO(syscall(SYS_futex, &word, FUTEX_WAIT | private, 0, &rel, NULL, 0), ETIMEDOUT);
}

TEST(timens_futex_timeouts_are_by_its_clock)
{
	inside(wait_futex, NULL);
}

TEST(timens_private_futex_timeouts_are_by_its_clock)
{
	inside(wait_futex, "");
}

static void wait_timerfd(void *arg)
{
	int clock = *(int *)arg, fd = EXPECT_OK(timerfd_create(clock, 0));
	struct itimerspec v = {.it_value = in_ms(clock, 30)}, left;
	uint64_t ticks;

	EXPECT_EQ(timerfd_settime(fd, TFD_TIMER_ABSTIME, &v, NULL), 0);
	EXPECT_EQ(timerfd_gettime(fd, &left), 0);
	EXPECT_EQ(left.it_value.tv_sec, 0);
	EXPECT_EQ(read(fd, &ticks, sizeof(ticks)), sizeof(ticks));
	EXPECT_EQ(ticks, 1);
	EXPECT(now_ns(clock) >= v.it_value.tv_sec * 1000000000LL + v.it_value.tv_nsec);
}

TEST(timens_timerfd_is_by_its_clock)
{
	int clocks[] = {CLOCK_MONOTONIC, CLOCK_BOOTTIME};

	inside(wait_timerfd, &clocks[0]);
	EXPECT_EQ(test_child(wait_timerfd, &clocks[1]), 0);
}

static void wait_timer(void *arg)
{
	int clock = *(int *)arg;
	struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
	struct itimerspec v = {.it_value = in_ms(clock, 30)}, left;
	struct timespec limit = {20, 0};
	sigset_t set;
	timer_t id;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	EXPECT_EQ(timer_create(clock, &ev, &id), 0);
	EXPECT_EQ(timer_settime(id, TIMER_ABSTIME, &v, NULL), 0);
	EXPECT_EQ(timer_gettime(id, &left), 0);
	EXPECT_EQ(left.it_value.tv_sec, 0);
	EXPECT_EQ(sigtimedwait(&set, NULL, &limit), SIGUSR1);
	EXPECT(now_ns(clock) >= v.it_value.tv_sec * 1000000000LL + v.it_value.tv_nsec);
}

TEST(timens_posix_timers_are_by_its_clock)
{
	int clocks[] = {CLOCK_MONOTONIC, CLOCK_BOOTTIME};

	inside(wait_timer, &clocks[0]);
	EXPECT_EQ(test_child(wait_timer, &clocks[1]), 0);
}

TEST(timens_setns_moves_the_caller_and_back)
{
	long before = seconds(CLOCK_MONOTONIC);

	new_ns("monotonic 86400 0\n");
	int old = EXPECT_OK(open("/proc/self/ns/time", O_RDONLY | O_CLOEXEC));
	int new = EXPECT_OK(open("/proc/self/ns/time_for_children", O_RDONLY | O_CLOEXEC));
	EXPECT_ERRNO(setns(new, CLONE_NEWUTS), EINVAL);
	EXPECT_EQ(setns(new, CLONE_NEWTIME), 0);
	EXPECT(seconds(CLOCK_MONOTONIC) - before >= DAY);
	EXPECT(vdso_seconds(CLOCK_MONOTONIC) - before >= DAY);
	EXPECT_EQ(setns(old, 0), 0);
	EXPECT(seconds(CLOCK_MONOTONIC) - before < 60);
	EXPECT(vdso_seconds(CLOCK_MONOTONIC) - before < 60);
	char own[64], children[64];
	show_ns("time", own, sizeof(own));
	show_ns("time_for_children", children, sizeof(children));
	EXPECT_STR(own, children);
}

static int idle_thread(void *arg)
{
	(void)arg;
	pause();
	return 0;
}

TEST(timens_setns_is_for_single_threads)
{
	static char stack[65536] __attribute__((aligned(16)));

	new_ns(NULL);
	int fd = EXPECT_OK(open("/proc/self/ns/time_for_children", O_RDONLY | O_CLOEXEC));
	EXPECT_OK(clone(idle_thread, stack + sizeof(stack),
			CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD, NULL));
	EXPECT_ERRNO(setns(fd, CLONE_NEWTIME), EUSERS);
	_exit(0);
}

TEST(timens_clone3_makes_one_for_the_child)
{
	struct {
		uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
	} a = {.flags = CLONE_NEWTIME, .exit_signal = SIGCHLD};
	char own[64], child[64] = "";
	int p[2], status;

	show_ns("time", own, sizeof(own));
	EXPECT_EQ(pipe(p), 0);
	long pid = syscall(SYS_clone3, &a, sizeof(a));
	if (pid < 0 && errno == EPERM)
		test_skip("no right to a time namespace");
	EXPECT(pid >= 0);
	if (!pid) {
		char name[64];
		show_ns("time", name, sizeof(name));
		_exit(write(p[1], name, strlen(name)) < 0);
	}
	EXPECT_EQ(waitpid((pid_t)pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	EXPECT(read(p[0], child, sizeof(child) - 1) > 0);
	EXPECT(strcmp(own, child) != 0);
}

/* execve(2) goes into the namespace for children, as fork does. */
TEST(timens_exec_enters_it)
{
	int p[2], status;
	char text[64] = "";

	EXPECT_EQ(pipe(p), 0);
	pid_t pid = fork();
	if (!pid) {
		dup2(p[1], 1);
		new_ns("boottime 864000 0\n");
		execlp("cat", "cat", "/proc/uptime", NULL);
		_exit(99);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	if (WEXITSTATUS(status) == 99)
		test_skip("no cat");
	EXPECT(read(p[0], text, sizeof(text) - 1) > 0);
	EXPECT(atof(text) >= 10 * DAY);
}
