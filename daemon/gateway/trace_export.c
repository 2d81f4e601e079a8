/* SPDX-License-Identifier: Apache-2.0 */
/*
 *   IDLE --> GATHERING --> SENDING <--> RESTING
 *    ^           |  ^       |   |          |
 *    |           |  +-------+   |          |
 *    +-----------+--------------+----------+
 *
 * IDLE       no span waits
 * GATHERING  some wait for more, for a moment
 * SENDING    the first of them are on their way; they wait until they are known to have arrived
 * RESTING    the last try failed in a way that the next one may not (OTLP: 429, 502, 503, 504, or no answer)
 *
 * Nobody waits for any of this. When too many spans wait the new ones are dropped; what could not be delivered in several tries is
 * dropped too, since who looks at a collector that is back wants to know of now.
 */
#include "gateway/trace_export.h"

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/http_parse.h"
#include "common/list.h"
#include "common/log.h"
#include "common/loop.h"
#include "gateway/config.h"
#include "gateway/fetch.h"
#include "gateway/snapshot.h"
#include "gateway/times.h"
#include "gateway/trace_json.h"
#include "gateway/upstream.h"

enum {
	WAITING_MAX = 2048,
	BATCH_MAX = 512,
	GATHER_MS = 1000,
	ANSWER_MS = 10000, /* for a whole try */
	ANSWER_MAX_BYTES = 65536,
	REST_MIN_MS = 1000,
	REST_MAX_MS = 32000,
	RETRY_AFTER_MAX_MS = 300000,
	TRIES_MAX = 6,
};

enum export_state {
	EXPORT_IDLE,
	EXPORT_GATHERING,
	EXPORT_SENDING,
	EXPORT_RESTING,
	EXPORT_STATES,
};

static const char *const state_names[EXPORT_STATES] = {"idle", "gathering", "sending", "resting"};

static const uint32_t state_edges[EXPORT_STATES] = {
	[EXPORT_IDLE] = SM_TO(EXPORT_GATHERING),
	[EXPORT_GATHERING] = SM_TO(EXPORT_SENDING) | SM_TO(EXPORT_IDLE),
	[EXPORT_SENDING] = SM_TO(EXPORT_IDLE) | SM_TO(EXPORT_GATHERING) | SM_TO(EXPORT_RESTING),
	[EXPORT_RESTING] = SM_TO(EXPORT_SENDING) | SM_TO(EXPORT_IDLE),
};

static const struct sm sm = {"trace_export", state_names, state_edges, EXPORT_STATES};

static const char *const result_texts[TRACE_EXPORT_RESULTS] = {
	[TRACE_EXPORT_EXPORTED] = "exported",
	[TRACE_EXPORT_REJECTED] = "rejected",
	[TRACE_EXPORT_UNDELIVERED] = "undelivered",
	[TRACE_EXPORT_OVERFLOWED] = "overflowed",
};

/* A span that waits. */
struct waiting {
	struct list link; /* on trace_export.spans */
	size_t n;
	char text[]; /* n bytes of JSON */
};

struct trace_export {
	struct loop *loop;         /* borrowed */
	struct snapshot *snapshot; /* owned reference; NULL before the first */
	enum export_state state;
	struct event *timer;            /* owned; of the state */
	struct list spans;              /* the first `sending` of them are on their way */
	size_t nspans;                  /* at most WAITING_MAX */
	size_t sending;                 /* 0 but in SENDING */
	struct fetch *fetch;            /* in SENDING; owned until its end */
	unsigned tries;                 /* of the first spans, that failed */
	uint64_t rest_ms;               /* the next rest */
	uint64_t retry_after_ms;        /* what the last answer asked for; 0: nothing */
	bool failing;                   /* said in the log */
	struct event *patience;         /* owned; of trace_export_finish */
	void (*on_finished)(void *arg); /* NULL: it was not called */
	void *arg;
	uint64_t counts[TRACE_EXPORT_RESULTS];
};

const char *trace_export_result_text(enum trace_export_result result)
{
	return result_texts[result];
}

const struct sm *trace_export_sm(void)
{
	return &sm;
}

uint64_t trace_export_count(const struct trace_export *x, enum trace_export_result result)
{
	return x->counts[result];
}

size_t trace_export_waiting(const struct trace_export *x)
{
	return x->nspans;
}

const struct config_tracing *trace_export_settings(const struct trace_export *x)
{
	const struct config_tracing *t = x->snapshot ? &snapshot_config(x->snapshot)->tracing : NULL;

	return t && t->to.url ? t : NULL;
}

static void arm(struct event *timer, uint64_t ms)
{
	struct timeval tv = clock_span(ms);

	event_add(timer, &tv);
}

