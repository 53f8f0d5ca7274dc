/*
 * Patched call sites: an instruction shortly before a `syscall` is overwritten by a jump.
 *
 * The `syscall` itself stays where it is and still traps, as does everything between it and the
 * jump, so that whoever jumps to it, restarts it or returns to the instruction after it sees what
 * was always there.  The jump leads to a trampoline (above the guest's addresses) that does what
 * was jumped over and enters the stub, which posts the call without a signal.  Sites are patched
 * while their process has one thread, and it is stopped.
 *
 * Which instructions those are is known by their bytes, in the forms that compilers give the calls
 * of C libraries: see enum form.
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
#define JUMP_LEN 5
#define SITE_MAX 13 /* the longest form, with its syscall */
#define LOOK_BACK 4
#define MAX_SITES (ST_TRAMP_LEN / ST_TRAMP_SIZE)
#define PAGE 4096UL

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
		if (addr >= start && addr + SITE_MAX <= end) {
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
	ps->nfds = 0;
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

static uint32_t get32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

/* ---- forms ---- */

enum form {
	FORM_NONE,
	FORM_MOV,  /* mov $nr,%eax; syscall: wrappers */
	FORM_LOAD, /* mov disp8(%rsp),%r9; syscall: syscall(2) */
	FORM_READ, /* cmpb $0,disp32(%rip); je rel8; xor %eax,%eax; syscall: read(2) */
};

static const struct {
	uint8_t len;	 /* bytes before the syscall */
	uint8_t nplaces; /* where a thread in the trampoline may stand before it is done, … */
	uint8_t tramp[3], site[3]; /* … and where that is in the original */
	uint8_t done;		   /* bytes of the trampoline that do what was jumped over */
} forms[] = {
	[FORM_MOV] = {5, 1, {0}, {0}, 5},
	[FORM_LOAD] = {5, 1, {0}, {0}, 5},
	[FORM_READ] = {11, 3, {0, 7, 13}, {0, 7, 9}, 15},
};

/* Could `before` make what follows the tail of a longer instruction? */
static bool may_be_tail(const uint8_t before[LOOK_BACK])
{
	const uint8_t last = before[LOOK_BACK - 1];

	if ((last & 0xf0) == 0x40 || last == 0x66)
		return true; /* a prefix */
	for (int i = 0; i < LOOK_BACK; i++)
		if (before[i] == 0xc7 || before[i] == 0x81 || before[i] == 0x69)
			return true; /* an opcode with an immediate */
	return false;
}

/* What stands before the syscall whose bytes end with `end`; the number as it trapped. */
static enum form form_of(const uint8_t *end, uint32_t nr)
{
	const uint8_t *call = end - ARCH_SYSCALL_INSN_LEN, *r = call - 11, *m = call - 5;

	if (call[0] != 0x0f || call[1] != 0x05)
		return FORM_NONE;
	if (r[0] == 0x80 && r[1] == 0x3d && r[6] == 0 && r[7] == 0x74 && r[9] == 0x31 &&
	    r[10] == 0xc0)
		return FORM_READ;
	if (may_be_tail(m - LOOK_BACK))
		return FORM_NONE;
	if (m[0] == 0xb8 && get32(m + 1) == nr)
		return FORM_MOV;
	return m[0] == 0x4c && m[1] == 0x8b && m[2] == 0x4c && m[3] == 0x24 ? FORM_LOAD : FORM_NONE;
}

/* What was jumped over, at its new place: false when something is out of reach from there. */
static bool relocate(enum form form, const uint8_t *from, uint64_t site, uint8_t *t, uint64_t at)
{
	memcpy(t, from, forms[form].len);
	if (form != FORM_READ)
		return true;
	int64_t byte = (int64_t)(site + 7) + (int32_t)get32(from + 2) - (int64_t)(at + 7);
	int64_t out = (int64_t)(site + 9) + (int8_t)from[8] - (int64_t)(at + 13);
	if (byte != (int32_t)byte || out != (int32_t)out)
		return false;
	put32(t + 2, (uint32_t)byte);
	t[7] = 0x0f, t[8] = 0x84;
	put32(t + 9, (uint32_t)out);
	t[13] = 0x31, t[14] = 0xc0;
	return true;
}

/* … movabs $ret,%r11; jmp stub */
static void make_exit(uint8_t *t, uint64_t at, uint64_t ret)
{
	t[0] = 0x49, t[1] = 0xbb;
	memcpy(t + 2, &ret, sizeof(ret));
	t[10] = 0xe9;
	put32(t + 11, (uint32_t)(ST_FAST - (at + 15)));
}

static void make_jump(uint8_t jmp[JUMP_LEN], uint64_t site, uint64_t at)
{
	jmp[0] = 0xe9;
	put32(jmp + 1, (uint32_t)(at - (site + JUMP_LEN)));
}

static void patch(struct p_thread *th, uint64_t ret, uint32_t nr)
{
	struct p_aspace *as = th->as;
	const uint64_t at = ST_TRAMP + as->nsites * ST_TRAMP_SIZE;
	uint8_t b[LOOK_BACK + SITE_MAX], t[ST_TRAMP_SIZE], jmp[JUMP_LEN];

	if (st_must_trap(nr) || as->nsites == MAX_SITES ||
	    aspace_copy_in(as, NULL, b, ret - sizeof(b), sizeof(b)) != sizeof(b))
		return;
	enum form form = form_of(b + sizeof(b), nr);
	if (form == FORM_NONE)
		return;
	const size_t len = forms[form].len;
	const uint8_t *from = b + sizeof(b) - ARCH_SYSCALL_INSN_LEN - len;
	const uint64_t site = ret - ARCH_SYSCALL_INSN_LEN - len;
	/* Half a jump would stay behind if one of its pages were replaced. */
	if (site / PAGE != (site + JUMP_LEN - 1) / PAGE)
		return;
	memset(t, 0xcc, sizeof(t));
	if (at - (site + JUMP_LEN) > INT32_MAX || !relocate(form, from, site, t, at) ||
	    !is_file_text(as, site))
		return;
	make_exit(t + forms[form].done, at + forms[form].done, ret);
	if (!as->sites && !(as->sites = calloc(MAX_SITES, sizeof(*as->sites))))
		return;
	make_jump(jmp, site, at);
	if (write_text(th, at, t, sizeof(t)))
		return;
	st_count(&as->pf->stats.sites);
	struct site *s = &as->sites[as->nsites++];
	*s = (struct site){.addr = site, .form = (uint8_t)form, .patched = true};
	memcpy(s->bytes, from, JUMP_LEN);
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

bool patch_not_begun(const struct p_aspace *as, uint64_t rip)
{
	return rip >= ST_TRAMP && rip % ST_TRAMP_SIZE == 0 &&
	       (rip - ST_TRAMP) / ST_TRAMP_SIZE < as->nsites;
}

/* A thread that stands in a trampoline: where it would be in the original. */
void patch_original_place(const struct p_aspace *as, struct arch_regs *r)
{
	uint64_t i = (r->rip - ST_TRAMP) / ST_TRAMP_SIZE, off = (r->rip - ST_TRAMP) % ST_TRAMP_SIZE;

	if (r->rip < ST_TRAMP || i >= as->nsites)
		return;
	const struct site *s = &as->sites[i];
	r->rip = s->addr + forms[s->form].len; /* unless it has not come so far */
	for (int p = 0; p < forms[s->form].nplaces; p++)
		if (off == forms[s->form].tramp[p])
			r->rip = s->addr + forms[s->form].site[p];
}

void patch_reset(struct p_aspace *as)
{
	as->nsites = 0;
	memset(as->counts, 0, sizeof(as->counts));
	atomic_store(&as->no_patching, false);
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
	uint8_t jmp[JUMP_LEN], seen[JUMP_LEN];

	make_jump(jmp, s->addr, ST_TRAMP + i * ST_TRAMP_SIZE);
	if (aspace_copy_in(th->as, NULL, seen, s->addr, sizeof(seen)) == sizeof(seen) &&
	    !memcmp(seen, jmp, sizeof(jmp)) && write_text(th, s->addr, s->bytes, sizeof(s->bytes)))
		thread_misbehaved(th, "a call site that stays patched");
}

static void leave(struct p_thread *th, uint64_t addr, uint64_t len, bool gone)
{
	struct p_aspace *as = th->as;

	for (uint32_t i = 0; i < as->nsites; i++) {
		struct site *s = &as->sites[i];
		if (!s->patched || s->addr >= addr + len || s->addr + JUMP_LEN <= addr)
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
