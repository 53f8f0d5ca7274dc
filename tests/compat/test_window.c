/*
 * The same parts of files read and written again and again: whatever a kernel does to make that
 * fast, it gives what the first time gave.
 */
#include "tests/compat/compat.h"

#include <pthread.h>
#include <sys/time.h>
#include <sys/uio.h>

#define SIZE (1 << 20)
#define TIMES 400 /* until it is as fast as it gets */

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

/* A file whose parts have been read and written often. */
static int hot_file(const char *name)
{
	int fd = test_file(name, SIZE);
	unsigned char buf[4096];

	for (int i = 0; i < TIMES; i++) {
		size_t at = (size_t)(i * 4096) % SIZE;
		EXPECT_EQ(pread(fd, buf, sizeof(buf), (off_t)at), sizeof(buf));
		expect_pattern(buf, sizeof(buf), at);
		EXPECT_EQ(pwrite(fd, buf, sizeof(buf), (off_t)at), sizeof(buf));
	}
	return fd;
}

TEST(window_read_ends_where_the_file_does)
{
	int fd = hot_file("f");
	unsigned char buf[8192];

	EXPECT_EQ(pread(fd, buf, sizeof(buf), SIZE - 100), 100);
	expect_pattern(buf, 100, SIZE - 100);
	EXPECT_EQ(pread(fd, buf, sizeof(buf), SIZE), 0);
	for (int i = 0; i < 200; i++) {
		off_t size = (i * 5003) % SIZE + 1;
		EXPECT_OK(ftruncate(fd, size));
		EXPECT_EQ(pread(fd, buf, sizeof(buf), size - 1), 1);
		EXPECT_EQ(pread(fd, buf, sizeof(buf), size), 0);
		EXPECT_OK(ftruncate(fd, SIZE));
		EXPECT_EQ(pread(fd, buf, 1, size), 1);
		EXPECT_EQ(buf[0], 0);
		memset(buf, 1, sizeof(buf));
		for (off_t at = size & ~4095; at < SIZE; at += (off_t)sizeof(buf))
			EXPECT(pwrite(fd, buf, sizeof(buf), at) > 0);
		EXPECT_OK(ftruncate(fd, SIZE));
	}
}

TEST(window_write_makes_the_file_longer)
{
	int fd = hot_file("f");
	char buf[8192];
	struct stat st;

	memset(buf, 'x', sizeof(buf));
	EXPECT_EQ(pwrite(fd, buf, sizeof(buf), SIZE - 4096), sizeof(buf));
	EXPECT_OK(fstat(fd, &st));
	EXPECT_EQ(st.st_size, SIZE + 4096);
	memset(buf, 0, sizeof(buf));
	EXPECT_EQ(pread(fd, buf, sizeof(buf), SIZE - 4096), sizeof(buf));
	EXPECT(buf[0] == 'x' && buf[8191] == 'x');
	EXPECT_OK(ftruncate(fd, 0));
	EXPECT_EQ(pwrite(fd, "ab", 2, 10), 2);
	EXPECT_OK(fstat(fd, &st));
	EXPECT_EQ(st.st_size, 12);
	EXPECT_EQ(pread(fd, buf, 20, 0), 12);
	EXPECT(!memcmp(buf, "\0\0\0\0\0\0\0\0\0\0ab", 12));
}

TEST(window_read_into_bad_memory_moves_nothing)
{
	int fd = hot_file("f");
	unsigned char *p =
		mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	EXPECT(p != MAP_FAILED);
	EXPECT_OK(munmap(p + 4096, 4096));
	for (int i = 0; i < TIMES; i++) {
		EXPECT_OK(lseek(fd, 5000, SEEK_SET));
		EXPECT_ERRNO(pread(fd, BAD_ADDR, 4096, 0), EFAULT);
		EXPECT_ERRNO(read(fd, BAD_ADDR, 4096), EFAULT);
		EXPECT_ERRNO(read(fd, p + 4096, 10), EFAULT);
		EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 5000);
		EXPECT_EQ(read(fd, p + 3996, 200), 100);
		expect_pattern(p + 3996, 100, 5000);
		EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 5100);
		EXPECT_EQ(pread(fd, p + 4095, 4096, 77), 1);
		EXPECT_EQ(p[4095], pattern(77));
	}
}

