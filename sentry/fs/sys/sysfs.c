#include "sentry/fs/sys/sysfs.h"

#include <errno.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/fs/synth/synth.h"
#include "sentry/lib/cleanup.h"

#define CPUS_MAX 4096

/* A set of processors. */
struct cpus {
	uint64_t bits[CPUS_MAX / 64];
	unsigned highest;
};

/* "0-3,8" */
static int cpus_parse(struct cpus *c, const char *list)
{
	memset(c, 0, sizeof(*c));
	while (*list) {
		char *end;
		if (*list < '0' || *list > '9')
			return -EINVAL;
		unsigned long first = strtoul(list, &end, 10), last = first;
		if (*end == '-' && end[1] >= '0' && end[1] <= '9')
			last = strtoul(end + 1, &end, 10);
		if (last < first || last >= CPUS_MAX)
			return -EINVAL;
		for (unsigned long i = first; i <= last; i++)
			c->bits[i / 64] |= 1ULL << i % 64;
		c->highest = MAX(c->highest, (unsigned)last);
		if (*end == ',')
			end++;
		else if (*end && *end != '\n')
			return -EINVAL;
		list = *end == '\n' ? "" : end;
	}
	return 0;
}

static bool cpus_has(const struct cpus *c, unsigned n)
{
	return c->bits[n / 64] >> n % 64 & 1;
}

/* "f" or "1,00000000": groups of 32, the highest first. */
static void cpus_put_mask(struct text *t, const struct cpus *c)
{
	for (int group = c->highest / 32; group >= 0; group--) {
		uint32_t word = c->bits[group / 2] >> (group % 2 ? 32 : 0);
		bool top = group == (int)(c->highest / 32);
		text_printf(t, top ? "%x" : ",%08x", word);
	}
}

/* ---- building blocks ---- */

/* Adds a file with this text and a line feed. */
static int add_text(struct inode *dir, const char *name, const char *fmt, ...) PRINTF_LIKE(3, 4);

static int add_text(struct inode *dir, const char *name, const char *fmt, ...)
{
	char line[1024];
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(line, sizeof(line) - 1, fmt, ap);
	va_end(ap);
	if (n < 0 || n >= (int)sizeof(line) - 1)
		return -EINVAL;
	line[n] = '\n';
	line[n + 1] = '\0';
	return synth_add(dir, name, synth_text_new(dir->sb, 0444, line));
}

/* Makes a chain of directories below dir; *out is the last. */
static int add_path(struct inode *dir, const char *path, struct inode **out)
{
	char name[VFS_NAME_MAX + 1];
	int err = 0;
	while (*path && !err) {
		size_t len = strcspn(path, "/");
		memcpy(name, path, len);
		name[len] = '\0';
		struct inode *next = synth_child(dir, name);
		if (!next)
			err = synth_add_dir(dir, name, 0755, &next);
		dir = next;
		path += len + (path[len] == '/');
	}
	if (!err && out)
		*out = dir;
	return err;
}

/* ---- processors ---- */

static int add_cpu(struct inode *cpu_dir, unsigned n, bool online)
{
	char name[16], mask[CPUS_MAX / 4];
	struct inode *cpu, *topology;
	snprintf(name, sizeof(name), "cpu%u", n);
	int err = synth_add_dir(cpu_dir, name, 0755, &cpu);
	if (!err && n)
		err = add_text(cpu, "online", "%d", online);
	if (err || !online)
		return err;
	if ((err = synth_add_dir(cpu, "topology", 0755, &topology)))
		return err;

	struct cpus self = {.highest = n};
	self.bits[n / 64] = 1ULL << n % 64;
	struct text t = TEXT_INIT;
	cpus_put_mask(&t, &self);
	err = text_error(&t);
	if (!err)
		snprintf(mask, sizeof(mask), "%s", t.buf);
	text_fini(&t);

	/* Each processor is a core of its own, all in one package. */
	static const char *const masks[] = {"core_cpus", "thread_siblings"};
	static const char *const lists[] = {"core_cpus_list", "thread_siblings_list"};
	for (size_t i = 0; i < ARRAY_SIZE(masks) && !err; i++)
		err = add_text(topology, masks[i], "%s", mask);
	for (size_t i = 0; i < ARRAY_SIZE(lists) && !err; i++)
		err = add_text(topology, lists[i], "%u", n);
	if (!err)
		err = add_text(topology, "core_id", "%u", n);
	if (!err)
		err = add_text(topology, "physical_package_id", "0");
	if (!err)
		err = add_text(topology, "die_id", "0");
	return err;
}

