#include "tests/unit/fs_helpers.h"

#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/mman.h>
#include <sys/xattr.h>

static void enter(const char *options)
{
	struct super_block *sb;
	OK(tmpfs_mount(options, &sb));
	fs_enter(sb);
}

static void setup(void)
{
	host_set_proc_fd(open("/proc", O_PATH | O_DIRECTORY));
	OK(tmpfs_init());
	enter("");
}

static void teardown(void)
{
	fs_leave();
	close(host_proc_fd());
	host_set_proc_fd(-1);
}

/* ---- contents ---- */

START_TEST(bytes_written_are_read_at_every_size)
{
	static const size_t sizes[] = {1,    63,    64,	   65,	   4095,   4096,
				       4097, 65535, 65536, 262144, 262145, 1000000};
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		size_t n = sizes[i];
		char *data = malloc(n), *back = malloc(n + 10);
		for (size_t j = 0; j < n; j++)
			data[j] = (char)(j * 7 + i);
		struct file *f = fs_must_open("f", O_RDWR | O_CREAT | O_TRUNC);
		ck_assert_int_eq(file_pwrite(f, data, n, 0), (ssize_t)n);
		ck_assert_int_eq(file_pread(f, back, n + 10, 0), (ssize_t)n);
		ck_assert_mem_eq(data, back, n);
		ck_assert_int_eq(file_pread(f, back, 10, n), 0);
		struct kstat st;
		OK(fs_stat("f", &st));
		ck_assert_uint_eq(st.size, n);
		ck_assert_uint_eq(st.blocks, (n + 4095) / 4096 * 8);
		file_put(f);
		free(data);
		free(back);
	}
}
END_TEST

START_TEST(a_hole_reads_as_zeros_and_takes_no_blocks)
{
	char buf[8192];
	struct kstat st;
	struct file *f = fs_must_open("f", O_RDWR | O_CREAT);
	ck_assert_int_eq(file_pwrite(f, "x", 1, 8192), 1);
	OK(fs_stat("f", &st));
	ck_assert_uint_eq(st.blocks, 8);
	ck_assert_int_eq(file_pread(f, buf, sizeof(buf), 0), sizeof(buf));
	for (size_t i = 0; i < sizeof(buf); i++)
		ck_assert_int_eq(buf[i], 0);
	ck_assert_int_eq(file_seek(f, 0, SEEK_DATA), 8192);
	ck_assert_int_eq(file_seek(f, 0, SEEK_HOLE), 0);
	ck_assert_int_eq(file_seek(f, 8192, SEEK_HOLE), 8193);
	ck_assert_int_eq(file_seek(f, 8193, SEEK_DATA), -ENXIO);
	file_put(f);
}
END_TEST

START_TEST(a_shrunk_file_grows_back_with_zeros)
{
	char buf[6000], want[6000] = "";
	struct file *f = fs_must_open("f", O_RDWR | O_CREAT);
	memset(buf, 'a', sizeof(buf));
	ck_assert_int_eq(file_pwrite(f, buf, sizeof(buf), 0), sizeof(buf));
	OK(inode_truncate(f->inode, 10, fs_cred));
	OK(inode_truncate(f->inode, sizeof(buf), fs_cred));
	memset(want, 'a', 10);
	ck_assert_int_eq(file_pread(f, buf, sizeof(buf), 0), sizeof(buf));
	ck_assert_mem_eq(buf, want, sizeof(buf));
	file_put(f);
}
END_TEST

