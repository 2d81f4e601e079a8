/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An answer that is remembered costs no memory of its own but the head that is sent: the call and its texts are those of an
 * earlier one.
 */
#include "gateway/template_read.h"

#include <errno.h>
#include <stdlib.h>

#include "common/spares.h"
#include "gateway/config.h"
#include "gateway/owner_query.h"
#include "gateway/target.h"
#include "gateway/template_cache.h"

struct template_read {
	struct call call;
	struct template_wait wait;
	struct cache_wish wish;
	bool bypass;
	struct buf key;
	size_t target_at; /* in the key */
	struct buf user_agent;
	struct buf lines; /* of the answer's head */
};

static struct spares spares;

static void on_free(struct call *c)
{
	struct template_read *r = CONTAINER_OF(c, struct template_read, call);

	call_fini(c);
	template_cache_cancel(&r->wait);
	if (spares_put(&spares, r))
		return;
	buf_fini(&r->key);
	buf_fini(&r->user_agent);
	buf_fini(&r->lines);
	free(r);
}

static void answer(struct template_read *r, const struct template_answer *a)
{
	if (a->why) {
		call_refuse_upstream(&r->call, a->status, a->why);
		return;
	}
	buf_reset(&r->lines);
	cache_http_write(&a->cache, &r->lines);
	if (a->cache.way == CACHE_HIT)
		call_give_kept(&r->call, a->status, a->head, &r->lines, a->body);
	else
		call_relay_kept(&r->call, a->status, a->head, &r->lines, a->body);
}

static void on_answer(struct template_wait *w, const struct template_answer *a)
{
	answer(CONTAINER_OF(w, struct template_read, wait), a);
}

static void on_request(struct call *c, struct str body)
{
	struct template_read *r = CONTAINER_OF(c, struct template_read, call);
	const struct template_question q = {
		.caller = c->c.caller,
		.key = buf_str(&r->key),
		.target = str_of(buf_data(&r->key) + r->target_at, r->key.len - r->target_at),
		.user_agent = buf_str(&r->user_agent),
		.wish = r->wish,
		.bypass = r->bypass,
	};
	struct template_answer now;

	(void)body;
	switch (template_cache_ask(c->c.templates, &q, &r->wait, &now)) {
	case TEMPLATE_NOW:
		answer(r, &now);
		return;
	case TEMPLATE_PENDING:
		return;
	case TEMPLATE_NO_MEMORY:
		call_refuse(c, 503, "out of memory");
		return;
	}
}

static const struct call_ops ops = {.on_request = on_request, .on_free = on_free};

static void read_head(struct template_read *r, const struct call_case *what)
{
	buf_reset(&r->key);
	buf_reset(&r->user_agent);
	cache_http_wish(what->head, &r->wish, &r->user_agent);
	r->wish.no_store = r->wish.no_store || what->method == METHOD_HEAD;
	/* What a body asks for besides is not known, so it is nobody else's answer. It does not go to the server. */
	r->bypass = what->head->framing == HTTP_BODY_CHUNKED ||
		    (what->head->framing == HTTP_BODY_LENGTH && what->head->content_length);
	template_cache_begin_key(&what->caller, &r->key);
	r->target_at = r->key.len;
	owner_query_target(what->target, what->rule->admin ? NULL : what->caller.user_id, &r->key);
}

int template_read_call_new(const struct call_case *what, struct call **out)
{
	struct template_read *r = spares_take(&spares);

	if (!r)
		r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	list_init(&r->wait.link);
	r->wait.flight = NULL;
	r->wait.on_answer = on_answer;
	read_head(r, what);
	*out = &r->call;
	if (call_init(&r->call, &ops, what, STR("")) == 0 && !r->key.failed && !r->user_agent.failed)
		return 0;
	on_free(&r->call);
	*out = NULL;
	return -ENOMEM;
}
