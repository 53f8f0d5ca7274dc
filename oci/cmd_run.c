/* `runsc run`: create, start, wait, delete. */
#include "oci/cmd.h"
#include "oci/container.h"
#include "oci/run.h"

static const char *bundle = ".", *console_socket = "", *pid_file = "";
static bool detach, keep;
static const struct flag flags[] = {
	FLAG_S("bundle", &bundle, "directory of config.json"),
	FLAG_S("b", &bundle, "short for --bundle"),
	FLAG_S("console-socket", &console_socket, "unix socket that gets the terminal's master"),
	FLAG_S("pid-file", &pid_file, "file to write the sandbox's process id to"),
	FLAG_B("detach", &detach, "return when the container runs"),
	FLAG_B("d", &detach, "short for --detach"),
	FLAG_B("keep", &keep, "keep the container's state when it has ended"),
	FLAG_NONE("user-log", FLAG_STRING, "log for the user"),
	FLAG_SKIP("no-pivot", FLAG_BOOL),
	FLAG_SKIP("no-new-keyring", FLAG_BOOL),
	FLAG_SKIP("no-subreaper", FLAG_BOOL),
	FLAG_SKIP("preserve-fds", FLAG_INT),
};

static int run(int argc, char **argv, struct err *e)
{
	const struct create_options o = {.id = argv[0],
					 .bundle = bundle,
					 .console_socket = console_socket,
					 .pid_file = pid_file,
					 .foreground = !detach};
	struct sandbox sb;
	struct err ignored;

	(void)argc;
	if (!detach)
		signals_hold();
	int code = container_create(&o, &sb, e);
	if (code)
		return code;
	if (!detach)
		code = foreground_ask(sb.owner_fd, 0, e);
	if (!code)
		code = container_start(o.id, e);
	if (!code && !detach) {
		code = foreground_wait(sb.owner_fd, 0, &sb, o.id, e);
		sandbox_reap(&sb);
	}
	if ((code < 0 || !detach) && !keep && container_delete(o.id, true, &ignored))
		return code < 0 ? code : err_set(e, -EIO, "%s", ignored.msg);
	return code;
}

const struct command cmd_run = {
	.name = "run",
	.summary = "create and start a container, and wait for its end",
	.usage = "<container id>",
	.flags = {flags, ARRAY_SIZE(flags)},
	.min_args = 1,
	.max_args = 1,
	.run = run,
};
