/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection reads a head, then a body, hands the request over and sends the answer; then the next request, from
 * what has arrived meanwhile. Requests are answered in order, one at a time.
 *
 *     HEAD -> [BODY ->] WORKING -> HEAD ...             a request after the other
 *     HEAD -> WORKING -> CLOSED                         held and taken away: what comes behind the head is not parsed
 *     HEAD, BODY -> DISCARDING -> HEAD                  answered before the body was there (401, 404): it is swallowed
 *     any -> FLUSHING -> LINGERING -> CLOSED            the last answer goes out, then the client is waited for, since
 *                                                       a close with bytes unread would destroy what it has not read
 *     any -> CLOSED                                     the client has gone, or time is up
 *
 * Nothing is sent from within the handler's calls: they fill `out`, which the work put off to the end of the turn
 * sends. So no callback of ours runs on top of the handler, and small pieces leave together. While a request is
 * worked on reading goes on, to hear of the client's close; once too many pipelined bytes wait, only the close is
 * listened for.
 */
#include "local/conn.h"

#include <errno.h>
#include <event2/event.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/buf.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/fd.h"
#include "common/json_write.h"
#include "common/log.h"
#include "local/conn_private.h"

enum {
	STEPS_PER_TURN = 16,
	IN_HIGH_BYTES = 64 << 10, /* pipelined bytes beyond this are left in the kernel */
	OUT_LOW_BYTES = 64 << 10, /* an answer that was asked to pause goes on below this */
};

static void conn_close(struct conn *c);
static void tell_half_closed(struct conn *c);

/* --- states ----------------------------------------------------------------------------------------------------- */

#define EDGE(state) (1u << (state))

static const unsigned edges[CONN_STATES] = {
	[CONN_HEAD] =
		EDGE(CONN_BODY) | EDGE(CONN_WORKING) | EDGE(CONN_DISCARDING) | EDGE(CONN_FLUSHING) | EDGE(CONN_CLOSED),
	[CONN_BODY] = EDGE(CONN_WORKING) | EDGE(CONN_FLUSHING) | EDGE(CONN_CLOSED),
	[CONN_DISCARDING] = EDGE(CONN_HEAD) | EDGE(CONN_FLUSHING) | EDGE(CONN_CLOSED),
	[CONN_WORKING] = EDGE(CONN_HEAD) | EDGE(CONN_FLUSHING) | EDGE(CONN_CLOSED),
	[CONN_FLUSHING] = EDGE(CONN_LINGERING) | EDGE(CONN_CLOSED),
	[CONN_LINGERING] = EDGE(CONN_CLOSED),
};

/* Sets the deadline that belongs to the state; called again when the client has made progress. */
static void set_wait(struct conn *c)
{
	switch (c->state) {
	case CONN_HEAD:
		deadline_set(c->in.len ? &c->shared->head : &c->shared->idle, &c->wait);
		return;
	case CONN_BODY:
	case CONN_DISCARDING:
		deadline_set(&c->shared->body, &c->wait);
		return;
	case CONN_LINGERING:
		deadline_set(&c->shared->linger, &c->wait);
		return;
	case CONN_WORKING:
	case CONN_FLUSHING:
	case CONN_CLOSED:
	case CONN_STATES:
		deadline_clear(&c->wait);
		return;
	}
}

static void conn_move(struct conn *c, enum conn_state to)
{
	CHECK(edges[c->state] & EDGE(to));
	c->state = to;
	set_wait(c);
}

static bool wants_read(const struct conn *c)
{
	switch (c->state) {
	case CONN_HEAD:
	case CONN_WORKING:
		return !c->eof && c->in.len < IN_HIGH_BYTES;
	case CONN_BODY:
	case CONN_DISCARDING:
	case CONN_FLUSHING:
	case CONN_LINGERING:
		return !c->eof;
	case CONN_CLOSED:
	case CONN_STATES:
		return false;
	}
	return false;
}

