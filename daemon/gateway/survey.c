/* SPDX-License-Identifier: Apache-2.0 */
/* Only a list that ended cleanly is complete: one that broke off might lack any of them. */
#include "gateway/survey.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/elements.h"
#include "gateway/fetch.h"

struct survey {
	struct fetch *fetch; /* owned; NULL once it is done */
	struct elements elements;
	int fault; /* of the list's text */
	char owner[SANDBOX_DOC_OWNER_MAX_BYTES + 1];
	const struct survey_events *events; /* borrowed */
	void *arg;
};

static void survey_free(struct survey *s)
{
	elements_fini(&s->elements);
	free(s);
}

static void on_element(void *arg, struct str element)
{
	struct survey *s = arg;
	struct sandbox_doc doc;

	if (sandbox_doc_parse(element, &doc) == 0 && sandbox_doc_is_owned(&doc, s->owner))
		s->events->on_sandbox(s->arg, &doc);
}

static void on_data(void *arg, const char *p, size_t n)
{
	struct survey *s = arg;

	if (s->fault == 0)
		s->fault = elements_feed(&s->elements, str_of(p, n));
}

static void on_done(void *arg, const struct fetch_answer *a)
{
	struct survey *s = arg;
	unsigned status = fetch_end_status(a->end);
	const char *why = a->why;

	s->fetch = NULL;
	if (a->end == FETCH_DONE && a->status != 200) {
		status = a->status == 429 || a->status == 503 ? 503 : 502;
		why = "did not list its sandboxes";
	} else if (a->end == FETCH_DONE && (s->fault || elements_end(&s->elements))) {
		status = 502;
		why = "listed its sandboxes in a form that cannot be read";
	}
	s->events->on_done(s->arg, status, why, a->date);
	survey_free(s);
}

int survey_start(struct loop *loop, const struct fetch_caller *asker, const struct survey_events *events, void *arg,
		 struct survey **out)
{
	struct survey *s = calloc(1, sizeof(*s));
	const struct fetch_request request = {
		.caller = *asker,
		.method = "GET",
		.target = STR("/api/v1/sandboxes"),
		.on_data = on_data,
		.on_done = on_done,
		.arg = s,
	};
	size_t n = strlen(asker->user_id);

	if (!s)
		return -ENOMEM;
	elements_init(&s->elements, on_element, s);
	s->events = events;
	s->arg = arg;
	if (n < sizeof(s->owner))
		memcpy(s->owner, asker->user_id, n + 1);
	if (fetch_start(loop, &request, &s->fetch)) {
		survey_free(s);
		return -ENOMEM;
	}
	*out = s;
	return 0;
}

void survey_cancel(struct survey *s)
{
	if (!s)
		return;
	fetch_cancel(s->fetch);
	survey_free(s);
}
