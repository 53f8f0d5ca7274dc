/* Files of /proc about tasks and the machine that tools read: proc(5). */
#include <dirent.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/syscall.h>

#include "compat.h"

static char text[65536];

static const char *slurp(const char *path)
{
	int fd = open(path, O_RDONLY);
	size_t n = 0;
	ssize_t r;

	if (fd < 0)
		FAIL("%s: %s", path, strerror(errno));
	while (n < sizeof(text) - 1 && (r = read(fd, text + n, sizeof(text) - 1 - n)) > 0)
		n += (size_t)r;
	close(fd);
	text[n] = 0;
	return text;
}

TEST(proc_syscall_shows_the_call_of_a_sleeper)
{
	int fds[2];
	char path[64], c;

	EXPECT_OK(pipe(fds));
	int pid = EXPECT_OK(fork());
	if (!pid) {
		close(fds[1]);
		_exit(read(fds[0], &c, 1) == 0 ? 0 : 1);
	}
	snprintf(path, sizeof(path), "/proc/%d/syscall", pid);
	char want[64];
	snprintf(want, sizeof(want), "%d 0x%x 0x", SYS_read, fds[0]);
	for (int i = 0; i < 500 && strncmp(slurp(path), want, strlen(want)); i++)
		test_sleep_ms(2);
	EXPECT(!strncmp(text, want, strlen(want)));
	int words = 1;
	for (const char *p = text; *p; p++)
		words += *p == ' ';
	EXPECT_EQ(words, 9);
	close(fds[1]);
	int status;
	EXPECT_OK(waitpid(pid, &status, 0));
	EXPECT_EQ(status, 0);
}

TEST(proc_syscall_of_oneself_is_the_read)
{
	long nr = -1;

	EXPECT_EQ(sscanf(slurp("/proc/self/syscall"), "%ld", &nr), 1);
	EXPECT_EQ(nr, SYS_read);
}

TEST(proc_syscall_of_a_busy_one_is_running)
{
	char path[64];
	int pid = EXPECT_OK(fork());

	if (!pid)
		for (;;)
			__asm__ volatile("");
	snprintf(path, sizeof(path), "/proc/%d/syscall", pid);
	for (int i = 0; i < 100 && strcmp(slurp(path), "running\n"); i++)
		test_sleep_ms(5);
	EXPECT_STR(text, "running\n");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

TEST(proc_timers_lists_posix_timers)
{
	timer_t a, b;
	char want[200];
	struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2};

	EXPECT_STR(slurp("/proc/self/timers"), "");
	ev.sigev_value.sival_ptr = (void *)0x1234;
	EXPECT_OK(timer_create(CLOCK_MONOTONIC, &ev, &a));
	snprintf(want, sizeof(want),
		 "ID: 0\nsignal: %d/0000000000001234\nnotify: signal/pid.%d\nClockID: 1\n", SIGUSR2,
		 getpid());
	EXPECT_STR(slurp("/proc/self/timers"), want);
	ev.sigev_notify = SIGEV_NONE;
	EXPECT_OK(timer_create(CLOCK_REALTIME, &ev, &b));
	EXPECT(strstr(slurp("/proc/self/timers"), "notify: none/pid."));
	EXPECT_OK(timer_delete(a));
	EXPECT_OK(timer_delete(b));
	EXPECT_STR(slurp("/proc/self/timers"), "");
}

TEST(proc_autogroup_has_a_nice_value)
{
	if (access("/proc/self/autogroup", F_OK))
		test_skip("no autogroups");
	int status, pid = EXPECT_OK(fork());
	if (!pid) {
		long id;
		int nice = 0;
		setsid();
		int fd = open("/proc/self/autogroup", O_RDWR);
		if (write(fd, "5", 1) != 1)
			_exit(1);
		sscanf(slurp("/proc/self/autogroup"), "/autogroup-%ld nice %d", &id, &nice);
		if (nice != 5)
			_exit(2);
		if (write(fd, "x", 1) != -1 || errno != EINVAL)
			_exit(3);
		_exit(0);
	}
	EXPECT_OK(waitpid(pid, &status, 0));
	EXPECT_EQ(status, 0);
}

