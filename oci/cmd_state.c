/* `runsc state`: the OCI state object. */
#include <stdio.h>

#include "oci/cmd.h"
#include "oci/container.h"

static int run(int argc, char **argv, struct err *e)
{
	struct state s;
	enum status status;

	(void)argc;
	int err = container_find(argv[0], &s, &status, e);
	if (err)
		return err;
	json_dumpf(state_json(&s, status), stdout, JSON_INDENT(2));
	putchar('\n');
	return 0;
}

const struct command cmd_state = {
	.name = "state",
	.summary = "print the state of a container as JSON",
	.usage = "<container id>",
	.min_args = 1,
	.max_args = 1,
	.run = run,
};
