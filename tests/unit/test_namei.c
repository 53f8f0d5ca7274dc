/* Path walks, mounts, permissions and the rules of calls on names. */
#include "tests/unit/fs_helpers.h"

#include <linux/capability.h>
#include <linux/fs.h>
#include <pthread.h>
#include <sys/mount.h>

static struct super_block *new_tmpfs(void)
{
	struct super_block *sb;
	OK(tmpfs_mount("", &sb));
	return sb;
}

static void setup(void)
{
	host_set_proc_fd(open("/proc", O_PATH | O_DIRECTORY));
	OK(tmpfs_init());
	fs_enter(new_tmpfs());
	OK(vfs_mkdir(&fs_env, "/a", 0755));
	OK(vfs_mkdir(&fs_env, "/a/b", 0755));
	fs_write("/a/b/f", "text");
}

static void teardown(void)
{
	fs_leave();
	close(host_proc_fd());
	host_set_proc_fd(-1);
}

static int walk(const char *name, unsigned flags)
{
	struct path p;
	int err = path_walk(&fs_env, name, flags, &p);
	if (!err)
		path_put(p);
	return err;
}

static void expect_name(const char *name, unsigned flags, const char *full)
{
	char buf[VFS_PATH_MAX], *start;
	struct path p;
	OK(path_walk(&fs_env, name, flags, &p));
	ssize_t n = path_name(p, fs_env.root, buf, sizeof(buf), true, &start);
	ck_assert_int_eq(n, (ssize_t)strlen(full));
	ck_assert_str_eq(start, full);
	path_put(p);
}

static struct cred *become(uint32_t uid)
{
	struct cred *c = cred_new_root();
	c->uid = c->euid = c->suid = c->fsuid = uid;
	c->gid = c->egid = c->sgid = c->fsgid = uid;
	c->cap_permitted = c->cap_effective = 0;
	fs_env.cred = c;
	return c;
}

static void become_root(struct cred *c)
{
	fs_env.cred = fs_cred;
	cred_put(c);
}

/* ---- walking ---- */

START_TEST(components_dots_and_slashes)
{
	expect_name("/a/b/f", 0, "/a/b/f");
	expect_name("//a///b//f", 0, "/a/b/f");
	expect_name("a/./b/../b/f", 0, "/a/b/f");
	expect_name("/", 0, "/");
	expect_name("///", 0, "/");
	expect_name("/../../a/..", 0, "/");
	expect_name("/a/b/", 0, "/a/b");
	expect_name(".", 0, "/");
	ck_assert_int_eq(walk("", 0), -ENOENT);
	expect_name("", WALK_EMPTY, "/");
	ck_assert_int_eq(walk("/a/x", 0), -ENOENT);
	ck_assert_int_eq(walk("/a/x", 0), -ENOENT);
	ck_assert_int_eq(walk("/a/b/f/", 0), -ENOTDIR);
	ck_assert_int_eq(walk("/a/b/f/.", 0), -ENOTDIR);
	ck_assert_int_eq(walk("/a/b/f/..", 0), -ENOTDIR);
	ck_assert_int_eq(walk("/a/b/f", WALK_DIRECTORY), -ENOTDIR);
	ck_assert_int_eq(walk("/a/x/y", 0), -ENOENT);
}
END_TEST

START_TEST(names_have_a_longest_length)
{
	char name[400] = "/";
	memset(name + 1, 'n', 255);
	ck_assert_int_eq(walk(name, 0), -ENOENT);
	OK(vfs_mkdir(&fs_env, name, 0755));
	expect_name(name, 0, name);
	OK(vfs_unlink(&fs_env, name, true));
	name[256] = 'n';
	ck_assert_int_eq(walk(name, 0), -ENAMETOOLONG);
	ck_assert_int_eq(vfs_mkdir(&fs_env, name, 0755), -ENAMETOOLONG);
}
END_TEST

