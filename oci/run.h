/* Waiting for a container or a process in the foreground. */
#pragma once

#include "oci/err.h"
#include "oci/sandbox.h"

/*
 * Asks for the end of a process (pid 0: the container's first, best before its start: once it has
 * ended, so has the sandbox, and there is nobody to ask).
 */
int foreground_ask(int control, int pid, struct err *e) MUST_CHECK;
/*
 * Passes signals on to the process that was asked for until it ends: its exit code as a shell sees
 * it, or < 0.  `sb` NULL: somebody else's sandbox.  signals_hold() must have been called before the
 * process was started.
 */
int foreground_wait(int control, int pid, struct sandbox *sb, const char *id,
		    struct err *e) MUST_CHECK;
/* Blocks the signals that foreground_wait() passes on. */
void signals_hold(void);
int exit_code(int wait_status);
