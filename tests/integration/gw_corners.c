/* SPDX-License-Identifier: Apache-2.0 */
/* Where two rules meet: answers of ours on kept connections, old clients, random targets, odd system calls, counters. */
#include <criterion/criterion.h>
#include <criterion/logging.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/gateway.h"
#include "lib/wait.h"
#include "lib/wire.h"

TestSuite(corners, .fini = gw_fini);

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define GET_X        "GET /api/v1/x HTTP/1.1\r\nHost: h\r\n\r\n"
#define HEALTH       "GET /gateway/v1/health HTTP/1.1\r\nHost: h\r\n\r\n"
#define EVIL         "GET /api/v1/evil HTTP/1.1\r\nHost: h\r\n\r\n"

static void ask_ok(struct gw *gw)
{
	struct answer a = gw_ask(gw, GET_X);

	expect_status(&a, 200);
	answer_fini(&a);
}

/* An answer of ours to HEAD has no body, so what follows on the connection is read right. */
Test(corners, head_of_own_answers)
{
	static const struct {
		const char *target;
		unsigned status;
	} cases[] = {{"/gateway/v1/health", 200},
		     {"/gateway/v1/whoami", 200},
		     {"/gateway/v1/nothing", 404},
		     {"/api/v1/../x", 400}};
	struct gw *gw = gw_start(NULL);

	for (unsigned i = 0; i < COUNT(cases); i++) {
		struct raw r = gw_connect(gw);
		char request[200];
		struct answer a;

		snprintf(request, sizeof(request), "HEAD %s HTTP/1.1\r\nHost: h\r\n\r\n", cases[i].target);
		cr_assert(raw_text(&r, request));
		a = raw_answer(&r, true, WAIT_MS);
		cr_expect(a.status == cases[i].status || a.status == 405, "%s: %u", cases[i].target, a.status);
		answer_fini(&a);
		if (raw_text(&r, GET_X) && !r.ended) {
			a = raw_answer(&r, false, WAIT_MS);
			/* Closed behind the error is fine, a body where none may be is not. */
			cr_expect((a.end == ANSWER_COMPLETE && a.status == 200) ||
					  (a.end == ANSWER_CUT && r.in.len == 0),
				  "%s: %d %u", cases[i].target, (int)a.end, a.status);
			answer_fini(&a);
		}
		raw_close(&r);
	}
	gw_stop(gw);
}

/* A request that is refused before its body was read: the body never becomes a request. */
Test(corners, body_of_a_refused_request)
{
	static const char *const heads[] = {
		"POST /nothing HTTP/1.1\r\nHost: h\r\nContent-Length: 38\r\n\r\n",
		"POST /gateway/v1/health HTTP/1.1\r\nHost: h\r\nContent-Length: 38\r\n\r\n",
		"POST /gateway/v1/nothing HTTP/1.1\r\nHost: h\r\nContent-Length: 38\r\n\r\n",
		"POST /api/v1/../x HTTP/1.1\r\nHost: h\r\nContent-Length: 38\r\n\r\n",
		"POST /api/v1/x HTTP/1.1\r\nHost: h\r\nExpect: something\r\nContent-Length: 38\r\n\r\n",
		"GET /gateway/v1/health HTTP/1.1\r\nHost: h\r\nContent-Length: 38\r\n\r\n",
	};
	struct gw *gw = gw_start(NULL);

	cr_assert_eq(sizeof(EVIL) - 1, 38);
	for (unsigned i = 0; i < COUNT(heads); i++) {
		for (unsigned pieces = 0; pieces < 2; pieces++) {
			struct raw r = gw_connect(gw);
			struct answer a;

			if (pieces == 0) {
				char both[300];

				snprintf(both, sizeof(both), "%s%s", heads[i], EVIL);
				cr_assert(raw_text(&r, both));
				a = raw_answer(&r, false, WAIT_MS);
			} else {
				cr_assert(raw_text(&r, heads[i]));
				/* The gateway has seen the head when this is answered. */
				a = gw_ask(gw, HEALTH);
				answer_fini(&a);
				(void)raw_text(&r, EVIL);
				a = raw_answer(&r, false, WAIT_MS);
			}
			cr_expect_eq(a.end, ANSWER_COMPLETE, "head %u", i);
			answer_fini(&a);
			/* Either closed, or still usable with the body taken as a body. */
			(void)raw_text(&r, HEALTH);
			a = raw_answer(&r, false, WAIT_MS);
			if (a.end == ANSWER_COMPLETE)
				cr_expect(buf_contains(&a.body, "uptime"), "head %u: %.*s", i,
					  STR_ARG(buf_str(&a.body)));
			answer_fini(&a);
			raw_close(&r);
		}
	}
	cr_expect_eq(upstream_requests(gw->up), 0, "a body became a request");
	gw_stop(gw);
}

