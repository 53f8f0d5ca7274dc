/* Ids, groups, capabilities, resource limits: credentials(7), capabilities(7), prlimit(2). */
#include "tests/compat/compat.h"

#include <grp.h>
#include <linux/capability.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/resource.h>

static void need_root(void)
{
	if (getuid() || geteuid())
		test_skip("needs root");
}

static uint64_t caps(const char *field)
{
	char line[256];
	unsigned long long v = 0;
	FILE *f = fopen("/proc/self/status", "r");

	EXPECT(f != NULL);
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, field, strlen(field)))
			v = strtoull(line + strlen(field) + 1, NULL, 16);
	fclose(f);
	return v;
}

static uint64_t effective(void)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2];

	EXPECT_OK(syscall(SYS_capget, &h, d));
	return (uint64_t)d[1].effective << 32 | d[0].effective;
}

TEST(id_calls_refuse_hostile_pointers)
{
	unsigned id;

	EXPECT_ERRNO(syscall(SYS_getresuid, &id, &id, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(syscall(SYS_getresgid, BAD_ADDR, &id, &id), EFAULT);
	EXPECT_ERRNO(syscall(SYS_setuid, -1), EINVAL);
	EXPECT_ERRNO(syscall(SYS_setgid, -1), EINVAL);
	EXPECT_ERRNO(syscall(SYS_getgroups, -1, NULL), EINVAL);
}

TEST(capget_teaches_the_version)
{
	struct __user_cap_header_struct h = {.version = 0};
	struct __user_cap_data_struct d[2];

	EXPECT_ERRNO(syscall(SYS_capget, &h, d), EINVAL);
	EXPECT_EQ(h.version, _LINUX_CAPABILITY_VERSION_3);
	h.version = 1;
	EXPECT_OK(syscall(SYS_capget, &h, NULL));
	EXPECT_EQ(h.version, _LINUX_CAPABILITY_VERSION_3);
	EXPECT_ERRNO(syscall(SYS_capget, BAD_ADDR, d), EFAULT);
	EXPECT_ERRNO(syscall(SYS_capget, &h, BAD_ADDR), EFAULT);
	h.pid = -1;
	EXPECT_ERRNO(syscall(SYS_capget, &h, d), EINVAL);
	h.pid = 0x3fffffff;
	EXPECT_ERRNO(syscall(SYS_capget, &h, d), ESRCH);
	h.pid = getppid();
	EXPECT_ERRNO(syscall(SYS_capset, &h, d), EPERM);
}

TEST(capset_only_gives_away)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2], more[2];

	need_root();
	EXPECT_OK(syscall(SYS_capget, &h, d));
	memcpy(more, d, sizeof(d));
	d[0].effective &= ~(1U << CAP_CHOWN);
	EXPECT_OK(syscall(SYS_capset, &h, d));
	EXPECT(!(effective() >> CAP_CHOWN & 1));
	d[0].permitted &= ~(1U << CAP_CHOWN);
	EXPECT_OK(syscall(SYS_capset, &h, d));
	EXPECT_ERRNO(syscall(SYS_capset, &h, more), EPERM);
	d[0].effective |= 1U << CAP_CHOWN;
	EXPECT_ERRNO(syscall(SYS_capset, &h, d), EPERM);
}

TEST(setuid_by_root_is_for_good)
{
	uid_t r, e, s;

	need_root();
	EXPECT_OK(setuid(1000));
	EXPECT_OK(getresuid(&r, &e, &s));
	EXPECT(r == 1000 && e == 1000 && s == 1000);
	EXPECT_ERRNO(setuid(0), EPERM);
	EXPECT_ERRNO(seteuid(0), EPERM);
	EXPECT_ERRNO(setgid(4242), EPERM);
	EXPECT_ERRNO(setgroups(0, NULL), EPERM);
	EXPECT_EQ(effective(), 0);
	EXPECT_EQ(caps("CapPrm:"), 0);
}

TEST(seteuid_can_come_back)
{
	need_root();
	uint64_t before = effective();
	EXPECT_OK(seteuid(1000));
	EXPECT_EQ(effective(), 0);
	EXPECT_EQ(caps("CapPrm:"), before);
	EXPECT_OK(seteuid(0));
	EXPECT_EQ(effective(), before);
}

TEST(keepcaps_keeps_permitted)
{
	need_root();
	uint64_t before = caps("CapPrm:");
	EXPECT_OK(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0));
	EXPECT_OK(setresuid(1000, 1000, 1000));
	EXPECT_EQ(caps("CapPrm:"), before);
	EXPECT_EQ(effective(), 0);
}

TEST(setreuid_moves_the_saved_id)
{
	uid_t r, e, s;

	need_root();
	EXPECT_OK(setreuid(1000, 2000));
	EXPECT_OK(getresuid(&r, &e, &s));
	EXPECT(r == 1000 && e == 2000 && s == 2000);
	EXPECT_OK(setreuid(2000, 1000)); /* swap */
	EXPECT_ERRNO(setreuid(3000, (uid_t)-1), EPERM);
}

TEST(setresgid_without_capability_permutes_only)
{
	gid_t r, e, s;

	need_root();
	EXPECT_OK(setresgid(10, 20, 30));
	EXPECT_OK(setresuid(1000, 1000, 1000));
	EXPECT_OK(setresgid(30, 10, 20));
	EXPECT_OK(getresgid(&r, &e, &s));
	EXPECT(r == 30 && e == 10 && s == 20);
	EXPECT_ERRNO(setresgid(40, (gid_t)-1, (gid_t)-1), EPERM);
	EXPECT_ERRNO(setgid(40), EPERM);
	EXPECT_OK(setgid(20));
}

