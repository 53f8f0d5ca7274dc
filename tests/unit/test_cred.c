#include <errno.h>
/* The rules of capabilities(7), one by one. */
#include "sentry/auth/cred.h"

#include <check.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <string.h>

#define SOME (CAP_BIT(CAP_NET_RAW) | CAP_BIT(CAP_CHOWN) | CAP_BIT(CAP_KILL))

static struct cred *user(uint32_t uid)
{
	struct cred *c = cred_new_root();
	ck_assert_ptr_nonnull(c);
	c->uid = c->euid = c->suid = c->fsuid = uid;
	c->cap_permitted = c->cap_effective = 0;
	return c;
}

START_TEST(root_has_all_but_inheritable_and_ambient)
{
	struct cred *c = cred_new_root();

	ck_assert_uint_eq(c->cap_permitted, CAP_FULL);
	ck_assert_uint_eq(c->cap_effective, CAP_FULL);
	ck_assert_uint_eq(c->cap_bounding, CAP_FULL);
	ck_assert_uint_eq(c->cap_inheritable, 0);
	ck_assert_uint_eq(c->cap_ambient, 0);
	cred_put(c);
}
END_TEST

START_TEST(dup_owns_its_groups)
{
	struct cred *a = cred_new_root();
	ck_assert_int_eq(cred_set_groups(a, (uint32_t[]){30, 10, 20}, 3), 0);
	struct cred *b = cred_dup(a);

	ck_assert_ptr_ne(a->groups, b->groups);
	cred_put(a);
	ck_assert_uint_eq(b->ngroups, 3);
	ck_assert_uint_eq(b->groups[0], 10);
	ck_assert_uint_eq(b->groups[2], 30);
	cred_put(b);
}
END_TEST

START_TEST(group_membership_counts_fsgid_and_supplementary)
{
	struct cred *c = cred_new_root();

	ck_assert_int_eq(cred_set_groups(c, (uint32_t[]){5, 3}, 2), 0);
	c->fsgid = 7;
	c->egid = 8;
	ck_assert(cred_in_group(c, 7));
	ck_assert(!cred_in_group(c, 8));
	ck_assert(cred_in_egroup(c, 8));
	ck_assert(cred_in_group(c, 3) && cred_in_group(c, 5));
	ck_assert(!cred_in_group(c, 4));
	ck_assert_int_eq(cred_set_groups(c, NULL, 0), 0);
	ck_assert(!cred_in_group(c, 3));
	cred_put(c);
}
END_TEST

START_TEST(leaving_root_for_good_clears_all)
{
	struct cred *old = cred_new_root(), *new = cred_dup(old);

	old->cap_ambient = new->cap_ambient = SOME;
	new->uid = new->euid = new->suid = 1000;
	cred_fix_caps_after_setuid(new, old);
	ck_assert_uint_eq(new->cap_permitted, 0);
	ck_assert_uint_eq(new->cap_effective, 0);
	ck_assert_uint_eq(new->cap_ambient, 0);
	ck_assert_uint_eq(new->cap_bounding, CAP_FULL);
	cred_put(old);
	cred_put(new);
}
END_TEST

START_TEST(keep_caps_keeps_permitted_only)
{
	struct cred *old = cred_new_root();
	old->securebits = SECBIT_KEEP_CAPS;
	old->cap_ambient = SOME;
	struct cred *new = cred_dup(old);

	new->uid = new->euid = new->suid = 1000;
	cred_fix_caps_after_setuid(new, old);
	ck_assert_uint_eq(new->cap_permitted, CAP_FULL);
	ck_assert_uint_eq(new->cap_effective, 0);
	ck_assert_uint_eq(new->cap_ambient, 0);
	cred_put(old);
	cred_put(new);
}
END_TEST

START_TEST(effective_follows_the_effective_uid)
{
	struct cred *old = cred_new_root(), *new = cred_dup(old);

	new->euid = 1000; /* the real one stays 0 */
	cred_fix_caps_after_setuid(new, old);
	ck_assert_uint_eq(new->cap_permitted, CAP_FULL);
	ck_assert_uint_eq(new->cap_effective, 0);

	struct cred *back = cred_dup(new);
	back->euid = 0;
	cred_fix_caps_after_setuid(back, new);
	ck_assert_uint_eq(back->cap_effective, CAP_FULL);
	cred_put(old);
	cred_put(new);
	cred_put(back);
}
END_TEST

