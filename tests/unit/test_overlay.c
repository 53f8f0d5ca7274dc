#include "tests/unit/fs_helpers.h"

#include <linux/fs.h>
#include <pthread.h>
#include <sys/mman.h>

#include "sentry/fs/overlay/overlay.h"

static struct super_block *lower_sb;
static uint64_t lower_ino;

/* The lower layer: /f /g→hard link h, /d/{x,y,sub/deep}, /l → f, /fifo, /empty */
static void populate(void)
{
	OK(tmpfs_mount("mode=755", &lower_sb));
	fs_enter(super_get(lower_sb));
	fs_write("f", "lower f");
	fs_write("g", "linked");
	OK(fs_link("g", "h"));
	OK(vfs_mkdir(&fs_env, "d", 0755));
	OK(vfs_mkdir(&fs_env, "d/sub", 0750));
	OK(vfs_mkdir(&fs_env, "empty", 0755));
	fs_write("d/x", "lower x");
	fs_write("d/y", "lower y");
	fs_write("d/sub/deep", "lower deep");
	OK(vfs_symlink(&fs_env, "f", "l"));
	OK(vfs_mknod(&fs_env, "fifo", S_IFIFO | 0600, 0, NULL));
	struct path p;
	OK(path_walk(&fs_env, "f", 0, &p));
	OK(vfs_setxattr(p, "user.k", "v", 1, 0, fs_cred));
	path_put(p);
	struct kstat st;
	OK(fs_stat("f", &st));
	lower_ino = st.ino;
	fs_leave();
}

static void mount_overlay(const char *options)
{
	struct super_block *sb;
	OK(overlay_mount_memory(lower_sb, options, &sb));
	fs_enter(sb);
}

static void setup(void)
{
	host_set_proc_fd(open("/proc", O_PATH | O_DIRECTORY));
	OK(tmpfs_init());
	populate();
	mount_overlay(NULL);
}

/* Whatever a test did, the lower layer is as it was. */
static void teardown(void)
{
	fs_leave();
	lower_sb->layer = false;
	fs_enter(lower_sb);
	fs_expect_names("/", "d empty f fifo g h l");
	fs_expect_names("/d", "sub x y");
	fs_expect_names("/empty", "");
	fs_expect("f", "lower f");
	fs_expect("g", "linked");
	fs_expect("d/sub/deep", "lower deep");
	struct kstat st;
	OK(fs_stat("d", &st));
	ck_assert_uint_eq(st.mode & 07777, 0755);
	fs_leave();
	close(host_proc_fd());
	host_set_proc_fd(-1);
}

START_TEST(the_lower_layer_shows_through)
{
	struct kstat st, root;
	fs_expect("f", "lower f");
	fs_expect("l", "lower f");
	fs_expect("d/sub/deep", "lower deep");
	fs_expect_names("/", "d empty f fifo g h l");
	OK(fs_stat("f", &st));
	OK(fs_stat("/", &root));
	ck_assert_uint_eq(st.dev, root.dev);
	ck_assert_uint_eq(st.ino, lower_ino);
	ck_assert_int_eq(fs_stat("none", &st), -ENOENT);
	struct kstatfs sfs;
	OK(vfs_statfs(fs_env.root, &sfs));
	ck_assert_uint_eq(sfs.type, 0x794c7630);
}
END_TEST

START_TEST(a_write_copies_up_and_keeps_the_number)
{
	struct kstat before, after;
	char buf[2];
	OK(fs_stat("d/sub/deep", &before));
	struct file *f = fs_must_open("d/sub/deep", O_WRONLY);
	ck_assert_int_eq(file_pwrite(f, "UPPER", 5, 0), 5);
	file_put(f);
	fs_expect("d/sub/deep", "UPPER deep");
	OK(fs_stat("d/sub/deep", &after));
	ck_assert_uint_eq(before.ino, after.ino);
	ck_assert_uint_eq(before.dev, after.dev);
	OK(fs_stat("d/sub", &after));
	ck_assert_uint_eq(after.mode & 07777, 0750);
	/* The same after everything was forgotten. */
	dcache_shrink(0);
	OK(fs_stat("d/sub/deep", &after));
	ck_assert_uint_eq(before.ino, after.ino);
	fs_expect("d/sub/deep", "UPPER deep");
	(void)buf;
	fs_expect_names("d/sub", "deep");
}
END_TEST

