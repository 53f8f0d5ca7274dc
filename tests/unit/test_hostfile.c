#include "sentry/fs/host/hostfile.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "sentry/host/poller.h"
#include "sentry/kernel/tty.h"
#include "sentry/mm/uaccess.h"
#include "sentry/vfs/file.h"

static ssize_t put(struct file *f, const void *buf, size_t n)
{
	struct uio io;
	struct uio_seg seg;

	uio_init_kernel(&io, &seg, (void *)(uintptr_t)buf, n);
	return file_write(f, &io, NULL, UINT64_MAX);
}

static ssize_t get(struct file *f, void *buf, size_t n)
{
	struct uio io;
	struct uio_seg seg;

	uio_init_kernel(&io, &seg, buf, n);
	return file_read(f, &io, NULL);
}

static void setup(void)
{
	ck_assert_int_eq(poller_init(), 0);
	ck_assert_int_eq(poller_start(), 0);
}

struct seen {
	struct waiter w;
	_Atomic uint32_t events;
	_Atomic int times;
};

static void see(struct waiter *w, uint32_t events)
{
	struct seen *s = container_of(w, struct seen, w);

	s->events |= events;
	s->times++;
}

static void wait_seen(struct seen *s, int times)
{
	struct timespec ts = {.tv_nsec = 1000000};

	for (int i = 0; i < 2000 && s->times < times; i++)
		nanosleep(&ts, NULL);
	ck_assert_int_ge(s->times, times);
}

START_TEST(empty_pipe_says_again_and_wakes_its_reader_once)
{
	struct seen s = {.w.notify = see};
	struct file *f;
	int p[2];
	char buf[8];

	ck_assert_int_eq(pipe(p), 0);
	ck_assert_int_eq(hostfile_create(p[0], O_RDONLY, &f), 0);
	ck_assert_int_eq(fcntl(p[1], F_GETFL) & O_NONBLOCK, 0);
	waitq_add(file_waitq(f), &s.w, POLLIN);
	ck_assert_int_eq(get(f, buf, 8), -EAGAIN);
	ck_assert_int_eq(write(p[1], "abc", 3), 3);
	wait_seen(&s, 1);
	ck_assert_uint_eq(file_poll(f) & POLLIN, POLLIN);
	ck_assert_int_eq(get(f, buf, 8), 3);

	/* Nobody waits: nothing is watched. */
	ck_assert_int_eq(write(p[1], "d", 1), 1);
	usleep(20000);
	ck_assert_int_eq(s.times, 1);
	ck_assert_int_eq(get(f, buf, 8), 1);
	ck_assert_uint_eq(file_poll(f), 0);
	close(p[1]);
	wait_seen(&s, 2);
	ck_assert_uint_eq(s.events & POLLHUP, POLLHUP);
	ck_assert_int_eq(get(f, buf, 8), 0);
	waitq_remove(&s.w);
	file_put(f);
}
END_TEST

START_TEST(full_pipe_says_again_and_wakes_its_writer)
{
	struct seen s = {.w.notify = see};
	static char buf[100000];
	struct file *f;
	ssize_t n, all = 0;
	int p[2];

	ck_assert_int_eq(pipe(p), 0);
	ck_assert_int_eq(hostfile_create(p[1], O_WRONLY, &f), 0);
	waitq_add(file_waitq(f), &s.w, POLLOUT);
	while ((n = put(f, buf, sizeof(buf))) > 0)
		all += n;
	ck_assert_int_eq(n, -EAGAIN);
	ck_assert_int_eq(all, 65536);
	ck_assert_int_eq(read(p[0], buf, sizeof(buf)), 65536);
	wait_seen(&s, 1);
	waitq_remove(&s.w);
	close(p[0]);
	signal(SIGPIPE, SIG_IGN);
	ck_assert_int_eq(put(f, "x", 1), -EPIPE);
	file_put(f);
}
END_TEST

START_TEST(socket_reads_and_writes)
{
	struct file *f;
	int p[2];
	char buf[8];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, p), 0);
	ck_assert_int_eq(hostfile_create(p[0], O_RDWR, &f), 0);
	ck_assert_int_eq(get(f, buf, 8), -EAGAIN);
	ck_assert_int_eq(put(f, "out", 3), 3);
	ck_assert_int_eq(read(p[1], buf, 8), 3);
	ck_assert_int_eq(write(p[1], "in", 2), 2);
	ck_assert_int_eq(get(f, buf, 8), 2);
	file_put(f);
	close(p[1]);
}
END_TEST

