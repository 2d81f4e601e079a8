/* SPDX-License-Identifier: Apache-2.0 */
/*
 *   IDLE --> HEAD --> BODY --> ANSWER --> IDLE ...          a request is read, then answered, then the next one
 *     |        |        |         |
 *     +--------+--------+---------+--> FLUSH --> LINGER     the last answer is being sent; then what the client still
 *     |                                  |         |        sends is dropped for a moment, so that no reset destroys
 *     +--------------> CLOSED <----------+---------+        the answer before it is read (RFC 9112 9.6)
 *
 * An idle connection is little more than a descriptor: what a request needs is taken when its first byte comes, and
 * given up when its answer is sent.
 *
 * All connections read into one scratch buffer; a connection keeps only what it could not use yet: an unfinished head, a
 * pipelined request, or an unsent part of an answer. While a request is being answered the socket stays watched, since a
 * client that leaves must end its request; what it pipelines meanwhile is kept up to a bound. The next request is begun
 * when less than the high water mark of earlier answers is unsent.
 *
 * TUNNEL, reached from ANSWER when a protocol was switched, passes bytes on as they come; either direction may end before
 * the other, and it ends in FLUSH.
 *
 * The end of the input within an answer means either that the client left or that it only finished sending: on a Unix
 * socket POLLHUP tells (both directions are shut), on TCP the kind of request does (client_end_means_gone). A half-closed
 * client is asked again now and then.
 */
#include "gateway/client.h"

#include <errno.h>
#include <event2/event.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/check.h"
#include "common/fd.h"
#include "common/process.h"
#include "common/spares.h"

enum client_state {
	CLIENT_IDLE,
	CLIENT_HEAD,
	CLIENT_BODY,
	CLIENT_ANSWER,
	CLIENT_TUNNEL,
	CLIENT_FLUSH,
	CLIENT_LINGER,
	CLIENT_CLOSED,
	CLIENT_STATES,
};

static const char *const state_names[CLIENT_STATES] = {"idle",   "head",  "body",   "answer",
						       "tunnel", "flush", "linger", "closed"};

static const uint32_t state_edges[CLIENT_STATES] = {
	[CLIENT_IDLE] = SM_TO(CLIENT_HEAD) | SM_TO(CLIENT_FLUSH) | SM_TO(CLIENT_CLOSED),
	[CLIENT_HEAD] = SM_TO(CLIENT_BODY) | SM_TO(CLIENT_FLUSH) | SM_TO(CLIENT_CLOSED),
	[CLIENT_BODY] = SM_TO(CLIENT_ANSWER) | SM_TO(CLIENT_FLUSH) | SM_TO(CLIENT_CLOSED),
	[CLIENT_ANSWER] = SM_TO(CLIENT_IDLE) | SM_TO(CLIENT_TUNNEL) | SM_TO(CLIENT_FLUSH) | SM_TO(CLIENT_CLOSED),
	[CLIENT_TUNNEL] = SM_TO(CLIENT_FLUSH) | SM_TO(CLIENT_CLOSED),
	[CLIENT_FLUSH] = SM_TO(CLIENT_LINGER) | SM_TO(CLIENT_CLOSED),
	[CLIENT_LINGER] = SM_TO(CLIENT_CLOSED),
	[CLIENT_CLOSED] = 0,
};

static const struct sm sm = {"client", state_names, state_edges, CLIENT_STATES};

static const struct {
	const char *text;
	bool is_error;
} end_rows[CLIENT_ENDS] = {
	[CLIENT_END_DONE] = {"done", false},
	[CLIENT_END_GONE] = {"client-gone", false},
	[CLIENT_END_FAULT] = {"bad-request", true},
	[CLIENT_END_IDLE] = {"idle-timeout", false},
	[CLIENT_END_HEAD_TIMEOUT] = {"head-timeout", true},
	[CLIENT_END_BODY_TIMEOUT] = {"body-timeout", true},
	[CLIENT_END_NOT_READING] = {"not-reading", true},
	[CLIENT_END_CUT] = {"answer-cut", true},
	[CLIENT_END_REVOKED] = {"revoked", false},
	[CLIENT_END_DRAIN] = {"drain", false},
	[CLIENT_END_REFUSED] = {"refused", true},
	[CLIENT_END_NO_MEMORY] = {"no-memory", true},
};

enum {
	SCRATCH_BYTES = 65536,
	PIPELINE_MAX_BYTES = 65536, /* read ahead of the present request at most */
	JOINED_MAX_BYTES = 8192,
	LINGER_MS = 2000,
	LINGER_MAX_BYTES = 67108864,
	PROBE_MS = 500,
	CROWD = 128, /* clients whose going is worth a walk through malloc's lists */
};

