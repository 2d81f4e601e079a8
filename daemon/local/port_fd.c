/* SPDX-License-Identifier: Apache-2.0 */
#include "local/port_fd.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	ROOM = 8 /* descriptors of one message; the kernel closes what is beyond */
};

union control {
	char bytes[CMSG_SPACE(ROOM * sizeof(int))];
	struct cmsghdr align;
};

/* The first of `count` descriptors; the others are closed. */
static int take_first(const unsigned char *data, size_t count)
{
	int first = PORT_FD_NONE;

	for (size_t i = 0; i < count; i++) {
		int fd;
		memcpy(&fd, data + i * sizeof(int), sizeof(int));
		if (i == 0)
			first = fd;
		else
			port_fd_close(&fd);
	}
	return first;
}

ssize_t port_fd_recv(int sock, void *p, size_t n, int *fd)
{
	union control control;
	struct iovec iov = {.iov_base = p, .iov_len = n};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control.bytes,
			     .msg_controllen = sizeof(control.bytes)};
	ssize_t got = recvmsg(sock, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	size_t came = 0;

	*fd = PORT_FD_NONE;
	if (got < 0)
		return -errno;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		came += count;
		port_fd_close(fd);
		*fd = take_first(CMSG_DATA(c), count);
	}
	if (came > 1) {
		port_fd_close(fd);
		*fd = PORT_FD_MANY;
	} else if (came == 0 && (msg.msg_flags & MSG_CTRUNC)) {
		*fd = PORT_FD_LOST;
	}
	return got;
}

static int option(int fd, int level, int name)
{
	int value = -1;
	socklen_t size = sizeof(value);

	return getsockopt(fd, level, name, &value, &size) < 0 ? -1 : value;
}

bool port_fd_is_connection(int fd)
{
	struct sockaddr_storage peer;
	socklen_t size = sizeof(peer);
	int domain = option(fd, SOL_SOCKET, SO_DOMAIN);

	return (domain == AF_INET || domain == AF_INET6) && option(fd, SOL_SOCKET, SO_TYPE) == SOCK_STREAM &&
	       option(fd, SOL_SOCKET, SO_PROTOCOL) == IPPROTO_TCP && option(fd, SOL_SOCKET, SO_ACCEPTCONN) == 0 &&
	       getpeername(fd, (struct sockaddr *)&peer, &size) == 0;
}

void port_fd_close(int *fd)
{
	const struct linger none = {0};

	/* Whoever passed it may have made close() wait until all was sent; on what is no socket this does nothing. */
	if (*fd >= 0) {
		(void)setsockopt(*fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
		close(*fd);
	}
	*fd = PORT_FD_NONE;
}
