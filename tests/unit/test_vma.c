/* The memory manager against a process that performs what it asks for: the test itself. */
#include "tests/unit/fake_platform.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>

#include "sentry/mm/vma.h"
#include "sentry/vfs/file.h"

#define AREA 0x200000000000UL /* where tests with fixed places work */
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)
#define RW (PROT_READ | PROT_WRITE)

static struct mm *mm;
static struct p_thread *th;

static void setup(void)
{
	fake_reset();
	ck_assert_int_eq(mm_create(&fake_platform, &mm, &th), 0);
}

static void teardown(void)
{
	mm_put(mm);
}

static int map_at(uint64_t addr, uint64_t len, int prot, int flags)
{
	const struct mm_map_args a = {
		.addr = addr, .len = len, .prot = prot, .flags = flags | MAP_FIXED};
	uint64_t out;

	return mm_map(mm, th, &a, &out);
}

static uint64_t map_anywhere(uint64_t hint, uint64_t len, int flags)
{
	const struct mm_map_args a = {.addr = hint, .len = len, .prot = RW, .flags = flags};
	uint64_t out = 0;

	ck_assert_int_eq(mm_map(mm, th, &a, &out), 0);
	return out;
}

/* ---- a file of the host ---- */

static int file_fd = -1;

static int test_map_fd(struct file *f, bool shared, int *fd)
{
	(void)f;
	(void)shared;
	*fd = file_fd;
	return 0;
}

static const struct file_ops test_file_ops = {.map_fd = test_map_fd};

/* A reference is always left, so that nothing of the vfs is needed. */
static void test_file_init(struct file *f, int flags)
{
	memset(f, 0, sizeof(*f));
	ref_init(&f->ref, 1);
	f->ops = &test_file_ops;
	f->flags = flags;
	if (file_fd < 0) {
		file_fd = memfd_create("test", MFD_CLOEXEC);
		ck_assert_int_eq(ftruncate(file_fd, 64 << 12), 0);
	}
}

/* ---- what the tree and the host say ---- */

struct span {
	uint64_t start, end;
	int prot;
	bool shared;
};

static size_t tree_spans(struct span *out, size_t max)
{
	struct rb_node *pos;
	size_t n = 0;

	rb_for_each (pos, &mm->vmas) {
		const struct vma *v = vma_of(pos);
		ck_assert_uint_lt(n, max);
		out[n++] = (struct span){v->start, v->end, mm_host_prot(v->prot), vma_is_shared(v)};
	}
	return n;
}

static size_t host_spans(struct span *out, size_t max)
{
	FILE *f = fopen("/proc/self/maps", "re");
	char line[512], perms[8];
	size_t n = 0;
	unsigned long start, end;

	ck_assert_ptr_nonnull(f);
	while (fgets(line, sizeof(line), f)) {
		ck_assert_int_eq(sscanf(line, "%lx-%lx %4s", &start, &end, perms), 3);
		if (start < FAKE_MMAP_MIN || end > FAKE_TASK_SIZE)
			continue;
		ck_assert_uint_lt(n, max);
		int prot = (perms[0] == 'r' ? PROT_READ : 0) | (perms[1] == 'w' ? PROT_WRITE : 0) |
			   (perms[2] == 'x' ? PROT_EXEC : 0);
		out[n++] = (struct span){start, end, prot, perms[3] == 's'};
	}
	fclose(f);
	return n;
}

/* Joins neighbours that differ in nothing that a span shows. */
static size_t join_spans(struct span *s, size_t n)
{
	size_t out = 0;

	for (size_t i = 0; i < n; i++) {
		struct span *last = out ? &s[out - 1] : NULL;
		if (last && last->end == s[i].start && last->prot == s[i].prot &&
		    last->shared == s[i].shared)
			last->end = s[i].end;
		else
			s[out++] = s[i];
	}
	return out;
}

/*
 * The tree's mappings are the host's: same ends and same protection.  `exact`: merged alike, too,
 * which moved memory is not: the host numbers untouched pages anew, and the tree cannot know.
 */
