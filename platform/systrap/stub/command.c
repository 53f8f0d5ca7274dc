/* The stub's conversation with the sentry: posting, waiting for the turn, running commands. */
#include "platform/systrap/stub/stub.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

static uint32_t load_turn(const struct st_pageset *ps)
{
	return __atomic_load_n(&ps->turn, __ATOMIC_ACQUIRE);
}

/*
 * Wakes a worker that sleeps.  The pipe can be full only when somebody floods it; whoever reads it
 * then does not know about us, so the ring is repeated until it gets in or the event is taken.
 */
static void ring_doorbell(struct st_pageset *ps)
{
	const struct stub_timespec pause = {0, 1000000};

	while (STUB_CALL(SYS_write, ST_FD_DOORBELL, &ps->id, 8, 0, 0, 0) == -EAGAIN) {
		STUB_CALL(SYS_futex, &ps->turn, FUTEX_WAIT, ST_TURN_SENTRY, &pause, 0, 0);
		if (load_turn(ps) != ST_TURN_SENTRY ||
		    __atomic_load_n(&ps->taken, __ATOMIC_RELAXED))
			return;
	}
}

/*
 * An event for whichever worker comes first.  `polled` promises only that one is probably looking:
 * wait_turn() rings before it sleeps when nobody has taken the event by then.
 */
void stub_post_event(struct st_pageset *ps)
{
	if (ps->notes) {
		ps->notes_given = ps->notes;
		ps->notes = 0;
		ps->ev.flags |= ST_EV_NOTES;
	}
	st_put(ps->kind, ST_KIND_EVENT);
	st_give_turn(ps, ST_TURN_SENTRY);
	if (!__atomic_load_n(&ps->polled, __ATOMIC_RELAXED))
		ring_doorbell(ps);
}

void stub_post_reply(struct st_pageset *ps, long r)
{
	ps->reply = r;
	ps->reply_seq = ps->cmd_seq;
	ps->kind = ST_KIND_REPLY;
	st_give_turn(ps, ST_TURN_SENTRY);
	if (__atomic_load_n(&ps->sentry_sleeps, __ATOMIC_RELAXED))
		STUB_CALL(SYS_futex, &ps->turn, FUTEX_WAKE, 1, 0, 0, 0);
}

static void wait_turn(struct st_pageset *ps)
{
	uint64_t spin = ps->spin;

	if (spin) {
		uint64_t begin = __builtin_ia32_rdtsc();
		do {
			if (load_turn(ps) != ST_TURN_SENTRY)
				return;
			__builtin_ia32_pause();
		} while (__builtin_ia32_rdtsc() - begin < spin &&
			 !__atomic_load_n(&ps->parked, __ATOMIC_RELAXED));
	}
	if (load_turn(ps) != ST_TURN_SENTRY)
		return;
	if (ps->kind == ST_KIND_EVENT && ps->polled && !ps->taken)
		ring_doorbell(ps);
	ps->cpu = st_cpu();
	__atomic_store_n(&ps->stub_sleeps, 1, __ATOMIC_SEQ_CST);
	while (load_turn(ps) == ST_TURN_SENTRY)
		STUB_CALL(SYS_futex, &ps->turn, FUTEX_WAIT, ST_TURN_SENTRY, 0, 0, 0);
	ps->stub_sleeps = 0;
	ps->woken_tsc = __builtin_ia32_rdtsc();
}

static void load_bases(const struct st_pageset *ps, const struct arch_regs *r)
{
	if (!ps->fsgsbase) {
		STUB_CALL(SYS_arch_prctl, 0x1002 /* ARCH_SET_FS */, r->fs_base, 0, 0, 0, 0);
		STUB_CALL(SYS_arch_prctl, 0x1001 /* ARCH_SET_GS */, r->gs_base, 0, 0, 0, 0);
		return;
	}
	/* Non-canonical values would fault here; the sentry does not give them. */
	__asm__ volatile("wrfsbase %0" ::"r"(r->fs_base));
	__asm__ volatile("wrgsbase %0" ::"r"(r->gs_base));
}

void stub_load_general(const struct arch_regs *r, struct stub_sigcontext *mc)
{
	mc->r15 = r->r15;
	mc->r14 = r->r14;
	mc->r13 = r->r13;
	mc->r12 = r->r12;
	mc->rbp = r->rbp;
	mc->rbx = r->rbx;
	mc->r11 = r->r11;
	mc->r10 = r->r10;
	mc->r9 = r->r9;
	mc->r8 = r->r8;
	mc->rax = r->rax;
	mc->rcx = r->rcx;
	mc->rdx = r->rdx;
	mc->rsi = r->rsi;
	mc->rdi = r->rdi;
	mc->rip = r->rip;
	mc->rsp = r->rsp;
	mc->eflags = (r->eflags & ARCH_EFLAGS_USER) | ARCH_EFLAGS_FIXED;
	mc->cs = ARCH_USER_CS;
	mc->ss = ARCH_USER_DS;
}

