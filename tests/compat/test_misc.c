/* uname, sysinfo, getrandom, prctl, personality, scheduling, getcpu, membarrier, rseq, rusage. */
#include "tests/compat/compat.h"

#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <sys/auxv.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

/* ---- uname, sysinfo, getrandom ---- */

TEST(sysinfo_faults_and_makes_sense)
{
	struct sysinfo si;

	EXPECT_ERRNO(syscall(SYS_sysinfo, BAD_ADDR), EFAULT);
	memset(&si, 0xff, sizeof(si));
	EXPECT_OK(sysinfo(&si));
	EXPECT(si.mem_unit > 0);
	EXPECT(si.totalram > 0 && si.freeram <= si.totalram);
	EXPECT(si.procs > 0);
	EXPECT(si.uptime >= 0);
}

TEST(getrandom_refuses_hostile_arguments)
{
	char buf[16];

	EXPECT_ERRNO(syscall(SYS_getrandom, BAD_ADDR, 16, 0), EFAULT);
	EXPECT_ERRNO(getrandom(buf, 16, 0x80), EINVAL);
	EXPECT_ERRNO(getrandom(buf, 16, GRND_RANDOM | 4 /* GRND_INSECURE */), EINVAL);
	EXPECT_EQ(getrandom(buf, 0, 0), 0);
	EXPECT_EQ(getrandom(buf, 16, GRND_NONBLOCK), 16);
}

TEST(getrandom_fills_large_buffers_differently_each_time)
{
	size_t n = 100000;
	unsigned char *a = calloc(2, n), *b = a + n;
	int same = 0;

	EXPECT_EQ(getrandom(a, n, 0), n);
	EXPECT_EQ(getrandom(b, n, 0), n);
	for (size_t i = 0; i < n; i++)
		same += a[i] == b[i];
	EXPECT(same < 1000);
}

TEST(getrandom_stops_at_the_first_fault)
{
	char *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	munmap(p + 4096, 4096);
	EXPECT_EQ(syscall(SYS_getrandom, p + 4096 - 100, 1000, 0), 100);
}

TEST(hostname_calls_check_length_and_pointer)
{
	struct utsname u;
	char name[70] = "";

	if (getuid())
		test_skip("needs root");
	EXPECT_ERRNO(syscall(SYS_sethostname, "x", -1), EINVAL);
	EXPECT_ERRNO(syscall(SYS_sethostname, "x", 65), EINVAL);
	EXPECT_ERRNO(syscall(SYS_sethostname, BAD_ADDR, 5), EFAULT);
	EXPECT_OK(uname(&u));
	EXPECT_OK(gethostname(name, sizeof(name)));
	EXPECT_STR(u.nodename, name);
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		if (setuid(12345))
			_exit(2);
		_exit(sethostname("y", 1) == -1 && errno == EPERM ? 0 : 1);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
}

/* ---- prctl, arch_prctl, personality ---- */

