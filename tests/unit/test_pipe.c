#include "sentry/fs/pipe/pipe.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/mm/uaccess.h"
#include "sentry/vfs/file.h"
#include "tests/unit/fake_platform.h"

static struct file *rd, *wr;

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
	ck_assert_int_eq(pipe_create(0, &rd, &wr), 0);
}

static void teardown(void)
{
	file_put(rd);
	file_put(wr);
	rd = wr = NULL;
}

static void drop(struct file **f)
{
	file_put(*f);
	*f = NULL;
}

START_TEST(bytes_come_out_in_order)
{
	char buf[16];

	ck_assert_int_eq(put(wr, "abc", 3), 3);
	ck_assert_int_eq(put(wr, "defg", 4), 4);
	ck_assert_int_eq(get(rd, buf, 5), 5);
	ck_assert_mem_eq(buf, "abcde", 5);
	ck_assert_int_eq(get(rd, buf, 5), 2);
	ck_assert_mem_eq(buf, "fg", 2);
	ck_assert_int_eq(get(rd, buf, 5), -EAGAIN);
}
END_TEST

START_TEST(every_offset_of_the_ring_wraps_right)
{
	char in[5000], out[5000];
	unsigned seed = 1;

	for (size_t i = 0; i < sizeof(in); i++)
		in[i] = (char)(i * 7 + i / 251);
	/* One byte stays in the ring, so that it never starts over. */
	ck_assert_int_eq(put(wr, "x", 1), 1);
	for (int i = 0; i < 2000; i++) {
		size_t n = 1 + rand_r(&seed) % sizeof(in);
		ck_assert_int_eq(put(wr, in, n), n);
		ck_assert_int_eq(get(rd, out, 1), 1);
		ck_assert_int_eq(get(rd, out, n - 1), n - 1);
		ck_assert_mem_eq(out, in, n - 1);
	}
}
END_TEST

START_TEST(write_of_pipe_buf_is_all_or_nothing)
{
	static char buf[PIPE_DEF_SIZE];

	ck_assert_int_eq(put(wr, buf, sizeof(buf) - 100), sizeof(buf) - 100);
	ck_assert_int_eq(put(wr, buf, 101), -EAGAIN);
	ck_assert_int_eq(put(wr, buf, PIPE_BUF), -EAGAIN);
	ck_assert_int_eq(put(wr, buf, PIPE_BUF + 1), 100);
	ck_assert_int_eq(put(wr, buf, 1), -EAGAIN);
	ck_assert_int_eq(file_poll(wr) & POLLOUT, 0);
	ck_assert_int_eq(get(rd, buf, PIPE_BUF), PIPE_BUF);
	ck_assert_int_eq(file_poll(wr) & POLLOUT, POLLOUT);
}
END_TEST

START_TEST(readiness_follows_contents_and_ends)
{
	char c;

	ck_assert_uint_eq(file_poll(rd), 0);
	ck_assert_uint_eq(file_poll(wr), POLLOUT | POLLWRNORM);
	put(wr, "x", 1);
	ck_assert_uint_eq(file_poll(rd), POLLIN | POLLRDNORM);
	drop(&wr);
	ck_assert_uint_eq(file_poll(rd), POLLIN | POLLRDNORM | POLLHUP);
	ck_assert_int_eq(get(rd, &c, 1), 1);
	ck_assert_int_eq(get(rd, &c, 1), 0);
	ck_assert_uint_eq(file_poll(rd), POLLHUP);
}
END_TEST

START_TEST(write_without_reader_fails)
{
	drop(&rd);
	ck_assert_uint_eq(file_poll(wr) & POLLERR, POLLERR);
	ck_assert_int_eq(put(wr, "x", 1), -EPIPE);
	ck_assert_int_eq(put(wr, "x", 0), 0);
}
END_TEST

