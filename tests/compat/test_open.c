/* Opening and making files: what each flag means, and openat2(2). */
#include "tests/compat/compat.h"

#include <linux/openat2.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>

static const char *enter(void)
{
	const char *dir = test_dir();
	EXPECT_OK(chdir(dir));
	umask(022);
	return dir;
}

static void touch(const char *name)
{
	close(EXPECT_OK(open(name, O_CREAT | O_WRONLY, 0644)));
}

static off_t size_of(const char *name)
{
	struct stat st;
	EXPECT_OK(stat(name, &st));
	return st.st_size;
}

static long open_how(int dir, const char *name, uint64_t flags, uint64_t mode, uint64_t resolve)
{
	struct open_how how = {.flags = flags, .mode = mode, .resolve = resolve};
	return syscall(SYS_openat2, dir, name, &how, sizeof(how));
}

TEST(open_hostile_arguments)
{
	enter();
	int lowest = test_lowest_fd();
	struct open_how how = {.flags = O_RDONLY};
	EXPECT_ERRNO(open(BAD_ADDR, O_RDONLY), EFAULT);
	EXPECT_ERRNO(open((char *)-1L, O_RDONLY), EFAULT);
	EXPECT_ERRNO(open(BAD_ADDR, O_CREAT | O_WRONLY, 0600), EFAULT);
	EXPECT_ERRNO(syscall(SYS_creat, BAD_ADDR, 0600), EFAULT);
	EXPECT_ERRNO(syscall(SYS_openat2, AT_FDCWD, BAD_ADDR, &how, sizeof(how)), EFAULT);
	EXPECT_ERRNO(syscall(SYS_openat2, AT_FDCWD, ".", &how, 0), EINVAL);
	EXPECT_ERRNO(syscall(SYS_openat2, AT_FDCWD, ".", &how, 8192), E2BIG);
	EXPECT_ERRNO(syscall(SYS_close, 0xffffffff), EBADF);
	/* A name that ends right before memory that is not there. */
	char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	EXPECT(page != MAP_FAILED);
	EXPECT_OK(munmap(page + 4096, 4096));
	memcpy(page + 4094, ".", 2);
	close(EXPECT_OK(open(page + 4094, O_RDONLY)));
	page[4095] = '/';
	EXPECT_ERRNO(open(page + 4094, O_RDONLY), EFAULT);
	EXPECT_EQ(test_lowest_fd(), lowest);
}

TEST(open_takes_the_lowest_descriptor)
{
	enter();
	touch("f");
	int a = EXPECT_OK(open("f", O_RDONLY)), b = EXPECT_OK(open("f", O_RDONLY));
	int c = EXPECT_OK(open("f", O_RDONLY));
	EXPECT(a < b && b < c);
	close(a);
	close(b);
	EXPECT_EQ(open("f", O_RDONLY), a);
	EXPECT_EQ(open("f", O_RDONLY), b);
}

TEST(open_excl_refuses_what_exists)
{
	enter();
	EXPECT_OK(mkdir("d", 0755));
	close(EXPECT_OK(open("f", O_CREAT | O_EXCL | O_RDWR, 0600)));
	EXPECT_ERRNO(open("f", O_CREAT | O_EXCL | O_RDWR, 0600), EEXIST);
	EXPECT_ERRNO(open("d", O_CREAT | O_EXCL | O_RDWR, 0600), EEXIST);
	EXPECT_ERRNO(open(".", O_CREAT | O_EXCL | O_RDWR, 0600), EEXIST);
	EXPECT_ERRNO(open("none/f", O_CREAT | O_EXCL | O_RDWR, 0600), ENOENT);
	EXPECT_OK(symlink("absent", "dangling"));
	EXPECT_ERRNO(open("dangling", O_CREAT | O_EXCL | O_RDWR, 0600), EEXIST);
	EXPECT_ERRNO(access("absent", F_OK), ENOENT);
	EXPECT_OK(symlink("none/absent", "deep"));
	EXPECT_ERRNO(open("deep", O_CREAT | O_RDWR, 0600), ENOENT);
}

