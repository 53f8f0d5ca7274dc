/* `runsc state`: the OCI state object. */
#include <stdio.h>

#include "oci/cmd.h"
#include "oci/container.h"

static int run(int argc, char **argv, struct err *e)
{
	CLEANUP_STATE struct state s = {0};
	enum status status;

	(void)argc;
	int err = container_find(argv[0], &s, &status, e);
	if (err)
		return err;
	json_auto_t *j = state_json(&s, status);
	json_dumpf(j, stdout, JSON_INDENT(2));
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
