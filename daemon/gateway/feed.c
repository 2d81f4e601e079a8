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
#include "gateway/feed.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#include "common/secret.h"
#include "gateway/config.h"
#include "gateway/keyring.h"
#include "gateway/ownership.h"
#include "gateway/request_id.h"
#include "gateway/snapshot.h"
#include "gateway/sse.h"
#include "gateway/upstream.h"

enum {
	IDLE_MS = 300000,     /* without a use of what is remembered; and how long a server without events is left alone */
	GOOD_MS = 10000,      /* a stream that lasted so long was a good one */
	FIRST_WAIT_MS = 250,  /* between two tries, doubled from one to the next */
	MAX_WAIT_MS = 15000,
	DOUBLINGS_MAX = 6,
	PLACES_MIN = 4, /* of a pool that is to spare one for what only saves work */
};

enum feed_state {
	FEED_IDLE,
	FEED_CONNECT,
	FEED_OPEN,
	FEED_WAIT,
	FEED_STATES,
};

static const char *const state_names[FEED_STATES] = {"idle", "connect", "open", "wait"};

static const uint32_t state_edges[FEED_STATES] = {
	[FEED_IDLE] = SM_TO(FEED_CONNECT),
	[FEED_CONNECT] = SM_TO(FEED_OPEN) | SM_TO(FEED_WAIT) | SM_TO(FEED_IDLE),
	[FEED_OPEN] = SM_TO(FEED_WAIT) | SM_TO(FEED_IDLE),
	[FEED_WAIT] = SM_TO(FEED_CONNECT) | SM_TO(FEED_IDLE),
};

static const struct sm sm = {"feed", state_names, state_edges, FEED_STATES};

struct feed_tally {
	struct list link; /* on feed.tallies */
	uint64_t serial;  /* of the upstream */
	size_t sources;   /* that count here */
	struct feed_counts counts;
};

struct feed_source {
	struct list link;          /* on feed.sources */
	struct feed *feed;         /* borrowed */
	struct upstream *upstream; /* owned reference */
	struct key *key;           /* owned reference; NULL: none */
	struct feed_tally *tally;  /* borrowed */
	enum feed_state state;
	struct list readers; /* struct feed_reader */
	char *user_id;       /* owned; in whose name it is asked for */
	char request_id[REQUEST_ID_MAX_BYTES + 1]; /* of the request that caused it; empty when it is asked for again */
	struct fetch *fetch;                       /* owned; in CONNECT and OPEN; NULL while a key is waited for */
	struct secret *used;                       /* owned reference; what the fetch has of the key */
	struct key_wait key_wait;
	bool rekeyed; /* this connect has had a 401, and tries another value of the key */
	bool odd;     /* the answer is a 200 that is no stream of events */
	bool again;   /* a stream had begun before: the next one is a reconnect */
	struct sse sse;
	bool no_memory;      /* an event was lost */
	bool wanted;         /* for what is remembered */
	uint64_t used_ms;    /* loop_now_ms() of the last use of that */
	uint64_t barren_ms;  /* until then the server has no events; 0: it may have */
	uint64_t opened_ms;  /* of the stream, in OPEN */
	unsigned tries;      /* since the last good stream */
	struct event *retry; /* owned; in WAIT */
	struct deadline away; /* while the stream is missing to somebody; timeouts.response */
	struct deadline idle; /* while it is wanted, or known to be barren */
	struct deferred review;
};

const struct sm *feed_sm(void)
{
	return &sm;
}

/* --- events ------------------------------------------------------------------------------------------------------------ */

struct feed_event *feed_event_ref(struct feed_event *e)
{
	e->refs++;
	return e;
}

void feed_event_unref(struct feed_event *e)
{
	if (--e->refs == 0)
		free(e);
}

static struct feed_event *copy_event(struct str raw)
{
	struct feed_event *e = calloc(1, sizeof(*e) + raw.n);

