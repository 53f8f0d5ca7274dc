/* userfaultfd: a program provides its own pages.  userfaultfd(2), ioctl_userfaultfd(2). */
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#include "tests/compat/compat.h"

#define PAGE 4096UL

static int uffd_open(int flags)
{
	int fd = (int)syscall(SYS_userfaultfd, flags);

	if (fd < 0 && (errno == ENOSYS || errno == EPERM))
		test_skip("no userfaultfd here");
	return (int)EXPECT_OK(fd);
}

static int uffd_ready(int flags, uint64_t features)
{
	struct uffdio_api a = {.api = UFFD_API, .features = features};
	int fd = uffd_open(flags);

	EXPECT_OK(ioctl(fd, UFFDIO_API, &a));
	return fd;
}

static char *pages(size_t n)
{
	char *p = mmap(NULL, n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	EXPECT(p != MAP_FAILED);
	return p;
}

static void watch(int fd, void *p, size_t n)
{
	struct uffdio_register r = {{(uintptr_t)p, n * PAGE}, UFFDIO_REGISTER_MODE_MISSING, 0};

	EXPECT_OK(ioctl(fd, UFFDIO_REGISTER, &r));
	EXPECT(r.ioctls & 1ULL << _UFFDIO_COPY);
}

static int put_page(int fd, void *dst, int byte)
{
	static char page[4096] __attribute__((aligned(4096)));
	struct uffdio_copy c = {(uintptr_t)dst, (uintptr_t)page, PAGE, 0, 0};

	memset(page, byte, sizeof(page));
	return ioctl(fd, UFFDIO_COPY, &c);
}

/* Answers n faults, each page with the next letter. */
struct server {
	int fd, n;
	uint64_t addr[16], flags[16];
	pthread_t thread;
};

static void *serve(void *arg)
{
	struct server *s = arg;

	for (int i = 0; i < s->n; i++) {
		struct uffd_msg m;
		struct pollfd p = {s->fd, POLLIN, 0};
		while (read(s->fd, &m, sizeof(m)) != sizeof(m))
			poll(&p, 1, 1000);
		if (m.event != UFFD_EVENT_PAGEFAULT)
			return "no fault";
		s->addr[i] = m.arg.pagefault.address;
		s->flags[i] = m.arg.pagefault.flags;
		if (put_page(s->fd, (void *)(uintptr_t)(s->addr[i] & -PAGE), 'a' + i))
			return "no copy";
	}
	return NULL;
}

static void server_start(struct server *s, int fd, int n)
{
	s->fd = fd;
	s->n = n;
	EXPECT_EQ(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void server_join(struct server *s)
{
	void *ret;

	EXPECT_EQ(pthread_join(s->thread, &ret), 0);
	if (ret)
		FAIL("%s", (char *)ret);
}

/* ---- hostile arguments ---- */

TEST(uffd_checks_flags_and_handshake)
{
	struct uffdio_api a = {.api = UFFD_API};
	struct uffdio_range r = {0, PAGE};
	struct uffd_msg m;

	EXPECT_ERRNO(syscall(SYS_userfaultfd, 1 << 30), EINVAL);
	int fd = uffd_open(O_CLOEXEC | O_NONBLOCK);
	EXPECT_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
	EXPECT_ERRNO(read(fd, &m, sizeof(m)), EINVAL);
	EXPECT_ERRNO(ioctl(fd, UFFDIO_WAKE, &r), EINVAL);
	EXPECT_ERRNO(ioctl(fd, UFFDIO_API, BAD_ADDR), EFAULT);
	a.api = 1;
	EXPECT_ERRNO(ioctl(fd, UFFDIO_API, &a), EINVAL);
	EXPECT_EQ(a.api, 0);
	a.api = UFFD_API;
	a.features = 1ULL << 60;
	EXPECT_ERRNO(ioctl(fd, UFFDIO_API, &a), EINVAL);
	a.api = UFFD_API;
	a.features = 0;
	EXPECT_OK(ioctl(fd, UFFDIO_API, &a));
	EXPECT(a.ioctls & 1ULL << _UFFDIO_REGISTER);
	EXPECT(a.features & UFFD_FEATURE_THREAD_ID);
	EXPECT_ERRNO(read(fd, &m, sizeof(m)), EAGAIN);
	EXPECT_ERRNO(read(fd, &m, sizeof(m) - 1), EINVAL);
	EXPECT_ERRNO(ioctl(fd, 0x1234, &r), EINVAL);
}

TEST(uffd_register_checks_its_range)
{
	int fd = uffd_ready(O_NONBLOCK, 0), other = uffd_ready(O_NONBLOCK, 0);
	char *p = pages(4);
	struct uffdio_register r = {{(uintptr_t)p, PAGE}, UFFDIO_REGISTER_MODE_MISSING, 0};

	EXPECT_ERRNO(ioctl(fd, UFFDIO_REGISTER, BAD_ADDR), EFAULT);
	r.mode = 0;
	EXPECT_ERRNO(ioctl(fd, UFFDIO_REGISTER, &r), EINVAL);
	r.mode = 1 << 10;
	EXPECT_ERRNO(ioctl(fd, UFFDIO_REGISTER, &r), EINVAL);
	r.mode = UFFDIO_REGISTER_MODE_MISSING;
	r.range.start++;
	EXPECT_ERRNO(ioctl(fd, UFFDIO_REGISTER, &r), EINVAL);
	r.range = (struct uffdio_range){(uintptr_t)p, 100};
	EXPECT_ERRNO(ioctl(fd, UFFDIO_REGISTER, &r), EINVAL);
	r.range = (struct uffdio_range){(uintptr_t)p, 0};
	EXPECT_ERRNO(ioctl(fd, UFFDIO_REGISTER, &r), EINVAL);
	r.range = (struct uffdio_range){-PAGE, PAGE};
	EXPECT_ERRNO(ioctl(fd, UFFDIO_REGISTER, &r), EINVAL);
	r.range = (struct uffdio_range){(uintptr_t)p, -PAGE};
	EXPECT_ERRNO(ioctl(fd, UFFDIO_REGISTER, &r), EINVAL);
	watch(other, p, 1);
	r.range = (struct uffdio_range){(uintptr_t)p, 4 * PAGE};
	EXPECT_ERRNO(ioctl(fd, UFFDIO_REGISTER, &r), EBUSY);
	close(other);
	watch(fd, p, 4);
	watch(fd, p + PAGE, 1);
	EXPECT_OK(munmap(p, 4 * PAGE));
	r.range = (struct uffdio_range){(uintptr_t)p, 4 * PAGE};
	EXPECT_ERRNO(ioctl(fd, UFFDIO_REGISTER, &r), EINVAL);
	/* A file's pages are the file system's. */
	int file = test_file("f", 2 * PAGE);
	p = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, file, 0);
	EXPECT(p != MAP_FAILED);
	r.range = (struct uffdio_range){(uintptr_t)p, PAGE};
	r.mode = UFFDIO_REGISTER_MODE_MINOR;
	EXPECT_ERRNO(ioctl(fd, UFFDIO_REGISTER, &r), EINVAL);
}

TEST(uffd_copy_checks_its_arguments)
{
	int fd = uffd_ready(O_NONBLOCK, 0);
	char *p = pages(2), *src = pages(2);
	struct uffdio_copy c = {(uintptr_t)p, (uintptr_t)src, PAGE, 0, 0};

	EXPECT_ERRNO(ioctl(fd, UFFDIO_COPY, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(ioctl(fd, UFFDIO_COPY, &c), ENOENT);
	EXPECT_EQ(c.copy, -ENOENT);
	watch(fd, p, 1);
	c.mode = 1 << 8;
	EXPECT_ERRNO(ioctl(fd, UFFDIO_COPY, &c), EINVAL);
	c.mode = 0;
	c.dst++;
	EXPECT_ERRNO(ioctl(fd, UFFDIO_COPY, &c), EINVAL);
	c.dst--;
	c.len = 0;
	EXPECT_ERRNO(ioctl(fd, UFFDIO_COPY, &c), EINVAL);
	c.len = 2 * PAGE;
	EXPECT_ERRNO(ioctl(fd, UFFDIO_COPY, &c), ENOENT);
	c.len = PAGE;
	c.src = (uintptr_t)BAD_ADDR;
	EXPECT_ERRNO(ioctl(fd, UFFDIO_COPY, &c), EFAULT);
	c.src = (uintptr_t)src;
	memset(src, 'x', PAGE);
	EXPECT_OK(ioctl(fd, UFFDIO_COPY, &c));
	EXPECT_EQ(c.copy, PAGE);
	EXPECT_ERRNO(ioctl(fd, UFFDIO_COPY, &c), EEXIST);
	EXPECT_EQ(c.copy, -EEXIST);
	EXPECT_EQ(p[0], 'x');
	EXPECT_EQ(p[PAGE - 1], 'x');
	p[5] = 'y';
	EXPECT_EQ(p[5], 'y');
}

/* ---- faults ---- */

TEST(uffd_a_missing_page_is_asked_for)
{
	int fd = uffd_ready(O_CLOEXEC | O_NONBLOCK, 0);
	char *p = pages(4);
	struct server s;

	p[2 * PAGE] = 'p'; /* there already */
	watch(fd, p, 4);
	server_start(&s, fd, 3);
	EXPECT_EQ(p[2 * PAGE], 'p');
	EXPECT_EQ(p[10], 'a');
	p[PAGE + 5] = 'w';
	EXPECT_EQ(p[PAGE + 4], 'b');
	EXPECT_EQ(p[PAGE + 5], 'w');
	EXPECT_EQ(p[3 * PAGE], 'c');
	EXPECT_EQ(p[3 * PAGE + 1], 'c');
	server_join(&s);
	EXPECT_EQ(s.addr[0], (uintptr_t)p);
	EXPECT_EQ(s.flags[0], 0);
	EXPECT_EQ(s.addr[1], (uintptr_t)p + PAGE);
	/* A ptrace platform is not told. */
	EXPECT(s.flags[1] == UFFD_PAGEFAULT_FLAG_WRITE || !s.flags[1]);
}

TEST(uffd_calls_wait_for_missing_pages_too)
{
	int fd = uffd_ready(O_NONBLOCK, 0), fds[2];
	char *p = pages(4), buf[8];
	struct server s;

	EXPECT_OK(pipe(fds));
	watch(fd, p, 4);
	server_start(&s, fd, 3);
	EXPECT_EQ(write(fds[1], p + 100, 8), 8);
	EXPECT_EQ(read(fds[0], buf, 8), 8);
	EXPECT_EQ(buf[7], 'a');
	EXPECT_EQ(write(fds[1], "01234567", 8), 8);
	EXPECT_EQ(read(fds[0], p + 2 * PAGE - 4, 8), 8); /* over two missing ones */
	EXPECT_EQ(memcmp(p + 2 * PAGE - 4, "01234567", 8), 0);
	EXPECT_EQ(p[2 * PAGE + 5], 'c');
	server_join(&s);
}

TEST(uffd_user_mode_only_leaves_calls_with_efault)
{
	int fd = uffd_ready(O_NONBLOCK | UFFD_USER_MODE_ONLY, 0), fds[2];
	char *p = pages(2);
	struct server s;

	EXPECT_OK(pipe(fds));
	watch(fd, p, 2);
	EXPECT_ERRNO(write(fds[1], p, 8), EFAULT);
	server_start(&s, fd, 1);
	EXPECT_EQ(p[0], 'a');
	server_join(&s);
	EXPECT_EQ(write(fds[1], p, 8), 8);
}

TEST(uffd_discarded_pages_are_missing_again)
{
	int fd = uffd_ready(O_NONBLOCK, 0);
	char *p = pages(2);
	struct server s;

	memset(p, 'z', 2 * PAGE);
	watch(fd, p, 2);
	EXPECT_EQ(p[PAGE], 'z');
	EXPECT_OK(madvise(p, PAGE, MADV_DONTNEED));
	server_start(&s, fd, 1);
	EXPECT_EQ(p[0], 'a');
	EXPECT_EQ(p[PAGE], 'z');
	server_join(&s);
}

TEST(uffd_protection_changes_keep_pages_missing)
{
	int fd = uffd_ready(O_NONBLOCK, 0);
	char *p = pages(3);
	struct server s;

	p[0] = 'z';
	watch(fd, p, 3);
	EXPECT_OK(mprotect(p, 3 * PAGE, PROT_READ));
	EXPECT_EQ(p[0], 'z');
	server_start(&s, fd, 2);
	EXPECT_EQ(p[PAGE], 'a');
	EXPECT_OK(mprotect(p, 3 * PAGE, PROT_READ | PROT_WRITE));
	p[2 * PAGE] = 'q';
	EXPECT_EQ(p[2 * PAGE + 1], 'b');
	p[PAGE] = 'q';
	server_join(&s);
}

TEST(uffd_zeropage_and_wake)
{
	int fd = uffd_ready(O_NONBLOCK, 0);
	char *p = pages(2);
	struct uffdio_zeropage z = {{(uintptr_t)p, 2 * PAGE}, 0, 0};
	struct uffdio_range r = {(uintptr_t)p, 2 * PAGE};

	watch(fd, p, 2);
	EXPECT_OK(ioctl(fd, UFFDIO_ZEROPAGE, &z));
	EXPECT_EQ(z.zeropage, 2 * PAGE);
	EXPECT_ERRNO(ioctl(fd, UFFDIO_ZEROPAGE, &z), EEXIST);
	EXPECT_EQ(p[0] | p[2 * PAGE - 1], 0);
	p[0] = 1;
	EXPECT_OK(ioctl(fd, UFFDIO_WAKE, &r));
	r.len = 1;
	EXPECT_ERRNO(ioctl(fd, UFFDIO_WAKE, &r), EINVAL);
}

static void *touch(void *p)
{
	return (void *)(intptr_t)((volatile char *)p)[0];
}

TEST(uffd_unregistered_or_closed_pages_are_zeros)
{
	char *p = pages(2);
	pthread_t t;
	void *ret;
	struct uffd_msg m;
	struct pollfd pf;

	for (int i = 0; i < 2; i++) {
		int fd = uffd_ready(O_NONBLOCK, 0);
		struct uffdio_range r = {(uintptr_t)p, PAGE};
		watch(fd, p, 1);
		EXPECT_EQ(pthread_create(&t, NULL, touch, p), 0);
		pf = (struct pollfd){fd, POLLIN, 0};
		EXPECT_EQ(poll(&pf, 1, 5000), 1);
		EXPECT_EQ(pf.revents, POLLIN);
		EXPECT_EQ(read(fd, &m, sizeof(m)), (int)sizeof(m));
		if (i == 0) {
			EXPECT_OK(ioctl(fd, UFFDIO_UNREGISTER, &r));
			EXPECT_OK(ioctl(fd, UFFDIO_UNREGISTER, &r));
		}
		close(fd);
		EXPECT_EQ(pthread_join(t, &ret), 0);
		EXPECT(!ret);
		p[0] = 1;
		p += PAGE;
	}
}

static volatile int alarms;

static void on_alarm(int sig)
{
	alarms = sig;
}

static void alarmed(void *arg)
{
	int fd = uffd_ready(O_NONBLOCK, 0);
	char *p = pages(1);

	watch(fd, p, 1);
	signal(SIGALRM, on_alarm);
	signal(SIGTERM, SIG_DFL);
	alarm(1);
	pid_t pid = (pid_t)EXPECT_OK(fork());
	if (!pid) {
		sleep(2);
		kill(getppid(), SIGTERM);
		_exit(0);
	}
	(void)*(volatile char *)p;
	(void)arg;
}

TEST(uffd_a_waiting_program_takes_signals)
{
	int status = test_child(alarmed, NULL);

	EXPECT(WIFSIGNALED(status));
	EXPECT_EQ(WTERMSIG(status), SIGTERM);
}

static void child_looks(void *arg)
{
	char *p = arg;

	EXPECT_EQ(p[0], 'z');
	EXPECT_EQ(p[PAGE], 0); /* nobody is asked */
	p[2 * PAGE] = 1;
}

TEST(uffd_a_forked_child_has_plain_memory)
{
	int fd = uffd_ready(O_NONBLOCK, 0);
	char *p = pages(3);

	p[0] = 'z';
	watch(fd, p, 3);
	EXPECT_EQ(test_child(child_looks, p), 0);
}

struct outside {
	int fd;
	char *p;
};

static void fill_from_outside(void *arg)
{
	struct outside *o = arg;
	struct pollfd pf = {o->fd, POLLIN, 0};
	struct uffd_msg m;

	EXPECT_OK(put_page(o->fd, o->p + PAGE, 'm'));
	EXPECT_EQ(poll(&pf, 1, 5000), 1);
	EXPECT_EQ(read(o->fd, &m, sizeof(m)), (int)sizeof(m));
	EXPECT_OK(put_page(o->fd, o->p, 'n'));
}

static void *run_outside(void *arg)
{
	return (void *)(intptr_t)test_child(fill_from_outside, arg);
}

TEST(uffd_another_process_may_fill_the_pages)
{
	struct outside o = {uffd_ready(O_NONBLOCK, 0), pages(2)};
	pthread_t t;
	void *ret;

	watch(o.fd, o.p, 2);
	EXPECT_EQ(pthread_create(&t, NULL, run_outside, &o), 0);
	EXPECT_EQ(o.p[0], 'n');
	EXPECT_EQ(o.p[PAGE], 'm');
	EXPECT_EQ(pthread_join(t, &ret), 0);
	EXPECT(!ret);
}

/* Threads that all touch all pages see each of them whole. */
static void *sum_pages(void *arg)
{
	const volatile char *p = arg;
	long bad = 0;

	for (size_t i = 0; i < 64; i++)
		for (size_t j = 0; j < PAGE; j += 64)
			bad += p[i * PAGE + j] != 'k';
	return (void *)bad;
}

static void *serve_all(void *arg)
{
	int fd = *(int *)arg;
	struct uffd_msg m;
	struct pollfd p = {fd, POLLIN, 0};

	for (;;) {
		poll(&p, 1, 200);
		if (read(fd, &m, sizeof(m)) == sizeof(m)) {
			if (put_page(fd, (void *)(uintptr_t)m.arg.pagefault.address, 'k') &&
			    errno != EEXIST)
				return "no copy";
		} else if (p.revents & POLLERR) {
			return NULL;
		}
		pthread_testcancel();
	}
}

TEST(uffd_pages_are_seen_whole)
{
	int fd = uffd_ready(O_NONBLOCK, 0);
	char *p = pages(64);
	pthread_t server, t[4];
	void *ret;

	watch(fd, p, 64);
	EXPECT_EQ(pthread_create(&server, NULL, serve_all, &fd), 0);
	for (int i = 0; i < 4; i++)
		EXPECT_EQ(pthread_create(&t[i], NULL, sum_pages, p), 0);
	for (int i = 0; i < 4; i++) {
		EXPECT_EQ(pthread_join(t[i], &ret), 0);
		EXPECT_EQ((long)ret, 0);
	}
	EXPECT_EQ(pthread_cancel(server), 0);
	EXPECT_EQ(pthread_join(server, &ret), 0);
	EXPECT(ret == PTHREAD_CANCELED);
}

TEST(uffd_tells_the_thread_and_the_address)
{
	int fd = uffd_ready(O_NONBLOCK, UFFD_FEATURE_THREAD_ID | UFFD_FEATURE_EXACT_ADDRESS);
	char *p = pages(1);
	struct server s;

	watch(fd, p, 1);
	server_start(&s, fd, 1);
	EXPECT_EQ(p[123], 'a');
	server_join(&s);
	EXPECT_EQ(s.addr[0], (uintptr_t)p + 123);
}
