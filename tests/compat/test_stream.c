/*
 * Files that are read and written in large pieces, from end to end: whoever moves the bytes, they
 * are those of the file, and positions and sizes are what they would be piece by piece.
 */
#include "tests/compat/compat.h"
#include "tests/compat/play.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/time.h>

#define PIECE (64 << 10)
#define PIECES 48
#define TOTAL ((size_t)PIECE * PIECES)

static unsigned char pattern(size_t at)
{
	return (unsigned char)(at * 31 + (at >> 12));
}

static unsigned char *new_buffer(size_t n)
{
	unsigned char *p =
		mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	EXPECT(p != MAP_FAILED);
	return p;
}

static void fill(unsigned char *p, size_t n, size_t at)
{
	for (size_t i = 0; i < n; i++)
		p[i] = pattern(at + i);
}

static void check(const unsigned char *p, size_t n, size_t at)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] != pattern(at + i))
			FAIL("byte %zu differs", at + i);
}

static off_t size_of(int fd)
{
	struct stat st;

	EXPECT_OK(fstat(fd, &st));
	return st.st_size;
}

/* Written through an open that may not read. */
static void write_all(const char *name, unsigned char *buf)
{
	int fd = EXPECT_OK(open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600));

	for (size_t at = 0; at < TOTAL; at += PIECE) {
		fill(buf, PIECE, at);
		EXPECT_EQ(write(fd, buf, PIECE), PIECE);
		EXPECT_EQ(size_of(fd), (off_t)(at + PIECE));
	}
	EXPECT_ERRNO(read(fd, buf, PIECE), EBADF);
	EXPECT_OK(close(fd));
}

static void read_all(int fd, unsigned char *buf)
{
	for (size_t at = 0; at < TOTAL; at += PIECE) {
		EXPECT_EQ(read(fd, buf, PIECE), PIECE);
		check(buf, PIECE, at);
		EXPECT_EQ(lseek(fd, 0, SEEK_CUR), (off_t)(at + PIECE));
	}
}

TEST(stream_is_read_as_it_was_written)
{
	test_dir();
	unsigned char *buf = new_buffer(TOTAL + PIECE);

	write_all("f", buf);
	int fd = EXPECT_OK(open("f", O_RDONLY));
	read_all(fd, buf);
	EXPECT_EQ(read(fd, buf, PIECE), 0);
	EXPECT_OK(lseek(fd, 100, SEEK_SET));
	EXPECT_EQ(read(fd, buf, TOTAL + PIECE), (ssize_t)TOTAL - 100);
	check(buf, TOTAL - 100, 100);
	EXPECT_EQ(read(fd, buf, PIECE), 0);
	EXPECT_EQ(lseek(fd, 0, SEEK_CUR), (off_t)TOTAL);
}

TEST(stream_pieces_larger_than_any_buffer)
{
	test_dir();
	const size_t n = 9 << 20;
	unsigned char *buf = new_buffer(n), *back = new_buffer(n);
	int fd = EXPECT_OK(open("f", O_RDWR | O_CREAT, 0600));

	fill(buf, n, 0);
	EXPECT_EQ(write(fd, buf, n), (ssize_t)n);
	EXPECT_EQ(pwrite(fd, buf, n, 3), (ssize_t)n);
	EXPECT_EQ(size_of(fd), (off_t)n + 3);
	EXPECT_EQ(pread(fd, back, n, 3), (ssize_t)n);
	EXPECT(!memcmp(buf, back, n));
	EXPECT_EQ(lseek(fd, 0, SEEK_CUR), (off_t)n);
}

TEST(stream_holes_are_zeros_and_stay_holes)
{
	test_dir();
	unsigned char *buf = new_buffer(PIECE);
	int fd = EXPECT_OK(open("f", O_RDWR | O_CREAT, 0600));
	struct stat st;

	fill(buf, PIECE, 0);
	EXPECT_EQ(pwrite(fd, buf, PIECE, 64 << 20), PIECE);
	for (off_t at = 0; at < 8 << 20; at += PIECE) {
		EXPECT_EQ(pread(fd, buf, PIECE, at), PIECE);
		EXPECT(!buf[0] && !memcmp(buf, buf + 1, PIECE - 1));
	}
	EXPECT_OK(fstat(fd, &st));
	EXPECT(st.st_blocks < 4096);
	EXPECT_EQ(st.st_size, (64 << 20) + PIECE);
}

