/*
 * Threads: slots, the host clone that fills one, and the end.
 *
 * A host thread outlives its guest thread: it stays parked in the stub, and the next guest thread
 * of the process takes it over.  A clone with its supervision costs several times as much.
 *
 * A slot serves one thread after another of the same process, never across fork or exec.  It is
 * free again when the host kernel has cleared the thread id in its page set.  The thread-group
 * leader is never made to exit before its process: remote access and signals go by its id, so its
 * host thread stays parked in the stub.
 */
#include "platform/systrap/internal.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SET_ADDR(block, slot) (ST_BLOCK(block) + ST_SETS_OFF + (slot)*ST_SET_SIZE)
#define STACK_ADDR(block, slot) (ST_BLOCK(block) + (slot)*ST_STACK_SIZE)

/* ---- the table ---- */

static bool table_grow(struct systrap *pf)
{
	uint32_t cap = pf->table_cap ? pf->table_cap * 2 : 64;
	struct p_thread **t = realloc(pf->table, cap * sizeof(struct p_thread *));

	if (!t)
		return false;
	pf->table = t;
	pf->table_cap = cap;
	return true;
}

/* A free p_thread with its place in the table; they are never given back to malloc. */
static struct p_thread *take_free(struct systrap *pf)
{
	if (!list_empty(&pf->free_threads)) {
		struct p_thread *th = list_first(&pf->free_threads, struct p_thread, link);
		list_del(&th->link);
		return th;
	}
	if (pf->table_len == pf->table_cap && !table_grow(pf))
		return NULL;
	struct p_thread *th = calloc(1, sizeof(*th));
	if (!th)
		return NULL;
	th->index = pf->table_len;
	pf->table[pf->table_len++] = th;
	list_init(&th->link);
	list_init(&th->ready);
	list_init(&th->pending);
	return th;
}

struct p_thread *thread_alloc(struct p_aspace *as, struct st_pageset *ps, uint64_t ps_addr,
			      bool fresh)
{
	size_t kept = offsetof(struct st_pageset, cmd);
	struct systrap *pf = as->pf;

	mutex_lock(&pf->lock, &lc_platform);
	struct p_thread *th = take_free(pf);
	if (!th) {
		mutex_unlock(&pf->lock, &lc_platform);
		return NULL;
	}
	th->generation++;
	th->as = aspace_get(as);
	th->ps = ps;
	th->ps_addr = ps_addr;
	th->tid = 0;
	th->cpu_before = 0;
	th->leader = false;
	atomic_store(&th->cpus, 0);
	th->owner = NULL;
	th->cmd_seq = 0;
	th->fpstate = 0;
	th->fast = false;
	th->in_len = 0;
	th->nlate = 0;
	th->window = NULL;
	th->kept = NULL;
	memset(th->streams, 0, sizeof(th->streams));
	th->cmd_patient = false;
	th->late_failed = false;
	th->owed = th->owed_given = false;
	th->owed_error = 0;
	th->trapped = 0;
	th->notes = (struct p_notes){0};
	th->intr_since = 0;
	th->resumed_tsc = th->taken_tsc = st_tsc();
	th->guest_ticks = th->handle_ticks = 0;
	th->vain = th->skip = 0;
	th->parked = false;
	th->stub_spins = 0;
	atomic_store(&th->direct, true);
	memset(&th->regs, 0, sizeof(th->regs));
	memset(&th->fast_regs, 0, sizeof(th->fast_regs));
	memset(&th->event, 0, sizeof(th->event));
	memset(&th->redo, 0, sizeof(th->redo));
	th->regs.orig_rax = (uint64_t)-1;
	th->regs.cs = ARCH_USER_CS;
	th->regs.ss = ARCH_USER_DS;
	th->regs.eflags = ARCH_EFLAGS_FIXED;

	/* All of it but the words that the host kernel or a waking futex may still look at; a
	 * parked thread's stub goes by the words that it writes itself. */
	if (fresh)
		kept = 0;
	memset((char *)ps + kept, 0, offsetof(struct st_pageset, ops) - kept);
	ps->answered = 0;
	if (fresh) {
		ps->turn = ST_TURN_STUB;
		ps->tid = 1;
	}
	ps->fsgsbase = pf->fsgsbase;
	ps->self = ps_addr;
	ps->stack_top =
		(ps_addr & ~(ST_BLOCK_SIZE - 1)) +
		(((ps_addr & (ST_BLOCK_SIZE - 1)) - ST_SETS_OFF) / ST_SET_SIZE + 1) * ST_STACK_SIZE;
	ps->id = thread_id(th);
	vdso_publish(th);
	list_add_tail(&th->link, &as->threads);
	as->nthreads++;
	atomic_store(&th->st, (atomic_load(&th->st) & ~(ST_COUNT - 1)) | ST_STOPPED);
	mutex_unlock(&pf->lock, &lc_platform);
	return th;
}

