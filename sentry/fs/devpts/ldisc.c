/* From the master to the replica: N_TTY, the line discipline of termios(3). */
#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "sentry/fs/devpts/pty.h"

#define DISABLED 0 /* a special character that there is not; the mark of an end of file */

static bool mode(const struct pty *p, unsigned lflag)
{
	return p->termios.c_lflag & lflag;
}

static bool is_char(const struct pty *p, int which, uint8_t c)
{
	return c != DISABLED && p->termios.c_cc[which] == c;
}

static bool is_control(uint8_t c)
{
	return c < 32 || c == 127;
}

/* A byte of a character that began before it. */
static bool is_continuation(const struct pty *p, uint8_t c)
{
	return p->termios.c_iflag & IUTF8 && (c & 0xc0) == 0x80;
}

static uint32_t used(const struct pty *p)
{
	return p->head - p->tail;
}

static bool is_end(const struct pty *p, uint32_t pos)
{
	pos %= LINE_MAX_BYTES;
	return p->ends[pos / 64] >> pos % 64 & 1;
}

static void set_end(struct pty *p, uint32_t pos, bool end)
{
	uint64_t bit = 1ULL << pos % LINE_MAX_BYTES % 64;
	uint64_t *word = &p->ends[pos % LINE_MAX_BYTES / 64];

	*word = end ? *word | bit : *word & ~bit;
}

/* ---- storing ---- */

/* The last place is for the end of a line: what is too long for one is dropped. */
static void store(struct pty *p, uint8_t c)
{
	unsigned copies = p->termios.c_iflag & PARMRK && c == 0xff ? 2 : 1;

	while (copies-- && used(p) < LINE_MAX_BYTES - 1) {
		p->in[p->head % LINE_MAX_BYTES] = c;
		set_end(p, p->head++, false);
	}
}

static void store_end(struct pty *p, uint8_t c)
{
	p->in[p->head % LINE_MAX_BYTES] = c;
	set_end(p, p->head++, true);
	p->canon = p->head;
}

void ldisc_flush_input(struct pty *p)
{
	p->head = p->canon = p->tail = 0;
	memset(p->ends, 0, sizeof(p->ends));
	p->erasing = p->literal_next = false;
	p->gap_passed = false;
	packet_notify(p, TIOCPKT_FLUSHREAD, 0);
	p->master_events |= EV_OUT;
}

/* ---- editing ---- */

static void finish_erasing(struct pty *p)
{
	if (p->erasing)
		echo_byte(p, '/');
	p->erasing = false;
}

static void rub_out(struct pty *p)
{
	echo_byte(p, '\b');
	echo_byte(p, ' ');
	echo_byte(p, '\b');
}

/* Back to where the tab that was at the end of the line began: the width of what is before it. */
static void rub_out_tab(struct pty *p)
{
	unsigned width = 0;
	bool after_tab = false;

	for (uint32_t at = p->head; at != p->canon && !after_tab;) {
		uint8_t c = p->in[--at % LINE_MAX_BYTES];
		if (c == '\t')
			after_tab = true;
		else if (is_control(c))
			width += mode(p, ECHOCTL) ? 2 : 0;
		else
			width += !is_continuation(p, c);
	}
	if (!after_tab)
		width += p->canon_column;
	for (unsigned n = 8 - (width & 7); n; n--)
		echo_byte(p, '\b');
}

/* Shows that the character of `len` bytes that follow p->head is gone. */
static void echo_erased(struct pty *p, uint8_t first, uint32_t len, bool one)
{
	if (mode(p, ECHOPRT)) {
		if (!p->erasing)
			echo_byte(p, '\\');
		p->erasing = true;
		echo_visible(p, first);
		for (uint32_t i = 1; i < len; i++)
			echo_byte(p, p->in[(p->head + i) % LINE_MAX_BYTES]);
	} else if (one && !mode(p, ECHOE)) {
		echo_visible(p, p->termios.c_cc[VERASE]);
	} else if (first == '\t') {
		rub_out_tab(p);
	} else {
		if (is_control(first) && mode(p, ECHOCTL))
			rub_out(p);
		if (!is_control(first) || mode(p, ECHOCTL))
			rub_out(p);
	}
}

