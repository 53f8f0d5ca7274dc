#include "oci/internal.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "oci/config.h"

char *internal_gofer_encode(const struct mount_plan *p, int conn_fd, int log_fd)
{
	json_t *attach = json_array();

	for (size_t i = 0; i < p->nattach; i++)
		json_array_append_new(attach,
				      json_pack("[s,b]", p->attach[i].path, p->attach[i].readonly));
	json_t *j = json_pack(
		"{s:i, s:i, s:b, s:b, s:b, s:o}", "conn", conn_fd, "log", log_fd, "hostUds",
		strcmp(config.host_uds, "none") != 0, "debug", config.debug, "logJson",
		strcmp(config.log_format, "text") != 0 && !*config.debug_log, "attach", attach);
	char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
	json_decref(j);
	return text;
}

int internal_gofer_decode(const char *text, size_t len, struct gofer_config *out)
{
	json_t *attach, *j = json_loadb(text, len, 0, NULL);
	int uds, debug, json;

	if (!j || json_unpack(j, "{s:i, s:i, s:b, s:b, s:b, s:o}", "conn", &out->conn_fd, "log",
			      &out->log_fd, "hostUds", &uds, "debug", &debug, "logJson", &json,
			      "attach", &attach))
		return -EINVAL;
	struct gofer_attach *a = calloc(json_array_size(attach) + 1, sizeof(*a));
	if (!a)
		return -ENOMEM;
	for (size_t i = 0; i < json_array_size(attach); i++) {
		int readonly;
		if (json_unpack(json_array_get(attach, i), "[s,b]", &a[i].path, &readonly)) {
			free(a);
			return -EINVAL;
		}
		a[i].fd = -1;
		a[i].readonly = readonly;
	}
	out->host_uds = uds;
	out->ready_fd = -1;
	out->attach = a;
	out->nattach = json_array_size(attach);
	if (out->log_fd >= 0) {
		config.debug = debug;
		config.log_format = json ? "json" : "text";
	}
	return 0;
}

int internal_read_config(int fd, char **text, size_t *len, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) || st.st_size <= 0 || st.st_size > 64 << 20)
		return err_set(e, -EINVAL, "this command is internal: it needs a configuration");
	char *buf = malloc((size_t)st.st_size + 1);
	if (!buf || pread(fd, buf, (size_t)st.st_size, 0) != st.st_size) {
		free(buf);
		return err_set(e, -EIO, "cannot read the configuration");
	}
	buf[st.st_size] = 0;
	close(fd);
	*text = buf;
	*len = (size_t)st.st_size;
	return 0;
}
