/* cgroups(7), version 2: groups below the one that the file system's root is here. */
#include <dirent.h>
#include <linux/sched.h>
#include <poll.h>

#include "play.h"

static char group[64]; /* "cg/compat-PID" */

static ssize_t put(const char *name, const char *file, const char *text)
{
	char path[200];

	snprintf(path, sizeof(path), "%s/%s", name, file);
	int fd = open(path, O_WRONLY);
	if (fd < 0)
		return -1;
	ssize_t n = write(fd, text, strlen(text));
	int saved = errno;
	close(fd);
	errno = saved;
	return n;
}

static const char *get(const char *name, const char *file)
{
	static char text[4096];
	char path[200];

	snprintf(path, sizeof(path), "%s/%s", name, file);
	int fd = (int)EXPECT_OK(open(path, O_RDONLY));
	ssize_t n = EXPECT_OK(read(fd, text, sizeof(text) - 1));
	text[n] = 0;
	close(fd);
	return text;
}

static void begin(void)
{
	enter_empty();
	EXPECT(!mkdir("cg", 0755));
	if (mount("none", "cg", "cgroup2", 0, NULL))
		test_skip("no cgroup2");
	snprintf(group, sizeof(group), "cg/compat-%d", getpid());
	if (mkdir(group, 0755))
		test_skip("groups cannot be made");
}

static void end(void)
{
	EXPECT(!rmdir(group));
	EXPECT(!umount("cg"));
	leave();
}

/* A process in the group, until it is killed. */
static pid_t member(void)
{
	char nr[20];
	pid_t pid = fork();

	if (!pid)
		for (;;)
			pause();
	snprintf(nr, sizeof(nr), "%d", pid);
	EXPECT_EQ(put(group, "cgroup.procs", nr), (long)strlen(nr));
	return pid;
}

