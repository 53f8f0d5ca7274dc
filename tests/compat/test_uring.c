/* io_uring, by the kernel's own interface: rings, operations, links, cancelling, registration. */
#include "tests/compat/compat.h"
#include "tests/compat/uring.h"

#include <linux/io_uring.h>
#include <linux/time_types.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

TEST(uring_hostile_arguments)
{
	struct io_uring_params p = {0};
	open_ring(8, 0);
	EXPECT_ERRNO(setup(0, &p), EINVAL);
	EXPECT_ERRNO(setup(1 << 20, &p), EINVAL);
	EXPECT_ERRNO(setup(8, BAD_ADDR), EFAULT);
	p.flags = 1u << 31;
	EXPECT_ERRNO(setup(8, &p), EINVAL);
	p.flags = 0;
	p.resv[1] = 1;
	EXPECT_ERRNO(setup(8, &p), EINVAL);
	p = (struct io_uring_params){.flags = IORING_SETUP_CQSIZE, .cq_entries = 4};
	EXPECT_ERRNO(setup(8, &p), EINVAL);
	p.cq_entries = 0;
	EXPECT_ERRNO(setup(8, &p), EINVAL);
	p.cq_entries = 100;
	close(EXPECT_OK(setup(5, &p)));
	EXPECT_EQ(p.sq_entries, 8);
	EXPECT_EQ(p.cq_entries, 128);
	EXPECT_ERRNO(enter_ring(0, 0, 0x8000), EINVAL);
	EXPECT_ERRNO(syscall(SYS_io_uring_enter, -1, 0, 0, 0, NULL, 0L), EBADF);
	EXPECT_ERRNO(syscall(SYS_io_uring_enter, 0, 0, 0, 0, NULL, 0L), EOPNOTSUPP);
	EXPECT_EQ(enter_ring(0, 0, 0), 0);
	EXPECT_EQ(enter_ring(5, 0, 0), 0);
	EXPECT_ERRNO(reg(999, NULL, 0), EINVAL);
	EXPECT_ERRNO(reg(IORING_REGISTER_FILES, BAD_ADDR, 1), EFAULT);
	EXPECT_ERRNO(reg(IORING_REGISTER_BUFFERS, BAD_ADDR, 1), EFAULT);
	EXPECT_ERRNO(reg(IORING_UNREGISTER_FILES, NULL, 0), ENXIO);
	EXPECT_ERRNO(reg(IORING_UNREGISTER_BUFFERS, NULL, 0), ENXIO);
	/* An index beyond the entries is dropped. */
	push(IORING_OP_NOP, 0, NULL, 0, 0, 1);
	word(par.sq_off.array)[(*word(par.sq_off.tail) - 1) & *word(par.sq_off.ring_mask)] = 999;
	enter_ring(1, 0, 0);
	EXPECT_EQ(*word(par.sq_off.dropped), 1);
	/* Nonsense in the rings does no harm. */
	*word(par.cq_off.head) = 0x12345678;
	enter_ring(0, 0, IORING_ENTER_GETEVENTS);
	EXPECT_ERRNO(read(ring, &p, 8), EINVAL);
}

TEST(uring_completions_are_mapped_by_their_own_offset_too)
{
	open_ring(4, 0);
	push(IORING_OP_NOP, -1, NULL, 0, 0, 42);
	EXPECT_EQ(enter_ring(1, 1, IORING_ENTER_GETEVENTS), 1);
	char *cq = mmap(NULL, par.cq_off.cqes + par.cq_entries * 16, PROT_READ | PROT_WRITE,
			MAP_SHARED, ring, IORING_OFF_CQ_RING);
	EXPECT(cq != MAP_FAILED);
	EXPECT_EQ(*(uint32_t *)(cq + par.cq_off.tail), 1);
	EXPECT_EQ(((struct io_uring_cqe *)(cq + par.cq_off.cqes))->user_data, 42);
}

