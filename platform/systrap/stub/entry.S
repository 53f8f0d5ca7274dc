/*
 * The stub's entry points and the few places where an instruction's address matters: accesses that
 * may fault, and the window in which an interrupt must abort a wait before it begins.
 */
#include "platform/systrap/layout.h"

	.section .text.entry, "ax"
	.globl	stub_text_start
stub_text_start:
	/* ST_ENTER: the zygote comes here with its page set in rdi, on the stack of slot 0. */
	jmp	stub_enter_main
	.balign	16
	/* ST_HANDLER: every host signal.  rdi, rsi, rdx as the kernel gives them. */
	jmp	stub_handler
	.balign	16
	/* ST_RESTORER */
	mov	$15, %eax
	syscall
	ud2
	.balign	16
	/* ST_FAST */
	jmp	stub_fast

	.text
	/*
	 * A patched call site, by way of its trampoline: r11 is the address after the `syscall`, rcx
	 * is free, as are the arithmetic flags to every compiler.  GS must hold our page set - by
	 * range, then by what stands there - and no odd flags may be set; else the call traps.
	 */
	.globl	stub_fast, stub_fast_probe, stub_fast_trap
	/*
	 * The registers go to a frame on the alternate stack at first: a call that is answered here
	 * writes nothing that a worker looks at.
	 */
#define R(i) (ST_PS_REGS + 8 * (i))(%rcx)
#define F(i) (8 * (i))(%rsp)
stub_fast:
	rdgsbase %rcx
	shr	$30, %rcx
	cmp	$0x1ffff, %rcx
	jne	stub_fast_trap
	rdgsbase %rcx
stub_fast_probe:
	cmp	%rcx, ST_PS_SELF(%rcx)
	jne	stub_fast_trap
	mov	%rsp, ST_PS_GUEST_SP(%rcx)
	mov	ST_PS_STACK(%rcx), %rsp
	lea	-ST_FAST_FRAME(%rsp), %rsp
	mov	%r15, F(0)
	mov	%r14, F(1)
	mov	%r13, F(2)
	mov	%r12, F(3)
	mov	%rbp, F(4)
	mov	%rbx, F(5)
	mov	%r10, F(7)
	mov	%r9, F(8)
	mov	%r8, F(9)
	mov	%rax, F(10)
	mov	%rdx, F(12)
	mov	%rsi, F(13)
	mov	%rdi, F(14)
	mov	%r11, F(16)
	mov	ST_PS_GUEST_SP(%rcx), %rax
	mov	%rax, F(19)
	pushfq
	pop	%rdx
	mov	%rdx, F(18)
	test	$0x44500, %edx /* AC, NT, DF, TF */
	jnz	1f
	mov	%rcx, %rbx
	mov	%rcx, %rdi
	mov	%rsp, %rsi
	call	stub_fast_main
	mov	%rbx, %rcx
	test	%eax, %eax
	jz	stub_fast_exit
	cmp	$2, %eax
	je	stub_full_exit
	jmp	stub_fast_convert
1:	mov	F(10), %rax
	mov	F(12), %rdx
	mov	F(16), %r11
	mov	F(19), %rsp
stub_fast_trap:
	lea	-2(%r11), %rcx
	jmp	*%rcx

	/*
	 * The way back.  An interrupt in here, or before, must be reported: the handler does.  Until
	 * the stack is the guest's again, the registers are those of the frame.
	 */
	.globl	stub_fast_exit, stub_fast_gone, stub_full_exit, stub_fast_exit_end
	.globl	stub_fast_interrupted, stub_full_interrupted, stub_fast_convert
stub_fast_exit:
	cmpl	$0, ST_PS_INTR(%rcx)
	jne	stub_fast_interrupted
	mov	F(0), %r15
	mov	F(1), %r14
	mov	F(2), %r13
	mov	F(3), %r12
	mov	F(4), %rbp
	mov	F(5), %rbx
	mov	F(7), %r10
	mov	F(8), %r9
	mov	F(9), %r8
	mov	F(10), %rax
	mov	F(12), %rdx
	mov	F(13), %rsi
	mov	F(14), %rdi
	mov	F(18), %r11
	mov	F(16), %rcx
	mov	F(19), %rsp
stub_fast_gone:
	jmp	*%rcx
	/* With the registers that the sentry has set, to wherever it wants. */
stub_full_exit:
	cmpl	$0, ST_PS_INTR(%rcx)
	jne	stub_full_interrupted
	pushq	$0x2b
	push	R(19)
	push	R(18)
	pushq	$0x33
	push	R(16)
	mov	R(21), %rax
	wrfsbase %rax
	mov	R(22), %rax
	wrgsbase %rax
	mov	R(0), %r15
	mov	R(1), %r14
	mov	R(2), %r13
	mov	R(3), %r12
	mov	R(4), %rbp
	mov	R(5), %rbx
	mov	R(6), %r11
	mov	R(7), %r10
	mov	R(8), %r9
	mov	R(9), %r8
	mov	R(10), %rax
	mov	R(12), %rdx
	mov	R(13), %rsi
	mov	R(14), %rdi
	mov	R(11), %rcx
	iretq