enum erase { ERASE_CHARACTER, ERASE_WORD, ERASE_LINE };

static void erase(struct pty *p, enum erase what)
{
	bool in_word = false;

	if (p->head == p->canon)
		return;
	while (p->head != p->canon) {
		uint32_t at = p->head;
		uint8_t c;
		do
			c = p->in[--at % LINE_MAX_BYTES];
		while (is_continuation(p, c) && at != p->canon);
		if (is_continuation(p, c))
			break;
		if (what == ERASE_WORD) {
			if ((c < 128 && isalnum(c)) || c == '_')
				in_word = true;
			else if (in_word)
				break;
		}
		uint32_t len = p->head - at;
		p->head = at;
		if (mode(p, ECHO))
			echo_erased(p, c, len, what == ERASE_CHARACTER);
		if (what == ERASE_CHARACTER)
			break;
	}
	if (p->head == p->canon && mode(p, ECHO))
		finish_erasing(p);
}

static void kill_line(struct pty *p)
{
	if (mode(p, ECHO) && mode(p, ECHOK) && mode(p, ECHOKE) && mode(p, ECHOE)) {
		erase(p, ERASE_LINE);
		return;
	}
	if (p->head == p->canon)
		return;
	p->head = p->canon;
	if (!mode(p, ECHO))
		return;
	finish_erasing(p);
	echo_visible(p, p->termios.c_cc[VKILL]);
	if (mode(p, ECHOK))
		echo_byte(p, '\n');
}

static void reprint(struct pty *p, uint8_t c)
{
	finish_erasing(p);
	echo_visible(p, c);
	echo_byte(p, '\n');
	for (uint32_t at = p->canon; at != p->head; at++)
		echo_visible(p, p->in[at % LINE_MAX_BYTES]);
}

/* ---- one byte ---- */

static void interrupt(struct pty *p, uint8_t c, int signo)
{
	if (!mode(p, NOFLSH)) {
		p->echo_head = p->echo_tail = 0;
		/* What the master's reader could not have seen yet. */
		if (queue_used(&p->to_master) > LINE_MAX_BYTES)
			p->to_master.head = p->to_master.tail + LINE_MAX_BYTES;
		packet_notify(p, TIOCPKT_FLUSHWRITE, 0);
		ldisc_flush_input(p);
		p->replica_events |= EV_OUT;
	}
	p->signals |= 1ULL << signo;
	if (p->termios.c_iflag & IXON)
		output_start(p);
	if (mode(p, ECHO))
		echo_visible(p, c);
}

/* Signals and flow control, in every mode.  True: that was it. */
static bool receive_special(struct pty *p, uint8_t c)
{
	if (p->termios.c_iflag & IXON) {
		if (is_char(p, VSTART, c)) {
			output_start(p);
			return true;
		}
		if (is_char(p, VSTOP, c)) {
			output_stop(p);
			return true;
		}
	}
	if (!mode(p, ISIG))
		return false;
	int signo = is_char(p, VINTR, c)   ? SIGINT
		    : is_char(p, VQUIT, c) ? SIGQUIT
		    : is_char(p, VSUSP, c) ? SIGTSTP
					   : 0;
	if (signo)
		interrupt(p, c, signo);
	return signo;
}

static void echo_input(struct pty *p, uint8_t c)
{
	finish_erasing(p);
	if (c == '\n') {
		echo_byte(p, c);
		return;
	}
	if (p->canon == p->head)
		p->canon_column = p->column;
	echo_visible(p, c);
}

