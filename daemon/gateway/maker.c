/* SPDX-License-Identifier: Apache-2.0 */
/*
 *   template (where one is named) -> verdict on the body -> count (under limits.sandboxes) -> spawn
 *
 * A template is spawned as the ordinary spawn that does the same, so that stamp, owner and limits apply to it.
 */
#include "gateway/maker.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "gateway/body.h"
#include "gateway/config.h"
#include "gateway/limiter.h"
#include "gateway/survey.h"
#include "gateway/template_cache.h"
#include "gateway/upstream.h"

enum {
	MESSAGE_MAX_BYTES = 256,
};

static void refuse(struct maker *m, unsigned status, const char *why)
{
	m->on_refused(m, status, why);
}

static void refuse_upstream(struct maker *m, unsigned status, const char *why)
{
	char text[320];

	snprintf(text, sizeof(text), "upstream %s: %s", upstream_name(m->c->caller.upstream), why);
	refuse(m, status, text);
}

/* --- the spawn ------------------------------------------------------------------------------------------------------------- */

static void on_spawned(void *arg, const struct spawn_result *r)
{
	struct maker *m = arg;

	if (r->status == 201) {
		/* Whose it is, is remembered. */
		if (m->c->rule->isolation == CONFIG_ISOLATION_OWNER)
			feed_want(&m->c->admit->feed, &m->c->caller);
		m->on_made(m, r);
		return;
	}
	m->spawn = NULL;
	if (r->status)
		m->on_answered(m, r);
	else
		refuse_upstream(m, r->fail_status, r->why);
}

static void begin_spawn(struct maker *m)
{
	struct spawn_ask ask = {
		.caller = m->c->caller,
		.credential = m->c->credential,
		.limits = m->taken ? m->c->limits : NULL,
		.lines = m->lines,
		.body = buf_str(&m->body),
		.keep = m->keep,
		.keep_ms = m->ttl_ms,
		.on_done = on_spawned,
		.arg = m,
	};
	char text[160];

	memcpy(ask.token, m->token, sizeof(ask.token));
	switch (spawn_start(m->spawns, &ask, &m->spawn)) {
	case 0:
		m->taken = false; /* the spawn gives it back */
		m->sent = true;
		buf_fini(&m->body);
		return;
	case -EBUSY:
		refuse_upstream(m, 503, "too many spawns are waiting for their turn (pool.max_waiting)");
		return;
	case -EAGAIN:
		snprintf(text, sizeof(text), "%d spawns of yours are being looked for, since their answers were lost",
			 SPAWN_WATCHED_PER_OWNER_MAX);
		refuse_upstream(m, 429, text);
		return;
	default:
		refuse(m, 503, "out of memory");
		return;
	}
}

/* --- is there room for one more? ----------------------------------------------------------------------------------------- */

static void refuse_one_more(struct maker *m)
{
	char text[256];

	snprintf(text, sizeof(text), "rule \"%s\": limits.sandboxes (%llu) is reached", m->c->rule->name,
		 (unsigned long long)m->c->rule->limits.sandboxes);
	refuse(m, 429, text);
}

static void on_counted_one(void *arg, const struct sandbox_doc *doc)
{
	struct maker *m = arg;

	(void)doc;
	m->counted++;
}

static void begin_survey(struct maker *m);

static void on_counted(void *arg, unsigned status, const char *why, struct str date)
{
	struct maker *m = arg;
	uint64_t others = limiter_owner_counts(m->c->limits).spawns - 1;

	(void)date;
	m->survey = NULL;
	if (status) {
		refuse_upstream(m, status, why);
	} else if (m->counted + m->others < m->c->rule->limits.sandboxes) {
		begin_spawn(m);
	} else if (others < m->others) {
		/* Some of them have ended meanwhile, and may have been counted twice. */
		m->others = others;
		begin_survey(m);
	} else {
		limiter_note_refused(m->c->limits, LIMITER_SANDBOXES);
		refuse_one_more(m);
	}
}

static const struct survey_events count_events = {.on_sandbox = on_counted_one, .on_done = on_counted};

static void begin_survey(struct maker *m)
{
	m->counted = 0;
	if (survey_start(m->c->loop, &m->c->caller, &count_events, m, &m->survey))
		refuse(m, 503, "out of memory");
}

