/* ptrace(2).  Hostile arguments first; then each kind of stop, request and rule. */
#include <elf.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>

#include "compat.h"

#define EVENT_STATUS(event) ((SIGTRAP | (event) << 8) << 8 | 0x7f)
#define STOP_STATUS(sig) ((sig) << 8 | 0x7f)
/* glibc's enum has no name for it. */
#define EVENT_STOP 128

static long trace(long request, pid_t pid, uint64_t addr, uint64_t data)
{
	return syscall(SYS_ptrace, request, pid, addr, data);
}
#define P(x) ((uint64_t)(uintptr_t)(x))

static int wait_status(pid_t pid)
{
	int status;

	EXPECT_EQ(waitpid(pid, &status, __WALL), pid);
	return status;
}

/* A child that is traced and stands in SIGSTOP's delivery; then runs fn. */
static pid_t traced_child(void (*fn)(void))
{
	pid_t pid = (pid_t)EXPECT_OK(fork());

	if (!pid) {
		EXPECT_OK(trace(PTRACE_TRACEME, 0, 0, 0));
		raise(SIGSTOP);
		fn();
		_exit(0);
	}
	EXPECT_EQ(wait_status(pid), STOP_STATUS(SIGSTOP));
	return pid;
}

static void nothing(void)
{
}

static void forever(void)
{
	for (;;)
		pause();
}

static void end(pid_t pid)
{
	EXPECT_OK(kill(pid, SIGKILL));
	EXPECT_EQ(wait_status(pid), SIGKILL);
}

TEST(ptrace_hostile_arguments)
{
	pid_t pid = traced_child(nothing);
	struct iovec bad = {BAD_ADDR, 216}, odd = {&bad, 7};

	EXPECT_ERRNO(trace(PTRACE_PEEKDATA, pid, P(BAD_ADDR), P(&bad)), EIO);
	EXPECT_ERRNO(trace(PTRACE_PEEKDATA, pid, P(&bad), P(BAD_ADDR)), EFAULT);
	EXPECT_ERRNO(trace(PTRACE_POKEDATA, pid, P(BAD_ADDR), 0), EIO);
	EXPECT_ERRNO(trace(PTRACE_PEEKUSER, pid, 1, P(&bad)), EIO);
	EXPECT_ERRNO(trace(PTRACE_PEEKUSER, pid, 4096, P(&bad)), EIO);
	EXPECT_ERRNO(trace(PTRACE_POKEUSER, pid, -8UL, 0), EIO);
	EXPECT_ERRNO(trace(PTRACE_GETREGS, pid, 0, P(BAD_ADDR)), EFAULT);
	EXPECT_ERRNO(trace(PTRACE_SETREGS, pid, 0, P(BAD_ADDR)), EFAULT);
	EXPECT_ERRNO(trace(PTRACE_GETFPREGS, pid, 0, P(BAD_ADDR)), EFAULT);
	EXPECT_ERRNO(trace(PTRACE_GETREGSET, pid, NT_PRSTATUS, P(BAD_ADDR)), EFAULT);
	EXPECT_ERRNO(trace(PTRACE_GETREGSET, pid, NT_PRSTATUS, P(&bad)), EFAULT);
	EXPECT_ERRNO(trace(PTRACE_GETREGSET, pid, NT_PRSTATUS, P(&odd)), EINVAL);
	EXPECT_ERRNO(trace(PTRACE_GETREGSET, pid, 0x7777, P(&bad)), EINVAL);
	EXPECT_ERRNO(trace(PTRACE_GETSIGINFO, pid, 0, P(BAD_ADDR)), EFAULT);
	EXPECT_ERRNO(trace(PTRACE_SETSIGINFO, pid, 0, P(BAD_ADDR)), EFAULT);
	EXPECT_ERRNO(trace(PTRACE_GETSIGMASK, pid, 4, P(&bad)), EINVAL);
	EXPECT_ERRNO(trace(PTRACE_GETSIGMASK, pid, 8, P(BAD_ADDR)), EFAULT);
	EXPECT_ERRNO(trace(PTRACE_PEEKSIGINFO, pid, P(BAD_ADDR), P(&bad)), EFAULT);
	EXPECT_ERRNO(trace(PTRACE_SETOPTIONS, pid, 0, 1UL << 30), EINVAL);
	EXPECT_ERRNO(trace(PTRACE_GETEVENTMSG, pid, 0, P(BAD_ADDR)), EFAULT);
	EXPECT_ERRNO(trace(PTRACE_CONT, pid, 0, 65), EIO);
	EXPECT_ERRNO(trace(PTRACE_INTERRUPT, pid, 0, 0), EIO); /* not seized */
	EXPECT_ERRNO(trace(PTRACE_LISTEN, pid, 0, 0), EIO);
	EXPECT_ERRNO(trace(0x9999, pid, 0, 0), EIO);
	EXPECT_ERRNO(trace(PTRACE_SEIZE, pid, 1, 0), EIO);
	EXPECT_ERRNO(trace(PTRACE_SEIZE, pid, 0, 1UL << 30), EIO);
	EXPECT_ERRNO(trace(PTRACE_ATTACH, pid, 0, 0), EPERM); /* is traced */
	EXPECT_ERRNO(trace(PTRACE_ATTACH, getpid(), 0, 0), EPERM);
	EXPECT_ERRNO(trace(PTRACE_ATTACH, 999999999, 0, 0), ESRCH);
	EXPECT_ERRNO(trace(PTRACE_CONT, getppid(), 0, 0), ESRCH);
	EXPECT_OK(trace(PTRACE_CONT, pid, 0, 0));
	EXPECT_EQ(wait_status(pid), 0);
}

