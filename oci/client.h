/* The command line's end of the control protocol (boot.h). */
#pragma once

#include <jansson.h>

#include "oci/err.h"

/* One frame: the object, when it says "ok".  -EINVAL: refused; -ESHUTDOWN: the sandbox ends for
 * the reason given; -ECONNRESET: it is gone; -EINTR. */
int client_recv(int fd, json_t **reply, struct err *e) MUST_CHECK;
/* Sends `request` (consumed) with descriptors. */
int client_send(int fd, json_t *request, const int *fds, int nfds, struct err *e) MUST_CHECK;
/* Sends `request` (consumed) with descriptors, and waits for the answer. */
int client_call(int fd, json_t *request, const int *fds, int nfds, json_t **reply,
		struct err *e) MUST_CHECK;
/* The same with the answer ignored. */
int client_do(int fd, json_t *request, struct err *e) MUST_CHECK;
