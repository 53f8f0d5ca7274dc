/* Copies to and from guest memory, and scattered buffers. */
#include "tests/unit/fake_platform.h"

#include <fcntl.h>

#define AREA 0x200000000000UL

static struct mm *mm;
static struct umem um;

static void map_page(uint64_t addr, int prot)
{
	const struct mm_map_args a = {.addr = addr,
				      .len = PAGE_SIZE,
				      .prot = prot,
				      .flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED};
	uint64_t out;

	ck_assert_int_eq(mm_map(mm, um.th, &a, &out), 0);
}

/* One page at AREA, nothing after it. */
static void setup(void)
{
	fake_reset();
	ck_assert_int_eq(mm_create(&fake_platform, &mm, &um.th), 0);
	um.mm = mm;
	map_page(AREA, PROT_READ | PROT_WRITE);
}

static void teardown(void)
{
	mm_put(mm);
}

START_TEST(copies_are_whole_or_efault)
{
	uint64_t v = 42, w = 0;

	ck_assert_int_eq(copy_out_val(&um, UADDR(AREA + 8), &v), 0);
	ck_assert_int_eq(copy_in_val(&um, &w, UADDR(AREA + 8)), 0);
	ck_assert_uint_eq(w, 42);
	ck_assert_int_eq(copy_in_val(&um, &w, UADDR(AREA + PAGE_SIZE - 4)), -EFAULT);
	ck_assert_uint_eq(copy_in_partial(&um, &w, UADDR(AREA + PAGE_SIZE - 4), 8), 4);
	ck_assert_int_eq(copy_in(&um, &w, UADDR(0), 0), 0);
}
END_TEST

START_TEST(nothing_above_the_guests_range_is_reached)
{
	char *own = malloc(16); /* lies above FAKE_TASK_SIZE, mapped and readable */
	char buf[16];

	ck_assert_uint_gt((uintptr_t)own, FAKE_TASK_SIZE);
	ck_assert_int_eq(copy_in(&um, buf, UADDR((uintptr_t)own), 16), -EFAULT);
	ck_assert_int_eq(copy_out(&um, UADDR((uintptr_t)own), buf, 16), -EFAULT);
	ck_assert_int_eq(copy_in(&um, buf, UADDR(FAKE_TASK_SIZE - 8), 16), -EFAULT);
	ck_assert_int_eq(copy_in(&um, buf, UADDR(UINT64_MAX - 7), 16), -EFAULT);
	ck_assert_int_eq(copy_in_str(&um, buf, UADDR(UINT64_MAX), 16), -EFAULT);
	free(own);
}
END_TEST

START_TEST(strings_end_before_a_missing_page)
{
	char buf[600];
	char *guest = (char *)AREA;

	strcpy(guest + PAGE_SIZE - 4, "abc");
	ck_assert_int_eq(copy_in_str(&um, buf, UADDR(AREA + PAGE_SIZE - 4), sizeof(buf)), 3);
	ck_assert_str_eq(buf, "abc");
	memset(guest, 'x', PAGE_SIZE);
	ck_assert_int_eq(copy_in_str(&um, buf, UADDR(AREA + PAGE_SIZE - 4), sizeof(buf)), -EFAULT);
	ck_assert_int_eq(copy_in_str(&um, buf, UADDR(AREA), sizeof(buf)), -ENAMETOOLONG);
	guest[599] = '\0';
	ck_assert_int_eq(copy_in_str(&um, buf, UADDR(AREA), sizeof(buf)), 599);
	guest[599] = 'x';
	guest[600] = '\0';
	ck_assert_int_eq(copy_in_str(&um, buf, UADDR(AREA), sizeof(buf)), -ENAMETOOLONG);
}
END_TEST

START_TEST(iovecs_are_checked_and_bounded)
{
	struct uio_seg segs[UIO_MAXIOV], *guest = (struct uio_seg *)AREA;
	struct uio io;

	guest[0] = (struct uio_seg){AREA, 10};
	guest[1] = (struct uio_seg){AREA, 0};
	guest[2] = (struct uio_seg){AREA, 1UL << 40};
	ck_assert_int_eq(uio_import(&io, segs, &um, UADDR(AREA), 3), 0);
	ck_assert_uint_eq(io.left, 0x7ffff000);
	ck_assert_int_eq(uio_import(&io, segs, &um, UADDR(AREA), UIO_MAXIOV + 1), -EINVAL);
	ck_assert_int_eq(uio_import(&io, segs, &um, UADDR(AREA + PAGE_SIZE), 1), -EFAULT);
	ck_assert_int_eq(uio_import(&io, segs, &um, UADDR(AREA + PAGE_SIZE), 0), 0);
	guest[1].len = 1UL << 63;
	ck_assert_int_eq(uio_import(&io, segs, &um, UADDR(AREA), 2), -EINVAL);
	guest[1] = (struct uio_seg){UINT64_MAX, 16};
	ck_assert_int_eq(uio_import(&io, segs, &um, UADDR(AREA), 2), -EFAULT);
}
END_TEST

