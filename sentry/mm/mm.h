/*
 * struct mm: a guest address space as the guest sees it - the VMA tree, brk, limits, and what
 * /proc/PID/maps shows.  The bytes themselves are the host process's memory (platform/), which
 * performs what is decided here.
 *
 * Locking: mm_lock (lc_mm_map) is held over a whole change, host operation included, so that the
 * tree and the host process never disagree; `lock` (lc_mm) guards the tree for readers.
 * `th` parameters are the calling task's own stopped thread, which runs the operations.
 *
 * Errors are as mmap(2), mprotect(2), mremap(2), madvise(2), brk(2) say.
 */
#pragma once

#include <stdint.h>

#include "platform/platform.h"
#include "sentry/lib/list.h"
#include "sentry/lib/lock.h"
#include "sentry/lib/rbtree.h"
#include "sentry/lib/ref.h"
#include "sentry/lib/uaddr.h"

struct file;
struct mm_limits; /* see mm_set_limits */

/* set_mempolicy(2), mbind(2): remembered and shown, as the sandbox has one node of memory.  All
 * zero: the default policy. */
struct mempolicy {
	uint32_t mode;	/* MPOL_*, with its MPOL_F_* mode flags */
	uint64_t nodes; /* what get_mempolicy(2) shows */
};

/* The guest's view of a mapping, [start, end). */
struct vma {
	struct rb_node node;
	uint64_t start, end;
	uint64_t gap;	  /* free bytes between the mapping before and this one (vma.c) */
	uint64_t max_gap; /* augmented: largest gap before a node of this subtree */
	int prot;	  /* PROT_* */
	int flags;	  /* MAP_SHARED|MAP_PRIVATE, MAP_ANONYMOUS, MAP_GROWSDOWN, MAP_NORESERVE */
	bool dontfork, wipeonfork, dontdump, locked;
	bool may_write;	   /* mprotect(PROT_WRITE) allowed */
	bool sealed;	   /* mseal(2): for good */
	bool may_exec;	   /* mprotect(PROT_EXEC) allowed: not from a noexec mount */
	bool was_writable; /* private, of a file: Linux keeps such apart from the others */
	bool hidden;	   /* uffd.h: the host may give less access to pages of it */
	struct uffd *uffd; /* borrowed: userfaultfd(2), or NULL */
	struct file *file; /* reference; NULL: private anonymous.  Shared anonymous memory has an
			      internal file too */
	uint64_t off;	   /* offset in file of start; 0 in copies of private anonymous ones */
	struct mempolicy policy; /* mbind(2) */
	const char *name;	 /* "[heap]", "[stack]", "[vdso]" …, or NULL; static string */
	struct vma *next_free;	 /* on the list of spare or of removed ones */
};

enum mm_seed {
	MM_SEED_MMAP,
	MM_SEED_STACK,
	MM_SEED_BRK,
	MM_SEED_PIE,
	MM_SEED_SP,
	MM_SEED_AUXV, /* AT_RANDOM's 16 bytes */
	MM_SEED_AUXV2,
	MM_SEEDS
};

/* Makes the file behind shared anonymous memory of `size` bytes (returns a reference).  Filled by
 * tmpfs; NULL: shared anonymous memory is refused with ENODEV. */
extern int (*mm_shared_anon_file)(uint64_t size, struct file **out);

