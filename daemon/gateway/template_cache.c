/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A flight is one request to a server for one key: server, credential and which value of it, user id, target. Whoever asks for
 * the same key meanwhile waits for it too. A purge makes a new epoch: a flight of an older one still answers those who wait,
 * but nobody joins it and nothing of it is remembered, since it may have read what was there before a write.
 *
 * When a flight ends without an answer, or with one that says that the server is in trouble, those who wait get what is
 * remembered if it is not too old for that. A flight ends at the end of a turn; one that nobody waits for any more is
 * cancelled, but for those that make anew what was given while stale.
 */
#include "gateway/template_cache.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/http_parse.h"
#include "common/log.h"
#include "common/loop.h"
#include "gateway/cache_keep.h"
#include "gateway/config.h"
#include "gateway/keyring.h"
#include "gateway/metacache.h"
#include "gateway/snapshot.h"
#include "gateway/template_doc.h"
#include "gateway/upstream.h"

enum {
	FLIGHT_BUCKETS = 256,
	ENTRY_MAX_BYTES = 4 * 1048576,   /* of a body that is remembered; larger ones pass */
	ANSWER_MAX_BYTES = 16 * 1048576, /* of a body that passes: it is read whole */
	ALL_MAX_BYTES = 64 * 1048576,    /* of all that are being read */
	OTHER_MAX_BYTES = 65536,         /* of an answer that is no 200 */
};

struct template_cache {
	struct loop *loop;       /* borrowed */
	struct metacache *table; /* owned; NULL: nothing is remembered */
	struct cache_keep *keep; /* owned; NULL: nothing is kept over a restart */
	const char *state_dir;   /* borrowed; NULL: there is no place to keep it */
	bool used;               /* a configuration was in force */
	struct metacache_rule rule;
	uint64_t ttl_ms;
	uint64_t epoch;
	uint64_t reading; /* bytes of bodies in memory that are not complete */
	struct list flights[FLIGHT_BUCKETS];
	struct list orphans; /* struct template_orphan */
	struct buf key;      /* of what is being loaded; its memory is kept */
	struct buf where;    /* of the present upstream, for what is kept; the same */
	struct template_cache_counters counters;
	uint64_t evictions; /* of tables that are gone */
};

struct template_flight {
	struct list link;             /* in its bucket */
	struct list waits;            /* struct template_wait */
	struct template_cache *cache; /* borrowed */
	struct fetch *fetch;          /* owned; NULL once it is done */
	struct upstream *upstream;    /* owned reference */
	struct key *credential;       /* owned reference; NULL: none */
	uint64_t changes;             /* of it, when the flight began */
	uint64_t realm;               /* serial of the upstream */
	uint32_t hash;
	struct buf key;
	uint64_t epoch;
	uint64_t asked_at_ms;
	bool alone;     /* nobody joins */
	bool remembers; /* as far as the question goes */
	bool for_later; /* goes on with nobody waiting */
	bool telling;   /* those who wait */
	struct cache_leave leave;
	struct buf body;
	unsigned failure;     /* status that ends it whatever comes; 0: none */
	const char *why;      /* of the failure; literal */
	struct deferred over; /* with a failure */
};

int template_cache_new(struct loop *loop, struct template_cache **out)
{
	struct template_cache *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->loop = loop;
	list_init(&c->orphans);
	for (size_t i = 0; i < FLIGHT_BUCKETS; i++)
		list_init(&c->flights[i]);
	*out = c;
	return 0;
}

static void flight_free(struct template_flight *f)
{
	list_remove(&f->link);
	deferred_cancel(&f->over);
	fetch_cancel(f->fetch);
	upstream_unref(f->upstream);
	key_unref(f->credential);
	f->cache->reading -= f->body.len;
	buf_fini(&f->body);
	buf_fini(&f->key);
	free(f);
}

static void forget_table(struct template_cache *c)
{
	if (c->table)
		c->evictions += metacache_counters(c->table).evictions;
	metacache_free(c->table);
	c->table = NULL;
}