TEST(ptrace_requests_need_a_stop)
{
	pid_t pid = traced_child(forever);
	struct user_regs_struct regs;

	EXPECT_OK(trace(PTRACE_CONT, pid, 0, 0));
	EXPECT_ERRNO(trace(PTRACE_GETREGS, pid, 0, P(&regs)), ESRCH);
	EXPECT_ERRNO(trace(PTRACE_CONT, pid, 0, 0), ESRCH);
	EXPECT_OK(trace(PTRACE_KILL, pid, 0, 0));
	EXPECT_EQ(wait_status(pid), SIGKILL);
}

TEST(ptrace_attach_follows_permissions)
{
	if (geteuid() != 0)
		test_skip("needs root");
	pid_t pid = (pid_t)EXPECT_OK(fork());
	if (!pid)
		forever();
	pid_t other = (pid_t)EXPECT_OK(fork());
	if (!other) {
		EXPECT_OK(setresuid(1000, 1000, 1000));
		EXPECT_ERRNO(trace(PTRACE_ATTACH, pid, 0, 0), EPERM);
		EXPECT_ERRNO(trace(PTRACE_SEIZE, pid, 0, 0), EPERM);
		_exit(0);
	}
	EXPECT_EQ(wait_status(other), 0);
	end(pid);
}

/* ---- memory and registers ---- */

static volatile uint64_t word = 0x1122334455667788;

__attribute__((noinline)) static int answer(void)
{
	__asm__ volatile("");
	return 42;
}

static void call_answer(void)
{
	_exit(word == 77 ? answer() : 1);
}

TEST(ptrace_reads_and_writes_memory)
{
	pid_t pid = traced_child(call_answer);
	uint64_t seen;

	EXPECT_OK(trace(PTRACE_PEEKDATA, pid, P(&word), P(&seen)));
	EXPECT_EQ(seen, word);
	EXPECT_OK(trace(PTRACE_POKEDATA, pid, P(&word), 77));
	EXPECT_OK(trace(PTRACE_CONT, pid, 0, 0));
	EXPECT_EQ(wait_status(pid), 42 << 8);
	EXPECT_EQ(word, 0x1122334455667788);
}

TEST(ptrace_breakpoint_in_program_text)
{
	pid_t pid = traced_child(call_answer);
	struct user_regs_struct regs;
	uint64_t text, at = P(answer);
	siginfo_t si;

	EXPECT_OK(trace(PTRACE_POKEDATA, pid, P(&word), 77));
	EXPECT_OK(trace(PTRACE_PEEKTEXT, pid, at, P(&text)));
	EXPECT_OK(trace(PTRACE_POKETEXT, pid, at, (text & ~0xffUL) | 0xcc));
	EXPECT_OK(trace(PTRACE_CONT, pid, 0, 0));
	EXPECT_EQ(wait_status(pid), STOP_STATUS(SIGTRAP));
	EXPECT_OK(trace(PTRACE_GETSIGINFO, pid, 0, P(&si)));
	EXPECT_EQ(si.si_signo, SIGTRAP);
	EXPECT_EQ(si.si_code, SI_KERNEL);
	EXPECT_OK(trace(PTRACE_GETREGS, pid, 0, P(&regs)));
	EXPECT_EQ(regs.rip, at + 1);
	EXPECT_OK(trace(PTRACE_POKETEXT, pid, at, text));
	EXPECT_OK(trace(PTRACE_POKEUSER, pid, offsetof(struct user_regs_struct, rip), at));
	EXPECT_OK(trace(PTRACE_SINGLESTEP, pid, 0, 0));
	EXPECT_EQ(wait_status(pid), STOP_STATUS(SIGTRAP));
	EXPECT_OK(trace(PTRACE_GETSIGINFO, pid, 0, P(&si)));
	EXPECT_EQ(si.si_code, TRAP_TRACE);
	uint64_t rip;
	EXPECT_OK(trace(PTRACE_PEEKUSER, pid, offsetof(struct user_regs_struct, rip), P(&rip)));
	EXPECT(rip > at && rip < at + 16);
	uint64_t flags;
	EXPECT_OK(
		trace(PTRACE_PEEKUSER, pid, offsetof(struct user_regs_struct, eflags), P(&flags)));
	EXPECT_EQ(flags & 0x100, 0);
	EXPECT_OK(trace(PTRACE_CONT, pid, 0, 0));
	EXPECT_EQ(wait_status(pid), 42 << 8);
	EXPECT_EQ(answer(), 42); /* only the child's copy was written */
}

TEST(ptrace_breakpoint_through_proc_mem)
{
	pid_t pid = traced_child(call_answer);
	char name[64], brk = (char)0xcc;

	EXPECT_OK(trace(PTRACE_POKEDATA, pid, P(&word), 77));
	snprintf(name, sizeof(name), "/proc/%d/mem", pid);
	int fd = (int)EXPECT_OK(open(name, O_RDWR));
	EXPECT_EQ(pwrite(fd, &brk, 1, (off_t)P(answer)), 1);
	EXPECT_OK(trace(PTRACE_CONT, pid, 0, 0));
	EXPECT_EQ(wait_status(pid), STOP_STATUS(SIGTRAP));
	end(pid);
}

