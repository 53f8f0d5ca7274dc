/* /proc/sys: values that programs read; the writable ones say so in their mode. */
#include <errno.h>
#include <limits.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "sentry/fs/notify/dnotify.h"
#include "sentry/fs/notify/fanotify.h"
#include "sentry/fs/notify/inotify.h"
#include "sentry/vfs/lease.h"
#include "sentry/fs/proc/internal.h"
#include "sentry/kernel/keys/keys.h"
#include "sentry/kernel/ns/ns_set.h"
#include "sentry/kernel/ns/uts.h"
#include "sentry/kernel/core/core.h"
#include "sentry/kernel/pid.h"
#include "sentry/kernel/run.h"
#include "sentry/kernel/version.h"

static int show_constant(struct text *out, void *arg)
{
	text_puts(out, arg);
	text_putc(out, '\n');
	return 0;
}

/* The reader's own name; arg, if any, says that it is the domain's. */
static char *name_of(void *arg)
{
	struct task *t = task_current();
	struct uts_ns *uts = uts_ns_of((t ? t->ns : kernel->ns)->of[NS_UTS]);

	return arg ? uts->domainname : uts->hostname;
}

static int show_name(struct text *out, void *arg)
{
	char name[65];

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	memcpy(name, name_of(arg), sizeof(name));
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	text_printf(out, "%s\n", name);
	return 0;
}

static ssize_t write_name(struct file *f, const char *buf, size_t n, void *arg)
{
	size_t len = strcspn(buf, "\n");
	char *name = name_of(arg);

	(void)f;
	if (len > 64)
		return -EINVAL;
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	memset(name, 0, 65);
	memcpy(name, buf, len);
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return (ssize_t)n;
}

int proc_parse_number(const char *buf, long least, long most, int *out)
{
	char *end;
	long value = strtol(buf, &end, 10);

	if (end == buf || (*end && *end != '\n' && *end != ' ') || value < least || value > most)
		return -EINVAL;
	*out = (int)value;
	return 0;
}

static int show_limit(struct text *out, void *arg)
{
	_Atomic int *limit = arg;

	text_printf(out, "%d\n", *limit);
	return 0;
}

static ssize_t write_limit(struct file *f, const char *buf, size_t n, void *arg)
{
	_Atomic int *limit = arg;
	int value, err = proc_parse_number(buf, 0, INT_MAX, &value);

	(void)f;
	if (err)
		return err;
	*limit = value;
	return (ssize_t)n;
}

/* ---- the PID namespace of who asks ---- */

static struct pid_ns *readers_pid_ns(void)
{
	const struct task *t = task_current();

	return t ? task_pid_ns(t) : &pid_ns_top;
}

static int pid_value(bool last)
{
	const struct pid_ns *ns = readers_pid_ns();

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	int value = last ? ns->last : ns->pid_max;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return value;
}

static int show_pid_max(struct text *out, void *arg)
{
	(void)arg;
	text_printf(out, "%d\n", pid_value(false));
	return 0;
}

static int show_last_pid(struct text *out, void *arg)
{
	(void)arg;
	text_printf(out, "%d\n", pid_value(true));
	return 0;
}

static ssize_t write_pid_max(struct file *f, const char *buf, size_t n, void *arg)
{
	struct pid_ns *ns = readers_pid_ns();
	int value, err = proc_parse_number(buf, PID_MAX_LEAST, PID_MAX_DEFAULT, &value);

	(void)f, (void)arg;
	if (err)
		return err;
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	ns->pid_max = value;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return (ssize_t)n;
}

static ssize_t write_last_pid(struct file *f, const char *buf, size_t n, void *arg)
{
	struct pid_ns *ns = readers_pid_ns();
	const struct task *t = task_current();
	int value, err = proc_parse_number(buf, 0, pid_value(false), &value);

	(void)f, (void)arg;
	if (!t || !(task_ns_capable(t, ns->ns.owner, CAP_CHECKPOINT_RESTORE) ||
		    task_ns_capable(t, ns->ns.owner, CAP_SYS_ADMIN)))
		return -EPERM;
	if (err)
		return err;
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	ns->last = value;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return (ssize_t)n;
}

