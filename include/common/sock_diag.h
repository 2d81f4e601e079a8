/* SPDX-License-Identifier: Apache-2.0 */
/* Asks the kernel's table of TCP sockets whose a socket of this machine is. */
#ifndef COMMON_SOCK_DIAG_H
#define COMMON_SOCK_DIAG_H

#include <stdint.h>
#include <sys/types.h>

#include "common/err.h"

struct sockaddr_storage;

struct sock_diag_owner {
	unsigned state; /* of the socket, as TCP_INFO numbers it */
	uid_t uid;      /* whose it is; 0 also when it is nobody's any more */
	uint32_t inode; /* 0: no process holds it */
};

/* A socket to ask by (CLOEXEC), owned by the caller, or a negative errno. */
MUST_CHECK int sock_diag_open(void);

/*
 * Finds the socket that is bound to `own` and connected to `remote` (AF_INET or AF_INET6, both alike). Never waits: the
 * kernel answers within the call. 0 and *out, -ENOENT when there is none, or another negative errno.
 */
MUST_CHECK int sock_diag_find(int diag, const struct sockaddr_storage *own, const struct sockaddr_storage *remote,
			      struct sock_diag_owner *out);

#endif
