/* SPDX-License-Identifier: Apache-2.0 */
/* A client connection with its identity, its rule, and the one request that is under way on it. */
#ifndef GATEWAY_FRONT_H
#define GATEWAY_FRONT_H

#include <stdbool.h>

#include "common/err.h"
#include "gateway/front_shared.h"

struct journal;

/* 0 or -ENOMEM; front_shared_fini is right in either case. */
MUST_CHECK int front_shared_init(struct front_shared *s, struct loop *loop, struct dialer *dialer, struct names *names);
/* After the last connection has gone. */
void front_shared_fini(struct front_shared *s);

/* Puts a new snapshot in force (a reference is taken): each connection's next request is judged by it. */
void front_use_snapshot(struct front_shared *s, struct snapshot *snapshot);

/*
 * What outlives the process: records of the journal (borrowed; kept in it from front_restore on), and, once, before anything is
 * accepted and with a snapshot in force, what becomes of them.
 */
void front_recall(struct front_shared *s, struct str key, struct str value);
void front_restore(struct front_shared *s, struct journal *journal);
/* The embedded server was started anew. */
void front_local_restarted(struct front_shared *s);

/*
 * Takes an accepted descriptor. `listener` names where it came in, borrowed for the call; `diag` is listener_diag(), -1 for
 * a Unix socket.
 */
void front_accept(struct front_shared *s, int fd, const char *listener, int diag);

/*
 * A reload gives listeners other names, or takes them away: `new_name` says the one that goes with an old one, borrowed, NULL where
 * it stays, "" (which no configuration has) where the listener goes. Connections have it with the next snapshot, from their
 * next request on.
 */
void front_rename_listeners(struct front_shared *s, const char *(*new_name)(void *arg, const char *name), void *arg);

/* At most so many descriptors go to front_store_idle's `store` at a time. */
enum {
	FRONT_STORE_MAX = 128
};

/*
 * Has idle connections stored for the next process: `store` gets their descriptors, borrowed, and says whether to go on. They stay open here; front_drain_all closes them.
 */
void front_store_idle(struct front_shared *s, bool (*store)(void *arg, const int *fds, size_t n), void *arg);

/* Closes what is idle, and every other connection after its present request. */
void front_drain_all(struct front_shared *s);
/* Whether nothing is under way. */
bool front_is_idle(const struct front_shared *s);
/* Ends every connection now. */
void front_cut_all(struct front_shared *s);

#endif
