/* SPDX-License-Identifier: Apache-2.0 */
/* One end of a socket pair is a gateway's client, the other is here; time is injected, so nothing expires by itself. */
#include <criterion/criterion.h>
#include <errno.h>
#include <event2/event.h>
#include <malloc.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/http_parse.h"
#include "common/log.h"
#include "gateway/client.h"
#include "lib/scratch.h"
#include "lib/wait.h"

enum {
	SPAN_MS = 10,
	BODY_MAX = 400000
};

#define HOST " HTTP/1.1\r\nHost: h\r\n"
#define OK   "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

/* Who answers: writes down what it is told, and does what the test asks for. */
struct server {
	struct client *client; /* NULL once closed */
	int fd;                /* the test's end; -1 once closed */
	struct buf seen;       /* one word per event */
	struct buf got;        /* what the client's program received */
	struct buf body;       /* request bodies */
	bool answer_at_once;   /* at the end of each request */
	bool answer_early;     /* from within on_request */
	bool pause_in_body;
	bool hold; /* may_begin says no */
	unsigned drained;
};

static struct loop *loop;
static struct client_shared shared;
static uint64_t now_ms;
static struct server server;

static uint64_t injected_ns(void)
{
	return now_ms * 1000000u;
}

static void answer(struct server *s, bool keep)
{
	client_send(s->client, STR(OK), str_of(NULL, 0));
	client_finish(s->client, keep);
}

static bool may_begin(void *arg)
{
	struct server *s = arg;

	return !s->hold;
}

static void on_request(void *arg, const struct http_head *head)
{
	struct server *s = arg;

	buf_addf(&s->seen, "%.*s ", STR_ARG(head->target));
	if (s->answer_early)
		answer(s, client_may_keep_alive(s->client));
}

static void on_body(void *arg, const char *p, size_t n)
{
	struct server *s = arg;

	buf_add(&s->body, p, n);
	if (s->pause_in_body)
		client_pause_body(s->client, true);
}

static void on_body_end(void *arg)
{
	struct server *s = arg;

	buf_add_cstr(&s->seen, "end ");
	if (s->answer_at_once)
		answer(s, client_may_keep_alive(s->client));
}

static void on_fault(void *arg, unsigned status, const char *why)
{
	struct server *s = arg;

	cr_expect_not_null(why);
	cr_expect_not(client_may_keep_alive(s->client));
	buf_addf(&s->seen, "%u ", status);
	client_send(s->client, STR("HTTP/1.1 400 Bad Request\r\n\r\n"), str_of(NULL, 0));
	client_finish(s->client, false);
}

static void on_drained(void *arg)
{
	struct server *s = arg;

	s->drained++;
}

static void on_gone(void *arg)
{
	struct server *s = arg;

	buf_add_cstr(&s->seen, "gone ");
}

static void on_closed(void *arg, enum client_end end)
{
	struct server *s = arg;

	buf_addf(&s->seen, "closed:%s ", client_end_text(end));
	s->client = NULL;
}

static const struct client_events events = {
	.may_begin = may_begin,
	.on_request = on_request,
	.on_body = on_body,
	.on_body_end = on_body_end,
	.on_fault = on_fault,
	.on_drained = on_drained,
	.on_gone = on_gone,
	.on_closed = on_closed,
};

/* Turns the loop until nothing of what is at hand is left to do. */
static void pump(void)
{
	for (unsigned i = 0; i < 50; i++) {
		event_base_loop(loop_base(loop), EVLOOP_NONBLOCK);
		loop_run_deferred(loop);
	}
}

