/* SPDX-License-Identifier: Apache-2.0 */
/* C14, C15, M7: whatever fails, each gets his own answer and every byte of it. */
#include <criterion/criterion.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "integration/dp_lib.h"

TestSuite(dp_mix, .fini = gw_fini);

struct asker {
	struct raw r;
	bool is_bob;
	unsigned nonce; /* of the request under way */
};

static void connect_asker(struct asker *a, struct gw *gw)
{
	raw_close(&a->r);
	a->r = a->is_bob ? dp_bob(gw) : gw_connect(gw);
}

static void ask(struct asker *a, unsigned nonce)
{
	char request[200];

	a->nonce = nonce;
	switch (nonce % 4) {
	case 0:
		snprintf(request, sizeof(request),
			 "POST /api/v1/x?%u HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\n%06u", nonce,
			 nonce % 1000000);
		break;
	case 1:
		snprintf(request, sizeof(request),
			 "PUT /api/v1/x?%u HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: "
			 "chunked\r\n\r\n6\r\n%06u\r\n0\r\n\r\n",
			 nonce, nonce % 1000000);
		break;
	default:
		snprintf(request, sizeof(request), "GET /api/v1/x?%u HTTP/1.1\r\nHost: h\r\nX-User-ID: %s\r\n\r\n",
			 nonce, a->is_bob ? "alice" : "bob");
	}
	cr_assert(raw_text(&a->r, request));
}

/* Whether the answer is whole; fails the test if it is anybody else's. */
static bool take(struct asker *a)
{
	struct answer got = raw_answer(&a->r, false, WAIT_MS);
	bool whole = got.end == ANSWER_COMPLETE && got.status == 200;
	char target[64], user[64], body[64];

	cr_assert(whole || got.end == ANSWER_CUT || got.status == 500 || got.status == 502, "%d, status %u",
		  (int)got.end, got.status);
	snprintf(target, sizeof(target), "\"target\":\"/api/v1/x?%u\"", a->nonce);
	snprintf(user, sizeof(user), "X-User-ID: %s\\r\\n", a->is_bob ? "bob" : "alice");
	snprintf(body, sizeof(body), "\"body\":\"%06u\"", a->nonce % 1000000);
	if (whole) {
		cr_assert(buf_contains(&got.body, target), "another request's answer: %.*s",
			  STR_ARG(buf_str(&got.body)));
		cr_assert(buf_contains(&got.body, user), "another identity: %.*s", STR_ARG(buf_str(&got.body)));
		cr_assert(buf_contains(&got.body, a->is_bob ? "X-User-ID: alice" : "X-User-ID: bob") == 0);
		cr_assert(a->nonce % 4 > 1 || buf_contains(&got.body, body), "another body: %.*s",
			  STR_ARG(buf_str(&got.body)));
	}
	if (got.end == ANSWER_CUT || wire_header_is(answer_head(&got), "Connection", "close"))
		a->r.ended = true;
	answer_fini(&got);
	return whole;
}

