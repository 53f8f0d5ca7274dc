/* SCHED_DEADLINE, and CPU time: who used it, in what mode, and timers on it. */
#include <sched.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/times.h>
#include <sys/utsname.h>

#include "tests/compat/compat.h"

#ifndef SCHED_DEADLINE
#define SCHED_DEADLINE 6
#endif
#define MS 1000000ULL

/* ---- SCHED_DEADLINE ---- */

struct attr {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
	uint32_t util_min, util_max;
};

static long set_deadline(uint64_t flags, uint64_t runtime, uint64_t deadline, uint64_t period)
{
	struct attr a = {.size = sizeof(a),
			 .policy = SCHED_DEADLINE,
			 .flags = flags,
			 .runtime = runtime,
			 .deadline = deadline,
			 .period = period};

	return syscall(SYS_sched_setattr, 0, &a, 0);
}

static void need_deadline(void)
{
	if (set_deadline(0, MS, 10 * MS, 0) && (errno == EPERM || errno == EBUSY))
		test_skip("no right to SCHED_DEADLINE, or no room");
}

TEST(sched_deadline_parameters_are_checked)
{
	struct sched_param p = {0};

	EXPECT_ERRNO(set_deadline(0, 0, 0, 0), EINVAL);
	EXPECT_ERRNO(set_deadline(0, 1000, MS, MS), EINVAL);
	EXPECT_ERRNO(set_deadline(0, 2 * MS, MS, 0), EINVAL);
	EXPECT_ERRNO(set_deadline(0, 10000, 20000, 0), EINVAL);
	EXPECT_ERRNO(set_deadline(0, MS, 10 * MS, 5 * MS), EINVAL);
	EXPECT_ERRNO(set_deadline(0, MS, 10000 * MS, 0), EINVAL);
	EXPECT_ERRNO(set_deadline(0, MS, 1ULL << 63, 1ULL << 63), EINVAL);
	EXPECT_ERRNO(set_deadline(1ULL << 63, MS, 10 * MS, 0), EINVAL);
	EXPECT_ERRNO(sched_setscheduler(0, SCHED_DEADLINE, &p), EINVAL);
}

TEST(sched_deadline_is_shown)
{
	struct attr a;
	struct sched_param p = {0};

	need_deadline();
	EXPECT_EQ(sched_getscheduler(0), SCHED_DEADLINE);
	EXPECT_EQ(set_deadline(6, MS, 10 * MS, 20 * MS), 0);
	EXPECT_EQ(syscall(SYS_sched_getattr, 0, &a, sizeof(a), 0), 0);
	EXPECT(a.policy == SCHED_DEADLINE && a.flags == 6 && a.priority == 0);
	EXPECT(a.runtime == MS && a.deadline == 10 * MS && a.period == 20 * MS);
	EXPECT_ERRNO(sched_setparam(0, &p), EINVAL);
	EXPECT_EQ(sched_setscheduler(0, SCHED_OTHER, &p), 0);
	EXPECT_EQ(sched_getscheduler(0), SCHED_OTHER);
}

TEST(sched_deadline_task_forks_with_reset_only)
{
	int status;

	need_deadline();
	EXPECT_ERRNO(fork(), EAGAIN);
	EXPECT_EQ(set_deadline(1, MS, 10 * MS, 0), 0);
	pid_t pid = EXPECT_OK(fork());
	if (!pid)
		_exit(sched_getscheduler(0) == SCHED_OTHER ? 0 : 1);
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
}