TEST(proc_map_files_leads_to_what_is_mapped)
{
	int fd = test_file("mapped", 8192);
	char path[100], link[256] = "";

	char *p = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE, fd, 0);
	EXPECT(p != MAP_FAILED);
	snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx", (long)p, (long)p + 8192);
	EXPECT(readlink(path, link, sizeof(link) - 1) > 0);
	EXPECT(strstr(link, "/mapped"));
	struct stat a, b;
	EXPECT_OK(fstat(fd, &a));
	EXPECT_OK(stat(path, &b));
	EXPECT_EQ(a.st_ino, b.st_ino);
	DIR *d = opendir("/proc/self/map_files");
	EXPECT(d);
	int found = 0;
	for (struct dirent *e; (e = readdir(d));)
		found += !strcmp(e->d_name, strrchr(path, '/') + 1);
	EXPECT_EQ(found, 1);
	closedir(d);
	EXPECT_OK(munmap(p, 8192));
	EXPECT_ERRNO(readlink(path, link, sizeof(link)), ENOENT);
	EXPECT_ERRNO(readlink("/proc/self/map_files/1-x", link, sizeof(link)), ENOENT);
	EXPECT_ERRNO(readlink("/proc/self/map_files/0-1000", link, sizeof(link)), ENOENT);
}

TEST(proc_files_of_others_need_rights)
{
	char path[64];
	int pid = EXPECT_OK(fork());

	if (!pid) {
		pause();
		_exit(0);
	}
	EXPECT_OK(setresuid(1000, 1000, 1000));
	static const char *const names[] = {"syscall", "stack", "environ", "auxv"};
	for (int i = 0; i < 4; i++) {
		snprintf(path, sizeof(path), "/proc/%d/%s", pid, names[i]);
		EXPECT_ERRNO(open(path, O_RDONLY), EACCES);
	}
	snprintf(path, sizeof(path), "/proc/%d/map_files", pid);
	EXPECT_ERRNO(open(path, O_RDONLY), EACCES);
}

TEST(proc_system_files_have_their_forms)
{
	EXPECT(strstr(slurp("/proc/vmstat"), "nr_free_pages "));
	EXPECT(strstr(text, "\npgfault "));
	EXPECT(strstr(text, "\npswpin "));
	EXPECT(strstr(slurp("/proc/zoneinfo"), "Node 0, zone "));
	EXPECT(strstr(text, "pages free "));
	EXPECT(strstr(slurp("/proc/interrupts"), "CPU0"));
	EXPECT(strstr(text, "\nLOC:"));
	EXPECT(strstr(slurp("/proc/softirqs"), "NET_RX:"));
	EXPECT(!strncmp(slurp("/proc/swaps"), "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n",
			20));
	slurp("/proc/diskstats");
	EXPECT(!strncmp(slurp("/proc/partitions"), "major minor  #blocks  name\n\n", 28));
	EXPECT(!strncmp(slurp("/proc/cgroups"), "#subsys_name\thierarchy\tnum_cgroups\tenabled\n",
			43));
	slurp("/proc/consoles");
	slurp("/proc/misc");
	slurp("/proc/kallsyms");
	EXPECT(strstr(slurp("/proc/tty/drivers"), "pty_slave            /dev/pts      136 "));
	EXPECT(strstr(slurp("/proc/buddyinfo"), "Node 0, zone "));
}

TEST(proc_pressure_has_averages)
{
	static const char *const names[] = {"cpu", "io", "memory"};
	char path[64];
	float a, b, c;
	unsigned long long total;

	if (access("/proc/pressure", F_OK))
		test_skip("the kernel does not measure it");
	for (int i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "/proc/pressure/%s", names[i]);
		EXPECT_EQ(sscanf(slurp(path), "some avg10=%f avg60=%f avg300=%f total=%llu", &a, &b,
				 &c, &total),
			  4);
		EXPECT(strstr(text, "\nfull avg10="));
	}
}

TEST(proc_attr_without_a_module_is_einval)
{
	char c;
	int fd = open("/proc/self/attr/current", O_RDONLY);

	EXPECT(fd >= 0);
	ssize_t n = read(fd, &c, 1);
	if (n >= 0)
		test_skip("a security module answers");
	EXPECT_EQ(errno, EINVAL);
}

TEST(proc_sched_names_the_task)
{
	char want[64];

	snprintf(want, sizeof(want), "(%d, #threads: 1)\n", getpid());
	EXPECT(strstr(slurp("/proc/self/sched"), want));
	EXPECT(strstr(text, "\nprio "));
	EXPECT(strstr(text, "\nnr_switches "));
}

TEST(proc_sys_pid_max_and_last_pid)
{
	int max = atoi(slurp("/proc/sys/kernel/pid_max"));

	EXPECT(max >= 301 && max <= 4194304);
	int fd = open("/proc/sys/kernel/ns_last_pid", O_RDONLY);
	if (fd < 0)
		test_skip("no ns_last_pid");
	close(fd);
	int pid = fork();
	if (!pid)
		_exit(0);
	EXPECT(atoi(slurp("/proc/sys/kernel/ns_last_pid")) > 0);
	waitpid(pid, NULL, 0);
}