/* What is large or of unknown length is not read for nothing: the refusal comes at once. */
Test(corners, refused_before_the_body)
{
	static const char *const heads[] = {
		"POST /nothing HTTP/1.1\r\nHost: h\r\nContent-Length: 100000000\r\n\r\n",
		"POST /nothing HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
		"POST /nothing HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" EVIL,
		"POST /gateway/v1/status HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n26\r\n" EVIL,
	};
	struct gw *gw = gw_start(NULL);

	for (unsigned i = 0; i < COUNT(heads); i++) {
		struct raw r = gw_connect(gw);
		struct answer a;

		cr_assert(raw_text(&r, heads[i]));
		a = raw_answer(&r, false, WAIT_MS);
		cr_expect(a.end == ANSWER_COMPLETE && a.status >= 400, "head %u: %d %u", i, (int)a.end, a.status);
		cr_expect(wire_header_is(answer_head(&a), "Connection", "close"), "head %u", i);
		answer_fini(&a);
		cr_expect(raw_closes(&r, WAIT_MS), "head %u: left open", i);
		cr_expect_eq(r.in.len, 0, "head %u: a second answer: %.*s", i, STR_ARG(buf_str(&r.in)));
		raw_close(&r);
	}
	cr_expect_eq(upstream_requests(gw->up), 0);
	gw_stop(gw);
}

/* The upstream's early answer is the only one, whatever becomes of the rest of the request. */
Test(corners, one_answer_only)
{
	const struct up_step *const scripts[] = {
		SCRIPT({UP_READ_HEAD, NULL, 0}, UP_TEXT("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\n{}"),
		       {UP_READ_EOF, NULL, 0})};
	struct gw_options options = {.scripts = scripts, .nscripts = 1};
	struct gw *gw = gw_start(&options);
	struct raw r = gw_connect(gw);
	struct answer a;

	cr_assert(raw_text(&r, "POST /api/v1/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"));
	a = raw_answer(&r, false, WAIT_MS);
	expect_status(&a, 413);
	answer_fini(&a);
	(void)raw_text(&r, "zz\r\n" EVIL);
	cr_expect(raw_closes(&r, WAIT_MS));
	cr_expect_eq(r.in.len, 0, "a second answer: %.*s", STR_ARG(buf_str(&r.in)));
	raw_close(&r);
	gw_stop(gw);
}

/* Whether the gateway has counted a client as gone in the middle of a request. */
static bool counted_gone(void *arg)
{
	json_t *json = gw_get(arg, "/gateway/v1/status");
	bool gone = json_number_at(json, "clients.ends.client-gone") > 0;

	json_decref(json);
	return gone;
}

