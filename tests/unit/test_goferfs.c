/*
 * goferfs through the vfs, against a real gofer in another process (not shut in), and against
 * ones that lie.  The host's side is looked at, and changed, directly.
 */
#include "tests/unit/goferfs_fixture.h"

static void setup_shared(void)
{
	start(GOFERFS_SHARED, false, 1000);
}

/* ---- tests ---- */

START_TEST(attributes_are_the_hosts)
{
	check_same("file");
	check_same("dir");
	check_same("dir/deep");
	check_same("link");
	struct kstat st;
	ck_assert_int_eq(get_stat("nope", 0, &st), -ENOENT);
	ck_assert_int_eq(get_stat("file/x", 0, &st), -ENOTDIR);
	ck_assert_int_eq(get_stat("link", 0, &st), 0);
	ck_assert_uint_eq(st.size, 4);
}
END_TEST

START_TEST(reads_and_writes_reach_the_host)
{
	struct file *f = open_file("file", O_RDWR);
	char buf[16] = "";

	ck_assert_int_eq(file_pread(f, buf, sizeof(buf), 0), 5);
	ck_assert_str_eq(buf, "hello");
	ck_assert_int_eq(file_pwrite(f, "HELLO, WORLD", 12, 0), 12);
	check_same("file");
	ck_assert_int_eq(file_pread(f, buf, 5, 7), 5);
	ck_assert_mem_eq(buf, "WORLD", 5);
	ck_assert_int_eq(file_fsync(f, true), 0);
	ck_assert_int_eq(file_fallocate(f, 0, 0, 100), 0);
	check_same("file");
	ck_assert_int_eq(file_seek(f, 0, SEEK_END), 100);
	ck_assert_int_eq(file_seek(f, 0, SEEK_DATA), 0);
	file_put(f);

	struct path p;
	ck_assert_int_eq(path_walk(&env, "file", 0, &p), 0);
	ck_assert_int_eq(vfs_truncate(p, 3, cred), 0);
	path_put(p);
	check_same("file");
	file_put(open_file("file", O_WRONLY | O_TRUNC));
	check_same("file");
	struct stat st;
	ck_assert_int_eq(stat(host("file"), &st), 0);
	ck_assert_int_eq(st.st_size, 0);
}
END_TEST

START_TEST(large_writes_and_appends)
{
	size_t n = 300000;
	char *big = malloc(n), *back = malloc(n);

	for (size_t i = 0; i < n; i++)
		big[i] = (char)(i * 7);
	struct file *f = open_file("big", O_RDWR | O_CREAT | O_APPEND);
	ck_assert_int_eq(file_pwrite(f, big, 1000, 0), 1000);
	ck_assert_int_eq(file_pwrite(f, big, n, 0), (ssize_t)n);
	ck_assert_int_eq(file_pread(f, back, n, 1000), (ssize_t)n);
	ck_assert_int_eq(memcmp(big, back, n), 0);
	file_put(f);
	check_same("big");
	free(big);
	free(back);
}
END_TEST

START_TEST(names_are_made_and_removed)
{
	struct stat st;

	ck_assert_int_eq(vfs_mkdir(&env, "d1", 0750), 0);
	check_same("d1");
	ck_assert_int_eq(vfs_mkdir(&env, "d1", 0750), -EEXIST);
	file_put(open_file("d1/f", O_CREAT | O_EXCL | O_RDWR));
	check_same("d1/f");
	check_same("d1");
	ck_assert_int_eq(vfs_symlink(&env, "../dir", "d1/l"), 0);
	check_same("d1/l");
	check_same("d1/l/deep");
	ck_assert_int_eq(vfs_mknod(&env, "d1/p", S_IFIFO | 0600, 0, NULL), 0);
	check_same("d1/p");
	ck_assert_int_eq(vfs_mknod(&env, "d1/c", S_IFCHR | 0600, 0x103, NULL), -EPERM);
	ck_assert_int_eq(vfs_link(&env, "d1/f", &env, "d1/g", 0), 0);
	check_same("d1/f");
	check_same("d1/g");
	ck_assert_int_eq(vfs_rename(&env, "d1/g", &env, "dir/h", 0), 0);
	check_same("dir/h");
	check_same("d1");
	ck_assert_int_eq(vfs_unlink(&env, "dir/h", false), 0);
	check_same("d1/f");
	ck_assert_int_eq(vfs_rename(&env, "d1/f", &env, "file", 0), 0);
	check_same("file");
	ck_assert_int_eq(vfs_unlink(&env, "d1", true), -ENOTEMPTY);
	ck_assert_int_eq(vfs_unlink(&env, "d1/l", false), 0);
	ck_assert_int_eq(vfs_unlink(&env, "d1/p", false), 0);
	ck_assert_int_eq(vfs_unlink(&env, "d1", true), 0);
	ck_assert_int_eq(lstat(host("d1"), &st), -1);
}
END_TEST