START_TEST(symlinks_are_followed_where_linux_does)
{
	OK(vfs_symlink(&fs_env, "b/f", "/a/rel"));
	OK(vfs_symlink(&fs_env, "/a/b", "/abs"));
	OK(vfs_symlink(&fs_env, "nowhere", "/dangling"));
	for (int cached = 0; cached < 2; cached++) {
		expect_name("/a/rel", 0, "/a/b/f");
		expect_name("/a/rel", WALK_NOFOLLOW, "/a/rel");
		expect_name("/abs/f", 0, "/a/b/f");
		expect_name("/abs/f", WALK_NOFOLLOW, "/a/b/f");
		expect_name("/abs", WALK_NOFOLLOW, "/abs");
		expect_name("/abs/", WALK_NOFOLLOW, "/a/b");
		expect_name("/abs/../b", 0, "/a/b");
		ck_assert_int_eq(walk("/a/rel/", 0), -ENOTDIR);
		ck_assert_int_eq(walk("/a/rel/x", 0), -ENOTDIR);
		ck_assert_int_eq(walk("/dangling", 0), -ENOENT);
		ck_assert_int_eq(walk("/abs/f", WALK_NO_SYMLINKS), -ELOOP);
		ck_assert_int_eq(walk("/abs", WALK_NO_SYMLINKS | WALK_NOFOLLOW), 0);
	}
	ck_assert_int_eq(vfs_symlink(&fs_env, "", "/empty"), -ENOENT);
}
END_TEST

START_TEST(forty_symlinks_are_the_limit)
{
	char from[32], to[32];
	OK(vfs_symlink(&fs_env, "a", "/l0"));
	for (int i = 1; i <= 40; i++) {
		snprintf(from, sizeof(from), "l%d", i - 1);
		snprintf(to, sizeof(to), "/l%d", i);
		OK(vfs_symlink(&fs_env, from, to));
	}
	expect_name("/l39/b", 0, "/a/b");
	ck_assert_int_eq(walk("/l40", 0), -ELOOP);
	OK(vfs_symlink(&fs_env, "loop", "/loop"));
	ck_assert_int_eq(walk("/loop", 0), -ELOOP);
	ck_assert_int_eq(walk("/loop/x", 0), -ELOOP);
	/* Remainders after links are kept in a stack: all 40 of them. */
	OK(vfs_mkdir(&fs_env, "/d", 0755));
	OK(vfs_symlink(&fs_env, "../d/e0/.", "/d/s0"));
	OK(vfs_mkdir(&fs_env, "/d/e0", 0755));
	for (int i = 1; i < 40; i++) {
		snprintf(from, sizeof(from), "s%d/../e0", i - 1);
		snprintf(to, sizeof(to), "/d/s%d", i);
		OK(vfs_symlink(&fs_env, from, to));
	}
	expect_name("/d/s39/.", 0, "/d/e0");
}
END_TEST

START_TEST(walks_can_be_confined)
{
	struct path start;
	OK(path_walk(&fs_env, "/a", 0, &start));
	struct walk_env env = fs_env;
	env.start = start;
	OK(vfs_symlink(&fs_env, "/b/f", "/a/abs"));
	OK(vfs_symlink(&fs_env, "../a/b/f", "/a/up"));
	struct path p;
	ck_assert_int_eq(path_walk(&env, "..", WALK_BENEATH, &p), -EXDEV);
	ck_assert_int_eq(path_walk(&env, "/b", WALK_BENEATH, &p), -EXDEV);
	ck_assert_int_eq(path_walk(&env, "abs", WALK_BENEATH, &p), -EXDEV);
	ck_assert_int_eq(path_walk(&env, "up", WALK_BENEATH, &p), -EXDEV);
	OK(path_walk(&env, "b/../b/f", WALK_BENEATH, &p));
	path_put(p);
	OK(path_walk(&env, "abs", WALK_IN_ROOT, &p));
	path_put(p);
	OK(path_walk(&env, "../../b/f", WALK_IN_ROOT, &p));
	path_put(p);
	ck_assert_int_eq(path_walk(&env, "up", WALK_IN_ROOT, &p), -ENOENT);
	/* A root of one's own: chroot(2). */
	env.root = start;
	OK(path_walk(&env, "/../b/f", 0, &p));
	path_put(p);
	ck_assert_int_eq(path_walk(&env, "/../a", 0, &p), -ENOENT);
	path_put(start);
}
END_TEST

