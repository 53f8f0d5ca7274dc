/* Reading config.json, and what must hold beyond types. */
#include "oci/spec.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sentry/lib/cleanup.h"
#include "sentry/lib/log.h"

/* Far above any real bundle; keeps a wrong path (a device, say) from filling memory. */
#define SPEC_FILE_MAX (16 << 20)

static int read_file(const char *path, char **out, size_t *len, struct err *e)
{
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(e, -errno, "opening %s", path);
	size_t size = 0, room = 0;
	char *buf = NULL;
	for (;;) {
		if (size == room) {
			room = room ? room * 2 : 65536;
			char *grown = room <= SPEC_FILE_MAX ? realloc(buf, room) : NULL;
			if (!grown) {
				free(buf);
				return err_set(e, -EFBIG, "%s: file too large", path);
			}
			buf = grown;
		}
		ssize_t n = read(fd, buf + size, room - size);
		if (n < 0) {
			int err = -errno;
			free(buf);
			return err_errno(e, err, "reading %s", path);
		}
		if (n == 0)
			break;
		size += (size_t)n;
	}
	*out = buf;
	*len = size;
	return 0;
}

static int load_json(const char *path, const char *name, json_t **out, struct err *e)
{
	char *text = NULL;
	size_t len = 0;
	json_error_t je;

	int err = read_file(path, &text, &len, e);
	if (err)
		return err;
	/* 2^64-1 (RLIM_INFINITY) exceeds jansson's integers: such numbers are read as reals. */
	json_t *j = json_loadb(text, len, JSON_REJECT_DUPLICATES, &je);
	if (!j && json_error_code(&je) == json_error_numeric_overflow)
		j = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &je);
	free(text);
	if (!j)
		return err_set(e, -EINVAL, "%s: line %d, column %d: %s", name, je.line, je.column,
			       je.text);
	*out = j;
	return 0;
}

static int check_process(const struct spec_process *p, const char *file, const char *prefix,
			 struct err *e)
{
	if (!p->args || !p->args[0])
		return err_set(e, -EINVAL, "%s: %sargs: must not be empty", file, prefix);
	if (p->cwd[0] != '/')
		return err_set(e, -EINVAL, "%s: %scwd: must be an absolute path: \"%s\"", file,
			       prefix, p->cwd);
	if (p->oom_score_adj && (*p->oom_score_adj < -1000 || *p->oom_score_adj > 1000))
		return err_set(e, -EINVAL, "%s: %soomScoreAdj: not between -1000 and 1000", file,
			       prefix);
	for (char **v = p->env; v && *v; v++)
		if (!strchr(*v, '=') || **v == '=')
			return err_set(e, -EINVAL, "%s: %senv[%td]: expected NAME=value", file,
				       prefix, v - p->env);
	if (p->selinux_label && *p->selinux_label)
		return err_set(e, -EINVAL, "%s: %sselinuxLabel: SELinux is not supported", file,
			       prefix);
	if (p->apparmor_profile && *p->apparmor_profile)
		log_warn("%s: %sapparmorProfile ignored", file, prefix);
	return 0;
}

static int check_mounts(const struct spec *s, struct err *e)
{
	for (size_t i = 0; i < s->mounts.n; i++)
		if (s->mounts.v[i].destination[0] == 0)
			return err_set(e, -EINVAL, "config.json: mounts[%zu].destination: empty",
				       i);
	return 0;
}

static int check_hooks(const struct spec *s, struct err *e)
{
	const struct {
		const char *kind;
		const struct spec_hooks *hooks;
	} all[] = {
		{"prestart", &s->hooks.prestart},
		{"createRuntime", &s->hooks.create_runtime},
		{"createContainer", &s->hooks.create_container},
		{"startContainer", &s->hooks.start_container},
		{"poststart", &s->hooks.poststart},
		{"poststop", &s->hooks.poststop},
	};

	for (size_t k = 0; k < ARRAY_SIZE(all); k++)
		for (size_t i = 0; i < all[k].hooks->n; i++)
			if (all[k].hooks->v[i].path[0] != '/')
				return err_set(e, -EINVAL,
					       "config.json: hooks.%s[%zu].path: must be absolute",
					       all[k].kind, i);
	return 0;
}

static int check_pod(const struct spec *s, struct err *e)
{
	static const char *const keys[] = {"io.kubernetes.cri.container-type",
					   "io.kubernetes.cri-o.ContainerType"};

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		const char *v = spec_annotation(s, keys[i]);
		if (v && !strcmp(v, "container"))
			return err_set(
				e, -EINVAL,
				"config.json: annotations.%s: joining a pod's sandbox is not "
				"supported yet",
				keys[i]);
	}
	return 0;
}

static int check_version(const struct spec *s, struct err *e)
{
	int major = -1;

	if (sscanf(s->oci_version, "%d.", &major) != 1 || major != 1)
		return err_set(e, -EINVAL, "config.json: ociVersion: unsupported version \"%s\"",
			       s->oci_version);
	return 0;
}

static int check_spec(const struct spec *s, struct err *e)
{
	int err;

	if (s->solaris || s->windows)
		return err_set(e, -EINVAL, "config.json: %s: not supported",
			       s->solaris ? "solaris" : "windows");
	if (!s->process)
		return err_set(e, -EINVAL, "config.json: process: missing");
	if (!s->root)
		return err_set(e, -EINVAL, "config.json: root: missing");
	if (!*s->root->path)
		return err_set(e, -EINVAL, "config.json: root.path: empty");
	if ((err = check_version(s, e)) ||
	    (err = check_process(s->process, "config.json", "process.", e)) ||
	    (err = check_mounts(s, e)) || (err = check_hooks(s, e)) || (err = check_pod(s, e)))
		return err;
	if (s->linux_.seccomp)
		log_debug("config.json: linux.seccomp ignored: the sentry is the filter");
	return 0;
}

int spec_load(const char *bundle, struct spec *out, struct err *e)
{
	char path[PATH_MAX];
	json_t *j;

	snprintf(path, sizeof(path), "%s/config.json", bundle);
	int err = load_json(path, "config.json", &j, e);
	if (err)
		return err;
	*out = (struct spec){0};
	err = spec_parse(j, "config.json", out, e);
	json_decref(j);
	if (!err)
		err = check_spec(out, e);
	if (err)
		spec_fini(out);
	return err;
}

int spec_load_process(const char *file, struct spec_process *out, struct err *e)
{
	json_t *j;
	int err = load_json(file, file, &j, e);
	if (err)
		return err;
	*out = (struct spec_process){0};
	err = spec_parse_process(j, file, out, e);
	json_decref(j);
	if (!err)
		err = check_process(out, file, "", e);
	if (err)
		spec_process_fini(out);
	return err;
}

const char *spec_annotation(const struct spec *s, const char *key)
{
	for (size_t i = 0; i < s->annotations.n; i++)
		if (!strcmp(s->annotations.v[i].key, key))
			return s->annotations.v[i].value;
	return NULL;
}