/* Takes the object out of every list; returns how many threads are left in its process. */
static int thread_unlink(struct p_thread *th)
{
	struct systrap *pf = th->as->pf;

	mutex_lock(&pf->lock, &lc_platform);
	uint32_t st = atomic_fetch_and(&th->st, ~(ST_COUNT - 1)); /* ST_FREE */
	if ((st & ST_STATE) == ST_RUNNING)
		atomic_fetch_sub(&pf->running, 1);
	if (!list_empty(&th->ready)) {
		list_del(&th->ready);
		atomic_fetch_sub(&pf->nready, 1);
	}
	pf->stats.answered += __atomic_load_n(&th->ps->answered, __ATOMIC_RELAXED);
	window_leave(th);
	lent_streams_leave(th);
	list_del(&th->link);
	int left = --th->as->nthreads;
	mutex_unlock(&pf->lock, &lc_platform);
	worker_forget(th);
	return left;
}

static void thread_release(struct p_thread *th)
{
	struct systrap *pf = th->as->pf;
	struct p_aspace *as = th->as;

	mutex_lock(&pf->lock, &lc_platform);
	list_add(&th->link, &pf->free_threads);
	mutex_unlock(&pf->lock, &lc_platform);
	aspace_put(as);
}

void thread_free(struct p_thread *th)
{
	thread_unlink(th);
	thread_release(th);
}

static void slot_of(const struct p_thread *th, unsigned *block, unsigned *slot)
{
	*block = (unsigned)((ST_BLOCK(0) - (th->ps_addr & ~(ST_BLOCK_SIZE - 1))) / ST_BLOCK_SIZE);
	*slot = (unsigned)((th->ps_addr & (ST_BLOCK_SIZE - 1)) - ST_SETS_OFF) / ST_SET_SIZE;
}

/* Parks the host thread, or ends it.  Parked, it must not have a registration for rseq left. */
static void leave_slot(struct p_thread *th)
{
	struct p_aspace *as = th->as;
	unsigned block, slot;
	int64_t used = __atomic_load_n(&th->ps->cpu_ns, __ATOMIC_RELAXED);

	slot_of(th, &block, &slot);
	mutex_lock(&as->cmd_lock, &lc_aspace);
	if (as->nparked < SYSTRAP_PARKED && !__atomic_load_n(&th->ps->rseq, __ATOMIC_RELAXED)) {
		as->parked[as->nparked++] = (struct parked){.block = (uint16_t)block,
							    .slot = (uint16_t)slot,
							    .fast = th->fast,
							    .tid = th->tid,
							    .fpstate = th->fpstate,
							    .cpu_ns = MAX(th->cpu_before, used)};
	} else {
		for (size_t i = 0; i < as->nblocks; i++)
			if (as->blocks[i].index == block)
				as->blocks[i].exiting |= 1u << slot;
		command_give(th, ST_CMD_EXIT);
	}
	mutex_unlock(&as->cmd_lock, &lc_aspace);
}

