/* SPDX-License-Identifier: Apache-2.0 */
/* Connections to the upstream: few, kept, watched, never shared by accident; what waits for one waits in bounds. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/gateway.h"
#include "lib/wait.h"
#include "lib/wire.h"

TestSuite(pool, .fini = gw_fini);

#define GET_X  "GET /api/v1/x HTTP/1.1\r\nHost: h\r\n\r\n"
#define POST_X "POST /api/v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}"

static void ask_ok(struct gw *gw, const char *request)
{
	struct answer a = gw_ask(gw, "%s", request);

	expect_status(&a, 200);
	answer_fini(&a);
}

/* 200 sequential requests on one connection use at most 2 upstream connections. */
Test(pool, sequential_one_client)
{
	struct gw *gw = gw_start(NULL);
	struct raw r = gw_connect(gw);

	for (unsigned i = 0; i < 200; i++) {
		struct answer a;

		cr_assert(raw_text(&r, i % 2 ? GET_X : POST_X));
		a = raw_answer(&r, false, WAIT_MS);
		expect_status(&a, 200);
		answer_fini(&a);
	}
	cr_expect_eq(upstream_requests(gw->up), 200);
	cr_expect_leq(upstream_connections(gw->up), 2);
	raw_close(&r);
	gw_stop(gw);
}

/* And so do 200 on a connection each, on TCP as well. */
Test(pool, sequential_many_clients)
{
	struct gw_options options = {.tcp = true};
	struct gw *gw = gw_start(&options);

	for (unsigned i = 0; i < 200; i++)
		ask_ok(gw, GET_X);
	cr_expect_eq(upstream_requests(gw->up), 200);
	cr_expect_leq(upstream_connections(gw->up), 2);
	gw_stop(gw);
}

/* P15: 1,000 pipelined requests in one write are answered in order, each with its own answer. */
Test(pool, pipelined)
{
	enum {
		N = 1000
	};
	struct gw *gw = gw_start(NULL);
	struct raw r = gw_connect(gw);
	struct buf all = BUF_EMPTY;
	size_t done = 0;

	for (unsigned i = 0; i < N; i++)
		buf_addf(&all, "GET /api/v1/x?n=%u HTTP/1.1\r\nHost: h\r\n\r\n", i);
	for (unsigned i = 0; i < N; i++) {
		char target[64];
		struct answer a;
		json_t *json;

		done += raw_push(&r, buf_data(&all) + done, all.len - done);
		a = raw_answer(&r, false, WAIT_MS);
		expect_status(&a, 200);
		json = answer_json(&a);
		snprintf(target, sizeof(target), "/api/v1/x?n=%u", i);
		cr_assert_str_eq(json_text_at(json, "target"), target);
		json_decref(json);
		answer_fini(&a);
	}
	cr_expect_leq(upstream_connections(gw->up), 2);
	buf_fini(&all);
	raw_close(&r);
	gw_stop(gw);
}

/* 64 parallel requests never exceed the configured pool, and all are answered. */
Test(pool, parallel)
{
	enum {
		CLIENTS = 64,
		POOL = 8,
		ROUNDS = 3
	};
	const struct up_step *const scripts[] = {SCRIPT({UP_GATE, NULL, 0}, {UP_ECHO, NULL, 0}, {UP_FOREVER, NULL, 0})};
	struct gw_options options = {.scripts = scripts, .nscripts = 1, .pool = "max_connections: 8"};
	struct gw *gw = gw_start(&options);
	struct raw r[CLIENTS];
	json_t *status;

	for (unsigned i = 0; i < CLIENTS; i++)
		r[i] = gw_connect(gw);
	for (unsigned round = 0; round < ROUNDS; round++) {
		for (unsigned i = 0; i < CLIENTS; i++) {
			char request[100];

			snprintf(request, sizeof(request), "GET /api/v1/x?c=%u HTTP/1.1\r\nHost: h\r\n\r\n", i);
			cr_assert(raw_text(&r[i], request));
		}
		if (round == 0) {
			cr_expect(upstream_wait_connections(gw->up, POOL / 2));
			upstream_open_gate(gw->up, 0);
		}
		for (unsigned i = 0; i < CLIENTS; i++) {
			struct answer a = raw_answer(&r[i], false, WAIT_MS * 2);
			char target[64];
			json_t *json;

			expect_status(&a, 200);
			json = answer_json(&a);
			snprintf(target, sizeof(target), "/api/v1/x?c=%u", i);
			cr_expect_str_eq(json_text_at(json, "target"), target, "another client's answer");
			json_decref(json);
			answer_fini(&a);
		}
	}
	cr_expect_leq(upstream_most_open(gw->up), POOL);
	cr_expect_eq(upstream_requests(gw->up), CLIENTS * ROUNDS);
	status = gw_get(gw, "/gateway/v1/status");
	json_decref(status);
	for (unsigned i = 0; i < CLIENTS; i++)
		raw_close(&r[i]);
	gw_stop(gw);
}

