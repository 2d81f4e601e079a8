/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The exchange is made at once, so that what its client sends can be taken, and started when these have been answered in
 * this order: does the server put strangers into one machine, and is the sandbox in the path the caller's? A body that
 * is read whole is judged meanwhile; a spawn may also have to wait for a template, or for a count of the caller's
 * sandboxes. Every one of these ends in exchange_start or exchange_refuse, and none outlives the exchange.
 *
 * Under isolation a 404 from the server is answered anew, so that a destroyed sandbox, a stranger's and one that never was
 * look alike.
 */
#include "gateway/enforce.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/http_write.h"
#include "common/log.h"
#include "common/loop.h"
#include "gateway/body.h"
#include "gateway/config.h"
#include "gateway/fetch.h"
#include "gateway/limiter.h"
#include "gateway/list_filter.h"
#include "gateway/request_id.h"
#include "gateway/route.h"
#include "gateway/sandbox_doc.h"
#include "gateway/survey.h"
#include "gateway/upstream.h"

enum {
	IDLE_MAX = 64,
	TEMPLATE_MAX_BYTES = 1048576,
	MESSAGE_MAX_BYTES = 256,
	TOKEN_BYTES = 32,
};

/* What is made of the request. */
enum enforce_kind {
	ENFORCE_BODY,           /* the body is judged, the answer passes */
	ENFORCE_SANDBOX,        /* it names a sandbox; its body may be judged too */
	ENFORCE_SPAWN,          /* the body is judged and stamped, the answer says whose the new sandbox is */
	ENFORCE_TEMPLATE_SPAWN, /* becomes an ordinary spawn */
	ENFORCE_LIST,
};

struct enforce {
	struct list link; /* on enforce_shared.idle while unused */
	struct enforce_shared *shared;
	struct enforce_case c;
	struct exchange *exchange; /* borrowed */
	enum enforce_kind kind;
	enum body_kind body_kind; /* with a body that is judged */
	bool isolated;
	bool destroys; /* DELETE of the sandbox */
	struct admit admit;
	unsigned clamped; /* bits of body.h */
	/* The rest is used by few requests. */
	struct fetch *template;      /* owned; ENFORCE_TEMPLATE_SPAWN */
	char *template_target;       /* owned */
	struct survey *survey;       /* owned; counts the caller's sandboxes */
	uint64_t counted;            /* by the survey */
	uint64_t others;             /* spawns of his that were under way when it began */
	bool spawning;               /* counted as one */
	struct buf body;             /* kept while one of these is waited for */
	struct list_filter *list;    /* owned; ENFORCE_LIST */
};

int enforce_shared_init(struct enforce_shared *s, struct loop *loop)
{
	memset(s, 0, sizeof(*s));
	s->loop = loop;
	list_init(&s->idle);
	return admit_shared_init(&s->admit, loop);
}

void enforce_shared_fini(struct enforce_shared *s)
{
	LIST_FOREACH_SAFE (n, &s->idle)
		free(CONTAINER_OF(n, struct enforce, link));
	admit_shared_fini(&s->admit);
}

static struct fetch_caller asker_of(const struct enforce *e)
{
	return (struct fetch_caller){e->c.upstream, e->c.key, e->c.user_id, e->c.request_id};
}

static void refuse_upstream(struct enforce *e, unsigned status, const char *why)
{
	exchange_refuse(e->exchange, status, "upstream %s: %s", upstream_name(e->c.upstream), why);
}

static void refuse_unknown(struct enforce *e)
{
	exchange_refuse(e->exchange, 404, ADMIT_NOT_FOUND_TEXT, STR_ARG(str_from(e->admit.sandbox)));
}

/* --- may it start? ---------------------------------------------------------------------------------------------------- */

static void on_admitted(struct admit *a)
{
	exchange_start(CONTAINER_OF(a, struct enforce, admit)->exchange);
}

static void on_refused(struct admit *a)
{
	exchange_refuse(CONTAINER_OF(a, struct enforce, admit)->exchange, a->status, "%s", a->why);
}

