/* User namespaces: user_namespaces(7). */
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "compat.h"

/* Writes to a file of a process: 0 or the errno of open or write. */
static int put(pid_t pid, const char *file, const char *text)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", pid ? pid : getpid(), file);
	int fd = open(path, O_WRONLY);
	if (fd < 0)
		return errno;
	ssize_t n = write(fd, text, strlen(text));
	int err = n < 0 ? errno : 0;
	close(fd);
	return err;
}

static const char *get(pid_t pid, const char *file)
{
	static char buf[16384];
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", pid ? pid : getpid(), file);
	int fd = open(path, O_RDONLY);
	EXPECT(fd >= 0);
	ssize_t n = read(fd, buf, sizeof(buf) - 1);
	EXPECT(n >= 0);
	buf[n] = 0;
	close(fd);
	return buf;
}

static void become_nobody(void)
{
	EXPECT_OK(setgroups(0, NULL));
	EXPECT_OK(setresgid(65534, 65534, 65534));
	EXPECT_OK(setresuid(65534, 65534, 65534));
	EXPECT_OK(prctl(PR_SET_DUMPABLE, 1));
}

static bool user_namespaces_work(void)
{
	pid_t pid = fork();
	int st;

	if (!pid)
		_exit(unshare(CLONE_NEWUSER) != 0);
	return waitpid(pid, &st, 0) == pid && st == 0;
}

/* A child in a user namespace of its own, which waits until it is let go. */
struct held {
	pid_t pid;
	int go, ready;
};

static struct held hold(int flags, void (*fn)(void *), void *arg)
{
	int go[2], ready[2];
	char c;

	EXPECT_OK(pipe(go));
	EXPECT_OK(pipe(ready));
	pid_t pid = fork();
	if (!pid) {
		close(go[1]);
		EXPECT_OK(unshare(flags));
		EXPECT_EQ(write(ready[1], "x", 1), 1);
		EXPECT_EQ(read(go[0], &c, 1), 1);
		if (fn)
			fn(arg);
		_exit(0);
	}
	close(go[0]);
	EXPECT_EQ(read(ready[0], &c, 1), 1);
	return (struct held){pid, go[1], ready[0]};
}

static void release(struct held h)
{
	int st;

	EXPECT_EQ(write(h.go, "x", 1), 1);
	EXPECT_EQ(waitpid(h.pid, &st, 0), h.pid);
	EXPECT_EQ(st, 0);
}

TEST(unshare_user_checks_its_flags)
{
	EXPECT_ERRNO(syscall(SYS_clone, CLONE_NEWUSER | CLONE_FS | SIGCHLD, 0, 0, 0, 0), EINVAL);
	EXPECT_ERRNO(syscall(SYS_clone, CLONE_NEWUSER | CLONE_THREAD | CLONE_SIGHAND | CLONE_VM, 0,
			     0, 0, 0),
		     EINVAL);
	EXPECT_ERRNO(setns(open("/proc/self/ns/user", O_RDONLY), CLONE_NEWUSER), EINVAL);
}

TEST(new_user_namespace_has_no_ids_and_all_capabilities)
{
	struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct d[2];

	if (!user_namespaces_work())
		test_skip("no user namespaces");
	become_nobody();
	EXPECT_OK(unshare(CLONE_NEWUSER));
	EXPECT_EQ(getuid(), 65534);
	EXPECT_EQ(getegid(), 65534);
	EXPECT_OK(syscall(SYS_capget, &h, d));
	EXPECT_EQ(d[0].effective, 0xffffffffu);
	EXPECT_EQ(d[0].permitted, 0xffffffffu);
	EXPECT_EQ(d[0].inheritable, 0);
	EXPECT_STR(get(0, "uid_map"), "");
	EXPECT_STR(get(0, "setgroups"), "allow\n");
	EXPECT_EQ(prctl(PR_GET_SECUREBITS), 0);
	EXPECT_EQ(prctl(PR_GET_DUMPABLE), 1);
	/* No id has a mapping yet. */
	EXPECT_ERRNO(setuid(0), EINVAL);
	EXPECT_ERRNO(setgroups(0, NULL), EPERM);
	EXPECT_ERRNO(unshare(CLONE_NEWUSER), EPERM);
}