START_TEST(no_setuid_fixup_changes_nothing)
{
	struct cred *old = cred_new_root();
	old->securebits = SECBIT_NO_SETUID_FIXUP;
	struct cred *new = cred_dup(old);

	new->uid = new->euid = new->suid = new->fsuid = 1000;
	cred_fix_caps_after_setuid(new, old);
	cred_fix_caps_after_setfsuid(new, old);
	ck_assert_uint_eq(new->cap_effective, CAP_FULL);
	cred_put(old);
	cred_put(new);
}
END_TEST

START_TEST(fsuid_moves_the_file_capabilities)
{
	struct cred *old = cred_new_root(), *new = cred_dup(old);

	new->fsuid = 1000;
	cred_fix_caps_after_setfsuid(new, old);
	ck_assert(!cred_capable(new, CAP_DAC_OVERRIDE));
	ck_assert(!cred_capable(new, CAP_CHOWN));
	ck_assert(!cred_capable(new, CAP_MKNOD));
	ck_assert(cred_capable(new, CAP_NET_RAW));

	struct cred *back = cred_dup(new);
	back->fsuid = 0;
	back->cap_permitted &= ~CAP_BIT(CAP_MKNOD);
	cred_fix_caps_after_setfsuid(back, new);
	ck_assert(cred_capable(back, CAP_DAC_OVERRIDE));
	ck_assert(!cred_capable(back, CAP_MKNOD));
	cred_put(old);
	cred_put(new);
	cred_put(back);
}
END_TEST

static void exec_plain(struct cred *new, const struct cred *old, unsigned unsafe)
{
	const struct exec_grant plain = {false};
	bool secure;

	ck_assert_int_eq(cred_exec(new, old, &plain, unsafe, &secure), 0);
}

START_TEST(exec_of_a_set_id_program_changes_effective_and_saved_ids)
{
	const struct exec_grant g = {.set_uid = true, .uid = 0, .set_gid = true, .gid = 7};
	struct cred *old = user(1000), *new = cred_dup(old);
	bool secure;

	ck_assert_int_eq(cred_exec(new, old, &g, 0, &secure), 0);
	ck_assert(secure);
	ck_assert_uint_eq(new->uid, 1000);
	ck_assert_uint_eq(new->euid, 0);
	ck_assert_uint_eq(new->suid, 0);
	ck_assert_uint_eq(new->fsgid, 7);
	ck_assert_uint_eq(new->cap_effective, CAP_FULL);
	cred_put(new);
	new = cred_dup(old);
	ck_assert_int_eq(cred_exec(new, old, &g, EXEC_WATCHED, &secure), 0);
	ck_assert_uint_eq(new->euid, 1000);
	ck_assert_uint_eq(new->cap_permitted, 0);
	cred_put(new);
	cred_put(old);
}
END_TEST

START_TEST(exec_gets_a_files_capabilities_within_the_bounding_set)
{
	struct exec_grant g = {.has_caps = true, .caps_permitted = SOME};
	struct cred *old = user(1000), *new = cred_dup(old);
	bool secure;

	old->cap_bounding = new->cap_bounding = CAP_BIT(CAP_KILL) | CAP_BIT(CAP_CHOWN);
	ck_assert_int_eq(cred_exec(new, old, &g, 0, &secure), 0);
	ck_assert(secure);
	ck_assert_uint_eq(new->cap_permitted, SOME & old->cap_bounding);
	ck_assert_uint_eq(new->cap_effective, 0);
	cred_put(new);
	/* One that would not notice what it lacks is not run. */
	g.caps_effective = true;
	g.caps_permitted = CAP_FULL;
	new = cred_dup(old);
	ck_assert_int_eq(cred_exec(new, old, &g, 0, &secure), -EPERM);
	cred_put(new);
	cred_put(old);
}
END_TEST

