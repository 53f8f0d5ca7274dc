/* open_tree(2), move_mount(2), fsopen(2) and its family, mount_setattr(2), statmount(2),
 * listmount(2); and file systems that guests mount. */
#include <linux/mount.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

#include "play.h"

#ifndef MOVE_MOUNT_BENEATH
#define MOVE_MOUNT_BENEATH 0x200
#endif
#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif

/* statfs(2), f_flags */
#define ST_RDONLY_ 1
#define ST_NOSUID_ 2
#define ST_NODEV_ 4

static void put_text(const char *name, const char *text)
{
	int fd = open(name, O_CREAT | O_WRONLY | O_TRUNC, 0644);
	EXPECT(fd >= 0);
	EXPECT_EQ(write(fd, text, strlen(text)), (long)strlen(text));
	close(fd);
}

static const char *get_text(const char *name)
{
	static char text[100];
	int fd = open(name, O_RDONLY);

	EXPECT(fd >= 0);
	ssize_t n = read(fd, text, sizeof(text) - 1);
	EXPECT(n >= 0);
	text[n] = 0;
	close(fd);
	return text;
}

static long open_tree_(int fd, const char *name, unsigned flags)
{
	return syscall(SYS_open_tree, fd, name, flags);
}

static long move_mount_(int from, const char *name, int to, const char *where, unsigned flags)
{
	return syscall(SYS_move_mount, from, name, to, where, flags);
}

static long fsconfig_(int fd, unsigned cmd, const char *key, const void *value, int aux)
{
	return syscall(SYS_fsconfig, fd, cmd, key, value, aux);
}

static long setattr_(int fd, const char *name, unsigned flags, struct mount_attr *a)
{
	return syscall(SYS_mount_setattr, fd, name, flags, a, sizeof(*a));
}

TEST(open_tree_hostile_arguments)
{
	enter();
	EXPECT_ERRNO(open_tree_(AT_FDCWD, "a", 0x40000000), EINVAL);
	EXPECT_ERRNO(open_tree_(AT_FDCWD, "a", AT_RECURSIVE), EINVAL);
	EXPECT_ERRNO(open_tree_(AT_FDCWD, BAD_ADDR, OPEN_TREE_CLONE), EFAULT);
	EXPECT_ERRNO(open_tree_(AT_FDCWD, "none", OPEN_TREE_CLONE), ENOENT);
	EXPECT_ERRNO(open_tree_(99, "a", OPEN_TREE_CLONE), EBADF);
	EXPECT_ERRNO(move_mount_(AT_FDCWD, "a", AT_FDCWD, "b", 0x80000000), EINVAL);
	EXPECT_ERRNO(move_mount_(AT_FDCWD, "a", AT_FDCWD, BAD_ADDR, 0), EFAULT);
	EXPECT_ERRNO(move_mount_(AT_FDCWD, BAD_ADDR, AT_FDCWD, "b", 0), EFAULT);
	EXPECT_ERRNO(move_mount_(AT_FDCWD, "a", AT_FDCWD, "b", 0), EINVAL); /* no mount */
	leave();
}

