/* Calls that a sandbox may answer without asking its kernel: ids, clocks, the signal mask.  Each is
 * made often enough first for whatever shortcut there is to be taken. */
#include "tests/compat/compat.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/time.h>

#define WARM 300

static volatile sig_atomic_t hits, inside, wrong;
static volatile pid_t handled_by;

static void count(int signo)
{
	(void)signo;
	handled_by = (pid_t)syscall(SYS_gettid);
	if (inside)
		wrong++;
	hits++;
}

static void handle(int signo)
{
	struct sigaction sa = {.sa_handler = count};

	EXPECT_OK(sigaction(signo, &sa, NULL));
}

static sigset_t set_of(int signo)
{
	sigset_t set;

	sigemptyset(&set);
	if (signo)
		sigaddset(&set, signo);
	return set;
}

static bool is_blocked(int signo)
{
	sigset_t now;

	EXPECT_OK(sigprocmask(SIG_BLOCK, NULL, &now));
	return sigismember(&now, signo);
}

static void warm_mask(void)
{
	const sigset_t set = set_of(SIGUSR2);

	for (int i = 0; i < WARM; i++) {
		EXPECT_OK(sigprocmask(SIG_BLOCK, &set, NULL));
		EXPECT_OK(sigprocmask(SIG_UNBLOCK, &set, NULL));
	}
}

static pid_t kill_later(pid_t to, int signo)
{
	pid_t pid = fork();

	EXPECT(pid >= 0);
	if (pid == 0)
		_exit(kill(to, signo) ? 1 : 0);
	return pid;
}

TEST(signal_sent_while_blocked_comes_with_the_unblocking)
{
	const sigset_t set = set_of(SIGUSR1);
	sigset_t pending;

	handle(SIGUSR1);
	warm_mask();
	for (int i = 1; i <= 5; i++) {
		EXPECT_OK(sigprocmask(SIG_BLOCK, &set, NULL));
		EXPECT_EQ(waitpid(kill_later(getpid(), SIGUSR1), NULL, 0) > 0, 1);
		EXPECT_EQ(hits, i - 1);
		EXPECT_OK(sigpending(&pending));
		EXPECT(sigismember(&pending, SIGUSR1));
		EXPECT_OK(sigprocmask(SIG_UNBLOCK, &set, NULL));
		EXPECT_EQ(hits, i);
	}
}

TEST(blocked_signals_never_interrupt_and_none_is_lost)
{
	const sigset_t set = set_of(SIGUSR1);
	pid_t self = getpid(), pid;
	int status;

	handle(SIGUSR1);
	warm_mask();
	pid = fork();
	EXPECT(pid >= 0);
	if (pid == 0) {
		for (int i = 0; i < 300; i++) {
			kill(self, SIGUSR1);
			for (volatile int n = 0; n < i * 30; n++)
				;
		}
		_exit(0);
	}
	do {
		for (int i = 0; i < 50; i++) {
			EXPECT_OK(sigprocmask(SIG_BLOCK, &set, NULL));
			inside = 1;
			inside = 0;
			EXPECT_OK(sigprocmask(SIG_UNBLOCK, &set, NULL));
		}
	} while (waitpid(pid, &status, WNOHANG) == 0);
	EXPECT_EQ(status, 0);
	EXPECT_EQ(wrong, 0);
	EXPECT(hits > 0);
	/* One more, whose sender is gone before we look. */
	int before = hits;
	EXPECT_OK(sigprocmask(SIG_BLOCK, &set, NULL));
	EXPECT(waitpid(kill_later(self, SIGUSR1), NULL, 0) > 0);
	EXPECT_OK(sigprocmask(SIG_UNBLOCK, &set, NULL));
	EXPECT_EQ(hits, before + 1);
}

static volatile pid_t open_tid;
static volatile int stop;

static void *stay_open(void *arg)
{
	const sigset_t set = set_of(SIGUSR1);

	EXPECT_OK(pthread_sigmask(SIG_UNBLOCK, &set, NULL));
	open_tid = (pid_t)syscall(SYS_gettid);
	while (!stop)
		;
	return arg;
}

TEST(process_signal_goes_to_the_thread_that_does_not_block_it)
{
	const sigset_t set = set_of(SIGUSR1);
	pthread_t t;

	handle(SIGUSR1);
	EXPECT_EQ(pthread_create(&t, NULL, stay_open, NULL), 0);
	while (!open_tid)
		;
	warm_mask();
	EXPECT_OK(sigprocmask(SIG_BLOCK, &set, NULL));
	EXPECT(waitpid(kill_later(getpid(), SIGUSR1), NULL, 0) > 0);
	while (!hits)
		;
	EXPECT_EQ(handled_by, open_tid);
	stop = 1;
	EXPECT_EQ(pthread_join(t, NULL), 0);
}

