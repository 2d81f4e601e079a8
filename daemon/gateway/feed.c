/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/feed.h"

#include <stdlib.h>

#include "gateway/config.h"
#include "gateway/snapshot.h"
#include "gateway/upstream.h"

enum {
	PLACES_MIN = 4 /* of a pool that is to spare one for what only saves work */
};

static struct feed_tally *tally_of(struct feed *f, const struct upstream *u)
{
	LIST_FOREACH (n, &f->tallies) {
		struct feed_tally *t = CONTAINER_OF(n, struct feed_tally, link);
		if (t->serial == upstream_serial(u))
			return t;
	}
	return NULL;
}

static struct feed_tally *need_tally(struct feed *f, const struct upstream *u)
{
	struct feed_tally *t = tally_of(f, u);

	if (t)
		return t;
	t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;
	t->serial = upstream_serial(u);
	list_add_tail(&f->tallies, &t->link);
	return t;
}

static struct feed_source *find(const struct feed *f, const struct fetch_caller *caller)
{
	LIST_FOREACH (n, &f->shared.sources) {
		struct feed_source *s = CONTAINER_OF(n, struct feed_source, link);
		if (s->upstream == caller->upstream && s->key == caller->key)
			return s;
	}
	return NULL;
}

/* The subscription to that upstream with that key, a new one if there is none. NULL without memory. */
static struct feed_source *need(struct feed *f, const struct fetch_caller *caller)
{
	struct feed_source *s = find(f, caller);
	struct feed_tally *t;

	if (s)
		return s;
	t = need_tally(f, caller->upstream);
	return t ? feed_source_new(&f->shared, t, caller) : NULL;
}

enum feed_joined feed_join(struct feed *f, const struct fetch_caller *caller, struct feed_reader *r)
{
	struct feed_source *s = need(f, caller);

	list_init(&r->link);
	r->source = NULL;
	r->begun = false;
	if (!s)
		return FEED_FAILED;
	if (feed_source_begin(s, caller)) {
		feed_source_review(s);
		return FEED_FAILED;
	}
	list_add_tail(&s->readers, &r->link);
	r->source = s;
	r->begun = s->state == FEED_OPEN;
	return r->begun ? FEED_BEGUN : FEED_WAITS;
}

void feed_leave(struct feed_reader *r)
{
	struct feed_source *s = r->source;

	if (!s)
		return;
	list_remove(&r->link);
	r->source = NULL;
	feed_source_review(s);
}

static void want(struct feed *f, struct feed_source *s, const struct fetch_caller *caller)
{
	if (upstream_config(caller->upstream)->pool.max_connections < PLACES_MIN)
		return;
	if (!s)
		s = need(f, caller);
	if (!s)
		return;
	s->wanted = true;
	s->used_ms = loop_now_ms(f->shared.loop);
	deadline_set(&f->shared.idle_deadlines, &s->idle);
	if (s->state == FEED_IDLE && s->barren_ms <= s->used_ms)
		s->wanted = feed_source_begin(s, caller) == 0;
	if (!s->wanted)
		feed_source_review(s);
}

void feed_want(struct feed *f, const struct fetch_caller *caller)
{
	struct feed_source *s = find(f, caller);

	if (s && s->wanted)
		s->used_ms = loop_now_ms(f->shared.loop);
	else
		want(f, s, caller);
}

/* --- all of them --------------------------------------------------------------------------------------------------------- */

void feed_init(struct feed *f, struct loop *loop, struct ownership *ownership)
{
	f->shared.loop = loop;
	f->shared.ownership = ownership;
	list_init(&f->shared.sources);
	list_init(&f->tallies);
	deadline_queue_init(&f->shared.idle_deadlines, loop, FEED_IDLE_MS);
}

static void tally_free(struct feed_tally *t)
{
	list_remove(&t->link);
	free(t);
}

void feed_fini(struct feed *f)
{
	LIST_FOREACH_SAFE (n, &f->shared.sources)
		feed_source_free(CONTAINER_OF(n, struct feed_source, link));
	LIST_FOREACH_SAFE (n, &f->tallies)
		tally_free(CONTAINER_OF(n, struct feed_tally, link));
	deadline_queue_fini(&f->shared.idle_deadlines);
}

/* Whether there is a rule by which something of it may be remembered. */
static bool is_in_force(const struct feed_source *s, const struct snapshot *snapshot)
{
	const struct config *c = snapshot_config(snapshot);

	for (size_t i = 0; i < c->nrules; i++) {
		const struct config_rule *r = &c->rules[i];
		if (r->isolation == CONFIG_ISOLATION_OWNER && snapshot_upstream(snapshot, r->upstream) == s->upstream &&
		    snapshot_key(snapshot, r) == s->key)
			return true;
	}
	return false;
}

static bool is_configured(const struct feed_tally *t, const struct snapshot *snapshot)
{
	for (size_t i = 0; i < snapshot_config(snapshot)->nupstreams; i++)
		if (upstream_serial(snapshot_upstream(snapshot, i)) == t->serial)
			return true;
	return false;
}

void feed_use_snapshot(struct feed *f, const struct snapshot *snapshot)
{
	LIST_FOREACH_SAFE (n, &f->shared.sources) {
		struct feed_source *s = CONTAINER_OF(n, struct feed_source, link);
		if (is_in_force(s, snapshot))
			continue;
		s->wanted = false;
		s->barren_ms = 0;
		feed_source_review(s);
	}
	LIST_FOREACH_SAFE (n, &f->tallies) {
		struct feed_tally *t = CONTAINER_OF(n, struct feed_tally, link);
		if (t->sources == 0 && !is_configured(t, snapshot))
			tally_free(t);
	}
}

struct feed_counts *feed_counts_of(struct feed_reader *r)
{
	return &r->source->tally->counts;
}

struct feed_status feed_status(const struct feed *f, const struct upstream *u)
{
	struct feed_status status = {0};
	size_t sources = 0;
	size_t open = 0;

	LIST_FOREACH (n, &f->tallies) {
		const struct feed_tally *t = CONTAINER_OF(n, struct feed_tally, link);
		if (t->serial == upstream_serial(u))
			status.counts = t->counts;
	}
	LIST_FOREACH (n, &f->shared.sources) {
		const struct feed_source *s = CONTAINER_OF(n, struct feed_source, link);
		if (s->upstream != u)
			continue;
		sources += s->state != FEED_IDLE;
		open += s->state == FEED_OPEN;
		LIST_FOREACH (m, &s->readers)
			status.subscribers++;
	}
	status.connected = open && open == sources;
	return status;
}