struct mm {
	ref_t ref;
	struct platform *pf;
	struct p_aspace *as;
	_Atomic bool gone;     /* its host process is the next program's: mm_renew */
	bool reset_due;	       /* … which still has the memory of the one before; map_lock */
	struct mutex map_lock; /* lc_mm_map */
	struct mutex lock;     /* lc_mm */
	struct rb_root vmas;
	size_t nvmas;
	uint64_t total_pages, data_pages, stack_pages, locked_pages, shared_pages;
	uint64_t peak_pages; /* the most that total_pages ever was */
	uint64_t brk_start, brk;
	uint64_t mmap_top; /* top-down search starts here */
	uint64_t stack_top;
	uint64_t start_stack; /* the first stack pointer, for /proc/PID/stat */
	/* Set by the loader, shown by /proc and prctl(PR_SET_MM). */
	uint64_t code_start, code_end, data_start, data_end, arg_start, arg_end, env_start, env_end;
	uint64_t auxv[64];
	size_t auxv_words;
	struct file *exe; /* reference; guarded by lock */
	_Atomic int dumpable;
	struct user_ns *user_ns;   /* reference: who has CAP_SYS_PTRACE there may look into it */
	_Atomic bool thp_disabled; /* prctl(PR_SET_THP_DISABLE); kept by execve */
	_Atomic unsigned mdwe;	   /* prctl(PR_SET_MDWE): PR_MDWE_*; kept by fork and execve,
				      unless it says otherwise */
	/* Resource limits that the mm enforces; set by prlimit through mm_set_rlimit. */
	uint64_t rlimit_as, rlimit_data, rlimit_stack, rlimit_memlock;
	uint64_t task_size, mmap_min; /* of the platform; immutable */
	bool lock_future;	      /* mlockall(MCL_FUTURE); map_lock */
	bool lock_exempt; /* … by a task with CAP_IPC_LOCK: RLIMIT_MEMLOCK does not bind it */
	/* Host randomness for the layout, drawn at creation; see enum mm_seed.  Before the program
	 * is loaded, personality(ADDR_NO_RANDOMIZE) is expressed by no_randomize. */
	uint64_t seed[MM_SEEDS];
	bool no_randomize;
	/* What the platform does later, should it fail (mm_late_failed); map_lock. */
	struct {
		enum { MM_LATE_NONE, MM_LATE_MAP, MM_LATE_BRK, MM_LATE_OTHER } kind;
		uint64_t start, end, old_brk;
	} late;
	struct vma *spare; /* allocated ahead, so that changes of the tree cannot fail; map_lock */
	size_t nspare;
};

/* A fresh address space with one stopped thread (returned in *th); vDSO listed. */
int mm_create(struct platform *pf, struct mm **out, struct p_thread **th) MUST_CHECK;
/*
 * execve(2) in place: a fresh address space in the host process of `old`, which nobody else uses.
 * The first maps empty it; when they fail, the process has to die.  -EBUSY: it cannot be emptied,
 * and nothing was done.  mm_renewable says so before.
 */
bool mm_renewable(struct mm *old, struct p_thread *th);
int mm_renew(struct mm *old, struct p_thread *th, struct mm **out) MUST_CHECK;
/* fork(2): copies the tree while the host process forks.  *child_th is stopped, as parent. */
int mm_fork(struct mm *parent, struct p_thread *th, struct mm **out,
	    struct p_thread **child_th) MUST_CHECK;
struct mm *mm_get(struct mm *mm);
/* Of an address space that nobody else knows yet; before it belongs to the top user namespace. */
void mm_set_user_ns(struct mm *mm, struct user_ns *u);
void mm_put(struct mm *mm);
/* The only user's last thread has ended: nothing is mapped any more, and files are let go; the host
 * process may stay until the last put. */
void mm_empty(struct mm *mm);
/* Told of an address space that goes, after which its address may be another's.  Filled by
 * sentry/aio; NULL: nobody asks. */
extern void (*mm_gone_hook)(const struct mm *mm);

#define MM_FILLS 2
struct mm_map_args {
	uint64_t addr, len; /* addr: hint, or the place with MAP_FIXED */
	int prot, flags;    /* flags as mmap(2) */
	struct file *file;  /* borrowed; NULL: anonymous */
	uint64_t off;
	const char *name; /* static string or NULL */
	/* Bytes that are zeroed, or written, when all of a batch is mapped; len 0: none. */
	uint64_t clear_addr, clear_len;
	struct mm_fill {
		uint64_t addr, len; /* at most P_WRITE_MAX */
		const void *bytes;
	} fill[MM_FILLS];
	bool lock_exempt; /* CAP_IPC_LOCK: RLIMIT_MEMLOCK does not bind */
};

