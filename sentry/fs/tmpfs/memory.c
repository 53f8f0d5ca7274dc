/* Contents of small files: pages in sentry memory, holes included. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/fs/tmpfs/node.h"

#define SMALLEST_FIRST 64

/* Makes the table of pages long enough. */
static int table_reserve(struct tmpfs_inode *ti, uint64_t npages)
{
	struct tmpfs_data *td = &ti->data;
	if (npages <= td->npages)
		return 0;
	size_t n = td->npages ? td->npages : 1;
	while (n < npages)
		n *= 2;
	char **table = calloc(n, sizeof(char *));
	if (!table)
		return -ENOMEM;
	char **old = td->pages;
	if (old)
		memcpy(table, old, td->npages * sizeof(char *));
	mutex_lock(&ti->in.lock, &lc_inode);
	td->pages = table;
	td->npages = n;
	mutex_unlock(&ti->in.lock, &lc_inode);
	free(old);
	return 0;
}

/* Gives page 0 more room: its size follows the file's as long as it is the only page. */
static int first_page_grow(struct tmpfs_inode *ti, size_t need)
{
	struct tmpfs_data *td = &ti->data;
	size_t cap = td->first_cap ? td->first_cap : SMALLEST_FIRST;
	while (cap < need)
		cap *= 2;
	char *page = calloc(1, cap);
	if (!page)
		return -ENOMEM;
	char *old = td->pages[0];
	if (old)
		memcpy(page, old, td->first_cap);
	mutex_lock(&ti->in.lock, &lc_inode);
	td->pages[0] = page;
	td->first_cap = cap;
	mutex_unlock(&ti->in.lock, &lc_inode);
	free(old);
	return 0;
}

int tmpfs_mem_page(struct tmpfs_inode *ti, uint64_t page, size_t need)
{
	struct tmpfs_data *td = &ti->data;
	int err = table_reserve(ti, page + 1);
	if (err)
		return err;
	if (page == 0 && td->pages[0])
		return need > td->first_cap ? first_page_grow(ti, need) : 0;
	if (td->pages[page])
		return 0;
	if ((err = tmpfs_charge(tmpfs_super(ti->in.sb), 1)))
		return err;
	if (page == 0) {
		td->first_cap = 0;
		err = first_page_grow(ti, need);
	} else {
		char *bytes = calloc(1, PAGE_SIZE);
		if (bytes)
			td->pages[page] = bytes; /* readers see a page of zeros where a hole was */
		else
			err = -ENOMEM;
	}
	if (err)
		tmpfs_uncharge(tmpfs_super(ti->in.sb), 1);
	else
		ti->charged++;
	return err;
}

void tmpfs_mem_drop(struct tmpfs_inode *ti, uint64_t page)
{
	struct tmpfs_data *td = &ti->data;
	if (page >= td->npages || !td->pages[page])
		return;
	mutex_lock(&ti->in.lock, &lc_inode);
	char *bytes = td->pages[page];
	td->pages[page] = NULL;
	mutex_unlock(&ti->in.lock, &lc_inode);
	free(bytes);
	ti->charged--;
	tmpfs_uncharge(tmpfs_super(ti->in.sb), 1);
}

void tmpfs_mem_free_from(struct tmpfs_inode *ti, uint64_t first_page)
{
	for (uint64_t i = first_page; i < ti->data.npages; i++)
		tmpfs_mem_drop(ti, i);
}

void tmpfs_mem_zero(struct tmpfs_inode *ti, uint64_t off, uint64_t end)
{
	mutex_lock(&ti->in.lock, &lc_inode);
	while (off < end) {
		uint64_t page = off / PAGE_SIZE, from = off % PAGE_SIZE;
		uint64_t to = MIN(from + (end - off), PAGE_SIZE);
		size_t cap;
		char *bytes = tmpfs_mem_bytes(&ti->data, page, &cap);
		if (bytes && from < cap)
			memset(bytes + from, 0, MIN(to, cap) - from);
		off += to - from;
	}
	mutex_unlock(&ti->in.lock, &lc_inode);
}

ssize_t tmpfs_mem_write(struct tmpfs_inode *ti, const char *buf, size_t n, uint64_t off)
{
	size_t done = 0;
	while (done < n) {
		uint64_t page = (off + done) / PAGE_SIZE;
		size_t in_page = (off + done) % PAGE_SIZE;
		size_t part = MIN(n - done, PAGE_SIZE - in_page);
		int err = tmpfs_mem_page(ti, page, in_page + part);
		if (err)
			return done ? (ssize_t)done : err;
		mutex_lock(&ti->in.lock, &lc_inode);
		memcpy(ti->data.pages[page] + in_page, buf + done, part);
		mutex_unlock(&ti->in.lock, &lc_inode);
		done += part;
	}
	return done;
}
