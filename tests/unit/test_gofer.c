/*
 * The gofer's server, driven by messages as a sentry would send them - and as a hostile one might.
 * Runs as any user; what needs root says so.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <linux/fs.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gofer/server.h"

static char root[PATH_MAX];
static struct gofer_server server;
static uint8_t rep_buf[GOFER_MSG_MAX] __attribute__((aligned(8)));
static struct gofer_reply rep = {.buf = rep_buf};

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static const char *in_root(const char *name)
{
	static char paths[4][PATH_MAX + 300];
	static unsigned turn;
	char *path = paths[turn++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", root, name);
	return path;
}

static void put_file(const char *name, const char *text)
{
	FILE *f = fopen(in_root(name), "w");

	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	fclose(f);
}

static void setup_with(bool readonly, bool uds, uint32_t max_nodes)
{
	snprintf(root, sizeof(root), "/tmp/test_gofer.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(root));
	ck_assert_int_eq(mkdir(in_root("dir"), 0755), 0);
	ck_assert_int_eq(mkdir(in_root("dir/sub"), 0755), 0);
	put_file("file", "hello");
	put_file("dir/sub/deep", "deep");
	ck_assert_int_eq(symlink("/etc/passwd", in_root("link")), 0);
	ck_assert_int_eq(mkfifo(in_root("fifo"), 0600), 0);
	struct attach_point ap[2] = {
		{open(root, O_PATH | O_DIRECTORY), readonly},
		{open(in_root("dir"), O_PATH | O_DIRECTORY), false},
	};
	ck_assert_int_eq(chdir("/proc/self/fd"), 0);
	umask(0777);
	ck_assert_int_eq(server_init(&server, ap, 2, uds, max_nodes), 0);
}

static void setup(void)
{
	setup_with(false, true, 100);
}

static void teardown(void)
{
	umask(022);
	server_fini(&server);
	ck_assert_int_eq(chdir("/"), 0);
	nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- sending ---- */

static uint8_t msg[GOFER_MSG_MAX + 64];
static size_t msg_len;

static void begin(uint16_t op)
{
	struct gofer_hdr h = {.op = op, .id = 77};

	memcpy(msg, &h, sizeof(h));
	msg_len = sizeof(h);
}

static void add(const void *p, size_t n)
{
	memcpy(msg + msg_len, p, n);
	msg_len += n;
}

static void drop_fds(void)
{
	for (unsigned i = 0; i < rep.nfds; i++)
		close(rep.fds[i]);
	rep.nfds = 0;
}

/* Sends; returns the reply's error and its payload. */
static int send_msg(void **payload, size_t *len)
{
	struct gofer_hdr h;
	uint32_t size = (uint32_t)msg_len;

	drop_fds();
	memcpy(msg, &size, sizeof(size));
	ck_assert_int_eq(server_handle(&server, msg, msg_len, 0, &rep), 0);
	if (rep.len == 0)
		return 0;
	memcpy(&h, rep.buf, sizeof(h));
	ck_assert_uint_eq(h.size, rep.len);
	ck_assert_uint_eq(h.id, 77);
	ck_assert_uint_eq(h.nfds, rep.nfds);
	if (h.error)
		ck_assert_uint_eq(rep.len, sizeof(h));
	if (payload)
		*payload = rep.buf + sizeof(h);
	if (len)
		*len = rep.len - sizeof(h);
	return h.error;
}

static int simple(uint16_t op, const void *fixed, size_t n, const char *name, void **payload)
{
	begin(op);
	add(fixed, n);
	if (name)
		add(name, strlen(name));
	return send_msg(payload, NULL);
}

static uint64_t attach(uint32_t id)
{
	struct gofer_attach_req rq = {.attach = id, .version = GOFER_VERSION};
	struct gofer_attach_rep *out;

	ck_assert_int_eq(simple(GOFER_ATTACH, &rq, sizeof(rq), NULL, (void **)&out), 0);
	return out->entry.node;
}

/* Names separated by '|', which no test uses in a name. */
static int walk(uint64_t node, uint32_t flags, const char *names, struct gofer_walk_rep **head,
		struct gofer_entry **e)
{
	struct gofer_walk_req rq = {.node = node, .flags = flags, .count = 1};
	void *p;

	for (const char *c = names; *c; c++)
		rq.count += *c == '|';
	begin(GOFER_WALK);
	add(&rq, sizeof(rq));
	while (true) {
		uint16_t len = (uint16_t)strcspn(names, "|");
		add(&len, sizeof(len));
		add(names, len);
		if (!names[len])
			break;
		names += len + 1;
	}
	int err = send_msg(&p, NULL);
	*head = p;
	*e = (void *)((uint8_t *)p + sizeof(**head));
	return err;
}

static uint64_t node_of(uint64_t dir, const char *names)
{
	struct gofer_walk_rep *h;
	struct gofer_entry *e;

	ck_assert_int_eq(walk(dir, 0, names, &h, &e), 0);
	ck_assert_int_eq(h->stop, 0);
	return e[h->count - 1].node;
}

static int named(uint16_t op, uint64_t dir, const char *name, uint32_t mode, struct gofer_entry **e)
{
	struct gofer_name_req rq = {
		.dir = dir,
		.mode = mode,
		.uid = geteuid(),
		.gid = getegid(),
		.name_len = (uint16_t)strlen(name),
	};

	return simple(op, &rq, sizeof(rq), name, (void **)e);
}

static int open_node(uint64_t node, uint32_t flags)
{
	struct gofer_open_req rq = {.node = node, .flags = flags};

	return simple(GOFER_OPEN, &rq, sizeof(rq), NULL, NULL);
}

static void close_node(uint64_t id)
{
	struct gofer_close_req rq = {.count = 1};

	begin(GOFER_CLOSE);
	add(&rq, sizeof(rq));
	add(&id, sizeof(id));
	ck_assert_int_eq(send_msg(NULL, NULL), 0);
	ck_assert_uint_eq(rep.len, 0);
}

/* ---- looking ---- */

START_TEST(walk_returns_every_step_with_attributes)
{
	struct gofer_walk_rep *h;
	struct gofer_entry *e;
	struct stat st;

	ck_assert_int_eq(walk(attach(0), 0, "dir|sub|deep", &h, &e), 0);
	ck_assert_uint_eq(h->count, 3);
	ck_assert_int_eq(h->stop, 0);
	ck_assert_int_eq(stat(in_root("dir/sub/deep"), &st), 0);
	ck_assert_uint_eq(e[2].attr.ino, st.st_ino);
	ck_assert_uint_eq(e[2].attr.size, 4);
	ck_assert_uint_eq(e[2].attr.mode, st.st_mode);
	ck_assert(S_ISDIR(e[0].attr.mode));
}
END_TEST

START_TEST(walk_stops_at_missing_link_and_file)
{
	uint64_t top = attach(0);
	struct gofer_walk_rep *h;
	struct gofer_entry *e;

	ck_assert_int_eq(walk(top, 0, "dir|nope|x", &h, &e), 0);
	ck_assert_uint_eq(h->count, 1);
	ck_assert_int_eq(h->stop, -ENOENT);
	ck_assert_int_eq(walk(top, 0, "nope", &h, &e), 0);
	ck_assert_uint_eq(h->count, 0);
	ck_assert_int_eq(h->stop, -ENOENT);
	ck_assert_int_eq(walk(top, 0, "file|x", &h, &e), 0);
	ck_assert_uint_eq(h->count, 1);
	ck_assert_int_eq(h->stop, -ENOTDIR);
	ck_assert_int_eq(walk(top, GOFER_WALK_TARGET, "link|x", &h, &e), 0);
	ck_assert_uint_eq(h->count, 1);
	ck_assert_int_eq(h->stop, -ELOOP);
	ck_assert(S_ISLNK(e[0].attr.mode));
	ck_assert_uint_eq(h->target_len, strlen("/etc/passwd"));
	ck_assert_mem_eq(&e[1], "/etc/passwd", h->target_len);
}
END_TEST