START_TEST(hard_links_are_one_inode)
{
	struct kstat a, b;

	ck_assert_int_eq(link(host("file"), host("other")), 0);
	struct file *f = open_file("file", O_RDWR);
	struct file *g = open_file("other", O_RDONLY);
	ck_assert_ptr_eq(f->inode, g->inode);
	ck_assert_int_eq(file_pwrite(f, "longer text", 11, 0), 11);
	ck_assert_int_eq(get_stat("file", 0, &a), 0);
	ck_assert_int_eq(get_stat("other", 0, &b), 0);
	ck_assert_uint_eq(a.size, 11);
	ck_assert_uint_eq(b.size, 11);
	file_put(f);
	file_put(g);
}
END_TEST

START_TEST(an_unlinked_open_file_stays_usable)
{
	struct file *f = open_file("file", O_RDWR);
	struct kstat st;
	char buf[8];

	ck_assert_int_eq(vfs_unlink(&env, "file", false), 0);
	ck_assert_int_eq(file_pread(f, buf, 8, 0), 5);
	ck_assert_int_eq(file_pwrite(f, "xx", 2, 0), 2);
	ck_assert_int_eq(vfs_getattr(f->path, &st), 0);
	ck_assert_uint_eq(st.nlink, 0);
	ck_assert_int_eq(get_stat("file", 0, &st), -ENOENT);
	file_put(f);
}
END_TEST

