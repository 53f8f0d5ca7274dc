/* Lengths of x86-64 instructions, from the tables of the SDM's opcode maps. */
#include "platform/systrap/insn.h"

#include <stdbool.h>
#include <string.h>

#define INSN_MAX 15

/* What follows an opcode; one letter each in the maps below. */
#define NONE '.'   /* nothing */
#define MODRM 'm'  /* ModRM */
#define MODRM1 'b' /* ModRM, 8-bit immediate */
#define MODRMZ 'z' /* ModRM, 32-bit immediate (16 with an operand-size prefix) */
#define IMM1 '1'   /* 8-bit immediate */
#define IMM2 '2'   /* 16-bit */
#define IMM3 '3'   /* 16-bit and 8-bit: enter */
#define IMMZ 'Z'   /* 32-bit (16) */
#define IMMV 'V'   /* as the operand: 16, 32 or 64 */
#define MOFFS 'a'  /* an address */
#define REL1 'j'   /* 8-bit displacement of a jump */
#define REL4 'J'   /* 32-bit */
#define GROUP3 'g' /* ModRM; an immediate when its reg is 0 or 1: f6, f7 */
#define BAD ' '	   /* no instruction, or a prefix in no place for one */

static const char one_byte[256 + 1] = "mmmm1Z  mmmm1Z  mmmm1Z  mmmm1Z  "  /* 00 */
				      "mmmm1Z  mmmm1Z  mmmm1Z  mmmm1Z  "  /* 20 */
				      "                ................"  /* 40 */
				      "   m    Zz1b....jjjjjjjjjjjjjjjj"  /* 60 */
				      "bz bmmmmmmmmmmmm.......... ....."  /* 80 */
				      "aaaa....1Z......11111111VVVVVVVV"  /* a0 */
				      "bb2.  bz3.2..1 .mmmm   .mmmmmmmm"  /* c0 */
				      "jjjj1111JJ j.... .  ..gg......mm"; /* e0 */

static const char two_byte[256 + 1] = "mmmm ..... . m  mmmmmmmmmmmmmmmm"  /* 00 */
				      "mmmm    mmmmmmmm...... .        "  /* 20 */
				      "mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm"  /* 40 */
				      "mmmmmmmmmmmmmmmmbbbbmmm.mm  mmmm"  /* 60 */
				      "JJJJJJJJJJJJJJJJmmmmmmmmmmmmmmmm"  /* 80 */
				      "...mbm  ...mbmmmmmmmmmmmmmbmmmmm"  /* a0 */
				      "mmbmbbbm........mmmmmmmmmmmmmmmm"  /* c0 */
				      "mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm"; /* e0 */

enum map { MAP_ONE, MAP_0F, MAP_0F38, MAP_0F3A };

struct decoder {
	const uint8_t *p;
	size_t n, at;
	bool wide, word, far_prefix; /* REX.W; 66; an address, repeat or lock prefix */
	bool vector;		     /* VEX or EVEX */
	enum map map;
	uint8_t op, modrm;
	size_t disp; /* where a displacement from rip stands; 0: there is none */
};

static bool take(struct decoder *d, uint8_t *out)
{
	if (d->at >= d->n)
		return false;
	*out = d->p[d->at++];
	return true;
}

static bool skip(struct decoder *d, size_t n)
{
	d->at += n;
	return d->at <= d->n;
}

/* VEX (c4, c5) and EVEX (62): the opcode map is in the prefix. */
static bool decode_vector(struct decoder *d, uint8_t first)
{
	uint8_t b[3] = {0};

	for (int i = 0; i < (first == 0x62 ? 3 : first == 0xc4 ? 2 : 1); i++)
		if (!take(d, &b[i]))
			return false;
	unsigned map = first == 0xc5 ? 1 : first == 0xc4 ? b[0] & 0x1f : b[0] & 0xf;
	if (map < 1 || map > 3 || (first == 0x62 && !(b[1] & 4)))
		return false;
	d->vector = true;
	d->map = (enum map)(MAP_0F + map - 1);
	return take(d, &d->op);
}

static bool decode_prefixes(struct decoder *d)
{
	uint8_t b = 0;

	while (take(d, &b)) {
		switch (b) {
		case 0x66:
			d->word = true;
			continue;
		case 0x67:
		case 0xf0:
		case 0xf2:
		case 0xf3:
			d->far_prefix = true;
			continue;
		case 0x26:
		case 0x2e:
		case 0x36:
		case 0x3e:
		case 0x64:
		case 0x65:
			continue;
		}
		break;
	}
	if ((b & 0xf0) == 0x40) {
		d->wide = b & 8;
		if (!take(d, &b))
			return false;
	}
	if (b == 0xc4 || b == 0xc5 || b == 0x62)
		return decode_vector(d, b);
	d->op = b;
	if (b != 0x0f)
		return true;
	d->map = MAP_0F;
	if (!take(d, &d->op))
		return false;
	if (d->op != 0x38 && d->op != 0x3a)
		return true;
	d->map = d->op == 0x38 ? MAP_0F38 : MAP_0F3A;
	return take(d, &d->op);
}

