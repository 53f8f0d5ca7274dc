/*
 * NUMA policies: get_mempolicy(2), set_mempolicy(2), mbind(2), set_mempolicy_home_node(2), and the
 * places of pages: move_pages(2), migrate_pages(2).  The
 * sandbox is a machine with one node, 0.  Policies are checked as Linux does, remembered and shown;
 * pages have only one place to be.
 */
#include <errno.h>
#include <linux/capability.h>
#include <linux/mempolicy.h>
#include <unistd.h>

#include "sentry/vfs/file.h"
#include "syscalls/remote_mm.h"
#include "syscalls/syscalls.h"

#ifndef MPOL_PREFERRED_MANY
#define MPOL_PREFERRED_MANY 5
#endif
#define LINUX_MPOL_WEIGHTED_INTERLEAVE 6
#define LINUX_MPOL_F_STATIC_NODES (1u << 15)
#define LINUX_MPOL_F_RELATIVE_NODES (1u << 14)
#define LINUX_MPOL_F_NUMA_BALANCING (1u << 13)
#define NODE_FLAGS (LINUX_MPOL_F_STATIC_NODES | LINUX_MPOL_F_RELATIVE_NODES)
#define MODE_FLAGS (NODE_FLAGS | LINUX_MPOL_F_NUMA_BALANCING)
#define NODES 1ULL /* the set of nodes that exist */
#define WORD_BITS 64u

/* A mask of nodes from the guest, of maxnode - 1 bits.  More than the 64 nodes that a kernel may
 * be built for must not be named. */
static int nodes_in(struct task *t, uaddr_t umask, uint64_t maxnode, uint64_t *out)
{
	*out = 0;
	maxnode--;
	if (maxnode == 0 || uaddr_is_null(umask))
		return 0;
	if (maxnode > PAGE_SIZE * 8)
		return -EINVAL;
	uint64_t words = (maxnode + WORD_BITS - 1) / WORD_BITS;
	for (uint64_t i = 0; i < words; i++) {
		uint64_t word;
		if (copy_in_val(&t->um, &word, uaddr_add(umask, i * sizeof(word))))
			return -EFAULT;
		if (i == words - 1 && maxnode % WORD_BITS)
			word &= (1ULL << (maxnode % WORD_BITS)) - 1;
		if (i == 0)
			*out = word;
		else if (word)
			return -EINVAL;
	}
	return 0;
}

static int nodes_out(struct task *t, uaddr_t umask, uint64_t maxnode, uint64_t nodes)
{
	uint64_t bytes = (maxnode - 1 + WORD_BITS - 1) / WORD_BITS * sizeof(uint64_t);
	uint64_t zero = 0;

	if (bytes > PAGE_SIZE)
		return -EINVAL;
	for (uint64_t at = 0; at < bytes; at += sizeof(zero))
		if (copy_out_val(&t->um, uaddr_add(umask, at), at ? &zero : &nodes))
			return -EFAULT;
	return 0;
}

/* What mode (with flags) and nodes mean: set_mempolicy(2). */
static int policy_make(uint32_t mode, uint64_t nodes, struct mempolicy *out)
{
	uint32_t flags = mode & MODE_FLAGS, kind = mode & ~MODE_FLAGS;

	if (kind > LINUX_MPOL_WEIGHTED_INTERLEAVE || (flags & NODE_FLAGS) == NODE_FLAGS)
		return -EINVAL;
	if ((flags & LINUX_MPOL_F_NUMA_BALANCING) && kind != MPOL_BIND &&
	    kind != MPOL_PREFERRED_MANY)
		return -EINVAL;
	*out = (struct mempolicy){0};
	if (kind == MPOL_DEFAULT)
		return nodes ? -EINVAL : 0;
	if (kind == MPOL_LOCAL || (kind == MPOL_PREFERRED && !nodes)) {
		if (nodes || (flags & NODE_FLAGS))
			return -EINVAL;
		out->mode = MPOL_LOCAL | flags;
		return 0;
	}
	/* Relative nodes wrap around what there is. */
	if (!nodes || (!(flags & LINUX_MPOL_F_RELATIVE_NODES) && !(nodes & NODES)))
		return -EINVAL;
	out->mode = kind | flags;
	out->nodes = flags & NODE_FLAGS ? nodes : NODES;
	return 0;
}

