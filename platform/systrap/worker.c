/*
 * Workers: how events get from stubs to next(), and how threads go on.
 *
 * An event is announced in one of two ways.  A stub whose `polled` flag is clear writes its id to
 * the doorbell pipe, which one sleeping worker reads.  When calls come quickly and a CPU is free
 * for it, one worker instead looks at the turn words of the few threads that were resumed last, for
 * at most spin_ticks; their stubs see `polled` and save the write.  `polled` is a hint, not a
 * promise: a stub that nobody answers rings before it goes to sleep, so a stale flag costs
 * microseconds.
 *
 * Why this and not a sentry thread per guest thread: a worker that sleeps for one thread cannot run
 * another's handler, and with two CPUs every hand-over to a sleeping thread costs 6 to 30 us.
 *
 * Ids read from the pipe are hints as well, since any guest can write any: bounded, looked up, and
 * then the thread's own state and turn word decide.  The worst that a guest can do is wake us.
 *
 * Spinning: guest_ticks says how long a thread ran before its last event.  If that is within reach
 * of the spin, polling it again will pay; else the worker sleeps at once.  Nothing spins while as
 * many guest threads run as there are CPUs, and nothing at all happens when nothing does.
 */
#include "platform/systrap/internal.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define BUSY_SCAN_MAX 256
#define OLD_US 500UL	 /* in guest code for longer: its CPU clock is asked */
#define SAMPLE_US 5000UL /* how often */
#define QUIET_MIN_US 1000UL
#define QUIET_MAX_US 64000UL

/* ---- spinning policy ---- */

/*
 * How many of n threads that have been running for long really do: guest code sleeps in futexes
 * without telling us, but then its process uses no CPU time.  Looked at every SAMPLE_US.
 */
static int busy_old(struct p_aspace *as, int n, uint64_t now)
{
	uint64_t elapsed = now - as->cpu_tsc;
	struct timespec t;

	if (elapsed >= SAMPLE_US * as->pf->tsc_per_us) {
		/* The process's CPU clock: CPUCLOCK_SCHED of its pid (posix-timers.h). */
		if (clock_gettime((clockid_t)((~(unsigned)as->pid << 3) | 2), &t) < 0)
			return n;
		uint64_t ns = (uint64_t)t.tv_sec * 1000 * NS_PER_MS + (uint64_t)t.tv_nsec;
		uint64_t elapsed_ns = elapsed * 1000 / as->pf->tsc_per_us;
		as->cpu_busy =
			as->cpu_tsc ? (int)((ns - as->cpu_ns + elapsed_ns / 2) / elapsed_ns) : n;
		as->cpu_ns = ns;
		as->cpu_tsc = now;
	}
	return MIN(n, as->cpu_busy);
}

/* Guest threads that really run: RUNNING and not asleep in a futex.  Counted at most every ms. */
static int busy_threads(struct systrap *pf)
{
	int running = atomic_load_explicit(&pf->running, memory_order_relaxed);
	uint64_t now = st_tsc();

	if (running < pf->ncpus)
		return running;
	if (now - atomic_load_explicit(&pf->busy_tsc, memory_order_relaxed) < 1000 * pf->tsc_per_us)
		return atomic_load_explicit(&pf->busy, memory_order_relaxed);

	struct p_aspace *as;
	int n = 0, seen = 0;
	mutex_lock(&pf->lock, &lc_platform);
	list_for_each (as, &pf->aspaces, link) {
		struct p_thread *th;
		int old = 0;
		list_for_each (th, &as->threads, link) {
			uint32_t st = atomic_load_explicit(&th->st, memory_order_relaxed);
			seen++;
			if ((st & ST_STATE) != ST_RUNNING ||
			    __atomic_load_n(&th->ps->waiting, __ATOMIC_RELAXED))
				continue;
			if (now - th->resumed_tsc < OLD_US * pf->tsc_per_us)
				n++;
			else
				old++;
		}
		if (old)
			n += busy_old(as, old, now);
		if (seen > BUSY_SCAN_MAX)
			break;
	}
	if (seen > BUSY_SCAN_MAX)
		n = pf->ncpus;
	mutex_unlock(&pf->lock, &lc_platform);
	atomic_store_explicit(&pf->busy, n, memory_order_relaxed);
	atomic_store_explicit(&pf->busy_tsc, now, memory_order_relaxed);
	return n;
}

