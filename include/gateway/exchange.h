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

struct buf;
struct client;
struct exchange;
struct gather_shared;
struct http_head;
struct key;
struct loop;
struct route;
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
	EXCHANGE_END_DRAIN,         /* the daemon stops, and it was not done within drain_timeout */
	EXCHANGE_END_REVOKED,       /* a reload no longer admits it */
	EXCHANGE_END_REQUEST_FAULT, /* the request broke down within its body */
	EXCHANGE_END_REFUSED,       /* by what shapes it */
	EXCHANGE_END_NO_MEMORY,
	EXCHANGE_ENDS,
};

const char *exchange_end_text(enum exchange_end end);
/* Whether its line in the log is a warning. */
bool exchange_end_is_error(enum exchange_end end);

/* What the client is entitled to; borrowed for the call of exchange_new. */
struct exchange_grant {
	struct upstream *upstream;
	struct key *key;              /* sent as X-API-Key, loaded; NULL: none */
	struct key *admin_key;        /* sent as X-Admin-API-Key, loaded; NULL: none */
	const char *user_id;          /* sent as X-User-ID; borrowed until on_end */
	uint64_t heartbeat_ms;        /* on idle NDJSON and SSE; 0: none */
	struct gather_shared *gather; /* for bodies that are read whole; outlives it */
	uint64_t *uid_bodies_bytes;   /* of such bodies in memory, of the caller's uid; borrowed until on_end */
};

/* What becomes of a response's body. */
enum exchange_use {
	EXCHANGE_PASS,
	EXCHANGE_FILTER,  /* on_data decides what passes */
	EXCHANGE_REFUSED, /* nothing: exchange_refuse has been called */
};

/* What is done to an exchange's messages on their way; each may be NULL. */
struct exchange_shape {
	/* It is whole. Whoever shapes it calls exchange_send_body or exchange_refuse, now or later. */
	void (*on_whole_body)(void *arg, struct str body);
	/* The head of the final response, before anything of it is passed on; `extra` takes further header lines. */
	enum exchange_use (*on_head)(void *arg, const struct http_head *head, struct buf *extra);
	/* Body bytes without their framing, appended to `out` as far as they pass. False: they cannot be filtered; it is cut. */
	bool (*on_data)(void *arg, struct str data, bool last, struct buf *out);
};

/* The request; borrowed for the call of exchange_new. */
struct exchange_request {
	const struct http_head *head;
	struct str target; /* origin form */
	const struct route *route;
	const char *request_id;
	const char *trace_lines; /* header lines of its trace, in place of the client's; NULL: his pass */
	uint64_t timeout_ms;     /* for the whole exchange, waiting included; 0: none */
	bool no_upgrade;         /* a WebSocket that it asks for is not asked of the upstream */
	bool whole;              /* the answer is looked into, so it is asked for whole and as it is */
	bool preview; /* for a sandbox's program: nothing of ours is added; exchange_take_way comes before the start */
	bool gather;  /* the body is read whole, at most GATHER_MAX_BYTES, and given to on_whole_body */
	const struct exchange_shape *shape; /* borrowed until on_end; NULL: nothing is done to it */
	void *shape_arg;
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

/* The daemon stops, and will cut this: a stream that gets heartbeats is told so, by a comment (SSE) or a blank line. */
void exchange_draining(struct exchange *e);

/*
 * Lets it go upstream at the end of the turn, once it is known that it may; until then it takes what its client sends, up
 * to the usual bounds.
 */
void exchange_start(struct exchange *e);

/* Of a preview, not yet started: where it goes (a reference is taken) and what Host says there. False without memory. */
MUST_CHECK bool exchange_take_way(struct exchange *e, struct upstream *way, const char *host);

/* Until it is started nothing of its body is taken. */
void exchange_hold_body(struct exchange *e);

/* After on_whole_body: what is sent as its body. on_end may be called from within. */
void exchange_send_body(struct exchange *e, struct str body);

/* It may not go on: the client is answered with that error. Before a response head was passed on. Ends it. */
void exchange_refuse(struct exchange *e, unsigned status, const char *fmt, ...) PRINTF_LIKE(3, 4);

void exchange_body(struct exchange *e, const char *p, size_t n);
void exchange_body_end(struct exchange *e);
/*
 * The request broke down: nothing more of it comes. Returns whether the caller answers the client; if the upstream's answer
 * had begun, that has been cut instead.
 */
MUST_CHECK bool exchange_abort(struct exchange *e);
void exchange_drained(struct exchange *e);
void exchange_gone(struct exchange *e, enum exchange_end why);

/* The table of states, for the test that walks it. */
const struct sm *exchange_sm(void);

#endif
