/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The owner stands in the sandbox's own record, so it survives restarts and is the same for every gateway; what was seen
 * is remembered. A look that ends otherwise than with a record or the API's own 404 says nothing about the owner: its
 * askers are told that the server did not answer, and nothing is remembered. A 404 is not remembered either: the id
 * might be given out later.
 *
 * The look is made in the asker's name, so that one who probes ids uses up his own share of the server and of the pool;
 * askers with different user ids therefore never share one.
 */
#include "gateway/ownership.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "common/loop.h"
#include "gateway/fetch.h"
#include "gateway/sandbox_doc.h"
#include "gateway/upstream.h"

enum {
	REMEMBERED_MAX = 16384,
	RECORD_MAX_BYTES = 262144,
};

struct look_up {
	struct list link;            /* in its bucket */
	struct list waits;           /* struct ownership_wait */
	struct ownership *ownership; /* borrowed */
	struct upstream *upstream;   /* owned reference */
	struct fetch *fetch;         /* owned; NULL once it is done */
	char *user_id;               /* owned */
	char id[SANDBOX_DOC_ID_MAX_BYTES + 1];
};

int ownership_init(struct ownership *o, struct loop *loop)
{
	memset(o, 0, sizeof(*o));
	o->loop = loop;
	for (size_t i = 0; i < OWNERSHIP_BUCKETS; i++)
		list_init(&o->pending[i]);
	o->table = owner_table_new(REMEMBERED_MAX);
	return o->table ? 0 : -ENOMEM;
}

static void look_up_free(struct look_up *l)
{
	list_remove(&l->link);
	fetch_cancel(l->fetch);
	upstream_unref(l->upstream);
	free(l->user_id);
	free(l);
}

void ownership_fini(struct ownership *o)
{
	for (size_t i = 0; i < OWNERSHIP_BUCKETS && o->table; i++)
		LIST_FOREACH_SAFE (n, &o->pending[i])
			look_up_free(CONTAINER_OF(n, struct look_up, link));
	owner_table_free(o->table);
	o->table = NULL;
}

enum owner_answer ownership_known(struct ownership *o, const struct fetch_caller *asker, struct str id)
{
	return owner_ask(o->table, upstream_serial(asker->upstream), id, str_from(asker->user_id));
}

void ownership_learn_doc(struct ownership *o, const struct upstream *u, const struct sandbox_doc *doc)
{
	owner_learn(o->table, upstream_serial(u), str_from(doc->id), str_from(doc->owner),
		    str_from(doc->preview_domain), loop_now_ms(o->loop));
}

bool ownership_domain(struct ownership *o, const struct upstream *u, struct str id, struct str *domain,
		      uint64_t *age_ms)
{
	uint64_t seen_ms;

	if (!owner_domain(o->table, upstream_serial(u), id, domain, &seen_ms))
		return false;
	*age_ms = loop_now_ms(o->loop) - seen_ms;
	return true;
}

void ownership_gone(struct ownership *o, const struct upstream *u, struct str id)
{
	owner_gone(o->table, upstream_serial(u), id);
	if (o->on_gone)
		o->on_gone(o->arg, u, id);
}

void ownership_destroyed(struct ownership *o, const struct fetch_caller *asker, struct str id)
{
	owner_learn(o->table, upstream_serial(asker->upstream), id, str_from(asker->user_id), STR(""),
		    loop_now_ms(o->loop));
	ownership_gone(o, asker->upstream, id);
}

/* --- looking -------------------------------------------------------------------------------------------------------- */

bool ownership_is_not_found(const struct fetch_answer *a)
{
	json_t *body = a->status == 404 ? json_loadb(a->body.n ? a->body.p : "", a->body.n, 0, NULL) : NULL;
	const char *code = json_string_value(json_object_get(body, "code"));
	bool found = code && strcmp(code, "NOT_FOUND") == 0;

	json_decref(body);
	return found;
}

/* What the answer says; OWNER_UNKNOWN with *status and *why when it does not. */
static enum owner_answer judge(struct look_up *l, const struct fetch_answer *a, unsigned *status, const char **why)
{
	struct ownership *o = l->ownership;
	struct sandbox_doc doc;