TEST(open_trunc_empties_and_keeps_the_inode)
{
	struct stat before, after;
	int fd = test_file("f", 5000);
	EXPECT_OK(fstat(fd, &before));
	close(EXPECT_OK(open("f", O_WRONLY | O_TRUNC)));
	EXPECT_OK(fstat(fd, &after));
	EXPECT_EQ(after.st_size, 0);
	EXPECT_EQ(after.st_ino, before.st_ino);
	EXPECT_EQ(after.st_mode, before.st_mode);
	EXPECT_EQ(write(fd, "abc", 3), 3);
	close(EXPECT_OK(creat("f", 0600)));
	EXPECT_OK(fstat(fd, &after));
	EXPECT_EQ(after.st_size, 0);
	EXPECT_EQ(after.st_mode & 07777, 0644);
	EXPECT_ERRNO(open(".", O_RDONLY | O_TRUNC), EISDIR);
	/* A failing open leaves the contents. */
	EXPECT_EQ(pwrite(fd, "abc", 3, 0), 3);
	EXPECT_ERRNO(open("f", O_RDWR | O_TRUNC | O_CREAT | O_EXCL, 0600), EEXIST);
	EXPECT_ERRNO(open("f", O_RDWR | O_TRUNC | O_DIRECTORY), ENOTDIR);
	EXPECT_EQ(size_of("f"), 3);
}

TEST(open_creat_mode_does_not_bind_the_opener)
{
	enter();
	char c;
	int fd = EXPECT_OK(open("ro", O_CREAT | O_RDWR, 0400));
	EXPECT_EQ(write(fd, "x", 1), 1);
	EXPECT_EQ(pread(fd, &c, 1, 0), 1);
	struct stat st;
	EXPECT_OK(fstat(fd, &st));
	EXPECT_EQ(st.st_mode, S_IFREG | 0400);
	fd = EXPECT_OK(open("sticky", O_CREAT | O_RDWR, 07777));
	EXPECT_OK(fstat(fd, &st));
	EXPECT_EQ(st.st_mode, S_IFREG | 07755);
	/* Bits of the type in the mode are ignored by open. */
	fd = EXPECT_OK(open("typed", O_CREAT | O_RDWR, S_IFDIR | 0600));
	EXPECT_OK(fstat(fd, &st));
	EXPECT_EQ(st.st_mode, S_IFREG | 0600);
}

TEST(open_ignores_unknown_flags_but_openat2_does_not)
{
	enter();
	touch("f");
	close(EXPECT_OK(open("f", O_RDONLY | 0x8000000)));
	EXPECT_ERRNO(open_how(AT_FDCWD, "f", 0x8000000, 0, 0), EINVAL);
	EXPECT_ERRNO(open_how(AT_FDCWD, "f", 1ull << 40, 0, 0), EINVAL);
	EXPECT_ERRNO(open_how(AT_FDCWD, "f", O_CREAT | O_RDWR, 0200000, 0), EINVAL);
	EXPECT_ERRNO(open_how(AT_FDCWD, "f", O_PATH | O_RDWR, 0, 0), EINVAL);
	EXPECT_ERRNO(open_how(AT_FDCWD, "f", O_PATH | O_TRUNC, 0, 0), EINVAL);
	EXPECT_ERRNO(open_how(AT_FDCWD, "f", O_CREAT | O_DIRECTORY, 0600, 0), EINVAL);
	EXPECT_ERRNO(open_how(AT_FDCWD, "f", 0, 0, RESOLVE_BENEATH | RESOLVE_IN_ROOT), EINVAL);
	close(EXPECT_OK(open_how(AT_FDCWD, "f", O_PATH | O_CLOEXEC | O_NOFOLLOW, 0, 0)));
	EXPECT_ERRNO(open("f", O_RDONLY | O_CREAT | O_DIRECTORY, 0600), EINVAL);
	int fd = EXPECT_OK(open_how(AT_FDCWD, "new", O_CREAT | O_RDWR, 0640, 0));
	struct stat st;
	EXPECT_OK(fstat(fd, &st));
	EXPECT_EQ(st.st_mode & 07777, 0640);
}