bool worker_spin_allowed(struct systrap *pf)
{
	if (!pf->spin_ticks)
		return false;
	if (pf->opt.spin_us > 0)
		return true;
	return busy_threads(pf) < pf->ncpus &&
	       st_tsc() >= atomic_load_explicit(&pf->quiet_until, memory_order_relaxed);
}

struct spin spin_begin(uint64_t budget)
{
	uint64_t now = st_tsc();

	return (struct spin){now, now, budget};
}

/*
 * A gap between two looks says that the CPU was taken from us: somebody outside the sandbox wants
 * it, and spinning only makes things slower for both.  So it is off for a while, for longer each
 * time that this is found again; a spin that went undisturbed starts over.
 */
bool spin_on(struct systrap *pf, struct spin *s)
{
	uint64_t now = st_tsc(), gap = now - s->last;

	s->last = now;
	if (gap > pf->spin_ticks) {
		uint64_t quiet = atomic_load_explicit(&pf->quiet_ticks, memory_order_relaxed) * 2;
		quiet = MAX(quiet, QUIET_MIN_US * pf->tsc_per_us);
		quiet = MIN(quiet, QUIET_MAX_US * pf->tsc_per_us);
		atomic_store_explicit(&pf->quiet_ticks, quiet, memory_order_relaxed);
		atomic_store_explicit(&pf->quiet_until, now + quiet, memory_order_relaxed);
		return false;
	}
	if (now - s->begin >= s->budget) {
		atomic_store_explicit(&pf->quiet_ticks, 0, memory_order_relaxed);
		return false;
	}
	__builtin_ia32_pause();
	return true;
}

/* ---- taking events ---- */

static void ring(struct systrap *pf, uint64_t id)
{
	/* A full pipe wakes somebody anyway, and who wakes looks at `ready` and `kicks`. */
	ssize_t n = write(pf->doorbell_w, &id, sizeof(id));
	(void)n;
}

void worker_ready(struct p_thread *th)
{
	struct systrap *pf = th->as->pf;

	list_add_tail(&th->ready, &pf->ready);
	atomic_fetch_add(&pf->nready, 1);
	ring(pf, 0);
}

static struct p_thread *pop_ready(struct systrap *pf)
{
	struct p_thread *th = NULL;

	if (!atomic_load(&pf->nready))
		return NULL;
	mutex_lock(&pf->lock, &lc_platform);
	if (!list_empty(&pf->ready)) {
		th = list_first(&pf->ready, struct p_thread, ready);
		list_del(&th->ready);
		atomic_fetch_sub(&pf->nready, 1);
	}
	mutex_unlock(&pf->lock, &lc_platform);
	return th;
}

static struct p_thread *claim_hint(struct systrap *pf, uint64_t id, bool *interrupted)
{
	uint32_t index = (uint32_t)id - 1;
	struct p_thread *found = NULL;

	mutex_lock(&pf->lock, &lc_platform);
	struct p_thread *th = index < pf->table_len ? pf->table[index] : NULL;
	while (th && th->generation == id >> 32) {
		uint32_t st = atomic_load(&th->st);
		if ((st & ST_STATE) == ST_RESUMING) {
			if (atomic_compare_exchange_weak(&th->st, &st, st | ST_HINT))
				break;
		} else if ((st & ST_STATE) == ST_RUNNING && event_posted(th)) {
			if (event_claim(th, st, interrupted)) {
				found = th;
				break;
			}
		} else {
			break;
		}
	}
	mutex_unlock(&pf->lock, &lc_platform);
	return found;
}

/* ---- polling ---- */

struct poll_set {
	struct p_thread *th[SYSTRAP_POLL_MAX];
	uint32_t seen; /* recent_n when it was last looked at */
	int n;
};

/* Stops looking at slot i; an event that was posted meanwhile becomes somebody else's. */
static void poll_drop(struct systrap *pf, struct poll_set *s, int i)
{
	struct p_thread *th = s->th[i];
	uint32_t st = atomic_load(&th->st);

	if ((st & ST_STATE) == ST_RUNNING) {
		__atomic_store_n(&th->ps->polled, 0, __ATOMIC_SEQ_CST);
		if (event_posted(th))
			ring(pf, thread_id(th));
	}
	atomic_store(&pf->hazard[i], NULL);
	s->th[i] = NULL;
	s->n--;
}

