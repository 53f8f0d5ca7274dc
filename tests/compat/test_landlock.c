/* Landlock: what a program may forbid itself.  landlock(7). */
#include <arpa/inet.h>
#include <sched.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "sentry/abi/landlock.h"
#include "tests/compat/compat.h"

#define NR_CREATE 444
#define NR_ADD 445
#define NR_RESTRICT 446

static void need(int version)
{
	long v = syscall(NR_CREATE, NULL, 0, LINUX_LANDLOCK_CREATE_VERSION);

	if (v < version)
		test_skip("this kernel's Landlock is older, or off");
}

static int ruleset(uint64_t fs, uint64_t net, uint64_t scoped)
{
	struct linux_landlock_ruleset_attr a = {fs, net, scoped};

	need(scoped ? 6 : net ? 4 : 1);
	return (int)EXPECT_OK(syscall(NR_CREATE, &a, sizeof(a), 0));
}

static void allow(int rs, const char *path, uint64_t access)
{
	struct linux_landlock_path_beneath a = {access, (int)EXPECT_OK(open(path, O_PATH))};

	EXPECT_OK(syscall(NR_ADD, rs, LINUX_LANDLOCK_RULE_PATH_BENEATH, &a, 0));
	close(a.parent_fd);
}

static void enforce(int rs)
{
	EXPECT_OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	EXPECT_OK(syscall(NR_RESTRICT, rs, 0));
	close(rs);
}

static void make_file(const char *name)
{
	int fd = (int)EXPECT_OK(open(name, O_CREAT | O_WRONLY, 0644));

	EXPECT_EQ(write(fd, "abc", 3), 3);
	close(fd);
}

/* ---- hostile arguments ---- */

TEST(landlock_create_ruleset_checks_its_arguments)
{
	struct {
		uint64_t a[512];
		uint64_t more;
	} big = {{0}, 0};
	uint64_t *a = big.a;

	need(6);
	EXPECT_ERRNO(syscall(NR_CREATE, a, 8, 1), EINVAL);
	EXPECT_ERRNO(syscall(NR_CREATE, NULL, 8, 1), EINVAL);
	EXPECT_ERRNO(syscall(NR_CREATE, NULL, 0, 1 << 20), EINVAL);
	EXPECT_ERRNO(syscall(NR_CREATE, NULL, 24, 0), EFAULT);
	EXPECT_ERRNO(syscall(NR_CREATE, BAD_ADDR, 24, 0), EFAULT);
	EXPECT_ERRNO(syscall(NR_CREATE, a, 0, 0), EINVAL);
	EXPECT_ERRNO(syscall(NR_CREATE, a, 7, 0), EINVAL);
	EXPECT_ERRNO(syscall(NR_CREATE, a, 4097, 0), E2BIG);
	EXPECT_ERRNO(syscall(NR_CREATE, a, 24, 0), ENOMSG);
	a[5] = 1;
	EXPECT_ERRNO(syscall(NR_CREATE, a, 48, 0), E2BIG);
	a[5] = 0;
	a[0] = 1ULL << 63;
	EXPECT_ERRNO(syscall(NR_CREATE, a, 24, 0), EINVAL);
	a[0] = 1;
	a[1] = 1ULL << 20;
	EXPECT_ERRNO(syscall(NR_CREATE, a, 24, 0), EINVAL);
	/* Shorter ones leave the rest out. */
	int fd = (int)EXPECT_OK(syscall(NR_CREATE, a, 8, 0));
	char c;
	EXPECT_ERRNO(read(fd, &c, 1), EINVAL);
	EXPECT_ERRNO(write(fd, &c, 1), EINVAL);
	EXPECT_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
	close(fd);
}