START_TEST(punched_ranges_are_freed)
{
	/* In sentry memory, and in a memfd. */
	for (int big = 0; big < 2; big++) {
		size_t n = big ? 1UL << 20 : 5 * 4096;
		char *buf = malloc(n);
		memset(buf, 'z', n);
		struct kstat st;
		struct file *f = fs_must_open("f", O_RDWR | O_CREAT | O_TRUNC);
		ck_assert_int_eq(file_pwrite(f, buf, n, 0), (ssize_t)n);
		OK(file_fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4000, 8200));
		OK(fs_stat("f", &st));
		ck_assert_uint_eq(st.size, n);
		ck_assert_uint_eq(st.blocks, n / 512 - 8);
		ck_assert_int_eq(file_pread(f, buf, n, 0), (ssize_t)n);
		for (size_t i = 0; i < n; i++)
			ck_assert_int_eq(buf[i], i >= 4000 && i < 12200 ? 0 : 'z');
		OK(file_fallocate(f, 0, 4096, 4096));
		OK(fs_stat("f", &st));
		ck_assert_uint_eq(st.blocks, n / 512);
		OK(file_fallocate(f, FALLOC_FL_KEEP_SIZE, n, 4096));
		OK(fs_stat("f", &st));
		ck_assert_uint_eq(st.size, n);
		ck_assert_uint_eq(st.blocks, n / 512 + 8);
		ck_assert_int_eq(file_fallocate(f, FALLOC_FL_ZERO_RANGE, 0, 10), -EOPNOTSUPP);
		file_put(f);
		free(buf);
	}
}
END_TEST

START_TEST(appends_go_to_the_end)
{
	struct file *a = fs_must_open("f", O_WRONLY | O_CREAT | O_APPEND);
	struct file *b = fs_must_open("f", O_WRONLY | O_APPEND);
	ck_assert_int_eq(file_pwrite(a, "one", 3, 0), 3);
	ck_assert_int_eq(file_pwrite(b, "two", 3, 0), 3);
	ck_assert_int_eq(file_pwrite(a, "three", 5, 1), 5);
	file_put(a);
	file_put(b);
	fs_expect("f", "onetwothree");
}
END_TEST

START_TEST(a_write_beyond_int64_is_refused)
{
	struct file *f = fs_must_open("f", O_RDWR | O_CREAT);
	ck_assert_int_eq(file_pwrite(f, "x", 1, INT64_MAX), -EINVAL);
	OK(inode_truncate(f->inode, INT64_MAX, fs_cred));
	ck_assert_int_eq(inode_truncate(f->inode, (uint64_t)INT64_MAX + 1, fs_cred), -EFBIG);
	file_put(f);
}
END_TEST

/* ---- mapping ---- */

START_TEST(a_mapping_shows_the_file_and_its_writes)
{
	int fd;
	fs_write("f", "hello");
	struct file *f = fs_must_open("f", O_RDWR);
	OK(f->ops->map_fd(f, true, &fd));
	char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ck_assert_ptr_ne(p, MAP_FAILED);
	ck_assert_str_eq(p, "hello");
	ck_assert_int_eq(file_pwrite(f, "J", 1, 0), 1);
	ck_assert_str_eq(p, "Jello");
	p[4] = 'y';
	fs_expect("f", "Jelly");
	munmap(p, 4096);
	file_put(f);
}
END_TEST

START_TEST(a_descriptor_for_readers_cannot_be_made_writable)
{
	int fd;
	fs_write("f", "hello");
	struct file *f = fs_must_open("f", O_RDONLY);
	OK(f->ops->map_fd(f, true, &fd));
	char *p = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
	ck_assert_ptr_ne(p, MAP_FAILED);
	ck_assert_int_eq(mprotect(p, 4096, PROT_READ | PROT_WRITE), -1);
	ck_assert_int_eq(write(fd, "x", 1), -1);
	munmap(p, 4096);
	int other;
	host_set_proc_fd(-1);
	fs_write("g", "hello");
	struct file *g = fs_must_open("g", O_RDONLY);
	ck_assert_int_eq(g->ops->map_fd(g, true, &other), -EACCES);
	file_put(f);
	file_put(g);
}
END_TEST

START_TEST(pages_made_through_a_mapping_are_counted)
{
	struct kstat st;
	int fd;
	struct file *f = fs_must_open("f", O_RDWR | O_CREAT);
	OK(inode_truncate(f->inode, 1 << 20, fs_cred));
	OK(f->ops->map_fd(f, true, &fd));
	char *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	OK(fs_stat("f", &st));
	ck_assert_uint_eq(st.blocks, 0);
	p[0] = p[8192] = 1;
	OK(fs_stat("f", &st));
	ck_assert_uint_eq(st.blocks, 16);
	munmap(p, 1 << 20);
	file_put(f);
}
END_TEST

