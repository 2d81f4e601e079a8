/* SPDX-License-Identifier: Apache-2.0 */
/*
 *   ANSWER --> LEASE --> DELETE --> ENDED
 *      |         ^  |      |          ^
 *      |         +--+------+ (again)  |
 *      +---------+---------+----------+
 *
 * ANSWER  the response to the spawn is read on where the exchange left it; without a sandbox in it all is well
 * LEASE   waits for a connection, or for the pause before another try
 * DELETE  the sandbox is destroyed: a DELETE may be repeated, so it is, a few times
 *
 * The server cancels a spawn whose request is closed, and can then leave a container that no list shows; so the connection
 * stays open although nobody waits (design.md, repeat only what did not run). An answer that never comes is lost here.
 */
#include "gateway/orphan.h"

#include <errno.h>
#include <event2/event.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"

#include "common/buf.h"
#include "common/check.h"
#include "common/http_write.h"
#include "common/log.h"
#include "common/loop.h"
#include "gateway/keyring.h"
#include "gateway/upstream.h"

enum orphan_state {
	ORPHAN_ANSWER,
	ORPHAN_LEASE,
	ORPHAN_DELETE,
	ORPHAN_ENDED,
	ORPHAN_STATES,
};

static const char *const state_names[ORPHAN_STATES] = {"answer", "lease", "delete", "ended"};

static const uint32_t state_edges[ORPHAN_STATES] = {
	[ORPHAN_ANSWER] = SM_TO(ORPHAN_LEASE) | SM_TO(ORPHAN_ENDED),
	[ORPHAN_LEASE] = SM_TO(ORPHAN_DELETE) | SM_TO(ORPHAN_ENDED),
	[ORPHAN_DELETE] = SM_TO(ORPHAN_LEASE) | SM_TO(ORPHAN_ENDED),
	[ORPHAN_ENDED] = 0,
};

static const struct sm sm = {"orphan", state_names, state_edges, ORPHAN_STATES};

enum {
	SCRATCH_BYTES = 16384,
	BODY_MAX_BYTES = 65536,
	ID_MAX_BYTES = 128,
	TRIES = 5,
	PAUSE_MS = 500
};

struct orphan {
	struct list link;            /* on the orphanage's list */
	struct orphanage *orphanage; /* borrowed */
	struct upstream *upstream;   /* owned reference */
	struct upstream_ticket ticket;
	struct upstream_conn *conn; /* owned lease, in ANSWER and DELETE */
	enum orphan_state state;
	struct key *key;  /* owned reference; NULL: none */
	char *user_id;    /* owned */
	char *request_id; /* owned */
	struct http_parser parser;
	bool in_body; /* the response head is complete */
	unsigned status;
	bool keeps;                /* the server keeps the connection */
	struct buf received;       /* unfinished head, or the body so far */
	char id[ID_MAX_BYTES + 1]; /* of the sandbox */
	struct buf request;        /* DELETE: what is still to be sent; holds the key */
	unsigned tries;
	struct deadline deadline;
	struct event *pause; /* owned; before another try */
	struct deferred destroy;
};

static char scratch[SCRATCH_BYTES];

const struct sm *orphan_sm(void)
{
	return &sm;
}

/* --- the end -------------------------------------------------------------------------------------------------------- */

static void on_destroy(struct deferred *d)
{
	struct orphan *p = CONTAINER_OF(d, struct orphan, destroy);
	struct orphanage *o = p->orphanage;

	list_remove(&p->link);
	if (p->pause)
		event_free(p->pause);
	upstream_unref(p->upstream);
	key_unref(p->key);
	buf_fini(&p->received);
	buf_wipe(&p->request);
	free(p->user_id);
	free(p->request_id);
	free(p);
	if (--o->count == 0 && o->on_empty)
		o->on_empty(o->arg);
}

static void move(struct orphan *p, enum orphan_state to)
{
	p->state = sm_move(&sm, 0, p->state, to);
	deadline_clear(&p->deadline);
	if (to != ORPHAN_ENDED)
		return;
	if (p->pause)
		event_del(p->pause);
	upstream_ticket_cancel(&p->ticket);
	loop_defer(p->orphanage->loop, &p->destroy);
}

static void finish(struct orphan *p, uint64_t *counter, bool reusable)
{
	(*counter)++;
	upstream_release(&p->conn, reusable);
	move(p, ORPHAN_ENDED);
}

static void lose(struct orphan *p, const char *why)
{
	log_warn("upstream %s: a spawn whose client had left (id=%s) %s: a sandbox may live on to its ttl",
		 upstream_name(p->upstream), p->request_id, why);
	finish(p, &p->orphanage->lost, false);
}

/* --- destroying the sandbox -------------------------------------------------------------------------------------------- */

static void begin_delete(struct orphan *p);

