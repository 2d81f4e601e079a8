/* SPDX-License-Identifier: Apache-2.0 */
/* Which header lines pass through the gateway, and which are its own to set. */
#ifndef GATEWAY_HEADERS_H
#define GATEWAY_HEADERS_H

#include <stdbool.h>

#include "common/err.h"
#include "common/str.h"

struct http_head;

/* More names than this in a Connection header is an attack, not a message. */
enum {
	HEADERS_CONNECTION_MAX = 32
};

/* The names that a head's Connection header declares hop-by-hop (RFC 9110 7.6.1). */
struct headers_hop {
	size_t n;
	struct str names[HEADERS_CONNECTION_MAX]; /* borrowed from the head */
};

/* 0, or -E2BIG when there are more than HEADERS_CONNECTION_MAX. */
MUST_CHECK int headers_hop_collect(const struct http_head *head, struct headers_hop *out);

/*
 * Whether a client's header goes upstream: not what is hop by hop, frames the message, names a credential or an
 * identity, claims a forwarding path, or is meant for the gateway. '_' counts as '-', since some servers fold them.
 */
bool headers_pass_request(struct str name, const struct headers_hop *hop);

/* Whether an upstream's header goes to the client. */
bool headers_pass_response(struct str name, const struct headers_hop *hop);

/*
 * The same for previews, which carry nothing of ours: of a request all but what is hop by hop, frames the message, or has a name
 * that speaks to the gateway or the server; of an answer all but the first two and what is named as if it were ours.
 */
bool headers_pass_preview_request(struct str name, const struct headers_hop *hop);
bool headers_pass_preview_response(struct str name, const struct headers_hop *hop);

/*
 * Whether a client's Accept asks for the media type `type` before it asks for `usual`, the only other one that there is
 * (RFC 9110 12.5.1; weights are not looked at, but for 0). Without an Accept it does not.
 */
bool headers_prefer(const struct http_head *head, struct str type, struct str usual);

#endif