TEST(ns_last_pid_says_where_numbers_go_on)
{
	if (unshare(0x20000000 /* CLONE_NEWPID */))
		test_skip("no right to make PID namespaces");
	int pid = EXPECT_OK(fork());
	if (!pid) {
		int fd = open("/proc/sys/kernel/ns_last_pid", O_WRONLY);
		if (fd < 0 || write(fd, "4999", 4) != 4)
			_exit(1);
		int c = fork();
		if (!c)
			_exit(0);
		if (c != 5000)
			_exit(2);
		if (pwrite(fd, "-3", 2, 0) != -1 || errno != EINVAL)
			_exit(3);
		_exit(0);
	}
	int status;
	EXPECT_OK(waitpid(pid, &status, 0));
	EXPECT_EQ(status, 0);
}

static unsigned long long io_value(const char *name)
{
	const char *at = strstr(slurp("/proc/self/io"), name);

	EXPECT(at);
	return strtoull(at + strlen(name) + 1, NULL, 10);
}

TEST(proc_io_counts_bytes_and_calls)
{
	int fds[2];
	char buf[1000] = "";

	EXPECT_OK(pipe(fds));
	unsigned long long w = io_value("wchar"), sw = io_value("syscw");
	for (int i = 0; i < 10; i++)
		EXPECT_EQ(write(fds[1], buf, sizeof(buf)), (ssize_t)sizeof(buf));
	EXPECT_EQ(io_value("wchar"), w + 10000);
	EXPECT_EQ(io_value("syscw"), sw + 10);
	unsigned long long r = io_value("rchar"), sr = io_value("syscr");
	for (int i = 0; i < 10; i++)
		EXPECT_EQ(read(fds[0], buf, sizeof(buf)), (ssize_t)sizeof(buf));
	EXPECT(io_value("rchar") >= r + 10000);
	EXPECT(io_value("syscr") >= sr + 10);
}

/* The CPUs that this test may use. */
static int some_cpus(cpu_set_t *all, int cpu[2])
{
	int n = 0;

	EXPECT_OK(sched_getaffinity(0, sizeof(*all), all));
	for (int i = 0; i < CPU_SETSIZE && n < 2; i++)
		if (CPU_ISSET(i, all))
			cpu[n++] = i;
	return n;
}

static void expect_on(int cpu)
{
	for (int i = 0; i < 2000; i++) {
		unsigned now;
		if (i % 2)
			EXPECT_OK(syscall(SYS_getcpu, &now, NULL, NULL));
		else
			now = (unsigned)sched_getcpu();
		EXPECT_EQ(now, cpu);
		if (i % 500 == 0)
			sched_yield();
	}
}

TEST(affinity_says_where_a_task_runs)
{
	cpu_set_t all, one;
	int cpu[2], n = some_cpus(&all, cpu);

	for (int round = 0; round < 6; round++) {
		CPU_ZERO(&one);
		CPU_SET(cpu[round % n], &one);
		EXPECT_OK(sched_setaffinity(0, sizeof(one), &one));
		expect_on(cpu[round % n]);
	}
	EXPECT_OK(sched_setaffinity(0, sizeof(all), &all));
	EXPECT_OK(sched_getaffinity(0, sizeof(one), &one));
	EXPECT(CPU_EQUAL(&one, &all));
}

TEST(affinity_is_inherited_by_fork_and_exec)
{
	cpu_set_t all, one;
	int cpu[2], n = some_cpus(&all, cpu), status;
	char command[200];

	CPU_ZERO(&one);
	CPU_SET(cpu[n - 1], &one);
	EXPECT_OK(sched_setaffinity(0, sizeof(one), &one));
	int pid = EXPECT_OK(fork());
	if (!pid) {
		expect_on(cpu[n - 1]);
		_exit(0);
	}
	EXPECT_OK(waitpid(pid, &status, 0));
	EXPECT_EQ(status, 0);
	snprintf(command, sizeof(command), "grep -qx 'Cpus_allowed_list:\t%d' /proc/self/status",
		 cpu[n - 1]);
	EXPECT_EQ(system(command), 0);
}

TEST(affinity_of_another_task)
{
	cpu_set_t all, one, got;
	int cpu[2], n = some_cpus(&all, cpu), pid = EXPECT_OK(fork());

	if (!pid) {
		for (;;)
			__asm__ volatile("");
	}
	CPU_ZERO(&one);
	CPU_SET(cpu[n - 1], &one);
	EXPECT_OK(sched_setaffinity(pid, sizeof(one), &one));
	EXPECT_OK(sched_getaffinity(pid, sizeof(got), &got));
	EXPECT(CPU_EQUAL(&one, &got));
	EXPECT_OK(sched_getaffinity(0, sizeof(got), &got));
	EXPECT(CPU_EQUAL(&all, &got));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	CPU_ZERO(&one);
	EXPECT_ERRNO(sched_setaffinity(0, sizeof(one), &one), EINVAL);
	EXPECT_ERRNO(sched_setaffinity(pid, sizeof(all), &all), ESRCH);
}
