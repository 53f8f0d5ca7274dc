#include "sentry/host/reopen.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

static int proc_fd = -1;

void host_set_proc_fd(int fd)
{
	proc_fd = fd;
}

int host_proc_fd(void)
{
	return proc_fd;
}

int host_reopen_as(int fd, int accmode)
{
	if (proc_fd < 0)
		return -EACCES;
	char name[32];
	snprintf(name, sizeof(name), "self/fd/%d", fd);
	int twin = openat(proc_fd, name, accmode | O_CLOEXEC);
	return twin < 0 ? -errno : twin;
}