TEST(sigprocmask_faults_and_refusals)
{
	const sigset_t set = set_of(SIGUSR1), none = set_of(0);
	sigset_t both = set, *bad = BAD_ADDR;

	warm_mask();
	EXPECT_ERRNO(syscall(SYS_rt_sigprocmask, SIG_BLOCK, bad, NULL, 8), EFAULT);
	EXPECT_ERRNO(syscall(SYS_rt_sigprocmask, SIG_BLOCK, -8L, NULL, 8), EFAULT);
	EXPECT_ERRNO(syscall(SYS_rt_sigprocmask, 77, &set, NULL, 8), EINVAL);
	EXPECT_ERRNO(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &set, NULL, 4), EINVAL);
	EXPECT_OK(syscall(SYS_rt_sigprocmask, 77, NULL, &both, 8)); /* `how` is not looked at */
	EXPECT(!is_blocked(SIGUSR1));
	/* The mask changes before the old one is written. */
	EXPECT_ERRNO(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &set, bad, 8), EFAULT);
	EXPECT(is_blocked(SIGUSR1));
	both = none;
	EXPECT_OK(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &both, &both, 8));
	EXPECT(sigismember(&both, SIGUSR1));
	EXPECT(!is_blocked(SIGUSR1));
	memset(&both, 0xff, sizeof(both));
	EXPECT_OK(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &both, NULL, 8));
	EXPECT(is_blocked(SIGUSR1) && !is_blocked(SIGKILL) && !is_blocked(SIGSTOP));
}

static void expect_blocked(void *arg)
{
	(void)arg;
	EXPECT(is_blocked(SIGUSR1));
	EXPECT(!is_blocked(SIGUSR2));
}

TEST(fork_inherits_the_mask_of_the_moment)
{
	const sigset_t set = set_of(SIGUSR1);

	warm_mask();
	EXPECT_OK(sigprocmask(SIG_BLOCK, &set, NULL));
	EXPECT_EQ(test_child(expect_blocked, NULL), 0);
}

static volatile int created; /* pthread_create(3) blocks all signals for a while */

static void *read_main_mask(void *arg)
{
	while (!created)
		;
	char line[256], path[64];

	snprintf(path, sizeof(path), "/proc/self/task/%d/status", (int)getpid());
	FILE *f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f))
		sscanf(line, "SigBlk: %llx", (unsigned long long *)arg);
	if (f)
		fclose(f);
	stop = 1;
	return NULL;
}

TEST(status_shows_the_mask_of_the_moment)
{
	const sigset_t set = set_of(SIGUSR1);
	unsigned long long seen = 0;
	pthread_t t;

	warm_mask();
	EXPECT_EQ(pthread_create(&t, NULL, read_main_mask, &seen), 0);
	created = 1;
	EXPECT_OK(sigprocmask(SIG_BLOCK, &set, NULL));
	while (!stop)
		;
	EXPECT_EQ(pthread_join(t, NULL), 0);
	stop = created = 0;
	EXPECT_EQ(pthread_create(&t, NULL, read_main_mask, &seen), 0);
	created = 1;
	while (!stop)
		;
	EXPECT_EQ(pthread_join(t, NULL), 0);
	EXPECT_EQ(seen, 1ULL << (SIGUSR1 - 1));
}

/* ---- ids ---- */

struct family {
	volatile int warm, told;
	volatile pid_t grandchild_sees;
};

TEST(getppid_follows_the_death_of_the_parent)
{
	struct family *f =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	EXPECT(f != MAP_FAILED);
	EXPECT_OK(prctl(PR_SET_CHILD_SUBREAPER, 1));
	pid_t me = getpid(), parent = fork();
	EXPECT(parent >= 0);
	if (parent == 0) {
		pid_t self = getpid();
		if (fork() == 0) {
			for (int i = 0; i < WARM; i++)
				if (getppid() != self)
					_exit(1);
			f->warm = 1;
			while (!f->told)
				;
			f->grandchild_sees = getppid();
			_exit(0);
		}
		while (!f->warm)
			;
		_exit(0);
	}
	EXPECT_EQ(waitpid(parent, NULL, 0), parent);
	f->told = 1;
	int status;
	EXPECT_OK(waitpid(-1, &status, 0));
	EXPECT_EQ(status, 0);
	EXPECT_EQ(f->grandchild_sees, me);
}

struct ids {
	uid_t uid, euid;
	gid_t gid, egid;
};