TEST(uring_nop_and_unknown_operations)
{
	open_ring(4, 0);
	push(IORING_OP_NOP, -1, NULL, 0, 0, 0x1122334455667788);
	EXPECT_EQ(enter_ring(1, 1, IORING_ENTER_GETEVENTS), 1);
	struct io_uring_cqe c = pull();
	EXPECT_EQ(c.user_data, 0x1122334455667788);
	EXPECT_EQ(c.res, 0);
	EXPECT_EQ(c.flags, 0);
	EXPECT_EQ(run1(250, 0, NULL, 0, 0), -EINVAL);
	push(IORING_OP_NOP, -1, NULL, 0, 0, 1)->flags = 0x80;
	EXPECT_EQ(run(), -EINVAL);
	push(IORING_OP_NOP, -1, NULL, 0, 0, 1);
	push(IORING_OP_NOP, -1, NULL, 0, 0, 2)->flags = IOSQE_CQE_SKIP_SUCCESS;
	push(IORING_OP_NOP, -1, NULL, 0, 0, 3);
	EXPECT_EQ(enter_ring(3, 2, IORING_ENTER_GETEVENTS), 3);
	EXPECT_EQ(pull().user_data, 1);
	EXPECT_EQ(pull().user_data, 3);
	EXPECT(empty());
	struct {
		struct io_uring_probe head;
		struct io_uring_probe_op ops[64];
	} p = {0};
	EXPECT_OK(reg(IORING_REGISTER_PROBE, &p, 64));
	EXPECT(p.head.last_op >= IORING_OP_SOCKET);
	EXPECT(p.ops[IORING_OP_READV].flags & IO_URING_OP_SUPPORTED);
	EXPECT(p.ops[IORING_OP_LINKAT].flags & IO_URING_OP_SUPPORTED);
}

TEST(uring_reads_and_writes)
{
	open_ring(8, 0);
	char buf[64] = "hello, world";
	int fd = EXPECT_OK(open("f", O_CREAT | O_RDWR, 0600));
	EXPECT_EQ(run1(IORING_OP_WRITE, fd, buf, 12, 3), 12);
	memset(buf, 0, sizeof(buf));
	EXPECT_EQ(run1(IORING_OP_READ, fd, buf, 64, 3), 12);
	EXPECT_STR(buf, "hello, world");
	EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 0);
	struct iovec v[2] = {{buf, 3}, {buf + 20, 4}};
	EXPECT_EQ(run1(IORING_OP_READV, fd, v, 2, 3), 7);
	EXPECT(!memcmp(buf + 20, "lo, ", 4));
	EXPECT_EQ(run1(IORING_OP_WRITEV, fd, v, 2, -1ULL), 7);
	EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 7);
	EXPECT_EQ(run1(IORING_OP_READ, fd, BAD_ADDR, 8, 0), -EFAULT);
	EXPECT_EQ(run1(IORING_OP_READV, fd, BAD_ADDR, 1, 0), -EFAULT);
	EXPECT_EQ(run1(IORING_OP_READ, -1, buf, 8, 0), -EBADF);
	int ro = EXPECT_OK(open("f", O_RDONLY));
	EXPECT_EQ(run1(IORING_OP_WRITE, ro, buf, 8, 0), -EBADF);
	EXPECT_EQ(run1(IORING_OP_FSYNC, fd, NULL, 0, 0), 0);
	push(IORING_OP_FSYNC, fd, NULL, 0, 0, 1)->fsync_flags = IORING_FSYNC_DATASYNC;
	EXPECT_EQ(run(), 0);
	EXPECT_EQ(run1(IORING_OP_FALLOCATE, fd, (void *)4096, 0, 0), 0);
	struct stat st;
	EXPECT_OK(fstat(fd, &st));
	EXPECT_EQ(st.st_size, 4096);
	struct iovec reg_bufs[2] = {{buf, 16}, {buf + 32, 16}};
	EXPECT_OK(reg(IORING_REGISTER_BUFFERS, reg_bufs, 2));
	EXPECT_ERRNO(reg(IORING_REGISTER_BUFFERS, reg_bufs, 2), EBUSY);
	push(IORING_OP_READ_FIXED, fd, buf + 36, 8, 0, 1)->buf_index = 1;
	EXPECT_EQ(run(), 8);
	push(IORING_OP_READ_FIXED, fd, buf + 36, 16, 0, 1)->buf_index = 1;
	EXPECT_EQ(run(), -EFAULT);
	push(IORING_OP_READ_FIXED, fd, buf, 8, 0, 1)->buf_index = 2;
	EXPECT_EQ(run(), -EFAULT);
	push(IORING_OP_WRITE_FIXED, fd, buf, 16, 0, 1)->buf_index = 0;
	EXPECT_EQ(run(), 16);
	EXPECT_OK(reg(IORING_UNREGISTER_BUFFERS, NULL, 0));
}

