/*
 * Resuming and interrupting.  Both may race with anything: the event that comes at once, a death,
 * each other.  The state word decides (internal.h).
 */
#include "platform/systrap/internal.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define VAIN_MAX 6u

static void make_ready(struct p_thread *th)
{
	struct systrap *pf = th->as->pf;

	mutex_lock(&pf->lock, &lc_platform);
	worker_ready(th);
	mutex_unlock(&pf->lock, &lc_platform);
}

static void write_regs(struct p_thread *th)
{
	struct arch_regs r = th->regs;

	patch_copied_place(th->as, &r);
	/* wrfsbase with a non-canonical address would fault in the stub. */
	if (r.fs_base >= ST_TOP)
		r.fs_base = 0;
	if (r.gs_base >= ST_TOP)
		r.gs_base = 0;
	if (!r.gs_base && th->as->pf->opt.patching && th->as->pf->fsgsbase)
		r.gs_base = th->ps_addr; /* how fast calls find their page set */
	/* With rcx as the instruction leaves it, EINTR is the host's own answer: event.c. */
	if (r.rax == (uint64_t)-EINTR && r.rcx == r.rip)
		r.rcx = 0;
	r.orig_rax = ST_TURN_SENTRY; /* the turn is there */
	th->ps->ev.regs = r;
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

/* Whether a fast call may simply return: nothing but its result has changed, and that may come with
 * rcx as the instruction leaves it. */
static bool only_rax_changed(const struct p_thread *th)
{
	struct arch_regs was = th->fast_regs;

	if (th->regs.rax == (uint64_t)-EINTR)
		return false; /* write_regs() */
	was.rax = th->regs.rax;
	was.orig_rax = th->regs.orig_rax;
	return !memcmp(&was, &th->regs, sizeof(was));
}

/* Whether the way back of a fast call can load these registers: its iretq would fault in the stub,
 * or be the first step of a guest that is single-stepped. */
static bool may_go_anywhere(const struct p_thread *th)
{
	return th->regs.rip < ST_TASK_SIZE && !(th->regs.eflags & ARCH_EFLAGS_TF);
}

/*
 * How long the stub is to spin for its next answer.  When it has to ring the doorbell first, the
 * worker that this wakes may need the very CPU that it spins on.  So after a spin of that kind that
 * was in vain - the stub sleeps by now, and nobody has told it that it might - some are left out,
 * twice as many after each further one.
 */
static uint64_t spin_of_stub(struct p_thread *th, uint64_t spin, bool poll)
{
	const bool slept = __atomic_load_n(&th->ps->stub_sleeps, __ATOMIC_RELAXED);

	if (th->as->pf->opt.spin_us >= 0)
		return spin;
	if (th->stub_spins && !__atomic_load_n(&th->ps->polled, __ATOMIC_RELAXED)) {
		th->vain = slept ? MIN(th->vain + 1, VAIN_MAX) : 0;
		th->skip = (1u << th->vain) - 1;
	}
	if (th->handle_ticks >= spin)
		return 0;
	if (poll || !th->skip)
		return spin;
	th->skip--;
	return 0;
}

/* Gives the turn; the stub may sleep on it, in which case it is to be woken. */
static bool give_run(struct p_thread *th, enum st_cmd cmd, uint64_t spin, bool poll)
{
	struct st_pageset *ps = th->ps;

	const bool only_rax = cmd == ST_CMD_RUN_FAST || cmd == ST_CMD_RUN_LATE;

	if (!only_rax)
		write_regs(th);
	th->stub_spins = spin;
	st_put(ps->cmd, cmd);
	th->owed_given = th->owed;
	st_put(ps->owes, th->owed);
	th->owed = false;
	st_put(ps->redo_deadline, redo_deadline(th, cmd));
	st_put(ps->direct, atomic_load_explicit(&th->direct, memory_order_relaxed));
	st_put(ps->spin, spin);
	st_put(ps->polled, poll);
	st_put(ps->parked, 0);
	st_put(ps->taken, 0);
	st_put(ps->intr, 0);
	th->resumed_tsc = st_tsc();
	if (!th->parked)
		th->handle_ticks = th->resumed_tsc - th->taken_tsc;
	th->parked = false;
	if (only_rax)
		ps->ev.regs.rax = th->regs.rax; /* the stub has the rest */
	st_give_turn(ps, ST_TURN_STUB);
	return __atomic_load_n(&ps->stub_sleeps, __ATOMIC_RELAXED);
}

static void restrict_host_thread(pid_t tid, uint64_t cpus)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	for (int i = 0; i < 64; i++)
		if (cpus >> i & 1)
			CPU_SET(i, &set);
	sched_setaffinity(tid, sizeof(set), &set);
}

