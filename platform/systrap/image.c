/*
 * Making a patched copy of a text segment.
 *
 * Trampolines go where the segment ends within its last page: no program has anything there, and
 * it is mapped along.  So a copy works at whatever address it is mapped, and needs no memory that
 * guest code could miss.  At its beginning stands the stub's address, for the jumps that leave.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "platform/systrap/internal.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x10u
#endif
#define PAGE 4096U
#define PHDRS_MAX 32
#define WHOLE_MAX (4U << 20)	  /* longer segments are copied in part … */
#define NEIGHBOURHOOD (64U << 10) /* … this much around the first site, each way */
#define SEGMENT_MAX (1U << 30)
#define ENTRY_LEN sizeof(uint64_t)

/* What a copy is made of. */
struct maker {
	int fd;
	uint64_t off, len;
	uint8_t *text; /* the memfd, mapped */
	struct text_image *im;
};

/* Where the segment that is mapped as [off, off+len) really ends; 0: it is none of the program's,
 * or can be written. */
static uint64_t segment_end(int fd, uint64_t off, uint64_t len)
{
	Elf64_Ehdr eh;
	Elf64_Phdr ph[PHDRS_MAX];

	if (pread(fd, &eh, sizeof(eh), 0) != sizeof(eh) || memcmp(eh.e_ident, ELFMAG, SELFMAG) ||
	    eh.e_ident[EI_CLASS] != ELFCLASS64 || eh.e_machine != EM_X86_64 ||
	    eh.e_phentsize != sizeof(*ph) || eh.e_phnum > PHDRS_MAX || eh.e_phoff > SEGMENT_MAX)
		return 0;
	const size_t size = eh.e_phnum * sizeof(*ph);
	if (pread(fd, ph, size, (off_t)eh.e_phoff) != (ssize_t)size)
		return 0;
	for (int i = 0; i < eh.e_phnum; i++) {
		const Elf64_Phdr *p = &ph[i];
		if (p->p_type == PT_LOAD && (p->p_flags & (PF_X | PF_W)) == PF_X && p->p_filesz &&
		    p->p_memsz == p->p_filesz && p->p_offset < SEGMENT_MAX &&
		    p->p_filesz < SEGMENT_MAX && (p->p_offset & ~(uint64_t)(PAGE - 1)) == off &&
		    p->p_offset + p->p_filesz <= off + len &&
		    off + len - (p->p_offset + p->p_filesz) < PAGE)
			return p->p_offset + p->p_filesz;
	}
	return 0;
}

static int create_memfd(uint64_t len)
{
	int fd = memfd_create("text", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);

	if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
		fd = memfd_create("text", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd >= 0 && ftruncate(fd, (off_t)len) < 0) {
		close(fd);
		return -EFBIG;
	}
	return fd < 0 ? -errno : fd;
}

/* Which parts are copied; of a large one, those around `call`. */
static void choose_runs(struct text_image *im, uint64_t len, uint32_t call)
{
	const uint32_t last = im->tramp / PAGE * PAGE;

	im->nruns = 1;
	im->runs[0] = (struct text_run){0, (uint32_t)len};
	if (len <= WHOLE_MAX)
		return;
	uint32_t from = call > NEIGHBOURHOOD ? (call - NEIGHBOURHOOD) / PAGE * PAGE : 0;
	uint32_t end = MIN((call + NEIGHBOURHOOD) / PAGE * PAGE, last);
	im->nruns = 2;
	im->runs[0] = (struct text_run){from, end - from};
	im->runs[1] = (struct text_run){last, (uint32_t)len - last};
}

static int read_runs(const struct maker *m)
{
	for (int i = 0; i < m->im->nruns; i++) {
		const struct text_run *r = &m->im->runs[i];
		for (uint32_t done = 0; done < r->len;) {
			ssize_t n = pread(m->fd, m->text + r->off + done, r->len - done,
					  (off_t)(m->off + r->off + done));
			if (n < 0 && errno == EINTR)
				continue;
			if (n < 0)
				return -errno;
			if (!n && r->off + done < m->im->tramp)
				return -EIO;
			if (!n) /* the file may end with the segment */
				break;
			done += (uint32_t)n;
		}
	}
	return 0;
}

static bool in_runs(const struct text_image *im, uint32_t call)
{
	return call >= im->runs[0].off &&
	       call + SITE_AFTER <= MIN(im->runs[0].off + im->runs[0].len, im->tramp);
}

/* The last page is exchanged by itself (text.h, plain_end): no jump may lie half in it. */
static bool is_split(const struct text_image *im, const struct text_site *s)
{
	const uint32_t last = im->tramp / PAGE * PAGE;

	return s->start < last && s->start + SITE_JUMP > last;
}

static bool known(const struct text_image *im, uint32_t call)
{
	for (uint32_t i = 0; i < im->nsites; i++)
		if (im->sites[i].call == call)
			return true;
	return false;
}

/* Those that `old` has keep their trampolines' places.  Only a call that is most of what the file
 * does is worth a site that is `between`: Go makes nearly all its calls at one place. */