TEST(landlock_add_rule_checks_its_arguments)
{
	int rs = ruleset(LL_READ_FILE | LL_READ_DIR, LL_BIND_TCP, 0);
	struct linux_landlock_path_beneath a = {LL_READ_FILE, -1};
	struct linux_landlock_net_port p = {LL_BIND_TCP, 80};
	int dir = (int)EXPECT_OK(open(test_dir(), O_RDONLY));
	int fds[2];

	EXPECT_ERRNO(syscall(NR_ADD, rs, 1, &a, 1), EINVAL);
	EXPECT_ERRNO(syscall(NR_ADD, -1, 1, &a, 0), EBADF);
	EXPECT_ERRNO(syscall(NR_ADD, dir, 1, &a, 0), EBADFD);
	EXPECT_ERRNO(syscall(NR_ADD, rs, 0, &a, 0), EINVAL);
	EXPECT_ERRNO(syscall(NR_ADD, rs, 3, &a, 0), EINVAL);
	EXPECT_ERRNO(syscall(NR_ADD, rs, 1, BAD_ADDR, 0), EFAULT);
	EXPECT_ERRNO(syscall(NR_ADD, rs, 2, BAD_ADDR, 0), EFAULT);
	EXPECT_ERRNO(syscall(NR_ADD, rs, 1, &a, 0), EBADF);
	a.allowed_access = 0;
	EXPECT_ERRNO(syscall(NR_ADD, rs, 1, &a, 0), ENOMSG);
	a.allowed_access = LL_WRITE_FILE;
	EXPECT_ERRNO(syscall(NR_ADD, rs, 1, &a, 0), EINVAL);
	a.allowed_access = LL_READ_FILE;
	a.parent_fd = rs;
	EXPECT_ERRNO(syscall(NR_ADD, rs, 1, &a, 0), EBADFD);
	EXPECT_OK(pipe(fds));
	a.parent_fd = fds[0];
	EXPECT_ERRNO(syscall(NR_ADD, rs, 1, &a, 0), EBADFD);
	/* A file has no entries to list. */
	make_file("f");
	a.parent_fd = (int)EXPECT_OK(open("f", O_PATH));
	EXPECT_OK(syscall(NR_ADD, rs, 1, &a, 0));
	a.allowed_access = LL_READ_DIR;
	EXPECT_ERRNO(syscall(NR_ADD, rs, 1, &a, 0), EINVAL);

	EXPECT_OK(syscall(NR_ADD, rs, 2, &p, 0));
	p.port = 65536;
	EXPECT_ERRNO(syscall(NR_ADD, rs, 2, &p, 0), EINVAL);
	p.allowed_access = 0;
	EXPECT_ERRNO(syscall(NR_ADD, rs, 2, &p, 0), ENOMSG);
	p.allowed_access = LL_CONNECT_TCP;
	EXPECT_ERRNO(syscall(NR_ADD, rs, 2, &p, 0), EINVAL);
}

TEST(landlock_restrict_self_checks_its_arguments)
{
	int rs = ruleset(LL_READ_FILE, 0, 0);

	EXPECT_OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	EXPECT_ERRNO(syscall(NR_RESTRICT, rs, 1U << 31), EINVAL);
	EXPECT_ERRNO(syscall(NR_RESTRICT, -1, 0), EBADF);
	EXPECT_ERRNO(syscall(NR_RESTRICT, STDIN_FILENO, 0), EBADFD);
}

static void restrict_unprivileged(void *arg)
{
	int rs = *(int *)arg;

	EXPECT_OK(setresuid(1000, 1000, 1000));
	EXPECT_ERRNO(syscall(NR_RESTRICT, rs, 0), EPERM);
	EXPECT_OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	EXPECT_OK(syscall(NR_RESTRICT, rs, 0));
	EXPECT_ERRNO(open("/etc/passwd", O_RDONLY), EACCES);
}

TEST(landlock_wants_no_new_privs_or_privilege)
{
	int rs = ruleset(LL_READ_FILE, 0, 0);

	EXPECT_EQ(test_child(restrict_unprivileged, &rs), 0);
	/* The child's domain is not ours. */
	close((int)EXPECT_OK(open("/etc/passwd", O_RDONLY)));
}

/* ---- opening ---- */

