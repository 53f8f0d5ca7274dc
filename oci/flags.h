/*
 * Command-line flags in the syntax of Go's flag package: -x, --x, --x=v, --x v; a boolean takes a
 * value only with "="; parsing stops at the first argument that is not a flag, and after "--".
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "oci/err.h"

enum flag_kind { FLAG_STRING, FLAG_BOOL, FLAG_INT, FLAG_LIST };

/* What giving the flag does. */
enum flag_effect {
	FLAG_ACTS,
	FLAG_NO_EFFECT, /* known, not implemented: said once in the debug log */
	FLAG_IGNORED,	/* sent by engines for other runtimes: accepted, silently */
};

struct flag_list {
	char **v;
	size_t n;
};

struct flag {
	const char *name;
	enum flag_kind kind;
	enum flag_effect effect;
	void *value; /* const char **, bool *, int *, struct flag_list *; NULL: checked only */
	const char *choices; /* "a|b|c", or NULL: anything */
	const char *help;
};

#define FLAG_S(name, ptr, help)                               \
	{                                                     \
		name, FLAG_STRING, FLAG_ACTS, ptr, NULL, help \
	}
#define FLAG_C(name, ptr, choices, help)                         \
	{                                                        \
		name, FLAG_STRING, FLAG_ACTS, ptr, choices, help \
	}
#define FLAG_B(name, ptr, help)                             \
	{                                                   \
		name, FLAG_BOOL, FLAG_ACTS, ptr, NULL, help \
	}
#define FLAG_I(name, ptr, help)                            \
	{                                                  \
		name, FLAG_INT, FLAG_ACTS, ptr, NULL, help \
	}
#define FLAG_L(name, ptr, help)                             \
	{                                                   \
		name, FLAG_LIST, FLAG_ACTS, ptr, NULL, help \
	}
#define FLAG_NONE(name, kind, help)                          \
	{                                                    \
		name, kind, FLAG_NO_EFFECT, NULL, NULL, help \
	}
#define FLAG_SKIP(name, kind)                                                \
	{                                                                    \
		name, kind, FLAG_IGNORED, NULL, NULL, "accepted and ignored" \
	}

struct flag_set {
	const struct flag *flags;
	size_t n;
};

/*
 * Parses argv[0…argc).  Returns the number of arguments consumed, or -EINVAL with a message that
 * names the flag; -ECANCELED when -h or --help was given.  `no_effect` is called for each
 * FLAG_NO_EFFECT flag seen.
 */
int flags_parse(const struct flag_set *set, int argc, char **argv, struct err *e,
		void (*no_effect)(const char *name)) MUST_CHECK;
void flags_print(const struct flag_set *set, FILE *out);