/* F30: a full pool and a full queue answer 503 at once; what waits too long gets 503 then; who leaves frees its place. */
Test(pool, exhausted)
{
	enum {
		CLIENTS = 20,
		POOL = 2
	};
	const struct up_step *const scripts[] = {
		SCRIPT({UP_READ, NULL, 0}, {UP_GATE, NULL, 0}, UP_TEXT(UP_OK_TEXT), {UP_FOREVER, NULL, 0})};
	struct gw_options options = {
		.scripts = scripts, .nscripts = 1, .pool = "max_connections: 2, max_waiting: 4, wait_timeout: 300ms"};
	struct gw *gw = gw_start(&options);
	struct raw r[CLIENTS];
	unsigned good = 0, refused = 0;

	for (unsigned i = 0; i < CLIENTS; i++) {
		r[i] = gw_connect(gw);
		cr_assert(raw_text(&r[i], GET_X));
		if (i < POOL)
			cr_assert(upstream_wait_requests(gw->up, i + 1));
	}
	for (unsigned i = POOL; i < CLIENTS; i++) {
		struct answer a = raw_answer(&r[i], false, WAIT_MS);

		expect_error(&a, 503, "UNAVAILABLE");
		cr_expect_eq(wire_count(answer_head(&a), "Retry-After"), 1);
		answer_fini(&a);
		refused++;
	}
	upstream_open_gate(gw->up, 0);
	for (unsigned i = 0; i < POOL; i++) {
		struct answer a = raw_answer(&r[i], false, WAIT_MS);

		expect_status(&a, 200);
		answer_fini(&a);
		good++;
	}
	cr_expect_eq(good, POOL);
	cr_expect_eq(refused, CLIENTS - POOL);
	cr_expect_eq(upstream_requests(gw->up), POOL);
	for (unsigned i = 0; i < CLIENTS; i++)
		raw_close(&r[i]);
	ask_ok(gw, GET_X);
	gw_stop(gw);
}

/* A client that leaves while it waits for a connection is not served behind its back. */
Test(pool, leaves_the_queue)
{
	const struct up_step *const scripts[] = {
		SCRIPT({UP_READ, NULL, 0}, {UP_GATE, NULL, 0}, UP_TEXT(UP_OK_TEXT), {UP_FOREVER, NULL, 0})};
	struct gw_options options = {.scripts = scripts, .nscripts = 1, .pool = "max_connections: 1, max_waiting: 8"};
	struct gw *gw = gw_start(&options);
	struct raw first = gw_connect(gw), second = gw_connect(gw);
	struct answer a;

	cr_assert(raw_text(&first, GET_X));
	cr_assert(upstream_wait_requests(gw->up, 1));
	cr_assert(raw_text(&second, "GET /api/v1/second HTTP/1.1\r\nHost: h\r\n\r\n"));
	raw_close(&second);
	/* A request of its own shows that the loop has seen both. */
	a = gw_ask(gw, "GET /gateway/v1/health HTTP/1.1\r\nHost: h\r\n\r\n");
	expect_status(&a, 200);
	answer_fini(&a);
	upstream_open_gate(gw->up, 0);
	a = raw_answer(&first, false, WAIT_MS);
	expect_status(&a, 200);
	answer_fini(&a);
	ask_ok(gw, GET_X);
	cr_expect_eq(upstream_requests(gw->up), 2);
	raw_close(&first);
	gw_stop(gw);
}

