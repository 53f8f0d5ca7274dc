/*
 * Workers: how events get from stubs to next(), and how threads go on.
 *
 * An event is announced in one of two ways.  A stub whose `polled` flag is clear writes its id to
 * the doorbell pipe, which one sleeping worker reads.  When calls come quickly and a CPU is free
 * for it, one worker instead looks at the turn words of the few threads that were resumed last, for
 * at most spin_ticks; their stubs see `polled` and save the write.  `polled` is a hint, not a
 * promise: a stub that nobody answers rings before it goes to sleep, so a stale flag costs
 * microseconds.
 *
 * Why this and not a sentry thread per guest thread: a worker that sleeps for one thread cannot run
 * another's handler, and with two CPUs every hand-over to a sleeping thread costs 6 to 30 us.
 *
 * Ids read from the pipe are hints as well, since any guest can write any: bounded, looked up, and
 * then the thread's own state and turn word decide.  The worst that a guest can do is wake us.
 *
 * Spinning: guest_ticks says how long a thread ran before its last event.  If that is within reach
 * of the spin, polling it again will pay; else the worker sleeps at once.  Nothing spins while as
 * many guest threads run as there are CPUs, and nothing at all happens when nothing does.
 */
#include "platform/systrap/internal.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BUSY_SCAN_MAX 256

/* ---- spinning policy ---- */

/* Guest threads that really run: RUNNING and not asleep in a futex.  Counted at most every ms. */
static int busy_threads(struct systrap *pf)
{
	int running = atomic_load_explicit(&pf->running, memory_order_relaxed);
	uint64_t now = st_tsc();

	if (running < pf->ncpus)
		return running;
	if (now - atomic_load_explicit(&pf->busy_tsc, memory_order_relaxed) < 1000 * pf->tsc_per_us)
		return atomic_load_explicit(&pf->busy, memory_order_relaxed);

	int n = 0;
	mutex_lock(&pf->lock, &lc_platform);
	for (uint32_t i = 0; i < pf->table_len && i < BUSY_SCAN_MAX; i++) {
		struct p_thread *th = pf->table[i];
		uint32_t st = atomic_load_explicit(&th->st, memory_order_relaxed);
		if ((st & ST_STATE) == ST_RUNNING &&
		    !__atomic_load_n(&th->ps->waiting, __ATOMIC_RELAXED))
			n++;
	}
	if (pf->table_len > BUSY_SCAN_MAX)
		n = pf->ncpus;
	mutex_unlock(&pf->lock, &lc_platform);
	atomic_store_explicit(&pf->busy, n, memory_order_relaxed);
	atomic_store_explicit(&pf->busy_tsc, now, memory_order_relaxed);
	return n;
}

bool worker_spin_allowed(struct systrap *pf)
{
	if (!pf->spin_ticks)
		return false;
	return pf->opt.spin_us > 0 || busy_threads(pf) < pf->ncpus;
}

/* ---- taking events ---- */

static void ring(struct systrap *pf, uint64_t id)
{
	/* A full pipe wakes somebody anyway, and who wakes looks at `ready` and `kicks`. */
	ssize_t n = write(pf->doorbell_w, &id, sizeof(id));
	(void)n;
}

void worker_ready(struct p_thread *th)
{
	struct systrap *pf = th->as->pf;

	list_add_tail(&th->ready, &pf->ready);
	atomic_fetch_add(&pf->nready, 1);
	ring(pf, 0);
}

static void make_ready(struct p_thread *th)
{
	struct systrap *pf = th->as->pf;

	mutex_lock(&pf->lock, &lc_platform);
	worker_ready(th);
	mutex_unlock(&pf->lock, &lc_platform);
}

static struct p_thread *pop_ready(struct systrap *pf)
{
	struct p_thread *th = NULL;

	if (!atomic_load(&pf->nready))
		return NULL;
	mutex_lock(&pf->lock, &lc_platform);
	if (!list_empty(&pf->ready)) {
		th = list_first(&pf->ready, struct p_thread, ready);
		list_del(&th->ready);
		atomic_fetch_sub(&pf->nready, 1);
	}
	mutex_unlock(&pf->lock, &lc_platform);
	return th;
}

