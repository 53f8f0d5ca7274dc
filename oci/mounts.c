#include "oci/mounts.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#include "sentry/lib/cleanup.h"
#include "sentry/lib/log.h"

/* Source: mount(8), "filesystem-independent mount options", and the OCI specification. */
static const struct {
	const char *name;
	unsigned set, clear;
} options[] = {
	{"ro", MS_RDONLY, 0},
	{"rw", 0, MS_RDONLY},
	{"nosuid", MS_NOSUID, 0},
	{"suid", 0, MS_NOSUID},
	{"nodev", MS_NODEV, 0},
	{"dev", 0, MS_NODEV},
	{"noexec", MS_NOEXEC, 0},
	{"exec", 0, MS_NOEXEC},
	{"noatime", MS_NOATIME, 0},
	{"atime", 0, MS_NOATIME},
	{"nodiratime", MS_NODIRATIME, 0},
	{"diratime", 0, MS_NODIRATIME},
	{"relatime", MS_RELATIME, 0},
	{"norelatime", 0, MS_RELATIME},
	{"strictatime", MS_STRICTATIME, 0},
	{"sync", MS_SYNCHRONOUS, 0},
	{"async", 0, MS_SYNCHRONOUS},
	{"bind", MS_BIND, 0},
	{"rbind", MS_BIND | MS_REC, 0},
	/* Inside the sandbox: of the host's mounts nothing reaches it. */
	{"shared", MS_SHARED, 0},
	{"rshared", MS_SHARED | MS_REC, 0},
	{"private", MS_PRIVATE, 0},
	{"rprivate", MS_PRIVATE | MS_REC, 0},
	{"slave", MS_SLAVE, 0},
	{"rslave", MS_SLAVE | MS_REC, 0},
	{"unbindable", MS_UNBINDABLE, 0},
	{"runbindable", MS_UNBINDABLE | MS_REC, 0},
	{"defaults", 0, 0},
};

#define PROPAGATION (MS_SHARED | MS_SLAVE | MS_PRIVATE | MS_UNBINDABLE)

int mounts_propagation(const char *name, unsigned *flags)
{
	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		if (options[i].set & PROPAGATION && !strcmp(options[i].name, name)) {
			*flags = options[i].set;
			return 0;
		}
	}
	return -EINVAL;
}

static int add_data(struct boot_mount *m, const char *option)
{
	char *grown = NULL;

	if (asprintf(&grown, "%s%s%s", m->data, *m->data ? "," : "", option) < 0)
		return -ENOMEM;
	free((char *)m->data);
	m->data = grown;
	return 0;
}

static int parse_options(const struct spec_mount *m, struct boot_mount *out, struct err *e)
{
	out->data = strdup("");
	if (!out->data)
		return err_set(e, -ENOMEM, "out of memory");
	for (char **o = m->options; o && *o; o++) {
		size_t i = 0;
		while (i < ARRAY_SIZE(options) && strcmp(options[i].name, *o) != 0)
			i++;
		if (i < ARRAY_SIZE(options)) {
			/* Of several types the last one counts. */
			if (options[i].set & PROPAGATION)
				out->flags &= ~(unsigned)PROPAGATION;
			out->flags = (out->flags & ~options[i].clear) | options[i].set;
			continue;
		}
		if (add_data(out, *o))
			return err_set(e, -ENOMEM, "out of memory");
	}
	return 0;
}

static char *absolute(const char *base, const char *path)
{
	char *joined = NULL, *real;

	if (path[0] != '/' && asprintf(&joined, "%s/%s", base, path) < 0)
		return NULL;
	real = realpath(joined ? joined : path, NULL);
	int saved = errno;
	free(joined);
	errno = saved;
	return real;
}

/* Consumes path. */
static int add_attach(struct mount_plan *p, char *path, bool readonly)
{
	p->attach[p->nattach] = (struct gofer_attach){path, -1, readonly};
	return (int)p->nattach++;
}

static void mount_fini(struct boot_mount *m)
{
	free((char *)m->target);
	free((char *)m->data);
}

/* Returns 1 when the mount is to be left out.  *out is to be finished in every case. */
static int plan_mount(const struct spec_mount *m, size_t i, const char *bundle, bool overlay,
		      struct mount_plan *p, struct boot_mount *out, struct err *e)
{
	static const char *const known[] = {"tmpfs",  "proc",	"sysfs",  "devtmpfs",
					    "devpts", "mqueue", "cgroup", "cgroup2"};
	const char *type = m->type ? m->type : "";
	char *target;