TEST(one_maps_oneself)
{
	if (!user_namespaces_work())
		test_skip("no user namespaces");
	become_nobody();
	EXPECT_OK(unshare(CLONE_NEWUSER));
	EXPECT_EQ(put(0, "uid_map", "0 65533 1"), EPERM);
	EXPECT_EQ(put(0, "uid_map", "0 65534 2"), EPERM);
	EXPECT_EQ(put(0, "gid_map", "0 65534 1"), EPERM); /* setgroups first */
	EXPECT_EQ(put(0, "setgroups", "deny"), 0);
	EXPECT_EQ(put(0, "setgroups", "allow"), EPERM);
	EXPECT_EQ(put(0, "uid_map", "0 65534 1\n"), 0);
	EXPECT_EQ(put(0, "gid_map", "3 65534 1\n"), 0);
	EXPECT_EQ(put(0, "uid_map", "0 65534 1\n"), EPERM); /* once */
	EXPECT_EQ(getuid(), 0);
	EXPECT_EQ(getgid(), 3);
	EXPECT_STR(get(0, "uid_map"), "         0      65534          1\n");
	EXPECT_STR(get(0, "setgroups"), "deny\n");
	EXPECT_ERRNO(setgroups(0, NULL), EPERM);
	EXPECT_ERRNO(setuid(1), EINVAL);
	EXPECT_OK(setuid(0));
}

TEST(map_text_is_checked)
{
	static const char *const bad[] = {
		"0",
		"0 0",
		"0 0 0",
		"x 0 1",
		"0 0 1 2",
		"0 0 1x",
		"4294967295 0 1",
		"0 4294967295 1",
		"1 0 4294967295",
		"0 0 5\n4 9 1\n",
		"0 0 5\n9 4 1\n",
		"-1 0 1",
		"0 0 1\n\n1 1 1\n",
	};

	if (!user_namespaces_work())
		test_skip("no user namespaces");
	struct held h = hold(CLONE_NEWUSER, NULL, NULL);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (put(h.pid, "uid_map", bad[i]) != EINVAL)
			FAIL("\"%s\" is taken", bad[i]);
	char *big = malloc(8192);
	memset(big, ' ', 8191);
	big[8191] = 0;
	memcpy(big, "0 0 1", 5);
	EXPECT_EQ(put(h.pid, "uid_map", big), EINVAL);
	EXPECT_EQ(put(h.pid, "uid_map", "  0\t0   1 \n 1 1 4294967294\n"), 0);
	EXPECT_STR(get(h.pid, "uid_map"),
		   "         0          0          1\n         1          1 4294967294\n");
	EXPECT_EQ(put(h.pid, "setgroups", "what"), EINVAL);
	EXPECT_EQ(put(h.pid, "setgroups", "deny it"), EINVAL);
	release(h);
}

TEST(map_takes_340_lines)
{
	static char text[16384];

	if (!user_namespaces_work())
		test_skip("no user namespaces");
	struct held h = hold(CLONE_NEWUSER, NULL, NULL);
	for (int lines = 341; lines >= 340; lines--) {
		text[0] = 0;
		char *at = text;
		for (int i = 0; i < lines; i++)
			at += sprintf(at, "%d %d 1\n", (lines - i) * 2, i * 2 + 1000);
		/* More than a page is refused before it is looked at. */
		EXPECT(strlen(text) < 4096);
		EXPECT_EQ(put(h.pid, "uid_map", text), lines == 340 ? 0 : EINVAL);
	}
	const char *shown = get(h.pid, "uid_map");
	EXPECT_EQ(strncmp(shown, "         2       1678          1\n", 33), 0); /* sorted */
	release(h);
}

static void child_ids(void *arg)
{
	gid_t groups[2] = {7, 5};
	struct stat st;

	(void)arg;
	EXPECT_OK(setgroups(2, groups));
	EXPECT_EQ(getgroups(2, groups), 2);
	EXPECT_EQ(groups[0], 5);
	EXPECT_OK(setresgid(4, 5, 6));
	EXPECT_OK(setresuid(1, 2, 3));
	uid_t r, e, s;
	EXPECT_OK(getresuid(&r, &e, &s));
	EXPECT_EQ(r, 1);
	EXPECT_EQ(e, 2);
	EXPECT_EQ(s, 3);
	EXPECT_ERRNO(setresuid(-1, 1000, -1), EINVAL);
	int fd = open("made", O_CREAT | O_RDWR, 0600);
	EXPECT(fd >= 0);
	EXPECT_OK(fstat(fd, &st));
	EXPECT_EQ(st.st_uid, 2);
	EXPECT_EQ(st.st_gid, 5);
	EXPECT_OK(stat("/", &st));
	EXPECT_EQ(st.st_uid, 65534); /* root above has no name here */
}

