/* Directories and the names in them: mkdir, rmdir, unlink, rename, link, symlink, mknod, listing.
 */
#include "tests/compat/compat.h"

#include <dirent.h>
#include <limits.h>
#include <linux/fs.h>
#include <sys/sysmacros.h>

static void enter(void)
{
	EXPECT_OK(chdir(test_dir()));
	umask(022);
}

static void touch(const char *name)
{
	close(EXPECT_OK(open(name, O_CREAT | O_WRONLY, 0644)));
}

static bool exists(const char *name)
{
	struct stat st;
	return !lstat(name, &st);
}

static nlink_t links(const char *name)
{
	struct stat st;
	EXPECT_OK(lstat(name, &st));
	return st.st_nlink;
}

static ino_t inode(const char *name)
{
	struct stat st;
	EXPECT_OK(lstat(name, &st));
	return st.st_ino;
}

static long renameat2_(const char *a, const char *b, unsigned flags)
{
	return syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, flags);
}

TEST(dir_hostile_arguments)
{
	enter();
	char name[4200];
	memset(name, 'n', sizeof(name));
	name[4199] = 0;
	EXPECT_ERRNO(mkdir(name, 0755), ENAMETOOLONG);
	EXPECT_ERRNO(rmdir(name), ENAMETOOLONG);
	EXPECT_ERRNO(symlink(name, "s"), ENAMETOOLONG);
	EXPECT_ERRNO(symlink("s", name), ENAMETOOLONG);
	EXPECT_ERRNO(link(name, "s"), ENAMETOOLONG);
	EXPECT_ERRNO(mknod(name, S_IFREG | 0600, 0), ENAMETOOLONG);
	EXPECT_ERRNO(rename(name, "s"), ENAMETOOLONG);
	EXPECT_ERRNO(rmdir(BAD_ADDR), EFAULT);
	EXPECT_ERRNO(link(BAD_ADDR, "s"), EFAULT);
	EXPECT_ERRNO(symlink("s", BAD_ADDR), EFAULT);
	EXPECT_ERRNO(mknod(BAD_ADDR, S_IFREG | 0600, 0), EFAULT);
	EXPECT_ERRNO(syscall(SYS_readlink, ".", BAD_ADDR, -1), EINVAL);
	EXPECT_ERRNO(mkdirat(-1, "d", 0755), EBADF);
	EXPECT_ERRNO(unlinkat(-1, "d", 0), EBADF);
	EXPECT_ERRNO(unlinkat(AT_FDCWD, "d", 0xffff), EINVAL);
	EXPECT_ERRNO(renameat(-1, "d", AT_FDCWD, "e"), EBADF);
	EXPECT_ERRNO(symlinkat("d", -1, "e"), EBADF);
	EXPECT_ERRNO(linkat(-1, "d", -1, "e", 0), EBADF);
	EXPECT_ERRNO(readlinkat(-1, "d", name, 10), EBADF);
	EXPECT_OK(symlink("target", "s"));
	EXPECT_ERRNO(readlink("s", BAD_ADDR, 10), EFAULT);
	EXPECT_ERRNO(syscall(SYS_readlink, "s", name, 0), EINVAL);
}

TEST(mkdir_makes_and_refuses)
{
	enter();
	struct stat st;
	touch("f");
	EXPECT_OK(symlink("nowhere", "dangling"));
	EXPECT_OK(mkdir("d", 0777));
	EXPECT_OK(stat("d", &st));
	EXPECT_EQ(st.st_mode, S_IFDIR | 0755);
	EXPECT_ERRNO(mkdir("d", 0777), EEXIST);
	EXPECT_ERRNO(mkdir("f", 0777), EEXIST);
	EXPECT_ERRNO(mkdir("dangling", 0777), EEXIST);
	EXPECT_ERRNO(mkdir("dangling/x", 0777), ENOENT);
	EXPECT_ERRNO(mkdir("f/x", 0777), ENOTDIR);
	EXPECT_ERRNO(mkdir("none/x", 0777), ENOENT);
	EXPECT_ERRNO(mkdir(".", 0777), EEXIST);
	EXPECT_ERRNO(mkdir("..", 0777), EEXIST);
	EXPECT_ERRNO(mkdir("/", 0777), EEXIST);
	EXPECT_ERRNO(mkdir("d/.", 0777), EEXIST);
	EXPECT_ERRNO(mkdir("new/.", 0777), ENOENT);
	EXPECT_OK(mkdir("t///", 01777));
	EXPECT_OK(stat("t", &st));
	EXPECT_EQ(st.st_mode, S_IFDIR | 01755);
	int d = EXPECT_OK(open("d", O_RDONLY));
	EXPECT_OK(mkdirat(d, "sub", 0700));
	EXPECT(exists("d/sub"));
}

