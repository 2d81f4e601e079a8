/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One timer tells when to try, and, while a try is under way, when to lose patience with it. What is answered with 429, 5xx or not at
 * all is tried again after a pause that grows from EXTEND_FIRST_PAUSE_MS, so that a ttl of three periods outlives a server that
 * stumbles. An extend may be repeated: it says how long from now.
 */
#include "gateway/extend.h"

#include <errno.h>
#include <stdio.h>

#include "common/clock.h"
#include "common/loop.h"
#include "gateway/ownership.h"
#include "gateway/sandbox_doc.h"

enum {
	BODY_MAX_BYTES = 262144
};

static void set_timer(struct extend *e, uint64_t ms)
{
	struct timeval tv = clock_span(ms);

	event_add(e->timer, &tv);
}

struct str extend_body(char out[48], uint64_t ttl_ms)
{
	int n = snprintf(out, 48, "{\"ttl\":\"%llums\"}", (unsigned long long)ttl_ms);

	return str_of(out, (size_t)n);
}

static void fail(struct extend *e)
{
	set_timer(e, e->pause_ms);
	e->pause_ms = e->pause_ms * 2 > EXTEND_LONGEST_PAUSE_MS ? EXTEND_LONGEST_PAUSE_MS : e->pause_ms * 2;
	e->on_extended(e, false);
}

static bool is_refused(const struct fetch_answer *a)
{
	return a->end == FETCH_DONE && a->status / 100 == 4 && a->status != 429 && a->status != 408;
}

static void on_answer(void *arg, const struct fetch_answer *a)
{
	struct extend *e = arg;

	e->fetch = NULL;
	if (a->end == FETCH_DONE && a->status == 200) {
		e->good_until_ms = e->tried_at_ms + e->ttl_ms;
		e->pause_ms = EXTEND_FIRST_PAUSE_MS;
		set_timer(e, e->period_ms);
		e->on_extended(e, true);
	} else if (ownership_is_not_found(a)) {
		extend_stop(e);
		e->on_gone(e, false);
	} else if (is_refused(a) && clock_ms() > e->good_until_ms + EXTEND_REFUSED_MS) {
		extend_stop(e);
		e->on_gone(e, true);
	} else {
		fail(e);
	}
}

static void try(struct extend *e)
{
	char target[SANDBOX_DOC_TARGET_MAX_BYTES + 1];
	char body[48];
	const struct fetch_request request = {
		.caller = *e->caller,
		.method = "POST",
		.target = sandbox_doc_target(target, e->id, "/extend"),
		.body = extend_body(body, e->ttl_ms),
		.max_bytes = BODY_MAX_BYTES,
		.urgent = true,
		.on_done = on_answer,
		.arg = e,
	};

	e->tried_at_ms = clock_ms();
	if (fetch_start(e->loop, &request, &e->fetch))
		fail(e);
	else
		set_timer(e, EXTEND_PATIENCE_MS);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct extend *e = arg;

	(void)fd;
	(void)what;
	if (!e->fetch) {
		try(e);
		return;
	}
	fetch_cancel(e->fetch);
	e->fetch = NULL;
	fail(e);
}

int extend_init(struct extend *e, struct loop *loop)
{
	*e = (struct extend){.loop = loop, .pause_ms = EXTEND_FIRST_PAUSE_MS};
	e->timer = evtimer_new(loop_base(loop), on_timer, e);
	return e->timer ? 0 : -ENOMEM;
}

void extend_fini(struct extend *e)
{
	fetch_cancel(e->fetch);
	e->fetch = NULL;
	if (e->timer)
		event_free(e->timer);
	e->timer = NULL;
}

void extend_start(struct extend *e)
{
	extend_stop(e);
	e->good_until_ms = clock_ms() + e->ttl_ms;
	set_timer(e, e->period_ms);
}

void extend_start_now(struct extend *e)
{
	extend_stop(e);
	e->good_until_ms = clock_ms() + e->ttl_ms;
	set_timer(e, 0);
}

void extend_hurry(struct extend *e)
{
	if (!e->fetch && event_pending(e->timer, EV_TIMEOUT, NULL) && e->period_ms > EXTEND_HURRY_MS)
		set_timer(e, EXTEND_HURRY_MS);
}

void extend_stop(struct extend *e)
{
	fetch_cancel(e->fetch);
	e->fetch = NULL;
	event_del(e->timer);
	e->pause_ms = EXTEND_FIRST_PAUSE_MS;
}
