/* `runsc create`: everything but running the program. */
#include "oci/cmd.h"
#include "oci/container.h"

static const char *bundle = ".", *console_socket = "", *pid_file = "";
static const struct flag flags[] = {
	FLAG_S("bundle", &bundle, "directory of config.json"),
	FLAG_S("b", &bundle, "short for --bundle"),
	FLAG_S("console-socket", &console_socket, "unix socket that gets the terminal's master"),
	FLAG_S("pid-file", &pid_file, "file to write the sandbox's process id to"),
	FLAG_NONE("user-log", FLAG_STRING, "log for the user"),
	FLAG_SKIP("no-pivot", FLAG_BOOL),
	FLAG_SKIP("no-new-keyring", FLAG_BOOL),
	FLAG_SKIP("preserve-fds", FLAG_INT),
};

static int run(int argc, char **argv, struct err *e)
{
	const struct create_options o = {.id = argv[0],
					 .bundle = bundle,
					 .console_socket = console_socket,
					 .pid_file = pid_file};
	struct sandbox sb;

	(void)argc;
	return container_create(&o, &sb, e);
}

const struct command cmd_create = {
	.name = "create",
	.summary = "create a container, without starting it",
	.usage = "<container id>",
	.flags = {flags, ARRAY_SIZE(flags)},
	.min_args = 1,
	.max_args = 1,
	.run = run,
};
