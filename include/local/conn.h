/* SPDX-License-Identifier: Apache-2.0 */
/* A client connection of the HTTP front, and the one request on it that is being answered. */
#ifndef LOCAL_CONN_H
#define LOCAL_CONN_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/http_parse.h"
#include "common/list.h"
#include "common/loop.h"
#include "common/str.h"

struct conn;
struct event;

struct conn_body_limit {
	uint64_t bytes;  /* greatest body taken */
	unsigned status; /* what a greater one is answered with */
};

struct conn_handler {
	/*
	 * A request head is there. The handler may answer at once, and then hears no more of the request; otherwise it
	 * says how much body it takes and on_request follows.
	 */
	struct conn_body_limit (*on_head)(void *arg, struct conn *c);
	/* The whole request is there. The handler answers now or later. */
	void (*on_request)(void *arg, struct conn *c);
};

/* What the connections of one server share; filled and owned by httpd. */
struct conn_shared {
	struct loop *loop;                  /* borrowed */
	const struct conn_handler *handler; /* borrowed */
	void *handler_arg;                  /* borrowed */
	uint64_t body_limit;                /* most bytes of request bodies, together */
	uint64_t body_bytes;                /* bytes of request bodies held now */
	struct deadline_queue head;         /* the server's limits */
	struct deadline_queue idle;
	struct deadline_queue body;
	struct deadline_queue stall;
	struct deadline_queue linger;
	struct list conns;                             /* struct conn */
	size_t nconns;                                 /* on that list */
	bool draining;                                 /* no request after the present one */
	void (*on_closed)(struct conn_shared *shared); /* a connection went off the list */
	struct http_head scratch_head;                 /* the head being parsed; meaningless between calls */
	char scratch[65536];                           /* what is being received; meaningless between calls */
};

/* Takes the descriptor over, also when it fails. 0 or -ENOMEM. */
MUST_CHECK int conn_new(struct conn_shared *shared, int fd, bool tcp);

/* The connection on the list of its server. */
struct conn *conn_of_link(struct list *link);

/* Stops as soon as the present answer has gone out, at once if there is none. */
void conn_drain(struct conn *c);

/* Frees it at once; only when no callback of it is on the stack. */
void conn_free(struct conn *c);

/* --- the request; spans live until the answer has ended ------------------------------------------------------- */

enum http_method conn_method(const struct conn *c);
struct str conn_path(const struct conn *c);                    /* the target before '?', as sent */
struct str conn_query(const struct conn *c);                   /* the target behind '?', as sent */
struct str conn_header(const struct conn *c, struct str name); /* the first of that name; p NULL without one */
struct str conn_body(const struct conn *c);
bool conn_is_tcp(const struct conn *c);

/*
 * In on_head: the request, and all that comes behind it, is bytes for somebody else. on_request does not follow; the
 * handler answers, which ends the connection, or takes it.
 */
void conn_hold(struct conn *c);

/* What is left of a connection that was taken. */
struct conn_taken {
	int fd;         /* owned, non-blocking; no event is on it */
	bool ended;     /* the client sends nothing beyond `in` */
	struct buf in;  /* owned: all that came from the head on, as it came; may have failed */
	struct buf out; /* owned: what is to be sent first */
};

/* Takes a held connection away from the front; its request is over, and `c` must not be touched again. */
void conn_take(struct conn *c, struct conn_taken *out);

/* What a handler that answers later wants to hear; NULL members are fine. */
struct conn_watch {
	/* The answer's backlog has shrunk after conn_send returned true. */
	void (*on_drained)(void *arg);
	/* The client has closed its sending side, perhaps more; it may still read. At most once. */
	void (*on_half_closed)(void *arg);
	/* The client has gone: the request is over and must not be touched again. */
	void (*on_gone)(void *arg);
};

/* May be called in on_head or on_request; ends with the answer. `watch` and `arg` are borrowed. */
void conn_watch(struct conn *c, const struct conn_watch *watch, void *arg);
/* The `arg` of conn_watch; NULL when nobody watches. */
void *conn_watcher(const struct conn *c);

/* --- the answer; header lines are ours and complete ("Allow: GET\r\n") ----------------------------------------- */

/* A whole answer. The request is over when it returns. `type` NULL: no Content-Type. */
void conn_respond(struct conn *c, unsigned status, const char *type, struct str headers, struct str body);

/* An answer in pieces: its head, with a Content-Length when length >= 0, else chunked. */
void conn_begin(struct conn *c, unsigned status, const char *type, struct str headers, int64_t length);
/* More of it. True: more is waiting than should be; stop until on_drained. */
bool conn_send(struct conn *c, struct str piece);
/* Its end; the request is over. What is short of its Content-Length is cut instead. */
void conn_end(struct conn *c);
/* Breaks it off so that the client sees it; the request is over. */
void conn_abort(struct conn *c);
/* Whether bytes of the answer still wait to be sent. */
bool conn_has_backlog(const struct conn *c);

#endif
