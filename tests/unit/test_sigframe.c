/*
 * Frames are compared with those of the host's own kernel: a signal is raised natively, and the
 * frame that Linux built is built again from the registers that it holds.
 */
#include "sentry/arch/sigframe.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FRAMES_MAX 4
#define STACK_SIZE 65536

static struct capture {
	uint64_t rsp, rdi, rsi, rdx, rax, eflags; /* at the handler's first instruction */
	struct linux_rt_sigframe frame;
	uint8_t fpstate[ARCH_XSTATE_MAX + 64];
	size_t fpstate_size;
} captures[FRAMES_MAX];
static int ncaptures, nested_raises;

static void raise_with_flags(int signo, uint64_t flags);

__attribute__((used)) static void capture_frame(const uint64_t *entry)
{
	struct capture *c = &captures[ncaptures++];
	struct linux_fpx_sw_bytes sw;

	c->rdi = entry[0];
	c->rsi = entry[1];
	c->rdx = entry[2];
	c->rax = entry[3];
	c->eflags = entry[4];
	c->rsp = (uint64_t)&entry[5];
	memcpy(&c->frame, (const void *)c->rsp, sizeof(c->frame));
	const uint8_t *fp = (const uint8_t *)c->frame.uc.mcontext.fpstate;
	memcpy(&sw, fp + ARCH_XSTATE_SW_BYTES, sizeof(sw));
	c->fpstate_size = sw.xstate_size;
	if (sw.extended_size <= sizeof(c->fpstate))
		memcpy(c->fpstate, fp, sw.extended_size);
	if (nested_raises-- > 0)
		raise_with_flags(SIGUSR1, 0);
}

/* Stores the registers below the frame, as they came. */
void handler_entry(void);
__asm__(".text\n"
	"handler_entry:\n"
	"	pushfq\n"
	"	push %rax\n"
	"	push %rdx\n"
	"	push %rsi\n"
	"	push %rdi\n"
	"	mov %rsp, %rdi\n"
	"	mov %rsp, %rbx\n"
	"	and $-16, %rsp\n"
	"	cld\n"
	"	call capture_frame\n"
	"	mov %rbx, %rsp\n"
	"	add $40, %rsp\n"
	"	ret\n"
	"restorer:\n"
	"	mov $15, %eax\n"
	"	syscall\n");
void restorer(void);

/* tgkill to oneself with these flags on. */
static void raise_with_flags(int signo, uint64_t flags)
{
	long ret;
	__asm__ volatile("lea -256(%%rsp), %%rsp\n\tpushfq\n\tor %5, (%%rsp)\n\tpopfq\n\t"
			 "syscall\n\tcld\n\tlea 256(%%rsp), %%rsp"
			 : "=a"(ret)
			 : "a"(SYS_tgkill), "D"((long)getpid()), "S"((long)gettid()),
			   "d"((long)signo), "r"(flags)
			 : "rcx", "r11", "memory", "cc");
	ck_assert_int_eq(ret, 0);
}

static void install(uint64_t flags)
{
	const uint64_t act[4] = {(uint64_t)handler_entry, flags | 0x04000000, (uint64_t)restorer,
				 0x40};
	ck_assert_int_eq(syscall(SYS_rt_sigaction, SIGUSR1, act, NULL, 8), 0);
}

static uint8_t *make_altstack(size_t size, int flags)
{
	uint8_t *mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(mem, MAP_FAILED);
	const struct linux_stack ss = {.sp = (uint64_t)mem, .flags = flags, .size = size};
	ck_assert_int_eq(syscall(SYS_sigaltstack, &ss, NULL), 0);
	return mem;
}

static struct arch_regs regs_of(const struct linux_sigcontext *sc)
{
	return (struct arch_regs){
		.r8 = sc->r8,
		.r9 = sc->r9,
		.r10 = sc->r10,
		.r11 = sc->r11,
		.r12 = sc->r12,
		.r13 = sc->r13,
		.r14 = sc->r14,
		.r15 = sc->r15,
		.rdi = sc->di,
		.rsi = sc->si,
		.rbp = sc->bp,
		.rbx = sc->bx,
		.rdx = sc->dx,
		.rax = sc->ax,
		.rcx = sc->cx,
		.rsp = sc->sp,
		.rip = sc->ip,
		.eflags = sc->flags,
		.cs = sc->cs,
		.ss = sc->ss,
		.orig_rax = ~0ULL,
	};
}

