/*
 * Files about the whole machine that tools read and that hold little in a sandbox: it has one
 * memory zone, no disks, no interrupts of its own, no kernel symbols, and nobody measures pressure.
 */
#include <errno.h>
#include <sys/sysinfo.h>

#include "sentry/fs/proc/internal.h"
#include "sentry/kernel/run.h"

static uint64_t free_pages(void)
{
	struct sysinfo si;

	return sysinfo(&si) ? 0 : (uint64_t)si.freeram * MAX(si.mem_unit, 1u) / PAGE_SIZE;
}

static uint64_t all_pages(void)
{
	struct sysinfo si;

	return sysinfo(&si) ? 0 : (uint64_t)si.totalram * MAX(si.mem_unit, 1u) / PAGE_SIZE;
}

/* What the text is, the same at any time. */
static int show_fixed(struct text *out, void *arg)
{
	text_puts(out, arg);
	return 0;
}

/* The names that vmstat(8), sar(1) and the like look for. */
static int show_vmstat(struct text *out, void *arg)
{
	static const char *const zeros[] = {"nr_zone_inactive_anon",
					    "nr_zone_active_anon",
					    "nr_zone_inactive_file",
					    "nr_zone_active_file",
					    "nr_zone_unevictable",
					    "nr_zone_write_pending",
					    "nr_mlock",
					    "nr_free_cma",
					    "numa_hit",
					    "numa_miss",
					    "numa_foreign",
					    "numa_interleave",
					    "numa_local",
					    "numa_other",
					    "nr_inactive_anon",
					    "nr_active_anon",
					    "nr_inactive_file",
					    "nr_active_file",
					    "nr_unevictable",
					    "nr_slab_reclaimable",
					    "nr_slab_unreclaimable",
					    "nr_isolated_anon",
					    "nr_isolated_file",
					    "nr_anon_pages",
					    "nr_mapped",
					    "nr_file_pages",
					    "nr_dirty",
					    "nr_writeback",
					    "nr_shmem",
					    "nr_anon_transparent_hugepages",
					    "nr_vmscan_write",
					    "nr_dirtied",
					    "nr_written",
					    "nr_kernel_stack",
					    "nr_page_table_pages",
					    "nr_swapcached",
					    "nr_dirty_threshold",
					    "nr_dirty_background_threshold",
					    "pgpgin",
					    "pgpgout",
					    "pswpin",
					    "pswpout",
					    "pgalloc_normal",
					    "allocstall_normal",
					    "pgfree",
					    "pgactivate",
					    "pgdeactivate",
					    "pgfault",
					    "pgmajfault",
					    "pgrefill",
					    "pgreuse",
					    "pgsteal_kswapd",
					    "pgsteal_direct",
					    "pgscan_kswapd",
					    "pgscan_direct",
					    "pginodesteal",
					    "slabs_scanned",
					    "kswapd_inodesteal",
					    "pageoutrun",
					    "pgrotated",
					    "drop_pagecache",
					    "drop_slab",
					    "pgmigrate_success",
					    "pgmigrate_fail",
					    "compact_stall",
					    "compact_fail",
					    "compact_success",
					    "thp_fault_alloc",
					    "thp_fault_fallback",
					    "thp_collapse_alloc",
					    "thp_split_page",
					    "swap_ra",
					    "swap_ra_hit"};

	(void)arg;
	text_printf(out, "nr_free_pages %llu\n", (unsigned long long)free_pages());
	for (size_t i = 0; i < ARRAY_SIZE(zeros); i++)
		text_printf(out, "%s 0\n", zeros[i]);
	text_printf(out, "oom_kill %lu\n", atomic_load(&kernel->oom_kills));
	return 0;
}

static int show_zoneinfo(struct text *out, void *arg)
{
	unsigned long long all = all_pages(), min = all / 512;

	(void)arg;
	text_printf(out,
		    "Node 0, zone   Normal\n  per-node stats\n      nr_inactive_anon 0\n"
		    "      nr_active_anon 0\n      nr_inactive_file 0\n      nr_active_file 0\n"
		    "  pages free     %llu\n        boost    0\n        min      %llu\n"
		    "        low      %llu\n        high     %llu\n        spanned  %llu\n"
		    "        present  %llu\n        managed  %llu\n        cma      0\n"
		    "        protection: (0, 0, 0, 0, 0)\n      nr_free_pages %llu\n  pagesets\n",
		    (unsigned long long)free_pages(), min, min * 5 / 4, min * 3 / 2, all, all, all,
		    (unsigned long long)free_pages());
	for (unsigned i = 0; i < kernel->ncpus; i++)
		text_printf(out,
			    "    cpu: %u\n              count:    0\n              high:     0\n"
			    "              batch:    63\n  vm stats threshold: 32\n",
			    i);
	text_puts(out, "  node_unreclaimable:  0\n  start_pfn:           1\n");
	return 0;
}

/* Free blocks of 2^0 … 2^10 pages: all of it in the largest. */
static int show_buddyinfo(struct text *out, void *arg)
{
	(void)arg;
	text_puts(out, "Node 0, zone   Normal ");
	for (int order = 0; order < 10; order++)
		text_puts(out, "     0 ");
	text_printf(out, "%6llu \n", (unsigned long long)free_pages() >> 10);
	return 0;
}

