/*
 * Starting the zygote: two sealed memfds - its program, the stub's text - one fork, one exec, and a
 * short conversation.  Runs in the single-threaded sentry, before confinement.
 */
#include "platform/systrap/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MFD_EXEC
#define MFD_EXEC 0x10u
#endif
#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC 4u
#endif
#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP 1UL
#endif
#define START_SLICE_NS (20 * NS_PER_MS)
#define FD_SCRATCH 16 /* above every number that the zygote expects */

extern const char st_stub_image[], st_stub_image_end[];
extern const char st_zygote_image[], st_zygote_image_end[];

/* A sealed memfd with these bytes, padded to `size` with int3, of which the last are `tail`'s. */
static int image_fd(const char *name, const char *from, const char *end, size_t size,
		    const uint8_t *tail, size_t tail_len)
{
	size_t n = (size_t)(end - from);
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);

	if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
		fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	char *buf = malloc(MAX(n, size));
	if (!buf)
		goto fail;
	memset(buf, 0xcc, MAX(n, size));
	memcpy(buf, from, n);
	if (tail_len)
		memcpy(buf + MAX(n, size) - tail_len, tail, tail_len);
	ssize_t done = pwrite(fd, buf, MAX(n, size), 0);
	free(buf);
	if (done != (ssize_t)MAX(n, size) ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		goto fail;
	return fd;
fail:
	close(fd);
	return -EIO;
}

/* The forked child: descriptors into place, everything else closed on exec. */
static void __attribute__((noreturn))
become_zygote(const struct systrap *pf, int image, const int fds[4])
{
	int scratch[4];
	char *argv[] = {(char[]){"guest"}, NULL}, *envp[] = {NULL};

	for (int i = 0; i < 4; i++)
		scratch[i] = fcntl(fds[i], F_DUPFD, FD_SCRATCH);
	image = fcntl(image, F_DUPFD_CLOEXEC, FD_SCRATCH);
	for (int i = 0; i < 4; i++)
		if (scratch[i] < 0 || dup2(scratch[i], i) < 0)
			_exit(65);
	if (image < 0 || syscall(SYS_close_range, 4, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
		_exit(66);
	if (pf->opt.zygote_confine && pf->opt.zygote_confine())
		_exit(68);
	syscall(SYS_execveat, image, "", argv, envp, AT_EMPTY_PATH);
	_exit(67);
}

static int wait_ready(struct systrap *pf)
{
	struct p_thread *th = pf->zygote_thread;
	int64_t deadline = st_now() + SYSTRAP_START_DEADLINE_NS;

	while (__atomic_load_n(&th->ps->turn, __ATOMIC_ACQUIRE) != ST_TURN_SENTRY) {
		siginfo_t info = {0};
		if (!waitid(P_PID, (id_t)pf->zygote->pid, &info, WEXITED | WNOHANG | WNOWAIT) &&
		    info.si_pid) {
			log_warn("systrap: the zygote did not start: %s %d, error %lld",
				 info.si_code == CLD_EXITED ? "step" : "signal", info.si_status,
				 (long long)th->ps->start_error);
			return -ECHILD;
		}
		if (st_now() > deadline)
			return -ETIMEDOUT;
		/* The doorbell wakes nobody here; its write and this sleep are short. */
		st_futex_wait(&th->ps->turn, ST_TURN_STUB, NS_PER_MS / 10);
	}
	if (th->ps->ev.signo != SIGILL || th->ps->kind != ST_KIND_EVENT)
		return -EPROTO;
	th->fpstate = th->ps->ev.fpstate;
	return 0;
}

/* The clone supervisor's end is ours alone: taken out of the zygote and closed there. */
static int take_listener(struct systrap *pf)
{
	struct st_pageset *ps = pf->zygote_thread->ps;
	int nr = (int)ps->reply;

	pf->listener = (int)syscall(SYS_pidfd_getfd, pf->zygote->pidfd, nr, 0);
	if (pf->listener < 0)
		return -errno;
	ioctl(pf->listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
	ps->ops[0] = (struct st_op){.nr = SYS_close, .arg = {(uint64_t)nr}};
	ps->nops = 1;
	ps->nfds = 0;
	long r = command_run(pf->zygote_thread, ST_CMD_OPS);
	return r < 0 ? (int)r : (int)ps->ops[0].ret;
}

static void learn_limits(struct systrap *pf)
{
	const struct st_pageset *ps = pf->zygote_thread->ps;

	pf->limits.task_size = ST_TASK_SIZE;
	pf->limits.mmap_min = ST_MMAP_MIN;
	if (!ps->vdso_len)
		return;
	pf->limits.vdso_len = ps->vdso_len;
	pf->limits.vdso_base = ST_VDSO_END - ps->vdso_len;
	pf->limits.vvar_len = ps->vvar_len;
	pf->limits.vvar_base = pf->limits.vdso_base - ps->vvar_len;
	vdso_learn(pf);
}

static int launch(struct systrap *pf, const struct kit *k, int image, int text)
{
	const int fds[4] = {k->guest_ctl, pf->doorbell_w, text, k->sets_fd};
	struct st_pageset *ps = pf->zygote_thread->ps;

	ps->filter_len = filter_build(ps->filter, ARRAY_SIZE(ps->filter));
	if (ps->filter_len > ARRAY_SIZE(ps->filter))
		return -E2BIG;
	signal(SIGCHLD, SIG_DFL); /* SIG_IGN would reap behind our back */
	pid_t pid = fork();
	if (pid < 0)
		return -errno;
	if (!pid)
		become_zygote(pf, image, fds);
	pf->zygote->pid = pf->zygote_thread->tid = pid;
	return 0;
}

int zygote_start(struct systrap *pf)
{
	static const uint8_t nothing[ST_BRINGS_LEN];
	const uint8_t *brings = pf->opt.brings ? pf->opt.brings : nothing;
	struct kit k;
	int err = kit_make(&k);

	if (err)
		return err;
	int image = image_fd("zygote", st_zygote_image, st_zygote_image_end, 0, NULL, 0);
	int text = image_fd("stub", st_stub_image, st_stub_image_end, ST_TEXT_LEN, brings,
			    ST_BRINGS_LEN);
	err = image < 0 ? image : text < 0 ? text : 0;
	if (!err)
		err = aspace_alloc(pf, &k, 0, 0, &pf->zygote, &pf->zygote_thread);
	if (!err)
		err = launch(pf, &k, image, text);
	close(image);
	close(text);
	close(k.sets_fd);
	close(k.guest_ctl);
	return err ? err : aspace_watch(pf->zygote);
}

int zygote_ready(struct systrap *pf)
{
	int err = wait_ready(pf);

	if (!err && (err = xstate_learn(pf, pf->zygote_thread)))
		log_warn("systrap: cannot read a guest process's memory (process_vm_readv)");
	if (!err && (err = take_listener(pf)))
		log_warn("systrap: cannot take the clone supervisor (pidfd_getfd): %s",
			 strerror(-err));
	if (!err)
		learn_limits(pf);
	return err;
}
