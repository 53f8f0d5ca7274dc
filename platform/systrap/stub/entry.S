/*
 * The stub's entry points and the few places where an instruction's address matters: accesses that
 * may fault, and the window in which an interrupt must abort a wait before it begins.
 */
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

	.text
	/* long stub_syscall(a, b, c, d, e, f, nr) */
	.globl	stub_syscall
stub_syscall:
	mov	8(%rsp), %rax
	mov	%rcx, %r10
	syscall
	ret

	/*
	 * long stub_futex_wait(uaddr, op, val, ts, val3, intr)
	 *
	 * The interrupt's handler moves a thread that stands in [begin, call] to the abort label:
	 * between the look at the flag and the call's first instruction a wake-up would be lost.
	 */
	.globl	stub_futex_wait, stub_wait_begin, stub_wait_call, stub_wait_abort
stub_futex_wait:
	mov	%r9, %r11
	mov	%rcx, %r10
	mov	%r8, %r9
	xor	%r8d, %r8d
	mov	$202, %eax
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
	.globl	stub_load64, stub_load32, stub_cmpxchg32
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
