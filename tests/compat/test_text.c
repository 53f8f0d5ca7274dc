/*
 * Program text of a file, mapped, executed, moved and changed: however a sandbox makes its calls
 * fast, it is the file's own code that runs, and that shows.
 */
#include "tests/compat/compat.h"

#include <elf.h>
#include <pthread.h>
#include <sys/time.h>
#include <ucontext.h>

#define PAGE 4096
#define PAGES 3
#define TEXT_LEN (PAGES * PAGE)
#define FREE_AT (TEXT_LEN - 1500) /* where the segment ends within its last page */

/* clang-format off */
static const uint8_t parent_code[] = {0xb8, 110, 0, 0, 0, 0x0f, 0x05, 0xc3}; /* getppid() */
static const uint8_t seek_code[] = { /* musl's: mov %r11,8(%rsp) is the last instruction */
	0x4c, 0x8b, 0x5c, 0x24, 0xf8,       /* mov -8(%rsp),%r11 */
	0x31, 0xc0, 0x04, 0x08,             /* xor %eax,%eax; add $8,%al */
	0x4c, 0x89, 0x5c, 0x24, 0xf8,       /* mov %r11,-8(%rsp) */
	0x0f, 0x05, 0xc3};
static const uint8_t if_code[] = { /* f(x): x ? getppid() : 0, by way of what follows */
	0x31, 0xc0, 0xb0, 110,              /* xor %eax,%eax; mov $110,%al */
	0x81, 0xff, 0, 0, 0, 0,             /* cmp $0,%edi */
	0x74, 0x03,                         /* je 1f */
	0x0f, 0x05, 0xc3,                   /* syscall; ret */
	0x31, 0xc0, 0xc3};                  /* 1: xor %eax,%eax; ret */
static const uint8_t loop_code[] = { /* three calls, two of them by a jump to before the call */
	0xbe, 3, 0, 0, 0,                   /* mov $3,%esi */
	0x41, 0xb8, 110, 0, 0, 0,           /* mov $110,%r8d */
	0x44, 0x89, 0xc0,                   /* 1: mov %r8d,%eax */
	0x0f, 0x05,                         /* syscall */
	0xff, 0xce, 0x75, 0xf7, 0xc3};      /* dec %esi; jne 1b; ret */
/* clang-format on */

static const struct {
	const uint8_t *code;
	size_t len;
	int at;
} functions[] = {
	{parent_code, sizeof(parent_code), 0x100},
	{seek_code, sizeof(seek_code), 0x200},
	{if_code, sizeof(if_code), 0x300},
	{loop_code, sizeof(loop_code), 0x400},
	{parent_code, sizeof(parent_code), PAGE - 2}, /* its jump would lie in two pages */
	{parent_code, sizeof(parent_code), 2 * PAGE - 2},
	{parent_code, sizeof(parent_code), 2 * PAGE + 0x300}, /* in the last page */
};
#define FUNCTIONS ((int)(sizeof(functions) / sizeof(*functions)))

static uint8_t file_text[TEXT_LEN];

static uint8_t *map_text(int fd)
{
	uint8_t *p = mmap(NULL, TEXT_LEN, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, PAGE);

	EXPECT(p != MAP_FAILED);
	return p;
}

/* A program file with nothing but that text, old enough not to be on its way to change. */
static int text_file(void)
{
	Elf64_Ehdr eh = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
			 .e_type = ET_DYN,
			 .e_machine = EM_X86_64,
			 .e_phoff = sizeof(eh),
			 .e_phentsize = sizeof(Elf64_Phdr),
			 .e_phnum = 1};
	Elf64_Phdr ph = {.p_type = PT_LOAD,
			 .p_flags = PF_R | PF_X,
			 .p_offset = PAGE,
			 .p_vaddr = PAGE,
			 .p_filesz = FREE_AT,
			 .p_memsz = FREE_AT};
	int fd = test_file("text", 0);

	memset(file_text, 0x90, FREE_AT);
	for (int i = 0; i < FUNCTIONS; i++)
		memcpy(file_text + functions[i].at, functions[i].code, functions[i].len);
	EXPECT_EQ(pwrite(fd, &eh, sizeof(eh), 0), (ssize_t)sizeof(eh));
	EXPECT_EQ(pwrite(fd, &ph, sizeof(ph), sizeof(eh)), (ssize_t)sizeof(ph));
	EXPECT_EQ(pwrite(fd, file_text, TEXT_LEN, PAGE), TEXT_LEN);
	EXPECT_OK(munmap(map_text(fd), TEXT_LEN));
	test_sleep_ms(2200);
	return fd;
}

