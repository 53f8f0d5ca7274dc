/* Fibers: what survives a switch, and that what goes wrong on their stacks is noticed. */
#include <check.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sentry/lib/fiber.h"

struct job {
	struct fiber f;
	int rounds, done;
	bool gone;
};

static void mark_gone(void *arg)
{
	((struct job *)arg)->gone = true;
}

static void run_rounds(void *arg)
{
	struct job *j = arg;
	char fill[4000];

	memset(fill, j->rounds, sizeof(fill));
	while (j->done < j->rounds) {
		j->done++;
		fiber_suspend(&j->f, NULL, NULL);
		for (size_t i = 0; i < sizeof(fill); i++)
			if (fill[i] != j->rounds)
				ck_abort_msg("a local changed");
	}
	fiber_exit(&j->f, mark_gone, j);
}

START_TEST(locals_survive_switches_between_many_fibers)
{
	static struct job jobs[100];
	struct fiber_home home = {0};
	size_t left = ARRAY_SIZE(jobs);

	for (size_t i = 0; i < ARRAY_SIZE(jobs); i++) {
		jobs[i].rounds = (int)i % 7 + 1;
		ck_assert_int_eq(fiber_init(&jobs[i].f, run_rounds, &jobs[i]), 0);
	}
	while (left)
		for (size_t i = 0; i < ARRAY_SIZE(jobs); i++) {
			if (jobs[i].gone)
				continue;
			fiber_run(&home, &jobs[i].f);
			if (!jobs[i].gone)
				continue;
			ck_assert_int_eq(jobs[i].done, jobs[i].rounds);
			fiber_fini(&jobs[i].f);
			left--;
		}
}
END_TEST

static void run_in_fiber(void (*entry)(void *))
{
	struct fiber_home home = {0};
	struct fiber f;

	ck_assert_int_eq(fiber_init(&f, entry, &f), 0);
	fiber_run(&home, &f);
	fiber_fini(&f);
}

static __attribute__((noinline)) int deeper(int n)
{
	volatile char frame[1024];

	frame[0] = (char)n;
	return n ? deeper(n - 1) + frame[0] : 0;
}

static void overflow(void *arg)
{
	(void)arg;
	_exit(deeper(100000) & 1);
}

START_TEST(overflow_hits_the_guard_page)
{
	run_in_fiber(overflow);
}
END_TEST

#if defined(__SANITIZE_ADDRESS__)
static int *volatile escaped;

static __attribute__((noinline)) void leave_a_local_behind(void)
{
	int local = 1;

	escaped = &local;
}

static void use_after_return(void *arg)
{
	leave_a_local_behind();
	fiber_exit(arg, NULL, escaped + *escaped);
}

/* An AddressSanitizer's report ends the program with status 1. */
START_TEST(use_after_return_is_reported_on_a_fiber)
{
	run_in_fiber(use_after_return);
}
END_TEST
#endif

int main(void)
{
	Suite *s = suite_create("fiber");
	TCase *t = tcase_create("switches"), *o = tcase_create("faults");
	SRunner *r = srunner_create(s);

	tcase_add_test(t, locals_survive_switches_between_many_fibers);
#if defined(__SANITIZE_ADDRESS__)
	tcase_add_exit_test(o, overflow_hits_the_guard_page, 1);
	tcase_add_exit_test(o, use_after_return_is_reported_on_a_fiber, 1);
#else
	tcase_add_test_raise_signal(o, overflow_hits_the_guard_page, SIGSEGV);
#endif
	suite_add_tcase(s, t);
	suite_add_tcase(s, o);
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
