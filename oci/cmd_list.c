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

static const struct {
	const char *title, *field;
} columns[] = {{"ID", "id"},	     {"PID", "pid"},	     {"STATUS", "status"},
	       {"BUNDLE", "bundle"}, {"CREATED", "created"}, {"OWNER", "owner"}};

#define NCOLUMNS ARRAY_SIZE(columns)

static const char *cell(const json_t *container, size_t column, char *buf, size_t size)
{
	const json_t *j = json_object_get(container, columns[column].field);

	if (json_is_string(j))
		return json_string_value(j);
	snprintf(buf, size, "%d", (int)json_integer_value(j));
	return buf;
}

/* As tables of runc: columns three apart, twelve wide at least. */
static void print_table(const json_t *all)
{
	int width[NCOLUMNS];
	char buf[16];
	const json_t *j;
	size_t i;

	for (size_t c = 0; c < NCOLUMNS; c++) {
		size_t w = strlen(columns[c].title);
		json_array_foreach(all, i, j) w = MAX(w, strlen(cell(j, c, buf, sizeof(buf))));
		width[c] = c + 1 == NCOLUMNS ? 0 : (int)MAX(w + 3, 12UL);
	}
	for (size_t c = 0; c < NCOLUMNS; c++)
		printf("%-*s%s", width[c], columns[c].title, c + 1 == NCOLUMNS ? "\n" : "");
	json_array_foreach(all, i, j)
	{
		for (size_t c = 0; c < NCOLUMNS; c++)
			printf("%-*s%s", width[c], cell(j, c, buf, sizeof(buf)),
			       c + 1 == NCOLUMNS ? "\n" : "");
	}
}

static json_t *describe(const char *id)
{
	CLEANUP_STATE struct state s = {0};
	enum status status;
	struct err gone;

	if (container_find(id, &s, &status, &gone))
		return NULL;
	json_t *j = state_json(&s, status);
	json_object_set_new(j, "created", json_string(s.created));
	json_object_set_new(j, "owner", json_string(s.owner));
	return j;
}

static int run(int argc, char **argv, struct err *e)
{
	json_auto_t *all = json_array();
	char **ids = state_ids(e);
	const json_t *j;
	size_t i;

	(void)argc;
	(void)argv;
	if (!ids)
		return -EIO;
	for (char **id = ids; *id; id++)
		json_array_append_new(all, describe(*id)); /* NULL, of one just deleted, is not */
	state_ids_free(ids);
	if (quiet) {
		json_array_foreach(all, i, j) puts(json_string_value(json_object_get(j, "id")));
	} else if (!strcmp(format, "json")) {
		/* Of none "null", as runc says it. */
		if (json_array_size(all))
			json_dumpf(all, stdout, JSON_COMPACT);
		else
			fputs("null", stdout);
		putchar('\n');
	} else {
		print_table(all);
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
