/* Contents of files: reading, writing, positions, sizes; descriptors and their locks. */
#include "compat.h"

#include <linux/close_range.h>
#include <linux/falloc.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

TEST(file_io_hostile_arguments)
{
	char buf[16];
	int fd = test_file("f", 100);
	EXPECT_ERRNO(read(fd, BAD_ADDR, 10), EFAULT);
	EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 0);
	EXPECT_ERRNO(write(fd, BAD_ADDR, 10), EFAULT);
	EXPECT_EQ(lseek(fd, 0, SEEK_END), 100);
	EXPECT_ERRNO(pread(fd, buf, 1, -1), EINVAL);
	EXPECT_ERRNO(pwrite(fd, buf, 1, -1), EINVAL);
	EXPECT_ERRNO(readv(fd, BAD_ADDR, 1), EFAULT);
	struct iovec iov = {buf, (size_t)-1};
	EXPECT_ERRNO(readv(fd, &iov, 1), EINVAL);
	EXPECT_ERRNO(syscall(SYS_readv, fd, &iov, -1), EINVAL);
	EXPECT_ERRNO(syscall(SYS_readv, fd, &iov, 1025), EINVAL);
	EXPECT_EQ(readv(fd, &iov, 0), 0);
	EXPECT_ERRNO(read(-1, buf, 1), EBADF);
	EXPECT_ERRNO(read(9999, buf, 1), EBADF);
	EXPECT_ERRNO(lseek(fd, -1, SEEK_SET), EINVAL);
	EXPECT_ERRNO(lseek(fd, 0, 99), EINVAL);
	EXPECT_ERRNO(ftruncate(fd, -1), EINVAL);
	EXPECT_ERRNO(fallocate(fd, 0, 0, 0), EINVAL);
	EXPECT_ERRNO(fallocate(fd, 0x4000, 0, 1), EOPNOTSUPP);
	EXPECT_ERRNO(ioctl(fd, 0x12345678, buf), ENOTTY);
	EXPECT_ERRNO(syscall(SYS_fcntl, fd, 9999, 0), EINVAL);
	EXPECT_ERRNO(syscall(SYS_preadv2, fd, &(struct iovec){buf, 1}, 1, 0, 0, 1 << 20),
		     EOPNOTSUPP);
	close(fd);
}

TEST(access_modes_are_enforced)
{
	char c = 0;
	close(test_file("f", 10));
	int rd = EXPECT_OK(open("f", O_RDONLY)), wr = EXPECT_OK(open("f", O_WRONLY));
	EXPECT_ERRNO(write(rd, &c, 1), EBADF);
	EXPECT_ERRNO(read(wr, &c, 1), EBADF);
	EXPECT_ERRNO(ftruncate(rd, 0), EINVAL);
	EXPECT_ERRNO(fallocate(rd, 0, 0, 1), EBADF);
	EXPECT_ERRNO(sendfile(rd, wr, NULL, 1), EBADF);
	close(rd);
	close(wr);
}

TEST(positions_move_together_and_apart)
{
	char a[4], b[4];
	int fd = test_file("f", 100), twin = dup(fd), other = open("f", O_RDONLY);
	EXPECT_EQ(read(fd, a, 4), 4);
	EXPECT_EQ(lseek(twin, 0, SEEK_CUR), 4);
	EXPECT_EQ(lseek(other, 0, SEEK_CUR), 0);
	EXPECT_EQ(pread(fd, b, 4, 0), 4);
	EXPECT(!memcmp(a, b, 4));
	EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 4);
	EXPECT_EQ(lseek(fd, -10, SEEK_END), 90);
	EXPECT_EQ(read(fd, a, 4), 4);
	EXPECT_EQ(lseek(fd, 1000, SEEK_SET), 1000);
	EXPECT_EQ(read(fd, a, 4), 0);
	EXPECT_EQ(lseek(fd, 0, SEEK_DATA), 0);
	EXPECT_EQ(lseek(fd, 0, SEEK_HOLE), 100);
	EXPECT_ERRNO(lseek(fd, 100, SEEK_DATA), ENXIO);
	EXPECT_EQ(lseek(fd, 1000, SEEK_SET), 1000);
	EXPECT_EQ(write(fd, "x", 1), 1);
	struct stat st;
	EXPECT_OK(fstat(fd, &st));
	EXPECT_EQ(st.st_size, 1001);
	EXPECT_EQ(pread(fd, a, 1, 500), 1);
	EXPECT_EQ(a[0], 0);
	close(fd);
	close(twin);
	close(other);
}