TEST(sched_deadline_task_runs_everywhere)
{
	cpu_set_t one, all;

	EXPECT_EQ(sched_getaffinity(0, sizeof(all), &all), 0);
	if (CPU_COUNT(&all) < 2)
		test_skip("one CPU only");
	CPU_ZERO(&one);
	for (int i = 0; i < CPU_SETSIZE && !CPU_COUNT(&one); i++)
		if (CPU_ISSET(i, &all))
			CPU_SET(i, &one);
	need_deadline();
	EXPECT_ERRNO(sched_setaffinity(0, sizeof(one), &one), EBUSY);
	struct sched_param p = {0};
	EXPECT_EQ(sched_setscheduler(0, SCHED_OTHER, &p), 0);
	EXPECT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
	EXPECT_ERRNO(set_deadline(0, MS, 10 * MS, 0), EPERM);
}

static void give_up_privilege(void *arg)
{
	(void)arg;
	EXPECT_EQ(setuid(1000), 0);
	EXPECT_ERRNO(set_deadline(0, MS, 10 * MS, 0), EPERM);
}

TEST(sched_deadline_is_for_the_privileged)
{
	if (geteuid())
		test_skip("not root");
	EXPECT_EQ(test_child(give_up_privilege, NULL), 0);
}

/* ---- CPU time ---- */

static int64_t us(struct timeval tv)
{
	return tv.tv_sec * 1000000LL + tv.tv_usec;
}

static void use_user_time(int ms)
{
	struct timespec ts;
	int64_t end = 0;

	do {
		for (volatile int i = 0; i < 100000; i++)
			continue;
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
		int64_t now = ts.tv_sec * 1000000000LL + ts.tv_nsec;
		end = end ? end : now + ms * 1000000LL;
		if (now >= end)
			return;
	} while (true);
}

static void use_system_time(int calls)
{
	struct stat st;

	for (int i = 0; i < calls; i++)
		stat("/", &st);
}

TEST(rusage_tells_user_and_system_time_apart)
{
	struct rusage a, b, c;

	EXPECT_EQ(getrusage(RUSAGE_SELF, &a), 0);
	use_user_time(100);
	EXPECT_EQ(getrusage(RUSAGE_SELF, &b), 0);
	int64_t user = us(b.ru_utime) - us(a.ru_utime), sys = us(b.ru_stime) - us(a.ru_stime);
	EXPECT(user > 50000 && sys < user);
	use_system_time(100000);
	EXPECT_EQ(getrusage(RUSAGE_SELF, &c), 0);
	EXPECT(us(c.ru_stime) - us(b.ru_stime) > 1000);
}

static void *burn(void *arg)
{
	use_user_time(*(int *)arg);
	use_system_time(2000);
	return NULL;
}

TEST(rusage_never_runs_backwards)
{
	struct rusage last = {0}, now;

	for (int i = 0; i < 30; i++) {
		int ms = 1;
		burn(&ms);
		EXPECT_EQ(getrusage(RUSAGE_SELF, &now), 0);
		EXPECT(us(now.ru_utime) >= us(last.ru_utime));
		EXPECT(us(now.ru_stime) >= us(last.ru_stime));
		last = now;
		if (us(now.ru_utime) + us(now.ru_stime) > 300000)
			break;
	}
}

static void child_burns(void *arg)
{
	burn(arg);
}

TEST(rusage_of_children_and_times)
{
	struct rusage r;
	struct tms t;
	int ms = 60;

	EXPECT_EQ(test_child(child_burns, &ms), 0);
	EXPECT_EQ(getrusage(RUSAGE_CHILDREN, &r), 0);
	EXPECT(us(r.ru_utime) >= 30000 && us(r.ru_stime) >= 0 && r.ru_minflt > 0);
	EXPECT(times(&t) != -1);
	EXPECT(labs(t.tms_cutime - us(r.ru_utime) / 10000) <= 1);
	EXPECT(labs(t.tms_cstime - us(r.ru_stime) / 10000) <= 1);
}

TEST(rusage_thread_is_not_more_than_the_process)
{
	struct rusage self, thread;

	use_user_time(20);
	EXPECT_EQ(getrusage(RUSAGE_THREAD, &thread), 0);
	EXPECT_EQ(getrusage(RUSAGE_SELF, &self), 0);
	EXPECT(us(thread.ru_utime) + us(thread.ru_stime) <=
	       us(self.ru_utime) + us(self.ru_stime) + 20000);
	EXPECT(thread.ru_minflt > 0 && thread.ru_maxrss > 0);
}