TEST(directory_link_counts)
{
	enter();
	EXPECT_OK(mkdir("d", 0755));
	nlink_t empty = links("d");
	if (empty == 1)
		test_skip("this file system does not count");
	EXPECT_EQ(empty, 2);
	EXPECT_OK(mkdir("d/a", 0755));
	EXPECT_OK(mkdir("d/b", 0755));
	EXPECT_EQ(links("d"), 4);
	touch("d/f");
	EXPECT_EQ(links("d"), 4);
	EXPECT_OK(mkdir("e", 0755));
	EXPECT_OK(rename("d/a", "e/a"));
	EXPECT_EQ(links("d"), 3);
	EXPECT_EQ(links("e"), 3);
	EXPECT_OK(rmdir("d/b"));
	EXPECT_EQ(links("d"), 2);
}

TEST(rmdir_and_unlink_refuse)
{
	enter();
	touch("f");
	EXPECT_OK(mkdir("d", 0755));
	EXPECT_OK(symlink("d", "s"));
	EXPECT_OK(symlink("none", "gone"));
	EXPECT_ERRNO(rmdir("f"), ENOTDIR);
	EXPECT_ERRNO(rmdir("s"), ENOTDIR);
	EXPECT_ERRNO(rmdir("s/"), ENOTDIR);
	EXPECT_ERRNO(rmdir("none"), ENOENT);
	EXPECT_ERRNO(rmdir("."), EINVAL);
	EXPECT_ERRNO(rmdir("d/.."), ENOTEMPTY);
	EXPECT_ERRNO(rmdir("/"), EBUSY);
	EXPECT_ERRNO(unlink("d"), EISDIR);
	EXPECT_ERRNO(unlink("d/"), EISDIR);
	EXPECT_ERRNO(unlink("."), EISDIR);
	EXPECT_ERRNO(unlink(".."), EISDIR);
	EXPECT_ERRNO(unlink("/"), EISDIR);
	EXPECT_ERRNO(unlink("none"), ENOENT);
	EXPECT_ERRNO(unlink("none/"), ENOENT);
	EXPECT_ERRNO(unlink("f/"), ENOTDIR);
	EXPECT_ERRNO(unlink("f/x"), ENOTDIR);
	EXPECT_ERRNO(unlinkat(AT_FDCWD, "f", AT_REMOVEDIR), ENOTDIR);
	EXPECT_OK(unlink("gone"));
	EXPECT_OK(unlink("s"));
	EXPECT(exists("d"));
	EXPECT_OK(unlinkat(AT_FDCWD, "d", AT_REMOVEDIR));
	EXPECT(!exists("d"));
}

TEST(rename_over_each_kind)
{
	enter();
	touch("f1");
	touch("f2");
	ino_t f1 = inode("f1");
	EXPECT_OK(symlink("f2", "s"));
	EXPECT_OK(rename("f1", "s"));
	EXPECT_EQ(inode("s"), f1);
	EXPECT(exists("f2"));
	EXPECT_OK(mkdir("d1", 0755));
	EXPECT_OK(mkdir("d2", 0755));
	touch("d2/x");
	EXPECT_ERRNO(rename("d1", "d2"), ENOTEMPTY);
	EXPECT_OK(rename("d2", "d1"));
	EXPECT(exists("d1/x") && !exists("d2"));
	EXPECT_ERRNO(rename("d1", "f2"), ENOTDIR);
	EXPECT_ERRNO(rename("f2", "d1"), EISDIR);
	EXPECT_ERRNO(rename("f2", "d1/"), ENOTDIR);
	EXPECT_ERRNO(rename("f2", "new/"), ENOTDIR);
	EXPECT_OK(rename("d1", "d3/"));
	EXPECT_ERRNO(rename("d3", "d3/in"), EINVAL);
	EXPECT_ERRNO(rename("f2", "d3/x/y"), ENOTDIR);
	EXPECT_ERRNO(rename("f2", "none/y"), ENOENT);
	EXPECT_ERRNO(rename(".", "y"), EBUSY);
	EXPECT_ERRNO(rename("f2", "d3/.."), EBUSY);
	/* Two names of one file: nothing happens. */
	EXPECT_OK(link("f2", "f3"));
	EXPECT_OK(rename("f2", "f3"));
	EXPECT(exists("f2") && exists("f3"));
}