static void check_mappings(bool exact)
{
	enum { MAX_SPANS = 512 };
	static struct span a[MAX_SPANS], b[MAX_SPANS];
	size_t na = tree_spans(a, MAX_SPANS), nb = host_spans(b, MAX_SPANS);

	ck_assert_uint_eq(na, mm->nvmas);
	if (!exact) {
		na = join_spans(a, na);
		nb = join_spans(b, nb);
	}
	ck_assert_uint_eq(na, nb);
	for (size_t i = 0; i < na; i++) {
		ck_assert_uint_eq(a[i].start, b[i].start);
		ck_assert_uint_eq(a[i].end, b[i].end);
		ck_assert_int_eq(a[i].prot, b[i].prot);
		ck_assert_int_eq(a[i].shared, b[i].shared);
	}
}

static void check_same(void)
{
	check_mappings(true);
}

/* What is counted while mappings come and go is what a count from the start gives. */
static void check_accounts(void)
{
	uint64_t total = 0, data = 0, prev_end = 0;
	struct rb_node *pos;

	rb_for_each (pos, &mm->vmas) {
		const struct vma *v = vma_of(pos);
		ck_assert_uint_lt(v->start, v->end);
		ck_assert_uint_le(prev_end, v->start);
		ck_assert_uint_eq(v->gap, v->start - prev_end);
		prev_end = v->end;
		total += vma_pages(v);
		if (vma_is_data(v->prot, v->flags))
			data += vma_pages(v);
	}
	ck_assert_uint_eq(mm->total_pages, total);
	ck_assert_uint_eq(mm->data_pages, data);
}

/* ---- split and merge ---- */

START_TEST(neighbours_of_one_kind_are_one_mapping)
{
	ck_assert_int_eq(map_at(AREA, PAGE_SIZE, RW, ANON), 0);
	ck_assert_int_eq(map_at(AREA + 2 * PAGE_SIZE, PAGE_SIZE, RW, ANON), 0);
	ck_assert_uint_eq(mm->nvmas, 2);
	ck_assert_int_eq(map_at(AREA + PAGE_SIZE, PAGE_SIZE, RW, ANON), 0);
	ck_assert_uint_eq(mm->nvmas, 1);
	check_same();
}
END_TEST

START_TEST(protect_splits_and_merges_again)
{
	ck_assert_int_eq(map_at(AREA, 4 * PAGE_SIZE, RW, ANON), 0);
	ck_assert_int_eq(mm_protect(mm, th, AREA + PAGE_SIZE, PAGE_SIZE, PROT_READ), 0);
	ck_assert_uint_eq(mm->nvmas, 3);
	check_same();
	ck_assert_int_eq(mm_protect(mm, th, AREA + PAGE_SIZE, PAGE_SIZE, RW), 0);
	ck_assert_uint_eq(mm->nvmas, 1);
	check_same();
}
END_TEST

START_TEST(protect_stops_at_a_hole_with_what_came_before_done)
{
	struct vma v;

	ck_assert_int_eq(map_at(AREA, PAGE_SIZE, RW, ANON), 0);
	ck_assert_int_eq(map_at(AREA + 2 * PAGE_SIZE, PAGE_SIZE, RW, ANON), 0);
	ck_assert_int_eq(mm_protect(mm, th, AREA, 3 * PAGE_SIZE, PROT_READ), -ENOMEM);
	ck_assert(mm_lookup(mm, AREA, &v));
	ck_assert_int_eq(v.prot, PROT_READ);
	ck_assert(mm_lookup(mm, AREA + 2 * PAGE_SIZE, &v));
	ck_assert_int_eq(v.prot, RW);
	check_same();
}
END_TEST

