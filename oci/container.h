/* The life of a container: what create, start, run, kill and delete do.  Source: OCI runtime.md. */
#pragma once

#include <stdbool.h>

#include "oci/err.h"
#include "oci/flags.h"
#include "oci/sandbox.h"
#include "oci/state.h"

struct create_options {
	const char *id, *bundle, *console_socket, *pid_file;
	bool foreground; /* the sandbox ends with this process */
};

/* Creates and leaves it un-started.  Foreground: *sb stays connected; else it is let go. */
int container_create(const struct create_options *o, struct sandbox *sb, struct err *e) MUST_CHECK;
int container_start(const char *id, struct err *e) MUST_CHECK;
/* Removes a stopped or merely created container; `force` kills a running one first and does not
 * mind an unknown one. */
int container_delete(const char *id, bool force, struct err *e) MUST_CHECK;
/* State and status of an existing container, without holding the lock. */
int container_find(const char *id, struct state *s, enum status *status, struct err *e) MUST_CHECK;
/* Connected to its control server; it must be created or running. */
int container_connect(const char *id, struct state *s, struct err *e) MUST_CHECK;
/* Writes a number into a file, whole: engines read it as soon as it is there. */
int write_pid_file(const char *path, int pid, struct err *e) MUST_CHECK;
