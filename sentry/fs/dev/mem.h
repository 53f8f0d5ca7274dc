/* Inside of sentry/fs/dev: the memory devices, major 1. */
#pragma once

#include "sentry/lib/compiler.h"

#define MEM_MAJOR 1

enum { MEM_NULL = 3, MEM_ZERO = 5, MEM_FULL = 7, MEM_RANDOM = 8, MEM_URANDOM = 9 };

int mem_devices_register(void) MUST_CHECK;