TEST(landlock_rules_hold_beneath_a_directory)
{
	test_dir();
	EXPECT_OK(mkdir("ro", 0755));
	EXPECT_OK(mkdir("ro/sub", 0755));
	EXPECT_OK(mkdir("rw", 0755));
	make_file("ro/sub/f");
	make_file("rw/f");
	make_file("f");
	int rs = ruleset(LL_READ_FILE | LL_WRITE_FILE | LL_READ_DIR, 0, 0);
	allow(rs, "ro", LL_READ_FILE | LL_READ_DIR);
	allow(rs, "rw", LL_READ_FILE | LL_WRITE_FILE);
	enforce(rs);
	close((int)EXPECT_OK(open("ro/sub/f", O_RDONLY)));
	EXPECT_ERRNO(open("ro/sub/f", O_RDWR), EACCES);
	EXPECT_ERRNO(open("ro/sub/f", O_WRONLY), EACCES);
	close((int)EXPECT_OK(open("ro/sub", O_RDONLY | O_DIRECTORY)));
	close((int)EXPECT_OK(open("rw/f", O_RDWR)));
	EXPECT_ERRNO(open("rw", O_RDONLY | O_DIRECTORY), EACCES);
	EXPECT_ERRNO(open("f", O_RDONLY), EACCES);
	EXPECT_ERRNO(open("ro/../f", O_RDONLY), EACCES);
	/* Names and attributes are nobody's secret. */
	struct stat st;
	EXPECT_OK(stat("f", &st));
	close((int)EXPECT_OK(open("f", O_PATH)));
	EXPECT_OK(chmod("f", 0600));
}

TEST(landlock_descriptors_from_before_go_on_working)
{
	char c;

	test_dir();
	make_file("f");
	int fd = (int)EXPECT_OK(open("f", O_RDWR));
	enforce(ruleset(LL_READ_FILE | LL_WRITE_FILE | LL_TRUNCATE, 0, 0));
	EXPECT_EQ(read(fd, &c, 1), 1);
	EXPECT_EQ(write(fd, "x", 1), 1);
	EXPECT_OK(ftruncate(fd, 1));
	EXPECT_ERRNO(open("/proc/self/fd/0/../f", O_RDONLY), ENOTDIR);
	char name[64];
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	EXPECT_ERRNO(open(name, O_RDONLY), EACCES);
	/* What has no name is nobody's to forbid. */
	int fds[2];
	EXPECT_OK(pipe(fds));
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fds[0]);
	close((int)EXPECT_OK(open(name, O_RDONLY)));
}

TEST(landlock_rule_of_a_file_follows_its_other_names)
{
	test_dir();
	make_file("f");
	EXPECT_OK(link("f", "g"));
	int rs = ruleset(LL_READ_FILE, 0, 0);
	allow(rs, "f", LL_READ_FILE);
	enforce(rs);
	close((int)EXPECT_OK(open("f", O_RDONLY)));
	EXPECT_OK(rename("f", "h"));
	close((int)EXPECT_OK(open("h", O_RDONLY)));
}

static void run_program(void *arg)
{
	execl("/bin/true", "true", NULL);
	_exit(errno == EACCES ? 77 : 78);
	(void)arg;
}

