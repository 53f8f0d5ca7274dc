/* userfaultfd(2). */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/userfaultfd.h>

#include "sentry/mm/uffd_file.h"
#include "syscalls/syscalls.h"

long sys_userfaultfd(struct task *t, int flags)
{
	struct file *f;

	/* vm.unprivileged_userfaultfd is 0: holding up the kernel's own accesses is privileged. */
	if (!(flags & UFFD_USER_MODE_ONLY) && !task_capable(t, CAP_SYS_PTRACE))
		return -EPERM;
	if (flags & ~(O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY))
		return -EINVAL;
	int err = uffd_create_file(t->mm, flags & UFFD_USER_MODE_ONLY, flags, &f);
	if (err)
		return err;
	return fdtable_install(t->fds, task_rlimit(t, RLIMIT_NOFILE), f, flags & O_CLOEXEC);
}
