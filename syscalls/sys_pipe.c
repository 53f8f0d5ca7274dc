/* pipe(2). */
#include <errno.h>
#include <fcntl.h>

#include "sentry/fs/pipe/pipe.h"
#include "sentry/lib/cleanup.h"
#include "syscalls/syscalls.h"

/*
 * Reserve the numbers, show them to the guest, only then open them: a fault on `fds` leaves nothing
 * behind, and no sibling sees half a pipe.
 */
long sys_pipe2(struct task *t, uaddr_t fds, int flags)
{
	if (flags & ~(O_CLOEXEC | O_NONBLOCK | O_DIRECT))
		return -EINVAL;

	CLEANUP_FILE struct file *rd = NULL, *wr = NULL;
	int err = pipe_create(flags & ~O_CLOEXEC, &rd, &wr);
	if (err)
		return err;

	int32_t nums[2];
	if ((err = fdtable_reserve(t->fds, 0, task_rlimit(t, RLIMIT_NOFILE), 2, nums)))
		return err;
	if ((err = copy_out(&t->um, fds, nums, sizeof(nums)))) {
		fdtable_unreserve(t->fds, 2, nums);
		return err;
	}
	fdtable_commit(t->fds, nums[0], steal(rd), flags & O_CLOEXEC);
	fdtable_commit(t->fds, nums[1], steal(wr), flags & O_CLOEXEC);
	return 0;
}

long sys_pipe(struct task *t, uaddr_t fds)
{
	return sys_pipe2(t, fds, 0);
}
