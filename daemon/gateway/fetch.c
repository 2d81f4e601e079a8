/* SPDX-License-Identifier: Apache-2.0 */
/*
 *   LEASE --> ANSWER --> ENDED
 *     |  ^      |          ^
 *     |  +------+ (repeat) |
 *     +--------------------+
 *
 * LEASE   waits for a connection in the caller's name
 * ANSWER  the request goes out, and its answer is collected or passed on
 *
 * Every end but a cancelled one is told at the end of the turn, so that nobody is called from within what he calls.
 */
#include "gateway/fetch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"

#include "common/buf.h"
#include "common/check.h"
#include "common/http_write.h"
#include "common/loop.h"
#include "common/secret.h"
#include "gateway/keyring.h"
#include "gateway/rewrite.h"

enum fetch_state {
	FETCH_LEASE,
	FETCH_ANSWER,
	FETCH_ENDED,
	FETCH_STATES,
};

static const char *const state_names[FETCH_STATES] = {"lease", "answer", "ended"};

static const uint32_t state_edges[FETCH_STATES] = {
	[FETCH_LEASE] = SM_TO(FETCH_ANSWER) | SM_TO(FETCH_ENDED),
	[FETCH_ANSWER] = SM_TO(FETCH_LEASE) | SM_TO(FETCH_ENDED),
	[FETCH_ENDED] = 0,
};

static const struct sm sm = {"fetch", state_names, state_edges, FETCH_STATES};

static const unsigned end_statuses[FETCH_ENDS] = {
	[FETCH_DONE] = 0,     [FETCH_UNREACHABLE] = 502, [FETCH_NO_PLACE] = 503, [FETCH_TIMEOUT] = 504,
	[FETCH_BROKEN] = 502, [FETCH_TOO_LARGE] = 502,   [FETCH_NO_KEY] = 503,   [FETCH_NO_MEMORY] = 503,
};

enum {
	SCRATCH_BYTES = 65536,
	READS_PER_TURN = 8,
	OTHER_MAX_BYTES = 65536, /* of an answer that is collected although on_data is there */
	DATE_MAX_BYTES = 40,
};

struct fetch {
	struct loop *loop;         /* borrowed */
	struct upstream *upstream; /* owned reference */
	struct upstream_ticket ticket;
	struct upstream_conn *conn; /* owned lease, in ANSWER */
	enum fetch_state state;
	char *user_id;       /* owned; NULL: nobody's */
	bool own_place;      /* in the pool */
	struct key *key;     /* owned reference; NULL: none */
	struct secret *used; /* owned reference; the value of it in `request`; NULL: none */
	struct buf request;  /* holds the key */
	size_t sent;         /* bytes of it, on the present connection */
	bool sent_any;       /* a byte of it, on whichever connection */
	uint64_t sent_at_ms; /* the first of them */
	bool send_broke;     /* the present connection takes nothing more; an answer may still come */
	bool is_safe;        /* it may be sent twice */
	bool paused;
	enum upstream_wait wait;      /* bounds the response head */
	enum upstream_wait body_wait; /* bounds the pauses of the body */
	bool repeated;                /* or may not be */
	bool rekeyed;                 /* sent once more with another key, after a refusal */
	struct key_wait key_wait;     /* in LEASE, while that key is being read */
	bool urgent;
	struct buf received; /* unfinished head, or the body so far */
	size_t max_bytes;
	struct http_parser parser;
	bool in_body; /* the response head is complete */
	bool keeps;   /* the server keeps the connection */
	unsigned status;
	char date[DATE_MAX_BYTES];
	bool keep_head;
	struct buf head; /* with keep_head: what of it may pass to a client */
	enum fetch_end end;
	char why[160];
	bool cancelled;
	struct deadline deadline;
	struct deferred done;
	void (*on_head)(void *arg, const struct http_head *head);
	void (*on_data)(void *arg, const char *p, size_t n);
	void (*on_done)(void *arg, const struct fetch_answer *answer);
	void *arg;
};

static char scratch[SCRATCH_BYTES];

unsigned fetch_end_status(enum fetch_end end)
{
	return end_statuses[end];
}