START_TEST(walk_stat_keeps_nothing)
{
	uint64_t top = attach(0);
	struct gofer_walk_rep *h;
	struct gofer_entry *e;
	uint32_t live = server.live;

	ck_assert_int_eq(walk(top, GOFER_WALK_STAT, "dir|sub|deep", &h, &e), 0);
	ck_assert_uint_eq(h->count, 3);
	ck_assert_uint_eq(e[2].node, 0);
	ck_assert_uint_eq(server.live, live);
}
END_TEST

START_TEST(walk_last_keeps_one_node)
{
	struct gofer_walk_rep *h;
	struct gofer_entry *e;
	uint64_t top = attach(0);
	uint32_t live = server.live;

	ck_assert_int_eq(walk(top, GOFER_WALK_LAST, "dir|sub|deep", &h, &e), 0);
	ck_assert_uint_eq(h->count, 3);
	ck_assert_uint_eq(e[1].node, 0);
	ck_assert_uint_ne(e[2].node, 0);
	ck_assert_uint_eq(server.live, live + 1);
	ck_assert_int_eq(walk(top, GOFER_WALK_LAST, "dir|sub|nope", &h, &e), 0);
	ck_assert_uint_eq(h->count, 2);
	ck_assert_uint_eq(e[1].node, 0);
	ck_assert_uint_eq(server.live, live + 1);
}
END_TEST

START_TEST(names_are_single_components)
{
	uint64_t top = attach(0);
	struct gofer_walk_rep *h;
	struct gofer_entry *e;
	char longest[400];

	ck_assert_int_eq(walk(top, 0, "..", &h, &e), -EINVAL);
	ck_assert_int_eq(walk(top, 0, ".", &h, &e), -EINVAL);
	ck_assert_int_eq(walk(top, 0, "", &h, &e), -EINVAL);
	ck_assert_int_eq(walk(top, 0, "dir/sub", &h, &e), -EINVAL);
	ck_assert_int_eq(walk(top, 0, "/etc", &h, &e), -EINVAL);
	ck_assert_int_eq(walk(top, 0, "dir|..", &h, &e), -EINVAL);
	memset(longest, 'x', sizeof(longest));
	longest[256] = 0;
	ck_assert_int_eq(walk(top, 0, longest, &h, &e), -ENAMETOOLONG);
	longest[255] = 0;
	ck_assert_int_eq(walk(top, 0, longest, &h, &e), 0);
	ck_assert_int_eq(h->stop, -ENOENT);

	struct gofer_name_req rq = {.dir = top, .name_len = 4};
	begin(GOFER_MKDIR);
	add(&rq, sizeof(rq));
	add("a\0bc", 4);
	ck_assert_int_eq(send_msg(NULL, NULL), -EINVAL);
	ck_assert_int_eq(named(GOFER_MKDIR, top, "../x", 0755, &e), -EINVAL);
	ck_assert_int_eq(named(GOFER_CREATE, top, "..", 0755, &e), -EINVAL);
	ck_assert_int_eq(named(GOFER_CREATE, top, "dir/x", 0755, &e), -EINVAL);
}
END_TEST

START_TEST(links_are_never_followed)
{
	uint64_t top = attach(0);
	uint64_t link = node_of(top, "link");
	struct gofer_walk_rep *h;
	struct gofer_entry *e;

	ck_assert_int_eq(open_node(link, GOFER_OPEN_READ), -ENXIO);
	ck_assert_int_eq(walk(link, 0, "x", &h, &e), -ENOTDIR);
	ck_assert_int_eq(symlink("/", in_root("slash")), 0);
	ck_assert_int_eq(walk(top, 0, "slash|etc", &h, &e), 0);
	ck_assert_int_eq(h->stop, -ELOOP);
	struct gofer_setattr_req rq = {.node = link, .valid = GOFER_SET_MODE, .mode = 0777};
	ck_assert_int_eq(simple(GOFER_SETATTR, &rq, sizeof(rq), NULL, NULL), -EOPNOTSUPP);
}
END_TEST

START_TEST(readlink_and_statfs)
{
	uint64_t top = attach(0);
	struct gofer_node_req rq = {node_of(top, "link")};
	void *p;
	size_t len;

	begin(GOFER_READLINK);
	add(&rq, sizeof(rq));
	ck_assert_int_eq(send_msg(&p, &len), 0);
	ck_assert_uint_eq(len, strlen("/etc/passwd"));
	ck_assert_mem_eq(p, "/etc/passwd", len);
	rq.node = top;
	ck_assert_int_eq(simple(GOFER_READLINK, &rq, sizeof(rq), NULL, NULL), -EINVAL);
	ck_assert_int_eq(simple(GOFER_STATFS, &rq, sizeof(rq), NULL, &p), 0);
	ck_assert_uint_ne(((struct gofer_statfs_rep *)p)->bsize, 0);
}
END_TEST

/* ---- opening ---- */

START_TEST(open_donates_exactly_what_was_asked)
{
	uint64_t file = node_of(attach(0), "file");
	char buf[8];

	ck_assert_int_eq(open_node(file, GOFER_OPEN_READ), 0);
	ck_assert_uint_eq(rep.nfds, 1);
	ck_assert_int_eq(fcntl(rep.fds[0], F_GETFL) & O_ACCMODE, O_RDONLY);
	ck_assert_int_eq(pread(rep.fds[0], buf, 8, 0), 5);
	ck_assert_int_eq(write(rep.fds[0], buf, 1), -1);
	ck_assert_int_eq(open_node(file, GOFER_OPEN_WRITE), 0);
	ck_assert_uint_eq(rep.nfds, 1);
	ck_assert_int_eq(fcntl(rep.fds[0], F_GETFL) & O_ACCMODE, O_RDWR);
	ck_assert_int_eq(open_node(file, GOFER_OPEN_READ | GOFER_OPEN_WRITE), 0);
	ck_assert_uint_eq(rep.nfds, 2);
	ck_assert_int_eq(fcntl(rep.fds[0], F_GETFL) & O_ACCMODE, O_RDONLY);
	ck_assert_int_eq(fcntl(rep.fds[1], F_GETFL) & O_ACCMODE, O_RDWR);
	ck_assert_int_eq(open_node(file, 0), -EINVAL);
	ck_assert_int_eq(open_node(file, 8), -EINVAL);
	ck_assert_int_eq(open_node(file, GOFER_OPEN_WRITE | GOFER_OPEN_ONLY_WRITE), 0);
	ck_assert_uint_eq(rep.nfds, 2);
	ck_assert_int_eq(fcntl(rep.fds[0], F_GETFL) & O_ACCMODE, O_RDWR);
	ck_assert_int_eq(fcntl(rep.fds[1], F_GETFL) & O_ACCMODE, O_WRONLY);
	ck_assert_int_eq(read(rep.fds[1], buf, 1), -1);
}
END_TEST

