/* SPDX-License-Identifier: Apache-2.0 */
/*
 *   HEAD --head that may pass--> EXCHANGE --both messages over--> HEAD ...
 *                                EXCHANGE --101 to an upgrade--> TUNNEL
 *   any  --refusal, last answer, gateway gone--> CLOSING
 *
 * One exchange at a time: the next head is looked at when the answer before it has ended, so what a client sends ahead waits.
 * Bodies pass with the framing they have; they are parsed to know where they end. In a tunnel bytes pass as they are, and
 * an end in one direction is passed on alone.
 *
 * Failures: the gateway does not answer (502) or breaks off (the client sees a cut answer); a client that ends its side may
 * still get its answer, for as long as it comes; one that sends what is no HTTP is told so. Before the client's connection
 * is closed what it still sends is read, for a while, or the kernel would take the answer back.
 */
#include "cli/relay.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli/admit.h"
#include "cli/flow.h"
#include "common/buf.h"
#include "common/fd.h"
#include "common/http_parse.h"
#include "common/http_write.h"
#include "common/json_write.h"
#include "common/unix_socket.h"

enum {
	FIRST_HEAD_MS = 60000,  /* how long a connection may say nothing before its first request */
	HALF_CLOSED_MS = 30000, /* how long an answer may make no progress for a client that has ended its side */
	LINGER_MS = 2000,
};

enum relay_state {
	RELAY_HEAD,
	RELAY_EXCHANGE,
	RELAY_TUNNEL,
	RELAY_CLOSING,
};

struct relay {
	const struct relay_way *way; /* borrowed */
	int client;                  /* owned */
	int gateway;                 /* owned; -1: not dialled */
	enum relay_state state;
	struct flow up;   /* client to gateway */
	struct flow down; /* gateway to client */
	bool upgrade;     /* the request under way asks for a tunnel */
	bool no_body;     /* the request under way is HEAD */
	bool last;        /* no request after this one */
	bool lingering;   /* CLOSING: everything is written and our side has ended */
	uint64_t deadline_ms;
	uint64_t now_ms; /* of this run */
};

struct relay *relay_new(const struct relay_way *way, int fd, uint64_t now_ms)
{
	struct relay *r = calloc(1, sizeof(*r));

	if (!r) {
		close(fd);
		return NULL;
	}
	r->way = way;
	r->client = fd;
	r->gateway = -1;
	r->deadline_ms = now_ms + FIRST_HEAD_MS;
	flow_next(&r->up, HTTP_REQUEST);
	return r;
}

void relay_free(struct relay *r)
{
	if (!r)
		return;
	fd_close(&r->client);
	fd_close(&r->gateway);
	flow_fini(&r->up);
	flow_fini(&r->down);
	free(r);
}

/* ---- endings ----------------------------------------------------------- */

/* Nothing more comes from the gateway; what is written already still goes out. */
static void close_after_this(struct relay *r)
{
	r->state = RELAY_CLOSING;
	r->deadline_ms = 0;
	fd_close(&r->gateway);
	buf_reset(&r->up.out);
	buf_reset(&r->up.in);
	buf_reset(&r->down.in);
}

static const char *code_of(unsigned status)
{
	switch (status) {
	case 403:
		return "FORBIDDEN";
	case 431:
		return "HEADERS_TOO_LARGE";
	case 502:
		return "CONNECTION_ERROR";
	default:
		return "BAD_REQUEST";
	}
}

/* An answer of our own is the last one. */
static void answer(struct relay *r, unsigned status, const char *why)
{
	struct buf body = BUF_EMPTY;
	struct json_writer w = json_writer(&body);
	struct buf *out = &r->down.out;

	json_object_begin(&w, NULL);
	json_cstr(&w, "code", code_of(status));
	json_cstr(&w, "message", why);
	json_object_end(&w);
	buf_add_char(&body, '\n');
	http_write_status_line(out, status);
	http_write_header(out, STR("Content-Type"), STR("application/json"));
	http_write_header_u64(out, STR("Content-Length"), body.len);
	http_write_header(out, STR("Connection"), STR("close"));
	http_write_header(out, STR("X-Content-Type-Options"), STR("nosniff"));
	http_write_header(out, STR("Content-Security-Policy"), STR("sandbox"));
	http_write_end(out);
	if (!r->no_body)
		buf_add_str(out, buf_str(&body));
	out->failed |= body.failed;
	buf_fini(&body);
	close_after_this(r);
}

/* ---- messages ---------------------------------------------------------- */

