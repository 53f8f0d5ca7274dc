/* Core files: core(5). */
#include <elf.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "compat.h"

static void need_plain_pattern(void)
{
	char text[128] = "", uses[8] = "";
	int fd = open("/proc/sys/kernel/core_pattern", O_RDONLY);
	int fd2 = open("/proc/sys/kernel/core_uses_pid", O_RDONLY);

	if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0 || fd2 < 0 ||
	    read(fd2, uses, sizeof(uses) - 1) <= 0)
		test_skip("no core_pattern");
	if (strcmp(text, "core\n") || strcmp(uses, "0\n"))
		test_skip("core files go elsewhere");
	close(fd);
	close(fd2);
}

static void limit(rlim_t size)
{
	struct rlimit r = {size, RLIM_INFINITY};

	if (setrlimit(RLIMIT_CORE, &r))
		_exit(99);
}

/* Runs fn in a child that then aborts, in a fresh directory; its wait status. */
static int crash(void (*fn)(void), rlim_t size)
{
	need_plain_pattern();
	test_dir();
	int status, pid = EXPECT_OK(fork());
	if (!pid) {
		limit(size);
		if (fn)
			fn();
		abort();
	}
	EXPECT_EQ(EXPECT_OK(waitpid(pid, &status, 0)), pid);
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT)
		FAIL("status %#x", status);
	return status;
}

static char *read_core(size_t *size)
{
	struct stat st;
	int fd = EXPECT_OK(open("core", O_RDONLY));

	EXPECT_OK(fstat(fd, &st));
	*size = (size_t)st.st_size;
	char *p = mmap(NULL, *size, PROT_READ, MAP_PRIVATE, fd, 0);
	EXPECT(p != MAP_FAILED);
	close(fd);
	return p;
}

static int count_notes(const char *core, uint32_t type)
{
	const Elf64_Ehdr *eh = (const void *)core;
	const Elf64_Phdr *ph = (const void *)(core + eh->e_phoff);
	int n = 0;

	for (int i = 0; i < eh->e_phnum; i++) {
		if (ph[i].p_type != PT_NOTE)
			continue;
		for (uint64_t at = 0; at < ph[i].p_filesz;) {
			const Elf64_Nhdr *h = (const void *)(core + ph[i].p_offset + at);
			n += h->n_type == type;
			at += sizeof(*h) + ((h->n_namesz + 3) & ~3u) + ((h->n_descsz + 3) & ~3u);
		}
	}
	return n;
}

/* The segment that holds this address. */
static const Elf64_Phdr *segment_of(const char *core, const void *addr)
{
	const Elf64_Ehdr *eh = (const void *)core;
	const Elf64_Phdr *ph = (const void *)(core + eh->e_phoff);

	for (int i = 0; i < eh->e_phnum; i++)
		if (ph[i].p_type == PT_LOAD && ph[i].p_vaddr <= (uintptr_t)addr &&
		    (uintptr_t)addr - ph[i].p_vaddr < ph[i].p_memsz)
			return &ph[i];
	FAIL("no segment holds %p", addr);
}

TEST(core_is_written_and_the_status_says_so)
{
	struct stat st;
	size_t size;
	int status = crash(NULL, RLIM_INFINITY);

	EXPECT(WCOREDUMP(status));
	EXPECT_OK(stat("core", &st));
	EXPECT(S_ISREG(st.st_mode) && (st.st_mode & 07777) == 0600);
	const char *core = read_core(&size);
	const Elf64_Ehdr *eh = (const void *)core;
	EXPECT(!memcmp(eh->e_ident, ELFMAG, SELFMAG) && eh->e_type == ET_CORE);
	EXPECT_EQ(eh->e_machine, EM_X86_64);
	static const uint32_t once[] = {NT_PRSTATUS, NT_PRPSINFO, NT_SIGINFO,	NT_AUXV,
					NT_FILE,     NT_PRFPREG,  NT_X86_XSTATE};
	for (size_t i = 0; i < sizeof(once) / sizeof(once[0]); i++)
		EXPECT_EQ(count_notes(core, once[i]), 1);
}

TEST(core_needs_a_limit_of_a_page)
{
	EXPECT(!WCOREDUMP(crash(NULL, 0)));
	EXPECT_ERRNO(access("core", F_OK), ENOENT);
	EXPECT(!WCOREDUMP(crash(NULL, 4095)));
	EXPECT_ERRNO(access("core", F_OK), ENOENT);
}

TEST(core_ends_at_the_limit)
{
	struct stat st;

	EXPECT(WCOREDUMP(crash(NULL, 20000)));
	EXPECT_OK(stat("core", &st));
	/* Holes do not count. */
	EXPECT(st.st_blocks * 512 <= 28672 && st.st_size >= 4096);
}

static void undumpable(void)
{
	prctl(PR_SET_DUMPABLE, 0);
}

TEST(core_of_an_undumpable_process_is_not_written)
{
	EXPECT(!WCOREDUMP(crash(undumpable, RLIM_INFINITY)));
	EXPECT_ERRNO(access("core", F_OK), ENOENT);
}

static void change_user(void)
{
	if (setresuid(1000, 1000, 1000))
		_exit(98);
}

TEST(core_is_not_written_after_a_change_of_user)
{
	EXPECT(!WCOREDUMP(crash(change_user, RLIM_INFINITY)));
	EXPECT_ERRNO(access("core", F_OK), ENOENT);
}