long sys_set_mempolicy(struct task *t, int mode, uaddr_t umask, uint64_t maxnode)
{
	struct mempolicy policy;
	uint64_t nodes;

	/* The mode is looked at before the mask is read. */
	if (((uint32_t)mode & ~MODE_FLAGS) > LINUX_MPOL_WEIGHTED_INTERLEAVE)
		return -EINVAL;
	int err = nodes_in(t, umask, maxnode, &nodes);
	if (!err)
		err = policy_make((uint32_t)mode, nodes, &policy);
	if (!err)
		t->mempolicy = policy;
	return err;
}

long sys_mbind(struct task *t, uint64_t addr, uint64_t len, int mode, uaddr_t umask,
	       uint64_t maxnode, unsigned flags)
{
	struct mempolicy policy;
	uint64_t nodes;

	if (((uint32_t)mode & ~MODE_FLAGS) > LINUX_MPOL_WEIGHTED_INTERLEAVE)
		return -EINVAL;
	int err = nodes_in(t, umask, maxnode, &nodes);
	if (err)
		return err;
	if (flags & ~(unsigned)(MPOL_MF_STRICT | MPOL_MF_MOVE | MPOL_MF_MOVE_ALL))
		return -EINVAL;
	if ((flags & MPOL_MF_MOVE_ALL) && !task_capable(t, CAP_SYS_NICE))
		return -EPERM;
	uint64_t end = addr + page_up(len);
	if ((addr & ~PAGE_MASK) || end < addr)
		return -EINVAL;
	if (end == addr)
		return 0;
	if ((err = policy_make((uint32_t)mode, nodes, &policy)))
		return err;
	return mm_set_policy(t->mm, addr, end, &policy);
}

/* MPOL_F_ADDR: the policy of a mapping.  -EFAULT: there is none. */
static int policy_at(struct task *t, uint64_t addr, struct mempolicy *out)
{
	struct vma v;

	if (!mm_lookup(t->mm, addr, &v))
		return -EFAULT;
	*out = v.policy;
	file_put(v.file);
	return 0;
}

long sys_get_mempolicy(struct task *t, uaddr_t umode, uaddr_t umask, uint64_t maxnode,
		       uint64_t addr, uint64_t flags)
{
	struct mempolicy policy = t->mempolicy;
	uint32_t kind = policy.mode & ~MODE_FLAGS;
	int32_t mode = (int32_t)policy.mode;
	int err;

	if (!uaddr_is_null(umask) && maxnode < 1)
		return -EINVAL;
	if (flags & ~(uint64_t)(MPOL_F_NODE | MPOL_F_ADDR | MPOL_F_MEMS_ALLOWED))
		return -EINVAL;
	if (flags & MPOL_F_MEMS_ALLOWED) {
		if (flags & (MPOL_F_NODE | MPOL_F_ADDR))
			return -EINVAL;
		policy.nodes = NODES;
		mode = 0;
	} else if (flags & MPOL_F_ADDR) {
		char byte;
		if ((err = policy_at(t, addr, &policy)))
			return err;
		mode = (int32_t)policy.mode;
		if (flags & MPOL_F_NODE) {
			if (copy_in_val(&t->um, &byte, UADDR(addr)))
				return -EFAULT;
			mode = 0;
		}
	} else if (addr) {
		return -EINVAL;
	} else if (flags & MPOL_F_NODE) {
		if (kind != MPOL_INTERLEAVE && kind != LINUX_MPOL_WEIGHTED_INTERLEAVE)
			return -EINVAL;
		mode = 0;
	}
	if (!uaddr_is_null(umode) && copy_out_val(&t->um, umode, &mode))
		return -EFAULT;
	return uaddr_is_null(umask) ? 0 : nodes_out(t, umask, maxnode, policy.nodes);
}

