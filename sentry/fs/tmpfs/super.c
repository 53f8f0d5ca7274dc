/* Instances: options, limits, statfs. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>

#include "sentry/fs/tmpfs/node.h"

#define TMPFS_MAGIC_NUMBER 0x01021994
#define RAMFS_MAGIC_NUMBER 0x858458f6

static uint64_t ram_pages;

static uint64_t memory_pages(void)
{
	if (!ram_pages) {
		struct sysinfo si;
		ram_pages =
			sysinfo(&si) ? 1UL << 18 : (uint64_t)si.totalram * si.mem_unit / PAGE_SIZE;
	}
	return ram_pages;
}

int tmpfs_charge(struct tmpfs_super *ts, uint64_t pages)
{
	uint64_t used = ts->pages;
	do {
		if (ts->max_pages && (used >= ts->max_pages || pages > ts->max_pages - used))
			return pages ? -ENOSPC : 0;
	} while (!atomic_compare_exchange_weak(&ts->pages, &used, used + pages));
	return 0;
}

void tmpfs_uncharge(struct tmpfs_super *ts, uint64_t pages)
{
	ts->pages -= pages;
}

int tmpfs_charge_inode(struct tmpfs_super *ts)
{
	uint64_t used = ts->inodes;
	do {
		if (ts->max_inodes && used >= ts->max_inodes)
			return -ENOSPC;
	} while (!atomic_compare_exchange_weak(&ts->inodes, &used, used + 1));
	return 0;
}

static int tmpfs_statfs(struct super_block *sb, struct kstatfs *st)
{
	struct tmpfs_super *ts = tmpfs_super(sb);
	uint64_t pages = ts->pages, inodes = ts->inodes;
	*st = (struct kstatfs){
		.type = sb->magic,
		.bsize = PAGE_SIZE,
		.frsize = PAGE_SIZE,
		.namelen = VFS_NAME_MAX,
		.fsid = sb->dev,
	};
	if (ts->max_pages) {
		st->blocks = ts->max_pages;
		st->bfree = st->bavail = pages < ts->max_pages ? ts->max_pages - pages : 0;
	}
	if (ts->max_inodes) {
		st->files = ts->max_inodes;
		st->ffree = inodes < ts->max_inodes ? ts->max_inodes - inodes : 0;
	}
	return 0;
}

static void tmpfs_show_options(struct super_block *sb, char *buf, size_t size)
{
	struct tmpfs_super *ts = tmpfs_super(sb);
	char part[64];
	buf[0] = '\0';
#define ADD(cond, ...)                                             \
	do {                                                       \
		if (cond) {                                        \
			snprintf(part, sizeof(part), __VA_ARGS__); \
			if (strlen(buf) + strlen(part) < size)     \
				strcat(buf, part);                 \
		}                                                  \
	} while (0)
	ADD(ts->ramfs && ts->root_mode != 0755, ",mode=%o", ts->root_mode);
	if (ts->ramfs)
		return;
	ADD(ts->size_given, ",size=%lluk",
	    (unsigned long long)(ts->max_pages * (PAGE_SIZE / 1024)));
	ADD(ts->inodes_given, ",nr_inodes=%llu", (unsigned long long)ts->max_inodes);
	ADD(ts->root_mode != 01777, ",mode=%03o", ts->root_mode);
	ADD(ts->root_uid, ",uid=%u", uid_show(sb->user_ns, ts->root_uid));
	ADD(ts->root_gid, ",gid=%u", gid_show(sb->user_ns, ts->root_gid));
	ADD(true, ",inode64");
#undef ADD
}

static int tmpfs_claim(struct super_block *sb, const struct cred *c)
{
	struct tmpfs_super *ts = tmpfs_super(sb);
	struct inode *root = sb->root->inode;

	ts->root_uid = ts->uid_given ? uid_enter(c->user_ns, ts->root_uid) : c->fsuid;
	ts->root_gid = ts->gid_given ? gid_enter(c->user_ns, ts->root_gid) : c->fsgid;
	if (ts->root_uid == ID_NONE || ts->root_gid == ID_NONE)
		return -EINVAL;
	root->uid = ts->root_uid;
	root->gid = ts->root_gid;
	return 0;
}

static void tmpfs_super_free(struct super_block *sb)
{
	free(tmpfs_super(sb));
}

/* A number with an optional unit: k, m, g, t, p, or with `percent` also %. */
static int parse_size(const char *s, bool percent, uint64_t *out)
{
	if (*s < '0' || *s > '9')
		return -EINVAL;
	char *end;
	errno = 0;
	uint64_t v = strtoull(s, &end, 0);
	if (errno)
		return -EINVAL;
	if (percent && *end == '%' && !end[1]) {
		if (v > 1000)
			return -EINVAL;
		*out = memory_pages() * PAGE_SIZE / 100 * v;
		return 0;
	}
	unsigned shift = 0;
	static const char units[] = "kmgtp";
	if (*end) {
		const char *u = strchr(units, *end | 0x20);
		if (!u || end[1])
			return -EINVAL;
		shift = 10 * (u - units + 1);
	}
	if (v > UINT64_MAX >> shift)
		return -EINVAL;
	*out = v << shift;
	return 0;
}

static int parse_id(const char *s, int base, uint32_t max, uint32_t *out)
{
	if (*s < '0' || *s > '9')
		return -EINVAL;
	char *end;
	errno = 0;
	unsigned long v = strtoul(s, &end, base);
	if (errno || *end || v > max)
		return -EINVAL;
	*out = v;
	return 0;
}

