/*
 * signalfd(2): the caller's pending signals as a readable file.
 *
 * What is ready is a matter of who asks: poll and read look at the calling task's signals, as
 * Linux does.  All signalfds of the sandbox share one wait queue, which every queued signal
 * notifies while any signalfd is open: a notification is a hint.
 */
#pragma once

#include "sentry/kernel/signal.h"

struct file;

int signalfd_create_file(sigset_k mask, int flags, struct file **out) MUST_CHECK;
/* Replaces the mask; -EINVAL when f is no signalfd. */
int signalfd_set_mask(struct file *f, sigset_k mask) MUST_CHECK;
