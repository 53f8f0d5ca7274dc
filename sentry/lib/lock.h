/*
 * A mutex of four bytes (futex-based, no owner, not recursive) and the annotations that let clang
 * check who holds what.  Every use names the lock's class:
 *
 *	mutex_lock(&d->lock, &lc_dcache);
 *
 * fields say GUARDED_BY(lc_dcache), functions REQUIRES(lc_dcache).  See lock_order.h.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "sentry/lib/lock_order.h"

#if defined(__clang__)
#define TSA(x) __attribute__((x))
#else
#define TSA(x)
#endif
#define GUARDED_BY(c) TSA(guarded_by(c))
#define ACQUIRES(...) TSA(acquire_capability(__VA_ARGS__))
#define TRY_ACQUIRES(c) TSA(try_acquire_capability(true, c))
#define RELEASES(...) TSA(release_capability(__VA_ARGS__))
#define REQUIRES(...) TSA(requires_capability(__VA_ARGS__))
#define EXCLUDES(...) TSA(locks_excluded(__VA_ARGS__))
#define NO_LOCK_ANALYSIS TSA(no_thread_safety_analysis)

struct mutex {
	_Atomic uint32_t state; /* 0 free, 1 held, 2 held and somebody waits */
};

#define MUTEX_INIT \
	{          \
		0  \
	}

static inline void mutex_init(struct mutex *m)
{
	atomic_init(&m->state, 0);
}

void mutex_lock(struct mutex *m, struct lock_class *c) ACQUIRES(c);
void mutex_unlock(struct mutex *m, struct lock_class *c) RELEASES(c);
bool mutex_trylock(struct mutex *m, struct lock_class *c) TRY_ACQUIRES(c);

/*
 * Asserts that this thread holds no lock (release builds: nothing).  Called before a switch of
 * fibers and before anything that a guest can make slow: copy_in, copy_out.
 */
void lock_assert_none_held(void);