/* K1: a client that leaves while nothing is read from it is noticed all the same: its upload or its pipeline is full. */
Test(corners, gone_while_unread)
{
	const struct up_step *const scripts[] = {
		SCRIPT({UP_READ_HEAD, NULL, 0}, {UP_GATE, NULL, 0}, {UP_READ_EOF, NULL, 0})};
	struct gw_options options = {.scripts = scripts, .nscripts = 1};
	static char zeros[1 << 20];

	for (unsigned i = 0; i < 2; i++) {
		struct gw *gw = gw_start(&options);
		struct raw r = gw_connect(gw);
		uint64_t begin;

		cr_assert(raw_text(&r, i ? GET_X
					 : "POST /api/v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 100000000\r\n\r\n"));
		cr_assert(upstream_wait_bytes(gw->up, 0, 10));
		while (wait_fd(r.fd, POLLOUT, 150))
			if (!raw_push(&r, zeros, sizeof(zeros)))
				break;
		begin = wait_now_ms();
		raw_close(&r);
		cr_expect(wait_until(counted_gone, gw, WAIT_MS), "case %u", i);
		cr_expect_lt(wait_now_ms() - begin, 2000, "case %u", i);
		upstream_open_gate(gw->up, 0);
		cr_expect(upstream_wait_closed(gw->up, 0), "case %u", i);
		gw_stop(gw);
	}
}

/* A client that waits for 100 Continue and is refused gets the refusal instead, and the connection cannot be misread. */
Test(corners, refused_instead_of_continue)
{
	struct gw *gw = gw_start(NULL);
	struct raw r = gw_connect(gw);
	struct answer a;

	cr_assert(raw_text(&r,
			   "POST /nothing HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 38\r\n\r\n"));
	a = raw_answer(&r, false, WAIT_MS);
	cr_expect(a.status == 403 || a.status == 404, "status %u", a.status);
	answer_fini(&a);
	cr_expect(raw_closes(&r, WAIT_MS), "what follows may be the body or a request: nobody can tell");
	raw_close(&r);
	gw_stop(gw);
}

/* A 1.0 client cannot read chunks: it gets the bytes and the end of the connection, and sees when they are cut. */
Test(corners, chunks_for_an_old_client)
{
	const struct up_step *const scripts[] = {
		SCRIPT({UP_READ, NULL, 0},
		       UP_TEXT("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x\r\n "
			       "world\r\n0\r\nT: x\r\n\r\n"),
		       {UP_FOREVER, NULL, 0})};
	struct gw_options options = {.scripts = scripts, .nscripts = 1};
	struct gw *gw = gw_start(&options);

	for (unsigned keep = 0; keep < 2; keep++) {
		struct answer a = gw_ask(gw, "GET /api/v1/x HTTP/1.0\r\nHost: h\r\n%s\r\n",
					 keep ? "Connection: keep-alive\r\n" : "");

		expect_status(&a, 200);
		cr_expect_eq(wire_count(answer_head(&a), "Transfer-Encoding"), 0, "chunked to a 1.0 client");
		cr_expect(str_eq(buf_str(&a.wire), STR("hello world")), "%.*s", STR_ARG(buf_str(&a.wire)));
		answer_fini(&a);
	}
	gw_stop(gw);
}

/* A 1.0 client gets no interim responses. */
Test(corners, no_interim_for_an_old_client)
{
	const struct up_step *const scripts[] = {
		SCRIPT({UP_READ, NULL, 0}, UP_TEXT("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" UP_OK_TEXT),
		       {UP_FOREVER, NULL, 0})};
	struct gw_options options = {.scripts = scripts, .nscripts = 1};
	struct gw *gw = gw_start(&options);
	struct answer a = gw_ask(gw, "GET /api/v1/x HTTP/1.0\r\nHost: h\r\n\r\n");

	expect_status(&a, 200);
	answer_fini(&a);
	gw_stop(gw);
}

