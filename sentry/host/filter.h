/*
 * System call filters that libseccomp compiled when we were built (*_filter_gen.c): a start has
 * only to put in the descriptors' numbers and to hand the program to the host.
 *
 * In a filter's source a descriptor whose number is not known yet is FILTER_FD(0), FILTER_FD(1), …:
 * values that are neither descriptors nor any other constant there.
 */
#pragma once

#include <linux/filter.h>
#include <stddef.h>
#include <stdint.h>

#include "sentry/lib/compiler.h"

#define FILTER_FD(n) (0x7fd0fd00 + (n))

/*
 * Filters every thread of the process from here on.  fd[n] stands for FILTER_FD(n); -1: none, and
 * what is allowed on it then fails with EBADF.  Needs no_new_privs.  0 or -errno.
 */
int filter_load(const struct sock_filter *program, size_t len, const int *fd,
		size_t nfds) MUST_CHECK;