TEST(ptrace_registers_through_sets)
{
	pid_t pid = traced_child(nothing);
	struct user_regs_struct regs, set;
	struct user_fpregs_struct fp, fp2;
	struct iovec iov = {&set, sizeof(set)};
	static uint8_t xstate[8192];

	EXPECT_OK(trace(PTRACE_GETREGS, pid, 0, P(&regs)));
	EXPECT_OK(trace(PTRACE_GETREGSET, pid, NT_PRSTATUS, P(&iov)));
	EXPECT_EQ(iov.iov_len, sizeof(set));
	EXPECT(!memcmp(&regs, &set, sizeof(regs)));
	EXPECT_EQ(regs.cs, 0x33);
	EXPECT_EQ(regs.ss, 0x2b);
	regs.r15 = 0x1234;
	EXPECT_OK(trace(PTRACE_SETREGS, pid, 0, P(&regs)));
	iov.iov_len = 16; /* short: r15, r14 */
	EXPECT_OK(trace(PTRACE_GETREGSET, pid, NT_PRSTATUS, P(&iov)));
	EXPECT_EQ(iov.iov_len, 16);
	EXPECT_EQ(set.r15, 0x1234);
	regs.cs = 0;
	EXPECT_ERRNO(trace(PTRACE_SETREGS, pid, 0, P(&regs)), EIO);

	EXPECT_OK(trace(PTRACE_GETFPREGS, pid, 0, P(&fp)));
	fp.xmm_space[0] = 0xabcdef;
	EXPECT_OK(trace(PTRACE_SETFPREGS, pid, 0, P(&fp)));
	iov = (struct iovec){&fp2, sizeof(fp2)};
	EXPECT_OK(trace(PTRACE_GETREGSET, pid, NT_PRFPREG, P(&iov)));
	EXPECT_EQ(fp2.xmm_space[0], 0xabcdef);
	fp.mxcsr = 0xffffffff;
	EXPECT_ERRNO(trace(PTRACE_SETFPREGS, pid, 0, P(&fp)), EINVAL);
	iov = (struct iovec){xstate, sizeof(xstate)};
	EXPECT_OK(trace(PTRACE_GETREGSET, pid, NT_X86_XSTATE, P(&iov)));
	EXPECT(iov.iov_len >= 576 && iov.iov_len < sizeof(xstate));
	EXPECT_EQ(*(uint32_t *)(xstate + 160), 0xabcdef);
	EXPECT_EQ(*(uint64_t *)(xstate + 464) & 3, 3); /* the components there are */
	*(uint32_t *)(xstate + 160) = 0x55;
	EXPECT_OK(trace(PTRACE_SETREGSET, pid, NT_X86_XSTATE, P(&iov)));
	EXPECT_OK(trace(PTRACE_GETFPREGS, pid, 0, P(&fp)));
	EXPECT_EQ(fp.xmm_space[0], 0x55);
	end(pid);
}

TEST(ptrace_debug_registers_read_as_zero)
{
	pid_t pid = traced_child(nothing);
	uint64_t v = 1;

	EXPECT_OK(trace(PTRACE_PEEKUSER, pid, offsetof(struct user, u_debugreg[0]), P(&v)));
	EXPECT_EQ(v, 0);
	EXPECT_ERRNO(trace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg[4]), 1), EIO);
	EXPECT_ERRNO(trace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg[0]), -1UL),
		     EINVAL);
	end(pid);
}

/* ---- calls ---- */

static void three_calls(void)
{
	syscall(SYS_getpgid, 0);
	syscall(SYS_getsid, 12, 34);
	_exit((int)syscall(SYS_getppid) == 4711);
}

static struct user_regs_struct next_call(pid_t pid, int status)
{
	struct user_regs_struct regs;

	EXPECT_OK(trace(PTRACE_SYSCALL, pid, 0, 0));
	EXPECT_EQ(wait_status(pid), status);
	EXPECT_OK(trace(PTRACE_GETREGS, pid, 0, P(&regs)));
	return regs;
}

/* Steps over calls until the entry of this one. */
static struct user_regs_struct find_call(pid_t pid, int status, uint64_t nr)
{
	struct user_regs_struct regs;

	do
		regs = next_call(pid, status);
	while (regs.orig_rax != nr || regs.rax != (uint64_t)-ENOSYS);
	return regs;
}

TEST(ptrace_syscall_stops)
{
	pid_t pid = traced_child(three_calls);
	struct user_regs_struct regs;
	siginfo_t si;

	regs = find_call(pid, STOP_STATUS(SIGTRAP), SYS_getpgid);
	EXPECT_OK(trace(PTRACE_GETSIGINFO, pid, 0, P(&si)));
	EXPECT_EQ(si.si_code, SIGTRAP);
	EXPECT_OK(trace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD));
	regs = next_call(pid, STOP_STATUS(SIGTRAP | 0x80));
	EXPECT_EQ(regs.orig_rax, SYS_getpgid);
	EXPECT_EQ(regs.rax, getpgid(0));
	regs = next_call(pid, STOP_STATUS(SIGTRAP | 0x80));
	EXPECT_EQ(regs.orig_rax, SYS_getsid);
	EXPECT_EQ(regs.rdi, 12);
	EXPECT_EQ(regs.rsi, 34);
	/* Another call instead: getpid. */
	regs.orig_rax = SYS_getpid;
	EXPECT_OK(trace(PTRACE_SETREGS, pid, 0, P(&regs)));
	regs = next_call(pid, STOP_STATUS(SIGTRAP | 0x80));
	EXPECT_EQ(regs.rax, pid);
	/* No call at all, and a result of the tracer's. */
	regs = next_call(pid, STOP_STATUS(SIGTRAP | 0x80));
	EXPECT_EQ(regs.orig_rax, SYS_getppid);
	regs.orig_rax = -1UL;
	EXPECT_OK(trace(PTRACE_SETREGS, pid, 0, P(&regs)));
	regs = next_call(pid, STOP_STATUS(SIGTRAP | 0x80));
	regs.rax = 4711;
	EXPECT_OK(trace(PTRACE_SETREGS, pid, 0, P(&regs)));
	EXPECT_OK(trace(PTRACE_CONT, pid, 0, 0));
	EXPECT_EQ(wait_status(pid), 1 << 8);
}

