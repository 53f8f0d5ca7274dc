/*
 * Attempts to get out, made from inside.  Each runs in a process of its own, which may die of it in
 * any way; what counts is that nothing outside changes (test_confinement.sh looks) and that the
 * sandbox goes on serving the others: every case ends with a proof of life.
 */
#include "tests/compat/compat.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "platform/ptrace/internal.h"
#include "platform/systrap/layout.h"

/* The stub of either platform: what is not there faults, which is as good. */
static const struct {
	uint64_t start, len;
} texts[] = {{ST_TEXT, ST_TEXT_LEN}, {PT_TEXT, 4096}};

/* Still alive, and served: a child, a file and a pipe work. */
static void prove_life(void)
{
	int p[2], status;
	char c = 0;

	EXPECT_OK(pipe(p));
	pid_t pid = fork();
	EXPECT(pid >= 0);
	if (pid == 0)
		_exit(write(p[1], "x", 1) != 1);
	EXPECT_EQ(read(p[0], &c, 1), 1);
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	close(p[0]);
	close(p[1]);
}

/* Runs fn in a child that may do anything; it is killed after a while. */
static void attempt(void (*fn)(uint64_t), uint64_t arg, int ms)
{
	pid_t pid = fork();

	EXPECT(pid >= 0);
	if (pid == 0) {
		struct rlimit core = {0, 0};
		setrlimit(RLIMIT_CORE, &core);
		fn(arg);
		_exit(0);
	}
	for (int waited = 0; waited < ms * 10; waited++) {
		if (waitpid(pid, NULL, WNOHANG) == pid)
			return;
		if (waited > 20)
			usleep(100);
		else
			sched_yield();
	}
	kill(pid, SIGKILL);
	EXPECT_EQ(waitpid(pid, NULL, 0), pid);
}

static long raw(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}

/* ---- calls that must end in our kernel ---- */

TEST(own_assembly_reaches_only_our_kernel)
{
	char release[400];
	EXPECT_EQ(raw(SYS_uname, (long)release, 0, 0, 0, 0, 0), 0);
	EXPECT(strstr(release + 130, "runsc"));
	EXPECT_EQ(raw(SYS_getpid, 0, 0, 0, 0, 0, 0), getpid());
	EXPECT_EQ(raw(1000, 0, 0, 0, 0, 0, 0), -ENOSYS);
	prove_life();
}

static void do_int80(uint64_t nr)
{
	long ret;
	__asm__ volatile("int $0x80" : "=a"(ret) : "a"(nr), "b"(0), "c"(0), "d"(0) : "memory");
	_exit(ret == -ENOSYS ? 0 : 1);
}

TEST(int80_gives_no_32_bit_calls)
{
	/* fork, open, creat, execve, getpid, mount, kill, mkdir, ptrace */
	static const int numbers[] = {2, 5, 8, 11, 20, 21, 37, 39, 26, 120, 192};
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		int status;
		pid_t pid = fork();
		if (pid == 0)
			do_int80((uint64_t)numbers[i]);
		EXPECT_EQ(waitpid(pid, &status, 0), pid);
		EXPECT(status == 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV));
	}
	prove_life();
}

TEST(x32_numbers_are_unknown)
{
	for (long nr = 0; nr < 600; nr++)
		EXPECT_EQ(raw(0x40000000 | nr, -1, -1, -1, -1, -1, -1), -ENOSYS);
	prove_life();
}

TEST(strange_numbers_are_unknown)
{
	/* Not 335 and 336: the host answers its own probes' calls before any filter sees them. */
	static const long numbers[] = {423, 470, 511, 512, 1 << 20, -1, INT64_MAX};
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		EXPECT_EQ(raw(numbers[i], 0, 0, 0, 0, 0, 0), -ENOSYS);
	prove_life();
}

/* ---- the stub ---- */

