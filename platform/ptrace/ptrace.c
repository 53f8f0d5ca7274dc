/* platform_ptrace: what platform.h asks for, in terms of tracer commands. */
#include "platform/ptrace/internal.h"

#include <elf.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static struct pt_platform *self(struct platform *pf)
{
	return container_of(pf, struct pt_platform, base);
}

static int prepare(const struct p_options *opt, struct platform **out)
{
	struct pt_platform *pf = calloc(1, sizeof(*pf));
	sigset_t mask;

	if (!pf)
		return -ENOMEM;
	pf->base.ops = &platform_ptrace;
	pf->died = opt->died;
	pf->process_lost = opt->process_lost;
	pf->limits.task_size = PT_TASK_SIZE;
	pf->limits.mmap_min = PT_MMAP_MIN;
	for (int i = 0; i < PT_BUCKETS; i++)
		list_init(&pf->threads[i]);
	list_init(&pf->commands);
	list_init(&pf->requests);
	list_init(&pf->ready);
	pthread_mutex_init(&pf->cmd_lock, NULL);
	pthread_cond_init(&pf->cmd_done, NULL);
	pthread_mutex_init(&pf->queue_lock, NULL);
	pthread_cond_init(&pf->queue_cond, NULL);
	/* Blocked in every thread, or the host would drop them as ignored: the tracer waits for
	 * them. */
	sigemptyset(&mask);
	sigaddset(&mask, SIGCHLD);
	sigaddset(&mask, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &mask, NULL);
	int err = pt_zygote_start(pf, opt->zygote_confine);
	if (err) {
		free(pf);
		return err;
	}
	*out = &pf->base;
	return 0;
}

static int start(struct platform *pf)
{
	return pt_tracer_start(self(pf));
}

/* The zygote's end is every guest's (EXITKILL is per process, so each is killed by its own). */
static void destroy(struct platform *pf)
{
	kill(self(pf)->zygote, SIGKILL);
}

static const struct p_limits *limits(struct platform *pf)
{
	return &self(pf)->limits;
}

static struct p_thread *next(struct platform *base)
{
	struct pt_platform *pf = self(base);
	struct p_thread *th = NULL;

	pthread_mutex_lock(&pf->queue_lock);
	while (list_empty(&pf->ready) && !pf->kicks)
		pthread_cond_wait(&pf->queue_cond, &pf->queue_lock);
	if (!list_empty(&pf->ready)) {
		th = list_first(&pf->ready, struct p_thread, ready);
		list_del(&th->ready);
		atomic_store(&th->state, PT_STOPPED);
	} else {
		pf->kicks--;
	}
	pthread_mutex_unlock(&pf->queue_lock);
	return th;
}

static void kick(struct platform *base)
{
	struct pt_platform *pf = self(base);

	pthread_mutex_lock(&pf->queue_lock);
	pf->kicks++;
	pthread_cond_signal(&pf->queue_cond);
	pthread_mutex_unlock(&pf->queue_lock);
}

/* ---- address spaces and threads ---- */

static struct p_aspace *aspace_get(struct p_aspace *as)
{
	ref_get(&as->ref);
	return as;
}

static void aspace_kill(struct p_aspace *as)
{
	if (!atomic_load(&as->dead))
		kill(as->pid, SIGKILL);
}

static void aspace_put(struct p_aspace *as)
{
	if (!as || !ref_put(&as->ref))
		return;
	aspace_kill(as); /* the tracer reaps it like any other */
	free(as);
}

struct clone_request {
	struct p_thread *from, *made;
	struct p_aspace *as; /* NULL: a new one */
	int err;
};