static void set_event(struct p_thread *th, enum p_event_kind kind, int signo)
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
		set_event(th, P_EVENT_DEAD, signo);
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
	set_event(th, P_EVENT_DEAD, SIGSYS);
}

/*
 * Linux 6.14 and later keep 335 and 336 (uretprobe, uprobe) from seccomp.  335 answers a caller it
 * does not know with SIGILL and -1 in rax; what is seen here is the state after that.
 */
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
	set_event(th, P_EVENT_SYSCALL, 0);
	/* The host, too, takes the number from the low half (entry_SYSCALL_64). */
	th->regs.orig_rax = (uint64_t)(int64_t)(int32_t)ev->regs.rax;
	th->regs.rax = (uint64_t)-ENOSYS;
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

/* int $0x80: as a host without 32-bit emulation does it, #GP on vector 0x80. */
static void decode_int80(struct p_thread *th)
{
	set_event(th, P_EVENT_SIGNAL, SIGSEGV);
	th->event.si_code = SI_KERNEL;
	th->event.trapno = 13;
	th->event.error_code = (0x80 << 3) | 2;
	th->regs.rip -= 2;
}

static void decode_signal(struct p_thread *th, const struct st_event *ev)
{
	set_event(th, P_EVENT_SIGNAL, ev->signo);
	th->event.si_code = ev->code;
	th->event.addr = ev->addr;
	th->event.trapno = ev->trapno;
	th->event.error_code = ev->error_code;
	th->event.cr2 = ev->cr2;
}

/*
 * Fetches the event of a thread that was just claimed.  False: there is nothing to report (a late
 * interrupt, a signal that somebody on the host sent), and the thread should simply go on.
 */
static bool take_event(struct p_thread *th, bool interrupted)
{
	struct st_pageset *ps = th->ps;
	struct st_event ev;
	uint32_t kind = __atomic_load_n(&ps->kind, __ATOMIC_RELAXED);

	__atomic_store_n(&ps->taken, 1, __ATOMIC_RELAXED);
	__atomic_store_n(&ps->intr, 0, __ATOMIC_RELAXED);
	memcpy(&ev, &ps->ev, sizeof(ev));
	__asm__ volatile("" ::: "memory"); /* the copy is the only fetch */

	th->taken_tsc = st_tsc();
	th->guest_ticks = th->taken_tsc - th->resumed_tsc;
	th->fpstate = ev.fpstate;
	th->regs = ev.regs;
	th->regs.orig_rax = (uint64_t)-1;
	th->regs.cs &= 0xffff;
	th->regs.ss &= 0xffff;
	th->regs.ds = th->regs.es = th->regs.fs = th->regs.gs = 0;

	if (kind != ST_KIND_EVENT) {
		event_misbehaved(th, "reply without a command");
		return true;
	}
	switch (ev.signo) {
	case SIGSYS:
		if (ev.code <= 0)
			return false;
		if (ev.regs.rip - ST_TEXT <= ST_TEXT_LEN)
			event_misbehaved(th, "refused system call from the stub");
		else if (ev.arch != 0xc000003e) /* AUDIT_ARCH_X86_64 */
			decode_int80(th);
		else
			decode_syscall(th, &ev);
		return true;
	case ST_SIGNAL_INTERRUPT:
		set_event(th, P_EVENT_INTERRUPTED, 0);
		return interrupted;
	case SIGILL:
		if (is_hidden_syscall(th, &ev)) {
			ev.regs.rax = 335;
			decode_syscall(th, &ev);
			return true;
		}
		/* fallthrough */
	case SIGSEGV:
	case SIGBUS:
	case SIGTRAP:
	case SIGFPE:
		if (ev.code <= 0)
			return false;
		decode_signal(th, &ev);
		return true;
	}
	event_misbehaved(th, "impossible signal");
	return true;
}

/* RUNNING → STOPPED for a thread whose turn word says that it posted, as seen with state *st. */
static bool claim(struct p_thread *th, uint32_t st, bool *interrupted)
{
	uint32_t stopped = (st & ~(ST_STATE | ST_INTR | ST_HINT)) | ST_STOPPED;

	if (!atomic_compare_exchange_strong(&th->st, &st, stopped))
		return false;
	*interrupted = st & ST_INTR;
	atomic_fetch_sub_explicit(&th->as->pf->running, 1, memory_order_relaxed);
	return true;
}

