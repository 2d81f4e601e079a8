/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One spawn, from its turn at the server to its sandbox: sent once and never again; found by its token where its answer was lost;
 * destroyed where nobody wants the sandbox any more. What is under way is in the journal, so that the next start knows of it.
 */
#ifndef GATEWAY_SPAWN_H
#define GATEWAY_SPAWN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/json_write.h"
#include "common/list.h"
#include "common/sm.h"
#include "common/str.h"
#include "gateway/fetch.h"
#include "gateway/sandbox_doc.h"
#include "gateway/spawn_lane.h"
#include "gateway/spawn_search.h"

struct journal;
struct limiter;
struct limiter_owner;
struct loop;
struct ownership;
struct snapshot;
struct spawn;

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

void spawn_shared_init(struct spawn_shared *s, struct loop *loop, struct limiter *limiter, struct ownership *ownership);
/* Leaves what is in the journal to the next start. No client waits any more. */
void spawn_shared_fini(struct spawn_shared *s);

/* A record whose key begins with SPAWN_JOURNAL_PREFIX: kept for spawn_restore. */
void spawn_recall(struct spawn_shared *s, struct str key, struct str value);
/* Watches for what was under way when the process before this one ended. Once, before anything is accepted. */
void spawn_restore(struct spawn_shared *s, const struct snapshot *snapshot);
/* The embedded server was started anew: nothing that was under way there survives. */
void spawn_local_restarted(struct spawn_shared *s);
/* The daemon stops and waits no longer: says what is left to the next start. None is busy from then on. */
void spawn_abandon(struct spawn_shared *s);

/* What is told to whoever waits for a spawn. Borrowed for the call. */
struct spawn_result {
	unsigned status; /* of the server's answer: 201 with `doc`; 0: there is none, see fail_status */
	struct str head; /* status line and header lines that may pass to a client */
	struct str body;
	struct sandbox_doc doc;
	unsigned fail_status; /* what to answer: 502, 503 or 504 */
	const char *why;      /* text for people, with fail_status */
};

struct spawn_ask {
	struct fetch_caller caller; /* texts are copied, references taken */
	const char *credential;     /* name of the caller's; NULL: none; copied */
	struct limiter_owner
		*limits; /* a spawn of his has been taken, and is given back at the end; NULL: it was not */
	char token[SPAWN_TOKEN_BYTES + 1]; /* in the body's metadata */
	struct str lines;                  /* header lines of the client that are sent with it; copied */
	struct str body;                   /* as it is sent; copied */
	bool keep;                         /* for a retry, when the client has left */
	uint64_t keep_ms;                  /* at most so long; 0: SPAWN_KEPT_MAX_MS */
	/*
	 * Once, never from within spawn_start. With a sandbox (status 201) whoever waits calls spawn_taken or spawn_leave from
	 * within; otherwise the spawn is gone, or goes on without him.
	 */
	void (*on_done)(void *arg, const struct spawn_result *r);
	void *arg;
};

/* A token for metadata stacygate.token. */
void spawn_token_make(char out[SPAWN_TOKEN_BYTES + 1]);

/* 0; -EBUSY when the queue is full, -EAGAIN when too many of the owner's are watched; -ENOMEM. Only then limits stay the caller's. */
MUST_CHECK int spawn_start(struct spawn_shared *s, const struct spawn_ask *ask, struct spawn **out);
/* The sandbox is the client's from now on, or somebody else's business. */
void spawn_taken(struct spawn *p);
/* Nobody waits any more: one that was not sent yet is dropped, the sandbox of any other is destroyed or kept. */
void spawn_leave(struct spawn *p);

/* What is kept or watched under that token, for a retry: 0, and on_done follows; -ENOENT: nothing. */
MUST_CHECK int spawn_rejoin(struct spawn_shared *s, const char *token,
			    void (*on_done)(void *arg, const struct spawn_result *r), void *arg, struct spawn **out);
/* Whether it is still under way, watched or kept. */
bool spawn_is_known(const struct spawn_shared *s, const char *token);

/* For status: an array of those of one owner (NULL: of all) that wait for their turn, are under way or watched. */
void spawn_write_list(const struct spawn_shared *s, const char *user_id, struct json_writer *w, const char *key);

const struct sm *spawn_sm(void);

#endif