/* Editing and ends of lines.  True: that was it. */
static bool receive_canonical(struct pty *p, uint8_t c)
{
	bool extended = mode(p, IEXTEN);

	if (is_char(p, VERASE, c)) {
		erase(p, ERASE_CHARACTER);
	} else if (is_char(p, VKILL, c)) {
		kill_line(p);
	} else if (extended && is_char(p, VWERASE, c)) {
		erase(p, ERASE_WORD);
	} else if (extended && is_char(p, VLNEXT, c)) {
		p->literal_next = true;
		if (mode(p, ECHO)) {
			finish_erasing(p);
			if (mode(p, ECHOCTL)) {
				echo_byte(p, '^');
				echo_byte(p, '\b');
			}
		}
	} else if (extended && mode(p, ECHO) && is_char(p, VREPRINT, c)) {
		reprint(p, c);
	} else if (c == '\n') {
		if (mode(p, ECHO | ECHONL))
			echo_byte(p, c);
		store_end(p, c);
	} else if (is_char(p, VEOF, c)) {
		store_end(p, DISABLED);
	} else if (is_char(p, VEOL, c) || (extended && is_char(p, VEOL2, c))) {
		if (mode(p, ECHO))
			echo_input(p, c);
		store_end(p, c);
	} else {
		return false;
	}
	return true;
}

static void receive(struct pty *p, uint8_t c)
{
	unsigned i = p->termios.c_iflag;

	if (i & ISTRIP)
		c &= 0x7f;
	if (i & IUCLC && mode(p, IEXTEN) && c < 128)
		c = (uint8_t)tolower(c);
	if (p->literal_next) {
		p->literal_next = false;
		if (mode(p, ECHO))
			echo_input(p, c);
		store(p, c);
		return;
	}
	if (receive_special(p, c))
		return;
	if (p->stopped && i & IXON && i & IXANY)
		output_start(p);
	if (c == '\r') {
		if (i & IGNCR)
			return;
		if (i & ICRNL)
			c = '\n';
	} else if (c == '\n' && i & INLCR) {
		c = '\r';
	}
	if (mode(p, ICANON) && receive_canonical(p, c))
		return;
	if (mode(p, ECHO))
		echo_input(p, c);
	store(p, c);
}

/* ---- moving ---- */

/* A line under way may be of any length, so that it can be edited; else input waits. */
static bool has_room(const struct pty *p)
{
	return used(p) < LINE_MAX_BYTES - 1 || (mode(p, ICANON) && p->canon == p->tail);
}

void ldisc_run(struct pty *p)
{
	struct byte_queue *q = &p->to_ldisc;
	bool any = false;

	echo_flush(p);
	for (; queue_used(q) && has_room(p); any = true) {
		uint8_t c = q->buf[q->tail++ % QUEUE_BYTES];
		receive(p, c);
	}
	if (!any)
		return;
	p->master_events |= EV_OUT;
	p->gap_passed = false;
	if (mode(p, ICANON) ? p->canon != p->tail : used(p) > 0)
		p->replica_events |= EV_IN;
	if (used(p))
		ldisc_start_gap(p);
}

void ldisc_start_gap(struct pty *p)
{
	const uint8_t *cc = p->termios.c_cc;

	if (mode(p, ICANON) || cc[VMIN] < 2 || !cc[VTIME] || p->gap_passed)
		return;
	ktimer_arm(&p->gap_timer, time_monotonic() + cc[VTIME] * (NSEC_PER_SEC / 10));
	p->gap_armed = true;
}

static void gap_over(struct ktimer *timer)
{
	struct pty *p = container_of(timer, struct pty, gap_timer);

	pty_lock(p);
	p->gap_armed = false;
	p->gap_passed = true;
	p->replica_events |= EV_IN;
	pty_unlock(p);
}

bool ldisc_readable(struct pty *p, uint32_t n, bool nonblock)
{
	const uint8_t *cc = p->termios.c_cc;

	if (mode(p, ICANON))
		return p->canon != p->tail;
	uint32_t min = MAX(1u, MIN((uint32_t)cc[VMIN], n));
	if (used(p) >= min)
		return true;
	if (!used(p))
		return false;
	if (nonblock || (cc[VTIME] && p->gap_passed))
		return true;
	if (!p->gap_armed)
		ldisc_start_gap(p);
	return false;
}