/* ---- limits ---- */

START_TEST(an_instance_is_bounded_in_pages)
{
	fs_leave();
	enter("size=16k,mode=700,uid=5,gid=6");
	struct kstat st;
	OK(fs_stat("/", &st));
	ck_assert_uint_eq(st.mode, S_IFDIR | 0700);
	ck_assert_uint_eq(st.uid, 5);
	ck_assert_uint_eq(st.gid, 6);
	char buf[20000] = "";
	struct file *f = fs_must_open("f", O_RDWR | O_CREAT);
	ck_assert_int_eq(file_pwrite(f, buf, sizeof(buf), 0), 16384);
	ck_assert_int_eq(file_pwrite(f, "x", 1, 16384), -ENOSPC);
	ck_assert_int_eq(file_pwrite(f, "x", 1, 0), 1);
	struct kstatfs fsst;
	OK(vfs_statfs(f->path, &fsst));
	ck_assert_uint_eq(fsst.blocks, 4);
	ck_assert_uint_eq(fsst.bfree, 0);
	OK(inode_truncate(f->inode, 4096, fs_cred));
	OK(vfs_statfs(f->path, &fsst));
	ck_assert_uint_eq(fsst.bfree, 3);
	ck_assert_int_eq(file_fallocate(f, 0, 0, 5 * 4096), -ENOSPC);
	OK(vfs_statfs(f->path, &fsst));
	ck_assert_uint_eq(fsst.bfree, 3);
	OK(vfs_unlink(&fs_env, "f", false));
	OK(vfs_statfs(f->path, &fsst));
	ck_assert_uint_eq(fsst.bfree, 3);
	file_put(f);
	OK(vfs_statfs(fs_env.root, &fsst));
	ck_assert_uint_eq(fsst.bfree, 4);
}
END_TEST

START_TEST(a_large_file_is_bounded_as_well)
{
	fs_leave();
	enter("size=1m");
	size_t n = 2 << 20;
	char *buf = calloc(1, n);
	struct file *f = fs_must_open("f", O_RDWR | O_CREAT);
	ssize_t done = 0, got;
	while ((got = file_pwrite(f, buf, 65536, done)) > 0)
		done += got;
	ck_assert_int_eq(got, -ENOSPC);
	ck_assert_int_eq(done, 1 << 20);
	OK(inode_truncate(f->inode, 4UL << 30, fs_cred));
	ck_assert_int_eq(file_pwrite(f, "x", 1, 3UL << 30), -ENOSPC);
	OK(file_fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 8192));
	ck_assert_int_eq(file_pwrite(f, "x", 1, 3UL << 30), 1);
	ck_assert_int_eq(file_pwrite(f, "x", 1, 3UL << 30), 1);
	ck_assert_int_eq(file_pwrite(f, "x", 1, 2UL << 30), 1);
	ck_assert_int_eq(file_pwrite(f, "x", 1, 1UL << 30), -ENOSPC);
	file_put(f);
	free(buf);
}
END_TEST

START_TEST(an_instance_is_bounded_in_inodes)
{
	fs_leave();
	enter("nr_inodes=3");
	fs_write("a", "");
	fs_write("b", "");
	struct file *f;
	ck_assert_int_eq(fs_open("c", O_CREAT | O_WRONLY, &f), -ENOSPC);
	/* Names count, as they take memory too. */
	ck_assert_int_eq(fs_link("a", "c"), -ENOSPC);
	OK(vfs_unlink(&fs_env, "b", false));
	OK(fs_link("a", "c"));
	ck_assert_int_eq(fs_open("d", O_CREAT | O_WRONLY, &f), -ENOSPC);
	OK(vfs_unlink(&fs_env, "a", false));
	fs_write("d", "");
	OK(fs_rename("d", "c", 0));
	fs_write("d", "");
	struct kstatfs st;
	OK(vfs_statfs(fs_env.root, &st));
	ck_assert_uint_eq(st.files, 3);
	ck_assert_uint_eq(st.ffree, 0);
}
END_TEST

