/* What memory a process really uses, and what may be set about it.  Source: mincore(2),
 * getrusage(2), proc(5). */
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "compat.h"

#define PAGE 4096UL

static char *pages(size_t n)
{
	char *p = mmap(NULL, n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	EXPECT(p != MAP_FAILED);
	EXPECT_OK(madvise(p, n * PAGE, MADV_NOHUGEPAGE));
	return p;
}

static char *slurp(const char *path, char *buf, size_t size)
{
	int fd = (int)EXPECT_OK(open(path, O_RDONLY));
	size_t done = 0;
	ssize_t n;

	while (done < size - 1 && (n = EXPECT_OK(read(fd, buf + done, size - 1 - done))) > 0)
		done += (size_t)n;
	buf[done] = 0;
	close(fd);
	return buf;
}

/* The number behind a label, from `from` on. */
static long number_at(const char *from, const char *label)
{
	const char *line = strstr(from, label);

	if (!line)
		FAIL("no %s", label);
	return strtol(line + strlen(label), NULL, 10);
}

TEST(mincore_tells_touched_pages_of_anonymous_memory)
{
	unsigned char vec[6];
	char *p = pages(6);

	p[1 * PAGE] = 1;
	p[4 * PAGE] = 1;
	EXPECT_OK(mincore(p, 6 * PAGE, vec));
	for (int i = 0; i < 6; i++)
		EXPECT_EQ(vec[i] & 1, i == 1 || i == 4);
	EXPECT_OK(madvise(p + PAGE, PAGE, MADV_DONTNEED));
	EXPECT_OK(mincore(p, 6 * PAGE, vec));
	EXPECT_EQ(vec[1] & 1, 0);
	EXPECT_ERRNO(mincore(p, 6 * PAGE, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(mincore(p + 1, PAGE, vec), EINVAL);
	EXPECT_OK(munmap(p + 2 * PAGE, PAGE));
	EXPECT_ERRNO(mincore(p, 6 * PAGE, vec), ENOMEM);
}

TEST(pagemap_tells_touched_pages)
{
	char *p = pages(4);
	uint64_t bits[4];
	int fd = (int)EXPECT_OK(open("/proc/self/pagemap", O_RDONLY));

	p[2 * PAGE] = 1;
	EXPECT_EQ(pread(fd, bits, sizeof(bits), (long)((uintptr_t)p / PAGE * 8)), 32);
	for (int i = 0; i < 4; i++)
		EXPECT_EQ(bits[i] >> 63, i == 2);
	EXPECT_ERRNO(pread(fd, bits, 7, 0), EINVAL);
	EXPECT_ERRNO(pread(fd, bits, 8, 4), EINVAL);
	close(fd);
}

TEST(smaps_counts_resident_pages)
{
	static char buf[1 << 20];
	char *p = pages(64), label[40];

	/* A hole on either side keeps the mapping apart from its neighbours. */
	EXPECT_OK(munmap(p, PAGE));
	EXPECT_OK(munmap(p + 63 * PAGE, PAGE));
	p += PAGE;
	for (int i = 0; i < 10; i++)
		p[i * PAGE] = 1;
	slurp("/proc/self/smaps", buf, sizeof(buf));
	snprintf(label, sizeof(label), "%lx-", (unsigned long)p);
	const char *entry = strstr(buf, label);
	EXPECT(entry != NULL);
	EXPECT_EQ(number_at(entry, "Size:"), 62 * 4);
	EXPECT_EQ(number_at(entry, "Rss:"), 40);
	EXPECT_EQ(number_at(entry, "Pss:"), 40);
	EXPECT_EQ(number_at(entry, "Private_Dirty:"), 40);
	EXPECT_EQ(number_at(entry, "Anonymous:"), 40);
	EXPECT(strstr(entry, "VmFlags: rd wr mr mw me") != NULL);
	slurp("/proc/self/smaps_rollup", buf, sizeof(buf));
	EXPECT(strstr(buf, "[rollup]") != NULL);
	EXPECT(number_at(buf, "Anonymous:") >= 40);
}

TEST(status_counts_memory_and_shows_umask)
{
	char buf[8192];

	slurp("/proc/self/status", buf, sizeof(buf));
	long anon = number_at(buf, "RssAnon:"), size = number_at(buf, "VmSize:");
	umask(0137);
	char *p = pages(1024);
	memset(p, 1, 1024 * PAGE);
	slurp("/proc/self/status", buf, sizeof(buf));
	EXPECT(number_at(buf, "RssAnon:") >= anon + 3072);
	EXPECT(number_at(buf, "VmSize:") >= size + 4096);
	EXPECT(number_at(buf, "VmHWM:") >= number_at(buf, "VmRSS:"));
	EXPECT(strstr(buf, "Umask:\t0137\n") != NULL);
	EXPECT_OK(munmap(p, 1024 * PAGE));
	slurp("/proc/self/status", buf, sizeof(buf));
	EXPECT(number_at(buf, "VmPeak:") >= size + 4096);
	EXPECT(number_at(buf, "VmSize:") < size + 4096);
}

TEST(getrusage_counts_faults_and_memory)
{
	struct rusage a, b, c;

	EXPECT_OK(getrusage(RUSAGE_SELF, &a));
	memset(pages(512), 1, 512 * PAGE);
	EXPECT_OK(getrusage(RUSAGE_SELF, &b));
	EXPECT(b.ru_minflt >= a.ru_minflt + 500);
	EXPECT(b.ru_maxrss >= 2048 && b.ru_maxrss >= a.ru_maxrss);
	pid_t child = (pid_t)EXPECT_OK(fork());
	if (!child) {
		memset(pages(1024), 1, 1024 * PAGE);
		_exit(0);
	}
	int status;
	EXPECT_EQ(wait4(child, &status, 0, &c), child);
	EXPECT(c.ru_minflt >= 1000);
	EXPECT(c.ru_maxrss >= 4096);
	EXPECT_OK(getrusage(RUSAGE_CHILDREN, &a));
	EXPECT(a.ru_minflt >= c.ru_minflt);
	EXPECT_ERRNO(getrusage(7, &a), EINVAL);
	EXPECT_ERRNO(getrusage(RUSAGE_SELF, BAD_ADDR), EFAULT);
}

static void put(const char *path, const char *text, int err)
{
	int fd = (int)EXPECT_OK(open(path, O_WRONLY));

	if (err)
		EXPECT_ERRNO(write(fd, text, strlen(text)), err);
	else
		EXPECT_OK(write(fd, text, strlen(text)));
	close(fd);
}

TEST(oom_score_adj_is_kept_inherited_and_bounded)
{
	char buf[64];

	put("/proc/self/oom_score_adj", "300\n", 0);
	EXPECT_STR(slurp("/proc/self/oom_score_adj", buf, sizeof(buf)), "300\n");
	put("/proc/self/oom_score_adj", "1001", EINVAL);
	put("/proc/self/oom_score_adj", "-1001", EINVAL);
	put("/proc/self/oom_score_adj", "x", EINVAL);
	EXPECT_STR(slurp("/proc/self/oom_score_adj", buf, sizeof(buf)), "300\n");
	pid_t child = (pid_t)EXPECT_OK(fork());
	if (!child) {
		EXPECT_STR(slurp("/proc/self/oom_score_adj", buf, sizeof(buf)), "300\n");
		_exit(0);
	}
	int status;
	EXPECT_EQ(waitpid(child, &status, 0), child);
	EXPECT_EQ(status, 0);
}

TEST(oom_score_adj_is_lowered_only_with_privilege)
{
	char buf[64];

	if (geteuid() != 0)
		test_skip("needs root");
	put("/proc/self/oom_score_adj", "100", 0);
	EXPECT_OK(setresuid(1000, 1000, 1000));
	EXPECT_OK(prctl(PR_SET_DUMPABLE, 1));
	put("/proc/self/oom_score_adj", "200", 0);
	put("/proc/self/oom_score_adj", "100", 0);
	put("/proc/self/oom_score_adj", "-1", EACCES); /* below any that was allowed */
	EXPECT_STR(slurp("/proc/self/oom_score_adj", buf, sizeof(buf)), "100\n");
}

TEST(coredump_filter_and_timerslack_are_kept)
{
	char buf[64];

	put("/proc/self/coredump_filter", "0x21", 0);
	EXPECT_STR(slurp("/proc/self/coredump_filter", buf, sizeof(buf)), "00000021\n");
	put("/proc/self/timerslack_ns", "12345", 0);
	EXPECT_STR(slurp("/proc/self/timerslack_ns", buf, sizeof(buf)), "12345\n");
	EXPECT_EQ(prctl(PR_GET_TIMERSLACK), 12345);
	put("/proc/self/timerslack_ns", "0", 0);
	EXPECT_EQ(prctl(PR_GET_TIMERSLACK), 50000);
}
