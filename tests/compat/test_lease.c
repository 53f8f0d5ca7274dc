/* Leases and F_NOTIFY: fcntl(2). */
#include "tests/compat/compat.h"

#include <poll.h>

static volatile sig_atomic_t seen;
static siginfo_t last;

static void on_signal(int sig, siginfo_t *si, void *uc)
{
	(void)sig, (void)uc;
	last = *si;
	seen++;
}

static void catch_signal(int sig)
{
	struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};

	EXPECT_OK(sigaction(sig, &sa, NULL));
	seen = 0;
}

static void wait_seen(int n)
{
	for (int i = 0; seen < n && i < 500; i++)
		test_sleep_ms(10);
	EXPECT_EQ(seen, n);
}

static void enter(void)
{
	EXPECT_OK(chdir(test_dir()));
	umask(022);
	close(EXPECT_OK(open("f", O_CREAT | O_RDWR, 0644)));
	catch_signal(SIGIO);
}

/* A child that opens or truncates; exits with 0 or errno. */
static pid_t child_opens(int flags)
{
	pid_t pid = EXPECT_OK(fork());

	if (pid)
		return pid;
	for (int fd = 3; fd < 32; fd++)
		close(fd); /* the lease is its parent's */
	int ret = flags < 0 ? truncate("f", 1) : open("f", flags);
	_exit(ret < 0 ? errno : 0);
}

static int child_result(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		EXPECT_EQ(errno, EINTR);
	EXPECT(WIFEXITED(status));
	return WEXITSTATUS(status);
}

TEST(lease_arguments)
{
	enter();
	int fd = EXPECT_OK(open("f", O_RDONLY)), dir = EXPECT_OK(open(".", O_RDONLY)), p[2];
	EXPECT_EQ(fcntl(fd, F_GETLEASE), F_UNLCK);
	EXPECT_ERRNO(fcntl(fd, F_SETLEASE, 7), EINVAL);
	EXPECT_ERRNO(fcntl(fd, F_SETLEASE, F_UNLCK), EAGAIN);
	EXPECT_ERRNO(fcntl(dir, F_SETLEASE, F_RDLCK), EINVAL);
	EXPECT_OK(pipe(p));
	EXPECT_ERRNO(fcntl(p[0], F_SETLEASE, F_RDLCK), EINVAL);
	int path = EXPECT_OK(open("f", O_PATH));
	EXPECT_ERRNO(fcntl(path, F_SETLEASE, F_RDLCK), EBADF);
	EXPECT_OK(fcntl(fd, F_SETLEASE, F_RDLCK));
	EXPECT_EQ(fcntl(fd, F_GETLEASE), F_RDLCK);
	EXPECT_EQ(fcntl(fd, F_GETOWN), getpid());
	EXPECT_OK(fcntl(fd, F_SETLEASE, F_WRLCK));
	EXPECT_EQ(fcntl(fd, F_GETLEASE), F_WRLCK);
	EXPECT_OK(fcntl(fd, F_SETLEASE, F_UNLCK));
	EXPECT_EQ(fcntl(fd, F_GETLEASE), F_UNLCK);
	EXPECT_OK(setresuid(1000, 1000, 1000));
	EXPECT_ERRNO(fcntl(fd, F_SETLEASE, F_RDLCK), EACCES);
}

TEST(lease_needs_that_nobody_else_has_it_open)
{
	enter();
	int fd = EXPECT_OK(open("f", O_RDONLY));
	int w = EXPECT_OK(open("f", O_WRONLY));
	EXPECT_ERRNO(fcntl(fd, F_SETLEASE, F_RDLCK), EAGAIN);
	EXPECT_ERRNO(fcntl(w, F_SETLEASE, F_RDLCK), EAGAIN);
	EXPECT_ERRNO(fcntl(w, F_SETLEASE, F_WRLCK), EAGAIN);
	close(w);
	int r = EXPECT_OK(open("f", O_RDONLY));
	EXPECT_OK(fcntl(fd, F_SETLEASE, F_RDLCK));
	EXPECT_OK(fcntl(r, F_SETLEASE, F_RDLCK));
	EXPECT_ERRNO(fcntl(r, F_SETLEASE, F_WRLCK), EAGAIN);
	close(fd); /* ends its lease */
	EXPECT_OK(fcntl(r, F_SETLEASE, F_WRLCK));
	int same = EXPECT_OK(dup(r));
	EXPECT_EQ(fcntl(same, F_GETLEASE), F_WRLCK);
	close(r);
	EXPECT_EQ(fcntl(same, F_GETLEASE), F_WRLCK);
}

