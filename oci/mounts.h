/*
 * The specification's mounts as the sentry makes them, and what the gofer attaches for them.  Types
 * and sources are borrowed from the specification.
 */
#pragma once

#include "gofer/gofer.h"
#include "oci/err.h"
#include "oci/spec.h"
#include "sentry/boot/boot.h"

struct mount_plan {
	struct boot_mount *mounts;
	size_t nmounts;
	struct gofer_attach *attach; /* number 0 is the root */
	size_t nattach;
};

int mounts_plan(const struct spec *spec, const char *bundle, bool root_overlay, bool mounts_overlay,
		struct mount_plan *out, struct err *e) MUST_CHECK;
/* "shared", "rslave" … as flags of mount(2).  -EINVAL: none of these words. */
int mounts_propagation(const char *name, unsigned *flags) MUST_CHECK;
void mounts_plan_fini(struct mount_plan *p);
