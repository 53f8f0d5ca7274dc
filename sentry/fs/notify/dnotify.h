/*
 * dnotify: fcntl(2), F_NOTIFY.  A descriptor of a directory gets a signal when something happens
 * to what is in it.
 */
#pragma once

#include <stdint.h>

#include "sentry/lib/compiler.h"

struct file;
struct task;

/* Adds the events DN_* to those that t's process is told of by f, which it knows as fd; none: takes
 * all away.  -ENOTDIR, -ENOMEM */
int dnotify_watch(struct file *f, struct task *t, int fd, uint32_t events) MUST_CHECK;
/* Start-up. */
void dnotify_enable(void);