/* Bodies that the server must see with a length: chunked exec and spawn bodies are gathered. */
Test(corners, gathered_bodies)
{
	static const char *const targets[] = {"/api/v1/sandboxes/sb-1/exec", "/api/v1/templates", "/api/v1/sandboxes"};
	struct gw *gw = gw_start(NULL);

	for (unsigned i = 0; i < COUNT(targets); i++) {
		struct answer a = gw_ask(gw,
					 "POST %s HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: "
					 "chunked\r\n\r\n5\r\n{\"a\":\r\n6\r\n\"b c\"}\r\n0\r\n\r\n",
					 targets[i]);
		struct buf head = upstream_request_head(gw->up, i), body = upstream_request_body(gw->up, i);

		expect_status(&a, 200);
		cr_expect_eq(wire_count(buf_str(&head), "Content-Length"), 1);
		cr_expect_eq(wire_count(buf_str(&head), "Transfer-Encoding"), 0);
		if (i < 2) /* a spawn is stamped */
			cr_expect(str_eq(buf_str(&body), STR("{\"a\":\"b c\"}")));
		else
			cr_expect(buf_contains(&body, "\"a\":\"b c\"") && buf_contains(&body, "\"stacygate.owner\":"));
		buf_fini(&head);
		buf_fini(&body);
		answer_fini(&a);
	}
	gw_stop(gw);
}

/* Beyond 2 MiB a body that must be gathered is 413, and nothing of it goes up. */
Test(corners, gathered_body_bound)
{
	struct gw *gw = gw_start(NULL);
	struct raw r = gw_connect(gw);
	struct buf piece = BUF_EMPTY;
	struct answer a;

	buf_add_cstr(&piece, "10000\r\n");
	for (unsigned i = 0; i < 0x10000; i++)
		buf_add_char(&piece, 'x');
	buf_add_cstr(&piece, "\r\n");
	cr_assert(raw_text(&r, "POST /api/v1/sandboxes HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"));
	for (unsigned i = 0; i < 40; i++)
		(void)raw_send(&r, buf_data(&piece), piece.len);
	a = raw_answer(&r, false, WAIT_MS);
	expect_error(&a, 413, "TOO_LARGE");
	answer_fini(&a);
	cr_expect_eq(upstream_connections(gw->up), 0);
	buf_fini(&piece);
	raw_close(&r);
	gw_stop(gw);
}

/* U13: of random targets each is refused, or goes up with exactly the bytes that were judged. */
Test(corners, random_targets)
{
	static const char alphabet[] = "/.%2efa5cx;?\\=&-c";
	struct gw *gw = gw_start(NULL);
	struct raw r = gw_connect(gw);
	unsigned forwarded = 0, refused = 0;
	uint32_t x = 7;

	for (unsigned n = 0; n < 6000; n++) {
		char target[64] = "/api/v1/", request[200];
		size_t len = 8 + n % 14;
		struct answer a;

		for (size_t i = 8; i < len; i++) {
			x = x * 1664525 + 1013904223;
			target[i] = alphabet[(x >> 16) % (sizeof(alphabet) - 1)];
		}
		target[len] = '\0';
		snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: h\r\n\r\n", target);
		cr_assert(raw_text(&r, request));
		a = raw_answer(&r, false, WAIT_MS);
		cr_assert_eq(a.end, ANSWER_COMPLETE, "%s: %d", target, (int)a.end);
		if (a.status == 200) {
			struct buf head = upstream_request_head(gw->up, forwarded++);

			cr_assert(str_eq(wire_target(buf_str(&head)), str_from(target)), "%s went up as %.*s", target,
				  STR_ARG(wire_target(buf_str(&head))));
			buf_fini(&head);
		} else {
			cr_assert(a.status == 400 || a.status == 403, "%s: %u", target, a.status);
			refused++;
		}
		/* A refusal may close the connection. */
		if (wire_header_is(answer_head(&a), "Connection", "close")) {
			raw_close(&r);
			r = gw_connect(gw);
		}
		answer_fini(&a);
	}
	cr_expect_eq(upstream_requests(gw->up), forwarded);
	cr_expect_gt(forwarded, 500);
	cr_expect_gt(refused, 500);
	raw_close(&r);
	gw_stop(gw);
}

