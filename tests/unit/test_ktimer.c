#include "sentry/time/ktimer.h"

#include <check.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "sentry/lib/compiler.h"

#define MS 1000000LL

static void sleep_ms(int ms)
{
	struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * MS};
	nanosleep(&ts, NULL);
}

struct probe {
	struct ktimer timer;
	_Atomic int fired;
	int64_t at;  /* when it fired last */
	int order;   /* the how-manieth of all */
	int rearm;   /* times to arm again from the callback */
	int busy_ms; /* time that the callback takes */
	_Atomic bool entered;
};

static _Atomic int fired_in_all;

static void probe_fire(struct ktimer *t)
{
	struct probe *p = container_of(t, struct probe, timer);

	atomic_store(&p->entered, true);
	p->at = time_monotonic();
	p->order = atomic_fetch_add(&fired_in_all, 1);
	if (p->busy_ms)
		sleep_ms(p->busy_ms);
	if (p->rearm-- > 0)
		ktimer_arm(t, p->at + MS);
	atomic_fetch_add(&p->fired, 1);
}

static void setup(void)
{
	ck_assert_int_eq(ktimer_start_thread(), 0);
}

static void wait_fired(struct probe *p, int n)
{
	for (int i = 0; i < 2000 && atomic_load(&p->fired) < n; i++)
		sleep_ms(1);
	ck_assert_int_eq(atomic_load(&p->fired), n);
}

START_TEST(timer_fires_once_and_not_early)
{
	struct probe p = {0};
	int64_t due = time_monotonic() + 20 * MS;

	ktimer_init(&p.timer, probe_fire);
	ktimer_arm(&p.timer, due);
	wait_fired(&p, 1);
	ck_assert_int_ge(p.at, due);
	sleep_ms(30);
	ck_assert_int_eq(atomic_load(&p.fired), 1);
	ck_assert(!ktimer_cancel(&p.timer));
}
END_TEST

START_TEST(earlier_timer_overtakes_a_sleeping_thread)
{
	struct probe late = {0}, early = {0};

	ktimer_init(&late.timer, probe_fire);
	ktimer_init(&early.timer, probe_fire);
	ktimer_arm(&late.timer, time_monotonic() + 3600 * NSEC_PER_SEC);
	sleep_ms(10); /* the thread sleeps for the late one now */
	ktimer_arm(&early.timer, time_monotonic() + 5 * MS);
	wait_fired(&early, 1);
	ck_assert(ktimer_cancel(&late.timer));
	ck_assert_int_eq(atomic_load(&late.fired), 0);
}
END_TEST

START_TEST(timers_fire_by_deadline_and_equal_ones_in_order)
{
	enum { N = 200 };
	static struct probe p[N];
	int64_t base = time_monotonic() + 50 * MS;

	srand(1);
	for (int i = 0; i < N; i++) {
		ktimer_init(&p[i].timer, probe_fire);
		p[i].timer.deadline = base + rand() % 50 * 100000LL;
	}
	for (int i = 0; i < N; i++)
		ktimer_arm(&p[i].timer, p[i].timer.deadline);
	for (int i = 0; i < N; i++)
		wait_fired(&p[i], 1);
	for (int i = 0; i < N; i++)
		for (int j = 0; j < i; j++) {
			if (p[j].timer.deadline == p[i].timer.deadline)
				ck_assert_int_lt(p[j].order, p[i].order);
			else
				ck_assert((p[j].timer.deadline < p[i].timer.deadline) ==
					  (p[j].order < p[i].order));
		}
}
END_TEST

START_TEST(arming_again_replaces_the_deadline)
{
	struct probe p = {0};

	ktimer_init(&p.timer, probe_fire);
	ktimer_arm(&p.timer, time_monotonic() + 5 * MS);
	ktimer_arm(&p.timer, time_monotonic() + 3600 * NSEC_PER_SEC);
	sleep_ms(30);
	ck_assert_int_eq(atomic_load(&p.fired), 0);
	ktimer_arm(&p.timer, time_monotonic());
	wait_fired(&p, 1);
}
END_TEST

START_TEST(cancelled_timer_does_not_fire)
{
	struct probe p = {0};

	ktimer_init(&p.timer, probe_fire);
	ktimer_arm(&p.timer, time_monotonic() + 10 * MS);
	ck_assert(ktimer_cancel(&p.timer));
	ck_assert(!ktimer_cancel(&p.timer));
	sleep_ms(30);
	ck_assert_int_eq(atomic_load(&p.fired), 0);
}
END_TEST

START_TEST(cancel_waits_for_a_running_callback)
{
	struct probe p = {.busy_ms = 50};

	ktimer_init(&p.timer, probe_fire);
	ktimer_arm(&p.timer, time_monotonic());
	while (!atomic_load(&p.entered))
		sleep_ms(1);
	ck_assert(!ktimer_cancel(&p.timer));
	ck_assert_int_eq(atomic_load(&p.fired), 1);
}
END_TEST

START_TEST(cancel_stops_a_callback_that_arms_itself)
{
	struct probe p = {.busy_ms = 20, .rearm = 1000000};

	ktimer_init(&p.timer, probe_fire);
	ktimer_arm(&p.timer, time_monotonic());
	while (!atomic_load(&p.entered))
		sleep_ms(1);
	ck_assert(!ktimer_cancel(&p.timer));
	int n = atomic_load(&p.fired);
	sleep_ms(40);
	ck_assert_int_eq(atomic_load(&p.fired), n);
}
END_TEST

START_TEST(callback_may_arm_its_own_timer)
{
	struct probe p = {.rearm = 20};

	ktimer_init(&p.timer, probe_fire);
	ktimer_arm(&p.timer, time_monotonic());
	wait_fired(&p, 21);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("ktimer");
	TCase *tc = tcase_create("ktimer");

	tcase_set_timeout(tc, 30);
	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_add_test(tc, timer_fires_once_and_not_early);
	tcase_add_test(tc, earlier_timer_overtakes_a_sleeping_thread);
	tcase_add_test(tc, timers_fire_by_deadline_and_equal_ones_in_order);
	tcase_add_test(tc, arming_again_replaces_the_deadline);
	tcase_add_test(tc, cancelled_timer_does_not_fire);
	tcase_add_test(tc, cancel_waits_for_a_running_callback);
	tcase_add_test(tc, cancel_stops_a_callback_that_arms_itself);
	tcase_add_test(tc, callback_may_arm_its_own_timer);
	suite_add_tcase(s, tc);

	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
