/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The list says which may have expired; each of them is looked at once more before it is destroyed, since it may have been
 * extended meanwhile. What has expired is judged by the server's own clock, the Date of the answer that shows it. One that
 * cannot be read or destroyed is left: the server's reaper or the next prune takes it.
 */
#include "gateway/prune.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/fetch.h"
#include "gateway/sandbox_doc.h"
#include "gateway/survey.h"
#include "gateway/times.h"

enum {
	RECORD_MAX_BYTES = 262144,
	CANDIDATES_MAX = 10000, /* at one time; the next prune finds the others */
};

struct candidate {
	int64_t expires_at_ms;
	char id[SANDBOX_DOC_ID_MAX_BYTES + 1];
};

struct prune {
	struct call call;
	struct survey *survey;        /* owned; NULL once it is done */
	struct fetch *fetch;          /* owned; NULL between two */
	struct candidate *candidates; /* owned */
	size_t count;
	size_t room;
	size_t next; /* of the candidates */
	size_t destroyed;
};

static void on_free(struct call *c)
{
	struct prune *p = CONTAINER_OF(c, struct prune, call);

	call_fini(c);
	survey_cancel(p->survey);
	fetch_cancel(p->fetch);
	free(p->candidates);
	free(p);
}

static void finish(struct prune *p)
{
	struct buf json = BUF_EMPTY;

	buf_addf(&json, "{\"pruned\":%zu}", p->destroyed);
	call_json(&p->call, 200, NULL, &json);
}

/* --- one after another ------------------------------------------------------------------------------------------------- */

static void look_at_next(struct prune *p);

static int ask(struct prune *p, const char *method, void (*on_answer)(void *arg, const struct fetch_answer *a))
{
	char target[SANDBOX_DOC_TARGET_MAX_BYTES + 1];
	const struct fetch_request request = {
		.caller = p->call.c.caller,
		.method = method,
		.target = sandbox_doc_target(target, p->candidates[p->next].id, ""),
		.max_bytes = RECORD_MAX_BYTES,
		.on_done = on_answer,
		.arg = p,
	};

	return fetch_start(p->call.c.loop, &request, &p->fetch);
}

static void on_destroyed(void *arg, const struct fetch_answer *a)
{
	struct prune *p = arg;

	p->fetch = NULL;
	if (a->end == FETCH_DONE && a->status == 200) {
		ownership_gone(&p->call.c.admit->ownership, p->call.c.caller.upstream,
			       str_from(p->candidates[p->next].id));
		p->destroyed++;
	}
	p->next++;
	look_at_next(p);
}

/* Whether that answer shows a sandbox of the asker's that has expired. */
static bool has_expired(const struct prune *p, const struct fetch_answer *a)
{
	struct sandbox_doc doc;
	int64_t now;

	return a->end == FETCH_DONE && a->status == 200 && sandbox_doc_parse(a->body, &doc) == 0 &&
	       strcmp(doc.id, p->candidates[p->next].id) == 0 && sandbox_doc_is_owned(&doc, p->call.c.caller.user_id) &&
	       doc.has_expiry && http_date_parse(a->date, &now) == 0 && doc.expires_at_ms < now;
}

static void on_looked(void *arg, const struct fetch_answer *a)
{
	struct prune *p = arg;
	bool expired = has_expired(p, a);

	p->fetch = NULL;
	if (expired && ask(p, "DELETE", on_destroyed) == 0)
		return;
	p->next++;
	look_at_next(p);
}

static void look_at_next(struct prune *p)
{
	if (p->next == p->count)
		finish(p);
	else if (ask(p, "GET", on_looked))
		call_refuse(&p->call, 503, "out of memory");
}

/* --- the list ---------------------------------------------------------------------------------------------------------- */

static void on_sandbox(void *arg, const struct sandbox_doc *doc)
{
	struct prune *p = arg;

	if (!doc->has_expiry || p->count == CANDIDATES_MAX)
		return;
	if (p->count == p->room) {
		size_t room = p->room ? p->room * 2 : 16;
		struct candidate *more = reallocarray(p->candidates, room, sizeof(*more));
		if (!more)
			return;
		p->candidates = more;
		p->room = room;
	}
	p->candidates[p->count].expires_at_ms = doc->expires_at_ms;
	memcpy(p->candidates[p->count++].id, doc->id, sizeof(doc->id));
}

static void on_listed(void *arg, unsigned status, const char *why, struct str date)
{
	struct prune *p = arg;
	size_t expired = 0;
	int64_t now;

	p->survey = NULL;
	if (status == 0 && http_date_parse(date, &now)) {
		status = 502;
		why = "did not say by its Date what has expired";
	}
	if (status) {
		call_refuse_upstream(&p->call, status, why);
		return;
	}
	for (size_t i = 0; i < p->count; i++)
		if (p->candidates[i].expires_at_ms < now)
			p->candidates[expired++] = p->candidates[i];
	p->count = expired;
	look_at_next(p);
}

static const struct survey_events survey_events = {.on_sandbox = on_sandbox, .on_done = on_listed};

static void on_request(struct call *c, struct str body)
{
	struct prune *p = CONTAINER_OF(c, struct prune, call);

	(void)body;
	if (survey_start(c->c.loop, &c->c.caller, &survey_events, p, &p->survey))
		call_refuse(c, 503, "out of memory");
	else
		c->acted = true;
}

static const struct call_ops ops = {.on_request = on_request, .on_free = on_free};

int prune_call_new(const struct call_case *what, struct call **out)
{
	struct prune *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	*out = &p->call;
	if (call_init(&p->call, &ops, what, STR("")) == 0)
		return 0;
	on_free(&p->call);
	*out = NULL;
	return -ENOMEM;
}