void template_cache_free(struct template_cache *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < FLIGHT_BUCKETS; i++)
		LIST_FOREACH_SAFE (n, &c->flights[i])
			flight_free(CONTAINER_OF(n, struct template_flight, link));
	while (!list_empty(&c->orphans)) {
		struct template_orphan *o = LIST_FIRST(&c->orphans, struct template_orphan, link);
		list_remove(&o->link);
		o->on_abandon(o);
	}
	forget_table(c);
	cache_keep_close(c->keep);
	buf_fini(&c->key);
	buf_fini(&c->where);
	free(c);
}

/* --- keys ----------------------------------------------------------------------------------------------------------------- */

/* Texts that can hold no NUL, so that no two questions have one key. */
static void begin_key(uint64_t changes, struct str credential, struct str user_id, struct buf *out)
{
	buf_add(out, &changes, sizeof(changes));
	buf_add_str(out, credential);
	buf_add(out, "", 1);
	buf_add_str(out, user_id);
	buf_add(out, "", 1);
}

void template_cache_begin_key(const struct fetch_caller *caller, struct buf *out)
{
	begin_key(caller->key ? key_changes(caller->key) : 0, str_from(caller->key ? key_name(caller->key) : ""),
		  str_from(caller->user_id), out);
}

/* --- over a restart --------------------------------------------------------------------------------------------------------- */

/* What an upstream is called from one start to the next. */
static struct str where_is(struct template_cache *c, const struct upstream *u)
{
	buf_reset(&c->where);
	buf_addf(&c->where, "%s %s", upstream_name(u), upstream_place(u));
	return buf_str(&c->where);
}

/* Takes a key apart again. */
static struct cache_keep_key keep_key(struct template_cache *c, const struct template_flight *f)
{
	struct str rest = str_of(buf_data(&f->key) + sizeof(uint64_t), f->key.len - sizeof(uint64_t));
	struct cache_keep_key key = {.upstream = where_is(c, f->upstream)};

	key.credential = str_cut(&rest, '\0');
	key.user_id = str_cut(&rest, '\0');
	key.target = rest;
	return key;
}

static void keep(struct template_cache *c, const struct template_flight *f, const struct metacache_value *v)
{
	const uint64_t since_ms = loop_now_ms(c->loop) - v->asked_at_ms;
	const struct cache_keep_entry e = {
		.key = keep_key(c, f),
		.head = v->head,
		.body = v->body,
		.asked_at_wall_ms = clock_wall_ms() - (int64_t)since_ms,
		.age_ms = v->age_ms,
		.fresh_ms = v->fresh_ms,
	};

	if (c->keep && !c->where.failed)
		cache_keep_put(c->keep, &e);
}

struct loading {
	struct template_cache *cache;
	const struct snapshot *snapshot;
};

static const struct upstream *find_upstream(struct loading *l, struct str where)
{
	for (size_t i = 0; i < snapshot_config(l->snapshot)->nupstreams; i++) {
		const struct upstream *u = snapshot_upstream(l->snapshot, i);
		if (str_eq(where_is(l->cache, u), where))
			return u;
	}
	return NULL;
}

/* From before this start: the keys of now have not changed yet, and it is good for no more than an error of the server. */
static bool load(void *arg, const struct cache_keep_entry *e)
{
	struct loading *l = arg;
	struct template_cache *c = l->cache;
	const struct upstream *u = find_upstream(l, e->key.upstream);
	const int64_t since_ms = clock_wall_ms() - e->asked_at_wall_ms;
	const struct metacache_value v = {
		.head = e->head,
		.body = e->body,
		.asked_at_ms = loop_now_ms(c->loop),
		.age_ms = e->age_ms + (since_ms > 0 ? (uint64_t)since_ms : 0),
		.fresh_ms = e->fresh_ms < c->ttl_ms ? e->fresh_ms : c->ttl_ms,
		.kept = true,
	};

	if (!u || metacache_use(&v, &c->rule, v.asked_at_ms) == METACACHE_NOTHING)
		return false;
	buf_reset(&c->key);
	begin_key(0, e->key.credential, e->key.user_id, &c->key);
	buf_add_str(&c->key, e->key.target);
	return !c->key.failed && metacache_put(c->table, upstream_serial(u), buf_str(&c->key),
					       metacache_hash(c->table, upstream_serial(u), buf_str(&c->key)), &v);
}

