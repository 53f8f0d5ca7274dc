/* `runsc help [topic]`. */
#include <stdio.h>
#include <string.h>

#include "oci/cmd.h"

static int run(int argc, char **argv, struct err *e)
{
	if (argc == 0) {
		usage_print(stdout);
		return 0;
	}
	if (!strcmp(argv[0], "platforms")) {
		printf("systrap (default)\nptrace\n");
		return 0;
	}
	const struct command *c = command_lookup(argv[0]);
	if (!c)
		return err_set(e, -EINVAL, "no help for \"%s\": no such subcommand", argv[0]);
	if (c == &cmd_syscalls)
		return c->run(0, argv, e);
	command_help(c, stdout);
	return 0;
}

const struct command cmd_help = {
	.name = "help",
	.summary = "describe a subcommand, platforms or syscalls",
	.usage = "[subcommand]",
	.max_args = 1,
	.run = run,
};
