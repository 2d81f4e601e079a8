/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/socket_path.h"

#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/unix_socket.h"

#define SYSTEM_SOCKET "/run/stacygate/stacygate.sock"

enum {
	NAME_SIZE = 256 /* of a user or group */
};

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

static void name_group(gid_t gid, char out[NAME_SIZE])
{
	const struct group *group = getgrgid(gid);

	if (group)
		snprintf(out, NAME_SIZE, "%s", group->gr_name);
	else
		snprintf(out, NAME_SIZE, "%u", (unsigned)gid);
}

static void name_user(uid_t uid, char out[NAME_SIZE])
{
	const struct passwd *pw = getpwuid(uid);

	if (pw)
		snprintf(out, NAME_SIZE, "%s", pw->pw_name);
	else
		snprintf(out, NAME_SIZE, "%u", (unsigned)uid);
}

int socket_path_forbidden(const char *path, int err, struct fault *f)
{
	struct stat st;
	char name[NAME_SIZE];

	/* Where everybody may connect it is a directory on the way that forbids it. */
	if (stat(path, &st) < 0 || (st.st_mode & S_IWOTH))
		return fault_set(f, FAULT_ERROR, "CONNECTION_ERROR", "cannot connect to %s: %s", path, strerror(err));
	if (st.st_mode & S_IWGRP) {
		name_group(st.st_gid, name);
		return fault_set(
			f, FAULT_ERROR, "CONNECTION_ERROR",
			"cannot connect to %s: %s: with mode %04o only members of group %s may use it; who has "
			"become one has to log in anew",
			path, strerror(err), (unsigned)(st.st_mode & 07777), name);
	}
	name_user(st.st_uid, name);
	return fault_set(f, FAULT_ERROR, "CONNECTION_ERROR",
			 "cannot connect to %s: %s: with mode %04o only user %s may use it", path, strerror(err),
			 (unsigned)(st.st_mode & 07777), name);
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