/* K13: a flood of pipelined requests is not swallowed: what waits stays with the client. */
Test(corners, pipeline_flood)
{
	const struct up_step *const scripts[] = {SCRIPT({UP_READ, NULL, 0}, {UP_READ_EOF, NULL, 0})};
	struct gw_options options = {.scripts = scripts, .nscripts = 1};
	struct gw *gw = gw_start(&options);
	struct raw r = gw_connect(gw);
	struct buf many = BUF_EMPTY;
	size_t taken = 0;
	long before;

	for (unsigned i = 0; i < 250000; i++)
		buf_add_cstr(&many, GET_X);
	cr_assert(raw_text(&r, GET_X));
	cr_assert(upstream_wait_requests(gw->up, 1));
	before = daemon_rss_kib(gw->daemon);
	while (wait_fd(r.fd, POLLOUT, 150)) {
		size_t n = raw_push(&r, buf_data(&many) + taken, many.len - taken);

		taken += n;
		if (!n || taken == many.len)
			break;
	}
	cr_expect_lt(taken, 2u << 20, "%zu bytes of waiting requests were taken", taken);
	cr_expect_lt(daemon_rss_kib(gw->daemon) - before, 4096);
	buf_fini(&many);
	raw_close(&r);
	cr_expect(upstream_wait_closed(gw->up, 0));
	gw_stop(gw);
}

/* Accepts connections until a request comes on one, and answers it. */
static void serve_one(int listener)
{
	bool served = false;

	while (!served) {
		char head[4096];
		int fd;

		cr_assert(wait_fd(listener, POLLIN, WAIT_MS), "no request comes");
		fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		cr_assert_geq(fd, 0);
		/* Those that only filled the queue end at once. */
		served = recv(fd, head, sizeof(head), 0) > 0;
		if (served)
			cr_assert_eq(send(fd, UP_OK_TEXT, strlen(UP_OK_TEXT), MSG_NOSIGNAL),
				     (ssize_t)strlen(UP_OK_TEXT));
		close(fd);
	}
}