START_TEST(a_removed_directory_is_empty_and_closed)
{
	struct path dir, p;
	OK(vfs_mkdir(&fs_env, "/gone", 0755));
	OK(path_walk(&fs_env, "/gone", 0, &dir));
	struct walk_env env = fs_env;
	env.start = dir;
	OK(vfs_unlink(&fs_env, "/gone", true));
	ck_assert_int_eq(vfs_mkdir(&env, "x", 0755), -ENOENT);
	ck_assert_int_eq(path_walk(&env, "x", 0, &p), -ENOENT);
	OK(path_walk(&env, "..", 0, &p));
	path_put(p);
	char buf[256], *start;
	ck_assert_int_gt(path_name(dir, fs_env.root, buf, sizeof(buf), true, &start), 0);
	ck_assert_str_eq(start, "/gone (deleted)");
	path_put(dir);
}
END_TEST

/* ---- mounts ---- */

START_TEST(mounts_are_crossed_both_ways)
{
	struct path at;
	struct mnt_ns *ns = mnt_ns_new(mount_get(fs_mnt));
	struct super_block *sb = new_tmpfs();
	struct mount *m = mount_new(sb, sb->root, MS_NODEV, "inner");
	OK(path_walk(&fs_env, "/a/b", 0, &at));
	OK(mount_attach(m, at));
	ck_assert_int_eq(walk("/a/b/f", 0), -ENOENT);
	ck_assert_int_eq(walk("/a/b", WALK_NO_XDEV), -EXDEV);
	OK(vfs_mkdir(&fs_env, "/a/b/inner", 0755));
	expect_name("/a/b/inner", 0, "/a/b/inner");
	expect_name("/a/b/inner/../..", 0, "/a");
	ck_assert_int_eq(vfs_unlink(&fs_env, "/a/b", true), -EBUSY);
	ck_assert_int_eq(fs_rename("/a/b", "/c", 0), -EBUSY);
	ck_assert_int_eq(fs_rename("/a/b/inner", "/c", 0), -EXDEV);
	fs_write("/top", "x");
	ck_assert_int_eq(fs_link("/top", "/a/b/l"), -EXDEV);
	ck_assert_int_eq(mount_attach(m, at), -EBUSY);

	struct kstat outer, inner;
	OK(fs_stat("/a", &outer));
	OK(fs_stat("/a/b", &inner));
	ck_assert_uint_ne(outer.dev, inner.dev);
	ck_assert_uint_ne(outer.mount_id, inner.mount_id);
	ck_assert(inner.attributes & STATX_ATTR_MOUNT_ROOT);

	struct path busy;
	OK(path_walk(&fs_env, "/a/b/inner", 0, &busy));
	ck_assert_int_eq(mount_detach(m, false), -EBUSY);
	path_put(busy);
	OK(mount_detach(m, false));
	expect_name("/a/b/f", 0, "/a/b/f");
	path_put(at);
	mount_put(m);
	super_put(sb);
	mnt_ns_put(ns);
}
END_TEST

static int count_mount(struct mount *m, void *arg)
{
	(void)m;
	++*(int *)arg;
	return 0;
}

START_TEST(a_namespace_lists_and_drops_its_mounts)
{
	struct path at;
	struct mnt_ns *ns = mnt_ns_new(mount_get(fs_mnt));
	struct super_block *sb = new_tmpfs();
	OK(path_walk(&fs_env, "/a", 0, &at));
	struct mount *m = mount_new(sb, sb->root, 0, "one");
	OK(mount_attach(m, at));
	path_put(at);
	mount_put(m);
	OK(path_walk(&fs_env, "/a", 0, &at)); /* on top of the first one */
	m = mount_new(sb, sb->root, 0, "two");
	OK(mount_attach(m, at));
	path_put(at);
	mount_put(m);
	super_put(sb);
	int n = 0;
	OK(mnt_ns_for_each(ns, count_mount, &n));
	ck_assert_int_eq(n, 3);
	mnt_ns_put(ns);
	expect_name("/a/b", 0, "/a/b");
}
END_TEST

