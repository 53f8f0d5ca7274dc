/* runsc: the command line.  Global flags, then a command of the table in cmd.h. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "oci/cmd.h"

static const struct command *const commands[] = {
#define X(name) &cmd_##name,
	COMMANDS(X)
#undef X
};

const struct command *command_lookup(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (!strcmp(commands[i]->name, name))
			return commands[i];
	return NULL;
}

void usage_print(FILE *out)
{
	fprintf(out, "Usage: runsc <flags> <subcommand> <subcommand args>\n\nSubcommands:\n");
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (commands[i]->summary)
			fprintf(out, "\t%-16s %s\n", commands[i]->name, commands[i]->summary);
	fprintf(out, "\nUse \"runsc flags\" for a list of top-level flags\n");
}

void command_help(const struct command *c, FILE *out)
{
	fprintf(out, "%s [flags]%s%s - %s\n", c->name, *c->usage ? " " : "", c->usage,
		c->summary ? c->summary : "internal");
	flags_print(&c->flags, out);
}

static int fail(const struct err *e)
{
	fprintf(stderr, "%s\n", e->msg);
	config_log_error(e->msg);
	return EXIT_OWN_FAILURE;
}

static int run(const struct command *c, int argc, char **argv, struct err *e)
{
	int n = flags_parse(&c->flags, argc, argv, e, config_no_effect);
	if (n == -ECANCELED) {
		command_help(c, stdout);
		return 0;
	}
	if (n < 0)
		return err_wrap(e, n, "%s", c->name);
	int err = config_finish(c->name, e);
	if (err)
		return err;
	argc -= n;
	argv += n;
	if (argc < c->min_args || (c->max_args >= 0 && argc > c->max_args))
		return err_set(e, -EINVAL, "usage: runsc %s [flags]%s%s", c->name,
			       *c->usage ? " " : "", c->usage);
	return c->run(argc, argv, e);
}

int main(int argc, char **argv)
{
	struct err e = {""};

	/* A dead peer is an error to report, not a reason to die silently. */
	signal(SIGPIPE, SIG_IGN);
	int n = flags_parse(&config_flags, argc - 1, argv + 1, &e, config_no_effect);
	if (n == -ECANCELED) {
		usage_print(stdout);
		return 0;
	}
	if (n < 0)
		return fail(&e);
	if (config.version) {
		printf("runsc version %s\nspec: %s\n", RUNSC_VERSION, OCI_SPEC_VERSION);
		return 0;
	}
	argc -= 1 + n;
	argv += 1 + n;
	if (argc == 0) {
		usage_print(stderr);
		return EXIT_OWN_FAILURE;
	}
	const struct command *c = command_lookup(argv[0]);
	if (!c) {
		err_set(&e, -EINVAL, "unknown subcommand \"%s\"", argv[0]);
		return fail(&e);
	}
	int code = run(c, argc - 1, argv + 1, &e);
	return code < 0 ? fail(&e) : code;
}
