/* SPDX-License-Identifier: Apache-2.0 */
/* F30, F31, K14, K16: the pool shared out between identities, and what becomes of it when nobody answers a dial. */
#include <criterion/criterion.h>
#include <criterion/logging.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "integration/dp_lib.h"

TestSuite(dp_pool, .fini = gw_fini);

#define POOL(what) "upstreams.0.pool." what

/* Answers nothing until the gate opens, and then each request. */
static const struct up_step gated[] = {
	{UP_READ, NULL, 0}, {UP_GATE, NULL, 0}, {UP_SEND, UP_OK_TEXT, 0}, {UP_FOREVER, NULL, 0}};

static void send_get(struct raw *r, const char *name)
{
	char request[100];

	snprintf(request, sizeof(request), "GET /api/v1/%s HTTP/1.1\r\nHost: h\r\n\r\n", name);
	cr_assert(raw_text(r, request));
}

static void expect_ok(struct raw *r)
{
	struct answer a = raw_answer(r, false, WAIT_MS);

	expect_status(&a, 200);
	answer_fini(&a);
}

/* K16: the silent streams of one leave room for another; and they are served in the end, as places become free. */
Test(dp_pool, K16_silent_streams)
{
	enum {
		STREAMS = 12,
		SHARE = 6
	};
	const struct up_step silent[] = {{UP_READ, NULL, 0},
					 {UP_SEND, STREAM_HEAD "3\r\n{}\n\r\n", 0},
					 {UP_READ_EOF, NULL, 0},
					 {UP_END, NULL, 0}};
	const struct up_step echo[] = {{UP_ECHO, NULL, 0}, {UP_FOREVER, NULL, 0}};
	const struct up_step *const scripts[SHARE + 1] = {silent, silent, silent, silent, silent, silent, echo};
	struct gw_options options = {
		.scripts = scripts, .nscripts = COUNT(scripts), .pool = "max_connections: 8, max_waiting: 64"};
	struct gw *gw = dp_two_start(&options);
	struct raw alice[STREAMS], bob = dp_bob(gw);

	for (unsigned i = 0; i < STREAMS; i++) {
		alice[i] = gw_connect(gw);
		send_get(&alice[i], "stream");
	}
	for (unsigned i = 0; i < SHARE; i++)
		cr_assert(raw_read_text(&alice[i], "{}", WAIT_MS));
	cr_expect_eq(dp_status(gw, POOL("leased")), SHARE);
	cr_expect_eq(dp_status(gw, POOL("waiting")), STREAMS - SHARE);
	for (unsigned i = 0; i < 20; i++) {
		uint64_t begin = wait_now_ms();

		send_get(&bob, "x");
		expect_ok(&bob);
		cr_expect_lt(wait_now_ms() - begin, 500, "%llu ms", (unsigned long long)(wait_now_ms() - begin));
	}
	cr_expect_eq(upstream_connections(gw->up), SHARE + 1, "bob's requests took more than one connection");
	cr_expect_eq(dp_status(gw, POOL("waiting")), STREAMS - SHARE, "one of alice's has what is not hers");
	/* One of hers that ends makes room for hers, one by one: on the connection that bob left idle. */
	raw_close(&alice[0]);
	for (unsigned i = SHARE; i < STREAMS; i++)
		expect_ok(&alice[i]);
	for (unsigned i = 1; i < STREAMS; i++)
		raw_close(&alice[i]);
	cr_expect(dp_wait_status(gw, POOL("leased"), 0));
	cr_expect_eq(dp_status(gw, POOL("waiting")), 0);
	raw_close(&bob);
	gw_stop(gw);
}