START_TEST(a_read_only_mount_refuses_every_change)
{
	struct iattr times = {.valid = ATTR_ATIME | ATTR_ATIME_NOW};
	struct file *f;
	fs_mnt->flags = MS_RDONLY;
	ck_assert_int_eq(vfs_mkdir(&fs_env, "/x", 0755), -EROFS);
	ck_assert_int_eq(vfs_mkdir(&fs_env, "/a", 0755), -EEXIST);
	ck_assert_int_eq(vfs_unlink(&fs_env, "/a/b/f", false), -EROFS);
	ck_assert_int_eq(fs_rename("/a/b/f", "/x", 0), -EROFS);
	ck_assert_int_eq(fs_open("/a/b/f", O_RDWR, &f), -EROFS);
	ck_assert_int_eq(fs_open("/x", O_RDWR | O_CREAT, &f), -EROFS);
	ck_assert_int_eq(fs_chmod("/a/b/f", 0600), -EROFS);
	ck_assert_int_eq(fs_setattr("/a/b/f", &times), -EROFS);
	OK(fs_open("/a/b/f", O_RDONLY, &f));
	file_put(f);
	fs_mnt->flags = 0;
}
END_TEST

/* ---- opening ---- */

START_TEST(open_obeys_its_flags)
{
	struct file *f;
	OK(vfs_symlink(&fs_env, "b/new", "/a/link"));
	ck_assert_int_eq(fs_open("/a/x", O_RDONLY, &f), -ENOENT);
	ck_assert_int_eq(fs_open("/a/b/f", O_RDWR | O_CREAT | O_EXCL, &f), -EEXIST);
	ck_assert_int_eq(fs_open("/a/link", O_RDWR | O_CREAT | O_EXCL, &f), -EEXIST);
	ck_assert_int_eq(fs_open("/a/link", O_RDWR | O_CREAT | O_NOFOLLOW, &f), -ELOOP);
	ck_assert_int_eq(fs_open("/a/link", O_RDONLY | O_NOFOLLOW, &f), -ELOOP);
	ck_assert_int_eq(fs_open("/a/link", O_RDONLY | O_NOFOLLOW | O_DIRECTORY, &f), -ENOTDIR);
	ck_assert_int_eq(fs_open("/a/b/f", O_RDONLY | O_DIRECTORY, &f), -ENOTDIR);
	ck_assert_int_eq(fs_open("/a", O_RDWR, &f), -EISDIR);
	ck_assert_int_eq(fs_open("/a", O_RDONLY | O_CREAT, &f), -EISDIR);
	ck_assert_int_eq(fs_open("/", O_RDONLY | O_CREAT, &f), -EISDIR);
	ck_assert_int_eq(fs_open("/a/.", O_RDONLY | O_CREAT, &f), -EISDIR);
	ck_assert_int_eq(fs_open("/a/x/", O_RDONLY | O_CREAT, &f), -EISDIR);
	/* A dangling link is created through. */
	OK(fs_open("/a/link", O_RDWR | O_CREAT, &f));
	file_put(f);
	expect_name("/a/b/new", 0, "/a/b/new");
	OK(fs_open("/a/link", O_PATH | O_NOFOLLOW, &f));
	ck_assert(S_ISLNK(f->inode->mode));
	ck_assert(!file_readable(f));
	ck_assert_int_eq(file_pread(f, &(char){0}, 1, 0), -EBADF);
	file_put(f);
	OK(fs_open("/a/b/f", O_RDWR | O_TRUNC | O_CREAT | O_CLOEXEC | O_APPEND, &f));
	ck_assert_int_eq(f->flags, O_RDWR | O_APPEND);
	file_put(f);
	fs_expect("/a/b/f", "");
}
END_TEST

START_TEST(unnamed_files_need_support_and_write_access)
{
	struct file *f;
	OK(fs_open("/a", O_RDWR | O_TMPFILE, &f));
	char buf[64], *start;
	ck_assert_int_gt(path_name(f->path, fs_env.root, buf, sizeof(buf), true, &start), 0);
	ck_assert_str_eq(start + strlen(start) - 10, " (deleted)");
	ck_assert_int_eq(strncmp(start, "/a/#", 4), 0);
	file_put(f);
	ck_assert_int_eq(fs_open("/a/b/f", O_RDWR | O_TMPFILE, &f), -ENOTDIR);
}
END_TEST

