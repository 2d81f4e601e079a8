/* SPDX-License-Identifier: Apache-2.0 */
/* All spawns with what they share, and what is told to whoever waits for one. */
#ifndef GATEWAY_SPAWN_SHARED_H
#define GATEWAY_SPAWN_SHARED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/list.h"
#include "common/str.h"
#include "gateway/sandbox_doc.h"
#include "gateway/spawn_lane.h"
#include "gateway/spawn_search.h"

struct journal;
struct limiter;
struct loop;
struct ownership;

enum {
	SPAWN_TOKEN_BYTES = 36,
	SPAWN_WATCHED_PER_OWNER_MAX = 16,  /* whose answer was lost; then no further spawn of his is sent */
	SPAWN_TOMBSTONES_MAX = 1024,       /* the oldest is forgotten first */
	SPAWN_TOMBSTONE_MS = 7 * 86400000, /* a server may adopt a stray container when it is started anew */
	SPAWN_WATCH_MS = 60000,            /* after the spawn's timeout nobody waits, but it may still appear */
	SPAWN_KEPT_MAX_MS = 600000,        /* for the retry of a client that has left */
};

/* The journal's keys of spawns begin so. */
#define SPAWN_JOURNAL_PREFIX "spawn/"

/* The head of an answer that is made of the sandbox's record: the server's own is lost. */
#define SPAWN_CREATED_HEAD "HTTP/1.1 201 Created\r\nContent-Type: application/json\r\n"

/* What became of spawns; for status and metrics. */
struct spawn_counters {
	uint64_t sent;
	uint64_t found;     /* answers that were lost, and whose sandbox a list showed while its client waited */
	uint64_t adopted;   /* clients left one that was under way */
	uint64_t destroyed; /* sandboxes that nobody wanted any more */
	uint64_t nothing;   /* of those adopted: answers without a sandbox */
	uint64_t lost;      /* without an answer, and no list has shown a sandbox so far */
	uint64_t restored;  /* taken up from the journal */
};

/* All of them; owned by the gateway. */
struct spawn_shared {
	struct loop *loop;           /* borrowed */
	struct journal *journal;     /* borrowed; NULL: nothing survives */
	struct limiter *limiter;     /* borrowed */
	struct ownership *ownership; /* borrowed; is told whose the new ones are */
	struct spawn_lanes lanes;
	struct spawn_searches searches;
	struct list spawns;   /* struct spawn */
	struct list recalled; /* struct recalled, until spawn_restore */
	size_t unclaimed;     /* spawns that no client waits for, tombstones not counted */
	size_t busy;          /* of them, those that a stop of the daemon waits for */
	size_t tombstones;
	bool abandoned; /* the stop of the daemon waits for none of them any more */
	struct spawn_counters counters;
	void (*on_quiet)(void *arg); /* busy has become 0; may be NULL */
	void *arg;
	/* A sandbox that nobody waits for is kept for a retry, or its keeping has ended (id empty: there is none any more). */
	void (*on_kept)(void *arg, const char *token, const char *id);
	void *kept_arg;
};

/* What is told to whoever waits for a spawn. Borrowed for the call. */
struct spawn_result {
	unsigned status; /* of the server's answer: 201 with `doc`; 0: there is none, see fail_status */
	struct str head; /* status line and header lines that may pass to a client */
	struct str body;
	struct sandbox_doc doc;
	unsigned fail_status; /* what to answer: 502, 503 or 504 */
	const char *why;      /* text for people, with fail_status */
};

#endif