TEST(stream_grows_and_shrinks_by_other_opens)
{
	test_dir();
	unsigned char *buf = new_buffer(PIECE);

	write_all("f", buf);
	int fd = EXPECT_OK(open("f", O_RDONLY)), other = EXPECT_OK(open("f", O_RDWR));
	for (int i = 0; i < 50; i++) {
		EXPECT_OK(ftruncate(other, TOTAL));
		EXPECT_OK(lseek(fd, 0, SEEK_SET));
		EXPECT_EQ(read(fd, buf, PIECE), PIECE);
		EXPECT_OK(ftruncate(other, PIECE + 100));
		EXPECT_EQ(read(fd, buf, PIECE), 100);
		EXPECT_EQ(read(fd, buf, PIECE), 0);
		EXPECT_OK(ftruncate(other, PIECE * 2));
		EXPECT_EQ(read(fd, buf, PIECE), PIECE - 100);
		EXPECT_EQ(buf[0], 0);
		fill(buf, PIECE, 0);
		EXPECT_EQ(pwrite(other, buf, PIECE, PIECE * 2), PIECE);
		EXPECT_EQ(read(fd, buf, PIECE), PIECE);
		check(buf, PIECE, 0);
		EXPECT_EQ(size_of(fd), PIECE * 3);
	}
}

TEST(stream_bad_memory)
{
	test_dir();
	unsigned char *p = new_buffer(PIECE * 2);

	write_all("f", p);
	int fd = EXPECT_OK(open("f", O_RDWR));
	EXPECT_OK(munmap(p + PIECE, PIECE));
	for (int i = 0; i < 20; i++) {
		EXPECT_OK(lseek(fd, 0, SEEK_SET));
		EXPECT_EQ(read(fd, p, PIECE), PIECE);
		EXPECT_ERRNO(read(fd, BAD_ADDR, PIECE), EFAULT);
		EXPECT_ERRNO(write(fd, BAD_ADDR, PIECE), EFAULT);
		EXPECT_ERRNO(read(fd, p + PIECE, PIECE / 2), EFAULT);
		EXPECT_EQ(lseek(fd, 0, SEEK_CUR), PIECE);
		EXPECT_EQ(read(fd, p + 4096, PIECE), PIECE - 4096);
		check(p + 4096, PIECE - 4096, PIECE);
		EXPECT_EQ(lseek(fd, 0, SEEK_CUR), PIECE * 2 - 4096);
		EXPECT_OK(lseek(fd, (off_t)TOTAL - 10, SEEK_SET));
		ssize_t n = write(fd, p + 4096, PIECE);
		EXPECT(n > 0 && n <= PIECE - 4096);
		EXPECT_EQ(lseek(fd, 0, SEEK_CUR), (off_t)TOTAL - 10 + n);
		EXPECT_EQ(size_of(fd), (off_t)TOTAL - 10 + n);
		EXPECT_OK(ftruncate(fd, TOTAL));
		EXPECT_EQ(pread(fd, p, 20, (off_t)TOTAL - 10), 10);
		fill(p, 10, TOTAL - 10);
		EXPECT_EQ(pwrite(fd, p, 10, (off_t)TOTAL - 10), 10);
	}
	/* Read-only memory is as good for writing from as any. */
	EXPECT_OK(mprotect(p, PIECE, PROT_READ));
	EXPECT_EQ(pwrite(fd, p, PIECE, 0), PIECE);
	EXPECT_ERRNO(pread(fd, p, PIECE, 0), EFAULT);
}

