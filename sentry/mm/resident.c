/*
 * What the host keeps of a guest's memory: read from the host process's directory in the procfs of
 * the guests' PID namespace.  Source: proc(5), "pagemap", "status", "stat".
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sentry/host/reopen.h"
#include "sentry/mm/mm.h"

static int open_host_proc(struct mm *mm, const char *file)
{
	char name[32];

	if (host_proc_fd() < 0 || atomic_load(&mm->gone))
		return -1;
	snprintf(name, sizeof(name), "%d/%s", (int)mm->pf->ops->host_pid(mm->as), file);
	return openat(host_proc_fd(), name, O_RDONLY | O_CLOEXEC);
}

/* The text of a small file; empty when it cannot be had. */
static void read_host_proc(struct mm *mm, const char *file, char *buf, size_t size)
{
	int fd = open_host_proc(mm, file);
	ssize_t n = fd < 0 ? 0 : read(fd, buf, size - 1);

	if (fd >= 0)
		close(fd);
	buf[MAX(n, 0)] = '\0';
}

uint64_t mm_resident_pages(struct mm *mm)
{
	char buf[128];
	unsigned long long size, resident;

	read_host_proc(mm, "statm", buf, sizeof(buf));
	return sscanf(buf, "%llu %llu", &size, &resident) == 2 ? resident : 0;
}

static uint64_t number_after(const char *text, const char *label)
{
	const char *line = strstr(text, label);

	return line ? strtoull(line + strlen(label), NULL, 10) : 0;
}

void mm_usage(struct mm *mm, struct mm_usage *u)
{
	char buf[2048];
	const struct {
		const char *label;
		uint64_t *pages;
	} rows[] = {
		{"VmRSS:", &u->resident},    {"VmHWM:", &u->resident_peak},
		{"RssAnon:", &u->anon},	     {"RssFile:", &u->file},
		{"RssShmem:", &u->shmem},    {"VmSwap:", &u->swapped},
		{"VmPTE:", &u->page_tables},
	};

	memset(u, 0, sizeof(*u));
	read_host_proc(mm, "status", buf, sizeof(buf));
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		*rows[i].pages = number_after(buf, rows[i].label) / (PAGE_SIZE / 1024);
	u->voluntary_switches = number_after(buf, "\nvoluntary_ctxt_switches:");
	u->involuntary_switches = number_after(buf, "nonvoluntary_ctxt_switches:");
	read_host_proc(mm, "stat", buf, sizeof(buf));
	/* After the name, which may hold anything: state, five numbers, flags, then the faults. */
	const char *rest = strrchr(buf, ')');
	unsigned long long minor, major;
	if (rest &&
	    sscanf(rest, ") %*c %*d %*d %*d %*d %*d %*u %llu %*u %llu", &minor, &major) == 2) {
		u->minor_faults = minor;
		u->major_faults = major;
	}
}

void mm_last_usage(struct mm *mm, struct p_thread *th, struct mm_usage *u)
{
	const struct platform_ops *ops = mm->pf->ops;
	struct p_usage p;

	if (!ops->last_usage || !ops->last_usage(th, &p)) {
		mm_usage(mm, u);
		return;
	}
	*u = (struct mm_usage){.resident_peak = p.peak_kib / (PAGE_SIZE / 1024),
			       .minor_faults = p.minor_faults,
			       .major_faults = p.major_faults,
			       .voluntary_switches = p.voluntary,
			       .involuntary_switches = p.involuntary};
}

void mm_usage_add(struct mm_usage *to, const struct mm_usage *more)
{
	to->resident_peak = MAX(to->resident_peak, more->resident_peak);
	to->minor_faults += more->minor_faults;
	to->major_faults += more->major_faults;
	to->voluntary_switches += more->voluntary_switches;
	to->involuntary_switches += more->involuntary_switches;
}

int mm_pagemap_open(struct mm *mm)
{
	return open_host_proc(mm, "pagemap");
}

size_t mm_page_bits(int pagemap, uint64_t addr, uint64_t *bits, size_t n)
{
	const uint64_t shown = MM_PAGE_PRESENT | MM_PAGE_SWAPPED | MM_PAGE_FILE |
			       MM_PAGE_EXCLUSIVE | MM_PAGE_SOFT_DIRTY;

	if (pagemap < 0)
		return 0;
	ssize_t got = pread(pagemap, bits, n * 8, (off_t)(addr / PAGE_SIZE * 8));
	size_t known = got > 0 ? (size_t)got / 8 : 0;
	for (size_t i = 0; i < known; i++)
		bits[i] &= shown;
	return known;
}