static void do_clone(struct pt_platform *pf, void *arg)
{
	struct clone_request *r = arg;
	bool thread = r->as != NULL;
	struct p_aspace *as = r->as;
	pid_t tid;

	r->err = pt_clone(r->from,
			  thread ? CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND |
					   CLONE_THREAD | CLONE_SYSVSEM
				 : CLONE_PARENT | SIGCHLD,
			  &tid);
	if (r->err)
		return;
	r->err = -ENOMEM;
	if (!thread) {
		as = calloc(1, sizeof(*as));
		if (!as) {
			kill(tid, SIGKILL);
			return;
		}
		ref_init(&as->ref, 1);
		as->pf = pf;
		as->pid = tid;
	}
	struct p_thread *th = pt_thread_new(pf, as, tid);
	if (!th) {
		if (!thread) {
			kill(tid, SIGKILL);
			free(as);
		}
		return;
	}
	aspace_get(as);
	th->regs = r->from->regs;
	r->made = th;
	r->as = as;
	r->err = 0;
}

static int clone_thread(struct pt_platform *pf, struct p_thread *from, struct p_aspace **as,
			struct p_thread **th)
{
	struct clone_request r = {.from = from, .as = as ? NULL : from->as};

	pt_run(pf, do_clone, &r);
	if (r.err)
		return r.err;
	*th = r.made;
	if (as)
		*as = r.as;
	return 0;
}

static int aspace_create(struct platform *base, struct p_aspace **as, struct p_thread **th)
{
	struct pt_platform *pf = self(base);

	return clone_thread(pf, pf->zygote_thread, as, th);
}

static int fork_thread(struct p_thread *parent, struct p_aspace **as, struct p_thread **th)
{
	return clone_thread(parent->as->pf, parent, as, th);
}

static int thread_create(struct p_thread *parent, struct p_thread **th)
{
	return clone_thread(parent->as->pf, parent, NULL, th);
}

static void do_destroy(struct pt_platform *pf, void *arg)
{
	struct p_thread *th = arg;
	struct p_aspace *as = th->as;
	long ret;

	(void)pf;
	pt_thread_forget(th);
	if (th->dead || atomic_load(&as->dead))
		return;
	if (as->nthreads == 0)
		aspace_kill(as);
	else if (th->tid != as->pid) /* the leader stays, parked: its number is the process's */
		(void)!pt_call(th, SYS_exit, 0, 0, 0, 0, 0, 0, &ret);
}

static void thread_destroy(struct p_thread *th)
{
	struct p_aspace *as = th->as;

	pt_run(as->pf, do_destroy, th);
	free(th);
	aspace_put(as);
}

static pid_t host_pid(struct p_aspace *as)
{
	return atomic_load(&as->dead) ? -1 : as->pid;
}

static pid_t host_tid(struct p_thread *th)
{
	return th->tid;
}

/* ---- running ---- */

static void resume(struct p_thread *th)
{
	atomic_store(&th->state, PT_RUNNING);
	atomic_store(&th->resume_wanted, true);
	pt_request(th);
}

static void interrupt(struct p_thread *th)
{
	atomic_store(&th->interrupted, true);
	if (atomic_load(&th->state) == PT_RUNNING)
		pt_request(th);
}

static const struct p_event *event(struct p_thread *th)
{
	return &th->ev;
}

static struct arch_regs *regs(struct p_thread *th)
{
	return &th->regs;
}

struct xstate_request {
	struct p_thread *th;
	int request;
	struct iovec iov;
	int err;
};

static void do_xstate(struct pt_platform *pf, void *arg)
{
	struct xstate_request *r = arg;

	(void)pf;
	r->err = ptrace(r->request, r->th->tid, NT_X86_XSTATE, &r->iov) ? -errno : 0;
}

static int xstate(struct p_thread *th, int request, const void *buf, size_t size)
{
	struct xstate_request r = {
		.th = th, .request = request, .iov = {(void *)(uintptr_t)buf, size}};

	pt_run(th->as->pf, do_xstate, &r);
	return r.err;
}

static int xstate_get(struct p_thread *th, void *buf, size_t size)
{
	return xstate(th, PTRACE_GETREGSET, buf, size);
}

static int xstate_set(struct p_thread *th, const void *buf, size_t size)
{
	return xstate(th, PTRACE_SETREGSET, buf, size);
}

static int xstate_reset(struct p_thread *th)
{
	struct pt_platform *pf = th->as->pf;

	return xstate_set(th, pf->default_xstate, pf->limits.xstate_size);
}