TEST(uring_names)
{
	open_ring(8, 0);
	struct statx sx;
	push(IORING_OP_OPENAT, AT_FDCWD, "f", 0640, 0, 1)->open_flags = O_CREAT | O_RDWR;
	int fd = run();
	EXPECT(fd >= 0);
	EXPECT_EQ(write(fd, "text", 4), 4);
	push(IORING_OP_STATX, AT_FDCWD, "f", STATX_SIZE, (uintptr_t)&sx, 1);
	EXPECT_EQ(run(), 0);
	EXPECT_EQ(sx.stx_size, 4);
	EXPECT_EQ(run1(IORING_OP_MKDIRAT, AT_FDCWD, "d", 0755, 0), 0);
	EXPECT_EQ(run1(IORING_OP_MKDIRAT, AT_FDCWD, "d", 0755, 0), -EEXIST);
	EXPECT_EQ(run1(IORING_OP_SYMLINKAT, AT_FDCWD, "f", 0, (uintptr_t) "d/s"), 0);
	EXPECT_EQ(run1(IORING_OP_LINKAT, AT_FDCWD, "f", (unsigned)AT_FDCWD, (uintptr_t) "d/h"), 0);
	EXPECT_EQ(run1(IORING_OP_RENAMEAT, AT_FDCWD, "d/h", (unsigned)AT_FDCWD, (uintptr_t) "g"),
		  0);
	EXPECT_OK(access("g", F_OK));
	EXPECT_EQ(run1(IORING_OP_UNLINKAT, AT_FDCWD, "g", 0, 0), 0);
	EXPECT_EQ(run1(IORING_OP_UNLINKAT, AT_FDCWD, "g", 0, 0), -ENOENT);
	EXPECT_EQ(run1(IORING_OP_CLOSE, fd, NULL, 0, 0), 0);
	EXPECT_ERRNO(fcntl(fd, F_GETFD), EBADF);
	EXPECT_EQ(run1(IORING_OP_CLOSE, fd, NULL, 0, 0), -EBADF);
	push(IORING_OP_OPENAT, AT_FDCWD, BAD_ADDR, 0, 0, 1);
	EXPECT_EQ(run(), -EFAULT);
}

TEST(uring_waits_without_keeping_the_caller)
{
	open_ring(8, 0);
	int p[2];
	char buf[8] = "";
	EXPECT_OK(pipe(p));
	push(IORING_OP_READ, p[0], buf, 8, 0, 5);
	EXPECT_EQ(enter_ring(1, 0, 0), 1);
	EXPECT(empty());
	EXPECT_EQ(write(p[1], "abc", 3), 3);
	struct io_uring_cqe c = pull();
	EXPECT_EQ(c.user_data, 5);
	EXPECT_EQ(c.res, 3);
	EXPECT(!memcmp(buf, "abc", 3));
	/* The vector itself may go once the call has returned. */
	struct iovec *v = malloc(sizeof(*v));
	*v = (struct iovec){buf, 8};
	push(IORING_OP_READV, p[0], v, 1, 0, 6);
	EXPECT_EQ(enter_ring(1, 0, 0), 1);
	memset(v, 0xff, sizeof(*v));
	EXPECT_EQ(write(p[1], "de", 2), 2);
	EXPECT_EQ(pull().res, 2);
	EXPECT(!memcmp(buf, "dec", 3));
	struct pollfd pf = {.fd = ring, .events = POLLIN};
	EXPECT_EQ(poll(&pf, 1, 0), 0);
	push(IORING_OP_POLL_ADD, p[0], NULL, 0, 0, 7)->poll32_events = POLLIN;
	EXPECT_EQ(enter_ring(1, 0, 0), 1);
	EXPECT(empty());
	EXPECT_EQ(write(p[1], "x", 1), 1);
	EXPECT_EQ(poll(&pf, 1, 5000), 1);
	EXPECT_EQ(pull().res, POLLIN);
	EXPECT_OK(fcntl(p[0], F_SETFL, O_NONBLOCK));
	EXPECT_EQ(read(p[0], buf, 8), 1);
}

