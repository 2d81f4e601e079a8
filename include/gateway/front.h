/* SPDX-License-Identifier: Apache-2.0 */
/* A client connection with its identity, its rule, and the one request that is under way on it. */
#ifndef GATEWAY_FRONT_H
#define GATEWAY_FRONT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/err.h"
#include "common/list.h"
#include "common/loop.h"
#include "gateway/client.h"
#include "gateway/control.h"
#include "gateway/enforce.h"
#include "gateway/gather.h"
#include "gateway/orphan.h"

struct limiter;
struct logs;
struct names;
struct snapshot;

/* Open connections of one uid. */
struct front_uid {
	struct list link; /* on front_shared.uids */
	uid_t uid;
	uint64_t connections;  /* never 0 */
	uint64_t bodies_bytes; /* of request bodies that are read whole now */
};

/* What all fronts share; owned by the gateway. */
struct front_shared {
	struct loop *loop;         /* borrowed */
	struct names *names;       /* borrowed */
	struct snapshot *snapshot; /* owned reference; the one in force */
	struct logs *logs;         /* borrowed; NULL: nothing is written of requests */
	struct client_shared clients;
	struct orphanage orphanage;
	struct gather_shared gather; /* of bodies that are read whole */
	struct enforce_shared enforce;
	struct limiter *limiter; /* owned */
	struct control_stats stats;
	struct list fronts; /* every open connection */
	struct list uids;   /* struct front_uid */
	struct list texts;  /* struct front_text: names that many connections share */
	unsigned long long next_id;
	void (*on_idle)(void *arg); /* called when the last connection and the last orphan have gone */
	void *arg;
};

/* 0 or -ENOMEM; front_shared_fini is right in either case. */
MUST_CHECK int front_shared_init(struct front_shared *s, struct loop *loop, struct names *names);
/* After the last connection has gone. */
void front_shared_fini(struct front_shared *s);

/* Puts a new snapshot in force (a reference is taken): each connection's next request is judged by it. */
void front_use_snapshot(struct front_shared *s, struct snapshot *snapshot);

/*
 * Takes an accepted descriptor. `listener` names where it came in, borrowed for the call; `diag` is listener_diag(), -1 for
 * a Unix socket.
 */
void front_accept(struct front_shared *s, int fd, const char *listener, int diag);

/* Closes what is idle, and every other connection after its present request. */
void front_drain_all(struct front_shared *s);
/* Whether nothing is under way. */
bool front_is_idle(const struct front_shared *s);
/* Ends every connection now, and gives up every orphan. */
void front_cut_all(struct front_shared *s);

#endif
