#include "sentry/fs/erofs/image.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "sentry/lib/cleanup.h"

#define SUPER_OFFSET 1024
#define SUPER_MAGIC 0xe0f5e1e2
#define NODE_UNIT 32
#define HOLE_BLOCK 0xffffffffU
#define NAME_MAX_ 255
#define DIR_BLOCK_MAX 65536

/* Incompatible features that do not matter here: of compression (such files cannot be opened), and
 * files in chunks. */
#define FEATURES_KNOWN 0x37U

struct disk_super {
	uint32_t magic, checksum, compat;
	uint8_t block_bits, ext_slots;
	uint16_t root_nid;
	uint64_t inodes, build_time;
	uint32_t build_nsec, blocks, meta_block, xattr_block;
	uint8_t uuid[16], volume[16];
	uint32_t incompat;
	uint16_t algorithms, devices, device_slot;
	uint8_t dir_block_bits, prefix_count;
	uint32_t prefix_start;
	uint64_t packed_nid;
	uint8_t reserved[24];
};
_Static_assert(sizeof(struct disk_super) == 128, "erofs super block");

struct disk_compact {
	uint16_t format, xattr_count, mode, nlink;
	uint32_t size, reserved, u, ino;
	uint16_t uid, gid;
	uint32_t reserved2;
};
_Static_assert(sizeof(struct disk_compact) == 32, "erofs compact inode");

struct disk_extended {
	uint16_t format, xattr_count, mode, reserved;
	uint64_t size;
	uint32_t u, ino, uid, gid;
	uint64_t mtime;
	uint32_t mtime_nsec, nlink;
	uint8_t reserved2[16];
};
_Static_assert(sizeof(struct disk_extended) == 64, "erofs extended inode");

struct disk_dirent {
	uint64_t nid;
	uint16_t name_offset;
	uint8_t type, reserved;
} __attribute__((packed));
_Static_assert(sizeof(struct disk_dirent) == 12, "erofs directory entry");

struct disk_xattr_head {
	uint32_t filter;
	uint8_t shared_count, reserved[7];
};
_Static_assert(sizeof(struct disk_xattr_head) == 12, "erofs xattr header");

struct disk_xattr {
	uint8_t name_len, name_index;
	uint16_t value_size;
};
_Static_assert(sizeof(struct disk_xattr) == 4, "erofs xattr entry");

/* n bytes at off, all inside. */
static int get(const struct erofs_image *img, void *buf, size_t n, uint64_t off)
{
	if (off > img->size || n > img->size - off)
		return -EUCLEAN;
	return img->read(img->arg, buf, n, off);
}

int erofs_open(struct erofs_image *img)
{
	struct disk_super s;

	if (img->size < SUPER_OFFSET + sizeof(s))
		return -EINVAL;
	int err = get(img, &s, sizeof(s), SUPER_OFFSET);
	if (err)
		return err;
	if (s.magic != SUPER_MAGIC || s.block_bits < 9 || s.block_bits > 16 ||
	    s.incompat & ~FEATURES_KNOWN || s.devices)
		return -EINVAL;
	img->block_bits = s.block_bits;
	if (s.block_bits + s.dir_block_bits > 16)
		return -EINVAL;
	img->dir_block = (size_t)1 << (s.block_bits + s.dir_block_bits);
	img->meta = (uint64_t)s.meta_block << s.block_bits;
	img->xattrs = (uint64_t)s.xattr_block << s.block_bits;
	img->root = s.root_nid;
	img->build_time = s.build_time;
	img->build_nsec = s.build_nsec;
	img->blocks = s.blocks;
	img->inodes = s.inodes;
	return 0;
}

/* ---- nodes ---- */

static void from_compact(const struct erofs_image *img, const struct disk_compact *d,
			 struct erofs_node *n)
{
	n->mode = d->mode;
	n->nlink = d->nlink;
	n->uid = d->uid;
	n->gid = d->gid;
	n->size = d->size;
	n->mtime = img->build_time;
	n->mtime_nsec = img->build_nsec;
}