static void try_again(struct orphan *p)
{
	struct timeval tv = {.tv_usec = PAUSE_MS * 1000};

	upstream_release(&p->conn, false);
	if (p->tries >= TRIES) {
		lose(p, "left a sandbox that cannot be destroyed");
		return;
	}
	if (p->state == ORPHAN_DELETE)
		move(p, ORPHAN_LEASE);
	event_add(p->pause, &tv);
}

static void on_pause_over(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	begin_delete(arg);
}

static void send_delete(struct orphan *p)
{
	while (p->request.len) {
		ssize_t n = upstream_conn_send(p->conn, buf_data(&p->request), p->request.len);
		if (n == -EAGAIN)
			break;
		if (n < 0) {
			try_again(p);
			return;
		}
		buf_consume(&p->request, (size_t)n);
	}
	upstream_conn_want_write(p->conn, p->request.len);
}

static void write_delete(struct orphan *p)
{
	buf_wipe(&p->request);
	buf_add_str(&p->request, STR("DELETE /api/v1/sandboxes/"));
	buf_add_cstr(&p->request, p->id);
	buf_add_str(&p->request, STR(" HTTP/1.1\r\n"));
	http_write_header(&p->request, STR("Host"), str_from(upstream_authority(p->upstream)));
	http_write_header(&p->request, STR("User-Agent"), STR("stacygate/" PACKAGE_VERSION));
	if (p->key)
		http_write_header_secret(&p->request, STR("X-API-Key"), key_secret(p->key));
	http_write_header(&p->request, STR("X-User-ID"), str_from(p->user_id));
	http_write_header(&p->request, STR("X-Request-ID"), str_from(p->request_id));
	http_write_end(&p->request);
}

static const struct upstream_events conn_events;

static void use_conn(struct orphan *p, struct upstream_conn *c)
{
	p->conn = c;
	p->tries++;
	upstream_conn_listen(c, &conn_events, p);
	move(p, ORPHAN_DELETE);
	http_parser_init(&p->parser, HTTP_RESPONSE);
	p->in_body = false;
	buf_reset(&p->received);
	deadline_set(upstream_deadlines(p->upstream, UPSTREAM_WAIT_RESPONSE), &p->deadline);
	write_delete(p);
	if (p->request.failed)
		try_again(p);
	else
		send_delete(p);
}

static void on_lease(struct upstream_ticket *t, struct upstream_conn *c)
{
	use_conn(CONTAINER_OF(t, struct orphan, ticket), c);
}

static void on_lease_failed(struct upstream_ticket *t, enum upstream_failure failure, const char *why)
{
	struct orphan *p = CONTAINER_OF(t, struct orphan, ticket);

	(void)failure;
	(void)why;
	p->tries++;
	try_again(p);
}

static void begin_delete(struct orphan *p)
{
	struct upstream_conn *c;

	p->ticket.identity = p->user_id;
	p->ticket.on_lease = on_lease;
	p->ticket.on_failure = on_lease_failed;
	switch (upstream_lease(p->upstream, &p->ticket, p->tries > 0, &c)) {
	case UPSTREAM_LEASE_NOW:
		use_conn(p, c);
		return;
	case UPSTREAM_LEASE_WAIT:
		return;
	case UPSTREAM_LEASE_FULL:
	case UPSTREAM_LEASE_DOWN:
		p->tries++;
		try_again(p);
		return;
	}
}

/* --- answers ------------------------------------------------------------------------------------------------------------- */

/* The id in a 201's body, if it is one that can stand in a path. */
static bool find_id(struct orphan *p)
{
	json_t *body = json_loadb(buf_data(&p->received) ? buf_data(&p->received) : "", p->received.len, 0, NULL);
	const char *id = json_string_value(json_object_get(body, "id"));
	size_t n = id ? strlen(id) : 0;
	bool good = n > 0 && n <= ID_MAX_BYTES && id[0] != '.' &&
		    strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == n;

	if (good)
		memcpy(p->id, id, n + 1);
	json_decref(body);
	return good;
}

static void on_answer_complete(struct orphan *p, bool reusable)
{
	if (p->state == ORPHAN_DELETE) {
		if (p->status >= 500 || p->status == 429) {
			try_again(p);
			return;
		}
		log_info("upstream %s: sandbox %s of a client that left (id=%s) is destroyed",
			 upstream_name(p->upstream), p->id, p->request_id);
		finish(p, &p->orphanage->destroyed, reusable);
		return;
	}
	if (p->status != 201) {
		finish(p, &p->orphanage->nothing, reusable);
		return;
	}
	if (!find_id(p)) {
		lose(p, "was answered without an id");
		return;
	}
	upstream_release(&p->conn, reusable);
	move(p, ORPHAN_LEASE);
	begin_delete(p);
}

static void on_broken(struct orphan *p)
{
	if (p->state == ORPHAN_DELETE)
		try_again(p);
	else
		lose(p, "was not answered to the end");
}

static void keep_body(void *arg, const char *bytes, size_t n)
{
	struct orphan *p = arg;

	if (p->received.len + n <= BODY_MAX_BYTES)
		buf_add(&p->received, bytes, n);
}

