/*
 * poll_wait.h - waiting for many files at once: what poll(2) and select(2) share.
 */
#pragma once

#include <time.h>

#include "sentry/kernel/task.h"

struct poll_entry {
	struct file *file; /* reference, or NULL: skipped */
	uint32_t want;	   /* events asked for; POLLERR and POLLHUP only if among them */
	uint32_t got;
	struct task_waiter tw;
};

/*
 * Waits until one of the entries is ready, or the deadline (CLOCK_MONOTONIC ns).  Returns how many
 * are ready, their `got` set; 0 at the deadline; -EINTR.
 */
int poll_wait(struct task *t, struct poll_entry *e, size_t n, int64_t deadline) MUST_CHECK;
/* Drops the references of entries. */
void poll_entries_put(struct poll_entry *e, size_t n);

#define DEADLINE_PAST 0 /* looked at without asking the clock */
/* A deadline this far from now; saturates at TIME_NEVER.  Of no time at all: DEADLINE_PAST. */
int64_t deadline_after(int64_t sec, int64_t nsec);
bool deadline_is_past(int64_t deadline);
/* Milliseconds as poll and epoll_wait take them; negative: TIME_NEVER. */
int64_t deadline_after_ms(int ms);
/* A struct timespec in guest memory, NULL meaning TIME_NEVER.  -EFAULT, -EINVAL */
int deadline_from_timespec(struct task *t, uaddr_t ts, int64_t *deadline) MUST_CHECK;
/* The time left, not below zero, written where the timeout came from.  Errors are ignored, as the
 * call has succeeded by then.  Nothing for null pointers. */
void deadline_left_out(struct task *t, uaddr_t ts, int64_t deadline, bool timeval);

/* The temporary signal mask of ppoll, pselect, epoll_pwait; null: none.  -EINVAL, -EFAULT */
int temp_mask_begin(struct task *t, uaddr_t mask, uint64_t size) MUST_CHECK;
/* At the end: `interrupted` leaves it for the delivery of the signal. */
void temp_mask_end(struct task *t, bool interrupted);
