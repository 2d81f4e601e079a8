/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events wait in a queue while the client takes nothing more, and so that none overtakes one whose owner is being looked up. A
 * stream whose queue is full is cut: the client sees that it has lost something.
 *
 * An event of a sandbox that nobody knows costs one look-up and is dropped; one that names no sandbox is dropped unless its data
 * names the caller as owner.
 */
#include "gateway/feed_call.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "gateway/config.h"
#include "gateway/feed.h"
#include "gateway/sandbox_doc.h"

enum {
	QUEUE_MAX = 64,
	QUEUE_MAX_BYTES = 262144, /* of more than one event */
};

struct feed_call {
	struct call call;
	struct feed_reader reader;
	struct feed_event *queue[QUEUE_MAX]; /* owned references; a ring */
	size_t first;                        /* in the ring */
	size_t count;
	size_t bytes; /* of the events in it */
	bool slow;    /* the client takes nothing more until on_drained */
	struct ownership_wait wait;
	bool waiting; /* whose the first one in the queue is, is being asked */
	bool asked;   /* and was answered: */
	bool own;     /* it is his */
};

/* --- the queue ----------------------------------------------------------------------------------------------------------- */

enum judgement {
	EVENT_PASSES,
	EVENT_DROPPED,
	EVENT_WAITS,
	EVENT_NO_MEMORY,
};

static enum judgement ask_owner(struct feed_call *f, struct str id)
{
	if (!sandbox_doc_id_is_good(id))
		return EVENT_DROPPED;
	if (ownership_ask(&f->call.c.admit->ownership, &f->call.c.caller, id, &f->wait))
		return EVENT_NO_MEMORY;
	f->waiting = true;
	return EVENT_WAITS;
}

/* The first one in the queue. */
static enum judgement judge(struct feed_call *f, const struct feed_event *e)
{
	const struct call_case *c = &f->call.c;
	struct str id = str_from(e->doc.sandbox_id);

	if (e->comment || c->rule->isolation != CONFIG_ISOLATION_OWNER)
		return EVENT_PASSES;
	if (id.n == 0)
		return e->doc.owner_id[0] && strcmp(e->doc.owner_id, c->caller.user_id) == 0 ? EVENT_PASSES
											     : EVENT_DROPPED;
	if (f->asked)
		return f->own ? EVENT_PASSES : EVENT_DROPPED;
	switch (ownership_known(&c->admit->ownership, &c->caller, id)) {
	case OWNER_SAME:
	case OWNER_GONE:
		return EVENT_PASSES;
	case OWNER_OTHER:
		return EVENT_DROPPED;
	case OWNER_UNKNOWN:
		return ask_owner(f, id);
	}
	return EVENT_DROPPED;
}

static void drop_first(struct feed_call *f)
{
	struct feed_event *e = f->queue[f->first];

	f->first = (f->first + 1) % QUEUE_MAX;
	f->count--;
	f->bytes -= e->n;
	f->asked = false;
	feed_event_unref(e);
}

/* Sends what may be sent. The call may be gone afterwards. */
static void pump(struct feed_call *f)
{
	while (f->count && !f->waiting && !f->slow) {
		const struct feed_event *e = f->queue[f->first];
		switch (judge(f, e)) {
		case EVENT_PASSES:
			f->slow = !call_stream_send(&f->call, str_of(e->raw, e->n));
			break;
		case EVENT_DROPPED:
			feed_counts_of(&f->reader)->dropped++;
			break;
		case EVENT_WAITS:
			return;
		case EVENT_NO_MEMORY:
			call_stream_cut(&f->call);
			return;
		}
		drop_first(f);
	}
}

static void on_known(struct ownership_wait *w, enum owner_answer answer, unsigned status, const char *why)
{
	struct feed_call *f = CONTAINER_OF(w, struct feed_call, wait);

	(void)status;
	(void)why;
	f->waiting = false;
	f->asked = true;
	f->own = answer == OWNER_SAME;
	pump(f);
}

static void on_event(struct feed_reader *r, struct feed_event *e)
{
	struct feed_call *f = CONTAINER_OF(r, struct feed_call, reader);

	if (f->count == QUEUE_MAX || (f->count && f->bytes + e->n > QUEUE_MAX_BYTES)) {
		feed_counts_of(r)->overflowed++;
		call_stream_cut(&f->call);
		return;
	}
	f->queue[(f->first + f->count++) % QUEUE_MAX] = feed_event_ref(e);
	f->bytes += e->n;
	pump(f);
}

/* --- the stream ---------------------------------------------------------------------------------------------------------- */

static void begin(struct feed_call *f)
{
	/* Without memory the call is gone afterwards. */
	if (!call_stream_begin(&f->call, "text/event-stream", NULL))
		log_debug("a stream of events could not be begun: out of memory");
}

static void on_begun(struct feed_reader *r)
{
	begin(CONTAINER_OF(r, struct feed_call, reader));
}

static void on_refused(struct feed_reader *r, const struct fetch_answer *a)
{
	struct feed_call *f = CONTAINER_OF(r, struct feed_call, reader);

	if (a->end == FETCH_DONE)
		call_relay(&f->call, a, NULL);
	else
		call_refuse_upstream(&f->call, fetch_end_status(a->end), a->why);
}

static void on_lost(struct feed_reader *r)
{
	call_stream_cut(&CONTAINER_OF(r, struct feed_call, reader)->call);
}

static void on_request(struct call *c, struct str body)
{
	struct feed_call *f = CONTAINER_OF(c, struct feed_call, call);

	(void)body;
	switch (feed_join(&c->c.admit->feed, &c->c.caller, &f->reader)) {
	case FEED_BEGUN:
		begin(f);
		return;
	case FEED_WAITS:
		return;
	case FEED_FAILED:
		call_refuse(c, 503, "out of memory");
		return;
	}
}

static void on_drained(struct call *c)
{
	struct feed_call *f = CONTAINER_OF(c, struct feed_call, call);

	f->slow = false;
	pump(f);
}

static void on_free(struct call *c)
{
	struct feed_call *f = CONTAINER_OF(c, struct feed_call, call);

	call_fini(c);
	feed_leave(&f->reader);
	ownership_cancel(&f->wait);
	while (f->count)
		drop_first(f);
	free(f);
}

static const struct call_ops ops = {
	.on_request = on_request, .on_drained = on_drained, .on_free = on_free, .endless = true};

int feed_call_new(const struct call_case *what, struct call **out)
{
	struct feed_call *f = calloc(1, sizeof(*f));
	int rc;

	if (!f)
		return -ENOMEM;
	f->reader.on_begun = on_begun;
	f->reader.on_refused = on_refused;
	f->reader.on_event = on_event;
	f->reader.on_lost = on_lost;
	list_init(&f->reader.link);
	list_init(&f->wait.link);
	f->wait.on_known = on_known;
	rc = call_init(&f->call, &ops, what, STR(""));
	if (rc) {
		on_free(&f->call);
		return rc;
	}
	*out = &f->call;
	return 0;
}
