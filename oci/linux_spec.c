#include "oci/linux_spec.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/boot/boot.h"

#define DEFAULT_MODE 0666

/* "c", "u" (unbuffered: the same), "b", "p"; 0: none of them. */
static char kind_of(const char *type)
{
	if (strlen(type) != 1 || !strchr("cubp", *type))
		return 0;
	return *type == 'u' ? 'c' : *type;
}

static int device_text(const struct spec_device *d, char **out, struct err *e)
{
	char kind = kind_of(d->type);

	if (!kind)
		return err_set(e, -EINVAL,
			       "config.json: linux.devices: \"%s\" has the unknown type \"%s\"",
			       d->path, d->type);
	if (d->path[0] != '/')
		return err_set(e, -EINVAL, "config.json: linux.devices: \"%s\" is not absolute",
			       d->path);
	if (asprintf(out, "%c %u %u %o %u %u %s", kind, d->major, d->minor,
		     (d->file_mode ? *d->file_mode : DEFAULT_MODE) & 07777, d->uid, d->gid,
		     d->path) < 0)
		*out = NULL;
	return *out ? 0 : err_set(e, -ENOMEM, "out of memory");
}

int linux_spec_describe(const struct spec_linux *l, struct boot_config *c, struct err *e)
{
	int err = 0;

	c->devices = calloc(l->devices.n + 1, sizeof(char *));
	c->sysctls = calloc(l->sysctl.n + 1, sizeof(char *));
	if (!c->devices || !c->sysctls)
		return err_set(e, -ENOMEM, "out of memory");
	for (size_t i = 0; i < l->devices.n && !err; i++)
		err = device_text(&l->devices.v[i], &c->devices[i], e);
	for (size_t i = 0; i < l->sysctl.n && !err; i++)
		if (asprintf(&c->sysctls[i], "%s=%s", l->sysctl.v[i].key, l->sysctl.v[i].value) <
		    0) {
			c->sysctls[i] = NULL;
			err = err_set(e, -ENOMEM, "out of memory");
		}
	return err;
}
