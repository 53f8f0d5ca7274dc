/* mount(2), umount2(2), pivot_root(2), CLONE_NEWNS, CLONE_NEWUTS.  Each test works in a namespace
 * of its own. */
#include <sys/utsname.h>

#include "play.h"

TEST(mount_hostile_arguments)
{
	enter();
	EXPECT_ERRNO(syscall(SYS_mount, "x", 8L, "tmpfs", 0, 0), EFAULT);
	EXPECT_ERRNO(syscall(SYS_mount, "x", "a", 8L, 0, 0), EFAULT);
	EXPECT_ERRNO(syscall(SYS_mount, 8L, "a", "tmpfs", 0, 0), EFAULT);
	EXPECT_ERRNO(syscall(SYS_mount, "x", "a", "tmpfs", 0, 8L), EFAULT);
	EXPECT_ERRNO(mount("x", "none-there", "tmpfs", 0, NULL), ENOENT);
	EXPECT_ERRNO(mount("x", "a", "no-such-fs", 0, NULL), ENODEV);
	EXPECT_ERRNO(mount("x", "a", NULL, 0, NULL), EINVAL);
	EXPECT_ERRNO(mount("x", "a", "tmpfs", 0, "size=what"), EINVAL);
	EXPECT_ERRNO(mount("", "a", NULL, MS_BIND, NULL), EINVAL);
	EXPECT_ERRNO(mount("none-there", "a", NULL, MS_BIND, NULL), ENOENT);
	EXPECT_ERRNO(syscall(SYS_umount2, 8L, 0), EFAULT);
	EXPECT_ERRNO(umount2("a", 0x100), EINVAL);
	EXPECT_ERRNO(umount2("a", 0), EINVAL);
	EXPECT_ERRNO(syscall(SYS_pivot_root, 8L, "a"), EFAULT);
	leave();
}

TEST(mount_tmpfs_covers_and_umount_uncovers)
{
	enter();
	make_file("a/below");
	EXPECT(!mount("t", "a", "tmpfs", 0, NULL));
	EXPECT(!exists("a/below"));
	make_file("a/above");
	EXPECT(!mount("t2", "a", "tmpfs", 0, NULL));
	EXPECT(!exists("a/above"));
	EXPECT(!umount("a"));
	EXPECT(exists("a/above"));
	EXPECT(!umount("a"));
	EXPECT(exists("a/below"));
	leave();
}

TEST(mount_point_is_busy)
{
	enter();
	EXPECT(!mount("t", "a", "tmpfs", 0, NULL));
	EXPECT_ERRNO(rmdir("a"), EBUSY);
	EXPECT_ERRNO(rename("a", "d"), EBUSY);
	int fd = open("a", O_RDONLY);
	EXPECT_ERRNO(umount("a"), EBUSY);
	EXPECT(!umount2("a", MNT_DETACH));
	EXPECT(!fcntl(fd, F_GETFD) || true);
	EXPECT_EQ(openat(fd, "x", O_CREAT | O_WRONLY, 0600) >= 0, 1);
	close(fd);
	EXPECT(!rmdir("a"));
	leave();
}

TEST(mount_bind_shows_one_tree_twice)
{
	enter();
	EXPECT(!mkdir("a/in", 0755));
	EXPECT(!mount("t", "a/in", "tmpfs", 0, NULL));
	make_file("a/in/deep");
	EXPECT(!mount("a", "b", NULL, MS_BIND, NULL));
	EXPECT(exists("b/in") && !exists("b/in/deep"));
	EXPECT(!mount("a", "c", NULL, MS_BIND | MS_REC, NULL));
	EXPECT(exists("c/in/deep"));
	make_file("b/new");
	EXPECT(exists("a/new") && exists("c/new"));
	EXPECT_ERRNO(umount("c"), EBUSY);
	EXPECT(!umount2("c", MNT_DETACH));
	EXPECT(exists("a/in/deep"));
	leave();
}

