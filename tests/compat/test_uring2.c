/* io_uring, further: large entries, polled submission, many answers, chosen buffers, direct files.
 */
#include "tests/compat/compat.h"
#include "tests/compat/uring.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/xattr.h>

static struct io_uring_cqe push_run(int op, int fd, const void *addr, unsigned len, uint64_t off)
{
	push(op, fd, addr, len, off, 5);
	EXPECT_EQ(enter_ring(1, 1, IORING_ENTER_GETEVENTS), 1);
	return pull();
}

TEST(uring_setup_flags_need_each_other)
{
	struct io_uring_params p = {.flags = IORING_SETUP_SQ_AFF};

	open_ring(4, 0);
	EXPECT_ERRNO(setup(4, &p), EINVAL);
	memset(&p, 0, sizeof(p));
	p.flags = IORING_SETUP_SQPOLL | IORING_SETUP_COOP_TASKRUN;
	EXPECT_ERRNO(setup(4, &p), EINVAL);
	memset(&p, 0, sizeof(p));
	p.flags = IORING_SETUP_SQPOLL | IORING_SETUP_SQ_AFF;
	p.sq_thread_cpu = 100000;
	EXPECT_ERRNO(setup(4, &p), EINVAL);
	memset(&p, 0, sizeof(p));
	p.flags = IORING_SETUP_ATTACH_WQ;
	p.wq_fd = 999;
	EXPECT_ERRNO(setup(4, &p), ENXIO);
	memset(&p, 0, sizeof(p));
	p.flags = IORING_SETUP_ATTACH_WQ;
	p.wq_fd = (uint32_t)EXPECT_OK(open(".", O_RDONLY));
	EXPECT_ERRNO(setup(4, &p), EINVAL);
	memset(&p, 0, sizeof(p));
	p.flags = IORING_SETUP_ATTACH_WQ;
	p.wq_fd = (uint32_t)ring;
	EXPECT_OK(setup(4, &p));
}

TEST(uring_large_entries)
{
	memset(&par, 0, sizeof(par));
	par.flags = IORING_SETUP_SQE128 | IORING_SETUP_CQE32;
	ring = setup(4, &par);
	if (ring < 0 && (errno == ENOSYS || errno == EPERM))
		test_skip("no io_uring here");
	EXPECT(ring >= 0);
	size_t size = par.cq_off.cqes + par.cq_entries * 32 + 4096;
	rings = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
	sqes = mmap(NULL, par.sq_entries * 128, PROT_READ | PROT_WRITE, MAP_SHARED, ring,
		    (off_t)IORING_OFF_SQES);
	EXPECT(rings != MAP_FAILED && sqes != MAP_FAILED);
	for (unsigned i = 0; i < 3; i++) {
		struct io_uring_sqe *s = (void *)((char *)sqes + i * 128);
		s->opcode = IORING_OP_NOP;
		s->user_data = 100 + i;
		word(par.sq_off.array)[i] = i;
	}
	__atomic_store_n(word(par.sq_off.tail), 3, __ATOMIC_RELEASE);
	EXPECT_EQ(enter_ring(3, 3, IORING_ENTER_GETEVENTS), 3);
	for (unsigned i = 0; i < 3; i++) {
		struct io_uring_cqe *c = (void *)(rings + par.cq_off.cqes + i * 32);
		EXPECT_EQ(c->user_data, 100 + i);
		EXPECT_EQ(c->res, 0);
	}
}

/* A poller's entries are taken without a call, or with one that wakes it. */
TEST(uring_sqpoll)
{
	char buf[8] = "";

	memset(&par, 0, sizeof(par));
	open_ring(4, IORING_SETUP_SQPOLL);
	int fd = test_file("f", 100);
	EXPECT(par.features & IORING_FEAT_SQPOLL_NONFIXED);
	push(IORING_OP_NOP, -1, NULL, 0, 0, 1);
	push(IORING_OP_READ, fd, buf, 8, 0, 2);
	unsigned flags = __atomic_load_n(word(par.sq_off.flags), __ATOMIC_ACQUIRE);
	EXPECT_EQ(enter_ring(2, 2,
			     IORING_ENTER_GETEVENTS |
				     (flags & IORING_SQ_NEED_WAKEUP ? IORING_ENTER_SQ_WAKEUP : 0)),
		  2);
	int sum = 0;
	for (int i = 0; i < 2; i++)
		sum += pull().res;
	EXPECT_EQ(sum, 8);
}