void stub_load_regs(const struct st_pageset *ps, struct stub_sigcontext *mc)
{
	stub_load_general(&ps->ev.regs, mc);
	load_bases(ps, &ps->ev.regs);
}

/* Receives n descriptors in one message; 0 or -errno. */
static long receive_fds(long ctl, int32_t *fds, uint32_t n)
{
	struct {
		uint64_t len;
		int32_t level, type;
		int32_t fd[ST_OP_FDS_MAX];
	} control = {0};
	char byte;
	struct {
		void *base;
		uint64_t len;
	} iov = {&byte, 1};
	struct {
		void *name;
		uint32_t namelen, pad;
		void *iov;
		uint64_t iovlen;
		void *control;
		uint64_t controllen;
		int32_t flags, pad2;
	} msg = {.iov = &iov, .iovlen = 1, .control = &control, .controllen = sizeof(control)};
	long r;

	do
		r = STUB_CALL(SYS_recvmsg, ctl, &msg, 0, 0, 0, 0);
	while (r == -EINTR);
	if (r < 0)
		return r;
	if (control.level != SOL_SOCKET || control.type != SCM_RIGHTS ||
	    control.len < 16 + n * sizeof(int32_t))
		return -EMFILE;
	for (uint32_t i = 0; i < n; i++)
		fds[i] = control.fd[i];
	return 0;
}

static void close_all(uint64_t mask)
{
	for (long fd = 0; mask; fd++, mask >>= 1)
		if (mask & 1)
			STUB_CALL(SYS_close, fd, 0, 0, 0, 0, 0);
}

/* The sentry is told under which number. */
static long run_keep(struct st_pageset *ps)
{
	int32_t fd;

	close_all(ps->arg[0]);
	long r = receive_fds(ps->ctl_fd, &fd, 1);
	return r < 0 ? r : fd;
}

static long run_move(const struct st_pageset *ps)
{
	const uint64_t what = ps->arg[0];

	return STUB_CALL(what & 1 ? SYS_pwrite64 : SYS_pread64, what >> 1, ps->arg[1], ps->arg[2],
			 ps->arg[3], 0, 0);
}

/* An empty header means "initial state" to XRSTOR, which takes MXCSR from memory anyway. */
static void init_xstate(uint64_t frame)
{
	*(volatile uint32_t *)(frame + ST_XSAVE_MXCSR) = ST_MXCSR_DEFAULT;
	for (int i = 0; i < ST_XSAVE_HEADER_LEN / 8; i++)
		((volatile uint64_t *)(frame + ST_XSAVE_HEADER))[i] = 0;
}

static long run_op(struct st_pageset *ps, const struct st_op *op, const int32_t *fds)
{
	uint64_t arg4 =
		op->flags & ST_OP_FD ? (uint64_t)fds[op->arg[4] % ST_OP_FDS_MAX] : op->arg[4];

	if (op->flags & ST_OP_CLEAR)
		return stub_clear(op->arg[0], op->arg[1]) ? -EFAULT : 0;
	if (op->flags & ST_OP_WRITE)
		return stub_copy(op->arg[0], op->arg[1], op->arg[2]) ? -EFAULT : 0;
	if (op->flags & ST_OP_RESET) {
		long r = stub_rseq_leave(ps);
		if (!r)
			r = STUB_CALL(SYS_munmap, 0, op->arg[0], 0, 0, 0, 0);
		if (!r && op->arg[2])
			r = STUB_CALL(SYS_munmap, op->arg[1], op->arg[2], 0, 0, 0, 0);
		close_all(op->arg[5]);
		if (!r && op->arg[3])
			r = STUB_CALL(SYS_munmap, ST_WINDOW(0), ST_WINDOWS * ST_WINDOW_LEN, 0, 0, 0,
				      0);
		if (!r && op->arg[4])
			init_xstate(op->arg[4]);
		return r;
	}
	return STUB_CALL(op->nr, op->arg[0], op->arg[1], op->arg[2], op->arg[3], arg4, op->arg[5]);
}

