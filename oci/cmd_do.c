/*
 * `runsc do`: a command in a throw-away sandbox over the host's own root.  Everything is kept in
 * memory - no bundle, no state - so that nothing is left however it ends.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "oci/client.h"
#include "oci/cmd.h"
#include "oci/process.h"
#include "oci/run.h"
#include "oci/sandbox.h"
#include "sentry/lib/cleanup.h"

static const char *root = "/", *cwd = ".", *ip = "";
static bool quiet, force_overlay = true;
static struct flag_list volumes, uid_maps, gid_maps;

static const struct flag flags[] = {
	FLAG_S("root", &root, "directory to use as root"),
	FLAG_S("cwd", &cwd, "working directory"),
	FLAG_B("quiet", &quiet, "print nothing of our own"),
	FLAG_B("force-overlay", &force_overlay,
	       "keep changes in memory; without it the command writes to the host"),
	FLAG_L("volume", &volumes,
	       "SRC[:DST[:ro]]: a directory or file of the host, written through"),
	{"ip", FLAG_STRING, FLAG_NO_EFFECT, &ip, NULL, "address of the sandbox"},
	{"uid-map", FLAG_LIST, FLAG_NO_EFFECT, &uid_maps, NULL, "CONTAINER HOST SIZE"},
	{"gid-map", FLAG_LIST, FLAG_NO_EFFECT, &gid_maps, NULL, "CONTAINER HOST SIZE"},
};

static int add_volume(char *text, struct spec_mount *m, struct err *e)
{
	static char *read_only[] = {"ro", NULL};
	char *parts[3] = {text, NULL, NULL};

	for (int i = 1; i < 3; i++) {
		char *colon = strchr(parts[i - 1], ':');
		if (!colon)
			break;
		*colon = 0;
		parts[i] = colon + 1;
	}
	if (!*parts[0] || parts[0][0] != '/' || (parts[1] && parts[1][0] != '/'))
		return err_set(e, -EINVAL, "volume \"%s\": paths must be absolute", parts[0]);
	if (parts[2] && strcmp(parts[2], "ro") != 0 && strcmp(parts[2], "rw") != 0)
		return err_set(e, -EINVAL, "volume \"%s\": unknown option \"%s\"", parts[0],
			       parts[2]);
	*m = (struct spec_mount){.type = "bind",
				 .source = parts[0],
				 .destination = parts[1] ? parts[1] : parts[0],
				 .options = parts[2] && !strcmp(parts[2], "ro") ? read_only : NULL};
	return 0;
}

/* The parts that are not static or somebody's are what run() frees. */
static int make_spec(char **argv, struct spec *s, struct err *e)
{
	static struct spec_caps caps;
	static struct spec_process p;
	static char dir[PATH_MAX];
	static char *all_caps[64];
	extern char **environ;

	s->root = calloc(1, sizeof(*s->root));
	s->mounts.v = calloc(volumes.n + 1, sizeof(*s->mounts.v));
	if (!s->root || !s->mounts.v)
		return err_set(e, -ENOMEM, "out of memory");
	s->root->path = realpath(root, NULL);
	if (!s->root->path)
		return err_errno(e, -errno, "root \"%s\"", root);
	/* The default is where we stand; anything else is a path inside. */
	if (strcmp(cwd, ".") != 0)
		snprintf(dir, sizeof(dir), "%s%s", *cwd == '/' ? "" : "/", cwd);
	else if (strcmp(s->root->path, "/") != 0 || !getcwd(dir, sizeof(dir)))
		strcpy(dir, "/");
	for (size_t i = 0; i < volumes.n; i++) {
		int err = add_volume(volumes.v[i], &s->mounts.v[i], e);
		if (err)
			return err;
	}
	s->mounts.n = volumes.n;
	for (int c = 0; capability_name(c); c++)
		all_caps[c] = (char *)capability_name(c);
	caps.bounding = caps.effective = caps.permitted = all_caps;
	p.args = argv;
	p.env = environ;
	p.cwd = dir;
	p.caps = &caps;
	p.terminal = isatty(0) || isatty(1) || isatty(2);
	s->process = &p;
	return 0;
}

static void free_spec(struct spec *s)
{
	if (s->root)
		free(s->root->path);
	free(s->root);
	free(s->mounts.v);
}

static int run(int argc, char **argv, struct err *e)
{
	char id[32];
	CLEANUP(free_spec) struct spec spec = {0};
	struct sandbox sb;

	(void)argc;
	snprintf(id, sizeof(id), "runsc-%d", getpid());
	int err = make_spec(argv, &spec, e);
	if (err)
		return err;
	const struct sandbox_options o = {.id = id,
					  .bundle = "/",
					  .control_fd = -1,
					  .status_fd = -1,
					  .stdio = {0, 1, 2},
					  .root_overlay = force_overlay,
					  .foreground = true};
	signals_hold();
	if ((err = sandbox_create(&spec, &o, &sb, e)))
		return err;
	err = foreground_ask(sb.owner_fd, 0, e);
	if (!err)
		err = client_do(sb.owner_fd, json_pack("{s:s}", "cmd", "start"), e);
	if (err == -ECONNRESET)
		err = sandbox_died(&sb, id, e);
	int code = err ? err : foreground_wait(sb.owner_fd, 0, &sb, id, e);
	sandbox_reap(&sb);
	return code;
}

const struct command cmd_do = {
	.name = "do",
	.summary = "run a command in a throw-away sandbox over the host's root",
	.usage = "<cmd> [args...]",
	.flags = {flags, ARRAY_SIZE(flags)},
	.min_args = 1,
	.max_args = -1,
	.run = run,
};