static int add_cpus(struct inode *root, const struct sysfs_options *o)
{
	CLEANUP_FREE struct cpus *online = malloc(sizeof(*online));
	CLEANUP_FREE struct cpus *possible = malloc(sizeof(*possible));
	struct inode *dir, *node;
	int err;
	if (!online || !possible)
		return -ENOMEM;
	if ((err = cpus_parse(online, o->cpus_online)) ||
	    (err = cpus_parse(possible, o->cpus_possible)) ||
	    (err = add_path(root, "devices/system/cpu", &dir)))
		return err;
	if ((err = add_text(dir, "online", "%s", o->cpus_online)) ||
	    (err = add_text(dir, "possible", "%s", o->cpus_possible)) ||
	    (err = add_text(dir, "present", "%s", o->cpus_present)) ||
	    (err = add_text(dir, "offline", "%s", "")) ||
	    (err = add_text(dir, "isolated", "%s", "")) ||
	    (err = add_text(dir, "kernel_max", "%d", CPUS_MAX - 1)))
		return err;
	for (unsigned n = 0; n <= possible->highest && !err; n++)
		if (cpus_has(possible, n))
			err = add_cpu(dir, n, cpus_has(online, n));
	if (err)
		return err;

	/* One NUMA node with all of them. */
	struct text t = TEXT_INIT;
	cpus_put_mask(&t, online);
	if (!(err = text_error(&t)) &&
	    !(err = add_path(root, "devices/system/node/node0", &node)) &&
	    !(err = add_text(node, "cpulist", "%s", o->cpus_online)) &&
	    !(err = add_text(node, "cpumap", "%s", t.buf)))
		err = add_text(node, "distance", "10");
	text_fini(&t);
	static const char *const names[] = {"online", "possible", "has_cpu", "has_memory",
					    "has_normal_memory"};
	if (!err)
		err = add_path(root, "devices/system/node", &node);
	for (size_t i = 0; i < ARRAY_SIZE(names) && !err; i++)
		err = add_text(node, names[i], "0");
	return err;
}

/* ---- the rest ---- */

static int add_kernel(struct inode *root)
{
	struct inode *thp;
	int err = add_path(root, "kernel/mm/transparent_hugepage", &thp);
	if (!err)
		err = add_text(thp, "enabled", "always [madvise] never");
	if (!err)
		err = add_text(thp, "defrag", "always defer defer+madvise [madvise] never");
	if (!err)
		err = add_text(thp, "hpage_pmd_size", "%lu", 2UL << 20);
	return err;
}

static int add_directories(struct inode *root)
{
	static const char *const paths[] = {
		"block",
		"bus",
		"class/net",
		"class/tty",
		"class/power_supply",
		"class/block",
		"dev/block",
		"dev/char",
		"devices/virtual/net",
		"firmware",
		"fs/cgroup",
		"kernel/mm/hugepages",
		"kernel/debug",
		"module",
		"power",
	};
	int err = 0;
	for (size_t i = 0; i < ARRAY_SIZE(paths) && !err; i++)
		err = add_path(root, paths[i], NULL);
	return err;
}

int sysfs_mount(const struct sysfs_options *o, struct super_block **out)
{
	struct super_block *sb;
	int err = synth_super_new("sysfs", SYSFS_MAGIC, 0, NULL, NULL, &sb);
	if (err)
		return err;
	struct inode *root = sb->root->inode;
	if ((err = add_cpus(root, o)) || (err = add_kernel(root)) ||
	    (err = add_directories(root))) {
		super_put(sb);
		return err;
	}
	*out = sb;
	return 0;
}
