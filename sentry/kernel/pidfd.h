/* pidfd_open(2): a descriptor that names a process, readable once it has ended. */
#pragma once

#include "sentry/kernel/task.h"

/* flags: O_NONBLOCK (PIDFD_NONBLOCK).  Takes a reference to tg. */
int pidfd_create(struct thread_group *tg, int flags, struct file **out) MUST_CHECK;
/* The process that a pidfd names, borrowed while the file lives; NULL: no pidfd. */
struct thread_group *pidfd_group(struct file *f);