/* An idle connection that the upstream closes is gone from the pool; the next request does not meet it. */
Test(pool, idle_close)
{
	const struct up_step *const scripts[] = {SCRIPT({UP_ECHO, NULL, 0}, {UP_CLOSE, NULL, 0})};
	struct gw_options options = {.scripts = scripts, .nscripts = 1};
	struct gw *gw = gw_start(&options);

	for (unsigned i = 1; i <= 20; i++) {
		ask_ok(gw, i % 2 ? GET_X : "DELETE /api/v1/x HTTP/1.1\r\nHost: h\r\n\r\n");
		cr_assert(upstream_wait_open(gw->up, 0));
		cr_expect_eq(upstream_connections(gw->up), i);
	}
	cr_expect_eq(upstream_requests(gw->up), 20);
	gw_stop(gw);
}

/* C15: bytes on an idle connection are nobody's answer: it is closed, and the next request gets its own. */
Test(pool, idle_bytes)
{
	const struct up_step *const scripts[] = {SCRIPT({UP_ECHO, NULL, 0}, {UP_GATE, NULL, 0},
							UP_TEXT("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"),
							{UP_READ_EOF, NULL, 0}),
						 SCRIPT({UP_ECHO, NULL, 0}, {UP_FOREVER, NULL, 0})};
	struct gw_options options = {.scripts = scripts, .nscripts = 2};
	struct gw *gw = gw_start(&options);
	struct answer a;

	ask_ok(gw, GET_X);
	upstream_open_gate(gw->up, 0);
	cr_assert(upstream_wait_closed(gw->up, 0), "it stays in the pool");
	a = gw_ask(gw, GET_X);
	expect_status(&a, 200);
	cr_expect(!buf_contains(&a.body, "evil"));
	answer_fini(&a);
	cr_expect_eq(upstream_connections(gw->up), 2);
	gw_stop(gw);
}

/*
 * The same in one turn of the loop: a request and those bytes are both there when the gateway looks, the request first.
 * It must not be handed what was sent before it was.
 */
Test(pool, idle_bytes_in_the_same_turn)
{
	const struct up_step *const scripts[] = {SCRIPT({UP_ECHO, NULL, 0}, {UP_GATE, NULL, 0},
							UP_TEXT("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"),
							{UP_READ_EOF, NULL, 0}),
						 SCRIPT({UP_ECHO, NULL, 0}, {UP_FOREVER, NULL, 0})};
	struct gw_options options = {.scripts = scripts, .nscripts = 2};
	struct gw *gw = gw_start(&options);
	struct raw r = gw_connect(gw);
	struct answer a;
	size_t before;

	ask_ok(gw, GET_X);
	/* The connection is in the loop, and the one before it is idle again. */
	cr_assert(raw_text(&r, "GET /gateway/v1/health HTTP/1.1\r\nHost: h\r\n\r\n"));
	a = raw_answer(&r, false, WAIT_MS);
	expect_status(&a, 200);
	answer_fini(&a);
	before = upstream_sent(gw->up, 0);
	daemon_freeze(gw->daemon);
	cr_assert(raw_text(&r, GET_X));
	upstream_open_gate(gw->up, 0);
	cr_assert(upstream_wait_sent(gw->up, 0, before + 1));
	daemon_signal(gw->daemon, SIGCONT);
	a = raw_answer(&r, false, WAIT_MS);
	expect_status(&a, 200);
	cr_expect(!buf_contains(&a.body, "evil"), "it was handed another's bytes");
	answer_fini(&a);
	raw_close(&r);
	gw_stop(gw);
}

/* C15: bytes behind the answer, in the same segment: dropped, and the connection with them. */
Test(pool, bytes_behind)
{
	const struct up_step *const scripts[] = {
		SCRIPT({UP_READ, NULL, 0}, UP_TEXT(UP_OK_TEXT "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"),
		       {UP_READ_EOF, NULL, 0}),
		SCRIPT({UP_READ, NULL, 0},
		       UP_TEXT("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\nHTTP/1.1 200 "
			       "OK\r\nContent-Length: 4\r\n\r\nevil"),
		       {UP_READ_EOF, NULL, 0}),
		SCRIPT({UP_READ, NULL, 0},
		       UP_TEXT("HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"),
		       {UP_READ_EOF, NULL, 0}),
		SCRIPT({UP_READ, NULL, 0}, UP_TEXT("HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nevil"),
		       {UP_READ_EOF, NULL, 0}),
		SCRIPT({UP_ECHO, NULL, 0}, {UP_FOREVER, NULL, 0})};
	struct gw_options options = {.scripts = scripts, .nscripts = 5};
	struct gw *gw = gw_start(&options);
	struct raw r = gw_connect(gw);

	for (unsigned i = 0; i < 5; i++) {
		struct answer a;

		cr_assert(raw_text(&r, GET_X));
		a = raw_answer(&r, false, WAIT_MS);
		cr_expect_eq(a.end, ANSWER_COMPLETE);
		cr_expect(!buf_contains(&a.wire, "evil"), "answer %u holds another's bytes", i);
		answer_fini(&a);
		cr_expect(raw_silent(&r, 10));
		if (i < 4)
			cr_expect(upstream_wait_closed(gw->up, i), "connection %u went back", i);
	}
	cr_expect_eq(upstream_connections(gw->up), 5);
	raw_close(&r);
	gw_stop(gw);
}