	if (!e)
		return NULL;
	e->refs = 1;
	e->n = raw.n;
	memcpy(e->raw, raw.p, raw.n);
	return e;
}

/* The set of types is open: one that is not known may mean anything. */
static bool says_nothing_new(struct str type)
{
	static const struct str plain[] = {
		{"sandbox.created", 15}, {"sandbox.running", 15}, {"operation.failed", 16},
		{"resource.limit", 14},  {"provider.failed", 15},
	};

	for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++)
		if (str_eq(type, plain[i]))
			return true;
	return str_starts(type, STR("exec.")) || str_starts(type, STR("file."));
}

static void forget_by(struct feed_source *s, const struct event_doc *doc)
{
	struct ownership *o = s->feed->ownership;

	if (!doc->sandbox_id[0])
		return;
	if (strcmp(doc->type, "sandbox.destroyed") == 0)
		ownership_gone(o, s->upstream, str_from(doc->sandbox_id));
	else if (!says_nothing_new(str_from(doc->type)))
		ownership_forget(o, s->upstream, str_from(doc->sandbox_id));
}

static void hand_out(struct feed_source *s, struct feed_event *e)
{
	LIST_FOREACH_SAFE (n, &s->readers) {
		struct feed_reader *r = CONTAINER_OF(n, struct feed_reader, link);
		if (r->begun)
			r->on_event(r, e);
	}
}

static void on_sse_event(void *arg, const struct sse_event *event)
{
	struct feed_source *s = arg;
	struct feed_event *e = s->no_memory ? NULL : copy_event(event->raw);

	if (!e) {
		s->no_memory = true;
		return;
	}
	e->comment = !event->has_data;
	s->tally->counts.events += event->has_data;
	if (e->comment || event_doc_parse(event->data, &e->doc))
		memset(&e->doc, 0, sizeof(e->doc));
	forget_by(s, &e->doc);
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
	return has_readers(s, true) || (s->wanted && s->barren_ms <= loop_now_ms(s->feed->loop));
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
	loop_defer(s->feed->loop, &s->review);
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
	sse_init(&s->sse, on_sse_event, s);
}

static void source_free(struct feed_source *s)
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
		ownership_forget_upstream(s->feed->ownership, s->upstream);
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
	if (s->wanted || s->barren_ms > loop_now_ms(s->feed->loop))
		deadline_set(&s->feed->idle_deadlines, &s->idle);
	else
		source_free(s);
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
	tv.tv_sec = ms / 1000;
	tv.tv_usec = (suseconds_t)(ms % 1000) * 1000;
	if (s->state != FEED_WAIT)
		move(s, FEED_WAIT);
	if (event_add(s->retry, &tv) == 0)
		return;
	lose_readers(s);
	s->wanted = false;
	loop_defer(s->feed->loop, &s->review);
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
	loop_defer(s->feed->loop, &s->review);
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
		s->barren_ms = loop_now_ms(s->feed->loop) + IDLE_MS;
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
	struct feed_event *e = copy_event(STR(": reconnected\n\n"));

	s->tally->counts.reconnects++;
	if (!e) {
		lose_readers(s);
		return;
	}
	e->comment = true;
	hand_out(s, e);
	feed_event_unref(e);
}

static void opened(struct feed_source *s)
{
	move(s, FEED_OPEN);
	deadline_clear(&s->away);
	s->opened_ms = loop_now_ms(s->feed->loop);
	s->barren_ms = 0;
	s->rekeyed = false;
	s->request_id[0] = '\0';
	ownership_forget_upstream(s->feed->ownership, s->upstream);
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
	ownership_forget_upstream(s->feed->ownership, s->upstream);
	lose_readers(s);
	go_on(s);
}

