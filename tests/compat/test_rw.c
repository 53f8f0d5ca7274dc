/* Bytes in and out of files: read, write, their vector and positioned forms, lseek, and copies. */
#include "tests/compat/compat.h"

#include <limits.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>

static unsigned char pattern(size_t at)
{
	return (unsigned char)(at * 31 + (at >> 12));
}

static void expect_pattern(const unsigned char *buf, size_t n, size_t at)
{
	for (size_t i = 0; i < n; i++)
		if (buf[i] != pattern(at + i))
			FAIL("byte %zu differs", at + i);
}

/* Two pages of which the second is missing. */
static char *half_page(void)
{
	char *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	EXPECT(p != MAP_FAILED);
	EXPECT_OK(munmap(p + 4096, 4096));
	return p;
}

TEST(rw_hostile_sizes)
{
	int fd = test_file("f", 100);
	char c;
	EXPECT_ERRNO(read(fd, (void *)-4096L, 100), EFAULT);
	EXPECT_ERRNO(syscall(SYS_read, fd, &c, (size_t)-1), EFAULT);
	EXPECT_ERRNO(syscall(SYS_write, fd, BAD_ADDR, (size_t)LONG_MAX), EFAULT);
	EXPECT_EQ(read(fd, BAD_ADDR, 0), 0);
	EXPECT_EQ(write(fd, BAD_ADDR, 0), 0);
	EXPECT_EQ(pread(fd, BAD_ADDR, 10, 1000), 0);
	EXPECT_ERRNO(pread(fd, &c, 1, LONG_MIN), EINVAL);
	EXPECT_ERRNO(pwrite(fd, &c, 1, LONG_MAX), EINVAL);
	EXPECT_EQ(pread(fd, &c, 1, LONG_MAX - 1), 0);
	EXPECT_ERRNO(lseek(fd, LONG_MAX, SEEK_END), EINVAL);
	EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 0);
	EXPECT_ERRNO(syscall(SYS_lseek, fd, 0, 5), EINVAL);
	EXPECT_ERRNO(syscall(SYS_lseek, fd, 0, -1), EINVAL);
	struct iovec iov[2] = {{&c, SSIZE_MAX}, {&c, 1}};
	EXPECT_ERRNO(syscall(SYS_preadv, fd, &iov[1], 1, -1L, -1L), EINVAL);
	EXPECT_ERRNO(writev(fd, BAD_ADDR, 2), EFAULT);
	iov[0].iov_len = (size_t)SSIZE_MAX + 1;
	EXPECT_ERRNO(writev(fd, iov, 1), EINVAL);
}

TEST(read_into_a_half_mapped_buffer_gives_what_fits)
{
	int fd = test_file("f", 8192);
	char *p = half_page();
	ssize_t n = pread(fd, p + 4096 - 100, 200, 0);
	/* Linux copies what it can of a page cache page. */
	EXPECT_EQ(n, 100);
	expect_pattern((unsigned char *)p + 3996, 100, 0);
	EXPECT_EQ(read(fd, p + 4096 - 100, 200), 100);
	EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 100);
	EXPECT_ERRNO(read(fd, p + 4096, 1), EFAULT);
	EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 100);
}

TEST(write_from_a_half_mapped_buffer_changes_no_more_than_it_says)
{
	int fd = test_file("f", 0);
	char *p = half_page();
	struct stat st;
	memset(p, 'x', 4096);
	ssize_t n = write(fd, p + 4096 - 100, 200);
	EXPECT(n == 100 || (n == -1 && errno == EFAULT));
	EXPECT_OK(fstat(fd, &st));
	EXPECT_EQ(st.st_size, n < 0 ? 0 : n);
	EXPECT_EQ(lseek(fd, 0, SEEK_CUR), st.st_size);
}

