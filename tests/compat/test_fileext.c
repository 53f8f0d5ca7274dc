/* Files, the newer calls: RWF_* flags, cachestat, clones, openat2 and O_PATH in detail. */
#include "tests/compat/compat.h"

#include <limits.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <linux/stat.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <sys/xattr.h>

#ifndef RWF_NOAPPEND
#define RWF_NOAPPEND 0x20
#endif
#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif
#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif

static void enter(void)
{
	EXPECT_OK(chdir(test_dir()));
	umask(022);
}

static int make(const char *name, const char *text)
{
	int fd = EXPECT_OK(open(name, O_CREAT | O_RDWR | O_TRUNC, 0644));
	EXPECT_EQ(write(fd, text, strlen(text)), strlen(text));
	return fd;
}

static const char *contents(const char *name)
{
	static char buf[256];
	int fd = EXPECT_OK(open(name, O_RDONLY));
	buf[EXPECT_OK(read(fd, buf, sizeof(buf) - 1))] = 0;
	close(fd);
	return buf;
}

static long put(int fd, const char *s, off_t off, int flags)
{
	struct iovec v = {(void *)s, strlen(s)};
	return syscall(SYS_pwritev2, fd, &v, 1, off, 0, flags);
}

TEST(rwf_noappend_and_append)
{
	enter();
	close(make("f", "0123456789"));
	int fd = EXPECT_OK(open("f", O_WRONLY | O_APPEND));
	EXPECT_EQ(put(fd, "ab", 2, RWF_NOAPPEND), 2);
	EXPECT_STR(contents("f"), "01ab456789");
	EXPECT_EQ(put(fd, "cd", 2, 0), 2);
	EXPECT_STR(contents("f"), "01ab456789cd");
	EXPECT_ERRNO(put(fd, "x", 0, RWF_NOAPPEND | RWF_APPEND), EINVAL);
	int plain = EXPECT_OK(open("f", O_WRONLY));
	EXPECT_EQ(put(plain, "ef", 0, RWF_APPEND), 2);
	EXPECT_EQ(put(plain, "gh", 0, RWF_NOAPPEND), 2);
	EXPECT_STR(contents("f"), "ghab456789cdef");
	EXPECT_EQ(lseek(plain, 0, SEEK_CUR), 0);
	EXPECT_EQ(put(plain, "i", -1, RWF_APPEND), 1);
	EXPECT_EQ(lseek(plain, 0, SEEK_CUR), 15);
	EXPECT_ERRNO(put(plain, "x", 0, 0x40000000), EOPNOTSUPP);
	EXPECT_ERRNO(put(plain, "x", -2, 0), EINVAL);
}

TEST(rwf_nowait_on_a_pipe)
{
	int p[2];
	char c;
	struct iovec v = {&c, 1};
	EXPECT_OK(pipe(p));
	EXPECT_ERRNO(syscall(SYS_preadv2, p[0], &v, 1, -1L, 0L, RWF_NOWAIT), EAGAIN);
	EXPECT_EQ(write(p[1], "x", 1), 1);
	EXPECT_EQ(syscall(SYS_preadv2, p[0], &v, 1, -1L, 0L, RWF_NOWAIT), 1);
	EXPECT_ERRNO(syscall(SYS_preadv2, p[0], &v, 1, 0L, 0L, 0), ESPIPE);
}

struct cs_range {
	uint64_t off, len;
};
struct cs {
	uint64_t cache, dirty, writeback, evicted, recently_evicted;
};