START_TEST(packets_keep_their_borders)
{
	struct file *r, *w;
	static char big[PIPE_BUF + 10];
	char buf[16];

	ck_assert_int_eq(pipe_create(O_DIRECT, &r, &w), 0);
	ck_assert_int_eq(put(w, "abc", 3), 3);
	ck_assert_int_eq(put(w, "defg", 4), 4);
	ck_assert_int_eq(get(r, buf, sizeof(buf)), 3);
	ck_assert_int_eq(get(r, buf, 2), 2); /* the rest of the packet is lost */
	ck_assert_int_eq(get(r, buf, 2), -EAGAIN);
	ck_assert_int_eq(put(w, big, sizeof(big)), sizeof(big));
	ck_assert_int_eq(get(r, big, sizeof(big)), PIPE_BUF);
	ck_assert_int_eq(get(r, big, sizeof(big)), 10);
	for (int i = 0; i < 16; i++)
		ck_assert_int_eq(put(w, "x", 1), 1);
	ck_assert_int_eq(put(w, "x", 1), -EAGAIN);
	ck_assert_uint_eq(file_poll(w) & POLLOUT, 0);
	file_put(r);
	file_put(w);
}
END_TEST

START_TEST(size_changes_keep_the_contents)
{
	char in[6000], out[6000];

	memset(in, 'q', sizeof(in));
	ck_assert_int_eq(rd->ops->fcntl(rd, NULL, F_GETPIPE_SZ, 0), PIPE_DEF_SIZE);
	put(wr, in, sizeof(in));
	get(rd, out, 5000);
	put(wr, in, 5000);
	ck_assert_int_eq(rd->ops->fcntl(rd, NULL, F_SETPIPE_SZ, 4096), -EBUSY);
	ck_assert_int_eq(rd->ops->fcntl(rd, NULL, F_SETPIPE_SZ, 5000), 8192);
	ck_assert_int_eq(rd->ops->fcntl(rd, NULL, F_SETPIPE_SZ, (1 << 20) + 1), -EPERM);
	ck_assert_int_eq(rd->ops->fcntl(rd, NULL, F_SETPIPE_SZ, 1 << 20), 1 << 20);
	ck_assert_int_eq(get(rd, out, sizeof(out)), 6000);
	ck_assert_mem_eq(out, in, 6000);
}
END_TEST

/* A guest buffer of one page, followed by nothing. */
static struct mm *fault_mm;
static struct umem fault_um;
static uint64_t fault_page;

static void fault_setup(void)
{
	struct p_thread *th;
	struct mm_map_args a = {
		.len = 4096, .prot = PROT_READ | PROT_WRITE, .flags = MAP_PRIVATE | MAP_ANONYMOUS};

	fake_reset();
	ck_assert_int_eq(mm_create(&fake_platform, &fault_mm, &th), 0);
	ck_assert_int_eq(mm_map(fault_mm, th, &a, &fault_page), 0);
	fault_um = (struct umem){.mm = fault_mm};
	setup();
}

static void fault_teardown(void)
{
	teardown();
	mm_put(fault_mm);
}

static ssize_t user_io(struct file *f, uint64_t at, size_t n, bool write)
{
	struct uio io;
	struct uio_seg seg;

	uio_init_user(&io, &seg, &fault_um, UADDR(at), n);
	return write ? file_write(f, &io, NULL, UINT64_MAX) : file_read(f, &io, NULL);
}

START_TEST(fault_takes_no_bytes)
{
	char buf[8];
	static char big[20000];

	put(wr, "abcdefgh", 8);
	ck_assert_int_eq(user_io(rd, 8, 4, false), -EFAULT);
	ck_assert_int_eq(user_io(rd, fault_page + 4096 - 3, 8, false), 3);
	ck_assert_mem_eq((void *)(fault_page + 4096 - 3), "abc", 3);
	ck_assert_int_eq(get(rd, buf, 8), 5);
	ck_assert_mem_eq(buf, "defgh", 5);

	/* Nothing of an atomic write is left, of a large one what was there. */
	ck_assert_int_eq(user_io(wr, fault_page + 4096 - 3, 8, true), -EFAULT);
	ck_assert_int_eq(get(rd, buf, 8), -EAGAIN);
	ck_assert_int_eq(user_io(wr, fault_page, 8192, true), 4096);
	ck_assert_int_eq(get(rd, big, sizeof(big)), 4096);
}
END_TEST