START_TEST(write_only_memory_is_readable_on_the_host)
{
	ck_assert_int_eq(map_at(AREA, PAGE_SIZE, PROT_WRITE, ANON), 0);
	ck_assert_int_eq(fake.log[0].prot, RW);
	ck_assert_int_eq(mm_protect(mm, th, AREA, PAGE_SIZE, PROT_EXEC), 0);
	ck_assert_int_eq(fake.log[1].prot, PROT_READ | PROT_EXEC);
	struct vma v;
	ck_assert(mm_lookup(mm, AREA, &v));
	ck_assert_int_eq(v.prot, PROT_EXEC);
}
END_TEST

START_TEST(unmap_of_nothing_asks_the_host_for_nothing)
{
	ck_assert_int_eq(mm_unmap(mm, th, AREA, 16 * PAGE_SIZE), 0);
	ck_assert_uint_eq(fake.nlog, 0);
	ck_assert_int_eq(mm_unmap(mm, th, AREA, 0), -EINVAL);
	ck_assert_int_eq(mm_unmap(mm, th, AREA + 1, PAGE_SIZE), -EINVAL);
	ck_assert_int_eq(mm_unmap(mm, th, FAKE_TASK_SIZE, PAGE_SIZE), -EINVAL);
}
END_TEST

START_TEST(a_failure_on_the_host_leaves_both_sides_alike)
{
	ck_assert_int_eq(map_at(AREA, 8 * PAGE_SIZE, RW, ANON), 0);
	for (int n = 0; n < 3; n++) {
		const struct mm_map_args a[] = {
			{.addr = AREA,
			 .len = PAGE_SIZE,
			 .prot = PROT_READ,
			 .flags = ANON | MAP_FIXED},
			{.addr = AREA + PAGE_SIZE,
			 .len = PAGE_SIZE,
			 .prot = PROT_EXEC,
			 .flags = ANON | MAP_FIXED},
			{.len = 3 * PAGE_SIZE, .prot = RW, .flags = ANON},
		};
		uint64_t out[3];
		fake.fail_after = n;
		ck_assert_int_eq(mm_map_many(mm, th, a, 3, out), -ENOMEM);
		check_same();
		check_accounts();
	}
	fake.fail_after = 0;
	ck_assert_int_eq(mm_unmap(mm, th, AREA, 8 * PAGE_SIZE), -ENOMEM);
	fake.fail_after = 0;
	ck_assert_int_eq(mm_protect(mm, th, AREA + 4 * PAGE_SIZE, PAGE_SIZE, PROT_NONE), -ENOMEM);
	check_same();
}
END_TEST

/* Random changes of a small area; the host's own list is the judge. */
START_TEST(random_changes_leave_what_the_host_has)
{
	enum { PAGES = 48, STEPS = 1500 };
	static const int prots[] = {PROT_NONE, PROT_READ, RW, PROT_READ | PROT_EXEC};
	/* Files that were writable once, and moved memory, merge less in the tree than here. */
	bool exact = _i % 2;
	static struct file f; /* mappings of it outlive this function */

	test_file_init(&f, O_RDWR);
	srandom((unsigned)_i + 1);
	for (int step = 0; step < STEPS; step++) {
		uint64_t first = (uint64_t)random() % PAGES, room = PAGES - first;
		uint64_t addr = AREA + first * PAGE_SIZE;
		uint64_t len = (1 + (uint64_t)random() % MIN(room, 8UL)) * PAGE_SIZE;
		int prot = prots[random() % ARRAY_SIZE(prots)];
		struct mm_map_args a = {
			.addr = addr, .len = len, .prot = prot, .flags = ANON | MAP_FIXED};
		uint64_t out;
		int err = 0;

		switch (exact ? 1 + random() % 4 : random() % 6) {
		case 0:
			a.flags = (random() % 2 ? MAP_SHARED : MAP_PRIVATE) | MAP_FIXED;
			a.file = &f;
			a.off = first * PAGE_SIZE; /* so that neighbours continue each other */
						   /* fallthrough */
		case 1:
			err = mm_map(mm, th, &a, &out);
			break;
		case 2:
			err = mm_unmap(mm, th, addr, len);
			break;
		case 3:
			err = mm_protect(mm, th, addr, len, prot);
			break;
		case 4:
			err = mm_remap(mm, th, addr, PAGE_SIZE, len, 0, 0, &out);
			break;
		case 5:
			err = mm_remap(mm, th, addr, PAGE_SIZE, PAGE_SIZE,
				       MREMAP_MAYMOVE | MREMAP_FIXED,
				       AREA + (uint64_t)random() % PAGES * PAGE_SIZE, &out);
			break;
		}
		ck_assert(err == 0 || err == -ENOMEM || err == -EFAULT || err == -EINVAL);
		check_mappings(exact);
		check_accounts();
	}
}
END_TEST

