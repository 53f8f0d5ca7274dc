/* `runsc syscalls`: the table of system calls, as the sentry dispatches them. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "oci/cmd.h"
#include "syscalls/syscalls.h"

static const char *format = "table", *os_name = "linux", *arch = "amd64";
static const struct flag flags[] = {
	FLAG_C("format", &format, "table|csv|json", "how to print"),
	FLAG_C("os", &os_name, "linux|all", "operating system"),
	FLAG_C("arch", &arch, "amd64|x86_64|all", "architecture"),
};

static const char *level_name(const struct syscall_desc *d)
{
	static const char *const names[] = {
		[SUPPORT_FULL] = "full",
		[SUPPORT_PARTIAL] = "partial",
		[SUPPORT_STUB] = "stub",
		[SUPPORT_NONE] = "none",
	};

	return names[d->level];
}

static const char *note(const struct syscall_desc *d, char *buf, size_t size)
{
	const char *text = d->note ? d->note : "";

	if (d->level == SUPPORT_NONE)
		snprintf(buf, size, "%s%s%s", strerrorname_np(d->none_errno), *text ? "; " : "",
			 text);
	else
		snprintf(buf, size, "%s", text);
	return buf;
}

static void print_csv(const char *s)
{
	if (!strpbrk(s, ",\"\n")) {
		fputs(s, stdout);
		return;
	}
	putchar('"');
	for (; *s; s++)
		printf(*s == '"' ? "\"\"" : "%c", *s);
	putchar('"');
}

static int run(int argc, char **argv, struct err *e)
{
	bool csv = !strcmp(format, "csv"), json = !strcmp(format, "json");
	json_t *all = json_array();
	char buf[512];

	(void)argc;
	(void)argv;
	(void)e;
	if (csv)
		printf("number,name,support,note\n");
	else if (!json)
		printf("| number | name | support | note |\n|---:|---|---|---|\n");
	for (uint64_t nr = 0; nr < SYSCALL_MAX; nr++) {
		const struct syscall_desc *d = syscall_lookup(nr);
		if (!d)
			continue;
		note(d, buf, sizeof(buf));
		if (json) {
			json_array_append_new(all, json_pack("{s:i, s:s, s:s, s:s}", "number",
							     d->nr, "name", d->name, "support",
							     level_name(d), "note", buf));
		} else if (csv) {
			printf("%d,%s,%s,", d->nr, d->name, level_name(d));
			print_csv(buf);
			putchar('\n');
		} else {
			printf("| %d | %s | %s | %s |\n", d->nr, d->name, level_name(d), buf);
		}
	}
	if (json) {
		json_dumpf(all, stdout, JSON_INDENT(2));
		putchar('\n');
	}
	return 0;
}

const struct command cmd_syscalls = {
	.name = "syscalls",
	.summary = "print which system calls are supported",
	.usage = "",
	.flags = {flags, ARRAY_SIZE(flags)},
	.run = run,
};
