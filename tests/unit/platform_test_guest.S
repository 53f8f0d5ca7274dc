/* Guest programs of platform_test.c: position-independent, copied to the guest as one piece. */
	.section .rodata
	.globl	guest_code, guest_code_end
	.globl	g_syscalls, g_load, g_store, g_ud2, g_int3, g_div, g_loop, g_xsave, g_thread
	.globl	g_futex, g_nr, g_step, g_int80, g_vcall, g_jump, g_wakeloop, g_counter, g_gsbase
	.globl	g_fill, g_flood, g_fillloop
	.balign	16
guest_code:
g_syscalls:
	syscall
	mov	%rax, %rdi
	mov	$1001, %eax
	syscall
	hlt
g_load:
	mov	(%rdi), %rax
	xor	%eax, %eax
	syscall
	hlt
g_store:
	mov	%rax, (%rdi)
	syscall
	hlt
g_ud2:
	ud2
g_int3:
	int3
g_div:
	xor	%ecx, %ecx
	xor	%edx, %edx
	div	%ecx
g_loop:
	jmp	g_loop
g_xsave:
	movdqu	(%rdi), %xmm0
	mov	$1, %eax
	syscall
	movdqu	%xmm0, 64(%rdi)
	mov	$2, %eax
	syscall
	hlt
g_thread:
	lock incq (%rsi)
	mov	$3, %eax
	syscall
	hlt
g_futex:
	mov	$202, %eax
	syscall
	mov	%rax, %rdi
	mov	$4, %eax
	syscall
	hlt
g_nr:
	syscall
	jmp	g_nr
g_step:
	nop
	nop
	nop
	mov	$5, %eax
	syscall
	hlt
g_int80:
	mov	$20, %eax
	int	$0x80
	hlt
g_vcall:
	call	*%rax
	mov	%rax, %rdi
	mov	$6, %eax
	syscall
	hlt
g_jump:
	jmp	*%r15
g_wakeloop:
	mov	%rbx, %rdi
	mov	$128, %esi
	xor	%edx, %edx
	lea	64(%rbx), %r10
	mov	$202, %eax
	syscall
	mov	$24, %eax
	syscall
	mov	$200, %ecx
1:	dec	%ecx
	jnz	1b
	jmp	g_wakeloop
g_counter:
	mov	$39, %eax
	syscall
	dec	%rbx
	jnz	g_counter
	mov	$7, %eax
	syscall
	hlt
g_gsbase:
	mov	%gs:0, %rax
	syscall
	mov	%gs:0, %rax
	syscall
	hlt
g_fill:
	rep stosb
	mov	$39, %eax
	syscall
	jmp	g_loop
g_flood:
	mov	$1, %eax
	mov	$1, %edi
	mov	$8, %edx
	call	g_jump
	jmp	g_flood
g_fillloop:
	mov	%rdi, %rbx
1:	mov	%rbx, %rdi
	mov	%rdx, %rcx
	rep stosb
	jmp	1b
guest_code_end:
	.section .note.GNU-stack, "", @progbits
