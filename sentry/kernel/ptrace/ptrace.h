/*
 * ptrace.h - ptrace(2): who traces whom, the stops, and what a tracer may do to a stopped task.
 *
 * A traced task stops on its own fiber (trace_stop), inside a handler or on its way to the guest;
 * its registers are then those in the platform's private copy.  The tracer marks it running again
 * and wakes it.  All links and states are under lc_tasks; a tracer that reads or writes registers
 * holds trace.lock, so that a task that is killed meanwhile keeps its thread as long.
 * Memory is reached as any other process's (mm_write_forced for breakpoints).
 *
 * Source: ptrace(2).
 */
#pragma once

#include <linux/ptrace.h>

#include "sentry/kernel/task.h"

static inline bool task_is_traced(const struct task *t)
{
	return atomic_load_explicit(&((struct task *)t)->trace.tracer, memory_order_relaxed);
}

/* ---- attaching (attach.c) ---- */
void trace_init(struct trace *tr);
long ptrace_traceme(struct task *t);
long ptrace_attach(struct task *t, struct task *target, bool seize, uint64_t options);
/* Ends the tracing; what was stopped runs on. */
void trace_unlink(struct task *t) REQUIRES(lc_tasks);
/* The tracer ends: all that it traced are let go, or killed. */
void ptrace_tracer_exit(struct task *t);
/* clone(2): the PTRACE_EVENT_* that t's tracer wants of it, or 0. */
int ptrace_clone_event(struct task *t, uint64_t flags, int exit_signal);
/* The child is traced as its parent, and stops before it runs. */
void ptrace_inherit(struct task *parent, struct task *child) REQUIRES(lc_tasks);
bool ptrace_options_ok(struct task *t, uint64_t options);

/* ---- stops (stop.c); all of them on the task's own fiber, without locks ---- */
/* False: the call is skipped, and the result is in the registers. */
bool ptrace_syscall_enter(struct task *t);
void ptrace_syscall_exit(struct task *t);
/* A filter's SECCOMP_RET_TRACE: false when nobody wants to know. */
bool ptrace_seccomp(struct task *t, uint16_t data);
bool ptrace_suspends_seccomp(struct task *t); /* PTRACE_O_SUSPEND_SECCOMP */
/* A signal on its way: the one to deliver (*info changed as needed), or 0. */
int ptrace_signal(struct task *t, int signo, ksiginfo *info);
void ptrace_group_stop(struct task *t);
void ptrace_trap(struct task *t); /* trap_wanted */
void ptrace_event(struct task *t, int event, uint64_t message);
/* … whose message is a task's number, for the tracer's namespace. */
void ptrace_event_pid(struct task *t, int event, int tid);
/* t's number in its tracer's namespace; 0: there is no tracer, or it does not see it. */
int ptrace_tid_seen(struct task *t);
void ptrace_exec(struct task *t, int old_tid /* as seen */);
void ptrace_step_into_handler(struct task *t);
/* Before guest code runs on, and after: the trap flag of single steps. */
void ptrace_enter_guest(struct task *t);
void ptrace_left_guest(struct task *t);

/* ---- debug registers (watch.c) ---- */
/* PTRACE_POKEUSER of one: -EIO, -EINVAL; -ENOSPC: what cannot be watched. */
long ptrace_set_debugreg(struct task *target, unsigned n, uint64_t word);
/* Is it stepped, to be looked at after each instruction? */
bool ptrace_watches(const struct task *t);
/* Before it runs on; holds nothing. */
void ptrace_watch_begin(struct task *t);
/* After a SIGTRAP with that code: the code to report, or 0 for nothing. */
int ptrace_watch_step(struct task *t, int code);

/* ---- acting on a stopped task (request.c) ---- */
/* Resumes it.  -ESRCH: not stopped. */
long ptrace_resume(struct task *target, enum trace_mode mode, bool step, int signo);
long ptrace_listen(struct task *target);
long ptrace_interrupt(struct task *target);
long ptrace_detach(struct task *target, int signo);
/* Registers as PTRACE_GETREGS shows them.  -ESRCH; -EIO: values that no task may have. */
long ptrace_get_regs(struct task *target, struct arch_regs *out);
long ptrace_set_regs(struct task *target, const struct arch_regs *in);
/* The XSAVE area, limits.xstate_size bytes.  -EINVAL: state that cannot be loaded. */
long ptrace_get_xstate(struct task *target, uint8_t *area);
long ptrace_set_xstate(struct task *target, uint8_t *area);