static void from_extended(const struct disk_extended *d, struct erofs_node *n)
{
	n->mode = d->mode;
	n->nlink = d->nlink;
	n->uid = d->uid;
	n->gid = d->gid;
	n->size = d->size;
	n->mtime = d->mtime;
	n->mtime_nsec = d->mtime_nsec;
}

static int set_layout(const struct erofs_image *img, struct erofs_node *n, unsigned layout,
		      uint32_t u)
{
	n->data = (uint64_t)u << img->block_bits;
	switch (layout) {
	case 0:
		n->layout = EROFS_PLAIN;
		return 0;
	case 2:
		n->layout = EROFS_INLINE;
		return 0;
	case 4:
		n->layout = EROFS_CHUNKS;
		n->chunk_bits = img->block_bits + (u & 0x1f);
		n->chunk_index = u & 0x20;
		n->tail = n->chunk_index ? (n->tail + 7) & ~7ULL : n->tail;
		return u & ~0x3fU ? -EOPNOTSUPP : 0;
	case 1:
	case 3:
		n->layout = EROFS_COMPRESSED;
		return 0;
	}
	return -EOPNOTSUPP;
}

int erofs_node_read(const struct erofs_image *img, uint64_t nid, struct erofs_node *out)
{
	union {
		uint16_t format;
		struct disk_compact c;
		struct disk_extended e;
	} d;
	struct erofs_node n = {.nid = nid};

	if (nid > img->size / NODE_UNIT)
		return -EUCLEAN;
	uint64_t off = img->meta + nid * NODE_UNIT;
	int err = get(img, &d, sizeof(d.c), off);
	if (err)
		return err;
	bool extended = d.format & 1;
	if (d.format & ~0xfU)
		return -EOPNOTSUPP;
	if (extended && (err = get(img, &d, sizeof(d.e), off)))
		return err;
	uint32_t u = extended ? d.e.u : d.c.u;
	uint16_t xattrs = d.c.xattr_count; /* the same place in both */
	if (extended)
		from_extended(&d.e, &n);
	else
		from_compact(img, &d.c, &n);
	n.xattrs = off + (extended ? sizeof(d.e) : sizeof(d.c));
	n.xattrs_size = xattrs ? sizeof(struct disk_xattr_head) + (uint64_t)(xattrs - 1) * 4 : 0;
	n.tail = n.xattrs + n.xattrs_size;
	if (n.size > INT64_MAX)
		return -EUCLEAN;
	switch (n.mode & S_IFMT) {
	case S_IFCHR:
	case S_IFBLK:
		n.rdev = u;
		break;
	case S_IFIFO:
	case S_IFSOCK:
		break;
	case S_IFREG:
	case S_IFDIR:
	case S_IFLNK:
		err = set_layout(img, &n, d.format >> 1 & 7, u);
		break;
	default:
		err = -EUCLEAN;
	}
	if (!err)
		*out = n;
	return err;
}

/* ---- contents ---- */

static int find_chunk(const struct erofs_image *img, const struct erofs_node *n, uint64_t off,
		      uint64_t *at, uint64_t *len)
{
	uint64_t index = off >> n->chunk_bits, in = off & ((1ULL << n->chunk_bits) - 1);
	struct {
		uint16_t advise, device;
		uint32_t block;
	} e;
	uint32_t block;
	int err;

	if (n->chunk_index) {
		err = get(img, &e, sizeof(e), n->tail + index * sizeof(e));
		block = err ? 0 : e.block;
		if (!err && e.device)
			err = -EOPNOTSUPP;
	} else {
		err = get(img, &block, sizeof(block), n->tail + index * sizeof(block));
	}
	if (err)
		return err;
	*len = MIN((1ULL << n->chunk_bits) - in, n->size - off);
	*at = block == HOLE_BLOCK ? EROFS_HOLE : ((uint64_t)block << img->block_bits) + in;
	return 0;
}