/* All registers hostile: whatever the bytes at `addr` do, they do it with an execve in hand. */
static void jump(uint64_t addr)
{
	static const char *const argv[] = {"/bin/sh", "-c", "echo escaped > /escaped", NULL};

	__asm__ volatile("mov %0, %%r11\n"
			 "mov %1, %%rdi\n"
			 "mov %2, %%rsi\n"
			 "xor %%edx, %%edx\n"
			 "mov $59, %%eax\n"
			 "mov %%rdi, %%r8\n"
			 "mov %%rsi, %%r9\n"
			 "mov %%rsi, %%r10\n"
			 "mov %%rdi, %%rbx\n"
			 "mov %%rsi, %%r12\n"
			 "jmp *%%r11\n"
			 :
			 : "r"(addr), "r"(argv[0]), "r"(argv)
			 : "memory");
}

/* Sixteen addresses at once, each in a process of its own. */
static void jump_around(uint64_t first)
{
	for (uint64_t a = first; a < first + 16; a++)
		if (fork() == 0) {
			alarm(1);
			jump(a);
			_exit(0);
		}
	while (wait(NULL) > 0)
		continue;
}

TEST(jumping_to_every_byte_of_the_stub_executes_nothing)
{
	alarm(200); /* a jump may end in a wait that only its killer ends */
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		for (uint64_t off = 0; off < texts[i].len; off += 16)
			attempt(jump_around, texts[i].start + off, 60);
	EXPECT_ERRNO(access("/escaped", F_OK), ENOENT);
	prove_life();
}

/* Calls through the stub's own instructions, which its filter trusts more. */
static long through(uint64_t insn, long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;

	/* The byte after the instruction is not ours: a fault or a return, the child ends there. */
	__asm__ volatile("call *%[insn]"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8),
			   "r"(r9), [insn] "b"(insn)
			 : "rcx", "r11", "memory");
	return ret;
}

static uint64_t next_syscall_insn(uint64_t from, uint64_t end)
{
	for (uint64_t p = from; p + 1 < end; p++)
		if (((const uint8_t *)p)[0] == 0x0f && ((const uint8_t *)p)[1] == 0x05)
			return p;
	return 0;
}

/* ---- our own text: patched, and shared with every other process of this program ---- */

/* The last page of the program's text, where a sandbox may have put something. */
static uint8_t *end_of_text(void)
{
	char line[512];
	unsigned long start, end, found = 0;
	FILE *maps = fopen("/proc/self/maps", "re");

	EXPECT(maps);
	while (fgets(line, sizeof(line), maps))
		if (sscanf(line, "%lx-%lx", &start, &end) == 2 && (unsigned long)jump >= start &&
		    (unsigned long)jump < end)
			found = end;
	fclose(maps);
	EXPECT(found);
	for (int i = 0; i < 1000; i++) /* it is worth patching */
		EXPECT_ERRNO(lseek(-1, 0, SEEK_SET), EBADF);
	return (uint8_t *)(found - 4096);
}

TEST(jumping_to_every_byte_after_our_text_reaches_only_our_kernel)
{
	uint64_t page = (uint64_t)end_of_text();

	alarm(200);
	for (uint64_t off = 0; off < 4096; off += 16)
		attempt(jump_around, page + off, 60);
	/* The execve that it had in hand is one of our kernel's, if any: nothing outside has it. */
	unlink("/escaped");
	prove_life();
}

static void spoil_by_proc(uint64_t page)
{
	char bad[4096];
	int fd = open("/proc/self/mem", O_RDWR);

	memset(bad, 0xcc, sizeof(bad));
	pwrite(fd, bad, sizeof(bad), (off_t)page);
}