TEST(stream_position_is_shared_with_children)
{
	test_dir();
	unsigned char *buf = new_buffer(PIECE);
	int status;

	write_all("f", buf);
	int fd = EXPECT_OK(open("f", O_RDONLY));
	EXPECT_EQ(read(fd, buf, PIECE), PIECE);
	for (size_t at = PIECE; at < PIECE * 11UL; at += PIECE * 2) {
		pid_t pid = fork();
		if (!pid) {
			EXPECT_EQ(read(fd, buf, PIECE), PIECE);
			check(buf, PIECE, at);
			_exit(0);
		}
		EXPECT_EQ(waitpid(pid, &status, 0), pid);
		EXPECT_EQ(status, 0);
		EXPECT_EQ(read(fd, buf, PIECE), PIECE);
		check(buf, PIECE, at + PIECE);
	}
	int two = EXPECT_OK(dup(fd));
	EXPECT_EQ(read(two, buf, PIECE), PIECE);
	check(buf, PIECE, PIECE * 11UL);
	EXPECT_EQ(read(fd, buf, PIECE), PIECE);
	check(buf, PIECE, PIECE * 12UL);
}

TEST(stream_files_by_the_dozen)
{
	test_dir();
	unsigned char *buf = new_buffer(PIECE);
	int fd[24];

	for (int i = 0; i < 24; i++) {
		char name[8];
		snprintf(name, sizeof(name), "f%d", i);
		fd[i] = EXPECT_OK(open(name, O_RDWR | O_CREAT, 0600));
		for (int k = 0; k < 4; k++) {
			memset(buf, i * 4 + k, PIECE);
			EXPECT_EQ(write(fd[i], buf, PIECE), PIECE);
		}
	}
	for (int k = 0; k < 4; k++)
		for (int i = 0; i < 24; i++) {
			EXPECT_EQ(pread(fd[i], buf, PIECE, k * PIECE), PIECE);
			EXPECT_EQ(buf[0], i * 4 + k);
			EXPECT(!memcmp(buf, buf + 1, PIECE - 1));
		}
	/* Closed, removed, and others under their names and numbers. */
	for (int round = 0; round < 3; round++)
		for (int i = 0; i < 24; i++) {
			char name[8];
			snprintf(name, sizeof(name), "f%d", i);
			EXPECT_OK(close(fd[i]));
			EXPECT_OK(unlink(name));
			fd[i] = EXPECT_OK(open(name, O_RDWR | O_CREAT | O_EXCL, 0600));
			memset(buf, 100 + i + round, PIECE);
			EXPECT_EQ(write(fd[i], buf, PIECE), PIECE);
			EXPECT_EQ(pread(fd[i], buf, PIECE, 0), PIECE);
			EXPECT_EQ(buf[1], 100 + i + round);
			EXPECT_EQ(pread(fd[i], buf, PIECE, PIECE), 0);
		}
}

TEST(stream_appends_go_to_the_end)
{
	test_dir();
	unsigned char *buf = new_buffer(PIECE);
	int a = EXPECT_OK(open("f", O_WRONLY | O_CREAT | O_APPEND, 0600));
	int w = EXPECT_OK(open("f", O_WRONLY));

	for (int i = 0; i < 20; i++) {
		memset(buf, i, PIECE);
		EXPECT_EQ(write(a, buf, PIECE), PIECE);
		EXPECT_EQ(pwrite(w, buf, PIECE, (2 * i + 1) * PIECE), PIECE);
		EXPECT_EQ(size_of(a), (2 * i + 2) * PIECE);
	}
	EXPECT_EQ(lseek(a, 0, SEEK_CUR), 39 * PIECE);
}

TEST(stream_limit_of_size)
{
	test_dir();
	unsigned char *buf = new_buffer(PIECE);
	struct rlimit r = {PIECE * 2 + 10, RLIM_INFINITY};
	int fd = EXPECT_OK(open("f", O_WRONLY | O_CREAT, 0600));

	signal(SIGXFSZ, SIG_IGN);
	EXPECT_OK(setrlimit(RLIMIT_FSIZE, &r));
	EXPECT_EQ(write(fd, buf, PIECE), PIECE);
	EXPECT_EQ(write(fd, buf, PIECE), PIECE);
	EXPECT_EQ(write(fd, buf, PIECE), 10);
	EXPECT_ERRNO(write(fd, buf, PIECE), EFBIG);
	EXPECT_EQ(size_of(fd), PIECE * 2 + 10);
}