START_TEST(scattered_moves_stop_at_a_fault_and_can_be_taken_back)
{
	struct uio_seg segs[] = {{AREA, 3}, {AREA + 100, 0}, {AREA + PAGE_SIZE - 2, 10}};
	struct uio io = {.um = &um, .segs = segs, .nsegs = 3, .left = 13};

	ck_assert_int_eq(uio_put(&io, "abcdefghijklm", 13), 5);
	ck_assert_mem_eq((char *)AREA, "abc", 3);
	ck_assert_mem_eq((char *)AREA + PAGE_SIZE - 2, "de", 2);
	ck_assert_uint_eq(io.left, 8);
	ck_assert_int_eq(uio_put(&io, "x", 1), -EFAULT);
	uio_revert(&io, 4);
	ck_assert_uint_eq(io.left, 12);
	ck_assert_uint_eq(io.seg, 0);
	ck_assert_uint_eq(io.off, 1);
	char buf[4];
	ck_assert_int_eq(uio_get(&io, buf, 4), 4);
	ck_assert_mem_eq(buf, "bcde", 4);
}
END_TEST

START_TEST(a_probe_tells_and_changes_nothing)
{
	struct uio_seg one;
	struct uio io;

	map_page(AREA + 4 * PAGE_SIZE, PROT_READ);
	strcpy((char *)AREA, "keep");
	uio_init_user(&io, &one, &um, UADDR(AREA), 2 * PAGE_SIZE);
	ck_assert_int_eq(uio_probe_put(&io, PAGE_SIZE), 0);
	ck_assert_int_eq(uio_probe_put(&io, PAGE_SIZE + 1), -EFAULT);
	ck_assert_uint_eq(io.left, 2 * PAGE_SIZE);
	ck_assert_str_eq((char *)AREA, "keep");
	uio_init_user(&io, &one, &um, UADDR(AREA + 4 * PAGE_SIZE), 1);
	ck_assert_int_eq(uio_probe_put(&io, 1), -EFAULT);
	uio_init_user(&io, &one, &um, UADDR(UINT64_MAX), 100);
	ck_assert_int_eq(uio_probe_put(&io, 100), -EFAULT);
}
END_TEST

START_TEST(host_files_are_read_and_written_in_pieces)
{
	enum { SIZE = 200000 };
	int fd = memfd_create("t", MFD_CLOEXEC);
	char *big = malloc(SIZE), *back = calloc(1, SIZE);
	struct uio_seg one;
	struct uio io;
	int64_t off = 0;

	for (int i = 0; i < SIZE; i++)
		big[i] = (char)(i * 31 >> 3);
	uio_init_kernel(&io, &one, big, SIZE);
	ck_assert_int_eq(uio_host_write(&io, fd, &off), SIZE);
	ck_assert_int_eq(off, SIZE);
	off = 0;
	uio_init_kernel(&io, &one, back, SIZE);
	ck_assert_int_eq(uio_host_read(&io, fd, &off), SIZE);
	ck_assert_mem_eq(big, back, SIZE);

	/* Into guest memory, up to where it ends. */
	off = 1;
	uio_init_user(&io, &one, &um, UADDR(AREA + 6), SIZE);
	ck_assert_int_eq(uio_host_read(&io, fd, &off), PAGE_SIZE - 6);
	ck_assert_int_eq(off, 1 + (int64_t)PAGE_SIZE - 6);
	ck_assert_mem_eq((char *)AREA + 6, big + 1, PAGE_SIZE - 6);
	/* A write that faults in the middle is short, and nothing when it faults at once. */
	off = 0;
	uio_init_user(&io, &one, &um, UADDR(AREA + PAGE_SIZE - 10), 100);
	ck_assert_int_eq(uio_host_write(&io, fd, &off), 10);
	ck_assert_int_eq(uio_host_write(&io, fd, &off), -EFAULT);
	ck_assert_int_eq(off, 10);
	close(fd);
	ck_assert_int_eq(uio_host_read(&io, fd, &off), -EBADF);
	free(big);
	free(back);
}
END_TEST

START_TEST(a_stream_loses_nothing_to_a_bad_buffer)
{
	int p[2];
	struct uio_seg one;
	struct uio io;
	char buf[8] = {0};

	ck_assert_int_eq(pipe(p), 0);
	ck_assert_int_eq(write(p[1], "data", 4), 4);
	uio_init_user(&io, &one, &um, UADDR(AREA + PAGE_SIZE), 4);
	ck_assert_int_eq(uio_host_read(&io, p[0], NULL), -EFAULT);
	ck_assert_int_eq(read(p[0], buf, 8), 4);
	ck_assert_str_eq(buf, "data");
	close(p[0]);
	close(p[1]);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("uaccess");
	TCase *tc = tcase_create("uaccess");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, copies_are_whole_or_efault);
	tcase_add_test(tc, nothing_above_the_guests_range_is_reached);
	tcase_add_test(tc, strings_end_before_a_missing_page);
	tcase_add_test(tc, iovecs_are_checked_and_bounded);
	tcase_add_test(tc, scattered_moves_stop_at_a_fault_and_can_be_taken_back);
	tcase_add_test(tc, a_probe_tells_and_changes_nothing);
	tcase_add_test(tc, host_files_are_read_and_written_in_pieces);
	tcase_add_test(tc, a_stream_loses_nothing_to_a_bad_buffer);
	suite_add_tcase(s, tc);

	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
