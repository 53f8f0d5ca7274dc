/* Descriptor tables: numbers, reservations, ends. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "sentry/kernel/fdtable.h"

#define OK(call) ck_assert_int_eq(call, 0)

static int released, flushed;
static struct fdtable *t;

static void count_release(struct file *f)
{
	(void)f;
	released++;
}

static int count_flush(struct file *f)
{
	(void)f;
	flushed++;
	return 0;
}

static const struct file_ops ops = {.stream = true, .release = count_release, .flush = count_flush};

static struct file *new_file(int flags)
{
	struct file *f;
	OK(file_new_anon(anon_inode_new(0600, NULL, NULL), "x", &ops, NULL, flags, &f));
	return f;
}

static int install(void)
{
	return fdtable_install(t, 1024, new_file(O_RDWR), false);
}

static void setup(void)
{
	released = flushed = 0;
	t = fdtable_new();
	ck_assert_ptr_nonnull(t);
}

static void teardown(void)
{
	fdtable_put(t);
}

START_TEST(the_lowest_free_number_is_taken)
{
	for (int i = 0; i < 200; i++)
		ck_assert_int_eq(install(), i);
	OK(fdtable_close(t, 7));
	OK(fdtable_close(t, 130));
	ck_assert_int_eq(released, 2);
	int32_t fds[2];
	OK(fdtable_reserve(t, 100, 1024, 2, fds));
	ck_assert_int_eq(fds[0], 130);
	ck_assert_int_eq(fds[1], 200);
	ck_assert_int_eq(install(), 7);
	fdtable_unreserve(t, 2, fds);
	ck_assert_int_eq(install(), 130);
	ck_assert_int_eq(fdtable_close(t, 500), -EBADF);
	ck_assert_int_eq(fdtable_close(t, -1), -EBADF);
}
END_TEST

START_TEST(a_limit_leaves_nothing_behind)
{
	int32_t fds[3];
	ck_assert_int_eq(install(), 0);
	ck_assert_int_eq(fdtable_reserve(t, 0, 3, 3, fds), -EMFILE);
	OK(fdtable_reserve(t, 0, 3, 2, fds));
	ck_assert_int_eq(fds[0], 1);
	ck_assert_int_eq(fdtable_install(t, 3, new_file(0), false), -EMFILE);
	ck_assert_int_eq(released, 1);
	/* Reserved numbers are not seen, and not replaced. */
	ck_assert_ptr_null(fdtable_file_any(t, 1));
	ck_assert_int_eq(fdtable_close(t, 1), -EBADF);
	ck_assert_int_eq(fdtable_replace(t, 1, 10, new_file(0), false), -EBUSY);
	ck_assert_int_eq(fdtable_replace(t, 10, 10, new_file(0), false), -EBADF);
	ck_assert_int_eq(released, 3);
	fdtable_commit(t, fds[0], new_file(0), true);
	fdtable_unreserve(t, 1, &fds[1]);
	ck_assert_int_eq(fdtable_get_cloexec(t, 1), 1);
	ck_assert_int_eq(fdtable_next(t, 0), 0);
	ck_assert_int_eq(fdtable_next(t, 1), 1);
	ck_assert_int_eq(fdtable_next(t, 2), -1);
}
END_TEST

START_TEST(closing_ranges_and_exec)
{
	for (int i = 0; i < 100; i++)
		install();
	OK(fdtable_close_range(t, 90, ~0u, false));
	ck_assert_int_eq(released, 10);
	OK(fdtable_close_range(t, 50, ~0u, true));
	ck_assert_int_eq(released, 10);
	OK(fdtable_set_cloexec(t, 60, false));
	ck_assert_int_eq(fdtable_close_range(t, 2, 1, false), -EINVAL);
	fdtable_exec(t);
	ck_assert_int_eq(released, 10 + 39);
	ck_assert_int_eq(fdtable_next(t, 50), 60);
	ck_assert_int_eq(flushed, released);
}
END_TEST

START_TEST(a_copy_shares_the_files)
{
	int err;
	install();
	ck_assert_int_eq(fdtable_replace(t, 300, 1024, new_file(O_PATH), true), 300);
	struct fdtable *copy = fdtable_dup(t, &err);
	ck_assert_ptr_nonnull(copy);
	ck_assert_int_eq(fdtable_get_cloexec(copy, 300), 1);
	ck_assert_ptr_null(fdtable_file(copy, 300));
	struct file *f = fdtable_file_any(copy, 300);
	ck_assert_ptr_nonnull(f);
	file_put(f);
	OK(fdtable_close(t, 0));
	ck_assert_int_eq(released, 0);
	fdtable_put(copy);
	ck_assert_int_eq(released, 1);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fdtable");
	TCase *tc = tcase_create("all");
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, the_lowest_free_number_is_taken);
	tcase_add_test(tc, a_limit_leaves_nothing_behind);
	tcase_add_test(tc, closing_ranges_and_exec);
	tcase_add_test(tc, a_copy_shares_the_files);
	suite_add_tcase(s, tc);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
