/* The super block and the files that are not about one task. */
#include "sentry/fs/proc/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "sentry/fs/proc/internal.h"
#include "sentry/kernel/ipc/ipc.h"
#include "sentry/kernel/ns/time_ns.h"
#include "sentry/kernel/pid.h"
#include "sentry/kernel/run.h"
#include "sentry/kernel/version.h"
#include "sentry/lib/log.h"

#define PROC_SUPER_MAGIC 0x9fa0

const char *proc_cpuinfo;

void procfs_capture_host(void)
{
	size_t room = 64 << 10, n = 0;
	char *buf = malloc(room);
	int fd = open("/proc/cpuinfo", O_RDONLY | O_CLOEXEC);

	while (buf && fd >= 0 && n < room - 1) {
		ssize_t r = read(fd, buf + n, room - 1 - n);
		if (r <= 0)
			break;
		n += (size_t)r;
	}
	if (fd >= 0)
		close(fd);
	if (n == 0) {
		free(buf);
		log_warn("the host's /proc/cpuinfo cannot be read: the sandbox will have none");
		return;
	}
	buf[n] = 0;
	char *exact = realloc(buf, n + 1);
	proc_cpuinfo = exact ? exact : buf;
}

static int show_cpuinfo(struct text *out, void *arg)
{
	(void)arg;
	if (proc_cpuinfo)
		text_puts(out, proc_cpuinfo);
	return 0;
}

static int show_version(struct text *out, void *arg)
{
	(void)arg;
	text_printf(out, "Linux version %s (runsc@sandbox) (gcc) %s\n", KERNEL_RELEASE,
		    KERNEL_VERSION);
	return 0;
}

static int show_uptime(struct text *out, void *arg)
{
	int64_t up = time_boottime() + time_offsets_here().boottime - kernel->boot_boottime;

	(void)arg;
	up /= NSEC_PER_SEC / 100;
	text_printf(out, "%lld.%02lld 0.00\n", (long long)up / 100, (long long)up % 100);
	return 0;
}

static int show_meminfo(struct text *out, void *arg)
{
	struct sysinfo si;

	(void)arg;
	if (sysinfo(&si))
		return -ENOSYS;
	uint64_t unit = si.mem_unit ? si.mem_unit : 1;
	uint64_t total = si.totalram * unit >> 10, free_kb = si.freeram * unit >> 10;
	uint64_t buffers = si.bufferram * unit >> 10;
	const struct {
		const char *name;
		uint64_t kb;
	} rows[] = {
		{"MemTotal", total},
		{"MemFree", free_kb},
		{"MemAvailable", MIN(free_kb + buffers, total)},
		{"Buffers", buffers},
		{"Cached", 0},
		{"SwapCached", 0},
		{"Active", (total - free_kb) / 2},
		{"Inactive", (total - free_kb) / 2},
		{"SwapTotal", si.totalswap * unit >> 10},
		{"SwapFree", si.freeswap * unit >> 10},
		{"Dirty", 0},
		{"Writeback", 0},
		{"AnonPages", total - free_kb},
		{"Mapped", 0},
		{"Shmem", si.sharedram * unit >> 10},
		{"CommitLimit", total / 2},
		{"Committed_AS", total - free_kb},
		{"VmallocTotal", 34359738367ULL},
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		text_printf(out, "%s:", rows[i].name);
		text_pad(out, 16);
		text_printf(out, "%8llu kB\n", (unsigned long long)rows[i].kb);
	}
	text_puts(out, "HugePages_Total:       0\nHugePages_Free:        0\n"
		       "Hugepagesize:       2048 kB\n");
	return 0;
}

static int show_loadavg(struct text *out, void *arg)
{
	struct sysinfo si;
	unsigned long l[3];

	(void)arg;
	if (sysinfo(&si))
		return -ENOSYS;
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	int last = proc_pid_ns(out->of->sb)->last;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	for (int i = 0; i < 3; i++)
		l[i] = (si.loads[i] * 100 + (1UL << 15)) >> 16;
	text_printf(out, "%lu.%02lu %lu.%02lu %lu.%02lu 1/%d %d\n", l[0] / 100, l[0] % 100,
		    l[1] / 100, l[1] % 100, l[2] / 100, l[2] % 100, atomic_load(&kernel->ntasks),
		    last);
	return 0;
}

static int show_stat(struct text *out, void *arg)
{
	(void)arg;
	text_puts(out, "cpu  0 0 0 0 0 0 0 0 0 0\n");
	for (unsigned i = 0; i < kernel->ncpus; i++)
		text_printf(out, "cpu%u 0 0 0 0 0 0 0 0 0 0\n", i);
	text_printf(out,
		    "intr 0\nctxt 0\nbtime %lld\nprocesses %llu\nprocs_running 1\n"
		    "procs_blocked 0\nsoftirq 0\n",
		    (long long)(kernel->boot_time / NSEC_PER_SEC),
		    (unsigned long long)atomic_load(&kernel->nforks) + 1);
	return 0;
}

static int show_filesystems(struct text *out, void *arg)
{
	(void)arg;
	for (const struct fs_type *f = vfs_fs_types; f && f->name; f++)
		text_printf(out, "%s\t%s\n", f->flags & FS_DEVICES ? "" : "nodev", f->name);
	return 0;
}

static int show_cmdline(struct text *out, void *arg)
{
	(void)arg;
	text_puts(out, "quiet\n");
	return 0;
}