TEST(cachestat_counts_pages)
{
	int fd = test_file("f", 5 * 4096 + 10);
	struct cs_range r = {0, 0};
	struct cs s;
	if (syscall(SYS_cachestat, fd, &r, &s, 0) && errno == ENOSYS)
		test_skip("no cachestat in this kernel");
	EXPECT_EQ(s.cache, 6);
	EXPECT_EQ(s.writeback + s.evicted, 0);
	r = (struct cs_range){4096, 4097};
	EXPECT_OK(syscall(SYS_cachestat, fd, &r, &s, 0));
	EXPECT_EQ(s.cache, 2);
	r = (struct cs_range){1 << 20, 4096};
	EXPECT_OK(syscall(SYS_cachestat, fd, &r, &s, 0));
	EXPECT_EQ(s.cache, 0);
	EXPECT_ERRNO(syscall(SYS_cachestat, fd, &r, &s, 1), EINVAL);
	EXPECT_ERRNO(syscall(SYS_cachestat, -1, &r, &s, 0), EBADF);
	EXPECT_ERRNO(syscall(SYS_cachestat, fd, BAD_ADDR, &s, 0), EFAULT);
	EXPECT_ERRNO(syscall(SYS_cachestat, fd, &r, BAD_ADDR, 0), EFAULT);
}

TEST(clones_are_refused)
{
	enter();
	int a = make("a", "text"), b = make("b", "");
	int dir = EXPECT_OK(open(".", O_RDONLY)), ro = EXPECT_OK(open("b", O_RDONLY));
	int zero = EXPECT_OK(open("/proc/self/status", O_RDONLY));
	EXPECT_ERRNO(ioctl(b, FICLONE, -1), EBADF);
	EXPECT_ERRNO(ioctl(b, FICLONE, zero), EXDEV);
	EXPECT_ERRNO(ioctl(b, FICLONE, dir), EISDIR);
	EXPECT_ERRNO(ioctl(ro, FICLONE, a), EBADF);
	EXPECT_ERRNO(ioctl(b, FICLONERANGE, BAD_ADDR), EFAULT);
	if (!ioctl(b, FICLONE, a))
		test_skip("this file system clones");
	EXPECT_EQ(errno, EOPNOTSUPP);
	struct file_clone_range r = {.src_fd = a};
	EXPECT_ERRNO(ioctl(b, FICLONERANGE, &r), EOPNOTSUPP);
	r.src_fd = -1;
	EXPECT_ERRNO(ioctl(b, FICLONERANGE, &r), EBADF);
}

TEST(path_descriptors_do_little)
{
	enter();
	close(make("f", "text"));
	char buf[64];
	struct stat st;
	int p = EXPECT_OK(open("f", O_PATH));
	EXPECT_ERRNO(read(p, buf, 1), EBADF);
	EXPECT_ERRNO(write(p, buf, 1), EBADF);
	EXPECT_ERRNO(lseek(p, 0, SEEK_SET), EBADF);
	EXPECT_ERRNO(ftruncate(p, 0), EBADF);
	EXPECT_ERRNO(fchmod(p, 0600), EBADF);
	EXPECT_ERRNO(fchown(p, 0, 0), EBADF);
	EXPECT_ERRNO(ioctl(p, FIONREAD, buf), EBADF);
	EXPECT_ERRNO(fsync(p), EBADF);
	EXPECT_ERRNO(fgetxattr(p, "user.x", buf, sizeof(buf)), EBADF);
	EXPECT_ERRNO((long)mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, p, 0), EBADF);
	EXPECT_ERRNO(syscall(SYS_getdents64, p, buf, sizeof(buf)), EBADF);
	EXPECT_ERRNO(fcntl(p, F_SETFL, 0), EBADF);
	EXPECT_EQ(fcntl(p, F_GETFL) & O_PATH, O_PATH);
	EXPECT_OK(fstat(p, &st));
	EXPECT_EQ(st.st_size, 4);
	EXPECT_OK(fstatat(p, "", &st, AT_EMPTY_PATH));
	EXPECT_OK(linkat(p, "", AT_FDCWD, "hard", AT_EMPTY_PATH));
	EXPECT_STR(contents("hard"), "text");
	sprintf(buf, "/proc/self/fd/%d", p);
	EXPECT_OK(linkat(AT_FDCWD, buf, AT_FDCWD, "hard2", AT_SYMLINK_FOLLOW));
	EXPECT_OK(chmod(buf, 0600));
	int again = EXPECT_OK(open(buf, O_RDWR));
	EXPECT_EQ(write(again, "TEXT", 4), 4);
	EXPECT_STR(contents("f"), "TEXT");
	EXPECT_ERRNO(open(buf, O_RDWR | O_CREAT | O_EXCL, 0600), EEXIST);
	EXPECT_ERRNO(open(buf, O_RDONLY | O_NOFOLLOW), ELOOP);
	EXPECT_OK(symlink("f", "s"));
	int l = EXPECT_OK(open("s", O_PATH | O_NOFOLLOW));
	EXPECT_OK(fstat(l, &st));
	EXPECT(S_ISLNK(st.st_mode));
	EXPECT_EQ(readlinkat(l, "", buf, sizeof(buf)), 1);
	sprintf(buf, "/proc/self/fd/%d", l);
	EXPECT_ERRNO(open(buf, O_RDONLY), ELOOP);
}

