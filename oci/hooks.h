/* OCI hooks: programs of the host that run at points of a container's life. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "oci/err.h"

/*
 * Runs the hooks of `kind` ("prestart", …) in order, each with `state` on its standard input.  The
 * first failure stops them; with best_effort failures are logged and go on.
 */
int hooks_run(json_t *hooks, const char *kind, json_t *state, bool best_effort,
	      struct err *e) MUST_CHECK;