TEST(window_write_from_bad_memory_changes_nothing)
{
	int fd = hot_file("f");
	unsigned char *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
				0),
		      buf[4096];

	EXPECT(p != MAP_FAILED);
	memset(p, 'x', 8192);
	EXPECT_OK(munmap(p + 4096, 4096));
	for (int i = 0; i < TIMES; i++) {
		EXPECT_OK(lseek(fd, 8192, SEEK_SET));
		EXPECT_ERRNO(pwrite(fd, BAD_ADDR, 4096, 0), EFAULT);
		EXPECT_ERRNO(write(fd, p + 4096, 4096), EFAULT);
		EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 8192);
	}
	ssize_t n = write(fd, p + 3996, 200);
	EXPECT(n == 100 || (n == -1 && errno == EFAULT));
	EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 8192 + (n > 0 ? n : 0));
	EXPECT_EQ(pread(fd, buf, sizeof(buf), 8192 + 100), sizeof(buf));
	expect_pattern(buf, sizeof(buf), 8192 + 100);
	EXPECT_EQ(pread(fd, buf, sizeof(buf), 0), sizeof(buf));
	expect_pattern(buf, sizeof(buf), 0);
}

/* The stack below the page in use: a read makes it grow. */
static __attribute__((noinline)) void read_deep(int fd)
{
	unsigned char buf[512 << 10];

	EXPECT_EQ(pread(fd, buf, sizeof(buf), 0), sizeof(buf));
	expect_pattern(buf, sizeof(buf), 0);
}

TEST(window_read_grows_the_stack)
{
	read_deep(hot_file("f"));
}

TEST(window_file_is_the_same_for_everybody)
{
	int fd = hot_file("f"), other = open("f", O_RDWR), to[2], from[2];
	unsigned char *map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), c;

	EXPECT(map != MAP_FAILED);
	EXPECT_OK(other);
	EXPECT_OK(pipe(to));
	EXPECT_OK(pipe(from));
	pid_t pid = fork();
	if (!pid) {
		for (int i = 0; i < TIMES; i++) {
			unsigned char got;
			if (read(to[0], &c, 1) != 1 || pread(other, &got, 1, 1000) != 1 || got != c)
				_exit(1);
			got++;
			if (pwrite(other, &got, 1, 200000) != 1 || write(from[1], &c, 1) != 1)
				_exit(2);
		}
		_exit(0);
	}
	for (int i = 0; i < TIMES; i++) {
		unsigned char v = (unsigned char)i, got;
		EXPECT_EQ(pwrite(fd, &v, 1, 1000), 1);
		EXPECT_EQ(map[1000], v);
		EXPECT_EQ(write(to[1], &v, 1), 1);
		EXPECT_EQ(read(from[0], &c, 1), 1);
		EXPECT_EQ(pread(fd, &got, 1, 200000), 1);
		EXPECT_EQ(got, (unsigned char)(v + 1));
		EXPECT_EQ(map[200000], got);
		map[300000] = v;
		EXPECT_EQ(pread(fd, &got, 1, 300000), 1);
		EXPECT_EQ(got, v);
	}
	int status;
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
}

TEST(window_files_by_the_dozen_keep_their_bytes)
{
	int fds[20];
	unsigned char buf[4096];

	for (int i = 0; i < 20; i++) {
		char name[8];
		snprintf(name, sizeof(name), "f%d", i);
		fds[i] = test_file(name, 512 << 10);
	}
	for (int round = 0; round < 30; round++)
		for (int i = 0; i < 20; i++)
			for (int k = 0; k < 10; k++) {
				off_t at = ((round * 20 + i) * 7 + k) * 4096 % (512 << 10);
				memset(buf, i, 1);
				EXPECT_EQ(pwrite(fds[i], buf, 1, 5), 1);
				EXPECT_EQ(pread(fds[i], buf, sizeof(buf), at), sizeof(buf));
				expect_pattern(buf + 6, sizeof(buf) - 6, (size_t)at + 6);
				EXPECT_EQ(pread(fds[i], buf, 1, 5), 1);
				EXPECT_EQ(buf[0], i);
			}
	/* Gone, and another one in its place. */
	for (int i = 0; i < 20; i++) {
		EXPECT_OK(close(fds[i]));
		fds[i] = EXPECT_OK(open("new", O_RDWR | O_CREAT | O_TRUNC, 0600));
		for (off_t at = 0; at < 512 << 10; at += (off_t)sizeof(buf)) {
			memset(buf, 'a' + i, sizeof(buf));
			EXPECT_EQ(pwrite(fds[i], buf, sizeof(buf), at), sizeof(buf));
		}
		for (int k = 0; k < 20; k++) {
			EXPECT_EQ(pread(fds[i], buf, sizeof(buf), k * 4096), sizeof(buf));
			EXPECT(buf[0] == 'a' + i && buf[4095] == 'a' + i);
		}
		EXPECT_OK(unlink("new"));
	}
}

