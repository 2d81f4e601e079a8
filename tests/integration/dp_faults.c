/* SPDX-License-Identifier: Apache-2.0 */
/* F4, F6, F7, F15, F20, F22, F23, F34: what an upstream may do wrong within an answer, and odd things that it may do. */
#include <criterion/criterion.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "integration/dp_lib.h"

TestSuite(dp_faults, .fini = gw_fini);

#define OK      "HTTP/1.1 200 OK\r\n"
#define CHUNKED OK "Transfer-Encoding: chunked\r\n\r\n"
#define EVIL    "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"

/* F7: chunked framing that is wrong at some point: what was right before it may arrive, never an end, never what is behind. */
Test(dp_faults, F7_bad_chunks)
{
	static const struct {
		const char *sent;
		size_t n; /* 0: as a text */
	} cases[] = {
		{"5\r\nhello\r\n0x1\r\na\r\n0\r\n\r\n", 0},
		{"5\r\nhello\r\n+1\r\na\r\n0\r\n\r\n", 0},
		{"5\r\nhello\r\n-1\r\na\r\n0\r\n\r\n", 0},
		{"5\r\nhello\r\n\r\n0\r\n\r\n", 0},
		{"5\r\nhello\r\n1 \r\na\r\n0\r\n\r\n", 0},
		{"5\r\nhello\r\n 1\r\na\r\n0\r\n\r\n", 0},
		{"5\r\nhello\r\n1\na\r\n0\r\n\r\n", 0},
		{"5\r\nhello\r\n1\r\na\n0\r\n\r\n", 0},
		{"5\r\nhello\r\n1\r\nab\r\n0\r\n\r\n", 0},
		{"5\r\nhello\r\n1\ra\r\n0\r\n\r\n", 0},
		{"5\r\nhello\r\nFFFFFFFFFFFFFFFFF\r\na\r\n0\r\n\r\n", 0},
		{"5\r\nhello\r\n10000000000000001\r\na\r\n0\r\n\r\n", 0},
		{"5\r\nhello\r\n1;\0\r\na\r\n0\r\n\r\n", 23},
		{"5\r\nhello\r\n0\r\nbad trailer\r\n\r\n", 0},
		{"5\r\nhello\r\n0\r\nX : y\r\n\r\n", 0},
		{"5\r\nhello\r\ng\r\n", 0},
		{"5\r\nhello\r\n" EVIL, 0},
	};

	for (unsigned i = 0; i < COUNT(cases); i++) {
		const struct up_step bad[] = {
			{UP_READ, NULL, 0}, {UP_SEND, CHUNKED, 0}, {UP_SEND, cases[i].sent, cases[i].n},
			{UP_GATE, NULL, 0}, {UP_SEND, EVIL, 0},    {UP_READ_EOF, NULL, 0},
			{UP_END, NULL, 0}};
		const struct up_step *const scripts[] = {bad, SCRIPT({UP_ECHO, NULL, 0}, {UP_FOREVER, NULL, 0})};
		struct gw_options options = {.scripts = scripts, .nscripts = 2};
		struct gw *gw = gw_start(&options);
		struct answer a = gw_ask(gw, GET_X);

		if (a.status == 502)
			expect_error(&a, 502, "CONNECTION_ERROR");
		else
			cr_expect(a.end == ANSWER_CUT && str_starts(str_from(cases[i].sent), buf_str(&a.wire)),
				  "case %u: %d, '%.*s'", i, (int)a.end, STR_ARG(buf_str(&a.wire)));
		cr_expect(!buf_contains(&a.wire, "evil") && !buf_contains(&a.wire, "0\r\n\r\n"), "case %u: '%.*s'", i,
			  STR_ARG(buf_str(&a.wire)));
		answer_fini(&a);
		upstream_open_gate(gw->up, 0);
		cr_expect(upstream_wait_open(gw->up, 0), "case %u: the connection stays", i);
		dp_ask_ok(gw);
		gw_stop(gw);
	}
}