/* Who waits is served in turn with the others, however many wait before him. */
Test(dp_pool, round_robin)
{
	static const char *const order[] = {"a0", "a1", "b0", "a2", "b1", "a3", "b2", "a4", "a5"};
	enum {
		ALICES = 6,
		BOBS = 3
	};
	const struct up_step *const scripts[] = {gated};
	struct gw_options options = {.scripts = scripts, .nscripts = 1, .pool = "max_connections: 1, max_waiting: 64"};
	struct gw *gw = dp_two_start(&options);
	struct raw alice[ALICES], bob[BOBS];
	char name[8];

	for (unsigned i = 0; i < ALICES; i++) {
		alice[i] = gw_connect(gw);
		snprintf(name, sizeof(name), "a%u", i);
		send_get(&alice[i], name);
		if (i == 0)
			cr_assert(upstream_wait_requests(gw->up, 1));
		else
			cr_assert(dp_wait_status(gw, POOL("waiting"), i));
	}
	for (unsigned i = 0; i < BOBS; i++) {
		bob[i] = dp_bob(gw);
		snprintf(name, sizeof(name), "b%u", i);
		send_get(&bob[i], name);
		cr_assert(dp_wait_status(gw, POOL("waiting"), ALICES + i));
	}
	upstream_open_gate(gw->up, 0);
	for (unsigned i = 0; i < ALICES; i++) {
		expect_ok(&alice[i]);
		raw_close(&alice[i]);
	}
	for (unsigned i = 0; i < BOBS; i++) {
		expect_ok(&bob[i]);
		raw_close(&bob[i]);
	}
	for (unsigned i = 0; i < COUNT(order); i++) {
		struct buf head = upstream_request_head(gw->up, i);
		struct str target = wire_target(buf_str(&head));

		cr_expect(target.n > 8 && str_eq(str_of(target.p + 8, target.n - 8), str_from(order[i])),
			  "request %u is %.*s, not %s", i, STR_ARG(target), order[i]);
		buf_fini(&head);
	}
	cr_expect_eq(upstream_most_open(gw->up), 1);
	cr_expect_eq(dp_status(gw, POOL("waited")), ALICES + BOBS);
	gw_stop(gw);
}

/* Nobody takes more than a quarter of the queue; the others find room in it. */
Test(dp_pool, quarter_of_the_queue)
{
	const struct up_step *const scripts[] = {gated};
	struct gw_options options = {
		.scripts = scripts, .nscripts = 1, .pool = "max_connections: 2, max_per_identity: 1, max_waiting: 8"};
	struct gw *gw = dp_two_start(&options);
	struct raw alice[6], bob[2];

	for (unsigned i = 0; i < COUNT(alice); i++) {
		alice[i] = gw_connect(gw);
		send_get(&alice[i], "a");
		if (i < 3)
			cr_assert(i ? dp_wait_status(gw, POOL("waiting"), i) : upstream_wait_requests(gw->up, 1));
	}
	for (unsigned i = 3; i < COUNT(alice); i++) {
		uint64_t begin = wait_now_ms();
		struct answer a = raw_answer(&alice[i], false, WAIT_MS);

		expect_error(&a, 503, "UNAVAILABLE");
		cr_expect_eq(wire_count(answer_head(&a), "Retry-After"), 1);
		cr_expect_lt(wait_now_ms() - begin, 1000);
		answer_fini(&a);
	}
	for (unsigned i = 0; i < COUNT(bob); i++) {
		bob[i] = dp_bob(gw);
		send_get(&bob[i], "b");
	}
	cr_expect(upstream_wait_requests(gw->up, 2), "bob's first has no connection");
	cr_expect(dp_wait_status(gw, POOL("waiting"), 3), "bob's second does not wait");
	cr_expect_eq(dp_status(gw, POOL("refused")), 3);
	upstream_open_gate(gw->up, 0);
	for (unsigned i = 0; i < 3; i++)
		expect_ok(&alice[i]);
	for (unsigned i = 0; i < COUNT(bob); i++)
		expect_ok(&bob[i]);
	for (unsigned i = 0; i < COUNT(alice); i++)
		raw_close(&alice[i]);
	for (unsigned i = 0; i < COUNT(bob); i++)
		raw_close(&bob[i]);
	gw_stop(gw);
}

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1000 + (double)t.tv_nsec / 1e6;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

enum {
	SAMPLES = 200
};

