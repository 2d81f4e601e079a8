/* SPDX-License-Identifier: Apache-2.0 */
/* Binds and dials Unix stream sockets by path. */
#ifndef COMMON_UNIX_SOCKET_H
#define COMMON_UNIX_SOCKET_H

#include <stddef.h>
#include <sys/types.h>

#include "common/err.h"

/* Longest path a socket address holds, in bytes without the terminator (unix(7)). */
enum {
	UNIX_SOCKET_PATH_MAX = 107
};

struct unix_socket_spec {
	const char *path; /* borrowed; absolute */
	mode_t mode;      /* permission bits */
	uid_t uid;        /* owner; (uid_t)-1 keeps */
	gid_t gid;        /* group; (gid_t)-1 keeps */
	int backlog;
};

/*
 * Binds and listens: nobody can connect before mode and owner are right (bind under umask 0177, chown, chmod,
 * listen). A socket that nobody listens on is replaced; one that answers is refused (-EADDRINUSE), and so is a path
 * that holds something else (-EEXIST) or lies in a directory that others may write to (-EPERM; sticky is fine).
 * Returns the descriptor (non-blocking, CLOEXEC) or a negative errno, then `why` says it for people.
 */
MUST_CHECK int unix_socket_listen(const struct unix_socket_spec *spec, char *why, size_t why_size);

/* Connects, blocking; the descriptor (CLOEXEC) or a negative errno. */
MUST_CHECK int unix_socket_connect(const char *path);

/* Connects without waiting; the descriptor (CLOEXEC, non-blocking) or a negative errno, -EAGAIN when the backlog is full. */
MUST_CHECK int unix_socket_connect_now(const char *path);

#endif
