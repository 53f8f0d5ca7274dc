/* linux.devices and linux.sysctl of config.json, in the form that the sentry takes. */
#pragma once

#include "oci/spec.h"

struct boot_config;

/* Fills c->devices and c->sysctls: free them by spec_strings_free(), also after an error, which
 * names what is wrong. */
int linux_spec_describe(const struct spec_linux *l, struct boot_config *c,
			struct err *e) MUST_CHECK;
