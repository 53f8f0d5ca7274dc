/* Pseudo-terminals: both ends, the line discipline, controlling terminals. */
#include "tests/compat/compat.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>

static int master, replica;
static char replica_name[64];

static void open_master(void)
{
	int unlock = 0, n;
	master = EXPECT_OK(open("/dev/ptmx", O_RDWR | O_NOCTTY));
	EXPECT_OK(ioctl(master, TIOCGPTN, &n));
	EXPECT_OK(ioctl(master, TIOCSPTLCK, &unlock));
	snprintf(replica_name, sizeof(replica_name), "/dev/pts/%d", n);
}

static void open_pair(void)
{
	open_master();
	replica = EXPECT_OK(open(replica_name, O_RDWR | O_NOCTTY));
}

static void set_modes(tcflag_t on, tcflag_t off)
{
	struct termios t;
	EXPECT_OK(tcgetattr(replica, &t));
	t.c_lflag = (t.c_lflag | on) & ~off;
	EXPECT_OK(tcsetattr(replica, TCSANOW, &t));
}

static void set_raw(int min, int time)
{
	struct termios t;
	EXPECT_OK(tcgetattr(replica, &t));
	cfmakeraw(&t);
	t.c_cc[VMIN] = min;
	t.c_cc[VTIME] = time;
	EXPECT_OK(tcsetattr(replica, TCSANOW, &t));
}

/* The kernel passes bytes on in the background: waits for them. */
static bool wait_for(int fd, short events, int ms)
{
	struct pollfd p = {fd, events, 0};
	return poll(&p, 1, ms) == 1 && p.revents & events;
}

static void type(const char *s)
{
	EXPECT_EQ(write(master, s, strlen(s)), strlen(s));
}

/* Everything that arrives within a moment. */
static const char *gather(int fd)
{
	static char buf[8192];
	size_t n = 0;
	while (n < sizeof(buf) - 1 && wait_for(fd, POLLIN, 60)) {
		ssize_t got = read(fd, buf + n, sizeof(buf) - 1 - n);
		if (got <= 0)
			break;
		n += got;
	}
	buf[n] = 0;
	return buf;
}

static void expect_line(const char *want)
{
	char buf[256] = "";
	EXPECT(wait_for(replica, POLLIN, 1000));
	EXPECT_EQ(read(replica, buf, sizeof(buf) - 1), strlen(want));
	EXPECT_STR(buf, want);
}

/* ---- hostile ---- */

TEST(pty_read_fault_on_the_replica)
{
	open_pair();
	type("abc\n");
	EXPECT(wait_for(replica, POLLIN, 1000));
	EXPECT_ERRNO(read(replica, BAD_ADDR, 4), EFAULT);
	EXPECT_ERRNO(write(replica, BAD_ADDR, 4), EFAULT);
	EXPECT_ERRNO(write(master, BAD_ADDR, 4), EFAULT);
	EXPECT_EQ(read(replica, BAD_ADDR, 0), 0);
}

TEST(pty_ioctl_faults)
{
	static const unsigned long cmds[] = {TCGETS,	 TCSETS,     TCSETSW,  TCSETSF,
					     TIOCGWINSZ, TIOCSWINSZ, FIONREAD, TIOCOUTQ,
					     TIOCGETD,	 TIOCSETD,   TIOCGPTN, TIOCSPTLCK,
					     TIOCGPTLCK, TIOCPKT,    TIOCGPKT};
	open_pair();
	for (size_t i = 0; i < sizeof(cmds) / sizeof(*cmds); i++)
		EXPECT_ERRNO(ioctl(master, cmds[i], BAD_ADDR), EFAULT);
	for (size_t i = 0; i < 10; i++)
		EXPECT_ERRNO(ioctl(replica, cmds[i], BAD_ADDR), EFAULT);
}

TEST(pty_ioctl_bad_arguments)
{
	open_pair();
	EXPECT_ERRNO(ioctl(replica, TCFLSH, 3), EINVAL);
	EXPECT_ERRNO(ioctl(replica, TCXONC, 4), EINVAL);
	EXPECT_ERRNO(ioctl(replica, 0x54fe, 0), ENOTTY);
	EXPECT_ERRNO(ioctl(master, 0x54fe, 0), ENOTTY);
	EXPECT_ERRNO(ioctl(replica, TIOCGPTN, BAD_ADDR), ENOTTY);
	EXPECT_ERRNO(ioctl(replica, TIOCPKT, BAD_ADDR), ENOTTY);
	EXPECT_ERRNO(lseek(replica, 0, SEEK_SET), ESPIPE);
	EXPECT_ERRNO(lseek(master, 0, SEEK_SET), ESPIPE);
}

