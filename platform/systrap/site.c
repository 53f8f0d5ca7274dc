/*
 * Finding and patching one call site.
 *
 * x86 code can only be decoded forwards, and where instructions begin before a `syscall` is not
 * written anywhere.  But decoding falls into step with the program from almost any byte on: so it
 * is begun at every byte of a window some way before the call, and a site is taken only when every
 * attempt that does not end in rubbish arrives exactly at the call and agrees on the instructions
 * right before it.  That also refuses a "call" that is the inside of another instruction, which
 * guest code can jump to and have trap: the program's own instructions pass over it.
 */
#include "platform/systrap/site.h"

#include <string.h>

#include "platform/systrap/insn.h"
#include "sentry/lib/compiler.h"

#define WINDOW 96U     /* the first attempt begins so far before the call */
#define SETTLE 40      /* … and the last one so far */
#define ATTEMPTS_MIN 4 /* that must arrive */
#define TRACKED 32     /* … so far before the call it is noted where they pass */

/* Where the decoding that begins at a byte ends, and where it passes the last bytes: bit i stands
 * for an instruction that begins i bytes before the call. */
struct path {
	enum { RUBBISH, OVER, ARRIVES } end;
	uint32_t begins;
};

_Static_assert(SITE_BYTES < TRACKED && TRACKED <= SETTLE, "what is agreed on is not their start");

static void find_paths(const uint8_t *text, uint32_t call, uint32_t window, struct path *paths)
{
	struct insn in;

	for (uint32_t back = 1; back <= window; back++) {
		struct path *p = &paths[back];
		size_t len = insn_decode(text + call - back, back + SITE_AFTER, &in);
		if (!len)
			*p = (struct path){RUBBISH, 0};
		else if (len > back)
			*p = (struct path){OVER, 0};
		else if (len == back)
			*p = (struct path){ARRIVES, 0};
		else
			*p = paths[back - len];
		if (back < TRACKED)
			p->begins |= 1u << back;
	}
}

/* Where instructions begin before the call, and where that is certain; false: nowhere. */
static bool agree(const struct path *paths, uint32_t window, uint32_t *begins, uint32_t *doubtful)
{
	uint32_t all = ~0u, any = 0;
	int arrived = 0;

	for (uint32_t back = SETTLE; back <= window; back++) {
		if (paths[back].end == OVER)
			return false;
		if (paths[back].end == RUBBISH)
			continue;
		all &= paths[back].begins;
		any |= paths[back].begins;
		arrived++;
	}
	*begins = all;
	*doubtful = all ^ any;
	return arrived >= ATTEMPTS_MIN;
}

/* The instructions from s->start to the call; false: they cannot be moved. */
static bool take_insns(const uint8_t *text, struct text_site *s)
{
	struct insn in;

	s->n = 0;
	for (uint32_t at = s->start; at < s->call; at += in.len) {
		if (s->n == SITE_INSNS || !insn_decode(text + at, s->call - at, &in) ||
		    in.kind == INSN_OTHER)
			return false;
		if (!s->n)
			s->between = in.len < SITE_JUMP;
		s->from[s->n++] = (uint8_t)(at - s->start);
	}
	return true;
}

bool site_find(const uint8_t *text, uint32_t from, uint32_t call, bool between, struct text_site *s)
{
	struct path paths[WINDOW + 1];
	uint32_t begins, doubtful;

	*s = (struct text_site){.call = call};
	if (call <= from + SETTLE || text[call] != 0x0f || text[call + 1] != 0x05)
		return false;
	const uint32_t window = MIN(call - from, WINDOW);
	find_paths(text, call, window, paths);
	if (!agree(paths, window, &begins, &doubtful))
		return false;
	for (int pass = 0; pass <= between; pass++) {
		for (uint32_t back = 1; back <= SITE_BYTES && !(doubtful >> back & 1); back++) {
			s->start = call - back;
			if (back >= SITE_JUMP && begins >> back & 1 && take_insns(text, s) &&
			    s->between == pass)
				return true;
		}
	}
	return false;
}

static int32_t get32(const uint8_t *p)
{
	int32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static bool leads_into(const struct text_site *s, int64_t to)
{
	return to > s->start && to < s->start + SITE_JUMP;
}

bool site_is_entered(const uint8_t *text, uint32_t from, uint32_t end, const struct text_site *s)
{
	for (uint32_t i = from; i + 6 <= end; i++) {
		const uint8_t *p = text + i;
		bool is_short = (p[0] & 0xf0) == 0x70 || (p[0] & 0xfc) == 0xe0 || p[0] == 0xeb;
		if ((is_short && leads_into(s, (int64_t)i + 2 + (int8_t)p[1])) ||
		    ((p[0] & 0xfe) == 0xe8 && leads_into(s, (int64_t)i + 5 + get32(p + 1))) ||
		    (p[0] == 0x0f && (p[1] & 0xf0) == 0x80 &&
		     leads_into(s, (int64_t)i + 6 + get32(p + 2))))
			return true;
	}
	return false;
}

/* ---- the trampoline ---- */

static void put32(uint8_t *p, int64_t v)
{
	const int32_t v32 = (int32_t)v;

	memcpy(p, &v32, sizeof(v32));
}

/* Moves one instruction to t, which will stand at `at`; returns its length there, 0: it cannot. */
static size_t move(const uint8_t *text, uint32_t from, uint8_t *t, uint32_t at)
{
	struct insn in;

	insn_decode(text + from, SITE_BYTES, &in);
	memcpy(t, text + from, in.len);
	if (in.kind == INSN_PLAIN)
		return in.len;
	int64_t delta = (int64_t)from - at;
	if (in.kind == INSN_RELATIVE || in.rel == in.len - 4) {
		int64_t disp = get32(t + in.rel) + delta;
		put32(t + in.rel, disp);
		return disp == (int32_t)disp ? in.len : 0;
	}
	/* A short conditional jump becomes a long one, prefixes (hints) left out. */
	int64_t target = (int64_t)from + in.len + (int8_t)t[in.rel];
	t[1] = (uint8_t)(0x80 | (t[in.rel - 1] & 0xf));
	t[0] = 0x0f;
	put32(t + 2, target - (at + 6));
	return 6;
}

size_t site_patch(uint8_t *text, struct text_site *s, uint32_t tramp, size_t room, uint32_t entry)
{
	uint8_t t[SITE_TRAMP_MAX];
	size_t n = 0;

	for (int i = 0; i < s->n; i++) {
		s->to[i] = (uint8_t)n;
		size_t len = move(text, s->start + s->from[i], t + n, tramp + (uint32_t)n);
		if (!len)
			return 0;
		n += len;
	}
	s->done = (uint8_t)n;
	/* lea call+2(%rip),%r11; jmp *entry(%rip) */
	memcpy(t + n, "\x4c\x8d\x1d", 3);
	put32(t + n + 3, (int64_t)s->call + 2 - (int64_t)(tramp + n + 7));
	memcpy(t + n + 7, "\xff\x25", 2);
	put32(t + n + 9, (int64_t)entry - (int64_t)(tramp + n + 13));
	n += 13;
	if (n > room)
		return 0;
	s->tramp = tramp;
	memcpy(text + tramp, t, n);
	text[s->start] = 0xe9;
	put32(text + s->start + 1, (int64_t)tramp - (s->start + SITE_JUMP));
	return n;
}
