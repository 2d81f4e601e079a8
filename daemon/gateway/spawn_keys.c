/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A record is made by the first request with its key. It is running while a request runs it or the spawn is under way, looked
 * for or kept without one; done when a client was given the sandbox. Only what made a sandbox is remembered; whatever else was
 * answered frees the key, once nothing of the spawn can appear any more.
 */
#include "gateway/spawn_keys.h"

#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/json_write.h"
#include "common/log.h"
#include "common/loop.h"
#include "gateway/config.h"
#include "gateway/journal.h"
#include "gateway/record.h"
#include "gateway/snapshot.h"
#include "gateway/upstream.h"

enum {
	BUCKETS = 1024,
	ANSWER_MAX_BYTES = 4096, /* of head and body that are kept */
	RECORD_MAX_BYTES = 262144,
};

#define HASH_START 14695981039346656037u

struct spawn_key {
	struct list link;           /* in its bucket */
	struct spawn_keys *keys;    /* borrowed */
	struct fetch_caller caller; /* texts owned, references held */
	char *credential;           /* owned; its name; NULL: none */
	char *key;                  /* owned */
	uint64_t hash;              /* of all that it is found by */
	uint64_t body_hash;
	bool runner;    /* a request runs it */
	bool sending;   /* and has sent it, or may have */
	uint64_t swept; /* the last sweep that has looked at it */
	int64_t made_wall_ms;
	char token[SPAWN_TOKEN_BYTES + 1];
	char id[SANDBOX_DOC_ID_MAX_BYTES + 1]; /* done: of the sandbox */
	struct buf head;                       /* done: the answer, if it was small; empty: its record stands for it */
	struct buf body;
	struct list waits; /* struct spawn_key_wait */
};

struct recalled {
	struct list link; /* on spawn_keys.recalled */
	char *value;      /* owned */
};

struct spawn_keys {
	struct loop *loop;           /* borrowed */
	struct spawn_shared *spawns; /* borrowed */
	struct journal *journal;     /* borrowed; NULL: nothing survives */
	size_t count;
	struct event *sweep;                   /* owned */
	struct fetch *look;                    /* owned; the sweep's look at a sandbox */
	char looked_at[SPAWN_TOKEN_BYTES + 1]; /* token of the record that is looked at */
	size_t at;                             /* the sweep's bucket */
	uint64_t sweeps;                       /* how many have begun */
	struct list recalled;
	struct list buckets[BUCKETS]; /* struct spawn_key */
};

/* --- hashing ---------------------------------------------------------------------------------------------------------------- */

/* FNV-1a, the length first, so that no two lists of texts look alike. */
static uint64_t add_hash(uint64_t hash, struct str s)
{
	hash = (hash ^ s.n) * 1099511628211u;
	for (size_t i = 0; i < s.n; i++)
		hash = (hash ^ (unsigned char)s.p[i]) * 1099511628211u;
	return hash;
}

uint64_t spawn_keys_hash(struct str template, struct str body, struct str lease)
{
	return add_hash(add_hash(add_hash(HASH_START, template), body), lease);
}

static uint64_t hash_of(const struct fetch_caller *caller, struct str key)
{
	const struct config_upstream *u = upstream_config(caller->upstream);
	uint64_t hash = add_hash(HASH_START, str_from(caller->user_id));

	hash = add_hash(hash, str_from(u->name));
	hash = add_hash(hash, str_from(u->url));
	return add_hash(hash, key);
}

bool spawn_key_is_good(struct str key)
{
	if (key.n == 0 || key.n > SPAWN_KEY_MAX_BYTES)
		return false;
	for (size_t i = 0; i < key.n; i++)
		if (key.p[i] <= ' ' || key.p[i] > '~')
			return false;
	return true;
}

/* --- the journal -------------------------------------------------------------------------------------------------------------- */

enum {
	JOURNAL_KEY_BYTES = sizeof(SPAWN_KEYS_JOURNAL_PREFIX) + SPAWN_TOKEN_BYTES
};

