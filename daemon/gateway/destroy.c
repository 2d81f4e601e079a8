/* SPDX-License-Identifier: Apache-2.0 */
/* One DELETE after another, with pauses that grow, until the server says 2xx or 404. */
#include "gateway/destroy.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/loop.h"
#include "gateway/keyring.h"
#include "gateway/sandbox_doc.h"

enum {
	FIRST_PAUSE_MS = 250,
	LONGEST_PAUSE_MS = 10000,
	NO_END_MS = 86400000, /* while a try is under way: a timer that is set can be set anew without memory */
	BODY_MAX_BYTES = 65536,
};

struct destroy {
	struct loop *loop;          /* borrowed */
	struct fetch_caller caller; /* texts owned, references held */
	struct fetch *fetch;        /* owned; NULL between two tries */
	struct event *pause;        /* owned */
	uint64_t pause_ms;          /* before the next try */
	uint64_t give_up_at_ms;     /* clock_ms() */
	bool tried;
	char id[SANDBOX_DOC_ID_MAX_BYTES + 1];
	void (*on_done)(void *arg, bool gone, const char *why);
	void *arg;
};

static void destroy_free(struct destroy *d)
{
	fetch_cancel(d->fetch);
	if (d->pause)
		event_free(d->pause);
	fetch_caller_fini(&d->caller);
	free(d);
}

void destroy_cancel(struct destroy *d)
{
	if (d)
		destroy_free(d);
}

static void finish(struct destroy *d, bool gone, const char *why)
{
	d->on_done(d->arg, gone, why);
	destroy_free(d);
}

static int set_pause(struct destroy *d, uint64_t ms)
{
	struct timeval tv = clock_span(ms);

	return event_add(d->pause, &tv);
}

static void pause(struct destroy *d)
{
	set_pause(d, d->pause_ms);
	d->pause_ms = d->pause_ms * 2 > LONGEST_PAUSE_MS ? LONGEST_PAUSE_MS : d->pause_ms * 2;
}

static void on_deleted(void *arg, const struct fetch_answer *a)
{
	struct destroy *d = arg;
	char why[64];

	d->fetch = NULL;
	if (a->end == FETCH_DONE && (a->status / 100 == 2 || a->status == 404)) {
		finish(d, true, "");
		return;
	}
	if (clock_ms() < d->give_up_at_ms) {
		pause(d);
		return;
	}
	snprintf(why, sizeof(why), "the server answered %u", a->status);
	finish(d, false, a->end == FETCH_DONE ? why : a->why);
}

static int try(struct destroy *d)
{
	char target[SANDBOX_DOC_TARGET_MAX_BYTES + 1];
	const struct fetch_request request = {
		.caller = d->caller,
		.method = "DELETE",
		.target = sandbox_doc_target(target, d->id, ""),
		.max_bytes = BODY_MAX_BYTES,
		.fresh = d->tried,
		.on_done = on_deleted,
		.arg = d,
	};

	d->tried = true;
	return fetch_start(d->loop, &request, &d->fetch);
}

static void on_pause_over(evutil_socket_t fd, short what, void *arg)
{
	struct destroy *d = arg;

	(void)fd;
	(void)what;
	set_pause(d, NO_END_MS);
	if (!d->fetch && try(d))
		pause(d);
}

int destroy_start(struct loop *loop, const struct destroy_case *c, struct destroy **out)
{
	struct destroy *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	d->loop = loop;
	d->on_done = c->on_done;
	d->arg = c->arg;
	d->pause_ms = FIRST_PAUSE_MS;
	d->give_up_at_ms = clock_ms() + c->span_ms;
	memcpy(d->id, c->id, strlen(c->id) + 1);
	d->pause = evtimer_new(loop_base(loop), on_pause_over, d);
	if (fetch_caller_copy(&d->caller, &c->caller) || !d->pause || set_pause(d, NO_END_MS) || try(d)) {
		destroy_free(d);
		return -ENOMEM;
	}
	*out = d;
	return 0;
}
