/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events wait in a queue, so that none overtakes one whose owner is being looked up; nothing is read meanwhile, which
 * bounds the queue by what one read brings. An event of a sandbox that nobody knows costs one look-up and is dropped;
 * one that names no sandbox is dropped unless its data names the caller as owner.
 */
#include "gateway/event_filter.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/event_doc.h"
#include "gateway/sandbox_doc.h"
#include "gateway/sse.h"

struct queued {
	struct list link; /* on event_filter.queue */
	struct event_doc doc;
	bool comment;
	bool asked; /* its owner was looked up: `own` says what came of it */
	bool own;
	size_t n;
	char raw[];
};

struct event_filter {
	struct ownership *ownership;
	struct fetch_caller asker;
	struct exchange *exchange;
	struct sse sse;
	struct list queue; /* struct queued */
	struct ownership_wait wait;
	bool waiting;
	bool no_memory;
};

static void on_known(struct ownership_wait *w, enum owner_answer answer, unsigned status, const char *why)
{
	struct event_filter *f = CONTAINER_OF(w, struct event_filter, wait);
	struct queued *q = LIST_FIRST(&f->queue, struct queued, link);

	(void)status;
	(void)why;
	f->waiting = false;
	q->asked = true;
	q->own = answer == OWNER_SAME;
	exchange_resume(f->exchange);
}

static void on_event(void *arg, const struct sse_event *event)
{
	struct event_filter *f = arg;
	struct queued *q = calloc(1, sizeof(*q) + event->raw.n);

	if (!q) {
		f->no_memory = true;
		return;
	}
	list_init(&q->link);
	q->n = event->raw.n;
	memcpy(q->raw, event->raw.p, event->raw.n);
	/* A comment or a blank line is nobody's, and passes; what is no event of the server's passes to nobody. */
	q->comment = !event->has_data;
	if (q->comment || event_doc_parse(event->data, &q->doc))
		memset(&q->doc, 0, sizeof(q->doc));
	list_add_tail(&f->queue, &q->link);
}

struct event_filter *event_filter_new(struct ownership *ownership, const struct fetch_caller *asker,
				      struct exchange *exchange)
{
	struct event_filter *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->ownership = ownership;
	f->asker = *asker;
	f->exchange = exchange;
	sse_init(&f->sse, on_event, f);
	list_init(&f->queue);
	list_init(&f->wait.link);
	f->wait.on_known = on_known;
	return f;
}

static void drop_first(struct event_filter *f)
{
	struct queued *q = LIST_FIRST(&f->queue, struct queued, link);

	list_remove(&q->link);
	free(q);
}

void event_filter_free(struct event_filter *f)
{
	if (!f)
		return;
	ownership_cancel(&f->wait);
	while (!list_empty(&f->queue))
		drop_first(f);
	sse_fini(&f->sse);
	free(f);
}

/* Whether the event is the caller's; false with f->waiting when that is being asked. */
static bool is_own(struct event_filter *f, const struct queued *q)
{
	struct str id = str_from(q->doc.sandbox_id);

	if (q->comment)
		return true;
	if (id.n == 0)
		return q->doc.owner_id[0] && strcmp(q->doc.owner_id, f->asker.user_id) == 0;
	if (q->asked)
		return q->own;
	switch (ownership_known(f->ownership, &f->asker, id)) {
	case OWNER_SAME:
	case OWNER_GONE:
		return true;
	case OWNER_OTHER:
		return false;
	case OWNER_UNKNOWN:
		if (!sandbox_doc_id_is_good(id))
			return false;
		f->no_memory = ownership_ask(f->ownership, &f->asker, id, &f->wait) != 0;
		f->waiting = !f->no_memory;
		return false;
	}
	return false;
}

enum exchange_filtered event_filter_feed(struct event_filter *f, struct str data, struct buf *out, uint64_t *dropped)
{
	if (sse_feed(&f->sse, data) || f->no_memory)
		return EXCHANGE_FILTER_BAD;
	while (!f->waiting && !f->no_memory && !list_empty(&f->queue)) {
		struct queued *q = LIST_FIRST(&f->queue, struct queued, link);
		bool own = is_own(f, q);
		if (f->waiting || f->no_memory)
			break;
		if (own)
			buf_add(out, q->raw, q->n);
		else
			++*dropped;
		drop_first(f);
	}
	if (f->no_memory)
		return EXCHANGE_FILTER_BAD;
	return f->waiting ? EXCHANGE_FILTER_HOLD : EXCHANGE_FILTER_MORE;
}
