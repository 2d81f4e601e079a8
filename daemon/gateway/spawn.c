/* SPDX-License-Identifier: Apache-2.0 */
/*
 *   WAITING --> SENT --> KEPT -----> DESTROYING --> ENDED
 *      |         |  \     ^  \           ^  |
 *      |         |   \    |   +--> ENDED |  v
 *      |         v    +---|--------------+ TOMBSTONE
 *      |      WATCHED ----+--------------^  ^
 *      v         +--------------------------+
 *    ENDED
 *
 * WAITING     for its turn; nothing was sent, and it ends with its client
 * SENT        the one POST is under way; the journal has its token
 * WATCHED     the answer was lost: the server's list is read until it shows the token
 * KEPT        its sandbox is there, its client is not: it waits for the retry
 * DESTROYING  nobody wants the sandbox
 * TOMBSTONE   no list has shown it in time; should one do so after all, it is destroyed
 *
 * One that the journal tells of comes from WAITING to WATCHED, KEPT or TOMBSTONE; each ends at once with what it was for.
 * A client that waits is told at the end of SENT, or of WATCHED; when the spawn's own timeout has passed he is told that, and
 * the spawn goes on without him. What is known of a sandbox is dropped from the journal when the client has it.
 */
#include "gateway/spawn.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/loop.h"
#include "gateway/config.h"
#include "gateway/destroy.h"
#include "gateway/journal.h"
#include "gateway/keyring.h"
#include "gateway/limiter.h"
#include "gateway/ownership.h"
#include "gateway/request_id.h"
#include "gateway/snapshot.h"
#include "gateway/spawn_record.h"
#include "gateway/upstream.h"

enum spawn_state {
	SPAWN_WAITING,
	SPAWN_SENT,
	SPAWN_WATCHED,
	SPAWN_KEPT,
	SPAWN_DESTROYING,
	SPAWN_TOMBSTONE,
	SPAWN_ENDED,
	SPAWN_STATES,
};

static const char *const state_names[SPAWN_STATES] = {"waiting",    "sent",      "watched", "kept",
						      "destroying", "tombstone", "ended"};

static const uint32_t state_edges[SPAWN_STATES] = {
	[SPAWN_WAITING] = SM_TO(SPAWN_SENT) | SM_TO(SPAWN_WATCHED) | SM_TO(SPAWN_KEPT) | SM_TO(SPAWN_TOMBSTONE) |
			  SM_TO(SPAWN_ENDED),
	[SPAWN_SENT] = SM_TO(SPAWN_WATCHED) | SM_TO(SPAWN_KEPT) | SM_TO(SPAWN_DESTROYING) | SM_TO(SPAWN_ENDED),
	[SPAWN_WATCHED] = SM_TO(SPAWN_KEPT) | SM_TO(SPAWN_DESTROYING) | SM_TO(SPAWN_TOMBSTONE) | SM_TO(SPAWN_ENDED),
	[SPAWN_KEPT] = SM_TO(SPAWN_DESTROYING) | SM_TO(SPAWN_ENDED),
	[SPAWN_DESTROYING] = SM_TO(SPAWN_TOMBSTONE) | SM_TO(SPAWN_ENDED),
	[SPAWN_TOMBSTONE] = SM_TO(SPAWN_DESTROYING) | SM_TO(SPAWN_ENDED),
	[SPAWN_ENDED] = 0,
};

static const struct sm sm = {"spawn", state_names, state_edges, SPAWN_STATES};

enum {
	ANSWER_MAX_BYTES = 65536,
	DESTROY_SPAN_MS = 600000,
	TIMEOUT_DEFAULT_MS = 300000, /* where timeouts.spawn sets none */
	NO_END_MS = 86400000,        /* a timer that is set for no reason; a set one can be set again without memory */
};

struct spawn {
	struct list link;            /* on spawn_shared.spawns */
	struct spawn_shared *shared; /* borrowed */
	enum spawn_state state;
	struct fetch_caller caller; /* texts owned, references held */
	char *credential;           /* owned; its name; NULL: none */
	struct spawn_lane *lane;    /* borrowed; with a turn */
	struct spawn_turn turn;
	struct buf lines;             /* WAITING: header lines that are sent */
	struct buf body;              /* WAITING: what is sent */
	struct fetch *fetch;          /* owned; SENT */
	struct spawn_search search;   /* has joined from SENT on */
	struct destroy *destroy;      /* owned; DESTROYING */
	struct event *timer;          /* owned; what the state has to end by */
	struct limiter_owner *limits; /* a spawn of his is taken, which holds it; NULL: it is not counted */
	uint64_t deadline_ms;         /* clock_ms() when the client is told that it took too long */
	int64_t sent_wall_ms;         /* since 1970; SENT and later */
	int64_t until_wall_ms;        /* WATCHED, TOMBSTONE, KEPT: when that ends */
	bool keep;                    /* for a retry */
	uint64_t keep_ms;
	bool counted_busy;
	char token[SPAWN_TOKEN_BYTES + 1];
	char id[SANDBOX_DOC_ID_MAX_BYTES + 1];                    /* of the sandbox; empty until it is known */
	void (*on_done)(void *arg, const struct spawn_result *r); /* NULL: nobody waits */
	void *arg;
};