/*
 * Places the stack and the start of the top-down search, from the seeds and rlimit_stack.  The
 * loader calls it before the first map.
 */
void mm_layout(struct mm *mm);
/* The place that a map of len bytes would get, below `below` (0: anywhere); align is a power of
 * two.  0: none. */
uint64_t mm_find_gap(struct mm *mm, uint64_t len, uint64_t align, uint64_t below);
bool mm_range_free(struct mm *mm, uint64_t addr, uint64_t len);

/* Returns the address through *out.  Checks everything that mmap(2) checks except the fd itself. */
int mm_map(struct mm *mm, struct p_thread *th, const struct mm_map_args *a,
	   uint64_t *out) MUST_CHECK;
/* Several maps in one batch to the host process: what the loader uses. */
int mm_map_many(struct mm *mm, struct p_thread *th, const struct mm_map_args *a, size_t n,
		uint64_t *out) MUST_CHECK;
int mm_unmap(struct mm *mm, struct p_thread *th, uint64_t addr, uint64_t len) MUST_CHECK;
int mm_protect(struct mm *mm, struct p_thread *th, uint64_t addr, uint64_t len,
	       int prot) MUST_CHECK;
int mm_remap(struct mm *mm, struct p_thread *th, uint64_t old, uint64_t old_len, uint64_t new_len,
	     int flags, uint64_t new_addr, uint64_t *out) MUST_CHECK;
int mm_advise(struct mm *mm, struct p_thread *th, uint64_t addr, uint64_t len,
	      int advice) MUST_CHECK;
/* process_madvise(2) on another process: hints only, so they are checked and not performed. */
int mm_advise_remote(struct mm *mm, uint64_t addr, uint64_t len, int advice) MUST_CHECK;
int mm_sync(struct mm *mm, uint64_t addr, uint64_t len, int flags) MUST_CHECK;
/* Pages of files count as resident: they are in somebody's page cache. */
int mm_mincore(struct mm *mm, uint64_t addr, uint64_t len, uint8_t *vec) MUST_CHECK;
int mm_lock_range(struct mm *mm, uint64_t addr, uint64_t len, bool on) MUST_CHECK;
/* mseal(2): afterwards what would change or take away [addr, addr+len) fails with EPERM. */
int mm_seal(struct mm *mm, uint64_t addr, uint64_t len) MUST_CHECK;
/* remap_file_pages(2) as Linux emulates it: another part of the same shared file at this place. */
int mm_remap_file(struct mm *mm, struct p_thread *th, uint64_t addr, uint64_t len, uint64_t page,
		  bool lock_exempt) MUST_CHECK;
/* From now on the vDSO's clock_gettime asks by a system call: clocks are not the host's. */
void mm_hide_vdso_clock(struct mm *mm, struct p_thread *th);
/* mlock(2)'s own rules about the limit: exempt with CAP_IPC_LOCK. */
int mm_lock_allowed(struct mm *mm, uint64_t addr, uint64_t len, bool exempt) MUST_CHECK;
/* mlockall(2), munlockall(2): current says whether today's mappings change, future the rest. */
int mm_lock_all(struct mm *mm, bool current, bool future, bool exempt) MUST_CHECK;
void mm_unlock_all(struct mm *mm);
/* brk(2): returns the new (or unchanged) break. */
uint64_t mm_brk(struct mm *mm, struct p_thread *th, uint64_t want);

/* Writable and private: what is written there does not fail, but for the pages of a file that has
 * become shorter. */
bool mm_is_plain(struct mm *mm, uint64_t addr, uint64_t len);
/* Is memory of memfd_secret(2) in the range, which nobody else may see? */
bool mm_holds_secret(struct mm *mm, uint64_t addr, uint64_t len);
/* P_EVENT_OWED: undoes the map, and *ret is what the call returns.  False: tree and host do not
 * agree any more, and the process has to die. */
