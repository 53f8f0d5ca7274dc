/*
 * The zygote: a program of two instructions, started from a sealed memfd, that waits to be seized.
 * Everything else is done to it from outside: its address space is emptied, the host's vDSO moved,
 * capabilities dropped, the filter installed.  Guest processes are its clones.
 */
#include "platform/ptrace/internal.h"
#include "platform/vdso.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sentry/lib/log.h"

#define ZYGOTE_BASE 0x400000UL
#define VVAR_PAGES_MAX 16
#define OPTIONS \
	(PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK)

/* 1: mov $SYS_pause,%eax; syscall; jmp 1b */
static const uint8_t program[] = {0xb8, SYS_pause, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7};
#define PROGRAM_SYSCALL 5

/* At 0: syscall; int3.  At 16: lock cmpxchg %esi,(%rdi); int3. */
static const uint8_t text[32] = {0x0f, 0x05, 0xcc, [16] = 0xf0, 0x0f, 0xb1, 0x37, 0xcc};

static int sealed_memfd(const char *name, const void *bytes, size_t n)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return -errno;
	if (write(fd, bytes, n) != (ssize_t)n ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL)) {
		int err = -errno;
		close(fd);
		return err;
	}
	return fd;
}

static int image_memfd(void)
{
	struct {
		Elf64_Ehdr eh;
		Elf64_Phdr ph;
		uint8_t code[16];
	} image;

	memset(&image, 0, sizeof(image));
	memcpy(image.eh.e_ident, ELFMAG, SELFMAG);
	image.eh.e_ident[EI_CLASS] = ELFCLASS64;
	image.eh.e_ident[EI_DATA] = ELFDATA2LSB;
	image.eh.e_ident[EI_VERSION] = EV_CURRENT;
	image.eh.e_type = ET_EXEC;
	image.eh.e_machine = EM_X86_64;
	image.eh.e_version = EV_CURRENT;
	image.eh.e_entry = ZYGOTE_BASE + offsetof(__typeof__(image), code);
	image.eh.e_phoff = offsetof(__typeof__(image), ph);
	image.eh.e_ehsize = sizeof(image.eh);
	image.eh.e_phentsize = sizeof(image.ph);
	image.eh.e_phnum = 1;
	image.ph.p_type = PT_LOAD;
	image.ph.p_flags = PF_R | PF_X;
	image.ph.p_vaddr = ZYGOTE_BASE;
	image.ph.p_filesz = image.ph.p_memsz = sizeof(image);
	image.ph.p_align = PAGE_SIZE;
	memcpy(image.code, program, sizeof(program));
	return sealed_memfd("zygote", &image, sizeof(image));
}

/* In the child of a single-threaded process: whatever is needed may be called. */
static _Noreturn void become_zygote(int image, int ctl, int text_fd, int (*confine)(void))
{
	static char *const argv[] = {"guest", NULL};
	struct rlimit core = {1, 1}; /* keeps host core handlers away (design, rule 10) */
	sigset_t empty;
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd >= 0 && write(fd, "800", 3) < 0)
		log_warn("the guests' oom_score_adj stays as it is: %s", strerror(errno));
	setrlimit(RLIMIT_CORE, &core);
	if (confine && confine())
		_exit(EXIT_FAILURE);
	sigemptyset(&empty);
	sigprocmask(SIG_SETMASK, &empty, NULL);
	/* High first: the wanted numbers may be taken by one another. */
	int ctl_high = fcntl(ctl, F_DUPFD, 100), text_high = fcntl(text_fd, F_DUPFD, 100);
	int image_high = fcntl(image, F_DUPFD_CLOEXEC, 100);
	if (dup2(ctl_high, PT_FD_CTL) < 0 || dup2(text_high, PT_FD_NEXT) < 0 ||
	    dup2(image_high, 2) < 0 || fcntl(2, F_SETFD, FD_CLOEXEC))
		_exit(1);
	syscall(SYS_close_range, 3, ~0U, 0);
	prctl(PR_SET_NAME, "guest");
	syscall(SYS_execveat, 2, "", argv, argv + 1, AT_EMPTY_PATH);
	_exit(1);
}

