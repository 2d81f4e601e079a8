/* SPDX-License-Identifier: Apache-2.0 */
/* P23, F18, F33: WebSocket requests that the upstream agrees to become tunnels; nothing else does. */
#include <criterion/criterion.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "integration/dp_lib.h"

TestSuite(dp_tunnel, .fini = gw_fini);

#define WS_HEADERS                                                                                                     \
	"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"                 \
	"Sec-WebSocket-Version: 13\r\n"
#define WS_TARGET "/api/v1/sandboxes/sb-1/exec/ws"
#define WS_GET    "GET " WS_TARGET " HTTP/1.1\r\nHost: h\r\n" WS_HEADERS "\r\n"
#define SWITCH                                                                                                         \
	"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"                            \
	"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"

/* A tunnel and both its ends. */
struct tunnel {
	struct raw client;
	struct raw server;
};

static struct answer take_switch(struct raw *r)
{
	struct answer a = raw_answer(r, true, WAIT_MS);

	cr_assert_eq(a.status, 101, "status %u", a.status);
	return a;
}

static struct tunnel tunnel_open(struct gw *gw, int listener)
{
	struct tunnel t = {.client = gw_connect(gw)};
	struct buf head;
	struct answer a;

	cr_assert(raw_text(&t.client, WS_GET));
	t.server = dp_accept(listener, &head);
	buf_fini(&head);
	cr_assert(raw_text(&t.server, SWITCH));
	a = take_switch(&t.client);
	answer_fini(&a);
	return t;
}

static void tunnel_close(struct tunnel *t)
{
	raw_close(&t->client);
	raw_close(&t->server);
}

static void expect_text(struct raw *r, const char *want)
{
	cr_expect(raw_read(r, strlen(want), WAIT_MS), "only %zu bytes of '%s'", r->in.len, want);
	cr_expect(str_eq(buf_str(&r->in), str_from(want)), "'%.*s' instead of '%s'", STR_ARG(buf_str(&r->in)), want);
	buf_reset(&r->in);
}

