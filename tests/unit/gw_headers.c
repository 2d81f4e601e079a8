/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/headers, gateway/request_id, gateway/route: small decisions about one request, as tables. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/buf.h"
#include "common/http_parse.h"
#include "gateway/headers.h"
#include "gateway/request_id.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const struct headers_hop no_hop = {0};

/* A client's credentials, identity, framing and hop-by-hop headers stay behind, in any case, with _ for -. */
Test(gw_headers, dropped_from_requests)
{
	static const char *const names[] = {
		"X-API-Key",
		"x-api-key",
		"X-API-KEY",
		"X_API_Key",
		"X-Api_Key",
		"X-Admin-API-Key",
		"X-User-ID",
		"x_user_id",
		"X-Tenant-ID",
		"Authorization",
		"Cookie",
		"X-Worker-ID",
		"X-Worker-Token",
		"X-Worker-Anything",
		"X-Forwarded-For",
		"X-Forwarded-Host",
		"X-Forwarded-Proto",
		"X-Real-IP",
		"True-Client-IP",
		"Forwarded",
		"X-Original-URL",
		"X-Rewrite-URL",
		"X-HTTP-Method-Override",
		"X-HTTP-Method",
		"X-Method-Override",
		"Connection",
		"Keep-Alive",
		"Proxy-Authorization",
		"Proxy-Connection",
		"TE",
		"Trailer",
		"Transfer-Encoding",
		"Content-Length",
		"Upgrade",
		"HTTP2-Settings",
		"Host",
		"Expect",
		"Stacygate-Timeout",
		"Stacygate-Lease",
		"Stacygate-Anything",
		"Idempotency-Key",
		"X-Request-ID",
	};

	for (size_t i = 0; i < COUNT(names); i++)
		cr_expect_not(headers_pass_request(str_from(names[i]), &no_hop), "%s passes", names[i]);
}

/* What is nobody's business passes. */
Test(gw_headers, kept_in_requests)
{
	static const char *const names[] = {
		"Accept", "Accept-Encoding", "User-Agent", "Content-Type", "Content-Encoding", "If-None-Match",
		"Range",  "X-Custom",        "X-API-Keys", "X-User",       "Cookies",          "Via",
		"T",      "Cache-Control-X"};

	for (size_t i = 0; i < COUNT(names); i++)
		cr_expect(headers_pass_request(str_from(names[i]), &no_hop), "%s is dropped", names[i]);
}

/* H8: of responses too: hop by hop, framing, and what only the gateway says. */
Test(gw_headers, responses)
{
	static const char *const dropped[] = {"Connection",      "Keep-Alive",        "Proxy-Authenticate", "TE",
					      "Trailer",         "Transfer-Encoding", "Content-Length",     "Upgrade",
					      "Stacygate-Error", "Stacygate-Clamped", "X-Request-ID"};
	static const char *const kept[] = {"Content-Type", "ETag",     "Date",  "Retry-After",
					   "Location",     "X-Custom", "Allow", "Content-Encoding"};

	for (size_t i = 0; i < COUNT(dropped); i++)
		cr_expect_not(headers_pass_response(str_from(dropped[i]), &no_hop), "%s passes", dropped[i]);
	for (size_t i = 0; i < COUNT(kept); i++)
		cr_expect(headers_pass_response(str_from(kept[i]), &no_hop), "%s is dropped", kept[i]);
}

static int collect(const char *message, struct headers_hop *hop, struct http_head *head, bool pass[2])
{
	struct http_parser p;
	size_t n;
	int rc;

	http_parser_init(&p, HTTP_REQUEST);
	cr_assert_eq(http_parse_head(&p, message, strlen(message), head, &n), HTTP_DONE);
	rc = headers_hop_collect(head, hop);
	pass[0] = headers_pass_request(STR("x-one"), hop);
	pass[1] = headers_pass_request(STR("X-Two"), hop);
	return rc;
}