START_TEST(listings_agree_with_stat)
{
	struct fs_listing l;
	struct kstat st;
	OK(fs_chmod("f", 0600));
	OK(fs_chmod("d", 0700));
	fs_write("new", "");
	OK(fs_rename("f", "renamed", 0));
	fs_list("/", 2, &l);
	char *save = NULL;
	size_t i = 0;
	for (char *s = strtok_r(l.text, " ", &save); s; s = strtok_r(NULL, " ", &save), i++) {
		OK(fs_stat(s, &st));
		ck_assert_msg(st.ino == l.ino[i], "%s: %lx in stat, %lx in the listing", s,
			      (unsigned long)st.ino, (unsigned long)l.ino[i]);
	}
	ck_assert_uint_eq(i, 8);
}
END_TEST

START_TEST(attributes_copy_up_with_everything)
{
	struct kstat st;
	char buf[8];
	struct path p;
	OK(fs_chmod("f", 04711));
	struct iattr a = {.valid = ATTR_UID | ATTR_GID, .uid = 7, .gid = 8};
	OK(fs_setattr("f", &a));
	a = (struct iattr){.valid = ATTR_MTIME, .mtime = {1000, 5}};
	OK(fs_setattr("f", &a));
	OK(fs_stat("f", &st));
	ck_assert_uint_eq(st.mode & 0777, 0711);
	ck_assert_uint_eq(st.uid, 7);
	ck_assert_uint_eq(st.gid, 8);
	ck_assert_int_eq(st.mtime.sec, 1000);
	ck_assert_uint_eq(st.ino, lower_ino);
	fs_expect("f", "lower f");
	OK(path_walk(&fs_env, "f", 0, &p));
	ck_assert_int_eq(vfs_getxattr(p, "user.k", buf, sizeof(buf), fs_cred), 1);
	OK(vfs_setxattr(p, "user.k2", "w", 1, 0, fs_cred));
	ck_assert_int_eq(vfs_listxattr(p, NULL, 0, fs_cred), 15);
	ck_assert_int_eq(vfs_setxattr(p, "trusted.overlay.opaque", "y", 1, 0, fs_cred),
			 -EOPNOTSUPP);
	path_put(p);
	a = (struct iattr){.valid = ATTR_UID, .uid = 9};
	OK(fs_setattr("l", &a));
	OK(fs_setattr("fifo", &a));
	OK(fs_stat("l", &st));
	ck_assert_uint_eq(st.uid, 9);
	ck_assert_uint_eq(st.mode & S_IFMT, S_IFLNK);
	fs_expect("l", "lower f");
	OK(fs_stat("fifo", &st));
	ck_assert_uint_eq(st.mode, S_IFIFO | 0600);
}
END_TEST

START_TEST(a_reader_follows_the_copy)
{
	char buf[16] = "";
	struct file *r = fs_must_open("f", O_RDONLY);
	ck_assert_int_eq(file_pread(r, buf, 5, 0), 5);
	struct file *w = fs_must_open("f", O_WRONLY | O_APPEND);
	ck_assert_int_eq(file_pwrite(w, "!", 1, 0), 1);
	ck_assert_int_eq(file_seek(r, 0, SEEK_END), 8);
	ck_assert_int_eq(file_pread(r, buf, sizeof(buf), 0), 8);
	ck_assert_mem_eq(buf, "lower f!", 8);
	file_put(r);
	file_put(w);
}
END_TEST