/* The token is nobody's choice: two records never meet under one key. */
static void journal_key(const char *token, char out[JOURNAL_KEY_BYTES])
{
	snprintf(out, JOURNAL_KEY_BYTES, SPAWN_KEYS_JOURNAL_PREFIX "%s", token);
}

static void write_record(const struct spawn_key *r)
{
	const struct config_upstream *u = upstream_config(r->caller.upstream);
	char key[JOURNAL_KEY_BYTES];
	char body_hash[17];
	struct buf value = BUF_EMPTY;
	struct json_writer w = json_writer(&value);

	if (!r->keys->journal)
		return;
	journal_key(r->token, key);
	snprintf(body_hash, sizeof(body_hash), "%016" PRIx64, r->body_hash);
	json_object_begin(&w, NULL);
	json_cstr(&w, "upstream", u->name);
	json_cstr(&w, "url", u->url);
	if (r->credential)
		json_cstr(&w, "credential", r->credential);
	json_cstr(&w, "user", r->caller.user_id);
	json_cstr(&w, "key", r->key);
	json_cstr(&w, "body", body_hash);
	json_cstr(&w, "token", r->token);
	json_int(&w, "made", r->made_wall_ms);
	if (r->id[0])
		json_cstr(&w, "id", r->id);
	json_object_end(&w);
	if (value.failed || journal_put(r->keys->journal, str_from(key), buf_str(&value)))
		log_debug("a record of an Idempotency-Key could not be written");
	buf_fini(&value);
}

static void record_free(struct spawn_key *r)
{
	list_remove(&r->link);
	fetch_caller_fini(&r->caller);
	free(r->credential);
	free(r->key);
	buf_fini(&r->head);
	buf_fini(&r->body);
	free(r);
}

static void drop_record(struct spawn_keys *k, const char *token)
{
	char key[JOURNAL_KEY_BYTES];

	journal_key(token, key);
	if (k->journal && token[0] && journal_drop(k->journal, str_from(key)))
		log_debug("a record of an Idempotency-Key could not be dropped");
}

/* The key is free again. */
static void forget(struct spawn_key *r)
{
	drop_record(r->keys, r->token);
	r->keys->count--;
	record_free(r);
}

/* --- finding ------------------------------------------------------------------------------------------------------------------ */

static struct list *bucket_of(struct spawn_keys *k, uint64_t hash)
{
	return &k->buckets[hash % BUCKETS];
}

static bool is_of(const struct spawn_key *r, const struct fetch_caller *caller, struct str key)
{
	const struct config_upstream *a = upstream_config(r->caller.upstream);
	const struct config_upstream *b = upstream_config(caller->upstream);

	return str_eq(str_from(r->key), key) && strcmp(r->caller.user_id, caller->user_id) == 0 &&
	       strcmp(a->name, b->name) == 0 && strcmp(a->url, b->url) == 0;
}

static struct spawn_key *find(struct spawn_keys *k, const struct fetch_caller *caller, struct str key, uint64_t hash)
{
	LIST_FOREACH (n, bucket_of(k, hash)) {
		struct spawn_key *r = CONTAINER_OF(n, struct spawn_key, link);
		if (r->hash == hash && is_of(r, caller, key))
			return r;
	}
	return NULL;
}

static size_t count_of(struct spawn_keys *k, const char *user_id)
{
	size_t n = 0;

	for (size_t i = 0; i < BUCKETS; i++)
		LIST_FOREACH (node, &k->buckets[i])
			n += strcmp(CONTAINER_OF(node, struct spawn_key, link)->caller.user_id, user_id) == 0;
	return n;
}

static struct spawn_key *add(struct spawn_keys *k, const struct fetch_caller *caller, const char *credential,
			     struct str key)
{
	const struct fetch_caller kept = {caller->upstream, caller->key, caller->user_id, NULL, NULL};
	struct spawn_key *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	list_init(&r->link);
	list_init(&r->waits);
	r->keys = k;
	r->key = str_dup(key);
	r->credential = credential ? strdup(credential) : NULL;
	r->hash = hash_of(caller, key);
	if (fetch_caller_copy(&r->caller, &kept) || !r->key || (credential && !r->credential)) {
		record_free(r);
		return NULL;
	}
	list_add_head(bucket_of(k, r->hash), &r->link);
	k->count++;
	return r;
}