START_TEST(open_refuses_all_but_regular_files)
{
	uint64_t top = attach(0);

	ck_assert_int_eq(open_node(top, GOFER_OPEN_READ), -EISDIR);
	ck_assert_int_eq(open_node(node_of(top, "fifo"), GOFER_OPEN_READ), -ENXIO);
	if (geteuid() == 0 && mknod(in_root("null"), S_IFCHR | 0666, makedev(1, 3)) == 0) {
		chmod(in_root("null"), 0666);
		ck_assert_int_eq(open_node(node_of(top, "null"), GOFER_OPEN_READ), -ENXIO);
	}
}
END_TEST

START_TEST(open_follows_the_inode_not_the_name)
{
	uint64_t file = node_of(attach(0), "file");
	char buf[8];

	ck_assert_int_eq(rename(in_root("file"), in_root("elsewhere")), 0);
	ck_assert_int_eq(mkfifo(in_root("file"), 0600), 0);
	ck_assert_int_eq(open_node(file, GOFER_OPEN_READ), 0);
	ck_assert_int_eq(pread(rep.fds[0], buf, 8, 0), 5);
}
END_TEST

START_TEST(nodes_are_bounded_and_given_back)
{
	uint64_t top, last = 0;
	struct gofer_walk_rep *h;
	struct gofer_entry *e;

	teardown();
	setup_with(false, false, 5);
	top = attach(0);
	for (int i = 0; i < 4; i++)
		last = node_of(top, "file");
	ck_assert_int_eq(walk(top, 0, "file", &h, &e), 0);
	ck_assert_int_eq(h->stop, -EMFILE);
	ck_assert_int_eq(named(GOFER_MKDIR, top, "new", 0755, &e), -EMFILE);
	ck_assert_int_eq(access(in_root("new"), F_OK), -1);
	close_node(last);
	close_node(last);
	uint64_t again = node_of(top, "file");
	ck_assert_uint_ne(again, last);
	ck_assert_int_eq(open_node(last, GOFER_OPEN_READ), -EBADF);
}
END_TEST

START_TEST(running_out_of_descriptors_is_an_error_only)
{
	uint64_t top = attach(0);
	uint64_t file = node_of(top, "file");
	struct rlimit old, low;
	struct gofer_walk_rep *h;
	struct gofer_entry *e;

	getrlimit(RLIMIT_NOFILE, &old);
	int fd = dup(0);
	close(fd);
	low = (struct rlimit){(rlim_t)fd, old.rlim_max};
	setrlimit(RLIMIT_NOFILE, &low);
	int werr = walk(top, 0, "dir", &h, &e), stop = h->stop;
	int oerr = open_node(file, GOFER_OPEN_READ);
	int cerr = named(GOFER_CREATE, top, "more", 0644, &e);
	setrlimit(RLIMIT_NOFILE, &old);
	ck_assert_int_eq(werr, 0);
	ck_assert_int_eq(stop, -EMFILE);
	ck_assert_int_eq(oerr, -EMFILE);
	ck_assert_int_eq(cerr, -EMFILE);
	ck_assert_int_eq(access(in_root("more"), F_OK), -1);
	ck_assert_int_eq(open_node(file, GOFER_OPEN_READ), 0);
}
END_TEST

/* ---- changing ---- */

START_TEST(create_gives_owner_mode_and_descriptor)
{
	uint64_t top = attach(0);
	struct gofer_entry *e;

	ck_assert_int_eq(named(GOFER_CREATE, top, "new", 06751, &e), 0);
	ck_assert_uint_eq(rep.nfds, 1);
	ck_assert_uint_eq(e->attr.mode, S_IFREG | 06751);
	ck_assert_int_eq(fcntl(rep.fds[0], F_GETFL) & O_ACCMODE, O_RDWR);
	ck_assert_int_eq(named(GOFER_CREATE, top, "new", 0644, &e), -EEXIST);
	ck_assert_int_eq(named(GOFER_CREATE, top, "link", 0644, &e), -EEXIST);
	ck_assert_int_eq(named(GOFER_CREATE, top, "x", 010644, &e), -EINVAL);
	if (geteuid() == 0) {
		struct gofer_name_req rq = {
			.dir = top, .mode = 0640, .uid = 1234, .gid = 2345, .name_len = 5};
		ck_assert_int_eq(simple(GOFER_CREATE, &rq, sizeof(rq), "owned", (void **)&e), 0);
		ck_assert_uint_eq(e->attr.uid, 1234);
		ck_assert_uint_eq(e->attr.gid, 2345);
	}
}
END_TEST

START_TEST(setgid_directories_pass_on_their_group)
{
	uint64_t top = attach(0);
	struct gofer_entry *e;

	if (geteuid() != 0)
		return;
	ck_assert_int_eq(chown(in_root("dir"), 0, 4242), 0);
	ck_assert_int_eq(chmod(in_root("dir"), 02755), 0);
	uint64_t dir = node_of(top, "dir");
	ck_assert_int_eq(named(GOFER_MKDIR, dir, "d", 0755, &e), 0);
	ck_assert_uint_eq(e->attr.gid, 4242);
	ck_assert_uint_eq(e->attr.mode, S_IFDIR | 02755);
	ck_assert_int_eq(named(GOFER_CREATE, dir, "f", 0644, &e), 0);
	ck_assert_uint_eq(e->attr.gid, 4242);
}
END_TEST

START_TEST(mknod_never_makes_devices)
{
	uint64_t top = attach(0);
	struct gofer_entry *e;

	ck_assert_int_eq(named(GOFER_MKNOD, top, "c", S_IFCHR | 0666, &e), 0);
	ck_assert_uint_eq(e->attr.rdev_major | e->attr.rdev_minor, 0);
	ck_assert_int_eq(named(GOFER_MKNOD, top, "b", S_IFBLK | 0666, &e), -EPERM);
	ck_assert_int_eq(named(GOFER_MKNOD, top, "l", S_IFLNK | 0666, &e), -EPERM);
	ck_assert_int_eq(named(GOFER_MKNOD, top, "p", S_IFIFO | 0622, &e), 0);
	ck_assert_uint_eq(e->attr.mode, S_IFIFO | 0622);
	ck_assert_int_eq(named(GOFER_MKNOD, top, "s", S_IFSOCK | 0755, &e), 0);
	ck_assert_uint_eq(e->attr.mode, S_IFSOCK | 0755);
	ck_assert_int_eq(named(GOFER_MKNOD, top, "r", S_IFREG | 0600, &e), 0);
	ck_assert_uint_eq(e->attr.mode, S_IFREG | 0600);
	ck_assert_uint_eq(rep.nfds, 0);
}
END_TEST