/* The 99th percentile of what requests on this connection take, in ms. */
static double p99_of(struct raw *r)
{
	double took[SAMPLES];

	for (unsigned i = 0; i < SAMPLES; i++) {
		took[i] = now_ms();
		send_get(r, "b");
		expect_ok(r);
		took[i] = now_ms() - took[i];
	}
	qsort(took, SAMPLES, sizeof(took[0]), by_size);
	return took[SAMPLES * 99 / 100];
}

/* K14: 16 connections of one who never stops hardly hold up another's requests. */
Test(dp_pool, K14_hot_client)
{
	enum {
		HOT = 16,
		ROUNDS = 400
	};
	struct gw_options options = {.pool = "max_connections: 8"};
	struct gw *gw = dp_two_start(&options);
	struct raw alice[HOT], bob = dp_bob(gw);
	double idle = p99_of(&bob), hot;
	unsigned before = upstream_requests(gw->up);

	for (unsigned i = 0; i < HOT; i++) {
		alice[i] = gw_connect(gw);
		for (unsigned n = 0; n < ROUNDS; n++)
			send_get(&alice[i], "a");
	}
	hot = p99_of(&bob);
	cr_expect_lt(upstream_requests(gw->up) - before, HOT * ROUNDS + SAMPLES, "alice was done before");
	cr_expect_gt(upstream_requests(gw->up) - before, SAMPLES + SAMPLES, "alice was not served meanwhile");
	/* Idle takes a fraction of a ms, in which this process and its upstream want the processors too. */
	cr_expect_lt(hot, idle > 4 ? 5 * idle : 20, "p99 %.2f ms, idle %.2f ms", hot, idle);
	cr_log_info("p99 %.2f ms beside a hot client, %.2f ms alone", hot, idle);
	for (unsigned i = 0; i < HOT; i++) {
		for (unsigned n = 0; n < ROUNDS; n++)
			expect_ok(&alice[i]);
		raw_close(&alice[i]);
	}
	cr_expect_eq(upstream_requests(gw->up) - before, HOT * ROUNDS + SAMPLES);
	cr_expect_leq(upstream_most_open(gw->up), 8);
	raw_close(&bob);
	gw_stop(gw);
}

/* min_idle connections are there before the first request, and again when the upstream drops them. */
Test(dp_pool, min_idle)
{
	const struct up_step *const scripts[] = {
		SCRIPT({UP_GATE, NULL, 0}, {UP_CLOSE, NULL, 0}), SCRIPT({UP_GATE, NULL, 0}, {UP_CLOSE, NULL, 0}),
		SCRIPT({UP_GATE, NULL, 0}, {UP_CLOSE, NULL, 0}), SCRIPT({UP_ECHO, NULL, 0}, {UP_FOREVER, NULL, 0})};
	struct gw_options options = {.scripts = scripts, .nscripts = COUNT(scripts), .pool = "min_idle: 3"};
	struct gw *gw = gw_start(&options);

	cr_assert(upstream_wait_connections(gw->up, 3), "%u connections", upstream_connections(gw->up));
	cr_expect(dp_wait_status(gw, POOL("idle"), 3));
	cr_expect_eq(upstream_requests(gw->up), 0);
	upstream_open_gate(gw->up, 0);
	cr_assert(upstream_wait_connections(gw->up, 6), "%u connections", upstream_connections(gw->up));
	cr_expect(dp_wait_status(gw, POOL("idle"), 3));
	cr_expect_eq(dp_status(gw, POOL("evicted")), 3);
	dp_ask_ok(gw);
	cr_expect_eq(dp_status(gw, POOL("reused")), 0, "a prewarmed connection has served nobody");
	cr_expect_leq(upstream_open(gw->up), 4);
	gw_stop(gw);
}

static void make_upstream(struct gw *gw)
{
	upstream_stop(gw->up);
	gw->up = upstream_echo(gw->upstream_path);
}

static bool circuit_is_open(struct gw *gw)
{
	json_t *json = gw_get(gw, "/gateway/v1/status");
	bool open = json_is_true(json_object_get(
		json_object_get(json_array_get(json_object_get(json, "upstreams"), 0), "pool"), "circuit_open"));

	json_decref(json);
	return open;
}