/* --- claiming ----------------------------------------------------------------------------------------------------------------- */

static enum spawn_key_claim claim_new(struct spawn_keys *k, const struct fetch_caller *caller, const char *credential,
				      struct str key, uint64_t body_hash, struct spawn_key **out)
{
	struct spawn_key *r;

	if (k->count >= SPAWN_KEYS_MAX || count_of(k, caller->user_id) >= SPAWN_KEYS_PER_OWNER_MAX)
		return SPAWN_KEY_FULL;
	r = add(k, caller, credential, key);
	if (!r)
		return SPAWN_KEY_NO_MEMORY;
	r->body_hash = body_hash;
	r->runner = true;
	*out = r;
	return SPAWN_KEY_NEW;
}

enum spawn_key_claim spawn_keys_claim(struct spawn_keys *k, const struct fetch_caller *caller, const char *credential,
				      struct str key, uint64_t body_hash, struct spawn_key_wait *wait,
				      struct spawn_key **out)
{
	struct spawn_key *r = find(k, caller, key, hash_of(caller, key));

	/* What was lost on the way to nowhere holds no key. */
	if (r && !r->runner && !r->id[0] && !spawn_is_known(k->spawns, r->token)) {
		forget(r);
		r = NULL;
	}
	if (!r)
		return claim_new(k, caller, credential, key, body_hash, out);
	if (r->body_hash != body_hash)
		return SPAWN_KEY_CONFLICT;
	*out = r;
	if (r->id[0] && !spawn_is_known(k->spawns, r->token))
		return SPAWN_KEY_DONE;
	/* Its client was not there to be told, or the process before this one ended meanwhile: nobody has the sandbox. */
	r->id[0] = '\0';
	buf_reset(&r->head);
	buf_reset(&r->body);
	if (r->runner) {
		list_add_tail(&r->waits, &wait->link);
		return SPAWN_KEY_WAIT;
	}
	r->runner = true;
	return SPAWN_KEY_REJOIN;
}

void spawn_key_wait_cancel(struct spawn_key_wait *w)
{
	list_remove(&w->link);
}

const char *spawn_key_token(const struct spawn_key *r)
{
	return r->token;
}

const char *spawn_key_sandbox(const struct spawn_key *r)
{
	return r->id;
}

bool spawn_key_answer(const struct spawn_key *r, struct str *head, struct str *body)
{
	*head = buf_str(&r->head);
	*body = buf_str(&r->body);
	return r->head.len != 0;
}

/* --- what comes of it ------------------------------------------------------------------------------------------------------------ */

void spawn_key_sending(struct spawn_key *r, const char *token)
{
	if (strcmp(r->token, token) != 0)
		drop_record(r->keys, r->token);
	memcpy(r->token, token, sizeof(r->token));
	r->sending = true;
	r->made_wall_ms = clock_wall_ms();
	write_record(r);
}

static void tell_waits(struct list *waits, const struct spawn_result *result)
{
	while (!list_empty(waits)) {
		struct spawn_key_wait *w = LIST_FIRST(waits, struct spawn_key_wait, link);
		list_remove(&w->link);
		if (result)
			w->on_answer(w, result);
		else
			w->on_over(w);
	}
}

/* Those who wait are told after the record is as it will be: they may claim it again. */
static void take_waits(struct spawn_key *r, struct list *out)
{
	list_init(out);
	while (!list_empty(&r->waits)) {
		struct list *n = r->waits.next;
		list_remove(n);
		list_add_tail(out, n);
	}
}

