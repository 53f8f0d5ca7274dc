/* memfd_create(2), memfd_secret(2). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

#include "sentry/fs/tmpfs/tmpfs.h"
#include "syscalls/syscalls.h"

/* Newer than libc's header. */
#define LINUX_MFD_NOEXEC_SEAL 8U
#define LINUX_MFD_EXEC 16U

#ifndef MFD_HUGE_MASK
#define MFD_HUGE_SHIFT 26
#define MFD_HUGE_MASK 0x3fU
#endif

#define MEMFD_NAME_MAX (VFS_NAME_MAX - 6) /* "memfd:" is put before it */

long sys_memfd_create(struct task *t, uaddr_t name, unsigned flags)
{
	unsigned huge = flags >> MFD_HUGE_SHIFT & MFD_HUGE_MASK;

	if (flags & MFD_HUGETLB)
		flags &= ~(MFD_HUGE_MASK << MFD_HUGE_SHIFT);
	if (flags & ~(MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB | LINUX_MFD_NOEXEC_SEAL |
		      LINUX_MFD_EXEC))
		return -EINVAL;
	if ((flags & LINUX_MFD_NOEXEC_SEAL) && (flags & LINUX_MFD_EXEC))
		return -EINVAL;

	char buf[MEMFD_NAME_MAX + 1], shown[MEMFD_NAME_MAX + 32];
	ssize_t len = copy_in_str(&t->um, buf, name, sizeof(buf));
	if (len < 0)
		return len == -ENAMETOOLONG ? -EINVAL : len;
	snprintf(shown, sizeof(shown), "/memfd:%s (deleted)", buf);

	/* The sizes of huge pages that x86-64 has. */
	if (flags & MFD_HUGETLB && huge && huge != 21 && huge != 30)
		return -ENODEV;

	unsigned kind = flags & MFD_HUGETLB ? SHMEM_HUGE : 0;
	if (flags & LINUX_MFD_NOEXEC_SEAL)
		kind |= SHMEM_NOEXEC_SEAL;
	else if (flags & MFD_ALLOW_SEALING)
		kind |= SHMEM_SEALABLE;
	struct file *f;
	int err = shmem_file_create(shown, 0, 0777, kind, &f);
	if (err)
		return err;
	return fdtable_install(t->fds, task_rlimit(t, RLIMIT_NOFILE), f, flags & MFD_CLOEXEC);
}

long sys_memfd_secret(struct task *t, unsigned flags)
{
	struct file *f;

	if (flags & ~(unsigned)O_CLOEXEC)
		return -EINVAL;
	int err = shmem_file_create("/secretmem (deleted)", 0, 0600, SHMEM_SECRET, &f);
	if (err)
		return err;
	return fdtable_install(t->fds, task_rlimit(t, RLIMIT_NOFILE), f, flags & O_CLOEXEC);
}