TEST(vectors_gather_and_scatter)
{
	char a[3], b[5], c[100];
	int fd = test_file("f", 0);
	struct iovec out[] = {{"abc", 3}, {"", 0}, {"defgh", 5}};
	struct iovec in[] = {{a, 3}, {NULL, 0}, {b, 5}, {c, 100}};
	EXPECT_EQ(writev(fd, out, 3), 8);
	EXPECT_EQ(lseek(fd, 0, SEEK_SET), 0);
	EXPECT_EQ(readv(fd, in, 4), 8);
	EXPECT(!memcmp(a, "abc", 3) && !memcmp(b, "defgh", 5));
	EXPECT_EQ(pwritev(fd, out, 3, 100), 8);
	EXPECT_EQ(preadv(fd, in, 4, 100), 8);
	EXPECT_EQ(preadv2(fd, in, 1, -1, 0), 3);
	EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 11);
	EXPECT_EQ(pwritev2(fd, out, 1, 0, RWF_APPEND), 3);
	EXPECT_EQ(lseek(fd, 0, SEEK_END), 111);
	/* A fault in the middle: what came before counts. */
	struct iovec bad[] = {{"12", 2}, {BAD_ADDR, 2}};
	ssize_t n = pwritev(fd, bad, 2, 0);
	EXPECT(n == 2 || (n == -1 && errno == EFAULT));
	close(fd);
}

static void append_many(void *arg)
{
	(void)arg;
	int fd = EXPECT_OK(open("log", O_WRONLY | O_APPEND));
	for (int i = 0; i < 200; i++)
		EXPECT_EQ(write(fd, "0123456789", 10), 10);
}

TEST(appends_never_overlap)
{
	close(test_file("log", 0));
	pid_t pid[3];
	for (int i = 0; i < 3; i++) {
		pid[i] = EXPECT_OK(fork());
		if (!pid[i]) {
			append_many(NULL);
			_exit(0);
		}
	}
	for (int i = 0; i < 3; i++) {
		int status;
		EXPECT_OK(waitpid(pid[i], &status, 0));
		EXPECT_EQ(status, 0);
	}
	struct stat st;
	EXPECT_OK(stat("log", &st));
	EXPECT_EQ(st.st_size, 6000);
	int fd = EXPECT_OK(open("log", O_RDWR | O_APPEND));
	EXPECT_EQ(pwrite(fd, "x", 1, 0), 1); /* Linux appends even so */
	EXPECT_OK(fstat(fd, &st));
	EXPECT_EQ(st.st_size, 6001);
	close(fd);
}

TEST(truncate_cuts_and_grows)
{
	char c = 1;
	struct stat st;
	int fd = test_file("f", 10000);
	EXPECT_OK(ftruncate(fd, 5000));
	EXPECT_OK(ftruncate(fd, 9000));
	EXPECT_EQ(pread(fd, &c, 1, 6000), 1);
	EXPECT_EQ(c, 0);
	EXPECT_OK(truncate("f", 3));
	EXPECT_OK(fstat(fd, &st));
	EXPECT_EQ(st.st_size, 3);
	close(EXPECT_OK(open("f", O_WRONLY | O_TRUNC)));
	EXPECT_OK(fstat(fd, &st));
	EXPECT_EQ(st.st_size, 0);
	EXPECT_ERRNO(truncate(".", 0), EISDIR);
	EXPECT_ERRNO(truncate("none", 0), ENOENT);
	EXPECT_OK(fallocate(fd, 0, 0, 4096));
	EXPECT_OK(fstat(fd, &st));
	EXPECT_EQ(st.st_size, 4096);
	EXPECT_OK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 4096, 4096));
	EXPECT_OK(fstat(fd, &st));
	EXPECT_EQ(st.st_size, 4096);
	EXPECT_OK(posix_fadvise(fd, 0, 0, POSIX_FADV_WILLNEED));
	EXPECT_EQ(posix_fadvise(fd, 0, -1, 0), EINVAL);
	EXPECT_OK(fsync(fd));
	EXPECT_OK(fdatasync(fd));
	EXPECT_OK(syncfs(fd));
	close(fd);
}

static volatile int xfsz;

static void on_xfsz(int sig)
{
	(void)sig;
	xfsz++;
}