static int parse_option(struct tmpfs_super *ts, const char *key, const char *value)
{
	uint64_t n;
	int err;
	if (ts->ramfs)
		return value && !strcmp(key, "mode") ? parse_id(value, 8, 07777, &ts->root_mode)
						     : 0;
	if (!value) {
		static const char *const flags[] = {"inode32", "inode64", "noswap", "rw", "ro"};
		for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
			if (!strcmp(key, flags[i]))
				return 0;
		return -EINVAL;
	}
	if (!strcmp(key, "size")) {
		if ((err = parse_size(value, true, &n)) || n > INT64_MAX)
			return -EINVAL;
		ts->max_pages = (n + PAGE_SIZE - 1) / PAGE_SIZE;
		ts->size_given = true;
		return 0;
	}
	if (!strcmp(key, "nr_blocks")) {
		if ((err = parse_size(value, false, &n)) || n > INT64_MAX / PAGE_SIZE)
			return -EINVAL;
		ts->max_pages = n;
		ts->size_given = true;
		return 0;
	}
	if (!strcmp(key, "nr_inodes")) {
		if ((err = parse_size(value, false, &n)) || n > INT64_MAX)
			return -EINVAL;
		ts->max_inodes = n;
		ts->inodes_given = true;
		return 0;
	}
	if (!strcmp(key, "mode"))
		return parse_id(value, 8, 07777, &ts->root_mode);
	if (!strcmp(key, "uid")) {
		ts->uid_given = true;
		return parse_id(value, 10, UINT32_MAX - 1, &ts->root_uid);
	}
	if (!strcmp(key, "gid")) {
		ts->gid_given = true;
		return parse_id(value, 10, UINT32_MAX - 1, &ts->root_gid);
	}
	if (!strcmp(key, "huge") || !strcmp(key, "mpol"))
		return 0;
	return -EINVAL;
}

static int parse_options(struct tmpfs_super *ts, const char *options)
{
	if (!options || !*options)
		return 0;
	char *copy = strdup(options);
	if (!copy)
		return -ENOMEM;
	int err = 0;
	char *save = NULL;
	for (char *opt = strtok_r(copy, ",", &save); opt && !err;
	     opt = strtok_r(NULL, ",", &save)) {
		char *value = strchr(opt, '=');
		if (value)
			*value++ = '\0';
		err = parse_option(ts, opt, value);
	}
	free(copy);
	return err;
}

/* Limits may change, not below what is used, and not between none and some. */
static int tmpfs_remount(struct super_block *sb, const char *options)
{
	struct tmpfs_super *ts = tmpfs_super(sb);
	struct tmpfs_super new = {.max_pages = ts->max_pages, .max_inodes = ts->max_inodes};
	int err = parse_options(&new, options);

	if (err)
		return err;
	if ((new.size_given &&new.max_pages &&new.max_pages < ts->pages) ||
	    (new.inodes_given &&new.max_inodes &&new.max_inodes < ts->inodes) ||
	    (new.size_given &&new.max_pages && !ts->max_pages) ||
	    (new.inodes_given &&new.max_inodes && !ts->max_inodes))
		return -EINVAL;
	ts->max_pages = new.max_pages;
	ts->max_inodes = new.max_inodes;
	ts->size_given |= new.size_given;
	ts->inodes_given |= new.inodes_given;
	return 0;
}

static const struct super_ops tmpfs_super_ops = {
	.statfs = tmpfs_statfs,
	.claim = tmpfs_claim,
	.show_options = tmpfs_show_options,
	.remount = tmpfs_remount,
	.free = tmpfs_super_free,
};

/* Consumes ts. */
static int finish_mount(struct tmpfs_super *ts, const char *fstype, uint64_t magic,
			const char *options, struct super_block **out)
{
	int err = parse_options(ts, options);
	if (err) {
		free(ts);
		return err;
	}
	super_init(&ts->sb, &tmpfs_super_ops, fstype, magic);
	struct inode *root;
	err = tmpfs_inode_new(&ts->sb, NULL, S_IFDIR | ts->root_mode, 0, NULL, &root);
	if (!err) {
		root->uid = ts->root_uid;
		root->gid = ts->root_gid;
		err = super_set_root(&ts->sb, root);
	}
	if (err) {
		super_put(&ts->sb);
		return err;
	}
	*out = &ts->sb;
	return 0;
}

int tmpfs_mount_as(const char *fstype, const char *options, struct super_block **out)
{
	struct tmpfs_super *ts = calloc(1, sizeof(*ts));
	if (!ts)
		return -ENOMEM;
	ts->max_pages = ts->max_inodes = memory_pages() / 2;
	ts->root_mode = 01777;
	return finish_mount(ts, fstype, TMPFS_MAGIC_NUMBER, options, out);
}

int tmpfs_mount(const char *options, struct super_block **out)
{
	return tmpfs_mount_as("tmpfs", options, out);
}

int ramfs_mount(const char *options, struct super_block **out)
{
	struct tmpfs_super *ts = calloc(1, sizeof(*ts));
	if (!ts)
		return -ENOMEM;
	ts->ramfs = true;
	ts->root_mode = 0755;
	return finish_mount(ts, "ramfs", RAMFS_MAGIC_NUMBER, options, out);
}
