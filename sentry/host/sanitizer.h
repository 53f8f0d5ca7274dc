/*
 * Builds with AddressSanitizer and UBSan (make SAN=asan) in processes that shut themselves in.
 *
 * The sanitizers' runtime makes host calls of its own, and reports to standard error, which a
 * confined process may not have.  Without sanitizers this is nothing.
 */
#pragma once

#if defined(__SANITIZE_ADDRESS__)
/*
 * Call before the process is confined.  Reports go to fd (borrowed) when it is not negative.
 * No leaks are looked for at its end: LeakSanitizer needs another process, ptrace and /proc, which
 * it no longer has.  Unit tests look for theirs, as commands do.
 */
void sanitizer_confined(int fd);
#else
static inline void sanitizer_confined(int fd)
{
	(void)fd;
}
#endif