static bool posted(const struct p_thread *th)
{
	return __atomic_load_n(&th->ps->turn, __ATOMIC_ACQUIRE) == ST_TURN_SENTRY;
}

static struct p_thread *claim_hint(struct systrap *pf, uint64_t id, bool *interrupted)
{
	uint32_t index = (uint32_t)id - 1;
	struct p_thread *found = NULL;

	mutex_lock(&pf->lock, &lc_platform);
	struct p_thread *th = index < pf->table_len ? pf->table[index] : NULL;
	while (th && th->generation == id >> 32) {
		uint32_t st = atomic_load(&th->st);
		if ((st & ST_STATE) == ST_RESUMING) {
			if (atomic_compare_exchange_weak(&th->st, &st, st | ST_HINT))
				break;
		} else if ((st & ST_STATE) == ST_RUNNING && posted(th)) {
			if (claim(th, st, interrupted)) {
				found = th;
				break;
			}
		} else {
			break;
		}
	}
	mutex_unlock(&pf->lock, &lc_platform);
	return found;
}

/* ---- polling ---- */

struct poll_set {
	struct p_thread *th[SYSTRAP_POLL_MAX];
	uint32_t seen; /* recent_n when it was last looked at */
	int n;
};

/* Stops looking at slot i; an event that was posted meanwhile becomes somebody else's. */
static void poll_drop(struct systrap *pf, struct poll_set *s, int i)
{
	struct p_thread *th = s->th[i];
	uint32_t st = atomic_load(&th->st);

	if ((st & ST_STATE) == ST_RUNNING) {
		__atomic_store_n(&th->ps->polled, 0, __ATOMIC_SEQ_CST);
		if (posted(th))
			ring(pf, __atomic_load_n(&th->ps->id, __ATOMIC_RELAXED));
	}
	atomic_store(&pf->hazard[i], NULL);
	s->th[i] = NULL;
	s->n--;
}

static void poll_absorb(struct systrap *pf, struct poll_set *s)
{
	uint32_t n = atomic_load_explicit(&pf->recent_n, memory_order_relaxed);

	if (n == s->seen)
		return;
	s->seen = n;
	for (int r = 0; r < SYSTRAP_POLL_MAX; r++) {
		struct p_thread *th = atomic_exchange(&pf->recent[r], NULL);
		int slot = -1;
		for (int i = 0; th && i < SYSTRAP_POLL_MAX; i++) {
			if (s->th[i] == th)
				th = NULL;
			else if (!s->th[i])
				slot = i;
		}
		if (!th || slot < 0)
			continue;
		/* From here on worker_forget() waits for us before the page set goes. */
		atomic_store(&pf->hazard[slot], th);
		s->th[slot] = th;
		s->n++;
	}
}

static struct p_thread *poll_once(struct systrap *pf, struct poll_set *s, bool *interrupted)
{
	for (int i = 0; i < SYSTRAP_POLL_MAX; i++) {
		struct p_thread *th = s->th[i];
		if (!th)
			continue;
		uint32_t st = atomic_load(&th->st);
		if ((st & ST_STATE) == ST_RUNNING && posted(th) && claim(th, st, interrupted)) {
			atomic_store(&pf->hazard[i], NULL);
			s->th[i] = NULL;
			s->n--;
			return th;
		}
		if ((st & ST_STATE) != ST_RUNNING && (st & ST_STATE) != ST_RESUMING)
			poll_drop(pf, s, i);
	}
	return NULL;
}

static struct p_thread *poll_threads(struct systrap *pf, bool *interrupted)
{
	struct poll_set s = {.seen = 0, .n = 0};
	struct p_thread *found = NULL;

	if (atomic_exchange(&pf->polling, true))
		return NULL;
	s.seen = atomic_load(&pf->recent_n) - 1;
	uint64_t begin = st_tsc();
	do {
		poll_absorb(pf, &s);
		found = poll_once(pf, &s, interrupted);
		if (found || !s.n || atomic_load(&pf->nready) || atomic_load(&pf->kicks))
			break;
		__builtin_ia32_pause();
	} while (st_tsc() - begin < pf->spin_ticks);
	for (int i = 0; i < SYSTRAP_POLL_MAX; i++)
		if (s.th[i])
			poll_drop(pf, &s, i);
	atomic_store(&pf->polling, false);
	return found;
}