/* What a connection needs beside itself from the first byte of a request until its answer is sent. */
struct work {
	struct client *client;  /* borrowed; whose it is */
	struct event *writable; /* owned; made when something is unsent for the first time, pending while it is */
	struct deadline probe;  /* set while a request is under way and nothing is read */
	struct deadline unread; /* set while something is unsent: the client must take some of it in time */
	struct deferred resume; /* looks at pipelined bytes when no answer is on the stack */
	struct buf in;          /* received, not yet used */
	struct buf out;         /* not yet sent */
	uint64_t body_seen;     /* bytes of the present body */
	size_t lingered;        /* bytes dropped in LINGER */
	unsigned minor;         /* HTTP/1.minor of the present request */
	bool body_paused;       /* by client_pause_body */
	bool want_continue;     /* 100 Continue is owed before the first body byte is waited for */
	bool keep_alive;        /* what the present request asks for */
	bool finished;          /* client_finish came before the request body's end */
	bool finish_keep_alive; /* what it said */
	bool broken;            /* a send failed: nothing more is sent */
	bool congested;         /* client_send said false, on_drained is owed */
	bool eof_is_gone;       /* by client_end_means_gone, for the present request */
	struct http_parser parser;
};

struct client {
	struct client_shared *shared; /* borrowed */
	unsigned long long id;
	int fd; /* owned */
	enum client_state state;
	enum client_end end;    /* why, once FLUSH or CLOSED is reached */
	bool reading;           /* `readable` is pending */
	bool saw_eof;           /* the client has finished sending */
	bool draining;          /* by client_drain */
	bool output_over;       /* TUNNEL: by client_end_output; shut as soon as all is sent */
	bool on_stack;          /* its bytes are being used: `work` stays */
	bool held;              /* may_begin said no */
	struct event *readable; /* owned; pending unless reading is stopped */
	struct work *work;      /* owned; NULL while idle with nothing kept, so that an idle client costs little */
	union {
		struct deadline deadline; /* of the present state */
		struct deferred destroy;  /* in CLOSED, which has no deadline */
	};
	const char *head_lines;             /* borrowed; of every answer; NULL: none */
	const struct client_events *events; /* borrowed */
	void *arg;
};

/* One for all: nothing read stays here after the callback. */
static char scratch[SCRATCH_BYTES];

const char *client_end_text(enum client_end end)
{
	return end_rows[end].text;
}

bool client_end_is_error(enum client_end end)
{
	return end_rows[end].is_error;
}

const struct sm *client_sm(void)
{
	return &sm;
}

void client_shared_init(struct client_shared *s, struct loop *loop)
{
	memset(s, 0, sizeof(*s));
	s->loop = loop;
	deadline_queue_init(&s->head_deadlines, loop, 10000);
	deadline_queue_init(&s->body_deadlines, loop, 30000);
	deadline_queue_init(&s->idle_deadlines, loop, 300000);
	deadline_queue_init(&s->linger_deadlines, loop, LINGER_MS);
	deadline_queue_init(&s->probe_deadlines, loop, PROBE_MS);
}

void client_shared_fini(struct client_shared *s)
{
	deadline_queue_fini(&s->head_deadlines);
	deadline_queue_fini(&s->body_deadlines);
	deadline_queue_fini(&s->idle_deadlines);
	deadline_queue_fini(&s->linger_deadlines);
	deadline_queue_fini(&s->probe_deadlines);
}

/* --- interest and deadlines follow the state ------------------------------------------------------------------------ */

/* Whether more bytes from this client are wanted now. */
static bool wants_read(const struct client *c)
{
	if (c->saw_eof)
		return false;
	switch (c->state) {
	case CLIENT_IDLE:
		return !c->held && (!c->work || !c->work->congested);
	case CLIENT_HEAD:
	case CLIENT_LINGER:
		return true;
	case CLIENT_BODY:
	case CLIENT_TUNNEL:
		return !c->work->body_paused;
	case CLIENT_ANSWER:
		return c->work->in.len < PIPELINE_MAX_BYTES;
	case CLIENT_FLUSH:
	case CLIENT_CLOSED:
	case CLIENT_STATES:
		return false;
	}
	return false;
}

/* Whether the client has been told that nothing more comes, within a tunnel. */
static bool is_output_shut(const struct client *c)
{
	return c->output_over && c->work->out.len == 0;
}

/* Whether a request is under way while nothing is read: then only asking tells that its client has gone. */
static bool is_served_unread(const struct client *c)
{
	/* One that was told the end of a tunnel may close and be done; what it sent before is read all the same. */
	return (c->state == CLIENT_BODY || c->state == CLIENT_ANSWER ||
		(c->state == CLIENT_TUNNEL && !is_output_shut(c))) &&
	       !wants_read(c);
}

