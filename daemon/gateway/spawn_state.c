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
#include "gateway/spawn_state.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/log.h"
#include "gateway/config.h"
#include "gateway/destroy.h"
#include "gateway/journal.h"
#include "gateway/limiter.h"
#include "gateway/spawn_record.h"
#include "gateway/upstream.h"

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
	JOURNAL_KEY_BYTES = sizeof(SPAWN_JOURNAL_PREFIX) + SPAWN_TOKEN_BYTES,
	TIMEOUT_DEFAULT_MS = 300000, /* where timeouts.spawn sets none */
};

const struct sm *spawn_state_sm(void)
{
	return &sm;
}

const char *spawn_state_name(enum spawn_state state)
{
	return state_names[state];
}

uint64_t spawn_state_timeout_ms(const struct spawn *p)
{
	uint64_t ms = upstream_config(p->caller.upstream)->timeouts.spawn_ms;

	return ms ? ms : TIMEOUT_DEFAULT_MS;
}

/* --- the journal -------------------------------------------------------------------------------------------------------- */

static void journal_key(const char *token, char out[JOURNAL_KEY_BYTES])
{
	snprintf(out, JOURNAL_KEY_BYTES, SPAWN_JOURNAL_PREFIX "%s", token);
}

int spawn_state_write_record(const struct spawn *p)
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

void spawn_state_drop_record(const struct spawn_shared *s, const char *token)
{
	char key[JOURNAL_KEY_BYTES];

	if (!s->journal)
		return;
	journal_key(token, key);
	if (journal_drop(s->journal, str_from(key)))
		log_debug("spawn %s: its record could not be dropped", token);
}

/* --- life ------------------------------------------------------------------------------------------------------------------ */

int spawn_state_set_timer(struct spawn *p, uint64_t ms)
{
	struct timeval tv = clock_span(ms);

	return event_add(p->timer, &tv);
}

void spawn_state_set_timer_until(struct spawn *p, int64_t until_wall_ms, uint64_t most)
{
	int64_t left = until_wall_ms - clock_wall_ms();

	spawn_state_set_timer(p, left <= 0 ? 0 : (uint64_t)left < most ? (uint64_t)left : most);
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

void spawn_state_free(struct spawn *p)
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

void spawn_state_finish(struct spawn *p)
{
	if (p->state != SPAWN_WAITING)
		spawn_state_drop_record(p->shared, p->token);
	if (p->state == SPAWN_TOMBSTONE)
		p->shared->tombstones--;
	spawn_state_free(p);
}

static enum spawn_pace pace_of(enum spawn_state state)
{
	if (state == SPAWN_WATCHED)
		return SPAWN_PACE_FAST;
	return state == SPAWN_TOMBSTONE ? SPAWN_PACE_SLOW : SPAWN_PACE_NONE;
}

void spawn_state_move(struct spawn *p, enum spawn_state to)
{
	bool was = is_unclaimed(p->state, p->on_done != NULL);

	if (p->state == SPAWN_TOMBSTONE)
		p->shared->tombstones--;
	p->state = sm_move(&sm, 0, p->state, to);
	p->search.pace = pace_of(to);
	spawn_state_set_timer(p, SPAWN_STATE_NO_END_MS);
	if (to == SPAWN_TOMBSTONE)
		p->shared->tombstones++;
	if (to != SPAWN_SENT)
		give_turn_back(p);
	/* What exists is in the list that is counted; what never came counts for nobody. */
	if (to == SPAWN_KEPT || to == SPAWN_DESTROYING || to == SPAWN_TOMBSTONE)
		give_back_limits(p);
	count(p, was);
}

void spawn_state_attach(struct spawn *p, void (*on_done)(void *arg, const struct spawn_result *r), void *arg)
{
	bool was = is_unclaimed(p->state, p->on_done != NULL);

	p->on_done = on_done;
	p->arg = arg;
	count(p, was);
}

void spawn_state_detach(struct spawn *p)
{
	bool was = is_unclaimed(p->state, p->on_done != NULL);

	p->on_done = NULL;
	count(p, was);
}
