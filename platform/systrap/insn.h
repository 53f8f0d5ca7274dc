/*
 * insn.h - how long an x86-64 instruction is, and whether it does the same at another place.
 *
 * For call sites (site.c): the code before a `syscall` is decoded from many places at once, and
 * what is moved must be known to the byte.  Bytes are hostile; nothing beyond n is read.  Source:
 * Intel SDM vol. 2, chapter 2 and appendix A.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum insn_kind {
	INSN_OTHER,    /* not to be moved: control flow, system instructions, what is not known */
	INSN_PLAIN,    /* the same bytes do the same anywhere */
	INSN_RELATIVE, /* … once the 32-bit displacement at `rel` is corrected */
	INSN_BRANCH,   /* a conditional jump: 8 bits at `rel`, or 32 */
};

struct insn {
	uint8_t len;
	uint8_t kind; /* enum insn_kind */
	uint8_t rel;  /* offset of the relative displacement, the last thing but an immediate */
};

/* Decodes the instruction at p.  Returns its length, 0 when it is none, is not known, or does not
 * end within n bytes. */
size_t insn_decode(const uint8_t *p, size_t n, struct insn *out);
