/* /proc/PID/uid_map, gid_map, projid_map and setgroups: user_namespaces(7). */
#include <ctype.h>
#include <errno.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/fs/proc/internal.h"
#include "sentry/mm/uaccess.h"

#define SETGROUPS ID_KINDS

/* An open file: what it is about is settled when it is opened. */
struct map_file {
	struct user_ns *u;   /* reference */
	struct cred *opener; /* reference */
	int kind;	     /* enum id_kind or SETGROUPS */
};

static int show_map(struct text *out, const struct map_file *m)
{
	CLEANUP_FREE struct id_extent *e = malloc(ID_MAP_MAX * sizeof(*e));

	if (!e)
		return -ENOMEM;
	unsigned n = user_ns_read_map(m->u, (enum id_kind)m->kind, m->opener->user_ns, e);
	for (unsigned i = 0; i < n; i++)
		text_printf(out, "%10u %10u %10u\n", e[i].first, e[i].lower, e[i].count);
	return 0;
}

static ssize_t map_read(struct file *f, struct uio *io, int64_t *off)
{
	struct map_file *m = f->priv;
	struct text text = TEXT_INIT;
	ssize_t n = 0;

	if (m->kind == SETGROUPS)
		text_puts(&text, atomic_load(&m->u->no_setgroups) ? "deny\n" : "allow\n");
	else
		n = show_map(&text, m);
	if (!n)
		n = text_error(&text);
	if (!n && *off >= 0 && (uint64_t)*off < text.len && io->left)
		n = uio_put(io, text.buf + *off, MIN(text.len - (uint64_t)*off, io->left));
	text_fini(&text);
	if (n > 0)
		*off += n;
	return n;
}

static int write_setgroups(struct map_file *m, const char *text)
{
	bool allow = !strncmp(text, "allow", 5);

	if (!allow && strncmp(text, "deny", 4) != 0)
		return -EINVAL;
	text += allow ? 5 : 4;
	while (isspace((unsigned char)*text))
		text++;
	return *text ? -EINVAL : user_ns_write_setgroups(m->u, allow);
}

static ssize_t map_write(struct file *f, struct uio *io, int64_t *off)
{
	struct map_file *m = f->priv;
	struct task *t = task_current();
	size_t n = io->left;

	if (*off != 0 || n >= (m->kind == SETGROUPS ? 8 : PAGE_SIZE) || !t)
		return -EINVAL;
	CLEANUP_FREE char *text = malloc(n + 1);
	if (!text)
		return -ENOMEM;
	ssize_t got = n ? uio_get(io, text, n) : 0;
	if (got < 0 || (size_t)got < n)
		return -EFAULT;
	text[n] = '\0';
	const struct map_writer w = {m->opener, t->cred};
	int err = m->kind == SETGROUPS ? write_setgroups(m, text)
				       : user_ns_write_map(m->u, (enum id_kind)m->kind, text, &w);
	if (err)
		return err;
	*off += got;
	return got;
}

static void map_release(struct file *f)
{
	struct map_file *m = f->priv;

	cred_put(m->opener);
	user_ns_put(m->u);
	free(m);
}

static const struct file_ops map_ops = {
	.read = map_read,
	.write = map_write,
	.release = map_release,
};

static int open_kind(struct file *f, struct task *target, int kind)
{
	struct task *t = task_current();
	struct cred *c = task_cred_get(target);
	struct map_file *m = malloc(sizeof(*m));
	int err = 0;

	if (!m)
		err = -ENOMEM;
	else if (kind == SETGROUPS && file_writable(f) && t &&
		 !task_ns_capable(t, c->user_ns, CAP_SYS_ADMIN))
		err = -EACCES;
	if (err) {
		free(m);
	} else {
		*m = (struct map_file){user_ns_get(c->user_ns), cred_get(t ? t->cred : c), kind};
		f->priv = m;
		f->ops = &map_ops;
	}
	cred_put(c);
	return err;
}

#define MAP_FILE(name, kind)                                                                \
	static int open_##name(struct inode *in, struct file *f, void *target)              \
	{                                                                                   \
		(void)in;                                                                   \
		return open_kind(f, target, kind);                                          \
	}                                                                                   \
	const struct synth_file_ops proc_##name##_ops = {.common.free_arg = proc_task_free, \
							 .open = open_##name}

MAP_FILE(uid_map, ID_UID);
MAP_FILE(gid_map, ID_GID);
MAP_FILE(projid_map, ID_PROJID);
MAP_FILE(setgroups, SETGROUPS);