TEST(open_tree_clone_is_nowhere_until_moved)
{
	enter();
	EXPECT(!mkdir("a/m", 0755));
	mount_tmpfs("a/m");
	int one = EXPECT_OK(open_tree_(AT_FDCWD, "a", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
	EXPECT_EQ(fcntl(one, F_GETFD), FD_CLOEXEC);
	EXPECT_EQ(fcntl(one, F_GETFL) & O_PATH, O_PATH);
	int all = EXPECT_OK(open_tree_(AT_FDCWD, "a", OPEN_TREE_CLONE | AT_RECURSIVE));
	EXPECT(faccessat(one, "m", F_OK, 0) == 0);
	EXPECT(faccessat(one, "m/in", F_OK, 0) == -1);
	EXPECT(faccessat(all, "m/in", F_OK, 0) == 0);
	EXPECT(!move_mount_(all, "", AT_FDCWD, "b", MOVE_MOUNT_F_EMPTY_PATH));
	EXPECT(exists("b/m/in"));
	/* It is in the namespace now: once more moves it on. */
	EXPECT(!move_mount_(all, "", AT_FDCWD, "c", MOVE_MOUNT_F_EMPTY_PATH));
	EXPECT(exists("c/m/in") && !exists("b/m"));
	close(all);
	EXPECT(exists("c/m/in"));
	close(one); /* and this goes */
	EXPECT(!umount2("c", MNT_DETACH));
	EXPECT(exists("a/m/in"));
	leave();
}

TEST(open_tree_without_clone_is_a_path)
{
	enter();
	mount_tmpfs("a");
	int fd = EXPECT_OK(open_tree_(AT_FDCWD, "a", 0));
	EXPECT_EQ(fcntl(fd, F_GETFD), 0);
	EXPECT(!move_mount_(fd, "", AT_FDCWD, "b", MOVE_MOUNT_F_EMPTY_PATH));
	EXPECT(exists("b/in") && !exists("a/in"));
	close(fd);
	leave();
}

TEST(open_tree_keeps_rules_of_binds)
{
	enter();
	mount_tmpfs("a");
	EXPECT(!mount(NULL, "a", NULL, MS_UNBINDABLE, NULL));
	EXPECT_ERRNO(open_tree_(AT_FDCWD, "a", OPEN_TREE_CLONE), EINVAL);
	EXPECT(!mount(NULL, "a", NULL, MS_SHARED, NULL));
	int fd = EXPECT_OK(open_tree_(AT_FDCWD, "a", OPEN_TREE_CLONE));
	make_file("f");
	EXPECT_ERRNO(move_mount_(fd, "", AT_FDCWD, "f", MOVE_MOUNT_F_EMPTY_PATH), EINVAL);
	EXPECT(!move_mount_(fd, "", AT_FDCWD, "b", MOVE_MOUNT_F_EMPTY_PATH));
	EXPECT(!mkdir("a/m", 0755));
	mount_tmpfs("a/m"); /* a copy is a peer */
	EXPECT(exists("b/m/in"));
	close(fd);
	leave();
}

TEST(move_mount_beneath)
{
	enter();
	mount_tmpfs("a");
	EXPECT(!mount("under", "b", "tmpfs", 0, "size=64k"));
	make_file("b/under");
	int fd = EXPECT_OK(open_tree_(AT_FDCWD, "b", OPEN_TREE_CLONE));
	if (move_mount_(fd, "", AT_FDCWD, "a", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_BENEATH)) {
		EXPECT_EQ(errno, EINVAL);
		test_skip("no MOVE_MOUNT_BENEATH before Linux 6.5");
	}
	EXPECT(exists("a/in") && !exists("a/under"));
	EXPECT(!umount("a"));
	EXPECT(!exists("a/in") && exists("a/under"));
	close(fd);
	fd = EXPECT_OK(open_tree_(AT_FDCWD, "b", OPEN_TREE_CLONE));
	EXPECT_ERRNO(
		move_mount_(fd, "", AT_FDCWD, "c", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_BENEATH),
		EINVAL); /* nothing is there */
	leave();
}

TEST(move_mount_set_group)
{
	enter();
	mount_tmpfs("a");
	EXPECT(!mkdir("a/m", 0755));
	EXPECT(!mount("a", "b", NULL, MS_BIND, NULL));
	mount_tmpfs("c");
	EXPECT_ERRNO(move_mount_(AT_FDCWD, "a", AT_FDCWD, "b", 0x100), EINVAL); /* a has none */
	EXPECT(!mount(NULL, "a", NULL, MS_SHARED, NULL));
	EXPECT_ERRNO(move_mount_(AT_FDCWD, "a", AT_FDCWD, "c", 0x100), EINVAL);
	EXPECT(!move_mount_(AT_FDCWD, "a", AT_FDCWD, "b", 0x100));
	mount_tmpfs("a/m");
	EXPECT(exists("b/m/in"));
	leave();
}

TEST(fsopen_hostile_arguments)
{
	enter();
	EXPECT_ERRNO(syscall(SYS_fsopen, BAD_ADDR, 0), EFAULT);
	EXPECT_ERRNO(syscall(SYS_fsopen, "tmpfs", 2), EINVAL);
	EXPECT_ERRNO(syscall(SYS_fsopen, "no-such-fs", 0), ENODEV);
	int fd = EXPECT_OK(syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC));
	EXPECT_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
	EXPECT_ERRNO(fsconfig_(-1, FSCONFIG_SET_FLAG, "ro", NULL, 0), EINVAL);
	EXPECT_ERRNO(fsconfig_(99, FSCONFIG_SET_FLAG, "ro", NULL, 0), EBADF);
	EXPECT_ERRNO(fsconfig_(0, FSCONFIG_SET_FLAG, "ro", NULL, 0), EINVAL);
	EXPECT_ERRNO(fsconfig_(fd, 77, NULL, NULL, 0), EOPNOTSUPP);
	EXPECT_ERRNO(fsconfig_(fd, FSCONFIG_SET_FLAG, NULL, NULL, 0), EINVAL);
	EXPECT_ERRNO(fsconfig_(fd, FSCONFIG_SET_FLAG, "ro", "x", 0), EINVAL);
	EXPECT_ERRNO(fsconfig_(fd, FSCONFIG_SET_FLAG, "ro", NULL, 1), EINVAL);
	EXPECT_ERRNO(fsconfig_(fd, FSCONFIG_SET_STRING, "size", NULL, 0), EINVAL);
	EXPECT_ERRNO(fsconfig_(fd, FSCONFIG_SET_STRING, BAD_ADDR, "x", 0), EFAULT);
	EXPECT_ERRNO(fsconfig_(fd, FSCONFIG_SET_STRING, "size", BAD_ADDR, 0), EFAULT);
	EXPECT_ERRNO(fsconfig_(fd, FSCONFIG_SET_BINARY, "size", "x", 0), EINVAL);
	EXPECT_ERRNO(fsconfig_(fd, FSCONFIG_CMD_CREATE, "x", NULL, 0), EINVAL);
	char longer[300];
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = 0;
	EXPECT_ERRNO(fsconfig_(fd, FSCONFIG_SET_STRING, longer, "x", 0), EINVAL);
	EXPECT_ERRNO(fsconfig_(fd, FSCONFIG_SET_STRING, "size", longer, 0), EINVAL);
	EXPECT_ERRNO(syscall(SYS_fsmount, fd, 0, 0), EINVAL); /* nothing made yet */
	EXPECT_ERRNO(syscall(SYS_fsmount, 99, 0, 0), EBADF);
	EXPECT_ERRNO(syscall(SYS_fsmount, 0, 0, 0), EINVAL);
	EXPECT_ERRNO(syscall(SYS_fsmount, fd, 2, 0), EINVAL);
	EXPECT_ERRNO(syscall(SYS_fsmount, fd, 0, 0x80000000), EINVAL);
	EXPECT_ERRNO(syscall(SYS_fspick, AT_FDCWD, BAD_ADDR, 0), EFAULT);
	EXPECT_ERRNO(syscall(SYS_fspick, AT_FDCWD, "a", 0x100), EINVAL);
	EXPECT_ERRNO(syscall(SYS_fspick, AT_FDCWD, "a", 0), EINVAL); /* no mount */
	leave();
}

TEST(fsopen_to_mounted_tmpfs)
{
	struct statfs sf;

	enter();
	int fs = EXPECT_OK(syscall(SYS_fsopen, "tmpfs", 0));
	EXPECT(!fsconfig_(fs, FSCONFIG_SET_STRING, "source", "from here", 0));
	EXPECT_ERRNO(fsconfig_(fs, FSCONFIG_SET_STRING, "source", "again", 0), EINVAL);
	EXPECT(!fsconfig_(fs, FSCONFIG_SET_STRING, "size", "128k", 0));
	EXPECT(!fsconfig_(fs, FSCONFIG_SET_STRING, "mode", "0700", 0));
	EXPECT_ERRNO(fsconfig_(fs, FSCONFIG_SET_STRING, "sise", "1", 0), EINVAL);
	EXPECT(!fsconfig_(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0));
	EXPECT_ERRNO(fsconfig_(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0), EBUSY);
	EXPECT_ERRNO(fsconfig_(fs, FSCONFIG_SET_STRING, "size", "1m", 0), EBUSY);
	int m = EXPECT_OK(syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC,
				  MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOATIME));
	EXPECT_EQ(fcntl(m, F_GETFD), FD_CLOEXEC);
	EXPECT_ERRNO(syscall(SYS_fsmount, fs, 0, 0), EBUSY);
	int fd = openat(m, "early", O_CREAT | O_WRONLY, 0600); /* before it is anywhere */
	EXPECT(fd >= 0);
	close(fd);
	EXPECT(!move_mount_(m, "", AT_FDCWD, "a", MOVE_MOUNT_F_EMPTY_PATH));
	EXPECT(exists("a/early"));
	EXPECT(!statfs("a", &sf));
	EXPECT_EQ(sf.f_blocks * sf.f_bsize, 128 << 10);
	EXPECT_EQ(sf.f_flags & (ST_NOSUID_ | ST_NODEV_), ST_NOSUID_ | ST_NODEV_);
	struct stat st;
	EXPECT(!stat("a", &st));
	EXPECT_EQ(st.st_mode & 07777, 0700);
	/* The context goes on about what was made. */
	EXPECT(!fsconfig_(fs, FSCONFIG_SET_STRING, "size", "256k", 0));
	EXPECT(!fsconfig_(fs, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0));
	EXPECT(!statfs("a", &sf));
	EXPECT_EQ(sf.f_blocks * sf.f_bsize, 256 << 10);
	close(m);
	close(fs);
	EXPECT(!umount("a"));
	leave();
}

