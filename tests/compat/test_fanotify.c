/* fanotify(7): groups, marks, what events say, questions and answers, limits. */
#include "tests/compat/compat.h"

#include <poll.h>
#include <sys/fanotify.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/statfs.h>

#ifndef FAN_REPORT_FD_ERROR
#define FAN_REPORT_FD_ERROR 0x2000
#endif

static int group; /* under test */

static void enter(unsigned flags)
{
	EXPECT_OK(chdir(test_dir()));
	umask(022);
	group = EXPECT_OK(fanotify_init(flags | FAN_NONBLOCK | FAN_CLOEXEC, O_RDONLY));
}

static void touch(const char *name)
{
	int fd = EXPECT_OK(open(name, O_CREAT | O_RDWR, 0644));
	EXPECT_EQ(write(fd, "text", 4), 4);
	close(fd);
}

static int mark(unsigned flags, uint64_t mask, const char *name)
{
	return fanotify_mark(group, flags, mask, AT_FDCWD, name);
}

static char *put_mask(char *to, uint64_t mask)
{
	static const struct {
		uint64_t bit;
		const char *name;
	} names[] = {
		{FAN_ACCESS, "access"},
		{FAN_MODIFY, "modify"},
		{FAN_ATTRIB, "attrib"},
		{FAN_CLOSE_WRITE, "closew"},
		{FAN_CLOSE_NOWRITE, "close"},
		{FAN_OPEN, "open"},
		{FAN_MOVED_FROM, "from"},
		{FAN_MOVED_TO, "to"},
		{FAN_CREATE, "create"},
		{FAN_DELETE, "delete"},
		{FAN_DELETE_SELF, "gone"},
		{FAN_MOVE_SELF, "moved"},
		{FAN_OPEN_EXEC, "exec"},
		{FAN_Q_OVERFLOW, "overflow"},
		{FAN_OPEN_PERM, "open?"},
		{FAN_ACCESS_PERM, "access?"},
		{FAN_OPEN_EXEC_PERM, "exec?"},
		{FAN_RENAME, "rename"},
		{FAN_ONDIR, "dir"},
	};
	bool any = false;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (mask & names[i].bit) {
			to += sprintf(to, "%s%s", any ? "|" : "", names[i].name);
			any = true;
			mask &= ~names[i].bit;
		}
	}
	EXPECT_EQ(mask, 0);
	return to;
}

/* The last part of the name that the descriptor has. */
static char *put_fd(char *to, int fd)
{
	char path[64], name[4096];

	sprintf(path, "/proc/self/fd/%d", fd);
	ssize_t n = EXPECT_OK(readlink(path, name, sizeof(name) - 1));
	name[n] = 0;
	close(fd);
	return to + sprintf(to, "(%s)", strrchr(name, '/') + 1);
}

/* A record of a file: its type, its name, and what the handle is, of the files given. */
static const char *known[8];
static char *put_fid(char *to, const struct fanotify_event_info_fid *r)
{
	static const char *const types[] = {
		[FAN_EVENT_INFO_TYPE_FID] = "fid",
		[FAN_EVENT_INFO_TYPE_DFID_NAME] = "name",
		[FAN_EVENT_INFO_TYPE_DFID] = "dir",
		[FAN_EVENT_INFO_TYPE_OLD_DFID_NAME] = "old",
		[FAN_EVENT_INFO_TYPE_NEW_DFID_NAME] = "new",
	};
	const struct file_handle *h = (const void *)r->handle;
	struct {
		struct file_handle h;
		char room[128];
	} own;
	struct statfs st;
	int id;

	EXPECT_OK(statfs(".", &st));
	EXPECT(!memcmp(&r->fsid, &st.f_fsid, sizeof(r->fsid)));
	EXPECT_EQ(r->hdr.len % 4, 0);
	to += sprintf(to, "[%s", types[r->hdr.info_type]);
	for (int i = 0; i < 8 && known[i]; i++) {
		own.h.handle_bytes = sizeof(own.room);
		if (name_to_handle_at(AT_FDCWD, known[i], &own.h, &id, 0))
			continue;
		if (own.h.handle_bytes == h->handle_bytes && own.h.handle_type == h->handle_type &&
		    !memcmp(own.h.f_handle, h->f_handle, h->handle_bytes))
			to += sprintf(to, " %s", known[i]);
	}
	const char *name = (const char *)h->f_handle + h->handle_bytes;
	if (name < (const char *)r + r->hdr.len &&
	    (r->hdr.info_type == FAN_EVENT_INFO_TYPE_DFID_NAME || r->hdr.info_type >= 10))
		to += sprintf(to, "/%s", name);
	return to + sprintf(to, "]");
}

