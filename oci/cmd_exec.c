/*
 * `runsc exec`: a further process in a running container.
 *
 * Engines watch a host process: with --detach we leave a child behind that waits for the guest's
 * process and ends with its exit code; --pid-file names that child.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "oci/client.h"
#include "oci/cmd.h"
#include "oci/console.h"
#include "oci/container.h"
#include "oci/process.h"
#include "oci/run.h"
#include "sentry/lib/cleanup.h"

static const char *process_file = "", *pid_file = "", *internal_pid_file = "", *console_socket = "",
		  *cwd = "", *user = "", *gids = "";
static bool detach, tty, no_new_privs;
static struct flag_list env, caps;
static const struct flag flags[] = {
	FLAG_S("process", &process_file, "file with an OCI process object"),
	FLAG_S("p", &process_file, "short for --process"),
	FLAG_S("pid-file", &pid_file, "file for the number of the waiting host process"),
	FLAG_S("internal-pid-file", &internal_pid_file,
	       "file for the number that the process has in the container"),
	FLAG_S("console-socket", &console_socket, "unix socket that gets the terminal's master"),
	FLAG_B("detach", &detach, "return when the process runs"),
	FLAG_B("d", &detach, "short for --detach"),
	FLAG_S("cwd", &cwd, "working directory"),
	FLAG_L("env", &env, "NAME=value, may be repeated"),
	FLAG_L("e", &env, "short for --env"),
	FLAG_S("user", &user, "uid[:gid]"),
	FLAG_S("u", &user, "short for --user"),
	FLAG_S("additional-gids", &gids, "comma-separated groups"),
	FLAG_S("g", &gids, "short for --additional-gids"),
	FLAG_L("cap", &caps, "capability to add, may be repeated"),
	FLAG_L("c", &caps, "short for --cap"),
	FLAG_B("tty", &tty, "the standard streams are a terminal"),
	FLAG_B("t", &tty, "short for --tty"),
	FLAG_B("no-new-privs", &no_new_privs, "never gain privileges by execve"),
	FLAG_SKIP("preserve-fds", FLAG_INT),
	FLAG_SKIP("apparmor", FLAG_STRING),
	FLAG_SKIP("process-label", FLAG_STRING),
	FLAG_SKIP("cgroup", FLAG_STRING),
	FLAG_SKIP("no-subreaper", FLAG_BOOL),
	FLAG_SKIP("ignore-paused", FLAG_BOOL),
};

static int parse_ids(struct spec_process *p, struct err *e)
{
	char *end;

	if (*user) {
		unsigned long uid = strtoul(user, &end, 10), gid = p->gid;
		if (end != user && *end == ':') {
			const char *g = end + 1;
			gid = strtoul(g, &end, 10);
			if (end == g)
				end = (char *)"?";
		}
		if (*end || end == user || uid > UINT32_MAX || gid > UINT32_MAX)
			return err_set(e, -EINVAL, "--user: expected uid[:gid]: \"%s\"", user);
		p->uid = (uint32_t)uid;
		p->gid = (uint32_t)gid;
	}
	if (!*gids)
		return 0;
	free(p->additional_gids.v);
	p->additional_gids.v = calloc(strlen(gids) + 1, sizeof(uint32_t));
	p->additional_gids.n = 0;
	if (!p->additional_gids.v)
		return err_set(e, -ENOMEM, "out of memory");
	for (const char *s = gids; *s; s = end + (*end == ',')) {
		unsigned long g = strtoul(s, &end, 10);
		if (end == s || (*end && *end != ',') || g > UINT32_MAX)
			return err_set(e, -EINVAL, "--additional-gids: expected numbers: \"%s\"",
				       gids);
		p->additional_gids.v[p->additional_gids.n++] = (uint32_t)g;
	}
	return 0;
}

static bool is_replaced(const char *entry)
{
	size_t len = strcspn(entry, "=");

	for (size_t k = 0; k < env.n; k++)
		if (!strncmp(env.v[k], entry, len) && env.v[k][len] == '=')
			return true;
	return false;
}

/* Later entries win: the container's own, then those given. */
static int merge_env(struct spec_process *p, struct err *e)
{
	size_t n = 0, used = 0;

	while (p->env && p->env[n])
		n++;
	char **all = calloc(n + env.n + 1, sizeof(*all));
	if (!all)
		return err_set(e, -ENOMEM, "out of memory");
	for (size_t i = 0; i < n; i++) {
		if (is_replaced(p->env[i]))
			free(p->env[i]);
		else
			all[used++] = p->env[i];
	}
	free(p->env);
	p->env = all;
	for (size_t k = 0; k < env.n; k++) {
		if (!strchr(env.v[k], '='))
			return err_set(e, -EINVAL, "--env: expected NAME=value: \"%s\"", env.v[k]);
		if (!(all[used++] = strdup(env.v[k])))
			return err_set(e, -ENOMEM, "out of memory");
	}
	return 0;
}

