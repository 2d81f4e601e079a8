/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/socket_path.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/unix_socket.h"

#define SYSTEM_SOCKET "/run/stacygate/stacygate.sock"

static int check_length(const char *path, struct fault *f)
{
	if (strlen(path) <= UNIX_SOCKET_PATH_MAX)
		return 0;
	return fault_set(f, FAULT_ERROR, "CONNECTION_ERROR", "the socket's path is longer than %d bytes: %s",
			 UNIX_SOCKET_PATH_MAX, path);
}

static int take(char out[SOCKET_PATH_SIZE], const char *path, struct fault *f)
{
	snprintf(out, SOCKET_PATH_SIZE, "%s", path);
	return check_length(path, f);
}

int socket_path_find(char out[SOCKET_PATH_SIZE], struct fault *f)
{
	const char *given = getenv("STACYGATE_SOCKET");
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	char mine[SOCKET_PATH_SIZE] = "$XDG_RUNTIME_DIR/stacygate.sock (XDG_RUNTIME_DIR is not set)";

	if (given && *given)
		return take(out, given, f);
	if (runtime && *runtime) {
		snprintf(mine, sizeof(mine), "%s/stacygate.sock", runtime);
		if (access(mine, F_OK) == 0)
			return take(out, mine, f);
	}
	if (access(SYSTEM_SOCKET, F_OK) == 0)
		return take(out, SYSTEM_SOCKET, f);
	return fault_set(f, FAULT_ERROR, "CONNECTION_ERROR",
			 "no gateway found: neither %s nor %s exists; is stacygated running? "
			 "STACYGATE_SOCKET names another socket",
			 mine, SYSTEM_SOCKET);
}