TEST(stream_into_a_full_file_system)
{
	test_dir();
	unsigned char *buf = new_buffer(PIECE * 4);
	ssize_t n = 0, all = 0;

	enter_empty();
	int fd = EXPECT_OK(open("f", O_WRONLY | O_CREAT, 0600));
	for (int i = 0; i < 100 && n >= 0; i++) {
		n = write(fd, buf, PIECE * 4);
		all += n > 0 ? n : 0;
	}
	EXPECT(n == -1 && errno == ENOSPC);
	EXPECT_EQ(size_of(fd), all);
	EXPECT(all > 900 << 10 && all <= 1 << 20);
	EXPECT_OK(ftruncate(fd, 0));
	EXPECT_EQ(pwrite(fd, buf, PIECE * 4, 0), PIECE * 4);
	EXPECT_OK(close(fd));
	leave();
}

static atomic_bool stop;

static void *shrink_and_grow(void *arg)
{
	int fd = *(int *)arg;

	while (!stop) {
		EXPECT_OK(ftruncate(fd, PIECE + 1000));
		EXPECT_OK(ftruncate(fd, TOTAL));
	}
	return NULL;
}

/* What is read is the file's at some time, as far as the count says, and nothing is left over. */
TEST(stream_of_a_file_that_changes_its_size)
{
	test_dir();
	unsigned char *buf = new_buffer(PIECE);
	pthread_t th;

	write_all("f", buf);
	int fd = EXPECT_OK(open("f", O_RDWR)), other = EXPECT_OK(open("f", O_RDWR));
	EXPECT_EQ(pthread_create(&th, NULL, shrink_and_grow, &other), 0);
	for (int i = 0; i < 3000; i++) {
		off_t from = i % 2 ? 0 : PIECE;
		EXPECT_OK(lseek(fd, from, SEEK_SET));
		ssize_t n = read(fd, buf, PIECE);
		EXPECT(n == PIECE || (n >= 1000 && from));
		EXPECT_EQ(lseek(fd, 0, SEEK_CUR), from + n);
		if (!from)
			check(buf, PIECE, 0);
	}
	stop = true;
	EXPECT_EQ(pthread_join(th, NULL), 0);
	EXPECT_EQ(size_of(fd), (off_t)TOTAL);
}

static void *write_mine(void *arg)
{
	int fd = open("f", O_WRONLY), me = (int)(long)arg;
	unsigned char *buf = new_buffer(PIECE);

	memset(buf, me + 1, PIECE);
	for (int i = 0; i < 30; i++)
		EXPECT_EQ(pwrite(fd, buf, PIECE, (off_t)(i * 4 + me) * PIECE), PIECE);
	return NULL;
}

TEST(stream_written_by_several_threads)
{
	test_dir();
	int fd = EXPECT_OK(open("f", O_RDWR | O_CREAT, 0600));
	unsigned char *buf = new_buffer(PIECE);
	pthread_t th[4];
	struct stat st;

	for (long i = 0; i < 4; i++)
		EXPECT_EQ(pthread_create(&th[i], NULL, write_mine, (void *)i), 0);
	for (int i = 0; i < 4; i++)
		EXPECT_EQ(pthread_join(th[i], NULL), 0);
	EXPECT_OK(fstat(fd, &st));
	EXPECT_EQ(st.st_size, 120 * PIECE);
	EXPECT(st.st_blocks >= 120 * PIECE / 512 && st.st_blocks < 121 * PIECE / 512);
	for (int i = 0; i < 120; i++) {
		EXPECT_EQ(read(fd, buf, PIECE), PIECE);
		EXPECT(buf[0] == i % 4 + 1 && !memcmp(buf, buf + 1, PIECE - 1));
	}
}