/* Nothing of the body is looked at before, so that what a stranger sends cannot tell which of the unknown he has met. */
void enforce_start(struct enforce *e, struct exchange *exchange)
{
	enum admit_verdict verdict = ADMIT_YES;

	e->exchange = exchange;
	if (e->isolated && e->kind != ENFORCE_BODY)
		verdict = admit_ask(&e->admit);
	if (verdict == ADMIT_YES)
		exchange_start(exchange);
	else if (verdict == ADMIT_NO)
		on_refused(&e->admit);
	else if (e->kind == ENFORCE_SANDBOX)
		exchange_hold_body(exchange);
}

/* --- the body --------------------------------------------------------------------------------------------------------- */

static struct body_policy policy_of(const struct enforce *e, const char *token)
{
	return (struct body_policy){
		.owner = e->c.user_id,
		.token = token,
		.stamp = true,
		.limits = &e->c.rule->limits,
		.spawn_defaults = e->c.rule->spawn_defaults,
	};
}

static void on_counted_one(void *arg, const struct sandbox_doc *doc)
{
	struct enforce *e = arg;

	(void)doc;
	e->counted++;
}

static void refuse_one_more(struct enforce *e)
{
	exchange_refuse(e->exchange, 429, "rule \"%s\": limits.sandboxes (%llu) is reached", e->c.rule->name,
			(unsigned long long)e->c.rule->limits.sandboxes);
}

static void on_counted(void *arg, unsigned status, const char *why, struct str date)
{
	struct enforce *e = arg;

	(void)date;
	e->survey = NULL;
	if (status)
		refuse_upstream(e, status, why);
	else if (e->counted + e->others >= e->c.rule->limits.sandboxes)
		refuse_one_more(e);
	else
		exchange_send_body(e->exchange, buf_str(&e->body));
}

static const struct survey_events count_events = {.on_sandbox = on_counted_one, .on_done = on_counted};

/* The body is as it will be sent; is there room for one more sandbox? */
static void send_spawn(struct enforce *e, struct buf *body)
{
	const struct fetch_caller asker = asker_of(e);
	struct limiter_refusal why;

	if (e->c.rule->limits.sandboxes == 0) {
		exchange_send_body(e->exchange, buf_str(body));
		return;
	}
	/* Those that are under way now may or may not be in the list; counted twice they are too many, never too few. */
	e->others = limiter_owner_counts(e->c.limits).spawns;
	e->spawning = limiter_spawn_take(e->c.limits, &e->c.rule->limits, 0, &why);
	if (!e->spawning) {
		refuse_one_more(e);
		return;
	}
	e->body = *body;
	*body = BUF_EMPTY;
	if (survey_start(e->shared->loop, &asker, &count_events, e, &e->survey))
		exchange_refuse(e->exchange, 503, "out of memory");
}

/* Sends what was made of the body, or says why not. */
static void send_judged(struct enforce *e, struct buf *body, const struct body_verdict *v)
{
	e->clamped = v->clamped;
	if (v->status)
		exchange_refuse(e->exchange, v->status, "%s", v->why);
	else if (body->failed)
		exchange_refuse(e->exchange, 503, "out of memory");
	else if (e->body_kind == BODY_SPAWN || e->kind == ENFORCE_TEMPLATE_SPAWN)
		send_spawn(e, body);
	else
		exchange_send_body(e->exchange, buf_str(body));
}

/* The message of an error of the API's shape, or what stands for one. */
static void refuse_as_answered(struct enforce *e, const struct fetch_answer *a)
{
	json_t *error = json_loadb(a->body.n ? a->body.p : "", a->body.n, 0, NULL);
	const char *message = json_string_value(json_object_get(error, "message"));
	unsigned status = a->status >= 400 ? a->status : 502;

	exchange_refuse(e->exchange, status, "%.*s", MESSAGE_MAX_BYTES,
			message ? message : "the template could not be read");
	json_decref(error);
}

