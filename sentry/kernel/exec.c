/*
 * execve(2), in one of two ways.  A program that may do and read the same as the old one, which has
 * no other threads, takes over its host process: as in Linux, the old one is past saving when the
 * new one's maps fail.  Any other is loaded into a fresh address space while the old one is whole,
 * so that every failure is an error which the caller sees; only then do the siblings die.
 */
#include <errno.h>
#include <linux/capability.h>
#include <string.h>

#include "sentry/kernel/helper.h"
#include "sentry/kernel/keys/keys.h"
#include "sentry/kernel/ns/ns_set.h"
#include "sentry/kernel/ns/time_ns.h"
#include "sentry/kernel/pid.h"
#include "sentry/kernel/ptrace/ptrace.h"
#include "sentry/kernel/run.h"
#include "sentry/kernel/stream.h"
#include "sentry/kernel/tty.h"
#include "sentry/loader/loader.h"

/* All other threads of the group end; this one takes the group's number.  -EINTR when the group is
 * exiting (or another thread won the race to exec): the caller is about to die itself. */
static int kill_siblings(struct task *t)
{
	struct thread_group *tg = t->tg;
	struct task *none = NULL, *s;

	if (!atomic_compare_exchange_strong(&tg->exec_task, &none, t))
		return -EINTR;
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	list_for_each (s, &tg->threads, thread_link)
		if (s != t)
			signal_kick(s);
	while (tg->nthreads > 1) {
		mutex_unlock(&kernel->tasks_lock, &lc_tasks);
		if (task_park(t, TASK_UNINTERRUPTIBLE, TIME_NEVER) && atomic_load(&tg->exiting)) {
			atomic_store(&tg->exec_task, NULL);
			return -EINTR;
		}
		mutex_lock(&kernel->tasks_lock, &lc_tasks);
	}
	struct task *old = NULL;
	if (tg->leader != t) {
		old = tg->leader;
		trace_unlink(old);
		atomic_store(&old->state, TASK_DEAD);
		old->pid = NULL;
		atomic_fetch_sub(&kernel->ntasks, 1);
		task_take_leader_pid(t);
		tg->leader = task_get(t);
	}
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	task_put(old);
	atomic_store(&tg->exec_task, NULL);
	return 0;
}

static void switch_memory(struct task *t, struct mm *mm, struct p_thread *pt)
{
	struct mm *old_mm = t->mm;
	struct p_thread *old_pt = t->pt;
	bool shared = ref_read(&old_mm->ref) > 1;
	int64_t used = shared ? 0 : thread_group_cpu_time(t->tg);
	struct mm_usage usage;

	if (!shared)
		mm_usage(old_mm, &usage);

	task_release_user(t, false);
	task_host_drop(t);
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	t->mm = mm;
	if (!shared) {
		t->tg->dead_cpu = used;
		mm_usage_add(&t->tg->dead_usage, &usage);
	}
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	mutex_lock(&t->tg->siglock, &lc_signal);
	t->pt = pt;
	mutex_unlock(&t->tg->siglock, &lc_signal);
	t->k->pf->ops->set_owner(pt, t);
	t->um = (struct umem){.mm = mm, .th = pt};
	t->k->pf->ops->thread_destroy(old_pt);
	mm_put(old_mm);
	task_host_restore(t, NULL);
}

/* The same for an address space that took over the host process. */
static void switch_view(struct task *t, struct mm *mm)
{
	struct mm *old = t->mm;

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	t->mm = mm;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	t->um = (struct umem){.mm = mm, .th = t->pt};
	mm_put(old);
}

static void set_exe(struct mm *mm, struct file *exe)
{
	mutex_lock(&mm->lock, &lc_mm);
	mm->exe = exe;
	mutex_unlock(&mm->lock, &lc_mm);
}

/* What the group's limits mean for an address space. */
static void set_mm_rlimits(struct mm *mm, const struct krlimit *limits)
{
	static const int which[] = {RLIMIT_AS, RLIMIT_DATA, RLIMIT_STACK, RLIMIT_MEMLOCK};

	for (size_t i = 0; i < ARRAY_SIZE(which); i++)
		mm_set_rlimit(mm, which[i], limits[which[i]].cur);
}

static void start_registers(struct task *t, const struct loader_result *r)
{
	struct arch_regs *regs = t->k->pf->ops->regs(t->pt);

	memset(regs, 0, sizeof(*regs));
	regs->rip = r->entry;
	regs->rsp = r->stack;
	regs->cs = ARCH_USER_CS;
	regs->ss = ARCH_USER_DS;
	regs->eflags = ARCH_EFLAGS_FIXED;
	regs->orig_rax = ~0ULL;
}