TEST(ids_are_translated_both_ways)
{
	struct stat st;

	if (!user_namespaces_work())
		test_skip("no user namespaces");
	test_dir();
	EXPECT_OK(chmod(".", 0777));
	struct held h = hold(CLONE_NEWUSER, child_ids, NULL);
	EXPECT_EQ(put(h.pid, "uid_map", "0 100000 100"), 0);
	EXPECT_EQ(put(h.pid, "gid_map", "0 200000 100"), 0);
	release(h);
	EXPECT_OK(stat("made", &st));
	EXPECT_EQ(st.st_uid, 100002);
	EXPECT_EQ(st.st_gid, 200005);
}

static void child_files(void *arg)
{
	struct stat st;

	(void)arg;
	EXPECT_OK(setresgid(0, 0, 0));
	EXPECT_OK(setresuid(0, 0, 0));
	/* All-powerful over what its ids own, and nothing else. */
	EXPECT_OK(chown("mine", 5, 6));
	EXPECT_OK(stat("mine", &st));
	EXPECT_EQ(st.st_uid, 5);
	EXPECT_OK(chmod("mine", 0));
	close((int)EXPECT_OK(open("mine", O_RDWR)));
	EXPECT_ERRNO(chown("mine", 1000, -1), EINVAL);
	EXPECT_ERRNO(chown("other", 0, 0), EPERM);
	EXPECT_ERRNO(chmod("other", 0777), EPERM);
	EXPECT_ERRNO(open("other", O_RDONLY), EACCES);
	EXPECT_ERRNO(mknod("dev", S_IFCHR | 0600, makedev(1, 3)), EPERM);
	EXPECT_OK(mkfifo("fifo", 0600));
}

TEST(capabilities_reach_as_far_as_the_map)
{
	if (!user_namespaces_work())
		test_skip("no user namespaces");
	test_dir();
	EXPECT_OK(chmod(".", 0777));
	close(test_file("mine", 10));
	close(test_file("other", 10));
	EXPECT_OK(chmod("other", 0600));
	EXPECT_OK(chown("mine", 100000, 200000));
	struct held h = hold(CLONE_NEWUSER, child_files, NULL);
	EXPECT_EQ(put(h.pid, "uid_map", "0 100000 100"), 0);
	EXPECT_EQ(put(h.pid, "gid_map", "0 200000 100"), 0);
	release(h);
}

TEST(capabilities_do_not_reach_other_namespaces)
{
	if (!user_namespaces_work())
		test_skip("no user namespaces");
	become_nobody();
	EXPECT_OK(unshare(CLONE_NEWUSER));
	EXPECT_ERRNO(sethostname("x", 1), EPERM);
	EXPECT_ERRNO(mount("none", "/mnt", "tmpfs", 0, NULL), EPERM);
	EXPECT_ERRNO(kill(getppid(), 0), EPERM);
	EXPECT_OK(unshare(CLONE_NEWUTS));
	EXPECT_OK(sethostname("x", 1));
	EXPECT_ERRNO(setns(open("/proc/1/ns/uts", O_RDONLY), 0), EBADF); /* not even openable */
}

