/* seccomp(2), seccomp_unotify(2), syscall user dispatch.  Hostile arguments first. */
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <ucontext.h>

#include "compat.h"

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#endif
#define SIZE(a) (unsigned short)(sizeof(a) / sizeof(*(a)))
#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define RET(v) BPF_STMT(BPF_RET | BPF_K, v)
/* One call gets an action, the others are allowed. */
#define ON_CALL(nr_, action)                                                           \
	{                                                                              \
		LOAD(nr), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr_, 0, 1), RET(action), \
			RET(SECCOMP_RET_ALLOW)                                         \
	}

static long set_filter(unsigned flags, const struct sock_filter *f, unsigned short n)
{
	struct sock_fprog p = {n, (struct sock_filter *)f};

	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &p);
}

static void no_new_privs(void)
{
	EXPECT_OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
}

static void refused(const struct sock_filter *f, unsigned short n)
{
	EXPECT_ERRNO(set_filter(0, f, n), EINVAL);
}

TEST(seccomp_hostile_arguments)
{
	uint32_t action = SECCOMP_RET_ALLOW;
	struct sock_filter allow[] = {RET(SECCOMP_RET_ALLOW)};
	struct sock_fprog bad = {1, BAD_ADDR}, empty = {0, allow}, big = {4097, allow};

	no_new_privs();
	EXPECT_ERRNO(syscall(SYS_seccomp, 99, 0, NULL), EINVAL);
	EXPECT_ERRNO(syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 1, NULL), EINVAL);
	EXPECT_ERRNO(syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 0, &action), EINVAL);
	EXPECT_ERRNO(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &bad), EFAULT);
	EXPECT_ERRNO(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &empty), EINVAL);
	EXPECT_ERRNO(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &big), EINVAL);
	EXPECT_ERRNO(set_filter(1 << 20, allow, 1), EINVAL);
	EXPECT_ERRNO(
		set_filter(SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_NEW_LISTENER, allow, 1),
		EINVAL);
	EXPECT_ERRNO(set_filter(1 << 5 /* WAIT_KILLABLE_RECV */, allow, 1), EINVAL);
	EXPECT_ERRNO(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 1, &action), EINVAL);
	EXPECT_ERRNO(syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 1, &action), EINVAL);
	EXPECT_ERRNO(prctl(PR_SET_SECCOMP, 7, 0), EINVAL);
	EXPECT_ERRNO(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, BAD_ADDR), EFAULT);
	EXPECT_EQ(prctl(PR_GET_SECCOMP), 0);
}

TEST(seccomp_tells_actions_and_sizes)
{
	uint32_t known[] = {SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD, SECCOMP_RET_TRAP,
			    SECCOMP_RET_ERRNO,	      SECCOMP_RET_USER_NOTIF,  SECCOMP_RET_TRACE,
			    SECCOMP_RET_LOG,	      SECCOMP_RET_ALLOW};
	uint32_t unknown = 0x7ffe0000;
	struct seccomp_notif_sizes sizes;

	for (unsigned i = 0; i < SIZE(known); i++)
		EXPECT_OK(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &known[i]));
	EXPECT_ERRNO(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &unknown), EOPNOTSUPP);
	EXPECT_OK(syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes));
	EXPECT_EQ(sizes.seccomp_notif, 80);
	EXPECT_EQ(sizes.seccomp_notif_resp, 24);
	EXPECT_EQ(sizes.seccomp_data, 64);
}