/* Whether O_NONBLOCK files are waited for has changed between kernels: here both are right. */
static void nonblocking(int fd, int other, int op)
{
	char buf[8];
	EXPECT_OK(fcntl(fd, F_SETFL, O_NONBLOCK));
	push(op, fd, buf, 8, 0, 1);
	EXPECT_EQ(enter_ring(1, 0, 0), 1);
	EXPECT_EQ(write(other, "abc", 3), 3);
	int res = pull().res;
	EXPECT(res == 3 || res == -EAGAIN);
}

TEST(uring_nonblocking_files)
{
	open_ring(8, 0);
	int p[2], s[2];
	EXPECT_OK(pipe(p));
	EXPECT_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	nonblocking(p[0], p[1], IORING_OP_READ);
	nonblocking(s[0], s[1], IORING_OP_RECV);
}

TEST(uring_sockets)
{
	open_ring(8, 0);
	char buf[16] = "", name[] = "sock";
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	strcpy(a.sun_path, name);
	push(IORING_OP_SOCKET, AF_UNIX, NULL, 0, SOCK_STREAM, 1);
	int l = run();
	EXPECT(l >= 0);
	EXPECT_OK(bind(l, (void *)&a, sizeof(a)));
	EXPECT_OK(listen(l, 4));
	push(IORING_OP_ACCEPT, l, NULL, 0, 0, 10);
	EXPECT_EQ(enter_ring(1, 0, 0), 1);
	EXPECT(empty());
	int c = EXPECT_OK(socket(AF_UNIX, SOCK_STREAM, 0));
	push(IORING_OP_CONNECT, c, &a, 0, sizeof(a), 11);
	EXPECT_EQ(enter_ring(1, 2, IORING_ENTER_GETEVENTS), 1);
	int s = -1;
	for (int i = 0; i < 2; i++) {
		struct io_uring_cqe q = pull();
		if (q.user_data == 10)
			s = q.res;
		else
			EXPECT_EQ(q.res, 0);
	}
	EXPECT(s >= 0);
	push(IORING_OP_RECV, s, buf, 16, 0, 12);
	EXPECT_EQ(enter_ring(1, 0, 0), 1);
	push(IORING_OP_SEND, c, "ping", 4, 0, 13);
	EXPECT_EQ(enter_ring(1, 2, IORING_ENTER_GETEVENTS), 1);
	for (int i = 0; i < 2; i++)
		EXPECT_EQ(pull().res, 4);
	EXPECT_STR(buf, "ping");
	struct iovec v = {"pong", 4};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
	EXPECT_EQ(run1(IORING_OP_SENDMSG, s, &m, 1, 0), 4);
	v = (struct iovec){buf, 16};
	EXPECT_EQ(run1(IORING_OP_RECVMSG, c, &m, 1, 0), 4);
	EXPECT(!memcmp(buf, "pong", 4));
	EXPECT_EQ(run1(IORING_OP_SHUTDOWN, c, NULL, SHUT_WR, 0), 0);
	EXPECT_EQ(run1(IORING_OP_RECV, s, buf, 16, 0), 0);
	close(c);
	EXPECT_EQ(run1(IORING_OP_SEND, s, buf, 4, 0), -EPIPE); /* and no signal */
}

