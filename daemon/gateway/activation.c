/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The manager keeps its own descriptors of all that it passes, so that nobody is refused while the daemon is stopped. We keep
 * ours as well, and each listener gets a copy: a reload may drop a listener and a later one may want it again.
 */
#include "gateway/activation.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/log.h"
#include "common/str.h"
#include "common/unix_socket.h"
#include "gateway/config.h"

enum {
	FIRST_FD = 3,
	PASSED_MAX = 65536
};

union address {
	struct sockaddr any;
	struct sockaddr_un un;
	struct sockaddr_in in4;
	struct sockaddr_in6 in6;
	struct sockaddr_storage room;
};

/* --- what each of them is ------------------------------------------------------------------------------------------------ */

static int option(int fd, int name)
{
	int value = -1;
	socklen_t size = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, name, &value, &size) < 0 ? -1 : value;
}

/* Unix: its path, where it has one. 0 or -ENOMEM. */
static int read_path(struct activation_socket *s, const union address *at, socklen_t size)
{
	size_t n = size > offsetof(struct sockaddr_un, sun_path) ? size - offsetof(struct sockaddr_un, sun_path) : 0;

	s->kind = ACTIVATION_UNIX;
	if (n == 0 || at->un.sun_path[0] == '\0')
		return 0;
	s->path = strndup(at->un.sun_path, n);
	return s->path ? 0 : -ENOMEM;
}

static void read_port(struct activation_socket *s, const union address *at)
{
	s->kind = ACTIVATION_TCP;
	s->ipv6 = at->any.sa_family == AF_INET6;
	s->port = ntohs(s->ipv6 ? at->in6.sin6_port : at->in4.sin_port);
	s->loopback = s->ipv6 ? IN6_IS_ADDR_LOOPBACK(&at->in6.sin6_addr) != 0
			      : at->in4.sin_addr.s_addr == htonl(INADDR_LOOPBACK);
}

/* A connected stream socket of a kind that listeners accept. */
static bool is_connection(int fd)
{
	union address at = {0};
	socklen_t size = sizeof(at);

	return option(fd, SO_TYPE) == SOCK_STREAM && option(fd, SO_ACCEPTCONN) == 0 &&
	       getpeername(fd, &at.any, &size) == 0 &&
	       (at.any.sa_family == AF_UNIX || at.any.sa_family == AF_INET || at.any.sa_family == AF_INET6);
}

/* 0 or -ENOMEM. */
static int look_at(struct activation_socket *s, const char *stored_name)
{
	union address at = {0};
	socklen_t size = sizeof(at);

	s->kind = ACTIVATION_OTHER;
	if (strcmp(s->name, stored_name) == 0 && is_connection(s->fd)) {
		s->kind = ACTIVATION_CLIENT;
		return 0;
	}
	if (option(s->fd, SO_TYPE) != SOCK_STREAM || option(s->fd, SO_ACCEPTCONN) != 1 ||
	    getsockname(s->fd, &at.any, &size) < 0)
		return 0;
	if (at.any.sa_family == AF_UNIX)
		return read_path(s, &at, size);
	if (at.any.sa_family == AF_INET || at.any.sa_family == AF_INET6)
		read_port(s, &at);
	return 0;
}

/* --- taking them ----------------------------------------------------------------------------------------------------------- */

/* How many were passed to this very process; 0: none. */
static size_t count_passed(void)
{
	const char *pid = getenv("LISTEN_PID");
	const char *count = getenv("LISTEN_FDS");
	uint64_t n;

	if (!pid || !count || str_parse_u64(str_from(pid), &n) || n != (uint64_t)getpid())
		return 0;
	if (str_parse_u64(str_from(count), &n) || n > PASSED_MAX)
		return 0;
	return (size_t)n;
}

static int take_one(struct activation_socket *s, int fd, struct str name, const char *stored_name)
{
	int rc;

	s->fd = fd;
	s->name = name.n ? str_dup(name) : strdup("unknown");
	if (!s->name)
		return -ENOMEM;
	rc = fd_set_cloexec(fd, 1);
	if (rc == 0)
		rc = look_at(s, stored_name);
	if (rc == 0 && s->kind != ACTIVATION_OTHER)
		rc = fd_set_nonblock(fd);
	return rc;
}

void activation_fini(struct activation *a)
{
	for (size_t i = 0; i < a->n; i++) {
		fd_close(&a->sockets[i].fd);
		free(a->sockets[i].name);
		free(a->sockets[i].path);
	}
	free(a->sockets);
	*a = ACTIVATION_NONE;
}

int activation_take(struct activation *a, const char *stored_name)
{
	size_t n = count_passed();
	const char *store = getenv("FDSTORE");
	struct str names = str_from(getenv("LISTEN_FDNAMES"));
	int rc = 0;

	*a = ACTIVATION_NONE;
	a->stores = n && !(store && strcmp(store, "0") == 0);
	if (n) {
		a->sockets = calloc(n, sizeof(*a->sockets));
		rc = a->sockets ? 0 : -ENOMEM;
	}
	for (size_t i = 0; i < n && rc == 0; i++) {
		rc = take_one(&a->sockets[i], FIRST_FD + (int)i, str_cut(&names, ':'), stored_name);
		a->n = i + 1;
	}
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	if (rc)
		activation_fini(a);
	return rc;
}