static void begin(void)
{
	int pair[2];

	now_ms = 1000;
	clock_set_source(injected_ns);
	log_set_level(LOG_LEVEL_ERROR);
	loop = loop_new();
	cr_assert_not_null(loop);
	client_shared_init(&shared, loop);
	shared.body_max_bytes = BODY_MAX;
	shared.head_deadlines.span_ms = shared.body_deadlines.span_ms = shared.idle_deadlines.span_ms =
		shared.linger_deadlines.span_ms = shared.probe_deadlines.span_ms = SPAN_MS;
	server = (struct server){.fd = -1};
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
	server.fd = pair[1];
	server.client = client_new(&shared, pair[0], 7, &events, &server);
	cr_assert_not_null(server.client);
	cr_assert_eq(client_id(server.client), 7);
}

static void leave(void)
{
	if (server.fd >= 0)
		close(server.fd);
	server.fd = -1;
}

static void end(void)
{
	if (server.client)
		client_cut(server.client, CLIENT_END_CUT);
	pump();
	cr_expect_null(server.client);
	leave();
	buf_fini(&server.seen);
	buf_fini(&server.got);
	buf_fini(&server.body);
	client_shared_fini(&shared);
	loop_free(loop);
	clock_set_source(NULL);
}

TestSuite(gateway_client, .init = begin, .fini = end, .timeout = 60);

/* A new connection in the place of the last one. */
static void again(void)
{
	end();
	begin();
}

static void say_bytes(const char *p, size_t n)
{
	cr_assert_eq(send(server.fd, p, n, MSG_NOSIGNAL), (ssize_t)n);
	pump();
}

static void say(const char *text)
{
	say_bytes(text, strlen(text));
}

/* Everything that is there; false at the end of the stream. */
static bool listen_to(void)
{
	char piece[65536];
	ssize_t n;

	while ((n = recv(server.fd, piece, sizeof(piece), 0)) > 0) {
		buf_add(&server.got, piece, (size_t)n);
		pump();
	}
	return n < 0 && errno == EAGAIN;
}

/* The time has come for every deadline that is set. */
static void let_expire(void)
{
	uint64_t until = wait_now_ms() + 100;

	now_ms += SPAN_MS + 1;
	while (wait_now_ms() < until) {
		event_base_loop(loop_base(loop), EVLOOP_NONBLOCK);
		loop_run_deferred(loop);
		usleep(1000);
	}
}

static void expect_seen_(const char *text, const char *when)
{
	buf_add_char(&server.seen, '\0');
	cr_expect_str_eq(buf_data(&server.seen), text, "%s: %s", when, buf_data(&server.seen));
	buf_reset(&server.seen);
}

#define expect_seen(text) expect_seen_(text, "seen")

static void expect_got(const char *text)
{
	listen_to();
	cr_expect(str_eq(buf_str(&server.got), str_from(text)), "got %.*s", STR_ARG(buf_str(&server.got)));
	buf_reset(&server.got);
}

/* However the bytes are cut, the same request is read. */
Test(gateway_client, split_anywhere)
{
	static const char *const messages[] = {
		"POST /a" HOST "Content-Length: 3\r\n\r\nabc",
		"PUT /a" HOST "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\nT: 1\r\n\r\n",
	};

	for (size_t m = 0; m < 2; m++) {
		const char *text = messages[m];
		for (size_t at = 0; at < strlen(text); at++) {
			again();
			server.answer_at_once = true;
			if (at)
				say_bytes(text, at);
			say_bytes(text + at, strlen(text) - at);
			expect_seen_("/a end ", text + at);
			cr_expect(str_eq(buf_str(&server.body), STR("abc")));
			expect_got(OK);
		}
		again();
		server.answer_at_once = true;
		for (const char *p = text; *p; p++)
			say_bytes(p, 1);
		expect_seen("/a end ");
	}
}

/* No request is begun before its server allows it; what came meanwhile is served then, even if the client ended its input. */
Test(gateway_client, held)
{
	for (unsigned i = 0; i < 3; i++) {
		again();
		server.answer_at_once = true;
		server.hold = true;
		say("GET /a" HOST);
		say("\r\nGET /b" HOST "\r\n");
		if (i)
			cr_assert_eq(shutdown(server.fd, SHUT_WR), 0);
		pump();
		expect_seen("");
		server.hold = false;
		client_release(server.client);
		if (i == 2)
			client_release(server.client);
		pump();
		expect_seen(i ? "/a end /b end closed:done " : "/a end /b end ");
		expect_got(OK OK);
	}
	/* Not for long: it is idle. */
	again();
	server.hold = true;
	say("GET /a" HOST "\r\n");
	let_expire();
	expect_seen("closed:idle-timeout ");
}

