/* One subcommand: cmd_NAME.c defines `const struct command cmd_NAME`; main.c lists them. */
#pragma once

#include "oci/config.h"
#include "oci/err.h"
#include "oci/flags.h"

#define EXIT_OWN_FAILURE 128
#define RUNSC_VERSION "0.1.0"
#define OCI_SPEC_VERSION "1.2.1"

struct command {
	const char *name;
	const char *summary; /* NULL: internal, not listed */
	const char *usage;   /* arguments after the name */
	struct flag_set flags;
	int min_args, max_args; /* positional; max -1: any number */
	/* Returns the exit code; < 0: failed, and `e` says how. */
	int (*run)(int argc, char **argv, struct err *e);
};

#define COMMANDS(X) \
	X(boot)     \
	X(create)   \
	X(debug)    \
	X(delete)   \
	X(do)       \
	X(events)   \
	X(exec)     \
	X(flags)    \
	X(gofer)    \
	X(help)     \
	X(kill)     \
	X(list)     \
	X(ps)       \
	X(run)      \
	X(spec)     \
	X(start)    \
	X(state)    \
	X(syscalls) \
	X(wait)

#define X(name) extern const struct command cmd_##name;
COMMANDS(X)
#undef X

const struct command *command_lookup(const char *name); /* NULL: no such command */
void command_help(const struct command *c, FILE *out);
void usage_print(FILE *out);
