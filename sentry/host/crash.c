#include "sentry/host/crash.h"

#include <dwarf.h>
#include <elfutils/libdw.h>
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <libelf.h>
#include <link.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <unwind.h>

#define FRAMES_MAX 64
#define STACK_SIZE (256UL << 10) /* libdw reads line tables on it */

static int panic_fd = -1, exe_fd = -1;
static uintptr_t exe_base;
static _Atomic int crashing;

static void say(const char *fmt, ...) PRINTF_LIKE(1, 2);
static void say(const char *fmt, ...)
{
	char line[512];
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (panic_fd >= 0 && n > 0 &&
	    write(panic_fd, line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1) < 0)
		return;
}

struct trace {
	uintptr_t from; /* the frames before this address are the handler's own */
	uintptr_t pc[FRAMES_MAX];
	size_t n;
};

/* Said frame by frame: on a broken stack the walk ends in a second fault, and the process with it.
 */
static void add_frame(struct trace *t, uintptr_t pc)
{
	say("  pc %#lx\n", (unsigned long)(pc - exe_base));
	t->pc[t->n++] = pc;
}

static _Unwind_Reason_Code on_frame(struct _Unwind_Context *uc, void *arg)
{
	struct trace *t = arg;
	uintptr_t pc = _Unwind_GetIP(uc);

	if (t->n || pc == t->from)
		add_frame(t, pc);
	return t->n < FRAMES_MAX ? _URC_NO_REASON : _URC_NORMAL_STOP;
}

static int find_code(struct dl_phdr_info *info, size_t size, void *arg)
{
	uintptr_t pc = *(uintptr_t *)arg - info->dlpi_addr;

	(void)size;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
		if (ph->p_type == PT_LOAD && ph->p_flags & PF_X && pc - ph->p_vaddr < ph->p_memsz)
			return 1;
	}
	return 0;
}

static void unwind(const ucontext_t *uc, struct trace *t)
{
	const greg_t *regs = uc->uc_mcontext.gregs;

	*t = (struct trace){.from = (uintptr_t)regs[REG_RIP]};
	if (dl_iterate_phdr(find_code, &t->from)) {
		_Unwind_Backtrace(on_frame, t);
		return;
	}
	/* A call through a bad pointer, most likely: there is no frame, but a return address. */
	add_frame(t, t->from);
	add_frame(t, *(const uintptr_t *)regs[REG_RSP]);
}

/* The function of the symbol table that holds `addr` (relative to the load address). */
static const char *symbol(Elf *elf, GElf_Addr addr, GElf_Addr *offset)
{
	Elf_Scn *scn = NULL;
	GElf_Shdr sh;
	GElf_Sym sym;

	while (elf && (scn = elf_nextscn(elf, scn))) {
		if (!gelf_getshdr(scn, &sh) || sh.sh_type != SHT_SYMTAB)
			continue;
		Elf_Data *data = elf_getdata(scn, NULL);
		for (size_t i = 0; data && i < sh.sh_size / sh.sh_entsize; i++) {
			if (!gelf_getsym(data, (int)i, &sym) ||
			    GELF_ST_TYPE(sym.st_info) != STT_FUNC || addr < sym.st_value ||
			    addr >= sym.st_value + sym.st_size)
				continue;
			*offset = addr - sym.st_value;
			return elf_strptr(elf, sh.sh_link, sym.st_name);
		}
	}
	return NULL;
}

static void source_line(Dwarf *dw, Dwarf_Addr addr, char *out, size_t size)
{
	Dwarf_Die die;
	int line = 0;

	*out = 0;
	if (!dw || !dwarf_addrdie(dw, addr, &die))
		return;
	Dwarf_Line *l = dwarf_getsrc_die(&die, addr);
	const char *file = l ? dwarf_linesrc(l, NULL, NULL) : NULL;
	if (file && !dwarf_lineno(l, &line))
		snprintf(out, size, " at %s:%d", file, line);
}

static void print_frames(const uintptr_t *pc, size_t n)
{
	elf_version(EV_CURRENT);
	Elf *elf = exe_fd >= 0 ? elf_begin(exe_fd, ELF_C_READ, NULL) : NULL;
	Dwarf *dw = elf ? dwarf_begin_elf(elf, DWARF_C_READ, NULL) : NULL;

	for (size_t i = 0; i < n; i++) {
		/* Callers' addresses are return addresses: one back is the call. */
		GElf_Addr addr = pc[i] - exe_base - (i > 0), off = 0;
		const char *name = symbol(elf, addr, &off);
		char where[256];
		source_line(name ? dw : NULL, addr, where, sizeof(where));
		say("#%zu %#lx %s+%#lx%s\n", i, (unsigned long)(pc[i] - exe_base),
		    name ? name : "?", (unsigned long)off, where);
	}
}

static void on_crash(int signo, siginfo_t *si, void *ctx)
{
	struct trace trace;

	/* Other threads that crash meanwhile wait for the first one's end. */
	if (atomic_exchange(&crashing, 1))
		for (;;)
			sched_yield();
	if (signo == SIGSYS)
		say("panic: host call %d (arch %#x) is not in the list, at %p\n", si->si_syscall,
		    si->si_arch, si->si_call_addr);
	else
		say("panic: signal %d (%s), code %d, address %p\n", signo, strsignal(signo),
		    si->si_code, si->si_addr);
	unwind(ctx, &trace);
	/* From here on memory is allocated, which the crash may have broken: best effort. */
	print_frames(trace.pc, trace.n);
	/* Not by the signal itself: init of a PID namespace ignores its own. */
	_exit(128 + signo);
}

const char *crash_symbol(uintptr_t pc, char *buf, size_t size)
{
	elf_version(EV_CURRENT);
	Elf *elf = exe_fd >= 0 ? elf_begin(exe_fd, ELF_C_READ, NULL) : NULL;
	GElf_Addr off = 0;
	const char *name = symbol(elf, pc - exe_base - 1, &off);

	snprintf(buf, size, "%s+%#lx", name ? name : "?", (unsigned long)off + 1);
	elf_end(elf);
	return buf;
}

static int find_base(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)size;
	*(uintptr_t *)arg = info->dlpi_addr; /* the first is the program itself */
	return 1;
}

static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGSYS, SIGTRAP};

static void crash_signals(sigset_t *set)
{
	sigemptyset(set);
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		sigaddset(set, signals[i]);
}

void crash_thread_init(void)
{
	sigset_t set;
	void *stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	stack_t ss = {.ss_sp = stack, .ss_size = STACK_SIZE};

	if (stack != MAP_FAILED)
		sigaltstack(&ss, NULL);
	crash_signals(&set);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

int crash_init(int fd)
{
	struct sigaction sa = {.sa_sigaction = on_crash, .sa_flags = SA_SIGINFO | SA_ONSTACK};

	panic_fd = fd;
	exe_fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	dl_iterate_phdr(find_base, &exe_base);
	crash_thread_init();
	sigfillset(&sa.sa_mask);
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		if (sigaction(signals[i], &sa, NULL))
			return -errno;
	return 0;
}