TEST(uring_iopoll_is_for_direct_files)
{
	char buf[8];

	open_ring(4, IORING_SETUP_IOPOLL);
	int fd = test_file("f", 100);
	EXPECT_EQ(push_run(IORING_OP_READ, fd, buf, 8, 0).res, -EOPNOTSUPP);
	EXPECT_EQ(push_run(IORING_OP_FSYNC, fd, NULL, 0, 0).res, -EINVAL);
	EXPECT_EQ(push_run(IORING_OP_NOP, -1, NULL, 0, 0).res, 0);
}

TEST(uring_xattrs)
{
	char value[16] = "";

	open_ring(4, 0);
	int fd = test_file("f", 10);
	if (setxattr("f", "user.x", "abc", 3, 0))
		test_skip("no user xattrs here");
	struct io_uring_sqe *s = push(IORING_OP_FSETXATTR, fd, "user.y", 4, (uintptr_t) "1234", 1);
	EXPECT_EQ(run(), 0);
	EXPECT_EQ(push_run(IORING_OP_FGETXATTR, fd, "user.y", 16, (uintptr_t)value).res, 4);
	EXPECT(!memcmp(value, "1234", 4));
	s = push(IORING_OP_GETXATTR, 0, "user.x", 16, (uintptr_t)value, 1);
	s->addr3 = (uintptr_t) "f";
	EXPECT_EQ(run(), 3);
	s = push(IORING_OP_SETXATTR, 0, "user.x", 1, (uintptr_t) "z", 1);
	s->addr3 = (uintptr_t) "f";
	s->xattr_flags = XATTR_CREATE;
	EXPECT_EQ(run(), -EEXIST);
	EXPECT_EQ(push_run(IORING_OP_FGETXATTR, fd, "user.none", 16, (uintptr_t)value).res,
		  -ENODATA);
}

TEST(uring_msg_ring)
{
	struct io_uring_params p = {0};

	open_ring(4, 0);
	int other = EXPECT_OK(setup(4, &p));
	char *far = mmap(NULL, p.cq_off.cqes + p.cq_entries * 16, PROT_READ | PROT_WRITE,
			 MAP_SHARED, other, IORING_OFF_CQ_RING);
	EXPECT(far != MAP_FAILED);
	EXPECT_EQ(push_run(IORING_OP_MSG_RING, other, NULL, 77, 1234).res, 0);
	struct io_uring_cqe *c = (void *)(far + p.cq_off.cqes);
	EXPECT_EQ(c->res, 77);
	EXPECT_EQ(c->user_data, 1234);
	int fd = EXPECT_OK(open(".", O_RDONLY));
	EXPECT_EQ(push_run(IORING_OP_MSG_RING, fd, NULL, 0, 0).res, -EBADFD);
	EXPECT_EQ(push_run(IORING_OP_MSG_RING, other, (void *)9, 0, 0).res, -EINVAL);
	EXPECT_EQ(push_run(IORING_OP_MSG_RING, -1, NULL, 0, 0).res, -EBADF);
}

static int listener(struct sockaddr_un *a)
{
	int l = EXPECT_OK(socket(AF_UNIX, SOCK_STREAM, 0));

	*a = (struct sockaddr_un){.sun_family = AF_UNIX};
	strcpy(a->sun_path, "sock");
	EXPECT_OK(bind(l, (void *)a, sizeof(*a)));
	EXPECT_OK(listen(l, 8));
	return l;
}

TEST(uring_multishot_accept)
{
	struct sockaddr_un a;
	int c[3];

	open_ring(8, 0);
	int l = listener(&a);
	push(IORING_OP_ACCEPT, l, NULL, 0, 0, 9)->ioprio = IORING_ACCEPT_MULTISHOT;
	EXPECT_EQ(enter_ring(1, 0, 0), 1);
	for (int i = 0; i < 3; i++) {
		c[i] = EXPECT_OK(socket(AF_UNIX, SOCK_STREAM, 0));
		EXPECT_OK(connect(c[i], (void *)&a, sizeof(a)));
		struct io_uring_cqe e = pull();
		EXPECT(e.res >= 0);
		EXPECT(e.flags & IORING_CQE_F_MORE);
		EXPECT_EQ(e.user_data, 9);
		close(e.res);
	}
	push(IORING_OP_ASYNC_CANCEL, -1, (void *)9, 0, 0, 10);
	EXPECT_EQ(enter_ring(1, 2, IORING_ENTER_GETEVENTS), 1);
	for (int i = 0; i < 2; i++) {
		struct io_uring_cqe e = pull();
		EXPECT_EQ(e.res, e.user_data == 9 ? -ECANCELED : 0);
		EXPECT(!(e.flags & IORING_CQE_F_MORE));
	}
}