/* ---- places ---- */

START_TEST(maps_go_down_from_the_top_without_gaps)
{
	uint64_t a = map_anywhere(0, PAGE_SIZE, ANON);
	uint64_t b = map_anywhere(0, 3 * PAGE_SIZE, ANON);

	ck_assert_uint_eq(a + PAGE_SIZE, mm->mmap_top);
	ck_assert_uint_eq(b + 3 * PAGE_SIZE, a);
	ck_assert_int_eq(mm_unmap(mm, th, a, PAGE_SIZE), 0);
	ck_assert_uint_eq(map_anywhere(0, PAGE_SIZE, ANON), a);
}
END_TEST

START_TEST(a_hint_is_taken_when_it_is_free)
{
	ck_assert_uint_eq(map_anywhere(AREA + 12, PAGE_SIZE, ANON), AREA);
	ck_assert_uint_ne(map_anywhere(AREA, PAGE_SIZE, ANON), AREA);
	ck_assert_uint_eq(map_anywhere(1, PAGE_SIZE, ANON) % PAGE_SIZE, 0);
}
END_TEST

START_TEST(whole_huge_pages_are_aligned)
{
	map_anywhere(0, PAGE_SIZE, ANON);
	ck_assert_uint_eq(map_anywhere(0, 4UL << 20, ANON) % (2UL << 20), 0);
}
END_TEST

START_TEST(gap_search_agrees_with_a_plain_one)
{
	enum { SLOTS = 200 };
	bool used[SLOTS] = {false};

	srandom((unsigned)_i + 7);
	for (int step = 0; step < 2000; step++) {
		size_t slot = (size_t)random() % SLOTS;
		uint64_t addr = AREA + slot * PAGE_SIZE;
		used[slot] = !used[slot];
		if (used[slot])
			/* Alternating kinds: nothing merges. */
			ck_assert_int_eq(map_at(addr, PAGE_SIZE, slot % 2 ? PROT_NONE : PROT_READ,
						ANON | MAP_NORESERVE),
					 0);
		else
			ck_assert_int_eq(mm_unmap(mm, th, addr, PAGE_SIZE), 0);

		size_t want = 1 + (size_t)random() % 6;
		uint64_t expect = 0;
		for (size_t i = SLOTS - want + 1; i-- > 0 && !expect;) {
			size_t n = 0;
			while (n < want && !used[i + n])
				n++;
			if (n == want)
				expect = AREA + i * PAGE_SIZE;
		}
		ck_assert_uint_eq(vma_gap_topdown(mm, want * PAGE_SIZE, PAGE_SIZE, AREA,
						  AREA + SLOTS * PAGE_SIZE),
				  expect);
	}
}
END_TEST

/* ---- refusals ---- */

