/*
 * The network interfaces that a guest sees: there is one, lo.  Source: netdevice(7).
 */
#pragma once

#include <stdint.h>

struct ns;
struct task;

#define LOOPBACK_NAME "lo"
#define LOOPBACK_INDEX 1
#define LOOPBACK_MTU 65536

/* SIOCGIF* and SIOCSIFFLAGS, of any socket; net: its namespace, or NULL.  -ENOTTY: not such a
 * request; -ENODEV: no such interface; -EPERM; -EADDRNOTAVAIL: lo was never up. */
long interface_ioctl(struct ns *net, struct task *t, unsigned cmd, uint64_t arg);
