/* goferfs: directories that are known as a whole, files without a node, and a host that changes
 * them meanwhile. */
#include "tests/unit/goferfs_fixture.h"

#include <sys/resource.h>

#include "sentry/fs/gofer/listing.h"

static uint32_t trips(void)
{
	return conn->next_id;
}

/* ---- reading directories ---- */

struct names {
	struct dir_context ctx;
	int n;
	char name[600][32];
	int64_t next[600];
};

static bool take_name(struct dir_context *ctx, const char *name, size_t len, int64_t next,
		      uint64_t ino, unsigned type)
{
	struct names *l = container_of(ctx, struct names, ctx);

	(void)ino;
	(void)type;
	if (name[0] == '.')
		return true;
	ck_assert_int_lt(l->n, 600);
	snprintf(l->name[l->n], sizeof(l->name[0]), "%.*s", (int)len, name);
	l->next[l->n++] = next;
	return true;
}

static struct names *list(const char *dir)
{
	static struct names l;
	struct file *f = open_file(dir, O_RDONLY | O_DIRECTORY);

	l = (struct names){.ctx.emit = take_name};
	ck_assert_int_eq(file_readdir(f, &l.ctx), 0);
	file_put(f);
	return &l;
}

static bool listed(const char *dir, const char *name)
{
	const struct names *l = list(dir);

	for (int i = 0; i < l->n; i++)
		if (!strcmp(l->name[i], name))
			return true;
	return false;
}

static void make_files(const char *dir, int n)
{
	char name[64], text[16];

	ck_assert(mkdir(host(dir), 0755) == 0 || errno == EEXIST);
	for (int i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "%s/f%d", dir, i);
		snprintf(text, sizeof(text), "text %d", i);
		host_write(name, text);
	}
}

static void check_text(const char *name, const char *text)
{
	struct file *f = open_file(name, O_RDONLY);
	char buf[32];

	ck_assert_int_eq(file_pread(f, buf, sizeof(buf), 0), (ssize_t)strlen(text));
	ck_assert_mem_eq(buf, text, strlen(text));
	file_put(f);
}

START_TEST(a_directory_of_a_thousand_is_read_in_few_round_trips)
{
	struct kstat st;

	make_files("big", 500);
	uint32_t before = trips();
	ck_assert_int_eq(list("big")->n, 500);
	ck_assert_uint_le(trips() - before, 3);
	/* Then nothing about it needs asking. */
	before = trips();
	ck_assert_int_eq(list("big")->n, 500);
	check_same("big/f7");
	ck_assert_int_eq(get_stat("big/none", 0, &st), -ENOENT);
	ck_assert_int_eq(vfs_stat(&env, "big/f8", 0, &st), 0);
	ck_assert_uint_eq(st.size, 6);
	ck_assert_int_eq(vfs_stat(&env, "big/none2", 0, &st), -ENOENT);
	ck_assert_int_eq(vfs_stat(&env, "big/f8/", 0, &st), -ENOTDIR);
	dcache_shrink(0);
	check_same("big/f9");
	ck_assert_uint_eq(trips(), before);
}
END_TEST

START_TEST(looking_up_names_one_by_one_ends_in_a_listing)
{
	struct kstat st;
	char name[32];

	make_files("dir", 100);
	uint32_t before = trips();
	for (int i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "dir/f%d", i);
		check_same(name);
		snprintf(name, sizeof(name), "dir/none%d", i);
		ck_assert_int_eq(get_stat(name, 0, &st), -ENOENT);
	}
	ck_assert_uint_lt(trips() - before, 10);
}
END_TEST

static int walk_tree(const char *dir)
{
	struct names l = *list(dir);
	struct kstat st;
	char name[128];
	int n = 1;

	for (int i = 0; i < l.n; i++) {
		snprintf(name, sizeof(name), "%s/%s", dir, l.name[i]);
		ck_assert_int_eq(get_stat(name, WALK_NOFOLLOW, &st), 0);
		n += S_ISDIR(st.mode) ? walk_tree(name) : 1;
	}
	return n;
}

START_TEST(a_tree_is_walked_in_few_round_trips)
{
	char name[64];

	ck_assert_int_eq(mkdir(host("tree"), 0755), 0);
	for (int i = 0; i < 10; i++) {
		snprintf(name, sizeof(name), "tree/d%d", i);
		ck_assert_int_eq(mkdir(host(name), 0755), 0);
		for (int j = 0; j < 10; j++) {
			snprintf(name, sizeof(name), "tree/d%d/e%d", i, j);
			make_files(name, 3);
		}
	}
	uint32_t before = trips();
	ck_assert_int_eq(walk_tree("tree"), 1 + 10 + 100 + 300);
	ck_assert_uint_lt(trips() - before, 15);
	before = trips();
	ck_assert_int_eq(walk_tree("tree"), 1 + 10 + 100 + 300);
	ck_assert_uint_eq(trips(), before);
}
END_TEST