START_TEST(truncation_copies_only_what_stays)
{
	struct kstat st;
	OK(fs_stat("f", &st));
	struct file *f = fs_must_open("f", O_RDWR | O_TRUNC);
	OK(vfs_getattr(f->path, &st));
	ck_assert_uint_eq(st.size, 0);
	ck_assert_uint_eq(st.ino, lower_ino);
	file_put(f);
	fs_expect("f", "");
	struct path p;
	OK(path_walk(&fs_env, "d/x", 0, &p));
	OK(vfs_truncate(p, 5, fs_cred));
	path_put(p);
	fs_expect("d/x", "lower");
	OK(path_walk(&fs_env, "d/y", 0, &p));
	OK(vfs_truncate(p, 100, fs_cred));
	OK(vfs_getattr(p, &st));
	ck_assert_uint_eq(st.size, 100);
	path_put(p);
	fs_expect("d/y", "lower y");
}
END_TEST

START_TEST(removed_names_stay_removed)
{
	struct kstat st;
	OK(vfs_unlink(&fs_env, "d/x", false));
	ck_assert_int_eq(fs_stat("d/x", &st), -ENOENT);
	fs_expect_names("d", "sub y");
	dcache_shrink(0);
	ck_assert_int_eq(fs_stat("d/x", &st), -ENOENT);
	fs_expect_names("d", "sub y");
	/* Made again, it is a new file. */
	fs_write("d/x", "upper x");
	fs_expect("d/x", "upper x");
	OK(vfs_unlink(&fs_env, "d/x", false));
	dcache_shrink(0);
	ck_assert_int_eq(fs_stat("d/x", &st), -ENOENT);
	/* A copied-up one goes as well. */
	OK(fs_chmod("d/y", 0600));
	OK(vfs_unlink(&fs_env, "d/y", false));
	dcache_shrink(0);
	fs_expect_names("d", "sub");
}
END_TEST

START_TEST(a_removed_directory_comes_back_empty)
{
	struct kstat st;
	ck_assert_int_eq(vfs_unlink(&fs_env, "d/sub", true), -ENOTEMPTY);
	OK(vfs_unlink(&fs_env, "d/sub/deep", false));
	OK(vfs_unlink(&fs_env, "d/sub", true));
	dcache_shrink(0);
	ck_assert_int_eq(fs_stat("d/sub", &st), -ENOENT);
	OK(vfs_mkdir(&fs_env, "d/sub", 0700));
	fs_expect_names("d/sub", "");
	dcache_shrink(0);
	fs_expect_names("d/sub", "");
	ck_assert_int_eq(fs_stat("d/sub/deep", &st), -ENOENT);
	fs_write("d/sub/other", "o");
	fs_expect_names("d/sub", "other");
	/* A lower directory without an upper part. */
	OK(vfs_unlink(&fs_env, "empty", true));
	fs_write("empty", "a file now");
	dcache_shrink(0);
	fs_expect("empty", "a file now");
}
END_TEST

START_TEST(files_are_renamed_with_a_whiteout)
{
	struct kstat st;
	OK(fs_rename("f", "d/moved", 0));
	ck_assert_int_eq(fs_stat("f", &st), -ENOENT);
	fs_expect("d/moved", "lower f");
	OK(fs_stat("d/moved", &st));
	ck_assert_uint_eq(st.ino, lower_ino);
	dcache_shrink(0);
	ck_assert_int_eq(fs_stat("f", &st), -ENOENT);
	OK(fs_stat("d/moved", &st));
	ck_assert_uint_eq(st.ino, lower_ino);
	fs_expect_names("d", "moved sub x y");
	/* Over a lower file, then away again. */
	OK(fs_rename("d/moved", "d/x", 0));
	fs_expect("d/x", "lower f");
	OK(fs_rename("d/x", "f", 0));
	dcache_shrink(0);
	fs_expect("f", "lower f");
	ck_assert_int_eq(fs_stat("d/x", &st), -ENOENT);
	OK(fs_rename("f", "g", RENAME_EXCHANGE));
	fs_expect("f", "linked");
	fs_expect("g", "lower f");
	ck_assert_int_eq(fs_rename("f", "none", RENAME_WHITEOUT), -EINVAL);
	ck_assert_int_eq(fs_rename("f", "g", RENAME_NOREPLACE), -EEXIST);
}
END_TEST

