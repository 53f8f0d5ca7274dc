/*
 * AF_INET and AF_INET6 inside the sandbox: TCP and UDP over the loopback interface.  Source: ip(7),
 * ipv6(7), tcp(7), udp(7).
 *
 * There is one interface, lo, with 127.0.0.0/8 and ::1; every other destination is ENETUNREACH.
 * Both ends of a connection are in this kernel, so no packet is ever made: what is sent is put in
 * the receiver's queue.
 */
#pragma once

#include "sentry/net/socket.h"

extern const struct net_family inet_family, inet6_family;
