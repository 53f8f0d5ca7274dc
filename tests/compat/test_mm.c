/* Mappings: mmap, munmap, mprotect, mremap, madvise, msync, mincore, brk, mlock, process_vm_*. */
#include "tests/compat/compat.h"

#include <setjmp.h>
#include <sys/resource.h>
#include <sys/uio.h>

#define PAGE 4096UL
#define AREA ((char *)0x200000000000)
#define TOP ((char *)0x7ffffffff000) /* the end of what any program may map */
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)
#define RW (PROT_READ | PROT_WRITE)

/* Not through libc, which has its own opinion about some arguments. */
static long do_mmap(void *addr, size_t len, int prot, int flags, int fd, unsigned long off)
{
	return syscall(SYS_mmap, addr, len, prot, flags, fd, off);
}

static char *map_area(size_t pages)
{
	EXPECT_EQ(do_mmap(AREA, pages * PAGE, RW, ANON | MAP_FIXED, -1, 0), (long)AREA);
	return AREA;
}

static sigjmp_buf fault_return;
static volatile int fault_code, fault_signal;
static void *volatile fault_address;

static void on_fault(int sig, siginfo_t *si, void *uc)
{
	(void)uc;
	fault_signal = sig;
	fault_code = si->si_code;
	fault_address = si->si_addr;
	siglongjmp(fault_return, 1);
}

/* Touches *p; returns the signal that this raises, or 0. */
static int touch(volatile char *p, bool write)
{
	struct sigaction sa = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};

	sigaction(SIGSEGV, &sa, NULL);
	sigaction(SIGBUS, &sa, NULL);
	if (sigsetjmp(fault_return, 1))
		return fault_signal;
	if (write)
		*p = 1;
	else
		(void)*p;
	return 0;
}

TEST(mmap_refuses_what_the_manual_says)
{
	int rw = test_file("f", PAGE);
	int ro = EXPECT_OK(open("f", O_RDONLY)), wo = EXPECT_OK(open("f", O_WRONLY));
	int dir = EXPECT_OK(open(".", O_RDONLY));

	EXPECT_ERRNO(do_mmap(0, 0, RW, ANON, -1, 0), EINVAL);
	EXPECT_ERRNO(do_mmap(0, PAGE, RW, ANON, -1, 1), EINVAL);
	EXPECT_ERRNO(do_mmap(0, PAGE, RW, MAP_ANONYMOUS, -1, 0), EINVAL);
	EXPECT_ERRNO(do_mmap(0, -PAGE, RW, ANON, -1, 0), ENOMEM);
	EXPECT_ERRNO(do_mmap(0, 0, RW, MAP_PRIVATE, 999, 0), EBADF);
	EXPECT_ERRNO(do_mmap(0, PAGE, PROT_READ, MAP_PRIVATE, dir, 0), ENODEV);
	EXPECT_ERRNO(do_mmap(0, PAGE, RW, MAP_SHARED, ro, 0), EACCES);
	EXPECT_ERRNO(do_mmap(0, PAGE, PROT_WRITE, MAP_PRIVATE, wo, 0), EACCES);
	EXPECT_ERRNO(do_mmap(0, 2 * PAGE, PROT_READ, MAP_PRIVATE, rw, -PAGE), EOVERFLOW);
	EXPECT_ERRNO(do_mmap(0, PAGE, PROT_READ, MAP_PRIVATE | MAP_GROWSDOWN, rw, 0), EINVAL);
	EXPECT_ERRNO(do_mmap(0, PAGE, PROT_READ, MAP_SHARED_VALIDATE | MAP_SYNC, rw, 0),
		     EOPNOTSUPP);
	EXPECT_ERRNO(do_mmap(AREA + 1, PAGE, RW, ANON | MAP_FIXED, -1, 0), EINVAL);
	EXPECT_ERRNO(do_mmap(TOP, PAGE, RW, ANON | MAP_FIXED, -1, 0), ENOMEM);
	EXPECT_ERRNO(do_mmap(0, 1UL << 45, RW, ANON, -1, 0), ENOMEM);
	map_area(1);
	EXPECT_ERRNO(do_mmap(AREA, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0), EEXIST);
}

TEST(mmap_reserves_more_than_there_is_memory_when_told)
{
	EXPECT_OK(do_mmap(0, 1UL << 44, RW, ANON | MAP_NORESERVE, -1, 0));
	EXPECT_OK(do_mmap(0, 1UL << 44, PROT_NONE, ANON, -1, 0));
}

