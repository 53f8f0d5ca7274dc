/*
 * The stub's signal handler: every stop of guest code begins here.
 *
 * It runs with all signals blocked but the synchronous ones (which must never be: a blocked fault
 * is the process's death), so that the way back to guest code, rt_sigreturn, unblocks them
 * atomically.  A fault inside the stub nests; it continues at a fixup or, when it has none, is
 * reported like any other - guest code that jumps into the stub gets its SIGSEGV.
 */
#include "platform/systrap/stub/stub.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/syscall.h>

#define EFLAGS_AC 0x40000UL

static void clear_ac(void)
{
	__asm__ volatile("pushfq\n\tandq %0, (%%rsp)\n\tpopfq" ::"i"(~EFLAGS_AC) : "memory", "cc");
}

static int inside_stub(uint64_t rip)
{
	return rip - ST_TEXT < ST_TEXT_LEN;
}

/* A signal that found the thread in stub code: 1 when it needs nothing further. */
static int handle_inside(int sig, struct stub_sigcontext *mc)
{
	if (sig == ST_SIGNAL_INTERRUPT) {
		/* Reaches stub code only around a host wait; the sentry set `intr` before. */
		if (mc->rip >= (uint64_t)stub_wait_begin && mc->rip <= (uint64_t)stub_wait_call)
			mc->rip = (uint64_t)stub_wait_abort;
		return 1;
	}
	if ((sig == SIGSEGV || sig == SIGBUS) && mc->rip >= (uint64_t)stub_access_begin &&
	    mc->rip < (uint64_t)stub_access_end) {
		mc->rip = (uint64_t)stub_access_fault;
		return 1;
	}
	if ((sig == SIGSEGV || sig == SIGBUS) &&
	    (mc->rip == (uint64_t)stub_copy_insn || mc->rip == (uint64_t)stub_clear_insn)) {
		mc->rip = (uint64_t)stub_copy_fault;
		return 1;
	}
	return 0;
}

static int at(const struct stub_sigcontext *mc, const char *label)
{
	return mc->rip == (uint64_t)label;
}

static int within(const struct stub_sigcontext *mc, const char *begin, const char *end)
{
	return mc->rip >= (uint64_t)begin && mc->rip < (uint64_t)end;
}

/* Of a fast call.  rcx and r11 are as `syscall` leaves them. */
static void load_frame(const struct arch_regs *frame, struct stub_sigcontext *mc)
{
	stub_load_general(frame, mc);
	mc->rcx = frame->rip;
	mc->r11 = frame->eflags;
}

/*
 * A signal that found the thread in the fast path.  1: it goes on there; 0: not in the fast path;
 * 2: the frame is the guest's now and the signal an interrupt; 3: the same, as was commanded.
 */
static int handle_fast(struct st_pageset *ps, int sig, struct stub_sigcontext *mc)
{
	if ((sig == SIGSEGV || sig == SIGBUS) && at(mc, stub_fast_probe)) {
		mc->rip = (uint64_t)stub_fast_trap;
		return 1;
	}
	if (sig == SIGILL && at(mc, stub_fast_convert)) {
		stub_load_regs(ps, mc);
		return 3;
	}
	int asked = sig == ST_SIGNAL_INTERRUPT;
	if (asked && at(mc, stub_fast_gone))
		mc->rip = mc->rcx;
	else if (asked ? within(mc, stub_fast_exit, stub_full_exit)
		       : sig == SIGILL && at(mc, stub_fast_interrupted))
		load_frame((const struct arch_regs *)(ps->stack_top - ST_FAST_FRAME), mc);
	else if (asked ? within(mc, stub_full_exit, stub_fast_exit_end)
		       : sig == SIGILL && at(mc, stub_full_interrupted))
		stub_load_regs(ps, mc);
	else
		return 0;
	return 2;
}

/*
 * A signal within a call of the vDSO by the stub: an interrupt finds `intr` set and waits for the
 * way out; anything else - a system call, a fault - means that it cannot answer.
 */
static int handle_vdso(struct st_pageset *ps, int sig, struct stub_sigcontext *mc)
{
	if (!ps->vdso_sp || ps->stack_top - mc->rsp > ST_STACK_SIZE)
		return 0;
	if (sig == ST_SIGNAL_INTERRUPT)
		return 1;
	mc->rip = (uint64_t)stub_vdso_fault;
	mc->rsp = ps->vdso_sp;
	mc->rbx = (uint64_t)ps;
	return 1;
}

/*
 * A call that trapped, answered here if it can be.  One in eight at first, later one in 256, as the
 * clock has it, is not: the sentry is to learn of the site and patch it, if it can.
 */
#define TRAP_REPORTED_FIRST 0x70
#define TRAP_REPORTED 0xff0
#define TRAPS_FIRST 256
static int answer_trap(struct st_pageset *ps, struct stub_sigcontext *mc)
{
	const uint64_t a[4] = {mc->rdi, mc->rsi, mc->rdx, mc->r10};

	uint64_t often = ps->answered < TRAPS_FIRST ? TRAP_REPORTED_FIRST : TRAP_REPORTED;

	if (!(__builtin_ia32_rdtsc() & often))
		return 0;
	return stub_answer(ps, (uint32_t)mc->rax, a, &mc->rax);
}

