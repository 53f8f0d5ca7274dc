/* poll(2), ppoll(2), select(2), pselect(2). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "syscalls/file_io.h"
#include "syscalls/poll_wait.h"
#include "syscalls/syscalls.h"

#define FEW 8 /* entries that fit on the stack */

/* ---- poll ---- */

/* Fills entries from pollfds.  Returns how many are bad descriptors (POLLNVAL). */
static int poll_open(struct task *t, struct pollfd *fds, struct poll_entry *e, unsigned n)
{
	int bad = 0;

	for (unsigned i = 0; i < n; i++) {
		e[i].file = NULL;
		fds[i].revents = 0;
		if (fds[i].fd < 0)
			continue;
		e[i].file = fdtable_file(t->fds, fds[i].fd);
		e[i].want = (uint16_t)fds[i].events | POLLERR | POLLHUP;
		if (!e[i].file) {
			fds[i].revents = POLLNVAL;
			bad++;
		}
	}
	return bad;
}

/* Number of ready descriptors; -EINTR. */
static int poll_fds(struct task *t, struct pollfd *fds, struct poll_entry *e, unsigned n,
		    int64_t deadline)
{
	int bad = poll_open(t, fds, e, n);
	/* With bad ones among them, nothing is waited for. */
	int ready = poll_wait(t, e, n, bad ? DEADLINE_PAST : deadline);

	for (unsigned i = 0; i < n && ready >= 0; i++)
		if (e[i].file)
			fds[i].revents = (short)e[i].got;
	poll_entries_put(e, n);
	return ready < 0 ? ready : ready + bad;
}

static int do_poll(struct task *t, uaddr_t ufds, unsigned n, int64_t deadline)
{
	struct pollfd few_fds[FEW], *fds = few_fds;
	struct poll_entry few[FEW], *e = few;
	CLEANUP_FREE void *mem = NULL;

	if (n > task_rlimit(t, RLIMIT_NOFILE))
		return -EINVAL;
	if (n > FEW) {
		mem = malloc((size_t)n * (sizeof(*fds) + sizeof(*e)));
		if (!mem)
			return -ENOMEM;
		e = mem;
		fds = (struct pollfd *)(e + n);
	}
	size_t size = (size_t)n * sizeof(*fds);
	if (n && copy_in(&t->um, fds, ufds, size))
		return -EFAULT;
	int ready = poll_fds(t, fds, e, n, deadline);
	if (ready >= 0 && n && copy_out_last(&t->um, ufds, fds, size))
		return -EFAULT;
	return ready;
}

static long poll_restart(struct task *t);

/* poll(2) goes on with the same deadline after a signal without handler. */
static long poll_result(struct task *t, long ret, uaddr_t ufds, unsigned n, int64_t deadline)
{
	if (ret != -EINTR)
		return ret;
	t->restart_fn = poll_restart;
	t->restart_deadline = deadline;
	t->restart_arg[0] = ufds.v;
	t->restart_arg[1] = n;
	return -ERESTART_RESTARTBLOCK;
}

static long poll_restart(struct task *t)
{
	uaddr_t ufds = UADDR(t->restart_arg[0]);
	unsigned n = (unsigned)t->restart_arg[1];
	int64_t deadline = t->restart_deadline;

	return poll_result(t, do_poll(t, ufds, n, deadline), ufds, n, deadline);
}

long sys_poll(struct task *t, uaddr_t fds, unsigned nfds, int timeout)
{
	int64_t deadline = deadline_after_ms(timeout);

	return poll_result(t, do_poll(t, fds, nfds, deadline), fds, nfds, deadline);
}

long sys_ppoll(struct task *t, uaddr_t fds, unsigned nfds, uaddr_t timeout, uaddr_t mask,
	       uint64_t size)
{
	int64_t deadline;
	int err = deadline_from_timespec(t, timeout, &deadline);

	if (err || (err = temp_mask_begin(t, mask, size)))
		return err;
	long ret = do_poll(t, fds, nfds, deadline);
	temp_mask_end(t, ret == -EINTR);
	deadline_left_out(t, timeout, deadline, false);
	return ret == -EINTR ? -ERESTARTNOHAND : ret;
}

/* ---- select ---- */

#define IN_SET (POLLRDNORM | POLLRDBAND | POLLIN | POLLHUP | POLLERR)
#define OUT_SET (POLLWRNORM | POLLWRBAND | POLLOUT | POLLERR)
#define EX_SET POLLPRI
#define SETS 3

static const uint32_t set_events[SETS] = {IN_SET, OUT_SET, EX_SET};

struct select {
	unsigned n;   /* descriptors */
	size_t words; /* 64-bit words a set */
	uaddr_t user[SETS];
	uint64_t *in, *out; /* SETS sets each, one behind the other */
	struct poll_entry *e;
	int *fd; /* of each entry */
	size_t count;
};

static bool set_has(const struct select *s, const uint64_t *sets, int set, unsigned fd)
{
	return sets[(size_t)set * s->words + fd / 64] >> (fd % 64) & 1;
}

static size_t select_count(const struct select *s)
{
	size_t count = 0;

	for (size_t w = 0; w < s->words; w++)
		count += (size_t)__builtin_popcountll(s->in[w] | s->in[s->words + w] |
						      s->in[2 * s->words + w]);
	return count;
}