/* F20, F4: a kept connection dies under a POST: 502, and it was sent once. */
Test(pool, post_is_never_repeated)
{
	const struct up_step *const scripts[] = {SCRIPT({UP_ECHO, NULL, 0}, {UP_READ, NULL, 0}, {UP_CLOSE, NULL, 0}),
						 SCRIPT({UP_ECHO, NULL, 0}, {UP_FOREVER, NULL, 0})};
	struct gw_options options = {.scripts = scripts, .nscripts = 2};
	struct gw *gw = gw_start(&options);
	struct answer a;

	ask_ok(gw, GET_X);
	a = gw_ask(gw, POST_X);
	expect_error(&a, 502, "CONNECTION_ERROR");
	answer_fini(&a);
	cr_expect_eq(upstream_requests(gw->up), 2);
	cr_expect_eq(upstream_connections(gw->up), 1);
	ask_ok(gw, POST_X);
	gw_stop(gw);
}

/* F20, F3: under a GET it is asked once more on a connection of its own. */
Test(pool, get_is_repeated_once)
{
	const struct up_step *const scripts[] = {SCRIPT({UP_ECHO, NULL, 0}, {UP_READ, NULL, 0}, {UP_CLOSE, NULL, 0}),
						 SCRIPT({UP_ECHO, NULL, 0}, {UP_FOREVER, NULL, 0})};
	struct gw_options options = {.scripts = scripts, .nscripts = 2};
	struct gw *gw = gw_start(&options);

	ask_ok(gw, GET_X);
	ask_ok(gw, GET_X);
	cr_expect_eq(upstream_requests(gw->up), 3);
	cr_expect_eq(upstream_connections(gw->up), 2);
	gw_stop(gw);
}

/* F3: on a connection that had served nobody it is not asked again, and never more than twice. */
Test(pool, get_on_fresh_connection)
{
	const struct up_step *const scripts[] = {SCRIPT({UP_READ, NULL, 0}, {UP_CLOSE, NULL, 0})};
	struct gw_options options = {.scripts = scripts, .nscripts = 1};
	struct gw *gw = gw_start(&options);
	struct answer a = gw_ask(gw, GET_X);

	expect_error(&a, 502, "CONNECTION_ERROR");
	answer_fini(&a);
	cr_expect_leq(upstream_requests(gw->up), 2);
	gw_stop(gw);
}

/* A response byte has come: even a GET is not asked again. */
Test(pool, no_repeat_after_a_byte)
{
	const struct up_step *const scripts[] = {
		SCRIPT({UP_ECHO, NULL, 0}, {UP_READ, NULL, 0}, UP_TEXT("HTTP/1.1 2"), {UP_CLOSE, NULL, 0}),
		SCRIPT({UP_ECHO, NULL, 0}, {UP_FOREVER, NULL, 0})};
	struct gw_options options = {.scripts = scripts, .nscripts = 2};
	struct gw *gw = gw_start(&options);
	struct answer a;

	ask_ok(gw, GET_X);
	a = gw_ask(gw, GET_X);
	expect_error(&a, 502, "CONNECTION_ERROR");
	answer_fini(&a);
	cr_expect_eq(upstream_connections(gw->up), 1);
	gw_stop(gw);
}

