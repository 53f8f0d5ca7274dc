/* Time, continued: resolutions, absolute sleeps, timerfd, timers and their signals. */
#include "tests/compat/compat.h"

#include <poll.h>
#include <pthread.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/times.h>
#include <utime.h>

static int64_t now(clockid_t clock)
{
	struct timespec ts;

	EXPECT_OK(clock_gettime(clock, &ts));
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static struct timespec to_timespec(int64_t ns)
{
	return (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
}

static volatile sig_atomic_t hits;

static void count(int signo)
{
	(void)signo;
	hits++;
}

static void handle(int signo, int flags)
{
	struct sigaction sa = {.sa_handler = count, .sa_flags = flags};

	EXPECT_OK(sigaction(signo, &sa, NULL));
}

static pid_t signal_later(int signo, int ms)
{
	pid_t parent = getpid(), pid = fork();

	EXPECT(pid >= 0);
	if (pid == 0) {
		test_sleep_ms(ms);
		kill(parent, signo);
		_exit(0);
	}
	return pid;
}

TEST(time_calls_refuse_hostile_pointers)
{
	struct timespec ts = {0};

	EXPECT_ERRNO(syscall(SYS_time, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(syscall(SYS_gettimeofday, BAD_ADDR, NULL), EFAULT);
	EXPECT_OK(syscall(SYS_gettimeofday, NULL, NULL));
	EXPECT_ERRNO(syscall(SYS_clock_getres, CLOCK_REALTIME, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(syscall(SYS_clock_nanosleep, CLOCK_REALTIME, 0, BAD_ADDR, NULL), EFAULT);
	EXPECT_ERRNO(syscall(SYS_clock_nanosleep, 99, 0, &ts, NULL), EINVAL);
	EXPECT_ERRNO(syscall(SYS_clock_settime, CLOCK_MONOTONIC, &ts), EINVAL);
}

TEST(clock_resolutions_are_those_of_linux)
{
	struct timespec ts;
	const clockid_t fine[] = {CLOCK_REALTIME,	    CLOCK_MONOTONIC,
				  CLOCK_MONOTONIC_RAW,	    CLOCK_BOOTTIME,
				  CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID};

	for (size_t i = 0; i < sizeof(fine) / sizeof(*fine); i++) {
		EXPECT_OK(syscall(SYS_clock_getres, fine[i], &ts));
		EXPECT_EQ(ts.tv_sec, 0);
		EXPECT_EQ(ts.tv_nsec, 1);
	}
	EXPECT_OK(syscall(SYS_clock_getres, CLOCK_MONOTONIC_COARSE, &ts));
	EXPECT(ts.tv_nsec >= 1000000 && ts.tv_nsec <= 10000000);
}

TEST(clocks_agree_between_libc_and_system_call)
{
	struct timespec ts;
	struct timeval tv;
	time_t t;
	const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME};

	for (size_t i = 0; i < sizeof(clocks) / sizeof(*clocks); i++) {
		int64_t before = now(clocks[i]);
		EXPECT_OK(syscall(SYS_clock_gettime, clocks[i], &ts));
		int64_t between = ts.tv_sec * 1000000000LL + ts.tv_nsec;
		EXPECT(before <= between && between <= now(clocks[i]));
	}
	EXPECT_OK(syscall(SYS_gettimeofday, &tv, NULL));
	EXPECT(llabs(tv.tv_sec - now(CLOCK_REALTIME) / 1000000000) <= 1);
	t = (time_t)syscall(SYS_time, NULL);
	EXPECT(llabs(t - time(NULL)) <= 1);
}

TEST(clock_of_another_process_counts_its_cpu_time)
{
	clockid_t id;
	int p[2];

	EXPECT_OK(pipe(p));
	pid_t pid = fork();
	if (pid == 0) {
		int64_t end = now(CLOCK_PROCESS_CPUTIME_ID) + 40000000;
		while (now(CLOCK_PROCESS_CPUTIME_ID) < end)
			for (volatile int i = 0; i < 20000; i++)
				;
		if (write(p[1], "x", 1) != 1)
			_exit(1);
		pause();
	}
	char c;
	EXPECT_EQ(read(p[0], &c, 1), 1);
	EXPECT_OK(-clock_getcpuclockid(pid, &id));
	EXPECT(now(id) >= 35000000);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	struct timespec ts;
	EXPECT_ERRNO(clock_gettime(id, &ts), EINVAL);
}

/* ---- sleeping ---- */

TEST(clock_nanosleep_absolute_is_eintr_without_telling_the_rest)
{
	struct timespec until = to_timespec(now(CLOCK_MONOTONIC) + 5000000000), rem = {77, 77};

	handle(SIGUSR1, SA_RESTART);
	pid_t pid = signal_later(SIGUSR1, 20);
	EXPECT_EQ(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, &rem), EINTR);
	EXPECT(rem.tv_sec == 77 && rem.tv_nsec == 77);
	waitpid(pid, NULL, 0);
}

TEST(clock_nanosleep_relative_tells_the_rest)
{
	struct timespec ts = {.tv_sec = 5}, rem = {0};

	handle(SIGUSR1, 0);
	pid_t pid = signal_later(SIGUSR1, 20);
	EXPECT_EQ(clock_nanosleep(CLOCK_BOOTTIME, 0, &ts, &rem), EINTR);
	EXPECT(rem.tv_sec == 4);
	waitpid(pid, NULL, 0);
}

TEST(clock_nanosleep_past_and_realtime)
{
	struct timespec past = {.tv_sec = 1}, until = to_timespec(now(CLOCK_REALTIME) + 30000000);
	int64_t t0 = now(CLOCK_MONOTONIC);

	EXPECT_EQ(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &past, NULL), 0);
	EXPECT(now(CLOCK_MONOTONIC) - t0 < 1000000000);
	EXPECT_EQ(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &until, NULL), 0);
	EXPECT(now(CLOCK_REALTIME) >= until.tv_sec * 1000000000LL + until.tv_nsec);
}

TEST(nanosleep_fault_on_the_rest_is_efault)
{
	struct timespec ts = {.tv_sec = 5};

	handle(SIGUSR1, 0);
	pid_t pid = signal_later(SIGUSR1, 20);
	EXPECT_ERRNO(syscall(SYS_nanosleep, &ts, BAD_ADDR), EFAULT);
	EXPECT_EQ(hits, 1);
	waitpid(pid, NULL, 0);
}

static void *sleep_a_bit(void *arg)
{
	test_sleep_ms(60);
	return arg;
}

TEST(sleeping_threads_sleep_at_the_same_time)
{
	enum { N = 20 };
	pthread_t th[N];
	int64_t t0 = now(CLOCK_MONOTONIC);

	for (int i = 0; i < N; i++)
		EXPECT_OK(-pthread_create(&th[i], NULL, sleep_a_bit, NULL));
	for (int i = 0; i < N; i++)
		pthread_join(th[i], NULL);
	int64_t took = now(CLOCK_MONOTONIC) - t0;
	EXPECT(took >= 60000000 && took < 900000000);
}

/* ---- interval timers ---- */

TEST(itimer_tells_the_previous_setting)
{
	struct itimerval v = {.it_value = {100, 5}, .it_interval = {7, 9}}, old;

	EXPECT_OK(setitimer(ITIMER_REAL, &v, NULL));
	memset(&v, 0, sizeof(v));
	EXPECT_OK(setitimer(ITIMER_REAL, &v, &old));
	EXPECT(old.it_value.tv_sec == 99 || old.it_value.tv_sec == 100);
	EXPECT(old.it_interval.tv_sec == 7 && old.it_interval.tv_usec == 9);
	EXPECT_OK(getitimer(ITIMER_REAL, &old));
	EXPECT(old.it_value.tv_sec == 0 && old.it_value.tv_usec == 0);
	/* A fault on the old value comes after the new one is set. */
	v.it_value.tv_sec = 50;
	EXPECT_ERRNO(syscall(SYS_setitimer, ITIMER_REAL, &v, BAD_ADDR), EFAULT);
	EXPECT_EQ(alarm(0), 50);
}

TEST(alarm_interrupts_a_blocking_read)
{
	struct itimerval v = {.it_value = {0, 20000}};
	int p[2];
	char c;

	EXPECT_OK(pipe(p));
	handle(SIGALRM, 0);
	EXPECT_OK(setitimer(ITIMER_REAL, &v, NULL));
	EXPECT_ERRNO(read(p[0], &c, 1), EINTR);
	EXPECT_EQ(hits, 1);
}

TEST(virtual_timer_does_not_run_while_asleep)
{
	struct itimerval v = {.it_value = {0, 30000}}, rest;

	handle(SIGVTALRM, 0);
	EXPECT_OK(setitimer(ITIMER_VIRTUAL, &v, NULL));
	test_sleep_ms(80);
	EXPECT_EQ(hits, 0);
	EXPECT_OK(getitimer(ITIMER_VIRTUAL, &rest));
	EXPECT(rest.it_value.tv_usec > 0);
	int64_t end = now(CLOCK_MONOTONIC) + 900000000;
	while (!hits && now(CLOCK_MONOTONIC) < end)
		for (volatile int i = 0; i < 10000; i++)
			;
	EXPECT_EQ(hits, 1);
}

/* ---- POSIX timers ---- */

TEST(timer_gettime_counts_down_and_disarms)
{
	struct itimerspec v = {.it_value = {100, 0}, .it_interval = {3, 4}}, got;
	timer_t id;

	EXPECT_OK(timer_create(CLOCK_MONOTONIC, NULL, &id));
	EXPECT_OK(timer_gettime(id, &got));
	EXPECT(got.it_value.tv_sec == 0 && got.it_value.tv_nsec == 0);
	EXPECT_OK(timer_settime(id, 0, &v, NULL));
	EXPECT_OK(timer_gettime(id, &got));
	EXPECT(got.it_value.tv_sec == 99);
	EXPECT(got.it_interval.tv_sec == 3 && got.it_interval.tv_nsec == 4);
	memset(&v, 0, sizeof(v));
	EXPECT_OK(timer_settime(id, 0, &v, &got));
	EXPECT(got.it_value.tv_sec == 99);
	EXPECT_OK(timer_gettime(id, &got));
	EXPECT(got.it_value.tv_sec == 0 && got.it_value.tv_nsec == 0);
	EXPECT_OK(timer_delete(id));
}

TEST(timer_absolute_in_the_past_fires_at_once)
{
	struct itimerspec v = {.it_value = {1, 0}};
	timer_t id;

	handle(SIGALRM, 0);
	EXPECT_OK(timer_create(CLOCK_REALTIME, NULL, &id)); /* SIGALRM by default */
	EXPECT_OK(timer_settime(id, TIMER_ABSTIME, &v, NULL));
	for (int i = 0; i < 500 && !hits; i++)
		test_sleep_ms(1);
	EXPECT_EQ(hits, 1);
}

static volatile pid_t got_by;

static void note_thread(int signo)
{
	(void)signo;
	got_by = gettid();
}

static void *await_signal(void *arg)
{
	*(volatile pid_t *)arg = gettid();
	while (!got_by)
		test_sleep_ms(1);
	return NULL;
}

TEST(timer_notifies_the_chosen_thread)
{
	struct itimerspec v = {.it_value = {0, 5000000}};
	struct sigevent ev = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1};
	volatile pid_t tid = 0;
	pthread_t th;
	timer_t id;

	signal(SIGUSR1, note_thread);
	EXPECT_OK(-pthread_create(&th, NULL, await_signal, (void *)&tid));
	while (!tid)
		test_sleep_ms(1);
	ev._sigev_un._tid = tid;
	EXPECT_OK(timer_create(CLOCK_MONOTONIC, &ev, &id));
	EXPECT_OK(timer_settime(id, 0, &v, NULL));
	pthread_join(th, NULL);
	EXPECT_EQ(got_by, tid);
}

TEST(timer_without_notification_only_counts)
{
	struct itimerspec v = {.it_value = {0, 5000000}, .it_interval = {0, 5000000}}, got;
	struct sigevent ev = {.sigev_notify = SIGEV_NONE};
	timer_t id;

	EXPECT_OK(timer_create(CLOCK_MONOTONIC, &ev, &id));
	EXPECT_OK(timer_settime(id, 0, &v, NULL));
	test_sleep_ms(20);
	EXPECT_OK(timer_gettime(id, &got));
	EXPECT(got.it_value.tv_sec == 0 && got.it_value.tv_nsec <= 5000000);
}

/* ---- timerfd ---- */

TEST(timerfd_of_each_clock_and_absolute)
{
	const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME};
	uint64_t n;

	for (size_t i = 0; i < sizeof(clocks) / sizeof(*clocks); i++) {
		int fd = (int)EXPECT_OK(timerfd_create(clocks[i], 0));
		struct itimerspec v = {.it_value = to_timespec(now(clocks[i]) + 10000000)};
		EXPECT_OK(timerfd_settime(fd, TFD_TIMER_ABSTIME, &v, NULL));
		EXPECT_EQ(read(fd, &n, sizeof(n)), sizeof(n));
		EXPECT_EQ(n, 1);
		EXPECT(now(clocks[i]) >= v.it_value.tv_sec * 1000000000LL + v.it_value.tv_nsec);
		close(fd);
	}
}