/* ---- core files ---- */

static int show_core_pattern(struct text *out, void *arg)
{
	char pattern[CORE_PATTERN_MAX];

	(void)arg;
	core_pattern_get(pattern);
	text_printf(out, "%s\n", pattern);
	return 0;
}

static ssize_t write_core_pattern(struct file *f, const char *buf, size_t n, void *arg)
{
	char pattern[CORE_PATTERN_MAX] = "";
	size_t len = MIN(strcspn(buf, "\n"), sizeof(pattern) - 1);

	(void)f, (void)arg;
	memcpy(pattern, buf, len);
	core_pattern_set(pattern);
	return (ssize_t)n;
}

static int random_uuid(struct text *out, const uint8_t seed[16])
{
	uint8_t b[16];

	memcpy(b, seed, sizeof(b));
	b[6] = (b[6] & 0x0f) | 0x40; /* version 4, RFC 4122 */
	b[8] = (b[8] & 0x3f) | 0x80;
	for (int i = 0; i < 16; i++)
		text_printf(out, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", b[i]);
	text_putc(out, '\n');
	return 0;
}

static int show_uuid(struct text *out, void *arg)
{
	uint8_t b[16];

	(void)arg;
	if (getrandom(b, sizeof(b), 0) != sizeof(b))
		return -EIO;
	return random_uuid(out, b);
}

static uint8_t boot_id[16];

static int show_boot_id(struct text *out, void *arg)
{
	(void)arg;
	return random_uuid(out, boot_id);
}

static const struct synth_file_ops constant_ops = {.show = show_constant};
static char domain; /* the argument of domainname */
static const struct synth_file_ops name_ops = {.show = show_name, .write = write_name};
static const struct synth_file_ops limit_ops = {.show = show_limit, .write = write_limit};
static const struct synth_file_ops pid_max_ops = {.show = show_pid_max, .write = write_pid_max};
static const struct synth_file_ops last_pid_ops = {.show = show_last_pid, .write = write_last_pid};
static const struct synth_file_ops core_pattern_ops = {.show = show_core_pattern,
						       .write = write_core_pattern};
static const struct synth_file_ops uuid_ops = {.show = show_uuid};
static const struct synth_file_ops boot_id_ops = {.show = show_boot_id};

static const struct proc_constant kernel_values[] = {
	{"cap_last_cap", "40"},
	{"core_pipe_limit", "0"},
	{"ngroups_max", "65536"},
	{"osrelease", KERNEL_RELEASE},
	{"ostype", "Linux"},
	{"overflowgid", "65534"},
	{"overflowuid", "65534"},
	{"randomize_va_space", "2"},
	{"threads-max", "65536"},
	{"version", KERNEL_VERSION},
	{NULL, NULL},
};
static const struct proc_constant random_values[] = {
	{"entropy_avail", "256"},
	{"poolsize", "256"},
	{NULL, NULL},
};
static const struct proc_constant fs_values[] = {
	{"aio-max-nr", "65536"},      {"aio-nr", "0"},
	{"file-max", "1048576"},      {"file-nr", "0\t0\t1048576"},
	{"nr_open", "1048576"},	      {"pipe-max-size", "1048576"},
	{"protected_hardlinks", "1"}, {"protected_symlinks", "1"},
	{"suid_dumpable", "0"},	      {NULL, NULL},
};
static const struct proc_constant mqueue_values[] = {
	{"msg_default", "10"},	 {"msg_max", "10"},	{"msgsize_default", "8192"},
	{"msgsize_max", "8192"}, {"queues_max", "256"}, {NULL, NULL},
};
static const struct proc_constant vm_values[] = {
	{"max_map_count", "65530"},
	{"mmap_min_addr", "65536"},
	{"overcommit_memory", "0"},
	{"overcommit_ratio", "50"},
	{"swappiness", "60"},
	{"unprivileged_userfaultfd", "0"},
	{NULL, NULL},
};

int proc_add_constants(struct inode *parent, const char *name, const struct proc_constant *v,
		       struct inode **dir)
{
	int err = synth_add_dir(parent, name, 0555, dir);

	for (; !err && v->name; v++)
		err = synth_add(*dir, v->name,
				synth_file_new(parent->sb, 0444, &constant_ops,
					       (void *)(uintptr_t)v->value));
	return err;
}

int proc_add_sys(struct inode *root)
{
	struct inode *sys, *kern, *random, *dir;
	const struct synth_table names[] = {
		{"hostname", 0644, &name_ops, NULL},
		{"domainname", 0644, &name_ops, &domain},
		{"pid_max", 0644, &pid_max_ops, NULL},
		{"ns_last_pid", 0666, &last_pid_ops, NULL},
		{"core_pattern", 0644, &core_pattern_ops, NULL},
		{"core_uses_pid", 0644, &limit_ops, &core_uses_pid},
		{NULL, 0, NULL, NULL},
	};
	static const struct synth_table ids[] = {
		{"boot_id", 0444, &boot_id_ops, NULL},
		{"uuid", 0444, &uuid_ops, NULL},
		{NULL, 0, NULL, NULL},
	};
	const struct synth_table inotify[] = {
		{"max_queued_events", 0644, &limit_ops, &inotify_max_queued_events},
		{"max_user_instances", 0644, &limit_ops, &inotify_max_user_instances},
		{"max_user_watches", 0644, &limit_ops, &inotify_max_user_watches},
		{NULL, 0, NULL, NULL},
	};
	const struct synth_table fanotify[] = {
		{"max_queued_events", 0644, &limit_ops, &fanotify_max_queued_events},
		{"max_user_groups", 0644, &limit_ops, &fanotify_max_user_groups},
		{"max_user_marks", 0644, &limit_ops, &fanotify_max_user_marks},
		{NULL, 0, NULL, NULL},
	};
	const struct synth_table files[] = {
		{"dir-notify-enable", 0644, &limit_ops, &dnotify_enabled},
		{"lease-break-time", 0644, &limit_ops, &lease_break_time},
		{"leases-enable", 0644, &limit_ops, &leases_enable},
		{NULL, 0, NULL, NULL},
	};
	const struct synth_table keys[] = {
		{"maxbytes", 0644, &limit_ops, &key_max_bytes},
		{"maxkeys", 0644, &limit_ops, &key_max_keys},
		{"root_maxbytes", 0644, &limit_ops, &key_root_max_bytes},
		{"root_maxkeys", 0644, &limit_ops, &key_root_max_keys},
		{NULL, 0, NULL, NULL},
	};
	struct inode *fs;
	int err;

	if (getrandom(boot_id, sizeof(boot_id), 0) != sizeof(boot_id))
		return -EIO;
	if ((err = synth_add_dir(root, "sys", 0555, &sys)) ||
	    (err = proc_add_constants(sys, "kernel", kernel_values, &kern)) ||
	    (err = synth_add_table(kern, names)) ||
	    (err = synth_add_table(kern, proc_ipc_limits)) ||
	    (err = proc_add_constants(kern, "random", random_values, &random)) ||
	    (err = synth_add_table(random, ids)) ||
	    (err = proc_add_constants(sys, "fs", fs_values, &fs)) ||
	    (err = synth_add_table(fs, files)) ||
	    (err = proc_add_constants(fs, "mqueue", mqueue_values, &dir)) ||
	    (err = synth_add_dir(kern, "keys", 0555, &dir)) || (err = synth_add_table(dir, keys)) ||
	    (err = synth_add_dir(fs, "inotify", 0555, &dir)) ||
	    (err = synth_add_table(dir, inotify)) ||
	    (err = synth_add_dir(fs, "fanotify", 0555, &dir)) ||
	    (err = synth_add_table(dir, fanotify)) ||
	    (err = synth_add_dir(sys, "user", 0555, &dir)) ||
	    (err = synth_add_table(dir, proc_ns_maxima)) ||
	    (err = proc_add_constants(sys, "vm", vm_values, &dir)))
		return err;
	return proc_add_sys_net(sys);
}