START_TEST(mmap_errors_are_those_of_the_manual)
{
	struct file ro, wo;
	test_file_init(&ro, O_RDONLY);
	test_file_init(&wo, O_WRONLY);
	struct file_ops no_map = test_file_ops;
	no_map.map_fd = NULL;
	struct file plain = ro;
	plain.ops = &no_map;
	struct mount noexec = {.flags = 8 /* MS_NOEXEC */};
	struct file on_noexec = ro;
	on_noexec.path.mnt = &noexec;

	const struct {
		struct mm_map_args a;
		int err;
	} cases[] = {
		{{.len = 0, .prot = RW, .flags = ANON}, -EINVAL},
		{{.len = UINT64_MAX, .prot = RW, .flags = ANON}, -ENOMEM},
		{{.len = FAKE_TASK_SIZE, .prot = 0, .flags = ANON}, -ENOMEM},
		{{.len = 1, .flags = MAP_ANONYMOUS}, -EINVAL},
		{{.len = 1, .flags = MAP_ANONYMOUS | MAP_SHARED_VALIDATE}, -EINVAL},
		{{.len = 1, .off = 1, .flags = MAP_PRIVATE, .file = &ro}, -EINVAL},
		{{.len = PAGE_SIZE,
		  .off = INT64_MAX & PAGE_MASK,
		  .flags = MAP_PRIVATE,
		  .file = &ro},
		 -EOVERFLOW},
		{{.addr = AREA + 1, .len = 1, .flags = ANON | MAP_FIXED}, -EINVAL},
		{{.addr = PAGE_SIZE, .len = 1, .flags = ANON | MAP_FIXED}, -EPERM},
		{{.addr = FAKE_TASK_SIZE, .len = 1, .flags = ANON | MAP_FIXED}, -ENOMEM},
		{{.len = 1, .flags = ANON | MAP_HUGETLB}, -ENOMEM},
		{{.len = 1, .prot = RW, .flags = MAP_SHARED, .file = &ro}, -EACCES},
		{{.len = 1, .prot = PROT_READ, .flags = MAP_PRIVATE, .file = &wo}, -EACCES},
		{{.len = 1, .prot = PROT_EXEC, .flags = MAP_PRIVATE, .file = &on_noexec}, -EPERM},
		{{.len = 1, .prot = PROT_READ, .flags = MAP_PRIVATE, .file = &plain}, -ENODEV},
		{{.len = 1, .flags = MAP_SHARED_VALIDATE | MAP_SYNC, .file = &ro}, -EOPNOTSUPP},
		{{.len = 1, .flags = MAP_SHARED | MAP_GROWSDOWN | MAP_ANONYMOUS}, -EINVAL},
		{{.len = 1UL << 45, .prot = RW, .flags = ANON}, -ENOMEM},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t out;
		int err = mm_map(mm, th, &cases[i].a, &out);
		ck_assert_msg(err == cases[i].err, "case %zu: %d", i, err);
	}
	ck_assert_uint_eq(fake.nlog, 0);
	ck_assert_int_eq(map_at(AREA, PAGE_SIZE, RW, ANON), 0);
	ck_assert_int_eq(map_at(AREA, PAGE_SIZE, RW, ANON | MAP_FIXED_NOREPLACE), -EEXIST);
}
END_TEST

START_TEST(rights_of_the_file_bind_mprotect)
{
	struct file ro;
	test_file_init(&ro, O_RDONLY);
	const struct mm_map_args shared = {.addr = AREA,
					   .len = 1,
					   .prot = PROT_READ,
					   .flags = MAP_SHARED | MAP_FIXED,
					   .file = &ro};
	const struct mm_map_args private = {.addr = AREA + PAGE_SIZE,
					    .len = 1,
					    .prot = PROT_READ,
					    .flags = MAP_PRIVATE | MAP_FIXED,
					    .file = &ro};
	uint64_t out;

	ck_assert_int_eq(mm_map(mm, th, &shared, &out), 0);
	ck_assert_int_eq(mm_map(mm, th, &private, &out), 0);
	ck_assert_int_eq(mm_protect(mm, th, AREA, PAGE_SIZE, RW), -EACCES);
	ck_assert_int_eq(mm_protect(mm, th, AREA + PAGE_SIZE, PAGE_SIZE, RW), 0);
	ck_assert_uint_eq(ref_read(&ro.ref), 3);
	ck_assert_int_eq(mm_unmap(mm, th, AREA, 2 * PAGE_SIZE), 0);
	ck_assert_uint_eq(ref_read(&ro.ref), 1);
}
END_TEST

