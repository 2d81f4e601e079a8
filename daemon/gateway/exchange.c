/* SPDX-License-Identifier: Apache-2.0 */
/*
 *   GATHER --> LEASE --> HEAD --> BODY ----> ENDED
 *      |         |  ^      |  \--> TUNNEL --^   ^
 *      |         |  +------+ (repeat)          |
 *      +---------+---------+-------------------+
 *
 * GATHER  a body that must go with a length, or be judged, is collected (most requests skip this)
 * LEASE   waits for leave to start, then for a connection; body bytes that come meanwhile are kept, up to a bound
 * HEAD    the request goes out as it comes in, and a response head is waited for
 * BODY    response bytes are passed on, framing and all, as the parser agrees to them
 *
 * TUNNEL  a WebSocket handshake was answered with 101: bytes pass both ways as they are. Each side's end is passed on when
 *         all that it sent was; the other's bytes go on until it ends too, or leaves, or is silent for too long
 *
 * A client that leaves takes its exchange with it, so that the server ends its command.
 *
 * The request goes to a second connection only if the first had served before, broke before a single response byte, and
 * either nothing of the request was sent or its method is safe and it has no body. A 401 for our own key has the key read
 * again and, if another one comes of that, such a request sent again; otherwise the server's 401 is passed on as it is.
 *
 * Whether the connection is kept is decided in one place, finish(): both messages ended, nothing left over, and the
 * server means to keep it.
 */
#include "gateway/exchange.h"

#include <errno.h>
#include <event2/event.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/http_parse.h"
#include "common/http_write.h"
#include "common/loop.h"
#include "common/secret.h"
#include "common/spares.h"
#include "gateway/answer.h"
#include "gateway/client.h"
#include "gateway/gather.h"
#include "gateway/keyring.h"
#include "gateway/request_id.h"
#include "gateway/rewrite.h"
#include "gateway/route.h"
#include "gateway/upstream.h"

enum exchange_state {
	EXCHANGE_GATHER,
	EXCHANGE_LEASE,
	EXCHANGE_HEAD,
	EXCHANGE_BODY,
	EXCHANGE_TUNNEL,
	EXCHANGE_ENDED,
	EXCHANGE_STATES,
};

static const char *const state_names[EXCHANGE_STATES] = {"gather", "lease", "head", "body", "tunnel", "ended"};

static const uint32_t state_edges[EXCHANGE_STATES] = {
	[EXCHANGE_GATHER] = SM_TO(EXCHANGE_LEASE) | SM_TO(EXCHANGE_ENDED),
	[EXCHANGE_LEASE] = SM_TO(EXCHANGE_HEAD) | SM_TO(EXCHANGE_ENDED),
	[EXCHANGE_HEAD] = SM_TO(EXCHANGE_BODY) | SM_TO(EXCHANGE_TUNNEL) | SM_TO(EXCHANGE_LEASE) | SM_TO(EXCHANGE_ENDED),
	[EXCHANGE_BODY] = SM_TO(EXCHANGE_ENDED),
	[EXCHANGE_TUNNEL] = SM_TO(EXCHANGE_ENDED),
	[EXCHANGE_ENDED] = 0,
};

static const struct sm sm = {"exchange", state_names, state_edges, EXCHANGE_STATES};

static const struct {
	const char *text;
	bool is_error;
} end_rows[EXCHANGE_ENDS] = {
	[EXCHANGE_END_DONE] = {"done", false},
	[EXCHANGE_END_NO_UPSTREAM] = {"no-upstream", true},
	[EXCHANGE_END_DIAL_TIMEOUT] = {"connect-timeout", true},
	[EXCHANGE_END_NO_PLACE] = {"pool-full", true},
	[EXCHANGE_END_BROKEN] = {"upstream-broke", true},
	[EXCHANGE_END_TIMEOUT] = {"response-timeout", true},
	[EXCHANGE_END_CUT] = {"response-cut", true},
	[EXCHANGE_END_CLIENT_GONE] = {"client-gone", false},
	[EXCHANGE_END_DRAIN] = {"drain", true},
	[EXCHANGE_END_REVOKED] = {"revoked", false},
	[EXCHANGE_END_REQUEST_FAULT] = {"request-fault", true},
	[EXCHANGE_END_REFUSED] = {"refused", false},
	[EXCHANGE_END_NO_MEMORY] = {"no-memory", true},
};

enum {
	SCRATCH_BYTES = 65536,
	UP_HIGH_WATER = 131072,
	UP_LOW_WATER = 32768,
	READS_PER_TURN = 8,
	INTERIM_MAX = 32, /* 1xx responses before the real one */
	SPARE_UP_MAX_BYTES = 2048,
};

/* How the response body must be framed for this client. */
enum down_framing {
	DOWN_AS_IS, /* the upstream's bytes */
	DOWN_CHUNK, /* no length and no chunks: we make chunks */
	DOWN_PLAIN, /* an HTTP/1.0 client: without chunks, ended by the close */
};

/* The credentials that a request may carry. */
enum {
	KEY_ORDINARY,
	KEY_ADMIN,
	KEYS
};