static void set_owner(struct p_thread *th, void *owner)
{
	th->owner = owner;
}

static void *owner(struct p_thread *th)
{
	return th->owner;
}

static bool in_host_wait(struct p_thread *th)
{
	return atomic_load(&th->host_wait);
}

/* ---- memory ---- */

struct mem_request {
	struct p_thread *th;
	struct p_memop *ops;
	size_t n;
	uint64_t addr;
	uint32_t expect, desired, *seen;
	int err;
};

static void do_mem(struct pt_platform *pf, void *arg)
{
	struct mem_request *r = arg;

	(void)pf;
	r->err = r->th->dead ? -ESRCH : pt_mem(r->th, r->ops, r->n);
}

static int mem(struct p_thread *th, struct p_memop *ops, size_t n)
{
	struct mem_request r = {.th = th, .ops = ops, .n = n};

	pt_run(th->as->pf, do_mem, &r);
	return r.err;
}

static void do_cmpxchg(struct pt_platform *pf, void *arg)
{
	struct mem_request *r = arg;

	(void)pf;
	r->err =
		r->th->dead ? -ESRCH : pt_cmpxchg32(r->th, r->addr, r->expect, r->desired, r->seen);
}

static int cmpxchg32(struct p_thread *th, uint64_t addr, uint32_t expect, uint32_t desired,
		     uint32_t *seen)
{
	struct mem_request r = {
		.th = th, .addr = addr, .expect = expect, .desired = desired, .seen = seen};

	pt_run(th->as->pf, do_cmpxchg, &r);
	return r.err;
}

/* Page by page at the end only: the host stops at the first page that is missing. */
static ssize_t copy(struct p_aspace *as, uint64_t guest, void *own, size_t n, bool out)
{
	size_t done = 0;

	if (guest >= PT_TASK_SIZE)
		return 0;
	n = MIN(n, PT_TASK_SIZE - guest);
	while (done < n) {
		struct iovec l = {(char *)own + done, n - done};
		struct iovec r = {(void *)(uintptr_t)(guest + done), n - done};
		if (atomic_load(&as->dead))
			return -ESRCH;
		ssize_t moved = out ? process_vm_writev(as->pid, &l, 1, &r, 1, 0)
				    : process_vm_readv(as->pid, &l, 1, &r, 1, 0);
		if (moved < 0)
			return errno == ESRCH ? -ESRCH : (ssize_t)done;
		if (moved == 0)
			break;
		done += (size_t)moved;
	}
	return (ssize_t)done;
}

static ssize_t copy_in_bytes(struct p_aspace *as, struct p_thread *th, void *dst, uint64_t src,
			     size_t n)
{
	(void)th;
	return copy(as, src, dst, n, false);
}

static ssize_t copy_out_bytes(struct p_aspace *as, struct p_thread *th, uint64_t dst,
			      const void *src, size_t n)
{
	(void)th;
	return copy(as, dst, (void *)(uintptr_t)src, n, true);
}

const struct platform_ops platform_ptrace = {
	.name = "ptrace",
	.prepare = prepare,
	.start = start,
	.destroy = destroy,
	.limits = limits,
	.next = next,
	.kick = kick,
	.aspace_create = aspace_create,
	.fork = fork_thread,
	.thread_create = thread_create,
	.thread_destroy = thread_destroy,
	.aspace_get = aspace_get,
	.aspace_put = aspace_put,
	.aspace_kill = aspace_kill,
	.host_pid = host_pid,
	.host_tid = host_tid,
	.resume = resume,
	.interrupt = interrupt,
	.event = event,
	.regs = regs,
	.xstate_get = xstate_get,
	.xstate_set = xstate_set,
	.xstate_reset = xstate_reset,
	.set_owner = set_owner,
	.owner = owner,
	.in_host_wait = in_host_wait,
	.mem = mem,
	.copy_in = copy_in_bytes,
	.copy_out = copy_out_bytes,
	.cmpxchg32 = cmpxchg32,
};
