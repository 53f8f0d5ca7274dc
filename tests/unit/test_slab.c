#include "sentry/lib/slab.h"

#include <check.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define MANY 20000

static unsigned char *objects[MANY];

static bool all_are(const unsigned char *p, size_t n, unsigned char what)
{
	while (n && p[n - 1] == what)
		n--;
	return !n;
}

START_TEST(objects_are_zeroed_aligned_and_apart)
{
	struct slab s = SLAB_INIT(100);

	for (int i = 0; i < MANY; i++) {
		objects[i] = slab_alloc(&s);
		ck_assert_ptr_nonnull(objects[i]);
		ck_assert_uint_eq((uintptr_t)objects[i] % 16, 0);
		ck_assert(all_are(objects[i], 100, 0));
		memset(objects[i], i, 100);
	}
	for (int i = 0; i < MANY; i++)
		ck_assert(all_are(objects[i], 100, (unsigned char)i));
	for (int i = 0; i < MANY; i++)
		slab_free(&s, objects[i]);
}
END_TEST

START_TEST(memory_comes_back)
{
	struct slab s = SLAB_INIT(384);

	srandom(1);
	for (int round = 0; round < 20; round++) {
		for (int i = 0; i < MANY; i++)
			if (!objects[i])
				objects[i] = slab_alloc(&s);
		ck_assert_uint_le(s.chunks, MANY / (32768 / 384 - 1) + 2);
		for (int i = 0; i < MANY; i++)
			if (round == 19 || random() % 3) {
				slab_free(&s, objects[i]);
				objects[i] = NULL;
			}
	}
	ck_assert_uint_le(s.chunks, 1);
	slab_free(&s, NULL);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("slab");
	TCase *tc = tcase_create("all");

	tcase_add_test(tc, objects_are_zeroed_aligned_and_apart);
	tcase_add_test(tc, memory_comes_back);
	suite_add_tcase(suite, tc);
	SRunner *r = srunner_create(suite);
	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
