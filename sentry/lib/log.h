/*
 * Logging of the sentry, the gofer and the command line.
 *
 * One line a message, to the descriptor given by log_open(); nothing is written when none was
 * given.  LOG_DEBUG messages need log_set_debug(true).  What a guest can trigger is logged with
 * log_limited(): at most ten lines a second a process.  Guest bytes are printed through
 * log_escape().  Thread-safe, async-signal-safe apart from formatting.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "sentry/lib/compiler.h"

enum log_level { LOG_WARN, LOG_INFO, LOG_DEBUG };

void log_open(int fd, bool json); /* borrows fd, which stays open */
void log_set_debug(bool on);
bool log_debug_enabled(void);
void log_msg(enum log_level level, const char *fmt, ...) PRINTF_LIKE(2, 3);
void log_limited(enum log_level level, const char *fmt, ...) PRINTF_LIKE(2, 3);

#define log_warn(...) log_msg(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_msg(LOG_INFO, __VA_ARGS__)
#define log_debug(...)                                   \
	do {                                             \
		if (log_debug_enabled())                 \
			log_msg(LOG_DEBUG, __VA_ARGS__); \
	} while (0)

/* Writes src as printable ASCII with \xNN escapes into dst (always terminated); returns dst. */
char *log_escape(char *dst, size_t size, const void *src, size_t n);
