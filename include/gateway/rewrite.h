/* SPDX-License-Identifier: Apache-2.0 */
/* Writes the head that goes upstream and the one that goes to the client, from what was parsed of the other side's. */
#ifndef GATEWAY_REWRITE_H
#define GATEWAY_REWRITE_H

#include <stdbool.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/str.h"

struct http_head;
struct secret;

struct rewrite_request {
	const struct http_head *head;
	struct str target;              /* origin form, byte for byte */
	const char *authority;          /* for Host */
	const struct secret *key;       /* for X-API-Key; NULL: none */
	const struct secret *admin_key; /* for X-Admin-API-Key; NULL: none */
	const char *user_id;            /* for X-User-ID */
	const char *request_id;         /* for X-Request-ID */
	const char *trace_lines;        /* in place of the client's traceparent and tracestate; NULL: his pass */
	bool whole;                     /* what asks for the answer encoded, in part or only if changed does not pass */
	bool websocket;                 /* the upgrade to it is passed on (RFC 6455 4.1) */
};

/*
 * Everything but framing and the empty line: request line, Host, the client's headers that may pass, then ours. 0, or
 * -E2BIG when Connection names more headers than anybody means.
 */
MUST_CHECK int rewrite_request_head(const struct rewrite_request *r, struct buf *out);

/*
 * The client's header lines that may pass, for a request that the gateway makes of his; none that asks for an answer encoded, in
 * part or only if changed, and with `traced` none of his trace. 0 or -E2BIG as above.
 */
MUST_CHECK int rewrite_request_lines(const struct http_head *head, bool traced, struct buf *out);

/*
 * Puts other keys into a head that was written with some, whatever stands behind it; NULL leaves that one as it is. Without
 * memory `request` fails as additions do. What held the old ones is wiped.
 */
void rewrite_request_keys(struct buf *request, const struct secret *key, const struct secret *admin_key);

/*
 * The head of a preview's request, credential-free: everything but Host, framing and the empty line. Each has a connection of its
 * own, so it says that it is the last. As above.
 */
MUST_CHECK int rewrite_preview_head(const struct rewrite_request *r, struct buf *out);

/* Puts Host into such a head, whatever stands behind it. Without memory `request` fails as additions do. */
void rewrite_preview_host(struct buf *request, const char *host);

struct rewrite_response {
	const struct http_head *head;
	bool websocket;                 /* the headers of the handshake's answer pass as well (RFC 6455 4.2.2) */
	const struct secret *key;       /* what was sent as X-API-Key; NULL: nothing */
	const struct secret *admin_key; /* and as X-Admin-API-Key */
	bool preview;                   /* it is a sandbox's own: what is not hop by hop passes */
};

/*
 * Status line and the upstream's headers that may pass; without framing, without ours. A header that holds a key we sent
 * is dropped; bodies are passed on as they are, so a server that shows keys in them shows them to its clients.
 */
void rewrite_response_head(const struct rewrite_response *r, struct buf *out);

#endif
