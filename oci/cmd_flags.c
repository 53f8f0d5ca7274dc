/* `runsc flags`: the global flags. */
#include "oci/cmd.h"

static int run(int argc, char **argv, struct err *e)
{
	(void)argc;
	(void)argv;
	(void)e;
	flags_print(&config_flags, stdout);
	return 0;
}

const struct command cmd_flags = {
	.name = "flags",
	.summary = "list the global flags",
	.usage = "",
	.run = run,
};