int pt_zygote_start(struct pt_platform *pf, int (*confine)(void))
{
	int sock[2] = {-1, -1}, err, image = image_memfd();

	if (image < 0)
		return image;
	pf->text_fd = sealed_memfd("text", text, sizeof(text));
	if (pf->text_fd < 0) {
		err = pf->text_fd;
		goto out;
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock)) {
		err = -errno;
		goto out;
	}
	/* vfork: when it returns, the zygote's program is in place and its maps can be read. */
	pid_t pid = vfork();
	if (pid == 0)
		become_zygote(image, sock[1], pf->text_fd, confine);
	err = pid < 0 ? -errno : 0;
	if (err)
		goto out;
	pf->zygote = pid;
	pf->ctl = sock[0];
	sock[0] = -1;
	pf->entry = ZYGOTE_BASE + sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr) + PROGRAM_SYSCALL;
out:
	close(image);
	for (int i = 0; i < 2; i++)
		if (sock[i] >= 0)
			close(sock[i]);
	if (pf->text_fd >= 0)
		close(pf->text_fd);
	return err;
}

/* A call made at the zygote's own instruction, before the text page exists. */
static int early(struct p_thread *z, long nr, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3,
		 uint64_t a4, uint64_t a5)
{
	const uint64_t a[7] = {(uint64_t)nr, a0, a1, a2, a3, a4, a5};
	long ret;
	int err = pt_call_at(z, z->as->pf->entry, a, &ret);

	return err ? err : ret < 0 && ret > -4096 ? (int)ret : 0;
}

static int late(struct p_thread *z, long nr, uint64_t a0, uint64_t a1, uint64_t a2)
{
	long ret;
	int err = pt_call(z, (uint64_t)nr, a0, a1, a2, 0, 0, 0, &ret);

	return err ? err : ret < 0 && ret > -4096 ? (int)ret : 0;
}

/* The zygote's AT_SYSINFO_EHDR, from its untouched stack: argc, no arguments, no environment. */
static int find_vdso(struct p_thread *z, uint64_t *vdso)
{
	struct arch_regs regs;
	uint64_t words[64];

	if (ptrace(PTRACE_GETREGS, z->tid, 0, &regs))
		return -ESRCH;
	struct iovec to = {words, sizeof(words)},
		     from = {(void *)(uintptr_t)regs.rsp, sizeof(words)};
	ssize_t n = process_vm_readv(z->tid, &to, 1, &from, 1, 0);
	if (n < 0)
		return -errno;
	for (size_t i = 1 + words[0] + 1 + 1; i + 1 < (size_t)n / 8 && words[i] != AT_NULL; i += 2)
		if (words[i] == AT_SYSINFO_EHDR) {
			*vdso = words[i + 1];
			return 0;
		}
	return 0; /* a host without one */
}

/*
 * How large the vDSO is, and its data pages below it: probed, because no procfs may be visible
 * here. Nothing else is near in the zygote.  The text's size is in its ELF header, which is the
 * same in our own process.
 */
static void measure_vdso(struct p_thread *z, uint64_t vdso)
{
	struct p_limits *l = &z->as->pf->limits;
	const Elf64_Ehdr *eh = (const Elf64_Ehdr *)getauxval(AT_SYSINFO_EHDR);
	uint64_t low = vdso;

	if (!eh)
		return;
	while (vdso - low < VVAR_PAGES_MAX * PAGE_SIZE &&
	       !early(z, SYS_mincore, low - PAGE_SIZE, PAGE_SIZE, PT_SCRATCH, 0, 0, 0))
		low -= PAGE_SIZE;
	l->vdso_len = page_up(eh->e_shoff + (uint64_t)eh->e_shnum * eh->e_shentsize);
	l->vvar_len = vdso - low;
	l->vdso_base = PT_VDSO_END - l->vdso_len;
	l->vvar_base = l->vdso_base - l->vvar_len;
	l->vdso_clock = vdso_function(l, "__vdso_clock_gettime");
}