TEST(proc_stat_has_faults_and_times)
{
	unsigned long long minflt = 0, utime = 0, stime = 0;

	use_user_time(50);
	FILE *f = fopen("/proc/self/stat", "r");
	EXPECT(f && fscanf(f, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %llu %*u %*u %*u %llu %llu",
			   &minflt, &utime, &stime) == 3);
	fclose(f);
	EXPECT(minflt > 0 && utime + stime >= 4);
	f = fopen("/proc/thread-self/stat", "r");
	EXPECT(f && fscanf(f, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %llu %*u %*u %*u %llu %llu",
			   &minflt, &utime, &stime) == 3);
	fclose(f);
	EXPECT(utime + stime >= 4);
}

/* ---- other processes' CPU clocks ---- */

TEST(timer_on_the_cpu_time_of_another_process)
{
	struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
	struct itimerspec v = {.it_value = {0, 50 * MS}};
	struct timespec limit = {30, 0}, used;
	sigset_t set;
	clockid_t clock;
	timer_t id;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	pid_t pid = EXPECT_OK(fork());
	if (!pid)
		for (;;)
			continue;
	EXPECT_EQ(clock_getcpuclockid(pid, &clock), 0);
	EXPECT_EQ(timer_create(clock, &ev, &id), 0);
	EXPECT_EQ(timer_settime(id, 0, &v, NULL), 0);
	EXPECT_EQ(sigtimedwait(&set, NULL, &limit), SIGUSR1);
	EXPECT_EQ(clock_gettime(clock, &used), 0);
	EXPECT(used.tv_sec > 0 || used.tv_nsec >= (long)(50 * MS));
	/* The process ends, its clock with it: the timer stays, and never fires. */
	EXPECT_EQ(timer_settime(id, 0, &v, NULL), 0);
	kill(pid, SIGKILL);
	EXPECT_EQ(waitpid(pid, NULL, 0), pid);
	EXPECT_ERRNO(clock_gettime(clock, &used), EINVAL);
	EXPECT_EQ(timer_delete(id), 0);
}

/* ---- personality ---- */

TEST(personality_takes_anything)
{
	struct utsname u;

	EXPECT_EQ(personality(PER_LINUX32 | UNAME26), 0);
	EXPECT_EQ(uname(&u), 0);
	EXPECT_STR(u.machine, "i686");
	EXPECT(!strncmp(u.release, "2.6.", 4));
	EXPECT_EQ(personality(0x12345600), PER_LINUX32 | UNAME26);
	EXPECT_EQ(personality(0), 0x12345600);
	EXPECT_EQ(uname(&u), 0);
	EXPECT_STR(u.machine, "x86_64");
}

/* ---- what lscpu(1) and numactl(8) read ---- */

static bool has_text(const char *name)
{
	char path[128], text[4096];

	snprintf(path, sizeof(path), "/sys/devices/system/%s", name);
	int fd = open(path, O_RDONLY);
	bool some = fd >= 0 && read(fd, text, sizeof(text)) > 0;
	close(fd);
	return some;
}

TEST(sys_tells_of_cores_and_packages)
{
	EXPECT(has_text("cpu/cpu0/topology/core_siblings"));
	EXPECT(has_text("cpu/cpu0/topology/core_siblings_list"));
	EXPECT(has_text("cpu/cpu0/topology/package_cpus"));
	EXPECT(has_text("cpu/cpu0/topology/die_cpus_list"));
	EXPECT(has_text("cpu/cpu0/topology/thread_siblings"));
	if (has_text("node/node0/cpumap"))
		EXPECT(has_text("node/node0/meminfo"));
}
