/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests that no server may ever see, byte for byte: each is answered with an error of the gateway and closed, and
 * nothing of it reaches the upstream. The ids are those of the list of threats.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/gateway.h"
#include "lib/wait.h"
#include "lib/wire.h"

TestSuite(refused, .fini = gw_fini);

struct vector {
	const char *id;
	unsigned statuses[4]; /* any of them; the first 0 ends the list */
	const char *bytes;
	size_t n;
};

#define V(id, status, bytes)                                                                                           \
	{                                                                                                              \
		id, {status}, bytes, sizeof(bytes) - 1                                                                 \
	}
#define V2(id, one, other, bytes)                                                                                      \
	{                                                                                                              \
		id, {one, other}, bytes, sizeof(bytes) - 1                                                             \
	}
#define HOST       "Host: x\r\n"
#define POST       "POST /api/v1/x HTTP/1.1\r\n" HOST
#define GET        "GET /api/v1/x HTTP/1.1\r\n" HOST
#define PATH(path) "GET " path " HTTP/1.1\r\n" HOST "\r\n"
#define SMUGGLED   "GET /api/v1/evil HTTP/1.1\r\n" HOST "\r\n"

static const struct vector heads[] = {
	V("P1", 400, POST "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nX"),
	V("P1b", 400, POST "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nX"),
	V("P2", 400, POST "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
	V("P2b", 400, POST "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
	V("P2c", 400, POST "Content-Length: 3, 3\r\n\r\nabc"),
	V("P3", 400, POST "Content-Length: +3\r\n\r\nabc"),
	V("P3b", 400, POST "Content-Length: -1\r\n\r\n"),
	V("P3c", 400, POST "Content-Length: 0x3\r\n\r\nabc"),
	V("P3d", 400, POST "Content-Length: \r\n\r\n"),
	V("P3e", 400, POST "Content-Length: 18446744073709551617\r\n\r\na"),
	V("P3f", 400, POST "Content-Length: 3 3\r\n\r\nabc"),
	V("P4", 400, POST "Content-Length : 3\r\n\r\nabc"),
	V("P4b", 400, POST "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
	V2("P5", 400, 501, POST "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
	V2("P5b", 400, 501, POST "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
	V2("P5c", 400, 501, POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
	V2("P5d", 400, 501, POST "Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n"),
	V2("P5e", 400, 501, POST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
	V2("P5f", 400, 501,
	   POST "Transfer-Encoding: \x0b"
		"chunked\r\n\r\n0\r\n\r\n"),
	V("P6", 400, POST "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
	V("P6b", 400, "POST /api/v1/x HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
	V("P9", 400, "GET /api/v1/x HTTP/1.1\nHost: x\n\n"),
	V("P9b", 400, "GET /api/v1/x HTTP/1.1\r\nHost: x\nA: b\r\n\r\n"),
	V("P9c", 400, "GET /api/v1/x HTTP/1.1\r\nHost: x\rA: b\r\n\r\n"),
	V("P9d", 400, "GET /api/v1/x HTTP/1.1\rHost: x\r\r\r\n\r\n"),
	V("P10", 400, GET "A: b\r\n\rX\r\n\r\n"),
	V("P11", 400, GET "A: b\r\n c\r\n\r\n"),
	V("P11b", 400, "GET /api/v1/x HTTP/1.1\r\n Host: x\r\n\r\n"),
	V("P11c", 400, GET "A: b\r\n\tc\r\n\r\n"),
	V("P12", 400, GET "A: b\0c\r\n\r\n"),
	V("P12b", 400, GET "A\xe9: b\r\n\r\n"),
	V("P12c", 400, GET ": b\r\n\r\n"),
	V("P12d", 400, GET "nocolon\r\n\r\n"),
	V2("P13", 400, 505, "GET /api/v1/x\r\n\r\n"),
	V2("P13b", 400, 505, "GET /api/v1/x HTTP/2.0\r\n" HOST "\r\n"),
	V2("P13c", 400, 505, "GET /api/v1/x HTTP/1.10\r\n" HOST "\r\n"),
	V2("P13d", 400, 505, "GET /api/v1/x HTTP/1.2\r\n" HOST "\r\n"),
	V("P13e", 400, "GET\t/api/v1/x HTTP/1.1\r\n" HOST "\r\n"),
	V("P13f", 400, "GET  /api/v1/x HTTP/1.1\r\n" HOST "\r\n"),
	V("P13g", 400, "GET /api/v1/x  HTTP/1.1\r\n" HOST "\r\n"),
	V2("P13h", 400, 405, "get /api/v1/x HTTP/1.1\r\n" HOST "\r\n"),
	V2("P13i", 400, 405, "G@T /api/v1/x HTTP/1.1\r\n" HOST "\r\n"),
	V("P13j", 400, "GET /api/v1/x http/1.1\r\n" HOST "\r\n"),
	V("P17", 417, POST "Expect: 200-maybe\r\nContent-Length: 1\r\n\r\na"),
	V2("P19", 400, 505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
	V("P19b", 400, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a client hello \r\n\r\n"),
	V("P21", 400, "GET /api/v1/x\0y HTTP/1.1\r\n" HOST "\r\n"),
	V("P21b", 400, "GET /api/v1/x\xe9 HTTP/1.1\r\n" HOST "\r\n"),
	V("P21c", 400, "GET /api/v1/x#y HTTP/1.1\r\n" HOST "\r\n"),
	V("H2", 400, GET "X-Api-Key\t: mine\r\n\r\n"),
	V("U1", 400, PATH("/api/v1/../admin")),
	V("U1b", 400, PATH("/api/v1/./x")),
	V("U1c", 400, PATH("/api/v1/%2e%2e/x")),
	V("U1d", 400, PATH("/api/v1/%2E./x")),
	V("U1e", 400, PATH("/api/v1/x/..")),
	V("U2", 400, PATH("/api/v1/%61dmin")),
	V("U2b", 400, PATH("/api/v1/%7Ex")),
	V("U3", 400, PATH("/api/v1//x")),
	V("U3b", 400, PATH("//api/v1/x")),
	V2("U3c", 400, 403, PATH("/api/v1/..;/x")),
	V("U4", 400, PATH("/api/v1/a\\b")),
	V("U4b", 400, PATH("/api/v1/a%5cb")),
	V("U4c", 400, PATH("/api/v1/a%2fb")),
	V("U4d", 400, PATH("/api/v1/a%00b")),
	V("U4e", 400, PATH("/api/v1/a%0d%0ab")),
	V("U4f", 400, PATH("/api/v1/a%zz")),
	V("U4g", 400, PATH("/api/v1/a%4")),
	V("U4h", 400, PATH("/api/v1/a%c0%afb")),
	V("U4i", 400, PATH("/api/v1/a%252e%252e/b")),
	V2("U5", 403, 404, PATH("/api/v1x")),
	V2("U5b", 403, 404, PATH("/API/V1/x")),
	V2("U5c", 403, 404, PATH("/")),
	V2("U5d", 403, 404, PATH("/worker/x")),
	V2("U7", 400, 421, "GET http://other.test/api/v1/x HTTP/1.1\r\n" HOST "\r\n"),
	V2("U7b", 400, 421, "GET http://u:p@x/api/v1/x HTTP/1.1\r\n" HOST "\r\n"),
	V2("U7c", 400, 421, "GET https://x/api/v1/x HTTP/1.1\r\n" HOST "\r\n"),
	V2("U7d", 400, 421, "GET file:///etc/passwd HTTP/1.1\r\n" HOST "\r\n"),
	V2("U7e", 400, 421, "GET http:///api/v1/x HTTP/1.1\r\n" HOST "\r\n"),
	V2("U8", 400, 405, "CONNECT x:80 HTTP/1.1\r\n" HOST "\r\n"),
	V2("U8b", 400, 405, "TRACE /api/v1/x HTTP/1.1\r\n" HOST "\r\n"),
	V2("U8c", 400, 405, "OPTIONS * HTTP/1.1\r\n" HOST "\r\n"),
	V("U9", 400, "GET /api/v1/x HTTP/1.1\r\n\r\n"),
	V("U9b", 400, GET HOST "\r\n"),
	V2("U9c", 400, 421, "GET /api/v1/x HTTP/1.1\r\nHost: stacygated/evil?\r\n\r\n"),
	V2("U9d", 400, 421, "GET /api/v1/x HTTP/1.1\r\nHost: a@b\r\n\r\n"),
	V("U11", 405, "PROPFIND /api/v1/x HTTP/1.1\r\n" HOST "\r\n"),
	V("U11b", 405, "M-SEARCH /api/v1/x HTTP/1.1\r\n" HOST "\r\n"),
	V2("U12", 403, 404, "POST /worker/register HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n"),
	V("K11", 413, POST "Content-Length: 1000000000000\r\n\r\nabc"),
};

/* Behind these heads stands a body at fault: it may be seen when the head has gone, but never as a whole request. */
static const struct vector bodies[] = {
	V("P7", 400, POST "Transfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n"),
	V("P7b", 400, POST "Transfer-Encoding: chunked\r\n\r\n+1\r\na\r\n0\r\n\r\n"),
	V("P7c", 400, POST "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\na\r\n0\r\n\r\n"),
	V("P7d", 400, POST "Transfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n"),
	V("P7e", 400, POST "Transfer-Encoding: chunked\r\n\r\n 1\r\na\r\n0\r\n\r\n"),
	V("P7f", 400, POST "Transfer-Encoding: chunked\r\n\r\n\r\na\r\n0\r\n\r\n"),
	V("P7g", 400, POST "Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n"),
	V("P7h", 400, POST "Transfer-Encoding: chunked\r\n\r\n1 x\r\na\r\n0\r\n\r\n"),
	V("P7i", 400, POST "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX\r\n\r\n"),
	V("P7j", 400, POST "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n-0\r\n\r\n"),
	V("P7k", 400, POST "Transfer-Encoding: chunked\r\n\r\n1\r\na0\r\n\r\n"),
};

static bool among(const struct vector *v, unsigned status)
{
	for (size_t i = 0; i < 4 && v->statuses[i]; i++)
		if (v->statuses[i] == status)
			return true;
	return false;
}

static void expect_refused(struct raw *r, const struct vector *v, const char *how)
{
	struct answer a = raw_answer(r, false, WAIT_MS);

	cr_expect_eq(a.end, ANSWER_COMPLETE, "%s %s: no complete answer (%d)", v->id, how, (int)a.end);
	cr_expect(among(v, a.status), "%s %s: status %u", v->id, how, a.status);
	cr_expect_eq(wire_count(answer_head(&a), "Stacygate-Error"), 1, "%s %s: no Stacygate-Error", v->id, how);
	cr_expect_eq(r->in.len, 0, "%s %s: bytes after the answer", v->id, how);
	answer_fini(&a);
}

/* What is malformed is refused and the connection closed; what is only not allowed may keep it. */
static void expect_closed(struct raw *r, const struct vector *v, const char *how)
{
	bool policy = v->statuses[0] == 403 || v->id[0] == 'U' || v->statuses[0] == 417;

	if (!policy)
		cr_expect(raw_closes(r, WAIT_MS), "%s %s: not closed", v->id, how);
}

static void refuse_all(struct gw *gw, const struct vector *v, size_t n, bool bytewise)
{
	for (size_t i = 0; i < n; i++) {
		struct raw r = gw_connect(gw);

		/* It may be refused before the last byte was sent. */
		if (bytewise)
			(void)raw_bytewise(&r, v[i].bytes, v[i].n);
		else
			cr_assert(raw_send(&r, v[i].bytes, v[i].n));
		expect_refused(&r, &v[i], bytewise ? "bytewise" : "in one write");
		expect_closed(&r, &v[i], bytewise ? "bytewise" : "in one write");
		raw_close(&r);
		cr_expect_eq(upstream_requests(gw->up), 0, "%s: a request went upstream", v[i].id);
	}
}

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* P1-P6, P9-P13, P17, P19, P21, U1-U12: refused, and not even a connection is made to the upstream. */
Test(refused, heads)
{
	struct gw *gw = gw_start(NULL);

	refuse_all(gw, heads, COUNT(heads), false);
	cr_expect_eq(upstream_connections(gw->up), 0);
	gw_stop(gw);
}

/* P27: the same bytes one by one have the same verdict. */
Test(refused, heads_bytewise)
{
	struct gw *gw = gw_start(NULL);

	refuse_all(gw, heads, COUNT(heads), true);
	cr_expect_eq(upstream_connections(gw->up), 0);
	gw_stop(gw);
}

/* P27: and so they have when cut in two anywhere. */
Test(refused, heads_split)
{
	static const size_t some[] = {0, 1, 4, 11, 13, 24, 30};
	struct gw *gw = gw_start(NULL);

	for (size_t i = 0; i < COUNT(some); i++) {
		const struct vector *v = &heads[some[i]];

		for (size_t at = 1; at < v->n; at++) {
			struct raw r = gw_connect(gw);

			cr_assert(raw_send(&r, v->bytes, at));
			(void)raw_send(&r, v->bytes + at, v->n - at);
			expect_refused(&r, v, "split");
			raw_close(&r);
		}
	}
	cr_expect_eq(upstream_connections(gw->up), 0);
	gw_stop(gw);
}

/* P7: a chunk at fault ends the exchange; the upstream never sees a whole request. */
Test(refused, bodies)
{
	struct gw *gw = gw_start(NULL);

	refuse_all(gw, bodies, COUNT(bodies), false);
	refuse_all(gw, bodies, COUNT(bodies), true);
	gw_stop(gw);
}

/* P16, P10, P14: what is hidden behind a request or in its body never becomes a request. */
Test(refused, smuggled)
{
	static const char *const carriers[] = {
		GET "Connection: close\r\n\r\n" SMUGGLED,
		POST "Content-Length: 38\r\nConnection: close\r\n\r\n" SMUGGLED,
		"GET /api/v1/x HTTP/1.1\r\n" HOST "Content-Length: 38\r\nConnection: close\r\n\r\n" SMUGGLED,
		"GET /api/v1/x HTTP/1.0\r\n" HOST "\r\n" SMUGGLED,
	};
	struct gw *gw = gw_start(NULL);

	cr_assert_eq(sizeof(SMUGGLED) - 1, 38);
	for (size_t i = 0; i < COUNT(carriers); i++) {
		struct raw r = gw_connect(gw);
		struct answer a;

		cr_assert(raw_text(&r, carriers[i]));
		a = raw_answer(&r, false, WAIT_MS);
		expect_status(&a, 200);
		cr_expect(raw_closes(&r, WAIT_MS), "carrier %zu: left open", i);
		cr_expect_eq(r.in.len, 0);
		raw_close(&r);
		answer_fini(&a);
	}
	for (unsigned i = 0; i < upstream_requests(gw->up); i++) {
		struct buf head = upstream_request_head(gw->up, i);

		cr_expect(!str_eq(wire_target(buf_str(&head)), STR("/api/v1/evil")), "the hidden request went up");
		buf_fini(&head);
	}
	cr_expect_eq(upstream_requests(gw->up), COUNT(carriers));
	gw_stop(gw);
}

static char *repeated(const char *before, const char *piece, size_t times, const char *after, size_t *n)
{
	struct buf b = BUF_EMPTY;
	char *out;

	buf_add_cstr(&b, before);
	for (size_t i = 0; i < times; i++)
		buf_add_cstr(&b, piece);
	buf_add_cstr(&b, after);
	*n = b.len;
	out = str_dup(buf_str(&b));
	buf_fini(&b);
	return out;
}

static void refuse_big(struct gw *gw, const char *id, unsigned one, unsigned other, char *bytes, size_t n)
{
	struct vector v = {id, {one, other ? other : one, 414}, bytes, n};
	struct raw r = gw_connect(gw);
	uint64_t begin = wait_now_ms();

	/* The gateway stops reading at its bound: the rest may not be taken. */
	(void)raw_push(&r, bytes, n);
	expect_refused(&r, &v, "big");
	cr_expect_lt(wait_now_ms() - begin, 3000, "%s: slow", id);
	raw_close(&r);
	free(bytes);
}

/* P24, P25: what has no bound of its own meets ours, soon and in little memory. */
Test(refused, oversized)
{
	struct gw *gw = gw_start(NULL);
	long before;
	size_t n;
	char *p;

	refuse_big(gw, "warm-up", 400, 0, strdup("x\r\n\r\n"), 5);
	before = daemon_rss_kib(gw->daemon);
	p = repeated("GET /api/v1/", "a", 100000, " HTTP/1.1\r\n" HOST "\r\n", &n);
	refuse_big(gw, "P25", 414, 431, p, n);
	p = repeated("GET /api/v1/", "a", 8200, " HTTP/1.1\r\n" HOST "\r\n", &n);
	refuse_big(gw, "P25b", 414, 0, p, n);
	p = repeated(GET "A: ", "a", 100000, "\r\n\r\n", &n);
	refuse_big(gw, "P25c", 431, 0, p, n);
	p = repeated(GET, "a", 100000, ": b\r\n\r\n", &n);
	refuse_big(gw, "P25d", 431, 400, p, n);
	p = repeated(GET, "A: b\r\n", 5000, "\r\n", &n);
	refuse_big(gw, "P25e", 431, 0, p, n);
	p = repeated(GET, "A: b\r\n", 300, "\r\n", &n);
	refuse_big(gw, "P25f", 431, 0, p, n);
	p = repeated("", "\x01garbage", 125000, "", &n);
	refuse_big(gw, "P25g", 400, 431, p, n);
	p = repeated("", "M", 8192, " /api/v1/x HTTP/1.1\r\n" HOST "\r\n", &n);
	refuse_big(gw, "P25h", 400, 405, p, n);
	cr_expect_eq(upstream_connections(gw->up), 0);
	p = repeated(POST "Transfer-Encoding: chunked\r\n\r\n1;", "e", 10000, "\r\na\r\n0\r\n\r\n", &n);
	refuse_big(gw, "P24", 400, 0, p, n);
	p = repeated(POST "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n", "T: x\r\n", 5000, "\r\n", &n);
	refuse_big(gw, "P24b", 400, 431, p, n);
	cr_expect_eq(upstream_requests(gw->up), 0);
	/* The sanitizers' own bookkeeping is in this figure; the bound is on the order of magnitude. */
	cr_expect_lt(daemon_rss_kib(gw->daemon) - before, 8192);
	gw_stop(gw);
}

/* P26: a head or body cut by the end of the connection is never a request. */
Test(refused, truncated)
{
	static const char whole[] = POST "Content-Length: 5\r\n\r\nhello";
	struct gw *gw = gw_start(NULL);
	struct answer a;

	for (size_t n = 1; n < sizeof(whole) - 1; n++) {
		struct raw r = gw_connect(gw);

		cr_assert(raw_send(&r, whole, n));
		raw_half_close(&r);
		cr_expect(raw_closes(&r, WAIT_MS), "cut after %zu bytes: left open", n);
		raw_close(&r);
	}
	cr_expect_eq(upstream_requests(gw->up), 0);
	a = gw_ask(gw, "%s", whole);
	expect_status(&a, 200);
	answer_fini(&a);
	gw_stop(gw);
}