TEST(fchmodat2_and_faccessat2)
{
	enter();
	int fd = make("f", "x");
	struct stat st;
	EXPECT_OK(symlink("f", "s"));
	int p = EXPECT_OK(open("f", O_PATH));
	if (syscall(SYS_fchmodat2, p, "", 0640, AT_EMPTY_PATH) && errno == ENOSYS)
		test_skip("no fchmodat2 in this kernel");
	EXPECT_OK(fstat(fd, &st));
	EXPECT_EQ(st.st_mode & 07777, 0640);
	EXPECT_ERRNO(syscall(SYS_fchmodat2, AT_FDCWD, "s", 0600, AT_SYMLINK_NOFOLLOW), EOPNOTSUPP);
	EXPECT_OK(syscall(SYS_fchmodat2, AT_FDCWD, "f", 0600, AT_SYMLINK_NOFOLLOW));
	EXPECT_ERRNO(syscall(SYS_fchmodat2, AT_FDCWD, "f", 0600, 0x8000), EINVAL);
	EXPECT_OK(syscall(SYS_faccessat2, p, "", R_OK | W_OK, AT_EMPTY_PATH));
	EXPECT_OK(syscall(SYS_faccessat2, AT_FDCWD, "s", F_OK, AT_SYMLINK_NOFOLLOW | AT_EACCESS));
	EXPECT_ERRNO(syscall(SYS_faccessat2, AT_FDCWD, "f", X_OK, 0), EACCES);
	EXPECT_ERRNO(syscall(SYS_faccessat2, AT_FDCWD, "f", 8, 0), EINVAL);
	EXPECT_ERRNO(syscall(SYS_faccessat2, AT_FDCWD, "f", R_OK, 0x8000), EINVAL);
}

static long how_open(int dir, const char *name, int flags, uint64_t resolve)
{
	struct open_how how = {.flags = (uint64_t)flags, .resolve = resolve};
	return syscall(SYS_openat2, dir, name, &how, sizeof(how));
}