static long run_ops(struct st_pageset *ps)
{
	uint32_t n = ps->nops, nfds = ps->nfds;
	int32_t fds[ST_OP_FDS_MAX];
	long r = 0;

	ps->ops_done = 0;
	if (nfds > ST_OP_FDS_MAX)
		return -EINVAL;
	if (nfds && (r = receive_fds(ps->ctl_fd, fds, nfds)) < 0)
		return r;
	for (uint32_t i = 0; i < n && i < ST_OPS_MAX; i++) {
		struct st_op *op = &ps->ops[i];
		op->ret = r = run_op(ps, op, fds);
		ps->ops_done = i + 1;
		if (r < 0 && r > -4096)
			break;
	}
	for (uint32_t i = 0; i < nfds; i++)
		STUB_CALL(SYS_close, fds[i], 0, 0, 0, 0, 0);
	return 0;
}

/*
 * The one operation that a run was given with.  1: it failed, which is an event with the registers
 * as the sentry gave them.
 */
static int run_owed(struct st_pageset *ps, uint32_t flags)
{
	long r = run_ops(ps);

	ps->owes = 0;
	if (r < 0)
		ps->ops[0].ret = r;
	r = ps->ops[0].ret;
	if (r >= 0 || r < -4095)
		return 0;
	ps->ev.signo = 0;
	ps->ev.flags = ST_EV_OWED | flags;
	stub_post_event(ps);
	return 1;
}

/*
 * A forked child still has its parent's stack (a copy) but a hole where the page sets were: it maps
 * its own there before it touches anything that the sentry or the guest can see.
 */
static long run_fork(struct st_pageset *ps)
{
	uint64_t sets = ((uint64_t)ps & ~(ST_BLOCK_SIZE - 1)) + ST_SETS_OFF;
	const uint64_t rseq = ps->rseq;
	const uint32_t rseq_len = ps->rseq_len, rseq_sig = ps->rseq_sig;
	long old_ctl = ps->ctl_fd;
	int32_t fds[2];
	long r = receive_fds(old_ctl, fds, 2);

	if (r < 0)
		return r;
	r = STUB_CALL(SYS_clone, ST_CLONE_PROCESS, 0, 0, 0, 0, 0);
	if (r == 0) {
		STUB_CALL(SYS_mmap, sets, ST_SETS_LEN, PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_FIXED, fds[0], 0);
		STUB_CALL(SYS_madvise, sets, ST_SETS_LEN, MADV_DONTFORK, 0, 0, 0);
		STUB_CALL(SYS_close, fds[0], 0, 0, 0, 0, 0);
		STUB_CALL(SYS_close, old_ctl, 0, 0, 0, 0, 0);
		/* To read first has the host map all pages of the set that are there. */
		(void)*(volatile uint32_t *)&ps->turn;
		ps->new_ctl = (uint32_t)fds[1];
		ps->rseq = rseq; /* the host's clone has copied the registration */
		ps->rseq_len = rseq_len;
		ps->rseq_sig = rseq_sig;
		return 0;
	}
	STUB_CALL(SYS_close, fds[0], 0, 0, 0, 0, 0);
	STUB_CALL(SYS_close, fds[1], 0, 0, 0, 0, 0);
	return r;
}

/* The new thread returns to guest code through a copy of our frame, moved to its own stack. */
static long run_thread(struct st_pageset *ps, struct stub_ucontext *uc)
{
	uint64_t new_base = ps->arg[0];
	uint64_t old_base = (uint64_t)uc & ~(ST_STACK_SIZE - 1);
	uint64_t delta = new_base - old_base;

	for (uint64_t a = (uint64_t)uc; a < old_base + ST_STACK_SIZE; a += 8)
		*(volatile uint64_t *)(a + delta) = *(const uint64_t *)a;
	struct stub_ucontext *nuc = (struct stub_ucontext *)((uint64_t)uc + delta);
	if (nuc->mc.fpstate)
		nuc->mc.fpstate += delta;
	nuc->stack_sp = new_base;
	struct st_pageset *nps = (struct st_pageset *)ST_SET_OF_SP(new_base);
	return stub_clone_thread(ST_CLONE_THREAD, ((uint64_t)nuc - 256) & ~63UL, &nps->tid, nuc);
}

static long run_cmpxchg(struct st_pageset *ps)
{
	uint32_t seen = 0;
	long r = stub_cmpxchg32(ps->arg[0], (uint32_t)ps->arg[1], (uint32_t)ps->arg[2], &seen);

	ps->reply2 = seen;
	return r;
}

/* XSAVE writes no more of the header than its first word. */
static long run_xsave(struct st_pageset *ps)
{
	char *area = (char *)ps->ops;

	for (int i = 0; i < ST_XSAVE_HEADER_LEN / 8; i++)
		((volatile uint64_t *)(area + ST_XSAVE_HEADER))[i] = 0;
	__asm__ volatile("xsave64 (%0)" ::"r"(area), "a"((uint32_t)ps->arg[0]),
			 "d"((uint32_t)(ps->arg[0] >> 32))
			 : "memory");
	return 0;
}

