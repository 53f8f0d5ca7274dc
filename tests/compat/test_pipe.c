/* pipe, FIFOs. */
#include "tests/compat/compat.h"

#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#ifndef F_SETPIPE_SZ
#define F_SETPIPE_SZ 1031
#define F_GETPIPE_SZ 1032
#endif

TEST(pipe2_fault_leaves_no_descriptor)
{
	int lowest = test_lowest_fd();
	EXPECT_ERRNO(syscall(SYS_pipe2, BAD_ADDR, 0), EFAULT);
	EXPECT_ERRNO(syscall(SYS_pipe, BAD_ADDR), EFAULT);
	EXPECT_EQ(test_lowest_fd(), lowest);
}

TEST(pipe2_unknown_flags_are_invalid)
{
	int p[2];
	EXPECT_ERRNO(syscall(SYS_pipe2, p, 1), EINVAL);
	EXPECT_ERRNO(syscall(SYS_pipe2, p, O_APPEND), EINVAL);
}

TEST(pipe_read_fault_takes_nothing)
{
	int p[2];
	char buf[8];
	EXPECT_OK(pipe(p));
	EXPECT_EQ(write(p[1], "abcdefgh", 8), 8);
	EXPECT_ERRNO(read(p[0], BAD_ADDR, 4), EFAULT);
	EXPECT_EQ(read(p[0], buf, 8), 8);
	EXPECT(!memcmp(buf, "abcdefgh", 8));
	EXPECT_ERRNO(write(p[1], BAD_ADDR, 4), EFAULT);
	EXPECT_OK(fcntl(p[0], F_SETFL, O_NONBLOCK));
	EXPECT_ERRNO(read(p[0], buf, 8), EAGAIN);
}

TEST(pipe2_flags_are_set)
{
	int p[2];
	EXPECT_OK(pipe2(p, O_CLOEXEC | O_NONBLOCK));
	EXPECT_EQ(fcntl(p[0], F_GETFD), FD_CLOEXEC);
	EXPECT_EQ(fcntl(p[1], F_GETFD), FD_CLOEXEC);
	EXPECT_EQ(fcntl(p[0], F_GETFL) & (O_NONBLOCK | O_ACCMODE), O_NONBLOCK | O_RDONLY);
	EXPECT_EQ(fcntl(p[1], F_GETFL) & (O_NONBLOCK | O_ACCMODE), O_NONBLOCK | O_WRONLY);
}

TEST(pipe_ends_have_one_direction)
{
	int p[2];
	char c;
	EXPECT_OK(pipe(p));
	EXPECT_ERRNO(write(p[0], "x", 1), EBADF);
	EXPECT_ERRNO(read(p[1], &c, 1), EBADF);
	EXPECT_ERRNO(lseek(p[0], 0, SEEK_CUR), ESPIPE);
	EXPECT_ERRNO(pread(p[0], &c, 1, 0), ESPIPE);
}

TEST(pipe_is_a_fifo_with_one_inode)
{
	struct stat a, b;
	int p[2];
	EXPECT_OK(pipe(p));
	EXPECT_OK(fstat(p[0], &a));
	EXPECT_OK(fstat(p[1], &b));
	EXPECT(S_ISFIFO(a.st_mode));
	EXPECT_EQ(a.st_ino, b.st_ino);
	EXPECT_EQ(a.st_dev, b.st_dev);
	EXPECT_EQ(a.st_size, 0);
}

TEST(pipe_full_write_is_atomic_up_to_pipe_buf)
{
	static char buf[65536];
	int p[2];
	EXPECT_OK(pipe2(p, O_NONBLOCK));
	EXPECT_EQ(write(p[1], buf, sizeof(buf)), sizeof(buf));
	EXPECT_ERRNO(write(p[1], buf, 1), EAGAIN);
	EXPECT_EQ(read(p[0], buf, PIPE_BUF), PIPE_BUF);
	EXPECT_EQ(write(p[1], buf, PIPE_BUF - 100), PIPE_BUF - 100);
	EXPECT_ERRNO(write(p[1], buf, PIPE_BUF), EAGAIN);
}

TEST(pipe_sizes)
{
	int p[2], n;
	EXPECT_OK(pipe(p));
	EXPECT_EQ(fcntl(p[0], F_GETPIPE_SZ), 65536);
	EXPECT_EQ(fcntl(p[0], F_SETPIPE_SZ, 5000), 8192);
	EXPECT_EQ(fcntl(p[1], F_GETPIPE_SZ), 8192);
	EXPECT_ERRNO(fcntl(test_file("f", 1), F_GETPIPE_SZ), EBADF);
	EXPECT_EQ(write(p[1], "abc", 3), 3);
	EXPECT_OK(ioctl(p[0], FIONREAD, &n));
	EXPECT_EQ(n, 3);
	EXPECT_ERRNO(ioctl(p[0], FIONREAD, BAD_ADDR), EFAULT);
}