TEST(open_access_mode_three_can_do_neither)
{
	enter();
	char c;
	touch("f");
	int fd = EXPECT_OK(open("f", O_ACCMODE));
	EXPECT_EQ(fcntl(fd, F_GETFL) & O_ACCMODE, O_ACCMODE);
	EXPECT_ERRNO(read(fd, &c, 1), EBADF);
	EXPECT_ERRNO(write(fd, &c, 1), EBADF);
}

TEST(open_path_gives_a_mere_handle)
{
	enter();
	char c;
	struct stat st;
	struct flock l = {.l_type = F_RDLCK};
	touch("f");
	EXPECT_OK(mkdir("d", 0755));
	touch("d/in");
	int fd = EXPECT_OK(open("f", O_PATH | O_RDWR | O_TRUNC | O_APPEND));
	EXPECT_EQ(fcntl(fd, F_GETFL) & ~0100000, O_PATH);
	EXPECT_ERRNO(read(fd, &c, 1), EBADF);
	EXPECT_ERRNO(write(fd, &c, 1), EBADF);
	EXPECT_ERRNO(pread(fd, &c, 1, 0), EBADF);
	EXPECT_ERRNO(lseek(fd, 0, SEEK_SET), EBADF);
	EXPECT_ERRNO(ftruncate(fd, 0), EBADF);
	EXPECT_ERRNO(fallocate(fd, 0, 0, 1), EBADF);
	EXPECT_ERRNO(fsync(fd), EBADF);
	EXPECT_ERRNO(fchown(fd, 0, 0), EBADF);
	EXPECT_ERRNO(ioctl(fd, 0x5401, &c), EBADF);
	EXPECT_ERRNO(fcntl(fd, F_SETLK, &l), EBADF);
	EXPECT_ERRNO(fcntl(fd, F_SETFL, O_APPEND), EBADF);
	EXPECT_ERRNO(fgetxattr(fd, "user.a", &c, 1), EBADF);
	EXPECT(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED && errno == EBADF);
	EXPECT_OK(fstat(fd, &st));
	EXPECT_OK(fstatat(fd, "", &st, AT_EMPTY_PATH));
	int twin = EXPECT_OK(dup(fd));
	EXPECT_ERRNO(read(twin, &c, 1), EBADF);
	EXPECT_OK(fcntl(fd, F_SETFD, FD_CLOEXEC));
	close(fd);
	fd = EXPECT_OK(open("d", O_PATH));
	EXPECT_ERRNO(syscall(SYS_getdents64, fd, &st, sizeof(st)), EBADF);
	close(EXPECT_OK(openat(fd, "in", O_RDONLY)));
	EXPECT_OK(fchdir(fd));
	EXPECT_OK(access("in", F_OK));
}

TEST(open_path_needs_no_permission_and_reopens)
{
	enter();
	char c, name[64];
	int fd = test_file("f", 10);
	close(fd);
	EXPECT_OK(symlink("f", "s"));
	fd = EXPECT_OK(open("s", O_PATH));
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	int rd = EXPECT_OK(open(name, O_RDONLY));
	EXPECT_EQ(read(rd, &c, 1), 1);
	close(fd);
	fd = EXPECT_OK(open("s", O_PATH | O_NOFOLLOW));
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	EXPECT_ERRNO(open(name, O_RDONLY), ELOOP);
}