static void set_pending(struct event *ev, short what, bool on)
{
	if (on && !event_pending(ev, what, NULL))
		event_add(ev, NULL);
	else if (!on && event_pending(ev, what, NULL))
		event_del(ev);
}

static void update_interest(struct conn *c)
{
	bool reading = wants_read(c);

	set_pending(c->read_ev, EV_READ, reading);
	set_pending(c->close_ev, EV_CLOSED, !reading && !c->eof && c->state == CONN_WORKING && !c->half_told);
	set_pending(c->write_ev, EV_WRITE, c->out.len > 0 && c->state != CONN_CLOSED);
}

/* --- what the front itself refuses ------------------------------------------------------------------------------ */

/* In the API's words. */
static const char *refusal_code(unsigned status)
{
	switch (status) {
	case 408:
		return "TIMEOUT";
	case 413:
		return "TOO_LARGE";
	case 431:
		return "HEADERS_TOO_LARGE";
	case 503:
		return "UNAVAILABLE";
	default:
		return "BAD_REQUEST";
	}
}

/* Answers for the handler, which hears that the request is over, and ends the connection. */
static void refuse(struct conn *c, unsigned status, const char *why)
{
	struct buf body = BUF_EMPTY;
	struct json_writer w = json_writer(&body);

	if (c->req.watch && c->req.watch->on_gone)
		c->req.watch->on_gone(c->req.watch_arg);
	c->req.watch = NULL;
	c->req.keep_alive = false;
	json_object_begin(&w, NULL);
	json_cstr(&w, "code", refusal_code(status));
	json_cstr(&w, "message", why);
	json_object_end(&w);
	buf_add_char(&body, '\n');
	if (status == 405)
		conn_respond(c, status, NULL, STR(""), STR(""));
	else
		conn_respond(c, status, "application/json", status == 503 ? STR("Retry-After: 1\r\n") : STR(""),
			     buf_str(&body));
	buf_fini(&body);
	conn_move(c, CONN_FLUSHING);
}

/* --- steps: each takes the connection on from what has arrived; false when it must wait -------------------------- */

static void hand_over(struct conn *c)
{
	conn_move(c, CONN_WORKING);
	c->shared->handler->on_request(c->shared->handler_arg, c);
	if (c->eof)
		tell_half_closed(c);
}

/* A head was handed to the handler; where the connection goes from there. */
static void after_head(struct conn *c, const struct http_head *head)
{
	CHECK(c->ans.state != ANSWER_OPEN);
	if (c->req.held) {
		conn_move(c, CONN_WORKING);
		if (c->eof)
			tell_half_closed(c);
		return;
	}
	if (c->ans.state == ANSWER_DONE) {
		if (!c->req.keep_alive)
			conn_move(c, CONN_FLUSHING);
		else
			conn_move(c, head->framing == HTTP_BODY_NONE ? CONN_WORKING : CONN_DISCARDING);
		return;
	}
	if (head->framing == HTTP_BODY_LENGTH && head->content_length > c->req.limit.bytes) {
		refuse(c, c->req.limit.status,
		       c->req.limit.status == 413 ? "request body too large" : "invalid request body");
		return;
	}
	if (head->framing == HTTP_BODY_NONE) {
		hand_over(c);
		return;
	}
	if (head->expect_continue && c->in.len == 0) {
		buf_add_str(&c->out, STR("HTTP/1.1 100 Continue\r\n\r\n"));
		loop_defer(c->shared->loop, &c->work);
	}
	conn_move(c, CONN_BODY);
}

static bool step_head(struct conn *c)
{
	struct http_head *head = &c->shared->scratch_head;
	size_t head_bytes = 0;
	enum http_result rc;

	if (c->in.len == 0 || c->out.len > OUT_HIGH_BYTES)
		return false;
	rc = http_parse_head(&c->parser, buf_data(&c->in), c->in.len, head, &head_bytes);
	if (rc == HTTP_MORE)
		return false;
	c->req.began_ns = clock_ns();
	if (rc == HTTP_BAD) {
		refuse(c, c->parser.status, c->parser.why);
		return true;
	}
	if (!conn_request_keep(c, head, head_bytes)) {
		refuse(c, 503, "out of memory");
		return true;
	}
	buf_consume(&c->in, head_bytes);
	c->req.limit = c->shared->handler->on_head(c->shared->handler_arg, c);
	after_head(c, head);
	return true;
}