/* F2: a dial that hangs ends with timeouts.connect as 504; others are served meanwhile. */
Test(corners, hanging_dial)
{
	struct sockaddr_in at = {.sin_family = AF_INET};
	socklen_t size = sizeof(at);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), filler[4];
	struct gw *gw = gw_prepare(NULL);
	char text[1024];
	struct raw r;
	struct answer a;
	uint64_t begin;

	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	cr_assert_eq(bind(listener, (struct sockaddr *)&at, sizeof(at)), 0);
	cr_assert_eq(listen(listener, 0), 0);
	cr_assert_eq(getsockname(listener, (struct sockaddr *)&at, &size), 0);
	for (unsigned i = 0; i < 4; i++) {
		filler[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		(void)connect(filler[i], (struct sockaddr *)&at, sizeof(at));
	}
	snprintf(text, sizeof(text),
		 "listen: [ { path: %s } ]\nupstreams: { main: { url: \"http://127.0.0.1:%u\", timeouts: { connect: "
		 "400ms } } }\n"
		 "credentials: { team: { api_key: { file: %s } } }\nclients: [ { name: me, match: {}, upstream: main, "
		 "credential: team, "
		 "user_id: alice, allow: [all], isolation: none } ]\n",
		 gw->socket, ntohs(at.sin_port), gw->key_file);
	scratch_text(&gw->dir, "stacygate.yaml", 0644, text);
	gw_run(gw, NULL);
	r = gw_connect(gw);
	begin = wait_now_ms();
	cr_assert(raw_text(&r, GET_X));
	a = gw_ask(gw, HEALTH);
	expect_status(&a, 200);
	answer_fini(&a);
	cr_expect_lt(wait_now_ms() - begin, 300, "others wait for the dial");
	a = raw_answer(&r, false, WAIT_MS);
	expect_error(&a, 504, "UPSTREAM_TIMEOUT");
	cr_expect(wait_now_ms() - begin >= 350 && wait_now_ms() - begin < 900, "%llu ms",
		  (unsigned long long)(wait_now_ms() - begin));
	answer_fini(&a);
	/* It takes connections again: the next request is served. */
	for (unsigned i = 0; i < 4; i++)
		close(filler[i]);
	/* A SYN that finds the queue full comes again only after a second, which is too late for the dial. */
	while (wait_fd(listener, POLLIN, 0))
		close(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
	cr_assert(raw_text(&r, GET_X));
	serve_one(listener);
	a = raw_answer(&r, false, WAIT_MS);
	expect_status(&a, 200);
	answer_fini(&a);
	raw_close(&r);
	close(listener);
	gw_stop(gw);
}

/* Reloads in the middle of traffic lose nothing. */
Test(corners, reload_in_traffic)
{
	enum {
		CLIENTS = 8,
		ROUNDS = 60
	};
	struct gw *gw = gw_start(NULL);
	struct raw r[CLIENTS];

	for (unsigned c = 0; c < CLIENTS; c++)
		r[c] = gw_connect(gw);
	for (unsigned n = 0; n < ROUNDS; n++) {
		for (unsigned c = 0; c < CLIENTS; c++)
			cr_assert(raw_text(&r[c], GET_X));
		if (n % 3 == 0)
			daemon_signal(gw->daemon, SIGHUP);
		for (unsigned c = 0; c < CLIENTS; c++) {
			struct answer a = raw_answer(&r[c], false, WAIT_MS);

			expect_status(&a, 200);
			answer_fini(&a);
		}
	}
	cr_expect_eq(upstream_requests(gw->up), CLIENTS * ROUNDS);
	for (unsigned c = 0; c < CLIENTS; c++)
		raw_close(&r[c]);
	gw_stop(gw);
}

/* The status counts what happened: connections, requests by status, the pool's use and its peak. */
Test(corners, status)
{
	struct gw_options options = {.pool = "max_connections: 7"};
	struct gw *gw = gw_start(&options);
	struct answer a;
	json_t *json;

	for (unsigned i = 0; i < 5; i++)
		ask_ok(gw);
	a = gw_ask(gw, "GET /api/v1/../x HTTP/1.1\r\nHost: h\r\n\r\n");
	expect_error(&a, 400, "BAD_REQUEST");
	answer_fini(&a);
	json = gw_get(gw, "/gateway/v1/status");
	cr_expect_geq(json_number_at(json, "clients.connections"), 1);
	cr_expect_geq(json_number_at(json, "clients.accepted"), 7);
	cr_expect_geq(json_number_at(json, "requests.total"), 6);
	cr_expect_geq(json_number_at(json, "requests.by_status.2xx"), 5);
	cr_expect_geq(json_number_at(json, "requests.by_status.4xx"), 1);
	cr_expect_eq(json_number_at(json, "requests.repeated"), 0);
	cr_expect_eq(json_number_at(json, "upstreams.0.pool.max_connections"), 7);
	cr_expect_eq(json_number_at(json, "upstreams.0.pool.idle"), 1);
	cr_expect_eq(json_number_at(json, "upstreams.0.pool.leased"), 0);
	json_decref(json);
	gw_stop(gw);
}

/* --- system calls that fail ------------------------------------------------- */

/* Starts the gateway below strace with one injection. False, loudly, without strace. */
static bool run_injected(struct gw *gw, const char *inject)
{
	char program[600];
	const char *argv[] = {"-qq", "-f", "-o", "/dev/null", "-e", inject, program, "-c", gw->config, NULL};
	const char *env[] = {"ASAN_OPTIONS=detect_leaks=0", NULL};
	struct daemon_spec spec = {.program = "/usr/bin/strace", .argv = argv, .env = env, .ready_socket = gw->socket};

	if (access("/usr/bin/strace", X_OK) != 0) {
		cr_log_info("SKIPPED, needs strace: %s", inject);
		return false;
	}
	snprintf(program, sizeof(program), "%s/stacygated", getenv("SG_BUILDDIR") ? getenv("SG_BUILDDIR") : ".");
	gw->daemon = daemon_start(&gw->dir, &spec);
	return true;
}

/* The gateway is strace's child and outlives it unless it is told. */
static void stop_injected(struct gw *gw)
{
	char path[64];
	struct buf children;
	int pid;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)gw->daemon->pid, (int)gw->daemon->pid);
	children = scratch_read(path);
	buf_add_char(&children, '\0');
	pid = (int)strtol(buf_data(&children), NULL, 10);
	buf_fini(&children);
	cr_assert_gt(pid, 0);
	cr_assert_eq(kill(pid, SIGTERM), 0);
	cr_expect_eq(daemon_wait(gw->daemon, WAIT_MS * 2), 0);
	gw_fini();
}

