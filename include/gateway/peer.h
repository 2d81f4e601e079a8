/* SPDX-License-Identifier: Apache-2.0 */
/* Asks the kernel who is at the other end of a Unix socket, once, at accept. */
#ifndef GATEWAY_PEER_H
#define GATEWAY_PEER_H

#include "common/err.h"

struct identity;

/* SO_PEERCRED and SO_PEERGROUPS. 0 and *out (to be released with identity_fini), or a negative errno: then the peer is
 * nobody and must be turned away. */
MUST_CHECK int peer_identify(int fd, struct identity *out);

#endif