static void move(struct trace_export *x, enum export_state to)
{
	x->state = sm_move(&sm, 0, x->state, to);
	switch (to) {
	case EXPORT_IDLE:
		event_del(x->timer);
		return;
	case EXPORT_GATHERING:
		arm(x->timer, x->nspans >= BATCH_MAX ? 0 : GATHER_MS);
		return;
	case EXPORT_SENDING:
		arm(x->timer, ANSWER_MS);
		return;
	case EXPORT_RESTING:
		arm(x->timer, x->retry_after_ms ? x->retry_after_ms : clock_spread(x->rest_ms));
		return;
	case EXPORT_STATES:
		return;
	}
}

/* The first n have come to that end. */
static void settle(struct trace_export *x, size_t n, enum trace_export_result result)
{
	CHECK(n <= x->nspans);
	x->counts[result] += n;
	x->nspans -= n;
	x->sending = 0;
	x->tries = 0;
	while (n--) {
		struct waiting *w = LIST_FIRST(&x->spans, struct waiting, link);
		list_remove(&w->link);
		free(w);
	}
}

static void drop_all(struct trace_export *x)
{
	fetch_cancel(x->fetch);
	x->fetch = NULL;
	settle(x, x->nspans, TRACE_EXPORT_UNDELIVERED);
	if (x->state != EXPORT_IDLE)
		move(x, EXPORT_IDLE);
}

/* --- the end, when the daemon stops ------------------------------------------------------------------------------------------ */

static void finish(struct trace_export *x)
{
	void (*on_finished)(void *arg) = x->on_finished;

	x->on_finished = NULL;
	event_del(x->patience);
	drop_all(x);
	on_finished(x->arg);
}

static void on_patience(evutil_socket_t fd, short what, void *arg)
{
	struct trace_export *x = arg;

	(void)fd;
	(void)what;
	log_warn("tracing: %zu spans could not be delivered before the stop", x->nspans);
	finish(x);
}

/* --- what came of a try -------------------------------------------------------------------------------------------------------- */

static void say_failing(struct trace_export *x, const char *why)
{
	if (!x->failing)
		log_warn("tracing: spans cannot be delivered to %s: %s", trace_export_settings(x)->to.url, why);
	x->failing = true;
}

static void failed(struct trace_export *x, const char *why)
{
	size_t n = x->sending;

	say_failing(x, why);
	if (x->on_finished) {
		finish(x);
		return;
	}
	x->sending = 0;
	if (++x->tries == TRIES_MAX)
		settle(x, n, TRACE_EXPORT_UNDELIVERED);
	if (x->nspans == 0) {
		move(x, EXPORT_IDLE);
		return;
	}
	move(x, EXPORT_RESTING);
	x->rest_ms = x->rest_ms * 2 < REST_MAX_MS ? x->rest_ms * 2 : REST_MAX_MS;
}

static void send_spans(struct trace_export *x);

/* The collector has spoken the last word about these. */
static void settled(struct trace_export *x, enum trace_export_result result)
{
	settle(x, x->sending, result);
	x->rest_ms = REST_MIN_MS;
	if (x->nspans == 0 && x->on_finished) {
		finish(x);
		return;
	}
	move(x, x->nspans ? EXPORT_GATHERING : EXPORT_IDLE);
	if (x->on_finished)
		send_spans(x);
}

static void note_retry_after(void *arg, const struct http_head *head)
{
	const struct http_header *h = http_head_find(head, STR("retry-after"));
	struct trace_export *x = arg;
	int64_t at_ms;
	int64_t now_ms = clock_wall_ms();
	uint64_t s;

	x->retry_after_ms = 0;
	if (!h)
		return;
	if (str_parse_u64(h->value, &s) == 0)
		x->retry_after_ms = s < RETRY_AFTER_MAX_MS / 1000 ? s * 1000 : RETRY_AFTER_MAX_MS;
	else if (http_date_parse(h->value, &at_ms) == 0 && at_ms > now_ms)
		x->retry_after_ms =
			at_ms - now_ms < RETRY_AFTER_MAX_MS ? (uint64_t)(at_ms - now_ms) : RETRY_AFTER_MAX_MS;
}

/* OTLP, "Retryable Response Codes". */
static bool may_be_tried_again(unsigned status)
{
	return status == 429 || status == 502 || status == 503 || status == 504;
}

static void on_done(void *arg, const struct fetch_answer *a)
{
	struct trace_export *x = arg;
	/* What an answer says beyond its status is not looked at, so it may be too long as well. */
	bool answered = a->end == FETCH_DONE || a->end == FETCH_TOO_LARGE;
	char why[40];

	x->fetch = NULL;
	if (!answered) {
		failed(x, a->why);
		return;
	}
	snprintf(why, sizeof(why), "answered %u", a->status);
	if (may_be_tried_again(a->status)) {
		failed(x, why);
		return;
	}
	if (a->status / 100 != 2) {
		say_failing(x, why);
		settled(x, TRACE_EXPORT_REJECTED);
		return;
	}
	if (x->failing)
		log_info("tracing: spans are delivered again to %s", trace_export_settings(x)->to.url);
	x->failing = false;
	settled(x, TRACE_EXPORT_EXPORTED);
}