struct seen {
	struct waiter w;
	uint32_t events;
	int times;
};

static void see(struct waiter *w, uint32_t events)
{
	struct seen *s = container_of(w, struct seen, w);

	s->events |= events;
	s->times++;
}

START_TEST(waiters_hear_of_data_room_and_ends)
{
	static char buf[PIPE_DEF_SIZE];
	struct seen r = {.w.notify = see}, w = {.w.notify = see};

	waitq_add(file_waitq(rd), &r.w, POLLIN);
	waitq_add(file_waitq(wr), &w.w, POLLOUT);
	put(wr, "x", 1);
	ck_assert_int_eq(r.times, 1);
	ck_assert_int_eq(w.times, 0);
	ck_assert_int_eq(put(wr, buf, sizeof(buf)), sizeof(buf) - 1);
	get(rd, buf, 1); /* less than PIPE_BUF of room */
	ck_assert_int_eq(w.times, 0);
	get(rd, buf, PIPE_BUF);
	ck_assert_int_eq(w.times, 1);
	r.events = 0;
	drop(&wr);
	ck_assert_uint_eq(r.events & POLLHUP, POLLHUP);
	waitq_remove(&r.w);
	waitq_remove(&w.w);
}
END_TEST

#define STREAM_BYTES (8u << 20)

static void *write_stream(void *arg)
{
	uint32_t block[1500];
	uint32_t next = 0;
	unsigned seed = 7;

	(void)arg;
	while (next < STREAM_BYTES / 4) {
		size_t n = 1 + rand_r(&seed) % ARRAY_SIZE(block);
		n = MIN(n, STREAM_BYTES / 4 - next);
		for (size_t i = 0; i < n; i++)
			block[i] = next + i;
		size_t done = 0;
		while (done < n * 4) {
			ssize_t got = put(wr, (char *)block + done, n * 4 - done);
			if (got > 0)
				done += (size_t)got;
			else
				sched_yield();
		}
		next += n;
	}
	return NULL;
}

START_TEST(reader_and_writer_run_side_by_side)
{
	pthread_t thread;
	uint32_t next = 0;
	char block[10000];
	size_t have = 0;
	unsigned seed = 3;

	pthread_create(&thread, NULL, write_stream, NULL);
	while (next < STREAM_BYTES / 4) {
		size_t n = 1 + rand_r(&seed) % (sizeof(block) - have);
		ssize_t got = get(rd, block + have, n);
		if (got == -EAGAIN) {
			sched_yield();
			continue;
		}
		ck_assert_int_gt(got, 0);
		have += (size_t)got;
		size_t at = 0;
		for (; at + 4 <= have; at += 4) {
			uint32_t v;
			memcpy(&v, block + at, 4);
			ck_assert_uint_eq(v, next);
			next++;
		}
		have -= at;
		memmove(block, block + at, have);
	}
	pthread_join(thread, NULL);
}
END_TEST

/* ---- FIFOs: another file on the same inode ---- */

static const struct file_ops keeper_ops = {.stream = true};

/* A file that keeps the inode of a FIFO that nobody has open. */
static struct file *fifo_keeper(void)
{
	struct file *f;

	ck_assert_int_eq(file_new_anon(anon_inode_new(S_IFIFO | 0600, NULL, NULL), "fifo",
				       &keeper_ops, NULL, O_RDONLY, &f),
			 0);
	return f;
}

static int fifo_flags(struct file *keeper, int flags, struct file **out)
{
	struct file *f = file_new(keeper->path, flags);

	ck_assert_ptr_nonnull(f);
	int err = fifo_open(f->inode, f);
	if (err) {
		f->ops = &keeper_ops;
		file_put(f);
		return err;
	}
	*out = f;
	return 0;
}