TEST(mount_bind_of_files)
{
	enter();
	make_file("f");
	make_file("g");
	EXPECT_ERRNO(mount("f", "a", NULL, MS_BIND, NULL), ENOTDIR);
	EXPECT_ERRNO(mount("a", "f", NULL, MS_BIND, NULL), ENOTDIR);
	EXPECT(!chmod("f", 0400));
	EXPECT(!mount("f", "g", NULL, MS_BIND, NULL));
	struct stat st;
	EXPECT(!stat("g", &st));
	EXPECT_EQ(st.st_mode & 07777, 0400);
	EXPECT_ERRNO(unlink("g"), EBUSY);
	EXPECT(!umount("g"));
	EXPECT(!unlink("g"));
	leave();
}

TEST(mount_remount_bind_read_only)
{
	enter();
	EXPECT(!mount("a", "b", NULL, MS_BIND, NULL));
	EXPECT_ERRNO(mount(NULL, "a", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL), EINVAL);
	EXPECT(!mount(NULL, "b", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL));
	EXPECT_ERRNO(open("b/x", O_CREAT | O_WRONLY, 0600), EROFS);
	make_file("a/x");
	EXPECT_ERRNO(unlink("b/x"), EROFS);
	EXPECT(!mount(NULL, "b", NULL, MS_REMOUNT | MS_BIND, NULL));
	EXPECT(!unlink("b/x"));
	leave();
}

TEST(mount_move)
{
	enter();
	EXPECT(!mount("t", "a", "tmpfs", 0, NULL));
	make_file("a/x");
	EXPECT(!mkdir("a/sub", 0755));
	EXPECT_ERRNO(mount("b", "c", NULL, MS_MOVE, NULL), EINVAL);
	EXPECT_ERRNO(mount("a", "a/sub", NULL, MS_MOVE, NULL), ELOOP);
	EXPECT(!mount("a", "b", NULL, MS_MOVE, NULL));
	EXPECT(exists("b/x") && !exists("a/x"));
	EXPECT(!umount("b"));
	leave();
}

TEST(mount_propagation_of_a_non_mount)
{
	enter();
	EXPECT_ERRNO(mount(NULL, "a", NULL, MS_PRIVATE, NULL), EINVAL);
	EXPECT_ERRNO(mount(NULL, ".", NULL, MS_PRIVATE | MS_SLAVE, NULL), EINVAL);
	EXPECT(!mount(NULL, ".", NULL, MS_SLAVE | MS_REC, NULL));
	leave();
}

TEST(mount_namespaces_are_apart)
{
	int to[2], from[2];
	char c;

	enter();
	EXPECT(!pipe(to) && !pipe(from));
	pid_t pid = fork();
	if (!pid) {
		if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
		    mount("t", "a", "tmpfs", 0, NULL))
			_exit(1);
		make_file("a/mine");
		(void)!write(from[1], "x", 1);
		(void)!read(to[0], &c, 1);
		_exit(exists("b/theirs") || !exists("a/mine"));
	}
	EXPECT_EQ(read(from[0], &c, 1), 1);
	EXPECT(!exists("a/mine"));
	EXPECT(!mount("t", "b", "tmpfs", 0, NULL));
	make_file("b/theirs");
	EXPECT_EQ(write(to[1], "x", 1), 1);
	int st;
	EXPECT_EQ(waitpid(pid, &st, 0), pid);
	EXPECT_EQ(st, 0);
	leave();
}

TEST(mount_clone_newns)
{
	enter();
	EXPECT_ERRNO(syscall(SYS_clone, CLONE_NEWNS | CLONE_FS | SIGCHLD, 0, 0, 0, 0), EINVAL);
	pid_t pid = (pid_t)syscall(SYS_clone, CLONE_NEWNS | SIGCHLD, 0, 0, 0, 0);
	if (!pid)
		_exit(mount("t", "a", "tmpfs", 0, NULL) ? 1 : 0);
	int st;
	EXPECT_EQ(waitpid(pid, &st, 0), pid);
	EXPECT_EQ(st, 0);
	EXPECT_ERRNO(umount("a"), EINVAL);
	leave();
}

