/* Fuzz target: EROFS images.  The input is the image; all of it that can be reached is. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "sentry/fs/erofs/image.h"

#define DEPTH_MAX 6
#define ENTRIES_MAX 200

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t *input;
static int budget;

static void require(bool ok)
{
	if (!ok)
		abort();
}

static int read_input(void *arg, void *buf, size_t n, uint64_t off)
{
	const struct erofs_image *img = arg;

	require(off <= img->size && n <= img->size - off);
	memcpy(buf, input + off, n);
	return 0;
}

static int see_xattr(const struct erofs_xattr *x, void *arg)
{
	(void)arg;
	require(x->prefix && x->len < 256);
	return --budget < 0 ? -ENOSPC : 0;
}

static void look_at(const struct erofs_image *img, uint64_t nid, int depth)
{
	static char buf[4096];
	struct erofs_node n;
	uint64_t at, len;

	if (depth > DEPTH_MAX || --budget < 0 || erofs_node_read(img, nid, &n))
		return;
	int err = erofs_xattr_each(img, &n, see_xattr, NULL);
	(void)err;
	if (n.size && !erofs_find(img, &n, n.size - 1, &at, &len)) {
		require(len == 1);
		require(at == EROFS_HOLE || at < img->size);
	}
	if (!S_ISDIR(n.mode)) {
		require(erofs_read(img, &n, buf, sizeof(buf), n.size / 2) <= (ssize_t)sizeof(buf));
		return;
	}
	char *block = malloc(img->dir_block);
	uint64_t have = UINT64_MAX, found;
	struct erofs_entry e;
	for (uint64_t pos = 0; block && --budget > 0; pos = e.next) {
		if (erofs_entry_at(img, &n, pos, block, &have, &e) <= 0)
			break;
		require(e.next > pos && e.len && e.len < 256);
		require(e.name >= block && e.name + e.len <= block + img->dir_block);
		err = erofs_lookup(img, &n, e.name, e.len, &found);
		look_at(img, e.nid, depth + 1);
	}
	free(block);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct erofs_image img = {.read = read_input, .size = size};

	input = data;
	img.arg = &img;
	budget = ENTRIES_MAX;
	if (!erofs_open(&img))
		look_at(&img, img.root, 0);
	return 0;
}