START_TEST(special_files_go_through_their_hooks)
{
	struct file *f;
	OK(vfs_mknod(&fs_env, "/sock", S_IFSOCK | 0600, 0, NULL));
	OK(vfs_mknod(&fs_env, "/chr", S_IFCHR | 0600, dev_encode(1, 3), NULL));
	ck_assert_int_eq(fs_open("/sock", O_RDWR, &f), -ENXIO);
	fs_mnt->flags = MS_NODEV;
	ck_assert_int_eq(fs_open("/chr", O_RDWR, &f), -EACCES);
	fs_mnt->flags = 0;
	struct cred *c = become(1000);
	ck_assert_int_eq(vfs_mknod(&fs_env, "/a/chr2", S_IFCHR | 0600, 0, NULL), -EACCES);
	become_root(c);
	ck_assert_int_eq(vfs_mknod(&fs_env, "/d", S_IFDIR | 0600, 0, NULL), -EPERM);
	ck_assert_int_eq(vfs_mknod(&fs_env, "/l", S_IFLNK | 0600, 0, NULL), -EINVAL);
}
END_TEST

/* ---- permissions ---- */

START_TEST(mode_bits_are_judged_by_the_first_class_that_fits)
{
	struct file *f;
	struct iattr own = {.valid = ATTR_UID | ATTR_GID, .uid = 1000, .gid = 1000};
	OK(fs_setattr("/a/b/f", &own));
	OK(fs_chmod("/a/b/f", 0077));
	struct cred *c = become(1000);
	ck_assert_int_eq(fs_open("/a/b/f", O_RDONLY, &f), -EACCES);
	become_root(c);
	c = become(1001);
	OK(fs_open("/a/b/f", O_RDWR, &f));
	file_put(f);
	become_root(c);
	OK(fs_open("/a/b/f", O_RDWR, &f));
	file_put(f);
	struct path p;
	OK(path_walk(&fs_env, "/a/b/f", 0, &p));
	OK(path_permission(p, 1, fs_cred));
	OK(fs_chmod("/a/b/f", 0600));
	ck_assert_int_eq(path_permission(p, 1, fs_cred), -EACCES);
	path_put(p);
}
END_TEST

START_TEST(every_directory_on_the_way_needs_search_permission)
{
	OK(fs_chmod("/a", 0644));
	ck_assert_int_eq(walk("/a/b/f", 0), 0);
	struct cred *c = become(1000);
	ck_assert_int_eq(walk("/a/b/f", 0), -EACCES);
	ck_assert_int_eq(walk("/a/.", 0), -EACCES);
	ck_assert_int_eq(walk("/a", 0), 0);
	c->cap_effective = CAP_BIT(CAP_DAC_READ_SEARCH);
	ck_assert_int_eq(walk("/a/b/f", 0), 0);
	become_root(c);
}
END_TEST

START_TEST(sticky_directories_protect_other_peoples_files)
{
	OK(vfs_mkdir(&fs_env, "/tmp", 0777));
	OK(fs_chmod("/tmp", 01777));
	struct cred *c = become(1000);
	fs_write("/tmp/mine", "x");
	become_root(c);
	fs_write("/tmp/roots", "x");
	c = become(1001);
	ck_assert_int_eq(vfs_unlink(&fs_env, "/tmp/mine", false), -EPERM);
	ck_assert_int_eq(fs_rename("/tmp/mine", "/tmp/theirs", 0), -EPERM);
	become_root(c);
	c = become(1000);
	ck_assert_int_eq(fs_rename("/tmp/mine", "/tmp/roots", 0), -EPERM);
	OK(vfs_unlink(&fs_env, "/tmp/mine", false));
	become_root(c);
}
END_TEST

START_TEST(set_group_id_directories_pass_their_group_on)
{
	struct kstat st;
	struct iattr own = {.valid = ATTR_GID, .gid = 77};
	OK(fs_setattr("/a", &own));
	OK(fs_chmod("/a", 02777));
	struct cred *c = become(1000);
	fs_write("/a/new", "x");
	OK(vfs_mkdir(&fs_env, "/a/newdir", 0755));
	OK(fs_stat("/a/new", &st));
	ck_assert_uint_eq(st.gid, 77);
	ck_assert_uint_eq(st.uid, 1000);
	ck_assert_uint_eq(st.mode & 07777, 0644);
	OK(fs_stat("/a/newdir", &st));
	ck_assert_uint_eq(st.gid, 77);
	ck_assert_uint_eq(st.mode & 07777, 02755);
	become_root(c);
}
END_TEST