TEST(uring_links_run_in_order_and_break)
{
	open_ring(8, 0);
	char buf[8] = "";
	int fd = EXPECT_OK(open("f", O_CREAT | O_RDWR, 0600));
	push(IORING_OP_WRITE, fd, "abcd", 4, 0, 1)->flags = IOSQE_IO_LINK;
	push(IORING_OP_READ, fd, buf, 4, 0, 2)->flags = IOSQE_IO_LINK;
	push(IORING_OP_NOP, -1, NULL, 0, 0, 3);
	EXPECT_EQ(enter_ring(3, 3, IORING_ENTER_GETEVENTS), 3);
	for (int i = 1; i <= 3; i++) {
		struct io_uring_cqe c = pull();
		EXPECT_EQ(c.user_data, i);
		EXPECT_EQ(c.res, i == 3 ? 0 : 4);
	}
	EXPECT(!memcmp(buf, "abcd", 4));
	/* A short read breaks a link. */
	push(IORING_OP_READ, fd, buf, 8, 0, 1)->flags = IOSQE_IO_LINK;
	push(IORING_OP_NOP, -1, NULL, 0, 0, 2);
	push(IORING_OP_NOP, -1, NULL, 0, 0, 3);
	EXPECT_EQ(enter_ring(3, 3, IORING_ENTER_GETEVENTS), 3);
	int res[4];
	for (int i = 0; i < 3; i++) {
		struct io_uring_cqe c = pull();
		res[c.user_data] = c.res;
	}
	EXPECT_EQ(res[1], 4);
	EXPECT_EQ(res[2], -ECANCELED);
	EXPECT_EQ(res[3], 0);
	/* A hard one goes on. */
	push(IORING_OP_READ, -1, buf, 8, 0, 1)->flags = IOSQE_IO_HARDLINK;
	push(IORING_OP_NOP, -1, NULL, 0, 0, 2);
	EXPECT_EQ(enter_ring(2, 2, IORING_ENTER_GETEVENTS), 2);
	EXPECT_EQ(pull().res, -EBADF);
	EXPECT_EQ(pull().res, 0);
}

TEST(uring_timeouts)
{
	open_ring(8, 0);
	struct __kernel_timespec ts = {0, 20000000}, longer = {60, 0}, bad = {0, -1};
	push(IORING_OP_TIMEOUT, -1, &ts, 1, 0, 1);
	EXPECT_EQ(run(), -ETIME);
	push(IORING_OP_TIMEOUT, -1, &bad, 1, 0, 1);
	EXPECT_EQ(run(), -EINVAL);
	/* One that ends with the next completion. */
	push(IORING_OP_TIMEOUT, -1, &longer, 1, 1, 2);
	push(IORING_OP_NOP, -1, NULL, 0, 0, 3);
	EXPECT_EQ(enter_ring(2, 2, IORING_ENTER_GETEVENTS), 2);
	EXPECT_EQ(pull().user_data, 3);
	struct io_uring_cqe c = pull();
	EXPECT_EQ(c.user_data, 2);
	EXPECT_EQ(c.res, 0);
	push(IORING_OP_TIMEOUT, -1, &longer, 1, 0, 4);
	EXPECT_EQ(enter_ring(1, 0, 0), 1);
	push(IORING_OP_TIMEOUT_REMOVE, -1, (void *)4, 0, 0, 5);
	EXPECT_EQ(enter_ring(1, 2, IORING_ENTER_GETEVENTS), 1);
	for (int i = 0; i < 2; i++) {
		c = pull();
		EXPECT_EQ(c.res, c.user_data == 4 ? -ECANCELED : 0);
	}
	push(IORING_OP_TIMEOUT_REMOVE, -1, (void *)99, 0, 0, 5);
	EXPECT_EQ(run(), -ENOENT);
	/* A limit for a read that would wait for ever. */
	int p[2];
	char buf[4];
	EXPECT_OK(pipe(p));
	push(IORING_OP_READ, p[0], buf, 4, 0, 6)->flags = IOSQE_IO_LINK;
	push(IORING_OP_LINK_TIMEOUT, -1, &ts, 1, 0, 7);
	EXPECT_EQ(enter_ring(2, 2, IORING_ENTER_GETEVENTS), 2);
	for (int i = 0; i < 2; i++) {
		c = pull();
		if (c.user_data == 7)
			EXPECT_EQ(c.res, -ETIME);
		else
			EXPECT(c.res == -ECANCELED || c.res == -EINTR);
	}
	/* … and one that is not needed. */
	EXPECT_EQ(write(p[1], "abcd", 4), 4);
	push(IORING_OP_READ, p[0], buf, 4, 0, 6)->flags = IOSQE_IO_LINK;
	push(IORING_OP_LINK_TIMEOUT, -1, &longer, 1, 0, 7);
	EXPECT_EQ(enter_ring(2, 2, IORING_ENTER_GETEVENTS), 2);
	for (int i = 0; i < 2; i++) {
		c = pull();
		EXPECT_EQ(c.res, c.user_data == 7 ? -ECANCELED : 4);
	}
	push(IORING_OP_LINK_TIMEOUT, -1, &longer, 1, 0, 7);
	EXPECT_EQ(run(), -EINVAL);
}