TEST(read_into_read_only_memory_is_efault)
{
	int fd = test_file("f", 100);
	char *p = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	EXPECT_ERRNO(read(fd, p, 10), EFAULT);
	EXPECT_OK(mprotect(p, 4096, PROT_READ | PROT_WRITE));
	EXPECT_EQ(read(fd, p, 10), 10);
	EXPECT_OK(mprotect(p, 4096, PROT_NONE));
	EXPECT_ERRNO(read(fd, p, 10), EFAULT);
	EXPECT_ERRNO(write(fd, p, 10), EFAULT);
}

TEST(rw_large_transfers_are_whole)
{
	const size_t size = 3 << 20;
	unsigned char *buf = malloc(size);
	int fd = test_file("f", size);
	EXPECT_EQ(read(fd, buf, size), size);
	expect_pattern(buf, size, 0);
	EXPECT_EQ(pread(fd, buf, size, 1234567), size - 1234567);
	expect_pattern(buf, size - 1234567, 1234567);
	EXPECT_EQ(lseek(fd, 777, SEEK_SET), 777);
	EXPECT_EQ(read(fd, buf, 100001), 100001);
	expect_pattern(buf, 100001, 777);
	EXPECT_EQ(pwrite(fd, buf, 100001, size), 100001);
	struct stat st;
	EXPECT_OK(fstat(fd, &st));
	EXPECT_EQ(st.st_size, size + 100001);
}

TEST(writes_across_page_borders_are_exact)
{
	static unsigned char model[40000], buf[40000], out[9000];
	int fd = test_file("f", 0);
	size_t end = 0;
	unsigned rnd = 12345;
	for (int i = 0; i < 300; i++) {
		rnd = rnd * 1103515245 + 12345;
		size_t at = (rnd >> 8) % 30000, n = (rnd >> 4) % sizeof(out);
		memset(out, i + 1, n);
		EXPECT_EQ(pwrite(fd, out, n, at), n);
		memcpy(model + at, out, n);
		end = n && at + n > end ? at + n : end;
		if (i % 50 == 49) {
			size_t cut = (rnd >> 12) % 20000;
			EXPECT_OK(ftruncate(fd, cut));
			memset(model + cut, 0, sizeof(model) - cut);
			end = cut;
		}
	}
	EXPECT_EQ(pread(fd, buf, sizeof(buf), 0), end);
	EXPECT(!memcmp(buf, model, end));
}

TEST(vectors_with_many_pieces)
{
	struct iovec iov[1024];
	static unsigned char buf[1024 * 7];
	int fd = test_file("f", 10000);
	for (int i = 0; i < 1024; i++)
		iov[i] = (struct iovec){buf + i * 7, 7};
	EXPECT_EQ(readv(fd, iov, 1024), 7168);
	expect_pattern(buf, 7168, 0);
	EXPECT_EQ(pwritev(fd, iov, 1024, 1), 7168);
	EXPECT_EQ(preadv(fd, iov, 1024, 1), 7168);
	expect_pattern(buf, 7168, 0);
	EXPECT_EQ(readv(fd, iov, 1024), 10000 - 7168);
	EXPECT_EQ(readv(fd, iov, 1024), 0);
}

TEST(readv_stops_at_a_bad_piece)
{
	char a[4] = "", b[4];
	int fd = test_file("f", 100);
	struct iovec iov[3] = {{a, 4}, {BAD_ADDR, 4}, {b, 4}};
	EXPECT_EQ(readv(fd, iov, 3), 4);
	EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 4);
	EXPECT_ERRNO(readv(fd, iov + 1, 2), EFAULT);
	EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 4);
	iov[1].iov_len = 0;
	EXPECT_EQ(readv(fd, iov, 3), 8);
}