TEST(fsopen_bad_values_fail_and_stay_failed)
{
	enter();
	int fs = EXPECT_OK(syscall(SYS_fsopen, "overlay", 0));
	EXPECT(!fsconfig_(fs, FSCONFIG_SET_STRING, "lowerdir", "a", 0) || errno);
	EXPECT(fsconfig_(fs, FSCONFIG_SET_STRING, "upperdir", "none-there", 0) ||
	       fsconfig_(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0));
	EXPECT_ERRNO(syscall(SYS_fsmount, fs, 0, 0), EINVAL);
	leave();
}

TEST(fsmount_dropped_unmounted_is_gone)
{
	enter();
	int fs = EXPECT_OK(syscall(SYS_fsopen, "tmpfs", 0));
	EXPECT(!fsconfig_(fs, FSCONFIG_SET_FLAG, "ro", NULL, 0));
	EXPECT(!fsconfig_(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0));
	int m = EXPECT_OK(syscall(SYS_fsmount, fs, 0, 0));
	EXPECT_ERRNO(openat(m, "x", O_CREAT | O_WRONLY, 0600), EROFS);
	int in = openat(m, ".", O_RDONLY | O_DIRECTORY);
	EXPECT(in >= 0);
	close(m);
	close(fs);
	/* Who is in it stays, and it is nowhere. */
	EXPECT_ERRNO(move_mount_(in, "", AT_FDCWD, "a", MOVE_MOUNT_F_EMPTY_PATH), EINVAL);
	EXPECT_ERRNO(openat(in, "..", O_RDONLY | O_NOFOLLOW | O_CREAT, 0600), EISDIR);
	close(in);
	leave();
}

