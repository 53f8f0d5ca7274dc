/*
 * pi.h - futexes that hold their owner's thread id (priority inheritance).
 *
 * Plain futexes are the host kernel's (platform.h, set_direct).  These are not: their words carry
 * the guest's thread ids, which the host does not know, so waiters queue here, by real-time
 * priority and then in order of arrival.  Inheritance itself has no effect, as the sandbox's
 * priorities are remembered and not acted on.
 *
 * Words change by compare-and-swap in the guest's own address space, without a lock: page and
 * program may be hostile.  Who changed a word and finds that it was wrong by then tries again.
 *
 * Deadlines are CLOCK_MONOTONIC ns, TIME_NEVER for none.  Source: futex(2), get_robust_list(2).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "sentry/lib/compiler.h"
#include "sentry/lib/uaddr.h"

struct task;

/* FUTEX_LOCK_PI, FUTEX_TRYLOCK_PI.  -EDEADLK, -ESRCH, -EAGAIN (try), -ETIMEDOUT, -ENOMEM,
 * -ERESTARTNOINTR, -EINVAL and -EFAULT for the word. */
long futex_pi_lock(struct task *t, uaddr_t addr, bool shared, bool try, int64_t deadline);
/* FUTEX_UNLOCK_PI: the lock goes to the first waiter.  -EPERM: not the owner. */
long futex_pi_unlock(struct task *t, uaddr_t addr, bool shared);
/* FUTEX_WAIT_REQUEUE_PI: sleeps on addr, until a requeue hands it the lock at target. */
long futex_pi_wait_requeue(struct task *t, uaddr_t addr, bool shared, uint32_t val,
			   int64_t deadline, uaddr_t target);
/* FUTEX_CMP_REQUEUE_PI: moves the first waiter and at most `move` others from addr to the lock at
 * target.  Returns how many. */
long futex_pi_cmp_requeue(struct task *t, uaddr_t addr, bool shared, int move, uaddr_t target,
			  uint32_t val);
/*
 * The task leaves its address space: waiters of what it owns take over.  After the robust list was
 * walked.  gone: it will own nothing any more.
 */
void futex_pi_release(struct task *t, bool gone);