TEST(preadv2_and_pwritev2_flags)
{
	char c = 'x';
	struct iovec iov = {&c, 1};
	int fd = test_file("f", 100);
	EXPECT_EQ(preadv2(fd, &iov, 1, 5, RWF_HIPRI), 1);
	EXPECT_EQ(pwritev2(fd, &iov, 1, 0, RWF_DSYNC | RWF_SYNC), 1);
	EXPECT_ERRNO(preadv2(fd, &iov, 1, -2, 0), EINVAL);
	EXPECT_ERRNO(pwritev2(fd, &iov, 1, -2, 0), EINVAL);
	EXPECT_ERRNO(pwritev2(fd, &iov, 1, 0, 0x10000), EOPNOTSUPP);
	/* -1 is "at the position, and move it". */
	EXPECT_EQ(lseek(fd, 10, SEEK_SET), 10);
	EXPECT_EQ(pwritev2(fd, &iov, 1, -1, 0), 1);
	EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 11);
	EXPECT_EQ(pwritev2(fd, &iov, 1, -1, RWF_APPEND), 1);
	EXPECT_EQ(lseek(fd, 0, SEEK_END), 101);
	int p[2];
	EXPECT_OK(pipe(p));
	EXPECT_ERRNO(preadv2(p[0], &iov, 1, 0, 0), ESPIPE);
	EXPECT_ERRNO(preadv2(p[0], &iov, 1, -1, RWF_NOWAIT), EAGAIN);
	EXPECT_EQ(pwritev2(p[1], &iov, 1, -1, 0), 1);
	EXPECT_EQ(preadv2(p[0], &iov, 1, -1, RWF_NOWAIT), 1);
}

TEST(lseek_moves_as_told)
{
	int fd = test_file("f", 100);
	EXPECT_EQ(lseek(fd, 10, SEEK_SET), 10);
	EXPECT_EQ(lseek(fd, 5, SEEK_CUR), 15);
	EXPECT_EQ(lseek(fd, -15, SEEK_CUR), 0);
	EXPECT_ERRNO(lseek(fd, -1, SEEK_CUR), EINVAL);
	EXPECT_EQ(lseek(fd, 1L << 40, SEEK_SET), 1L << 40);
	EXPECT_ERRNO(lseek(fd, -101, SEEK_END), EINVAL);
	EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 1L << 40);
	EXPECT_EQ(lseek(fd, 50, SEEK_DATA), 50);
	EXPECT_EQ(lseek(fd, 50, SEEK_HOLE), 100);
	EXPECT_ERRNO(lseek(fd, 101, SEEK_HOLE), ENXIO);
	EXPECT_ERRNO(lseek(fd, -1, SEEK_DATA), ENXIO);
	int p[2];
	EXPECT_OK(pipe(p));
	EXPECT_ERRNO(lseek(p[0], 0, SEEK_CUR), ESPIPE);
}

TEST(holes_read_as_zeros_and_do_not_count)
{
	struct stat st;
	char buf[100];
	int fd = test_file("f", 0);
	EXPECT_EQ(pwrite(fd, "end", 3, 10 << 20), 3);
	EXPECT_OK(fstat(fd, &st));
	EXPECT_EQ(st.st_size, (10 << 20) + 3);
	EXPECT(st.st_blocks < 2048);
	EXPECT_EQ(pread(fd, buf, 100, 5 << 20), 100);
	for (int i = 0; i < 100; i++)
		EXPECT_EQ(buf[i], 0);
	off_t data = EXPECT_OK(lseek(fd, 0, SEEK_DATA));
	EXPECT(data == 0 || data == 10 << 20);
	EXPECT_EQ(pread(fd, buf, 100, 10 << 20), 3);
	EXPECT(!memcmp(buf, "end", 3));
}