bool mm_late_failed(struct mm *mm, struct p_thread *th, int err, long *ret);

/*
 * A fault at `addr` (from P_EVENT_SIGNAL/SIGSEGV): grows the stack when it is the page below a
 * growing one and the limit allows (design rule 24), and waits for a page that userfaultfd(2) will
 * provide.  Returns true when the thread may retry.
 * Otherwise *si_code is SEGV_MAPERR or SEGV_ACCERR as the guest's own map says.
 */
enum {
	MM_ACCESS_WRITE = 1,
	MM_ACCESS_USER = 2, /* by guest code; else by a copy for it */
	MM_ACCESS_EXEC = 4,
};
bool mm_fault(struct mm *mm, struct p_thread *th, uint64_t addr, unsigned access, int *si_code);

/* What a new program, or a child, is bound to of PR_SET_MDWE. */
#define MM_MDWE_REFUSE_EXEC_GAIN 1U
#define MM_MDWE_NO_INHERIT 2U
unsigned mm_mdwe_inherited(const struct mm *mm);

void mm_set_rlimit(struct mm *mm, int resource, uint64_t cur);

/* mbind(2)'s effect on [start, end): -EFAULT when it has a hole, unless the policy is the default.
 */
int mm_set_policy(struct mm *mm, uint64_t start, uint64_t end,
		  const struct mempolicy *policy) MUST_CHECK;

/* Calls fn for every mapping in address order, with copies, no lock held during fn.  The vma's
 * file reference belongs to the iteration.  Stops when fn returns non-zero, and returns that. */
int mm_for_each(struct mm *mm, int (*fn)(const struct vma *v, void *arg), void *arg);
/* A copy of the mapping that holds addr (file: a reference that the caller puts); false: none. */
bool mm_lookup(struct mm *mm, uint64_t addr, struct vma *out);
/* May the guest write (else read) all of [addr, addr+len)?  As the tree says. */
bool mm_may_access(struct mm *mm, uint64_t addr, uint64_t len, bool write);
/* A tracer's write, to private mappings whatever their protection (force.c): bytes written. */
size_t mm_write_forced(struct mm *mm, uint64_t addr, const void *src, size_t n);
/* A write to private memory by the host's procfs, whatever the host's protection is. */
size_t mm_write_host(struct mm *mm, uint64_t addr, const void *src, size_t n);
/* ---- what the host really keeps (resident.c), from the guests' procfs ---- */
struct mm_usage { /* pages and counts; all 0 when unknown */
	uint64_t resident, resident_peak, anon, file, shmem, swapped, page_tables;
	uint64_t minor_faults, major_faults;
	uint64_t voluntary_switches, involuntary_switches; /* of the host process's leader */
};
void mm_usage(struct mm *mm, struct mm_usage *u);
/* The same at the end of the only user of mm; th: its thread, stopped. */
void mm_last_usage(struct mm *mm, struct p_thread *th, struct mm_usage *u);
/* What both together used: sums, and the higher peak. */
void mm_usage_add(struct mm_usage *to, const struct mm_usage *more);
/* A cheap one: resident pages. */
uint64_t mm_resident_pages(struct mm *mm);

/* Bits of a page as /proc/PID/pagemap has them, without the frame's number. */
#define MM_PAGE_PRESENT (1ULL << 63)
#define MM_PAGE_SWAPPED (1ULL << 62)
#define MM_PAGE_FILE (1ULL << 61)      /* of a file, or shared memory */
#define MM_PAGE_EXCLUSIVE (1ULL << 56) /* mapped by this process only */
#define MM_PAGE_SOFT_DIRTY (1ULL << 55)
/* What mm_page_bits reads from: a descriptor that the caller closes, or -1. */
int mm_pagemap_open(struct mm *mm);
/* Those of the n pages from addr (page aligned) on; returns how many it could tell. */
size_t mm_page_bits(int pagemap, uint64_t addr, uint64_t *bits, size_t n);