/* A held connection of a half-closed client whose second request is pipelined is not taken for done. */
Test(gateway_client, held_behind_an_answer)
{
	say("GET /a" HOST "\r\n"
	    "GET /b" HOST "\r\n");
	cr_assert_eq(shutdown(server.fd, SHUT_WR), 0);
	pump();
	expect_seen("/a end ");
	server.hold = true;
	answer(&server, true);
	pump();
	expect_seen("");
	server.hold = false;
	server.answer_at_once = true;
	client_release(server.client);
	pump();
	expect_seen("/b end closed:done ");
	expect_got(OK OK);
}

/* A Unix socket tells by itself whether its client left: the end of input is only that. */
Test(gateway_client, end_of_input_on_unix)
{
	say("GET /a" HOST "\r\n");
	client_end_means_gone(server.client);
	cr_assert_eq(shutdown(server.fd, SHUT_WR), 0);
	pump();
	let_expire();
	expect_seen("/a end ");
	answer(&server, true);
	expect_got(OK);
}

/* Pipelined requests are read one at a time, each when the one before has been answered. */
Test(gateway_client, pipelining)
{
	say("GET /1" HOST "\r\nPOST /2" HOST "Content-Length: 1\r\n\r\nxGET /3" HOST "\r\nGET /4");
	expect_seen("/1 end ");
	answer(&server, true);
	pump();
	expect_seen("/2 end ");
	answer(&server, true);
	pump();
	expect_seen("/3 end ");
	answer(&server, true);
	pump();
	expect_seen("");
	say(HOST "\r\n");
	expect_seen("/4 end ");
	expect_got(OK OK OK);
}

/* Requests that are answered from within the callback come in order, too; none is lost or seen twice. */
Test(gateway_client, pipelined_and_answered_at_once)
{
	struct buf all = BUF_EMPTY;
	struct buf want = BUF_EMPTY;

	server.answer_at_once = true;
	for (unsigned i = 0; i < 500; i++) {
		buf_addf(&all, "GET /%u" HOST "\r\n", i);
		buf_addf(&want, "/%u end ", i);
	}
	say_bytes(buf_data(&all), all.len);
	for (unsigned i = 0; i < 50; i++) {
		listen_to();
		pump();
	}
	cr_expect(str_eq(buf_str(&server.seen), buf_str(&want)));
	cr_expect_eq(server.got.len, 500 * strlen(OK));
	buf_fini(&all);
	buf_fini(&want);
}

/* What follows a request that asks for the connection's end is dropped. */
Test(gateway_client, bytes_behind_close)
{
	server.answer_at_once = true;
	say("GET /1" HOST "Connection: close\r\n\r\nGET /2" HOST "\r\n");
	cr_expect_not(listen_to());
	expect_got(OK);
	say("GET /3" HOST "\r\n");
	leave();
	pump();
	expect_seen("/1 end closed:done ");
}

