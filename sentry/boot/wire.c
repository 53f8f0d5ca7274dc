/*
 * struct boot_config and struct boot_process as JSON: how they cross the exec between the command
 * line and the sentry, and how `exec` requests describe a process.
 *
 * The sentry trusts the command line that started it, not those that connect later: decoding
 * checks types and bounds everywhere.
 */
#include "sentry/boot/wire.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/lib/log.h"

#define STRINGS_MAX 65536

/*
 * Arguments, environments and paths may hold any bytes, JSON holds UTF-8: byte N is written as code
 * point N, two bytes from 0x80 on.
 */
static json_t *pack_bytes(const char *s)
{
	size_t o = 0;
	char *buf = malloc(2 * strlen(s) + 1);

	if (!buf)
		return NULL;
	for (; *s; s++) {
		unsigned char b = (unsigned char)*s;
		if (b >= 0x80)
			buf[o++] = (char)(0xc0 | b >> 6);
		buf[o++] = b >= 0x80 ? (char)(0x80 | (b & 0x3f)) : (char)b;
	}
	json_t *j = json_stringn(buf, o);
	free(buf);
	return j;
}

/* The bytes back, at most strlen(s); no terminator.  Returns their number or -EINVAL. */
static ssize_t unpack_bytes(json_t *j, char *dst)
{
	const char *s = json_string_value(j);
	size_t n = 0;

	if (!s || strlen(s) != json_string_length(j))
		return -EINVAL;
	for (; *s; s++) {
		unsigned char b = (unsigned char)*s;
		if (b >= 0x80) {
			if (b > 0xc3)
				return -EINVAL;
			b = (unsigned char)(b << 6 | (*++s & 0x3f));
		}
		dst[n++] = (char)b;
	}
	return (ssize_t)n;
}

static json_t *pack_strings(char **v, size_t n)
{
	json_t *a = json_array();

	for (size_t i = 0; a && i < n; i++)
		if (json_array_append_new(a, pack_bytes(v[i]))) {
			json_decref(a);
			return NULL;
		}
	return a;
}

static size_t count(char **v)
{
	size_t n = 0;

	while (v && v[n])
		n++;
	return n;
}

static json_t *pack_process(const struct boot_process *p)
{
	json_t *groups = json_array(), *rlimits = json_array();

	for (size_t i = 0; i < p->ngroups; i++)
		json_array_append_new(groups, json_integer(p->groups[i]));
	/* jansson's integers are signed; the bits come back unharmed. */
	for (size_t i = 0; i < p->nrlimits; i++)
		json_array_append_new(rlimits, json_pack("[i,I,I]", p->rlimits[i].resource,
							 (json_int_t)p->rlimits[i].cur,
							 (json_int_t)p->rlimits[i].max));
	return json_pack(
		"{s:o, s:o, s:o, s:I, s:I, s:I, s:o, s:o, s:[I,I,I,I,I], s:b, s:b, "
		"s:[i,i,i], s:i}",
		"args", pack_strings(p->argv, p->argc), "env", pack_strings(p->envp, p->envc),
		"cwd", pack_bytes(p->cwd), "uid", (json_int_t)p->uid, "gid", (json_int_t)p->gid,
		"umask", (json_int_t)p->umask, "groups", groups, "rlimits", rlimits, "caps",
		(json_int_t)p->cap_bounding, (json_int_t)p->cap_effective,
		(json_int_t)p->cap_inheritable, (json_int_t)p->cap_permitted,
		(json_int_t)p->cap_ambient, "noNewPrivs", p->no_new_privs, "terminal", p->terminal,
		"stdio", p->stdio[0], p->stdio[1], p->stdio[2], "oomScoreAdj", p->oom_score_adj);
}

static char *dump(json_t *j)
{
	char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;

	json_decref(j);
	return text;
}

char *boot_process_encode(const struct boot_process *p)
{
	return dump(pack_process(p));
}

