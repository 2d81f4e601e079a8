/* SPDX-License-Identifier: Apache-2.0 */
/*
 *   IDLE <----+-------------+-----------+
 *    |        |             |           |
 *    +--> CONNECT ---> OPEN +           |
 *           ^  |            |           |
 *           |  +--> WAIT <--+           |
 *           +--------+  +---------------+
 *
 * IDLE     nobody needs it; kept for a while only to know that the server has no events
 * CONNECT  the request is out, or waits for a key that is being read
 * OPEN     events come
 * WAIT     for the next try
 *
 * What is remembered is forgotten when a stream begins and when it is given up, since nobody tells what has happened before and
 * after. A stream that breaks off is asked for again; its readers go on and are told by a comment that events may be missing. Only
 * when the server stays away longer than it may take for an answer they are cut.
 */
#include "gateway/feed_source.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/secret.h"
#include "gateway/ownership.h"
#include "gateway/upstream.h"

enum {
	GOOD_MS = 10000,     /* a stream that lasted so long was a good one */
	FIRST_WAIT_MS = 250, /* between two tries, doubled from one to the next */
	MAX_WAIT_MS = 15000,
	DOUBLINGS_MAX = 6,
};

static const char *const state_names[FEED_STATES] = {"idle", "connect", "open", "wait"};

static const uint32_t state_edges[FEED_STATES] = {
	[FEED_IDLE] = SM_TO(FEED_CONNECT),
	[FEED_CONNECT] = SM_TO(FEED_OPEN) | SM_TO(FEED_WAIT) | SM_TO(FEED_IDLE),
	[FEED_OPEN] = SM_TO(FEED_WAIT) | SM_TO(FEED_IDLE),
	[FEED_WAIT] = SM_TO(FEED_CONNECT) | SM_TO(FEED_IDLE),
};

static const struct sm sm = {"feed", state_names, state_edges, FEED_STATES};

const struct sm *feed_source_sm(void)
{
	return &sm;
}

/* --- events ------------------------------------------------------------------------------------------------------------ */

static void forget_by(struct feed_source *s, const struct feed_event *e)
{
	struct ownership *o = s->shared->ownership;
	struct str id = str_from(e->doc.sandbox_id);

	switch (feed_event_change(e)) {
	case FEED_CHANGE_NONE:
		return;
	case FEED_CHANGE_GONE:
		ownership_gone(o, s->upstream, id);
		return;
	case FEED_CHANGE_UNKNOWN:
		ownership_forget(o, s->upstream, id);
		return;
	}
}

static void hand_out(struct feed_source *s, struct feed_event *e)
{
	LIST_FOREACH_SAFE (n, &s->readers) {
		struct feed_reader *r = CONTAINER_OF(n, struct feed_reader, link);
		if (r->begun)
			r->on_event(r, e);
	}
}

/* Nothing follows an event that was lost. */
static void on_event(void *arg, const struct sse_event *event)
{
	struct feed_source *s = arg;
	struct feed_event *e = s->no_memory ? NULL : feed_event_new(event);

	if (!e) {
		s->no_memory = true;
		return;
	}
	s->tally->counts.events += event->has_data;
	forget_by(s, e);
	hand_out(s, e);
	feed_event_unref(e);
}

/* --- who needs it ------------------------------------------------------------------------------------------------------ */

static bool has_readers(const struct feed_source *s, bool begun)
{
	LIST_FOREACH (n, &s->readers)
		if (CONTAINER_OF(n, struct feed_reader, link)->begun == begun)
			return true;
	return false;
}

/* Whether it is to be asked for again by itself. */
static bool is_needed(const struct feed_source *s)
{
	return has_readers(s, true) || (s->wanted && s->barren_ms <= loop_now_ms(s->shared->loop));
}

void feed_source_review(struct feed_source *s)
{
	loop_defer(s->shared->loop, &s->review);
}

static struct feed_reader *take_reader(struct feed_source *s, bool begun)
{
	LIST_FOREACH (n, &s->readers) {
		struct feed_reader *r = CONTAINER_OF(n, struct feed_reader, link);
		if (r->begun != begun)
			continue;
		list_remove(&r->link);
		r->source = NULL;
		return r;
	}
	return NULL;
}

static void lose_readers(struct feed_source *s)
{
	struct feed_reader *r;

	deadline_clear(&s->away);
	while ((r = take_reader(s, true)))
		r->on_lost(r);
}

static void on_away(struct deadline *d)
{
	struct feed_source *s = CONTAINER_OF(d, struct feed_source, away);

	lose_readers(s);
	feed_source_review(s);
}

/* --- life --------------------------------------------------------------------------------------------------------------- */

static void move(struct feed_source *s, enum feed_state to)
{
	s->state = sm_move(&sm, upstream_serial(s->upstream), s->state, to);
	if (to != FEED_WAIT)
		event_del(s->retry);
}