/* A record of the journal, before it is known to which upstream it belongs. */
struct recalled {
	struct list link; /* on spawn_shared.recalled */
	char token[SPAWN_TOKEN_BYTES + 1];
	char *value; /* owned */
};

static void move(struct spawn *p, enum spawn_state to);
static void begin_destroying(struct spawn *p);

const struct sm *spawn_sm(void)
{
	return &sm;
}

void spawn_token_make(char out[SPAWN_TOKEN_BYTES + 1])
{
	char id[REQUEST_ID_MAX_BYTES + 1];

	request_id_make(id);
	memcpy(out, id, SPAWN_TOKEN_BYTES);
	out[SPAWN_TOKEN_BYTES] = '\0';
}

static uint64_t timeout_of(const struct upstream *u)
{
	uint64_t ms = upstream_config(u)->timeouts.spawn_ms;

	return ms ? ms : TIMEOUT_DEFAULT_MS;
}

/* --- the journal -------------------------------------------------------------------------------------------------------- */

enum {
	JOURNAL_KEY_BYTES = sizeof(SPAWN_JOURNAL_PREFIX) + SPAWN_TOKEN_BYTES
};

static void journal_key(const char *token, char out[JOURNAL_KEY_BYTES])
{
	snprintf(out, JOURNAL_KEY_BYTES, SPAWN_JOURNAL_PREFIX "%s", token);
}

/* What it would be taken up from. 0, or as journal_put. */
static int write_record(const struct spawn *p)
{
	const struct config_upstream *u = upstream_config(p->caller.upstream);
	const struct spawn_record r = {
		.state = state_names[p->state],
		.upstream = u->name,
		.url = u->url,
		.credential = p->credential,
		.user_id = p->caller.user_id,
		.id = p->id,
		.sent_wall_ms = p->sent_wall_ms,
		.until_wall_ms = p->until_wall_ms,
		.keep = p->keep,
		.keep_ms = p->keep_ms,
	};
	char key[JOURNAL_KEY_BYTES];
	struct buf value = BUF_EMPTY;
	int rc;

	if (!p->shared->journal)
		return 0;
	journal_key(p->token, key);
	spawn_record_write(&r, &value);
	rc = value.failed ? -ENOMEM : journal_put(p->shared->journal, str_from(key), buf_str(&value));
	if (rc)
		log_debug("spawn %s: its record could not be written", p->token);
	buf_fini(&value);
	return rc;
}

static void drop_record(const struct spawn_shared *s, const char *token)
{
	char key[JOURNAL_KEY_BYTES];

	if (!s->journal)
		return;
	journal_key(token, key);
	if (journal_drop(s->journal, str_from(key)))
		log_debug("spawn %s: its record could not be dropped", token);
}

/* --- life ------------------------------------------------------------------------------------------------------------------ */

/* Always set from spawn_new on: setting it anew needs no memory then. */
static int set_timer(struct spawn *p, uint64_t ms)
{
	struct timeval tv = clock_span(ms);

	return event_add(p->timer, &tv);
}

/* Until that wall time, but not longer than `most`: clocks are set back. */
static void set_timer_until(struct spawn *p, int64_t until_wall_ms, uint64_t most)
{
	int64_t left = until_wall_ms - clock_wall_ms();

	set_timer(p, left <= 0 ? 0 : (uint64_t)left < most ? (uint64_t)left : most);
}

/* Whether a stop of the daemon waits for it: what the next start can do as well need not be waited for. */
static bool is_busy(const struct spawn *p)
{
	return !p->on_done && !p->shared->abandoned && (p->state == SPAWN_SENT || p->state == SPAWN_DESTROYING);
}

static bool is_unclaimed(enum spawn_state state, bool waited_for)
{
	return !waited_for && state != SPAWN_WAITING && state != SPAWN_TOMBSTONE && state != SPAWN_ENDED;
}