TEST(landlock_forbids_to_execute)
{
	need(1);
	int rs = ruleset(LL_EXECUTE, 0, 0);
	allow(rs, "/bin/", LL_EXECUTE);
	pid_t pid = (pid_t)EXPECT_OK(fork());
	if (!pid) {
		enforce(rs);
		/* Its interpreter is elsewhere. */
		run_program(NULL);
	}
	int status;
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT(WIFEXITED(status));
	pid = (pid_t)EXPECT_OK(fork());
	if (!pid) {
		rs = ruleset(LL_EXECUTE, 0, 0);
		allow(rs, "/", LL_EXECUTE);
		enforce(rs);
		run_program(NULL);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	enforce(ruleset(LL_EXECUTE, 0, 0));
	EXPECT_EQ(WEXITSTATUS(test_child(run_program, NULL)), 77);
}

/* ---- making and removing ---- */

TEST(landlock_forbids_to_make_and_remove)
{
	struct sockaddr_un sun = {AF_UNIX, "no/s"};

	test_dir();
	EXPECT_OK(mkdir("yes", 0755));
	EXPECT_OK(mkdir("no", 0755));
	EXPECT_OK(mkdir("no/d", 0755));
	make_file("no/f");
	const uint64_t make = LL_MAKE_DIR | LL_MAKE_REG | LL_MAKE_SOCK | LL_MAKE_FIFO |
			      LL_MAKE_SYM | LL_MAKE_CHAR | LL_REMOVE_DIR | LL_REMOVE_FILE;
	int rs = ruleset(make, 0, 0);
	allow(rs, "yes", make);
	enforce(rs);
	EXPECT_ERRNO(mkdir("no/x", 0755), EACCES);
	EXPECT_ERRNO(open("no/x", O_CREAT | O_WRONLY, 0644), EACCES);
	EXPECT_ERRNO(symlink("x", "no/x"), EACCES);
	EXPECT_ERRNO(mkfifo("no/x", 0644), EACCES);
	EXPECT_ERRNO(mknod("no/x", S_IFREG | 0644, 0), EACCES);
	EXPECT_ERRNO(mkdir("no/d", 0755), EEXIST);
	EXPECT_ERRNO(unlink("no/f"), EACCES);
	EXPECT_ERRNO(rmdir("no/d"), EACCES);
	EXPECT_ERRNO(unlink("no/none"), ENOENT);
	int s = (int)EXPECT_OK(socket(AF_UNIX, SOCK_STREAM, 0));
	EXPECT_ERRNO(bind(s, (struct sockaddr *)&sun, sizeof(sun)), EACCES);
	EXPECT_OK(mkdir("yes/x", 0755));
	close((int)EXPECT_OK(open("yes/y", O_CREAT | O_WRONLY, 0644)));
	close((int)EXPECT_OK(open("no/f", O_CREAT | O_WRONLY, 0644)));
	EXPECT_OK(symlink("x", "yes/s"));
	EXPECT_OK(mkfifo("yes/p", 0644));
	EXPECT_OK(unlink("yes/p"));
	EXPECT_OK(rmdir("yes/x"));
}

/* ---- moving ---- */

TEST(landlock_without_refer_files_stay_in_their_directory)
{
	test_dir();
	EXPECT_OK(mkdir("a", 0755));
	EXPECT_OK(mkdir("b", 0755));
	make_file("a/f");
	enforce(ruleset(LL_EXECUTE, 0, 0));
	EXPECT_ERRNO(rename("a/f", "b/f"), EXDEV);
	EXPECT_ERRNO(link("a/f", "b/f"), EXDEV);
	EXPECT_OK(rename("a/f", "a/g"));
	EXPECT_OK(link("a/g", "a/f"));
}

TEST(landlock_refer_lets_move_where_no_more_is_allowed)
{
	need(2);
	test_dir();
	EXPECT_OK(mkdir("a", 0755));
	EXPECT_OK(mkdir("same", 0755));
	EXPECT_OK(mkdir("less", 0755));
	EXPECT_OK(mkdir("more", 0755));
	EXPECT_OK(mkdir("bare", 0755));
	make_file("a/f");
	make_file("a/g");
	int rs = ruleset(LL_REFER | LL_READ_FILE | LL_WRITE_FILE, 0, 0);
	allow(rs, "a", LL_REFER | LL_READ_FILE);
	allow(rs, "same", LL_REFER | LL_READ_FILE);
	allow(rs, "less", LL_REFER);
	allow(rs, "more", LL_REFER | LL_READ_FILE | LL_WRITE_FILE);
	enforce(rs);
	EXPECT_ERRNO(rename("a/f", "more/f"), EXDEV);
	EXPECT_ERRNO(link("a/f", "more/f"), EXDEV);
	EXPECT_ERRNO(rename("a/f", "bare/f"), EXDEV);
	EXPECT_OK(rename("a/f", "same/f"));
	EXPECT_OK(link("same/f", "less/f"));
	EXPECT_OK(rename("a/g", "less/g"));
	/* It cannot come back. */
	EXPECT_ERRNO(rename("less/g", "a/g"), EXDEV);
}

TEST(landlock_moves_need_the_rights_to_make_and_remove)
{
	need(2);
	test_dir();
	EXPECT_OK(mkdir("a", 0755));
	EXPECT_OK(mkdir("b", 0755));
	make_file("a/f");
	make_file("b/g");
	int rs = ruleset(LL_REFER | LL_MAKE_REG | LL_REMOVE_FILE, 0, 0);
	allow(rs, "a", LL_REFER | LL_MAKE_REG | LL_REMOVE_FILE);
	allow(rs, "b", LL_REFER);
	enforce(rs);
	EXPECT_ERRNO(rename("a/f", "b/f"), EACCES);
	EXPECT_ERRNO(rename("b/g", "b/h"), EACCES);
	EXPECT_OK(rename("a/f", "a/g"));
	EXPECT_ERRNO(syscall(SYS_renameat2, AT_FDCWD, "a/g", AT_FDCWD, "b/g", 2), EACCES);
	EXPECT_ERRNO(rename("a/none", "b/f"), ENOENT);
}

/* ---- truncating, devices ---- */

TEST(landlock_forbids_to_truncate)
{
	need(3);
	test_dir();
	make_file("f");
	make_file("t");
	int rs = ruleset(LL_TRUNCATE, 0, 0);
	allow(rs, "t", LL_TRUNCATE);
	enforce(rs);
	EXPECT_ERRNO(truncate("f", 1), EACCES);
	EXPECT_ERRNO(open("f", O_WRONLY | O_TRUNC), EACCES);
	int fd = (int)EXPECT_OK(open("f", O_WRONLY));
	EXPECT_ERRNO(ftruncate(fd, 1), EACCES);
	EXPECT_OK(truncate("t", 1));
	int t = (int)EXPECT_OK(open("t", O_WRONLY | O_TRUNC));
	EXPECT_OK(ftruncate(t, 10));
	/* What is made is not truncated. */
	close((int)EXPECT_OK(open("new", O_CREAT | O_TRUNC | O_WRONLY, 0644)));
	int memfd = (int)EXPECT_OK(syscall(SYS_memfd_create, "m", 0));
	EXPECT_OK(ftruncate(memfd, 100));
}

TEST(landlock_forbids_ioctl_of_devices)
{
	int n;

	need(5);
	int before = (int)EXPECT_OK(open("/dev/ptmx", O_RDWR | O_NOCTTY));
	enforce(ruleset(LL_IOCTL_DEV, 0, 0));
	int fd = (int)EXPECT_OK(open("/dev/ptmx", O_RDWR | O_NOCTTY));
	EXPECT_ERRNO(ioctl(fd, FIONREAD, &n), EACCES);
	EXPECT_ERRNO(ioctl(fd, 0xdeadbeef, &n), EACCES);
	EXPECT_OK(ioctl(fd, FIOCLEX));
	EXPECT_OK(ioctl(before, FIONREAD, &n));
	int fds[2];
	EXPECT_OK(pipe(fds));
	EXPECT_OK(ioctl(fds[0], FIONREAD, &n));
}

/* ---- layers, inheritance ---- */

TEST(landlock_layers_only_take_away)
{
	test_dir();
	make_file("f");
	make_file("g");
	int first = ruleset(LL_READ_FILE, 0, 0), second = ruleset(LL_READ_FILE, 0, 0);
	allow(first, "f", LL_READ_FILE);
	allow(second, "f", LL_READ_FILE);
	allow(second, "g", LL_READ_FILE);
	enforce(first);
	EXPECT_ERRNO(open("g", O_RDONLY), EACCES);
	enforce(second);
	EXPECT_ERRNO(open("g", O_RDONLY), EACCES);
	close((int)EXPECT_OK(open("f", O_RDONLY)));
	close((int)EXPECT_OK(open("g", O_WRONLY)));
}

TEST(landlock_stacks_sixteen_layers)
{
	test_dir();
	make_file("f");
	int rs = ruleset(LL_READ_FILE, 0, 0);
	allow(rs, "f", LL_READ_FILE);
	EXPECT_OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	for (int i = 0; i < 16; i++)
		EXPECT_OK(syscall(NR_RESTRICT, rs, 0));
	EXPECT_ERRNO(syscall(NR_RESTRICT, rs, 0), E2BIG);
	close((int)EXPECT_OK(open("f", O_RDONLY)));
	EXPECT_ERRNO(open("/etc/passwd", O_RDONLY), EACCES);
}

static void expect_denied(void *arg)
{
	EXPECT_ERRNO(open("/etc/passwd", O_RDONLY), EACCES);
	(void)arg;
}

TEST(landlock_later_rules_do_not_reach_a_domain)
{
	int rs = ruleset(LL_READ_FILE, 0, 0);

	EXPECT_OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	EXPECT_OK(syscall(NR_RESTRICT, rs, 0));
	allow(rs, "/", LL_READ_FILE);
	expect_denied(NULL);
	/* … and it is inherited. */
	EXPECT_EQ(test_child(expect_denied, NULL), 0);
}

TEST(landlock_rules_cross_mounts)
{
	if (getuid())
		test_skip("needs root");
	test_dir();
	EXPECT_OK(unshare(CLONE_NEWNS));
	EXPECT_OK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	EXPECT_OK(mkdir("top", 0755));
	EXPECT_OK(mkdir("top/m", 0755));
	EXPECT_OK(mount("none", "top/m", "tmpfs", 0, NULL));
	make_file("top/m/f");
	int rs = ruleset(LL_READ_FILE, 0, 0);
	allow(rs, "top", LL_READ_FILE);
	enforce(rs);
	close((int)EXPECT_OK(open("top/m/f", O_RDONLY)));
	/* The tree itself stays as it is. */
	EXPECT_ERRNO(mount("none", "top/m", "tmpfs", 0, NULL), EPERM);
	EXPECT_ERRNO(mount(NULL, "top/m", NULL, MS_REMOUNT, NULL), EPERM);
	EXPECT_ERRNO(umount2("top/m", 0), EPERM);
}

/* ---- who may be looked into ---- */

static void trace_parent(void *arg)
{
	int rs = *(int *)arg;
	char c;
	struct {
		void *p;
		size_t n;
	} local = {&c, 1}, remote = {&rs, 1};

	EXPECT_EQ(syscall(SYS_process_vm_readv, getppid(), &local, 1, &remote, 1, 0), 1);
	enforce(rs);
	EXPECT_ERRNO(syscall(SYS_process_vm_readv, getppid(), &local, 1, &remote, 1, 0), EPERM);
	EXPECT_ERRNO(ptrace(PTRACE_ATTACH, getppid(), 0, 0), EPERM);
	/* Who is inside can be seen from outside and from within. */
	EXPECT_OK(ptrace(PTRACE_TRACEME, 0, 0, 0));
}

TEST(landlock_keeps_from_tracing_those_outside)
{
	int rs = ruleset(LL_EXECUTE, 0, 0);

	EXPECT_EQ(test_child(trace_parent, &rs), 0);
}

/* ---- ports ---- */

static int tcp_try(int call(int, const struct sockaddr *, socklen_t), uint16_t port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
	int s = (int)EXPECT_OK(socket(AF_INET, SOCK_STREAM, 0));

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int r = call(s, (struct sockaddr *)&a, sizeof(a)) ? errno : 0;
	close(s);
	return r;
}

TEST(landlock_judges_tcp_ports)
{
	int rs = ruleset(0, LL_BIND_TCP | LL_CONNECT_TCP, 0);
	struct linux_landlock_net_port b = {LL_BIND_TCP, 34567}, c = {LL_CONNECT_TCP, 34568};
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(34569)};

	EXPECT_OK(syscall(NR_ADD, rs, 2, &b, 0));
	EXPECT_OK(syscall(NR_ADD, rs, 2, &c, 0));
	enforce(rs);
	EXPECT_EQ(tcp_try(bind, 34567), 0);
	EXPECT_EQ(tcp_try(bind, 34568), EACCES);
	EXPECT_EQ(tcp_try(connect, 34567), EACCES);
	EXPECT_EQ(tcp_try(connect, 34568), ECONNREFUSED);
	/* Only TCP, and files not at all. */
	int s = (int)EXPECT_OK(socket(AF_INET, SOCK_DGRAM, 0));
	EXPECT_OK(bind(s, (struct sockaddr *)&a, sizeof(a)));
	close((int)EXPECT_OK(open("/etc/passwd", O_RDONLY)));
	s = (int)EXPECT_OK(socket(AF_INET, SOCK_STREAM, 0));
	EXPECT_ERRNO(connect(s, (struct sockaddr *)&a, 8), EINVAL);
	EXPECT_ERRNO(bind(s, (struct sockaddr *)&a, 1), EINVAL);
	a.sin_family = AF_UNSPEC;
	EXPECT_OK(connect(s, (struct sockaddr *)&a, sizeof(a)));
}

