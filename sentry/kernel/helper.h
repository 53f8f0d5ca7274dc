/*
 * helper.h - fibers that work for a task: a handler that goes on after its caller has returned.
 *
 * A helper is a task of the same group that no guest sees: no number, no user side (copies go to
 * the owner's address space as to another process's), no signals.  It shares what the owner had
 * when it was started - memory, descriptors, root and directory, credentials - and ends before
 * its owner does, or executes a program.  Handlers run on it as on any task, but for those that
 * change mappings or registers.
 */
#pragma once

#include "sentry/kernel/task.h"

/*
 * Runs fn(helper, arg) on a helper of t, and returns when it has ended or sleeps for the first
 * time: what it had to fetch from guest memory has then been fetched, and what could be done at
 * once is done.  -ENOMEM: fn is not called.
 */
int helper_start(struct task *t, void (*fn)(struct task *h, void *arg), void *arg) MUST_CHECK;
/* Makes the helper's sleeps, this and later ones, end as if by a signal.  Any thread; h is alive,
 * as its fn sees to. */
void helper_cancel(struct task *h);
/* Cancels all helpers of the calling task and waits for their end. */
void helpers_stop(struct task *t);
