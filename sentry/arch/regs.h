/*
 * The general registers of a guest thread, x86-64.
 *
 * `orig_rax` is the number of the system call while one is being handled, -1 otherwise (as Linux
 * keeps it): restarting and ptrace need it.  Layout equals struct user_regs_struct (sys/user.h),
 * which PTRACE_GETREGS and NT_PRSTATUS show.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct arch_regs {
	uint64_t r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8;
	uint64_t rax, rcx, rdx, rsi, rdi, orig_rax;
	uint64_t rip, cs, eflags, rsp, ss;
	uint64_t fs_base, gs_base;
	uint64_t ds, es, fs, gs;
};

_Static_assert(sizeof(struct arch_regs) == 27 * 8, "arch_regs is struct user_regs_struct");

#define ARCH_USER_CS 0x33
#define ARCH_USER_DS 0x2b
/* Flags that a guest may set: CF PF AF ZF SF TF DF OF NT RF AC ID; IF is always on. */
#define ARCH_EFLAGS_USER 0x254dd5ULL
#define ARCH_EFLAGS_FIXED 0x202ULL
#define ARCH_EFLAGS_TF 0x100ULL

#define ARCH_SYSCALL_INSN_LEN 2

static inline uint64_t arch_syscall_arg(const struct arch_regs *r, int i)
{
	const uint64_t a[6] = {r->rdi, r->rsi, r->rdx, r->r10, r->r8, r->r9};
	return a[i];
}

/* The largest extended state (XSAVE area, standard format) that we handle: AVX-512 fits well. */
#define ARCH_XSTATE_MAX 4096
/* Offset and size of struct _fpx_sw_bytes inside the legacy area of a signal frame. */
#define ARCH_XSTATE_SW_BYTES 464
