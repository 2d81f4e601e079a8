/* SPDX-License-Identifier: Apache-2.0 */
/* TCP on this machine's loopback addresses: both of them or none, and whose a connection is. */
#ifndef COMMON_LOOPBACK_H
#define COMMON_LOOPBACK_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/err.h"

enum {
	LOOPBACK_DOORS = 2
};

/* What listens. */
struct loopback {
	int fds[LOOPBACK_DOORS]; /* owned; non-blocking; the second is -1 where there is no IPv6 loopback */
	int diag;                /* owned; to ask the kernel whose a peer is */
	uint16_t port;
};

/* Nothing listens. */
#define LOOPBACK_NONE ((struct loopback){.fds = {-1, -1}, .diag = -1})

/*
 * Binds the port on 127.0.0.1 and ::1 and listens: "localhost" means either, and who owned the other would be taken for us.
 * Port 0 is any that is free on both. A kernel that does not say whose a socket is is a fault here. 0 and *out, or a
 * negative errno and `why` for people; then *out is LOOPBACK_NONE.
 */
MUST_CHECK int loopback_listen(uint16_t port, int backlog, struct loopback *out, char *why, size_t why_size);

/*
 * The same for sockets that listen already, bound to 127.0.0.1:port and [::1]:port in this order; they stay the caller's, and
 * *out has copies. The second may be -1 where there is no IPv6 loopback; where there is one it is -EADDRNOTAVAIL.
 */
MUST_CHECK int loopback_adopt(const int fds[LOOPBACK_DOORS], uint16_t port, struct loopback *out, char *why,
			      size_t why_size);

/* Closes what is open. */
void loopback_close(struct loopback *l);

/*
 * The uid of the socket at the other end of an accepted connection, of which no byte was read yet; `diag` is from
 * sock_diag_open. 0 and *uid, or a negative errno: -ENOTCONN when it is not, or no longer, an established socket of a living
 * process, whose owner nobody can tell.
 */
MUST_CHECK int loopback_peer_uid(int fd, int diag, uid_t *uid);

#endif
