/* SPDX-License-Identifier: Apache-2.0 */
/* What of a request's head reaches the upstream: ours once, theirs never, the rest and the target byte for byte. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/gateway.h"
#include "lib/wait.h"
#include "lib/wire.h"

TestSuite(headers, .fini = gw_fini);

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Sends a GET with these header lines and returns the head that the upstream saw; the answer must be 200. */
static struct buf seen(struct gw *gw, const char *lines)
{
	unsigned before = upstream_requests(gw->up);
	struct answer a = gw_ask(gw, "GET /api/v1/x HTTP/1.1\r\nHost: somebody\r\n%s\r\n", lines);

	expect_status(&a, 200);
	answer_fini(&a);
	cr_assert_eq(upstream_requests(gw->up), before + 1);
	return upstream_request_head(gw->up, before);
}

static void expect_ours(const struct buf *head)
{
	cr_expect(wire_header_is(buf_str(head), "X-API-Key", GW_KEY), "the key is not there exactly once");
	cr_expect(wire_header_is(buf_str(head), "X-User-ID", GW_USER_ID), "the user id is not there exactly once");
	cr_expect_eq(wire_count(buf_str(head), "X-Request-ID"), 1);
	cr_expect_eq(wire_count(buf_str(head), "Host"), 1);
	cr_expect(!str_eq(wire_header(buf_str(head), "Host", 0), STR("somebody")), "the client's Host went up");
	cr_expect_eq(wire_count(buf_str(head), "X-Admin-API-Key"), 0);
}

/* H1, H3, H4: a client's credential, identity and forwarding headers are dropped, ours are set once. */
Test(headers, stripped)
{
	static const char *const names[] = {
		"X-API-Key",
		"x-api-key",
		"X-Api-KEY",
		"X-Admin-API-Key",
		"X-User-ID",
		"X-User-Id",
		"X-Tenant-ID",
		"Authorization",
		"Proxy-Authorization",
		"Cookie",
		"X-Forwarded-For",
		"X-Forwarded-Host",
		"X-Forwarded-Proto",
		"X-Real-IP",
		"True-Client-IP",
		"Forwarded",
		"X-Worker-ID",
		"X-Worker-Token",
		"X-Original-URL",
		"X-Rewrite-URL",
		"X-HTTP-Method-Override",
		"Keep-Alive",
		"TE",
		"Trailer",
		"Upgrade",
		"Proxy-Connection",
		"Stacygate-Timeout",
		"Stacygate-Lease",
		"Stacygate-Error",
	};
	struct gw *gw = gw_start(NULL);

	for (size_t i = 0; i < COUNT(names); i++) {
		char lines[200];
		struct buf head;

		/* Stacygate-Timeout is read: it must be a duration. */
		snprintf(lines, sizeof(lines), "%s: %s\r\n", names[i],
			 strcmp(names[i], "Stacygate-Timeout") ? "theirs" : "9s");
		if (!strcmp(names[i], "Stacygate-Lease"))
			continue; /* leases are answered by the gateway itself */
		head = seen(gw, lines);
		cr_expect(!buf_contains(&head, "theirs"), "%s went up", names[i]);
		expect_ours(&head);
		buf_fini(&head);
	}
	gw_stop(gw);
}

/* H1: sent twice, and sent empty. */
Test(headers, stripped_twice_and_empty)
{
	struct gw *gw = gw_start(NULL);
	struct buf head = seen(gw, "X-API-Key: theirs\r\nA: b\r\nX-API-Key: theirs\r\nX-API-Key:\r\nX-User-ID:\r\n");

	cr_expect(!buf_contains(&head, "theirs"));
	expect_ours(&head);
	cr_expect(wire_header_is(buf_str(&head), "A", "b"));
	buf_fini(&head);
	gw_stop(gw);
}

/* H2: spellings that a server may take for the same are dropped or refused, never passed on. */
Test(headers, aliases)
{
	static const char *const lines[] = {"X_API_Key: theirs\r\n", "X-API_Key: theirs\r\n", "X_User_ID: theirs\r\n"};
	struct gw *gw = gw_start(NULL);

	for (size_t i = 0; i < COUNT(lines); i++) {
		struct answer a = gw_ask(gw, "GET /api/v1/x HTTP/1.1\r\nHost: h\r\n%s\r\n", lines[i]);
		struct buf all = upstream_everything(gw->up);

		cr_expect(a.status == 200 || a.status == 400, "status %u", a.status);
		cr_expect(!buf_contains(&all, "theirs"), "%s went up", lines[i]);
		answer_fini(&a);
		buf_fini(&all);
	}
	gw_stop(gw);
}