const struct sm *fetch_sm(void)
{
	return &sm;
}

int fetch_caller_copy(struct fetch_caller *to, const struct fetch_caller *from)
{
	to->upstream = upstream_ref(from->upstream);
	to->key = from->key ? key_ref(from->key) : NULL;
	to->user_id = strdup(from->user_id);
	to->request_id = from->request_id ? strdup(from->request_id) : NULL;
	to->trace_lines = from->trace_lines ? strdup(from->trace_lines) : NULL;
	return to->user_id && (to->request_id || !from->request_id) && (to->trace_lines || !from->trace_lines)
		       ? 0
		       : -ENOMEM;
}

void fetch_caller_fini(struct fetch_caller *c)
{
	upstream_unref(c->upstream);
	key_unref(c->key);
	free((char *)(uintptr_t)c->user_id);
	free((char *)(uintptr_t)c->request_id);
	free((char *)(uintptr_t)c->trace_lines);
	*c = (struct fetch_caller){0};
}

/* --- the end -------------------------------------------------------------------------------------------------------- */

static void fetch_free(struct fetch *f)
{
	upstream_unref(f->upstream);
	free(f->user_id);
	key_unref(f->key);
	secret_unref(f->used);
	buf_wipe(&f->request);
	buf_fini(&f->head);
	buf_fini(&f->received);
	free(f);
}

static void on_done(struct deferred *d)
{
	struct fetch *f = CONTAINER_OF(d, struct fetch, done);
	const struct fetch_answer answer = {
		.end = f->end,
		.why = f->why,
		.status = f->status,
		.sent = f->sent_any,
		.sent_at_ms = f->sent_at_ms,
		.head = buf_str(&f->head),
		.body = buf_str(&f->received),
		.date = str_from(f->date),
	};

	if (!f->cancelled)
		f->on_done(f->arg, &answer);
	fetch_free(f);
}

static void move(struct fetch *f, enum fetch_state to)
{
	f->state = sm_move(&sm, 0, f->state, to);
	deadline_clear(&f->deadline);
}

static void end(struct fetch *f, enum fetch_end how, const char *why, bool reusable)
{
	size_t n = strnlen(why, sizeof(f->why) - 1);

	if (f->state == FETCH_ENDED)
		return;
	f->end = how;
	memcpy(f->why, why, n);
	f->why[n] = '\0';
	upstream_ticket_cancel(&f->ticket);
	key_wait_cancel(&f->key_wait);
	upstream_release(&f->conn, reusable);
	move(f, FETCH_ENDED);
	loop_defer(f->loop, &f->done);
}

void fetch_pause(struct fetch *f, bool paused)
{
	if (f->state != FETCH_ANSWER || f->paused == paused)
		return;
	f->paused = paused;
	upstream_conn_pause_read(f->conn, paused);
	if (paused)
		deadline_clear(&f->deadline);
	else
		deadline_set(upstream_deadlines(f->upstream, f->in_body ? f->body_wait : f->wait), &f->deadline);
}

void fetch_cancel(struct fetch *f)
{
	if (!f)
		return;
	f->cancelled = true;
	end(f, FETCH_BROKEN, "cancelled", false);
}

/* --- the request ---------------------------------------------------------------------------------------------------- */

static void begin_lease(struct fetch *f, bool fresh);

/* Whether sending the whole request once more cannot make it run twice. */
static bool may_repeat(const struct fetch *f)
{
	return !f->repeated && !f->in_body && f->received.len == 0 && upstream_conn_reused(f->conn) &&
	       (f->is_safe || f->sent == 0);
}

static void broken(struct fetch *f, const char *why)
{
	if (!may_repeat(f)) {
		end(f, FETCH_BROKEN, why, false);
		return;
	}
	f->repeated = true;
	upstream_release(&f->conn, false);
	move(f, FETCH_LEASE);
	begin_lease(f, true);
}