TEST(fallocate_punches_and_zeroes)
{
	static unsigned char buf[16384];
	struct stat st;
	int fd = test_file("f", 16384);
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096))
		FAIL("punch: %s", strerror(errno));
	EXPECT_EQ(pread(fd, buf, 16384, 0), 16384);
	expect_pattern(buf, 4096, 0);
	for (int i = 4096; i < 8192; i++)
		EXPECT_EQ(buf[i], 0);
	expect_pattern(buf + 8192, 8192, 8192);
	EXPECT_OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 100, 200));
	EXPECT_EQ(pread(fd, buf, 400, 0), 400);
	expect_pattern(buf, 100, 0);
	EXPECT_EQ(buf[100] + buf[299], 0);
	expect_pattern(buf + 300, 100, 300);
	EXPECT_ERRNO(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 10), EOPNOTSUPP);
	EXPECT_ERRNO(fallocate(fd, 0, -1, 10), EINVAL);
	EXPECT_ERRNO(fallocate(fd, 0, 0, -10), EINVAL);
	EXPECT_ERRNO(fallocate(fd, 0, LONG_MAX, 10), EFBIG);
	EXPECT_OK(fstat(fd, &st));
	EXPECT_EQ(st.st_size, 16384);
	int p[2];
	EXPECT_OK(pipe(p));
	EXPECT_ERRNO(fallocate(p[1], 0, 0, 10), ESPIPE);
	int d = EXPECT_OK(open(".", O_RDONLY));
	EXPECT_ERRNO(fallocate(d, 0, 0, 10), EBADF);
}

TEST(append_moves_the_position_to_the_end)
{
	char c;
	close(test_file("f", 100));
	int fd = EXPECT_OK(open("f", O_RDWR | O_APPEND));
	EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 0);
	EXPECT_EQ(read(fd, &c, 1), 1);
	EXPECT_EQ((unsigned char)c, pattern(0));
	EXPECT_EQ(write(fd, "x", 1), 1);
	EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 101);
	EXPECT_EQ(lseek(fd, 5, SEEK_SET), 5);
	EXPECT_OK(fcntl(fd, F_SETFL, 0));
	EXPECT_EQ(write(fd, "y", 1), 1);
	EXPECT_EQ(lseek(fd, 0, SEEK_END), 101);
	EXPECT_EQ(pread(fd, &c, 1, 5), 1);
	EXPECT_EQ(c, 'y');
}

TEST(position_is_shared_by_fork_not_by_open)
{
	int fd = test_file("f", 100);
	pid_t pid = EXPECT_OK(fork());
	if (!pid) {
		char buf[10];
		EXPECT_EQ(read(fd, buf, 10), 10);
		_exit(0);
	}
	EXPECT_OK(waitpid(pid, NULL, 0));
	EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 10);
}

/* ---- copies inside the kernel ---- */

TEST(sendfile_hostile_arguments)
{
	int in = test_file("in", 1000), out = test_file("out", 0);
	off_t off = -1;
	EXPECT_ERRNO(sendfile(-1, in, NULL, 1), EBADF);
	EXPECT_ERRNO(sendfile(out, -1, NULL, 1), EBADF);
	EXPECT_ERRNO(sendfile(out, in, &off, 1), EINVAL);
	EXPECT_ERRNO(sendfile(out, in, BAD_ADDR, 1), EFAULT);
	EXPECT_EQ(sendfile(out, in, NULL, 0), 0);
	int wr = EXPECT_OK(open("in", O_WRONLY)), rd = EXPECT_OK(open("out", O_RDONLY));
	EXPECT_ERRNO(sendfile(out, wr, NULL, 1), EBADF);
	EXPECT_ERRNO(sendfile(rd, in, NULL, 1), EBADF);
	int app = EXPECT_OK(open("out", O_WRONLY | O_APPEND));
	EXPECT_ERRNO(sendfile(app, in, NULL, 1), EINVAL);
	int p[2];
	EXPECT_OK(pipe(p));
	off = 0;
	EXPECT_ERRNO(sendfile(out, p[0], &off, 1), ESPIPE);
	int d = EXPECT_OK(open(".", O_RDONLY));
	EXPECT_ERRNO(sendfile(out, d, NULL, 1), EINVAL);
}

