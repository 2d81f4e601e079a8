/* SPDX-License-Identifier: Apache-2.0 */
/* Accepts connections on one Unix socket, or on one port of both loopback addresses. */
#ifndef GATEWAY_LISTENER_H
#define GATEWAY_LISTENER_H

#include <stdbool.h>
#include <stddef.h>

#include "common/err.h"

struct activation;
struct config_listener;
struct listener;
struct loop;

/*
 * Begins to accept on what a service manager passed for this entry (`passed`, borrowed for the call; NULL: nothing). Otherwise
 * binds the socket, makes its missing parent directory, or binds the port on 127.0.0.1 and ::1. on_accept gets each new
 * descriptor (non-blocking, CLOEXEC) and owns it. 0, or a negative errno and `why` for people.
 */
MUST_CHECK int listener_start(struct loop *loop, const struct config_listener *config, struct activation *passed,
			      void (*on_accept)(void *arg, struct listener *l, int fd), void *arg,
			      struct listener **out, char *why, size_t why_size);

/* Its name, borrowed. */
const char *listener_name(const struct listener *l);
/* Its path or address for people, borrowed. */
const char *listener_where(const struct listener *l);
/* TCP: the socket to ask by whose a peer is (sock_diag), borrowed; -1 for a Unix socket. */
int listener_diag(const struct listener *l);

/* Whether a connection was accepted on this very address. */
bool listener_accepted(const struct listener *l, int fd);

/* Whether a configuration entry means this very socket, so that a reload keeps it, whatever its name and mode are now. */
bool listener_same(const struct listener *l, const struct config_listener *config);

/*
 * A reload in two steps. The first makes ready for the name that the entry has and sees whether the socket could be given to its
 * group: 0, or a negative errno and `why` for people. Nothing changes until the second, which takes name, mode and group over; what
 * the kernel refuses nevertheless is logged and stays as it was.
 */
MUST_CHECK int listener_offer(struct listener *l, const struct config_listener *config, char *why, size_t why_size);
void listener_adopt(struct listener *l);
/* The reload comes to nothing: so does the offer. */
void listener_withdraw(struct listener *l);
/* The name that was offered; NULL when it is the present one. Borrowed until the next step. */
const char *listener_offered_name(const struct listener *l);

/* Stops accepting for good, unlinks the socket if it was bound here and is still ours, frees. NULL is fine. */
void listener_stop(struct listener *l);

#endif