static void poll_absorb(struct systrap *pf, struct poll_set *s)
{
	uint32_t n = atomic_load_explicit(&pf->recent_n, memory_order_relaxed);

	if (n == s->seen)
		return;
	s->seen = n;
	for (int r = 0; r < SYSTRAP_POLL_MAX; r++) {
		struct p_thread *th = atomic_exchange(&pf->recent[r], NULL);
		int slot = -1;
		for (int i = 0; th && i < SYSTRAP_POLL_MAX; i++) {
			if (s->th[i] == th)
				th = NULL;
			else if (!s->th[i])
				slot = i;
		}
		if (!th || slot < 0)
			continue;
		/* From here on worker_forget() waits for us before the page set goes. */
		atomic_store(&pf->hazard[slot], th);
		s->th[slot] = th;
		s->n++;
	}
}

static struct p_thread *poll_once(struct systrap *pf, struct poll_set *s, bool *interrupted)
{
	for (int i = 0; i < SYSTRAP_POLL_MAX; i++) {
		struct p_thread *th = s->th[i];
		if (!th)
			continue;
		uint32_t st = atomic_load(&th->st);
		if ((st & ST_STATE) == ST_RUNNING && event_posted(th) &&
		    event_claim(th, st, interrupted)) {
			atomic_store(&pf->hazard[i], NULL);
			s->th[i] = NULL;
			s->n--;
			return th;
		}
		if ((st & ST_STATE) != ST_RUNNING && (st & ST_STATE) != ST_RESUMING)
			poll_drop(pf, s, i);
	}
	return NULL;
}

static struct p_thread *poll_threads(struct systrap *pf, bool *interrupted)
{
	struct poll_set s = {.seen = 0, .n = 0};
	struct p_thread *found = NULL;

	if (atomic_exchange(&pf->polling, true))
		return NULL;
	s.seen = atomic_load(&pf->recent_n) - 1;
	struct spin spin = spin_begin(pf->spin_ticks);
	do {
		poll_absorb(pf, &s);
		found = poll_once(pf, &s, interrupted);
		if (found || !s.n || atomic_load(&pf->nready) || atomic_load(&pf->kicks))
			break;
	} while (spin_on(pf, &spin));
	for (int i = 0; i < SYSTRAP_POLL_MAX; i++)
		if (s.th[i])
			poll_drop(pf, &s, i);
	atomic_store(&pf->polling, false);
	st_count(found ? &pf->stats.spins_won : &pf->stats.spins_lost);
	return found;
}

static bool worth_polling(struct systrap *pf)
{
	for (int r = 0; r < SYSTRAP_POLL_MAX; r++)
		if (atomic_load_explicit(&pf->recent[r], memory_order_relaxed))
			return worker_spin_allowed(pf);
	return false;
}

void worker_forget(struct p_thread *th)
{
	struct systrap *pf = th->as->pf;

	for (int i = 0; i < SYSTRAP_POLL_MAX; i++)
		while (atomic_load(&pf->hazard[i]) == th)
			sched_yield();
}

/* ---- next and kick ---- */

static bool take_kick(struct systrap *pf)
{
	int n = atomic_load(&pf->kicks);

	while (n > 0)
		if (atomic_compare_exchange_weak(&pf->kicks, &n, n - 1))
			return true;
	return false;
}

struct p_thread *worker_next(struct platform *platform)
{
	struct systrap *pf = systrap_of(platform);

	for (;;) {
		bool interrupted = false;
		uint64_t id;

		if (atomic_load(&pf->broken) || take_kick(pf))
			return NULL;
		struct p_thread *th = pop_ready(pf);
		if (th)
			return th;
		if (worth_polling(pf)) {
			th = poll_threads(pf, &interrupted);
			if (!th && (atomic_load(&pf->nready) || atomic_load(&pf->kicks)))
				continue;
		}
		if (!th) {
			st_count(&pf->stats.sleeps);
			if (read(pf->doorbell_r, &id, sizeof(id)) != sizeof(id) || !id)
				continue;
			th = claim_hint(pf, id, &interrupted);
		}
		if (!th)
			continue;
		if (event_take(th, interrupted))
			return th;
		thread_resume(th);
	}
}

void worker_kick(struct platform *platform)
{
	struct systrap *pf = systrap_of(platform);

	atomic_fetch_add(&pf->kicks, 1);
	ring(pf, 0);
}

void worker_break(struct systrap *pf)
{
	atomic_store(&pf->broken, true);
	/* Each of at most that many sleepers takes one; later ones see `broken` first. */
	for (int i = 0; i < 256; i++)
		ring(pf, 0);
}
