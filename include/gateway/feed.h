/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The servers' streams of events: one subscription per upstream and key, whoever reads it. What is remembered of sandboxes is
 * forgotten by what it says.
 */
#ifndef GATEWAY_FEED_H
#define GATEWAY_FEED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/list.h"
#include "common/loop.h"
#include "common/sm.h"
#include "gateway/event_doc.h"
#include "gateway/fetch.h"

struct feed_source;
struct ownership;
struct snapshot;

/* All subscriptions of the daemon; embedded. */
struct feed {
	struct loop *loop;           /* borrowed */
	struct ownership *ownership; /* borrowed */
	struct list sources;         /* struct feed_source */
	struct list tallies;         /* struct feed_tally, per upstream */
	struct deadline_queue idle_deadlines;
};

/* An event that was read, shared by all who wait to pass it on. */
struct feed_event {
	unsigned refs;
	bool comment;         /* it is none: a comment or a blank line, which is nobody's */
	struct event_doc doc; /* all empty when it is none that the server writes */
	size_t n;
	char raw[]; /* as it was written, n bytes */
};

struct feed_event *feed_event_ref(struct feed_event *e);
void feed_event_unref(struct feed_event *e);

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

void feed_init(struct feed *f, struct loop *loop, struct ownership *ownership);
/* Nobody reads any more. */
void feed_fini(struct feed *f);
/* Nobody subscribes for the sake of rules that are not in force any more. */
void feed_use_snapshot(struct feed *f, const struct snapshot *s);

enum feed_joined {
	FEED_BEGUN,  /* events follow */
	FEED_WAITS,  /* on_begun or on_refused follows */
	FEED_FAILED, /* out of memory; it reads nothing */
};

/* Begins to read; the callbacks are set. The caller's texts are borrowed for the call. */
MUST_CHECK enum feed_joined feed_join(struct feed *f, const struct fetch_caller *caller, struct feed_reader *r);
/* Harmless when it reads nothing. */
void feed_leave(struct feed_reader *r);

/*
 * Something of that upstream is remembered and was used now: it is to be forgotten when an event says so. For as long as this is
 * called every five minutes there is a subscription, if the server has events and the pool more than a few places.
 */
void feed_want(struct feed *f, const struct fetch_caller *caller);

/* What has happened at an upstream since it was configured; the readers count the last two. */
struct feed_counts {
	uint64_t reconnects; /* the stream began anew */
	uint64_t events;     /* that came */
	uint64_t dropped;    /* not passed to a reader: not his, or too long for anybody */
	uint64_t overflowed; /* readers that were cut for not taking theirs */
};

struct feed_status {
	bool connected;     /* every subscription that there is */
	size_t subscribers; /* readers */
	struct feed_counts counts;
};

/* While it reads. */
struct feed_counts *feed_counts_of(struct feed_reader *r);
struct feed_status feed_status(const struct feed *f, const struct upstream *u);

/* The table of a subscription's states, for the test that walks it. */
const struct sm *feed_sm(void);

#endif