START_TEST(files_opened_in_order_are_opened_ahead)
{
	char name[64], text[16];

	make_files("dir/many", 200);
	struct names l = *list("dir/many");
	uint32_t before = trips();
	for (int i = 0; i < l.n; i++) {
		snprintf(name, sizeof(name), "dir/many/%s", l.name[i]);
		snprintf(text, sizeof(text), "text %s", l.name[i] + 1);
		check_text(name, text);
	}
	ck_assert_uint_lt(trips() - before, 200 / 16 + 8);
}
END_TEST

START_TEST(one_round_trip_opens_a_path_of_any_depth)
{
	char name[200] = "deep";

	ck_assert_int_eq(mkdir(host(name), 0755), 0);
	for (int i = 0; i < 6; i++) {
		strcat(name, "/down");
		ck_assert_int_eq(mkdir(host(name), 0755), 0);
	}
	strcat(name, "/file");
	host_write(name, "found");
	uint32_t before = trips();
	check_text(name, "found");
	ck_assert_uint_eq(trips() - before, 1);
	/* What is only looked at is not opened. */
	host_write("dir/other", "other");
	check_same("dir/other");
	struct path p;
	ck_assert_int_eq(path_walk(&env, "dir/other", 0, &p), 0);
	ck_assert_int_eq(gofer_io_fd(gi_of(p.dentry->inode)), -1);
	path_put(p);
}
END_TEST

/* ---- the sentry's own changes ---- */

START_TEST(changes_show_in_a_listed_directory)
{
	struct kstat st;

	make_files("dir", 5);
	list("dir");
	file_put(open_file("dir/new", O_RDWR | O_CREAT));
	ck_assert(listed("dir", "new"));
	ck_assert_int_eq(vfs_unlink(&env, "dir/f0", false), 0);
	ck_assert(!listed("dir", "f0"));
	ck_assert_int_eq(vfs_stat(&env, "dir/f0", 0, &st), -ENOENT);
	ck_assert_int_eq(vfs_rename(&env, "dir/f1", &env, "dir/f2", 0), 0);
	ck_assert(!listed("dir", "f1") && listed("dir", "f2"));
	dcache_shrink(0);
	check_text("dir/f2", "text 1");
	check_same("dir/f2");
	/* What a file became outlives its inode. */
	struct file *f = open_file("dir/f3", O_RDWR);
	ck_assert_int_eq(file_pwrite(f, "much longer than it was", 23, 0), 23);
	file_put(f);
	dcache_shrink(0);
	ck_assert_int_eq(vfs_stat(&env, "dir/f3", 0, &st), 0);
	ck_assert_uint_eq(st.size, 23);
	check_same("dir/f3");
	/* Made and removed again. */
	list("dir");
	ck_assert_int_eq(vfs_mkdir(&env, "dir/f0", 0755), 0);
	check_same("dir/f0");
	ck_assert_int_eq(vfs_unlink(&env, "dir/f0", true), 0);
	dcache_shrink(0);
	ck_assert_int_eq(vfs_stat(&env, "dir/f0", 0, &st), -ENOENT);
}
END_TEST

START_TEST(positions_are_kept_while_names_go)
{
	struct names before, after = {.ctx.emit = take_name};

	make_files("dir/many", 100);
	struct file *f = open_file("dir/many", O_RDONLY | O_DIRECTORY);
	before = (struct names){.ctx.emit = take_name};
	ck_assert_int_eq(file_readdir(f, &before.ctx), 0);
	ck_assert_int_eq(before.n, 100);
	char name[64];
	for (int i = 40; i < 60; i++) {
		snprintf(name, sizeof(name), "dir/many/%s", before.name[i]);
		ck_assert_int_eq(vfs_unlink(&env, name, false), 0);
	}
	/* On from one that is gone now. */
	ck_assert_int_eq(file_seek(f, before.next[50], SEEK_SET), before.next[50]);
	ck_assert_int_eq(file_readdir(f, &after.ctx), 0);
	ck_assert_int_eq(after.n, 40);
	ck_assert_str_eq(after.name[0], before.name[60]);
	file_put(f);
}
END_TEST

