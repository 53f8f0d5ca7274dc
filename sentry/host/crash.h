/*
 * What happens when the sentry itself faults, aborts or makes a host call outside its list: a
 * stack trace (the compiler's unwinder; names by libelf, lines by libdw) goes to the panic log, and
 * the process ends with exit status 128 + signal.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "sentry/lib/compiler.h"

/* Before confinement.  fd: the panic log, borrowed; -1: none.  Opens the own executable. */
int crash_init(int fd) MUST_CHECK;
/* Each thread of the sentry, at its start: a stack for the handler, and its signals unblocked (a
 * fault whose signal is blocked ends the process without a word). */
void crash_thread_init(void);
/* "name+0xoffset" of an address in the own executable, into buf; returns buf.  Any time. */
const char *crash_symbol(uintptr_t pc, char *buf, size_t size);