/* The container's own process with what the command line changes. */
static int from_arguments(const struct state *s, char **argv, struct spec_process *p, struct err *e)
{
	int err = spec_parse_process(json_object_get(s->spec, "process"), "state", p, e);

	if (!err)
		err = spec_strings_set(&p->args, argv, e);
	if (err)
		return err;
	p->terminal = false;
	if (*cwd) {
		free(p->cwd);
		if (!(p->cwd = strdup(cwd)))
			return err_set(e, -ENOMEM, "out of memory");
	}
	if (no_new_privs)
		p->no_new_privileges = true;
	err = parse_ids(p, e);
	return err ? err : merge_env(p, e);
}

static int add_caps(struct boot_process *p, struct err *e)
{
	for (size_t i = 0; i < caps.n; i++) {
		int c = capability_lookup(caps.v[i]);
		if (c < 0)
			return err_set(e, -EINVAL, "--cap: unknown capability \"%s\"", caps.v[i]);
		p->cap_bounding |= 1ULL << c;
		p->cap_effective |= 1ULL << c;
		p->cap_inheritable |= 1ULL << c;
		p->cap_permitted |= 1ULL << c;
	}
	return 0;
}

/* *out borrows from *p; both are to be finished, whatever the result. */
static int describe(const struct state *s, int argc, char **argv, struct spec_process *p,
		    struct boot_process *out, struct err *e)
{
	int err;

	if (*process_file)
		err = spec_load_process(process_file, p, e);
	else if (argc == 0)
		return err_set(e, -EINVAL, "exec: no command and no --process");
	else
		err = from_arguments(s, argv, p, e);
	if (err)
		return err;
	if (tty || *console_socket)
		p->terminal = true;
	if (p->terminal && detach && !*console_socket)
		return err_set(e, -EINVAL, "a detached terminal needs --console-socket");
	err = process_from_spec(p, *process_file ? process_file : "exec", out, e);
	return err ? err : add_caps(out, e);
}

/* Our own part in a terminal's signals: the line discipline sends them to us, we pass them on. */
static void take_terminal(int replica)
{
	setsid();
	ioctl(replica, TIOCSCTTY, 0);
}

/* Runs the process and waits; in the child when detached.  `ready` is told how it went. */
static int run_and_wait(const struct state *s, int fd, const struct boot_process *p,
			const int *stdio, int ready, struct err *e)
{
	int pid;

	if (*console_socket)
		take_terminal(stdio[0]);
	int err = process_exec(fd, p, stdio, &pid, e);
	if (!err)
		err = write_pid_file(internal_pid_file, pid, e);
	if (!err)
		err = write_pid_file(pid_file, getpid(), e);
	if (ready >= 0) {
		if (err && write(ready, e->msg, strlen(e->msg)) < 0)
			return err;
		close(ready);
		/* The engine reads our streams until their end; they are the guest's now. */
		int null = open("/dev/null", O_RDWR);
		for (int i = 0; i < 3; i++)
			dup2(null, i);
		close(null);
	}
	if (!err)
		err = foreground_ask(fd, pid, e);
	return err ? err : foreground_wait(fd, pid, NULL, s->id, e);
}

static int run_detached(const struct state *s, int fd, const struct boot_process *p,
			const int *stdio, struct err *e)
{
	int ready[2];

	if (pipe2(ready, O_CLOEXEC))
		return err_errno(e, -errno, "pipe");
	pid_t child = fork();
	if (child < 0)
		return err_errno(e, -errno, "fork");
	if (child == 0) {
		close(ready[0]);
		signals_hold();
		int code = run_and_wait(s, fd, p, stdio, ready[1], e);
		_exit(code < 0 ? EXIT_OWN_FAILURE : code);
	}
	close(ready[1]);
	ssize_t n = read(ready[0], e->msg, sizeof(e->msg) - 1);
	close(ready[0]);
	if (n > 0) {
		e->msg[n] = 0;
		return -EINVAL;
	}
	return 0;
}

static int run(int argc, char **argv, struct err *e)
{
	CLEANUP(spec_process_fini) struct spec_process spec = {0};
	CLEANUP(process_fini) struct boot_process p = {0};
	CLEANUP_STATE struct state s = {0};
	int stdio[3] = {0, 1, 2};

	CLEANUP_FD int fd = container_connect(argv[0], &s, e);
	if (fd < 0)
		return fd;
	argv++;
	argc--;
	if (argc && !strcmp(argv[0], "--")) {
		argv++;
		argc--;
	}
	int err = describe(&s, argc, argv, &spec, &p, e);
	if (err)
		return err;
	if (*console_socket) {
		int replica = console_send(console_socket, &spec, e);
		if (replica < 0)
			return replica;
		stdio[0] = stdio[1] = stdio[2] = replica;
	}
	if (detach)
		return run_detached(&s, fd, &p, stdio, e);
	signals_hold();
	return run_and_wait(&s, fd, &p, stdio, -1, e);
}

const struct command cmd_exec = {
	.name = "exec",
	.summary = "run a further process in a container",
	.usage = "<container id> <command> [args...]",
	.flags = {flags, ARRAY_SIZE(flags)},
	.min_args = 1,
	.max_args = -1,
	.run = run,
};
