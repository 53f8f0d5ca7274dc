/*
 * What xstate_import accepts must be what XRSTOR accepts: every image is loaded for real, with the
 * test's own state saved around it.  A wrong answer ends in a fault of this program.
 */
#include "sentry/arch/xstate.h"

#include <check.h>
#include <cpuid.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/abi/signal.h"

static struct xstate_format fmt;
static _Alignas(64) uint8_t own[ARCH_XSTATE_MAX], image[ARCH_XSTATE_MAX];
static uint8_t frame[ARCH_XSTATE_MAX + LINUX_FP_XSTATE_MAGIC2_SIZE];

static void load(const uint8_t *area)
{
	uint32_t lo = (uint32_t)fmt.mask, hi = (uint32_t)(fmt.mask >> 32);

	__asm__ volatile("xsave64 (%0)\n\txrstor64 (%1)\n\txrstor64 (%0)"
			 :
			 : "r"(own), "r"(area), "a"(lo), "d"(hi)
			 : "memory");
}

static void put32(uint8_t *p, uint32_t v)
{
	memcpy(p, &v, sizeof(v));
}

static void put64(uint8_t *p, uint64_t v)
{
	memcpy(p, &v, sizeof(v));
}

static uint64_t get64(const uint8_t *p)
{
	uint64_t v;
	memcpy(&v, p, sizeof(v));
	return v;
}

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)get64(p);
}

/* A frame as signal delivery makes it, from this thread's state; x87, SSE and AVX (if there). */
static void setup(void)
{
	uint32_t lo, hi, eax, ebx, ecx, edx;

	__asm__("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	fmt.mask = lo & 7;
	fmt.size = XSTATE_MIN_SIZE;
	if (fmt.mask & XFEATURE_AVX) {
		__cpuid_count(0xd, 2, eax, ebx, ecx, edx);
		fmt.size = ebx + eax;
	}
	memset(own, 0, sizeof(own));
	__asm__ volatile("xsave64 (%0)" : : "r"(own), "a"((uint32_t)fmt.mask), "d"(0) : "memory");
	memcpy(frame, own, fmt.size);
	xstate_export(&fmt, frame);
}

static struct linux_fpx_sw_bytes get_sw(void)
{
	struct linux_fpx_sw_bytes sw;
	memcpy(&sw, frame + ARCH_XSTATE_SW_BYTES, sizeof(sw));
	return sw;
}

static void put_sw(const struct linux_fpx_sw_bytes *sw)
{
	memcpy(frame + ARCH_XSTATE_SW_BYTES, sw, sizeof(*sw));
}

static int import(void)
{
	int err = xstate_import(&fmt, frame, xstate_frame_size(&fmt), image);
	if (!err) {
		ck_assert_int_eq(xstate_check(&fmt, image), 0);
		load(image);
	}
	return err;
}

START_TEST(own_frame_comes_back_whole)
{
	ck_assert_int_eq(import(), 0);
	ck_assert_mem_eq(image, frame, ARCH_XSTATE_SW_BYTES);
	ck_assert_mem_eq(image + XSTATE_MIN_SIZE, frame + XSTATE_MIN_SIZE,
			 fmt.size - XSTATE_MIN_SIZE);
	ck_assert_uint_eq(get64(image + 512) & 3, 3);
}
END_TEST

START_TEST(unknown_mxcsr_bits_are_refused)
{
	put32(frame + XSTATE_MXCSR_OFFSET, 0x10000);
	ck_assert_int_eq(import(), -EINVAL);
	put32(frame + XSTATE_MXCSR_OFFSET, ~0U);
	ck_assert_int_eq(import(), -EINVAL);
	put32(frame + XSTATE_MXCSR_OFFSET, 0xffbf);
	ck_assert_int_eq(import(), 0);
}
END_TEST

START_TEST(compacted_format_and_reserved_header_are_refused)
{
	put64(frame + 520, 1ULL << 63 | 7);
	ck_assert_int_eq(import(), -EINVAL);
	put64(frame + 520, 0);
	put64(frame + 528, 1);
	ck_assert_int_eq(import(), -EINVAL);
	put64(frame + 528, 0);
	/* The rest of the header is not looked at, and not passed on. */
	put64(frame + 536, ~0ULL);
	ck_assert_int_eq(import(), 0);
	ck_assert_uint_eq(get64(image + 536), 0);
}
END_TEST

START_TEST(components_beyond_the_mask_are_refused)
{
	for (int bit = 3; bit < 64; bit++) {
		put64(frame + 512, 3 | 1ULL << bit);
		ck_assert_int_eq(import(), -EINVAL);
	}
}
END_TEST

START_TEST(components_that_the_frame_does_not_carry_are_initial)
{
	struct linux_fpx_sw_bytes sw = get_sw();

	put64(frame + 512, fmt.mask);
	sw.xfeatures = 0;
	put_sw(&sw);
	put32(frame + XSTATE_MXCSR_OFFSET, 0x1fa0);
	ck_assert_int_eq(import(), 0);
	ck_assert_uint_eq(get64(image + 512), 0);
	ck_assert_uint_eq(get32(image + XSTATE_MXCSR_OFFSET), XSTATE_MXCSR_DEFAULT);

	sw.xfeatures = ~0ULL;
	put_sw(&sw);
	ck_assert_int_eq(import(), 0);
	ck_assert_uint_eq(get64(image + 512), fmt.mask);
}
END_TEST

START_TEST(legacy_frame_restores_x87_and_sse_only)
{
	struct linux_fpx_sw_bytes sw = get_sw();

	sw.magic1 = 0;
	put_sw(&sw);
	put64(frame + 512, ~0ULL); /* not part of a legacy frame */
	ck_assert_int_eq(import(), 0);
	ck_assert_uint_eq(get64(image + 512), 3);
	/* 512 bytes are enough for it. */
	ck_assert_int_eq(xstate_import(&fmt, frame, 512, image), 0);
	ck_assert_int_eq(xstate_import(&fmt, frame, 511, image), -EFAULT);
	ck_assert_int_eq(xstate_import(&fmt, frame, 0, image), -EFAULT);
}
END_TEST

START_TEST(wrong_sizes_and_second_magic_mean_legacy)
{
	const struct linux_fpx_sw_bytes good = get_sw();
	static const uint32_t sizes[] = {0, 1, 511, 575, 1U << 20, ~0U};
	struct linux_fpx_sw_bytes sw = good;

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		sw.xstate_size = sizes[i];
		put_sw(&sw);
		ck_assert_int_eq(import(), 0);
		ck_assert_uint_eq(get64(image + 512), 3);
	}
	sw = good;
	sw.extended_size = good.xstate_size - 1;
	put_sw(&sw);
	ck_assert_int_eq(import(), 0);
	ck_assert_uint_eq(get64(image + 512), 3);
	put_sw(&good);
	put32(frame + fmt.size, 0);
	ck_assert_int_eq(import(), 0);
	ck_assert_uint_eq(get64(image + 512), 3);
}
END_TEST