static bool worth_polling(struct systrap *pf)
{
	for (int r = 0; r < SYSTRAP_POLL_MAX; r++)
		if (atomic_load_explicit(&pf->recent[r], memory_order_relaxed))
			return worker_spin_allowed(pf);
	return false;
}

void worker_forget(struct p_thread *th)
{
	struct systrap *pf = th->as->pf;

	for (int i = 0; i < SYSTRAP_POLL_MAX; i++)
		while (atomic_load(&pf->hazard[i]) == th)
			sched_yield();
}

/* ---- next and kick ---- */

static bool take_kick(struct systrap *pf)
{
	int n = atomic_load(&pf->kicks);

	while (n > 0)
		if (atomic_compare_exchange_weak(&pf->kicks, &n, n - 1))
			return true;
	return false;
}

struct p_thread *worker_next(struct platform *platform)
{
	struct systrap *pf = systrap_of(platform);

	for (;;) {
		bool interrupted = false;
		uint64_t id;

		if (atomic_load(&pf->broken) || take_kick(pf))
			return NULL;
		struct p_thread *th = pop_ready(pf);
		if (th)
			return th;
		if (worth_polling(pf)) {
			th = poll_threads(pf, &interrupted);
			if (!th && (atomic_load(&pf->nready) || atomic_load(&pf->kicks)))
				continue;
		}
		if (!th) {
			if (read(pf->doorbell_r, &id, sizeof(id)) != sizeof(id) || !id)
				continue;
			th = claim_hint(pf, id, &interrupted);
		}
		if (!th)
			continue;
		if (take_event(th, interrupted))
			return th;
		thread_resume(th);
	}
}

void worker_kick(struct platform *platform)
{
	struct systrap *pf = systrap_of(platform);

	atomic_fetch_add(&pf->kicks, 1);
	ring(pf, 0);
}

void worker_break(struct systrap *pf)
{
	atomic_store(&pf->broken, true);
	/* Each of at most that many sleepers takes one; later ones see `broken` first. */
	for (int i = 0; i < 256; i++)
		ring(pf, 0);
}

/* ---- resuming and interrupting ---- */

static void write_regs(struct p_thread *th)
{
	struct arch_regs *r = &th->ps->ev.regs;

	*r = th->regs;
	/* wrfsbase with a non-canonical address would fault in the stub. */
	if (r->fs_base >= ST_TOP)
		r->fs_base = 0;
	if (r->gs_base >= ST_TOP)
		r->gs_base = 0;
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
			set_event(th, P_EVENT_DEAD, th->as->signo);
			return true;
		}
		if (st & ST_INTR) {
			if (!atomic_compare_exchange_weak(&th->st, &st, st & ~ST_INTR))
				continue;
			set_event(th, P_EVENT_INTERRUPTED, 0);
			return true;
		}
		uint32_t resuming = ((st & ~ST_STATE) | ST_RESUMING) + ST_COUNT;
		if (atomic_compare_exchange_weak(&th->st, &st, resuming))
			return false;
	}
}

static void give_run(struct p_thread *th, enum st_cmd cmd, bool spin, bool poll)
{
	struct systrap *pf = th->as->pf;
	struct st_pageset *ps = th->ps;

	write_regs(th);
	ps->cmd = cmd;
	ps->redo_deadline = redo_deadline(th, cmd);
	ps->direct = atomic_load_explicit(&th->direct, memory_order_relaxed);
	ps->spin = spin ? pf->spin_ticks : 0;
	ps->polled = poll;
	ps->taken = 0;
	ps->intr = 0;
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
			set_event(th, P_EVENT_DEAD, th->as->signo);
			break;
		}
		if (st & ST_HINT && posted(th)) {
			if (!atomic_compare_exchange_weak(&th->st, &st, stopped))
				continue;
			atomic_fetch_sub_explicit(&pf->running, 1, memory_order_relaxed);
			return take_event(th, st & ST_INTR) ? READY : AGAIN;
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

	for (;; cmd = ST_CMD_RUN) {
		if (resume_stopped(th)) {
			make_ready(th);
			return;
		}
		bool spin = worker_spin_allowed(pf);
		bool poll = spin && (pf->opt.spin_us > 0 || th->guest_ticks < 2 * pf->spin_ticks);
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
