/*
 * Calls that the guest's own instruction performs in the host: futex, sched_yield, membarrier,
 * rseq. The registers are set back to the instruction, which is single-stepped.
 *
 * A futex wait with a timeout that an interrupt aborts leaves the host's thread with what
 * restart_syscall(2) needs: word, value, and deadline.  When the guest repeats the call, that is
 * the call which is made, so the wait ends when it would have.
 */
#include "platform/ptrace/internal.h"

#include <errno.h>
#include <linux/ptrace.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>

#include "sentry/abi/futex.h"

#define ERESTART_FIRST 512
#define ERESTART_LAST 516
#define RED_ZONE 128 /* of the ABI: below the stack pointer, yet in use */

/* When the futex wait that is about to begin times out; 0: never, or at a time of the guest's. */
static int64_t wait_deadline(struct p_thread *th, const struct arch_regs *r)
{
	struct timespec ts, now;

	if (r->orig_rax != SYS_futex || ((int)r->rsi & FUTEX_CMD_MASK) != FUTEX_WAIT || !r->r10)
		return 0;
	struct iovec to = {&ts, sizeof(ts)}, from = {(void *)(uintptr_t)r->r10, sizeof(ts)};
	if (process_vm_readv(th->as->pid, &to, 1, &from, 1, 0) != sizeof(ts) || ts.tv_sec < 0 ||
	    ts.tv_sec > INT64_MAX / 2000000000 || ts.tv_nsec < 0 || ts.tv_nsec >= 1000000000)
		return 0;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (ts.tv_sec + now.tv_sec) * 1000000000LL + ts.tv_nsec + now.tv_nsec;
}

/* r stands before the instruction. */
static bool is_redo(const struct pt_redo *redo, const struct arch_regs *r)
{
	return redo->armed && r->rip == redo->rip && r->rax == SYS_futex && r->rdi == redo->uaddr &&
	       r->rsi == redo->op && r->rdx == redo->val && r->r10 == redo->timeout;
}

void pt_redo_check(struct p_thread *th)
{
	if (!is_redo(&th->redo, &th->regs))
		th->redo.armed = false;
}

/* th->regs stand behind the instruction, as at the stop of the call. */
static void post_aborted(struct p_thread *th)
{
	th->regs.orig_rax = th->regs.rax;
	th->regs.rax = (uint64_t)-EINTR;
	memset(&th->ev, 0, sizeof(th->ev));
	th->ev.kind = P_EVENT_SYSCALL;
	th->ev.host_wait_aborted = true;
	th->ev.host_wait_deadline = th->redo.armed ? th->redo.deadline : 0;
	pt_post(th);
}

void pt_post_interrupted(struct p_thread *th)
{
	if (is_redo(&th->redo, &th->regs)) {
		th->regs.rip += ARCH_SYSCALL_INSN_LEN;
		post_aborted(th);
		return;
	}
	th->regs.orig_rax = ~0ULL;
	pt_post_kind(th, P_EVENT_INTERRUPTED);
}

static bool is_wait(const struct arch_regs *r)
{
	int op = (int)r->rsi & FUTEX_CMD_MASK;

	return r->orig_rax == LINUX_SYS_futex_waitv || r->orig_rax == LINUX_SYS_futex_wait ||
	       (r->orig_rax == SYS_futex && (op == FUTEX_WAIT || op == FUTEX_WAIT_BITSET));
}

/* The register with the address of an absolute time of CLOCK_MONOTONIC; NULL: there is none. */
static uint64_t *deadline_arg(struct arch_regs *r)
{
	const int timed = FUTEX_CMD_MASK | FUTEX_CLOCK_REALTIME;

	if (r->rax == SYS_futex && ((int)r->rsi & timed) == FUTEX_WAIT_BITSET)
		return &r->r10;
	if (r->rax == LINUX_SYS_futex_waitv && (int)r->r8 == CLOCK_MONOTONIC)
		return &r->r10;
	if (r->rax == LINUX_SYS_futex_wait && (int)r->r9 == CLOCK_MONOTONIC)
		return &r->r8;
	return NULL;
}