START_TEST(limits_bind)
{
	mm_set_rlimit(mm, RLIMIT_AS, 10 * PAGE_SIZE);
	ck_assert_int_eq(map_at(AREA, 11 * PAGE_SIZE, PROT_READ, ANON), -ENOMEM);
	ck_assert_int_eq(map_at(AREA, 10 * PAGE_SIZE, PROT_READ, ANON), 0);
	ck_assert_int_eq(map_at(AREA, 10 * PAGE_SIZE, PROT_READ, ANON), 0); /* replaces */
	mm_set_rlimit(mm, RLIMIT_AS, RLIM_INFINITY);
	mm_set_rlimit(mm, RLIMIT_DATA, 2 * PAGE_SIZE);
	ck_assert_int_eq(mm_protect(mm, th, AREA, 3 * PAGE_SIZE, RW), -ENOMEM);
	ck_assert_int_eq(mm_protect(mm, th, AREA, 2 * PAGE_SIZE, RW), 0);
	ck_assert_int_eq(map_at(AREA + 64 * PAGE_SIZE, PAGE_SIZE, RW, ANON), -ENOMEM);
	mm_set_rlimit(mm, RLIMIT_MEMLOCK, PAGE_SIZE);
	ck_assert_int_eq(mm_lock_allowed(mm, AREA, 2 * PAGE_SIZE, false), -ENOMEM);
	ck_assert_int_eq(mm_lock_allowed(mm, AREA, 2 * PAGE_SIZE, true), 0);
	ck_assert_int_eq(mm_lock_range(mm, AREA, PAGE_SIZE, true), 0);
	ck_assert_uint_eq(mm->locked_pages, 1);
	ck_assert_int_eq(mm_lock_allowed(mm, AREA, PAGE_SIZE, false), 0);
}
END_TEST

/* ---- brk, stack, fork ---- */

START_TEST(the_break_moves_and_stays_where_it_cannot)
{
	mm->brk_start = mm->brk = AREA;
	ck_assert_uint_eq(mm_brk(mm, th, 0), AREA);
	ck_assert_uint_eq(mm_brk(mm, th, AREA + 100), AREA + 100);
	ck_assert_uint_eq(mm_brk(mm, th, AREA + 3 * PAGE_SIZE), AREA + 3 * PAGE_SIZE);
	ck_assert_uint_eq(mm->nvmas, 1);
	check_same();
	ck_assert_int_eq(map_at(AREA + 5 * PAGE_SIZE, PAGE_SIZE, RW, MAP_SHARED | ANON), -EINVAL);
	ck_assert_int_eq(map_at(AREA + 5 * PAGE_SIZE, PAGE_SIZE, PROT_READ, ANON), 0);
	ck_assert_uint_eq(mm_brk(mm, th, AREA + 6 * PAGE_SIZE), AREA + 3 * PAGE_SIZE);
	ck_assert_uint_eq(mm_brk(mm, th, AREA + 1), AREA + 1);
	check_same();
	struct vma v;
	ck_assert(mm_lookup(mm, AREA, &v));
	ck_assert_str_eq(v.name, "[heap]");
	ck_assert_uint_eq(v.off, 0);
}
END_TEST

