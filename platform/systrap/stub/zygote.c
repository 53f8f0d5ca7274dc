/*
 * The zygote's start: a static program that turns itself into an empty guest process and then
 * becomes the stub.  Executed from a sealed memfd, so that nothing of the sentry's address space -
 * layout, canaries, secrets - is ever in a guest's.
 *
 * Descriptors on entry: ST_FD_*.  Its own image lies at a low address and is unmapped by the stub.
 * On failure it exits with the number of the step (zygote_start.c prints it).
 */
#include "platform/systrap/stub/stub.h"

#include <elf.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define ZPAGE 4096UL
#define VDSO_PARK                                                                      \
	0x8000000UL /* below our image: where the vDSO waits while the rest is cleared \
		     */
#define VVAR_PAGES_MAX 16
#define OOM_SCORE_ADD 300
#define SYS_mseal_ 462
#define SA_RESTORER_ 0x04000000UL

extern char zygote_image_end[];

static long call(long nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
	register uint64_t r10 __asm__("r10") = d;
	register uint64_t r8 __asm__("r8") = e;
	register uint64_t r9 __asm__("r9") = f;
	long r;

	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return r;
}
#define CALL(nr, a, b, c, d, e, f)                                                          \
	call(nr, (uint64_t)(a), (uint64_t)(b), (uint64_t)(c), (uint64_t)(d), (uint64_t)(e), \
	     (uint64_t)(f))

static void need(int ok, int step)
{
	if (!ok)
		CALL(SYS_exit_group, step, 0, 0, 0, 0, 0);
}

/* Best effort: the file may not be there, and a guest is then an ordinary candidate. */
static void raise_oom_score(void)
{
	char buf[16];
	long fd = CALL(SYS_open, "/proc/self/oom_score_adj", O_RDWR, 0, 0, 0, 0);
	long n, v = 0, i = 0, sign = 1;

	if (fd < 0)
		return;
	n = CALL(SYS_read, fd, buf, sizeof(buf), 0, 0, 0);
	if (n > 0 && buf[0] == '-')
		sign = -1, i++;
	for (; i < n && buf[i] >= '0' && buf[i] <= '9'; i++)
		v = v * 10 + (buf[i] - '0');
	v = v * sign + OOM_SCORE_ADD;
	v = v > 1000 ? 1000 : v < 0 ? 0 : v;
	buf[0] = (char)('0' + v / 1000);
	buf[1] = (char)('0' + v / 100 % 10);
	buf[2] = (char)('0' + v / 10 % 10);
	buf[3] = (char)('0' + v % 10);
	CALL(SYS_pwrite64, fd, buf, 4, 0, 0, 0);
	CALL(SYS_close, fd, 0, 0, 0, 0, 0);
}

static void confine(void)
{
	struct __user_cap_header_struct hdr = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct none[2] = {{0}, {0}};
	/* 1: core handlers that are pipes do not run for it (core(5)). */
	uint64_t core[2] = {1, 1}, files[2] = {32, 32};

	raise_oom_score();
	need(!CALL(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0), 2);
	CALL(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0, 0);
	for (int cap = 0; cap < 64; cap++)
		CALL(SYS_prctl, PR_CAPBSET_DROP, cap, 0, 0, 0, 0);
	need(!CALL(SYS_capset, &hdr, none, 0, 0, 0, 0), 3);
	need(!CALL(SYS_setrlimit, RLIMIT_CORE, core, 0, 0, 0, 0), 4);
	need(!CALL(SYS_setrlimit, RLIMIT_NOFILE, files, 0, 0, 0, 0), 5);
	/* process_vm_readv and pidfd_getfd by the sentry need it. */
	need(!CALL(SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0, 0), 6);
	CALL(SYS_prctl, PR_SET_NAME, "guest", 0, 0, 0, 0);
	CALL(SYS_setsid, 0, 0, 0, 0, 0, 0);
}

static int is_mapped(uint64_t page)
{
	unsigned char vec;

	return CALL(SYS_mincore, page, ZPAGE, &vec, 0, 0, 0) == 0;
}

/* Moves adjoining mappings whose boundaries are unknown: the kernel refuses to split them. */
static int move_run(uint64_t from, uint64_t len, uint64_t to)
{
	while (len) {
		uint64_t k = ZPAGE;
		while (k <= len && CALL(SYS_mremap, from, k, k, MREMAP_MAYMOVE | MREMAP_FIXED, to,
					0) != (long)to)
			k += ZPAGE;
		if (k > len)
			return 0;
		from += k;
		to += k;
		len -= k;
	}
	return 1;
}

