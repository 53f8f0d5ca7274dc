/*
 * site.h - one call site: which instructions before a `syscall` make room for a jump, and the
 * trampoline that the jump leads to.
 *
 * The `syscall` itself stays where it is and still traps, so that whoever jumps to it, restarts it
 * or returns to the instruction after it sees what was always there.  The instructions right before
 * it, at least five bytes of them, are overwritten by `jmp rel32`.  The trampoline does what they
 * did, puts the address after the `syscall` in r11 (which a call is free to change) and enters the
 * stub.  It lies in the same copy of the text, so that it works wherever that is mapped.
 *
 * Pure functions over bytes: `text` is a segment as it lies in its file, offsets are from its
 * start.  The bytes and the offset of the call are hostile; SITE_AFTER bytes follow the call.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SITE_INSNS 4  /* that are moved, at most */
#define SITE_BYTES 20 /* … which are this long */
#define SITE_JUMP 5   /* length of what takes their place */
#define SITE_AFTER 16 /* bytes that can be read from the call on */
#define SITE_TRAMP_MAX (SITE_BYTES + 4 * SITE_INSNS + 13)

struct text_site {
	uint32_t start, call; /* of the jump; of the syscall */
	uint32_t tramp;	      /* of the trampoline */
	uint8_t done;	      /* bytes of the trampoline that do what was moved */
	uint8_t n;
	uint8_t from[SITE_INSNS], to[SITE_INSNS]; /* instruction i: offsets from start and tramp */
};

/* What can be moved before the syscall at text[call]; nothing below text[from] is looked at.
 * False: it is no syscall, or its surroundings are not understood beyond doubt. */
bool site_find(const uint8_t *text, uint32_t from, uint32_t call, struct text_site *s);

/*
 * A jump to between two instructions that are to be moved would land inside the jump that takes
 * their place.  site_inner_set() marks those places of one site in a bitmap over the text;
 * site_inner_scan() unmarks every place in it that any branch, or what could be one, within
 * [from, end) leads to; a site may be patched while site_inner_ok().
 */
void site_inner_set(uint8_t *map, const struct text_site *s);
void site_inner_scan(uint8_t *map, const uint8_t *text, uint32_t from, uint32_t end);
bool site_inner_ok(const uint8_t *map, const struct text_site *s);

/* Makes the trampoline at text[tramp] and the jump to it.  `entry` is where the stub's address lies
 * in the text, as 8 bytes.  Returns the trampoline's length; 0, with nothing changed: it needs more
 * than `room` bytes, or something is out of its reach. */
size_t site_patch(uint8_t *text, struct text_site *s, uint32_t tramp, size_t room, uint32_t entry);