START_TEST(bad_options_are_refused)
{
	static const char *const bad[] = {"size=",    "size=x", "size=1z",  "mode=9",
					  "nonsense", "uid=-1", "size=1k1", "gid=99999999999"};
	struct super_block *sb;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ck_assert_int_eq(tmpfs_mount(bad[i], &sb), -EINVAL);
	OK(tmpfs_mount("size=50%,nr_inodes=1k,mode=1777,huge=never,inode64", &sb));
	super_put(sb);
}
END_TEST

/* ---- names ---- */

START_TEST(link_counts_follow_names)
{
	struct kstat st;
	OK(vfs_mkdir(&fs_env, "d", 0755));
	OK(vfs_mkdir(&fs_env, "d/e", 0755));
	OK(fs_stat("d", &st));
	ck_assert_uint_eq(st.nlink, 3);
	fs_write("f", "x");
	OK(fs_link("f", "d/g"));
	OK(fs_stat("f", &st));
	ck_assert_uint_eq(st.nlink, 2);
	struct file *f = fs_must_open("f", O_RDONLY);
	OK(vfs_unlink(&fs_env, "f", false));
	OK(vfs_unlink(&fs_env, "d/g", false));
	OK(vfs_getattr(f->path, &st));
	ck_assert_uint_eq(st.nlink, 0);
	file_put(f);
	ck_assert_int_eq(vfs_unlink(&fs_env, "d", true), -ENOTEMPTY);
	OK(vfs_unlink(&fs_env, "d/e", true));
	OK(vfs_unlink(&fs_env, "d", true));
	OK(fs_stat("/", &st));
	ck_assert_uint_eq(st.nlink, 2);
}
END_TEST

START_TEST(renames_replace_exchange_and_leave_whiteouts)
{
	struct kstat st;
	fs_write("a", "A");
	fs_write("b", "B");
	OK(fs_rename("a", "b", 0));
	fs_expect("b", "A");
	ck_assert_int_eq(fs_stat("a", &st), -ENOENT);
	OK(vfs_mkdir(&fs_env, "d", 0755));
	OK(vfs_mkdir(&fs_env, "d/sub", 0755));
	OK(fs_rename("b", "d/sub", RENAME_EXCHANGE));
	fs_expect("d/sub", "A");
	OK(fs_stat("b", &st));
	ck_assert_uint_eq(st.mode & S_IFMT, S_IFDIR);
	OK(fs_stat("d", &st));
	ck_assert_uint_eq(st.nlink, 2);
	OK(fs_stat("/", &st));
	ck_assert_uint_eq(st.nlink, 4);
	ck_assert_int_eq(fs_rename("d/sub", "b", 0), -EISDIR);
	OK(fs_rename("d/sub", "c", RENAME_WHITEOUT));
	OK(fs_stat("d/sub", &st));
	ck_assert_uint_eq(st.mode & S_IFMT, S_IFCHR);
	ck_assert_uint_eq(st.rdev, 0);
	ck_assert_int_eq(fs_rename("b", "d", 0), -ENOTEMPTY);
	OK(vfs_unlink(&fs_env, "d/sub", false));
	OK(fs_rename("b", "d", 0));
	fs_expect_names("/", "c d");
}
END_TEST

START_TEST(listings_survive_changes)
{
	char name[16];
	for (int i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "n%02d", i);
		fs_write(name, "");
	}
	struct fs_listing l = {.ctx = {fs_list_emit}};
	struct file *f = fs_must_open("/", O_RDONLY | O_DIRECTORY);
	int64_t before;
	int gone = 0;
	/* As rm -r does: remove what has been listed, then go on. */
	do {
		before = f->pos;
		l.left = 7;
		l.text[0] = '\0';
		OK(file_readdir(f, &l.ctx));
		char *save = NULL;
		for (char *s = strtok_r(l.text, " ", &save); s; s = strtok_r(NULL, " ", &save)) {
			OK(vfs_unlink(&fs_env, s, false));
			gone++;
		}
	} while (f->pos != before);
	file_put(f);
	ck_assert_int_eq(gone, 100);
	fs_expect_names("/", "");
}
END_TEST

