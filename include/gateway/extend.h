/* SPDX-License-Identifier: Apache-2.0 */
/* Gives one sandbox the same ttl again and again, in somebody's name; a try that fails is repeated soon. */
#ifndef GATEWAY_EXTEND_H
#define GATEWAY_EXTEND_H

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "common/str.h"
#include "gateway/fetch.h"

struct loop;

enum {
	EXTEND_FIRST_PAUSE_MS = 250, /* before a failed try is repeated; then twice as long each time */
	EXTEND_LONGEST_PAUSE_MS = 10000,
	EXTEND_HURRY_MS = 1000,
	EXTEND_PATIENCE_MS = 10000, /* with one try */
	EXTEND_REFUSED_MS = 300000, /* after the ttl has passed, and the server refuses still: then it is given up */
};

/* Embedded in who wants it. */
struct extend {
	struct loop *loop;                 /* borrowed */
	const struct fetch_caller *caller; /* borrowed */
	const char *id;                    /* borrowed; well formed (sandbox_doc.h) */
	uint64_t ttl_ms;
	uint64_t period_ms;
	struct fetch *fetch;    /* owned; the present try */
	struct event *timer;    /* owned; until the next try, or the end of patience with this one */
	uint64_t pause_ms;      /* before the next try if this one fails */
	uint64_t tried_at_ms;   /* clock_ms() of the present try */
	uint64_t good_until_ms; /* clock_ms() at which the ttl of the last good answer passes, at the earliest */
	void (*on_extended)(struct extend *e, bool well); /* each answer, or none */
	/* The server does not know the sandbox, or (`refused`) has refused for so long that it cannot be there any more. Stopped. */
	void (*on_gone)(struct extend *e, bool refused);
};

/* 0 or -ENOMEM. extend_fini is right in either case. */
MUST_CHECK int extend_init(struct extend *e, struct loop *loop);
/* Cancels what is under way. */
void extend_fini(struct extend *e);

/* The ttl that the sandbox has now began just before the call: the next try is in one period. caller, id, ttl_ms, period_ms are set. */
void extend_start(struct extend *e);
/* The same, with the first try at once: nobody knows what ttl it has. */
void extend_start_now(struct extend *e);
void extend_stop(struct extend *e);
/* The next try is in EXTEND_HURRY_MS, unless it is sooner or under way. Does nothing when it is stopped. */
void extend_hurry(struct extend *e);

/* Writes the body of an extend: {"ttl":"120000ms"}. */
struct str extend_body(char out[48], uint64_t ttl_ms);

#endif
