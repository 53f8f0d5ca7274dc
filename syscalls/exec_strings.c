#include "syscalls/exec_strings.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define STRING_MAX (128UL << 10)
#define TOTAL_MAX (6UL << 20)
#define VECTOR_STEP 64

/* The last pages that were read: strings usually lie side by side, or on a few pages of the heap in
 * turn, and a remote read costs a host call whatever its length. */
#define WINDOW_PAGES 4
#define NO_PAGE 1
struct window {
	uint64_t page[WINDOW_PAGES]; /* its address, or NO_PAGE */
	unsigned next;		     /* the one to give up */
	char bytes[WINDOW_PAGES][PAGE_SIZE];
};

static void window_init(struct window *w)
{
	for (unsigned i = 0; i < WINDOW_PAGES; i++)
		w->page[i] = NO_PAGE;
	w->next = 0;
}

static int window_read(struct task *t, struct window *w, uint64_t addr, char **p, size_t *n)
{
	uint64_t page = page_down(addr);
	unsigned i = 0;

	while (i < WINDOW_PAGES && w->page[i] != page)
		i++;
	if (i == WINDOW_PAGES) {
		i = w->next;
		w->page[i] = NO_PAGE;
		if (copy_in(&t->um, w->bytes[i], UADDR(page), PAGE_SIZE))
			return -EFAULT;
		w->page[i] = page;
		w->next = (i + 1) % WINDOW_PAGES;
	}
	*p = w->bytes[i] + (addr - page);
	*n = page + PAGE_SIZE - addr;
	return 0;
}

static int bytes_add(struct exec_strings *s, const char *p, size_t n, size_t limit)
{
	if (s->used + n > limit)
		return -E2BIG;
	if (s->used + n > s->room) {
		size_t room = s->room ? s->room * 2 : 4096;
		while (room < s->used + n)
			room *= 2;
		char *bigger = realloc(s->bytes, room);
		if (!bigger)
			return -ENOMEM;
		s->bytes = bigger;
		s->room = room;
	}
	memcpy(s->bytes + s->used, p, n);
	s->used += n;
	return 0;
}

static int string_copy(struct task *t, struct window *w, struct exec_strings *s, uint64_t addr,
		       size_t limit)
{
	size_t len = 0;

	for (;;) {
		char *p;
		size_t n;
		int err = window_read(t, w, addr, &p, &n);
		if (err)
			return err;
		char *nul = memchr(p, 0, n);
		if (nul)
			n = (size_t)(nul - p) + 1;
		if ((err = bytes_add(s, p, n, limit)))
			return err;
		len += n;
		if (nul)
			return 0;
		if (len >= STRING_MAX)
			return -E2BIG;
		addr += n;
	}
}

/* Offsets first, pointers when the bytes do not move any more. */
static int vector_copy(struct task *t, struct window *w, struct exec_strings *s, uaddr_t vec,
		       size_t limit, char ***out, size_t *count)
{
	uint64_t ptrs[VECTOR_STEP];
	size_t n = 0, room = 0, have = 0, i = 0;
	char **v = NULL;
	int err = 0;

	*out = NULL;
	*count = 0;
	while (!uaddr_is_null(vec)) {
		if (i == have) {
			/* As many as lie on this page: the array may end where memory ends. */
			have = MIN((size_t)VECTOR_STEP,
				   (size_t)(page_down(vec.v) + PAGE_SIZE - vec.v) / 8);
			if (have == 0)
				have = 1;
			if ((err = copy_in(&t->um, ptrs, vec, have * 8)))
				break;
			vec = uaddr_add(vec, have * 8);
			i = 0;
		}
		if (ptrs[i] == 0)
			break;
		if (n + 1 >= room) {
			room = room ? room * 2 : 64;
			char **bigger = realloc(v, room * sizeof(*v));
			if (!bigger) {
				err = -ENOMEM;
				break;
			}
			v = bigger;
		}
		v[n++] = (char *)s->used;
		if ((n + 1) * 8 + s->used > limit) {
			err = -E2BIG;
			break;
		}
		if ((err = string_copy(t, w, s, ptrs[i++], limit)))
			break;
	}
	if (!err && !v && !(v = malloc(sizeof(*v))))
		err = -ENOMEM;
	if (err) {
		free(v);
		return err;
	}
	v[n] = NULL;
	*out = v;
	*count = n;
	return 0;
}

int exec_strings_copy(struct task *t, uaddr_t argv, uaddr_t envp, struct exec_strings *s)
{
	uint64_t limit = task_rlimit(t, RLIMIT_STACK) / 4;

	limit = MIN(MAX(limit, (uint64_t)STRING_MAX), (uint64_t)TOTAL_MAX);
	memset(s, 0, sizeof(*s));
	struct window *w = malloc(sizeof(*w));
	if (!w)
		return -ENOMEM;
	window_init(w);
	int err = vector_copy(t, w, s, argv, limit, &s->argv, &s->argc);
	if (!err)
		err = vector_copy(t, w, s, envp, limit, &s->envp, &s->envc);
	/* Linux gives a program at least an empty argv[0] (since 5.18). */
	if (!err && s->argc == 0) {
		free(s->argv);
		s->argc = 1;
		s->argv = calloc(2, sizeof(*s->argv));
		err = s->argv ? 0 : -ENOMEM;
		if (!err) {
			s->argv[0] = (char *)s->used;
			err = bytes_add(s, "", 1, limit);
		}
	}
	free(w);
	if (err) {
		exec_strings_fini(s);
		return err;
	}
	for (size_t i = 0; i < s->argc; i++)
		s->argv[i] = s->bytes + (uintptr_t)s->argv[i];
	for (size_t i = 0; i < s->envc; i++)
		s->envp[i] = s->bytes + (uintptr_t)s->envp[i];
	return 0;
}

void exec_strings_fini(struct exec_strings *s)
{
	free(s->argv);
	free(s->envp);
	free(s->bytes);
	memset(s, 0, sizeof(*s));
}
