/* remap_file_pages(2), move_pages(2), migrate_pages(2). */
#include "compat.h"

#define PAGE 4096UL
#define MPOL_MF_MOVE 2

static char *shared_pages(int *fd, size_t n)
{
	*fd = EXPECT_OK(memfd_create("pages", 0));
	EXPECT_OK(ftruncate(*fd, (off_t)(n * PAGE)));
	char *p = mmap(NULL, n * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
	EXPECT(p != MAP_FAILED);
	for (size_t i = 0; i < n; i++)
		p[i * PAGE] = (char)('a' + i);
	return p;
}

TEST(remap_file_pages_reorders)
{
	int fd;
	char *p = shared_pages(&fd, 4);

	EXPECT_OK(remap_file_pages(p, PAGE, 0, 3, 0));
	EXPECT_OK(remap_file_pages(p + 3 * PAGE, PAGE, 0, 0, 0));
	EXPECT_EQ(p[0], 'd');
	EXPECT_EQ(p[PAGE], 'b');
	EXPECT_EQ(p[3 * PAGE], 'a');
	p[0] = 'x';
	char c;
	EXPECT_EQ(pread(fd, &c, 1, 3 * PAGE), 1);
	EXPECT_EQ(c, 'x');
}

TEST(remap_file_pages_of_anonymous_shared)
{
	char *p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	p[PAGE] = 'z';
	EXPECT_OK(remap_file_pages(p, PAGE, 0, 1, 0));
	EXPECT_EQ(p[0], 'z');
}

TEST(remap_file_pages_errors)
{
	int fd;
	char *p = shared_pages(&fd, 2);
	char *q = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	EXPECT_ERRNO(remap_file_pages(p, PAGE, PROT_READ, 0, 0), EINVAL);
	EXPECT_ERRNO(remap_file_pages(p, 0, 0, 0, 0), EINVAL);
	EXPECT_ERRNO(remap_file_pages(p, PAGE, 0, SIZE_MAX, 0), EINVAL);
	EXPECT_ERRNO(remap_file_pages(q, PAGE, 0, 0, 0), EINVAL);
	EXPECT_ERRNO(remap_file_pages(p, 4 * PAGE, 0, 0, 0), EINVAL);
	EXPECT_OK(munmap(q, PAGE));
	EXPECT_ERRNO(remap_file_pages(q, PAGE, 0, 0, 0), EINVAL);
}

TEST(move_pages_tells_the_node)
{
	char *p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	void *at[3] = {p, p + PAGE, (void *)16};
	int status[3] = {9, 9, 9};

	p[0] = 1;
	EXPECT_OK(syscall(SYS_move_pages, 0, 3UL, at, NULL, status, 0));
	EXPECT_EQ(status[0], 0);
	EXPECT_EQ(status[1], -ENOENT);
	EXPECT_EQ(status[2], -EFAULT);
	int node = 0;
	EXPECT_OK(syscall(SYS_move_pages, 0, 1UL, at, &node, status, MPOL_MF_MOVE));
	EXPECT_EQ(status[0], 0);
}

TEST(move_pages_errors)
{
	char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	void *at[1] = {p};
	int status[1], node = 63;

	p[0] = 1;
	EXPECT_ERRNO(syscall(SYS_move_pages, 0, 1UL, at, NULL, status, 64), EINVAL);
	EXPECT_ERRNO(syscall(SYS_move_pages, 1 << 30, 1UL, at, NULL, status, 0), ESRCH);
	EXPECT_ERRNO(syscall(SYS_move_pages, 0, 1UL, (void *)8, NULL, status, 0), EFAULT);
	EXPECT_ERRNO(syscall(SYS_move_pages, 0, 1UL, at, NULL, (void *)8, 0), EFAULT);
	EXPECT_ERRNO(syscall(SYS_move_pages, 0, 1UL, at, (void *)8, status, 0), EFAULT);
	EXPECT_ERRNO(syscall(SYS_move_pages, 0, 1UL, at, &node, status, 0), ENODEV);
}

TEST(migrate_pages_with_one_node)
{
	unsigned long one = 1, other = 2;

	EXPECT_OK(syscall(SYS_migrate_pages, 0, 64UL, &one, &one));
	EXPECT_ERRNO(syscall(SYS_migrate_pages, 1 << 30, 64UL, &one, &one), ESRCH);
	EXPECT_ERRNO(syscall(SYS_migrate_pages, 0, 64UL, (void *)8, &one), EFAULT);
	EXPECT_ERRNO(syscall(SYS_migrate_pages, 0, 64UL, &one, &other), EINVAL);
}