static bool good_answer(void *arg)
{
	struct answer a = gw_ask(arg, GET_X);
	bool good = a.status == 200;

	if (!good)
		expect_error(&a, 502, "CONNECTION_ERROR");
	answer_fini(&a);
	return good;
}

/* F1, F31: five failed dials open the circuit; then everybody is told at once, without a dial; it closes by itself. */
Test(dp_pool, F31_circuit)
{
	enum {
		MANY = 200
	};
	struct gw_options options = {.no_upstream = true};
	struct gw *gw = gw_start(&options);
	json_int_t dials;
	uint64_t begin;

	for (unsigned i = 0; i < 5; i++) {
		struct answer a;

		cr_expect_not(circuit_is_open(gw), "open after %u dials", i);
		a = gw_ask(gw, GET_X);
		expect_error(&a, 502, "CONNECTION_ERROR");
		answer_fini(&a);
		cr_expect_eq(dp_status(gw, POOL("dial_failures")), i + 1);
	}
	cr_assert(circuit_is_open(gw));
	begin = wait_now_ms();
	dials = dp_status(gw, POOL("dials"));
	for (unsigned i = 0; i < MANY; i++) {
		struct answer a = gw_ask(gw, "%s", i % 2 ? GET_X : POST_X);

		expect_error(&a, 502, "CONNECTION_ERROR");
		answer_fini(&a);
	}
	/* Tried at 100, 200, 400 ms and so on, whoever asks. */
	cr_expect_leq(dp_status(gw, POOL("dials")) - dials, 2 + (json_int_t)((wait_now_ms() - begin) / 100));
	cr_expect_geq(dp_status(gw, POOL("circuit_refused")), MANY / 2);
	cr_expect_eq(dp_status(gw, POOL("circuit_opened")), 1);
	make_upstream(gw);
	/* Without any request. */
	cr_expect(upstream_wait_connections(gw->up, 1), "nobody tries again");
	cr_assert(wait_until(good_answer, gw, WAIT_MS));
	cr_expect_not(circuit_is_open(gw));
	for (unsigned i = 0; i < 20; i++)
		dp_ask_ok(gw);
	cr_expect_eq(dp_status(gw, POOL("circuit_opened")), 1);
	gw_stop(gw);
}

/* Answers that break off open nothing: the server cuts every long one. */
Test(dp_pool, F31_only_dials_count)
{
	enum {
		CUTS = 12
	};
	static const struct up_step cut[] = {
		{UP_READ, NULL, 0}, {UP_SEND, STREAM_HEAD, 0}, {UP_CLOSE, NULL, 0}, {UP_END, NULL, 0}};
	static const struct up_step silent[] = {{UP_READ, NULL, 0}, {UP_CLOSE, NULL, 0}, {UP_END, NULL, 0}};
	const struct up_step *scripts[CUTS + 1];
	struct gw_options options = {.scripts = scripts, .nscripts = COUNT(scripts)};
	struct gw *gw;

	for (unsigned i = 0; i < CUTS; i++)
		scripts[i] = i % 2 ? cut : silent;
	scripts[CUTS] = SCRIPT({UP_ECHO, NULL, 0}, {UP_FOREVER, NULL, 0});
	gw = gw_start(&options);
	for (unsigned i = 0; i < CUTS; i++) {
		struct answer a = gw_ask(gw, "%s", POST_X);

		cr_expect(i % 2 ? a.end == ANSWER_CUT : a.status == 502, "request %u: %d, %u", i, (int)a.end, a.status);
		answer_fini(&a);
	}
	cr_expect_not(circuit_is_open(gw));
	dp_ask_ok(gw);
	gw_stop(gw);
}