static void take_body(struct orphan *p, const char *bytes, size_t n)
{
	size_t used;

	switch (http_parse_body(&p->parser, bytes, n, &used, keep_body, p)) {
	case HTTP_MORE:
		return;
	case HTTP_DONE:
		on_answer_complete(p, p->keeps && used == n);
		return;
	case HTTP_BAD:
		on_broken(p);
		return;
	}
}

/* What has come of a head; interim answers are passed over. */
static void take_head(struct orphan *p)
{
	static struct http_head head; /* used within this call only */
	struct buf bytes = p->received;
	size_t at = 0;
	size_t used;
	enum http_result rc;

	p->received = BUF_EMPTY;
	while ((rc = http_parse_head(&p->parser, buf_data(&bytes) + at, bytes.len - at, &head, &used)) == HTTP_DONE) {
		at += used;
		if (head.status >= 200)
			break;
		http_parser_init(&p->parser, HTTP_RESPONSE);
	}
	if (rc == HTTP_MORE) {
		buf_consume(&bytes, at);
		p->received = bytes;
		return;
	}
	if (rc == HTTP_BAD) {
		buf_fini(&bytes);
		on_broken(p);
		return;
	}
	p->in_body = true;
	p->status = head.status;
	p->keeps = head.keep_alive;
	take_body(p, buf_data(&bytes) + at, bytes.len - at);
	buf_fini(&bytes);
}

static void on_conn_readable(void *arg)
{
	struct orphan *p = arg;

	for (;;) {
		ssize_t n = upstream_conn_recv(p->conn, scratch, sizeof(scratch));
		if (n == -EAGAIN)
			return;
		if (n == 0 && p->in_body && http_parse_eof(&p->parser) == HTTP_DONE) {
			on_answer_complete(p, false);
			return;
		}
		if (n <= 0) {
			on_broken(p);
			return;
		}
		if (p->in_body) {
			take_body(p, scratch, (size_t)n);
		} else {
			buf_add(&p->received, scratch, (size_t)n);
			take_head(p);
		}
		if (!p->conn || !upstream_conn_is_buffered(p->conn))
			return;
	}
}

static void on_conn_writable(void *arg)
{
	send_delete(arg);
}

static const struct upstream_events conn_events = {.on_readable = on_conn_readable, .on_writable = on_conn_writable};

static void on_deadline(struct deadline *d)
{
	on_broken(CONTAINER_OF(d, struct orphan, deadline));
}

/* --- adopting --------------------------------------------------------------------------------------------------------------- */

void orphanage_init(struct orphanage *o, struct loop *loop)
{
	memset(o, 0, sizeof(*o));
	o->loop = loop;
	list_init(&o->orphans);
}

static struct orphan *orphan_new(struct orphanage *o, const struct orphan_case *c)
{
	struct orphan *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	list_init(&p->link);
	list_init(&p->ticket.link);
	deadline_init(&p->deadline, on_deadline);
	deferred_init(&p->destroy, on_destroy);
	p->orphanage = o;
	p->user_id = strdup(c->user_id);
	p->request_id = strdup(c->request_id);
	p->pause = evtimer_new(loop_base(o->loop), on_pause_over, p);
	buf_add_str(&p->received, c->received);
	if (!p->user_id || !p->request_id || !p->pause || p->received.failed) {
		if (p->pause)
			event_free(p->pause);
		free(p->user_id);
		free(p->request_id);
		buf_fini(&p->received);
		free(p);
		return NULL;
	}
	p->upstream = upstream_ref(c->upstream);
	p->key = c->key ? key_ref(c->key) : NULL;
	return p;
}

void orphanage_adopt(struct orphanage *o, const struct orphan_case *c, struct upstream_conn **conn)
{
	struct orphan *p = orphan_new(o, c);

	o->adopted++;
	if (!p) {
		o->lost++;
		upstream_release(conn, false);
		return;
	}
	list_add_tail(&o->orphans, &p->link);
	o->count++;
	p->conn = *conn;
	*conn = NULL;
	p->status = c->status;
	p->in_body = c->status != 0;
	http_parser_move(&p->parser, c->parser);
	upstream_conn_listen(p->conn, &conn_events, p);
	upstream_conn_want_write(p->conn, false);
	upstream_conn_pause_read(p->conn, false);
	deadline_set(upstream_deadlines(p->upstream, UPSTREAM_WAIT_SPAWN), &p->deadline);
	log_info("upstream %s: the client of a spawn has left (id=%s): its sandbox will be destroyed",
		 upstream_name(p->upstream), p->request_id);
}

void orphanage_abandon(struct orphanage *o)
{
	LIST_FOREACH_SAFE (n, &o->orphans) {
		struct orphan *p = CONTAINER_OF(n, struct orphan, link);
		if (p->state != ORPHAN_ENDED)
			lose(p, "was given up at the stop of the daemon");
	}
}
