/*
 * One sandbox: a sentry and a gofer, started from a specification.  Knows nothing about state on
 * disk; container.c does.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "oci/err.h"
#include "oci/spec.h"

struct sandbox_options {
	const char *id, *bundle; /* bundle: what relative paths of the spec start from */
	int control_fd;		 /* listening socket, or -1; borrowed */
	int status_fd;		 /* file for the wait status, or -1; borrowed */
	int stdio[3];		 /* borrowed */
	bool root_overlay;	 /* keep changes of the root in memory */
	bool own_tty;		 /* stdio is a terminal of the sandbox's own */
	bool foreground;	 /* the sandbox ends with this process */
};

struct sandbox {
	pid_t pid, gofer_pid;
	int pidfd;
	int owner_fd; /* control connection (boot.h) */
};

/*
 * Returns when the container's first process is made and waits for "start", or with what the
 * sentry said.  On failure no process is left.
 */
int sandbox_create(const struct spec *spec, const struct sandbox_options *o, struct sandbox *out,
		   struct err *e) MUST_CHECK;
/* Kills and reaps what sandbox_create started. */
void sandbox_kill(struct sandbox *s);
/* Waits for the processes of a sandbox whose container has ended; kills them if they linger. */
void sandbox_reap(struct sandbox *s);
/* After its connection broke: reaps the sentry and says how it ended. */
int sandbox_died(struct sandbox *s, const char *id, struct err *e) MUST_CHECK;