/* What another configuration has kept goes, as what it remembered. */
static void use_keep(struct template_cache *c, const struct snapshot *snapshot)
{
	const struct config_cache *config = &snapshot_config(snapshot)->cache;
	struct loading l = {c, snapshot};
	bool first = !c->used;
	int rc;

	c->used = true;
	if (c->keep)
		cache_keep_drop_all(c->keep);
	cache_keep_close(c->keep);
	c->keep = NULL;
	if (!c->state_dir)
		return;
	if (!config->keep || !c->table) {
		if (first)
			cache_keep_clean(c->state_dir);
		return;
	}
	rc = cache_keep_open(c->loop, c->state_dir, config->max_entries, &c->keep);
	if (rc)
		log_warn("cache: nothing can be kept in %s: %s", c->state_dir, strerror(-rc));
	else if (first)
		cache_keep_read(c->keep, load, &l);
}

void template_cache_set_place(struct template_cache *c, const char *state_dir)
{
	c->state_dir = state_dir;
}

void template_cache_use(struct template_cache *c, const struct snapshot *snapshot)
{
	const struct config_cache *config = &snapshot_config(snapshot)->cache;
	uint64_t seed = 0;

	c->epoch++;
	forget_table(c);
	c->ttl_ms = config->templates.ttl_ms;
	c->rule = (struct metacache_rule){config->templates.stale_while_revalidate_ms,
					  config->templates.stale_if_error_ms};
	if (c->ttl_ms && getrandom(&seed, sizeof(seed), 0) == (ssize_t)sizeof(seed))
		c->table = metacache_new(config->max_entries, config->max_bytes, seed);
	use_keep(c, snapshot);
}

/* --- what is remembered ----------------------------------------------------------------------------------------------------- */

static void answer_from(const struct metacache_value *v, uint64_t now_ms, struct template_answer *a)
{
	*a = (struct template_answer){
		.status = 200,
		.head = v->head,
		.body = v->body,
		.cache = {.way = CACHE_HIT,
			  .has_age = true,
			  .age_ms = metacache_age_ms(v, now_ms),
			  .fresh_ms = v->fresh_ms},
	};
}

static bool is_trouble(unsigned status)
{
	return status == 500 || status == 502 || status == 503 || status == 504; /* RFC 5861 4 */
}

/* The server cannot be had: whether what is remembered will do instead. */
static bool answer_instead(const struct template_flight *f, const struct template_wait *w, unsigned fwd_status,
			   struct template_answer *a)
{
	struct template_cache *c = f->cache;
	const uint64_t now_ms = loop_now_ms(c->loop);
	const struct metacache_value *v;

	if (w->way == CACHE_REQUEST || w->way == CACHE_BYPASS || !c->table || f->epoch != c->epoch)
		return false;
	v = metacache_find(c->table, f->realm, buf_str(&f->key), f->hash);
	if (!v || metacache_use(v, &c->rule, now_ms) == METACACHE_NOTHING)
		return false;
	answer_from(v, now_ms, a);
	a->cache.way = fwd_status ? CACHE_STALE : CACHE_HIT;
	a->cache.fwd_status = fwd_status;
	a->cache.detail = "stale-if-error";
	c->counters.stale++;
	return true;
}

/* Remembers a complete answer; false when it may not be, or there is no room. */
static bool remember(struct template_flight *f, struct str head, struct str body)
{
	struct template_cache *c = f->cache;
	struct buf kept = BUF_EMPTY;
	struct metacache_value v = {
		.body = body,
		.asked_at_ms = f->asked_at_ms,
		.age_ms = f->leave.age_ms,
		.fresh_ms = c->ttl_ms < f->leave.fresh_max_ms ? c->ttl_ms : f->leave.fresh_max_ms,
	};
	const struct metacache_value *old;
	bool stored = false;

	/* With another key than the one it began with it would be another's answer. */
	if (f->credential && key_changes(f->credential) != f->changes)
		return false;
	if (!f->remembers || !f->leave.store || !c->table || f->epoch != c->epoch || body.n > ENTRY_MAX_BYTES ||
	    v.fresh_ms == 0)
		return false;
	old = metacache_find(c->table, f->realm, buf_str(&f->key), f->hash);
	if (old && !old->kept && old->asked_at_ms > f->asked_at_ms)
		return false; /* that one was asked for later and came earlier */
	cache_http_keep_lines(head, true, &kept);
	v.head = buf_str(&kept);
	if (!kept.failed)
		stored = metacache_put(c->table, f->realm, buf_str(&f->key), f->hash, &v);
	if (stored)
		keep(c, f, &v);
	buf_fini(&kept);
	return stored;
}

