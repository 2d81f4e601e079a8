/* SPDX-License-Identifier: Apache-2.0 */
/* Counts what each owner has under way, so that one rule's limits hold over all of an owner's connections and rules. */
#ifndef GATEWAY_LIMITER_H
#define GATEWAY_LIMITER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"

struct config_limits;
struct limiter;
struct limiter_owner;

enum {
	LIMITER_OWNERS_MAX = 32768 /* at once */
};

/* The limits that are counted here. */
enum limiter_limit {
	LIMITER_CONNECTIONS,
	LIMITER_CONCURRENT_REQUESTS,
	LIMITER_REQUESTS_PER_SECOND,
	LIMITER_SANDBOXES,
	LIMITER_LIMITS,
};

/* The key that it has: "requests_per_second". */
const char *limiter_limit_text(enum limiter_limit limit);

/* Why something was not taken. */
struct limiter_refusal {
	const char *limit;      /* literal: the key to change, "limits.requests_per_second" */
	unsigned retry_after_s; /* at least 1 */
};

/* NULL without memory. */
struct limiter *limiter_new(void);

/* No owner is referenced any more. NULL is fine. */
void limiter_free(struct limiter *l);

/*
 * The entry of an owner (its user id), with one more reference; looked up once per connection. It lives while it is
 * referenced or something is taken, and one second longer, so that who connects anew for each request has no fresh
 * allowance. NULL without memory or when there are LIMITER_OWNERS_MAX. now_ns is monotonic time, here and below.
 */
struct limiter_owner *limiter_owner_ref(struct limiter *l, const char *owner, uint64_t now_ns);

/* Gives one reference back. */
void limiter_owner_unref(struct limiter_owner *o, uint64_t now_ns);

/*
 * Each take counts one and holds the entry, or changes nothing, says why and returns false. The limits are those of the
 * rule of this request, 0 being none; what is counted is the owner's, whatever rules it came by. A give takes back one.
 */

/* A connection, within limits.connections. */
bool limiter_connection_take(struct limiter_owner *o, const struct config_limits *limits, struct limiter_refusal *why);
void limiter_connection_give(struct limiter_owner *o, uint64_t now_ns);

/*
 * A request, within limits.concurrent_requests and limits.requests_per_second, of which one second's may come at once.
 * One refused because of the first does not count for the second.
 */
bool limiter_request_take(struct limiter_owner *o, const struct config_limits *limits, uint64_t now_ns,
			  struct limiter_refusal *why);
void limiter_request_give(struct limiter_owner *o, uint64_t now_ns);

/*
 * A spawn under way, within limits.sandboxes; `present` is how many sandboxes of the owner the caller knows of beside
 * those, lost spawns that it watches for included. It is given back when the spawn is answered and the sandbox, if it
 * became one, is among those present.
 */
bool limiter_spawn_take(struct limiter_owner *o, const struct config_limits *limits, uint64_t present,
			struct limiter_refusal *why);
void limiter_spawn_give(struct limiter_owner *o, uint64_t now_ns);

/* For status. */
struct limiter_counts {
	uint64_t connections, requests, spawns; /* taken and not given back */
};
struct limiter_counts limiter_owner_counts(const struct limiter_owner *o);

/* The caller has counted himself that one more would be too many. */
void limiter_note_refused(struct limiter_owner *o, enum limiter_limit limit);
/* How often that limit has refused something. */
uint64_t limiter_refused(const struct limiter *l, enum limiter_limit limit);

/* How many owners there are, idle ones included. For tests: nothing else shows that an idle one goes when it should. */
uint64_t limiter_owners(const struct limiter *l);

#endif
