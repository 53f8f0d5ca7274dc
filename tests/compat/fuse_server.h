/*
 * fuse_server.h - a FUSE server for the cases about FUSE: a flat directory of small files in
 * memory, spoken by hand, so that it can also say what no library would.  It runs in a process of
 * its own; `shared` is what the two have in common.
 */
#pragma once

#include <linux/fuse.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/xattr.h>

#include "play.h"

#define FILES 16
#define FILE_MAX 65536

enum {		 /* names of files with a meaning */
       SLOW = 2, /* a read is answered when it is interrupted */
       FIRST,
};

static struct {
	/* What it is to do. */
	uint64_t timeout;	/* of names and attributes, seconds */
	_Atomic int wrong_size; /* answers to GETATTR are so many bytes longer */
	uint64_t lookup_nodeid; /* not 0: LOOKUP names this node */
	bool bad_dirent, change_type, long_read;
	uint32_t open_flags;
	/* What it saw. */
	_Atomic int seen[64];
	_Atomic long last_error; /* of the last write to /dev/fuse that failed */
	/* Its files: node i + 1 is files[i]; 0 the root. */
	struct {
		char name[64];
		uint32_t mode;
		size_t size;
		uint64_t mtime;
		char xattr[64];
		char data[FILE_MAX];
	} files[FILES];
} * shared;

struct request {
	struct fuse_in_header h;
	char body[FUSE_MIN_READ_BUFFER + FILE_MAX * 2];
};

static uint64_t slow_unique;

static void answer_raw(int dev, uint64_t unique, int error, const void *data, size_t n)
{
	static struct {
		struct fuse_out_header h;
		char data[FILE_MAX * 3];
	} m;

	m.h = (struct fuse_out_header){(uint32_t)(sizeof(m.h) + n), error, unique};
	if (n)
		memcpy(m.data, data, n);
	if (write(dev, &m, m.h.len) < 0)
		shared->last_error = errno;
}

static void answer(int dev, const struct request *r, int error, const void *data, size_t n)
{
	answer_raw(dev, r->h.unique, error, data, error ? 0 : n);
}

static int node_by_name(const char *name)
{
	for (int i = 1; i < FILES; i++)
		if (shared->files[i].mode && !strcmp(shared->files[i].name, name))
			return i + 1;
	return 0;
}

static struct fuse_attr attr_of(uint64_t node)
{
	const uint64_t i = node - 1;

	return (struct fuse_attr){
		.ino = node + 100,
		.size = shared->files[i].size,
		.mode = shared->change_type && i ? S_IFIFO | 0644 : shared->files[i].mode,
		.nlink = 1,
		.mtime = shared->files[i].mtime,
		.blksize = 4096,
	};
}

static struct fuse_entry_out entry_of(uint64_t node)
{
	return (struct fuse_entry_out){.nodeid =
					       shared->lookup_nodeid ? shared->lookup_nodeid : node,
				       .generation = 1,
				       .entry_valid = shared->timeout,
				       .attr_valid = shared->timeout,
				       .attr = attr_of(node)};
}

static void serve_lookup(int dev, const struct request *r, const char *name)
{
	int node = node_by_name(name);
	struct fuse_entry_out e = node ? entry_of((uint64_t)node) : (struct fuse_entry_out){0};

	answer(dev, r, node ? 0 : -ENOENT, &e, sizeof(e));
}

static int node_make(const char *name, uint32_t mode)
{
	for (int i = FIRST; i < FILES; i++)
		if (!shared->files[i].mode) {
			memset(&shared->files[i], 0, sizeof(shared->files[i]));
			strncpy(shared->files[i].name, name, sizeof(shared->files[i].name) - 1);
			shared->files[i].mode = mode;
			return i + 1;
		}
	return 0;
}

static void serve_make(int dev, const struct request *r, const char *name, uint32_t mode,
		       bool opened)
{
	int node = node_make(name, mode);
	struct {
		struct fuse_entry_out e;
		struct fuse_open_out o;
	} out = {.e = node ? entry_of((uint64_t)node) : (struct fuse_entry_out){0},
		 .o = {.fh = 7, .open_flags = shared->open_flags}};

	answer(dev, r, node ? 0 : -ENOSPC, &out, opened ? sizeof(out) : sizeof(out.e));
}

static void serve_readdir(int dev, const struct request *r, uint64_t off)
{
	char buf[4096];
	size_t n = 0;

	for (uint64_t i = off + 1; i < FILES && n < 3000; i++) {
		if (!shared->files[i].mode)
			continue;
		struct fuse_dirent *d = (struct fuse_dirent *)(buf + n);
		*d = (struct fuse_dirent){.ino = i + 101,
					  .off = i,
					  .namelen = (uint32_t)strlen(shared->files[i].name),
					  .type = shared->files[i].mode >> 12};
		memset(d->name, 0, FUSE_DIRENT_SIZE(d) - FUSE_NAME_OFFSET);
		memcpy(d->name, shared->files[i].name, d->namelen);
		if (shared->bad_dirent)
			d->name[0] = '/';
		n += FUSE_DIRENT_SIZE(d);
	}
	answer(dev, r, 0, buf, n);
}

