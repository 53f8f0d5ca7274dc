#include "sentry/fs/eventfd/eventfd.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>

#include "sentry/fs/timerfd/timerfd.h"
#include "sentry/time/ktimer.h"
#include "tests/unit/fake_platform.h"
#include "sentry/vfs/file.h"

static const struct time_offsets no_offsets;

#define MS 1000000L

static ssize_t put(struct file *f, uint64_t v)
{
	struct uio io;
	struct uio_seg seg;

	uio_init_kernel(&io, &seg, &v, sizeof(v));
	return file_write(f, &io, NULL, UINT64_MAX);
}

static ssize_t get(struct file *f, uint64_t *v)
{
	struct uio io;
	struct uio_seg seg;

	uio_init_kernel(&io, &seg, v, sizeof(*v));
	return file_read(f, &io, NULL);
}

START_TEST(counter_adds_up_and_is_taken_whole)
{
	struct file *f;
	uint64_t v;

	ck_assert_int_eq(eventfd_create_file(2, 0, &f), 0);
	ck_assert_int_eq(put(f, 3), 8);
	ck_assert_uint_eq(file_poll(f), POLLIN | POLLOUT);
	ck_assert_int_eq(get(f, &v), 8);
	ck_assert_uint_eq(v, 5);
	ck_assert_int_eq(get(f, &v), -EAGAIN);
	ck_assert_uint_eq(file_poll(f), POLLOUT);
	ck_assert_int_eq(put(f, UINT64_MAX), -EINVAL);
	ck_assert_int_eq(put(f, UINT64_MAX - 1), 8);
	ck_assert_int_eq(put(f, 1), -EAGAIN);
	ck_assert_uint_eq(file_poll(f), POLLIN);
	file_put(f);
}
END_TEST

START_TEST(semaphore_gives_one_at_a_time)
{
	struct file *f;
	uint64_t v;

	ck_assert_int_eq(eventfd_create_file(2, EFD_SEMAPHORE, &f), 0);
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(get(f, &v), 8);
		ck_assert_uint_eq(v, 1);
	}
	ck_assert_int_eq(get(f, &v), -EAGAIN);
	file_put(f);
}
END_TEST

START_TEST(fault_leaves_the_counter)
{
	struct mm *mm;
	struct p_thread *th;
	struct umem um = {0};
	struct file *f;
	struct uio io;
	struct uio_seg seg;
	uint64_t v;

	fake_reset();
	ck_assert_int_eq(mm_create(&fake_platform, &mm, &th), 0);
	um.mm = mm;
	ck_assert_int_eq(eventfd_create_file(7, 0, &f), 0);
	uio_init_user(&io, &seg, &um, UADDR(8), 8);
	ck_assert_int_eq(file_read(f, &io, NULL), -EFAULT);
	ck_assert_int_eq(get(f, &v), 8);
	ck_assert_uint_eq(v, 7);
	file_put(f);
	mm_put(mm);
}
END_TEST

static void sleep_ms(int ms)
{
	struct timespec ts = {.tv_nsec = ms * MS};
	nanosleep(&ts, NULL);
}

struct seen {
	struct waiter w;
	_Atomic int times;
};

static void see(struct waiter *w, uint32_t events)
{
	(void)events;
	container_of(w, struct seen, w)->times++;
}

START_TEST(timer_counts_expirations_and_rests_until_read)
{
	struct itimerspec it = {.it_value.tv_nsec = 5 * MS, .it_interval.tv_nsec = 5 * MS}, cur;
	struct seen s = {.w.notify = see};
	struct file *f;
	uint64_t v;

	ck_assert_int_eq(ktimer_start_thread(), 0);
	ck_assert_int_eq(timerfd_create_file(CLOCK_MONOTONIC, 0, &f), 0);
	waitq_add(file_waitq(f), &s.w, POLLIN);
	ck_assert_int_eq(get(f, &v), -EAGAIN);
	ck_assert_int_eq(timerfd_set(f, 0, &it, NULL, &no_offsets), 0);
	ck_assert_uint_eq(file_poll(f), 0);
	sleep_ms(52);
	ck_assert_uint_eq(file_poll(f), POLLIN);
	ck_assert_int_eq(s.times, 1);
	ck_assert_int_eq(get(f, &v), 8);
	ck_assert_uint_ge(v, 10);
	ck_assert_uint_le(v, 30);
	ck_assert_int_eq(timerfd_get(f, &cur), 0);
	ck_assert_int_eq(cur.it_interval.tv_nsec, 5 * MS);
	ck_assert_int_le(cur.it_value.tv_nsec, 5 * MS);
	sleep_ms(10);
	ck_assert_int_eq(s.times, 2);
	waitq_remove(&s.w);
	file_put(f);
}
END_TEST

START_TEST(absolute_timer_in_the_past_fires_at_once)
{
	struct itimerspec it = {.it_value.tv_sec = 1}, none = {0}, old;
	struct file *f;
	uint64_t v;

	ck_assert_int_eq(timerfd_create_file(CLOCK_REALTIME, 0, &f), 0);
	ck_assert_int_eq(timerfd_set(f, TFD_TIMER_ABSTIME, &it, NULL, &no_offsets), 0);
	ck_assert_int_eq(get(f, &v), 8);
	ck_assert_uint_eq(v, 1);
	ck_assert_int_eq(get(f, &v), -EAGAIN);

	ck_assert_int_eq(timerfd_set(f, 0, &it, NULL, &no_offsets), 0);
	ck_assert_int_eq(timerfd_set(f, 0, &none, &old, &no_offsets), 0);
	ck_assert(old.it_value.tv_sec == 1 || old.it_value.tv_nsec > 0);
	it.it_value.tv_nsec = 1000000000;
	ck_assert_int_eq(timerfd_set(f, 0, &it, NULL, &no_offsets), -EINVAL);
	file_put(f);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("eventfd");
	TCase *tc = tcase_create("eventfd");

	tcase_set_timeout(tc, 30);
	tcase_add_test(tc, counter_adds_up_and_is_taken_whole);
	tcase_add_test(tc, semaphore_gives_one_at_a_time);
	tcase_add_test(tc, fault_leaves_the_counter);
	tcase_add_test(tc, timer_counts_expirations_and_rests_until_read);
	tcase_add_test(tc, absolute_timer_in_the_past_fires_at_once);
	suite_add_tcase(s, tc);

	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