TEST(rename_moves_trees_with_their_open_files)
{
	enter();
	char buf[8], link_[64], path[300];
	EXPECT_OK(mkdir("a", 0755));
	EXPECT_OK(mkdir("a/b", 0755));
	EXPECT_OK(mkdir("z", 0755));
	int fd = EXPECT_OK(open("a/b/f", O_CREAT | O_RDWR, 0644));
	EXPECT_OK(rename("a/b", "z/c"));
	EXPECT_EQ(write(fd, "abc", 3), 3);
	int again = EXPECT_OK(open("z/c/f", O_RDONLY));
	EXPECT_EQ(read(again, buf, 8), 3);
	snprintf(link_, sizeof(link_), "/proc/self/fd/%d", fd);
	ssize_t n = EXPECT_OK(readlink(link_, path, sizeof(path) - 1));
	path[n] = 0;
	EXPECT(strlen(path) > 6 && !strcmp(path + strlen(path) - 6, "/z/c/f"));
	EXPECT_OK(chdir("z/c"));
	EXPECT_OK(rename("../../z", "../../y"));
	EXPECT(exists("f") && exists("../../y/c/f"));
	/* ".." is where the directory is now. */
	EXPECT_OK(rename("../../y/c", "../../w"));
	EXPECT(exists("../y") && exists("../w/f"));
}

TEST(rename_replaced_file_lives_while_open)
{
	enter();
	char buf[8];
	int fd = EXPECT_OK(open("old", O_CREAT | O_RDWR, 0644));
	EXPECT_EQ(write(fd, "old", 3), 3);
	touch("new");
	EXPECT_OK(rename("new", "old"));
	EXPECT_EQ(pread(fd, buf, 8, 0), 3);
	struct stat st;
	EXPECT_OK(fstat(fd, &st));
	EXPECT_EQ(st.st_nlink, 0);
	EXPECT_OK(stat("old", &st));
	EXPECT_EQ(st.st_size, 0);
}

TEST(renameat2_flags)
{
	enter();
	touch("a");
	EXPECT_OK(mkdir("d", 0755));
	touch("d/x");
	ino_t a = inode("a"), d = inode("d");
	EXPECT_ERRNO(renameat2_("a", "b", RENAME_EXCHANGE | RENAME_NOREPLACE), EINVAL);
	EXPECT_ERRNO(renameat2_("a", "b", RENAME_EXCHANGE), ENOENT);
	EXPECT_ERRNO(renameat2_("a", "d", RENAME_NOREPLACE), EEXIST);
	EXPECT_ERRNO(renameat2_("a", "b", 0x80), EINVAL);
	EXPECT_OK(renameat2_("a", "d", RENAME_EXCHANGE));
	EXPECT_EQ(inode("a"), d);
	EXPECT_EQ(inode("d"), a);
	EXPECT(exists("a/x"));
	EXPECT_ERRNO(renameat2_("a", "a/x", RENAME_EXCHANGE), EINVAL);
	EXPECT_ERRNO(renameat2_("a/x", "a", RENAME_EXCHANGE), EINVAL);
	EXPECT_ERRNO(rename("a/x", "a"), ENOTEMPTY);
	EXPECT_OK(renameat2_("d", "e", RENAME_NOREPLACE));
	EXPECT_EQ(inode("e"), a);
}