/* A core file is a new one, whatever was there. */
static void expect_fresh(void)
{
	struct stat st;

	EXPECT_OK(lstat("core", &st));
	EXPECT(S_ISREG(st.st_mode) && (st.st_mode & 07777) == 0600 && st.st_nlink == 1);
	EXPECT(st.st_size > 4096);
}

static void make_link(void)
{
	if (symlink("elsewhere", "core"))
		_exit(98);
}

TEST(core_does_not_follow_a_link)
{
	EXPECT(WCOREDUMP(crash(make_link, RLIM_INFINITY)));
	expect_fresh();
	EXPECT_ERRNO(access("elsewhere", F_OK), ENOENT);
}

static void make_two_names(void)
{
	close(open("core", O_CREAT | O_WRONLY, 0644));
	if (chmod("core", 0644) || link("core", "other"))
		_exit(98);
}

TEST(core_does_not_write_to_an_old_file)
{
	struct stat st;

	EXPECT(WCOREDUMP(crash(make_two_names, RLIM_INFINITY)));
	expect_fresh();
	EXPECT_OK(stat("other", &st));
	EXPECT_EQ(st.st_size, 0);
}

static void make_fifo(void)
{
	if (mkfifo("core", 0600))
		_exit(98);
}

TEST(core_replaces_a_fifo)
{
	EXPECT(WCOREDUMP(crash(make_fifo, RLIM_INFINITY)));
	expect_fresh();
}

static void make_directory(void)
{
	if (mkdir("core", 0700))
		_exit(98);
}

TEST(core_does_not_replace_a_directory)
{
	struct stat st;

	EXPECT(!WCOREDUMP(crash(make_directory, RLIM_INFINITY)));
	EXPECT_OK(lstat("core", &st));
	EXPECT(S_ISDIR(st.st_mode));
}

static char **mark;

static void map_marked(void)
{
	for (int i = 0; i < 3; i++) {
		mark[i] = mmap(NULL, 16 << 20, PROT_READ | PROT_WRITE,
			       (i == 2 ? MAP_SHARED : MAP_PRIVATE) | MAP_ANONYMOUS, -1, 0);
		if (mark[i] == MAP_FAILED)
			_exit(98);
		strcpy(mark[i] + 5 * 4096, "marked");
		mprotect(mark[i] + 6 * 4096, 4096, PROT_READ); /* so that they do not merge */
	}
	madvise(mark[1], 16 << 20, MADV_DONTDUMP);
}

static void share_mark(void)
{
	mark = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	EXPECT(mark != MAP_FAILED);
}

TEST(core_holds_memory_but_what_dontdump_says)
{
	size_t size;

	share_mark();
	EXPECT(WCOREDUMP(crash(map_marked, RLIM_INFINITY)));
	const char *core = read_core(&size);
	for (int i = 0; i < 3; i++) {
		const Elf64_Phdr *ph = segment_of(core, mark[i] + 5 * 4096);
		if (i == 1) {
			EXPECT_EQ(ph->p_filesz, 0);
			continue;
		}
		EXPECT_EQ(ph->p_filesz, ph->p_memsz);
		uint64_t at = ph->p_offset + (uintptr_t)mark[i] + 5 * 4096 - ph->p_vaddr;
		EXPECT(at + 7 <= size && !strcmp(core + at, "marked"));
	}
}

static void filter_none(void)
{
	int fd = open("/proc/self/coredump_filter", O_WRONLY);

	if (fd < 0 || write(fd, "0", 1) != 1)
		_exit(98);
	map_marked();
}

TEST(core_honours_the_filter)
{
	size_t size;

	share_mark();
	EXPECT(WCOREDUMP(crash(filter_none, RLIM_INFINITY)));
	const char *core = read_core(&size);
	for (int i = 0; i < 3; i++)
		EXPECT_EQ(segment_of(core, mark[i] + 5 * 4096)->p_filesz, 0);
}

static void *wait_for_ever(void *arg)
{
	for (;;)
		pause();
	return arg;
}

static void *spin_for_ever(void *arg)
{
	for (;;)
		__asm__ volatile("" : : "r"(arg));
	return arg;
}

static void start_threads(void)
{
	pthread_t th;

	for (int i = 0; i < 4; i++)
		if (pthread_create(&th, NULL, i < 3 ? wait_for_ever : spin_for_ever, NULL))
			_exit(98);
	usleep(20000);
}

TEST(core_has_all_threads)
{
	size_t size;

	EXPECT(WCOREDUMP(crash(start_threads, RLIM_INFINITY)));
	const char *core = read_core(&size);
	EXPECT_EQ(count_notes(core, NT_PRSTATUS), 5);
	EXPECT_EQ(count_notes(core, NT_X86_XSTATE), 5);
	EXPECT_EQ(count_notes(core, NT_PRPSINFO), 1);
}

TEST(core_is_announced_by_waitid_and_sigchld)
{
	siginfo_t si;

	need_plain_pattern();
	test_dir();
	int pid = EXPECT_OK(fork());
	if (!pid) {
		limit(RLIM_INFINITY);
		raise(SIGQUIT);
		_exit(0);
	}
	EXPECT_OK(waitid(P_PID, (id_t)pid, &si, WEXITED));
	EXPECT_EQ(si.si_code, CLD_DUMPED);
	EXPECT_EQ(si.si_status, SIGQUIT);
}

TEST(core_pattern_hostile)
{
	int fd = open("/proc/sys/kernel/core_pattern", O_RDONLY);

	EXPECT(fd >= 0);
	EXPECT_ERRNO(read(fd, BAD_ADDR, 10), EFAULT);
	EXPECT_ERRNO(write(fd, "x", 1), EBADF);
	close(fd);
}