static void send_request(struct fetch *f)
{
	while (f->sent < f->request.len && !f->send_broke) {
		ssize_t n = upstream_conn_send(f->conn, buf_data(&f->request) + f->sent, f->request.len - f->sent);
		if (n == -EAGAIN)
			break;
		if (n < 0) {
			/* It may have answered already and closed: what it sent is still to be read. */
			f->send_broke = true;
			if (upstream_conn_is_buffered(f->conn))
				upstream_conn_read_again(f->conn);
			break;
		}
		f->sent += (size_t)n;
		if (!f->sent_any)
			f->sent_at_ms = loop_now_ms(f->loop);
		f->sent_any = true;
	}
	if (f->sent && !f->in_body && !f->paused)
		deadline_set(upstream_deadlines(f->upstream, f->wait), &f->deadline);
	upstream_conn_want_write(f->conn, f->sent < f->request.len && !f->send_broke);
}

static const struct upstream_events conn_events;

static void use_conn(struct fetch *f, struct upstream_conn *c)
{
	f->conn = c;
	f->sent = 0;
	f->send_broke = false;
	upstream_conn_listen(c, &conn_events, f);
	move(f, FETCH_ANSWER);
	http_parser_init(&f->parser, HTTP_RESPONSE);
	deadline_set(upstream_deadlines(f->upstream, f->wait), &f->deadline);
	send_request(f);
}

static void on_lease(struct upstream_ticket *t, struct upstream_conn *c)
{
	use_conn(CONTAINER_OF(t, struct fetch, ticket), c);
}

static void on_lease_failed(struct upstream_ticket *t, enum upstream_failure failure, const char *why)
{
	static const enum fetch_end ends[] = {
		[UPSTREAM_REFUSED] = FETCH_UNREACHABLE,
		[UPSTREAM_TIMEOUT] = FETCH_TIMEOUT,
		[UPSTREAM_WAITED] = FETCH_NO_PLACE,
		[UPSTREAM_NO_MEMORY] = FETCH_NO_MEMORY,
	};

	end(CONTAINER_OF(t, struct fetch, ticket), ends[failure], why, false);
}

static void begin_lease(struct fetch *f, bool fresh)
{
	struct upstream_conn *c;
	const char *why;

	/* No caller has an empty user id. */
	f->ticket.identity = f->urgent ? UPSTREAM_URGENT_IDENTITY : f->own_place ? "" : f->user_id;
	f->ticket.urgent = f->urgent;
	f->ticket.on_lease = on_lease;
	f->ticket.on_failure = on_lease_failed;
	switch (upstream_lease(f->upstream, &f->ticket, fresh, &c)) {
	case UPSTREAM_LEASE_NOW:
		use_conn(f, c);
		return;
	case UPSTREAM_LEASE_WAIT:
		return;
	case UPSTREAM_LEASE_FULL:
		end(f, FETCH_NO_PLACE, "the pool and its queue are full", false);
		return;
	case UPSTREAM_LEASE_NO_MEMORY:
		end(f, FETCH_NO_MEMORY, "out of memory", false);
		return;
	case UPSTREAM_LEASE_DOWN:
		why = upstream_trouble(f->upstream);
		end(f, FETCH_UNREACHABLE, why ? why : "cannot be reached", false);
		return;
	}
}

/* --- the answer ------------------------------------------------------------------------------------------------------ */

static void take_data(void *arg, const char *p, size_t n)
{
	struct fetch *f = arg;

	if (f->on_data && f->status == 200) {
		/* Who looks at it may have seen enough. */
		if (!f->cancelled)
			f->on_data(f->arg, p, n);
		return;
	}
	if (n > f->max_bytes || f->received.len > f->max_bytes - n)
		f->received.failed = true;
	else
		buf_add(&f->received, p, n);
}

static void take_body(struct fetch *f, const char *p, size_t n)
{
	size_t used;
	enum http_result rc = http_parse_body(&f->parser, p, n, &used, take_data, f);

	if (f->state == FETCH_ENDED)
		return;
	if (f->received.failed) {
		end(f, FETCH_TOO_LARGE, "the answer is too large", false);
		return;
	}
	switch (rc) {
	case HTTP_MORE:
		if (!f->paused)
			deadline_set(upstream_deadlines(f->upstream, f->body_wait), &f->deadline);
		return;
	case HTTP_DONE:
		end(f, FETCH_DONE, "", f->keeps && used == n && f->sent == f->request.len);
		return;
	case HTTP_BAD:
		end(f, FETCH_BROKEN, "the answer is malformed", false);
		return;
	}
}

