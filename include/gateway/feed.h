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
#include "gateway/feed_source.h"

struct snapshot;

/* All subscriptions of the daemon; embedded. */
struct feed {
	struct feed_shared shared;
	struct list tallies; /* struct feed_tally, per upstream */
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

struct feed_status {
	bool connected;     /* every subscription that there is */
	size_t subscribers; /* readers */
	struct feed_counts counts;
};

/* While it reads. */
struct feed_counts *feed_counts_of(struct feed_reader *r);
struct feed_status feed_status(const struct feed *f, const struct upstream *u);

#endif
