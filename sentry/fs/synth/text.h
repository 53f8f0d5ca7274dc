/*
 * struct text: a growable byte string in sentry memory, for generated files.
 *
 * Failure is sticky: after a failed allocation further calls do nothing, and text_error() says so
 * once at the end.  No locking.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sentry/lib/compiler.h"

struct inode;

struct text {
	char *buf; /* owned; NUL-terminated once anything was put */
	size_t len, cap;
	bool failed;
	const struct inode *of; /* whose text it is, for synthetic files; else NULL */
};

#define TEXT_INIT                       \
	{                               \
		NULL, 0, 0, false, NULL \
	}
#define TEXT_MAX (64UL << 20) /* more than this is -ENOMEM: guests decide how much there is */

void text_put(struct text *t, const void *bytes, size_t n);
void text_puts(struct text *t, const char *s);
void text_putc(struct text *t, char c);
void text_printf(struct text *t, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Puts s with the characters of `set` and backslash as octal escapes (\040), as /proc/mounts does.
 */
void text_put_escaped(struct text *t, const char *s, size_t n, const char *set);
/* Puts spaces until column `col` of the current line is reached (as /proc/PID/maps aligns names).
 */
void text_pad(struct text *t, size_t col);
int text_error(const struct text *t) MUST_CHECK; /* 0 or -ENOMEM */
void text_fini(struct text *t);
