/*
 * What is remembered about a container between commands: ROOT/ID.json, written whole and renamed
 * into place, under the lock ROOT/ID.lock (flock).  ROOT/ID.sock is the sandbox's control socket;
 * into ROOT/ID.status the sandbox writes the container's wait status when it ends.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "oci/err.h"
#include "sentry/lib/cleanup.h"

enum status { STATUS_CREATING, STATUS_CREATED, STATUS_RUNNING, STATUS_STOPPED };

struct state {
	char *id, *bundle;
	enum status status; /* as last written; state_status() is the truth */
	pid_t pid, gofer_pid;
	/* Start times of the two (proc(5), stat field 22): numbers are used again. */
	uint64_t pid_start, gofer_start;
	char *created; /* RFC 3339 */
	char *owner;
	json_t *annotations; /* object */
	json_t *spec;	     /* what later commands need: "process" and "hooks" of config.json */
};

void state_fini(struct state *s);
#define CLEANUP_STATE CLEANUP(state_fini)

int state_check_id(const char *id, struct err *e) MUST_CHECK;
/*
 * Takes the container's lock: a descriptor to close, or < 0.  `create` makes it (and ROOT);
 * otherwise -ENOENT: no such container.
 */
int state_lock(const char *id, bool create, struct err *e) MUST_CHECK;
/* *out is zeroed before, and to be finished after, whatever the result.  -ENOENT. */
int state_load(const char *id, struct state *out, struct err *e) MUST_CHECK;
int state_save(const struct state *s, struct err *e) MUST_CHECK;
/* The file for the sandbox's wait status, empty: a descriptor to close, or < 0. */
int state_status_create(const char *id, struct err *e) MUST_CHECK;
/* How the container of a sandbox that has gone ended.  -ENODATA: it died before it could say. */
int state_status_read(const char *id, int *status, struct err *e) MUST_CHECK;
/* Removes state, socket, status and lock file; the lock is still held. */
void state_remove(const char *id);
/* Ids with state, sorted, NULL-terminated; state_ids_free's. */
char **state_ids(struct err *e);
void state_ids_free(char **ids);

const char *status_name(enum status s);
/* Looks whether the sandbox still lives. */
enum status state_status(const struct state *s);
/* 0: no such process. */
uint64_t process_start_time(pid_t pid);
/* Kills both processes and waits until they are gone: 0 or -ETIMEDOUT. */
int state_kill_processes(const struct state *s) MUST_CHECK;
/* The OCI state object. */
json_t *state_json(const struct state *s, enum status status);

/* The control socket: made by create, connected to by all others. */
int state_listen(const char *id, struct err *e) MUST_CHECK;
int state_connect(const char *id, struct err *e) MUST_CHECK;