struct home_node {
	uint64_t start, end;
	int result;
};

static int set_home_node(const struct vma *v, void *arg)
{
	struct home_node *h = arg;
	uint32_t kind = v->policy.mode & ~MODE_FLAGS;

	if (v->end <= h->start || kind == MPOL_DEFAULT)
		return 0;
	if (v->start >= h->end)
		return 1;
	h->result = kind == MPOL_BIND || kind == MPOL_PREFERRED_MANY ? 0 : -EOPNOTSUPP;
	return h->result;
}

long sys_set_mempolicy_home_node(struct task *t, uint64_t start, uint64_t len, uint64_t node,
				 uint64_t flags)
{
	struct home_node h = {.start = start, .end = start + page_up(len), .result = -ENOENT};

	if ((start & ~PAGE_MASK) || flags || node != 0 || h.end < start)
		return -EINVAL;
	if (h.end == start)
		return 0;
	(void)!mm_for_each(t->mm, set_home_node, &h);
	return h.result;
}

/* Pages have only one node to be on, so none is ever moved, nor fails to be. */
long sys_migrate_pages(struct task *t, int pid, uint64_t maxnode, uaddr_t from, uaddr_t to)
{
	uint64_t old, new;
	struct mm *mm;
	int err = nodes_in(t, from, maxnode, &old);

	if (!err)
		err = nodes_in(t, to, maxnode, &new);
	if (!err)
		err = remote_mm(t, pid, &mm);
	if (err)
		return err;
	mm_put(mm);
	return new & ~NODES || !new ? -EINVAL : 0;
}

/* The node of the page at addr, or why there is none. */
static int page_node(struct mm *mm, int pagemap, uint64_t addr)
{
	uint64_t bits;
	struct vma v;

	if (!mm_lookup(mm, addr, &v))
		return -EFAULT;
	file_put(v.file);
	if (!mm_page_bits(pagemap, page_down(addr), &bits, 1) || !(bits & MM_PAGE_PRESENT))
		return -ENOENT;
	return 0;
}

static int move_page(struct task *t, struct mm *mm, int pagemap, uaddr_t page, uaddr_t node,
		     uaddr_t status)
{
	uint64_t addr;
	int to;

	if (copy_in_val(&t->um, &addr, page))
		return -EFAULT;
	if (!uaddr_is_null(node)) {
		if (copy_in_val(&t->um, &to, node))
			return -EFAULT;
		if (to < 0 || to >= (int)WORD_BITS || !(NODES >> to & 1))
			return -ENODEV;
	}
	int at = page_node(mm, pagemap, addr);
	return copy_out_val(&t->um, status, &at) ? -EFAULT : 0;
}

long sys_move_pages(struct task *t, int pid, uint64_t n, uaddr_t pages, uaddr_t nodes,
		    uaddr_t status, int flags)
{
	struct mm *mm;

	if (flags & ~(MPOL_MF_MOVE | MPOL_MF_MOVE_ALL))
		return -EINVAL;
	if ((flags & MPOL_MF_MOVE_ALL) && !task_capable(t, CAP_SYS_NICE))
		return -EPERM;
	int err = remote_mm(t, pid, &mm);
	if (err)
		return err;
	int pagemap = mm_pagemap_open(mm);
	for (uint64_t i = 0; !err && i < n && !signal_pending(t); i++)
		err = move_page(t, mm, pagemap, uaddr_add(pages, i * sizeof(uint64_t)),
				uaddr_is_null(nodes) ? nodes : uaddr_add(nodes, i * sizeof(int)),
				uaddr_add(status, i * sizeof(int)));
	if (pagemap >= 0)
		close(pagemap);
	mm_put(mm);
	return err;
}
