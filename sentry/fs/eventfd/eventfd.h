/* eventfd(2): a 64-bit counter behind a descriptor. */
#pragma once

#include <stdbool.h>

#include "sentry/lib/compiler.h"

struct file;

/* flags: EFD_SEMAPHORE, EFD_NONBLOCK. */
int eventfd_create_file(unsigned count, int flags, struct file **out) MUST_CHECK;
bool file_is_eventfd(const struct file *f);
/* Adds one, as a completion does; a full counter stays full. */
void eventfd_signal(struct file *f);
