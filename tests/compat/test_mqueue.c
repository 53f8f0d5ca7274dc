/* POSIX message queues. */
#include "tests/compat/compat.h"

#include <mqueue.h>
#include <semaphore.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/resource.h>

static char name_buf[64];

static const char *queue_name(void)
{
	snprintf(name_buf, sizeof(name_buf), "runsc-compat-%d", (int)getpid());
	return name_buf;
}

/* The system calls themselves: names have no slash. */
static long raw_open(const void *name, int flags, int mode, const void *attr)
{
	return syscall(SYS_mq_open, name, flags, mode, attr);
}

static int new_queue_of(long messages, long size, int flags)
{
	struct mq_attr a = {.mq_maxmsg = messages, .mq_msgsize = size};
	int fd = (int)raw_open(queue_name(), O_CREAT | O_EXCL | flags, 0600, &a);

	if (fd < 0 && errno == ENOSYS)
		test_skip("no POSIX message queues on this kernel");
	EXPECT_OK(fd);
	EXPECT_OK(syscall(SYS_mq_unlink, name_buf));
	return fd;
}

static int new_queue(int flags)
{
	return new_queue_of(3, 16, flags);
}

static long send_to(int fd, const char *text, unsigned prio)
{
	return syscall(SYS_mq_timedsend, fd, text, strlen(text), prio, NULL);
}

static long receive_from(int fd, char *buf, size_t size, unsigned *prio)
{
	memset(buf, 0, size);
	return syscall(SYS_mq_timedreceive, fd, buf, size, prio, NULL);
}

