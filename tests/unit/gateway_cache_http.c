/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <stdio.h>

#include "common/http_parse.h"
#include "gateway/cache_http.h"

static struct http_head head;
static char text[1024];

static void parse(llhttp_type_t kind, const char *first, const char *lines)
{
	struct http_parser p;
	size_t used;
	int n = snprintf(text, sizeof(text), "%s\r\nHost: h\r\n%s\r\n", first, lines);

	http_parser_init(&p, kind);
	cr_assert_eq(http_parse_head(&p, text, (size_t)n, &head, &used), HTTP_DONE, "%s", text);
}

static const struct {
	const char *lines;
	bool no_cache, no_store;
	uint64_t max_age_ms;
} wishes[] = {
	{"", false, false, UINT64_MAX},
	{"Cache-Control: no-cache\r\n", true, false, UINT64_MAX},
	{"cache-control:NO-CACHE\r\n", true, false, UINT64_MAX},
	{"Cache-Control: foo=\"x\" , no-store,\r\n", false, true, UINT64_MAX},
	{"Cache-Control: x\r\nCache-Control: no-cache\r\n", true, false, UINT64_MAX},
	{"Cache-Control: xno-cache, no-cachex\r\n", false, false, UINT64_MAX},
	{"Cache-Control: max-age=10\r\n", false, false, 10000},
	{"Cache-Control: max-age=\"10\"\r\n", false, false, 10000},
	{"Cache-Control: max-age=0\r\n", true, false, 0},
	{"Cache-Control: max-age=soon\r\n", true, false, 0},
	{"Cache-Control: max-age\r\n", true, false, 0},
	{"Pragma: no-cache\r\n", true, false, UINT64_MAX},
	{"Pragma: x, No-Cache\r\n", true, false, UINT64_MAX},
	{"Pragma: no-cache\r\nCache-Control: max-age=5\r\n", false, false, 5000},
};

/* What a request asks for; Pragma counts only without Cache-Control, and an age that cannot be read is none. */
Test(gateway_cache_http, wishes)
{
	for (size_t i = 0; i < sizeof(wishes) / sizeof(wishes[0]); i++) {
		parse(HTTP_REQUEST, "GET / HTTP/1.1", wishes[i].lines);
		struct cache_wish w;
		struct buf agent = BUF_EMPTY;
		cache_http_wish(&head, &w, &agent);
		cr_expect_eq(agent.len, 0);
		cr_expect_eq(w.no_cache, wishes[i].no_cache, "%s", wishes[i].lines);
		cr_expect_eq(w.no_store, wishes[i].no_store, "%s", wishes[i].lines);
		cr_expect_eq(w.max_age_ms, wishes[i].max_age_ms, "%s", wishes[i].lines);
		buf_fini(&agent);
	}
}

/* The first User-Agent is found on the way. */
Test(gateway_cache_http, user_agent)
{
	struct cache_wish w;
	struct buf agent = BUF_EMPTY;

	parse(HTTP_REQUEST, "GET / HTTP/1.1",
	      "X-User-Age: a\r\nuser-AGENT: me/1\r\nCache-Control: no-cache\r\nUser-Agent: you\r\n");
	cache_http_wish(&head, &w, &agent);
	cr_expect(str_eq(buf_str(&agent), STR("me/1")));
	cr_expect(w.no_cache);
	buf_fini(&agent);
}

#define LENGTH "Content-Length: 2\r\n"

static const struct {
	const char *first;
	const char *lines;
	bool store;
} leaves[] = {
	{"HTTP/1.1 200 OK", LENGTH, true},
	{"HTTP/1.1 200 OK", "Transfer-Encoding: chunked\r\n", true},
	{"HTTP/1.1 200 OK", "", false}, /* until close: its end is not marked */
	{"HTTP/1.1 206 Partial Content", LENGTH, false},
	{"HTTP/1.1 201 Created", LENGTH, false},
	{"HTTP/1.1 404 Not Found", LENGTH, false},
	{"HTTP/1.1 500 No", LENGTH, false},
	{"HTTP/1.1 200 OK", LENGTH "Content-Range: bytes 0-1/2\r\n", false},
	{"HTTP/1.1 200 OK", LENGTH "Set-Cookie: a=b\r\n", false},
	{"HTTP/1.1 200 OK", LENGTH "SET-COOKIE: a=b\r\n", false},
	{"HTTP/1.1 200 OK", LENGTH "Content-Encoding: gzip\r\n", false},
	{"HTTP/1.1 200 OK", LENGTH "Cache-Control: no-store\r\n", false},
	{"HTTP/1.1 200 OK", LENGTH "Cache-Control: max-age=9, Private\r\n", false},
	{"HTTP/1.1 200 OK", LENGTH "Cache-Control: max-age=9\r\nCache-Control: no-cache=\"x\"\r\n", false},
	{"HTTP/1.1 200 OK", LENGTH "Cache-Control: must-revalidate\r\n", false},
	{"HTTP/1.1 200 OK", LENGTH "Cache-Control: public, max-age=9\r\n", true},
	{"HTTP/1.1 200 OK", LENGTH "Vary: Origin\r\n", true},
	{"HTTP/1.1 200 OK", LENGTH "Vary: origin, X-API-Key,\r\n", true},
	{"HTTP/1.1 200 OK", LENGTH "Vary: Origin\r\nVary: User-Agent\r\n", false},
	{"HTTP/1.1 200 OK", LENGTH "Vary: *\r\n", false},
};

