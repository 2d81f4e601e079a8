/* SPDX-License-Identifier: Apache-2.0 */
/* Asks the kernel who is at the other end of a connection, once, at accept. */
#ifndef GATEWAY_PEER_H
#define GATEWAY_PEER_H

#include <stddef.h>

#include "common/err.h"

struct config;
struct identity;

/* A Unix socket's SO_PEERCRED and SO_PEERGROUPS. 0 and *out (to be released with identity_fini), or a negative errno:
 * then the peer is nobody and must be turned away. */
MUST_CHECK int peer_identify(int fd, struct identity *out);

/*
 * The uid of the socket at the other end of an accepted loopback TCP connection, of which no byte was read yet; `diag` is
 * from sock_diag_open. 0 and *out, or a negative errno: -ENOTCONN when it is not, or no longer, an established socket of
 * a living process, whose owner nobody can tell.
 */
MUST_CHECK int peer_identify_tcp(int fd, int diag, struct identity *out);

/*
 * Adds exe and unit of the process that connected a Unix socket, read in a way that pids in use again cannot deceive.
 * Where that cannot be had (it has ended, it is another's by now, its executable is not the file of that name here) they
 * stay NULL. 0 or -ENOMEM.
 */
MUST_CHECK int peer_read_traits(int fd, struct identity *id);

/*
 * A pidfd of the process that connected a Unix socket, the caller's; or -EACCES when nobody can tell for certain which one that
 * is (over TCP, out of sight, perhaps another user's by now), -ESRCH when it has ended, or another errno.
 */
MUST_CHECK int peer_open_process(int fd, const struct identity *id);

/*
 * Whether this process may learn what the rules ask for: ids as they are (no user namespace in between), exe and unit of
 * those whom the rules can match. 0, or -EPERM and `why` for people. Asked before anything is accepted.
 */
MUST_CHECK int peer_check_rights(const struct config *c, char *why, size_t why_size);

#endif