/* The server says that there is none, or none for this one: what is remembered must not come back when it is in trouble. */
static void unlearn(struct template_flight *f)
{
	struct template_cache *c = f->cache;
	struct cache_keep_key key;

	if (!c->table)
		return;
	metacache_drop(c->table, f->realm, buf_str(&f->key), f->hash);
	key = keep_key(c, f);
	if (c->keep && !c->where.failed)
		cache_keep_drop(c->keep, &key);
}

/* --- flights ---------------------------------------------------------------------------------------------------------------- */

/* Tells all who wait; `own` is what came of the flight itself. */
static void tell(struct template_flight *f, const struct template_answer *own, bool trouble, bool answered)
{
	bool shared = !list_empty(&f->waits) && f->waits.next != f->waits.prev;

	f->telling = true;
	list_remove(&f->link); /* who asks from now on starts another */

	while (!list_empty(&f->waits)) {
		struct template_wait *w = LIST_FIRST(&f->waits, struct template_wait, link);
		struct template_answer a = *own;
		list_remove(&w->link);
		w->flight = NULL;
		if (!trouble || !answer_instead(f, w, answered ? own->status : 0, &a)) {
			f->cache->counters.misses++;
			a.cache.way = w->way;
			a.cache.collapsed = shared && w->joined;
		}
		w->on_answer(w, &a);
	}
}

static void fail(struct template_flight *f, unsigned status, const char *why)
{
	const struct template_answer own = {.status = status, .why = why};

	tell(f, &own, true, false);
	flight_free(f);
}

static void on_over(struct deferred *d)
{
	struct template_flight *f = CONTAINER_OF(d, struct template_flight, over);

	fail(f, f->failure, f->why);
}

static void on_head(void *arg, const struct http_head *head)
{
	struct template_flight *f = arg;

	f->leave = cache_http_leave(head);
}

static void on_data(void *arg, const char *p, size_t n)
{
	struct template_flight *f = arg;
	bool too_large = n > ANSWER_MAX_BYTES || f->body.len > ANSWER_MAX_BYTES - n;

	if (!too_large && f->cache->reading + n <= ALL_MAX_BYTES) {
		buf_add(&f->body, p, n);
		f->cache->reading += f->body.failed ? 0 : n;
		if (!f->body.failed)
			return;
	}
	f->failure = too_large ? 502 : 503;
	f->why = too_large ? "the answer is too large"
			   : "too many large answers are being read at the same time; try again";
	fetch_cancel(f->fetch);
	f->fetch = NULL;
	loop_defer(f->cache->loop, &f->over);
}

static void on_fetched(void *arg, const struct fetch_answer *a)
{
	struct template_flight *f = arg;
	struct buf head = BUF_EMPTY;
	struct buf shown = BUF_EMPTY;
	struct template_answer own = {.status = a->status, .body = a->body};

	f->fetch = NULL;
	if (a->end != FETCH_DONE) {
		fail(f, fetch_end_status(a->end), a->why);
		return;
	}
	if (a->status == 200 && template_doc_show(buf_str(&f->body), &shown)) {
		own.body = buf_str(&shown);
		own.cache.stored = remember(f, a->head, own.body);
	} else if (a->status == 200) {
		own.body = buf_str(&f->body);
	} else if (a->status / 100 == 4 && a->status != 429 && f->epoch == f->cache->epoch) {
		unlearn(f);
	}
	cache_http_keep_lines(a->head, false, &head);
	own.head = buf_str(&head);
	if (head.failed) {
		own = (struct template_answer){.status = 503, .why = "out of memory"};
		tell(f, &own, true, false);
	} else {
		tell(f, &own, is_trouble(a->status), true);
	}
	buf_fini(&head);
	buf_fini(&shown);
	flight_free(f);
}

