/* SPDX-License-Identifier: Apache-2.0 */
/* F13, F14, F29, F32: streams pass as they come and end as they end; heartbeats; the client's own timeout. */
#include <criterion/criterion.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "integration/dp_lib.h"

TestSuite(dp_stream, .fini = gw_fini);

#define HEARTBEAT_RULE                                                                                                 \
	"[ { name: me, match: {}, upstream: main, credential: team, user_id: alice, admin: true, "                     \
	"heartbeat: 100ms } ]"
#define NDJSON  "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson; charset=utf-8\r\n"
#define SSE     "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
#define CHUNKED "Transfer-Encoding: chunked\r\n\r\n"

/* An answer under way, its head already taken by the client. */
struct stream {
	struct raw client;
	struct raw server;
	struct buf head;
};

static void take_head(struct stream *s)
{
	size_t n;

	cr_assert(raw_read_text(&s->client, "\r\n\r\n", WAIT_MS), "no head: %.*s", STR_ARG(buf_str(&s->client.in)));
	n = wire_head_bytes(buf_str(&s->client.in));
	s->head = BUF_EMPTY;
	buf_add(&s->head, buf_data(&s->client.in), n);
	buf_consume(&s->client.in, n);
}

static struct stream stream_open(struct gw *gw, int listener, const char *request, const char *answer)
{
	struct stream s = {.client = gw_connect(gw)};
	struct buf head;

	cr_assert(raw_text(&s.client, request));
	s.server = dp_accept(listener, &head);
	buf_fini(&head);
	cr_assert(raw_text(&s.server, answer));
	take_head(&s);
	return s;
}

static void stream_close(struct stream *s)
{
	raw_close(&s->client);
	raw_close(&s->server);
	buf_fini(&s->head);
}

static void expect_wire(struct raw *r, const char *want)
{
	cr_expect(raw_read(r, strlen(want), WAIT_MS), "only '%.*s'", STR_ARG(buf_str(&r->in)));
	cr_expect(str_eq(buf_str(&r->in), str_from(want)), "'%.*s' instead of '%s'", STR_ARG(buf_str(&r->in)), want);
	buf_reset(&r->in);
}

/* Takes heartbeats and nothing else, up to these bytes: how many beats. */
static unsigned take_beats(struct raw *r, const char *beat, const char *until)
{
	unsigned n = 0;

	for (;;) {
		size_t b = strlen(beat), u = strlen(until);

		cr_assert(raw_read(r, b < u ? b : u, WAIT_MS), "neither a heartbeat nor '%s': '%.*s'", until,
			  STR_ARG(buf_str(&r->in)));
		if (raw_read(r, u, 50) && str_starts(buf_str(&r->in), str_from(until))) {
			buf_consume(&r->in, u);
			return n;
		}
		cr_assert(raw_read(r, b, WAIT_MS));
		cr_assert(str_starts(buf_str(&r->in), str_from(beat)), "'%.*s'", STR_ARG(buf_str(&r->in)));
		buf_consume(&r->in, b);
		n++;
	}
}

/* Waits for n heartbeats, nothing else among them. */
static void wait_beats(struct raw *r, const char *beat, unsigned n)
{
	while (n--) {
		cr_assert(raw_read(r, strlen(beat), WAIT_MS), "no heartbeat");
		cr_assert(str_starts(buf_str(&r->in), str_from(beat)), "'%.*s'", STR_ARG(buf_str(&r->in)));
		buf_consume(&r->in, strlen(beat));
	}
}