TEST(openat2_resolve_flags)
{
	enter();
	EXPECT_OK(mkdir("d", 0755));
	close(make("d/f", "x"));
	close(make("out", "x"));
	EXPECT_OK(symlink("f", "d/in"));
	EXPECT_OK(symlink("../out", "d/up"));
	EXPECT_OK(symlink("/f", "d/abs"));
	int d = EXPECT_OK(open("d", O_RDONLY));
	close(EXPECT_OK(how_open(d, "in", O_RDONLY, RESOLVE_BENEATH)));
	EXPECT_ERRNO(how_open(d, "up", O_RDONLY, RESOLVE_BENEATH), EXDEV);
	EXPECT_ERRNO(how_open(d, "abs", O_RDONLY, RESOLVE_BENEATH), EXDEV);
	EXPECT_ERRNO(how_open(d, "/f", O_RDONLY, RESOLVE_BENEATH), EXDEV);
	EXPECT_ERRNO(how_open(d, "..", O_RDONLY, RESOLVE_BENEATH), EXDEV);
	close(EXPECT_OK(how_open(d, "abs", O_RDONLY, RESOLVE_IN_ROOT)));
	close(EXPECT_OK(how_open(d, "/../../f", O_RDONLY, RESOLVE_IN_ROOT)));
	EXPECT_ERRNO(how_open(d, "up", O_RDONLY, RESOLVE_IN_ROOT), ENOENT);
	EXPECT_ERRNO(how_open(d, "in", O_RDONLY, RESOLVE_NO_SYMLINKS), ELOOP);
	EXPECT_ERRNO(how_open(d, "in", O_RDONLY | O_NOFOLLOW, RESOLVE_NO_SYMLINKS), ELOOP);
	close(EXPECT_OK(how_open(d, "in", O_PATH | O_NOFOLLOW, RESOLVE_NO_SYMLINKS)));
	char magic[64];
	sprintf(magic, "/proc/self/fd/%d", d);
	EXPECT_ERRNO(how_open(d, magic, O_RDONLY, RESOLVE_NO_MAGICLINKS), ELOOP);
	close(EXPECT_OK(how_open(d, magic, O_RDONLY, 0)));
	EXPECT_ERRNO(how_open(d, "/proc/self/status", O_RDONLY, RESOLVE_NO_XDEV), EXDEV);
	EXPECT_ERRNO(how_open(d, "f", O_RDONLY, RESOLVE_BENEATH | RESOLVE_IN_ROOT), EINVAL);
	EXPECT_ERRNO(how_open(d, "f", O_RDONLY, 0x100), EINVAL);
	EXPECT_ERRNO(how_open(d, "f", O_RDWR | O_TRUNC, RESOLVE_CACHED), EAGAIN);
	long fd = how_open(d, "f", O_RDONLY, RESOLVE_CACHED);
	EXPECT(fd >= 0 || errno == EAGAIN);
}

static long stx(int dir, const char *name, int flags, unsigned mask, struct statx *sx)
{
	memset(sx, 0x5a, sizeof(*sx));
	return syscall(SYS_statx, dir, name, flags, mask, sx);
}

TEST(statx_masks_and_attributes)
{
	enter();
	int fd = make("f", "text");
	struct statx sx;
	EXPECT_OK(stx(AT_FDCWD, "f", 0, STATX_BASIC_STATS | STATX_BTIME, &sx));
	EXPECT_EQ(sx.stx_mask & STATX_BASIC_STATS, STATX_BASIC_STATS);
	EXPECT_EQ(sx.stx_size, 4);
	EXPECT_EQ(sx.stx_attributes & STATX_ATTR_MOUNT_ROOT, 0);
	EXPECT(sx.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT);
	if (sx.stx_mask & STATX_BTIME)
		EXPECT(sx.stx_btime.tv_sec > 1000000000);
	EXPECT_OK(stx(AT_FDCWD, "/proc", 0, STATX_MNT_ID, &sx));
	EXPECT(sx.stx_mask & STATX_MNT_ID);
	EXPECT(sx.stx_attributes & STATX_ATTR_MOUNT_ROOT);
	unsigned long long proc_id = sx.stx_mnt_id;
	EXPECT_OK(stx(AT_FDCWD, "/proc/self/status", 0, STATX_MNT_ID, &sx));
	EXPECT_EQ(sx.stx_mnt_id, proc_id);
	EXPECT_OK(stx(fd, "", AT_EMPTY_PATH, 0, &sx));
	EXPECT_EQ(sx.stx_ino != 0, 1);
	EXPECT_OK(stx(fd, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_SIZE, &sx));
	EXPECT_ERRNO(stx(fd, "", 0, 0, &sx), ENOENT);
	EXPECT_ERRNO(stx(AT_FDCWD, "f", 0, STATX__RESERVED, &sx), EINVAL);
	EXPECT_ERRNO(stx(AT_FDCWD, "f", AT_STATX_SYNC_TYPE, 0, &sx), EINVAL);
	EXPECT_ERRNO(stx(AT_FDCWD, "f", 0x40000000, 0, &sx), EINVAL);
	EXPECT_ERRNO(syscall(SYS_statx, AT_FDCWD, "f", 0, 0, BAD_ADDR), EFAULT);
}