/* Bits at and above n do not count. */
static void select_mask_tail(struct select *s)
{
	if (s->n % 64 == 0)
		return;
	for (int set = 0; set < SETS; set++)
		s->in[(size_t)set * s->words + s->words - 1] &= (1ULL << (s->n % 64)) - 1;
}

static int select_copy_in(struct task *t, struct select *s)
{
	for (int set = 0; set < SETS; set++)
		if (!uaddr_is_null(s->user[set]) &&
		    copy_in(&t->um, s->in + (size_t)set * s->words, s->user[set], s->words * 8))
			return -EFAULT;
	select_mask_tail(s);
	return 0;
}

static int select_copy_out(struct task *t, const struct select *s)
{
	for (int set = 0; set < SETS; set++)
		if (!uaddr_is_null(s->user[set]) &&
		    copy_out(&t->um, s->user[set], s->out + (size_t)set * s->words, s->words * 8))
			return -EFAULT;
	return 0;
}

static int select_open(struct task *t, struct select *s)
{
	for (unsigned fd = 0; fd < s->n; fd++) {
		uint32_t want = 0;
		for (int set = 0; set < SETS; set++)
			if (set_has(s, s->in, set, fd))
				want |= set_events[set];
		if (!want)
			continue;
		struct file *f = fdtable_file(t->fds, (int)fd);
		if (!f)
			return -EBADF;
		s->e[s->count] = (struct poll_entry){.file = f, .want = want};
		s->fd[s->count++] = (int)fd;
	}
	return 0;
}

/* Writes the result sets; returns the number of bits in them. */
static int select_results(struct select *s)
{
	int bits = 0;

	for (size_t i = 0; i < s->count; i++) {
		unsigned fd = (unsigned)s->fd[i];
		for (int set = 0; set < SETS; set++) {
			if (!(s->e[i].got & set_events[set]) || !set_has(s, s->in, set, fd))
				continue;
			s->out[(size_t)set * s->words + fd / 64] |= 1ULL << (fd % 64);
			bits++;
		}
	}
	return bits;
}

static int select_run(struct task *t, struct select *s, int64_t deadline)
{
	int err = select_copy_in(t, s);

	if (err)
		return err;
	size_t count = select_count(s);
	CLEANUP_FREE struct poll_entry *e = s->e = malloc((count + 1) * sizeof(*e));
	CLEANUP_FREE int *fd = s->fd = malloc((count + 1) * sizeof(*fd));
	if (!e || !fd)
		return -ENOMEM;
	int ret = select_open(t, s);
	if (!ret)
		ret = poll_wait(t, e, s->count, deadline);
	if (ret > 0)
		ret = select_results(s);
	poll_entries_put(e, s->count);
	if (ret >= 0 && select_copy_out(t, s))
		return -EFAULT;
	return ret;
}

static int do_select(struct task *t, int n, uaddr_t rd, uaddr_t wr, uaddr_t ex, int64_t deadline)
{
	uint64_t small[2 * SETS * 2] = {0};
	CLEANUP_FREE uint64_t *big = NULL;

	if (n < 0)
		return -EINVAL;
	struct select s = {
		.n = MIN((unsigned)n, fdtable_size(t->fds)),
		.user = {rd, wr, ex},
		.in = small,
	};
	s.words = (s.n + 63) / 64;
	if (s.words > 2 && !(s.in = big = calloc(2 * SETS * s.words, 8)))
		return -ENOMEM;
	s.out = s.in + SETS * s.words;
	return select_run(t, &s, deadline);
}

long sys_select(struct task *t, int n, uaddr_t rd, uaddr_t wr, uaddr_t ex, uaddr_t timeout)
{
	int64_t deadline = TIME_NEVER;
	int64_t tv[2]; /* struct timeval */

	if (!uaddr_is_null(timeout)) {
		if (copy_in(&t->um, tv, timeout, sizeof(tv)))
			return -EFAULT;
		/* More than a second of microseconds is allowed. */
		if (tv[0] < 0 || tv[1] < 0)
			return -EINVAL;
		deadline =
			tv[0] > INT64_MAX - tv[1] / 1000000
				? TIME_NEVER
				: deadline_after(tv[0] + tv[1] / 1000000, tv[1] % 1000000 * 1000);
	}
	int ret = do_select(t, n, rd, wr, ex, deadline);
	deadline_left_out(t, timeout, deadline, true);
	return ret == -EINTR ? -ERESTARTNOHAND : ret;
}

long sys_pselect6(struct task *t, int n, uaddr_t rd, uaddr_t wr, uaddr_t ex, uaddr_t timeout,
		  uaddr_t sig)
{
	struct {
		uint64_t mask, size;
	} arg = {0, 0};
	int64_t deadline;

	if (!uaddr_is_null(sig) && copy_in_val(&t->um, &arg, sig))
		return -EFAULT;
	int err = deadline_from_timespec(t, timeout, &deadline);
	if (err || (err = temp_mask_begin(t, UADDR(arg.mask), arg.size)))
		return err;
	int ret = do_select(t, n, rd, wr, ex, deadline);
	temp_mask_end(t, ret == -EINTR);
	deadline_left_out(t, timeout, deadline, false);
	return ret == -EINTR ? -ERESTARTNOHAND : ret;
}