/* The request once more, with the key as it is now. */
static void begin_anew(struct fetch *f)
{
	struct secret *now = key_secret(f->key);

	if (now && now != f->used) {
		rewrite_request_keys(&f->request, now, NULL);
		secret_unref(f->used);
		f->used = secret_ref(now);
	}
	if (f->request.failed)
		end(f, FETCH_NO_MEMORY, "out of memory", false);
	else
		begin_lease(f, false);
}

static void on_key_settled(struct key_wait *w)
{
	begin_anew(CONTAINER_OF(w, struct fetch, key_wait));
}

/* A server that refuses the key has not acted: whether the request goes out once more, with another one. */
static bool send_again(struct fetch *f)
{
	enum key_verdict verdict;

	if (!f->used || f->rekeyed)
		return false;
	verdict = key_refused(f->key, f->used, &f->key_wait);
	if (verdict == KEY_SAME)
		return false;
	f->rekeyed = true;
	upstream_release(&f->conn, false);
	move(f, FETCH_LEASE);
	if (verdict == KEY_CHANGED)
		begin_anew(f);
	return true;
}

/* What comes of it helps the next one: this answer stands. */
static void note_refusal(struct fetch *f)
{
	enum key_verdict verdict = f->used ? key_refused(f->key, f->used, NULL) : KEY_SAME;

	(void)verdict;
}

static void note_head(struct fetch *f, const struct http_head *head)
{
	const struct http_header *date = http_head_find(head, STR("date"));

	f->in_body = true;
	f->status = head->status;
	f->keeps = head->keep_alive;
	if (head->status == 401)
		note_refusal(f);
	if (f->on_data && f->status != 200 && f->max_bytes < OTHER_MAX_BYTES)
		f->max_bytes = OTHER_MAX_BYTES;
	if (date && date->value.n < sizeof(f->date)) {
		memcpy(f->date, date->value.p, date->value.n);
		f->date[date->value.n] = '\0';
	}
	if (http_head_is_stream(head))
		f->body_wait = UPSTREAM_WAIT_STREAM;
	if (f->keep_head) {
		const struct rewrite_response r = {.head = head, .key = f->used};
		rewrite_response_head(&r, &f->head);
	}
	if (f->on_head && !f->cancelled)
		f->on_head(f->arg, head);
}

/* What has come of a head; interim answers are passed over. */
static void take_head(struct fetch *f)
{
	static struct http_head head; /* used within this call only */
	struct buf bytes = f->received;
	size_t at = 0;
	size_t used;
	enum http_result rc;

	f->received = BUF_EMPTY;
	while ((rc = http_parse_head(&f->parser, buf_data(&bytes) + at, bytes.len - at, &head, &used)) == HTTP_DONE) {
		at += used;
		if (head.status >= 200)
			break;
		http_parser_init(&f->parser, HTTP_RESPONSE);
	}
	if (rc == HTTP_MORE) {
		buf_consume(&bytes, at);
		f->received = bytes;
		return;
	}
	if (rc == HTTP_BAD) {
		end(f, FETCH_BROKEN, "the answer is malformed", false);
	} else if (head.status != 401 || !send_again(f)) {
		note_head(f, &head);
		if (f->head.failed)
			end(f, FETCH_NO_MEMORY, "out of memory", false);
		else
			take_body(f, buf_data(&bytes) + at, bytes.len - at);
	}
	buf_fini(&bytes);
}

static void take_bytes(struct fetch *f, const char *p, size_t n)
{
	if (f->in_body) {
		take_body(f, p, n);
		return;
	}
	buf_add(&f->received, p, n);
	if (f->received.failed)
		end(f, FETCH_NO_MEMORY, "out of memory", false);
	else
		take_head(f);
}

