/* `runsc gofer`: the process that opens host files.  Internal; see ns.h and gofer/gofer.h. */
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#include "oci/cmd.h"
#include "oci/internal.h"
#include "oci/ns.h"
#include "sentry/lib/log.h"

static int config_fd = -1;
static const struct flag flags[] = {FLAG_I("config-fd", &config_fd, "configuration")};

static int run(int argc, char **argv, struct err *e)
{
	struct gofer_config c;
	char *text;
	size_t len;

	(void)argc;
	(void)argv;
	int err = internal_read_config(config_fd, &text, &len, e);
	if (err)
		return err;
	if ((err = internal_gofer_decode(text, len, &c)))
		return err_set(e, err, "malformed configuration");
	free(text);
	tzset(); /* the log's times, while /etc is there */
	prctl(PR_SET_NAME, "runsc-gofer");
	log_open(c.log_fd, strcmp(config.log_format, "text") != 0);
	log_set_debug(config.debug);
	if ((err = ns_private_mounts(e)))
		return err;
	if ((err = gofer_main(&c)))
		return err_errno(e, err, "gofer");
	return 0;
}

const struct command cmd_gofer = {
	.name = "gofer",
	.usage = "",
	.flags = {flags, ARRAY_SIZE(flags)},
	.run = run,
};