/* Builds the captured frame again and compares place, bytes and entry registers. */
static void compare(const struct capture *c, bool use_alt)
{
	const struct linux_sigcontext *sc = &c->frame.uc.mcontext;
	const struct xstate_format fmt = {.size = c->fpstate_size, .mask = 7};
	const struct sigframe_fault fault = {sc->trapno, sc->err, sc->cr2};
	struct arch_regs regs = regs_of(sc);
	struct sigframe_place place;
	struct linux_rt_sigframe mine;

	ck_assert_int_eq(sigframe_locate(sc->sp, use_alt, &c->frame.uc.stack,
					 xstate_frame_size(&fmt), &place),
			 0);
	ck_assert_uint_eq(place.frame, c->rsp);
	ck_assert_uint_eq(place.fpstate, sc->fpstate);

	sigframe_fill(&mine, &regs, &place, (uint64_t)restorer, c->frame.uc.sigmask,
		      &c->frame.uc.stack, &fault, &c->frame.info);
	ck_assert_uint_eq(mine.uc.flags, c->frame.uc.flags);
	/* Linux leaves what is reserved as it was on the stack. */
	memcpy(mine.uc.mcontext.reserved, sc->reserved, sizeof(sc->reserved));
	mine.uc.stack.pad = c->frame.uc.stack.pad;
	ck_assert_mem_eq(&mine.uc.mcontext, sc, sizeof(*sc));
	ck_assert_mem_eq(&mine, &c->frame, sizeof(mine));

	sigframe_enter_handler(&regs, &place, (uint64_t)handler_entry, SIGUSR1);
	ck_assert_uint_eq(regs.rdi, c->rdi);
	ck_assert_uint_eq(regs.rsi, c->rsi);
	ck_assert_uint_eq(regs.rdx, c->rdx);
	ck_assert_uint_eq(regs.rax, c->rax);
	ck_assert_uint_eq(regs.rsp, c->rsp);
	ck_assert_uint_eq(regs.eflags, c->eflags);
	ck_assert_uint_eq(regs.rip, (uint64_t)handler_entry);

	struct arch_regs back = {.eflags = ARCH_EFLAGS_FIXED};
	ck_assert_int_eq(sigframe_restore_regs(&c->frame.uc, &back), 0);
	regs = regs_of(sc);
	back.eflags &= ~0x200ULL;
	regs.eflags &= ~0x200ULL;
	ck_assert_mem_eq(&back, &regs, sizeof(regs));
}

START_TEST(frame_on_the_thread_stack_is_as_linux_builds_it)
{
	install(SA_SIGINFO);
	raise_with_flags(SIGUSR1, 0);
	ck_assert_int_eq(ncaptures, 1);
	compare(&captures[0], false);
}
END_TEST

START_TEST(direction_flag_is_cleared_and_saved)
{
	install(SA_SIGINFO);
	raise_with_flags(SIGUSR1, 0x400);
	ck_assert_uint_eq(captures[0].frame.uc.mcontext.flags & 0x400, 0x400);
	ck_assert_uint_eq(captures[0].eflags & 0x400, 0);
	compare(&captures[0], false);
}
END_TEST

START_TEST(frame_goes_to_the_top_of_the_alternate_stack)
{
	uint8_t *alt = make_altstack(STACK_SIZE, 0);

	install(SA_SIGINFO | SA_ONSTACK);
	raise_with_flags(SIGUSR1, 0);
	ck_assert_int_eq(ncaptures, 1);
	ck_assert(captures[0].rsp > (uint64_t)alt && captures[0].rsp < (uint64_t)alt + STACK_SIZE);
	compare(&captures[0], true);
}
END_TEST

START_TEST(nested_frame_stays_on_the_alternate_stack)
{
	make_altstack(STACK_SIZE, 0);
	install(SA_SIGINFO | SA_ONSTACK | SA_NODEFER);
	nested_raises = 1;
	raise_with_flags(SIGUSR1, 0);
	ck_assert_int_eq(ncaptures, 2);
	ck_assert_uint_lt(captures[1].rsp, captures[0].rsp);
	compare(&captures[0], true);
	compare(&captures[1], true);
}
END_TEST

START_TEST(autodisarm_shows_the_stack_once)
{
	make_altstack(STACK_SIZE, (int)(1U << 31));
	install(SA_SIGINFO | SA_ONSTACK | SA_NODEFER);
	nested_raises = 1;
	raise_with_flags(SIGUSR1, 0);
	ck_assert_int_eq(ncaptures, 2);
	compare(&captures[0], true);
	/* Disarmed in the handler: what Linux shows then is what signal_deliver.c resets it to. */
	ck_assert_int_eq(captures[1].frame.uc.stack.flags, SS_DISABLE);
	ck_assert_uint_eq(captures[1].frame.uc.stack.size, 0);
	compare(&captures[1], true);
}
END_TEST

