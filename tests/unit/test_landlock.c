/* Layers of Landlock domains: what is denied, and who is kept from whom. */
#include "sentry/auth/landlock.h"

#include <check.h>
#include <errno.h>

static int held;

static void get(void *object)
{
	(void)object;
	held++;
}

static void put(void *object)
{
	(void)object;
	held--;
}

static const struct landlock_objects objects = {get, put};

static struct landlock_ruleset *ruleset(uint32_t fs, uint32_t net, uint32_t scoped)
{
	const struct landlock_handled h = {{fs, net}, scoped};
	struct landlock_ruleset *rs = landlock_ruleset_new(&h, &objects);

	ck_assert_ptr_nonnull(rs);
	return rs;
}

/* Consumes rs and parent. */
static struct landlock_domain *restricted(struct landlock_domain *parent,
					  struct landlock_ruleset *rs)
{
	struct landlock_domain *d = NULL;

	ck_assert_int_eq(landlock_restrict(parent, rs, &d), 0);
	landlock_ruleset_free(rs);
	landlock_domain_put(parent);
	return d;
}

static struct landlock_domain *scoped(struct landlock_domain *parent, uint32_t scope)
{
	return restricted(parent, ruleset(0, LL_BIND_TCP, scope));
}

static bool allowed(const struct landlock_domain *d, uint64_t key, uint32_t access)
{
	struct landlock_denials m;

	return !landlock_denials_init(d, LANDLOCK_PATH, access, &m) ||
	       landlock_allow(d, LANDLOCK_PATH, key, access, &m);
}

START_TEST(every_layer_must_allow)
{
	struct landlock_ruleset *a = ruleset(LL_READ_FILE, 0, 0);
	struct landlock_ruleset *b = ruleset(LL_READ_FILE | LL_WRITE_FILE, 0, 0);

	ck_assert_int_eq(landlock_rule_add(a, LANDLOCK_PATH, 1, LL_READ_FILE, &held), 0);
	ck_assert_int_eq(landlock_rule_add(b, LANDLOCK_PATH, 2, LL_READ_FILE, &held), 0);
	ck_assert_int_eq(landlock_rule_add(b, LANDLOCK_PATH, 1, LL_READ_FILE, &held), 0);
	struct landlock_domain *d = restricted(restricted(NULL, a), b);
	ck_assert(allowed(d, 1, LL_READ_FILE));
	ck_assert(!allowed(d, 2, LL_READ_FILE));
	ck_assert(!allowed(d, 1, LL_WRITE_FILE));
	ck_assert(allowed(d, 3, LL_READ_DIR)); /* nobody handles it */
	ck_assert(!allowed(d, 1, LL_REFER));   /* … and this one always is */
	landlock_domain_put(d);
	ck_assert_int_eq(held, 0);
}
END_TEST

START_TEST(rules_of_a_key_add_up)
{
	struct landlock_ruleset *rs = ruleset(LL_READ_FILE | LL_WRITE_FILE, 0, 0);

	/* More than are looked through, so that a key is there twice. */
	for (uint64_t i = 0; i < 600; i++)
		ck_assert_int_eq(landlock_rule_add(rs, LANDLOCK_PATH, i, LL_READ_FILE, &held), 0);
	ck_assert_int_eq(landlock_rule_add(rs, LANDLOCK_PATH, 5, LL_WRITE_FILE, &held), 0);
	struct landlock_domain *d = restricted(NULL, rs);
	ck_assert_uint_eq(d->rules[LANDLOCK_PATH].n, 600);
	ck_assert_int_eq(held, 600);
	ck_assert(allowed(d, 5, LL_READ_FILE | LL_WRITE_FILE));
	ck_assert(!allowed(d, 6, LL_READ_FILE | LL_WRITE_FILE));
	landlock_domain_put(d);
	ck_assert_int_eq(held, 0);
}
END_TEST

START_TEST(rules_are_limited)
{
	struct landlock_ruleset *rs = ruleset(0, LL_BIND_TCP, 0);
	int err = 0;

	for (uint64_t i = 0; i <= LANDLOCK_RULES_MAX && !err; i++)
		err = landlock_rule_add(rs, LANDLOCK_PORT, i, LL_BIND_TCP, NULL);
	ck_assert_int_eq(err, -E2BIG);
	landlock_ruleset_free(rs);
}
END_TEST

START_TEST(scopes_go_by_the_layer_that_says_so)
{
	struct landlock_domain *plain = scoped(NULL, 0);
	struct landlock_domain *a = scoped(landlock_domain_get(plain), LL_SCOPE_SIGNAL);
	struct landlock_domain *b = scoped(landlock_domain_get(plain), LL_SCOPE_SIGNAL);
	struct landlock_domain *below = scoped(landlock_domain_get(a), 0);

	ck_assert(!landlock_is_scoped(NULL, a, LL_SCOPE_SIGNAL));
	ck_assert(!landlock_is_scoped(plain, NULL, LL_SCOPE_SIGNAL));
	ck_assert(landlock_is_scoped(a, NULL, LL_SCOPE_SIGNAL));
	ck_assert(landlock_is_scoped(a, plain, LL_SCOPE_SIGNAL));
	ck_assert(landlock_is_scoped(a, b, LL_SCOPE_SIGNAL));
	ck_assert(!landlock_is_scoped(a, a, LL_SCOPE_SIGNAL));
	ck_assert(!landlock_is_scoped(a, below, LL_SCOPE_SIGNAL));
	ck_assert(!landlock_is_scoped(below, a, LL_SCOPE_SIGNAL));
	ck_assert(landlock_is_scoped(below, plain, LL_SCOPE_SIGNAL));
	ck_assert(!landlock_is_scoped(below, plain, LL_SCOPE_ABSTRACT_UNIX));

	ck_assert(landlock_domain_covers(NULL, a));
	ck_assert(landlock_domain_covers(plain, below));
	ck_assert(landlock_domain_covers(a, below));
	ck_assert(!landlock_domain_covers(a, b));
	ck_assert(!landlock_domain_covers(a, plain));
	ck_assert(!landlock_domain_covers(a, NULL));
	landlock_domain_put(below);
	landlock_domain_put(b);
	landlock_domain_put(a);
	landlock_domain_put(plain);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("landlock");
	TCase *tc = tcase_create("landlock");

	tcase_add_test(tc, every_layer_must_allow);
	tcase_add_test(tc, rules_of_a_key_add_up);
	tcase_add_test(tc, rules_are_limited);
	tcase_add_test(tc, scopes_go_by_the_layer_that_says_so);
	suite_add_tcase(s, tc);

	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