/* F6: a body that ends short: the client sees it, the log and the counters say so, the next request is served. */
Test(dp_faults, F6_short_bodies)
{
	static const char *const heads[] = {
		OK "Content-Length: 10\r\n\r\nhello",
		OK "Content-Length: 10\r\n\r\n",
		OK "Content-Length: 99999999999\r\n\r\nhello",
		"HTTP/1.0 200 OK\r\nContent-Length: 10\r\n\r\nhello",
		"HTTP/1.1 500 Oh\r\nContent-Length: 10\r\n\r\nhello",
	};

	for (unsigned i = 0; i < COUNT(heads) * 2; i++) {
		bool reset = i % 2;
		const struct up_step bad[] = {{UP_READ, NULL, 0},
					      {UP_SEND, heads[i / 2], 0},
					      {UP_GATE, NULL, 0},
					      {reset ? UP_RESET : UP_CLOSE, NULL, 0},
					      {UP_END, NULL, 0}};
		const struct up_step *const scripts[] = {bad, SCRIPT({UP_ECHO, NULL, 0}, {UP_FOREVER, NULL, 0})};
		struct gw_options options = {.scripts = scripts, .nscripts = 2, .tcp = true};
		struct gw *gw = gw_start(&options);
		struct raw r = gw_connect(gw);
		struct answer a;

		cr_assert(raw_text(&r, GET_X));
		cr_assert(raw_read_text(&r, "\r\n\r\n", WAIT_MS));
		upstream_open_gate(gw->up, 0);
		a = raw_answer(&r, false, WAIT_MS);
		cr_expect_eq(a.end, ANSWER_CUT, "case %u: %d", i, (int)a.end);
		cr_expect(raw_closes(&r, WAIT_MS));
		cr_expect(daemon_wait_log(gw->daemon, "response-cut"), "case %u: not logged", i);
		cr_expect_eq(dp_status(gw, "requests.ends.response-cut"), 1);
		cr_expect_eq(dp_status(gw, "clients.ends.answer-cut"), 1);
		answer_fini(&a);
		raw_close(&r);
		dp_ask_ok(gw);
		gw_stop(gw);
	}
}