/*
 * A worker that goes on to spin must not be on the CPU that the thread it wakes is going to run on:
 * the two would take turns by the host's time slices.  The host wakes a thread where it slept; with
 * no CPU idle it needs telling.  Once is enough: from then on it sleeps elsewhere.  th may be gone
 * by the end, but its object stays.
 */
static void wake_elsewhere(struct systrap *pf, struct p_thread *th, pid_t tid, uint32_t *turn)
{
	cpu_set_t others = pf->cpus;

	if (atomic_load(&th->cpus)) {
		st_futex_wake(turn, 1);
		return;
	}
	CPU_CLR(st_cpu(), &others);
	bool moved = CPU_COUNT(&others) && !sched_setaffinity(tid, sizeof(others), &others);
	st_futex_wake(turn, 1);
	if (moved)
		sched_setaffinity(tid, sizeof(pf->cpus), &pf->cpus);
	/* Somebody restricted it meanwhile, perhaps before it was let run everywhere. */
	uint64_t cpus = atomic_load(&th->cpus);
	if (cpus)
		restrict_host_thread(tid, cpus);
	st_count(&pf->stats.moves);
}

/* Are CPUs left, beside this worker's and those that guest threads run on? */
static bool cpus_left(struct systrap *pf)
{
	return atomic_load_explicit(&pf->running, memory_order_relaxed) + 1 < pf->ncpus;
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
	if (atomic_load_explicit(&th->as->kept_gone, memory_order_relaxed))
		kept_close_gone(th);
	if (th->late_failed)
		thread_settle(th);
	if (th->owed_error) {
		event_set(th, P_EVENT_OWED, 0);
		th->event.si_code = th->owed_error;
		th->owed_error = 0;
		make_ready(th);
		return;
	}
	if (th->fast && cmd == ST_CMD_RUN && only_rax_changed(th))
		cmd = th->nlate ? ST_CMD_RUN_LATE : ST_CMD_RUN_FAST;
	else if (th->fast && cmd == ST_CMD_RUN && !th->owed && may_go_anywhere(th)) {
		marshal_flush(th);
		cmd = ST_CMD_RUN_FULL;
	} else {
		thread_convert(th); /* a failure is a death, reported below */
	}
	for (;; cmd = ST_CMD_RUN) {
		bool fast =
			cmd == ST_CMD_RUN_FAST || cmd == ST_CMD_RUN_LATE || cmd == ST_CMD_RUN_FULL;
		if (resume_stopped(th)) {
			make_ready(th);
			return;
		}
		uint64_t spin = worker_spin(pf);
		bool poll = spin && (pf->opt.spin_us > 0 || th->guest_ticks < 2 * spin) &&
			    worker_watch(th);
		uint64_t stub_spin = spin_of_stub(th, spin, poll);
		if (fast)
			th->fast = false;
		if (cmd == ST_CMD_RUN_LATE)
			marshal_send(th);
		uint32_t *turn = &th->ps->turn;
		uint32_t cpu = __atomic_load_n(&th->ps->cpu, __ATOMIC_RELAXED);
		pid_t tid = th->tid;
		bool wake = give_run(th, cmd, stub_spin, poll);
		enum published how = publish(th);
		/* Only now: it may run at once, and find its event claimed by nobody.  Whatever is
		 * mapped there by then, a wake-up too many does no harm. */
		if (wake && poll && cpu == st_cpu() && pf->opt.spin_us < 0 && !cpus_left(pf))
			wake_elsewhere(pf, th, tid, turn);
		else if (wake)
			st_futex_wake(turn, 1);
		switch (how) {
		case PUBLISHED:
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

/*
 * The stub spins for an answer that will not come soon, on a CPU that others may want: who makes it
 * come, to begin with.  It goes to sleep, unless CPUs are left.
 */
void thread_parks(struct p_thread *th)
{
	struct systrap *pf = th->as->pf;

	th->parked = true;
	st_put(th->ps->taken, 1);
	if (!th->stub_spins || pf->opt.spin_us >= 0 || cpus_left(pf))
		return;
	th->stub_spins = 0;
	st_put(th->ps->parked, 1);
}

void thread_interrupt(struct p_thread *th)
{
	uint32_t st = atomic_fetch_or(&th->st, ST_INTR);

	if ((st & ST_STATE) == ST_RUNNING)
		send_interrupt(th);
}
