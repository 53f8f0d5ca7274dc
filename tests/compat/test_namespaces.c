/* /proc/PID/ns, setns(2), ioctl_ns(2): namespaces as objects that files name. */
#include <linux/nsfs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/statfs.h>

#include "compat.h"

static int open_ns(const char *kind)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/ns/%s", kind);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	EXPECT(fd >= 0);
	return fd;
}

TEST(setns_checks_its_arguments)
{
	int uts = open_ns("uts"), null = open("/dev/null", O_RDONLY);

	EXPECT_ERRNO(setns(-1, 0), EBADF);
	EXPECT_ERRNO(setns(null, 0), EINVAL);
	EXPECT_ERRNO(setns(uts, CLONE_NEWNS), EINVAL);
	EXPECT_ERRNO(setns(uts, CLONE_NEWUTS | CLONE_NEWNS), EINVAL);
	EXPECT_OK(setns(uts, 0));
	EXPECT_OK(setns(uts, CLONE_NEWUTS));
}

TEST(setns_by_pidfd_wants_kinds_of_namespaces)
{
	int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);

	EXPECT_ERRNO(setns(fd, 0), EINVAL);
	EXPECT_ERRNO(setns(fd, CLONE_FILES), EINVAL);
	EXPECT_OK(setns(fd, CLONE_NEWUTS));
	EXPECT_OK(setns(fd, CLONE_NEWUTS | CLONE_NEWNS));
}

TEST(namespace_link_names_kind_and_inode)
{
	char link[64] = "", want[64];
	struct stat st;
	struct statfs fs;
	int fd = open_ns("uts");

	EXPECT(readlink("/proc/self/ns/uts", link, sizeof(link) - 1) > 0);
	EXPECT_OK(stat("/proc/self/ns/uts", &st));
	EXPECT_EQ(st.st_mode, S_IFREG | 0444);
	snprintf(want, sizeof(want), "uts:[%lu]", (unsigned long)st.st_ino);
	EXPECT_STR(link, want);
	struct stat again;
	EXPECT_OK(fstat(fd, &again));
	EXPECT_EQ(again.st_ino, st.st_ino);
	EXPECT_EQ(again.st_dev, st.st_dev);
	EXPECT_OK(fstatfs(fd, &fs));
	EXPECT_EQ(fs.f_type, 0x6e736673);
}

TEST(namespace_file_is_neither_read_nor_changed)
{
	char c;
	int fd = open_ns("uts");

	EXPECT_ERRNO(read(fd, &c, 1), EINVAL);
	EXPECT_ERRNO(open("/proc/self/ns/uts", O_RDWR), EPERM);
	EXPECT_ERRNO(fchmod(fd, 0600), EPERM);
	EXPECT_ERRNO(open("/proc/self/ns/none", O_RDONLY), ENOENT);
}

