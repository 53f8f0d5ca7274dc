/* Memory, continued: threads, forks, files and remote access on the same pages. */
#include "tests/compat/compat.h"

#include <pthread.h>
#include <setjmp.h>
#include <sys/resource.h>
#include <sys/uio.h>

#define PAGE 4096UL
#define RW (PROT_READ | PROT_WRITE)

static char *anon(size_t pages, int flags)
{
	char *p = mmap(NULL, pages * PAGE, RW, flags | MAP_ANONYMOUS, -1, 0);

	EXPECT(p != MAP_FAILED);
	return p;
}

static sigjmp_buf back;

static void on_fault(int signo)
{
	siglongjmp(back, signo);
}

static int read_at(const volatile char *p)
{
	signal(SIGSEGV, on_fault);
	signal(SIGBUS, on_fault);
	int s = sigsetjmp(back, 1);
	if (!s)
		(void)*p;
	return s;
}

/* ---- process_vm_readv, process_vm_writev ---- */

TEST(process_vm_calls_refuse_hostile_arguments)
{
	char buf[16];
	struct iovec ok = {buf, 16}, bad = {buf, (size_t)-1};
	struct iovec *many = calloc(2000, sizeof(*many));

	EXPECT_ERRNO(process_vm_readv(getpid(), BAD_ADDR, 1, &ok, 1, 0), EFAULT);
	EXPECT_ERRNO(process_vm_readv(getpid(), &ok, 1, BAD_ADDR, 1, 0), EFAULT);
	EXPECT_ERRNO(process_vm_readv(getpid(), &bad, 1, &ok, 1, 0), EINVAL);
	EXPECT_ERRNO(process_vm_readv(getpid(), many, 1025, &ok, 1, 0), EINVAL);
	EXPECT_ERRNO(process_vm_readv(getpid(), &ok, 1, many, 1025, 0), EINVAL);
	EXPECT_ERRNO(process_vm_readv(0x3fffffff, &ok, 1, &ok, 1, 0), ESRCH);
	EXPECT_EQ(process_vm_readv(getpid(), NULL, 0, &ok, 1, 0), 0);
	EXPECT_EQ(process_vm_readv(getpid(), &ok, 1, NULL, 0, 0), 0);
	EXPECT_ERRNO(process_vm_writev(getpid(), &ok, 1, &ok, 1, 1), EINVAL);
}

TEST(process_vm_writev_changes_another_process)
{
	volatile char *p = anon(1, MAP_PRIVATE);
	char text[] = "from outside";
	struct iovec local = {text, sizeof(text)}, remote = {(void *)p, sizeof(text)};
	int status;

	p[0] = 'x';
	pid_t pid = fork();
	if (pid == 0) {
		while (!p[11])
			test_sleep_ms(1);
		_exit(strcmp((char *)p, "from outside") ? 1 : 0);
	}
	EXPECT_EQ(process_vm_writev(pid, &local, 1, &remote, 1, 0), sizeof(text));
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	EXPECT_EQ(p[0], 'x');
}

TEST(process_vm_writev_stops_at_read_only_memory)
{
	char *p = anon(2, MAP_PRIVATE);
	static char buf[2 * PAGE];
	struct iovec local = {buf, sizeof(buf)}, remote = {p, 2 * PAGE};

	EXPECT_OK(mprotect(p + PAGE, PAGE, PROT_READ));
	EXPECT_EQ(process_vm_writev(getpid(), &local, 1, &remote, 1, 0), PAGE);
	remote.iov_base = p + PAGE;
	EXPECT_ERRNO(process_vm_writev(getpid(), &local, 1, &remote, 1, 0), EFAULT);
}

