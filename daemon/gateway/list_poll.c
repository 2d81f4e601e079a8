/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/list_poll.h"

#include <event2/event.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/loop.h"
#include "gateway/elements.h"

enum {
	MEMORY_PAUSE_MS = 1000, /* before another try when there was no memory */
	NO_END_MS = 86400000,   /* when nothing is to be read: a timer that is set can be set anew without memory */
};

struct list_poll {
	struct loop *loop;          /* borrowed */
	struct fetch_caller caller; /* texts owned, references held */
	struct fetch *fetch;        /* owned; NULL between two rounds */
	struct elements elements;
	bool bad;                              /* this round's text is no list */
	bool again;                            /* hurried while a round was under way */
	bool *freed;                           /* set when it is freed within on_round; NULL outside */
	struct event *pause;                   /* owned; always set */
	bool waits;                            /* its end begins a round */
	const struct list_poll_events *events; /* borrowed */
	void *arg;
};

static void begin_round(struct list_poll *p);

static int wait_for(struct list_poll *p, uint64_t ms)
{
	struct timeval tv = clock_span(ms);

	p->waits = ms != NO_END_MS;
	return event_add(p->pause, &tv);
}

static void end_round(struct list_poll *p, bool complete)
{
	bool freed = false;
	uint64_t ms;

	elements_fini(&p->elements);
	p->freed = &freed;
	ms = p->events->on_round(p->arg, complete);
	if (freed)
		return;
	p->freed = NULL;
	if (p->again)
		begin_round(p);
	else
		wait_for(p, ms ? ms : NO_END_MS);
}

static void on_element(void *arg, struct str element)
{
	struct list_poll *p = arg;
	struct sandbox_doc doc;

	if (sandbox_doc_parse(element, &doc) == 0)
		p->events->on_sandbox(p->arg, &doc, element);
}

static void on_data(void *arg, const char *bytes, size_t n)
{
	struct list_poll *p = arg;

	if (!p->bad && elements_feed(&p->elements, str_of(bytes, n)))
		p->bad = true;
}

static void on_done(void *arg, const struct fetch_answer *a)
{
	struct list_poll *p = arg;

	p->fetch = NULL;
	end_round(p, a->end == FETCH_DONE && a->status == 200 && !p->bad && elements_end(&p->elements) == 0);
}

static void begin_round(struct list_poll *p)
{
	const struct fetch_request request = {
		.caller = p->caller,
		.method = "GET",
		.target = STR("/api/v1/sandboxes"),
		.on_data = on_data,
		.on_done = on_done,
		.arg = p,
	};

	p->again = false;
	p->bad = false;
	wait_for(p, NO_END_MS);
	elements_init(&p->elements, on_element, p);
	if (fetch_start(p->loop, &request, &p->fetch)) {
		elements_fini(&p->elements);
		wait_for(p, MEMORY_PAUSE_MS);
	}
}

static void on_pause_over(evutil_socket_t fd, short what, void *arg)
{
	struct list_poll *p = arg;

	(void)fd;
	(void)what;
	if (p->waits)
		begin_round(p);
	else
		wait_for(p, NO_END_MS);
}

void list_poll_hurry(struct list_poll *p)
{
	if (p->fetch || p->freed)
		p->again = true;
	else
		begin_round(p);
}

const struct fetch_caller *list_poll_caller(const struct list_poll *p)
{
	return &p->caller;
}

struct list_poll *list_poll_new(struct loop *loop, const struct fetch_caller *caller,
				const struct list_poll_events *events, void *arg)
{
	struct list_poll *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->loop = loop;
	p->events = events;
	p->arg = arg;
	p->pause = evtimer_new(loop_base(loop), on_pause_over, p);
	if (fetch_caller_copy(&p->caller, caller) == 0 && p->pause && wait_for(p, NO_END_MS) == 0)
		return p;
	list_poll_free(p);
	return NULL;
}

void list_poll_free(struct list_poll *p)
{
	if (!p)
		return;
	if (p->freed)
		*p->freed = true;
	if (p->fetch) {
		fetch_cancel(p->fetch);
		elements_fini(&p->elements);
	}
	if (p->pause)
		event_free(p->pause);
	fetch_caller_fini(&p->caller);
	free(p);
}