TEST(setfsuid_returns_the_old_one_always)
{
	need_root();
	EXPECT_EQ(setfsuid(1000), 0);
	EXPECT(!(effective() >> CAP_DAC_OVERRIDE & 1));
	EXPECT_EQ(setfsuid((uid_t)-1), 1000);
	EXPECT_EQ(setfsuid(0), 1000);
	EXPECT_EQ(setfsgid(55), 0);
	EXPECT_EQ(setfsgid((gid_t)-1), 55);
	EXPECT_OK(setresuid(1000, 1000, 1000));
	EXPECT_EQ(setfsuid(4000), 1000);
	EXPECT_EQ(setfsuid((uid_t)-1), 1000);
}

TEST(groups_are_set_and_got)
{
	gid_t in[] = {7, 3, 5}, out[8];

	need_root();
	EXPECT_OK(setgroups(3, in));
	EXPECT_EQ(getgroups(0, NULL), 3);
	EXPECT_ERRNO(getgroups(2, out), EINVAL);
	EXPECT_EQ(getgroups(8, out), 3);
	EXPECT(out[0] + out[1] + out[2] == 15);
	EXPECT_ERRNO(syscall(SYS_setgroups, 65537, in), EINVAL);
	EXPECT_ERRNO(syscall(SYS_setgroups, 1, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(syscall(SYS_getgroups, 8, BAD_ADDR), EFAULT);
	EXPECT_OK(setgroups(0, NULL));
	EXPECT_EQ(getgroups(8, out), 0);
}

TEST(threads_have_their_own_ids_by_raw_call)
{
	need_root();
	pid_t pid = fork();
	int status;
	if (pid == 0) {
		setuid(1000);
		_exit(getuid() != 1000);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	EXPECT_EQ(getuid(), 0);
}

/* ---- limits ---- */

TEST(rlimit_calls_refuse_bad_arguments)
{
	struct rlimit lim = {10, 5};

	EXPECT_ERRNO(syscall(SYS_getrlimit, 16, &lim), EINVAL);
	EXPECT_ERRNO(syscall(SYS_getrlimit, -1, &lim), EINVAL);
	EXPECT_ERRNO(syscall(SYS_getrlimit, RLIMIT_CORE, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(syscall(SYS_setrlimit, RLIMIT_CORE, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(setrlimit(RLIMIT_CORE, &lim), EINVAL);
	EXPECT_ERRNO(prlimit(0x3fffffff, RLIMIT_CORE, NULL, &lim), ESRCH);
	EXPECT_ERRNO(syscall(SYS_prlimit64, 0, RLIMIT_CORE, BAD_ADDR, NULL), EFAULT);
	EXPECT_ERRNO(syscall(SYS_prlimit64, 0, RLIMIT_CORE, NULL, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(syscall(SYS_prlimit64, 0, 99, NULL, NULL), EINVAL);
}

TEST(hard_limit_goes_down_only_without_capability)
{
	struct rlimit lim = {50, 100}, cur;

	need_root();
	EXPECT_OK(setrlimit(RLIMIT_NOFILE, &lim));
	EXPECT_OK(getrlimit(RLIMIT_NOFILE, &cur));
	EXPECT(cur.rlim_cur == 50 && cur.rlim_max == 100);
	EXPECT_OK(setresuid(1000, 1000, 1000));
	lim = (struct rlimit){100, 100};
	EXPECT_OK(setrlimit(RLIMIT_NOFILE, &lim));
	lim.rlim_max = 101;
	EXPECT_ERRNO(setrlimit(RLIMIT_NOFILE, &lim), EPERM);
	lim = (struct rlimit){4, 4};
	EXPECT_OK(setrlimit(RLIMIT_NOFILE, &lim));
	EXPECT_ERRNO(fcntl(0, F_DUPFD, 4), EINVAL);
	while (dup(0) >= 0)
		;
	EXPECT_EQ(errno, EMFILE);
}

TEST(nofile_limit_is_bounded_by_nr_open)
{
	struct rlimit lim = {10, RLIM_INFINITY};

	need_root();
	EXPECT_ERRNO(setrlimit(RLIMIT_NOFILE, &lim), EPERM);
}

TEST(prlimit_gets_the_old_while_setting_the_new)
{
	struct rlimit lim = {0, 0}, old;
	int status;

	EXPECT_OK(getrlimit(RLIMIT_CORE, &old));
	lim.rlim_max = old.rlim_max;
	EXPECT_OK(prlimit(0, RLIMIT_CORE, &lim, &old));
	EXPECT_OK(prlimit(getpid(), RLIMIT_CORE, NULL, &old));
	EXPECT_EQ(old.rlim_cur, 0);
	pid_t pid = fork(); /* inherited, and another process's can be read */
	if (pid == 0) {
		struct rlimit mine, of_parent;
		getrlimit(RLIMIT_CORE, &mine);
		if (mine.rlim_cur != 0)
			_exit(1);
		_exit(prlimit(getppid(), RLIMIT_CORE, NULL, &of_parent) || of_parent.rlim_cur);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
}

TEST(prlimit_of_another_user_needs_a_capability)
{
	struct rlimit lim;
	int status;

	need_root();
	pid_t pid = fork();
	if (pid == 0) {
		if (setresuid(1000, 1000, 1000))
			_exit(1);
		if (prlimit(getppid(), RLIMIT_CORE, NULL, &lim) != -1 || errno != EPERM)
			_exit(2);
		_exit(0);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
}
