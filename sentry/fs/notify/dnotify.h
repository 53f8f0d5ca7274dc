/*
 * dnotify: fcntl(2), F_NOTIFY.  A descriptor of a directory gets a signal when something happens
 * to what is in it.
 */
#pragma once

#include <stdint.h>

#include "sentry/lib/compiler.h"

struct file;
struct task;

extern _Atomic int dnotify_enabled; /* /proc/sys/fs/dir-notify-enable */

/* Adds the events DN_* to those that t's process is told of by f, which it knows as fd; none: takes
 * all away.  -ENOTDIR, -ENOMEM, -EINVAL: switched off */
int dnotify_watch(struct file *f, struct task *t, int fd, uint32_t events) MUST_CHECK;
/* Start-up. */
void dnotify_enable(void);