START_TEST(files_without_a_node_can_be_worked_on)
{
	struct iattr mode = {.valid = ATTR_MODE, .mode = 0600};
	struct kstat st;
	struct path p;

	make_files("dir/sub", 8);
	list("dir");
	list("dir/sub");
	ck_assert_int_eq(path_walk(&env, "dir/sub/f0", 0, &p), 0);
	ck_assert_int_eq(vfs_setattr(p, &mode, cred), 0);
	path_put(p);
	check_same("dir/sub/f0");
	/* Removed while open: by its node, then. */
	struct file *f = open_file("dir/sub/f1", O_RDONLY);
	ck_assert_int_eq(vfs_unlink(&env, "dir/sub/f1", false), 0);
	ck_assert_int_eq(vfs_setattr(f->path, &mode, cred), 0);
	ck_assert_int_eq(vfs_getattr(f->path, &st), 0);
	ck_assert_uint_eq(st.mode & 07777, 0600);
	ck_assert_uint_eq(st.nlink, 0);
	file_put(f);
	/* Moved with the directory above. */
	f = open_file("dir/sub/f2", O_RDONLY);
	ck_assert_int_eq(path_walk(&env, "dir/sub/f3", 0, &p), 0);
	ck_assert_int_eq(vfs_rename(&env, "dir/sub", &env, "moved", 0), 0);
	ck_assert_int_eq(vfs_setattr(f->path, &mode, cred), 0);
	ck_assert_int_eq(vfs_setattr(p, &mode, cred), 0);
	file_put(f);
	path_put(p);
	check_same("moved/f2");
	check_same("moved/f3");
	check_text("moved/f4", "text 4");
	ck_assert_int_eq(vfs_link(&env, "moved/f5", &env, "moved/too", 0), 0);
	check_same("moved/f5");
	check_same("moved/too");
	ck_assert_int_eq(vfs_unlink(&env, "moved/f5", false), 0);
	dcache_shrink(0);
	check_same("moved/too");
}
END_TEST

START_TEST(a_deep_path_without_nodes_is_found)
{
	char name[1000] = "deep";
	struct iattr mode = {.valid = ATTR_MODE, .mode = 0700};
	struct path p;

	ck_assert_int_eq(mkdir(host(name), 0755), 0);
	for (int i = 0; i < 60; i++) {
		strcat(name, "/down");
		ck_assert_int_eq(mkdir(host(name), 0755), 0);
	}
	/* Listed from the top, so that none has a node. */
	for (size_t n = 4; n <= strlen(name); n += 5) {
		char part[1000];
		snprintf(part, sizeof(part), "%.*s", (int)n, name);
		list(part);
	}
	ck_assert_int_eq(path_walk(&env, name, 0, &p), 0);
	ck_assert_uint_eq(gi_of(p.dentry->inode)->node, 0);
	ck_assert_int_eq(vfs_setattr(p, &mode, cred), 0);
	path_put(p);
	check_same(name);
}
END_TEST

/* ---- a host that changes the tree behind an exclusive mount's back ---- */

START_TEST(the_hosts_swaps_lead_nowhere)
{
	struct file *f;
	struct kstat st;

	make_files("dir/sub", 4);
	list("dir");
	list("dir/sub");
	ck_assert_int_eq(get_stat("dir/sub/f0", 0, &st), 0);
	ck_assert_int_eq(get_stat("dir/sub/f1", 0, &st), 0);
	/* A file becomes a link out of the tree. */
	ck_assert_int_eq(rename(host("dir/sub/f0"), host("dir/sub/away")), 0);
	ck_assert_int_eq(symlink("/etc/passwd", host("dir/sub/f0")), 0);
	ck_assert_int_lt(vfs_open(&env, "dir/sub/f0", O_RDONLY, 0, 0, &f), 0);
	ck_assert_int_eq(get_stat("dir/sub/f0", WALK_NOFOLLOW, &st), 0);
	ck_assert(S_ISLNK(st.mode));
	/* Another file takes a name. */
	ck_assert_int_eq(rename(host("dir/sub/f2"), host("dir/sub/f1")), 0);
	int err = vfs_open(&env, "dir/sub/f1", O_RDWR, 0, 0, &f);
	if (!err)
		file_put(f);
	else
		ck_assert_int_eq(err, -ENOENT);
	check_text("dir/sub/f1", "text 2");
	check_same("dir/sub/f1");
	/* The directory itself becomes a link to another one. */
	list("dir/sub");
	ck_assert_int_eq(rename(host("dir/sub"), host("elsewhere")), 0);
	ck_assert_int_eq(symlink("/etc", host("dir/sub")), 0);
	host_write("elsewhere/passwd", "mine");
	/* Unless it was opened before, ahead of time. */
	if (vfs_open(&env, "dir/sub/f3", O_RDONLY, 0, 0, &f) == 0) {
		char buf[8];
		ck_assert_int_eq(file_pread(f, buf, sizeof(buf), 0), 6);
		ck_assert_mem_eq(buf, "text 3", 6);
		file_put(f);
	}
	ck_assert_int_lt(vfs_open(&env, "dir/sub/passwd", O_RDWR, 0, 0, &f), 0);
	ck_assert_int_eq(deaths, 0);
	check_same("elsewhere/f3");
}
END_TEST