/* H5: what Connection names, in any case, on any of its lines, with any white space, is hop by hop. */
Test(gw_headers, named_by_connection)
{
	struct http_head *head = malloc(sizeof(*head));
	struct headers_hop hop;
	struct buf big = BUF_EMPTY;
	bool pass[2];

	cr_assert_not_null(head);
	cr_expect_eq(collect("GET / HTTP/1.1\r\nHost: h\r\nConnection: close ,\tX-ONE,,\r\nConnection: x-two\r\n\r\n",
			     &hop, head, pass),
		     0);
	cr_expect(!pass[0] && !pass[1]);
	cr_expect_eq(collect("GET / HTTP/1.1\r\nHost: h\r\nConnection: x-on, x-twoo\r\n\r\n", &hop, head, pass), 0);
	cr_expect(pass[0] && pass[1]);
	buf_add_cstr(&big, "GET / HTTP/1.1\r\nHost: h\r\nConnection: a");
	for (unsigned i = 0; i < 4000; i++)
		buf_add_cstr(&big, ",t");
	buf_add(&big, "\r\n\r\n", 5);
	cr_expect_eq(collect(buf_data(&big), &hop, head, pass), -E2BIG);
	buf_fini(&big);
	free(head);
}

/* The first type in an Accept that there is decides; a weight of 0 takes one out. */
Test(gw_headers, preference)
{
	static const struct {
		const char *accept; /* NULL: none */
		bool stream;        /* rather than JSON */
	} rows[] = {
		{NULL, false},
		{"text/event-stream", true},
		{"TEXT/Event-Stream;q=0.1", true},
		{"text/*", true},
		{"text/html, text/event-stream", true},
		{"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", false},
		{"application/json, text/event-stream", false},
		{"application/*, text/event-stream", false},
		{"*/*", false},
		{"text/event-stream;q=0", false},
		{"text/event-stream ; q=0, text/*", true},
		{"text", false},
		{"text/", false},
		{"xext/*", false},
		{"", false},
		{",,text/event-stream", true},
	};
	static struct http_head head; /* large */

	for (size_t i = 0; i < COUNT(rows); i++) {
		head.nheaders = rows[i].accept ? 1 : 0;
		head.headers[0] = (struct http_header){STR("Accept"), str_from(rows[i].accept)};
		cr_expect_eq(headers_prefer(&head, STR("text/event-stream"), STR("application/json")), rows[i].stream,
			     "%s", rows[i].accept ? rows[i].accept : "none");
	}
}

/* A client's request id is kept when it is short and plain. */
Test(gw_headers, request_ids)
{
	static const char *const good[] = {"a", "abc-123_DEF.4", "0"};
	static const char *const bad[] = {"", "a b", "a\tb", "a/b", "\"a\"", "<a>", "a,b", "a\x80"};
	char id[REQUEST_ID_MAX_BYTES + 1], other[REQUEST_ID_MAX_BYTES + 1], longest[130];

	for (size_t i = 0; i < COUNT(good); i++)
		cr_expect(request_id_is_good(str_from(good[i])), "%s", good[i]);
	for (size_t i = 0; i < COUNT(bad); i++)
		cr_expect_not(request_id_is_good(str_from(bad[i])), "%s", bad[i]);
	memset(longest, 'a', sizeof(longest));
	cr_expect(request_id_is_good(str_of(longest, 128)));
	cr_expect_not(request_id_is_good(str_of(longest, 129)));
	for (unsigned i = 0; i < 3000; i++) {
		request_id_make(id);
		cr_assert_eq(strlen(id), 36);
		cr_assert_eq(strspn(id, "0123456789abcdef-"), 36, "%s", id);
		cr_assert_eq(strcspn(id + 9, "-"), 4);
		cr_assert(id[14] == '4' && strchr("89ab", id[19]) && id[8] == '-' && id[23] == '-', "%s", id);
		cr_assert(request_id_is_good(str_from(id)));
		if (i)
			cr_assert_str_neq(id, other);
		memcpy(other, id, sizeof(id));
	}
}
