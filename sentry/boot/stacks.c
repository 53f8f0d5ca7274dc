/*
 * `debug --stats`: the platform's counts.
 *
 * `debug --stacks`: every task, where its guest thread stands, and, for those that wait in the
 * sentry, the frames of its fiber.  Tasks run on meanwhile: what is read is a hint.
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdlib.h>

#include "sentry/boot/internal.h"
#include "sentry/kernel/pid.h"
#include "sentry/fs/synth/text.h"
#include "sentry/host/crash.h"
#include "syscalls/syscalls.h"

#define FRAMES_MAX 32

/*
 * The frame pointers of a suspended fiber, within its stack.  fiber_switch_asm pushed rbp first of
 * the callee-saved registers: it lies below the return address of fiber_suspend's frame.
 */
static void put_fiber(struct text *out, const struct fiber *f)
{
	uintptr_t low = (uintptr_t)f->stack_low, high = low + f->stack_size;
	uintptr_t sp = (uintptr_t)f->sp, bp;
	char name[256];

	if (f->home || !f->sp || sp < low || sp + 7 * 8 > high)
		return;
	bp = *(uintptr_t *)(sp + 5 * 8);
	for (int i = 0; i < FRAMES_MAX && bp >= low && bp + 16 <= high && bp % 8 == 0; i++) {
		uintptr_t ret = *(uintptr_t *)(bp + 8), next = *(uintptr_t *)bp;
		if (!ret)
			break;
		text_printf(out, "    %s\n", crash_symbol(ret, name, sizeof(name)));
		if (next <= bp)
			break;
		bp = next;
	}
}

static void put_task(struct text *out, struct task *t)
{
	bool in_guest = atomic_load(&t->in_guest);

	text_printf(out, "task %d \"%.15s\" state %c%s", t->tid, t->comm, task_state_letter(t),
		    in_guest ? ", in guest code" : "");
	if (!t->pt) {
		text_putc(out, '\n');
		return;
	}
	const struct arch_regs *r = kernel->pf->ops->regs(t->pt);
	const struct syscall_desc *d = syscall_lookup(r->orig_rax);
	text_printf(out, ": %s rip %#lx rsp %#lx", in_guest ? "last seen at" : "stands at",
		    (unsigned long)r->rip, (unsigned long)r->rsp);
	if (!in_guest && (int64_t)r->orig_rax >= 0)
		text_printf(out, ", system call %ld (%s)", (long)r->orig_rax, d ? d->name : "?");
	text_putc(out, '\n');
	if (!in_guest)
		put_fiber(out, &t->fiber);
}

char *stacks_text(void)
{
	struct text out = TEXT_INIT;
	struct thread_group *tg;
	struct task *t;

	for (int pid = 1; (tg = thread_group_next(&pid_ns_top, &pid)); pid++) {
		text_printf(&out, "process %d\n", tg->tgid);
		mutex_lock(&kernel->tasks_lock, &lc_tasks);
		list_for_each (t, &tg->threads, thread_link)
			put_task(&out, t);
		mutex_unlock(&kernel->tasks_lock, &lc_tasks);
		thread_group_put(tg);
	}
	text_putc(&out, 0);
	if (text_error(&out)) {
		text_fini(&out);
		return NULL;
	}
	return out.buf;
}

char *stats_text(void)
{
	const struct platform_ops *ops = kernel->pf->ops;
	struct text out = TEXT_INIT;
	struct p_stats s;

	if (!ops->stats) {
		text_printf(&out, "platform %s keeps no counts\n", ops->name);
	} else {
		ops->stats(kernel->pf, &s);
		text_printf(&out, "calls answered in the guest %16" PRIu64 "\n", s.answered);
		text_printf(&out, "calls from patched sites    %16" PRIu64 "\n", s.fast);
		text_printf(&out, "calls by a trap             %16" PRIu64 "\n", s.trapped);
		text_printf(&out, "other events                %16" PRIu64 "\n", s.events);
		text_printf(&out, "spins won                   %16" PRIu64 "\n", s.spins_won);
		text_printf(&out, "spins lost                  %16" PRIu64 "\n", s.spins_lost);
		text_printf(&out, "sleeps                      %16" PRIu64 "\n", s.sleeps);
		text_printf(&out, "copies by the stub          %16" PRIu64 "\n", s.copies_stub);
		text_printf(&out, "copies by the host          %16" PRIu64 "\n", s.copies_host);
		text_printf(&out, "threads moved out of the way%16" PRIu64 "\n", s.moves);
		text_printf(&out, "call sites patched          %16" PRIu64 "\n", s.sites);
		text_printf(&out, "texts mapped patched        %16" PRIu64 "\n", s.texts);
	}
	text_putc(&out, 0);
	if (text_error(&out)) {
		text_fini(&out);
		return NULL;
	}
	return out.buf;
}