/* Heartbeats come on silent streams between whole lines, never within one, and change nothing else. */
Test(dp_stream, heartbeat)
{
	static const struct {
		const char *head;
		const char *beat;
		const char *lines[3]; /* whole; begun; the rest of it */
	} cases[] = {
		{NDJSON CHUNKED, "1\r\n\n\r\n", {"8\r\n{\"a\":1}\n\r\n", "4\r\n{\"b\"\r\n", "4\r\n:2}\n\r\n"}},
		{SSE CHUNKED, "2\r\n:\n\r\n", {"9\r\ndata: a\n\n\r\n", "4\r\ndata\r\n", "6\r\n: bc\n\n\r\n"}},
	};
	struct gw_options options = {.clients = HEARTBEAT_RULE};
	int listener;
	struct gw *gw = dp_by_hand(&options, &listener);

	for (unsigned i = 0; i < COUNT(cases); i++) {
		struct stream s = stream_open(gw, listener, GET_X, cases[i].head);
		struct answer a;
		struct buf head;

		cr_expect(wire_header_is(buf_str(&s.head), "Transfer-Encoding", "chunked"));
		wait_beats(&s.client, cases[i].beat, 2);
		cr_assert(raw_text(&s.server, cases[i].lines[0]));
		take_beats(&s.client, cases[i].beat, cases[i].lines[0]);
		wait_beats(&s.client, cases[i].beat, 2);
		cr_assert(raw_text(&s.server, cases[i].lines[1]));
		take_beats(&s.client, cases[i].beat, cases[i].lines[1]);
		cr_expect(raw_silent(&s.client, 350), "a heartbeat within a line: %.*s",
			  STR_ARG(buf_str(&s.client.in)));
		cr_assert(raw_text(&s.server, cases[i].lines[2]));
		expect_wire(&s.client, cases[i].lines[2]);
		wait_beats(&s.client, cases[i].beat, 1);
		cr_assert(raw_text(&s.server, "0\r\n\r\n"));
		take_beats(&s.client, cases[i].beat, "0\r\n\r\n");
		/* It ends with the stream, and both connections are good for more. */
		cr_expect(raw_silent(&s.client, 250));
		cr_assert(raw_text(&s.client, POST_X));
		cr_assert(dp_read_head(&s.server, &head));
		buf_fini(&head);
		cr_assert(raw_text(&s.server, UP_OK_TEXT));
		a = raw_answer(&s.client, false, WAIT_MS);
		expect_status(&a, 200);
		answer_fini(&a);
		stream_close(&s);
	}
	close(listener);
	gw_stop(gw);
}

/* A busy stream gets none. */
Test(dp_stream, heartbeat_only_when_silent)
{
	struct gw_options options = {
		.clients = "[ { name: me, match: {}, upstream: main, credential: team, user_id: alice, "
			   "admin: true, heartbeat: 600ms } ]"};
	int listener;
	struct gw *gw = dp_by_hand(&options, &listener);
	struct stream s = stream_open(gw, listener, GET_X, NDJSON CHUNKED);

	for (uint64_t begin = wait_now_ms(); wait_now_ms() - begin < 1500;) {
		cr_assert(raw_text(&s.server, "3\r\n{}\n\r\n"));
		expect_wire(&s.client, "3\r\n{}\n\r\n");
		(void)raw_silent(&s.client, 20);
	}
	stream_close(&s);
	close(listener);
	gw_stop(gw);
}

/* Where a heartbeat would be part of the data, or nobody asked for one, there is none. */
Test(dp_stream, heartbeat_where_none_may_be)
{
	static const struct {
		const char *rule;
		const char *request;
		const char *head;
		const char *body;
	} cases[] = {
		{NULL, GET_X, NDJSON CHUNKED, "3\r\n{}\n\r\n"},
		{NULL, GET_X, SSE CHUNKED, "3\r\n:x\n\r\n"},
		{HEARTBEAT_RULE, GET_X, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" CHUNKED,
		 "3\r\n{}\n\r\n"},
		{HEARTBEAT_RULE, GET_X, "HTTP/1.1 200 OK\r\n" CHUNKED, "3\r\n{}\n\r\n"},
		{HEARTBEAT_RULE, GET_X, "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjsonx\r\n" CHUNKED,
		 "3\r\n{}\n\r\n"},
		{HEARTBEAT_RULE, GET_X, NDJSON "Content-Length: 6\r\n\r\n", "{}\n"},
		{HEARTBEAT_RULE, GET_X, NDJSON "Content-Encoding: gzip\r\n" CHUNKED, "3\r\n\x1f\x8b\n\r\n"},
	};

	for (unsigned i = 0; i < COUNT(cases); i++) {
		struct gw_options options = {.clients = cases[i].rule};
		int listener;
		struct gw *gw = dp_by_hand(&options, &listener);
		struct stream s = stream_open(gw, listener, cases[i].request, cases[i].head);

		cr_assert(raw_text(&s.server, cases[i].body));
		cr_expect(raw_read(&s.client, strlen(cases[i].body), WAIT_MS), "case %u", i);
		cr_expect(raw_silent(&s.client, 250), "case %u: a heartbeat", i);
		cr_expect(str_eq(buf_str(&s.client.in), str_from(cases[i].body)), "case %u: '%.*s'", i,
			  STR_ARG(buf_str(&s.client.in)));
		stream_close(&s);
		close(listener);
		gw_stop(gw);
	}
}

