/*
 * Commands: what a stopped thread's stub is asked to do while a worker waits - batches of memory
 * operations, compare-and-swap, clones.
 *
 * The wait sleeps on a word that the guest can touch, so it is bounded and looks again: at the
 * turn, at the process's death, and at how often it has looked: then the process is killed.  Slices
 * are counted and not the clock asked, so that a frozen or suspended sandbox does not wake to find
 * every command overdue.
 */
#include "platform/systrap/internal.h"

#include <errno.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#define WAIT_SLICE_NS (100 * NS_PER_MS)
/* A clone, or the maps of a program, take about as long as several ordinary spins, and waking up
 * after it as long again. */
#define LONG_SPINS 8
#define LONG_OPS 6

void command_give(struct p_thread *th, enum st_cmd cmd)
{
	struct st_pageset *ps = th->ps;

	ps->cmd = cmd;
	ps->cmd_seq = ++th->cmd_seq;
	th->cmd_long = cmd == ST_CMD_FORK || cmd == ST_CMD_THREAD ||
		       (cmd == ST_CMD_OPS && ps->nops >= LONG_OPS);
	ps->sentry_sleeps = 0;
	st_give_turn(ps, ST_TURN_STUB);
	if (__atomic_load_n(&ps->stub_sleeps, __ATOMIC_RELAXED))
		st_futex_wake(&ps->turn, 1);
}

static bool replied(const struct st_pageset *ps)
{
	return __atomic_load_n(&ps->turn, __ATOMIC_ACQUIRE) == ST_TURN_SENTRY;
}

bool command_replied(const struct p_thread *th)
{
	return replied(th->ps);
}

static bool spin_for_reply(struct p_thread *th)
{
	struct systrap *pf = th->as->pf;
	uint64_t ticks = worker_spin(pf);

	if (!ticks)
		return replied(th->ps);
	struct spin s = spin_begin(th->cmd_long ? LONG_SPINS * ticks : ticks);
	do {
		if (replied(th->ps))
			return true;
	} while (spin_on(pf, &s));
	return false;
}

static bool sleep_for_reply(struct p_thread *th)
{
	struct st_pageset *ps = th->ps;
	int slices = 0;
	bool ok;

	atomic_store(&th->cmd_waiting, true);
	__atomic_store_n(&ps->sentry_sleeps, 1, __ATOMIC_SEQ_CST);
	while (!(ok = replied(ps)) && !atomic_load(&th->as->dead)) {
		if (slices++ >= (th->cmd_patient ? SYSTRAP_MOVE_SLICES : SYSTRAP_CMD_SLICES)) {
			thread_misbehaved(th, "no answer to a command");
			break;
		}
		st_futex_wait(&ps->turn, ST_TURN_STUB, WAIT_SLICE_NS);
		st_futex_wake(&ps->turn, 1); /* `stub_sleeps` may not have told the truth */
	}
	ps->sentry_sleeps = 0;
	atomic_store(&th->cmd_waiting, false);
	return ok;
}

long command_wait(struct p_thread *th)
{
	struct st_pageset *ps = th->ps;

	if (!spin_for_reply(th) && !sleep_for_reply(th))
		return -ESRCH;
	if (__atomic_load_n(&ps->kind, __ATOMIC_RELAXED) != ST_KIND_REPLY ||
	    __atomic_load_n(&ps->reply_seq, __ATOMIC_RELAXED) != th->cmd_seq) {
		thread_misbehaved(th, "not the answer to the command");
		return -ESRCH;
	}
	th->spins_since = st_tsc();
	return __atomic_load_n(&ps->reply, __ATOMIC_RELAXED);
}

long command_run(struct p_thread *th, enum st_cmd cmd)
{
	if (atomic_load(&th->as->dead))
		return -ESRCH;
	command_give(th, cmd);
	return command_wait(th);
}

int thread_convert(struct p_thread *th)
{
	if (!th->fast)
		return 0;
	marshal_flush(th);
	th->fast = false;
	__atomic_store_n(&th->ps->intr, 0, __ATOMIC_RELAXED);
	if (th->as->pf->fsgsbase)
		th->ps->ev.regs.gs_base = th->ps_addr;
	if (command_run(th, ST_CMD_CONVERT))
		return -ESRCH;
	th->fpstate = __atomic_load_n(&th->ps->ev.fpstate, __ATOMIC_RELAXED);
	return 0;
}

