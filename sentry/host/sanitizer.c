#include "sentry/host/sanitizer.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#include <stdint.h>

static int confined;

void sanitizer_confined(int fd)
{
	char here[128];

	confined = 1;
	if (fd >= 0)
		__sanitizer_set_report_fd((void *)(intptr_t)fd);
	/* The symbolizer opens the program at its first use: now, while it may. */
	__sanitizer_symbolize_pc(__builtin_return_address(0), "%f", here, sizeof(here));
}

/* The runtime looks these up by name. */
const char *__asan_default_options(void);
const char *__ubsan_default_options(void);
int __lsan_is_turned_off(void);

const char *__asan_default_options(void)
{
	return "detect_stack_use_after_return=1:strict_string_checks=1:check_initialization_order="
	       "1";
}

const char *__ubsan_default_options(void)
{
	return "print_stacktrace=1";
}

/* Asked when the program ends. */
int __lsan_is_turned_off(void)
{
	return confined;
}
#endif
