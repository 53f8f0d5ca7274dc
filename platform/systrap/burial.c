/*
 * The end of host processes.
 *
 * Whoever gives up the last reference kills the process; when the host is done with it, it is
 * buried: reaped, its page sets unmapped.  Nobody waits for that.  The overseer would do it on the
 * very CPU where the process ended and its parent would like to go on, so it only does what nobody
 * else has done: a worker buries while it waits for a clone, the parent's next one, say, or before
 * it goes to sleep.  What has not ended by then is left to the overseer.
 */
#include "platform/systrap/internal.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static bool reap(struct p_aspace *as, int flags)
{
	siginfo_t info = {0};

	if (as->pid <= 0)
		return true;
	while (waitid(P_PID, (id_t)as->pid, &info, WEXITED | flags) < 0 && errno == EINTR)
		continue;
	return !(flags & WNOHANG) || info.si_pid == as->pid;
}

/* Of a process that was reaped, or never there. */
static void aspace_free(struct p_aspace *as)
{
	struct systrap *pf = as->pf;

	mutex_lock(&pf->lock, &lc_platform);
	if (!list_empty(&as->link)) {
		list_del(&as->link);
		pf->naspaces--;
	}
	mutex_unlock(&pf->lock, &lc_platform);
	for (size_t i = 0; i < as->nblocks; i++)
		munmap(as->blocks[i].sets, ST_SETS_LEN);
	free(as->blocks);
	patch_forget(as);
	close(as->ctl);
	if (as->pidfd >= 0)
		close(as->pidfd);
	free(as);
}

void aspace_kill(struct p_aspace *as)
{
	/* The pid is ours, alive or a zombie, for as long as the object lives. */
	if (!atomic_exchange(&as->dead, true) && as->pid > 0)
		kill(as->pid, SIGKILL);
}

void aspace_put(struct p_aspace *as)
{
	if (!as || atomic_fetch_sub(&as->ref, 1) != 1)
		return;
	struct systrap *pf = as->pf;
	aspace_kill(as);
	bool here =
		as->pidfd >= 0 && worker_is_this() && atomic_load(&pf->ngraves) < SYSTRAP_GRAVES;
	if (here)
		overseer_unwatch(as);
	mutex_lock(&pf->lock, &lc_platform);
	bool now = as->exited || as->pidfd < 0;
	as->burial = here ? BURIAL_WORKER : BURIAL_OVERSEER;
	if (here && !now) {
		list_add_tail(&as->grave, &pf->graves);
		atomic_fetch_add(&pf->ngraves, 1);
	}
	mutex_unlock(&pf->lock, &lc_platform);
	if (now) {
		reap(as, 0);
		aspace_free(as);
	}
}

static struct p_aspace *find(struct systrap *pf, uint64_t serial) REQUIRES(lc_platform)
{
	struct p_aspace *as;

	list_for_each (as, &pf->aspaces, link)
		if (as->serial == serial)
			return as;
	return NULL;
}

static void report_end(struct p_aspace *as) REQUIRES(lc_platform)
{
	siginfo_t info = {0};
	struct p_thread *th;

	waitid(P_PID, (id_t)as->pid, &info, WEXITED | WNOWAIT | WNOHANG);
	as->exited = true;
	as->signo = info.si_code == CLD_EXITED ? SIGKILL : info.si_status;
	list_for_each (th, &as->threads, link) {
		thread_report_death(th, as->signo);
		if (atomic_load(&th->cmd_waiting))
			st_futex_wake(&th->ps->turn, INT32_MAX);
	}
}

/* It may have been buried since, or be a worker's to bury. */
void aspace_exited(struct systrap *pf, uint64_t serial)
{
	bool expected = true;

	mutex_lock(&pf->lock, &lc_platform);
	struct p_aspace *as = find(pf, serial);
	bool ours = as && as->burial == BURIAL_OVERSEER;
	if (as && as->burial == BURIAL_NONE) {
		expected = atomic_exchange(&as->dead, true);
		report_end(as);
	}
	mutex_unlock(&pf->lock, &lc_platform);
	if (ours) {
		reap(as, 0);
		aspace_free(as);
	}
	if (!expected && pf->opt.process_lost)
		pf->opt.process_lost();
}

static struct p_aspace *take_grave(struct systrap *pf)
{
	struct p_aspace *as = NULL;

	if (!atomic_load(&pf->ngraves))
		return NULL;
	mutex_lock(&pf->lock, &lc_platform);
	if (!list_empty(&pf->graves)) {
		as = list_first(&pf->graves, struct p_aspace, grave);
		list_del(&as->grave);
		atomic_fetch_sub(&pf->ngraves, 1);
	}
	mutex_unlock(&pf->lock, &lc_platform);
	return as;
}

bool burial_one(struct systrap *pf)
{
	struct p_aspace *as = take_grave(pf);

	if (as && reap(as, WNOHANG)) {
		aspace_free(as);
		return true;
	}
	if (as) {
		mutex_lock(&pf->lock, &lc_platform);
		list_add_tail(&as->grave, &pf->graves);
		atomic_fetch_add(&pf->ngraves, 1);
		mutex_unlock(&pf->lock, &lc_platform);
	}
	return false;
}

void burial_before_sleep(struct systrap *pf)
{
	struct p_aspace *as;

	while ((as = take_grave(pf))) {
		if (reap(as, WNOHANG)) {
			aspace_free(as);
			continue;
		}
		/* Under the lock: the overseer may be told at once. */
		mutex_lock(&pf->lock, &lc_platform);
		int err = overseer_watch(as);
		if (!err)
			as->burial = BURIAL_OVERSEER;
		mutex_unlock(&pf->lock, &lc_platform);
		if (err) {
			reap(as, 0);
			aspace_free(as);
		}
	}
}
