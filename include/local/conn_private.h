/* SPDX-License-Identifier: Apache-2.0 */
/* What a connection is made of; for conn_life.c, conn_request.c and conn_answer.c alone. */
#ifndef LOCAL_CONN_PRIVATE_H
#define LOCAL_CONN_PRIVATE_H

#include "common/buf.h"
#include "local/conn.h"

enum {
	KEEP_CAP_BYTES = 16 << 10,     /* buffers that grew beyond this are given back between requests */
	OUT_HIGH_BYTES = 256 << 10,    /* the answer is asked to pause above this */
	DISCARD_MAX_BYTES = 256 << 10, /* of a body that nobody wants; a longer one costs the connection */
};

enum conn_state {
	CONN_HEAD,
	CONN_BODY,
	CONN_DISCARDING,
	CONN_WORKING,
	CONN_FLUSHING,
	CONN_LINGERING,
	CONN_CLOSED,
	CONN_STATES,
};

enum answer_state {
	ANSWER_NONE,
	ANSWER_OPEN, /* begun */
	ANSWER_DONE,
};

enum answer_framing {
	FRAME_LENGTH,
	FRAME_CHUNKED,
	FRAME_CLOSE,
};

struct request {
	struct buf head;             /* its bytes; the spans below point into it. May hold a key */
	struct http_header *headers; /* owned */
	size_t nheaders;
	enum http_method method;
	struct str target;
	struct str id; /* X-Request-ID: the client's, else uuid */
	char uuid[37];
	unsigned minor;  /* HTTP/1.minor */
	bool keep_alive; /* another request may follow */
	bool held;       /* what comes behind the head is not ours to parse */
	struct conn_body_limit limit;
	struct buf body;
	uint64_t body_left; /* of a body with a length: bytes not yet received */
	size_t discarded;   /* bytes of an unwanted body */
	uint64_t began_ns;
	const struct conn_watch *watch; /* borrowed; NULL when nobody listens */
	void *watch_arg;
};

struct answer {
	enum answer_state state;
	enum answer_framing framing;
	unsigned status;
	uint64_t left; /* FRAME_LENGTH: bytes still to be sent */
	bool paused;   /* conn_send has returned true and on_drained was not called since */
};

struct conn {
	struct list link;           /* on the server's list */
	struct conn_shared *shared; /* borrowed */
	int fd;                     /* owned */
	bool tcp;
	bool eof;       /* the client sends nothing more, and all it sent was received */
	bool half_told; /* the close was reported to the request under way */
	enum conn_state state;
	struct event *read_ev;  /* owned */
	struct event *write_ev; /* owned; pending while output waits for room */
	struct event *close_ev; /* owned; pending while reading is paused */
	struct event *again_ev; /* owned; active when a turn's share of work was used up */
	struct buf in;          /* received, not yet parsed */
	struct buf out;         /* to be sent */
	struct http_parser parser;
	struct request req;
	struct answer ans;
	struct deadline wait;  /* for the client, by state */
	struct deadline stall; /* for the client to read */
	struct deferred work;  /* sending and going on, at the end of the turn */
	struct deferred destroy;
};

/* Copies what later steps need of a parsed head, since the input buffer moves. False without memory. */
bool conn_request_keep(struct conn *c, const struct http_head *head, size_t head_bytes);

/* Forgets request and answer; the connection is ready for the next one. */
void conn_request_reset(struct conn *c);

#endif