START_TEST(symlink_link_rename_unlink)
{
	uint64_t top = attach(0), other = attach(1);
	struct gofer_name_req s = {
		.dir = top, .uid = geteuid(), .gid = getegid(), .name_len = 1, .target_len = 5};
	struct gofer_entry *e;
	struct gofer_attr *a;
	char buf[16];

	ck_assert_int_eq(simple(GOFER_SYMLINK, &s, sizeof(s), "l../..", (void **)&e), 0);
	ck_assert(S_ISLNK(e->attr.mode));
	ck_assert_int_eq(readlink(in_root("l"), buf, sizeof(buf)), 5);

	struct gofer_link_req l = {.dir = top, .target = node_of(top, "file"), .name_len = 4};
	ck_assert_int_eq(simple(GOFER_LINK, &l, sizeof(l), "hard", (void **)&a), 0);
	ck_assert_uint_eq(a->nlink, 2);
	l.target = e->node;
	l.target = node_of(top, "l");
	ck_assert_int_eq(simple(GOFER_LINK, &l, sizeof(l), "sym2", (void **)&a), 0);
	ck_assert(S_ISLNK(a->mode));
	l.dir = other;
	ck_assert_int_eq(simple(GOFER_LINK, &l, sizeof(l), "sym3", NULL), -EXDEV);
	l.dir = top;
	l.target = node_of(top, "dir");
	ck_assert_int_eq(simple(GOFER_LINK, &l, sizeof(l), "dir2", NULL), -EPERM);

	struct gofer_rename_req r = {
		.olddir = top, .newdir = node_of(top, "dir"), .old_len = 4, .new_len = 5};
	ck_assert_int_eq(simple(GOFER_RENAME, &r, sizeof(r), "hardmoved", NULL), 0);
	ck_assert_int_eq(access(in_root("dir/moved"), F_OK), 0);
	r.flags = 8;
	ck_assert_int_eq(simple(GOFER_RENAME, &r, sizeof(r), "filemoved", NULL), -EINVAL);
	r.flags = RENAME_NOREPLACE;
	ck_assert_int_eq(simple(GOFER_RENAME, &r, sizeof(r), "filemoved", NULL), -EEXIST);
	r.newdir = other;
	r.flags = 0;
	ck_assert_int_eq(simple(GOFER_RENAME, &r, sizeof(r), "filemoved", NULL), -EXDEV);

	struct gofer_unlink_req u = {.dir = top, .name_len = 4};
	ck_assert_int_eq(simple(GOFER_UNLINK, &u, sizeof(u), "file", NULL), 0);
	ck_assert_int_eq(simple(GOFER_UNLINK, &u, sizeof(u), "file", NULL), -ENOENT);
	u.name_len = 3;
	ck_assert_int_eq(simple(GOFER_UNLINK, &u, sizeof(u), "dir", NULL), -EISDIR);
	u.flags = GOFER_UNLINK_DIR;
	ck_assert_int_eq(simple(GOFER_UNLINK, &u, sizeof(u), "dir", NULL), -ENOTEMPTY);
	u.flags = 2;
	ck_assert_int_eq(simple(GOFER_UNLINK, &u, sizeof(u), "dir", NULL), -EINVAL);
}
END_TEST

START_TEST(setattr_changes_mode_size_and_times)
{
	uint64_t file = node_of(attach(0), "file");
	struct gofer_attr *a;
	struct gofer_setattr_req rq = {
		.node = file,
		.valid = GOFER_SET_MODE | GOFER_SET_SIZE | GOFER_SET_ATIME | GOFER_SET_MTIME_NOW,
		.mode = 0604,
		.size = 2,
		.atime = {.sec = 1000, .nsec = 7},
	};

	ck_assert_int_eq(simple(GOFER_SETATTR, &rq, sizeof(rq), NULL, (void **)&a), 0);
	ck_assert_uint_eq(a->mode, S_IFREG | 0604);
	ck_assert_uint_eq(a->size, 2);
	ck_assert_int_eq(a->atime.sec, 1000);
	ck_assert_uint_eq(a->atime.nsec, 7);
	ck_assert_int_gt(a->mtime.sec, 1000);
	rq.valid = 1u << 20;
	ck_assert_int_eq(simple(GOFER_SETATTR, &rq, sizeof(rq), NULL, NULL), -EINVAL);
	rq.valid = GOFER_SET_SIZE;
	rq.size = UINT64_MAX;
	ck_assert_int_eq(simple(GOFER_SETATTR, &rq, sizeof(rq), NULL, NULL), -EFBIG);
	rq.atime.nsec = UTIME_OMIT;
	ck_assert_int_eq(simple(GOFER_SETATTR, &rq, sizeof(rq), NULL, NULL), -EINVAL);
}
END_TEST

START_TEST(readonly_attach_points_refuse_changes)
{
	struct gofer_entry *e;

	teardown();
	setup_with(true, true, 100);
	uint64_t top = attach(0), file = node_of(top, "file");
	ck_assert_int_eq(open_node(file, GOFER_OPEN_READ), 0);
	ck_assert_int_eq(open_node(file, GOFER_OPEN_WRITE), -EROFS);
	ck_assert_int_eq(open_node(file, GOFER_OPEN_READ | GOFER_OPEN_WRITE), -EROFS);
	ck_assert_int_eq(named(GOFER_CREATE, top, "n", 0644, &e), -EROFS);
	ck_assert_int_eq(named(GOFER_MKDIR, top, "n", 0644, &e), -EROFS);
	ck_assert_int_eq(named(GOFER_MKNOD, top, "n", S_IFIFO, &e), -EROFS);
	struct gofer_link_req l = {.dir = top, .target = file, .name_len = 1};
	ck_assert_int_eq(simple(GOFER_LINK, &l, sizeof(l), "n", NULL), -EROFS);
	struct gofer_unlink_req u = {.dir = top, .name_len = 4};
	ck_assert_int_eq(simple(GOFER_UNLINK, &u, sizeof(u), "file", NULL), -EROFS);
	struct gofer_rename_req r = {.olddir = top, .newdir = top, .old_len = 4, .new_len = 1};
	ck_assert_int_eq(simple(GOFER_RENAME, &r, sizeof(r), "filex", NULL), -EROFS);
	struct gofer_setattr_req s = {.node = file, .valid = GOFER_SET_MODE};
	ck_assert_int_eq(simple(GOFER_SETATTR, &s, sizeof(s), NULL, NULL), -EROFS);
	struct gofer_xattr_req x = {.node = file, .name_len = 6, .size = 1};
	ck_assert_int_eq(simple(GOFER_SETXATTR, &x, sizeof(x), "user.av", NULL), -EROFS);
}
END_TEST

START_TEST(xattrs_are_user_only)
{
	uint64_t file = node_of(attach(0), "file");
	struct gofer_xattr_req x = {.node = file, .name_len = 6, .size = 3};
	void *p;
	size_t len;

	int err = simple(GOFER_SETXATTR, &x, sizeof(x), "user.aval", NULL);
	if (err == -EOPNOTSUPP)
		return; /* a file system without them */
	ck_assert_int_eq(err, 0);
	x.size = 0;
	ck_assert_int_eq(simple(GOFER_GETXATTR, &x, sizeof(x), "user.a", &p), 0);
	ck_assert_uint_eq(*(uint32_t *)p, 3);
	x.size = 3;
	ck_assert_int_eq(simple(GOFER_GETXATTR, &x, sizeof(x), "user.a", &p), 0);
	ck_assert_mem_eq(p, "val", 3);
	x.size = 2;
	ck_assert_int_eq(simple(GOFER_GETXATTR, &x, sizeof(x), "user.a", &p), -ERANGE);
	struct gofer_xattr_req l = {.node = file, .size = 100};
	begin(GOFER_LISTXATTR);
	add(&l, sizeof(l));
	ck_assert_int_eq(send_msg(&p, &len), 0);
	ck_assert_uint_eq(len, 7);
	ck_assert_str_eq(p, "user.a");
	x.size = 0;
	ck_assert_int_eq(simple(GOFER_REMOVEXATTR, &x, sizeof(x), "user.a", NULL), 0);
	ck_assert_int_eq(simple(GOFER_REMOVEXATTR, &x, sizeof(x), "user.a", NULL), -ENODATA);
	x.name_len = 9;
	ck_assert_int_eq(simple(GOFER_GETXATTR, &x, sizeof(x), "trusted.a", NULL), -EOPNOTSUPP);
	x.size = UINT32_MAX;
	ck_assert_int_eq(simple(GOFER_GETXATTR, &x, sizeof(x), "user.abcd", NULL), -EINVAL);
	ck_assert_int_eq(simple(GOFER_SETXATTR, &x, sizeof(x), "user.abcd", NULL), -E2BIG);
}
END_TEST

