/* Memory and programs that keep to themselves: memfd_secret, huge pages, MDWE, set-id bits. */
#include <linux/capability.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <sys/xattr.h>

#include "tests/compat/compat.h"

#define NR_MEMFD_SECRET 447
#define SET_MDWE 65
#define GET_MDWE 66
#define GET_AUXV 0x41555856

/* ---- memfd_secret ---- */

static int secret(unsigned flags)
{
	int fd = (int)syscall(NR_MEMFD_SECRET, flags);

	if (fd < 0 && errno == ENOSYS)
		test_skip("no memfd_secret here");
	return (int)EXPECT_OK(fd);
}

TEST(memfd_secret_is_only_mapped)
{
	struct stat st;
	char c, name[64];
	int fd = secret(O_CLOEXEC);

	EXPECT_ERRNO(syscall(NR_MEMFD_SECRET, 1), EINVAL);
	EXPECT_ERRNO(syscall(NR_MEMFD_SECRET, O_NONBLOCK), EINVAL);
	EXPECT_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
	EXPECT_OK(fstat(fd, &st));
	EXPECT_EQ(st.st_mode, S_IFREG | 0600);
	EXPECT_ERRNO(read(fd, &c, 1), EINVAL);
	EXPECT_ERRNO(write(fd, "x", 1), EINVAL);
	EXPECT_ERRNO(pread(fd, &c, 1, 0), ESPIPE);
	EXPECT_ERRNO(lseek(fd, 0, SEEK_END), ESPIPE);
	EXPECT_ERRNO(fallocate(fd, 0, 0, 4096), EOPNOTSUPP);
	EXPECT_ERRNO(fsync(fd), EINVAL);
	EXPECT_OK(ftruncate(fd, 8192));
	EXPECT_ERRNO(ftruncate(fd, 4096), EINVAL);
	EXPECT_ERRNO(ftruncate(fd, 16384), EINVAL);
	EXPECT(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED && errno == EINVAL);
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	EXPECT_ERRNO(open(name, O_RDWR), ENXIO);
}

static void peek(void *arg)
{
	char c = 0;
	struct iovec local = {&c, 1}, remote = {arg, 1};

	EXPECT_ERRNO(process_vm_readv(getppid(), &local, 1, &remote, 1, 0), EFAULT);
	EXPECT_EQ(*(char *)arg, 's'); /* it is inherited as any mapping */
}

TEST(memfd_secret_is_seen_by_the_program_alone)
{
	int fd = secret(0), fds[2];
	char c;

	EXPECT_OK(ftruncate(fd, 4096));
	char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	EXPECT(p != MAP_FAILED);
	p[0] = 's';
	EXPECT_OK(pipe(fds));
	EXPECT_EQ(write(fds[1], p, 1), 1);
	EXPECT_EQ(read(fds[0], p + 1, 1), 1);
	EXPECT_EQ(p[1], 's');
	EXPECT_EQ(test_child(peek, p), 0);
	/* Locked as well. */
	EXPECT_ERRNO(madvise(p, 4096, MADV_DONTNEED), EINVAL);
	int mem = (int)EXPECT_OK(open("/proc/self/mem", O_RDONLY));
	EXPECT(pread(mem, &c, 1, (off_t)(uintptr_t)p) != 1);
}

/* ---- huge pages, of which none is reserved ---- */

TEST(memfd_of_huge_pages_cannot_be_mapped)
{
	int fd = (int)syscall(SYS_memfd_create, "huge", 4);

	if (fd < 0 && (errno == ENOSYS || errno == EINVAL))
		test_skip("a kernel without huge pages");
	EXPECT_OK(fd);
	EXPECT_ERRNO(syscall(SYS_memfd_create, "huge", 4U | 17U << 26), ENODEV);
	EXPECT_ERRNO(syscall(SYS_memfd_create, "small", 21U << 26), EINVAL);
	EXPECT_OK(ftruncate(fd, 2 << 20));
	if (mmap(NULL, 2 << 20, PROT_READ, MAP_SHARED, fd, 0) != MAP_FAILED)
		test_skip("huge pages are reserved here");
	EXPECT_EQ(errno, ENOMEM);
}

/* ---- prctl ---- */

TEST(prctl_get_auxv_shows_what_execve_gave)
{
	uint64_t v[128] = {0};
	long n = prctl(GET_AUXV, v, sizeof(v), 0, 0);

	if (n < 0 && errno == EINVAL)
		test_skip("an older kernel");
	EXPECT(n > 0);
	EXPECT_ERRNO(prctl(GET_AUXV, BAD_ADDR, 100, 0, 0), EFAULT);
	EXPECT_ERRNO(prctl(GET_AUXV, v, sizeof(v), 1, 0), EINVAL);
	EXPECT_EQ(prctl(GET_AUXV, v, 16, 0, 0), n);
	for (size_t i = 0; i < 128 && v[i]; i += 2)
		if (v[i] == AT_PHDR)
			EXPECT_EQ(v[i + 1], getauxval(AT_PHDR));
}

static void mdwe_child(void *arg)
{
	EXPECT_EQ(prctl(GET_MDWE, 0, 0, 0, 0), (long)(intptr_t)arg);
}