/* The commands that need no frame. */
static long run_command(struct st_pageset *ps)
{
	switch (ps->cmd) {
	case ST_CMD_OPS:
		return run_ops(ps);
	case ST_CMD_CMPXCHG:
		return run_cmpxchg(ps);
	case ST_CMD_XSAVE:
		return run_xsave(ps);
	case ST_CMD_COPY:
		return stub_copy(ps->arg[0], ps->arg[1], ps->arg[2]);
	case ST_CMD_MOVE:
		return run_move(ps);
	case ST_CMD_KEEP:
		return run_keep(ps);
	case ST_CMD_CLOSE:
		close_all(ps->arg[0]);
		return 0;
	case ST_CMD_EXIT:
		STUB_CALL(SYS_exit, 0, 0, 0, 0, 0, 0);
	}
	return -ENOSYS;
}

void stub_serve(struct st_pageset *ps, struct stub_ucontext *uc)
{
	for (;;) {
		long r;

		wait_turn(ps);
		switch (ps->cmd) {
		case ST_CMD_RUN:
			if (ps->owes && run_owed(ps, 0))
				continue;
			stub_load_regs(ps, &uc->mc);
			return;
		case ST_CMD_RUN_DIRECT:
			stub_load_regs(ps, &uc->mc);
			if (stub_run_direct(ps, uc))
				return;
			continue;
		case ST_CMD_FORK:
			r = run_fork(ps);
			break;
		case ST_CMD_THREAD:
			r = run_thread(ps, uc);
			break;
		default:
			r = run_command(ps);
		}
		stub_post_reply(ps, r);
	}
}

/* Into the page set, line by line; what the sentry can tell from the rest does not travel. */
static void show_regs(struct st_pageset *ps, const struct arch_regs *f)
{
	struct arch_regs *r = &ps->ev.regs;
	uint64_t fs_base;

	__asm__ volatile("rdfsbase %0" : "=r"(fs_base));
	st_put(r->r15, f->r15);
	st_put(r->r14, f->r14);
	st_put(r->r13, f->r13);
	st_put(r->r12, f->r12);
	st_put(r->rbp, f->rbp);
	st_put(r->rbx, f->rbx);
	st_put(r->r10, f->r10);
	st_put(r->rip, f->rip);
	st_put(r->eflags, f->eflags);
	st_put(r->rsp, f->rsp);
	st_put(r->fs_base, fs_base);
	st_put(ps->kind, ST_KIND_EVENT);
	/* The line of the turn. */
	r->r9 = f->r9;
	r->r8 = f->r8;
	r->rax = f->rax;
	r->rdx = f->rdx;
	r->rsi = f->rsi;
	r->rdi = f->rdi;
}

int stub_fast_main(struct st_pageset *ps, struct arch_regs *frame)
{
	struct st_event *ev = &ps->ev;
	const uint64_t a[4] = {frame->rdi, frame->rsi, frame->rdx, frame->r10};
	const uint32_t nr = (uint32_t)frame->rax;

	if (st_must_trap(nr)) { /* by the site's own `syscall` */
		frame->rip -= ARCH_SYSCALL_INSN_LEN;
		return 0;
	}
	if (stub_answer(ps, nr, a, &frame->rax))
		return 0;
	st_put(ev->signo, SIGSYS);
	st_put(ev->code, 1); /* SYS_SECCOMP */
	st_put(ev->arch, AUDIT_ARCH_X86_64);
	st_put(ev->flags, ps->direct ? ST_EV_FAST | stub_bring(ps, frame) : ST_EV_FAST);
	st_put(ev->fpstate, 0);
	show_regs(ps, frame);
	stub_post_event(ps);
	for (;;) {
		wait_turn(ps);
		if (ps->cmd == ST_CMD_RUN_FAST || ps->cmd == ST_CMD_RUN_LATE) {
			if (ps->owes && run_owed(ps, ST_EV_FAST))
				continue;
			if (ps->cmd == ST_CMD_RUN_FAST || !stub_copy_late(ps)) {
				frame->rax = ev->regs.rax;
				return 0;
			}
			ev->regs.rax = frame->rax;
			ev->flags = ST_EV_FAST | ST_EV_RETRY;
			stub_post_event(ps);
			continue;
		}
		if (ps->cmd == ST_CMD_CONVERT)
			return 1;
		if (ps->cmd == ST_CMD_RUN_FULL) {
			ev->regs.eflags = (ev->regs.eflags & ARCH_EFLAGS_USER) | ARCH_EFLAGS_FIXED;
			return 2;
		}
		stub_post_reply(ps, run_command(ps));
	}
}
