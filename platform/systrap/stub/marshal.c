/*
 * What travels with a fast call: some bytes of the guest's on the way to the sentry, which it would
 * ask for at once, and the call's results on the way back.  Each saves a round trip.
 */
#include "platform/systrap/stub/stub.h"

#include <errno.h>
#include <sys/syscall.h>

#define PAGE 4096UL

/* The bytes at argument i, and the argument after it. */
static void argument(const struct arch_regs *r, unsigned i, uint64_t *at, uint64_t *next)
{
	switch (i) {
	case 0:
		*at = r->rdi, *next = r->rsi;
		return;
	case 1:
		*at = r->rsi, *next = r->rdx;
		return;
	case 2:
		*at = r->rdx, *next = r->r10;
		return;
	default:
		*at = r->r10, *next = r->r8;
	}
}

/* Short when a page is missing: the sentry then looks by itself. */
uint32_t stub_bring(struct st_pageset *ps, const struct arch_regs *regs)
{
	struct st_event *ev = &ps->ev;
	uint8_t what = ((const uint8_t *)ST_BRINGS)[(uint32_t)regs->rax % ST_BRINGS_LEN];
	uint64_t at, len;

	if (!what)
		return 0;
	argument(regs, what & ST_BRING_ARG, &at, &len);
	if (what & ST_BRING_STRING)
		len = PAGE - at % PAGE < ST_BRING_STRING_MAX ? PAGE - at % PAGE
							     : ST_BRING_STRING_MAX;
	if (!len || len > sizeof(ps->data) || at >= ST_TASK_SIZE - sizeof(ps->data))
		return 0;
	st_put(ev->addr, at);
	st_put(ev->trapno, len - (uint64_t)stub_copy((uint64_t)ps->data, at, len));
	return ST_EV_BROUGHT;
}

/*
 * The sentry has found the places writable before it put the copies off, so a fault means that a
 * sibling has changed that since.  A call that says how many bytes it moved says how many they
 * were.  Where a file is copied from or to, nothing is sure, and the call is reported again.
 */
long stub_copy_late(struct st_pageset *ps)
{
	uint64_t done = 0, all = 0, left = 0;

	for (uint32_t i = 0; i < ps->nlate && i < ST_LATE_MAX; i++) {
		const struct st_late *l = &ps->late[i];
		uint64_t len = l->len;

		all += len;
		if (left)
			continue;
		if (l->file)
			left = STUB_CALL(SYS_pread64, l->file - 1, l->dst, len, l->src, 0, 0) !=
			       (long)len;
		else
			left = (uint64_t)stub_copy(l->dst, l->src, len);
		done += len - left;
	}
	if (left && ps->late_retry)
		return -EFAULT;
	if (left)
		ps->ev.regs.rax = ps->ev.regs.rax == all && done ? done : (uint64_t)-EFAULT;
	return 0;
}