START_TEST(handler_without_onstack_uses_the_current_stack)
{
	make_altstack(STACK_SIZE, 0);
	install(SA_SIGINFO);
	raise_with_flags(SIGUSR1, 0);
	compare(&captures[0], false);
}
END_TEST

START_TEST(frame_that_overflows_the_alternate_stack_is_refused)
{
	const struct linux_stack alt = {.sp = 0x10000, .size = 2048};
	struct sigframe_place place;

	ck_assert_int_eq(sigframe_locate(0x7fff0000, true, &alt, 2696, &place), -EFAULT);
	ck_assert_int_eq(sigframe_locate(0x10100, true, &alt, 832, &place), -EFAULT);
	ck_assert_int_eq(sigframe_locate(0x7fff0000, true, &alt, 836, &place), 0);
}
END_TEST

START_TEST(foreign_segments_are_refused)
{
	struct linux_ucontext uc = {.flags = LINUX_UC_STRICT_RESTORE_SS};
	struct arch_regs regs = {0};
	static const uint16_t bad_cs[] = {0, 0x23, 0x08, 0x10, 0x2b, 0x53, 0xffff};

	uc.mcontext.ss = ARCH_USER_DS;
	for (size_t i = 0; i < ARRAY_SIZE(bad_cs); i++) {
		uc.mcontext.cs = bad_cs[i];
		ck_assert_int_eq(sigframe_restore_regs(&uc, &regs), -EINVAL);
	}
	uc.mcontext.cs = ARCH_USER_CS;
	uc.mcontext.ss = 0x18;
	ck_assert_int_eq(sigframe_restore_regs(&uc, &regs), -EINVAL);
	uc.flags = 0; /* old frames: whatever ss holds */
	ck_assert_int_eq(sigframe_restore_regs(&uc, &regs), 0);
	ck_assert_uint_eq(regs.ss, ARCH_USER_DS);
}
END_TEST

START_TEST(privileged_flags_do_not_come_back)
{
	struct linux_ucontext uc = {.mcontext = {.cs = ARCH_USER_CS, .flags = ~0ULL}};
	struct arch_regs regs = {.eflags = ARCH_EFLAGS_FIXED};

	ck_assert_int_eq(sigframe_restore_regs(&uc, &regs), 0);
	/* IOPL, NT, VM, VIF, VIP, ID stay as they are. */
	ck_assert_uint_eq(regs.eflags, ARCH_EFLAGS_FIXED | 0x50dd5);
	ck_assert_uint_eq(regs.orig_rax, ~0ULL);
}
END_TEST

START_TEST(exported_state_has_the_hosts_software_bytes)
{
	struct linux_fpx_sw_bytes sw, mine;
	uint8_t area[ARCH_XSTATE_MAX + 64];

	install(SA_SIGINFO);
	raise_with_flags(SIGUSR1, 0);
	const struct capture *c = &captures[0];
	if (c->fpstate_size > ARCH_XSTATE_MAX)
		return; /* a processor with tile registers: more than we handle */
	memcpy(&sw, c->fpstate + ARCH_XSTATE_SW_BYTES, sizeof(sw));
	const struct xstate_format fmt = {.size = c->fpstate_size, .mask = sw.xfeatures};

	memcpy(area, c->fpstate, sizeof(area));
	memset(area + ARCH_XSTATE_SW_BYTES, 0, sizeof(sw));
	memset(area + fmt.size, 0, 4);
	xstate_export(&fmt, area);
	memcpy(&mine, area + ARCH_XSTATE_SW_BYTES, sizeof(mine));
	ck_assert_mem_eq(&mine, &sw, sizeof(sw));
	ck_assert_mem_eq(area, c->fpstate, xstate_frame_size(&fmt));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("sigframe");
	TCase *tc = tcase_create("sigframe");

	tcase_add_test(tc, frame_on_the_thread_stack_is_as_linux_builds_it);
	tcase_add_test(tc, direction_flag_is_cleared_and_saved);
	tcase_add_test(tc, frame_goes_to_the_top_of_the_alternate_stack);
	tcase_add_test(tc, nested_frame_stays_on_the_alternate_stack);
	tcase_add_test(tc, autodisarm_shows_the_stack_once);
	tcase_add_test(tc, handler_without_onstack_uses_the_current_stack);
	tcase_add_test(tc, frame_that_overflows_the_alternate_stack_is_refused);
	tcase_add_test(tc, foreign_segments_are_refused);
	tcase_add_test(tc, privileged_flags_do_not_come_back);
	tcase_add_test(tc, exported_state_has_the_hosts_software_bytes);
	suite_add_tcase(s, tc);

	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