TEST(file_size_limit_cuts_then_signals)
{
	int fd = test_file("f", 0);
	char buf[200] = "";
	struct rlimit lim = {100, RLIM_INFINITY};
	signal(SIGXFSZ, on_xfsz);
	EXPECT_OK(setrlimit(RLIMIT_FSIZE, &lim));
	EXPECT_EQ(write(fd, buf, 200), 100);
	EXPECT_EQ(xfsz, 0);
	EXPECT_ERRNO(write(fd, buf, 1), EFBIG);
	EXPECT_EQ(xfsz, 1);
	EXPECT_ERRNO(ftruncate(fd, 101), EFBIG);
	EXPECT_EQ(xfsz, 2);
	EXPECT_OK(ftruncate(fd, 100));
	close(fd);
}

TEST(sendfile_and_copy_file_range_move_bytes)
{
	char a[100], b[100];
	int in = test_file("in", 200000), out = test_file("out", 0);
	struct stat st;
	off_t off = 100;
	EXPECT_EQ(sendfile(out, in, &off, 1000), 1000);
	EXPECT_EQ(off, 1100);
	EXPECT_EQ(lseek(in, 0, SEEK_CUR), 0);
	EXPECT_EQ(sendfile(out, in, NULL, 300000), 200000);
	EXPECT_EQ(lseek(in, 0, SEEK_CUR), 200000);
	EXPECT_EQ(sendfile(out, in, NULL, 10), 0);
	EXPECT_EQ(pread(out, a, 100, 0), 100);
	EXPECT_EQ(pread(in, b, 100, 100), 100);
	EXPECT(!memcmp(a, b, 100));
	EXPECT_ERRNO(sendfile(out, in, BAD_ADDR, 1), EFAULT);
	off = 0;
	off_t to = 5;
	EXPECT_EQ(copy_file_range(in, &off, out, &to, 50, 0), 50);
	EXPECT_EQ(to, 55);
	EXPECT_ERRNO(copy_file_range(in, &off, out, &to, 50, 1), EINVAL);
	off = 0;
	to = 10;
	EXPECT_ERRNO(copy_file_range(in, &off, in, &to, 50, 0), EINVAL);
	EXPECT_OK(fstat(out, &st));
	EXPECT_EQ(st.st_size, 201000);
	int p[2];
	EXPECT_OK(pipe(p));
	off = 0;
	EXPECT_EQ(sendfile(p[1], in, &off, 100), 100);
	EXPECT_EQ(read(p[0], a, 100), 100);
	EXPECT_EQ(pread(in, b, 100, 0), 100);
	EXPECT(!memcmp(a, b, 100));
	EXPECT_ERRNO(copy_file_range(p[0], NULL, out, NULL, 1, 0), EINVAL);
}

TEST(writing_to_nobody_raises_sigpipe)
{
	int p[2];
	EXPECT_OK(pipe(p));
	close(p[0]);
	signal(SIGPIPE, on_xfsz);
	EXPECT_ERRNO(write(p[1], "x", 1), EPIPE);
	EXPECT_EQ(xfsz, 1);
	signal(SIGPIPE, SIG_IGN);
	EXPECT_ERRNO(write(p[1], "x", 1), EPIPE);
	EXPECT_ERRNO(lseek(p[1], 0, SEEK_SET), ESPIPE);
	EXPECT_ERRNO(pwrite(p[1], "x", 1, 0), ESPIPE);
	close(p[1]);
}

/* ---- descriptors ---- */