/* H5, P18: what Connection names is dropped before ours is set; framing and ours cannot be named away. */
Test(headers, connection)
{
	struct gw *gw = gw_start(NULL);
	struct buf head = seen(gw, "Connection: X-Mine, keep-alive, X-API-Key, X-User-Id, Host, X-Request-ID\r\n"
				   "X-Mine: theirs\r\nX-Other: kept\r\n");

	cr_expect(!buf_contains(&head, "theirs"));
	cr_expect_eq(wire_count(buf_str(&head), "X-Mine"), 0);
	cr_expect(wire_header_is(buf_str(&head), "X-Other", "kept"));
	expect_ours(&head);
	cr_expect(!buf_contains(&head, "X-Mine"), "the Connection header itself went up");
	buf_fini(&head);
	gw_stop(gw);
}

/* P18: Content-Length and Transfer-Encoding are no hop-by-hop headers that a client may name. */
Test(headers, connection_names_framing)
{
	static const char *const requests[] = {
		"POST /api/v1/x HTTP/1.1\r\nHost: h\r\nConnection: Content-Length\r\nContent-Length: 5\r\n\r\nhello",
		"POST /api/v1/x HTTP/1.1\r\nHost: h\r\nConnection: Transfer-Encoding\r\nTransfer-Encoding: "
		"chunked\r\n\r\n"
		"5\r\nhello\r\n0\r\n\r\n",
	};
	struct gw *gw = gw_start(NULL);

	for (unsigned i = 0; i < COUNT(requests); i++) {
		struct answer a = gw_ask(gw, "%s", requests[i]);
		struct buf body = upstream_request_body(gw->up, i);

		expect_status(&a, 200);
		cr_expect(str_eq(buf_str(&body), STR("hello")));
		buf_fini(&body);
		answer_fini(&a);
	}
	cr_expect_eq(upstream_requests(gw->up), COUNT(requests));
	gw_stop(gw);
}

/* H5: thousands of tokens in Connection cost next to nothing, or are refused. */
Test(headers, connection_of_4000_tokens)
{
	struct gw *gw = gw_start(NULL);
	struct buf request = BUF_EMPTY;
	struct raw r = gw_connect(gw);
	struct answer a;
	uint64_t begin;

	buf_add_cstr(&request, "GET /api/v1/x HTTP/1.1\r\nHost: h\r\nConnection: a");
	for (unsigned i = 0; i < 4000; i++)
		buf_addf(&request, ",t%u", i);
	buf_add_cstr(&request, "\r\n");
	for (unsigned i = 0; i < 200; i++)
		buf_addf(&request, "t%u: theirs\r\n", i * 19);
	buf_add_cstr(&request, "\r\n");
	begin = wait_now_ms();
	cr_assert(raw_send(&r, buf_data(&request), request.len));
	a = raw_answer(&r, false, WAIT_MS);
	cr_expect(a.status == 200 || a.status == 400 || a.status == 431, "status %u", a.status);
	cr_expect_lt(wait_now_ms() - begin, 500);
	if (a.status == 200) {
		struct buf head = upstream_request_head(gw->up, 0);

		cr_expect(!buf_contains(&head, "theirs"));
		expect_ours(&head);
		buf_fini(&head);
	}
	answer_fini(&a);
	buf_fini(&request);
	raw_close(&r);
	gw_stop(gw);
}

/* What is nobody's business goes up as it came: names, values, order of repeated ones. */
Test(headers, kept)
{
	struct gw *gw = gw_start(NULL);
	struct buf head = seen(gw, "Accept: application/json\r\nX-Custom: a  b\r\nUser-Agent: me/1\r\nX-Multi: 1\r\n"
				   "X-Multi: 2\r\nIf-None-Match: \"x\"\r\nContent-Type: text/plain\r\n");

	cr_expect(wire_header_is(buf_str(&head), "Accept", "application/json"));
	cr_expect(wire_header_is(buf_str(&head), "X-Custom", "a  b"));
	cr_expect(wire_header_is(buf_str(&head), "User-Agent", "me/1"));
	cr_expect(wire_header_is(buf_str(&head), "If-None-Match", "\"x\""));
	cr_expect(wire_header_is(buf_str(&head), "Content-Type", "text/plain"));
	cr_expect_eq(wire_count(buf_str(&head), "X-Multi"), 2);
	cr_expect(str_eq(wire_header(buf_str(&head), "X-Multi", 0), STR("1")));
	cr_expect(str_eq(wire_header(buf_str(&head), "X-Multi", 1), STR("2")));
	buf_fini(&head);
	gw_stop(gw);
}