TEST(unshare_with_user_makes_the_others_below_it)
{
	if (!user_namespaces_work())
		test_skip("no user namespaces");
	become_nobody();
	EXPECT_ERRNO(unshare(CLONE_NEWUTS), EPERM);
	EXPECT_ERRNO(unshare(CLONE_NEWNS), EPERM);
	EXPECT_OK(unshare(CLONE_NEWUSER | CLONE_NEWUTS | CLONE_NEWNS));
	EXPECT_OK(sethostname("inner", 5));
	EXPECT_OK(mount("none", "/mnt", "tmpfs", 0, NULL));
	EXPECT_ERRNO(mount("none", "/mnt", "devtmpfs", 0, NULL), EPERM);
	int uts = open("/proc/self/ns/uts", O_RDONLY);
	int user = ioctl(uts, NS_GET_USERNS);
	EXPECT(user >= 0);
	struct stat a, b;
	EXPECT_OK(fstat(user, &a));
	EXPECT_OK(stat("/proc/self/ns/user", &b));
	EXPECT_EQ(a.st_ino, b.st_ino);
	uid_t owner;
	EXPECT_OK(ioctl(user, NS_GET_OWNER_UID, &owner));
	EXPECT_EQ(owner, 65534);
	/* What lies above is none of its business. */
	EXPECT_ERRNO(ioctl(user, NS_GET_PARENT), EPERM);
}

TEST(tmpfs_of_a_namespace_has_no_devices_and_its_own_root)
{
	struct stat st;

	if (!user_namespaces_work())
		test_skip("no user namespaces");
	become_nobody();
	EXPECT_OK(unshare(CLONE_NEWUSER | CLONE_NEWNS));
	EXPECT_EQ(put(0, "uid_map", "0 65534 1"), 0);
	EXPECT_EQ(put(0, "setgroups", "deny"), 0);
	EXPECT_EQ(put(0, "gid_map", "0 65534 1"), 0);
	EXPECT_ERRNO(mount("none", "/mnt", "tmpfs", 0, "uid=5"), EINVAL);
	EXPECT_OK(mount("none", "/mnt", "tmpfs", 0, "mode=755"));
	EXPECT_OK(stat("/mnt", &st));
	EXPECT_EQ(st.st_uid, 0);
	EXPECT_EQ(st.st_gid, 0);
	EXPECT_OK(mkdir("/mnt/d", 0700));
	EXPECT_ERRNO(mknod("/mnt/n", S_IFBLK | 0600, makedev(8, 0)), EPERM);
}

static void child_nested(void *arg)
{
	(void)arg;
	EXPECT_OK(setresgid(0, 0, 0));
	EXPECT_OK(setresuid(0, 0, 0));
	EXPECT_OK(prctl(PR_SET_DUMPABLE, 1));
	struct held h = hold(CLONE_NEWUSER, NULL, NULL);
	/* Ids that are not there cannot be given on. */
	EXPECT_EQ(put(h.pid, "uid_map", "0 90 20"), EPERM);
	EXPECT_EQ(put(h.pid, "uid_map", "0 10 20"), 0);
	EXPECT_STR(get(h.pid, "uid_map"), "         0         10         20\n");
	release(h);
}

TEST(maps_nest)
{
	if (!user_namespaces_work())
		test_skip("no user namespaces");
	struct held h = hold(CLONE_NEWUSER, child_nested, NULL);
	EXPECT_EQ(put(h.pid, "uid_map", "0 100000 100"), 0);
	EXPECT_EQ(put(h.pid, "gid_map", "0 100000 100"), 0);
	release(h);
}

TEST(user_namespaces_nest_so_deep)
{
	int n = 0;

	if (!user_namespaces_work())
		test_skip("no user namespaces");
	while (n < 60 && unshare(CLONE_NEWUSER) == 0) {
		EXPECT_EQ(put(0, "uid_map", "0 0 1"), 0);
		EXPECT_EQ(put(0, "setgroups", "deny"), 0);
		EXPECT_EQ(put(0, "gid_map", "0 0 1"), 0);
		n++;
	}
	EXPECT_EQ(errno, ENOSPC);
	EXPECT(n >= 30 && n <= 33);
}

TEST(chrooted_process_makes_no_user_namespace)
{
	test_dir();
	EXPECT_OK(chroot("."));
	EXPECT_ERRNO(unshare(CLONE_NEWUSER), EPERM);
}

TEST(setns_enters_a_user_namespace_below)
{
	if (!user_namespaces_work())
		test_skip("no user namespaces");
	struct held h = hold(CLONE_NEWUSER, NULL, NULL);
	EXPECT_EQ(put(h.pid, "uid_map", "5 0 1"), 0);
	EXPECT_EQ(put(h.pid, "setgroups", "deny"), 0);
	EXPECT_EQ(put(h.pid, "gid_map", "6 0 1"), 0);
	EXPECT_OK(setns((int)syscall(SYS_pidfd_open, h.pid, 0), CLONE_NEWUSER));
	EXPECT_EQ(getuid(), 5);
	EXPECT_EQ(getgid(), 6);
	EXPECT_ERRNO(setns(open("/proc/1/ns/user", O_RDONLY), CLONE_NEWUSER), EBADF);
	release(h);
}

