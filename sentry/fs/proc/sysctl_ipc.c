/* /proc/sys/kernel/{shm*,sem,msg*}: the limits of the IPC namespace of who asks.  proc(5),
 * sysvipc(7). */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/fs/proc/internal.h"
#include "sentry/kernel/ipc/ipc.h"

/* A file: one limit, or several that follow each other. */
struct limits_file {
	enum ipc_limit first;
	int n;
};

static const uint64_t most[IPC_LIMITS] = {
	[IPC_SHMMAX] = UINT64_MAX,   [IPC_SHMALL] = UINT64_MAX, [IPC_SHMMNI] = IPC_MNI_MOST,
	[IPC_SEMMSL] = INT_MAX,	     [IPC_SEMMNS] = INT_MAX,	[IPC_SEMOPM] = INT_MAX,
	[IPC_SEMMNI] = IPC_MNI_MOST, [IPC_MSGMAX] = INT_MAX,	[IPC_MSGMNB] = INT_MAX,
	[IPC_MSGMNI] = IPC_MNI_MOST,
};

static int show_limits(struct text *out, void *arg)
{
	const struct limits_file *file = arg;
	const _Atomic uint64_t *limits = ipc_current_limits() + file->first;

	for (int i = 0; i < file->n; i++)
		text_printf(out, "%" PRIu64 "%c", limits[i], i + 1 < file->n ? '\t' : '\n');
	return 0;
}

/* Takes as many numbers as are written, all or none. */
static ssize_t write_limits(struct file *f, const char *buf, size_t n, void *arg)
{
	const struct limits_file *file = arg;
	_Atomic uint64_t *limits = ipc_current_limits() + file->first;
	uint64_t value[IPC_LIMITS];
	int got = 0;

	(void)f;
	for (char *end; got < file->n; got++, buf = end) {
		buf += strspn(buf, " \t\n");
		if (!*buf)
			break;
		errno = 0;
		value[got] = strtoul(buf, &end, 10);
		if (end == buf || *buf == '-' || errno || (*end && !strchr(" \t\n", *end)) ||
		    value[got] > most[file->first + (unsigned)got])
			return -EINVAL;
	}
	if (got == 0)
		return -EINVAL;
	for (int i = 0; i < got; i++)
		limits[i] = value[i];
	return (ssize_t)n;
}

static const struct synth_file_ops ops = {.show = show_limits, .write = write_limits};

#define FILE_OF(first, n)        \
	(struct limits_file[])   \
	{                        \
		{                \
			first, n \
		}                \
	}

const struct synth_table proc_ipc_limits[] = {
	{"shmmax", 0644, &ops, FILE_OF(IPC_SHMMAX, 1)},
	{"shmall", 0644, &ops, FILE_OF(IPC_SHMALL, 1)},
	{"shmmni", 0644, &ops, FILE_OF(IPC_SHMMNI, 1)},
	{"sem", 0644, &ops, FILE_OF(IPC_SEMMSL, 4)},
	{"msgmax", 0644, &ops, FILE_OF(IPC_MSGMAX, 1)},
	{"msgmnb", 0644, &ops, FILE_OF(IPC_MSGMNB, 1)},
	{"msgmni", 0644, &ops, FILE_OF(IPC_MSGMNI, 1)},
	{NULL, 0, NULL, NULL},
};