TEST(seccomp_checks_programs)
{
	no_new_privs();
#define REFUSE(...)                                      \
	do {                                             \
		struct sock_filter f_[] = {__VA_ARGS__}; \
		refused(f_, SIZE(f_));                   \
	} while (0)
	REFUSE(BPF_STMT(BPF_LD | BPF_IMM, 0));			/* no return */
	REFUSE(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 64), RET(0)); /* outside */
	REFUSE(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 2), RET(0));	/* not aligned */
	REFUSE(BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 0), RET(0));	/* half words */
	REFUSE(BPF_STMT(BPF_LD | BPF_W | BPF_IND, 0), RET(0));	/* packets only */
	REFUSE(BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 0), RET(0));
	REFUSE(BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, 3), RET(0));
	REFUSE(BPF_STMT(BPF_ALU | BPF_DIV | BPF_K, 0), RET(0));
	REFUSE(BPF_STMT(BPF_ALU | BPF_LSH | BPF_K, 32), RET(0));
	REFUSE(BPF_STMT(BPF_ST, 16), RET(0));
	REFUSE(BPF_STMT(BPF_LD | BPF_MEM, 0), RET(0));		      /* never written */
	REFUSE(BPF_JUMP(BPF_JMP | BPF_JA, 1, 0, 0), RET(0));	      /* past the end */
	REFUSE(BPF_JUMP(BPF_JMP | BPF_JA, 0xffffffff, 0, 0), RET(0)); /* backwards */
	REFUSE(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1), RET(0));
	REFUSE(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1), BPF_STMT(BPF_ST, 1),
	       BPF_STMT(BPF_LD | BPF_MEM, 1), RET(0)); /* written on one way only */
	REFUSE(BPF_STMT(BPF_RET | BPF_X, 0));
	REFUSE({0xffff, 0, 0, 0}, RET(0));
}

TEST(seccomp_needs_no_new_privs_or_privilege)
{
	struct sock_filter allow[] = {RET(SECCOMP_RET_ALLOW)};

	if (geteuid() != 0)
		test_skip("needs root");
	EXPECT_OK(setresuid(1000, 1000, 1000));
	EXPECT_ERRNO(set_filter(0, allow, 1), EACCES);
	no_new_privs();
	EXPECT_OK(set_filter(0, allow, 1));
	EXPECT_EQ(prctl(PR_GET_SECCOMP), SECCOMP_MODE_FILTER);
}

TEST(seccomp_errno_is_capped_and_newest_wins_ties)
{
	struct sock_filter a[] = ON_CALL(SYS_getpgid, SECCOMP_RET_ERRNO | 7);
	struct sock_filter b[] = ON_CALL(SYS_getpgid, SECCOMP_RET_ERRNO | 9);
	struct sock_filter big[] = ON_CALL(SYS_getsid, SECCOMP_RET_ERRNO | 0xffff);
	struct sock_filter zero[] = ON_CALL(SYS_getpriority, SECCOMP_RET_ERRNO);

	no_new_privs();
	EXPECT_OK(set_filter(0, a, SIZE(a)));
	EXPECT_ERRNO(syscall(SYS_getpgid, 0), 7);
	EXPECT_OK(set_filter(0, b, SIZE(b)));
	EXPECT_ERRNO(syscall(SYS_getpgid, 0), 9);
	EXPECT_OK(set_filter(SECCOMP_FILTER_FLAG_LOG | SECCOMP_FILTER_FLAG_SPEC_ALLOW, big,
			     SIZE(big)));
	EXPECT_ERRNO(syscall(SYS_getsid, 0), 4095);
	EXPECT_OK(set_filter(0, zero, SIZE(zero)));
	EXPECT_EQ(syscall(SYS_getpriority, 0, 0), 0);
}

TEST(seccomp_strictest_action_wins)
{
	struct sock_filter strict[] = ON_CALL(SYS_getpgid, SECCOMP_RET_ERRNO | 5);
	struct sock_filter allow[] = ON_CALL(SYS_getpgid, SECCOMP_RET_ALLOW);
	struct sock_filter log[] = ON_CALL(SYS_getpgid, SECCOMP_RET_LOG);

	no_new_privs();
	EXPECT_OK(set_filter(0, strict, SIZE(strict)));
	EXPECT_OK(set_filter(0, allow, SIZE(allow)));
	EXPECT_OK(set_filter(0, log, SIZE(log)));
	EXPECT_ERRNO(syscall(SYS_getpgid, 0), 5);
}