char *boot_config_encode(const struct boot_config *c)
{
	json_t *mounts = json_array();

	for (size_t i = 0; i < c->nmounts; i++) {
		const struct boot_mount *m = &c->mounts[i];
		json_array_append_new(mounts, json_pack("[s,s,s,s,I,i,b]", m->type, m->source,
							m->target, m->data, (json_int_t)m->flags,
							m->gofer_id, m->overlay));
	}
	return dump(json_pack(
		"{s:s, s:s, s:s, s:s, s:s, s:b, s:b, s:i, s:o, s:o, s:o, s:o, s:o, s:o, "
		"s:[i,i,i,i,i,i,i], s:b, "
		"s:b, s:s, s:i, s:b, s:b, s:b, s:b, s:b}",
		"platform", c->platform, "id", c->container_id, "hostname", c->hostname,
		"domainname", c->domainname, "rootSource", c->root_source, "rootOverlay",
		c->root_overlay, "rootReadonly", c->root_readonly, "rootPropagation",
		(int)c->root_propagation, "mounts", mounts, "masked",
		pack_strings(c->masked_paths, count(c->masked_paths)), "readonly",
		pack_strings(c->readonly_paths, count(c->readonly_paths)), "devices",
		pack_strings(c->devices, count(c->devices)), "sysctls",
		pack_strings(c->sysctls, count(c->sysctls)), "process", pack_process(&c->process),
		"fds", c->control_fd, c->gofer_fd, c->proc_fd, c->panic_fd, c->log_fd, c->owner_fd,
		c->status_fd, "strace", c->strace, "patching", c->systrap_patching,
		"straceSyscalls", c->strace_syscalls, "spinUs", c->spin_us, "logJson", c->log_json,
		"debug", c->debug, "foreground", c->foreground, "ownTty", c->own_tty, "allowSuid",
		c->allow_suid));
}

/* A NULL-terminated vector in one allocation with its strings. */
static int unpack_strings(json_t *a, char ***out, size_t *n)
{
	size_t len = json_array_size(a), bytes = (len + 1) * sizeof(char *);

	if (!json_is_array(a) || len > STRINGS_MAX)
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		json_t *s = json_array_get(a, i);
		if (!json_is_string(s))
			return -EINVAL;
		bytes += json_string_length(s) + 1;
	}
	char **v = malloc(bytes);
	if (!v)
		return -ENOMEM;
	char *p = (char *)(v + len + 1);
	for (size_t i = 0; i < len; i++) {
		ssize_t size = unpack_bytes(json_array_get(a, i), p);
		if (size < 0) {
			free(v);
			return -EINVAL;
		}
		v[i] = p;
		p += size;
		*p++ = 0;
	}
	v[len] = NULL;
	*out = v;
	if (n)
		*n = len;
	return 0;
}

static int unpack_groups(json_t *a, struct boot_process *p)
{
	size_t n = json_array_size(a);

	if (n > 65536)
		return -EINVAL;
	p->groups = calloc(n + 1, sizeof(*p->groups));
	if (!p->groups)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		json_t *g = json_array_get(a, i);
		if (!json_is_integer(g) || json_integer_value(g) < 0 ||
		    json_integer_value(g) > UINT32_MAX)
			return -EINVAL;
		p->groups[p->ngroups++] = (uint32_t)json_integer_value(g);
	}
	return 0;
}

static int unpack_rlimits(json_t *a, struct boot_process *p)
{
	size_t n = json_array_size(a);

	if (n > 64)
		return -EINVAL;
	p->rlimits = calloc(n + 1, sizeof(*p->rlimits));
	if (!p->rlimits)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		json_int_t cur, max;
		int resource;
		if (json_unpack(json_array_get(a, i), "[i,I,I]", &resource, &cur, &max))
			return -EINVAL;
		p->rlimits[p->nrlimits++] =
			(struct boot_rlimit){resource, (uint64_t)cur, (uint64_t)max};
	}
	return 0;
}

void boot_process_fini(struct boot_process *p)
{
	free(p->argv);
	free(p->envp);
	free((char *)p->cwd);
	free(p->groups);
	free(p->rlimits);
	memset(p, 0, sizeof(*p));
}

int boot_process_unpack(json_t *j, struct boot_process *p)
{
	json_t *args, *env, *cwd, *groups, *rlimits;
	json_int_t uid, gid, mask, caps[5];
	int nnp, terminal;

	memset(p, 0, sizeof(*p));
	if (json_unpack(j,
			"{s:o, s:o, s:o, s:I, s:I, s:I, s:o, s:o, s:[I,I,I,I,I], s:b, s:b, "
			"s:[i,i,i], s:i}",
			"args", &args, "env", &env, "cwd", &cwd, "uid", &uid, "gid", &gid, "umask",
			&mask, "groups", &groups, "rlimits", &rlimits, "caps", &caps[0], &caps[1],
			&caps[2], &caps[3], &caps[4], "noNewPrivs", &nnp, "terminal", &terminal,
			"stdio", &p->stdio[0], &p->stdio[1], &p->stdio[2], "oomScoreAdj",
			&p->oom_score_adj))
		return -EINVAL;
	if (uid < 0 || uid > UINT32_MAX || gid < 0 || gid > UINT32_MAX || mask < 0 || mask > 0777 ||
	    p->oom_score_adj < -1000 || p->oom_score_adj > 1000)
		return -EINVAL;
	p->uid = (uint32_t)uid;
	p->gid = (uint32_t)gid;
	p->umask = (uint32_t)mask;
	p->cap_bounding = (uint64_t)caps[0];
	p->cap_effective = (uint64_t)caps[1];
	p->cap_inheritable = (uint64_t)caps[2];
	p->cap_permitted = (uint64_t)caps[3];
	p->cap_ambient = (uint64_t)caps[4];
	p->no_new_privs = nnp;
	p->terminal = terminal;
	int err = unpack_strings(args, &p->argv, &p->argc);
	if (!err)
		err = unpack_strings(env, &p->envp, &p->envc);
	if (!err)
		err = unpack_groups(groups, p);
	if (!err)
		err = unpack_rlimits(rlimits, p);
	if (!err && p->argc == 0)
		err = -EINVAL;
	if (!err && json_string_length(cwd) < 2 * PATH_MAX) {
		char *dir = calloc(1, json_string_length(cwd) + 1);
		if (!dir)
			err = -ENOMEM;
		else if (unpack_bytes(cwd, dir) < 0)
			err = -EINVAL;
		p->cwd = dir;
	}
	if (err)
		boot_process_fini(p);
	return err;
}