/* What is queued, as "mask(file)[records]" words. */
static const char *events(void)
{
	static char text[16384];
	static char buf[65536] __attribute__((aligned(8)));
	char *to = text;

	text[0] = 0;
	ssize_t n = read(group, buf, sizeof(buf));
	if (n < 0)
		EXPECT_EQ(errno, EAGAIN);
	for (ssize_t at = 0; at < n;) {
		const struct fanotify_event_metadata *e = (const void *)(buf + at);
		EXPECT_EQ(e->vers, FANOTIFY_METADATA_VERSION);
		EXPECT_EQ(e->metadata_len, sizeof(*e));
		if (!(e->mask & FAN_Q_OVERFLOW))
			EXPECT_EQ(e->pid, getpid());
		if (at)
			*to++ = ' ';
		to = put_mask(to, e->mask);
		if (e->fd >= 0)
			to = put_fd(to, e->fd);
		for (size_t r = sizeof(*e); r < e->event_len;) {
			const struct fanotify_event_info_header *h =
				(const void *)((const char *)e + r);
			if (h->info_type == FAN_EVENT_INFO_TYPE_PIDFD)
				to += sprintf(to, "[pidfd]");
			else
				to = put_fid(to, (const void *)h);
			r += h->len;
		}
		at += e->event_len;
	}
	return text;
}