START_TEST(exec_by_a_user_drops_all_but_ambient)
{
	struct cred *old = user(1000);
	old->cap_permitted = old->cap_effective = old->cap_inheritable = SOME;
	old->cap_ambient = CAP_BIT(CAP_KILL);
	old->securebits = SECBIT_KEEP_CAPS;
	struct cred *new = cred_dup(old);

	exec_plain(new, old, 0);
	ck_assert_uint_eq(new->cap_permitted, CAP_BIT(CAP_KILL));
	ck_assert_uint_eq(new->cap_effective, CAP_BIT(CAP_KILL));
	ck_assert_uint_eq(new->cap_inheritable, SOME);
	ck_assert_uint_eq(new->securebits, 0);
	cred_put(old);
	cred_put(new);
}
END_TEST

START_TEST(exec_by_root_gets_bounding_and_inheritable)
{
	struct cred *old = cred_new_root();
	old->cap_permitted = old->cap_effective = 0;
	old->cap_bounding = SOME;
	old->cap_inheritable = CAP_BIT(CAP_SYS_TIME);
	struct cred *new = cred_dup(old);

	exec_plain(new, old, 0);
	ck_assert_uint_eq(new->cap_permitted, SOME | CAP_BIT(CAP_SYS_TIME));
	ck_assert_uint_eq(new->cap_effective, SOME | CAP_BIT(CAP_SYS_TIME));
	cred_put(old);
	cred_put(new);
}
END_TEST

START_TEST(exec_with_real_root_only_is_permitted_not_effective)
{
	struct cred *old = user(1000);
	old->uid = 0;
	struct cred *new = cred_dup(old);

	exec_plain(new, old, 0);
	ck_assert_uint_eq(new->cap_permitted, CAP_FULL);
	ck_assert_uint_eq(new->cap_effective, 0);
	ck_assert_uint_eq(new->suid, 1000);
	cred_put(old);
	cred_put(new);
}
END_TEST

START_TEST(exec_with_noroot_gives_root_nothing)
{
	struct cred *old = cred_new_root();
	old->securebits = SECBIT_NOROOT;
	struct cred *new = cred_dup(old);

	exec_plain(new, old, 0);
	ck_assert_uint_eq(new->cap_permitted, 0);
	ck_assert_uint_eq(new->cap_effective, 0);
	cred_put(old);
	cred_put(new);
}
END_TEST

START_TEST(exec_under_no_new_privs_gains_nothing)
{
	struct cred *old = cred_new_root();
	old->cap_permitted = old->cap_effective = SOME;
	struct cred *new = cred_dup(old);

	exec_plain(new, old, EXEC_NO_NEW_PRIVS);
	ck_assert_uint_eq(new->cap_permitted, SOME);
	ck_assert_uint_eq(new->cap_effective, SOME);
	cred_put(old);
	cred_put(new);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cred");
	TCase *tc = tcase_create("cred");

	tcase_add_test(tc, root_has_all_but_inheritable_and_ambient);
	tcase_add_test(tc, dup_owns_its_groups);
	tcase_add_test(tc, group_membership_counts_fsgid_and_supplementary);
	tcase_add_test(tc, leaving_root_for_good_clears_all);
	tcase_add_test(tc, keep_caps_keeps_permitted_only);
	tcase_add_test(tc, effective_follows_the_effective_uid);
	tcase_add_test(tc, no_setuid_fixup_changes_nothing);
	tcase_add_test(tc, fsuid_moves_the_file_capabilities);
	tcase_add_test(tc, exec_of_a_set_id_program_changes_effective_and_saved_ids);
	tcase_add_test(tc, exec_gets_a_files_capabilities_within_the_bounding_set);
	tcase_add_test(tc, exec_by_a_user_drops_all_but_ambient);
	tcase_add_test(tc, exec_by_root_gets_bounding_and_inheritable);
	tcase_add_test(tc, exec_with_real_root_only_is_permitted_not_effective);
	tcase_add_test(tc, exec_with_noroot_gives_root_nothing);
	tcase_add_test(tc, exec_under_no_new_privs_gains_nothing);
	suite_add_tcase(s, tc);

	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