static void save_bases(const struct st_pageset *ps, struct arch_regs *r)
{
	if (ps->fsgsbase) {
		__asm__ volatile("rdfsbase %0" : "=r"(r->fs_base));
		__asm__ volatile("rdgsbase %0" : "=r"(r->gs_base));
		return;
	}
	STUB_CALL(SYS_arch_prctl, 0x1003 /* ARCH_GET_FS */, &r->fs_base, 0, 0, 0, 0);
	STUB_CALL(SYS_arch_prctl, 0x1004 /* ARCH_GET_GS */, &r->gs_base, 0, 0, 0, 0);
}

static void save_regs(const struct st_pageset *ps, const struct stub_sigcontext *mc,
		      struct arch_regs *r)
{
	r->r15 = mc->r15;
	r->r14 = mc->r14;
	r->r13 = mc->r13;
	r->r12 = mc->r12;
	r->rbp = mc->rbp;
	r->rbx = mc->rbx;
	r->r11 = mc->r11;
	r->r10 = mc->r10;
	r->r9 = mc->r9;
	r->r8 = mc->r8;
	r->rax = mc->rax;
	r->rcx = mc->rcx;
	r->rdx = mc->rdx;
	r->rsi = mc->rsi;
	r->rdi = mc->rdi;
	r->rip = mc->rip;
	r->cs = mc->cs;
	r->eflags = mc->eflags;
	r->rsp = mc->rsp;
	r->ss = mc->ss;
	save_bases(ps, r);
}

static void report(struct st_pageset *ps, int sig, const struct stub_siginfo *si,
		   const struct stub_ucontext *uc, uint32_t flags, int64_t deadline)
{
	struct st_event *ev = &ps->ev;

	ev->signo = sig;
	ev->code = si->code;
	ev->arch = si->arch;
	ev->flags = flags;
	ev->addr = si->addr;
	ev->trapno = uc->mc.trapno;
	ev->error_code = uc->mc.err;
	ev->cr2 = uc->mc.cr2;
	ev->fpstate = uc->mc.fpstate;
	ev->deadline = deadline;
	save_regs(ps, &uc->mc, &ev->regs);
	if (sig == SIGSYS && (uc->mc.rax == SYS_exit || uc->mc.rax == SYS_exit_group))
		stub_before_exit(ps);
	stub_post_event(ps);
}

void stub_handler(int sig, struct stub_siginfo *si, struct stub_ucontext *uc)
{
	struct st_pageset *ps = stub_pageset();
	uint32_t flags = 0;
	int64_t deadline = 0;

	if (uc->mc.eflags & EFLAGS_AC)
		clear_ac();
	int fast = inside_stub(uc->mc.rip) ? handle_fast(ps, sig, &uc->mc) : 0;
	if (fast == 1)
		return;
	if (fast == 3) {
		ps->ev.fpstate = uc->mc.fpstate;
		stub_post_reply(ps, 0);
		stub_serve(ps, uc);
		return;
	}
	if (fast == 2) {
		sig = ST_SIGNAL_INTERRUPT;
	} else if (inside_stub(uc->mc.rip)) {
		if (handle_inside(sig, &uc->mc))
			return;
	} else if (handle_vdso(ps, sig, &uc->mc)) {
		return;
	} else if (sig == SIGSYS && si->arch == AUDIT_ARCH_X86_64 && ps->direct) {
		if (answer_trap(ps, &uc->mc))
			return;
		int done = stub_direct_call(ps, uc, &flags, &deadline);
		if (done == 1)
			return;
		if (done == 2 && !flags)
			sig = ST_SIGNAL_INTERRUPT;
	}
	report(ps, sig, si, uc, flags, deadline);
	stub_serve(ps, uc);
}

/* As if the frame's call had just trapped; 1 when guest code may run. */
int stub_run_direct(struct st_pageset *ps, struct stub_ucontext *uc)
{
	struct stub_siginfo si = {
		.signo = SIGSYS, .code = 1 /* SYS_SECCOMP */, .arch = AUDIT_ARCH_X86_64};
	uint32_t flags = 0;
	int64_t deadline = 0;
	int done = stub_direct_call(ps, uc, &flags, &deadline);

	if (done == 1)
		return 1;
	report(ps, done == 2 && !flags ? ST_SIGNAL_INTERRUPT : SIGSYS, &si, uc, flags, deadline);
	return 0;
}

void stub_thread_main(struct stub_ucontext *uc)
{
	struct st_pageset *ps = stub_pageset();

	stub_post_reply(ps, 0);
	stub_serve(ps, uc);
}

/* The last piece of the zygote's start: what it needed until here goes, the filter comes. */
void stub_enter_main(struct st_pageset *ps)
{
	struct {
		uint16_t len;
		const void *filter;
	} prog = {(uint16_t)ps->filter_len, ps->filter};
	uint64_t vdso = ST_VDSO_END - ps->vdso_len - ps->vvar_len;

	STUB_CALL(SYS_munmap, 0, vdso, 0, 0, 0, 0);
	STUB_CALL(SYS_munmap, ST_VDSO_END, ST_BLOCK(0) - ST_VDSO_END, 0, 0, 0, 0);
	STUB_CALL(SYS_close, ST_FD_TEXT, 0, 0, 0, 0, 0);
	STUB_CALL(SYS_close, ST_FD_SETS, 0, 0, 0, 0, 0);
	long r = STUB_CALL(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
			   &prog, 0, 0, 0);
	ps->start_error = r < 0 ? r : 0;
	ps->reply = r;
	if (r < 0)
		STUB_CALL(SYS_exit_group, 1, 0, 0, 0, 0, 0);
	stub_first_trap();
}