static void write_without_reader(void *arg)
{
	int *p = arg;
	(void)!write(p[1], "x", 1);
}

TEST(pipe_write_without_reader_is_sigpipe_or_epipe)
{
	int p[2];
	EXPECT_OK(pipe(p));
	close(p[0]);
	int status = test_child(write_without_reader, p);
	EXPECT(WIFSIGNALED(status));
	EXPECT_EQ(WTERMSIG(status), SIGPIPE);
	signal(SIGPIPE, SIG_IGN);
	EXPECT_ERRNO(write(p[1], "x", 1), EPIPE);
}

TEST(pipe_poll_tells_data_and_ends)
{
	int p[2];
	EXPECT_OK(pipe(p));
	struct pollfd f[2] = {{p[0], POLLIN, 0}, {p[1], POLLOUT, 0}};
	EXPECT_EQ(poll(f, 2, 0), 1);
	EXPECT_EQ(f[1].revents, POLLOUT);
	EXPECT_EQ(write(p[1], "x", 1), 1);
	EXPECT_EQ(poll(f, 1, 1000), 1);
	EXPECT_EQ(f[0].revents, POLLIN);
	close(p[1]);
	EXPECT_EQ(poll(f, 1, 1000), 1);
	EXPECT_EQ(f[0].revents, POLLIN | POLLHUP);
}

TEST(pipe_blocking_write_writes_all)
{
	enum { SIZE = 1 << 20 };
	int p[2], status;
	EXPECT_OK(pipe(p));
	pid_t pid = fork();
	if (pid == 0) {
		char *buf = malloc(SIZE);
		memset(buf, 7, SIZE);
		_exit(write(p[1], buf, SIZE) == SIZE ? 0 : 1);
	}
	close(p[1]);
	char *buf = malloc(SIZE);
	size_t all = 0;
	ssize_t n;
	while ((n = read(p[0], buf, 30000)) > 0) {
		for (ssize_t i = 0; i < n; i++)
			EXPECT_EQ(buf[i], 7);
		all += n;
	}
	EXPECT_EQ(n, 0);
	EXPECT_EQ(all, SIZE);
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
}

static void on_alarm(int sig)
{
	(void)sig;
}

TEST(pipe_read_is_interrupted_by_a_signal)
{
	struct sigaction sa = {.sa_handler = on_alarm};
	int p[2];
	char c;
	EXPECT_OK(pipe(p));
	sigaction(SIGUSR1, &sa, NULL);
	pid_t parent = getpid(), pid = fork();
	if (pid == 0) {
		test_sleep_ms(50);
		kill(parent, SIGUSR1);
		_exit(0);
	}
	EXPECT_ERRNO(read(p[0], &c, 1), EINTR);
	waitpid(pid, NULL, 0);
}

TEST(pipe_read_restarts_after_a_handler_with_sa_restart)
{
	struct sigaction sa = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
	int p[2];
	char c;
	EXPECT_OK(pipe(p));
	sigaction(SIGUSR1, &sa, NULL);
	pid_t parent = getpid(), pid = fork();
	if (pid == 0) {
		test_sleep_ms(50);
		kill(parent, SIGUSR1);
		test_sleep_ms(50);
		_exit(write(p[1], "x", 1) != 1);
	}
	EXPECT_EQ(read(p[0], &c, 1), 1);
	waitpid(pid, NULL, 0);
}

TEST(pipe_packets_keep_their_borders)
{
	int p[2];
	char buf[16];
	EXPECT_OK(pipe2(p, O_DIRECT));
	EXPECT_EQ(write(p[1], "abc", 3), 3);
	EXPECT_EQ(write(p[1], "defg", 4), 4);
	EXPECT_EQ(read(p[0], buf, 2), 2);
	EXPECT_EQ(read(p[0], buf, 16), 4);
	EXPECT(!memcmp(buf, "defg", 4));
}

TEST(pipe_readv_and_writev)
{
	int p[2];
	char a[3], b[10];
	struct iovec w[2] = {{"hello ", 6}, {"world", 5}}, r[2] = {{a, 3}, {b, 10}};
	EXPECT_OK(pipe(p));
	EXPECT_EQ(writev(p[1], w, 2), 11);
	EXPECT_EQ(readv(p[0], r, 2), 11);
	EXPECT(!memcmp(a, "hel", 3) && !memcmp(b, "lo world", 8));
}

