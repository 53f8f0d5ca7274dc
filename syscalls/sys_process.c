/* Processes: clone, exec, exit, wait, ids, process groups and sessions. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/kernel/run.h"
#include "sentry/lib/cleanup.h"
#include "syscalls/exec_strings.h"
#include "sentry/kernel/pid.h"
#include "syscalls/syscalls.h"

long sys_clone(struct task *t, uint64_t flags, uint64_t stack, uaddr_t parent_tid,
	       uaddr_t child_tid, uint64_t tls)
{
	struct clone_args_k a = {
		.flags = (uint32_t)flags & ~(uint64_t)CSIGNAL,
		.pidfd = parent_tid.v,
		.child_tid = child_tid.v,
		.parent_tid = parent_tid.v,
		.exit_signal = flags & CSIGNAL,
		.stack = stack,
		.tls = tls,
	};

	return task_clone(t, &a, NULL);
}

/* The old flags but CLONE_DETACHED and the signal number (CLONE_NEWTIME took one of its bits), and
 * the two that only clone3 has: CLONE_CLEAR_SIGHAND and CLONE_INTO_CGROUP. */
#define CLONE3_FLAGS \
	((0xffffffffULL & ~(uint64_t)(CLONE_DETACHED | (CSIGNAL & ~0x80))) | 3ULL << 32)

/* The wanted numbers of clone3.  Checked for size first, as Linux does. */
static int copy_in_pids(struct task *t, const struct clone_args_k *a, struct pid_choice *pids)
{
	if (a->set_tid_size > PID_NS_LEVEL_MAX || !a->set_tid != !a->set_tid_size)
		return -EINVAL;
	pids->n = (unsigned)a->set_tid_size;
	return copy_in(&t->um, pids->nr, UADDR(a->set_tid), pids->n * sizeof(pids->nr[0]));
}

long sys_clone3(struct task *t, uaddr_t args, uint64_t size)
{
	struct clone_args_k a;
	struct pid_choice pids;

	if (size < 64)
		return -EINVAL;
	if (size > PAGE_SIZE)
		return -E2BIG;
	memset(&a, 0, sizeof(a));
	if (copy_in(&t->um, &a, args, MIN(size, sizeof(a))))
		return -EFAULT;
	for (uint64_t i = sizeof(a); i < size; i++) {
		char byte;
		if (copy_in(&t->um, &byte, uaddr_add(args, i), 1))
			return -EFAULT;
		if (byte)
			return -E2BIG;
	}
	if (a.flags & ~CLONE3_FLAGS || (!a.stack != !a.stack_size))
		return -EINVAL;
	if ((a.flags & (CLONE_THREAD | CLONE_PARENT)) && a.exit_signal)
		return -EINVAL;
	int err = copy_in_pids(t, &a, &pids);
	return err ? err : task_clone(t, &a, pids.n ? &pids : NULL);
}

long sys_fork(struct task *t)
{
	return task_clone(t, &(struct clone_args_k){.exit_signal = SIGCHLD}, NULL);
}

long sys_vfork(struct task *t)
{
	return task_clone(
		t, &(struct clone_args_k){.flags = CLONE_VFORK | CLONE_VM, .exit_signal = SIGCHLD},
		NULL);
}

static long do_exec(struct task *t, int dirfd, uaddr_t path, uaddr_t argv, uaddr_t envp, int flags)
{
	struct exec_strings strings;
	struct walk_env env;
	struct file *f = NULL;
	char *shown = NULL;

	if (flags & ~(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW))
		return -EINVAL;
	CLEANUP_FREE char *name = malloc(VFS_PATH_MAX);
	if (!name)
		return -ENOMEM;
	ssize_t len = copy_in_str(&t->um, name, path, VFS_PATH_MAX);
	if (len < 0)
		return len;
	int err = task_walk_env(t, dirfd, name, &env);
	if (err)
		return err;
	unsigned walk = (flags & AT_EMPTY_PATH ? WALK_EMPTY : 0u) |
			(flags & AT_SYMLINK_NOFOLLOW ? WALK_NOFOLLOW : 0u);
	err = vfs_open_exec(&env, name, walk, &f);
	walk_env_fini(&env);
	if (err)
		return err;
	if ((err = exec_strings_copy(t, argv, envp, &strings)))
		goto out;
	/* What scripts are told: execveat(2). */
	if (dirfd != AT_FDCWD && name[0] != '/') {
		if (asprintf(&shown, name[0] ? "/dev/fd/%d/%s" : "/dev/fd/%d", dirfd, name) < 0)
			shown = NULL;
		err = shown ? 0 : -ENOMEM;
	}
	if (!err)
		err = task_exec(t, &(struct exec_args){.filename = shown ? shown : name,
						       .file = f,
						       .argc = strings.argc,
						       .envc = strings.envc,
						       .argv = strings.argv,
						       .envp = strings.envp});
	free(shown);
	exec_strings_fini(&strings);
out:
	file_put(f);
	return err;
}