START_TEST(lower_directories_are_not_renamed)
{
	struct kstat st;
	ck_assert_int_eq(fs_rename("d", "e", 0), -EXDEV);
	OK(fs_chmod("d", 0711));
	ck_assert_int_eq(fs_rename("d", "e", 0), -EXDEV);
	OK(fs_chmod("d", 0755));
	/* A new one is, and hides what is below its new name. */
	OK(vfs_mkdir(&fs_env, "new", 0755));
	fs_write("new/in", "in");
	OK(fs_rename("new", "newer", 0));
	fs_expect("newer/in", "in");
	ck_assert_int_eq(fs_rename("newer", "d", 0), -ENOTEMPTY);
	OK(fs_rename("newer", "empty", 0));
	dcache_shrink(0);
	fs_expect_names("empty", "in");
	OK(vfs_unlink(&fs_env, "d/x", false));
	OK(vfs_unlink(&fs_env, "d/y", false));
	OK(vfs_unlink(&fs_env, "d/sub/deep", false));
	OK(vfs_unlink(&fs_env, "d/sub", true));
	OK(fs_rename("empty", "d", 0));
	dcache_shrink(0);
	fs_expect_names("d", "in");
	ck_assert_int_eq(fs_stat("empty", &st), -ENOENT);
	ck_assert_int_eq(fs_stat("d/x", &st), -ENOENT);
	OK(fs_rename("d", "elsewhere", 0));
	dcache_shrink(0);
	ck_assert_int_eq(fs_stat("d", &st), -ENOENT);
	fs_expect_names("/", "elsewhere f fifo g h l");
}
END_TEST

START_TEST(hard_links_stay_together_across_copy_up)
{
	struct kstat g, h;
	struct file *f;
	OK(fs_stat("g", &g));
	OK(fs_stat("h", &h));
	ck_assert_uint_eq(g.ino, h.ino);
	ck_assert_uint_eq(g.nlink, 2);
	f = fs_must_open("g", O_WRONLY);
	ck_assert_int_eq(file_pwrite(f, "LINK", 4, 0), 4);
	file_put(f);
	fs_expect("h", "LINKed");
	dcache_shrink(0);
	fs_expect("h", "LINKed");
	OK(fs_stat("h", &h));
	ck_assert_uint_eq(g.ino, h.ino);
	ck_assert_uint_eq(h.nlink, 2);
	OK(fs_link("h", "third"));
	OK(fs_stat("g", &g));
	ck_assert_uint_eq(g.nlink, 3);
	OK(vfs_unlink(&fs_env, "g", false));
	OK(fs_stat("h", &h));
	ck_assert_uint_eq(h.nlink, 2);
	OK(fs_rename("h", "d/h", 0));
	dcache_shrink(0);
	fs_expect("d/h", "LINKed");
	OK(fs_stat("d/h", &h));
	ck_assert_uint_eq(h.nlink, 2);
	ck_assert_uint_eq(g.ino, h.ino);
	OK(vfs_unlink(&fs_env, "third", false));
	f = fs_must_open("d/h", O_RDONLY);
	OK(vfs_unlink(&fs_env, "d/h", false));
	OK(vfs_getattr(f->path, &h));
	ck_assert_uint_eq(h.nlink, 0);
	file_put(f);
}
END_TEST

