/* SPDX-License-Identifier: Apache-2.0 */
/* One subscription to a server's stream of events: asks for it, hands out what comes, asks again. For feed, which has all of them. */
#ifndef GATEWAY_FEED_SOURCE_H
#define GATEWAY_FEED_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/list.h"
#include "common/loop.h"
#include "common/sm.h"
#include "gateway/feed_event.h"
#include "gateway/fetch.h"
#include "gateway/keyring.h"
#include "gateway/request_id.h"
#include "gateway/sse.h"

struct event;
struct feed_source;
struct ownership;

enum {
	/* Without a use of what is remembered it is given up; and how long a server without events is left alone. */
	FEED_IDLE_MS = 300000
};

/* Who reads; embedded. None of its functions is called from within one of this header. */
struct feed_reader {
	struct list link;           /* on its source's list while it reads */
	struct feed_source *source; /* borrowed; NULL: it reads nothing */
	bool begun;                 /* the server's stream has begun for it */
	/* The server's stream has begun; events follow. */
	void (*on_begun)(struct feed_reader *r);
	/* The server could not be reached, or answered that; it reads nothing any more. */
	void (*on_refused)(struct feed_reader *r, const struct fetch_answer *a);
	/* The next event, or the comment that says that some may be missing before the next. May leave. */
	void (*on_event)(struct feed_reader *r, struct feed_event *e);
	/* The server stays away; it reads nothing any more. */
	void (*on_lost)(struct feed_reader *r);
};

/* What all of them share; embedded in feed. */
struct feed_shared {
	struct loop *loop;                    /* borrowed */
	struct ownership *ownership;          /* borrowed */
	struct list sources;                  /* struct feed_source */
	struct deadline_queue idle_deadlines; /* FEED_IDLE_MS */
};

/* What has happened at an upstream since it was configured; the readers count the last two. */
struct feed_counts {
	uint64_t reconnects; /* the stream began anew */
	uint64_t events;     /* that came */
	uint64_t dropped;    /* not passed to a reader: not his, or too long for anybody */
	uint64_t overflowed; /* readers that were cut for not taking theirs */
};

/* The diagram is in feed_source.c. */
enum feed_state {
	FEED_IDLE,
	FEED_CONNECT,
	FEED_OPEN,
	FEED_WAIT,
	FEED_STATES,
};

/* Where the subscriptions to one upstream count; it outlives them. */
struct feed_tally {
	struct list link; /* on feed.tallies */
	uint64_t serial;  /* of the upstream */
	size_t sources;   /* that count here */
	struct feed_counts counts;
};

struct feed_source {
	struct list link;           /* on feed.sources */
	struct feed_shared *shared; /* borrowed */
	struct upstream *upstream;  /* owned reference */
	struct key *key;            /* owned reference; NULL: none */
	struct feed_tally *tally;   /* borrowed */
	enum feed_state state;
	struct list readers;                       /* struct feed_reader */
	char *user_id;                             /* owned; in whose name it is asked for */
	char request_id[REQUEST_ID_MAX_BYTES + 1]; /* of the request that caused it; empty when it is asked for again */
	struct fetch *fetch;                       /* owned; in CONNECT and OPEN; NULL while a key is waited for */
	struct secret *used;                       /* owned reference; what the fetch has of the key */
	struct key_wait key_wait;
	bool rekeyed; /* this connect has had a 401, and tries another value of the key */
	bool odd;     /* the answer is a 200 that is no stream of events */
	bool again;   /* a stream had begun before: the next one is a reconnect */
	struct sse sse;
	bool no_memory;       /* an event was lost */
	bool wanted;          /* for what is remembered */
	uint64_t used_ms;     /* loop_now_ms() of the last use of that */
	uint64_t barren_ms;   /* until then the server has no events; 0: it may have */
	uint64_t opened_ms;   /* of the stream, in OPEN */
	unsigned tries;       /* since the last good stream */
	struct event *retry;  /* owned; in WAIT */
	struct deadline away; /* while the stream is missing to somebody; timeouts.response */
	struct deadline idle; /* while it is wanted, or known to be barren */
	struct deferred review;
};

/* For that upstream and key; without memory NULL. It ends by itself when nobody needs it, or by feed_source_free. */
struct feed_source *feed_source_new(struct feed_shared *shared, struct feed_tally *tally,
				    const struct fetch_caller *caller);
void feed_source_free(struct feed_source *s);
/* Asks for the stream in the caller's name, if it is not asked for already. 0 or -ENOMEM. */
MUST_CHECK int feed_source_begin(struct feed_source *s, const struct fetch_caller *caller);
/* Somebody may not need it any more: it is seen to at the end of the turn. */
void feed_source_review(struct feed_source *s);

/* The table of its states, for the test that walks it. */
const struct sm *feed_source_sm(void);

#endif