TEST(dup_family)
{
	int fd = test_file("f", 10);
	int lowest = test_lowest_fd();
	EXPECT_EQ(dup(fd), lowest);
	EXPECT_EQ(dup2(fd, lowest), lowest);
	EXPECT_EQ(dup2(fd, fd), fd);
	EXPECT_ERRNO(dup2(-1, 5), EBADF);
	EXPECT_ERRNO(dup2(fd, -1), EBADF);
	EXPECT_ERRNO(dup2(fd, 1 << 30), EBADF);
	EXPECT_ERRNO(dup3(fd, fd, 0), EINVAL);
	EXPECT_ERRNO(dup3(fd, 50, O_APPEND), EINVAL);
	EXPECT_EQ(dup3(fd, 50, O_CLOEXEC), 50);
	EXPECT_EQ(fcntl(50, F_GETFD), FD_CLOEXEC);
	EXPECT_EQ(fcntl(lowest, F_GETFD), 0);
	EXPECT_EQ(fcntl(fd, F_DUPFD, 60), 60);
	EXPECT_EQ(fcntl(fd, F_DUPFD_CLOEXEC, 60), 61);
	EXPECT_EQ(fcntl(61, F_GETFD), FD_CLOEXEC);
	EXPECT_ERRNO(fcntl(fd, F_DUPFD, -1), EINVAL);
	EXPECT_ERRNO(fcntl(fd, F_DUPFD, 1 << 30), EINVAL);
	EXPECT_ERRNO(close(-1), EBADF);
	EXPECT_OK(syscall(SYS_close_range, 60, 61, 0));
	EXPECT_ERRNO(fcntl(60, F_GETFD), EBADF);
	EXPECT_OK(syscall(SYS_close_range, lowest, lowest, CLOSE_RANGE_CLOEXEC));
	EXPECT_EQ(fcntl(lowest, F_GETFD), FD_CLOEXEC);
	EXPECT_OK(syscall(SYS_close_range, 50, ~0u, CLOSE_RANGE_UNSHARE));
	EXPECT_ERRNO(syscall(SYS_close_range, 5, 4, 0), EINVAL);
	EXPECT_ERRNO(syscall(SYS_close_range, 5, 6, 64), EINVAL);
	close(lowest);
	close(fd);
	EXPECT_ERRNO(close(fd), EBADF);
}

TEST(a_full_table_creates_nothing)
{
	struct rlimit lim;
	EXPECT_OK(chdir(test_dir()));
	EXPECT_OK(getrlimit(RLIMIT_NOFILE, &lim));
	lim.rlim_cur = (rlim_t)test_lowest_fd();
	EXPECT_OK(setrlimit(RLIMIT_NOFILE, &lim));
	EXPECT_ERRNO(open("new", O_CREAT | O_WRONLY, 0644), EMFILE);
	struct stat st;
	EXPECT_ERRNO(stat("new", &st), ENOENT);
	EXPECT_ERRNO(dup(0), EMFILE);
}

TEST(status_flags_belong_to_descriptions)
{
	int fd = test_file("f", 10), twin = dup(fd), n;
	EXPECT_OK(fcntl(fd, F_SETFL, O_APPEND | O_NONBLOCK | O_RDONLY | O_CREAT));
	EXPECT_EQ(fcntl(twin, F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK | O_CREAT),
		  O_RDWR | O_APPEND | O_NONBLOCK);
	n = 0;
	EXPECT_OK(ioctl(fd, FIONBIO, &n));
	EXPECT_EQ(fcntl(twin, F_GETFL) & O_NONBLOCK, 0);
	EXPECT_OK(ioctl(fd, FIOCLEX));
	EXPECT_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
	EXPECT_EQ(fcntl(twin, F_GETFD), 0);
	EXPECT_OK(ioctl(fd, FIONCLEX));
	EXPECT_EQ(fcntl(fd, F_GETFD), 0);
	EXPECT_OK(lseek(fd, 4, SEEK_SET));
	EXPECT_OK(ioctl(fd, FIONREAD, &n));
	EXPECT_EQ(n, 6);
	EXPECT_ERRNO(ioctl(fd, FIONREAD, BAD_ADDR), EFAULT);
	EXPECT_OK(fcntl(fd, F_SETOWN, getpid()));
	EXPECT_EQ(fcntl(fd, F_GETOWN), getpid());
	EXPECT_ERRNO(fcntl(fd, F_SETOWN, 1 << 22), ESRCH);
	EXPECT_OK(fcntl(fd, F_SETSIG, SIGUSR1));
	EXPECT_EQ(fcntl(fd, F_GETSIG), SIGUSR1);
	EXPECT_ERRNO(fcntl(fd, F_SETSIG, 65), EINVAL);
	close(fd);
	close(twin);
}

static void child_locks(void *arg)
{
	int fd = EXPECT_OK(open("f", O_RDWR));
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 5, .l_len = 10};
	EXPECT_ERRNO(fcntl(fd, F_SETLK, &l), EAGAIN);
	EXPECT_OK(fcntl(fd, F_GETLK, &l));
	EXPECT_EQ(l.l_type, F_WRLCK);
	EXPECT_EQ(l.l_start, 0);
	EXPECT_EQ(l.l_len, 10);
	EXPECT_EQ(l.l_pid, *(pid_t *)arg);
	l = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_END, .l_start = -5, .l_len = 5};
	EXPECT_OK(fcntl(fd, F_SETLK, &l));
	l = (struct flock){.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 9, .l_len = 1};
	EXPECT_ERRNO(fcntl(fd, F_SETLK, &l), EAGAIN);
}

