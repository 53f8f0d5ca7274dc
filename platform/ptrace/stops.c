/* What a stop of a running thread means: a call, a signal, an interrupt, or nothing. */
#include "platform/ptrace/internal.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/ptrace.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

/* The instruction that made the call leaves rip in rcx; int $0x80 does not, but for a guest that
 * means to deceive, and it gains a call that it could make anyway. */
static bool is_foreign_abi(struct p_thread *th)
{
	struct ptrace_syscall_info info;

	return pt_trace(PTRACE_GET_SYSCALL_INFO, th->tid, sizeof(info),
			(uint64_t)(uintptr_t)&info) > 0 &&
	       info.op == PTRACE_SYSCALL_INFO_ENTRY && info.arch != AUDIT_ARCH_X86_64;
}

static void syscall_stopped(struct p_thread *th)
{
	struct arch_regs *r = &th->regs;

	if (pt_trace(PTRACE_GETREGS, th->tid, 0, (uint64_t)(uintptr_t)r))
		return;
	/* int $0x80 has i386's numbers, which mean nothing here: ENOSYS (design, rule 11). */
	if (r->rcx != r->rip && is_foreign_abi(th)) {
		r->rax = (uint64_t)-ENOSYS;
		if (!pt_set_regs(th, r))
			pt_go(th, PTRACE_SYSEMU);
		return;
	}
	/* The host's answer to MEMBARRIER_CMD_QUERY promises all of them. */
	if (th->passes && (platform_passes(r) || r->orig_rax == SYS_membarrier)) {
		pt_direct_begin(th);
		return;
	}
	r->rax = (uint64_t)-ENOSYS;
	pt_post_kind(th, P_EVENT_SYSCALL);
}

/* The exception that the processor must have raised for the host to send this signal. */
static uint64_t trap_number(struct p_thread *th, int signo, int code)
{
	struct user_fpregs_struct fp;

	switch (signo) {
	case SIGSEGV:
		return code == SI_KERNEL ? 13 : 14;
	case SIGBUS:
		return code == BUS_ADRALN ? 17 : code == SI_KERNEL ? 12 : 14;
	case SIGILL:
		return 6;
	case SIGTRAP:
		return code == SI_KERNEL ? 3 : 1;
	}
	if (code == FPE_INTDIV || code == FPE_INTOVF ||
	    pt_trace(PTRACE_GETFPREGS, th->tid, 0, (uint64_t)(uintptr_t)&fp))
		return 0;
	/* An x87 exception is pending in its status word, else it was SSE's. */
	return fp.swd & ~fp.cwd & 0x3f ? 16 : 19;
}

/* Steps of ours that a stop overtook (over a call: TRAP_BRKPT), and signals from outside. */
static bool is_foreign_signal(const struct arch_regs *r, int signo, int code)
{
	bool own = signo == SIGSEGV || signo == SIGBUS || signo == SIGILL || signo == SIGFPE ||
		   signo == SIGTRAP;

	return !own || code <= 0 ||
	       (signo == SIGTRAP && (code == TRAP_TRACE || code == TRAP_BRKPT) &&
		!(r->eflags & ARCH_EFLAGS_TF));
}

static void signal_stopped(struct p_thread *th, int signo)
{
	struct arch_regs now;
	siginfo_t info;

	if (pt_trace(PTRACE_GETSIGINFO, th->tid, 0, (uint64_t)(uintptr_t)&info) ||
	    pt_trace(PTRACE_GETREGS, th->tid, 0, (uint64_t)(uintptr_t)&now))
		return;
	bool foreign = is_foreign_signal(&now, signo, info.si_code);
	/* While it performs a call, th->regs are those before it, and the better ones: the host's
	 * may show restart_syscall(2). */
	if (!th->performing || (!foreign && now.rip != th->regs.rip))
		th->regs = now;
	if (foreign) {
		pt_go(th, th->performing ? PTRACE_SINGLESTEP : PTRACE_SYSEMU);
		return;
	}
	th->regs.orig_rax = ~0ULL;
	memset(&th->ev, 0, sizeof(th->ev));
	th->ev.kind = P_EVENT_SIGNAL;
	th->ev.signo = signo;
	th->ev.si_code = info.si_code;
	th->ev.addr = (uint64_t)(uintptr_t)info.si_addr;
	/* ptrace does not tell these; what they must be for a guest's own access. */
	th->ev.cr2 = th->ev.addr;
	th->ev.trapno = trap_number(th, signo, info.si_code);
	th->ev.error_code = th->ev.trapno == 14 ? 4 | (info.si_code == SEGV_ACCERR) : 0;
	pt_post(th);
}

static void interrupt_stopped(struct p_thread *th)
{
	if (th->performing) {
		pt_direct_stopped(th, true);
	} else if (pt_run_allowed(th)) {
		/* One that came after an event: told with it. */
		pt_trace(PTRACE_SYSEMU, th->tid, 0, 0);
	} else if (!pt_trace(PTRACE_GETREGS, th->tid, 0, (uint64_t)(uintptr_t)&th->regs)) {
		pt_post_interrupted(th);
	}
}

void pt_stopped(struct p_thread *th, int status)
{
	int sig = WSTOPSIG(status), event = status >> 16;

	if (event == PTRACE_EVENT_STOP)
		interrupt_stopped(th);
	else if (sig == (SIGTRAP | 0x80))
		syscall_stopped(th);
	else if (sig == SIGTRAP && th->performing && event == 0)
		pt_direct_stopped(th, false);
	else
		signal_stopped(th, sig);
}