static void on_body_data(void *arg, const char *p, size_t n)
{
	struct conn *c = arg;

	if (c->req.body.failed || c->req.body.len > c->req.limit.bytes)
		return;
	buf_add(&c->req.body, p, n);
	if (!c->req.body.failed)
		c->shared->body_bytes += n;
}

static bool step_body(struct conn *c)
{
	size_t used = 0;
	enum http_result rc = http_parse_body(&c->parser, buf_data(&c->in), c->in.len, &used, on_body_data, c);

	buf_consume(&c->in, used);
	c->req.body_left -= used < c->req.body_left ? used : c->req.body_left;
	if (rc == HTTP_BAD)
		refuse(c, c->parser.status, c->parser.why);
	else if (c->req.body.len > c->req.limit.bytes)
		refuse(c, c->req.limit.status,
		       c->req.limit.status == 413 ? "request body too large" : "invalid request body");
	else if (c->req.body.failed || c->shared->body_bytes > c->shared->body_limit)
		refuse(c, 503, "too many request bodies at a time");
	else if (rc == HTTP_DONE)
		hand_over(c);
	else
		return false;
	return true;
}

static void begin_next(struct conn *c)
{
	conn_request_reset(c);
	http_parser_init(&c->parser, HTTP_REQUEST);
	if (c->in.len == 0)
		buf_wipe(&c->in); /* a key may have been in it */
	if (c->shared->draining || (c->eof && c->in.len == 0))
		conn_move(c, CONN_FLUSHING);
	else
		conn_move(c, CONN_HEAD);
}

static bool step_discard(struct conn *c)
{
	size_t used = 0;
	enum http_result rc = http_parse_body(&c->parser, buf_data(&c->in), c->in.len, &used, NULL, NULL);

	buf_consume(&c->in, used);
	c->req.discarded += used;
	if (rc == HTTP_DONE)
		begin_next(c);
	else if (rc == HTTP_BAD || c->req.discarded > DISCARD_MAX_BYTES)
		conn_move(c, CONN_FLUSHING);
	else
		return false;
	return true;
}

static bool step_working(struct conn *c)
{
	if (c->ans.state != ANSWER_DONE)
		return false;
	if (c->req.keep_alive)
		begin_next(c);
	else
		conn_move(c, CONN_FLUSHING);
	return true;
}

static bool step_flushing(struct conn *c)
{
	if (c->out.len)
		return false;
	if (c->eof || shutdown(c->fd, SHUT_WR) < 0)
		conn_close(c);
	else
		conn_move(c, CONN_LINGERING);
	return true;
}

static bool step(struct conn *c)
{
	switch (c->state) {
	case CONN_HEAD:
		return step_head(c);
	case CONN_BODY:
		return step_body(c);
	case CONN_DISCARDING:
		return step_discard(c);
	case CONN_WORKING:
		return step_working(c);
	case CONN_FLUSHING:
		return step_flushing(c);
	case CONN_LINGERING:
		buf_reset(&c->in);
		return false;
	case CONN_CLOSED:
	case CONN_STATES:
		return false;
	}
	return false;
}

/* --- sending ---------------------------------------------------------------------------------------------------- */

/* A stream may stand still for as long as it likes; anything else must be read in time. */
static bool must_be_read(const struct conn *c)
{
	return c->out.len && !(c->ans.state == ANSWER_OPEN && c->ans.framing != FRAME_LENGTH);
}

