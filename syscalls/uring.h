/* uring.h - what the files about io_uring share: sys_uring.c, uring_run.c, uring_ops.c. */
#pragma once

#include "sentry/aio/uring.h"
#include "sentry/kernel/task.h"

/* A request's outcome. */
struct uring_result {
	int64_t res;	/* a value, or -errno */
	uint32_t flags; /* IORING_CQE_F_* */
	bool failed;	/* breaks a link though res is not negative: less than asked for */
	bool fine;	/* does not break a link though res is negative */
};

/* Does the request exist at all, with flags that make sense?  0, -EINVAL. */
int uring_check(const struct uring *u, const struct io_uring_sqe *sqe) MUST_CHECK;
/* Performs it on a helper's fiber (or, for what never sleeps, on the task's own). */
void uring_perform(struct task *h, struct uring *u, const struct io_uring_sqe *sqe,
		   struct uring_result *r);
/* For IORING_REGISTER_PROBE. */
bool uring_op_supported(unsigned op);
/* May a known operation be about a registered file? */
bool uring_takes_fixed_file(unsigned op);

/* Submits up to n entries: how many, or -errno when none.  The caller holds `entering`. */
long uring_submit(struct task *t, struct uring *u, unsigned n);
/* Cancels requests: those of `op` (-1: any) with this user_data (fd ≥ 0: on this descriptor; any:
 * all); own is left alone.  How many. */
struct uring_match {
	int op;
	int fd;
	uint64_t user_data;
	bool any, all, fixed; /* fixed: fd is a registered file */
};
int uring_cancel(struct uring *u, const struct uring_match *m, const struct task *own);
/* A deadline from a struct timespec of the guest's and IORING_TIMEOUT_* flags. */
int uring_deadline(struct task *t, uaddr_t ts, unsigned flags, int64_t *deadline) MUST_CHECK;
/* Replaces registered files from `first` on; how many. */
long uring_update_files(struct task *t, struct uring *u, unsigned first, uaddr_t fds, unsigned n);

/* ---- uring_files.c ---- */
/* sparse: all empty.  -EBUSY, -EMFILE, -EBADF … */
int uring_register_files(struct task *t, struct uring *u, uaddr_t arg, unsigned n,
			 bool sparse) MUST_CHECK;
/* Moves the file that a call has just opened as fd (or failed to) to where the entry says among the
 * registered ones: what the request answers. */
int64_t uring_file_install(struct task *h, struct uring *u, const struct io_uring_sqe *s,
			   int64_t fd) MUST_CHECK;
int64_t uring_file_remove(struct uring *u, uint32_t slot) MUST_CHECK;

/* ---- uring_bufs.c ---- */
int64_t uring_provide_buffers(struct uring *u, const struct io_uring_sqe *s) MUST_CHECK;
int64_t uring_remove_buffers(struct uring *u, const struct io_uring_sqe *s) MUST_CHECK;
int uring_register_buf_ring(struct task *t, struct uring *u, uaddr_t arg, unsigned n) MUST_CHECK;
int uring_unregister_buf_ring(struct task *t, struct uring *u, uaddr_t arg, unsigned n) MUST_CHECK;
/* A buffer that was chosen: taken, until it is used or given back. */
struct uring_choice {
	uint64_t addr;
	uint32_t len;
	uint16_t id, group, head;
	struct uring_buf *single; /* NULL: of a ring */
};
int uring_buf_take(struct task *h, struct uring *u, uint16_t group,
		   struct uring_choice *c) MUST_CHECK;
void uring_buf_used(struct uring_choice *c);
void uring_buf_give_back(struct uring *u, struct uring_choice *c);