static void on_done(void *arg, const struct fetch_answer *a)
{
	struct feed_source *s = arg;

	s->fetch = NULL;
	if (s->state == FEED_OPEN) {
		if (loop_now_ms(s->feed->loop) - s->opened_ms >= GOOD_MS)
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
		.caller = {s->upstream, s->key, s->user_id, s->request_id[0] ? s->request_id : NULL},
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
	rc = fetch_start(s->feed->loop, &request, &s->fetch);
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

/* --- for readers and for what is remembered ----------------------------------------------------------------------------- */

static void on_idle(struct deadline *d)
{
	struct feed_source *s = CONTAINER_OF(d, struct feed_source, idle);
	uint64_t now = loop_now_ms(s->feed->loop);

	s->wanted = s->wanted && now - s->used_ms < IDLE_MS;
	if (s->wanted)
		deadline_set(&s->feed->idle_deadlines, &s->idle);
	if (s->wanted && s->state == FEED_IDLE && s->barren_ms <= now)
		(void)!begin_connect(s);
	loop_defer(s->feed->loop, &s->review);
}

static struct feed_tally *tally_of(struct feed *f, const struct upstream *u)
{
	LIST_FOREACH (n, &f->tallies) {
		struct feed_tally *t = CONTAINER_OF(n, struct feed_tally, link);
		if (t->serial == upstream_serial(u))
			return t;
	}
	return NULL;
}

static struct feed_tally *need_tally(struct feed *f, const struct upstream *u)
{
	struct feed_tally *t = tally_of(f, u);

	if (t)
		return t;
	t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;
	t->serial = upstream_serial(u);
	list_add_tail(&f->tallies, &t->link);
	return t;
}

static struct feed_source *find(const struct feed *f, const struct fetch_caller *caller)
{
	LIST_FOREACH (n, &f->sources) {
		struct feed_source *s = CONTAINER_OF(n, struct feed_source, link);
		if (s->upstream == caller->upstream && s->key == caller->key)
			return s;
	}
	return NULL;
}

static struct feed_source *source_new(struct feed *f, const struct fetch_caller *caller)
{
	struct feed_tally *t = need_tally(f, caller->upstream);
	struct feed_source *s = t ? calloc(1, sizeof(*s)) : NULL;

	if (!s)
		return NULL;
	s->feed = f;
	s->retry = evtimer_new(loop_base(f->loop), on_retry, s);
	if (!s->retry) {
		free(s);
		return NULL;
	}
	list_init(&s->readers);
	list_add_tail(&f->sources, &s->link);
	s->upstream = upstream_ref(caller->upstream);
	s->key = caller->key ? key_ref(caller->key) : NULL;
	s->tally = t;
	t->sources++;
	sse_init(&s->sse, on_sse_event, s);
	key_wait_init(&s->key_wait, on_key_settled);
	deadline_init(&s->away, on_away);
	deadline_init(&s->idle, on_idle);
	deferred_init(&s->review, on_review);
	return s;
}

/* Asks for it in the caller's name, if it is not asked for already. */
static int begin(struct feed_source *s, const struct fetch_caller *caller)
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

enum feed_joined feed_join(struct feed *f, const struct fetch_caller *caller, struct feed_reader *r)
{
	struct feed_source *s = find(f, caller);

	list_init(&r->link);
	r->source = NULL;
	r->begun = false;
	if (!s)
		s = source_new(f, caller);
	if (!s)
		return FEED_FAILED;
	if (begin(s, caller)) {
		loop_defer(f->loop, &s->review);
		return FEED_FAILED;
	}
	list_add_tail(&s->readers, &r->link);
	r->source = s;
	r->begun = s->state == FEED_OPEN;
	return r->begun ? FEED_BEGUN : FEED_WAITS;
}

void feed_leave(struct feed_reader *r)
{
	struct feed_source *s = r->source;

	if (!s)
		return;
	list_remove(&r->link);
	r->source = NULL;
	loop_defer(s->feed->loop, &s->review);
}

static void want(struct feed *f, struct feed_source *s, const struct fetch_caller *caller)
{
	if (upstream_config(caller->upstream)->pool.max_connections < PLACES_MIN)
		return;
	if (!s)
		s = source_new(f, caller);
	if (!s)
		return;
	s->wanted = true;
	s->used_ms = loop_now_ms(f->loop);
	deadline_set(&f->idle_deadlines, &s->idle);
	if (s->state == FEED_IDLE && s->barren_ms <= s->used_ms)
		s->wanted = begin(s, caller) == 0;
	if (!s->wanted)
		loop_defer(f->loop, &s->review);
}

void feed_want(struct feed *f, const struct fetch_caller *caller)
{
	struct feed_source *s = find(f, caller);

	if (s && s->wanted)
		s->used_ms = loop_now_ms(f->loop);
	else
		want(f, s, caller);
}

/* --- all of them --------------------------------------------------------------------------------------------------------- */

void feed_init(struct feed *f, struct loop *loop, struct ownership *ownership)
{
	f->loop = loop;
	f->ownership = ownership;
	list_init(&f->sources);
	list_init(&f->tallies);
	deadline_queue_init(&f->idle_deadlines, loop, IDLE_MS);
}

static void tally_free(struct feed_tally *t)
{
	list_remove(&t->link);
	free(t);
}

void feed_fini(struct feed *f)
{
	LIST_FOREACH_SAFE (n, &f->sources)
		source_free(CONTAINER_OF(n, struct feed_source, link));
	LIST_FOREACH_SAFE (n, &f->tallies)
		tally_free(CONTAINER_OF(n, struct feed_tally, link));
	deadline_queue_fini(&f->idle_deadlines);
}

/* Whether there is a rule by which something of it may be remembered. */
static bool is_in_force(const struct feed_source *s, const struct snapshot *snapshot)
{
	const struct config *c = snapshot_config(snapshot);

	for (size_t i = 0; i < c->nrules; i++) {
		const struct config_rule *r = &c->rules[i];
		if (r->isolation == CONFIG_ISOLATION_OWNER && snapshot_upstream(snapshot, r->upstream) == s->upstream &&
		    snapshot_key(snapshot, r) == s->key)
			return true;
	}
	return false;
}

static bool is_configured(const struct feed_tally *t, const struct snapshot *snapshot)
{
	for (size_t i = 0; i < snapshot_config(snapshot)->nupstreams; i++)
		if (upstream_serial(snapshot_upstream(snapshot, i)) == t->serial)
			return true;
	return false;
}

void feed_use_snapshot(struct feed *f, const struct snapshot *snapshot)
{
	LIST_FOREACH_SAFE (n, &f->sources) {
		struct feed_source *s = CONTAINER_OF(n, struct feed_source, link);
		if (is_in_force(s, snapshot))
			continue;
		s->wanted = false;
		s->barren_ms = 0;
		loop_defer(f->loop, &s->review);
	}
	LIST_FOREACH_SAFE (n, &f->tallies) {
		struct feed_tally *t = CONTAINER_OF(n, struct feed_tally, link);
		if (t->sources == 0 && !is_configured(t, snapshot))
			tally_free(t);
	}
}

struct feed_counts *feed_counts_of(struct feed_reader *r)
{
	return &r->source->tally->counts;
}

struct feed_status feed_status(const struct feed *f, const struct upstream *u)
{
	struct feed_status status = {0};
	size_t sources = 0;
	size_t open = 0;

	LIST_FOREACH (n, &f->tallies) {
		const struct feed_tally *t = CONTAINER_OF(n, struct feed_tally, link);
		if (t->serial == upstream_serial(u))
			status.counts = t->counts;
	}
	LIST_FOREACH (n, &f->sources) {
		const struct feed_source *s = CONTAINER_OF(n, struct feed_source, link);
		if (s->upstream != u)
			continue;
		sources += s->state != FEED_IDLE;
		open += s->state == FEED_OPEN;
		LIST_FOREACH (m, &s->readers)
			status.subscribers++;
	}
	status.connected = open && open == sources;
	return status;
}
