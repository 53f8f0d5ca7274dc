/* kcmp(2): do two tasks share something? */
#include <errno.h>
#include <linux/kcmp.h>
#include <sys/random.h>

#include "sentry/kernel/task.h"
#include "sentry/kernel/pid.h"
#include "syscalls/syscalls.h"

/*
 * The order of two objects, which says nothing about where they are: each kind's addresses are
 * scrambled by numbers drawn at the first use.
 */
static long compare(int kind, const void *a, const void *b)
{
	static uint64_t cookies[KCMP_TYPES][2]; /* lc_tasks */

	if (a == b)
		return 0;
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	bool drawn = cookies[kind][1] ||
		     getrandom(cookies[kind], sizeof(cookies[kind]), 0) == sizeof(cookies[kind]);
	cookies[kind][1] |= drawn;
	uint64_t add = cookies[kind][0], times = cookies[kind][1];
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	if (!drawn)
		return 3; /* unequal, order unknown */
	return ((uintptr_t)a ^ add) * times < ((uintptr_t)b ^ add) * times ? 1 : 2;
}

static struct file *file_of(struct task *o, uint64_t fd)
{
	struct fdtable *fds = task_fds_get(o);
	struct file *f = fds ? fdtable_file_any(fds, (int)fd) : NULL;

	fdtable_put(fds);
	return f;
}

static long compare_files(struct task *a, struct task *b, uint64_t fd_a, uint64_t fd_b)
{
	CLEANUP_FILE struct file *fa = file_of(a, fd_a);
	CLEANUP_FILE struct file *fb = file_of(b, fd_b);

	return fa && fb ? compare(KCMP_FILE, fa, fb) : -EBADF;
}

/* A file of a with what an epoll of b watches. */
static long compare_watched(struct task *t, struct task *a, struct task *b, uint64_t fd,
			    uaddr_t uslot)
{
	struct kcmp_epoll_slot slot;
	const struct file *target;

	if (copy_in_val(&t->um, &slot, uslot))
		return -EFAULT;
	CLEANUP_FILE struct file *f = file_of(a, fd);
	CLEANUP_FILE struct file *ep = f ? file_of(b, slot.efd) : NULL;
	int err = ep ? epoll_target(ep, (int)slot.tfd, slot.toff, &target) : -EBADF;
	return err ? err : compare(KCMP_FILE, f, target);
}

/* What is compared, for its address only. */
static const void *object_of(struct task *o, int kind) REQUIRES(lc_tasks)
{
	switch (kind) {
	case KCMP_VM:
		return o->mm;
	case KCMP_FILES:
		return o->fds;
	case KCMP_FS:
		return o->fs;
	case KCMP_SIGHAND:
		return o->tg->sighand;
	case KCMP_IO:
		/* Linux makes a task's I/O context when there is something to put into it. */
		return o->ioprio ? &o->ioprio : NULL;
	default:
		return NULL; /* KCMP_SYSVSEM: nobody has undo lists */
	}
}

static long compare_tasks(struct task *t, struct task *a, struct task *b, int kind, uint64_t idx1,
			  uint64_t idx2)
{
	if (!task_may_ptrace(t, a, false) || !task_may_ptrace(t, b, false))
		return -EPERM;
	if (kind == KCMP_FILE)
		return compare_files(a, b, idx1, idx2);
	if (kind == KCMP_EPOLL_TFD)
		return compare_watched(t, a, b, idx1, UADDR(idx2));
	if (kind < 0 || kind >= KCMP_TYPES)
		return -EINVAL;
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	const void *first = object_of(a, kind), *second = object_of(b, kind);
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return compare(kind, first, second);
}

long sys_kcmp(struct task *t, int pid1, int pid2, int type, uint64_t idx1, uint64_t idx2)
{
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	struct task *a = task_named(t, pid1), *b = task_named(t, pid2);
	if (a && b) {
		task_get(a);
		task_get(b);
	}
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	if (!a || !b)
		return -ESRCH;
	long ret = compare_tasks(t, a, b, type, idx1, idx2);
	task_put(a);
	task_put(b);
	return ret;
}