/* ---- directories ---- */

static int readdir_msg(uint64_t node, int64_t off, uint32_t max, uint32_t flags,
		       struct gofer_readdir_rep **out)
{
	struct gofer_readdir_req rq = {node, off, max, flags};

	return simple(GOFER_READDIR, &rq, sizeof(rq), NULL, (void **)out);
}

static const uint8_t *next_record(const uint8_t *p, struct gofer_dirent *e, char *name)
{
	memcpy(e, p, sizeof(*e));
	p += sizeof(*e) + (e->has_attr ? sizeof(struct gofer_attr) : 0);
	memcpy(name, p, e->name_len);
	name[e->name_len] = 0;
	return p + ((e->name_len + 7UL) & ~7UL);
}

START_TEST(readdir_of_a_small_directory_is_one_message)
{
	struct gofer_readdir_rep *r;
	struct gofer_dirent e;
	char name[256];
	int found = 0;
	uint64_t top = attach(0);
	uint32_t live = server.live;

	ck_assert_int_eq(readdir_msg(top, 0, 32768, GOFER_READDIR_START | GOFER_READDIR_ATTRS, &r),
			 0);
	ck_assert_uint_eq(r->handle, 0);
	ck_assert_uint_eq(r->flags, GOFER_READDIR_EOF);
	ck_assert_uint_eq(server.live, live);
	const uint8_t *p = (const uint8_t *)(r + 1);
	for (uint32_t i = 0; i < r->count; i++) {
		p = next_record(p, &e, name);
		if (!strcmp(name, "file")) {
			found = 1;
			ck_assert_uint_eq(e.has_attr, 1);
			ck_assert_uint_eq(e.type, 8);
		}
	}
	ck_assert_int_eq(found, 1);
	ck_assert_ptr_eq(p, rep.buf + rep.len);
}
END_TEST

START_TEST(readdir_in_pieces_loses_and_repeats_nothing)
{
	struct gofer_readdir_rep *r;
	struct gofer_dirent e;
	char name[256];
	bool seen[300] = {false};
	int64_t off = 0;
	uint32_t flags = GOFER_READDIR_START;
	uint64_t node = node_of(attach(0), "dir");
	int total = 0;

	for (int i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "dir/entry-%d", i);
		put_file(name, "");
	}
	uint64_t from = node;
	for (int rounds = 0; rounds < 1000; rounds++) {
		ck_assert_int_eq(readdir_msg(from, off, 600, flags, &r), 0);
		if (flags)
			from = r->handle;
		flags = 0;
		const uint8_t *p = (const uint8_t *)(r + 1);
		for (uint32_t i = 0; i < r->count; i++) {
			p = next_record(p, &e, name);
			off = e.off;
			int n;
			if (sscanf(name, "entry-%d", &n) == 1) {
				ck_assert(!seen[n]);
				seen[n] = true;
				total++;
			}
		}
		if (r->flags & GOFER_READDIR_EOF)
			break;
	}
	ck_assert_int_eq(total, 300);
	ck_assert_int_eq(readdir_msg(from, -1, 600, 0, &r), -EINVAL);
	ck_assert_int_eq(readdir_msg(from, 0, 8, 0, &r), -EINVAL);
	ck_assert_int_eq(readdir_msg(node, 0, 600, 0, &r), -EBADF);
	close_node(from);
	ck_assert_int_eq(readdir_msg(from, 0, 600, 0, &r), -EBADF);
}
END_TEST

/* ---- many at once ---- */

static void add_names(const char *names)
{
	while (*names) {
		size_t n = strcspn(names, "|");
		uint16_t len = (uint16_t)n;
		add(&len, sizeof(len));
		add(names, n);
		names += n + (names[n] == '|');
	}
}

static int list_msg(uint64_t node, uint16_t depth, uint16_t count, const char *names,
		    uint32_t ahead, const uint8_t **p, size_t *len)
{
	struct gofer_list_req q = {.node = node, .depth = depth, .count = count, .ahead = ahead};
	void *payload;

	begin(GOFER_LIST);
	add(&q, sizeof(q));
	add_names(names);
	int err = send_msg(&payload, len);
	*p = payload;
	return err;
}

/* The next directory of a reply: its names, sorted out by the caller. */
static const uint8_t *next_dir(const uint8_t *p, struct gofer_list_dir *d, char *names)
{
	struct gofer_dirent e;
	char name[256];

	memcpy(d, p, sizeof(*d));
	p += sizeof(*d);
	const uint8_t *end = p + d->bytes;
	names[0] = '\0';
	for (uint32_t i = 0; i < d->count; i++) {
		p = next_record(p, &e, name);
		ck_assert_uint_eq(e.has_attr, name[0] != '.');
		if (name[0] != '.')
			strcat(strcat(names, name), "|");
	}
	ck_assert_ptr_eq(p, end);
	return p;
}

START_TEST(list_goes_down_while_there_is_room)
{
	const uint8_t *p, *end;
	struct gofer_list_dir d;
	char names[4096];
	size_t len;
	uint64_t top = attach(0);
	uint32_t live = server.live;

	ck_assert_int_eq(list_msg(top, 1, 0, "dir", 0, &p, &len), 0);
	end = p + len;
	ck_assert_ptr_eq(next_dir(p, &d, names), end);
	ck_assert_uint_eq(d.parent, GOFER_LIST_TOP);
	ck_assert_uint_eq(d.handle, 0);
	ck_assert_ptr_nonnull(strstr(names, "sub|"));

	ck_assert_int_eq(list_msg(top, 0, 1, "dir", 65536, &p, &len), 0);
	end = p + len;
	p = next_dir(p, &d, names);
	ck_assert_ptr_ne(p, end);
	p = next_dir(p, &d, names);
	ck_assert_uint_eq(d.parent, 0);
	ck_assert_ptr_nonnull(strstr(names, "deep"));
	ck_assert_ptr_eq(p, end);
	ck_assert_uint_eq(server.live, live);
	/* What cannot be listed fails in the first place and is left out in others. */
	ck_assert_int_eq(list_msg(top, 0, 1, "file", 65536, &p, &len), -ENOTDIR);
	ck_assert_int_eq(list_msg(top, 0, 1, "link", 65536, &p, &len), -ENOTDIR);
	ck_assert_int_eq(list_msg(top, 1, 1, "link|sub", 65536, &p, &len), -ENOTDIR);
	ck_assert_int_eq(list_msg(top, 0, 2, "dir|file", 65536, &p, &len), 0);
	ck_assert_int_eq(list_msg(top, 0, 1, "..", 65536, &p, &len), -EINVAL);
	ck_assert_int_eq(list_msg(top, 0, 2, "dir", 65536, &p, &len), -EPROTO);
	ck_assert_int_eq(list_msg(top, 0, GOFER_WALK_MAX + 1, "dir", 0, &p, &len), -EPROTO);
	ck_assert_int_eq(list_msg(top + 1, 0, 1, "dir", 65536, &p, &len), -EBADF);
	ck_assert_uint_eq(server.live, live);
}
END_TEST

