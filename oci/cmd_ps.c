/* `runsc ps`: the processes inside a container, by the numbers that they have there. */
#include <stdio.h>
#include <string.h>

#include "oci/client.h"
#include "oci/cmd.h"
#include "oci/container.h"
#include "sentry/lib/cleanup.h"

static const char *format = "table";
static const struct flag flags[] = {
	FLAG_C("format", &format, "table|json", "how to print; json: only numbers"),
	FLAG_C("f", &format, "table|json", "short for --format"),
};

static void print_table(json_t *list)
{
	json_t *p;
	size_t i;

	printf("UID       PID       PPID      PGID      C         TTY       STIME     TIME      "
	       "CMD\n");
	json_array_foreach(list, i, p)
	{
		static const char *const numbers[] = {"uid", "pid", "ppid", "pgid", "c"};
		static const char *const texts[] = {"tty", "stime", "time"};
		for (size_t k = 0; k < ARRAY_SIZE(numbers); k++)
			printf("%-10lld",
			       (long long)json_integer_value(json_object_get(p, numbers[k])));
		for (size_t k = 0; k < ARRAY_SIZE(texts); k++)
			printf("%-10s", json_string_value(json_object_get(p, texts[k])));
		puts(json_string_value(json_object_get(p, "cmd")));
	}
}

static void print_pids(json_t *list)
{
	json_auto_t *pids = json_array();
	json_t *p;
	size_t i;

	json_array_foreach(list, i, p) json_array_append(pids, json_object_get(p, "pid"));
	json_dumpf(pids, stdout, JSON_COMPACT);
	putchar('\n');
}

static int run(int argc, char **argv, struct err *e)
{
	CLEANUP_STATE struct state s = {0};
	json_auto_t *reply = NULL;

	(void)argc;
	CLEANUP_FD int fd = container_connect(argv[0], &s, e);
	if (fd < 0)
		return fd;
	int err = client_call(fd, json_pack("{s:s}", "cmd", "ps"), NULL, 0, &reply, e);
	if (err)
		return err;
	json_t *list = json_object_get(reply, "processes");
	if (!strcmp(format, "json"))
		print_pids(list);
	else
		print_table(list);
	return 0;
}

/* Engines append options of ps(1): they are about columns that we do not have. */
const struct command cmd_ps = {
	.name = "ps",
	.summary = "list the processes of a container",
	.usage = "<container id> [ps options]",
	.flags = {flags, ARRAY_SIZE(flags)},
	.min_args = 1,
	.max_args = -1,
	.run = run,
};
