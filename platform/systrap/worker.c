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
 * of the spin, polling it again will pay; else the worker sleeps at once.  While a CPU is free a
 * spin outlasts the wake-up of an idle CPU.  While none is - guests use them all, by their CPU
 * clocks, or somebody outside the sandbox took a spinning worker's - it may take about as long as
 * the sleep and the wake-up that it saves.  Nothing at all happens when nothing does.
 */
#include "platform/systrap/internal.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SCAN_MAX 64	   /* processes; with more than that every CPU counts as busy */
#define SAMPLE_US 2000UL   /* how often their CPU time is looked at */
#define GAP_US 500UL	   /* a spin that is interrupted for longer has lost its CPU to somebody */
#define SHORT_SPIN_US 10UL /* a sleep and a wake-up on the same CPU, and some handler */
#define AWAY_US 3UL	   /* … has left it for a moment */
#define QUIET_MIN_US 1000UL
#define QUIET_MAX_US 64000UL

/* ---- spinning policy ---- */

/* CPU time of all guest processes, in ns: CPUCLOCK_SCHED of their pids (posix-timers.h). */
static uint64_t guests_cpu_time(struct systrap *pf)
{
	struct p_aspace *as;
	uint64_t sum = 0;
	int seen = 0;

	mutex_lock(&pf->lock, &lc_platform);
	list_for_each (as, &pf->aspaces, link) {
		struct timespec t;
		if (++seen > SCAN_MAX)
			break;
		if (clock_gettime((clockid_t)((~(unsigned)as->pid << 3) | 2), &t) < 0)
			continue;
		uint64_t ns = (uint64_t)t.tv_sec * 1000 * NS_PER_MS + (uint64_t)t.tv_nsec;
		sum += ns - as->cpu_ns;
		as->cpu_ns = ns;
	}
	mutex_unlock(&pf->lock, &lc_platform);
	return seen > SCAN_MAX ? UINT64_MAX : sum;
}

/*
 * Do the guests leave a CPU to a worker?  With as many threads in guest code as there are CPUs it
 * has to be measured: many of them sleep in futexes without telling us.
 */
static bool cpu_is_free(struct systrap *pf)
{
	if (atomic_load_explicit(&pf->running, memory_order_relaxed) < pf->ncpus)
		return true;

	uint64_t now = st_tsc(), last = atomic_load(&pf->sample_tsc);
	if (now - last >= SAMPLE_US * pf->tsc_per_us &&
	    atomic_compare_exchange_strong(&pf->sample_tsc, &last, now)) {
		uint64_t elapsed = (now - last) * 1000 / pf->tsc_per_us;
		uint64_t most = elapsed * (uint64_t)(pf->ncpus - 1) + elapsed / 4;
		atomic_store(&pf->cpu_free, guests_cpu_time(pf) <= most);
	}
	return atomic_load_explicit(&pf->cpu_free, memory_order_relaxed);
}

uint64_t worker_spin(struct systrap *pf)
{
	if (pf->opt.spin_us >= 0)
		return pf->spin_ticks;
	if (pf->ncpus == 1)
		return 0; /* whom we wait for could not run */
	if (cpu_is_free(pf) &&
	    st_tsc() >= atomic_load_explicit(&pf->quiet_until, memory_order_relaxed))
		return pf->spin_ticks;
	return SHORT_SPIN_US * pf->tsc_per_us;
}

struct spin spin_begin(uint64_t budget)
{
	uint64_t now = st_tsc();

	return (struct spin){now, now, budget};
}

/*
 * A gap between two looks says that the CPU was taken from us.  A short one is the guests' doing:
 * we wait for them, and the time was not wasted.  A long one means that somebody computes, here or
 * outside the sandbox.  So spins are short for a while, for longer each time that this is found
 * again; a long spin that went undisturbed starts over.
 */
