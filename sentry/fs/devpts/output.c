/* From the replica to the master: queues, output processing, echo, flow control. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/fs/devpts/pty.h"

int queue_prepare(struct byte_queue *q)
{
	if (!q->buf && !(q->buf = malloc(QUEUE_BYTES)))
		return -ENOMEM;
	return 0;
}

void queue_put(struct byte_queue *q, const void *src, uint32_t n)
{
	uint32_t at = q->head % QUEUE_BYTES, first = MIN(n, (uint32_t)QUEUE_BYTES - at);

	memcpy(q->buf + at, src, first);
	memcpy(q->buf, (const uint8_t *)src + first, n - first);
	q->head += n;
}

void queue_peek(const struct byte_queue *q, void *dst, uint32_t n)
{
	uint32_t at = q->tail % QUEUE_BYTES, first = MIN(n, (uint32_t)QUEUE_BYTES - at);

	memcpy(dst, q->buf + at, first);
	memcpy((uint8_t *)dst + first, q->buf, n - first);
}

void packet_notify(struct pty *p, uint8_t set, uint8_t clear)
{
	if (!p->packet)
		return;
	p->packet_status = (p->packet_status & ~clear) | set;
	p->master_events |= EV_IN | POLLPRI;
}

/* ---- output processing ---- */

static bool put(struct pty *p, const char *bytes, uint32_t n)
{
	if (queue_room(&p->to_master) < n || queue_prepare(&p->to_master))
		return false;
	queue_put(&p->to_master, bytes, n);
	p->master_events |= EV_IN;
	return true;
}

static bool put_newline(struct pty *p)
{
	bool crnl = p->termios.c_oflag & ONLCR;

	if (!put(p, crnl ? "\r\n" : "\n", crnl ? 2 : 1))
		return false;
	if (crnl || p->termios.c_oflag & ONLRET)
		p->column = 0;
	p->canon_column = p->column;
	return true;
}

static bool put_return(struct pty *p)
{
	unsigned o = p->termios.c_oflag;

	if (o & ONOCR && p->column == 0)
		return true;
	if (!put(p, o & OCRNL ? "\n" : "\r", 1))
		return false;
	if (!(o & OCRNL) || o & ONLRET)
		p->canon_column = p->column = 0;
	return true;
}

static bool put_tab(struct pty *p)
{
	unsigned spaces = 8 - (p->column & 7);
	bool expand = (p->termios.c_oflag & TABDLY) == XTABS;

	if (!put(p, expand ? "        " : "\t", expand ? spaces : 1))
		return false;
	p->column += spaces;
	return true;
}

static bool put_other(struct pty *p, uint8_t c)
{
	char out = (char)(p->termios.c_oflag & OLCUC && c < 128 ? toupper(c) : c);

	if (!put(p, &out, 1))
		return false;
	if (c == '\b')
		p->column -= p->column > 0;
	else if (c >= 32 && c != 127 && !(p->termios.c_iflag & IUTF8 && (c & 0xc0) == 0x80))
		p->column++;
	return true;
}

bool output_byte(struct pty *p, uint8_t c)
{
	if (!(p->termios.c_oflag & OPOST))
		return put(p, (const char *)&c, 1);
	switch (c) {
	case '\n':
		return put_newline(p);
	case '\r':
		return put_return(p);
	case '\t':
		return put_tab(p);
	default:
		return put_other(p, c);
	}
}

/* ---- echo ---- */

void echo_flush(struct pty *p)
{
	while (p->echo_tail != p->echo_head && !p->stopped &&
	       output_byte(p, p->echo[p->echo_tail % LINE_MAX_BYTES]))
		p->echo_tail++;
}

/* What finds no room is lost at last: the typist's input must not wait for its echo. */
void echo_byte(struct pty *p, uint8_t c)
{
	echo_flush(p);
	if (p->echo_tail == p->echo_head && !p->stopped && output_byte(p, c))
		return;
	if (p->echo_head - p->echo_tail < LINE_MAX_BYTES)
		p->echo[p->echo_head++ % LINE_MAX_BYTES] = c;
}

void echo_visible(struct pty *p, uint8_t c)
{
	if (p->termios.c_lflag & ECHOCTL && (c < 32 || c == 127) && c != '\t') {
		echo_byte(p, '^');
		c ^= 0100;
	}
	echo_byte(p, c);
}

/* ---- flow control ---- */

void output_stop(struct pty *p)
{
	if (p->stopped)
		return;
	p->stopped = true;
	packet_notify(p, TIOCPKT_STOP, TIOCPKT_START);
}

void output_start(struct pty *p)
{
	if (!p->stopped || p->tco_stopped)
		return;
	p->stopped = false;
	packet_notify(p, TIOCPKT_START, TIOCPKT_STOP);
	echo_flush(p);
	p->replica_events |= EV_OUT;
}