TEST(fspick_reconfigures)
{
	enter();
	mount_tmpfs("a");
	int fs = EXPECT_OK(syscall(SYS_fspick, AT_FDCWD, "a", FSPICK_CLOEXEC));
	EXPECT_ERRNO(fsconfig_(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0), EBUSY);
	EXPECT(!fsconfig_(fs, FSCONFIG_SET_FLAG, "ro", NULL, 0));
	EXPECT(!fsconfig_(fs, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0));
	EXPECT_ERRNO(open("a/x", O_CREAT | O_WRONLY, 0600), EROFS);
	EXPECT(!fsconfig_(fs, FSCONFIG_SET_FLAG, "rw", NULL, 0));
	EXPECT(!fsconfig_(fs, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0));
	make_file("a/x");
	close(fs);
	leave();
}

TEST(mount_setattr_hostile_arguments)
{
	struct mount_attr a = {.attr_set = MOUNT_ATTR_RDONLY};
	char big[8192] = {0};

	enter();
	mount_tmpfs("a");
	EXPECT_ERRNO(syscall(SYS_mount_setattr, AT_FDCWD, "a", 0, &a, 16), EINVAL);
	EXPECT_ERRNO(syscall(SYS_mount_setattr, AT_FDCWD, "a", 0, big, 8192), E2BIG);
	EXPECT_ERRNO(syscall(SYS_mount_setattr, AT_FDCWD, "a", 0, BAD_ADDR, sizeof(a)), EFAULT);
	EXPECT_ERRNO(syscall(SYS_mount_setattr, AT_FDCWD, BAD_ADDR, 0, &a, sizeof(a)), EFAULT);
	EXPECT_ERRNO(syscall(SYS_mount_setattr, AT_FDCWD, "a", 0x40, &a, sizeof(a)), EINVAL);
	memcpy(big, &a, sizeof(a));
	EXPECT(!syscall(SYS_mount_setattr, AT_FDCWD, "a", 0, big, 64));
	big[63] = 1;
	EXPECT_ERRNO(syscall(SYS_mount_setattr, AT_FDCWD, "a", 0, big, 64), E2BIG);
	a = (struct mount_attr){.attr_set = 1ULL << 40};
	EXPECT_ERRNO(setattr_(AT_FDCWD, "a", 0, &a), EINVAL);
	a = (struct mount_attr){.propagation = MS_SHARED | MS_PRIVATE};
	EXPECT_ERRNO(setattr_(AT_FDCWD, "a", 0, &a), EINVAL);
	a = (struct mount_attr){.attr_set = MOUNT_ATTR_NOATIME}; /* without clearing first */
	EXPECT_ERRNO(setattr_(AT_FDCWD, "a", 0, &a), EINVAL);
	a = (struct mount_attr){.attr_clr = MOUNT_ATTR_NOATIME};
	EXPECT_ERRNO(setattr_(AT_FDCWD, "a", 0, &a), EINVAL);
	a = (struct mount_attr){.attr_set = MOUNT_ATTR_NOATIME | MOUNT_ATTR_STRICTATIME,
				.attr_clr = MOUNT_ATTR__ATIME};
	EXPECT_ERRNO(setattr_(AT_FDCWD, "a", 0, &a), EINVAL);
	a = (struct mount_attr){.attr_set = MOUNT_ATTR_RDONLY};
	EXPECT_ERRNO(setattr_(AT_FDCWD, "b", 0, &a), EINVAL); /* no mount */
	a = (struct mount_attr){0};
	EXPECT(!setattr_(AT_FDCWD, "none there", 0, &a)); /* nothing is nothing */
	leave();
}