static void count(struct spawn *p, bool was_unclaimed)
{
	struct spawn_shared *s = p->shared;
	bool busy = is_busy(p);

	s->unclaimed += (size_t)is_unclaimed(p->state, p->on_done != NULL) - (size_t)was_unclaimed;
	if (busy == p->counted_busy)
		return;
	p->counted_busy = busy;
	if (busy)
		s->busy++;
	else if (--s->busy == 0 && s->on_quiet)
		s->on_quiet(s->arg);
}

static void give_back_limits(struct spawn *p)
{
	if (!p->limits)
		return;
	limiter_spawn_give(p->limits, clock_ns());
	p->limits = NULL;
}

static void give_turn_back(struct spawn *p)
{
	if (!p->lane)
		return;
	spawn_lane_leave(p->lane, &p->turn);
	p->lane = NULL;
}

/* Without a word to the journal. */
static void spawn_free(struct spawn *p)
{
	bool was = is_unclaimed(p->state, p->on_done != NULL);

	p->on_done = NULL;
	p->state = sm_move(&sm, 0, p->state, SPAWN_ENDED);
	count(p, was);
	list_remove(&p->link);
	give_turn_back(p);
	spawn_search_leave(&p->search);
	fetch_cancel(p->fetch);
	destroy_cancel(p->destroy);
	if (p->timer)
		event_free(p->timer);
	give_back_limits(p);
	fetch_caller_fini(&p->caller);
	free(p->credential);
	buf_fini(&p->lines);
	buf_fini(&p->body);
	free(p);
}

/* Nothing is to be known of it any more. */
static void finish(struct spawn *p)
{
	if (p->state != SPAWN_WAITING)
		drop_record(p->shared, p->token);
	if (p->state == SPAWN_TOMBSTONE)
		p->shared->tombstones--;
	spawn_free(p);
}

static enum spawn_pace pace_of(enum spawn_state state)
{
	if (state == SPAWN_WATCHED)
		return SPAWN_PACE_FAST;
	return state == SPAWN_TOMBSTONE ? SPAWN_PACE_SLOW : SPAWN_PACE_NONE;
}

static void move(struct spawn *p, enum spawn_state to)
{
	bool was = is_unclaimed(p->state, p->on_done != NULL);

	if (p->state == SPAWN_TOMBSTONE)
		p->shared->tombstones--;
	p->state = sm_move(&sm, 0, p->state, to);
	p->search.pace = pace_of(to);
	set_timer(p, NO_END_MS);
	if (to == SPAWN_TOMBSTONE)
		p->shared->tombstones++;
	if (to != SPAWN_SENT)
		give_turn_back(p);
	/* What exists is in the list that is counted; what never came counts for nobody. */
	if (to == SPAWN_KEPT || to == SPAWN_DESTROYING || to == SPAWN_TOMBSTONE)
		give_back_limits(p);
	count(p, was);
}

/* Takes the client off it: he has been told, or has left. */
static void detach(struct spawn *p)
{
	bool was = is_unclaimed(p->state, p->on_done != NULL);

	p->on_done = NULL;
	count(p, was);
}

/* --- telling ---------------------------------------------------------------------------------------------------------------- */

/* Whoever has its Idempotency-Key and does not wait has nothing to come back to. */
static void forget_key(const struct spawn *p)
{
	struct spawn_shared *s = p->shared;

	if (p->keep && !p->on_done && s->on_kept)
		s->on_kept(s->kept_arg, p->token, "");
}

/* The client gets an error, and the spawn is no longer his. */
static void tell_failure(struct spawn *p, unsigned status, const char *why)
{
	const struct spawn_result r = {.fail_status = status, .why = why};
	void (*on_done)(void *arg, const struct spawn_result *r) = p->on_done;
	void *arg = p->arg;

	if (!on_done)
		return;
	detach(p);
	on_done(arg, &r);
}

/* The same, and nothing is to be known of it any more: it is gone when the client is told. */
static void end_for_nothing(struct spawn *p, unsigned status, const char *why)
{
	const struct spawn_result r = {.fail_status = status, .why = why};
	void (*on_done)(void *arg, const struct spawn_result *r) = p->on_done;
	void *arg = p->arg;

	forget_key(p);
	finish(p);
	if (on_done)
		on_done(arg, &r);
}