/* F22: an old upstream: a body up to the close gets an end that the client can see; lengths and keep-alive are honoured. */
Test(dp_faults, F22_old_upstream)
{
	const struct up_step *const scripts[] = {
		SCRIPT({UP_READ, NULL, 0}, UP_TEXT("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n"),
		       UP_TEXT("until "), {UP_GATE, NULL, 0}, UP_TEXT("the end"), {UP_CLOSE, NULL, 0}),
		SCRIPT({UP_READ, NULL, 0}, UP_TEXT("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
		       {UP_READ_EOF, NULL, 0}),
		SCRIPT({UP_READ, NULL, 0},
		       UP_TEXT("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}"),
		       {UP_FOREVER, NULL, 0}),
	};
	struct gw_options options = {.scripts = scripts, .nscripts = 3};
	struct gw *gw = gw_start(&options);
	struct raw r = gw_connect(gw);
	struct answer a;

	cr_assert(raw_text(&r, GET_X));
	cr_assert(raw_read_text(&r, "6\r\nuntil \r\n", WAIT_MS), "'%.*s'", STR_ARG(buf_str(&r.in)));
	upstream_open_gate(gw->up, 0);
	a = raw_answer(&r, false, WAIT_MS);
	expect_status(&a, 200);
	cr_expect(str_eq(buf_str(&a.wire), STR("6\r\nuntil \r\n7\r\nthe end\r\n0\r\n\r\n")), "%.*s",
		  STR_ARG(buf_str(&a.wire)));
	cr_expect(str_starts(answer_head(&a), STR("HTTP/1.1 200 OK\r\n")));
	answer_fini(&a);
	for (unsigned i = 0; i < 4; i++) {
		cr_assert(raw_text(&r, GET_X));
		a = raw_answer(&r, false, WAIT_MS);
		expect_status(&a, 200);
		cr_expect(str_eq(buf_str(&a.wire), STR("{}")));
		cr_expect_eq(wire_count(answer_head(&a), "Keep-Alive"), 0);
		answer_fini(&a);
	}
	cr_expect(upstream_wait_closed(gw->up, 1), "an old upstream's connection is kept unasked");
	cr_expect_eq(upstream_connections(gw->up), 3);
	raw_close(&r);
	gw_stop(gw);
}

/* F23: a redirect is the client's business: nobody is asked in its name. */
Test(dp_faults, F23_redirect)
{
	static const unsigned statuses[] = {301, 302, 303, 307, 308};
	struct gw *gw = gw_prepare(NULL);
	struct upstream *elsewhere = upstream_start(NULL, NULL, 0);
	char answers[COUNT(statuses)][300], url[80];
	struct up_step script[COUNT(statuses) * 2 + 1];

	snprintf(url, sizeof(url), "http://127.0.0.1:%u/api/v1/x", upstream_port(elsewhere));
	for (unsigned i = 0; i < COUNT(statuses); i++) {
		snprintf(answers[i], sizeof(answers[i]),
			 "HTTP/1.1 %u Moved\r\nLocation: %s\r\nContent-Length: 2\r\n\r\n{}", statuses[i], url);
		script[i * 2] = (struct up_step){UP_READ, NULL, 0};
		script[i * 2 + 1] = (struct up_step){UP_SEND, answers[i], 0};
	}
	script[COUNT(statuses) * 2] = (struct up_step){UP_FOREVER, NULL, 0};
	upstream_stop(gw->up);
	gw->up = upstream_start(gw->upstream_path, &(const struct up_step *){script}, 1);
	gw_run(gw, NULL);
	for (unsigned i = 0; i < COUNT(statuses) * 2; i++) {
		struct answer a = gw_ask(gw, "%s", i % 2 ? POST_X : GET_X);

		expect_status(&a, statuses[i % COUNT(statuses)]);
		cr_expect(wire_header_is(answer_head(&a), "Location", url));
		answer_fini(&a);
	}
	cr_expect_eq(upstream_connections(elsewhere), 0, "followed");
	cr_expect_eq(upstream_requests(gw->up), COUNT(statuses) * 2);
	upstream_stop(elsewhere);
	gw_stop(gw);
}

/* F34: the server's own refusals pass as they are, and are told from ours. */
Test(dp_faults, F34_refusals)
{
	static const char *const answers[] = {
		"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nX-RateLimit-Remaining: 0\r\nContent-Length: "
		"21\r\n\r\n{\"code\":\"RATE\",\"m\":1}",
		"HTTP/1.1 503 Service Unavailable\r\nRetry-After: Wed, 21 Oct 2015 07:28:00 GMT\r\nContent-Length: "
		"4\r\n\r\nbusy",
		"HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 4\r\n\r\nlate",
		"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nbad",
		"HTTP/1.1 400 Bad Request\r\nContent-Length: 3\r\n\r\nbad",
		"HTTP/1.1 599 What\r\nContent-Length: 0\r\n\r\n",
	};
	static const char *const kept[] = {"Retry-After", "X-RateLimit-Remaining", "Content-Length"};

	for (unsigned i = 0; i < COUNT(answers); i++) {
		const struct up_step script[] = {{UP_READ, NULL, 0}, {UP_SEND, answers[i], 0}, {UP_FOREVER, NULL, 0}};
		const struct up_step *const scripts[] = {script};
		struct gw_options options = {.scripts = scripts, .nscripts = 1};
		struct gw *gw = gw_start(&options);
		struct str sent = str_from(answers[i]);
		size_t head = wire_head_bytes(sent);
		struct raw r = gw_connect(gw);

		for (unsigned n = 0; n < 3; n++) {
			struct answer a;

			cr_assert(raw_text(&r, n % 2 ? POST_X : GET_X));
			a = raw_answer(&r, false, WAIT_MS);
			cr_expect_eq(a.end, ANSWER_COMPLETE);
			cr_expect(str_eq(wire_first_line(answer_head(&a)), wire_first_line(sent)), "case %u: %.*s", i,
				  STR_ARG(wire_first_line(answer_head(&a))));
			for (unsigned k = 0; k < COUNT(kept); k++)
				cr_expect(
					str_eq(wire_header(answer_head(&a), kept[k], 0), wire_header(sent, kept[k], 0)),
					"case %u: %s", i, kept[k]);
			cr_expect_eq(wire_count(answer_head(&a), "Stacygate-Error"), 0);
			cr_expect(str_eq(buf_str(&a.body), str_of(sent.p + head, sent.n - head)));
			answer_fini(&a);
		}
		cr_expect_eq(upstream_requests(gw->up), 3, "case %u: asked again", i);
		cr_expect_eq(upstream_connections(gw->up), 1);
		raw_close(&r);
		gw_stop(gw);
	}
}

/* F15: heads beyond all measure cost a bounded amount: of memory, and of what is read. */
Test(dp_faults, F15_large_heads)
{
	const struct up_step *const scripts[] = {
		SCRIPT({UP_READ, NULL, 0}, UP_TEXT(OK),
		       {UP_SEND_REPEAT, "X-H: 0123456789012345678901234567890123456789\r\n", 20000},
		       UP_TEXT("Content-Length: 2\r\n\r\n{}"), {UP_READ_EOF, NULL, 0}),
		SCRIPT({UP_READ, NULL, 0}, UP_TEXT(OK), {UP_SEND_REPEAT, "A:\r\n", 20000},
		       UP_TEXT("Content-Length: 2\r\n\r\n{}"), {UP_READ_EOF, NULL, 0}),
		SCRIPT({UP_READ, NULL, 0}, UP_TEXT("HTTP/1.1 200 "), {UP_SEND_REPEAT, "long reason ", 100000},
		       UP_TEXT("\r\n\r\n"), {UP_READ_EOF, NULL, 0}),
	};
	struct gw_options options = {.scripts = scripts, .nscripts = COUNT(scripts)};
	struct gw *gw = gw_start(&options);
	long before = daemon_rss_kib(gw->daemon);

	for (unsigned i = 0; i < COUNT(scripts); i++) {
		struct answer a = gw_ask(gw, GET_X);

		expect_error(&a, 502, "CONNECTION_ERROR");
		answer_fini(&a);
		cr_expect(upstream_wait_open(gw->up, 0), "case %u", i);
		cr_expect_lt(upstream_sent(gw->up, i), 2u << 20);
	}
	if (before > 0)
		cr_expect_lt(daemon_rss_kib(gw->daemon) - before, 20480);
	gw_stop(gw);
}

/* Among the access lines the ends that are errors are warnings, and only those. */
Test(dp_faults, ends_that_are_errors_are_warnings)
{
	const struct up_step *const scripts[] = {SCRIPT({UP_ECHO, NULL, 0}, {UP_READ, NULL, 0},
							UP_TEXT(OK "Content-Length: 9\r\n\r\nshort"),
							{UP_CLOSE, NULL, 0})};
	struct gw_options options = {.scripts = scripts, .nscripts = 1, .log = "level: warn, access: stderr"};
	struct gw *gw = gw_start(&options);
	struct answer a;

	dp_ask_ok(gw);
	a = gw_ask(gw, "GET /api/v1/cut HTTP/1.1\r\nHost: h\r\n\r\n");
	cr_expect_eq(a.end, ANSWER_CUT);
	answer_fini(&a);
	cr_expect(daemon_wait_log(gw->daemon, "warning stacygated: c"), "no line at level warning");
	cr_expect(daemon_wait_log(gw->daemon, "closed: answer-cut after 1 requests"));
	cr_expect_eq(daemon_count_log(gw->daemon, "end=response-cut"), 1);
	cr_expect_eq(daemon_count_log(gw->daemon, "warning stacygated: c"), 2);
	cr_expect_eq(daemon_count_log(gw->daemon, "end=done"), 1);
	a = gw_ask(gw, "GET /api/v1/x HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n");
	expect_error(&a, 400, "BAD_REQUEST");
	answer_fini(&a);
	cr_expect(daemon_wait_log(gw->daemon, "closed: bad-request"));
	gw_stop(gw);
}

/*
 * F20, F4: the upstream closes idle connections just when the next request goes out: no GET fails for it, no POST is sent
 * twice, whatever the race. Each connection answers a few and closes as soon as it has.
 */
Test(dp_faults, F20_keep_alive_race)
{
	enum {
		SCRIPTS = 40
	};
	const unsigned requests = dp_rounds(1500, 10000);
	static struct up_step steps[SCRIPTS][11];
	static const struct up_step *scripts[UP_MAX_CONNECTIONS];
	struct gw_options options = {.scripts = scripts, .nscripts = COUNT(scripts), .log = "level: warn"};
	unsigned posts = 0, seen = 0;
	uint32_t x = 3;
	struct gw *gw;
	struct raw r;

	for (unsigned i = 0; i < SCRIPTS; i++) {
		unsigned good = 1 + i % 8, n = 0;

		while (n < good)
			steps[i][n++] = (struct up_step){UP_ECHO, NULL, 0};
		/* A moment about as long as the client takes, or none. */
		if (i % 3)
			steps[i][n++] = (struct up_step){UP_DELAY, NULL, i % 3};
		steps[i][n] = (struct up_step){UP_CLOSE, NULL, 0};
		steps[i][10] = (struct up_step){UP_END, NULL, 0};
	}
	for (unsigned i = 0; i < COUNT(scripts); i++)
		scripts[i] = steps[i % SCRIPTS];
	gw = gw_start(&options);
	r = gw_connect(gw);
	for (unsigned i = 0; i < requests; i++) {
		bool post = i % 4 == 0;
		char request[120];
		struct answer a;

		snprintf(request, sizeof(request), "%s /api/v1/x?%u HTTP/1.1\r\nHost: h\r\n%s\r\n",
			 post ? "POST" : "GET", i, post ? "Content-Length: 0\r\n" : "");
		cr_assert(raw_text(&r, request));
		a = raw_answer(&r, false, WAIT_MS);
		cr_assert_eq(a.end, ANSWER_COMPLETE);
		cr_assert(a.status == 200 || (post && a.status == 502), "request %u: %u", i, a.status);
		if (wire_header_is(answer_head(&a), "Connection", "close")) {
			raw_close(&r);
			r = gw_connect(gw);
		}
		posts += post;
		answer_fini(&a);
		if (dp_random(&x, 3) == 0)
			(void)raw_silent(&r, dp_random(&x, 3));
	}
	for (unsigned i = 0; i < upstream_requests(gw->up); i++) {
		struct buf head = upstream_request_head(gw->up, i);

		seen += str_starts(buf_str(&head), STR("POST "));
		buf_fini(&head);
	}
	cr_expect_leq(seen, posts, "%u POSTs were sent for %u", seen, posts);
	raw_close(&r);
	gw_stop(gw);
}