/*
 * The host's clock is not the guest's: the time that the call names, moved, is put below what is in
 * use of the stack, as a signal would be.  What cannot be read or written, the host will find.
 */
static void shift_deadline(struct p_thread *th, struct arch_regs *host)
{
	uint64_t *arg = deadline_arg(host);
	struct timespec ts;

	if (!th->clock_offset || !arg || !*arg)
		return;
	uint64_t place = ((host->rsp - RED_ZONE) & ~15ULL) - sizeof(ts);
	struct iovec own = {&ts, sizeof(ts)}, from = {(void *)(uintptr_t)*arg, sizeof(ts)};
	struct iovec to = {(void *)(uintptr_t)place, sizeof(ts)};
	if (process_vm_readv(th->as->pid, &own, 1, &from, 1, 0) != sizeof(ts) || ts.tv_sec < 0 ||
	    ts.tv_sec > INT64_MAX / 2000000000 || ts.tv_nsec < 0 || ts.tv_nsec >= 1000000000)
		return;
	int64_t ns = ts.tv_sec * 1000000000LL + ts.tv_nsec;
	ns = ns > th->clock_offset ? ns - th->clock_offset : 0;
	ts = (struct timespec){ns / 1000000000, ns % 1000000000};
	if (process_vm_writev(th->as->pid, &own, 1, &to, 1, 0) == sizeof(ts))
		*arg = place;
}

void pt_direct_begin(struct p_thread *th)
{
	struct arch_regs *r = &th->regs, host;
	bool waits = is_wait(r);

	r->rip -= ARCH_SYSCALL_INSN_LEN;
	r->rax = r->orig_rax;
	host = *r;
	if (is_redo(&th->redo, r)) {
		th->deadline = th->redo.deadline;
		host.rax = SYS_restart_syscall;
	} else {
		th->redo.armed = false;
		th->deadline = waits ? wait_deadline(th, r) : 0;
		shift_deadline(th, &host);
	}
	if (pt_set_regs(th, &host))
		return;
	th->performing = true;
	atomic_store(&th->host_wait, waits);
	pt_go(th, PTRACE_SINGLESTEP);
}

/*
 * th->regs are still those before the instruction; what it did is in the host's.  A first step out
 * of a system-call stop ends before anything is executed, as does a stop that nobody asked for:
 * then it goes on, and the host itself repeats a wait that such a stop has cut short.
 */
void pt_direct_stopped(struct p_thread *th, bool interrupt_stop)
{
	struct arch_regs now;

	if (pt_trace(PTRACE_GETREGS, th->tid, 0, (uint64_t)(uintptr_t)&now))
		return;
	int64_t err = -(int64_t)now.rax;
	bool aborted = now.rip != th->regs.rip && err >= ERESTART_FIRST && err <= ERESTART_LAST;
	if (now.rip == th->regs.rip) {
		pt_go(th, PTRACE_SINGLESTEP);
		return;
	}
	if (!aborted) {
		th->performing = false;
		th->redo.armed = false;
		if (now.r8 != th->regs.r8 || now.r10 != th->regs.r10) { /* shift_deadline */
			now.r8 = th->regs.r8;
			now.r10 = th->regs.r10;
			if (pt_set_regs(th, &now))
				return;
		}
		th->regs = now;
		atomic_store(&th->host_wait, false);
		pt_go(th, PTRACE_SYSEMU);
		return;
	}
	if (interrupt_stop && pt_run_allowed(th)) {
		pt_trace(PTRACE_SINGLESTEP, th->tid, 0, 0);
		return;
	}
	th->redo = (struct pt_redo){.armed = err == ERESTART_LAST && th->regs.rax == SYS_futex,
				    .rip = th->regs.rip,
				    .uaddr = th->regs.rdi,
				    .op = th->regs.rsi,
				    .val = th->regs.rdx,
				    .timeout = th->regs.r10,
				    .deadline = th->deadline};
	th->regs.rip = th->regs.rcx = now.rip;
	th->regs.r11 = now.r11;
	post_aborted(th);
}