/* The sandbox is there. */
static void use_sandbox(struct spawn *p, struct str head, struct str body, const struct sandbox_doc *doc)
{
	struct spawn_shared *s = p->shared;
	struct spawn_result r = {.status = 201, .head = head, .body = body, .doc = *doc};

	memcpy(p->id, doc->id, sizeof(p->id));
	if (!r.doc.owner[0])
		snprintf(r.doc.owner, sizeof(r.doc.owner), "%s", p->caller.user_id);
	ownership_learn_doc(s->ownership, p->caller.upstream, &r.doc);
	if (p->on_done) {
		/* Whoever waits calls spawn_taken or spawn_leave from within. */
		p->on_done(p->arg, &r);
		return;
	}
	spawn_leave(p);
}

static void on_found(struct spawn_search *search, const struct sandbox_doc *doc, struct str json)
{
	struct spawn *p = CONTAINER_OF(search, struct spawn, search);
	struct buf body = BUF_EMPTY;

	log_info("upstream %s: sandbox %s of a spawn whose answer was lost is there", upstream_name(p->caller.upstream),
		 doc->id);
	if (p->on_done)
		p->shared->counters.found++;
	buf_add_str(&body, json);
	buf_add_char(&body, '\n');
	use_sandbox(p, STR(SPAWN_CREATED_HEAD), body.failed ? json : buf_str(&body), doc);
	buf_fini(&body);
}

/* --- what ends a state ------------------------------------------------------------------------------------------------------ */

static void bury(struct spawn *p)
{
	struct spawn_shared *s = p->shared;

	s->counters.lost += p->state == SPAWN_WATCHED;
	forget_key(p);
	if (s->tombstones >= SPAWN_TOMBSTONES_MAX) {
		LIST_FOREACH (n, &s->spawns) {
			struct spawn *oldest = CONTAINER_OF(n, struct spawn, link);
			if (oldest->state != SPAWN_TOMBSTONE)
				continue;
			finish(oldest);
			break;
		}
	}
	move(p, SPAWN_TOMBSTONE);
	p->keep = false;
	p->until_wall_ms = p->sent_wall_ms + SPAWN_TOMBSTONE_MS;
	set_timer_until(p, p->until_wall_ms, SPAWN_TOMBSTONE_MS);
	write_record(p);
	spawn_search_hurry(&p->search);
}

/* Nobody waits: it is looked for until then. */
static void watch_on(struct spawn *p)
{
	set_timer_until(p, p->until_wall_ms, timeout_of(p->caller.upstream) + SPAWN_WATCH_MS);
}

static void watch(struct spawn *p)
{
	move(p, SPAWN_WATCHED);
	p->until_wall_ms = p->sent_wall_ms + (int64_t)timeout_of(p->caller.upstream) + SPAWN_WATCH_MS;
	write_record(p);
	spawn_search_hurry(&p->search);
	if (p->on_done) {
		uint64_t now = clock_ms();
		set_timer(p, p->deadline_ms > now ? p->deadline_ms - now : 0);
	} else {
		watch_on(p);
	}
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct spawn *p = arg;

	(void)fd;
	(void)what;
	switch (p->state) {
	case SPAWN_WAITING:
		end_for_nothing(p, 503, "the spawn did not have its turn in time: too many are waiting");
		return;
	case SPAWN_WATCHED:
		if (p->on_done) {
			/* Before the client is told: another may take it over from within. */
			watch_on(p);
			tell_failure(p, 504,
				     p->keep ? "did not answer the spawn, and no list shows its sandbox; should it "
					       "appear, it is kept for a while for a retry with the same key"
					     : "did not answer the spawn, and no list shows its sandbox; should it "
					       "appear, it is destroyed");
			return;
		}
		log_warn("upstream %s: a spawn whose answer was lost made no sandbox that a list shows (token %s)",
			 upstream_name(p->caller.upstream), p->token);
		bury(p);
		return;
	case SPAWN_KEPT:
		forget_key(p);
		begin_destroying(p);
		return;
	case SPAWN_TOMBSTONE:
		finish(p);
		return;
	case SPAWN_SENT:
	case SPAWN_DESTROYING:
		set_timer(p, NO_END_MS);
		return;
	case SPAWN_ENDED:
	case SPAWN_STATES:
		return;
	}
}

static void on_destroyed(void *arg, bool gone, const char *why)
{
	struct spawn *p = arg;

	p->destroy = NULL;
	if (gone) {
		log_info("upstream %s: sandbox %s, which nobody waits for, is destroyed (id=%s)",
			 upstream_name(p->caller.upstream), p->id, p->caller.request_id ? p->caller.request_id : "");
		ownership_gone(p->shared->ownership, p->caller.upstream, str_from(p->id));
		p->shared->counters.destroyed++;
		finish(p);
		return;
	}
	log_warn("upstream %s: sandbox %s, which nobody waits for, cannot be destroyed: %s",
		 upstream_name(p->caller.upstream), p->id, why);
	bury(p);
}