TEST(namespace_ioctls_tell_kind_and_owner)
{
	uid_t uid = 1;
	int uts = open_ns("uts"), user = open_ns("user");

	EXPECT_EQ(ioctl(uts, NS_GET_NSTYPE), CLONE_NEWUTS);
	EXPECT_EQ(ioctl(user, NS_GET_NSTYPE), CLONE_NEWUSER);
	EXPECT_ERRNO(ioctl(uts, NS_GET_PARENT), EINVAL);
	EXPECT_ERRNO(ioctl(uts, NS_GET_OWNER_UID, &uid), EINVAL);
	EXPECT_OK(ioctl(user, NS_GET_OWNER_UID, &uid));
	EXPECT_EQ(uid, 0);
	EXPECT_ERRNO(ioctl(user, NS_GET_OWNER_UID, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(ioctl(uts, TCGETS, &uid), ENOTTY);
	int owner = ioctl(uts, NS_GET_USERNS);
	EXPECT(owner >= 0);
	EXPECT_EQ(ioctl(owner, NS_GET_NSTYPE), CLONE_NEWUSER);
	EXPECT_EQ(fcntl(owner, F_GETFD), FD_CLOEXEC);
	/* Above the top one is nothing. */
	EXPECT_ERRNO(ioctl(user, NS_GET_PARENT), EPERM);
}

static void hostname_is(const char *want)
{
	char name[65] = "";

	EXPECT_OK(gethostname(name, sizeof(name)));
	EXPECT_STR(name, want);
}

TEST(setns_goes_back_to_a_uts_namespace)
{
	struct stat a, b;
	char name[65] = "";
	int old = open_ns("uts");

	EXPECT_OK(gethostname(name, sizeof(name)));
	EXPECT_OK(unshare(CLONE_NEWUTS));
	EXPECT_OK(sethostname("inside", 6));
	EXPECT_OK(stat("/proc/self/ns/uts", &b));
	EXPECT_OK(fstat(old, &a));
	EXPECT(a.st_ino != b.st_ino);
	int new = open_ns("uts");
	EXPECT_OK(setns(old, CLONE_NEWUTS));
	hostname_is(name);
	/* Nobody is in it, but the descriptor keeps it. */
	EXPECT_OK(setns(new, 0));
	hostname_is("inside");
}

TEST(bound_namespace_file_keeps_its_namespace)
{
	char dir[] = "/tmp/nsXXXXXX", file[64];
	int old = open_ns("uts");

	EXPECT(mkdtemp(dir) != NULL);
	snprintf(file, sizeof(file), "%s/ns", dir);
	EXPECT_OK(unshare(CLONE_NEWNS));
	EXPECT_OK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	EXPECT_OK(mknod(file, S_IFREG | 0600, 0));
	EXPECT_OK(unshare(CLONE_NEWUTS));
	EXPECT_OK(sethostname("pinned", 6));
	EXPECT_OK(mount("/proc/self/ns/uts", file, NULL, MS_BIND, NULL));
	EXPECT_OK(setns(old, 0));
	int fd = open(file, O_RDONLY);
	EXPECT(fd >= 0);
	EXPECT_OK(setns(fd, CLONE_NEWUTS));
	hostname_is("pinned");
	EXPECT_OK(setns(old, 0));
	close(fd);
	/* A mount namespace would hold itself. */
	EXPECT_OK(umount(file));
	EXPECT_ERRNO(mount("/proc/self/ns/mnt", file, NULL, MS_BIND, NULL), EINVAL);
	unlink(file);
	rmdir(dir);
}

TEST(setns_enters_a_mount_namespace_at_its_root)
{
	char dir[] = "/tmp/nsXXXXXX", c;
	int up[2], down[2];

	EXPECT(mkdtemp(dir) != NULL);
	EXPECT_OK(pipe(up));
	EXPECT_OK(pipe(down));
	pid_t pid = fork();
	if (!pid) {
		EXPECT_OK(unshare(CLONE_NEWNS));
		EXPECT_OK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
		EXPECT_OK(mount("none", dir, "tmpfs", 0, NULL));
		EXPECT_EQ(write(up[1], "x", 1), 1);
		EXPECT_EQ(read(down[0], &c, 1), 1);
		_exit(0);
	}
	EXPECT_EQ(read(up[0], &c, 1), 1);
	struct statfs fs;
	EXPECT_OK(chdir(dir));
	EXPECT_OK(setns((int)syscall(SYS_pidfd_open, pid, 0), CLONE_NEWNS));
	char cwd[64];
	EXPECT_STR(getcwd(cwd, sizeof(cwd)), "/");
	EXPECT_OK(statfs(dir, &fs));
	EXPECT_EQ(fs.f_type, 0x01021994);
	EXPECT_EQ(write(down[1], "x", 1), 1);
	EXPECT_EQ(waitpid(pid, NULL, 0), pid);
	EXPECT_OK(umount(dir));
	rmdir(dir);
}

static int share_fs(void *arg)
{
	char c;

	(void)!read(*(int *)arg, &c, 1);
	return 0;
}

TEST(setns_of_mounts_needs_a_context_of_ones_own)
{
	static char stack[65536];
	int p[2], mnt = open_ns("mnt");

	EXPECT_OK(pipe(p));
	pid_t pid = clone(share_fs, stack + sizeof(stack), CLONE_FS | SIGCHLD, &p[0]);
	EXPECT(pid > 0);
	EXPECT_ERRNO(setns(mnt, CLONE_NEWNS), EINVAL);
	EXPECT_EQ(write(p[1], "x", 1), 1);
	EXPECT_EQ(waitpid(pid, NULL, 0), pid);
	EXPECT_OK(setns(mnt, CLONE_NEWNS));
}
