/*
 * Fuzzes the gofer's message handler over a small tree, made anew when it was changed.
 *
 * Input: any number of messages, each one byte of operation, a length byte and that many bytes of
 * payload.  The header is made right, or nothing would get past it; node ids in the payload are
 * likely enough to be hit, since a payload that starts with 0xff gets the id of a live node there.
 */
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gofer/server.h"

#define MAX_NODES 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char root[PATH_MAX];
static int root_fd = -1, fd_dir, old_cwd;

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	return ftw->level ? remove(path) : 0;
}

static void remove_root(void)
{
	nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	rmdir(root);
}

static void make_tree(void)
{
	if (root_fd < 0) {
		snprintf(root, sizeof(root), "/tmp/fuzz_gofer.XXXXXX");
		if (!mkdtemp(root))
			abort();
		root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
		fd_dir = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
		old_cwd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
		atexit(remove_root);
	}
	nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	umask(0);
	if (mkdirat(root_fd, "d", 0755) || mkdirat(root_fd, "d/e", 0755) ||
	    symlinkat("/etc", root_fd, "l") || mknodat(root_fd, "p", S_IFIFO | 0600, 0))
		abort();
	int fd = openat(root_fd, "f", O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, "text", 4) != 4)
		abort();
	close(fd);
	umask(0777);
	if (fchdir(fd_dir))
		abort();
}

static void check_reply(struct gofer_reply *rep, uint16_t op)
{
	struct gofer_hdr h;

	if (rep->len == 0) {
		if (op != GOFER_CLOSE)
			abort();
		return;
	}
	memcpy(&h, rep->buf, sizeof(h));
	if (h.size != rep->len || rep->len > GOFER_MSG_MAX || h.nfds != rep->nfds || h.op != op ||
	    h.error > 0 || (h.error && (h.nfds || rep->len != sizeof(h))))
		abort();
	for (unsigned i = 0; i < rep->nfds; i++) {
		struct stat st;
		/* Only files of the tree, and sockets, ever leave. */
		if (fstat(rep->fds[i], &st) || !(S_ISREG(st.st_mode) || S_ISSOCK(st.st_mode)))
			abort();
		close(rep->fds[i]);
	}
}

/* The id in the n-th live slot. */
static uint64_t live_id(const struct gofer_server *s, unsigned n)
{
	for (uint32_t i = 0; i < s->nnodes; i++) {
		uint32_t slot = (i + n) % s->nnodes;
		if (s->nodes[slot].kind != NODE_FREE)
			return (uint64_t)s->nodes[slot].gen << 32 | slot;
	}
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t *buf;
	struct gofer_server s;

	if (!buf && !(buf = malloc(GOFER_MSG_MAX)))
		abort();
	make_tree();
	struct gofer_reply rep = {.buf = buf};
	struct attach_point ap = {fcntl(root_fd, F_DUPFD_CLOEXEC, 3), false};
	if (server_init(&s, &ap, 1, true, MAX_NODES))
		abort();
	struct {
		struct gofer_hdr h;
		struct gofer_attach_req rq;
	} attach = {{sizeof(attach), GOFER_ATTACH, 0, 0, 0}, {0, GOFER_VERSION}};
	if (server_handle(&s, (uint8_t *)&attach, sizeof(attach), 0, &rep))
		abort();

	while (size >= 2) {
		uint16_t op = data[0];
		size_t n = data[1];
		data += 2;
		size -= 2;
		if (n > size)
			n = size;
		struct gofer_hdr h = {.size = (uint32_t)(sizeof(h) + n), .op = op, .id = 5};
		uint8_t *m = malloc(h.size); /* exact, so that reading past the end is seen */
		if (!m)
			abort();
		memcpy(m, &h, sizeof(h));
		memcpy(m + sizeof(h), data, n);
		for (size_t at = 0; at + 8 <= n && at < 16; at += 8)
			if (data[at] == 0xff) {
				uint64_t id = live_id(&s, data[at + 1]);
				memcpy(m + sizeof(h) + at, &id, sizeof(id));
			}
		if (server_handle(&s, m, h.size, 0, &rep))
			abort();
		check_reply(&rep, op);
		free(m);
		data += n;
		size -= n;
	}
	if (s.live > MAX_NODES)
		abort();
	server_fini(&s);
	umask(022);
	return fchdir(old_cwd) ? 1 : 0;
}