struct exchange {
	struct loop *loop;         /* borrowed */
	struct client *client;     /* borrowed; valid until exchange_gone or the end */
	struct upstream *upstream; /* owned reference */
	struct upstream_ticket ticket;
	struct upstream_conn *conn; /* owned lease, in HEAD and BODY */
	enum exchange_state state;
	enum http_method method;
	enum upstream_wait wait; /* which timeout bounds the response head */
	bool started;            /* exchange_start was called */
	bool has_body;           /* the request has one */
	bool rechunk;            /* it goes out in chunks of ours */
	bool body_done;          /* all of it is in `up` */
	bool up_broken;          /* the upstream takes nothing more; an answer may still come */
	struct buf up;           /* the request, from its head on; what was sent of a body is dropped */
	size_t up_sent;          /* bytes at the start of `up` that were sent */
	uint64_t sent_total;     /* on the present connection */
	struct gather gather;    /* GATHER: the body so far; its shares are held to the end */
	struct buf response;     /* an unfinished response head */
	struct http_parser parser;
	unsigned interim;  /* 1xx responses so far */
	bool server_keeps; /* the response head means to keep the connection */
	bool left_over;    /* bytes came behind the response */
	enum down_framing down;
	bool response_paused;    /* the client does not take it fast enough */
	bool client_keeps;       /* said so in the head sent to the client */
	bool preview;            /* nothing of ours is added to either head */
	bool websocket;          /* the request asks for the switch to it */
	bool client_ended;       /* TUNNEL: the client sends nothing more */
	bool server_ended;       /* TUNNEL: the server sends nothing more, and the client was told */
	uint64_t heartbeat_ms;   /* on idle streams; 0: none */
	bool sse;                /* the stream is text/event-stream */
	bool whole_line;         /* the last body byte sent down ended a line */
	struct event *heartbeat; /* owned; NULL unless this response is a stream that gets one */
	struct event *timeout;   /* owned; of the whole exchange; NULL without Stacygate-Timeout */
	struct deadline deadline;
	struct deferred lease; /* put off by exchange_start */
	struct deferred destroy;
	struct exchange_report report;
	char request_id[REQUEST_ID_MAX_BYTES + 1];
	const char *user_id;                /* borrowed from the grant */
	struct key *keys[KEYS];             /* owned references; NULL: none */
	struct secret *used[KEYS];          /* owned references; the values of them in `up` */
	struct key_wait key_wait;           /* LEASE: for a key that is being read */
	bool rekeyed;                       /* sent again after a 401 */
	const struct exchange_shape *shape; /* borrowed; NULL: none */
	void *shape_arg;
	enum exchange_use use;                /* of the response body */
	bool hides_length;                    /* the answer to a HEAD of what is filtered */
	const struct exchange_events *events; /* borrowed */
	void *arg;
	unsigned long long id; /* the client's, for traces */
};

static char scratch[SCRATCH_BYTES];

/* Some that have ended; only the memory of `up` survives in them, wiped. */
static struct spares spares;

static struct exchange *take_spare(void)
{
	struct exchange *e = spares_take(&spares);
	struct buf up;

	if (!e)
		return calloc(1, sizeof(*e));
	up = e->up;
	memset(e, 0, sizeof(*e));
	e->up = up;
	return e;
}

/* Keeps it, or frees it: `up` may have grown with a body. */
static void put_spare(struct exchange *e)
{
	if (e->up.cap <= SPARE_UP_MAX_BYTES) {
		if (e->up.mem)
			explicit_bzero(e->up.mem, e->up.cap);
		buf_reset(&e->up);
		if (spares_put(&spares, e))
			return;
	}
	buf_wipe(&e->up);
	free(e);
}

const char *exchange_end_text(enum exchange_end end)
{
	return end_rows[end].text;
}

bool exchange_end_is_error(enum exchange_end end)
{
	return end_rows[end].is_error;
}

const struct sm *exchange_sm(void)
{
	return &sm;
}

static void on_destroy(struct deferred *d)
{
	struct exchange *e = CONTAINER_OF(d, struct exchange, destroy);

	deferred_cancel(&e->lease);
	upstream_unref(e->upstream);
	if (e->heartbeat)
		event_free(e->heartbeat);
	if (e->timeout)
		event_free(e->timeout);
	buf_fini(&e->response);
	for (int i = 0; i < KEYS; i++) {
		key_unref(e->keys[i]);
		secret_unref(e->used[i]);
	}
	put_spare(e);
}

static void move(struct exchange *e, enum exchange_state to)
{
	e->state = sm_move(&sm, e->id, e->state, to);
	if (to == EXCHANGE_LEASE || to == EXCHANGE_ENDED)
		deadline_clear(&e->deadline);
	if (to != EXCHANGE_ENDED)
		return;
	if (e->heartbeat)
		event_del(e->heartbeat);
	if (e->timeout)
		event_del(e->timeout);
}

/* The end: gives back what is held, reports, and lets the memory go after this turn. */
static void end(struct exchange *e, enum exchange_end reason, bool reusable)
{
	move(e, EXCHANGE_ENDED);
	upstream_ticket_cancel(&e->ticket);
	key_wait_cancel(&e->key_wait);
	upstream_release(&e->conn, reusable);
	gather_fini(&e->gather);
	e->report.end = reason;
	loop_defer(e->loop, &e->destroy);
	e->events->on_end(e->arg, &e->report);
}

/* Answers the client with an error of ours and ends. Only before a response head was passed on. */
static void refuse(struct exchange *e, enum exchange_end reason, unsigned status, const char *message)
{
	const struct answer_to to = {e->client, e->request_id, e->method == METHOD_HEAD, NULL};

	CHECK(e->state != EXCHANGE_BODY && e->state != EXCHANGE_TUNNEL && e->state != EXCHANGE_ENDED);
	e->report.status = status;
	answer_error(&to, status, "%s", message);
	end(e, reason, false);
}