START_TEST(a_dropped_dentry_is_found_again)
{
	struct kstat a, b;
	fs_write("f", "kept");
	OK(vfs_symlink(&fs_env, "f", "l"));
	OK(fs_stat("f", &a));
	dcache_shrink(0);
	OK(fs_stat("f", &b));
	ck_assert_uint_eq(a.ino, b.ino);
	fs_expect("l", "kept");
}
END_TEST

START_TEST(a_deep_tree_goes_without_recursion)
{
	char path[4000] = "";
	/* Deeper than a stack could take, from a directory that stays the start. */
	struct path cwd = path_get(fs_env.root);
	for (int i = 0; i < 20000; i++) {
		OK(vfs_mkdir(&fs_env, "d", 0755));
		struct path next;
		OK(path_walk(&fs_env, "d", 0, &next));
		path_put(cwd);
		cwd = next;
		fs_env.start = cwd;
	}
	(void)path;
	path_put(cwd);
	fs_env.start = fs_env.root;
}
END_TEST

START_TEST(an_unnamed_file_can_get_a_name)
{
	struct kstat st;
	struct file *f = fs_must_open("/", O_TMPFILE | O_RDWR);
	ck_assert_int_eq(file_pwrite(f, "tmp", 3, 0), 3);
	OK(vfs_getattr(f->path, &st));
	ck_assert_uint_eq(st.nlink, 0);
	struct walk_env at = fs_env;
	at.start = f->path;
	OK(vfs_link(&at, "", &fs_env, "named", WALK_EMPTY));
	file_put(f);
	fs_expect("named", "tmp");
}
END_TEST

/* ---- extended attributes ---- */

START_TEST(attributes_are_kept_and_bounded)
{
	char buf[64];
	fs_write("f", "");
	struct path p;
	OK(path_walk(&fs_env, "f", 0, &p));
	ck_assert_int_eq(vfs_getxattr(p, "user.a", buf, sizeof(buf), fs_cred), -ENODATA);
	OK(vfs_setxattr(p, "user.a", "one", 3, XATTR_CREATE, fs_cred));
	ck_assert_int_eq(vfs_setxattr(p, "user.a", "x", 1, XATTR_CREATE, fs_cred), -EEXIST);
	ck_assert_int_eq(vfs_setxattr(p, "user.b", "x", 1, XATTR_REPLACE, fs_cred), -ENODATA);
	OK(vfs_setxattr(p, "trusted.t", "", 0, 0, fs_cred));
	ck_assert_int_eq(vfs_getxattr(p, "user.a", buf, sizeof(buf), fs_cred), 3);
	ck_assert_mem_eq(buf, "one", 3);
	ck_assert_int_eq(vfs_getxattr(p, "user.a", buf, 2, fs_cred), -ERANGE);
	ck_assert_int_eq(vfs_getxattr(p, "user.a", NULL, 0, fs_cred), 3);
	ck_assert_int_eq(vfs_listxattr(p, buf, sizeof(buf), fs_cred), 17);
	ck_assert_int_eq(vfs_setxattr(p, "system.other", "x", 1, 0, fs_cred), -EOPNOTSUPP);
	OK(vfs_removexattr(p, "user.a", fs_cred));
	ck_assert_int_eq(vfs_removexattr(p, "user.a", fs_cred), -ENODATA);
	char *big = calloc(1, 60000), name[24];
	int err = 0;
	for (int i = 0; i < 10 && !err; i++) {
		snprintf(name, sizeof(name), "user.%d", i);
		err = vfs_setxattr(p, name, big, 60000, 0, fs_cred);
	}
	ck_assert_int_eq(err, -ENOSPC);
	free(big);
	path_put(p);
}
END_TEST

/* ---- unnamed files and seals ---- */

