/*
 * What went wrong, for the person: one line, without a newline and without the program's name.
 *
 * Functions that fill a struct err return a negative number (an errno where one is meant, else
 * -EINVAL), so that callers can `return err_set(e, -ENOENT, "…")`.
 */
#pragma once

#include <errno.h>
#include <stdarg.h>

#include "sentry/lib/compiler.h"

struct err {
	char msg[1024];
};

int err_set(struct err *e, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Puts "prefix: " before the message that is there; returns `code`. */
int err_wrap(struct err *e, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* The message and the text of -code. */
int err_errno(struct err *e, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