	*out = (struct boot_mount){.type = type, .source = m->source ? m->source : type};
	if (asprintf(&target, "%s%s", *m->destination == '/' ? "" : "/", m->destination) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	out->target = target;
	int err = parse_options(m, out, e);
	if (err)
		return err;
	if (out->flags & MS_BIND || !strcmp(type, "bind") || !strcmp(type, "none")) {
		if (!m->source)
			return err_set(e, -EINVAL, "config.json: mounts[%zu].source: missing", i);
		char *path = absolute(bundle, m->source);
		if (!path)
			return err_errno(e, -errno, "config.json: mounts[%zu].source: \"%s\"", i,
					 m->source);
		out->type = "gofer";
		*(char *)out->data = 0; /* what is no flag means nothing to the gofer */
		out->flags &= ~(unsigned)(MS_BIND | MS_REC);
		out->overlay = overlay && !(out->flags & MS_RDONLY);
		out->gofer_id = add_attach(p, path, overlay || out->flags & MS_RDONLY);
		return 0;
	}
	if (!strcmp(target, "/dev") && (!strcmp(type, "tmpfs") || !strcmp(type, "dev")))
		out->type = type = "devtmpfs";
	for (size_t k = 0; k < ARRAY_SIZE(known); k++)
		if (!strcmp(type, known[k]))
			return 0;
	log_warn("config.json: mounts[%zu].type: \"%s\" is not supported: %s is not mounted", i,
		 type, target);
	return 1;
}

static bool has_target(const struct spec *s, const char *target)
{
	for (size_t i = 0; i < s->mounts.n; i++)
		if (!strcmp(s->mounts.v[i].destination, target))
			return true;
	return false;
}

/* What Linux programs expect, whatever the specification says; as the peer does. */
static void add_default(const struct spec *s, struct mount_plan *p, const char *type,
			const char *target, const char *data, unsigned flags)
{
	if (!has_target(s, target))
		p->mounts[p->nmounts++] = (struct boot_mount){.type = type,
							      .source = type,
							      .target = strdup(target),
							      .data = strdup(data),
							      .flags = flags};
}

void mounts_plan_fini(struct mount_plan *p)
{
	for (size_t i = 0; i < p->nmounts; i++)
		mount_fini(&p->mounts[i]);
	for (size_t i = 0; i < p->nattach; i++)
		free((char *)p->attach[i].path);
	free(p->mounts);
	free(p->attach);
}

static bool is_complete(const struct mount_plan *p)
{
	for (size_t i = 0; i < p->nmounts; i++)
		if (!p->mounts[i].target || !p->mounts[i].data)
			return false;
	return true;
}

static int make_plan(const struct spec *spec, const char *bundle, bool root_overlay,
		     bool mounts_overlay, struct mount_plan *p, struct err *e)
{
	const unsigned nothing = MS_NOSUID | MS_NODEV | MS_NOEXEC;

	p->mounts = calloc(spec->mounts.n + 8, sizeof(*p->mounts));
	p->attach = calloc(spec->mounts.n + 1, sizeof(*p->attach));
	if (!p->mounts || !p->attach)
		return err_set(e, -ENOMEM, "out of memory");
	char *root = absolute(bundle, spec->root->path);
	if (!root)
		return err_errno(e, -errno, "config.json: root.path: \"%s\"", spec->root->path);
	add_attach(p, root, root_overlay || spec->root->readonly);
	add_default(spec, p, "proc", "/proc", "", nothing);
	add_default(spec, p, "sysfs", "/sys", "", nothing | MS_RDONLY);
	add_default(spec, p, "devtmpfs", "/dev", "", MS_NOSUID | MS_NOEXEC);
	for (size_t i = 0; i < spec->mounts.n; i++) {
		struct boot_mount *m = &p->mounts[p->nmounts];
		int r = plan_mount(&spec->mounts.v[i], i, bundle, mounts_overlay, p, m, e);
		if (r) {
			mount_fini(m);
			if (r < 0)
				return r;
			continue;
		}
		p->nmounts++;
	}
	add_default(spec, p, "devpts", "/dev/pts", "newinstance,ptmxmode=0666,mode=0620,gid=5",
		    MS_NOSUID | MS_NOEXEC);
	add_default(spec, p, "tmpfs", "/dev/shm", "mode=1777", nothing);
	return is_complete(p) ? 0 : err_set(e, -ENOMEM, "out of memory");
}

int mounts_plan(const struct spec *spec, const char *bundle, bool root_overlay, bool mounts_overlay,
		struct mount_plan *out, struct err *e)
{
	*out = (struct mount_plan){0};
	int err = make_plan(spec, bundle, root_overlay, mounts_overlay, out, e);
	if (err)
		mounts_plan_fini(out);
	return err;
}
