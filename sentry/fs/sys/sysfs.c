#include "sentry/fs/sys/sysfs.h"

#include <errno.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>

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

/* The processors that share something: NAME as a mask, NAME_list. */
static int add_sharers(struct inode *dir, const char *name, const struct cpus *who,
		       const char *list)
{
	char list_name[32];
	struct text t = TEXT_INIT;

	cpus_put_mask(&t, who);
	int err = text_error(&t);
	if (!err)
		err = add_text(dir, name, "%s", t.buf);
	text_fini(&t);
	snprintf(list_name, sizeof(list_name), "%s_list", name);
	return err ? err : add_text(dir, list_name, "%s", list);
}

/* Each processor is a core of its own, all in one package. */
static int add_topology(struct inode *dir, unsigned n, const struct cpus *online,
			const char *online_list)
{
	static const char *const own[] = {"core_cpus", "thread_siblings"};
	static const char *const shared[] = {"core_siblings", "die_cpus", "package_cpus"};
	struct cpus self = {.highest = n};
	char self_list[16];
	int err = add_text(dir, "core_id", "%u", n);

	self.bits[n / 64] = 1ULL << n % 64;
	snprintf(self_list, sizeof(self_list), "%u", n);
	for (size_t i = 0; i < ARRAY_SIZE(own) && !err; i++)
		err = add_sharers(dir, own[i], &self, self_list);
	for (size_t i = 0; i < ARRAY_SIZE(shared) && !err; i++)
		err = add_sharers(dir, shared[i], online, online_list);
	if (!err)
		err = add_text(dir, "physical_package_id", "0");
	return err ? err : add_text(dir, "die_id", "0");
}

static int add_cpu(struct inode *cpu_dir, unsigned n, const struct cpus *online,
		   const char *online_list)
{
	char name[16];
	struct inode *cpu, *topology;

	snprintf(name, sizeof(name), "cpu%u", n);
	int err = synth_add_dir(cpu_dir, name, 0755, &cpu);
	if (!err && n)
		err = add_text(cpu, "online", "%d", cpus_has(online, n));
	if (err || !cpus_has(online, n) || (err = synth_add_dir(cpu, "topology", 0755, &topology)))
		return err;
	return add_topology(topology, n, online, online_list);
}

/* What numactl(8) shows: the host's memory is the one node's. */
static int show_node_memory(struct text *out, void *arg)
{
	struct sysinfo si;

	(void)arg;
	if (sysinfo(&si))
		return -ENOSYS;
	unsigned long long unit = si.mem_unit ? si.mem_unit : 1;
	unsigned long long all = si.totalram * unit >> 10, unused = si.freeram * unit >> 10;
	text_printf(out,
		    "Node 0 MemTotal:       %8llu kB\nNode 0 MemFree:        %8llu kB\n"
		    "Node 0 MemUsed:        %8llu kB\n",
		    all, unused, all - unused);
	return 0;
}

static const struct synth_file_ops node_memory_ops = {.show = show_node_memory};

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
			err = add_cpu(dir, n, online, o->cpus_online);
	if (err)
		return err;

	/* One NUMA node with all of them. */
	struct text t = TEXT_INIT;
	cpus_put_mask(&t, online);
	if (!(err = text_error(&t)) &&
	    !(err = add_path(root, "devices/system/node/node0", &node)) &&
	    !(err = add_text(node, "cpulist", "%s", o->cpus_online)) &&
	    !(err = add_text(node, "cpumap", "%s", t.buf)) &&
	    !(err = add_text(node, "distance", "10")))
		err = synth_add(node, "meminfo",
				synth_file_new(node->sb, 0444, &node_memory_ops, NULL));
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