void systrap_thread_destroy(struct p_thread *th)
{
	struct p_aspace *as = th->as;
	bool dead = atomic_load(&as->dead) || atomic_load(&th->st) & ST_DEAD;
	int left = thread_unlink(th);

	if (!left)
		aspace_kill(as);
	else if (!dead && !th->leader)
		leave_slot(th);
	thread_release(th);
}

/* ---- slots ---- */

static struct st_pageset *slot_pageset(const struct block *b, unsigned slot)
{
	return (struct st_pageset *)(b->sets + slot * ST_SET_SIZE);
}

static bool slot_take(struct p_aspace *as, struct block **block, unsigned *slot)
{
	for (size_t i = 0; i < as->nblocks; i++) {
		struct block *b = &as->blocks[i];
		for (uint32_t m = b->exiting; m; m &= m - 1) {
			unsigned s = (unsigned)__builtin_ctz(m);
			if (!__atomic_load_n(&slot_pageset(b, s)->tid, __ATOMIC_ACQUIRE)) {
				b->exiting &= ~(1u << s);
				b->used &= ~(1u << s);
			}
		}
		if (b->used != ~0u) {
			*slot = (unsigned)__builtin_ctz(~b->used);
			*block = b;
			return true;
		}
	}
	return false;
}

/* Has the parent's stub map one more block; ops and message as in a batch. */
static int block_map(struct p_thread *parent, unsigned index, int fd)
{
	struct st_pageset *ps = parent->ps;
	struct p_aspace *as = parent->as;
	uint64_t sets = ST_BLOCK(index) + ST_SETS_OFF;

	owed_run(parent);
	ps->ops[0] = (struct st_op){.nr = SYS_mmap,
				    .arg = {ST_BLOCK(index), ST_STACKS_LEN, PROT_READ | PROT_WRITE,
					    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
					    (uint64_t)-1, 0}};
	ps->ops[1] = (struct st_op){
		.nr = SYS_mmap,
		.flags = ST_OP_FD,
		.arg = {sets, ST_SETS_LEN, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, 0, 0}};
	ps->ops[2] = (struct st_op){.nr = SYS_madvise, .arg = {sets, ST_SETS_LEN, MADV_DONTFORK}};
	ps->nops = 3;
	ps->nfds = 1;
	ps->ctl_fd = as->guest_ctl;
	long r = command_send_fds(as, &fd, 1);
	if (!r)
		r = command_run(parent, ST_CMD_OPS);
	if (r < 0)
		return r > -4096 ? (int)r : -EAGAIN;
	for (int i = 0; i < 3; i++) {
		int64_t ret = __atomic_load_n(&ps->ops[i].ret, __ATOMIC_RELAXED);
		if (ret < 0)
			return ret > -4096 ? (int)ret : -EAGAIN;
	}
	return 0;
}

static int block_add(struct p_thread *parent)
{
	struct p_aspace *as = parent->as;
	unsigned index = 0;
	char *sets;

	for (size_t i = 0; i < as->nblocks; i++)
		if (as->blocks[i].index == index) {
			index++;
			i = (size_t)-1; /* from the start: they are in no order */
		}
	if (index >= ST_SLOT_BLOCKS)
		return -EAGAIN;
	struct block *b = realloc(as->blocks, (as->nblocks + 1) * sizeof(*b));
	if (!b)
		return -ENOMEM;
	as->blocks = b;
	int fd = sets_create(&sets);
	if (fd < 0)
		return fd;
	int err = block_map(parent, index, fd);
	close(fd);
	if (err) {
		munmap(sets, ST_SETS_LEN);
		return err;
	}
	as->blocks[as->nblocks++] = (struct block){.sets = sets, .index = (uint16_t)index};
	return 0;
}

/* ---- creation ---- */

