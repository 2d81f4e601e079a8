/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/spawn_restore.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "gateway/config.h"
#include "gateway/limiter.h"
#include "gateway/snapshot.h"
#include "gateway/spawn_fate.h"
#include "gateway/spawn_record.h"
#include "gateway/spawn_state.h"

/* A record of the journal, before it is known to which upstream it belongs. */
struct recalled {
	struct list link; /* on spawn_shared.recalled */
	char token[SPAWN_TOKEN_BYTES + 1];
	char *value; /* owned */
};

static void recalled_free(struct recalled *r)
{
	list_remove(&r->link);
	free(r->value);
	free(r);
}

void spawn_restore_recall(struct spawn_shared *s, struct str key, struct str value)
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
	if (strcmp(name, spawn_state_name(SPAWN_TOMBSTONE)) == 0)
		return SPAWN_TOMBSTONE;
	return id[0] && strcmp(name, spawn_state_name(SPAWN_KEPT)) == 0 ? SPAWN_KEPT : SPAWN_WATCHED;
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
	struct spawn *p = spawn_fate_new(s, caller, r->credential);
	enum spawn_state state;

	if (!p || spawn_search_join(&p->shared->searches, &p->search, &p->caller)) {
		if (p)
			spawn_state_free(p);
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
	spawn_state_move(p, state);
	if (state == SPAWN_KEPT) {
		spawn_fate_keep(p);
		return;
	}
	p->id[0] = '\0';
	if (state == SPAWN_WATCHED)
		spawn_fate_watch_on(p);
	else
		spawn_state_set_timer_until(p, p->until_wall_ms, SPAWN_TOMBSTONE_MS);
	spawn_search_hurry(&p->search);
}

/* Upstream or credential may be configured again; but not for ever. */
static void leave_record(struct spawn_shared *s, const char *token, const struct spawn_record *r)
{
	log_warn("a spawn of before the start (token %s) cannot be looked for: its upstream or credential is no longer "
		 "configured",
		 token);
	if (clock_wall_ms() - r->sent_wall_ms > SPAWN_TOMBSTONE_MS)
		spawn_state_drop_record(s, token);
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

void spawn_restore_fini(struct spawn_shared *s)
{
	LIST_FOREACH_SAFE (n, &s->recalled)
		recalled_free(CONTAINER_OF(n, struct recalled, link));
}
