/* SPDX-License-Identifier: Apache-2.0 */
/* Finds the socket of the gateway. */
#ifndef CLI_SOCKET_PATH_H
#define CLI_SOCKET_PATH_H

#include <stddef.h>

#include "cli/fault.h"
#include "common/err.h"

enum {
	SOCKET_PATH_SIZE = 4096
};

/*
 * STACYGATE_SOCKET, else the first that exists of $XDG_RUNTIME_DIR/stacygate.sock and
 * /run/stacygate/stacygate.sock. 0, or -1 with a fault that names what was looked for.
 */
MUST_CHECK int socket_path_find(char out[SOCKET_PATH_SIZE], struct fault *f);

/* After a connect that `err`, EACCES or EPERM, forbade: says who may use the socket. Always -1. */
int socket_path_forbidden(const char *path, int err, struct fault *f);

#endif