TEST(prctl_refuses_hostile_arguments)
{
	EXPECT_ERRNO(prctl(12345, 0, 0, 0, 0), EINVAL);
	EXPECT_ERRNO(prctl(PR_SET_NAME, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(prctl(PR_GET_NAME, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(prctl(PR_SET_PDEATHSIG, 65), EINVAL);
	EXPECT_ERRNO(prctl(PR_SET_PDEATHSIG, -1), EINVAL);
	EXPECT_ERRNO(prctl(PR_GET_PDEATHSIG, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(prctl(PR_SET_DUMPABLE, 2), EINVAL);
	EXPECT_ERRNO(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0), EINVAL);
	EXPECT_ERRNO(prctl(PR_SET_NO_NEW_PRIVS, 1, 1, 0, 0), EINVAL);
	EXPECT_ERRNO(prctl(PR_GET_NO_NEW_PRIVS, 1, 0, 0, 0), EINVAL);
	EXPECT_ERRNO(prctl(PR_SET_KEEPCAPS, 2), EINVAL);
	EXPECT_ERRNO(prctl(PR_CAPBSET_READ, 64), EINVAL);
	EXPECT_ERRNO(prctl(PR_CAPBSET_DROP, 64), EINVAL);
	EXPECT_ERRNO(prctl(PR_CAP_AMBIENT, 9, 0, 0, 0), EINVAL);
	EXPECT_ERRNO(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, 64, 0, 0), EINVAL);
	EXPECT_ERRNO(prctl(PR_GET_CHILD_SUBREAPER, BAD_ADDR), EFAULT);
}

TEST(prctl_name_is_cut_at_fifteen_bytes_and_per_thread)
{
	char name[16] = "";

	EXPECT_OK(prctl(PR_SET_NAME, "0123456789abcdefgh"));
	EXPECT_OK(prctl(PR_GET_NAME, name));
	EXPECT_STR(name, "0123456789abcde");
	int fd = (int)EXPECT_OK(open("/proc/self/comm", O_RDONLY));
	char comm[32] = "";
	EXPECT_EQ(read(fd, comm, sizeof(comm)), 16);
	EXPECT_STR(comm, "0123456789abcde\n");
}

TEST(prctl_flags_are_kept_and_inherited)
{
	int value = -1, status;

	EXPECT_OK(prctl(PR_SET_CHILD_SUBREAPER, 1));
	EXPECT_OK(prctl(PR_GET_CHILD_SUBREAPER, &value));
	EXPECT_EQ(value, 1);
	EXPECT_EQ(prctl(PR_GET_DUMPABLE), 1);
	EXPECT_OK(prctl(PR_SET_DUMPABLE, 0));
	EXPECT_EQ(prctl(PR_GET_DUMPABLE), 0);
	EXPECT_OK(prctl(PR_SET_DUMPABLE, 1));
	EXPECT_OK(prctl(PR_SET_TIMERSLACK, 12345));
	EXPECT_EQ(prctl(PR_GET_TIMERSLACK), 12345);
	EXPECT_EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 0);
	EXPECT_OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_GET_CHILD_SUBREAPER, &value);
		_exit(value == 0 && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 &&
				      prctl(PR_GET_TIMERSLACK) == 12345
			      ? 0
			      : 1);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	EXPECT_OK(prctl(PR_SET_TIMERSLACK, 0));
	EXPECT_EQ(prctl(PR_GET_TIMERSLACK), 50000);
}

TEST(arch_prctl_gives_the_segment_bases)
{
	unsigned long fs = 0, gs = 1;
	enum { SET_GS = 0x1001, SET_FS = 0x1002, GET_FS = 0x1003, GET_GS = 0x1004 };

	EXPECT_ERRNO(syscall(SYS_arch_prctl, 0x7777, &fs), EINVAL);
	EXPECT_ERRNO(syscall(SYS_arch_prctl, GET_FS, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(syscall(SYS_arch_prctl, SET_GS, 1UL << 63), EPERM);
	EXPECT_ERRNO(syscall(SYS_arch_prctl, SET_FS, ~0UL), EPERM);
	EXPECT_OK(syscall(SYS_arch_prctl, GET_FS, &fs));
	unsigned long self;
	__asm__("mov %%fs:0, %0" : "=r"(self));
	EXPECT_EQ(fs, self);
	EXPECT_OK(syscall(SYS_arch_prctl, GET_GS, &gs));
	EXPECT_EQ(gs, 0);
}

TEST(a_guest_may_use_gs_for_itself)
{
	enum { SET_GS = 0x1001, GET_GS = 0x1004 };
	unsigned long words[4] = {11, 22, 33, 44}, seen, gs = 0;

	EXPECT_OK(syscall(SYS_arch_prctl, SET_GS, words));
	for (int i = 0; i < 100; i++) {
		EXPECT(getppid() > 0);
		__asm__ volatile("mov %%gs:16, %0" : "=r"(seen));
		EXPECT_EQ(seen, 33);
	}
	test_sleep_ms(5);
	EXPECT_OK(syscall(SYS_arch_prctl, GET_GS, &gs));
	EXPECT_EQ(gs, (unsigned long)words);
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		__asm__ volatile("mov %%gs:24, %0" : "=r"(seen));
		_exit(seen == 44 ? 0 : 1);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
}

TEST(personality_is_read_and_set)
{
	EXPECT_EQ(personality(0xffffffff), 0);
	EXPECT_EQ(personality(ADDR_NO_RANDOMIZE), 0);
	EXPECT_EQ(personality(0xffffffff), ADDR_NO_RANDOMIZE);
	int status;
	pid_t pid = fork();
	if (pid == 0)
		_exit(personality(0xffffffff) == ADDR_NO_RANDOMIZE ? 0 : 1);
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
}

/* ---- scheduling ---- */

TEST(sched_calls_refuse_hostile_arguments)
{
	struct sched_param p = {0};
	cpu_set_t set;
	struct timespec ts;

	EXPECT_ERRNO(syscall(SYS_sched_setscheduler, 0, SCHED_OTHER, NULL), EINVAL);
	EXPECT_ERRNO(syscall(SYS_sched_setscheduler, 0, SCHED_OTHER, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(sched_setscheduler(0, 99, &p), EINVAL);
	EXPECT_ERRNO(sched_setscheduler(0, -1, &p), EINVAL);
	EXPECT_ERRNO(sched_setscheduler(0x3fffffff, SCHED_OTHER, &p), ESRCH);
	p.sched_priority = 1;
	EXPECT_ERRNO(sched_setscheduler(0, SCHED_OTHER, &p), EINVAL);
	EXPECT_ERRNO(sched_getscheduler(-1), EINVAL);
	EXPECT_ERRNO(sched_getscheduler(0x3fffffff), ESRCH);
	EXPECT_ERRNO(syscall(SYS_sched_getparam, 0, NULL), EINVAL);
	EXPECT_ERRNO(syscall(SYS_sched_getparam, 0, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(sched_get_priority_max(77), EINVAL);
	EXPECT_ERRNO(sched_get_priority_min(77), EINVAL);
	EXPECT_ERRNO(sched_rr_get_interval(-1, &ts), EINVAL);
	EXPECT_ERRNO(syscall(SYS_sched_rr_get_interval, 0, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(syscall(SYS_sched_getaffinity, 0, 0, &set), EINVAL);
	EXPECT_ERRNO(syscall(SYS_sched_getaffinity, 0, 7, &set), EINVAL);
	EXPECT_ERRNO(syscall(SYS_sched_getaffinity, 0, sizeof(set), BAD_ADDR), EFAULT);
	EXPECT_ERRNO(sched_getaffinity(0x3fffffff, sizeof(set), &set), ESRCH);
	EXPECT_ERRNO(syscall(SYS_sched_setaffinity, 0, sizeof(set), BAD_ADDR), EFAULT);
	CPU_ZERO(&set);
	EXPECT_ERRNO(sched_setaffinity(0, sizeof(set), &set), EINVAL);
}

TEST(sched_priorities_are_those_of_linux)
{
	struct sched_param p;

	EXPECT_EQ(sched_get_priority_max(SCHED_FIFO), 99);
	EXPECT_EQ(sched_get_priority_min(SCHED_RR), 1);
	EXPECT_EQ(sched_get_priority_max(SCHED_OTHER), 0);
	EXPECT_EQ(sched_get_priority_min(SCHED_BATCH), 0);
	EXPECT_EQ(sched_getscheduler(0), SCHED_OTHER);
	EXPECT_OK(sched_getparam(0, &p));
	EXPECT_EQ(p.sched_priority, 0);
	EXPECT_OK(sched_setscheduler(0, SCHED_BATCH, &p));
	EXPECT_EQ(sched_getscheduler(0), SCHED_BATCH);
	EXPECT_EQ(sched_yield(), 0);
}

TEST(affinity_is_a_subset_and_comes_back)
{
	cpu_set_t all, one, now;
	int first = -1;

	EXPECT_OK(sched_getaffinity(0, sizeof(all), &all));
	EXPECT(CPU_COUNT(&all) >= 1);
	EXPECT_EQ(CPU_COUNT(&all), sysconf(_SC_NPROCESSORS_ONLN));
	for (int i = 0; i < CPU_SETSIZE && first < 0; i++)
		if (CPU_ISSET(i, &all))
			first = i;
	CPU_ZERO(&one);
	CPU_SET(first, &one);
	EXPECT_OK(sched_setaffinity(0, sizeof(one), &one));
	EXPECT_OK(sched_getaffinity(0, sizeof(now), &now));
	EXPECT(CPU_EQUAL(&now, &one));
	CPU_ZERO(&one);
	CPU_SET(1000, &one);
	EXPECT_ERRNO(sched_setaffinity(0, sizeof(one), &one), EINVAL);
	EXPECT_OK(sched_setaffinity(0, sizeof(all), &all));
}

TEST(getcpu_gives_a_cpu_that_exists)
{
	unsigned cpu = 9999, node = 9999;

	EXPECT_ERRNO(syscall(SYS_getcpu, BAD_ADDR, NULL, NULL), EFAULT);
	EXPECT_OK(syscall(SYS_getcpu, &cpu, &node, NULL));
	EXPECT(cpu < (unsigned)sysconf(_SC_NPROCESSORS_CONF));
	EXPECT(node < 64);
	EXPECT(sched_getcpu() >= 0);
}

TEST(priorities_of_processes_and_groups)
{
	EXPECT_ERRNO(getpriority(77, 0), EINVAL);
	EXPECT_ERRNO(setpriority(-1, 0, 0), EINVAL);
	EXPECT_ERRNO(getpriority(PRIO_PROCESS, 0x3fffffff), ESRCH);
	EXPECT_ERRNO(setpriority(PRIO_PGRP, 0x3fffffff, 1), ESRCH);
	EXPECT_OK(setpriority(PRIO_PROCESS, 0, 5));
	EXPECT_EQ(getpriority(PRIO_PROCESS, 0), 5);
	EXPECT_EQ(syscall(SYS_getpriority, PRIO_PROCESS, 0), 15); /* the kernel says 20 - nice */
	EXPECT_OK(setpriority(PRIO_PROCESS, 0, 100));
	EXPECT_EQ(getpriority(PRIO_PROCESS, getpid()), 19);
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		errno = 0;
		if (getpriority(PRIO_PROCESS, 0) != 19 || setuid(12345))
			_exit(1);
		_exit(setpriority(PRIO_PROCESS, 0, 0) == -1 && errno == EACCES ? 0 : 2);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
}

/* ---- membarrier, rseq ---- */

TEST(membarrier_answers_its_query_and_does_what_it_says)
{
	long can = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);

	if (can < 0 && errno == ENOSYS)
		test_skip("kernel without membarrier");
	EXPECT_ERRNO(syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0x100, 0), EINVAL);
	EXPECT_ERRNO(syscall(SYS_membarrier, 1 << 30, 0, 0), EINVAL);
	EXPECT(can & MEMBARRIER_CMD_PRIVATE_EXPEDITED);
	EXPECT_ERRNO(syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0), EPERM);
	EXPECT_OK(syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0));
	EXPECT_OK(syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0));
	if (can & MEMBARRIER_CMD_GLOBAL)
		EXPECT_OK(syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0));
}

struct rseq_area {
	uint32_t cpu_id_start, cpu_id;
	uint64_t rseq_cs;
	uint32_t flags, node_id, mm_cid, pad;
} __attribute__((aligned(32)));

static void *register_rseq(void *arg)
{
	static __thread struct rseq_area area;

	(void)arg;
	/* libc has registered one for every thread, unless GLIBC_TUNABLES says otherwise. */
	errno = 0;
	long r = syscall(SYS_rseq, &area, sizeof(area), 0, 0x53053053);
	return (void *)(long)(r ? errno : 0);
}

TEST(rseq_is_registered_once_a_thread)
{
	struct rseq_area area = {.cpu_id = (uint32_t)-1};

	long r = syscall(SYS_rseq, &area, 31, 0, 0);
	if (r < 0 && errno == ENOSYS)
		test_skip("kernel without rseq");
	EXPECT(r == -1 && errno == EINVAL);
	EXPECT_ERRNO(syscall(SYS_rseq, &area, sizeof(area), 0x80, 0x53053053), EINVAL);
	pthread_t th;
	void *err;
	EXPECT_OK(-pthread_create(&th, NULL, register_rseq, NULL));
	pthread_join(th, &err);
	EXPECT((long)err == EINVAL || (long)err == EBUSY || (long)err == 0);
}

/* ---- rusage and limits ---- */

TEST(getrusage_faults_and_counts_children_only_when_waited_for)
{
	struct rusage u;

	EXPECT_ERRNO(syscall(SYS_getrusage, RUSAGE_SELF, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(getrusage((__rusage_who_t)5, &u), EINVAL);
	EXPECT_OK(getrusage(RUSAGE_CHILDREN, &u));
	EXPECT_EQ(u.ru_utime.tv_sec + u.ru_utime.tv_usec, 0);
	EXPECT_OK(getrusage(RUSAGE_THREAD, &u));
	EXPECT_OK(getrusage(RUSAGE_SELF, &u));
	EXPECT(u.ru_maxrss > 100);
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		struct timespec t;
		do {
			for (volatile int i = 0; i < 100000; i++)
				;
			clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
		} while (t.tv_nsec < 60000000 && !t.tv_sec);
		_exit(0);
	}
	struct rusage of_child;
	EXPECT_EQ(wait4(pid, &status, 0, &of_child), pid);
	EXPECT(of_child.ru_utime.tv_sec > 0 || of_child.ru_utime.tv_usec >= 30000);
	EXPECT_OK(getrusage(RUSAGE_CHILDREN, &u));
	EXPECT(u.ru_utime.tv_sec > 0 || u.ru_utime.tv_usec >= 30000);
}

TEST(nproc_limit_binds_ordinary_users)
{
	if (getuid())
		test_skip("needs root");
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		struct rlimit lim = {1, 1};
		if (setrlimit(RLIMIT_NPROC, &lim) || setresuid(54321, 54321, 54321))
			_exit(1);
		pid_t inner = fork();
		if (inner == 0)
			_exit(0);
		_exit(inner == -1 && errno == EAGAIN ? 0 : 2);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
}

TEST(nofile_limit_gives_emfile)
{
	struct rlimit lim = {20, 4096};
	int p[2];

	EXPECT_OK(setrlimit(RLIMIT_NOFILE, &lim));
	while (dup(0) >= 0)
		continue;
	EXPECT_EQ(errno, EMFILE);
	EXPECT_ERRNO(fcntl(0, F_DUPFD, 20), EINVAL);
	EXPECT_ERRNO(dup2(0, 20), EBADF);
	EXPECT_ERRNO(open("/dev/null", O_RDONLY), EMFILE);
	close(19);
	EXPECT_ERRNO(pipe(p), EMFILE);
	EXPECT_EQ(open("/dev/null", O_RDONLY), 19);
}

TEST(fsize_limit_sends_sigxfsz)
{
	struct rlimit lim = {1000, RLIM_INFINITY};
	char buf[2000] = {0};
	int status;

	test_dir();
	EXPECT_OK(setrlimit(RLIMIT_FSIZE, &lim));
	pid_t pid = fork();
	if (pid == 0) {
		signal(SIGXFSZ, SIG_IGN);
		int fd = open("f", O_RDWR | O_CREAT, 0600);
		if (write(fd, buf, 2000) != 1000)
			_exit(1);
		if (write(fd, buf, 1) != -1 || errno != EFBIG)
			_exit(2);
		if (ftruncate(fd, 1001) != -1 || errno != EFBIG)
			_exit(3);
		signal(SIGXFSZ, SIG_DFL);
		if (write(fd, buf, 1) < 0)
			_exit(4);
		_exit(5);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT(WIFSIGNALED(status));
	EXPECT_EQ(WTERMSIG(status), SIGXFSZ);
}

TEST(auxv_tells_hwcap_and_the_smallest_signal_stack)
{
	unsigned long entry[2], hwcap = 0;
	int fd = (int)EXPECT_OK(open("/proc/self/auxv", O_RDONLY));

	while (read(fd, entry, sizeof(entry)) == sizeof(entry) && entry[0] != AT_NULL)
		if (entry[0] == AT_HWCAP)
			hwcap = entry[1];
	EXPECT(hwcap & 1); /* CPUID's first bit: there is a floating-point unit */
	unsigned long min = getauxval(51 /* AT_MINSIGSTKSZ */);
	EXPECT(min >= 1000 && min < 65536);
}
