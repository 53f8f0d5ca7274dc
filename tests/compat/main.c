/* compat [-l] [PATTERN …]: runs the tests whose names contain one of the patterns; TAP-like lines.
 */
#include "tests/compat/compat.h"

#include <dirent.h>
#include <ftw.h>
#include <stdarg.h>
#include <sys/prctl.h>

#define SKIP_STATUS 77
#define FAIL_STATUS 1
#define TIME_LIMIT 30 /* seconds a test */

void *volatile test_bad_addr = (void *)0x10;
static struct test *tests, **tests_end = &tests;
static int report_fd = -1;
static char dir_name[64];
static char dir_prefix[32]; /* below /tmp, of this run: others may run beside it */

void test_register(struct test *t)
{
	*tests_end = t;
	tests_end = &t->next;
}

void test_fail(const char *file, int line, const char *fmt, ...)
{
	char msg[800];
	va_list ap;

	int n = snprintf(msg, sizeof(msg), "%s:%d: ", file, line);
	va_start(ap, fmt);
	vsnprintf(msg + n, sizeof(msg) - (size_t)n, fmt, ap);
	va_end(ap);
	if (write(report_fd, msg, strlen(msg)) < 0)
		perror("report");
	_exit(FAIL_STATUS);
}

void test_skip(const char *why)
{
	if (write(report_fd, why, strlen(why)) < 0)
		perror("report");
	_exit(SKIP_STATUS);
}

const char *test_dir(void)
{
	if (!dir_name[0]) {
		snprintf(dir_name, sizeof(dir_name), "/tmp/%sXXXXXX", dir_prefix);
		if (!mkdtemp(dir_name) || chdir(dir_name))
			FAIL("no directory for the test: %s", strerror(errno));
	}
	return dir_name;
}

int test_child(void (*fn)(void *), void *arg)
{
	int status;
	pid_t pid = fork();

	if (pid < 0)
		FAIL("fork: %s", strerror(errno));
	if (pid == 0) {
		fn(arg);
		_exit(0);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			FAIL("waitpid: %s", strerror(errno));
	return status;
}

int test_lowest_fd(void)
{
	int fd = dup(STDERR_FILENO);

	close(fd);
	return fd;
}

int test_file(const char *name, size_t size)
{
	test_dir(); /* which is where we are from now on */
	int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0644);
	unsigned char buf[4096];

	if (fd < 0)
		FAIL("open %s: %s", name, strerror(errno));
	for (size_t at = 0; at < size;) {
		size_t n = size - at < sizeof(buf) ? size - at : sizeof(buf);
		for (size_t i = 0; i < n; i++)
			buf[i] = (unsigned char)((at + i) * 31 + (at >> 12));
		if (write(fd, buf, n) != (ssize_t)n)
			FAIL("write %s: %s", name, strerror(errno));
		at += n;
	}
	lseek(fd, 0, SEEK_SET);
	return fd;
}

void test_sleep_ms(int ms)
{
	struct timespec ts = {ms / 1000, ms % 1000 * 1000000L};

	while (nanosleep(&ts, &ts) && errno == EINTR)
		continue;
}

struct timespec test_time_in_ms(clockid_t clock, int ms)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	ts.tv_nsec += ms * 1000000L;
	ts.tv_sec += ts.tv_nsec / 1000000000;
	ts.tv_nsec %= 1000000000;
	return ts;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

static void remove_dirs(void)
{
	DIR *d = opendir("/tmp");
	if (!d)
		return;
	struct dirent *e;
	while ((e = readdir(d))) {
		char path[300];
		if (strncmp(e->d_name, dir_prefix, strlen(dir_prefix)))
			continue;
		snprintf(path, sizeof(path), "/tmp/%s", e->d_name);
		nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	}
	closedir(d);
}

static int run(struct test *t)
{
	int pipe_fds[2], status;
	char why[1000];

	if (pipe(pipe_fds)) {
		perror("pipe");
		exit(2);
	}
	fflush(stdout);
	pid_t pid = fork();
	if (pid < 0) {
		perror("fork");
		exit(2);
	}
	if (pid == 0) {
		/* High, so that tests see the numbers that a fresh program has. */
		report_fd = fcntl(pipe_fds[1], F_DUPFD_CLOEXEC, 200);
		close(pipe_fds[0]);
		close(pipe_fds[1]);
		setpgid(0, 0);
		alarm(TIME_LIMIT);
		t->fn();
		_exit(0);
	}
	close(pipe_fds[1]);
	if (waitpid(pid, &status, 0) < 0) {
		perror("waitpid");
		exit(2);
	}
	kill(-pid, SIGKILL); /* what the test may have left running */
	fcntl(pipe_fds[0], F_SETFL, O_NONBLOCK);
	ssize_t n = read(pipe_fds[0], why, sizeof(why) - 1);
	why[n > 0 ? n : 0] = 0;
	close(pipe_fds[0]);
	remove_dirs();
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
		printf("ok %s\n", t->name);
		return 0;
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) == SKIP_STATUS) {
		printf("skip %s - %s\n", t->name, why);
		return 0;
	}
	if (WIFSIGNALED(status))
		snprintf(why + strlen(why), sizeof(why) - strlen(why), " (killed by signal %d%s)",
			 WTERMSIG(status), WTERMSIG(status) == SIGALRM ? ", took too long" : "");
	printf("not ok %s - %s\n", t->name, why);
	return 1;
}

static bool selected(const struct test *t, int argc, char **argv)
{
	for (int i = 0; i < argc; i++)
		if (strstr(t->name, argv[i]))
			return true;
	return argc == 0;
}

int main(int argc, char **argv)
{
	bool list = argc > 1 && !strcmp(argv[1], "-l");
	int failed = 0, first = 1 + list;

	snprintf(dir_prefix, sizeof(dir_prefix), "compat.%d.", (int)getpid());
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	for (struct test *t = tests; t; t = t->next) {
		if (!selected(t, argc - first, argv + first))
			continue;
		if (list)
			printf("%s\n", t->name);
		else
			failed += run(t);
		while (waitpid(-1, NULL, WNOHANG) > 0)
			continue;
	}
	return failed != 0;
}