/* An execution under way. */
struct exec {
	struct loader_program prog;
	struct loader_result res;
	struct cred *cred;
	bool secure;	   /* AT_SECURE: it can do more than whoever runs it */
	struct ns_set *ns; /* as the task's, in the time namespace of its children; owned */
	struct mm *mm;
	struct p_thread *pt; /* of a fresh host process */
};

#define MAY_READ 4 /* of path_permission */

static bool readable(const struct file *f, const struct cred *cred)
{
	return !f || !path_permission(f->path, MAY_READ, cred);
}

/* What the old program could do by pretending to be the new one: platform/systrap/reset.c. */
static bool may_take_over(struct task *t, const struct exec *x)
{
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	bool alone = t->tg->nthreads == 1;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return alone && !task_is_traced(t) && cred_same_after_exec(x->cred, t->cred) &&
	       readable(x->prog.file, t->cred) && readable(x->prog.interp, t->cred) &&
	       mm_renewable(t->mm, t->pt);
}

static int load_fresh(struct task *t, struct exec *x)
{
	int err = mm_create(t->k->pf, &x->mm, &x->pt);

	if (err)
		return err;
	mm_set_user_ns(x->mm, x->cred->user_ns);
	set_mm_rlimits(x->mm, t->tg->rlimit);
	return loader_load(&x->prog, x->mm, x->pt, x->cred, x->secure, &x->res);
}

/* -EBUSY: somebody looks at the old program's memory, and nothing was done. */
static int load_here(struct task *t, struct exec *x)
{
	task_release_user(t, false);
	int err = mm_renew(t->mm, t->pt, &x->mm);
	if (err)
		return err;
	mm_set_user_ns(x->mm, x->cred->user_ns);
	set_mm_rlimits(x->mm, t->tg->rlimit);
	err = loader_load(&x->prog, x->mm, t->pt, x->cred, x->secure, &x->res);
	if (err)
		signal_group_exit(t->tg, SIGSEGV); /* as in Linux: there is nothing to go back to */
	return err;
}

static int load(struct task *t, struct exec *x)
{
	bool here = may_take_over(t, x);
	int err = here ? 0 : load_fresh(t, x);

	if (err)
		return err;
	helpers_stop(t);
	if ((err = task_unshare_fds(t)) || (err = kill_siblings(t)))
		goto fail;
	if (here && (err = load_here(t, x)) == -EBUSY)
		err = load_fresh(t, x);
	return err;
fail:
	if (!here)
		file_put(x->res.exe);
	return err;
}

/* Does anybody see, or share, what a program with more rights does?  ptrace(2), clone(2). */
static unsigned unsafe(struct task *t)
{
	unsigned why = t->no_new_privs ? EXEC_NO_NEW_PRIVS : 0;
	struct task *o;
	unsigned sharing = 0;

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	const struct task *tracer = task_is_traced(t) ? atomic_load(&t->trace.tracer) : NULL;
	if (tracer && !task_ns_capable(tracer, t->cred->user_ns, CAP_SYS_PTRACE))
		why |= EXEC_WATCHED;
	list_for_each (o, &t->tg->threads, thread_link)
		sharing += o->fs == t->fs;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return ref_read(&t->fs->ref) > sharing ? why | EXEC_WATCHED : why;
}

static int new_cred(struct task *t, struct exec *x)
{
	struct exec_grant g = {false};

	if (!(x->cred = cred_dup(t->cred)))
		return -ENOMEM;
	if (kernel->allow_suid && path_is_in_ns(x->prog.file->path, t->fs->mnt_ns))
		path_exec_grant(x->prog.file->path, t->cred, &g);
	return cred_exec(x->cred, t->cred, &g, unsafe(t), &x->secure);
}