static void begin_destroying(struct spawn *p)
{
	const struct destroy_case c = {
		.caller = p->caller,
		.id = p->id,
		.span_ms = DESTROY_SPAN_MS,
		.on_done = on_destroyed,
		.arg = p,
	};

	move(p, SPAWN_DESTROYING);
	p->keep = false;
	write_record(p);
	if (destroy_start(p->shared->loop, &c, &p->destroy))
		bury(p);
}

/* Its client has left, or there never was one: it waits for the retry. */
static void keep(struct spawn *p)
{
	uint64_t ms = p->keep_ms && p->keep_ms < SPAWN_KEPT_MAX_MS ? p->keep_ms : SPAWN_KEPT_MAX_MS;

	if (p->state != SPAWN_KEPT) {
		move(p, SPAWN_KEPT);
		p->until_wall_ms = clock_wall_ms() + (int64_t)ms;
	}
	fetch_cancel(p->fetch);
	p->fetch = NULL;
	write_record(p);
	set_timer_until(p, p->until_wall_ms, SPAWN_KEPT_MAX_MS);
	if (p->shared->on_kept)
		p->shared->on_kept(p->shared->kept_arg, p->token, p->id);
}

void spawn_leave(struct spawn *p)
{
	bool waited_for = p->on_done != NULL;

	if (p->state == SPAWN_WAITING) {
		finish(p);
		return;
	}
	if (waited_for) {
		p->shared->counters.adopted++;
		detach(p);
		log_info("upstream %s: the client of a spawn has left (id=%s): its sandbox will be %s",
			 upstream_name(p->caller.upstream), p->caller.request_id ? p->caller.request_id : "",
			 p->keep ? "kept for a retry" : "destroyed");
	}
	if (p->id[0] && p->keep)
		keep(p);
	else if (p->id[0] && p->state != SPAWN_DESTROYING)
		begin_destroying(p);
	else if (p->state == SPAWN_WATCHED)
		watch_on(p);
}

void spawn_taken(struct spawn *p)
{
	finish(p);
}

/* --- sending ----------------------------------------------------------------------------------------------------------------- */

/* An answer without a sandbox. */
static void pass_answer(struct spawn *p, const struct fetch_answer *a)
{
	const struct spawn_result r = {.status = a->status, .head = a->head, .body = a->body};
	void (*on_done)(void *arg, const struct spawn_result *r) = p->on_done;
	void *arg = p->arg;

	p->shared->counters.nothing += on_done == NULL;
	forget_key(p);
	finish(p);
	if (on_done)
		on_done(arg, &r);
}

static void lose_answer(struct spawn *p, const struct fetch_answer *a)
{
	log_warn("upstream %s: the answer to a spawn was lost (%s, id=%s): looking for its sandbox",
		 upstream_name(p->caller.upstream), a->why && a->why[0] ? a->why : "it cannot be read",
		 p->caller.request_id ? p->caller.request_id : "");
	watch(p);
}

static void on_answer(void *arg, const struct fetch_answer *a)
{
	struct spawn *p = arg;
	struct sandbox_doc doc;

	p->fetch = NULL;
	if (a->sent) {
		p->sent_wall_ms = clock_wall_ms() - (int64_t)(clock_ms() - a->sent_at_ms);
		p->deadline_ms = a->sent_at_ms + timeout_of(p->caller.upstream);
	}
	if (a->end == FETCH_DONE && a->status != 201) {
		pass_answer(p, a);
	} else if (a->end == FETCH_DONE && sandbox_doc_parse(a->body, &doc) == 0) {
		use_sandbox(p, a->head, a->body, &doc);
	} else if (a->sent) {
		lose_answer(p, a);
	} else {
		end_for_nothing(p, fetch_end_status(a->end), a->why);
	}
}

static void on_turn(struct spawn_turn *t)
{
	struct spawn *p = CONTAINER_OF(t, struct spawn, turn);
	const struct fetch_request request = {
		.caller = p->caller,
		.method = "POST",
		.target = STR("/api/v1/sandboxes"),
		.lines = buf_str(&p->lines),
		.body = buf_str(&p->body),
		.wait = UPSTREAM_WAIT_SPAWN,
		.max_bytes = ANSWER_MAX_BYTES,
		.keep_head = true,
		.on_done = on_answer,
		.arg = p,
	};

	move(p, SPAWN_SENT);
	p->sent_wall_ms = clock_wall_ms();
	p->deadline_ms = clock_ms() + timeout_of(p->caller.upstream);
	p->until_wall_ms = p->sent_wall_ms + (int64_t)timeout_of(p->caller.upstream) + SPAWN_WATCH_MS;
	/* All that looking for it may need is there before it is sent. */
	if (spawn_search_join(&p->shared->searches, &p->search, &p->caller) || write_record(p) == -ENOMEM ||
	    fetch_start(p->shared->loop, &request, &p->fetch)) {
		end_for_nothing(p, 503, "out of memory");
		return;
	}
	p->shared->counters.sent++;
	buf_fini(&p->lines);
	buf_fini(&p->body);
}

