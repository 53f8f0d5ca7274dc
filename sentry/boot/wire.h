/* JSON forms inside the sentry: see boot.h for what they carry. */
#pragma once

#include <jansson.h>

#include "sentry/boot/boot.h"

/* An untrusted process description.  -EINVAL, -ENOMEM; the result is owned: boot_process_fini. */
int boot_process_unpack(json_t *j, struct boot_process *p) MUST_CHECK;
void boot_process_fini(struct boot_process *p);
