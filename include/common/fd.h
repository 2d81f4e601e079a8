/* SPDX-License-Identifier: Apache-2.0 */
/* Small things done with descriptors: flags, whole files, passing them to another process. */
#ifndef COMMON_FD_H
#define COMMON_FD_H

#include <stddef.h>
#include <sys/types.h>

#include "common/buf.h"
#include "common/err.h"

MUST_CHECK int fd_set_nonblock(int fd);
/* Clears or sets FD_CLOEXEC. 0 or negative errno. */
MUST_CHECK int fd_set_cloexec(int fd, int on);

/* Closes *fd if it is not -1 and makes it -1. */
void fd_close(int *fd);

/* Reads to the end, at most `limit` bytes (-EFBIG beyond), blocking. 0 or negative errno. */
MUST_CHECK int fd_read_all(int fd, size_t limit, struct buf *out);

/* Writes all of it, blocking. 0 or negative errno. */
MUST_CHECK int fd_write_all(int fd, const void *p, size_t n);

/*
 * Writes what a pipe, terminal, socket or file takes without waiting, whatever the flags of the descriptor are: how many bytes,
 * or -errno when not one (-EAGAIN: it would have to wait). On a blocking pipe another writer can still come in between;
 * process_own_stderr is the way out.
 */
MUST_CHECK ssize_t fd_write_now(int fd, const void *p, size_t n);

/* Sends n bytes (at least 1) and up to FD_PASS_MAX descriptors as one message; the caller keeps his. Bytes or -errno. */
enum {
	FD_PASS_MAX = 8
};
MUST_CHECK ssize_t fd_send(int sock, const void *p, size_t n, const int *fds, size_t nfds);

/*
 * Receives bytes and descriptors (CLOEXEC, now the caller's); *nfds is the room in fds, then how many came. What
 * came beyond the room is closed. Never waits if sock is non-blocking. Bytes, 0 at the end, or -errno.
 */
MUST_CHECK ssize_t fd_recv(int sock, void *p, size_t n, int *fds, size_t *nfds);

#endif
