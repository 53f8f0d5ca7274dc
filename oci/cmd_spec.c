/* `runsc spec`: a config.json to start from. */
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "oci/cmd.h"
#include "sentry/lib/cleanup.h"

static const char *bundle = ".", *cwd = "/", *netns = "";
static const struct flag flags[] = {
	FLAG_S("bundle", &bundle, "directory to write config.json to"),
	FLAG_S("cwd", &cwd, "working directory of the program"),
	FLAG_S("netns", &netns, "network namespace to join"),
};

/* The capabilities that runc's template grants. */
#define CAPS "[\"CAP_AUDIT_WRITE\", \"CAP_KILL\", \"CAP_NET_BIND_SERVICE\"]"

static const char template[] =
	"{\"ociVersion\": \"" OCI_SPEC_VERSION "\","
	"\"process\": {"
	" \"user\": {\"uid\": 0, \"gid\": 0},"
	" \"args\": [\"sh\"],"
	" \"env\": [\"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\","
	"  \"TERM=xterm\"],"
	" \"cwd\": \"/\","
	" \"capabilities\": {\"bounding\": " CAPS ", \"effective\": " CAPS ","
	"  \"inheritable\": " CAPS ", \"permitted\": " CAPS "},"
	" \"rlimits\": [{\"type\": \"RLIMIT_NOFILE\", \"hard\": 1024, \"soft\": 1024}]},"
	"\"root\": {\"path\": \"rootfs\", \"readonly\": true},"
	"\"hostname\": \"runsc\","
	"\"mounts\": ["
	" {\"destination\": \"/proc\", \"type\": \"proc\", \"source\": \"proc\"},"
	" {\"destination\": \"/dev\", \"type\": \"tmpfs\", \"source\": \"tmpfs\"},"
	" {\"destination\": \"/sys\", \"type\": \"sysfs\", \"source\": \"sysfs\","
	"  \"options\": [\"nosuid\", \"noexec\", \"nodev\", \"ro\"]}],"
	"\"linux\": {\"namespaces\": [{\"type\": \"pid\"}, {\"type\": \"network\"},"
	" {\"type\": \"ipc\"}, {\"type\": \"uts\"}, {\"type\": \"mount\"}]}}";

static json_t *make(int argc, char **argv)
{
	json_t *j = json_loads(template, 0, NULL), *process = json_object_get(j, "process");

	json_object_set_new(process, "cwd", json_string(cwd));
	if (argc) {
		json_t *args = json_array();
		for (int i = 0; i < argc; i++)
			json_array_append_new(args, json_string(argv[i]));
		json_object_set_new(process, "args", args);
	}
	if (*netns) {
		json_t *list = json_object_get(json_object_get(j, "linux"), "namespaces");
		json_object_set_new(json_array_get(list, 1), "path", json_string(netns));
	}
	return j;
}

static int run(int argc, char **argv, struct err *e)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/config.json", bundle);
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0 && errno == EEXIST)
		return err_set(e, -EEXIST, "file %s exists. Remove it first", path);
	if (fd < 0)
		return err_errno(e, -errno, "creating %s", path);
	json_auto_t *j = make(argc, argv);
	CLEANUP_FREE char *text = json_dumps(j, JSON_INDENT(2));
	if (!text || dprintf(fd, "%s\n", text) < 0)
		return err_set(e, -EIO, "writing %s failed", path);
	return 0;
}

const struct command cmd_spec = {
	.name = "spec",
	.summary = "write a config.json to start from",
	.usage = "[-- args...]",
	.flags = {flags, ARRAY_SIZE(flags)},
	.max_args = -1,
	.run = run,
};