TEST(uring_cancels)
{
	open_ring(8, 0);
	int p[2];
	char buf[4];
	struct io_uring_cqe c;
	EXPECT_OK(pipe(p));
	push(IORING_OP_READ, p[0], buf, 4, 0, 1);
	push(IORING_OP_POLL_ADD, p[0], NULL, 0, 0, 2)->poll32_events = POLLIN;
	EXPECT_EQ(enter_ring(2, 0, 0), 2);
	EXPECT(empty());
	push(IORING_OP_ASYNC_CANCEL, -1, (void *)1, 0, 0, 3);
	push(IORING_OP_POLL_REMOVE, -1, (void *)2, 0, 0, 4);
	EXPECT_EQ(enter_ring(2, 4, IORING_ENTER_GETEVENTS), 2);
	for (int i = 0; i < 4; i++) {
		c = pull();
		if (c.user_data == 1)
			EXPECT(c.res == -ECANCELED || c.res == -EINTR);
		else
			EXPECT_EQ(c.res, c.user_data == 2 ? -ECANCELED : 0);
	}
	push(IORING_OP_ASYNC_CANCEL, -1, (void *)1, 0, 0, 3);
	EXPECT_EQ(run(), -ENOENT);
	/* What is under way when the ring is closed does no harm. */
	push(IORING_OP_READ, p[0], buf, 4, 0, 1);
	EXPECT_EQ(enter_ring(1, 0, 0), 1);
	close(ring);
	EXPECT_EQ(write(p[1], "x", 1), 1);
}

static void leave_one(void *arg)
{
	int *p = arg;
	static char buf[4];
	open_ring(4, 0);
	push(IORING_OP_READ, p[0], buf, 4, 0, 1);
	EXPECT_EQ(enter_ring(1, 0, 0), 1);
}

static void exec_with_one(void *arg)
{
	leave_one(arg);
	execl("/bin/true", "true", NULL);
	_exit(99);
}

TEST(uring_requests_end_with_their_process)
{
	int p[2];
	open_ring(4, 0);
	EXPECT_OK(pipe(p));
	EXPECT_EQ(test_child(leave_one, p), 0);
	EXPECT_EQ(test_child(exec_with_one, p), 0);
	EXPECT_EQ(write(p[1], "abc", 3), 3);
	char buf[8];
	EXPECT_EQ(read(p[0], buf, 8), 3);
}

TEST(uring_drain_waits_for_what_was_before)
{
	open_ring(8, 0);
	int p[2];
	char buf[4];
	EXPECT_OK(pipe(p));
	push(IORING_OP_READ, p[0], buf, 4, 0, 1);
	push(IORING_OP_NOP, -1, NULL, 0, 0, 2)->flags = IOSQE_IO_DRAIN;
	push(IORING_OP_NOP, -1, NULL, 0, 0, 3);
	EXPECT_EQ(enter_ring(3, 0, 0), 3);
	EXPECT(empty());
	EXPECT_EQ(write(p[1], "abcd", 4), 4);
	EXPECT_EQ(enter_ring(0, 3, IORING_ENTER_GETEVENTS), 0);
	EXPECT_EQ(pull().user_data, 1);
	EXPECT_EQ(pull().user_data, 2);
	EXPECT_EQ(pull().user_data, 3);
}

