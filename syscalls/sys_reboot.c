/* reboot(2): what it means in a PID namespace, and so in a container. */
#include <errno.h>
#include <linux/capability.h>
#include <linux/reboot.h>

#include "sentry/kernel/pid.h"
#include "syscalls/syscalls.h"

static bool magic_is_right(int magic1, int magic2)
{
	return magic1 == (int)LINUX_REBOOT_MAGIC1 &&
	       (magic2 == LINUX_REBOOT_MAGIC2 || magic2 == LINUX_REBOOT_MAGIC2A ||
		magic2 == LINUX_REBOOT_MAGIC2B || magic2 == LINUX_REBOOT_MAGIC2C);
}

/* The caller's namespace ends: its init is killed, as if by `signo`. */
static void end_namespace(struct task *t, int signo)
{
	const struct pid_ns *ns = task_pid_ns(t);

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	struct thread_group *init = ns->init ? thread_group_get(ns->init) : NULL;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	if (init)
		signal_group_exit(init, signo);
	thread_group_put(init);
}

long sys_reboot(struct task *t, int magic1, int magic2, unsigned cmd, uaddr_t arg)
{
	(void)arg;
	if (!task_ns_capable(t, task_pid_ns(t)->ns.owner, CAP_SYS_BOOT))
		return -EPERM;
	if (!magic_is_right(magic1, magic2))
		return -EINVAL;
	switch (cmd) {
	case LINUX_REBOOT_CMD_RESTART:
	case LINUX_REBOOT_CMD_RESTART2:
		end_namespace(t, SIGHUP);
		break;
	case LINUX_REBOOT_CMD_HALT:
	case LINUX_REBOOT_CMD_POWER_OFF:
		end_namespace(t, SIGINT);
		break;
	default:
		return -EINVAL;
	}
	task_exit_self(t, 0);
	return 0;
}
