/*
 * Address spaces: host processes, how they come (clones of the zygote or of one another) and go.
 *
 * A clone is believed step by step.  The seccomp notification of clone(2) is let through once for
 * the thread that was asked to (overseer.c).  The pid that comes back lies in memory that the guest
 * can write: it counts only if it is a child of ours, not known yet, and has at the page set's
 * address the nonce that only the new page set holds.
 *
 * A page-set memfd belongs to one process and is never used again.  The parent's process receives
 * it on its way to the child, so a hostile parent can keep it and speak for the child: that is no
 * more than it could have put into the child before the fork.  Programs with another identity start
 * by exec, in a clone of the zygote, which runs no guest code.
 */
#include "platform/systrap/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sentry/host/crash.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8u
#endif
#define STRAY_SCAN 4096

/* ---- kits ---- */

int sets_create(char **map)
{
	int fd = memfd_create("pageset", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);

	if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
		fd = memfd_create("pageset", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	/* Sized and sealed: the guest cannot make our mapping fault. */
	if (ftruncate(fd, ST_SETS_LEN) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		goto fail;
	*map = mmap(NULL, ST_SETS_LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (*map != MAP_FAILED)
		return fd;
fail:;
	int err = -errno;
	close(fd);
	return err;
}

int kit_make(struct kit *k)
{
	int sv[2];

	k->sets_fd = sets_create(&k->sets);
	if (k->sets_fd < 0)
		return k->sets_fd;
	/* The first slot's pages, which nearly every process uses; a hint. */
	madvise(k->sets, ST_SET_SIZE, MADV_POPULATE_WRITE);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0) {
		int err = -errno;
		munmap(k->sets, ST_SETS_LEN);
		close(k->sets_fd);
		return err;
	}
	k->ctl = sv[0];
	k->guest_ctl = sv[1];
	return 0;
}

void kit_free(struct kit *k)
{
	munmap(k->sets, ST_SETS_LEN);
	close(k->sets_fd);
	close(k->ctl);
	close(k->guest_ctl);
}

static int kit_take(struct systrap *pf, struct kit *k)
{
	bool found = false;

	mutex_lock(&pf->lock, &lc_platform);
	if (pf->nkits) {
		*k = pf->kits[--pf->nkits];
		found = true;
	}
	mutex_unlock(&pf->lock, &lc_platform);
	return found ? 0 : kit_make(k);
}

/* Makes one for the next fork; false: they are no use, or there are enough. */
static bool kit_restock(struct systrap *pf)
{
	struct kit k;

	if (!atomic_load(&pf->forks) || atomic_load(&pf->nkits) >= SYSTRAP_KITS || kit_make(&k))
		return false;
	mutex_lock(&pf->lock, &lc_platform);
	bool room = pf->nkits < SYSTRAP_KITS;
	if (room)
		pf->kits[pf->nkits++] = k;
	mutex_unlock(&pf->lock, &lc_platform);
	if (!room)
		kit_free(&k);
	return room;
}

/* ---- objects ---- */

int aspace_alloc(struct systrap *pf, const struct kit *k, unsigned block, unsigned slot,
		 struct p_aspace **out, struct p_thread **th)
{
	struct p_aspace *as = calloc(1, sizeof(*as));
	struct block *b = calloc(1, sizeof(*b));

	if (!as || !b)
		goto fail;
	atomic_init(&as->ref, 1);
	as->pf = pf;
	as->pidfd = -1;
	as->ctl = k->ctl;
	as->signo = SIGKILL;
	list_init(&as->threads);
	list_init(&as->link);
	list_init(&as->grave);
	mutex_init(&as->cmd_lock);
	mutex_init(&as->text_change);
	kept_reset(as);
	b->sets = k->sets;
	b->index = (uint16_t)block;
	b->used = 1u << slot;
	as->blocks = b;
	as->nblocks = 1;
	as->serial = atomic_fetch_add(&pf->serial, 1) + 1;
	as->nonce = pf->nonce_seed + as->serial * 0x9e3779b97f4a7c15ULL;
	*th = thread_alloc(as, (struct st_pageset *)(k->sets + slot * ST_SET_SIZE),
			   ST_BLOCK(block) + ST_SETS_OFF + slot * ST_SET_SIZE, true);
	if (!*th)
		goto fail;
	(*th)->leader = true;
	(*th)->ps->nonce = as->nonce;
	*out = as;
	return 0;
fail:
	free(as);
	free(b);
	return -ENOMEM;
}

struct p_aspace *aspace_get(struct p_aspace *as)
{
	atomic_fetch_add_explicit(&as->ref, 1, memory_order_relaxed);
	return as;
}

int aspace_watch(struct p_aspace *as)
{
	struct systrap *pf = as->pf;

	as->pidfd = (int)syscall(SYS_pidfd_open, as->pid, 0);
	if (as->pidfd < 0)
		return -errno;
	mutex_lock(&pf->lock, &lc_platform);
	list_add_tail(&as->link, &pf->aspaces);
	pf->naspaces++;
	mutex_unlock(&pf->lock, &lc_platform);
	return overseer_watch(as);
}

/* ---- cloning ---- */

static bool pid_known(struct systrap *pf, pid_t pid)
{
	struct p_aspace *as;
	bool known = false;

	mutex_lock(&pf->lock, &lc_platform);
	list_for_each (as, &pf->aspaces, link)
		known |= as->pid == pid;
	mutex_unlock(&pf->lock, &lc_platform);
	return known;
}

static bool is_our_child(pid_t pid)
{
	siginfo_t info;

	return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

static bool nonce_matches(pid_t pid, struct p_aspace *as, struct p_thread *th)
{
	uint64_t seen = 0;
	struct iovec l = {&seen, sizeof(seen)};
	struct iovec r = {(void *)(th->ps_addr + offsetof(struct st_pageset, nonce)), sizeof(seen)};

	return process_vm_readv(pid, &l, 1, &r, 1, 0) == sizeof(seen) && seen == as->nonce;
}

/*
 * Clones in flight, and strays: a clone whose child cannot be believed, or whose parent died before
 * it said anything, left a child somewhere behind the last pid that we knew.  It is looked for when
 * no other clone is in flight, since their children look the same.  Only a hostile guest can delay
 * that (by the deadline of a command at a time); the sandbox's pids limit is the backstop.
 */
static void clone_begin(struct systrap *pf, struct p_thread *parent)
{
	mutex_lock(&pf->lock, &lc_platform);
	if (!pf->clones++ && !list_empty(&pf->aspaces))
		pf->pid_before = list_entry(pf->aspaces.prev, struct p_aspace, link)->pid;
	list_add(&parent->pending, &pf->pending);
	mutex_unlock(&pf->lock, &lc_platform);
}

static void kill_strays(struct systrap *pf, pid_t from)
{
	for (pid_t pid = from + 1; pid < from + STRAY_SCAN; pid++) {
		siginfo_t info;
		if (!is_our_child(pid) || pid_known(pf, pid))
			continue;
		kill(pid, SIGKILL);
		waitid(P_PID, (id_t)pid, &info, WEXITED);
	}
}

static void clone_end(struct systrap *pf, bool stray)
{
	mutex_lock(&pf->lock, &lc_platform);
	pf->strays |= stray;
	bool scan = pf->strays && pf->clones == 1;
	if (!scan)
		pf->clones--;
	mutex_unlock(&pf->lock, &lc_platform);
	if (!scan)
		return;
	/* Still counted, but others may have begun meanwhile: theirs would be hit. */
	mutex_lock(&pf->clone_gate, &lc_clone);
	mutex_lock(&pf->lock, &lc_platform);
	scan = pf->clones == 1;
	if (scan)
		pf->strays = false;
	pf->clones--;
	pid_t from = pf->pid_before;
	mutex_unlock(&pf->lock, &lc_platform);
	if (scan)
		kill_strays(pf, from);
	mutex_unlock(&pf->clone_gate, &lc_clone);
}

/* Has the parent's stub clone; its answer, in *stray whether a child may be left unaccounted for.
 * The host needs some time for a clone: that of making a kit, or of a burial. */
static long clone_ask(struct p_thread *parent, const struct kit *k, struct p_aspace *as,
		      bool *stray)
{
	struct systrap *pf = parent->as->pf;
	const int fds[2] = {k->sets_fd, k->guest_ctl};

	mutex_lock(&parent->as->cmd_lock, &lc_aspace);
	parent->ps->ctl_fd = parent->as->guest_ctl;
	long r = command_send_fds(parent->as, fds, 2);
	if (r == 0 && atomic_load(&parent->as->dead))
		r = -ESRCH;
	if (r == 0) {
		command_give(parent, ST_CMD_FORK);
		while (!command_replied(parent) && (kit_restock(pf) || burial_one(pf)))
			continue;
		r = command_wait(parent);
	}
	mutex_lock(&pf->lock, &lc_platform);
	kept_inherit(as, parent->as);
	*stray = r < 0 && list_empty(&parent->pending);
	list_del(&parent->pending);
	mutex_unlock(&pf->lock, &lc_platform);
	mutex_unlock(&parent->as->cmd_lock, &lc_aspace);
	if (r > INT32_MAX || r < -4095)
		return -EAGAIN;
	return r ? r : -EAGAIN;
}

/* The conversation; the child answers in its own page set.  Afterwards as->pid is 0, or watched. */
static int clone_process(struct p_thread *parent, const struct kit *k, struct p_aspace *as,
			 struct p_thread *th)
{
	struct systrap *pf = as->pf;
	bool stray = false;

	mutex_lock(&pf->clone_gate, &lc_clone);
	clone_begin(pf, parent);
	mutex_unlock(&pf->clone_gate, &lc_clone);
	long r = clone_ask(parent, k, as, &stray);
	if (r > 0 && (!is_our_child((pid_t)r) || pid_known(pf, (pid_t)r))) {
		thread_misbehaved(parent, "clone with a false pid");
		stray = true;
		r = -ESRCH;
	}
	if (r > 0) {
		as->pid = th->tid = (pid_t)r;
		r = aspace_watch(as);
	}
	clone_end(pf, stray);
	if (r == 0)
		r = command_wait(th);
	if (r == 0 && !nonce_matches(as->pid, as, th)) {
		thread_misbehaved(parent, "clone with a false page set");
		r = -ESRCH;
	}
	if (r == 0)
		as->guest_ctl = __atomic_load_n(&th->ps->new_ctl, __ATOMIC_RELAXED);
	return (int)r;
}

int aspace_clone(struct p_thread *parent, struct p_aspace **out, struct p_thread **out_th)
{
	struct systrap *pf = parent->as->pf;
	unsigned block = (unsigned)((ST_BLOCK(0) - (parent->ps_addr & ~(ST_BLOCK_SIZE - 1))) /
				    ST_BLOCK_SIZE);
	unsigned slot =
		(unsigned)((parent->ps_addr & (ST_BLOCK_SIZE - 1)) - ST_SETS_OFF) / ST_SET_SIZE;
	struct p_aspace *as;
	struct p_thread *th;
	struct kit k;

	if (atomic_load(&pf->naspaces) >= pf->opt.max_guest_processes)
		return -EAGAIN;
	if (atomic_load(&parent->as->dead) || thread_convert(parent))
		return -ESRCH;
	owed_run(parent);
	int err = kit_take(pf, &k);
	if (err)
		return err;
	err = aspace_alloc(pf, &k, block, slot, &as, &th);
	if (err) {
		kit_free(&k);
		return err;
	}
	th->ps->cmd_seq = th->cmd_seq = 1; /* its first reply comes without a command */
	th->fpstate = parent->fpstate;
	if (parent->as->vdso_gone) {
		as->vdso_gone = true;
		th->ps->vdso_clock = th->ps->vdso_getcpu = 0;
	}
	mutex_lock(&parent->as->text_change, &lc_text_change);
	err = patch_fork(as, parent->as);
	if (!err)
		err = clone_process(parent, &k, as, th);
	mutex_unlock(&parent->as->text_change, &lc_text_change);
	close(k.sets_fd);
	close(k.guest_ctl);
	if (err) {
		aspace_kill(as);
		thread_free(th);
		aspace_put(as);
		return err;
	}
	*out = as;
	*out_th = th;
	return 0;
}

int systrap_fork(struct p_thread *parent, struct p_aspace **as, struct p_thread **th)
{
	atomic_store(&parent->as->pf->forks, true);
	int err = aspace_clone(parent, as, th);

	if (err)
		return err;
	(*th)->regs = parent->regs;
	atomic_store(&(*th)->direct, atomic_load(&parent->direct));
	return 0;
}

/*
 * ---- the pool of ready processes ----
 *
 * One is made while the sandbox starts, for its first program.  More only pay where programs that
 * share their parent's memory until then start others (vfork): each costs the sandbox's start and
 * end 0.2 ms.
 */

static struct p_thread *pool_take(struct systrap *pf)
{
	struct p_thread *th = NULL;

	mutex_lock(&pf->lock, &lc_platform);
	if (pf->npool)
		th = pf->pool[--pf->npool];
	pf->pool_size = pf->pool_size == 1 ? 0 : SYSTRAP_POOL_SIZE;
	bool more = pf->pool_size;
	mutex_unlock(&pf->lock, &lc_platform);
	if (more)
		pool_refill(pf);
	return th;
}

int systrap_aspace_create(struct platform *platform, struct p_aspace **as, struct p_thread **th)
{
	struct systrap *pf = systrap_of(platform);

	if (atomic_load(&pf->broken))
		return -ESRCH;
	while ((*th = pool_take(pf))) {
		*as = (*th)->as;
		if (!atomic_load(&(*as)->dead))
			return 0;
		systrap_thread_destroy(*th);
		aspace_put(*as);
	}
	mutex_lock(&pf->fork_lock, &lc_zygote);
	int err = aspace_clone(pf->zygote_thread, as, th);
	mutex_unlock(&pf->fork_lock, &lc_zygote);
	return err;
}

static bool pool_want(struct systrap *pf)
{
	mutex_lock(&pf->lock, &lc_platform);
	bool want = pf->npool < pf->pool_size;
	mutex_unlock(&pf->lock, &lc_platform);
	return want;
}

static bool pool_add(struct systrap *pf)
{
	struct p_aspace *as;
	struct p_thread *th;

	mutex_lock(&pf->fork_lock, &lc_zygote);
	int err = aspace_clone(pf->zygote_thread, &as, &th);
	mutex_unlock(&pf->fork_lock, &lc_zygote);
	if (err)
		return false;
	mutex_lock(&pf->lock, &lc_platform);
	bool room = pf->npool < SYSTRAP_POOL_SIZE && !pf->stopping;
	if (room)
		pf->pool[pf->npool++] = th;
	mutex_unlock(&pf->lock, &lc_platform);
	if (!room) {
		systrap_thread_destroy(th);
		aspace_put(as);
	}
	return room;
}

/* Keeps the pool full; asleep otherwise. */
static void *pool_main(void *arg)
{
	struct systrap *pf = arg;

	crash_thread_init();
	for (;;) {
		uint32_t seen = atomic_load(&pf->refill);
		if (pf->stopping || atomic_load(&pf->broken))
			return NULL;
		if (pool_want(pf) && pool_add(pf))
			continue;
		st_futex_wait(&pf->refill, seen, -1);
	}
}

void pool_refill(struct systrap *pf)
{
	atomic_fetch_add(&pf->refill, 1);
	st_futex_wake(&pf->refill, 1);
}

int pool_start(struct systrap *pf)
{
	return -pthread_create(&pf->pool_thread, NULL, pool_main, pf);
}

void pool_drain(struct systrap *pf)
{
	while (pf->npool) {
		struct p_thread *th = pf->pool[--pf->npool];
		struct p_aspace *as = th->as;
		systrap_thread_destroy(th);
		aspace_put(as);
	}
	while (pf->nkits)
		kit_free(&pf->kits[--pf->nkits]);
}
