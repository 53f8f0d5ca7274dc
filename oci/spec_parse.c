/*
 * JSON to structures, by tables.  A row says: field, kind, where it goes.  Unknown fields are
 * logged and ignored; a field of the wrong type is an error that names its path.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "oci/spec.h"
#include "sentry/lib/log.h"

enum kind {
	K_IGNORE,  /* known to the specification, not used here */
	K_STR,	   /* char * */
	K_BOOL,	   /* bool */
	K_PRESENT, /* bool: whether the field is there, whatever it holds */
	K_U32,	   /* uint32_t */
	K_U64,	   /* uint64_t */
	K_U32_PTR, /* uint32_t *, NULL when absent */
	K_I32_PTR, /* int32_t * */
	K_STRS,	   /* char **, NULL-terminated; NULL when absent */
	K_U32S,	   /* struct spec_u32s */
	K_OBJ,	   /* a structure in place */
	K_PTR,	   /* a pointer to a structure, NULL when absent */
	K_LIST,	   /* { void *v; size_t n; } of structures */
	K_MAP,	   /* the same, of struct spec_annotation */
	K_RAW,	   /* json_t *, a reference */
};

struct table;
struct field {
	const char *name;
	enum kind kind;
	bool required;
	size_t offset;
	const struct table *sub;
};
struct table {
	size_t size;
	const struct field *fields; /* ends with a NULL name */
};

struct list {
	void *v;
	size_t n;
};

/* Where we are in the document, for messages: "file: a.b[2].c". */
struct where {
	const char *file;
	char path[256];
	size_t len;
	struct err *e;
};

#define F(name, kind, type, member)                             \
	{                                                       \
		name, kind, false, offsetof(type, member), NULL \
	}
#define REQ(name, kind, type, member)                          \
	{                                                      \
		name, kind, true, offsetof(type, member), NULL \
	}
#define SUB(name, kind, type, member, table)                     \
	{                                                        \
		name, kind, false, offsetof(type, member), table \
	}
#define SKIP(name)                             \
	{                                      \
		name, K_IGNORE, false, 0, NULL \
	}