/* A shell runs a container with "> file" and goes on writing: at the end of what it wrote. */
START_TEST(regular_file_shares_its_position_with_the_host)
{
	char name[] = "/tmp/test_hostfile.XXXXXX", buf[32];
	int fd = mkstemp(name);
	struct file *out, *err;
	struct kstat st;

	unlink(name);
	ck_assert_int_eq(write(fd, "shell ", 6), 6);
	ck_assert_int_eq(hostfile_create(dup(fd), O_WRONLY, &out), 0);
	ck_assert_int_eq(hostfile_create(dup(fd), O_WRONLY, &err), 0);
	ck_assert_int_eq(put(out, "out ", 4), 4);
	ck_assert_int_eq(put(err, "err ", 4), 4);
	ck_assert_int_eq(put(out, "out ", 4), 4);
	ck_assert_int_eq(write(fd, "shell", 5), 5);
	ck_assert_int_eq(pread(fd, buf, sizeof(buf), 0), 23);
	ck_assert_mem_eq(buf, "shell out err out shell", 23);
	ck_assert_int_eq(vfs_getattr(out->path, &st), 0);
	ck_assert_uint_eq(st.size, 23);
	ck_assert_int_eq(file_seek(out, 6, SEEK_SET), 6);
	ck_assert_int_eq(put(out, "OUT", 3), 3);
	ck_assert_int_eq(pread(fd, buf, 4, 6), 4);
	ck_assert_mem_eq(buf, "OUT ", 4);
	file_put(out);
	file_put(err);
	close(fd);
}
END_TEST

START_TEST(opening_again_checks_the_descriptions_access)
{
	struct file *f, *again;
	int p[2];
	char c;

	ck_assert_int_eq(pipe(p), 0);
	ck_assert_int_eq(hostfile_create(p[1], O_WRONLY, &f), 0);
	ck_assert_int_eq(file_open_path(f->path, O_RDONLY, &again), -EACCES);
	ck_assert_int_eq(file_open_path(f->path, O_WRONLY, &again), 0);
	file_put(f);
	ck_assert_int_eq(put(again, "x", 1), 1);
	ck_assert_int_eq(read(p[0], &c, 1), 1);
	file_put(again);
	ck_assert_int_eq(read(p[0], &c, 1), 0); /* closed with the last of them */
	close(p[0]);
}
END_TEST

START_TEST(terminal_passes_bytes_and_outlives_its_files)
{
	int m = posix_openpt(O_RDWR | O_NOCTTY);
	struct tty *tty;
	struct file *f, *console;
	char buf[32];

	if (m < 0)
		return;
	ck_assert_int_eq(grantpt(m) | unlockpt(m), 0);
	int r = open(ptsname(m), O_RDWR | O_NOCTTY);
	ck_assert_int_ge(r, 0);
	r = host_private_fd(r);
	ck_assert_int_eq(hosttty_create(r, &tty, &f), 0);
	ck_assert_int_eq(get(f, buf, 8), -EAGAIN);
	ck_assert_int_eq(write(m, "hi\n", 3), 3);
	ck_assert_int_eq(get(f, buf, 8), 3);
	ck_assert_int_eq(put(f, "yo\n", 3), 3);
	/* The echo of "hi", then ours; both with CR. */
	for (ssize_t n = 0; n < 8;) {
		ssize_t more = read(m, buf + n, sizeof(buf) - n);
		ck_assert_int_gt(more, 0);
		n += more;
	}
	ck_assert_mem_eq(buf, "hi\r\nyo\r\n", 8);
	ck_assert_uint_eq(f->inode->mode & S_IFMT, S_IFCHR);
	ck_assert_int_eq(file_open_path(f->path, O_RDWR, &console), 0);
	tty_put(tty);
	file_put(f);
	ck_assert_int_eq(put(console, "x", 1), 1);
	file_put(console);
	usleep(20000);
	ck_assert_int_eq(read(m, buf, 1), 1);
	ck_assert_int_lt(read(m, buf, 1), 0); /* EIO: nobody has the terminal any more */
	close(m);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hostfile");
	TCase *tc = tcase_create("hostfile");

	tcase_set_timeout(tc, 30);
	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_add_test(tc, empty_pipe_says_again_and_wakes_its_reader_once);
	tcase_add_test(tc, full_pipe_says_again_and_wakes_its_writer);
	tcase_add_test(tc, socket_reads_and_writes);
	tcase_add_test(tc, regular_file_shares_its_position_with_the_host);
	tcase_add_test(tc, opening_again_checks_the_descriptions_access);
	tcase_add_test(tc, terminal_passes_bytes_and_outlives_its_files);
	suite_add_tcase(s, tc);

	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
