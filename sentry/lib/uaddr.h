/*
 * Guest addresses.
 *
 * A guest address is a number that means something only inside a guest address space.  It is a
 * distinct type so that dereferencing or adding to it by mistake does not compile; the only way to
 * the bytes behind it is sentry/mm/uaccess.h.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef struct {
	uint64_t v;
} uaddr_t;

#define UADDR(x) ((uaddr_t){(uint64_t)(x)})
#define UADDR_NULL UADDR(0)

static inline uaddr_t uaddr_add(uaddr_t a, uint64_t n)
{
	return UADDR(a.v + n);
}

static inline bool uaddr_is_null(uaddr_t a)
{
	return a.v == 0;
}