/* One connection of the upstream: some good answers, then a fault. */
static void make_script(struct up_step *script, uint32_t *x)
{
	static const struct up_step faults[][3] = {
		{{UP_READ, NULL, 0}, {UP_CLOSE, NULL, 0}},
		{{UP_READ_HEAD, NULL, 0}, {UP_RESET, NULL, 0}},
		{{UP_READ, NULL, 0},
		 {UP_SEND, "HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{\"target\":", 0},
		 {UP_CLOSE, NULL, 0}},
		{{UP_READ, NULL, 0},
		 {UP_SEND, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n", 0},
		 {UP_RESET, NULL, 0}},
		{{UP_READ, NULL, 0}, {UP_SEND, "HTTP/1.1 2", 0}, {UP_CLOSE, NULL, 0}},
		{{UP_CLOSE, NULL, 0}},
		/* In one piece with the answer: a server that speaks later may do so within the next one's time, and nobody can tell. */
		{{UP_READ, NULL, 0},
		 {UP_SEND,
		  "HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", 0},
		 {UP_READ_EOF, NULL, 0}},
		{{UP_HALF_CLOSE, NULL, 0}, {UP_READ_EOF, NULL, 0}, {UP_CLOSE, NULL, 0}},
	};
	unsigned good = 1 + dp_random(x, 30), fault = dp_random(x, COUNT(faults));

	while (good--)
		*script++ = (struct up_step){UP_ECHO, NULL, 0};
	memcpy(script, faults[fault], sizeof(faults[fault]));
	script[3] = (struct up_step){UP_END, NULL, 0};
}

/*
 * C14: two identities, 16 connections each, 5,000 requests (45,000 in full) on a failing upstream: nobody gets what is
 * another's.
 */
Test(dp_mix, C14_own_answers)
{
	const unsigned rounds = dp_rounds(157, 1400);
	enum {
		EACH = 16,
		SCRIPTS = UP_MAX_CONNECTIONS,
		STEPS = 40
	};
	static struct up_step steps[SCRIPTS][STEPS];
	static const struct up_step *scripts[SCRIPTS];
	struct gw_options options = {
		.scripts = scripts, .nscripts = SCRIPTS, .pool = "max_connections: 12", .log = "level: warn"};
	struct asker askers[2 * EACH] = {0};
	unsigned whole = 0, failed = 0;
	uint32_t x = 2;
	struct gw *gw;

	for (unsigned i = 0; i < SCRIPTS; i++) {
		make_script(steps[i], &x);
		scripts[i] = steps[i];
	}
	gw = dp_two_start(&options);
	for (unsigned i = 0; i < COUNT(askers); i++) {
		askers[i] = (struct asker){{.fd = -1}, i % 2, 0};
		connect_asker(&askers[i], gw);
	}
	for (unsigned n = 0; n < rounds; n++) {
		for (unsigned i = 0; i < COUNT(askers); i++) {
			if (askers[i].r.ended)
				connect_asker(&askers[i], gw);
			ask(&askers[i], dp_random(&x, 1u << 24));
		}
		for (unsigned i = 0; i < COUNT(askers); i++) {
			/* Some leave instead: their answers are nobody's then. */
			if (dp_random(&x, 50) == 0)
				connect_asker(&askers[i], gw);
			else if (take(&askers[i]))
				whole++;
			else
				failed++;
		}
	}
	cr_expect_gt(whole, rounds * COUNT(askers) * 3 / 4, "%u whole, %u failed", whole, failed);
	cr_expect_gt(failed, 20, "%u failed", failed);
	cr_expect_leq(upstream_most_open(gw->up), 24); /* those that it has not closed yet among them */
	for (unsigned i = 0; i < COUNT(askers); i++)
		raw_close(&askers[i].r);
	gw_stop(gw);
}

/* C15: bytes behind the end of an answer, whatever ended it, at once or later, are nobody's. */
Test(dp_mix, C15_left_over)
{
	static const char evil[] = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
	static const struct {
		const char *request;
		const char *answer;
	} cases[] = {
		{GET_X, UP_OK_TEXT},
		{"HEAD /api/v1/x HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"},
		{"HEAD /api/v1/x HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"},
		{"DELETE /api/v1/x HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n"},
		{GET_X, "HTTP/1.1 304 Not Modified\r\n\r\n"},
		{GET_X, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nT: x\r\n\r\n"},
		{GET_X, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
		{POST_X, "HTTP/1.1 100 Continue\r\n\r\n" UP_OK_TEXT},
	};

	for (unsigned i = 0; i < COUNT(cases) * 2; i++) {
		bool later = i % 2;
		const struct up_step bad[] = {{UP_READ, NULL, 0},
					      {UP_SEND, cases[i / 2].answer, 0},
					      {UP_GATE, NULL, later ? 1 : 0},
					      {UP_SEND, evil, 0},
					      {UP_READ_EOF, NULL, 0},
					      {UP_END, NULL, 0}};
		const struct up_step *const scripts[] = {bad, SCRIPT({UP_ECHO, NULL, 0}, {UP_FOREVER, NULL, 0})};
		struct gw_options options = {.scripts = scripts, .nscripts = 2};
		struct gw *gw = gw_start(&options);
		struct raw r = gw_connect(gw);
		struct answer a;

		upstream_open_gate(gw->up, 0);
		cr_assert(raw_text(&r, cases[i / 2].request));
		a = raw_answer(&r, str_starts(str_from(cases[i / 2].request), STR("HEAD")), WAIT_MS);
		cr_expect_eq(a.end, ANSWER_COMPLETE, "case %u", i);
		answer_fini(&a);
		upstream_open_gate(gw->up, 1);
		cr_expect(upstream_wait_closed(gw->up, 0), "case %u: it stays in the pool", i);
		cr_assert(raw_text(&r, GET_X));
		a = raw_answer(&r, false, WAIT_MS);
		expect_status(&a, 200);
		cr_expect(buf_contains(&a.body, "\"target\""), "case %u: %.*s", i, STR_ARG(buf_str(&a.body)));
		answer_fini(&a);
		cr_expect_eq(upstream_connections(gw->up), 2);
		raw_close(&r);
		gw_stop(gw);
	}
}

/* C15: the answer to one who has left, or whose time was over, is not the next one's. */
Test(dp_mix, C15_late_answer)
{
	const struct up_step late[] = {{UP_READ, NULL, 0},
				       {UP_GATE, NULL, 0},
				       {UP_SEND, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate", 0},
				       {UP_READ_EOF, NULL, 0},
				       {UP_END, NULL, 0}};
	const struct up_step *const scripts[] = {late, late, SCRIPT({UP_ECHO, NULL, 0}, {UP_FOREVER, NULL, 0})};
	struct gw_options options = {.scripts = scripts, .nscripts = 3, .pool = "max_connections: 1"};
	struct gw *gw = gw_start(&options);
	struct raw left = gw_connect(gw), late_one, next = gw_connect(gw);
	struct answer a;

	cr_assert(raw_text(&left, GET_X));
	cr_assert(upstream_wait_requests(gw->up, 1));
	late_one = gw_connect(gw);
	cr_assert(raw_text(&late_one, "GET /api/v1/x HTTP/1.1\r\nHost: h\r\nStacygate-Timeout: 400ms\r\n\r\n"));
	cr_assert(dp_wait_status(gw, "upstreams.0.pool.waiting", 1));
	cr_assert(raw_text(&next, GET_X));
	raw_close(&left);
	cr_assert(upstream_wait_requests(gw->up, 2));
	a = raw_answer(&late_one, false, WAIT_MS);
	expect_error(&a, 504, "UPSTREAM_TIMEOUT");
	answer_fini(&a);
	upstream_open_gate(gw->up, 0);
	a = raw_answer(&next, false, WAIT_MS);
	expect_status(&a, 200);
	cr_expect(buf_contains(&a.body, "\"target\""), "%.*s", STR_ARG(buf_str(&a.body)));
	answer_fini(&a);
	cr_expect(raw_silent(&late_one, 50));
	raw_close(&late_one);
	raw_close(&next);
	gw_stop(gw);
}

static void run_short(struct gw *gw)
{
	struct daemon_spec spec = {.program = "stacygated-short", .argv = gw->argv, .ready_socket = gw->socket};

	gw->daemon = daemon_start(&gw->dir, &spec);
}

/* M7: a gateway whose every call moves a few bytes or none: requests and answers of each kind are whole. */
Test(dp_mix, M7_short_calls)
{
	enum {
		SIZE = 20000
	};
	const struct up_step answers[] = {{UP_ECHO, NULL, 0},
					  {UP_ECHO, NULL, 0},
					  {UP_ECHO, NULL, 0},
					  {UP_READ, NULL, 0},
					  {UP_SEND,
					   "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: "
					   "chunked\r\n\r\n5;e\r\nhello\r\n00A\r\n, world!!!\r\n0\r\nT: x\r\n\r\n",
					   0},
					  {UP_FOREVER, NULL, 0}};
	const struct up_step *const scripts[] = {answers};
	struct gw_options options = {.scripts = scripts, .nscripts = 1, .log = "level: warn"};
	struct gw *gw = gw_prepare(&options);
	struct buf body = BUF_EMPTY, got;
	struct raw r;

	for (unsigned i = 0; i < SIZE; i++)
		buf_add_char(&body, (char)('a' + i * 7 % 26));
	run_short(gw);
	r = gw_connect(gw);
	for (unsigned i = 0; i < 24; i++) {
		struct answer a;
		char head[100];

		if (i % 4 == 1) {
			snprintf(head, sizeof(head),
				 "PUT /api/v1/x?%u HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n", i, SIZE);
			cr_assert(raw_text(&r, head) && raw_send(&r, buf_data(&body), SIZE));
		} else if (i % 4 == 2) {
			snprintf(head, sizeof(head),
				 "PUT /api/v1/x?%u HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n", i,
				 SIZE);
			cr_assert(raw_text(&r, head) && raw_send(&r, buf_data(&body), SIZE) &&
				  raw_text(&r, "\r\n0\r\n\r\n"));
		} else {
			snprintf(head, sizeof(head), "GET /api/v1/x?%u HTTP/1.1\r\nHost: h\r\n\r\n", i);
			cr_assert(raw_text(&r, head));
		}
		a = raw_answer(&r, false, WAIT_MS);
		expect_status(&a, 200);
		if (i % 4 == 3) {
			cr_expect(str_eq(buf_str(&a.body), STR("hello, world!!!")), "%.*s", STR_ARG(buf_str(&a.wire)));
		} else {
			snprintf(head, sizeof(head), "\"target\":\"/api/v1/x?%u\"", i);
			cr_expect(buf_contains(&a.body, head));
		}
		got = upstream_request_body(gw->up, i);
		cr_expect(str_eq(buf_str(&got), i % 4 == 1 || i % 4 == 2 ? buf_str(&body) : STR("")),
			  "request %u: %zu bytes", i, got.len);
		buf_fini(&got);
		answer_fini(&a);
	}
	buf_fini(&body);
	raw_close(&r);
	gw_stop(gw);
}

/* M7: and so are the bytes of a tunnel. */
Test(dp_mix, M7_short_calls_in_a_tunnel)
{
	struct gw_options options = {.no_upstream = true, .log = "level: warn"};
	struct gw *gw = gw_prepare(&options);
	int listener = dp_listen(gw->upstream_path);
	struct raw r, up;
	struct buf head;
	struct answer a;

	run_short(gw);
	r = gw_connect(gw);
	cr_assert(raw_text(&r, "GET /api/v1/x HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: "
			       "Upgrade\r\nSec-WebSocket-Key: x\r\n\r\nearly"));
	up = dp_accept(listener, &head);
	buf_fini(&head);
	cr_assert(raw_text(
		&up, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nbehind"));
	a = raw_answer(&r, true, WAIT_MS);
	cr_assert_eq(a.status, 101);
	answer_fini(&a);
	cr_assert(raw_read(&r, 6, WAIT_MS) && str_eq(buf_str(&r.in), STR("behind")));
	cr_assert(raw_read(&up, 5, WAIT_MS) && str_eq(buf_str(&up.in), STR("early")));
	buf_reset(&r.in);
	buf_reset(&up.in);
	dp_exchange_bytes(&r, 200000, &up, 200000);
	cr_assert(raw_text(&r, "end"));
	raw_half_close(&r);
	cr_expect(raw_closes(&up, WAIT_MS));
	cr_expect(str_eq(buf_str(&up.in), STR("end")));
	raw_close(&up);
	cr_expect(raw_closes(&r, WAIT_MS));
	raw_close(&r);
	close(listener);
	gw_stop(gw);
}