START_TEST(the_stack_grows_to_its_limit_and_not_into_its_guard)
{
	int code;
	uint64_t top = AREA + (64UL << 20);

	mm_set_rlimit(mm, RLIMIT_STACK, 8UL << 20);
	ck_assert_int_eq(map_at(top - 4 * PAGE_SIZE, 4 * PAGE_SIZE, RW, ANON | MAP_GROWSDOWN), 0);
	ck_assert(mm_fault(mm, th, top - 5 * PAGE_SIZE, true, &code));
	check_same();
	char byte = 1;
	const struct umem um = {.mm = mm, .th = th};
	/* The kernel's accesses grow it as the program's do. */
	ck_assert_int_eq(copy_out(&um, UADDR(top - (4UL << 20)), &byte, 1), 0);
	ck_assert_int_eq(copy_out(&um, UADDR(top - (9UL << 20)), &byte, 1), -EFAULT);
	ck_assert(!mm_fault(mm, th, top - (8UL << 20) - 1, true, &code));
	ck_assert_int_eq(code, SEGV_MAPERR);
	check_same();

	mm_set_rlimit(mm, RLIMIT_STACK, 60UL << 20);
	ck_assert_int_eq(map_at(top - (16UL << 20), PAGE_SIZE, RW, ANON), 0);
	ck_assert(!mm_fault(mm, th, top - (16UL << 20) + 100 * PAGE_SIZE, true, &code));
	ck_assert(mm_fault(mm, th, top - (16UL << 20) + 257 * PAGE_SIZE, true, &code));
	check_same();
}
END_TEST

START_TEST(a_fault_inside_a_mapping_is_an_access_error)
{
	int code;

	ck_assert_int_eq(map_at(AREA, PAGE_SIZE, PROT_READ, ANON), 0);
	ck_assert(!mm_fault(mm, th, AREA + 8, true, &code));
	ck_assert_int_eq(code, SEGV_ACCERR);
	ck_assert(!mm_fault(mm, th, AREA + PAGE_SIZE, true, &code));
	ck_assert_int_eq(code, SEGV_MAPERR);
}
END_TEST

START_TEST(fork_leaves_out_and_wipes_what_was_advised)
{
	struct p_thread *child_th;
	struct mm *child;

	ck_assert_int_eq(map_at(AREA, 3 * PAGE_SIZE, RW, ANON), 0);
	ck_assert_int_eq(mm_advise(mm, th, AREA, PAGE_SIZE, MADV_DONTFORK), 0);
	ck_assert_int_eq(mm_advise(mm, th, AREA + PAGE_SIZE, PAGE_SIZE, MADV_WIPEONFORK), 0);
	ck_assert_int_eq(mm_lock_range(mm, AREA, 3 * PAGE_SIZE, true), 0);
	ck_assert_uint_eq(mm->nvmas, 3);
	size_t before = fake.nlog;
	ck_assert_int_eq(mm_fork(mm, th, &child, &child_th), 0);
	ck_assert_uint_eq(fake.nlog, before + 2);
	ck_assert_int_eq(fake.log[before].kind, P_MEMOP_UNMAP);
	ck_assert_uint_eq(fake.log[before].addr, AREA);
	ck_assert_int_eq(fake.log[before + 1].kind, P_MEMOP_MAP);
	ck_assert_uint_eq(fake.log[before + 1].addr, AREA + PAGE_SIZE);
	ck_assert_uint_eq(child->nvmas, 2);
	ck_assert_uint_eq(child->locked_pages, 0);
	mm_put(child);
	ck_assert_int_eq(mm_advise(mm, th, AREA, 3 * PAGE_SIZE, MADV_DOFORK), 0);
	ck_assert_int_eq(mm_advise(mm, th, AREA, 3 * PAGE_SIZE, MADV_KEEPONFORK), 0);
	ck_assert_uint_eq(mm->nvmas, 1);
}
END_TEST