static void on_template(void *arg, const struct fetch_answer *a)
{
	struct enforce *e = arg;
	char token[REQUEST_ID_MAX_BYTES + 1];
	struct body_verdict verdict = {0};
	struct buf out = BUF_EMPTY;

	e->template = NULL;
	if (a->end != FETCH_DONE) {
		refuse_upstream(e, fetch_end_status(a->end), a->why);
		return;
	}
	if (a->status != 200) {
		refuse_as_answered(e, a);
		return;
	}
	request_id_make(token);
	const struct body_policy policy = policy_of(e, token);
	body_from_template(&policy, a->body, buf_str(&e->body), &out, &verdict);
	buf_fini(&e->body);
	send_judged(e, &out, &verdict);
	buf_fini(&out);
}

/* The template says what is spawned; an ordinary spawn says it to the server, so that stamp and limits apply. */
static void fetch_template(struct enforce *e, struct str overrides)
{
	const struct fetch_request request = {
		.caller = asker_of(e),
		.method = "GET",
		.target = str_from(e->template_target),
		.max_bytes = TEMPLATE_MAX_BYTES,
		.on_done = on_template,
		.arg = e,
	};

	buf_add_str(&e->body, overrides);
	if (e->body.failed || fetch_start(e->shared->loop, &request, &e->template))
		exchange_refuse(e->exchange, 503, "out of memory");
}

static void on_whole_body(void *arg, struct str body)
{
	struct enforce *e = arg;
	char token[REQUEST_ID_MAX_BYTES + 1];
	struct body_verdict verdict = {0};
	struct buf out = BUF_EMPTY;

	if (e->kind == ENFORCE_TEMPLATE_SPAWN) {
		fetch_template(e, body);
		return;
	}
	request_id_make(token);
	const struct body_policy policy = policy_of(e, token);
	body_judge(e->body_kind, &policy, body, &out, &verdict);
	send_judged(e, &out, &verdict);
	buf_fini(&out);
}

/* --- the answer ------------------------------------------------------------------------------------------------------- */

static enum exchange_use judge_sandbox_answer(struct enforce *e, unsigned status)
{
	struct ownership *o = &e->shared->admit.ownership;

	if (!e->isolated)
		return EXCHANGE_PASS;
	if (status == 404) {
		ownership_gone(o, e->c.upstream, str_from(e->admit.sandbox));
		refuse_unknown(e);
		return EXCHANGE_REFUSED;
	}
	if (e->destroys && status / 100 == 2)
		ownership_gone(o, e->c.upstream, str_from(e->admit.sandbox));
	return EXCHANGE_PASS;
}

static enum exchange_use begin_filter(struct enforce *e)
{
	e->list = calloc(1, sizeof(*e->list));
	if (!e->list) {
		exchange_refuse(e->exchange, 503, "out of memory");
		return EXCHANGE_REFUSED;
	}
	list_filter_init(e->list, e->c.user_id);
	return EXCHANGE_FILTER;
}

static enum exchange_use on_head(void *arg, const struct http_head *head, struct buf *extra)
{
	struct enforce *e = arg;

	if (e->clamped) {
		struct buf names = BUF_EMPTY;
		body_clamped_text(e->clamped, &names);
		http_write_header(extra, STR("Stacygate-Clamped"), buf_str(&names));
		buf_fini(&names);
	}
	switch (e->kind) {
	case ENFORCE_BODY:
		return EXCHANGE_PASS;
	case ENFORCE_SANDBOX:
		return judge_sandbox_answer(e, head->status);
	case ENFORCE_SPAWN:
	case ENFORCE_TEMPLATE_SPAWN:
		return head->status == 201 ? EXCHANGE_COPY : EXCHANGE_PASS;
	case ENFORCE_LIST:
		if (head->status == 200)
			return begin_filter(e);
		/* An error speaks of the request; anything else might hold a part of what everybody has. */
		if (head->status >= 400)
			return EXCHANGE_PASS;
		refuse_upstream(e, 502, "answered otherwise than with what can be filtered");
		return EXCHANGE_REFUSED;
	}
	return EXCHANGE_PASS;
}