/* Whether it stays open is the client's wish, its version's, the answer's, or that of the daemon's end. */
Test(gateway_client, keep_alive)
{
	static const struct {
		const char *head;
		bool keep; /* what the answer wants */
		bool stays;
		unsigned minor;
	} rows[] = {
		{"GET /1 HTTP/1.1\r\nHost: h\r\n\r\n", true, true, 1},
		{"GET /1 HTTP/1.1\r\nHost: h\r\n\r\n", false, false, 1},
		{"GET /1 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", true, false, 1},
		{"GET /1 HTTP/1.0\r\n\r\n", true, false, 0},
		{"GET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true, true, 0},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		again();
		say(rows[i].head);
		cr_expect_eq(client_minor(server.client), rows[i].minor);
		cr_expect_eq(client_may_keep_alive(server.client), rows[i].stays || !rows[i].keep);
		answer(&server, rows[i].keep);
		pump();
		cr_expect_eq(listen_to(), rows[i].stays, "row %zu", i);
	}
}

/* Half-closed after a whole request: it is answered. */
Test(gateway_client, half_close)
{
	say("GET /1" HOST "\r\n");
	shutdown(server.fd, SHUT_WR);
	pump();
	let_expire();
	expect_seen("/1 end ");
	cr_expect_not(client_may_keep_alive(server.client));
	answer(&server, true);
	pump();
	expect_got(OK);
	cr_expect_not(listen_to());
	expect_seen("closed:done ");
}

/* Half-closed behind several: all are answered. */
Test(gateway_client, half_close_behind_pipelined)
{
	server.answer_at_once = true;
	cr_assert_gt(send(server.fd, "GET /1" HOST "\r\nGET /2" HOST "\r\n", 2 * strlen("GET /1" HOST "\r\n"), 0), 0);
	shutdown(server.fd, SHUT_WR);
	pump();
	expect_seen("/1 end /2 end closed:done ");
	expect_got(OK OK);
}

/* Where the client leaves decides whether anybody must be told. */
Test(gateway_client, leaves)
{
	static const struct {
		const char *said;
		const char *seen;
	} rows[] = {
		{"", "closed:done "},
		{"GET /1 HT", "closed:client-gone "},
		{"POST /1" HOST "Content-Length: 3\r\n\r\n", "/1 gone closed:client-gone "},
		{"POST /1" HOST "Content-Length: 3\r\n\r\nab", "/1 gone closed:client-gone "},
		{"POST /1" HOST "Content-Length: 3\r\n\r\nabc", "/1 end gone closed:client-gone "},
		{"GET /1" HOST "\r\nGET /2" HOST "\r\n", "/1 end gone closed:client-gone "},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		again();
		if (rows[i].said[0])
			say(rows[i].said);
		leave();
		pump();
		expect_seen_(rows[i].seen, rows[i].said);
	}
}

/* One that half-closes first and leaves later is noticed while its answer is waited for. */
Test(gateway_client, leaves_after_half_close)
{
	say("GET /1" HOST "\r\n");
	shutdown(server.fd, SHUT_WR);
	pump();
	leave();
	let_expire();
	expect_seen("/1 end gone closed:client-gone ");
	cr_expect_eq(shared.ends[CLIENT_END_GONE], 1);
}

/* Time passes for a head from its first byte on, whatever comes meanwhile; then it is answered 408. */
Test(gateway_client, head_timeout)
{
	say("GET /1 H");
	now_ms += SPAN_MS - 1;
	say("TTP/1.1\r\n");
	now_ms += 2;
	let_expire();
	expect_seen("408 ");
	expect_got("HTTP/1.1 400 Bad Request\r\n\r\n");
	cr_expect_not(listen_to());
	leave();
	pump();
	expect_seen("closed:head-timeout ");
}

/* Each byte of a body starts its time anew. */
Test(gateway_client, body_timeout)
{
	say("POST /1" HOST "Content-Length: 3\r\n\r\n");
	for (unsigned i = 0; i < 2; i++) {
		now_ms += SPAN_MS - 1;
		say("a");
	}
	expect_seen("/1 ");
	let_expire();
	expect_seen("408 ");
	leave();
	pump();
	expect_seen("closed:body-timeout ");
}

/* Nobody speaks: closed, without an answer to a question that was not asked. */
Test(gateway_client, idle_timeout)
{
	let_expire();
	expect_seen("closed:idle-timeout ");
	expect_got("");
	cr_expect_not(client_end_is_error(CLIENT_END_IDLE));
}

/* While an answer is waited for no time runs for the client. */
Test(gateway_client, no_timeout_within_an_answer)
{
	say("GET /1" HOST "\r\n");
	let_expire();
	let_expire();
	expect_seen("/1 end ");
	answer(&server, true);
	pump();
	expect_got(OK);
}

/* The last answer lingers: what the client still sends is dropped until it closes or the time is up. */
Test(gateway_client, lingers)
{
	say("GET /1" HOST "Connection: close\r\n\r\n");
	answer(&server, false);
	pump();
	cr_expect_not(listen_to());
	say("and this is not read");
	cr_expect_not_null(server.client);
	let_expire();
	expect_seen("/1 end closed:done ");
}

/* A last answer that nobody takes ends with the time of a body. */
Test(gateway_client, not_reading)
{
	static char much[1000000];

	say("GET /1" HOST "Connection: close\r\n\r\n");
	cr_expect_not(client_send(server.client, str_of(much, sizeof(much)), str_of(NULL, 0)));
	client_finish(server.client, false);
	pump();
	let_expire();
	expect_seen("/1 end closed:not-reading ");
}

/* A fault in head or body is told once, answered, and ends the connection. */
Test(gateway_client, faults)
{
	static const struct {
		const char *said;
		const char *seen;
	} rows[] = {
		{"GET / HTTP/1.1\r\n\r\n", "400 closed:bad-request "},
		{"GET / HTTP/2.0\r\nHost: h\r\n\r\n", "505 closed:bad-request "},
		{"POST /1" HOST "Transfer-Encoding: chunked\r\n\r\nxyz\r\n", "/1 400 closed:bad-request "},
		{"POST /1" HOST "Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", "/1 400 closed:bad-request "},
		{"POST /1" HOST "Content-Length: 400001\r\n\r\n", "413 closed:bad-request "},
		{"POST /1" HOST "Content-Length: 400001\r\n\r\nabc", "413 closed:bad-request "},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		again();
		say(rows[i].said);
		expect_got("HTTP/1.1 400 Bad Request\r\n\r\n");
		leave();
		pump();
		expect_seen_(rows[i].seen, rows[i].said);
		cr_expect_eq(shared.ends[CLIENT_END_FAULT], 1);
	}
}

/* A chunked body may have as many bytes as bounds.body allows, and not one more. */
Test(gateway_client, body_bound)
{
	static char much[100000];

	memset(much, 'x', sizeof(much));
	for (unsigned extra = 0; extra < 2; extra++) {
		again();
		server.answer_at_once = true;
		say("POST /1" HOST "Transfer-Encoding: chunked\r\n\r\n");
		for (unsigned i = 0; i < 4; i++) {
			say("186A0\r\n");
			for (size_t at = 0; at < sizeof(much); at += 10000)
				say_bytes(much + at, 10000);
			say("\r\n");
		}
		cr_expect_eq(server.body.len, BODY_MAX);
		say(extra ? "1\r\nx\r\n" : "0\r\n\r\n");
		expect_seen(extra ? "/1 413 " : "/1 end ");
		cr_expect_eq(server.body.len, BODY_MAX);
	}
}

/* 100 Continue is sent when the body is waited for, and not when it is there. */
Test(gateway_client, expect_continue)
{
	server.answer_at_once = true;
	say("POST /1" HOST "Content-Length: 2\r\nExpect: 100-continue\r\n\r\n");
	expect_got("HTTP/1.1 100 Continue\r\n\r\n");
	say("ab");
	expect_got(OK);
	say("POST /2" HOST "Content-Length: 2\r\nExpect: 100-continue\r\n\r\nab");
	expect_got(OK);
	say("GET /3" HOST "Expect: 100-continue\r\n\r\n");
	expect_got(OK);
}

/* Answered before its body was read: what is at hand is used up, otherwise the connection ends. */
Test(gateway_client, early_answer)
{
	server.answer_early = true;
	say("POST /1" HOST "Content-Length: 2\r\n\r\nabGET /2" HOST "\r\n");
	expect_got(OK OK);
	expect_seen("/1 /2 ");
	say("POST /3" HOST "Content-Length: 2\r\n\r\na");
	cr_expect_not(listen_to());
	expect_got(OK);
	leave();
	pump();
	expect_seen("/3 closed:done ");
	cr_expect_eq(server.body.len, 0, "nobody wants the body of an answered request");
}

/* Nothing is read while a body is paused, and all of it afterwards. */
Test(gateway_client, paused_body)
{
	static char piece[100000];
	size_t sent = 0;

	server.pause_in_body = true;
	say("POST /1" HOST "Content-Length: 300000\r\n\r\nx");
	sent = 1;
	for (unsigned i = 0; i < 10 && sent < 300000; i++) {
		ssize_t n = send(server.fd, piece, 300000 - sent < sizeof(piece) ? 300000 - sent : sizeof(piece),
				 MSG_NOSIGNAL);
		pump();
		if (n > 0)
			sent += (size_t)n;
	}
	cr_expect_lt(server.body.len, 200000);
	server.pause_in_body = false;
	client_pause_body(server.client, false);
	pump();
	while (sent < 300000) {
		ssize_t n = send(server.fd, piece, 300000 - sent < sizeof(piece) ? 300000 - sent : sizeof(piece),
				 MSG_NOSIGNAL);
		cr_assert_gt(n, 0);
		sent += (size_t)n;
		pump();
	}
	pump();
	cr_expect_eq(server.body.len, 300000);
	expect_seen("/1 end ");
}

/* Draining closes a connection that rests, and one that works after its answer. */
Test(gateway_client, drain)
{
	client_drain(server.client);
	pump();
	expect_seen("closed:drain ");
	again();
	say("GET /1 HTTP/1.1\r\n");
	client_drain(server.client);
	say("Host: h\r\n\r\n");
	cr_expect_not(client_may_keep_alive(server.client));
	answer(&server, true);
	pump();
	expect_got(OK);
	leave();
	pump();
	expect_seen("/1 end closed:drain ");
	again();
	say("GET /1" HOST "\r\nGET /2" HOST "\r\n");
	client_drain(server.client);
	answer(&server, true);
	pump();
	expect_got(OK);
	leave();
	pump();
	expect_seen("/1 end closed:drain ");
}

/* A cut is at once, and whoever cut is not told that the client has gone. */
Test(gateway_client, cut)
{
	say("GET /1" HOST "\r\n");
	client_send(server.client, STR("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"), str_of(NULL, 0));
	client_cut(server.client, CLIENT_END_CUT);
	client_cut(server.client, CLIENT_END_DONE);
	cr_expect(client_send(server.client, STR("more"), STR("of it")));
	client_finish(server.client, true);
	pump();
	expect_seen("/1 end closed:answer-cut ");
	expect_got("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
	cr_expect_eq(shared.ends[CLIENT_END_CUT], 1);
	cr_expect_eq(shared.ends[CLIENT_END_DONE], 0);
}

/* Two spans go out in order whatever part of them the socket takes, and on_drained comes once per congestion. */
Test(gateway_client, congestion)
{
	static char a[300001];
	static char b[300001];
	size_t want = sizeof(a) + sizeof(b);

	memset(a, 'a', sizeof(a));
	memset(b, 'b', sizeof(b));
	say("GET /1" HOST "\r\n");
	cr_expect_not(client_send(server.client, str_of(a, sizeof(a)), str_of(b, sizeof(b))));
	pump();
	cr_expect_eq(server.drained, 0);
	while (server.got.len < want && listen_to())
		pump();
	cr_expect_eq(server.drained, 1);
	cr_assert_eq(server.got.len, want);
	cr_expect_eq(memcmp(buf_data(&server.got), a, sizeof(a)), 0);
	cr_expect_eq(memcmp(buf_data(&server.got) + sizeof(a), b, sizeof(b)), 0);
	cr_expect(client_send(server.client, STR("x"), STR("y")));
}

/* Every end has a text of its own, and only our own doing or a fault is an error. */
Test(gateway_client, ends)
{
	for (unsigned i = 0; i < CLIENT_ENDS; i++) {
		cr_assert_not_null(client_end_text((enum client_end)i), "end %u", i);
		for (unsigned k = 0; k < i; k++)
			cr_expect_str_neq(client_end_text((enum client_end)i), client_end_text((enum client_end)k));
	}
	cr_expect_not(client_end_is_error(CLIENT_END_DONE));
	cr_expect_not(client_end_is_error(CLIENT_END_GONE));
	cr_expect_not(client_end_is_error(CLIENT_END_DRAIN));
	cr_expect(client_end_is_error(CLIENT_END_FAULT));
	cr_expect(client_end_is_error(CLIENT_END_CUT));
}

/* A pause of one request's body does not hold up the next request. */
Test(gateway_client, regress_pause_ends_with_its_request)
{
	server.pause_in_body = true;
	say("POST /1" HOST "Content-Length: 1\r\n\r\nx");
	expect_seen("/1 end ");
	answer(&server, true);
	pump();
	say("GET /2" HOST "\r\n");
	expect_seen("/2 end ");
}

/* No time runs for a client whose body we do not read. */
Test(gateway_client, regress_no_timeout_while_paused)
{
	server.pause_in_body = true;
	say("POST /1" HOST "Content-Length: 2\r\n\r\nx");
	let_expire();
	expect_seen("/1 ");
	client_pause_body(server.client, false);
	pump();
	let_expire();
	expect_seen("408 ");
}

/* 100 Continue never stands within an answer that has begun. */
Test(gateway_client, regress_no_continue_within_an_answer)
{
	server.pause_in_body = true;
	say("POST /1" HOST "Content-Length: 3\r\nExpect: 100-continue\r\n\r\nx");
	client_send(server.client, STR("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"), str_of(NULL, 0));
	client_pause_body(server.client, false);
	pump();
	expect_got("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
	again();
	server.pause_in_body = true;
	say("POST /1" HOST "Content-Length: 3\r\nExpect: 100-continue\r\n\r\nx");
	client_pause_body(server.client, false);
	pump();
	expect_got("");
}

/* A request that was answered before its body broke down is not answered twice. */
Test(gateway_client, regress_one_answer_for_one_request)
{
	server.answer_early = true;
	say("POST /1" HOST "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\nzz\r\n");
	expect_got(OK);
	leave();
	pump();
	expect_seen("/1 closed:done ");
}

/* client_send says false as long as on_drained is owed, so that nobody goes on who was stopped. */
Test(gateway_client, regress_drained_is_always_told)
{
	static char much[400000];
	static char piece[65536];

	say("GET /1" HOST "\r\n");
	cr_expect_not(client_send(server.client, str_of(much, sizeof(much)), str_of(NULL, 0)));
	/* A part is taken: less than the high water is left, more than the low. */
	for (unsigned i = 0; i < 2; i++) {
		ssize_t n = recv(server.fd, piece, sizeof(piece), 0);
		cr_assert_gt(n, 0);
		buf_add(&server.got, piece, (size_t)n);
		pump();
	}
	client_send(server.client, STR("x"), str_of(NULL, 0));
	while (server.got.len < sizeof(much) + 1 && listen_to())
		pump();
	cr_expect_eq(server.drained, 1);
}

/* K13: a client that sends requests and reads no answers makes nothing grow beyond the bounds. */
Test(gateway_client, regress_pipelined_flood)
{
	struct buf flood = BUF_EMPTY;
	size_t pushed = 0;
	unsigned stuck = 0;

	server.answer_at_once = true;
	for (unsigned i = 0; i < 3000; i++)
		buf_add_cstr(&flood, "GET /" HOST "\r\n");
	while (pushed < 10000000 && stuck < 3) {
		ssize_t n = send(server.fd, buf_data(&flood) + pushed % flood.len, flood.len - pushed % flood.len,
				 MSG_NOSIGNAL);
		pump();
		stuck = n > 0 ? 0 : stuck + 1;
		pushed += n > 0 ? (size_t)n : 0;
	}
	cr_expect_eq(stuck, 3, "it reads on and on although nobody takes its answers: %zu bytes", pushed);
	cr_expect_lt(pushed, 2000000);
	/* When they are taken it goes on, and no request is lost. */
	while (pushed % flood.len) {
		ssize_t n;
		listen_to();
		pump();
		n = send(server.fd, buf_data(&flood) + pushed % flood.len, flood.len - pushed % flood.len,
			 MSG_NOSIGNAL);
		pushed += n > 0 ? (size_t)n : 0;
		pump();
	}
	for (unsigned i = 0; i < 200; i++) {
		listen_to();
		pump();
	}
	cr_expect_eq(server.got.len, pushed / strlen("GET /" HOST "\r\n") * strlen(OK));
	buf_fini(&flood);
}

/* An answer that the client has not taken whole reaches it although it half-closes or we drain meanwhile. */
Test(gateway_client, regress_tail_of_an_answer)
{
	static char much[400000];

	for (unsigned how = 0; how < 3; how++) {
		again();
		say("GET /1" HOST "\r\n");
		client_send(server.client, str_of(much, sizeof(much)), str_of(NULL, 0));
		client_finish(server.client, true);
		pump();
		if (how == 0)
			client_drain(server.client);
		else if (how == 1)
			shutdown(server.fd, SHUT_WR);
		else
			say("GET /2"); /* and then no more */
		if (how == 2)
			shutdown(server.fd, SHUT_WR);
		pump();
		while (listen_to() && server.got.len < sizeof(much))
			pump();
		cr_expect_eq(server.got.len, sizeof(much), "way %u: %zu bytes", how, server.got.len);
		cr_expect_not(listen_to());
	}
}

enum {
	MANY = 200
};

/* Bytes that malloc has given out; 0 under AddressSanitizer, which has its own. */
static size_t allocated(void)
{
	return mallinfo2().uordblks;
}

/* Between requests a client costs little, also when it has made some; what many had is given back when they go. */
Test(gateway_client, many_idle)
{
	static struct server servers[MANY];
	size_t before = allocated();

	for (unsigned i = 0; i < MANY; i++) {
		struct server *s = &servers[i];
		int pair[2];
		*s = (struct server){.answer_at_once = true};
		cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
		s->fd = pair[1];
		s->client = client_new(&shared, pair[0], i, &events, s);
		cr_assert_not_null(s->client);
		for (unsigned n = 0; n < 3; n++) {
			char got[100];
			/* The head comes in two pieces, so that the first is kept. */
			cr_assert_eq(send(s->fd, "GET /x", 6, MSG_NOSIGNAL), 6);
			pump();
			cr_assert_eq(send(s->fd, HOST "\r\n", sizeof(HOST) + 1, MSG_NOSIGNAL), sizeof(HOST) + 1);
			pump();
			cr_assert_eq(recv(s->fd, got, sizeof(got), 0), sizeof(OK) - 1);
		}
		buf_fini(&s->seen);
	}
	cr_expect_lt(allocated() - before, MANY * 400, "%zu bytes each", (allocated() - before) / MANY);
	cr_expect_eq(shared.open, MANY + 1);
	cr_expect_eq(shared.most_open, MANY + 1);
	for (unsigned i = 0; i < MANY; i++) {
		close(servers[i].fd);
		pump();
		cr_expect_null(servers[i].client);
		buf_fini(&servers[i].seen);
		cr_expect_eq(shared.open, MANY - i);
		cr_expect_eq(shared.most_open, MANY - i <= (MANY + 1) / 4 ? (MANY + 1) / 4 : MANY + 1);
	}
}