START_TEST(maps_have_the_access_of_the_open)
{
	struct file *r = open_file("file", O_RDONLY), *w = open_file("file", O_RDWR);
	int fd;

	ck_assert_int_eq(r->ops->map_fd(r, false, &fd), 0);
	ck_assert_int_eq(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	ck_assert_int_eq(r->ops->map_fd(r, true, &fd), 0);
	ck_assert_int_eq(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	ck_assert_int_eq(w->ops->map_fd(w, false, &fd), 0);
	ck_assert_int_eq(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	ck_assert_int_eq(w->ops->map_fd(w, true, &fd), 0);
	ck_assert_int_eq(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDWR);
	char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ck_assert_ptr_ne(p, MAP_FAILED);
	p[0] = 'J';
	munmap(p, 4096);
	check_same("file");
	file_put(r);
	file_put(w);
}
END_TEST

START_TEST(attributes_can_be_set)
{
	struct path p;
	struct iattr a = {
		.valid = ATTR_MODE | ATTR_ATIME | ATTR_MTIME,
		.mode = 04711,
		.atime = {1000, 1},
		.mtime = {2000, 2},
	};

	ck_assert_int_eq(path_walk(&env, "file", 0, &p), 0);
	ck_assert_int_eq(vfs_setattr(p, &a, cred), 0);
	check_same("file");
	struct kstat st;
	ck_assert_int_eq(vfs_getattr(p, &st), 0);
	ck_assert_uint_eq(st.mode, S_IFREG | 04711);
	ck_assert_int_eq(st.mtime.sec, 2000);
	ck_assert_int_eq(st.atime.sec, 1000);
	path_put(p);
	struct kstatfs fs;
	p = env.root;
	ck_assert_int_eq(vfs_statfs(p, &fs), 0);
	ck_assert_uint_eq(fs.type, 0x01021997);
}
END_TEST

struct listing {
	struct dir_context ctx;
	int room, count;
	bool seen[400];
	int64_t last;
	bool dots[2];
};

static bool collect(struct dir_context *ctx, const char *name, size_t len, int64_t next,
		    uint64_t ino, unsigned type)
{
	struct listing *l = container_of(ctx, struct listing, ctx);
	char text[300];
	int n;

	ck_assert_uint_ne(ino, 0);
	if (l->room-- <= 0)
		return false;
	memcpy(text, name, len);
	text[len] = 0;
	l->last = next;
	if (!strcmp(text, ".") || !strcmp(text, ".."))
		l->dots[len - 1] = true;
	if (sscanf(text, "entry-with-a-rather-long-name-%d", &n) == 1) {
		ck_assert(!l->seen[n]);
		ck_assert_uint_eq(type, 8);
		l->seen[n] = true;
		l->count++;
	}
	return true;
}

START_TEST(directories_are_read_in_any_portions)
{
	char name[64];
	struct listing l = {.ctx.emit = collect};

	for (int i = 0; i < 400; i++) {
		snprintf(name, sizeof(name), "dir/entry-with-a-rather-long-name-%d", i);
		host_write(name, "");
	}
	struct file *f = open_file("dir", O_RDONLY | O_DIRECTORY);
	for (int i = 0; i < 100 && l.count < 400; i++) {
		l.room = 7;
		ck_assert_int_eq(file_readdir(f, &l.ctx), 0);
	}
	ck_assert_int_eq(l.count, 400);
	ck_assert(l.dots[0] && l.dots[1]);
	int64_t mid;
	for (int pass = 0; pass < 2; pass++) {
		/* Back to the start, then on from the middle by position. */
		struct listing a = {.ctx.emit = collect, .room = 200};
		ck_assert_int_eq(file_seek(f, 0, SEEK_SET), 0);
		ck_assert_int_eq(file_readdir(f, &a.ctx), 0);
		mid = a.last;
		struct listing b = {.ctx.emit = collect, .room = 1000};
		ck_assert_int_eq(file_readdir(f, &b.ctx), 0);
		struct listing c = {.ctx.emit = collect, .room = 1000};
		ck_assert_int_eq(file_seek(f, mid, SEEK_SET), mid);
		ck_assert_int_eq(file_readdir(f, &c.ctx), 0);
		ck_assert_int_eq(b.count, c.count);
		ck_assert_int_eq(a.count + b.count, 400);
	}
	file_put(f);
}
END_TEST

/* Order of the host's directory, as a guest would see it. */
static char order[400][64];
static int norder;

static bool remember(struct dir_context *ctx, const char *name, size_t len, int64_t next,
		     uint64_t ino, unsigned type)
{
	(void)ctx;
	(void)next;
	(void)ino;
	(void)type;
	if (name[0] != '.')
		snprintf(order[norder++], sizeof(order[0]), "dir/%.*s", (int)len, name);
	return true;
}

START_TEST(looking_at_a_listed_directory_takes_few_round_trips)
{
	struct dir_context ctx = {.emit = remember};
	struct kstat st;
	char name[64];

	norder = 0;
	for (int i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "dir/f%d", i);
		host_write(name, "x");
	}
	ck_assert_int_eq(link(host("dir/f7"), host("dir/f7-too")), 0);
	struct file *f = open_file("dir", O_RDONLY | O_DIRECTORY);
	ck_assert_int_eq(file_readdir(f, &ctx), 0);
	file_put(f);
	ck_assert_int_eq(norder, 302);
	uint32_t before = conn->next_id;
	for (int i = 0; i < norder / 2; i++)
		check_same(order[i]);
	ck_assert_uint_lt(conn->next_id - before, 15);

	/* Names found ahead of time, but changed since. */
	int at = norder / 2 + 1;
	ck_assert_int_eq(vfs_unlink(&env, order[at], false), 0);
	ck_assert_int_eq(get_stat(order[at], 0, &st), -ENOENT);
	ck_assert_int_eq(vfs_rename(&env, order[at + 1], &env, order[at + 2], 0), 0);
	ck_assert_int_eq(get_stat(order[at + 1], 0, &st), -ENOENT);
	ck_assert_int_eq(vfs_mkdir(&env, order[at + 1], 0755), 0);
	for (int i = 0; i < norder; i++)
		if (i != at)
			check_same(order[i]);
	ck_assert_int_eq(vfs_unlink(&env, "dir/f7", false), 0);
	check_same("dir/f7-too");
}
END_TEST

START_TEST(a_path_is_found_in_one_round_trip)
{
	struct kstat st;

	ck_assert_int_eq(mkdir(host("a"), 0755), 0);
	ck_assert_int_eq(mkdir(host("a/b"), 0755), 0);
	ck_assert_int_eq(mkdir(host("a/b/c"), 0755), 0);
	host_write("a/b/c/file", "1234567");
	ck_assert_int_eq(symlink("b//./c", host("a/link")), 0);

	uint32_t before = conn->next_id;
	check_same("a/b/c/file");
	ck_assert_uint_eq(conn->next_id - before, 1);
	check_same("a/b/c");
	check_same("a/b");
	check_same("a");
	ck_assert_uint_eq(conn->next_id - before, 1);
	/* What does not exist is remembered, too; the link ends the first of two walks. */
	dcache_shrink(0);
	before = conn->next_id;
	ck_assert_int_eq(get_stat("a/b/none/x", 0, &st), -ENOENT);
	ck_assert_int_eq(get_stat("a/b/none", 0, &st), -ENOENT);
	ck_assert_uint_eq(conn->next_id - before, 1);
	dcache_shrink(0);
	ck_assert_int_eq(get_stat("a/link/file", 0, &st), 0);
	ck_assert_uint_eq(st.size, 7);
	ck_assert_int_eq(get_stat("a/b/../b/c/file/", 0, &st), -ENOTDIR);
	ck_assert_int_eq(get_stat("a/b/c/file/x", 0, &st), -ENOTDIR);
	check_same("a/link");
	/* And is made and removed as ever. */
	ck_assert_int_eq(vfs_mkdir(&env, "a/b/none", 0700), 0);
	check_same("a/b/none");
	ck_assert_int_eq(vfs_unlink(&env, "a/b/none", true), 0);
	ck_assert_int_eq(get_stat("a/b/none", 0, &st), -ENOENT);
}
END_TEST

START_TEST(xattrs_pass_if_they_are_the_users)
{
	struct path p;
	char buf[64];

	ck_assert_int_eq(path_walk(&env, "file", 0, &p), 0);
	const struct inode_ops *ops = p.dentry->inode->ops;
	struct inode *in = p.dentry->inode;
	int err = ops->setxattr(in, "user.a", "v", 1, 0);
	if (err != -EOPNOTSUPP) {
		ck_assert_int_eq(err, 0);
		ck_assert_int_eq(ops->getxattr(in, "user.a", buf, 64), 1);
		ck_assert_int_eq(ops->getxattr(in, "user.a", NULL, 0), 1);
		ck_assert_int_eq(ops->listxattr(in, buf, 64), 7);
		ck_assert_int_eq(ops->removexattr(in, "user.a"), 0);
		ck_assert_int_eq(ops->getxattr(in, "user.a", buf, 64), -ENODATA);
	}
	ck_assert_int_eq(ops->getxattr(in, "security.capability", buf, 64), -ENODATA);
	ck_assert_int_eq(ops->setxattr(in, "security.capability", "v", 1, 0), -EOPNOTSUPP);
	ck_assert_int_eq(ops->getxattr(in, "security.selinux", buf, 64), -EOPNOTSUPP);
	path_put(p);
}
END_TEST

START_TEST(shared_mounts_see_the_hosts_changes)
{
	struct kstat st;
	const struct timespec window = {0, 2000000};

	ck_assert_int_eq(get_stat("file", 0, &st), 0);
	ck_assert_uint_eq(st.size, 5);
	struct file *f = open_file("file", O_RDWR | O_APPEND);
	host_write("file", "much longer");
	nanosleep(&window, NULL);
	ck_assert_int_eq(get_stat("file", 0, &st), 0);
	ck_assert_uint_eq(st.size, 11);
	ck_assert_int_eq(file_pwrite(f, "!", 1, 0), 1);
	check_same("file");
	ck_assert_int_eq(get_stat("file", 0, &st), 0);
	ck_assert_uint_eq(st.size, 12);
	file_put(f);

	host_write("fresh", "replaced");
	nanosleep(&window, NULL);
	ck_assert_int_eq(get_stat("fresh", 0, &st), 0);
	ck_assert_int_eq(rename(host("fresh"), host("file")), 0);
	nanosleep(&window, NULL);
	ck_assert_int_eq(get_stat("fresh", 0, &st), -ENOENT);
	check_same("file");
	ck_assert_int_eq(unlink(host("file")), 0);
	nanosleep(&window, NULL);
	ck_assert_int_eq(get_stat("file", 0, &st), -ENOENT);
	host_write("file", "again");
	nanosleep(&window, NULL);
	check_same("file");
}
END_TEST

START_TEST(readonly_is_refused_on_both_sides)
{
	struct file *f;

	stop();
	start(0, true, 1000);
	ck_assert(sb->readonly);
	ck_assert_int_eq(vfs_open(&env, "file", O_RDWR, 0, 0, &f), -EROFS);
	ck_assert_int_eq(vfs_mkdir(&env, "x", 0755), -EROFS);
	sb->readonly = false; /* as if the sentry were hostile */
	ck_assert_int_eq(vfs_open(&env, "file", O_RDWR, 0, 0, &f), -EROFS);
	ck_assert_int_eq(vfs_mkdir(&env, "x", 0755), -EROFS);
	file_put(open_file("file", O_RDONLY));
}
END_TEST

START_TEST(the_gofers_limit_is_not_the_guests)
{
	char name[32];
	struct kstat st;

	stop();
	start(0, false, 1300);
	for (int i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		host_write(name, "");
	}
	for (int i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		ck_assert_int_eq(get_stat(name, 0, &st), 0);
	}
}
END_TEST

START_TEST(a_killed_gofer_gives_eio_and_is_told_once)
{
	struct file *f = open_file("file", O_RDWR);
	struct kstat st;
	char buf[8];
	siginfo_t info;

	kill(server_pid, SIGKILL);
	ck_assert_int_eq(waitid(P_PID, (id_t)server_pid, &info, WEXITED | WNOWAIT), 0);
	ck_assert_int_eq(get_stat("dir", 0, &st), -EIO);
	ck_assert_int_eq(vfs_mkdir(&env, "x", 0755), -EIO);
	ck_assert_int_eq(get_stat("dir", 0, &st), -EIO);
	ck_assert_int_eq(deaths, 1);
	ck_assert(gofer_conn_dead(conn));
	/* What needs no gofer goes on. */
	ck_assert_int_eq(file_pread(f, buf, 8, 0), 5);
	file_put(f);
}
END_TEST

/* ---- lying gofers ---- */

/* Answers every request with `make`'s reply: what mounting says, or what is done then. */
static int lie_with(int (*make)(const struct gofer_hdr *rq, uint8_t *out, int *fd),
		    int (*then)(struct super_block *s))
{
	int sv[2];
	struct super_block *s;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv), 0);
	pid_t pid = fork();
	if (pid == 0) {
		static uint8_t in[GOFER_MSG_MAX], out[2 * GOFER_MSG_MAX];
		close(sv[0]);
		while (recv(sv[1], in, sizeof(in), 0) > 0) {
			int fd = -1;
			int n = make((struct gofer_hdr *)in, out, &fd);
			char control[CMSG_SPACE(sizeof(int))] = "";
			struct iovec iov = {out, (size_t)n};
			struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
			if (fd >= 0) {
				m.msg_control = control;
				m.msg_controllen = sizeof(control);
				struct cmsghdr *c = CMSG_FIRSTHDR(&m);
				c->cmsg_level = SOL_SOCKET;
				c->cmsg_type = SCM_RIGHTS;
				c->cmsg_len = CMSG_LEN(sizeof(int));
				memcpy(CMSG_DATA(c), &fd, sizeof(fd));
			}
			if (sendmsg(sv[1], &m, MSG_NOSIGNAL) < 0)
				break;
		}
		_exit(0);
	}
	close(sv[1]);
	deaths = 0;
	struct gofer_conn *c = gofer_conn_new(sv[0], &hooks);
	int err = goferfs_mount(c, 0, 0, &s);
	if (!err) {
		err = then(s);
		super_put(s);
	}
	gofer_conn_put(c);
	waitpid(pid, NULL, 0);
	return err;
}

