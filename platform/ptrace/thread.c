/* Threads and address spaces: who holds them, their states, and the queues between the sentry's
 * threads and the tracer. */
#include "platform/ptrace/internal.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- to the tracer ---- */

/* lock held.  True: ring_tracer() must follow, when the lock is free again - whoever is woken would
 * only run into it. */
static bool must_ring(struct pt_platform *pf)
{
	bool sleeps = pf->tracer_sleeps;

	pf->tracer_sleeps = false;
	return sleeps;
}

static void ring_tracer(struct pt_platform *pf)
{
	syscall(SYS_tgkill, getpid(), pf->tracer_tid, PT_WAKE_SIGNAL);
}

/* lock held; as must_ring(). */
static bool request(struct p_thread *th)
{
	struct pt_platform *pf = th->as->pf;

	if (list_empty(&th->request))
		list_add_tail(&th->request, &pf->requests);
	return must_ring(pf);
}

void pt_run(struct pt_platform *pf, void (*fn)(struct pt_platform *, void *), void *arg)
{
	struct pt_command c = {.fn = fn, .arg = arg, .cond = PTHREAD_COND_INITIALIZER};

	pthread_mutex_lock(&pf->lock);
	list_add_tail(&c.link, &pf->commands);
	bool ring = must_ring(pf);
	pthread_mutex_unlock(&pf->lock);
	if (ring)
		ring_tracer(pf);
	pthread_mutex_lock(&pf->lock);
	while (!c.done)
		pthread_cond_wait(&c.cond, &pf->lock);
	pthread_mutex_unlock(&pf->lock);
}

/* ---- address spaces ---- */

struct p_aspace *pt_aspace_new(struct pt_platform *pf)
{
	struct p_aspace *as = calloc(1, sizeof(*as));

	if (!as)
		return NULL;
	as->pf = pf;
	as->users = 1;
	return as;
}

void pt_aspace_get(struct p_aspace *as)
{
	pthread_mutex_lock(&as->pf->lock);
	as->users++;
	pthread_mutex_unlock(&as->pf->lock);
}

void pt_aspace_kill(struct p_aspace *as)
{
	struct pt_platform *pf = as->pf;

	atomic_store(&as->killed, true);
	pthread_mutex_lock(&pf->reap_lock);
	if (as->pid && !atomic_load(&as->dead))
		kill(as->pid, SIGKILL);
	pthread_mutex_unlock(&pf->reap_lock);
}

void pt_aspace_put(struct p_aspace *as)
{
	struct pt_platform *pf = as->pf;

	pthread_mutex_lock(&pf->lock);
	bool last = as->users == 1;
	as->users -= !last;
	pthread_mutex_unlock(&pf->lock);
	if (!last)
		return;
	pt_aspace_kill(as);
	pthread_mutex_lock(&pf->lock);
	as->users = 0;
	bool reaped = as->nhost == 0;
	pthread_mutex_unlock(&pf->lock);
	if (reaped)
		free(as);
}

/* ---- life of threads ---- */

struct p_thread *pt_thread_new(struct p_aspace *as)
{
	struct p_thread *th = calloc(1, sizeof(*th));

	if (!th)
		return NULL;
	th->as = as;
	th->passes = true;
	list_init(&th->ready);
	list_init(&th->request);
	list_init(&th->hash);
	list_init(&th->stopped);
	pthread_mutex_lock(&as->pf->lock);
	as->users++;
	as->nthreads++;
	pthread_mutex_unlock(&as->pf->lock);
	return th;
}

void pt_thread_discard(struct p_thread *th)
{
	struct p_aspace *as = th->as;

	pthread_mutex_lock(&as->pf->lock);
	as->nthreads--;
	pthread_mutex_unlock(&as->pf->lock);
	free(th);
	pt_aspace_put(as);
}

static struct list_head *bucket(struct pt_platform *pf, pid_t tid)
{
	return &pf->threads[(unsigned)tid % PT_BUCKETS];
}

struct p_thread *pt_thread_lookup(struct pt_platform *pf, pid_t tid)
{
	struct p_thread *th;