static void host_try_write(const char *name, const char *text)
{
	int fd = open(host(name), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0644);

	if (fd >= 0 && write(fd, text, strlen(text)) < 0)
		_exit(1);
	close(fd);
}

/* Swaps files, directories and links, truncates and removes, until it is killed. */
_Noreturn static void trouble(unsigned seed)
{
	char a[64], b[64];

	for (;;) {
		seed = seed * 1103515245 + 12345;
		unsigned r = seed >> 16;
		snprintf(a, sizeof(a), "t%u/s%u/f%u", r % 3, r / 3 % 3, r / 9 % 4);
		snprintf(b, sizeof(b), "t%u/s%u/f%u", r / 36 % 3, r / 108 % 3, r / 324 % 4);
		switch (r / 1296 % 7) {
		case 0:
			rename(host(a), host(b));
			break;
		case 1:
			unlink(host(a));
			if (symlink(host("outside/f1"), host(a)))
				break;
			break;
		case 2:
			unlink(host(a));
			host_try_write(a, "inside again");
			break;
		case 3:
			if (truncate(host(a), 0))
				break;
			break;
		case 4: /* A directory goes, and a link out of the tree takes its place. */
			a[5] = b[5] = '\0';
			if (!rename(host(a), host("aside")) && !symlink(host("outside"), host(a))) {
				unlink(host(a));
				rename(host("aside"), host(a));
			}
			break;
		case 5:
			a[5] = b[5] = '\0';
			renameat2(AT_FDCWD, host(a), AT_FDCWD, host(b), RENAME_EXCHANGE);
			break;
		case 6:
			unlink(host(a));
			mkfifo(host(a), 0600);
			break;
		}
	}
}

START_TEST(a_host_that_swaps_everything_all_the_time)
{
	char name[64], dir[16], buf[64];
	int opened = 0;

	ck_assert_int_eq(mkdir(host("outside"), 0755), 0);
	for (int i = 0; i < 4; i++) {
		snprintf(name, sizeof(name), "outside/f%d", i);
		host_write(name, "SECRET");
	}
	for (int i = 0; i < 9; i++) {
		snprintf(dir, sizeof(dir), "t%d", i / 3);
		ck_assert(mkdir(host(dir), 0755) == 0 || errno == EEXIST);
		snprintf(dir, sizeof(dir), "t%d/s%d", i / 3, i % 3);
		make_files(dir, 4);
	}
	pid_t pid = fork();
	if (pid == 0)
		trouble(4711);
	int64_t end = gofer_now() + 2000000000;
	for (unsigned i = 0; gofer_now() < end; i++) {
		struct names l = {.ctx.emit = take_name};
		struct kstat st;
		struct file *f;
		snprintf(dir, sizeof(dir), "t%u/s%u", i % 3, i / 3 % 3);
		if (vfs_open(&env, dir, O_RDONLY | O_DIRECTORY, 0, 0, &f) == 0) {
			(void)!file_readdir(f, &l.ctx);
			file_put(f);
		}
		for (int j = 0; j < 4; j++) {
			snprintf(name, sizeof(name), "%s/f%d", dir, j);
			(void)!vfs_stat(&env, name, WALK_NOFOLLOW, &st);
			/* The test itself may follow a link to the outside: it has the same root.
			 */
			if (vfs_open(&env, name, i % 2 ? O_RDONLY : O_RDWR, 0, WALK_NOFOLLOW, &f))
				continue;
			opened++;
			ssize_t n = file_pread(f, buf, sizeof(buf), 0);
			ck_assert(n < 6 || memcmp(buf, "SECRET", 6) != 0);
			file_put(f);
			if (i % 7 == 0)
				(void)!vfs_unlink(&env, name, false);
		}
		if (i % 50 == 0) {
			dcache_shrink(0);
			gofer_listings_drop_all(gsb_of(sb));
		}
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	ck_assert_int_gt(opened, 0);
	ck_assert_int_eq(deaths, 0);
}
END_TEST

START_TEST(attributes_that_nobody_wants_do_not_come_along)
{
	char name[64];
	struct names l, sub;
	struct kstat st;

	ck_assert_int_eq(mkdir(host("tree"), 0755), 0);
	for (int i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "tree/d%d", i);
		make_files(name, 20);
	}
	l = *list("tree");
	for (int i = 0; i < l.n; i++) {
		snprintf(name, sizeof(name), "tree/%s", l.name[i]);
		ck_assert_int_eq(list(name)->n, 20);
	}
	/* Then they are wanted after all. */
	uint32_t before = trips();
	for (int i = 0; i < l.n; i++) {
		snprintf(name, sizeof(name), "tree/%s", l.name[i]);
		sub = *list(name);
		for (int j = 0; j < sub.n; j++) {
			snprintf(name, sizeof(name), "tree/%s/%s", l.name[i], sub.name[j]);
			ck_assert_int_eq(vfs_stat(&env, name, 0, &st), 0);
			check_same(name);
		}
	}
	ck_assert_uint_lt(trips() - before, 60);
}
END_TEST