int erofs_find(const struct erofs_image *img, const struct erofs_node *n, uint64_t off,
	       uint64_t *at, uint64_t *len)
{
	uint64_t whole = n->size;
	int err = 0;

	switch (n->layout) {
	case EROFS_CHUNKS:
		err = find_chunk(img, n, off, at, len);
		break;
	case EROFS_INLINE:
		/* The last block, full or not, is behind the node. */
		whole = n->size ? (n->size - 1) >> img->block_bits << img->block_bits : 0;
		/* fallthrough */
	case EROFS_PLAIN:
		*at = off < whole ? n->data + off : n->tail + (off - whole);
		*len = (off < whole ? whole : n->size) - off;
		break;
	case EROFS_COMPRESSED:
		return -EOPNOTSUPP;
	}
	if (err || *at == EROFS_HOLE)
		return err;
	return *at > img->size || *len > img->size - *at ? -EUCLEAN : 0;
}

ssize_t erofs_read(const struct erofs_image *img, const struct erofs_node *n, void *buf,
		   size_t size, uint64_t off)
{
	size_t done = 0;

	if (off >= n->size)
		return 0;
	size = MIN((uint64_t)size, n->size - off);
	while (done < size) {
		uint64_t at, len;
		int err = erofs_find(img, n, off + done, &at, &len);
		if (err)
			return err;
		len = MIN(len, (uint64_t)(size - done));
		if (at == EROFS_HOLE)
			memset((char *)buf + done, 0, len);
		else if ((err = get(img, (char *)buf + done, len, at)))
			return err;
		done += len;
	}
	return (ssize_t)done;
}

/* ---- directories ---- */

/* Entry i of a block of n bytes, checked; *count: how many there are. */
static int block_entry(const char *block, size_t n, size_t i, size_t *count,
		       struct erofs_entry *out)
{
	struct disk_dirent d, next;

	if (n < sizeof(d))
		return -EUCLEAN;
	memcpy(&d, block, sizeof(d));
	*count = d.name_offset / sizeof(d);
	if (!*count || d.name_offset % sizeof(d) || d.name_offset > n)
		return -EUCLEAN;
	if (i >= *count)
		return 0;
	memcpy(&d, block + i * sizeof(d), sizeof(d));
	size_t end = n;
	if (i + 1 < *count) {
		memcpy(&next, block + (i + 1) * sizeof(d), sizeof(next));
		end = next.name_offset;
	}
	if (d.name_offset >= end || end > n || d.name_offset < *count * sizeof(d))
		return -EUCLEAN;
	size_t len = strnlen(block + d.name_offset, end - d.name_offset);
	if (!len || len > NAME_MAX_ || memchr(block + d.name_offset, '/', len))
		return -EUCLEAN;
	*out = (struct erofs_entry){
		.nid = d.nid, .name = block + d.name_offset, .len = len, .type = d.type};
	return 1;
}

int erofs_entry_at(const struct erofs_image *img, const struct erofs_node *dir, uint64_t pos,
		   char *block, uint64_t *have, struct erofs_entry *out)
{
	for (;;) {
		uint64_t start = pos / img->dir_block * img->dir_block;
		size_t i = (pos - start) / sizeof(struct disk_dirent), count;
		if (pos >= dir->size)
			return 0;
		size_t n = MIN((uint64_t)img->dir_block, dir->size - start);
		if (*have != start) {
			ssize_t got = erofs_read(img, dir, block, n, start);
			if (got < 0)
				return (int)got;
			*have = start;
		}
		int found = block_entry(block, n, i, &count, out);
		if (found < 0)
			return found;
		if (found) {
			bool last = i + 1 == count;
			out->next = start +
				    (last ? img->dir_block : (i + 1) * sizeof(struct disk_dirent));
			return 1;
		}
		pos = start + img->dir_block;
	}
}

