/* inotify(7): watches, the order and form of events, limits. */
#include "tests/compat/compat.h"

#include <poll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>

static int ino; /* the instance under test */

static void enter(void)
{
	EXPECT_OK(chdir(test_dir()));
	umask(022);
	ino = EXPECT_OK(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
}

static int touch(const char *name)
{
	int fd = EXPECT_OK(open(name, O_CREAT | O_RDWR, 0644));
	EXPECT_EQ(write(fd, "text", 4), 4);
	close(fd);
	return 0;
}

/* What is queued, as "wd:mask(name)" words; cookies as =1, =2 in order of appearance. */
static const char *events(void)
{
	static char text[8192];
	static const struct {
		uint32_t bit;
		const char *name;
	} names[] = {
		{IN_ACCESS, "access"},	    {IN_MODIFY, "modify"},	 {IN_ATTRIB, "attrib"},
		{IN_CLOSE_WRITE, "closew"}, {IN_CLOSE_NOWRITE, "close"}, {IN_OPEN, "open"},
		{IN_MOVED_FROM, "from"},    {IN_MOVED_TO, "to"},	 {IN_CREATE, "create"},
		{IN_DELETE, "delete"},	    {IN_DELETE_SELF, "gone"},	 {IN_MOVE_SELF, "moved"},
		{IN_UNMOUNT, "unmount"},    {IN_Q_OVERFLOW, "overflow"}, {IN_IGNORED, "ignored"},
		{IN_ISDIR, "dir"},
	};
	char buf[65536] __attribute__((aligned(8)));
	uint32_t first_cookie = 0;

	text[0] = 0;
	ssize_t n = read(ino, buf, sizeof(buf));
	if (n < 0)
		EXPECT_EQ(errno, EAGAIN);
	for (ssize_t at = 0; at < n;) {
		struct inotify_event *e = (void *)(buf + at);
		char *to = text + strlen(text);
		to += sprintf(to, "%s%d:", *text ? " " : "", e->wd);
		bool any = false;
		for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
			if (e->mask & names[i].bit) {
				to += sprintf(to, "%s%s", any ? "|" : "", names[i].name);
				any = true;
			}
		if (e->len) {
			EXPECT_EQ(e->len % sizeof(*e), 0);
			to += sprintf(to, "(%s)", e->name);
		}
		if (e->cookie && !first_cookie)
			first_cookie = e->cookie;
		if (e->cookie)
			sprintf(to, "=%u", e->cookie - first_cookie + 1);
		at += (ssize_t)(sizeof(*e) + e->len);
	}
	return text;
}

TEST(inotify_hostile_arguments)
{
	enter();
	int plain = EXPECT_OK(open(".", O_RDONLY));
	EXPECT_ERRNO(inotify_init1(1), EINVAL);
	EXPECT_ERRNO(inotify_add_watch(ino, BAD_ADDR, IN_ALL_EVENTS), EFAULT);
	EXPECT_ERRNO(inotify_add_watch(ino, "", IN_ALL_EVENTS), ENOENT);
	EXPECT_ERRNO(inotify_add_watch(ino, "none", IN_ALL_EVENTS), ENOENT);
	EXPECT_ERRNO(inotify_add_watch(ino, ".", 0), EINVAL);
	EXPECT_ERRNO(inotify_add_watch(ino, ".", 0x00100000), EINVAL);
	EXPECT_ERRNO(inotify_add_watch(-1, ".", 0), EINVAL);
	EXPECT_ERRNO(inotify_add_watch(-1, ".", IN_OPEN), EBADF);
	EXPECT_ERRNO(inotify_add_watch(plain, ".", IN_OPEN), EINVAL);
	EXPECT_ERRNO(inotify_add_watch(ino, ".", IN_OPEN | IN_MASK_ADD | IN_MASK_CREATE), EINVAL);
	EXPECT_ERRNO(inotify_rm_watch(ino, 1), EINVAL);
	EXPECT_ERRNO(inotify_rm_watch(ino, -1), EINVAL);
	EXPECT_ERRNO(inotify_rm_watch(plain, 1), EINVAL);
	EXPECT_ERRNO(inotify_rm_watch(-1, 1), EBADF);
	EXPECT_OK(inotify_add_watch(ino, ".", IN_CREATE));
	touch("f");
	char small[16];
	EXPECT_ERRNO(read(ino, small, sizeof(small)), EINVAL);
	EXPECT_ERRNO(read(ino, small, 0), EINVAL);
	EXPECT_ERRNO(write(ino, small, sizeof(small)), EBADF);
	EXPECT_ERRNO(read(ino, BAD_ADDR, 4096), EFAULT);
}

TEST(inotify_watch_flags)
{
	enter();
	touch("f");
	EXPECT_OK(symlink("f", "s"));
	EXPECT_ERRNO(inotify_add_watch(ino, "f", IN_OPEN | IN_ONLYDIR), ENOTDIR);
	int wd = EXPECT_OK(inotify_add_watch(ino, "f", IN_OPEN));
	EXPECT_EQ(wd, 1);
	EXPECT_EQ(inotify_add_watch(ino, "s", IN_OPEN), wd);
	EXPECT_EQ(inotify_add_watch(ino, "s", IN_OPEN | IN_DONT_FOLLOW), 2);
	EXPECT_ERRNO(inotify_add_watch(ino, "f", IN_OPEN | IN_MASK_CREATE), EEXIST);
	EXPECT_EQ(inotify_add_watch(ino, "f", IN_CLOSE | IN_MASK_ADD), wd);
	close(EXPECT_OK(open("f", O_RDONLY)));
	EXPECT_STR(events(), "1:open 1:close");
	EXPECT_EQ(inotify_add_watch(ino, "f", IN_CLOSE), wd);
	close(EXPECT_OK(open("f", O_RDONLY)));
	EXPECT_STR(events(), "1:close");
	EXPECT_OK(inotify_rm_watch(ino, wd));
	EXPECT_STR(events(), "1:ignored");
	EXPECT_ERRNO(inotify_rm_watch(ino, wd), EINVAL);
	EXPECT_EQ(inotify_add_watch(ino, "f", IN_OPEN), 3);
}

TEST(inotify_directory_events)
{
	enter();
	EXPECT_OK(mkdir("d", 0755));
	EXPECT_OK(inotify_add_watch(ino, "d", IN_ALL_EVENTS));
	int fd = EXPECT_OK(open("d/file", O_CREAT | O_RDWR, 0644));
	EXPECT_EQ(write(fd, "text", 4), 4);
	EXPECT_EQ(write(fd, "more", 4), 4);
	EXPECT_EQ(pread(fd, (char[8]){0}, 8, 0), 8);
	close(fd);
	EXPECT_STR(events(),
		   "1:create(file) 1:open(file) 1:modify(file) 1:access(file) 1:closew(file)");
	EXPECT_OK(mkdir("d/sub", 0755));
	EXPECT_OK(symlink("file", "d/link"));
	EXPECT_OK(mknod("d/node", S_IFIFO | 0644, 0));
	EXPECT_OK(link("d/file", "d/hard"));
	EXPECT_STR(events(), "1:create|dir(sub) 1:create(link) 1:create(node) 1:create(hard)");
	EXPECT_OK(chmod("d/file", 0600));
	EXPECT_OK(chown("d/file", 0, 0));
	EXPECT_OK(utimensat(AT_FDCWD, "d/file", NULL, 0));
	EXPECT_OK(chmod("d/sub", 0700));
	EXPECT_OK(truncate("d/file", 2));
	EXPECT_STR(events(), "1:attrib(file) 1:attrib|dir(sub) 1:modify(file)");
	EXPECT_OK(unlink("d/hard"));
	EXPECT_OK(unlink("d/file"));
	EXPECT_OK(rmdir("d/sub"));
	EXPECT_STR(events(), "1:delete(hard) 1:delete(file) 1:delete|dir(sub)");
}

TEST(inotify_directory_itself)
{
	enter();
	EXPECT_OK(mkdir("d", 0755));
	EXPECT_OK(inotify_add_watch(ino, "d", IN_ALL_EVENTS));
	int fd = EXPECT_OK(open("d", O_RDONLY | O_DIRECTORY));
	char buf[1024];
	EXPECT(syscall(SYS_getdents64, fd, buf, sizeof(buf)) > 0);
	close(fd);
	EXPECT_OK(chmod("d", 0700));
	EXPECT_STR(events(), "1:open|dir 1:access|dir 1:close|dir 1:attrib|dir");
	EXPECT_OK(rename("d", "e"));
	EXPECT_STR(events(), "1:moved");
	EXPECT_OK(rmdir("e"));
	EXPECT_STR(events(), "1:gone 1:ignored");
	EXPECT_ERRNO(inotify_rm_watch(ino, 1), EINVAL);
}

TEST(inotify_moves_have_cookies)
{
	enter();
	EXPECT_OK(mkdir("a", 0755));
	EXPECT_OK(mkdir("b", 0755));
	touch("a/f");
	touch("b/old");
	EXPECT_OK(mkdir("a/sub", 0755));
	EXPECT_OK(inotify_add_watch(ino, "a", IN_MOVE | IN_DELETE | IN_CREATE));
	EXPECT_OK(inotify_add_watch(ino, "b", IN_MOVE | IN_DELETE | IN_CREATE));
	EXPECT_OK(inotify_add_watch(ino, "a/f", IN_MOVE_SELF));
	EXPECT_OK(inotify_add_watch(ino, "b/old", IN_ATTRIB | IN_DELETE_SELF));
	EXPECT_OK(rename("a/f", "a/g"));
	EXPECT_STR(events(), "1:from(f)=1 1:to(g)=1 3:moved");
	EXPECT_OK(rename("a/g", "b/old"));
	EXPECT_STR(events(), "1:from(g)=1 2:to(old)=1 4:attrib 3:moved 4:gone 4:ignored");
	EXPECT_OK(rename("a/sub", "b/sub"));
	EXPECT_STR(events(), "1:from|dir(sub)=1 2:to|dir(sub)=1");
	EXPECT_OK(rename("b/sub", "sub"));
	EXPECT_OK(rename("sub", "a/sub"));
	EXPECT_STR(events(), "2:from|dir(sub)=1 1:to|dir(sub)=2");
}

TEST(inotify_exchange_moves_both)
{
	enter();
	touch("x");
	touch("y");
	EXPECT_OK(inotify_add_watch(ino, ".", IN_MOVE));
	EXPECT_OK(inotify_add_watch(ino, "x", IN_MOVE_SELF));
	EXPECT_OK(inotify_add_watch(ino, "y", IN_MOVE_SELF));
	if (syscall(SYS_renameat2, AT_FDCWD, "x", AT_FDCWD, "y", 2 /* RENAME_EXCHANGE */))
		test_skip("no RENAME_EXCHANGE here");
	EXPECT_STR(events(), "1:from(x)=1 1:to(y)=1 2:moved 1:from(y)=2 1:to(x)=2 3:moved");
}

TEST(inotify_file_and_its_directory)
{
	enter();
	touch("f");
	EXPECT_OK(inotify_add_watch(ino, "f", IN_ALL_EVENTS));
	EXPECT_OK(inotify_add_watch(ino, ".", IN_OPEN | IN_MODIFY));
	int fd = EXPECT_OK(open("f", O_WRONLY | O_APPEND));
	EXPECT_EQ(write(fd, "x", 1), 1);
	EXPECT_OK(ftruncate(fd, 0));
	EXPECT_OK(fchmod(fd, 0600));
	close(fd);
	EXPECT_STR(events(), "2:open(f) 1:open 2:modify(f) 1:modify 2:modify(f) 1:modify 1:attrib "
			     "1:closew");
}

TEST(inotify_unlinked_while_open)
{
	enter();
	touch("f");
	EXPECT_OK(inotify_add_watch(ino, "f", IN_ALL_EVENTS));
	int fd = EXPECT_OK(open("f", O_RDWR));
	EXPECT_OK(unlink("f"));
	EXPECT_STR(events(), "1:open 1:attrib");
	EXPECT_EQ(write(fd, "x", 1), 1);
	EXPECT_STR(events(), "1:modify");
	close(fd);
	EXPECT_STR(events(), "1:closew 1:gone 1:ignored");
}

TEST(inotify_deleted_before_its_directory_says_so)
{
	enter();
	touch("f");
	EXPECT_OK(inotify_add_watch(ino, "f", IN_ALL_EVENTS));
	EXPECT_OK(inotify_add_watch(ino, ".", IN_DELETE));
	EXPECT_OK(link("f", "g"));
	EXPECT_STR(events(), "1:attrib");
	EXPECT_OK(unlink("g"));
	EXPECT_STR(events(), "1:attrib 2:delete(g)");
	EXPECT_OK(unlink("f"));
	EXPECT_STR(events(), "1:attrib 1:gone 1:ignored 2:delete(f)");
}

TEST(inotify_excl_unlink)
{
	enter();
	touch("f");
	touch("g");
	EXPECT_OK(inotify_add_watch(ino, ".", IN_MODIFY | IN_EXCL_UNLINK));
	int f = EXPECT_OK(open("f", O_RDWR)), g = EXPECT_OK(open("g", O_RDWR));
	EXPECT_OK(unlink("f"));
	EXPECT_EQ(write(f, "x", 1), 1);
	EXPECT_EQ(write(g, "x", 1), 1);
	EXPECT_STR(events(), "1:modify(g)");
	int other = ino;
	ino = EXPECT_OK(inotify_init1(IN_NONBLOCK));
	EXPECT_OK(inotify_add_watch(ino, ".", IN_MODIFY));
	EXPECT_EQ(write(f, "x", 1), 1);
	EXPECT_STR(events(), "1:modify(f)");
	close(other);
}

TEST(inotify_oneshot)
{
	enter();
	touch("f");
	EXPECT_OK(inotify_add_watch(ino, "f", IN_OPEN | IN_ONESHOT));
	close(EXPECT_OK(open("f", O_RDONLY)));
	close(EXPECT_OK(open("f", O_RDONLY)));
	EXPECT_STR(events(), "1:open 1:ignored");
	EXPECT_ERRNO(inotify_rm_watch(ino, 1), EINVAL);
}

TEST(inotify_open_that_truncates)
{
	enter();
	touch("f");
	EXPECT_OK(inotify_add_watch(ino, "f", IN_ALL_EVENTS));
	close(EXPECT_OK(open("f", O_WRONLY | O_TRUNC)));
	const char *got = events();
	/* Kernels differ in which comes first. */
	EXPECT(!strcmp(got, "1:open 1:modify 1:closew") ||
	       !strcmp(got, "1:modify 1:open 1:closew"));
	close(EXPECT_OK(open("f", O_PATH)));
	EXPECT_STR(events(), "");
	int fd = EXPECT_OK(open("f", O_WRONLY));
	EXPECT_OK(fallocate(fd, 0, 0, 100));
	EXPECT_STR(events(), "1:open 1:modify");
	if (!setxattr("f", "user.x", "1", 1, 0)) {
		EXPECT_STR(events(), "1:attrib");
		EXPECT_OK(removexattr("f", "user.x"));
		EXPECT_STR(events(), "1:attrib");
	}
}

TEST(inotify_repeated_events_are_one)
{
	enter();
	touch("f");
	EXPECT_OK(inotify_add_watch(ino, ".", IN_MODIFY | IN_ATTRIB));
	int fd = EXPECT_OK(open("f", O_WRONLY));
	for (int i = 0; i < 5; i++)
		EXPECT_EQ(write(fd, "x", 1), 1);
	EXPECT_OK(fchmod(fd, 0600));
	EXPECT_EQ(write(fd, "x", 1), 1);
	int bytes;
	EXPECT_OK(ioctl(ino, FIONREAD, &bytes));
	EXPECT_EQ(bytes, 3 * 32);
	EXPECT_STR(events(), "1:modify(f) 1:attrib(f) 1:modify(f)");
	EXPECT_OK(ioctl(ino, FIONREAD, &bytes));
	EXPECT_EQ(bytes, 0);
}

TEST(inotify_reads_what_fits)
{
	enter();
	EXPECT_OK(inotify_add_watch(ino, ".", IN_CREATE));
	touch("a");
	touch("bb");
	touch("a-name-of-more-than-sixteen-bytes");
	char buf[80];
	EXPECT_EQ(read(ino, buf, sizeof(buf)), 64);
	EXPECT_EQ(read(ino, buf, 63), -1);
	EXPECT_EQ(errno, EINVAL);
	EXPECT_EQ(read(ino, buf, 64), 16 + 48);
	EXPECT_ERRNO(read(ino, buf, 64), EAGAIN);
}

static void touch_later(void *arg)
{
	(void)arg;
	test_sleep_ms(100);
	touch("late");
}

TEST(inotify_read_waits_and_poll_tells)
{
	enter();
	EXPECT_OK(inotify_add_watch(ino, ".", IN_CREATE));
	EXPECT_OK(fcntl(ino, F_SETFL, 0));
	struct pollfd p = {.fd = ino, .events = POLLIN};
	EXPECT_EQ(poll(&p, 1, 0), 0);
	pid_t pid = EXPECT_OK(fork());
	if (!pid) {
		touch_later(NULL);
		_exit(0);
	}
	EXPECT_STR(events(), "1:create(late)");
	EXPECT_EQ(waitpid(pid, NULL, 0), pid);
	touch("again");
	EXPECT_EQ(poll(&p, 1, 5000), 1);
	EXPECT_EQ(p.revents, POLLIN);
	EXPECT_STR(events(), "1:create(again)");
}

TEST(inotify_overflow)
{
	enter();
	int limit = 0;
	FILE *f = fopen("/proc/sys/fs/inotify/max_queued_events", "r");
	EXPECT(f && fscanf(f, "%d", &limit) == 1 && limit > 0);
	fclose(f);
	if (limit > 20000)
		test_skip("the queue is long here");
	EXPECT_OK(inotify_add_watch(ino, ".", IN_MODIFY | IN_ATTRIB));
	int fd = EXPECT_OK(open("f", O_CREAT | O_WRONLY, 0644));
	for (int i = 0; i < limit; i++) {
		EXPECT_EQ(pwrite(fd, "x", 1, 0), 1);
		EXPECT_OK(fchmod(fd, 0644));
	}
	char *buf = malloc(1 << 21);
	ssize_t n = EXPECT_OK(read(ino, buf, 1 << 21)), at = 0;
	struct inotify_event *e = NULL;
	int count = 0;
	for (; at < n; count++) {
		e = (void *)(buf + at);
		at += (ssize_t)(sizeof(*e) + e->len);
	}
	EXPECT_EQ(count, limit + 1);
	EXPECT_EQ(e->wd, -1);
	EXPECT_EQ(e->mask, IN_Q_OVERFLOW);
	EXPECT_EQ(e->len, 0);
	EXPECT_STR(events(), "");
}

TEST(inotify_limit_of_instances)
{
	int limit = 0, fds[1024], n = 0;
	FILE *f = fopen("/proc/sys/fs/inotify/max_user_instances", "r");
	EXPECT(f && fscanf(f, "%d", &limit) == 1 && limit > 0);
	fclose(f);
	if (limit > 1000)
		test_skip("many instances are allowed here");
	while (n < 1024 && (fds[n] = inotify_init1(0)) >= 0)
		n++;
	EXPECT_EQ(errno, EMFILE);
	EXPECT(n <= limit);
	while (n)
		close(fds[--n]);
	close(EXPECT_OK(inotify_init1(0)));
}

TEST(inotify_needs_read_permission)
{
	enter();
	EXPECT_OK(mkdir("d", 0711));
	touch("f");
	EXPECT_OK(chmod("f", 0200));
	EXPECT_OK(chmod(".", 0755));
	EXPECT_OK(setresuid(1000, 1000, 1000));
	EXPECT_ERRNO(inotify_add_watch(ino, "f", IN_OPEN), EACCES);
	EXPECT_ERRNO(inotify_add_watch(ino, "d", IN_OPEN), EACCES);
	EXPECT_OK(inotify_add_watch(ino, ".", IN_OPEN));
}

TEST(inotify_fdinfo_lists_watches)
{
	enter();
	touch("f");
	struct stat st;
	EXPECT_OK(stat("f", &st));
	EXPECT_OK(inotify_add_watch(ino, "f", IN_OPEN | IN_CLOSE));
	char name[64], line[512];
	bool found = false;
	sprintf(name, "/proc/self/fdinfo/%d", ino);
	FILE *f = fopen(name, "r");
	EXPECT(f);
	while (fgets(line, sizeof(line), f)) {
		unsigned wd, sdev, mask;
		unsigned long in;
		if (sscanf(line, "inotify wd:%x ino:%lx sdev:%x mask:%x", &wd, &in, &sdev, &mask) !=
		    4)
			continue;
		found = true;
		EXPECT_EQ(wd, 1);
		EXPECT_EQ(in, st.st_ino);
		EXPECT_EQ(mask & IN_ALL_EVENTS, IN_OPEN | IN_CLOSE);
	}
	EXPECT(found);
	fclose(f);
}

TEST(inotify_instances_are_apart)
{
	enter();
	int first = ino;
	touch("f");
	EXPECT_OK(inotify_add_watch(ino, "f", IN_OPEN));
	ino = EXPECT_OK(inotify_init1(IN_NONBLOCK));
	EXPECT_OK(inotify_add_watch(ino, ".", IN_OPEN));
	EXPECT_OK(inotify_add_watch(ino, "f", IN_ATTRIB));
	close(EXPECT_OK(open("f", O_RDONLY)));
	EXPECT_OK(chmod("f", 0600));
	EXPECT_STR(events(), "1:open(f) 2:attrib");
	close(ino);
	ino = first;
	EXPECT_STR(events(), "1:open");
}
