/* Synthetic trees: the builder, sysfs, and the devices. */
#include "tests/unit/fs_helpers.h"

#include "sentry/fs/dev/dev.h"
#include "sentry/fs/synth/synth.h"
#include "sentry/fs/sys/sysfs.h"

static int shows, freed;

static int count_show(struct text *out, void *arg)
{
	text_printf(out, "%s %d\n", (const char *)arg, ++shows);
	return 0;
}

static char written[64];

static ssize_t take_write(struct file *f, const char *buf, size_t n, void *arg)
{
	(void)f, (void)arg;
	if (n >= sizeof(written))
		return -E2BIG;
	strcpy(written, buf);
	return n;
}

static void count_free(void *arg)
{
	(void)arg;
	freed++;
}

static const struct synth_file_ops count_ops = {
	.common = {.free_arg = count_free},
	.show = count_show,
	.write = take_write,
};

static int fail_show(struct text *out, void *arg)
{
	(void)arg;
	text_puts(out, "partial");
	return -ESRCH;
}

static const struct synth_file_ops fail_ops = {.show = fail_show};

static int number_lookup(struct inode *dir, const char *name, struct inode **out, void *arg)
{
	(void)arg;
	if (strlen(name) != 1 || name[0] < '0' || name[0] > '9')
		return -ENOENT;
	*out = synth_text_new(dir->sb, 0444, name);
	return *out ? 0 : -ENOMEM;
}

static int number_readdir(struct inode *dir, struct dir_context *ctx, int64_t *off, void *arg)
{
	(void)dir, (void)arg;
	for (; *off < 10; ++*off) {
		char name = '0' + *off;
		if (!ctx->emit(ctx, &name, 1, *off + 1, 100 + *off, 8))
			break;
	}
	return 0;
}

static const struct synth_dir_ops number_ops = {
	.lookup = number_lookup,
	.readdir = number_readdir,
};

static int self_show(struct text *out, void *arg)
{
	(void)arg;
	text_puts(out, "7");
	return 0;
}

static const struct synth_link_ops self_ops = {.show = self_show};

static struct inode *root;

static void setup(void)
{
	struct super_block *sb;
	shows = freed = 0;
	OK(synth_super_new("test", 0x1234, SYNTH_NO_DCACHE | SYNTH_FIXED_ATTRS, &number_ops, NULL,
			   &sb));
	root = sb->root->inode;
	fs_enter(sb);
	OK(synth_add(root, "count", synth_file_new(sb, 0644, &count_ops, "n")));
	OK(synth_add(root, "fails", synth_file_new(sb, 0444, &fail_ops, NULL)));
	OK(synth_add(root, "self", synth_link_new(sb, 0777, &self_ops, NULL)));
	OK(synth_add_dir(root, "dir", 0555, NULL));
	ck_assert_int_eq(synth_add(root, "dir", synth_text_new(sb, 0444, "x")), -EEXIST);
	ck_assert_int_eq(synth_add(root, "none", NULL), -ENOMEM);
}

static void teardown(void)
{
	fs_leave();
	ck_assert_int_eq(freed, 1);
}

START_TEST(text_is_made_at_each_read_from_the_start)
{
	char buf[8] = "";
	struct file *f = fs_must_open("count", O_RDWR);
	ck_assert_int_eq(shows, 0);
	ck_assert_int_eq(file_pread(f, buf, 2, 0), 2);
	ck_assert_int_eq(file_pread(f, buf, 8, 2), 2);
	ck_assert_mem_eq(buf, "1\n", 2);
	ck_assert_int_eq(file_pread(f, buf, 8, 4), 0);
	ck_assert_int_eq(shows, 1);
	ck_assert_int_eq(file_pread(f, buf, 8, 0), 4);
	ck_assert_mem_eq(buf, "n 2\n", 4);
	ck_assert_int_eq(file_pwrite(f, "set", 3, 0), 3);
	ck_assert_str_eq(written, "set");
	file_put(f);
	f = fs_must_open("fails", O_RDONLY);
	ck_assert_int_eq(file_pread(f, buf, 8, 0), -ESRCH);
	file_put(f);
	/* Opening for truncation is no change. */
	file_put(fs_must_open("count", O_WRONLY | O_TRUNC));
	ck_assert_int_eq(fs_chmod("count", 0600), -EPERM);
}
END_TEST

START_TEST(static_and_dynamic_entries_are_listed_once)
{
	struct fs_listing l;
	for (size_t per_call = 1; per_call < 20; per_call++) {
		fs_list("/", per_call, &l);
		ck_assert_str_eq(l.text, "count fails self dir 0 1 2 3 4 5 6 7 8 9 ");
	}
	fs_expect("5", "5");
	fs_expect("self", "7");
	struct kstat st;
	ck_assert_int_eq(fs_stat("x", &st), -ENOENT);
	OK(fs_stat("/", &st));
	ck_assert_uint_eq(st.nlink, 3);
	synth_remove(root, "dir");
	ck_assert_int_eq(fs_stat("dir", &st), -ENOENT);
	ck_assert_int_eq(vfs_mkdir(&fs_env, "new", 0755), -EPERM);
}
END_TEST

