/* SPDX-License-Identifier: Apache-2.0 */
/*
 *   touch -> (end of the turn) GET the record -> less left than keep_ms? -> POST extend
 *
 * An extend says how long from now and so can shorten: that is why the record is looked at before each. What it said is remembered by
 * our own clock, so that a sandbox with plenty of time costs nothing per request. A request that is served meanwhile waits for none
 * of this.
 */
#include "gateway/keep_alive.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/list.h"
#include "common/loop.h"
#include "gateway/extend.h"
#include "gateway/ownership.h"
#include "gateway/sandbox_doc.h"
#include "gateway/times.h"
#include "gateway/upstream.h"

enum {
	BUCKETS = 256,
	RECORD_MAX_BYTES = 262144
};

struct entry {
	struct list link;         /* in its bucket */
	struct list recent;       /* on keep_alive.recent, the one used last first */
	struct keep_alive *table; /* borrowed */
	uint64_t realm;           /* upstream_serial() */
	uint64_t until_ms;        /* clock_ms() at which its ttl passes, as far as is known; 0: not known */
	uint64_t not_before_ms;   /* clock_ms(); until then it is left alone */
	uint64_t keep_ms;         /* of what is under way, as the next three */
	bool isolated;
	struct fetch_caller caller; /* owned copy; upstream NULL: nothing is under way */
	struct fetch *fetch;        /* owned; NULL until the end of the turn */
	struct deferred begin;
	char id[SANDBOX_DOC_ID_MAX_BYTES + 1];
};

struct keep_alive {
	struct loop *loop;  /* borrowed */
	struct list recent; /* struct entry */
	size_t count;
	size_t running;
	struct list buckets[BUCKETS]; /* struct entry */
};

/* --- entries ----------------------------------------------------------------------------------------------------------- */

static struct list *bucket_of(struct keep_alive *k, struct str id)
{
	return &k->buckets[str_hash(id) % BUCKETS];
}

static struct entry *find(struct keep_alive *k, uint64_t realm, struct str id)
{
	LIST_FOREACH (n, bucket_of(k, id)) {
		struct entry *e = CONTAINER_OF(n, struct entry, link);
		if (e->realm == realm && str_eq(str_from(e->id), id))
			return e;
	}
	return NULL;
}

/* Nothing is under way for it any more. */
static void settle(struct entry *e)
{
	if (!e->caller.upstream)
		return;
	deferred_cancel(&e->begin);
	fetch_cancel(e->fetch);
	e->fetch = NULL;
	fetch_caller_fini(&e->caller);
	e->caller = (struct fetch_caller){0};
	e->table->running--;
}

static void entry_free(struct entry *e)
{
	settle(e);
	list_remove(&e->link);
	list_remove(&e->recent);
	e->table->count--;
	free(e);
}

static void begin_look(struct deferred *d);

static struct entry *add(struct keep_alive *k, uint64_t realm, struct str id)
{
	struct entry *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	if (k->count == KEEP_ALIVE_MAX)
		entry_free(CONTAINER_OF(k->recent.prev, struct entry, recent));
	e->table = k;
	e->realm = realm;
	memcpy(e->id, id.p, id.n);
	deferred_init(&e->begin, begin_look);
	list_init(&e->recent);
	list_add_tail(bucket_of(k, id), &e->link);
	k->count++;
	return e;
}

/* Of the sandbox, which is the one used last from now on; NULL without memory. */
static struct entry *use(struct keep_alive *k, const struct upstream *u, struct str id)
{
	uint64_t realm = upstream_serial(u);
	struct entry *e = find(k, realm, id);

	if (!e)
		e = add(k, realm, id);
	if (!e)
		return NULL;
	list_remove(&e->recent);
	list_add_head(&k->recent, &e->recent);
	return e;
}

/* --- looking and extending ------------------------------------------------------------------------------------------------ */

static void done(struct entry *e)
{
	e->not_before_ms = clock_ms() + e->keep_ms / 4;
	settle(e);
}

static void fail(struct entry *e)
{
	e->not_before_ms = clock_ms() + KEEP_ALIVE_RETRY_MS;
	settle(e);
}

