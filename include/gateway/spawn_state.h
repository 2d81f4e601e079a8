/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One spawn and its state machine: what each state holds, counts and keeps in the journal. For the parts of spawn; what leads from
 * one state to the next is theirs.
 */
#ifndef GATEWAY_SPAWN_STATE_H
#define GATEWAY_SPAWN_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/list.h"
#include "common/sm.h"
#include "gateway/fetch.h"
#include "gateway/spawn_shared.h"

struct destroy;
struct event;
struct limiter_owner;

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

/* A timer that is set for no reason; a set one can be set again without memory. */
enum {
	SPAWN_STATE_NO_END_MS = 86400000
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

const struct sm *spawn_state_sm(void);
/* As status and journal call it: "kept". */
const char *spawn_state_name(enum spawn_state state);

/* timeouts.spawn of its upstream, or the default. */
uint64_t spawn_state_timeout_ms(const struct spawn *p);

/* Always set from birth on: setting it anew needs no memory then. 0, or -1 the first time. */
int spawn_state_set_timer(struct spawn *p, uint64_t ms);
/* Until that wall time, but not longer than `most`: clocks are set back. */
void spawn_state_set_timer_until(struct spawn *p, int64_t until_wall_ms, uint64_t most);

/* Along an edge of the machine: what the new state does not need is given back, its timer has no end. */
void spawn_state_move(struct spawn *p, enum spawn_state to);
/* A client waits for it: on_done, once. */
void spawn_state_attach(struct spawn *p, void (*on_done)(void *arg, const struct spawn_result *r), void *arg);
/* Takes the client off it: he has been told, or has left. */
void spawn_state_detach(struct spawn *p);

/* Writes what it would be taken up from. 0, or as journal_put. */
int spawn_state_write_record(const struct spawn *p);
/* Of the spawn with that token. */
void spawn_state_drop_record(const struct spawn_shared *s, const char *token);

/* Nothing is to be known of it any more: it is freed. */
void spawn_state_finish(struct spawn *p);
/* The same without a word to the journal; also of one that is half built. */
void spawn_state_free(struct spawn *p);

#endif
