/*
 * loader_prepare: from a file to a checked program - #! lines, headers, argument sizes - before
 * anything of the old program is touched.
 *
 * Not done: ETXTBSY (writers of a running program are not counted).
 */
#include "sentry/loader/loader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#include "sentry/lib/cleanup.h"
#include "sentry/loader/image.h"
#include "sentry/vfs/file.h"
#include "sentry/vfs/landlock.h"

#define MAY_EXEC 1
/* Linux: a file, and at most five interpreters in a row. */
#define SCRIPT_DEPTH_MAX 5
#define MAX_ARG_STRLEN 131072UL
#define ARG_SPACE_MIN 131072UL	  /* ARG_MAX, granted whatever the stack limit */
#define ARG_SPACE_MAX (6UL << 20) /* three quarters of the default stack */
#define HEAD_SIZE 4096		  /* headers of nearly every file fit into it */

/* The start of a file, read once. */
struct head {
	char *bytes; /* HEAD_SIZE, padded with NULs */
	size_t n;
};

/* ---- opening ---- */

static int check_executable(struct path p, const struct cred *cred)
{
	if (!S_ISREG(p.dentry->inode->mode))
		return -EACCES;
	if (p.mnt && p.mnt->flags & MS_NOEXEC)
		return -EACCES;
	return path_permission(p, MAY_EXEC, cred);
}

/* Opens an interpreter.  Execute permission is enough: the guest need not be able to read it. */
static int open_exec(const struct walk_env *env, const char *name, struct file **out)
{
	CLEANUP_PATH struct path p = {0};
	/* An empty name, as of a file that is just "#!", is the working directory to Linux. */
	int err = *name ? path_walk(env, name, 0, &p) : -EACCES;

	uint16_t denied; /* of no interest: nobody gets this file */
	if (!err)
		err = check_executable(p, env->cred);
	if (!err)
		err = landlock_may_open(p, O_RDONLY, true, env->cred, &denied);
	return err ? err : file_open_path(p, O_RDONLY, out);
}

static int read_head(struct file *f, struct head *h)
{
	memset(h->bytes, 0, HEAD_SIZE);
	ssize_t n = file_pread(f, h->bytes, HEAD_SIZE, 0);
	if (n < 0)
		return (int)n;
	h->n = (size_t)n;
	return 0;
}

/* Exactly n bytes at off; -EIO when the file ends before. */
static int read_exact(struct file *f, const struct head *h, uint64_t off, void *buf, size_t n)
{
	if (off <= h->n && n <= h->n - off) {
		memcpy(buf, h->bytes + off, n);
		return 0;
	}
	if (off > (uint64_t)INT64_MAX - n)
		return -EINVAL;
	ssize_t got = file_pread(f, buf, n, (int64_t)off);
	if (got < 0)
		return (int)got;
	return (size_t)got == n ? 0 : -EIO;
}

/* ---- ELF ---- */

/* Headers of one file; `bad` is the errno for a file that is not a good ELF. */
static int read_elf(struct file *f, const struct head *h, int bad, struct elf_image *img)
{
	Elf64_Ehdr eh;
	struct elf_phdr_place where;

	if (elf_check_header(h->bytes, h->n, &eh, &where))
		return bad;
	CLEANUP_FREE Elf64_Phdr *ph = malloc(where.size);
	if (!ph)
		return -ENOMEM;
	if (read_exact(f, h, where.off, ph, where.size))
		return bad;
	return elf_parse(&eh, ph, img);
}

/* The name of the ELF interpreter, with its NUL. */
static int read_interp_name(struct file *f, const struct head *h, const struct elf_image *img,
			    char **out)
{
	uint64_t n = img->interp_len;

	if (n < 2 || n > VFS_PATH_MAX)
		return -ENOEXEC;
	CLEANUP_FREE char *name = malloc(n);
	if (!name)
		return -ENOMEM;
	int err = read_exact(f, h, img->interp_off, name, n);
	if (err)
		return err;
	if (name[n - 1] != '\0')
		return -ENOEXEC;
	*out = steal(name);
	return 0;
}

