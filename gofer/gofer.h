/*
 * gofer.h - the process that opens host files on behalf of one container's sentry.
 *
 * gofer_main() is the whole life of that process: it opens the attach points, shuts itself in and
 * answers messages (proto.h) until the connection closes.
 *
 * What the caller (oci/) owes, in a freshly forked, single-threaded process:
 *  - new user, mount, PID, network, IPC and UTS namespaces have been entered, the process is root
 *    (uid and gid 0) of that user namespace with all capabilities in it.  The user namespace maps
 *    every host id that the container's files may have to itself, as far as the host lets it:
 *    ids pass through unchanged.
 *  - the mount tree that the paths mean is still visible, mount propagation is private
 *    (MS_REC|MS_PRIVATE on /), and /proc is a procfs in which /proc/self is this process.
 *  - paths are resolved: no component is a symlink that something hostile can replace.
 *  - descriptors: whatever is not named in the configuration is closed here.  Standard input,
 *    output and error are replaced.
 *  - resource limits and the cgroup are as the process shall keep them; RLIMIT_NOFILE's soft limit
 *    is raised to the hard one, which bounds the number of files known at a time.
 *
 * What is done here: attach points become private copies of their mounts with nosuid and nodev
 * (and rdonly where asked), the root becomes an empty read-only directory, capabilities are
 * reduced to CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER and FSETID (bounding set too),
 * no_new_privs, not dumpable, no core files, and a system call filter (filter.c) of at most 45
 * calls that kills at the first call outside it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "sentry/lib/compiler.h"

struct gofer_attach {
	const char *path; /* absolute; or NULL: */
	int fd;		  /* an O_PATH descriptor of the file or directory, consumed */
	bool readonly;	  /* changes are refused with EROFS */
};

struct gofer_config {
	int conn_fd;   /* connected SOCK_SEQPACKET socket, consumed */
	int log_fd;    /* -1: none */
	int ready_fd;  /* -1: none.  One byte is written, and it is closed, when requests will be
			  answered; closed without a byte: failure (see the log) */
	bool host_uds; /* unix sockets of the host may be connected to and bound */
	size_t nattach;
	const struct gofer_attach *attach; /* number 0 is the root */
};

/* Serves until the connection closes: 0; or -errno when it could not start or had to give up. */
int gofer_main(const struct gofer_config *c) MUST_CHECK;