static struct template_flight *find_flight(struct template_cache *c, uint64_t realm, struct str key, uint32_t hash)
{
	LIST_FOREACH (n, &c->flights[hash % FLIGHT_BUCKETS]) {
		struct template_flight *f = CONTAINER_OF(n, struct template_flight, link);
		if (f->hash == hash && f->realm == realm && !f->alone && f->epoch == c->epoch && f->failure == 0 &&
		    str_eq(buf_str(&f->key), key))
			return f;
	}
	return NULL;
}

static struct template_flight *start_flight(struct template_cache *c, const struct template_question *q, struct str key,
					    uint64_t realm, uint32_t hash)
{
	struct template_flight *f = calloc(1, sizeof(*f));
	const struct fetch_request request = {
		.caller = q->caller,
		.method = "GET",
		.target = q->target,
		.user_agent = q->user_agent,
		.max_bytes = OTHER_MAX_BYTES,
		.keep_head = true,
		.on_head = on_head,
		.on_data = on_data,
		.on_done = on_fetched,
		.arg = f,
	};

	if (!f)
		return NULL;
	list_init(&f->link);
	list_init(&f->waits);
	deferred_init(&f->over, on_over);
	f->cache = c;
	f->upstream = upstream_ref(q->caller.upstream);
	f->credential = q->caller.key ? key_ref(q->caller.key) : NULL;
	f->changes = f->credential ? key_changes(f->credential) : 0;
	f->realm = realm;
	f->hash = hash;
	f->epoch = c->epoch;
	f->asked_at_ms = loop_now_ms(c->loop);
	f->alone = q->bypass || q->wish.no_store;
	f->remembers = !f->alone;
	buf_add_str(&f->key, key);
	if (f->key.failed || fetch_start(c->loop, &request, &f->fetch)) {
		flight_free(f);
		return NULL;
	}
	list_add_head(&c->flights[hash % FLIGHT_BUCKETS], &f->link);
	c->counters.fetches++;
	return f;
}

/* Somebody was given what is stale: the next one is to get what is new. */
static void make_anew(struct template_cache *c, const struct template_question *q, struct str key, uint64_t realm,
		      uint32_t hash)
{
	struct template_flight *f = find_flight(c, realm, key, hash);

	if (!f)
		f = start_flight(c, q, key, realm, hash);
	if (f)
		f->for_later = true; /* without memory the next one tries */
}

/* --- asking ----------------------------------------------------------------------------------------------------------------- */

/* Whether what is remembered is the answer; *way is why it is not. */
static bool find_now(struct template_cache *c, const struct template_question *q, struct str key, uint64_t realm,
		     uint32_t hash, struct template_answer *now, enum cache_way *way)
{
	const struct metacache_value *v;
	const uint64_t now_ms = loop_now_ms(c->loop);
	enum metacache_use use;

	*way = q->bypass || !c->table ? CACHE_BYPASS : q->wish.no_cache ? CACHE_REQUEST : CACHE_MISS;
	if (*way != CACHE_MISS)
		return false;
	v = metacache_find(c->table, realm, key, hash);
	use = v ? metacache_use(v, &c->rule, now_ms) : METACACHE_NOTHING;
	if (use == METACACHE_NOTHING || use == METACACHE_IF_ERROR) {
		*way = v ? CACHE_STALE : CACHE_MISS;
		return false;
	}
	answer_from(v, now_ms, now);
	if (now->cache.age_ms > q->wish.max_age_ms) {
		*way = CACHE_REQUEST;
		return false;
	}
	if (use == METACACHE_FRESH) {
		c->counters.hits++;
		return true;
	}
	c->counters.stale++;
	now->cache.detail = "stale-while-revalidate";
	make_anew(c, q, key, realm, hash);
	return true;
}

enum template_found template_cache_ask(struct template_cache *c, const struct template_question *q,
				       struct template_wait *w, struct template_answer *now)
{
	const struct str key = q->key;
	uint64_t realm = upstream_serial(q->caller.upstream);
	uint32_t hash = c->table ? metacache_hash(c->table, realm, key) : 0;
	struct template_flight *f = NULL;

	list_init(&w->link);
	w->flight = NULL;
	w->joined = false;
	if (find_now(c, q, key, realm, hash, now, &w->way))
		return TEMPLATE_NOW;
	if (w->way == CACHE_MISS || w->way == CACHE_STALE)
		f = find_flight(c, realm, key, hash);
	w->joined = f;
	if (!f)
		f = start_flight(c, q, key, realm, hash);
	if (!f)
		return TEMPLATE_NO_MEMORY;
	list_add_tail(&f->waits, &w->link);
	w->flight = f;
	return TEMPLATE_PENDING;
}

