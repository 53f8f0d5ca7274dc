/* `runsc list`: the containers of one state directory. */
#include <stdio.h>
#include <string.h>

#include "oci/cmd.h"
#include "oci/container.h"

static bool quiet, sandboxes;
static const char *format = "text";
static const struct flag flags[] = {
	FLAG_B("quiet", &quiet, "only ids"),
	FLAG_B("q", &quiet, "short for --quiet"),
	FLAG_B("sandbox", &sandboxes, "only sandboxes"),
	FLAG_C("format", &format, "text|json", "how to print"),
	FLAG_C("f", &format, "text|json", "short for --format"),
};

struct row {
	const char *text[6];
	char pid[16];
};

static void print_table(const struct row *rows, size_t n)
{
	size_t width[6] = {0};

	for (size_t r = 0; r < n; r++)
		for (int c = 0; c < 6; c++)
			width[c] = MAX(width[c], strlen(rows[r].text[c]) + 3);
	for (size_t r = 0; r < n; r++) {
		for (int c = 0; c < 5; c++)
			printf("%-*s", (int)MAX(width[c], 12UL), rows[r].text[c]);
		puts(rows[r].text[5]);
	}
}

static int run(int argc, char **argv, struct err *e)
{
	struct row rows[1024] = {{.text = {"ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"}}};
	char **ids = state_ids(e);
	json_t *all = json_array();
	size_t n = 1;

	(void)argc;
	(void)argv;
	if (!ids)
		return -EIO;
	for (char **id = ids; *id; id++) {
		struct state s;
		enum status status;
		struct err gone;
		if (container_find(*id, &s, &status, &gone))
			continue;
		if (quiet) {
			puts(*id);
			continue;
		}
		json_t *j = state_json(&s, status);
		json_object_set_new(j, "created", json_string(s.created));
		json_object_set_new(j, "owner", json_string(s.owner));
		if (n < ARRAY_SIZE(rows)) {
			struct row *r = &rows[n++];
			snprintf(r->pid, sizeof(r->pid), "%d",
				 (int)json_integer_value(json_object_get(j, "pid")));
			memcpy(r->text,
			       (const char *[]){s.id, r->pid, status_name(status), s.bundle,
						s.created, s.owner},
			       sizeof(r->text));
		}
		json_array_append_new(all, j);
	}
	if (!quiet && !strcmp(format, "json")) {
		json_dumpf(all, stdout, JSON_COMPACT);
		putchar('\n');
	} else if (!quiet) {
		print_table(rows, n);
	}
	return 0;
}

const struct command cmd_list = {
	.name = "list",
	.summary = "list containers",
	.usage = "",
	.flags = {flags, ARRAY_SIZE(flags)},
	.run = run,
};
