/*
 * Signal frames as the x86-64 kernel lays them out on the user's stack.  libc's ucontext_t differs
 * at its end (a longer mask, room for the FP state), hence these.
 * Source: arch/x86/include/uapi/asm/{ucontext,sigcontext}.h, sigaltstack(2).
 */
#pragma once

#include <signal.h>
#include <stddef.h>
#include <stdint.h>

/* stack_t */
struct linux_stack {
	uint64_t sp;
	int32_t flags;
	uint32_t pad;
	uint64_t size;
};

/* struct sigcontext_64 */
struct linux_sigcontext {
	uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
	uint64_t di, si, bp, bx, dx, ax, cx, sp, ip, flags;
	uint16_t cs, gs, fs, ss;
	uint64_t err, trapno, oldmask, cr2;
	uint64_t fpstate; /* guest address, or 0 */
	uint64_t reserved[8];
};

/* ucontext.uc_flags */
#define LINUX_UC_FP_XSTATE 0x1
#define LINUX_UC_SIGCONTEXT_SS 0x2
#define LINUX_UC_STRICT_RESTORE_SS 0x4

struct linux_ucontext {
	uint64_t flags;
	uint64_t link;
	struct linux_stack stack;
	struct linux_sigcontext mcontext;
	uint64_t sigmask;
};

struct linux_rt_sigframe {
	uint64_t pretcode; /* return address: the restorer */
	struct linux_ucontext uc;
	siginfo_t info;
};

_Static_assert(sizeof(siginfo_t) == 128, "siginfo");
_Static_assert(sizeof(struct linux_sigcontext) == 256, "sigcontext");
_Static_assert(sizeof(struct linux_ucontext) == 304, "ucontext");
_Static_assert(offsetof(struct linux_ucontext, mcontext) == 40, "ucontext.uc_mcontext");
_Static_assert(offsetof(struct linux_rt_sigframe, info) == 312, "rt_sigframe.info");
_Static_assert(sizeof(struct linux_rt_sigframe) == 440, "rt_sigframe");

/* struct _fpx_sw_bytes: at offset 464 of the legacy area, "what follows is an XSAVE area". */
struct linux_fpx_sw_bytes {
	uint32_t magic1;
	uint32_t extended_size; /* xstate_size and the magic word behind it */
	uint64_t xfeatures;
	uint32_t xstate_size;
	uint32_t padding[7];
};

#define LINUX_FP_XSTATE_MAGIC1 0x46505853U
#define LINUX_FP_XSTATE_MAGIC2 0x46505845U
#define LINUX_FP_XSTATE_MAGIC2_SIZE 4

_Static_assert(sizeof(struct linux_fpx_sw_bytes) == 48, "fpx_sw_bytes");

#define LINUX_SS_AUTODISARM (1U << 31)
#define LINUX_MINSIGSTKSZ 2048