static struct ids ids_now(void)
{
	struct ids ids;

	for (int i = 0; i < WARM; i++)
		ids = (struct ids){getuid(), geteuid(), getgid(), getegid()};
	return ids;
}

static void *change_ids(void *arg)
{
	ids_now();
	if (syscall(SYS_setresgid, 5, 6, 7) || syscall(SYS_setresuid, 0, 9, 10))
		return arg;
	struct ids ids = ids_now();
	if (ids.uid != 0 || ids.euid != 9 || ids.gid != 5 || ids.egid != 6)
		return arg;
	if (syscall(SYS_setresuid, -1, 0, -1))
		return arg;
	return geteuid() == 0 ? NULL : arg;
}

TEST(ids_change_for_the_calling_thread_only)
{
	struct ids before = ids_now();
	pthread_t t;
	void *bad;

	if (before.uid)
		test_skip("needs root");
	EXPECT_EQ(pthread_create(&t, NULL, change_ids, &before), 0);
	EXPECT_EQ(pthread_join(t, &bad), 0);
	EXPECT(!bad);
	struct ids after = ids_now();
	EXPECT(!memcmp(&before, &after, sizeof(before)));
}

static void expect_own_ids(void *arg)
{
	pid_t parent = *(pid_t *)arg;

	for (int i = 0; i < WARM; i++) {
		EXPECT(getpid() != parent);
		EXPECT_EQ(getpid(), syscall(SYS_gettid));
		EXPECT_EQ(getppid(), parent);
	}
}

TEST(children_and_threads_see_their_own_ids)
{
	pid_t self = getpid();

	for (int i = 0; i < WARM; i++) {
		EXPECT_EQ(syscall(SYS_getpid), self);
		EXPECT_EQ(syscall(SYS_gettid), self);
	}
	EXPECT_EQ(test_child(expect_own_ids, &self), 0);
	pid_t pid = vfork();
	EXPECT(pid >= 0);
	if (pid == 0)
		_exit(syscall(SYS_getppid) != self || syscall(SYS_getpid) == self);
	int status;
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	EXPECT_EQ(syscall(SYS_getpid), self);
}

TEST(filters_see_calls_that_need_no_kernel)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getuid, 1, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigprocmask, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EXDEV),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = {sizeof(code) / sizeof(code[0]), code};

	warm_mask();
	ids_now();
	EXPECT_OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	EXPECT_OK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog));
	EXPECT_ERRNO(syscall(SYS_getuid), EXDEV);
	EXPECT_ERRNO(sigprocmask(SIG_BLOCK, NULL, NULL), EXDEV);
}

/* ---- clocks ---- */

static int64_t ns_of(const struct timespec *t)
{
	return t->tv_sec * 1000000000LL + t->tv_nsec;
}

static void expect_clocks_agree(void)
{
	static const int clocks[] = {CLOCK_REALTIME,	  CLOCK_MONOTONIC,
				     CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE,
				     CLOCK_BOOTTIME,	  CLOCK_PROCESS_CPUTIME_ID,
				     CLOCK_TAI,		  CLOCK_THREAD_CPUTIME_ID};
	struct timespec a, b, c;

	for (size_t i = 0; i < sizeof(clocks) / sizeof(clocks[0]); i++)
		for (int n = 0; n < 50; n++) {
			EXPECT_OK(syscall(SYS_clock_gettime, clocks[i], &a));
			EXPECT_OK(clock_gettime(clocks[i], &b));
			EXPECT_OK(syscall(SYS_clock_gettime, clocks[i], &c));
			EXPECT(ns_of(&a) <= ns_of(&b) && ns_of(&b) <= ns_of(&c));
		}
}

TEST(clock_calls_agree_with_the_vdso)
{
	struct timeval tv;
	time_t t, t2;

	expect_clocks_agree();
	for (int i = 0; i < WARM; i++) {
		EXPECT_OK(syscall(SYS_gettimeofday, &tv, NULL));
		EXPECT(tv.tv_usec >= 0 && tv.tv_usec < 1000000);
		t = (time_t)syscall(SYS_time, NULL);
		EXPECT(t >= tv.tv_sec - 1 && t <= tv.tv_sec + 2);
	}
	t = (time_t)syscall(SYS_time, &t2);
	EXPECT_EQ(t, t2);
}

