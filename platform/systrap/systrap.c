/* The systrap platform: life and the table of operations.  README.md is the tour. */
#include "platform/systrap/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include "sentry/host/reopen.h"

#define SPIN_US_DEFAULT 50 /* longer than the host needs to wake up an idle CPU */
#define HWCAP2_FSGSBASE_BIT 2UL

static void count_cpus(struct systrap *pf)
{
	if (sched_getaffinity(0, sizeof(pf->cpus), &pf->cpus) < 0)
		CPU_ZERO(&pf->cpus);
	pf->ncpus = MAX(CPU_COUNT(&pf->cpus), 1);
}

static int open_descriptors(struct systrap *pf)
{
	int p[2];

	pf->epoll = epoll_create1(EPOLL_CLOEXEC);
	pf->wakeup = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (pf->epoll < 0 || pf->wakeup < 0 || pipe2(p, O_CLOEXEC) < 0)
		return -errno;
	pf->doorbell_r = p[0];
	pf->doorbell_w = p[1];
	/* Writers must not block: a guest's flood would stop the sentry's own wake-ups. */
	return fcntl(p[1], F_SETFL, O_WRONLY | O_NONBLOCK) < 0 ? -errno : 0;
}

static int systrap_prepare(const struct p_options *opt, struct platform **out)
{
	struct systrap *pf = calloc(1, sizeof(*pf));

	if (!pf)
		return -ENOMEM;
	pf->base.ops = &platform_systrap;
	pf->opt = *opt;
	if (pf->opt.max_guest_processes <= 0)
		pf->opt.max_guest_processes = SYSTRAP_MAX_PROCESSES;
	pf->doorbell_r = pf->doorbell_w = pf->listener = -1;
	pf->pool_size = 1;
	count_cpus(pf);
	pf->fsgsbase = getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE_BIT;
	mutex_init(&pf->text_lock);
	list_init(&pf->aspaces);
	list_init(&pf->free_threads);
	list_init(&pf->ready);
	list_init(&pf->pending);
	list_init(&pf->graves);
	int err = getrandom(&pf->nonce_seed, sizeof(pf->nonce_seed), 0) < 0 ? -errno : 0;

	pf->clock0 = st_now();
	pf->tsc0 = st_tsc();
	if (!err)
		err = open_descriptors(pf);
	if (!err)
		err = zygote_start(pf);
	if (err) {
		if (pf->zygote)
			aspace_kill(pf->zygote);
		free(pf);
		return err;
	}
	*out = &pf->base;
	return 0;
}

static int systrap_ready(struct platform *platform)
{
	struct systrap *pf = systrap_of(platform);
	int err = zygote_ready(pf);

	/* The zygote's start is long enough to measure the TSC against the clock. */
	pf->tsc_per_us = (st_tsc() - pf->tsc0) * 1000 / (uint64_t)(st_now() - pf->clock0 + 1);
	pf->spin_ticks = (uint64_t)(pf->opt.spin_us < 0 ? SPIN_US_DEFAULT : pf->opt.spin_us) *
			 pf->tsc_per_us;
	if (err)
		aspace_kill(pf->zygote);
	return err;
}

static int systrap_start(struct platform *platform)
{
	struct systrap *pf = systrap_of(platform);
	int err = overseer_start(pf);

	if (!err)
		err = pool_start(pf);
	pf->started = !err;
	return err;
}

/*
 * Kills every guest process.  What other threads may still hold - address spaces, workers inside
 * next() - stays valid: next() returns NULL, copies fail with -ESRCH.
 */
static void systrap_destroy(struct platform *platform)
{
	struct systrap *pf = systrap_of(platform);
	struct p_aspace *as;

	pf->stopping = true;
	worker_break(pf);
	pool_refill(pf);
	if (pf->started)
		pthread_join(pf->pool_thread, NULL);
	pool_drain(pf);
	mutex_lock(&pf->lock, &lc_platform);
	list_for_each (as, &pf->aspaces, link)
		aspace_kill(as);
	mutex_unlock(&pf->lock, &lc_platform);
	overseer_wake(pf);
	if (pf->started)
		pthread_join(pf->overseer_thread, NULL);
}

static const struct p_limits *systrap_limits(struct platform *platform)
{
	return &systrap_of(platform)->limits;
}

static pid_t aspace_pid(struct p_aspace *as)
{
	return as->pid;
}

static const struct p_event *thread_event(struct p_thread *th)
{
	return &th->event;
}

static struct arch_regs *thread_regs(struct p_thread *th)
{
	return &th->regs;
}