TEST(prctl_mdwe_refuses_what_becomes_code)
{
	const int anon = MAP_PRIVATE | MAP_ANONYMOUS, rwx = PROT_READ | PROT_WRITE | PROT_EXEC;

	if (prctl(GET_MDWE, 0, 0, 0, 0) < 0)
		test_skip("an older kernel");
	EXPECT_ERRNO(prctl(GET_MDWE, 1, 0, 0, 0), EINVAL);
	EXPECT_ERRNO(prctl(SET_MDWE, 2, 0, 0, 0), EINVAL);
	EXPECT_ERRNO(prctl(SET_MDWE, 4, 0, 0, 0), EINVAL);
	EXPECT_ERRNO(prctl(SET_MDWE, 1, 1, 0, 0), EINVAL);
	EXPECT_OK(prctl(SET_MDWE, 1, 0, 0, 0));
	EXPECT_OK(prctl(SET_MDWE, 1, 0, 0, 0));
	EXPECT_ERRNO(prctl(SET_MDWE, 0, 0, 0, 0), EPERM);
	EXPECT(mmap(NULL, 4096, rwx, anon, -1, 0) == MAP_FAILED && errno == EACCES);
	char *data = mmap(NULL, 4096, PROT_READ | PROT_WRITE, anon, -1, 0);
	char *code = mmap(NULL, 4096, PROT_READ | PROT_EXEC, anon, -1, 0);
	EXPECT(data != MAP_FAILED && code != MAP_FAILED);
	EXPECT_ERRNO(mprotect(data, 4096, PROT_EXEC), EACCES);
	EXPECT_OK(mprotect(code, 4096, PROT_EXEC));
	EXPECT_ERRNO(mprotect(code, 4096, rwx), EACCES);
	EXPECT_OK(mprotect(code, 4096, PROT_READ | PROT_WRITE));
	EXPECT_ERRNO(mprotect(code, 4096, PROT_READ | PROT_EXEC), EACCES);
	EXPECT_EQ(test_child(mdwe_child, (void *)1), 0);
}

/* ---- what a write takes away ---- */

static void write_as(uid_t uid, const char *how)
{
	if (uid)
		EXPECT_OK(setresuid(uid, uid, uid));
	if (!strcmp(how, "truncate")) {
		EXPECT_OK(truncate("f", 1));
		return;
	}
	int fd = (int)EXPECT_OK(open("f", *how == 't' ? O_WRONLY | O_TRUNC : O_WRONLY));
	EXPECT_EQ(write(fd, "x", 1), 1);
	close(fd);
}

static void user_writes(void *how)
{
	write_as(1000, how);
}

static void root_writes(void *how)
{
	write_as(0, how);
}

static void make_privileged(void)
{
	close((int)EXPECT_OK(open("f", O_CREAT | O_WRONLY, 0777)));
	EXPECT_OK(chmod("f", 06777));
}

TEST(set_id_bits_go_when_somebody_writes)
{
	static const char *const ways[] = {"write", "trunc", "truncate"};
	struct stat st;

	if (getuid())
		test_skip("needs root");
	EXPECT_OK(chmod(test_dir(), 0777));
	for (int i = 0; i < 3; i++) {
		make_privileged();
		EXPECT_EQ(test_child(root_writes, (void *)ways[i]), 0);
		EXPECT_OK(stat("f", &st));
		EXPECT_EQ(st.st_mode & 07777, 06777);
		EXPECT_EQ(test_child(user_writes, (void *)ways[i]), 0);
		EXPECT_OK(stat("f", &st));
		EXPECT_EQ(st.st_mode & 07777, 0777);
	}
}

TEST(file_capabilities_go_when_anybody_writes)
{
	static const char *const ways[] = {"write", "trunc", "truncate"};
	struct vfs_cap_data cap = {.magic_etc = VFS_CAP_REVISION_2};

	if (getuid())
		test_skip("needs root");
	test_dir();
	for (int i = 0; i < 3; i++) {
		make_privileged();
		cap.data[0].permitted = 1 << CAP_CHOWN;
		if (setxattr("f", "security.capability", &cap, sizeof(cap), 0) &&
		    errno == EOPNOTSUPP)
			test_skip("a file system without file capabilities");
		EXPECT(getxattr("f", "security.capability", &cap, sizeof(cap)) > 0);
		EXPECT_EQ(test_child(root_writes, (void *)ways[i]), 0);
		EXPECT_ERRNO(getxattr("f", "security.capability", &cap, sizeof(cap)), ENODATA);
	}
}

/* ---- advice ---- */

#define COLLAPSE 25
#define DONTNEED_LOCKED 24

TEST(madvise_collapse_and_locked_pages)
{
	const size_t huge = 2 << 20;
	char *p = mmap(NULL, 2 * huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	EXPECT(p != MAP_FAILED);
	memset(p, 'c', 2 * huge);
	int r = madvise(p, 2 * huge, COLLAPSE);
	if (r && errno == EINVAL)
		test_skip("no huge pages on request here");
	/* It may be busy, or have none left. */
	EXPECT(!r || errno == EAGAIN || errno == ENOMEM || errno == EBUSY);
	EXPECT_EQ(p[0] + p[2 * huge - 1], 2 * 'c');
	EXPECT_ERRNO(madvise((char *)4096, 4096, COLLAPSE), ENOMEM);
	EXPECT_ERRNO(madvise(p + 1, 4096, COLLAPSE), EINVAL);
	EXPECT_OK(mlock(p, 4096));
	EXPECT_ERRNO(madvise(p, 4096, MADV_DONTNEED), EINVAL);
	EXPECT_OK(madvise(p, 4096, DONTNEED_LOCKED));
	EXPECT_EQ(p[0], 0);
}