bool spawn_key_made(struct spawn_key *r, const struct spawn_result *result)
{
	struct list waits;
	bool any;

	r->runner = false;
	memcpy(r->id, result->doc.id, sizeof(r->id));
	r->made_wall_ms = clock_wall_ms();
	if (result->head.n + result->body.n <= ANSWER_MAX_BYTES) {
		buf_add_str(&r->head, result->head);
		buf_add_str(&r->body, result->body);
		if (r->head.failed || r->body.failed)
			buf_fini(&r->head);
	}
	write_record(r);
	take_waits(r, &waits);
	any = !list_empty(&waits);
	tell_waits(&waits, result);
	return any;
}

void spawn_key_refused(struct spawn_key *r, const struct spawn_result *result)
{
	struct list waits;

	take_waits(r, &waits);
	r->runner = false;
	if (!spawn_is_known(r->keys->spawns, r->token))
		forget(r);
	tell_waits(&waits, result);
}

void spawn_key_left(struct spawn_key *r)
{
	struct list waits;

	take_waits(r, &waits);
	r->runner = false;
	if (!r->sending || !spawn_is_known(r->keys->spawns, r->token))
		forget(r);
	tell_waits(&waits, NULL);
}

/* --- what nobody asks for any more -------------------------------------------------------------------------------------------------- */

/* A spawn that was kept for a retry has come to its end without one. */
static void on_kept(void *arg, const char *token, const char *id)
{
	struct spawn_keys *k = arg;

	if (id[0])
		return;
	for (size_t i = 0; i < BUCKETS; i++)
		LIST_FOREACH_SAFE (n, &k->buckets[i]) {
			struct spawn_key *r = CONTAINER_OF(n, struct spawn_key, link);
			if (!r->runner && strcmp(r->token, token) == 0)
				forget(r);
		}
}

static struct spawn_key *find_token(struct spawn_keys *k, const char *token)
{
	for (size_t i = 0; i < BUCKETS; i++)
		LIST_FOREACH (n, &k->buckets[i])
			if (strcmp(CONTAINER_OF(n, struct spawn_key, link)->token, token) == 0)
				return CONTAINER_OF(n, struct spawn_key, link);
	return NULL;
}

static void sweep_on(struct spawn_keys *k);

static bool is_old(const struct spawn_key *r)
{
	return r->id[0] && clock_wall_ms() - r->made_wall_ms > SPAWN_KEYS_REMEMBERED_MS;
}

/* Nothing was made with it, and nothing is going to be: the process before this one ended before it was sent. */
static bool is_empty(const struct spawn_key *r)
{
	return !r->runner && !r->id[0] && !spawn_is_known(r->keys->spawns, r->token);
}

static void on_looked(void *arg, const struct fetch_answer *a)
{
	struct spawn_keys *k = arg;
	struct spawn_key *r = find_token(k, k->looked_at);

	k->look = NULL;
	if (r && is_old(r) && a->end == FETCH_DONE && a->status == 404)
		forget(r);
	sweep_on(k);
}

/* Whether the sandbox lives, asked of the server in its owner's name. */
static int look_at(struct spawn_keys *k, const struct spawn_key *r)
{
	char target[SANDBOX_DOC_TARGET_MAX_BYTES + 1];
	const struct fetch_request request = {
		.caller = r->caller,
		.method = "GET",
		.target = sandbox_doc_target(target, r->id, ""),
		.max_bytes = RECORD_MAX_BYTES,
		.on_done = on_looked,
		.arg = k,
	};

	memcpy(k->looked_at, r->token, sizeof(k->looked_at));
	return fetch_start(k->loop, &request, &k->look);
}

/* One after another; what is found alive is asked about again at the next sweep. */
static void sweep_on(struct spawn_keys *k)
{
	for (; k->at < BUCKETS; k->at++)
		LIST_FOREACH_SAFE (n, &k->buckets[k->at]) {
			struct spawn_key *r = CONTAINER_OF(n, struct spawn_key, link);
			if (is_empty(r)) {
				forget(r);
				continue;
			}
			if (!is_old(r) || r->swept == k->sweeps)
				continue;
			r->swept = k->sweeps;
			if (look_at(k, r) == 0)
				return;
		}
}

static void on_sweep(evutil_socket_t fd, short what, void *arg)
{
	struct spawn_keys *k = arg;

	(void)fd;
	(void)what;
	if (k->look)
		return;
	k->at = 0;
	k->sweeps++;
	sweep_on(k);
}