long sys_execve(struct task *t, uaddr_t path, uaddr_t argv, uaddr_t envp)
{
	return do_exec(t, AT_FDCWD, path, argv, envp, 0);
}

long sys_execveat(struct task *t, int dirfd, uaddr_t path, uaddr_t argv, uaddr_t envp, int flags)
{
	return do_exec(t, dirfd, path, argv, envp, flags);
}

long sys_exit(struct task *t, int status)
{
	task_exit_self(t, (status & 0xff) << 8);
	return 0;
}

long sys_exit_group(struct task *t, int status)
{
	signal_group_exit(t->tg, (status & 0xff) << 8);
	return 0;
}

long sys_wait4(struct task *t, int pid, uaddr_t status, int options, uaddr_t rusage)
{
	return task_wait4(t, pid, status, options, rusage);
}

long sys_waitid(struct task *t, int type, int id, uaddr_t info, int options, uaddr_t rusage)
{
	return task_waitid(t, type, id, info, options, rusage);
}

long sys_getpid(struct task *t)
{
	return pid_nr_own(t->tg->pid);
}

long sys_gettid(struct task *t)
{
	return pid_nr_own(t->pid);
}

/* The platform may know it, too, until thread_group_show_kin() says otherwise. */
static long own_kin(struct task *t, enum p_kin which)
{
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	int nr = thread_group_kin(t->tg, which);
	if (t->pt && t->k->pf->ops->set_kin)
		t->k->pf->ops->set_kin(t->pt, which, (uint32_t)nr);
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return nr;
}

long sys_getppid(struct task *t)
{
	return own_kin(t, P_KIN_PARENT);
}

/* setpgid(2), in the order in which Linux checks. */
long sys_setpgid(struct task *t, int pid, int pgid)
{
	struct thread_group *tg;
	long ret = 0;

	if (pgid < 0)
		return -EINVAL;
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	tg = pid ? thread_group_named(t, pid) : t->tg;
	pgid = pgid ? pid_resolve(task_pid_ns(t), pgid) : tg ? tg->tgid : 0;
	if (!tg || tg->zombie)
		ret = -ESRCH;
	else if (tg != t->tg && tg->parent != t->tg)
		ret = -ESRCH;
	else if (tg != t->tg && tg->session != t->tg->session)
		ret = -EPERM;
	else if (tg != t->tg && tg->did_exec)
		ret = -EACCES;
	else if (tg->session->sid == tg->tgid)
		ret = -EPERM;
	else if (pgid != tg->tgid && !pgrp_exists_in_session(pgid, t->tg->session->sid))
		ret = -EPERM;
	else
		thread_group_set_pgid(tg, pgid);
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return ret;
}

long sys_getpgid(struct task *t, int pid)
{
	if (!pid)
		return own_kin(t, P_KIN_GROUP);
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	struct task *other = task_named(t, pid);
	long ret = other ? pid_show(task_pid_ns(t), other->tg->pgid) : -ESRCH;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return ret;
}

long sys_getpgrp(struct task *t)
{
	return sys_getpgid(t, 0);
}

long sys_getsid(struct task *t, int pid)
{
	if (!pid)
		return own_kin(t, P_KIN_SESSION);
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	struct task *other = task_named(t, pid);
	long ret = other ? pid_show(task_pid_ns(t), other->tg->session->sid) : -ESRCH;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return ret;
}

long sys_setsid(struct task *t)
{
	struct thread_group *tg = t->tg, *g;
	struct session *new = session_new(tg->tgid), *old = NULL;
	bool leads = false;

	if (!new)
		return -ENOMEM;
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	list_for_each (g, &kernel->groups, link)
		if (g->pgid == tg->tgid)
			leads = true;
	if (!leads) {
		old = thread_group_set_session(tg, new);
		thread_group_set_pgid(tg, tg->tgid);
	}
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	session_put(leads ? new : old);
	return leads ? -EPERM : pid_nr_own(tg->pid);
}

long sys_set_tid_address(struct task *t, uaddr_t tidptr)
{
	t->clear_child_tid = tidptr;
	return pid_nr_own(t->pid);
}
