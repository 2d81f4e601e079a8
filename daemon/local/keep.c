/* SPDX-License-Identifier: Apache-2.0 */
#include "local/keep.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/check.h"
#include "common/fd.h"

enum {
	ANSWER_S = 10,
	TRIES = 3,
	BACKLOG = 8
};

#define SOCKET_NAME "keeper"

void kept_free(struct kept *kept)
{
	if (!kept)
		return;
	list_remove(&kept->link);
	for (size_t i = 0; i < KEPT_FDS; i++)
		fd_close(&kept->fds[i]);
	buf_fini(&kept->note);
	free(kept);
}

static void free_all(struct list *all)
{
	while (!list_empty(all))
		kept_free(LIST_FIRST(all, struct kept, link));
}

int keep_tell(int sock, const struct keep_message *m, const int *fds)
{
	size_t nfds = m->type == KEEP_HOLD ? KEPT_FDS : m->type == KEEP_NOTE || m->type == KEEP_LISTEN ? 1 : 0;
	ssize_t n = fd_send(sock, m, sizeof(*m), fds, nfds);

	/* Too many descriptors are on their way: the keeper takes some. */
	if (n == -ETOOMANYREFS)
		return -EAGAIN;
	return n < 0 ? (int)n : 0;
}

int keep_make_note(struct str bytes)
{
	int fd = memfd_create("stacygate-note", MFD_CLOEXEC);

	if (fd < 0)
		return -errno;
	int rc = fd_write_all(fd, bytes.p, bytes.n);
	if (rc)
		fd_close(&fd);
	return rc ? rc : fd;
}

/* --- what the keeper has ----------------------------------------------------------------------------------------- */

/* Takes over the descriptors. */
static int add(struct list *all, const struct keep_message *m, const int *fds)
{
	struct kept *kept = calloc(1, sizeof(*kept));

	if (!kept) {
		for (size_t i = 0; i < KEPT_FDS; i++)
			close(fds[i]);
		return -ENOMEM;
	}
	list_add_tail(all, &kept->link);
	memcpy(kept->id, m->id, sizeof(m->id));
	kept->id[KEEP_ID_MAX] = 0;
	kept->uid = m->uid;
	kept->wire = m->wire;
	memcpy(kept->fds, fds, sizeof(kept->fds));
	/* Its offset is whatever the one who wrote it left. */
	if (lseek(fds[KEPT_NOTE], 0, SEEK_SET) < 0)
		return -errno;
	return fd_read_all(fds[KEPT_NOTE], KEEP_NOTE_MAX, &kept->note);
}

/* 1: that was all; 0: there is more; or a negative errno. */
static int receive_one(int sock, struct list *all)
{
	struct keep_message m;
	int fds[FD_PASS_MAX];
	size_t nfds = FD_PASS_MAX;
	ssize_t n = fd_recv(sock, &m, sizeof(m), fds, &nfds);

	if (n == (ssize_t)sizeof(m) && m.type == KEEP_HOLD && nfds == KEPT_FDS)
		return add(all, &m, fds);
	for (size_t i = 0; i < nfds; i++)
		close(fds[i]);
	if (n == (ssize_t)sizeof(m))
		return m.type == KEEP_END ? 1 : -EMFILE;
	return n < 0 ? (int)n : -ECONNRESET;
}

static int receive_all(int sock, struct list *kept)
{
	struct list all;
	int rc;

	list_init(&all);
	do
		rc = receive_one(sock, &all);
	while (rc == 0);
	while (rc > 0 && !list_empty(&all)) {
		struct list *first = all.next;
		list_remove(first);
		list_add_tail(kept, first);
	}
	free_all(&all);
	return rc < 0 ? rc : 0;
}

/* --- finding it ---------------------------------------------------------------------------------------------------- */

/* By way of the directory's descriptor, since a path may be longer than an address. */
static struct sockaddr_un address_in(int dir)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};

	snprintf(at.sun_path, sizeof(at.sun_path), "/proc/self/fd/%d/" SOCKET_NAME, dir);
	return at;
}

/* A socket to the keeper, -ENOENT where there is none, or another negative errno. */
static int reach(int dir)
{
	const struct sockaddr_un at = address_in(dir);
	const struct timeval limit = {.tv_sec = ANSWER_S};
	int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	int error = 0;

	if (sock < 0)
		return -errno;
	/* A keeper that is stopped does not answer, and its queue of connections may be full. */
	if (setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
	    setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0 ||
	    connect(sock, (const struct sockaddr *)&at, sizeof(at)) < 0)
		error = errno;
	if (error)
		fd_close(&sock);
	return error == ECONNREFUSED || error == ENOENT ? -ENOENT : error ? -error : sock;
}

static int begin(int dir, int fresh)
{
	const struct sockaddr_un at = address_in(dir);
	const struct keep_message m = {.type = KEEP_LISTEN};
	int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	int rc = 0;

	if (listener < 0 || (unlinkat(dir, SOCKET_NAME, 0) < 0 && errno != ENOENT) ||
	    bind(listener, (const struct sockaddr *)&at, sizeof(at)) < 0 || listen(listener, BACKLOG) < 0)
		rc = -errno;
	if (rc == 0)
		rc = keep_tell(fresh, &m, &listener);
	fd_close(&listener);
	return rc;
}

/* 0 and a socket, -1 where there is no keeper; or a negative errno. */
static int find(int dir, int *fresh, struct list *kept, int *sock)
{
	const bool wanted = *fresh >= 0;
	int rc = -ENOENT;

	for (int i = 0; i < TRIES; i++) {
		*sock = reach(dir);
		if (*sock == -ENOENT && *fresh < 0)
			return wanted ? -ECHILD : 0; /* the fresh one has ended already */
		if (*sock == -ENOENT) {
			rc = begin(dir, *fresh);
			fd_close(fresh);
			*sock = rc ? rc : reach(dir);
		}
		if (*sock < 0)
			return *sock;
		rc = receive_all(*sock, kept);
		if (rc == 0)
			return 0;
		fd_close(sock);
		/* Its time was up just now. */
		if (rc != -ECONNRESET && rc != -EPIPE)
			return rc;
	}
	return rc;
}

int keep_open(int dir, int fresh, struct list *kept, int *sock, char *why, size_t why_size)
{
	int rc = find(dir, &fresh, kept, sock);

	fd_close(&fresh);
	if (*sock < 0)
		*sock = -1;
	if (rc == 0 && *sock >= 0)
		rc = fd_set_nonblock(*sock);
	if (rc == 0)
		return 0;
	snprintf(why, why_size, "the keeper of the sandboxes: %s",
		 rc == -EAGAIN ? "it does not answer" : strerror(-rc));
	fd_close(sock);
	free_all(kept);
	return rc == -EPERM ? -EIO : rc;
}