/* Without list or counts. */
static struct spawn *spawn_new(struct spawn_shared *s, const struct fetch_caller *caller, const char *credential)
{
	struct spawn *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->shared = s;
	list_init(&p->link);
	spawn_turn_init(&p->turn, on_turn);
	spawn_search_init(&p->search, p->token, on_found);
	p->credential = credential ? strdup(credential) : NULL;
	p->timer = evtimer_new(loop_base(s->loop), on_timer, p);
	if (fetch_caller_copy(&p->caller, caller) == 0 && (p->credential || !credential) && p->timer &&
	    set_timer(p, NO_END_MS) == 0) {
		list_add_tail(&s->spawns, &p->link);
		return p;
	}
	spawn_free(p);
	return NULL;
}

static size_t watched_of(const struct spawn_shared *s, const char *user_id)
{
	size_t n = 0;

	LIST_FOREACH (node, &s->spawns) {
		const struct spawn *p = CONTAINER_OF(node, struct spawn, link);
		n += p->state == SPAWN_WATCHED && strcmp(p->caller.user_id, user_id) == 0;
	}
	return n;
}

int spawn_start(struct spawn_shared *s, const struct spawn_ask *ask, struct spawn **out)
{
	struct spawn_lane *lane = spawn_lane_find(&s->lanes, ask->caller.upstream);
	struct spawn *p;
	int rc;

	if (watched_of(s, ask->caller.user_id) >= SPAWN_WATCHED_PER_OWNER_MAX)
		return -EAGAIN;
	p = lane ? spawn_new(s, &ask->caller, ask->credential) : NULL;
	if (!p)
		return -ENOMEM;
	memcpy(p->token, ask->token, sizeof(p->token));
	p->keep = ask->keep;
	p->keep_ms = ask->keep_ms;
	buf_add_str(&p->lines, ask->lines);
	buf_add_str(&p->body, ask->body);
	rc = p->lines.failed || p->body.failed ? -ENOMEM : spawn_lane_ask(lane, &p->turn, ask->caller.user_id);
	if (rc) {
		spawn_free(p);
		return rc;
	}
	p->lane = lane;
	p->limits = ask->limits;
	p->on_done = ask->on_done;
	p->arg = ask->arg;
	p->deadline_ms = clock_ms() + timeout_of(ask->caller.upstream);
	set_timer(p, timeout_of(ask->caller.upstream));
	*out = p;
	return 0;
}

/* --- retries ------------------------------------------------------------------------------------------------------------------ */

static struct spawn *find_token(const struct spawn_shared *s, const char *token)
{
	LIST_FOREACH (n, &s->spawns) {
		struct spawn *p = CONTAINER_OF(n, struct spawn, link);
		if (strcmp(p->token, token) == 0)
			return p;
	}
	return NULL;
}

bool spawn_is_known(const struct spawn_shared *s, const char *token)
{
	const struct spawn *p = find_token(s, token);

	return p && p->state != SPAWN_TOMBSTONE && p->state != SPAWN_DESTROYING;
}

static void on_looked_again(void *arg, const struct fetch_answer *a)
{
	struct spawn *p = arg;
	struct sandbox_doc doc;

	p->fetch = NULL;
	if (a->end == FETCH_DONE && a->status == 200 && sandbox_doc_parse(a->body, &doc) == 0 &&
	    strcmp(doc.id, p->id) == 0) {
		use_sandbox(p, STR(SPAWN_CREATED_HEAD), a->body, &doc);
	} else if (a->end == FETCH_DONE && a->status == 404) {
		end_for_nothing(p, 409, "the sandbox that this Idempotency-Key made is gone");
	} else {
		/* Before the client is told: another may take it over from within. */
		keep(p);
		tell_failure(p, a->end == FETCH_DONE ? 502 : fetch_end_status(a->end),
			     "did not show the sandbox that this Idempotency-Key made");
	}
}

