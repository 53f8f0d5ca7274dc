/*
 * The overseer: one sentry thread that sleeps in epoll for what nobody asked for - a guest
 * process's end, a clone(2) that wants to be let through, an interrupt that is overdue.
 */
#include "platform/systrap/internal.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "sentry/host/crash.h"

/*
 * An interrupt is overdue after so many ticks.  Ticks are counted only when we run, at most one a
 * wake-up, so that a frozen or suspended sandbox does not wake to find every guest guilty.
 */
#define TICK_MS 250
#define OVERDUE_TICKS 5

/* What epoll says happened: these, or the end of the process with that serial number. */
#define EV_WAKEUP UINT64_MAX
#define EV_LISTENER (UINT64_MAX - 1)

void overseer_wake(struct systrap *pf)
{
	uint64_t one = 1;
	ssize_t n = write(pf->wakeup, &one, sizeof(one));
	(void)n;
}

/* Nothing is said about a process that is being killed: the worker has stopped waiting for it. */
static void kill_by_tid(struct systrap *pf, pid_t tid)
{
	struct p_aspace *as = NULL;

	mutex_lock(&pf->lock, &lc_platform);
	for (uint32_t i = 0; i < pf->table_len && !as; i++) {
		struct p_thread *th = pf->table[i];
		if ((atomic_load(&th->st) & ST_STATE) != ST_FREE && th->tid == tid)
			as = aspace_get(th->as);
	}
	mutex_unlock(&pf->lock, &lc_platform);
	if (!as)
		return;
	if (!atomic_load(&as->dead))
		log_limited(LOG_WARN, "guest process %d killed: clone that nobody asked for",
			    as->pid);
	aspace_kill(as);
	aspace_put(as);
}

/* Only a clone that a worker is waiting for goes on, once; its arguments passed the filter. */
static void clone_notified(struct systrap *pf)
{
	struct seccomp_notif req = {0};
	struct seccomp_notif_resp resp = {0};
	struct p_thread *th;
	bool allowed = false;

	if (ioctl(pf->listener, SECCOMP_IOCTL_NOTIF_RECV, &req) < 0)
		return;
	mutex_lock(&pf->lock, &lc_platform);
	list_for_each (th, &pf->pending, pending) {
		if (th->tid != (pid_t)req.pid)
			continue;
		list_del(&th->pending);
		allowed = true;
		break;
	}
	mutex_unlock(&pf->lock, &lc_platform);
	/* The kill comes first: a refusal alone would let the guest go on. */
	if (!allowed)
		kill_by_tid(pf, (pid_t)req.pid);
	resp.id = req.id;
	resp.flags = allowed ? SECCOMP_USER_NOTIF_FLAG_CONTINUE : 0;
	resp.error = allowed ? 0 : -EPERM;
	ioctl(pf->listener, SECCOMP_IOCTL_NOTIF_SEND, &resp);
}

/* One tick: kills what did not stop in time; no interrupt outstanding: no more ticks. */
static void check_interrupts(struct systrap *pf)
{
	bool outstanding = false;

	mutex_lock(&pf->lock, &lc_platform);
	pf->ticks++;
	for (uint32_t i = 0; i < pf->table_len; i++) {
		struct p_thread *th = pf->table[i];
		uint32_t st = atomic_load(&th->st);
		if ((st & ST_STATE) != ST_RUNNING || !(st & ST_INTR))
			continue;
		outstanding = true;
		if (pf->ticks - th->intr_since < OVERDUE_TICKS)
			continue;
		log_limited(LOG_WARN, "guest process %d killed: it does not stop", th->as->pid);
		aspace_kill(th->as);
	}
	atomic_store(&pf->interrupts, outstanding);
	mutex_unlock(&pf->lock, &lc_platform);
}

int overseer_watch(struct p_aspace *as)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLONESHOT, .data.u64 = as->serial};

	return epoll_ctl(as->pf->epoll, EPOLL_CTL_ADD, as->pidfd, &ev) < 0 ? -errno : 0;
}

void overseer_unwatch(struct p_aspace *as)
{
	epoll_ctl(as->pf->epoll, EPOLL_CTL_DEL, as->pidfd, NULL);
}

static void handle(struct systrap *pf, const struct epoll_event *ev)
{
	uint64_t count;
	ssize_t n;

	if (ev->data.u64 == EV_WAKEUP) {
		n = read(pf->wakeup, &count, sizeof(count));
		(void)n;
	} else if (ev->data.u64 == EV_LISTENER) {
		if (ev->events & EPOLLIN)
			clone_notified(pf);
		else /* no process is left that could ask */
			epoll_ctl(pf->epoll, EPOLL_CTL_DEL, pf->listener, NULL);
	} else if (ev->data.u64 == pf->zygote->serial) {
		aspace_exited(pf, pf->zygote->serial);
		if (!pf->stopping) {
			log_warn("systrap: the zygote died (signal %d): no more processes",
				 pf->zygote->signo);
			if (pf->opt.died)
				pf->opt.died("the zygote of guest processes exited unexpectedly");
		}
		worker_break(pf);
		pool_refill(pf); /* its thread has to see that, too */
	} else {
		aspace_exited(pf, ev->data.u64);
	}
}

static void *overseer_main(void *arg)
{
	struct systrap *pf = arg;
	int64_t last_tick = st_now();

	crash_thread_init();
	while (!pf->stopping) {
		struct epoll_event ev[16];
		bool ticking = atomic_load(&pf->interrupts);
		int n = epoll_wait(pf->epoll, ev, ARRAY_SIZE(ev), ticking ? TICK_MS : -1);

		for (int i = 0; i < n; i++)
			handle(pf, &ev[i]);
		int64_t now = st_now();
		if (ticking && now - last_tick >= TICK_MS * NS_PER_MS) {
			check_interrupts(pf);
			last_tick = now;
		} else if (!ticking) {
			last_tick = now;
		}
	}
	return NULL;
}

int overseer_start(struct systrap *pf)
{
	struct epoll_event listen = {.events = EPOLLIN, .data.u64 = EV_LISTENER};
	struct epoll_event wake = {.events = EPOLLIN, .data.u64 = EV_WAKEUP};

	if (epoll_ctl(pf->epoll, EPOLL_CTL_ADD, pf->listener, &listen) < 0 ||
	    epoll_ctl(pf->epoll, EPOLL_CTL_ADD, pf->wakeup, &wake) < 0)
		return -errno;
	return -pthread_create(&pf->overseer_thread, NULL, overseer_main, pf);
}