START_TEST(changes_take_set_id_bits_away)
{
	struct kstat st;
	struct iattr own = {.valid = ATTR_UID, .uid = 5};
	struct path p;
	OK(fs_chmod("/a/b/f", 06755));
	OK(fs_setattr("/a/b/f", &own));
	OK(fs_stat("/a/b/f", &st));
	ck_assert_uint_eq(st.mode & 07777, 0755);
	OK(fs_chmod("/a/b/f", 06777));
	OK(path_walk(&fs_env, "/a/b/f", 0, &p));
	struct cred *c = become(1000);
	OK(inode_remove_privs(p.dentry->inode, c));
	become_root(c);
	path_put(p);
	OK(fs_stat("/a/b/f", &st));
	ck_assert_uint_eq(st.mode & 07777, 0777);
}
END_TEST

START_TEST(owners_change_attributes_and_others_do_not)
{
	struct iattr mode = {.valid = ATTR_MODE, .mode = 02755};
	struct iattr give = {.valid = ATTR_UID, .uid = 2};
	struct iattr group = {.valid = ATTR_GID, .gid = 77};
	struct iattr now = {.valid = ATTR_ATIME | ATTR_MTIME | ATTR_ATIME_NOW | ATTR_MTIME_NOW};
	struct iattr then = {.valid = ATTR_MTIME, .mtime = {1, 2}};
	struct iattr own = {.valid = ATTR_UID, .uid = 1000};
	struct path p;
	struct kstat st;
	OK(fs_setattr("/a/b/f", &own));
	OK(path_walk(&fs_env, "/a/b/f", 0, &p));
	struct cred *c = become(1000);
	OK(vfs_setattr(p, &then, c));
	OK(vfs_setattr(p, &mode, c)); /* not in group 0: no S_ISGID */
	OK(vfs_getattr(p, &st));
	ck_assert_uint_eq(st.mode & 07777, 0755);
	ck_assert_int_eq(st.mtime.sec, 1);
	ck_assert_int_eq(vfs_setattr(p, &give, c), -EPERM);
	ck_assert_int_eq(vfs_setattr(p, &group, c), -EPERM);
	OK(cred_set_groups(c, &(uint32_t){77}, 1));
	OK(vfs_setattr(p, &group, c));
	become_root(c);
	c = become(1001);
	ck_assert_int_eq(vfs_setattr(p, &mode, c), -EPERM);
	ck_assert_int_eq(vfs_setattr(p, &then, c), -EPERM);
	ck_assert_int_eq(vfs_setattr(p, &now, c), -EACCES);
	ck_assert_int_eq(vfs_truncate(p, 0, c), -EACCES);
	become_root(c);
	path_put(p);
}
END_TEST

/* ---- making, removing, renaming ---- */

START_TEST(making_a_name_that_cannot_be)
{
	ck_assert_int_eq(vfs_mkdir(&fs_env, "/a", 0755), -EEXIST);
	ck_assert_int_eq(vfs_mkdir(&fs_env, "/", 0755), -EEXIST);
	ck_assert_int_eq(vfs_mkdir(&fs_env, "/a/.", 0755), -EEXIST);
	ck_assert_int_eq(vfs_mkdir(&fs_env, "/a/..", 0755), -EEXIST);
	ck_assert_int_eq(vfs_mkdir(&fs_env, "/x/y", 0755), -ENOENT);
	ck_assert_int_eq(vfs_mkdir(&fs_env, "/a/b/f/x", 0755), -ENOTDIR);
	OK(vfs_mkdir(&fs_env, "/slash/", 0755));
	ck_assert_int_eq(vfs_symlink(&fs_env, "x", "/s/"), -ENOENT);
	ck_assert_int_eq(fs_link("/a/b/f", "/l/"), -ENOENT);
	ck_assert_int_eq(fs_link("/a", "/l"), -EPERM);
	ck_assert_int_eq(fs_link("/a/b/f", "/a/b"), -EEXIST);
	struct cred *c = become(1000);
	ck_assert_int_eq(vfs_mkdir(&fs_env, "/a/x", 0755), -EACCES);
	become_root(c);
}
END_TEST

