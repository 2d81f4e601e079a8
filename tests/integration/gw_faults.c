/* SPDX-License-Identifier: Apache-2.0 */
/* Upstreams that misbehave: each fault has its own answer, soon, and the request after it is served. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/gateway.h"
#include "lib/wait.h"
#include "lib/wire.h"

TestSuite(faults, .fini = gw_fini);

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define GET_X        "GET /api/v1/x HTTP/1.1\r\nHost: h\r\n\r\n"

static void ask_ok(struct gw *gw)
{
	struct answer a = gw_ask(gw, GET_X);

	expect_status(&a, 200);
	answer_fini(&a);
}

static bool says(const struct answer *a, const char *text)
{
	return buf_contains(&a->body, text);
}

/* F1: nobody listens: 502, soon, on both kinds of socket; and when somebody does, it recovers by itself. */
Test(faults, refused)
{
	for (unsigned tcp = 0; tcp < 2; tcp++) {
		struct gw_options options = {.no_upstream = true, .tcp = tcp};
		struct gw *gw = gw_start(&options);
		uint64_t begin = wait_now_ms();
		struct answer a = gw_ask(gw, GET_X);

		expect_error(&a, 502, "CONNECTION_ERROR");
		cr_expect_lt(wait_now_ms() - begin, 1500);
		/* It says what was tried: no host and port when it was a Unix socket. */
		cr_expect_eq(says(&a, "Unix socket: Connection refused") || says(&a, "Unix socket: No such file"),
			     !tcp);
		cr_expect_eq(says(&a, " port "), tcp);
		answer_fini(&a);
		a = gw_ask(gw, "POST /api/v1/sandboxes HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}");
		expect_error(&a, 502, "CONNECTION_ERROR");
		answer_fini(&a);
		if (!tcp) {
			upstream_stop(gw->up);
			gw->up = upstream_echo(gw->upstream_path);
			ask_ok(gw);
		}
		gw_stop(gw);
	}
}

/* F2: a dial that is not answered ends with timeouts.connect: 504. A Unix listener with a full backlog refuses. */
Test(faults, full_backlog)
{
	struct gw_options options = {.no_upstream = true, .timeouts = "connect: 300ms"};
	struct gw *gw = gw_prepare(&options);
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), full;
	struct answer a;
	uint64_t begin;

	snprintf(at.sun_path, sizeof(at.sun_path), "%.100s", gw->upstream_path);
	cr_assert_eq(bind(listener, (struct sockaddr *)&at, sizeof(at)), 0);
	cr_assert_eq(listen(listener, 0), 0);
	full = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(connect(full, (struct sockaddr *)&at, sizeof(at)), 0);
	gw_run(gw, &options);
	begin = wait_now_ms();
	a = gw_ask(gw, GET_X);
	cr_expect(a.status == 502 || a.status == 504, "status %u", a.status);
	expect_error(&a, a.status, a.status == 502 ? "CONNECTION_ERROR" : "UPSTREAM_TIMEOUT");
	cr_expect_lt(wait_now_ms() - begin, 2000);
	answer_fini(&a);
	close(full);
	close(listener);
	gw_stop(gw);
}

struct fault {
	const char *id;
	const char *sent; /* instead of a good head */
	enum up_op then;
};

#define OK "HTTP/1.1 200 OK\r\n"