/* The record as it is now is what the client gets. */
static int look_again(struct spawn *p)
{
	char target[SANDBOX_DOC_TARGET_MAX_BYTES + 1];
	const struct fetch_request request = {
		.caller = p->caller,
		.method = "GET",
		.target = sandbox_doc_target(target, p->id, ""),
		.max_bytes = ANSWER_MAX_BYTES,
		.on_done = on_looked_again,
		.arg = p,
	};

	set_timer(p, NO_END_MS);
	if (fetch_start(p->shared->loop, &request, &p->fetch) == 0)
		return 0;
	detach(p);
	keep(p);
	return -ENOMEM;
}

int spawn_rejoin(struct spawn_shared *s, const char *token, void (*on_done)(void *arg, const struct spawn_result *r),
		 void *arg, struct spawn **out)
{
	struct spawn *p = find_token(s, token);
	bool was;

	if (!p || p->on_done || (p->state != SPAWN_SENT && p->state != SPAWN_WATCHED && p->state != SPAWN_KEPT))
		return -ENOENT;
	was = is_unclaimed(p->state, false);
	p->on_done = on_done;
	p->arg = arg;
	count(p, was);
	*out = p;
	p->deadline_ms = clock_ms() + timeout_of(p->caller.upstream);
	if (p->state == SPAWN_KEPT)
		return look_again(p);
	if (p->state == SPAWN_WATCHED) {
		spawn_search_hurry(&p->search);
		set_timer(p, timeout_of(p->caller.upstream));
	}
	return 0;
}

/* --- all of them ------------------------------------------------------------------------------------------------------------- */

void spawn_shared_init(struct spawn_shared *s, struct loop *loop, struct limiter *limiter, struct ownership *ownership)
{
	memset(s, 0, sizeof(*s));
	s->loop = loop;
	s->limiter = limiter;
	s->ownership = ownership;
	spawn_lanes_init(&s->lanes, loop);
	spawn_searches_init(&s->searches, loop);
	list_init(&s->spawns);
	list_init(&s->recalled);
}

static void recalled_free(struct recalled *r)
{
	list_remove(&r->link);
	free(r->value);
	free(r);
}

void spawn_shared_fini(struct spawn_shared *s)
{
	s->on_quiet = NULL;
	LIST_FOREACH_SAFE (n, &s->spawns)
		spawn_free(CONTAINER_OF(n, struct spawn, link));
	spawn_searches_fini(&s->searches);
	spawn_lanes_fini(&s->lanes);
	LIST_FOREACH_SAFE (n, &s->recalled)
		recalled_free(CONTAINER_OF(n, struct recalled, link));
}

static struct spawn *find_gone_with_local(const struct spawn_shared *s)
{
	LIST_FOREACH (n, &s->spawns) {
		struct spawn *p = CONTAINER_OF(n, struct spawn, link);
		if (upstream_config(p->caller.upstream)->scheme == CONFIG_LOCAL &&
		    (p->state == SPAWN_WATCHED || p->state == SPAWN_TOMBSTONE || p->state == SPAWN_KEPT))
			return p;
	}
	return NULL;
}

void spawn_local_restarted(struct spawn_shared *s)
{
	struct spawn *p;

	/* From the start each time: whoever is told may start and leave others. */
	while ((p = find_gone_with_local(s)))
		end_for_nothing(p, 502, "the embedded server was started anew while it made the sandbox");
}

void spawn_abandon(struct spawn_shared *s)
{
	bool was_busy = s->busy != 0;

	if (s->abandoned)
		return;
	s->abandoned = true;
	if (s->unclaimed)
		log_warn("%zu spawns that nobody waits for are left to the next start", s->unclaimed);
	LIST_FOREACH (n, &s->spawns)
		CONTAINER_OF(n, struct spawn, link)->counted_busy = false;
	s->busy = 0;
	if (was_busy && s->on_quiet)
		s->on_quiet(s->arg);
}

/* --- after a restart ---------------------------------------------------------------------------------------------------------- */

void spawn_recall(struct spawn_shared *s, struct str key, struct str value)
{
	struct str token = str_of(key.p + sizeof(SPAWN_JOURNAL_PREFIX) - 1, key.n - (sizeof(SPAWN_JOURNAL_PREFIX) - 1));
	struct recalled *r = calloc(1, sizeof(*r));

	if (!r)
		return;
	list_init(&r->link);
	r->value = str_dup(value);
	if (!r->value || token.n != SPAWN_TOKEN_BYTES) {
		recalled_free(r);
		return;
	}
	memcpy(r->token, token.p, token.n);
	list_add_tail(&s->recalled, &r->link);
}