static void serve_setattr(int dev, const struct request *r)
{
	const struct fuse_setattr_in *s = (const void *)r->body;
	struct fuse_attr_out out = {.attr_valid = shared->timeout};
	uint64_t i = r->h.nodeid - 1;

	if (s->valid & FATTR_MODE)
		shared->files[i].mode = s->mode;
	if (s->valid & FATTR_SIZE && s->size <= FILE_MAX) {
		if (s->size > shared->files[i].size)
			memset(shared->files[i].data + shared->files[i].size, 0,
			       s->size - shared->files[i].size);
		shared->files[i].size = s->size;
	}
	if (s->valid & FATTR_MTIME)
		shared->files[i].mtime = s->mtime;
	out.attr = attr_of(r->h.nodeid);
	answer(dev, r, 0, &out, sizeof(out));
}

static void serve_io(int dev, const struct request *r)
{
	const struct fuse_read_in *in = (const void *)r->body;
	uint64_t i = r->h.nodeid - 1;

	if (r->h.opcode == FUSE_READ && i == SLOW) {
		slow_unique = r->h.unique;
		return;
	}
	if (r->h.opcode == FUSE_READ) {
		size_t size = shared->files[i].size;
		size_t n = in->offset < size ? size - in->offset : 0;
		if (n > in->size)
			n = in->size;
		answer(dev, r, 0, shared->files[i].data + in->offset,
		       shared->long_read ? in->size + 1 : n);
		return;
	}
	struct fuse_write_out out = {.size = in->size};
	if (in->offset + in->size > FILE_MAX) {
		answer(dev, r, -EFBIG, NULL, 0);
		return;
	}
	memcpy(shared->files[i].data + in->offset, r->body + sizeof(struct fuse_write_in),
	       in->size);
	if (in->offset + in->size > shared->files[i].size)
		shared->files[i].size = in->offset + in->size;
	answer(dev, r, 0, &out, sizeof(out));
}

static void serve_rename(int dev, const struct request *r, const char *old)
{
	const char *new = old + strlen(old) + 1;
	int to = node_by_name(new), from = node_by_name(old);

	if (to)
		shared->files[to - 1].mode = 0;
	strncpy(shared->files[from - 1].name, new, sizeof(shared->files[0].name) - 1);
	answer(dev, r, 0, NULL, 0);
}

static void serve_xattr(int dev, const struct request *r)
{
	uint64_t i = r->h.nodeid - 1;
	const struct fuse_getxattr_in *g = (const void *)r->body;
	const struct fuse_setxattr_in *s = (const void *)r->body;
	const char *name = r->body + sizeof(*g);

	if (r->h.opcode == FUSE_SETXATTR) {
		name = r->body + FUSE_COMPAT_SETXATTR_IN_SIZE;
		memcpy(shared->files[i].xattr, name + strlen(name) + 1, s->size);
		answer(dev, r, 0, NULL, 0);
		return;
	}
	size_t n = strlen(shared->files[i].xattr);
	struct fuse_getxattr_out out = {.size = (uint32_t)n};
	if (strcmp(name, "user.x"))
		answer(dev, r, -ENODATA, NULL, 0);
	else if (!g->size)
		answer(dev, r, 0, &out, sizeof(out));
	else
		answer(dev, r, g->size < n ? -ERANGE : 0, shared->files[i].xattr, n);
}