/* F31: an upstream that comes and goes: every answer is whole or a 502, 503 or 504, and the last one is good. */
Test(dp_pool, F31_flapping)
{
	enum {
		CYCLES = 6,
		CLIENTS = 4,
		ROUNDS = 40
	};
	struct gw *gw = gw_start(NULL);
	struct raw r[CLIENTS];
	unsigned good = 0, bad = 0;

	for (unsigned i = 0; i < CLIENTS; i++)
		r[i] = gw_connect(gw);
	for (unsigned cycle = 0; cycle < CYCLES; cycle++) {
		for (unsigned n = 0; n < ROUNDS; n++) {
			for (unsigned i = 0; i < CLIENTS; i++)
				cr_assert(raw_text(&r[i], n % 3 ? GET_X : POST_X));
			if (n == ROUNDS / 2) {
				upstream_stop(gw->up);
				gw->up = NULL;
			}
			for (unsigned i = 0; i < CLIENTS; i++) {
				struct answer a = raw_answer(&r[i], false, WAIT_MS);

				cr_assert(a.end == ANSWER_COMPLETE || a.end == ANSWER_CUT, "%d", (int)a.end);
				cr_assert(a.status == 200 || (a.status >= 502 && a.status <= 504) ||
						  a.end == ANSWER_CUT,
					  "status %u", a.status);
				if (a.status == 200)
					good++;
				else
					bad++;
				if (a.end == ANSWER_CUT || r[i].ended ||
				    wire_header_is(answer_head(&a), "Connection", "close")) {
					raw_close(&r[i]);
					r[i] = gw_connect(gw);
				}
				answer_fini(&a);
			}
		}
		gw->up = upstream_echo(gw->upstream_path);
		cr_assert(wait_until(good_answer, gw, WAIT_MS), "cycle %u: it does not recover", cycle);
	}
	cr_expect_geq(good, CYCLES * CLIENTS * (ROUNDS / 2 - 1));
	cr_expect_gt(bad, CYCLES);
	for (unsigned i = 0; i < CLIENTS; i++)
		raw_close(&r[i]);
	cr_expect(dp_wait_status(gw, POOL("leased"), 0));
	gw_stop(gw);
}

/* F30: many more than the pool holds: none is lost, none waits longer than it may, and the numbers tell. */
Test(dp_pool, F30_waiting)
{
	enum {
		CLIENTS = 60,
		POOL_SIZE = 4
	};
	const struct up_step slow[] = {
		{UP_READ, NULL, 0}, {UP_DELAY, NULL, 40}, {UP_SEND, UP_OK_TEXT, 0}, {UP_FOREVER, NULL, 0}};
	const struct up_step *const scripts[] = {slow};
	struct gw_options options = {
		.scripts = scripts,
		.nscripts = 1,
		.pool = "max_connections: 4, max_per_identity: 4, max_waiting: 1024, wait_timeout: 400ms"};
	struct gw *gw = gw_start(&options);
	uint64_t begin = wait_now_ms();
	unsigned good = 0, late = 0;
	struct raw r[CLIENTS];

	for (unsigned i = 0; i < CLIENTS; i++) {
		r[i] = gw_connect(gw);
		cr_assert(raw_text(&r[i], GET_X));
	}
	for (unsigned i = 0; i < CLIENTS; i++) {
		struct answer a = raw_answer(&r[i], false, WAIT_MS);

		if (a.status == 200) {
			expect_status(&a, 200);
			good++;
		} else {
			expect_error(&a, 503, "UNAVAILABLE");
			cr_expect_eq(wire_count(answer_head(&a), "Retry-After"), 1);
			late++;
		}
		answer_fini(&a);
		raw_close(&r[i]);
	}
	cr_expect_lt(wait_now_ms() - begin, 400 + 1500);
	cr_expect_eq(good + late, CLIENTS);
	cr_expect_gt(good, POOL_SIZE);
	cr_expect_gt(late, 0);
	cr_expect_eq(dp_status(gw, POOL("refused")), late);
	cr_expect_eq(dp_status(gw, POOL("waited")), good);
	cr_expect_gt(dp_status(gw, POOL("waited_ms")), 0);
	cr_expect_eq(dp_status(gw, POOL("peak")), POOL_SIZE);
	cr_expect_eq(upstream_most_open(gw->up), POOL_SIZE);
	gw_stop(gw);
}
