/*
 * Emptying an address space, for execve: the host process stays, and with it its thread, page set
 * and control socket.  That saves making a process and burying one, which is most of what starting
 * a program costs.
 *
 * A program that took over the stub can only pretend to obey, and go on in the name of the next
 * one.  So the kernel resets no process whose next program may do, or read, what this one may not:
 * those start in a clone of the zygote.  Nobody else can be inside: a second thread has never been
 * in it, and clones are supervised.
 */
#include "platform/systrap/internal.h"

#include <string.h>

bool systrap_can_reset(struct p_thread *th)
{
	struct p_aspace *as = th->as;

	mutex_lock(&as->cmd_lock, &lc_aspace);
	bool alone = th->leader && as->nblocks == 1 &&
		     !(as->blocks[0].used & (as->blocks[0].used - 1)) && !as->nparked;
	mutex_unlock(&as->cmd_lock, &lc_aspace);
	mutex_lock(&as->pf->lock, &lc_platform);
	bool whole = !as->vdso_gone;
	mutex_unlock(&as->pf->lock, &lc_platform);
	/* The frame that it goes back through must be one. */
	return alone && whole && !atomic_load(&as->dead) && !thread_convert(th);
}

int thread_was_reset(struct p_thread *th)
{
	th->trapped = 0;
	memset(&th->redo, 0, sizeof(th->redo));
	window_reset(th->as);
	lent_streams_leave(th);
	kept_reset(th->as);
	return thread_frame_to_init(th) ? 0 : thread_xstate_reset(th);
}