static int look_up(struct super_block *s)
{
	struct dentry *d;

	return dentry_lookup(s->root, "x", 1, &d);
}

static int reply(const struct gofer_hdr *rq, uint8_t *out, const void *p, size_t n)
{
	struct gofer_hdr h = *rq;

	h.size = (uint32_t)(sizeof(h) + n);
	memcpy(out, &h, sizeof(h));
	memcpy(out + sizeof(h), p, n);
	return (int)h.size;
}

static struct gofer_attach_rep good_root = {
	.entry = {.node = 1, .attr = {.mode = S_IFDIR | 0755, .nlink = 2, .ino = 1}}};

static int lie_short(const struct gofer_hdr *rq, uint8_t *out, int *fd)
{
	(void)fd;
	return reply(rq, out, &good_root, sizeof(good_root) - 1);
}
static int lie_long(const struct gofer_hdr *rq, uint8_t *out, int *fd)
{
	static const uint8_t big[2000];

	(void)fd;
	return reply(rq, out, big, sizeof(big));
}
static int lie_header(const struct gofer_hdr *rq, uint8_t *out, int *fd)
{
	(void)rq;
	(void)fd;
	memset(out, 0, 8);
	return 8;
}
static int lie_id(const struct gofer_hdr *rq, uint8_t *out, int *fd)
{
	struct gofer_hdr h = *rq;

	(void)fd;
	h.id++;
	return reply(&h, out, &good_root, sizeof(good_root));
}
static int lie_error(const struct gofer_hdr *rq, uint8_t *out, int *fd)
{
	struct gofer_hdr h = *rq;

	(void)fd;
	h.error = -512;
	return reply(&h, out, &good_root, 0);
}
static int lie_fd(const struct gofer_hdr *rq, uint8_t *out, int *fd)
{
	*fd = 0;
	return reply(rq, out, &good_root, sizeof(good_root));
}
static int lie_type(const struct gofer_hdr *rq, uint8_t *out, int *fd)
{
	struct gofer_attach_rep bad = good_root;

	(void)fd;
	bad.entry.attr.mode = 0755;
	return reply(rq, out, &bad, sizeof(bad));
}
static int lie_walk_count(const struct gofer_hdr *rq, uint8_t *out, int *fd)
{
	struct gofer_walk_rep w = {.count = 1};

	(void)fd;
	if (rq->op == GOFER_ATTACH)
		return reply(rq, out, &good_root, sizeof(good_root));
	return reply(rq, out, &w, sizeof(w));
}
static int lie_walk_target(const struct gofer_hdr *rq, uint8_t *out, int *fd)
{
	struct {
		struct gofer_walk_rep w;
		struct gofer_entry e;
	} w = {{.count = 1, .target_len = 5000}, good_root.entry};

	(void)fd;
	if (rq->op == GOFER_ATTACH)
		return reply(rq, out, &good_root, sizeof(good_root));
	return reply(rq, out, &w, sizeof(w));
}

