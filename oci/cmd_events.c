/* `runsc events`: what a container uses, once or every few seconds, in the form that runc has. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "oci/client.h"
#include "oci/cmd.h"
#include "oci/container.h"
#include "sentry/lib/cleanup.h"

#define INTERVAL_MAX 86400

static bool once;
static const char *interval = "5s";
static const struct flag flags[] = {
	FLAG_B("stats", &once, "print what it uses now, and end"),
	FLAG_S("interval", &interval, "seconds between two lines: 5, 5s"),
};

static int parse_interval(unsigned *seconds, struct err *e)
{
	char *end;
	unsigned long n = strtoul(interval, &end, 10);

	if (end == interval || *interval == '-' || (*end && strcmp(end, "s") != 0) || !n ||
	    n > INTERVAL_MAX)
		return err_set(e, -EINVAL, "--interval: \"%s\" is no number of seconds", interval);
	*seconds = (unsigned)n;
	return 0;
}

static json_int_t number(json_t *usage, const char *name)
{
	return json_integer_value(json_object_get(usage, name));
}

/* Limits are the host's cgroup's, which is not ours to look into: 0 is "unknown". */
static json_t *event(const char *id, json_t *u)
{
	json_int_t user = number(u, "cpuUser"), system = number(u, "cpuSystem");
	json_int_t memory = number(u, "memory");
	json_t *none =
		json_pack("{s:i, s:i, s:i, s:i}", "limit", 0, "usage", 0, "max", 0, "failcnt", 0);
	json_t *cpu = json_pack("{s:{s:I, s:I, s:I, s:[]}}", "usage", "total", user + system,
				"kernel", system, "user", user, "percpu");
	json_t *mem = json_pack("{s:i, s:{s:i, s:I, s:I, s:i}, s:O, s:O, s:O, s:{}}", "cache", 0,
				"usage", "limit", 0, "usage", memory, "max", memory, "failcnt", 0,
				"swap", none, "kernel", none, "kernelTCP", none, "raw");

	json_decref(none);
	return json_pack("{s:s, s:s, s:{s:o, s:o, s:{s:I, s:i}, s:[]}}", "type", "stats", "id", id,
			 "data", "cpu", cpu, "memory", mem, "pids", "current", number(u, "pids"),
			 "limit", 0, "network_interfaces");
}

static int print_one(int fd, const char *id, struct err *e)
{
	json_auto_t *reply = NULL;
	int err = client_call(fd, json_pack("{s:s}", "cmd", "usage"), NULL, 0, &reply, e);

	if (err)
		return err;
	json_auto_t *j = event(id, json_object_get(reply, "usage"));
	if (!j)
		return err_set(e, -ENOMEM, "out of memory");
	json_dumpf(j, stdout, JSON_COMPACT);
	putchar('\n');
	return fflush(stdout) ? err_errno(e, -errno, "writing") : 0;
}

static int run(int argc, char **argv, struct err *e)
{
	CLEANUP_STATE struct state s = {0};
	unsigned seconds = 0;
	int err = parse_interval(&seconds, e);

	(void)argc;
	if (err)
		return err;
	CLEANUP_FD int fd = container_connect(argv[0], &s, e);
	if (fd < 0)
		return fd;
	err = print_one(fd, s.id, e);
	while (!err && !once) {
		sleep(seconds);
		err = print_one(fd, s.id, e);
	}
	/* The end of the container is the end of its events. */
	return err == -ECONNRESET && !once ? 0 : err;
}

const struct command cmd_events = {
	.name = "events",
	.summary = "show what a container uses",
	.usage = "<container id>",
	.flags = {flags, ARRAY_SIZE(flags)},
	.min_args = 1,
	.max_args = 1,
	.run = run,
};