TEST(fanotify_hostile_arguments)
{
	enter(0);
	int plain = EXPECT_OK(open(".", O_RDONLY));
	EXPECT_ERRNO(fanotify_init(0x80000000, 0), EINVAL);
	EXPECT_ERRNO(fanotify_init(FAN_CLASS_CONTENT | FAN_CLASS_PRE_CONTENT, 0), EINVAL);
	EXPECT_ERRNO(fanotify_init(0, 3), EINVAL);
	EXPECT_ERRNO(fanotify_init(0, O_CREAT), EINVAL);
	EXPECT_ERRNO(fanotify_init(FAN_REPORT_NAME, 0), EINVAL);
	EXPECT_ERRNO(fanotify_init(FAN_REPORT_FID | FAN_CLASS_CONTENT, 0), EINVAL);
	EXPECT_ERRNO(fanotify_init(FAN_REPORT_TARGET_FID | FAN_REPORT_FID, 0), EINVAL);
	EXPECT_ERRNO(fanotify_init(FAN_REPORT_PIDFD | FAN_REPORT_TID, 0), EINVAL);
	EXPECT_ERRNO(mark(FAN_MARK_ADD, 0, "."), EINVAL);
	EXPECT_ERRNO(mark(0, FAN_OPEN, "."), EINVAL);
	EXPECT_ERRNO(mark(FAN_MARK_ADD | FAN_MARK_REMOVE, FAN_OPEN, "."), EINVAL);
	EXPECT_ERRNO(mark(0x80000000 | FAN_MARK_ADD, FAN_OPEN, "."), EINVAL);
	EXPECT_ERRNO(mark(FAN_MARK_ADD, 1ULL << 40, "."), EINVAL);
	EXPECT_ERRNO(mark(FAN_MARK_ADD, 0x2000, "."), EINVAL);
	EXPECT_ERRNO(mark(FAN_MARK_ADD, FAN_OPEN_PERM, "."), EINVAL);
	EXPECT_ERRNO(mark(FAN_MARK_ADD, FAN_CREATE, "."), EINVAL);
	EXPECT_ERRNO(mark(FAN_MARK_ADD | FAN_MARK_IGNORE | FAN_MARK_IGNORED_MASK, FAN_OPEN, "."),
		     EINVAL);
	EXPECT_ERRNO(mark(FAN_MARK_ADD | FAN_MARK_MOUNT | FAN_MARK_EVICTABLE, FAN_OPEN, "."),
		     EINVAL);
	EXPECT_ERRNO(mark(FAN_MARK_FLUSH | FAN_MARK_ONLYDIR, 0, NULL), EINVAL);
	EXPECT_ERRNO(mark(FAN_MARK_ADD, FAN_OPEN, "none"), ENOENT);
	EXPECT_ERRNO(mark(FAN_MARK_ADD, FAN_OPEN, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(fanotify_mark(group, FAN_MARK_ADD, FAN_OPEN, -1, NULL), EBADF);
	EXPECT_ERRNO(fanotify_mark(plain, FAN_MARK_ADD, FAN_OPEN, AT_FDCWD, "."), EINVAL);
	EXPECT_ERRNO(fanotify_mark(-1, FAN_MARK_ADD, FAN_OPEN, AT_FDCWD, "."), EBADF);
	EXPECT_ERRNO(mark(FAN_MARK_REMOVE, FAN_OPEN, "."), ENOENT);
	touch("f");
	EXPECT_ERRNO(mark(FAN_MARK_ADD | FAN_MARK_ONLYDIR, FAN_OPEN, "f"), ENOTDIR);
	EXPECT_ERRNO(read(group, BAD_ADDR, 100), EAGAIN);
	EXPECT_ERRNO(write(group, "12345678", 8), EINVAL);
}

TEST(fanotify_events_bring_open_files)
{
	enter(0);
	touch("f");
	EXPECT_OK(mark(FAN_MARK_ADD, FAN_OPEN | FAN_ACCESS | FAN_MODIFY | FAN_CLOSE, "f"));
	touch("f");
	touch("other");
	EXPECT_STR(events(), "modify|closew|open(f)");
	int fd = EXPECT_OK(open("f", O_RDONLY));
	char c;
	EXPECT_EQ(read(fd, &c, 1), 1);
	EXPECT_STR(events(), "access|open(f)");
	close(fd);
	EXPECT_STR(events(), "close(f)");
	EXPECT_OK(truncate("f", 1)); /* without a file there is no event */
	EXPECT_STR(events(), "");
	EXPECT_OK(mark(FAN_MARK_REMOVE, FAN_OPEN, "f"));
	touch("f");
	EXPECT_STR(events(), "modify|closew(f)");
	EXPECT_OK(mark(FAN_MARK_FLUSH, 0, NULL));
	touch("f");
	EXPECT_STR(events(), "");
}

TEST(fanotify_directories_hear_of_children_if_they_ask)
{
	enter(0);
	EXPECT_OK(mkdir("d", 0755));
	EXPECT_OK(mkdir("d/sub", 0755));
	EXPECT_OK(mark(FAN_MARK_ADD, FAN_OPEN, "d"));
	touch("d/f");
	EXPECT_STR(events(), "");
	EXPECT_OK(mark(FAN_MARK_ADD, FAN_EVENT_ON_CHILD, "d"));
	touch("d/f");
	close(EXPECT_OK(open("d/sub", O_RDONLY)));
	close(EXPECT_OK(open("d", O_RDONLY)));
	EXPECT_STR(events(), "open(f)");
	EXPECT_OK(mark(FAN_MARK_ADD, FAN_ONDIR, "d"));
	close(EXPECT_OK(open("d/sub", O_RDONLY)));
	close(EXPECT_OK(open("d", O_RDONLY)));
	EXPECT_STR(events(), "open(sub) open(d)");
}

TEST(fanotify_ignore_masks)
{
	enter(0);
	touch("f");
	EXPECT_OK(mark(FAN_MARK_ADD, FAN_OPEN | FAN_CLOSE_WRITE | FAN_EVENT_ON_CHILD, "."));
	EXPECT_OK(mark(FAN_MARK_ADD | FAN_MARK_IGNORED_MASK, FAN_OPEN, "f"));
	touch("f"); /* the change ends it */
	EXPECT_STR(events(), "closew(f)");
	touch("f");
	EXPECT_STR(events(), "closew|open(f)");
	EXPECT_OK(mark(FAN_MARK_ADD | FAN_MARK_IGNORED_MASK | FAN_MARK_IGNORED_SURV_MODIFY,
		       FAN_OPEN, "f"));
	touch("f");
	touch("f");
	EXPECT_STR(events(), "closew(f)");
	EXPECT_OK(mark(FAN_MARK_REMOVE | FAN_MARK_IGNORED_MASK, FAN_OPEN, "f"));
	EXPECT_ERRNO(mark(FAN_MARK_ADD | FAN_MARK_IGNORE, FAN_OPEN, "."), EISDIR);
	EXPECT_ERRNO(mark(FAN_MARK_ADD | FAN_MARK_IGNORE | FAN_MARK_MOUNT, FAN_OPEN, "."), EINVAL);
	EXPECT_OK(mark(FAN_MARK_ADD | FAN_MARK_IGNORE_SURV, FAN_OPEN | FAN_EVENT_ON_CHILD, "."));
	EXPECT_ERRNO(mark(FAN_MARK_ADD | FAN_MARK_IGNORED_MASK, FAN_OPEN, "."), EEXIST);
	touch("f");
	EXPECT_STR(events(), "closew(f)");
}

/* A tmpfs of its own at "m", where only the test makes events. */
static void enter_mount(unsigned flags)
{
	enter(flags);
	EXPECT_OK(mkdir("m", 0755));
	if (mount("t", "m", "tmpfs", 0, NULL))
		test_skip("may not mount");
	EXPECT_OK(chdir("m"));
}

static void leave_mount(void)
{
	EXPECT_OK(chdir(".."));
	close(group);
	EXPECT_OK(umount2("m", MNT_DETACH));
}

TEST(fanotify_mounts_and_file_systems)
{
	enter_mount(0);
	EXPECT_OK(mkdir("a", 0755));
	EXPECT_OK(mkdir("b", 0755));
	EXPECT_OK(mount("a", "b", NULL, MS_BIND, NULL));
	EXPECT_OK(mark(FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_CLOSE_WRITE, "b"));
	touch("a/x");
	touch("b/y");
	EXPECT_STR(events(), "closew(y)");
	EXPECT_OK(mark(FAN_MARK_ADD | FAN_MARK_FILESYSTEM, FAN_OPEN, "."));
	touch("a/x");
	touch("b/y");
	EXPECT_STR(events(), "open(x) closew|open(y)");
	EXPECT_OK(mark(FAN_MARK_FLUSH | FAN_MARK_FILESYSTEM, 0, NULL));
	touch("a/x");
	EXPECT_STR(events(), "");
	EXPECT_ERRNO(mark(FAN_MARK_REMOVE | FAN_MARK_FILESYSTEM, FAN_OPEN, "."), ENOENT);
	EXPECT_OK(umount2("b", MNT_DETACH));
	int p[2];
	EXPECT_OK(pipe(p));
	EXPECT_ERRNO(fanotify_mark(group, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, FAN_OPEN, p[0], NULL),
		     EINVAL);
	leave_mount();
}

TEST(fanotify_fid_records_of_entries)
{
	enter_mount(FAN_REPORT_FID | FAN_REPORT_DFID_NAME);
	known[0] = ".";
	known[1] = "d";
	known[2] = "f";
	EXPECT_OK(mkdir("d", 0755));
	EXPECT_OK(mark(FAN_MARK_ADD, FAN_CREATE | FAN_DELETE | FAN_MOVE | FAN_RENAME | FAN_ONDIR,
		       "."));
	touch("f");
	EXPECT_STR(events(), "create[name ./f]");
	EXPECT_OK(mkdir("e", 0755));
	EXPECT_STR(events(), "create|dir[name ./e]");
	EXPECT_OK(rmdir("e"));
	EXPECT_STR(events(), "delete|dir[name ./e]");
	EXPECT_OK(rename("f", "g"));
	EXPECT_STR(events(), "rename[old ./f][new ./g] from[name ./f] to[name ./g]");
	EXPECT_OK(rename("g", "d/g"));
	EXPECT_STR(events(), "rename[old ./g] from[name ./g]");
	EXPECT_OK(rename("d/g", "f"));
	EXPECT_STR(events(), "rename[new ./f] to[name ./f]");
	EXPECT_OK(unlink("f"));
	EXPECT_STR(events(), "delete[name ./f]");
	leave_mount();
}

TEST(fanotify_fid_records_of_files)
{
	enter_mount(FAN_REPORT_FID | FAN_REPORT_DFID_NAME);
	known[0] = ".";
	known[1] = "d";
	known[2] = "f";
	touch("f");
	EXPECT_OK(mkdir("d", 0755));
	EXPECT_OK(mark(FAN_MARK_ADD | FAN_MARK_FILESYSTEM,
		       FAN_ATTRIB | FAN_MODIFY | FAN_DELETE_SELF | FAN_MOVE_SELF | FAN_ONDIR, "."));
	EXPECT_OK(chmod("f", 0600));
	EXPECT_STR(events(), "attrib[name ./f][fid f]");
	EXPECT_OK(truncate("f", 1));
	EXPECT_STR(events(), "modify[name ./f][fid f]");
	EXPECT_OK(chmod("d", 0700));
	EXPECT_STR(events(), "attrib|dir[name d/.]");
	EXPECT_OK(rmdir("d"));
	EXPECT_STR(events(), "gone|dir[name/.]");
	leave_mount();
}

TEST(fanotify_fid_records_without_names)
{
	enter_mount(FAN_REPORT_FID);
	known[0] = ".";
	known[1] = "f";
	touch("f");
	EXPECT_OK(mark(FAN_MARK_ADD | FAN_MARK_FILESYSTEM, FAN_ATTRIB | FAN_CREATE, "."));
	EXPECT_OK(chmod("f", 0600));
	EXPECT_STR(events(), "attrib[fid f]");
	touch("g");
	EXPECT_STR(events(), "create[fid .]");
	close(group);
	group = EXPECT_OK(fanotify_init(FAN_REPORT_DIR_FID | FAN_NONBLOCK, 0));
	EXPECT_OK(mark(FAN_MARK_ADD | FAN_MARK_FILESYSTEM, FAN_ATTRIB | FAN_CREATE, "."));
	EXPECT_OK(chmod("f", 0600));
	touch("h");
	EXPECT_STR(events(), "attrib|create[dir .]");
	close(group);
	group = EXPECT_OK(fanotify_init(FAN_REPORT_DFID_NAME_TARGET | FAN_NONBLOCK, 0));
	EXPECT_OK(mark(FAN_MARK_ADD, FAN_CREATE | FAN_ONDIR, "."));
	known[1] = "i";
	touch("i");
	EXPECT_STR(events(), "create[name ./i][fid i]");
	EXPECT_ERRNO(mark(FAN_MARK_ADD, FAN_CREATE, "f"), ENOTDIR);
	leave_mount();
}

/* The handle in an event leads to the directory. */
TEST(fanotify_handles_open)
{
	char buf[4096] __attribute__((aligned(8)));

	enter_mount(FAN_REPORT_DFID_NAME);
	EXPECT_OK(mkdir("d", 0755));
	EXPECT_OK(mark(FAN_MARK_ADD | FAN_MARK_FILESYSTEM, FAN_CREATE, "."));
	touch("d/f");
	ssize_t n = EXPECT_OK(read(group, buf, sizeof(buf)));
	struct fanotify_event_metadata *e = (void *)buf;
	EXPECT_EQ(e->event_len, n);
	EXPECT_EQ(e->fd, FAN_NOFD);
	struct fanotify_event_info_fid *r = (void *)(e + 1);
	int m = EXPECT_OK(open(".", O_RDONLY));
	int d = EXPECT_OK(open_by_handle_at(m, (struct file_handle *)r->handle, O_RDONLY));
	struct stat a, b;
	EXPECT_OK(fstat(d, &a));
	EXPECT_OK(stat("d", &b));
	EXPECT_EQ(a.st_ino, b.st_ino);
	close(d);
	close(m);
	leave_mount();
}

TEST(fanotify_pidfd_and_tid)
{
	char buf[4096] __attribute__((aligned(8)));

	enter(FAN_REPORT_PIDFD);
	touch("f");
	EXPECT_OK(mark(FAN_MARK_ADD, FAN_OPEN, "f"));
	pid_t pid = EXPECT_OK(fork());
	if (!pid) {
		close(open("f", O_RDONLY));
		_exit(0);
	}
	siginfo_t si;
	EXPECT_OK(waitid(P_PID, pid, &si, WEXITED | WNOWAIT));
	EXPECT_OK(read(group, buf, sizeof(buf)));
	struct fanotify_event_metadata *e = (void *)buf;
	EXPECT_EQ(e->event_len, sizeof(*e) + 8);
	EXPECT_EQ(e->pid, pid);
	struct fanotify_event_info_pidfd *r = (void *)(e + 1);
	EXPECT_EQ(r->hdr.info_type, FAN_EVENT_INFO_TYPE_PIDFD);
	EXPECT(r->pidfd >= 0);
	EXPECT_OK(waitid((idtype_t)3 /* P_PIDFD */, (id_t)r->pidfd, &si, WEXITED));
	EXPECT_EQ(si.si_pid, pid);
}

TEST(fanotify_queue_reads_and_overflow)
{
	char buf[4096];
	int n;

	enter(0);
	EXPECT_OK(mark(FAN_MARK_ADD, FAN_OPEN | FAN_EVENT_ON_CHILD, "."));
	struct pollfd p = {group, POLLIN, 0};
	EXPECT_EQ(poll(&p, 1, 0), 0);
	touch("f");
	touch("g");
	EXPECT_EQ(poll(&p, 1, 0), 1);
	EXPECT_OK(ioctl(group, FIONREAD, &n));
	EXPECT_EQ(n, 48);
	EXPECT_ERRNO(read(group, buf, 10), EINVAL);
	EXPECT_EQ(read(group, buf, 30), 24);
	int low = test_lowest_fd();
	EXPECT_ERRNO(read(group, BAD_ADDR, 100), EFAULT); /* that one is lost */
	EXPECT_EQ(test_lowest_fd(), low);
	EXPECT_STR(events(), "");
	close(group);
	enter_mount(0);
	EXPECT_OK(mark(FAN_MARK_ADD, FAN_OPEN | FAN_EVENT_ON_CHILD, "."));
	for (int i = 0; i < 16400; i++) {
		char name[16];
		sprintf(name, "%d", i);
		close(EXPECT_OK(open(name, O_CREAT | O_RDWR, 0644)));
	}
	EXPECT_OK(ioctl(group, FIONREAD, &n));
	EXPECT_EQ(n, 16385 * 24);
	leave_mount();
}

TEST(fanotify_unprivileged)
{
	EXPECT_OK(chdir(test_dir()));
	EXPECT_OK(chmod(".", 0777));
	touch("f");
	EXPECT_OK(setresuid(1000, 1000, 1000));
	EXPECT_ERRNO(fanotify_init(0, 0), EPERM);
	EXPECT_ERRNO(fanotify_init(FAN_REPORT_FID | FAN_UNLIMITED_QUEUE, 0), EPERM);
	EXPECT_ERRNO(fanotify_init(FAN_REPORT_FID | FAN_REPORT_PIDFD, 0), EPERM);
	group = EXPECT_OK(fanotify_init(FAN_REPORT_FID | FAN_NONBLOCK, 0));
	EXPECT_ERRNO(mark(FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_OPEN, "."), EPERM);
	EXPECT_ERRNO(mark(FAN_MARK_ADD | FAN_MARK_FILESYSTEM, FAN_OPEN, "."), EPERM);
	EXPECT_OK(mark(FAN_MARK_ADD, FAN_OPEN, "f"));
	known[0] = "f";
	close(EXPECT_OK(open("f", O_RDONLY)));
	EXPECT_STR(events(), "open[fid f]");
	pid_t pid = EXPECT_OK(fork());
	if (!pid) {
		close(open("f", O_RDONLY));
		_exit(0);
	}
	EXPECT_OK(waitpid(pid, NULL, 0));
	char buf[256] __attribute__((aligned(8)));
	EXPECT(read(group, buf, sizeof(buf)) > 0);
	EXPECT_EQ(((struct fanotify_event_metadata *)buf)->pid, 0);
}

/* ---- questions ---- */

static void open_it(void *arg)
{
	int fd = open(arg, O_RDWR | O_TRUNC);

	_exit(fd < 0 ? errno : 0);
}

/* A child asks; the answer decides. */
static int ask(const char *name, unsigned answer, const char *expect)
{
	char buf[4096] __attribute__((aligned(8))), text[256];
	struct pollfd p = {group, POLLIN, 0};
	int status;

	pid_t pid = EXPECT_OK(fork());
	if (!pid)
		open_it((void *)name);
	EXPECT_EQ(poll(&p, 1, 10000), 1);
	EXPECT(read(group, buf, sizeof(buf)) > 0);
	struct fanotify_event_metadata *e = (void *)buf;
	EXPECT_EQ(e->pid, pid);
	char *to = put_mask(text, e->mask);
	struct fanotify_response r = {e->fd, answer};
	EXPECT_EQ(write(group, &r, sizeof(r)), sizeof(r));
	put_fd(to, e->fd);
	EXPECT_STR(text, expect);
	EXPECT_ERRNO(write(group, &r, sizeof(r)), ENOENT);
	EXPECT_OK(waitpid(pid, &status, 0));
	EXPECT(WIFEXITED(status));
	return WEXITSTATUS(status);
}

TEST(fanotify_permission_to_open)
{
	enter(FAN_CLASS_CONTENT);
	touch("f");
	EXPECT_OK(mark(FAN_MARK_ADD, FAN_OPEN_PERM, "f"));
	EXPECT_EQ(ask("f", FAN_DENY, "open?(f)"), EPERM);
	struct stat st;
	EXPECT_OK(stat("f", &st)); /* a refused open truncates nothing */
	EXPECT_EQ(st.st_size, 4);
	EXPECT_EQ(ask("f", FAN_ALLOW, "open?(f)"), 0);
	EXPECT_OK(stat("f", &st));
	EXPECT_EQ(st.st_size, 0);
	struct fanotify_response r = {0, FAN_ALLOW};
	EXPECT_ERRNO(write(group, &r, sizeof(r)), ENOENT);
	r.response = 0;
	EXPECT_ERRNO(write(group, &r, sizeof(r)), EINVAL);
	r.response = FAN_ALLOW | FAN_AUDIT;
	EXPECT_ERRNO(write(group, &r, sizeof(r)), EINVAL);
	EXPECT_ERRNO(write(group, &r, 4), EINVAL);
	EXPECT_ERRNO(write(group, BAD_ADDR, 8), EFAULT);
}

TEST(fanotify_permission_to_read_and_execute)
{
	char buf[4096] __attribute__((aligned(8)));
	struct pollfd p = {-1, POLLIN, 0};
	int status;

	enter(FAN_CLASS_CONTENT);
	p.fd = group;
	touch("f");
	EXPECT_OK(mark(FAN_MARK_ADD, FAN_ACCESS_PERM, "f"));
	int fd = EXPECT_OK(open("f", O_RDONLY));
	pid_t pid = EXPECT_OK(fork());
	if (!pid)
		_exit(read(fd, buf, 1) < 0 ? errno : 0);
	EXPECT_EQ(poll(&p, 1, 10000), 1);
	EXPECT(read(group, buf, sizeof(buf)) > 0);
	struct fanotify_event_metadata *e = (void *)buf;
	EXPECT_EQ(e->mask, FAN_ACCESS_PERM);
	struct fanotify_response r = {e->fd, FAN_DENY};
	EXPECT_EQ(write(group, &r, sizeof(r)), sizeof(r));
	EXPECT_OK(waitpid(pid, &status, 0));
	EXPECT_EQ(WEXITSTATUS(status), EPERM);
	EXPECT_OK(mark(FAN_MARK_FLUSH, 0, NULL));

	EXPECT_OK(chmod("f", 0755));
	EXPECT_OK(mark(FAN_MARK_ADD, FAN_OPEN_EXEC_PERM, "f"));
	close(EXPECT_OK(open("f", O_RDONLY)));
	pid = EXPECT_OK(fork());
	if (!pid) {
		execl("./f", "f", NULL);
		_exit(errno);
	}
	EXPECT_EQ(poll(&p, 1, 10000), 1);
	EXPECT(read(group, buf, sizeof(buf)) > 0);
	EXPECT_EQ(e->mask, FAN_OPEN_EXEC_PERM);
	r.fd = e->fd;
	EXPECT_EQ(write(group, &r, sizeof(r)), sizeof(r));
	EXPECT_OK(waitpid(pid, &status, 0));
	EXPECT_EQ(WEXITSTATUS(status), EPERM);
}

/* Whoever waits is let go when the listener goes, and can be killed before. */
TEST(fanotify_listener_goes)
{
	struct pollfd p = {-1, POLLIN, 0};
	int status;

	enter(FAN_CLASS_CONTENT);
	p.fd = group;
	touch("f");
	EXPECT_OK(mark(FAN_MARK_ADD, FAN_OPEN_PERM, "f"));
	pid_t pid = EXPECT_OK(fork());
	if (!pid) {
		close(group);
		open_it("f");
	}
	EXPECT_EQ(poll(&p, 1, 10000), 1);
	EXPECT_OK(kill(pid, SIGKILL));
	EXPECT_OK(waitpid(pid, &status, 0));
	EXPECT(WIFSIGNALED(status));
	EXPECT_EQ(poll(&p, 1, 0), 0);
	pid = EXPECT_OK(fork());
	if (!pid) {
		close(group);
		open_it("f");
	}
	EXPECT_EQ(poll(&p, 1, 10000), 1);
	close(group);
	EXPECT_OK(waitpid(pid, &status, 0));
	EXPECT(WIFEXITED(status));
	EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(fanotify_open_exec)
{
	enter(FAN_REPORT_FID);
	int fd = EXPECT_OK(open("script", O_CREAT | O_WRONLY, 0755));
	EXPECT_EQ(write(fd, "#!/bin/sh\nexit 7\n", 17), 17);
	close(fd);
	EXPECT_OK(mark(FAN_MARK_ADD, FAN_OPEN_EXEC, "script"));
	close(EXPECT_OK(open("script", O_RDONLY)));
	EXPECT_STR(events(), "");
	int status;
	pid_t pid = EXPECT_OK(fork());
	if (!pid) {
		execl("./script", "script", NULL);
		_exit(1);
	}
	EXPECT_OK(waitpid(pid, &status, 0));
	EXPECT_EQ(WEXITSTATUS(status), 7);
	char buf[256] __attribute__((aligned(8)));
	EXPECT(read(group, buf, sizeof(buf)) > 0);
	EXPECT_EQ(((struct fanotify_event_metadata *)buf)->mask, FAN_OPEN_EXEC);
}
