/* Names: resolution, making, removing, renaming, permissions. */
#include "compat.h"

#include <limits.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/xattr.h>
#include <utime.h>

static void touch(const char *name)
{
	close(EXPECT_OK(open(name, O_CREAT | O_WRONLY, 0644)));
}

static void fill(const char *name, const char *text)
{
	int fd = EXPECT_OK(open(name, O_CREAT | O_WRONLY | O_TRUNC, 0644));
	EXPECT_EQ(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static void enter(void)
{
	EXPECT_OK(chdir(test_dir()));
}

TEST(path_hostile_names)
{
	enter();
	static char longest[8192];
	struct stat st;
	memset(longest, 'a', sizeof(longest) - 1);
	EXPECT_ERRNO(open(BAD_ADDR, O_RDONLY), EFAULT);
	EXPECT_ERRNO(syscall(SYS_stat, BAD_ADDR, &st), EFAULT);
	EXPECT_ERRNO(syscall(SYS_stat, ".", BAD_ADDR), EFAULT);
	EXPECT_ERRNO(syscall(SYS_newfstatat, AT_FDCWD, ".", BAD_ADDR, 0), EFAULT);
	EXPECT_ERRNO(mkdir(BAD_ADDR, 0755), EFAULT);
	EXPECT_ERRNO(rename(BAD_ADDR, "x"), EFAULT);
	EXPECT_ERRNO(rename("x", BAD_ADDR), EFAULT);
	EXPECT_ERRNO(symlink(BAD_ADDR, "x"), EFAULT);
	EXPECT_ERRNO(unlink(BAD_ADDR), EFAULT);
	EXPECT_ERRNO(chdir(BAD_ADDR), EFAULT);
	EXPECT_ERRNO(open(longest, O_RDONLY), ENAMETOOLONG);
	longest[4095] = 0;
	EXPECT_ERRNO(open(longest, O_RDONLY), ENAMETOOLONG);
	longest[256] = 0;
	EXPECT_ERRNO(open(longest, O_RDONLY), ENAMETOOLONG);
	longest[255] = 0;
	EXPECT_ERRNO(open(longest, O_RDONLY), ENOENT);
	touch(longest);
	EXPECT_OK(unlink(longest));
	EXPECT_ERRNO(open("", O_RDONLY), ENOENT);
	EXPECT_ERRNO(mkdir("", 0755), ENOENT);
	EXPECT_ERRNO(openat(-7, "x", O_RDONLY), EBADF);
	EXPECT_ERRNO(openat(0, "x", O_RDONLY), ENOTDIR);
	EXPECT_ERRNO(syscall(SYS_newfstatat, AT_FDCWD, ".", &st, 0x40000000), EINVAL);
	EXPECT_ERRNO(syscall(SYS_unlinkat, AT_FDCWD, "x", 1), EINVAL);
	EXPECT_ERRNO(syscall(SYS_getcwd, BAD_ADDR, 4096), EFAULT);
	EXPECT_ERRNO(syscall(SYS_getcwd, longest, 1), ERANGE);
	EXPECT_ERRNO(readlink("x", longest, 0), EINVAL);
}

TEST(path_slashes_and_dots)
{
	enter();
	struct stat a, b;
	EXPECT_OK(mkdir("d/", 0755));
	touch("d/f");
	EXPECT_OK(stat("d//./f", &a));
	EXPECT_OK(stat("d/../d/f", &b));
	EXPECT_EQ(a.st_ino, b.st_ino);
	EXPECT_ERRNO(stat("d/f/", &a), ENOTDIR);
	EXPECT_ERRNO(stat("d/f/.", &a), ENOTDIR);
	EXPECT_ERRNO(stat("d/f/..", &a), ENOTDIR);
	EXPECT_ERRNO(open("d/new/", O_CREAT | O_WRONLY, 0644), EISDIR);
	EXPECT_ERRNO(open("d", O_WRONLY), EISDIR);
	EXPECT_ERRNO(open("d", O_RDONLY | O_CREAT, 0644), EISDIR);
	EXPECT_ERRNO(open("d/f", O_RDONLY | O_DIRECTORY), ENOTDIR);
	EXPECT_OK(stat("/..", &a));
	EXPECT_OK(stat("/", &b));
	EXPECT_EQ(a.st_ino, b.st_ino);
	EXPECT_ERRNO(rmdir("d/."), EINVAL);
	EXPECT_ERRNO(rmdir("d/.."), ENOTEMPTY);
	EXPECT_ERRNO(rmdir("d"), ENOTEMPTY);
	EXPECT_ERRNO(unlink("d"), EISDIR);
	EXPECT_ERRNO(unlink("d/f/"), ENOTDIR);
	EXPECT_ERRNO(rmdir("d/f"), ENOTDIR);
	EXPECT_OK(unlink("d/f"));
	EXPECT_OK(rmdir("d/"));
}

TEST(symlinks_loop_dangle_and_are_created_through)
{
	enter();
	char buf[64];
	struct stat st;
	EXPECT_OK(symlink("target", "link"));
	EXPECT_EQ(readlink("link", buf, sizeof(buf)), 6);
	EXPECT_EQ(readlink("link", buf, 3), 3);
	EXPECT_ERRNO(stat("link", &st), ENOENT);
	EXPECT_OK(lstat("link", &st));
	EXPECT(S_ISLNK(st.st_mode));
	EXPECT_EQ(st.st_size, 6);
	EXPECT_ERRNO(open("link", O_CREAT | O_EXCL | O_WRONLY, 0644), EEXIST);
	EXPECT_ERRNO(open("link", O_NOFOLLOW | O_RDONLY), ELOOP);
	touch("link");
	EXPECT_OK(stat("target", &st));
	EXPECT_OK(symlink("loop", "loop"));
	EXPECT_ERRNO(stat("loop", &st), ELOOP);
	EXPECT_ERRNO(open("loop/x", O_RDONLY), ELOOP);
	EXPECT_ERRNO(symlink("", "empty"), ENOENT);
	EXPECT_ERRNO(symlink("x", "link"), EEXIST);
	EXPECT_ERRNO(readlink("target", buf, sizeof(buf)), EINVAL);
	int fd = EXPECT_OK(open("link", O_PATH | O_NOFOLLOW));
	EXPECT_EQ(readlinkat(fd, "", buf, sizeof(buf)), 6);
	EXPECT_ERRNO(read(fd, buf, 1), EBADF);
	EXPECT_ERRNO(fchmod(fd, 0600), EBADF);
	EXPECT_OK(fstat(fd, &st));
	EXPECT(S_ISLNK(st.st_mode));
	close(fd);
	char chain[2][16];
	EXPECT_OK(symlink("target", "c0"));
	for (int i = 1; i <= 40; i++) {
		snprintf(chain[0], 16, "c%d", i - 1);
		snprintf(chain[1], 16, "c%d", i);
		EXPECT_OK(symlink(chain[0], chain[1]));
	}
	EXPECT_OK(stat("c39", &st));
	EXPECT_ERRNO(stat("c40", &st), ELOOP);
}

TEST(open_tmpfile_and_path_flags)
{
	enter();
	EXPECT_ERRNO(open(".", O_TMPFILE | O_RDONLY, 0600), EINVAL);
	int fd = open(".", O_TMPFILE | O_RDWR, 0600);
	if (fd >= 0) {
		char proc[64];
		struct stat st;
		EXPECT_OK(fstat(fd, &st));
		EXPECT_EQ(st.st_nlink, 0);
		EXPECT_EQ(write(fd, "x", 1), 1);
		snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
		EXPECT_OK(linkat(AT_FDCWD, proc, AT_FDCWD, "named", AT_SYMLINK_FOLLOW));
		EXPECT_OK(stat("named", &st));
		EXPECT_EQ(st.st_size, 1);
		EXPECT_EQ(st.st_nlink, 1);
		close(fd);
	} else {
		EXPECT_EQ(errno, EOPNOTSUPP);
	}
	touch("f");
	fd = EXPECT_OK(open("f", O_RDWR));
	EXPECT_EQ(fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK | O_CREAT), O_RDWR);
	close(fd);
}

TEST(openat2_confines)
{
	enter();
	EXPECT_OK(mkdir("d", 0755));
	touch("d/f");
	EXPECT_OK(symlink("/f", "d/abs"));
	EXPECT_OK(symlink("../d/f", "d/up"));
	int dir = EXPECT_OK(open("d", O_PATH));
	struct open_how how = {.flags = O_RDONLY, .resolve = RESOLVE_BENEATH};
	close(EXPECT_OK(syscall(SYS_openat2, dir, "f", &how, sizeof(how))));
	EXPECT_ERRNO(syscall(SYS_openat2, dir, "../d/f", &how, sizeof(how)), EXDEV);
	EXPECT_ERRNO(syscall(SYS_openat2, dir, "/etc", &how, sizeof(how)), EXDEV);
	EXPECT_ERRNO(syscall(SYS_openat2, dir, "abs", &how, sizeof(how)), EXDEV);
	EXPECT_ERRNO(syscall(SYS_openat2, dir, "up", &how, sizeof(how)), EXDEV);
	how.resolve = RESOLVE_IN_ROOT;
	close(EXPECT_OK(syscall(SYS_openat2, dir, "abs", &how, sizeof(how))));
	close(EXPECT_OK(syscall(SYS_openat2, dir, "/f", &how, sizeof(how))));
	close(EXPECT_OK(syscall(SYS_openat2, dir, "../../f", &how, sizeof(how))));
	how.resolve = RESOLVE_NO_SYMLINKS;
	EXPECT_ERRNO(syscall(SYS_openat2, dir, "abs", &how, sizeof(how)), ELOOP);
	how.resolve = RESOLVE_NO_MAGICLINKS;
	EXPECT_ERRNO(syscall(SYS_openat2, dir, "/proc/self/cwd", &how, sizeof(how)), ELOOP);
	how.resolve = RESOLVE_NO_XDEV;
	EXPECT_ERRNO(syscall(SYS_openat2, dir, "/proc/self/stat", &how, sizeof(how)), EXDEV);
	how.resolve = 1 << 20;
	EXPECT_ERRNO(syscall(SYS_openat2, dir, "f", &how, sizeof(how)), EINVAL);
	how = (struct open_how){.flags = O_RDONLY, .mode = 0600};
	EXPECT_ERRNO(syscall(SYS_openat2, dir, "f", &how, sizeof(how)), EINVAL);
	EXPECT_ERRNO(syscall(SYS_openat2, dir, "f", &how, 8), EINVAL);
	EXPECT_ERRNO(syscall(SYS_openat2, dir, "f", BAD_ADDR, sizeof(how)), EFAULT);
	struct {
		struct open_how how;
		uint64_t more;
	} big = {{.flags = O_RDONLY}, 0};
	close(EXPECT_OK(syscall(SYS_openat2, dir, "f", &big, sizeof(big))));
	big.more = 1;
	EXPECT_ERRNO(syscall(SYS_openat2, dir, "f", &big, sizeof(big)), E2BIG);
}

TEST(links_count_and_share)
{
	enter();
	struct stat a, b;
	fill("f", "one");
	EXPECT_OK(link("f", "g"));
	EXPECT_OK(stat("f", &a));
	EXPECT_OK(stat("g", &b));
	EXPECT_EQ(a.st_ino, b.st_ino);
	EXPECT_EQ(a.st_nlink, 2);
	fill("g", "two!");
	EXPECT_OK(stat("f", &a));
	EXPECT_EQ(a.st_size, 4);
	EXPECT_OK(unlink("f"));
	EXPECT_OK(stat("g", &b));
	EXPECT_EQ(b.st_nlink, 1);
	EXPECT_OK(mkdir("d", 0755));
	EXPECT_ERRNO(link("d", "e"), EPERM);
	EXPECT_ERRNO(link("g", "d"), EEXIST);
	EXPECT_ERRNO(link("none", "x"), ENOENT);
	EXPECT_OK(symlink("g", "s"));
	EXPECT_OK(link("s", "s2"));
	EXPECT_OK(lstat("s2", &a));
	EXPECT(S_ISLNK(a.st_mode));
	EXPECT_OK(linkat(AT_FDCWD, "s", AT_FDCWD, "g2", AT_SYMLINK_FOLLOW));
	EXPECT_OK(lstat("g2", &a));
	EXPECT(S_ISREG(a.st_mode));
	EXPECT_ERRNO(linkat(AT_FDCWD, "g", AT_FDCWD, "x", 0x10), EINVAL);
}

TEST(an_unlinked_open_file_lives_on)
{
	enter();
	char buf[256];
	struct stat st;
	fill("f", "still here");
	int fd = EXPECT_OK(open("f", O_RDWR));
	EXPECT_OK(unlink("f"));
	EXPECT_ERRNO(stat("f", &st), ENOENT);
	EXPECT_EQ(read(fd, buf, sizeof(buf)), 10);
	EXPECT_EQ(write(fd, "!", 1), 1);
	EXPECT_OK(fstat(fd, &st));
	EXPECT_EQ(st.st_size, 11);
	EXPECT_EQ(st.st_nlink, 0);
	char name[64];
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	ssize_t n = EXPECT_OK(readlink(name, buf, sizeof(buf) - 1));
	buf[n] = 0;
	EXPECT(strstr(buf, "/f (deleted)"));
	fill("f", "new");
	EXPECT_OK(stat("f", &st));
	EXPECT_EQ(st.st_size, 3);
	close(fd);
}

TEST(rename_replaces_moves_and_refuses)
{
	enter();
	struct stat st;
	fill("a", "aa");
	fill("b", "b");
	EXPECT_OK(mkdir("d", 0755));
	EXPECT_OK(mkdir("d/e", 0755));
	EXPECT_OK(rename("a", "b"));
	EXPECT_ERRNO(stat("a", &st), ENOENT);
	EXPECT_OK(stat("b", &st));
	EXPECT_EQ(st.st_size, 2);
	EXPECT_ERRNO(rename("b", "d"), EISDIR);
	EXPECT_ERRNO(rename("d", "b"), ENOTDIR);
	EXPECT_ERRNO(rename("d", "d/e/x"), EINVAL);
	EXPECT_ERRNO(rename("d/e", "d"), ENOTEMPTY);
	EXPECT_ERRNO(rename("none", "x"), ENOENT);
	EXPECT_ERRNO(rename("b/", "x"), ENOTDIR);
	EXPECT_ERRNO(rename("d/.", "x"), EBUSY);
	EXPECT_ERRNO(rename("/", "x"), EBUSY);
	EXPECT_OK(rename("b", "b"));
	EXPECT_OK(rename("d", "moved"));
	EXPECT_OK(stat("moved/e", &st));
	EXPECT_OK(mkdir("empty", 0755));
	EXPECT_OK(rename("moved/e", "empty"));
	EXPECT_ERRNO(stat("moved/e", &st), ENOENT);
	EXPECT_ERRNO(syscall(SYS_renameat2, AT_FDCWD, "b", AT_FDCWD, "empty", RENAME_NOREPLACE),
		     EEXIST);
	EXPECT_ERRNO(syscall(SYS_renameat2, AT_FDCWD, "b", AT_FDCWD, "none", RENAME_EXCHANGE),
		     ENOENT);
	EXPECT_ERRNO(syscall(SYS_renameat2, AT_FDCWD, "b", AT_FDCWD, "empty", 64), EINVAL);
	EXPECT_OK(syscall(SYS_renameat2, AT_FDCWD, "b", AT_FDCWD, "empty", RENAME_EXCHANGE));
	EXPECT_OK(stat("b", &st));
	EXPECT(S_ISDIR(st.st_mode));
	EXPECT_OK(syscall(SYS_renameat2, AT_FDCWD, "empty", AT_FDCWD, "new", RENAME_NOREPLACE));
	EXPECT_OK(stat("new", &st));
	EXPECT_EQ(st.st_size, 2);
}

TEST(working_directories)
{
	enter();
	char before[PATH_MAX], now[PATH_MAX], want[PATH_MAX + 8];
	EXPECT(getcwd(before, sizeof(before)));
	EXPECT_OK(mkdir("d", 0755));
	touch("f");
	EXPECT_ERRNO(chdir("f"), ENOTDIR);
	EXPECT_ERRNO(chdir("none"), ENOENT);
	int fd = EXPECT_OK(open("f", O_RDONLY));
	EXPECT_ERRNO(fchdir(fd), ENOTDIR);
	close(fd);
	fd = EXPECT_OK(open("d", O_PATH));
	EXPECT_OK(fchdir(fd));
	EXPECT_EQ(syscall(SYS_getcwd, now, sizeof(now)), strlen(before) + 3);
	snprintf(want, sizeof(want), "%s/d", before);
	EXPECT_STR(now, want);
	EXPECT_OK(rmdir("../d"));
	EXPECT_ERRNO(syscall(SYS_getcwd, now, sizeof(now)), ENOENT);
	EXPECT_ERRNO(open("x", O_CREAT | O_WRONLY, 0644), ENOENT);
	EXPECT_ERRNO(mkdir("x", 0755), ENOENT);
	EXPECT_OK(chdir(".."));
	EXPECT(getcwd(now, sizeof(now)));
	EXPECT_STR(now, before);
	close(fd);
}

static void in_chroot(void *arg)
{
	(void)arg;
	struct stat root, up;
	EXPECT_OK(chroot("d"));
	EXPECT_OK(chdir("/"));
	EXPECT_OK(stat("/f", &root));
	EXPECT_OK(stat("/", &root));
	EXPECT_OK(stat("/../..", &up));
	EXPECT_EQ(root.st_ino, up.st_ino);
	EXPECT_ERRNO(stat("/proc", &up), ENOENT);
	char cwd[64];
	EXPECT_EQ(syscall(SYS_getcwd, cwd, sizeof(cwd)), 2);
}

TEST(chroot_confines)
{
	enter();
	if (geteuid())
		test_skip("needs root");
	EXPECT_OK(mkdir("d", 0755));
	touch("d/f");
	EXPECT_EQ(test_child(in_chroot, NULL), 0);
}

TEST(umask_applies_to_new_files_only)
{
	enter();
	struct stat st;
	mode_t old = umask(027);
	EXPECT_EQ(umask(027), 027);
	close(EXPECT_OK(open("f", O_CREAT | O_WRONLY, 0777)));
	EXPECT_OK(stat("f", &st));
	EXPECT_EQ(st.st_mode & 07777, 0750);
	EXPECT_OK(mkdir("d", 0777));
	EXPECT_OK(stat("d", &st));
	EXPECT_EQ(st.st_mode & 07777, 0750);
	EXPECT_OK(mknod("p", S_IFIFO | 0666, 0));
	EXPECT_OK(stat("p", &st));
	EXPECT_EQ(st.st_mode, S_IFIFO | 0640);
	EXPECT_OK(chmod("f", 0777));
	EXPECT_OK(stat("f", &st));
	EXPECT_EQ(st.st_mode & 07777, 0777);
	umask(old);
}

static void as_nobody(void *arg)
{
	(void)arg;
	struct stat st;
	EXPECT_OK(setgid(65534));
	EXPECT_OK(setuid(65534));
	EXPECT_ERRNO(open("secret", O_RDONLY), EACCES);
	EXPECT_ERRNO(open("new", O_CREAT | O_WRONLY, 0644), EACCES);
	EXPECT_ERRNO(stat("locked/f", &st), EACCES);
	EXPECT_ERRNO(chmod("open", 0600), EPERM);
	EXPECT_ERRNO(chown("open", 65534, -1), EPERM);
	EXPECT_ERRNO(unlink("open"), EACCES);
	EXPECT_ERRNO(utimes("secret", NULL), EACCES);
	EXPECT_OK(utimes("open", NULL));
	struct timeval tv[2] = {{1, 0}, {1, 0}};
	EXPECT_ERRNO(utimes("open", tv), EPERM);
	EXPECT_OK(access("open", R_OK | W_OK));
	EXPECT_ERRNO(access("open", X_OK), EACCES);
	EXPECT_ERRNO(access("secret", R_OK), EACCES);
	EXPECT_OK(access("secret", F_OK));
	EXPECT_ERRNO(unlink("sticky/roots"), EPERM);
	close(EXPECT_OK(open("sticky/mine", O_CREAT | O_WRONLY, 0644)));
	EXPECT_OK(unlink("sticky/mine"));
	EXPECT_ERRNO(truncate("secret", 0), EACCES);
	EXPECT_ERRNO(chroot("."), EPERM);
	EXPECT_ERRNO(mknod("sticky/dev", S_IFCHR | 0600, makedev(1, 3)), EPERM);
	close(EXPECT_OK(open("grp/new", O_CREAT | O_WRONLY, 0644)));
	EXPECT_OK(stat("grp/new", &st));
	EXPECT_EQ(st.st_gid, 77);
}

TEST(permissions_hold_for_others)
{
	enter();
	if (geteuid())
		test_skip("needs root");
	mode_t old = umask(0);
	EXPECT_OK(chmod(".", 0755));
	touch("secret");
	EXPECT_OK(chmod("secret", 0600));
	touch("open");
	EXPECT_OK(chmod("open", 0666));
	EXPECT_OK(mkdir("locked", 0700));
	touch("locked/f");
	EXPECT_OK(mkdir("sticky", 01777));
	EXPECT_OK(chmod("sticky", 01777));
	touch("sticky/roots");
	EXPECT_OK(mkdir("grp", 0777));
	EXPECT_OK(chown("grp", 0, 77));
	EXPECT_OK(chmod("grp", 02777));
	umask(old);
	EXPECT_EQ(test_child(as_nobody, NULL), 0);
}

TEST(chown_and_writes_drop_set_id_bits)
{
	enter();
	if (geteuid())
		test_skip("needs root");
	struct stat st;
	touch("f");
	EXPECT_OK(chmod("f", 06755));
	EXPECT_OK(chown("f", 1, 1));
	EXPECT_OK(stat("f", &st));
	EXPECT_EQ(st.st_mode & 07777, 0755);
	EXPECT_EQ(st.st_uid, 1);
	EXPECT_OK(chown("f", -1, 2));
	EXPECT_OK(stat("f", &st));
	EXPECT_EQ(st.st_uid, 1);
	EXPECT_EQ(st.st_gid, 2);
	EXPECT_OK(symlink("f", "s"));
	EXPECT_OK(lchown("s", 5, 6));
	EXPECT_OK(lstat("s", &st));
	EXPECT_EQ(st.st_uid, 5);
	EXPECT_OK(stat("f", &st));
	EXPECT_EQ(st.st_uid, 1);
	EXPECT_OK(fchownat(AT_FDCWD, "s", 7, -1, 0));
	EXPECT_OK(stat("f", &st));
	EXPECT_EQ(st.st_uid, 7);
}

TEST(times_are_set_as_asked)
{
	enter();
	struct stat st;
	touch("f");
	struct timespec ts[2] = {{1000, 5}, {2000, 999999999}};
	EXPECT_OK(utimensat(AT_FDCWD, "f", ts, 0));
	EXPECT_OK(stat("f", &st));
	EXPECT_EQ(st.st_atim.tv_sec, 1000);
	EXPECT_EQ(st.st_atim.tv_nsec, 5);
	EXPECT_EQ(st.st_mtim.tv_sec, 2000);
	EXPECT_EQ(st.st_mtim.tv_nsec, 999999999);
	ts[0].tv_nsec = UTIME_OMIT;
	ts[1].tv_nsec = UTIME_NOW;
	EXPECT_OK(utimensat(AT_FDCWD, "f", ts, 0));
	EXPECT_OK(stat("f", &st));
	EXPECT_EQ(st.st_atim.tv_sec, 1000);
	EXPECT(st.st_mtim.tv_sec > 1000000);
	ts[1].tv_nsec = UTIME_OMIT;
	EXPECT_OK(syscall(SYS_utimensat, AT_FDCWD, BAD_ADDR, ts, 0));
	ts[1].tv_nsec = 1000000000;
	EXPECT_ERRNO(utimensat(AT_FDCWD, "f", ts, 0), EINVAL);
	struct utimbuf tb = {3000, 4000};
	EXPECT_OK(utime("f", &tb));
	EXPECT_OK(stat("f", &st));
	EXPECT_EQ(st.st_atim.tv_sec, 3000);
	EXPECT_EQ(st.st_mtim.tv_sec, 4000);
	EXPECT_EQ(st.st_mtim.tv_nsec, 0);
	struct timeval tv[2] = {{5000, 7}, {6000, 1000000}};
	EXPECT_ERRNO(utimes("f", tv), EINVAL);
	tv[1].tv_usec = 8;
	EXPECT_OK(utimes("f", tv));
	EXPECT_OK(stat("f", &st));
	EXPECT_EQ(st.st_atim.tv_nsec, 7000);
	EXPECT_EQ(st.st_mtim.tv_nsec, 8000);
	int fd = EXPECT_OK(open("f", O_RDONLY));
	EXPECT_OK(futimens(fd, NULL));
	EXPECT_OK(fstat(fd, &st));
	EXPECT(st.st_mtim.tv_sec > 1000000);
	close(fd);
}

TEST(statx_and_statfs_tell_the_same)
{
	enter();
	struct stat st;
	struct statx sx;
	struct statfs fs;
	fill("f", "12345");
	EXPECT_OK(stat("f", &st));
	EXPECT_OK(statx(AT_FDCWD, "f", 0, STATX_BASIC_STATS, &sx));
	EXPECT_EQ(sx.stx_size, 5);
	EXPECT_EQ(sx.stx_ino, st.st_ino);
	EXPECT_EQ(sx.stx_mode, st.st_mode);
	EXPECT_EQ(makedev(sx.stx_dev_major, sx.stx_dev_minor), st.st_dev);
	EXPECT_EQ(sx.stx_mask & STATX_BASIC_STATS, STATX_BASIC_STATS);
	EXPECT_ERRNO(statx(AT_FDCWD, "f", 0x10000000, 0, &sx), EINVAL);
	EXPECT_ERRNO(statx(AT_FDCWD, "f", 0, 0x80000000u, &sx), EINVAL);
	EXPECT_ERRNO(syscall(SYS_statx, AT_FDCWD, "f", 0, 0, BAD_ADDR), EFAULT);
	int fd = EXPECT_OK(open("f", O_RDONLY));
	EXPECT_OK(statx(fd, "", AT_EMPTY_PATH, STATX_SIZE, &sx));
	EXPECT_EQ(sx.stx_size, 5);
	EXPECT_ERRNO(statx(fd, "", 0, STATX_SIZE, &sx), ENOENT);
	EXPECT_OK(statfs("f", &fs));
	EXPECT(fs.f_bsize > 0 && fs.f_namelen == 255);
	EXPECT_OK(fstatfs(fd, &fs));
	EXPECT_ERRNO(syscall(SYS_statfs, "f", BAD_ADDR), EFAULT);
	close(fd);
}

TEST(xattrs_follow_their_rules)
{
	enter();
	char buf[256];
	touch("f");
	if (setxattr("f", "user.a", "1", 1, 0) && errno == EOPNOTSUPP)
		test_skip("no user attributes here");
	EXPECT_ERRNO(setxattr("f", "user.a", "2", 1, XATTR_CREATE), EEXIST);
	EXPECT_ERRNO(setxattr("f", "user.b", "2", 1, XATTR_REPLACE), ENODATA);
	EXPECT_OK(setxattr("f", "user.a", "22", 2, XATTR_REPLACE));
	EXPECT_EQ(getxattr("f", "user.a", buf, sizeof(buf)), 2);
	EXPECT_EQ(getxattr("f", "user.a", NULL, 0), 2);
	EXPECT_ERRNO(getxattr("f", "user.a", buf, 1), ERANGE);
	EXPECT_ERRNO(getxattr("f", "user.none", buf, 1), ENODATA);
	EXPECT_ERRNO(getxattr("f", "nonsense", buf, 1), EOPNOTSUPP);
	EXPECT_ERRNO(setxattr("f", "user.a", "2", 1, 77), EINVAL);
	EXPECT_ERRNO(setxattr("f", "user.a", BAD_ADDR, 1, 0), EFAULT);
	EXPECT_ERRNO(syscall(SYS_setxattr, "f", "user.a", buf, 65537, 0), E2BIG);
	ssize_t n = EXPECT_OK(listxattr("f", buf, sizeof(buf)));
	EXPECT(memmem(buf, (size_t)n, "user.a", 7));
	EXPECT_OK(symlink("f", "s"));
	EXPECT_ERRNO(lsetxattr("s", "user.a", "1", 1, 0), EPERM);
	EXPECT_OK(removexattr("f", "user.a"));
	EXPECT_ERRNO(removexattr("f", "user.a"), ENODATA);
}

static bool seen(const char *dir, const char *name)
{
	char buf[512];
	bool found = false;
	int fd = EXPECT_OK(open(dir, O_RDONLY | O_DIRECTORY));
	long n;
	while ((n = EXPECT_OK(syscall(SYS_getdents64, fd, buf, sizeof(buf)))) > 0)
		for (long at = 0; at < n; at += *(unsigned short *)(buf + at + 16))
			found |= !strcmp(buf + at + 19, name);
	close(fd);
	return found;
}

TEST(directories_list_what_is_in_them)
{
	enter();
	char name[32], buf[32];
	EXPECT_OK(mkdir("d", 0755));
	for (int i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "d/file-%d", i);
		touch(name);
	}
	EXPECT(seen("d", "."));
	EXPECT(seen("d", ".."));
	EXPECT(seen("d", "file-0"));
	EXPECT(seen("d", "file-99"));
	EXPECT_OK(unlink("d/file-99"));
	EXPECT(!seen("d", "file-99"));
	int fd = EXPECT_OK(open("d", O_RDONLY));
	EXPECT_ERRNO(syscall(SYS_getdents64, fd, buf, 10), EINVAL);
	EXPECT_ERRNO(syscall(SYS_getdents64, fd, BAD_ADDR, 4096), EFAULT);
	EXPECT_ERRNO(read(fd, buf, 1), EISDIR);
	/* Removed on the way: every entry is seen once, and rewinding works. */
	int n = 0;
	long got;
	char big[1024];
	while ((got = EXPECT_OK(syscall(SYS_getdents64, fd, big, sizeof(big)))) > 0)
		for (long at = 0; at < got; at += *(unsigned short *)(big + at + 16)) {
			if (big[at + 19] == '.')
				continue;
			snprintf(name, sizeof(name), "d/%s", big + at + 19);
			EXPECT_OK(unlink(name));
			n++;
		}
	EXPECT_EQ(n, 99);
	EXPECT_OK(lseek(fd, 0, SEEK_SET));
	EXPECT(EXPECT_OK(syscall(SYS_getdents64, fd, big, sizeof(big))) > 0);
	close(fd);
	fd = EXPECT_OK(open("d/../.", O_RDONLY));
	EXPECT(EXPECT_OK(syscall(SYS_getdents, fd, big, sizeof(big))) > 0);
	close(fd);
	EXPECT_ERRNO(syscall(SYS_getdents64, 0, big, sizeof(big)), ENOTDIR);
}

TEST(proc_self_fd_reopens)
{
	enter();
	char name[64], c;
	fill("f", "abc");
	int fd = EXPECT_OK(open("f", O_RDONLY));
	EXPECT_EQ(read(fd, &c, 1), 1);
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	int again = EXPECT_OK(open(name, O_RDWR));
	EXPECT_EQ(read(again, &c, 1), 1);
	EXPECT_EQ(c, 'a');
	close(again);
	struct stat a, b;
	EXPECT_OK(stat(name, &a));
	EXPECT_OK(fstat(fd, &b));
	EXPECT_EQ(a.st_ino, b.st_ino);
	close(fd);
	EXPECT_ERRNO(open(name, O_RDONLY), ENOENT);
}
