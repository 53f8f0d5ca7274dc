#include "sentry/arch/xstate.h"

#include <cpuid.h>
#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "sentry/abi/signal.h"

/* The header that follows the legacy area.  Of the reserved bytes XRSTOR reads the first eight. */
struct xstate_header {
	uint64_t xstate_bv, xcomp_bv, reserved[6];
};
_Static_assert(sizeof(struct xstate_header) == XSTATE_HEADER_SIZE, "XSAVE header");

#define FX_MXCSR_MASK_OFFSET 28
#define FCW_DEFAULT 0x37f

static uint32_t read_u32(const uint8_t *p)
{
	uint32_t v;
	memcpy(&v, p, sizeof(v));
	return v;
}

/* The bits of MXCSR that this processor knows; loading another one faults. */
static uint32_t mxcsr_mask(void)
{
	static _Atomic uint32_t known;
	uint32_t mask = atomic_load_explicit(&known, memory_order_relaxed);

	if (!mask) {
		_Alignas(16) uint8_t fx[XSTATE_LEGACY_SIZE] = {0};
		__asm__ volatile("fxsave64 %0" : "=m"(fx));
		mask = read_u32(fx + FX_MXCSR_MASK_OFFSET);
		if (!mask)
			mask = 0xffbf; /* what a zero means: SDM 11.6.6 */
		atomic_store_explicit(&known, mask, memory_order_relaxed);
	}
	return mask;
}

size_t xstate_frame_size(const struct xstate_format *fmt)
{
	return fmt->size + LINUX_FP_XSTATE_MAGIC2_SIZE;
}

void xstate_export(const struct xstate_format *fmt, uint8_t *area)
{
	struct linux_fpx_sw_bytes sw = {
		.magic1 = LINUX_FP_XSTATE_MAGIC1,
		.extended_size = (uint32_t)xstate_frame_size(fmt),
		.xfeatures = fmt->mask,
		.xstate_size = (uint32_t)fmt->size,
	};
	uint32_t magic2 = LINUX_FP_XSTATE_MAGIC2;
	struct xstate_header h;

	memcpy(area + ARCH_XSTATE_SW_BYTES, &sw, sizeof(sw));
	memcpy(&h, area + XSTATE_LEGACY_SIZE, sizeof(h));
	/* Programs that look at the legacy area only may change it: it must count when restored. */
	h.xstate_bv |= XFEATURE_FP | XFEATURE_SSE;
	memcpy(area + XSTATE_LEGACY_SIZE, &h, sizeof(h));
	memcpy(area + fmt->size, &magic2, sizeof(magic2));
}

void xstate_init_area(const struct xstate_format *fmt, uint8_t *area)
{
	const uint16_t fcw = FCW_DEFAULT;
	const uint32_t mxcsr = XSTATE_MXCSR_DEFAULT;

	memset(area, 0, fmt->size);
	memcpy(area, &fcw, sizeof(fcw));
	memcpy(area + XSTATE_MXCSR_OFFSET, &mxcsr, sizeof(mxcsr));
}

int xstate_check(const struct xstate_format *fmt, const uint8_t *area)
{
	struct xstate_header h;

	memcpy(&h, area + XSTATE_LEGACY_SIZE, sizeof(h));
	if (h.xstate_bv & ~fmt->mask)
		return -EINVAL;
	if (h.xcomp_bv || h.reserved[0])
		return -EINVAL;
	if (read_u32(area + XSTATE_MXCSR_OFFSET) & ~mxcsr_mask())
		return -EINVAL;
	return 0;
}

/* The components that the frame carries and the length of its area; false: legacy area only. */
static bool frame_is_extended(const struct xstate_format *fmt, const uint8_t *frame, size_t n,
			      struct linux_fpx_sw_bytes *sw, bool *short_read)
{
	memcpy(sw, frame + ARCH_XSTATE_SW_BYTES, sizeof(*sw));
	if (sw->magic1 != LINUX_FP_XSTATE_MAGIC1 || sw->xstate_size < XSTATE_MIN_SIZE ||
	    sw->xstate_size > fmt->size || sw->xstate_size > sw->extended_size)
		return false;
	if (n < sw->xstate_size + LINUX_FP_XSTATE_MAGIC2_SIZE) {
		*short_read = true;
		return false;
	}
	return read_u32(frame + sw->xstate_size) == LINUX_FP_XSTATE_MAGIC2;
}

/* The components of `mask` that lie wholly in the first `size` bytes. */
static uint64_t components_within(uint64_t mask, uint32_t size)
{
	uint64_t in = XFEATURE_FP | XFEATURE_SSE;

	for (unsigned i = 2; i < 63; i++) {
		uint32_t len, offset, ecx, edx;
		if (!(mask >> i & 1))
			continue;
		__cpuid_count(0xd, i, len, offset, ecx, edx);
		(void)ecx;
		(void)edx;
		if (offset <= size && len <= size - offset)
			in |= 1ULL << i;
	}
	return in & mask;
}

int xstate_import(const struct xstate_format *fmt, const uint8_t *frame, size_t n, uint8_t *image)
{
	struct linux_fpx_sw_bytes sw;
	struct xstate_header h = {0};
	uint64_t carried = XFEATURE_FP | XFEATURE_SSE;
	bool short_read = false;

	if (n < XSTATE_LEGACY_SIZE)
		return -EFAULT;
	xstate_init_area(fmt, image);
	bool extended = frame_is_extended(fmt, frame, n, &sw, &short_read);
	if (short_read)
		return -EFAULT;
	if (extended) {
		memcpy(image, frame, sw.xstate_size);
		memcpy(&h, image + XSTATE_LEGACY_SIZE, sizeof(h));
		carried = sw.xfeatures;
	} else {
		memcpy(image, frame, XSTATE_LEGACY_SIZE);
		h.xstate_bv = carried;
	}
	if (extended && sw.xstate_size < fmt->size)
		carried &= components_within(fmt->mask, sw.xstate_size);

	if ((h.xstate_bv & ~fmt->mask) || h.xcomp_bv || h.reserved[0])
		return -EINVAL;
	h = (struct xstate_header){.xstate_bv = h.xstate_bv & carried};
	memcpy(image + XSTATE_LEGACY_SIZE, &h, sizeof(h));
	/* MXCSR is loaded whatever the header says of SSE. */
	if (!(carried & (XFEATURE_SSE | XFEATURE_AVX))) {
		const uint32_t mxcsr = XSTATE_MXCSR_DEFAULT;
		memcpy(image + XSTATE_MXCSR_OFFSET, &mxcsr, sizeof(mxcsr));
	}
	return xstate_check(fmt, image);
}