static int ask(struct entry *e, const char *method, const char *behind, struct str body,
	       void (*on_answer)(void *arg, const struct fetch_answer *a))
{
	char target[SANDBOX_DOC_TARGET_MAX_BYTES + 1];
	const struct fetch_request request = {
		.caller = e->caller,
		.method = method,
		.target = sandbox_doc_target(target, e->id, behind),
		.body = body,
		.max_bytes = RECORD_MAX_BYTES,
		.on_done = on_answer,
		.arg = e,
	};

	return fetch_start(e->table->loop, &request, &e->fetch);
}

static void on_extended(void *arg, const struct fetch_answer *a)
{
	struct entry *e = arg;

	e->fetch = NULL;
	if (a->end != FETCH_DONE || a->status != 200) {
		fail(e);
		return;
	}
	e->until_ms = clock_ms() + e->keep_ms;
	done(e);
}

/* What the record says of the time that is left, by the server's own clock. False when it says nothing. */
static bool read_left(const struct entry *e, const struct fetch_answer *a, int64_t *left_ms)
{
	struct sandbox_doc doc;
	int64_t now;

	if (a->end != FETCH_DONE || a->status != 200 || sandbox_doc_parse(a->body, &doc) ||
	    strcmp(doc.id, e->id) != 0 || !doc.has_expiry || http_date_parse(a->date, &now))
		return false;
	if (e->isolated && !sandbox_doc_is_owned(&doc, e->caller.user_id))
		return false;
	*left_ms = doc.expires_at_ms - now;
	return true;
}

static void on_looked(void *arg, const struct fetch_answer *a)
{
	struct entry *e = arg;
	char body[48];
	int64_t left_ms;

	e->fetch = NULL;
	if (ownership_is_not_found(a)) {
		entry_free(e);
	} else if (!read_left(e, a, &left_ms)) {
		fail(e);
	} else if (left_ms >= (int64_t)e->keep_ms) {
		e->until_ms = clock_ms() + (uint64_t)left_ms;
		done(e);
	} else if (ask(e, "POST", "/extend", extend_body(body, e->keep_ms), on_extended)) {
		fail(e);
	}
}

static void begin_look(struct deferred *d)
{
	struct entry *e = CONTAINER_OF(d, struct entry, begin);

	if (ask(e, "GET", "", STR(""), on_looked))
		fail(e);
}

void keep_alive_touch(struct keep_alive *k, const struct fetch_caller *caller, struct str sandbox, bool isolated,
		      uint64_t keep_ms)
{
	struct entry *e = use(k, caller->upstream, sandbox);
	struct fetch_caller kept = *caller;
	uint64_t now = loop_now_ms(k->loop);

	if (!e)
		return;
	if (e->caller.upstream || now < e->not_before_ms || e->until_ms >= now + keep_ms ||
	    k->running == KEEP_ALIVE_RUNNING_MAX)
		return;
	kept.request_id = kept.trace_lines = NULL;
	if (fetch_caller_copy(&e->caller, &kept)) {
		fetch_caller_fini(&e->caller);
		e->caller = (struct fetch_caller){0};
		return;
	}
	k->running++;
	e->isolated = isolated;
	e->keep_ms = keep_ms;
	loop_defer(k->loop, &e->begin);
}

void keep_alive_yield(struct keep_alive *k, const struct upstream *u, struct str sandbox, uint64_t keep_ms)
{
	struct entry *e = use(k, u, sandbox);

	if (!e)
		return;
	settle(e);
	e->until_ms = 0;
	e->not_before_ms = loop_now_ms(k->loop) + keep_ms / 4;
}

/* --- the whole ----------------------------------------------------------------------------------------------------------- */

int keep_alive_new(struct loop *loop, struct keep_alive **out)
{
	struct keep_alive *k = calloc(1, sizeof(*k));

	if (!k)
		return -ENOMEM;
	k->loop = loop;
	list_init(&k->recent);
	for (size_t i = 0; i < BUCKETS; i++)
		list_init(&k->buckets[i]);
	*out = k;
	return 0;
}

void keep_alive_free(struct keep_alive *k)
{
	if (!k)
		return;
	LIST_FOREACH_SAFE (n, &k->recent)
		entry_free(CONTAINER_OF(n, struct entry, recent));
	free(k);
}
