/* /proc/PID/ns, setns(2), ioctl_ns(2): namespaces as objects that files name. */
#include <linux/nsfs.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <sched.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/un.h>

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

/* ---- IPC, network, cgroup ---- */

TEST(ipc_namespace_begins_empty_and_ends_with_its_objects)
{
	int old = open_ns("ipc");
	int id = msgget(0x4711, IPC_CREAT | 0600);
	struct msqid_ds ds;

	EXPECT(id >= 0);
	EXPECT_OK(unshare(CLONE_NEWIPC));
	EXPECT_ERRNO(msgget(0x4711, 0), ENOENT);
	EXPECT_ERRNO(msgctl(id, IPC_STAT, &ds), EINVAL);
	int inner = msgget(0x4711, IPC_CREAT | 0600);
	EXPECT(inner >= 0);
	EXPECT(semget(0x4711, 3, IPC_CREAT | 0600) >= 0);
	EXPECT_OK(setns(old, CLONE_NEWIPC));
	EXPECT_EQ(msgget(0x4711, 0), id);
	EXPECT_ERRNO(semget(0x4711, 3, 0), ENOENT);
	EXPECT_OK(msgctl(id, IPC_RMID, NULL));
}

TEST(attached_memory_outlives_its_ipc_namespace)
{
	int old = open_ns("ipc");

	EXPECT_OK(unshare(CLONE_NEWIPC));
	int id = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600);
	EXPECT(id >= 0);
	char *p = shmat(id, NULL, 0);
	EXPECT(p != (void *)-1);
	strcpy(p, "still here");
	EXPECT_OK(setns(old, CLONE_NEWIPC));
	EXPECT_ERRNO(shmctl(id, IPC_RMID, NULL), EINVAL);
	EXPECT_STR(p, "still here");
	EXPECT_OK(shmdt(p));
}

TEST(unshare_ipc_undoes_semaphores)
{
	struct sembuf up = {0, 1, SEM_UNDO};
	int id = semget(IPC_PRIVATE, 1, IPC_CREAT | 0600), st;

	EXPECT(id >= 0);
	pid_t pid = fork();
	if (!pid) {
		EXPECT_OK(semop(id, &up, 1));
		EXPECT_EQ(semctl(id, 0, GETVAL), 1);
		int old = open_ns("ipc");
		EXPECT_OK(unshare(CLONE_NEWIPC));
		EXPECT_OK(setns(old, 0));
		EXPECT_EQ(semctl(id, 0, GETVAL), 0);
		_exit(0);
	}
	EXPECT_EQ(waitpid(pid, &st, 0), pid);
	EXPECT_EQ(st, 0);
	EXPECT_OK(semctl(id, 0, IPC_RMID));
	EXPECT_ERRNO(syscall(SYS_clone, CLONE_NEWIPC | CLONE_SYSVSEM | SIGCHLD, 0, 0, 0, 0),
		     EINVAL);
}

TEST(message_queues_are_of_an_ipc_namespace)
{
	struct mq_attr a = {.mq_maxmsg = 1, .mq_msgsize = 8};
	char dir[] = "/tmp/nsXXXXXX", file[64];
	struct stat st;

	EXPECT(mkdtemp(dir) != NULL);
	mqd_t q = mq_open("/compat_ns", O_CREAT | O_RDWR, 0600, &a);
	if (q == (mqd_t)-1)
		test_skip("no message queues");
	EXPECT_OK(unshare(CLONE_NEWIPC | CLONE_NEWNS));
	EXPECT_OK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	EXPECT_ERRNO(mq_open("/compat_ns", O_RDWR), ENOENT);
	EXPECT_OK(mq_send(q, "x", 1, 0)); /* what is open stays */
	EXPECT_OK(mount("none", dir, "mqueue", 0, NULL));
	snprintf(file, sizeof(file), "%s/compat_ns", dir);
	EXPECT_ERRNO(stat(file, &st), ENOENT);
	mqd_t own = mq_open("/compat_ns", O_CREAT | O_RDWR, 0600, &a);
	EXPECT(own != (mqd_t)-1);
	EXPECT_OK(stat(file, &st));
	EXPECT_OK(setns((int)syscall(SYS_pidfd_open, getppid(), 0), CLONE_NEWIPC));
	EXPECT_OK(mq_unlink("/compat_ns"));
	EXPECT_OK(stat(file, &st));
	EXPECT_OK(umount(dir));
	rmdir(dir);
}

static int abstract_socket(bool do_bind)
{
	struct sockaddr_un a = {AF_UNIX, "\0compat-ns"};
	int s = socket(AF_UNIX, SOCK_STREAM, 0);
	socklen_t len = offsetof(struct sockaddr_un, sun_path) + 10;

	EXPECT(s >= 0);
	if (do_bind) {
		EXPECT_OK(bind(s, (void *)&a, len));
		EXPECT_OK(listen(s, 1));
		return s;
	}
	int err = connect(s, (void *)&a, len) ? errno : 0;
	close(s);
	return err;
}

TEST(abstract_names_are_of_a_network_namespace)
{
	int old = open_ns("net");
	int outer = abstract_socket(true);

	EXPECT_EQ(abstract_socket(false), 0);
	EXPECT_OK(unshare(CLONE_NEWNET));
	EXPECT_EQ(abstract_socket(false), ECONNREFUSED);
	int inner = abstract_socket(true);
	EXPECT_EQ(abstract_socket(false), 0);
	close(inner);
	/* A socket stays where it was made. */
	int s = socket(AF_UNIX, SOCK_STREAM, 0);
	EXPECT_OK(setns(old, CLONE_NEWNET));
	struct sockaddr_un a = {AF_UNIX, "\0compat-ns"};
	EXPECT_ERRNO(connect(s, (void *)&a, offsetof(struct sockaddr_un, sun_path) + 10),
		     ECONNREFUSED);
	close(s);
	close(outer);
}

TEST(ports_are_of_a_network_namespace)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	socklen_t len = sizeof(a);
	int s = socket(AF_INET, SOCK_STREAM, 0);

	if (s < 0)
		test_skip("no IPv4");
	EXPECT_OK(bind(s, (void *)&a, sizeof(a)));
	EXPECT_OK(listen(s, 1));
	EXPECT_OK(getsockname(s, (void *)&a, &len));
	EXPECT_OK(unshare(CLONE_NEWNET));
	int t = socket(AF_INET, SOCK_STREAM, 0);
	EXPECT_OK(bind(t, (void *)&a, sizeof(a)));
	EXPECT_OK(listen(t, 1));
}

TEST(new_kinds_have_files_and_owners)
{
	static const struct {
		const char *name;
		int flag;
	} kinds[] = {{"ipc", CLONE_NEWIPC}, {"net", CLONE_NEWNET}, {"cgroup", CLONE_NEWCGROUP}};

	for (int i = 0; i < 3; i++) {
		struct stat a, b;
		int old = open_ns(kinds[i].name);
		EXPECT_EQ(ioctl(old, NS_GET_NSTYPE), kinds[i].flag);
		EXPECT_OK(unshare(kinds[i].flag));
		int new = open_ns(kinds[i].name);
		EXPECT_OK(fstat(old, &a));
		EXPECT_OK(fstat(new, &b));
		EXPECT(a.st_ino != b.st_ino);
		EXPECT_OK(setns(old, kinds[i].flag));
		EXPECT_OK(fstat(open_ns(kinds[i].name), &b));
		EXPECT_EQ(a.st_ino, b.st_ino);
	}
}