START_TEST(a_link_outlives_the_name_it_was_known_by)
{
	struct kstat st;
	struct file *f = fs_must_open("g", O_RDONLY), *h = fs_must_open("h", O_RDONLY);
	OK(vfs_unlink(&fs_env, "g", false));
	struct iattr a = {.valid = ATTR_MODE, .mode = 0611};
	OK(vfs_setattr(f->path, &a, fs_cred));
	OK(fs_stat("h", &st));
	ck_assert_uint_eq(st.mode & 0777, 0611);
	ck_assert_uint_eq(st.nlink, 1);
	fs_write("h", "new");
	dcache_shrink(0);
	fs_expect("h", "new");
	OK(vfs_unlink(&fs_env, "h", false));
	OK(vfs_getattr(h->path, &st));
	ck_assert_uint_eq(st.nlink, 0);
	file_put(f);
	file_put(h);
}
END_TEST

START_TEST(a_lower_name_keeps_the_copy_that_has_no_name)
{
	struct kstat st;
	fs_write("g", "changed");
	OK(vfs_unlink(&fs_env, "g", false));
	dcache_shrink(0);
	fs_expect("h", "changed");
	OK(fs_stat("h", &st));
	ck_assert_uint_eq(st.nlink, 1);
	OK(fs_link("h", "i"));
	OK(fs_rename("h", "j", 0));
	dcache_shrink(0);
	fs_expect("i", "changed");
	OK(fs_stat("j", &st));
	ck_assert_uint_eq(st.nlink, 2);
	ck_assert_int_eq(fs_stat("h", &st), -ENOENT);
}
END_TEST

START_TEST(an_unlinked_lower_file_can_still_change)
{
	struct kstat st;
	char buf[8];
	struct file *f = fs_must_open("f", O_RDONLY);
	OK(vfs_unlink(&fs_env, "f", false));
	fs_write("f", "another");
	struct iattr a = {.valid = ATTR_MODE, .mode = 0604};
	OK(vfs_setattr(f->path, &a, fs_cred));
	OK(vfs_getattr(f->path, &st));
	ck_assert_uint_eq(st.mode & 0777, 0604);
	ck_assert_uint_eq(st.nlink, 0);
	ck_assert_int_eq(file_pread(f, buf, 7, 0), 7);
	ck_assert_mem_eq(buf, "lower f", 7);
	file_put(f);
	fs_expect("f", "another");
}
END_TEST

START_TEST(new_files_of_every_kind_live_above)
{
	struct kstat st;
	OK(vfs_symlink(&fs_env, "d/x", "link"));
	OK(vfs_mknod(&fs_env, "d/pipe", S_IFIFO | 0600, 0, NULL));
	ck_assert_int_eq(vfs_mknod(&fs_env, "wh", S_IFCHR | 0600, 0, NULL), -EPERM);
	OK(vfs_mknod(&fs_env, "null", S_IFCHR | 0666, dev_encode(1, 3), NULL));
	fs_expect("link", "lower x");
	OK(fs_stat("null", &st));
	ck_assert_uint_eq(st.rdev, dev_encode(1, 3));
	struct file *f = fs_must_open("d", O_TMPFILE | O_RDWR);
	ck_assert_int_eq(file_pwrite(f, "tmp", 3, 0), 3);
	struct walk_env at = fs_env;
	at.start = f->path;
	OK(vfs_link(&at, "", &fs_env, "d/named", WALK_EMPTY));
	file_put(f);
	dcache_shrink(0);
	fs_expect("d/named", "tmp");
	fs_expect_names("d", "named pipe sub x y");
	fs_expect_names("/", "d empty f fifo g h l link null");
}
END_TEST