/* The target goes through byte for byte, query and all; every method that the API has. */
Test(headers, target)
{
	static const char *const lines[] = {
		"GET /api/v1/sandboxes",
		"GET /api/v1/sandboxes/sb-1/files?path=/app/../x&y=%2e%2e/z&&=;",
		"GET /api/v1/x?q=/../admin//a\\b'\"<>{}|^`",
		"GET /api/v1/templates/a%20b%C3%A9",
		"GET /api/v1/x?",
		"GET /api/v1/x/",
		"GET /api/v1/~x_y-z.1!$&'()*+,=:@",
		"DELETE /api/v1/sandboxes/sb-1?recursive=true",
		"PUT /api/v1/x",
		"PATCH /api/v1/config",
		"HEAD /api/v1/x",
		"POST /api/v1/x",
	};
	struct gw *gw = gw_start(NULL);

	for (unsigned i = 0; i < COUNT(lines); i++) {
		struct answer a = gw_ask(gw, "%s HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", lines[i]);
		struct buf head = upstream_request_head(gw->up, i);
		char want[300];

		snprintf(want, sizeof(want), "%s HTTP/1.1", lines[i]);
		expect_status(&a, 200);
		cr_expect(str_eq(wire_first_line(buf_str(&head)), str_from(want)), "%s came out as %.*s", want,
			  STR_ARG(wire_first_line(buf_str(&head))));
		answer_fini(&a);
		buf_fini(&head);
	}
	gw_stop(gw);
}

/* U7: the absolute form for the request's own host goes up in origin form; HTTP/1.0 is served (U10). */
Test(headers, forms)
{
	struct gw *gw = gw_start(NULL);
	struct answer a = gw_ask(gw, "GET http://h/api/v1/x?y HTTP/1.1\r\nHost: h\r\n\r\n");
	struct buf head = upstream_request_head(gw->up, 0);

	expect_status(&a, 200);
	cr_expect(str_eq(wire_target(buf_str(&head)), STR("/api/v1/x?y")));
	answer_fini(&a);
	buf_fini(&head);
	a = gw_ask(gw, "GET /api/v1/x HTTP/1.0\r\n\r\n");
	expect_status(&a, 200);
	answer_fini(&a);
	gw_stop(gw);
}

/* U10: a 1.0 connection is closed unless the client asked to keep it; 1.1 is kept unless it asked to close. */
Test(headers, keep_alive)
{
	static const struct {
		const char *request;
		bool kept;
	} cases[] = {
		{"GET /api/v1/x HTTP/1.0\r\nHost: h\r\n\r\n", false},
		{"GET /api/v1/x HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n", true},
		{"GET /api/v1/x HTTP/1.1\r\nHost: h\r\n\r\n", true},
		{"GET /api/v1/x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", false},
		{"GET /gateway/v1/health HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", false},
		{"GET /gateway/v1/health HTTP/1.1\r\nHost: h\r\n\r\n", true},
	};
	struct gw *gw = gw_start(NULL);

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct raw r = gw_connect(gw);
		struct answer a;

		cr_assert(raw_text(&r, cases[i].request));
		a = raw_answer(&r, false, WAIT_MS);
		expect_status(&a, 200);
		answer_fini(&a);
		if (cases[i].kept) {
			cr_assert(raw_text(&r, "GET /api/v1/again HTTP/1.1\r\nHost: h\r\n\r\n"));
			a = raw_answer(&r, false, WAIT_MS);
			expect_status(&a, 200);
			answer_fini(&a);
		} else {
			cr_expect(raw_closes(&r, WAIT_MS), "case %zu is left open", i);
		}
		raw_close(&r);
	}
	gw_stop(gw);
}

