/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies in both directions: exact bytes, framing kept or made anew, ends that are told apart. */
#include <criterion/criterion.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/gateway.h"
#include "lib/wait.h"
#include "lib/wire.h"

TestSuite(bodies, .fini = gw_fini);

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define GET_X        "GET /api/v1/x HTTP/1.1\r\nHost: h\r\n\r\n"

/* n bytes of every value, so that nothing that interprets them goes unnoticed. */
static struct buf pattern(size_t n)
{
	struct buf b = BUF_EMPTY;
	uint32_t x = 12345;

	for (size_t i = 0; i < n; i++) {
		x = x * 1664525 + 1013904223;
		buf_add_char(&b, (char)(x >> 24));
	}
	cr_assert_not(b.failed);
	return b;
}

static void send_with_length(struct gw *gw, const struct buf *body)
{
	struct raw r = gw_connect(gw);
	struct answer a;
	char head[200];

	snprintf(head, sizeof(head), "POST /api/v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: %zu\r\n\r\n", body->len);
	cr_assert(raw_text(&r, head));
	cr_assert(raw_send(&r, buf_data(body), body->len));
	a = raw_answer(&r, false, WAIT_MS);
	expect_status(&a, 200);
	answer_fini(&a);
	raw_close(&r);
}

static void send_in_chunks(struct gw *gw, const struct buf *body, size_t chunk)
{
	struct raw r = gw_connect(gw);
	struct answer a;

	cr_assert(raw_text(&r, "POST /api/v1/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"));
	for (size_t at = 0; at < body->len; at += chunk) {
		size_t n = body->len - at < chunk ? body->len - at : chunk;
		char line[32];

		snprintf(line, sizeof(line), "%zX;ext=\"y\"\r\n", n);
		cr_assert(raw_text(&r, line));
		cr_assert(raw_send(&r, buf_data(body) + at, n));
		cr_assert(raw_text(&r, "\r\n"));
	}
	cr_assert(raw_text(&r, "0\r\nX-API-Key: theirs\r\nX-User-Id: theirs\r\n\r\n"));
	a = raw_answer(&r, false, WAIT_MS);
	expect_status(&a, 200);
	answer_fini(&a);
	raw_close(&r);
}

/* Request bodies with a length arrive byte for byte and keep that length. */
Test(bodies, request_length)
{
	static const size_t sizes[] = {0, 1, 4095, 65536, 100001, 3000000};
	struct gw *gw = gw_start(NULL);

	for (unsigned i = 0; i < COUNT(sizes); i++) {
		struct buf body = pattern(sizes[i]), got, head;
		char length[32];

		send_with_length(gw, &body);
		got = upstream_request_body(gw->up, i);
		head = upstream_request_head(gw->up, i);
		cr_expect(str_eq(buf_str(&got), buf_str(&body)), "%zu bytes differ", sizes[i]);
		snprintf(length, sizeof(length), "%zu", sizes[i]);
		cr_expect(wire_header_is(buf_str(&head), "Content-Length", length));
		cr_expect_eq(wire_count(buf_str(&head), "Transfer-Encoding"), 0);
		buf_fini(&body);
		buf_fini(&got);
		buf_fini(&head);
	}
	gw_stop(gw);
}

/* P8, P20: chunked request bodies are framed anew: same bytes, no extension, no trailer of the client's. */
Test(bodies, request_chunked)
{
	static const struct {
		size_t size, chunk;
	} cases[] = {{1, 1}, {10, 3}, {65536, 1000}, {500000, 70000}, {2000, 1}};
	struct gw *gw = gw_start(NULL);
	struct buf all;

	for (unsigned i = 0; i < COUNT(cases); i++) {
		struct buf body = pattern(cases[i].size), got, head;

		send_in_chunks(gw, &body, cases[i].chunk);
		got = upstream_request_body(gw->up, i);
		head = upstream_request_head(gw->up, i);
		cr_expect(str_eq(buf_str(&got), buf_str(&body)), "case %u differs", i);
		cr_expect_eq(wire_count(buf_str(&head), "Transfer-Encoding") +
				     wire_count(buf_str(&head), "Content-Length"),
			     1);
		buf_fini(&body);
		buf_fini(&got);
		buf_fini(&head);
	}
	all = upstream_everything(gw->up);
	cr_expect(!buf_contains(&all, "theirs"), "a trailer went up");
	cr_expect(!buf_contains(&all, ";ext"), "a chunk extension went up");
	buf_fini(&all);
	gw_stop(gw);
}

