/*
 * stub.h - the stub: the freestanding code that runs in guest processes.
 *
 * Rules: no libc, no FP or vector registers, no writable data of its own (everything is on the
 * alternate stack or in the page set), nothing secret, no pointer that a caller of another trust
 * supplied.  A guest can jump to any of its instructions with any registers; the host filter, not
 * this code, is what bounds that.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "platform/systrap/layout.h"

#define HIDDEN __attribute__((visibility("hidden")))

/* The host kernel's signal frame, as far as it is used (arch/x86/include/uapi/asm/sigcontext.h). */
struct stub_sigcontext {
	uint64_t r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip;
	uint64_t eflags;
	uint16_t cs, gs, fs, ss;
	uint64_t err, trapno, oldmask, cr2;
	uint64_t fpstate;
	uint64_t reserved[8];
};

struct stub_ucontext {
	uint64_t flags, link;
	uint64_t stack_sp;
	uint32_t stack_flags, pad;
	uint64_t stack_size;
	struct stub_sigcontext mc;
	uint64_t sigmask;
};

struct stub_siginfo {
	int32_t signo, err, code, pad;
	uint64_t addr; /* faults: si_addr; SIGSYS: si_call_addr */
	int32_t syscall;
	uint32_t arch;
};

_Static_assert(sizeof(struct stub_sigcontext) == 256, "host ABI");
_Static_assert(offsetof(struct stub_ucontext, mc) == 40, "host ABI");

struct stub_timespec {
	int64_t sec, nsec;
};

/* entry.S */
HIDDEN long stub_syscall(long a, long b, long c, long d, long e, long f, long nr);
/* The system call (its number, then six arguments) unless *intr is set; -EINTR when it was. */
HIDDEN long stub_wait(const uint64_t call[7], const uint32_t *intr);
HIDDEN extern const char stub_wait_begin[], stub_wait_call[], stub_wait_abort[];
/* Accesses to guest memory: 0, or -EFAULT by way of stub_access_fault. */
HIDDEN long stub_load64(uint64_t addr, uint64_t *out);
HIDDEN long stub_load32(uint64_t addr, uint32_t *out);
HIDDEN long stub_store64(uint64_t addr, uint64_t v);
HIDDEN long stub_store32(uint64_t addr, uint32_t v);
HIDDEN long stub_cmpxchg32(uint64_t addr, uint32_t expect, uint32_t desired, uint32_t *seen);
HIDDEN extern const char stub_access_begin[], stub_access_end[], stub_access_fault[];
/* Copies n bytes; returns how many it could not, by way of stub_copy_fault. */
HIDDEN long stub_copy(uint64_t dst, uint64_t src, uint64_t n);
HIDDEN extern const char stub_copy_insn[], stub_copy_fault[];
/* Zeroes n bytes; returns how many it could not, by way of stub_copy_fault. */
HIDDEN long stub_clear(uint64_t dst, uint64_t n);
HIDDEN extern const char stub_clear_insn[];
/* fn(a, b, NULL), a function of the vDSO, or -EFAULT by way of stub_vdso_fault. */
HIDDEN long stub_vdso_call(uint64_t fn, uint64_t a, void *b, struct st_pageset *ps);
HIDDEN extern const char stub_vdso_fault[];
/* clone(2) of a thread that starts on the stack `sp` with stub_thread_main(uc). */
HIDDEN long stub_clone_thread(uint64_t flags, uint64_t sp, uint32_t *tid, struct stub_ucontext *uc);
HIDDEN extern const char stub_text_end[];
/* The fast path's places: where GS may turn out to be wild, the way back, and its two traps. */
HIDDEN extern const char stub_fast_probe[], stub_fast_trap[], stub_fast_exit[], stub_fast_gone[],
	stub_full_exit[], stub_fast_exit_end[], stub_fast_interrupted[], stub_full_interrupted[],
	stub_fast_convert[];

/* stub.c */
HIDDEN void stub_handler(int sig, struct stub_siginfo *si, struct stub_ucontext *uc);
HIDDEN void stub_thread_main(struct stub_ucontext *uc);
HIDDEN void stub_enter_main(struct st_pageset *ps);
HIDDEN _Noreturn void stub_first_trap(void);

/* After ST_CMD_RUN_DIRECT; 1 when guest code may run. */
HIDDEN int stub_run_direct(struct st_pageset *ps, struct stub_ucontext *uc);

/* command.c: waits for commands and runs them; returns when guest code is to run. */
HIDDEN void stub_serve(struct st_pageset *ps, struct stub_ucontext *uc);
/* A fast call, its registers saved by entry.S: 0 when it may return with those, 1 when it needs a
 * signal frame, 2 when it goes on with the registers of the page set. */
HIDDEN int stub_fast_main(struct st_pageset *ps, struct arch_regs *frame);
/* marshal.c: what a fast call brings along, what its answer does. */
HIDDEN uint32_t stub_bring(struct st_pageset *ps, const struct arch_regs *regs);
/* 0, or -EFAULT: the call has not taken place. */
HIDDEN long stub_copy_late(struct st_pageset *ps);
/* The frame becomes that of the code whose registers the page set holds. */
HIDDEN void stub_load_regs(const struct st_pageset *ps, struct stub_sigcontext *mc);
/* The same with those of r, and without the segments' bases. */
HIDDEN void stub_load_general(const struct arch_regs *r, struct stub_sigcontext *mc);
HIDDEN void stub_post_event(struct st_pageset *ps);
HIDDEN void stub_post_reply(struct st_pageset *ps, long r);

/* direct.c: performs the frame's call in the host when it is one that may be.  1: done, rax is
 * set; 0: not such a call; 2: it was, and an interrupt came: rax is set or, with *aborted, not. */
HIDDEN int stub_direct_call(struct st_pageset *ps, struct stub_ucontext *uc, uint32_t *aborted,
			    int64_t *deadline);

/* futex.c: the same for futex(2) and the calls of futex2. */
HIDDEN int stub_futex(struct st_pageset *ps, struct stub_sigcontext *mc, uint32_t *aborted,
		      int64_t *deadline);
HIDDEN int stub_futex2(struct st_pageset *ps, struct stub_sigcontext *mc, uint32_t *aborted);
/* The host's clock, ns. */
HIDDEN int64_t stub_clock(int clock);

/* answer.c: answers call `nr` with four of its arguments here, if it can: 1 with *ret set, or 0. */
HIDDEN int stub_answer(struct st_pageset *ps, uint32_t nr, const uint64_t a[4], uint64_t *ret);

/* Guest code has called exit(2) or exit_group(2).  The host writes to the place registered for rseq
 * until it is told not to, and that is about to be somebody else's. */
HIDDEN void stub_before_exit(struct st_pageset *ps);
/* Ends the registration for rseq, if there is one: 0 or -errno. */
HIDDEN long stub_rseq_leave(struct st_pageset *ps);

#define STUB_CALL(nr, a, b, c, d, e, f) \
	stub_syscall((long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f), (nr))

static inline struct st_pageset *stub_pageset(void)
{
	uint64_t sp;

	__asm__ volatile("mov %%rsp, %0" : "=r"(sp));
	return (struct st_pageset *)ST_SET_OF_SP(sp);
}
