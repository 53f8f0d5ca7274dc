/* trace.h - what a task keeps for ptrace(2), as traced one and as tracer.  See ptrace.h. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "sentry/kernel/signal.h"
#include "sentry/lib/list.h"
#include "sentry/lib/lock.h"

struct task;

enum trace_mode { TRACE_CONT, TRACE_SYSCALL, TRACE_SYSEMU };

/* lc_tasks, unless it says otherwise; *own* as in task.h. */
struct trace {
	struct list_head tracees; /* of trace.link: those that this task traces */

	int parent_tid;		     /* of the thread that made us: PTRACE_TRACEME's tracer */
	struct task *_Atomic tracer; /* reference, or NULL; others may look whether there is one */
	struct list_head link;	     /* in the tracer's list, which holds a reference to us */
	uint32_t options;	     /* PTRACE_O_* */
	bool seized;
	bool zombie;		/* a thread that ended: for its tracer to wait for */
	_Atomic bool stopped;	/* in a ptrace-stop: the tracer may act */
	_Atomic bool listening; /* PTRACE_LISTEN: not to be acted on, and not running */
	bool unreported;	/* nobody waited for this stop yet */
	int code;		/* of the stop: signal | event << 8 */
	uint64_t message;	/* PTRACE_GETEVENTMSG */
	bool has_info;
	ksiginfo info;
	int resume_signal;
	_Atomic int mode;     /* enum trace_mode: how it was resumed */
	_Atomic bool step;    /* … and by a single step */
	int syscall_op;	      /* PTRACE_SYSCALL_INFO_* of the stop */
	uint64_t debugreg[8]; /* watch.c */
	uint64_t watched[4];  /* own: what was at the places of debugreg */
	bool watch_goes_on;   /* own: … and is, as nothing but one instruction came between */

	_Atomic bool trap_wanted; /* PTRACE_INTERRUPT, a new child, the end of a group stop */
	bool stop_seen;		  /* siglock: resumed from the group stop that is in effect */
	bool set_tf;		  /* own: the trap flag in its registers is ours */
	/* Held by the tracer while it uses the stopped task's registers; the task takes it once
	 * before it runs on. */
	struct mutex lock; /* lc_trace */
};
