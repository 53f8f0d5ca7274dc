/*
 * A read-only or write-only twin of one of the sentry's own descriptors.
 *
 * A guest process must never hold a descriptor with more access than its own open had (design rule
 * 1: a read-only mapping of a read-write memfd can be made writable by mprotect).  The sentry has
 * no paths, but it has the procfs of its PID namespace, through which a descriptor can be opened
 * anew with less access.
 */
#pragma once

#include "sentry/lib/compiler.h"

/* The O_PATH directory; borrowed for good; -1: none.  Once, at start-up. */
void host_set_proc_fd(int fd);
int host_proc_fd(void);
/* A descriptor of the same file, open with O_RDONLY or O_WRONLY and close-on-exec; the caller
 * closes it.  -EACCES when there is no procfs. */
int host_reopen_as(int fd, int accmode) MUST_CHECK;