/* --- sending ------------------------------------------------------------------------------------------------------------------- */

static void write_batch(const struct trace_export *x, struct buf *out)
{
	size_t left = x->sending;

	trace_json_begin(out, trace_export_settings(x)->service_name);
	LIST_FOREACH (n, &x->spans) {
		const struct waiting *w = CONTAINER_OF(n, struct waiting, link);
		if (left-- == 0)
			break;
		if (n != x->spans.next)
			buf_add_char(out, ',');
		buf_add(out, w->text, w->n);
	}
	trace_json_end(out);
}

static void send_spans(struct trace_export *x)
{
	const struct config_tracing *t = trace_export_settings(x);
	struct buf body = BUF_EMPTY;
	struct fetch_request r = {
		.caller = {.upstream = snapshot_tracing(x->snapshot)},
		.method = "POST",
		.target = str_from(t->path),
		.wait = UPSTREAM_WAIT_RESPONSE,
		.max_bytes = ANSWER_MAX_BYTES,
		.own_place = true,
		.on_head = note_retry_after,
		.on_done = on_done,
		.arg = x,
	};

	x->sending = x->nspans < BATCH_MAX ? x->nspans : BATCH_MAX;
	x->retry_after_ms = 0;
	move(x, EXPORT_SENDING);
	write_batch(x, &body);
	r.body = buf_str(&body);
	if (body.failed || fetch_start(x->loop, &r, &x->fetch))
		failed(x, "out of memory");
	buf_fini(&body);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct trace_export *x = arg;

	(void)fd;
	(void)what;
	if (x->state == EXPORT_SENDING) {
		fetch_cancel(x->fetch);
		x->fetch = NULL;
		failed(x, "no answer within 10 s");
	} else {
		send_spans(x);
	}
}

void trace_export_add(struct trace_export *x, const struct trace_span *s)
{
	static struct buf text; /* used within this call only; its memory is kept for the next span */
	struct waiting *w;

	if (!trace_export_settings(x))
		return;
	buf_reset(&text);
	if (x->nspans < WAITING_MAX)
		trace_json_span(&text, s);
	w = text.len && !text.failed ? malloc(sizeof(*w) + text.len) : NULL;
	if (!w) {
		x->counts[TRACE_EXPORT_OVERFLOWED]++;
		return;
	}
	w->n = text.len;
	memcpy(w->text, buf_data(&text), text.len);
	list_add_tail(&x->spans, &w->link);
	x->nspans++;
	if (x->state == EXPORT_IDLE)
		move(x, EXPORT_GATHERING);
	else if (x->state == EXPORT_GATHERING && x->nspans == BATCH_MAX)
		arm(x->timer, 0);
}

bool trace_export_finish(struct trace_export *x, uint64_t ms, void (*on_finished)(void *arg), void *arg)
{
	if (x->nspans == 0 || ms == 0)
		return false;
	x->on_finished = on_finished;
	x->arg = arg;
	arm(x->patience, ms);
	/* Sooner than it would be by itself; from the loop, since it may fail at once. */
	if (x->state != EXPORT_SENDING)
		arm(x->timer, 0);
	return true;
}

/* --- life ---------------------------------------------------------------------------------------------------------------------- */

struct trace_export *trace_export_new(struct loop *loop)
{
	struct trace_export *x = calloc(1, sizeof(*x));

	if (!x)
		return NULL;
	x->loop = loop;
	x->rest_ms = REST_MIN_MS;
	list_init(&x->spans);
	x->timer = evtimer_new(loop_base(loop), on_timer, x);
	x->patience = evtimer_new(loop_base(loop), on_patience, x);
	if (x->timer && x->patience)
		return x;
	trace_export_free(x);
	return NULL;
}

void trace_export_free(struct trace_export *x)
{
	if (!x)
		return;
	fetch_cancel(x->fetch);
	settle(x, x->nspans, TRACE_EXPORT_UNDELIVERED);
	if (x->timer)
		event_free(x->timer);
	if (x->patience)
		event_free(x->patience);
	snapshot_unref(x->snapshot);
	free(x);
}

void trace_export_use(struct trace_export *x, struct snapshot *snapshot)
{
	const struct config_tracing *now = &snapshot_config(snapshot)->tracing;
	const struct config_tracing *old = trace_export_settings(x);
	struct snapshot *previous = x->snapshot;

	if (old && (!now->to.url || strcmp(old->to.url, now->to.url) != 0)) {
		drop_all(x);
		x->failing = false;
		x->rest_ms = REST_MIN_MS;
	}
	x->snapshot = snapshot_ref(snapshot);
	snapshot_unref(previous);
}
