/* Clocks, sleeping, interval and POSIX timers. */
#include "tests/compat/compat.h"

#include <pthread.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/times.h>

static int64_t now(clockid_t clock)
{
	struct timespec ts;

	EXPECT_OK(clock_gettime(clock, &ts));
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static void burn(int64_t ns)
{
	int64_t end = now(CLOCK_PROCESS_CPUTIME_ID) + ns;

	while (now(CLOCK_PROCESS_CPUTIME_ID) < end)
		for (volatile int i = 0; i < 20000; i++)
			;
}

static volatile sig_atomic_t hits;
static volatile int last_overrun, last_value, last_timerid;

static void count(int signo, siginfo_t *info, void *uc)
{
	(void)signo;
	(void)uc;
	hits++;
	last_overrun = info->si_overrun;
	last_timerid = info->si_timerid;
	last_value = info->si_value.sival_int;
}

static void handle(int signo)
{
	struct sigaction sa = {.sa_sigaction = count, .sa_flags = SA_SIGINFO | SA_RESTART};

	EXPECT_OK(sigaction(signo, &sa, NULL));
}

static void wait_hits(int n)
{
	for (int i = 0; i < 2000 && hits < n; i++)
		test_sleep_ms(1);
	EXPECT(hits >= n);
}

/* ---- clocks ---- */

TEST(clock_calls_refuse_bad_arguments)
{
	struct timespec ts;

	EXPECT_ERRNO(syscall(SYS_clock_gettime, 17, &ts), EINVAL);
	EXPECT_ERRNO(syscall(SYS_clock_gettime, 10, &ts), EINVAL);
	EXPECT_ERRNO(syscall(SYS_clock_gettime, CLOCK_THREAD_CPUTIME_ID, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(syscall(SYS_clock_getres, 17, &ts), EINVAL);
	EXPECT_OK(syscall(SYS_clock_getres, CLOCK_MONOTONIC, NULL));
	EXPECT_ERRNO(syscall(SYS_clock_gettime, -1, &ts), EINVAL);
	EXPECT_ERRNO(syscall(SYS_clock_gettime, ~200000000U << 3 | 2, &ts), EINVAL);
	EXPECT_ERRNO(syscall(SYS_nanosleep, BAD_ADDR, NULL), EFAULT);
}

TEST(every_clock_runs_forward)
{
	static const clockid_t clocks[] = {
		CLOCK_REALTIME,		CLOCK_MONOTONIC,	  CLOCK_MONOTONIC_RAW,
		CLOCK_REALTIME_COARSE,	CLOCK_BOOTTIME,		  CLOCK_TAI,
		CLOCK_MONOTONIC_COARSE, CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID};
	int64_t before[9];
	struct timespec res;

	for (int i = 0; i < 9; i++)
		before[i] = now(clocks[i]);
	burn(30000000);
	for (int i = 0; i < 9; i++) {
		EXPECT(now(clocks[i]) > before[i]);
		EXPECT_OK(clock_getres(clocks[i], &res));
		EXPECT_EQ(res.tv_sec, 0);
	}
	struct timespec ts;
	EXPECT_OK(syscall(SYS_clock_gettime, CLOCK_REALTIME, &ts));
	EXPECT(llabs(time(NULL) - ts.tv_sec) <= 1);
	struct timeval tv;
	EXPECT_OK(syscall(SYS_gettimeofday, &tv, NULL));
	EXPECT(llabs(tv.tv_sec - ts.tv_sec) <= 1);
}

static void *burn_thread(void *arg)
{
	int64_t end = now(CLOCK_THREAD_CPUTIME_ID) + 40000000;

	while (now(CLOCK_THREAD_CPUTIME_ID) < end)
		for (volatile int i = 0; i < 20000; i++)
			;
	return arg;
}

TEST(cpu_clocks_tell_threads_apart)
{
	pthread_t th;
	clockid_t process, of_parent;
	int64_t p0 = now(CLOCK_PROCESS_CPUTIME_ID), t0 = now(CLOCK_THREAD_CPUTIME_ID);

	EXPECT_OK(-pthread_create(&th, NULL, burn_thread, NULL));
	pthread_join(th, NULL);
	EXPECT(now(CLOCK_PROCESS_CPUTIME_ID) - p0 >= 35000000);
	EXPECT(now(CLOCK_THREAD_CPUTIME_ID) - t0 < 35000000);
	EXPECT_OK(-clock_getcpuclockid(0, &process));
	EXPECT(now(process) >= p0);
	EXPECT_OK(-clock_getcpuclockid(getppid(), &of_parent));
	EXPECT(now(of_parent) >= 0);
}

TEST(times_and_getrusage_count_cpu_time)
{
	struct rusage ru;
	struct tms tms;

	burn(50000000);
	EXPECT_OK(getrusage(RUSAGE_SELF, &ru));
	EXPECT(ru.ru_utime.tv_sec * 1000000 + ru.ru_utime.tv_usec + ru.ru_stime.tv_sec * 1000000 +
		       ru.ru_stime.tv_usec >=
	       40000);
	EXPECT_OK(getrusage(RUSAGE_THREAD, &ru));
	EXPECT_OK(getrusage(RUSAGE_CHILDREN, &ru));
	EXPECT_ERRNO(getrusage(7, &ru), EINVAL);
	EXPECT_ERRNO(syscall(SYS_getrusage, RUSAGE_SELF, BAD_ADDR), EFAULT);
	EXPECT_OK(times(&tms));
	EXPECT(tms.tms_utime + tms.tms_stime >= 4);
	EXPECT_ERRNO(syscall(SYS_times, BAD_ADDR), EFAULT);
}

/* ---- sleeping ---- */

TEST(nanosleep_sleeps_at_least_that_long)
{
	struct timespec ts = {.tv_nsec = 15000000};
	int64_t t0 = now(CLOCK_MONOTONIC);

	EXPECT_OK(nanosleep(&ts, NULL));
	EXPECT(now(CLOCK_MONOTONIC) - t0 >= 15000000);
	ts.tv_nsec = 0;
	EXPECT_OK(nanosleep(&ts, NULL));
	ts.tv_nsec = 1000000000;
	EXPECT_ERRNO(nanosleep(&ts, NULL), EINVAL);
	ts.tv_nsec = -1;
	EXPECT_ERRNO(nanosleep(&ts, NULL), EINVAL);
	ts = (struct timespec){.tv_sec = -1};
	EXPECT_ERRNO(nanosleep(&ts, NULL), EINVAL);
}

TEST(clock_nanosleep_knows_absolute_times)
{
	struct timespec ts;

	for (int i = 0; i < 2; i++) {
		clockid_t clock = i ? CLOCK_REALTIME : CLOCK_MONOTONIC;
		int64_t until = now(clock) + 15000000;
		ts.tv_sec = until / 1000000000;
		ts.tv_nsec = until % 1000000000;
		EXPECT_OK(-clock_nanosleep(clock, TIMER_ABSTIME, &ts, NULL));
		EXPECT(now(clock) >= until);
		ts.tv_sec = 1; /* long past */
		EXPECT_OK(-clock_nanosleep(clock, TIMER_ABSTIME, &ts, NULL));
	}
	ts = (struct timespec){.tv_nsec = 1000};
	EXPECT_EQ(clock_nanosleep(77, 0, &ts, NULL), EINVAL);
	EXPECT_ERRNO(syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC_RAW, 0, &ts, NULL), EOPNOTSUPP);
	EXPECT_ERRNO(syscall(SYS_clock_nanosleep, CLOCK_THREAD_CPUTIME_ID, 0, &ts, NULL),
		     EOPNOTSUPP);
}

/* ---- interval timers ---- */

TEST(itimer_calls_refuse_bad_arguments)
{
	struct itimerval v = {.it_value = {.tv_usec = 1000000}};

	EXPECT_ERRNO(setitimer(ITIMER_REAL, &v, NULL), EINVAL);
	v.it_value.tv_usec = -1;
	EXPECT_ERRNO(setitimer(ITIMER_REAL, &v, NULL), EINVAL);
	v.it_value.tv_usec = 0;
	EXPECT_ERRNO(syscall(SYS_setitimer, 3, &v, NULL), EINVAL);
	EXPECT_ERRNO(syscall(SYS_getitimer, 3, &v), EINVAL);
	EXPECT_ERRNO(syscall(SYS_getitimer, ITIMER_REAL, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(syscall(SYS_setitimer, ITIMER_REAL, BAD_ADDR, NULL), EFAULT);
}

TEST(real_itimer_repeats_until_disarmed)
{
	struct itimerval v = {.it_value = {.tv_usec = 5000}, .it_interval = {.tv_usec = 5000}}, old;

	handle(SIGALRM);
	EXPECT_OK(setitimer(ITIMER_REAL, &v, NULL));
	wait_hits(5);
	EXPECT_OK(getitimer(ITIMER_REAL, &old));
	EXPECT_EQ(old.it_interval.tv_usec, 5000);
	v = (struct itimerval){0};
	EXPECT_OK(setitimer(ITIMER_REAL, &v, &old));
	EXPECT_EQ(old.it_interval.tv_usec, 5000);
	int n = hits;
	test_sleep_ms(20);
	EXPECT(hits <= n + 1);
	EXPECT_OK(getitimer(ITIMER_REAL, &old));
	EXPECT_EQ(old.it_value.tv_sec + old.it_value.tv_usec, 0);
}

TEST(alarm_returns_what_was_left)
{
	alarm(0); /* the runner's */
	EXPECT_EQ(alarm(100), 0);
	EXPECT_EQ(alarm(50), 100);
	EXPECT_EQ(alarm(0), 50);
	EXPECT_EQ(alarm(0), 0);
}

static void die_of_alarm(void *arg)
{
	struct itimerval v = {.it_value = {.tv_usec = 1000}};

	(void)arg;
	setitimer(ITIMER_REAL, &v, NULL);
	for (;;)
		pause();
}

TEST(alarm_without_a_handler_kills)
{
	int status = test_child(die_of_alarm, NULL);

	EXPECT(WIFSIGNALED(status));
	EXPECT_EQ(WTERMSIG(status), SIGALRM);
}

TEST(profiling_timers_count_cpu_time)
{
	struct itimerval v = {.it_value = {.tv_usec = 10000}, .it_interval = {.tv_usec = 10000}};

	handle(SIGPROF);
	EXPECT_OK(setitimer(ITIMER_PROF, &v, NULL));
	test_sleep_ms(50);
	EXPECT_EQ(hits, 0); /* no CPU time, no signal */
	burn(200000000);
	EXPECT(hits >= 3);
	v = (struct itimerval){0};
	EXPECT_OK(setitimer(ITIMER_PROF, &v, NULL));
	hits = 0;
	handle(SIGVTALRM);
	v.it_value.tv_usec = 5000;
	EXPECT_OK(setitimer(ITIMER_VIRTUAL, &v, NULL));
	burn(200000000);
	EXPECT_EQ(hits, 1);
}

static void burn_for_ever(void *arg)
{
	struct rlimit lim = {1, 2};

	(void)arg;
	setrlimit(RLIMIT_CPU, &lim);
	signal(SIGXCPU, SIG_IGN);
	for (;;)
		;
}

TEST(cpu_limit_kills_in_the_end)
{
	int status = test_child(burn_for_ever, NULL);

	EXPECT(WIFSIGNALED(status));
	EXPECT_EQ(WTERMSIG(status), SIGKILL);
}

/* ---- POSIX timers ---- */

static timer_t make_timer(clockid_t clock, int signo, int value)
{
	struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = signo};
	timer_t id;

	ev.sigev_value.sival_int = value;
	EXPECT_OK(timer_create(clock, &ev, &id));
	return id;
}

TEST(posix_timer_calls_refuse_bad_arguments)
{
	struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = 65};
	struct itimerspec v = {.it_value = {.tv_nsec = 1000000000}};
	int id;

	EXPECT_ERRNO(syscall(SYS_timer_create, CLOCK_MONOTONIC, &ev, &id), EINVAL);
	ev.sigev_signo = SIGUSR1;
	ev.sigev_notify = 99;
	EXPECT_ERRNO(syscall(SYS_timer_create, CLOCK_MONOTONIC, &ev, &id), EINVAL);
	ev.sigev_notify = SIGEV_SIGNAL;
	EXPECT_ERRNO(syscall(SYS_timer_create, 77, &ev, &id), EINVAL);
	EXPECT_ERRNO(syscall(SYS_timer_create, CLOCK_MONOTONIC_RAW, &ev, &id), EOPNOTSUPP);
	EXPECT_ERRNO(syscall(SYS_timer_create, CLOCK_MONOTONIC, BAD_ADDR, &id), EFAULT);
	EXPECT_ERRNO(syscall(SYS_timer_create, CLOCK_MONOTONIC, &ev, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(syscall(SYS_timer_settime, 4711, 0, &v, NULL), EINVAL);
	EXPECT_ERRNO(syscall(SYS_timer_gettime, 4711, &v), EINVAL);
	EXPECT_ERRNO(syscall(SYS_timer_delete, 4711), EINVAL);
	EXPECT_ERRNO(syscall(SYS_timer_getoverrun, 4711), EINVAL);
	EXPECT_OK(syscall(SYS_timer_create, CLOCK_MONOTONIC, &ev, &id));
	EXPECT_ERRNO(syscall(SYS_timer_settime, id, 0, &v, NULL), EINVAL);
	EXPECT_ERRNO(syscall(SYS_timer_settime, id, 0, NULL, NULL), EINVAL);
	EXPECT_OK(syscall(SYS_timer_delete, id));
	EXPECT_ERRNO(syscall(SYS_timer_delete, id), EINVAL);
}

TEST(posix_timer_fires_with_its_value)
{
	static const clockid_t clocks[] = {CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_BOOTTIME};

	handle(SIGRTMIN + 3);
	for (int i = 0; i < 3; i++) {
		timer_t id = make_timer(clocks[i], SIGRTMIN + 3, 70 + i);
		struct itimerspec v = {.it_value = {.tv_nsec = 2000000}}, cur;
		EXPECT_OK(timer_settime(id, 0, &v, NULL));
		wait_hits(i + 1);
		EXPECT_EQ(last_value, 70 + i);
		EXPECT_OK(timer_gettime(id, &cur));
		EXPECT_EQ(cur.it_value.tv_sec + cur.it_value.tv_nsec, 0);
		EXPECT_OK(timer_delete(id));
	}
}

TEST(blocked_periodic_timer_counts_overruns)
{
	timer_t id = make_timer(CLOCK_MONOTONIC, SIGRTMIN + 3, 1);
	struct itimerspec v = {.it_value = {.tv_nsec = 1000000},
			       .it_interval = {.tv_nsec = 1000000}};
	sigset_t set;

	handle(SIGRTMIN + 3);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 3);
	EXPECT_OK(sigprocmask(SIG_BLOCK, &set, NULL));
	EXPECT_OK(timer_settime(id, 0, &v, NULL));
	test_sleep_ms(30);
	EXPECT_OK(sigprocmask(SIG_UNBLOCK, &set, NULL));
	EXPECT(hits >= 1);
	EXPECT_OK(sigprocmask(SIG_BLOCK, &set, NULL));
	EXPECT(timer_getoverrun(id) >= 0);
	EXPECT_OK(timer_delete(id));
}

TEST(deleted_timer_takes_its_signal_along)
{
	timer_t id = make_timer(CLOCK_MONOTONIC, SIGRTMIN + 3, 1);
	struct itimerspec v = {.it_value = {.tv_nsec = 1000}};
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 3);
	EXPECT_OK(sigprocmask(SIG_BLOCK, &set, NULL));
	EXPECT_OK(timer_settime(id, 0, &v, NULL));
	test_sleep_ms(10);
	EXPECT_OK(timer_delete(id));
}

TEST(cpu_time_timer_fires_after_that_much_work)
{
	timer_t id = make_timer(CLOCK_PROCESS_CPUTIME_ID, SIGUSR1, 5);
	struct itimerspec v = {.it_value = {.tv_nsec = 20000000}};

	handle(SIGUSR1);
	EXPECT_OK(timer_settime(id, 0, &v, NULL));
	test_sleep_ms(50);
	EXPECT_EQ(hits, 0);
	burn(300000000);
	EXPECT_EQ(hits, 1);
	EXPECT_EQ(last_value, 5);
}

TEST(timers_are_not_inherited_by_fork)
{
	struct itimerval v = {.it_value = {.tv_sec = 1000}}, cur;
	timer_t id = make_timer(CLOCK_MONOTONIC, SIGUSR1, 0);
	int status;

	EXPECT_OK(setitimer(ITIMER_REAL, &v, NULL));
	pid_t pid = fork();
	if (pid == 0) {
		struct itimerspec s;
		if (getitimer(ITIMER_REAL, &cur) || cur.it_value.tv_sec)
			_exit(1);
		_exit(timer_gettime(id, &s) != -1);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	EXPECT_OK(getitimer(ITIMER_REAL, &cur));
	EXPECT(cur.it_value.tv_sec > 900);
}