static int compare(const char *a, size_t alen, const char *b, size_t blen)
{
	int c = memcmp(a, b, MIN(alen, blen));

	return c ? c : alen < blen ? -1 : alen > blen;
}

/* Names are sorted over all blocks: the last block that begins with no later one has it. */
int erofs_lookup(const struct erofs_image *img, const struct erofs_node *dir, const char *name,
		 size_t len, uint64_t *nid)
{
	CLEANUP_FREE char *block = malloc(img->dir_block);
	uint64_t have = UINT64_MAX;
	uint64_t low = 0, high = (dir->size + img->dir_block - 1) / img->dir_block;
	struct erofs_entry e;

	if (!block)
		return -ENOMEM;
	while (high - low > 1) {
		uint64_t mid = low + (high - low) / 2;
		int got = erofs_entry_at(img, dir, mid * img->dir_block, block, &have, &e);
		if (got < 0)
			return got;
		if (got && compare(e.name, e.len, name, len) <= 0)
			low = mid;
		else
			high = mid;
	}
	for (uint64_t pos = low * img->dir_block; pos < high * img->dir_block; pos = e.next) {
		int got = erofs_entry_at(img, dir, pos, block, &have, &e);
		if (got <= 0)
			return got ? got : -ENOENT;
		if (!compare(e.name, e.len, name, len)) {
			*nid = e.nid;
			return 0;
		}
	}
	return -ENOENT;
}

/* ---- extended attributes ---- */

static const char *prefix_of(unsigned index)
{
	static const char *const prefixes[] = {
		NULL, "user.",	  "system.posix_acl_access", "system.posix_acl_default", "trusted.",
		NULL, "security."};

	return index < ARRAY_SIZE(prefixes) ? prefixes[index] : NULL;
}

/* One at `off`, of which at most `room` bytes are; *size: how many it takes. */
static int xattr_at(const struct erofs_image *img, uint64_t off, uint64_t room, uint64_t *size,
		    int (*fn)(const struct erofs_xattr *x, void *arg), void *arg)
{
	char name[256];
	struct disk_xattr d;

	if (room < sizeof(d))
		return -EUCLEAN;
	int err = get(img, &d, sizeof(d), off);
	if (err)
		return err;
	uint64_t whole = sizeof(d) + d.name_len + (uint64_t)d.value_size;
	*size = (whole + 3) & ~3ULL;
	if (whole > room)
		return -EUCLEAN;
	const char *prefix = prefix_of(d.name_index);
	if (!prefix)
		return 0; /* others are not shown */
	if ((err = get(img, name, d.name_len, off + sizeof(d))))
		return err;
	const struct erofs_xattr x = {.prefix = prefix,
				      .name = name,
				      .len = d.name_len,
				      .value = off + sizeof(d) + d.name_len,
				      .size = d.value_size};
	return memchr(name, 0, d.name_len) ? -EUCLEAN : fn(&x, arg);
}

int erofs_xattr_each(const struct erofs_image *img, const struct erofs_node *n,
		     int (*fn)(const struct erofs_xattr *x, void *arg), void *arg)
{
	struct disk_xattr_head h;
	uint64_t off = n->xattrs + sizeof(h), end = n->xattrs + n->xattrs_size, size;

	if (!n->xattrs_size)
		return 0;
	int err = get(img, &h, sizeof(h), n->xattrs);
	if (!err && (uint64_t)h.shared_count * 4 > end - off)
		err = -EUCLEAN;
	for (unsigned i = 0; i < h.shared_count && !err; i++, off += 4) {
		uint32_t id;
		err = get(img, &id, sizeof(id), off);
		if (!err)
			err = xattr_at(img, img->xattrs + (uint64_t)id * 4, UINT16_MAX * 2, &size,
				       fn, arg);
	}
	for (; !err && end - off >= sizeof(struct disk_xattr); off += MIN(size, end - off))
		err = xattr_at(img, off, end - off, &size, fn, arg);
	return err;
}