/* A 1.0 client reads until the end: a line of ours would be one of the data. */
Test(dp_stream, heartbeat_not_for_old_clients)
{
	struct gw_options options = {.clients = HEARTBEAT_RULE};
	int listener;
	struct gw *gw = dp_by_hand(&options, &listener);
	struct stream s =
		stream_open(gw, listener, "GET /api/v1/x HTTP/1.0\r\nHost: h\r\n\r\n", NDJSON CHUNKED "3\r\n{}\n\r\n");

	cr_expect(raw_read(&s.client, 3, WAIT_MS));
	cr_expect(raw_silent(&s.client, 250));
	cr_assert(raw_text(&s.server, "3\r\n[]\n\r\n0\r\n\r\n"));
	cr_expect(raw_closes(&s.client, WAIT_MS));
	cr_expect(str_eq(buf_str(&s.client.in), STR("{}\n[]\n")), "'%.*s'", STR_ARG(buf_str(&s.client.in)));
	stream_close(&s);
	close(listener);
	gw_stop(gw);
}

/* The answer to HEAD has the head of a stream and nothing behind it. */
Test(dp_stream, heartbeat_not_for_head)
{
	static const char *const heads[] = {NDJSON CHUNKED, SSE CHUNKED, NDJSON "\r\n"};
	struct gw_options options = {.clients = HEARTBEAT_RULE};
	int listener;
	struct gw *gw = dp_by_hand(&options, &listener);

	for (unsigned i = 0; i < COUNT(heads); i++) {
		struct stream s = stream_open(gw, listener, "HEAD /api/v1/x HTTP/1.1\r\nHost: h\r\n\r\n", heads[i]);

		cr_expect(raw_silent(&s.client, 250) && s.client.in.len == 0, "head %u: closed, or '%.*s'", i,
			  STR_ARG(buf_str(&s.client.in)));
		stream_close(&s);
	}
	close(listener);
	gw_stop(gw);
}

/* F29, F7: a stream that is cut looks cut, heartbeats or not, and is counted; one that ends by the close has ended. */
Test(dp_stream, F29_cut_streams)
{
	static const struct {
		const char *rule;
		const char *head;
		const char *body;
		bool cut;
	} cases[] = {
		{NULL, NDJSON CHUNKED, "3\r\n{}\n\r\n", true},
		{NULL, SSE CHUNKED, "8\r\ndata: a\n\r\n", true},
		{NULL, NDJSON CHUNKED, "3\r\n{}\n\r\n9\r\n{\"half", true},
		{HEARTBEAT_RULE, NDJSON CHUNKED, "3\r\n{}\n\r\n", true},
		{HEARTBEAT_RULE, SSE CHUNKED, "8\r\ndata: a\n\r\n", true},
		{HEARTBEAT_RULE, NDJSON CHUNKED, "3\r\n{}\n\r\n0\r\n", true},
		{HEARTBEAT_RULE, NDJSON "\r\n", "{}\n", false},
		{NULL, NDJSON "\r\n", "{}\n", false},
	};

	for (unsigned i = 0; i < COUNT(cases); i++) {
		struct gw_options options = {.clients = cases[i].rule};
		int listener;
		struct gw *gw = dp_by_hand(&options, &listener);
		struct stream s = stream_open(gw, listener, GET_X, cases[i].head);
		struct buf body = BUF_EMPTY;
		enum wire_extent extent;
		size_t used;

		cr_assert(raw_text(&s.server, cases[i].body));
		cr_assert(raw_read(&s.client, 6, WAIT_MS));
		raw_close(&s.server);
		if (cases[i].cut)
			cr_expect(raw_closes(&s.client, WAIT_MS), "case %u: left open", i);
		else
			cr_expect(raw_read_text(&s.client, "0\r\n\r\n", WAIT_MS), "case %u: no end", i);
		extent = wire_dechunk(buf_str(&s.client.in), &used, &body);
		cr_expect_eq(extent, cases[i].cut ? WIRE_MORE : WIRE_COMPLETE, "case %u: '%.*s'", i,
			     STR_ARG(buf_str(&s.client.in)));
		cr_expect(!s.client.reset || cases[i].cut);
		cr_expect(dp_wait_status(gw, "requests.ends.response-cut", cases[i].cut), "case %u", i);
		if (cases[i].cut)
			cr_expect(daemon_wait_log(gw->daemon, "response-cut"), "case %u: the reason is not logged", i);
		buf_fini(&body);
		stream_close(&s);
		close(listener);
		gw_stop(gw);
	}
}

