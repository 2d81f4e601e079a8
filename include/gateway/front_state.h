/* SPDX-License-Identifier: Apache-2.0 */
/* One client connection and its request, as the parts of front share them. */
#ifndef GATEWAY_FRONT_STATE_H
#define GATEWAY_FRONT_STATE_H

#include <stdlib.h>

#include "gateway/answer.h"
#include "gateway/front_shared.h"
#include "gateway/identity.h"
#include "gateway/names.h"
#include "gateway/request_id.h"
#include "gateway/route_class.h"
#include "gateway/sandbox_doc.h"
#include "gateway/status.h"
#include "gateway/trace_context.h"

struct audit_record;
struct call;
struct config_rule;
struct exchange;
struct limiter_owner;
struct preview;

/* What is to be answered by ourselves when the request has been read. */
enum pending {
	PENDING_NOTHING,
	PENDING_CONTROL,
	PENDING_OPTIONS,
	PENDING_REFUSAL,
	PENDING_DESTROYED, /* of a sandbox that the caller destroyed before */
	PENDING_CALL,
};

/* What is known of the owner that the rule makes of the peer. */
enum user_id_state {
	USER_ID_GOOD,
	USER_ID_BAD,     /* it comes out unusable for this peer */
	USER_ID_WAITING, /* for the name service; no request is begun */
	USER_ID_UNKNOWN, /* the name service does not answer */
};

/* The request that is under way; made when it begins and dropped with its end, so that an idle client costs little. */
struct request {
	enum pending pending;
	enum http_method method;
	char method_text[8];
	bool counted;           /* in the limits of its owner */
	bool acted;             /* answered here, the upstream was asked to change something for it */
	bool ended;             /* it has been counted */
	enum route_class class; /* ROUTE_UNKNOWN until it is known */
	unsigned refusal_status;
	unsigned retry_after_s; /* of a refusal */
	char *pending_text;     /* owned; why refused, or the path behind /gateway/v1; NULL also without memory */
	char *open_ended; /* owned; path of a tunnel or the events, or sandbox of a preview's tunnel: a reload may end it */
	char *path;       /* owned; for the log, cut, never the query; NULL when it is not logged */
	const char *template; /* literal; of the route; NULL until it is known */
	uint64_t started_ns;
	struct enforce *enforce; /* owned; what shapes its exchange; NULL: nothing does */
	struct preview *preview; /* owned; what lets it go to a sandbox's port; NULL: it is no such */
	struct front *front;     /* borrowed */
	struct call *call;       /* owned; with PENDING_CALL and until it is answered; NULL otherwise */
	bool admit_call;         /* it is admitted first */
	struct gather gather;    /* of a call that wants its body */
	char request_id[REQUEST_ID_MAX_BYTES + 1];
	char sandbox[SANDBOX_DOC_ID_MAX_BYTES + 1]; /* for audit and status; empty when it is about none */
	bool traced;                                /* traces are made: the next ones are good */
	struct trace_context trace;
	char *trace_lines;       /* owned; those of `trace` and the client's tracestate; NULL: there is none */
	uint64_t trace_start_ns; /* clock_ns(), of one that is sampled */
	int64_t trace_wall_ns;   /* the same by the wall clock */
};

struct front {
	struct front_shared *shared; /* borrowed */
	struct list link;            /* on front_shared.fronts */
	struct client *client;       /* owned by itself; valid until on_closed */
	struct identity peer;
	struct front_uid *uid;          /* borrowed; the entry of peer.uid, which this connection keeps */
	const char *listener;           /* owned reference to a shared text */
	const char *next_listener;      /* the same; what it is called from the snapshot in force on; NULL: as it is */
	struct snapshot *snapshot;      /* owned reference; what rule and user_id belong to */
	const struct config_rule *rule; /* borrowed from the snapshot; NULL: none matches */
	const char *user_id;            /* owned reference to a shared text; NULL: none, or without memory */
	struct limiter_owner *limits;   /* owned reference; of user_id; NULL: unusable, or without memory */
	struct name_asker
		*name_asker; /* owned; with USER_ID_WAITING, or to know whether what is under way is still admitted */
	struct request *now; /* owned; NULL between requests */
	struct exchange *exchange; /* its, until its on_end; NULL otherwise */
	char *cors;                /* owned; head lines for a browser's origin; NULL: none */
	uint64_t requests;
	enum exchange_end cut_as; /* how what is under way ends when the connection does */
	bool connection_counted;  /* in limits */
	enum user_id_state user_id_state;
};

/* What its listener is called in the snapshot in force. */
static inline const char *front_listener_now(const struct front *f)
{
	return f->next_listener ? f->next_listener : f->listener;
}

/* Waits for a name; few connections ever do. */
struct name_asker {
	struct front *front; /* borrowed */
	struct names_wait wait;
};

/* The turn's time, which is exact enough for limits and logs and costs nothing. */
static inline uint64_t front_now_ns(const struct front *f)
{
	return loop_now_ms(f->shared->loop) * 1000000;
}

/* Texts of a request are kept only while it needs them: an idle client is to cost little. */
static inline void front_set_text(char **text, char *to)
{
	free(*text);
	*text = to;
}

/* Cut to what there is room for. Without printf: this is done for every request. */
static inline void front_copy_text(char *to, size_t size, struct str s)
{
	size_t n = s.n < size ? s.n : size - 1;

	if (n)
		memcpy(to, s.p, n);
	to[n] = '\0';
}

/* What requests to servers carry of the request's trace; NULL: no traces are made. */
static inline const char *front_trace_lines(const struct request *r)
{
	return !r->traced ? NULL : r->trace_lines ? r->trace_lines : r->trace.line;
}

static inline struct answer_to front_answer_to(const struct front *f)
{
	return (struct answer_to){f->client, f->now->request_id, f->now->method == METHOD_HEAD, NULL};
}

/* What the caller may be told of the daemon. */
static inline struct status_view front_view(const struct front *f)
{
	return (struct status_view){
		.snapshot = f->snapshot,
		.stats = &f->shared->stats,
		.clients = &f->shared->clients,
		.caller = {&f->peer, f->listener, f->rule, f->user_id ? f->user_id : "", &f->uid->connections},
	};
}

#endif