static void find_sites(struct maker *m, const struct text_wish *wish, const struct text_image *old)
{
	struct text_image *im = m->im;
	const uint32_t from = im->runs[0].off, end = from + im->runs[0].len;

	for (uint32_t i = 0; old && i < old->nsites; i++) {
		const struct text_site *was = &old->sites[i];
		struct text_site *s = &im->sites[im->nsites];
		if (in_runs(im, was->call) &&
		    site_find(m->text, from, was->call, was->between, s)) {
			s->tramp = was->tramp;
			im->nsites++;
		}
	}
	for (uint32_t i = 0; i < wish->n && im->nsites < TEXT_SITES; i++) {
		struct text_site *s = &im->sites[im->nsites];
		const uint32_t call = wish->at[i];
		if (in_runs(im, call) && !known(im, call) &&
		    site_find(m->text, from, call, call == wish->main_call, s) &&
		    !(s->between && site_is_entered(m->text, from, end, s)))
			im->nsites++;
	}
}

static int by_address(const void *a, const void *b)
{
	const struct text_site *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

/* Patches those that may be, and forgets the others. */
static void patch_sites(struct maker *m, const struct text_image *old)
{
	struct text_image *im = m->im;
	const uint32_t entry = im->tramp;
	const uint64_t stub = ST_FAST;
	uint32_t next = old ? old->tramp_end : entry + ENTRY_LEN, kept = 0;

	for (uint32_t i = 0; i < im->nsites; i++) {
		struct text_site s = im->sites[i];
		const uint32_t at = s.tramp ? s.tramp : next;
		if (is_split(im, &s))
			continue;
		size_t n = site_patch(m->text, &s, at, m->len - at, entry);
		if (!n)
			continue;
		if (at == next)
			next += (uint32_t)n;
		im->between |= s.between;
		im->sites[kept++] = s;
	}
	im->nsites = kept;
	im->tramp_end = next;
	memcpy(m->text + entry, &stub, sizeof(stub));
	qsort(im->sites, kept, sizeof(*im->sites), by_address);
}

static int fill(struct maker *m, const struct text_wish *wish, const struct text_image *old)
{
	struct text_image *im = m->im;

	choose_runs(im, m->len, old && old->nsites ? old->sites[0].call : wish->at[0]);
	int err = read_runs(m);
	if (err)
		return err;
	find_sites(m, wish, old);
	memcpy(m->text + m->len, m->text + m->len - PAGE, PAGE);
	patch_sites(m, old);
	memcpy(m->text + PAGE + im->tramp, m->text + im->tramp, im->tramp_end - im->tramp);
	return im->nsites > (old ? old->nsites : 0) ? 0 : -ENOENT;
}

static int make(struct maker *m, const struct text_wish *wish, const struct text_image *old)
{
	const size_t size = m->len + PAGE; /* and the plain end */

	m->text = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, m->im->fd, 0);
	if (m->text == MAP_FAILED)
		return -ENOMEM;
	int err = fill(m, wish, old);
	munmap(m->text, size);
	/* No writable mapping is left, so that nobody can change it any more. */
	if (!err && fcntl(m->im->fd, F_ADD_SEALS,
			  F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		err = -errno;
	return err;
}

int image_build(int fd, uint64_t off, uint64_t len, const struct text_wish *wish,
		const struct text_image *old, struct text_image **out)
{
	struct maker m = {.fd = fd, .off = off, .len = len};
	const uint64_t end = len <= SEGMENT_MAX && wish->n ? segment_end(fd, off, len) : 0;

	if (!end || off + len - end < ENTRY_LEN + SITE_TRAMP_MAX)
		return -EINVAL;
	m.im = calloc(1, sizeof(*m.im) + TEXT_SITES * sizeof(m.im->sites[0]));
	if (!m.im)
		return -ENOMEM;
	atomic_init(&m.im->ref, 1);
	m.im->tramp = (uint32_t)((end - off + ENTRY_LEN - 1) / ENTRY_LEN * ENTRY_LEN);
	m.im->fd = create_memfd(len + PAGE);
	int err = m.im->fd < 0 ? m.im->fd : make(&m, wish, old);
	if (err) {
		image_put(m.im);
		return err;
	}
	*out = realloc(m.im, sizeof(*m.im) + m.im->nsites * sizeof(m.im->sites[0]));
	if (!*out)
		*out = m.im;
	return 0;
}

struct text_image *image_get(struct text_image *im)
{
	if (im)
		atomic_fetch_add_explicit(&im->ref, 1, memory_order_relaxed);
	return im;
}

void image_put(struct text_image *im)
{
	if (!im || atomic_fetch_sub(&im->ref, 1) != 1)
		return;
	if (im->fd >= 0)
		close(im->fd);
	free(im);
}

const struct text_site *image_site(const struct text_image *im, uint64_t at)
{
	uint32_t low = 0, high = im->nsites;

	while (low < high) {
		uint32_t mid = (low + high) / 2;
		if (at < im->sites[mid].start)
			high = mid;
		else if (at > im->sites[mid].call)
			low = mid + 1;
		else
			return &im->sites[mid];
	}
	return NULL;
}

const struct text_site *image_tramp(const struct text_image *im, uint64_t at)
{
	const struct text_site *found = NULL;

	if (at < im->tramp || at >= im->tramp_end)
		return NULL;
	for (uint32_t i = 0; i < im->nsites; i++)
		if (im->sites[i].tramp <= at && (!found || im->sites[i].tramp > found->tramp))
			found = &im->sites[i];
	return found;
}