/* K9, K10, M7: failing accepts, interrupted and refused reads and writes: every request is served in the end. */
Test(corners, injected_faults)
{
	static const char *const injections[] = {
		"inject=accept4:error=ENFILE:when=2+3",        "inject=accept4:error=EMFILE:when=2+3",
		"inject=accept4:error=ENOMEM:when=2+3",        "inject=accept4:error=ECONNABORTED:when=1+2",
		"inject=accept4:error=EPROTO:when=1+2",        "inject=accept4:error=EINTR:when=1+2",
		"inject=accept4:error=EAGAIN:when=1+2",        "inject=recvfrom:error=EINTR:when=1+3",
		"inject=recvfrom:error=EAGAIN:when=2+3",       "inject=sendto,sendmsg:error=EINTR:when=1+2",
		"inject=sendto,sendmsg:error=EAGAIN:when=3+3", "inject=epoll_wait:error=EINTR:when=1+2",
	};

	for (unsigned i = 0; i < COUNT(injections); i++) {
		struct gw *gw = gw_prepare(NULL);

		if (!run_injected(gw, injections[i]))
			return;
		for (unsigned n = 0; n < 12; n++) {
			struct answer a = gw_ask(
				gw, "POST /api/v1/x?%u HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello", n);

			cr_expect_eq(a.end, ANSWER_COMPLETE, "%s: request %u: %d", injections[i], n, (int)a.end);
			cr_expect_eq(a.status, 200, "%s: request %u: status %u", injections[i], n, a.status);
			answer_fini(&a);
		}
		cr_expect_eq(upstream_requests(gw->up), 12, "%s", injections[i]);
		stop_injected(gw);
	}
}

/* M5: when the kernel does not say who a peer is he is nobody: closed or 403, never a default identity. */
Test(corners, unknown_peer)
{
	struct gw_options options = {.clients = "[ { name: all, match: {}, upstream: main, credential: team, user_id: "
						"alice, allow: [all], isolation: none } ]"};
	struct gw *gw = gw_prepare(&options);
	struct answer a;

	if (!run_injected(gw, "inject=getsockopt:error=ENOBUFS:when=3+1"))
		return;
	a = gw_ask(gw, GET_X);
	cr_expect(a.end == ANSWER_CUT || a.status == 403, "%d, status %u", (int)a.end, a.status);
	answer_fini(&a);
	cr_expect_eq(upstream_connections(gw->up), 0);
	stop_injected(gw);
}

/* K9: without descriptors the listener pauses; those that are connected are served, and so is the next once there are some. */
Test(corners, no_descriptors)
{
	enum {
		CLIENTS = 120
	};
	struct gw *gw = gw_prepare(NULL);
	struct raw kept, r[CLIENTS];
	struct answer a;

	daemon_limit_descriptors(64);
	gw_run(gw, NULL);
	daemon_limit_descriptors(0);
	kept = gw_connect(gw);
	cr_assert(raw_text(&kept, HEALTH));
	a = raw_answer(&kept, false, WAIT_MS);
	expect_status(&a, 200);
	answer_fini(&a);
	for (unsigned i = 0; i < CLIENTS; i++)
		r[i] = gw_connect(gw);
	cr_expect(daemon_wait_log(gw->daemon, "accept"), "the shortage is not logged");
	cr_assert(raw_text(&kept, HEALTH));
	a = raw_answer(&kept, false, WAIT_MS);
	expect_status(&a, 200);
	answer_fini(&a);
	for (unsigned i = 0; i < CLIENTS; i++)
		raw_close(&r[i]);
	ask_ok(gw);
	cr_expect_lt(daemon_count_log(gw->daemon, "accept:"), 50, "it spins");
	raw_close(&kept);
	gw_stop(gw);
}