/* stream_idle cuts a stream that its server has forgotten; our heartbeats are no news from it, its own records are. */
Test(dp_stream, stream_idle)
{
	static const char *const rules[] = {NULL, HEARTBEAT_RULE};
	static const char *const heads[] = {NDJSON CHUNKED, SSE CHUNKED};

	for (unsigned i = 0; i < COUNT(rules) * COUNT(heads); i++) {
		struct gw_options options = {.clients = rules[i / 2],
					     .timeouts = "stream_idle: 500ms, body_idle: 100ms"};
		int listener;
		struct gw *gw = dp_by_hand(&options, &listener);
		struct stream s = stream_open(gw, listener, GET_X, heads[i % 2]);
		uint64_t begin;

		for (unsigned n = 0; n < 3; n++) {
			(void)wait_fd(s.server.fd, POLLIN, 250);
			cr_assert(raw_text(&s.server, "2\r\n\n\n\r\n"), "case %u: cut although records come", i);
		}
		begin = wait_now_ms();
		cr_expect(raw_closes(&s.client, WAIT_MS), "case %u: not cut", i);
		cr_expect(wait_now_ms() - begin >= 350 && wait_now_ms() - begin < 2500, "case %u", i);
		cr_expect(!buf_contains(&s.client.in, "0\r\n\r\n"), "case %u: a forged end", i);
		cr_expect(raw_closes(&s.server, WAIT_MS));
		stream_close(&s);
		close(listener);
		gw_stop(gw);
	}
}

