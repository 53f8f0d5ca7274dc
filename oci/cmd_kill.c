/* `runsc kill`: a signal to a container's first process, or to others of it. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "oci/client.h"
#include "oci/cmd.h"
#include "oci/container.h"
#include "sentry/lib/cleanup.h"

static bool all;
static int pid, pgid;
static const struct flag flags[] = {
	FLAG_B("all", &all, "all processes of the container"),
	FLAG_B("a", &all, "short for --all"),
	FLAG_I("pid", &pid, "only this process (number inside the container)"),
	FLAG_I("pgid", &pgid, "only this process group (number inside the container)"),
};

/* A number, or a name with or without SIG, RTMIN+n among them. */
static int parse_signal(const char *text, struct err *e)
{
	char *end;
	long n = strtol(text, &end, 10);

	if (*text && !*end && n >= 0 && n <= 64)
		return (int)n;
	const char *name = strncasecmp(text, "SIG", 3) ? text : text + 3;
	for (int s = 1; s < 32; s++)
		if (!strcasecmp(name, sigabbrev_np(s)))
			return s;
	if (!strcasecmp(name, "IOT"))
		return SIGABRT;
	if (!strcasecmp(name, "CLD"))
		return SIGCHLD;
	for (int r = 34; r <= 64; r++) {
		char rt[16];
		snprintf(rt, sizeof(rt), r < 50 ? "RTMIN+%d" : "RTMAX-%d",
			 r < 50 ? r - 34 : 64 - r);
		if (!strcasecmp(name, rt))
			return r;
	}
	if (!strcasecmp(name, "RTMIN") || !strcasecmp(name, "RTMAX"))
		return strcasecmp(name, "RTMIN") ? 64 : 34;
	return err_set(e, -EINVAL, "unknown signal \"%s\"", text);
}

static int run(int argc, char **argv, struct err *e)
{
	CLEANUP_STATE struct state s = {0};
	const char *mode = all ? "all" : pid ? "pid" : pgid ? "pgid" : "init";

	if (all + !!pid + !!pgid > 1)
		return err_set(e, -EINVAL, "--all, --pid and --pgid exclude each other");
	int signo = argc > 1 ? parse_signal(argv[1], e) : SIGTERM;
	if (signo < 0)
		return signo;
	CLEANUP_FD int fd = container_connect(argv[0], &s, e);
	if (fd == -ESRCH && all)
		return 0; /* as runc: nobody is left to get it */
	if (fd < 0)
		return fd;
	return client_do(fd,
			 json_pack("{s:s, s:s, s:i, s:i}", "cmd", "signal", "mode", mode, "pid",
				   pid ? pid : pgid, "signo", signo),
			 e);
}

const struct command cmd_kill = {
	.name = "kill",
	.summary = "send a signal to a container",
	.usage = "<container id> [signal]",
	.flags = {flags, ARRAY_SIZE(flags)},
	.min_args = 1,
	.max_args = 2,
	.run = run,
};
