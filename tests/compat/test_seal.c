/* mseal(2): mappings that nobody changes any more. */
#include "compat.h"

#ifndef SYS_mseal
#define SYS_mseal 462
#endif
#define PAGE 4096UL

static long mseal(void *addr, size_t len, unsigned long flags)
{
	return syscall(SYS_mseal, addr, len, flags);
}

static void *pages(size_t n, int prot)
{
	void *p = mmap(NULL, n * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	EXPECT(p != MAP_FAILED);
	return p;
}

static void need_mseal(void)
{
	if (mseal((void *)1, PAGE, 0) && errno == ENOSYS)
		test_skip("the kernel has no mseal");
}

TEST(mseal_checks_arguments)
{
	char *p = pages(2, PROT_READ);

	need_mseal();
	EXPECT_ERRNO(mseal(p + 1, PAGE, 0), EINVAL);
	EXPECT_ERRNO(mseal(p, PAGE, 1), EINVAL);
	EXPECT_ERRNO(mseal(p, -PAGE, 0), EINVAL);
	EXPECT_ERRNO(mseal(p, SIZE_MAX, 0), EINVAL);
	EXPECT_EQ(mseal(p, 0, 0), 0);
	EXPECT_OK(munmap(p + PAGE, PAGE));
	EXPECT_ERRNO(mseal(p, 2 * PAGE, 0), ENOMEM);
	EXPECT_OK(munmap(p, PAGE));
	EXPECT_ERRNO(mseal(p, PAGE, 0), ENOMEM);
}

TEST(mseal_refuses_unmap_and_protect)
{
	char *p = pages(3, PROT_READ | PROT_WRITE);

	need_mseal();
	EXPECT_OK(mseal(p + PAGE, 1, 0));
	EXPECT_OK(mseal(p + PAGE, PAGE, 0));
	EXPECT_ERRNO(munmap(p + PAGE, PAGE), EPERM);
	EXPECT_ERRNO(munmap(p, 3 * PAGE), EPERM);
	p[0] = p[PAGE] = p[2 * PAGE] = 1;
	EXPECT_ERRNO(mprotect(p + PAGE, PAGE, PROT_READ), EPERM);
	EXPECT_ERRNO(mprotect(p + PAGE, PAGE, PROT_READ | PROT_WRITE), EPERM);
	p[PAGE] = 2;
	EXPECT_ERRNO(
		mmap(p + PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
		EPERM);
	EXPECT_ERRNO(mmap(p, 3 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
		     EPERM);
	EXPECT_EQ(p[0], 1);
	EXPECT_EQ(p[PAGE], 2);
	EXPECT_OK(munmap(p, PAGE));
	EXPECT_OK(munmap(p + 2 * PAGE, PAGE));
}

TEST(mseal_refuses_mremap)
{
	char *p = pages(4, PROT_READ | PROT_WRITE), *q = pages(4, PROT_READ);

	need_mseal();
	EXPECT_OK(mseal(p, 2 * PAGE, 0));
	EXPECT_ERRNO(mremap(p, 2 * PAGE, PAGE, 0), EPERM);
	EXPECT_ERRNO(mremap(p, 2 * PAGE, 8 * PAGE, MREMAP_MAYMOVE), EPERM);
	EXPECT_ERRNO(mremap(p, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, q), EPERM);
	EXPECT_ERRNO(mremap(q, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, p), EPERM);
	EXPECT_OK(munmap(p + 2 * PAGE, 2 * PAGE));
}

TEST(mseal_refuses_discard_of_what_cannot_be_written)
{
	char *p = pages(1, PROT_READ), *w = pages(1, PROT_READ | PROT_WRITE);

	need_mseal();
	EXPECT_OK(mseal(p, PAGE, 0));
	EXPECT_OK(mseal(w, PAGE, 0));
	EXPECT_ERRNO(madvise(p, PAGE, MADV_DONTNEED), EPERM);
	EXPECT_ERRNO(madvise(p, PAGE, MADV_FREE), EPERM);
	EXPECT_ERRNO(madvise(p, PAGE, MADV_DONTFORK), EPERM);
	EXPECT_ERRNO(madvise(p, PAGE, MADV_WIPEONFORK), EPERM);
	EXPECT_OK(madvise(p, PAGE, MADV_WILLNEED));
	w[0] = 1;
	EXPECT_OK(madvise(w, PAGE, MADV_DONTNEED));
	EXPECT_EQ(w[0], 0);
	EXPECT_OK(mlock(p, PAGE));
	EXPECT_OK(munlock(p, PAGE));
}

TEST(mseal_of_shared_file_allows_discard)
{
	int fd = EXPECT_OK(memfd_create("sealed", 0));

	need_mseal();
	EXPECT_OK(ftruncate(fd, PAGE));
	char *p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	EXPECT(p != MAP_FAILED);
	EXPECT_OK(mseal(p, PAGE, 0));
	EXPECT_OK(madvise(p, PAGE, MADV_DONTNEED));
	EXPECT_EQ(p[0], 0);
	EXPECT_ERRNO(munmap(p, PAGE), EPERM);
}

TEST(mseal_of_heap_stops_brk)
{
	char *end = sbrk(0), *grown;

	need_mseal();
	end = (char *)(((uintptr_t)end + PAGE - 1) & ~(PAGE - 1));
	EXPECT_EQ(brk(end + 4 * PAGE), 0);
	EXPECT_OK(mseal(end + PAGE, PAGE, 0));
	grown = end + 4 * PAGE;
	EXPECT_EQ(syscall(SYS_brk, end), (long)grown);
	end[0] = 1;
}

TEST(mseal_is_inherited_by_fork)
{
	char *p = pages(1, PROT_READ);
	int status;

	need_mseal();
	EXPECT_OK(mseal(p, PAGE, 0));
	pid_t pid = EXPECT_OK(fork());
	if (!pid)
		_exit(munmap(p, PAGE) == -1 && errno == EPERM ? 0 : 1);
	EXPECT_OK(waitpid(pid, &status, 0));
	EXPECT_EQ(status, 0);
}