TEST(window_appends_and_write_only_opens_go_where_they_should)
{
	int fd = hot_file("f"), end = open("f", O_RDWR | O_APPEND), wr = open("f", O_WRONLY);
	char buf[64];
	struct stat st;

	EXPECT_OK(end);
	EXPECT_OK(wr);
	for (int i = 0; i < TIMES; i++) {
		EXPECT_EQ(write(end, "0123456789", 10), 10);
		EXPECT_EQ(pwrite(wr, &i, sizeof(i), 4096), sizeof(i));
		EXPECT_EQ(pread(fd, buf, sizeof(i), 4096), sizeof(i));
		EXPECT(!memcmp(buf, &i, sizeof(i)));
		EXPECT_ERRNO(pread(wr, buf, 1, 0), EBADF);
	}
	EXPECT_OK(fstat(fd, &st));
	EXPECT_EQ(st.st_size, SIZE + 10 * TIMES);
	EXPECT_EQ(pread(fd, buf, 20, st.st_size - 10), 10);
	EXPECT(!memcmp(buf, "0123456789", 10));
}

TEST(window_memfd_can_be_sealed)
{
	int fd = (int)syscall(SYS_memfd_create, "hot", 2u /* MFD_ALLOW_SEALING */);
	char buf[4096] = "x";

	EXPECT_OK(fd);
	for (int i = 0; i < 256; i++)
		EXPECT_EQ(pwrite(fd, buf, sizeof(buf), i * 4096), sizeof(buf));
	for (int i = 0; i < TIMES; i++) {
		EXPECT_EQ(pwrite(fd, buf, sizeof(buf), 4096), sizeof(buf));
		EXPECT_EQ(pread(fd, buf, sizeof(buf), 4096), sizeof(buf));
	}
	EXPECT_OK(fcntl(fd, F_ADD_SEALS, 0x8 /* F_SEAL_WRITE */));
	EXPECT_ERRNO(pwrite(fd, buf, sizeof(buf), 4096), EPERM);
	EXPECT_EQ(pread(fd, buf, sizeof(buf), 4096), sizeof(buf));
	EXPECT_EQ(buf[0], 'x');
}

TEST(window_read_of_a_hole_leaves_it_one)
{
	test_dir();
	int fd = EXPECT_OK(open("f", O_RDWR | O_CREAT, 0600));
	char buf[4096];
	struct stat before, after;

	EXPECT_OK(ftruncate(fd, SIZE));
	EXPECT_OK(fstat(fd, &before));
	for (int i = 0; i < TIMES; i++) {
		EXPECT_EQ(pread(fd, buf, sizeof(buf), (i % 256) * 4096), sizeof(buf));
		EXPECT_EQ(buf[17], 0);
	}
	EXPECT_OK(fstat(fd, &after));
	EXPECT_EQ(before.st_blocks, after.st_blocks);
}

TEST(window_write_changes_the_time)
{
	int fd = hot_file("f");
	struct stat before, after;

	EXPECT_OK(fstat(fd, &before));
	test_sleep_ms(20);
	EXPECT_EQ(pwrite(fd, "x", 1, 4096), 1);
	EXPECT_OK(fstat(fd, &after));
	EXPECT(after.st_mtim.tv_sec > before.st_mtim.tv_sec ||
	       after.st_mtim.tv_nsec > before.st_mtim.tv_nsec);
	EXPECT_EQ(before.st_size, after.st_size);
}

static volatile sig_atomic_t alarms;

static void on_alarm(int sig)
{
	(void)sig;
	alarms++;
}

