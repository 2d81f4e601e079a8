/* SPDX-License-Identifier: Apache-2.0 */
/* Templates as their server has them: remembered for each identity by itself, fetched once for all who wait. */
#ifndef GATEWAY_TEMPLATE_CACHE_H
#define GATEWAY_TEMPLATE_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/list.h"
#include "common/str.h"
#include "gateway/cache_http.h"
#include "gateway/fetch.h"

struct loop;
struct snapshot;
struct template_cache;
struct template_flight;
struct template_get;

/* 0 or -ENOMEM; it remembers nothing before template_cache_use. */
MUST_CHECK int template_cache_new(struct loop *loop, struct template_cache **out);
/* When nobody waits any more. NULL is fine. */
void template_cache_free(struct template_cache *c);

/* Where it may keep what it remembers over a restart, borrowed: the state directory. Before template_cache_use. */
void template_cache_set_place(struct template_cache *c, const char *state_dir);

/*
 * A configuration is in force: its bounds and ages count from now on, and what was remembered under another one is
 * forgotten. Without memory nothing is remembered.
 */
void template_cache_use(struct template_cache *c, const struct snapshot *snapshot);

/* --- reading ------------------------------------------------------------------------------------------------------------- */

/* Appends whose answer it would be; the target that is asked for, in origin form, is to follow and makes it a key. */
void template_cache_begin_key(const struct fetch_caller *caller, struct buf *out);

/* Borrowed for the call. */
struct template_question {
	struct fetch_caller caller;
	struct str key;         /* template_cache_begin_key for that caller, and the target */
	struct str target;      /* as it goes to the server */
	struct str user_agent;  /* of whom it is fetched for; n 0: ours */
	struct cache_wish wish; /* {.max_age_ms = UINT64_MAX} for none */
	bool bypass;            /* it shares nothing with others, and nothing is remembered */
};

/* Borrowed for the call of who gets it. */
struct template_answer {
	unsigned status; /* to answer: the server's, or 502, 503 or 504 where it gave none */
	const char *why; /* text for people where the server gave none; NULL: it did */
	struct str head; /* status line and header lines that may pass to a client, without framing */
	struct str body; /* 200: JSON in which templates have both spellings of vcpus and ttl */
	struct cache_status cache;
};

/* Embedded in who waits for an answer. */
struct template_wait {
	struct list link;               /* on its flight's list while waiting */
	struct template_flight *flight; /* borrowed while waiting; NULL otherwise */
	enum cache_way way;             /* why it waits */
	bool joined;                    /* the fetch was begun for another */
	/* Once, never from within template_cache_ask. */
	void (*on_answer)(struct template_wait *w, const struct template_answer *a);
};

enum template_found {
	TEMPLATE_NOW,     /* *now is the answer, borrowed until the next call of this header */
	TEMPLATE_PENDING, /* on_answer follows */
	TEMPLATE_NO_MEMORY,
};

/* For the list of templates or one of them: from memory, or by a fetch. `w` has its on_answer. */
MUST_CHECK enum template_found template_cache_ask(struct template_cache *c, const struct template_question *q,
						  struct template_wait *w, struct template_answer *now);
/* Harmless when it does not wait. */
void template_cache_cancel(struct template_wait *w);

/*
 * The template of that name (a path segment as a client sent it), from memory or by a fetch in the caller's name, by the same
 * rules as for a client. on_done is called once, never from within; the request is gone then. 0, or -ENOMEM.
 */
MUST_CHECK int template_get(struct template_cache *c, const struct fetch_caller *caller, struct str name,
			    void (*on_done)(void *arg, const struct template_answer *a), void *arg,
			    struct template_get **out);
/* Without on_done. NULL is fine. */
void template_get_cancel(struct template_get *g);

/* --- forgetting ---------------------------------------------------------------------------------------------------------- */

/*
 * A template of that upstream is being written, or has been: nothing that was asked for before now is remembered, or given to
 * who asks after now. How many were forgotten.
 */
size_t template_cache_purge(struct template_cache *c, const struct upstream *u);
size_t template_cache_purge_all(struct template_cache *c);

/* Writes that go on although their client has left; what they end with is told to nobody. */
struct template_orphan {
	struct list link;                              /* on the cache's list */
	void (*on_abandon)(struct template_orphan *o); /* the cache goes away: frees it */
};
void template_cache_adopt(struct template_cache *c, struct template_orphan *o);

struct template_cache_counters {
	uint64_t hits;    /* answered as remembered, while fresh */
	uint64_t stale;   /* answered as remembered, after that */
	uint64_t misses;  /* answered by the server */
	uint64_t fetches; /* requests to a server */
	uint64_t evictions;
	uint64_t entries;
	uint64_t bytes;
};
struct template_cache_counters template_cache_counters(const struct template_cache *c);

#endif