TEST(lease_is_broken_by_a_writer)
{
	enter();
	int fd = EXPECT_OK(open("f", O_RDONLY));
	EXPECT_OK(fcntl(fd, F_SETLEASE, F_RDLCK));
	EXPECT_EQ(child_result(child_opens(O_RDONLY)), 0);
	EXPECT_EQ(seen, 0);
	EXPECT_EQ(child_result(child_opens(O_WRONLY | O_NONBLOCK)), EWOULDBLOCK);
	wait_seen(1);
	EXPECT_EQ(fcntl(fd, F_GETLEASE), F_UNLCK); /* what it is to become */
	pid_t pid = child_opens(O_WRONLY);
	test_sleep_ms(50);
	EXPECT_EQ(waitpid(pid, NULL, WNOHANG), 0);
	EXPECT_OK(fcntl(fd, F_SETLEASE, F_UNLCK));
	EXPECT_EQ(child_result(pid), 0);
	EXPECT_EQ(seen, 1); /* it had been told */
}

TEST(lease_for_writing_is_broken_by_readers_and_truncate)
{
	enter();
	int fd = EXPECT_OK(open("f", O_RDWR));
	EXPECT_OK(fcntl(fd, F_SETLEASE, F_WRLCK));
	EXPECT_OK(fcntl(fd, F_SETSIG, SIGRTMIN));
	catch_signal(SIGRTMIN);
	pid_t pid = child_opens(O_RDONLY);
	wait_seen(1);
	EXPECT_EQ(last.si_code, POLL_MSG);
	EXPECT_EQ(last.si_fd, fd);
	EXPECT_EQ(fcntl(fd, F_GETLEASE), F_RDLCK);
	EXPECT_EQ(waitpid(pid, NULL, WNOHANG), 0);
	close(fd);
	EXPECT_EQ(child_result(pid), 0);
	fd = EXPECT_OK(open("f", O_RDONLY));
	EXPECT_OK(fcntl(fd, F_SETLEASE, F_RDLCK));
	pid = child_opens(-1);
	for (int i = 0; i < 500 && fcntl(fd, F_GETLEASE) != F_UNLCK; i++)
		test_sleep_ms(10);
	EXPECT_OK(fcntl(fd, F_SETLEASE, F_UNLCK));
	EXPECT_EQ(child_result(pid), 0);
}

/* Who waits for one that is not given up takes it after a while, or is interrupted. */
TEST(lease_break_time)
{
	int saved = EXPECT_OK(open("/proc/sys/fs/lease-break-time", O_RDWR)), status;
	char old[16] = "";

	enter();
	EXPECT(read(saved, old, sizeof(old) - 1) > 0);
	int fd = EXPECT_OK(open("f", O_RDONLY));
	EXPECT_OK(fcntl(fd, F_SETLEASE, F_RDLCK));
	pid_t pid = child_opens(O_WRONLY);
	wait_seen(1);
	EXPECT_OK(kill(pid, SIGTERM));
	EXPECT_OK(waitpid(pid, &status, 0));
	EXPECT(WIFSIGNALED(status));
	EXPECT_OK(fcntl(fd, F_SETLEASE, F_UNLCK));
	EXPECT_EQ(pwrite(saved, "1", 1, 0), 1);
	EXPECT_OK(fcntl(fd, F_SETLEASE, F_RDLCK));
	int got = child_result(child_opens(O_WRONLY));
	EXPECT_EQ(pwrite(saved, old, strlen(old), 0), strlen(old));
	EXPECT_EQ(got, 0);
	EXPECT_EQ(fcntl(fd, F_GETLEASE), F_UNLCK);
	EXPECT_ERRNO(fcntl(fd, F_SETLEASE, F_UNLCK), EAGAIN);
}

TEST(lease_is_listed)
{
	char text[65536], want[128];
	struct stat st;

	enter();
	int fd = EXPECT_OK(open("f", O_RDONLY)), n = 0;
	EXPECT_OK(fstat(fd, &st));
	EXPECT_OK(fcntl(fd, F_SETLEASE, F_RDLCK));
	for (int round = 0; round < 2; round++) {
		int locks = EXPECT_OK(open("/proc/locks", O_RDONLY));
		for (ssize_t got; (got = read(locks, text + n, sizeof(text) - 1 - n)) > 0;)
			n += (int)got;
		text[n] = 0;
		n = 0;
		close(locks);
		sprintf(want, "LEASE  %s  %s %d ", round ? "BREAKING" : "ACTIVE  ",
			round ? "UNLCK" : "READ", getpid());
		if (!strstr(text, want))
			FAIL("no \"%s\"", want);
		EXPECT_EQ(child_result(child_opens(O_WRONLY | O_NONBLOCK)), EWOULDBLOCK);
	}
}