static uint64_t vdso_size(uint64_t base)
{
	const Elf64_Ehdr *eh = (const Elf64_Ehdr *)base;
	uint64_t end = eh->e_shoff + (uint64_t)eh->e_shnum * eh->e_shentsize;

	return (end + ZPAGE - 1) & ~(ZPAGE - 1);
}

/* Parks vvar and vDSO; a host that has none, or does not let them move, runs without. */
static void park_vdso(uint64_t vdso, uint64_t *vvar_len, uint64_t *vdso_len)
{
	uint64_t vvar = vdso;

	*vvar_len = *vdso_len = 0;
	if (!vdso)
		return;
	while (vdso - vvar < VVAR_PAGES_MAX * ZPAGE && is_mapped(vvar - ZPAGE))
		vvar -= ZPAGE;
	uint64_t data = vdso - vvar, text = vdso_size(vdso);
	if (!move_run(vvar, data + text, VDSO_PARK)) {
		CALL(SYS_munmap, VDSO_PARK, data + text, 0, 0, 0, 0);
		return;
	}
	*vvar_len = data;
	*vdso_len = text;
}

static void map_region(void)
{
	uint64_t sets = ST_BLOCK(0) + ST_SETS_OFF;

	need(CALL(SYS_mmap, ST_TEXT, ST_TEXT_LEN, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED,
		  ST_FD_TEXT, 0) == (long)ST_TEXT,
	     10);
	CALL(SYS_mseal_, ST_TEXT, ST_TEXT_LEN, 0, 0, 0, 0); /* Linux 6.10; older hosts do without */
	need(CALL(SYS_mmap, ST_BLOCK(0), ST_STACKS_LEN, PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
		  0) == (long)ST_BLOCK(0),
	     11);
	need(CALL(SYS_mmap, sets, ST_SETS_LEN, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		  ST_FD_SETS, 0) == (long)sets,
	     12);
	need(!CALL(SYS_madvise, sets, ST_SETS_LEN, MADV_DONTFORK, 0, 0, 0), 13);
}

static void install_handlers(void)
{
	static const unsigned char signals[] = {
		SIGSYS, SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE, ST_SIGNAL_INTERRUPT};
	struct {
		uint64_t sp;
		uint32_t flags, pad;
		uint64_t size;
	} ss = {ST_BLOCK(0), 0, 0, ST_STACK_SIZE};
	struct {
		uint64_t handler, flags, restorer, mask;
	} sa = {ST_HANDLER, SA_SIGINFO | SA_ONSTACK | SA_NODEFER | SA_RESTORER_, ST_RESTORER, ~0UL};
	uint64_t empty = 0;

	for (int i = 0; i < 6; i++)
		sa.mask &= ~(1UL << (signals[i] - 1));
	need(!CALL(SYS_sigaltstack, &ss, 0, 0, 0, 0, 0), 20);
	for (int i = 0; i < 7; i++)
		need(!CALL(SYS_rt_sigaction, signals[i], &sa, 0, 8, 0, 0), 21);
	need(!CALL(SYS_rt_sigprocmask, SIG_SETMASK, &empty, 0, 8, 0, 0), 22);
}

void zygote_main(const uint64_t *sp);
void zygote_main(const uint64_t *sp)
{
	struct st_pageset *ps = (struct st_pageset *)(ST_BLOCK(0) + ST_SETS_OFF);
	uint64_t vdso = 0, vvar_len, vdso_len;
	const uint64_t *p = sp + 1 + sp[0] + 1;

	while (*p)
		p++;
	for (p++; p[0] != AT_NULL; p += 2)
		if (p[0] == AT_SYSINFO_EHDR)
			vdso = p[1];
	confine();
	park_vdso(vdso, &vvar_len, &vdso_len);
	need(!CALL(SYS_munmap, zygote_image_end, ST_TOP - (uint64_t)zygote_image_end, 0, 0, 0, 0),
	     9);
	map_region();
	ps->vvar_len = vvar_len;
	ps->vdso_len = vdso_len;
	need(!vdso_len ||
		     move_run(VDSO_PARK, vvar_len + vdso_len, ST_VDSO_END - vvar_len - vdso_len),
	     14);
	install_handlers();
	__asm__ volatile("mov %0, %%rsp\n\tjmp *%2" ::"r"(ST_BLOCK(0) + ST_STACK_SIZE - 72),
			 "D"(ps), "r"(ST_ENTER)
			 : "memory");
	__builtin_unreachable();
}

/* Our own stack: the kernel's is somewhere in the range that has to be cleared. */
static char stack[16384] __attribute__((aligned(16), used));
__asm__(".globl zygote_start\n"
	"zygote_start:\n\t"
	"mov %rsp, %rdi\n\t"
	"lea stack+16384(%rip), %rsp\n\t"
	"xor %ebp, %ebp\n\t"
	"call zygote_main\n\t"
	"ud2\n");