static void put_cpus(struct text *out, const char *indent, const char *format)
{
	text_puts(out, indent);
	for (unsigned i = 0; i < kernel->ncpus; i++)
		text_printf(out, format, i);
	text_putc(out, '\n');
}

static int show_interrupts(struct text *out, void *arg)
{
	static const struct {
		const char *name, *text;
	} rows[] = {
		{"NMI", "Non-maskable interrupts"}, {"LOC", "Local timer interrupts"},
		{"RES", "Rescheduling interrupts"}, {"CAL", "Function call interrupts"},
		{"TLB", "TLB shootdowns"},
	};

	(void)arg;
	put_cpus(out, "           ", "CPU%-8u");
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		text_printf(out, "%s:", rows[i].name);
		for (unsigned cpu = 0; cpu < kernel->ncpus; cpu++)
			text_puts(out, "          0");
		text_printf(out, "   %s\n", rows[i].text);
	}
	text_puts(out, "ERR:          0\nMIS:          0\n");
	return 0;
}

static int show_softirqs(struct text *out, void *arg)
{
	static const char *const names[] = {"HI",	"TIMER",   "NET_TX", "NET_RX",	"BLOCK",
					    "IRQ_POLL", "TASKLET", "SCHED",  "HRTIMER", "RCU"};

	(void)arg;
	put_cpus(out, "                    ", "CPU%-8u");
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		text_printf(out, "%12s:", names[i]);
		for (unsigned cpu = 0; cpu < kernel->ncpus; cpu++)
			text_puts(out, "          0");
		text_putc(out, '\n');
	}
	return 0;
}

/* kernel/sched/stats.c: 9 numbers a CPU; no domains. */
static int show_schedstat(struct text *out, void *arg)
{
	(void)arg;
	text_printf(out, "version 15\ntimestamp %lld\n",
		    (long long)(time_boottime() - kernel->boot_boottime) / (NSEC_PER_SEC / 250));
	for (unsigned i = 0; i < kernel->ncpus; i++)
		text_printf(out, "cpu%u 0 0 0 0 0 0 0 0 0\n", i);
	return 0;
}

#define FILE_OPS(name) static const struct synth_file_ops name##_ops = {.show = show_##name}
FILE_OPS(fixed);
FILE_OPS(vmstat);
FILE_OPS(zoneinfo);
FILE_OPS(buddyinfo);
FILE_OPS(interrupts);
FILE_OPS(softirqs);
FILE_OPS(schedstat);

static char no_text[] = "";
static char cgroups[] = "#subsys_name\thierarchy\tnum_cgroups\tenabled\n"
			"pids\t0\t1\t1\n";
static char partitions[] = "major minor  #blocks  name\n\n";
static char execdomains[] = "0-0\tLinux           \t[kernel]\n";
static char slabinfo[] = "slabinfo - version: 2.1\n"
			 "# name            <active_objs> <num_objs> <objsize> <objperslab> "
			 "<pagesperslab> : tunables <limit> <batchcount> <sharedfactor> : slabdata "
			 "<active_slabs> <num_slabs> <sharedavail>\n";
static char pressure[] = "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
			 "full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";
static char tty_drivers[] = "/dev/tty             /dev/tty        5       0 system:/dev/tty\n"
			    "/dev/console         /dev/console    5       1 system:console\n"
			    "/dev/ptmx            /dev/ptmx       5       2 system\n"
			    "pty_slave            /dev/pts      136 0-1048575 pty:slave\n"
			    "pty_master           /dev/ptm      128 0-1048575 pty:master\n";

int proc_add_system(struct inode *root)
{
	static const struct synth_table table[] = {
		{"buddyinfo", 0444, &buddyinfo_ops, NULL},
		{"cgroups", 0444, &fixed_ops, cgroups},
		{"consoles", 0444, &fixed_ops, no_text},
		{"diskstats", 0444, &fixed_ops, no_text},
		{"execdomains", 0444, &fixed_ops, execdomains},
		{"interrupts", 0444, &interrupts_ops, NULL},
		{"kallsyms", 0444, &fixed_ops, no_text},
		{"misc", 0444, &fixed_ops, no_text},
		{"partitions", 0444, &fixed_ops, partitions},
		{"schedstat", 0444, &schedstat_ops, NULL},
		{"slabinfo", 0400, &fixed_ops, slabinfo},
		{"softirqs", 0444, &softirqs_ops, NULL},
		{"vmstat", 0444, &vmstat_ops, NULL},
		{"zoneinfo", 0444, &zoneinfo_ops, NULL},
		{NULL, 0, NULL, NULL},
	};
	/* Triggers, which writing sets on Linux, are refused. */
	static const struct synth_table pressures[] = {
		{"cpu", 0444, &fixed_ops, pressure},
		{"io", 0444, &fixed_ops, pressure},
		{"memory", 0444, &fixed_ops, pressure},
		{NULL, 0, NULL, NULL},
	};
	static const struct synth_table ttys[] = {
		{"drivers", 0444, &fixed_ops, tty_drivers},
		{NULL, 0, NULL, NULL},
	};
	struct inode *dir;
	int err = synth_add_table(root, table);

	if (err || (err = synth_add_dir(root, "pressure", 0555, &dir)) ||
	    (err = synth_add_table(dir, pressures)) ||
	    (err = synth_add_dir(root, "tty", 0555, &dir)))
		return err;
	return synth_add_table(dir, ttys);
}
