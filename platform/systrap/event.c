/*
 * Events: who owns one, and what a stub's words mean.  Everything comes from memory that the guest
 * can write: it is fetched once, and believed only about the guest itself.
 */
#include "platform/systrap/internal.h"

#include <errno.h>
#include <linux/audit.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>

/* RUNNING → STOPPED for a thread whose turn word says that it posted, as seen with state *st. */
bool event_claim(struct p_thread *th, uint32_t st, bool *interrupted)
{
	uint32_t stopped = (st & ~(ST_STATE | ST_INTR | ST_HINT)) | ST_STOPPED;

	if (!atomic_compare_exchange_strong(&th->st, &st, stopped))
		return false;
	*interrupted = st & ST_INTR;
	atomic_fetch_sub_explicit(&th->as->pf->running, 1, memory_order_relaxed);
	return true;
}

void event_set(struct p_thread *th, enum p_event_kind kind, int signo)
{
	th->event = (struct p_event){.kind = kind, .signo = signo};
}

void thread_report_death(struct p_thread *th, int signo)
{
	uint32_t st = atomic_fetch_or(&th->st, ST_DEAD) | ST_DEAD;

	while ((st & ST_STATE) == ST_RUNNING) {
		uint32_t stopped = (st & ~(ST_STATE | ST_INTR | ST_HINT)) | ST_STOPPED;
		if (!atomic_compare_exchange_weak(&th->st, &st, stopped))
			continue;
		atomic_fetch_sub(&th->as->pf->running, 1);
		event_set(th, P_EVENT_DEAD, signo);
		worker_ready(th);
		return;
	}
}

void thread_misbehaved(struct p_thread *th, const char *what)
{
	log_limited(LOG_WARN, "guest process %d killed: %s", th->as->pid, what);
	aspace_kill(th->as);
}

/* A claimed event that only a hostile guest can have made: its process dies, now. */
static void event_misbehaved(struct p_thread *th, const char *what)
{
	thread_misbehaved(th, what);
	atomic_fetch_or(&th->st, ST_DEAD);
	event_set(th, P_EVENT_DEAD, SIGSYS);
}

/*
 * Linux 6.11 and 6.18 answer 335 and 336 (uretprobe, uprobe) before filters look.  335 gives a
 * caller that it does not know SIGILL and -1 in rax: made a system call again here.  336 returns
 * -ENXIO on the spot, and that is what guests of such hosts get instead of -ENOSYS.
 */
#define NR_URETPROBE 335

static bool is_hidden_syscall(struct p_thread *th, const struct st_event *ev)
{
	uint8_t insn[2];

	return ev->signo == SIGILL && ev->code == SI_KERNEL && ev->regs.rcx == ev->regs.rip &&
	       ev->regs.rax == (uint64_t)-1 &&
	       aspace_copy_in(th->as, NULL, insn, ev->regs.rip - 2, 2) == 2 && insn[0] == 0x0f &&
	       insn[1] == 0x05;
}

static void decode_syscall(struct p_thread *th, const struct st_event *ev)
{
	event_set(th, P_EVENT_SYSCALL, 0);
	/* The host, too, takes the number from the low half (entry_SYSCALL_64). */
	int32_t nr = ev->signo == SIGILL ? NR_URETPROBE : (int32_t)ev->regs.rax;
	th->regs.orig_rax = (uint64_t)(int64_t)nr;
	th->regs.rax = (uint64_t)-ENOSYS;
	if (nr == SYS_exit_group) { /* no answer will come, and its parent wants the CPU */
		st_put(th->ps->taken, 1);
		st_put(th->ps->parked, 1);
	}
	th->event.retry = ev->flags & ST_EV_RETRY;
	if (!(ev->flags & ST_EV_ABORTED))
		return;
	th->event.host_wait_aborted = true;
	th->event.host_wait_deadline = ev->deadline > 0 ? ev->deadline : 0;
	th->redo.rip = ev->regs.rip - ARCH_SYSCALL_INSN_LEN;
	th->redo.rdi = ev->regs.rdi;
	th->redo.rsi = ev->regs.rsi;
	th->redo.rdx = ev->regs.rdx;
	th->redo.r10 = ev->regs.r10;
	th->redo.deadline = th->event.host_wait_deadline;
}

/*
 * A futex wait that guest code did by itself, and that our signal cut short: the handler has no
 * SA_RESTART, so the host's EINTR stands in the frame, and rcx is as the instruction left it.  That
 * cannot be an answer of ours: write_regs() gives none with this rcx.
 */
static bool is_aborted_wait(struct p_thread *th, const struct st_event *ev)
{
	uint8_t insn[ARCH_SYSCALL_INSN_LEN];

	return ev->regs.rax == (uint64_t)-EINTR && ev->regs.rcx == ev->regs.rip &&
	       aspace_copy_in(th->as, NULL, insn, ev->regs.rip - sizeof(insn), sizeof(insn)) ==
		       sizeof(insn) &&
	       insn[0] == 0x0f && insn[1] == 0x05;
}

/* False: nobody asked for it, and the wait goes on.  Its timeout is absolute, or none. */
static bool decode_interrupt(struct p_thread *th, const struct st_event *ev, bool interrupted)
{
	if (!is_aborted_wait(th, ev)) {
		event_set(th, P_EVENT_INTERRUPTED, 0);
		return interrupted;
	}
	if (!interrupted) {
		th->regs.rip -= ARCH_SYSCALL_INSN_LEN;
		th->regs.rax = SYS_futex;
		return false;
	}
	event_set(th, P_EVENT_SYSCALL, 0);
	th->event.host_wait_aborted = true;
	th->regs.orig_rax = SYS_futex;
	th->redo.deadline = 0;
	return true;
}