/* ---- F_NOTIFY ---- */

static void touch(const char *name)
{
	close(EXPECT_OK(open(name, O_CREAT | O_RDWR, 0644)));
}

TEST(dnotify_tells_once_or_always)
{
	enter();
	int d = EXPECT_OK(open(".", O_RDONLY)), f = EXPECT_OK(open("f", O_RDWR));
	EXPECT_ERRNO(fcntl(f, F_NOTIFY, DN_CREATE), ENOTDIR);
	EXPECT_OK(fcntl(f, F_NOTIFY, 0));
	int path = EXPECT_OK(open(".", O_PATH));
	EXPECT_ERRNO(fcntl(path, F_NOTIFY, DN_CREATE), EBADF);
	EXPECT_OK(fcntl(d, F_NOTIFY, DN_CREATE));
	EXPECT_EQ(fcntl(d, F_GETOWN), getpid());
	touch("a");
	EXPECT_EQ(seen, 1);
	touch("b");
	EXPECT_EQ(seen, 1);
	EXPECT_OK(fcntl(d, F_SETSIG, SIGRTMIN));
	catch_signal(SIGRTMIN);
	EXPECT_OK(fcntl(d, F_NOTIFY, DN_CREATE | DN_MULTISHOT));
	touch("c");
	touch("d");
	EXPECT_EQ(seen, 2);
	EXPECT_EQ(last.si_code, POLL_MSG);
	EXPECT_EQ(last.si_fd, d);
	EXPECT_EQ(last.si_band, POLLIN | POLLRDNORM | POLLMSG);
	EXPECT_OK(fcntl(d, F_NOTIFY, 0));
	touch("e");
	EXPECT_EQ(seen, 2);
}

/* Counts what `events` gives for each of the changes. */
static void count_changes(uint32_t events, const char *expect)
{
	char text[32] = "";
	int d = EXPECT_OK(open("a", O_RDONLY)), n = 0;
	char c;

	EXPECT_OK(fcntl(d, F_SETSIG, SIGRTMIN));
	EXPECT_OK(fcntl(d, F_NOTIFY, events | DN_MULTISHOT));
	catch_signal(SIGRTMIN);
#define COUNT(what)                             \
	do {                                    \
		seen = 0;                       \
		what;                           \
		text[n++] = (char)('0' + seen); \
	} while (0)
	touch("b/x");
	touch("a/f");
	int f = EXPECT_OK(open("a/f", O_RDWR));
	COUNT(touch("a/x"));
	COUNT(EXPECT_OK(rename("a/x", "a/y")));
	COUNT(EXPECT_OK(rename("a/y", "b/y")));
	COUNT(EXPECT_OK(rename("b/x", "a/x")));
	COUNT(EXPECT_OK(unlink("a/x")));
	COUNT(EXPECT_EQ(write(f, "x", 1), 1));
	COUNT(EXPECT_EQ(pread(f, &c, 1, 0), 1));
	COUNT(EXPECT_OK(chmod("a/f", 0600)));
	COUNT(EXPECT_OK(chmod("a", 0700)));
	COUNT(EXPECT_OK(mkdir("a/d", 0700)));
	EXPECT_OK(rmdir("a/d"));
	close(f);
	close(d);
	EXPECT_STR(text, expect);
}

TEST(dnotify_events)
{
	enter();
	EXPECT_OK(mkdir("a", 0755));
	EXPECT_OK(mkdir("b", 0755));
	count_changes(DN_CREATE, "1101000001");
	count_changes(DN_DELETE, "0110100000");
	count_changes(DN_RENAME, "0100000000");
	count_changes(DN_MODIFY, "0000010000");
	count_changes(DN_ACCESS, "0000001000");
	count_changes(DN_ATTRIB, "0000000110");
}

TEST(dnotify_ends_with_a_close_of_the_process)
{
	enter();
	int d = EXPECT_OK(open(".", O_RDONLY));
	EXPECT_OK(fcntl(d, F_NOTIFY, DN_CREATE | DN_MULTISHOT));
	pid_t pid = EXPECT_OK(fork());
	if (!pid) {
		close(d);
		_exit(0);
	}
	EXPECT_EQ(child_result(pid), 0);
	touch("a");
	EXPECT_EQ(seen, 1);
	int other = EXPECT_OK(dup(d));
	close(d);
	touch("b");
	EXPECT_EQ(seen, 1);
	close(other);
}
