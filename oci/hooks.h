/*
 * OCI hooks: programs that run at points of a container's life, with its state on their standard
 * input.  Source: OCI config.md, "POSIX-platform Hooks"; failures as runc has them.
 *
 * All run on the host, in the caller's namespaces and in the bundle, but for startContainer: that
 * one is a process of the container, run by the sentry with the rights of the container's own.
 * createContainer, which other runtimes run between the two, finds nothing of the container on the
 * host: its namespaces are the sentry's.
 */
#pragma once

#include <stdbool.h>

#include "oci/state.h"

/*
 * Runs the hooks of `kind` ("prestart", …) in order, telling them `status`.  The first failure
 * stops them; with best_effort failures are logged and the rest runs.
 */
int hooks_run(const struct state *s, const char *kind, enum status status, bool best_effort,
	      struct err *e) MUST_CHECK;
/* startContainer, through the control connection `fd`.  After a failure the sandbox is to go. */
int hooks_run_inside(const struct state *s, int fd, struct err *e) MUST_CHECK;