TEST(process_vm_readv_of_another_user_is_eperm)
{
	char c;
	struct iovec local = {&c, 1}, remote = {&c, 1};
	int status;

	if (getuid())
		test_skip("needs root");
	pid_t target = getpid(), pid = fork();
	if (pid == 0) {
		if (setresuid(4321, 4321, 4321))
			_exit(1);
		_exit(process_vm_readv(target, &local, 1, &remote, 1, 0) == -1 && errno == EPERM
			      ? 0
			      : 2);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
}

/* ---- system calls and memory ---- */

TEST(system_calls_fault_lazily_allocated_and_copied_pages_in)
{
	char *p = anon(64, MAP_PRIVATE);
	int fd = (int)EXPECT_OK(open("/dev/zero", O_RDONLY)), status;

	EXPECT_EQ(read(fd, p, 64 * PAGE), 64 * PAGE);
	memset(p, 7, 64 * PAGE);
	pid_t pid = fork();
	if (pid == 0)
		_exit(read(fd, p, 64 * PAGE) == 64 * PAGE && p[0] == 0 && p[63 * PAGE] == 0 ? 0
											    : 1);
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	EXPECT_EQ(p[63 * PAGE], 7);
}

TEST(writes_from_a_hole_tell_how_far_they_came)
{
	char *p = anon(3, MAP_PRIVATE);
	int pipe_fds[2];

	EXPECT_OK(munmap(p + 2 * PAGE, PAGE));
	EXPECT_OK(pipe(pipe_fds));
	/* A pipe takes what it got before the fault. */
	EXPECT_EQ(write(pipe_fds[1], p + PAGE, 2 * PAGE), PAGE);
	EXPECT_ERRNO(write(pipe_fds[1], p + 2 * PAGE, PAGE), EFAULT);
}

static volatile int go_on = 1;

static void *map_and_unmap(void *arg)
{
	while (go_on) {
		char *p = mmap(NULL, 8 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED)
			return (void *)1;
		memset(p, 1, 8 * PAGE);
		mprotect(p, PAGE, PROT_READ);
		munmap(p, 8 * PAGE);
	}
	return arg;
}

TEST(threads_map_while_others_read_and_fork)
{
	pthread_t th[3];
	int fd = (int)EXPECT_OK(open("/dev/zero", O_RDONLY));
	void *bad;

	for (int i = 0; i < 3; i++)
		EXPECT_OK(-pthread_create(&th[i], NULL, map_and_unmap, NULL));
	for (int i = 0; i < 20; i++) {
		char *p = anon(4, MAP_PRIVATE);
		EXPECT_EQ(read(fd, p, 4 * PAGE), 4 * PAGE);
		pid_t pid = fork();
		if (pid == 0)
			_exit(p[3 * PAGE] == 0 ? 0 : 1);
		int status;
		EXPECT_EQ(waitpid(pid, &status, 0), pid);
		EXPECT_EQ(status, 0);
		EXPECT_OK(munmap(p, 4 * PAGE));
	}
	go_on = 0;
	for (int i = 0; i < 3; i++) {
		pthread_join(th[i], &bad);
		EXPECT(bad == NULL);
	}
}

/* ---- mremap, shared memory, files ---- */

TEST(mremap_of_shared_memory_keeps_it_shared)
{
	char *p = anon(2, MAP_SHARED);
	int status;

	char *q = mremap(p, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, anon(8, MAP_PRIVATE));
	EXPECT(q != MAP_FAILED && q != p);
	pid_t pid = fork();
	if (pid == 0) {
		q[5] = 'S';
		p[PAGE] = 'T';
		_exit(0);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(q[5], 'S');
	EXPECT_EQ(p[PAGE], 'T');
}

TEST(mremap_of_size_zero_duplicates_shared_memory)
{
	char *p = anon(1, MAP_SHARED);

	char *q = mremap(p, 0, PAGE, MREMAP_MAYMOVE);
	EXPECT(q != MAP_FAILED && q != p);
	p[9] = 'd';
	EXPECT_EQ(q[9], 'd');
}

TEST(mremap_dontunmap_leaves_an_empty_mapping)
{
	char *p = anon(1, MAP_PRIVATE);

	p[0] = 'm';
	char *q = mremap(p, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
	EXPECT(q != MAP_FAILED && q != p);
	EXPECT_EQ(q[0], 'm');
	EXPECT_EQ(p[0], 0);
}

TEST(mremap_keeps_the_file_offset)
{
	test_dir();
	int fd = test_file("f", 4 * PAGE);
	char *p = mmap(NULL, 4 * PAGE, PROT_READ, MAP_PRIVATE, fd, 0), want;

	EXPECT_EQ(pread(fd, &want, 1, 3 * PAGE + 1), 1);
	char *q = mremap(p + 2 * PAGE, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
			 anon(2, MAP_PRIVATE));
	EXPECT(q != MAP_FAILED);
	EXPECT_EQ(q[PAGE + 1], want);
	EXPECT_EQ(read_at(p + 2 * PAGE), SIGSEGV);
	EXPECT_EQ(read_at(p + PAGE), 0);
}

TEST(shared_mappings_see_writes_of_all_kinds)
{
	test_dir();
	int fd = test_file("f", 2 * PAGE), other = (int)EXPECT_OK(open("f", O_RDONLY));
	char *rw = mmap(NULL, 2 * PAGE, RW, MAP_SHARED, fd, 0);
	char *ro = mmap(NULL, 2 * PAGE, PROT_READ, MAP_SHARED, other, 0);
	char *priv = mmap(NULL, 2 * PAGE, PROT_READ, MAP_PRIVATE, other, 0), c;

	EXPECT_EQ(pwrite(fd, "W", 1, PAGE + 3), 1);
	EXPECT_EQ(rw[PAGE + 3], 'W');
	EXPECT_EQ(ro[PAGE + 3], 'W');
	EXPECT_EQ(priv[PAGE + 3], 'W');
	rw[PAGE + 4] = 'M';
	EXPECT_EQ(ro[PAGE + 4], 'M');
	EXPECT_EQ(pread(other, &c, 1, PAGE + 4), 1);
	EXPECT_EQ(c, 'M');
	EXPECT_OK(ftruncate(fd, 3 * PAGE));
	EXPECT_OK(unlink("f"));
	rw[0] = 'U';
	EXPECT_EQ(ro[0], 'U');
}

TEST(a_private_mapping_of_a_grown_file_sees_the_new_part)
{
	test_dir();
	int fd = test_file("f", 10);
	char *p = mmap(NULL, 2 * PAGE, PROT_READ, MAP_PRIVATE, fd, 0);

	EXPECT_EQ(read_at(p + PAGE), SIGBUS);
	EXPECT_EQ(pwrite(fd, "grown", 5, PAGE), 5);
	EXPECT_EQ(read_at(p + PAGE), 0);
	EXPECT(!memcmp(p + PAGE, "grown", 5));
}

TEST(memfd_seals_forbid_what_they_say)
{
	int fd = (int)EXPECT_OK(memfd_create("sealed", MFD_ALLOW_SEALING | MFD_CLOEXEC));

	EXPECT_OK(ftruncate(fd, PAGE));
	EXPECT_EQ(fcntl(fd, F_GET_SEALS), 0);
	char *p = mmap(NULL, PAGE, RW, MAP_SHARED, fd, 0);
	EXPECT(p != MAP_FAILED);
	EXPECT_ERRNO(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EBUSY);
	EXPECT_OK(munmap(p, PAGE));
	EXPECT_OK(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW));
	EXPECT_ERRNO(write(fd, "x", 1), EPERM);
	EXPECT_ERRNO(ftruncate(fd, 10), EPERM);
	EXPECT_ERRNO(ftruncate(fd, 2 * PAGE), EPERM);
	EXPECT_ERRNO((long)mmap(NULL, PAGE, RW, MAP_SHARED, fd, 0), EPERM);
	EXPECT(mmap(NULL, PAGE, RW, MAP_PRIVATE, fd, 0) != MAP_FAILED);
	EXPECT_OK(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL));
	EXPECT_ERRNO(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), EPERM);
	EXPECT_ERRNO(syscall(SYS_memfd_create, BAD_ADDR, 0), EFAULT);
	EXPECT_ERRNO(syscall(SYS_memfd_create, "x", 0x8000), EINVAL);
}

