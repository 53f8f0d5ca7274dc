#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "sentry/boot/internal.h"
#include "sentry/aio/aio.h"
#include "sentry/fs/gofer/goferfs.h"
#include "sentry/fs/fuse/fuse.h"
#include "sentry/fs/mqueue/mqueue.h"
#include "sentry/fs/dev/dev.h"
#include "sentry/fs/devpts/devpts.h"
#include "sentry/fs/pipe/pipe.h"
#include "sentry/fs/notify/dnotify.h"
#include "sentry/fs/notify/fanotify.h"
#include "sentry/fs/proc/proc.h"
#include "sentry/fs/sys/sysfs.h"
#include "sentry/fs/tmpfs/tmpfs.h"
#include "sentry/kernel/async_io.h"
#include "sentry/kernel/ipc/ipc.h"
#include "sentry/kernel/tty.h"
#include "sentry/lib/cleanup.h"
#include "sentry/mm/mm.h"

static char cpu_lists[3][256];

const struct sysfs_options *join_sysfs_options(void)
{
	static const struct sysfs_options o = {cpu_lists[0], cpu_lists[1], cpu_lists[2]};

	return &o;
}

/* "0-3\n" of /sys/devices/system/cpu; one processor when there is no such file. */
static void capture_cpus(void)
{
	static const char *const files[] = {"/sys/devices/system/cpu/online",
					    "/sys/devices/system/cpu/possible",
					    "/sys/devices/system/cpu/present"};

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		char *list = cpu_lists[i];
		CLEANUP_FD int fd = open(files[i], O_RDONLY | O_CLOEXEC);
		ssize_t n = fd < 0 ? -1 : read(fd, list, sizeof(cpu_lists[i]) - 1);
		list[n > 0 ? n : 0] = 0;
		list[strcspn(list, "\n")] = 0;
		if (!*list)
			strcpy(list, "0");
	}
}

/* /dev/tty is the controlling terminal of whoever opens it. */
static int open_tty(struct file *f)
{
	struct tty *tty = tty_of_task(task_current());
	int err = tty ? tty->open(tty, f) : -ENXIO;

	tty_put(tty);
	return err;
}

/* /dev/console is the terminal that the container was given, or its session's. */
static int open_console(struct file *f)
{
	struct task *t = task_current();

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	const struct thread_group *init = t->tg->container->init;
	struct tty *tty = init && init->session ? init->session->tty : NULL;
	if (tty)
		tty_get(tty);
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	int err = tty ? tty->open(tty, f) : -ENXIO;
	tty_put(tty);
	return err;
}

/* System V shared memory is files in memory. */
static int shm_file(const char *name, uint64_t size, struct file **out)
{
	return shmem_file_create(name, size, 0777, 0, out);
}

int join_parts(void)
{
	int err = tmpfs_init();

	if (!err)
		err = dev_init();
	if (!err)
		err = fuse_init();
	if (!err)
		err = devpts_init();
	goferfs_init();
	procfs_capture_host();
	capture_cpus();
	mm_shared_anon_file = shmem_zero_setup;
	aio_init();
	ipc_shm_file = shm_file;
	ipc_mqueue_instance = mqueue_instance;
	vfs_open_fifo = fifo_open;
	async_io_init();
	lease_break_init();
	fanotify_enable();
	dnotify_enable();
	umem_init();
	dev_tty_open = open_tty;
	dev_console_open = open_console;
	return err;
}
