#include "sentry/fs/synth/text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Makes room for n more bytes and a NUL. */
static bool text_reserve(struct text *t, size_t n)
{
	if (t->failed)
		return false;
	if (n < t->cap && t->len < t->cap - n)
		return true;
	if (n > TEXT_MAX || t->len + n + 1 > TEXT_MAX) {
		t->failed = true;
		return false;
	}
	size_t cap = t->cap ? t->cap : 256;
	while (cap <= t->len + n)
		cap *= 2;
	char *buf = realloc(t->buf, cap);
	if (!buf) {
		t->failed = true;
		return false;
	}
	t->buf = buf;
	t->cap = cap;
	return true;
}

void text_put(struct text *t, const void *bytes, size_t n)
{
	if (!text_reserve(t, n))
		return;
	if (n)
		memcpy(t->buf + t->len, bytes, n);
	t->len += n;
	t->buf[t->len] = '\0';
}

void text_puts(struct text *t, const char *s)
{
	text_put(t, s, strlen(s));
}

void text_putc(struct text *t, char c)
{
	text_put(t, &c, 1);
}

void text_printf(struct text *t, const char *fmt, ...)
{
	/* Most lines fit at the first try. */
	if (!text_reserve(t, 127))
		return;
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(t->buf + t->len, t->cap - t->len, fmt, ap);
	va_end(ap);
	if (n < 0) {
		t->failed = true;
		return;
	}
	if ((size_t)n >= t->cap - t->len) {
		if (!text_reserve(t, n))
			return;
		va_start(ap, fmt);
		n = vsnprintf(t->buf + t->len, t->cap - t->len, fmt, ap);
		va_end(ap);
	}
	t->len += n;
}

void text_put_escaped(struct text *t, const char *s, size_t n, const char *set)
{
	for (size_t i = 0; i < n; i++) {
		if (s[i] == '\\' || (s[i] && strchr(set, s[i])))
			text_printf(t, "\\%03o", (unsigned char)s[i]);
		else
			text_putc(t, s[i]);
	}
}

void text_pad(struct text *t, size_t col)
{
	size_t start = t->len;
	while (start > 0 && t->buf[start - 1] != '\n')
		start--;
	while (!t->failed && t->len - start < col)
		text_putc(t, ' ');
}

int text_error(const struct text *t)
{
	return t->failed ? -ENOMEM : 0;
}

void text_fini(struct text *t)
{
	free(t->buf);
	*t = (struct text)TEXT_INIT;
}