TEST(map_growsdown_grows_under_accesses)
{
	char *area = anon(64, MAP_PRIVATE);

	EXPECT_OK(munmap(area, 64 * PAGE));
	char *p = mmap(area + 60 * PAGE, 2 * PAGE, RW,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED, -1, 0);
	EXPECT(p == area + 60 * PAGE);
	p[0] = 1;
	p[-8] = 2;
	p[-(long)PAGE - 8] = 3;
	EXPECT_EQ(p[-8] + p[-(long)PAGE - 8], 5);
}

TEST(many_small_mappings_of_alternating_protection)
{
	enum { N = 1000 };
	char *p = anon(N, MAP_PRIVATE);

	for (size_t i = 0; i < N; i += 2)
		EXPECT_OK(mprotect(p + i * PAGE, PAGE, PROT_READ));
	EXPECT_EQ(read_at(p + (N - 2) * PAGE), 0);
	EXPECT_OK(mprotect(p, N * PAGE, RW));
	p[0] = p[(N - 2) * PAGE] = 1;
	EXPECT_OK(munmap(p, N * PAGE));
}

TEST(prot_write_alone_can_be_read_and_prot_none_cannot)
{
	char *p = mmap(NULL, PAGE, PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	p[0] = 1;
	EXPECT_EQ(read_at(p), 0); /* x86 has no write-only pages */
	EXPECT_OK(mprotect(p, PAGE, PROT_NONE));
	EXPECT_EQ(read_at(p), SIGSEGV);
	EXPECT_OK(mprotect(p, PAGE, RW));
	EXPECT_EQ(p[0], 1);
}

TEST(code_that_is_written_and_rewritten_runs)
{
	unsigned char *p = (void *)anon(1, MAP_PRIVATE);
	int (*fn)(void) = (int (*)(void))p;

	for (int i = 1; i < 20; i++) {
		EXPECT_OK(mprotect(p, PAGE, RW));
		memcpy(p, "\xb8\0\0\0\0\xc3", 6); /* mov $i, %eax; ret */
		p[1] = (unsigned char)i;
		EXPECT_OK(mprotect(p, PAGE, PROT_READ | PROT_EXEC));
		EXPECT_EQ(fn(), i);
	}
	/* A system call from there, often enough to be noticed as a hot site. */
	EXPECT_OK(mprotect(p, PAGE, RW));
	memcpy(p, "\xb8\x6e\0\0\0\x0f\x05\xc3", 8); /* getppid */
	EXPECT_OK(mprotect(p, PAGE, PROT_READ | PROT_EXEC));
	for (int i = 0; i < 300; i++)
		EXPECT_EQ(fn(), getppid());
	EXPECT(!memcmp(p, "\xb8\x6e\0\0\0\x0f\x05\xc3", 8));
	EXPECT_OK(mprotect(p, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC));
	p[1] = 0x27; /* getpid */
	for (int i = 0; i < 300; i++)
		EXPECT_EQ(fn(), getpid());
}
