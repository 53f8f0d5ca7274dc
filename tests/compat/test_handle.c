/* name_to_handle_at(2), open_by_handle_at(2). */
#include <fcntl.h>

#include "play.h"

struct handle {
	uint32_t bytes;
	int32_t type;
	unsigned char data[128];
};

static long to_handle(int fd, const char *name, struct handle *h, int *id, int flags)
{
	return syscall(SYS_name_to_handle_at, fd, name, h, id, flags);
}

static long by_handle(int fd, const struct handle *h, int flags)
{
	return syscall(SYS_open_by_handle_at, fd, h, flags);
}

TEST(handle_hostile_arguments)
{
	struct handle h = {.bytes = 128};
	int id;

	enter_empty();
	make_file("f");
	EXPECT_ERRNO(to_handle(AT_FDCWD, "f", &h, &id, 0x40000), EINVAL);
	EXPECT_ERRNO(to_handle(AT_FDCWD, "none", &h, &id, 0), ENOENT);
	EXPECT_ERRNO(to_handle(AT_FDCWD, BAD_ADDR, &h, &id, 0), EFAULT);
	EXPECT_ERRNO(to_handle(AT_FDCWD, "f", BAD_ADDR, &id, 0), EFAULT);
	EXPECT_ERRNO(to_handle(AT_FDCWD, "f", &h, BAD_ADDR, 0), EFAULT);
	EXPECT_ERRNO(to_handle(99, "f", &h, &id, 0), EBADF);
	h.bytes = 129;
	EXPECT_ERRNO(to_handle(AT_FDCWD, "f", &h, &id, 0), EINVAL);
	EXPECT_ERRNO(by_handle(AT_FDCWD, &h, O_RDONLY), EINVAL);
	h.bytes = 0;
	EXPECT_ERRNO(by_handle(AT_FDCWD, &h, O_RDONLY), EINVAL);
	EXPECT_ERRNO(to_handle(AT_FDCWD, "f", &h, &id, 0), EOVERFLOW);
	EXPECT(h.bytes > 0 && h.bytes <= 128);
	EXPECT(!to_handle(AT_FDCWD, "f", &h, &id, 0));
	EXPECT_ERRNO(by_handle(AT_FDCWD, BAD_ADDR, O_RDONLY), EFAULT);
	EXPECT_ERRNO(by_handle(99, &h, O_RDONLY), EBADF);
	h.data[0] ^= 0x55;
	h.data[5] ^= 0x55;
	EXPECT_ERRNO(by_handle(AT_FDCWD, &h, O_RDONLY), ESTALE);
	leave();
}

TEST(handle_opens_the_file_under_its_new_name)
{
	struct handle h = {.bytes = 128}, again = {.bytes = 128};
	char text[10] = "";
	int id, id2;

	enter_empty();
	make_file("first");
	EXPECT(!to_handle(AT_FDCWD, "first", &h, &id, 0));
	EXPECT(!rename("first", "second"));
	int fd = EXPECT_OK(by_handle(AT_FDCWD, &h, O_RDONLY | O_CLOEXEC));
	EXPECT_EQ(read(fd, text, sizeof(text)), 5);
	EXPECT_STR(text, "first");
	EXPECT_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
	EXPECT(!to_handle(fd, "", &again, &id2, AT_EMPTY_PATH));
	EXPECT(h.bytes == again.bytes && h.type == again.type && id == id2);
	EXPECT(!memcmp(h.data, again.data, h.bytes));
	close(fd);
	EXPECT(!unlink("second"));
	EXPECT_ERRNO(by_handle(AT_FDCWD, &h, O_RDONLY), ESTALE);
	leave();
}

TEST(handle_of_directories_and_links)
{
	struct handle h = {.bytes = 128};
	struct stat st;
	int id;

	enter_empty();
	EXPECT(!mkdir("d", 0755) && !symlink("d", "l"));
	make_file("d/in");
	EXPECT(!to_handle(AT_FDCWD, "l", &h, &id, AT_SYMLINK_FOLLOW));
	int fd = EXPECT_OK(by_handle(AT_FDCWD, &h, O_RDONLY | O_DIRECTORY));
	EXPECT(!faccessat(fd, "in", F_OK, 0));
	EXPECT(!faccessat(fd, "../d/in", F_OK, 0));
	close(fd);
	h.bytes = 128;
	EXPECT(!to_handle(AT_FDCWD, "l", &h, &id, 0)); /* the link itself */
	EXPECT_ERRNO(by_handle(AT_FDCWD, &h, O_RDONLY), ELOOP);
	fd = EXPECT_OK(by_handle(AT_FDCWD, &h, O_PATH));
	EXPECT(!fstat(fd, &st));
	EXPECT(S_ISLNK(st.st_mode));
	close(fd);
	leave();
}

TEST(handle_belongs_to_its_file_system)
{
	struct handle h = {.bytes = 128};
	char line[1024];
	int id, n;
	bool found = false;

	enter_empty();
	make_file("f");
	EXPECT(!to_handle(AT_FDCWD, "f", &h, &id, 0));
	FILE *f = fopen("/proc/self/mountinfo", "r");
	while (fgets(line, sizeof(line), f))
		found |= strstr(line, base) && sscanf(line, "%d", &n) == 1 && n == id;
	fclose(f);
	EXPECT(found);
	EXPECT(!mkdir("m", 0755) && !mount("t", "m", "tmpfs", 0, "size=64k"));
	int fd = open("m", O_RDONLY);
	EXPECT_ERRNO(by_handle(fd, &h, O_RDONLY), ESTALE);
	close(fd);
	fd = open("/proc/self/stat", O_RDONLY);
	EXPECT_ERRNO(to_handle(fd, "", &h, &id, AT_EMPTY_PATH), EOPNOTSUPP);
	close(fd);
	leave();
}

TEST(handle_needs_the_capability)
{
	struct handle h = {.bytes = 128};
	int id;

	enter_empty();
	make_file("f");
	EXPECT(!to_handle(AT_FDCWD, "f", &h, &id, 0));
	pid_t pid = fork();
	if (!pid) {
		if (setresuid(1, 1, 1))
			_exit(1);
		_exit(by_handle(AT_FDCWD, &h, O_RDONLY) == -1 && errno == EPERM ? 0 : 2);
	}
	int st;
	EXPECT_EQ(waitpid(pid, &st, 0), pid);
	EXPECT_EQ(st, 0);
	leave();
}