START_TEST(the_upper_layer_is_bounded)
{
	fs_leave();
	mount_overlay("size=8k");
	char buf[16384] = "";
	struct file *f = fs_must_open("big", O_WRONLY | O_CREAT);
	ck_assert_int_eq(file_pwrite(f, buf, sizeof(buf), 0), 8192);
	file_put(f);
	struct file *g;
	ck_assert_int_eq(fs_open("f", O_WRONLY, &g), -ENOSPC);
	fs_expect("f", "lower f");
	OK(vfs_unlink(&fs_env, "big", false));
	OK(fs_open("f", O_WRONLY, &g));
	file_put(g);
	fs_leave();
	/* root, upper, work, d and one name in it */
	mount_overlay("nr_inodes=5");
	OK(vfs_unlink(&fs_env, "d/x", false));
	ck_assert_int_eq(vfs_unlink(&fs_env, "d/y", false), -ENOSPC);
	fs_expect("d/y", "lower y");
	ck_assert_int_eq(fs_rename("d/y", "d/z", 0), -ENOSPC);
	fs_expect("d/y", "lower y");
}
END_TEST

START_TEST(mappings_come_from_the_real_file)
{
	int fd;
	struct file *f = fs_must_open("f", O_RDONLY);
	OK(f->ops->map_fd(f, false, &fd));
	char *p = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
	ck_assert_str_eq(p, "lower f");
	struct file *w = fs_must_open("f", O_RDWR);
	int wfd;
	OK(w->ops->map_fd(w, true, &wfd));
	char *q = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, wfd, 0);
	q[0] = 'L';
	fs_expect("f", "Lower f");
	ck_assert_str_eq(p, "lower f");
	munmap(p, 4096);
	munmap(q, 4096);
	file_put(f);
	file_put(w);
}
END_TEST

START_TEST(several_lower_layers_merge)
{
	/* Below the usual one: another with /f, /d/z, /d/sub/low, and a whiteout's worth of names.
	 */
	fs_leave();
	lower_sb->layer = false;
	struct super_block *bottom, *up, *sb;
	OK(tmpfs_mount("", &bottom));
	fs_enter(super_get(bottom));
	fs_write("f", "bottom f");
	fs_write("only", "bottom only");
	OK(vfs_mkdir(&fs_env, "d", 0755));
	OK(vfs_mkdir(&fs_env, "d/sub", 0755));
	fs_write("d/z", "bottom z");
	fs_write("d/sub/low", "low");
	fs_write("l", "not a link");
	fs_leave();
	OK(tmpfs_mount("", &up));
	fs_enter(super_get(up));
	OK(vfs_mkdir(&fs_env, "u", 0755));
	OK(vfs_mkdir(&fs_env, "w", 0755));
	OK(vfs_mknod(&fs_env, "u/only", S_IFCHR, 0, NULL));
	struct path lower[2] = {{NULL, lower_sb->root}, {NULL, bottom->root}};
	struct overlay_options o = {.lower = lower, .nlower = 2, .shown = ",test"};
	OK(path_walk(&fs_env, "u", 0, &o.upper));
	OK(path_walk(&fs_env, "w", 0, &o.work));
	OK(overlay_mount(&o, &sb));
	path_put(o.upper);
	path_put(o.work);
	fs_leave();
	fs_enter(sb);
	struct kstat st;
	fs_expect("f", "lower f");
	fs_expect("l", "lower f");
	ck_assert_int_eq(fs_stat("only", &st), -ENOENT);
	fs_expect_names("/", "d empty f fifo g h l");
	fs_expect_names("d", "sub x y z");
	fs_expect_names("d/sub", "deep low");
	OK(fs_chmod("d/sub/low", 0600));
	OK(vfs_unlink(&fs_env, "d/z", false));
	OK(vfs_unlink(&fs_env, "f", false));
	dcache_shrink(0);
	fs_expect_names("d", "sub x y");
	ck_assert_int_eq(fs_stat("f", &st), -ENOENT);
	fs_leave();
	/* Without an upper layer nothing can change. */
	o.upper = o.work = (struct path){NULL, NULL};
	OK(overlay_mount(&o, &sb));
	fs_enter(sb);
	fs_expect("only", "bottom only");
	ck_assert_int_eq(fs_chmod("f", 0600), -EROFS);
	struct file *f;
	ck_assert_int_eq(fs_open("f", O_WRONLY, &f), -EROFS);
	ck_assert_int_eq(vfs_unlink(&fs_env, "f", false), -EROFS);
	super_put(bottom);
	super_put(up);
}
END_TEST

