/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One spawn, from its turn at the server to its sandbox: sent once and never again; found by its token where its answer was lost;
 * destroyed where nobody wants the sandbox any more. What is under way is in the journal, so that the next start knows of it.
 */
#ifndef GATEWAY_SPAWN_H
#define GATEWAY_SPAWN_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "common/str.h"
#include "gateway/fetch.h"
#include "gateway/spawn_shared.h"

struct json_writer;
struct limiter;
struct limiter_owner;
struct loop;
struct ownership;
struct spawn;

void spawn_shared_init(struct spawn_shared *s, struct loop *loop, struct limiter *limiter, struct ownership *ownership);
/* Leaves what is in the journal to the next start. No client waits any more. */
void spawn_shared_fini(struct spawn_shared *s);

/* The embedded server was started anew: nothing that was under way there survives. */
void spawn_local_restarted(struct spawn_shared *s);
/* The daemon stops and waits no longer: says what is left to the next start. None is busy from then on. */
void spawn_abandon(struct spawn_shared *s);

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

#endif