/* --- giving them to listeners ---------------------------------------------------------------------------------------------- */

static bool is_named(const struct activation_socket *s, const char *name)
{
	return s->fd >= 0 && strcmp(s->name, name) == 0;
}

/* The socket that is bound there, else the first of that name; NULL without. */
static struct activation_socket *find_unix(struct activation *a, const char *name, const char *path)
{
	for (size_t i = 0; i < a->n; i++) {
		struct activation_socket *s = &a->sockets[i];
		if (s->fd >= 0 && s->kind == ACTIVATION_UNIX && s->path && strcmp(s->path, path) == 0)
			return s;
	}
	for (size_t i = 0; i < a->n; i++)
		if (is_named(&a->sockets[i], name))
			return &a->sockets[i];
	return NULL;
}

int activation_unix(struct activation *a, const char *name, const char *wanted, const char **path, char *why,
		    size_t why_size)
{
	struct activation_socket *s = find_unix(a, name, wanted);
	int fd;

	if (!s)
		return -ENOENT;
	if (s->kind != ACTIVATION_UNIX || !s->path) {
		snprintf(why, why_size,
			 "the socket unit passes \"%s\", which is not a listening Unix stream socket with a path",
			 name);
		return -EINVAL;
	}
	fd = fcntl(s->fd, F_DUPFD_CLOEXEC, FIRST_FD);
	if (fd < 0) {
		int rc = -errno;
		snprintf(why, why_size, "%s: %s", s->path, strerror(-rc));
		return rc;
	}
	s->is_wanted = true;
	*path = s->path;
	return fd;
}

/* Those of the port, and without any those of the name; how many were found (the last of each kind counts). */
static size_t find_tcp(struct activation *a, const char *name, uint16_t port, struct activation_socket *found[2])
{
	size_t n = 0;

	found[0] = found[1] = NULL;
	for (int by_name = 0; by_name < 2 && n == 0; by_name++) {
		for (size_t i = 0; i < a->n; i++) {
			struct activation_socket *s = &a->sockets[i];
			bool fits = s->fd >= 0 && s->kind == ACTIVATION_TCP && s->port == port;
			if (by_name)
				fits = is_named(s, name);
			if (!fits)
				continue;
			found[s->kind == ACTIVATION_TCP && s->ipv6] = s;
			n++;
		}
	}
	return n;
}

int activation_tcp(struct activation *a, const char *name, uint16_t port, struct loopback *out, char *why,
		   size_t why_size)
{
	struct activation_socket *found[2];
	int fds[LOOPBACK_DOORS] = {-1, -1};

	if (find_tcp(a, name, port, found) == 0)
		return -ENOENT;
	for (size_t i = 0; i < 2; i++) {
		const struct activation_socket *s = found[i];
		if (s && (s->kind != ACTIVATION_TCP || !s->loopback || s->port != port)) {
			snprintf(why, why_size,
				 "port %u: what the socket unit passes as \"%s\" is not bound to 127.0.0.1:%u or "
				 "[::1]:%u: whoever is not on this machine cannot be told apart",
				 (unsigned)port, s->name, (unsigned)port, (unsigned)port);
			return -EINVAL;
		}
		if (s)
			fds[i] = s->fd;
	}
	if (fds[0] < 0) {
		snprintf(why, why_size,
			 "port %u: the socket unit passes [::1]:%u without 127.0.0.1:%u: both loopback addresses must "
			 "be ours",
			 (unsigned)port, (unsigned)port, (unsigned)port);
		return -EINVAL;
	}
	for (size_t i = 0; i < 2; i++)
		if (found[i])
			found[i]->is_wanted = true;
	return loopback_adopt(fds, port, out, why, why_size);
}

int activation_offer(const struct activation *a, struct config_places *places)
{
	places->passed = calloc(a->n + 1, sizeof(*places->passed));
	if (!places->passed)
		return -ENOMEM;
	for (size_t i = 0; i < a->n; i++) {
		const struct activation_socket *s = &a->sockets[i];
		/* The other address of a port belongs to the same listener. */
		bool is_one = (s->kind == ACTIVATION_UNIX && s->path && strlen(s->path) <= UNIX_SOCKET_PATH_MAX) ||
			      (s->kind == ACTIVATION_TCP && s->loopback && !s->ipv6);
		if (is_one)
			places->passed[places->npassed++] = (struct config_passed){s->name, s->path, s->port};
	}
	return 0;
}

int activation_take_client(struct activation *a)
{
	for (size_t i = 0; i < a->n; i++) {
		struct activation_socket *s = &a->sockets[i];
		int fd = s->fd;
		if (s->kind != ACTIVATION_CLIENT || fd < 0)
			continue;
		s->fd = -1;
		return fd;
	}
	return -1;
}

void activation_close_unwanted(struct activation *a)
{
	for (size_t i = 0; i < a->n; i++) {
		struct activation_socket *s = &a->sockets[i];
		if (s->is_wanted || s->fd < 0)
			continue;
		log_warn("the socket unit passes \"%s\" (%s), which no entry of `listen` names by path, port or name: "
			 "closed",
			 s->name,
			 s->path                     ? s->path
			 : s->kind == ACTIVATION_TCP ? "TCP"
						     : "no listening stream socket");
		fd_close(&s->fd);
	}
}