START_TEST(overlays_are_stacked_twice_at_most)
{
	struct super_block *once, *twice;

	OK(overlay_mount_memory(fs_mnt->sb, NULL, &once));
	ck_assert_int_eq(overlay_mount_memory(once, NULL, &twice), -EINVAL);
	super_put(once);
}
END_TEST

START_TEST(copy_up_keeps_holes_and_times)
{
	fs_leave();
	lower_sb->layer = false;
	fs_enter(super_get(lower_sb));
	struct kstat st, dir;
	struct file *f = fs_must_open("f", O_RDWR);
	OK(inode_truncate(f->inode, 1 << 20, fs_cred));
	ck_assert_int_eq(file_pwrite(f, "end", 3, 1 << 19), 3);
	file_put(f);
	struct iattr a = {.valid = ATTR_MTIME | ATTR_ATIME, .mtime = {77, 1}, .atime = {66, 2}};
	OK(fs_setattr("f", &a));
	OK(fs_setattr("d", &a));
	OK(fs_setattr("d/x", &a));
	fs_leave();
	mount_overlay(NULL);
	OK(fs_chmod("f", 0600));
	OK(fs_stat("f", &st));
	ck_assert_uint_eq(st.size, 1 << 20);
	ck_assert_uint_eq(st.blocks, 16);
	ck_assert_int_eq(st.mtime.sec, 77);
	ck_assert_int_eq(st.atime.sec, 66);
	OK(fs_chmod("d/x", 0600));
	OK(fs_stat("d", &dir));
	ck_assert_int_eq(dir.mtime.sec, 77);
	fs_leave();
	lower_sb->layer = false;
	fs_enter(super_get(lower_sb));
	fs_write("f", "lower f");
	fs_leave();
	mount_overlay(NULL);
}
END_TEST

/* ---- many at a time: whatever happens, no crash, no deadlock, no error that makes no sense ----
 */

#define STRESS_THREADS 4
#define STRESS_ROUNDS 4000

static bool makes_sense(int err)
{
	switch (-err) {
	case 0:
	case ENOENT:
	case EEXIST:
	case EISDIR:
	case ENOTDIR:
	case ENOTEMPTY:
	case EXDEV:
	case EINVAL:
	case ESTALE:
	case EBUSY:
	case EPERM: /* link(2) of a directory */
		return true;
	default:
		return false;
	}
}

static int stress_open(const char *name, unsigned r)
{
	struct file *f;
	char buf[16];
	int err = fs_open(name, r & 1 ? O_RDWR | O_CREAT : O_RDONLY, &f);
	if (err)
		return err;
	ssize_t n = r & 1 ? file_pwrite(f, "stress", 6, r % 5000) : file_pread(f, buf, 16, 0);
	if (r & 2) {
		struct iattr a = {.valid = ATTR_MODE, .mode = 0600 | (r & 077)};
		err = vfs_setattr(f->path, &a, fs_cred);
	}
	file_put(f);
	return n < 0 && n != -EISDIR ? (int)n : err;
}

static int stress_list(const char *name)
{
	struct fs_listing l = {.ctx = {fs_list_emit}, .left = 50};
	struct file *f;
	int err = fs_open(name, O_RDONLY | O_DIRECTORY, &f);
	if (err)
		return err;
	err = file_readdir(f, &l.ctx);
	file_put(f);
	return err;
}