/* int $0x80: as a host without 32-bit emulation does it, #GP on vector 0x80. */
static void decode_int80(struct p_thread *th)
{
	event_set(th, P_EVENT_SIGNAL, SIGSEGV);
	th->event.si_code = SI_KERNEL;
	th->event.trapno = 13;
	th->event.error_code = (0x80 << 3) | 2;
	th->regs.rip -= 2;
}

static void decode_signal(struct p_thread *th, const struct st_event *ev)
{
	event_set(th, P_EVENT_SIGNAL, ev->signo);
	th->event.si_code = ev->code;
	th->event.addr = ev->addr;
	th->event.trapno = ev->trapno;
	th->event.error_code = ev->error_code;
	th->event.cr2 = ev->cr2;
}

static bool decode_owed(struct p_thread *th)
{
	long r = th->owed_given ? command_result(th, &th->owed_op, 0) : 0;

	th->owed_given = false;
	if (r < 0) {
		event_set(th, P_EVENT_OWED, 0);
		th->event.si_code = (int)r;
	} else {
		event_misbehaved(th, "failure of nothing");
	}
	return true;
}

static bool decode(struct p_thread *th, const struct st_event *ev)
{
	if (ev->flags & ST_EV_OWED)
		return decode_owed(th);
	switch (ev->signo) {
	case SIGSYS:
	case SIGILL:
	case SIGSEGV:
	case SIGBUS:
	case SIGTRAP:
	case SIGFPE:
		if (ev->code <= 0)
			return false; /* sent by somebody on the host */
		break;
	default:
		event_misbehaved(th, "impossible signal");
		return true;
	}
	if (ev->signo != SIGSYS && !is_hidden_syscall(th, ev))
		decode_signal(th, ev);
	else if (ev->signo == SIGSYS && ev->regs.rip - ST_TEXT <= ST_TEXT_LEN)
		event_misbehaved(th, "refused system call from the stub");
	else if (ev->signo == SIGSYS && ev->arch != AUDIT_ARCH_X86_64)
		decode_int80(th);
	else {
		decode_syscall(th, ev);
		th->trapped = ev->flags || ev->signo != SIGSYS ? 0 : ev->regs.rip;
	}
	return true;
}

/* A fast call brings no more registers than it must; of the others, `syscall` sets two. */
static void take_regs(struct p_thread *th, const struct arch_regs *r)
{
	th->regs = *r;
	th->regs.orig_rax = (uint64_t)-1;
	if (th->fast) {
		th->regs.rcx = r->rip;
		th->regs.r11 = r->eflags;
		th->regs.cs = ARCH_USER_CS;
		th->regs.ss = ARCH_USER_DS;
		th->regs.gs_base = 0; /* what is there is ours */
	}
	th->regs.cs &= 0xffff;
	th->regs.ss &= 0xffff;
	th->regs.ds = th->regs.es = th->regs.fs = th->regs.gs = 0;
}

bool event_take(struct p_thread *th, bool interrupted)
{
	struct st_pageset *ps = th->ps;
	struct st_event ev;
	uint32_t kind = __atomic_load_n(&ps->kind, __ATOMIC_RELAXED);

	st_put(ps->intr, 0);
	memcpy(&ev, &ps->ev, sizeof(ev));
	__asm__ volatile("" ::: "memory"); /* the copy is the only fetch */
	if (ev.flags & ST_EV_NOTES)
		notes_fetch(th);
	ev.flags &= ~ST_EV_NOTES;

	th->taken_tsc = th->spins_since = st_tsc();
	th->guest_ticks = th->taken_tsc - th->resumed_tsc;
	/* How long it took to wake up is no part of it. */
	uint64_t slept = __atomic_load_n(&ps->woken_tsc, __ATOMIC_RELAXED) - th->resumed_tsc;
	if (slept < th->guest_ticks)
		th->guest_ticks -= slept;
	th->fpstate = ev.fpstate;
	th->fast = kind == ST_KIND_EVENT &&
		   ((ev.signo == SIGSYS &&
		     (ev.flags & ~(ST_EV_BROUGHT | ST_EV_RETRY)) == ST_EV_FAST) ||
		    ev.flags == (ST_EV_FAST | ST_EV_OWED));
	take_regs(th, &ev.regs);
	/* A single step from a call site into its trampoline is no step of the guest's program. */
	bool no_step = ev.signo == SIGTRAP && patch_not_begun(th->as, ev.regs.rip);
	if (!no_step)
		patch_original_place(th->as, &th->regs);
	if (th->regs.gs_base == th->ps_addr)
		th->regs.gs_base = 0; /* ours, not the guest's: write_regs() */
	marshal_take(th, &ev);

	if (kind != ST_KIND_EVENT) {
		event_misbehaved(th, "reply without a command");
		return true;
	}
	if (ev.signo == ST_SIGNAL_INTERRUPT)
		return decode_interrupt(th, &ev, interrupted);
	struct p_stats *stats = &th->as->pf->stats;
	st_count(ev.signo != SIGSYS ? &stats->events : th->fast ? &stats->fast : &stats->trapped);
	if (no_step) {
		event_set(th, P_EVENT_INTERRUPTED, 0);
		if (interrupted)
			patch_original_place(th->as, &th->regs);
		return interrupted;
	}
	if (decode(th, &ev)) {
		th->fast_regs = th->regs;
		return true;
	}
	event_set(th, P_EVENT_INTERRUPTED, 0);
	return interrupted;
}
