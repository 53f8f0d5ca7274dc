/* `runsc debug`: a look into a running sandbox. */
#include <stdio.h>

#include "oci/client.h"
#include "oci/cmd.h"
#include "oci/container.h"
#include "sentry/lib/cleanup.h"

static bool stacks, ps, stats;
static int signo = -1;
static const struct flag flags[] = {
	FLAG_B("stacks", &stacks, "tasks of the sentry, and where each guest thread stands"),
	FLAG_B("ps", &ps, "processes"),
	FLAG_B("stats", &stats, "how system calls came to the sentry, and what it did for that"),
	FLAG_I("signal", &signo, "signal to send to the container's first process"),
	FLAG_NONE("strace", FLAG_STRING, "switch tracing of system calls"),
	FLAG_NONE("log-level", FLAG_STRING, "change the level of logging"),
	FLAG_NONE("log-packets", FLAG_STRING, "switch logging of packets"),
	FLAG_NONE("profile-cpu", FLAG_STRING, "CPU profile"),
	FLAG_NONE("profile-heap", FLAG_STRING, "heap profile"),
	FLAG_NONE("delay", FLAG_STRING, "before profiles"),
	FLAG_NONE("duration", FLAG_STRING, "of profiles"),
};

static int run(int argc, char **argv, struct err *e)
{
	CLEANUP_STATE struct state s = {0};
	json_auto_t *reply = NULL;
	int err = 0;

	(void)argc;
	CLEANUP_FD int fd = container_connect(argv[0], &s, e);
	if (fd < 0)
		return fd;
	if (signo >= 0)
		err = client_do(fd,
				json_pack("{s:s, s:s, s:i}", "cmd", "signal", "mode", "init",
					  "signo", signo),
				e);
	if (!err && ps &&
	    !(err = client_call(fd, json_pack("{s:s}", "cmd", "ps"), NULL, 0, &reply, e))) {
		json_dumpf(json_object_get(reply, "processes"), stdout, JSON_INDENT(2));
		putchar('\n');
	}
	json_decref(reply);
	reply = NULL;
	if (!err && stats &&
	    !(err = client_call(fd, json_pack("{s:s}", "cmd", "stats"), NULL, 0, &reply, e)))
		fputs(json_string_value(json_object_get(reply, "text")), stdout);
	json_decref(reply);
	reply = NULL;
	if (!err && stacks &&
	    !(err = client_call(fd, json_pack("{s:s}", "cmd", "stacks"), NULL, 0, &reply, e)))
		fputs(json_string_value(json_object_get(reply, "text")), stdout);
	return err;
}

const struct command cmd_debug = {
	.name = "debug",
	.summary = "show what a sandbox is doing",
	.usage = "<container id>",
	.flags = {flags, ARRAY_SIZE(flags)},
	.min_args = 1,
	.max_args = 1,
	.run = run,
};
