/* The global flags: what stands before the subcommand. */
#pragma once

#include <stdbool.h>

#include "oci/flags.h"

struct config {
	const char *root; /* state directory */
	const char *log, *log_format, *debug_log, *panic_log;
	bool debug;
	const char *platform, *network, *overlay2, *host_uds;
	const char *file_access, *file_access_mounts;
	bool ignore_cgroups;
	bool strace;
	bool allow_suid;
	const char *strace_syscalls;
	bool no_patching;
	int spin_us;
	bool version;
};

extern struct config config;
extern const struct flag_set config_flags;

/* Defaults that depend on the environment, and the log files.  After parsing. */
int config_finish(const char *command, struct err *e) MUST_CHECK;
/* Remembers flags without effect until the log is open. */
void config_no_effect(const char *name);
/* Appends one line to --log, in runc's format when it is json: engines read it. */
void config_log_error(const char *msg);
/* The descriptor that children log to: --debug-log's, else --log's; -1: none. */
int config_child_log(void);