static int show_devices(struct text *out, void *arg)
{
	(void)arg;
	text_puts(out, "Character devices:\n  1 mem\n  5 /dev/tty\n  5 /dev/ptmx\n136 pts\n\nBlock "
		       "devices:\n");
	return 0;
}

static int show_swaps(struct text *out, void *arg)
{
	(void)arg;
	text_puts(out, "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n");
	return 0;
}

static int show_empty(struct text *out, void *arg)
{
	(void)out, (void)arg;
	return 0;
}

/* proc_locks(5). */
static int show_locks(struct text *out, void *arg)
{
	static const char *const kinds[] = {"POSIX ", "OFDLCK", "FLOCK ", "LEASE "};
	size_t n = 0;
	CLEANUP_FREE struct flock_info *all = flock_list_all(&n);

	(void)arg;
	if (!all)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		const struct flock_info *l = &all[i];
		mutex_lock(&kernel->tasks_lock, &lc_tasks);
		int pid = pid_show(proc_pid_ns(out->of->sb), l->pid);
		mutex_unlock(&kernel->tasks_lock, &lc_tasks);
		if (!pid)
			continue;
		text_printf(out, "%zu: %s %s  %s %d %02x:%02x:%llu %lld ", i + 1, kinds[l->kind],
			    l->kind != FLOCK_LEASE ? "ADVISORY"
			    : l->breaking	   ? "BREAKING"
						   : "ACTIVE  ",
			    l->ending	   ? "UNLCK"
			    : l->exclusive ? "WRITE"
					   : "READ",
			    pid, major(l->dev), minor(l->dev), (unsigned long long)l->ino,
			    (long long)l->start);
		if (l->end == INT64_MAX)
			text_puts(out, "EOF\n");
		else
			text_printf(out, "%lld\n", (long long)l->end);
	}
	return 0;
}

#define FILE_OPS(name) static const struct synth_file_ops name##_ops = {.show = show_##name}
FILE_OPS(cpuinfo);
FILE_OPS(version);
FILE_OPS(uptime);
FILE_OPS(meminfo);
FILE_OPS(loadavg);
FILE_OPS(stat);
FILE_OPS(filesystems);
FILE_OPS(cmdline);
FILE_OPS(devices);
FILE_OPS(swaps);
FILE_OPS(empty);
FILE_OPS(locks);

int proc_add_global(struct inode *root)
{
	static const struct synth_table table[] = {
		{"cmdline", 0444, &cmdline_ops, NULL},
		{"cpuinfo", 0444, &cpuinfo_ops, NULL},
		{"devices", 0444, &devices_ops, NULL},
		{"filesystems", 0444, &filesystems_ops, NULL},
		{"key-users", 0444, &proc_key_users_ops, NULL},
		{"keys", 0444, &proc_keys_ops, NULL},
		{"loadavg", 0444, &loadavg_ops, NULL},
		{"locks", 0444, &locks_ops, NULL},
		{"meminfo", 0444, &meminfo_ops, NULL},
		{"modules", 0444, &empty_ops, NULL},
		{"stat", 0444, &stat_ops, NULL},
		{"swaps", 0444, &swaps_ops, NULL},
		{"uptime", 0444, &uptime_ops, NULL},
		{"version", 0444, &version_ops, NULL},
		{NULL, 0, NULL, NULL},
	};
	return synth_add_table(root, table);
}

/* arg: what makes the text, behind a pointer (functions are no void *). */
static int show_ipc(struct text *out, void *arg)
{
	char *(*const *make)(struct task * t) = arg;
	struct task *t = task_current();
	char *text = t ? (*make)(t) : NULL;

	if (!text)
		return -ENOMEM;
	text_puts(out, text);
	free(text);
	return 0;
}
FILE_OPS(ipc);

static int add_sysvipc(struct inode *root)
{
	static char *(*const texts[])(struct task * t) = {msq_proc_text, sem_proc_text,
							  shm_proc_text};
	const struct synth_table table[] = {
		{"msg", 0444, &ipc_ops, (void *)&texts[0]},
		{"sem", 0444, &ipc_ops, (void *)&texts[1]},
		{"shm", 0444, &ipc_ops, (void *)&texts[2]},
		{NULL, 0, NULL, NULL},
	};
	struct inode *dir;
	int err = synth_add_dir(root, "sysvipc", 0555, &dir);

	return err ? err : synth_add_table(dir, table);
}

int procfs_mount(struct pid_ns *ns, struct super_block **out)
{
	struct super_block *sb;
	int err = synth_super_new("proc", PROC_SUPER_MAGIC, SYNTH_NO_DCACHE | SYNTH_FIXED_ATTRS,
				  &proc_root_ops, pid_ns_get(ns), &sb);
	if (err)
		return err;
	struct inode *root = sb->root->inode;
	if ((err = proc_add_global(root)) || (err = proc_add_sys(root)) ||
	    (err = proc_add_system(root)) || (err = add_sysvipc(root)) ||
	    (err = synth_add(root, "self", synth_link_new(sb, 0777, &proc_self_ops, NULL))) ||
	    (err = synth_add(root, "thread-self",
			     synth_link_new(sb, 0777, &proc_thread_self_ops, NULL))) ||
	    (err = synth_add(root, "mounts", synth_symlink_new(sb, "self/mounts"))) ||
	    (err = synth_add(root, "net", synth_symlink_new(sb, "self/net")))) {
		super_put(sb);
		return err;
	}
	*out = sb;
	return 0;
}