/* The body is as it will be sent. */
static void begin_count(struct maker *m)
{
	const struct config_limits *limits = &m->c->rule->limits;
	struct limiter_refusal why;

	/* Those that are under way now may or may not be in the list: counted twice they are too many, never too few. */
	m->others = limiter_owner_counts(m->c->limits).spawns;
	m->taken = limiter_spawn_take(m->c->limits, limits, 0, &why);
	if (!m->taken)
		refuse_one_more(m);
	else if (limits->sandboxes == 0)
		begin_spawn(m);
	else
		begin_survey(m);
}

/* --- the body --------------------------------------------------------------------------------------------------------------- */

static struct body_policy policy_of(const struct maker *m)
{
	return (struct body_policy){
		.owner = m->c->caller.user_id,
		.token = m->token,
		.stamp = true,
		.lease_ttl_ms = m->lease_ttl_ms,
		.limits = &m->c->rule->limits,
		.spawn_defaults = m->c->rule->spawn_defaults,
	};
}

static void use_verdict(struct maker *m, struct buf *out, const struct body_verdict *v)
{
	m->clamped = v->clamped;
	m->ttl_ms = v->ttl_ms;
	if (v->status || out->failed) {
		refuse(m, v->status ? v->status : 503, v->status ? v->why : "out of memory");
		buf_fini(out);
		return;
	}
	buf_fini(&m->body);
	m->body = *out;
	begin_count(m);
}

static void judge(struct maker *m, struct str body)
{
	const struct body_policy policy = policy_of(m);
	struct body_verdict verdict = {0};
	struct buf out = BUF_EMPTY;

	body_judge(BODY_SPAWN, &policy, body, &out, &verdict);
	use_verdict(m, &out, &verdict);
}

/* The message of an error of the API's shape, or what stands for one. */
static void refuse_as_answered(struct maker *m, const struct template_answer *a)
{
	json_t *error = json_loadb(a->body.n ? a->body.p : "", a->body.n, 0, NULL);
	const char *message = json_string_value(json_object_get(error, "message"));
	char text[MESSAGE_MAX_BYTES + 1];

	snprintf(text, sizeof(text), "%s", message ? message : "the template could not be read");
	json_decref(error);
	refuse(m, a->status >= 400 ? a->status : 502, text);
}

static void on_template(void *arg, const struct template_answer *a)
{
	struct maker *m = arg;
	const struct body_policy policy = policy_of(m);
	struct body_verdict verdict = {0};
	struct buf out = BUF_EMPTY;

	m->template = NULL;
	if (a->why) {
		refuse_upstream(m, a->status, a->why);
		return;
	}
	if (a->status != 200) {
		refuse_as_answered(m, a);
		return;
	}
	body_from_template(&policy, a->body, buf_str(&m->body), &out, &verdict);
	use_verdict(m, &out, &verdict);
}

static void begin_template(struct maker *m, struct str name, struct str overrides)
{
	buf_add_str(&m->body, overrides);
	if (m->body.failed || template_get(m->c->templates, &m->c->caller, name, on_template, m, &m->template))
		refuse(m, 503, "out of memory");
}

/* --- life ---------------------------------------------------------------------------------------------------------------------- */

void maker_init(struct maker *m, struct spawn_shared *spawns, const struct call_case *c)
{
	memset(m, 0, sizeof(*m));
	m->spawns = spawns;
	m->c = c;
	spawn_token_make(m->token);
}

void maker_start(struct maker *m, const struct maker_ask *ask)
{
	m->lease_ttl_ms = ask->lease_ttl_ms;
	m->keep = ask->keep;
	m->lines = ask->lines;
	if (ask->template.n)
		begin_template(m, ask->template, ask->body);
	else
		judge(m, ask->body);
}

void maker_cancel(struct maker *m)
{
	struct spawn *spawn = m->spawn;

	m->spawn = NULL;
	template_get_cancel(m->template);
	m->template = NULL;
	survey_cancel(m->survey);
	m->survey = NULL;
	buf_fini(&m->body);
	if (m->taken)
		limiter_spawn_give(m->c->limits, clock_ns());
	m->taken = false;
	if (spawn)
		spawn_leave(spawn);
}

void maker_taken(struct maker *m)
{
	struct spawn *spawn = m->spawn;

	m->spawn = NULL;
	if (spawn)
		spawn_taken(spawn);
}
