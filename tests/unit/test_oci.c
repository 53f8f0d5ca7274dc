/* The command line's parsers: flags, config.json, ids, and the description of a sandbox. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "oci/flags.h"
#include "oci/process.h"
#include "oci/spec.h"
#include "oci/state.h"
#include "sentry/boot/boot.h"

static const char *text;
static bool on;
static int number;
static struct flag_list list;
static const struct flag flags[] = {
	FLAG_S("text", &text, ""),	   FLAG_B("on", &on, ""),
	FLAG_I("number", &number, ""),	   FLAG_L("item", &list, ""),
	FLAG_C("pick", &text, "a|bb", ""), FLAG_NONE("later", FLAG_BOOL, ""),
};
static const struct flag_set set = {flags, ARRAY_SIZE(flags)};

static int parse(struct err *e, int argc, char **argv)
{
	text = "";
	on = false;
	number = 0;
	free(list.v);
	list = (struct flag_list){NULL, 0};
	e->msg[0] = 0;
	return flags_parse(&set, argc, argv, e, NULL);
}
#define PARSE(e, ...) \
	parse(e, (int)(sizeof((char *[]){__VA_ARGS__}) / sizeof(char *)), (char *[]){__VA_ARGS__})

START_TEST(flags_have_four_spellings)
{
	struct err e;

	ck_assert_int_eq(PARSE(&e, "-text", "x", "rest"), 2);
	ck_assert_str_eq(text, "x");
	ck_assert_int_eq(PARSE(&e, "--text=y=z", "-number=0x10", "rest"), 2);
	ck_assert_str_eq(text, "y=z");
	ck_assert_int_eq(number, 16);
	ck_assert_int_eq(PARSE(&e, "--item", "1", "--item=2", "--", "--text"), 4);
	ck_assert_uint_eq(list.n, 2);
	ck_assert_int_eq(PARSE(&e, "-", "--on"), 0);
}
END_TEST

START_TEST(booleans_take_values_only_with_equals)
{
	struct err e;

	ck_assert_int_eq(PARSE(&e, "--on", "false"), 1);
	ck_assert(on);
	ck_assert_int_eq(PARSE(&e, "--on=false"), 1);
	ck_assert(!on);
	ck_assert_int_lt(PARSE(&e, "--on=maybe"), 0);
	ck_assert_ptr_nonnull(strstr(e.msg, "maybe"));
}
END_TEST

START_TEST(wrong_flags_are_named)
{
	struct err e;

	ck_assert_int_lt(PARSE(&e, "--nosuch=1"), 0);
	ck_assert_str_eq(e.msg, "flag provided but not defined: -nosuch");
	ck_assert_int_lt(PARSE(&e, "--text"), 0);
	ck_assert_str_eq(e.msg, "flag needs an argument: -text");
	ck_assert_int_lt(PARSE(&e, "--pick=b"), 0);
	ck_assert_ptr_nonnull(strstr(e.msg, "-pick"));
	ck_assert_int_lt(PARSE(&e, "--number=7x"), 0);
	ck_assert_int_lt(PARSE(&e, "---text=1"), 0);
	ck_assert_int_eq(PARSE(&e, "--help"), -ECANCELED);
}
END_TEST

/* Loads `json` as a bundle's config.json; the message in e. */
static int load(const char *json, struct spec *out, struct err *e)
{
	char dir[] = "/tmp/test_oci.XXXXXX", path[64];

	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/config.json", dir);
	FILE *f = fopen(path, "w");
	ck_assert_ptr_nonnull(f);
	fputs(json, f);
	fclose(f);
	e->msg[0] = 0;
	int err = spec_load(dir, out, e);
	unlink(path);
	rmdir(dir);
	return err;
}

#define ROOT "\"ociVersion\":\"1.0.2\",\"root\":{\"path\":\"r\"},"

static const struct {
	const char *json, *msg;
} bad_specs[] = {
	{"{", "config.json: line 1, column 1: "},
	{"[]", "config.json: (top level): expected object"},
	{"{}", "config.json: ociVersion: missing"},
	{"{\"ociVersion\":\"9.0\"}", "config.json: process: missing"},
	{"{\"ociVersion\":1}", "config.json: ociVersion: expected string"},
	{"{" ROOT "\"process\":{\"args\":[1],\"cwd\":\"/\"}}",
	 "config.json: process.args[0]: expected string"},
	{"{" ROOT "\"process\":{\"args\":[\"a\\u0000b\"],\"cwd\":\"/\"}}", "config.json: "},
	{"{" ROOT "\"process\":{\"args\":[],\"cwd\":\"/\"}}",
	 "config.json: process.args: must not be empty"},
	{"{" ROOT "\"process\":{\"args\":[\"a\"]}}", "config.json: process.cwd: missing"},
	{"{" ROOT "\"process\":{\"args\":[\"a\"],\"cwd\":\"x\"}}", "config.json: process.cwd: "},
	{"{" ROOT "\"process\":{\"args\":[\"a\"],\"cwd\":\"/\",\"user\":{\"uid\":-1}}}",
	 "config.json: process.user.uid: integer out of range"},
	{"{" ROOT "\"process\":{\"args\":[\"a\"],\"cwd\":\"/\",\"user\":{\"uid\":4294967296}}}",
	 "config.json: process.user.uid: integer out of range"},
	{"{" ROOT "\"process\":{\"args\":[\"a\"],\"cwd\":\"/\"},\"mounts\":[{\"type\":\"tmpfs\"}]}",
	 "config.json: mounts[0].destination: missing"},
	{"{" ROOT "\"process\":{\"args\":[\"a\"],\"cwd\":\"/\",\"selinuxLabel\":\"x\"}}",
	 "config.json: process.selinuxLabel: SELinux is not supported"},
};

