/* SPDX-License-Identifier: Apache-2.0 */
/* Brings a spawn to its end whose client has left: waits for its answer and destroys the sandbox that nobody claims. */
#ifndef GATEWAY_ORPHAN_H
#define GATEWAY_ORPHAN_H

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/http_parse.h"
#include "common/list.h"
#include "common/str.h"

struct key;
struct limiter_owner;
struct loop;
struct upstream;
struct upstream_conn;

/* All orphans of the daemon, and what became of them. */
struct orphanage {
	struct loop *loop;   /* borrowed */
	struct list orphans; /* struct orphan */
	size_t count;
	uint64_t adopted;
	uint64_t destroyed;          /* sandboxes */
	uint64_t nothing;            /* answers without a sandbox */
	uint64_t lost;               /* no answer came, or the sandbox could not be destroyed */
	void (*on_empty)(void *arg); /* the last one is gone; may be NULL */
	void *arg;
};

/* What an exchange hands over. Borrowed for the call but for the lease. */
struct orphan_case {
	struct upstream *upstream;
	struct key *key; /* NULL: none */
	const char *user_id;
	const char *request_id;
	const struct http_parser *parser; /* of the response, as far as it has come */
	unsigned status;                  /* of the response; 0: its head is not complete */
	struct limiter_owner *limits;     /* whose spawn under way it is, to be given back; NULL: it is not counted */
	struct str received;              /* unfinished head, or the body so far without its framing */
};

void orphanage_init(struct orphanage *o, struct loop *loop);

/* Takes the lease over; *conn becomes NULL in any case. Without memory the connection is closed and the case is lost. */
void orphanage_adopt(struct orphanage *o, const struct orphan_case *c, struct upstream_conn **conn);

/* Gives all of them up; each counts as lost. */
void orphanage_abandon(struct orphanage *o);

#endif
