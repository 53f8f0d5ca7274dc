/*
 * Namespaces and privileges of our own processes.
 *
 * The sentry and the gofer are clones of the command line that enter new namespaces with the clone
 * itself and then execute /proc/self/exe with an empty environment: a fresh address-space layout
 * and fresh canaries for each of the three.  Re-executing the file itself, not a sealed copy, is
 * safe here: overwriting a runtime through /proc/PID/exe needs a hostile process that runs from
 * this file and may open it for writing.  Guest processes run from the platform's own sealed
 * memfd.  The sentry is no user of the host, has no procfs but its own namespace's, and its filter
 * allows read-only opens there.  The gofer has no procfs in its namespace, resolves no magic
 * links, and is not dumpable.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "oci/err.h"

enum ns_ids {
	NS_IDS_NOBODY,	 /* one unprivileged id, which is 0 inside */
	NS_IDS_IDENTITY, /* every id that we have, as it is */
};

/* RLIMIT_NICE of what is spawned, where the caller may give it: a thread that was nice can be as
 * others again, but no more (setrlimit(2): 20 is nice value 0). */
#define NS_NICE_LIMIT 20

struct ns_spawn {
	const char *command; /* "boot" or "gofer" */
	enum ns_ids ids;
	const int *keep; /* descriptors it inherits, numbers unchanged */
	size_t nkeep;
	int config_fd;	   /* of keep: passed as --config-fd */
	bool same_session; /* stays in our session and process group */
};

int ns_spawn(const struct ns_spawn *s, pid_t *pid, int *pidfd, struct err *e) MUST_CHECK;

/* ---- in the new process ---- */
/* Becomes id 0 of the user namespace, with its capabilities. */
int ns_take_ids(struct err *e) MUST_CHECK;
int ns_private_mounts(struct err *e) MUST_CHECK;
/* A procfs of the own PID namespace, process entries only, mounted nowhere: a directory FD. */
int ns_proc_open(struct err *e) MUST_CHECK;
/* Replaces the root by an empty read-only directory; the old one is left behind it... */
int ns_empty_root(struct err *e) MUST_CHECK;
/* ... and detached, with everything else.  The host takes a while to answer. */
int ns_leave_old_root(struct err *e) MUST_CHECK;
/* No capability any more, for itself and whatever it executes; no_new_privs. */
int ns_drop_caps(struct err *e) MUST_CHECK;
