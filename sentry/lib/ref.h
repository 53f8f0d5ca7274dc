/* Reference counts.  x_get() returns its argument; x_put() accepts NULL and frees at zero. */
#pragma once

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>

typedef struct {
	_Atomic unsigned n;
} ref_t;

static inline void ref_init(ref_t *r, unsigned n)
{
	atomic_init(&r->n, n);
}

static inline unsigned ref_read(const ref_t *r)
{
	return atomic_load_explicit(&((ref_t *)r)->n, memory_order_relaxed);
}

static inline void ref_get(ref_t *r)
{
	unsigned old = atomic_fetch_add_explicit(&r->n, 1, memory_order_relaxed);
	assert(old != 0);
	(void)old;
}

/* Takes a reference unless the count is already zero: for look-ups that race with the last put. */
static inline bool ref_get_unless_zero(ref_t *r)
{
	unsigned old = atomic_load_explicit(&r->n, memory_order_relaxed);
	while (old != 0)
		if (atomic_compare_exchange_weak(&r->n, &old, old + 1))
			return true;
	return false;
}

/* Returns true when the last reference went: the caller frees the object. */
static inline bool ref_put(ref_t *r)
{
	unsigned old = atomic_fetch_sub_explicit(&r->n, 1, memory_order_acq_rel);
	assert(old != 0);
	return old == 1;
}