static void reap(pid_t pid)
{
	int status;

	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

TEST(cgroup_new_group_is_empty)
{
	begin();
	EXPECT_STR(get(group, "cgroup.procs"), "");
	EXPECT_STR(get(group, "cgroup.type"), "domain\n");
	EXPECT_STR(get(group, "cgroup.events"), "populated 0\nfrozen 0\n");
	EXPECT_STR(get(group, "cgroup.subtree_control"), "");
	EXPECT(!strncmp(get(group, "cpu.stat"), "usage_usec ", 11));
	EXPECT(strstr(get(group, "cgroup.stat"), "nr_descendants 0\n"));
	EXPECT_ERRNO(mkdir(group, 0755), EEXIST);
	char file[100];
	snprintf(file, sizeof(file), "%s/cgroup.procs", group);
	EXPECT_ERRNO(unlink(file), EPERM);
	snprintf(file, sizeof(file), "%s/new", group);
	EXPECT(open(file, O_CREAT | O_WRONLY, 0644) < 0);
	EXPECT_ERRNO(open("cg/cgroup.events", O_RDONLY), ENOENT); /* not in the root */
	end();
}

TEST(cgroup_members_move_and_show)
{
	char nr[20], line[200], name[40];

	begin();
	pid_t pid = member();
	snprintf(nr, sizeof(nr), "%d\n", pid);
	EXPECT_STR(get(group, "cgroup.procs"), nr);
	EXPECT_STR(get(group, "cgroup.events"), "populated 1\nfrozen 0\n");
	snprintf(name, sizeof(name), "/proc/%d", pid);
	const char *own = strstr(get(name, "cgroup"), "0::");
	EXPECT(own);
	snprintf(line, sizeof(line), "%s\n", group + 2);
	EXPECT(strlen(own) >= strlen(line) && !strcmp(own + strlen(own) - strlen(line), line));
	EXPECT_ERRNO(rmdir(group), EBUSY);
	EXPECT_ERRNO(put(group, "cgroup.procs", "x"), EINVAL);
	EXPECT_ERRNO(put(group, "cgroup.procs", "-3"), EINVAL);
	EXPECT_ERRNO(put(group, "cgroup.procs", "999999"), ESRCH);
	EXPECT(!kill(pid, SIGKILL));
	reap(pid);
	EXPECT_STR(get(group, "cgroup.procs"), "");
	end();
}

TEST(cgroup_children_begin_where_their_parent_is)
{
	int status;

	begin();
	pid_t pid = fork();
	if (!pid) {
		char text[100];
		if (put(group, "cgroup.procs", "0") != 1)
			_exit(1);
		pid_t child = fork();
		if (!child)
			for (;;)
				pause();
		snprintf(text, sizeof(text), "%d\n", child);
		bool in = strstr(get(group, "cgroup.procs"), text);
		kill(child, SIGKILL);
		waitpid(child, &status, 0);
		_exit(!in);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	end();
}

TEST(cgroup_kill_ends_all)
{
	begin();
	pid_t a = member(), b = member();
	EXPECT_ERRNO(put(group, "cgroup.kill", "2"), ERANGE);
	EXPECT_ERRNO(put(group, "cgroup.kill", "x"), EINVAL);
	EXPECT_EQ(put(group, "cgroup.kill", "1"), 1);
	reap(a);
	reap(b);
	end();
}

TEST(cgroup_events_announce_the_last_member)
{
	char file[100], text[100];

	begin();
	pid_t pid = member();
	snprintf(file, sizeof(file), "%s/cgroup.events", group);
	int fd = (int)EXPECT_OK(open(file, O_RDONLY));
	EXPECT(read(fd, text, sizeof(text)) > 0);
	struct pollfd p = {.fd = fd, .events = POLLPRI};
	poll(&p, 1, 0);
	EXPECT(!kill(pid, SIGKILL));
	reap(pid);
	EXPECT_EQ(poll(&p, 1, 5000), 1);
	EXPECT(p.revents & POLLPRI);
	EXPECT(pread(fd, text, sizeof(text), 0) > 0);
	EXPECT(!strncmp(text, "populated 0\n", 12));
	close(fd);
	end();
}

TEST(cgroup_pids_max_is_kept)
{
	int status;

	begin();
	if (put("cg", "cgroup.subtree_control", "+pids") < 0)
		test_skip("no pids controller");
	EXPECT_STR(get(group, "pids.max"), "max\n");
	EXPECT_ERRNO(put(group, "pids.max", "-1"), EINVAL);
	EXPECT_ERRNO(put(group, "pids.max", "many"), EINVAL);
	EXPECT_EQ(put(group, "pids.max", "2"), 1);
	EXPECT_STR(get(group, "pids.max"), "2\n");
	pid_t pid = fork();
	if (!pid) {
		if (put(group, "cgroup.procs", "0") != 1)
			_exit(1);
		pid_t one = fork();
		if (!one)
			for (;;)
				pause();
		errno = 0;
		pid_t two = fork();
		if (!two)
			_exit(0);
		int err = errno;
		kill(one, SIGKILL);
		waitpid(one, NULL, 0);
		_exit(one > 0 && two < 0 && err == EAGAIN ? 0 : 2);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	EXPECT_STR(get(group, "pids.events"), "max 1\n");
	EXPECT_STR(get(group, "pids.current"), "0\n");
	EXPECT_ERRNO(put(group, "cgroup.subtree_control", "+nonsense"), EINVAL);
	end();
}

TEST(cgroup_clone3_puts_the_child_in)
{
	struct clone_args a = {.flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD};
	char nr[20];

	begin();
	int dir = (int)EXPECT_OK(open(group, O_RDONLY | O_DIRECTORY));
	int null = (int)EXPECT_OK(open("/dev/null", O_RDONLY));
	a.cgroup = (uint64_t)null;
	EXPECT_ERRNO(syscall(SYS_clone3, &a, sizeof(a)), EBADF);
	a.cgroup = 9999;
	EXPECT_ERRNO(syscall(SYS_clone3, &a, sizeof(a)), EBADF);
	a.cgroup = (uint64_t)dir;
	pid_t pid = (pid_t)EXPECT_OK(syscall(SYS_clone3, &a, sizeof(a)));
	if (!pid)
		for (;;)
			pause();
	snprintf(nr, sizeof(nr), "%d\n", pid);
	EXPECT_STR(get(group, "cgroup.procs"), nr);
	EXPECT(!kill(pid, SIGKILL));
	reap(pid);
	close(dir);
	close(null);
	end();
}
