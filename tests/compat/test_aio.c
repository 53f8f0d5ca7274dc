/* Linux AIO, by the kernel's own interface: contexts, requests, completions. */
#include "tests/compat/compat.h"

#include <linux/aio_abi.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/uio.h>

static aio_context_t ctx;

static long setup(unsigned n, aio_context_t *c)
{
	return syscall(SYS_io_setup, n, c);
}

static long submit(struct iocb *cb)
{
	return syscall(SYS_io_submit, ctx, 1L, &cb);
}

static long getevents(long min, long nr, struct io_event *ev, struct timespec *ts)
{
	return syscall(SYS_io_getevents, ctx, min, nr, ev, ts);
}

static void enter(void)
{
	EXPECT_OK(chdir(test_dir()));
	ctx = 0;
	if (setup(8, &ctx) && errno == ENOSYS)
		test_skip("no AIO in this kernel");
	EXPECT(ctx != 0);
}

static struct iocb request(int op, int fd, void *buf, size_t n, long off)
{
	return (struct iocb){.aio_lio_opcode = (uint16_t)op,
			     .aio_fildes = (uint32_t)fd,
			     .aio_buf = (uintptr_t)buf,
			     .aio_nbytes = n,
			     .aio_offset = off,
			     .aio_data = 77};
}

static long one_result(struct iocb *cb)
{
	struct io_event ev;
	EXPECT_EQ(submit(cb), 1);
	EXPECT_EQ(getevents(1, 1, &ev, NULL), 1);
	EXPECT_EQ(ev.data, 77);
	EXPECT_EQ(ev.obj, (uintptr_t)cb);
	return (long)ev.res;
}