stub_fast_exit_end:
stub_full_interrupted:
	ud2
stub_fast_interrupted:
	ud2
stub_fast_convert:
	ud2

	/* long stub_syscall(a, b, c, d, e, f, nr) */
	.globl	stub_syscall
stub_syscall:
	mov	8(%rsp), %rax
	mov	%rcx, %r10
	syscall
	ret

	/*
	 * long stub_wait(call, intr)
	 *
	 * The interrupt's handler moves a thread that stands in [begin, call] to the abort label:
	 * between the look at the flag and the call's first instruction a wake-up would be lost.
	 */
	.globl	stub_wait, stub_wait_begin, stub_wait_call, stub_wait_abort
stub_wait:
	mov	%rsi, %r11
	mov	(%rdi), %rax
	mov	16(%rdi), %rsi
	mov	24(%rdi), %rdx
	mov	32(%rdi), %r10
	mov	40(%rdi), %r8
	mov	48(%rdi), %r9
	mov	8(%rdi), %rdi
stub_wait_begin:
	cmpl	$0, (%r11)
	jne	stub_wait_abort
stub_wait_call:
	syscall
	ret
stub_wait_abort:
	mov	$-4, %rax
	ret

	/* Guest memory.  A fault in here continues at stub_access_fault. */
	.globl	stub_access_begin, stub_access_end, stub_access_fault
	.globl	stub_load64, stub_load32, stub_store64, stub_store32, stub_cmpxchg32
stub_load64:
stub_access_begin:
	mov	(%rdi), %rax
	mov	%rax, (%rsi)
	xor	%eax, %eax
	ret
stub_load32:
	mov	(%rdi), %eax
	mov	%eax, (%rsi)
	xor	%eax, %eax
	ret
stub_store64:
	mov	%rsi, (%rdi)
	xor	%eax, %eax
	ret
stub_store32:
	mov	%esi, (%rdi)
	xor	%eax, %eax
	ret
stub_cmpxchg32:
	mov	%rcx, %r8
	mov	%esi, %eax
	lock cmpxchg %edx, (%rdi)
	mov	%eax, (%r8)
	xor	%eax, %eax
stub_access_end:
	ret
stub_access_fault:
	mov	$-14, %rax
	ret

	.globl	stub_copy, stub_copy_insn, stub_copy_fault, stub_clear, stub_clear_insn
stub_copy:
	mov	%rdx, %rcx
stub_copy_insn:
	rep movsb
stub_copy_fault:
	mov	%rcx, %rax
	ret
stub_clear:
	mov	%rsi, %rcx
	xor	%eax, %eax
stub_clear_insn:
	rep stosb
	jmp	stub_copy_fault

	/*
	 * long stub_vdso_call(fn, a, b, ps): where the vDSO was the guest may have put anything, so
	 * a signal in there (stub.c) comes back to stub_vdso_fault with this stack and rbx.
	 */
	.globl	stub_vdso_call, stub_vdso_fault
stub_vdso_call:
	push	%rbx
	push	%rbp
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	sub	$8, %rsp
	mov	%rcx, %rbx
	mov	%rsp, ST_PS_VDSO_SP(%rbx)
	mov	%rdi, %rax
	mov	%rsi, %rdi
	mov	%rdx, %rsi
	xor	%edx, %edx
	call	*%rax
	jmp	1f
stub_vdso_fault:
	mov	$-14, %rax
1:	movq	$0, ST_PS_VDSO_SP(%rbx)
	add	$8, %rsp
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbp
	pop	%rbx
	ret

	/* long stub_clone_thread(flags, sp, tid, uc) */
	.globl	stub_clone_thread
stub_clone_thread:
	push	%r12
	mov	%rcx, %r12
	mov	%rdx, %r10
	xor	%edx, %edx
	xor	%r8d, %r8d
	mov	$56, %eax
	syscall
	test	%rax, %rax
	jz	1f
	pop	%r12
	ret
1:	/* The new thread: its stack holds nothing.  The frame to return to is in r12. */
	xor	%ebp, %ebp
	mov	%r12, %rdi
	call	stub_thread_main
	mov	%r12, %rsp
	mov	$15, %eax
	syscall
	ud2

	/* Into the handler with zeroed registers: the frame that every fresh process starts from. */
	.globl	stub_first_trap
stub_first_trap:
	xor	%eax, %eax
	xor	%ebx, %ebx
	xor	%ecx, %ecx
	xor	%edx, %edx
	xor	%esi, %esi
	xor	%edi, %edi
	xor	%ebp, %ebp
	xor	%r8d, %r8d
	xor	%r9d, %r9d
	xor	%r10d, %r10d
	xor	%r11d, %r11d
	xor	%r12d, %r12d
	xor	%r13d, %r13d
	xor	%r14d, %r14d
	xor	%r15d, %r15d
	xor	%esp, %esp
	ud2

	.section .note.GNU-stack, "", @progbits
