/*
 * adjtimex(2), clock_adjtime(2).  The clock is the host's: a guest may look at its state, not turn
 * it.  Whether the host's is synchronised is not known here, so it is shown as not synchronised.
 */
#include <errno.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/timex.h>
#include <time.h>

#include "sentry/time/clock.h"
#include "syscalls/syscalls.h"

/* What a kernel that nobody ever adjusted shows (kernel/time/ntp.c's first values). */
#define MAX_ERROR_USEC 16000000
#define TICK_USEC 10000
#define TOLERANCE (500L << 16)

static long adjust(struct task *t, uaddr_t utx)
{
	struct timex tx;

	if (copy_in_val(&t->um, &tx, utx))
		return -EFAULT;
	/* The offset may be read by asking for a change of nothing: ADJ_OFFSET_SS_READ. */
	if (tx.modes && tx.modes != ADJ_OFFSET_SS_READ)
		return -EPERM;
	int64_t now = time_realtime();
	tx.offset = tx.freq = 0;
	tx.maxerror = tx.esterror = MAX_ERROR_USEC;
	tx.status = STA_UNSYNC;
	tx.constant = 2;
	tx.precision = 1;
	tx.tolerance = TOLERANCE;
	tx.tick = TICK_USEC;
	tx.time.tv_sec = now / NSEC_PER_SEC;
	tx.time.tv_usec = now % NSEC_PER_SEC / 1000;
	tx.ppsfreq = tx.jitter = tx.stabil = tx.jitcnt = tx.calcnt = tx.errcnt = tx.stbcnt = 0;
	tx.shift = 0;
	tx.tai = 0;
	return copy_out_val(&t->um, utx, &tx) ? -EFAULT : TIME_ERROR;
}

long sys_adjtimex(struct task *t, uaddr_t utx)
{
	return adjust(t, utx);
}

long sys_clock_adjtime(struct task *t, int clock, uaddr_t utx)
{
	if (clock == CLOCK_REALTIME)
		return adjust(t, utx);
	return clock > CLOCK_REALTIME && clock <= CLOCK_TAI && clock != 10 ? -EOPNOTSUPP : -EINVAL;
}