TEST(link_rules)
{
	enter();
	touch("f");
	EXPECT_OK(mkdir("d", 0755));
	EXPECT_OK(link("f", "d/g"));
	EXPECT_EQ(links("f"), 2);
	EXPECT_EQ(inode("f"), inode("d/g"));
	EXPECT_ERRNO(link("f", "d/g"), EEXIST);
	EXPECT_ERRNO(link("d", "e"), EPERM);
	EXPECT_ERRNO(link("f", "h/"), ENOENT);
	EXPECT_ERRNO(link("f/", "h"), ENOTDIR);
	EXPECT_ERRNO(link("none", "h"), ENOENT);
	EXPECT_ERRNO(link("/proc/self/status", "h"), EXDEV);
	EXPECT_ERRNO(linkat(AT_FDCWD, "f", AT_FDCWD, "h", 0x8000), EINVAL);
	EXPECT_OK(chmod("f", 0600));
	struct stat st;
	EXPECT_OK(stat("d/g", &st));
	EXPECT_EQ(st.st_mode & 0777, 0600);
	EXPECT_OK(unlink("f"));
	EXPECT_EQ(links("d/g"), 1);
	/* A file without names gets none again. */
	int fd = EXPECT_OK(open("d/g", O_RDONLY));
	EXPECT_OK(unlink("d/g"));
	char name[64];
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	EXPECT_ERRNO(linkat(AT_FDCWD, name, AT_FDCWD, "back", AT_SYMLINK_FOLLOW), ENOENT);
}

TEST(symlink_contents_are_kept_as_they_are)
{
	enter();
	char longest[4096], got[4200];
	memset(longest, 'x', sizeof(longest));
	longest[4095] = 0;
	EXPECT_OK(symlink(longest, "long"));
	EXPECT_EQ(readlink("long", got, sizeof(got)), 4095);
	EXPECT(!memcmp(got, longest, 4095));
	EXPECT_ERRNO(open("long", O_RDONLY), ENAMETOOLONG);
	EXPECT_OK(symlink("a//b/../c/", "odd"));
	EXPECT_EQ(readlink("odd", got, sizeof(got)), 10);
	EXPECT(!memcmp(got, "a//b/../c/", 10));
	struct stat st;
	EXPECT_OK(lstat("odd", &st));
	EXPECT_EQ(st.st_size, 10);
	EXPECT_EQ(st.st_mode, S_IFLNK | 0777);
	EXPECT_OK(rename("odd", "odd2"));
	EXPECT_ERRNO(symlink("x", "odd2"), EEXIST);
	EXPECT_ERRNO(symlink("x", "new/"), ENOENT);
}

TEST(mknod_kinds)
{
	enter();
	struct stat st;
	EXPECT_OK(mknod("reg", 0644, 0));
	EXPECT_OK(stat("reg", &st));
	EXPECT_EQ(st.st_mode, S_IFREG | 0644);
	EXPECT_ERRNO(mknod("reg", S_IFREG | 0644, 0), EEXIST);
	EXPECT_ERRNO(mknod("d", S_IFDIR | 0755, 0), EPERM);
	EXPECT_ERRNO(mknod("l", S_IFLNK | 0777, 0), EINVAL);
	EXPECT_ERRNO(mknod("w", 0170000 | 0600, 0), EINVAL);
	EXPECT_OK(mknod("sock", S_IFSOCK | 0600, 0));
	EXPECT_OK(lstat("sock", &st));
	EXPECT(S_ISSOCK(st.st_mode));
	EXPECT_ERRNO(open("sock", O_RDONLY), ENXIO);
	EXPECT_OK(mkfifo("fifo", 0640));
	EXPECT_OK(lstat("fifo", &st));
	EXPECT_EQ(st.st_mode, S_IFIFO | 0640);
	EXPECT_EQ(st.st_size, 0);
	EXPECT_OK(rename("fifo", "fifo2"));
	EXPECT_OK(link("fifo2", "fifo3"));
	EXPECT_EQ(links("fifo3"), 2);
	EXPECT_OK(unlink("fifo2"));
}

TEST(readdir_while_names_come_and_go)
{
	enter();
	char name[64];
	int seen[200] = {0};
	EXPECT_OK(mkdir("d", 0755));
	for (int i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "d/%03d", i);
		touch(name);
	}
	int fd = EXPECT_OK(open("d", O_RDONLY | O_DIRECTORY));
	char buf[600];
	long n;
	int round = 0;
	while ((n = EXPECT_OK(syscall(SYS_getdents64, fd, buf, sizeof(buf)))) > 0) {
		for (long at = 0; at < n; at += *(unsigned short *)(buf + at + 16)) {
			int i = atoi(buf + at + 19);
			if (buf[at + 19] != '.' && buf[at + 19] != 'n')
				seen[i]++;
		}
		/* Others appear and vanish meanwhile: those that stay are seen once. */
		snprintf(name, sizeof(name), "d/n%03d", round++);
		touch(name);
		if (round > 2) {
			snprintf(name, sizeof(name), "d/n%03d", round - 3);
			EXPECT_OK(unlink(name));
		}
	}
	for (int i = 0; i < 200; i++)
		if (seen[i] != 1)
			FAIL("%d was seen %d times", i, seen[i]);
}

