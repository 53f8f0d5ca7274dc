/*
 * ops: what single operations cost.  Prints "NAME NANOSECONDS" a line: the median of several
 * rounds, each long enough for the clock.  Usage: ops [PATTERN …].  bench/run puts platforms side
 * by side.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FUTEX_WAKE_PRIVATE 129 /* of linux/futex.h, which musl's compiler does not see */
#define ROUNDS 7
#define ROUND_NS 20e6

static char buf[64 << 10];
static int file_fd, pipe_fds[2], sock_fds[2], event_fd, epoll_fd;
static char *big;
#define BIG_SIZE (160UL << 20)

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e9 + ts.tv_nsec;
}

static void must(int ok, const char *what)
{
	if (!ok) {
		perror(what);
		exit(1);
	}
}

static void op_getppid(void)
{
	syscall(SYS_getppid);
}

static void op_clock_vdso(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
}

static void op_clock_syscall(void)
{
	struct timespec ts;
	syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &ts);
}

static void do_pread(size_t n)
{
	must(pread(file_fd, buf, n, 0) == (ssize_t)n, "pread");
}
static void do_pwrite(size_t n)
{
	must(pwrite(file_fd, buf, n, 0) == (ssize_t)n, "pwrite");
}
static void op_pread_1(void)
{
	do_pread(1);
}
static void op_pread_4k(void)
{
	do_pread(4096);
}
static void op_pread_64k(void)
{
	do_pread(65536);
}
static void op_pwrite_1(void)
{
	do_pwrite(1);
}
static void op_pwrite_4k(void)
{
	do_pwrite(4096);
}
static void op_pwrite_64k(void)
{
	do_pwrite(65536);
}
static void op_lseek(void)
{
	lseek(file_fd, 0, SEEK_SET);
}
static void op_stat(void)
{
	struct stat st;
	must(!stat("/usr/bin/env", &st), "stat");
}
static void op_stat_missing(void)
{
	struct stat st;
	must(stat("/usr/bin/no-such-file", &st) < 0, "stat");
}
static void op_fstat(void)
{
	struct stat st;
	must(!fstat(file_fd, &st), "fstat");
}
static void op_open_close(void)
{
	int fd = open("/usr/bin/env", O_RDONLY);
	must(fd >= 0, "open");
	close(fd);
}
static void op_create_unlink(void)
{
	int fd = open("created", O_WRONLY | O_CREAT | O_EXCL, 0644);
	must(fd >= 0, "create");
	close(fd);
	must(!unlink("created"), "unlink");
}
static void op_rename(void)
{
	must(!rename("a", "b") && !rename("b", "a"), "rename");
}
static void op_readdir(void)
{
	DIR *d = opendir("/usr/bin");
	must(d != NULL, "opendir");
	while (readdir(d))
		continue;
	closedir(d);
}
static void op_pipe(void)
{
	must(write(pipe_fds[1], buf, 1) == 1 && read(pipe_fds[0], buf, 1) == 1, "pipe");
}
static void op_socketpair(void)
{
	must(write(sock_fds[1], buf, 1) == 1 && read(sock_fds[0], buf, 1) == 1, "socketpair");
}
static void op_eventfd(void)
{
	uint64_t v = 1;
	must(write(event_fd, &v, 8) == 8 && read(event_fd, &v, 8) == 8, "eventfd");
}
static void op_epoll_wait(void)
{
	struct epoll_event ev;
	must(epoll_wait(epoll_fd, &ev, 1, 0) == 0, "epoll_wait");
}
static void op_sigprocmask(void)
{
	uint64_t set = 0;
	syscall(SYS_rt_sigprocmask, SIG_BLOCK, &set, NULL, 8);
}
static void on_signal(int s)
{
	(void)s;
}
static void op_signal_self(void)
{
	syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGUSR1);
}
static void op_futex_wake(void)
{
	static int word;
	syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}
static void op_sched_yield(void)
{
	sched_yield();
}
static void op_mmap_touch_munmap(void)
{
	char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	*p = 1;
	munmap(p, 4096);
}
static void *thread_nothing(void *arg)
{
	return arg;
}
static void op_thread(void)
{
	pthread_t t;
	must(!pthread_create(&t, NULL, thread_nothing, NULL), "pthread_create");
	pthread_join(t, NULL);
}
static void op_fork_wait(void)
{
	pid_t pid = fork();
	if (pid == 0)
		_exit(0);
	waitpid(pid, NULL, 0);
}
static void op_vfork_exec_wait(void)
{
	static char *const argv[] = {"ops", "--nothing", NULL}, *const envp[] = {NULL};
	pid_t pid = vfork();
	if (pid == 0) {
		execve("/proc/self/exe", argv, envp);
		_exit(1);
	}
	waitpid(pid, NULL, 0);
}