TEST(mount_setattr_of_a_tree_is_all_or_nothing)
{
	struct mount_attr ro = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID};
	struct statfs sf;

	enter();
	mount_tmpfs("a");
	EXPECT(!mkdir("a/m", 0755));
	mount_tmpfs("a/m");
	int fd = open("a/m/in", O_WRONLY);
	EXPECT(fd >= 0);
	EXPECT_ERRNO(setattr_(AT_FDCWD, "a", AT_RECURSIVE, &ro), EBUSY);
	make_file("a/x");
	EXPECT(!statfs("a", &sf));
	EXPECT_EQ(sf.f_flags & (ST_RDONLY_ | ST_NOSUID_), 0);
	close(fd);
	EXPECT(!setattr_(AT_FDCWD, "a", AT_RECURSIVE, &ro));
	EXPECT_ERRNO(unlink("a/x"), EROFS);
	EXPECT_ERRNO(unlink("a/m/in"), EROFS);
	struct mount_attr rw = {.attr_clr = MOUNT_ATTR_RDONLY, .propagation = MS_SHARED};
	EXPECT(!setattr_(AT_FDCWD, "a", 0, &rw));
	EXPECT(!unlink("a/x"));
	EXPECT_ERRNO(unlink("a/m/in"), EROFS);
	EXPECT(!statfs("a", &sf));
	EXPECT_EQ(sf.f_flags & (ST_RDONLY_ | ST_NOSUID_), ST_NOSUID_);
	leave();
}

TEST(mount_setattr_of_what_is_nowhere)
{
	struct mount_attr ro = {.attr_set = MOUNT_ATTR_RDONLY};

	enter();
	mount_tmpfs("a");
	int fd = EXPECT_OK(open_tree_(AT_FDCWD, "a", OPEN_TREE_CLONE));
	EXPECT(!setattr_(fd, "", AT_EMPTY_PATH, &ro));
	EXPECT_ERRNO(unlinkat(fd, "in", 0), EROFS);
	EXPECT(!move_mount_(fd, "", AT_FDCWD, "b", MOVE_MOUNT_F_EMPTY_PATH));
	EXPECT_ERRNO(unlink("b/in"), EROFS);
	EXPECT(!unlink("a/in"));
	leave();
}

/* ---- statmount, listmount ---- */

struct id_req {
	uint32_t size, spare;
	uint64_t id, param, ns;
};
#define SYS_STATMOUNT 457
#define SYS_LISTMOUNT 458

static uint64_t unique_id(const char *name)
{
	struct {
		uint32_t mask, pad[35];
		uint64_t mnt_id, rest[13];
	} stx = {0};

	EXPECT(!syscall(SYS_statx, AT_FDCWD, name, 0, 0x4000 /* STATX_MNT_ID_UNIQUE */, &stx));
	if (!(stx.mask & 0x4000))
		test_skip("no STATX_MNT_ID_UNIQUE before Linux 6.8");
	return stx.mnt_id;
}