/* Arguments and arithmetic: A = (args[0] + args[1]) * 2 ^ scratch, compared in every way. */
TEST(seccomp_evaluates_arithmetic)
{
	struct sock_filter f[] = {
		LOAD(nr),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpgid, 0, 18),
		LOAD(args[1]),
		BPF_STMT(BPF_ST, 15),
		LOAD(args[0]),
		BPF_STMT(BPF_LDX | BPF_MEM, 15),
		BPF_STMT(BPF_ALU | BPF_ADD | BPF_X, 0),
		BPF_STMT(BPF_ALU | BPF_MUL | BPF_K, 2),
		BPF_STMT(BPF_ALU | BPF_XOR | BPF_K, 0xff),
		BPF_STMT(BPF_ALU | BPF_NEG, 0),
		BPF_STMT(BPF_ALU | BPF_NEG, 0),
		BPF_STMT(BPF_MISC | BPF_TAX, 0),
		BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0),
		BPF_STMT(BPF_ALU | BPF_SUB | BPF_K, 63),
		BPF_STMT(BPF_ALU | BPF_LSH | BPF_K, 4),
		BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 4),
		BPF_STMT(BPF_ALU | BPF_MUL | BPF_X, 0),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xfff),
		BPF_STMT(BPF_ALU | BPF_OR | BPF_K, SECCOMP_RET_ERRNO),
		BPF_STMT(BPF_RET | BPF_A, 0),
		RET(SECCOMP_RET_ALLOW),
	};

	no_new_privs();
	EXPECT_OK(set_filter(0, f, SIZE(f)));
	EXPECT_ERRNO(syscall(SYS_getpgid, 3, 4), ((3 + 4) * 2) ^ 0xff);
	EXPECT_ERRNO(syscall(SYS_getpgid, 100, 1), ((101 * 2) ^ 0xff) & 0xfff);
}

static void divide_by_zero(void *arg)
{
	struct sock_filter f[] = {
		LOAD(nr),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpgid, 0, 3),
		LOAD(args[0]),
		BPF_STMT(BPF_ALU | BPF_DIV | BPF_X, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		RET(SECCOMP_RET_ALLOW),
	};

	(void)arg;
	no_new_privs();
	EXPECT_OK(set_filter(0, f, SIZE(f)));
	syscall(SYS_getpgid, 0);
	_exit(0);
}

TEST(seccomp_division_by_zero_kills)
{
	int status = test_child(divide_by_zero, NULL);

	EXPECT(WIFSIGNALED(status));
	EXPECT_EQ(WTERMSIG(status), SIGSYS);
}

static void do_action(void *arg)
{
	uint32_t action = *(uint32_t *)arg;
	struct sock_filter f[] = ON_CALL(SYS_getpgid, action);

	signal(SIGSYS, SIG_IGN);
	no_new_privs();
	EXPECT_OK(set_filter(0, f, SIZE(f)));
	syscall(SYS_getpgid, 0);
	_exit(3);
}

TEST(seccomp_kills_whatever_is_done_about_sigsys)
{
	uint32_t action[] = {SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD, SECCOMP_RET_TRAP,
			     0x12340000 /* unknown */};

	for (unsigned i = 0; i < SIZE(action); i++) {
		int status = test_child(do_action, &action[i]);
		EXPECT(WIFSIGNALED(status));
		EXPECT_EQ(WTERMSIG(status), SIGSYS);
	}
}

static void *killed_thread(void *arg)
{
	struct sock_filter f[] = ON_CALL(SYS_getpgid, SECCOMP_RET_KILL_THREAD);

	(void)arg;
	EXPECT_OK(set_filter(0, f, SIZE(f)));
	syscall(SYS_getpgid, 0);
	_exit(1);
}

TEST(seccomp_kill_thread_leaves_the_others)
{
	pthread_t th;

	no_new_privs();
	EXPECT_EQ(pthread_create(&th, NULL, killed_thread, NULL), 0);
	EXPECT_EQ(pthread_join(th, NULL), 0);
	EXPECT_OK(syscall(SYS_getpgid, 0));
	EXPECT_EQ(prctl(PR_GET_SECCOMP), 0);
}