/* A directory's listing, or several, with one thing wrong. */
static struct {
	struct gofer_list_dir d;
	struct gofer_dirent e;
	char name[8];
	struct gofer_list_dir d2;
} list_lie;
static size_t list_lie_size;

static int lie_list(const struct gofer_hdr *rq, uint8_t *out, int *fd)
{
	(void)fd;
	if (rq->op == GOFER_ATTACH)
		return reply(rq, out, &good_root, sizeof(good_root));
	return reply(rq, out, &list_lie, list_lie_size);
}

static bool emit_nothing(struct dir_context *ctx, const char *name, size_t len, int64_t next,
			 uint64_t ino, unsigned type)
{
	(void)ctx, (void)name, (void)len, (void)next, (void)ino, (void)type;
	return true;
}

static int read_root(struct super_block *s)
{
	struct mount *m = mount_new(s, s->root, 0, "lies");
	struct dir_context ctx = {emit_nothing};
	struct file *f;

	int err = file_open_path((struct path){m, s->root}, O_RDONLY | O_DIRECTORY, &f);
	ck_assert_int_eq(err, 0);
	err = file_readdir(f, &ctx);
	file_put(f);
	mount_put(m);
	return err;
}

static void good_list(void)
{
	memset(&list_lie, 0, sizeof(list_lie));
	list_lie.d = (struct gofer_list_dir){
		.parent = GOFER_LIST_TOP,
		.count = 1,
		.bytes = sizeof(list_lie.e) + sizeof(list_lie.name),
	};
	list_lie.e = (struct gofer_dirent){.ino = 5, .off = 1, .name_len = 4, .type = 8};
	memcpy(list_lie.name, "name", 4);
	list_lie.d2 = (struct gofer_list_dir){.parent = 0};
	list_lie_size = sizeof(list_lie);
}