static void thread_set_owner(struct p_thread *th, void *owner)
{
	th->owner = owner;
}

static pid_t thread_tid(struct p_thread *th)
{
	return th->tid;
}

static void thread_set_cpus(struct p_thread *th, uint64_t cpus)
{
	atomic_store(&th->cpus, cpus);
}

static int64_t thread_cpu_before(struct p_thread *th)
{
	return th->cpu_before;
}

static bool thread_last_usage(struct p_thread *th, struct p_usage *out)
{
	const struct st_usage u = *(const volatile struct st_usage *)&th->ps->usage;
	const int64_t peak = u.maxrss_kib;

	if (th->event.kind != P_EVENT_SYSCALL || peak <= 0 ||
	    (th->fast_regs.orig_rax != SYS_exit && th->fast_regs.orig_rax != SYS_exit_group))
		return false;
	*out = (struct p_usage){(uint64_t)peak, (uint64_t)u.minor_faults, (uint64_t)u.major_faults,
				(uint64_t)u.voluntary, (uint64_t)u.involuntary};
	return true;
}

static void *thread_owner(struct p_thread *th)
{
	return th->owner;
}

/* The state letter of the host's /proc/PID/task/TID/stat: after the name, which is ours. */
static char host_state(const struct p_thread *th)
{
	char name[64], buf[128];

	snprintf(name, sizeof(name), "%d/task/%d/stat", (int)th->as->pid, (int)th->tid);
	int fd = host_proc_fd() < 0 ? -1 : openat(host_proc_fd(), name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return '?';
	ssize_t n = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	buf[n < 0 ? 0 : n] = '\0';
	const char *p = strrchr(buf, ')');
	return p && p[1] ? p[2] : '?';
}

/* Guest code sleeps in the host by a futex only, its own or through the stub. */
static bool thread_in_host_wait(struct p_thread *th)
{
	return (atomic_load(&th->st) & ST_STATE) == ST_RUNNING &&
	       (__atomic_load_n(&th->ps->waiting, __ATOMIC_RELAXED) || host_state(th) == 'S');
}

static void thread_set_direct(struct p_thread *th, bool on)
{
	atomic_store(&th->direct, on);
}

const struct platform_ops platform_systrap = {
	.name = "systrap",
	.prepare = systrap_prepare,
	.ready = systrap_ready,
	.start = systrap_start,
	.destroy = systrap_destroy,
	.limits = systrap_limits,
	.stats = systrap_stats,
	.next = worker_next,
	.kick = worker_kick,
	.aspace_create = systrap_aspace_create,
	.fork = systrap_fork,
	.thread_create = systrap_thread_create,
	.thread_destroy = systrap_thread_destroy,
	.aspace_get = aspace_get,
	.aspace_put = aspace_put,
	.aspace_kill = aspace_kill,
	.host_pid = aspace_pid,
	.host_tid = thread_tid,
	.cpu_before = thread_cpu_before,
	.set_cpus = thread_set_cpus,
	.last_usage = thread_last_usage,
	.resume = thread_resume,
	.parks = thread_parks,
	.interrupt = thread_interrupt,
	.event = thread_event,
	.regs = thread_regs,
	.xstate_get = thread_xstate_get,
	.xstate_set = thread_xstate_set,
	.xstate_reset = thread_xstate_reset,
	.set_owner = thread_set_owner,
	.owner = thread_owner,
	.in_host_wait = thread_in_host_wait,
	.set_direct = thread_set_direct,
	.set_ids = thread_set_ids,
	.set_kin = thread_set_kin,
	.take_notes = thread_take_notes,
	.set_clock_offset = thread_set_clock_offset,
	.lend_mask = thread_lend_mask,
	.recall_mask = thread_recall_mask,
	.lent_mask = thread_lent_mask,
	.resume_direct = thread_resume_direct,
	.show_original = patch_withdraw,
	.can_reset = systrap_can_reset,
	.mem_later = thread_mem_later,
	.mem_settle = thread_mem_settle,
	.mem = thread_mem,
	.copy_in = aspace_copy_in,
	.copy_out = aspace_copy_out,
	.copy_out_late = thread_copy_out_late,
	.settle = thread_settle,
	.copy_file_late = thread_copy_file_late,
	.move_file = thread_move_file,
	.forget_file = systrap_forget_file,
	.stream_begin = lent_stream_begin,
	.stream_go = lent_stream_go,
	.stream_pos = lent_stream_pos,
	.stream_end = lent_stream_end,
	.cmpxchg32 = thread_cmpxchg32,
};