static void spoil_by_mprotect(uint64_t page)
{
	mprotect((void *)page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
	memset((void *)page, 0xcc, 4096);
}

/* By the host's own call, of which our kernel hears nothing; what comes after it is not ours. */
static void spoil_by_the_stub(uint64_t page)
{
	uint64_t insn = next_syscall_insn(texts[0].start, texts[0].start + texts[0].len);
	struct sigaction sa = {.sa_handler = SIG_IGN};

	sigaction(SIGSEGV, &sa, NULL);
	if (insn)
		through(insn, SYS_mprotect, (long)page, 4096, 7, 0, 0, 0);
	memset((void *)page, 0xcc, 4096);
}

TEST(text_is_spoilt_for_the_spoiler_only)
{
	static void (*const ways[])(uint64_t) = {spoil_by_proc, spoil_by_mprotect,
						 spoil_by_the_stub};
	static uint8_t before[4096];
	uint8_t *page = end_of_text();

	memcpy(before, page, sizeof(before));
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		attempt(ways[i], (uint64_t)page, 100);
		EXPECT(!memcmp(before, page, sizeof(before)));
	}
	prove_life();
}

static int hostile_nr;

static void call_all_insns(uint64_t text)
{
	uint64_t end = texts[text].start + texts[text].len;
	static char buf[4096];

	for (uint64_t p = texts[text].start; (p = next_syscall_insn(p, end)); p++) {
		if (fork() == 0) {
			through(p, hostile_nr, (long)buf, (long)buf, 7, 0x32, -1, 0);
			_exit(0);
		}
	}
}

TEST(host_calls_through_the_stub_are_refused_or_harmless)
{
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		for (hostile_nr = 0; hostile_nr < 460; hostile_nr++)
			attempt(call_all_insns, i, 60);
	prove_life();
}

static void flood(uint64_t which)
{
	uint64_t end = ST_TEXT + ST_TEXT_LEN;
	uint64_t p = next_syscall_insn(ST_TEXT, end);
	long ids[1] = {0};

	alarm(1);
	for (int i = 0; i < 100000; i++) {
		ids[0] = i * 7919L;
		switch (which) {
		case 0: /* the doorbell, and other descriptors */
			through(p, SYS_write, i % 4, (long)ids, 8, 0, 0, 0);
			break;
		case 1:
			through(p, SYS_close, i % 16, 0, 0, 0, 0, 0);
			break;
		case 2: /* host mappings behind the sentry's back */
			through(p, SYS_mmap, 0, 4096, 7, 0x22, -1, 0);
			break;
		default:
			through(p, SYS_clone, 0x8000 | 17, 0, 0, 0, 0, 0);
		}
	}
}

TEST(floods_through_the_stub_harm_only_the_sender)
{
	for (uint64_t which = 0; which < 4; which++)
		attempt(flood, which, 300);
	prove_life();
}

/* ---- shared pages ---- */

static volatile int scribbling;

static void *scribble(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;
	volatile uint8_t *sets = (volatile uint8_t *)(ST_BLOCK(0) + ST_SETS_OFF);

	scribbling = 1;
	for (;;) {
		seed = seed * 1103515245 + 12345;
		sets[seed % (4 * ST_SET_SIZE)] = (uint8_t)(seed >> 16);
	}
	return NULL;
}

static void scribble_and_call(uint64_t seed)
{
	pthread_t t;
	struct stat st;

	pthread_create(&t, NULL, scribble, (void *)seed);
	while (!scribbling)
		sched_yield();
	for (int i = 0; i < 100000; i++) {
		stat("/", &st);
		if (i % 16 == 0 && fork() == 0)
			_exit(0);
		waitpid(-1, NULL, WNOHANG);
		munmap(mmap(NULL, 4096, 3, 0x22, -1, 0), 4096);
	}
}

TEST(random_bytes_in_shared_pages_break_only_the_writer)
{
	alarm(300); /* who breaks nothing of its own runs to the end of its calls */
	for (uint64_t seed = 1; seed <= 30; seed++)
		attempt(scribble_and_call, seed, 100);
	prove_life();
}