TEST(stream_copies_between_files)
{
	test_dir();
	unsigned char *buf = new_buffer(PIECE);
	off_t from = 10, to = 20;

	write_all("f", buf);
	int in = EXPECT_OK(open("f", O_RDONLY));
	int out = EXPECT_OK(open("g", O_RDWR | O_CREAT, 0600));
	size_t left = TOTAL - 10;
	while (left) {
		ssize_t n = copy_file_range(in, &from, out, &to, left, 0);
		EXPECT(n > 0);
		left -= (size_t)n;
	}
	EXPECT_EQ(copy_file_range(in, &from, out, &to, 100, 0), 0);
	EXPECT_EQ(from, (off_t)TOTAL);
	EXPECT_EQ(to, (off_t)TOTAL + 10);
	EXPECT_EQ(size_of(out), (off_t)TOTAL + 10);
	EXPECT_EQ(pread(out, buf, PIECE, 20), PIECE);
	check(buf, PIECE, 10);
	EXPECT_EQ(pread(out, buf, 20, 0), 20);
	EXPECT(!memcmp(buf, (char[20]){0}, 20));
	/* At their own positions. */
	EXPECT_OK(lseek(in, 5, SEEK_SET));
	EXPECT_OK(ftruncate(out, 0));
	for (left = 1 << 20; left;) {
		ssize_t n = sendfile(out, in, NULL, left);
		EXPECT(n > 0);
		left -= (size_t)n;
	}
	EXPECT_EQ(lseek(in, 0, SEEK_CUR), (1 << 20) + 5);
	EXPECT_EQ(lseek(out, 0, SEEK_CUR), 1 << 20);
	EXPECT_EQ(pread(out, buf, PIECE, 1000), PIECE);
	check(buf, PIECE, 1005);
}

/* Nothing but reads in between, so that nobody has to be told of each. */
static void read_on(int fd, unsigned char *buf, size_t from, int pieces)
{
	for (int i = 0; i < pieces; i++) {
		EXPECT_EQ(read(fd, buf, PIECE), PIECE);
		check(buf, PIECE, from + (size_t)i * PIECE);
	}
}

TEST(stream_position_is_right_when_it_is_asked_for)
{
	test_dir();
	unsigned char *buf = new_buffer(PIECE);

	write_all("f", buf);
	int fd = EXPECT_OK(open("f", O_RDONLY));
	read_on(fd, buf, 0, 10);
	EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 10 * PIECE);
	read_on(fd, buf, 10 * PIECE, 5);
	int two = EXPECT_OK(dup(fd));
	EXPECT_EQ(lseek(two, 0, SEEK_CUR), 15 * PIECE);
	read_on(two, buf, 15 * PIECE, 5);
	EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 20 * PIECE);
	EXPECT_OK(close(two));
	read_on(fd, buf, 20 * PIECE, 5);
	EXPECT_EQ(lseek(fd, PIECE, SEEK_SET), PIECE);
	read_on(fd, buf, PIECE, PIECES - 1);
	EXPECT_EQ(read(fd, buf, PIECE), 0);
	EXPECT_EQ(pread(fd, buf, 10, 0), 10);
	EXPECT_EQ(read(fd, buf, PIECE), 0);
	EXPECT_EQ(lseek(fd, 0, SEEK_CUR), (off_t)TOTAL);
	char info[256] = "";
	int proc = EXPECT_OK(open("/proc/self/fdinfo", O_RDONLY | O_DIRECTORY));
	snprintf(info, sizeof(info), "%d", fd);
	int text = EXPECT_OK(openat(proc, info, O_RDONLY));
	EXPECT(read(text, info, sizeof(info) - 1) > 0);
	EXPECT(strstr(info, "pos:\t3145728\n"));
}

TEST(stream_number_means_another_file)
{
	test_dir();
	unsigned char *buf = new_buffer(PIECE);
	int fd, other;

	write_all("f", buf);
	other = EXPECT_OK(open("g", O_RDWR | O_CREAT, 0600));
	memset(buf, 'g', PIECE);
	for (int i = 0; i < 20; i++)
		EXPECT_EQ(write(other, buf, PIECE), PIECE);
	for (int i = 0; i < 10; i++) {
		fd = EXPECT_OK(open("f", O_RDONLY));
		read_on(fd, buf, 0, 5);
		EXPECT_OK(close(fd));
		EXPECT_EQ(open("g", O_RDONLY), fd);
		EXPECT_EQ(read(fd, buf, PIECE), PIECE);
		EXPECT_EQ(buf[0], 'g');
		EXPECT_OK(close(fd));
		EXPECT_ERRNO(read(fd, buf, PIECE), EBADF);
		fd = EXPECT_OK(open("f", O_RDONLY));
		read_on(fd, buf, 0, 5);
		EXPECT_OK(lseek(other, 0, SEEK_SET));
		EXPECT_EQ(dup2(other, fd), fd);
		EXPECT_EQ(read(fd, buf, PIECE), PIECE);
		EXPECT_EQ(buf[0], 'g');
		EXPECT_EQ(lseek(other, 0, SEEK_CUR), PIECE);
		EXPECT_OK(close(fd));
	}
}