/* The clone itself, with the slot reserved; cmd_lock held. */
static int clone_thread(struct p_thread *parent, struct p_thread *th, uint64_t stack)
{
	struct systrap *pf = parent->as->pf;

	th->ps->cmd_seq = th->cmd_seq = 1; /* its first reply comes without a command */
	parent->ps->arg[0] = stack;
	mutex_lock(&pf->lock, &lc_platform);
	list_add(&parent->pending, &pf->pending);
	mutex_unlock(&pf->lock, &lc_platform);
	long r = command_run(parent, ST_CMD_THREAD);
	mutex_lock(&pf->lock, &lc_platform);
	list_del(&parent->pending);
	mutex_unlock(&pf->lock, &lc_platform);
	if (r <= 0)
		return r < 0 && r > -4096 ? (int)r : -EAGAIN;
	/* A false id would make interrupts go astray: it must at least be one of this process. */
	if (r > INT32_MAX || syscall(SYS_tgkill, th->as->pid, (pid_t)r, 0) < 0) {
		aspace_kill(th->as);
		return -ESRCH;
	}
	th->tid = (pid_t)r;
	return (int)command_wait(th);
}

/* A new host thread, in a slot of its own; cmd_lock held. */
static int create_fresh(struct p_thread *parent, struct p_thread **out)
{
	struct p_aspace *as = parent->as;
	struct block *b;
	unsigned slot;
	int err = 0;

	while (!err && !slot_take(as, &b, &slot))
		err = block_add(parent);
	if (err)
		return err;
	struct p_thread *th =
		thread_alloc(as, slot_pageset(b, slot), SET_ADDR(b->index, slot), true);
	if (!th)
		return -ENOMEM;
	uint64_t stack = STACK_ADDR(b->index, slot);
	b->used |= 1u << slot;
	err = clone_thread(parent, th, stack);
	if (err) {
		b->used &= ~(1u << slot);
		thread_free(th);
		return err;
	}
	/* The frame was copied along with its place in the stack. */
	th->fpstate = parent->fpstate ? (parent->fpstate & (ST_STACK_SIZE - 1)) + stack : 0;
	*out = th;
	return 0;
}

/* The guest thread of a parked host thread; cmd_lock held.  NULL: none is parked, or no memory. */
static struct p_thread *unpark(struct p_aspace *as)
{
	if (!as->nparked)
		return NULL;
	const struct parked *k = &as->parked[as->nparked - 1];
	for (size_t i = 0; i < as->nblocks; i++) {
		const struct block *b = &as->blocks[i];
		if (b->index != k->block)
			continue;
		struct p_thread *th = thread_alloc(as, slot_pageset(b, k->slot),
						   SET_ADDR(b->index, k->slot), false);
		if (!th)
			return NULL;
		th->tid = k->tid;
		th->fast = k->fast;
		th->fpstate = k->fpstate;
		th->cpu_before = k->cpu_ns;
		as->nparked--;
		return th;
	}
	return NULL;
}

/* What a clone takes over by itself, a parked thread has to be given. */
static int copy_xstate(struct p_thread *th, struct p_thread *parent)
{
	uint8_t x[ARCH_XSTATE_MAX];

	int err = thread_xstate_get(parent, x, sizeof(x));
	return err ? err : thread_xstate_set(th, x, sizeof(x));
}

int systrap_thread_create(struct p_thread *parent, struct p_thread **out)
{
	struct p_aspace *as = parent->as;
	int err = 0;

	if (atomic_load(&as->dead) || thread_convert(parent))
		return -ESRCH;
	mutex_lock(&as->cmd_lock, &lc_aspace);
	struct p_thread *th = unpark(as);
	bool fresh = !th;
	if (fresh)
		err = create_fresh(parent, &th);
	mutex_unlock(&as->cmd_lock, &lc_aspace);
	if (err)
		return err;
	if (!fresh && (err = copy_xstate(th, parent))) {
		systrap_thread_destroy(th);
		return err;
	}
	th->regs = parent->regs;
	atomic_store(&th->direct, atomic_load(&parent->direct));
	*out = th;
	return 0;
}