TEST(timerfd_settime_forgets_expirations)
{
	int fd = (int)EXPECT_OK(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
	struct itimerspec v = {.it_value = {0, 1}}, old;
	struct pollfd p = {.fd = fd, .events = POLLIN};
	uint64_t n;

	EXPECT_OK(timerfd_settime(fd, 0, &v, NULL));
	EXPECT_EQ(poll(&p, 1, 1000), 1);
	v.it_value.tv_sec = 100;
	EXPECT_OK(timerfd_settime(fd, 0, &v, &old));
	EXPECT(old.it_value.tv_sec == 0 && old.it_value.tv_nsec == 0);
	EXPECT_EQ(poll(&p, 1, 0), 0);
	EXPECT_ERRNO(read(fd, &n, sizeof(n)), EAGAIN);
	EXPECT_OK(timerfd_gettime(fd, &old));
	EXPECT_EQ(old.it_value.tv_sec, 99 + (old.it_value.tv_sec == 100));
	EXPECT_ERRNO(read(fd, &n, 7), EINVAL);
	EXPECT_ERRNO(write(fd, &n, 8), EINVAL);
}

TEST(times_returns_ticks_since_an_arbitrary_point)
{
	struct tms t;
	clock_t a = times(&t);

	test_sleep_ms(50);
	clock_t b = times(&t);
	EXPECT(b - a >= 4 && b - a < 100);
	EXPECT(syscall(SYS_times, NULL) >= b);
}