TEST(pty_master_faults_on_read)
{
	open_pair();
	EXPECT_EQ(write(replica, "x", 1), 1);
	EXPECT(wait_for(master, POLLIN, 1000));
	EXPECT_ERRNO(read(master, BAD_ADDR, 1), EFAULT);
}

/* ---- names ---- */

TEST(pty_locked_replica_cannot_be_opened)
{
	int on = 1, got = 0;
	open_master();
	EXPECT_OK(ioctl(master, TIOCSPTLCK, &on));
	EXPECT_OK(ioctl(master, TIOCGPTLCK, &got));
	EXPECT_EQ(got, 1);
	EXPECT_ERRNO(open(replica_name, O_RDWR | O_NOCTTY), EIO);
}

TEST(pty_name_goes_with_the_master)
{
	struct stat st;
	open_pair();
	EXPECT_OK(stat(replica_name, &st));
	EXPECT(S_ISCHR(st.st_mode));
	EXPECT_EQ(st.st_rdev >> 8, 136);
	EXPECT_OK(chmod(replica_name, 0622));
	EXPECT_OK(stat(replica_name, &st));
	EXPECT_EQ(st.st_mode & 0777, 0622);
	EXPECT_OK(close(master));
	EXPECT_ERRNO(stat(replica_name, &st), ENOENT);
}

TEST(pty_ttyname_and_isatty)
{
	open_pair();
	EXPECT(isatty(replica) && isatty(master));
	EXPECT_STR(ttyname(replica), replica_name);
	EXPECT_STR(ptsname(master), replica_name);
}

