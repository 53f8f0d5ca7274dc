/*
 * rt_sigreturn's input: a ucontext and an XSAVE area, both the guest's.  Whatever xstate_import
 * accepts is given to XRSTOR, which faults - and so ends the run - when the check let something
 * wrong through.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/arch/sigframe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Every component but protection keys (loading them could lock this process out) and tiles. */
#define LOADABLE 0xe7ULL

static uint64_t xcr0(void)
{
	uint32_t lo, hi;
	__asm__("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	return (uint64_t)hi << 32 | lo;
}

static void load_and_restore(const uint8_t *image, uint64_t mask)
{
	static _Alignas(64) uint8_t own[ARCH_XSTATE_MAX];
	__asm__ volatile("xsave64 (%0)\n\txrstor64 (%1)\n\txrstor64 (%0)"
			 :
			 : "r"(own), "r"(image), "a"((uint32_t)mask), "d"((uint32_t)(mask >> 32))
			 : "memory");
}

static void fuzz_regs(const uint8_t *data, size_t size)
{
	struct linux_ucontext uc = {0};
	struct sigframe_place place;
	struct arch_regs regs = {.eflags = ARCH_EFLAGS_FIXED};

	memcpy(&uc, data, size < sizeof(uc) ? size : sizeof(uc));
	if (!sigframe_restore_regs(&uc, &regs)) {
		if (regs.cs != ARCH_USER_CS || regs.ss != ARCH_USER_DS)
			abort();
		if (regs.eflags & ~(0x50dd5ULL | ARCH_EFLAGS_FIXED))
			abort();
	}
	if (!sigframe_locate(uc.mcontext.sp, uc.flags & 8, &uc.stack, 2692, &place) &&
	    (place.frame % 16 != 8 || place.fpstate % 64 || place.fpstate - place.frame < 440 ||
	     place.fpstate - place.frame > 440 + 80))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static _Alignas(64) uint8_t image[ARCH_XSTATE_MAX];
	const struct xstate_format fmt = {.size = 2688,
					  .mask = xcr0() & LOADABLE}; /* through AVX-512 */
	uint8_t *frame = malloc(size ? size : 1); /* exact, so that over-reads are seen */

	fuzz_regs(data, size);
	memcpy(frame, data, size);
	if (size >= 576 && (data[0] & 1)) {
		/* Half of the inputs get sound software bytes: the deeper checks are behind them.
		 */
		const struct linux_fpx_sw_bytes sw = {
			.magic1 = LINUX_FP_XSTATE_MAGIC1,
			.extended_size = (uint32_t)size,
			.xfeatures = fmt.mask,
			.xstate_size = (uint32_t)size - 4,
		};
		const uint32_t magic2 = LINUX_FP_XSTATE_MAGIC2;
		memcpy(frame + ARCH_XSTATE_SW_BYTES, &sw, sizeof(sw));
		memcpy(frame + size - 4, &magic2, sizeof(magic2));
	}
	size_t n = size < xstate_frame_size(&fmt) ? size : xstate_frame_size(&fmt);
	if (!xstate_import(&fmt, frame, n, image)) {
		if (xstate_check(&fmt, image))
			abort();
		load_and_restore(image, fmt.mask);
	}
	free(frame);
	return 0;
}