TEST(open_directory_flag_and_directories)
{
	enter();
	touch("f");
	EXPECT_OK(mkdir("d", 0755));
	EXPECT_OK(symlink("d", "sd"));
	EXPECT_OK(symlink("f", "sf"));
	close(EXPECT_OK(open("d", O_RDONLY | O_DIRECTORY)));
	close(EXPECT_OK(open("sd", O_RDONLY | O_DIRECTORY)));
	EXPECT_ERRNO(open("sf", O_RDONLY | O_DIRECTORY), ENOTDIR);
	EXPECT_ERRNO(open("f", O_PATH | O_DIRECTORY), ENOTDIR);
	EXPECT_ERRNO(open("sd", O_RDONLY | O_DIRECTORY | O_NOFOLLOW), ENOTDIR);
	EXPECT_ERRNO(open("sd", O_PATH | O_DIRECTORY | O_NOFOLLOW), ENOTDIR);
	close(EXPECT_OK(open("sd/", O_RDONLY | O_NOFOLLOW)));
	EXPECT_ERRNO(open("d", O_RDWR), EISDIR);
	EXPECT_ERRNO(open("d", O_RDONLY | O_CREAT, 0600), EISDIR);
	EXPECT_ERRNO(open("f/", O_RDONLY), ENOTDIR);
	EXPECT_ERRNO(open("sf/", O_RDONLY), ENOTDIR);
	EXPECT_ERRNO(creat("none/", 0600), EISDIR);
	EXPECT_ERRNO(open("f", O_CREAT | O_DIRECTORY | O_RDWR, 0600), EINVAL);
}

TEST(openat_uses_its_directory)
{
	enter();
	EXPECT_OK(mkdir("d", 0755));
	EXPECT_OK(mkdir("e", 0755));
	touch("d/f");
	int d = EXPECT_OK(open("d", O_RDONLY));
	close(EXPECT_OK(openat(d, "f", O_RDONLY)));
	close(EXPECT_OK(openat(d, "../d/f", O_RDONLY)));
	close(EXPECT_OK(openat(-1, "/proc/self/status", O_RDONLY)));
	EXPECT_ERRNO(openat(-1, "f", O_RDONLY), EBADF);
	EXPECT_ERRNO(openat(d, "", O_RDONLY), ENOENT);
	EXPECT_OK(rename("d", "e/moved"));
	close(EXPECT_OK(openat(d, "f", O_RDONLY)));
	close(EXPECT_OK(openat(d, "../moved/f", O_RDONLY)));
	EXPECT_OK(unlink("e/moved/f"));
	EXPECT_OK(rmdir("e/moved"));
	EXPECT_ERRNO(openat(d, "f", O_CREAT | O_WRONLY, 0600), ENOENT);
	int f = EXPECT_OK(open("x", O_CREAT | O_RDWR, 0600));
	EXPECT_ERRNO(openat(f, "y", O_RDONLY), ENOTDIR);
}

TEST(open_tmpfile_is_nameless_until_linked)
{
	enter();
	char name[64], buf[300];
	struct stat st;
	EXPECT_ERRNO(open("none", O_TMPFILE | O_RDWR, 0600), ENOENT);
	EXPECT_ERRNO(open(".", O_TMPFILE | O_RDONLY, 0600), EINVAL);
	touch("f");
	EXPECT_ERRNO(open("f", O_TMPFILE | O_RDWR, 0600), ENOTDIR);
	int fd = EXPECT_OK(open(".", O_TMPFILE | O_RDWR, 0666));
	EXPECT_OK(fstat(fd, &st));
	EXPECT_EQ(st.st_mode, S_IFREG | 0644);
	EXPECT_EQ(st.st_nlink, 0);
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	ssize_t n = EXPECT_OK(readlink(name, buf, sizeof(buf) - 1));
	buf[n] = 0;
	EXPECT(strstr(buf, "(deleted)"));
	int ex = EXPECT_OK(open(".", O_TMPFILE | O_RDWR | O_EXCL, 0600));
	snprintf(name, sizeof(name), "/proc/self/fd/%d", ex);
	EXPECT_ERRNO(linkat(AT_FDCWD, name, AT_FDCWD, "no", AT_SYMLINK_FOLLOW), ENOENT);
	EXPECT_OK(linkat(fd, "", AT_FDCWD, "yes", AT_EMPTY_PATH));
	EXPECT_OK(fstat(fd, &st));
	EXPECT_EQ(st.st_nlink, 1);
}

