/* Small calls on files: quotas, direct I/O, RWF_*, whiteouts, hints, file flags. */
#include "tests/compat/compat.h"

#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/quota.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/uio.h>

#define TMPFS_TYPE 0x01021994
#define OVERLAY_TYPE 0x794c7630
#ifndef SYS_quotactl_fd
#define SYS_quotactl_fd 443
#endif

static long fs_type(void)
{
	struct statfs st;

	EXPECT_OK(statfs(".", &st));
	return st.f_type;
}

static void enter(void)
{
	EXPECT_OK(chdir(test_dir()));
	umask(022);
}

/* A tmpfs at "m", current. */
static void enter_tmpfs(void)
{
	enter();
	EXPECT_OK(mkdir("m", 0755));
	if (mount("t", "m", "tmpfs", 0, NULL))
		test_skip("may not mount");
	EXPECT_OK(chdir("m"));
}

static void leave_tmpfs(void)
{
	EXPECT_OK(chdir(".."));
	EXPECT_OK(umount2("m", MNT_DETACH));
}

static long quota(int cmd, int type, const char *special)
{
	return syscall(SYS_quotactl, QCMD(cmd, type), special, 0, NULL);
}

TEST(quotas_are_refused)
{
	enter();
	EXPECT_OK(quota(Q_SYNC, USRQUOTA, NULL));
	EXPECT_ERRNO(quota(Q_SYNC, 9, NULL), EINVAL);
	EXPECT_ERRNO(quota(Q_GETQUOTA, USRQUOTA, NULL), ENODEV);
	EXPECT_ERRNO(quota(Q_GETQUOTA, USRQUOTA, "."), ENOTBLK);
	EXPECT_ERRNO(quota(Q_GETQUOTA, USRQUOTA, "none"), ENOENT);
	EXPECT_ERRNO(quota(Q_GETQUOTA, USRQUOTA, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(syscall(SYS_quotactl_fd, -1, QCMD(Q_GETQUOTA, 0), 0, NULL), EBADF);
	EXPECT_ERRNO(syscall(SYS_quotactl_fd, 1, QCMD(Q_GETQUOTA, 9), 0, NULL), EINVAL);
	enter_tmpfs();
	int fd = EXPECT_OK(open(".", O_RDONLY));
	EXPECT_ERRNO(syscall(SYS_quotactl_fd, fd, QCMD(Q_GETQUOTA, 0), 0, NULL), ENOSYS);
	close(fd);
	leave_tmpfs();
}

/* Sizes and offsets must be multiples of the device's block; memory may be anywhere here. */
TEST(direct_io_wants_whole_blocks)
{
	static char buf[8192] __attribute__((aligned(4096)));

	enter();
	if (fs_type() == TMPFS_TYPE || fs_type() == OVERLAY_TYPE)
		test_skip("that file system may have no blocks");
	close(test_file("f", 8192));
	int fd = EXPECT_OK(open("f", O_RDWR | O_DIRECT));
	EXPECT_EQ(pread(fd, buf, 4096, 4096), 4096);
	EXPECT_EQ(pread(fd, buf, 4096, 8192), 0);
	EXPECT_ERRNO(pread(fd, buf, 100, 0), EINVAL);
	EXPECT_ERRNO(pread(fd, buf, 4096, 100), EINVAL);
	EXPECT_ERRNO(pwrite(fd, buf, 100, 0), EINVAL);
	EXPECT_ERRNO(pwrite(fd, buf, 4096, 1), EINVAL);
	struct iovec v[2] = {{buf, 100}, {buf + 4096, 3996}};
	EXPECT_ERRNO(preadv(fd, v, 2, 0), EINVAL);
	EXPECT_EQ(pwrite(fd, buf, 4096, 0), 4096);
	EXPECT_OK(fcntl(fd, F_SETFL, 0));
	EXPECT_EQ(pread(fd, buf, 100, 1), 100);
	EXPECT_OK(fcntl(fd, F_SETFL, O_DIRECT));
	EXPECT_ERRNO(pread(fd, buf, 100, 1), EINVAL);
}

TEST(rwf_flags_of_newer_kernels)
{
	char buf[100] = "";
	struct iovec v = {buf, sizeof(buf)};
	int s[2];

	enter_tmpfs();
	int fd = test_file("f", 100);
	EXPECT_ERRNO(preadv2(fd, &v, 1, 0, 0x40 /* RWF_ATOMIC */), EOPNOTSUPP);
	EXPECT_ERRNO(pwritev2(fd, &v, 1, 0, 0x40), EOPNOTSUPP);
	EXPECT_ERRNO(pwritev2(fd, &v, 1, 0, 0x80 /* RWF_DONTCACHE */), EOPNOTSUPP);
	EXPECT_ERRNO(preadv2(fd, &v, 1, 0, 0x40000000), EOPNOTSUPP);
	close(fd);
	leave_tmpfs();
	EXPECT_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	close(s[1]);
	signal(SIGPIPE, SIG_DFL);
	/* RWF_NOSIGNAL: without the signal that would end us. */
	EXPECT_ERRNO(pwritev2(s[0], &v, 1, -1, 0x100), EPIPE);
}

static void expect_whiteout(const char *name)
{
	struct stat st;

	EXPECT_OK(lstat(name, &st));
	EXPECT(S_ISCHR(st.st_mode));
	EXPECT_EQ(st.st_rdev, 0);
}

static void whiteouts(void)
{
	EXPECT_OK(mknod("w", S_IFCHR | 0600, 0));
	expect_whiteout("w");
	EXPECT_ERRNO(open("w", O_RDONLY), ENXIO);
	close(EXPECT_OK(open("f", O_CREAT | O_RDWR, 0644)));
	EXPECT_OK(renameat2(AT_FDCWD, "f", AT_FDCWD, "g", RENAME_WHITEOUT));
	expect_whiteout("f");
	struct stat st;
	EXPECT_OK(lstat("g", &st));
	EXPECT(S_ISREG(st.st_mode));
	EXPECT_ERRNO(renameat2(AT_FDCWD, "g", AT_FDCWD, "f", RENAME_WHITEOUT | RENAME_EXCHANGE),
		     EINVAL);
	EXPECT_ERRNO(renameat2(AT_FDCWD, "g", AT_FDCWD, "f", RENAME_WHITEOUT | RENAME_NOREPLACE),
		     EEXIST);
	EXPECT_OK(renameat2(AT_FDCWD, "g", AT_FDCWD, "f", RENAME_WHITEOUT));
	expect_whiteout("g");
	EXPECT_OK(unlink("g"));
	EXPECT_OK(unlink("f"));
	EXPECT_OK(unlink("w"));
}

TEST(whiteouts_here)
{
	enter();
	if (fs_type() == OVERLAY_TYPE)
		test_skip("an overlay lets nobody make them");
	whiteouts();
}

TEST(whiteouts_on_tmpfs)
{
	enter_tmpfs();
	whiteouts();
	leave_tmpfs();
}

TEST(whiteouts_need_no_privilege)
{
	enter_tmpfs();
	EXPECT_OK(chmod(".", 0777));
	pid_t pid = EXPECT_OK(fork());
	if (!pid) {
		EXPECT_OK(setresuid(1000, 1000, 1000));
		EXPECT_ERRNO(mknod("n", S_IFCHR | 0666, 0x103), EPERM);
		whiteouts();
		_exit(0);
	}
	int status;
	EXPECT_OK(waitpid(pid, &status, 0));
	EXPECT_EQ(status, 0);
	leave_tmpfs();
}

TEST(write_hints)
{
	uint64_t hint = 99;

	enter();
	int fd = test_file("f", 10), other = EXPECT_OK(open("f", O_RDONLY));
	EXPECT_OK(fcntl(fd, F_GET_RW_HINT, &hint));
	EXPECT_EQ(hint, 0);
	hint = 3;
	EXPECT_OK(fcntl(fd, F_SET_RW_HINT, &hint));
	hint = 0;
	EXPECT_OK(fcntl(other, F_GET_RW_HINT, &hint));
	EXPECT_EQ(hint, 3);
	hint = 6;
	EXPECT_ERRNO(fcntl(fd, F_SET_RW_HINT, &hint), EINVAL);
	EXPECT_ERRNO(fcntl(fd, F_SET_RW_HINT, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(fcntl(fd, F_GET_RW_HINT, BAD_ADDR), EFAULT);
	EXPECT_OK(setresuid(1000, 1000, 1000));
	EXPECT_ERRNO(fcntl(fd, F_SET_RW_HINT, &hint), EPERM);
}

TEST(file_flags_of_tmpfs)
{
	struct fsxattr x;
	struct fiemap map = {.fm_length = ~0ULL};
	int flags = -1;

	enter_tmpfs();
	int fd = test_file("f", 10), dir = EXPECT_OK(open(".", O_RDONLY));
	EXPECT_OK(ioctl(fd, FS_IOC_GETFLAGS, &flags));
	EXPECT_EQ(flags, 0);
	EXPECT_OK(ioctl(dir, FS_IOC_GETFLAGS, &flags));
	EXPECT_ERRNO(ioctl(fd, FS_IOC_GETFLAGS, BAD_ADDR), EFAULT);
	EXPECT_OK(ioctl(fd, FS_IOC_SETFLAGS, &flags));
	EXPECT_ERRNO(ioctl(fd, FS_IOC_SETFLAGS, BAD_ADDR), EFAULT);
	flags = 0x40000000;
	EXPECT_ERRNO(ioctl(fd, FS_IOC_SETFLAGS, &flags), EOPNOTSUPP);
	EXPECT_OK(ioctl(fd, FS_IOC_FSGETXATTR, &x));
	EXPECT_EQ(x.fsx_xflags, 0);
	EXPECT_OK(ioctl(fd, FS_IOC_FSSETXATTR, &x));
	EXPECT_ERRNO(ioctl(fd, FS_IOC_FIEMAP, &map), EOPNOTSUPP);
	int block = 0;
	EXPECT_ERRNO(ioctl(fd, FIBMAP, &block), EINVAL);
	EXPECT_ERRNO(ioctl(fd, FS_IOC_GETVERSION, &flags), ENOTTY);
	close(fd);
	close(dir);
	leave_tmpfs();
}