static void update_interest(struct client *c)
{
	bool want = wants_read(c);

	/* Each call of libevent costs a few hundred instructions, and most change nothing. */
	if (!c->readable || c->reading == want)
		return;
	c->reading = want;
	if (want) {
		event_add(c->readable, NULL);
		return;
	}
	event_del(c->readable);
	if (is_served_unread(c) && list_empty(&c->work->probe.link))
		deadline_set(&c->shared->probe_deadlines, &c->work->probe);
}

static void set_deadline(struct client *c)
{
	struct client_shared *s = c->shared;

	switch (c->state) {
	case CLIENT_IDLE:
		deadline_set(&s->idle_deadlines, &c->deadline);
		return;
	case CLIENT_HEAD:
		deadline_set(&s->head_deadlines, &c->deadline);
		return;
	case CLIENT_BODY:
		/* A body that we do not read cannot be late. */
		if (c->work->body_paused)
			deadline_clear(&c->deadline);
		else
			deadline_set(&s->body_deadlines, &c->deadline);
		return;
	case CLIENT_FLUSH:
		deadline_set(&s->body_deadlines, &c->deadline);
		return;
	case CLIENT_LINGER:
		deadline_set(&s->linger_deadlines, &c->deadline);
		return;
	case CLIENT_ANSWER:
	case CLIENT_TUNNEL:
	case CLIENT_CLOSED:
	case CLIENT_STATES:
		deadline_clear(&c->deadline);
		return;
	}
}

/* --- what a request needs --------------------------------------------------------------------------------------------- */

static void on_probe(struct deadline *d);
static void on_unread(struct deadline *d);
static void on_resume(struct deferred *d);

/* For the next request of any connection. */
static struct spares spares;

/* 0, also when there is some already, or -ENOMEM. */
static int take_work(struct client *c)
{
	struct work *w;

	if (c->work)
		return 0;
	w = spares_take(&spares);
	if (!w)
		w = malloc(sizeof(*w));
	if (!w)
		return -ENOMEM;
	/* The parser has an init of its own. */
	memset(w, 0, offsetof(struct work, parser));
	w->client = c;
	deadline_init(&w->probe, on_probe);
	deadline_init(&w->unread, on_unread);
	deferred_init(&w->resume, on_resume);
	c->work = w;
	return 0;
}

static void drop_work(struct client *c)
{
	struct work *w = c->work;

	c->work = NULL;
	if (!w)
		return;
	deadline_clear(&w->probe);
	deadline_clear(&w->unread);
	deferred_cancel(&w->resume);
	if (w->writable)
		event_free(w->writable);
	buf_fini(&w->in);
	buf_fini(&w->out);
	if (!spares_put(&spares, w))
		free(w);
}

/* An idle connection whose last answer is sent and that has sent nothing more has no use for it. */
static void maybe_drop_work(struct client *c)
{
	const struct work *w = c->work;

	if (c->state != CLIENT_IDLE || c->on_stack || !w)
		return;
	if (w->in.len == 0 && w->out.len == 0 && !w->broken && !w->congested && list_empty(&w->resume.link))
		drop_work(c);
}

static bool has_unsent(const struct client *c)
{
	return c->work && c->work->out.len && !c->work->broken;
}

/*
 * Many clients at once, and the dials that they cause, leave malloc with holes. When three quarters of them have gone the
 * holes go back to the system.
 */
static void give_memory_back(struct client_shared *s)
{
	if (s->most_open < CROWD || s->open > s->most_open / 4)
		return;
	s->most_open = s->open;
	process_give_memory_back();
}

static void on_destroy(struct deferred *d)
{
	struct client *c = CONTAINER_OF(d, struct client, destroy);
	struct client_shared *s = c->shared;

	c->events->on_closed(c->arg, c->end);
	drop_work(c);
	free(c);
	s->open--;
	give_memory_back(s);
}

static void client_move(struct client *c, enum client_state to)
{
	c->state = sm_move(&sm, c->id, c->state, to);
	set_deadline(c);
	if (to != CLIENT_CLOSED) {
		update_interest(c);
		return;
	}
	c->shared->ends[c->end]++;
	if (c->work) {
		deadline_clear(&c->work->probe);
		deadline_clear(&c->work->unread);
		if (c->work->writable)
			event_free(c->work->writable);
		c->work->writable = NULL;
	}
	if (c->readable)
		event_free(c->readable);
	c->readable = NULL;
	fd_close(&c->fd);
	deferred_init(&c->destroy, on_destroy);
	loop_defer(c->shared->loop, &c->destroy);
}