START_TEST(fifo_opens_wait_for_the_other_side)
{
	struct file *r, *w, *both, *keeper = fifo_keeper();
	char c;

	ck_assert_int_eq(fifo_flags(keeper, O_RDONLY | O_NONBLOCK, &r), 0);
	ck_assert_int_eq(get(r, &c, 1), 0);
	ck_assert_uint_eq(file_poll(r), 0); /* no writer ever: not a hang-up */
	file_put(r);

	ck_assert_int_eq(fifo_flags(keeper, O_RDONLY, &r), 0);
	ck_assert_int_eq(r->ops->open_wait(r), -EAGAIN);
	ck_assert_uint_eq(file_poll(r), 0);
	ck_assert_int_eq(fifo_flags(keeper, O_WRONLY, &w), 0);
	ck_assert_int_eq(w->ops->open_wait(w), 0);
	ck_assert_uint_ne(file_poll(r), 0);
	ck_assert_int_eq(r->ops->open_wait(r), 0);
	file_put(w);
	ck_assert_uint_eq(file_poll(r) & POLLHUP, POLLHUP);

	/* The writer came and went before the reader looked again. */
	struct file *r2;
	ck_assert_int_eq(fifo_flags(keeper, O_RDONLY, &r2), 0);
	ck_assert_int_eq(fifo_flags(keeper, O_WRONLY, &w), 0);
	file_put(w);
	ck_assert_int_eq(r2->ops->open_wait(r2), 0);
	ck_assert_uint_eq(file_poll(r2) & POLLHUP, POLLHUP);
	file_put(r2);
	file_put(r);

	ck_assert_int_eq(fifo_flags(keeper, O_RDWR, &both), 0);
	ck_assert_int_eq(both->ops->open_wait(both), 0);
	ck_assert_int_eq(put(both, "x", 1), 1);
	ck_assert_int_eq(get(both, &c, 1), 1);
	file_put(both);
	file_put(keeper);
}
END_TEST

START_TEST(fifo_writer_without_reader_gets_enxio)
{
	struct file *w, *keeper = fifo_keeper();

	ck_assert_int_eq(fifo_flags(keeper, O_WRONLY | O_NONBLOCK, &w), -ENXIO);
	file_put(keeper);
}
END_TEST

/* A pipe(2) opened again through /proc. */
START_TEST(pipe_opened_again_waits_for_nobody)
{
	struct file *r;

	drop(&wr);
	ck_assert_int_eq(fifo_flags(rd, O_RDONLY, &r), 0);
	ck_assert_int_eq(r->ops->open_wait(r), 0);
	ck_assert_uint_eq(file_poll(r), POLLHUP);
	file_put(r);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pipe");
	TCase *tc = tcase_create("pipe"), *ft = tcase_create("fault");

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, bytes_come_out_in_order);
	tcase_add_test(tc, every_offset_of_the_ring_wraps_right);
	tcase_add_test(tc, write_of_pipe_buf_is_all_or_nothing);
	tcase_add_test(tc, readiness_follows_contents_and_ends);
	tcase_add_test(tc, write_without_reader_fails);
	tcase_add_test(tc, packets_keep_their_borders);
	tcase_add_test(tc, size_changes_keep_the_contents);
	tcase_add_test(tc, waiters_hear_of_data_room_and_ends);
	tcase_add_test(tc, reader_and_writer_run_side_by_side);
	tcase_add_test(tc, fifo_opens_wait_for_the_other_side);
	tcase_add_test(tc, fifo_writer_without_reader_gets_enxio);
	tcase_add_test(tc, pipe_opened_again_waits_for_nobody);
	suite_add_tcase(s, tc);
	tcase_add_checked_fixture(ft, fault_setup, fault_teardown);
	tcase_add_test(ft, fault_takes_no_bytes);
	suite_add_tcase(s, ft);

	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
