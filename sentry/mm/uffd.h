/*
 * uffd.h - userfaultfd(2): private memory whose missing pages the program itself provides.
 *
 * A mapping that is registered (vma.uffd) is *hidden*: in the host process its missing pages have
 * no access, so that touching one is a fault that comes to the sentry; what is there and what is
 * missing is asked of the host's pagemap.  A fault at a missing page waits, on the fiber of the
 * task that made it, for UFFDIO_COPY or UFFDIO_ZEROPAGE, which write through the host's procfs: the
 * page is complete before anybody can see it.  A page that is there but has no access yet gets it
 * when it is next touched.  A mapping stays hidden after it is registered no more (its descriptor
 * was closed, or it is a forked child's copy), until the first fault.
 *
 * Not supported: shared and file mappings, write protection, minor faults, events.  Another
 * process's access (process_vm_readv(2), ptrace(2)) to a missing page fails, and mremap(2) ends the
 * registration of what it touches.
 *
 * Locks: lc_mm_map for registering and filling; a context's lists have a leaf lock.
 */
#pragma once

#include "sentry/lib/list.h"
#include "sentry/lib/waitq.h"
#include "sentry/mm/vma.h"

struct uffd;

/* What waits: filled by the kernel. */
struct mm_faulter {
	/* Parks the current task until done(arg), asked again whenever q is notified, or until it
	 * has a signal: any (user), or one that ends it.  0 or -EINTR. */
	int (*wait)(struct waitq *q, bool (*done)(void *arg), void *arg, bool user);
	int (*tid)(void); /* of the current task, as it knows itself */
};
extern const struct mm_faulter *mm_faulter;

/* ---- for mm ---- */
enum uffd_verdict {
	UFFD_NO,    /* the fault is none of ours */
	UFFD_RETRY, /* the page is accessible now */
	UFFD_WAIT,  /* … missing: *u is a reference for uffd_wait() */
};
/* A fault by th's task at addr, which the hidden mapping v allows.  map_lock held. */
enum uffd_verdict uffd_fault(struct mm *mm, struct p_thread *th, struct vma *v, uint64_t addr,
			     struct uffd **u);
/* Consumes u.  True: the access may be repeated. */
bool uffd_wait(struct uffd *u, uint64_t addr, bool write, bool user);
/* mprotect(2) of [start, end), where mappings are hidden.  map_lock held. */
int uffd_protect(struct mm *mm, struct p_thread *th, uint64_t start, uint64_t end,
		 int prot) MUST_CHECK;
/* Is anything of the range hidden? */
bool uffd_any_hidden(const struct mm *mm, uint64_t start, uint64_t end);
/* The range's pages are about to be dropped: nobody may make new ones.  map_lock held. */
int uffd_before_drop(struct mm *mm, struct p_thread *th, uint64_t start, uint64_t end) MUST_CHECK;
/* Nothing of the range is registered or hidden any more.  map_lock held. */
int uffd_unhide(struct mm *mm, struct p_thread *th, uint64_t start, uint64_t end,
		struct vma **dead) MUST_CHECK;

/* ---- for the descriptor (uffd_file.c) ---- */
struct uffd {
	ref_t ref;
	struct mm *mm;			/* reference; immutable */
	bool user_only;			/* UFFD_USER_MODE_ONLY; immutable */
	_Atomic uint64_t features;	/* 0: before UFFDIO_API */
	struct mutex lock;		/* lc_leaf */
	struct list_head fresh, told;	/* struct uffd_wait_entry: not read yet, read */
	struct waitq readers, sleepers; /* poll(2) and read(2); those whose page is missing */
};
/* Somebody who waits; on his own stack, on a list while he does. */
struct uffd_waiter {
	struct list_head node;
	uint64_t addr, flags; /* as in struct uffd_msg */
	int tid;
	bool woken;
};

struct uffd *uffd_new(struct mm *mm, bool user_only); /* NULL: no memory */
void uffd_put(struct uffd *u);
/* th: the caller's, stopped, of the context's address space, or NULL when he is of another. */
int uffd_register(struct uffd *u, struct p_thread *th, uint64_t start, uint64_t end) MUST_CHECK;
int uffd_unregister(struct uffd *u, struct p_thread *th, uint64_t start, uint64_t end) MUST_CHECK;
/* The descriptor is gone. */
void uffd_unregister_all(struct uffd *u);
/* One page, which must be missing: -EEXIST; -ENOENT: not registered. */
int uffd_fill(struct uffd *u, struct p_thread *th, uint64_t addr, const void *page) MUST_CHECK;
/* Is [start, end) within one registered mapping?  -ENOENT */
int uffd_check_range(struct uffd *u, uint64_t start, uint64_t end) MUST_CHECK;
void uffd_wake(struct uffd *u, uint64_t start, uint64_t end);