/* P17: a client that waits for 100 Continue gets it, or the answer, without delay. */
Test(bodies, expect_continue)
{
	struct gw *gw = gw_start(NULL);
	struct raw r = gw_connect(gw);
	uint64_t begin = wait_now_ms();
	struct answer a;
	struct buf body;

	cr_assert(raw_text(&r,
			   "POST /api/v1/x HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"));
	a = raw_answer(&r, false, WAIT_MS);
	cr_expect_eq(a.status, 100);
	cr_expect_lt(wait_now_ms() - begin, 1000);
	answer_fini(&a);
	cr_assert(raw_text(&r, "hello"));
	a = raw_answer(&r, false, WAIT_MS);
	expect_status(&a, 200);
	answer_fini(&a);
	body = upstream_request_body(gw->up, 0);
	cr_expect(str_eq(buf_str(&body), STR("hello")));
	buf_fini(&body);
	raw_close(&r);
	gw_stop(gw);
}

struct response_case {
	const char *method;
	const char *sent; /* by the upstream, in one write or byte by byte */
	const char *wire; /* body bytes that the client must see, framing included; NULL: the same as sent */
	enum answer_end end;
	unsigned status;
	bool closes;            /* the upstream closes behind it */
	bool reset;             /* with a reset where there is one */
	bool closed_for_client; /* the client's connection ends with it */
};