TEST(readdir_positions_and_types)
{
	enter();
	EXPECT_OK(mkdir("d", 0755));
	touch("d/file");
	EXPECT_OK(mkdir("d/dir", 0755));
	EXPECT_OK(symlink("x", "d/link"));
	EXPECT_OK(mkfifo("d/fifo", 0600));
	DIR *d = opendir("d");
	EXPECT(d);
	struct dirent *e;
	char names[8][16];
	long at[8];
	int n = 0;
	while (n < 8 && (at[n] = telldir(d), e = readdir(d))) {
		snprintf(names[n], 16, "%.15s", e->d_name);
		struct stat st;
		char path[300];
		snprintf(path, sizeof(path), "d/%s", e->d_name);
		EXPECT_OK(lstat(path, &st));
		if (e->d_type != DT_UNKNOWN)
			EXPECT_EQ(DTTOIF(e->d_type), st.st_mode & S_IFMT);
		if (strcmp(e->d_name, ".."))
			EXPECT_EQ(e->d_ino, st.st_ino);
		n++;
	}
	EXPECT_EQ(n, 6);
	for (int i = n - 1; i >= 0; i--) {
		seekdir(d, at[i]);
		e = readdir(d);
		EXPECT(e);
		EXPECT_STR(e->d_name, names[i]);
	}
	rewinddir(d);
	for (n = 0; readdir(d); n++)
		continue;
	EXPECT_EQ(n, 6);
	closedir(d);
}

TEST(getdents_hostile_arguments)
{
	enter();
	char buf[4096];
	touch("f");
	int d = EXPECT_OK(open(".", O_RDONLY)), f = EXPECT_OK(open("f", O_RDONLY));
	EXPECT_ERRNO(syscall(SYS_getdents64, d, buf, 0), EINVAL);
	EXPECT_ERRNO(syscall(SYS_getdents64, d, buf, 20), EINVAL);
	EXPECT_ERRNO(syscall(SYS_getdents64, d, BAD_ADDR, 4096), EFAULT);
	EXPECT_ERRNO(syscall(SYS_getdents64, f, buf, 4096), ENOTDIR);
	EXPECT_ERRNO(syscall(SYS_getdents64, -1, buf, 4096), EBADF);
	EXPECT_EQ(lseek(d, 0, SEEK_SET), 0);
	EXPECT_ERRNO(lseek(d, -1, SEEK_SET), EINVAL);
	EXPECT(EXPECT_OK(syscall(SYS_getdents64, d, buf, 24)) == 24);
	EXPECT_ERRNO(read(d, buf, 1), EISDIR);
	EXPECT_ERRNO(write(d, buf, 1), EBADF);
	EXPECT_ERRNO(ftruncate(d, 0), EINVAL);
	EXPECT_OK(fsync(d));
}

TEST(a_removed_directory_is_empty_and_closed)
{
	enter();
	char buf[1024];
	EXPECT_OK(mkdir("d", 0755));
	int d = EXPECT_OK(open("d", O_RDONLY));
	EXPECT_OK(chdir("d"));
	EXPECT_OK(rmdir("../d"));
	struct stat st;
	EXPECT_OK(fstat(d, &st));
	EXPECT_EQ(st.st_nlink, 0);
	EXPECT_ERRNO(syscall(SYS_getdents64, d, buf, sizeof(buf)), ENOENT);
	EXPECT_ERRNO(openat(d, "x", O_CREAT | O_WRONLY, 0600), ENOENT);
	EXPECT_ERRNO(mkdirat(d, "x", 0700), ENOENT);
	EXPECT_ERRNO(symlinkat("t", d, "x"), ENOENT);
	EXPECT_ERRNO(mknodat(d, "x", S_IFIFO | 0600, 0), ENOENT);
	EXPECT_ERRNO(unlinkat(d, "x", 0), ENOENT);
	EXPECT_ERRNO(rmdir("."), EINVAL);
	EXPECT_OK(stat(".", &st));
	EXPECT_OK(stat("..", &st));
	EXPECT_ERRNO(syscall(SYS_getcwd, buf, sizeof(buf)), ENOENT);
	ssize_t n = EXPECT_OK(readlink("/proc/self/cwd", buf, sizeof(buf) - 1));
	buf[n] = 0;
	EXPECT(strstr(buf, "/d (deleted)"));
	EXPECT_OK(mkdir("../d", 0755));
	EXPECT_ERRNO(open("y", O_CREAT | O_WRONLY, 0600), ENOENT);
	EXPECT(!exists("../d/y"));
}