void template_cache_cancel(struct template_wait *w)
{
	struct template_flight *f = w->flight;

	if (!f)
		return;
	list_remove(&w->link);
	w->flight = NULL;
	/* One that is just telling those who wait ends by itself. */
	if (list_empty(&f->waits) && !f->for_later && !f->telling)
		flight_free(f);
}

/* --- for others ------------------------------------------------------------------------------------------------------------- */

struct template_get {
	struct template_cache *cache; /* borrowed */
	struct template_wait wait;
	struct deferred start;
	struct fetch_caller caller; /* owned */
	struct buf key;
	size_t target_at; /* in the key */
	void (*on_done)(void *arg, const struct template_answer *a);
	void *arg;
};

static void get_free(struct template_get *g)
{
	deferred_cancel(&g->start);
	template_cache_cancel(&g->wait);
	fetch_caller_fini(&g->caller);
	buf_fini(&g->key);
	free(g);
}

static void get_done(struct template_get *g, const struct template_answer *a)
{
	g->on_done(g->arg, a);
	get_free(g);
}

static void on_get_answer(struct template_wait *w, const struct template_answer *a)
{
	get_done(CONTAINER_OF(w, struct template_get, wait), a);
}

static void on_get_start(struct deferred *d)
{
	struct template_get *g = CONTAINER_OF(d, struct template_get, start);
	const struct template_question q = {
		.caller = g->caller,
		.key = buf_str(&g->key),
		.target = str_of(buf_data(&g->key) + g->target_at, g->key.len - g->target_at),
		.wish = {.max_age_ms = UINT64_MAX},
	};
	struct template_answer a = {.status = 503, .why = "out of memory"};

	if (template_cache_ask(g->cache, &q, &g->wait, &a) != TEMPLATE_PENDING)
		get_done(g, &a);
}

int template_get(struct template_cache *c, const struct fetch_caller *caller, struct str name,
		 void (*on_done)(void *arg, const struct template_answer *a), void *arg, struct template_get **out)
{
	struct template_get *g = calloc(1, sizeof(*g));

	if (!g)
		return -ENOMEM;
	g->cache = c;
	list_init(&g->wait.link);
	g->wait.on_answer = on_get_answer;
	deferred_init(&g->start, on_get_start);
	g->on_done = on_done;
	g->arg = arg;
	template_cache_begin_key(caller, &g->key);
	g->target_at = g->key.len;
	buf_add_cstr(&g->key, "/api/v1/templates/");
	buf_add_str(&g->key, name);
	if (fetch_caller_copy(&g->caller, caller) || g->key.failed) {
		get_free(g);
		return -ENOMEM;
	}
	*out = g;
	loop_defer(c->loop, &g->start);
	return 0;
}

void template_get_cancel(struct template_get *g)
{
	if (g)
		get_free(g);
}

/* --- forgetting ------------------------------------------------------------------------------------------------------------- */

size_t template_cache_purge(struct template_cache *c, const struct upstream *u)
{
	struct str where = c->keep ? where_is(c, u) : STR("");

	c->epoch++;
	if (c->keep && c->where.failed)
		cache_keep_drop_all(c->keep);
	else if (c->keep)
		cache_keep_drop_upstream(c->keep, where);
	return c->table ? metacache_drop_realm(c->table, upstream_serial(u)) : 0;
}

size_t template_cache_purge_all(struct template_cache *c)
{
	c->epoch++;
	if (c->keep)
		cache_keep_drop_all(c->keep);
	return c->table ? metacache_drop_all(c->table) : 0;
}

void template_cache_adopt(struct template_cache *c, struct template_orphan *o)
{
	list_add_tail(&c->orphans, &o->link);
}

struct template_cache_counters template_cache_counters(const struct template_cache *c)
{
	struct template_cache_counters n = c->counters;
	struct metacache_counters m = c->table ? metacache_counters(c->table) : (struct metacache_counters){0};

	n.evictions = c->evictions + m.evictions;
	n.entries = m.entries;
	n.bytes = m.bytes;
	return n;
}
