#include "sentry/arch/sigframe.h"

#include <errno.h>
#include <string.h>

#define RED_ZONE 128
#define EFLAGS_RF 0x10000ULL
#define EFLAGS_DF 0x400ULL
/* What rt_sigreturn restores of the flags: AC RF OF DF TF SF ZF AF PF CF. */
#define EFLAGS_RESTORED 0x50dd5ULL

static bool within(const struct linux_stack *alt, uint64_t sp)
{
	return sp > alt->sp && sp - alt->sp <= alt->size;
}

bool sigframe_on_stack(const struct linux_stack *alt, uint64_t rsp)
{
	return !((uint32_t)alt->flags & LINUX_SS_AUTODISARM) && within(alt, rsp);
}

int sigframe_locate(uint64_t rsp, bool use_alt, const struct linux_stack *alt, size_t fpstate_size,
		    struct sigframe_place *out)
{
	bool nested = sigframe_on_stack(alt, rsp), entering = false;
	uint64_t sp = rsp - RED_ZONE;

	if (use_alt && alt->size && !sigframe_on_stack(alt, sp)) {
		sp = alt->sp + alt->size;
		entering = true;
	}
	out->fpstate = (sp - fpstate_size) & ~63ULL;
	sp = out->fpstate - sizeof(struct linux_rt_sigframe);
	out->frame = (sp & ~15ULL) - 8;
	return (nested || entering) && !within(alt, out->frame) ? -EFAULT : 0;
}

static void fill_context(struct linux_sigcontext *sc, const struct arch_regs *r)
{
	sc->r8 = r->r8;
	sc->r9 = r->r9;
	sc->r10 = r->r10;
	sc->r11 = r->r11;
	sc->r12 = r->r12;
	sc->r13 = r->r13;
	sc->r14 = r->r14;
	sc->r15 = r->r15;
	sc->di = r->rdi;
	sc->si = r->rsi;
	sc->bp = r->rbp;
	sc->bx = r->rbx;
	sc->dx = r->rdx;
	sc->ax = r->rax;
	sc->cx = r->rcx;
	sc->sp = r->rsp;
	sc->ip = r->rip;
	sc->flags = r->eflags;
	sc->cs = (uint16_t)r->cs;
	sc->ss = (uint16_t)r->ss;
}

void sigframe_fill(struct linux_rt_sigframe *f, const struct arch_regs *regs,
		   const struct sigframe_place *place, uint64_t restorer, uint64_t sigmask,
		   const struct linux_stack *alt, const struct sigframe_fault *fault,
		   const siginfo_t *info)
{
	memset(f, 0, sizeof(*f));
	f->pretcode = restorer;
	f->uc.flags = LINUX_UC_FP_XSTATE | LINUX_UC_SIGCONTEXT_SS | LINUX_UC_STRICT_RESTORE_SS;
	f->uc.stack = *alt;
	f->uc.stack.pad = 0;
	fill_context(&f->uc.mcontext, regs);
	f->uc.mcontext.trapno = fault->trapno;
	f->uc.mcontext.err = fault->error;
	f->uc.mcontext.cr2 = fault->cr2;
	f->uc.mcontext.oldmask = sigmask;
	f->uc.mcontext.fpstate = place->fpstate;
	f->uc.sigmask = sigmask;
	f->info = *info;
}

void sigframe_enter_handler(struct arch_regs *regs, const struct sigframe_place *place,
			    uint64_t handler, int signo)
{
	regs->rdi = (uint64_t)signo;
	regs->rax = 0; /* in case the handler was declared without a prototype */
	regs->rsi = place->frame + offsetof(struct linux_rt_sigframe, info);
	regs->rdx = place->frame + offsetof(struct linux_rt_sigframe, uc);
	regs->rip = handler;
	regs->rsp = place->frame;
	regs->cs = ARCH_USER_CS;
	regs->ss = ARCH_USER_DS;
	regs->eflags &= ~(EFLAGS_DF | EFLAGS_RF | ARCH_EFLAGS_TF);
}

int sigframe_restore_regs(const struct linux_ucontext *uc, struct arch_regs *r)
{
	const struct linux_sigcontext *sc = &uc->mcontext;

	/* 64-bit code only: any other code segment, and a stack segment that iret would refuse.
	 * Old frames without UC_STRICT_RESTORE_SS may hold anything in ss. */
	if ((sc->cs | 3) != ARCH_USER_CS)
		return -EINVAL;
	if ((uc->flags & LINUX_UC_STRICT_RESTORE_SS) && (sc->ss | 3) != ARCH_USER_DS)
		return -EINVAL;
	r->r8 = sc->r8;
	r->r9 = sc->r9;
	r->r10 = sc->r10;
	r->r11 = sc->r11;
	r->r12 = sc->r12;
	r->r13 = sc->r13;
	r->r14 = sc->r14;
	r->r15 = sc->r15;
	r->rdi = sc->di;
	r->rsi = sc->si;
	r->rbp = sc->bp;
	r->rbx = sc->bx;
	r->rdx = sc->dx;
	r->rax = sc->ax;
	r->rcx = sc->cx;
	r->rsp = sc->sp;
	r->rip = sc->ip;
	r->eflags = (r->eflags & ~EFLAGS_RESTORED) | (sc->flags & EFLAGS_RESTORED);
	r->cs = ARCH_USER_CS;
	r->ss = ARCH_USER_DS;
	r->orig_rax = ~0ULL;
	return 0;
}