TEST(our_region_cannot_be_mapped_or_unmapped)
{
	static const uint64_t addrs[] = {ST_TEXT, ST_BLOCK(0), ST_BLOCK(0) + ST_SETS_OFF, PT_TEXT,
					 PT_SCRATCH};
	for (size_t i = 0; i < sizeof(addrs) / sizeof(addrs[0]); i++) {
		void *a = (void *)addrs[i];
		EXPECT(mmap(a, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
		       MAP_FAILED);
		EXPECT(munmap(a, 4096) == -1);
		EXPECT(mprotect(a, 4096, 7) == -1);
		EXPECT(madvise(a, 4096, MADV_DONTNEED) == -1);
		EXPECT(mremap(a, 4096, 8192, MREMAP_MAYMOVE) == MAP_FAILED);
	}
	prove_life();
}

TEST(hostile_pointers_into_our_region_fault)
{
	EXPECT_ERRNO(syscall(SYS_uname, ST_TEXT), EFAULT);
	EXPECT_ERRNO(
		syscall(SYS_read, open("/dev/zero", O_RDONLY), ST_BLOCK(0) + ST_SETS_OFF, 4096),
		EFAULT);
	int p[2];
	EXPECT_OK(pipe(p));
	EXPECT_ERRNO(syscall(SYS_write, p[1], 0xffff800000000000, 4096), EFAULT);
	prove_life();
}

static void wait_on_shared(uint64_t addr)
{
	alarm(1);
	syscall(SYS_futex, addr, FUTEX_WAIT, *(volatile int *)addr, NULL, NULL, 0);
}

static void requeue_shared(uint64_t addr)
{
	static int other;

	for (int i = 0; i < 1000; i++) {
		syscall(SYS_futex, addr + (uint64_t)(i % 64) * 4, FUTEX_REQUEUE, 1000, 1000, &other,
			0);
		syscall(SYS_futex, addr + (uint64_t)(i % 64) * 4, FUTEX_WAKE, 1000, NULL, NULL, 0);
	}
}

TEST(futexes_on_shared_pages_steal_no_wakeup)
{
	for (uint64_t set = 0; set < 4; set++) {
		attempt(requeue_shared, ST_BLOCK(0) + ST_SETS_OFF + set * ST_SET_SIZE, 200);
		attempt(wait_on_shared, ST_BLOCK(0) + ST_SETS_OFF + set * ST_SET_SIZE, 20);
	}
	prove_life();
}

/* ---- signals and registers ---- */

static void bad_sigreturn(uint64_t how)
{
	uint64_t frame[512];

	for (size_t i = 0; i < 512; i++)
		frame[i] = how == 0 ? 0 : how == 1 ? ~0ULL : i * 0x9e3779b97f4a7c15ULL;
	__asm__ volatile("mov %0, %%rsp\nmov $15, %%eax\nsyscall" : : "r"(frame) : "memory");
}

TEST(damaged_signal_frames_kill_only_their_owner)
{
	for (uint64_t how = 0; how < 3; how++)
		attempt(bad_sigreturn, how, 100);
	prove_life();
}

static void odd_registers(uint64_t how)
{
	switch (how) {
	case 0: /* no stack */
		__asm__ volatile("xor %%esp, %%esp\nmov $39, %%eax\nsyscall\nud2" : : : "memory");
		break;
	case 1: /* non-canonical */
		__asm__ volatile("mov $0x8000000000000000, %%rsp\nmov $39, %%eax\nsyscall\nud2"
				 :
				 :
				 : "memory", "rax");
		break;
	case 2: /* direction and trap flags */
		__asm__ volatile("pushf\norq $0x400, (%%rsp)\npopf\nmov $39, "
				 "%%eax\nsyscall\npushf\norq $0x100, (%%rsp)\npopf\nsyscall"
				 :
				 :
				 : "memory", "rax", "rcx", "r11");
		break;
	case 3: /* our own stack pointer values */
		__asm__ volatile("mov %0, %%rsp\nmov $39, %%eax\nsyscall\nud2"
				 :
				 : "r"(ST_BLOCK(0) + 0x7000)
				 : "memory", "rax");
		break;
	default: /* a GS base that points into our pages */
		syscall(SYS_arch_prctl, 0x1001, ST_BLOCK(0) + ST_SETS_OFF);
		__asm__ volatile("wrgsbase %0\nmov $39, %%eax\nsyscall"
				 :
				 : "r"(ST_BLOCK(0) + ST_SETS_OFF)
				 : "memory", "rax", "rcx", "r11");
	}
}

TEST(odd_registers_kill_at_most_their_owner)
{
	for (uint64_t how = 0; how < 5; how++)
		attempt(odd_registers, how, 100);
	prove_life();
}

/* ---- others ---- */

TEST(only_our_own_processes_exist)
{
	for (int pid = 2; pid < 40000; pid++)
		if (kill(pid, 0) == 0) {
			char path[40], comm[64] = "";
			snprintf(path, sizeof(path), "/proc/%d/comm", pid);
			int fd = open(path, O_RDONLY);
			if (fd >= 0 && read(fd, comm, sizeof(comm) - 1) > 0)
				EXPECT(!strstr(comm, "systemd") && !strstr(comm, "containerd"));
			close(fd);
		} else {
			EXPECT_ERRNO(ptrace(PTRACE_ATTACH, pid, NULL, NULL), ESRCH);
		}
}

TEST(abstract_sockets_of_the_host_are_not_here)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	const char *name = getenv("HOST_ABSTRACT");
	int s = socket(AF_UNIX, SOCK_STREAM, 0);

	if (!name)
		test_skip("HOST_ABSTRACT names no socket");
	EXPECT(s >= 0);
	memcpy(a.sun_path + 1, name, strlen(name));
	EXPECT_ERRNO(connect(s, (struct sockaddr *)&a,
			     (socklen_t)(sizeof(sa_family_t) + 1 + strlen(name))),
		     ECONNREFUSED);
}