struct info { /* struct ptrace_syscall_info's beginning */
	uint8_t op, pad[3];
	uint32_t arch;
	uint64_t ip, sp, nr_or_rval, args[6];
};

TEST(ptrace_get_syscall_info)
{
	pid_t pid = traced_child(three_calls);
	struct info i = {0};

	EXPECT_EQ(trace(0x420e, pid, sizeof(i), P(&i)), 24);
	EXPECT_EQ(i.op, 0);
	EXPECT_EQ(i.arch, AUDIT_ARCH_X86_64);
	EXPECT_OK(trace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD));
	struct user_regs_struct regs = find_call(pid, STOP_STATUS(SIGTRAP | 0x80), SYS_getpgid);
	EXPECT_EQ(trace(0x420e, pid, sizeof(i), P(&i)), 80);
	EXPECT_EQ(i.op, 1);
	EXPECT_EQ(i.ip, regs.rip);
	EXPECT_EQ(i.sp, regs.rsp);
	EXPECT_EQ(i.nr_or_rval, SYS_getpgid);
	next_call(pid, STOP_STATUS(SIGTRAP | 0x80));
	EXPECT_EQ(trace(0x420e, pid, sizeof(i), P(&i)), 33);
	EXPECT_EQ(i.op, 2);
	EXPECT_EQ(i.nr_or_rval, getpgid(0));
	EXPECT_ERRNO(trace(0x420e, pid, sizeof(i), P(BAD_ADDR)), EFAULT);
	end(pid);
}

#define SYSEMU 31

TEST(ptrace_sysemu_runs_no_call)
{
	pid_t pid = traced_child(three_calls);
	struct user_regs_struct regs;

	find_call(pid, STOP_STATUS(SIGTRAP), SYS_getsid);
	next_call(pid, STOP_STATUS(SIGTRAP));
	EXPECT_OK(trace(SYSEMU, pid, 0, 0));
	EXPECT_EQ(wait_status(pid), STOP_STATUS(SIGTRAP));
	EXPECT_OK(trace(PTRACE_GETREGS, pid, 0, P(&regs)));
	EXPECT_EQ(regs.orig_rax, SYS_getppid);
	regs.rax = 4711;
	EXPECT_OK(trace(PTRACE_SETREGS, pid, 0, P(&regs)));
	EXPECT_OK(trace(PTRACE_CONT, pid, 0, 0));
	EXPECT_EQ(wait_status(pid), 1 << 8);
}

TEST(ptrace_step_over_a_call_stops_after_it)
{
	pid_t pid = traced_child(three_calls);
	struct user_regs_struct regs = find_call(pid, STOP_STATUS(SIGTRAP), SYS_getsid);
	uint64_t rip = regs.rip;

	EXPECT_OK(trace(PTRACE_SINGLESTEP, pid, 0, 0));
	EXPECT_EQ(wait_status(pid), STOP_STATUS(SIGTRAP));
	EXPECT_OK(trace(PTRACE_GETREGS, pid, 0, P(&regs)));
	EXPECT_EQ(regs.rip, rip);
	EXPECT_EQ(regs.rax, (uint64_t)-ESRCH);
	EXPECT_OK(trace(PTRACE_SINGLESTEP, pid, 0, 0));
	EXPECT_EQ(wait_status(pid), STOP_STATUS(SIGTRAP));
	EXPECT_OK(trace(PTRACE_GETREGS, pid, 0, P(&regs)));
	EXPECT(regs.rip != rip);
	end(pid);
}

TEST(ptrace_shows_original_code_of_hot_calls)
{
	pid_t pid = (pid_t)EXPECT_OK(fork());
	if (!pid)
		for (;;)
			for (int i = 0; i < 1000; i++)
				getppid();
	test_sleep_ms(50);
	EXPECT_OK(trace(PTRACE_ATTACH, pid, 0, 0));
	EXPECT_EQ(wait_status(pid), STOP_STATUS(SIGSTOP));
	for (uint64_t at = P(getppid); at < P(getppid) + 16; at += 8) {
		uint64_t text;
		EXPECT_OK(trace(PTRACE_PEEKTEXT, pid, at, P(&text)));
		/* Ours may be patched as well; a jump's opcode must not be there. */
		EXPECT((text & 0xff) != 0xe9);
	}
	struct user_regs_struct regs;
	for (int i = 0; i < 20; i++) {
		EXPECT_OK(trace(PTRACE_SINGLESTEP, pid, 0, 0));
		EXPECT_EQ(wait_status(pid), STOP_STATUS(SIGTRAP));
		EXPECT_OK(trace(PTRACE_GETREGS, pid, 0, P(&regs)));
		EXPECT(regs.rip < 0x800000000000);
	}
	end(pid);
}

/* ---- signals ---- */

static volatile int handled;

static void on_signal(int signo)
{
	handled = signo;
}

static void raise_usr1(void)
{
	signal(SIGUSR1, on_signal);
	signal(SIGUSR2, on_signal);
	raise(SIGUSR1);
	_exit(handled);
}