static volatile int trapped, trap_errno, trap_nr, trap_code;
static volatile unsigned trap_arch;
static volatile uintptr_t trap_call, trap_rip, trap_rax;

static void on_sigsys(int signo, siginfo_t *si, void *ctx)
{
	ucontext_t *uc = ctx;

	(void)signo;
	trapped++;
	trap_errno = si->si_errno;
	trap_nr = si->si_syscall;
	trap_arch = si->si_arch;
	trap_code = si->si_code;
	trap_call = (uintptr_t)si->si_call_addr;
	trap_rip = (uintptr_t)uc->uc_mcontext.gregs[REG_RIP];
	trap_rax = (uintptr_t)uc->uc_mcontext.gregs[REG_RAX];
	uc->uc_mcontext.gregs[REG_RAX] = 4711;
}

static void catch_sigsys(void)
{
	struct sigaction sa = {.sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO};

	EXPECT_OK(sigaction(SIGSYS, &sa, NULL));
}

TEST(seccomp_trap_tells_the_handler)
{
	struct sock_filter f[] = ON_CALL(SYS_getpgid, SECCOMP_RET_TRAP | 77);

	no_new_privs();
	catch_sigsys();
	EXPECT_OK(set_filter(0, f, SIZE(f)));
	for (int i = 0; i < 20; i++) {
		EXPECT_EQ(syscall(SYS_getpgid, 0), 4711);
		EXPECT_EQ(trapped, i + 1);
		EXPECT_EQ(trap_errno, 77);
		EXPECT_EQ(trap_nr, SYS_getpgid);
		EXPECT_EQ(trap_code, 1);
		EXPECT_EQ(trap_arch, AUDIT_ARCH_X86_64);
		EXPECT_EQ(trap_call, trap_rip);
		EXPECT_EQ(trap_rax, SYS_getpgid);
		const uint8_t *insn = (const uint8_t *)trap_call - 2;
		EXPECT_EQ(insn[0], 0x0f);
		EXPECT_EQ(insn[1], 0x05);
	}
}

/* The address in seccomp_data is that after the instruction: a filter by place. */
extern char place_call[];
long place_getpgid(void);
__asm__(".text\nplace_getpgid:\n\tmov $121, %eax\n\txor %edi, %edi\n\tsyscall\n"
	"place_call:\n\tret\n");

TEST(seccomp_sees_the_place_of_the_call)
{
	uint64_t at = (uintptr_t)place_call;
	struct sock_filter f[] = {
		LOAD(instruction_pointer),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)at, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, instruction_pointer) + 4),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(at >> 32), 0, 1),
		RET(SECCOMP_RET_ERRNO | 33),
		RET(SECCOMP_RET_ALLOW),
	};

	no_new_privs();
	for (int i = 0; i < 50; i++) /* a hot call may be served another way */
		EXPECT(place_getpgid() > 0);
	EXPECT_OK(set_filter(0, f, SIZE(f)));
	for (int i = 0; i < 50; i++)
		EXPECT_EQ(place_getpgid(), -33);
	EXPECT_OK(syscall(SYS_getpgid, 0));
}

TEST(seccomp_filters_calls_that_need_no_kernel)
{
	struct sock_filter f[] = ON_CALL(SYS_getpid, SECCOMP_RET_ERRNO | 21);

	no_new_privs();
	for (int i = 0; i < 50; i++)
		EXPECT(syscall(SYS_getpid) > 0);
	EXPECT_OK(set_filter(0, f, SIZE(f)));
	for (int i = 0; i < 50; i++)
		EXPECT_ERRNO(syscall(SYS_getpid), 21);
}

static long status_field(const char *name)
{
	char buf[4096];
	int fd = (int)EXPECT_OK(open("/proc/self/status", O_RDONLY));
	ssize_t n = EXPECT_OK(read(fd, buf, sizeof(buf) - 1));

	close(fd);
	buf[n] = 0;
	const char *p = strstr(buf, name);
	EXPECT(p != NULL);
	return strtol(p + strlen(name), NULL, 10);
}

