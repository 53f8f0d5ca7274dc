/*
 * The OCI runtime specification's config.json, as far as runsc reads it.  Source: the OCI runtime
 * spec 1.2.1, config.md and config-linux.md.
 *
 * spec_parse.c decodes by tables; every problem is one line that names the field.  A specification
 * owns all that it points to.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "oci/err.h"

struct spec_u32s {
	uint32_t *v;
	size_t n;
};

struct spec_rlimit {
	char *type;
	uint64_t hard, soft;
};

struct spec_caps {
	char **bounding, **effective, **inheritable, **permitted, **ambient; /* NULL: none */
};

struct spec_process {
	bool terminal;
	uint32_t uid, gid;
	uint32_t *umask; /* NULL: 022 */
	struct spec_u32s additional_gids;
	char **args, **env; /* NULL-terminated, or NULL */
	char *cwd;
	struct spec_caps *caps; /* NULL: not given */
	struct {
		struct spec_rlimit *v;
		size_t n;
	} rlimits;
	bool no_new_privileges;
	int32_t *oom_score_adj;
	char *selinux_label, *apparmor_profile;
	uint32_t console_height, console_width; /* 0: not given */
};

struct spec_mount {
	char *destination, *type, *source;
	char **options;
};

/* linux.devices */
struct spec_device {
	char *path, *type;
	uint32_t major, minor, uid, gid;
	uint32_t *file_mode; /* NULL: 0666 */
};

struct spec_hook {
	char *path;
	char **args, **env;
	uint32_t *timeout; /* seconds */
};

struct spec_hooks {
	struct spec_hook *v;
	size_t n;
};

struct spec_namespace {
	char *type, *path;
};

struct spec_id_map {
	uint32_t container_id, host_id, size;
};

struct spec_annotation {
	char *key, *value;
};

struct spec_linux {
	struct {
		struct spec_namespace *v;
		size_t n;
	} namespaces;
	struct {
		struct spec_id_map *v;
		size_t n;
	} uid_mappings, gid_mappings;
	json_t *resources; /* NULL: not given */
	json_t *seccomp;
	char *cgroups_path;
	char **masked_paths, **readonly_paths;
	char *rootfs_propagation;
	struct {
		struct spec_device *v;
		size_t n;
	} devices;
	struct {
		struct spec_annotation *v;
		size_t n;
	} sysctl;
};

struct spec {
	char *oci_version;
	struct spec_process *process;
	struct {
		char *path;
		bool readonly;
	} * root;
	char *hostname, *domainname;
	struct {
		struct spec_mount *v;
		size_t n;
	} mounts;
	struct {
		struct spec_hooks prestart, create_runtime, create_container, start_container,
			poststart, poststop;
	} hooks;
	struct {
		struct spec_annotation *v;
		size_t n;
	} annotations;
	struct spec_linux linux_;
	bool solaris, windows;
};

/* Reads and validates BUNDLE/config.json.  On failure nothing is left to finish. */
int spec_load(const char *bundle, struct spec *out, struct err *e) MUST_CHECK;
/* A process object by itself (exec --process). */
int spec_load_process(const char *file, struct spec_process *out, struct err *e) MUST_CHECK;
void spec_fini(struct spec *s);
void spec_process_fini(struct spec_process *p);
void spec_strings_free(char **v); /* NULL-terminated, or NULL */
/* Replaces *v by copies. */
int spec_strings_set(char ***v, char *const *strings, struct err *e) MUST_CHECK;
/* The decoder (spec_parse.c); `file` is the name that messages begin with.  *out is zeroed before,
 * and to be finished after, whatever the result. */
int spec_parse(json_t *json, const char *file, struct spec *out, struct err *e) MUST_CHECK;
int spec_parse_process(json_t *json, const char *file, struct spec_process *out,
		       struct err *e) MUST_CHECK;
const char *spec_annotation(const struct spec *s, const char *key); /* NULL: not there */
