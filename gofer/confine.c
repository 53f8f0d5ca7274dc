/*
 * Shutting the gofer in: an empty root, five capabilities, nothing to gain by exec.
 */
#include "gofer/server.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "gofer/gofer_filter.h"
#include "sentry/host/filter.h"
#include "sentry/lib/log.h"

#define KEPT_CAPS                                                                                  \
	(1U << CAP_CHOWN | 1U << CAP_DAC_OVERRIDE | 1U << CAP_DAC_READ_SEARCH | 1U << CAP_FOWNER | \
	 1U << CAP_FSETID)

/*
 * /proc serves as the place to mount on: it exists, or fd_dir could not.  pivot_root(".", ".")
 * stacks the old root on the new one, from where it is unmounted (pivot_root(2), notes).  Where
 * the root is the initial ramfs, which cannot be pivoted away, the new root is moved over it and
 * entered by chroot: there is no way back without CAP_SYS_CHROOT, and every descriptor that is
 * kept belongs to a mount tree of its own, in which ".." ends at its root.
 */
int confine_root(int fd_dir)
{
	const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;

	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", "/proc", "tmpfs", flags, "size=4k,nr_inodes=2,mode=0555") ||
	    chdir("/proc"))
		return -errno;
	if (syscall(SYS_pivot_root, ".", ".") == 0) {
		if (umount2(".", MNT_DETACH))
			return -errno;
	} else if (errno != EINVAL || mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".")) {
		return -errno;
	}
	if (chdir("/") || mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | flags, NULL))
		return -errno;
	return fchdir(fd_dir) ? -errno : 0;
}

int confine_privileges(void)
{
	const unsigned long bits = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED |
				   SECBIT_NO_CAP_AMBIENT_RAISE |
				   SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED | SECBIT_KEEP_CAPS_LOCKED;
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2] = {
		{.effective = KEPT_CAPS, .permitted = KEPT_CAPS},
		{0},
	};
	struct rlimit nocore = {0, 0};

	if (prctl(PR_SET_SECUREBITS, bits) ||
	    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
		return -errno;
	for (int cap = 0; cap < 64; cap++)
		if ((cap > 31 || !(KEPT_CAPS & 1U << cap)) && prctl(PR_CAPBSET_DROP, cap) &&
		    errno != EINVAL)
			return -errno;
	if (syscall(SYS_capset, &h, d) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_DUMPABLE, 0) || setrlimit(RLIMIT_CORE, &nocore))
		return -errno;
	return 0;
}

int confine_calls(int conn_fd, int log_fd, int ready_fd, bool host_uds)
{
	const int fd[] = {
		[FILTER_CONN] = conn_fd, [FILTER_LOG] = log_fd, [FILTER_READY] = ready_fd};

	if (host_uds)
		return filter_load(filter_sockets, ARRAY_SIZE(filter_sockets), fd, ARRAY_SIZE(fd));
	return filter_load(filter_plain, ARRAY_SIZE(filter_plain), fd, ARRAY_SIZE(fd));
}
