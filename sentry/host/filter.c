#include "sentry/host/filter.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int filter_load(const struct sock_filter *program, size_t len, const int *fd, size_t nfds)
{
	struct sock_filter *own = malloc(len * sizeof(*own));
	const struct sock_fprog prog = {.len = (unsigned short)len, .filter = own};

	if (!own)
		return -ENOMEM;
	memcpy(own, program, len * sizeof(*own));
	for (size_t i = 0; i < len; i++)
		if (BPF_CLASS(own[i].code) == BPF_JMP && own[i].k - FILTER_FD(0) < nfds)
			own[i].k = (uint32_t)fd[own[i].k - FILTER_FD(0)];
	long r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &prog);
	int err = r < 0 ? -errno : r ? -ESRCH : 0; /* a thread's id: it has another filter */
	free(own);
	return err;
}
