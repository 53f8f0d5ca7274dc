/*
 * The control protocol: a process description that arrives at the sentry, the configuration it
 * starts with, and frames as the command line receives them.  The input's first byte chooses.
 */
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "oci/client.h"
#include "sentry/boot/boot.h"
#include "sentry/boot/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_process(const char *text, size_t size)
{
	json_t *j = json_loadb(text, size, 0, NULL);
	struct boot_process p = {0};

	if (j && !boot_process_unpack(j, &p))
		boot_process_fini(&p);
	json_decref(j);
}

static void fuzz_config(const char *text, size_t size)
{
	struct boot_config *c;

	if (!boot_config_decode(text, size, &c))
		boot_config_free(c);
}

static void fuzz_frames(const char *bytes, size_t size)
{
	struct err e = {""};
	json_t *reply;
	int sv[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, sv))
		abort();
	ssize_t n = send(sv[1], bytes, size, MSG_DONTWAIT);
	close(sv[1]);
	while (n >= 0 && !client_recv(sv[0], &reply, &e))
		json_decref(reply);
	close(sv[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const targets[])(const char *, size_t) = {fuzz_process, fuzz_config,
								fuzz_frames};

	if (size)
		targets[data[0] % 3]((const char *)data + 1, size - 1);
	return 0;
}