TEST(listmount_lists_what_is_below)
{
	uint64_t ids[8];
	struct id_req r = {.size = 24};

	enter();
	mount_tmpfs("a");
	EXPECT(!mkdir("a/m", 0755));
	mount_tmpfs("a/m");
	mount_tmpfs("b");
	r.id = unique_id(".");
	if (syscall(SYS_LISTMOUNT, &r, ids, 8, 0) == -1 && errno == ENOSYS)
		test_skip("no listmount before Linux 6.8");
	EXPECT_EQ(syscall(SYS_LISTMOUNT, &r, ids, 8, 0), 3);
	EXPECT(ids[0] == unique_id("a") && ids[1] == unique_id("a/m") && ids[2] == unique_id("b"));
	EXPECT_EQ(syscall(SYS_LISTMOUNT, &r, ids, 2, 0), 2);
	r.param = ids[1];
	EXPECT_EQ(syscall(SYS_LISTMOUNT, &r, ids, 8, 0), 1);
	EXPECT(ids[0] == unique_id("b"));
	r.param = 0;
	EXPECT_ERRNO(syscall(SYS_LISTMOUNT, &r, ids, 8, 0x80), EINVAL);
	EXPECT_ERRNO(syscall(SYS_LISTMOUNT, BAD_ADDR, ids, 8, 0), EFAULT);
	EXPECT_ERRNO(syscall(SYS_LISTMOUNT, &r, BAD_ADDR, 8, 0), EFAULT);
	EXPECT_ERRNO(syscall(SYS_LISTMOUNT, &r, ids, 1UL << 60, 0), EOVERFLOW);
	r.size = 8;
	EXPECT_ERRNO(syscall(SYS_LISTMOUNT, &r, ids, 8, 0), EINVAL);
	r.size = 24;
	r.id = unique_id("a") + 1000000;
	EXPECT_ERRNO(syscall(SYS_LISTMOUNT, &r, ids, 8, 0), ENOENT);
	leave();
}

TEST(statmount_says_what_mountinfo_says)
{
	union {
		struct {
			uint32_t size, opts;
			uint64_t mask;
			uint32_t dev_major, dev_minor;
			uint64_t magic;
			uint32_t sb_flags, type;
			uint64_t id, parent;
			uint32_t id_old, parent_old;
			uint64_t attr, propagation, group, master, from;
			uint32_t root, point;
		} s;
		char all[4096];
	} u;
	struct id_req r = {.size = 24, .param = 1 | 2 | 4 | 8 | 0x10 | 0x20};
	char want[100];

	enter();
	EXPECT(!mkdir("a/sub", 0755));
	EXPECT(!mount("a/sub", "b", NULL, MS_BIND, NULL));
	EXPECT(!mount(NULL, "b", NULL, MS_SHARED, NULL));
	EXPECT(!mount(NULL, "b", NULL, MS_REMOUNT | MS_BIND | MS_NOEXEC | MS_STRICTATIME, NULL));
	r.id = unique_id("b");
	memset(&u, 0xff, sizeof(u));
	if (syscall(SYS_STATMOUNT, &r, &u, sizeof(u), 0) == -1 && errno == ENOSYS)
		test_skip("no statmount before Linux 6.8");
	EXPECT(!syscall(SYS_STATMOUNT, &r, &u, sizeof(u), 0));
	EXPECT_EQ(u.s.mask, r.param);
	EXPECT(u.s.id == r.id && u.s.parent == unique_id("."));
	EXPECT_EQ(u.s.magic, 0x01021994);
	EXPECT_EQ(u.s.attr, MOUNT_ATTR_NOEXEC | MOUNT_ATTR_STRICTATIME);
	EXPECT_EQ(u.s.propagation, MS_SHARED);
	EXPECT(u.s.group && !u.s.master && !u.s.from);
	struct stat st;
	EXPECT(!stat("b", &st));
	EXPECT(u.s.dev_major == major(st.st_dev) && u.s.dev_minor == minor(st.st_dev));
	EXPECT_STR(u.all + 512 + u.s.type, "tmpfs");
	EXPECT_STR(u.all + 512 + u.s.root, "/a/sub");
	snprintf(want, sizeof(want), "%s/b", base);
	EXPECT_STR(u.all + 512 + u.s.point, want);
	EXPECT_ERRNO(syscall(SYS_STATMOUNT, &r, &u, 512, 0), EOVERFLOW);
	EXPECT_ERRNO(syscall(SYS_STATMOUNT, &r, &u, sizeof(u), 1), EINVAL);
	EXPECT_ERRNO(syscall(SYS_STATMOUNT, &r, BAD_ADDR, sizeof(u), 0), EFAULT);
	EXPECT_ERRNO(syscall(SYS_STATMOUNT, BAD_ADDR, &u, sizeof(u), 0), EFAULT);
	leave();
}