/* --- all of them ---------------------------------------------------------------------------------------------------------------------- */

struct spawn_keys *spawn_keys_new(struct loop *loop, struct spawn_shared *spawns)
{
	const struct timeval tv = {.tv_sec = SPAWN_KEYS_SWEEP_MS / 1000};
	struct spawn_keys *k = calloc(1, sizeof(*k));

	if (!k)
		return NULL;
	k->loop = loop;
	k->spawns = spawns;
	list_init(&k->recalled);
	for (size_t i = 0; i < BUCKETS; i++)
		list_init(&k->buckets[i]);
	k->sweep = event_new(loop_base(loop), -1, EV_PERSIST, on_sweep, k);
	if (!k->sweep || event_add(k->sweep, &tv)) {
		spawn_keys_free(k);
		return NULL;
	}
	spawns->on_kept = on_kept;
	spawns->kept_arg = k;
	return k;
}

void spawn_keys_use_journal(struct spawn_keys *k, struct journal *journal)
{
	k->journal = journal;
}

static void recalled_free(struct recalled *r)
{
	list_remove(&r->link);
	free(r->value);
	free(r);
}

void spawn_keys_free(struct spawn_keys *k)
{
	if (!k)
		return;
	k->spawns->on_kept = NULL;
	fetch_cancel(k->look);
	if (k->sweep)
		event_free(k->sweep);
	for (size_t i = 0; i < BUCKETS; i++)
		LIST_FOREACH_SAFE (n, &k->buckets[i])
			record_free(CONTAINER_OF(n, struct spawn_key, link));
	LIST_FOREACH_SAFE (n, &k->recalled)
		recalled_free(CONTAINER_OF(n, struct recalled, link));
	free(k);
}

/* --- after a restart ---------------------------------------------------------------------------------------------------------------------- */

void spawn_keys_recall(struct spawn_keys *k, struct str key, struct str value)
{
	struct recalled *r = calloc(1, sizeof(*r));

	(void)key;
	if (!r)
		return;
	r->value = str_dup(value);
	list_init(&r->link);
	if (r->value)
		list_add_tail(&k->recalled, &r->link);
	else
		recalled_free(r);
}

static void take_up(struct spawn_keys *k, const struct snapshot *snapshot, const json_t *record)
{
	const char *credential = json_string_value(json_object_get(record, "credential"));
	struct fetch_caller caller = {.user_id = record_text(record, "user")};
	const char *token = record_text(record, "token");
	const char *id = record_text(record, "id");
	int64_t made = json_integer_value(json_object_get(record, "made"));
	struct spawn_key *r;

	if (strlen(token) != SPAWN_TOKEN_BYTES || !caller.user_id[0] ||
	    !spawn_key_is_good(str_from(record_text(record, "key"))))
		return;
	if (!snapshot_find(snapshot, record_text(record, "upstream"), record_text(record, "url"), credential,
			   &caller.upstream, &caller.key)) {
		/* Upstream or credential may be configured again; but not for ever. */
		if (clock_wall_ms() - made > SPAWN_KEYS_REMEMBERED_MS)
			drop_record(k, token);
		return;
	}
	r = add(k, &caller, credential, str_from(record_text(record, "key")));
	if (!r)
		return;
	r->body_hash = strtoull(record_text(record, "body"), NULL, 16);
	r->made_wall_ms = made;
	memcpy(r->token, token, sizeof(r->token));
	r->sending = true;
	if (sandbox_doc_id_is_good(str_from(id)))
		memcpy(r->id, id, strlen(id) + 1);
}

void spawn_keys_restore(struct spawn_keys *k, const struct snapshot *snapshot)
{
	LIST_FOREACH_SAFE (n, &k->recalled) {
		struct recalled *r = CONTAINER_OF(n, struct recalled, link);
		json_t *record = json_loads(r->value, 0, NULL);

		take_up(k, snapshot, record);
		json_decref(record);
		recalled_free(r);
	}
}
