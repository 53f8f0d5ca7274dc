/* execve(2): nothing of the old program is left, whoever executes, and a kill may come at any time.
 */
#include "tests/compat/compat.h"

#include <pthread.h>

#define PLACE ((void *)0x10000000000UL)

/* As in test_exec.c: the test program is its own helper, "fresh-helper WHAT ARG". */
static int tell(const char *what, const char *arg, char **argv)
{
	if (!strcmp(what, "mapped")) {
		unsigned char vec;
		return mincore((void *)strtoul(arg, NULL, 16), 1, &vec) < 0 && errno == ENOMEM ? 0
											       : 1;
	}
	if (!strcmp(what, "fpu")) {
		uint32_t mxcsr;
		uint16_t fcw;
		__asm__ volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(mxcsr), "=m"(fcw));
		return (mxcsr & ~0x3fu) == 0x1f80 && fcw == 0x37f ? 0 : 1;
	}
	if (!strcmp(what, "again")) {
		char left[16];
		struct timespec t;
		snprintf(left, sizeof(left), "%d", atoi(arg) - 1);
		if (clock_gettime(CLOCK_MONOTONIC, &t) || !malloc(1 << 20))
			return 1;
		if (!atoi(arg))
			return 0;
		argv[2] = left;
		execv("/proc/self/exe", argv);
		return errno;
	}
	return 99;
}

__attribute__((constructor(101))) static void be_helper(int argc, char **argv)
{
	if (argc > 2 && !strcmp(argv[0], "fresh-helper"))
		_exit(tell(argv[1], argv[2], argv));
}

static void become(const char *what, const char *arg)
{
	char *argv[] = {"fresh-helper", (char *)what, (char *)arg, NULL};

	execv("/proc/thread-self/exe", argv);
	_exit(98);
}

static int end_of(pid_t pid)
{
	int status;

	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

TEST(execve_forgets_the_old_programs_memory)
{
	char where[32];
	volatile int *p = mmap(PLACE, 4096, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	EXPECT(p == PLACE);
	*p = 1234;
	snprintf(where, sizeof(where), "%lx", (unsigned long)p);
	pid_t pid = fork();
	if (!pid) {
		*p = 1;
		become("mapped", where);
	}
	EXPECT_EQ(end_of(pid), 0);
	EXPECT_EQ(*p, 1234);
	munmap((void *)p, 4096);
}

TEST(execve_starts_with_the_default_floating_point_state)
{
	pid_t pid = fork();

	if (!pid) {
		uint32_t mxcsr = 0x5f80;
		uint16_t fcw = 0x27f;
		__asm__ volatile("ldmxcsr %0\n\tfldcw %1" ::"m"(mxcsr), "m"(fcw));
		become("fpu", "");
	}
	EXPECT_EQ(end_of(pid), 0);
}

TEST(execve_may_follow_on_execve)
{
	pid_t pid = fork();

	if (!pid)
		become("again", "20");
	EXPECT_EQ(end_of(pid), 0);
	if (!(pid = vfork()))
		become("again", "20");
	EXPECT_EQ(end_of(pid), 0);
}

static void *fork_and_exec(void *arg)
{
	pid_t *pid = arg;

	if (!(*pid = fork()))
		become("again", "2");
	return NULL;
}

TEST(execve_by_the_child_of_another_thread_than_the_leader)
{
	pthread_t t[4];
	pid_t pid[4];

	for (int i = 0; i < 4; i++)
		EXPECT_EQ(pthread_create(&t[i], NULL, fork_and_exec, &pid[i]), 0);
	for (int i = 0; i < 4; i++) {
		EXPECT_EQ(pthread_join(t[i], NULL), 0);
		EXPECT_EQ(end_of(pid[i]), 0);
	}
}

TEST(execve_of_a_file_that_cannot_be_read)
{
	test_dir();
	if (geteuid() != 0)
		test_skip("needs another user id");
	EXPECT_EQ(system("cp /bin/true only-executable && chmod 0711 only-executable ."), 0);
	pid_t pid = fork();
	if (!pid) {
		if (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534))
			_exit(97);
		if (open("only-executable", O_RDONLY) >= 0 || errno != EACCES)
			_exit(96);
		execl("./only-executable", "true", NULL);
		_exit(errno);
	}
	EXPECT_EQ(end_of(pid), 0);
}

TEST(execve_may_be_killed_at_any_time)
{
	for (int i = 0; i < 60; i++) {
		int status;
		pid_t pid = fork();
		if (!pid)
			become("again", "3");
		struct timespec t = {0, i * 40000};
		nanosleep(&t, NULL);
		kill(pid, SIGKILL);
		EXPECT_EQ(waitpid(pid, &status, 0), pid);
		EXPECT(status == 0 || status == SIGKILL);
	}
}