static void conn_flush(struct conn *c)
{
	ssize_t n = 0;

	if (c->out.failed) {
		log_warn("out of memory: a connection was cut");
		conn_close(c);
		return;
	}
	if (c->out.len) {
		n = send(c->fd, buf_data(&c->out), c->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
			conn_close(c);
			return;
		}
		if (n > 0)
			buf_consume(&c->out, (size_t)n);
		if (c->out.len == 0 && c->out.cap > KEEP_CAP_BYTES)
			buf_fini(&c->out);
	}
	if (!must_be_read(c))
		deadline_clear(&c->stall);
	else if (n > 0 || list_empty(&c->stall.link))
		deadline_set(&c->shared->stall, &c->stall);
	if (c->ans.paused && c->out.len < OUT_LOW_BYTES) {
		c->ans.paused = false;
		if (c->req.watch && c->req.watch->on_drained)
			c->req.watch->on_drained(c->req.watch_arg);
	}
}

/* Does what can be done: steps, sending, and what sending made possible. */
static void conn_advance(struct conn *c)
{
	int n = 0;

	while (n < STEPS_PER_TURN && step(c))
		n++;
	if (c->state != CONN_CLOSED)
		conn_flush(c);
	while (n < STEPS_PER_TURN && step(c))
		n++;
	if (c->state == CONN_CLOSED)
		return;
	/* An incomplete request will not be completed any more. */
	if (c->eof && n < STEPS_PER_TURN && (c->state == CONN_BODY || c->state == CONN_DISCARDING)) {
		conn_close(c);
		return;
	}
	if (c->eof && n < STEPS_PER_TURN && c->state == CONN_HEAD && c->out.len == 0) {
		conn_close(c);
		return;
	}
	if (c->eof && c->state == CONN_LINGERING) {
		conn_close(c);
		return;
	}
	if (n == STEPS_PER_TURN)
		event_active(c->again_ev, EV_TIMEOUT, 0);
	update_interest(c);
}

/* --- events ----------------------------------------------------------------------------------------------------- */

static bool peer_hung_up(const struct conn *c)
{
	struct pollfd p = {.fd = c->fd};

	return poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR));
}

/* The client has closed at least its sending side. */
static void tell_half_closed(struct conn *c)
{
	if (c->half_told || c->state != CONN_WORKING)
		return;
	c->half_told = true;
	if (c->req.watch && c->req.watch->on_half_closed)
		c->req.watch->on_half_closed(c->req.watch_arg);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct conn *c = arg;
	bool was_empty = c->in.len == 0;
	ssize_t n = recv(fd, c->shared->scratch, sizeof(c->shared->scratch), MSG_DONTWAIT);

	(void)what;
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
		return;
	if (n < 0) {
		conn_close(c);
		return;
	}
	if (n == 0) {
		c->eof = true;
		if (peer_hung_up(c)) {
			conn_close(c);
			return;
		}
		tell_half_closed(c);
	} else {
		buf_add(&c->in, c->shared->scratch, (size_t)n);
		explicit_bzero(c->shared->scratch, (size_t)n); /* a key may have been in it */
		if (c->in.failed) {
			conn_close(c);
			return;
		}
		if (c->state == CONN_BODY || c->state == CONN_DISCARDING || (c->state == CONN_HEAD && was_empty))
			set_wait(c);
	}
	conn_advance(c);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	conn_advance(arg);
}

/* Reading is paused: the close is all that can be heard. */
static void on_peer_closed(evutil_socket_t fd, short what, void *arg)
{
	struct conn *c = arg;

	(void)fd;
	(void)what;
	if (peer_hung_up(c)) {
		conn_close(c);
		return;
	}
	tell_half_closed(c);
	update_interest(c);
}

static void on_again(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	conn_advance(arg);
}

static void on_work(struct deferred *d)
{
	conn_advance(CONTAINER_OF(d, struct conn, work));
}

static void on_wait_over(struct deadline *d)
{
	struct conn *c = CONTAINER_OF(d, struct conn, wait);

	if (c->state == CONN_BODY)
		refuse(c, 408, "the request body did not arrive in time");
	else if (c->state == CONN_HEAD && c->in.len)
		refuse(c, 408, "the request head did not arrive in time");
	else
		conn_close(c);
}

