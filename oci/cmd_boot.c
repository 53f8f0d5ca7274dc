/*
 * `runsc boot`: the sentry's process, from the exec to the kernel.  Internal; see ns.h and boot.h.
 *
 * The order matters.  What needs the host's files; then the ids, since that clears "dumpable"; then
 * everything that needs capabilities (procfs, empty root); then none are left, neither here nor in
 * the zygote that boot_prepare() forks, so that its guests stay readable for us; then "not
 * dumpable" for the sentry alone, and the filter.  The zygote is forked in the empty root, but
 * before the old one is gone and our own capabilities are: the host takes half a millisecond to
 * detach mounts, and the zygote about as long to start.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "oci/cmd.h"
#include "oci/internal.h"
#include "oci/ns.h"
#include "sentry/boot/boot.h"
#include "sentry/lib/log.h"

static int config_fd = -1;
static const struct flag flags[] = {FLAG_I("config-fd", &config_fd, "configuration")};

/* Guests go first when memory is short: the zygote and its children keep the highest score. */
static int oom_score_open(int proc_fd)
{
	return openat(proc_fd, "self/oom_score_adj", O_RDWR | O_CLOEXEC);
}

static void oom_score_write(int fd, const char *score)
{
	if (fd >= 0 && pwrite(fd, score, strlen(score), 0) < 0)
		log_debug("oom_score_adj: cannot write %s", score);
}

static void raise_limits(struct boot_config *c)
{
	struct rlimit r;

	/* Raised by whoever started us, if he could: ns_spawn. */
	c->passes_nice = !getrlimit(RLIMIT_NICE, &r) && r.rlim_cur >= NS_NICE_LIMIT;

	if (!getrlimit(RLIMIT_NOFILE, &r)) {
		r.rlim_cur = r.rlim_max;
		setrlimit(RLIMIT_NOFILE, &r);
	}
	/* 1, not 0: 0 still starts a core handler that reads from a pipe. */
	r.rlim_cur = r.rlim_max = 1;
	setrlimit(RLIMIT_CORE, &r);
}

/* Killed with its starter: before that, see that the starter is still there. */
static int tie_to_starter(int owner_fd)
{
	struct pollfd p = {.fd = owner_fd, .events = POLLIN};

	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0))
		return -errno;
	return poll(&p, 1, 0) > 0 && p.revents & POLLHUP ? -ECONNRESET : 0;
}

/* The zygote's: in its process, before it executes. */
static int drop_caps(void)
{
	struct err ignored;

	return ns_drop_caps(&ignored);
}

static int shut_in(struct boot_config *c, struct err *e)
{
	char old_score[16] = "0";

	raise_limits(c);
	int err = boot_begin(c); /* still with the ids that own the standard streams */
	if (err)
		return err_errno(e, err, "starting the sentry");
	if ((err = ns_take_ids(e)))
		return err;
	if ((err = ns_private_mounts(e)))
		return err;
	c->proc_fd = ns_proc_open(e);
	if (c->proc_fd < 0) {
		log_warn("%s: memory figures of guests will be estimates", e->msg);
		c->proc_fd = -1;
	}
	if ((err = ns_empty_root(e)))
		return err;

	int oom = oom_score_open(c->proc_fd);
	ssize_t n = oom >= 0 ? pread(oom, old_score, sizeof(old_score) - 1, 0) : 0;
	old_score[n > 0 ? n : 1] = 0;
	oom_score_write(oom, "1000");
	err = boot_prepare(c, drop_caps);
	oom_score_write(oom, old_score);
	if (oom >= 0)
		close(oom);
	if (err)
		return err_errno(e, err, "preparing platform %s", c->platform);
	/* While the zygote starts. */
	if ((err = ns_leave_old_root(e)) || (err = ns_drop_caps(e)))
		return err;
	if (c->foreground && (err = tie_to_starter(c->owner_fd)))
		return err_errno(e, err, "waiting for the starting process");
	if ((err = boot_ready()))
		return err_errno(e, err, "preparing platform %s", c->platform);
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
		return err_errno(e, -errno, "prctl(PR_SET_DUMPABLE)");
	return 0;
}

/* The one who started us is told through the control connection: it prints it. */
static int report(const struct boot_config *c, const struct err *e)
{
	char text[2300] = "{\"ok\":false,\"error\":\"";
	size_t o = strlen(text);

	for (const char *p = e->msg; *p && o + 8 < sizeof(text); p++) {
		if (*p == '"' || *p == '\\')
			text[o++] = '\\';
		text[o++] = (unsigned char)*p < 0x20 ? ' ' : *p;
	}
	o += (size_t)snprintf(text + o, sizeof(text) - o, "\"}");
	log_warn("%s", e->msg);
	return control_send(c->owner_fd, text, o, NULL, 0);
}

static int run(int argc, char **argv, struct err *e)
{
	struct boot_config *c;
	char *text;
	size_t len;

	(void)argc;
	(void)argv;
	int err = internal_read_config(config_fd, &text, &len, e);
	if (err)
		return err;
	err = boot_config_decode(text, len, &c);
	memset(text, 0, len);
	free(text);
	if (err)
		return err_set(e, err, "malformed configuration");
	prctl(PR_SET_NAME, "runsc-sandbox");
	log_open(c->log_fd, c->log_json);
	log_set_debug(c->debug || c->strace);
	log_debug("boot: configuration read");
	if ((err = shut_in(c, e))) {
		if (report(c, e))
			log_warn("cannot report the failure");
		return EXIT_OWN_FAILURE;
	}
	log_debug("boot: platform prepared, shut in");
	if ((err = boot_confine(c))) {
		err_errno(e, err, "installing the system call filter");
		if (report(c, e))
			log_warn("cannot report the failure");
		return EXIT_OWN_FAILURE;
	}
	int status = boot_run(c);
	/* boot_run has reported its failures itself. */
	return status < 0	     ? EXIT_OWN_FAILURE
	       : WIFSIGNALED(status) ? 128 + WTERMSIG(status)
				     : WEXITSTATUS(status);
}

const struct command cmd_boot = {
	.name = "boot",
	.usage = "",
	.flags = {flags, ARRAY_SIZE(flags)},
	.run = run,
};