START_TEST(removing_what_cannot_go)
{
	ck_assert_int_eq(vfs_unlink(&fs_env, "/a", false), -EISDIR);
	ck_assert_int_eq(vfs_unlink(&fs_env, "/a/b/f", true), -ENOTDIR);
	ck_assert_int_eq(vfs_unlink(&fs_env, "/a/b/f/", false), -ENOTDIR);
	ck_assert_int_eq(vfs_unlink(&fs_env, "/a/", false), -EISDIR);
	ck_assert_int_eq(vfs_unlink(&fs_env, "/a", true), -ENOTEMPTY);
	ck_assert_int_eq(vfs_unlink(&fs_env, "/a/.", true), -EINVAL);
	ck_assert_int_eq(vfs_unlink(&fs_env, "/a/..", true), -ENOTEMPTY);
	ck_assert_int_eq(vfs_unlink(&fs_env, "/", true), -EBUSY);
	ck_assert_int_eq(vfs_unlink(&fs_env, "/", false), -EISDIR);
	ck_assert_int_eq(vfs_unlink(&fs_env, "/x", false), -ENOENT);
}
END_TEST

START_TEST(renames_follow_the_rules)
{
	OK(vfs_mkdir(&fs_env, "/d", 0755));
	fs_write("/f", "1");
	fs_write("/g", "2");
	ck_assert_int_eq(fs_rename("/a", "/a/b/c", 0), -EINVAL);
	ck_assert_int_eq(fs_rename("/a/b", "/a", 0), -ENOTEMPTY);
	ck_assert_int_eq(fs_rename("/f", "/d", 0), -EISDIR);
	ck_assert_int_eq(fs_rename("/d", "/f", 0), -ENOTDIR);
	ck_assert_int_eq(fs_rename("/d", "/a", 0), -ENOTEMPTY);
	ck_assert_int_eq(fs_rename("/x", "/y", 0), -ENOENT);
	ck_assert_int_eq(fs_rename("/f/", "/y", 0), -ENOTDIR);
	ck_assert_int_eq(fs_rename("/f", "/y/", 0), -ENOTDIR);
	ck_assert_int_eq(fs_rename("/a/.", "/y", 0), -EBUSY);
	ck_assert_int_eq(fs_rename("/f", "/a/..", 0), -EBUSY);
	ck_assert_int_eq(fs_rename("/f", "/g", RENAME_NOREPLACE), -EEXIST);
	ck_assert_int_eq(fs_rename("/f", "/x", RENAME_EXCHANGE), -ENOENT);
	ck_assert_int_eq(fs_rename("/f", "/g", RENAME_EXCHANGE | RENAME_NOREPLACE), -EINVAL);
	ck_assert_int_eq(fs_rename("/a", "/a/b", RENAME_EXCHANGE), -EINVAL);
	OK(fs_rename("/f", "/f", 0));
	OK(fs_link("/f", "/f2"));
	OK(fs_rename("/f", "/f2", 0));
	ck_assert_int_eq(walk("/f", 0), 0); /* two names of one file: nothing happens */

	struct path open;
	OK(path_walk(&fs_env, "/d", 0, &open));
	OK(fs_rename("/d/", "/a/b/moved/", 0));
	ck_assert_int_eq(walk("/d", 0), -ENOENT);
	char buf[256], *start;
	ck_assert_int_gt(path_name(open, fs_env.root, buf, sizeof(buf), true, &start), 0);
	ck_assert_str_eq(start, "/a/b/moved");
	struct walk_env env = fs_env;
	struct path p;
	env.start = open;
	OK(path_walk(&env, "../f", 0, &p));
	path_put(p);
	path_put(open);

	OK(fs_rename("/g", "/a/b/f", 0));
	fs_expect("/a/b/f", "2");
	OK(fs_rename("/f", "/a", RENAME_EXCHANGE));
	fs_expect("/a", "1");
	fs_expect("/f/b/f", "2");
	OK(vfs_mkdir(&fs_env, "/e1", 0755));
	OK(vfs_mkdir(&fs_env, "/e2", 0755));
	OK(fs_rename("/e1", "/e2", 0));
	ck_assert_int_eq(walk("/e1", 0), -ENOENT);
}
END_TEST