TEST(seccomp_state_is_shown_and_inherited)
{
	struct sock_filter f[] = ON_CALL(SYS_getpgid, SECCOMP_RET_ERRNO | 5);

	no_new_privs();
	EXPECT_EQ(status_field("\nSeccomp:\t"), 0);
	EXPECT_OK(set_filter(0, f, SIZE(f)));
	EXPECT_OK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &(struct sock_fprog){SIZE(f), f}));
	EXPECT_EQ(status_field("\nSeccomp:\t"), 2);
	EXPECT_EQ(status_field("\nSeccomp_filters:\t"), 2);
	pid_t pid = (pid_t)EXPECT_OK(fork());
	if (!pid) {
		EXPECT_ERRNO(syscall(SYS_getpgid, 0), 5);
		execl("/bin/sh", "sh", "-c",
		      "while read a b; do [ $a = Seccomp: ] && [ $b = 2 ] && exit 42; done "
		      "< /proc/self/status; exit 1",
		      NULL);
		_exit(1);
	}
	int status;
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(WEXITSTATUS(status), 42);
}

static void strict(void *arg)
{
	char c;
	int *fds = arg;

	EXPECT_OK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT));
	if (read(fds[0], &c, 1) != 1 || write(fds[1], &c, 1) != 1)
		syscall(SYS_exit, 9);
	syscall(SYS_exit, 5);
}

static void strict_beyond(void *arg)
{
	(void)arg;
	EXPECT_OK(syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 0, NULL));
	syscall(SYS_getpid);
	syscall(SYS_exit, 5);
}

TEST(seccomp_strict_mode_allows_four_calls)
{
	int fds[2];

	EXPECT_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds));
	EXPECT_EQ(write(fds[1], "x", 1), 1);
	EXPECT_EQ(test_child(strict, fds), 5 << 8);
	EXPECT_EQ(test_child(strict_beyond, NULL), SIGKILL);
}

TEST(seccomp_strict_excludes_filters)
{
	struct sock_filter allow[] = {RET(SECCOMP_RET_ALLOW)};

	no_new_privs();
	EXPECT_OK(set_filter(0, allow, 1));
	EXPECT_ERRNO(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT), EINVAL);
}

TEST(seccomp_trace_without_tracer_is_enosys)
{
	struct sock_filter f[] = ON_CALL(SYS_getpgid, SECCOMP_RET_TRACE | 1);

	no_new_privs();
	EXPECT_OK(set_filter(0, f, SIZE(f)));
	EXPECT_ERRNO(syscall(SYS_getpgid, 0), ENOSYS);
}

/* Some kernels have futexes done elsewhere: no call may slip through in their wake. */
TEST(seccomp_filter_sees_the_call_after_a_futex)
{
	struct sock_filter f[] = ON_CALL(SYS_getpgid, SECCOMP_RET_ERRNO | 5);
	const struct timespec ms = {0, 1000000};
	uint32_t word = 0;

	no_new_privs();
	EXPECT_OK(set_filter(0, f, SIZE(f)));
	for (int i = 0; i < 10; i++) {
		EXPECT_ERRNO(syscall(SYS_futex, &word, FUTEX_WAIT, 0, &ms, NULL, 0), ETIMEDOUT);
		EXPECT_ERRNO(syscall(SYS_getpgid, 0), 5);
		for (int k = 0; k < 3; k++)
			EXPECT_EQ(syscall(SYS_futex, &word, FUTEX_WAKE, 1, NULL, NULL, 0), 0);
		EXPECT_ERRNO(syscall(SYS_getpgid, 0), 5);
		sched_yield();
		EXPECT_ERRNO(syscall(SYS_getpgid, 0), 5);
	}
}

static pthread_barrier_t barrier;

static void *synced(void *arg)
{
	(void)arg;
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	errno = 0;
	long r = syscall(SYS_getpgid, 0);
	return (void *)(intptr_t)(r == -1 ? errno : 0);
}