TEST(ptrace_signals_can_be_taken_changed_and_passed)
{
	siginfo_t si;
	pid_t pid = traced_child(raise_usr1);

	EXPECT_OK(trace(PTRACE_CONT, pid, 0, 0));
	EXPECT_EQ(wait_status(pid), STOP_STATUS(SIGUSR1));
	EXPECT_OK(trace(PTRACE_GETSIGINFO, pid, 0, P(&si)));
	EXPECT_EQ(si.si_signo, SIGUSR1);
	EXPECT_EQ(si.si_pid, pid);
	EXPECT_EQ(si.si_code, SI_TKILL);
	EXPECT_OK(trace(PTRACE_SETSIGINFO, pid, 0, P(&si)));
	EXPECT_OK(trace(PTRACE_CONT, pid, 0, SIGUSR1));
	EXPECT_EQ(wait_status(pid), SIGUSR1 << 8);

	pid = traced_child(raise_usr1);
	EXPECT_OK(trace(PTRACE_CONT, pid, 0, 0));
	EXPECT_EQ(wait_status(pid), STOP_STATUS(SIGUSR1));
	EXPECT_OK(trace(PTRACE_CONT, pid, 0, SIGUSR2));
	EXPECT_EQ(wait_status(pid), SIGUSR2 << 8);

	pid = traced_child(raise_usr1);
	EXPECT_OK(trace(PTRACE_CONT, pid, 0, 0));
	EXPECT_EQ(wait_status(pid), STOP_STATUS(SIGUSR1));
	EXPECT_OK(trace(PTRACE_CONT, pid, 0, 0));
	EXPECT_EQ(wait_status(pid), 0);

	pid = traced_child(raise_usr1);
	EXPECT_OK(trace(PTRACE_CONT, pid, 0, 0));
	EXPECT_EQ(wait_status(pid), STOP_STATUS(SIGUSR1));
	EXPECT_OK(trace(PTRACE_CONT, pid, 0, SIGKILL));
	EXPECT_EQ(wait_status(pid), SIGKILL);
}

static void raise_ignored(void)
{
	signal(SIGWINCH, SIG_IGN);
	raise(SIGWINCH);
}

TEST(ptrace_tracer_sees_ignored_signals)
{
	pid_t pid = traced_child(raise_ignored);

	EXPECT_OK(trace(PTRACE_CONT, pid, 0, 0));
	EXPECT_EQ(wait_status(pid), STOP_STATUS(SIGWINCH));
	EXPECT_OK(trace(PTRACE_CONT, pid, 0, SIGWINCH));
	EXPECT_EQ(wait_status(pid), 0);
}

TEST(ptrace_step_enters_a_handler)
{
	pid_t pid = traced_child(raise_usr1);
	struct user_regs_struct regs;

	EXPECT_OK(trace(PTRACE_CONT, pid, 0, 0));
	EXPECT_EQ(wait_status(pid), STOP_STATUS(SIGUSR1));
	EXPECT_OK(trace(PTRACE_SINGLESTEP, pid, 0, SIGUSR1));
	EXPECT_EQ(wait_status(pid), STOP_STATUS(SIGTRAP));
	EXPECT_OK(trace(PTRACE_GETREGS, pid, 0, P(&regs)));
	EXPECT_EQ(regs.rip, P(on_signal));
	EXPECT_OK(trace(PTRACE_CONT, pid, 0, 0));
	EXPECT_EQ(wait_status(pid), SIGUSR1 << 8);
}

static void blocked_signals(void)
{
	sigset_t set;

	sigfillset(&set);
	sigprocmask(SIG_BLOCK, &set, NULL);
	raise(SIGUSR1);
	kill(getpid(), SIGUSR2);
	syscall(SYS_getpgid, 0);
}

TEST(ptrace_peeks_at_queues_and_mask)
{
	pid_t pid = traced_child(blocked_signals);
	struct __ptrace_peeksiginfo_args a = {.off = 0, .nr = 4};
	siginfo_t si[4];
	uint64_t mask;

	find_call(pid, STOP_STATUS(SIGTRAP), SYS_getpgid);
	EXPECT_EQ(trace(PTRACE_PEEKSIGINFO, pid, P(&a), P(si)), 1);
	EXPECT_EQ(si[0].si_signo, SIGUSR1);
	a.flags = PTRACE_PEEKSIGINFO_SHARED;
	EXPECT_EQ(trace(PTRACE_PEEKSIGINFO, pid, P(&a), P(si)), 1);
	EXPECT_EQ(si[0].si_signo, SIGUSR2);
	a.off = 1;
	EXPECT_EQ(trace(PTRACE_PEEKSIGINFO, pid, P(&a), P(si)), 0);
	a.flags = 2;
	EXPECT_ERRNO(trace(PTRACE_PEEKSIGINFO, pid, P(&a), P(si)), EINVAL);
	EXPECT_OK(trace(PTRACE_GETSIGMASK, pid, 8, P(&mask)));
	EXPECT(mask >> (SIGUSR1 - 1) & 1);
	EXPECT(!(mask >> (SIGKILL - 1) & 1));
	mask &= ~(1UL << (SIGUSR1 - 1));
	EXPECT_OK(trace(PTRACE_SETSIGMASK, pid, 8, P(&mask)));
	EXPECT_OK(trace(PTRACE_CONT, pid, 0, 0));
	EXPECT_EQ(wait_status(pid), STOP_STATUS(SIGUSR1));
	end(pid);
}

/* ---- attaching ---- */

static pid_t plain_child(void (*fn)(void))
{
	pid_t pid = (pid_t)EXPECT_OK(fork());

	if (!pid) {
		fn();
		_exit(0);
	}
	return pid;
}

