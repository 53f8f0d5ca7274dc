/*
 * Patched call sites: `mov $nr,%eax; syscall`, the mov overwritten by a jump of the same length.
 *
 * The `syscall` itself stays where it is and still traps, so that whoever jumps to it, restarts it
 * or returns to the instruction after it sees what was always there.  The jump leads to a
 * trampoline (above the guest's addresses) that does the mov and enters the stub, which posts the
 * call without a signal.  Sites are patched while their process has one thread, and it is stopped.
 */
#include "platform/systrap/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sentry/host/reopen.h"

#define SITE_HITS 8
#define SITE_LEN 7 /* mov and syscall */
#define MOV_LEN 5
#define LOOK_BACK 4
#define MAX_SITES (ST_TRAMP_LEN / ST_TRAMP_SIZE)
#define PAGE 4096UL

/* Calls that the host answers, or that need the signal frame anyway. */
static bool worth_it(uint32_t nr)
{
	switch (nr) {
	case SYS_futex:
	case SYS_sched_yield:
	case SYS_membarrier:
	case SYS_rseq:
	case SYS_rt_sigreturn:
	case SYS_clone:
	case SYS_clone3:
	case SYS_fork:
	case SYS_vfork:
	case SYS_execve:
	case SYS_execveat:
	case SYS_exit:
	case SYS_exit_group:
		return false;
	}
	return nr < 512;
}

/* A private mapping of a file, executable, not writable: as the host has it. */
static bool is_file_text(struct p_aspace *as, uint64_t addr)
{
	char name[32], line[512];
	bool found = false;

	snprintf(name, sizeof(name), "%d/maps", (int)as->pid);
	int fd = host_proc_fd() < 0 ? -1 : openat(host_proc_fd(), name, O_RDONLY | O_CLOEXEC);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
	if (!f) {
		if (fd >= 0)
			close(fd);
		return false;
	}
	while (!found && fgets(line, sizeof(line), f)) {
		unsigned long start, end, off, inode;
		char prot[8];
		unsigned major, minor;
		if (sscanf(line, "%lx-%lx %7s %lx %x:%x %lu", &start, &end, prot, &off, &major,
			   &minor, &inode) != 7)
			continue;
		if (addr >= start && addr + SITE_LEN <= end) {
			found = inode && !strcmp(prot, "r-xp");
			break;
		}
	}
	fclose(f);
	return found;
}

static int protect(struct p_thread *th, uint64_t addr, uint64_t len, int prot)
{
	struct st_pageset *ps = th->ps;
	uint64_t start = addr & ~(PAGE - 1), end = (addr + len + PAGE - 1) & ~(PAGE - 1);

	ps->ops[0] =
		(struct st_op){.nr = SYS_mprotect, .arg = {start, end - start, (uint64_t)prot}};
	ps->nops = 1;
	ps->recv_fd = 0;
	long r = command_run(th, ST_CMD_OPS);
	return r < 0 ? (int)r : (int)ps->ops[0].ret;
}

static int write_text(struct p_thread *th, uint64_t addr, const void *bytes, size_t n)
{
	int err = protect(th, addr, n, PROT_READ | PROT_WRITE | PROT_EXEC);

	if (err)
		return err;
	ssize_t done = aspace_write_raw(th->as, addr, bytes, n);
	err = protect(th, addr, n, PROT_READ | PROT_EXEC);
	if (err)
		thread_misbehaved(th, "text that stays writable");
	return err ? err : done == (ssize_t)n ? 0 : -EFAULT;
}

static void put32(uint8_t *p, uint32_t v)
{
	memcpy(p, &v, sizeof(v));
}

/* mov $nr,%eax; movabs $ret,%r11; jmp stub */
static void make_trampoline(uint8_t t[ST_TRAMP_SIZE], uint64_t at, uint32_t nr, uint64_t ret)
{
	memset(t, 0xcc, ST_TRAMP_SIZE);
	t[0] = 0xb8;
	put32(t + 1, nr);
	t[5] = 0x49, t[6] = 0xbb;
	memcpy(t + 7, &ret, sizeof(ret));
	t[15] = 0xe9;
	put32(t + 16, (uint32_t)(ST_FAST - (at + 20)));
}

static void make_jump(uint8_t jmp[MOV_LEN], uint64_t site, uint64_t at)
{
	jmp[0] = 0xe9;
	put32(jmp + 1, (uint32_t)(at - (site + MOV_LEN)));
}

/* The bytes before must not make the mov the tail of another instruction with an immediate. */
static bool bytes_fit(const uint8_t *b, uint32_t nr)
{
	const uint8_t *mov = b + LOOK_BACK;

	if (mov[0] != 0xb8 || memcmp(mov + 1, &nr, sizeof(nr)) || mov[5] != 0x0f || mov[6] != 0x05)
		return false;
	if ((b[LOOK_BACK - 1] & 0xf0) == 0x40 || b[LOOK_BACK - 1] == 0x66)
		return false;
	for (int i = 0; i < LOOK_BACK; i++)
		if (b[i] == 0xc7 || b[i] == 0x81 || b[i] == 0x69)
			return false;
	return true;
}