TEST(clock_calls_fault_and_refuse)
{
	char *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned cpu = 1 << 30, node = 1 << 30;
	struct timespec t;

	EXPECT(p != MAP_FAILED);
	EXPECT_OK(munmap(p + 4096, 4096));
	for (int i = 0; i < WARM; i++) {
		EXPECT_ERRNO(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, NULL), EFAULT);
		EXPECT_ERRNO(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, BAD_ADDR), EFAULT);
		EXPECT_ERRNO(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, p + 4088), EFAULT);
		EXPECT_ERRNO(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, -16L), EFAULT);
		EXPECT_ERRNO(syscall(SYS_clock_gettime, 99, &t), EINVAL);
		EXPECT_ERRNO(syscall(SYS_gettimeofday, p + 4088, NULL), EFAULT);
		EXPECT_ERRNO(syscall(SYS_getcpu, BAD_ADDR, NULL, NULL), EFAULT);
		EXPECT_OK(syscall(SYS_getcpu, NULL, NULL, NULL));
		EXPECT_OK(syscall(SYS_getcpu, &cpu, &node, NULL));
		EXPECT(cpu < 1 << 20 && node < 1 << 20);
	}
	EXPECT_OK(mprotect(p, 4096, PROT_READ));
	EXPECT_ERRNO(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, p), EFAULT);
}

static unsigned long find_vdso(unsigned long *len)
{
	unsigned long start = 0, end = 0;
	FILE *f = fopen("/proc/self/maps", "r");
	char line[256];

	EXPECT(f);
	while (fgets(line, sizeof(line), f))
		if (strstr(line, "[vdso]") && sscanf(line, "%lx-%lx", &start, &end) == 2)
			break;
	fclose(f);
	*len = end - start;
	return start;
}

TEST(clock_calls_work_without_a_vdso)
{
	unsigned long len, base = find_vdso(&len);
	struct timespec t;

	if (!base)
		test_skip("no vDSO here");
	for (int i = 0; i < WARM; i++)
		EXPECT_OK(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &t));
	if (munmap((void *)base, len))
		test_skip("the host seals its vDSO");
	for (int i = 0; i < WARM; i++)
		EXPECT_OK(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &t));
}

static int go[2], ready[2];

static void *ask_for_kin(void *arg)
{
	char c = 0;

	for (int i = 0; i < WARM; i++)
		if (getpgrp() != getpgid(0) || getsid(0) < 0)
			return arg;
	if (write(ready[1], &c, 1) != 1 || read(go[0], &c, 1) != 1)
		return arg;
	return getpgrp() == getpid() && getpgid(0) == getpid() ? NULL : arg;
}

TEST(process_group_given_by_the_parent_shows_at_once)
{
	int status;
	char c = 0;

	EXPECT_OK(pipe(go));
	EXPECT_OK(pipe(ready));
	const pid_t group = getpgrp(), session = getsid(0);
	pid_t pid = (pid_t)EXPECT_OK(fork());
	if (pid == 0) {
		pthread_t t;
		void *bad;
		for (int i = 0; i < WARM; i++)
			if (getpgrp() != group || getpgid(0) != group || getsid(0) != session)
				_exit(1);
		if (pthread_create(&t, NULL, ask_for_kin, go) || pthread_join(t, &bad) || bad)
			_exit(2);
		if (getpgrp() != getpid() || getpgid(0) != getpid() || getsid(0) != session)
			_exit(3);
		_exit(0);
	}
	EXPECT_EQ(read(ready[0], &c, 1), 1);
	EXPECT_OK(setpgid(pid, pid));
	EXPECT_EQ(getpgid(pid), pid);
	EXPECT_EQ(write(go[1], &c, 1), 1);
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	EXPECT_EQ(getpgrp(), group);
}

static void begin_session(void *arg)
{
	(void)arg;
	for (int i = 0; i < WARM; i++)
		EXPECT(getsid(0) != getpid() && getpgrp() != getpid());
	EXPECT_EQ(setsid(), getpid());
	for (int i = 0; i < 3; i++) {
		EXPECT_EQ(getsid(0), getpid());
		EXPECT_EQ(getpgrp(), getpid());
		EXPECT_EQ(getpgid(0), getpid());
	}
	EXPECT_ERRNO(getsid(-1), ESRCH);
	EXPECT_EQ(getsid(getppid()) == getpid(), 0);
	/* A child has its parent's, and does not know them from the parent's asking. */
	pid_t own = getpid(), pid = (pid_t)EXPECT_OK(fork());
	if (pid == 0)
		_exit(getsid(0) == own && getpgrp() == own && setpgid(0, 0) == 0 &&
				      getpgrp() == getpid() && getsid(0) == own
			      ? 0
			      : 1);
	int status;
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
}

TEST(session_that_begins_shows_at_once)
{
	EXPECT_EQ(test_child(begin_session, NULL), 0);
}