static int by_size(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* F32: each record is passed on when it comes. */
Test(dp_stream, F32_latency)
{
	enum {
		RECORDS = 101
	};
	int listener;
	struct gw *gw = dp_by_hand(NULL, &listener);
	struct stream s = stream_open(gw, listener, GET_X, NDJSON CHUNKED);
	uint64_t took[RECORDS];

	for (unsigned i = 0; i < RECORDS; i++) {
		uint64_t begin = wait_now_ms();

		cr_assert(raw_text(&s.server, "3\r\n{}\n\r\n"));
		expect_wire(&s.client, "3\r\n{}\n\r\n");
		took[i] = wait_now_ms() - begin;
	}
	qsort(took, RECORDS, sizeof(took[0]), by_size);
	cr_expect_lt(took[RECORDS / 2], 50, "%llu ms in the middle", (unsigned long long)took[RECORDS / 2]);
	stream_close(&s);
	close(listener);
	gw_stop(gw);
}

/* F13: a body that comes slowly but does come is passed on, byte by byte, for longer than body_idle in all. */
Test(dp_stream, F13_slow_body)
{
	struct gw_options options = {.timeouts = "body_idle: 500ms"};
	int listener;
	struct gw *gw = dp_by_hand(&options, &listener);
	struct stream s = stream_open(gw, listener, GET_X, "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n");

	for (unsigned i = 0; i < 20; i++) {
		char byte[2] = {(char)('a' + i), 0};

		cr_assert(raw_silent(&s.client, 50), "ended after %u bytes", i);
		cr_assert(raw_text(&s.server, byte));
		expect_wire(&s.client, byte);
	}
	stream_close(&s);
	close(listener);
	gw_stop(gw);
}

/* body_idle is about the upstream: while it is our client that does not read, nobody is late. */
Test(dp_stream, slow_reader_is_no_stalled_body)
{
	static const char *const kinds[] = {"", "Content-Type: application/x-ndjson\r\n"};

	for (unsigned i = 0; i < COUNT(kinds); i++) {
		static char piece[1025], head[200];
		const struct up_step script[] = {
			{UP_READ, NULL, 0}, {UP_SEND, head, 0}, {UP_SEND_REPEAT, piece, 8192}, {UP_FOREVER, NULL, 0}};
		const struct up_step *const scripts[] = {script};
		struct gw_options options = {
			.scripts = scripts, .nscripts = 1, .timeouts = "body_idle: 300ms, stream_idle: 300ms"};
		struct raw r;
		struct gw *gw;
		struct answer a;

		memset(piece, 'x', sizeof(piece) - 1);
		snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n", kinds[i], 8192 * 1024);
		gw = gw_start(&options);
		r = gw_connect(gw);
		cr_assert(raw_text(&r, GET_X));
		cr_assert(upstream_wait_sent(gw->up, 0, 300000));
		(void)wait_fd(-1, 0, 1000); /* longer than the bound, which is what must not happen */
		a = raw_answer(&r, false, WAIT_MS);
		expect_status(&a, 200);
		cr_expect_eq(a.body.len, 8192 * 1024);
		answer_fini(&a);
		raw_close(&r);
		gw_stop(gw);
	}
}

/* --- Stacygate-Timeout ---------------------------------------------------------------------------------------------- */

static void expect_timeout(struct raw *r, uint64_t begin, unsigned ms)
{
	struct answer a = raw_answer(r, false, WAIT_MS);
	uint64_t took = wait_now_ms() - begin;

	expect_error(&a, 504, "UPSTREAM_TIMEOUT");
	cr_expect(took + 50 >= ms && took < ms + 1500, "%llu ms", (unsigned long long)took);
	answer_fini(&a);
}

/* Before a head: 504, the connection to the upstream is dropped; the header stays here. */
Test(dp_stream, timeout_before_the_head)
{
	int listener;
	struct gw *gw = dp_by_hand(NULL, &listener);
	struct raw r = gw_connect(gw), up;
	uint64_t begin = wait_now_ms();
	struct buf head;

	cr_assert(raw_text(&r, "GET /api/v1/x HTTP/1.1\r\nHost: h\r\nStacygate-Timeout: 300ms\r\n\r\n"));
	up = dp_accept(listener, &head);
	cr_expect_eq(wire_count(buf_str(&head), "Stacygate-Timeout"), 0);
	buf_fini(&head);
	cr_assert(raw_text(&up, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-"));
	expect_timeout(&r, begin, 300);
	cr_expect(raw_closes(&up, WAIT_MS));
	cr_expect_eq(dp_status(gw, "requests.ends.response-timeout"), 1);
	raw_close(&r);
	raw_close(&up);
	close(listener);
	gw_stop(gw);
}

/* While it waits for a connection: 504, and it is not asked upstream afterwards. */
Test(dp_stream, timeout_in_the_queue)
{
	struct gw_options options = {.pool = "max_connections: 1"};
	int listener;
	struct gw *gw = dp_by_hand(&options, &listener);
	struct stream s = stream_open(gw, listener, GET_X, NDJSON CHUNKED);
	struct raw r = gw_connect(gw);
	uint64_t begin = wait_now_ms();
	struct buf head;

	cr_assert(raw_text(
		&r,
		"POST /api/v1/late HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nStacygate-Timeout: 300ms\r\n\r\n{}"));
	expect_timeout(&r, begin, 300);
	cr_expect_eq(dp_status(gw, "upstreams.0.pool.waiting"), 0);
	cr_assert(raw_text(&s.server, "0\r\n\r\n"));
	cr_assert(raw_read_text(&s.client, "0\r\n\r\n", WAIT_MS));
	cr_assert(raw_text(&r, GET_X));
	cr_assert(dp_read_head(&s.server, &head));
	cr_expect(str_eq(wire_target(buf_str(&head)), STR("/api/v1/x")), "%.*s", STR_ARG(buf_str(&head)));
	buf_fini(&head);
	raw_close(&r);
	stream_close(&s);
	close(listener);
	gw_stop(gw);
}

/* While the client is still sending, gathered or passed on. */
Test(dp_stream, timeout_in_the_upload)
{
	static const char *const requests[] = {
		"PUT /api/v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\nStacygate-Timeout: 300ms\r\n\r\nhel",
		"PUT /api/v1/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nStacygate-Timeout: "
		"300ms\r\n\r\n3\r\nhel\r\n",
		"POST /api/v1/sandboxes HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nStacygate-Timeout: "
		"300ms\r\n\r\n3\r\nhel\r\n",
	};
	struct gw *gw = gw_start(NULL);

	for (unsigned i = 0; i < COUNT(requests); i++) {
		struct raw r = gw_connect(gw);
		uint64_t begin = wait_now_ms();

		cr_assert(raw_text(&r, requests[i]));
		expect_timeout(&r, begin, 300);
		cr_expect(raw_closes(&r, WAIT_MS), "request %u: the rest of its body would be a request", i);
		raw_close(&r);
	}
	cr_expect(upstream_wait_open(gw->up, 0));
	cr_expect_eq(upstream_requests(gw->up), 0);
	gw_stop(gw);
}

/* After the head the answer is cut, stream or not, and tunnels end. */
Test(dp_stream, timeout_after_the_head)
{
	static const char *const heads[] = {
		NDJSON CHUNKED "3\r\n{}\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello",
	};
	int listener;
	struct gw *gw = dp_by_hand(NULL, &listener);

	for (unsigned i = 0; i < COUNT(heads); i++) {
		uint64_t begin = wait_now_ms();
		struct stream s = stream_open(
			gw, listener,
			"GET /api/v1/x HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
			"Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\nStacygate-Timeout: 400ms\r\n\r\n",
			heads[i]);

		cr_expect(raw_closes(&s.client, WAIT_MS), "head %u", i);
		cr_expect(wait_now_ms() - begin >= 350 && wait_now_ms() - begin < 2000, "head %u", i);
		cr_expect(!buf_contains(&s.client.in, "0\r\n\r\n"), "head %u: a forged end", i);
		cr_expect(raw_closes(&s.server, WAIT_MS), "head %u: the upstream is left", i);
		stream_close(&s);
	}
	close(listener);
	gw_stop(gw);
}

/* It can only shorten, and it ends with its request. */
Test(dp_stream, timeout_bounds)
{
	struct gw_options options = {.timeouts = "response: 900ms"};
	int listener;
	struct gw *gw = dp_by_hand(&options, &listener);
	struct raw r = gw_connect(gw), up;
	struct buf head;
	struct answer a;
	uint64_t begin;

	cr_assert(raw_text(&r, "GET /api/v1/x HTTP/1.1\r\nHost: h\r\nStacygate-Timeout: 300ms\r\n\r\n"));
	up = dp_accept(listener, &head);
	buf_fini(&head);
	cr_assert(raw_text(&up, UP_OK_TEXT));
	a = raw_answer(&r, false, WAIT_MS);
	expect_status(&a, 200);
	answer_fini(&a);
	cr_assert(raw_text(&r, GET_X));
	cr_assert(dp_read_head(&up, &head));
	buf_fini(&head);
	cr_expect(raw_silent(&r, 600), "the timeout of the request before it");
	cr_assert(raw_text(&up, UP_OK_TEXT));
	a = raw_answer(&r, false, WAIT_MS);
	expect_status(&a, 200);
	answer_fini(&a);
	begin = wait_now_ms();
	cr_assert(raw_text(&r, "GET /api/v1/x HTTP/1.1\r\nHost: h\r\nStacygate-Timeout: 1h\r\n\r\n"));
	cr_assert(dp_read_head(&up, &head));
	buf_fini(&head);
	expect_timeout(&r, begin, 900);
	raw_close(&r);
	raw_close(&up);
	close(listener);
	gw_stop(gw);
}

/* What is no duration is refused before anything goes up. */
Test(dp_stream, timeout_invalid)
{
	static const char *const values[] = {
		"", "soon", "60", "-1s", "0s", "0", "1us", "25h", "1s 2s", "1s, 2s", "9999999999999999999h", "1e3s"};
	struct gw *gw = gw_start(NULL);

	for (unsigned i = 0; i < COUNT(values); i++) {
		struct answer a =
			gw_ask(gw, "GET /api/v1/x HTTP/1.1\r\nHost: h\r\nStacygate-Timeout: %s\r\n\r\n", values[i]);

		expect_error(&a, 400, "BAD_REQUEST");
		answer_fini(&a);
	}
	cr_expect_eq(upstream_connections(gw->up), 0);
	for (unsigned i = 0; i < 3; i++) {
		struct answer a = gw_ask(
			gw,
			"POST /api/v1/x HTTP/1.1\r\nHost: h\r\nstacygate-timeout: %s\r\nContent-Length: 2\r\n\r\n{}",
			(const char *const[]){"1m30s", "1.5s", "24h"}[i]);
		struct buf head = upstream_request_head(gw->up, i);

		expect_status(&a, 200);
		cr_expect_eq(wire_count(buf_str(&head), "Stacygate-Timeout"), 0);
		buf_fini(&head);
		answer_fini(&a);
	}
	gw_stop(gw);
}