START_TEST(text_grows_pads_and_escapes)
{
	struct text t = TEXT_INIT;
	for (int i = 0; i < 1000; i++)
		text_printf(&t, "%0500d", i);
	ck_assert_uint_eq(t.len, 500000);
	ck_assert_uint_eq(strlen(t.buf), t.len);
	text_fini(&t);
	text_puts(&t, "one\nab");
	text_pad(&t, 5);
	text_put_escaped(&t, "a b\\c\n", 6, " \n");
	ck_assert_str_eq(t.buf, "one\nab   a\\040b\\134c\\012");
	OK(text_error(&t));
	text_fini(&t);
	text_put(&t, "", TEXT_MAX + 1);
	ck_assert_int_eq(text_error(&t), -ENOMEM);
	text_fini(&t);
}
END_TEST

START_TEST(sysfs_shows_processors)
{
	struct super_block *sb;
	struct sysfs_options o = {"0-1,34", "0-1,34-35", "0-1,34-35"};
	OK(sysfs_mount(&o, &sb));
	fs_leave();
	fs_enter(sb);
	fs_expect("devices/system/cpu/online", "0-1,34\n");
	fs_expect("devices/system/cpu/cpu34/topology/core_cpus", "4,00000000\n");
	fs_expect("devices/system/node/node0/cpumap", "4,00000003\n");
	fs_expect_names("devices/system/cpu/cpu35", "online");
	fs_expect("devices/system/cpu/cpu35/online", "0\n");
	fs_expect_names("fs", "cgroup");
	ck_assert_int_eq(vfs_mkdir(&fs_env, "fs/cgroup/x", 0755), -EPERM);
	struct sysfs_options bad = {"0-", "0", "0"};
	ck_assert_int_eq(sysfs_mount(&bad, &sb), -EINVAL);
	bad.cpus_online = "99999";
	ck_assert_int_eq(sysfs_mount(&bad, &sb), -EINVAL);
}
END_TEST

START_TEST(devices_do_what_they_should)
{
	struct super_block *sb;
	char buf[64];
	OK(dev_init());
	OK(devtmpfs_mount("", &sb));
	fs_leave();
	fs_enter(sb);
	fs_expect_names(
		"/",
		"console core fd full fuse mqueue null ptmx pts random shm stderr stdin stdout "
		"tty urandom zero");
	OK(dev_populate(fs_mnt->root)); /* a second time: nothing to do */
	struct file *f = fs_must_open("null", O_RDWR);
	ck_assert_int_eq(file_pread(f, buf, 8, 0), 0);
	ck_assert_int_eq(file_pwrite(f, buf, 8, 0), 8);
	file_put(f);
	f = fs_must_open("zero", O_RDWR);
	memset(buf, 1, sizeof(buf));
	ck_assert_int_eq(file_pread(f, buf, sizeof(buf), 0), sizeof(buf));
	for (size_t i = 0; i < sizeof(buf); i++)
		ck_assert_int_eq(buf[i], 0);
	file_put(f);
	f = fs_must_open("full", O_RDWR);
	ck_assert_int_eq(file_pwrite(f, buf, 8, 0), -ENOSPC);
	ck_assert_int_eq(file_pread(f, buf, 8, 0), 8);
	file_put(f);
	f = fs_must_open("urandom", O_RDWR);
	ck_assert_int_eq(file_pread(f, buf, sizeof(buf), 0), sizeof(buf));
	ck_assert_int_eq(file_pwrite(f, buf, 8, 0), 8);
	file_put(f);
	ck_assert_int_eq(fs_open("tty", O_RDWR, &f), -ENXIO);
	OK(dev_add_node(fs_mnt->root, "net/tun", S_IFCHR | 0600, dev_encode(10, 200), 3, 4));
	ck_assert_int_eq(fs_open("net/tun", O_RDWR, &f), -ENXIO);
	struct kstat st;
	OK(fs_stat("net/tun", &st));
	ck_assert_uint_eq(st.uid, 3);
	ck_assert_uint_eq(st.gid, 4);
	ck_assert_uint_eq(st.rdev, dev_encode(10, 200));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("synth");
	TCase *tc = tcase_create("all");
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, text_is_made_at_each_read_from_the_start);
	tcase_add_test(tc, static_and_dynamic_entries_are_listed_once);
	tcase_add_test(tc, text_grows_pads_and_escapes);
	tcase_add_test(tc, sysfs_shows_processors);
	tcase_add_test(tc, devices_do_what_they_should);
	suite_add_tcase(s, tc);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