TEST(open_cloexec_closes_at_exec)
{
	enter();
	touch("f");
	int a = EXPECT_OK(open("f", O_RDONLY | O_CLOEXEC)), b = EXPECT_OK(open("f", O_RDONLY));
	EXPECT_EQ(fcntl(a, F_GETFD), FD_CLOEXEC);
	EXPECT_EQ(fcntl(a, F_GETFL) & O_CLOEXEC, 0);
	char cmd[200];
	snprintf(cmd, sizeof(cmd), "test ! -e /proc/self/fd/%d && test -e /proc/self/fd/%d", a, b);
	pid_t pid = EXPECT_OK(fork());
	if (!pid) {
		execl("/bin/sh", "sh", "-c", cmd, NULL);
		_exit(9);
	}
	int status;
	EXPECT_OK(waitpid(pid, &status, 0));
	EXPECT_EQ(status, 0);
}

TEST(open_noatime_is_for_owners)
{
	enter();
	if (geteuid())
		test_skip("needs root");
	touch("f");
	EXPECT_OK(chmod(".", 0755));
	close(EXPECT_OK(open("f", O_RDONLY | O_NOATIME)));
	pid_t pid = EXPECT_OK(fork());
	if (!pid) {
		EXPECT_OK(setuid(1000));
		close(EXPECT_OK(open("f", O_RDONLY)));
		EXPECT_ERRNO(open("f", O_RDONLY | O_NOATIME), EPERM);
		int fd = EXPECT_OK(open("f", O_RDONLY));
		EXPECT_ERRNO(fcntl(fd, F_SETFL, O_NOATIME), EPERM);
		_exit(0);
	}
	int status;
	EXPECT_OK(waitpid(pid, &status, 0));
	EXPECT_EQ(status, 0);
}

TEST(openat2_beneath_allows_what_stays_inside)
{
	enter();
	EXPECT_OK(mkdir("d", 0755));
	EXPECT_OK(mkdir("d/e", 0755));
	touch("d/f");
	EXPECT_OK(symlink("../f", "d/e/up"));
	EXPECT_OK(symlink("../../out", "d/e/out"));
	EXPECT_OK(symlink("/", "d/root"));
	touch("out");
	int d = EXPECT_OK(open("d", O_PATH));
	close(EXPECT_OK(open_how(d, "e/up", O_RDONLY, 0, RESOLVE_BENEATH)));
	close(EXPECT_OK(open_how(d, "e/../f", O_RDONLY, 0, RESOLVE_BENEATH)));
	close(EXPECT_OK(open_how(d, ".", O_PATH, 0, RESOLVE_BENEATH)));
	EXPECT_ERRNO(open_how(d, "e/out", O_RDONLY, 0, RESOLVE_BENEATH), EXDEV);
	EXPECT_ERRNO(open_how(d, "..", O_PATH, 0, RESOLVE_BENEATH), EXDEV);
	EXPECT_ERRNO(open_how(d, "root/etc", O_PATH, 0, RESOLVE_BENEATH), EXDEV);
	EXPECT_ERRNO(open_how(d, "../new", O_CREAT | O_WRONLY, 0600, RESOLVE_BENEATH), EXDEV);
	EXPECT_ERRNO(access("new", F_OK), ENOENT);
	int in = EXPECT_OK(open_how(d, "root/../..", O_PATH, 0, RESOLVE_IN_ROOT));
	struct stat a, b;
	EXPECT_OK(fstat(in, &a));
	EXPECT_OK(fstat(d, &b));
	EXPECT_EQ(a.st_ino, b.st_ino);
	close(EXPECT_OK(open_how(d, "/new", O_CREAT | O_WRONLY, 0600, RESOLVE_IN_ROOT)));
	EXPECT_OK(access("d/new", F_OK));
	/* The last link is one, too. */
	EXPECT_ERRNO(open_how(d, "root", O_PATH, 0, RESOLVE_NO_SYMLINKS), ELOOP);
	close(EXPECT_OK(open_how(d, "root", O_PATH | O_NOFOLLOW, 0, RESOLVE_NO_SYMLINKS)));
}