static void on_conn_readable(void *arg)
{
	struct fetch *f = arg;

	for (int i = 0; i < READS_PER_TURN; i++) {
		ssize_t n = upstream_conn_recv(f->conn, scratch, sizeof(scratch));
		if (n == -EAGAIN)
			return;
		if (n == 0 && f->in_body && http_parse_eof(&f->parser) == HTTP_DONE)
			end(f, FETCH_DONE, "", false);
		else if (n <= 0)
			broken(f, n == 0 ? "the server closed the connection" : "the connection broke");
		else
			take_bytes(f, scratch, (size_t)n);
		if (!f->conn || f->paused || !upstream_conn_is_buffered(f->conn))
			return;
	}
	upstream_conn_read_again(f->conn);
}

static void on_conn_writable(void *arg)
{
	send_request(arg);
}

static const struct upstream_events conn_events = {.on_readable = on_conn_readable, .on_writable = on_conn_writable};

static void on_deadline(struct deadline *d)
{
	end(CONTAINER_OF(d, struct fetch, deadline), FETCH_TIMEOUT, "the server did not answer in time", false);
}

/* --- beginning ------------------------------------------------------------------------------------------------------- */

static struct fetch *fetch_new(struct loop *loop, const struct fetch_request *r)
{
	struct fetch *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->loop = loop;
	f->upstream = upstream_ref(r->caller.upstream);
	f->max_bytes = r->max_bytes;
	f->urgent = r->urgent;
	f->wait = r->wait;
	f->body_wait = UPSTREAM_WAIT_BODY;
	f->keep_head = r->keep_head;
	f->own_place = r->own_place;
	f->on_head = r->on_head;
	f->on_data = r->on_data;
	f->on_done = r->on_done;
	f->arg = r->arg;
	if (r->caller.key) {
		f->key = key_ref(r->caller.key);
		f->used = key_secret(r->caller.key) ? secret_ref(key_secret(r->caller.key)) : NULL;
	}
	list_init(&f->ticket.link);
	key_wait_init(&f->key_wait, on_key_settled);
	deadline_init(&f->deadline, on_deadline);
	deferred_init(&f->done, on_done);
	return f;
}

static void write_request(struct fetch *f, const struct fetch_request *r)
{
	http_write_request_line(&f->request, str_from(r->method), r->target);
	http_write_header(&f->request, STR("Host"), str_from(upstream_authority(r->caller.upstream)));
	buf_add_str(&f->request, r->lines);
	if (r->lines.n == 0)
		http_write_header(&f->request, STR("User-Agent"),
				  r->user_agent.n ? r->user_agent : STR("stacygate/" PACKAGE_VERSION));
	if (r->accept.n)
		http_write_header(&f->request, STR("Accept"), r->accept);
	if (f->used)
		http_write_header_secret(&f->request, STR("X-API-Key"), f->used);
	if (r->caller.user_id)
		http_write_header(&f->request, STR("X-User-ID"), str_from(r->caller.user_id));
	if (r->caller.request_id)
		http_write_header(&f->request, STR("X-Request-ID"), str_from(r->caller.request_id));
	if (r->caller.trace_lines)
		buf_add_cstr(&f->request, r->caller.trace_lines);
	if (r->method[0] == 'P') {
		if (r->lines.n == 0)
			http_write_header(&f->request, STR("Content-Type"), STR("application/json"));
		http_write_header_u64(&f->request, STR("Content-Length"), r->body.n);
	}
	http_write_end(&f->request);
	buf_add_str(&f->request, r->body);
}

int fetch_start(struct loop *loop, const struct fetch_request *r, struct fetch **out)
{
	struct fetch *f = fetch_new(loop, r);

	if (!f)
		return -ENOMEM;
	f->user_id = r->caller.user_id ? strdup(r->caller.user_id) : NULL;
	f->is_safe = r->method[0] != 'P';
	write_request(f, r);
	if ((r->caller.user_id && !f->user_id) || f->request.failed) {
		fetch_free(f);
		return -ENOMEM;
	}
	*out = f;
	if (f->key && !f->used)
		end(f, FETCH_NO_KEY, "credential not loaded", false);
	else
		begin_lease(f, r->fresh);
	return 0;
}
