/* `runsc wait`: waits for the end of a container, or of a process in it. */
#include <stdio.h>

#include "oci/client.h"
#include "oci/cmd.h"
#include "oci/container.h"
#include "oci/run.h"
#include "sentry/lib/cleanup.h"

static int rootpid, pid;
static const struct flag flags[] = {
	FLAG_I("pid", &pid, "a process, by its number inside the container"),
	FLAG_I("rootpid", &rootpid, "the same"),
};

static int ask(const char *id, int *status, struct err *e)
{
	CLEANUP_STATE struct state s = {0};
	json_auto_t *reply = NULL;

	CLEANUP_FD int fd = container_connect(id, &s, e);
	if (fd < 0)
		return fd;
	int err =
		client_call(fd, json_pack("{s:s, s:i}", "cmd", "wait", "pid", pid ? pid : rootpid),
			    NULL, 0, &reply, e);
	if (err)
		return err;
	return json_unpack(reply, "{s:i}", "status", status)
		       ? err_set(e, -EPROTO, "the sandbox sent no status")
		       : 0;
}

static int run(int argc, char **argv, struct err *e)
{
	int status;

	(void)argc;
	int err = ask(argv[0], &status, e);
	/* Stopped, or about to be; another process's status went with the sandbox. */
	if ((err == -ESRCH || err == -ECONNREFUSED || err == -ECONNRESET) && !pid && !rootpid)
		err = state_status_read(argv[0], &status, e);
	if (err)
		return err;
	printf("{\"id\":\"%s\",\"exitStatus\":%d}\n", argv[0], exit_code(status));
	return 0;
}

const struct command cmd_wait = {
	.name = "wait",
	.summary = "wait for a container's end and print its status as JSON",
	.usage = "<container id>",
	.flags = {flags, ARRAY_SIZE(flags)},
	.min_args = 1,
	.max_args = 1,
	.run = run,
};