TEST(mmap_takes_a_free_hint_and_32bit)
{
	EXPECT_EQ(do_mmap(AREA + 5, PAGE, RW, ANON, -1, 0), (long)AREA);
	EXPECT(do_mmap(AREA, PAGE, RW, ANON, -1, 0) != (long)AREA);
	EXPECT(EXPECT_OK(do_mmap(0, PAGE, RW, ANON | MAP_32BIT, -1, 0)) < 1L << 31);
}

TEST(mmap_private_file_changes_stay_private)
{
	int fd = test_file("f", 2 * PAGE);
	char *p = (char *)EXPECT_OK(do_mmap(0, 2 * PAGE, RW, MAP_PRIVATE, fd, 0)), c, old = p[7];

	p[7] = (char)~old;
	EXPECT_EQ(pread(fd, &c, 1, 7), 1);
	EXPECT_EQ(c, old);
}

TEST(mmap_shared_file_is_the_file)
{
	int fd = test_file("f", 2 * PAGE);
	char *p = (char *)EXPECT_OK(do_mmap(0, 2 * PAGE, RW, MAP_SHARED, fd, 0)), c;

	p[PAGE + 1] = 'x';
	EXPECT_EQ(pread(fd, &c, 1, PAGE + 1), 1);
	EXPECT_EQ(c, 'x');
	EXPECT_EQ(pwrite(fd, "y", 1, 3), 1);
	EXPECT_EQ(p[3], 'y');
	EXPECT_OK(msync(p, 2 * PAGE, MS_SYNC));
	close(fd);
	EXPECT_EQ(p[3], 'y');
}

TEST(mmap_beyond_the_end_of_the_file_is_sigbus)
{
	int fd = test_file("f", PAGE + 10);
	char *p = (char *)EXPECT_OK(do_mmap(0, 3 * PAGE, PROT_READ, MAP_SHARED, fd, 0));

	EXPECT_EQ(touch(p + PAGE + 100, false), 0);
	EXPECT_EQ(p[PAGE + 100], 0);
	EXPECT_EQ(touch(p + 2 * PAGE, false), SIGBUS);
	EXPECT_EQ(fault_code, BUS_ADRERR);
	/* A system call sees the same hole. */
	EXPECT_ERRNO(write(fd, p + 2 * PAGE, 1), EFAULT);
}