/* X-Request-ID: made when there is none, kept when it is sound, replaced when it is not; the same both ways. */
Test(headers, request_id)
{
	static const struct {
		const char *line;
		const char *kept; /* NULL: one of ours */
	} cases[] = {
		{"", NULL},
		{"X-Request-ID: abc-123_DEF.4\r\n", "abc-123_DEF.4"},
		{"x-request-id: \r\n", NULL},
		{"X-Request-ID: a b\r\n", NULL},
		{"X-Request-ID: \"<script>\"\r\n", NULL},
		{"X-Request-ID: first-id\r\nX-Request-ID: second-id\r\n", "first-id"},
		{"X-Request-ID: "
		 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
		 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
		 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
		 "\r\n",
		 NULL},
	};
	struct gw *gw = gw_start(NULL);
	char last[300] = "";

	for (unsigned i = 0; i < COUNT(cases); i++) {
		struct answer a = gw_ask(gw, "GET /api/v1/x HTTP/1.1\r\nHost: h\r\n%s\r\n", cases[i].line);
		struct buf head = upstream_request_head(gw->up, i);
		struct str up = wire_header(buf_str(&head), "X-Request-ID", 0);

		expect_status(&a, 200);
		cr_expect_eq(wire_count(buf_str(&head), "X-Request-ID"), 1, "case %u", i);
		cr_expect_eq(wire_count(answer_head(&a), "X-Request-ID"), 1, "case %u", i);
		cr_expect(str_eq(up, wire_header(answer_head(&a), "X-Request-ID", 0)), "case %u differs", i);
		cr_expect(up.n >= 8 || cases[i].kept, "case %u: too short", i);
		if (cases[i].kept) {
			cr_expect(str_eq(up, str_from(cases[i].kept)), "case %u is not kept", i);
		} else {
			cr_expect(!memmem(cases[i].line, strlen(cases[i].line), up.p, up.n), "case %u is kept", i);
			cr_expect(!str_eq(up, str_from(last)), "case %u: made twice", i);
			snprintf(last, sizeof(last), "%.*s", STR_ARG(up));
		}
		answer_fini(&a);
		buf_fini(&head);
	}
	gw_stop(gw);
}

/* P23: no upgrade but to a WebSocket; h2c and others are not asked of the upstream, what follows is no tunnel. */
Test(headers, no_h2c)
{
	struct gw *gw = gw_start(NULL);
	struct buf head = seen(gw, "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMA\r\n");

	cr_expect_eq(wire_count(buf_str(&head), "Upgrade"), 0);
	cr_expect_eq(wire_count(buf_str(&head), "HTTP2-Settings"), 0);
	buf_fini(&head);
	gw_stop(gw);
}

/* H8, H10: of the upstream's head hop-by-hop and gateway-only headers are dropped, the rest comes through once. */
Test(headers, response)
{
	const struct up_step *const scripts[] = {SCRIPT(
		{UP_READ, NULL, 0},
		UP_TEXT("HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 2\r\nX-Kept: yes\r\n"
			"X-Multi: 1\r\nX-Multi: 2\r\nConnection: keep-alive, X-Hop\r\nX-Hop: dropme\r\nKeep-Alive: "
			"timeout=dropme\r\n"
			"Proxy-Authenticate: dropme\r\nStacygate-Error: dropme\r\nStacygate-Clamped: dropme\r\n"
			"X-Request-ID: dropme\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n{}"),
		{UP_FOREVER, NULL, 0})};
	struct gw_options options = {.scripts = scripts, .nscripts = 1};
	struct gw *gw = gw_start(&options);
	struct answer a = gw_ask(gw, "GET /api/v1/x HTTP/1.1\r\nHost: h\r\n\r\n");

	expect_status(&a, 201);
	cr_expect(!buf_contains(&a.head, "dropme"), "%.*s", STR_ARG(answer_head(&a)));
	cr_expect(wire_header_is(answer_head(&a), "X-Kept", "yes"));
	cr_expect_eq(wire_count(answer_head(&a), "X-Multi"), 2);
	cr_expect_eq(wire_count(answer_head(&a), "Date"), 1);
	cr_expect_eq(wire_count(answer_head(&a), "X-Request-ID"), 1);
	answer_fini(&a);
	gw_stop(gw);
}

/* H10: errors of ours name no program and no version. */
Test(headers, no_version)
{
	struct gw *gw = gw_start(NULL);
	struct answer a = gw_ask(gw, "GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n");

	cr_expect_geq(a.status, 400);
	cr_expect_eq(wire_count(answer_head(&a), "Server"), 0);
	cr_expect_eq(wire_count(answer_head(&a), "Via"), 0);
	cr_expect(!buf_contains(&a.body, "0.1.0"));
	answer_fini(&a);
	gw_stop(gw);
}