/* A state that most requests leave in this call; if not, the deadline is set by whoever finds out. */
static void pass_on(struct client *c, enum client_state to)
{
	c->state = sm_move(&sm, c->id, c->state, to);
}

static void client_close(struct client *c, enum client_end end)
{
	if (c->state == CLIENT_CLOSED)
		return;
	c->end = end;
	client_move(c, CLIENT_CLOSED);
}

/* The client left: whoever answers it is told first. */
static void client_lost(struct client *c, enum client_end end)
{
	bool under_way = (c->state == CLIENT_BODY && !c->work->finished) || c->state == CLIENT_ANSWER ||
			 c->state == CLIENT_TUNNEL;

	if (c->state == CLIENT_CLOSED)
		return;
	client_close(c, end);
	if (under_way)
		c->events->on_gone(c->arg);
}

/* --- sending --------------------------------------------------------------------------------------------------------- */

/* All is sent: what was waiting for that. */
static void after_flush(struct client *c)
{
	if (c->work->writable)
		event_del(c->work->writable);
	if (c->state == CLIENT_FLUSH || c->output_over)
		shutdown(c->fd, SHUT_WR);
	if (c->state == CLIENT_FLUSH) {
		if (c->saw_eof)
			client_close(c, c->end);
		else
			client_move(c, CLIENT_LINGER);
	}
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
	struct client *c = arg;
	ssize_t n = send(fd, buf_data(&c->work->out), c->work->out.len, MSG_DONTWAIT | MSG_NOSIGNAL);

	(void)what;
	if (n < 0) {
		if (errno != EAGAIN && errno != EINTR)
			client_lost(c, CLIENT_END_GONE);
		return;
	}
	buf_consume(&c->work->out, (size_t)n);
	if (c->state == CLIENT_FLUSH)
		set_deadline(c);
	if (n)
		deadline_set(&c->shared->body_deadlines, &c->work->unread);
	if (c->work->out.len == 0) {
		deadline_clear(&c->work->unread);
		buf_fini(&c->work->out);
		after_flush(c);
	}
	if (c->work->congested && c->work->out.len < CLIENT_LOW_WATER && c->state != CLIENT_CLOSED) {
		c->work->congested = false;
		loop_defer(c->shared->loop, &c->work->resume);
		c->events->on_drained(c->arg);
	}
	maybe_drop_work(c);
}

/* Has on_writable called. Few answers need it, so the event is made when one does. */
static int watch_writable(struct client *c)
{
	struct work *w = c->work;

	if (!w->writable)
		w->writable = event_new(loop_base(c->shared->loop), c->fd, EV_WRITE | EV_PERSIST, on_writable, c);
	return w->writable && event_add(w->writable, NULL) == 0 ? 0 : -ENOMEM;
}

/* Nothing more can be sent. Whoever sends is on the stack; he is told at the end of the turn. */
static void break_off(struct client *c)
{
	c->work->broken = true;
	loop_defer(c->shared->loop, &c->work->resume);
}

