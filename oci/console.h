/* Terminals on the command line's side. */
#pragma once

#include "oci/err.h"
#include "oci/spec.h"

/*
 * Opens a host pty, sends its master to the unix socket `path` (--console-socket) and returns the
 * replica.  p, or NULL: process.consoleSize counts.
 */
int console_send(const char *path, const struct spec_process *p, struct err *e) MUST_CHECK;