TEST(sendfile_to_a_full_nonblocking_pipe_is_short)
{
	int in = test_file("in", 200000), p[2];
	off_t off = 0;
	EXPECT_OK(pipe2(p, O_NONBLOCK));
	ssize_t n = EXPECT_OK(sendfile(p[1], in, &off, 200000));
	EXPECT(n > 0 && n <= 65536);
	EXPECT_EQ(off, n);
	while (sendfile(p[1], in, &off, 4096) > 0)
		continue;
	EXPECT_EQ(errno, EAGAIN);
	off_t sent = off, got = 0;
	unsigned char buf[4096];
	ssize_t r;
	while ((r = read(p[0], buf, sizeof(buf))) > 0) {
		expect_pattern(buf, (size_t)r, (size_t)got);
		got += r;
	}
	EXPECT_EQ(got, sent);
	close(p[0]);
	signal(SIGPIPE, SIG_IGN);
	EXPECT_ERRNO(sendfile(p[1], in, NULL, 10), EPIPE);
	EXPECT_EQ(lseek(in, 0, SEEK_CUR), 0);
}

TEST(sendfile_to_a_socket)
{
	int in = test_file("in", 300000), s[2];
	EXPECT_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	pid_t pid = EXPECT_OK(fork());
	if (!pid) {
		close(s[0]);
		unsigned char buf[5000];
		size_t at = 0;
		ssize_t n;
		while ((n = read(s[1], buf, sizeof(buf))) > 0) {
			expect_pattern(buf, (size_t)n, at);
			at += (size_t)n;
		}
		EXPECT_EQ(at, 300000);
		_exit(0);
	}
	close(s[1]);
	size_t left = 300000;
	while (left)
		left -= EXPECT_OK(sendfile(s[0], in, NULL, left));
	close(s[0]);
	int status;
	EXPECT_OK(waitpid(pid, &status, 0));
	EXPECT_EQ(status, 0);
}

TEST(copy_file_range_rules)
{
	int in = test_file("in", 10000), out = test_file("out", 0);
	off_t a = 0, b = 0;
	unsigned char buf[100];
	EXPECT_ERRNO(copy_file_range(in, NULL, out, NULL, 1, 7), EINVAL);
	EXPECT_ERRNO(copy_file_range(-1, NULL, out, NULL, 1, 0), EBADF);
	EXPECT_ERRNO(copy_file_range(in, BAD_ADDR, out, NULL, 1, 0), EFAULT);
	a = -5;
	EXPECT_ERRNO(copy_file_range(in, &a, out, NULL, 1, 0), EINVAL);
	a = 20000;
	EXPECT_EQ(copy_file_range(in, &a, out, NULL, 100, 0), 0);
	EXPECT_EQ(copy_file_range(in, NULL, out, NULL, 4000, 0), 4000);
	EXPECT_EQ(lseek(in, 0, SEEK_CUR), 4000);
	EXPECT_EQ(lseek(out, 0, SEEK_CUR), 4000);
	a = 9950;
	b = 8000;
	EXPECT_EQ(copy_file_range(in, &a, out, &b, 1000, 0), 50);
	EXPECT_EQ(b, 8050);
	EXPECT_EQ(pread(out, buf, 50, 8000), 50);
	expect_pattern(buf, 50, 9950);
	int app = EXPECT_OK(open("out", O_WRONLY | O_APPEND));
	EXPECT_ERRNO(copy_file_range(in, NULL, app, NULL, 1, 0), EBADF);
	int d = EXPECT_OK(open(".", O_RDONLY));
	EXPECT_ERRNO(copy_file_range(d, NULL, out, NULL, 1, 0), EISDIR);
	/* Apart in one file is fine. */
	a = 0;
	b = 10000;
	EXPECT_EQ(copy_file_range(in, &a, in, &b, 1000, 0), 1000);
	EXPECT_EQ(pread(in, buf, 100, 10500), 100);
	expect_pattern(buf, 100, 500);
}

