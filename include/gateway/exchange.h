/* SPDX-License-Identifier: Apache-2.0 */
/* One request on its way to an upstream and its answer on the way back: the only code that knows both ends. */
#ifndef GATEWAY_EXCHANGE_H
#define GATEWAY_EXCHANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/sm.h"
#include "common/str.h"

struct client;
struct exchange;
struct http_head;
struct key;
struct loop;
struct orphanage;
struct route;
struct target;
struct upstream;

/* How an exchange ended. One row each in exchange.c: text, whether it is an error, and a counter. */
enum exchange_end {
	EXCHANGE_END_DONE,
	EXCHANGE_END_NO_UPSTREAM,  /* 502: no connection */
	EXCHANGE_END_DIAL_TIMEOUT, /* 504 */
	EXCHANGE_END_NO_PLACE,     /* 503: pool and queue full, or waited too long */
	EXCHANGE_END_BROKEN,       /* 502: broke off before a response head, or an unusable one */
	EXCHANGE_END_TIMEOUT,      /* 504: no response head in time */
	EXCHANGE_END_CUT,          /* broke off, or stood still too long, after its head */
	EXCHANGE_END_CLIENT_GONE,
	EXCHANGE_END_REQUEST_FAULT, /* the request broke down within its body */
	EXCHANGE_END_NO_MEMORY,
	EXCHANGE_ENDS,
};

const char *exchange_end_text(enum exchange_end end);
bool exchange_end_is_error(enum exchange_end end);

/* What the client is entitled to; borrowed for the call of exchange_new. */
struct exchange_grant {
	struct upstream *upstream;
	struct key *key;             /* sent as X-API-Key, loaded; NULL: none */
	struct key *admin_key;       /* sent as X-Admin-API-Key, loaded; NULL: none */
	const char *user_id;         /* sent as X-User-ID; borrowed until on_end */
	uint64_t heartbeat_ms;       /* on idle NDJSON and SSE; 0: none */
	struct orphanage *orphanage; /* for spawns whose client leaves; outlives the exchange; NULL: they end with it */
};

/* The request; borrowed for the call of exchange_new. */
struct exchange_request {
	const struct http_head *head;
	const struct target *target;
	const struct route *route;
	const char *request_id;
	uint64_t timeout_ms; /* for the whole exchange, waiting included; 0: none */
};

struct exchange_report {
	enum exchange_end end;
	unsigned status;          /* what the client was answered; 0: nothing */
	unsigned upstream_status; /* 0: none came */
	uint64_t bytes_up;        /* request body */
	uint64_t bytes_down;      /* response body, as on the wire */
	bool repeated;            /* sent a second time */
};

struct exchange_events {
	/* Once; the exchange is freed afterwards and must not be used. The client has been told by then. */
	void (*on_end)(void *arg, const struct exchange_report *report);
};

/*
 * Makes an exchange. The client's further callbacks are passed on by the functions below. 0 and *out; -ENOMEM, or -E2BIG
 * when the head names more hop-by-hop headers than anybody means: then the client is still to be answered.
 */
MUST_CHECK int exchange_new(struct loop *loop, struct client *client, const struct exchange_grant *grant,
			    const struct exchange_request *request, const struct exchange_events *events, void *arg,
			    struct exchange **out);

/* Begins; on_end may be called from within. */
void exchange_start(struct exchange *e);

void exchange_body(struct exchange *e, const char *p, size_t n);
void exchange_body_end(struct exchange *e);
/*
 * The request broke down: nothing more of it comes. Returns whether the caller answers the client; if the upstream's answer
 * had begun, that has been cut instead.
 */
MUST_CHECK bool exchange_abort(struct exchange *e);
void exchange_drained(struct exchange *e);
void exchange_gone(struct exchange *e);

/* The table of states, for the test that walks it. */
const struct sm *exchange_sm(void);

#endif
