#include "sentry/lib/fiber.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "sentry/lib/list.h"
#include "sentry/lib/lock.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#define STACK_SIZE (512UL << 10) /* instrumented frames are several times larger */
#else
#define STACK_SIZE (64UL << 10)
#endif
#define GUARD_SIZE PAGE_SIZE
#define POOL_MAX 64

/* Unused stacks, linked through their lowest word: making one costs two host calls and faults. */
struct free_stack {
	struct free_stack *next;
};
static struct mutex pool_lock;
static struct free_stack *pool; /* guarded by pool_lock, lc_leaf, as pool_count */
static size_t pool_count;

/* Saves the callee-saved registers on the current stack, stores it at *save and continues at next.
 */
void fiber_switch_asm(void **save, void *next);
__asm__(".text\n"
	".globl fiber_switch_asm\n"
	".hidden fiber_switch_asm\n"
	".type fiber_switch_asm,@function\n"
	"fiber_switch_asm:\n"
	"	endbr64\n"
	"	pushq %rbp\n"
	"	pushq %rbx\n"
	"	pushq %r12\n"
	"	pushq %r13\n"
	"	pushq %r14\n"
	"	pushq %r15\n"
	"	movq %rsp, (%rdi)\n"
	"	movq %rsi, %rsp\n"
	"	popq %r15\n"
	"	popq %r14\n"
	"	popq %r13\n"
	"	popq %r12\n"
	"	popq %rbx\n"
	"	popq %rbp\n"
	"	ret\n"
	".size fiber_switch_asm, .-fiber_switch_asm\n"
	/* A new fiber "returns" here with its struct in rbx; a zero return address ends unwinding.
	 */
	".type fiber_first,@function\n"
	"fiber_first:\n"
	"	.cfi_startproc\n"
	"	.cfi_undefined rip\n"
	"	movq %rbx, %rdi\n"
	"	xorl %ebp, %ebp\n"
	"	call fiber_main\n"
	"	ud2\n"
	"	.cfi_endproc\n"
	".size fiber_first, .-fiber_first\n");
void fiber_first(void);
void fiber_main(struct fiber *f);

static void *stack_alloc(void)
{
	mutex_lock(&pool_lock, &lc_leaf);
	struct free_stack *s = pool;
	if (s) {
		pool = s->next;
		pool_count--;
	}
	mutex_unlock(&pool_lock, &lc_leaf);
	if (s)
		return s;
	char *p = mmap(NULL, GUARD_SIZE + STACK_SIZE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	if (mprotect(p, GUARD_SIZE, PROT_NONE)) {
		munmap(p, GUARD_SIZE + STACK_SIZE);
		return NULL;
	}
	return p + GUARD_SIZE;
}

static void stack_free(void *low)
{
	mutex_lock(&pool_lock, &lc_leaf);
	bool keep = pool_count < POOL_MAX;
	if (keep) {
		struct free_stack *s = low;
		s->next = pool;
		pool = s;
		pool_count++;
	}
	mutex_unlock(&pool_lock, &lc_leaf);
	if (!keep)
		munmap((char *)low - GUARD_SIZE, GUARD_SIZE + STACK_SIZE);
}

static void enter_stack(void **fake, const void *low, size_t size)
{
#if defined(__SANITIZE_ADDRESS__)
	__sanitizer_start_switch_fiber(fake, low, size);
#else
	(void)fake, (void)low, (void)size;
#endif
}

static void entered_stack(void *fake, const void **old_low, size_t *old_size)
{
#if defined(__SANITIZE_ADDRESS__)
	__sanitizer_finish_switch_fiber(fake, old_low, old_size);
#else
	(void)fake, (void)old_low, (void)old_size;
#endif
}

void fiber_main(struct fiber *f)
{
	entered_stack(NULL, &f->home->stack_low, &f->home->stack_size);
	f->entry(f->arg);
	__builtin_unreachable();
}

int fiber_init(struct fiber *f, void (*entry)(void *), void *arg)
{
	memset(f, 0, sizeof(*f));
	f->stack_low = stack_alloc();
	if (!f->stack_low)
		return -ENOMEM;
	f->stack_size = STACK_SIZE;
	f->entry = entry;
	f->arg = arg;
	/* The frame that fiber_switch_asm pops: r15 r14 r13 r12 rbx rbp, then the address. */
	uint64_t *top = (uint64_t *)((char *)f->stack_low + STACK_SIZE) - 2;
	*--top = (uint64_t)(uintptr_t)fiber_first;
	*--top = 0;
	*--top = (uint64_t)(uintptr_t)f;
	for (int i = 0; i < 4; i++)
		*--top = 0;
	f->sp = top;
	return 0;
}

void fiber_fini(struct fiber *f)
{
	if (f->stack_low)
		stack_free(f->stack_low);
	f->stack_low = NULL;
}

void fiber_run(struct fiber_home *home, struct fiber *f)
{
	lock_assert_none_held();
	f->home = home;
	home->current = f;
	enter_stack(&home->fake_stack, f->stack_low, f->stack_size);
	fiber_switch_asm(&home->sp, f->sp);
	entered_stack(home->fake_stack, NULL, NULL);
	home->current = NULL;
	void (*after)(void *) = home->after;
	home->after = NULL;
	if (after)
		after(home->after_arg);
}

/* Not inlined: nothing thread-local may be cached across it by a caller. */
__attribute__((noinline)) void fiber_suspend(struct fiber *f, void (*after)(void *), void *arg)
{
	lock_assert_none_held();
	struct fiber_home *home = f->home;
	home->after = after;
	home->after_arg = arg;
	f->home = NULL;
	enter_stack(&f->fake_stack, home->stack_low, home->stack_size);
	fiber_switch_asm(&f->sp, home->sp);
	entered_stack(f->fake_stack, &f->home->stack_low, &f->home->stack_size);
}

void fiber_exit(struct fiber *f, void (*after)(void *), void *arg)
{
	lock_assert_none_held();
	struct fiber_home *home = f->home;
	home->after = after;
	home->after_arg = arg;
	enter_stack(NULL, home->stack_low, home->stack_size);
	fiber_switch_asm(&f->sp, home->sp);
	__builtin_unreachable();
}
