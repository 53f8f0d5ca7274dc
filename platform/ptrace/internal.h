/*
 * internal.h - the ptrace platform: PTRACE_SYSEMU, operations injected by single steps.
 *
 * It is the reference: simple, works wherever ptrace does, and is the yardstick for systrap.  Every
 * ptrace request must come from the thread that traces, so one *tracer* thread does all of it;
 * workers hand it commands and take events from a queue.  Guest processes are clones of a zygote,
 * of which only this is left below TASK_SIZE: nothing.  Above lie one page of text
 * (a system call instruction and a compare-and-swap) and one page for arguments.
 *
 * A guest's own system calls never reach the host: SYSEMU skips them.  What does reach it is what
 * the tracer injects, and futex, sched_yield, membarrier and rseq, which it lets the guest's own
 * instruction perform (direct.c).  A seccomp filter in the guest allows nothing else (filter.c).
 *
 * Who owns what
 *   tracer.c owns the wait statuses: it alone waits, for any child (a dead leader of a thread group
 *   is only reported after its other threads have been), and keeps each status at its thread until
 *   that thread's turn.  A struct p_thread lives from its clone until its exit status, so a status
 *   always finds its thread; thread_destroy only changes its state.
 *   pf->lock guards the state of threads, all queues, and `interrupted`; it is a leaf.
 *   pf->reap_lock is held across the host call that reaps, and by whoever sends a signal to a
 *   process by its number.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "platform/platform.h"
#include "sentry/lib/list.h"

#define PT_TASK_SIZE 0x7fffff000000UL
#define PT_MMAP_MIN 0x10000UL
#define PT_TEXT 0x7fffffffd000UL /* text page; the last usable page is 0x7fffffffe000 */
#define PT_SYSCALL_INSN PT_TEXT
#define PT_CMPXCHG_INSN (PT_TEXT + 16)
#define PT_SCRATCH 0x7fffffffc000UL
#define PT_VDSO_END (PT_TASK_SIZE - 0x10000UL)

/* Descriptors in every guest process: the control socket, and what it delivers. */
#define PT_FD_CTL 0
#define PT_FD_NEXT 1

/*
 *  clone → STOPPED ─resume→ RESUMING ─(tracer)→ RUNNING ─(tracer: an event)→ QUEUED ─next→ STOPPED
 *  any ─destroy→ GONE ─(tracer: its exit status)→ freed
 */
enum pt_state {
	PT_STOPPED,  /* the sentry's; in a ptrace stop, or dead */
	PT_RESUMING, /* on pf->requests */
	PT_RUNNING,  /* in guest code, in a call that it performs, or stopped with a status to come
		      */
	PT_QUEUED,   /* on pf->ready */
	PT_GONE,     /* destroyed; a leader stays stopped until its process ends: its number is that
			of the process */
};

struct p_aspace {
	struct pt_platform *pf;
	pid_t pid;
	int users;	     /* references of the sentry, and threads not destroyed; pf->lock */
	int nthreads;	     /* threads not destroyed; pf->lock */
	int nhost;	     /* threads not reaped; pf->lock */
	_Atomic bool killed; /* told to die: its memory is nobody's any more */
	_Atomic bool dead;   /* reaped: the pid means nothing any more */
};

/* The futex wait that was aborted last; the host's thread remembers how to go on with it. */
struct pt_redo {
	bool armed;
	uint64_t rip, uaddr, op, val, timeout;
	int64_t deadline;
};

struct p_thread {
	struct p_aspace *as;
	pid_t tid;
	void *owner;
	enum pt_state state; /* pf->lock */
	bool interrupted;    /* p_interrupt came and no event told of it yet; pf->lock */
	_Atomic bool host_wait;
	bool passes;		  /* set_direct; whoever has the stopped thread */
	int64_t clock_offset;	  /* set_clock_offset; likewise */
	bool direct_asked;	  /* resume_direct; the same */
	struct arch_regs regs;	  /* whoever has the thread: the tracer from resume to event */
	struct p_event ev;	  /* the same */
	struct list_head ready;	  /* pf->lock */
	struct list_head request; /* pf->lock */

	/* The tracer's. */
	struct list_head hash;
	struct list_head stopped; /* on pf->stopped: it has a status that nobody looked at */
	int status;
	bool gone;	  /* the host thread is reaped */
	int signo;	  /* how it died */
	bool performing;  /* its own instruction performs a call now, step by step */
	int64_t deadline; /* of that call, a futex wait; 0: none */
	struct pt_redo redo;
};

struct pt_command {
	struct list_head link;
	void (*fn)(struct pt_platform *pf, void *arg);
	void *arg;
	pthread_cond_t cond;
	bool done; /* pf->lock */
};

#define PT_WAKE_SIGNAL SIGUSR2 /* to the tracer; blocked in every thread */
#define PT_BUCKETS 256

struct pt_platform {
	struct platform base;
	struct p_limits limits;
	void (*died)(const char *why); /* p_options, as the next */
	void (*process_lost)(void);
	pid_t zygote;
	int ctl; /* our end of the control socket that all guest processes share */
	struct p_thread *zygote_thread;
	uint8_t default_xstate[ARCH_XSTATE_MAX];