START_TEST(bad_spec_names_the_field)
{
	struct spec s;
	struct err e;

	ck_assert_int_lt(load(bad_specs[_i].json, &s, &e), 0);
	ck_assert_msg(!strncmp(e.msg, bad_specs[_i].msg, strlen(bad_specs[_i].msg)), "%s", e.msg);
	ck_assert_ptr_null(strchr(e.msg, '\n'));
}
END_TEST

START_TEST(spec_with_unlimited_rlimit)
{
	struct boot_process p = {0};
	struct spec s;
	struct err e;

	ck_assert_int_eq(
		load("{" ROOT "\"process\":{\"args\":[\"a\"],\"cwd\":\"/\",\"surprise\":1,"
		     "\"user\":{\"uid\":4294967295,\"gid\":5,\"additionalGids\":[7]},"
		     "\"rlimits\":[{\"type\":\"RLIMIT_CORE\",\"hard\":18446744073709551615,"
		     "\"soft\":4096}],\"capabilities\":{\"bounding\":[\"CAP_KILL\"]}}}",
		     &s, &e),
		0);
	ck_assert_int_eq(process_from_spec(s.process, "config.json", &p, &e), 0);
	ck_assert_uint_eq(p.uid, UINT32_MAX);
	ck_assert_uint_eq(p.rlimits[0].max, UINT64_MAX);
	ck_assert_uint_eq(p.rlimits[0].cur, 4096);
	ck_assert_uint_eq(p.cap_bounding, 1 << 5);
	ck_assert_uint_eq(p.umask, 022);
	process_fini(&p);
	spec_fini(&s);
}
END_TEST

START_TEST(ids_are_file_names_without_tricks)
{
	static const char *const bad[] = {"", ".", "..", "a/b", "../x", "a b", "a\nb", "ä", "a%b"};
	struct err e;
	char longer[300];

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ck_assert_int_lt(state_check_id(bad[i], &e), 0);
	ck_assert_int_eq(state_check_id("A-z_0.9+x", &e), 0);
	memset(longer, 'a', sizeof(longer));
	longer[sizeof(longer) - 1] = 0;
	ck_assert_int_lt(state_check_id(longer, &e), 0);
}
END_TEST

START_TEST(boot_config_survives_the_wire)
{
	char *argv[] = {"a", "b\xff\x80\xc3\xa9", NULL}, *envp[] = {"X=\x01", NULL};
	struct boot_rlimit rl = {3, 5, UINT64_MAX};
	struct boot_mount m = {"tmpfs", "none", "/t", "size=1", 6, 0, true};
	struct boot_config c =
				   {
					   .platform = "ptrace",
					   .container_id = "id",
					   .hostname = "h",
					   .domainname = "",
					   .root_source = "none",
					   .mounts = &m,
					   .nmounts = 1,
					   .control_fd = -1,
					   .proc_fd = 9,
					   .status_fd = 11,
					   .strace_syscalls = "",
					   .spin_us = -1,
					   .process = {.argc = 2,
						       .argv = argv,
						       .envc = 1,
						       .envp = envp,
						       .cwd = "/\xfe",
						       .uid = UINT32_MAX,
						       .rlimits = &rl,
						       .nrlimits = 1,
						       .cap_bounding = UINT64_MAX,
						       .stdio = {4, 5, 6}},
				   },
			   *d;

	char *json = boot_config_encode(&c);
	ck_assert_ptr_nonnull(json);
	ck_assert_int_eq(boot_config_decode(json, strlen(json), &d), 0);
	ck_assert_str_eq(d->platform, "ptrace");
	ck_assert_uint_eq(d->process.argc, 2);
	ck_assert_str_eq(d->process.argv[1], argv[1]);
	ck_assert_str_eq(d->process.envp[0], envp[0]);
	ck_assert_str_eq(d->process.cwd, "/\xfe");
	ck_assert_uint_eq(d->process.uid, UINT32_MAX);
	ck_assert_uint_eq(d->process.rlimits[0].max, UINT64_MAX);
	ck_assert_uint_eq(d->process.cap_bounding, UINT64_MAX);
	ck_assert_int_eq(d->process.stdio[2], 6);
	ck_assert_str_eq(d->mounts[0].target, "/t");
	ck_assert(d->mounts[0].overlay);
	ck_assert_int_eq(d->proc_fd, 9);
	ck_assert_int_eq(d->status_fd, 11);
	boot_config_free(d);

	/* Half a description is none. */
	for (size_t n = 0; n < strlen(json); n += 7)
		ck_assert_int_lt(boot_config_decode(json, n, &d), 0);
	ck_assert_int_lt(boot_config_decode("{\"platform\":1}", 14, &d), 0);
	free(json);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("oci");
	TCase *t = tcase_create("oci");

	tcase_add_test(t, flags_have_four_spellings);
	tcase_add_test(t, booleans_take_values_only_with_equals);
	tcase_add_test(t, wrong_flags_are_named);
	tcase_add_loop_test(t, bad_spec_names_the_field, 0, (int)ARRAY_SIZE(bad_specs));
	tcase_add_test(t, spec_with_unlimited_rlimit);
	tcase_add_test(t, ids_are_file_names_without_tricks);
	tcase_add_test(t, boot_config_survives_the_wire);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
