/* File locks: ranges that split and join, conflicts, deadlocks, whole files. */
#include "tests/unit/fs_helpers.h"

#include <sys/file.h>

static struct file *f, *g; /* two descriptions of one file */
static const struct flock_owner p1 = {"1", 1}, p2 = {"2", 2}, p3 = {"3", 3};

static void setup(void)
{
	struct super_block *sb;
	host_set_proc_fd(open("/proc", O_PATH | O_DIRECTORY));
	OK(tmpfs_init());
	OK(tmpfs_mount("", &sb));
	fs_enter(sb);
	fs_write("/f", "x");
	f = fs_must_open("/f", O_RDWR);
	g = fs_must_open("/f", O_RDWR);
}

static void teardown(void)
{
	file_put(f);
	file_put(g);
	fs_leave();
	close(host_proc_fd());
	host_set_proc_fd(-1);
}

/* Whether p2 could lock the byte for writing. */
static bool free_at(int64_t at)
{
	short type = F_WRLCK;
	int64_t start = at, end = at;
	int pid;
	return !flock_posix_test(f, &p2, &type, &start, &end, &pid);
}

START_TEST(readers_share_and_writers_do_not)
{
	OK(flock_posix_set(f, &p1, F_RDLCK, 0, 9));
	OK(flock_posix_set(g, &p2, F_RDLCK, 5, 14));
	ck_assert_int_eq(flock_posix_set(f, &p1, F_WRLCK, 0, 9), -EAGAIN);
	OK(flock_posix_set(f, &p1, F_WRLCK, 0, 4));
	ck_assert_int_eq(flock_posix_set(g, &p2, F_RDLCK, 4, 4), -EAGAIN);
	short type = F_WRLCK;
	int64_t start = 10, end = INT64_MAX;
	int pid = 0;
	ck_assert(flock_posix_test(g, &p3, &type, &start, &end, &pid));
	ck_assert_int_eq(pid, 2);
	ck_assert_int_eq(start, 5);
	ck_assert_int_eq(end, 14);
	ck_assert_int_eq(type, F_RDLCK);
}
END_TEST

START_TEST(ranges_split_and_join)
{
	OK(flock_posix_set(f, &p1, F_WRLCK, 0, INT64_MAX));
	ck_assert_uint_eq(flock_count(f->inode), 1);
	OK(flock_posix_set(f, &p1, F_UNLCK, 10, 19));
	ck_assert_uint_eq(flock_count(f->inode), 2);
	ck_assert(!free_at(9) && free_at(10) && free_at(19) && !free_at(20));
	OK(flock_posix_set(f, &p1, F_WRLCK, 10, 19));
	ck_assert_uint_eq(flock_count(f->inode), 1);
	OK(flock_posix_set(f, &p1, F_RDLCK, 5, 5));
	ck_assert_uint_eq(flock_count(f->inode), 3);
	OK(flock_posix_set(f, &p1, F_UNLCK, 0, 4));
	OK(flock_posix_set(f, &p1, F_UNLCK, 7, INT64_MAX));
	ck_assert(free_at(4) && !free_at(5) && !free_at(6) && free_at(7));
	flock_release_owner(f, p1.id);
	ck_assert_uint_eq(flock_count(f->inode), 0);
}
END_TEST

START_TEST(a_circle_of_waits_is_refused)
{
	OK(flock_posix_set(f, &p1, F_WRLCK, 1, 1));
	OK(flock_posix_set(f, &p2, F_WRLCK, 2, 2));
	OK(flock_posix_set(f, &p3, F_WRLCK, 3, 3));
	OK(flock_posix_wait_begin(f, &p1, F_WRLCK, 2, 2));
	OK(flock_posix_wait_begin(f, &p2, F_WRLCK, 3, 3));
	ck_assert_int_eq(flock_posix_wait_begin(f, &p3, F_WRLCK, 1, 1), -EDEADLK);
	flock_posix_wait_end(&p1);
	OK(flock_posix_wait_begin(f, &p3, F_WRLCK, 1, 1));
	flock_posix_wait_end(&p2);
	flock_posix_wait_end(&p3);
	flock_posix_wait_end(&p3); /* harmless */
}
END_TEST

START_TEST(whole_files_belong_to_descriptions)
{
	OK(flock_bsd_set(f, LOCK_SH, 1));
	OK(flock_bsd_set(g, LOCK_SH, 1));
	ck_assert_int_eq(flock_bsd_set(f, LOCK_EX, 1), -EAGAIN);
	/* The failed conversion has given the shared lock up. */
	OK(flock_bsd_set(g, LOCK_EX, 1));
	ck_assert_int_eq(flock_bsd_set(f, LOCK_SH, 1), -EAGAIN);
	OK(flock_bsd_set(g, LOCK_EX, 1));
	ck_assert_uint_eq(flock_count(f->inode), 1);
	OK(flock_posix_set(f, &p1, F_WRLCK, 0, 9)); /* another kind of lock */
	file_put(g);
	g = fs_must_open("/f", O_RDWR);
	OK(flock_bsd_set(f, LOCK_EX, 1));
	OK(flock_bsd_set(f, LOCK_UN, 1));
	OK(flock_bsd_set(f, LOCK_UN, 1));
}
END_TEST

START_TEST(locks_of_a_description_end_with_it)
{
	struct flock_owner ofd = {g, -1};
	OK(flock_posix_set(g, &ofd, F_WRLCK, 0, 9));
	ck_assert_int_eq(flock_posix_set(f, &p1, F_RDLCK, 9, 9), -EAGAIN);
	file_put(g);
	OK(flock_posix_set(f, &p1, F_RDLCK, 9, 9));
	g = fs_must_open("/f", O_RDWR);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("flock");
	TCase *tc = tcase_create("all");
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, readers_share_and_writers_do_not);
	tcase_add_test(tc, ranges_split_and_join);
	tcase_add_test(tc, a_circle_of_waits_is_refused);
	tcase_add_test(tc, whole_files_belong_to_descriptions);
	tcase_add_test(tc, locks_of_a_description_end_with_it);
	suite_add_tcase(s, tc);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
