/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Turns for spawns at one server, which runs them one at a time: few are there at once, and the owner who has used least of the
 * server's time is next; nobody has more than half of the turns at a time. Knows no server and no clock.
 */
#ifndef GATEWAY_SPAWN_QUEUE_H
#define GATEWAY_SPAWN_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/list.h"

struct spawn_turns_owner;

struct spawn_turns {
	struct list
		owners; /* struct spawn_turns_owner: who waits, runs, or has used time lately; whose turn was last stands last */
	size_t waiting; /* turns in all */
	size_t running;
	size_t max_running;
	size_t max_waiting;
	uint64_t least_ms; /* time used by the last one whose turn it was: who comes anew begins there */
	uint64_t served;   /* turns given */
};

/* Embedded in who waits for its turn or has it. */
struct spawn_turn {
	struct list link;                /* on its owner's list while waiting */
	struct spawn_turns *turns;       /* borrowed; NULL: it neither waits nor runs */
	struct spawn_turns_owner *owner; /* borrowed */
	bool running;
	uint64_t began_ms; /* running: when */
	void (*on_turn)(struct spawn_turn *t);
};

void spawn_turns_init(struct spawn_turns *q, size_t max_running, size_t max_waiting);
/* Nobody waits or runs any more. */
void spawn_turns_fini(struct spawn_turns *q);

/* Makes it one that neither waits nor runs. */
void spawn_turn_init(struct spawn_turn *t, void (*on_turn)(struct spawn_turn *t));

/*
 * Asks for a turn; on_turn follows from spawn_turns_run. 0; -EBUSY when the queue is full or holds more than a quarter of its
 * places for this owner; -ENOMEM.
 */
MUST_CHECK int spawn_turn_ask(struct spawn_turns *q, struct spawn_turn *t, const char *owner);
/* Gives it back, or waits no longer; harmless in any state. spawn_turns_run is to follow. */
void spawn_turn_end(struct spawn_turn *t, uint64_t now_ms);
/* Gives free turns to those who wait: calls their on_turn, which may ask and end. */
void spawn_turns_run(struct spawn_turns *q, uint64_t now_ms);

/* Nobody waits or runs. */
bool spawn_turns_are_idle(const struct spawn_turns *q);

/* How many may have their turn before it, as things stand; 0: it is next, or has it. */
size_t spawn_turn_position(const struct spawn_turn *t);

#endif