#define TABLE(t, type, ...)                                             \
	static const struct field t##_fields[] = {__VA_ARGS__, {NULL}}; \
	static const struct table t = {sizeof(type), t##_fields}

TABLE(caps_table, struct spec_caps, F("bounding", K_STRS, struct spec_caps, bounding),
      F("effective", K_STRS, struct spec_caps, effective),
      F("inheritable", K_STRS, struct spec_caps, inheritable),
      F("permitted", K_STRS, struct spec_caps, permitted),
      F("ambient", K_STRS, struct spec_caps, ambient));

TABLE(user_table, struct spec_process, F("uid", K_U32, struct spec_process, uid),
      F("gid", K_U32, struct spec_process, gid), F("umask", K_U32_PTR, struct spec_process, umask),
      F("additionalGids", K_U32S, struct spec_process, additional_gids), SKIP("username"));

TABLE(rlimit_table, struct spec_rlimit, REQ("type", K_STR, struct spec_rlimit, type),
      REQ("hard", K_U64, struct spec_rlimit, hard), REQ("soft", K_U64, struct spec_rlimit, soft));

TABLE(console_table, struct spec_process, REQ("height", K_U32, struct spec_process, console_height),
      REQ("width", K_U32, struct spec_process, console_width));

TABLE(device_table, struct spec_device, REQ("path", K_STR, struct spec_device, path),
      REQ("type", K_STR, struct spec_device, type), F("major", K_U32, struct spec_device, major),
      F("minor", K_U32, struct spec_device, minor),
      F("fileMode", K_U32_PTR, struct spec_device, file_mode),
      F("uid", K_U32, struct spec_device, uid), F("gid", K_U32, struct spec_device, gid));

/* "user" decodes into the process itself: its sub-table has the process's offsets. */
TABLE(process_table, struct spec_process, F("terminal", K_BOOL, struct spec_process, terminal),
      {"user", K_OBJ, false, 0, &user_table}, F("args", K_STRS, struct spec_process, args),
      F("env", K_STRS, struct spec_process, env), REQ("cwd", K_STR, struct spec_process, cwd),
      SUB("capabilities", K_PTR, struct spec_process, caps, &caps_table),
      SUB("rlimits", K_LIST, struct spec_process, rlimits, &rlimit_table),
      F("noNewPrivileges", K_BOOL, struct spec_process, no_new_privileges),
      F("oomScoreAdj", K_I32_PTR, struct spec_process, oom_score_adj),
      F("selinuxLabel", K_STR, struct spec_process, selinux_label),
      F("apparmorProfile", K_STR, struct spec_process, apparmor_profile),
      {"consoleSize", K_OBJ, false, 0, &console_table}, SKIP("ioPriority"), SKIP("scheduler"),
      SKIP("execCPUAffinity"), SKIP("commandLine"));

TABLE(mount_table, struct spec_mount, REQ("destination", K_STR, struct spec_mount, destination),
      F("type", K_STR, struct spec_mount, type), F("source", K_STR, struct spec_mount, source),
      F("options", K_STRS, struct spec_mount, options), SKIP("uidMappings"), SKIP("gidMappings"));

TABLE(hook_table, struct spec_hook, REQ("path", K_STR, struct spec_hook, path),
      F("args", K_STRS, struct spec_hook, args), F("env", K_STRS, struct spec_hook, env),
      F("timeout", K_U32_PTR, struct spec_hook, timeout));

#define HOOKS(name, member) SUB(name, K_LIST, struct spec, hooks.member, &hook_table)
TABLE(hooks_table, struct spec, HOOKS("prestart", prestart), HOOKS("createRuntime", create_runtime),
      HOOKS("createContainer", create_container), HOOKS("startContainer", start_container),
      HOOKS("poststart", poststart), HOOKS("poststop", poststop));

TABLE(namespace_table, struct spec_namespace, REQ("type", K_STR, struct spec_namespace, type),
      F("path", K_STR, struct spec_namespace, path));

TABLE(id_map_table, struct spec_id_map, REQ("containerID", K_U32, struct spec_id_map, container_id),
      REQ("hostID", K_U32, struct spec_id_map, host_id),
      REQ("size", K_U32, struct spec_id_map, size));

TABLE(linux_table, struct spec_linux,
      SUB("namespaces", K_LIST, struct spec_linux, namespaces, &namespace_table),
      SUB("uidMappings", K_LIST, struct spec_linux, uid_mappings, &id_map_table),
      SUB("gidMappings", K_LIST, struct spec_linux, gid_mappings, &id_map_table),
      F("resources", K_RAW, struct spec_linux, resources),
      F("seccomp", K_RAW, struct spec_linux, seccomp),
      F("cgroupsPath", K_STR, struct spec_linux, cgroups_path),
      F("maskedPaths", K_STRS, struct spec_linux, masked_paths),
      F("readonlyPaths", K_STRS, struct spec_linux, readonly_paths),
      F("rootfsPropagation", K_STR, struct spec_linux, rootfs_propagation),
      SUB("devices", K_LIST, struct spec_linux, devices, &device_table),
      F("sysctl", K_MAP, struct spec_linux, sysctl), SKIP("mountLabel"), SKIP("intelRdt"),
      SKIP("personality"), SKIP("timeOffsets"), SKIP("netDevices"));

struct spec_root_layout {
	char *path;
	bool readonly;
};
TABLE(root_table, struct spec_root_layout, REQ("path", K_STR, struct spec_root_layout, path),
      F("readonly", K_BOOL, struct spec_root_layout, readonly));

TABLE(spec_table, struct spec, REQ("ociVersion", K_STR, struct spec, oci_version),
      SUB("process", K_PTR, struct spec, process, &process_table),
      SUB("root", K_PTR, struct spec, root, &root_table),
      F("hostname", K_STR, struct spec, hostname), F("domainname", K_STR, struct spec, domainname),
      SUB("mounts", K_LIST, struct spec, mounts, &mount_table),
      {"hooks", K_OBJ, false, 0, &hooks_table}, F("annotations", K_MAP, struct spec, annotations),
      SUB("linux", K_OBJ, struct spec, linux_, &linux_table),
      F("solaris", K_PRESENT, struct spec, solaris), F("windows", K_PRESENT, struct spec, windows),
      SKIP("vm"), SKIP("zos"));

static void *must(void *p)
{
	if (p)
		return p;
	fprintf(stderr, "out of memory\n");
	exit(128);
}

static int bad(struct where *w, const char *what)
{
	return err_set(w->e, -EINVAL, "%s: %s: %s", w->file, w->len ? w->path : "(top level)",
		       what);
}

static size_t enter(struct where *w, const char *name, size_t index)
{
	size_t old = w->len;
	int n;

	if (name)
		n = snprintf(w->path + old, sizeof(w->path) - old, "%s%s", old ? "." : "", name);
	else
		n = snprintf(w->path + old, sizeof(w->path) - old, "[%zu]", index);
	w->len = MIN(old + (size_t)n, sizeof(w->path) - 1);
	return old;
}

static void leave(struct where *w, size_t old)
{
	w->len = old;
	w->path[old] = 0;
}

static int decode_object(struct where *w, json_t *j, const struct table *t, char *base);

static int decode_string(struct where *w, json_t *j, char **out)
{
	if (!json_is_string(j))
		return bad(w, "expected string");
	if (strlen(json_string_value(j)) != json_string_length(j))
		return bad(w, "string with a NUL character");
	*out = must(strdup(json_string_value(j)));
	return 0;
}

/* A file with a number beyond 2^63 (RLIM_INFINITY) has all its integers read as reals. */
static bool is_integer(json_t *j)
{
	return json_is_integer(j) ||
	       (json_is_real(j) && json_real_value(j) == __builtin_floor(json_real_value(j)));
}

/* min and max are 32-bit numbers, which a double holds exactly. */
static int decode_int(struct where *w, json_t *j, int64_t min, int64_t max, int64_t *out)
{
	if (!is_integer(j))
		return bad(w, "expected integer");
	double d = json_number_value(j);
	if (d < (double)min || d > (double)max)
		return bad(w, "integer out of range");
	*out = (int64_t)d;
	return 0;
}

static int decode_u64(struct where *w, json_t *j, uint64_t *out)
{
	if (!is_integer(j))
		return bad(w, "expected integer");
	if (json_is_integer(j))
		*out = (uint64_t)json_integer_value(j); /* -1 stands for "unlimited" */
	else if (json_real_value(j) >= 18446744073709551615.0)
		*out = UINT64_MAX;
	else
		*out = (uint64_t)(int64_t)json_real_value(j);
	return 0;
}

static int decode_strings(struct where *w, json_t *j, char ***out)
{
	if (!json_is_array(j))
		return bad(w, "expected array of strings");
	size_t n = json_array_size(j);
	char **v = *out = must(calloc(n + 1, sizeof(*v)));
	for (size_t i = 0; i < n; i++) {
		size_t old = enter(w, NULL, i);
		int err = decode_string(w, json_array_get(j, i), &v[i]);
		if (err)
			return err;
		leave(w, old);
	}
	return 0;
}

static int decode_u32s(struct where *w, json_t *j, struct spec_u32s *out)
{
	if (!json_is_array(j))
		return bad(w, "expected array of integers");
	size_t n = json_array_size(j);
	uint32_t *v = out->v = must(calloc(n + 1, sizeof(*v)));
	out->n = n;
	for (size_t i = 0; i < n; i++) {
		int64_t x;
		size_t old = enter(w, NULL, i);
		int err = decode_int(w, json_array_get(j, i), 0, UINT32_MAX, &x);
		if (err)
			return err;
		v[i] = (uint32_t)x;
		leave(w, old);
	}
	return 0;
}

static int decode_list(struct where *w, json_t *j, const struct table *t, struct list *out)
{
	if (!json_is_array(j))
		return bad(w, "expected array");
	size_t n = json_array_size(j);
	char *v = out->v = must(calloc(n + 1, t->size));
	out->n = n;
	for (size_t i = 0; i < n; i++) {
		size_t old = enter(w, NULL, i);
		int err = decode_object(w, json_array_get(j, i), t, v + i * t->size);
		if (err)
			return err;
		leave(w, old);
	}
	return 0;
}

static int decode_map(struct where *w, json_t *j, struct list *out)
{
	const char *key;
	json_t *value;

	if (!json_is_object(j))
		return bad(w, "expected object");
	struct spec_annotation *v = out->v = must(calloc(json_object_size(j) + 1, sizeof(*v)));
	json_object_foreach(j, key, value)
	{
		size_t old = enter(w, key, 0);
		struct spec_annotation *a = &v[out->n++];
		a->key = must(strdup(key));
		int err = decode_string(w, value, &a->value);
		if (err)
			return err;
		leave(w, old);
	}
	return 0;
}

static int decode_field(struct where *w, json_t *j, const struct field *f, char *base)
{
	void *p = base + f->offset;
	int64_t i = 0;
	int err = 0;

	switch (f->kind) {
	case K_IGNORE:
		return 0;
	case K_PRESENT:
		*(bool *)p = true;
		return 0;
	case K_RAW:
		*(json_t **)p = json_incref(j);
		return 0;
	case K_STR:
		return decode_string(w, j, p);
	case K_BOOL:
		if (!json_is_boolean(j))
			return bad(w, "expected boolean");
		*(bool *)p = json_is_true(j);
		return 0;
	case K_U32:
	case K_U32_PTR:
		if ((err = decode_int(w, j, 0, UINT32_MAX, &i)))
			return err;
		if (f->kind == K_U32_PTR)
			p = *(uint32_t **)p = must(malloc(sizeof(uint32_t)));
		*(uint32_t *)p = (uint32_t)i;
		return 0;
	case K_I32_PTR:
		if ((err = decode_int(w, j, INT32_MIN, INT32_MAX, &i)))
			return err;
		*(int32_t **)p = must(malloc(sizeof(int32_t)));
		**(int32_t **)p = (int32_t)i;
		return 0;
	case K_U64:
		return decode_u64(w, j, p);
	case K_STRS:
		return decode_strings(w, j, p);
	case K_U32S:
		return decode_u32s(w, j, p);
	case K_OBJ:
		return decode_object(w, j, f->sub, p);
	case K_PTR:
		*(void **)p = must(calloc(1, f->sub->size));
		return decode_object(w, j, f->sub, *(void **)p);
	case K_LIST:
		return decode_list(w, j, f->sub, p);
	case K_MAP:
		return decode_map(w, j, p);
	}
	return 0;
}

static int decode_object(struct where *w, json_t *j, const struct table *t, char *base)
{
	const char *key;
	json_t *value;

	if (!json_is_object(j))
		return bad(w, "expected object");
	for (const struct field *f = t->fields; f->name; f++) {
		value = json_object_get(j, f->name);
		size_t old = enter(w, f->name, 0);
		if (!value || json_is_null(value)) {
			if (f->required)
				return bad(w, "missing");
		} else {
			int err = decode_field(w, value, f, base);
			if (err)
				return err;
		}
		leave(w, old);
	}
	json_object_foreach(j, key, value)
	{
		const struct field *f = t->fields;
		while (f->name && strcmp(f->name, key) != 0)
			f++;
		if (!f->name) {
			size_t old = enter(w, key, 0);
			log_warn("%s: %s: unknown field ignored", w->file, w->path);
			leave(w, old);
		}
	}
	return 0;
}

static void free_object(const struct table *t, char *base);

static void free_list(const struct table *t, const struct list *l)
{
	for (size_t i = 0; i < l->n; i++)
		free_object(t, (char *)l->v + i * t->size);
	free(l->v);
}

static void free_map(const struct list *l)
{
	struct spec_annotation *v = l->v;

	for (size_t i = 0; i < l->n; i++) {
		free(v[i].key);
		free(v[i].value);
	}
	free(v);
}

void spec_strings_free(char **v)
{
	for (char **s = v; s && *s; s++)
		free(*s);
	free(v);
}

int spec_strings_set(char ***v, char *const *strings, struct err *e)
{
	size_t n = 0;

	while (strings && strings[n])
		n++;
	spec_strings_free(*v);
	*v = calloc(n + 1, sizeof(**v));
	for (size_t i = 0; *v && i < n; i++)
		if (!((*v)[i] = strdup(strings[i])))
			return err_set(e, -ENOMEM, "out of memory");
	return *v ? 0 : err_set(e, -ENOMEM, "out of memory");
}

static void free_field(const struct field *f, void *p)
{
	switch (f->kind) {
	case K_IGNORE:
	case K_PRESENT:
	case K_BOOL:
	case K_U32:
	case K_U64:
		return;
	case K_STR:
	case K_U32_PTR:
	case K_I32_PTR:
		free(*(void **)p);
		return;
	case K_RAW:
		json_decref(*(json_t **)p);
		return;
	case K_STRS:
		spec_strings_free(*(char ***)p);
		return;
	case K_U32S:
		free(((struct spec_u32s *)p)->v);
		return;
	case K_OBJ:
		free_object(f->sub, p);
		return;
	case K_PTR:
		if (*(void **)p)
			free_object(f->sub, *(void **)p);
		free(*(void **)p);
		return;
	case K_LIST:
		free_list(f->sub, p);
		return;
	case K_MAP:
		free_map(p);
		return;
	}
}

/* What decode_object() allocated, also when it stopped half-way. */
static void free_object(const struct table *t, char *base)
{
	for (const struct field *f = t->fields; f->name; f++)
		free_field(f, base + f->offset);
}

void spec_fini(struct spec *s)
{
	free_object(&spec_table, (char *)s);
	*s = (struct spec){0};
}

void spec_process_fini(struct spec_process *p)
{
	free_object(&process_table, (char *)p);
	*p = (struct spec_process){0};
}

int spec_parse(json_t *json, const char *file, struct spec *out, struct err *e)
{
	struct where w = {.file = file, .e = e};

	return decode_object(&w, json, &spec_table, (char *)out);
}

int spec_parse_process(json_t *json, const char *file, struct spec_process *out, struct err *e)
{
	struct where w = {.file = file, .e = e};

	return decode_object(&w, json, &process_table, (char *)out);
}