START_TEST(a_reused_inode_number_is_another_file)
{
	struct kstat st;
	struct stat was, is;

	host_write("dir/a", "first");
	list("dir");
	ck_assert_int_eq(get_stat("dir/a", 0, &st), 0);
	ck_assert_int_eq(lstat(host("dir/a"), &was), 0);
	ck_assert_int_eq(unlink(host("dir/a")), 0);
	/* Often the next file gets the number.  (More look-ups, and the root would be listed.) */
	for (int i = 0; i < 3; i++) {
		char name[32];
		snprintf(name, sizeof(name), "d%d", i);
		ck_assert_int_eq(mkdir(host(name), 0755), 0);
		ck_assert_int_eq(lstat(host(name), &is), 0);
		check_same(name);
		if (is.st_ino == was.st_ino)
			break;
	}
	ck_assert_int_eq(deaths, 0);
}
END_TEST

START_TEST(descriptors_that_are_only_kept_are_given_up)
{
	struct rlimit r;
	char name[64], text[16];

	make_files("dir/many", 200);
	struct names l = *list("dir/many");
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &r), 0);
	r.rlim_cur = 60;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &r), 0);
	for (int i = 0; i < l.n; i++) {
		snprintf(name, sizeof(name), "dir/many/%s", l.name[i]);
		snprintf(text, sizeof(text), "text %s", l.name[i] + 1);
		check_text(name, text);
	}
	r.rlim_cur = r.rlim_max;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &r), 0);
}
END_TEST

START_TEST(more_files_than_the_gofer_may_open)
{
	char name[64];
	struct iattr mode = {.valid = ATTR_MODE, .mode = 0600};
	struct path p;

	stop();
	start(0, false, 1200);
	for (int i = 0; i < 10; i++) {
		snprintf(name, sizeof(name), "d%d", i);
		make_files(name, 150);
	}
	for (int i = 0; i < 10; i++) {
		snprintf(name, sizeof(name), "d%d", i);
		list(name);
	}
	for (int i = 0; i < 1500; i++) {
		snprintf(name, sizeof(name), "d%d/f%d", i / 150, i % 150);
		ck_assert_int_eq(path_walk(&env, name, 0, &p), 0);
		ck_assert_int_eq(vfs_setattr(p, &mode, cred), 0);
		path_put(p);
		check_same(name);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("goferfs_tree");
	TCase *t = tcase_create("exclusive");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, stop);
	tcase_add_test(t, a_directory_of_a_thousand_is_read_in_few_round_trips);
	tcase_add_test(t, looking_up_names_one_by_one_ends_in_a_listing);
	tcase_add_test(t, a_tree_is_walked_in_few_round_trips);
	tcase_add_test(t, files_opened_in_order_are_opened_ahead);
	tcase_add_test(t, one_round_trip_opens_a_path_of_any_depth);
	tcase_add_test(t, changes_show_in_a_listed_directory);
	tcase_add_test(t, positions_are_kept_while_names_go);
	tcase_add_test(t, files_without_a_node_can_be_worked_on);
	tcase_add_test(t, a_deep_path_without_nodes_is_found);
	tcase_add_test(t, the_hosts_swaps_lead_nowhere);
	tcase_add_test(t, a_host_that_swaps_everything_all_the_time);
	tcase_add_test(t, attributes_that_nobody_wants_do_not_come_along);
	tcase_add_test(t, a_reused_inode_number_is_another_file);
	tcase_add_test(t, descriptors_that_are_only_kept_are_given_up);
	tcase_add_test(t, more_files_than_the_gofer_may_open);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