TEST(splice_and_tee_move_through_pipes)
{
	int in = test_file("in", 1000), out = test_file("out", 0), p[2], q[2];
	unsigned char buf[1000];
	loff_t off = 100;
	EXPECT_OK(pipe(p));
	EXPECT_OK(pipe(q));
	EXPECT_ERRNO(splice(in, NULL, out, NULL, 10, 0), EINVAL);
	EXPECT_ERRNO(splice(in, NULL, p[1], &off, 10, 0), ESPIPE);
	EXPECT_ERRNO(splice(in, NULL, p[1], NULL, 10, 0x100), EINVAL);
	EXPECT_EQ(splice(in, &off, p[1], NULL, 300, 0), 300);
	EXPECT_EQ(off, 400);
	EXPECT_EQ(tee(p[0], q[1], 300, 0), 300);
	EXPECT_EQ(splice(p[0], NULL, out, NULL, 1000, 0), 300);
	EXPECT_EQ(read(q[0], buf, 1000), 300);
	expect_pattern(buf, 300, 100);
	EXPECT_EQ(pread(out, buf, 1000, 0), 300);
	expect_pattern(buf, 300, 100);
	EXPECT_ERRNO(splice(p[0], NULL, out, NULL, 10, SPLICE_F_NONBLOCK), EAGAIN);
	close(p[1]);
	EXPECT_EQ(splice(p[0], NULL, out, NULL, 10, 0), 0);
	EXPECT_ERRNO(tee(in, q[1], 1, 0), EINVAL);
}

static int copy_in_fd, copy_out_fds[4];

/* Every byte goes to exactly one of the outputs. */
static void *send_share(void *arg)
{
	long n, all = 0;

	while ((n = (long)sendfile(*(int *)arg, copy_in_fd, NULL, 5000)) > 0)
		all += n;
	return (void *)all;
}

TEST(sendfile_by_threads_sends_every_byte)
{
	pthread_t t[4];
	void *n;
	long all = 0;

	copy_in_fd = test_file("in", 1 << 20);
	for (int i = 0; i < 4; i++) {
		char name[8];
		snprintf(name, sizeof(name), "out%d", i);
		copy_out_fds[i] = test_file(name, 0);
		EXPECT(!pthread_create(&t[i], NULL, send_share, &copy_out_fds[i]));
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(t[i], &n);
		struct stat st;
		EXPECT_OK(fstat(copy_out_fds[i], &st));
		EXPECT_EQ(st.st_size, (long)n);
		all += (long)n;
	}
	/* Linux takes the position without a lock: a piece may be sent twice, none is left out. */
	EXPECT(all >= 1 << 20);
	EXPECT(lseek(copy_in_fd, 0, SEEK_CUR) <= 1 << 20);
}

TEST(copies_that_end_early_leave_the_positions_there)
{
	int in = test_file("in", 100000), p[2];
	int64_t off = 10;

	EXPECT_OK(pipe2(p, O_NONBLOCK));
	int room = (int)EXPECT_OK(fcntl(p[1], F_GETPIPE_SZ));
	EXPECT_OK(lseek(in, 0, SEEK_SET));
	long n = EXPECT_OK(sendfile(p[1], in, NULL, 100000));
	EXPECT(n > 0 && n <= room);
	EXPECT_EQ(lseek(in, 0, SEEK_CUR), n);
	EXPECT_ERRNO(sendfile(p[1], in, NULL, 100000), EAGAIN);
	EXPECT_EQ(lseek(in, 0, SEEK_CUR), n);
	EXPECT_ERRNO(sendfile(p[1], in, &off, 100000), EAGAIN);
	EXPECT_EQ(off, 10);
	int out = test_file("out", 0);
	EXPECT_OK(lseek(in, 99990, SEEK_SET));
	EXPECT_EQ(copy_file_range(in, NULL, out, NULL, 100, 0), 10);
	EXPECT_EQ(lseek(in, 0, SEEK_CUR), 100000);
	EXPECT_EQ(lseek(out, 0, SEEK_CUR), 10);
	off = 5;
	EXPECT_EQ(copy_file_range(in, &off, out, NULL, 100, 0), 100);
	EXPECT_EQ(off, 105);
	EXPECT_EQ(lseek(in, 0, SEEK_CUR), 100000);
	EXPECT_EQ(lseek(out, 0, SEEK_CUR), 110);
}