/* The kernel moves whole mappings only, and where they end is unknown: ever longer ones are tried.
 */
static int move_vdso(struct p_thread *z, uint64_t vdso)
{
	const struct p_limits *l = &z->as->pf->limits;

	measure_vdso(z, vdso);
	uint64_t from = vdso - l->vvar_len, to = l->vvar_base, left = l->vvar_len + l->vdso_len;

	while (left) {
		uint64_t len = PAGE_SIZE;
		int err = -EFAULT;
		for (; len <= left && err; len += PAGE_SIZE)
			err = early(z, SYS_mremap, from, len, len, MREMAP_MAYMOVE | MREMAP_FIXED,
				    to, 0);
		if (err)
			return err;
		len -= PAGE_SIZE; /* the loop's last step */
		from += len;
		to += len;
		left -= len;
	}
	return 0;
}

static int install_filter(struct p_thread *z)
{
	uint64_t insns[128];
	struct {
		uint16_t len;
		uint64_t filter;
	} prog;
	struct __user_cap_header_struct hdr = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct none[2];
	int err;

	memset(none, 0, sizeof(none));
	memset(&prog, 0, sizeof(prog));
	prog.len = (uint16_t)pt_filter_build(insns, ARRAY_SIZE(insns));
	prog.filter = PT_SCRATCH + 256;
	if ((err = pt_scratch_write(z, 0, &hdr, sizeof(hdr))) ||
	    (err = pt_scratch_write(z, 64, none, sizeof(none))) ||
	    (err = late(z, SYS_capset, PT_SCRATCH, PT_SCRATCH + 64, 0)) ||
	    (err = late(z, SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0)) ||
	    (err = pt_scratch_write(z, 128, &prog, sizeof(prog))) ||
	    (err = pt_scratch_write(z, 256, insns, prog.len * sizeof(insns[0]))))
		return err;
	return late(z, SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, PT_SCRATCH + 128);
}

int pt_zygote_attach(struct pt_platform *pf)
{
	struct p_aspace *as = pt_aspace_new(pf);
	struct p_thread *z = as ? pt_thread_new(as) : NULL;
	uint64_t vdso = 0;
	int status, err;

	if (!z)
		return -ENOMEM;
	if (ptrace(PTRACE_SEIZE, pf->zygote, 0, OPTIONS) ||
	    ptrace(PTRACE_INTERRUPT, pf->zygote, 0, 0))
		return -errno;
	pt_thread_register(z, pf->zygote);
	pf->zygote_thread = z;
	if ((err = pt_wait(z, &status)) || (err = find_vdso(z, &vdso)) ||
	    (err = early(z, SYS_mmap, PT_TEXT, PAGE_SIZE, PROT_READ | PROT_EXEC,
			 MAP_SHARED | MAP_FIXED, PT_FD_NEXT, 0)) ||
	    (err = early(z, SYS_close, PT_FD_NEXT, 0, 0, 0, 0, 0)) ||
	    (err = early(z, SYS_mmap, PT_SCRATCH, PAGE_SIZE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, (uint64_t)-1, 0)) ||
	    (vdso && (err = move_vdso(z, vdso))))
		return err;
	uint64_t kept = pf->limits.vvar_base ? pf->limits.vvar_base : PT_VDSO_END;
	if ((err = late(z, SYS_munmap, 0, kept, 0)) ||
	    (err = late(z, SYS_munmap, PT_VDSO_END, PT_SCRATCH - PT_VDSO_END, 0)) ||
	    (err = late(z, SYS_munmap, PT_TEXT + PAGE_SIZE, PAGE_SIZE, 0)) ||
	    (err = install_filter(z)))
		return err;
	struct iovec iov = {pf->default_xstate, sizeof(pf->default_xstate)};
	if (ptrace(PTRACE_GETREGSET, z->tid, NT_X86_XSTATE, &iov))
		return -errno;
	pf->limits.xstate_size = iov.iov_len;
	memcpy(&pf->limits.xstate_mask, pf->default_xstate + ARCH_XSTATE_SW_BYTES, 8);
	return 0;
}