static int tracer_of(pid_t pid)
{
	char name[64], buf[4096];

	snprintf(name, sizeof(name), "/proc/%d/status", pid);
	int fd = (int)EXPECT_OK(open(name, O_RDONLY));
	ssize_t n = EXPECT_OK(read(fd, buf, sizeof(buf) - 1));
	close(fd);
	buf[n] = 0;
	const char *p = strstr(buf, "TracerPid:\t");
	EXPECT(p != NULL);
	return atoi(p + 11);
}

TEST(ptrace_attach_stops_and_detach_frees)
{
	pid_t pid = plain_child(forever);

	EXPECT_EQ(tracer_of(pid), 0);
	EXPECT_OK(trace(PTRACE_ATTACH, pid, 0, 0));
	EXPECT_EQ(wait_status(pid), STOP_STATUS(SIGSTOP));
	EXPECT_EQ(tracer_of(pid), getpid());
	EXPECT_ERRNO(trace(PTRACE_DETACH, pid, 0, 100), EIO);
	EXPECT_OK(trace(PTRACE_DETACH, pid, 0, 0));
	EXPECT_EQ(tracer_of(pid), 0);
	EXPECT_ERRNO(trace(PTRACE_DETACH, pid, 0, 0), ESRCH);
	EXPECT_EQ(waitpid(pid, NULL, WNOHANG | WUNTRACED), 0);
	EXPECT_OK(trace(PTRACE_ATTACH, pid, 0, 0));
	EXPECT_EQ(wait_status(pid), STOP_STATUS(SIGSTOP));
	EXPECT_OK(trace(PTRACE_DETACH, pid, 0, SIGTERM));
	EXPECT_EQ(wait_status(pid), SIGTERM);
}

static void spin(void)
{
	for (volatile long i = 0;; i++)
		;
}

TEST(ptrace_seize_and_interrupt_running_code)
{
	pid_t pid = plain_child(spin);
	siginfo_t si;

	EXPECT_OK(trace(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACESYSGOOD));
	EXPECT_EQ(waitpid(pid, NULL, WNOHANG | __WALL), 0);
	for (int i = 0; i < 3; i++) {
		EXPECT_OK(trace(PTRACE_INTERRUPT, pid, 0, 0));
		EXPECT_EQ(wait_status(pid), EVENT_STATUS(EVENT_STOP));
		EXPECT_OK(trace(PTRACE_GETSIGINFO, pid, 0, P(&si)));
		EXPECT_EQ(si.si_code, SIGTRAP | EVENT_STOP << 8);
		EXPECT_OK(trace(PTRACE_CONT, pid, 0, 0));
	}
	end(pid);
}

TEST(ptrace_seized_group_stop_and_listen)
{
	pid_t pid = plain_child(forever);

	EXPECT_OK(trace(PTRACE_SEIZE, pid, 0, 0));
	EXPECT_OK(kill(pid, SIGSTOP));
	EXPECT_EQ(wait_status(pid), STOP_STATUS(SIGSTOP)); /* its delivery */
	EXPECT_ERRNO(trace(PTRACE_LISTEN, pid, 0, 0), EIO);
	EXPECT_OK(trace(PTRACE_CONT, pid, 0, SIGSTOP));
	EXPECT_EQ(wait_status(pid), (SIGSTOP | EVENT_STOP << 8) << 8 | 0x7f);
	EXPECT_OK(trace(PTRACE_LISTEN, pid, 0, 0));
	test_sleep_ms(20);
	EXPECT_EQ(waitpid(pid, NULL, WNOHANG | __WALL), 0);
	EXPECT_OK(kill(pid, SIGCONT));
	EXPECT_EQ(wait_status(pid), EVENT_STATUS(EVENT_STOP));
	EXPECT_OK(trace(PTRACE_CONT, pid, 0, 0));
	EXPECT_EQ(wait_status(pid), STOP_STATUS(SIGCONT));
	EXPECT_OK(trace(PTRACE_CONT, pid, 0, SIGCONT));
	end(pid);
}

TEST(ptrace_attached_group_stop_has_no_siginfo)
{
	pid_t pid = traced_child(forever);
	siginfo_t si;

	EXPECT_OK(trace(PTRACE_CONT, pid, 0, SIGSTOP));
	EXPECT_EQ(wait_status(pid), STOP_STATUS(SIGSTOP));
	EXPECT_ERRNO(trace(PTRACE_GETSIGINFO, pid, 0, P(&si)), EINVAL);
	EXPECT_OK(trace(PTRACE_CONT, pid, 0, 0));
	test_sleep_ms(20);
	EXPECT_EQ(waitpid(pid, NULL, WNOHANG | __WALL), 0);
	end(pid);
}

static void die_tracing(uint64_t options, pid_t pid)
{
	pid_t tracer = (pid_t)EXPECT_OK(fork());

	if (!tracer) {
		EXPECT_OK(trace(PTRACE_SEIZE, pid, 0, options));
		EXPECT_OK(trace(PTRACE_INTERRUPT, pid, 0, 0));
		EXPECT_EQ(wait_status(pid), EVENT_STATUS(EVENT_STOP));
		_exit(0);
	}
	EXPECT_EQ(wait_status(tracer), 0);
}

TEST(ptrace_end_of_the_tracer)
{
	pid_t pid = plain_child(forever);

	die_tracing(0, pid);
	EXPECT_EQ(tracer_of(pid), 0);
	EXPECT_EQ(waitpid(pid, NULL, WNOHANG), 0);
	die_tracing(PTRACE_O_EXITKILL, pid);
	EXPECT_EQ(wait_status(pid), SIGKILL);
}