TEST(uring_registered_files)
{
	open_ring(8, 0);
	char buf[8] = "";
	int fd = EXPECT_OK(open("f", O_CREAT | O_RDWR, 0600));
	EXPECT_EQ(write(fd, "abcd", 4), 4);
	int fds[3] = {fd, -1, fd}, none = -1, wrong = 999;
	EXPECT_ERRNO(reg(IORING_REGISTER_FILES, &wrong, 1), EBADF);
	EXPECT_OK(reg(IORING_REGISTER_FILES, fds, 3));
	EXPECT_ERRNO(reg(IORING_REGISTER_FILES, fds, 3), EBUSY);
	close(fd);
	push(IORING_OP_READ, 0, buf, 4, 0, 1)->flags = IOSQE_FIXED_FILE;
	EXPECT_EQ(run(), 4);
	EXPECT_STR(buf, "abcd");
	push(IORING_OP_READ, 1, buf, 4, 0, 1)->flags = IOSQE_FIXED_FILE;
	EXPECT_EQ(run(), -EBADF);
	push(IORING_OP_READ, 3, buf, 4, 0, 1)->flags = IOSQE_FIXED_FILE;
	EXPECT_EQ(run(), -EBADF);
	struct io_uring_files_update up = {.offset = 2, .fds = (uintptr_t)&none};
	EXPECT_EQ(reg(IORING_REGISTER_FILES_UPDATE, &up, 1), 1);
	push(IORING_OP_READ, 2, buf, 4, 0, 1)->flags = IOSQE_FIXED_FILE;
	EXPECT_EQ(run(), -EBADF);
	fd = EXPECT_OK(open("f", O_RDONLY));
	EXPECT_EQ(run1(IORING_OP_FILES_UPDATE, -1, &fd, 1, 1), 1);
	push(IORING_OP_READ, 1, buf, 4, 0, 1)->flags = IOSQE_FIXED_FILE;
	EXPECT_EQ(run(), 4);
	EXPECT_OK(reg(IORING_UNREGISTER_FILES, NULL, 0));
}

TEST(uring_provided_buffers)
{
	open_ring(8, 0);
	static char pool[4][8];
	int p[2];
	EXPECT_OK(pipe(p));
	push(IORING_OP_PROVIDE_BUFFERS, 4, pool, 8, 10, 1)->buf_group = 3;
	EXPECT(run() >= 0);
	struct io_uring_sqe *s = push(IORING_OP_READ, p[0], NULL, 8, 0, 2);
	s->flags = IOSQE_BUFFER_SELECT;
	s->buf_group = 3;
	EXPECT_EQ(enter_ring(1, 0, 0), 1);
	EXPECT(empty());
	EXPECT_EQ(write(p[1], "abc", 3), 3);
	struct io_uring_cqe c = pull();
	EXPECT_EQ(c.res, 3);
	EXPECT(c.flags & IORING_CQE_F_BUFFER);
	unsigned id = c.flags >> IORING_CQE_BUFFER_SHIFT;
	EXPECT(id >= 10 && id < 14);
	EXPECT(!memcmp(pool[id - 10], "abc", 3));
	push(IORING_OP_REMOVE_BUFFERS, 100, NULL, 0, 0, 1)->buf_group = 3;
	EXPECT_EQ(run(), 3);
	EXPECT_EQ(write(p[1], "abc", 3), 3);
	s = push(IORING_OP_READ, p[0], NULL, 8, 0, 2);
	s->flags = IOSQE_BUFFER_SELECT;
	s->buf_group = 3;
	EXPECT_EQ(run(), -ENOBUFS);
}

TEST(uring_tells_an_eventfd_and_epoll)
{
	open_ring(8, 0);
	int e = EXPECT_OK(eventfd(0, EFD_NONBLOCK)), ep = EXPECT_OK(epoll_create1(0));
	uint64_t n;
	EXPECT_OK(reg(IORING_REGISTER_EVENTFD, &e, 1));
	EXPECT_ERRNO(reg(IORING_REGISTER_EVENTFD, &e, 1), EBUSY);
	struct epoll_event ev = {.events = EPOLLIN};
	push(IORING_OP_EPOLL_CTL, ep, &ev, EPOLL_CTL_ADD, (uint64_t)ring, 1);
	EXPECT_EQ(run(), 0);
	EXPECT_EQ(epoll_wait(ep, &ev, 1, 0), 0);
	push(IORING_OP_NOP, -1, NULL, 0, 0, 1);
	EXPECT_EQ(enter_ring(1, 0, 0), 1);
	EXPECT_EQ(epoll_wait(ep, &ev, 1, 5000), 1);
	EXPECT_EQ(read(e, &n, 8), 8);
	EXPECT_EQ(n, 2);
	EXPECT_OK(reg(IORING_UNREGISTER_EVENTFD, NULL, 0));
	EXPECT_ERRNO(reg(IORING_UNREGISTER_EVENTFD, NULL, 0), ENXIO);
}

