/* SPDX-License-Identifier: Apache-2.0 */
#include "common/loopback.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "common/fd.h"
#include "common/sock_diag.h"

/* How often another free port is tried when the first is somebody's on the other address. */
enum {
	FREE_PORT_TRIES = 32
};

/* Binds and listens. 0, or a negative errno. */
static int listen_on(int *fd, const struct sockaddr *address, socklen_t size, int backlog)
{
	int one = 1;

	*fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (*fd < 0)
		return -errno;
	/* After a restart connections of before may still be in TIME_WAIT. */
	if (setsockopt(*fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0)
		return -errno;
	if (address->sa_family == AF_INET6 && setsockopt(*fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)) < 0)
		return -errno;
	return bind(*fd, address, size) < 0 || listen(*fd, backlog) < 0 ? -errno : 0;
}

static int take_port(struct loopback *l)
{
	struct sockaddr_in bound;
	socklen_t size = sizeof(bound);

	if (getsockname(l->fds[0], (struct sockaddr *)&bound, &size) < 0)
		return -errno;
	l->port = ntohs(bound.sin_port);
	return 0;
}

static int listen_on_both(uint16_t port, int backlog, struct loopback *l, char *why, size_t why_size)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	const char *address = "127.0.0.1";
	int rc = listen_on(&l->fds[0], (const struct sockaddr *)&v4, sizeof(v4), backlog);

	l->port = port;
	if (rc == 0)
		rc = take_port(l);
	if (rc == 0) {
		address = "[::1]";
		v6.sin6_port = htons(l->port);
		rc = listen_on(&l->fds[1], (const struct sockaddr *)&v6, sizeof(v6), backlog);
		/* A machine without IPv6, or without its loopback. */
		if (rc == -EAFNOSUPPORT || rc == -EADDRNOTAVAIL) {
			fd_close(&l->fds[1]);
			rc = 0;
		}
	}
	if (rc)
		snprintf(why, why_size, "%s:%u: %s%s", address, (unsigned)l->port, strerror(-rc),
			 rc == -EADDRINUSE ? ": both loopback addresses must be free" : "");
	return rc;
}

/* The kernel is asked about the listening socket itself: if it does not know that one, it will know no peer. */
static int check_diag(const struct loopback *l)
{
	struct sockaddr_storage own = {0};
	struct sockaddr_storage nobody = {0};
	socklen_t size = sizeof(own);
	struct sock_diag_owner owner;

	if (getsockname(l->fds[0], (struct sockaddr *)&own, &size) < 0)
		return -errno;
	nobody.ss_family = own.ss_family;
	return sock_diag_find(l->diag, &own, &nobody, &owner);
}

/* Opens what asks the kernel; without it nothing may be accepted. */
static int ask_kernel(struct loopback *l, char *why, size_t why_size)
{
	int rc;

	l->diag = sock_diag_open();
	rc = l->diag < 0 ? l->diag : check_diag(l);
	if (rc == 0)
		return 0;
	snprintf(why, why_size,
		 "127.0.0.1:%u: the kernel does not say whose a socket is (sock_diag, CONFIG_INET_DIAG): %s",
		 (unsigned)l->port, strerror(-rc));
	loopback_close(l);
	return rc;
}

int loopback_listen(uint16_t port, int backlog, struct loopback *out, char *why, size_t why_size)
{
	int tries = port ? 1 : FREE_PORT_TRIES;
	int rc;

	do {
		*out = LOOPBACK_NONE;
		rc = listen_on_both(port, backlog, out, why, why_size);
		if (rc)
			loopback_close(out);
	} while (rc == -EADDRINUSE && --tries > 0);
	return rc ? rc : ask_kernel(out, why, why_size);
}

/* Whether this machine has ::1 at all. */
static bool has_ipv6(void)
{
	struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool has = fd >= 0 && bind(fd, (const struct sockaddr *)&any, sizeof(any)) == 0;

	fd_close(&fd);
	return has;
}

int loopback_adopt(const int fds[LOOPBACK_DOORS], uint16_t port, struct loopback *out, char *why, size_t why_size)
{
	*out = LOOPBACK_NONE;
	out->port = port;
	if (fds[1] < 0 && has_ipv6()) {
		snprintf(why, why_size,
			 "port %u: the socket unit passes 127.0.0.1:%u without [::1]:%u: both loopback addresses must "
			 "be "
			 "ours",
			 (unsigned)port, (unsigned)port, (unsigned)port);
		return -EADDRNOTAVAIL;
	}
	for (size_t i = 0; i < LOOPBACK_DOORS; i++) {
		if (fds[i] < 0)
			continue;
		out->fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
		if (out->fds[i] < 0) {
			int rc = -errno;
			snprintf(why, why_size, "port %u: %s", (unsigned)port, strerror(-rc));
			loopback_close(out);
			return rc;
		}
	}
	return ask_kernel(out, why, why_size);
}

void loopback_close(struct loopback *l)
{
	for (size_t i = 0; i < LOOPBACK_DOORS; i++)
		fd_close(&l->fds[i]);
	/* An error code is no descriptor. */
	if (l->diag >= 0)
		fd_close(&l->diag);
	*l = LOOPBACK_NONE;
}

static bool is_established(int fd)
{
	struct tcp_info info;
	socklen_t size = sizeof(info);

	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 && info.tcpi_state == TCP_ESTABLISHED;
}

int loopback_peer_uid(int fd, int diag, uid_t *uid)
{
	struct sockaddr_storage peer, own;
	socklen_t peer_size = sizeof(peer);
	socklen_t own_size = sizeof(own);
	struct sock_diag_owner owner;
	int rc;

	if (getpeername(fd, (struct sockaddr *)&peer, &peer_size) < 0 ||
	    getsockname(fd, (struct sockaddr *)&own, &own_size) < 0)
		return -errno;
	rc = sock_diag_find(diag, &peer, &own, &owner);
	if (rc)
		return rc == -ENOENT ? -ENOTCONN : rc;
	/* A socket that was closed is owned by 0, and has no inode. */
	if (owner.state != TCP_ESTABLISHED || owner.inode == 0)
		return -ENOTCONN;
	/* If this end was reset meanwhile, the port may be somebody else's already, and so the answer. */
	if (!is_established(fd))
		return -ENOTCONN;
	*uid = owner.uid;
	return 0;
}