/* C3: what of an answer may be remembered. */
Test(gateway_cache_http, C3_leaves)
{
	for (size_t i = 0; i < sizeof(leaves) / sizeof(leaves[0]); i++) {
		parse(HTTP_RESPONSE, leaves[i].first, leaves[i].lines);
		cr_expect_eq(cache_http_leave(&head).store, leaves[i].store, "%s %s", leaves[i].first, leaves[i].lines);
	}
}

/* How old it is already, and how long it may be fresh. */
Test(gateway_cache_http, ages)
{
	parse(HTTP_RESPONSE, "HTTP/1.1 200 OK", LENGTH "Age: 70\r\nCache-Control: max-age=40, s-maxage=20\r\n");
	cr_expect_eq(cache_http_leave(&head).age_ms, 70000);
	cr_expect_eq(cache_http_leave(&head).fresh_max_ms, 20000);
	parse(HTTP_RESPONSE, "HTTP/1.1 200 OK", LENGTH "Cache-Control: max-age=99999999999999999999\r\n");
	cr_expect_eq(cache_http_leave(&head).fresh_max_ms, 0);
	parse(HTTP_RESPONSE, "HTTP/1.1 200 OK", LENGTH);
	cr_expect_eq(cache_http_leave(&head).age_ms, 0);
	cr_expect_eq(cache_http_leave(&head).fresh_max_ms, UINT64_MAX);
}

static void expect_lines(bool again, const char *expected)
{
	struct buf out = BUF_EMPTY;

	cache_http_keep_lines(
		STR("HTTP/1.1 200 Age: OK\r\nContent-Type: a\r\nETag: \"x\"\r\nAge: 1\r\nX-Ratelimit-Limit: 5\r\n"
		    "Retry-After: 1\r\nDate: today\r\nlast-modified: x\r\n"),
		again, &out);
	cr_expect(str_eq(buf_str(&out), str_from(expected)), "%.*s", STR_ARG(buf_str(&out)));
	buf_fini(&out);
}

/* Lines that would be untrue of a changed body, or of a second answer, do not stay; the status line always does. */
Test(gateway_cache_http, lines)
{
	expect_lines(
		false,
		"HTTP/1.1 200 Age: OK\r\nContent-Type: a\r\nX-Ratelimit-Limit: 5\r\nRetry-After: 1\r\nDate: today\r\n");
	expect_lines(true, "HTTP/1.1 200 Age: OK\r\nContent-Type: a\r\nDate: today\r\n");
}

static const struct {
	struct cache_status s;
	const char *lines;
} statuses[] = {
	{{.way = CACHE_HIT, .has_age = true, .age_ms = 4200, .fresh_ms = 30000}, "hit; ttl=25\r\nAge: 4\r\n"},
	{{.way = CACHE_HIT, .has_age = true, .age_ms = 0, .fresh_ms = 1}, "hit; ttl=0\r\nAge: 0\r\n"},
	{{.way = CACHE_HIT, .has_age = true, .age_ms = UINT64_MAX - 2, .fresh_ms = UINT64_MAX},
	 "hit; ttl=0\r\nAge: 18446744073709551\r\n"},
	{{.way = CACHE_HIT, .has_age = true, .age_ms = 35000, .fresh_ms = 30000, .detail = "stale-if-error"},
	 "hit; ttl=-5; detail=stale-if-error\r\nAge: 35\r\n"},
	{{.way = CACHE_HIT, .has_age = true, .age_ms = 30000, .fresh_ms = 30000}, "hit; ttl=-1\r\nAge: 30\r\n"},
	{{.way = CACHE_HIT, .has_age = true, .age_ms = 30001, .fresh_ms = 30000}, "hit; ttl=-1\r\nAge: 30\r\n"},
	{{.way = CACHE_MISS, .stored = true}, "fwd=miss; stored\r\n"},
	{{.way = CACHE_MISS, .stored = true, .collapsed = true}, "fwd=miss; stored; collapsed\r\n"},
	{{.way = CACHE_REQUEST}, "fwd=request\r\n"},
	{{.way = CACHE_BYPASS}, "fwd=bypass\r\n"},
	{{.way = CACHE_STALE,
	  .fwd_status = 503,
	  .has_age = true,
	  .age_ms = 31000,
	  .fresh_ms = 30000,
	  .detail = "stale-if-error"},
	 "fwd=stale; fwd-status=503; ttl=-1; detail=stale-if-error\r\nAge: 31\r\n"},
};

/* Cache-Status and Age as RFC 9211 and RFC 9111 spell them; one that is stale never has a ttl from 0 on. */
Test(gateway_cache_http, status)
{
	for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
		struct buf out = BUF_EMPTY;
		struct buf expected = BUF_EMPTY;
		cache_http_write(&statuses[i].s, &out);
		buf_addf(&expected, "Cache-Status: stacygate; %s", statuses[i].lines);
		cr_expect(str_eq(buf_str(&out), buf_str(&expected)), "%.*s", STR_ARG(buf_str(&out)));
		buf_fini(&out);
		buf_fini(&expected);
	}
}