/* Signals on every side of a call: positions and bytes stay right. */
TEST(window_reads_under_signals_lose_nothing)
{
	int fd = hot_file("f");
	struct itimerval it = {{0, 300}, {0, 300}};
	unsigned char buf[5000];
	size_t at = 0;

	signal(SIGALRM, on_alarm);
	EXPECT_OK(lseek(fd, 0, SEEK_SET));
	EXPECT_OK(setitimer(ITIMER_REAL, &it, NULL));
	for (int i = 0; i < 30000 || (alarms < 20 && i < 3000000); i++) {
		ssize_t n = EXPECT_OK(read(fd, buf, sizeof(buf)));
		expect_pattern(buf, (size_t)n, at);
		at += (size_t)n;
		EXPECT_EQ(lseek(fd, 0, SEEK_CUR), at);
		if (!n)
			at = (size_t)EXPECT_OK(lseek(fd, 0, SEEK_SET));
	}
	memset(&it, 0, sizeof(it));
	EXPECT_OK(setitimer(ITIMER_REAL, &it, NULL));
	EXPECT(alarms > 0);
}

static int shared_fd;
static _Atomic long shared_sum;

static void *read_share(void *arg)
{
	unsigned char buf[4096];
	ssize_t n;

	while ((n = read(shared_fd, buf, sizeof(buf))) > 0)
		shared_sum += n;
	return arg;
}

TEST(window_file_read_by_threads_is_read_once)
{
	pthread_t t[4];

	shared_fd = hot_file("f");
	for (int round = 0; round < 10; round++) {
		shared_sum = 0;
		EXPECT_OK(lseek(shared_fd, 0, SEEK_SET));
		for (int i = 0; i < 4; i++)
			EXPECT(!pthread_create(&t[i], NULL, read_share, NULL));
		for (int i = 0; i < 4; i++)
			pthread_join(t[i], NULL);
		EXPECT_EQ(shared_sum, SIZE);
	}
}

static void *truncate_often(void *arg)
{
	int fd = open("f", O_RDWR);

	for (int i = 0; i < 2000; i++) {
		if (ftruncate(fd, 4096) || ftruncate(fd, SIZE))
			break;
	}
	close(fd);
	return arg;
}

/* Pages go while they are read and written: calls answer, nobody dies. */
TEST(window_file_that_becomes_shorter_kills_nobody)
{
	int fd = hot_file("f");
	char buf[16384] = "";
	pthread_t t;
	struct stat st;

	EXPECT(!pthread_create(&t, NULL, truncate_often, NULL));
	for (int i = 0; i < 5000; i++) {
		ssize_t n = pread(fd, buf, sizeof(buf), SIZE / 2);
		EXPECT(n >= 0 && n <= (ssize_t)sizeof(buf));
		EXPECT_EQ(pwrite(fd, buf, sizeof(buf), SIZE / 4), sizeof(buf));
	}
	pthread_join(t, NULL);
	EXPECT_OK(fstat(fd, &st));
	EXPECT_EQ(st.st_size, SIZE);
}

/* A program file that nobody writes to, as everybody's libraries are. */
TEST(window_read_of_a_program_gives_its_bytes)
{
	int fd = EXPECT_OK(open("/proc/self/exe", O_RDONLY));
	struct stat st;
	unsigned char a[4096], b[4096];

	EXPECT_OK(fstat(fd, &st));
	off_t end = st.st_size < (1 << 20) ? st.st_size : 1 << 20;
	unsigned char *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	EXPECT(map != MAP_FAILED);
	for (int round = 0; round < 3; round++)
		for (off_t at = 0; at + 4096 <= end; at += 4096) {
			struct iovec v = {b, sizeof(b)};
			EXPECT_EQ(pread(fd, a, sizeof(a), at), sizeof(a));
			EXPECT_EQ(preadv(fd, &v, 1, at), sizeof(b));
			EXPECT(!memcmp(a, b, sizeof(a)) && !memcmp(a, map + at, sizeof(a)));
		}
	EXPECT_EQ(pread(fd, a, sizeof(a), st.st_size - 5), 5);
	EXPECT(!memcmp(a, map + st.st_size - 5, 5));
	EXPECT_EQ(pread(fd, a, sizeof(a), st.st_size), 0);
	EXPECT_EQ(pread(fd, a, sizeof(a), st.st_size + 10), 0);
}
