/* SPDX-License-Identifier: Apache-2.0 */
/* The turns at each server that spawns are sent to, as spawn_queue deals them out. */
#ifndef GATEWAY_SPAWN_LANE_H
#define GATEWAY_SPAWN_LANE_H

#include "common/err.h"
#include "common/list.h"
#include "gateway/spawn_queue.h"

struct loop;
struct spawn_lane;
struct upstream;

enum {
	SPAWN_RUNNING_MAX = 4,        /* at one server, which runs them one at a time; half of them for one owner */
	SPAWN_RUNNING_LOCAL_MAX = 16, /* at the embedded server, which does not */
};

/* All of them. */
struct spawn_lanes {
	struct loop *loop; /* borrowed */
	struct list lanes; /* struct spawn_lane */
};

void spawn_lanes_init(struct spawn_lanes *all, struct loop *loop);
/* Nobody waits or has a turn any more. */
void spawn_lanes_fini(struct spawn_lanes *all);

/* That server's, borrowed, for a call of spawn_lane_ask at once: with nobody in it, it may be gone later. NULL without memory. */
struct spawn_lane *spawn_lane_find(struct spawn_lanes *all, const struct upstream *u);

/* Asks for a turn there: on_turn follows after the present turn of the loop. As spawn_turn_ask. */
MUST_CHECK int spawn_lane_ask(struct spawn_lane *lane, struct spawn_turn *t, const char *owner);
/* Gives it back, or waits no longer; who is next has his on_turn after the present turn of the loop. */
void spawn_lane_leave(struct spawn_lane *lane, struct spawn_turn *t);

#endif
