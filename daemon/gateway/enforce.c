/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The exchange is made at once, so that what its client sends can be taken, and started when these have been answered in
 * this order: does the server put strangers into one machine, and is the sandbox in the path the caller's? A body that
 * is read whole is judged meanwhile. Both end in exchange_start or exchange_refuse, and neither outlives the exchange.
 *
 * Under isolation a 404 from the server is answered anew, so that a destroyed sandbox, a stranger's and one that never was
 * look alike.
 */
#include "gateway/enforce.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/loop.h"
#include "gateway/body.h"
#include "gateway/config.h"
#include "gateway/fetch.h"
#include "gateway/list_filter.h"
#include "gateway/route.h"
#include "gateway/sandbox_doc.h"
#include "gateway/upstream.h"

enum {
	IDLE_MAX = 64,
};

/* What is made of the request. */
enum enforce_kind {
	ENFORCE_BODY,    /* the body is judged, the answer passes */
	ENFORCE_SANDBOX, /* it names a sandbox; its body may be judged too */
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
	struct list_filter *list; /* owned; ENFORCE_LIST */
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
	return (struct fetch_caller){e->c.upstream, e->c.key, e->c.user_id, e->c.request_id, e->c.trace_lines};
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

static struct body_policy policy_of(const struct enforce *e)
{
	return (struct body_policy){
		.owner = e->c.user_id,
		.stamp = true,
		.limits = &e->c.rule->limits,
		.spawn_defaults = e->c.rule->spawn_defaults,
	};
}

/* Sends what was made of the body, or says why not. */
static void send_judged(struct enforce *e, struct buf *body, const struct body_verdict *v)
{
	e->clamped = v->clamped;
	if (v->status)
		exchange_refuse(e->exchange, v->status, "%s", v->why);
	else if (body->failed)
		exchange_refuse(e->exchange, 503, "out of memory");
	else
		exchange_send_body(e->exchange, buf_str(body));
}

static void on_whole_body(void *arg, struct str body)
{
	struct enforce *e = arg;
	const struct body_policy policy = policy_of(e);
	struct body_verdict verdict = {0};
	struct buf out = BUF_EMPTY;

	body_judge(e->body_kind, &policy, body, &out, &verdict);
	send_judged(e, &out, &verdict);
	buf_fini(&out);
}

/* --- the answer ------------------------------------------------------------------------------------------------------- */

static enum exchange_use judge_sandbox_answer(struct enforce *e, unsigned status)
{
	struct ownership *o = &e->shared->admit.ownership;
	const struct fetch_caller asker = asker_of(e);

	if (!e->isolated)
		return EXCHANGE_PASS;
	if (status == 404) {
		ownership_gone(o, e->c.upstream, str_from(e->admit.sandbox));
		refuse_unknown(e);
		return EXCHANGE_REFUSED;
	}
	if (e->destroys && status / 100 == 2)
		ownership_destroyed(o, &asker, str_from(e->admit.sandbox));
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

	body_add_clamped(e->clamped, extra);
	switch (e->kind) {
	case ENFORCE_BODY:
		return EXCHANGE_PASS;
	case ENFORCE_SANDBOX:
		return judge_sandbox_answer(e, head->status);
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

static const struct exchange_shape shape = {
	.on_whole_body = on_whole_body,
	.on_head = on_head,
	.on_data = on_data,
};

/* --- the beginning ---------------------------------------------------------------------------------------------------- */

/* Which body of which route is judged, and as what; false: none. */
static bool body_kind_of(const struct route *route, const struct http_head *head, enum body_kind *kind)
{
	if (route->unchunk && head->framing == HTTP_BODY_CHUNKED) {
		*kind = BODY_EXEC;
		return true;
	}
	/* To cancel a build has no body, which many clients say as a length of 0. */
	if (route->class == ROUTE_ENVIRONMENTS && head->framing != HTTP_BODY_NONE &&
	    (head->framing != HTTP_BODY_LENGTH || head->content_length > 0)) {
		*kind = BODY_ENVIRONMENT;
		return true;
	}
	switch ((int)route->id) {
	case ROUTE_ADMISSION:
		*kind = BODY_ADMISSION;
		return true;
	case ROUTE_EXTEND:
		*kind = BODY_EXTEND;
		return true;
	default:
		return false;
	}
}

/* What is made of a request; false: nothing. */
static bool kind_of(const struct enforce_case *c, bool isolated, bool judged, enum enforce_kind *kind)
{
	const struct route *route = c->route;

	if (isolated && route->owner == ROUTE_OWNER_ID)
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
	if (e->kind >= ENFORCE_LIST) {
		if (e->list)
			list_filter_fini(e->list);
		free(e->list);
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
	list_init(&e->link);
	admit_init(&e->admit, &s->admit);
	e->admit.asker = asker_of(e);
	e->admit.shared_vm_accepted = c->shared_vm_accepted;
	e->admit.on_admitted = on_admitted;
	e->admit.on_refused = on_refused;
	if (kind == ENFORCE_SANDBOX)
		verdict = judge_sandbox(e, c->route, c->head->method);
	if (verdict != ENFORCE_SHAPED) {
		enforce_free(e);
		return verdict;
	}
	e->c.route = NULL;
	request->whole = kind >= ENFORCE_LIST;
	request->gather = judged;
	request->shape = &shape;
	request->shape_arg = e;
	*out = e;
	return ENFORCE_SHAPED;
}