static int read_lie(void)
{
	return lie_with(lie_list, read_root);
}

START_TEST(lies_about_directories_are_found_out)
{
	good_list();
	ck_assert_int_eq(read_lie(), 0);
	good_list();
	list_lie.name[1] = '/';
	ck_assert_int_eq(read_lie(), -EIO);
	good_list();
	list_lie.name[1] = '\0';
	ck_assert_int_eq(read_lie(), -EIO);
	good_list();
	list_lie.e.name_len = 40;
	ck_assert_int_eq(read_lie(), -EIO);
	good_list();
	list_lie.e.has_attr = 1;
	ck_assert_int_eq(read_lie(), -EIO);
	good_list();
	list_lie.d.count = 2;
	ck_assert_int_eq(read_lie(), -EIO);
	good_list();
	list_lie.d.bytes = 4000;
	ck_assert_int_eq(read_lie(), -EIO);
	good_list();
	list_lie.d.parent = 0;
	ck_assert_int_eq(read_lie(), -EIO);
	good_list();
	list_lie.d.index = 1;
	ck_assert_int_eq(read_lie(), -EIO);
	good_list();
	list_lie.d2.parent = 1;
	ck_assert_int_eq(read_lie(), -EIO);
	good_list();
	list_lie.d2.index = 1;
	ck_assert_int_eq(read_lie(), -EIO);
	good_list();
	list_lie.d2.handle = 7;
	ck_assert_int_eq(read_lie(), -EIO);
	good_list();
	list_lie.d.handle = 7;
	ck_assert_int_eq(read_lie(), -EIO);
	good_list();
	list_lie_size -= 1;
	ck_assert_int_eq(read_lie(), -EIO);
}
END_TEST

