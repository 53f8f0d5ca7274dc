#include "sentry/lib/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int log_fd = -1;
static bool log_json;
static bool log_debug_on;

static const char *const level_name[] = {"warning", "info", "debug"};

void log_open(int fd, bool json)
{
	log_fd = fd;
	log_json = json;
}

void log_set_debug(bool on)
{
	log_debug_on = on;
}

bool log_debug_enabled(void)
{
	return log_debug_on && log_fd >= 0;
}

char *log_escape(char *dst, size_t size, const void *src, size_t n)
{
	static const char hex[] = "0123456789abcdef";
	const unsigned char *s = src;
	size_t o = 0;

	for (size_t i = 0; i < n && o + 5 <= size; i++) {
		if (s[i] >= 0x20 && s[i] < 0x7f && s[i] != '\\' && s[i] != '"') {
			dst[o++] = (char)s[i];
			continue;
		}
		dst[o++] = '\\';
		dst[o++] = 'x';
		dst[o++] = hex[s[i] >> 4];
		dst[o++] = hex[s[i] & 15];
	}
	dst[o] = 0;
	return dst;
}

static void emit(enum log_level level, const char *fmt, va_list ap)
{
	char msg[1024], line[2400], when[40];
	struct timespec now;
	struct tm tm;

	if (log_fd < 0 || (level == LOG_DEBUG && !log_debug_on))
		return;
	vsnprintf(msg, sizeof(msg), fmt, ap);
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
	int n;
	if (log_json) {
		char quoted[2048];
		size_t o = 0;
		for (const char *p = msg; *p && o + 7 < sizeof(quoted); p++) {
			if (*p == '"' || *p == '\\')
				quoted[o++] = '\\', quoted[o++] = *p;
			else if ((unsigned char)*p < 0x20)
				o += (size_t)snprintf(quoted + o, 7, "\\u%04x", *p);
			else
				quoted[o++] = *p;
		}
		quoted[o] = 0;
		n = snprintf(line, sizeof(line),
			     "{\"level\":\"%s\",\"msg\":\"%s\",\"time\":\"%s.%09ldZ\"}\n",
			     level_name[level], quoted, when, now.tv_nsec);
	} else {
		n = snprintf(line, sizeof(line), "%s.%06ldZ %s [%d] %s\n", when, now.tv_nsec / 1000,
			     level_name[level], getpid(), msg);
	}
	if (n > (int)sizeof(line) - 1)
		n = (int)sizeof(line) - 1;
	if (write(log_fd, line, (size_t)n) < 0)
		return; /* a full disk must not stop the sandbox */
}

void log_msg(enum log_level level, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	emit(level, fmt, ap);
	va_end(ap);
}

void log_limited(enum log_level level, const char *fmt, ...)
{
	static _Atomic long second;
	static _Atomic int count;
	struct timespec now;
	va_list ap;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	if (atomic_exchange(&second, now.tv_sec) != now.tv_sec)
		atomic_store(&count, 0);
	if (atomic_fetch_add(&count, 1) >= 10)
		return;
	va_start(ap, fmt);
	emit(level, fmt, ap);
	va_end(ap);
}
