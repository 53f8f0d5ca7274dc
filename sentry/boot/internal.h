/* What the files of boot/ share. */
#pragma once

#include "sentry/boot/boot.h"
#include "sentry/boot/wire.h"
#include "sentry/kernel/task.h"

struct gofer_conn;

/* A line for the person who started us, kept with the error that is returned. */
struct boot_error {
	char msg[512];
};
int boot_fail(struct boot_error *be, int err, const char *fmt, ...) PRINTF_LIKE(3, 4);

/*
 * Where the parts of the sentry need each other upwards, they leave a pointer for boot to fill;
 * what they show of the host is read here, before it is out of sight.  join.c
 */
struct sysfs_options;
int join_parts(void) MUST_CHECK;
const struct sysfs_options *join_sysfs_options(void);

/* The mount namespace of the container.  mounts.c */
/* mkdir -p with mode 0755. */
/* The same for all but the last component. */
int boot_make_parents(const struct walk_env *env, const char *path) MUST_CHECK;
int boot_mkdir_all(const struct walk_env *env, const char *path) MUST_CHECK;
int boot_mounts_make(const struct boot_config *c, struct gofer_conn *gofer, struct mnt_ns **out,
		     struct boot_error *be) MUST_CHECK;

/* linux.devices and linux.sysctl in the finished tree.  tailor.c */
int boot_devices_make(const struct walk_env *env, char *const *devices,
		      struct boot_error *be) MUST_CHECK;
int boot_sysctls_set(const struct walk_env *env, char *const *sysctls,
		     struct boot_error *be) MUST_CHECK;

/*
 * Makes a process that is ready to start.  p->stdio are consumed, also on failure; `is_init` gives
 * it a controlling terminal and the container's id limits.  process.c
 */
int boot_process_create(struct container *ct, struct boot_process *p, struct thread_group **out,
			struct boot_error *be) MUST_CHECK;

/* Serves until the container's first process has ended: its wait status.  control.c */
struct control {
	const struct boot_config *config;
	struct container *container;
	struct thread_group *init; /* reference */
	struct gofer_conn *gofer;
};
int control_init(void) MUST_CHECK; /* before confinement */
int control_serve(struct control *ctl);
void control_gofer_dead(void *arg); /* hook of the gofer's connection; any thread */
void control_process_lost(void);
void control_platform_dead(const char *why); /* hook of the platform; static text; any thread */
/* The first frame to the starter. */
int control_report(int owner_fd, const struct boot_error *be) MUST_CHECK; /* NULL: all is well */

/* Text for `debug --stacks`; malloc'ed.  stacks.c */
char *stacks_text(void);
/* … for `debug --stats`. */
char *stats_text(void);
json_t *ps_list(struct container *ct); /* ps.c */
json_t *usage_object(void);	       /* usage.c */