START_TEST(put_off_map_that_fails_is_undone)
{
	long ret;

	ck_assert_int_eq(map_at(AREA, 3 * PAGE_SIZE, RW, ANON), 0);
	fake.later = true;
	ck_assert_int_eq(map_at(AREA + PAGE_SIZE, PAGE_SIZE, PROT_READ, ANON), 0);
	ck_assert_uint_eq(mm->nvmas, 3);
	fake.later = false;
	ck_assert(mm_late_failed(mm, th, -ENODEV, &ret));
	ck_assert_int_eq(ret, -ENODEV);
	ck_assert_uint_eq(mm->nvmas, 2);
	check_same();
	/* Once. */
	ck_assert(!mm_late_failed(mm, th, -ENODEV, &ret));

	mm->brk_start = mm->brk = AREA + 16 * PAGE_SIZE;
	fake.later = true;
	ck_assert_uint_eq(mm_brk(mm, th, mm->brk + 5), AREA + 16 * PAGE_SIZE + 5);
	ck_assert(mm_late_failed(mm, th, -ENOMEM, &ret));
	ck_assert_int_eq(ret, AREA + 16 * PAGE_SIZE);
	ck_assert_uint_eq(mm_brk(mm, th, 0), AREA + 16 * PAGE_SIZE);
	ck_assert_uint_eq(mm->nvmas, 2);

	/* Nothing can give back what was unmapped. */
	ck_assert_int_eq(mm_unmap(mm, th, AREA, PAGE_SIZE), 0);
	ck_assert(!mm_late_failed(mm, th, -ENOMEM, &ret));
	fake.later = false;
}
END_TEST

START_TEST(advice_that_reaches_beyond_the_mapping_never_goes_to_the_host)
{
	static const int kept_back[] = {MADV_REMOVE,   MADV_DOFORK,    MADV_DONTFORK,
					MADV_HWPOISON, MADV_MERGEABLE, 12345};

	ck_assert_int_eq(map_at(AREA, PAGE_SIZE, RW, ANON), 0);
	for (size_t i = 0; i < ARRAY_SIZE(kept_back); i++)
		(void)!mm_advise(mm, th, AREA, PAGE_SIZE, kept_back[i]);
	ck_assert_uint_eq(fake.nlog, 1);
	ck_assert_int_eq(mm_advise(mm, th, AREA, PAGE_SIZE, 12345), -EINVAL);
	ck_assert_int_eq(mm_advise(mm, th, AREA, PAGE_SIZE, MADV_HWPOISON), -EPERM);
	/* A hole is reported after the rest was done. */
	ck_assert_int_eq(map_at(AREA + 2 * PAGE_SIZE, PAGE_SIZE, RW, ANON), 0);
	size_t before = fake.nlog;
	ck_assert_int_eq(mm_advise(mm, th, AREA, 3 * PAGE_SIZE, MADV_DONTNEED), -ENOMEM);
	ck_assert_uint_eq(fake.nlog, before + 2);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("vma");
	TCase *tc = tcase_create("vma");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, neighbours_of_one_kind_are_one_mapping);
	tcase_add_test(tc, protect_splits_and_merges_again);
	tcase_add_test(tc, protect_stops_at_a_hole_with_what_came_before_done);
	tcase_add_test(tc, write_only_memory_is_readable_on_the_host);
	tcase_add_test(tc, unmap_of_nothing_asks_the_host_for_nothing);
	tcase_add_test(tc, a_failure_on_the_host_leaves_both_sides_alike);
	tcase_add_loop_test(tc, random_changes_leave_what_the_host_has, 0, 4);
	tcase_add_test(tc, maps_go_down_from_the_top_without_gaps);
	tcase_add_test(tc, a_hint_is_taken_when_it_is_free);
	tcase_add_test(tc, whole_huge_pages_are_aligned);
	tcase_add_loop_test(tc, gap_search_agrees_with_a_plain_one, 0, 4);
	tcase_add_test(tc, mmap_errors_are_those_of_the_manual);
	tcase_add_test(tc, rights_of_the_file_bind_mprotect);
	tcase_add_test(tc, limits_bind);
	tcase_add_test(tc, the_break_moves_and_stays_where_it_cannot);
	tcase_add_test(tc, the_stack_grows_to_its_limit_and_not_into_its_guard);
	tcase_add_test(tc, a_fault_inside_a_mapping_is_an_access_error);
	tcase_add_test(tc, fork_leaves_out_and_wipes_what_was_advised);
	tcase_add_test(tc, put_off_map_that_fails_is_undone);
	tcase_add_test(tc, advice_that_reaches_beyond_the_mapping_never_goes_to_the_host);
	suite_add_tcase(s, tc);

	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