static void child_kill(void *arg)
{
	siginfo_t info;
	sigset_t set;

	(void)arg;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	EXPECT_EQ(sigwaitinfo(&set, &info), SIGUSR1);
	EXPECT_EQ(info.si_uid, 65534); /* root above */
	EXPECT_EQ(sigwaitinfo(&set, &info), SIGUSR1);
	EXPECT_EQ(info.si_uid, 9);
}

TEST(signals_tell_the_sender_by_the_receivers_map)
{
	union sigval v = {0};
	sigset_t set;

	if (!user_namespaces_work())
		test_skip("no user namespaces");
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	EXPECT_OK(sigprocmask(SIG_BLOCK, &set, NULL));
	struct held h = hold(CLONE_NEWUSER, child_kill, NULL);
	EXPECT_EQ(put(h.pid, "uid_map", "9 1000 1"), 0);
	EXPECT_OK(kill(h.pid, SIGUSR1));
	EXPECT_EQ(write(h.go, "x", 1), 1);
	test_sleep_ms(50);
	siginfo_t info = {.si_signo = SIGUSR1, .si_code = SI_QUEUE, .si_value = v};
	info.si_uid = 1000;
	EXPECT_OK(syscall(SYS_rt_sigqueueinfo, h.pid, SIGUSR1, &info));
	int st;
	EXPECT_EQ(waitpid(h.pid, &st, 0), h.pid);
	EXPECT_EQ(st, 0);
}

TEST(peer_credentials_are_shown_by_the_readers_map)
{
	int s[2];
	struct ucred u;
	socklen_t len = sizeof(u);

	if (!user_namespaces_work())
		test_skip("no user namespaces");
	EXPECT_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	EXPECT_OK(unshare(CLONE_NEWUSER));
	EXPECT_OK(getsockopt(s[0], SOL_SOCKET, SO_PEERCRED, &u, &len));
	EXPECT_EQ(u.uid, 65534);
	EXPECT_EQ(put(0, "uid_map", "77 0 1"), 0);
	EXPECT_OK(getsockopt(s[0], SOL_SOCKET, SO_PEERCRED, &u, &len));
	EXPECT_EQ(u.uid, 77);
	EXPECT_EQ(u.gid, 65534);
}

TEST(scm_credentials_are_translated)
{
	int s[2], on = 1;
	struct ucred u = {getpid(), 77, 88};
	char c = 'x';
	union {
		char buf[CMSG_SPACE(sizeof(u))];
		struct cmsghdr align;
	} ctl;
	struct iovec iov = {&c, 1};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = ctl.buf,
			   .msg_controllen = sizeof(ctl.buf)};

	if (!user_namespaces_work())
		test_skip("no user namespaces");
	EXPECT_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	EXPECT_OK(setsockopt(s[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)));
	pid_t pid = fork();
	if (!pid) {
		EXPECT_OK(unshare(CLONE_NEWUSER));
		EXPECT_EQ(put(0, "uid_map", "77 0 1"), 0);
		EXPECT_EQ(put(0, "setgroups", "deny"), 0);
		EXPECT_EQ(put(0, "gid_map", "88 0 1"), 0);
		u.pid = getpid();
		struct cmsghdr *h = CMSG_FIRSTHDR(&m);
		*h = (struct cmsghdr){CMSG_LEN(sizeof(u)), SOL_SOCKET, SCM_CREDENTIALS};
		memcpy(CMSG_DATA(h), &u, sizeof(u));
		EXPECT_EQ(sendmsg(s[0], &m, 0), 1);
		u.uid = 0;
		memcpy(CMSG_DATA(h), &u, sizeof(u));
		EXPECT_ERRNO(sendmsg(s[0], &m, 0), EINVAL);
		_exit(0);
	}
	EXPECT_EQ(recvmsg(s[1], &m, 0), 1);
	memcpy(&u, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(u));
	EXPECT_EQ(u.uid, 0);
	EXPECT_EQ(u.gid, 0);
	int st;
	EXPECT_EQ(waitpid(pid, &st, 0), pid);
	EXPECT_EQ(st, 0);
}

