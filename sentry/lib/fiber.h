/*
 * Fibers: the kernel stacks of guest tasks.
 *
 * A handler may have to wait for minutes.  It runs on a fiber - a stack of its own - and a wait
 * switches the worker thread back to its loop, which goes on with somebody else's event: a blocked
 * task costs one small stack and no host thread, and waking it costs no host context switch.
 * Blocking code still reads like kernel code.
 *
 * A fiber may resume on another host thread: no lock is held across fiber_suspend() (asserted in
 * debug builds), and nothing thread-local is kept across it - `errno` included.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "sentry/lib/compiler.h"

struct fiber {
	void *sp;	 /* saved stack pointer while not running */
	void *stack_low; /* lowest usable byte of the stack */
	size_t stack_size;
	void (*entry)(void *arg); /* must end with fiber_exit(), never return */
	void *arg;
	struct fiber_home *home; /* the worker context that runs it, while it runs */
	void *fake_stack;	 /* sanitizers only */
};

/* One per worker thread: where fibers switch back to. */
struct fiber_home {
	void *sp;
	struct fiber *current;
	void (*after)(void *arg); /* run on the worker's own stack after the fiber has left it */
	void *after_arg;
	void *fake_stack;
	const void *stack_low;
	size_t stack_size;
};

int fiber_init(struct fiber *f, void (*entry)(void *), void *arg) MUST_CHECK;
void fiber_fini(struct fiber *f); /* gives the stack back to the pool; f must not be running */

/* Runs f on this worker until it suspends or exits; then runs what it asked to run "after". */
void fiber_run(struct fiber_home *home, struct fiber *f);
/*
 * Leaves the current fiber.  `after(arg)` runs on the worker's stack when the fiber's registers
 * are saved: only then may another worker resume it, so that is where it is published.
 */
void fiber_suspend(struct fiber *f, void (*after)(void *), void *arg);
/* The same, for ever.  `after` may free the fiber. */
_Noreturn void fiber_exit(struct fiber *f, void (*after)(void *), void *arg);
