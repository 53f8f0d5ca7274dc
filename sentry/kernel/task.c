/* Objects of the task tree: their making, references, and safe views for others. */
#include "sentry/kernel/cgroup/cgroup.h"
#include "sentry/kernel/keys/keys.h"
#include "sentry/kernel/task.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#include "sentry/kernel/ipc/ipc.h"
#include "sentry/kernel/ns/ns_set.h"
#include "sentry/kernel/pid.h"
#include "sentry/kernel/ptrace/ptrace.h"
#include "sentry/kernel/run.h"
#include "sentry/kernel/seccomp/seccomp.h"
#include "sentry/kernel/tty.h"
#include "sentry/time/posix_timers.h"

struct session *session_new(int sid)
{
	struct session *s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	ref_init(&s->ref, 1);
	s->sid = sid;
	return s;
}

struct session *session_get(struct session *s)
{
	ref_get(&s->ref);
	return s;
}

void session_put(struct session *s)
{
	if (!s || !ref_put(&s->ref))
		return;
	tty_put(s->tty);
	free(s);
}

struct thread_group *thread_group_new(struct container *c)
{
	struct thread_group *tg = calloc(1, sizeof(*tg));
	if (!tg)
		return NULL;
	ref_init(&tg->ref, 1);
	tg->k = kernel;
	tg->container = c;
	ref_get(&c->ref);
	list_init(&tg->threads);
	list_init(&tg->children);
	list_init(&tg->sibling);
	list_init(&tg->link);
	waitq_init(&tg->wait_children);
	waitq_init(&tg->exit_waitq);
	mutex_init(&tg->siglock);
	sigqueue_init(&tg->pending);
	tg->exit_signal = SIGCHLD;
	tg->coredump_filter = COREDUMP_FILTER_DEFAULT;
	tg->start_time = time_boottime();
	return tg;
}

struct thread_group *thread_group_get(struct thread_group *tg)
{
	ref_get(&tg->ref);
	return tg;
}

void thread_group_put(struct thread_group *tg)
{
	if (!tg || !ref_put(&tg->ref))
		return;
	signal_thread_group_fini(tg);
	posix_timers_free(tg->timers);
	keys_group_free(tg);
	sighand_put(tg->sighand);
	session_put(tg->session);
	pid_ns_put(tg->pid_ns);
	cgroup_put(tg->cgroup);
	struct container *c = tg->container;
	if (ref_put(&c->ref)) {
		mnt_ns_put(c->mnt_ns);
		pid_ns_put(c->pid_ns);
		free(c->id);
		free(c);
	}
	free(tg);
}

struct task *task_new(struct thread_group *tg)
{
	return task_new_on(tg, task_main, NULL);
}

struct task *task_new_on(struct thread_group *tg, void (*entry)(void *), void *arg)
{
	struct task *t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;
	if (fiber_init(&t->fiber, entry, arg ? arg : t)) {
		free(t);
		return NULL;
	}
	ref_init(&t->ref, 1);
	t->k = kernel;
	t->tg = thread_group_get(tg);
	list_init(&t->thread_link);
	list_init(&t->run_link);
	list_init(&t->pi_owned);
	list_init(&t->helpers);
	trace_init(&t->trace);
	sigqueue_init(&t->pending);
	t->altstack.flags = SS_DISABLE;
	t->timer_slack = TIMER_SLACK_DEFAULT;
	t->mce_kill = PR_MCE_KILL_DEFAULT;
	t->cpu_affinity = ~0ULL;
	t->start_time = time_boottime();
	return t;
}

struct task *task_get(struct task *t)
{
	ref_get(&t->ref);
	return t;
}

/* The fiber's stack was given back when the task left it (task_exit). */
void task_put(struct task *t)
{
	if (!t || !ref_put(&t->ref))
		return;
	sem_undo_exit(t); /* of one that never ran */
	keys_task_free(t);
	seccomp_task_exit(t);
	sigqueue_flush(&t->pending);
	fiber_fini(&t->fiber);
	cred_put(t->cred);
	ns_set_put(t->ns);
	thread_group_put(t->tg);
	free(t);
}

