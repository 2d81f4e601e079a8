/* SPDX-License-Identifier: Apache-2.0 */
/*
 * on_turn sends it; on_answer knows what came of it, or that the answer was lost. The states are spawn_state's, and where they lead
 * spawn_fate's. A retry finds its spawn by the token.
 */
#include "gateway/spawn.h"

#include <errno.h>
#include <string.h>

#include "common/clock.h"
#include "common/json_write.h"
#include "common/log.h"
#include "common/loop.h"
#include "gateway/config.h"
#include "gateway/request_id.h"
#include "gateway/spawn_fate.h"
#include "gateway/spawn_restore.h"
#include "gateway/spawn_state.h"
#include "gateway/upstream.h"

enum {
	ANSWER_MAX_BYTES = 65536
};

void spawn_token_make(char out[SPAWN_TOKEN_BYTES + 1])
{
	char id[REQUEST_ID_MAX_BYTES + 1];

	request_id_make(id);
	memcpy(out, id, SPAWN_TOKEN_BYTES);
	out[SPAWN_TOKEN_BYTES] = '\0';
}

/* --- sending ----------------------------------------------------------------------------------------------------------------- */

/* An answer without a sandbox. */
static void pass_answer(struct spawn *p, const struct fetch_answer *a)
{
	const struct spawn_result r = {.status = a->status, .head = a->head, .body = a->body};

	p->shared->counters.nothing += p->on_done == NULL;
	spawn_fate_end(p, &r);
}

static void lose_answer(struct spawn *p, const struct fetch_answer *a)
{
	log_warn("upstream %s: the answer to a spawn was lost (%s, id=%s): looking for its sandbox",
		 upstream_name(p->caller.upstream), a->why && a->why[0] ? a->why : "it cannot be read",
		 p->caller.request_id ? p->caller.request_id : "");
	spawn_fate_watch(p);
}

static void on_answer(void *arg, const struct fetch_answer *a)
{
	struct spawn *p = arg;
	struct sandbox_doc doc;

	p->fetch = NULL;
	if (a->sent) {
		p->sent_wall_ms = clock_wall_ms() - (int64_t)(clock_ms() - a->sent_at_ms);
		p->deadline_ms = a->sent_at_ms + spawn_state_timeout_ms(p);
	}
	if (a->end == FETCH_DONE && a->status != 201) {
		pass_answer(p, a);
	} else if (a->end == FETCH_DONE && sandbox_doc_parse(a->body, &doc) == 0) {
		spawn_fate_use(p, a->head, a->body, &doc);
	} else if (a->sent) {
		lose_answer(p, a);
	} else {
		spawn_fate_fail(p, fetch_end_status(a->end), a->why);
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

	spawn_state_move(p, SPAWN_SENT);
	p->sent_wall_ms = clock_wall_ms();
	p->deadline_ms = clock_ms() + spawn_state_timeout_ms(p);
	p->until_wall_ms = p->sent_wall_ms + (int64_t)spawn_state_timeout_ms(p) + SPAWN_WATCH_MS;
	/* All that looking for it may need is there before it is sent. */
	if (spawn_search_join(&p->shared->searches, &p->search, &p->caller) || spawn_state_write_record(p) == -ENOMEM ||
	    fetch_start(p->shared->loop, &request, &p->fetch)) {
		spawn_fate_fail(p, 503, "out of memory");
		return;
	}
	p->shared->counters.sent++;
	buf_fini(&p->lines);
	buf_fini(&p->body);
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
	p = lane ? spawn_fate_new(s, &ask->caller, ask->credential) : NULL;
	if (!p)
		return -ENOMEM;
	spawn_turn_init(&p->turn, on_turn);
	memcpy(p->token, ask->token, sizeof(p->token));
	p->keep = ask->keep;
	p->keep_ms = ask->keep_ms;
	buf_add_str(&p->lines, ask->lines);
	buf_add_str(&p->body, ask->body);
	rc = p->lines.failed || p->body.failed ? -ENOMEM : spawn_lane_ask(lane, &p->turn, ask->caller.user_id);
	if (rc) {
		spawn_state_free(p);
		return rc;
	}
	p->lane = lane;
	p->limits = ask->limits;
	spawn_state_attach(p, ask->on_done, ask->arg);
	p->deadline_ms = clock_ms() + spawn_state_timeout_ms(p);
	spawn_state_set_timer(p, spawn_state_timeout_ms(p));
	*out = p;
	return 0;
}

void spawn_leave(struct spawn *p)
{
	spawn_fate_leave(p);
}

void spawn_taken(struct spawn *p)
{
	spawn_state_finish(p);
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
		spawn_fate_use(p, STR(SPAWN_CREATED_HEAD), a->body, &doc);
	} else if (a->end == FETCH_DONE && a->status == 404) {
		spawn_fate_fail(p, 409, "the sandbox that this Idempotency-Key made is gone");
	} else {
		/* Before the client is told: another may take it over from within. */
		spawn_fate_keep(p);
		spawn_fate_tell(p, a->end == FETCH_DONE ? 502 : fetch_end_status(a->end),
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

	spawn_state_set_timer(p, SPAWN_STATE_NO_END_MS);
	if (fetch_start(p->shared->loop, &request, &p->fetch) == 0)
		return 0;
	spawn_state_detach(p);
	spawn_fate_keep(p);
	return -ENOMEM;
}

int spawn_rejoin(struct spawn_shared *s, const char *token, void (*on_done)(void *arg, const struct spawn_result *r),
		 void *arg, struct spawn **out)
{
	struct spawn *p = find_token(s, token);

	if (!p || p->on_done || (p->state != SPAWN_SENT && p->state != SPAWN_WATCHED && p->state != SPAWN_KEPT))
		return -ENOENT;
	spawn_state_attach(p, on_done, arg);
	*out = p;
	p->deadline_ms = clock_ms() + spawn_state_timeout_ms(p);
	if (p->state == SPAWN_KEPT)
		return look_again(p);
	if (p->state == SPAWN_WATCHED) {
		spawn_search_hurry(&p->search);
		spawn_state_set_timer(p, spawn_state_timeout_ms(p));
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

void spawn_shared_fini(struct spawn_shared *s)
{
	s->on_quiet = NULL;
	LIST_FOREACH_SAFE (n, &s->spawns)
		spawn_state_free(CONTAINER_OF(n, struct spawn, link));
	spawn_searches_fini(&s->searches);
	spawn_lanes_fini(&s->lanes);
	spawn_restore_fini(s);
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
		spawn_fate_fail(p, 502, "the embedded server was started anew while it made the sandbox");
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
		json_cstr(w, "state", spawn_state_name(p->state));
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