static void *read_five(void *arg)
{
	read_on(*(int *)arg, new_buffer(PIECE), 5 * PIECE, 5);
	return NULL;
}

TEST(stream_goes_on_in_threads_children_and_programs)
{
	test_dir();
	unsigned char *buf = new_buffer(PIECE);
	pthread_t th;
	int status;

	write_all("f", buf);
	int fd = EXPECT_OK(open("f", O_RDONLY));
	read_on(fd, buf, 0, 5);
	EXPECT_EQ(pthread_create(&th, NULL, read_five, &fd), 0);
	EXPECT_EQ(pthread_join(th, NULL), 0);
	read_on(fd, buf, 10 * PIECE, 5);
	pid_t pid = fork();
	if (!pid) {
		read_on(fd, buf, 15 * PIECE, 5);
		_exit(0);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	read_on(fd, buf, 20 * PIECE, 5);
	pid = fork();
	if (!pid) {
		dup2(fd, 0);
		close(fd);
		read_on(0, buf, 25 * PIECE, 5);
		execlp("dd", "dd", "bs=64k", "count=5", "of=copy", "status=none", NULL);
		_exit(1);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 35 * PIECE);
	int copy = EXPECT_OK(open("copy", O_RDONLY));
	read_on(copy, buf, 30 * PIECE, 5);
	EXPECT_EQ(read(copy, buf, PIECE), 0);
}

static void on_alarm(int sig)
{
	static int n;

	(void)sig;
	if (++n == 20)
		alarm(0);
}

TEST(stream_with_signals_in_between)
{
	test_dir();
	unsigned char *buf = new_buffer(PIECE);
	struct itimerval it = {{0, 500}, {0, 500}};

	write_all("f", buf);
	int fd = EXPECT_OK(open("f", O_RDONLY));
	signal(SIGALRM, on_alarm);
	EXPECT_OK(setitimer(ITIMER_REAL, &it, NULL));
	for (int round = 0; round < 10; round++) {
		read_on(fd, buf, 0, PIECES);
		EXPECT_EQ(lseek(fd, 0, SEEK_CUR), (off_t)TOTAL);
		EXPECT_OK(lseek(fd, 0, SEEK_SET));
	}
}

/* The reader of a file that an overlay's lower layer has sees what is written later. */
TEST(stream_sees_what_others_write_meanwhile)
{
	test_dir();
	unsigned char *buf = new_buffer(PIECE);

	write_all("f", buf);
	int fd = EXPECT_OK(open("f", O_RDONLY));
	read_on(fd, buf, 0, 10);
	int wr = EXPECT_OK(open("f", O_RDWR));
	memset(buf, 'w', PIECE);
	EXPECT_EQ(pwrite(wr, buf, PIECE, 12 * PIECE), PIECE);
	EXPECT_EQ(pwrite(wr, buf, PIECE, (off_t)TOTAL), PIECE);
	read_on(fd, buf, 10 * PIECE, 2);
	EXPECT_EQ(read(fd, buf, PIECE), PIECE);
	EXPECT(buf[0] == 'w' && buf[PIECE - 1] == 'w');
	read_on(fd, buf, 13 * PIECE, PIECES - 13);
	EXPECT_EQ(read(fd, buf, PIECE), PIECE);
	EXPECT_EQ(buf[9], 'w');
	EXPECT_EQ(read(fd, buf, PIECE), 0);
	EXPECT_EQ(pwrite(wr, buf, 10, (off_t)TOTAL + PIECE), 10);
	EXPECT_EQ(read(fd, buf, PIECE), 10);
}
