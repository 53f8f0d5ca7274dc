/* The #! line of a script, read as Linux's binfmt_script reads it. */
#include <errno.h>
#include <string.h>

#include "sentry/loader/elf.h"

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* A name ends at a blank or at a NUL, which also stands for the end of a short file. */
static bool ends_word(char c)
{
	return is_blank(c) || c == '\0';
}

static size_t skip_blanks(const char *buf, size_t at, size_t end)
{
	while (at < end && is_blank(buf[at]))
		at++;
	return at;
}

static size_t skip_word(const char *buf, size_t at, size_t end)
{
	while (at < end && !ends_word(buf[at]))
		at++;
	return at;
}

int script_parse(const char buf[SCRIPT_BUF_SIZE], struct script_line *out)
{
	if (buf[0] != '#' || buf[1] != '!')
		return -ENOEXEC;

	size_t end;
	const char *newline = memchr(buf, '\n', SCRIPT_BUF_SIZE);
	if (newline) {
		end = (size_t)(newline - buf);
	} else {
		/* Without a newline the interpreter's name must at least be known to end. */
		size_t name = skip_blanks(buf, 2, SCRIPT_BUF_SIZE);
		if (skip_word(buf, name, SCRIPT_BUF_SIZE) == SCRIPT_BUF_SIZE)
			return -ENOEXEC;
		end = SCRIPT_BUF_SIZE - 1;
	}
	while (end > 2 && is_blank(buf[end - 1]))
		end--;

	size_t name = skip_blanks(buf, 2, end);
	if (name == end)
		return -ENOEXEC;
	/* A NUL here is an empty name, which is then not found. */
	size_t name_end = skip_word(buf, name, end);
	*out = (struct script_line){.interp_off = name, .interp_len = name_end - name};
	if (name_end < end && buf[name_end] != '\0') {
		size_t arg = skip_blanks(buf, name_end, end);
		out->arg_off = arg;
		out->arg_len = strnlen(buf + arg, end - arg);
	}
	return 0;
}
