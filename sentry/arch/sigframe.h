/*
 * Signal frames on the guest's stack: where they go, what is in them, and what rt_sigreturn takes
 * back from one.  Pure computation; signal_deliver.c copies.  Source: sigaltstack(2), the x86-64
 * ABI (red zone, alignment), and the frames that Linux makes (tests/unit/test_sigframe.c compares).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "sentry/abi/signal.h"
#include "sentry/arch/regs.h"
#include "sentry/arch/xstate.h"
#include "sentry/lib/compiler.h"

struct sigframe_place {
	uint64_t frame;	  /* struct linux_rt_sigframe; 8 modulo 16, as after a call */
	uint64_t fpstate; /* above it, 64-byte aligned */
};

/* Is the stack pointer on the alternate stack (for Linux's purposes: not with SS_AUTODISARM)? */
bool sigframe_on_stack(const struct linux_stack *alt, uint64_t rsp);
/* Finds the place.  `use_alt`: the action has SA_ONSTACK.  -EFAULT: it overflows the alternate
 * stack. */
int sigframe_locate(uint64_t rsp, bool use_alt, const struct linux_stack *alt, size_t fpstate_size,
		    struct sigframe_place *out) MUST_CHECK;

struct sigframe_fault {
	uint64_t trapno, error, cr2; /* of the thread's last fault */
};

/* Fills a frame with everything but the extended state. */
void sigframe_fill(struct linux_rt_sigframe *f, const struct arch_regs *regs,
		   const struct sigframe_place *place, uint64_t restorer, uint64_t sigmask,
		   const struct linux_stack *alt, const struct sigframe_fault *fault,
		   const siginfo_t *info);
/* Registers at the first instruction of the handler. */
void sigframe_enter_handler(struct arch_regs *regs, const struct sigframe_place *place,
			    uint64_t handler, int signo);
/* Takes the general registers back.  -EINVAL: segments of another mode than 64-bit user code. */
int sigframe_restore_regs(const struct linux_ucontext *uc, struct arch_regs *regs) MUST_CHECK;