TEST(unlinked_files_keep_growing)
{
	char buf[10000];
	struct stat st;
	int fd = test_file("f", 10000);
	EXPECT_OK(unlink("f"));
	EXPECT_EQ(pwrite(fd, "x", 1, 100000), 1);
	EXPECT_OK(fstat(fd, &st));
	EXPECT_EQ(st.st_size, 100001);
	EXPECT_OK(ftruncate(fd, 5000));
	EXPECT_EQ(pread(fd, buf, sizeof(buf), 0), 5000);
	EXPECT_OK(fchmod(fd, 0600));
	EXPECT_OK(fstat(fd, &st));
	EXPECT_EQ(st.st_mode & 0777, 0600);
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	EXPECT(p != MAP_FAILED);
	close(fd);
	memset(p, 7, 4096);
	EXPECT_OK(munmap(p, 4096));
}

TEST(deep_paths_work_up_to_path_max)
{
	enter();
	char path[PATH_MAX] = "";
	struct stat st;
	int depth = 0;
	for (; depth < 60; depth++) {
		strcat(path, depth ? "/" : "");
		strcat(path, "component-of-thirty-characters");
		EXPECT_OK(mkdir(path, 0755));
	}
	EXPECT_OK(stat(path, &st));
	for (int i = 0; i < 60; i++)
		EXPECT_OK(chdir("component-of-thirty-characters"));
	char cwd[PATH_MAX];
	long n = EXPECT_OK(syscall(SYS_getcwd, cwd, sizeof(cwd)));
	EXPECT(n > 60 * 30);
	EXPECT_ERRNO(syscall(SYS_getcwd, cwd, n - 1), ERANGE);
	EXPECT_EQ(syscall(SYS_getcwd, cwd, n), n);
	EXPECT_OK(chdir(cwd));
}

TEST(many_files_in_a_directory)
{
	enter();
	char name[32];
	int n = 0;
	for (int i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "file-%d", i);
		touch(name);
	}
	DIR *d = opendir(".");
	EXPECT(d);
	while (readdir(d))
		n++;
	EXPECT_EQ(n, 1002);
	closedir(d);
	for (int i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "file-%d", i);
		EXPECT_OK(unlink(name));
	}
}

/* Every entry's number, type and name are those that lstat finds; "." and ".." are there. */
static int check_listing(const char *path, char *order, size_t size)
{
	DIR *d = opendir(path);
	struct dirent *e;
	struct stat st;
	int dots = 0, n = 0;
	size_t used = 0;

	if (!d)
		return -1;
	while ((e = readdir(d))) {
		size_t len = strlen(e->d_name);
		dots += !strcmp(e->d_name, ".") || !strcmp(e->d_name, "..");
		n++;
		if (used + len + 1 < size) {
			memcpy(order + used, e->d_name, len);
			used += len;
			order[used++] = '/';
		}
		/* What others remove at this moment is not ours to judge. */
		if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW))
			continue;
		if (e->d_type != DT_UNKNOWN)
			EXPECT_EQ(e->d_type, IFTODT(st.st_mode));
	}
	order[used] = '\0';
	closedir(d);
	EXPECT_EQ(dots, 2);
	return n;
}

TEST(trees_of_the_system_are_listed)
{
	static char first[65536], second[65536];
	static const char *const dirs[] = {"/", "/usr", "/usr/bin", "/usr/share", "/etc"};
	struct stat st;
	char name[64];

	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		int n = check_listing(dirs[i], first, sizeof(first));
		if (n < 0)
			continue;
		EXPECT_EQ(n > 2, 1);
		EXPECT_EQ(check_listing(dirs[i], second, sizeof(second)), n);
		EXPECT_EQ(strcmp(first, second), 0);
		snprintf(name, sizeof(name), "%s/no-such-name", dirs[i]);
		EXPECT_ERRNO(stat(name, &st), ENOENT);
		EXPECT_ERRNO(open(name, O_RDONLY), ENOENT);
	}
}