static void begin_exchange(struct relay *r, const struct http_head *head, size_t head_bytes)
{
	if (r->gateway < 0)
		r->gateway = unix_socket_connect_now(r->way->socket_path);
	if (r->gateway < 0) {
		r->gateway = -1;
		answer(r, 502, "the gateway does not answer");
		return;
	}
	admit_write(r->way->admit, head, str_of(buf_data(&r->up.in), head_bytes), &r->up.out);
	buf_consume(&r->up.in, head_bytes);
	r->upgrade = head->upgrade_websocket;
	r->last = !head->keep_alive;
	r->up.in_body = true;
	r->deadline_ms = 0;
	flow_next(&r->down, HTTP_RESPONSE);
	r->state = RELAY_EXCHANGE;
}

/* Looks for a request. True when there was something to do. */
static bool take_request(struct relay *r)
{
	struct http_head head;
	struct admit_ruling ruling;
	size_t head_bytes;

	if (r->up.in.len == 0)
		return false;
	r->no_body = false;
	switch (http_parse_head(&r->up.parser, buf_data(&r->up.in), r->up.in.len, &head, &head_bytes)) {
	case HTTP_MORE:
		return false;
	case HTTP_BAD:
		answer(r, r->up.parser.status, r->up.parser.why);
		return true;
	case HTTP_DONE:
		break;
	}
	r->no_body = head.method == METHOD_HEAD;
	ruling = admit_judge(r->way->admit, &head);
	if (ruling.status)
		answer(r, ruling.status, ruling.why);
	else
		begin_exchange(r, &head, head_bytes);
	return true;
}

/* Looks for the head of the answer. 1: there was one, 0: not yet, -1: no HTTP. */
static int take_response(struct relay *r)
{
	struct http_head head;
	size_t head_bytes;

	if (r->down.in_body || r->down.in.len == 0 || flow_is_full(&r->down))
		return 0;
	switch (http_parse_head(&r->down.parser, buf_data(&r->down.in), r->down.in.len, &head, &head_bytes)) {
	case HTTP_MORE:
		return 0;
	case HTTP_BAD:
		return -1;
	case HTTP_DONE:
		break;
	}
	if (head.status == 101 && !(r->upgrade && r->up.done))
		return -1;
	buf_add(&r->down.out, buf_data(&r->down.in), head_bytes);
	if (head.status == 101) {
		r->state = RELAY_TUNNEL;
		r->deadline_ms = 0;
	} else if (head.status < 200) {
		flow_next(&r->down, HTTP_RESPONSE);
	} else {
		r->down.in_body = true;
		r->last |= !head.keep_alive;
		if (r->no_body)
			http_parser_no_body(&r->down.parser);
	}
	buf_consume(&r->down.in, head_bytes);
	return 1;
}

/* The gateway has ended its side in the middle of an exchange. */
static void end_of_gateway(struct relay *r)
{
	if (!r->down.in_body) {
		answer(r, 502, "the gateway broke off before it answered");
		return;
	}
	/* A body that lasts to the end of the connection is over; any other is cut, and the client sees that. */
	close_after_this(r);
}

/* Both messages are over, or it does not matter any more. */
static void end_exchange(struct relay *r)
{
	if (r->last) {
		close_after_this(r);
		return;
	}
	flow_next(&r->up, HTTP_REQUEST);
	r->deadline_ms = 0;
	r->state = RELAY_HEAD;
}

/* What is malformed ends the connection; an answer that has begun cannot be taken back. */
static void bad_message(struct relay *r, bool request)
{
	if (request && !r->down.in_body)
		answer(r, r->up.parser.status, r->up.parser.why);
	else if (!r->down.in_body)
		answer(r, 502, "the gateway's answer is malformed");
	else
		close_after_this(r);
}

static bool step_exchange(struct relay *r)
{
	int up = flow_move_body(&r->up);
	int head = up < 0 ? 0 : take_response(r);
	int down;

	if (r->state != RELAY_EXCHANGE)
		return true;
	down = up < 0 || head < 0 ? 0 : flow_move_body(&r->down);
	if (up < 0 || head < 0 || down < 0) {
		bad_message(r, up < 0);
		return true;
	}
	if (r->down.done && (r->up.done || r->last)) {
		end_exchange(r);
		return true;
	}
	if (up || head || down)
		return true;
	/* A client that leaves within its request must not look as if that had been all of it. */
	if (r->up.eof && !r->up.done && r->up.in.len == 0) {
		close_after_this(r);
		return true;
	}
	/* What has come but finds no room is still to be passed on. */
	if (r->down.eof && !flow_is_full(&r->down)) {
		end_of_gateway(r);
		return true;
	}
	return false;
}