TEST(mq_open_rejects_names)
{
	char longer[300];

	memset(longer, 'a', sizeof(longer));
	longer[299] = 0;
	EXPECT_ERRNO(raw_open(BAD_ADDR, O_RDWR, 0, NULL), EFAULT);
	EXPECT_ERRNO(raw_open("", O_RDWR, 0, NULL), ENOENT);
	EXPECT_ERRNO(raw_open("a/b", O_RDWR | O_CREAT, 0600, NULL), EACCES);
	EXPECT_ERRNO(raw_open("..", O_RDWR | O_CREAT, 0600, NULL), EACCES);
	EXPECT_ERRNO(raw_open(longer, O_RDWR | O_CREAT, 0600, NULL), ENAMETOOLONG);
	EXPECT_ERRNO(raw_open(queue_name(), O_RDWR, 0, NULL), ENOENT);
	EXPECT_ERRNO(syscall(SYS_mq_unlink, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(syscall(SYS_mq_unlink, "nowhere-to-be-seen"), ENOENT);
}

TEST(mq_open_rejects_attributes)
{
	struct mq_attr a = {.mq_maxmsg = 0, .mq_msgsize = 10};

	EXPECT_ERRNO(raw_open(queue_name(), O_RDWR | O_CREAT, 0600, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(raw_open(queue_name(), O_RDWR | O_CREAT, 0600, &a), EINVAL);
	a.mq_maxmsg = 1;
	a.mq_msgsize = -1;
	EXPECT_ERRNO(raw_open(queue_name(), O_RDWR | O_CREAT, 0600, &a), EINVAL);
	a.mq_msgsize = 1L << 40;
	EXPECT_ERRNO(raw_open(queue_name(), O_RDWR | O_CREAT, 0600, &a), EINVAL);
	a.mq_maxmsg = 1L << 40;
	EXPECT_ERRNO(raw_open(queue_name(), O_RDWR | O_CREAT, 0600, &a), EINVAL);
	EXPECT_ERRNO(syscall(SYS_mq_unlink, name_buf), ENOENT);
}

TEST(mq_calls_reject_other_files)
{
	int fds[2];
	char buf[8];
	struct mq_attr a;

	EXPECT_OK(pipe(fds));
	EXPECT_ERRNO(syscall(SYS_mq_timedsend, fds[1], buf, 1, 0, NULL), EBADF);
	EXPECT_ERRNO(syscall(SYS_mq_timedreceive, fds[0], buf, 8, NULL, NULL), EBADF);
	EXPECT_ERRNO(syscall(SYS_mq_getsetattr, fds[0], NULL, &a), EBADF);
	EXPECT_ERRNO(syscall(SYS_mq_notify, fds[0], NULL), EBADF);
	EXPECT_ERRNO(syscall(SYS_mq_timedsend, -1, buf, 1, 0, NULL), EBADF);
}

TEST(mq_send_and_receive_reject_arguments)
{
	int fd = new_queue(O_RDWR);
	struct timespec bad = {0, 1000000000};
	char buf[16];

	EXPECT_ERRNO(syscall(SYS_mq_timedsend, fd, BAD_ADDR, 8, 0, NULL), EFAULT);
	EXPECT_ERRNO(syscall(SYS_mq_timedsend, fd, buf, 17, 0, NULL), EMSGSIZE);
	EXPECT_ERRNO(syscall(SYS_mq_timedsend, fd, buf, -1L, 0, NULL), EMSGSIZE);
	EXPECT_ERRNO(syscall(SYS_mq_timedsend, fd, buf, 1, 32768, NULL), EINVAL);
	EXPECT_ERRNO(syscall(SYS_mq_timedsend, fd, buf, 1, 0, &bad), EINVAL);
	EXPECT_ERRNO(syscall(SYS_mq_timedsend, fd, buf, 1, 0, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(syscall(SYS_mq_timedreceive, fd, buf, 15, NULL, NULL), EMSGSIZE);
	EXPECT_OK(send_to(fd, "x", 0));
	EXPECT_ERRNO(syscall(SYS_mq_timedreceive, fd, BAD_ADDR, 16, NULL, NULL), EFAULT);
	EXPECT_ERRNO(syscall(SYS_mq_getsetattr, fd, BAD_ADDR, NULL), EFAULT);
	EXPECT_ERRNO(syscall(SYS_mq_getsetattr, fd, NULL, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(syscall(SYS_mq_notify, fd, BAD_ADDR), EFAULT);
}

TEST(mq_messages_come_by_priority)
{
	int fd = new_queue(O_RDWR);
	unsigned prio;
	char buf[16];

	EXPECT_OK(send_to(fd, "low", 1));
	EXPECT_OK(send_to(fd, "high", 9));
	EXPECT_OK(send_to(fd, "low2", 1));
	EXPECT_EQ(receive_from(fd, buf, 16, &prio), 4);
	EXPECT_STR(buf, "high");
	EXPECT_EQ(prio, 9);
	EXPECT_EQ(receive_from(fd, buf, 16, NULL), 3);
	EXPECT_STR(buf, "low");
	EXPECT_EQ(receive_from(fd, buf, 16, &prio), 4);
	EXPECT_STR(buf, "low2");
}

TEST(mq_nonblock_and_timeouts)
{
	int fd = new_queue(O_RDWR | O_NONBLOCK);
	struct mq_attr a = {0}, old;
	struct timespec ts;
	char buf[16];

	EXPECT_ERRNO(receive_from(fd, buf, 16, NULL), EAGAIN);
	for (int i = 0; i < 3; i++)
		EXPECT_OK(send_to(fd, "m", 0));
	EXPECT_ERRNO(send_to(fd, "m", 0), EAGAIN);
	EXPECT_OK(syscall(SYS_mq_getsetattr, fd, &a, &old));
	EXPECT_EQ(old.mq_flags, O_NONBLOCK);
	EXPECT_EQ(old.mq_curmsgs, 3);
	EXPECT_EQ(old.mq_maxmsg, 3);
	EXPECT_EQ(old.mq_msgsize, 16);
	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_sec--;
	EXPECT_ERRNO(syscall(SYS_mq_timedsend, fd, buf, 1, 0, &ts), ETIMEDOUT);
	a.mq_flags = 1;
	EXPECT_ERRNO(syscall(SYS_mq_getsetattr, fd, &a, NULL), EINVAL);
}

TEST(mq_access_modes_bind)
{
	char buf[16];
	int fd = new_queue(O_RDONLY);

	EXPECT_ERRNO(send_to(fd, "m", 0), EBADF);
	close(fd);
	fd = new_queue(O_WRONLY);
	EXPECT_ERRNO(receive_from(fd, buf, 16, NULL), EBADF);
}

static void mq_foreign(void *arg)
{
	EXPECT_OK(setgid(65534));
	EXPECT_OK(setuid(65534));
	EXPECT_ERRNO(raw_open(arg, O_RDWR, 0, NULL), EACCES);
	EXPECT_OK(raw_open(arg, O_RDONLY, 0, NULL));
	long r = syscall(SYS_mq_unlink, arg);
	EXPECT(r == -1 && (errno == EPERM || errno == EACCES));
}

TEST(mq_names_are_found_and_guarded)
{
	const char *name = queue_name();

	if (geteuid())
		test_skip("needs root");
	umask(022);
	int fd = (int)EXPECT_OK(raw_open(name, O_CREAT | O_EXCL | O_RDWR, 0666, NULL));
	EXPECT(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	EXPECT_ERRNO(raw_open(name, O_CREAT | O_EXCL | O_RDWR, 0666, NULL), EEXIST);
	EXPECT_OK(raw_open(name, O_CREAT | O_RDWR, 0666, NULL));
	EXPECT_ERRNO(raw_open(name, 3, 0, NULL), EINVAL);
	EXPECT_EQ(test_child(mq_foreign, (void *)name), 0);
	EXPECT_OK(syscall(SYS_mq_unlink, name));
	EXPECT_ERRNO(raw_open(name, O_RDWR, 0, NULL), ENOENT);
	EXPECT_OK(send_to(fd, "still there", 0));
}

static void delayed_send(void *arg)
{
	test_sleep_ms(30);
	EXPECT_OK(send_to(*(int *)arg, "late", 2));
}

TEST(mq_receive_waits_and_polls)
{
	int fd = new_queue(O_RDWR);
	struct pollfd p = {fd, POLLIN | POLLOUT, 0};
	char buf[16];

	EXPECT_EQ(poll(&p, 1, 0), 1);
	EXPECT_EQ(p.revents, POLLOUT);
	pid_t pid = fork();
	if (pid == 0) {
		delayed_send(&fd);
		_exit(0);
	}
	EXPECT_EQ(receive_from(fd, buf, 16, NULL), 4);
	EXPECT_STR(buf, "late");
	waitpid(pid, NULL, 0);
	for (int i = 0; i < 3; i++)
		EXPECT_OK(send_to(fd, "m", 0));
	EXPECT_EQ(poll(&p, 1, 0), 1);
	EXPECT_EQ(p.revents, POLLIN);
}

TEST(mq_notify_signals_once)
{
	int fd = new_queue(O_RDWR);
	struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
	struct timespec now = {0};
	siginfo_t si;
	sigset_t set;
	char buf[16];

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	ev.sigev_value.sival_int = 42;
	EXPECT_OK(syscall(SYS_mq_notify, fd, &ev));
	EXPECT_ERRNO(syscall(SYS_mq_notify, fd, &ev), EBUSY);
	EXPECT_OK(send_to(fd, "one", 0));
	EXPECT_OK(send_to(fd, "two", 0));
	EXPECT_EQ(sigtimedwait(&set, &si, &now), SIGUSR1);
	EXPECT_EQ(si.si_code, SI_MESGQ);
	EXPECT_EQ(si.si_value.sival_int, 42);
	EXPECT_EQ(si.si_pid, getpid());
	EXPECT_OK(receive_from(fd, buf, 16, NULL));
	EXPECT_OK(receive_from(fd, buf, 16, NULL));
	EXPECT_OK(send_to(fd, "three", 0));
	EXPECT_ERRNO(sigtimedwait(&set, &si, &now), EAGAIN);
	ev.sigev_signo = 1000;
	EXPECT_ERRNO(syscall(SYS_mq_notify, fd, &ev), EINVAL);
	ev.sigev_notify = 99;
	EXPECT_ERRNO(syscall(SYS_mq_notify, fd, &ev), EINVAL);
}

TEST(mq_notify_ends_with_a_close)
{
	int fd = new_queue(O_RDWR), other = dup(fd);
	struct sigevent ev = {.sigev_notify = SIGEV_NONE};

	EXPECT_OK(syscall(SYS_mq_notify, fd, &ev));
	EXPECT_ERRNO(syscall(SYS_mq_notify, other, &ev), EBUSY);
	close(fd);
	EXPECT_OK(syscall(SYS_mq_notify, other, &ev));
	EXPECT_OK(syscall(SYS_mq_notify, other, NULL));
	EXPECT_OK(syscall(SYS_mq_notify, other, &ev));
}

TEST(mq_file_shows_its_state)
{
	int fd = new_queue(O_RDWR);
	char buf[128] = "";
	struct stat st;

	EXPECT_OK(send_to(fd, "12345", 0));
	EXPECT(read(fd, buf, sizeof(buf) - 1) > 0);
	EXPECT(!strncmp(buf, "QSIZE:5  ", 9));
	EXPECT_OK(fstat(fd, &st));
	EXPECT(S_ISREG(st.st_mode));
	EXPECT_EQ(st.st_size, 80);
}

TEST(mq_memory_is_bounded_by_rlimit)
{
	struct rlimit rl = {1000, 1000};
	struct mq_attr a = {.mq_maxmsg = 10, .mq_msgsize = 8192};

	EXPECT_OK(setrlimit(RLIMIT_MSGQUEUE, &rl));
	EXPECT_ERRNO(raw_open(queue_name(), O_RDWR | O_CREAT, 0600, &a), EMFILE);
}

/* SIGEV_THREAD as libc asks for it: 32 bytes come back by a netlink socket. */
TEST(mq_notify_thread_tells_by_netlink)
{
	int fd = new_queue(O_RDWR), nl = EXPECT_OK(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0));
	unsigned char cookie[32] = "what libc wants to know", back[64];
	struct sigevent ev = {
		.sigev_notify = SIGEV_THREAD, .sigev_signo = nl, .sigev_value.sival_ptr = cookie};

	EXPECT_OK(syscall(SYS_mq_notify, fd, &ev));
	EXPECT_OK(send_to(fd, "x", 0));
	EXPECT_EQ(recv(nl, back, sizeof(back), 0), 32);
	EXPECT(!memcmp(back, cookie, 31) && back[31] == 1);
	EXPECT_ERRNO(recv(nl, back, sizeof(back), MSG_DONTWAIT), EAGAIN);
	/* Taken away: it is told, too. */
	EXPECT_OK(syscall(SYS_mq_notify, fd, &ev));
	EXPECT_OK(syscall(SYS_mq_notify, fd, NULL));
	EXPECT_EQ(recv(nl, back, sizeof(back), 0), 32);
	EXPECT_EQ(back[31], 2);
}

TEST(mq_notify_thread_wants_a_netlink_socket)
{
	int fd = new_queue(O_RDWR), ux = EXPECT_OK(socket(AF_UNIX, SOCK_STREAM, 0)), p[2];
	unsigned char cookie[32] = "";
	struct sigevent ev = {.sigev_notify = SIGEV_THREAD, .sigev_value.sival_ptr = cookie};

	EXPECT_EQ(pipe(p), 0);
	ev.sigev_signo = p[0];
	EXPECT_ERRNO(syscall(SYS_mq_notify, fd, &ev), ENOTSOCK);
	ev.sigev_signo = ux;
	EXPECT_ERRNO(syscall(SYS_mq_notify, fd, &ev), EINVAL);
	ev.sigev_signo = 999;
	EXPECT_ERRNO(syscall(SYS_mq_notify, fd, &ev), EBADF);
	ev.sigev_value.sival_ptr = BAD_ADDR;
	EXPECT_ERRNO(syscall(SYS_mq_notify, fd, &ev), EFAULT);
}

static void told(union sigval v)
{
	sem_post(v.sival_ptr);
}

TEST(mq_notify_runs_a_function_in_a_thread)
{
	static sem_t told_sem;
	struct timespec until;
	int fd = new_queue(O_RDWR);
	struct sigevent ev = {.sigev_notify = SIGEV_THREAD,
			      .sigev_notify_function = told,
			      .sigev_value.sival_ptr = &told_sem};

	sem_init(&told_sem, 0, 0);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 30;
	EXPECT_EQ(mq_notify(fd, &ev), 0);
	EXPECT_OK(send_to(fd, "x", 0));
	EXPECT_EQ(sem_timedwait(&told_sem, &until), 0);
}