TEST(pivot_root_changes_the_root)
{
	enter();
	pid_t pid = fork();
	if (!pid) {
		if (mount("t", "a", "tmpfs", 0, NULL) || mkdir("a/old", 0755))
			_exit(1);
		if (syscall(SYS_pivot_root, "b", "b") != -1 || errno != EINVAL)
			_exit(2);
		if (syscall(SYS_pivot_root, "a", "c") != -1 || errno != EINVAL)
			_exit(3);
		if (syscall(SYS_pivot_root, "a", "a/old"))
			_exit(4);
		if (chdir("/") || !exists("/old/tmp") || exists("/tmp"))
			_exit(5);
		if (!umount("/old") || errno != EBUSY)
			_exit(6);
		if (umount2("/old", MNT_DETACH) || rmdir("/old"))
			_exit(7);
		_exit(0);
	}
	int st;
	EXPECT_EQ(waitpid(pid, &st, 0), pid);
	EXPECT_EQ(WEXITSTATUS(st), 0);
}

TEST(pivot_root_in_place)
{
	enter();
	EXPECT(!mount("t", "a", "tmpfs", 0, NULL));
	EXPECT(!chdir("a"));
	make_file("here");
	EXPECT(!syscall(SYS_pivot_root, ".", "."));
	EXPECT(!umount2(".", MNT_DETACH));
	EXPECT(!chdir("/"));
	EXPECT(exists("/here") && !exists("/tmp"));
}

TEST(mount_needs_the_capability)
{
	enter();
	pid_t pid = fork();
	if (!pid) {
		if (setresuid(1, 1, 1))
			_exit(1);
		if (!mount("t", "a", "tmpfs", 0, NULL) || errno != EPERM)
			_exit(2);
		if (!umount("a") || errno != EPERM)
			_exit(3);
		if (!unshare(CLONE_NEWNS) || errno != EPERM)
			_exit(4);
		_exit(0);
	}
	int st;
	EXPECT_EQ(waitpid(pid, &st, 0), pid);
	EXPECT_EQ(WEXITSTATUS(st), 0);
	leave();
}

TEST(mountinfo_shows_root_of_a_bind)
{
	char line[1024];
	bool found = false;

	enter();
	EXPECT(!mkdir("a/in", 0755));
	EXPECT(!mount("a/in", "b", NULL, MS_BIND, NULL));
	FILE *f = fopen("/proc/self/mountinfo", "r");
	EXPECT(f);
	while (fgets(line, sizeof(line), f))
		found |= strstr(line, " /a/in /tmp/compat-mount-") != NULL;
	fclose(f);
	EXPECT(found);
	leave();
}

static bool nodename_is(const char *name)
{
	struct utsname u;

	EXPECT(!uname(&u));
	return !strcmp(u.nodename, name);
}

TEST(uts_namespace_has_its_own_name)
{
	char text[80];

	if (unshare(CLONE_NEWUTS))
		test_skip("no CAP_SYS_ADMIN");
	EXPECT(!sethostname("outer", 5));
	pid_t pid = (pid_t)syscall(SYS_clone, CLONE_NEWUTS | SIGCHLD, 0, 0, 0, 0);
	if (!pid) {
		if (!nodename_is("outer") || sethostname("inner", 5))
			_exit(1);
		int fd = open("/proc/sys/kernel/hostname", O_RDONLY);
		ssize_t n = read(fd, text, sizeof(text));
		_exit(n == 6 && !memcmp(text, "inner\n", 6) ? 0 : 2);
	}
	int st;
	EXPECT_EQ(waitpid(pid, &st, 0), pid);
	EXPECT_EQ(WEXITSTATUS(st), 0);
	EXPECT(nodename_is("outer"));
	pid = fork(); /* without CLONE_NEWUTS: the same */
	if (!pid)
		_exit(sethostname("shared", 6) ? 1 : 0);
	EXPECT_EQ(waitpid(pid, &st, 0), pid);
	EXPECT(nodename_is("shared"));
}