static int stress_step(unsigned r)
{
	static const char *const names[] = {"f", "g", "h",	 "d/x", "d/y",	 "d/sub/deep",
					    "n", "m", "empty/a", "k/a", "empty", "d/sub"};
	static const char *const dirs[] = {"/", "d", "d/sub", "empty", "k"};
	const char *a = names[r / 16 % ARRAY_SIZE(names)], *b = names[r / 256 % ARRAY_SIZE(names)];
	const char *dir = dirs[r / 4096 % ARRAY_SIZE(dirs)];
	struct kstat st;
	switch (r % 16) {
	case 0:
		return vfs_unlink(&fs_env, a, false);
	case 1:
		return fs_rename(a, b, 0);
	case 2:
		return fs_rename(a, b, RENAME_EXCHANGE);
	case 3:
		return fs_link(a, b);
	case 4:
		return fs_chmod(a, 0600 | (r / 4096 & 077));
	case 5:
		return vfs_mkdir(&fs_env, r & 16 ? "k" : dir, 0755);
	case 6:
		return vfs_unlink(&fs_env, dir + (dir[0] == '/'), true);
	case 7:
		dcache_shrink(r / 16 % 8);
		return 0;
	case 8:
		return stress_list(dir);
	case 9:
		return fs_stat(a, &st);
	case 10:
		return vfs_symlink(&fs_env, a, b);
	default:
		return stress_open(a, r / 16);
	}
}

static void *stress(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;
	for (int i = 0; i < STRESS_ROUNDS; i++) {
		unsigned r = (unsigned)rand_r(&seed) * 31 + (unsigned)rand_r(&seed);
		int err = stress_step(r);
		if (!makes_sense(err) && err != -ELOOP)
			return (void *)(intptr_t)err;
	}
	return NULL;
}

START_TEST(concurrent_changes_make_sense)
{
	pthread_t threads[STRESS_THREADS];
	for (uintptr_t i = 0; i < STRESS_THREADS; i++)
		pthread_create(&threads[i], NULL, stress, (void *)(i + 1));
	for (int i = 0; i < STRESS_THREADS; i++) {
		void *err;
		pthread_join(threads[i], &err);
		ck_assert_int_eq((intptr_t)err, 0);
	}
	/* What is listed exists. */
	struct fs_listing l;
	struct kstat st;
	fs_list("/", 5, &l);
	char *save = NULL;
	for (char *s = strtok_r(l.text, " ", &save); s; s = strtok_r(NULL, " ", &save))
		OK(fs_stat(s, &st));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("overlay");
	TCase *tc = tcase_create("all");
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, the_lower_layer_shows_through);
	tcase_add_test(tc, a_write_copies_up_and_keeps_the_number);
	tcase_add_test(tc, listings_agree_with_stat);
	tcase_add_test(tc, attributes_copy_up_with_everything);
	tcase_add_test(tc, a_reader_follows_the_copy);
	tcase_add_test(tc, truncation_copies_only_what_stays);
	tcase_add_test(tc, removed_names_stay_removed);
	tcase_add_test(tc, a_removed_directory_comes_back_empty);
	tcase_add_test(tc, files_are_renamed_with_a_whiteout);
	tcase_add_test(tc, lower_directories_are_not_renamed);
	tcase_add_test(tc, hard_links_stay_together_across_copy_up);
	tcase_add_test(tc, a_link_outlives_the_name_it_was_known_by);
	tcase_add_test(tc, a_lower_name_keeps_the_copy_that_has_no_name);
	tcase_add_test(tc, an_unlinked_lower_file_can_still_change);
	tcase_add_test(tc, new_files_of_every_kind_live_above);
	tcase_add_test(tc, the_upper_layer_is_bounded);
	tcase_add_test(tc, mappings_come_from_the_real_file);
	tcase_add_test(tc, several_lower_layers_merge);
	tcase_add_test(tc, overlays_are_stacked_twice_at_most);
	tcase_add_test(tc, copy_up_keeps_holes_and_times);
	tcase_add_test(tc, concurrent_changes_make_sense);
	suite_add_tcase(s, tc);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