TEST(mmap_shared_anonymous_memory_is_shared_with_children)
{
	int *p = (int *)EXPECT_OK(do_mmap(0, PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		p[5] = 77;
		_exit(0);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(p[5], 77);
}

TEST(fork_copies_private_memory)
{
	char *p = map_area(2);
	int status;

	p[0] = 1;
	pid_t pid = fork();
	if (pid == 0) {
		p[0] = 2;
		p[PAGE] = 2;
		_exit(p[0] == 2 ? 0 : 1);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	EXPECT_EQ(p[0], 1);
	EXPECT_EQ(p[PAGE], 0);
}

TEST(munmap_refuses_bad_ranges_and_allows_holes)
{
	EXPECT_ERRNO(munmap(AREA + 1, PAGE), EINVAL);
	EXPECT_ERRNO(munmap(AREA, 0), EINVAL);
	EXPECT_ERRNO(munmap(TOP, PAGE), EINVAL);
	EXPECT_ERRNO(munmap(AREA, -PAGE), EINVAL);
	map_area(3);
	EXPECT_OK(munmap(AREA + PAGE, PAGE));
	EXPECT_EQ(touch(AREA + PAGE, false), SIGSEGV);
	EXPECT_EQ(fault_code, SEGV_MAPERR);
	EXPECT(fault_address == AREA + PAGE);
	EXPECT_EQ(touch(AREA + 2 * PAGE, true), 0);
	EXPECT_OK(munmap(AREA, 16 * PAGE));
}

TEST(mprotect_binds_the_program_and_the_kernel)
{
	int fd = EXPECT_OK(open("/dev/zero", O_RDONLY));

	map_area(3);
	EXPECT_OK(mprotect(AREA + PAGE, PAGE, PROT_READ));
	EXPECT_EQ(touch(AREA + PAGE, false), 0);
	EXPECT_EQ(touch(AREA + PAGE, true), SIGSEGV);
	EXPECT_EQ(fault_code, SEGV_ACCERR);
	EXPECT_ERRNO(read(fd, AREA + PAGE, 1), EFAULT);
	EXPECT_EQ(read(fd, AREA + PAGE - 3, 10), 3);
	EXPECT_OK(mprotect(AREA + PAGE, PAGE, PROT_NONE));
	EXPECT_EQ(touch(AREA + PAGE, false), SIGSEGV);
	EXPECT_OK(mprotect(AREA, 3 * PAGE, RW));
	EXPECT_EQ(touch(AREA + PAGE, true), 0);
}

TEST(mprotect_refuses_what_linux_refuses)
{
	EXPECT_OK(munmap(AREA, 64 * PAGE));
	map_area(2);
	EXPECT_ERRNO(mprotect(AREA + 1, 1, PROT_READ), EINVAL);
	EXPECT_OK(mprotect(AREA, 0, PROT_READ));
	EXPECT_ERRNO(mprotect(AREA, 1, 0x100), EINVAL);
	EXPECT_ERRNO(mprotect(AREA, -1UL, PROT_READ), ENOMEM);
	EXPECT_ERRNO(mprotect(AREA, 4 * PAGE, PROT_READ), ENOMEM);
	EXPECT_EQ(touch(AREA + PAGE, true), SIGSEGV); /* what came before the hole is done */
	EXPECT_ERRNO(mprotect(TOP, PAGE, PROT_READ), ENOMEM);
	int fd = test_file("f", PAGE), ro = EXPECT_OK(open("f", O_RDONLY));
	(void)fd;
	char *p = (char *)EXPECT_OK(do_mmap(0, PAGE, PROT_READ, MAP_SHARED, ro, 0));
	EXPECT_ERRNO(mprotect(p, PAGE, RW), EACCES);
}

TEST(mremap_grows_shrinks_and_moves_with_the_contents)
{
	EXPECT_OK(munmap(AREA, 64 * PAGE));
	char *p = map_area(2), *q;

	strcpy(p + PAGE, "kept");
	q = mremap(p, 2 * PAGE, 4 * PAGE, 0);
	EXPECT(q == p);
	EXPECT_STR(q + PAGE, "kept");
	EXPECT_EQ(do_mmap(AREA + 4 * PAGE, PAGE, PROT_READ, ANON | MAP_FIXED, -1, 0),
		  (long)(AREA + 4 * PAGE));
	EXPECT_ERRNO((long)mremap(p, 4 * PAGE, 5 * PAGE, 0), ENOMEM);
	q = mremap(p, 4 * PAGE, 5 * PAGE, MREMAP_MAYMOVE);
	EXPECT(q != MAP_FAILED && q != p);
	EXPECT_STR(q + PAGE, "kept");
	EXPECT_EQ(touch(p, false), SIGSEGV);
	EXPECT(mremap(q, 5 * PAGE, 2 * PAGE, 0) == q);
	EXPECT_EQ(touch(q + 2 * PAGE, false), SIGSEGV);
	EXPECT(mremap(q, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, AREA) == AREA);
	EXPECT_STR(AREA + PAGE, "kept");
}

TEST(mremap_refuses_bad_arguments)
{
	EXPECT_OK(munmap(AREA, 64 * PAGE));
	map_area(2);
	EXPECT_ERRNO((long)mremap(AREA, PAGE, 0, 0), EINVAL);
	EXPECT_ERRNO((long)mremap(AREA + 1, PAGE, PAGE, 0), EINVAL);
	EXPECT_ERRNO((long)mremap(AREA, PAGE, PAGE, 8), EINVAL);
	EXPECT_ERRNO((long)mremap(AREA, PAGE, PAGE, MREMAP_FIXED, AREA + 8 * PAGE), EINVAL);
	EXPECT_ERRNO((long)mremap(AREA, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, AREA), EINVAL);
	EXPECT_ERRNO((long)mremap(AREA, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, TOP), EINVAL);
	EXPECT_ERRNO((long)mremap(AREA, 0, PAGE, MREMAP_MAYMOVE), EINVAL);
	EXPECT_ERRNO((long)mremap(AREA + 8 * PAGE, PAGE, PAGE, 0), EFAULT);
	EXPECT_ERRNO((long)mremap(AREA, 4 * PAGE, 8 * PAGE, MREMAP_MAYMOVE), EFAULT);
}

TEST(madvise_dontneed_empties_and_holes_are_enomem)
{
	EXPECT_OK(munmap(AREA, 64 * PAGE));
	char *p = map_area(2);

	p[0] = p[PAGE] = 1;
	EXPECT_ERRNO(madvise(p, 4 * PAGE, MADV_DONTNEED), ENOMEM);
	EXPECT_EQ(p[0], 0);
	EXPECT_EQ(p[PAGE], 0);
	EXPECT_ERRNO(madvise(p + 1, PAGE, MADV_DONTNEED), EINVAL);
	EXPECT_ERRNO(madvise(p, PAGE, 9999), EINVAL);
	EXPECT_ERRNO(madvise(p, -1UL, MADV_DONTNEED), EINVAL);
	EXPECT_OK(madvise(p, 0, MADV_DONTNEED));
	EXPECT_ERRNO(madvise(p, PAGE, MADV_REMOVE), EINVAL);
	EXPECT_OK(madvise(p, PAGE, MADV_WILLNEED));
	EXPECT_OK(madvise(p, PAGE, MADV_FREE));
}

TEST(madvise_fork_advice_acts_in_the_child)
{
	char *p = map_area(3);
	int status;

	p[0] = p[PAGE] = p[2 * PAGE] = 5;
	EXPECT_OK(madvise(p, PAGE, MADV_DONTFORK));
	EXPECT_OK(madvise(p + PAGE, PAGE, MADV_WIPEONFORK));
	pid_t pid = fork();
	if (pid == 0)
		_exit(touch(p, false) == SIGSEGV && p[PAGE] == 0 && p[2 * PAGE] == 5 ? 0 : 1);
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	EXPECT_EQ(p[0] + p[PAGE], 10);
}

TEST(msync_refuses_bad_flags_and_holes)
{
	EXPECT_OK(munmap(AREA, 64 * PAGE));
	map_area(1);
	EXPECT_ERRNO(msync(AREA, PAGE, 8), EINVAL);
	EXPECT_ERRNO(msync(AREA, PAGE, MS_SYNC | MS_ASYNC), EINVAL);
	EXPECT_ERRNO(msync(AREA + 1, PAGE, MS_SYNC), EINVAL);
	EXPECT_ERRNO(msync(AREA, 4 * PAGE, MS_SYNC), ENOMEM);
	EXPECT_OK(msync(AREA, PAGE, MS_SYNC));
}

TEST(mincore_tells_mapped_from_unmapped)
{
	unsigned char vec[4];

	EXPECT_OK(munmap(AREA, 64 * PAGE));
	char *p = map_area(2);
	p[0] = 1;
	EXPECT_OK(mincore(p, PAGE, vec));
	EXPECT_EQ(vec[0] & 1, 1);
	EXPECT_ERRNO(mincore(p, 4 * PAGE, vec), ENOMEM);
	EXPECT_ERRNO(mincore(p + 1, PAGE, vec), EINVAL);
	EXPECT_ERRNO(mincore(p, PAGE, BAD_ADDR), EFAULT);
}

TEST(brk_moves_the_break_by_bytes)
{
	long start = syscall(SYS_brk, 0);

	EXPECT_EQ(syscall(SYS_brk, start + 100000), start + 100000);
	memset((char *)start, 7, 100000);
	EXPECT_EQ(syscall(SYS_brk, start + 10), start + 10);
	EXPECT_EQ(syscall(SYS_brk, start + 100000), start + 100000);
	EXPECT_EQ(((char *)start)[99999], 0);
	EXPECT_EQ(syscall(SYS_brk, 1), start + 100000);
	EXPECT_EQ(syscall(SYS_brk, -1L), start + 100000);
	EXPECT_EQ(syscall(SYS_brk, start), start);
}

static void recurse(int depth)
{
	volatile char frame[64 * 1024];

	frame[0] = frame[sizeof(frame) - 1] = (char)depth;
	if (depth)
		recurse(depth - 1);
	frame[1] = 1;
}

TEST(stack_grows_under_the_program_and_under_the_kernel)
{
	char *low = (char *)__builtin_frame_address(0) - (3 << 20);
	int fd = EXPECT_OK(open("/dev/zero", O_RDONLY));

	EXPECT_EQ(read(fd, low, 100), 100);
	recurse(80);
}

static void exhaust_stack(void *arg)
{
	(void)arg;
	signal(SIGSEGV, SIG_DFL);
	recurse(1 << 20);
}

TEST(stack_overflow_is_sigsegv)
{
	int status = test_child(exhaust_stack, NULL);

	EXPECT(WIFSIGNALED(status));
	EXPECT_EQ(WTERMSIG(status), SIGSEGV);
}

TEST(rlimit_as_and_data_bind)
{
	struct rlimit as = {1UL << 30, 1UL << 30};

	EXPECT_OK(setrlimit(RLIMIT_AS, &as));
	EXPECT_ERRNO(do_mmap(0, 1UL << 31, PROT_NONE, ANON, -1, 0), ENOMEM);
	EXPECT_OK(do_mmap(0, 1UL << 20, RW, ANON, -1, 0));
	struct rlimit data = {64 << 20, 64 << 20};
	EXPECT_OK(setrlimit(RLIMIT_DATA, &data));
	EXPECT_ERRNO(do_mmap(0, 128 << 20, RW, ANON, -1, 0), ENOMEM);
	EXPECT_OK(do_mmap(0, 128 << 20, PROT_READ, ANON, -1, 0));
}

TEST(mlock_checks_its_range)
{
	EXPECT_OK(munmap(AREA, 64 * PAGE));
	map_area(2);
	EXPECT_OK(mlock(AREA, 2 * PAGE));
	EXPECT_ERRNO(mlock(AREA, 4 * PAGE), ENOMEM);
	EXPECT_ERRNO(munlock(AREA, 4 * PAGE), ENOMEM);
	EXPECT_OK(munlock(AREA, 2 * PAGE));
	EXPECT_ERRNO(syscall(SYS_mlock2, AREA, PAGE, 8), EINVAL);
	EXPECT_ERRNO(mlockall(0), EINVAL);
	EXPECT_ERRNO(mlockall(8), EINVAL);
	EXPECT_OK(munlockall());
}

static bool maps_line(const char *needle, char *line, int size)
{
	FILE *f = fopen("/proc/self/maps", "r");
	bool found = false;

	while (f && !found && fgets(line, size, f))
		found = strstr(line, needle);
	if (f)
		fclose(f);
	return found;
}

TEST(proc_maps_shows_splits_and_names)
{
	char line[4096];

	EXPECT_OK(munmap(AREA, 64 * PAGE));
	map_area(4);
	EXPECT(maps_line("200000000000-200000004000 rw-p 00000000 00:00 0", line, sizeof(line)));
	EXPECT_OK(mprotect(AREA + PAGE, PAGE, PROT_READ));
	EXPECT(maps_line("200000001000-200000002000 r--p", line, sizeof(line)));
	EXPECT(maps_line("200000002000-200000004000 rw-p", line, sizeof(line)));
	EXPECT_OK(mprotect(AREA + PAGE, PAGE, RW));
	EXPECT(maps_line("200000000000-200000004000 rw-p", line, sizeof(line)));
	EXPECT(maps_line("[stack]", line, sizeof(line)));
	EXPECT(maps_line("[vdso]", line, sizeof(line)));
}

TEST(process_vm_readv_reads_a_child)
{
	char *p = map_area(2), buf[32] = {0};
	int status;

	strcpy(p + PAGE - 4, "across");
	pid_t pid = fork();
	if (pid == 0) {
		pause();
		_exit(0);
	}
	memset(p, 0, 2 * PAGE);
	struct iovec local[2] = {{buf, 3}, {buf + 3, 4}}, remote = {p + PAGE - 4, 7};
	EXPECT_EQ(process_vm_readv(pid, local, 2, &remote, 1, 0), 7);
	EXPECT_STR(buf, "across");
	EXPECT_EQ(process_vm_writev(pid, local, 2, &remote, 1, 0), 7);
	EXPECT_ERRNO(process_vm_readv(pid, local, 2, &remote, 1, 1), EINVAL);
	remote.iov_base = BAD_ADDR;
	EXPECT_ERRNO(process_vm_readv(pid, local, 2, &remote, 1, 0), EFAULT);
	remote = (struct iovec){p + 2 * PAGE - 4, 7};
	EXPECT_EQ(process_vm_readv(pid, local, 2, &remote, 1, 0), 4);
	kill(pid, SIGKILL);
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_ERRNO(process_vm_readv(pid, local, 2, &remote, 1, 0), ESRCH);
}