static bool on_data(void *arg, struct str data, bool last, struct buf *out)
{
	struct enforce *e = arg;
	int rc = list_filter_feed(e->list, data, out);

	if (rc == 0 && last)
		rc = list_filter_end(e->list, out);
	if (last)
		e->shared->list_skipped += list_filter_skipped(e->list);
	return rc == 0;
}

/* The new sandbox is the caller's, before he can ask for it. */
static void on_copy(void *arg, struct str body)
{
	struct enforce *e = arg;
	const struct fetch_caller asker = asker_of(e);
	struct sandbox_doc doc;

	if (sandbox_doc_parse(body, &doc))
		return;
	ownership_learn(&e->shared->admit.ownership, e->c.upstream, str_from(doc.id),
			str_from(doc.owner[0] ? doc.owner : e->c.user_id));
	if (e->isolated)
		feed_want(&e->shared->admit.feed, &asker);
}

/* Whoever has left his spawn has it under way all the same. */
static struct limiter_owner *on_left(void *arg)
{
	struct enforce *e = arg;
	bool spawning = e->spawning;

	e->spawning = false;
	return spawning ? e->c.limits : NULL;
}

static const struct exchange_shape shape = {
	.on_left = on_left,
	.on_whole_body = on_whole_body,
	.on_head = on_head,
	.on_data = on_data,
	.on_copy = on_copy,
};

/* --- the beginning ---------------------------------------------------------------------------------------------------- */

static bool has_limits_of_spawns(const struct config_rule *r)
{
	const struct config_limits *l = &r->limits;

	return l->sandboxes || l->max_ttl_ms || l->max_memory_mb || l->max_vcpus || l->nimages || l->nproviders ||
	       r->spawn_defaults;
}

/* Which body of which route is judged, and as what; false: none. */
static bool body_kind_of(const struct route *route, const struct http_head *head, enum body_kind *kind)
{
	if (route->unchunk && head->framing == HTTP_BODY_CHUNKED) {
		*kind = BODY_EXEC;
		return true;
	}
	if (route->class == ROUTE_ENVIRONMENTS && head->framing != HTTP_BODY_NONE) {
		*kind = BODY_ENVIRONMENT;
		return true;
	}
	switch ((int)route->id) {
	case ROUTE_SPAWN:
		*kind = BODY_SPAWN;
		return true;
	case ROUTE_ADMISSION:
		*kind = BODY_ADMISSION;
		return true;
	case ROUTE_EXTEND:
		*kind = BODY_EXTEND;
		return true;
	case ROUTE_TEMPLATE_SAVE:
	case ROUTE_TEMPLATE_REPLACE:
		*kind = BODY_TEMPLATE;
		return true;
	case ROUTE_TEMPLATE_SPAWN:
		*kind = BODY_TEMPLATE_SPAWN;
		return true;
	default:
		return false;
	}
}

/* What is made of a request; false: nothing. */
static bool kind_of(const struct enforce_case *c, bool isolated, bool judged, enum enforce_kind *kind)
{
	const struct route *route = c->route;

	if (route->id == ROUTE_SPAWN)
		*kind = ENFORCE_SPAWN;
	else if (route->id == ROUTE_TEMPLATE_SPAWN && (isolated || has_limits_of_spawns(c->rule)))
		*kind = ENFORCE_TEMPLATE_SPAWN;
	else if (isolated && route->owner == ROUTE_OWNER_ID)
		*kind = ENFORCE_SANDBOX;
	else if (isolated && route->id == ROUTE_LIST)
		*kind = ENFORCE_LIST;
	else if (judged)
		*kind = ENFORCE_BODY;
	else
		return false;
	return true;
}

static struct enforce *take(struct enforce_shared *s)
{
	struct enforce *e = LIST_FIRST(&s->idle, struct enforce, link);

	if (!e)
		return calloc(1, sizeof(*e));
	list_remove(&e->link);
	s->nidle--;
	return e;
}

