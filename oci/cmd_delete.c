/* `runsc delete`: removes what is left of containers. */
#include "oci/cmd.h"
#include "oci/container.h"

static bool force;
static const struct flag flags[] = {
	FLAG_B("force", &force, "kill the container first if it runs"),
	FLAG_B("f", &force, "short for --force"),
};

static int run(int argc, char **argv, struct err *e)
{
	for (int i = 0; i < argc; i++) {
		int err = container_delete(argv[i], force, e);
		if (err)
			return err;
	}
	return 0;
}

const struct command cmd_delete = {
	.name = "delete",
	.summary = "delete containers",
	.usage = "<container id>...",
	.flags = {flags, ARRAY_SIZE(flags)},
	.min_args = 1,
	.max_args = -1,
	.run = run,
};