TEST(seccomp_tsync_reaches_all_threads)
{
	struct sock_filter f[] = ON_CALL(SYS_getpgid, SECCOMP_RET_ERRNO | 5);
	pthread_t th[3];
	void *ret;

	EXPECT_EQ(pthread_barrier_init(&barrier, NULL, 4), 0);
	for (int i = 0; i < 3; i++)
		EXPECT_EQ(pthread_create(&th[i], NULL, synced, NULL), 0);
	pthread_barrier_wait(&barrier);
	no_new_privs();
	EXPECT_OK(set_filter(SECCOMP_FILTER_FLAG_TSYNC, f, SIZE(f)));
	pthread_barrier_wait(&barrier);
	for (int i = 0; i < 3; i++) {
		EXPECT_EQ(pthread_join(th[i], &ret), 0);
		EXPECT_EQ((intptr_t)ret, 5);
	}
}

static volatile int diverged_tid;

static void *diverged(void *arg)
{
	struct sock_filter allow[] = {RET(SECCOMP_RET_ALLOW)};

	(void)arg;
	diverged_tid = (int)syscall(SYS_gettid);
	EXPECT_OK(set_filter(0, allow, 1));
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	return NULL;
}

TEST(seccomp_tsync_names_who_diverged)
{
	struct sock_filter allow[] = {RET(SECCOMP_RET_ALLOW)};
	pthread_t th;

	no_new_privs();
	EXPECT_EQ(pthread_barrier_init(&barrier, NULL, 2), 0);
	EXPECT_EQ(pthread_create(&th, NULL, diverged, NULL), 0);
	pthread_barrier_wait(&barrier);
	EXPECT_EQ(set_filter(SECCOMP_FILTER_FLAG_TSYNC, allow, 1), diverged_tid);
	EXPECT_ERRNO(
		set_filter(SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_TSYNC_ESRCH, allow, 1),
		ESRCH);
	EXPECT_EQ(prctl(PR_GET_SECCOMP), 0);
	pthread_barrier_wait(&barrier);
	EXPECT_EQ(pthread_join(th, NULL), 0);
}

/* ---- user notification ---- */

#define NOBODY 999999999 /* no process has this number */

/* A child under a filter that asks about getpgid; calls it and exits with what it got. */
static pid_t asking_child(int *listener, int calls)
{
	struct sock_filter f[] = ON_CALL(SYS_getpgid, SECCOMP_RET_USER_NOTIF);
	int sv[2];
	char ctl[CMSG_SPACE(sizeof(int))], c = 0;
	struct iovec iov = {&c, 1};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = ctl,
			   .msg_controllen = sizeof(ctl)};

	EXPECT_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
	pid_t pid = (pid_t)EXPECT_OK(fork());
	if (!pid) {
		no_new_privs();
		int fd = (int)EXPECT_OK(set_filter(SECCOMP_FILTER_FLAG_NEW_LISTENER, f, SIZE(f)));
		EXPECT_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
		EXPECT_ERRNO(set_filter(SECCOMP_FILTER_FLAG_NEW_LISTENER, f, SIZE(f)), EBUSY);
		struct cmsghdr *h = CMSG_FIRSTHDR(&m);
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(h), &fd, sizeof(fd));
		EXPECT_EQ(sendmsg(sv[1], &m, 0), 1);
		close(fd);
		long r = 0;
		for (int i = 0; i < calls; i++) {
			errno = 0;
			r = syscall(SYS_getpgid, NOBODY);
			if (r == -1)
				r = errno;
		}
		_exit((int)r);
	}
	EXPECT_EQ(recvmsg(sv[0], &m, 0), 1);
	memcpy(listener, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(int));
	close(sv[0]);
	close(sv[1]);
	return pid;
}

