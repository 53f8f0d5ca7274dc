/* Overlays that guests mount: options as text.  Source: overlayfs.rst of Linux. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#include "sentry/fs/overlay/ovl.h"
#include "sentry/lib/cleanup.h"

#define LAYERS_MAX 500 /* OVL_MAX_STACK */

struct parsed {
	const struct walk_env *env;
	struct path lower[LAYERS_MAX];
	size_t nlower;
	struct path upper, work;
	/* As shown: what was asked for. */
	char lowerdir[VFS_PATH_MAX], upperdir[VFS_PATH_MAX], workdir[VFS_PATH_MAX];
};

/* The first of what `sep`, unescaped, parts; *rest becomes what follows, or NULL. */
static char *split(char *s, char sep, char **rest)
{
	char *p = s;

	while (*p && *p != sep)
		p += p[0] == '\\' && p[1] ? 2 : 1;
	*rest = *p ? p + 1 : NULL;
	*p = 0;
	return s;
}

static void unescape(char *s)
{
	char *to = s;

	for (; *s; s++) {
		if (s[0] == '\\' && s[1])
			s++;
		*to++ = *s;
	}
	*to = 0;
}

static int find_layer(struct parsed *p, char *name, struct path *out)
{
	unescape(name);
	if (!*name)
		return -EINVAL;
	return path_walk(p->env, name, 0, out);
}

static int append(char *list, const char *more)
{
	size_t n = strlen(list), size = VFS_PATH_MAX - n;

	return (size_t)snprintf(list + n, size, "%s%s", n ? ":" : "", more) < size ? 0 : -EINVAL;
}

static int add_lower(struct parsed *p, char *name)
{
	if (p->nlower == LAYERS_MAX)
		return -EINVAL;
	int err = append(p->lowerdir, name);
	if (!err)
		err = find_layer(p, name, &p->lower[p->nlower]);
	if (!err)
		p->nlower++;
	return err;
}

static int set_lowers(struct parsed *p, char *list)
{
	char *rest;
	int err = 0;

	while (p->nlower)
		path_put(p->lower[--p->nlower]);
	p->lowerdir[0] = 0;
	for (; list && !err; list = rest)
		err = add_lower(p, split(list, ':', &rest));
	return err;
}

static int set_dir(struct parsed *p, char *name, struct path *dir, char *shown)
{
	path_put_p(dir);
	*dir = (struct path){NULL, NULL};
	if ((size_t)snprintf(shown, VFS_PATH_MAX, "%s", name) >= VFS_PATH_MAX)
		return -EINVAL;
	return find_layer(p, name, dir);
}

/* What this overlay is like, and nobody can change. */
static bool is_so_anyway(const char *key, const char *value)
{
	static const char *const facts[][2] = {
		{"redirect_dir", "off"},
		{"redirect_dir", "nofollow"},
		{"index", "off"},
		{"index", "on"},
		{"nfs_export", "off"},
		{"xino", "on"},
		{"xino", "off"},
		{"xino", "auto"},
		{"metacopy", "off"},
		{"uuid", "off"},
		{"uuid", "auto"},
		{"uuid", "null"},
		{"verity", "off"},
		{"volatile", ""},
		{"default_permissions", ""},
		{"ro", ""},
		{"rw", ""},
	};

	for (size_t i = 0; i < ARRAY_SIZE(facts); i++)
		if (!strcmp(key, facts[i][0]) && !strcmp(value ? value : "", facts[i][1]))
			return true;
	return false;
}

static int parse_option(struct parsed *p, char *key, char *value)
{
	if (value && !strcmp(key, "lowerdir"))
		return set_lowers(p, value);
	if (value && !strcmp(key, "lowerdir+"))
		return add_lower(p, value);
	if (value && !strcmp(key, "upperdir"))
		return set_dir(p, value, &p->upper, p->upperdir);
	if (value && !strcmp(key, "workdir"))
		return set_dir(p, value, &p->work, p->workdir);
	return is_so_anyway(key, value) ? 0 : -EINVAL;
}

static int parse(struct parsed *p, const char *options)
{
	CLEANUP_FREE char *copy = strdup(options ? options : "");
	char *rest;
	int err = copy ? 0 : -ENOMEM;

	for (char *opt = copy; opt && !err; opt = rest) {
		split(opt, ',', &rest);
		char *value = strchr(opt, '=');
		if (value)
			*value++ = 0;
		if (*opt)
			err = parse_option(p, opt, value);
	}
	return err;
}

/* The directory "work" in the work directory, which is ours alone; there may be one already. */
static int make_work(struct path in, const struct cred *c, struct dentry **out)
{
	struct path dir;
	const struct walk_env env = {.root = in, .start = in, .cred = c, .umask = 0};
	int err = vfs_mkdir(&env, "work", 0);

	if (!err || err == -EEXIST)
		err = path_walk(&env, "work", WALK_NOFOLLOW | WALK_DIRECTORY, &dir);
	if (err)
		return err;
	*out = dentry_get(dir.dentry);
	path_put(dir);
	return 0;
}

static bool is_below(const struct dentry *d, const struct dentry *top)
{
	for (; d != top && d->parent != d; d = d->parent)
		;
	return d == top;
}

/* An upper layer needs a place of its own beside it. */
static int check_upper(const struct parsed *p)
{
	if (!p->work.mnt || p->work.mnt != p->upper.mnt ||
	    is_below(p->work.dentry, p->upper.dentry) || is_below(p->upper.dentry, p->work.dentry))
		return -EINVAL;
	return p->upper.mnt->flags & MS_RDONLY || p->upper.mnt->sb->readonly ? -EROFS : 0;
}

static int mount_parsed(struct parsed *p, struct super_block **out)
{
	struct overlay_options o = {.lower = p->lower, .nlower = p->nlower};
	CLEANUP_FREE char *shown = malloc(3 * VFS_PATH_MAX + 64);
	int err = 0;

	if (!p->nlower)
		return -EINVAL;
	if (!shown)
		return -ENOMEM;
	int n = sprintf(shown, ",lowerdir=%s", p->lowerdir);
	struct cred *su = NULL;
	if (p->upper.mnt) {
		sprintf(shown + n, ",upperdir=%s,workdir=%s", p->upperdir, p->workdir);
		if ((err = check_upper(p)))
			return err;
		if (!(su = cred_new_root()))
			return -ENOMEM;
		o.upper = p->upper;
		err = make_work(p->work, su, &o.work.dentry);
	}
	o.shown = shown;
	if (!err)
		err = overlay_mount(&o, out);
	dentry_put(o.work.dentry);
	cred_put(su);
	return err;
}

int overlay_make(const struct fs_params *params, struct super_block **out)
{
	CLEANUP_FREE struct parsed *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	if (!params->env)
		return -EINVAL;
	p->env = params->env;
	int err = parse(p, params->options);
	if (!err)
		err = mount_parsed(p, out);
	while (p->nlower)
		path_put(p->lower[--p->nlower]);
	path_put_p(&p->upper);
	path_put_p(&p->work);
	return err;
}
