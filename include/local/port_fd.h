/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors of connected ports, passed by an init that is not to be believed: received, judged, closed. */
#ifndef LOCAL_PORT_FD_H
#define LOCAL_PORT_FD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "common/err.h"

enum {
	PORT_FD_NONE = -1,
	PORT_FD_LOST = -2, /* one was passed, and this process has no room for it */
	PORT_FD_MANY = -3, /* more than one came at once; all are closed */
};

/*
 * Receives without waiting, as recv(): bytes, 0 at the end, or -errno. *fd is the descriptor that came with them (CLOEXEC,
 * now the caller's) or one of the values above.
 */
MUST_CHECK ssize_t port_fd_recv(int sock, void *p, size_t n, int *fd);

/* Whether it is what an init may pass: a connected TCP socket that does not listen. */
bool port_fd_is_connection(int fd);

/* Closes *fd if it is one, without waiting for anything, and makes it PORT_FD_NONE. No event of it may be left. */
void port_fd_close(int *fd);

#endif