static int exit_code(pid_t pid)
{
	int status;

	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void receive(int fd, struct seccomp_notif *n, pid_t pid)
{
	memset(n, 0, sizeof(*n));
	EXPECT_OK(ioctl(fd, SECCOMP_IOCTL_NOTIF_RECV, n));
	EXPECT_EQ(n->pid, pid);
	EXPECT_EQ(n->data.nr, SYS_getpgid);
	EXPECT_EQ(n->data.args[0], NOBODY);
	EXPECT_EQ(n->data.arch, AUDIT_ARCH_X86_64);
}

TEST(seccomp_notify_hostile_arguments)
{
	struct seccomp_notif n = {.flags = 1};
	struct seccomp_notif_resp r = {.id = 12345};
	struct seccomp_notif_addfd a = {.id = 12345};
	uint64_t id = 12345;
	int fd;
	pid_t pid = asking_child(&fd, 1);

	EXPECT_ERRNO(ioctl(fd, SECCOMP_IOCTL_NOTIF_RECV, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(ioctl(fd, SECCOMP_IOCTL_NOTIF_RECV, &n), EINVAL);
	EXPECT_ERRNO(ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, &r), ENOENT);
	EXPECT_ERRNO(ioctl(fd, SECCOMP_IOCTL_NOTIF_ID_VALID, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(ioctl(fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &id), ENOENT);
	EXPECT_ERRNO(ioctl(fd, SECCOMP_IOCTL_NOTIF_ADDFD, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(ioctl(fd, SECCOMP_IOCTL_NOTIF_ADDFD, &a), ENOENT);
	a.flags = 8;
	EXPECT_ERRNO(ioctl(fd, SECCOMP_IOCTL_NOTIF_ADDFD, &a), EINVAL);
	a.flags = 0;
	a.newfd = 9;
	EXPECT_ERRNO(ioctl(fd, SECCOMP_IOCTL_NOTIF_ADDFD, &a), EINVAL);
	a.newfd = 0;
	a.newfd_flags = 1;
	EXPECT_ERRNO(ioctl(fd, SECCOMP_IOCTL_NOTIF_ADDFD, &a), EINVAL);
	EXPECT_ERRNO(ioctl(fd, 0x1234, &a), EINVAL);
	receive(fd, &n, pid);
	r.id = n.id;
	r.flags = 2;
	EXPECT_ERRNO(ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, &r), EINVAL);
	r.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
	r.val = 1;
	EXPECT_ERRNO(ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, &r), EINVAL);
	r.flags = 0;
	r.val = 8;
	EXPECT_OK(ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, &r));
	EXPECT_EQ(exit_code(pid), 8);
}

TEST(seccomp_notify_answers_value_error_and_continue)
{
	struct seccomp_notif n;
	int fd;
	pid_t pid = asking_child(&fd, 3);
	struct pollfd p = {fd, POLLIN | POLLOUT, 0};

	EXPECT_EQ(poll(&p, 1, 5000), 1);
	EXPECT(p.revents & POLLIN);
	receive(fd, &n, pid);
	EXPECT_OK(ioctl(fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &n.id));
	EXPECT_EQ(poll(&p, 1, 0), 1);
	EXPECT_EQ(p.revents, POLLOUT);
	struct seccomp_notif_resp r = {.id = n.id, .val = 3};
	EXPECT_OK(ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, &r));
	receive(fd, &n, pid);
	EXPECT(n.id != r.id);
	r = (struct seccomp_notif_resp){.id = n.id, .error = -EXDEV};
	EXPECT_OK(ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, &r));
	receive(fd, &n, pid);
	r = (struct seccomp_notif_resp){.id = n.id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
	EXPECT_OK(ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, &r));
	EXPECT_EQ(exit_code(pid), ESRCH);
	EXPECT_EQ(poll(&p, 1, 5000), 1);
	EXPECT_EQ(p.revents, POLLHUP);
	EXPECT_ERRNO(ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, &r), ENOENT);
}

