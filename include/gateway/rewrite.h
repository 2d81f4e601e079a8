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
	struct str target;        /* origin form, byte for byte */
	const char *authority;    /* for Host */
	const struct secret *key; /* for X-API-Key; NULL: none */
	const char *user_id;      /* for X-User-ID */
	const char *request_id;   /* for X-Request-ID */
	bool whole;               /* what asks for the answer encoded, in part or only if changed does not pass */
	bool websocket;           /* the upgrade to it is passed on (RFC 6455 4.1) */
};

/*
 * Everything but framing and the empty line: request line, Host, the client's headers that may pass, then ours. 0, or
 * -E2BIG when Connection names more headers than anybody means.
 */
MUST_CHECK int rewrite_request_head(const struct rewrite_request *r, struct buf *out);

/*
 * Status line and the upstream's headers that may pass; without framing, without ours. With `websocket` those of the
 * handshake's answer pass as well (RFC 6455 4.2.2).
 */
void rewrite_response_head(const struct http_head *head, bool websocket, struct buf *out);

#endif