TEST(advice_is_checked)
{
	enter();
	int fd = make("f", "text"), p[2];
	EXPECT_OK(pipe(p));
	EXPECT_EQ(posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL), 0);
	EXPECT_EQ(posix_fadvise(fd, 0, 4, POSIX_FADV_DONTNEED), 0);
	EXPECT_EQ(posix_fadvise(fd, 0, -1, POSIX_FADV_NORMAL), EINVAL);
	EXPECT_EQ(posix_fadvise(fd, 0, 0, 77), EINVAL);
	EXPECT_EQ(posix_fadvise(p[0], 0, 0, POSIX_FADV_NORMAL), ESPIPE);
	EXPECT_EQ(posix_fadvise(-1, 0, 0, POSIX_FADV_NORMAL), EBADF);
	EXPECT_OK(readahead(fd, 0, 100));
	EXPECT_ERRNO(readahead(p[0], 0, 100), EINVAL);
	EXPECT_ERRNO(readahead(-1, 0, 100), EBADF);
	int wr = EXPECT_OK(open("f", O_WRONLY));
	EXPECT_ERRNO(readahead(wr, 0, 100), EBADF);
	EXPECT_OK(sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE));
	EXPECT_ERRNO(sync_file_range(fd, 0, 0, 8), EINVAL);
	EXPECT_ERRNO(sync_file_range(fd, -1, 0, 0), EINVAL);
	EXPECT_ERRNO(sync_file_range(p[0], 0, 0, 0), ESPIPE);
}

TEST(fallocate_modes_that_make_no_sense)
{
	enter();
	int fd = make("f", "text");
	EXPECT_ERRNO(fallocate(fd, 0, -1, 10), EINVAL);
	EXPECT_ERRNO(fallocate(fd, 0, 0, 0), EINVAL);
	EXPECT_ERRNO(fallocate(fd, 0, INT64_MAX - 4, 10), EFBIG);
	EXPECT_ERRNO(fallocate(fd, 0x1000, 0, 10), EOPNOTSUPP);
	EXPECT_ERRNO(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 10), EOPNOTSUPP);
	EXPECT_ERRNO(fallocate(fd, FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_KEEP_SIZE, 0, 4096),
		     EOPNOTSUPP);
	EXPECT_ERRNO(fallocate(fd, FALLOC_FL_INSERT_RANGE | FALLOC_FL_ZERO_RANGE, 0, 4096),
		     EOPNOTSUPP);
	int ro = EXPECT_OK(open("f", O_RDONLY)), dir = EXPECT_OK(open(".", O_RDONLY));
	EXPECT_ERRNO(fallocate(ro, 0, 0, 10), EBADF);
	EXPECT_ERRNO(fallocate(dir, 0, 0, 10), EBADF);
	int p[2];
	EXPECT_OK(pipe(p));
	EXPECT_ERRNO(fallocate(p[1], 0, 0, 10), ESPIPE);
	int null = EXPECT_OK(open("/dev/null", O_WRONLY));
	EXPECT_ERRNO(fallocate(null, 0, 0, 10), ENODEV);
}

TEST(whiteout_is_a_device)
{
	enter();
	close(make("f", "x"));
	struct stat st;
	if (syscall(SYS_renameat2, AT_FDCWD, "f", AT_FDCWD, "g", RENAME_WHITEOUT))
		test_skip("no whiteouts here");
	EXPECT_OK(stat("g", &st));
	if (stat("f", &st))
		test_skip("the file system keeps whiteouts to itself");
	EXPECT(S_ISCHR(st.st_mode));
	EXPECT_EQ(st.st_rdev, 0);
}