static struct io_uring_buf_ring *buffers;
static char space[4][64];

static void add_buffers(int n)
{
	for (int i = 0; i < n; i++) {
		struct io_uring_buf *b = &buffers->bufs[(buffers->tail + i) & 3];
		b->addr = (uintptr_t)space[i];
		b->len = 64;
		b->bid = (uint16_t)(10 + i);
	}
	__atomic_store_n(&buffers->tail, (uint16_t)(buffers->tail + n), __ATOMIC_RELEASE);
}

static void register_ring(void)
{
	buffers = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct io_uring_buf_reg r = {.ring_addr = (uintptr_t)buffers, .ring_entries = 3, .bgid = 7};
	EXPECT_ERRNO(reg(IORING_REGISTER_PBUF_RING, &r, 1), EINVAL);
	r.ring_entries = 4;
	EXPECT_ERRNO(reg(IORING_REGISTER_PBUF_RING, &r, 2), EINVAL);
	EXPECT_ERRNO(reg(IORING_REGISTER_PBUF_RING, BAD_ADDR, 1), EFAULT);
	r.ring_addr++;
	EXPECT_ERRNO(reg(IORING_REGISTER_PBUF_RING, &r, 1), EINVAL);
	r.ring_addr--;
	EXPECT_OK(reg(IORING_REGISTER_PBUF_RING, &r, 1));
	EXPECT_ERRNO(reg(IORING_REGISTER_PBUF_RING, &r, 1), EEXIST);
}

static struct io_uring_sqe *push_select(int op, int fd)
{
	struct io_uring_sqe *s = push(op, fd, NULL, 0, 0, 3);

	s->flags = IOSQE_BUFFER_SELECT;
	s->buf_group = 7;
	return s;
}

TEST(uring_buffer_ring)
{
	int p[2];

	open_ring(8, 0);
	register_ring();
	EXPECT_OK(pipe(p));
	EXPECT_EQ(write(p[1], "hello", 5), 5);
	push_select(IORING_OP_READ, p[0])->len = 64;
	EXPECT_EQ(run(), -ENOBUFS);
	add_buffers(2);
	push_select(IORING_OP_READ, p[0])->len = 64;
	EXPECT_EQ(enter_ring(1, 1, IORING_ENTER_GETEVENTS), 1);
	struct io_uring_cqe c = pull();
	EXPECT_EQ(c.res, 5);
	EXPECT_EQ(c.flags, IORING_CQE_F_BUFFER | 10u << IORING_CQE_BUFFER_SHIFT);
	EXPECT(!memcmp(space[0], "hello", 5));
	struct io_uring_buf_reg r = {.bgid = 7};
	EXPECT_OK(reg(IORING_UNREGISTER_PBUF_RING, &r, 1));
	EXPECT_ERRNO(reg(IORING_UNREGISTER_PBUF_RING, &r, 1), ENOENT);
}

TEST(uring_multishot_recv)
{
	int s[2];

	open_ring(8, 0);
	register_ring();
	add_buffers(3);
	EXPECT_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	push(IORING_OP_RECV, s[0], NULL, 0, 0, 3)->ioprio = IORING_RECV_MULTISHOT;
	EXPECT_EQ(run(), -EINVAL); /* without chosen buffers */
	push_select(IORING_OP_RECV, s[0])->ioprio = IORING_RECV_MULTISHOT;
	EXPECT_EQ(enter_ring(1, 0, 0), 1);
	for (unsigned i = 0; i < 3; i++) {
		EXPECT_EQ(write(s[1], "abc", 3), 3);
		struct io_uring_cqe c = pull();
		EXPECT_EQ(c.res, 3);
		EXPECT_EQ(c.flags, (IORING_CQE_F_BUFFER | IORING_CQE_F_MORE |
				    (10 + i) << IORING_CQE_BUFFER_SHIFT));
	}
	EXPECT_EQ(write(s[1], "abc", 3), 3);
	struct io_uring_cqe c = pull();
	EXPECT_EQ(c.res, -ENOBUFS);
	EXPECT(!(c.flags & IORING_CQE_F_MORE));
}