	if (a->end != FETCH_DONE) {
		*status = fetch_end_status(a->end);
		*why = a->why;
		return OWNER_UNKNOWN;
	}
	if (ownership_is_not_found(a)) {
		ownership_gone(o, l->upstream, str_from(l->id));
		return OWNER_OTHER;
	}
	if (a->status == 200 && sandbox_doc_parse(a->body, &doc) == 0 && strcmp(doc.id, l->id) == 0) {
		ownership_learn_doc(o, l->upstream, &doc);
		return doc.owner[0] && strcmp(doc.owner, l->user_id) == 0 ? OWNER_SAME : OWNER_OTHER;
	}
	*status = a->status == 429 || a->status == 503 ? 503 : a->status == 504 ? 504 : 502;
	*why = "did not say whose the sandbox is";
	return OWNER_UNKNOWN;
}

static void on_fetched(void *arg, const struct fetch_answer *a)
{
	struct look_up *l = arg;
	const char *why = "";
	unsigned status = 0;
	enum owner_answer answer = judge(l, a, &status, &why);

	l->fetch = NULL;
	l->ownership->failed += answer == OWNER_UNKNOWN;
	/* Those who ask from now on start another. */
	list_remove(&l->link);
	while (!list_empty(&l->waits)) {
		struct ownership_wait *w = LIST_FIRST(&l->waits, struct ownership_wait, link);
		list_remove(&w->link);
		w->look_up = NULL;
		w->on_known(w, answer, status, why);
	}
	look_up_free(l);
}

static struct list *bucket_of(struct ownership *o, struct str id)
{
	return &o->pending[str_hash(id) % OWNERSHIP_BUCKETS];
}

static struct look_up *find_pending(struct list *bucket, const struct fetch_caller *asker, struct str id)
{
	LIST_FOREACH (n, bucket) {
		struct look_up *l = CONTAINER_OF(n, struct look_up, link);
		if (l->upstream == asker->upstream && str_eq(str_from(l->id), id) &&
		    strcmp(l->user_id, asker->user_id) == 0)
			return l;
	}
	return NULL;
}

static struct look_up *look_up_start(struct ownership *o, const struct fetch_caller *asker, struct str id)
{
	char target[SANDBOX_DOC_TARGET_MAX_BYTES + 1];
	struct look_up *l = calloc(1, sizeof(*l));
	struct fetch_request request = {
		.caller = *asker,
		.method = "GET",
		.max_bytes = RECORD_MAX_BYTES,
		.on_done = on_fetched,
		.arg = l,
	};

	if (!l)
		return NULL;
	list_init(&l->link);
	list_init(&l->waits);
	l->ownership = o;
	memcpy(l->id, id.p, id.n);
	request.target = sandbox_doc_target(target, l->id, "");
	l->upstream = upstream_ref(asker->upstream);
	l->user_id = strdup(asker->user_id);
	if (!l->user_id || fetch_start(o->loop, &request, &l->fetch)) {
		look_up_free(l);
		return NULL;
	}
	list_add_tail(bucket_of(o, id), &l->link);
	o->looked_up++;
	return l;
}

int ownership_ask(struct ownership *o, const struct fetch_caller *asker, struct str id, struct ownership_wait *w)
{
	struct look_up *l = find_pending(bucket_of(o, id), asker, id);

	list_init(&w->link);
	w->look_up = NULL;
	if (!l)
		l = look_up_start(o, asker, id);
	if (!l)
		return -ENOMEM;
	list_add_tail(&l->waits, &w->link);
	w->look_up = l;
	return 0;
}

void ownership_cancel(struct ownership_wait *w)
{
	struct look_up *l = w->look_up;

	if (!l)
		return;
	list_remove(&w->link);
	w->look_up = NULL;
	/* One that is just telling its askers ends by itself. */
	if (list_empty(&l->waits) && l->fetch)
		look_up_free(l);
}

size_t ownership_forget_all(struct ownership *o)
{
	return owner_forget_all(o->table);
}

void ownership_forget(struct ownership *o, const struct upstream *u, struct str id)
{
	owner_forget(o->table, upstream_serial(u), id);
}

void ownership_forget_upstream(struct ownership *o, const struct upstream *u)
{
	owner_forget_realm(o->table, upstream_serial(u));
}
