/*
 * Extended processor state (x87, SSE, AVX, …) as signal frames carry it: an XSAVE area in standard
 * format, with Linux's software bytes in the legacy part and a magic word behind.
 *
 * Frames come back from the guest and may hold anything, while XRSTOR faults on what it does not
 * like (design rule 25).  So an area is never handed on as it came: xstate_import() builds a new
 * one that XRSTOR accepts, or refuses.  Source: Intel SDM volume 1, chapter 13.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sentry/arch/regs.h"
#include "sentry/lib/compiler.h"

#define XSTATE_LEGACY_SIZE 512
#define XSTATE_HEADER_SIZE 64
#define XSTATE_MIN_SIZE (XSTATE_LEGACY_SIZE + XSTATE_HEADER_SIZE)
#define XFEATURE_FP 0x1
#define XFEATURE_SSE 0x2
#define XFEATURE_AVX 0x4
#define XSTATE_MXCSR_OFFSET 24
#define XSTATE_MXCSR_DEFAULT 0x1f80U

/* What the platform moves: p_limits.xstate_size and .xstate_mask. */
struct xstate_format {
	size_t size;   /* XSTATE_MIN_SIZE … ARCH_XSTATE_MAX */
	uint64_t mask; /* components in it */
};

/* Bytes that the state takes in a frame: the area and the magic word. */
size_t xstate_frame_size(const struct xstate_format *fmt);
/* Makes an area of fmt->size bytes, as the platform gave it, what a frame shows; `area` has room
 * for xstate_frame_size(). */
void xstate_export(const struct xstate_format *fmt, uint8_t *area);
/*
 * Builds in `image` (fmt->size bytes) what XRSTOR may be given from the `n` bytes that could be
 * read at the frame's fpstate pointer.  Without sound software bytes only x87 and SSE are taken, as
 * Linux does; components that the frame does not carry become their initial state.
 * 0; -EFAULT: n is too short for what the frame promises; -EINVAL: state that XRSTOR refuses.
 */
int xstate_import(const struct xstate_format *fmt, const uint8_t *frame, size_t n,
		  uint8_t *image) MUST_CHECK;
/* Checks an area in place, as PTRACE_SETREGSET or a frame would hand it on: 0 or -EINVAL. */
int xstate_check(const struct xstate_format *fmt, const uint8_t *area) MUST_CHECK;
/* The initial state of all components. */
void xstate_init_area(const struct xstate_format *fmt, uint8_t *area);