static bool readable(const char *path)
{
	int fd = open(path, O_RDONLY);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

TEST(host_files_are_out_of_reach)
{
	const char *secret = getenv("HOST_SECRET");
	char path[4096];
	static const char *const ways[] = {"%s",
					   "/../../../..%s",
					   "/proc/self/root%s",
					   "/proc/1/root%s",
					   "/proc/self/cwd/../../../../..%s",
					   "/proc/self/root/../..%s",
					   "/proc/self/fd/0/../../..%s",
					   "/proc/1/cwd/../../..%s"};

	if (!secret)
		test_skip("HOST_SECRET names no file");
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		snprintf(path, sizeof(path), ways[i], secret);
		EXPECT(!readable(path));
	}
	test_dir();
	for (int depth = 1; depth < 20; depth++) {
		char up[128] = "";
		for (int i = 0; i < depth; i++)
			strcat(up, "../");
		snprintf(path, sizeof(path), "%s%s", up, secret + 1);
		unlink("link");
		EXPECT_OK(symlink(path, "link"));
		EXPECT(!readable("link"));
		EXPECT(!readable(path));
	}
	/* A directory that moves away while it is the current one. */
	EXPECT_OK(mkdir("a", 0755));
	EXPECT_OK(mkdir("a/b", 0755));
	EXPECT_OK(chdir("a/b"));
	EXPECT_OK(rename("../../a/b", "../../c"));
	snprintf(path, sizeof(path), "../../../../../../..%s", secret);
	EXPECT(!readable(path));
	/* chroot, and out of it the classic way. */
	EXPECT_OK(mkdir("jail", 0755));
	if (chroot("jail")) /* the container may lack CAP_SYS_CHROOT */
		return;
	for (int i = 0; i < 100; i++)
		EXPECT_OK(chdir(".."));
	EXPECT_OK(chroot("."));
	EXPECT(!readable(secret));
}