/* ---- file systems ---- */

TEST(mount_ramfs_has_no_limits)
{
	struct statfs sf;
	struct stat st;

	enter();
	EXPECT(!mount("r", "a", "ramfs", 0, "mode=711,whatever=1"));
	EXPECT(!stat("a", &st));
	EXPECT_EQ(st.st_mode & 07777, 0711);
	EXPECT(!statfs("a", &sf));
	EXPECT_EQ(sf.f_type, 0x858458f6);
	EXPECT_EQ(sf.f_blocks, 0);
	put_text("a/x", "hello");
	EXPECT_STR(get_text("a/x"), "hello");
	leave();
}

TEST(mount_overlay_of_several_layers)
{
	struct stat st;

	enter();
	EXPECT(!mkdir("l1", 0755) && !mkdir("l2", 0755) && !mkdir("up", 0755) && !mkdir("w", 0755));
	put_text("l1/both", "first");
	put_text("l2/both", "second");
	put_text("l2/deep", "deep");
	EXPECT(!mkdir("l1/d", 0755) && !mkdir("l2/d", 0755));
	make_file("l1/d/x");
	make_file("l2/d/y");
	EXPECT(!mount("o", "a", "overlay", 0, "lowerdir=l1:l2,upperdir=up,workdir=w"));
	EXPECT_STR(get_text("a/both"), "first");
	EXPECT_STR(get_text("a/deep"), "deep");
	EXPECT(exists("a/d/x") && exists("a/d/y"));
	put_text("a/deep", "changed");
	EXPECT_STR(get_text("l2/deep"), "deep");
	EXPECT_STR(get_text("up/deep"), "changed");
	EXPECT(!unlink("a/both"));
	EXPECT(!exists("a/both") && exists("l1/both"));
	EXPECT(!lstat("up/both", &st));
	EXPECT(S_ISCHR(st.st_mode) && st.st_rdev == 0);
	EXPECT(!umount("a"));
	/* Once more: what was written is there. */
	EXPECT(!mount("o", "a", "overlay", 0, "lowerdir=l1:l2,upperdir=up,workdir=w"));
	EXPECT(!exists("a/both"));
	EXPECT_STR(get_text("a/deep"), "changed");
	EXPECT(!umount("a"));
	EXPECT(!mount("o", "a", "overlay", 0, "lowerdir=up:l1:l2"));
	EXPECT_ERRNO(open("a/new", O_CREAT | O_WRONLY, 0600), EROFS);
	EXPECT(!exists("a/both") && exists("a/d/x"));
	EXPECT_ERRNO(mount(NULL, "a", NULL, MS_REMOUNT, NULL), EROFS);
	leave();
}

/* An overlay is a lower layer of another one; three are too many, and it is no upper layer. */
TEST(mount_overlay_on_overlay)
{
	enter();
	EXPECT(!mkdir("l1", 0755) && !mkdir("up", 0755) && !mkdir("w", 0755));
	EXPECT(!mkdir("t", 0755) && !mkdir("m", 0755) && !mkdir("m3", 0755));
	put_text("l1/low", "low");
	put_text("l1/gone", "gone");
	EXPECT(!mkdir("l1/d", 0755));
	make_file("l1/d/x");
	EXPECT(!mount("o", "a", "overlay", 0, "lowerdir=l1,upperdir=up,workdir=w"));
	put_text("a/mid", "mid");
	EXPECT(!mount("t", "t", "tmpfs", 0, NULL));
	EXPECT(!mkdir("t/up", 0755) && !mkdir("t/w", 0755));
	EXPECT(!mount("o", "m", "overlay", 0, "lowerdir=a,upperdir=t/up,workdir=t/w"));
	EXPECT_STR(get_text("m/low"), "low");
	EXPECT_STR(get_text("m/mid"), "mid");
	EXPECT(exists("m/d/x"));
	put_text("m/low", "other");
	put_text("m/new", "new");
	EXPECT(!unlink("m/gone") && !unlink("m/d/x") && !rename("m/mid", "m/d/mid"));
	EXPECT_STR(get_text("a/low"), "low");
	EXPECT(exists("a/gone") && exists("a/d/x") && exists("a/mid") && !exists("a/new"));
	EXPECT(!exists("m/gone") && !exists("m/mid") && !exists("m/d/x"));
	EXPECT_STR(get_text("m/d/mid"), "mid");
	put_text("a/later", "later"); /* the one below is still used by itself */
	EXPECT(!unlink("a/later"));
	EXPECT_ERRNO(mount("o", "m3", "overlay", 0, "lowerdir=m:l1"), EINVAL);
	EXPECT_ERRNO(mount("o", "m3", "overlay", 0, "lowerdir=l1,upperdir=a/d,workdir=a"), EINVAL);
	EXPECT(!umount("m") && !umount("t") && !umount("a"));
	leave();
}

