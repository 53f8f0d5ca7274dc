/*
 * site.h - one call site: which instruction before a `syscall` makes room for a jump, and the
 * trampoline that the jump leads to.
 *
 * `jmp rel32` overwrites the beginning of one instruction, at least as long, shortly before the
 * call; the trampoline does what that instruction and the ones after it do, puts the address after
 * the `syscall` in r11 (which a call is free to change) and enters the stub.  Everything else stays
 * where it is, the `syscall` included, which still traps: so whoever jumps to between, restarts the
 * call or returns to the instruction after it finds what was always there.  No thread can stand
 * inside of what is overwritten, and so sites can be patched, and restored, under running threads.
 * Where no instruction is long enough, the jump may, if asked for, overwrite several: such a site
 * is `between`, and nobody may stand at, or go to, the further ones when it appears. The trampoline
 * lies in the same copy of the text: it works wherever that is mapped.
 *
 * Pure functions over bytes: `text` is a segment as it lies in its file, offsets are from its
 * start.  The bytes and the offset of the call are hostile; SITE_AFTER bytes follow the call.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SITE_INSNS 5  /* that are done in the trampoline, at most */
#define SITE_BYTES 20 /* … which are this long */
#define SITE_JUMP 5   /* length of what takes their place */
#define SITE_AFTER 16 /* bytes that can be read from the call on */
#define SITE_TRAMP_MAX (SITE_BYTES + 4 * SITE_INSNS + 13)

struct text_site {
	uint32_t start, call; /* of the jump; of the syscall */
	uint32_t tramp;	      /* of the trampoline */
	uint8_t done;	      /* bytes of the trampoline that do what was moved */
	bool between;
	uint8_t n;
	uint8_t from[SITE_INSNS], to[SITE_INSNS]; /* instruction i: offsets from start and tramp */
};

/* The site of the syscall at text[call]; nothing below text[from] is looked at.  False: it is no
 * syscall, what stands before it cannot be moved, or is not understood beyond doubt. */
bool site_find(const uint8_t *text, uint32_t from, uint32_t call, bool between,
	       struct text_site *s);
/* Whether a branch within [from, end), or bytes that could be one, leads into the jump. */
bool site_is_entered(const uint8_t *text, uint32_t from, uint32_t end, const struct text_site *s);

/* Makes the trampoline at text[tramp] and the jump to it.  `entry` is where the stub's address lies
 * in the text, as 8 bytes.  Returns the trampoline's length; 0, with nothing changed: it needs more
 * than `room` bytes, or something is out of its reach. */
size_t site_patch(uint8_t *text, struct text_site *s, uint32_t tramp, size_t room, uint32_t entry);