static bool decode_modrm(struct decoder *d)
{
	uint8_t sib = 0;

	if (!take(d, &d->modrm))
		return false;
	unsigned mod = d->modrm >> 6, rm = d->modrm & 7;
	if (mod == 3)
		return true;
	if (rm == 4 && !take(d, &sib))
		return false;
	if (mod == 0 && rm == 5)
		d->disp = d->at;
	if (mod == 2 || (mod == 0 && (rm == 5 || (rm == 4 && (sib & 7) == 5))))
		return skip(d, 4);
	return skip(d, mod == 1 ? 1 : 0);
}

/* What follows the opcode, as the maps have it. */
static char form_of(const struct decoder *d)
{
	if (d->map == MAP_0F38)
		return MODRM;
	if (d->map == MAP_0F3A)
		return MODRM1;
	if (d->map == MAP_ONE)
		return one_byte[d->op];
	if (d->vector && d->op != 0x77 && (two_byte[d->op] == NONE || two_byte[d->op] == REL4))
		return MODRM; /* mask registers */
	return two_byte[d->op];
}

static bool decode_operands(struct decoder *d, char form)
{
	const size_t z = d->word && !d->wide ? 2 : 4;

	switch (form) {
	case NONE:
		return true;
	case MODRM:
		return decode_modrm(d);
	case MODRM1:
		return decode_modrm(d) && skip(d, 1);
	case MODRMZ:
		return decode_modrm(d) && skip(d, z);
	case GROUP3:
		if (!decode_modrm(d))
			return false;
		return d->modrm & 0x30 || skip(d, d->op == 0xf6 ? 1 : z);
	case IMM1:
	case REL1:
		return skip(d, 1);
	case IMM2:
		return skip(d, 2);
	case IMM3:
		return skip(d, 3);
	case IMMZ:
		return skip(d, z);
	case IMMV:
		return skip(d, d->wide ? 8 : z);
	case MOFFS:
		return !d->far_prefix && skip(d, 8);
	case REL4: /* with 66 alone its size depends on the maker */
		return z == 4 && skip(d, 4);
	}
	return false;
}

/* The opcodes that compilers put before a call: moves, arithmetic, tests, push and pop. */
static bool is_plain(const struct decoder *d)
{
	const uint8_t op = d->op, reg = d->modrm >> 3 & 7;

	if (d->far_prefix || d->vector)
		return false;
	if (d->map == MAP_0F)
		return op == 0x1f || (op & 0xf0) == 0x40 || (op & 0xf6) == 0xb6;
	if (d->map != MAP_ONE)
		return false;
	if (op < 0x40) /* the eight operations of two operands */
		return true;
	switch (op) {
	case 0x63:
	case 0x68:
	case 0x6a:
	case 0x80:
	case 0x81:
	case 0x83:
	case 0x84:
	case 0x85:
	case 0x88:
	case 0x89:
	case 0x8a:
	case 0x8b:
	case 0x8d:
	case 0x90:
	case 0xa8:
	case 0xa9:
	case 0xc1:
	case 0xd1:
	case 0xf6:
	case 0xf7:
		return true;
	case 0xc6:
	case 0xc7:
		return reg == 0;
	}
	return (op & 0xf0) == 0x50 || (op & 0xf0) == 0xb0;
}

static enum insn_kind kind_of(const struct decoder *d, char form)
{
	if (form == REL1 && d->map == MAP_ONE && (d->op & 0xf0) == 0x70 && !d->far_prefix)
		return INSN_BRANCH;
	if (form == REL4 && d->map == MAP_0F && !d->far_prefix)
		return INSN_BRANCH;
	if (!is_plain(d))
		return INSN_OTHER;
	return d->disp ? INSN_RELATIVE : INSN_PLAIN;
}

size_t insn_decode(const uint8_t *p, size_t n, struct insn *out)
{
	struct decoder d = {.p = p, .n = n < INSN_MAX ? n : INSN_MAX};

	if (!decode_prefixes(&d))
		return 0;
	char form = form_of(&d);
	if (!decode_operands(&d, form))
		return 0;
	*out = (struct insn){.len = (uint8_t)d.at, .kind = (uint8_t)kind_of(&d, form)};
	if (out->kind == INSN_BRANCH)
		out->rel = (uint8_t)(d.at - (form == REL1 ? 1 : 4));
	else
		out->rel = (uint8_t)d.disp;
	return d.at;
}
