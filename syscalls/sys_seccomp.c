/* seccomp(2), and prctl(2)'s part of it. */
#include <errno.h>
#include <stdlib.h>

#include "sentry/kernel/seccomp/seccomp.h"
#include "sentry/lib/cleanup.h"
#include "syscalls/syscalls.h"

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif
#define FLAGS_ALL                                                                               \
	(SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_LOG | SECCOMP_FILTER_FLAG_SPEC_ALLOW | \
	 SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_TSYNC_ESRCH |                   \
	 SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)

static long set_filter(struct task *t, unsigned flags, uaddr_t uprog)
{
	struct { /* struct sock_fprog */
		uint16_t len;
		uint64_t filter;
	} fprog;

	if (flags & ~(unsigned)FLAGS_ALL)
		return -EINVAL;
	/* One result cannot be both a descriptor and a thread. */
	if ((flags & SECCOMP_FILTER_FLAG_TSYNC) && (flags & SECCOMP_FILTER_FLAG_NEW_LISTENER) &&
	    !(flags & SECCOMP_FILTER_FLAG_TSYNC_ESRCH))
		return -EINVAL;
	if ((flags & SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) &&
	    !(flags & SECCOMP_FILTER_FLAG_NEW_LISTENER))
		return -EINVAL;
	if (copy_in_val(&t->um, &fprog, uprog))
		return -EFAULT;
	size_t len = fprog.len;
	if (len == 0 || len > BPF_PROGRAM_MAX)
		return -EINVAL;
	if (!seccomp_may_filter(t))
		return -EACCES;
	CLEANUP_FREE struct sock_filter *prog = malloc(len * sizeof(*prog));
	if (!prog)
		return -ENOMEM;
	if (copy_in(&t->um, prog, UADDR(fprog.filter), len * sizeof(*prog)))
		return -EFAULT;
	return seccomp_set_filter(t, flags, prog, len);
}

static long action_avail(struct task *t, uaddr_t uaction)
{
	uint32_t action;

	if (copy_in_val(&t->um, &action, uaction))
		return -EFAULT;
	switch (action) {
	case SECCOMP_RET_KILL_PROCESS:
	case SECCOMP_RET_KILL_THREAD:
	case SECCOMP_RET_TRAP:
	case SECCOMP_RET_ERRNO:
	case SECCOMP_RET_USER_NOTIF:
	case SECCOMP_RET_TRACE:
	case SECCOMP_RET_LOG:
	case SECCOMP_RET_ALLOW:
		return 0;
	}
	return -EOPNOTSUPP;
}

long sys_seccomp(struct task *t, unsigned op, unsigned flags, uaddr_t args)
{
	struct seccomp_notif_sizes sizes = {sizeof(struct seccomp_notif),
					    sizeof(struct seccomp_notif_resp),
					    sizeof(struct seccomp_data)};

	switch (op) {
	case SECCOMP_SET_MODE_STRICT:
		return flags || !uaddr_is_null(args) ? -EINVAL : seccomp_set_strict(t);
	case SECCOMP_SET_MODE_FILTER:
		return set_filter(t, flags, args);
	case SECCOMP_GET_ACTION_AVAIL:
		return flags ? -EINVAL : action_avail(t, args);
	case SECCOMP_GET_NOTIF_SIZES:
		return flags ? -EINVAL : copy_out_val(&t->um, args, &sizes);
	}
	return -EINVAL;
}