/* One buffer costs the kernel less than two, and a copy of little costs nothing. */
static ssize_t send_joined(struct client *c, struct str a, struct str b)
{
	static char joined[JOINED_MAX_BYTES];

	memcpy(joined, a.p, a.n);
	memcpy(joined + a.n, b.p, b.n);
	return send(c->fd, joined, a.n + b.n, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static ssize_t send_parts(struct client *c, struct str a, struct str b)
{
	struct iovec iov[2] = {{(void *)(uintptr_t)a.p, a.n}, {(void *)(uintptr_t)b.p, b.n}};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};

	return sendmsg(c->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* What the socket takes of a and b right away; the rest is for c->work->out. */
static ssize_t send_now(struct client *c, struct str a, struct str b)
{
	ssize_t n;

	do {
		if (!a.n || !b.n)
			n = send(c->fd, a.n ? a.p : b.p, a.n + b.n, MSG_DONTWAIT | MSG_NOSIGNAL);
		else if (a.n + b.n <= JOINED_MAX_BYTES)
			n = send_joined(c, a, b);
		else
			n = send_parts(c, a, b);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
	return n;
}

bool client_send(struct client *c, struct str a, struct str b)
{
	struct work *w = c->work;
	size_t sent = 0;

	if (c->state == CLIENT_CLOSED || w->broken || a.n + b.n == 0)
		return true;
	CHECK(c->state == CLIENT_HEAD || c->state == CLIENT_BODY || c->state == CLIENT_ANSWER ||
	      c->state == CLIENT_TUNNEL);
	w->want_continue = false;
	if (w->out.len == 0) {
		ssize_t n = send_now(c, a, b);
		if (n < 0) {
			break_off(c);
			return true;
		}
		sent = (size_t)n;
	}
	if (sent < a.n)
		buf_add(&w->out, a.p + sent, a.n - sent);
	if (sent < a.n + b.n)
		buf_add(&w->out, b.p + (sent > a.n ? sent - a.n : 0), b.n - (sent > a.n ? sent - a.n : 0));
	if (w->out.failed || (w->out.len && watch_writable(c))) {
		break_off(c);
		return true;
	}
	if (w->out.len && list_empty(&w->unread.link))
		deadline_set(&c->shared->body_deadlines, &w->unread);
	w->congested = w->congested || w->out.len > CLIENT_HIGH_WATER;
	return !w->congested;
}

bool client_is_broken(const struct client *c)
{
	return c->state == CLIENT_CLOSED || !c->work || c->work->broken;
}

/* --- requests ---------------------------------------------------------------------------------------------------------- */

static void begin_flush(struct client *c, enum client_end end)
{
	c->end = end;
	client_move(c, CLIENT_FLUSH);
	if (c->work->out.len == 0)
		after_flush(c);
}

/* Between requests: the answer to the last one may still be on its way. */
static void close_when_sent(struct client *c, enum client_end end)
{
	if (has_unsent(c))
		begin_flush(c, end);
	else
		client_close(c, end);
}

static void fault(struct client *c, unsigned status, const char *why)
{
	if (c->end == CLIENT_END_DONE)
		c->end = CLIENT_END_FAULT;
	/* Whoever answers does so by client_send and client_finish, which closes, since the request was not read. */
	c->work->keep_alive = false;
	c->events->on_fault(c->arg, status, why);
}

static void next_request(struct client *c)
{
	if (c->draining || !c->work->finish_keep_alive || !c->work->keep_alive ||
	    (c->saw_eof && c->work->in.len == 0)) {
		begin_flush(c, c->draining ? CLIENT_END_DRAIN : CLIENT_END_DONE);
		return;
	}
	c->work->finished = false;
	c->work->body_paused = false;
	client_move(c, CLIENT_IDLE);
	if (c->work->in.len || c->saw_eof)
		loop_defer(c->shared->loop, &c->work->resume);
	else
		maybe_drop_work(c);
}

void client_skip_body(struct client *c)
{
	c->work->keep_alive = false;
}

void client_finish(struct client *c, bool keep_alive)
{
	if (c->state == CLIENT_CLOSED)
		return;
	c->work->finish_keep_alive = keep_alive;
	if (c->state == CLIENT_ANSWER) {
		next_request(c);
		return;
	}
	if (c->state == CLIENT_TUNNEL) {
		begin_flush(c, CLIENT_END_DONE);
		return;
	}
	CHECK(c->state == CLIENT_HEAD || c->state == CLIENT_BODY);
	c->work->finished = true;
	/* Whether the rest of the request is at hand is seen where bytes are used, which may be going on right now. */
	loop_defer(c->shared->loop, &c->work->resume);
}

static void body_bytes(void *arg, const char *p, size_t n)
{
	struct client *c = arg;

	if (c->work->finished || c->state != CLIENT_BODY)
		return;
	c->work->body_seen += n;
	if (c->work->body_seen > c->shared->body_max_bytes)
		return;
	c->events->on_body(c->arg, p, n);
}

/* Uses head bytes; how many, or 0 when more are needed or the connection is done for. */
static size_t use_head(struct client *c, const char *p, size_t n)
{
	static struct http_head head; /* borrowed by on_request for its call */
	size_t used = 0;
	enum http_result rc;

	bool first = c->state == CLIENT_IDLE;

	if (first) {
		c->held = c->events->may_begin && !c->events->may_begin(c->arg);
		if (c->held)
			return 0;
		c->work->eof_is_gone = false;
		http_parser_init(&c->work->parser, HTTP_REQUEST);
		pass_on(c, CLIENT_HEAD);
	}
	rc = http_parse_head(&c->work->parser, p, n, &head, &used);
	if (rc == HTTP_MORE) {
		if (first)
			set_deadline(c);
		return 0;
	}
	if (rc == HTTP_BAD) {
		fault(c, c->work->parser.status, c->work->parser.why);
		return 0;
	}
	c->work->keep_alive = head.keep_alive;
	c->work->minor = head.minor;
	c->work->want_continue = head.expect_continue && head.framing != HTTP_BODY_NONE;
	c->work->body_seen = 0;
	pass_on(c, CLIENT_BODY);
	if (head.framing == HTTP_BODY_LENGTH && head.content_length > c->shared->body_max_bytes) {
		fault(c, 413, "the request body is larger than bounds.body allows");
		return 0;
	}
	c->events->on_request(c->arg, &head);
	return used;
}

static void send_continue(struct client *c)
{
	c->work->want_continue = false;
	client_send(c, STR("HTTP/1.1 100 Continue\r\n\r\n"), str_of(NULL, 0));
}

/* Uses body bytes; how many. Leaves BODY at the body's end. */
static size_t use_body(struct client *c, const char *p, size_t n)
{
	size_t used = 0;
	enum http_result rc = http_parse_body(&c->work->parser, p, n, &used, body_bytes, c);

	if (c->state != CLIENT_BODY)
		return used;
	if (c->work->body_seen > c->shared->body_max_bytes && !c->work->finished) {
		fault(c, 413, "the request body is larger than bounds.body allows");
		return used;
	}
	if (rc == HTTP_BAD) {
		/* What was answered already ends where it cannot be read on. */
		if (!c->work->finished)
			fault(c, c->work->parser.status, c->work->parser.why);
		return used;
	}
	if (rc == HTTP_MORE) {
		set_deadline(c);
		if (n)
			c->work->want_continue = false; /* it did not wait (RFC 9110 10.1.1) */
		if (c->work->want_continue && !c->work->finished)
			send_continue(c);
		return used;
	}
	client_move(c, CLIENT_ANSWER);
	if (c->work->finished)
		next_request(c);
	else
		c->events->on_body_end(c->arg);
	return used;
}

/* Whether bytes at hand can be used now. */
static bool can_use(const struct client *c)
{
	switch (c->state) {
	case CLIENT_IDLE:
		return !c->work->congested && !c->held;
	case CLIENT_HEAD:
		return !c->work->finished && !c->work->parser.why;
	case CLIENT_BODY:
		/* After the answer what is at hand of the request is used up, so that the connection can be kept. */
		return !c->work->parser.why && (!c->work->body_paused || c->work->finished);
	case CLIENT_TUNNEL:
		return !c->work->body_paused;
	case CLIENT_ANSWER:
	case CLIENT_FLUSH:
	case CLIENT_LINGER:
	case CLIENT_CLOSED:
	case CLIENT_STATES:
		return false;
	}
	return false;
}

/*
 * Uses what can be used of n bytes. A head is used whole, then its body is looked at once even if no byte of it is here,
 * since there may be none.
 */
static size_t use_bytes(struct client *c, const char *p, size_t n)
{
	size_t used = 0;

	if (c->state == CLIENT_TUNNEL) {
		if (n == 0 || !can_use(c))
			return 0;
		c->events->on_body(c->arg, p, n);
		return n;
	}
	while (can_use(c) && (used < n || c->state == CLIENT_BODY)) {
		enum client_state before = c->state;
		size_t step = before == CLIENT_BODY ? use_body(c, p + used, n - used) : use_head(c, p + used, n - used);
		used += step;
		if (step == 0 && c->state == before)
			break;
		if (step == 0 && before != CLIENT_BODY && c->state != CLIENT_BODY)
			break;
		if (before == CLIENT_BODY && c->state == CLIENT_BODY && used == n)
			break;
	}
	/* The answer was finished before the request was read: it is not read on. */
	if (c->work->finished && (c->state == CLIENT_HEAD || c->state == CLIENT_BODY))
		begin_flush(c, c->draining ? CLIENT_END_DRAIN : c->end);
	return used;
}

static void use_kept(struct client *c)
{
	size_t used = use_bytes(c, buf_data(&c->work->in), c->work->in.len);

	if (c->state == CLIENT_CLOSED)
		return;
	buf_consume(&c->work->in, used);
	if (c->work->in.len == 0)
		buf_fini(&c->work->in);
}

/* --- receiving ------------------------------------------------------------------------------------------------------------ */

/* Asked when its input has ended, or now and then while nothing is read. */
static bool has_left(const struct client *c)
{
	struct pollfd p = {.fd = c->fd};
	int domain = AF_UNIX;
	socklen_t size = sizeof(domain);

	if (poll(&p, 1, 0) == 1 && (p.revents & (POLLHUP | POLLERR)))
		return true;
	return c->saw_eof && c->work->eof_is_gone && getsockopt(c->fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 &&
	       domain != AF_UNIX;
}

/* The client of a tunnel has finished sending, and all of it was passed on. */
static void tunnel_ended(struct client *c)
{
	if (c->state == CLIENT_TUNNEL && c->saw_eof && c->work->in.len == 0)
		c->events->on_body_end(c->arg);
}

static void on_eof(struct client *c)
{
	c->saw_eof = true;
	switch (c->state) {
	case CLIENT_IDLE:
		close_when_sent(c, CLIENT_END_DONE);
		return;
	case CLIENT_ANSWER:
	case CLIENT_TUNNEL:
		if (!is_output_shut(c) && has_left(c)) {
			client_lost(c, CLIENT_END_GONE);
			return;
		}
		update_interest(c);
		tunnel_ended(c);
		return;
	case CLIENT_HEAD:
		close_when_sent(c, CLIENT_END_GONE);
		return;
	case CLIENT_BODY:
		client_lost(c, CLIENT_END_GONE);
		return;
	case CLIENT_LINGER:
		client_close(c, c->end);
		return;
	case CLIENT_FLUSH:
	case CLIENT_CLOSED:
	case CLIENT_STATES:
		return;
	}
}

static void on_probe(struct deadline *d)
{
	struct client *c = CONTAINER_OF(d, struct work, probe)->client;

	if (c->state == CLIENT_CLOSED)
		return;
	if (has_left(c))
		client_lost(c, CLIENT_END_GONE);
	else if (is_served_unread(c))
		deadline_set(&c->shared->probe_deadlines, &c->work->probe);
}

static void take_bytes(struct client *c, const char *p, size_t n)
{
	size_t used;

	if (c->state == CLIENT_LINGER) {
		c->work->lingered += n;
		if (c->work->lingered > LINGER_MAX_BYTES)
			client_close(c, c->end);
		return;
	}
	if (c->work->in.len) {
		buf_add(&c->work->in, p, n);
		if (c->work->in.failed)
			client_lost(c, CLIENT_END_NO_MEMORY);
		else
			use_kept(c);
		return;
	}
	used = use_bytes(c, p, n);
	if (c->state == CLIENT_CLOSED || used == n)
		return;
	if (c->state == CLIENT_FLUSH || c->state == CLIENT_LINGER)
		return;
	buf_add(&c->work->in, p + used, n - used);
	if (c->work->in.failed)
		client_lost(c, CLIENT_END_NO_MEMORY);
	/* A request pipelined behind one that was answered at once waits for its turn. */
	else if (c->state == CLIENT_IDLE)
		loop_defer(c->shared->loop, &c->work->resume);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct client *c = arg;
	ssize_t n = recv(fd, scratch, sizeof(scratch), MSG_DONTWAIT);

	(void)what;
	loop_saw_ready(c->shared->loop);
	if (n < 0) {
		/* In LINGER all has been sent: that it is gone now changes nothing about why the connection ended. */
		if (errno != EAGAIN && errno != EINTR)
			client_lost(c, c->state == CLIENT_LINGER ? c->end : CLIENT_END_GONE);
		return;
	}
	c->on_stack = true;
	if (n == 0)
		on_eof(c);
	else if (take_work(c))
		client_lost(c, CLIENT_END_NO_MEMORY);
	else
		take_bytes(c, scratch, (size_t)n);
	c->on_stack = false;
	if (c->state != CLIENT_CLOSED)
		update_interest(c);
	maybe_drop_work(c);
}

/* Uses what is kept, or finds out that nothing more comes. */
static void go_on(struct client *c)
{
	if (c->work->broken) {
		client_lost(c, CLIENT_END_GONE);
		return;
	}
	/* No further request before the answers to the last ones are taken; on_writable comes back here. */
	if (c->state == CLIENT_IDLE && c->work->congested)
		return;
	if (c->work->in.len)
		use_kept(c);
	else if (c->state == CLIENT_BODY)
		use_bytes(c, NULL, 0);
	if (c->state == CLIENT_CLOSED)
		return;
	tunnel_ended(c);
	/* What was kept is all there will ever be, and it is not a whole request. */
	if (c->held && c->state == CLIENT_IDLE)
		update_interest(c);
	else if (c->saw_eof && (c->state == CLIENT_IDLE || c->state == CLIENT_HEAD))
		close_when_sent(c, c->state == CLIENT_IDLE ? CLIENT_END_DONE : CLIENT_END_GONE);
	else if (c->saw_eof && c->state == CLIENT_BODY)
		client_lost(c, CLIENT_END_GONE);
	else
		update_interest(c);
}

static void on_resume(struct deferred *d)
{
	struct client *c = CONTAINER_OF(d, struct work, resume)->client;

	if (c->state == CLIENT_CLOSED)
		return;
	c->on_stack = true;
	go_on(c);
	c->on_stack = false;
	maybe_drop_work(c);
}

void client_pause_body(struct client *c, bool paused)
{
	if (!c->work || c->work->body_paused == paused || c->state == CLIENT_CLOSED)
		return;
	c->work->body_paused = paused;
	if (!paused)
		loop_defer(c->shared->loop, &c->work->resume);
	if (c->state == CLIENT_BODY)
		set_deadline(c);
	update_interest(c);
}

static void on_unread(struct deadline *d)
{
	client_lost(CONTAINER_OF(d, struct work, unread)->client, CLIENT_END_NOT_READING);
}

void client_end_means_gone(struct client *c)
{
	c->work->eof_is_gone = true;
	/* It may have ended already; who says so is on the stack. */
	if (c->saw_eof && c->state == CLIENT_ANSWER && has_left(c))
		break_off(c);
}

void client_tunnel(struct client *c)
{
	CHECK(c->state == CLIENT_ANSWER);
	client_end_means_gone(c);
	client_move(c, CLIENT_TUNNEL);
	/* It may have sent ahead, and even have finished sending. */
	if (c->work->in.len || c->saw_eof)
		loop_defer(c->shared->loop, &c->work->resume);
}

void client_end_output(struct client *c)
{
	CHECK(c->state == CLIENT_TUNNEL);
	c->output_over = true;
	if (c->work->out.len == 0)
		shutdown(c->fd, SHUT_WR);
}

static void on_deadline(struct deadline *d)
{
	struct client *c = CONTAINER_OF(d, struct client, deadline);

	switch (c->state) {
	case CLIENT_IDLE:
		if (c->events->may_stay_idle && c->events->may_stay_idle(c->arg))
			set_deadline(c);
		else
			client_close(c, CLIENT_END_IDLE);
		return;
	case CLIENT_HEAD:
		c->end = CLIENT_END_HEAD_TIMEOUT;
		fault(c, 408, "the request head did not come in time");
		break;
	case CLIENT_BODY:
		c->end = CLIENT_END_BODY_TIMEOUT;
		fault(c, 408, "the request body did not come in time");
		break;
	case CLIENT_FLUSH:
		client_close(c, CLIENT_END_NOT_READING);
		return;
	case CLIENT_LINGER:
		client_close(c, c->end);
		return;
	case CLIENT_ANSWER:
	case CLIENT_TUNNEL:
	case CLIENT_CLOSED:
	case CLIENT_STATES:
		return;
	}
	if (c->work->finished && (c->state == CLIENT_HEAD || c->state == CLIENT_BODY))
		begin_flush(c, c->end);
}

/* --- life ------------------------------------------------------------------------------------------------------------------ */

struct client *client_new(struct client_shared *shared, int fd, unsigned long long id,
			  const struct client_events *events, void *arg)
{
	struct client *c = calloc(1, sizeof(*c));

	if (!c) {
		close(fd);
		return NULL;
	}
	c->shared = shared;
	c->fd = fd;
	c->id = id;
	c->events = events;
	c->arg = arg;
	deadline_init(&c->deadline, on_deadline);
	c->readable = event_new(loop_base(shared->loop), fd, EV_READ | EV_PERSIST, on_readable, c);
	if (!c->readable || event_add(c->readable, NULL) < 0) {
		if (c->readable)
			event_free(c->readable);
		close(fd);
		free(c);
		return NULL;
	}
	shared->open++;
	if (shared->open > shared->most_open)
		shared->most_open = shared->open;
	c->reading = true;
	c->state = CLIENT_IDLE;
	set_deadline(c);
	return c;
}

unsigned long long client_id(const struct client *c)
{
	return c->id;
}

int client_fd(const struct client *c)
{
	return c->fd;
}

void client_release(struct client *c)
{
	if (!c->held || c->state == CLIENT_CLOSED)
		return;
	c->held = false;
	loop_defer(c->shared->loop, &c->work->resume);
	update_interest(c);
}

void client_set_head_lines(struct client *c, const char *lines)
{
	c->head_lines = lines;
}

const char *client_head_lines(const struct client *c)
{
	return c->head_lines;
}

void client_cut(struct client *c, enum client_end end)
{
	client_close(c, end);
}

int client_idle_fd(const struct client *c)
{
	const struct work *w = c->work;

	if (c->state != CLIENT_IDLE || c->saw_eof || (w && (w->in.len || w->out.len || w->broken || c->on_stack)))
		return -1;
	return c->fd;
}

void client_drain(struct client *c)
{
	c->draining = true;
	if (c->state == CLIENT_IDLE)
		close_when_sent(c, CLIENT_END_DRAIN);
}

unsigned client_minor(const struct client *c)
{
	return c->work ? c->work->minor : 1;
}

bool client_may_keep_alive(const struct client *c)
{
	return (c->state == CLIENT_ANSWER || c->state == CLIENT_BODY) && c->work->keep_alive && !c->draining &&
	       !(c->saw_eof && c->work->in.len == 0);
}