TEST(pipe_reopened_through_proc_is_the_same_pipe)
{
	int p[2];
	char name[64], c;
	EXPECT_OK(pipe(p));
	snprintf(name, sizeof(name), "/proc/self/fd/%d", p[1]);
	int w = EXPECT_OK(open(name, O_WRONLY));
	EXPECT_EQ(write(w, "z", 1), 1);
	EXPECT_EQ(read(p[0], &c, 1), 1);
	EXPECT_EQ(c, 'z');
	close(p[1]);
	close(w);
	EXPECT_EQ(read(p[0], &c, 1), 0);
}

/* bash's <(command), when the command is done first. */
TEST(pipe_reopened_when_the_other_end_is_gone)
{
	int p[2];
	char name[64], c;
	EXPECT_OK(pipe(p));
	snprintf(name, sizeof(name), "/proc/self/fd/%d", p[0]);
	EXPECT_EQ(write(p[1], "z", 1), 1);
	close(p[1]);
	int r = EXPECT_OK(open(name, O_RDONLY));
	struct pollfd pfd = {.fd = r, .events = POLLIN};
	EXPECT_EQ(poll(&pfd, 1, 0), 1);
	EXPECT_EQ(pfd.revents, POLLIN | POLLHUP);
	EXPECT_EQ(read(r, &c, 1), 1);
	EXPECT_EQ(read(r, &c, 1), 0);
	close(r);

	EXPECT_OK(pipe(p));
	snprintf(name, sizeof(name), "/proc/self/fd/%d", p[1]);
	close(p[0]);
	signal(SIGPIPE, SIG_IGN);
	int w = EXPECT_OK(open(name, O_WRONLY));
	EXPECT_ERRNO(write(w, "z", 1), EPIPE);
	w = EXPECT_OK(open(name, O_WRONLY | O_NONBLOCK));
	EXPECT_ERRNO(write(w, "z", 1), EPIPE);
}

static char *in_dir(const char *name)
{
	static char path[512];
	snprintf(path, sizeof(path), "%s/%s", test_dir(), name);
	return path;
}

TEST(fifo_open_waits_for_the_other_end)
{
	char *name = in_dir("fifo"), buf[8];
	int status;
	EXPECT_OK(mkfifo(name, 0600));
	pid_t pid = fork();
	if (pid == 0) {
		test_sleep_ms(30);
		int w = open(name, O_WRONLY);
		_exit(w < 0 || write(w, "hi", 2) != 2);
	}
	int r = EXPECT_OK(open(name, O_RDONLY));
	EXPECT_EQ(read(r, buf, 8), 2);
	EXPECT_EQ(read(r, buf, 8), 0);
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
}

TEST(fifo_nonblocking_opens)
{
	char *name = in_dir("fifo"), c;
	EXPECT_OK(mkfifo(name, 0600));
	EXPECT_ERRNO(open(name, O_WRONLY | O_NONBLOCK), ENXIO);
	int r = EXPECT_OK(open(name, O_RDONLY | O_NONBLOCK));
	EXPECT_EQ(read(r, &c, 1), 0);
	struct pollfd f = {r, POLLIN, 0};
	EXPECT_EQ(poll(&f, 1, 0), 0);
	int w = EXPECT_OK(open(name, O_WRONLY | O_NONBLOCK));
	EXPECT_ERRNO(read(r, &c, 1), EAGAIN);
	EXPECT_EQ(write(w, "x", 1), 1);
	EXPECT_EQ(read(r, &c, 1), 1);
	close(w);
	EXPECT_EQ(poll(&f, 1, 0), 1);
	EXPECT_EQ(f.revents, POLLHUP);
}

TEST(fifo_open_is_interrupted_by_a_signal)
{
	struct sigaction sa = {.sa_handler = on_alarm};
	char *name = in_dir("fifo");
	EXPECT_OK(mkfifo(name, 0600));
	sigaction(SIGUSR1, &sa, NULL);
	pid_t parent = getpid(), pid = fork();
	if (pid == 0) {
		test_sleep_ms(50);
		kill(parent, SIGUSR1);
		_exit(0);
	}
	EXPECT_ERRNO(open(name, O_RDONLY), EINTR);
	waitpid(pid, NULL, 0);
	EXPECT_ERRNO(open(name, O_WRONLY | O_NONBLOCK), ENXIO);
}

static void *echo_thread(void *arg)
{
	int *p = arg;
	char c;
	while (read(p[0], &c, 1) == 1)
		if (write(p[3], &c, 1) != 1)
			break;
	return NULL;
}

TEST(pipe_ping_pong_between_threads)
{
	int p[4];
	pthread_t th;
	char c = 'a';
	EXPECT_OK(pipe(p));
	EXPECT_OK(pipe(p + 2));
	pthread_create(&th, NULL, echo_thread, p);
	for (int i = 0; i < 1000; i++) {
		EXPECT_EQ(write(p[1], &c, 1), 1);
		EXPECT_EQ(read(p[2], &c, 1), 1);
	}
	close(p[1]);
	pthread_join(th, NULL);
}
