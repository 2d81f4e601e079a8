/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/spawn_fate.h"

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/loop.h"
#include "gateway/destroy.h"
#include "gateway/ownership.h"
#include "gateway/spawn_state.h"
#include "gateway/upstream.h"

enum {
	DESTROY_SPAN_MS = 600000
};

static void begin_destroying(struct spawn *p);

/* --- telling ---------------------------------------------------------------------------------------------------------------- */

/* Whoever has its Idempotency-Key and does not wait has nothing to come back to. */
static void forget_key(const struct spawn *p)
{
	struct spawn_shared *s = p->shared;

	if (p->keep && !p->on_done && s->on_kept)
		s->on_kept(s->kept_arg, p->token, "");
}

void spawn_fate_tell(struct spawn *p, unsigned status, const char *why)
{
	const struct spawn_result r = {.fail_status = status, .why = why};
	void (*on_done)(void *arg, const struct spawn_result *r) = p->on_done;
	void *arg = p->arg;

	if (!on_done)
		return;
	spawn_state_detach(p);
	on_done(arg, &r);
}

void spawn_fate_end(struct spawn *p, const struct spawn_result *r)
{
	void (*on_done)(void *arg, const struct spawn_result *r) = p->on_done;
	void *arg = p->arg;

	forget_key(p);
	spawn_state_finish(p);
	if (on_done)
		on_done(arg, r);
}

void spawn_fate_fail(struct spawn *p, unsigned status, const char *why)
{
	const struct spawn_result r = {.fail_status = status, .why = why};

	spawn_fate_end(p, &r);
}

void spawn_fate_use(struct spawn *p, struct str head, struct str body, const struct sandbox_doc *doc)
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
	spawn_fate_leave(p);
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
	spawn_fate_use(p, STR(SPAWN_CREATED_HEAD), body.failed ? json : buf_str(&body), doc);
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
			spawn_state_finish(oldest);
			break;
		}
	}
	spawn_state_move(p, SPAWN_TOMBSTONE);
	p->keep = false;
	p->until_wall_ms = p->sent_wall_ms + SPAWN_TOMBSTONE_MS;
	spawn_state_set_timer_until(p, p->until_wall_ms, SPAWN_TOMBSTONE_MS);
	spawn_state_write_record(p);
	spawn_search_hurry(&p->search);
}

void spawn_fate_watch_on(struct spawn *p)
{
	spawn_state_set_timer_until(p, p->until_wall_ms, spawn_state_timeout_ms(p) + SPAWN_WATCH_MS);
}

void spawn_fate_watch(struct spawn *p)
{
	spawn_state_move(p, SPAWN_WATCHED);
	p->until_wall_ms = p->sent_wall_ms + (int64_t)spawn_state_timeout_ms(p) + SPAWN_WATCH_MS;
	spawn_state_write_record(p);
	spawn_search_hurry(&p->search);
	if (p->on_done) {
		uint64_t now = clock_ms();
		spawn_state_set_timer(p, p->deadline_ms > now ? p->deadline_ms - now : 0);
	} else {
		spawn_fate_watch_on(p);
	}
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct spawn *p = arg;

	(void)fd;
	(void)what;
	switch (p->state) {
	case SPAWN_WAITING:
		spawn_fate_fail(p, 503, "the spawn did not have its turn in time: too many are waiting");
		return;
	case SPAWN_WATCHED:
		if (p->on_done) {
			/* Before the client is told: another may take it over from within. */
			spawn_fate_watch_on(p);
			spawn_fate_tell(p, 504,
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
		spawn_state_finish(p);
		return;
	case SPAWN_SENT:
	case SPAWN_DESTROYING:
		spawn_state_set_timer(p, SPAWN_STATE_NO_END_MS);
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
		spawn_state_finish(p);
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

	spawn_state_move(p, SPAWN_DESTROYING);
	p->keep = false;
	spawn_state_write_record(p);
	if (destroy_start(p->shared->loop, &c, &p->destroy))
		bury(p);
}

void spawn_fate_keep(struct spawn *p)
{
	uint64_t ms = p->keep_ms && p->keep_ms < SPAWN_KEPT_MAX_MS ? p->keep_ms : SPAWN_KEPT_MAX_MS;

	if (p->state != SPAWN_KEPT) {
		spawn_state_move(p, SPAWN_KEPT);
		p->until_wall_ms = clock_wall_ms() + (int64_t)ms;
	}
	fetch_cancel(p->fetch);
	p->fetch = NULL;
	spawn_state_write_record(p);
	spawn_state_set_timer_until(p, p->until_wall_ms, SPAWN_KEPT_MAX_MS);
	if (p->shared->on_kept)
		p->shared->on_kept(p->shared->kept_arg, p->token, p->id);
}

void spawn_fate_leave(struct spawn *p)
{
	bool waited_for = p->on_done != NULL;

	if (p->state == SPAWN_WAITING) {
		spawn_state_finish(p);
		return;
	}
	if (waited_for) {
		p->shared->counters.adopted++;
		spawn_state_detach(p);
		log_info("upstream %s: the client of a spawn has left (id=%s): its sandbox will be %s",
			 upstream_name(p->caller.upstream), p->caller.request_id ? p->caller.request_id : "",
			 p->keep ? "kept for a retry" : "destroyed");
	}
	if (p->id[0] && p->keep)
		spawn_fate_keep(p);
	else if (p->id[0] && p->state != SPAWN_DESTROYING)
		begin_destroying(p);
	else if (p->state == SPAWN_WATCHED)
		spawn_fate_watch_on(p);
}

/* --- life ------------------------------------------------------------------------------------------------------------------- */

struct spawn *spawn_fate_new(struct spawn_shared *s, const struct fetch_caller *caller, const char *credential)
{
	struct spawn *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->shared = s;
	list_init(&p->link);
	spawn_search_init(&p->search, p->token, on_found);
	p->credential = credential ? strdup(credential) : NULL;
	p->timer = evtimer_new(loop_base(s->loop), on_timer, p);
	if (fetch_caller_copy(&p->caller, caller) == 0 && (p->credential || !credential) && p->timer &&
	    spawn_state_set_timer(p, SPAWN_STATE_NO_END_MS) == 0) {
		list_add_tail(&s->spawns, &p->link);
		return p;
	}
	spawn_state_free(p);
	return NULL;
}