TEST(uring_direct_descriptors)
{
	char buf[8];
	int low = test_lowest_fd();

	open_ring(8, 0);
	close(test_file("f", 100));
	struct io_uring_sqe *s = push(IORING_OP_OPENAT, AT_FDCWD, "f", 0, 0, 1);
	s->file_index = 1;
	EXPECT_EQ(run(), -ENXIO); /* no table */
	struct io_uring_rsrc_register r = {.nr = 4, .flags = IORING_RSRC_REGISTER_SPARSE};
	EXPECT_ERRNO(reg(IORING_REGISTER_FILES2, &r, 3), EINVAL);
	EXPECT_OK(reg(IORING_REGISTER_FILES2, &r, sizeof(r)));
	s = push(IORING_OP_OPENAT, AT_FDCWD, "f", 0, 0, 1);
	s->file_index = 3;
	EXPECT_EQ(run(), 0);
	s = push(IORING_OP_OPENAT, AT_FDCWD, "f", 0, 0, 1);
	s->file_index = 5;
	EXPECT_EQ(run(), -EINVAL);
	s = push(IORING_OP_OPENAT, AT_FDCWD, "f", 0, 0, 1);
	s->file_index = 3;
	s->open_flags = O_CLOEXEC;
	EXPECT_EQ(run(), -EINVAL);
	s = push(IORING_OP_OPENAT, AT_FDCWD, "none", 0, 0, 1);
	s->file_index = 3;
	EXPECT_EQ(run(), -ENOENT);
	s = push(IORING_OP_READ, 2, buf, 8, 0, 1);
	s->flags = IOSQE_FIXED_FILE;
	EXPECT_EQ(run(), 8);
	s = push(IORING_OP_OPENAT, AT_FDCWD, "f", 0, 0, 1);
	s->file_index = IORING_FILE_INDEX_ALLOC;
	EXPECT_EQ(run(), 3); /* after the last one, then from the beginning */
	s = push(IORING_OP_SOCKET, AF_UNIX, NULL, 0, SOCK_STREAM, 1);
	s->file_index = IORING_FILE_INDEX_ALLOC;
	EXPECT_EQ(run(), 0);
	s = push(IORING_OP_CLOSE, 0, NULL, 0, 0, 1);
	s->file_index = 3;
	EXPECT_EQ(run(), 0);
	s = push(IORING_OP_CLOSE, 0, NULL, 0, 0, 1);
	s->file_index = 3;
	EXPECT_EQ(run(), -EBADF);
	s = push(IORING_OP_CLOSE, 5, NULL, 0, 0, 1);
	s->file_index = 3;
	EXPECT_EQ(run(), -EINVAL);
	close(ring);
	EXPECT_EQ(test_lowest_fd(), low);
}

TEST(uring_zero_copy_send_notifies)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(a);
	char buf[8] = "";

	open_ring(8, 0);
	int to = EXPECT_OK(socket(AF_INET, SOCK_DGRAM, 0));
	int from = EXPECT_OK(socket(AF_INET, SOCK_DGRAM, 0));
	EXPECT_OK(bind(to, (void *)&a, sizeof(a)));
	EXPECT_OK(getsockname(to, (void *)&a, &n));
	EXPECT_OK(connect(from, (void *)&a, sizeof(a)));
	push(IORING_OP_SEND_ZC, from, "data", 4, 0, 8);
	EXPECT_EQ(enter_ring(1, 2, IORING_ENTER_GETEVENTS), 1);
	struct io_uring_cqe c = pull();
	EXPECT_EQ(c.res, 4);
	EXPECT_EQ(c.flags, IORING_CQE_F_MORE);
	c = pull();
	EXPECT_EQ(c.user_data, 8);
	EXPECT_EQ(c.flags, IORING_CQE_F_NOTIF);
	EXPECT_EQ(read(to, buf, 8), 4);
	EXPECT_EQ(push_run(IORING_OP_SEND_ZC, -1, "data", 4, 0).res, -EBADF);
}
