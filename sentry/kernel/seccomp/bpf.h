/*
 * Classic BPF as seccomp(2) takes it: which programs are filters, and what one answers.
 *
 * Pure computation: programs are private copies, data is the call's.  A program that bpf_check()
 * accepted ends after at most its length of steps and touches nothing but its scratch words.
 * Source: seccomp(2), the kernel's Documentation/networking/filter.rst.
 */
#pragma once

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>

#include "sentry/lib/compiler.h"

#define BPF_PROGRAM_MAX 4096

/* 0, or -EINVAL: not a program that the kernel would take as a seccomp filter. */
int bpf_check(const struct sock_filter *prog, size_t len) MUST_CHECK;
/* The action that a checked program returns for this call. */
uint32_t bpf_run(const struct sock_filter *prog, const struct seccomp_data *data);