TEST(uring_splice_and_tee)
{
	open_ring(8, 0);
	int a[2], b[2];
	char buf[8] = "";
	int fd = EXPECT_OK(open("f", O_CREAT | O_RDWR, 0600));
	EXPECT_EQ(write(fd, "abcdef", 6), 6);
	EXPECT_OK(pipe(a));
	EXPECT_OK(pipe(b));
	struct io_uring_sqe *s = push(IORING_OP_SPLICE, a[1], (void *)2, 4, -1ULL, 1);
	s->splice_fd_in = fd;
	EXPECT_EQ(run(), 4);
	s = push(IORING_OP_TEE, b[1], NULL, 4, 0, 1);
	s->splice_fd_in = a[0];
	EXPECT_EQ(run(), 4);
	EXPECT_EQ(read(a[0], buf, 8), 4);
	EXPECT_STR(buf, "cdef");
	memset(buf, 0, 8);
	EXPECT_EQ(read(b[0], buf, 8), 4);
	EXPECT_STR(buf, "cdef");
}

TEST(uring_overflow_loses_nothing)
{
	open_ring(4, 0);
	int total = 0;
	for (int i = 0; i < 5; i++) {
		for (int j = 0; j < 4; j++)
			push(IORING_OP_NOP, -1, NULL, 0, 0, (uint64_t)++total);
		EXPECT_EQ(enter_ring(4, 0, 0), 4);
	}
	EXPECT(*word(par.sq_off.flags) & IORING_SQ_CQ_OVERFLOW);
	for (int i = 1; i <= total; i++) {
		if (empty())
			EXPECT_OK(enter_ring(0, 0, IORING_ENTER_GETEVENTS));
		EXPECT_EQ(pull().user_data, i);
	}
	EXPECT(empty());
	EXPECT_EQ(*word(par.sq_off.flags) & IORING_SQ_CQ_OVERFLOW, 0);
}

TEST(uring_wait_with_a_timeout)
{
	open_ring(4, 0);
	struct __kernel_timespec ts = {0, 20000000};
	struct io_uring_getevents_arg arg = {.ts = (uintptr_t)&ts};
	EXPECT_ERRNO(syscall(SYS_io_uring_enter, ring, 0, 1,
			     IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &arg, sizeof(arg)),
		     ETIME);
	EXPECT_ERRNO(syscall(SYS_io_uring_enter, ring, 0, 1,
			     IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &arg, 8L),
		     EINVAL);
}

TEST(uring_starts_disabled)
{
	open_ring(4, IORING_SETUP_R_DISABLED);
	push(IORING_OP_NOP, -1, NULL, 0, 0, 1);
	EXPECT_ERRNO(enter_ring(1, 0, 0), EBADFD);
	EXPECT_OK(reg(IORING_REGISTER_ENABLE_RINGS, NULL, 0));
	EXPECT_ERRNO(reg(IORING_REGISTER_ENABLE_RINGS, NULL, 0), EBADFD);
	EXPECT_EQ(run(), 0);
}

TEST(uring_multishot_poll)
{
	open_ring(8, 0);
	int e = EXPECT_OK(eventfd(0, 0));
	uint64_t one = 1, n;
	struct io_uring_sqe *s = push(IORING_OP_POLL_ADD, e, NULL, IORING_POLL_ADD_MULTI, 0, 1);
	s->poll32_events = POLLIN;
	EXPECT_EQ(enter_ring(1, 0, 0), 1);
	for (int i = 0; i < 3; i++) {
		EXPECT_EQ(write(e, &one, 8), 8);
		struct io_uring_cqe c = pull();
		EXPECT_EQ(c.res, POLLIN);
		EXPECT(c.flags & IORING_CQE_F_MORE);
		EXPECT_EQ(read(e, &n, 8), 8);
	}
	push(IORING_OP_POLL_REMOVE, -1, (void *)1, 0, 0, 2);
	EXPECT_EQ(enter_ring(1, 2, IORING_ENTER_GETEVENTS), 1);
	for (int i = 0; i < 2; i++) {
		struct io_uring_cqe c = pull();
		EXPECT_EQ(c.res, c.user_data == 2 ? 0 : -ECANCELED);
		EXPECT(!(c.flags & IORING_CQE_F_MORE));
	}
}
