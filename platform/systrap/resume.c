/*
 * Resuming and interrupting.  Both may race with anything: the event that comes at once, a death,
 * each other.  The state word decides (internal.h).
 */
#include "platform/systrap/internal.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static void make_ready(struct p_thread *th)
{
	struct systrap *pf = th->as->pf;

	mutex_lock(&pf->lock, &lc_platform);
	worker_ready(th);
	mutex_unlock(&pf->lock, &lc_platform);
}

static void write_regs(struct p_thread *th)
{
	struct arch_regs *r = &th->ps->ev.regs;

	*r = th->regs;
	/* wrfsbase with a non-canonical address would fault in the stub. */
	if (r->fs_base >= ST_TOP)
		r->fs_base = 0;
	if (r->gs_base >= ST_TOP)
		r->gs_base = 0;
	/* With rcx as the instruction leaves it, EINTR is the host's own answer: event.c. */
	if (!r->gs_base && th->as->pf->opt.patching && th->as->pf->fsgsbase)
		r->gs_base = th->ps_addr; /* how fast calls find their page set */
	if (r->rax == (uint64_t)-EINTR && r->rcx == r->rip)
		r->rcx = 0;
}

/* Of a fast call: the rest stands there, and had better stay in the cache of the guest's CPU. */
static void write_answer(struct p_thread *th)
{
	struct arch_regs *r = &th->ps->ev.regs;

	r->rax = th->regs.rax;
	if (th->regs.rax == (uint64_t)-EINTR)
		r->rcx = 0; /* as in write_regs() */
}

static int64_t redo_deadline(const struct p_thread *th, enum st_cmd cmd)
{
	const struct arch_regs *r = &th->regs;
	uint64_t rip = cmd == ST_CMD_RUN_DIRECT ? r->rip - ARCH_SYSCALL_INSN_LEN : r->rip;

	if (!th->redo.deadline || rip != th->redo.rip || r->rax != SYS_futex ||
	    r->rdi != th->redo.rdi || r->rsi != th->redo.rsi || r->rdx != th->redo.rdx ||
	    r->r10 != th->redo.r10)
		return 0;
	return th->redo.deadline;
}

static void send_interrupt(struct p_thread *th)
{
	struct systrap *pf = th->as->pf;

	__atomic_store_n(&th->ps->intr, 1, __ATOMIC_SEQ_CST);
	int err = syscall(SYS_tgkill, th->as->pid, th->tid, ST_SIGNAL_INTERRUPT) < 0 ? errno : 0;
	mutex_lock(&pf->lock, &lc_platform);
	if (err == ESRCH && !th->as->exited)
		thread_report_death(th, SIGKILL); /* it left by a jump to the stub's exit */
	th->intr_since = pf->ticks;
	bool first = !atomic_exchange(&pf->interrupts, true);
	mutex_unlock(&pf->lock, &lc_platform);
	if (first)
		overseer_wake(pf);
}

/* Stopped again before it ran: th->event says why. */
static bool resume_stopped(struct p_thread *th)
{
	uint32_t st = atomic_load(&th->st);

	for (;;) {
		if (st & ST_DEAD) {
			event_set(th, P_EVENT_DEAD, th->as->signo);
			return true;
		}
		if (st & ST_INTR) {
			if (!atomic_compare_exchange_weak(&th->st, &st, st & ~ST_INTR))
				continue;
			event_set(th, P_EVENT_INTERRUPTED, 0);
			return true;
		}
		uint32_t resuming = ((st & ~ST_STATE) | ST_RESUMING) + ST_COUNT;
		if (atomic_compare_exchange_weak(&th->st, &st, resuming))
			return false;
	}
}

/* Whether a fast call may simply return: nothing but its result has changed. */
static bool only_rax_changed(const struct p_thread *th)
{
	struct arch_regs was = th->fast_regs;

	was.rax = th->regs.rax;
	was.orig_rax = th->regs.orig_rax;
	return !memcmp(&was, &th->regs, sizeof(was));
}

