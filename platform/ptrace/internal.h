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
 * instruction perform.  A seccomp filter in the guest allows nothing else (filter.c).
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "platform/platform.h"
#include "sentry/lib/list.h"
#include "sentry/lib/lock.h"
#include "sentry/lib/ref.h"

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

enum pt_state {
	PT_STOPPED, /* the sentry's */
	PT_RUNNING, /* resumed, or about to be */
	PT_QUEUED,  /* has an event that no worker took yet */
};

struct p_aspace {
	ref_t ref;
	struct pt_platform *pf;
	pid_t pid;
	int nthreads;	   /* tracer only */
	_Atomic bool dead; /* its process is gone: the pid means nothing any more */
};

struct p_thread {
	struct p_aspace *as; /* reference */
	pid_t tid;
	void *owner;
	_Atomic int state;
	_Atomic bool interrupted; /* p_interrupt came and no event told of it yet */
	_Atomic bool resume_wanted;
	_Atomic bool host_wait;
	struct arch_regs regs;
	struct p_event ev;
	struct list_head hash;	  /* tracer only */
	struct list_head ready;	  /* event queue; queue_lock */
	struct list_head request; /* requests to the tracer; cmd_lock */
	bool direct;		  /* tracer only: its own instruction performs a call now */
	uint64_t direct_rip;	  /* where that instruction is */
	bool dead;		  /* tracer only: the host thread is gone */
	int64_t deadline;	  /* of the futex wait under way */
};

struct pt_command {
	struct list_head link;
	void (*fn)(struct pt_platform *pf, void *arg);
	void *arg;
	bool done; /* cmd_lock */
};

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
	struct list_head threads[PT_BUCKETS]; /* by tid; tracer only */

	pthread_t tracer;
	_Atomic pid_t tracer_tid;
	pthread_mutex_t cmd_lock; /* never held together with another lock */
	pthread_cond_t cmd_done;
	struct list_head commands;
	struct list_head requests; /* of p_thread.request */

	pthread_mutex_t queue_lock;
	pthread_cond_t queue_cond;
	struct list_head ready; /* of p_thread.ready */
	unsigned kicks;

	uint64_t entry; /* the zygote's own system call instruction */
	int text_fd;
};

/* zygote.c */
/* prepare; confine: p_options.zygote_confine */
int pt_zygote_start(struct pt_platform *pf, int (*confine)(void)) MUST_CHECK;
int pt_zygote_attach(struct pt_platform *pf) MUST_CHECK; /* tracer: seize, clean, filter */
/* filter.c: the seccomp program as struct sock_filter; returns its length. */
unsigned pt_filter_build(uint64_t *out, unsigned cap);

/* inject.c; tracer only.  th is stopped. */
int pt_call_at(struct p_thread *th, uint64_t insn, const uint64_t a[7], long *ret) MUST_CHECK;
int pt_clone(struct p_thread *th, uint64_t flags, pid_t *tid) MUST_CHECK;
int pt_mem(struct p_thread *th, struct p_memop *ops, size_t n) MUST_CHECK;
int pt_cmpxchg32(struct p_thread *th, uint64_t addr, uint32_t expect, uint32_t desired,
		 uint32_t *seen) MUST_CHECK;
int pt_scratch_write(struct p_thread *th, size_t off, const void *src, size_t n) MUST_CHECK;

static inline int pt_call(struct p_thread *th, uint64_t nr, uint64_t a0, uint64_t a1, uint64_t a2,
			  uint64_t a3, uint64_t a4, uint64_t a5, long *ret)
{
	const uint64_t a[7] = {nr, a0, a1, a2, a3, a4, a5};

	return pt_call_at(th, PT_SYSCALL_INSN, a, ret);
}

/* tracer.c */
void pt_run(struct pt_platform *pf, void (*fn)(struct pt_platform *, void *), void *arg);
void pt_request(struct p_thread *th); /* look at resume_wanted and interrupted */
struct p_thread *pt_thread_new(struct pt_platform *pf, struct p_aspace *as, pid_t tid);
void pt_thread_forget(struct p_thread *th);
void pt_post(struct p_thread *th);
int pt_tracer_start(struct pt_platform *pf) MUST_CHECK;
/* Waits for one thread in the middle of an injected operation; -ESRCH when it is gone. */
int pt_wait(struct p_thread *th, int *status) MUST_CHECK;
int pt_set_regs(struct p_thread *th, const struct arch_regs *regs) MUST_CHECK;
