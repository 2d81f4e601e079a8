/* SPDX-License-Identifier: Apache-2.0 */
/* The harness is tested before it tests anything: scripted upstream and raw client against each other. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/gateway.h"
#include "lib/wait.h"
#include "lib/wire.h"

static struct scratch dir;
static struct upstream *up;

static void begin(void)
{
	scratch_init(&dir);
}

static void end(void)
{
	upstream_stop(up);
	up = NULL;
	scratch_fini(&dir);
	daemon_kill_all();
}

TestSuite(harness, .init = begin, .fini = end);

static struct str request(void)
{
	return STR("POST /x?y=1 HTTP/1.1\r\nHost: h\r\nX-Api-Key: " PLANTED_SECRET "\r\nContent-Length: 3\r\n\r\nabc");
}

/* The echo says what it got, with the planted credential masked. */
Test(harness, echo)
{
	struct raw r;
	struct answer a;
	struct buf head;
	json_t *json;

	up = upstream_echo(scratch_path(&dir, "up.sock"));
	r = raw_unix(scratch_path(&dir, "up.sock"));
	cr_assert(raw_send(&r, request().p, request().n));
	a = raw_answer(&r, false, WAIT_MS);
	expect_status(&a, 200);
	json = answer_json(&a);
	cr_assert_str_eq(json_text_at(json, "target"), "/x?y=1");
	cr_assert_str_eq(json_text_at(json, "method"), "POST");
	cr_assert_str_eq(json_text_at(json, "body"), "abc");
	cr_assert_eq(json_number_at(json, "body_bytes"), 3);
	cr_assert_not_null(strstr(json_text_at(json, "head"), "X-Api-Key: <key>\r\n"));
	json_decref(json);
	head = upstream_request_head(up, 0);
	cr_assert(buf_contains(&head, "X-Api-Key: " PLANTED_SECRET "\r\n"));
	cr_assert_eq(upstream_requests(up), 1);
	cr_assert_eq(upstream_connections(up), 1);
	buf_fini(&head);
	answer_fini(&a);
	raw_close(&r);
	cr_assert(upstream_wait_closed(up, 0));
	cr_assert(upstream_wait_open(up, 0));
}

/* Bytes in pieces are the same request, on TCP as well. */
Test(harness, pieces)
{
	struct raw r;

	up = upstream_echo(NULL);
	r = raw_tcp(upstream_port(up));
	for (size_t at = 1; at < request().n; at += 7) {
		struct answer a;

		cr_assert(raw_split(&r, request().p, request().n, at));
		a = raw_answer(&r, false, WAIT_MS);
		expect_status(&a, 200);
		answer_fini(&a);
	}
	cr_assert(raw_bytewise(&r, request().p, request().n));
	cr_assert(raw_read_text(&r, "abc", WAIT_MS));
	raw_reset(&r);
	cr_assert(upstream_wait_open(up, 0));
}

/* A script's steps in order; a cut answer is told from a complete one, chunked and with a length. */
Test(harness, script)
{
	const struct up_step *scripts[] = {
		SCRIPT({UP_READ, NULL, 0}, UP_TEXT("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345"),
		       {UP_CLOSE, NULL, 0}),
		SCRIPT({UP_READ, NULL, 0}, UP_TEXT("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
		       {UP_CLOSE, NULL, 0}),
		SCRIPT({UP_READ, NULL, 0},
		       UP_TEXT("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\n\r\n"),
		       {UP_GATE, NULL, 1}, {UP_ECHO, NULL, 0}, {UP_RESET, NULL, 0}),
	};
	const struct {
		enum answer_end end;
		const char *body;
	} want[] = {{ANSWER_CUT, "12345"}, {ANSWER_CUT, "abc"}, {ANSWER_COMPLETE, "abc"}};
	struct raw r = {.fd = -1};

	up = upstream_start(scratch_path(&dir, "up.sock"), scripts, 3);
	for (unsigned i = 0; i < 3; i++) {
		struct answer a;

		raw_close(&r);
		r = raw_unix(scratch_path(&dir, "up.sock"));
		cr_assert(raw_send(&r, request().p, request().n));
		a = raw_answer(&r, false, WAIT_MS);
		cr_assert_eq(a.end, want[i].end);
		cr_assert(str_eq(buf_str(&a.body), str_from(want[i].body)));
		answer_fini(&a);
	}
	cr_assert(raw_send(&r, request().p, request().n));
	cr_assert(raw_silent(&r, 50), "the gate is shut");
	upstream_open_gate(up, 1);
	cr_assert(raw_read_text(&r, "\"request\":2", WAIT_MS));
	cr_assert(raw_closes(&r, WAIT_MS));
	raw_close(&r);
}

/* Refused dials, and an upstream that is stopped in the middle of everything. */
Test(harness, refuse_and_stop)
{
	const struct up_step *scripts[] = {SCRIPT({UP_READ, NULL, 0}, {UP_GATE, NULL, 0})};
	struct raw r, other;

	up = upstream_start(scratch_path(&dir, "up.sock"), scripts, 1);
	r = raw_unix(scratch_path(&dir, "up.sock"));
	cr_assert(raw_send(&r, request().p, request().n));
	cr_assert(upstream_wait_requests(up, 1));
	upstream_refuse(up);
	cr_assert_lt(raw_try_unix(&other, scratch_path(&dir, "up.sock")), 0);
	upstream_stop(up);
	up = NULL;
	cr_assert(raw_closes(&r, WAIT_MS));
	raw_close(&r);
}

/* Reading heads: names without case, repetitions counted, values trimmed. */
Test(harness, wire)
{
	struct str head = STR("GET /a HTTP/1.1\r\nA: 1\r\na:2 \r\nB:\r\n\r\n");
	struct buf body = BUF_EMPTY;
	size_t used;

	cr_assert_eq(wire_head_bytes(head), head.n);
	cr_assert_eq(wire_head_bytes(str_of(head.p, head.n - 1)), 0);
	cr_assert_eq(wire_count(head, "a"), 2);
	cr_assert(str_eq(wire_header(head, "A", 1), STR("2")));
	cr_assert_eq(wire_count(head, "c"), 0);
	cr_assert(str_eq(wire_target(head), STR("/a")));
	cr_assert_eq(wire_dechunk(STR("2\r\nab\r\n0\r\nT: x\r\n\r\nrest"), &used, &body), WIRE_COMPLETE);
	cr_assert_eq(used, sizeof("2\r\nab\r\n0\r\nT: x\r\n\r\n") - 1);
	cr_assert(str_eq(buf_str(&body), STR("ab")));
	cr_assert_eq(wire_dechunk(STR("2\r\nabc\r\n"), &used, &body), WIRE_BROKEN);
	cr_assert_eq(wire_dechunk(STR("z\r\n"), &used, &body), WIRE_BROKEN);
	buf_fini(&body);
}

/* A program's output is judged, its status reported, its directories are its own and gone afterwards. */
Test(harness, program)
{
	const char *argv[] = {"-c", "echo out; echo err >&2; test -d \"$RUNTIME_DIRECTORY\" && exit 7", NULL};
	struct daemon_spec spec = {.program = "/bin/sh", .argv = argv};
	struct buf out = BUF_EMPTY, err = BUF_EMPTY;

	cr_assert_eq(daemon_run(&dir, &spec, &out, &err), 7);
	cr_assert(str_eq(buf_str(&out), STR("out\n")));
	cr_assert(str_eq(buf_str(&err), STR("err\n")));
	buf_fini(&out);
	buf_fini(&err);
}
