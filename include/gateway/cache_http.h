/* SPDX-License-Identifier: Apache-2.0 */
/* What HTTP says of caching: what a request asks for, what of an answer may be remembered, how it is told where one came from. */
#ifndef GATEWAY_CACHE_HTTP_H
#define GATEWAY_CACHE_HTTP_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/str.h"

struct http_head;

/* Of a request (RFC 9111 5.2.1). */
struct cache_wish {
	bool no_cache;       /* only what the server says now will do */
	bool no_store;       /* nothing of the answer is to be remembered */
	uint64_t max_age_ms; /* older ones will not do; UINT64_MAX: not said */
};
/* The same look finds the User-Agent, which is appended to `user_agent`. */
void cache_http_wish(const struct http_head *request, struct cache_wish *out, struct buf *user_agent);

/* Of a response (RFC 9111 3, stricter). */
struct cache_leave {
	bool store;            /* it may be remembered, once its body has come whole */
	uint64_t age_ms;       /* that it has already */
	uint64_t fresh_max_ms; /* it is not fresh for longer; UINT64_MAX: not said */
};
/*
 * A 200 whose end is marked, without Set-Cookie, without a part, and of which Cache-Control and Vary say nothing that would
 * make it another's or a later one's.
 */
struct cache_leave cache_http_leave(const struct http_head *response);

/*
 * Appends those lines of a response head (status line and header lines) that stay true of a body that is changed, and with
 * `again` of an answer that is given again.
 */
void cache_http_keep_lines(struct str head, bool again, struct buf *out);

/* Where an answer came from (RFC 9211 2). */
enum cache_way {
	CACHE_HIT,
	CACHE_MISS,    /* nothing was remembered */
	CACHE_STALE,   /* what was remembered is too old */
	CACHE_REQUEST, /* the request asked for it to be fetched */
	CACHE_BYPASS,  /* nothing is remembered here */
};

struct cache_status {
	enum cache_way way;
	bool stored;
	bool collapsed;      /* one fetch served others as well */
	unsigned fwd_status; /* what the server said, where that is not what is answered; 0: nothing to say */
	bool has_age;        /* the answer is a remembered one: */
	uint64_t age_ms;
	uint64_t fresh_ms;
	const char *detail; /* a literal, a token; NULL: none */
};

/* Appends Cache-Status and, of a remembered answer, Age. */
void cache_http_write(const struct cache_status *s, struct buf *out);

#endif