/* These time themselves: one call is many operations. */
#define FAULT_PAGES 4096
static double run_anon_fault(void)
{
	char *p = mmap(NULL, FAULT_PAGES * 4096UL, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(p != MAP_FAILED, "mmap");
	madvise(p, FAULT_PAGES * 4096UL, MADV_NOHUGEPAGE);
	double t = now();
	for (int i = 0; i < FAULT_PAGES; i++)
		p[i * 4096L] = 1;
	t = now() - t;
	munmap(p, FAULT_PAGES * 4096UL);
	return t / FAULT_PAGES;
}
static double run_file_fault(void)
{
	volatile char *p = mmap(NULL, 1 << 20, PROT_READ, MAP_PRIVATE, file_fd, 0);
	char sum = 0;
	must(p != MAP_FAILED, "mmap file");
	double t = now();
	for (int i = 0; i < 256; i++)
		sum += p[i * 4096L];
	t = now() - t;
	munmap((void *)p, 1 << 20);
	buf[0] = sum;
	return t / 256;
}
static double run_fork_big(void)
{
	if (!big) {
		big = mmap(NULL, BIG_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			   0);
		must(big != MAP_FAILED, "mmap");
		madvise(big, BIG_SIZE, MADV_NOHUGEPAGE);
		memset(big, 1, BIG_SIZE);
	}
	double t = now();
	op_fork_wait();
	return now() - t;
}
static double run_cpu_loop(void)
{
	double t = now();
	for (volatile long i = 0; i < 20000000; i++)
		continue;
	return now() - t;
}
static double run_pingpong(void)
{
	int to[2], from[2], n = 500;
	char c = 0;

	must(!pipe(to) && !pipe(from), "pipe");
	pid_t pid = fork();
	if (pid == 0) {
		while (read(to[0], &c, 1) == 1 && c == 0)
			if (write(from[1], &c, 1) != 1)
				break;
		_exit(0);
	}
	double t = now();
	for (int i = 0; i < n; i++)
		must(write(to[1], &c, 1) == 1 && read(from[0], &c, 1) == 1, "ping-pong");
	t = (now() - t) / n;
	c = 1;
	must(write(to[1], &c, 1) == 1, "ping-pong");
	waitpid(pid, NULL, 0);
	close(to[0]), close(to[1]), close(from[0]), close(from[1]);
	return t;
}

/* ---- threads that share two CPUs ---- */

#define SPINNERS 8
#define SPIN_ROUNDS 16
#define COMPUTERS 64

static struct {
	_Alignas(64) volatile unsigned there;
	_Alignas(64) volatile unsigned back;
	_Alignas(64) volatile int end;
	volatile unsigned arrived, round;
} shared;

static void run_threads(int n, void *(*fn)(void *))
{
	pthread_t t[COMPUTERS];

	for (int i = 0; i < n; i++)
		must(!pthread_create(&t[i], NULL, fn, NULL), "pthread_create");
	for (int i = 0; i < n; i++)
		pthread_join(t[i], NULL);
}

static void *spin_on_barrier(void *arg)
{
	for (int i = 0; i < SPIN_ROUNDS; i++) {
		unsigned round = shared.round;
		if (__sync_add_and_fetch(&shared.arrived, 1) == SPINNERS) {
			shared.arrived = 0;
			__sync_fetch_and_add(&shared.round, 1);
		}
		while (shared.round == round)
			__builtin_ia32_pause();
	}
	return arg;
}
static double run_barrier(void)
{
	double t = now();
	run_threads(SPINNERS, spin_on_barrier);
	return (now() - t) / SPIN_ROUNDS;
}
static void *compute(void *arg)
{
	for (volatile long i = 0; i < 2000000; i++)
		continue;
	return arg;
}
static double run_compute(void)
{
	double t = now();
	run_threads(COMPUTERS, compute);
	return now() - t;
}

/* A word to another CPU and back: what the machine charges for any hand-off between two. */
static void *echo(void *arg)
{
	while (!shared.end)
		shared.back = shared.there;
	return arg;
}
static double run_line_bounce(void)
{
	const unsigned n = 100000;
	pthread_t t;

	shared.end = 0;
	must(!pthread_create(&t, NULL, echo, NULL), "pthread_create");
	double begin = now();
	for (unsigned i = shared.there + 1, end = i + n; i != end; i++) {
		shared.there = i;
		while (shared.back != i)
			continue;
	}
	begin = (now() - begin) / n;
	shared.end = 1;
	pthread_join(t, NULL);
	return begin;
}

static const struct op {
	const char *name;
	void (*once)(void);
	double (*timed)(void);
} ops[] = {
	{"getppid", op_getppid, NULL},
	{"clock_gettime-vdso", op_clock_vdso, NULL},
	{"clock_gettime-syscall", op_clock_syscall, NULL},
	{"pread-1", op_pread_1, NULL},
	{"pread-4K", op_pread_4k, NULL},
	{"pread-64K", op_pread_64k, NULL},
	{"pwrite-1", op_pwrite_1, NULL},
	{"pwrite-4K", op_pwrite_4k, NULL},
	{"pwrite-64K", op_pwrite_64k, NULL},
	{"lseek", op_lseek, NULL},
	{"stat", op_stat, NULL},
	{"fstat", op_fstat, NULL},
	{"stat-missing", op_stat_missing, NULL},
	{"open+close", op_open_close, NULL},
	{"create+unlink", op_create_unlink, NULL},
	{"rename-2", op_rename, NULL},
	{"readdir-usr-bin", op_readdir, NULL},
	{"pipe-self", op_pipe, NULL},
	{"socketpair-self", op_socketpair, NULL},
	{"eventfd-self", op_eventfd, NULL},
	{"epoll_wait-0", op_epoll_wait, NULL},
	{"sigprocmask", op_sigprocmask, NULL},
	{"signal-self", op_signal_self, NULL},
	{"futex-wake", op_futex_wake, NULL},
	{"sched_yield", op_sched_yield, NULL},
	{"mmap+touch+munmap", op_mmap_touch_munmap, NULL},
	{"anon-fault", NULL, run_anon_fault},
	{"file-fault", NULL, run_file_fault},
	{"thread-create+join", op_thread, NULL},
	{"fork+wait", op_fork_wait, NULL},
	{"vfork+exec+wait", op_vfork_exec_wait, NULL},
	{"ping-pong", NULL, run_pingpong},
	{"cpu-loop", NULL, run_cpu_loop},
	{"line-bounce", NULL, run_line_bounce},
	{"spin-barrier-8", NULL, run_barrier},
	{"compute-64-threads", NULL, run_compute},
	{"fork-160MB", NULL, run_fork_big}, /* last: the memory stays */
};

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double measure(const struct op *op)
{
	double rounds[ROUNDS];
	long n = 1;

	for (int r = -1; r < ROUNDS; r++) { /* the first is a warm-up, and sets the count */
		double t;
		if (op->timed) {
			t = op->timed();
		} else {
			double start = now();
			for (long i = 0; i < n; i++)
				op->once();
			double took = now() - start;
			t = took / n;
			if (took < ROUND_NS && r < 0) {
				n = took > 0 ? (long)(n * ROUND_NS / took) + 1 : n * 10;
				if (took < ROUND_NS / 10)
					r--;
			}
		}
		if (r >= 0)
			rounds[r] = t;
	}
	qsort(rounds, ROUNDS, sizeof(rounds[0]), compare);
	return rounds[ROUNDS / 2];
}

static void prepare(void)
{
	static char dir[] = "/tmp/ops.XXXXXX";

	must(mkdtemp(dir) != NULL && !chdir(dir), "working directory");
	file_fd = open("file", O_RDWR | O_CREAT, 0644);
	for (int i = 0; i < 16; i++)
		must(write(file_fd, buf, sizeof(buf)) == sizeof(buf), "write");
	close(open("a", O_WRONLY | O_CREAT, 0644));
	must(!pipe(pipe_fds) && !socketpair(AF_UNIX, SOCK_STREAM, 0, sock_fds), "pipe");
	event_fd = eventfd(0, 0);
	epoll_fd = epoll_create1(0);
	struct epoll_event ev = {.events = EPOLLIN};
	must(!epoll_ctl(epoll_fd, EPOLL_CTL_ADD, pipe_fds[0], &ev), "epoll_ctl");
	signal(SIGUSR1, on_signal);
}

static void clean_up(void)
{
	char path[64];

	unlink("file"), unlink("a"), unlink("b");
	must(getcwd(path, sizeof(path)) != NULL && !chdir("/") && !rmdir(path), "clean-up");
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "--nothing"))
		return 0;
	prepare();
	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		int wanted = argc == 1;
		for (int j = 1; j < argc; j++)
			wanted |= strstr(ops[i].name, argv[j]) != NULL;
		if (!wanted)
			continue;
		printf("%s %.1f\n", ops[i].name, measure(&ops[i]));
		fflush(stdout);
	}
	clean_up();
	return 0;
}