START_TEST(seals_are_enforced)
{
	struct file *f;
	OK(shmem_file_create("/memfd:x (deleted)", 0, 0777, SHMEM_SEALABLE, &f));
	ck_assert_int_eq(file_pwrite(f, "hello", 5, 0), 5);
	ck_assert_int_eq(f->ops->fcntl(f, NULL, F_GET_SEALS, 0), 0);
	OK(f->ops->fcntl(f, NULL, F_ADD_SEALS, F_SEAL_GROW));
	ck_assert_int_eq(file_pwrite(f, "hello!", 6, 0), -EPERM);
	ck_assert_int_eq(inode_truncate(f->inode, 10, fs_cred), -EPERM);
	OK(inode_truncate(f->inode, 4, fs_cred));
	OK(f->ops->fcntl(f, NULL, F_ADD_SEALS, F_SEAL_SHRINK));
	ck_assert_int_eq(inode_truncate(f->inode, 3, fs_cred), -EPERM);

	int fd;
	OK(f->ops->map_fd(f, true, &fd));
	char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ck_assert_int_eq(f->ops->fcntl(f, NULL, F_ADD_SEALS, F_SEAL_WRITE), -EBUSY);
	munmap(p, 4096);
	OK(f->ops->fcntl(f, NULL, F_ADD_SEALS, F_SEAL_WRITE));
	ck_assert_int_eq(file_pwrite(f, "x", 1, 0), -EPERM);
	ck_assert_ptr_eq(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
	OK(f->ops->fcntl(f, NULL, F_ADD_SEALS, F_SEAL_SEAL));
	ck_assert_int_eq(f->ops->fcntl(f, NULL, F_ADD_SEALS, F_SEAL_SEAL), -EPERM);
	ck_assert_int_eq(f->ops->fcntl(f, NULL, F_GET_SEALS, 0),
			 F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
	file_put(f);

	/* A seal from before the file had a memfd holds for its mappings. */
	OK(shmem_file_create("x", 10, 0777, SHMEM_SEALABLE, &f));
	OK(f->ops->fcntl(f, NULL, F_ADD_SEALS, F_SEAL_WRITE));
	OK(f->ops->map_fd(f, true, &fd));
	ck_assert_ptr_eq(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
	file_put(f);
	fs_write("f", "");
	f = fs_must_open("f", O_RDWR);
	ck_assert_int_eq(f->ops->fcntl(f, NULL, F_ADD_SEALS, F_SEAL_WRITE), -EPERM);
	file_put(f);
}
END_TEST

START_TEST(shared_memory_is_zero_and_sized)
{
	struct file *f;
	char buf[8];
	OK(shmem_zero_setup(1 << 20, &f));
	ck_assert_uint_eq(f->inode->size, 1 << 20);
	ck_assert_int_eq(file_pread(f, buf, 8, (1 << 20) - 4), 4);
	file_put(f);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("tmpfs");
	TCase *tc = tcase_create("all");
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, bytes_written_are_read_at_every_size);
	tcase_add_test(tc, a_hole_reads_as_zeros_and_takes_no_blocks);
	tcase_add_test(tc, a_shrunk_file_grows_back_with_zeros);
	tcase_add_test(tc, punched_ranges_are_freed);
	tcase_add_test(tc, appends_go_to_the_end);
	tcase_add_test(tc, a_write_beyond_int64_is_refused);
	tcase_add_test(tc, a_mapping_shows_the_file_and_its_writes);
	tcase_add_test(tc, a_descriptor_for_readers_cannot_be_made_writable);
	tcase_add_test(tc, pages_made_through_a_mapping_are_counted);
	tcase_add_test(tc, an_instance_is_bounded_in_pages);
	tcase_add_test(tc, a_large_file_is_bounded_as_well);
	tcase_add_test(tc, an_instance_is_bounded_in_inodes);
	tcase_add_test(tc, bad_options_are_refused);
	tcase_add_test(tc, link_counts_follow_names);
	tcase_add_test(tc, renames_replace_exchange_and_leave_whiteouts);
	tcase_add_test(tc, listings_survive_changes);
	tcase_add_test(tc, a_dropped_dentry_is_found_again);
	tcase_add_test(tc, a_deep_tree_goes_without_recursion);
	tcase_add_test(tc, an_unnamed_file_can_get_a_name);
	tcase_add_test(tc, attributes_are_kept_and_bounded);
	tcase_add_test(tc, seals_are_enforced);
	tcase_add_test(tc, shared_memory_is_zero_and_sized);
	suite_add_tcase(s, tc);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
