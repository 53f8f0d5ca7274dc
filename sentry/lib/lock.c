#include "sentry/lib/lock.h"

#include <assert.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define X(n, what) struct lock_class n = {.rank = rank_##n, .name = #n};
LOCK_CLASSES(X)
#undef X

#ifndef NDEBUG
static __thread uint64_t held_mask;
_Static_assert(LOCK_RANKS <= 64, "the mask of held classes has one bit a class");

static void note_lock(struct lock_class *c)
{
	if (held_mask >> c->rank) {
		fprintf(stderr, "lock order: %s taken while holding classes %#llx\n", c->name,
			(unsigned long long)held_mask);
		abort();
	}
	held_mask |= 1ULL << c->rank;
}

static void note_unlock(struct lock_class *c)
{
	assert(held_mask >> c->rank & 1);
	held_mask &= ~(1ULL << c->rank);
}

void lock_assert_none_held(void)
{
	if (held_mask) {
		fprintf(stderr, "lock held across a wait: classes %#llx\n",
			(unsigned long long)held_mask);
		abort();
	}
}
#else
static void note_lock(struct lock_class *c)
{
	(void)c;
}

static void note_unlock(struct lock_class *c)
{
	(void)c;
}

void lock_assert_none_held(void)
{
}
#endif

static void futex_call(_Atomic uint32_t *word, int op, uint32_t val)
{
	syscall(SYS_futex, word, op | FUTEX_PRIVATE_FLAG, val, NULL, NULL, 0);
}

/* Two CPUs and short sections: a few looks at the word are cheaper than two host calls. */
#define SPIN_LIMIT 100

void mutex_lock(struct mutex *m, struct lock_class *c) NO_LOCK_ANALYSIS
{
	note_lock(c);
	uint32_t free_state = 0;
	if (atomic_compare_exchange_strong_explicit(&m->state, &free_state, 1, memory_order_acquire,
						    memory_order_relaxed))
		return;
	for (int i = 0; i < SPIN_LIMIT; i++) {
		free_state = 0;
		if (atomic_load_explicit(&m->state, memory_order_relaxed) == 0 &&
		    atomic_compare_exchange_weak_explicit(
			    &m->state, &free_state, 1, memory_order_acquire, memory_order_relaxed))
			return;
		__builtin_ia32_pause();
	}
	while (atomic_exchange_explicit(&m->state, 2, memory_order_acquire) != 0)
		futex_call(&m->state, FUTEX_WAIT, 2);
}

bool mutex_trylock(struct mutex *m, struct lock_class *c) NO_LOCK_ANALYSIS
{
	uint32_t free_state = 0;

	if (!atomic_compare_exchange_strong_explicit(&m->state, &free_state, 1,
						     memory_order_acquire, memory_order_relaxed))
		return false;
	note_lock(c);
	return true;
}

void mutex_unlock(struct mutex *m, struct lock_class *c) NO_LOCK_ANALYSIS
{
	note_unlock(c);
	if (atomic_exchange_explicit(&m->state, 0, memory_order_release) == 2)
		futex_call(&m->state, FUTEX_WAKE, 1);
}
