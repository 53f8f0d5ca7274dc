/*
 * The sentry's system call filter: syscalls.def as a seccomp program, for every thread that exists
 * and will exist.  Source: seccomp(2), libseccomp.
 */
#pragma once

#include <stdbool.h>

#include "sentry/lib/compiler.h"

/* proc_fd: the directory that openat() may start from, or -1: none.  0 or -errno. */
int host_confine(int proc_fd, bool ptrace_platform) MUST_CHECK;
