/*
 * The gofer's client against a gofer that says what the input says.
 *
 * A thread answers each request with the next chunk: a byte of flags (1: an error, 2: a descriptor
 * comes along, 4: the header is wrong too, 8: a directory, 16: a regular file, 32: a symlink), a
 * 16-bit length, the payload.  With 8, 16 or 32 what would be an entry's node and type are made
 * plausible, or nothing would get past them.  At the input's end the connection ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "gofer/proto.h"
#include "sentry/fs/gofer/goferfs.h"
#include "sentry/vfs/file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct liar {
	int fd;
	const uint8_t *data;
	size_t size;
	uint64_t next_node;
};

static void make_plausible(struct liar *l, uint8_t flags, uint16_t op, uint8_t *payload, size_t n)
{
	size_t at = op == GOFER_WALK ? sizeof(struct gofer_walk_rep) : 0;
	struct gofer_entry e;

	if (!(flags & 56) || n < at + sizeof(e))
		return;
	memcpy(&e, payload + at, sizeof(e));
	e.node = ++l->next_node;
	e.error = 0;
	e.attr.mode = (e.attr.mode & 07777) | (flags & 8    ? S_IFDIR
					       : flags & 16 ? S_IFREG
							    : S_IFLNK);
	memcpy(payload + at, &e, sizeof(e));
}

static void answer(struct liar *l, const struct gofer_hdr *asked)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {{0}};
	static uint8_t payload[65536];
	uint8_t flags = l->data[0];
	size_t n = l->data[1] | (size_t)l->data[2] << 8;
	int zero = -1;

	l->data += 3;
	l->size -= 3;
	n = MIN(n, l->size);
	memcpy(payload, l->data, n);
	l->data += n;
	l->size -= n;
	make_plausible(l, flags, asked->op, payload, n);
	struct gofer_hdr h = {.size = (uint32_t)(sizeof(h) + n), .op = asked->op, .id = asked->id};
	struct iovec iov[2] = {{&h, sizeof(h)}, {payload, n}};
	struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2};
	if (flags & 1) {
		h.error = n ? -(int)payload[0] : -ENOENT;
		h.size = sizeof(h);
		m.msg_iovlen = 1;
	} else if (flags & 2 && (zero = open("/dev/zero", O_RDONLY | O_CLOEXEC)) >= 0) {
		m.msg_control = control.buf;
		m.msg_controllen = sizeof(control.buf);
		*CMSG_FIRSTHDR(&m) = (struct cmsghdr){.cmsg_level = SOL_SOCKET,
						      .cmsg_type = SCM_RIGHTS,
						      .cmsg_len = CMSG_LEN(sizeof(int))};
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), &zero, sizeof(zero));
		h.nfds = 1;
	}
	if (flags & 4)
		memcpy(&h, payload, MIN(n, sizeof(h)));
	if (sendmsg(l->fd, &m, MSG_NOSIGNAL) < 0)
		l->size = 0;
	if (zero >= 0)
		close(zero);
}

static void *serve(void *arg)
{
	static uint8_t request[GOFER_MSG_MAX];
	struct liar *l = arg;

	while (l->size >= 3 && recv(l->fd, request, sizeof(request), 0) > 0) {
		struct gofer_hdr h;
		memcpy(&h, request, sizeof(h));
		if (h.op != GOFER_CLOSE)
			answer(l, &h);
	}
	shutdown(l->fd, SHUT_RDWR);
	return NULL;
}

static bool emit_nothing(struct dir_context *ctx, const char *name, size_t len, int64_t next_off,
			 uint64_t ino, unsigned type)
{
	(void)ctx, (void)name, (void)len, (void)next_off, (void)ino, (void)type;
	return true;
}

static void use(const struct walk_env *env, struct cred *cred)
{
	static const char *const names[] = {"a", "a/b", "c"};
	struct dir_context ctx = {.emit = emit_nothing};
	struct kstatfs fs;
	struct kstat st;
	struct path p;
	struct file *f;
	char buf[256];

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (path_walk(env, names[i], i & 1 ? WALK_NOFOLLOW : 0, &p))
			continue;
		if (!vfs_getattr(p, &st) && !vfs_statfs(p, &fs) && !vfs_truncate(p, 3, cred))
			st.size = fs.blocks;
		path_put(p);
	}
	if (!vfs_open(env, ".", O_RDONLY | O_DIRECTORY, 0, 0, &f)) {
		if (file_readdir(f, &ctx) < 0)
			buf[0] = 0;
		file_put(f);
	}
	if (!vfs_open(env, "a", O_RDWR | O_CREAT, 0600, 0, &f)) {
		if (file_pread(f, buf, sizeof(buf), 0) < 0 || file_pwrite(f, "x", 1, 0) < 0)
			buf[0] = 0;
		file_put(f);
	}
	if (!vfs_mkdir(env, "d", 0700) && vfs_mkdir(env, "d/e", 0700))
		buf[0] = 0;
}

static void mount_and_use(struct gofer_conn *conn, unsigned flags)
{
	struct super_block *sb;

	if (goferfs_mount(conn, 0, flags, &sb))
		return;
	struct mount *m = mount_new(sb, sb->root, 0, "root");
	struct mnt_ns *ns = mnt_ns_new(m);
	struct cred *cred = cred_new_root();
	const struct walk_env env = {{m, sb->root}, {m, sb->root}, cred};

	use(&env, cred);
	dcache_shrink(0);
	mnt_ns_put(ns);
	super_put(sb);
	cred_put(cred);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct goferfs_hooks hooks;
	pthread_t thread;
	int sv[2];

	if (size < 4)
		return 0;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv))
		abort();
	struct liar l = {.fd = sv[1], .data = data + 1, .size = size - 1};
	struct gofer_conn *conn = gofer_conn_new(sv[0], &hooks);
	if (!conn || pthread_create(&thread, NULL, serve, &l))
		abort();
	mount_and_use(conn, data[0] & (GOFERFS_SHARED | GOFERFS_READONLY));
	gofer_conn_put(conn);
	pthread_join(thread, NULL);
	close(sv[1]);
	return 0;
}