START_TEST(list_of_a_large_directory_leaves_a_handle)
{
	const uint8_t *p;
	struct gofer_list_dir d;
	static char names[100000];
	char name[64];
	size_t len;
	uint64_t top = attach(0);
	uint32_t live = server.live;

	for (int i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "dir/entry-%d", i);
		put_file(name, "");
	}
	ck_assert_int_eq(list_msg(top, 0, 2, "dir|dir", GOFER_MSG_MAX, &p, &len), 0);
	ck_assert_ptr_eq(next_dir(p, &d, names), p + len);
	ck_assert_uint_ne(d.handle, 0);
	ck_assert_uint_eq(server.live, live + 1);
	close_node(d.handle);
	/* Where it would only have come along it is left out. */
	ck_assert_int_eq(list_msg(top, 0, 0, "", GOFER_MSG_MAX, &p, &len), 0);
	const uint8_t *end = p + len;
	while (p < end)
		p = next_dir(p, &d, names);
	ck_assert_ptr_null(strstr(names, "entry-"));
	ck_assert_uint_eq(server.live, live);
}
END_TEST

START_TEST(open_many_opens_regular_files_only)
{
	struct gofer_open_many_req q = {.node = attach(0), .count = 5};
	void *payload;
	size_t len;
	int32_t r[5];

	begin(GOFER_OPEN_MANY);
	add(&q, sizeof(q));
	add_names("file|dir|link|fifo|none");
	ck_assert_int_eq(send_msg(&payload, &len), 0);
	ck_assert_uint_eq(len, sizeof(r));
	memcpy(r, payload, sizeof(r));
	ck_assert_int_eq(r[0], 0);
	ck_assert_int_eq(r[1], -EISDIR);
	ck_assert_int_eq(r[2], -ENXIO);
	ck_assert_int_eq(r[3], -ENXIO);
	ck_assert_int_eq(r[4], -ENOENT);
	ck_assert_uint_eq(rep.nfds, 1);
	ck_assert_int_eq(fcntl(rep.fds[0], F_GETFL) & O_ACCMODE, O_RDONLY);
	drop_fds();
	q.count = 0;
	begin(GOFER_OPEN_MANY);
	add(&q, sizeof(q));
	ck_assert_int_eq(send_msg(&payload, &len), -EPROTO);
	q.count = GOFER_FDS_MAX + 1;
	begin(GOFER_OPEN_MANY);
	add(&q, sizeof(q));
	ck_assert_int_eq(send_msg(&payload, &len), -EPROTO);
}
END_TEST

/* ---- sockets ---- */

START_TEST(host_sockets_need_permission)
{
	uint64_t top;
	struct gofer_entry *e;

	teardown();
	setup_with(false, false, 100);
	top = attach(0);
	struct gofer_connect_req c = {.node = top, .type = SOCK_STREAM};
	ck_assert_int_eq(simple(GOFER_CONNECT, &c, sizeof(c), NULL, NULL), -EPERM);
	ck_assert_int_eq(named(GOFER_BIND, top, "s", 0755, &e), -EPERM);
}
END_TEST

START_TEST(bind_and_connect)
{
	uint64_t top = attach(0);
	struct gofer_name_req b = {.dir = top,
				   .mode = 0711,
				   .uid = geteuid(),
				   .gid = getegid(),
				   .flags = SOCK_STREAM,
				   .name_len = 4};
	struct gofer_entry *e;

	ck_assert_int_eq(simple(GOFER_BIND, &b, sizeof(b), "sock", (void **)&e), 0);
	ck_assert_uint_eq(e->attr.mode, S_IFSOCK | 0711);
	ck_assert_uint_eq(rep.nfds, 1);
	int l = dup(rep.fds[0]);
	ck_assert_int_eq(listen(l, 5), 0);
	struct gofer_connect_req c = {.node = e->node, .type = SOCK_STREAM};
	ck_assert_int_eq(simple(GOFER_CONNECT, &c, sizeof(c), NULL, NULL), 0);
	ck_assert_uint_eq(rep.nfds, 1);
	int s = accept(l, NULL, NULL);
	ck_assert_int_ge(s, 0);
	close(s);
	close(l);
	ck_assert_int_eq(simple(GOFER_BIND, &b, sizeof(b), "sock", NULL), -EEXIST);
	c.type = SOCK_RAW;
	ck_assert_int_eq(simple(GOFER_CONNECT, &c, sizeof(c), NULL, NULL), -EINVAL);
	c = (struct gofer_connect_req){.node = node_of(top, "file"), .type = SOCK_STREAM};
	ck_assert_int_eq(simple(GOFER_CONNECT, &c, sizeof(c), NULL, NULL), -ECONNREFUSED);
}
END_TEST

/* ---- hostile form ---- */

START_TEST(malformed_messages_end_the_connection)
{
	struct gofer_hdr h = {.size = 16, .op = GOFER_GETATTR};

	ck_assert_int_eq(server_handle(&server, (uint8_t *)&h, 0, 0, &rep), -EPROTO);
	ck_assert_int_eq(server_handle(&server, (uint8_t *)&h, 15, 0, &rep), -EPROTO);
	h.size = 17;
	ck_assert_int_eq(server_handle(&server, (uint8_t *)&h, 16, 0, &rep), -EPROTO);
	h.size = 16;
	ck_assert_int_eq(server_handle(&server, (uint8_t *)&h, 16, 1, &rep), -EPROTO);
	h.nfds = 1;
	ck_assert_int_eq(server_handle(&server, (uint8_t *)&h, 16, 0, &rep), -EPROTO);
	h.nfds = 0;
	h.error = -1;
	ck_assert_int_eq(server_handle(&server, (uint8_t *)&h, 16, 0, &rep), -EPROTO);
}
END_TEST

START_TEST(short_and_long_requests_are_refused)
{
	for (uint16_t op = 0; op < GOFER_OPS + 3; op++) {
		begin(op);
		int err = send_msg(NULL, NULL);
		if (op == GOFER_CLOSE)
			ck_assert_uint_eq(rep.len, 0);
		else if (op == 0 || op >= GOFER_OPS)
			ck_assert_int_eq(err, -ENOSYS);
		else
			ck_assert_int_eq(err, -EPROTO);
		begin(op);
		msg_len += 4000;
		memset(msg + sizeof(struct gofer_hdr), 0xff, 4000);
		err = send_msg(NULL, NULL);
		if (op != GOFER_CLOSE)
			ck_assert_int_lt(err, 0);
	}
}
END_TEST

START_TEST(giant_counts_are_refused)
{
	uint64_t top = attach(0);
	struct gofer_walk_req w = {.node = top, .count = UINT32_MAX};
	struct gofer_close_req c = {.count = UINT32_MAX};

	ck_assert_int_eq(simple(GOFER_WALK, &w, sizeof(w), "xx", NULL), -EPROTO);
	w.count = 0;
	ck_assert_int_eq(simple(GOFER_WALK, &w, sizeof(w), NULL, NULL), -EPROTO);
	w.count = 3;
	ck_assert_int_eq(simple(GOFER_WALK, &w, sizeof(w), "\1", NULL), -EPROTO);
	simple(GOFER_CLOSE, &c, sizeof(c), "1234567", NULL);
	c.count = 1u << 29;
	simple(GOFER_CLOSE, &c, sizeof(c), NULL, NULL);
	struct gofer_unlink_req u = {.dir = top, .name_len = UINT16_MAX};
	ck_assert_int_eq(simple(GOFER_UNLINK, &u, sizeof(u), "file", NULL), -EPROTO);
	struct gofer_name_req s = {.dir = top, .name_len = 1, .target_len = UINT16_MAX};
	ck_assert_int_eq(simple(GOFER_SYMLINK, &s, sizeof(s), "lt", NULL), -EPROTO);
	struct gofer_attach_req a = {.attach = 9, .version = GOFER_VERSION};
	ck_assert_int_eq(simple(GOFER_ATTACH, &a, sizeof(a), NULL, NULL), -EINVAL);
}
END_TEST