static void give_run(struct p_thread *th, enum st_cmd cmd, bool spin, bool poll)
{
	struct systrap *pf = th->as->pf;
	struct st_pageset *ps = th->ps;

	if (cmd == ST_CMD_RUN_FAST || cmd == ST_CMD_RUN_LATE)
		write_answer(th);
	else
		write_regs(th);
	ps->cmd = cmd;
	ps->redo_deadline = redo_deadline(th, cmd);
	ps->direct = atomic_load_explicit(&th->direct, memory_order_relaxed);
	ps->spin = spin ? pf->spin_ticks : 0;
	th->stub_spins = spin;
	/* Looked at or written by other sentry threads as well: atomic, in no order. */
	__atomic_store_n(&ps->polled, poll, __ATOMIC_RELAXED);
	__atomic_store_n(&ps->taken, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&ps->intr, 0, __ATOMIC_RELAXED);
	th->resumed_tsc = st_tsc();
	th->handle_ticks = th->resumed_tsc - th->taken_tsc;
	__atomic_store_n(&ps->turn, ST_TURN_STUB, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&ps->stub_sleeps, __ATOMIC_RELAXED))
		st_futex_wake(&ps->turn, 1);
}

enum published { PUBLISHED, AGAIN, READY };

/* RESUMING → RUNNING, acting on what arrived meanwhile.  After PUBLISHED, th may be gone. */
static enum published publish(struct p_thread *th)
{
	struct systrap *pf = th->as->pf;
	uint32_t st = atomic_load(&th->st);
	bool signalled = false;

	atomic_fetch_add_explicit(&pf->running, 1, memory_order_relaxed);
	for (;;) {
		uint32_t stopped = (st & ~(ST_STATE | ST_INTR | ST_HINT)) | ST_STOPPED;
		if (st & ST_DEAD) {
			atomic_store(&th->st, stopped);
			event_set(th, P_EVENT_DEAD, th->as->signo);
			break;
		}
		if (st & ST_HINT && event_posted(th)) {
			if (!atomic_compare_exchange_weak(&th->st, &st, stopped))
				continue;
			atomic_fetch_sub_explicit(&pf->running, 1, memory_order_relaxed);
			return event_take(th, st & ST_INTR) ? READY : AGAIN;
		}
		if (st & ST_INTR && !signalled) {
			signalled = true;
			send_interrupt(th);
			st = atomic_load(&th->st);
			continue;
		}
		uint32_t running = (st & ~(ST_STATE | ST_HINT)) | ST_RUNNING;
		if (atomic_compare_exchange_weak(&th->st, &st, running))
			return PUBLISHED;
	}
	atomic_fetch_sub_explicit(&pf->running, 1, memory_order_relaxed);
	return READY;
}

static void resume(struct p_thread *th, enum st_cmd cmd)
{
	struct systrap *pf = th->as->pf;

	if (th->trapped && pf->opt.patching && pf->fsgsbase && !atomic_load(&th->as->dead))
		patch_note(th, th->trapped, (uint32_t)th->fast_regs.orig_rax);
	th->trapped = 0;
	if (th->late_failed)
		thread_settle(th);
	if (th->fast && cmd == ST_CMD_RUN && only_rax_changed(th))
		cmd = th->nlate ? ST_CMD_RUN_LATE : ST_CMD_RUN_FAST;
	else
		thread_convert(th); /* a failure is a death, reported below */
	for (;; cmd = ST_CMD_RUN) {
		bool fast = cmd == ST_CMD_RUN_FAST || cmd == ST_CMD_RUN_LATE;
		if (resume_stopped(th)) {
			make_ready(th);
			return;
		}
		bool spin = worker_spin_allowed(pf);
		bool poll = spin && (pf->opt.spin_us > 0 || th->guest_ticks < 2 * pf->spin_ticks);
		if (fast)
			th->fast = false;
		if (cmd == ST_CMD_RUN_LATE)
			marshal_send(th);
		give_run(th, cmd, spin && th->handle_ticks < pf->spin_ticks, poll);
		switch (publish(th)) {
		case PUBLISHED:
			if (!poll)
				return;
			uint32_t n = atomic_fetch_add(&pf->recent_n, 1);
			atomic_store(&pf->recent[n % SYSTRAP_POLL_MAX], th);
			return;
		case READY:
			make_ready(th);
			return;
		case AGAIN:
			break;
		}
	}
}

void thread_resume(struct p_thread *th)
{
	resume(th, ST_CMD_RUN);
}

void thread_resume_direct(struct p_thread *th)
{
	th->regs.rax = th->regs.orig_rax;
	resume(th, ST_CMD_RUN_DIRECT);
}

void thread_interrupt(struct p_thread *th)
{
	uint32_t st = atomic_fetch_or(&th->st, ST_INTR);

	if ((st & ST_STATE) == ST_RUNNING)
		send_interrupt(th);
}