/* F3, F5, F8-F10, F15-F18, H9: no complete, sound response head: 502 and the connection is closed. */
static const struct fault bad_heads[] = {
	{"F3", NULL, UP_CLOSE},
	{"F3b", NULL, UP_RESET},
	{"F5", "HTTP/1.1 200 OK\r\nContent-Len", UP_CLOSE},
	{"F5b", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", UP_RESET},
	{"F8", OK "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ", UP_READ_EOF},
	{"F8b", OK "Content-Length: 2, 2\r\n\r\n{}", UP_READ_EOF},
	{"F8c", OK "Content-Length: -2\r\n\r\n{}", UP_READ_EOF},
	{"F8d", OK "Content-Length: +2\r\n\r\n{}", UP_READ_EOF},
	{"F10", OK "Transfer-Encoding: gzip\r\n\r\nxx", UP_READ_EOF},
	{"F10b", "just text\r\n\r\n", UP_READ_EOF},
	{"F10c", "HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\n{}", UP_READ_EOF},
	{"F10d", "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", UP_READ_EOF},
	{"F10e", "HTTP/1.1 099 Odd\r\nContent-Length: 2\r\n\r\n{}", UP_READ_EOF},
	{"F18", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", UP_READ_EOF},
	{"H9", OK "X: a\rb\r\nContent-Length: 2\r\n\r\n{}", UP_READ_EOF},
	{"H9c", OK "X: a\r\n b\r\nContent-Length: 2\r\n\r\n{}", UP_READ_EOF},
	{"H9d", OK "nocolon\r\nContent-Length: 2\r\n\r\n{}", UP_READ_EOF},
};

Test(faults, bad_heads)
{
	for (unsigned i = 0; i < COUNT(bad_heads); i++) {
		const struct fault *f = &bad_heads[i];
		const struct up_step bad[] = {{UP_READ, NULL, 0},
					      {f->sent ? UP_SEND : f->then, f->sent, 0},
					      {f->then, NULL, 0},
					      {UP_END, NULL, 0}};
		const struct up_step *const scripts[] = {bad, SCRIPT({UP_ECHO, NULL, 0}, {UP_FOREVER, NULL, 0})};
		struct gw_options options = {.scripts = scripts, .nscripts = 2, .tcp = f->then == UP_RESET};
		struct gw *gw = gw_start(&options);
		struct answer a = gw_ask(gw, GET_X);

		cr_expect_eq(a.status, 502, "%s: status %u", f->id, a.status);
		if (a.status == 502)
			expect_error(&a, 502, "CONNECTION_ERROR");
		answer_fini(&a);
		cr_expect(upstream_wait_open(gw->up, 0), "%s: the connection stays", f->id);
		ask_ok(gw);
		gw_stop(gw);
	}
}

/* H9: a NUL in a response header. */
Test(faults, nul_in_head)
{
	static const char head[] = OK "X: a\0b\r\nContent-Length: 2\r\n\r\n{}";
	const struct up_step *const scripts[] = {
		SCRIPT({UP_READ, NULL, 0}, {UP_SEND, head, sizeof(head) - 1}, {UP_READ_EOF, NULL, 0})};
	struct gw_options options = {.scripts = scripts, .nscripts = 1};
	struct gw *gw = gw_start(&options);
	struct answer a = gw_ask(gw, GET_X);

	expect_error(&a, 502, "CONNECTION_ERROR");
	answer_fini(&a);
	gw_stop(gw);
}

/* F9: length and chunked together: refused, or read as chunked and never used again. */
Test(faults, length_and_chunked)
{
	const struct up_step *const scripts[] = {
		SCRIPT({UP_READ, NULL, 0},
		       UP_TEXT(OK "Content-Length: 40\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 200 "
				  "OK\r\nContent-Length: 4\r\n\r\nevil"),
		       {UP_READ_EOF, NULL, 0}),
		SCRIPT({UP_ECHO, NULL, 0}, {UP_FOREVER, NULL, 0})};
	struct gw_options options = {.scripts = scripts, .nscripts = 2};
	struct gw *gw = gw_start(&options);
	struct raw r = gw_connect(gw);
	struct answer a;

	cr_assert(raw_text(&r, GET_X));
	a = raw_answer(&r, false, WAIT_MS);
	cr_expect(a.status == 502 || (a.status == 200 && a.body.len == 0), "status %u", a.status);
	answer_fini(&a);
	cr_expect(upstream_wait_closed(gw->up, 0));
	cr_expect(!buf_contains(&r.in, "evil"));
	raw_close(&r);
	ask_ok(gw);
	gw_stop(gw);
}

/* F15: a head without end is bounded. */
Test(faults, endless_head)
{
	const struct up_step *const scripts[] = {
		SCRIPT({UP_READ, NULL, 0}, UP_TEXT(OK),
		       {UP_SEND_REPEAT, "X-Header: some text that goes on and on\r\n", 1000000}),
		SCRIPT({UP_READ, NULL, 0}, UP_TEXT(OK "X: "),
		       {UP_SEND_REPEAT, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 1000000})};
	struct gw_options options = {.scripts = scripts, .nscripts = 2};
	struct gw *gw = gw_start(&options);

	for (unsigned i = 0; i < 2; i++) {
		struct answer a = gw_ask(gw, GET_X);

		expect_error(&a, 502, "CONNECTION_ERROR");
		answer_fini(&a);
		cr_expect_lt(upstream_sent(gw->up, i), 16u << 20);
	}
	gw_stop(gw);
}

/* F16: interim responses without end are bounded by their count. */
Test(faults, endless_interim)
{
	const struct up_step *const scripts[] = {
		SCRIPT({UP_READ, NULL, 0}, {UP_SEND_REPEAT, "HTTP/1.1 103 Early Hints\r\n\r\n", 1000000})};
	struct gw_options options = {.scripts = scripts, .nscripts = 1};
	struct gw *gw = gw_start(&options);
	struct raw r = gw_connect(gw);
	unsigned status;

	cr_assert(raw_text(&r, GET_X));
	/* Interim responses may be passed on; what counts is how it ends. */
	do {
		struct answer a = raw_answer(&r, false, WAIT_MS);

		status = a.status;
		answer_fini(&a);
	} while (status >= 100 && status < 200);
	cr_expect_eq(status, 502);
	cr_expect(upstream_wait_open(gw->up, 0));
	raw_close(&r);
	gw_stop(gw);
}

/* F17: a few interim responses, then the answer. */
Test(faults, interim)
{
	const struct up_step *const scripts[] = {SCRIPT(
		{UP_READ, NULL, 0}, UP_TEXT("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"),
		UP_TEXT("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"), UP_TEXT(UP_OK_TEXT), {UP_FOREVER, NULL, 0})};
	struct gw_options options = {.scripts = scripts, .nscripts = 1};
	struct gw *gw = gw_start(&options);
	struct raw r = gw_connect(gw);

	for (unsigned i = 0; i < 3; i++) {
		struct answer a;

		cr_assert(raw_text(&r, GET_X));
		do {
			a = raw_answer(&r, false, WAIT_MS);
			if (a.status < 200)
				answer_fini(&a);
		} while (a.status >= 100 && a.status < 200);
		expect_status(&a, 200);
		cr_expect(str_eq(buf_str(&a.body), STR("{}")));
		answer_fini(&a);
	}
	cr_expect_eq(upstream_connections(gw->up), 1);
	raw_close(&r);
	gw_stop(gw);
}

/* F11, F12: no head within the class's timeout: 504, counted in all and not per byte; the connection is dropped. */
Test(faults, response_timeout)
{
	const struct up_step *const scripts[] = {
		SCRIPT({UP_READ, NULL, 0}, {UP_READ_EOF, NULL, 0}),
		SCRIPT({UP_READ, NULL, 0}, UP_TEXT("HTTP/1.1 200 OK\r\n"), {UP_DELAY, NULL, 150}, UP_TEXT("A: b\r\n"),
		       {UP_DELAY, NULL, 150}, UP_TEXT("A: b\r\n"), {UP_DELAY, NULL, 150}, UP_TEXT("A: b\r\n"),
		       {UP_READ_EOF, NULL, 0}),
		SCRIPT({UP_ECHO, NULL, 0}, {UP_FOREVER, NULL, 0})};
	struct gw_options options = {.scripts = scripts, .nscripts = 3, .timeouts = "response: 300ms"};
	struct gw *gw = gw_start(&options);

	for (unsigned i = 0; i < 2; i++) {
		uint64_t begin = wait_now_ms();
		struct answer a = gw_ask(gw, GET_X);
		uint64_t took = wait_now_ms() - begin;

		expect_error(&a, 504, "UPSTREAM_TIMEOUT");
		cr_expect(took >= 250 && took < 2000, "%llu ms", (unsigned long long)took);
		answer_fini(&a);
		cr_expect(upstream_wait_open(gw->up, 0));
	}
	ask_ok(gw);
	gw_stop(gw);
}

/* F11: how long a response head may take is a matter of the route: plain ones, commands and spawns have their own bounds. */
Test(faults, timeouts_by_class)
{
	static const struct {
		const char *request;
		unsigned ms;
	} cases[] = {
		{"GET /api/v1/sandboxes/sb-1 HTTP/1.1\r\nHost: h\r\n\r\n", 300},
		{"POST /api/v1/sandboxes/sb-1/exec HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}", 900},
		{"POST /api/v1/sandboxes HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}", 1500},
	};
	const struct up_step *const scripts[] = {SCRIPT({UP_READ, NULL, 0}, {UP_READ_EOF, NULL, 0})};
	struct gw_options options = {
		.scripts = scripts, .nscripts = 1, .timeouts = "response: 300ms, exec: 900ms, spawn: 1500ms"};
	struct gw *gw = gw_start(&options);

	for (unsigned i = 0; i < COUNT(cases); i++) {
		uint64_t begin = wait_now_ms(), took;
		struct answer a = gw_ask(gw, "%s", cases[i].request);

		took = wait_now_ms() - begin;
		expect_error(&a, 504, "UPSTREAM_TIMEOUT");
		cr_expect(took >= cases[i].ms - 50 && took < cases[i].ms + 500, "case %u: %llu ms", i,
			  (unsigned long long)took);
		answer_fini(&a);
	}
	gw_stop(gw);
}

/* F14: a body that stalls is cut at body_idle, and the client sees that it is. */
Test(faults, stalled_body)
{
	const struct up_step *const scripts[] = {
		SCRIPT({UP_READ, NULL, 0}, UP_TEXT(OK "Content-Length: 10\r\n\r\nhello"), {UP_READ_EOF, NULL, 0})};
	struct gw_options options = {.scripts = scripts, .nscripts = 1, .timeouts = "body_idle: 300ms"};
	struct gw *gw = gw_start(&options);
	struct answer a = gw_ask(gw, GET_X);

	cr_expect_eq(a.end, ANSWER_CUT);
	cr_expect_eq(a.status, 200);
	answer_fini(&a);
	cr_expect(upstream_wait_closed(gw->up, 0));
	gw_stop(gw);
}

/* stream_idle 0s: a silent NDJSON stream is no stalled body. */
Test(faults, silent_stream_lives)
{
	const struct up_step *const scripts[] = {SCRIPT(
		{UP_READ, NULL, 0},
		UP_TEXT(OK "Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"),
		{UP_DELAY, NULL, 900}, UP_TEXT("0\r\n\r\n"), {UP_READ_EOF, NULL, 0})};
	struct gw_options options = {.scripts = scripts, .nscripts = 1, .timeouts = "body_idle: 200ms"};
	struct gw *gw = gw_start(&options);
	struct answer a = gw_ask(gw, GET_X);

	expect_status(&a, 200);
	answer_fini(&a);
	gw_stop(gw);
}

/* F21: an upstream that only closes its writing side has answered. */
Test(faults, upstream_half_close)
{
	const struct up_step *const scripts[] = {
		SCRIPT({UP_READ, NULL, 0}, UP_TEXT(UP_OK_TEXT), {UP_HALF_CLOSE, NULL, 0}, {UP_READ_EOF, NULL, 0})};
	struct gw_options options = {.scripts = scripts, .nscripts = 1};
	struct gw *gw = gw_start(&options);

	for (unsigned i = 0; i < 5; i++)
		ask_ok(gw);
	gw_stop(gw);
}

/* K5, K6: a client that dawdles in its head or body is cut, with 408, and others are served meanwhile. */
Test(faults, slow_client)
{
	static const struct {
		const char *begun;
		const char *bounds;
	} cases[] = {
		{"GET /api/v1/x HTT", "bounds: { client_head: 300ms }"},
		{"POST /api/v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nhel",
		 "bounds: { client_body_idle: 300ms }"},
	};

	for (unsigned i = 0; i < COUNT(cases); i++) {
		struct gw_options options = {.top = cases[i].bounds};
		struct gw *gw = gw_start(&options);
		struct raw r = gw_connect(gw);
		struct answer a;

		cr_assert(raw_text(&r, cases[i].begun));
		ask_ok(gw);
		a = raw_answer(&r, false, WAIT_MS);
		expect_error(&a, 408, "REQUEST_TIMEOUT");
		answer_fini(&a);
		cr_expect(raw_closes(&r, WAIT_MS));
		raw_close(&r);
		cr_expect(upstream_wait_open(gw->up, 1), "the upstream connection of the slow one stays");
		gw_stop(gw);
	}
}

/* An idle client is closed after idle_client, without an answer that it did not ask for. */
Test(faults, idle_client)
{
	struct gw_options options = {.top = "bounds: { idle_client: 300ms }"};
	struct gw *gw = gw_start(&options);
	struct raw r = gw_connect(gw);
	struct answer a;

	cr_assert(raw_text(&r, GET_X));
	a = raw_answer(&r, false, WAIT_MS);
	expect_status(&a, 200);
	answer_fini(&a);
	cr_expect(raw_closes(&r, WAIT_MS));
	cr_expect_eq(r.in.len, 0);
	raw_close(&r);
	gw_stop(gw);
}

/* C14, in small: two clients, an upstream that fails at random; every answer is its asker's own. */
Test(faults, no_mix_up)
{
	const struct up_step *const scripts[] = {
		SCRIPT({UP_ECHO, NULL, 0}, {UP_ECHO, NULL, 0}, {UP_READ, NULL, 0}, {UP_CLOSE, NULL, 0}),
		SCRIPT({UP_ECHO, NULL, 0}, {UP_READ, NULL, 0},
		       UP_TEXT("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"), {UP_CLOSE, NULL, 0}),
		SCRIPT({UP_ECHO, NULL, 0}, {UP_ECHO, NULL, 0}, {UP_ECHO, NULL, 0}, {UP_HALF_CLOSE, NULL, 0},
		       {UP_READ_EOF, NULL, 0}),
		SCRIPT({UP_ECHO, NULL, 0}, {UP_READ, NULL, 0}, {UP_RESET, NULL, 0}),
		SCRIPT({UP_ECHO, NULL, 0}, {UP_ECHO, NULL, 0}, {UP_CLOSE, NULL, 0})};
	enum {
		ROUNDS = 300,
		CLIENTS = 8
	};
	const struct up_step *many[ROUNDS * CLIENTS];
	struct gw_options options = {.scripts = many, .nscripts = COUNT(many)};
	unsigned whole = 0, failed = 0;
	struct raw r[CLIENTS];
	struct gw *gw;

	for (unsigned i = 0; i < COUNT(many); i++)
		many[i] = scripts[i % COUNT(scripts)];
	gw = gw_start(&options);
	for (unsigned c = 0; c < CLIENTS; c++)
		r[c] = gw_connect(gw);
	for (unsigned n = 0; n < ROUNDS; n++) {
		for (unsigned c = 0; c < CLIENTS; c++) {
			char request[100];

			if (r[c].ended) {
				raw_close(&r[c]);
				r[c] = gw_connect(gw);
			}
			snprintf(request, sizeof(request), "%s /api/v1/x?%u-%u HTTP/1.1\r\nHost: h\r\n%s\r\n",
				 n % 3 ? "GET" : "POST", c, n, n % 3 ? "" : "Content-Length: 0\r\n");
			cr_assert(raw_text(&r[c], request));
		}
		for (unsigned c = 0; c < CLIENTS; c++) {
			struct answer a = raw_answer(&r[c], false, WAIT_MS);
			char target[64];

			snprintf(target, sizeof(target), "\"target\":\"/api/v1/x?%u-%u\"", c, n);
			cr_assert_neq(a.end, ANSWER_LATE);
			if (a.end == ANSWER_COMPLETE && a.status == 200) {
				cr_assert(buf_contains(&a.body, target), "another request's answer");
				whole++;
			} else {
				cr_assert(a.end == ANSWER_CUT || a.status == 502, "status %u", a.status);
				failed++;
				if (a.end == ANSWER_CUT)
					r[c].ended = true;
			}
			answer_fini(&a);
		}
	}
	cr_expect_gt(whole, ROUNDS * CLIENTS / 3);
	cr_expect_gt(failed, 0);
	for (unsigned c = 0; c < CLIENTS; c++)
		raw_close(&r[c]);
	gw_stop(gw);
}