static uint32_t take_line(struct pty *p, uint8_t *dst, uint32_t n)
{
	uint32_t at = p->tail, got = 0;
	bool ended = false;

	while (at != p->canon && got < n && !ended) {
		uint8_t c = p->in[at % LINE_MAX_BYTES];
		ended = is_end(p, at++);
		if (ended && c == DISABLED)
			break;
		if (dst)
			dst[got] = c;
		got++;
	}
	/* An end of file right behind a full buffer belongs to what was read. */
	if (!ended && at != p->canon && is_end(p, at) && p->in[at % LINE_MAX_BYTES] == DISABLED)
		at++;
	if (dst)
		p->tail = at;
	return got;
}

uint32_t ldisc_take(struct pty *p, uint8_t *dst, uint32_t n)
{
	if (mode(p, ICANON))
		return take_line(p, dst, n);
	n = MIN(n, used(p));
	if (!dst)
		return n;
	for (uint32_t i = 0; i < n; i++)
		dst[i] = p->in[p->tail++ % LINE_MAX_BYTES];
	if (!used(p))
		p->gap_passed = false;
	return n;
}

uint32_t ldisc_inq(const struct pty *p)
{
	if (!mode(p, ICANON))
		return used(p);
	uint32_t n = p->canon - p->tail;
	for (uint32_t at = p->tail; at != p->canon; at++)
		n -= is_end(p, at) && p->in[at % LINE_MAX_BYTES] == DISABLED;
	return n;
}

/* ---- modes ---- */

void ldisc_init(struct pty *p)
{
	static const uint8_t cc[] = {
		[VINTR] = 3,	 [VQUIT] = 28,	 [VERASE] = 127, [VKILL] = 21, [VEOF] = 4,
		[VMIN] = 1,	 [VSTART] = 17,	 [VSTOP] = 19,	 [VSUSP] = 26, [VREPRINT] = 18,
		[VDISCARD] = 15, [VWERASE] = 23, [VLNEXT] = 22,
	};

	p->termios = (struct termios2){
		.c_iflag = ICRNL | IXON,
		.c_oflag = OPOST | ONLCR,
		.c_cflag = B38400 | CS8 | CREAD,
		.c_lflag = ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN,
		.c_ispeed = 38400,
		.c_ospeed = 38400,
	};
	memcpy(p->termios.c_cc, cc, sizeof(cc));
	ktimer_init(&p->gap_timer, gap_over);
}

/* Bytes that were typed in the other mode: a line of their own, or no lines at all. */
static void change_canonical(struct pty *p)
{
	memset(p->ends, 0, sizeof(p->ends));
	p->canon = p->tail;
	if (mode(p, ICANON) && used(p)) {
		set_end(p, p->head - 1, true);
		p->canon = p->head;
	}
	p->erasing = p->literal_next = false;
}

static bool flows(const struct termios2 *t)
{
	return t->c_iflag & IXON && t->c_cc[VSTOP] == 023 && t->c_cc[VSTART] == 021;
}

void ldisc_set_termios(struct pty *p, const struct termios2 *t)
{
	struct termios2 old = p->termios;

	p->termios = *t;
	p->termios.c_cflag &= ~(CSIZE | PARENB);
	p->termios.c_cflag |= CS8 | CREAD;
	if ((old.c_lflag ^ t->c_lflag) & ICANON)
		change_canonical(p);
	if (old.c_iflag & IXON && !(t->c_iflag & IXON))
		output_start(p);
	if (flows(&old) != flows(t)) {
		bool stops = flows(t);
		packet_notify(p, stops ? TIOCPKT_DOSTOP : TIOCPKT_NOSTOP,
			      TIOCPKT_DOSTOP | TIOCPKT_NOSTOP);
	}
	ldisc_run(p);
	p->replica_events |= EV_IN | EV_OUT;
}
