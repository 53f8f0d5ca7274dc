/*
 * AF_UNIX inside the sandbox.  Source: unix(7).
 *
 * Abstract names are the sandbox's own and path names belong to socket inodes of the guest's file
 * systems: nothing reaches a socket of the host.
 */
#pragma once

#include "sentry/net/socket.h"

extern const struct net_family unix_family;