void enforce_free(struct enforce *e)
{
	struct enforce_shared *s;

	if (!e)
		return;
	s = e->shared;
	admit_cancel(&e->admit);
	if (e->spawning)
		limiter_spawn_give(e->c.limits, clock_ns());
	if (e->kind >= ENFORCE_SPAWN) {
		fetch_cancel(e->template);
		free(e->template_target);
		survey_cancel(e->survey);
		buf_fini(&e->body);
		if (e->list)
			list_filter_fini(e->list);
		free(e->list);
		e->template = NULL;
		e->template_target = NULL;
		e->survey = NULL;
		e->list = NULL;
	}
	if (s->nidle == IDLE_MAX) {
		free(e);
		return;
	}
	list_add_head(&s->idle, &e->link);
	s->nidle++;
}

/* Whether the sandbox may be the caller's, as far as is remembered. */
static enum enforce_verdict judge_sandbox(struct enforce *e, const struct route *route, enum http_method method)
{
	const struct fetch_caller asker = asker_of(e);

	if (route->sandbox_bad)
		return ENFORCE_NOT_FOUND;
	memcpy(e->admit.sandbox, route->sandbox.p, route->sandbox.n);
	e->admit.sandbox[route->sandbox.n] = '\0';
	e->destroys = route->id == ROUTE_DESTROY && method == METHOD_DELETE;
	if (!e->isolated)
		return ENFORCE_SHAPED;
	/* A stranger's goes the way of the unknown, so that both are answered alike. */
	if (e->destroys && ownership_known(&e->shared->admit.ownership, &asker, route->sandbox) == OWNER_GONE)
		return ENFORCE_DESTROYED;
	return ENFORCE_SHAPED;
}

static enum enforce_verdict prepare_template(struct enforce *e, struct exchange_request *request)
{
	int n = asprintf(&e->template_target, "/api/v1/templates/%.*s", STR_ARG(e->c.route->name));

	if (n < 0) {
		e->template_target = NULL;
		return ENFORCE_NO_MEMORY;
	}
	request->target = STR("/api/v1/sandboxes");
	return ENFORCE_SHAPED;
}

enum enforce_verdict enforce_new(struct enforce_shared *s, const struct enforce_case *c,
				 struct exchange_request *request, struct enforce **out)
{
	bool isolated = c->rule->isolation == CONFIG_ISOLATION_OWNER;
	enum enforce_verdict verdict = ENFORCE_SHAPED;
	enum body_kind body_kind = BODY_EXEC;
	bool judged = body_kind_of(c->route, c->head, &body_kind);
	enum enforce_kind kind;
	struct enforce *e;

	*out = NULL;
	if (!kind_of(c, isolated, judged, &kind))
		return ENFORCE_PLAIN;
	e = take(s);
	if (!e)
		return ENFORCE_NO_MEMORY;
	e->shared = s;
	e->c = *c;
	e->c.head = NULL;
	e->exchange = NULL;
	e->kind = kind;
	e->body_kind = body_kind;
	e->isolated = isolated;
	e->clamped = 0;
	e->spawning = false;
	e->counted = 0;
	list_init(&e->link);
	admit_init(&e->admit, &s->admit);
	e->admit.asker = asker_of(e);
	e->admit.shared_vm_accepted = c->shared_vm_accepted;
	e->admit.on_admitted = on_admitted;
	e->admit.on_refused = on_refused;
	if (kind == ENFORCE_SANDBOX)
		verdict = judge_sandbox(e, c->route, c->head->method);
	else if (kind == ENFORCE_TEMPLATE_SPAWN)
		verdict = prepare_template(e, request);
	if (verdict != ENFORCE_SHAPED) {
		enforce_free(e);
		return verdict;
	}
	e->c.route = NULL;
	request->whole = kind >= ENFORCE_SPAWN;
	request->gather = judged || kind == ENFORCE_TEMPLATE_SPAWN;
	request->shape = &shape;
	request->shape_arg = e;
	*out = e;
	return ENFORCE_SHAPED;
}