/* Every function that lies within the first `len` bytes, n times. */
static void call_all(const uint8_t *p, int len, int n)
{
	pid_t parent = getppid();

	for (int k = 0; k < n; k++)
		for (int i = 0; i < FUNCTIONS; i++) {
			long (*f)(long, long, long) =
				(long (*)(long, long, long))(p + functions[i].at);
			if (functions[i].at + (int)functions[i].len > len)
				continue;
			if (functions[i].code == seek_code)
				EXPECT_EQ(f(-1, 0, SEEK_SET), -EBADF);
			else
				EXPECT_EQ(f(1, 0, 0), parent);
			if (functions[i].code == if_code)
				EXPECT_EQ(f(0, 0, 0), 0);
		}
}

#define OFTEN 400

TEST(text_runs_wherever_it_is_mapped)
{
	int fd = text_file(), status;
	uint8_t *a = map_text(fd), *b;

	call_all(a, TEXT_LEN, OFTEN);
	b = map_text(fd);
	call_all(b, TEXT_LEN, OFTEN);
	call_all(a, TEXT_LEN, 5);
	uint8_t *to = mmap(NULL, TEXT_LEN, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	EXPECT_EQ(mremap(b, TEXT_LEN, TEXT_LEN, MREMAP_MAYMOVE | MREMAP_FIXED, to), to);
	call_all(to, TEXT_LEN, 5);
	pid_t pid = (pid_t)EXPECT_OK(fork());
	if (!pid) {
		call_all(a, TEXT_LEN, OFTEN);
		call_all(to, TEXT_LEN, OFTEN);
		_exit(0);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	EXPECT_OK(munmap(a, TEXT_LEN));
	EXPECT_OK(munmap(to, TEXT_LEN));
}

TEST(text_that_changes_is_the_files)
{
	int fd = text_file();
	uint8_t *a, *b, *c;

	a = map_text(fd);
	call_all(a, TEXT_LEN, OFTEN);
	b = map_text(fd);
	c = map_text(fd);
	call_all(b, TEXT_LEN, 5);
	call_all(c, TEXT_LEN, 5);

	/* Made writable in part, it is the file's, and can be changed. */
	EXPECT_OK(mprotect(a + PAGE, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC));
	EXPECT(!memcmp(a, file_text, FREE_AT));
	a[PAGE + 8] = 0xcc;
	EXPECT_OK(mprotect(a + PAGE, PAGE, PROT_READ | PROT_EXEC));
	call_all(a, TEXT_LEN, OFTEN);
	EXPECT_EQ(a[PAGE + 8], 0xcc);
	EXPECT_OK(madvise(a, TEXT_LEN, MADV_DONTNEED));
	EXPECT(!memcmp(a, file_text, FREE_AT));
	call_all(a, TEXT_LEN, 5);

	/* Without its end, without its beginning. */
	EXPECT_OK(munmap(b + 2 * PAGE, PAGE));
	EXPECT(!memcmp(b, file_text, 2 * PAGE));
	call_all(b, 2 * PAGE, OFTEN);
	EXPECT_OK(munmap(c, 2 * PAGE));
	EXPECT(!memcmp(c + 2 * PAGE, file_text + 2 * PAGE, FREE_AT - 2 * PAGE));

	/* A shared or anonymous mapping over a part of it. */
	c = map_text(fd);
	call_all(c, TEXT_LEN, 5);
	EXPECT(mmap(c + 2 * PAGE, PAGE, PROT_READ, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1,
		    0) != MAP_FAILED);
	EXPECT_EQ(c[2 * PAGE + 0x300], 0);
	call_all(c, 2 * PAGE, OFTEN);

	/* No longer executable, and again. */
	c = map_text(fd);
	EXPECT_OK(mprotect(c, PAGE, PROT_READ));
	call_all(c + PAGE, 0, 1);
	EXPECT_OK(mprotect(c, PAGE, PROT_READ | PROT_EXEC));
	call_all(c, TEXT_LEN, OFTEN);
}

TEST(text_of_a_file_that_was_written_to_is_new)
{
	int fd = text_file();
	uint8_t *a = map_text(fd);
	const uint8_t pid_nr = 39;

	call_all(a, TEXT_LEN, OFTEN);
	EXPECT_OK(munmap(a, TEXT_LEN));
	EXPECT_EQ(pwrite(fd, &pid_nr, 1, PAGE + functions[0].at + 1), 1);
	a = map_text(fd);
	for (int i = 0; i < OFTEN; i++)
		EXPECT_EQ(((long (*)(void))(a + functions[0].at))(), getpid());
	EXPECT_EQ(a[functions[0].at + 1], pid_nr);
}

/* ---- where signals and threads find it ---- */

static uint8_t *watched;
static volatile sig_atomic_t ticks, strays;

static void look(int sig, siginfo_t *si, void *context)
{
	const ucontext_t *uc = context;
	uint64_t at = (uint64_t)uc->uc_mcontext.gregs[REG_RIP] - (uint64_t)watched;

	(void)sig, (void)si;
	ticks++;
	if (at < TEXT_LEN) {
		bool inside = false;
		for (int i = 0; i < FUNCTIONS; i++)
			inside |= at - (uint64_t)functions[i].at < functions[i].len;
		strays += !inside;
	}
}

TEST(signals_find_text_in_its_own_places)
{
	const struct itimerval iv = {{0, 3000}, {0, 3000}};
	struct sigaction sa = {.sa_sigaction = look, .sa_flags = SA_SIGINFO};
	time_t end = time(NULL) + 5;

	watched = map_text(text_file());
	EXPECT_OK(sigaction(SIGALRM, &sa, NULL));
	EXPECT_OK(setitimer(ITIMER_REAL, &iv, NULL));
	while (ticks < 100 && time(NULL) < end + 10)
		call_all(watched, TEXT_LEN, 10);
	EXPECT_OK(setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL));
	EXPECT_EQ(strays, 0);
}

static void step(int sig, siginfo_t *si, void *context)
{
	look(sig, si, context);
}

TEST(steps_through_text_see_its_own_places)
{
	struct sigaction sa = {.sa_sigaction = step, .sa_flags = SA_SIGINFO};

	watched = map_text(text_file());
	call_all(watched, TEXT_LEN, OFTEN);
	EXPECT_OK(sigaction(SIGTRAP, &sa, NULL));
	for (int i = 0; i < 3; i++) {
		__asm__ volatile("pushfq\n\torq $0x100, (%%rsp)\n\tpopfq" ::: "memory", "cc");
		call_all(watched, TEXT_LEN, 1);
		__asm__ volatile("pushfq\n\tandq $~0x100, (%%rsp)\n\tpopfq" ::: "memory", "cc");
	}
	EXPECT(ticks > 50);
	EXPECT_EQ(strays, 0);
}

static _Atomic bool stop;

static void *keep_calling(void *arg)
{
	while (!stop)
		call_all(arg, TEXT_LEN, 1);
	return NULL;
}

TEST(threads_run_through_text_while_it_becomes_fast)
{
	pthread_t t[4];
	uint8_t *p;
	int fd = text_file();

	p = map_text(fd);
	for (int i = 0; i < 4; i++)
		EXPECT_EQ(pthread_create(&t[i], NULL, keep_calling, p), 0);
	for (int k = 0; k < 20; k++) {
		uint8_t *other = map_text(fd);
		call_all(other, TEXT_LEN, 20);
		EXPECT_OK(munmap(other, TEXT_LEN));
	}
	/* … and stops being it. */
	EXPECT_OK(mprotect(p, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC));
	call_all(p, TEXT_LEN, 20);
	stop = true;
	for (int i = 0; i < 4; i++)
		EXPECT_EQ(pthread_join(t[i], NULL), 0);
	EXPECT(!memcmp(p, file_text, FREE_AT));
}
