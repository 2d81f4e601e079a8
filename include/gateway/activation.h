/* SPDX-License-Identifier: Apache-2.0 */
/* The sockets that a service manager passed at the start (sd_listen_fds(3)), by address and by name. */
#ifndef GATEWAY_ACTIVATION_H
#define GATEWAY_ACTIVATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/loopback.h"

struct config_places;

enum activation_kind {
	ACTIVATION_UNIX,   /* a listening Unix stream socket */
	ACTIVATION_TCP,    /* a listening TCP socket */
	ACTIVATION_CLIENT, /* a connection that the process before this one has stored */
	ACTIVATION_OTHER,
};

struct activation_socket {
	int fd;     /* owned; -1: closed */
	char *name; /* owned; FileDescriptorName= of the socket unit, by default the unit's name */
	enum activation_kind kind;
	char *path;     /* owned; Unix: where it is bound; NULL: nowhere that has a path */
	bool loopback;  /* TCP: bound to 127.0.0.1 or ::1 */
	bool ipv6;      /* TCP */
	uint16_t port;  /* TCP */
	bool is_wanted; /* a listener of the configuration has it */
};

struct activation {
	bool stores; /* the manager that passed them keeps connections for the next start as well, or does not say */
	size_t n;
	struct activation_socket *sockets; /* owned; the order is the manager's */
};

/* Nothing was passed. */
#define ACTIVATION_NONE ((struct activation){0})

/*
 * Takes what was passed to this process, and the variables that say so out of the environment; all of it is CLOEXEC and
 * non-blocking. Once, before any descriptor is opened (process_harden may come first). 0, or a negative errno: -EBADF when the
 * variables promise what is not there. A connection of the name `stored_name` is a stored one.
 */
MUST_CHECK int activation_take(struct activation *a, const char *stored_name);
/* Closes what it has. */
void activation_fini(struct activation *a);

/*
 * For a configuration that names no listener: what was passed is what it listens on. places->passed is borrowed from `a`, and
 * freed by config_places_fini. 0 or -ENOMEM.
 */
MUST_CHECK int activation_offer(const struct activation *a, struct config_places *places);

/*
 * A descriptor of its own (CLOEXEC) for the listener of that name or path, of a socket bound to `*path` (borrowed): -ENOENT
 * when none was passed for it, another negative errno and `why` when what was passed cannot be it.
 */
MUST_CHECK int activation_unix(struct activation *a, const char *name, const char *wanted, const char **path, char *why,
			       size_t why_size);
/*
 * The same for a loopback port: both addresses must have been passed, unless this machine has no ::1. 0 and *out, -ENOENT, or
 * another negative errno and `why`.
 */
MUST_CHECK int activation_tcp(struct activation *a, const char *name, uint16_t port, struct loopback *out, char *why,
			      size_t why_size);

/* The next stored connection, now the caller's (CLOEXEC, non-blocking); -1: no more. */
int activation_take_client(struct activation *a);

/* Closes what no listener wanted, and warns of each: who connects there waits for nobody. */
void activation_close_unwanted(struct activation *a);

#endif
