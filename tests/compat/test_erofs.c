/* EROFS images, made by mkfs.erofs of erofs-utils, mounted from files. */
#include <dirent.h>
#include <sys/statfs.h>
#include <sys/xattr.h>

#include "play.h"

static void put(const char *name, size_t size, char first)
{
	int fd = (int)EXPECT_OK(open(name, O_CREAT | O_WRONLY, 0644));
	char buf[1000];

	for (size_t off = 0; off < size; off += sizeof(buf)) {
		size_t n = size - off < sizeof(buf) ? size - off : sizeof(buf);
		memset(buf, first + (char)(off / sizeof(buf) % 26), n);
		EXPECT_EQ(write(fd, buf, n), (long)n);
	}
	close(fd);
}

static int run(const char *const *argv)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		int null = open("/dev/null", O_WRONLY);
		dup2(null, 1);
		dup2(null, 2);
		execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* "src" as "image". */
static void make_image(const char *option)
{
	const char *const argv[] = {"mkfs.erofs", option, "image", "src", NULL};
	int code = run(argv);

	if (code == 127)
		test_skip("no mkfs.erofs");
	if (code)
		test_skip("mkfs.erofs does not work on this file system");
}

static void make_tree(void)
{
	char name[64];

	enter_empty();
	EXPECT(!mount("play", base, "tmpfs", MS_REMOUNT, "size=16m"));
	EXPECT(!mkdir("src", 0755) && !mkdir("src/dir", 0711) && !mkdir("m", 0755));
	EXPECT(!mkdir("src/many", 0755));
	put("src/empty", 0, 'a');
	put("src/small", 100, 'a');
	put("src/block", 4096, 'a');
	put("src/large", 100000, 'a');
	put("src/dir/deep", 5000, 'k');
	for (int i = 0; i < 600; i++) {
		snprintf(name, sizeof(name), "src/many/name-of-a-file-%03d", i);
		put(name, 1, 'x');
	}
	EXPECT(!symlink("small", "src/link"));
	EXPECT(!link("src/small", "src/hard"));
	EXPECT(!mkfifo("src/fifo", 0600));
	EXPECT(!chown("src/small", 12, 34) && !chmod("src/small", 0640));
	(void)!setxattr("src/small", "user.key", "value", 5, 0);
}

static void mount_image(void)
{
	if (!mount("image", "m", "erofs", MS_RDONLY, NULL))
		return;
	if (errno == ENODEV || errno == ENOTBLK)
		test_skip("EROFS is not mounted from files here");
	FAIL("mount: %s", strerror(errno));
}

static void expect_same(const char *name)
{
	static char a[110000], b[110000];
	char path[100];

	snprintf(path, sizeof(path), "src/%s", name);
	int fd = (int)EXPECT_OK(open(path, O_RDONLY));
	ssize_t n = read(fd, a, sizeof(a));
	close(fd);
	snprintf(path, sizeof(path), "m/%s", name);
	fd = (int)EXPECT_OK(open(path, O_RDONLY));
	EXPECT_EQ(read(fd, b, sizeof(b)), n);
	EXPECT(!memcmp(a, b, (size_t)n));
	if (n > 10) {
		EXPECT_EQ(pread(fd, b, 7, n - 3), 3);
		EXPECT(!memcmp(b, a + n - 3, 3));
		char *map = mmap(NULL, (size_t)n, PROT_READ, MAP_SHARED, fd, 0);
		EXPECT(map != MAP_FAILED);
		EXPECT(!memcmp(map, a, (size_t)n));
		munmap(map, (size_t)n);
	}
	close(fd);
}

static void expect_tree(void)
{
	struct stat st;
	struct statfs sf;
	char buf[64];
	int n = 0;

	static const char *const files[] = {"empty",
					    "small",
					    "block",
					    "large",
					    "dir/deep",
					    "link",
					    "hard",
					    "many/name-of-a-file-000",
					    "many/name-of-a-file-599"};
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		expect_same(files[i]);
	EXPECT(!stat("m/small", &st));
	EXPECT_EQ(st.st_mode, S_IFREG | 0640);
	EXPECT_EQ(st.st_uid, 12);
	EXPECT_EQ(st.st_gid, 34);
	EXPECT_EQ(st.st_nlink, 2);
	ino_t ino = st.st_ino;
	EXPECT(!stat("m/hard", &st));
	EXPECT_EQ(st.st_ino, ino);
	EXPECT(!lstat("m/fifo", &st) && S_ISFIFO(st.st_mode));
	EXPECT_EQ(readlink("m/link", buf, sizeof(buf)), 5);
	EXPECT_ERRNO(open("m/none", O_RDONLY), ENOENT);
	EXPECT_ERRNO(open("m/many/name-of-a-file-600", O_RDONLY), ENOENT);
	EXPECT_ERRNO(open("m/small", O_WRONLY), EROFS);
	EXPECT_ERRNO(mkdir("m/new", 0755), EROFS);
	EXPECT_ERRNO(unlink("m/small"), EROFS);
	EXPECT(!statfs("m", &sf));
	EXPECT_EQ(sf.f_type, 0xe0f5e1e2);
	DIR *d = opendir("m/many");
	EXPECT(d);
	while (readdir(d))
		n++;
	EXPECT_EQ(n, 602);
	closedir(d);
	if (getxattr("src/small", "user.key", buf, sizeof(buf)) == 5) {
		EXPECT_EQ(getxattr("m/small", "user.key", buf, sizeof(buf)), 5);
		EXPECT(!memcmp(buf, "value", 5));
		EXPECT_EQ(listxattr("m/small", buf, sizeof(buf)), 9);
		EXPECT_ERRNO(getxattr("m/small", "user.none", buf, sizeof(buf)), ENODATA);
	}
}

TEST(erofs_image_shows_its_files)
{
	make_tree();
	make_image("-x1");
	mount_image();
	expect_tree();
	EXPECT(!umount("m"));
	leave();
}

TEST(erofs_image_in_chunks_shows_its_files)
{
	make_tree();
	make_image("--chunksize=8192");
	mount_image();
	expect_tree();
	EXPECT(!umount("m"));
	leave();
}

TEST(erofs_mount_refuses_what_is_no_image)
{
	enter();
	put("zeros", 9000, 0);
	put("short", 100, 0);
	if (mount("none", "a", "erofs", MS_RDONLY, NULL) && errno == ENODEV)
		test_skip("no EROFS");
	EXPECT_ERRNO(mount("none", "a", "erofs", MS_RDONLY, NULL), ENOENT);
	if (mount("zeros", "a", "erofs", MS_RDONLY, NULL) && errno == ENOTBLK)
		test_skip("EROFS is not mounted from files here");
	EXPECT_ERRNO(mount("zeros", "a", "erofs", MS_RDONLY, NULL), EINVAL);
	EXPECT_ERRNO(mount("short", "a", "erofs", MS_RDONLY, NULL), EINVAL);
	leave();
}