TEST(ptrace_foreign_tracer_waits_before_the_parent)
{
	int go[2];

	EXPECT_OK(pipe(go));
	pid_t pid = plain_child(forever);
	pid_t tracer = (pid_t)EXPECT_OK(fork());
	if (!tracer) {
		char c;
		EXPECT_OK(trace(PTRACE_SEIZE, pid, 0, 0));
		EXPECT_OK(kill(pid, SIGKILL));
		EXPECT_EQ(read(go[0], &c, 1), 1);
		EXPECT_EQ(wait_status(pid), SIGKILL);
		_exit(0);
	}
	test_sleep_ms(50);
	EXPECT_EQ(waitpid(pid, NULL, WNOHANG), 0); /* the tracer has not waited */
	EXPECT_EQ(write(go[1], "x", 1), 1);
	EXPECT_EQ(wait_status(pid), SIGKILL);
	EXPECT_EQ(wait_status(tracer), 0);
}

/* ---- events ---- */

static uint64_t message(pid_t pid)
{
	uint64_t m;

	EXPECT_OK(trace(PTRACE_GETEVENTMSG, pid, 0, P(&m)));
	return m;
}

static void fork_and_wait(void)
{
	pid_t pid = fork();

	if (!pid)
		_exit(7);
	int status;
	waitpid(pid, &status, 0);
	_exit(WEXITSTATUS(status));
}

TEST(ptrace_follows_forks)
{
	pid_t pid = traced_child(fork_and_wait);

	EXPECT_OK(trace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACEFORK));
	EXPECT_OK(trace(PTRACE_CONT, pid, 0, 0));
	EXPECT_EQ(wait_status(pid), EVENT_STATUS(PTRACE_EVENT_FORK));
	pid_t child = (pid_t)message(pid);
	EXPECT_EQ(wait_status(child), STOP_STATUS(SIGSTOP));
	EXPECT_EQ(tracer_of(child), getpid());
	EXPECT_OK(trace(PTRACE_CONT, child, 0, 0));
	EXPECT_EQ(wait_status(child), 7 << 8);
	EXPECT_OK(trace(PTRACE_CONT, pid, 0, 0));
	EXPECT_EQ(wait_status(pid), STOP_STATUS(SIGCHLD));
	EXPECT_OK(trace(PTRACE_CONT, pid, 0, SIGCHLD));
	EXPECT_EQ(wait_status(pid), 7 << 8);
}

TEST(ptrace_seized_children_stop_by_event)
{
	pid_t pid = traced_child(fork_and_wait);

	EXPECT_OK(trace(PTRACE_DETACH, pid, 0, SIGSTOP));
	EXPECT_OK(trace(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACEFORK));
	EXPECT_EQ(wait_status(pid), (SIGSTOP | EVENT_STOP << 8) << 8 | 0x7f);
	EXPECT_OK(kill(pid, SIGCONT));
	EXPECT_OK(trace(PTRACE_CONT, pid, 0, 0));
	int status;
	while ((status = wait_status(pid)) != EVENT_STATUS(PTRACE_EVENT_FORK))
		EXPECT_OK(trace(PTRACE_CONT, pid, 0, 0));
	pid_t child = (pid_t)message(pid);
	EXPECT_EQ(wait_status(child), EVENT_STATUS(EVENT_STOP));
	EXPECT_OK(trace(PTRACE_DETACH, child, 0, 0));
	end(pid);
}

static void vfork_once(void)
{
	pid_t pid = vfork();

	if (!pid)
		_exit(3);
	waitpid(pid, NULL, 0);
}

TEST(ptrace_vfork_and_its_end)
{
	pid_t pid = traced_child(vfork_once);

	EXPECT_OK(trace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACEVFORK | PTRACE_O_TRACEVFORKDONE));
	EXPECT_OK(trace(PTRACE_CONT, pid, 0, 0));
	EXPECT_EQ(wait_status(pid), EVENT_STATUS(PTRACE_EVENT_VFORK));
	pid_t child = (pid_t)message(pid);
	EXPECT_EQ(wait_status(child), STOP_STATUS(SIGSTOP));
	EXPECT_OK(trace(PTRACE_CONT, child, 0, 0));
	EXPECT_OK(trace(PTRACE_CONT, pid, 0, 0));
	EXPECT_EQ(wait_status(child), 3 << 8);
	EXPECT_EQ(wait_status(pid), EVENT_STATUS(PTRACE_EVENT_VFORK_DONE));
	EXPECT_EQ(message(pid), child);
	end(pid);
}

static void exec_true(void)
{
	execl("/bin/true", "true", NULL);
	_exit(1);
}

TEST(ptrace_exec_traps_or_tells)
{
	pid_t pid = traced_child(exec_true);

	EXPECT_OK(trace(PTRACE_CONT, pid, 0, 0));
	EXPECT_EQ(wait_status(pid), STOP_STATUS(SIGTRAP));
	EXPECT_OK(trace(PTRACE_CONT, pid, 0, 0));
	EXPECT_EQ(wait_status(pid), 0);
	pid = traced_child(exec_true);
	EXPECT_OK(trace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACEEXEC));
	EXPECT_OK(trace(PTRACE_CONT, pid, 0, 0));
	EXPECT_EQ(wait_status(pid), EVENT_STATUS(PTRACE_EVENT_EXEC));
	EXPECT_EQ(message(pid), pid);
	EXPECT_OK(trace(PTRACE_CONT, pid, 0, 0));
	EXPECT_EQ(wait_status(pid), 0);
}

static void exit_five(void)
{
	_exit(5);
}