/* Reads prog->file as ELF, and its interpreter, whose head replaces the file's in h. */
static int prepare_elf(const struct walk_env *env, struct head *h, struct loader_program *prog)
{
	struct loader_image *img = prog->priv;
	int err = read_elf(prog->file, h, -ENOEXEC, &img->prog);

	if (err)
		return err;
	if (!prog->file->ops->map_fd)
		return -ENOEXEC;
	if (!img->prog.has_interp)
		return 0;

	CLEANUP_FREE char *name = NULL;
	err = read_interp_name(prog->file, h, &img->prog, &name);
	if (!err)
		err = open_exec(env, name, &prog->interp);
	if (!err)
		err = read_head(prog->interp, h);
	if (!err && h->n < sizeof(Elf64_Ehdr))
		err = -EIO;
	return err ? err : read_elf(prog->interp, h, -ELIBBAD, &img->interp);
}

/* ---- #! ---- */

/* What scripts put in front of the arguments; the last pushed comes first. */
struct prefix {
	char *args[3 * (SCRIPT_DEPTH_MAX + 1)]; /* owned */
	size_t n;
	size_t skip; /* arguments of the caller that were replaced: 0 or 1 */
	char *name;  /* of the file that is looked at now; owned, or NULL: the caller's */
};

static void prefix_fini(struct prefix *p)
{
	while (p->n)
		free(p->args[--p->n]);
	free(p->name);
}

/* Not strndup: the head of a file has no NUL to be looked for. */
static char *copy_bytes(const char *s, size_t len)
{
	char *copy = malloc(len + 1);

	if (copy) {
		memcpy(copy, s, len);
		copy[len] = 0;
	}
	return copy;
}

static int prefix_push(struct prefix *p, const char *s, size_t len)
{
	char *copy = copy_bytes(s, len);

	if (!copy)
		return -ENOMEM;
	p->args[p->n++] = copy;
	return 0;
}

/* Replaces the first argument by interpreter, argument, script. */
static int apply_script(const struct exec_args *a, const char *buf, const struct script_line *line,
			struct prefix *p)
{
	const char *script = p->name ? p->name : a->filename;
	int err;

	if (p->n)
		free(p->args[--p->n]);
	else
		p->skip = 1;
	err = prefix_push(p, script, strlen(script));
	if (!err && line->arg_len)
		err = prefix_push(p, buf + line->arg_off, line->arg_len);
	if (!err)
		err = prefix_push(p, buf + line->interp_off, line->interp_len);
	if (err)
		return err;
	char *name = copy_bytes(buf + line->interp_off, line->interp_len);
	if (!name)
		return -ENOMEM;
	free(p->name);
	p->name = name;
	return 0;
}

/* Follows #! lines until prog->file is something else; h then holds its head. */
static int resolve_scripts(const struct walk_env *env, const struct exec_args *a, struct head *h,
			   struct prefix *p, struct loader_program *prog)
{
	int err = check_executable(a->file->path, env->cred);
	if (err)
		return err;
	/* An O_PATH descriptor can be executed, but not read. */
	if (file_readable(a->file))
		prog->file = file_get(a->file);
	else if ((err = file_open_path(a->file->path, O_RDONLY, &prog->file)))
		return err;

	for (int depth = 0;; depth++) {
		if (depth > SCRIPT_DEPTH_MAX)
			return -ELOOP;
		if ((err = read_head(prog->file, h)))
			return err;
		struct script_line line;
		if (script_parse(h->bytes, &line))
			return 0; /* ELF or nothing: the next step tells */
		if ((err = apply_script(a, h->bytes, &line, p)))
			return err;
		file_put(steal(prog->file));
		if ((err = open_exec(env, p->name, &prog->file)))
			return err;
	}
}

/* ---- arguments ---- */

/* Adds a string's size; -E2BIG. */
static int count_string(const char *s, size_t *total, size_t limit)
{
	size_t n = strlen(s) + 1;

	if (n > MAX_ARG_STRLEN || n > limit - *total)
		return -E2BIG;
	*total += n;
	return 0;
}