	list_for_each (th, bucket(pf, tid), hash)
		if (th->tid == tid)
			return th;
	return NULL;
}

void pt_thread_register(struct p_thread *th, pid_t tid)
{
	struct p_aspace *as = th->as;

	th->tid = tid;
	list_add(&th->hash, bucket(as->pf, tid));
	pthread_mutex_lock(&as->pf->lock);
	if (!as->pid)
		as->pid = tid;
	as->nhost++;
	pthread_mutex_unlock(&as->pf->lock);
}

void pt_thread_destroy(struct p_thread *th)
{
	struct p_aspace *as = th->as;
	struct pt_platform *pf = as->pf;

	pthread_mutex_lock(&pf->lock);
	list_del(&th->ready);
	th->state = PT_GONE;
	bool last = --as->nthreads == 0;
	if (last)
		atomic_store(&as->killed, true);
	bool ring = request(th); /* from here on it is the tracer's */
	pthread_mutex_unlock(&pf->lock);
	if (ring)
		ring_tracer(pf);
	if (last)
		pt_aspace_kill(as);
	pt_aspace_put(as);
}

void pt_thread_free(struct p_thread *th)
{
	struct p_aspace *as = th->as;

	list_del(&th->hash);
	list_del(&th->stopped);
	pthread_mutex_lock(&as->pf->lock);
	list_del(&th->request);
	bool unused = --as->nhost == 0 && as->users == 0;
	pthread_mutex_unlock(&as->pf->lock);
	free(th);
	if (unused)
		free(as);
}

/* ---- running ---- */

void pt_resume(struct p_thread *th)
{
	struct pt_platform *pf = th->as->pf;

	pthread_mutex_lock(&pf->lock);
	th->state = PT_RESUMING;
	bool ring = request(th);
	pthread_mutex_unlock(&pf->lock);
	if (ring)
		ring_tracer(pf);
}

void pt_interrupt(struct p_thread *th)
{
	struct pt_platform *pf = th->as->pf;

	pthread_mutex_lock(&pf->lock);
	th->interrupted = true;
	bool ring = th->state == PT_RUNNING && request(th);
	pthread_mutex_unlock(&pf->lock);
	if (ring)
		ring_tracer(pf);
}

bool pt_run_allowed(struct p_thread *th)
{
	struct pt_platform *pf = th->as->pf;

	pthread_mutex_lock(&pf->lock);
	bool allowed = !th->interrupted;
	pthread_mutex_unlock(&pf->lock);
	return allowed;
}

void pt_post(struct p_thread *th)
{
	struct pt_platform *pf = th->as->pf;

	atomic_store(&th->host_wait, false);
	th->performing = false;
	pthread_mutex_lock(&pf->lock);
	bool told = th->state == PT_RUNNING;
	if (told) {
		th->state = PT_QUEUED;
		th->interrupted = false;
		list_add_tail(&th->ready, &pf->ready);
	}
	pthread_mutex_unlock(&pf->lock);
	if (told)
		pthread_cond_signal(&pf->ready_cond);
}

void pt_post_kind(struct p_thread *th, enum p_event_kind kind)
{
	memset(&th->ev, 0, sizeof(th->ev));
	th->ev.kind = kind;
	pt_post(th);
}

struct p_thread *pt_next(struct pt_platform *pf)
{
	struct p_thread *th = NULL;

	pthread_mutex_lock(&pf->lock);
	while (list_empty(&pf->ready) && !pf->kicks)
		pthread_cond_wait(&pf->ready_cond, &pf->lock);
	if (!list_empty(&pf->ready)) {
		th = list_first(&pf->ready, struct p_thread, ready);
		list_del(&th->ready);
		th->state = PT_STOPPED;
	} else {
		pf->kicks--;
	}
	pthread_mutex_unlock(&pf->lock);
	return th;
}

void pt_kick(struct pt_platform *pf)
{
	pthread_mutex_lock(&pf->lock);
	pf->kicks++;
	pthread_mutex_unlock(&pf->lock);
	pthread_cond_signal(&pf->ready_cond);
}