START_TEST(area_cut_by_a_fault_is_refused)
{
	for (size_t n = 512; n < xstate_frame_size(&fmt); n++)
		ck_assert_int_eq(xstate_import(&fmt, frame, n, image), -EFAULT);
}
END_TEST

START_TEST(smaller_area_keeps_what_fits)
{
	struct linux_fpx_sw_bytes sw = get_sw();

	if (!(fmt.mask & XFEATURE_AVX))
		return;
	put64(frame + 512, 7);
	sw.xstate_size = XSTATE_MIN_SIZE;
	put_sw(&sw);
	put32(frame + XSTATE_MIN_SIZE, LINUX_FP_XSTATE_MAGIC2);
	ck_assert_int_eq(import(), 0);
	ck_assert_uint_eq(get64(image + 512), 3);
}
END_TEST

START_TEST(initial_area_is_what_a_program_starts_with)
{
	xstate_init_area(&fmt, image);
	ck_assert_int_eq(xstate_check(&fmt, image), 0);
	ck_assert_uint_eq(get32(image) & 0xffff, 0x37f);
	ck_assert_uint_eq(get32(image + XSTATE_MXCSR_OFFSET), 0x1f80);
	load(image);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("xstate");
	TCase *tc = tcase_create("xstate");

	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_add_test(tc, own_frame_comes_back_whole);
	tcase_add_test(tc, unknown_mxcsr_bits_are_refused);
	tcase_add_test(tc, compacted_format_and_reserved_header_are_refused);
	tcase_add_test(tc, components_beyond_the_mask_are_refused);
	tcase_add_test(tc, components_that_the_frame_does_not_carry_are_initial);
	tcase_add_test(tc, legacy_frame_restores_x87_and_sse_only);
	tcase_add_test(tc, wrong_sizes_and_second_magic_mean_legacy);
	tcase_add_test(tc, area_cut_by_a_fault_is_refused);
	tcase_add_test(tc, smaller_area_keeps_what_fits);
	tcase_add_test(tc, initial_area_is_what_a_program_starts_with);
	suite_add_tcase(s, tc);

	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