static char *append_string(char *at, const char *s, char **where)
{
	*where = at;
	return stpcpy(at, s) + 1;
}

static size_t arg_space(uint64_t stack_limit, const struct exec_args *a)
{
	uint64_t limit = MAX(MIN(stack_limit / 4, (uint64_t)ARG_SPACE_MAX), ARG_SPACE_MIN);
	uint64_t pointers = (MAX(a->argc, (size_t)1) + a->envc) * sizeof(uint64_t);

	return limit > pointers ? limit - pointers : 0;
}

/*
 * Lays the strings out as the stack will hold them, and points prog's vectors at them.  A program
 * without arguments gets one empty one, as in Linux.
 */
static int prepare_strings(const struct exec_args *a, const struct prefix *p, uint64_t stack_limit,
			   struct loader_program *prog)
{
	static const char *const empty[] = {""};
	struct stack_strings *st = &((struct loader_image *)prog->priv)->strings;
	const char *const *rest = (const char *const *)a->argv;
	size_t nrest = a->argc, total = 0;
	size_t limit = arg_space(stack_limit, a);

	if (p->skip && nrest) {
		rest++;
		nrest--;
	} else if (!nrest && !p->n) {
		rest = empty;
		nrest = 1;
	}
	int err = limit ? count_string(a->filename, &total, limit) : -E2BIG;
	for (size_t i = 0; !err && i < p->n; i++)
		err = count_string(p->args[i], &total, limit);
	for (size_t i = 0; !err && i < nrest; i++)
		err = count_string(rest[i], &total, limit);
	for (size_t i = 0; !err && i < a->envc; i++)
		err = count_string(a->envp[i], &total, limit);
	if (err)
		return err;

	prog->argc = p->n + nrest;
	prog->envc = a->envc;
	prog->argv = calloc(prog->argc + 1, sizeof(char *));
	prog->envp = calloc(prog->envc + 1, sizeof(char *));
	st->size = total + sizeof(uint64_t);
	st->bytes = calloc(1, st->size);
	if (!prog->argv || !prog->envp || !st->bytes)
		return -ENOMEM;

	char *at = st->bytes;
	for (size_t i = 0; i < p->n; i++)
		at = append_string(at, p->args[p->n - 1 - i], &prog->argv[i]);
	for (size_t i = 0; i < nrest; i++)
		at = append_string(at, rest[i], &prog->argv[p->n + i]);
	st->env_off = (size_t)(at - st->bytes);
	for (size_t i = 0; i < a->envc; i++)
		at = append_string(at, a->envp[i], &prog->envp[i]);
	st->filename_off = (size_t)(at - st->bytes);
	append_string(at, a->filename, &prog->filename);
	return 0;
}

int loader_prepare(const struct walk_env *env, const struct exec_args *a, uint64_t stack_limit,
		   struct loader_program *prog)
{
	struct prefix prefix = {0};
	CLEANUP_FREE char *buf = malloc(HEAD_SIZE);
	struct head h = {.bytes = buf};
	struct loader_program made = {.priv = calloc(1, sizeof(struct loader_image))};
	int err = buf && made.priv ? 0 : -ENOMEM;

	if (!err)
		err = resolve_scripts(env, a, &h, &prefix, &made);
	if (!err)
		err = prepare_strings(a, &prefix, stack_limit, &made);
	if (!err)
		err = prepare_elf(env, &h, &made);
	prefix_fini(&prefix);
	if (err)
		loader_program_fini(&made);
	else
		*prog = made;
	return err;
}

void loader_program_fini(struct loader_program *prog)
{
	struct loader_image *img = prog->priv;

	if (img) {
		elf_image_fini(&img->prog);
		elf_image_fini(&img->interp);
		free(img->strings.bytes);
		free(img);
	}
	free(prog->argv);
	free(prog->envp);
	file_put(prog->file);
	file_put(prog->interp);
	*prog = (struct loader_program){0};
}