static int unpack_mounts(json_t *a, struct boot_config *c)
{
	size_t n = json_array_size(a);

	if (n > 4096)
		return -EINVAL;
	c->mounts = calloc(n + 1, sizeof(*c->mounts));
	if (!c->mounts)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		struct boot_mount *m = &c->mounts[i];
		json_int_t flags;
		int overlay;
		if (json_unpack(json_array_get(a, i), "[s,s,s,s,I,i,b]", &m->type, &m->source,
				&m->target, &m->data, &flags, &m->gofer_id, &overlay))
			return -EINVAL;
		m->flags = (unsigned)flags;
		m->overlay = overlay;
		c->nmounts++;
	}
	return 0;
}

/* Strings of the configuration point into the JSON tree. */
struct decoded {
	struct boot_config config;
	json_t *tree;
};

void boot_config_free(struct boot_config *c)
{
	struct decoded *d = container_of(c, struct decoded, config);

	boot_process_fini(&c->process);
	free(c->masked_paths);
	free(c->readonly_paths);
	free(c->devices);
	free(c->sysctls);
	free(c->mounts);
	json_decref(d->tree);
	free(d);
}

static int unpack_config(json_t *j, struct boot_config *c)
{
	json_t *mounts, *masked, *readonly, *devices, *sysctls, *process;
	int root_overlay, root_ro, strace, allow_suid, patching, log_json, debug, foreground,
		own_tty;
	json_error_t je;

	if (json_unpack_ex(j, &je, 0,
			   "{s:s, s:s, s:s, s:s, s:s, s:b, s:b, s:i, s:o, s:o, s:o, s:o, s:o, s:o, "
			   "s:[i,i,i,i,i,i,i], s:b, "
			   "s:b, s:s, s:i, s:b, s:b, s:b, s:b, s:b}",
			   "platform", &c->platform, "id", &c->container_id, "hostname",
			   &c->hostname, "domainname", &c->domainname, "rootSource",
			   &c->root_source, "rootOverlay", &root_overlay, "rootReadonly", &root_ro,
			   "rootPropagation", &c->root_propagation, "mounts", &mounts, "masked",
			   &masked, "readonly", &readonly, "devices", &devices, "sysctls", &sysctls,
			   "process", &process, "fds", &c->control_fd, &c->gofer_fd, &c->proc_fd,
			   &c->panic_fd, &c->log_fd, &c->owner_fd, &c->status_fd, "strace", &strace,
			   "patching", &patching, "straceSyscalls", &c->strace_syscalls, "spinUs",
			   &c->spin_us, "logJson", &log_json, "debug", &debug, "foreground",
			   &foreground, "ownTty", &own_tty, "allowSuid", &allow_suid)) {
		log_warn("boot configuration: %s", je.text);
		return -EINVAL;
	}
	c->root_overlay = root_overlay;
	c->root_readonly = root_ro;
	c->strace = strace;
	c->allow_suid = allow_suid;
	c->systrap_patching = patching;
	c->log_json = log_json;
	c->debug = debug;
	c->foreground = foreground;
	c->own_tty = own_tty;
	int err = unpack_mounts(mounts, c);
	if (!err)
		err = unpack_strings(masked, &c->masked_paths, NULL);
	if (!err)
		err = unpack_strings(readonly, &c->readonly_paths, NULL);
	if (!err)
		err = unpack_strings(devices, &c->devices, NULL);
	if (!err)
		err = unpack_strings(sysctls, &c->sysctls, NULL);
	return err ? err : boot_process_unpack(process, &c->process);
}

int boot_config_decode(const char *text, size_t len, struct boot_config **out)
{
	struct decoded *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	d->tree = json_loadb(text, len, 0, NULL);
	int err = unpack_config(d->tree, &d->config);
	if (err)
		boot_config_free(&d->config);
	else
		*out = &d->config;
	return err;
}