/* F33: the handshake passes both ways, and only it: what it says is the client's and the server's business. */
Test(dp_tunnel, F33_handshake)
{
	int listener;
	struct gw *gw = dp_by_hand(NULL, &listener);
	struct raw r = gw_connect(gw), up;
	struct answer a;
	struct buf head;
	struct str h;

	cr_assert(raw_text(&r, "GET " WS_TARGET "?a=b HTTP/1.1\r\nHost: h\r\n" WS_HEADERS
			       "Sec-WebSocket-Protocol: one, two\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"
			       "Origin: http://o\r\nX-API-Key: mine\r\nX-User-ID: root\r\n\r\n"));
	up = dp_accept(listener, &head);
	h = buf_str(&head);
	cr_expect(str_eq(wire_first_line(h), STR("GET " WS_TARGET "?a=b HTTP/1.1")));
	cr_expect(wire_header_is(h, "Upgrade", "websocket"));
	cr_expect(wire_header_is(h, "Connection", "Upgrade"));
	cr_expect(wire_header_is(h, "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="));
	cr_expect(wire_header_is(h, "Sec-WebSocket-Version", "13"));
	cr_expect(wire_header_is(h, "Sec-WebSocket-Protocol", "one, two"));
	cr_expect(wire_header_is(h, "Sec-WebSocket-Extensions", "permessage-deflate"));
	cr_expect(wire_header_is(h, "X-User-ID", GW_USER_ID));
	cr_expect(wire_header_is(h, "X-API-Key", GW_KEY));
	for (const char *const *name = (const char *const[]){"Upgrade", "Connection", "Sec-WebSocket-Key", "X-API-Key",
							     "X-User-ID", "Host", NULL};
	     *name; name++)
		cr_expect_eq(wire_count(h, *name), 1, "%s: %u times", *name, wire_count(h, *name));
	buf_fini(&head);
	cr_expect(raw_silent(&r, 30), "an answer before the upstream's");
	cr_assert(raw_text(
		&up, "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\nconnection: keep-alive, upgrade\r\n"
		     "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: two\r\n"
		     "Stacygate-Error: FAKE\r\nKeep-Alive: timeout=5\r\n\r\n"));
	a = take_switch(&r);
	h = answer_head(&a);
	cr_expect(str_eq(wire_first_line(h), STR("HTTP/1.1 101 Switching Protocols")));
	cr_expect(wire_header_is(h, "Upgrade", "websocket"));
	cr_expect(wire_header_is(h, "Connection", "Upgrade"));
	cr_expect_eq(wire_count(h, "Connection"), 1, "%.*s", STR_ARG(h));
	cr_expect_eq(wire_count(h, "Upgrade"), 1);
	cr_expect(wire_header_is(h, "Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
	cr_expect(wire_header_is(h, "Sec-WebSocket-Protocol", "two"));
	cr_expect_eq(wire_count(h, "X-Request-ID"), 1);
	cr_expect_eq(wire_count(h, "Stacygate-Error") + wire_count(h, "Keep-Alive"), 0, "%.*s", STR_ARG(h));
	cr_expect_eq(wire_count(h, "Content-Length") + wire_count(h, "Transfer-Encoding"), 0, "%.*s", STR_ARG(h));
	answer_fini(&a);
	cr_assert(raw_text(&r, "up"));
	expect_text(&up, "up");
	cr_assert(raw_text(&up, "down"));
	expect_text(&r, "down");
	raw_close(&r);
	raw_close(&up);
	close(listener);
	gw_stop(gw);
}

/* F33: bytes right behind the 101, and those that the client sent without waiting for it. */
Test(dp_tunnel, F33_early_bytes)
{
	int listener;
	struct gw *gw = dp_by_hand(NULL, &listener);

	for (unsigned bytewise = 0; bytewise < 2; bytewise++) {
		struct raw r = gw_connect(gw), up;
		const char *answer = SWITCH "behind";
		struct buf head;
		struct answer a;

		cr_assert(raw_text(&r, WS_GET "early "));
		up = dp_accept(listener, &head);
		buf_fini(&head);
		cr_assert(raw_text(&r, "bytes"));
		cr_expect(raw_silent(&up, 50), "bytes of a tunnel that nobody agreed to: %.*s",
			  STR_ARG(buf_str(&up.in)));
		if (bytewise)
			cr_assert(raw_bytewise(&up, answer, strlen(answer)));
		else
			cr_assert(raw_text(&up, answer));
		a = take_switch(&r);
		answer_fini(&a);
		expect_text(&r, "behind");
		expect_text(&up, "early bytes");
		cr_assert(raw_text(&r, "more"));
		expect_text(&up, "more");
		raw_close(&r);
		raw_close(&up);
	}
	close(listener);
	gw_stop(gw);
}

/* F33: 12 MiB both ways at once, 64 in full, in pieces of all sizes. */
Test(dp_tunnel, F33_fragments)
{
	int listener;
	struct gw *gw = dp_by_hand(NULL, &listener);
	struct tunnel t = tunnel_open(gw, listener);

	dp_exchange_bytes(&t.client, (size_t)dp_rounds(12, 64) << 20, &t.server, (size_t)dp_rounds(12, 64) << 20);
	dp_exchange_bytes(&t.client, 4 << 20, &t.server, 1000);
	dp_exchange_bytes(&t.client, 1000, &t.server, 4 << 20);
	tunnel_close(&t);
	close(listener);
	gw_stop(gw);
}

/* Pushes until nothing is taken any more for a moment; how much was. */
static size_t fill(struct raw *r, bool from_client, size_t most)
{
	static char piece[65536];
	size_t sent = 0;

	while (sent < most && wait_fd(r->fd, POLLOUT, 200)) {
		size_t n = most - sent < sizeof(piece) ? most - sent : sizeof(piece);

		dp_pattern(from_client, sent, piece, n);
		n = raw_push(r, piece, n);
		if (n == 0)
			break;
		sent += n;
	}
	return sent;
}

/* Reads n bytes of the pattern. */
static void drain(struct raw *r, bool from_client, size_t n)
{
	char *want = malloc(n);

	cr_assert_not_null(want);
	dp_pattern(from_client, 0, want, n);
	cr_assert(raw_read(r, n, WAIT_MS * 2), "%zu of %zu bytes came", r->in.len, n);
	cr_assert_eq(r->in.len, n);
	cr_assert_eq(memcmp(buf_data(&r->in), want, n), 0, "other bytes");
	buf_reset(&r->in);
	free(want);
}

/* F33, K4: an end that does not read stops the other's sending, each way; when it reads, every byte is there. */
Test(dp_tunnel, F33_back_pressure)
{
	enum {
		MANY = 64 << 20,
		BOUND = 4 << 20
	};
	int listener;
	struct gw *gw = dp_by_hand(NULL, &listener);
	struct tunnel t = tunnel_open(gw, listener);
	size_t up, down;

	for (unsigned round = 0; round < 2; round++) {
		up = fill(&t.client, true, MANY);
		cr_expect_lt(up, BOUND, "%zu bytes are buffered on the way up", up);
		cr_expect_gt(up, 131072);
		down = fill(&t.server, false, MANY);
		cr_expect_lt(down, BOUND, "%zu bytes are buffered on the way down", down);
		cr_expect_gt(down, 131072);
		drain(&t.client, false, down);
		drain(&t.server, true, up);
	}
	dp_exchange_bytes(&t.client, 1 << 20, &t.server, 1 << 20);
	tunnel_close(&t);
	close(listener);
	gw_stop(gw);
}

/* F33: a client that only has finished sending: its last bytes arrive, then the end; the other way goes on. */
Test(dp_tunnel, F33_half_close)
{
	int listener;
	struct gw *gw = dp_by_hand(NULL, &listener);
	struct tunnel t = tunnel_open(gw, listener);
	size_t up = fill(&t.client, true, 2 << 20);

	raw_half_close(&t.client);
	cr_expect(raw_silent(&t.client, 100), "closed although the server has not finished");
	drain(&t.server, true, up);
	cr_expect(raw_closes(&t.server, WAIT_MS), "the end does not arrive");
	cr_expect_not(t.server.reset);
	cr_assert(raw_text(&t.server, "last words"));
	expect_text(&t.client, "last words");
	raw_close(&t.server);
	cr_expect(raw_closes(&t.client, WAIT_MS));
	tunnel_close(&t);
	cr_expect(dp_wait_status(gw, "upstreams.0.pool.connections", 0));
	close(listener);
	gw_stop(gw);
}

/* The same when the client had finished before the upstream agreed. */
Test(dp_tunnel, F33_half_close_early)
{
	int listener;
	struct gw *gw = dp_by_hand(NULL, &listener);
	struct raw r = gw_connect(gw), up;
	struct buf head;
	struct answer a;

	cr_assert(raw_text(&r, WS_GET "all of it"));
	raw_half_close(&r);
	up = dp_accept(listener, &head);
	buf_fini(&head);
	cr_assert(raw_text(&up, SWITCH));
	a = take_switch(&r);
	answer_fini(&a);
	expect_text(&up, "all of it");
	cr_expect(raw_closes(&up, WAIT_MS), "the end does not arrive");
	cr_assert(raw_text(&up, "answer"));
	raw_close(&up);
	expect_text(&r, "answer");
	cr_expect(raw_closes(&r, WAIT_MS));
	raw_close(&r);
	close(listener);
	gw_stop(gw);
}

/* F33: the upstream closes while the client does not read: all that it sent arrives, then the end. */
Test(dp_tunnel, F33_upstream_closes)
{
	int listener;
	struct gw *gw = dp_by_hand(NULL, &listener);
	struct tunnel t = tunnel_open(gw, listener);
	size_t down = fill(&t.server, false, 2 << 20);

	raw_close(&t.server);
	drain(&t.client, false, down);
	cr_expect(raw_closes(&t.client, WAIT_MS));
	cr_expect_not(t.client.reset);
	tunnel_close(&t);
	close(listener);
	gw_stop(gw);
}

/* F33: an upstream that only has finished sending: all of it arrives, then the end; the other way goes on to its own end. */
Test(dp_tunnel, F33_upstream_half_close)
{
	int listener;
	struct gw *gw = dp_by_hand(NULL, &listener);
	struct tunnel t = tunnel_open(gw, listener);
	size_t down = fill(&t.server, false, 2 << 20), up;

	raw_half_close(&t.server);
	cr_expect(raw_silent(&t.server, 100), "closed although the client has not finished");
	drain(&t.client, false, down);
	cr_expect(raw_closes(&t.client, WAIT_MS), "the end does not arrive");
	cr_expect_not(t.client.reset);
	up = fill(&t.client, true, 4 << 20);
	drain(&t.server, true, up);
	cr_assert(raw_text(&t.client, "last words"));
	expect_text(&t.server, "last words");
	raw_half_close(&t.client);
	cr_expect(raw_closes(&t.server, WAIT_MS), "the client's end does not arrive");
	cr_expect_not(t.server.reset);
	cr_expect(daemon_wait_log(gw->daemon, "status=101 upstream_status=101"));
	cr_expect_eq(daemon_count_log(gw->daemon, "client-gone"), 0, "an end like any other");
	cr_expect(dp_wait_status(gw, "upstreams.0.pool.connections", 0));
	tunnel_close(&t);
	close(listener);
	gw_stop(gw);
}

/* F33: a client that is told the end may send its rest and close, read or not: the rest arrives. */
Test(dp_tunnel, F33_close_behind_the_end)
{
	int listener;
	struct gw *gw = dp_by_hand(NULL, &listener);
	struct tunnel t = tunnel_open(gw, listener);
	size_t up;

	raw_half_close(&t.server);
	cr_expect(raw_closes(&t.client, WAIT_MS));
	up = fill(&t.client, true, 4 << 20);
	cr_expect_lt(up, 4u << 20);
	raw_close(&t.client);
	/* Longer than the gateway waits before it asks whether a client whom it does not read is there. */
	for (uint64_t begin = wait_now_ms(); wait_now_ms() - begin < 700;)
		cr_assert_eq(dp_status(gw, "upstreams.0.pool.leased"), 1, "given up with bytes to pass on");
	drain(&t.server, true, up);
	cr_expect(raw_closes(&t.server, WAIT_MS));
	cr_expect_not(t.server.reset);
	cr_expect(dp_wait_status(gw, "upstreams.0.pool.connections", 0));
	cr_expect(daemon_wait_log(gw->daemon, "status=101 upstream_status=101"));
	cr_expect_eq(daemon_count_log(gw->daemon, "client-gone"), 0, "an end like any other");
	tunnel_close(&t);
	close(listener);
	gw_stop(gw);
}

/* F33: what is open to the client only is bounded like a body; its bytes keep it, its silence ends it. */
Test(dp_tunnel, F33_half_closed_idle)
{
	struct gw_options options = {.timeouts = "body_idle: 600ms"};
	int listener;
	struct gw *gw = dp_by_hand(&options, &listener);
	struct tunnel t = tunnel_open(gw, listener);
	uint64_t begin = wait_now_ms();

	raw_half_close(&t.server);
	cr_expect(raw_closes(&t.client, WAIT_MS));
	while (wait_now_ms() - begin < 1500) {
		cr_assert(raw_text(&t.client, "."), "closed in spite of traffic");
		expect_text(&t.server, ".");
		cr_assert(raw_silent(&t.server, 50), "closed in spite of traffic");
	}
	begin = wait_now_ms();
	cr_expect(raw_closes(&t.server, WAIT_MS), "left open for ever");
	cr_expect(wait_now_ms() - begin >= 400 && wait_now_ms() - begin < 3000);
	cr_expect(dp_wait_status(gw, "upstreams.0.pool.connections", 0));
	tunnel_close(&t);
	close(listener);
	gw_stop(gw);
}

/* F33: the same over TCP, where an upstream that has closed altogether is known by what it says to further bytes. */
Test(dp_tunnel, F33_upstream_ends_over_tcp)
{
	const struct up_step *const scripts[] = {
		SCRIPT({UP_READ_HEAD, NULL, 0}, UP_TEXT(SWITCH "bye"), {UP_HALF_CLOSE, NULL, 0},
		       {UP_READ_EOF, NULL, 0}),
		SCRIPT({UP_READ_HEAD, NULL, 0}, UP_TEXT(SWITCH "bye"), {UP_CLOSE, NULL, 0})};
	struct gw_options options = {.scripts = scripts, .nscripts = 2, .tcp = true};
	struct gw *gw = gw_start(&options);

	for (unsigned gone = 0; gone < 2; gone++) {
		struct raw r = gw_connect(gw);
		struct answer a;
		struct buf seen;

		cr_assert(raw_text(&r, WS_GET));
		a = take_switch(&r);
		answer_fini(&a);
		expect_text(&r, "bye");
		cr_expect(raw_closes(&r, WAIT_MS));
		if (gone) {
			uint64_t begin = wait_now_ms();

			/* The first bytes are answered by a reset, which the next ones find. */
			while (wait_now_ms() - begin < WAIT_MS && dp_status(gw, "upstreams.0.pool.connections"))
				(void)raw_text(&r, ".");
			cr_expect_eq(dp_status(gw, "upstreams.0.pool.connections"), 0);
		} else {
			cr_assert(raw_text(&r, "up they go"));
			raw_half_close(&r);
			cr_expect(upstream_wait_closed(gw->up, 0));
			seen = upstream_received(gw->up, 0);
			cr_expect(buf_contains(&seen, "\r\n\r\nup they go"));
			buf_fini(&seen);
		}
		raw_close(&r);
	}
	gw_stop(gw);
}

/* F33: either end is killed, quiet or in full flow, read or unread: the other one sees the end soon, nothing is lost by us. */
Test(dp_tunnel, F33_kill_each_side)
{
	enum {
		ROUNDS = 40
	};
	int listener, before;
	struct gw *gw = dp_by_hand(NULL, &listener);
	struct tunnel t = tunnel_open(gw, listener);

	tunnel_close(&t);
	cr_assert(dp_wait_status(gw, "upstreams.0.pool.connections", 0));
	before = daemon_fds(gw->daemon);
	for (unsigned i = 0; i < ROUNDS; i++) {
		struct raw *killed, *left;
		uint64_t begin;

		t = tunnel_open(gw, listener);
		killed = i & 1 ? &t.client : &t.server;
		left = i & 1 ? &t.server : &t.client;
		if (i & 2)
			fill(killed, i & 1, 1 + i * 10000);
		if (i & 4)
			fill(left, !(i & 1), 1 + i * 10000);
		begin = wait_now_ms();
		if (i & 8)
			raw_reset(killed);
		else
			raw_close(killed);
		cr_expect(raw_closes(left, WAIT_MS), "round %u: the other end is left open", i);
		cr_expect_lt(wait_now_ms() - begin, 2000, "round %u", i);
		tunnel_close(&t);
	}
	cr_expect(dp_wait_status(gw, "upstreams.0.pool.connections", 0));
	cr_expect(dp_wait_status(gw, "clients.connections", 1));
	if (before > 0)
		cr_expect(dp_wait_fds(gw, before), "%d descriptors, %d before", daemon_fds(gw->daemon), before);
	close(listener);
	gw_stop(gw);
}

/* stream_idle bounds a silent tunnel; bytes of either end keep it. */
Test(dp_tunnel, stream_idle)
{
	struct gw_options options = {.timeouts = "stream_idle: 600ms"};
	int listener;
	struct gw *gw = dp_by_hand(&options, &listener);
	struct tunnel t = tunnel_open(gw, listener);
	uint64_t begin = wait_now_ms();

	cr_expect(raw_closes(&t.client, WAIT_MS), "a silent tunnel stays");
	cr_expect(wait_now_ms() - begin >= 500 && wait_now_ms() - begin < 3000);
	cr_expect(raw_closes(&t.server, WAIT_MS));
	tunnel_close(&t);
	t = tunnel_open(gw, listener);
	begin = wait_now_ms();
	for (unsigned i = 0; wait_now_ms() - begin < 1500; i++) {
		struct raw *from = i / 8 % 2 ? &t.client : &t.server, *to = i / 8 % 2 ? &t.server : &t.client;

		cr_assert(raw_text(from, "."), "closed in spite of traffic");
		expect_text(to, ".");
		cr_assert(raw_silent(to, 50), "closed in spite of traffic");
	}
	tunnel_close(&t);
	close(listener);
	gw_stop(gw);
}

/* Without stream_idle nothing but an end ends it: neither the idle client's bound nor the body's. */
Test(dp_tunnel, silent_tunnel_lives)
{
	struct gw_options options = {
		.timeouts = "response: 200ms, body_idle: 200ms",
		.top = "bounds: { idle_client: 200ms, client_body_idle: 200ms, client_head: 200ms }"};
	int listener;
	struct gw *gw = dp_by_hand(&options, &listener);
	struct tunnel t = tunnel_open(gw, listener);

	cr_expect(raw_silent(&t.client, 700));
	cr_assert(raw_text(&t.client, "still there?"));
	expect_text(&t.server, "still there?");
	cr_assert(raw_text(&t.server, "yes"));
	expect_text(&t.client, "yes");
	tunnel_close(&t);
	close(listener);
	gw_stop(gw);
}

/* K7: a client that does not read from a tunnel is given up in time, although its server would send for ever. */
Test(dp_tunnel, K7_client_does_not_read)
{
	struct gw_options options = {.top = "bounds: { client_body_idle: 400ms }"};
	int listener;
	struct gw *gw = dp_by_hand(&options, &listener);
	struct tunnel t = tunnel_open(gw, listener);

	cr_expect_lt(fill(&t.server, false, 64 << 20), 4u << 20);
	cr_expect(raw_closes(&t.server, WAIT_MS), "its server is held for ever");
	cr_expect(dp_wait_status(gw, "clients.ends.not-reading", 1));
	tunnel_close(&t);
	close(listener);
	gw_stop(gw);
}

/* F33: an upstream that declines has answered a request like any other, on connections that are kept. */
Test(dp_tunnel, F33_declined)
{
	const struct up_step *const scripts[] = {
		SCRIPT({UP_READ, NULL, 0}, UP_TEXT("HTTP/1.1 501 Not Implemented\r\nContent-Length: 2\r\n\r\n{}"),
		       {UP_READ, NULL, 0},
		       UP_TEXT("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"),
		       {UP_READ, NULL, 0},
		       UP_TEXT("HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: "
			       "Upgrade\r\nContent-Length: 2\r\n\r\n{}"),
		       {UP_FOREVER, NULL, 0})};
	static const unsigned statuses[] = {501, 200, 426};
	struct gw_options options = {.scripts = scripts, .nscripts = 1};
	struct gw *gw = gw_start(&options);
	struct raw r = gw_connect(gw);

	for (unsigned i = 0; i < 6; i++) {
		struct answer a;

		cr_assert(raw_text(&r, WS_GET));
		a = raw_answer(&r, false, WAIT_MS);
		expect_status(&a, statuses[i % 3]);
		cr_expect(str_eq(buf_str(&a.body), STR("{}")));
		cr_expect_eq(wire_count(answer_head(&a), "Stacygate-Error"), 0);
		answer_fini(&a);
	}
	cr_expect_eq(upstream_connections(gw->up), 1);
	raw_close(&r);
	gw_stop(gw);
}

/* P23: what was pipelined behind a handshake that is declined is a request, judged as one. */
Test(dp_tunnel, P23_pipelined_behind_declined)
{
	const struct up_step *const scripts[] = {
		SCRIPT({UP_READ, NULL, 0}, UP_TEXT(UP_OK_TEXT), {UP_FOREVER, NULL, 0})};
	struct gw_options options = {.scripts = scripts, .nscripts = 1};
	struct gw *gw = gw_start(&options);
	struct raw r = gw_connect(gw);
	struct answer a;
	struct buf all;

	cr_assert(raw_text(&r, WS_GET GET_X "GET /worker/evil HTTP/1.1\r\nHost: h\r\nX-API-Key: x\r\n\r\n"));
	for (unsigned i = 0; i < 3; i++) {
		a = raw_answer(&r, false, WAIT_MS);
		expect_status(&a, i < 2 ? 200 : 403);
		answer_fini(&a);
	}
	cr_expect_eq(upstream_requests(gw->up), 2);
	all = upstream_everything(gw->up);
	cr_expect(!buf_contains(&all, "evil"));
	buf_fini(&all);
	raw_close(&r);
	gw_stop(gw);
}

/* P23: no request but a plain WebSocket one carries an upgrade upstream; each is answered as what it is without. */
Test(dp_tunnel, P23_stripped)
{
	static const char *const requests[] = {
		"GET /api/v1/x HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\nConnection: Upgrade, "
		"HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
		"GET /api/v1/x HTTP/1.1\r\nHost: h\r\nUpgrade: TLS/1.0\r\nConnection: Upgrade\r\n\r\n",
		"GET /api/v1/x HTTP/1.1\r\nHost: h\r\nUpgrade: websocket, h2c\r\nConnection: "
		"Upgrade\r\nSec-WebSocket-Key: x\r\n\r\n",
		"GET /api/v1/x HTTP/1.1\r\nHost: h\r\nUpgrade: h2c, websocket\r\nConnection: Upgrade\r\n\r\n",
		"GET /api/v1/x HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nUpgrade: h2c\r\nConnection: "
		"Upgrade\r\n\r\n",
		"GET /api/v1/x HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\nUpgrade: websocket\r\nConnection: "
		"Upgrade\r\n\r\n",
		"GET /api/v1/x HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\r\n",
		"GET /api/v1/x HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: keep-alive\r\n\r\n",
		"GET /api/v1/x HTTP/1.0\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
		"HEAD /api/v1/x HTTP/1.1\r\nHost: h\r\n" WS_HEADERS "\r\n",
		"POST /api/v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n" WS_HEADERS "\r\n",
		"POST /api/v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n" WS_HEADERS "\r\nhello",
		"GET /api/v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n" WS_HEADERS "\r\nhello",
		"GET /api/v1/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n" WS_HEADERS
		"\r\n5\r\nhello\r\n0\r\n\r\n",
	};
	struct gw *gw = gw_start(NULL);

	for (unsigned i = 0; i < COUNT(requests); i++) {
		struct answer a = gw_ask(gw, "%s", requests[i]);
		struct buf head = upstream_request_head(gw->up, i);
		struct str h = buf_str(&head);

		expect_status(&a, 200);
		cr_expect_eq(wire_count(h, "Upgrade"), 0, "request %u: %.*s", i, STR_ARG(h));
		cr_expect_eq(wire_count(h, "Connection"), 0, "request %u: %.*s", i, STR_ARG(h));
		cr_expect_eq(wire_count(h, "HTTP2-Settings"), 0, "request %u: %.*s", i, STR_ARG(h));
		answer_fini(&a);
		buf_fini(&head);
	}
	gw_stop(gw);
}

/* F18, P23: a 101 that was not asked for, or that agrees to something else, is no answer and opens nothing. */
Test(dp_tunnel, F18_unasked)
{
	static const struct {
		const char *request;
		const char *answer;
	} cases[] = {
		{GET_X "GET /api/v1/evil HTTP/1.1\r\nHost: h\r\n\r\n", SWITCH},
		{POST_X, SWITCH},
		{"GET /api/v1/x HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
		 "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"},
		{"POST /api/v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n" WS_HEADERS "\r\nhello", SWITCH},
		{"GET /api/v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n" WS_HEADERS "\r\nhello", SWITCH},
		{WS_GET, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"},
		{WS_GET, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n"},
		{WS_GET, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"},
		{WS_GET,
		 "HTTP/1.1 100 Continue\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nHTTP/1.1 101 X\r\n\r\n"},
	};

	for (unsigned i = 0; i < COUNT(cases); i++) {
		const struct up_step bad[] = {
			{UP_READ, NULL, 0}, {UP_SEND, cases[i].answer, 0}, {UP_READ_EOF, NULL, 0}, {UP_END, NULL, 0}};
		const struct up_step *const scripts[] = {bad, SCRIPT({UP_ECHO, NULL, 0}, {UP_FOREVER, NULL, 0})};
		struct gw_options options = {.scripts = scripts, .nscripts = 2};
		struct gw *gw = gw_start(&options);
		struct answer a = gw_ask(gw, "%s", cases[i].request);
		struct buf seen;

		expect_error(&a, 502, "CONNECTION_ERROR");
		answer_fini(&a);
		cr_expect(upstream_wait_closed(gw->up, 0), "case %u: the connection stays", i);
		seen = upstream_received(gw->up, 0);
		cr_expect(!buf_contains(&seen, "evil"), "case %u: bytes of another request on it", i);
		buf_fini(&seen);
		dp_ask_ok(gw);
		gw_stop(gw);
	}
}

/* A drain leaves a tunnel its time, then ends it at drain_timeout. */
Test(dp_tunnel, drain)
{
	struct gw_options options = {.top = "drain_timeout: 500ms"};
	int listener;
	struct gw *gw = dp_by_hand(&options, &listener);
	struct tunnel t = tunnel_open(gw, listener);

	daemon_signal(gw->daemon, SIGTERM);
	cr_assert(raw_text(&t.client, "more"));
	expect_text(&t.server, "more");
	cr_expect(raw_closes(&t.client, WAIT_MS));
	cr_expect(raw_closes(&t.server, WAIT_MS));
	cr_expect_eq(daemon_wait(gw->daemon, WAIT_MS), 0);
	tunnel_close(&t);
	close(listener);
	gw_fini();
}

/* A tunnel counts for its identity while it lasts, and its place is free right after. */
Test(dp_tunnel, holds_its_place)
{
	struct gw_options options = {.pool = "max_connections: 2, max_per_identity: 1"};
	int listener;
	struct gw *gw = dp_by_hand(&options, &listener);
	struct tunnel t = tunnel_open(gw, listener);
	struct raw r = gw_connect(gw), up;
	struct buf head;
	struct answer a;

	cr_assert(raw_text(&r, GET_X));
	cr_expect_eq(wait_fd(listener, POLLIN, 100), 0, "a second connection for one that may hold one");
	cr_expect_eq(dp_status(gw, "upstreams.0.pool.waiting"), 1);
	tunnel_close(&t);
	up = dp_accept(listener, &head);
	buf_fini(&head);
	cr_assert(raw_text(&up, UP_OK_TEXT));
	a = raw_answer(&r, false, WAIT_MS);
	expect_status(&a, 200);
	answer_fini(&a);
	raw_close(&r);
	raw_close(&up);
	close(listener);
	gw_stop(gw);
}