	pthread_t tracer;
	pid_t tracer_tid;

	pthread_mutex_t lock;
	bool tracer_sleeps; /* or is about to: it needs a signal */
	struct list_head commands;
	struct list_head requests; /* of p_thread.request */
	struct list_head ready;	   /* of p_thread.ready */
	pthread_cond_t ready_cond;
	unsigned kicks;

	pthread_mutex_t reap_lock;

	/* The tracer's. */
	struct list_head threads[PT_BUCKETS]; /* by tid */
	struct list_head stopped;	      /* of p_thread.stopped */
	pid_t newborn; /* a child of a clone under way that stopped before its parent did */

	uint64_t entry; /* the zygote's own system call instruction */
	int text_fd;
};

/* <sys/ptrace.h> and <linux/ptrace.h> exclude each other; the raw call serves both. */
long pt_trace(long request, pid_t tid, uint64_t addr, uint64_t data);

/* zygote.c */
/* prepare; confine: p_options.zygote_confine */
int pt_zygote_start(struct pt_platform *pf, int (*confine)(void)) MUST_CHECK;
int pt_zygote_attach(struct pt_platform *pf) MUST_CHECK; /* tracer: seize, clean, filter */
/* filter.c: the seccomp program as struct sock_filter; returns its length. */
unsigned pt_filter_build(uint64_t *out, unsigned cap);

/* inject.c; tracer only.  th is stopped. */
int pt_call_at(struct p_thread *th, uint64_t insn, const uint64_t a[7], long *ret) MUST_CHECK;
/* The child is `child`: its tid is set and it is known from then on. */
int pt_clone(struct p_thread *th, uint64_t flags, struct p_thread *child) MUST_CHECK;
int pt_mem(struct p_thread *th, struct p_memop *ops, size_t n) MUST_CHECK;
int pt_cmpxchg32(struct p_thread *th, uint64_t addr, uint32_t expect, uint32_t desired,
		 uint32_t *seen) MUST_CHECK;
int pt_scratch_write(struct p_thread *th, size_t off, const void *src, size_t n) MUST_CHECK;
int pt_set_regs(struct p_thread *th, const struct arch_regs *regs) MUST_CHECK;

static inline int pt_call(struct p_thread *th, uint64_t nr, uint64_t a0, uint64_t a1, uint64_t a2,
			  uint64_t a3, uint64_t a4, uint64_t a5, long *ret)
{
	const uint64_t a[7] = {nr, a0, a1, a2, a3, a4, a5};

	return pt_call_at(th, PT_SYSCALL_INSN, a, ret);
}

/* thread.c: life and states; any thread, unless it says tracer. */
struct p_thread *pt_thread_new(struct p_aspace *as); /* STOPPED; in no list; a user of as */
void pt_thread_discard(struct p_thread *th);	     /* one that never had a host thread */
void pt_thread_destroy(struct p_thread *th);
void pt_thread_register(struct p_thread *th, pid_t tid);	      /* tracer */
void pt_thread_free(struct p_thread *th);			      /* tracer: it is reaped */
struct p_thread *pt_thread_lookup(struct pt_platform *pf, pid_t tid); /* tracer */
struct p_aspace *pt_aspace_new(struct pt_platform *pf);		      /* one user */
void pt_aspace_get(struct p_aspace *as);
void pt_aspace_put(struct p_aspace *as);
void pt_aspace_kill(struct p_aspace *as);
void pt_resume(struct p_thread *th);
void pt_interrupt(struct p_thread *th);
struct p_thread *pt_next(struct pt_platform *pf);
void pt_kick(struct pt_platform *pf);
/* Runs fn in the tracer thread, and waits for its end. */
void pt_run(struct pt_platform *pf, void (*fn)(struct pt_platform *, void *), void *arg);
/* Tracer: RUNNING → QUEUED with th->ev, unless it was destroyed meanwhile. */
void pt_post(struct p_thread *th);
void pt_post_kind(struct p_thread *th, enum p_event_kind kind);
/* Tracer: no interrupt is to be told of. */
bool pt_run_allowed(struct p_thread *th);

/* tracer.c */
int pt_tracer_start(struct pt_platform *pf) MUST_CHECK;
/* The next status of a thread in the middle of an injected operation; -ESRCH when it is reaped. */
int pt_wait(struct p_thread *th, int *status) MUST_CHECK;
/* Goes on in the host, or reports the interrupt that came meanwhile; every way on is this one, for
 * any stop swallows a PTRACE_INTERRUPT. */
void pt_go(struct p_thread *th, long request);

/* stops.c; tracer only: what a stop of a running thread means */
void pt_stopped(struct p_thread *th, int status);

/* direct.c; tracer only */
/* th->regs are those of the stop at the call. */
void pt_direct_begin(struct p_thread *th);
/* Its step is done, or a stop came in between. */
void pt_direct_stopped(struct p_thread *th, bool interrupt_stop);
/* th->regs stand before an instruction: an interrupt is told.  The repetition of a wait that was
 * aborted is aborted again. */
void pt_post_interrupted(struct p_thread *th);
/* At a resume: whatever else the guest does now, the aborted wait is over. */
void pt_redo_check(struct p_thread *th);