TEST(seccomp_notify_adds_descriptors)
{
	struct seccomp_notif n;
	int fd;
	pid_t pid = asking_child(&fd, 2);

	receive(fd, &n, pid);
	struct seccomp_notif_addfd a = {
		.id = n.id, .srcfd = 0, .newfd = 70, .flags = SECCOMP_ADDFD_FLAG_SETFD};
	EXPECT_EQ(ioctl(fd, SECCOMP_IOCTL_NOTIF_ADDFD, &a), 70);
	char name[64];
	struct stat st;
	snprintf(name, sizeof(name), "/proc/%d/fd/70", pid);
	EXPECT_OK(lstat(name, &st));
	a = (struct seccomp_notif_addfd){.id = n.id, .srcfd = 500};
	EXPECT_ERRNO(ioctl(fd, SECCOMP_IOCTL_NOTIF_ADDFD, &a), EBADF);
	a = (struct seccomp_notif_addfd){
		.id = n.id, .srcfd = 0, .newfd_flags = O_CLOEXEC, .flags = SECCOMP_ADDFD_FLAG_SEND};
	int got = (int)EXPECT_OK(ioctl(fd, SECCOMP_IOCTL_NOTIF_ADDFD, &a));
	EXPECT(got > 2);
	receive(fd, &n, pid);
	struct seccomp_notif_resp r = {.id = n.id, .val = 6};
	EXPECT_OK(ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, &r));
	EXPECT_EQ(exit_code(pid), 6);
}

TEST(seccomp_notify_closed_listener_is_enosys)
{
	struct seccomp_notif n;
	int fd;
	pid_t pid = asking_child(&fd, 2);

	receive(fd, &n, pid);
	EXPECT_OK(close(fd));
	EXPECT_EQ(exit_code(pid), ENOSYS);
}

TEST(seccomp_notify_ends_with_the_task)
{
	struct seccomp_notif n;
	int fd, status;
	pid_t pid = asking_child(&fd, 1);

	receive(fd, &n, pid);
	EXPECT_OK(kill(pid, SIGKILL));
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, SIGKILL);
	EXPECT_ERRNO(ioctl(fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &n.id), ENOENT);
	struct pollfd p = {fd, POLLIN, 0};
	EXPECT_EQ(poll(&p, 1, 5000), 1);
	EXPECT_EQ(p.revents, POLLHUP);
}

/* ---- syscall user dispatch ---- */

TEST(user_dispatch_hostile_arguments)
{
	EXPECT_ERRNO(prctl(PR_SET_SYSCALL_USER_DISPATCH, 2, 0, 0, 0), EINVAL);
	EXPECT_ERRNO(prctl(PR_SET_SYSCALL_USER_DISPATCH, 0, 1, 0, 0), EINVAL);
	EXPECT_ERRNO(prctl(PR_SET_SYSCALL_USER_DISPATCH, 0, 0, 1, 0), EINVAL);
	EXPECT_ERRNO(prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, 16, -16L, 0), EINVAL);
	EXPECT_ERRNO(prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, 0, 0, -1L), EFAULT);
	EXPECT_OK(prctl(PR_SET_SYSCALL_USER_DISPATCH, 0, 0, 0, 0));
}

static volatile char selector;

static void on_dispatch(int signo, siginfo_t *si, void *ctx)
{
	selector = 0;
	on_sigsys(signo, si, ctx);
}

TEST(user_dispatch_blocks_by_selector)
{
	struct sigaction sa = {.sa_sigaction = on_dispatch, .sa_flags = SA_SIGINFO};

	EXPECT_OK(sigaction(SIGSYS, &sa, NULL));
	EXPECT_OK(prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, 0, 0, &selector));
	EXPECT(syscall(SYS_getpgid, 0) > 0);
	selector = 1;
	EXPECT_EQ(syscall(SYS_getpgid, 0), 4711);
	EXPECT_EQ(selector, 0);
	EXPECT_EQ(trap_code, 2);
	EXPECT_EQ(trap_nr, SYS_getpgid);
	EXPECT_EQ(trap_call, trap_rip);
	EXPECT(syscall(SYS_getpgid, 0) > 0);
}

static void bad_selector(void *arg)
{
	(void)arg;
	EXPECT_OK(prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, 0, 0, &selector));
	selector = 7;
	syscall(SYS_getpgid, 0);
	_exit(1);
}

TEST(user_dispatch_ends_with_a_bad_selector)
{
	EXPECT_EQ(WTERMSIG(test_child(bad_selector, NULL)), SIGSYS);
}