static const struct response_case responses[] = {
	{"GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello", ANSWER_COMPLETE, 200, 0, 0, 0},
	{"GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", ANSWER_COMPLETE, 200, 0, 0, 0},
	{"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3;x=1\r\nabc\r\n0\r\n\r\n", NULL,
	 ANSWER_COMPLETE, 200, 0, 0, 0},
	{"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "0\r\n\r\n", ANSWER_COMPLETE, 200, 0,
	 0, 0},
	{"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n",
	 NULL, ANSWER_COMPLETE, 200, 0, 0, 0},
	{"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "", ANSWER_COMPLETE, 200, 0, 0, 0},
	{"HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "", ANSWER_COMPLETE, 200, 0, 0, 0},
	{"GET", "HTTP/1.1 204 No Content\r\n\r\n", "", ANSWER_COMPLETE, 204, 0, 0, 0},
	{"DELETE", "HTTP/1.1 204 No Content\r\nX: y\r\n\r\n", "", ANSWER_COMPLETE, 204, 0, 0, 0},
	{"GET", "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n", "", ANSWER_COMPLETE, 304, 0, 0, 0},
	{"GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "", ANSWER_COMPLETE, 304, 0, 0, 0},
	{"GET", "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}", "{}", ANSWER_COMPLETE, 404, 0, 0, 0},
	/* F23: a redirect is the client's business. */
	{"GET", "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", "", ANSWER_COMPLETE,
	 302, 0, 0, 0},
	/* F34 */
	{"GET", "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\n{}", "{}",
	 ANSWER_COMPLETE, 429, 0, 0, 0},
	/* F6, F7: cut responses look cut. */
	{"GET", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", "hello", ANSWER_CUT, 200, 1, 0, 1},
	{"GET", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", "hello", ANSWER_CUT, 200, 1, 1, 1},
	{"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "5\r\nhello\r\n", ANSWER_CUT,
	 200, 1, 0, 1},
	{"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "5\r\nhello\r\n", ANSWER_CUT,
	 200, 1, 1, 1},
	{"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", NULL, ANSWER_CUT, 200, 1, 0,
	 1},
	/* The next chunk line is malformed: what was good went out, no end is forged. */
	{"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n", "5\r\nhello\r\n",
	 ANSWER_CUT, 200, 0, 0, 1},
	/* A connection that the upstream will close serves one answer, whole. */
	{"GET", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello", "hello", ANSWER_COMPLETE, 200,
	 1, 0, 0},
};

static const char *body_of(const char *message)
{
	return strstr(message, "\r\n\r\n") + 4;
}

static void check_response(const struct response_case *c, bool bytewise, unsigned number)
{
	const struct up_step script[] = {
		{UP_READ, NULL, 0},
		{bytewise ? UP_SEND_BYTEWISE : UP_SEND, c->sent, 0},
		{c->reset    ? UP_RESET
		 : c->closes ? UP_CLOSE
			     : UP_READ_EOF,
		 NULL, 0},
		{UP_END, NULL, 0},
	};
	const struct up_step *const scripts[] = {script};
	struct gw_options options = {.scripts = scripts, .nscripts = 1, .tcp = c->reset};
	struct gw *gw = gw_start(&options);
	struct raw r = gw_connect(gw);
	const char *want = c->wire ? c->wire : body_of(c->sent);
	char request[100];
	struct answer a;

	snprintf(request, sizeof(request), "%s /api/v1/x HTTP/1.1\r\nHost: h\r\n\r\n", c->method);
	cr_assert(raw_text(&r, request));
	a = raw_answer(&r, !strcmp(c->method, "HEAD"), WAIT_MS);
	cr_expect_eq(a.end, c->end, "case %u: end %d", number, (int)a.end);
	cr_expect_eq(a.status, c->status, "case %u: status %u", number, a.status);
	/* Of a cut body a part may be missing (a reset overtakes bytes), but nothing may be made up. */
	if (c->end == ANSWER_CUT)
		cr_expect(str_starts(str_from(want), buf_str(&a.wire)) && (c->reset || buf_contains(&a.wire, "hello")),
			  "case %u: body %.*s", number, STR_ARG(buf_str(&a.wire)));
	else
		cr_expect(str_eq(buf_str(&a.wire), str_from(want)), "case %u: body %.*s", number,
			  STR_ARG(buf_str(&a.wire)));
	if (a.status == 204)
		cr_expect_eq(wire_count(answer_head(&a), "Content-Length"), 0, "case %u", number);
	if (!strcmp(c->method, "HEAD"))
		cr_expect_eq(wire_count(answer_head(&a), "Content-Length") +
				     wire_count(answer_head(&a), "Transfer-Encoding"),
			     1, "case %u: the framing that GET would have is lost", number);
	answer_fini(&a);
	if (c->closed_for_client)
		cr_expect(raw_closes(&r, WAIT_MS), "case %u: left open", number);
	else
		cr_expect(raw_silent(&r, 20), "case %u: closed or more bytes", number);
	raw_close(&r);
	gw_stop(gw);
}

/* Responses keep their wire framing, and a response that breaks off never looks whole. */
Test(bodies, responses)
{
	for (unsigned i = 0; i < COUNT(responses); i++)
		check_response(&responses[i], false, i);
}

/* The same when every byte comes in a segment of its own. */
Test(bodies, responses_bytewise)
{
	for (unsigned i = 0; i < COUNT(responses); i++)
		if (!responses[i].reset)
			check_response(&responses[i], true, i);
}

/* F22: a body that ends with the connection is given an end of its own towards a 1.1 client; bytes exact. */
Test(bodies, until_close)
{
	const struct up_step *const scripts[] = {
		SCRIPT({UP_READ, NULL, 0}, UP_TEXT("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nhello "),
		       {UP_GATE, NULL, 0}, UP_TEXT("world"), {UP_CLOSE, NULL, 0})};
	struct gw_options options = {.scripts = scripts, .nscripts = 1};
	struct gw *gw = gw_start(&options);
	struct raw r = gw_connect(gw);
	struct answer a;

	cr_assert(raw_text(&r, GET_X));
	cr_assert(raw_read_text(&r, "hello ", WAIT_MS), "the first part is held back");
	upstream_open_gate(gw->up, 0);
	a = raw_answer(&r, false, WAIT_MS);
	expect_status(&a, 200);
	cr_expect(str_eq(buf_str(&a.body), STR("hello world")));
	answer_fini(&a);
	raw_close(&r);
	gw_stop(gw);
}

/* F13, F32: what the upstream sends is with the client at once, record by record. */
Test(bodies, streamed)
{
	const struct up_step *const scripts[] = {SCRIPT(
		{UP_READ, NULL, 0},
		UP_TEXT("HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"),
		{UP_GATE, NULL, 0}, UP_TEXT("3\r\none\r\n"), {UP_GATE, NULL, 1}, UP_TEXT("3\r\ntwo\r\n"),
		{UP_GATE, NULL, 2}, UP_TEXT("0\r\n\r\n"), {UP_FOREVER, NULL, 0})};
	struct gw_options options = {.scripts = scripts, .nscripts = 1};
	struct gw *gw = gw_start(&options);
	struct raw r = gw_connect(gw);
	struct answer a;

	cr_assert(raw_text(&r, GET_X));
	cr_assert(raw_read_text(&r, "\r\n\r\n", WAIT_MS), "the head is held back");
	upstream_open_gate(gw->up, 0);
	cr_assert(raw_read_text(&r, "3\r\none\r\n", WAIT_MS), "the first record is held back");
	upstream_open_gate(gw->up, 1);
	cr_assert(raw_read_text(&r, "3\r\ntwo\r\n", WAIT_MS), "the second record is held back");
	cr_expect(raw_silent(&r, 30), "an end that nobody sent");
	upstream_open_gate(gw->up, 2);
	a = raw_answer(&r, false, WAIT_MS);
	expect_status(&a, 200);
	cr_expect(str_eq(buf_str(&a.wire), STR("3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")));
	answer_fini(&a);
	raw_close(&r);
	gw_stop(gw);
}

/* K4: a client that does not read stops the upstream's sending; when it reads, every byte is there. */
Test(bodies, back_pressure)
{
	enum {
		TIMES = 24000
	};
	static char piece[1025];
	struct up_step script[] = {
		{UP_READ, NULL, 0},
		{UP_SEND, "HTTP/1.1 200 OK\r\nContent-Length: 24576000\r\n\r\n", 0},
		{UP_SEND_REPEAT, piece, TIMES},
		{UP_FOREVER, NULL, 0},
	};
	const struct up_step *const scripts[] = {script};
	struct gw_options options = {.scripts = scripts, .nscripts = 1};
	size_t before, after;
	struct gw *gw;
	struct raw r;

	memset(piece, 'x', sizeof(piece) - 1);
	gw = gw_start(&options);
	r = gw_connect(gw);
	cr_assert(raw_text(&r, GET_X));
	/* Until nothing moves any more: what is under way is what buffers hold. */
	cr_assert(upstream_wait_requests(gw->up, 1));
	do {
		before = upstream_sent(gw->up, 0);
		(void)wait_fd(-1, 0, 150);
		after = upstream_sent(gw->up, 0);
	} while (after != before || after == 0);
	cr_expect_lt(after, 4u << 20, "%zu bytes are buffered somewhere", after);
	cr_assert(raw_read(&r, 24576000, 30000), "%zu bytes came", r.in.len);
	for (size_t i = r.in.len - 1024; i < r.in.len; i++)
		cr_assert_eq(buf_data(&r.in)[i], 'x');
	raw_close(&r);
	gw_stop(gw);
}

/* The same the other way: an upstream that does not read stops the client's sending. */
Test(bodies, back_pressure_upload)
{
	const struct up_step *const scripts[] = {
		SCRIPT({UP_READ_HEAD, NULL, 0}, {UP_GATE, NULL, 0}, {UP_ECHO, NULL, 0})};
	enum {
		SIZE = 16 << 20
	};
	struct gw_options options = {.scripts = scripts, .nscripts = 1};
	struct gw *gw = gw_start(&options);
	struct raw r = gw_connect(gw);
	struct buf body = pattern(SIZE), got;
	struct answer a;
	size_t sent = 0, more;
	char head[100];

	snprintf(head, sizeof(head), "PUT /api/v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n", SIZE);
	cr_assert(raw_text(&r, head));
	cr_assert(upstream_wait_bytes(gw->up, 0, 10));
	do {
		more = 0;
		if (wait_fd(r.fd, POLLOUT, 150))
			more = raw_push(&r, buf_data(&body) + sent, SIZE - sent);
		sent += more;
	} while (more && sent < SIZE);
	cr_expect_lt(sent, 6u << 20, "%zu bytes are buffered somewhere", sent);
	upstream_open_gate(gw->up, 0);
	cr_assert(raw_send(&r, buf_data(&body) + sent, SIZE - sent));
	a = raw_answer(&r, false, WAIT_MS * 2);
	expect_status(&a, 200);
	got = upstream_request_body(gw->up, 0);
	cr_expect(str_eq(buf_str(&got), buf_str(&body)));
	buf_fini(&got);
	buf_fini(&body);
	answer_fini(&a);
	raw_close(&r);
	gw_stop(gw);
}

/* F19: an answer that comes before the body has gone reaches the client, and the upstream connection is not reused. */
Test(bodies, early_answer)
{
	const struct up_step *const scripts[] = {
		SCRIPT({UP_READ_HEAD, NULL, 0}, UP_TEXT("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\n{}"),
		       {UP_READ_EOF, NULL, 0}),
		SCRIPT({UP_ECHO, NULL, 0}, {UP_FOREVER, NULL, 0})};
	struct gw_options options = {.scripts = scripts, .nscripts = 2};
	struct gw *gw = gw_start(&options);
	struct raw r = gw_connect(gw);
	struct answer a;

	cr_assert(raw_text(&r, "POST /api/v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 50000000\r\n\r\nfirst bytes"));
	a = raw_answer(&r, false, WAIT_MS);
	expect_status(&a, 413);
	answer_fini(&a);
	raw_close(&r);
	cr_expect(upstream_wait_closed(gw->up, 0));
	a = gw_ask(gw, GET_X);
	expect_status(&a, 200);
	answer_fini(&a);
	cr_expect_eq(upstream_connections(gw->up), 2);
	gw_stop(gw);
}

/* F19: the client goes on uploading; it can read the answer, whole, before it sees the end. */
Test(bodies, early_answer_while_uploading)
{
	const struct up_step *const scripts[] = {
		SCRIPT({UP_READ_HEAD, NULL, 0}, UP_TEXT("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\n{}"),
		       {UP_CLOSE, NULL, 0})};
	struct gw_options options = {.scripts = scripts, .nscripts = 1};
	struct gw *gw = gw_start(&options);
	struct buf piece = pattern(1 << 20);

	for (unsigned i = 0; i < 10; i++) {
		struct raw r = gw_connect(gw);
		struct answer a;

		cr_assert(raw_text(&r, "POST /api/v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 50000000\r\n\r\n"));
		for (unsigned n = 0; n < 4; n++)
			(void)raw_push(&r, buf_data(&piece), piece.len);
		a = raw_answer(&r, false, WAIT_MS);
		expect_status(&a, 413);
		answer_fini(&a);
		raw_close(&r);
	}
	buf_fini(&piece);
	gw_stop(gw);
}

/* K2: a client that dies in its body leaves no whole request upstream. */
Test(bodies, client_gone_in_body)
{
	static const char *const begun[] = {
		"POST /api/v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhello",
		"POST /api/v1/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
	};
	struct gw *gw = gw_start(NULL);

	for (unsigned i = 0; i < COUNT(begun); i++) {
		struct raw r = gw_connect(gw);

		cr_assert(raw_text(&r, begun[i]));
		cr_assert(upstream_wait_bytes(gw->up, i, 10));
		raw_reset(&r);
		cr_expect(upstream_wait_closed(gw->up, i), "case %u: the upstream is left waiting", i);
	}
	cr_expect_eq(upstream_requests(gw->up), 0);
	gw_stop(gw);
}

/* K11: a chunked body over the bound is cut, and the upstream sees no whole request. */
Test(bodies, too_large)
{
	struct gw_options options = {.top = "bounds: { body: 64KiB }"};
	struct gw *gw = gw_start(&options);
	struct raw r = gw_connect(gw);
	struct buf body = pattern(10000);
	struct answer a;

	cr_assert(raw_text(&r, "POST /api/v1/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"));
	for (unsigned i = 0; i < 8; i++) {
		(void)raw_text(&r, "2710\r\n");
		(void)raw_send(&r, buf_data(&body), body.len);
		(void)raw_text(&r, "\r\n");
	}
	a = raw_answer(&r, false, WAIT_MS);
	expect_error(&a, 413, "TOO_LARGE");
	answer_fini(&a);
	raw_close(&r);
	cr_expect_eq(upstream_requests(gw->up), 0);
	/* One that was made for it and never written to may wait for the next request. */
	if (upstream_connections(gw->up)) {
		struct buf seen = upstream_received(gw->up, 0);
		cr_expect(seen.len == 0 || upstream_wait_closed(gw->up, 0));
		buf_fini(&seen);
	}
	a = gw_ask(gw, "POST /api/v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 65537\r\n\r\n");
	expect_error(&a, 413, "TOO_LARGE");
	answer_fini(&a);
	buf_fini(&body);
	gw_stop(gw);
}
