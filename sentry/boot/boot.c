/* boot.h, in order: what each stage of the sentry's start does. */
#include "sentry/boot/boot.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "platform/platform.h"
#include "sentry/boot/internal.h"
#include "sentry/fs/gofer/goferfs.h"
#include "sentry/fs/host/hostfile.h"
#include "sentry/host/confine.h"
#include "sentry/host/crash.h"
#include "sentry/host/poller.h"
#include "sentry/host/reopen.h"
#include "sentry/host/sanitizer.h"
#include "sentry/kernel/pid.h"
#include "sentry/lib/log.h"
#include "syscalls/syscalls.h"

static struct platform *platform;

int boot_fail(struct boot_error *be, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(be->msg, sizeof(be->msg), fmt, ap);
	va_end(ap);
	return err;
}

/* Streams that we need not share with others' settings; the terminal's signals, if it is ours. */
static int prepare_stdio(struct boot_config *c)
{
	struct boot_process *p = &c->process;

	/* The host's job control must not stop our reads: the guest's is ours to do. */
	signal(SIGTTIN, SIG_IGN);
	signal(SIGTTOU, SIG_IGN);
	if (c->own_tty && ioctl(p->stdio[0], TIOCSCTTY, 0))
		return -errno;
	for (int i = 0; i < 3; i++)
		p->stdio[i] = host_private_fd(p->stdio[i]);
	return 0;
}

int boot_begin(struct boot_config *c)
{
	/* Times in logs are UTC; the C library looks for a time zone file once, which is now. */
	tzset();
	int panic_fd = c->panic_fd >= 0 ? c->panic_fd : c->log_fd;
	sanitizer_confined(panic_fd);
	int err = crash_init(panic_fd);

	if (!err)
		err = prepare_stdio(c);
	if (!err)
		err = poller_init();
	return err ? err : join_parts();
}

int boot_prepare(const struct boot_config *c, int (*confine)(void))
{
	const struct platform_ops *ops = platform_lookup(c->platform);
	const struct p_options opt = {.patching = c->systrap_patching,
				      .spin_us = c->spin_us,
				      .brings = syscall_brings(),
				      .died = control_platform_dead,
				      .process_lost = control_process_lost,
				      .zygote_confine = confine};

	/* One arena: others give memory back only after reading a file of /proc, which is not to be
	 * had, and cost memory; small blocks come from each thread's own cache anyway. */
	mallopt(M_ARENA_MAX, 1);
	host_set_proc_fd(c->proc_fd);
	return ops ? ops->prepare(&opt, &platform) : -ENOENT;
}

int boot_ready(void)
{
	return platform->ops->ready ? platform->ops->ready(platform) : 0;
}

int boot_confine(const struct boot_config *c)
{
	int err = control_init();

	return err ? err : host_confine(c->proc_fd, !strcmp(c->platform, "ptrace"));
}

/* --strace-syscalls: a bitmap by number; NULL for all. */
static int strace_filter(const char *names, const uint64_t **out, struct boot_error *be)
{
	static uint64_t map[SYSCALL_MAX / 64];
	char list[1024];

	*out = NULL;
	if (!*names)
		return 0;
	if (strlen(names) >= sizeof(list))
		return boot_fail(be, -E2BIG, "--strace-syscalls: too long");
	strcpy(list, names);
	for (char *save, *n = strtok_r(list, ",", &save); n; n = strtok_r(NULL, ",", &save)) {
		uint64_t nr = 0;
		const struct syscall_desc *d = NULL;
		while (nr < SYSCALL_MAX && (!(d = syscall_lookup(nr)) || strcmp(d->name, n) != 0))
			nr++;
		if (nr == SYSCALL_MAX)
			return boot_fail(be, -EINVAL, "--strace-syscalls: no system call \"%s\"",
					 n);
		map[nr / 64] |= 1ULL << nr % 64;
	}
	*out = map;
	return 0;
}

static int start_kernel(const struct boot_config *c, struct boot_error *be)
{
	int err = platform->ops->start(platform);

	if (err)
		return boot_fail(be, err, "starting platform %s: %s", c->platform, strerror(-err));
	if ((err = kernel_init(platform, c->hostname, c->domainname)))
		return boot_fail(be, err, "starting the kernel: %s", strerror(-err));
	kernel->strace = c->strace;
	kernel->allow_suid = c->allow_suid;
	kernel->passes_nice = c->passes_nice && strcmp(c->platform, "ptrace") != 0;
	if ((err = strace_filter(c->strace_syscalls, &kernel->strace_filter, be)))
		return err;
	if ((err = ktimer_start_thread()) || (err = poller_start()) ||
	    (err = kernel_start_workers()))
		return boot_fail(be, err, "starting threads: %s", strerror(-err));
	return 0;
}

static int start_container(const struct boot_config *c, struct control *ctl, struct boot_error *be)
{
	static const struct goferfs_hooks hooks = {.block_begin = worker_host_block_begin,
						   .block_end = worker_host_block_end,
						   .dead = control_gofer_dead};
	struct boot_process p = c->process;

	struct container *ct = calloc(1, sizeof(*ct));
	if (!ct || !(ct->id = strdup(c->container_id)))
		return boot_fail(be, -ENOMEM, "out of memory");
	ref_init(&ct->ref, 1);
	ct->pid_ns = pid_ns_get(&pid_ns_top);
	list_init(&ct->link);
	list_init(&ct->exec_waits);
	if (!(ctl->gofer = gofer_conn_new(c->gofer_fd, &hooks)))
		return boot_fail(be, -ENOMEM, "out of memory");
	log_debug("boot: kernel started");
	int err = boot_mounts_make(c, ctl->gofer, &ct->mnt_ns, be);
	if (err)
		return err;
	log_debug("boot: mounts made");
	list_add_tail(&ct->link, &kernel->containers);
	ctl->container = ct;
	if ((err = boot_process_create(ct, &p, &ctl->init, be)))
		return err;
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	ct->init = ctl->init;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	log_debug("boot: first process made");
	return 0;
}

int boot_run(const struct boot_config *c)
{
	struct control ctl = {.config = c};
	struct boot_error be = {""};

	int err = start_kernel(c, &be);
	if (!err)
		err = start_container(c, &ctl, &be);
	if (err)
		log_warn("%s", be.msg);
	int sent = control_report(c->owner_fd, err ? &be : NULL);
	if (err || sent)
		return err ? err : sent;
	return control_serve(&ctl);
}