TEST(pty_peer_opens_the_replica)
{
	open_master();
	replica = EXPECT_OK(ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
	EXPECT_EQ(fcntl(replica, F_GETFD), FD_CLOEXEC);
	EXPECT_STR(ttyname(replica), replica_name);
}

TEST(pty_devpts_cannot_be_changed)
{
	EXPECT_ERRNO(unlink("/dev/pts/ptmx"), EPERM);
	EXPECT_ERRNO(mkdir("/dev/pts/x", 0700), EPERM);
}

/* ---- canonical input ---- */

TEST(pty_defaults)
{
	struct termios t;
	open_pair();
	EXPECT_OK(tcgetattr(replica, &t));
	EXPECT_EQ(t.c_iflag, ICRNL | IXON);
	EXPECT_EQ(t.c_oflag, OPOST | ONLCR);
	EXPECT_EQ(t.c_lflag, ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN);
	EXPECT_EQ(t.c_cc[VINTR], 3);
	EXPECT_EQ(t.c_cc[VERASE], 127);
	EXPECT_EQ(cfgetospeed(&t), B38400);
}

TEST(pty_lines_come_whole)
{
	open_pair();
	EXPECT_OK(fcntl(replica, F_SETFL, O_NONBLOCK));
	type("par");
	EXPECT(!wait_for(replica, POLLIN, 50));
	char c[8];
	EXPECT_ERRNO(read(replica, c, 8), EAGAIN);
	type("tial\rnext\n");
	expect_line("partial\n");
	expect_line("next\n");
	EXPECT_STR(gather(master), "partial\r\nnext\r\n");
}

TEST(pty_short_read_leaves_the_rest)
{
	char buf[8] = "";
	open_pair();
	type("abcdef\n");
	EXPECT(wait_for(replica, POLLIN, 1000));
	EXPECT_EQ(read(replica, buf, 4), 4);
	EXPECT(!memcmp(buf, "abcd", 4));
	expect_line("ef\n");
}

TEST(pty_eof)
{
	char buf[8];
	open_pair();
	type("\004");
	EXPECT(wait_for(replica, POLLIN, 1000));
	EXPECT_EQ(read(replica, buf, 8), 0);
	type("ab\004cd\n");
	expect_line("ab");
	expect_line("cd\n");
}

TEST(pty_erase_and_its_echo)
{
	open_pair();
	type("abc\177d\n");
	expect_line("abd\n");
	EXPECT_STR(gather(master), "abc\b \bd\r\n");
	type("\177a\001\177\n");
	expect_line("a\n");
	EXPECT_STR(gather(master), "a^A\b \b\b \b\r\n");
}

TEST(pty_word_erase_and_kill)
{
	open_pair();
	set_modes(0, ECHO);
	type("one two  \027x\n");
	expect_line("one x\n");
	type("gone\025kept\n");
	expect_line("kept\n");
	set_modes(ECHO, ECHOKE);
	type("ab\025c\n");
	expect_line("c\n");
	EXPECT_STR(gather(master), "ab^U\r\nc\r\n");
}

TEST(pty_tab_is_erased)
{
	open_pair();
	type("ab\t\177c\n");
	expect_line("abc\n");
	EXPECT_STR(gather(master), "ab\t\b\b\b\b\b\bc\r\n");
}

TEST(pty_literal_next_and_reprint)
{
	open_pair();
	type("\026\003x\n");
	expect_line("\003x\n");
	EXPECT_STR(gather(master), "^\b^Cx\r\n");
	type("ab\022c\n");
	expect_line("abc\n");
	EXPECT_STR(gather(master), "ab^R\r\nabc\r\n");
}

TEST(pty_eol_ends_a_line)
{
	struct termios t;
	open_pair();
	EXPECT_OK(tcgetattr(replica, &t));
	t.c_cc[VEOL] = ';';
	EXPECT_OK(tcsetattr(replica, TCSANOW, &t));
	type("a;b\n");
	expect_line("a;");
	expect_line("b\n");
}

TEST(pty_line_limit)
{
	static char big[5000], in[5000];
	open_pair();
	set_modes(0, ECHO);
	memset(big, 'x', sizeof(big));
	EXPECT_EQ(write(master, big, sizeof(big)), sizeof(big));
	type("\n");
	EXPECT(wait_for(replica, POLLIN, 1000));
	EXPECT_EQ(read(replica, in, sizeof(in)), 4096);
	EXPECT_EQ(in[4095], '\n');
}

TEST(pty_input_translation)
{
	struct termios t;
	open_pair();
	EXPECT_OK(tcgetattr(replica, &t));
	t.c_iflag = IGNCR | INLCR | ISTRIP;
	t.c_lflag = 0;
	EXPECT_OK(tcsetattr(replica, TCSANOW, &t));
	type("a\rb\n\341");
	test_sleep_ms(30);
	expect_line("ab\ra");
}

/* ---- raw input ---- */

TEST(pty_vmin_waits_for_so_many)
{
	open_pair();
	set_raw(3, 0);
	type("ab");
	EXPECT(!wait_for(replica, POLLIN, 50));
	type("c");
	expect_line("abc");
}

TEST(pty_vmin_0_vtime_0_polls)
{
	char c;
	open_pair();
	set_raw(0, 0);
	EXPECT_EQ(read(replica, &c, 1), 0);
	type("z");
	EXPECT(wait_for(replica, POLLIN, 1000));
	EXPECT_EQ(read(replica, &c, 1), 1);
}

static long now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

TEST(pty_vtime_ends_a_read)
{
	char buf[8];
	open_pair();
	set_raw(0, 2);
	long start = now_ms();
	EXPECT_EQ(read(replica, buf, 8), 0);
	long took = now_ms() - start;
	EXPECT(took >= 150 && took < 2000);
	set_raw(5, 1);
	type("ab");
	EXPECT_EQ(read(replica, buf, 8), 2);
}

TEST(pty_fionread)
{
	int n = -1;
	open_pair();
	type("abc");
	test_sleep_ms(30);
	EXPECT_OK(ioctl(replica, FIONREAD, &n));
	EXPECT_EQ(n, 0);
	type("\nxy\004");
	test_sleep_ms(30);
	EXPECT_OK(ioctl(replica, FIONREAD, &n));
	EXPECT_EQ(n, 6);
	EXPECT_OK(ioctl(replica, TIOCOUTQ, &n));
	EXPECT_EQ(n, 0);
}

TEST(pty_mode_change_turns_bytes_into_a_line)
{
	open_pair();
	set_raw(1, 0);
	type("abc");
	test_sleep_ms(30);
	set_modes(ICANON, 0);
	expect_line("abc");
}

TEST(pty_input_flush)
{
	char c;
	open_pair();
	EXPECT_OK(fcntl(replica, F_SETFL, O_NONBLOCK));
	type("lost\n");
	EXPECT(wait_for(replica, POLLIN, 1000));
	EXPECT_OK(tcflush(replica, TCIFLUSH));
	EXPECT_ERRNO(read(replica, &c, 1), EAGAIN);
}

/* ---- output ---- */

TEST(pty_output_processing)
{
	struct termios t;
	open_pair();
	EXPECT_EQ(write(replica, "a\n\tb", 4), 4);
	EXPECT_STR(gather(master), "a\r\n\tb");
	EXPECT_OK(tcgetattr(replica, &t));
	t.c_oflag = OPOST | XTABS | OCRNL;
	EXPECT_OK(tcsetattr(replica, TCSANOW, &t));
	EXPECT_EQ(write(replica, "\nx\ty\r", 5), 5);
	const char *got = gather(master);
	EXPECT(strchr(got, '\t') == NULL && got[strlen(got) - 1] == '\n');
	t.c_oflag = 0;
	EXPECT_OK(tcsetattr(replica, TCSANOW, &t));
	EXPECT_EQ(write(replica, "\n\t\r", 3), 3);
	EXPECT_STR(gather(master), "\n\t\r");
}

TEST(pty_stop_and_start)
{
	open_pair();
	type("\023");
	test_sleep_ms(30);
	EXPECT_OK(fcntl(replica, F_SETFL, O_NONBLOCK));
	EXPECT_ERRNO(write(replica, "x", 1), EAGAIN);
	EXPECT(!wait_for(replica, POLLOUT, 0));
	type("\021");
	EXPECT(wait_for(replica, POLLOUT, 1000));
	EXPECT_EQ(write(replica, "x", 1), 1);
	EXPECT_STR(gather(master), "x");
}

TEST(pty_tcflow)
{
	open_pair();
	EXPECT_OK(fcntl(replica, F_SETFL, O_NONBLOCK));
	EXPECT_OK(tcflow(replica, TCOOFF));
	EXPECT_ERRNO(write(replica, "x", 1), EAGAIN);
	EXPECT_OK(tcflow(replica, TCOON));
	EXPECT_EQ(write(replica, "x", 1), 1);
	EXPECT_OK(tcflow(replica, TCIOFF));
	EXPECT_STR(gather(master), "x\023");
	EXPECT_OK(tcdrain(replica));
	EXPECT_OK(tcsendbreak(replica, 0));
}

TEST(pty_full_queue_would_block)
{
	static char big[8192];
	long total = 0;
	ssize_t n;
	open_pair();
	memset(big, 'x', sizeof(big));
	EXPECT_OK(fcntl(replica, F_SETFL, O_NONBLOCK));
	while ((n = write(replica, big, sizeof(big))) > 0 && total < 10 << 20)
		total += n;
	EXPECT_EQ(errno, EAGAIN);
	EXPECT(total >= 4096 && total < 10 << 20);
	while (wait_for(master, POLLIN, 50))
		EXPECT((n = read(master, big, sizeof(big))) > 0 && (total -= n) >= 0);
	EXPECT_EQ(total, 0);
	EXPECT(wait_for(replica, POLLOUT, 1000));
}

TEST(pty_packet_mode)
{
	char buf[16];
	int on = 1;
	open_pair();
	EXPECT_OK(ioctl(master, TIOCPKT, &on));
	EXPECT_EQ(write(replica, "hi", 2), 2);
	EXPECT(wait_for(master, POLLIN, 1000));
	EXPECT_EQ(read(master, buf, 16), 3);
	EXPECT(!memcmp(buf, "\0hi", 3));
	EXPECT_OK(tcflow(replica, TCOOFF));
	EXPECT(wait_for(master, POLLPRI, 1000));
	EXPECT_EQ(read(master, buf, 16), 1);
	EXPECT_EQ(buf[0], TIOCPKT_STOP);
	EXPECT_OK(tcflow(replica, TCOON));
	EXPECT_EQ(read(master, buf, 16), 1);
	EXPECT_EQ(buf[0], TIOCPKT_START);
	EXPECT_OK(tcflush(replica, TCIFLUSH));
	EXPECT_EQ(read(master, buf, 16), 1);
	EXPECT_EQ(buf[0], TIOCPKT_FLUSHREAD);
	set_raw(1, 0);
	EXPECT_EQ(read(master, buf, 16), 1);
	EXPECT_EQ(buf[0], TIOCPKT_NOSTOP);
}

TEST(pty_window_size)
{
	struct winsize ws = {24, 80, 1, 2}, got;
	open_pair();
	EXPECT_OK(ioctl(replica, TIOCGWINSZ, &got));
	EXPECT_EQ(got.ws_row, 0);
	EXPECT_OK(ioctl(master, TIOCSWINSZ, &ws));
	EXPECT_OK(ioctl(replica, TIOCGWINSZ, &got));
	EXPECT(!memcmp(&ws, &got, sizeof(ws)));
}

/* ---- the other end goes ---- */

TEST(pty_master_sees_the_replica_close)
{
	char buf[8];
	open_pair();
	EXPECT_OK(fcntl(master, F_SETFL, O_NONBLOCK));
	EXPECT_EQ(write(replica, "last", 4), 4);
	EXPECT_OK(close(replica));
	EXPECT(wait_for(master, POLLHUP, 1000));
	test_sleep_ms(30);
	EXPECT_EQ(read(master, buf, 8), 4);
	EXPECT_ERRNO(read(master, buf, 8), EIO);
	replica = EXPECT_OK(open(replica_name, O_RDWR | O_NOCTTY));
	EXPECT_ERRNO(read(master, buf, 8), EAGAIN);
	EXPECT(!wait_for(master, POLLHUP, 0));
}

TEST(pty_master_without_replica_waits)
{
	char c;
	open_master();
	EXPECT_OK(fcntl(master, F_SETFL, O_NONBLOCK));
	EXPECT_ERRNO(read(master, &c, 1), EAGAIN);
	type("early\n");
	replica = EXPECT_OK(open(replica_name, O_RDWR | O_NOCTTY));
	expect_line("early\n");
}

TEST(pty_replica_sees_the_master_close)
{
	struct pollfd p;
	struct winsize ws;
	char c;
	open_pair();
	EXPECT_OK(close(master));
	p = (struct pollfd){replica, POLLIN | POLLOUT, 0};
	EXPECT_EQ(poll(&p, 1, 1000), 1);
	EXPECT_EQ(p.revents, POLLIN | POLLOUT | POLLERR | POLLHUP);
	EXPECT_EQ(read(replica, &c, 1), 0);
	EXPECT_ERRNO(write(replica, "x", 1), EIO);
	EXPECT_ERRNO(ioctl(replica, TIOCGWINSZ, &ws), EIO);
}

TEST(pty_close_wakes_a_blocked_reader)
{
	int status;
	char c;
	open_pair();
	pid_t pid = fork();
	if (!pid) {
		close(master);
		/* An end of file, or an error if it looks before the hang-up is complete. */
		ssize_t n = read(replica, &c, 1);
		_exit(n == 0 || errno == EIO ? 0 : 1);
	}
	test_sleep_ms(50);
	EXPECT_OK(close(master));
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
}

/* ---- controlling terminals ---- */

static volatile sig_atomic_t caught;

static void catch (int signo)
{
	caught = signo;
}

/* Runs fn in a session leader whose controlling terminal is the replica; its exit status. */
static void in_session(void (*fn)(void))
{
	int status;
	pid_t pid = fork();
	if (!pid) {
		EXPECT_OK(setsid());
		EXPECT_OK(ioctl(replica, TIOCSCTTY, 0));
		fn();
		_exit(0);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
}

static void check_ids(void)
{
	int sid = 0, fd;
	EXPECT_EQ(tcgetpgrp(replica), getpgrp());
	EXPECT_OK(ioctl(replica, TIOCGSID, &sid));
	EXPECT_EQ(sid, getpid());
	EXPECT_ERRNO(tcsetpgrp(replica, -1), EINVAL);
	EXPECT_ERRNO(tcsetpgrp(replica, 1), EPERM);
	fd = EXPECT_OK(open("/dev/tty", O_RDWR));
	EXPECT_EQ(write(fd, "via", 3), 3);
	EXPECT_OK(ioctl(replica, TIOCNOTTY));
	EXPECT_ERRNO(open("/dev/tty", O_RDWR), ENXIO);
}

static void ignore_hup_and_check_ids(void)
{
	signal(SIGHUP, SIG_IGN);
	check_ids();
}

TEST(pty_controlling_terminal)
{
	open_pair();
	in_session(ignore_hup_and_check_ids);
	EXPECT_STR(gather(master), "via");
}

TEST(pty_open_by_a_leader_acquires_it)
{
	int status, fd;
	open_pair();
	pid_t pid = fork();
	if (!pid) {
		setsid();
		EXPECT_OK(open(replica_name, O_RDWR | O_NOCTTY));
		EXPECT_ERRNO(open("/dev/tty", O_RDWR), ENXIO);
		fd = EXPECT_OK(open(replica_name, O_RDWR));
		EXPECT_OK(open("/dev/tty", O_RDWR));
		EXPECT_EQ(tcgetpgrp(fd), getpid());
		_exit(0);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
}

TEST(pty_stranger_has_no_job_control)
{
	int n;
	open_pair();
	EXPECT_EQ(setsid() >= 0 || errno == EPERM, 1);
	EXPECT_ERRNO(tcgetpgrp(replica), ENOTTY);
	EXPECT_ERRNO(ioctl(replica, TIOCGSID, &n), ENOTTY);
	EXPECT_ERRNO(ioctl(replica, TIOCNOTTY), ENOTTY);
	EXPECT_OK(ioctl(master, TIOCGPGRP, &n));
	EXPECT_EQ(n, 0);
}

static void wait_for_signals(void)
{
	static const struct {
		char c;
		int signo;
	} keys[] = {{3, SIGINT}, {28, SIGQUIT}, {26, SIGTSTP}};
	struct winsize ws = {1, 2, 3, 4};

	signal(SIGWINCH, catch);
	for (size_t i = 0; i < 3; i++) {
		signal(keys[i].signo, catch);
		EXPECT_EQ(write(master, "junk", 4), 4);
		EXPECT_EQ(write(master, &keys[i].c, 1), 1);
		for (int n = 0; n < 100 && caught != keys[i].signo; n++)
			test_sleep_ms(10);
		EXPECT_EQ(caught, keys[i].signo);
	}
	EXPECT_OK(ioctl(master, TIOCSWINSZ, &ws));
	for (int n = 0; n < 100 && caught != SIGWINCH; n++)
		test_sleep_ms(10);
	EXPECT_EQ(caught, SIGWINCH);
	type("ok\n");
	expect_line("ok\n");
}

TEST(pty_keys_send_signals_and_flush)
{
	open_pair();
	in_session(wait_for_signals);
	/* How much of the rest's echo the flush catches is a matter of time. */
	const char *got = gather(master);
	EXPECT(strstr(got, "^C") && strstr(got, "^\\") && strstr(got, "^Zok\r\n"));
}

static void stop_in_background(void)
{
	int status;
	char c;
	pid_t pid = fork();
	if (!pid) {
		setpgid(0, 0);
		read(replica, &c, 1);
		_exit(0);
	}
	EXPECT_EQ(waitpid(pid, &status, WUNTRACED), pid);
	EXPECT(WIFSTOPPED(status));
	EXPECT_EQ(WSTOPSIG(status), SIGTTIN);
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);

	set_modes(TOSTOP, 0);
	pid = fork();
	if (!pid) {
		setpgid(0, 0);
		write(replica, "x", 1);
		_exit(0);
	}
	EXPECT_EQ(waitpid(pid, &status, WUNTRACED), pid);
	EXPECT(WIFSTOPPED(status));
	EXPECT_EQ(WSTOPSIG(status), SIGTTOU);
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
}

TEST(pty_background_is_stopped)
{
	open_pair();
	in_session(stop_in_background);
}

static int hup_pipe[2];

TEST(pty_master_close_hangs_up)
{
	int status;
	char c = 0;
	open_pair();
	EXPECT_OK(pipe(hup_pipe));
	pid_t pid = fork();
	if (!pid) {
		close(master);
		setsid();
		EXPECT_OK(ioctl(replica, TIOCSCTTY, 0));
		write(hup_pipe[1], "r", 1);
		for (;;)
			pause();
	}
	EXPECT_EQ(read(hup_pipe[0], &c, 1), 1);
	EXPECT_OK(close(master));
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT(WIFSIGNALED(status));
	EXPECT_EQ(WTERMSIG(status), SIGHUP);
}
