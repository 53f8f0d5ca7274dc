/* From the specification's process to what the sentry runs, and names of capabilities. */
#pragma once

#include "oci/err.h"
#include "oci/spec.h"
#include "sentry/boot/boot.h"

/*
 * stdio is left alone.  Strings are borrowed from the specification; the rest is process_fini's,
 * whatever the result.
 */
int process_from_spec(const struct spec_process *p, const char *file, struct boot_process *out,
		      struct err *e) MUST_CHECK;
/* Runs it in the container at the other end of the control connection; *pid: its number there. */
int process_exec(int control, const struct boot_process *p, const int *stdio, int *pid,
		 struct err *e) MUST_CHECK;
void process_fini(struct boot_process *p);
int capability_lookup(const char *name); /* with or without CAP_, any case; -1: unknown */
const char *capability_name(int cap);	 /* NULL: out of range */
