/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request that the gateway answers itself, after it has asked servers or waited for something. What it asks is the business
 * of its kind, which embeds a struct call; admission, the whole body, Stacygate-Timeout and the ways to answer are here.
 */
#ifndef GATEWAY_CALL_H
#define GATEWAY_CALL_H

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/http_parse.h"
#include "common/str.h"
#include "gateway/admit.h"
#include "gateway/fetch.h"

struct call;
struct client;
struct config;
struct config_rule;
struct config_upstream;
struct identity;
struct limiter_owner;
struct loop;
struct route;
struct target;
struct template_cache;

/* What is known of the request. Borrowed until the call is freed but where it says otherwise. */
struct call_case {
	struct loop *loop;
	struct client *client;
	struct admit_shared *admit;
	struct template_cache *templates;
	const struct config *config;
	const struct config_rule *rule;
	const struct config_upstream *upstream; /* the rule's */
	struct fetch_caller caller;             /* in whose name servers are asked */
	const char *credential;                 /* name of the rule's; NULL: none */
	const struct identity *peer;
	struct limiter_owner *limits; /* of caller.user_id */
	enum http_method method;
	uint64_t timeout_ms;          /* Stacygate-Timeout; 0: none */
	const struct http_head *head; /* borrowed for the constructor only, as the next two */
	const struct target *target;
	const struct route *route;
};

/* How it went, for log, audit and counters. */
struct call_end {
	unsigned status;          /* what the client was answered; 0: nothing */
	unsigned upstream_status; /* of the answer that was passed on; 0: it is the gateway's own */
	bool acted;               /* a server was asked to change something */
	bool cut;                 /* the answer breaks off where it stands */
	uint64_t bytes_down;      /* of the body */
};

/* What a kind of call does; none of them is called from within another function of this header but call_start. */
struct call_ops {
	/* The request has been read and admitted: `body` is all of it, borrowed until the call is freed. */
	void (*on_request)(struct call *c, struct str body);
	/* The client takes more of a stream. NULL: nothing is done. */
	void (*on_drained)(struct call *c);
	/* Stacygate-Timeout has passed. NULL: it is answered with 504, or cut. */
	void (*on_timeout)(struct call *c);
	/* It never ends by itself: a drain does not wait for it when nothing else is under way. */
	bool endless;
	/* The client has left, or was answered: whatever is waited for is cancelled or left to others; frees the call. */
	void (*on_free)(struct call *c);
};

struct call {
	const struct call_ops *ops;
	struct call_case c;
	struct admit admit;
	struct str body; /* with admission pending */
	bool started;    /* on_request was called, or it was answered */
	bool begun;      /* a stream's head is out */
	bool chunked;    /* and its body goes in chunks */
	bool acted;      /* set by the kind: a server was asked to change something */
	bool unheard;    /* for on_free: it was answered, and the client had gone */
	uint64_t bytes_down;
	struct event *timeout;   /* owned; NULL without one */
	struct event *heartbeat; /* owned; of a stream whose rule has one; NULL otherwise */
	struct str beat;         /* what is sent then: a literal */
	bool whole_line;         /* the last byte of the stream ended a line */
	bool stalled;            /* the client takes nothing more until call_drained */
	/* Once, when it was answered; on_free follows. Set by whoever made it. */
	void (*on_end)(void *arg, const struct call_end *end);
	void *arg;
};

/* For constructors: copies the case; `sandbox` is what it names (well formed), empty for none. 0 or -ENOMEM. */
MUST_CHECK int call_init(struct call *c, const struct call_ops *ops, const struct call_case *what, struct str sandbox);
/* For on_free, before the kind frees its own. */
void call_fini(struct call *c);

/*
 * The request has been read. `isolated` asks for admission first. It may be answered, and the call freed, from within.
 */
void call_start(struct call *c, struct str body, bool isolated);
/* The client takes more. */
void call_drained(struct call *c);
/* The daemon stops: a stream is told, by a comment or a blank line. */
void call_draining(struct call *c);
/* It has ended, or its client has left. NULL is fine. */
void call_free(struct call *c);

/* --- answering: the call has been freed when one of these returns --------------------------------------------------------- */

void call_refuse(struct call *c, unsigned status, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* For a fetch that ended without an answer: names the upstream. */
void call_refuse_upstream(struct call *c, unsigned status, const char *why);
/* JSON with a newline added; `json` is emptied. `extra` are further head lines; NULL: none. */
void call_json(struct call *c, unsigned status, const struct buf *extra, struct buf *json);
/* A body of that type as it is; `body` is emptied. */
void call_text(struct call *c, unsigned status, const char *type, const struct buf *extra, struct buf *body);
/*
 * The server's answer as it came: its status, what of its head may pass (fetch with keep_head), its body.
 */
void call_relay(struct call *c, const struct fetch_answer *a, const struct buf *extra);
/* The same in pieces, for an answer that was kept: status, head (status line and header lines), body. */
void call_relay_kept(struct call *c, unsigned status, struct str head, const struct buf *extra, struct str body);
/* The same for what is remembered: no server has answered this request. */
void call_give_kept(struct call *c, unsigned status, struct str head, const struct buf *extra, struct str body);

/* --- answering with a stream ------------------------------------------------------------------------------------------------- */

/*
 * Sends the head of a 200 of that type, application/x-ndjson or text/event-stream; while the stream is silent it gets what the
 * rule's heartbeat promises: a blank line, or a comment. False without memory: then it has been cut, and the call freed.
 */
MUST_CHECK bool call_stream_begin(struct call *c, const char *type, const struct buf *extra);
/* False when more is kept than the client takes: go on after on_drained. */
bool call_stream_send(struct call *c, struct str data);
/* The stream is complete, or breaks off where it stands. The call has been freed. */
void call_stream_end(struct call *c);
void call_stream_cut(struct call *c);

#endif
