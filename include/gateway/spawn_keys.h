/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Idempotency-Key: what a client's key has made or is making, so that a spawn may be repeated by its client. In memory and in the
 * journal.
 */
#ifndef GATEWAY_SPAWN_KEYS_H
#define GATEWAY_SPAWN_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/list.h"
#include "common/str.h"
#include "gateway/fetch.h"
#include "gateway/spawn.h"

struct journal;
struct loop;
struct snapshot;
struct spawn_key;
struct spawn_keys;

enum {
	SPAWN_KEY_MAX_BYTES = 255,
	SPAWN_KEYS_PER_OWNER_MAX = 1024,
	SPAWN_KEYS_MAX = 16384,
	SPAWN_KEYS_REMEMBERED_MS = 86400000, /* at least, and while the sandbox lives */
	SPAWN_KEYS_SWEEP_MS = 3600000,
};

/* The journal's keys of records begin so. */
#define SPAWN_KEYS_JOURNAL_PREFIX "idem/"

/* `journal` may be NULL. NULL without memory. */
struct spawn_keys *spawn_keys_new(struct loop *loop, struct spawn_shared *spawns);
void spawn_keys_use_journal(struct spawn_keys *k, struct journal *journal);
/* No request waits any more. NULL is fine. */
void spawn_keys_free(struct spawn_keys *k);

/* A record of the journal whose key begins with SPAWN_KEYS_JOURNAL_PREFIX, for spawn_keys_restore. */
void spawn_keys_recall(struct spawn_keys *k, struct str key, struct str value);
/* Once, before anything is accepted, and before spawn_restore. */
void spawn_keys_restore(struct spawn_keys *k, const struct snapshot *snapshot);

/* Whether it may be a key: 1 to 255 bytes of visible ASCII. */
bool spawn_key_is_good(struct str key);

/* Embedded in who waits for the request that runs. */
struct spawn_key_wait {
	struct list link; /* list_init before the first use */
	/* The one that ran has ended, or has left: claim anew. */
	void (*on_over)(struct spawn_key_wait *w);
	/* It has made the sandbox, or was refused; the same is to be answered. Borrowed for the call. */
	void (*on_answer)(struct spawn_key_wait *w, const struct spawn_result *r);
};

enum spawn_key_claim {
	SPAWN_KEY_NEW,      /* *out is to be run */
	SPAWN_KEY_REJOIN,   /* *out is under way at the server, or kept: spawn_rejoin(spawn_key_token()) */
	SPAWN_KEY_DONE,     /* *out has made a sandbox: spawn_key_answer() */
	SPAWN_KEY_WAIT,     /* another request runs it: `wait` is told */
	SPAWN_KEY_CONFLICT, /* another body */
	SPAWN_KEY_FULL,     /* too many keys */
	SPAWN_KEY_NO_MEMORY,
};

/* With NEW and REJOIN the request runs it from then on, until spawn_key_made, _refused or _left. */
MUST_CHECK enum spawn_key_claim spawn_keys_claim(struct spawn_keys *k, const struct fetch_caller *caller,
						 const char *credential, struct str key, uint64_t body_hash,
						 struct spawn_key_wait *wait, struct spawn_key **out);
/* Harmless when it does not wait. */
void spawn_key_wait_cancel(struct spawn_key_wait *w);

const char *spawn_key_token(const struct spawn_key *r);
/* The id of the sandbox that it made. */
const char *spawn_key_sandbox(const struct spawn_key *r);
/* The answer as it was given, borrowed; false: it is not at hand (any more), and the sandbox's record stands for it. */
bool spawn_key_answer(const struct spawn_key *r, struct str *head, struct str *body);

/* NEW: the spawn is about to be sent with that token: from now on a retry finds it. */
void spawn_key_sending(struct spawn_key *r, const char *token);
/* It has made that sandbox, and its client is about to be told; those who wait are told. Whether there were any. */
bool spawn_key_made(struct spawn_key *r, const struct spawn_result *result);
/*
 * It was answered otherwise, and those who wait are told the same. The key is free again, unless the spawn is still known: then
 * it stays with that.
 */
void spawn_key_refused(struct spawn_key *r, const struct spawn_result *result);
/* The client left: the key stays with what was sent, or is free again. */
void spawn_key_left(struct spawn_key *r);

/* A hash of what a request asks for: which one it is, not a secret. */
uint64_t spawn_keys_hash(struct str template, struct str body, struct str lease);

#endif