static void on_stalled(struct deadline *d)
{
	conn_close(CONTAINER_OF(d, struct conn, stall));
}

/* --- life ------------------------------------------------------------------------------------------------------- */

static void free_event(struct event **ev)
{
	if (*ev)
		event_free(*ev);
	*ev = NULL;
}

void conn_free(struct conn *c)
{
	conn_close(c);
	deferred_cancel(&c->destroy);
	conn_request_reset(c);
	buf_fini(&c->req.body);
	buf_wipe(&c->in);
	buf_fini(&c->out);
	free(c);
}

static void on_destroy(struct deferred *d)
{
	conn_free(CONTAINER_OF(d, struct conn, destroy));
}

/* The connection is over; its memory goes when no callback of it is on the stack. */
static void conn_close(struct conn *c)
{
	const struct conn_watch *watch = c->req.watch;

	if (c->state == CONN_CLOSED)
		return;
	conn_move(c, CONN_CLOSED);
	deadline_clear(&c->stall);
	deferred_cancel(&c->work);
	free_event(&c->read_ev);
	free_event(&c->write_ev);
	free_event(&c->close_ev);
	free_event(&c->again_ev);
	fd_close(&c->fd);
	list_remove(&c->link);
	c->shared->nconns--;
	c->req.watch = NULL;
	if (watch && watch->on_gone)
		watch->on_gone(c->req.watch_arg);
	loop_defer(c->shared->loop, &c->destroy);
	c->shared->on_closed(c->shared);
}

void conn_hold(struct conn *c)
{
	CHECK(c->state == CONN_HEAD && c->ans.state == ANSWER_NONE);
	c->req.held = true;
	c->req.keep_alive = false;
}

void conn_take(struct conn *c, struct conn_taken *out)
{
	CHECK(c->state == CONN_WORKING && c->req.held && c->ans.state == ANSWER_NONE);
	*out = (struct conn_taken){.fd = c->fd, .ended = c->eof, .in = c->req.head, .out = c->out};
	buf_add_str(&out->in, buf_str(&c->in));
	c->req.head = c->out = BUF_EMPTY;
	c->req.watch = NULL;
	c->fd = -1;
	conn_close(c);
}

static bool make_events(struct conn *c)
{
	struct event_base *base = loop_base(c->shared->loop);

	c->read_ev = event_new(base, c->fd, EV_READ | EV_PERSIST, on_readable, c);
	c->write_ev = event_new(base, c->fd, EV_WRITE | EV_PERSIST, on_writable, c);
	c->close_ev = event_new(base, c->fd, EV_CLOSED | EV_PERSIST, on_peer_closed, c);
	c->again_ev = event_new(base, -1, 0, on_again, c);
	return c->read_ev && c->write_ev && c->close_ev && c->again_ev && event_add(c->read_ev, NULL) == 0;
}

int conn_new(struct conn_shared *shared, int fd, bool tcp)
{
	struct conn *c = calloc(1, sizeof(*c));

	if (!c) {
		fd_close(&fd);
		return -ENOMEM;
	}
	c->shared = shared;
	c->fd = fd;
	c->tcp = tcp;
	list_add_tail(&shared->conns, &c->link);
	shared->nconns++;
	deferred_init(&c->work, on_work);
	deferred_init(&c->destroy, on_destroy);
	deadline_init(&c->wait, on_wait_over);
	deadline_init(&c->stall, on_stalled);
	conn_request_reset(c);
	http_parser_init(&c->parser, HTTP_REQUEST);
	if (!make_events(c)) {
		conn_close(c);
		return -ENOMEM;
	}
	set_wait(c);
	return 0;
}

struct conn *conn_of_link(struct list *link)
{
	return CONTAINER_OF(link, struct conn, link);
}

void conn_drain(struct conn *c)
{
	if (c->state == CONN_HEAD || c->state == CONN_LINGERING)
		conn_close(c);
	else
		c->req.keep_alive = false;
}