/* ---- scopes ---- */

static void signal_scoped(void *arg)
{
	int rs = *(int *)arg;

	EXPECT_OK(kill(getppid(), 0));
	enforce(rs);
	EXPECT_ERRNO(kill(getppid(), 0), EPERM);
	EXPECT_ERRNO(kill(getppid(), SIGKILL), EPERM);
	EXPECT_OK(kill(getpid(), 0));
	pid_t pid = (pid_t)EXPECT_OK(fork());
	if (!pid)
		for (;;)
			pause();
	EXPECT_OK(kill(pid, SIGKILL));
	EXPECT_EQ(waitpid(pid, NULL, 0), pid);
}

TEST(landlock_scopes_signals)
{
	int rs = ruleset(0, 0, LL_SCOPE_SIGNAL);

	EXPECT_EQ(test_child(signal_scoped, &rs), 0);
}

static socklen_t abstract_name(struct sockaddr_un *a, const char *kind)
{
	*a = (struct sockaddr_un){.sun_family = AF_UNIX};
	int n = snprintf(a->sun_path + 1, sizeof(a->sun_path) - 1, "landlock-%d-%s", getpid(),
			 kind);

	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
}

TEST(landlock_scopes_abstract_sockets)
{
	struct sockaddr_un a, b, c;
	int rs = ruleset(0, 0, LL_SCOPE_ABSTRACT_UNIX);
	socklen_t an = abstract_name(&a, "stream"), bn = abstract_name(&b, "dgram"),
		  cn = abstract_name(&c, "own");
	int listener = (int)EXPECT_OK(socket(AF_UNIX, SOCK_STREAM, 0));
	int dgram = (int)EXPECT_OK(socket(AF_UNIX, SOCK_DGRAM, 0));

	EXPECT_OK(bind(listener, (struct sockaddr *)&a, an));
	EXPECT_OK(listen(listener, 5));
	EXPECT_OK(bind(dgram, (struct sockaddr *)&b, bn));
	enforce(rs);
	int s = (int)EXPECT_OK(socket(AF_UNIX, SOCK_STREAM, 0));
	EXPECT_ERRNO(connect(s, (struct sockaddr *)&a, an), EPERM);
	int d = (int)EXPECT_OK(socket(AF_UNIX, SOCK_DGRAM, 0));
	EXPECT_ERRNO(sendto(d, "x", 1, 0, (struct sockaddr *)&b, bn), EPERM);
	EXPECT_ERRNO(connect(d, (struct sockaddr *)&b, bn), EPERM);
	int own = (int)EXPECT_OK(socket(AF_UNIX, SOCK_STREAM, 0));
	EXPECT_OK(bind(own, (struct sockaddr *)&c, cn));
	EXPECT_OK(listen(own, 5));
	EXPECT_OK(connect(s, (struct sockaddr *)&c, cn));
}
