/*
 * How far the clocks of a time namespace are ahead of the host's: time_namespaces(7).  Only those
 * that count from boot are shifted.
 */
#pragma once

#include <stdint.h>
#include <time.h>

struct time_offsets {
	int64_t monotonic, boottime; /* ns, of either sign */
};

static inline int64_t time_offset_of(const struct time_offsets *o, clockid_t clock)
{
	switch (clock) {
	case CLOCK_MONOTONIC:
	case CLOCK_MONOTONIC_RAW:
	case CLOCK_MONOTONIC_COARSE:
		return o->monotonic;
	case CLOCK_BOOTTIME:
	case CLOCK_BOOTTIME_ALARM:
		return o->boottime;
	}
	return 0;
}
