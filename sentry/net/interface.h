/*
 * The network interfaces that a guest sees: there is one, lo.  Source: netdevice(7).
 */
#pragma once

#include <stdint.h>

struct task;

#define LOOPBACK_NAME "lo"
#define LOOPBACK_INDEX 1
#define LOOPBACK_MTU 65536

/* SIOCGIF*, of any socket.  -ENOTTY: not such a request; -ENODEV: no such interface. */
long interface_ioctl(struct task *t, unsigned cmd, uint64_t arg);