static void patch(struct p_thread *th, uint64_t ret, uint32_t nr)
{
	struct p_aspace *as = th->as;
	uint64_t site = ret - SITE_LEN, at = ST_TRAMP + as->nsites * ST_TRAMP_SIZE;
	uint8_t b[LOOK_BACK + SITE_LEN], t[ST_TRAMP_SIZE], jmp[MOV_LEN];

	if (!worth_it(nr) || as->nsites == MAX_SITES || at - (site + MOV_LEN) > INT32_MAX)
		return;
	if (aspace_copy_in(as, NULL, b, site - LOOK_BACK, sizeof(b)) != sizeof(b) ||
	    !bytes_fit(b, nr) || !is_file_text(as, site))
		return;
	if (!as->sites && !(as->sites = calloc(MAX_SITES, sizeof(*as->sites))))
		return;
	make_trampoline(t, at, nr, ret);
	make_jump(jmp, site, at);
	if (write_text(th, at, t, sizeof(t)))
		return;
	st_count(&as->pf->stats.sites);
	as->sites[as->nsites++] = (struct site){.addr = site, .nr = nr, .patched = true};
	write_text(th, site, jmp, sizeof(jmp));
}

void patch_note(struct p_thread *th, uint64_t ret, uint32_t nr)
{
	struct p_aspace *as = th->as;
	if (as->nthreads != 1 || atomic_load(&as->no_patching))
		return; /* others may be executing what would be changed */
	struct site_count *c = &as->counts[(ret ^ ret >> 7) % ARRAY_SIZE(as->counts)];

	if (c->ret != ret)
		*c = (struct site_count){.ret = ret};
	if (c->hits < SITE_HITS && ++c->hits == SITE_HITS)
		patch(th, ret, nr);
}

/* A thread that stands in a trampoline: the call has not begun, the mov may count as done. */
void patch_original_place(const struct p_aspace *as, struct arch_regs *r)
{
	uint64_t i = (r->rip - ST_TRAMP) / ST_TRAMP_SIZE;

	if (r->rip < ST_TRAMP || i >= as->nsites)
		return;
	r->rip = as->sites[i].addr + MOV_LEN;
	r->rax = as->sites[i].nr;
}

int patch_fork(struct p_aspace *child, const struct p_aspace *parent)
{
	memcpy(child->counts, parent->counts, sizeof(child->counts));
	atomic_store(&child->no_patching, atomic_load(&parent->no_patching));
	if (!parent->nsites)
		return 0;
	child->sites = malloc(MAX_SITES * sizeof(*child->sites));
	if (!child->sites)
		return -ENOMEM;
	memcpy(child->sites, parent->sites, parent->nsites * sizeof(*child->sites));
	child->nsites = parent->nsites;
	return 0;
}

/* Unless something else stands there by now. */
static void restore(struct p_thread *th, uint32_t i)
{
	const struct site *s = &th->as->sites[i];
	uint8_t mov[MOV_LEN] = {0xb8}, jmp[MOV_LEN], seen[MOV_LEN];

	make_jump(jmp, s->addr, ST_TRAMP + i * ST_TRAMP_SIZE);
	put32(mov + 1, s->nr);
	if (aspace_copy_in(th->as, NULL, seen, s->addr, sizeof(seen)) == sizeof(seen) &&
	    !memcmp(seen, jmp, sizeof(jmp)) && write_text(th, s->addr, mov, sizeof(mov)))
		thread_misbehaved(th, "a call site that stays patched");
}

static void leave(struct p_thread *th, uint64_t addr, uint64_t len, bool gone)
{
	struct p_aspace *as = th->as;

	for (uint32_t i = 0; i < as->nsites; i++) {
		struct site *s = &as->sites[i];
		if (!s->patched || s->addr >= addr + len || s->addr + SITE_LEN <= addr)
			continue;
		if (!gone)
			restore(th, i);
		s->patched = false;
	}
}

void patch_withdraw(struct p_thread *th)
{
	if (!atomic_exchange(&th->as->no_patching, true) && th->as->nsites)
		leave(th, 0, ST_TOP, false);
}

void patch_before_op(struct p_thread *th, const struct p_memop *m)
{
	if (!th->as->nsites)
		return;
	switch (m->kind) {
	case P_MEMOP_MAP:
	case P_MEMOP_UNMAP:
		leave(th, m->addr, m->len, true);
		break;
	case P_MEMOP_PROTECT:
		if (m->prot & PROT_WRITE)
			leave(th, m->addr, m->len, false);
		break;
	case P_MEMOP_MOVE:
		leave(th, m->new_addr, m->new_len, true);
		leave(th, m->addr, m->len, false);
		break;
	case P_MEMOP_RESIZE:
		leave(th, m->addr, m->len, false);
		break;
	default:
		break;
	}
}