TEST(limit_of_user_namespaces_counts)
{
	char text[16];

	if (!user_namespaces_work())
		test_skip("no user namespaces");
	EXPECT_OK(unshare(CLONE_NEWUSER));
	EXPECT_EQ(put(0, "uid_map", "0 0 1"), 0);
	EXPECT_EQ(put(0, "setgroups", "deny"), 0);
	EXPECT_EQ(put(0, "gid_map", "0 0 1"), 0);
	int fd = open("/proc/sys/user/max_uts_namespaces", O_RDWR);
	if (fd < 0)
		test_skip("/proc/sys is read-only");
	ssize_t n = read(fd, text, sizeof(text) - 1);
	EXPECT(n > 0);
	text[n] = 0;
	EXPECT_EQ(atol(text), INT_MAX);
	EXPECT_EQ(pwrite(fd, "2", 1, 0), 1);
	EXPECT_OK(unshare(CLONE_NEWUTS));
	int keep = open("/proc/self/ns/uts", O_RDONLY);
	EXPECT_OK(unshare(CLONE_NEWUTS));
	EXPECT_ERRNO(unshare(CLONE_NEWUTS), ENOSPC);
	close(keep);
	EXPECT_OK(unshare(CLONE_NEWUTS));
}

TEST(parent_map_of_root_needs_setfcap)
{
	struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct d[2];

	if (!user_namespaces_work())
		test_skip("no user namespaces");
	EXPECT_OK(syscall(SYS_capget, &h, d));
	d[0].effective &= ~(1u << CAP_SETFCAP);
	EXPECT_OK(syscall(SYS_capset, &h, d));
	EXPECT_OK(unshare(CLONE_NEWUSER));
	EXPECT_EQ(put(0, "uid_map", "0 0 1"), EPERM);
}

static void put_cap(struct vfs_ns_cap_data *d, uint32_t revision, uint32_t root)
{
	memset(d, 0, sizeof(*d));
	d->magic_etc = revision | VFS_CAP_FLAGS_EFFECTIVE;
	d->data[0].permitted = 1u << CAP_CHOWN;
	d->rootid = root;
}

TEST(file_capabilities_have_a_form_and_an_owner)
{
	struct vfs_ns_cap_data d;

	test_dir();
	EXPECT_OK(chmod(".", 0755));
	close(test_file("f", 1));
	put_cap(&d, VFS_CAP_REVISION_2, 0);
	if (setxattr("f", "security.capability", &d, XATTR_CAPS_SZ_2, 0) && errno == EOPNOTSUPP)
		test_skip("no file capabilities here");
	EXPECT_ERRNO(setxattr("f", "security.capability", &d, 19, 0), EINVAL);
	EXPECT_ERRNO(setxattr("f", "security.capability", &d, XATTR_CAPS_SZ_3, 0), EINVAL);
	EXPECT_ERRNO(setxattr("f", "security.capability", &d, XATTR_CAPS_SZ_1, 0), EINVAL);
	put_cap(&d, VFS_CAP_REVISION_3, 100000);
	EXPECT_OK(setxattr("f", "security.capability", &d, XATTR_CAPS_SZ_3, 0));
	memset(&d, 0, sizeof(d));
	EXPECT_EQ(getxattr("f", "security.capability", &d, sizeof(d)), XATTR_CAPS_SZ_3);
	EXPECT_EQ(d.rootid, 100000);
	EXPECT_ERRNO(getxattr("f", "security.capability", &d, 4), ERANGE);
	/* A change of owner takes them away. */
	EXPECT_OK(chown("f", 1000, 1000));
	EXPECT_ERRNO(getxattr("f", "security.capability", &d, sizeof(d)), ENODATA);
	become_nobody();
	EXPECT_ERRNO(setxattr("f", "security.capability", &d, XATTR_CAPS_SZ_3, 0), EPERM);
}