/* One that was to be destroyed is looked for, which finds it again. */
static enum spawn_state state_of(const char *name, const char *id)
{
	if (strcmp(name, state_names[SPAWN_TOMBSTONE]) == 0)
		return SPAWN_TOMBSTONE;
	return id[0] && strcmp(name, state_names[SPAWN_KEPT]) == 0 ? SPAWN_KEPT : SPAWN_WATCHED;
}

/* What is watched counts as his until it is known to have come to nothing. */
static void take_limits(struct spawn *p)
{
	static const struct config_limits none;
	struct limiter_refusal why;

	struct limiter_owner *o = limiter_owner_ref(p->shared->limiter, p->caller.user_id, clock_ns());

	if (!o)
		return;
	if (limiter_spawn_take(o, &none, 0, &why))
		p->limits = o;
	limiter_owner_unref(o, clock_ns());
}

static void leave_without_memory(const char *token)
{
	log_warn("out of memory: a spawn of before the start (token %s) is left to the next one", token);
}

static void take_up(struct spawn_shared *s, const char *token, const struct spawn_record *r,
		    const struct fetch_caller *caller)
{
	struct spawn *p = spawn_new(s, caller, r->credential);
	enum spawn_state state;

	if (!p || spawn_search_join(&p->shared->searches, &p->search, &p->caller)) {
		if (p)
			spawn_free(p);
		leave_without_memory(token);
		return;
	}
	memcpy(p->token, token, sizeof(p->token));
	p->sent_wall_ms = r->sent_wall_ms;
	p->until_wall_ms = r->until_wall_ms;
	p->keep = r->keep;
	p->keep_ms = r->keep_ms;
	memcpy(p->id, r->id, strlen(r->id) + 1);
	state = state_of(r->state, p->id);
	s->counters.restored++;
	if (state == SPAWN_WATCHED)
		take_limits(p);
	move(p, state);
	if (state == SPAWN_KEPT) {
		keep(p);
		return;
	}
	p->id[0] = '\0';
	if (state == SPAWN_WATCHED)
		watch_on(p);
	else
		set_timer_until(p, p->until_wall_ms, SPAWN_TOMBSTONE_MS);
	spawn_search_hurry(&p->search);
}

/* Upstream or credential may be configured again; but not for ever. */
static void leave_record(struct spawn_shared *s, const char *token, const struct spawn_record *r)
{
	log_warn("a spawn of before the start (token %s) cannot be looked for: its upstream or credential is no longer "
		 "configured",
		 token);
	if (clock_wall_ms() - r->sent_wall_ms > SPAWN_TOMBSTONE_MS)
		drop_record(s, token);
}

void spawn_restore(struct spawn_shared *s, const struct snapshot *snapshot)
{
	LIST_FOREACH_SAFE (n, &s->recalled) {
		struct recalled *r = CONTAINER_OF(n, struct recalled, link);
		struct spawn_record record;
		int rc = spawn_record_read(str_from(r->value), &record);
		struct fetch_caller caller = {.user_id = record.user_id};

		if (rc == -ENOMEM)
			leave_without_memory(r->token);
		else if (rc == 0 && snapshot_find(snapshot, record.upstream, record.url, record.credential,
						  &caller.upstream, &caller.key))
			take_up(s, r->token, &record, &caller);
		else
			leave_record(s, r->token, &record);
		spawn_record_fini(&record);
		recalled_free(r);
	}
}

/* --- for status --------------------------------------------------------------------------------------------------------------- */

void spawn_write_list(const struct spawn_shared *s, const char *user_id, struct json_writer *w, const char *key)
{
	uint64_t now = clock_ms();
	char until[40];

	json_array_begin(w, key);
	LIST_FOREACH (n, &s->spawns) {
		const struct spawn *p = CONTAINER_OF(n, struct spawn, link);
		if (p->state == SPAWN_TOMBSTONE || (user_id && strcmp(user_id, p->caller.user_id) != 0))
			continue;
		json_object_begin(w, NULL);
		json_cstr(w, "state", state_names[p->state]);
		if (!user_id)
			json_cstr(w, "user_id", p->caller.user_id);
		json_cstr(w, "upstream", upstream_name(p->caller.upstream));
		if (p->id[0])
			json_cstr(w, "sandbox", p->id);
		if (p->state == SPAWN_WAITING)
			json_uint(w, "position", spawn_turn_position(&p->turn));
		if (p->on_done && p->deadline_ms > now) {
			clock_format_ms(clock_wall_ns() + (int64_t)(p->deadline_ms - now) * 1000000, until);
			json_cstr(w, "deadline", until);
		}
		json_object_end(w);
	}
	json_array_end(w);
}