int task_exec(struct task *t, const struct exec_args *a)
{
	struct exec x = {0};
	struct walk_env env;
	int old_tid = ptrace_tid_seen(t);

	int err = task_walk_env(t, -100 /* AT_FDCWD */, "", &env);
	if (err)
		return err;
	err = loader_prepare(&env, a, task_rlimit(t, RLIMIT_STACK), &x.prog);
	walk_env_fini(&env);
	if (err)
		return err;
	x.ns = ns_set_get(t->ns);
	if ((err = ns_set_enter_time(&x.ns)) || (err = new_cred(t, &x)) || (err = load(t, &x)))
		goto out;

	/* Nothing fails from here on. */
	streams_end(t);
	set_exe(x.mm, x.res.exe);
	x.mm->thp_disabled = t->mm->thp_disabled;
	x.mm->mdwe = mm_mdwe_inherited(t->mm);
	if (x.pt)
		switch_memory(t, x.mm, x.pt);
	else
		switch_view(t, x.mm);
	x.mm = NULL;
	x.pt = NULL;
	task_set_ns(t, x.ns);
	x.ns = NULL;
	task_show_own_time(t);
	signal_exec(t);
	t->sud_on = false;
	fdtable_exec(t->fds);
	/* task_set_cred() judges it again, by what the old credentials could do. */
	bool plain = x.cred->uid == x.cred->euid && x.cred->gid == x.cred->egid;
	atomic_store(&t->mm->dumpable, plain);
	task_set_cred(t, x.cred);
	x.cred = NULL;
	keys_exec(t);
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	memcpy(t->comm, x.res.comm, sizeof(t->comm));
	t->tg->did_exec = true;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	if (x.secure)
		t->pdeath_signal = 0;
	task_vfork_done(t);
	start_registers(t, &x.res);
	ptrace_exec(t, old_tid);
out:
	if (x.pt)
		t->k->pf->ops->thread_destroy(x.pt);
	mm_put(x.mm);
	cred_put(x.cred);
	ns_set_put(x.ns);
	loader_program_fini(&x.prog);
	return err;
}

/* What a container's process may do: as execve(2), by what the operator says of it. */
static int first_cred(struct task *t, const struct process_args *a, struct path program,
		      bool *secure)
{
	struct exec_grant g = {false};

	*secure = false;
	if (!kernel->allow_suid || a->no_new_privs) {
		t->cred = cred_get(a->cred);
		return 0;
	}
	if (!(t->cred = cred_dup(a->cred)))
		return -ENOMEM;
	path_exec_grant(program, a->cred, &g);
	if (!g.set_uid && !g.set_gid && !g.has_caps)
		return 0; /* the operator's capabilities, not those that follow from ids */
	return cred_exec(t->cred, a->cred, &g, 0, secure);
}

int kernel_process_create(const struct process_args *a, struct thread_group **out)
{
	struct loader_program prog;
	struct loader_result res = {0};
	struct walk_env env = {.cred = a->cred};
	struct p_thread *pt = NULL;
	struct mm *mm = NULL;
	bool secure;

	mutex_lock(&a->fs->lock, &lc_fs);
	env.root = path_get(a->fs->root);
	env.start = path_get(a->fs->cwd);
	mutex_unlock(&a->fs->lock, &lc_fs);
	uint64_t stack_limit = a->rlimits ? a->rlimits[RLIMIT_STACK].cur : 8 << 20;
	int err = loader_prepare(&env, &a->exec, stack_limit, &prog);
	walk_env_fini(&env);
	if (err)
		return err;

	struct thread_group *tg = thread_group_new(a->container);
	struct task *t = tg ? task_new(tg) : NULL;
	err = -ENOMEM;
	if (!t || !(tg->sighand = sighand_new()) || !(tg->session = session_new(0)))
		goto fail;
	for (int i = 0; i < RLIM_NLIMITS; i++)
		tg->rlimit[i] = a->rlimits ? a->rlimits[i]
					   : (struct krlimit){RLIM_K_INFINITY, RLIM_K_INFINITY};
	if ((err = mm_create(kernel->pf, &mm, &pt)))
		goto fail;
	set_mm_rlimits(mm, tg->rlimit);
	if ((err = first_cred(t, a, prog.file->path, &secure)))
		goto fail;
	if ((err = loader_load(&prog, mm, pt, t->cred, secure, &res)))
		goto fail;
	set_exe(mm, res.exe);
	t->mm = mm;
	t->pt = pt;
	kernel->pf->ops->set_owner(pt, t);
	t->um = (struct umem){.mm = mm, .th = pt};
	t->fds = fdtable_get(a->fds);
	t->fs = fs_context_get(a->fs);
	t->ns = ns_set_get(kernel->ns);
	tg->pid_ns = pid_ns_get(a->container->pid_ns);
	t->no_new_privs = a->no_new_privs;
	tg->oom_score_adj = tg->oom_score_adj_min = a->oom_score_adj;
	atomic_store(&mm->dumpable, 1);
	memcpy(t->comm, res.comm, sizeof(t->comm));
	start_registers(t, &res);

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	err = task_link(t, NULL, NULL);
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	if (err)
		goto fail_linked;
	if (a->tty)
		tty_attach(a->tty, tg);
	loader_program_fini(&prog);
	*out = tg; /* the reference of thread_group_new */
	return 0;

fail_linked:
	fdtable_put(t->fds);
	fs_context_put(t->fs);
fail:
	if (pt)
		kernel->pf->ops->thread_destroy(pt);
	mm_put(mm);
	task_put(t);
	thread_group_put(tg);
	loader_program_fini(&prog);
	return err;
}

void kernel_process_start(struct thread_group *tg)
{
	task_make_runnable(tg->leader);
}