TEST(record_locks_are_a_process_s)
{
	int fd = test_file("f", 100);
	pid_t me = getpid();
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 10};
	EXPECT_OK(fcntl(fd, F_SETLK, &l));
	EXPECT_EQ(test_child(child_locks, &me), 0);
	/* Closing any descriptor of the file releases them. */
	close(EXPECT_OK(open("f", O_RDONLY)));
	int other = EXPECT_OK(open("f", O_RDWR));
	struct flock ofd = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 10};
	EXPECT_OK(fcntl(other, F_OFD_SETLK, &ofd));
	EXPECT_ERRNO(fcntl(fd, F_SETLK, &l), EAGAIN);
	EXPECT_OK(fcntl(fd, F_GETLK, &l));
	EXPECT_EQ(l.l_pid, -1);
	ofd.l_pid = 5;
	EXPECT_ERRNO(fcntl(other, F_OFD_SETLK, &ofd), EINVAL);
	l.l_type = 9;
	EXPECT_ERRNO(fcntl(fd, F_SETLK, &l), EINVAL);
	EXPECT_ERRNO(fcntl(fd, F_SETLK, BAD_ADDR), EFAULT);
	close(other);
	l.l_type = F_WRLCK;
	EXPECT_OK(fcntl(fd, F_SETLK, &l));
	close(fd);
}

static void hold_then_go(void *arg)
{
	int *ready = arg;
	int fd = EXPECT_OK(open("f", O_RDWR));
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	EXPECT_OK(fcntl(fd, F_SETLK, &l));
	EXPECT_OK(flock(fd, LOCK_EX));
	EXPECT_EQ(write(ready[1], "x", 1), 1);
	test_sleep_ms(100);
}

TEST(waiting_for_locks)
{
	int p[2];
	char c;
	int fd = test_file("f", 10);
	EXPECT_OK(pipe(p));
	pid_t pid = EXPECT_OK(fork());
	if (!pid) {
		hold_then_go(p);
		_exit(0);
	}
	EXPECT_EQ(read(p[0], &c, 1), 1);
	EXPECT_ERRNO(flock(fd, LOCK_SH | LOCK_NB), EWOULDBLOCK);
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	EXPECT_OK(fcntl(fd, F_SETLKW, &l));
	EXPECT_OK(flock(fd, LOCK_SH));
	EXPECT_ERRNO(flock(fd, 0), EINVAL);
	EXPECT_ERRNO(flock(-1, LOCK_SH), EBADF);
	EXPECT_OK(waitpid(pid, NULL, 0));
	close(fd);
}

TEST(fifos_wait_for_each_other)
{
	EXPECT_OK(chdir(test_dir()));
	EXPECT_OK(mkfifo("p", 0644));
	EXPECT_ERRNO(open("p", O_WRONLY | O_NONBLOCK), ENXIO);
	close(EXPECT_OK(open("p", O_RDONLY | O_NONBLOCK)));
	pid_t pid = EXPECT_OK(fork());
	if (!pid) {
		int wr = EXPECT_OK(open("p", O_WRONLY));
		EXPECT_EQ(write(wr, "hello", 5), 5);
		_exit(0);
	}
	char buf[8];
	int rd = EXPECT_OK(open("p", O_RDONLY));
	EXPECT_EQ(read(rd, buf, 8), 5);
	EXPECT_EQ(read(rd, buf, 8), 0);
	EXPECT_OK(waitpid(pid, NULL, 0));
	close(rd);
}

/* A writer that fills the pipe while a read is being copied must hear of the room it leaves. */
TEST(large_pipe_writes_never_stall)
{
	static char buf[131072];
	int p[2];
	EXPECT_OK(pipe(p));
	pid_t pid = EXPECT_OK(fork());
	if (!pid) {
		close(p[0]);
		for (int i = 0; i < 100; i++)
			EXPECT_EQ(write(p[1], buf, sizeof(buf)), sizeof(buf));
		_exit(0);
	}
	close(p[1]);
	size_t total = 0;
	ssize_t n;
	while ((n = EXPECT_OK(read(p[0], buf, 16384))) > 0)
		total += (size_t)n;
	EXPECT_EQ(total, 100 * sizeof(buf));
	EXPECT_OK(waitpid(pid, NULL, 0));
}
