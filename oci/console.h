/* Terminals on the command line's side. */
#pragma once

#include "oci/err.h"

/*
 * Opens a host pty, sends its master to the unix socket `path` (--console-socket) and returns the
 * replica.
 */
int console_send(const char *path, struct err *e) MUST_CHECK;