/* Between two exchanges; what the gateway says unasked would be taken for the next answer. */
static bool step_head(struct relay *r)
{
	if (!r->down.eof && r->down.in.len == 0 && take_request(r))
		return true;
	if (!r->up.eof && !r->down.eof && r->down.in.len == 0)
		return false;
	close_after_this(r);
	return true;
}

/* One step; false when nothing can be done before more comes or goes. */
static bool step(struct relay *r)
{
	switch (r->state) {
	case RELAY_HEAD:
		return step_head(r);
	case RELAY_EXCHANGE:
		return step_exchange(r);
	case RELAY_TUNNEL: {
		bool up = flow_move_raw(&r->up);
		bool down = flow_move_raw(&r->down);

		return up || down;
	}
	case RELAY_CLOSING:
		buf_reset(&r->up.in);
		return false;
	}
	return false;
}

/* ---- sockets ----------------------------------------------------------- */

/* The gateway may have answered and closed before it took all of a body: then the answer counts. */
static void stop_sending(struct relay *r)
{
	buf_reset(&r->up.out);
	r->up.done = r->up.shut = r->last = true;
}

/* Reads what poll() named. False: the client has gone. */
static bool read_both(struct relay *r, const struct pollfd fds[RELAY_FDS])
{
	int got = 0;

	if ((fds[0].revents & ~POLLOUT) && flow_read(&r->up, r->client) < 0)
		return false;
	if (r->gateway >= 0 && (fds[1].revents & ~POLLOUT))
		got = flow_read(&r->down, r->gateway);
	if (got < 0)
		r->down.eof = true;
	if (got > 0 && r->up.eof && r->state == RELAY_EXCHANGE)
		r->deadline_ms = r->now_ms + HALF_CLOSED_MS;
	return true;
}

/* Does what can be done with what is there. False: the client has gone. */
static bool go_on(struct relay *r)
{
	/* What a write makes room for may have come already. */
	do {
		while (step(r))
			;
		if (flow_write(&r->down, r->client) < 0)
			return false;
		if (r->gateway >= 0 && flow_write(&r->up, r->gateway) < 0)
			stop_sending(r);
	} while (step(r));
	return true;
}

/* Passes the end of one direction on. */
static void pass_end(int fd, struct flow *f)
{
	if (f->eof && !f->shut && f->in.len == 0 && f->out.len == 0) {
		shutdown(fd, SHUT_WR);
		f->shut = true;
	}
}

static bool go_on_closing(struct relay *r)
{
	if (r->down.out.len > 0)
		return true;
	if (!r->lingering) {
		r->lingering = true;
		r->deadline_ms = r->now_ms + LINGER_MS;
		shutdown(r->client, SHUT_WR);
	}
	return !r->up.eof && r->now_ms < r->deadline_ms;
}

bool relay_run(struct relay *r, const struct pollfd fds[RELAY_FDS], uint64_t now_ms)
{
	r->now_ms = now_ms;
	if (!read_both(r, fds) || !go_on(r) || flow_failed(&r->up) || flow_failed(&r->down))
		return false;
	if (r->state == RELAY_CLOSING)
		return go_on_closing(r);
	if (r->deadline_ms && now_ms >= r->deadline_ms)
		return false;
	if (r->state == RELAY_TUNNEL) {
		pass_end(r->gateway, &r->up);
		pass_end(r->client, &r->down);
		return !(r->up.shut && r->down.shut);
	}
	if (r->up.eof && r->state == RELAY_EXCHANGE && !r->deadline_ms)
		r->deadline_ms = now_ms + HALF_CLOSED_MS;
	return true;
}

static struct pollfd want(int fd, const struct flow *in, const struct flow *out)
{
	struct pollfd p = {.fd = fd};

	if (flow_has_room(in))
		p.events |= POLLIN;
	if (out->out.len > 0)
		p.events |= POLLOUT;
	/* Nothing is wanted: not even its end, which could not be acted on. */
	if (p.events == 0)
		p.fd = -1;
	return p;
}

void relay_wants(const struct relay *r, struct pollfd fds[RELAY_FDS])
{
	fds[0] = want(r->client, &r->up, &r->down);
	fds[1] = want(r->gateway, &r->down, &r->up);
}

uint64_t relay_deadline_ms(const struct relay *r)
{
	return r->deadline_ms;
}