bool spin_on(struct systrap *pf, struct spin *s)
{
	uint64_t now = st_tsc(), gap = now - s->last;

	s->last = now;
	if (gap > GAP_US * pf->tsc_per_us) {
		uint64_t quiet = atomic_load_explicit(&pf->quiet_ticks, memory_order_relaxed) * 2;
		quiet = MAX(quiet, QUIET_MIN_US * pf->tsc_per_us);
		quiet = MIN(quiet, QUIET_MAX_US * pf->tsc_per_us);
		atomic_store_explicit(&pf->quiet_ticks, quiet, memory_order_relaxed);
		atomic_store_explicit(&pf->quiet_until, now + quiet, memory_order_relaxed);
		return false;
	}
	if (gap > AWAY_US * pf->tsc_per_us)
		s->begin += gap;
	if (now - s->begin >= s->budget) {
		if (s->budget >= pf->spin_ticks)
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

static bool in_guest(uint32_t st)
{
	return (st & ST_STATE) == ST_RUNNING || (st & ST_STATE) == ST_RESUMING;
}

/*
 * A stopped thread is about to be resumed, with `polled` set if there is room for it.  It stays
 * watched from call to call, so that usually there is nothing to write here.
 */
bool worker_watch(struct p_thread *th)
{
	struct systrap *pf = th->as->pf;

	for (int i = 0; i < SYSTRAP_POLL_MAX; i++)
		if (atomic_load_explicit(&pf->watch[i], memory_order_relaxed) == th)
			return true;
	for (int i = 0; i < SYSTRAP_POLL_MAX; i++) {
		struct p_thread *old = atomic_load(&pf->watch[i]);
		if ((!old || !in_guest(atomic_load(&old->st))) &&
		    atomic_compare_exchange_strong(&pf->watch[i], &old, th))
			return true;
	}
	return false;
}

/* No worker looks at its turn word any more on return: the page set may go. */
void worker_forget(struct p_thread *th)
{
	struct systrap *pf = th->as->pf;

	for (int i = 0; i < SYSTRAP_POLL_MAX; i++) {
		struct p_thread *old = th;
		atomic_compare_exchange_strong(&pf->watch[i], &old, NULL);
	}
	uint32_t round = atomic_load(&pf->poll_round);
	while (atomic_load(&pf->polling) && atomic_load(&pf->poll_round) - round < 2)
		sched_yield();
}

/* Stops watching; an event that was posted meanwhile becomes that of who hears the doorbell. */
static void poll_drop(struct systrap *pf, int i)
{
	struct p_thread *th = atomic_load(&pf->watch[i]);

	if (!th)
		return;
	if ((atomic_load(&th->st) & ST_STATE) == ST_RUNNING) {
		__atomic_store_n(&th->ps->polled, 0, __ATOMIC_SEQ_CST);
		if (event_posted(th))
			ring(pf, thread_id(th));
	}
	atomic_compare_exchange_strong(&pf->watch[i], &th, NULL);
}

/* *live: how many threads may post an event. */
static struct p_thread *poll_once(struct systrap *pf, bool *interrupted, int *live)
{
	atomic_fetch_add(&pf->poll_round, 1);
	*live = 0;
	for (int i = 0; i < SYSTRAP_POLL_MAX; i++) {
		struct p_thread *th = atomic_load(&pf->watch[i]);
		uint32_t st = th ? atomic_load(&th->st) : ST_FREE;
		if ((st & ST_STATE) == ST_RUNNING && event_posted(th) &&
		    event_claim(th, st, interrupted))
			return th;
		*live += in_guest(st);
	}
	return NULL;
}

static struct p_thread *poll_threads(struct systrap *pf, bool *interrupted)
{
	struct p_thread *found;
	bool called;
	int live;

	if (atomic_exchange(&pf->polling, true))
		return NULL;
	struct spin spin = spin_begin(worker_spin(pf));
	do {
		found = poll_once(pf, interrupted, &live);
		called = atomic_load(&pf->nready) || atomic_load(&pf->kicks);
	} while (!found && live && !called && spin_on(pf, &spin));
	for (int i = 0; !found && !called && i < SYSTRAP_POLL_MAX; i++)
		poll_drop(pf, i);
	atomic_store_explicit(&pf->polling, false, memory_order_release);
	st_count(found ? &pf->stats.spins_won : &pf->stats.spins_lost);
	return found;
}

static bool worth_polling(struct systrap *pf)
{
	for (int i = 0; i < SYSTRAP_POLL_MAX; i++)
		if (atomic_load_explicit(&pf->watch[i], memory_order_relaxed))
			return pf->spin_ticks;
	return false;
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

static __thread bool is_worker;

bool worker_is_this(void)
{
	return is_worker;
}

struct p_thread *worker_next(struct platform *platform)
{
	struct systrap *pf = systrap_of(platform);

	is_worker = true;
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
			burial_before_sleep(pf);
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