struct mm *task_mm_get(struct task *t)
{
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	struct mm *mm = t->mm ? mm_get(t->mm) : NULL;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return mm;
}

struct cred *task_cred_get(struct task *t)
{
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	struct cred *c = cred_get(t->cred);
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return c;
}

struct fdtable *task_fds_get(struct task *t)
{
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	struct fdtable *fds = t->fds ? fdtable_get(t->fds) : NULL;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return fds;
}

struct fs_context *task_fs_get(struct task *t)
{
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	struct fs_context *fs = t->fs ? fs_context_get(t->fs) : NULL;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return fs;
}

/* prctl(2), PR_SET_DUMPABLE and PR_SET_PDEATHSIG: a change of effective ids resets both. */
void task_set_cred(struct task *t, struct cred *new)
{
	struct cred *old = t->cred;
	bool changed = new->euid != old->euid || new->egid != old->egid ||
		       new->fsuid != old->fsuid || new->fsgid != old->fsgid ||
		       !cred_covers(old, new);

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	t->cred = new;
	if (changed) {
		t->pdeath_signal = 0;
		if (t->mm)
			atomic_store(&t->mm->dumpable, 0);
	}
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	cred_put(old);
}

uint64_t task_rlimit(struct task *t, int resource)
{
	return __atomic_load_n(&t->tg->rlimit[resource].cur, __ATOMIC_RELAXED);
}

int task_walk_env(struct task *t, int dirfd, const char *name, struct walk_env *env)
{
	env->cred = t->cred;
	mutex_lock(&t->fs->lock, &lc_fs);
	env->root = path_get(t->fs->root);
	env->umask = t->fs->umask;
	env->start = name[0] == '/' ? path_get(t->fs->root) : path_get(t->fs->cwd);
	mutex_unlock(&t->fs->lock, &lc_fs);
	if (name[0] == '/' || dirfd == AT_FDCWD)
		return 0;
	struct file *f = fdtable_file_any(t->fds, dirfd);
	if (!f) {
		walk_env_fini(env);
		return -EBADF;
	}
	/* An empty name stands for the descriptor itself, whatever it is (AT_EMPTY_PATH). */
	if (name[0] && !inode_is_dir(f->inode)) {
		file_put(f);
		walk_env_fini(env);
		return -ENOTDIR;
	}
	path_put(env->start);
	env->start = path_get(f->path);
	file_put(f);
	return 0;
}

void walk_env_fini(struct walk_env *env)
{
	path_put(env->start);
	path_put(env->root);
}

char task_state_letter(const struct task *t)
{
	switch (atomic_load(&t->state)) {
	case TASK_SLEEPING:
		return 'S';
	case TASK_UNINTERRUPTIBLE:
		return 'D';
	case TASK_STOPPED:
		return 'T';
	case TASK_TRACED:
	case TASK_TRACED_AT_EXIT:
		return 't';
	case TASK_ZOMBIE:
		return 'Z';
	case TASK_DEAD:
		return 'X';
	default:
		return 'R';
	}
}

/*
 * CPU time comes from the host: a guest process is a host process.  The sentry's work for it is not
 * in it, but for what the process spins meanwhile; cpu_time.c tells user and system time apart.
 */
int64_t thread_group_cpu_time(struct thread_group *tg)
{
	int64_t used = tg->dead_cpu;
	struct timespec ts;
	struct mm *mm = NULL;

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	if (tg->leader && !list_empty(&tg->threads)) {
		struct task *t = list_first(&tg->threads, struct task, thread_link);
		mm = t->mm ? mm_get(t->mm) : NULL;
	}
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	if (!mm)
		return used;
	/* The clock id of another process's CPU clock: clock_getcpuclockid(3). */
	pid_t pid = kernel->pf->ops->host_pid(mm->as);
	if (pid > 0 && !clock_gettime((clockid_t)(~(unsigned)pid << 3 | 2), &ts))
		used += ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
	mm_put(mm);
	return used;
}