/* Lets go of what a connection needs. */
static void drop_stream(struct feed_source *s)
{
	fetch_cancel(s->fetch);
	s->fetch = NULL;
	key_wait_cancel(&s->key_wait);
	secret_unref(s->used);
	s->used = NULL;
	s->odd = s->no_memory = false;
	sse_fini(&s->sse);
	sse_init(&s->sse, on_event, s);
}

void feed_source_free(struct feed_source *s)
{
	list_remove(&s->link);
	drop_stream(s);
	sse_fini(&s->sse);
	deadline_clear(&s->away);
	deadline_clear(&s->idle);
	deferred_cancel(&s->review);
	if (s->retry)
		event_free(s->retry);
	s->tally->sources--;
	key_unref(s->key);
	upstream_unref(s->upstream);
	free(s->user_id);
	free(s);
}

static void give_up(struct feed_source *s)
{
	drop_stream(s);
	if (s->again)
		ownership_forget_upstream(s->shared->ownership, s->upstream);
	move(s, FEED_IDLE);
	deadline_clear(&s->away);
	s->tries = 0;
	s->again = false;
}

/* Nobody needs it, at least by itself. */
static void rest(struct feed_source *s)
{
	if (s->state != FEED_IDLE)
		give_up(s);
	if (s->wanted || s->barren_ms > loop_now_ms(s->shared->loop))
		deadline_set(&s->shared->idle_deadlines, &s->idle);
	else
		feed_source_free(s);
}

static void on_review(struct deferred *d)
{
	struct feed_source *s = CONTAINER_OF(d, struct feed_source, review);

	if (list_empty(&s->readers) && !is_needed(s))
		rest(s);
}

/* --- connecting --------------------------------------------------------------------------------------------------------- */

static void connect_or_wait(struct feed_source *s);

static void retry(struct feed_source *s)
{
	unsigned doublings = s->tries > DOUBLINGS_MAX ? DOUBLINGS_MAX : s->tries;
	unsigned ms = s->tries == 0 ? 0 : (unsigned)FIRST_WAIT_MS << (doublings - 1);
	struct timeval tv;

	if (ms > MAX_WAIT_MS || s->tries > DOUBLINGS_MAX)
		ms = MAX_WAIT_MS;
	s->tries++;
	tv = clock_span(ms);
	if (s->state != FEED_WAIT)
		move(s, FEED_WAIT);
	if (event_add(s->retry, &tv) == 0)
		return;
	lose_readers(s);
	s->wanted = false;
	feed_source_review(s);
}

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	connect_or_wait(arg);
}

/* After a stream or a try to get one has ended. */
static void go_on(struct feed_source *s)
{
	drop_stream(s);
	s->rekeyed = false;
	if (has_readers(s, true) && list_empty(&s->away.link))
		deadline_set(upstream_deadlines(s->upstream, UPSTREAM_WAIT_RESPONSE), &s->away);
	if (is_needed(s)) {
		retry(s);
		return;
	}
	give_up(s);
	feed_source_review(s);
}

/* A 401: whether another value of the key is there, or may yet come. */
static bool begins_anew_with_key(struct feed_source *s, const struct fetch_answer *a)
{
	enum key_verdict verdict;

	if (a->end != FETCH_DONE || a->status != 401 || !s->used || s->rekeyed)
		return false;
	s->rekeyed = true;
	verdict = key_refused(s->key, s->used, &s->key_wait);
	if (verdict == KEY_CHANGED) {
		key_wait_cancel(&s->key_wait);
		connect_or_wait(s);
	}
	return verdict != KEY_SAME;
}

static void on_key_settled(struct key_wait *w)
{
	connect_or_wait(CONTAINER_OF(w, struct feed_source, key_wait));
}

static void refused(struct feed_source *s, const struct fetch_answer *a)
{
	struct feed_reader *r;

	s->fetch = NULL;
	if (begins_anew_with_key(s, a))
		return;
	while ((r = take_reader(s, false)))
		r->on_refused(r, a);
	if (a->end == FETCH_DONE && (a->status == 404 || a->status == 500 || a->status == 501))
		s->barren_ms = loop_now_ms(s->shared->loop) + FEED_IDLE_MS;
	go_on(s);
}

/* A 200 that is none, or another status that promises nothing. */
static void refused_odd(struct feed_source *s)
{
	const struct fetch_answer odd = {.end = FETCH_BROKEN, .why = "answered otherwise than with a stream of events"};

	fetch_cancel(s->fetch);
	refused(s, &odd);
}

static void tell_of_gap(struct feed_source *s)
{
	struct feed_event *e = feed_event_comment(STR(": reconnected\n\n"));

	s->tally->counts.reconnects++;
	if (!e) {
		lose_readers(s);
		return;
	}
	hand_out(s, e);
	feed_event_unref(e);
}

