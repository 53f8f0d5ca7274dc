/*
 * timerfd_create(2): a timer behind a descriptor.
 *
 * As on Linux an interval timer fires once and then rests until it is read: the expirations that
 * a reader gets are computed from the clock, so nobody's lack of interest costs a wake-up.
 */
#pragma once

#include <stdint.h>
#include <time.h>

#include "sentry/lib/compiler.h"
#include "sentry/time/offsets.h"

struct file;

/* flags: TFD_NONBLOCK.  clock was checked. */
int timerfd_create_file(int clock, int flags, struct file **out) MUST_CHECK;
/* -EINVAL when f is no timerfd or the values are bad; old may be NULL.  An absolute time is one of
 * clocks with these offsets. */
int timerfd_set(struct file *f, int flags, const struct itimerspec *new, struct itimerspec *old,
		const struct time_offsets *offsets) MUST_CHECK;
int timerfd_get(struct file *f, struct itimerspec *cur) MUST_CHECK;
