/* Hot call sites: whatever a sandbox does to make them fast must not show. */
#include "tests/compat/compat.h"

#include <pthread.h>
#include <sys/time.h>

static volatile sig_atomic_t ticks;

static void tick(int sig)
{
	(void)sig;
	ticks++;
	if (getppid() <= 0 || lseek(-1, 0, SEEK_SET) != -1)
		_exit(9);
}

static void warm_up(void)
{
	for (int i = 0; i < 100; i++) {
		EXPECT(getpid() > 0);
		EXPECT(getppid() > 0);
		EXPECT_EQ(lseek(-1, 0, SEEK_SET), -1);
	}
}

TEST(hot_calls_survive_signals)
{
	/* Rare enough for the slowest platform to get on between two of them. */
	const struct itimerval iv = {{0, 3000}, {0, 3000}};
	pid_t self = getpid(), parent = getppid();
	time_t end = time(NULL) + 5;

	warm_up();
	signal(SIGALRM, tick);
	setitimer(ITIMER_REAL, &iv, NULL);
	for (int i = 0; (i < 200000 && time(NULL) < end) || ticks < 20; i++) {
		EXPECT_EQ(getpid(), self);
		EXPECT_EQ(getppid(), parent);
		errno = 0;
		EXPECT(lseek(-1, 0, SEEK_SET) == -1 && errno == EBADF);
	}
	setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
}

static void *call_on(void *arg)
{
	pid_t parent = *(pid_t *)arg;

	for (int i = 0; i < 20000; i++)
		if (getppid() != parent)
			return arg;
	return NULL;
}

TEST(hot_calls_work_in_threads_and_children)
{
	pid_t parent = getppid();
	pthread_t t[4];
	void *bad;
	int status;

	warm_up();
	for (int i = 0; i < 4; i++)
		EXPECT_EQ(pthread_create(&t[i], NULL, call_on, &parent), 0);
	for (int i = 0; i < 4; i++) {
		EXPECT_EQ(pthread_join(t[i], &bad), 0);
		EXPECT(!bad);
	}
	for (int i = 0; i < 20; i++) {
		pid_t me = getpid(), child = fork();
		if (!child) {
			for (int k = 0; k < 50; k++)
				if (getppid() != me)
					_exit(1);
			_exit(0);
		}
		EXPECT_EQ(waitpid(child, &status, 0), child);
		EXPECT_EQ(status, 0);
	}
}

/* The bytes of code at `at` as they are in the file that it was mapped from. */
static void read_original(const void *at, uint8_t *out, size_t n)
{
	char line[512], path[256];
	unsigned long start, end, off;
	FILE *maps = fopen("/proc/self/maps", "re");

	EXPECT(maps);
	while (fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%lx-%lx %*s %lx %*s %*s %255s", &start, &end, &off, path) != 4 ||
		    (unsigned long)at < start || (unsigned long)at >= end)
			continue;
		int fd = (int)EXPECT_OK(open(path, O_RDONLY));
		EXPECT_EQ(pread(fd, out, n, (off_t)((unsigned long)at - start + off)), (ssize_t)n);
		close(fd);
		fclose(maps);
		return;
	}
	FAIL("no mapping holds %p", at);
}

/* The page of a function, made writable, holds what the linker put there. */
TEST(hot_code_made_writable_is_original)
{
	uint8_t original[16];
	uint64_t page = (uint64_t)getppid & ~4095UL;

	read_original((void *)getppid, original, sizeof(original));
	warm_up();
	EXPECT_EQ(mprotect((void *)page, 8192, PROT_READ | PROT_WRITE | PROT_EXEC), 0);
	EXPECT(!memcmp(original, (void *)getppid, sizeof(original)));
	EXPECT(getppid() > 0);
	EXPECT_EQ(mprotect((void *)page, 8192, PROT_READ | PROT_EXEC), 0);
	warm_up();
}

static volatile int steps;

static void step(int sig, siginfo_t *si, void *uc)
{
	(void)sig, (void)si, (void)uc;
	steps++;
}

TEST(hot_calls_can_be_single_stepped)
{
	struct sigaction sa = {.sa_sigaction = step, .sa_flags = SA_SIGINFO};

	warm_up();
	EXPECT_EQ(sigaction(SIGTRAP, &sa, NULL), 0);
	pid_t parent = getppid();
	__asm__ volatile("pushfq\n\torq $0x100, (%%rsp)\n\tpopfq" ::: "memory", "cc");
	pid_t seen = getppid();
	__asm__ volatile("pushfq\n\tandq $~0x100, (%%rsp)\n\tpopfq" ::: "memory", "cc");
	EXPECT_EQ(seen, parent);
	EXPECT(steps > 3);
}

/* read(2) and syscall(2) of C libraries are call sites of a kind of their own. */
TEST(hot_reads_see_data_faults_and_signals)
{
	int fd[2];
	char c = 0;

	EXPECT_OK(pipe(fd));
	for (int i = 0; i < 2000; i++) {
		char out = (char)i;
		EXPECT_EQ(write(fd[1], &out, 1), 1);
		EXPECT_EQ(read(fd[0], &c, 1), 1);
		EXPECT_EQ(c, (char)i);
	}
	EXPECT_EQ(write(fd[1], "x", 1), 1);
	EXPECT_ERRNO(read(fd[0], BAD_ADDR, 1), EFAULT);
	EXPECT_EQ(read(fd[0], &c, 1), 1);
	EXPECT_EQ(c, 'x');
	EXPECT_ERRNO(read(-1, &c, 1), EBADF);
	EXPECT_OK(close(fd[1]));
	EXPECT_EQ(read(fd[0], &c, 1), 0);
}

TEST(hot_syscalls_by_number_take_six_arguments_and_futexes)
{
	uint32_t word = 5;
	int fd = test_file("six", 4096);

	for (long i = 0; i < 2000; i++) {
		EXPECT_EQ(syscall(SYS_getpgid, 0), getpgrp());
		EXPECT_EQ(syscall(SYS_lseek, fd, i, SEEK_SET), i);
	}
	char *p = (char *)syscall(SYS_mmap, NULL, 4096, PROT_READ, MAP_SHARED, fd, 0L);
	EXPECT(p != MAP_FAILED);
	EXPECT_ERRNO(syscall(SYS_mmap, NULL, 4096, PROT_READ, MAP_SHARED, fd, 1L), EINVAL);
	EXPECT_ERRNO(syscall(SYS_futex, &word, 0 /* FUTEX_WAIT */, 4, NULL, NULL, 0), EAGAIN);
	EXPECT_EQ(syscall(SYS_futex, &word, 1 /* FUTEX_WAKE */, 1, NULL, NULL, 0), 0);
	EXPECT_EQ(syscall(SYS_sched_yield), 0);
	EXPECT_ERRNO(syscall(SYS_execve, "/nonexistent", NULL, NULL), ENOENT);
	int status;
	pid_t pid = (pid_t)EXPECT_OK(syscall(SYS_fork));
	if (!pid)
		syscall(SYS_exit_group, 3);
	EXPECT_EQ(syscall(SYS_wait4, pid, &status, 0, NULL), pid);
	EXPECT_EQ(WEXITSTATUS(status), 3);
	pid = (pid_t)EXPECT_OK(syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, 0));
	if (!pid)
		syscall(SYS_exit, 4);
	EXPECT_EQ(syscall(SYS_wait4, pid, &status, 0, NULL), pid);
	EXPECT_EQ(WEXITSTATUS(status), 4);
}