static void child_caps(void *arg)
{
	struct vfs_ns_cap_data d;

	(void)arg;
	EXPECT_OK(setresgid(0, 0, 0));
	EXPECT_OK(setresuid(0, 0, 0));
	put_cap(&d, VFS_CAP_REVISION_2, 0);
	EXPECT_OK(setxattr("mine", "security.capability", &d, XATTR_CAPS_SZ_2, 0));
	/* Its own root's look as if there were no namespaces. */
	EXPECT_EQ(getxattr("mine", "security.capability", &d, sizeof(d)), XATTR_CAPS_SZ_2);
	EXPECT_ERRNO(setxattr("other", "security.capability", &d, XATTR_CAPS_SZ_2, 0), EPERM);
}

TEST(file_capabilities_of_a_namespace_name_its_root)
{
	struct vfs_ns_cap_data d;

	if (!user_namespaces_work())
		test_skip("no user namespaces");
	test_dir();
	EXPECT_OK(chmod(".", 0777));
	close(test_file("mine", 1));
	close(test_file("other", 1));
	EXPECT_OK(chown("mine", 100000, 200000));
	put_cap(&d, VFS_CAP_REVISION_2, 0);
	if (setxattr("other", "security.capability", &d, XATTR_CAPS_SZ_2, 0))
		test_skip("no file capabilities here");
	struct held h = hold(CLONE_NEWUSER, child_caps, NULL);
	EXPECT_EQ(put(h.pid, "uid_map", "0 100000 100"), 0);
	EXPECT_EQ(put(h.pid, "gid_map", "0 200000 100"), 0);
	release(h);
	EXPECT_EQ(getxattr("mine", "security.capability", &d, sizeof(d)), XATTR_CAPS_SZ_3);
	EXPECT_EQ(d.rootid, 100000);
}

/* ---- mounts that come from above ---- */

TEST(mounts_from_above_are_locked_together)
{
	char base[] = "/tmp/nsXXXXXX", in[64], other[64];

	if (!user_namespaces_work())
		test_skip("no user namespaces");
	EXPECT(mkdtemp(base) != NULL);
	EXPECT_OK(unshare(CLONE_NEWNS));
	EXPECT_OK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	EXPECT_OK(mount("none", base, "tmpfs", MS_NOSUID, NULL));
	snprintf(in, sizeof(in), "%s/in", base);
	snprintf(other, sizeof(other), "%s/other", base);
	EXPECT_OK(mkdir(in, 0755));
	EXPECT_OK(mkdir(other, 0755));
	EXPECT_OK(mount("none", in, "tmpfs", MS_RDONLY, NULL));
	int st;
	pid_t pid = fork();
	if (!pid) {
		EXPECT_OK(unshare(CLONE_NEWUSER | CLONE_NEWNS));
		EXPECT_EQ(put(0, "uid_map", "0 0 1"), 0);
		EXPECT_ERRNO(umount2(in, 0), EINVAL);
		EXPECT_ERRNO(umount2(in, MNT_DETACH), EINVAL);
		EXPECT_ERRNO(mount(in, other, NULL, MS_MOVE, NULL), EINVAL);
		/* What is below a mount is not to be seen without it. */
		EXPECT_ERRNO(mount(base, other, NULL, MS_BIND, NULL), EINVAL);
		EXPECT_OK(mount(base, other, NULL, MS_BIND | MS_REC, NULL));
		EXPECT_OK(umount2(other, MNT_DETACH));
		EXPECT_ERRNO(mount(NULL, in, NULL, MS_REMOUNT | MS_BIND, NULL), EPERM);
		EXPECT_ERRNO(mount(NULL, base, NULL, MS_REMOUNT | MS_BIND | MS_NODEV, NULL), EPERM);
		EXPECT_OK(
			mount(NULL, base, NULL, MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV, NULL));
		EXPECT_OK(mount(NULL, base, NULL, MS_REMOUNT | MS_BIND | MS_NOSUID, NULL));
		/* Its own mounts are its own. */
		EXPECT_OK(mount("none", in, "tmpfs", 0, NULL));
		EXPECT_OK(umount(in));
		EXPECT_ERRNO(umount(in), EINVAL);
		_exit(0);
	}
	EXPECT_EQ(waitpid(pid, &st, 0), pid);
	EXPECT_EQ(st, 0);
	EXPECT_OK(umount(in));
	EXPECT_OK(umount(base));
	rmdir(base);
}