void exchange_refuse(struct exchange *e, unsigned status, const char *fmt, ...)
{
	char message[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	refuse(e, EXCHANGE_END_REFUSED, status, message);
}

/* The same for what the upstream did or did not do. */
static void fail(struct exchange *e, enum exchange_end reason, unsigned status, const char *why)
{
	char message[512];

	snprintf(message, sizeof(message), "upstream %s: %s", upstream_name(e->upstream), why);
	refuse(e, reason, status, message);
}

/* The answer has begun and cannot be completed: the client sees it break off. */
static void cut(struct exchange *e)
{
	client_cut(e->client, CLIENT_END_CUT);
	end(e, EXCHANGE_END_CUT, false);
}

/* --- the request's way up ------------------------------------------------------------------------------------------ */

static void set_head_deadline(struct exchange *e)
{
	if (e->response_paused)
		return;
	deadline_set(upstream_deadlines(e->upstream, e->wait), &e->deadline);
}

static size_t unsent(const struct exchange *e)
{
	return e->up.len - e->up_sent;
}

static bool request_is_out(const struct exchange *e)
{
	return e->body_done && unsent(e) == 0 && !e->up_broken;
}

static void begin_lease(struct exchange *e, bool fresh);

/* Whether sending the whole request once more cannot make it run twice. */
static bool may_repeat(const struct exchange *e)
{
	if (e->state != EXCHANGE_HEAD || e->report.repeated || !upstream_conn_reused(e->conn) || e->response.len ||
	    e->interim)
		return false;
	return e->sent_total == 0 || (!e->has_body && route_is_safe(e->method));
}

/* Whether what else comes of the request is of no use to anybody. */
static bool drops_body(const struct exchange *e)
{
	return e->up_broken && !may_repeat(e);
}

/* The connection failed before a response head. */
static void broken(struct exchange *e, const char *why)
{
	if (!may_repeat(e)) {
		fail(e, EXCHANGE_END_BROKEN, 502, why);
		return;
	}
	e->report.repeated = true;
	e->up_sent = 0;
	e->sent_total = 0;
	e->up_broken = false;
	upstream_release(&e->conn, false);
	move(e, EXCHANGE_LEASE);
	begin_lease(e, true);
}

static void send_up(struct exchange *e)
{
	while (unsent(e) && !e->up_broken) {
		ssize_t n = upstream_conn_send(e->conn, buf_data(&e->up) + e->up_sent, unsent(e));
		if (n == -EAGAIN)
			break;
		if (n < 0) {
			/* It may have answered already and closed: what it sent is still to be read. */
			e->up_broken = true;
			/* What broke may be TLS and not the socket, which then tells nothing. */
			if (upstream_conn_is_buffered(e->conn))
				upstream_conn_read_again(e->conn);
			break;
		}
		e->up_sent += (size_t)n;
		/* What cannot be repeated anyway need not be kept. */
		e->sent_total += (uint64_t)n;
		if (e->has_body) {
			buf_consume(&e->up, e->up_sent);
			e->up_sent = 0;
		}
		/* In a tunnel `wait` is the idle time of streams. */
		set_head_deadline(e);
	}
	if (e->state == EXCHANGE_TUNNEL && e->client_ended && unsent(e) == 0)
		upstream_conn_shutdown(e->conn);
	upstream_conn_want_write(e->conn, unsent(e) && !e->up_broken);
	if (drops_body(e) || (!e->body_done && unsent(e) < UP_LOW_WATER))
		client_pause_body(e->client, false);
}

/* TUNNEL: over for both sides. */
static void end_tunnel(struct exchange *e)
{
	client_finish(e->client, false);
	end(e, EXCHANGE_END_DONE, false);
}

/* TUNNEL: passes on what the client sent; when the server has ended, that is all that was left to do. */
static void send_up_tunnel(struct exchange *e)
{
	send_up(e);
	if (e->server_ended && (e->up_broken || (e->client_ended && unsent(e) == 0)))
		end_tunnel(e);
}

static void on_conn_writable(void *arg)
{
	struct exchange *e = arg;

	if (e->state == EXCHANGE_TUNNEL)
		send_up_tunnel(e);
	else
		send_up(e);
}

static void add_body(struct exchange *e, const char *p, size_t n)
{
	if (drops_body(e) || n == 0)
		return;
	if (e->rechunk)
		buf_addf(&e->up, "%zx\r\n", n);
	buf_add(&e->up, p, n);
	if (e->rechunk)
		buf_add_str(&e->up, STR("\r\n"));
	if (unsent(e) > UP_HIGH_WATER)
		client_pause_body(e->client, true);
}

/* A part of the body found no memory: the request cannot be completed, and the exchange ends. */
static bool body_is_lost(struct exchange *e)
{
	if (!e->up.failed)
		return false;
	if (e->state == EXCHANGE_BODY)
		cut(e);
	else
		fail(e, EXCHANGE_END_NO_MEMORY, 503, "out of memory");
	return true;
}

static void gather(struct exchange *e, const char *p, size_t n)
{
	switch (gather_add(&e->gather, p, n)) {
	case GATHER_OK:
		return;
	case GATHER_TOO_LARGE:
		refuse(e, EXCHANGE_END_REQUEST_FAULT, 413, GATHER_TOO_LARGE_TEXT);
		return;
	case GATHER_NO_SHARE:
		refuse(e, EXCHANGE_END_REFUSED, 503, GATHER_NO_SHARE_TEXT);
		return;
	case GATHER_NO_MEMORY:
		refuse(e, EXCHANGE_END_NO_MEMORY, 503, "out of memory");
		return;
	}
}

static void on_slow_body(struct gather *g)
{
	refuse(CONTAINER_OF(g, struct exchange, gather), EXCHANGE_END_REQUEST_FAULT, 408, GATHER_SLOW_TEXT);
}

/* TUNNEL: bytes from the client. */
static void tunnel_up(struct exchange *e, const char *p, size_t n)
{
	e->report.bytes_up += n;
	if (e->up_broken)
		return;
	buf_add(&e->up, p, n);
	if (e->up.failed) {
		cut(e);
		return;
	}
	if (unsent(e) > UP_HIGH_WATER)
		client_pause_body(e->client, true);
	send_up_tunnel(e);
}

void exchange_body(struct exchange *e, const char *p, size_t n)
{
	if (e->state == EXCHANGE_ENDED)
		return;
	if (e->state == EXCHANGE_TUNNEL) {
		tunnel_up(e, p, n);
		return;
	}
	if (e->state == EXCHANGE_GATHER) {
		gather(e, p, n);
		return;
	}
	e->report.bytes_up += n;
	add_body(e, p, n);
	if (!body_is_lost(e) && e->conn)
		send_up(e);
}

void exchange_body_end(struct exchange *e)
{
	if (e->state == EXCHANGE_ENDED)
		return;
	if (e->state == EXCHANGE_TUNNEL) {
		e->client_ended = true;
		send_up_tunnel(e);
		return;
	}
	e->body_done = true;
	if (e->state == EXCHANGE_GATHER) {
		struct buf whole = e->gather.body;

		e->gather.body = BUF_EMPTY;
		e->report.bytes_up = whole.len;
		gather_end(&e->gather);
		if (e->shape && e->shape->on_whole_body)
			e->shape->on_whole_body(e->shape_arg, buf_str(&whole));
		else
			exchange_send_body(e, buf_str(&whole));
		buf_fini(&whole);
		return;
	}
	if (e->rechunk && !drops_body(e))
		buf_add_str(&e->up, STR("0\r\n\r\n"));
	if (!body_is_lost(e) && e->conn)
		send_up(e);
}

void exchange_send_body(struct exchange *e, struct str body)
{
	CHECK(e->state == EXCHANGE_GATHER && e->body_done);
	e->has_body = true;
	http_write_header_u64(&e->up, STR("Content-Length"), body.n);
	http_write_end(&e->up);
	buf_add_str(&e->up, body);
	if (e->up.failed) {
		refuse(e, EXCHANGE_END_NO_MEMORY, 503, "out of memory");
		return;
	}
	move(e, EXCHANGE_LEASE);
	if (e->started)
		exchange_start(e);
}

/* --- getting a connection ------------------------------------------------------------------------------------------- */

static void on_conn_readable(void *arg);

static const struct upstream_events conn_events = {
	.on_readable = on_conn_readable,
	.on_writable = on_conn_writable,
};

static void use_conn(struct exchange *e, struct upstream_conn *c)
{
	e->conn = c;
	upstream_conn_listen(c, &conn_events, e);
	move(e, EXCHANGE_HEAD);
	http_parser_init(&e->parser, HTTP_RESPONSE);
	send_up(e);
	/* Else sending has set it. */
	if (e->sent_total == 0)
		set_head_deadline(e);
}

static void on_lease(struct upstream_ticket *t, struct upstream_conn *c)
{
	use_conn(CONTAINER_OF(t, struct exchange, ticket), c);
}

static void on_lease_failed(struct upstream_ticket *t, enum upstream_failure failure, const char *why)
{
	struct exchange *e = CONTAINER_OF(t, struct exchange, ticket);

	switch (failure) {
	case UPSTREAM_REFUSED:
		fail(e, EXCHANGE_END_NO_UPSTREAM, 502, why);
		return;
	case UPSTREAM_TIMEOUT:
		fail(e, EXCHANGE_END_DIAL_TIMEOUT, 504, "connecting took longer than timeouts.connect");
		return;
	case UPSTREAM_WAITED:
		fail(e, EXCHANGE_END_NO_PLACE, 503, "no connection became free within pool.wait_timeout");
		return;
	case UPSTREAM_NO_MEMORY:
		fail(e, EXCHANGE_END_NO_MEMORY, 503, "out of memory");
		return;
	}
}

static void begin_lease(struct exchange *e, bool fresh)
{
	struct upstream_conn *c;
	const char *why;

	e->ticket.identity = e->user_id;
	e->ticket.on_lease = on_lease;
	e->ticket.on_failure = on_lease_failed;
	switch (upstream_lease(e->upstream, &e->ticket, fresh, &c)) {
	case UPSTREAM_LEASE_NOW:
		use_conn(e, c);
		return;
	case UPSTREAM_LEASE_WAIT:
		return;
	case UPSTREAM_LEASE_FULL:
		fail(e, EXCHANGE_END_NO_PLACE, 503,
		     "the pool and its queue are full (pool.max_connections, "
		     "pool.max_per_identity, pool.max_waiting)");
		return;
	case UPSTREAM_LEASE_DOWN:
		why = upstream_trouble(e->upstream);
		fail(e, EXCHANGE_END_NO_UPSTREAM, 502, why ? why : "cannot be reached");
		return;
	case UPSTREAM_LEASE_NO_MEMORY:
		fail(e, EXCHANGE_END_NO_MEMORY, 503, "out of memory");
		return;
	}
}

static void on_start(struct deferred *d)
{
	struct exchange *e = CONTAINER_OF(d, struct exchange, lease);

	if (e->state == EXCHANGE_LEASE)
		begin_lease(e, false);
}

/* --- the answer's way down ------------------------------------------------------------------------------------------- */

static void set_body_deadline(struct exchange *e)
{
	set_head_deadline(e);
}

static void write_framing(struct exchange *e, const struct http_head *head, struct buf *out)
{
	bool old_client = client_minor(e->client) == 0;

	enum http_framing framing = head->framing;

	e->down = DOWN_AS_IS;
	/* What is left of a filtered body has another length, which a HEAD must not tell either. */
	if ((e->use == EXCHANGE_FILTER || e->hides_length) && framing == HTTP_BODY_LENGTH)
		framing = HTTP_BODY_CHUNKED;
	switch (framing) {
	case HTTP_BODY_NONE:
		return;
	case HTTP_BODY_LENGTH:
		http_write_header_u64(out, STR("Content-Length"), head->content_length);
		return;
	case HTTP_BODY_CHUNKED:
	case HTTP_BODY_UNTIL_CLOSE:
		if (e->method == METHOD_HEAD && head->framing == HTTP_BODY_UNTIL_CLOSE)
			return;
		if (old_client)
			e->down = DOWN_PLAIN;
		else if (head->framing == HTTP_BODY_UNTIL_CLOSE || e->heartbeat || e->use == EXCHANGE_FILTER)
			e->down = DOWN_CHUNK;
		if (!old_client)
			http_write_header(out, STR("Transfer-Encoding"), STR("chunked"));
		return;
	}
}

static void begin_response_head(const struct exchange *e, const struct http_head *head, bool websocket, struct buf *out)
{
	const struct rewrite_response r = {head, websocket, e->used[KEY_ORDINARY], e->used[KEY_ADMIN], e->preview};

	rewrite_response_head(&r, out);
}

/* What every answer has; a sandbox's own has none of it but how the connection goes on. */
static void end_response_head(const struct exchange *e, bool keep, struct buf *out)
{
	if (e->preview)
		answer_add_connection(out, e->client, keep);
	else
		answer_add_common(out, e->client, e->request_id, keep);
	http_write_end(out);
}

/* The head for the client: the upstream's, with our framing and ours behind it. */
static void write_response_head(struct exchange *e, const struct http_head *head, struct str extra, struct buf *out)
{
	begin_response_head(e, head, false, out);
	buf_add_str(out, extra);
	write_framing(e, head, out);
	e->client_keeps = client_may_keep_alive(e->client) && e->down != DOWN_PLAIN && e->body_done;
	end_response_head(e, e->client_keeps, out);
}

/* Both messages are over, or the response is and the request can no longer matter. */
static void finish(struct exchange *e)
{
	bool reusable = e->server_keeps && !e->left_over && request_is_out(e);

	client_finish(e->client, e->client_keeps);
	end(e, EXCHANGE_END_DONE, reusable);
}

static void arm_heartbeat(struct exchange *e)
{
	struct timeval tv = clock_span(e->heartbeat_ms);

	if (e->heartbeat_ms)
		event_add(e->heartbeat, &tv);
}

/*
 * A silent stream is kept alive for clients with a read timeout: by a blank line, which every NDJSON reader skips, or a
 * comment (SSE), and only where a line has ended. We make the chunks of such a response, so this is one more of them.
 */
static void on_heartbeat(evutil_socket_t fd, short what, void *arg)
{
	struct exchange *e = arg;

	(void)fd;
	(void)what;
	if (e->state != EXCHANGE_BODY)
		return;
	if (e->whole_line)
		client_send(e->client, e->sse ? STR("2\r\n:\n\r\n") : STR("1\r\n\n\r\n"), str_of(NULL, 0));
	arm_heartbeat(e);
}

void exchange_draining(struct exchange *e)
{
	if (e->state == EXCHANGE_BODY && e->heartbeat && e->whole_line && !e->response_paused)
		client_send(e->client, e->sse ? STR("a\r\n:stopping\n\r\n") : STR("1\r\n\n\r\n"), str_of(NULL, 0));
}

/* Decides before the head is written whether this response gets heartbeats. */
static int prepare_heartbeat(struct exchange *e, const struct http_head *head)
{
	bool framed = head->framing == HTTP_BODY_CHUNKED || head->framing == HTTP_BODY_UNTIL_CLOSE;

	if (!framed || client_minor(e->client) == 0 || !http_head_is_stream(head))
		return 0;
	/* A comment is nothing to any reader, so events are told of a drain in any case; blank lines are only where they are wanted. */
	e->sse = http_head_is_type(head, STR("text/event-stream"));
	if (e->heartbeat_ms == 0 && !e->sse)
		return 0;
	/* HEAD is answered without a body, and within a compressed one a line of ours would be a part of it. */
	if (e->method == METHOD_HEAD || http_head_find(head, STR("content-encoding")))
		return 0;
	e->heartbeat = evtimer_new(loop_base(e->loop), on_heartbeat, e);
	if (!e->heartbeat)
		return -ENOMEM;
	e->whole_line = true;
	arm_heartbeat(e);
	return 0;
}

static void collect_data(void *arg, const char *p, size_t n)
{
	struct buf *out = arg;

	buf_add(out, p, n);
}

/* The client is slow: nothing is read for it until on_drained, and that is not the upstream's delay. */
static void pause_response(struct exchange *e)
{
	upstream_conn_pause_read(e->conn, true);
	deadline_clear(&e->deadline);
	e->response_paused = true;
}

/* Sends head (may be empty) and body bytes that were agreed to, framed as this client needs it; false without memory. */
static bool send_down(struct exchange *e, struct str head, struct str wire, const struct buf *data, bool last)
{
	struct buf framed = BUF_EMPTY;
	bool more = true;

	/* A stream that gets heartbeats is taken apart, so what passes is in `data`. */
	if (e->heartbeat && data->len) {
		e->whole_line = buf_data(data)[data->len - 1] == '\n';
		arm_heartbeat(e);
	}
	switch (e->down) {
	case DOWN_AS_IS:
		more = client_send(e->client, head, wire);
		break;
	case DOWN_PLAIN:
		more = client_send(e->client, head, buf_str(data));
		break;
	case DOWN_CHUNK:
		if (data->len) {
			buf_addf(&framed, "%zx\r\n", data->len);
			buf_add_str(&framed, buf_str(data));
			buf_add_str(&framed, STR("\r\n"));
		}
		if (last)
			buf_add_str(&framed, STR("0\r\n\r\n"));
		if (framed.failed)
			break;
		more = client_send(e->client, head, buf_str(&framed));
		break;
	}
	if (!more && !last)
		pause_response(e);
	more = !framed.failed;
	buf_fini(&framed);
	return more;
}

/* Passes on what the filter lets through; false when the rest cannot pass. */
static bool filter_down(struct exchange *e, struct str head, struct str data, bool last)
{
	struct buf out = BUF_EMPTY;
	bool ok = e->shape->on_data(e->shape_arg, data, last, &out) && !out.failed;

	if (ok || head.n)
		ok = send_down(e, head, str_of(NULL, 0), &out, last && ok) && ok;
	buf_fini(&out);
	return ok;
}

/* After body bytes were passed on. */
static void after_relay(struct exchange *e, enum http_result rc)
{
	switch (rc) {
	case HTTP_MORE:
		set_body_deadline(e);
		return;
	case HTTP_DONE:
		finish(e);
		return;
	case HTTP_BAD:
		cut(e);
		return;
	}
}

/* --- a key that the server refuses ------------------------------------------------------------------------------------ */

/* Sends the request again, with the keys as they are now. */
static void begin_anew(struct exchange *e)
{
	struct secret *fresh[KEYS] = {NULL};

	for (int i = 0; i < KEYS; i++) {
		if (!e->keys[i] || key_secret(e->keys[i]) == e->used[i])
			continue;
		fresh[i] = key_secret(e->keys[i]);
		secret_unref(e->used[i]);
		e->used[i] = secret_ref(fresh[i]);
	}
	rewrite_request_keys(&e->up, fresh[KEY_ORDINARY], fresh[KEY_ADMIN]);
	if (e->up.failed)
		fail(e, EXCHANGE_END_NO_MEMORY, 503, "out of memory");
	else
		begin_lease(e, true);
}

static void on_key_settled(struct key_wait *w)
{
	begin_anew(CONTAINER_OF(w, struct exchange, key_wait));
}

/*
 * A 401: the keys are read again. Whether this exchange begins anew: its request may be sent twice, and another key is there
 * or may yet come; then the 401 is dropped with its connection.
 */
static bool begins_anew_with_key(struct exchange *e)
{
	bool repeatable = !e->rekeyed && !e->has_body && route_is_safe(e->method);
	bool changed = false;
	bool awaited = false;

	for (int i = 0; i < KEYS; i++) {
		enum key_verdict v = KEY_SAME;
		if (e->keys[i])
			v = key_refused(e->keys[i], e->used[i], repeatable && !awaited ? &e->key_wait : NULL);
		changed = changed || v == KEY_CHANGED;
		awaited = awaited || v == KEY_AWAITED;
	}
	if (!repeatable || (!changed && !awaited))
		return false;
	e->rekeyed = e->report.repeated = true;
	e->up_sent = 0;
	e->sent_total = 0;
	e->up_broken = false;
	e->interim = 0;
	upstream_release(&e->conn, false);
	move(e, EXCHANGE_LEASE);
	if (changed) {
		key_wait_cancel(&e->key_wait);
		begin_anew(e);
	}
	return true;
}

/* Body bytes from the upstream; `head` goes out before them in the same send. */
static void relay(struct exchange *e, struct str head, const char *p, size_t n)
{
	struct buf data = BUF_EMPTY;
	bool convert = e->down != DOWN_AS_IS || e->use == EXCHANGE_FILTER;
	size_t used;
	enum http_result rc = http_parse_body(&e->parser, p, n, &used, convert ? collect_data : NULL, &data);

	e->report.bytes_down += used;
	e->left_over = rc == HTTP_DONE && used < n;
	/* What is lost for want of memory must not look like the end. */
	if (data.failed)
		rc = HTTP_BAD;
	else if (e->use == EXCHANGE_FILTER)
		rc = rc != HTTP_BAD && filter_down(e, head, buf_str(&data), rc == HTTP_DONE) ? rc : HTTP_BAD;
	else if (!send_down(e, head, str_of(p, used), &data, rc == HTTP_DONE))
		rc = HTTP_BAD;
	buf_fini(&data);
	after_relay(e, rc);
}

/* Asks what is to be done to the response; false when that has ended the exchange. */
static bool shape_response(struct exchange *e, const struct http_head *head, struct buf *extra)
{
	if (!e->shape || !e->shape->on_head)
		return true;
	e->use = e->shape->on_head(e->shape_arg, head, extra);
	if (e->use == EXCHANGE_REFUSED)
		return false;
	/* What is encoded cannot be looked into; and an answer without a body has none to filter. */
	if (e->use == EXCHANGE_FILTER && http_head_find(head, STR("content-encoding"))) {
		fail(e, EXCHANGE_END_BROKEN, 502, "encoded an answer that must be filtered");
		return false;
	}
	if (e->use == EXCHANGE_FILTER && (e->method == METHOD_HEAD || head->framing == HTTP_BODY_NONE)) {
		e->use = EXCHANGE_PASS;
		e->hides_length = true;
	}
	return true;
}

/* A complete response head; the bytes behind it are body. */
static void on_head(struct exchange *e, const struct http_head *head, const char *p, size_t n)
{
	static struct buf out;   /* used within this call only; its memory is kept for the next head */
	static struct buf extra; /* the same */

	if (head->status == 401 && begins_anew_with_key(e))
		return;
	buf_reset(&out);
	buf_reset(&extra);
	e->report.upstream_status = head->status;
	e->report.status = head->status;
	e->server_keeps = head->keep_alive;
	if (e->method == METHOD_HEAD)
		http_parser_no_body(&e->parser);
	if (!shape_response(e, head, &extra))
		return;
	if (prepare_heartbeat(e, head) || extra.failed)
		out.failed = true;
	write_response_head(e, head, buf_str(&extra), &out);
	if (out.failed) {
		fail(e, EXCHANGE_END_NO_MEMORY, 503, "out of memory");
		return;
	}
	move(e, EXCHANGE_BODY);
	e->wait = http_head_is_stream(head) ? UPSTREAM_WAIT_STREAM : UPSTREAM_WAIT_BODY;
	if (http_head_is_stream(head))
		client_end_means_gone(e->client);
	relay(e, buf_str(&out), p, n);
}

/* --- after a switch of protocols ------------------------------------------------------------------------------------- */

static void tunnel_down(struct exchange *e, const char *p, size_t n)
{
	e->report.bytes_down += n;
	set_body_deadline(e);
	if (!client_send(e->client, str_of(p, n), str_of(NULL, 0)))
		pause_response(e);
}

/* The server agreed to the handshake: what is behind its head, and everything after it, passes as it is. */
static void begin_tunnel(struct exchange *e, const struct http_head *head, const char *p, size_t n)
{
	struct buf out = BUF_EMPTY;

	e->report.status = e->report.upstream_status = head->status;
	begin_response_head(e, head, true, &out);
	end_response_head(e, true, &out);
	if (out.failed) {
		buf_fini(&out);
		fail(e, EXCHANGE_END_NO_MEMORY, 503, "out of memory");
		return;
	}
	move(e, EXCHANGE_TUNNEL);
	e->wait = UPSTREAM_WAIT_STREAM;
	e->has_body = true;   /* `up` holds only what is unsent from now on, */
	e->body_done = false; /* and the client is read again when that has become little */
	buf_consume(&e->up, e->up_sent);
	e->up_sent = 0;
	client_send(e->client, buf_str(&out), str_of(NULL, 0));
	buf_fini(&out);
	client_tunnel(e->client);
	set_body_deadline(e);
	if (n)
		tunnel_down(e, p, n);
}

/*
 * The server has finished sending. What the client still sends is passed on for as long as some comes: like a body, since
 * a server that is gone altogether may not look different.
 */
static void on_tunnel_eof(struct exchange *e)
{
	if (upstream_conn_is_gone(e->conn) || e->up_broken || (e->client_ended && unsent(e) == 0)) {
		end_tunnel(e);
		return;
	}
	e->server_ended = true;
	upstream_conn_pause_read(e->conn, true);
	client_end_output(e->client);
	e->wait = UPSTREAM_WAIT_BODY;
	set_body_deadline(e);
}

/* Whether this 101 is the one that was asked for (RFC 6455 4.1); the key's digest is the client's to check. */
static bool is_agreed_switch(const struct exchange *e, const struct http_head *head)
{
	return e->websocket && request_is_out(e) && head->status == 101 &&
	       http_head_has_token(head, STR("upgrade"), STR("websocket")) &&
	       http_head_has_token(head, STR("connection"), STR("upgrade"));
}

/* Looks for a response head in the bytes at hand; how many were used, all of them in the end. */
static void parse_head(struct exchange *e, const char *p, size_t n)
{
	static struct http_head head; /* used within this call only */
	size_t used;

	for (;;) {
		switch (http_parse_head(&e->parser, p, n, &head, &used)) {
		case HTTP_MORE:
			if (e->response.len == 0 && n)
				buf_add(&e->response, p, n);
			if (e->response.failed)
				fail(e, EXCHANGE_END_NO_MEMORY, 503, "out of memory");
			return;
		case HTTP_BAD:
			fail(e, EXCHANGE_END_BROKEN, 502, e->parser.why);
			return;
		case HTTP_DONE:
			break;
		}
		if (is_agreed_switch(e, &head)) {
			begin_tunnel(e, &head, p + used, n - used);
			return;
		}
		if (head.status == 101 || (head.status < 200 && ++e->interim > INTERIM_MAX)) {
			fail(e, EXCHANGE_END_BROKEN, 502,
			     head.status == 101 ? "switched protocols unasked" : "too many interim responses");
			return;
		}
		if (head.status >= 200) {
			on_head(e, &head, p + used, n - used);
			return;
		}
		/* Interim responses were not asked for: Expect is not passed on (RFC 9110 15.2). */
		http_parser_init(&e->parser, HTTP_RESPONSE);
		p += used;
		n -= used;
	}
}

static void take_response(struct exchange *e, const char *p, size_t n)
{
	struct buf kept;

	if (e->state == EXCHANGE_BODY) {
		relay(e, str_of(NULL, 0), p, n);
		return;
	}
	if (e->state == EXCHANGE_TUNNEL) {
		tunnel_down(e, p, n);
		return;
	}
	if (e->response.len == 0) {
		parse_head(e, p, n);
		return;
	}
	buf_add(&e->response, p, n);
	if (e->response.failed) {
		fail(e, EXCHANGE_END_NO_MEMORY, 503, "out of memory");
		return;
	}
	/* The head may end in here and the rest be kept anew, so the old bytes move out of the way. */
	kept = e->response;
	e->response = BUF_EMPTY;
	parse_head(e, buf_data(&kept), kept.len);
	buf_fini(&kept);
}

static void on_response_eof(struct exchange *e, const char *why)
{
	struct buf nothing = BUF_EMPTY;

	if (e->state == EXCHANGE_HEAD) {
		broken(e, why);
		return;
	}
	if (e->state == EXCHANGE_TUNNEL) {
		on_tunnel_eof(e);
		return;
	}
	if (http_parse_eof(&e->parser) != HTTP_DONE) {
		cut(e);
		return;
	}
	if (e->use == EXCHANGE_FILTER)
		after_relay(e, filter_down(e, str_of(NULL, 0), str_of(NULL, 0), true));
	else if (send_down(e, str_of(NULL, 0), str_of(NULL, 0), &nothing, true))
		finish(e);
	else
		cut(e);
}

/* One read; false when there was nothing. */
static bool read_response(struct exchange *e)
{
	ssize_t n = upstream_conn_recv(e->conn, scratch, sizeof(scratch));

	if (n == -EAGAIN)
		return false;
	if (n > 0)
		take_response(e, scratch, (size_t)n);
	else if (n < 0 && e->state == EXCHANGE_BODY)
		cut(e); /* a reset ends no message, not even one that goes on until the close */
	else
		on_response_eof(e, n == 0 ? "closed the connection before it answered" : "the connection broke");
	return true;
}

static void on_conn_readable(void *arg)
{
	struct exchange *e = arg;

	/* Once, unless more may lie in a buffer of TLS; a connection's work in one turn is bounded. */
	for (int i = 0; i < READS_PER_TURN; i++)
		if (!read_response(e) || !e->conn || !upstream_conn_is_buffered(e->conn))
			return;
	upstream_conn_read_again(e->conn);
}

static void on_deadline(struct deadline *d)
{
	struct exchange *e = CONTAINER_OF(d, struct exchange, deadline);

	if (e->state == EXCHANGE_HEAD) {
		fail(e, EXCHANGE_END_TIMEOUT, 504, "did not answer in time (timeouts)");
		return;
	}
	CHECK(e->state == EXCHANGE_BODY || e->state == EXCHANGE_TUNNEL);
	if (e->server_ended)
		end_tunnel(e);
	else
		cut(e);
}

/* Stacygate-Timeout has passed, wherever the exchange is. */
static void on_timeout(evutil_socket_t fd, short what, void *arg)
{
	struct exchange *e = arg;

	(void)fd;
	(void)what;
	if (e->state == EXCHANGE_ENDED)
		return;
	if (e->state == EXCHANGE_BODY || e->state == EXCHANGE_TUNNEL)
		cut(e);
	else
		fail(e, EXCHANGE_END_TIMEOUT, 504, "did not answer within Stacygate-Timeout");
}

static int set_timeout(struct exchange *e, uint64_t ms)
{
	struct timeval tv = clock_span(ms);

	if (ms == 0)
		return 0;
	e->timeout = evtimer_new(loop_base(e->loop), on_timeout, e);
	return e->timeout && event_add(e->timeout, &tv) == 0 ? 0 : -ENOMEM;
}

/* --- the client's side ------------------------------------------------------------------------------------------------ */

void exchange_drained(struct exchange *e)
{
	if (e->state != EXCHANGE_BODY && e->state != EXCHANGE_TUNNEL)
		return;
	e->response_paused = false;
	set_body_deadline(e);
	upstream_conn_pause_read(e->conn, false);
}

void exchange_gone(struct exchange *e, enum exchange_end why)
{
	if (e->state == EXCHANGE_ENDED)
		return;
	end(e, why, false);
}

bool exchange_abort(struct exchange *e)
{
	bool begun = e->state == EXCHANGE_BODY;

	if (begun)
		client_cut(e->client, CLIENT_END_FAULT);
	if (e->state != EXCHANGE_ENDED)
		end(e, EXCHANGE_END_REQUEST_FAULT, false);
	return !begun;
}

/* --- beginning --------------------------------------------------------------------------------------------------------- */

static int write_request_head(struct exchange *e, const struct exchange_grant *grant,
			      const struct exchange_request *request)
{
	const struct rewrite_request r = {
		.head = request->head,
		.target = request->target,
		.authority = upstream_authority(grant->upstream),
		.key = e->used[KEY_ORDINARY],
		.admin_key = e->used[KEY_ADMIN],
		.user_id = grant->user_id,
		.request_id = e->request_id,
		.trace_lines = request->trace_lines,
		.whole = request->whole,
		.websocket = e->websocket,
	};

	return e->preview ? rewrite_preview_head(&r, &e->up) : rewrite_request_head(&r, &e->up);
}

/* Says how the body is framed, unless it is to be gathered first. */
static void write_request_framing(struct exchange *e, const struct http_head *head)
{
	if (e->state == EXCHANGE_GATHER)
		return;
	if (head->framing == HTTP_BODY_LENGTH)
		http_write_header_u64(&e->up, STR("Content-Length"), head->content_length);
	else if (e->rechunk)
		http_write_header(&e->up, STR("Transfer-Encoding"), STR("chunked"));
	http_write_end(&e->up);
}

static void take_key(struct exchange *e, int which, struct key *key)
{
	if (!key)
		return;
	CHECK(key_secret(key));
	e->keys[which] = key_ref(key);
	e->used[which] = secret_ref(key_secret(key));
}

static enum upstream_wait wait_of(enum route_wait wait)
{
	switch (wait) {
	case ROUTE_WAIT_RESPONSE:
		return UPSTREAM_WAIT_RESPONSE;
	case ROUTE_WAIT_SPAWN:
		return UPSTREAM_WAIT_SPAWN;
	case ROUTE_WAIT_EXEC:
		return UPSTREAM_WAIT_EXEC;
	}
	return UPSTREAM_WAIT_RESPONSE;
}

int exchange_new(struct loop *loop, struct client *client, const struct exchange_grant *grant,
		 const struct exchange_request *request, const struct exchange_events *events, void *arg,
		 struct exchange **out)
{
	struct exchange *e = take_spare();
	const struct http_head *head = request->head;
	int rc;

	if (!e)
		return -ENOMEM;
	e->loop = loop;
	e->client = client;
	e->events = events;
	e->arg = arg;
	e->id = client_id(client);
	e->upstream = upstream_ref(grant->upstream);
	e->method = head->method;
	e->wait = wait_of(request->route->wait);
	e->has_body = head->framing != HTTP_BODY_NONE;
	bool gathers = request->gather ||
		       (head->framing == HTTP_BODY_CHUNKED && (request->route->read_whole || request->route->unchunk));
	e->rechunk = head->framing == HTTP_BODY_CHUNKED && !gathers;
	e->state = gathers ? EXCHANGE_GATHER : EXCHANGE_LEASE;
	e->shape = request->shape;
	e->shape_arg = request->shape_arg;
	memcpy(e->request_id, request->request_id, strlen(request->request_id) + 1);
	deadline_init(&e->deadline, on_deadline);
	deferred_init(&e->lease, on_start);
	deferred_init(&e->destroy, on_destroy);
	list_init(&e->ticket.link);
	key_wait_init(&e->key_wait, on_key_settled);
	take_key(e, KEY_ORDINARY, grant->key);
	take_key(e, KEY_ADMIN, grant->admin_key);
	e->websocket = head->upgrade_websocket && head->method == METHOD_GET && !e->has_body && !request->no_upgrade;
	e->preview = request->preview;
	e->heartbeat_ms = grant->heartbeat_ms;
	e->user_id = grant->user_id;
	e->body_done = !e->has_body;
	rc = set_timeout(e, request->timeout_ms);
	if (rc == 0)
		rc = write_request_head(e, grant, request);
	if (rc == 0)
		write_request_framing(e, head);
	if (rc == 0 && e->up.failed)
		rc = -ENOMEM;
	if (rc) {
		on_destroy(&e->destroy);
		return rc;
	}
	if (gathers) {
		gather_init(&e->gather, grant->gather, grant->uid_bodies_bytes, on_slow_body);
		e->gather.held = true;
	}
	*out = e;
	return 0;
}

/*
 * The connection is taken at the end of the turn, when every idle one that has closed or spoken is known, and all that were
 * given back in it are at hand.
 */
void exchange_start(struct exchange *e)
{
	client_pause_body(e->client, false);
	e->started = true;
	e->gather.held = false;
	if (e->wait == UPSTREAM_WAIT_EXEC)
		client_end_means_gone(e->client);
	if (e->state == EXCHANGE_LEASE)
		loop_defer(e->loop, &e->lease);
}

bool exchange_take_way(struct exchange *e, struct upstream *way, const char *host)
{
	CHECK(e->preview && !e->started);
	upstream_unref(e->upstream);
	e->upstream = upstream_ref(way);
	rewrite_preview_host(&e->up, host);
	return !e->up.failed;
}

void exchange_hold_body(struct exchange *e)
{
	CHECK(!e->started);
	if (!e->body_done)
		client_pause_body(e->client, true);
}