START_TEST(invented_ids_find_nothing)
{
	uint64_t top = attach(0),
		 ids[] = {0, 1, top + 1, top + (1ULL << 32), UINT64_MAX, 1ULL << 63};
	struct gofer_walk_rep *h;
	struct gofer_entry *e;

	for (size_t i = 0; i < sizeof(ids) / sizeof(*ids); i++) {
		struct gofer_node_req n = {ids[i]};
		ck_assert_int_eq(simple(GOFER_GETATTR, &n, sizeof(n), NULL, NULL), -EBADF);
		ck_assert_int_eq(walk(ids[i], 0, "x", &h, &e), -EBADF);
		close_node(ids[i]);
	}
	struct gofer_node_req n = {top};
	ck_assert_int_eq(simple(GOFER_GETATTR, &n, sizeof(n), NULL, NULL), 0);
}
END_TEST

/* ---- the whole process ---- */

/* Runs in new namespaces as root of them; returns what the parent checks as the exit status. */
static void confined_child(int conn, int ready)
{
	struct gofer_attach at[2] = {{root, -1, false}, {"/usr", -1, true}};
	struct gofer_config c = {.conn_fd = conn,
				 .log_fd = STDERR_FILENO,
				 .ready_fd = ready,
				 .nattach = 2,
				 .attach = at};

	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		_exit(9);
	int err = gofer_main(&c);
	syscall(231 /* exit_group */, err ? 1 : 0);
}

static bool have_namespaces(void)
{
#ifdef __SANITIZE_ADDRESS__
	return false; /* the sanitizer's own calls are not on the list */
#endif
	pid_t p = fork();
	if (p == 0)
		_exit(unshare(CLONE_NEWUSER | CLONE_NEWNS) ? 1 : 0);
	int st;
	waitpid(p, &st, 0);
	return WIFEXITED(st) && WEXITSTATUS(st) == 0;
}

static void map_ids(pid_t pid)
{
	char path[64], text[64];
	const char *files[] = {"setgroups", "uid_map", "gid_map"};
	unsigned ids[] = {0, geteuid(), getegid()};

	for (int i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "/proc/%d/%s", pid, files[i]);
		if (i && geteuid() == 0)
			snprintf(text, sizeof(text), "0 0 65536\n");
		else if (i)
			snprintf(text, sizeof(text), "0 %u 1\n", ids[i]);
		else
			snprintf(text, sizeof(text), "%s", geteuid() ? "deny" : "allow");
		int fd = open(path, O_WRONLY);
		ck_assert_int_ge(fd, 0);
		ck_assert_int_gt(write(fd, text, strlen(text)), 0);
		close(fd);
	}
}

static size_t ask(int conn, void *m, size_t n, void *out, size_t room, int *fd)
{
	char control[CMSG_SPACE(2 * sizeof(int))] __attribute__((aligned(8)));
	struct iovec iov = {out, room};
	struct msghdr mh = {.msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control,
			    .msg_controllen = sizeof(control)};

	ck_assert_int_eq(send(conn, m, n, MSG_NOSIGNAL), (ssize_t)n);
	ssize_t r = recvmsg(conn, &mh, 0);
	ck_assert_int_ge(r, (ssize_t)sizeof(struct gofer_hdr));
	struct cmsghdr *c = CMSG_FIRSTHDR(&mh);
	if (fd)
		*fd = -1;
	if (c && fd)
		memcpy(fd, CMSG_DATA(c), sizeof(*fd));
	return (size_t)r;
}

struct full_reply {
	struct gofer_hdr h;
	union {
		struct gofer_attach_rep at;
		struct gofer_entry e;
		struct {
			struct gofer_walk_rep w;
			struct gofer_entry we;
		};
		uint8_t bytes[8192];
	};
};

static uint64_t real_attach(int conn, uint32_t id, struct full_reply *r)
{
	struct {
		struct gofer_hdr h;
		struct gofer_attach_req rq;
	} m = {{sizeof(m), GOFER_ATTACH, 0, 1, 0}, {id, GOFER_VERSION}};

	ask(conn, &m, sizeof(m), r, sizeof(*r), NULL);
	ck_assert_int_eq(r->h.error, 0);
	return r->at.entry.node;
}

static int real_name(int conn, uint16_t op, uint64_t dir, const char *name, uint32_t mode,
		     struct full_reply *r, int *fd)
{
	struct {
		struct gofer_hdr h;
		struct gofer_name_req rq;
		char name[256];
	} m = {{0, op, 0, 2, 0},
	       {.dir = dir, .mode = mode, .name_len = (uint16_t)strlen(name)},
	       ""};

	strcpy(m.name, name);
	m.h.size = (uint32_t)(offsetof(__typeof__(m), name) + strlen(name));
	ask(conn, &m, m.h.size, r, sizeof(*r), fd);
	return r->h.error;
}

static int watch_node(uint64_t node, uint32_t flags, struct gofer_watch_rep **out)
{
	struct gofer_watch_req rq = {.node = node, .flags = flags};

	return simple(GOFER_WATCH, &rq, sizeof(rq), NULL, (void **)out);
}

START_TEST(watches_share_one_descriptor)
{
	char buf[4096] __attribute__((aligned(8)));
	uint64_t top = attach(0);
	struct gofer_watch_rep *w;
	struct gofer_unwatch_req u = {.wd = 1};
	struct gofer_entry *e;

	ck_assert_int_eq(simple(GOFER_UNWATCH, &u, sizeof(u), NULL, NULL), -EINVAL);
	ck_assert_int_eq(watch_node(top + 77, 0, &w), -EBADF);
	ck_assert_int_eq(watch_node(top, 2, &w), -EINVAL);
	ck_assert_int_eq(simple(GOFER_WATCH, &top, sizeof(top), NULL, NULL), -EPROTO);
	ck_assert_int_eq(named(GOFER_MKNOD, top, "fifo2", S_IFIFO | 0600, &e), 0);
	ck_assert_int_eq(watch_node(e->node, 0, &w), -EPERM);

	ck_assert_int_eq(watch_node(top, GOFER_WATCH_START, &w), 0);
	ck_assert_uint_eq(rep.nfds, 1);
	ck_assert(rep.lent);
	int fd = rep.fds[0], wd = w->wd;
	rep.nfds = 0; /* it stays the server's */
	ck_assert_int_gt(wd, 0);
	ck_assert_int_eq(watch_node(top, 0, &w), 0);
	ck_assert_uint_eq(rep.nfds, 0);
	ck_assert_int_eq(w->wd, wd);
	ck_assert_int_eq(mkdir(in_root("watched"), 0755), 0);
	const struct inotify_event *ev = (const void *)buf;
	ck_assert_int_gt(read(fd, buf, sizeof(buf)), (ssize_t)sizeof(*ev));
	ck_assert_int_eq(ev->wd, wd);
	ck_assert_uint_eq(ev->mask, IN_CREATE | IN_ISDIR);
	ck_assert_str_eq(ev->name, "watched");
	ck_assert_int_eq(read(fd, buf, sizeof(buf)), -1); /* opening and listing are not told */
	ck_assert_int_eq(errno, EAGAIN);
	u.wd = wd;
	ck_assert_int_eq(simple(GOFER_UNWATCH, &u, sizeof(u), NULL, NULL), 0);
	ck_assert_int_eq(simple(GOFER_UNWATCH, &u, sizeof(u), NULL, NULL), -EINVAL);
}
END_TEST