/* Connections beyond max_idle, older than lifetime, or idle for longer than idle_timeout are closed. */
Test(pool, idle_limits)
{
	enum {
		CLIENTS = 6
	};
	const struct up_step *const scripts[] = {
		SCRIPT({UP_READ, NULL, 0}, {UP_GATE, NULL, 0}, UP_TEXT(UP_OK_TEXT), {UP_FOREVER, NULL, 0})};
	struct gw_options options = {.scripts = scripts, .nscripts = 1, .pool = "max_idle: 2, idle_timeout: 200ms"};
	struct gw *gw = gw_start(&options);
	struct raw r[CLIENTS];

	for (unsigned i = 0; i < CLIENTS; i++) {
		r[i] = gw_connect(gw);
		cr_assert(raw_text(&r[i], GET_X));
	}
	cr_assert(upstream_wait_requests(gw->up, CLIENTS));
	cr_expect_eq(upstream_open(gw->up), CLIENTS);
	upstream_open_gate(gw->up, 0);
	for (unsigned i = 0; i < CLIENTS; i++) {
		struct answer a = raw_answer(&r[i], false, WAIT_MS);

		expect_status(&a, 200);
		answer_fini(&a);
		raw_close(&r[i]);
	}
	cr_expect(upstream_wait_open(gw->up, 2), "more than max_idle are kept");
	cr_expect(upstream_wait_open(gw->up, 0), "idle_timeout does nothing");
	ask_ok(gw, GET_X);
	gw_stop(gw);
}

/* K1, K3: a client that is gone frees the upstream at once; one that is half closed still gets its answer. */
Test(pool, client_gone)
{
	const struct up_step *const scripts[] = {
		SCRIPT({UP_READ, NULL, 0}, {UP_READ_EOF, NULL, 0}),
		SCRIPT({UP_READ, NULL, 0}, UP_TEXT("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n"),
		       {UP_READ_EOF, NULL, 0}),
		SCRIPT({UP_READ, NULL, 0}, {UP_GATE, NULL, 0}, UP_TEXT(UP_OK_TEXT), {UP_READ_EOF, NULL, 0})};
	struct gw_options options = {.scripts = scripts, .nscripts = 3};
	struct gw *gw = gw_start(&options);
	struct raw r = gw_connect(gw);
	uint64_t begin;
	struct answer a;

	cr_assert(raw_text(&r, GET_X));
	cr_assert(upstream_wait_requests(gw->up, 1));
	begin = wait_now_ms();
	raw_close(&r);
	cr_expect(upstream_wait_closed(gw->up, 0), "gone while waiting for the head");
	cr_expect_lt(wait_now_ms() - begin, 1000);
	r = gw_connect(gw);
	cr_assert(raw_text(&r, GET_X));
	cr_assert(raw_read_text(&r, "one", WAIT_MS));
	begin = wait_now_ms();
	raw_close(&r);
	cr_expect(upstream_wait_closed(gw->up, 1), "gone in a silent stream");
	cr_expect_lt(wait_now_ms() - begin, 1000);
	r = gw_connect(gw);
	cr_assert(raw_text(&r, GET_X));
	raw_half_close(&r);
	cr_assert(upstream_wait_requests(gw->up, 3));
	upstream_open_gate(gw->up, 0);
	a = raw_answer(&r, false, WAIT_MS);
	expect_status(&a, 200);
	answer_fini(&a);
	cr_expect(raw_closes(&r, WAIT_MS));
	raw_close(&r);
	gw_stop(gw);
}

/* K12: connections that end in every way leave no descriptor behind. */
Test(pool, no_descriptor_is_lost)
{
	struct gw *gw = gw_start(NULL);
	int before, after;
	uint64_t begin;

	ask_ok(gw, GET_X);
	before = daemon_fds(gw->daemon);
	for (unsigned i = 0; i < 300; i++) {
		static const char *const begun[] = {
			"", "GET /api", GET_X, POST_X,
			"POST /api/v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n{}"};
		struct raw r = gw_connect(gw);

		cr_assert(raw_text(&r, begun[i % 5]));
		if (i % 2)
			raw_reset(&r);
		else
			raw_close(&r);
	}
	/* Every connection before these has been accepted and ended; idle ones beyond max_idle go within a second or so. */
	for (unsigned i = 0; i < 3; i++)
		ask_ok(gw, GET_X);
	begin = wait_now_ms();
	do
		after = daemon_fds(gw->daemon);
	while (after > before + 16 && wait_now_ms() - begin < WAIT_MS);
	cr_assert(upstream_wait_open(gw->up, 16), "more idle connections than max_idle");
	if (before > 0)
		cr_expect_leq(after, before + 16, "%d descriptors, %d before", after, before);
	gw_stop(gw);
}