TEST(ptrace_exit_event_comes_before_the_end)
{
	pid_t pid = traced_child(exit_five);
	struct user_regs_struct regs;

	EXPECT_OK(trace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACEEXIT));
	EXPECT_OK(trace(PTRACE_CONT, pid, 0, 0));
	EXPECT_EQ(wait_status(pid), EVENT_STATUS(PTRACE_EVENT_EXIT));
	EXPECT_EQ(message(pid), 5 << 8);
	EXPECT_OK(trace(PTRACE_GETREGS, pid, 0, P(&regs)));
	EXPECT_OK(trace(PTRACE_CONT, pid, 0, 0));
	EXPECT_EQ(wait_status(pid), 5 << 8);
}

static void *thread_calls(void *arg)
{
	syscall(SYS_getpgid, 0);
	return arg;
}

static void with_thread(void)
{
	pthread_t th;

	pthread_create(&th, NULL, thread_calls, NULL);
	pthread_join(th, NULL);
	_exit(9);
}

TEST(ptrace_follows_threads_to_their_end)
{
	pid_t pid = traced_child(with_thread);

	EXPECT_OK(trace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACECLONE));
	EXPECT_OK(trace(PTRACE_CONT, pid, 0, 0));
	EXPECT_EQ(wait_status(pid), EVENT_STATUS(PTRACE_EVENT_CLONE));
	pid_t tid = (pid_t)message(pid);
	EXPECT(tid != pid);
	EXPECT_EQ(wait_status(tid), STOP_STATUS(SIGSTOP));
	EXPECT_OK(trace(PTRACE_CONT, pid, 0, 0));
	EXPECT_OK(trace(PTRACE_CONT, tid, 0, 0));
	int status = wait_status(tid); /* joined, it may still be met by the end of all */
	EXPECT(status == 0 || status == 9 << 8);
	EXPECT_EQ(wait_status(pid), 9 << 8);
	EXPECT_ERRNO(waitpid(tid, NULL, __WALL), ECHILD);
}

/* ---- with seccomp ---- */

static void filtered(void)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpgid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE | 123),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog p = {4, f};

	EXPECT_OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	EXPECT_OK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p));
	long a = syscall(SYS_getpgid, 0);
	long b = syscall(SYS_getpgid, 0);
	_exit(a == 55 && b == getpid());
}

TEST(ptrace_seccomp_event_and_filter)
{
	pid_t pid = traced_child(filtered);
	struct user_regs_struct regs;
	struct sock_filter f[8];
	struct info i;

	EXPECT_OK(trace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESECCOMP));
	EXPECT_OK(trace(PTRACE_CONT, pid, 0, 0));
	EXPECT_EQ(wait_status(pid), EVENT_STATUS(PTRACE_EVENT_SECCOMP));
	EXPECT_EQ(message(pid), 123);
	EXPECT_EQ(trace(0x420e, pid, sizeof(i), P(&i)), 84);
	EXPECT_EQ(i.op, 3);
	if (geteuid() == 0) {
		EXPECT_EQ(trace(0x420c, pid, 0, 0), 4);
		EXPECT_EQ(trace(0x420c, pid, 0, P(f)), 4);
		EXPECT_EQ(f[2].k, SECCOMP_RET_TRACE | 123);
		EXPECT_ERRNO(trace(0x420c, pid, 1, 0), ENOENT);
		EXPECT_ERRNO(trace(0x420c, pid, 0, P(BAD_ADDR)), EFAULT);
	}
	EXPECT_OK(trace(PTRACE_GETREGS, pid, 0, P(&regs)));
	regs.orig_rax = -1UL;
	regs.rax = 55;
	EXPECT_OK(trace(PTRACE_SETREGS, pid, 0, P(&regs)));
	EXPECT_OK(trace(PTRACE_CONT, pid, 0, 0));
	EXPECT_EQ(wait_status(pid), EVENT_STATUS(PTRACE_EVENT_SECCOMP));
	regs.orig_rax = SYS_getpid;
	EXPECT_OK(trace(PTRACE_GETREGS, pid, 0, P(&regs)));
	regs.orig_rax = SYS_getpid;
	EXPECT_OK(trace(PTRACE_SETREGS, pid, 0, P(&regs)));
	EXPECT_OK(trace(PTRACE_CONT, pid, 0, 0));
	EXPECT_EQ(wait_status(pid), 1 << 8);
}

static void *debug_from_thread(void *arg)
{
	pid_t pid = traced_child(exit_five);

	EXPECT_EQ(tracer_of(pid), syscall(SYS_gettid));
	EXPECT_OK(trace(PTRACE_CONT, pid, 0, 0));
	EXPECT_EQ(wait_status(pid), 5 << 8);
	return arg;
}

TEST(ptrace_traceme_names_the_thread_that_forked)
{
	pthread_t th;

	EXPECT_EQ(pthread_create(&th, NULL, debug_from_thread, NULL), 0);
	EXPECT_EQ(pthread_join(th, NULL), 0);
}

/* ---- SIGKILL, and two at once ---- */

static void *kill_soon(void *pid)
{
	kill((pid_t)(intptr_t)pid, SIGKILL);
	return NULL;
}

TEST(ptrace_kill_while_registers_are_read)
{
	for (int i = 0; i < 20; i++) {
		pid_t pid = traced_child(forever);
		struct user_fpregs_struct fp;
		pthread_t th;
		EXPECT_EQ(pthread_create(&th, NULL, kill_soon, (void *)(intptr_t)pid), 0);
		for (int k = 0; k < 20; k++)
			if (trace(PTRACE_GETFPREGS, pid, 0, P(&fp)))
				EXPECT_EQ(errno, ESRCH);
		EXPECT_EQ(pthread_join(th, NULL), 0);
		EXPECT_EQ(wait_status(pid), SIGKILL);
	}
}