START_TEST(long_names_survive_renames)
{
	char a[128] = "/", b[128] = "/";
	memset(a + 1, 'a', 100);
	memset(b + 1, 'b', 60);
	fs_write(a, "a");
	fs_write("/short", "s");
	OK(fs_rename(a, b, 0));
	fs_expect(b, "a");
	OK(fs_rename(b, "/short", RENAME_EXCHANGE));
	fs_expect("/short", "a");
	fs_expect(b, "s");
	OK(fs_rename("/short", b, 0));
	fs_expect(b, "a");
	ck_assert_int_eq(walk("/short", 0), -ENOENT);
}
END_TEST

/* ---- the cache ---- */

START_TEST(the_cache_can_be_dropped_at_any_time)
{
	char name[64];
	struct path held;
	OK(path_walk(&fs_env, "/a/b", 0, &held));
	for (int i = 0; i < 2000; i++) {
		snprintf(name, sizeof(name), "/a/b/none%d", i);
		ck_assert_int_eq(walk(name, 0), -ENOENT);
	}
	dcache_shrink(10);
	dcache_shrink(0);
	expect_name("/a/b/f", 0, "/a/b/f");
	struct walk_env env = fs_env;
	struct path p;
	env.start = held;
	OK(path_walk(&env, "f", 0, &p));
	dcache_shrink(0);
	path_put(p);
	path_put(held);
	dcache_shrink(0);
	expect_name("/a/b/f", 0, "/a/b/f");
}
END_TEST

static void *hammer(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;
	for (int i = 0; i < 3000; i++) {
		char name[32], other[32];
		struct path p;
		snprintf(name, sizeof(name), "/a/b/n%d", rand_r(&seed) % 8);
		snprintf(other, sizeof(other), "/a/m%d", rand_r(&seed) % 8);
		switch (rand_r(&seed) % 7) {
		case 0:
			(void)!vfs_mkdir(&fs_env, name, 0755);
			break;
		case 1:
			(void)!vfs_unlink(&fs_env, name, true);
			break;
		case 2:
			(void)!vfs_rename(&fs_env, name, &fs_env, other, 0);
			break;
		case 3:
			(void)!vfs_rename(&fs_env, other, &fs_env, name, RENAME_EXCHANGE);
			break;
		case 4:
			dcache_shrink(0);
			break;
		default:
			if (!path_walk(&fs_env, name, 0, &p))
				path_put(p);
		}
	}
	return NULL;
}

START_TEST(threads_make_remove_and_walk_at_once)
{
	pthread_t t[4];
	for (uintptr_t i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&t[i], NULL, hammer, (void *)(i + 1)), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	expect_name("/a/b/f", 0, "/a/b/f");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("namei");
	TCase *tc = tcase_create("all");
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, components_dots_and_slashes);
	tcase_add_test(tc, names_have_a_longest_length);
	tcase_add_test(tc, symlinks_are_followed_where_linux_does);
	tcase_add_test(tc, forty_symlinks_are_the_limit);
	tcase_add_test(tc, walks_can_be_confined);
	tcase_add_test(tc, a_removed_directory_is_empty_and_closed);
	tcase_add_test(tc, mounts_are_crossed_both_ways);
	tcase_add_test(tc, a_namespace_lists_and_drops_its_mounts);
	tcase_add_test(tc, a_read_only_mount_refuses_every_change);
	tcase_add_test(tc, open_obeys_its_flags);
	tcase_add_test(tc, unnamed_files_need_support_and_write_access);
	tcase_add_test(tc, special_files_go_through_their_hooks);
	tcase_add_test(tc, mode_bits_are_judged_by_the_first_class_that_fits);
	tcase_add_test(tc, every_directory_on_the_way_needs_search_permission);
	tcase_add_test(tc, sticky_directories_protect_other_peoples_files);
	tcase_add_test(tc, set_group_id_directories_pass_their_group_on);
	tcase_add_test(tc, changes_take_set_id_bits_away);
	tcase_add_test(tc, owners_change_attributes_and_others_do_not);
	tcase_add_test(tc, making_a_name_that_cannot_be);
	tcase_add_test(tc, removing_what_cannot_go);
	tcase_add_test(tc, renames_follow_the_rules);
	tcase_add_test(tc, long_names_survive_renames);
	tcase_add_test(tc, the_cache_can_be_dropped_at_any_time);
	tcase_add_test(tc, threads_make_remove_and_walk_at_once);
	suite_add_tcase(s, tc);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
