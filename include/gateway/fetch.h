/* SPDX-License-Identifier: Apache-2.0 */
/* A request of the gateway's own to an upstream, made for a caller; its answer is collected. */
#ifndef GATEWAY_FETCH_H
#define GATEWAY_FETCH_H

#include <stdbool.h>
#include <stddef.h>

#include "common/err.h"
#include "common/http_parse.h"
#include "common/sm.h"
#include "common/str.h"
#include "gateway/upstream.h"

struct fetch;
struct key;
struct loop;

/* How it ended. One row each in fetch.c: what a client that depends on it is answered. */
enum fetch_end {
	FETCH_DONE,        /* an answer came, whatever its status */
	FETCH_UNREACHABLE, /* no connection */
	FETCH_NO_PLACE,    /* pool and queue full, or waited too long */
	FETCH_TIMEOUT,     /* connecting or answering took too long */
	FETCH_BROKEN,      /* the answer broke off, or was none */
	FETCH_TOO_LARGE,   /* it has more than max_bytes */
	FETCH_NO_KEY,      /* the key that it needs could not be read yet */
	FETCH_NO_MEMORY,
	FETCH_ENDS,
};

/* The status that goes with such an end towards a client: 502, 503 or 504; 0 for FETCH_DONE. */
unsigned fetch_end_status(enum fetch_end end);

/* Borrowed for the call of on_done. */
struct fetch_answer {
	enum fetch_end end;
	const char *why; /* text for people; with every end but FETCH_DONE */
	unsigned status;
	bool sent;           /* a byte of the request may have reached the server */
	uint64_t sent_at_ms; /* clock_ms() of the first one */
	struct str head; /* with keep_head: status line and header lines that may pass to a client, without framing */
	struct str body; /* without its framing; empty where on_data took it */
	struct str date; /* the value of Date; empty without one */
};

/* In whose name something is asked of a server. */
struct fetch_caller {
	struct upstream *upstream;
	struct key *key;     /* sent as X-API-Key; NULL: none */
	const char *user_id; /* sent as X-User-ID, and whose place in the pool it takes; NULL, with own_place: none */
	const char *request_id;  /* NULL: none is sent */
	const char *trace_lines; /* header lines of the trace that it belongs to; NULL: none are sent */
};

/* A copy that holds references and texts of its own; fetch_caller_fini in any case. 0 or -ENOMEM. */
MUST_CHECK int fetch_caller_copy(struct fetch_caller *to, const struct fetch_caller *from);
void fetch_caller_fini(struct fetch_caller *c);

/* Borrowed for the call of fetch_start but where it says otherwise. */
struct fetch_request {
	struct fetch_caller caller; /* references are taken */
	const char *method;         /* a literal: GET, DELETE, POST or PUT */
	struct str target;          /* origin form */
	struct str body;            /* JSON; n 0: none, which a POST says too */
	struct str accept;          /* n 0: not said */
	struct str user_agent;      /* n 0: ours */
	struct str lines;        /* header lines of a client's, in place of our User-Agent, Accept and Content-Type */
	enum upstream_wait wait; /* bounds the time to the response head */
	size_t max_bytes;        /* of the collected body */
	bool urgent;             /* goes before everything that waits for a connection, of whoever */
	bool keep_head;          /* the answer has its head */
	bool fresh;              /* on a connection that has served nobody: another try after a failed one */
	bool own_place;          /* its place in the pool is the gateway's own, not out of the caller's share */
	/* Optional: the final response's head, before its body; borrowed for the call. */
	void (*on_head)(void *arg, const struct http_head *head);
	/* Optional: gets the body of a 200 as it comes, bounded by nothing; other answers are collected all the same. */
	void (*on_data)(void *arg, const char *p, size_t n);
	/* Once, never from within fetch_start; the fetch is freed afterwards. */
	void (*on_done)(void *arg, const struct fetch_answer *answer);
	void *arg;
};

/*
 * Starts it. A key that the server refuses (401) is read again, and if it is another one by then the request is sent once more
 * with it, whatever its method: a server that refuses a key has not acted. A connection that was kept from before and breaks without a byte of an answer is followed by a second try on a fresh one, with POST and PUT only when
 * nothing of the request was sent. 0 or -ENOMEM.
 */
MUST_CHECK int fetch_start(struct loop *loop, const struct fetch_request *request, struct fetch **out);

/* While paused nothing is read of the answer, and no deadline runs. For who gets it by on_data. */
void fetch_pause(struct fetch *f, bool paused);

/* Ends it without on_done. NULL is fine. */
void fetch_cancel(struct fetch *f);

/* The table of its states, for the test that walks it. */
const struct sm *fetch_sm(void);

#endif