static void serve_one(int dev, const struct request *r)
{
	struct fuse_init_out init = {.major = 7,
				     .minor = 31,
				     .max_readahead = 65536,
				     .flags = FUSE_BIG_WRITES | FUSE_AUTO_INVAL_DATA,
				     .max_write = FILE_MAX};
	struct fuse_attr_out attr[2] = {{.attr_valid = shared->timeout}};
	struct fuse_open_out open = {.fh = 5, .open_flags = shared->open_flags};
	struct fuse_statfs_out statfs = {.st = {.blocks = 1000, .bsize = 4096, .namelen = 60}};
	const struct fuse_interrupt_in *irq = (const void *)r->body;

	if (r->h.opcode < 64)
		shared->seen[r->h.opcode]++;
	switch (r->h.opcode) {
	case FUSE_INIT:
		answer(dev, r, 0, &init, sizeof(init));
		break;
	case FUSE_LOOKUP:
		serve_lookup(dev, r, r->body);
		break;
	case FUSE_GETATTR:
		attr[0].attr = attr_of(r->h.nodeid);
		answer(dev, r, 0, attr,
		       sizeof(attr[0]) + (size_t)atomic_exchange(&shared->wrong_size, 0));
		break;
	case FUSE_SETATTR:
		serve_setattr(dev, r);
		break;
	case FUSE_OPEN:
	case FUSE_OPENDIR:
		answer(dev, r, 0, &open, sizeof(open));
		break;
	case FUSE_CREATE:
		serve_make(dev, r, r->body + sizeof(struct fuse_create_in),
			   ((const struct fuse_create_in *)(const void *)r->body)->mode, true);
		break;
	case FUSE_MKNOD:
		serve_make(dev, r, r->body + sizeof(struct fuse_mknod_in),
			   ((const struct fuse_mknod_in *)(const void *)r->body)->mode, false);
		break;
	case FUSE_MKDIR:
		serve_make(dev, r, r->body + sizeof(struct fuse_mkdir_in), S_IFDIR | 0755, false);
		break;
	case FUSE_SYMLINK: {
		serve_make(dev, r, r->body, S_IFLNK | 0777, false);
		const char *to = r->body + strlen(r->body) + 1;
		int node = node_by_name(r->body);
		strcpy(shared->files[node - 1].data, to);
		shared->files[node - 1].size = strlen(to);
		break;
	}
	case FUSE_READLINK:
		answer(dev, r, 0, shared->files[r->h.nodeid - 1].data,
		       shared->files[r->h.nodeid - 1].size);
		break;
	case FUSE_UNLINK:
	case FUSE_RMDIR:
		shared->files[node_by_name(r->body) - 1].mode = 0;
		answer(dev, r, 0, NULL, 0);
		break;
	case FUSE_RENAME:
		serve_rename(dev, r, r->body + sizeof(struct fuse_rename_in));
		break;
	case FUSE_RENAME2:
		serve_rename(dev, r, r->body + sizeof(struct fuse_rename2_in));
		break;
	case FUSE_READ:
	case FUSE_WRITE:
		serve_io(dev, r);
		break;
	case FUSE_READDIR:
		serve_readdir(dev, r, ((const struct fuse_read_in *)(const void *)r->body)->offset);
		break;
	case FUSE_STATFS:
		answer(dev, r, 0, &statfs, sizeof(statfs));
		break;
	case FUSE_GETXATTR:
	case FUSE_SETXATTR:
		serve_xattr(dev, r);
		break;
	case FUSE_INTERRUPT:
		if (irq->unique == slow_unique)
			answer_raw(dev, slow_unique, -EINTR, NULL, 0);
		break;
	case FUSE_FLUSH:
	case FUSE_FSYNC:
	case FUSE_RELEASE:
	case FUSE_RELEASEDIR:
		answer(dev, r, 0, NULL, 0);
		break;
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
		break;
	default:
		answer(dev, r, -ENOSYS, NULL, 0);
	}
}

static _Noreturn void serve(int dev)
{
	static struct request r;

	for (;;) {
		ssize_t n = read(dev, &r, sizeof(r));
		if (n < 0 && errno == ENODEV)
			_exit(0);
		if (n < 0 && errno != EINTR)
			_exit(1);
		if (n > 0)
			serve_one(dev, &r);
	}
}

static pid_t server;

static void put_file(int i, const char *name, const char *text)
{
	strcpy(shared->files[i].name, name);
	shared->files[i].mode = S_IFREG | 0644;
	shared->files[i].size = strlen(text);
	strcpy(shared->files[i].data, text);
}

/* A mount at "m" in an empty directory, and its server; options go after the obligatory ones. */
static void fuse_start(const char *more)
{
	char options[200];

	enter_empty();
	EXPECT(!mkdir("m", 0755));
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	EXPECT(shared != MAP_FAILED);
	shared->files[0].mode = S_IFDIR | 0755;
	put_file(1, "hello", "hello, fuse");
	put_file(SLOW, "slow", "0123456789");
	int dev = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (dev < 0)
		test_skip("no /dev/fuse");
	snprintf(options, sizeof(options), "fd=%d,rootmode=40755,user_id=0,group_id=0%s", dev,
		 more);
	if (mount("compat", "m", "fuse.compat", MS_NOSUID | MS_NODEV, options)) {
		if (errno == ENODEV)
			test_skip("no FUSE");
		FAIL("mount: %s", strerror(errno));
	}
	server = fork();
	EXPECT(server >= 0);
	if (!server)
		serve(dev);
	close(dev);
}

static void fuse_end(void)
{
	int status;

	EXPECT(!umount("m"));
	EXPECT_EQ(waitpid(server, &status, 0), server);
	EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	leave();
}
