/* /proc/sys/user: how many namespaces a user may have; of the user namespace of who asks. */
#include <errno.h>
#include <limits.h>
#include <linux/capability.h>
#include <stdlib.h>

#include "sentry/fs/proc/internal.h"

static struct user_ns *own_user_ns(void)
{
	const struct task *t = task_current();

	return t ? t->cred->user_ns : &user_ns_top;
}

static int show_max(struct text *out, void *arg)
{
	text_printf(out, "%d\n", atomic_load(&own_user_ns()->max[(uintptr_t)arg]));
	return 0;
}

static ssize_t write_max(struct file *f, const char *buf, size_t n, void *arg)
{
	char *end;
	long value = strtol(buf, &end, 10);

	(void)f;
	if (end == buf || (*end && *end != '\n' && *end != ' ') || value < 0 || value > INT_MAX)
		return -EINVAL;
	atomic_store(&own_user_ns()->max[(uintptr_t)arg], (int)value);
	return (ssize_t)n;
}

/* Whoever may raise limits there is their owner; others read. */
static int may_max(struct inode *in, int mask, const struct cred *c, void *arg)
{
	(void)in, (void)arg;
	if (mask & 1 || (mask & 2 && !(c->cap_effective & CAP_BIT(CAP_SYS_RESOURCE))))
		return -EACCES;
	return 0;
}

static const struct synth_file_ops max_ops = {
	.common.permission = may_max, .show = show_max, .write = write_max};

#define NS_MAX(kind, count)                                                           \
	{                                                                             \
		"max_" kind "_namespaces", 0644, &max_ops, (void *)(uintptr_t)(count) \
	}
const struct synth_table proc_ns_maxima[] = {
	NS_MAX("cgroup", NS_COUNT_CGROUP),
	NS_MAX("ipc", NS_COUNT_IPC),
	NS_MAX("mnt", NS_COUNT_MNT),
	NS_MAX("net", NS_COUNT_NET),
	NS_MAX("pid", NS_COUNT_PID),
	NS_MAX("time", NS_COUNT_TIME),
	NS_MAX("user", NS_COUNT_USER),
	NS_MAX("uts", NS_COUNT_UTS),
	{NULL, 0, NULL, NULL},
};