/* as->cmd_lock is held until the stub has received them: one message is in flight at most. */
int command_send_fds(struct p_aspace *as, const int *fds, int n)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(ST_OP_FDS_MAX * sizeof(int))];
	} control = {0};
	char byte = 0;
	struct iovec iov = {&byte, 1};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = &control,
			     .msg_controllen = CMSG_SPACE((size_t)n * sizeof(int))};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN((size_t)n * sizeof(int));
	memcpy(CMSG_DATA(c), fds, (size_t)n * sizeof(int));
	return sendmsg(as->ctl, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

/* ---- memory batches ---- */

static bool range_ok(uint64_t addr, uint64_t len)
{
	return addr <= ST_TASK_SIZE && len <= ST_TASK_SIZE - addr;
}

/* Write-only mappings are readable as well: the sentry reads guest memory from outside. */
static uint64_t host_prot(int prot)
{
	prot &= PROT_READ | PROT_WRITE | PROT_EXEC;
	return (uint64_t)(prot & PROT_WRITE ? prot | PROT_READ : prot);
}

/* The madvise values of the filter; others would be the process's death. */
static bool advice_allowed(int advice)
{
	switch (advice) {
	case MADV_NORMAL:
	case MADV_RANDOM:
	case MADV_SEQUENTIAL:
	case MADV_WILLNEED:
	case MADV_DONTNEED:
	case MADV_FREE:
	case MADV_DONTFORK:
	case MADV_HUGEPAGE:
	case MADV_NOHUGEPAGE:
	case MADV_DONTDUMP:
	case MADV_DODUMP:
	case MADV_WIPEONFORK:
	case MADV_KEEPONFORK:
	case MADV_COLD:
	case MADV_PAGEOUT:
	case MADV_POPULATE_READ:
	case MADV_POPULATE_WRITE:
	case MADV_COLLAPSE:
		return true;
	}
	return false;
}

/* Translates one operation; -EINVAL when it is not one, or leaves the guest's range. */
static int encode(const struct p_limits *lim, struct st_op *o, const struct p_memop *m)
{
	uint64_t kept = lim->vdso_len ? lim->vvar_base : ST_TASK_SIZE;

	*o = (struct st_op){.ret = -ECANCELED, .arg = {m->addr, m->len}};
	if (!range_ok(m->addr, m->len))
		return -EINVAL;
	switch (m->kind) {
	case P_MEMOP_MAP:
		o->nr = SYS_mmap;
		o->arg[2] = host_prot(m->prot);
		o->arg[3] = (uint64_t)((m->flags &
					(MAP_SHARED | MAP_PRIVATE | MAP_NORESERVE | MAP_POPULATE)) |
				       MAP_FIXED);
		o->arg[4] = (uint64_t)-1;
		if (m->fd < 0)
			o->arg[3] |= MAP_ANONYMOUS;
		else
			o->flags = ST_OP_FD;
		o->arg[5] = m->fd < 0 ? 0 : m->off;
		return 0;
	case P_MEMOP_UNMAP:
		o->nr = SYS_munmap;
		return 0;
	case P_MEMOP_PROTECT:
		o->nr = SYS_mprotect;
		o->arg[2] = host_prot(m->prot);
		return 0;
	case P_MEMOP_MOVE:
		o->nr = SYS_mremap;
		o->arg[2] = m->new_len;
		o->arg[3] = MREMAP_MAYMOVE | MREMAP_FIXED;
		o->arg[4] = m->new_addr;
		return range_ok(m->new_addr, m->new_len) ? 0 : -EINVAL;
	case P_MEMOP_RESIZE:
		o->nr = SYS_mremap;
		o->arg[2] = m->new_len;
		return range_ok(m->addr, m->new_len) ? 0 : -EINVAL;
	case P_MEMOP_ADVISE:
		o->nr = SYS_madvise;
		o->arg[2] = (uint64_t)m->flags;
		return advice_allowed(m->flags) ? 0 : -EINVAL;
	case P_MEMOP_CLEAR:
		o->flags = ST_OP_CLEAR;
		return 0;
	case P_MEMOP_WRITE:
		o->flags = ST_OP_WRITE;
		o->arg[2] = m->len;
		return m->len <= P_WRITE_MAX ? 0 : -EINVAL;
	case P_MEMOP_RESET:
		o->flags = ST_OP_RESET;
		o->arg[0] = kept;
		o->arg[1] = ST_VDSO_END;
		o->arg[2] = lim->vdso_len ? ST_TASK_SIZE - ST_VDSO_END : 0;
		o->arg[3] = 1; /* and the windows into files */
		return 0;
	case P_MEMOP_WAKE:
		o->nr = SYS_futex;
		o->arg[1] = (uint64_t)(FUTEX_WAKE | (m->flags & FUTEX_PRIVATE_FLAG));
		o->arg[2] = m->len;
		return 0;
	}
	return -EINVAL;
}

/* What the stub says the operation returned, made plausible. */
static long decode(const struct p_memop *m, int64_t ret)
{
	if (ret < 0)
		return ret > -4096 ? (long)ret : -EFAULT;
	switch (m->kind) {
	case P_MEMOP_MAP:
	case P_MEMOP_RESIZE:
		return (uint64_t)ret == m->addr ? (long)ret : -EFAULT;
	case P_MEMOP_MOVE:
		return (uint64_t)ret == m->new_addr ? (long)ret : -EFAULT;
	case P_MEMOP_WAKE:
		return ret > INT32_MAX ? INT32_MAX : (long)ret;
	default:
		return 0;
	}
}

long command_result(struct p_thread *th, const struct p_memop *op, size_t i)
{
	return decode(op, __atomic_load_n(&th->ps->ops[i].ret, __ATOMIC_RELAXED));
}

int command_put(struct p_thread *th, const struct p_memop *op)
{
	struct st_pageset *ps = th->ps;
	struct p_aspace *as = th->as;
	bool has_fd = op->kind == P_MEMOP_MAP && op->fd >= 0;
	int err = encode(&as->pf->limits, &ps->ops[0], op);

	ps->nops = 1;
	ps->ops_done = 0;
	ps->nfds = has_fd;
	if (err || !has_fd)
		return err;
	ps->ops[0].arg[4] = 0;
	mutex_lock(&as->cmd_lock, &lc_aspace);
	ps->ctl_fd = as->guest_ctl;
	err = command_send_fds(as, &op->fd, 1);
	mutex_unlock(&as->cmd_lock, &lc_aspace);
	return err;
}

long command_ops(struct p_thread *th, size_t n, const int *fds, int nfds)
{
	struct st_pageset *ps = th->ps;
	struct p_aspace *as = th->as;
	long r;

	ps->nops = (uint32_t)n;
	ps->ops_done = 0;
	ps->nfds = (uint32_t)nfds;
	if (nfds) {
		mutex_lock(&as->cmd_lock, &lc_aspace);
		ps->ctl_fd = as->guest_ctl;
		r = command_send_fds(as, fds, nfds);
		if (r == 0)
			r = command_run(th, ST_CMD_OPS);
		mutex_unlock(&as->cmd_lock, &lc_aspace);
	} else {
		r = command_run(th, ST_CMD_OPS);
	}
	if (r < 0)
		return r > -4096 ? r : -EFAULT;
	uint32_t done = __atomic_load_n(&ps->ops_done, __ATOMIC_RELAXED);
	return (long)MIN(done, n);
}

/* Operations that go to the stub together, and the descriptors that they use. */
struct chunk {
	const struct patch_batch *batch;
	struct p_memop *ops;
	size_t n;
	int fds[ST_OP_FDS_MAX];
	int nfds;
	size_t bytes; /* of data[] */
};

/* Its number among the chunk's descriptors; -1: no room for one more. */
static int chunk_fd(struct chunk *c, int fd)
{
	for (int i = 0; i < c->nfds; i++)
		if (c->fds[i] == fd)
			return i;
	if (c->nfds == ST_OP_FDS_MAX)
		return -1;
	c->fds[c->nfds] = fd;
	return c->nfds++;
}

/* The bytes of a write; false: no room for them. */
static bool chunk_bytes(struct p_thread *th, struct chunk *c, const struct p_memop *m,
			struct st_op *o)
{
	struct st_pageset *ps = th->ps;

	if (m->len > sizeof(ps->data) - c->bytes)
		return false;
	memcpy(ps->data + c->bytes, m->bytes, m->len);
	o->arg[1] = th->ps_addr + offsetof(struct st_pageset, data) + c->bytes;
	c->bytes += m->len;
	return true;
}

/* Takes as many of the operations as go together; *err: why the next one is none. */
static void chunk_fill(struct p_thread *th, struct chunk *c, size_t n, int *err)
{
	const struct p_limits *lim = &th->as->pf->limits;

	while (c->n < ST_OPS_MAX && c->n < n) {
		const struct p_memop *m = &c->ops[c->n];
		const struct text_image *copy = patch_copy_of(c->batch, m);
		struct st_op *o = &th->ps->ops[c->n];
		int fd = 0;
		if (m->kind == P_MEMOP_MAP && m->fd >= 0 &&
		    (fd = chunk_fd(c, copy ? copy->fd : m->fd)) < 0)
			return;
		if ((*err = encode(lim, o, m)))
			return;
		if (m->kind == P_MEMOP_WRITE && !chunk_bytes(th, c, m, o))
			return;
		if (m->kind == P_MEMOP_RESET)
			o->arg[4] = thread_frame_to_init(th);
		if (copy)
			o->arg[5] = 0;
		if (o->flags & ST_OP_FD)
			o->arg[4] = (uint64_t)fd;
		if (o->flags & ST_OP_RESET)
			o->arg[5] = kept_mask(th->as);
		c->n++;
	}
}

/* Returns how many succeeded, and in *err the first failure or 0. */
static size_t chunk_run(struct p_thread *th, struct chunk *c, int *err)
{
	struct p_memop *ops = c->ops;
	long done = command_ops(th, c->n, c->fds, c->nfds);

	if (done < 0) {
		*err = (int)done;
		ops[0].ret = *err;
		return 0;
	}
	for (size_t i = 0; i < c->n; i++) {
		if (i >= (size_t)done) {
			*err = -EFAULT;
			ops[i].ret = *err;
			return i;
		}
		ops[i].ret = command_result(th, &ops[i], i);
		if (ops[i].ret < 0) {
			*err = (int)ops[i].ret;
			return i;
		}
	}
	return c->n;
}

static int run_batch(struct p_thread *th, struct p_memop *ops, size_t n,
		     const struct patch_batch *b)
{
	size_t done = 0;
	int err = 0;

	while (done < n && !err) {
		struct chunk c = {.batch = b, .ops = ops + done};
		int bad = 0;
		chunk_fill(th, &c, n - done, &bad);
		if (c.n)
			done += chunk_run(th, &c, &err);
		if (!err && bad) {
			ops[done].ret = bad;
			err = bad;
		}
	}
	if (n && ops[0].kind == P_MEMOP_RESET && ops[0].ret == 0 && !err)
		err = thread_was_reset(th);
	return err;
}

int thread_mem(struct p_thread *th, struct p_memop *ops, size_t n)
{
	struct patch_batch b;

	marshal_flush(th);
	owed_run(th);
	for (size_t i = 0; i < n; i++) {
		ops[i].ret = -ECANCELED;
		vdso_before_op(th, &ops[i]);
	}
	patch_begin(th, ops, n, &b);
	int err = run_batch(th, ops, n, &b);
	patch_end(th, ops, n, &b);
	return err;
}

int thread_cmpxchg32(struct p_thread *th, uint64_t addr, uint32_t expect, uint32_t desired,
		     uint32_t *seen)
{
	struct st_pageset *ps = th->ps;

	marshal_flush(th);
	if (!range_ok(addr, sizeof(uint32_t)) || addr % sizeof(uint32_t))
		return -EFAULT;
	ps->arg[0] = addr;
	ps->arg[1] = expect;
	ps->arg[2] = desired;
	long r = command_run(th, ST_CMD_CMPXCHG);
	if (r == -ESRCH)
		return -ESRCH;
	if (r)
		return -EFAULT;
	*seen = (uint32_t)__atomic_load_n(&ps->reply2, __ATOMIC_RELAXED);
	return 0;
}
