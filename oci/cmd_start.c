/* `runsc start`: runs the program of a created container. */
#include "oci/cmd.h"
#include "oci/container.h"

static int run(int argc, char **argv, struct err *e)
{
	(void)argc;
	return container_start(argv[0], e);
}

const struct command cmd_start = {
	.name = "start",
	.summary = "start a created container",
	.usage = "<container id>",
	.min_args = 1,
	.max_args = 1,
	.run = run,
};