TEST(aio_hostile_arguments)
{
	enter();
	aio_context_t other = 1;
	struct io_event ev;
	struct iocb cb = request(IOCB_CMD_PREAD, 0, &ev, 1, 0), *list[1] = {BAD_ADDR};
	EXPECT_ERRNO(setup(8, &other), EINVAL);
	other = 0;
	EXPECT_ERRNO(setup(0, &other), EINVAL);
	EXPECT_ERRNO(setup(~0u, &other), EINVAL);
	EXPECT_ERRNO(setup(8, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(syscall(SYS_io_destroy, 0x1000L), EINVAL);
	EXPECT_ERRNO(syscall(SYS_io_destroy, 0L), EINVAL);
	EXPECT_ERRNO(syscall(SYS_io_submit, ctx, -1L, list), EINVAL);
	EXPECT_EQ(syscall(SYS_io_submit, ctx, 0L, list), 0);
	EXPECT_ERRNO(syscall(SYS_io_submit, ctx, 1L, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(syscall(SYS_io_submit, ctx, 1L, list), EFAULT);
	EXPECT_ERRNO(syscall(SYS_io_submit, 0x1000L, 1L, list), EINVAL);
	EXPECT_ERRNO(getevents(-1, 1, &ev, NULL), EINVAL);
	EXPECT_ERRNO(getevents(2, 1, &ev, NULL), EINVAL);
	EXPECT_ERRNO(syscall(SYS_io_getevents, 0x1000L, 0L, 1L, &ev, NULL), EINVAL);
	EXPECT_ERRNO(getevents(0, 1, &ev, BAD_ADDR), EFAULT);
	cb.aio_fildes = -1u;
	EXPECT_ERRNO(submit(&cb), EBADF);
	cb = request(99, 0, &ev, 1, 0);
	cb.aio_fildes = (uint32_t)EXPECT_OK(open("f", O_CREAT | O_RDWR, 0600));
	EXPECT_ERRNO(submit(&cb), EINVAL);
	cb.aio_lio_opcode = IOCB_CMD_PWRITE;
	cb.aio_reserved2 = 1;
	EXPECT_ERRNO(submit(&cb), EINVAL);
	cb.aio_reserved2 = 0;
	cb.aio_flags = IOCB_FLAG_RESFD;
	cb.aio_resfd = cb.aio_fildes;
	EXPECT_ERRNO(submit(&cb), EINVAL);
	cb.aio_resfd = -1u;
	EXPECT_ERRNO(submit(&cb), EBADF);
	cb.aio_flags = 0;
	cb.aio_rw_flags = 0x40000000;
	EXPECT_ERRNO(submit(&cb), EOPNOTSUPP);
	EXPECT_ERRNO(syscall(SYS_io_cancel, ctx, BAD_ADDR, &ev), EFAULT);
	EXPECT_ERRNO(syscall(SYS_io_cancel, ctx, &cb, &ev), EINVAL);
	EXPECT_EQ(getevents(0, 1, &ev, NULL), 0);
}

TEST(aio_reads_and_writes)
{
	enter();
	char buf[64] = "hello, world";
	int fd = EXPECT_OK(open("f", O_CREAT | O_RDWR, 0600));
	struct iocb cb = request(IOCB_CMD_PWRITE, fd, buf, 12, 3);
	EXPECT_EQ(one_result(&cb), 12);
	memset(buf, 0, sizeof(buf));
	cb = request(IOCB_CMD_PREAD, fd, buf, 64, 3);
	EXPECT_EQ(one_result(&cb), 12);
	EXPECT_STR(buf, "hello, world");
	EXPECT_EQ(lseek(fd, 0, SEEK_CUR), 0);
	struct iovec v[2] = {{buf, 3}, {buf + 10, 4}};
	cb = request(IOCB_CMD_PREADV, fd, v, 2, 3);
	EXPECT_EQ(one_result(&cb), 7);
	EXPECT(!memcmp(buf + 10, "lo, ", 4));
	cb = request(IOCB_CMD_PWRITEV, fd, v, 2, 0);
	EXPECT_EQ(one_result(&cb), 7);
	cb = request(IOCB_CMD_PREAD, fd, buf, 64, 1000);
	EXPECT_EQ(one_result(&cb), 0);
	cb = request(IOCB_CMD_FSYNC, fd, NULL, 0, 0);
	EXPECT_EQ(one_result(&cb), 0);
	cb = request(IOCB_CMD_FDSYNC, fd, NULL, 0, 0);
	EXPECT_EQ(one_result(&cb), 0);
	cb = request(IOCB_CMD_PREAD, fd, BAD_ADDR, 10, 0);
	EXPECT_EQ(one_result(&cb), -EFAULT);
	int ro = EXPECT_OK(open("f", O_RDONLY));
	cb = request(IOCB_CMD_PWRITE, ro, buf, 12, 3);
	EXPECT_ERRNO(submit(&cb), EBADF);
	cb = request(IOCB_CMD_PREADV, fd, BAD_ADDR, 2, 3);
	EXPECT_ERRNO(submit(&cb), EFAULT);
	cb = request(IOCB_CMD_PREAD, fd, buf, 12, -1);
	struct io_event ev;
	long r = submit(&cb);
	EXPECT((r < 0 && errno == EINVAL) ||
	       (r == 1 && getevents(1, 1, &ev, NULL) == 1 && ev.res == -EINVAL));
}

TEST(aio_submits_until_the_first_error)
{
	enter();
	char buf[8] = "abc";
	int fd = EXPECT_OK(open("f", O_CREAT | O_RDWR, 0600));
	struct iocb good = request(IOCB_CMD_PWRITE, fd, buf, 3, 0), bad = good;
	bad.aio_fildes = 999;
	struct iocb *list[3] = {&good, &bad, &good};
	struct io_event ev[4];
	EXPECT_EQ(syscall(SYS_io_submit, ctx, 3L, list), 1);
	EXPECT_EQ(getevents(0, 4, ev, NULL), 1);
	list[1] = &good;
	EXPECT_EQ(syscall(SYS_io_submit, ctx, 3L, list), 3);
	EXPECT_EQ(getevents(2, 2, ev, NULL), 2);
	EXPECT_EQ(getevents(1, 4, ev, NULL), 1);
}

TEST(aio_ring_is_readable_and_finite)
{
	enter();
	struct {
		uint32_t id, nr, head, tail, magic, compat, incompat, header;
		struct io_event ev[];
	} *ring = (void *)ctx;
	EXPECT_EQ(ring->magic, 0xa10a10a1);
	EXPECT_EQ(ring->incompat, 0);
	EXPECT_EQ(ring->header, 32);
	EXPECT(ring->nr >= 8);
	EXPECT_EQ(ring->head, ring->tail);
	char c = 'x';
	int fd = EXPECT_OK(open("f", O_CREAT | O_RDWR, 0600)), n = 0;
	struct iocb cb = request(IOCB_CMD_PWRITE, fd, &c, 1, 0);
	EXPECT_EQ(submit(&cb), 1);
	EXPECT_EQ((ring->tail - ring->head), 1);
	EXPECT_EQ(ring->ev[ring->head].data, 77);
	EXPECT_EQ(ring->ev[ring->head].res, 1);
	ring->head = ring->tail; /* taken without a call */
	struct io_event ev;
	struct timespec zero = {0, 0};
	EXPECT_EQ(getevents(1, 1, &ev, &zero), 0);
	while (submit(&cb) == 1 && n < 100000)
		n++;
	EXPECT_EQ(errno, EAGAIN);
	EXPECT(n >= 8 && n < (int)ring->nr);
	ring->head = 0xfffffff0; /* nonsense must do no harm */
	getevents(0, 1, &ev, NULL);
	EXPECT_OK(syscall(SYS_io_destroy, ctx));
	EXPECT_ERRNO(syscall(SYS_io_destroy, ctx), EINVAL);
	EXPECT_ERRNO(submit(&cb), EINVAL);
	EXPECT_ERRNO(msync(ring, 4096, MS_ASYNC), ENOMEM);
}

TEST(aio_tells_an_eventfd)
{
	enter();
	char c = 'x';
	uint64_t count;
	int fd = EXPECT_OK(open("f", O_CREAT | O_RDWR, 0600)), e = EXPECT_OK(eventfd(0, 0));
	struct iocb cb = request(IOCB_CMD_PWRITE, fd, &c, 1, 0);
	cb.aio_flags = IOCB_FLAG_RESFD;
	cb.aio_resfd = (uint32_t)e;
	EXPECT_EQ(submit(&cb), 1);
	EXPECT_EQ(submit(&cb), 1);
	struct pollfd p = {.fd = e, .events = POLLIN};
	EXPECT_EQ(poll(&p, 1, 1000), 1);
	EXPECT_EQ(read(e, &count, 8), 8);
	EXPECT_EQ(count, 2);
}

TEST(aio_getevents_times_out)
{
	enter();
	struct io_event ev[2];
	char c = 'x';
	struct timespec ts = {0, 20000000};
	EXPECT_EQ(getevents(1, 2, ev, &ts), 0);
	int fd = EXPECT_OK(open("f", O_CREAT | O_RDWR, 0600));
	struct iocb cb = request(IOCB_CMD_PWRITE, fd, &c, 1, 0);
	EXPECT_EQ(submit(&cb), 1);
	EXPECT_EQ(getevents(2, 2, ev, &ts), 1);
	EXPECT_EQ(submit(&cb), 1);
	EXPECT_ERRNO(getevents(1, 1, BAD_ADDR, &ts), EFAULT);
	EXPECT_EQ(getevents(1, 1, ev, &ts), 1);
}

static void on_alarm(int sig)
{
	(void)sig;
}

TEST(aio_getevents_is_interrupted)
{
	enter();
	struct io_event ev;
	struct sigaction sa = {.sa_handler = on_alarm};
	EXPECT_OK(sigaction(SIGALRM, &sa, NULL));
	alarm(1);
	EXPECT_ERRNO(getevents(1, 1, &ev, NULL), EINTR);
}

static void use_parents(void *arg)
{
	struct iocb *cb = arg;
	EXPECT_ERRNO(submit(cb), EINVAL);
	aio_context_t own = 0;
	EXPECT_OK(setup(4, &own));
}

TEST(aio_contexts_are_not_inherited)
{
	enter();
	char c = 'x';
	int fd = EXPECT_OK(open("f", O_CREAT | O_RDWR, 0600));
	struct iocb cb = request(IOCB_CMD_PWRITE, fd, &c, 1, 0);
	EXPECT_EQ(test_child(use_parents, &cb), 0);
	EXPECT_EQ(one_result(&cb), 1);
}

TEST(aio_poll_waits_and_is_cancelled)
{
	struct io_event ev;
	char c;
	int p[2];

	enter();
	EXPECT_OK(pipe(p));
	struct iocb cb = request(IOCB_CMD_POLL, p[0], (void *)(uintptr_t)POLLIN, 0, 0);
	EXPECT_EQ(submit(&cb), 1);
	struct timespec none = {0, 0};
	EXPECT_EQ(getevents(1, 1, &ev, &none), 0);
	EXPECT_EQ(write(p[1], "x", 1), 1);
	EXPECT_EQ(getevents(1, 1, &ev, NULL), 1);
	EXPECT(ev.res & POLLIN); /* and perhaps POLLRDNORM, as it was woken */
	EXPECT_EQ(ev.obj, (uintptr_t)&cb);
	EXPECT_EQ(one_result(&cb), POLLIN); /* ready at once */
	EXPECT_EQ(read(p[0], &c, 1), 1);
	cb.aio_fildes = (uint32_t)EXPECT_OK(open(".", O_RDONLY));
	EXPECT_EQ(one_result(&cb), POLLIN); /* what is never waited for */
	cb.aio_fildes = (uint32_t)p[0];
	EXPECT_EQ(submit(&cb), 1);
	EXPECT_ERRNO(syscall(SYS_io_cancel, ctx, &cb, &ev), EINPROGRESS);
	EXPECT_EQ(getevents(1, 1, &ev, NULL), 1);
	EXPECT_EQ(ev.res, 0);
	EXPECT_ERRNO(syscall(SYS_io_cancel, ctx, &cb, &ev), EINVAL);
	cb.aio_nbytes = 1;
	EXPECT_ERRNO(submit(&cb), EINVAL);
	cb.aio_nbytes = 0;
	cb.aio_buf = 0x10001;
	EXPECT_ERRNO(submit(&cb), EINVAL);
	cb.aio_buf = POLLIN;
	EXPECT_EQ(submit(&cb), 1);
	EXPECT_OK(syscall(SYS_io_destroy, ctx)); /* does not wait for what never comes */
}
