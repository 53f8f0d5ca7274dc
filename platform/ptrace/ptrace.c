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
	list_init(&pf->stopped);
	pthread_mutex_init(&pf->lock, NULL);
	pthread_mutex_init(&pf->reap_lock, NULL);
	pthread_cond_init(&pf->ready_cond, NULL);
	/* Blocked in every thread, or the host would drop them as ignored: the tracer waits for
	 * them. */
	sigemptyset(&mask);
	sigaddset(&mask, SIGCHLD);
	sigaddset(&mask, PT_WAKE_SIGNAL);
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

static struct p_thread *next(struct platform *pf)
{
	return pt_next(self(pf));
}

static void kick(struct platform *pf)
{
	pt_kick(self(pf));
}

/* ---- address spaces and threads ---- */

static struct p_aspace *aspace_get(struct p_aspace *as)
{
	pt_aspace_get(as);
	return as;
}

static void aspace_put(struct p_aspace *as)
{
	if (as)
		pt_aspace_put(as);
}

/* Tracer: nothing can be done to its process any more. */
static bool is_lost(const struct p_thread *th)
{
	return th->gone || atomic_load(&th->as->killed);
}

struct clone_request {
	struct p_thread *from, *made;
	uint64_t flags;
	int err;
};

static void do_clone(struct pt_platform *pf, void *arg)
{
	struct clone_request *r = arg;

	(void)pf;
	r->err = is_lost(r->from) ? -ESRCH : pt_clone(r->from, r->flags, r->made);
}

/* A thread of `as` that equals `from`. */
static int clone_thread(struct p_thread *from, struct p_aspace *as, uint64_t flags,
			struct p_thread **out)
{
	struct clone_request r = {.from = from, .flags = flags};

	r.made = pt_thread_new(as);
	if (!r.made)
		return -ENOMEM;
	r.made->regs = from->regs;
	r.made->passes = from->passes;
	pt_run(as->pf, do_clone, &r);
	if (r.err) {
		pt_thread_discard(r.made);
		return r.err;
	}
	*out = r.made;
	return 0;
}

static int clone_process(struct p_thread *from, struct p_aspace **out, struct p_thread **th)
{
	struct p_aspace *as = pt_aspace_new(from->as->pf);

	if (!as)
		return -ENOMEM;
	int err = clone_thread(from, as, CLONE_PARENT | SIGCHLD, th);
	if (err)
		pt_aspace_put(as);
	else
		*out = as;
	return err;
}

static int aspace_create(struct platform *pf, struct p_aspace **as, struct p_thread **th)
{
	return clone_process(self(pf)->zygote_thread, as, th);
}

static int fork_thread(struct p_thread *parent, struct p_aspace **as, struct p_thread **th)
{
	return clone_process(parent, as, th);
}

static int thread_create(struct p_thread *parent, struct p_thread **th)
{
	return clone_thread(parent, parent->as,
			    CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
				    CLONE_SYSVSEM,
			    th);
}

static pid_t host_pid(struct p_aspace *as)
{
	return as->pid;
}

static pid_t host_tid(struct p_thread *th)
{
	return th->tid;
}

/* ---- running ---- */

static void set_clock_offset(struct p_thread *th, int64_t monotonic)
{
	th->clock_offset = monotonic;
}

static void set_direct(struct p_thread *th, bool on)
{
	th->passes = on;
}

static void resume_direct(struct p_thread *th)
{
	th->direct_asked = true;
	pt_resume(th);
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
	r->err = is_lost(r->th)						  ? -ESRCH
		 : ptrace(r->request, r->th->tid, NT_X86_XSTATE, &r->iov) ? -errno
									  : 0;
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
	r->err = is_lost(r->th) ? -ESRCH : pt_mem(r->th, r->ops, r->n);
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
	r->err = is_lost(r->th) ? -ESRCH
				: pt_cmpxchg32(r->th, r->addr, r->expect, r->desired, r->seen);
}

static int cmpxchg32(struct p_thread *th, uint64_t addr, uint32_t expect, uint32_t desired,
		     uint32_t *seen)
{
	struct mem_request r = {
		.th = th, .addr = addr, .expect = expect, .desired = desired, .seen = seen};

	pt_run(th->as->pf, do_cmpxchg, &r);
	return r.err;
}

/*
 * Page by page at the end only: the host stops at the first page that is missing.  A process that
 * is reaped during the call gives its number away; what came from whoever has it next is not shown.
 */
static ssize_t copy(struct p_aspace *as, uint64_t guest, void *own, size_t n, bool out)
{
	size_t done = 0;

	if (guest >= PT_TASK_SIZE)
		return 0;
	n = MIN(n, PT_TASK_SIZE - guest);
	while (done < n) {
		struct iovec l = {(char *)own + done, n - done};
		struct iovec r = {(void *)(uintptr_t)(guest + done), n - done};
		if (atomic_load(&as->killed) || atomic_load(&as->dead))
			return -ESRCH;
		ssize_t moved = out ? process_vm_writev(as->pid, &l, 1, &r, 1, 0)
				    : process_vm_readv(as->pid, &l, 1, &r, 1, 0);
		if (atomic_load(&as->dead))
			return -ESRCH;
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
	.thread_destroy = pt_thread_destroy,
	.aspace_get = aspace_get,
	.aspace_put = aspace_put,
	.aspace_kill = pt_aspace_kill,
	.host_pid = host_pid,
	.host_tid = host_tid,
	.resume = pt_resume,
	.set_direct = set_direct,
	.set_clock_offset = set_clock_offset,
	.resume_direct = resume_direct,
	.interrupt = pt_interrupt,
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
