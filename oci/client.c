#include "oci/client.h"

#include <stdlib.h>
#include <string.h>

#include "sentry/boot/boot.h"

int client_recv(int fd, json_t **reply, struct err *e)
{
	const char *why = NULL;
	char *text;
	size_t len;
	int ok = 0, fatal = 0;

	int err = control_recv(fd, &text, &len);
	if (err)
		return err_errno(e, err, "reading from the sandbox");
	json_t *j = json_loadb(text, len, 0, NULL);
	free(text);
	if (!j || json_unpack(j, "{s:b, s?s, s?b}", "ok", &ok, "error", &why, "fatal", &fatal)) {
		json_decref(j);
		return err_set(e, -EPROTO, "the sandbox sent something that is no answer");
	}
	if (!ok) {
		err_set(e, -EINVAL, "%s", why ? why : "the sandbox refused");
		json_decref(j);
		return fatal ? -ESHUTDOWN : -EINVAL;
	}
	*reply = j;
	return 0;
}

int client_send(int fd, json_t *request, const int *fds, int nfds, struct err *e)
{
	char *text = request ? json_dumps(request, JSON_COMPACT) : NULL;

	json_decref(request);
	if (!text)
		return err_set(e, -ENOMEM, "out of memory");
	int err = control_send(fd, text, strlen(text), fds, nfds);
	free(text);
	return err ? err_errno(e, err, "asking the sandbox") : 0;
}

int client_call(int fd, json_t *request, const int *fds, int nfds, json_t **reply, struct err *e)
{
	int err = client_send(fd, request, fds, nfds, e);

	return err ? err : client_recv(fd, reply, e);
}

int client_do(int fd, json_t *request, struct err *e)
{
	json_t *reply;
	int err = client_call(fd, request, NULL, 0, &reply, e);

	if (!err)
		json_decref(reply);
	return err;
}