TEST(mount_overlay_bad_options)
{
	enter();
	make_file("f");
	EXPECT(!mkdir("up", 0755) && !mkdir("up/w", 0755) && !mkdir("w", 0755));
	mount_tmpfs("c");
	EXPECT(!mkdir("c/w", 0755));
	EXPECT_ERRNO(mount("o", "a", "overlay", 0, NULL), EINVAL);
	EXPECT_ERRNO(mount("o", "a", "overlay", 0, "lowerdir=none"), ENOENT);
	EXPECT_ERRNO(mount("o", "a", "overlay", 0, "lowerdir=b,upperdir=none,workdir=w"), ENOENT);
	EXPECT_ERRNO(mount("o", "a", "overlay", 0, "lowerdir=b,upperdir=up"), EINVAL);
	EXPECT_ERRNO(mount("o", "a", "overlay", 0, "lowerdir=b,upperdir=up,workdir=up"), EINVAL);
	EXPECT_ERRNO(mount("o", "a", "overlay", 0, "lowerdir=b,upperdir=up,workdir=up/w"), EINVAL);
	EXPECT_ERRNO(mount("o", "a", "overlay", 0, "lowerdir=b,upperdir=up,workdir=c/w"), EINVAL);
	EXPECT_ERRNO(mount("o", "a", "overlay", 0, "lowerdir=b,what=ever"), EINVAL);
	EXPECT_ERRNO(mount("o", "a", "overlay", 0, "lowerdir="), EINVAL);
	leave();
}

TEST(mount_overlay_escaped_names)
{
	enter();
	EXPECT(!mkdir("l:1", 0755) && !mkdir("l,2", 0755));
	make_file("l:1/x");
	make_file("l,2/y");
	EXPECT(!mount("o", "a", "overlay", 0, "lowerdir=l\\:1:l\\,2"));
	EXPECT(exists("a/x") && exists("a/y"));
	leave();
}

TEST(mount_overlay_by_fsconfig)
{
	enter();
	EXPECT(!mkdir("up", 0755) && !mkdir("w", 0755));
	make_file("b/x");
	make_file("c/y");
	int fs = EXPECT_OK(syscall(SYS_fsopen, "overlay", 0));
	if (fsconfig_(fs, FSCONFIG_SET_STRING, "lowerdir+", "b", 0))
		test_skip("no lowerdir+ before Linux 6.7");
	EXPECT(!fsconfig_(fs, FSCONFIG_SET_STRING, "lowerdir+", "c", 0));
	EXPECT(!fsconfig_(fs, FSCONFIG_SET_STRING, "upperdir", "up", 0));
	EXPECT(!fsconfig_(fs, FSCONFIG_SET_STRING, "workdir", "w", 0));
	EXPECT(!fsconfig_(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0));
	int m = EXPECT_OK(syscall(SYS_fsmount, fs, 0, 0));
	EXPECT(!move_mount_(m, "", AT_FDCWD, "a", MOVE_MOUNT_F_EMPTY_PATH));
	EXPECT(exists("a/x") && exists("a/y"));
	make_file("a/z");
	EXPECT(exists("up/z"));
	leave();
}

TEST(mount_proc_sysfs_devpts_mqueue)
{
	enter();
	EXPECT(!mount("p", "a", "proc", MS_NOSUID, NULL));
	EXPECT(exists("a/self/stat"));
	EXPECT(!umount("a"));
	EXPECT(!mount("s", "a", "sysfs", 0, NULL));
	EXPECT(exists("a/devices"));
	EXPECT(!umount("a"));
	EXPECT(!mount("d", "a", "devpts", 0, "newinstance,ptmxmode=0666,mode=620"));
	int fd = open("a/ptmx", O_RDWR | O_NOCTTY);
	EXPECT(fd >= 0);
	EXPECT(exists("a/0"));
	close(fd);
	EXPECT(!umount("a"));
	EXPECT(!mount("m", "a", "mqueue", 0, NULL));
	EXPECT(!umount("a"));
	leave();
}