static void opened(struct feed_source *s)
{
	move(s, FEED_OPEN);
	deadline_clear(&s->away);
	s->opened_ms = loop_now_ms(s->shared->loop);
	s->barren_ms = 0;
	s->rekeyed = false;
	s->request_id[0] = '\0';
	ownership_forget_upstream(s->shared->ownership, s->upstream);
	if (s->again)
		tell_of_gap(s);
	s->again = true;
	LIST_FOREACH_SAFE (n, &s->readers) {
		struct feed_reader *r = CONTAINER_OF(n, struct feed_reader, link);
		if (r->begun)
			continue;
		r->begun = true;
		r->on_begun(r);
	}
}

static void on_head(void *arg, const struct http_head *head)
{
	struct feed_source *s = arg;

	if (head->status != 200)
		return;
	s->odd = !http_head_is_type(head, STR("text/event-stream")) ||
		 http_head_find(head, STR("content-encoding")) != NULL;
	if (!s->odd)
		opened(s);
}

static void on_data(void *arg, const char *p, size_t n)
{
	struct feed_source *s = arg;
	uint64_t skipped = s->sse.skipped;

	if (s->odd) {
		refused_odd(s);
		return;
	}
	if (sse_feed(&s->sse, str_of(p, n)))
		s->no_memory = true;
	s->tally->counts.dropped += s->sse.skipped - skipped;
	if (!s->no_memory)
		return;
	/* What is lost must not look like all that there was. */
	ownership_forget_upstream(s->shared->ownership, s->upstream);
	lose_readers(s);
	go_on(s);
}

static void on_done(void *arg, const struct fetch_answer *a)
{
	struct feed_source *s = arg;

	s->fetch = NULL;
	if (s->state == FEED_OPEN) {
		if (loop_now_ms(s->shared->loop) - s->opened_ms >= GOOD_MS)
			s->tries = 0;
		go_on(s);
	} else if (a->end == FETCH_DONE && a->status < 400) {
		refused_odd(s);
	} else {
		refused(s, a);
	}
}

static int begin_connect(struct feed_source *s)
{
	const struct fetch_request request = {
		.caller = {s->upstream, s->key, s->user_id, s->request_id[0] ? s->request_id : NULL, NULL},
		.method = "GET",
		.target = STR("/api/v1/events"),
		.accept = STR("text/event-stream"),
		.wait = UPSTREAM_WAIT_RESPONSE,
		.keep_head = true,
		.own_place = true,
		.on_head = on_head,
		.on_data = on_data,
		.on_done = on_done,
		.arg = s,
	};
	int rc;

	drop_stream(s);
	rc = fetch_start(s->shared->loop, &request, &s->fetch);
	if (rc)
		return rc;
	if (s->key && key_secret(s->key))
		s->used = secret_ref(key_secret(s->key));
	if (s->state != FEED_CONNECT)
		move(s, FEED_CONNECT);
	return 0;
}

static void connect_or_wait(struct feed_source *s)
{
	const struct fetch_answer failed = {.end = FETCH_NO_MEMORY, .why = "out of memory"};

	if (begin_connect(s) == 0)
		return;
	if (s->state == FEED_WAIT)
		retry(s);
	else
		refused(s, &failed);
}

/* --- for feed ------------------------------------------------------------------------------------------------------------ */

static void on_idle(struct deadline *d)
{
	struct feed_source *s = CONTAINER_OF(d, struct feed_source, idle);
	uint64_t now = loop_now_ms(s->shared->loop);

	s->wanted = s->wanted && now - s->used_ms < FEED_IDLE_MS;
	if (s->wanted)
		deadline_set(&s->shared->idle_deadlines, &s->idle);
	if (s->wanted && s->state == FEED_IDLE && s->barren_ms <= now)
		(void)!begin_connect(s);
	feed_source_review(s);
}

struct feed_source *feed_source_new(struct feed_shared *shared, struct feed_tally *tally,
				    const struct fetch_caller *caller)
{
	struct feed_source *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->shared = shared;
	s->retry = evtimer_new(loop_base(shared->loop), on_retry, s);
	if (!s->retry) {
		free(s);
		return NULL;
	}
	list_init(&s->readers);
	list_add_tail(&shared->sources, &s->link);
	s->upstream = upstream_ref(caller->upstream);
	s->key = caller->key ? key_ref(caller->key) : NULL;
	s->tally = tally;
	tally->sources++;
	sse_init(&s->sse, on_event, s);
	key_wait_init(&s->key_wait, on_key_settled);
	deadline_init(&s->away, on_away);
	deadline_init(&s->idle, on_idle);
	deferred_init(&s->review, on_review);
	return s;
}

int feed_source_begin(struct feed_source *s, const struct fetch_caller *caller)
{
	size_t n = caller->request_id ? strlen(caller->request_id) : 0;

	if (s->state == FEED_CONNECT || s->state == FEED_OPEN)
		return 0;
	if (s->state == FEED_IDLE) {
		char *user_id = strdup(caller->user_id);
		if (!user_id)
			return -ENOMEM;
		free(s->user_id);
		s->user_id = user_id;
	}
	if (n < sizeof(s->request_id))
		memcpy(s->request_id, caller->request_id ? caller->request_id : "", n + 1);
	return begin_connect(s);
}
