/* File locks as /proc/locks shows them. */
#include "tests/compat/compat.h"

#include <sys/file.h>

/* Counts the lines of this kind for the file; *line is the last. */
static int listed(const char *kind, const struct stat *st, char line[256])
{
	char want[64], text[256];
	FILE *f = fopen("/proc/locks", "r");
	int n = 0;

	EXPECT(f);
	sprintf(want, ":%llu ", (unsigned long long)st->st_ino);
	while (fgets(text, sizeof(text), f))
		if (strstr(text, kind) && strstr(text, want)) {
			strcpy(line, text);
			n++;
		}
	fclose(f);
	return n;
}

TEST(proc_locks_lists_each_kind)
{
	struct stat st;
	char line[256], want[64];
	int fd = test_file("f", 100);
	EXPECT_OK(fstat(fd, &st));
	struct flock l = {.l_type = F_WRLCK, .l_start = 10, .l_len = 5};
	EXPECT_OK(fcntl(fd, F_SETLK, &l));
	if (!listed("POSIX", &st, line))
		test_skip("locks of this file system are not listed by its inode number");
	sprintf(want, "POSIX  ADVISORY  WRITE %d ", getpid());
	EXPECT(strstr(line, want));
	EXPECT(strstr(line, " 10 14\n"));
	l = (struct flock){.l_type = F_RDLCK, .l_start = 50};
	EXPECT_OK(fcntl(fd, F_OFD_SETLK, &l));
	EXPECT_EQ(listed("OFDLCK", &st, line), 1);
	EXPECT(strstr(line, "OFDLCK ADVISORY  READ -1 "));
	EXPECT(strstr(line, " 50 EOF\n"));
	EXPECT_OK(flock(fd, LOCK_EX));
	EXPECT_EQ(listed("FLOCK", &st, line), 1);
	sprintf(want, "FLOCK  ADVISORY  WRITE %d ", getpid());
	EXPECT(strstr(line, want));
	EXPECT(strstr(line, " 0 EOF\n"));
	EXPECT_OK(flock(fd, LOCK_UN));
	EXPECT_EQ(listed("FLOCK", &st, line), 0);
	close(fd);
	EXPECT_EQ(listed("POSIX", &st, line) + listed("OFDLCK", &st, line), 0);
}