START_TEST(lies_are_found_out)
{
	ck_assert_int_eq(lie_with(lie_short, look_up), -EIO);
	ck_assert_int_eq(lie_with(lie_long, look_up), -EIO);
	ck_assert_int_eq(lie_with(lie_header, look_up), -EIO);
	ck_assert_int_eq(lie_with(lie_id, look_up), -EIO);
	ck_assert_int_eq(lie_with(lie_fd, look_up), -EIO);
	ck_assert_int_eq(lie_with(lie_type, look_up), -EIO);
	ck_assert_int_eq(deaths, 1);
	ck_assert_int_eq(lie_with(lie_error, look_up), -EIO);
	ck_assert_int_eq(deaths, 0);
	ck_assert_int_eq(lie_with(lie_walk_count, look_up), -EIO);
	ck_assert_int_eq(lie_with(lie_walk_target, look_up), -EIO);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("goferfs");
	TCase *t = tcase_create("exclusive"), *sh = tcase_create("shared"),
	      *l = tcase_create("lies");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, stop);
	tcase_add_test(t, attributes_are_the_hosts);
	tcase_add_test(t, reads_and_writes_reach_the_host);
	tcase_add_test(t, large_writes_and_appends);
	tcase_add_test(t, names_are_made_and_removed);
	tcase_add_test(t, hard_links_are_one_inode);
	tcase_add_test(t, an_unlinked_open_file_stays_usable);
	tcase_add_test(t, maps_have_the_access_of_the_open);
	tcase_add_test(t, attributes_can_be_set);
	tcase_add_test(t, directories_are_read_in_any_portions);
	tcase_add_test(t, looking_at_a_listed_directory_takes_few_round_trips);
	tcase_add_test(t, a_path_is_found_in_one_round_trip);
	tcase_add_test(t, xattrs_pass_if_they_are_the_users);
	tcase_add_test(t, readonly_is_refused_on_both_sides);
	tcase_add_test(t, the_gofers_limit_is_not_the_guests);
	tcase_add_test(t, a_killed_gofer_gives_eio_and_is_told_once);
	tcase_add_checked_fixture(sh, setup_shared, stop);
	tcase_add_test(sh, attributes_are_the_hosts);
	tcase_add_test(sh, reads_and_writes_reach_the_host);
	tcase_add_test(sh, large_writes_and_appends);
	tcase_add_test(sh, names_are_made_and_removed);
	tcase_add_test(sh, shared_mounts_see_the_hosts_changes);
	tcase_add_test(l, lies_are_found_out);
	tcase_add_test(l, lies_about_directories_are_found_out);
	suite_add_tcase(s, t);
	suite_add_tcase(s, sh);
	suite_add_tcase(s, l);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