START_TEST(the_process_serves_shut_in_and_ends_with_its_connection)
{
	int conn[2], ready[2], fd, st;
	struct full_reply r;
	char c;

	if (!have_namespaces())
		return; /* no user namespaces here */
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, conn), 0);
	ck_assert_int_eq(pipe2(ready, O_CLOEXEC), 0);
	int go[2];
	ck_assert_int_eq(pipe(go), 0);
	chmod(root, 0777);
	pid_t pid = fork();
	if (pid == 0) {
		if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC |
			    CLONE_NEWUTS))
			_exit(8);
		ck_assert_int_eq(write(ready[1], "u", 1), 1);
		if (read(go[0], &c, 1) != 1)
			_exit(7);
		confined_child(conn[1], ready[1]);
	}
	close(conn[1]);
	close(ready[1]);
	ck_assert_int_eq(read(ready[0], &c, 1), 1);
	map_ids(pid);
	ck_assert_int_eq(write(go[1], "x", 1), 1);
	ck_assert_int_eq(read(ready[0], &c, 1), 1);

	/* What it has become. */
	char path[64], line[256];
	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	FILE *f = fopen(path, "r");
	unsigned long long caps = 1, bounding = 1;
	int nnp = 0, seccomp = 0;
	while (fgets(line, sizeof(line), f)) {
		sscanf(line, "CapPrm: %llx", &caps);
		sscanf(line, "CapBnd: %llx", &bounding);
		sscanf(line, "NoNewPrivs: %d", &nnp);
		sscanf(line, "Seccomp: %d", &seccomp);
	}
	fclose(f);
	ck_assert_uint_eq(caps, 0x1f);
	ck_assert_uint_eq(bounding, 0x1f);
	ck_assert_int_eq(nnp, 1);
	ck_assert_int_eq(seccomp, 2);

	uint64_t top = real_attach(conn[0], 0, &r), usr = real_attach(conn[0], 1, &r);
	ck_assert_uint_eq(r.at.flags, GOFER_ATTACH_READONLY);
	ck_assert_int_eq(real_name(conn[0], GOFER_CREATE, top, "made", 0640, &r, &fd), 0);
	ck_assert_int_ge(fd, 0);
	ck_assert_uint_eq(r.e.attr.mode, S_IFREG | 0640);
	ck_assert_int_eq(write(fd, "data", 4), 4);
	close(fd);
	ck_assert_int_eq(real_name(conn[0], GOFER_MKDIR, top, "made2", 0750, &r, &fd), 0);
	ck_assert_int_eq(real_name(conn[0], GOFER_MKNOD, top, "made3", S_IFIFO | 0750, &r, &fd), 0);
	struct {
		struct gofer_hdr h;
		struct gofer_rename_req rq;
		char names[9];
	} __attribute__((packed))
	mv = {{sizeof(mv), GOFER_RENAME, 0, 5, 0}, {top, top, 0, 4, 5}, {"mademoved"}};
	ask(conn[0], &mv, sizeof(mv), &r, sizeof(r), NULL);
	ck_assert_int_eq(r.h.error, 0);
	ck_assert_int_eq(real_name(conn[0], GOFER_CREATE, usr, "made", 0640, &r, &fd), -EROFS);
	ck_assert_int_eq(real_name(conn[0], GOFER_BIND, top, "sock", 0640, &r, &fd), -EPERM);
	struct {
		struct gofer_hdr h;
		struct gofer_walk_req rq;
		uint16_t len;
		char name[3];
	} __attribute__((packed)) w = {{sizeof(w), GOFER_WALK, 0, 3, 0}, {usr, 0, 1}, 3, "bin"};
	ask(conn[0], &w, sizeof(w), &r, sizeof(r), NULL);
	ck_assert_int_eq(r.h.error, 0);
	ck_assert_int_eq(r.w.stop, 0);
	struct {
		struct gofer_hdr h;
		struct gofer_readdir_req rq;
	} d = {{sizeof(d), GOFER_READDIR, 0, 4, 0},
	       {usr, 0, 4000, GOFER_READDIR_START | GOFER_READDIR_ATTRS}};
	ask(conn[0], &d, sizeof(d), &r, sizeof(r), NULL);
	ck_assert_int_eq(r.h.error, 0);

	close(conn[0]);
	ck_assert_int_eq(waitpid(pid, &st, 0), pid);
	ck_assert(WIFEXITED(st));
	ck_assert_int_eq(WEXITSTATUS(st), 0);
}
END_TEST

int main(int argc, char **argv)
{
	Suite *s = suite_create("gofer");
	TCase *t = tcase_create("server");

	(void)argc;
	(void)argv;
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, walk_returns_every_step_with_attributes);
	tcase_add_test(t, walk_stops_at_missing_link_and_file);
	tcase_add_test(t, walk_stat_keeps_nothing);
	tcase_add_test(t, walk_last_keeps_one_node);
	tcase_add_test(t, names_are_single_components);
	tcase_add_test(t, links_are_never_followed);
	tcase_add_test(t, readlink_and_statfs);
	tcase_add_test(t, open_donates_exactly_what_was_asked);
	tcase_add_test(t, open_refuses_all_but_regular_files);
	tcase_add_test(t, open_follows_the_inode_not_the_name);
	tcase_add_test(t, nodes_are_bounded_and_given_back);
	tcase_add_test(t, running_out_of_descriptors_is_an_error_only);
	tcase_add_test(t, create_gives_owner_mode_and_descriptor);
	tcase_add_test(t, setgid_directories_pass_on_their_group);
	tcase_add_test(t, mknod_never_makes_devices);
	tcase_add_test(t, symlink_link_rename_unlink);
	tcase_add_test(t, watches_share_one_descriptor);
	tcase_add_test(t, setattr_changes_mode_size_and_times);
	tcase_add_test(t, readonly_attach_points_refuse_changes);
	tcase_add_test(t, xattrs_are_user_only);
	tcase_add_test(t, readdir_of_a_small_directory_is_one_message);
	tcase_add_test(t, readdir_in_pieces_loses_and_repeats_nothing);
	tcase_add_test(t, list_goes_down_while_there_is_room);
	tcase_add_test(t, list_of_a_large_directory_leaves_a_handle);
	tcase_add_test(t, open_many_opens_regular_files_only);
	tcase_add_test(t, host_sockets_need_permission);
	tcase_add_test(t, bind_and_connect);
	tcase_add_test(t, malformed_messages_end_the_connection);
	tcase_add_test(t, short_and_long_requests_are_refused);
	tcase_add_test(t, giant_counts_are_refused);
	tcase_add_test(t, invented_ids_find_nothing);
	tcase_add_test(t, the_process_serves_shut_in_and_ends_with_its_connection);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
